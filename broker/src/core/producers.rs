//! What one partition remembers of the producers that write to it, and the verdict on their next batch.
//!
//! It follows Apache Kafka's rules: the last five batches of a producer are known, so a repeated one is answered with
//! the offset it got the first time; a producer that the partition does not know may start at any sequence; a new epoch
//! starts at zero; an older epoch is fenced. It refuses to know which transactions are open: that is [`super::stability`]'s.

use super::Now;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::records::add_sequence;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// Batches remembered for each producer. Clients keep at most as many in flight for a partition, or a retry of the
/// oldest could not be told from a gap.
pub(crate) const BATCHES_REMEMBERED: usize = 5;

/// The producer's side of a batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequenced {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: i32,
    /// Records in the batch, at least one.
    pub(crate) count: i32,
}

/// The first batch of a transaction, for which the coordinator was asked whether the partition takes part (KIP-890).
#[derive(Debug, Clone, Copy)]
struct Verifying {
    epoch: i16,
    /// The lowest sequence that was asked for: a batch that was refused must not be overtaken by the one after it.
    lowest: i32,
    /// Each transaction has an epoch of its own, so that the first sequence can only be zero.
    starts_at_zero: bool,
    asked: Instant,
}

/// An id that no producer had before.
pub(crate) fn fresh_id(next: &mut i64) -> i64 {
    let id = *next;
    *next += 1;
    id
}

/// What a marker must fit to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) coordinator_epoch: i32,
    /// Whether the epoch was raised for the marker (KIP-890), so that it must be above that of the records.
    pub(crate) bumped: bool,
}

