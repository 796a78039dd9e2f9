//! A record as the application sees it, lent or owned.
//!
//! It owns no state: a lent record borrows the consumer, so the compiler knows that it is finished when the next is asked
//! for.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use ottla_protocol::records::{Header, Headers, Record as Inner, TimestampType};
use ottla_protocol::wire::Str;

use super::{CommitOutcome, Door, commit};
use crate::config::Done;
use crate::core::TopicPartition;
use crate::core::held::{Charge, Held};
use crate::core::positions::Lease;
use crate::driver::shared::Then;
use crate::error::Error;
use crate::format::{Encoded, HeadersOf, Part};

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
    pub(super) inner: Inner<'a>,
    pub(super) place: &'a TopicPartition,
    pub(super) lease: &'a Arc<Lease>,
    pub(super) door: &'a Arc<Door>,
    pub(super) held: &'a Arc<Held>,
    pub(super) timestamp_type: TimestampType,
    /// The end of the record before: an acknowledgement covers what lies between.
    pub(super) from: i64,
    pub(super) done: Done,
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

    /// The key or the value with its headers, as a format reads it; `None` where it is null.
    pub fn encoded(&self, part: Part) -> Option<Encoded<'_>> {
        let bytes = match part {
            Part::Key => self.inner.key,
            Part::Value => self.inner.value,
        };
        let headers = HeadersOf::Lent(self.inner.headers);
        Some(Encoded { topic: self.topic(), part, bytes: bytes?, headers })
    }

    /// A copy that outlives the loan. It pins no fetched memory; its own counts in `fetch.buffer.bytes` until the record, its
    /// clones, and the [`Bytes`] of its key, value and headers are dropped.
    pub fn to_owned(&self) -> OwnedRecord {
        let mut rest = self.copy();
        let mut cut = |part: Option<&[u8]>| part.map(|part| rest.split_to(part.len()));
        let (key, value) = (cut(self.inner.key), cut(self.inner.value));
        let header = |h: Header<'_>| (Str::from(h.key), cut(h.value));
        OwnedRecord {
            topic: self.place.topic.clone(),
            partition: self.place.partition,
            offset: self.inner.offset,
            timestamp: self.inner.timestamp,
            key,
            value,
            headers: self.inner.headers.map(header).collect(),
            receipt: (self.done == Done::OnAck).then(|| Receipt {
                door: self.door.clone(),
                lease: self.lease.clone(),
                from: self.from,
            }),
        }
    }

    /// Key, value and headers' values, one behind the other.
    fn copy(&self) -> Bytes {
        let Inner { key, value, headers, .. } = self.inner;
        let parts = || [key, value].into_iter().chain(headers.map(|h| h.value)).flatten();
        let length = parts().map(<[u8]>::len).sum();
        if length == 0 {
            return Bytes::new();
        }
        let mut bytes = Vec::with_capacity(length);
        parts().for_each(|part| bytes.extend_from_slice(part));
        let charge = self.held.charge(length + size_of::<OwnedRecord>());
        Bytes::from_owner(Kept { bytes, charge, door: Arc::downgrade(self.door) })
    }

    /// Finishes this record, for a consumer that is built with [`Done::OnAck`](crate::Done::OnAck). In any order: what is
    /// committed ends in front of the first record that is not acknowledged. Never waits.
    ///
    /// False if it counts for nothing, because the partition was taken away or is read from elsewhere, and so the record
    /// will be delivered again; or because this consumer finishes records in another way.
    pub fn ack(&self) -> bool {
        let end = self.inner.offset.saturating_add(1);
        acknowledge(self.door, self.place, self.lease, self.from..end)
    }

    /// Finishes this record, and commits what is finished of all partitions, this one included. Waits for the group's
    /// answer, at most `default.api.timeout.ms`. Dropping the future leaves the commit on its way.
    ///
    /// # Errors
    /// As [`Consumer::commit`](crate::Consumer::commit).
    pub async fn commit(&self) -> Result<CommitOutcome, Error> {
        match self.done {
            Done::OnNext => self.lease.finish(self.inner.offset.saturating_add(1)),
            Done::OnAck => {
                self.ack();
            }
            // It was finished before it was lent.
            Done::Delivered => {}
        }
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
#[derive(Debug, Clone)]
pub struct OwnedRecord {
    topic: Str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(Str, Option<Bytes>)>,
    receipt: Option<Receipt>,
}

/// What an owned record has of a consumer's memory. It may be dropped on any thread, after the consumer too.
struct Kept {
    bytes: Vec<u8>,
    charge: Charge,
    door: Weak<Door>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.charge.settle()
            && let Some(door) = self.door.upgrade()
        {
            let _ = door.with(|_, _| ());
        }
    }
}

/// What an owned record is acknowledged with.
#[derive(Clone)]
struct Receipt {
    door: Arc<Door>,
    lease: Arc<Lease>,
    from: i64,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt").field("from", &self.from).finish_non_exhaustive()
    }
}

impl PartialEq for OwnedRecord {
    /// The record, whoever received it.
    fn eq(&self, other: &Self) -> bool {
        let place = |r: &Self| (r.topic.clone(), r.partition, r.offset, r.timestamp);
        place(self) == place(other)
            && (&self.key, &self.value, &self.headers) == (&other.key, &other.value, &other.headers)
    }
}

impl Eq for OwnedRecord {}

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

    /// The key or the value with its headers, as a format reads it; `None` where it is null.
    pub fn encoded(&self, part: Part) -> Option<Encoded<'_>> {
        let bytes = match part {
            Part::Key => self.key.as_deref(),
            Part::Value => self.value.as_deref(),
        };
        let headers = HeadersOf::Owned(&self.headers);
        Some(Encoded { topic: &self.topic, part, bytes: bytes?, headers })
    }

    /// Whether it is finished by [`ack`](Self::ack): whether its consumer is built with [`Done::OnAck`].
    pub fn wants_ack(&self) -> bool {
        self.receipt.is_some()
    }

    /// Finishes this record, as [`Record::ack`] does. Of a consumer that finishes records in another way, or of a consumer
    /// that is gone, it counts for nothing. A record that is dropped without it holds its partition's commits back.
    ///
    /// ```no_run
    /// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
    /// use std::time::Duration;
    /// use ottla::Done;
    ///
    /// let mut consumer = client.consumer().group("billing").subscribe(["orders"]).finish_on(Done::OnAck).build()?;
    /// while let Some(batch) = consumer.recv_batch(100, Duration::from_millis(50)).await? {
    ///     for record in batch.records {
    ///         tokio::spawn(async move {
    ///             println!("{:?}", record.value());
    ///             record.ack();
    ///         });
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn ack(&self) -> bool {
        let Some(Receipt { door, lease, from }) = &self.receipt else { return false };
        let place = TopicPartition { topic: self.topic.clone(), partition: self.partition };
        acknowledge(door, &place, lease, *from..self.offset.saturating_add(1))
    }
}

fn acknowledge(
    door: &Door,
    place: &TopicPartition,
    lease: &Arc<Lease>,
    offsets: std::ops::Range<i64>,
) -> bool {
    // Nobody sleeps for an acknowledgement, but for the commit that it makes due.
    let counted = door.with_hot(|machine| (machine.acknowledge(place, lease, offsets, 1), Then::Nothing));
    // A consumer that is broken says so at the next chunk.
    let Ok(Some(due)) = counted else { return false };
    if due {
        let _ = door.with(|machine, now| machine.commit_quietly(now, Some(place)));
    }
    true
}
