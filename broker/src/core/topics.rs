//! Topics and their partitions: the log of the leader, and what it remembers of producers, transactions and leader epochs.
//!
//! What the other replicas have is [`super::replicas`]'. Changing a leader raises the leader epoch and notes where in the log
//! the new epoch begins (KIP-101, KIP-320).
//!
//! Invariant: leader epochs of a partition only grow.

use super::log::compaction::Judge;
use super::log::storage::Storage;
use super::log::{Appended, Log};
use super::producers::Producers;
use super::replicas::Standing;
use super::settings::TopicSettings;
use super::stability::Stability;
use super::{Now, Ticket};
use ottla_protocol::records::{BatchHeader, set_base_offset, set_leader_epoch, set_log_append_time};
use ottla_protocol::wire::{Str, Uuid};
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

/// The topic whose partitions' leaders are the group coordinators.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The topic whose partitions' leaders are the transaction coordinators.
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Str,
    pub(crate) id: Uuid,
    pub(crate) settings: TopicSettings,
    pub(crate) partitions: Vec<Partition>,
}

impl Topic {
    pub(crate) fn is_internal(&self) -> bool {
        matches!(&*self.name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC)
    }

    /// The partition with this index, if the topic has it.
    pub(crate) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }
}

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) replicas: Vec<i32>,
    pub(crate) leader: Option<i32>,
    pub(crate) leader_epoch: i32,
    /// Each epoch that wrote something, or may, and the offset at which it began.
    pub(super) epochs: Vec<(i32, i64)>,
    /// The log of the node that leads, or led last.
    pub(crate) log: Log,
    pub(crate) producers: Producers,
    pub(crate) stability: Stability,
    pub(crate) standing: Standing,
    /// Fetches that wait for this partition.
    pub(crate) waiting: Vec<Ticket>,
    /// Produces that wait until its replicas have what they wrote.
    pub(crate) unacknowledged: Vec<Ticket>,
}

/// The end of a leader epoch in the log, as OffsetForLeaderEpoch answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochEnd {
    pub(crate) epoch: i32,
    pub(crate) end_offset: i64,
}

/// How far the log can be read, in bytes from its first batch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readable {
    pub(crate) all: u64,
    pub(crate) committed: u64,
}

impl Partition {
    pub(crate) fn new(replicas: Vec<i32>, storage: Box<dyn Storage>, is_alive: impl Fn(i32) -> bool) -> Self {
        let leader = replicas.iter().copied().find(|node| is_alive(*node));
        Self {
            standing: Standing::new(&replicas, leader, is_alive),
            replicas,
            leader,
            leader_epoch: 0,
            epochs: vec![(0, 0)],
            log: Log::new(storage),
            producers: Producers::default(),
            stability: Stability::default(),
            waiting: Vec::new(),
            unacknowledged: Vec::new(),
        }
    }

    /// A batch that was recovered is of this epoch.
    pub(crate) fn saw_epoch(&mut self, epoch: i32, began: i64) {
        if self.epochs.last().is_none_or(|(last, _)| epoch > *last) {
            self.epochs.push((epoch, began));
        }
    }

    /// Takes up the leadership after everything was recovered, in an epoch above all that there were. Every replica has what
    /// was recovered: they died together.
    pub(crate) fn take_up(&mut self, known_epoch: i32, is_alive: impl Fn(i32) -> bool) {
        let seen = self.epochs.last().map_or(0, |(epoch, _)| *epoch);
        self.leader_epoch = known_epoch.max(seen);
        let leader = self.replicas.iter().copied().find(|node| is_alive(*node));
        self.standing = Standing::new(&self.replicas, leader, is_alive);
        self.follow_all();
        self.begin_epoch(leader);
    }

    /// Another leader, or none: another epoch.
    pub(super) fn begin_epoch(&mut self, leader: Option<i32>) {
        if self.leader == leader {
            return;
        }
        self.leader = leader;
        self.leader_epoch += 1;
        let start = self.log.end_offset();
        // Epochs that wrote nothing leave no trace.
        self.epochs.retain(|(_, began)| *began < start);
        self.epochs.push((self.leader_epoch, start));
    }

