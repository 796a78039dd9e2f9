//! Fills one partition's batch before it goes to the next partition: fewer, fuller requests (KIP-480).
//!
//! How long it stays depends on bytes, never on how fast a broker is, so that each partition gets its share (KIP-794);
//! only the choice of the next one may look at queues. It refuses to know batches: the producer says when one is
//! sealed. Invariant: no stay is longer than twice the batch size and one record.

use std::sync::Arc;

use crate::{PartitionView, TopicView};

/// Where the records of one topic go that may go anywhere.
///
/// The producer asks for the [`current`](Self::current) partition, [`choose`](Self::choose)s one when there is none, and
/// reports what it [`produced`](Self::produced) and which batch it sealed.
///
/// ```
/// use ottla_partitioners::{PartitionView, Sticky, TopicView};
///
/// let partitions = [0, 1, 2].map(|id| PartitionView { id, leader: Some(1), ..Default::default() });
/// let topic = TopicView { name: "orders", partitions: &partitions };
/// let mut sticky = Sticky::new(16_384);
/// let random = u64::MAX / 2; // from the producer's random source
///
/// assert_eq!(sticky.choose(&topic, random), 1);
/// sticky.produced(9_000);
/// assert_eq!(sticky.current(), Some(1));
/// sticky.batch_sealed(1, false); // sent early, because linger.ms was over
/// assert_eq!(sticky.current(), Some(1));
/// sticky.produced(9_000);
/// sticky.batch_sealed(1, false);
/// assert_eq!(sticky.current(), None); // it had its batch.size: choose again
/// ```
#[derive(Clone, Debug)]
pub struct Sticky {
    batch_bytes: u64,
    adaptive: bool,
    rack: Option<Arc<str>>,
    current: Option<i32>,
    produced: u64,
}

impl Sticky {
    /// Stays with a partition for about `batch_bytes`, the producer's `batch.size`, and then goes to any available one.
    pub const fn new(batch_bytes: usize) -> Sticky {
        let batch_bytes = if batch_bytes == 0 { 1 } else { batch_bytes as u64 };
        Sticky { batch_bytes, adaptive: false, rack: None, current: None, produced: 0 }
    }

    /// Whether the next partition is chosen by load (`partitioner.adaptive.partitioning.enable`): the more whole batches
    /// wait for a partition, the rarer it is chosen, but none is never chosen.
    pub fn adaptive(self, adaptive: bool) -> Sticky {
        Sticky { adaptive, ..self }
    }

    /// Prefers partitions whose leader is in this rack (`partitioner.rack.aware` with `client.rack`, KIP-1123). When none of
    /// those is available, all others are as good.
    pub fn rack(self, rack: Option<Arc<str>>) -> Sticky {
        Sticky { rack, ..self }
    }

    /// The partition to append to, or None when it is time to [`choose`](Self::choose) one.
    pub const fn current(&self) -> Option<i32> {
        self.current
    }

    /// Goes to another partition, or by chance stays: `random` is uniform over all 64-bit numbers.
    ///
    /// Partitions without a leader are left out, unless there is no other.
    pub fn choose(&mut self, topic: &TopicView<'_>, random: u64) -> i32 {
        let partition = self.weighted(topic, random).or_else(|| uniform(topic, random));
        let id = partition.map_or(0, |partition| partition.id);
        self.current = Some(id);
        self.produced = 0;
        id
    }

    /// Counts a record appended to the current partition: its encoded size before compression.
    pub fn produced(&mut self, bytes: usize) {
        self.produced = self.produced.saturating_add(bytes as u64);
        // An open batch is filled before the partition is left. Where something keeps one open for ever, for example
        // keyed records, twice the size is enough.
        if self.produced >= self.batch_bytes.saturating_mul(2) {
            self.current = None;
        }
    }

