//! The key hash of kafkajs before 2.0, its `LegacyPartitioner` since. From 2.0 on its default is [`crate::murmur2`].
//!
//! It means to be murmur2 and is not, in two ways that decide where keys live: products are floating-point numbers, so
//! that they lose their low bits above 2^53, and a last group of fewer than four bytes is mixed in as if it were whole,
//! before it is mixed in as the rest.

const SEED: i32 = 0x9747_b28c_u32.cast_signed();
const FACTOR: i64 = 0x5bd1_e995;

/// The hash of `key`, as the bits of JavaScript's signed number.
pub fn hash(key: &[u8]) -> u32 {
    // A key of 4 GiB cannot be sent; its length only has to go into the hash without a panic.
    let length = i32::try_from(key.len()).unwrap_or(i32::MAX);
    let mut hash = key.chunks(4).fold(SEED ^ length, |hash, group| {
        let mixed = times_factor(little_endian(group));
        times_factor(hash) ^ times_factor(mixed ^ shifted(mixed, 24))
    });
    let (_, rest) = key.as_chunks::<4>();
    if !rest.is_empty() {
        hash = times_factor(hash ^ little_endian(rest));
    }
    let hash = times_factor(hash ^ shifted(hash, 13));
    (hash ^ shifted(hash, 15)).cast_unsigned()
}

/// The partition of `key` as kafkajs 1.x and its `LegacyPartitioner` place it.
///
/// ```
/// assert_eq!(ottla_partitioners::kafkajs::keyed(b"user-42", 97), 17);
/// ```
pub fn keyed(key: &[u8], partitions: i32) -> i32 {
    crate::masked(hash(key), partitions)
}

/// A product as JavaScript has it: rounded to a double, of which the next operator takes the low 32 bits.
fn times_factor(number: i32) -> i32 {
    let product = (i64::from(number) * FACTOR) as f64;
    product as i64 as i32
}

/// JavaScript's `>>>`.
fn shifted(number: i32, bits: u32) -> i32 {
    (number.cast_unsigned() >> bits).cast_signed()
}

/// Up to four bytes as a number, the first one lowest.
fn little_endian(bytes: &[u8]) -> i32 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | i32::from(byte))
}
