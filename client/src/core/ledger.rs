//! Every batch that is not settled, in the order in which they were opened.
//!
//! It owns the numbers of batches and their deadlines. All batches have the same time to live, so the oldest is always
//! the next to run out, and a flush is the question whether the oldest is young enough. Invariant: the entry in front is
//! unsettled.

use std::collections::VecDeque;
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The number of the entry in front.
    first: u64,
    entries: VecDeque<Option<Entry>>,
}

/// An unsettled batch: when its time runs out, and the partition that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) expires: Instant,
    pub(crate) partition: usize,
    /// How many parts of it are not settled; 1 for a batch that is whole.
    pub(crate) parts: usize,
}

impl Ledger {
    /// Enters a batch and gives it its number.
    pub(crate) fn open(&mut self, entry: Entry) -> u64 {
        self.entries.push_back(Some(entry));
        self.next_number() - 1
    }

    /// The number of the batch that is opened next: all earlier ones have lower numbers.
    pub(crate) fn next_number(&self) -> u64 {
        self.first + u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
    }

    fn entry(&mut self, number: u64) -> Option<&mut Option<Entry>> {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok())?;
        self.entries.get_mut(at)
    }

    /// A batch, or a part of one, was split: so many more parts have to be settled.
    pub(crate) fn split(&mut self, number: u64, more: usize) {
        if let Some(Some(entry)) = self.entry(number) {
            entry.parts += more;
        }
    }

    /// The deliveries of the batch have been told, or of one of its parts.
    pub(crate) fn settle(&mut self, number: u64) {
        if let Some(slot) = self.entry(number)
            && let Some(entry) = slot
        {
            entry.parts = entry.parts.saturating_sub(1);
            if entry.parts == 0 {
                *slot = None;
            }
        }
        self.advance();
    }

    /// The time of the batch is over, and so it is for all of its parts.
    pub(crate) fn expire(&mut self, number: u64) {
        if let Some(slot) = self.entry(number) {
            *slot = None;
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// Whether all batches below `number` are settled.
    pub(crate) fn is_settled_below(&self, number: u64) -> bool {
        self.first >= number
    }

    /// An unsettled batch.
    pub(crate) fn get(&self, number: u64) -> Option<Entry> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get(at).copied().flatten()
    }

    /// When the oldest batch runs out of time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.entries.front().copied().flatten().map(|entry| entry.expires)
    }

    /// The oldest batch, if its time is over.
    pub(crate) fn expired(&self, now: Instant) -> Option<(u64, usize)> {
        let entry = self.entries.front().copied().flatten()?;
        (entry.expires <= now).then_some((self.first, entry.partition))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flush_ends_when_the_older_batches_are_settled_in_whatever_order() {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        let entry = |n: u64| Entry { expires: start + Duration::from_secs(n), partition: 0, parts: 1 };
        let numbers: Vec<u64> = (1..=3).map(|n| ledger.open(entry(n))).collect();
        let flush = ledger.next_number();
        ledger.open(entry(4));
        ledger.settle(numbers[1]);
        ledger.settle(numbers[2]);
        assert!(!ledger.is_settled_below(flush));
        assert_eq!(ledger.deadline(), Some(entry(1).expires));
        ledger.settle(numbers[0]);
        assert!(ledger.is_settled_below(flush));
        assert!(!ledger.is_settled_below(ledger.next_number()));
        assert_eq!(ledger.expired(start + Duration::from_secs(4)), Some((3, 0)));
    }

    #[test]
    fn a_batch_that_was_split_is_settled_with_its_last_part() {
        let mut ledger = Ledger::default();
        let number = ledger.open(Entry { expires: Instant::now(), partition: 0, parts: 1 });
        let flush = ledger.next_number();
        ledger.split(number, 2);
        ledger.settle(number);
        ledger.settle(number);
        assert!(!ledger.is_settled_below(flush), "one of three parts is open");
        ledger.settle(number);
        assert!(ledger.is_settled_below(flush));
    }
}
