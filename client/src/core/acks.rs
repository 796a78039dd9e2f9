//! Records that were acknowledged out of order: how far everything is done.
//!
//! It owns the stretches of a partition that are done behind the first record that is not. It refuses to know records: an
//! acknowledgement covers the offsets from the end of the record before to its own end, so what was never delivered
//! (markers, aborted records, what compaction took) holds nothing up. Invariant: no stretch touches another.

use std::collections::BTreeMap;

/// Offsets up to `end` that are done, and the records among them.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    end: i64,
    records: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// By their starts.
    done: BTreeMap<i64, Stretch>,
    /// The end of the last chunk that was delivered whole, until everything in front of it is done.
    chunk_end: Option<i64>,
}

impl Acks {
    /// Takes a stretch in, when everything below `done` is done. Returns how far everything is done now, and how many records
    /// that adds.
    pub(crate) fn add(&mut self, done: i64, from: i64, end: i64, records: u32) -> (i64, u32) {
        if end <= from || end <= done {
            return (done, 0);
        }
        let next = self.done.remove(&end);
        let merged = Stretch {
            end: next.map_or(end, |next| next.end),
            records: records.saturating_add(next.map_or(0, |next| next.records)),
        };
        if from <= done {
            return (merged.end, merged.records);
        }
        match self.done.range_mut(..from).next_back().filter(|(_, before)| before.end == from) {
            Some((_, before)) => {
                before.end = merged.end;
                before.records = before.records.saturating_add(merged.records);
            }
            None => {
                self.done.insert(from, merged);
            }
        }
        (done, 0)
    }

    /// A chunk was delivered to its end.
    pub(crate) fn end_chunk(&mut self, end: i64) {
        self.chunk_end = Some(end);
    }

    /// Whether everything is done up to the end of a delivered chunk; said once.
    pub(crate) fn take_end(&mut self, done: i64) -> bool {
        self.chunk_end.take_if(|end| *end <= done).is_some()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::backoff::Random;

    #[test]
    fn the_first_gap_holds_what_is_behind_it() {
        let mut acks = Acks::default();
        assert_eq!(acks.add(10, 12, 13, 1), (10, 0));
        assert_eq!(acks.add(10, 11, 12, 1), (10, 0));
        assert_eq!(acks.add(10, 14, 15, 1), (10, 0));
        assert_eq!(acks.add(10, 10, 11, 1), (13, 3));
        assert_eq!(acks.add(13, 10, 11, 1), (13, 0), "a second time changes nothing");
        assert_eq!(acks.add(13, 13, 14, 1), (15, 2));
        assert!(acks.done.is_empty());
    }

    /// Fault 67, F2.
    #[test]
    fn in_any_order_no_more_is_done_than_the_first_open_record_allows() {
        for seed in 0..300 {
            let mut dice = Random::new(seed);
            // Records with gaps in front of some of them.
            let mut ends = vec![0_i64];
            for _ in 0..1 + dice.below(40) {
                let gap = i64::try_from(dice.below(3)).unwrap();
                ends.push(ends[ends.len() - 1] + 1 + gap);
            }
            let mut open: Vec<(i64, i64)> = ends.windows(2).map(|pair| (pair[0], pair[1])).collect();
            let (mut acks, mut done, mut records, all) = (Acks::default(), 0, 0, open.len());
            while !open.is_empty() {
                let (from, to) = open.remove(dice.below(open.len()));
                let (now_done, more) = acks.add(done, from, to, 1);
                (done, records) = (now_done, records + more);
                let first_open = open.iter().map(|(from, _)| *from).min();
                assert_eq!(Some(done), first_open.or(ends.last().copied()), "seed {seed}");
            }
            assert!(acks.done.is_empty(), "seed {seed}");
            assert_eq!(usize::try_from(records).unwrap(), all, "seed {seed}");
        }
    }

    #[test]
    fn the_end_of_a_chunk_is_told_when_everything_in_front_of_it_is_done() {
        let mut acks = Acks::default();
        acks.end_chunk(20);
        assert!(!acks.take_end(19));
        assert!(acks.take_end(20));
        assert!(!acks.take_end(20));
    }
}
