//! A classic group that becomes a consumer group, or comes from one.
//!
//! It owns what happens to members that wait, and to timers. What is read from members and written for them is the
//! business of the consumer group's side.

use super::{Effects, Group, Member, State, Timer};
use crate::core::group::consumer;
use bytes::Bytes;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::wire::Str;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Group {
    /// Ends the group: no timer of it is left, and whoever waits is told that a rebalance goes on.
    pub(in crate::core::group) fn dissolve(&mut self, fx: &mut Effects) {
        for (member_id, member) in std::mem::take(&mut self.members) {
            fx.cancel(&Timer::Session(self.id.clone(), member_id.clone()));
            if let Some(ticket) = member.joining {
                fx.join_refused(ticket, ErrorCode::REBALANCE_IN_PROGRESS, member_id);
            }
            if let Some(ticket) = member.syncing {
                fx.sync_refused(ticket, ErrorCode::REBALANCE_IN_PROGRESS);
            }
        }
        for member_id in std::mem::take(&mut self.pending_join) {
            fx.cancel(&Timer::Session(self.id.clone(), member_id));
        }
        fx.cancel(&Timer::Join(self.id.clone()));
        fx.cancel(&Timer::Sync(self.id.clone()));
    }

    /// A stable group of those who were members of a consumer group.
    pub(in crate::core::group) fn of_consumers(
        fx: &mut Effects,
        id: Str,
        generation: i32,
        members: BTreeMap<Str, Member>,
    ) -> Self {
        let mut group = Self {
            state: State::Stable,
            previous: State::Stable,
            generation,
            protocol_type: Some(Str::from_static(super::CONSUMER)),
            leader: members.keys().next().cloned(),
            members,
            pending_sync: BTreeSet::new(),
            ..Self::new(id)
        };
        group.protocol = group.select_protocol();
        group.store();
        for member_id in group.members.keys().cloned().collect::<Vec<_>>() {
            group.expect_heartbeat(fx, &member_id);
        }
        group
    }
}

impl Member {
    /// As a member of a consumer group says it of itself.
    pub(in crate::core::group) fn adopted(
        member: &consumer::Member,
        said: &consumer::Classic,
        assignment: Bytes,
    ) -> Self {
        Self {
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            assignment,
            session_timeout: said.session_timeout,
            rebalance_timeout: member.rebalance_timeout,
            protocols: said.protocols.clone(),
            is_new: false,
            joining: None,
            syncing: None,
        }
    }

    /// In the member's order of preference, with what it says about itself under each.
    pub(in crate::core::group) fn protocols(&self) -> &[(Str, Bytes)] {
        &self.protocols
    }

    pub(in crate::core::group) fn session_timeout(&self) -> Duration {
        self.session_timeout
    }

    pub(in crate::core::group) fn rebalance_timeout(&self) -> Duration {
        self.rebalance_timeout
    }
}