    /// Says that a batch of `partition` takes no more records, and whether the next record did not fit into it.
    ///
    /// A batch that left early, because `linger.ms` was over, does not end the stay before `batch_bytes` are produced:
    /// otherwise a slow partition, whose batches wait and grow, would get more than its share.
    pub fn batch_sealed(&mut self, partition: i32, full: bool) {
        if full || self.produced >= self.batch_bytes {
            self.leave(partition);
        }
    }

    /// Leaves `partition` if it is the current one, for example because it lost its leader.
    pub fn leave(&mut self, partition: i32) {
        if self.current == Some(partition) {
            self.current = None;
        }
    }

    /// KIP-794: the weight of a partition is the longest queue plus one less its own queue.
    fn weighted<'a>(&self, topic: &TopicView<'a>, random: u64) -> Option<&'a PartitionView> {
        let is_near = |partition: &PartitionView| self.rack.is_some() && partition.rack == self.rack;
        let near_only = topic.available().any(is_near);
        let available =
            || topic.partitions.iter().filter(|it| it.is_available() && (!near_only || is_near(it)));
        // Capped, so that no sum of weights overflows.
        let queue = |partition: &PartitionView| match self.adaptive {
            true => (partition.queued_bytes as u64 / self.batch_bytes).min(u64::from(u32::MAX)),
            false => 0,
        };
        let longest = available().map(queue).max()?;
        let weight = |partition: &PartitionView| longest - queue(partition) + 1;
        let mut point = below(available().map(weight).sum(), random);
        available().find(|partition| {
            let hit = point < weight(partition);
            point = point.saturating_sub(weight(partition));
            hit
        })
    }
}

/// Any partition of the topic.
fn uniform<'a>(topic: &TopicView<'a>, random: u64) -> Option<&'a PartitionView> {
    let place = below(topic.partitions.len() as u64, random);
    topic.partitions.get(usize::try_from(place).ok()?)
}