impl Sequenced {
    /// The sequence of the last record; sequences go round from `i32::MAX` to zero.
    fn last(self) -> i32 {
        add_sequence(self.first, self.count - 1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remembered {
    first: i32,
    last: i32,
    pub(crate) base_offset: i64,
    pub(crate) append_time: i64,
}

/// One producer's last batches, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    /// When it wrote last.
    wrote: Instant,
    pub(crate) wrote_ms: i64,
    /// That of its last marker, or -1.
    pub(crate) coordinator_epoch: i32,
    batches: VecDeque<Remembered>,
}

impl Producer {
    fn new(epoch: i16, now: Now) -> Self {
        Self {
            epoch,
            wrote: now.at,
            wrote_ms: now.wall_ms,
            coordinator_epoch: -1,
            batches: VecDeque::with_capacity(BATCHES_REMEMBERED),
        }
    }

    fn write(&mut self, epoch: i16, now: Now) {
        (self.wrote, self.wrote_ms) = (now.at, now.wall_ms);
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    /// The sequence of the last record that was appended in this epoch.
    pub(crate) fn last_sequence(&self) -> Option<i32> {
        self.batches.back().map(|batch| batch.last)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The batch is the next one: append it, then tell `remember`.
    Next,
    /// The batch is in the log already, there.
    Duplicate(Remembered),
    Refused(ErrorCode),
}

/// Producers are forgotten in passing, when this many new ones have come, or as many as there were.
const SWEPT_AT_LEAST: usize = 64;

/// See the head of the module.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: BTreeMap<i64, Producer>,
    verifying: BTreeMap<i64, Verifying>,
    /// How many there were after those that had expired were last forgotten.
    swept: usize,
}

impl Producers {
    pub(crate) fn judge(&self, batch: Sequenced) -> Verdict {
        let known = self.known.get(&batch.producer_id);
        if known.is_some_and(|known| batch.epoch < known.epoch) {
            return Verdict::Refused(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        let is_same = |it: &&Remembered| it.first == batch.first && it.last == batch.last();
        let in_epoch = known.filter(|known| known.epoch == batch.epoch);
        if let Some(same) = in_epoch.and_then(|known| known.batches.iter().find(is_same)) {
            return Verdict::Duplicate(*same);
        }
        let has_batches = known.is_some_and(|known| !known.batches.is_empty());
        let overtakes = self.verifying.get(&batch.producer_id).is_some_and(|it| {
            batch.first > it.lowest || (it.starts_at_zero && !has_batches && batch.first != 0)
        });
        let follows = match (known, in_epoch) {
            (None, _) => true,
            (Some(_), None) => batch.first == 0,
            // A marker leaves an epoch without batches, which then starts at zero.
            (Some(_), Some(known)) => {
                known.last_sequence().map_or(0, |last| add_sequence(last, 1)) == batch.first
            }
        };
        match follows && !overtakes {
            true => Verdict::Next,
            false => Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        }
    }

    /// The epoch in which a producer wrote last.
    pub(crate) fn epoch_of(&self, producer_id: i64) -> Option<i16> {
        self.known.get(&producer_id).map(|known| known.epoch)
    }

    /// Where the last batch of a producer begins.
    pub(crate) fn last_offset_of(&self, producer_id: i64) -> Option<i64> {
        self.known.get(&producer_id)?.batches.back().map(|batch| batch.base_offset)
    }

    /// The coordinator is asked for the first batch of a transaction.
    pub(crate) fn verify(&mut self, batch: Sequenced, starts_at_zero: bool, now: Now) {
        let fresh = Verifying { epoch: batch.epoch, lowest: batch.first, starts_at_zero, asked: now.at };
        let verifying = self.verifying.entry(batch.producer_id).or_insert(fresh);
        if batch.epoch > verifying.epoch {
            (verifying.epoch, verifying.lowest) = (batch.epoch, batch.first);
        } else if batch.epoch == verifying.epoch {
            verifying.lowest = verifying.lowest.min(batch.first);
        }
    }

    /// Whether a marker may be written. Then [`Producers::remember_marker`] notes it.
    pub(crate) fn check_marker(&self, marker: Marker, is_open: bool) -> Result<(), ErrorCode> {
        let Some(known) = self.known.get(&marker.producer_id) else { return Ok(()) };
        // A marker that comes again finds its transaction ended; at the highest epoch none can be above.
        let may_repeat = !is_open || marker.epoch == i16::MAX;
        let needs_bump = marker.bumped && !may_repeat;
        if marker.epoch < known.epoch || (marker.epoch == known.epoch && needs_bump) {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if marker.coordinator_epoch < known.coordinator_epoch {
            return Err(ErrorCode::TRANSACTION_COORDINATOR_FENCED);
        }
        Ok(())
    }

    pub(crate) fn remember_marker(&mut self, marker: Marker, now: Now) {
        self.verifying.remove(&marker.producer_id);
        let new = || Producer::new(marker.epoch, now);
        let producer = self.known.entry(marker.producer_id).or_insert_with(new);
        producer.write(marker.epoch, now);
        producer.coordinator_epoch = marker.coordinator_epoch;
    }

    /// Forgets the producers that have written nothing since `expired`, if there are enough to make that worth it. One
    /// with an open transaction is kept.
    pub(crate) fn forget_idle(&mut self, expired: Option<Instant>, is_open: impl Fn(i64) -> bool) {
        if let Some(expired) = expired
            && self.known.len() + self.verifying.len() >= SWEPT_AT_LEAST.max(2 * self.swept)
        {
            self.known.retain(|id, producer| producer.wrote >= expired || is_open(*id));
            self.verifying.retain(|_, verifying| verifying.asked >= expired);
            self.swept = self.known.len() + self.verifying.len();
        }
    }

    /// Records that a batch which was judged `Next` is now in the log.
    pub(crate) fn remember(&mut self, batch: Sequenced, base_offset: i64, append_time: i64, now: Now) {
        self.verifying.remove(&batch.producer_id);
        let new = || Producer::new(batch.epoch, now);
        let producer = self.known.entry(batch.producer_id).or_insert_with(new);
        producer.write(batch.epoch, now);
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered {
            first: batch.first,
            last: batch.last(),
            base_offset,
            append_time,
        });
    }

    /// Forgets what these have written: the end of the log is gone, and what is left is to be remembered again.
    pub(crate) fn forget(&mut self, producers: &BTreeSet<i64>) {
        self.known.retain(|id, _| !producers.contains(id));
    }

    /// A producer writes without sequence numbers, as to the offsets of a group.
    pub(crate) fn begin(&mut self, producer_id: i64, epoch: i16, now: Now) {
        self.verifying.remove(&producer_id);
        let producer = self.known.entry(producer_id).or_insert_with(|| Producer::new(epoch, now));
        producer.write(epoch, now);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NEXT: &str = "next";
    const OUT_OF_ORDER: &str = "out of order";
    const FENCED: &str = "fenced";

    fn now(at: Instant) -> Now {
        Now { at, wall_ms: 0 }
    }

    /// Feeds (epoch, first sequence, count) and compares each verdict; what is `next` gets the offset of its row.
    fn check(rows: &[(i16, i32, i32, &str)]) {
        let mut producers = Producers::default();
        for (row, &(epoch, first, count, expected)) in rows.iter().enumerate() {
            let batch = Sequenced { producer_id: 9, epoch, first, count };
            let verdict = producers.judge(batch);
            let said = match verdict {
                Verdict::Next => NEXT.to_string(),
                Verdict::Duplicate(of) => format!("duplicate of {}", of.base_offset),
                Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) => OUT_OF_ORDER.to_string(),
                Verdict::Refused(ErrorCode::INVALID_PRODUCER_EPOCH) => FENCED.to_string(),
                Verdict::Refused(code) => panic!("unexpected {code:?}"),
            };
            assert_eq!(said, expected, "row {row}");
            if verdict == Verdict::Next {
                producers.remember(batch, i64::try_from(row).unwrap(), -1, now(Instant::now()));
            }
        }
    }

    #[test]
    fn a_producer_the_partition_does_not_know_may_start_anywhere() {
        check(&[(0, 700, 10, NEXT), (0, 710, 1, NEXT)]);
        check(&[(3, 0, 1, NEXT), (3, 1, 1, NEXT)]);
    }

    #[test]
    fn a_gap_is_out_of_order() {
        check(&[(0, 0, 10, NEXT), (0, 11, 1, OUT_OF_ORDER), (0, 10, 1, NEXT)]);
    }

    #[test]
    fn each_of_the_last_five_batches_is_known_again_with_its_offset() {
        check(&[
            (0, 0, 2, NEXT),
            (0, 2, 2, NEXT),
            (0, 4, 2, NEXT),
            (0, 6, 2, NEXT),
            (0, 8, 2, NEXT),
            (0, 0, 2, "duplicate of 0"),
            (0, 8, 2, "duplicate of 4"),
            (0, 10, 2, NEXT),
            (0, 0, 2, OUT_OF_ORDER),
            (0, 2, 2, "duplicate of 1"),
        ]);
    }

    #[test]
    fn a_batch_that_overlaps_one_in_the_log_is_out_of_order() {
        check(&[(0, 0, 5, NEXT), (0, 0, 3, OUT_OF_ORDER), (0, 3, 4, OUT_OF_ORDER)]);
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_starts_at_zero() {
        check(&[
            (1, 0, 5, NEXT),
            (0, 5, 1, FENCED),
            (2, 5, 1, OUT_OF_ORDER),
            (2, 0, 1, NEXT),
            (1, 5, 1, FENCED),
            (2, 1, 1, NEXT),
            (2, 0, 1, "duplicate of 3"),
        ]);
    }

    #[test]
    fn a_marker_of_a_newer_epoch_lets_sequences_begin_anew_and_one_of_the_same_epoch_does_not() {
        let mut producers = Producers::default();
        let batch = |epoch, first| Sequenced { producer_id: 9, epoch, first, count: 2 };
        let marker = |epoch| Marker { producer_id: 9, epoch, coordinator_epoch: 0, bumped: false };
        let out_of_order = Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        let at = now(Instant::now());
        producers.remember(batch(0, 0), 0, -1, at);
        producers.remember_marker(marker(0), at);
        assert_eq!(producers.judge(batch(0, 2)), Verdict::Next);
        assert_eq!(producers.judge(batch(0, 4)), out_of_order);
        producers.remember_marker(marker(1), at);
        assert_eq!(producers.judge(batch(1, 2)), out_of_order);
        assert_eq!(producers.judge(batch(1, 0)), Verdict::Next);
        assert_eq!(producers.judge(batch(0, 2)), Verdict::Refused(ErrorCode::INVALID_PRODUCER_EPOCH));
    }

    #[test]
    fn sequences_go_round_from_the_largest_to_zero() {
        check(&[(0, i32::MAX - 1, 2, NEXT), (0, 0, 1, NEXT), (0, 1, 1, NEXT)]);
        check(&[
            (0, i32::MAX, 3, NEXT),
            (0, 1, 1, OUT_OF_ORDER),
            (0, 2, 1, NEXT),
            (0, i32::MAX, 3, "duplicate of 0"),
        ]);
    }

    #[test]
    fn producers_that_were_idle_too_long_are_forgotten_once_there_are_many() {
        let start = Instant::now();
        let mut producers = Producers::default();
        let write = |producers: &mut Producers, producer_id, at| {
            let batch = Sequenced { producer_id, epoch: 0, first: 0, count: 1 };
            producers.remember(batch, 0, -1, now(start + Duration::from_secs(at)));
        };
        for id in 0..100 {
            write(&mut producers, id, 1);
            producers.forget_idle(Some(start), |_| false);
        }
        write(&mut producers, 100, 9);
        producers.forget_idle(None, |_| false);
        assert_eq!(producers.iter().count(), 101, "all wrote since");
        for id in 101..200 {
            write(&mut producers, id, 9);
            producers.forget_idle(Some(start + Duration::from_secs(5)), |id| id == 7);
        }
        let left: Vec<i64> = producers.iter().map(|(id, _)| id).collect();
        assert_eq!(left, std::iter::once(7).chain(100..200).collect::<Vec<_>>(), "7 has an open transaction");
    }
}
