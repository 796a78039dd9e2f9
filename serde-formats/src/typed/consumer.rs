//! A consumer whose records are values.
//!
//! It owns the waiting for what a format has to fetch: the record's partition is set back to the record and paused meanwhile, so
//! that the others go on and nothing is buffered here. Invariant: every record is delivered, or told as poison, in the order
//! of its partition.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ottla::format::{Decode, Encoded, FormatError, Later, Part};
use ottla::{CloseOptions, CommitOutcome, Consumer, Control, Error, OwnedRecord, Record, SeekTo};

use super::poison::{OnPoison, PoisonRecord};

/// A record with its key and its value decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypedRecord<K, V> {
    /// The record as it was read: its position, its headers, its bytes; and [`OwnedRecord::ack`].
    pub record: OwnedRecord,
    /// `None` is null, which is not an empty key.
    pub key: Option<K>,
    /// `None` is a tombstone.
    pub value: Option<V>,
}

/// Why [`TypedConsumer::recv`] has no record.
#[derive(Debug)]
#[non_exhaustive]
pub enum TypedError {
    /// The consumer's own, as [`Consumer::recv`] returns them.
    Consumer(Error),
    /// A record that its format refuses. The next call goes on behind it.
    Poison(Box<PoisonRecord>),
    /// What a record's format needs could not be fetched, as from a schema registry that is down. The record is not finished: it
    /// comes again.
    Fetch {
        /// The record's topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Why.
        error: FormatError,
    },
}

impl fmt::Display for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypedError::Consumer(error) => error.fmt(f),
            TypedError::Poison(poison) => poison.fmt(f),
            TypedError::Fetch { topic, partition, offset, error } => {
                write!(f, "topic {topic}, partition {partition}, offset {offset}: {error}")
            }
        }
    }
}

impl std::error::Error for TypedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            TypedError::Consumer(error) => error,
            TypedError::Poison(poison) => &poison.error,
            TypedError::Fetch { error, .. } => error,
        })
    }
}

impl From<Error> for TypedError {
    fn from(error: Error) -> Self {
        TypedError::Consumer(error)
    }
}

/// A consumer of values, from [`TypedReceive::typed`](crate::TypedReceive::typed).
pub struct TypedConsumer<K, V> {
    consumer: Consumer,
    formats: Formats<K, V>,
    on_poison: OnPoison,
    /// A record that its sink has not taken yet.
    poison: Option<PoisonRecord>,
    fetches: Vec<Fetch>,
}

struct Formats<K, V> {
    key: Arc<dyn Decode<K>>,
    value: Arc<dyn Decode<V>>,
}

/// What the format of a record is fetching; the partition is paused until it has come.
struct Fetch {
    topic: String,
    partition: i32,
    offset: i64,
    later: Later,
}

impl<K, V> fmt::Debug for TypedConsumer<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedConsumer").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

/// What a look at a record has brought.
enum Step<K, V> {
    Closed,
    Record(TypedRecord<K, V>),
    Poison(PoisonRecord),
    Later(Fetch),
    Fetched(Fetch, Result<(), FormatError>),
    Failed(Error),
}

impl<K, V> TypedConsumer<K, V> {
    /// A consumer with formats that are chosen at run time.
    pub fn new(consumer: Consumer, key: Arc<dyn Decode<K>>, value: Arc<dyn Decode<V>>) -> Self {
        let formats = Formats { key, value };
        Self { consumer, formats, on_poison: OnPoison::Fail, poison: None, fetches: Vec::new() }
    }

    /// What becomes of records that cannot be decoded; the default is [`OnPoison::Fail`].
    pub fn on_poison(self, on_poison: OnPoison) -> Self {
        Self { on_poison, ..self }
    }

