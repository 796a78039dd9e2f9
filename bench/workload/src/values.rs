//! The values that are sent: JSON-like text of an exact size, the same in every process and for every client.
//!
//! They are prepared before anything is measured. The pool is about 8 MiB, more than a batch by far, so that a batch
//! compresses as logs and events do (about 2.5 times with lz4, 4 times with zstd) and not because it repeats itself.

use std::fmt::Write;

const POOL_BYTES: usize = 8 << 20;

const FIELDS: [&str; 12] = [
    "user", "event", "region", "status", "device", "tier", "method", "source", "target", "kind", "stage",
    "reason",
];

const WORDS: [&str; 24] = [
    "checkout",
    "payment",
    "inventory",
    "session",
    "eu-west-1",
    "us-east-2",
    "ap-south-1",
    "created",
    "updated",
    "deleted",
    "failed",
    "pending",
    "mobile",
    "desktop",
    "premium",
    "standard",
    "GET",
    "POST",
    "timeout",
    "retry",
    "cart",
    "search",
    "profile",
    "gateway",
];

/// A pool of values of one size.
pub struct Values(Vec<Vec<u8>>);

impl Values {
    /// Prepares values of `size` bytes, no more than `records` of them: a short run pays for few.
    pub fn new(size: usize, records: u64) -> Values {
        let wanted = usize::try_from(records).unwrap_or(usize::MAX);
        let count = (POOL_BYTES / size.max(1)).clamp(4096, 100_000).min(wanted.max(1));
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        Values((0..count).map(|number| value(size, number, &mut random)).collect())
    }

    /// The value of the record with this number.
    #[inline]
    pub fn get(&self, number: u64) -> &[u8] {
        &self.0[(number % self.0.len() as u64) as usize]
    }
}

/// Folds a value to eight bytes. The xor of all folds does not depend on the order in which partitions are read, so
/// that consumers can be compared; to compute it costs a few bytes a cycle.
#[inline]
pub fn fold(value: &[u8]) -> u64 {
    let (words, rest) = value.as_chunks::<8>();
    let whole = words.iter().fold(0, |sum, word| sum ^ u64::from_le_bytes(*word));
    rest.iter().enumerate().fold(whole, |sum, (place, byte)| sum ^ u64::from(*byte) << (8 * place))
}

fn value(size: usize, number: usize, random: &mut Random) -> Vec<u8> {
    let mut text = format!("{{\"id\":{},\"ts\":{}", random.below(1 << 44), 1_760_000_000_000 + number * 7);
    while text.len() < size {
        let field = FIELDS[random.below(FIELDS.len())];
        let written = match random.below(4) {
            0 => write!(text, ",\"{field}_id\":\"{:08x}\"", random.below(1 << 32)),
            _ => write!(text, ",\"{field}\":\"{}\"", WORDS[random.below(WORDS.len())]),
        };
        written.expect("a String takes what is written to it");
    }
    let mut value = text.into_bytes();
    value.truncate(size);
    if let Some(last) = value.last_mut() {
        *last = b'}';
    }
    value
}

/// Xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
        mixed as usize % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_asked_for_and_repeat_from_run_to_run() {
        for size in [1, 100, 1024] {
            let (once, again) = (Values::new(size, 1000), Values::new(size, 1000));
            assert!((0..1000).all(|number| once.get(number).len() == size));
            assert!((0..1000).all(|number| once.get(number) == again.get(number)));
        }
    }

    #[test]
    fn no_two_values_of_a_batch_are_equal() {
        let values = Values::new(100, 5000);
        let distinct: std::collections::BTreeSet<&[u8]> =
            (0..2000).map(|number| values.get(number)).collect();
        assert_eq!(distinct.len(), 2000);
    }

    #[test]
    fn a_fold_notices_each_byte() {
        let mut value = *b"eleven byte";
        let whole = fold(&value);
        for place in 0..value.len() {
            value[place] ^= 1;
            assert_ne!(fold(&value), whole, "byte {place}");
            value[place] ^= 1;
        }
    }
}
