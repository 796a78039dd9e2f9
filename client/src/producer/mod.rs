//! The producer as its users see it: topics to enqueue to, flush and close.
//!
//! It owns the waiting of user tasks, which the machine below only allows or refuses, and the choice of partition by a user's
//! partitioner, which must not run under the lock. It refuses to know batches, links and retries.

mod delivery;
mod intercepted;
mod monitor;
#[cfg(feature = "unstable-two-phase-commit")]
mod prepared;
mod transaction;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_partitioners::{ANY, Keyed, TopicView};
use ottla_protocol::records::{Compressor, Header};
use ottla_protocol::wire::Str;
use parking_lot::Mutex;

use crate::client::Client;
use crate::config::{PartitionerChoice, ProducerBuilder, ProducerConfig};
use crate::core::Now;
use crate::core::accumulator::{Entrant, Place, Refusal};
use crate::core::producer::Producer as Machine;
use crate::core::tally::Tally;
use crate::driver::shared::{Shared, Then, now};
use crate::driver::supervisor;
use crate::error::{Error, ErrorKind, Outcome};
use crate::event::Event;
use crate::metrics::ProducerMetrics;
use crate::world::pause;
pub use delivery::{Deliveries, Delivery, RecordMetadata};
pub use monitor::Monitor;
#[cfg(feature = "unstable-two-phase-commit")]
pub use prepared::{PreparedState, PreparedTransaction};
pub use transaction::{Offset, Previous, Transaction, TransactionTopic, TransactionalProducer};

type Door = Shared<Machine<delivery::Promise>>;

/// A record to send, borrowed: its bytes are copied once, into the batch.
///
/// ```
/// use ottla::Payload;
///
/// let plain = Payload::value(b"one cup of coffee");
/// let keyed = Payload { timestamp: Some(1_700_000_000_000), ..Payload::new(b"4711", b"two cups") };
/// let tombstone = Payload { key: Some(b"4711"), ..Payload::default() };
/// # let _ = (plain, keyed, tombstone);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Payload<'a> {
    /// Decides the partition, and what compaction keeps. An empty key is a key; `None` is none.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone: compaction removes the key.
    pub value: Option<&'a [u8]>,
    /// Headers, in order; a name may come more than once.
    pub headers: &'a [Header<'a>],
    /// The partition; `None` leaves it to the partitioner.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp: Option<i64>,
}

impl<'a> Payload<'a> {
    /// A record with a key and a value.
    pub fn new<const K: usize, const V: usize>(key: &'a [u8; K], value: &'a [u8; V]) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }

    /// A record with a value alone.
    pub fn value(value: &'a [u8]) -> Self {
        Self { value: Some(value), ..Self::default() }
    }

    /// A record with a key and a value whose lengths are not known when the program is compiled.
    pub fn keyed(key: &'a [u8], value: &'a [u8]) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }
}

/// Sends records. Cheap to clone; when the last clone and the last [`Topic`] are dropped, records that are not acknowledged
/// yet resolve with an error. [`close`](Producer::close) is the graceful end.
///
/// ```no_run
/// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
/// let producer = client.producer().compression(ottla::Compression::Lz4).build()?;
/// producer.topic("orders").send(ottla::Payload::value(b"tea")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    door: Arc<Door>,
    config: Arc<ProducerConfig>,
    /// Of tasks that compress what they have filled; as many as did so at once.
    compressors: Mutex<Vec<Compressor>>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

/// What a producer had left when it was closed, in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Written while closing.
    pub delivered: u64,
    /// Certainly not written.
    pub failed: u64,
    /// Sent without an answer: they may be written.
    pub unknown: u64,
}

static NUMBER: AtomicU64 = AtomicU64::new(1);

impl ProducerBuilder {
    /// Checks the settings and starts the producer's supervisor, on the current tokio runtime. Connections are opened
    /// when they are needed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], which names the settings that are wrong; [`ErrorKind::InvalidArgument`] outside of a Tokio runtime.
    pub fn build(self) -> Result<Producer, Error> {
        if let Some(id) = &self.config.transactional_id {
            let message =
                format!("transactional.id is set to {id}: build_transactional makes such a producer");
            return Err(Error::new(ErrorKind::Config, message));
        }
        self.start()
    }

