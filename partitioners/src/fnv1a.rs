//! Sarama's hash of a key, FNV-1a of 32 bits, which librdkafka offers as `fnv1a`.
//!
//! Sarama makes a hash positive in two ways, and both are in use: by its absolute value, as its default partitioner and
//! librdkafka do, or by dropping the sign bit, as its "reference" partitioner does. They place half of all keys differently.

const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// The FNV-1a hash of `key`.
pub fn hash(key: &[u8]) -> u32 {
    key.iter().fold(OFFSET, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(PRIME))
}

/// The partition of `key` as Sarama's `NewHashPartitioner` and librdkafka's `fnv1a` and `fnv1a_random` place it.
///
/// ```
/// assert_eq!(ottla_partitioners::fnv1a::keyed(b"a", 97), 49);
/// ```
pub fn keyed(key: &[u8], partitions: i32) -> i32 {
    crate::remainder(hash(key).cast_signed().unsigned_abs(), partitions)
}

/// The partition of `key` as Sarama's `NewReferenceHashPartitioner` places it.
///
/// ```
/// assert_eq!(ottla_partitioners::fnv1a::reference_keyed(b"a", 97), 17);
/// ```
pub fn reference_keyed(key: &[u8], partitions: i32) -> i32 {
    crate::masked(hash(key), partitions)
}
