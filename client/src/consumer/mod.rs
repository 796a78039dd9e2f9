//! The consumer as its users see it: records on loan, commits, and a handle to steer by.
//!
//! It owns the reading of what was fetched, and what it means to finish a record: asking for the next one, an acknowledgement,
//! or handing it out. It refuses to know brokers, groups and sessions. Invariant: a record counts as finished only when the
//! application has asked for the next or said so itself, unless it chose at most once; leaving the loop finishes nothing.

mod closing;
mod control;
mod cover;
mod debt;
mod handover;
mod hooks;
mod partitions;
mod reading;
mod record;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_protocol::records::Decompressor;
use ottla_protocol::wire::Str;

use crate::client::Client;
use crate::config::{ConsumerBuilder, ConsumerConfig, Done, When};
use crate::core::consumer::{Attention, Consumer as Machine};
use crate::core::offsets::CommitId;
use crate::core::positions::{Chunk, Lease};
use crate::core::{Now, TopicPartition};
use crate::driver::shared::{Shared, now};
use crate::driver::supervisor;
use crate::error::{Error, ErrorKind};
use crate::world::pause;
pub use closing::CloseOptions;
pub use control::{Control, SeekTo};
use debt::Debt;
pub use partitions::{PartitionStream, PartitionStreams, StreamEnd};
use reading::Reading;
pub use record::{OwnedRecord, Record};
pub use stream::{EventStream, RecordStream};

type Door = Shared<Machine>;

/// Reads records, alone or as a member of a group.
///
/// [`recv`](Consumer::recv) lends one record after the other; asking for the next finishes the one before, unless
/// [`ConsumerBuilder::finish_on`] says otherwise. What is finished is committed as [`ConsumerBuilder::commit_when`] says. Dropping the consumer ends its connections at once and commits
/// nothing more; [`close`](Consumer::close) is the graceful end.
///
/// ```no_run
/// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
/// use std::time::Duration;
/// use ottla::When;
///
/// let hybrid = When::Hybrid { records: 100, within: Duration::from_secs(5) };
/// let mut consumer = client.consumer().group("billing").subscribe(["orders"]).commit_when(hybrid).build()?;
/// while let Some(record) = consumer.recv().await? {
///     println!("{:?}", record.value());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    control: Control,
    config: Arc<ConsumerConfig>,
    attention: Arc<Attention>,
    reading: Option<Reading>,
    /// What the application has in hand and has not finished: everything up to this offset of the chunk that is read.
    in_hand: Option<i64>,
    /// Finished records of the partition that is read since its last commit.
    uncommitted: u32,
    /// Records that were lent since the machine was asked for a chunk.
    lent: u64,
    /// What a batch holds of partitions whose chunks are read to the end.
    batch: Vec<(Arc<Lease>, i64)>,
    /// Records for a batch that was not returned yet.
    gathered: Vec<OwnedRecord>,
    /// A record of the chunk in hand could not be read.
    unreadable: bool,
    /// The chunk in hand was read to its end.
    exhausted: bool,
    /// The offset after the last record that was lent of the chunk in hand.
    next_offset: i64,
    /// Where the records that may be lent end, if they have to be committed before.
    covered: i64,
    debt: Debt,
    decompressor: Decompressor,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("group", &self.config.group_id).finish_non_exhaustive()
    }
}

static NUMBER: AtomicU64 = AtomicU64::new(1);

impl Client {
    /// Starts the settings of a consumer. Building it opens no connection.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder { client: self.clone(), config: self.builder.consumer.clone() }
    }
}

