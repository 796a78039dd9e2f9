//! When the records in front of the application were written.
//!
//! It owns the timestamps of fetched batches until all of their records are finished. It refuses to read a clock. Invariant:
//! it remembers a limited number of batches, the oldest ones: they tell how late a reader is.

use std::collections::VecDeque;

/// Batches that are remembered, at most.
const BATCHES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Times {
    /// The last offset of each batch, and the timestamp of its first record; rising.
    batches: VecDeque<(i64, i64)>,
}

impl Times {
    /// A batch was fetched that is not finished up to this offset.
    pub(crate) fn add(&mut self, last_offset: i64, timestamp: i64) {
        if self.batches.len() < BATCHES_MAX && timestamp >= 0 {
            self.batches.push_back((last_offset, timestamp));
        }
    }

    pub(crate) fn forget_before(&mut self, offset: i64) {
        while self.batches.front().is_some_and(|(last, _)| *last < offset) {
            self.batches.pop_front();
        }
    }

    /// The timestamp of the batch with the first record that is not finished, in milliseconds since the Unix epoch.
    pub(crate) fn oldest(&self, finished: i64) -> Option<i64> {
        self.batches.iter().find(|(last, _)| *last >= finished).map(|(_, timestamp)| *timestamp)
    }

    pub(crate) fn clear(&mut self) {
        self.batches.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_batch_that_is_not_finished_tells_the_time() {
        let mut times = Times::default();
        [(9, 100), (19, 200), (29, 150)].into_iter().for_each(|(last, time)| times.add(last, time));
        let of = |times: &Times| [0, 9, 10, 20, 30].map(|finished| times.oldest(finished));
        assert_eq!(of(&times), [Some(100), Some(100), Some(200), Some(150), None]);
        times.forget_before(10);
        assert_eq!(of(&times), [Some(200), Some(200), Some(200), Some(150), None]);
    }

    #[test]
    fn the_number_of_batches_is_limited_and_the_oldest_stay() {
        let mut times = Times::default();
        (0..5_000).for_each(|offset| times.add(offset, offset));
        assert_eq!((times.batches.len(), times.oldest(0)), (BATCHES_MAX, Some(0)));
    }
}
