//! What a partitioner may see: the record's key and size, and the topic's partitions as the metadata has them now.
//!
//! It refuses to know values and headers: a partitioner that reads payloads would tie placement to a format.
//! Invariant: partitions stand in the order of their ids, from 0 without a gap, whether they have a leader or not.

use std::sync::Arc;

/// A record as a partitioner sees it.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    /// The topic it is sent to.
    pub topic: &'a str,
    /// The encoded key. An empty key is a key: `Some(&[])` is not `None`.
    pub key: Option<&'a [u8]>,
    /// Length of the encoded value in bytes, 0 for a tombstone.
    pub value_bytes: usize,
}

/// A topic as a partitioner sees it.
#[derive(Clone, Copy, Debug)]
pub struct TopicView<'a> {
    /// The topic's name.
    pub name: &'a str,
    /// All partitions, also those without a leader, in the order of their ids.
    pub partitions: &'a [PartitionView],
}

/// A partition as a partitioner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionView {
    /// The partition's number, its place in [`TopicView::partitions`].
    pub id: i32,
    /// The leader's node id. None while there is no leader, or while the leader has not taken records for longer than
    /// `partitioner.availability.timeout.ms`.
    pub leader: Option<i32>,
    /// The leader's rack, where brokers have racks.
    pub rack: Option<Arc<str>>,
    /// Bytes of this producer's full batches that wait to be sent to the partition.
    pub queued_bytes: usize,
}

impl TopicView<'_> {
    /// How many partitions the topic has, with or without a leader: what a key is hashed over.
    ///
    /// ```
    /// # use ottla_partitioners::{PartitionView, TopicView};
    /// let partitions = [PartitionView { id: 0, ..Default::default() }, PartitionView { id: 1, ..Default::default() }];
    /// let topic = TopicView { name: "orders", partitions: &partitions };
    /// assert_eq!(topic.count(), 2);
    /// assert!(topic.contains(1) && !topic.contains(2) && !topic.contains(-1));
    /// assert_eq!(topic.available().count(), 0);
    /// ```
    pub fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// Whether `partition` is one of the topic's: the check of a partition that a record names itself.
    pub fn contains(&self, partition: i32) -> bool {
        (0..self.count()).contains(&partition)
    }

    /// The partitions that can be written to now, in the order of their ids.
    pub fn available(&self) -> impl Iterator<Item = &PartitionView> {
        self.partitions.iter().filter(|partition| partition.is_available())
    }
}

impl PartitionView {
    /// Whether the partition can be written to now.
    pub fn is_available(&self) -> bool {
        self.leader.is_some()
    }
}