impl ConsumerBuilder {
    /// Checks the settings and starts the consumer's supervisor, on the current tokio runtime. It connects and joins its
    /// group in the background from here on.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], which names the settings that are wrong; [`ErrorKind::InvalidArgument`] outside of a Tokio runtime.
    pub fn build(mut self) -> Result<Consumer, Error> {
        let client = self.client;
        for warning in self.config.check(&client.config)? {
            tracing::warn!(%warning, "consumer settings");
        }
        let config = Arc::new(self.config);
        let number = || NUMBER.fetch_add(1, Ordering::Relaxed);
        let group = config.group_id.clone().unwrap_or_else(|| Str::from("none"));
        let named = client.named(|| format!("consumer-{group}-{}", number()));
        let started = Now { instant: now(), wall_ms: client.world.wall_ms() };
        let machine = Machine::new(named.clone(), config.clone(), client.world.random(), started);
        let attention = machine.attention();
        let door = Shared::new(machine, client.world.clone());
        supervisor::start(&door, &named)?;
        let control = Control { door };
        hooks::start(&control, &config);
        Ok(Consumer {
            control,
            config,
            attention,
            reading: None,
            in_hand: None,
            uncommitted: 0,
            lent: 0,
            batch: Vec::new(),
            gathered: Vec::new(),
            unreadable: false,
            exhausted: false,
            next_offset: -1,
            covered: i64::MAX,
            debt: Debt::default(),
            decompressor: Decompressor::new(),
        })
    }
}

