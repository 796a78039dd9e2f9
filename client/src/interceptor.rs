//! User code that sees every record of a producer: before it is sent, and when its outcome is known.
//!
//! It owns the order of several of them, and keeps their panics from everybody else. It refuses to know batches and
//! deliveries. Invariant: none of it runs under the lock of a producer.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ottla_protocol::records::Header;

use crate::error::{Error, ErrorKind, Outcome};
use crate::producer::{Payload, RecordMetadata};

/// Sees every record of a producer: [`ProducerBuilder::interceptor`](crate::ProducerBuilder::interceptor). Both methods run
/// in the middle of somebody's work and must not block.
///
/// A panic of [`on_send`](Interceptor::on_send) fails that record alone, with
/// [`Outcome::NotWritten`]; one of [`on_outcome`](Interceptor::on_outcome) is logged.
///
/// ```
/// use ottla::{Interceptor, Outgoing};
///
/// /// Says of each record which service wrote it.
/// struct Signed(&'static str);
///
/// impl Interceptor for Signed {
///     fn on_send(&self, _topic: &str, record: &mut Outgoing<'_>) {
///         record.headers.push(("service".into(), Some(self.0.as_bytes().into())));
///     }
/// }
///
/// # fn example(client: ottla::Client) -> Result<(), ottla::Error> {
/// let producer = client.producer().interceptor(Signed("billing")).build()?;
/// # drop(producer);
/// # Ok(())
/// # }
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// A record is about to be sent: its partition is not chosen yet, and all of it may be changed. Called by the task that
    /// enqueues, once for each `enqueue` and `send`, and for each attempt of `try_enqueue`.
    fn on_send(&self, topic: &str, record: &mut Outgoing<'_>) {
        let _ = (topic, record);
    }

    /// The outcome of a record is known, whether or not somebody waits for its delivery. Also called when `enqueue` refuses
    /// it; not when the caller gives up before it is accepted, nor when `try_enqueue` finds no room. Called by whoever
    /// brings the outcome, as a rule the task of a connection: what takes long belongs elsewhere.
    fn on_outcome(&self, topic: &str, outcome: &Result<RecordMetadata, Error>) {
        let _ = (topic, outcome);
    }
}

/// A record that interceptors may change: it borrows what the caller gave, and owns what they put in its place.
///
/// ```
/// use ottla::{Interceptor, Outgoing};
///
/// /// Keeps values of one topic from leaving this process as they are.
/// struct Redact;
///
/// impl Interceptor for Redact {
///     fn on_send(&self, topic: &str, record: &mut Outgoing<'_>) {
///         if topic == "patients" {
///             record.value = record.value.as_ref().map(|value| vec![b'*'; value.len()].into());
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// Decides the partition, and what compaction keeps.
    pub key: Option<Cow<'a, [u8]>>,
    /// `None` is a tombstone.
    pub value: Option<Cow<'a, [u8]>>,
    /// Names and values, in order.
    #[expect(clippy::type_complexity, reason = "a name and a value, either of them borrowed or owned")]
    pub headers: Vec<(Cow<'a, str>, Option<Cow<'a, [u8]>>)>,
    /// `None` leaves it to the partitioner.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp: Option<i64>,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(payload: Payload<'a>) -> Self {
        let Payload { key, value, headers, partition, timestamp } = payload;
        let headers = headers.iter().map(|header| (header.key.into(), header.value.map(Cow::from))).collect();
        Self { key: key.map(Cow::from), value: value.map(Cow::from), headers, partition, timestamp }
    }

    /// Its headers, for [`payload`](Self::payload).
    pub(crate) fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect()
    }

    pub(crate) fn payload<'b>(&'b self, headers: &'b [Header<'b>]) -> Payload<'b> {
        let (key, value) = (self.key.as_deref(), self.value.as_deref());
        Payload { key, value, headers, partition: self.partition, timestamp: self.timestamp }
    }
}

/// The interceptors of a producer, in the order in which they were added.
#[derive(Clone, Default)]
pub(crate) struct Chain(Vec<Arc<dyn Interceptor>>);

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} interceptors", self.0.len())
    }
}

impl Chain {
    pub(crate) fn add(&mut self, interceptor: impl Interceptor) {
        self.0.push(Arc::new(interceptor));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each sees what the one before has made of the record. After a panic nobody can say what that is.
    pub(crate) fn on_send(&self, topic: &str, record: &mut Outgoing<'_>) -> Result<(), Error> {
        let all = AssertUnwindSafe(|| self.0.iter().for_each(|one| one.on_send(topic, record)));
        catch_unwind(all).map_err(|_| {
            let message = format!("an interceptor panicked at a record for topic {topic}");
            Error::new(ErrorKind::InvalidArgument, message).with_outcome(Outcome::NotWritten)
        })
    }

    pub(crate) fn on_outcome(&self, topic: &str, outcome: &Result<RecordMetadata, Error>) {
        for one in &self.0 {
            if catch_unwind(AssertUnwindSafe(|| one.on_outcome(topic, outcome))).is_err() {
                tracing::error!(topic, "an interceptor panicked at the outcome of a record");
            }
        }
    }
}
