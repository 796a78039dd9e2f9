//! How far a partition is decided: the transactions that are open in it, and those that were aborted.
//!
//! The offset before which everything is decided is the last stable offset; readers of committed records see no further,
//! and skip what the list of aborted transactions names. It refuses to know the records, and who coordinates.
//!
//! Invariant: `aborted` is in the order of the markers, so its last offsets rise.

use ottla_protocol::records::BatchHeader;
use std::collections::{BTreeMap, BTreeSet};

/// A transaction that was aborted, as it stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// That of its marker.
    last_offset: i64,
}

/// See the head of the module.
#[derive(Debug, Default)]
pub(crate) struct Stability {
    /// The first offset of each open transaction, by producer id.
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
    /// By the marker that ends it: where a transaction begins, as long as a replica in sync lacks the marker.
    ending: BTreeMap<i64, i64>,
}

impl Stability {
    /// Where the open transaction of a producer begins.
    pub(crate) fn opened_at(&self, producer_id: i64) -> Option<i64> {
        self.open.get(&producer_id).copied()
    }

    /// A transactional batch was appended: it begins a transaction, unless one is open.
    pub(crate) fn wrote(&mut self, producer_id: i64, base_offset: i64) {
        self.open.entry(producer_id).or_insert(base_offset);
    }

    /// The marker at this offset ends the producer's transaction. One that wrote nothing here leaves no trace.
    pub(crate) fn ended(&mut self, producer_id: i64, marker_offset: i64, committed: bool) {
        let Some(first_offset) = self.open.remove(&producer_id) else { return };
        self.ending.insert(marker_offset, first_offset);
        if !committed {
            let at = self.aborted.partition_point(|it| it.last_offset < marker_offset);
            self.aborted.insert(at, Aborted { producer_id, first_offset, last_offset: marker_offset });
        }
    }

    /// Every replica in sync has what lies before this offset.
    pub(crate) fn replicated(&mut self, high_watermark: i64) {
        while let Some(first) = self.ending.first_entry().filter(|first| *first.key() < high_watermark) {
            first.remove();
        }
    }

    /// The log was cut at this offset, and with it what these producers have written. What is left of that is to be told again.
    pub(crate) fn cut(&mut self, offset: i64, producers: &BTreeSet<i64>) {
        self.open.retain(|id, _| !producers.contains(id));
        self.aborted.retain(|it| !producers.contains(&it.producer_id));
        self.ending.retain(|marker, _| *marker < offset);
    }

    /// The first offset that is not decided yet, for all that its replicas know.
    pub(crate) fn first_unstable(&self) -> Option<i64> {
        self.open.values().chain(self.ending.values()).copied().min()
    }

    /// Whether a batch belongs to a transaction that was aborted.
    pub(crate) fn is_aborted(&self, batch: &BatchHeader) -> bool {
        let offset = batch.base_offset;
        let mut reaching = self.aborted(offset, offset + 1);
        batch.transactional && reaching.any(|aborted| aborted.producer_id == batch.producer_id)
    }

    /// The log begins here now.
    pub(crate) fn forget_before(&mut self, start: i64) {
        let gone = self.aborted.partition_point(|it| it.last_offset < start);
        self.aborted.drain(..gone);
    }

    /// The markers at these offsets are not there any more. Without them readers could not tell where a transaction ended.
    pub(crate) fn forget(&mut self, markers: &[i64]) {
        self.aborted.retain(|it| !markers.contains(&it.last_offset));
    }

    /// The aborted transactions with records in `from..to`.
    pub(crate) fn aborted(&self, from: i64, to: i64) -> impl Iterator<Item = Aborted> {
        let first = self.aborted.partition_point(|it| it.last_offset < from);
        self.aborted[first..].iter().copied().filter(move |it| it.first_offset < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_open_transaction_bounds_what_is_stable() {
        let mut stability = Stability::default();
        assert_eq!(stability.first_unstable(), None);
        stability.wrote(1, 10);
        stability.wrote(2, 20);
        stability.wrote(1, 30);
        assert_eq!(stability.first_unstable(), Some(10));
        stability.ended(1, 40, true);
        assert_eq!(stability.first_unstable(), Some(10), "its marker may still be lost");
        stability.replicated(40);
        assert_eq!(stability.first_unstable(), Some(10));
        stability.replicated(41);
        assert_eq!(stability.first_unstable(), Some(20));
        stability.ended(2, 41, false);
        stability.ended(3, 42, false);
        stability.replicated(43);
        assert_eq!(stability.first_unstable(), None);
    }

    #[test]
    fn a_range_names_the_aborted_transactions_that_reach_into_it() {
        let mut stability = Stability::default();
        for (producer, first, marker) in [(1, 0, 5), (2, 2, 9), (3, 7, 12)] {
            stability.wrote(producer, first);
            stability.ended(producer, marker, false);
        }
        let named = |from, to| stability.aborted(from, to).map(|it| it.producer_id).collect::<Vec<_>>();
        assert_eq!(named(0, 100), [1, 2, 3]);
        assert_eq!(named(6, 100), [2, 3]);
        assert_eq!(named(5, 7), [1, 2]);
        assert_eq!(named(13, 100), [0i64; 0]);
    }
}