    /// Appends a checked batch, stamped with what the broker decides. `append_time` replaces the times of its records.
    pub(crate) fn append(
        &mut self,
        batch: &[u8],
        what: Appended,
        append_time: Option<i64>,
        now: Now,
        settings: &TopicSettings,
    ) -> io::Result<i64> {
        let epoch = self.leader_epoch;
        self.log.append(batch, what, now.wall_ms, settings, &mut |stored, base_offset| {
            let stamped = set_base_offset(stored, base_offset)
                .and_then(|()| set_leader_epoch(stored, epoch))
                .and_then(|()| append_time.map_or(Ok(()), |time| set_log_append_time(stored, time)));
            debug_assert!(stamped.is_ok(), "the header was parsed, so it is there");
        })
    }

    /// Deletes what is too old or too much; whether the log begins elsewhere now.
    pub(crate) fn retain(&mut self, now_ms: i64, settings: &TopicSettings) -> bool {
        let before = self.log.start_offset();
        if let Err(error) = self.log.retain(now_ms, self.standing.high_watermark, settings) {
            tracing::error!(%error, "cannot delete a segment");
        }
        self.start_moved();
        self.log.start_offset() > before
    }

    /// Lets the log begin at this offset.
    pub(crate) fn delete_before(&mut self, offset: i64) -> io::Result<()> {
        let deleted = self.log.delete_before(offset);
        self.start_moved();
        deleted
    }

    /// Forgets what lies before the start of the log.
    fn start_moved(&mut self) {
        let start = self.log.start_offset();
        self.stability.forget_before(start);
        let gone = self.epochs.partition_point(|(_, began)| *began <= start).saturating_sub(1);
        self.epochs.drain(..gone);
        if let Some((_, began)) = self.epochs.first_mut() {
            *began = (*began).max(start);
        }
    }

    /// Compacts what is decided, if that is worth it.
    pub(crate) fn compact(&mut self, now_ms: i64, settings: &TopicSettings) {
        let stable = self.last_stable_offset();
        let Some(until) = self.log.compactable(stable, now_ms, settings) else { return };
        let Self { log, stability, producers, .. } = self;
        let is_aborted = |batch: &BatchHeader| stability.is_aborted(batch);
        let is_last =
            |batch: &BatchHeader| producers.last_offset_of(batch.producer_id) == Some(batch.base_offset);
        let judge = Judge { is_aborted: &is_aborted, is_last: &is_last };
        let mut gone = Vec::new();
        if let Err(error) = log.compact(until, &judge, now_ms, settings, &mut gone) {
            tracing::error!(%error, "cannot compact");
        }
        stability.forget(&gone);
    }

    /// The first offset that a reader of committed records does not see yet.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.stable_below(self.standing.high_watermark)
    }

    /// Whether the high watermark has reached what was there when the leader was elected, so that it is behind none before.
    pub(crate) fn knows_high_watermark(&self) -> bool {
        self.epochs.last().is_none_or(|(_, began)| *began <= self.standing.high_watermark)
    }

    /// As [`Partition::last_stable_offset`], for whoever knows this high watermark.
    pub(crate) fn stable_below(&self, high_watermark: i64) -> i64 {
        let unstable = self.stability.first_unstable();
        // Its first records may have been deleted.
        let stable = unstable.map_or(high_watermark, |offset| offset.max(self.log.start_offset()));
        stable.min(high_watermark)
    }

    /// Forgets producers that have written nothing since then, and whoever asked to write in a transaction and did not.
    pub(crate) fn forget_idle_producers(&mut self, expired: Option<Instant>) {
        self.producers.forget_idle(expired, |id| self.stability.opened_at(id).is_some());
    }

    /// Whether a producer has written to a transaction that is still open.
    pub(crate) fn has_open_transaction(&self, producer_id: i64, epoch: i16) -> bool {
        self.stability.opened_at(producer_id).is_some() && self.producers.epoch_of(producer_id) == Some(epoch)
    }

    /// Whether a reader of committed records gets this batch.
    pub(crate) fn is_committed(&self, batch: &BatchHeader) -> bool {
        batch.base_offset < self.last_stable_offset() && !self.stability.is_aborted(batch)
    }

    /// Bytes of the log that readers see: of all records, and of decided ones.
    pub(crate) fn readable(&self) -> Readable {
        let position = |offset| match offset == self.log.end_offset() {
            true => self.log.end_position(),
            false => self.log.position_of(offset),
        };
        Readable {
            all: position(self.standing.high_watermark),
            committed: position(self.last_stable_offset()),
        }
    }

    /// Where `epoch` ended: `None` for an epoch that this log has not reached.
    pub(crate) fn epoch_end(&self, epoch: i32) -> Option<EpochEnd> {
        if epoch == self.leader_epoch {
            return Some(EpochEnd { epoch, end_offset: self.log.end_offset() });
        }
        let next = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let end_offset = self.epochs.get(next)?.1;
        let epoch =
            next.checked_sub(1).and_then(|floor| self.epochs.get(floor)).map_or(epoch, |(known, _)| *known);
        Some(EpochEnd { epoch, end_offset })
    }

    /// The epoch under which the record at `offset` was written.
    pub(crate) fn epoch_of(&self, offset: i64) -> i32 {
        let next = self.epochs.partition_point(|(_, began)| *began <= offset);
        next.checked_sub(1).and_then(|at| self.epochs.get(at)).map_or(-1, |(epoch, _)| *epoch)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<Str, Topic>,
    names: BTreeMap<Uuid, Str>,
    changes: u64,
}

