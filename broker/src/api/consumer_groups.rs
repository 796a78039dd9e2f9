//! ConsumerGroupHeartbeat and ConsumerGroupDescribe: groups whose partitions the broker assigns (KIP-848).
//!
//! ConsumerGroupHeartbeat versions 0 and 1: whole (ids made by members and patterns from 1). ConsumerGroupDescribe versions 0
//! and 1: whole (types of members from 1). Both are answered by the group's coordinator only, and while the feature
//! `group.version` is at 1. The group itself is in [`crate::core::group::consumer`]. Assignments follow each other at once
//! unless `group.consumer.assignment.interval.ms` says otherwise, which is a second in Kafka: tests need not wait.

use super::groups::GROUP_OPERATIONS;
use super::{Caller, Refuse};
use crate::core::authorizer::{Kind, Operation};
use crate::core::coordinator::Coordinated;
use crate::core::group::consumer::assign::Assignor;
use crate::core::group::consumer::{Group, LEAVES, LEAVES_FOR_A_WHILE, Member, Place, check_pattern};
use crate::core::group::{Membership, Refusal, not_a_consumer_group};
use crate::core::topics::Topics;
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DescribedConsumerGroup, DescribedConsumerGroupMember,
    DescribedGroupAssignment, DescribedGroupTopicPartitions,
};
use ottla_protocol::wire::Str;
use std::collections::BTreeMap;

impl Refuse for ConsumerGroupHeartbeatRequest {
    type Response = ConsumerGroupHeartbeatResponse;

    fn refuse(&self, error_code: ErrorCode) -> ConsumerGroupHeartbeatResponse {
        ConsumerGroupHeartbeatResponse { error_code, ..ConsumerGroupHeartbeatResponse::default() }
    }
}

impl Refuse for ConsumerGroupDescribeRequest {
    type Response = ConsumerGroupDescribeResponse;

    fn refuse(&self, code: ErrorCode) -> ConsumerGroupDescribeResponse {
        let groups = self.group_ids.iter().map(|group| not_described(group, code));
        ConsumerGroupDescribeResponse { groups: groups.collect(), ..ConsumerGroupDescribeResponse::default() }
    }
}

fn not_described(group_id: &Str, error_code: ErrorCode) -> DescribedConsumerGroup {
    DescribedConsumerGroup { group_id: group_id.clone(), error_code, ..DescribedConsumerGroup::default() }
}

impl Cluster {
    pub(crate) fn consumer_group_heartbeat(
        &mut self,
        now: Now,
        caller: &Caller,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        if self.group_version == 0 {
            return request.refuse(ErrorCode::UNSUPPORTED_VERSION);
        }
        let checked = check(caller, &request);
        let answer = checked.and_then(|()| self.member_heartbeat(now, caller, &request));
        answer.unwrap_or_else(|refused| ConsumerGroupHeartbeatResponse {
            error_message: Some(Str::from(refused.message)).filter(|message| !message.is_empty()),
            ..request.refuse(refused.code)
        })
    }

    fn member_heartbeat(
        &mut self,
        now: Now,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let group_id = &request.group_id;
        self.check_coordinator(caller, Coordinated::Group(group_id))
            .map_err(|code| Refusal { code, message: String::new() })?;
        if self.groups.get(group_id).is_none() && request.member_epoch != 0 {
            let what = if request.member_epoch > 0 { "Consumer group" } else { "Group" };
            let message = format!("{what} {group_id} not found.");
            return Err(Refusal { code: ErrorCode::GROUP_ID_NOT_FOUND, message });
        }
        let (groups, mut fx) = self.groups(now);
        groups.get_or_create(group_id).membership.consumer_heartbeat(&mut fx, caller, request)
    }

    pub(crate) fn consumer_group_describe(
        &mut self,
        _: Now,
        caller: &Caller,
        request: ConsumerGroupDescribeRequest,
    ) -> ConsumerGroupDescribeResponse {
        if self.group_version == 0 {
            return request.refuse(ErrorCode::UNSUPPORTED_VERSION);
        }
        let describe = |group_id: &Str| {
            let allowed = self.access.on_group(Operation::Describe, caller, group_id);
            if let Err(code) = allowed.and_then(|()| self.check_group(caller, group_id)) {
                return not_described(group_id, code);
            }
            let mut described = match self.groups.get(group_id).map(|entry| &entry.membership) {
                Some(Membership::Consumer(group)) => described(group_id, group, &self.topics),
                Some(Membership::Classic(_)) => refused(group_id, not_a_consumer_group(group_id).message),
                None => refused(group_id, format!("Group {group_id} not found.")),
            };
            if request.include_authorized_operations {
                described.authorized_operations =
                    self.access.operations(caller.into(), Kind::Group, group_id, GROUP_OPERATIONS);
            }
            if self.access.is_on() && !self.may_see(caller, &described) {
                let reason =
                    "The group has described topic(s) that the client is not authorized to describe.";
                let error_message = Some(Str::from_static(reason));
                let refused = not_described(group_id, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
                return DescribedConsumerGroup { error_message, ..refused };
            }
            described
        };
        let groups = request.group_ids.iter().map(describe).collect();
        ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() }
    }
}

