//! A subscription that changes while the member is there: the topics that match a pattern.
//!
//! It owns when a change leads to a new join. It refuses to know patterns. Invariant: once the group is stable, what it was
//! told and what is subscribed to are the same, or the member joins again.

use std::time::Instant;

use ottla_protocol::wire::Str;

use super::classic::{Classic, Phase};

impl Classic {
    /// These are the topics to read from now on.
    pub(super) fn subscribe(&mut self, now: Instant, topics: Vec<Str>) {
        self.member.topics = topics;
        if matches!(self.phase, Phase::Unsubscribed) {
            self.phase = Phase::Joining { after: now };
        }
        self.follow_subscription(now);
    }

    /// Joins again if the group knows another subscription.
    pub(super) fn follow_subscription(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Stable) && self.member.topics != self.member.told {
            self.join_again(now, "other topics match the subscription");
        }
    }
}
