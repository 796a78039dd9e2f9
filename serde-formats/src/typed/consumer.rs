//! A consumer whose records are values.
//!
//! It owns the waiting for what a format has to fetch: the record's partition is paused meanwhile, so that the others go on. It is set
//! back to the record before, or the next `recv` would finish it; where records are finished by `ack` the record is kept here
//! instead, since going back would forget what of the partition is not acknowledged yet. Invariant: every record is delivered, or
//! told as poison, in the order of its partition.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ottla::format::{Decode, Encoded, FormatError, Later, Part};
use ottla::{CloseOptions, CommitOutcome, Consumer, Control, Error, OwnedRecord, SeekTo};

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
    /// Records to decode again whose partitions are paused: those that are finished by `ack`.
    kept: VecDeque<OwnedRecord>,
}

struct Formats<K, V> {
    key: Arc<dyn Decode<K>>,
    value: Arc<dyn Decode<V>>,
}

/// What the format of a record is fetching; the partition is paused until it has come.
struct Fetch {
    record: OwnedRecord,
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
    /// A record that was kept, whose partition is somebody else's now.
    Gone,
    Record(TypedRecord<K, V>),
    Poison(PoisonRecord),
    Later(Fetch),
    Fetched(OwnedRecord, Result<(), FormatError>),
    Failed(Error),
}

impl<K, V> TypedConsumer<K, V> {
    /// A consumer with formats that are chosen at run time.
    pub fn new(consumer: Consumer, key: Arc<dyn Decode<K>>, value: Arc<dyn Decode<V>>) -> Self {
        let formats = Formats { key, value };
        let (poison, fetches, kept) = (None, Vec::new(), VecDeque::new());
        Self { consumer, formats, on_poison: OnPoison::Fail, poison, fetches, kept }
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
                Step::Later(fetch) => self.hold(fetch).await,
                Step::Fetched(record, result) => {
                    let (topic, partition, offset) =
                        (record.topic().to_owned(), record.partition(), record.offset());
                    if record.wants_ack() {
                        self.kept.push_back(record);
                    } else {
                        // A partition that is gone needs nothing.
                        let _ = self.consumer.control().resume(&topic, partition).await;
                    }
                    if let Err(error) = result {
                        return Err(TypedError::Fetch { topic, partition, offset, error });
                    }
                }
                Step::Gone => {}
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
        if let Some(record) = self.kept.pop_front() {
            return self.look_again(record).await;
        }
        let Self { consumer, formats, fetches, .. } = self;
        let mut record = pin!(consumer.recv());
        poll_fn(|context| {
            if let Poll::Ready((record, result)) = poll_fetches(fetches, context) {
                return Poll::Ready(Step::Fetched(record, result));
            }
            record.as_mut().poll(context).map(|record| match record {
                Ok(Some(record)) => {
                    match formats.decode(record.encoded(Part::Key), record.encoded(Part::Value)) {
                        Ok((key, value)) => {
                            Step::Record(TypedRecord { record: record.to_owned(), key, value })
                        }
                        Err((part, error)) => refused(record.to_owned(), part, error),
                    }
                }
                Ok(None) => Step::Closed,
                Err(error) => Step::Failed(error),
            })
        })
        .await
    }

    /// Decodes a record that was kept; its partition goes on, unless something is lacking still.
    async fn look_again(&mut self, record: OwnedRecord) -> Step<K, V> {
        let decoded = self.formats.decode(record.encoded(Part::Key), record.encoded(Part::Value));
        let (topic, partition) = (record.topic().to_owned(), record.partition());
        let step = match decoded {
            Ok((key, value)) => Step::Record(TypedRecord { record, key, value }),
            Err((part, error)) => refused(record, part, error),
        };
        let goes_on = !matches!(step, Step::Later(_));
        if goes_on && self.consumer.control().resume(&topic, partition).await.is_err() {
            return Step::Gone;
        }
        step
    }

    /// Lets a partition wait in front of a record.
    async fn hold(&mut self, fetch: Fetch) {
        let (control, record) = (self.consumer.control(), &fetch.record);
        let (topic, partition) = (record.topic(), record.partition());
        let back = match record.wants_ack() {
            true => Ok(()),
            false => control.seek(topic, partition, SeekTo::Offset(record.offset())).await,
        };
        // A partition that is gone is somebody else's to read.
        if back.is_ok() && control.pause(topic, partition).await.is_ok() {
            self.fetches.push(fetch);
        }
    }
}

fn poll_fetches(
    fetches: &mut Vec<Fetch>,
    context: &mut Context<'_>,
) -> Poll<(OwnedRecord, Result<(), FormatError>)> {
    for at in 0..fetches.len() {
        if let Poll::Ready(result) = fetches[at].later.as_mut().poll(context) {
            return Poll::Ready((fetches.swap_remove(at).record, result));
        }
    }
    Poll::Pending
}

/// Key and value, or which of them is refused and why.
type Decoded<K, V> = Result<(Option<K>, Option<V>), (Part, FormatError)>;

impl<K, V> Formats<K, V> {
    fn decode(&self, key: Option<Encoded<'_>>, value: Option<Encoded<'_>>) -> Decoded<K, V> {
        let key = key.map(|key| self.key.decode(key)).transpose();
        let value = value.map(|value| self.value.decode(value));
        Ok((key.map_err(|e| (Part::Key, e))?, value.transpose().map_err(|e| (Part::Value, e))?))
    }
}

#[cold]
fn refused<K, V>(record: OwnedRecord, part: Part, mut error: FormatError) -> Step<K, V> {
    match error.take_later() {
        Some(later) => Step::Later(Fetch { record, later }),
        None => Step::Poison(PoisonRecord { record, part, error }),
    }
}
