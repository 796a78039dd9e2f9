//! Followers that fetch, replicas that fall out of sync and come back, and who waits for them.
//!
//! A follower that nobody slows down has what its leader has as soon as that is written, and acknowledges it within the same
//! step; so a cluster without disturbances answers at once. One that is slowed fetches in rounds: a round brings all that there
//! is, and the high watermark as it was before. Whatever waits (Produce with acks=all, fetches) is woken as the high watermark
//! moves.
//!
//! Coordinators and markers do not wait: they write only while every replica in sync can be reached, and these then have it at
//! once, slow or not.

use super::group::Timer;
use super::links::Way;
use super::topics::{Partition, Readable};
use super::{Cluster, Node, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::wire::Str;
use std::time::Duration;

/// Who is to have what was written, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Followers that fetch at once.
    Quick,
    /// Slow ones too.
    All,
}

impl Cluster {
    /// Something was written to a partition.
    pub(crate) fn written(&mut self, now: Now, topic: &str, index: i32, before: Readable, reach: Reach) {
        self.replicate(now, topic, index, reach);
        self.wake_readers(topic, index, before);
        self.wrote(now, topic, index);
    }

    /// Lets the followers of a partition fetch, as far as they can, and whoever waited for that go on.
    pub(crate) fn replicate(&mut self, now: Now, topic: &str, index: i32, reach: Reach) {
        let Self { topics, nodes, links, .. } = self;
        let Some((settings, partition)) = topics.parts_mut(topic, index) else { return };
        let is_followed = !partition.standing.followers.is_empty();
        if let Some(leader) = partition.leader.filter(|_| is_followed) {
            let way = |node| links.way(nodes, leader, node);
            for at in 0..partition.replicas.len() {
                let Some(node) = partition.replicas.get(at).copied().filter(|node| *node != leader) else {
                    continue;
                };
                match way(node) {
                    Way::Open => partition.follow(node),
                    Way::Slow(_) if reach == Reach::All => partition.follow(node),
                    Way::Slow(_) | Way::Closed => partition.falls_behind(node, now),
                }
            }
            let is_alive = |node| nodes.get(&node).is_some_and(Node::is_alive);
            partition.expand(|node| is_alive(node) && way(node) != Way::Closed);
        }
        partition.advance(settings);
        if !is_followed && partition.unacknowledged.is_empty() {
            return;
        }
        if is_followed {
            self.expect_fetches(now, topic, index, reach);
        }
        self.acknowledge(topic, index);
        self.settle_reassignment(now, topic, index);
    }

    /// The followers that fetch at once know the high watermark now; for the others there is a time to fetch.
    fn expect_fetches(&mut self, now: Now, topic: &str, index: i32, reach: Reach) {
        let Self { topics, nodes, links, timers, settings, .. } = self;
        let Some(partition) = topics.partition_mut(topic, index) else { return };
        let (Some(leader), high_watermark) = (partition.leader, partition.high_watermark()) else { return };
        let standing = &mut partition.standing;
        for (node, follower) in &mut standing.followers {
            match links.way(nodes, leader, *node) {
                Way::Slow(every) if reach == Reach::Quick && follower.is_behind(high_watermark) => {
                    if !timers.is_set(&Timer::Replicate(*node)) {
                        timers.set(Timer::Replicate(*node), now.at + every);
                    }
                }
                Way::Open | Way::Slow(_) => follower.high_watermark = high_watermark,
                Way::Closed => {}
            }
            let may_lag = follower.behind_since.is_some() && standing.in_sync.contains(node);
            if may_lag && !timers.is_set(&Timer::Lag) {
                timers.set(Timer::Lag, now.at + settings.replica_lag_max);
            }
        }
    }

    /// The fetch of a follower that is slowed: of every partition that it follows.
    pub(crate) fn fire_replication(&mut self, now: Now, node: i32) {
        let is_behind = |partition: &Partition| {
            let follower = partition.standing.followers.get(&node);
            let leader =
                partition.leader.filter(|leader| self.links.way(&self.nodes, *leader, node) != Way::Closed);
            leader.is_some() && follower.is_some_and(|it| it.is_behind(partition.high_watermark()))
        };
        let mut behind = Vec::new();
        for topic in self.topics.iter() {
            let partitions = (0..).zip(&topic.partitions).filter(|(_, partition)| is_behind(partition));
            behind.extend(partitions.map(|(index, _)| (topic.name.clone(), index)));
        }
        for (topic, index) in behind {
            let Some(partition) = self.topics.partition_mut(&topic, index) else { continue };
            let before = partition.readable();
            partition.follow(node);
            self.replicate(now, &topic, index, Reach::Quick);
            self.wake_readers(&topic, index, before);
            self.wake_readers_at(&topic, index, node);
        }
    }

