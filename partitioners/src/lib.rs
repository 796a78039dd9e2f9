//! Which partition a record goes to.
//!
//! This crate owns the [`Partitioner`] trait, the hashes of the clients that people migrate from, and the spreading of
//! records without a key. It knows no sockets, clocks, locks or random source: whoever needs a random number hands one
//! in, so the same inputs choose the same partitions.
//!
//! Most programs need none of this: the default places keyed records as the Java client does and spreads the others.
//! A program that joins producers written with another client names its [`Scheme`]:
//!
//! ```
//! use ottla_partitioners::Scheme;
//!
//! let key = Some(&b"user-42"[..]);
//! assert_eq!(Scheme::Java.keyed(key, 97), Some(3));
//! assert_eq!(Scheme::LibrdkafkaConsistentRandom.keyed(key, 97), Some(27));
//! assert_eq!(Scheme::Java.keyed(None, 97), None); // free: the producer spreads it
//! ```
//!
//! Invariant: every function here answers with a partition from 0 up to the topic's count, or says that the choice is
//! free. A topic without partitions counts as one of one partition; the producer refuses it before it is sent anything.
// The ground floor: no clock, no socket, no lock, no map of random order.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod round_robin;
mod scheme;
mod sticky;
mod topic;

pub mod crc32;
pub mod fnv1a;
pub mod kafkajs;
pub mod murmur2;

pub use round_robin::RoundRobin;
pub use scheme::{Scheme, Spread};
pub use sticky::Sticky;
pub use topic::{Keyed, PartitionView, TopicView};

/// What a [`Partitioner`] answers for a record that may go anywhere: the producer then spreads it, sticky and weighted
/// by load as configured.
pub const ANY: i32 = -1;

/// Chooses the partition of a record that does not name one itself.
///
/// It is called on the task that sends, for each such record, and shared by all tasks of a producer: be quick, and do
/// not block. An answer that is neither [`ANY`] nor a partition of the topic fails that record and nothing else.
///
/// ```
/// use ottla_partitioners::{ANY, Keyed, Partitioner, TopicView, murmur2};
///
/// /// Audit records have partition 0 for themselves.
/// struct AuditApart;
///
/// impl Partitioner for AuditApart {
///     fn partition(&self, record: &Keyed<'_>, topic: &TopicView<'_>) -> i32 {
///         match record.key {
///             Some(key) if key.starts_with(b"audit/") => 0,
///             Some(key) => 1 + murmur2::keyed(key, topic.count() - 1),
///             None => ANY,
///         }
///     }
/// }
/// ```
pub trait Partitioner: Send + Sync + 'static {
    /// The partition for `record`, or [`ANY`].
    fn partition(&self, record: &Keyed<'_>, topic: &TopicView<'_>) -> i32;

    /// Says that a batch of this partition takes no more records. A partitioner that stays with one partition while a
    /// batch fills moves on here, so that its batches are full and its partitions are even (KIP-480). [`ANY`] does so
    /// without this.
    fn batch_sealed(&self, _topic: &str, _partition: i32) {}
}

/// The partition of a hash that Java's rule makes positive, by dropping the sign bit.
fn masked(hash: u32, partitions: i32) -> i32 {
    remainder(hash & 0x7fff_ffff, partitions)
}

/// The partition that an unsigned hash falls on.
fn remainder(hash: u32, partitions: i32) -> i32 {
    let count = u32::try_from(partitions).unwrap_or(0).max(1);
    i32::try_from(hash % count).expect("a remainder is below the count, which came from an i32")
}
