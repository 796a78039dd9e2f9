//! A record as the application sees it, lent or owned.
//!
//! It owns no state: a lent record borrows the consumer, so the compiler knows that it is finished when the next is asked
//! for.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::records::{Header, Headers, TimestampType};
use ottla_protocol::wire::Str;

use super::{CommitOutcome, Door, commit};
use crate::core::TopicPartition;
use crate::core::positions::Lease;
use crate::error::Error;

/// A record on loan from a [`Consumer`](crate::Consumer), until the next is asked for. Nothing of it is copied.
///
/// ```no_run
/// # async fn run(mut consumer: ottla::Consumer) -> Result<(), ottla::Error> {
/// while let Some(record) = consumer.recv().await? {
///     println!("{}-{} at {}: {:?}", record.topic(), record.partition(), record.offset(), record.value());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Record<'a> {
    pub(super) inner: ottla_protocol::records::Record<'a>,
    pub(super) place: &'a TopicPartition,
    pub(super) lease: &'a Lease,
    pub(super) door: &'a Arc<Door>,
    pub(super) timestamp_type: TimestampType,
}

impl std::fmt::Debug for Record<'_> {
    /// The place, never the payload.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({} at {})", self.place, self.inner.offset)
    }
}

impl<'a> Record<'a> {
    /// The topic.
    pub fn topic(&self) -> &'a str {
        &self.place.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.place.partition
    }

    /// The offset.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.inner.offset
    }

    /// Milliseconds since the epoch, by the clock that [`is_append_time`](Self::is_append_time) tells; -1 for none.
    pub fn timestamp(&self) -> i64 {
        self.inner.timestamp
    }

    /// Whether the timestamp is the broker's, of when it appended the record; else it is the producer's.
    pub fn is_append_time(&self) -> bool {
        self.timestamp_type == TimestampType::LogAppend
    }

    /// The key. An empty key is not the same as none.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.inner.key
    }

    /// The value; `None` is a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.inner.value
    }

    /// The headers, in order, read as they are asked for.
    pub fn headers(&self) -> Headers<'a> {
        self.inner.headers
    }

    /// A copy that outlives the loan. It pins no fetched memory.
    pub fn to_owned(&self) -> OwnedRecord {
        let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let header = |h: Header<'_>| (Str::from(h.key), copy(h.value));
        OwnedRecord {
            topic: self.place.topic.clone(),
            partition: self.place.partition,
            offset: self.inner.offset,
            timestamp: self.inner.timestamp,
            key: copy(self.inner.key),
            value: copy(self.inner.value),
            headers: self.inner.headers.map(header).collect(),
        }
    }

    /// Finishes this record, and commits what is finished of all partitions, this one included. Waits for the group's
    /// answer, at most `default.api.timeout.ms`. Dropping the future leaves the commit on its way.
    ///
    /// # Errors
    /// As [`Consumer::commit`](crate::Consumer::commit).
    pub async fn commit(&self) -> Result<CommitOutcome, Error> {
        self.lease.finish(self.inner.offset.saturating_add(1));
        commit(self.door).await
    }
}

/// A record of its own, from [`Consumer::recv_batch`](crate::Consumer::recv_batch) or [`Record::to_owned`].
///
/// ```no_run
/// # async fn run(mut consumer: ottla::Consumer) -> Result<(), ottla::Error> {
/// if let Some(record) = consumer.recv().await? {
///     let owned = record.to_owned();
///     tokio::spawn(async move { println!("{:?}", owned.value()) });
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    topic: Str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(Str, Option<Bytes>)>,
}

impl OwnedRecord {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The offset.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since the epoch; -1 for none.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The key. An empty key is not the same as none.
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// The value; `None` is a tombstone.
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// The headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&Bytes>)> {
        self.headers.iter().map(|(key, value)| (key.as_str(), value.as_ref()))
    }
}
