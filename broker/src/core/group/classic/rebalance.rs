//! The phases of a rebalance: who has joined, who leads, and what each member is answered.
//!
//! It owns the way from one generation to the next. Who may become a member is decided in the module above.

use super::{Effects, Group, State};
use crate::core::group::Timer;
use bytes::Bytes;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{JoinGroupMember, JoinGroupResponse, SyncGroupResponse};
use ottla_protocol::wire::Str;
use std::time::Duration;

impl Group {
    /// Starts a rebalance, or goes on with the one that runs.
    pub(super) fn rebalance(&mut self, fx: &mut Effects) {
        if self.state.may_become(State::PreparingRebalance) {
            self.prepare_rebalance(fx);
        } else {
            self.complete_join_if_all_are_here(fx);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, fx: &mut Effects) {
        if self.state == State::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            self.answer_syncs(fx, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.pending_sync.clear();
        fx.cancel(&Timer::Sync(self.id.clone()));
        let is_first = self.state == State::Empty;
        self.become_state(State::PreparingRebalance);
        if !is_first {
            self.initial_delay = None;
            if self.all_joined() {
                self.complete_join(fx);
            } else {
                fx.set(Timer::Join(self.id.clone()), self.rebalance_timeout());
            }
            return;
        }
        let delay = fx.settings.initial_rebalance_delay;
        if delay.is_zero() {
            return self.complete_join(fx);
        }
        self.initial_delay = Some((delay, self.rebalance_timeout().saturating_sub(delay)));
        fx.set(Timer::Join(self.id.clone()), delay);
    }

    pub(super) fn complete_join_if_all_are_here(&mut self, fx: &mut Effects) {
        if self.previous != State::Empty {
            self.complete_join_if_all_joined(fx);
        }
    }

    pub(super) fn complete_join_if_all_joined(&mut self, fx: &mut Effects) {
        if self.state == State::PreparingRebalance && self.all_joined() {
            self.complete_join(fx);
        }
    }

    /// Ends the wait for members: those that did not come are removed, the others get the new generation.
    pub(super) fn complete_join(&mut self, fx: &mut Effects) {
        fx.cancel(&Timer::Join(self.id.clone()));
        let late: Vec<Str> = self
            .members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in late {
            self.expel(fx, &member_id);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left, and none of them is here: their session timeouts will tell.
            return fx.set(Timer::Join(self.id.clone()), self.rebalance_timeout());
        }
        self.initial_delay = None;
        self.generation += 1;
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.become_state(State::Empty);
            return self.store();
        }
        self.protocol = self.select_protocol();
        self.become_state(State::CompletingRebalance);
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            let answer = self.join_answer(&member_id);
            self.answer_join(fx, &member_id, answer);
            self.pending_sync.insert(member_id);
        }
        fx.set(Timer::Sync(self.id.clone()), self.rebalance_timeout());
    }

    /// Keeps the leader if it is here, or chooses another member that is.
    pub(super) fn elect_leader(&mut self) -> bool {
        let is_here = |id: &Str| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(is_here) {
            let other = self.joining().next().cloned();
            if other.is_none() {
                return false;
            }
            self.leader = other;
        }
        true
    }

    pub(super) fn joining(&self) -> impl Iterator<Item = &Str> {
        self.members.iter().filter(|(_, member)| member.joining.is_some()).map(|(id, _)| id)
    }

    pub(super) fn all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.joining().count() == self.members.len()
    }

    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    pub(super) fn expect_heartbeat(&self, fx: &mut Effects, member_id: &Str) {
        if let Some(member) = self.members.get(member_id) {
            fx.set(Timer::Session(self.id.clone(), member_id.clone()), member.session_timeout);
        }
    }

    pub(super) fn join_answer(&self, member_id: &Str) -> JoinGroupResponse {
        let protocol = self.protocol.clone().unwrap_or_default();
        let is_leader = self.leader.as_ref() == Some(member_id);
        let members = self.members.iter().filter(|_| is_leader).map(|(id, member)| JoinGroupMember {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol),
        });
        JoinGroupResponse {
            error_code: ErrorCode::NONE,
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: Some(protocol.clone()),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            members: members.collect(),
            ..JoinGroupResponse::default()
        }
    }

    pub(super) fn answer_join(&mut self, fx: &mut Effects, member_id: &Str, answer: JoinGroupResponse) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.is_new = false;
        if let Some(ticket) = member.joining.take() {
            fx.answer(ticket, answer);
        }
        self.expect_heartbeat(fx, member_id);
    }

    pub(super) fn sync_answer(&self, assignment: Bytes) -> SyncGroupResponse {
        SyncGroupResponse {
            error_code: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
            ..SyncGroupResponse::default()
        }
    }

    pub(super) fn answer_syncs(&mut self, fx: &mut Effects, code: ErrorCode) {
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            let Some(ticket) = member.syncing.take() else { continue };
            let assignment = member.assignment.clone();
            if code == ErrorCode::NONE {
                fx.answer(ticket, self.sync_answer(assignment));
            } else {
                fx.sync_refused(ticket, code);
            }
            self.expect_heartbeat(fx, &member_id);
        }
    }
}
