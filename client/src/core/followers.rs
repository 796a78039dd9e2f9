//! Reading from the replica that is near (KIP-392).
//!
//! It owns when a leader's advice to read elsewhere is followed, and when it is over: with the age of metadata, with a seek,
//! and when the follower fails. It refuses to choose a replica: that is the leader's business. Invariant: whatever a follower
//! refuses is asked of the leader before it is believed.

use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::wire::Str;

use super::TopicPartition;
use super::cluster::Cluster;
use super::consumer::Consumer;
use super::fetch::{Fetch, Positions};
use super::positions::Position;
use super::saying::Saying;

/// How long only leaders are read from after a follower failed. By then its leader has noticed too
/// (`replica.lag.time.max.ms`) and sends nobody there.
const LEADERS_ONLY: Duration = Duration::from_secs(30);

impl Fetch {
    /// What leaders are told of where we are.
    pub(super) fn rack(&self, now: Instant, cluster: &Cluster) -> Str {
        let told = self.leaders_only.is_none_or(|until| until <= now);
        cluster.config.client_rack.clone().filter(|_| told).unwrap_or_default()
    }

    /// No partition is read from this follower any more.
    pub(super) fn leave_follower(&mut self, now: Instant, node: i32, positions: &mut Positions) {
        for position in positions.values_mut() {
            if position.preferred.take_if(|(preferred, _)| *preferred == node).is_some() {
                self.leaders_only = Some(now + LEADERS_ONLY);
            }
        }
    }
}

impl Position {
    /// Its leader advises to read from another replica; -1 for none.
    pub(super) fn prefer(&mut self, replica: i32, until: Instant) {
        if replica >= 0 {
            self.preferred = Some((replica, until));
        }
    }
}

impl Consumer {
    /// What leaders advised long ago is asked for again.
    pub(super) fn expire_followers(&mut self, now: Instant) {
        if self.cluster.config.client_rack.is_some() {
            for position in self.positions.values_mut() {
                position.preferred.take_if(|(_, until)| *until <= now);
            }
        }
    }

    /// Whether a refusal came from a follower: then the leader is asked after a wait. It may know better what is in the log.
    pub(super) fn is_of_follower(
        &mut self,
        now: Instant,
        node: i32,
        partition: &TopicPartition,
        code: ErrorCode,
    ) -> bool {
        let preferred = self.positions.get(partition).and_then(|position| position.preferred);
        if preferred.is_none_or(|(preferred, _)| preferred != node) {
            return false;
        }
        let place = partition.clone();
        self.said.push(Saying::new(
            move || tracing::debug!(partition = %place, node, %code, "back to the leader"),
        ));
        self.fetch.leave_follower(now, node, &mut self.positions);
        if code.needs_refresh() {
            self.cluster.metadata.refresh(now, &mut self.cluster.random);
        }
        self.retry_later(now, partition);
        true
    }
}