    /// What followers show may have changed.
    fn wake_readers_at(&mut self, topic: &str, index: i32, node: i32) {
        let Some(partition) = self.topics.partition_mut(topic, index) else { return };
        for ticket in &partition.waiting {
            if self.fetches.get(ticket).is_some_and(|waiting| waiting.is_at(node)) {
                self.parking.wake(*ticket);
            }
        }
    }

    /// Every follower fetches that can: nodes came, went, or reach each other again.
    pub(crate) fn replicate_all(&mut self, now: Now) {
        let all = self.topics.iter().flat_map(|topic| {
            let followed = (0..).zip(&topic.partitions);
            followed
                .filter(|(_, partition)| !partition.standing.followers.is_empty())
                .map(|(index, _)| (topic.name.clone(), index))
        });
        for (topic, index) in all.collect::<Vec<(Str, i32)>>() {
            let Some(partition) = self.topics.partition_mut(&topic, index) else { continue };
            let before = partition.readable();
            self.replicate(now, &topic, index, Reach::Quick);
            self.wake_readers(&topic, index, before);
        }
    }

    /// Takes followers out of sync that have lacked something for too long, if their leader can tell the controller.
    pub(crate) fn fire_lag(&mut self, now: Now) {
        let (controller, longest) = (self.controller(), self.settings.replica_lag_max);
        let (mut shrunk, mut next) = (Vec::new(), None::<Duration>);
        let Self { topics, links, nodes, .. } = self;
        for topic in topics.iter_mut() {
            for (index, partition) in (0..).zip(&mut topic.partitions) {
                let Some(leader) = partition.leader else { continue };
                let may_tell = links.reach(nodes, leader, controller);
                let lacking = |node: &i32| partition.standing.followers.get(node)?.behind_since;
                let mut late = Vec::new();
                for node in partition.standing.in_sync.clone() {
                    let Some(since) = lacking(&node) else { continue };
                    let left = longest.saturating_sub(now.at.saturating_duration_since(since));
                    if left.is_zero() && may_tell {
                        late.push(node);
                    } else {
                        // One whose leader is cut off is looked at again when that may have changed.
                        let after = if left.is_zero() { longest } else { left };
                        next = Some(next.map_or(after, |next| next.min(after)));
                    }
                }
                late.iter().for_each(|node| partition.standing.drop_from_sync(*node));
                shrunk.extend((!late.is_empty()).then(|| (topic.name.clone(), index)));
            }
        }
        if let Some(after) = next {
            self.timers.set(Timer::Lag, now.at + after.max(Duration::from_millis(1)));
        }
        for (topic, index) in shrunk {
            let Some(partition) = self.topics.partition_mut(&topic, index) else { continue };
            let before = partition.readable();
            self.replicate(now, &topic, index, Reach::Quick);
            self.wake_readers(&topic, index, before);
        }
    }

    /// Whether what is written to a partition now reaches all that must have it, at once.
    pub(crate) fn reaches_in_sync(&self, topic: &str, index: i32) -> Result<(), ErrorCode> {
        let found = self.topics.get(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let partition = found.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let leader = partition.leader.ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        let standing = &partition.standing;
        let is_reached =
            |node: &i32| *node == leader || self.links.way(&self.nodes, leader, *node) != Way::Closed;
        match standing.has_enough_in_sync(&found.settings) && standing.in_sync.iter().all(is_reached) {
            true => Ok(()),
            false => Err(ErrorCode::NOT_ENOUGH_REPLICAS),
        }
    }
}

impl Partition {
    /// The leader may have something that this follower has not.
    fn falls_behind(&mut self, node: i32, now: Now) {
        let end = self.log.end_offset();
        if let Some(follower) = self.standing.followers.get_mut(&node).filter(|it| it.end < end) {
            follower.behind_since.get_or_insert(now.at);
        }
    }
}
