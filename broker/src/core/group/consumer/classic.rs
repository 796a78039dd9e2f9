//! Members of the classic protocol in a consumer group: JoinGroup, SyncGroup and Heartbeat against the group's targets.
//!
//! Such a member is told to rejoin by its heartbeats; a JoinGroup is one step of its reconciliation and a SyncGroup fetches
//! the outcome. Nobody leads and nobody waits. It refuses to know how the group came to have such members.

use super::member::Classic;
use super::{Effects, Group, Member, Place, Places, Progress, Timer};
use crate::api::Caller;
use crate::core::topics::Topics;
use bytes::Bytes;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use ottla_protocol::wire::Str;
use std::collections::BTreeMap;
use std::time::Duration;

/// The protocol type of consumers.
const CONSUMER: &str = "consumer";

impl Group {
    pub(crate) fn join(
        &mut self,
        fx: &mut Effects,
        caller: &Caller,
        request: &JoinGroupRequest,
    ) -> Result<JoinGroupResponse, ErrorCode> {
        let instance_id = request.group_instance_id.as_ref();
        self.check_room(fx, &request.member_id, instance_id).map_err(|refused| refused.code)?;
        let subscription = self.read_subscription(request).ok_or(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)?;
        let is_new = request.member_id.is_empty();
        if is_new && request.group_instance_id.is_none() && caller.version >= 4 {
            let error_code = ErrorCode::MEMBER_ID_REQUIRED;
            let member_id = fx.new_member_id(&caller.client_id);
            return Ok(JoinGroupResponse { error_code, member_id, ..JoinGroupResponse::default() });
        }
        let member_id = match (is_new, &request.group_instance_id) {
            (false, _) => Str::from(&*request.member_id),
            (true, Some(instance_id)) => fx.new_member_id(instance_id),
            (true, None) => fx.new_member_id(&caller.client_id),
        };
        match &request.group_instance_id {
            Some(instance_id) if is_new => self.enter_as_instance(fx, caller, &member_id, instance_id),
            Some(instance_id) => self.check_instance(&member_id, instance_id).map_err(|it| it.code)?,
            None => {
                self.members.entry(member_id.clone()).or_insert_with(|| Member::new(caller));
            }
        }
        let Some(member) = self.members.get_mut(&member_id) else { return Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        let former = std::mem::take(&mut member.topics);
        tell(member, caller, request, &subscription);
        let resubscribed = member.topics != former;
        let owned = places_of(&subscription.owned_partitions, fx.topics);
        self.advance(fx, &member_id, resubscribed, Some(&owned));
        self.expect_sync(fx, &member_id);
        Ok(self.join_answer(&member_id))
    }

    fn join_answer(&self, member_id: &Str) -> JoinGroupResponse {
        let member = self.members.get(member_id);
        let protocol = member.and_then(|member| first_protocol(member)).map(|(name, _)| name.clone());
        JoinGroupResponse {
            generation_id: member.map_or(-1, |member| member.epoch),
            protocol_type: Some(Str::from_static(CONSUMER)),
            protocol_name: Some(protocol.unwrap_or_default()),
            member_id: member_id.clone(),
            ..JoinGroupResponse::default()
        }
    }

    pub(crate) fn sync(
        &mut self,
        fx: &mut Effects,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse, ErrorCode> {
        let instance_id = request.group_instance_id.as_ref();
        let member_id = Str::from(&*request.member_id);
        let (member, classic) = self.classic_member(&member_id, instance_id, request.generation_id)?;
        let (protocol, metadata) = first_protocol(member).cloned().unwrap_or_default();
        let named_other = request.protocol_type.as_deref().is_some_and(|named| named != CONSUMER)
            || request.protocol_name.as_ref().is_some_and(|named| *named != protocol);
        if named_other {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if self.epoch > member.epoch && member.progress != Progress::Revoking {
            self.expect_rejoin(fx, &member_id);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        fx.cancel(&Timer::Resync(self.id.clone(), member_id.clone()));
        fx.set(Timer::Session(self.id.clone(), member_id), classic.session_timeout);
        Ok(SyncGroupResponse {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment: write_share(member.assigned.keys(), &metadata, fx.topics),
            ..SyncGroupResponse::default()
        })
    }

    /// The heartbeat of a classic member: it is told to join again when there is something for it to do.
    pub(crate) fn classic_heartbeat(&mut self, fx: &mut Effects, request: &HeartbeatRequest) -> ErrorCode {
        let instance_id = request.group_instance_id.as_ref();
        let member_id = Str::from(&*request.member_id);
        let (member, classic) = match self.classic_member(&member_id, instance_id, request.generation_id) {
            Ok(found) => found,
            Err(code) => return code,
        };
        fx.set(Timer::Session(self.id.clone(), member_id.clone()), classic.session_timeout);
        let must_join = match member.progress {
            _ if member.epoch < self.epoch => true,
            Progress::Stable => false,
            Progress::Revoking => true,
            Progress::Waiting => !self.lacks_what_others_hold(&member_id, member),
        };
        if !must_join {
            return ErrorCode::NONE;
        }
        self.expect_rejoin(fx, &member_id);
        ErrorCode::REBALANCE_IN_PROGRESS
    }

    /// One member of a LeaveGroup, which may be an administrator's and name a member of either protocol. The caller ends
    /// with [`Group::after_leaving`] when any of them left.
    pub(crate) fn leave_group(
        &mut self,
        fx: &mut Effects,
        member_id: &Str,
        instance_id: Option<&Str>,
    ) -> ErrorCode {
        let holder = instance_id.map(|instance_id| self.static_member(instance_id).map(|(id, _)| id.clone()));
        let member_id = match holder {
            None => member_id.clone(),
            Some(None) => return ErrorCode::UNKNOWN_MEMBER_ID,
            Some(Some(holder)) if member_id.is_empty() || holder == *member_id => holder,
            Some(Some(_)) => return ErrorCode::FENCED_INSTANCE_ID,
        };
        if self.remove(fx, &member_id) { ErrorCode::NONE } else { ErrorCode::UNKNOWN_MEMBER_ID }
    }

    /// Whether only members of the classic protocol are left.
    pub(crate) fn is_all_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.classic.is_some())
    }

    fn classic_member(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> Result<(&Member, &Classic), ErrorCode> {
        if let Some(instance_id) = instance_id {
            self.check_instance(member_id, instance_id).map_err(|refused| refused.code)?;
        }
        let found = self.members.get(member_id).and_then(|it| Some((it, it.classic.as_ref()?)));
        let (member, classic) = found.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if generation == member.epoch { Ok((member, classic)) } else { Err(ErrorCode::ILLEGAL_GENERATION) }
    }

    /// What the member says of itself, if the group can take it: all classic members share one protocol at least.
    fn read_subscription(&self, request: &JoinGroupRequest) -> Option<ConsumerProtocolSubscription> {
        let is_common = |name: &Str| {
            let mut classic = self.members.values().filter_map(|member| member.classic.as_ref());
            classic.all(|it| it.protocols.iter().any(|(other, _)| other == name))
        };
        let supported = request.protocols.iter().any(|protocol| is_common(&protocol.name));
        let first = request.protocols.first().filter(|_| supported && &*request.protocol_type == CONSUMER)?;
        ConsumerProtocolSubscription::from_bytes(first.metadata.clone()).ok()
    }

    fn lacks_what_others_hold(&self, member_id: &str, member: &Member) -> bool {
        let mut missing = self.target(member_id).filter(|place| !member.assigned.contains_key(*place));
        missing.any(|place| self.members.values().any(|other| other.held_since(place).is_some()))
    }

    fn expect_sync(&self, fx: &mut Effects, member_id: &Str) {
        let Some((member, classic)) =
            self.members.get(member_id).and_then(|it| Some((it, it.classic.as_ref()?)))
        else {
            return;
        };
        fx.cancel(&Timer::Rejoin(self.id.clone(), member_id.clone()));
        fx.set(Timer::Session(self.id.clone(), member_id.clone()), classic.session_timeout);
        fx.set(Timer::Resync(self.id.clone(), member_id.clone()), member.rebalance_timeout);
    }

    fn expect_rejoin(&self, fx: &mut Effects, member_id: &Str) {
        let timer = Timer::Rejoin(self.id.clone(), member_id.clone());
        if let Some(member) = self.members.get(member_id).filter(|_| !fx.is_set(&timer)) {
            fx.set(timer, member.rebalance_timeout);
        }
    }
}

fn first_protocol(member: &Member) -> Option<&(Str, Bytes)> {
    member.classic.as_ref()?.protocols.first()
}

fn tell(
    member: &mut Member,
    caller: &Caller,
    request: &JoinGroupRequest,
    said: &ConsumerProtocolSubscription,
) {
    let copied = |text: &Option<Str>| text.as_deref().map(Str::from);
    let milliseconds = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    // Version 0 has no rebalance timeout; the session timeout stands for it.
    let rebalance_timeout_ms =
        if caller.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    member.client_id = Str::from(&*caller.client_id);
    member.client_host = Str::from(&*caller.host);
    member.instance_id = copied(&request.group_instance_id).or(member.instance_id.take());
    member.rack_id = copied(&said.rack_id).or(member.rack_id.take());
    member.assignor = None;
    member.pattern = None;
    member.rebalance_timeout = milliseconds(rebalance_timeout_ms);
    member.topics = said.topics.iter().map(|name| Str::from(&**name)).collect();
    let protocols = request.protocols.iter();
    member.classic = Some(Classic {
        session_timeout: milliseconds(request.session_timeout_ms),
        protocols: protocols.map(|it| (Str::from(&*it.name), Bytes::copy_from_slice(&it.metadata))).collect(),
    });
}

/// Partitions by the names of their topics, as far as these exist.
pub(super) fn places_of(named: &[ConsumerProtocolPartitions], topics: &Topics) -> Places {
    let known = named.iter().filter_map(|it| Some((topics.get(&it.topic)?.id, &it.partitions)));
    known.flat_map(|(id, indexes)| indexes.iter().map(move |index| (id, *index))).collect()
}

/// A share as classic members read it, in the version of the subscription that goes with it.
pub(super) fn write_share<'a>(
    share: impl Iterator<Item = &'a Place>,
    metadata: &Bytes,
    topics: &Topics,
) -> Bytes {
    let mut named: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for (topic, index) in share {
        if let Some(name) = topics.name_of(*topic) {
            named.entry(name.clone()).or_default().push(*index);
        }
    }
    let assigned =
        named.into_iter().map(|(topic, partitions)| ConsumerProtocolPartitions { topic, partitions });
    let share = ConsumerProtocolAssignment { assigned_partitions: assigned.collect(), user_data: None };
    let version = metadata.first_chunk().map_or(0, |version| i16::from_be_bytes(*version));
    let version = version.clamp(0, ConsumerProtocolAssignment::LATEST);
    share.to_bytes(version).expect("the version is one of ours, and names come from topics that exist")
}