/// A number from 0 up to `limit`, as uniform as `random` is over all 64-bit numbers.
fn below(limit: u64, random: u64) -> u64 {
    let scaled = (u128::from(limit) * u128::from(random)) >> 64;
    u64::try_from(scaled).expect("the high half of a 128-bit product has 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(queues: &[Option<usize>]) -> Vec<PartitionView> {
        let view = |(id, queue): (usize, &Option<usize>)| PartitionView {
            id: id.try_into().expect("few partitions"),
            leader: queue.map(|_| 1),
            rack: None,
            queued_bytes: queue.unwrap_or(0),
        };
        queues.iter().enumerate().map(view).collect()
    }

    /// The partitions chosen by `slots` random numbers at equal distances.
    fn check_choices(sticky: Sticky, queues: &[Option<usize>], expected: &[i32]) {
        let partitions = partitions(queues);
        let topic = TopicView { name: "t", partitions: &partitions };
        let step = u64::MAX / expected.len() as u64;
        let chosen: Vec<i32> = (0..expected.len() as u64)
            .map(|slot| sticky.clone().choose(&topic, slot * step + step / 2))
            .collect();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn without_load_every_available_partition_is_as_likely() {
        check_choices(Sticky::new(100), &[Some(900), Some(0), None, Some(5)], &[0, 0, 1, 1, 3, 3]);
    }

    #[test]
    fn by_load_the_weights_are_those_of_kip_794() {
        // Queues of 0, 3 and 1 batches weigh 4, 1 and 3.
        check_choices(
            Sticky::new(100).adaptive(true),
            &[Some(99), Some(300), Some(150)],
            &[0, 0, 0, 0, 1, 2, 2, 2],
        );
    }

    #[test]
    fn a_partition_without_a_leader_has_no_weight() {
        check_choices(Sticky::new(100).adaptive(true), &[None, Some(300), Some(300), None], &[1, 1, 2, 2]);
    }

    #[test]
    fn the_own_rack_comes_first_while_a_leader_is_there() {
        let racks = |racks: [Option<&str>; 4]| -> Vec<PartitionView> {
            let view = |(id, rack): (i32, Option<&str>)| PartitionView {
                id,
                leader: Some(1),
                rack: rack.map(Arc::from),
                queued_bytes: 0,
            };
            (0..).zip(racks).map(view).collect()
        };
        let check = |partitions: &[PartitionView], expected: [i32; 4]| {
            let sticky = Sticky::new(100).rack(Some(Arc::from("a")));
            let topic = TopicView { name: "t", partitions };
            let chosen =
                [0, 1, 2, 3].map(|slot| sticky.clone().choose(&topic, u64::MAX / 4 * slot + u64::MAX / 8));
            assert_eq!(chosen, expected);
        };
        let mut partitions = racks([Some("b"), Some("a"), None, Some("a")]);
        check(&partitions, [1, 1, 3, 3]);
        partitions[1].leader = None;
        check(&partitions, [3, 3, 3, 3]);
        partitions[3].leader = None;
        check(&partitions, [0, 0, 2, 2]);
        // Without a rack of our own, no partition is near, not even one whose leader has none either.
        let topic = TopicView { name: "t", partitions: &racks([None, Some("a"), None, None]) };
        assert_eq!(Sticky::new(100).choose(&topic, u64::MAX / 2), 1);
    }

    #[test]
    fn without_any_leader_one_of_all_partitions_is_chosen() {
        check_choices(Sticky::new(100).adaptive(true), &[None, None, None], &[0, 1, 2]);
    }

    #[test]
    fn a_topic_without_partitions_counts_as_one_partition() {
        check_choices(Sticky::new(100), &[], &[0, 0]);
    }

    #[test]
    fn the_extremes_of_the_random_source_choose_the_first_and_the_last() {
        let partitions = partitions(&[Some(usize::MAX), Some(0), Some(7)]);
        let topic = TopicView { name: "t", partitions: &partitions };
        let mut sticky = Sticky::new(0).adaptive(true);
        assert_eq!(sticky.choose(&topic, 0), 0);
        assert_eq!(sticky.choose(&topic, u64::MAX), 2);
    }

    fn on_partition_one() -> Sticky {
        let mut sticky = Sticky::new(100);
        sticky.current = Some(1);
        sticky
    }

    #[test]
    fn a_full_batch_ends_the_stay_though_the_last_record_did_not_fit() {
        let mut sticky = on_partition_one();
        sticky.produced(95);
        sticky.batch_sealed(1, true);
        assert_eq!(sticky.current(), None);
    }

    #[test]
    fn an_early_batch_does_not_end_the_stay() {
        let mut sticky = on_partition_one();
        sticky.produced(99);
        sticky.batch_sealed(1, false);
        assert_eq!(sticky.current(), Some(1));
    }

    #[test]
    fn an_open_batch_is_filled_before_the_partition_is_left() {
        let mut sticky = on_partition_one();
        sticky.produced(60);
        sticky.batch_sealed(1, false);
        sticky.produced(60);
        assert_eq!(sticky.current(), Some(1));
        sticky.batch_sealed(1, false);
        assert_eq!(sticky.current(), None);
    }

    #[test]
    fn twice_the_batch_size_ends_the_stay_whatever_is_open() {
        let mut sticky = on_partition_one();
        sticky.produced(199);
        assert_eq!(sticky.current(), Some(1));
        sticky.produced(1);
        assert_eq!(sticky.current(), None);
    }

    #[test]
    fn the_batches_of_other_partitions_do_not_matter() {
        let mut sticky = on_partition_one();
        sticky.produced(150);
        sticky.batch_sealed(2, true);
        sticky.leave(2);
        assert_eq!(sticky.current(), Some(1));
        sticky.leave(1);
        assert_eq!(sticky.current(), None);
    }

    #[test]
    fn a_new_stay_counts_from_zero() {
        let partitions = partitions(&[Some(0)]);
        let topic = TopicView { name: "t", partitions: &partitions };
        let mut sticky = on_partition_one();
        sticky.produced(200);
        sticky.choose(&topic, 0);
        sticky.produced(99);
        sticky.batch_sealed(0, false);
        assert_eq!(sticky.current(), Some(0));
    }
}