impl Cluster {
    /// Whether somebody may know of every topic that a group's description names.
    fn may_see(&self, caller: &Caller, group: &DescribedConsumerGroup) -> bool {
        let mut named = group.members.iter().flat_map(|member| {
            let assigned = [&member.assignment, &member.target_assignment];
            let assigned = assigned.into_iter().flat_map(|it| &it.topic_partitions);
            member.subscribed_topic_names.iter().chain(assigned.map(|topic| &topic.topic_name))
        });
        named.all(|topic| self.access.check(caller, Kind::Topic, topic, Operation::Describe).is_ok())
    }
}

/// Refuses what makes no sense, whatever the group is.
fn check(caller: &Caller, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let refuse =
        |message: &str| Err(Refusal { code: ErrorCode::INVALID_REQUEST, message: message.to_string() });
    let is_blank = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    let (epoch, says_nothing) = (request.member_epoch, request.topic_partitions.is_none());
    let names_topics = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    if request.member_id.is_empty() && (caller.version >= 1 || epoch != 0) {
        return refuse("MemberId can't be empty.");
    }
    match () {
        () if request.group_id.trim().is_empty() => return refuse("GroupId can't be empty."),
        () if is_blank(&request.instance_id) => return refuse("InstanceId can't be empty."),
        () if is_blank(&request.rack_id) => return refuse("RackId can't be empty."),
        () if epoch < LEAVES_FOR_A_WHILE => return refuse("MemberEpoch is invalid."),
        () if epoch == LEAVES_FOR_A_WHILE && request.instance_id.is_none() => {
            return refuse("InstanceId can't be null.");
        }
        () if epoch == 0 && request.rebalance_timeout_ms == -1 => {
            return refuse("RebalanceTimeoutMs must be provided in first request.");
        }
        () if epoch == 0 && (says_nothing || request.topic_partitions.iter().flatten().next().is_some()) => {
            return refuse("TopicPartitions must be empty when (re-)joining.");
        }
        () if epoch == 0 && !names_topics => {
            return refuse(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
        () => {}
    }
    if epoch == LEAVES || epoch == LEAVES_FOR_A_WHILE {
        return Ok(());
    }
    if let Some(assignor) = request.server_assignor.as_ref().filter(|name| Assignor::find(name).is_none()) {
        let known = Assignor::ALL.map(Assignor::name).join(", ");
        let message = format!("ServerAssignor {assignor} is not supported. Supported assignors: {known}.");
        return Err(Refusal { code: ErrorCode::UNSUPPORTED_ASSIGNOR, message });
    }
    request.subscribed_topic_regex.as_deref().map_or(Ok(()), check_pattern)
}

fn refused(group_id: &Str, message: String) -> DescribedConsumerGroup {
    let error_message = Some(Str::from(message));
    DescribedConsumerGroup { error_message, ..not_described(group_id, ErrorCode::GROUP_ID_NOT_FOUND) }
}

fn described(group_id: &Str, group: &Group, topics: &Topics) -> DescribedConsumerGroup {
    let member = |(id, member): (&Str, &Member)| DescribedConsumerGroupMember {
        member_id: id.clone(),
        instance_id: member.instance_id.clone(),
        rack_id: member.rack_id.clone(),
        member_epoch: member.epoch,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: member.topics.iter().cloned().collect(),
        subscribed_topic_regex: Some(member.pattern.clone().unwrap_or_default()),
        assignment: by_name(member.held(), topics),
        target_assignment: by_name(group.target(id), topics),
        member_type: i8::from(member.classic.is_none()),
    };
    DescribedConsumerGroup {
        group_id: group_id.clone(),
        group_state: Str::from_static(group.state().name()),
        group_epoch: group.epoch(),
        assignment_epoch: group.assignment_epoch(),
        assignor_name: Str::from_static(group.assignor().name()),
        members: group.members().iter().map(member).collect(),
        ..DescribedConsumerGroup::default()
    }
}

/// Topics that are gone are left out.
fn by_name<'a>(places: impl Iterator<Item = &'a Place>, topics: &Topics) -> DescribedGroupAssignment {
    let mut named: BTreeMap<&Str, DescribedGroupTopicPartitions> = BTreeMap::new();
    for (topic_id, index) in places {
        let Some(topic_name) = topics.name_of(*topic_id) else { continue };
        let topic = named.entry(topic_name).or_insert_with(|| DescribedGroupTopicPartitions {
            topic_id: *topic_id,
            topic_name: topic_name.clone(),
            partitions: Vec::new(),
        });
        topic.partitions.push(*index);
    }
    DescribedGroupAssignment { topic_partitions: named.into_values().collect() }
}
