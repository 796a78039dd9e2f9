//! Seeded randomness: SplitMix64, one independent stream for each purpose.
//!
//! A purpose of its own for each stream means that one more draw in one place leaves every other place as it was.

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `purpose` in the run of `seed`.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let label = purpose.bytes().fold(0, |hash, byte| mix(hash, u64::from(byte)));
        let mut random = Random(mix(seed, label));
        random.draw();
        random
    }

    /// The next number of the stream, any of the 2^64.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end - 1`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }

    /// True in `percent` of a hundred draws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the choices, which must not be empty.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        let place = usize::try_from(self.below(choices.len() as u64));
        choices[place.expect("below the length of a slice")]
    }
}

/// Folds one more number into a hash.
pub(crate) fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x2127_599b_f432_5c37).rotate_left(23)
}

/// Folds bytes into one number.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let rest = words.remainder().iter().fold(bytes.len() as u64, |hash, byte| mix(hash, u64::from(*byte)));
    words.fold(rest, |hash, word| mix(hash, u64::from_le_bytes(word.try_into().expect("chunks of eight"))))
}