    fn start(mut self) -> Result<Producer, Error> {
        let client = self.client;
        for warning in self.config.check(&client.config)? {
            tracing::warn!(%warning, "producer settings");
        }
        let config = Arc::new(self.config);
        let named = client.named(|| match &config.transactional_id {
            Some(id) => format!("producer-{id}"),
            None => format!("producer-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        });
        let machine = Machine::new(named.clone(), config.clone(), client.world.random(), now());
        let door = Shared::new(machine, client.world.clone());
        supervisor::start(&door, &named)?;
        Ok(Producer(Arc::new(Inner { door, config, compressors: Mutex::default() })))
    }

    pub(crate) fn of(client: &Client) -> Self {
        Self { client: client.clone(), config: client.builder.producer.clone() }
    }
}

impl Producer {
    /// A handle for one topic. The topic is looked up in the background from now on; that it does not exist is told by
    /// the first send.
    pub fn topic(&self, name: &str) -> Topic {
        let name = Str::from(name);
        // A producer that is broken says so at the first send.
        let at = self.0.door.with(|machine, now| machine.topic(now, &name)).unwrap_or(usize::MAX);
        Topic { producer: self.clone(), at, name }
    }

    /// Sends what is open without waiting for `linger.ms`, and waits until every record that was accepted before the call
    /// has its outcome, or until `deadline` has passed. Outcomes are told by the deliveries, not here. Dropping the
    /// future stops waiting and nothing else.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when the deadline passed first.
    pub async fn flush(&self, deadline: Duration) -> Result<(), Error> {
        let number = self.0.door.with(|machine, _| machine.flush())?;
        pause(&*self.0.door.world).await;
        let flushed = self.0.door.until(move |machine| machine.is_flushed(number));
        let late =
            || Error::new(ErrorKind::Timeout, format!("records were still on their way after {deadline:?}"));
        tokio::time::timeout(deadline, flushed).await.unwrap_or_else(|_| Err(late()))
    }

    /// Accepts nothing more, sends what there is, and ends all connections, within `deadline`. What has no outcome then is
    /// given up: its deliveries say whether it may be written. Dropping the future leaves the producer closed for new
    /// records; a second call goes on.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let door = &self.0.door;
        let before =
            door.with(|machine, _| (machine.refuse_more(closed()), machine.tally()).1).unwrap_or_default();
        // Whatever hinders the flush is told by the report.
        let _ = self.flush(deadline).await;
        let after = door.with(|machine, _| (machine.end(closed()), machine.tally()).1).unwrap_or(before);
        door.stop();
        let Tally { delivered, failed, unknown } = after;
        CloseReport {
            delivered: delivered - before.delivered,
            failed: failed - before.failed,
            unknown: unknown - before.unknown,
        }
    }

    /// Waits for something that happened, such as [`Event::PartitionsGrew`], and that no call was told. Events wait for a
    /// while in a queue that drops the oldest; each is told once, to whoever asks. Dropping the future loses none.
    ///
    /// # Errors
    /// When the producer is closed or broken, and all events are taken.
    pub async fn next_event(&self) -> Result<Event, Error> {
        self.monitor().next_event().await
    }

    /// What the producer has done so far, in numbers. Never waits.
    pub fn metrics(&self) -> ProducerMetrics {
        self.monitor().metrics()
    }

    /// For a simulator: says who sleeps although there is something to do.
    #[cfg(feature = "unstable-world")]
    pub fn probe(&self) -> Box<dyn Fn() -> Option<String> + Send> {
        let door = Arc::downgrade(&self.0.door);
        Box::new(move || door.upgrade()?.asleep_while_ready())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the producer is closed").with_outcome(Outcome::NotWritten)
}

impl Drop for Inner {
    fn drop(&mut self) {
        let left = self.door.with(|machine, _| {
            let before = machine.tally();
            machine.end(closed());
            let after = machine.tally();
            (after.failed - before.failed, after.unknown - before.unknown)
        });
        if let Ok((failed, unknown)) = left
            && failed + unknown > 0
        {
            tracing::warn!(failed, unknown, "a producer was dropped with records that were not acknowledged");
        }
        self.door.stop();
    }
}

/// A topic to send to: the name is looked up once, not for each record. Cheap to clone.
///
/// ```no_run
/// # async fn run(producer: ottla::Producer) -> Result<(), ottla::Error> {
/// let orders = producer.topic("orders");
/// let written = orders.send(ottla::Payload::new(b"4711", b"tea")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Topic {
    producer: Producer,
    at: usize,
    name: Str,
}

/// A record that [`Topic::try_enqueue`] could not take.
#[derive(Debug)]
#[non_exhaustive]
pub enum Full {
    /// There is no room in `buffer.memory`.
    Buffer,
    /// Metadata of the topic has not come yet.
    Metadata,
    /// It cannot be taken at all.
    Failed(Error),
}

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Full::Buffer => f.write_str("buffer.memory is full"),
            Full::Metadata => f.write_str("metadata of the topic has not come yet"),
            Full::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Full {}

impl Topic {
    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets keys be spread over the first `partitions` partitions only, also when the topic gets more of them, so that a key
    /// stays where its earlier records are. From 1; it holds for all handles of the topic, and for the partitioners of Kafka's
    /// clients: one of your own sees all partitions. Records without a key still go to all.
    ///
    /// ```
    /// # fn run(producer: ottla::Producer) {
    /// let orders = producer.topic("orders");
    /// orders.pin_partitions(12);
    /// # }
    /// ```
    pub fn pin_partitions(&self, partitions: usize) {
        // A producer that is broken places no records.
        let _ = self.producer.0.door.with(|machine, _| machine.pin(self.at, partitions));
    }

    /// Bytes of the records that each partition has got from this producer, before compression; empty while the topic's
    /// partitions are not known. A batch counts when it is full or sent. Never waits.
    pub fn partition_bytes(&self) -> Vec<u64> {
        self.producer.0.door.with(|machine, _| machine.partition_bytes(self.at)).unwrap_or_default()
    }

    /// Gives a record to the producer, waiting for room and for metadata if it must, at most `max.block.ms`. When it is
    /// ready the record is accepted, in order behind what this task enqueued before, and its `delivery.timeout.ms` begins.
    ///
    /// Dropping the future before it is ready sends nothing; see [`Delivery`] for what comes after.
    ///
    /// # Errors
    /// All with [`Outcome::NotWritten`]: [`ErrorKind::UnknownTopic`], [`ErrorKind::BufferFull`], [`ErrorKind::Timeout`],
    /// [`ErrorKind::RecordTooLarge`], [`ErrorKind::InvalidArgument`] for a partition that does not exist,
    /// [`ErrorKind::Authorization`], [`ErrorKind::Closed`] and [`ErrorKind::Fatal`].
    #[inline]
    pub fn enqueue<'a>(&'a self, payload: Payload<'a>) -> Enqueue<'a> {
        Enqueue { topic: self, payload, waiting: None }
    }

    /// Gives a record to the producer if that is possible at once.
    ///
    /// # Errors
    /// [`Full`] says what is in the way; the payload is the caller's still.
    pub fn try_enqueue(&self, payload: Payload<'_>) -> Result<Delivery, Full> {
        if self.is_intercepted() {
            return self.try_enqueue_intercepted(payload);
        }
        self.append_at_once(&payload)
    }

    fn append_at_once(&self, payload: &Payload<'_>) -> Result<Delivery, Full> {
        match self.append(payload, false) {
            Ok(delivery) => Ok(delivery),
            Err(Refusal::Room { .. } | Refusal::Backlog { .. } | Refusal::Turn { .. }) => Err(Full::Buffer),
            Err(Refusal::Metadata) => Err(Full::Metadata),
            Err(Refusal::Failed(error)) => Err(Full::Failed(error)),
        }
    }

    /// Enqueues a record and waits for its outcome: one round trip a call. To send many, enqueue them and await the
    /// deliveries afterwards. Dropping the future before the record is accepted sends nothing, and later detaches.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and those of the delivery, whose [`outcome`](Error::outcome) says whether the record may
    /// be written.
    pub async fn send(&self, payload: Payload<'_>) -> Result<RecordMetadata, Error> {
        self.enqueue(payload).await?.await
    }

    #[inline]
    fn append(&self, payload: &Payload<'_>, patient: bool) -> Result<Delivery, Refusal> {
        self.append_in_turn(payload, patient, None)
    }

    /// `turn`: the caller's place in the line of those who wait for room.
    #[inline]
    fn append_in_turn(
        &self,
        payload: &Payload<'_>,
        patient: bool,
        turn: Option<u64>,
    ) -> Result<Delivery, Refusal> {
        let Inner { door, config, .. } = &*self.producer.0;
        let place = match (payload.partition, &config.partitioner) {
            (Some(partition), _) => Place::Partition(partition),
            (None, PartitionerChoice::Custom(_)) => self.ask_partitioner(payload)?,
            (None, PartitionerChoice::Scheme(scheme)) => Place::Key(*scheme),
        };
        let Payload { key, value, headers, timestamp, .. } = *payload;
        let entrant = Entrant { place, timestamp, key, value, headers };
        let clock = || Now { instant: now(), wall_ms: door.world.wall_ms() };
        let appended = door.with_hot(|machine| {
            let (result, changed) = machine.append_in_turn(self.at, &entrant, patient, turn, clock);
            let then = match &result {
                _ if !changed => Then::Nothing,
                // Without linger a record leaves at once: its own task writes it, unless the link is busy.
                Ok(_) if config.linger.is_zero() => Then::StandIn,
                _ => Then::Wake,
            };
            (result, then)
        });
        let (batch, index) = appended.map_err(not_taken).map_err(Refusal::Failed)??;
        Ok(Delivery::new(batch, index))
    }

    /// Asks the user's partitioner, outside the lock, about the partitions as they are now. A panic fails this record alone.
    #[cold]
    fn ask_partitioner(&self, payload: &Payload<'_>) -> Result<Place, Refusal> {
        let Inner { door, config, .. } = &*self.producer.0;
        let PartitionerChoice::Custom(partitioner) = &config.partitioner else { return Ok(Place::Free) };
        let partitions = door.with(|machine, now| machine.views(self.at, || now));
        let partitions = partitions.map_err(not_taken).map_err(Refusal::Failed)?;
        if partitions.is_empty() {
            // The append says why.
            return Ok(Place::Free);
        }
        let view = TopicView { name: &self.name, partitions: &partitions };
        let value_bytes = payload.value.map_or(0, <[u8]>::len);
        let keyed = Keyed { topic: &self.name, key: payload.key, value_bytes };
        let ask = std::panic::AssertUnwindSafe(|| partitioner.partition(&keyed, &view));
        match std::panic::catch_unwind(ask) {
            Ok(ANY) => Ok(Place::Free),
            Ok(partition) => Ok(Place::Partition(partition)),
            Err(_) => {
                let message = format!("the partitioner panicked at a record for topic {}", self.name);
                Err(Refusal::Failed(
                    Error::new(ErrorKind::InvalidArgument, message).with_outcome(Outcome::NotWritten),
                ))
            }
        }
    }

    /// Does a part of the link's work, if that falls behind: compresses the batch that the caller has filled.
    fn compress_sealed(&self, partition: usize) -> Result<(), Error> {
        let Inner { door, compressors, .. } = &*self.producer.0;
        let loan = door.with_hot(|machine| (machine.lend_sealed(partition), Then::Nothing))?;
        if let Some(loan) = loan {
            let mut compressor = compressors.lock().pop().unwrap_or_default();
            let compressed = loan.compress(&mut compressor);
            compressors.lock().push(compressor);
            door.with(|machine, _| machine.take_back(compressed))?;
        }
        Ok(())
    }

    /// Waits for what was in the way, and appends as soon as nothing is.
    async fn enqueue_later(&self, payload: Payload<'_>, first: Refusal) -> Result<Delivery, Error> {
        let Inner { door, config, .. } = &*self.producer.0;
        let deadline = tokio::time::Instant::now() + config.max_block;
        let mut refusal = first;
        let mut turn: Option<Turn<'_>> = None;
        loop {
            pause(&*door.world).await;
            let topic = self.at;
            let waited = match &refusal {
                Refusal::Failed(error) => return Err(error.clone()),
                Refusal::Turn { partition } => {
                    self.compress_sealed(*partition).map_err(not_taken)?;
                    tokio::task::yield_now().await;
                    Ok(Ok(()))
                }
                Refusal::Room { partition, bytes } => {
                    let (partition, bytes) = (*partition, *bytes);
                    let number = Turn::keep(&mut turn, door, partition)?;
                    let room = door.until(move |m| m.has_room(partition, bytes, number));
                    tokio::time::timeout_at(deadline, room).await
                }
                Refusal::Backlog { partition } => {
                    let partition = *partition;
                    // There is memory: whoever waits for some goes first.
                    turn = None;
                    let _counted = Counted::new(door);
                    tokio::time::timeout_at(deadline, door.until(move |m| m.has_gone_on(partition))).await
                }
                Refusal::Metadata => {
                    let _counted = Counted::new(door);
                    tokio::time::timeout_at(deadline, door.until(move |m| m.is_known(topic))).await
                }
            };
            match waited {
                Ok(ready) => ready.map_err(not_taken)?,
                Err(_) => {
                    let why = door.with(|machine, _| machine.explain_wait(topic, &refusal));
                    return Err(why.map_err(not_taken)?);
                }
            }
            let number = turn.as_ref().map(|turn| turn.number);
            match self.append_in_turn(&payload, !matches!(refusal, Refusal::Turn { .. }), number) {
                Ok(delivery) => return Ok(delivery),
                Err(again) => refusal = again,
            }
        }
    }
}

/// The error of a record that was not accepted.
fn not_taken(error: Error) -> Error {
    error.with_outcome(Outcome::NotWritten)
}

/// A task that waits for metadata, as far as metrics tell.
struct Counted<'a>(&'a Door);

impl<'a> Counted<'a> {
    fn new(door: &'a Door) -> Self {
        // A producer that is broken counts nothing.
        let _ = door.with_hot(|machine| (machine.waits(true), Then::Nothing));
        Self(door)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let _ = self.0.with_hot(|machine| (machine.waits(false), Then::Nothing));
    }
}

/// A place in the line of those who wait for room, given up when it is dropped.
struct Turn<'a> {
    door: &'a Door,
    number: u64,
    partition: usize,
}