impl Topics {
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    pub(crate) fn name_of(&self, id: Uuid) -> Option<&Str> {
        self.names.get(&id)
    }

    pub(crate) fn partition_mut(&mut self, topic: &str, index: i32) -> Option<&mut Partition> {
        self.by_name.get_mut(topic)?.partition_mut(index)
    }

    /// A partition, and the settings of its topic.
    pub(crate) fn parts_mut(&mut self, topic: &str, index: i32) -> Option<(&TopicSettings, &mut Partition)> {
        let topic = self.by_name.get_mut(topic)?;
        Some((&topic.settings, topic.partitions.get_mut(usize::try_from(index).ok()?)?))
    }

    /// How often a topic came, went or grew.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn insert(&mut self, topic: Topic) {
        self.changes += 1;
        self.names.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), topic);
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Topic> {
        let topic = self.by_name.remove(name)?;
        self.changes += 1;
        self.names.remove(&topic.id);
        Some(topic)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    /// A topic that gets more partitions.
    pub(crate) fn grow(&mut self, name: &str) -> Option<&mut Topic> {
        self.changes += 1;
        self.by_name.get_mut(name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.by_name.values_mut()
    }
}

/// Whether Kafka allows a topic of this name.
pub(crate) fn is_legal_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::super::log::storage::Memory;
    use super::super::settings::Given;
    use super::*;

    fn write(partition: &mut Partition, offsets: i32) {
        let settings = TopicSettings::new(Given::new(), &Given::new()).unwrap();
        let what = Appended { offsets, max_timestamp: 0 };
        partition.log.append(&[0; 61], what, 0, &settings, &mut |_, _| {}).unwrap();
    }

    fn check_end(partition: &Partition, epoch: i32, expected: Option<(i32, i64)>) {
        let expected = expected.map(|(epoch, end_offset)| EpochEnd { epoch, end_offset });
        assert_eq!(partition.epoch_end(epoch), expected, "end of epoch {epoch}");
    }

    #[test]
    fn the_end_of_an_epoch_is_where_the_next_one_that_wrote_began() {
        let mut partition = Partition::new(vec![1, 2], Box::new(Memory::default()), |_| true);
        write(&mut partition, 10);
        partition.begin_epoch(Some(2));
        partition.begin_epoch(Some(1));
        write(&mut partition, 5);
        assert_eq!((partition.leader, partition.leader_epoch), (Some(1), 2));
        check_end(&partition, 0, Some((0, 10)));
        check_end(&partition, 1, Some((0, 10)));
        check_end(&partition, 2, Some((2, 15)));
        check_end(&partition, 3, None);
        assert_eq!((partition.epoch_of(9), partition.epoch_of(10)), (0, 2));
    }

    #[test]
    fn naming_the_leader_again_changes_nothing() {
        let mut partition = Partition::new(vec![1, 2], Box::new(Memory::default()), |node| node == 2);
        assert_eq!(partition.leader, Some(2));
        partition.begin_epoch(Some(2));
        assert_eq!(partition.leader_epoch, 0);
        partition.begin_epoch(None);
        assert_eq!((partition.leader, partition.leader_epoch), (None, 1));
    }

    #[test]
    fn names_are_held_to_kafkas_alphabet() {
        for name in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert!(is_legal_name(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(!is_legal_name(name), "{name}");
        }
    }
}
