//! Partitions that move to other nodes (KIP-455): the replicas that come, those that go, and when the move is over.
//!
//! A move is over once every replica of its target is in sync; until then the partition has those that go as well. It refuses
//! to know how replicas get in sync.

use super::topics::Partition;
use super::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;

/// A move that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    /// The replicas that there were when it began.
    before: Vec<i32>,
    /// The replicas that it leads to.
    target: Vec<i32>,
}

impl Partition {
    /// The replicas that come with a move, and those that go.
    pub(crate) fn moving(&self) -> Option<(Vec<i32>, Vec<i32>)> {
        let Move { before, target } = self.standing.moving.as_ref()?;
        let missing =
            |of: &[i32], other: &[i32]| of.iter().copied().filter(|it| !other.contains(it)).collect();
        Some((missing(target, before), missing(before, target)))
    }

    /// The replicas without those that a move brings: what it began with.
    pub(crate) fn settled_replicas(&self) -> Vec<i32> {
        self.standing.moving.as_ref().map_or(&self.replicas, |moving| &moving.before).clone()
    }

    /// Whether one of these replicas has everything.
    fn check_left(&self, replicas: &[i32]) -> Result<(), ErrorCode> {
        match self.standing.in_sync.iter().any(|node| replicas.contains(node)) {
            true => Ok(()),
            false => Err(ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        }
    }
}

impl Cluster {
    /// Begins to move a partition to these nodes, in place of whatever move there was.
    ///
    /// # Errors
    /// INVALID_REPLICA_ASSIGNMENT when nobody would be left who has everything.
    pub(crate) fn reassign(
        &mut self,
        now: Now,
        topic: &str,
        index: i32,
        target: Vec<i32>,
    ) -> Result<(), ErrorCode> {
        let partition =
            self.topics.partition_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let before = partition.settled_replicas();
        let mut all = target.clone();
        all.extend(before.iter().filter(|node| !target.contains(node)));
        partition.check_left(&all)?;
        partition.standing.moving = Some(Move { before, target });
        self.keep_replicas(now, topic, index, all);
        Ok(())
    }

    /// Ends a move where it began.
    ///
    /// # Errors
    /// NO_REASSIGNMENT_IN_PROGRESS, or as [`Cluster::reassign`].
    pub(crate) fn cancel_reassignment(&mut self, now: Now, topic: &str, index: i32) -> Result<(), ErrorCode> {
        let partition =
            self.topics.partition_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let before = match &partition.standing.moving {
            None => return Err(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS),
            Some(moving) => moving.before.clone(),
        };
        partition.check_left(&before)?;
        partition.standing.moving = None;
        self.keep_replicas(now, topic, index, before);
        Ok(())
    }

    /// Ends the move of a partition, if all that it leads to are in sync.
    pub(super) fn settle_reassignment(&mut self, now: Now, topic: &str, index: i32) {
        let Some(partition) = self.topics.partition_mut(topic, index) else { return };
        let is_in_sync = |node: &i32| partition.standing.in_sync.contains(node);
        let Some(moving) = partition.standing.moving.take_if(|moving| moving.target.iter().all(is_in_sync))
        else {
            return;
        };
        self.keep_replicas(now, topic, index, moving.target);
    }

    /// Lets a partition have these replicas and no others. One that leads and goes hands over first, if anybody can take over.
    fn keep_replicas(&mut self, now: Now, topic: &str, index: i32, replicas: Vec<i32>) {
        let Some(partition) = self.topics.get(topic).and_then(|topic| topic.partition(index)) else { return };
        if partition.leader.is_some_and(|leader| !replicas.contains(&leader)) {
            let is_ready = |node: &&i32| partition.standing.in_sync.contains(node) && self.is_alive(**node);
            let next = replicas.iter().find(is_ready).copied();
            self.set_leader(now, topic, index, next);
        }
        if let Some(partition) = self.topics.partition_mut(topic, index) {
            partition.keep(replicas);
        }
        self.note_partition(now, topic, index);
        let before = self.topics.partition_mut(topic, index).map(|partition| partition.readable());
        self.replicate(now, topic, index, super::replication::Reach::Quick);
        if let Some(before) = before {
            self.wake_readers(topic, index, before);
        }
    }
}