impl<'a> Turn<'a> {
    /// The number of the place for this partition; a new one at the end unless there is one already.
    fn keep(turn: &mut Option<Self>, door: &'a Door, partition: usize) -> Result<u64, Error> {
        if let Some(turn) = turn.as_ref().filter(|turn| turn.partition == partition) {
            return Ok(turn.number);
        }
        *turn = None;
        let number = door.with(|machine, _| machine.join_line(partition)).map_err(not_taken)?;
        *turn = Some(Turn { door, number, partition });
        Ok(number)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // A producer that is broken has no lines.
        let _ = self.door.with(|machine, _| machine.leave_line(self.number));
    }
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Delivery, Error>> + Send + 'a>>;

/// The future of [`Topic::enqueue`].
#[must_use = "a record is only sent when this is awaited"]
pub struct Enqueue<'a> {
    topic: &'a Topic,
    payload: Payload<'a>,
    /// The slow way, once something was in the way.
    waiting: Option<Waiting<'a>>,
}

impl std::fmt::Debug for Enqueue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enqueue").field("topic", &self.topic.name()).finish_non_exhaustive()
    }
}

impl Future for Enqueue<'_> {
    type Output = Result<Delivery, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.waiting.is_none() {
            if self.topic.is_intercepted() {
                self.waiting = Some(Box::pin(self.topic.enqueue_intercepted(self.payload)));
                return self.poll(cx);
            }
            match self.topic.append(&self.payload, true) {
                Ok(delivery) => return Poll::Ready(Ok(delivery)),
                Err(refusal) => self.wait_for(refusal),
            }
        }
        match &mut self.waiting {
            Some(waiting) => waiting.as_mut().poll(cx),
            // Set above.
            None => Poll::Pending,
        }
    }
}

impl Enqueue<'_> {
    #[cold]
    fn wait_for(&mut self, refusal: Refusal) {
        self.waiting = Some(Box::pin(self.topic.enqueue_later(self.payload, refusal)));
    }
}
