//! Who is in a group: members of the classic protocol, or of the consumer protocol, or both on the way from one to the
//! other.
//!
//! It owns which of the two a group is, and changes it. It refuses to know the rules of either.
//!
//! Invariant: a group is of the consumer protocol while it has members of that protocol.

use super::{Effects, Refusal, Timer, classic, consumer};
use crate::api::Caller;
use crate::core::Ticket;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, JoinGroupRequest,
    SyncGroupRequest,
};
use ottla_protocol::wire::Str;

/// See the head of the module.
#[derive(Debug)]
pub(crate) enum Membership {
    Classic(classic::Group),
    Consumer(consumer::Group),
}

impl Membership {
    pub(crate) fn new(id: Str) -> Self {
        Self::Classic(classic::Group::new(id))
    }

    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state().name(),
            Self::Consumer(group) => group.state().name(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.state() == classic::State::Empty,
            Self::Consumer(group) => group.members().is_empty(),
        }
    }

    /// The type of the group, by Kafka's name.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Consumer(_) => "consumer",
        }
    }

    /// What the members are: consumers, connectors or others.
    pub(crate) fn protocol_type(&self) -> Str {
        match self {
            Self::Classic(group) => group.protocol_type().cloned().unwrap_or_default(),
            Self::Consumer(_) => Str::from_static("consumer"),
        }
    }

    /// Handles a ConsumerGroupHeartbeat that makes sense on its own.
    pub(crate) fn consumer_heartbeat(
        &mut self,
        fx: &mut Effects,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        if let Self::Classic(group) = self {
            if request.member_epoch != 0 {
                return Err(not_a_consumer_group(&request.group_id));
            }
            *self = Self::Consumer(consumer::Group::upgrade(fx, group, request)?);
        }
        let Self::Consumer(group) = self else { return Err(not_a_consumer_group(&request.group_id)) };
        if request.member_epoch >= 0 {
            return group.heartbeat(fx, caller, request);
        }
        let answer = group.leave(fx, request)?;
        if request.member_epoch == consumer::LEAVES {
            self.after_leaving(fx);
        }
        Ok(answer)
    }

    pub(crate) fn join(
        &mut self,
        fx: &mut Effects,
        ticket: Ticket,
        request: &JoinGroupRequest,
        caller: &Caller,
    ) {
        if let Self::Consumer(group) = self
            && group.members().is_empty()
        {
            *self = Self::new(Str::from(&*request.group_id));
        }
        match self {
            Self::Classic(group) => return group.join(fx, ticket, request, caller),
            Self::Consumer(group) => match group.join(fx, caller, request) {
                Ok(answer) => fx.answer(ticket, answer),
                Err(code) => fx.join_refused(ticket, code, Str::default()),
            },
        }
        // A static member of the consumer protocol, the last, may have come back as one of the classic protocol.
        self.become_classic_if_all_are(fx);
    }

    pub(crate) fn sync(&mut self, fx: &mut Effects, ticket: Ticket, request: &SyncGroupRequest) {
        match self {
            Self::Classic(group) => group.sync(fx, ticket, request),
            Self::Consumer(group) => match group.sync(fx, request) {
                Ok(answer) => fx.answer(ticket, answer),
                Err(code) => fx.sync_refused(ticket, code),
            },
        }
    }

    pub(crate) fn heartbeat(&mut self, fx: &mut Effects, request: &HeartbeatRequest) -> ErrorCode {
        match self {
            Self::Classic(group) => {
                let instance_id = request.group_instance_id.as_ref();
                group.heartbeat(fx, &request.member_id, instance_id, request.generation_id)
            }
            Self::Consumer(group) => group.classic_heartbeat(fx, request),
        }
    }

    /// One member of a LeaveGroup. The caller ends with [`Membership::after_leaving`] when any of them left.
    pub(crate) fn leave(
        &mut self,
        fx: &mut Effects,
        member_id: &Str,
        instance_id: Option<&Str>,
    ) -> ErrorCode {
        match self {
            Self::Classic(group) => group.leave(fx, member_id, instance_id),
            Self::Consumer(group) => group.leave_group(fx, member_id, instance_id),
        }
    }

    pub(crate) fn after_leaving(&mut self, fx: &mut Effects) {
        self.become_classic_if_all_are(fx);
        match self {
            Self::Classic(group) => group.after_leaving(fx),
            Self::Consumer(group) => group.after_leaving(fx),
        }
    }

    /// Whether offsets may be committed with this membership; for each partition, see [`Membership::check_commit_of`].
    pub(crate) fn check_commit(
        &mut self,
        fx: &mut Effects,
        member_id: &Str,
        instance_id: Option<&Str>,
        epoch: i32,
        version: i16,
    ) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_commit(fx, member_id, instance_id, epoch),
            Self::Consumer(group) => group.check_commit(member_id, instance_id, epoch, false, version),
        }
    }

    /// Whether offsets may be committed within a transaction; for each partition, see [`Membership::check_commit_of`].
    pub(crate) fn check_transactional_commit(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_transactional_commit(member_id, instance_id, epoch),
            Self::Consumer(group) => {
                group.check_commit(member_id, instance_id, epoch, true, 0).map_err(as_transactions_know_it)
            }
        }
    }

    /// Whether this member may commit for one partition with this epoch, once it may commit at all.
    pub(crate) fn check_commit_of(
        &self,
        member_id: &Str,
        epoch: i32,
        place: &consumer::Place,
    ) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(_) => Ok(()),
            Self::Consumer(group) => group.check_commit_of(member_id, epoch, place),
        }
    }

    pub(crate) fn check_fetch(&self, member_id: Option<&Str>, epoch: i32) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(_) => Ok(()),
            Self::Consumer(group) => group.check_fetch(member_id, epoch),
        }
    }

    /// Whether it is known which topics the members read.
    pub(crate) fn has_subscriptions(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_consumer_group(),
            Self::Consumer(_) => true,
        }
    }

    /// Whether a member reads this topic, so that its offsets may not be deleted.
    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.state() != classic::State::Empty && group.is_consumer_group(),
            Self::Consumer(group) => group.subscribes_to(topic),
        }
    }

    pub(super) fn fire(&mut self, fx: &mut Effects, timer: &Timer) {
        match self {
            Self::Classic(group) => match timer {
                Timer::Session(_, member_id) => group.session_timed_out(fx, member_id),
                Timer::Join(_) => group.join_timed_out(fx),
                Timer::Sync(_) => group.sync_timed_out(fx),
                _ => {}
            },
            Self::Consumer(group) => {
                let gone = match timer {
                    Timer::Session(_, member_id)
                    | Timer::Rejoin(_, member_id)
                    | Timer::Resync(_, member_id) => group.remove(fx, member_id),
                    Timer::Revoke(_, member_id) => group.is_late(member_id) && group.remove(fx, member_id),
                    Timer::Patterns(_) => {
                        group.match_patterns(fx);
                        false
                    }
                    _ => false,
                };
                if gone {
                    self.after_leaving(fx);
                }
            }
        }
    }

    pub(crate) fn move_away(&mut self, fx: &mut Effects) {
        match self {
            Self::Classic(group) => group.move_away(fx),
            Self::Consumer(group) => group.move_away(fx),
        }
    }

    fn become_classic_if_all_are(&mut self, fx: &mut Effects) {
        let Self::Consumer(group) = self else { return };
        let has_room = group.members().len() <= fx.settings.members_max;
        if group.is_all_classic() && has_room && fx.settings.migration.downgrades() {
            *self = Self::Classic(group.downgrade(fx));
        }
    }
}

/// TxnOffsetCommit has no code for a stale epoch.
pub(crate) fn as_transactions_know_it(code: ErrorCode) -> ErrorCode {
    if code == ErrorCode::STALE_MEMBER_EPOCH { ErrorCode::ILLEGAL_GENERATION } else { code }
}

pub(crate) fn not_a_consumer_group(group: &str) -> Refusal {
    let message = format!("Group {group} is not a consumer group.");
    Refusal { code: ErrorCode::GROUP_ID_NOT_FOUND, message }
}
