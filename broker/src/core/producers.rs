//! What one partition remembers of the producers that write to it, and the verdict on their next batch.
//!
//! It follows Apache Kafka's rules: the last five batches of a producer are known, so a repeated one is answered with
//! the offset it got the first time; a producer that the partition does not know may start at any sequence; a new epoch
//! starts at zero; an older epoch is fenced. It refuses to know of transactions, which are not served yet.

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::records::add_sequence;
use std::collections::{BTreeMap, VecDeque};
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
    batches: VecDeque<Remembered>,
}

impl Producer {
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
    /// How many there were after those that had expired were last forgotten.
    swept: usize,
}

impl Producers {
    pub(crate) fn judge(&self, batch: Sequenced) -> Verdict {
        let Some(known) = self.known.get(&batch.producer_id) else { return Verdict::Next };
        if batch.epoch < known.epoch {
            return Verdict::Refused(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if batch.epoch > known.epoch {
            return match batch.first {
                0 => Verdict::Next,
                _ => Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            };
        }
        if let Some(same) = known.batches.iter().find(|it| it.first == batch.first && it.last == batch.last())
        {
            return Verdict::Duplicate(*same);
        }
        match known.last_sequence() {
            Some(last) if add_sequence(last, 1) != batch.first => {
                Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            }
            _ => Verdict::Next,
        }
    }

    /// Forgets the producers that have written nothing since `expired`, if there are enough to make that worth it.
    pub(crate) fn forget_idle(&mut self, expired: Option<Instant>) {
        if let Some(expired) = expired
            && self.known.len() >= SWEPT_AT_LEAST.max(2 * self.swept)
        {
            self.known.retain(|_, producer| producer.wrote >= expired);
            self.swept = self.known.len();
        }
    }

    /// Records that a batch which was judged `Next` is now in the log.
    pub(crate) fn remember(&mut self, batch: Sequenced, base_offset: i64, append_time: i64, now: Instant) {
        let producer = self.known.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            wrote: now,
            batches: VecDeque::with_capacity(BATCHES_REMEMBERED),
        });
        producer.wrote = now;
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.batches.clear();
        }
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
                producers.remember(batch, i64::try_from(row).unwrap(), -1, Instant::now());
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
            producers.remember(batch, 0, -1, start + Duration::from_secs(at));
        };
        for id in 0..100 {
            write(&mut producers, id, 1);
            producers.forget_idle(Some(start));
        }
        write(&mut producers, 100, 9);
        producers.forget_idle(None);
        assert_eq!(producers.iter().count(), 101, "all wrote since");
        for id in 101..200 {
            write(&mut producers, id, 9);
            producers.forget_idle(Some(start + Duration::from_secs(5)));
        }
        let left: Vec<i64> = producers.iter().map(|(id, _)| id).collect();
        assert_eq!(left, (100..200).collect::<Vec<_>>());
    }
}