impl Consumer {
    /// Lends the next record, in the order of its partition, waiting for it if need be. The record before it is finished by this
    /// call. `None` after [`close`](Control::close).
    ///
    /// Dropping the future while it waits loses nothing; the record before stays finished.
    ///
    /// # Errors
    /// Of one partition, which stays where it is until a seek, while the others go on: [`ErrorKind::Corrupt`],
    /// [`ErrorKind::OffsetOutOfRange`], [`ErrorKind::Authorization`]. Of the group: [`ErrorKind::Fenced`],
    /// [`ErrorKind::Fatal`]. When nothing can be reached for `default.api.timeout.ms`: [`ErrorKind::Connect`],
    /// [`ErrorKind::UnknownTopic`]; the consumer goes on trying, and so may the application. When owned records that the
    /// application holds take all of `fetch.buffer.bytes` for as long: [`ErrorKind::BufferFull`]. Of a commit that
    /// [`ConsumerBuilder::commit_when`] makes due, as [`commit`](Self::commit): no record was lent, and the next call goes on.
    #[inline]
    pub async fn recv(&mut self) -> Result<Option<Record<'_>>, Error> {
        self.attention.ask();
        self.finish();
        if self.debt.is_due(self.config.when) {
            self.settle().await?;
        }
        loop {
            if self.has_record()? {
                if self.next_offset < self.covered {
                    return self.lend();
                }
                self.cover().await?;
            } else if !self.next_chunk().await? {
                return Ok(None);
            }
        }
    }

    /// Waits for a record, and returns it with those that are there already or come `within` this time: at most `max`, and at
    /// most `max.poll.records`. The records before are finished by this call, and these by the next. `None` after
    /// [`close`](Control::close).
    ///
    /// Dropping the future loses nothing: what it had gathered is returned by the next call.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), when there is no record to return before the error.
    pub async fn recv_batch(&mut self, max: usize, within: Duration) -> Result<Option<RecordBatch>, Error> {
        let max = max.min(self.config.max_poll_records).max(1);
        if self.gathered.is_empty() {
            self.attention.ask();
            self.finish();
            if self.debt.is_due(self.config.when) {
                self.settle().await?;
            }
        }
        let deadline = tokio::time::Instant::now() + within;
        while self.gathered.len() < max {
            match self.gather_one() {
                Ok(Gathered::One) => continue,
                Ok(Gathered::NotCovered) => match self.cover().await {
                    Err(error) if self.gathered.is_empty() => return Err(error),
                    Err(_) => break,
                    Ok(()) => continue,
                },
                Ok(Gathered::None) if self.gathered.is_empty() => {
                    if !self.next_chunk().await? {
                        return Ok(None);
                    }
                }
                Ok(Gathered::None) => {
                    self.put_in_batch();
                    self.put_away();
                    if self.control.door.with(|machine, _| machine.is_starved())? {
                        // What is gathered takes all the memory: waiting brings nothing.
                        break;
                    }
                    if !matches!(tokio::time::timeout_at(deadline, self.next_chunk()).await, Ok(Ok(true))) {
                        break;
                    }
                }
                Err(error) if self.gathered.is_empty() => return Err(error),
                // Met again by the next call.
                Err(_) => break,
            }
        }
        Ok(Some(RecordBatch { records: std::mem::take(&mut self.gathered) }))
    }

    fn gather_one(&mut self) -> Result<Gathered, Error> {
        if !self.has_record()? {
            return Ok(Gathered::None);
        }
        if self.next_offset >= self.covered {
            return Ok(Gathered::NotCovered);
        }
        let owned = self.lend()?.map(|record| record.to_owned());
        let found = if owned.is_some() { Gathered::One } else { Gathered::None };
        self.gathered.extend(owned);
        Ok(found)
    }

    /// No more is read of the chunk in hand, but what was read is not finished: it is in a batch.
    fn put_in_batch(&mut self) {
        if let (Some(reading), Some(offset)) = (&self.reading, self.in_hand.take()) {
            let end = reading.chunk.end.filter(|_| self.exhausted).unwrap_or(offset);
            self.batch.push((reading.chunk.lease.clone(), end));
            if !self.exhausted {
                self.put_away();
            } else if let Some(reading) = self.reading.take() {
                self.report(reading.chunk);
            }
        }
    }

    /// Records that were gathered for a call that was dropped are read again.
    #[cold]
    fn give_back(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        self.batch.clear();
        self.in_hand = None;
        for (at, record) in gathered.iter().enumerate() {
            let same = |r: &OwnedRecord| r.topic() == record.topic() && r.partition() == record.partition();
            if !gathered.iter().take(at).any(same) {
                let partition =
                    TopicPartition { topic: Str::from(record.topic()), partition: record.partition() };
                let offset = record.offset();
                let _ = self.control.door.with(|machine, now| machine.read_again(now, &partition, offset));
            }
        }
    }

    /// Finishes what is in hand, and commits what is finished of all partitions. Waits for the group's answer, at most
    /// `default.api.timeout.ms`. Dropping the future leaves the commit on its way.
    ///
    /// That a partition belongs to another member by now is no error: [`CommitOutcome::superseded`] names it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] without a group, [`ErrorKind::Timeout`], [`ErrorKind::Fenced`],
    /// [`ErrorKind::Authorization`], [`ErrorKind::Broker`].
    pub async fn commit(&mut self) -> Result<CommitOutcome, Error> {
        self.finish();
        commit(&self.control.door).await
    }

    /// A handle that works while a record is on loan, and from other tasks.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Delivers nothing more, commits what is finished (unless commits are [`When::Manual`]), leaves the group, or keeps its place
    /// in it, and ends all connections, within a time: see [`CloseOptions`]. The record in hand is not finished by this. Dropping the future leaves the
    /// consumer closed for delivery; a second call goes on.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when the group could not be told in time: it will notice by itself.
    pub async fn close(mut self, options: impl Into<CloseOptions>) -> Result<(), Error> {
        self.reading = None;
        self.control.close_with(options.into()).await
    }

    /// For a simulator: says who sleeps although there is something to do.
    #[cfg(feature = "unstable-world")]
    pub fn probe(&self) -> Box<dyn Fn() -> Option<String> + Send> {
        let door = Arc::downgrade(&self.control.door);
        Box::new(move || door.upgrade()?.asleep_while_ready())
    }

    /// What is in hand is done.
    #[inline]
    fn finish(&mut self) {
        if !self.gathered.is_empty() {
            self.give_back();
        }
        if !self.batch.is_empty() {
            self.finish_batch();
        }
        let (Some(offset), Some(reading)) = (self.in_hand.take(), &self.reading) else { return };
        reading.chunk.lease.finish(offset);
        let due = match self.config.when {
            When::EachRecord => true,
            When::Hybrid { records, .. } => self.uncommitted >= records,
            _ => false,
        };
        if due {
            self.uncommitted = 0;
            self.debt.add(&reading.chunk.partition);
        }
    }

    #[cold]
    fn finish_batch(&mut self) {
        for (lease, offset) in self.batch.drain(..) {
            lease.finish(offset);
        }
        if self.control.door.with(|machine, _| machine.is_batch_due()).unwrap_or(false) {
            self.debt.add_all();
        }
    }

    /// Whether a record of the chunk in hand is left. A chunk that was called back has none.
    #[inline]
    fn has_record(&mut self) -> Result<bool, Error> {
        let Some(reading) = &mut self.reading else { return Ok(false) };
        if self.unreadable {
            self.stop_reading();
            return Ok(false);
        }
        if reading.chunk.lease.is_recalled() || reading.chunk.lease.is_paused() {
            return Ok(false);
        }
        match reading.next_open(&mut self.decompressor) {
            Ok(more) => {
                self.exhausted = !more;
                Ok(more)
            }
            Err(error) => {
                self.stop_reading();
                Err(error)
            }
        }
    }

    /// Lends the record that [`Consumer::has_record`] has seen.
    #[inline]
    fn lend(&mut self) -> Result<Option<Record<'_>>, Error> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        let Reading { chunk, open: Some(open), .. } = reading else { return Ok(None) };
        let timestamp_type = open.header().timestamp_type;
        match open.next() {
            Ok(Some(inner)) => {
                let (from, done) = (self.next_offset, self.config.done);
                self.next_offset = inner.offset.saturating_add(1);
                match done {
                    Done::OnNext => self.in_hand = Some(self.next_offset),
                    Done::OnAck => {}
                    // Or it is finished already, and what comes behind it too.
                    Done::Delivered if self.covered == i64::MAX => chunk.lease.finish(self.next_offset),
                    Done::Delivered => {}
                }
                self.uncommitted += 1;
                self.lent += 1;
                let (place, lease) = (&chunk.partition, &chunk.lease);
                let (held, door) = (chunk.charge.held(), &self.control.door);
                Ok(Some(Record { inner, place, lease, door, held, timestamp_type, from, done }))
            }
            Ok(None) => Ok(None),
            Err(cause) => {
                self.unreadable = true;
                Err(reading::corrupt(&chunk.partition, &cause))
            }
        }
    }

    /// The rest of the chunk cannot be read: its partition waits for a seek.
    #[cold]
    fn stop_reading(&mut self) {
        self.unreadable = false;
        if let Some(reading) = self.reading.take() {
            let _ = self.control.door.with(|machine, now| machine.fail(now, reading.chunk));
        }
    }

    /// Puts the chunk in hand away, whose delivered records are all finished, and waits for another. False when the consumer
    /// is closed.
    #[cold]
    async fn next_chunk(&mut self) -> Result<bool, Error> {
        self.put_away();
        if self.debt.is_due(self.config.when) {
            self.settle().await?;
        }
        let door = &self.control.door;
        loop {
            let lent = std::mem::take(&mut self.lent);
            let (taken, closing) = door.with(|machine, now| {
                machine.read += lent;
                let taken = machine.take(now);
                (taken, machine.is_closing())
            })?;
            match taken {
                Some(chunk) => {
                    let chunk = chunk?;
                    let (TopicPartition { topic, partition }, bytes) =
                        (&chunk.partition, chunk.records.len());
                    tracing::trace!(%topic, partition, offset = chunk.from, bytes, "fetched records are read");
                    (self.uncommitted, self.next_offset, self.exhausted) =
                        (chunk.uncommitted, chunk.from, false);
                    self.covered = self.covered_from(chunk.from);
                    self.reading = Some(Reading::new(chunk, self.config.clone()));
                    return Ok(true);
                }
                None if closing => return Ok(false),
                None => {
                    pause(&*door.world).await;
                    match door.until(|machine| machine.has_next()).await {
                        Err(e) if e.kind() == ErrorKind::Closed => return Ok(false),
                        ready => ready?,
                    }
                }
            }
        }
    }

    /// Only a chunk that was read to its end is finished to its end. One that was paused goes back, one that was called back
    /// is dropped.
    fn put_away(&mut self) {
        let Some(Reading { chunk, .. }) = self.reading.take() else { return };
        if let Some(end) = chunk.end.filter(|_| self.exhausted) {
            if self.config.done == Done::OnAck {
                let from = self.next_offset;
                let _ =
                    self.control.door.with(|machine, now| machine.delivered_chunk(now, &chunk, from, end));
            } else if self.batch.iter().any(|(lease, _)| Arc::ptr_eq(lease, &chunk.lease)) {
                // It held nothing to deliver, but what was delivered in front of it is not finished.
                self.batch.push((chunk.lease.clone(), end));
            } else {
                chunk.lease.finish(end);
            }
        }
        if self.exhausted || chunk.lease.is_recalled() {
            return self.report(chunk);
        }
        let (from, uncommitted) = (self.next_offset, self.uncommitted);
        self.owe_batch(&chunk.partition);
        // A consumer that is broken says so at the next chunk.
        let _ = self.control.door.with(|machine, now| {
            machine.finished_chunk(&chunk.partition, &chunk.lease, uncommitted);
            machine.give_back(now, chunk, from);
        });
    }

    /// Tells the machine how many records were finished since the partition's last commit.
    fn report(&mut self, chunk: Chunk) {
        let uncommitted = self.uncommitted;
        let (partition, lease) = chunk.let_go();
        let _ = self.control.door.with(|machine, _| machine.finished_chunk(&partition, &lease, uncommitted));
        self.owe_batch(&partition);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // A consumer that is broken counts no acknowledgement anyway.
        let _ = self.control.door.with(|machine, _| machine.abandon());
        self.control.door.stop();
    }
}

