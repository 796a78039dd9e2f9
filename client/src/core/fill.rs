//! How much goes into a batch of a topic: learnt from what its batches compress to, and from what was refused.
//!
//! It owns two numbers of a topic, and refuses to know batches and brokers. A batch is full when what it will be on the wire
//! is `batch.size`, so its records may be more before compression (KIP-126's estimate, and its steps). Invariant: no
//! batch is made larger than `max.request.size` allows if it does not compress at all.

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    /// Bytes on the wire for each [`ONE`] before compression.
    ratio: usize,
    /// A batch of twice this size was refused, and none of this size since.
    batch_bytes_max: usize,
    /// Batches that filled it and were taken since it was changed.
    fitted: u32,
}

/// A ratio of 1.
const ONE: usize = 1_024;
/// By how much a batch that compressed worse than expected raises the estimate at least: 5 %.
const WORSE: usize = ONE / 20;
/// After so many batches that were taken larger ones are tried, by an eighth: topics get other limits, rarely.
const FITTED_MAX: u32 = 100;
/// By how much one that compressed better lowers it at most: half a percent.
const BETTER: usize = ONE / 200;

impl Default for Fill {
    fn default() -> Self {
        Self { ratio: ONE, batch_bytes_max: usize::MAX, fitted: 0 }
    }
}

impl Fill {
    /// A batch of `before` bytes has `after` bytes on the wire.
    pub(crate) fn compressed(&mut self, before: usize, after: usize) {
        let seen = (after.saturating_mul(ONE) / before.max(1)).clamp(1, ONE);
        self.ratio = match seen > self.ratio {
            true => seen.max(self.ratio + WORSE).min(ONE),
            false => seen.max(self.ratio.saturating_sub(BETTER)),
        };
    }

    /// What `bytes` of records are likely to be on the wire.
    #[inline]
    pub(crate) fn estimate(&self, bytes: usize) -> usize {
        bytes.saturating_mul(self.ratio) / ONE
    }

    /// At how many bytes before compression a batch is full. `request_max`: what it may be if it does not compress.
    pub(crate) fn limit(&self, batch_size: usize, request_max: usize) -> usize {
        let target = batch_size.min(self.batch_bytes_max);
        // Five percent stay free for batches that compress worse than the last ones.
        let cautious = self.ratio + self.ratio / 20;
        if cautious >= ONE {
            target
        } else {
            (target.saturating_mul(ONE) / cautious).min(request_max.max(target))
        }
    }

    /// A batch of so many bytes on the wire was too large for the topic. Its limit is not told: half of it is tried.
    pub(crate) fn refused(&mut self, bytes: usize) {
        self.batch_bytes_max = self.batch_bytes_max.min(bytes / 2);
        self.fitted = 0;
    }

    /// A batch of so many bytes on the wire was taken.
    pub(crate) fn fitted(&mut self, bytes: usize) {
        if bytes < self.batch_bytes_max / 2 {
            return;
        }
        self.fitted += 1;
        if self.fitted == FITTED_MAX {
            self.fitted = 0;
            self.batch_bytes_max = self.batch_bytes_max.saturating_add(self.batch_bytes_max / 8);
        }
    }

    /// How many bytes of records go into each part of a batch that was refused, which had `records` bytes of them, and
    /// `bytes` on the wire.
    pub(crate) fn part(&self, records: usize, bytes: usize) -> usize {
        let target = self.batch_bytes_max.min(bytes / 2);
        records.saturating_mul(target) / bytes.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: usize = 1 << 20;

    #[test]
    fn batches_that_compress_to_a_quarter_grow_until_they_fill_batch_size() {
        let mut fill = Fill::default();
        assert_eq!(fill.limit(16_384, REQUEST), 16_384);
        (0..300).for_each(|_| fill.compressed(10_000, 2_500));
        let limit = fill.limit(16_384, REQUEST);
        assert!(fill.estimate(limit) <= 16_384 && fill.estimate(limit) > 15_000, "{limit}");
    }

    #[test]
    fn one_batch_that_compresses_badly_counts_more_than_many_good_ones() {
        let mut fill = Fill::default();
        (0..300).for_each(|_| fill.compressed(10_000, 1_000));
        fill.compressed(10_000, 10_200);
        assert_eq!(fill.limit(16_384, REQUEST), 16_384);
    }

    #[test]
    fn no_batch_outgrows_a_request() {
        let mut fill = Fill::default();
        (0..300).for_each(|_| fill.compressed(10_000, 10));
        assert_eq!(fill.limit(16_384, 100_000), 100_000);
        // A batch.size above max.request.size is the user's word: a request then holds one batch.
        assert_eq!(Fill::default().limit(200_000, 100_000), 200_000);
    }

    /// Or a topic whose limit was raised would get small batches for good.
    #[test]
    fn batches_that_fit_let_larger_ones_be_tried_again() {
        let mut fill = Fill::default();
        fill.refused(8_000);
        (0..99).for_each(|_| fill.fitted(3_900));
        assert_eq!(fill.limit(16_384, REQUEST), 4_000);
        // Small ones prove nothing.
        (0..1_000).for_each(|_| fill.fitted(1_000));
        assert_eq!(fill.limit(16_384, REQUEST), 4_000);
        fill.fitted(3_900);
        assert_eq!(fill.limit(16_384, REQUEST), 4_500);
        while fill.limit(16_384, REQUEST) < 16_384 {
            let full = fill.limit(16_384, REQUEST);
            fill.fitted(full);
        }
        fill.refused(16_384);
        assert_eq!(fill.limit(16_384, REQUEST), 8_192);
    }

    #[test]
    fn what_was_refused_is_halved_until_it_fits() {
        let mut fill = Fill::default();
        fill.refused(8_000);
        assert_eq!((fill.limit(16_384, REQUEST), fill.part(8_000, 8_000)), (4_000, 4_000));
        fill.refused(4_000);
        // A batch of the old size, compressed to a half, goes to the new size at once.
        assert_eq!((fill.limit(16_384, REQUEST), fill.part(16_000, 8_000)), (2_000, 4_000));
    }
}
