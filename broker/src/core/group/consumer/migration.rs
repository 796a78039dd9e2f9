//! From the classic protocol to the consumer protocol and back, while members go on.
//!
//! A group of the classic protocol whose members are consumers becomes a consumer group when the first member of the new
//! protocol joins; its members keep what they own and go on as in [`super::classic`]. When the last member of the new
//! protocol is gone, the group becomes classic again. Offsets are not touched.

use super::classic::{places_of, write_share};
use super::member::Classic;
use super::{Effects, Group, Member, Places, Progress, Refusal, Timer};
use crate::core::group::classic;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use ottla_protocol::wire::{DecodeError, Str};
use std::collections::BTreeMap;

impl Group {
    /// Takes over a group of the classic protocol, for the member that joins. Whoever waits there is told to join again;
    /// nothing changes when the upgrade or the member is refused.
    pub(crate) fn upgrade(
        fx: &mut Effects,
        former: &mut classic::Group,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<Self, Refusal> {
        let id = former.id().clone();
        if former.members().is_empty() {
            former.dissolve(fx);
            return Ok(Self::new(id));
        }
        let refuse = |reason| Refusal {
            code: ErrorCode::GROUP_ID_NOT_FOUND,
            message: format!("Cannot upgrade classic group {id} to consumer group because {reason}."),
        };
        if !fx.settings.migration.upgrades() {
            return Err(refuse("online upgrade is disabled"));
        }
        if !former.is_consumer_group() {
            return Err(refuse("the group does not use the consumer embedded protocol"));
        }
        if former.members().len() > fx.settings.consumer_members_max {
            return Err(refuse("the group size exceeds the consumer group maximum size"));
        }
        let generation = former.generation();
        let mut group = Self { epoch: generation, assignment_epoch: generation, ..Self::new(id.clone()) };
        for (member_id, member) in former.members() {
            let member = adopt(fx, former, member, generation)
                .map_err(|_| refuse("the embedded consumer protocol is malformed"))?;
            group.targets.insert(member_id.clone(), member.assigned.keys().copied().collect());
            group.members.insert(member_id.clone(), member);
        }
        group.check_room(fx, &request.member_id, request.instance_id.as_ref())?;
        group.topics = group.read_topics(fx.topics);
        former.dissolve(fx);
        for (member_id, member) in &group.members {
            if let Some(classic) = &member.classic {
                fx.set(Timer::Session(id.clone(), member_id.clone()), classic.session_timeout);
            }
        }
        Ok(group)
    }

    /// Becomes a group of the classic protocol, with the targets as shares.
    pub(crate) fn downgrade(&mut self, fx: &mut Effects) -> classic::Group {
        let members = std::mem::take(&mut self.members);
        let mut shares = std::mem::take(&mut self.targets);
        let mut classic_members = BTreeMap::new();
        for (member_id, member) in members {
            super::cancel_timers(fx, &self.id, &member_id);
            let Some(said) = &member.classic else { continue };
            let share: Places = shares.remove(&member_id).unwrap_or_default();
            let metadata = said.protocols.first().map(|(_, metadata)| metadata.clone()).unwrap_or_default();
            let adopted =
                classic::Member::adopted(&member, said, write_share(share.iter(), &metadata, fx.topics));
            classic_members.insert(member_id, adopted);
        }
        classic::Group::of_consumers(fx, self.id.clone(), self.epoch, classic_members)
    }
}

/// A member of the classic protocol with what it owns.
fn adopt(
    fx: &Effects,
    former: &classic::Group,
    member: &classic::Member,
    generation: i32,
) -> Result<Member, DecodeError> {
    let protocols = member.protocols();
    let agreed = former.protocol().and_then(|agreed| protocols.iter().find(|(name, _)| name == agreed));
    let metadata = agreed.or(protocols.first()).map(|(_, metadata)| metadata.clone()).unwrap_or_default();
    let said = ConsumerProtocolSubscription::from_bytes(metadata)?;
    let share = match member.assignment.is_empty() {
        true => ConsumerProtocolAssignment::default(),
        false => ConsumerProtocolAssignment::from_bytes(member.assignment.clone())?,
    };
    let owned = places_of(&share.assigned_partitions, fx.topics);
    Ok(Member {
        instance_id: member.instance_id.clone(),
        rack_id: said.rack_id.as_deref().map(Str::from),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: said.topics.iter().map(|name| Str::from(&**name)).collect(),
        pattern: None,
        assignor: None,
        rebalance_timeout: member.rebalance_timeout(),
        epoch: generation,
        previous_epoch: generation,
        progress: Progress::Stable,
        assigned: owned.into_iter().map(|place| (place, generation)).collect(),
        revoking: BTreeMap::new(),
        classic: Some(Classic { session_timeout: member.session_timeout(), protocols: protocols.to_vec() }),
    })
}
