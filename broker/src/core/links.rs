//! Which nodes reach which, and how long a follower takes to fetch: what tests may disturb between nodes.
//!
//! It refuses to know partitions. Clients reach every node that runs, whatever stands here.

use super::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the head of the module.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Pairs that do not reach each other, the lower first.
    cut: BTreeSet<(i32, i32)>,
    /// Followers that fetch only so often.
    slow: BTreeMap<i32, Duration>,
    /// Followers that do not fetch at all.
    held: BTreeSet<i32>,
}

/// How a follower gets what its leader has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// At once.
    Open,
    /// With its next fetch, which is at most so far away.
    Slow(Duration),
    /// Not at all for now.
    Closed,
}

impl Links {
    pub(crate) fn separate(&mut self, one: i32, other: i32) {
        self.cut.insert((one.min(other), one.max(other)));
    }

    pub(crate) fn join(&mut self, one: i32, other: i32) {
        self.cut.remove(&(one.min(other), one.max(other)));
    }

    /// Followers on this node fetch once in this time; without one, as soon as there is something.
    pub(crate) fn slow(&mut self, node: i32, every: Duration) {
        match every.is_zero() {
            true => self.slow.remove(&node),
            false => self.slow.insert(node, every),
        };
    }

    pub(crate) fn hold(&mut self, node: i32, held: bool) {
        match held {
            true => self.held.insert(node),
            false => self.held.remove(&node),
        };
    }

    /// Everybody reaches everybody, and followers fetch at once.
    pub(crate) fn heal(&mut self) {
        *self = Self::default();
    }

    /// Whether two nodes, which may be one, can speak to each other.
    pub(crate) fn reach(&self, nodes: &BTreeMap<i32, Node>, one: i32, other: i32) -> bool {
        let runs = |id| nodes.get(&id).is_some_and(|node| node.runs && !node.paused);
        runs(one) && runs(other) && !self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// How a follower gets to its leader.
    pub(crate) fn way(&self, nodes: &BTreeMap<i32, Node>, leader: i32, follower: i32) -> Way {
        if self.held.contains(&follower) || !self.reach(nodes, leader, follower) {
            return Way::Closed;
        }
        self.slow.get(&follower).map_or(Way::Open, |every| Way::Slow(*every))
    }
}