/// What came of the attempt to add a record to a batch.
enum Gathered {
    One,
    /// It has to be committed first.
    NotCovered,
    /// There is none.
    None,
}

/// Records of their own, from [`Consumer::recv_batch`].
///
/// ```no_run
/// # async fn run(mut consumer: ottla::Consumer) -> Result<(), ottla::Error> {
/// use std::time::Duration;
///
/// while let Some(batch) = consumer.recv_batch(500, Duration::from_millis(50)).await? {
///     for record in &batch.records {
///         println!("{:?}", record.value());
///     }
///     consumer.commit().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordBatch {
    /// The records; those of one partition are in order.
    pub records: Vec<OwnedRecord>,
}

/// Which partitions a commit could not cover.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitOutcome {
    /// Partitions that belong to another member by now: whoever has them reads on from the last commit before.
    pub superseded: Vec<(String, i32)>,
}

/// Commits what is finished, and waits for the answer.
async fn commit(door: &Arc<Door>) -> Result<CommitOutcome, Error> {
    let Some(id) = door.with(|machine, now| machine.commit(now, None))?? else {
        return Ok(CommitOutcome::default());
    };
    let mut watch = Watch { door, id: Some(id) };
    pause(&*door.world).await;
    door.until(move |machine| machine.is_committed(id)).await?;
    watch.id = None;
    let outcome =
        door.with(|machine, _| machine.take_commit(id))?.unwrap_or_else(|| Ok(Default::default()))?;
    let superseded = outcome.superseded.into_iter().map(|p| (p.topic.to_string(), p.partition)).collect();
    Ok(CommitOutcome { superseded })
}

/// A commit that is waited for; when nobody waits any more the machine takes its result.
struct Watch<'a> {
    door: &'a Door,
    id: Option<CommitId>,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let _ = self.door.with(|machine, _| machine.unwatch(id));
        }
    }
}
