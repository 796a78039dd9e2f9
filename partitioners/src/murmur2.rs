//! Java's hash of a key. Clients that agree with it: librdkafka's `murmur2` and `murmur2_random`, kafkajs from 2.0 on,
//! franz-go, kafka-python.
//!
//! The hash itself is the `murmur2` crate's; this module owns Java's seed and Java's way from a hash to a partition.

/// The 32-bit hash of `key` with Kafka's seed; Java prints the same bits as a signed number.
pub fn hash(key: &[u8]) -> u32 {
    ::murmur2::murmur2(key, ::murmur2::KAFKA_SEED)
}

/// The partition of `key`: the hash without its sign bit, modulo the number of partitions.
///
/// An empty key has a partition as any other key does; what a record without a key does is the caller's choice.
///
/// ```
/// assert_eq!(ottla_partitioners::murmur2::keyed(b"user-42", 97), 3);
/// ```
pub fn keyed(key: &[u8], partitions: i32) -> i32 {
    crate::masked(hash(key), partitions)
}
