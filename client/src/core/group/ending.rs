//! How a membership begins again, and how it ends: asked for, lost, left, failed.
//!
//! It owns what is taken back then: partitions, flights, the generation. It refuses to know requests and their answers.
//! Invariant: what a member had is told as lost exactly once, and nothing that is out for it counts from then on.

use std::time::Instant;

use super::classic::{Classic, Duty, Farewell, Phase};
use super::{GroupEvent, Parting};
use crate::core::cluster::Cluster;
use crate::error::{Error, ErrorKind};

impl Classic {
    pub(super) fn evicts_at(&self) -> Option<Instant> {
        self.poll_by.filter(|_| !matches!(self.phase, Phase::Alone | Phase::Idle | Phase::Over))
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    pub(super) fn join_again(&mut self, now: Instant, reason: &'static str) {
        self.reason = reason;
        self.shared_out = None;
        if self.member.is_cooperative() || self.owned.is_empty() {
            self.phase = Phase::Joining { after: now };
        } else {
            self.events.push_back(GroupEvent::Revoke(self.owned.iter().cloned().collect()));
            self.phase = Phase::Revoking(self.owned.clone());
        }
    }

    /// The generation goes on without us: nothing that we have is ours any more.
    pub(super) fn lose_membership(&mut self, now: Instant, reason: &'static str, cluster: &mut Cluster) {
        self.close_flights(reason, cluster);
        self.lose_everything();
        self.reason = reason;
        self.phase = Phase::Joining { after: now + self.backoff.next(&mut cluster.random) };
    }

    pub(super) fn lose_everything(&mut self) {
        self.member.generation = -1;
        self.shared_out = None;
        if !self.owned.is_empty() {
            self.events.push_back(GroupEvent::Lost(std::mem::take(&mut self.owned).into_iter().collect()));
        }
    }

    /// Answers to what is out mean nothing any more. A JoinGroup or SyncGroup may wait long for its own, and nothing can pass it
    /// on its link.
    pub(super) fn close_flights(&mut self, reason: &'static str, cluster: &mut Cluster) {
        for flight in self.flights.iter_mut().filter(|flight| flight.live && flight.duty != Duty::Leave) {
            flight.live = false;
            if matches!(flight.duty, Duty::Join | Duty::Sync) {
                cluster.close(flight.link, Error::new(ErrorKind::Closed, reason));
            }
        }
    }

    /// Whoever leaves tells the coordinator that it goes.
    pub(super) fn say_farewell(&mut self, now: Instant, parting: Parting, reason: &'static str) {
        if parting.leaves(self.member.is_static()) && !self.member.member_id.is_empty() {
            self.flights
                .iter_mut()
                .filter(|flight| flight.duty == Duty::Leave)
                .for_each(|flight| flight.live = false);
            let member_id = std::mem::take(&mut self.member.member_id);
            self.farewell = Some(Farewell { member_id, reason, since: now });
        }
    }

    pub(super) fn end(&mut self) {
        self.phase = Phase::Over;
        self.member.generation = -1;
        self.owned.clear();
        self.poll_by = None;
        self.flights
            .iter_mut()
            .filter(|flight| flight.duty != Duty::Leave)
            .for_each(|flight| flight.live = false);
    }

    pub(super) fn fail(&mut self, error: Error) {
        if !matches!(self.phase, Phase::Over) {
            self.lose_everything();
            self.end();
            self.failure = Some(error.clone());
            self.events.push_back(GroupEvent::Failed(error));
        }
        self.farewell = None;
    }
}
