//! A topic that takes values of one type.
//!
//! It owns the encoding of a record, before the producer hears of it. It refuses to know what becomes of it then. Invariant: a
//! value that cannot be encoded is told as not written, and nothing of it was sent.

use std::fmt;
use std::sync::Arc;

use ottla::format::{Encode, Encoding, FormatError, Part};
use ottla::{Delivery, Error, Header, Payload, RecordMetadata, Topic};

use super::scratch::Scratch;

/// How often a format may fetch something for one record: a schema, and what that names.
const FETCHES_MAX: usize = 8;

/// A record to send, whose key and value are encoded by the formats of a [`TypedTopic`].
///
/// `None` is null, which no format sees; an empty text or list is a value.
///
/// ```
/// use ottla_serde::TypedPayload;
///
/// let plain = TypedPayload::<str, f64>::value(&21.5);
/// let keyed = TypedPayload { timestamp: Some(1_700_000_000_000), ..TypedPayload::new("Chur", &21.5) };
/// let tombstone = TypedPayload::<str, f64>::tombstone("Chur");
/// # let _ = (plain, keyed, tombstone);
/// ```
pub struct TypedPayload<'a, K: ?Sized, V: ?Sized> {
    /// Decides the partition, and what compaction keeps.
    pub key: Option<&'a K>,
    /// `None` is a tombstone: compaction removes the key.
    pub value: Option<&'a V>,
    /// Headers, in order; those of the formats come behind them.
    pub headers: &'a [Header<'a>],
    /// The partition; `None` leaves it to the partitioner.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp: Option<i64>,
}

impl<K: ?Sized, V: ?Sized> Copy for TypedPayload<'_, K, V> {}

impl<K: ?Sized, V: ?Sized> Clone for TypedPayload<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: ?Sized, V: ?Sized> fmt::Debug for TypedPayload<'_, K, V> {
    /// What is there, never the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = (self.key.is_some(), self.value.is_some());
        f.debug_struct("TypedPayload").field("key", &key).field("value", &value).finish_non_exhaustive()
    }
}

impl<'a, K: ?Sized, V: ?Sized> TypedPayload<'a, K, V> {
    /// A record with a key and a value.
    pub fn new(key: &'a K, value: &'a V) -> Self {
        Self { key: Some(key), ..Self::value(value) }
    }

    /// A record with a value alone.
    pub fn value(value: &'a V) -> Self {
        Self { key: None, value: Some(value), headers: &[], partition: None, timestamp: None }
    }

    /// A record that deletes what was written under this key.
    pub fn tombstone(key: &'a K) -> Self {
        Self { key: Some(key), value: None, headers: &[], partition: None, timestamp: None }
    }
}

/// A topic to send values of one type to, from [`TypedSend::typed`](crate::TypedSend::typed). Cheap to clone.
///
/// The formats are behind pointers, so that the type has no more names than a record has, and so that a program may choose a
/// format when it runs.
pub struct TypedTopic<K: ?Sized, V: ?Sized> {
    topic: Topic,
    key: Arc<dyn Encode<K>>,
    value: Arc<dyn Encode<V>>,
}

impl<K: ?Sized, V: ?Sized> Clone for TypedTopic<K, V> {
    fn clone(&self) -> Self {
        Self { topic: self.topic.clone(), key: self.key.clone(), value: self.value.clone() }
    }
}

impl<K: ?Sized, V: ?Sized> fmt::Debug for TypedTopic<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedTopic").field("topic", &self.topic.name()).finish_non_exhaustive()
    }
}

impl<K: ?Sized, V: ?Sized> TypedTopic<K, V> {
    /// A topic with formats that are chosen at run time.
    pub fn new(topic: Topic, key: Arc<dyn Encode<K>>, value: Arc<dyn Encode<V>>) -> Self {
        Self { topic, key, value }
    }

    /// The topic of bytes beneath.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Encodes a record and gives it to the producer, as [`Topic::enqueue`] does. Where a format has to fetch something, such
    /// as the id of its schema, it waits for that as well; the format's own deadline ends that.
    ///
    /// Dropping the future before it is ready sends nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](ottla::ErrorKind::Format) with [`Outcome::NotWritten`](ottla::Outcome::NotWritten) if key or value
    /// cannot be encoded, and those of [`Topic::enqueue`].
    pub async fn enqueue(&self, payload: TypedPayload<'_, K, V>) -> Result<Delivery, Error> {
        let mut scratch = Scratch::take();
        let mut added = Vec::new();
        let TypedPayload { key, value, headers, partition, timestamp } = payload;
        if let Some(key) = key {
            added.extend(self.encode(&*self.key, Part::Key, key, &mut scratch.0).await?);
        }
        let middle = scratch.0.len();
        if let Some(value) = value {
            added.extend(self.encode(&*self.value, Part::Value, value, &mut scratch.0).await?);
        }
        let (key_bytes, value_bytes) = scratch.0.split_at(middle);
        let (key, value) = (key.map(|_| key_bytes), value.map(|_| value_bytes));
        let payload = Payload { key, value, headers, partition, timestamp };
        if added.is_empty() {
            return self.topic.enqueue(payload).await;
        }
        let more = added.iter().map(|(key, value)| Header { key, value: Some(value) });
        let headers: Vec<_> = headers.iter().copied().chain(more).collect();
        self.topic.enqueue(Payload { headers: &headers, ..payload }).await
    }

    /// Enqueues a record and waits for its outcome, as [`Topic::send`] does.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and those of the delivery.
    pub async fn send(&self, payload: TypedPayload<'_, K, V>) -> Result<RecordMetadata, Error> {
        self.enqueue(payload).await?.await
    }

    /// Appends an encoding, and returns the headers that the format adds.
    async fn encode<T: ?Sized>(
        &self,
        format: &dyn Encode<T>,
        part: Part,
        value: &T,
        bytes: &mut Vec<u8>,
    ) -> Result<Headers, Error> {
        let (topic, start) = (self.topic.name(), bytes.len());
        for _ in 0..=FETCHES_MAX {
            let mut to = match part {
                Part::Key => Encoding::key(topic, bytes),
                Part::Value => Encoding::value(topic, bytes),
            };
            let result = format.encode(value, &mut to);
            let headers = to.headers;
            let Err(mut error) = result else { return Ok(headers) };
            bytes.truncate(start);
            match error.take_later() {
                Some(later) => later.await.map_err(|error| error.not_written(topic, part))?,
                None => return Err(error.not_written(topic, part)),
            }
        }
        Err(FormatError::new("the format fetches again and again").not_written(topic, part))
    }
}

type Headers = Vec<(std::borrow::Cow<'static, str>, Vec<u8>)>;
