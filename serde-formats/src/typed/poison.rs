//! Records that their formats refuse.
//!
//! It owns what is known of such a record, and the choice of what to do with it. Invariant: the payload is in the record and
//! in no message.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ottla::format::{FormatError, Part};
use ottla::{Error, Header, OwnedRecord, Payload, Topic};

/// A record whose key or value is no encoding of its type. The bytes are all there.
#[derive(Debug)]
#[non_exhaustive]
pub struct PoisonRecord {
    /// The record as it was read: its position, its bytes, its headers.
    pub record: OwnedRecord,
    /// Which part could not be decoded.
    pub part: Part,
    /// Why.
    pub error: FormatError,
}

impl PoisonRecord {
    /// The number of the schema that the bytes begin with, if they look like the framing of a schema registry: a zero, and four
    /// bytes. It is only what the bytes claim.
    pub fn schema_id(&self) -> Option<u32> {
        let bytes = match self.part {
            Part::Key => self.record.key(),
            Part::Value => self.record.value(),
        };
        match bytes?.get(..5)? {
            [0, a, b, c, d] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => None,
        }
    }
}

impl fmt::Display for PoisonRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PoisonRecord { record, part, error } = self;
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        write!(f, "topic {topic}, partition {partition}, offset {offset}, {part}: {error}")
    }
}

impl std::error::Error for PoisonRecord {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What [`PoisonSink::take`] returns.
pub type Sinking<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Where poison records go, so that the others go on. A [`Topic`] is one, a dead letter queue: the bytes are sent as they
/// are, with the headers `poison.topic`, `poison.partition`, `poison.offset` and `poison.error` behind their own.
///
/// ```
/// use ottla_serde::{PoisonRecord, PoisonSink, Sinking};
///
/// struct Log;
///
/// impl PoisonSink for Log {
///     fn take<'a>(&'a self, poison: &'a PoisonRecord) -> Sinking<'a> {
///         Box::pin(async move {
///             eprintln!("{poison}");
///             Ok(())
///         })
///     }
/// }
/// ```
pub trait PoisonSink: Send + Sync {
    /// Takes a record. It is finished when this has returned without an error; until then the consumer delivers nothing, and
    /// after an error, or when the waiting `recv` was dropped, the next `recv` begins with the same record. So a record may
    /// come twice.
    fn take<'a>(&'a self, poison: &'a PoisonRecord) -> Sinking<'a>;
}

impl PoisonSink for Topic {
    fn take<'a>(&'a self, poison: &'a PoisonRecord) -> Sinking<'a> {
        Box::pin(async move {
            let PoisonRecord { record, error, .. } = poison;
            let (partition, offset) = (record.partition().to_string(), record.offset().to_string());
            let error = error.to_string();
            let facts = [
                ("poison.topic", record.topic()),
                ("poison.partition", &partition),
                ("poison.offset", &offset),
                ("poison.error", &error),
            ];
            let own = record.headers().map(|(key, value)| Header { key, value: value.map(AsRef::as_ref) });
            let facts = facts.into_iter().map(|(key, value)| Header { key, value: Some(value.as_bytes()) });
            let headers: Vec<_> = own.chain(facts).collect();
            let (key, value) = (record.key().map(AsRef::as_ref), record.value().map(AsRef::as_ref));
            let timestamp = Some(record.timestamp()).filter(|timestamp| *timestamp >= 0);
            self.send(Payload { key, value, headers: &headers, partition: None, timestamp }).await?;
            Ok(())
        })
    }
}

/// What a [`TypedConsumer`](crate::TypedConsumer) does with a poison record. The records behind it are delivered in any case.
///
/// ```no_run
/// # fn run(consumer: ottla::Consumer, producer: ottla::Producer) {
/// use ottla_serde::{OnPoison, Text, TypedReceive};
///
/// let to = OnPoison::sink(producer.topic("orders.poison"));
/// let consumer = consumer.typed::<String, String>(Text, Text).on_poison(to);
/// # drop(consumer);
/// # }
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum OnPoison {
    /// `recv` returns it as an error; the next `recv` finishes it and goes on. The default.
    #[default]
    Fail,
    /// It is told to this function, and finished. It must not block.
    Skip(Arc<dyn Fn(&PoisonRecord) + Send + Sync>),
    /// It is handed over, and finished when that is done.
    Sink(Arc<dyn PoisonSink>),
}

impl OnPoison {
    /// Goes on, and tells `event` of it.
    pub fn skip(event: impl Fn(&PoisonRecord) + Send + Sync + 'static) -> Self {
        OnPoison::Skip(Arc::new(event))
    }

    /// Goes on when `sink` has the record.
    pub fn sink(sink: impl PoisonSink + 'static) -> Self {
        OnPoison::Sink(Arc::new(sink))
    }
}

impl fmt::Debug for OnPoison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnPoison::Fail => "Fail",
            OnPoison::Skip(_) => "Skip",
            OnPoison::Sink(_) => "Sink",
        })
    }
}
