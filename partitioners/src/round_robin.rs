//! One record to each partition in turn.
//!
//! It keeps the last partition it chose and nothing else. Invariant: between two records for the same partition every
//! other available partition gets one.

use crate::TopicView;

/// Takes the available partitions of one topic in turn, as Java's `RoundRobinPartitioner` does.
///
/// Every record goes elsewhere, so batches fill slowly: [`crate::Sticky`] spreads as evenly with fewer requests.
///
/// ```
/// use ottla_partitioners::{PartitionView, RoundRobin, TopicView};
///
/// let partitions = [0, 1, 2].map(|id| PartitionView { id, leader: Some(1), ..Default::default() });
/// let topic = TopicView { name: "orders", partitions: &partitions };
/// let mut turn = RoundRobin::default();
/// assert_eq!([(); 4].map(|()| turn.choose(&topic)), [0, 1, 2, 0]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    last: Option<i32>,
}

impl RoundRobin {
    /// The next partition that can be written to; when there is none, the next of all.
    pub fn choose(&mut self, topic: &TopicView<'_>) -> i32 {
        let count = topic.partitions.len();
        let start = self.last.and_then(|last| usize::try_from(last).ok()).map_or(0, |last| last + 1);
        let in_turn = || (start..start + count).filter_map(|place| topic.partitions.get(place % count));
        let next = in_turn().find(|partition| partition.is_available()).or_else(|| in_turn().next());
        let id = next.map_or(0, |partition| partition.id);
        self.last = Some(id);
        id
    }
}
