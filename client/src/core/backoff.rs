//! Growing waits with jitter (KIP-580), and the seeded random numbers that they and the choices of a machine use.

use std::time::Duration;

/// SplitMix64, seeded from outside: a machine's own random numbers, the same for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; zero when the bound is zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.next().checked_rem(bound).unwrap_or(0)).unwrap_or(0)
    }
}

/// Doubles from `base` to `max`, each wait up to a fifth longer or shorter by chance.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, attempts: 0 }
    }

    /// For the wait after this many failures.
    pub(crate) fn after((base, max): (Duration, Duration), attempts: u32) -> Self {
        Self { base, max, attempts }
    }

    /// The next wait.
    pub(crate) fn next(&mut self, random: &mut Random) -> Duration {
        let grown = self.base.saturating_mul(1u32.checked_shl(self.attempts).unwrap_or(u32::MAX));
        self.attempts = self.attempts.saturating_add(1);
        let per_mille = 800 + u32::try_from(random.below(401)).unwrap_or(0);
        grown.min(self.max).saturating_mul(per_mille) / 1000
    }

    /// It worked: the next wait is the first again.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_within_a_fifth() {
        let (mut backoff, mut random) = (Backoff::new(ms(100), ms(1000)), Random::new(7));
        for expected in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next(&mut random);
            assert!(
                wait >= ms(expected) * 8 / 10 && wait <= ms(expected) * 12 / 10,
                "{wait:?} for {expected}"
            );
        }
        backoff.reset();
        assert!(backoff.next(&mut random) <= ms(120));
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }
}