    /// The next record, as [`Consumer::recv`]: the one before is finished by this call, unless the consumer is built with
    /// [`Done::OnAck`](ottla::Done::OnAck). `None` after [`close`](Control::close).
    ///
    /// Where a format has to fetch something, that record's partition waits and the others go on. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// [`TypedError::Poison`] of one record, [`TypedError::Fetch`] of one that comes again, and the consumer's own.
    pub async fn recv(&mut self) -> Result<Option<TypedRecord<K, V>>, TypedError> {
        self.hand_over().await?;
        loop {
            match self.step().await {
                Step::Closed => return Ok(None),
                Step::Record(record) => return Ok(Some(record)),
                Step::Failed(error) => return Err(error.into()),
                Step::Later(fetch) => self.set_back(fetch).await,
                Step::Fetched(fetch, result) => {
                    let Fetch { topic, partition, offset, .. } = fetch;
                    // A partition that is gone needs nothing.
                    let _ = self.consumer.control().resume(&topic, partition).await;
                    if let Err(error) = result {
                        return Err(TypedError::Fetch { topic, partition, offset, error });
                    }
                }
                Step::Poison(poison) => match &self.on_poison {
                    OnPoison::Fail => return Err(TypedError::Poison(Box::new(poison))),
                    OnPoison::Skip(event) => {
                        tracing::warn!(%poison, "a record is skipped");
                        event(&poison);
                        poison.record.ack();
                    }
                    OnPoison::Sink(_) => {
                        self.poison = Some(poison);
                        self.hand_over().await?;
                    }
                },
            }
        }
    }

    /// Finishes what is in hand and commits, as [`Consumer::commit`]; a poison record that no sink has taken is not finished.
    ///
    /// # Errors
    /// As [`Consumer::commit`]; and the sink's, which must have the record before.
    pub async fn commit(&mut self) -> Result<CommitOutcome, Error> {
        self.hand_over().await?;
        self.consumer.commit().await
    }

    /// A handle that works from other tasks.
    pub fn control(&self) -> Control {
        self.consumer.control()
    }

    /// As [`Consumer::close`].
    ///
    /// # Errors
    /// As [`Consumer::close`].
    pub async fn close(self, options: impl Into<CloseOptions>) -> Result<(), Error> {
        self.consumer.close(options).await
    }

    /// Gives the sink the poison record that it does not have yet.
    async fn hand_over(&mut self) -> Result<(), Error> {
        if let (Some(poison), OnPoison::Sink(sink)) = (&self.poison, &self.on_poison) {
            sink.take(poison).await?;
            poison.record.ack();
            self.poison = None;
        }
        Ok(())
    }

    async fn step(&mut self) -> Step<K, V> {
        let Self { consumer, formats, fetches, .. } = self;
        let mut record = pin!(consumer.recv());
        poll_fn(|context| {
            if let Poll::Ready((fetch, result)) = poll_fetches(fetches, context) {
                return Poll::Ready(Step::Fetched(fetch, result));
            }
            record.as_mut().poll(context).map(|record| match record {
                Ok(Some(record)) => formats.decode(&record),
                Ok(None) => Step::Closed,
                Err(error) => Step::Failed(error),
            })
        })
        .await
    }

    /// Lets a partition wait in front of a record.
    async fn set_back(&mut self, fetch: Fetch) {
        let (control, Fetch { topic, partition, offset, .. }) = (self.consumer.control(), &fetch);
        // A partition that is gone is somebody else's to read.
        if control.seek(topic, *partition, SeekTo::Offset(*offset)).await.is_ok()
            && control.pause(topic, *partition).await.is_ok()
        {
            self.fetches.push(fetch);
        }
    }
}

fn poll_fetches(
    fetches: &mut Vec<Fetch>,
    context: &mut Context<'_>,
) -> Poll<(Fetch, Result<(), FormatError>)> {
    for at in 0..fetches.len() {
        if let Poll::Ready(result) = fetches[at].later.as_mut().poll(context) {
            return Poll::Ready((fetches.swap_remove(at), result));
        }
    }
    Poll::Pending
}

impl<K, V> Formats<K, V> {
    fn decode(&self, record: &Record<'_>) -> Step<K, V> {
        let (topic, headers) = (record.topic(), record.headers());
        let key = record.key().map(|bytes| self.key.decode(Encoded::key(topic, bytes).with_headers(headers)));
        let key = match key.transpose() {
            Ok(key) => key,
            Err(error) => return refused(record, Part::Key, error),
        };
        let value =
            record.value().map(|bytes| self.value.decode(Encoded::value(topic, bytes).with_headers(headers)));
        match value.transpose() {
            Ok(value) => Step::Record(TypedRecord { record: record.to_owned(), key, value }),
            Err(error) => refused(record, Part::Value, error),
        }
    }
}

#[cold]
fn refused<K, V>(record: &Record<'_>, part: Part, mut error: FormatError) -> Step<K, V> {
    match error.take_later() {
        Some(later) => Step::Later(Fetch {
            topic: record.topic().to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            later,
        }),
        None => Step::Poison(PoisonRecord { record: record.to_owned(), part, error }),
    }
}
