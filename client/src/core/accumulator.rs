//! How records get into batches: the part of the producer's machine that user tasks call.
//!
//! It owns the placement of records that name no partition, the limits on memory and who waits for it, and the buffers that
//! are used again. Memory is shared by broker: one that holds much gets no more while others would be left without, so a
//! broker that is slow, or gone, cannot have it all. The hot path is [`Producer::append_in_turn`]: one look at the open batch and one copy; no clock is read for a record, no topic is
//! looked up, nothing is allocated. Invariant: what is refused has changed nothing but, perhaps, closed a full batch.

use std::time::Instant;

use bytes::BytesMut;
use ottla_partitioners::{PartitionView, Scheme, TopicView};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::records::{BatchBuilder, Codec, HEADER_BYTES, Header};
use ottla_protocol::wire::{Str, Uuid};

use super::batch::{Batch, Body, Number, Ticket};
use super::fill::Fill;
use super::heat::Heat;
use super::ledger::Entry;
use super::producer::{NOWHERE, Outlet, Producer, Topic};
use super::queue::Queue;
use super::{Lane, Link, Now};
use crate::config::PartitionerChoice;
use crate::error::{Error, ErrorKind, Outcome};

/// A record on its way into a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entrant<'a> {
    pub(crate) place: Place,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [Header<'a>],
}

/// Where a record is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Partition(i32),
    /// Where its key says, or without one anywhere: spread evenly, a batch at a time.
    Key(Scheme),
    /// Anywhere.
    Free,
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Its batch was full and has been closed: let the link have a turn, or help it, then come back.
    Turn {
        partition: usize,
    },
    /// No memory: line up for it.
    Room {
        partition: usize,
        bytes: usize,
    },
    /// Enough waits for the broker of this partition already. Nobody lines up for that: there is memory for all.
    Backlog {
        partition: usize,
    },
    /// Metadata of the topic has not come.
    Metadata,
    Failed(Error),
}

/// What waits for one broker beyond this is no longer in the processor's cache when its turn comes.
const BACKLOG_BYTES: usize = 4 << 20;
/// Buffers that are kept for the next batches, in bytes: what waits and what is in flight comes and goes by so much, and new
/// memory costs a fault a page.
const SPARE_BYTES: usize = 16 << 20;

impl<D: Ticket> Producer<D> {
    /// The position of a topic; it is asked for from now on.
    pub(crate) fn topic(&mut self, now: Instant, name: &Str) -> usize {
        self.cluster.metadata.want(now, name);
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let scheme = match self.config.partitioner {
            PartitionerChoice::Scheme(scheme) => scheme,
            PartitionerChoice::Custom(_) => Scheme::Java,
        };
        let rack = self.cluster.config.client_rack.as_ref().filter(|_| self.config.rack_aware_partitioning);
        let rack = rack.map(|rack| rack.as_str().into());
        let spread = scheme.spread(self.config.batch_size, self.config.adaptive_partitioning).rack(rack);
        let (name, id, partitions) = (name.clone(), Uuid::ZERO, Vec::new());
        self.by_name.insert(name.clone(), self.topics.len());
        self.topics.push(Topic {
            name,
            id,
            partitions,
            spread,
            fill: Fill::default(),
            heat: Heat::default(),
            pinned: usize::MAX,
            used: now,
        });
        self.topics.len() - 1
    }

    /// See [`crate::Topic::pin_partitions`].
    pub(crate) fn pin(&mut self, topic: usize, partitions: usize) {
        self.topics[topic].pinned = partitions.max(1);
    }

    /// Appends a record to the open batch of its partition. `patient`: the caller waits when it is told so. `turn`: what
    /// [`Producer::join_line`] gave a caller that has waited for room. Returns the claim to the batch's outcome with the
    /// record's position in it, and whether links have to be looked at.
    #[inline]
    pub(crate) fn append_in_turn(
        &mut self,
        topic: usize,
        record: &Entrant<'_>,
        patient: bool,
        turn: Option<u64>,
        now: impl Fn() -> Now + Copy,
    ) -> (Result<(D::Claim, i32), Refusal>, bool) {
        let (at, free) = match self.place(topic, record, now) {
            Ok(place) => place,
            Err(refusal) => return (Err(refusal), false),
        };
        if self.lined_up > 0 && !self.is_turn_of(at, turn) {
            return (Err(Refusal::Room { partition: at, bytes: 0 }), false);
        }
        if let Some(batch) = &mut self.queues[at].open
            && let Body::Open(builder) = &mut batch.body
        {
            let timestamp = match record.timestamp {
                Some(timestamp) => timestamp,
                None if self.config.linger.as_millis() <= 5 => batch.opened_ms,
                None => now().wall_ms,
            };
            let size = builder.size_of(timestamp, record.key, record.value, record.headers);
            if self.buffered + size > self.config.buffer_memory {
                // What will never fit is not to wait.
                let refusal = self.admit(topic, at, HEADER_BYTES + size, size, patient).err();
                return (Err(refusal.unwrap_or(Refusal::Room { partition: at, bytes: size })), false);
            }
            if builder.len() + size <= batch.limit
                && let Ok(position) = builder.append(timestamp, record.key, record.value, record.headers)
            {
                batch.bytes += size;
                batch.count += 1;
                self.buffered += size;
                let claim = batch.ticket.claim();
                if free {
                    self.count_free(topic, size);
                }
                return (Ok((claim, position)), false);
            }
            self.seal(at, true);
            if patient {
                return (Err(Refusal::Turn { partition: at }), true);
            }
            // A record that may go anywhere may belong elsewhere now.
            return (self.append_in_turn(topic, record, false, turn, now).0, true);
        }
        let result = self.append_to_new(topic, (at, free), record, patient, now());
        let changed = result.is_ok();
        (result, changed)
    }

    /// Opens a batch and appends its first record, which may be larger than a batch.
    #[cold]
    #[inline(never)]
    fn append_to_new(
        &mut self,
        topic: usize,
        (at, free): (usize, bool),
        record: &Entrant<'_>,
        patient: bool,
        now: Now,
    ) -> Result<(D::Claim, i32), Refusal> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes = self.spare_bytes.saturating_sub(buffer.capacity());
        let mut builder = BatchBuilder::new(buffer, record.timestamp.unwrap_or(now.wall_ms));
        let timestamp = builder.base_timestamp();
        let size = builder.size_of(timestamp, record.key, record.value, record.headers);
        if let Err(refusal) = self.admit(topic, at, builder.len() + size, size, patient) {
            self.keep_buffer(builder.into_parts().0);
            return Err(refusal);
        }
        let position = builder
            .append(timestamp, record.key, record.value, record.headers)
            .map_err(|e| Refusal::Failed(self.too_large(topic, size, &e.to_string())))?;
        self.topics[topic].used = now.instant;
        self.cluster.metadata.want(now.instant, &self.topics[topic].name);
        let entry = Entry { expires: now.instant + self.config.delivery_timeout, partition: at, parts: 1 };
        let opened = self.ledger.open(entry);
        let number = Number { opened, from: 0 };
        let fill = self.topics[topic].fill;
        let limit = fill.limit(self.config.batch_size, self.config.max_request_size);
        let queue = &mut self.queues[at];
        let ticket = D::new(&self.topics[topic].name, queue.index);
        let claim = ticket.claim();
        queue.open = Some(Batch {
            number,
            body: Body::Open(builder),
            bytes: size,
            limit,
            count: 1,
            opened_ms: now.wall_ms,
            numbered: None,
            attempts: 0,
            doubtful: false,
            part: false,
            settled: false,
            ticket,
        });
        self.buffered += size;
        if free {
            self.count_free(topic, size);
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.enter(at);
            self.step_transaction(now.instant);
        }
        let queue = &self.queues[at];
        match queue.leader {
            _ if limit <= size + HEADER_BYTES => self.seal(at, true),
            // Without linger a batch is due at once, and grows while it cannot go.
            Some(node) => {
                let outlet = self.outlets.entry(node).or_default();
                outlet.lingering.push_back((now.instant + self.config.linger, at, number));
                self.cluster.want(Link { node, lane: Lane::Produce });
            }
            // It grows until there is a leader.
            None => {}
        }
        Ok((claim, position))
    }

    /// A record that could have gone anywhere has come to the partition where such records go now.
    #[inline]
    fn count_free(&mut self, topic: usize, size: usize) {
        let topic = &mut self.topics[topic];
        topic.spread.produced(topic.fill.estimate(size));
    }

    /// Whether a record may start a batch of `request` bytes.
    fn admit(
        &self,
        topic: usize,
        at: usize,
        request: usize,
        size: usize,
        patient: bool,
    ) -> Result<(), Refusal> {
        if let Some(error) = self.accepts_nothing() {
            return Err(Refusal::Failed(error));
        }
        if request > self.config.max_request_size {
            let limit = format!("max.request.size is {} bytes", self.config.max_request_size);
            return Err(Refusal::Failed(self.too_large(topic, size, &limit)));
        }
        if size > self.config.buffer_memory {
            let limit = format!("buffer.memory is {} bytes", self.config.buffer_memory);
            return Err(Refusal::Failed(self.too_large(topic, size, &limit)));
        }
        if !self.has_memory(at, size) {
            return Err(Refusal::Room { partition: at, bytes: size });
        }
        if patient && self.is_backlogged(at) {
            return Err(Refusal::Backlog { partition: at });
        }
        Ok(())
    }

    /// Why no record is accepted, if so.
    fn accepts_nothing(&self) -> Option<Error> {
        let transaction = || self.transaction.as_ref().and_then(|transaction| transaction.accepts().err());
        self.ended.clone().or_else(transaction).map(|error| error.with_outcome(Outcome::NotWritten))
    }

    fn too_large(&self, topic: usize, size: usize, limit: &str) -> Error {
        let message =
            format!("a record of {size} bytes for topic {} is too large: {limit}", self.topics[topic].name);
        Error::new(ErrorKind::RecordTooLarge, message).with_outcome(Outcome::NotWritten)
    }

    /// Bytes that wait for the broker of a partition.
    pub(super) fn backlog(&self, at: usize) -> usize {
        self.outlet(at).map_or(0, |outlet| outlet.backlog)
    }

    fn is_backlogged(&self, at: usize) -> bool {
        self.backlog(at) > BACKLOG_BYTES
    }

    /// Whether there is memory for so many bytes more for a partition. A broker may hold twice of what it leaves free:
    /// the less memory is left, the smaller is every share, and there is always some for a broker that holds little.
    fn has_memory(&self, at: usize, bytes: usize) -> bool {
        let Some(free) = self.config.buffer_memory.checked_sub(self.buffered + bytes) else { return false };
        let held = self.outlet(at).map_or(0, |outlet| outlet.held);
        // A broker that leads all that is in use leaves nobody without.
        let alone = self.queues[at].leader.is_some() && self.outlets.range(0..).nth(1).is_none();
        alone || held == 0 || held <= 2 * free
    }

    fn outlet(&self, at: usize) -> Option<&Outlet> {
        self.outlets.get(&self.queues[at].leader.unwrap_or(NOWHERE))
    }

    /// Whether a record that was refused with [`Refusal::Room`] may come back.
    pub(crate) fn has_room(&self, partition: usize, bytes: usize, turn: u64) -> bool {
        self.accepts_nothing().is_some()
            || (self.is_turn_of(partition, Some(turn)) && self.has_memory(partition, bytes))
    }

    /// Whether a record that was refused with [`Refusal::Backlog`] may come back.
    pub(crate) fn has_gone_on(&self, partition: usize) -> bool {
        self.accepts_nothing().is_some() || !self.is_backlogged(partition)
    }

    /// Lines a call up that waits for room; those who wait for the same broker get it in the order in which they came.
    pub(crate) fn join_line(&mut self, partition: usize) -> u64 {
        self.lined_up += 1;
        self.turns += 1;
        let node = self.queues[partition].leader.unwrap_or(NOWHERE);
        self.outlets.entry(node).or_default().line.push_back((self.turns, partition));
        self.turns
    }

    /// A call that has waited goes its way, with room or without.
    pub(crate) fn leave_line(&mut self, turn: u64) {
        self.lined_up = self.lined_up.saturating_sub(1);
        self.outlets.values_mut().for_each(|outlet| outlet.line.retain(|(waiting, _)| *waiting != turn));
    }

    /// Whether nobody else is before this call in the line for the broker of a partition.
    fn is_turn_of(&self, at: usize, turn: Option<u64>) -> bool {
        let first = self.outlet(at).and_then(|outlet| outlet.line.front());
        first.is_none_or(|(first, _)| Some(*first) == turn)
    }

    /// Whether a record that was refused with [`Refusal::Metadata`] may come back.
    pub(crate) fn is_known(&self, topic: usize) -> bool {
        !self.topics[topic].partitions.is_empty() || !matches!(self.unknown(topic), Refusal::Metadata)
    }

    /// The queue of the partition where a record goes, and whether it could have gone to any other as well.
    #[inline]
    fn place(
        &mut self,
        topic: usize,
        record: &Entrant<'_>,
        now: impl Fn() -> Now,
    ) -> Result<(usize, bool), Refusal> {
        let known = &self.topics[topic];
        let count = i32::try_from(known.partitions.len().min(known.pinned)).unwrap_or(i32::MAX);
        if count == 0 {
            return Err(self.unknown(topic));
        }
        let named = match record.place {
            Place::Partition(index) => Some(index),
            Place::Key(scheme) => scheme.keyed(record.key, count),
            Place::Free => None,
        };
        let index = match named.or_else(|| known.spread.current()) {
            Some(index) => index,
            None => self.spread(topic, now),
        };
        let partitions = &self.topics[topic].partitions;
        let at = usize::try_from(index).ok().and_then(|index| partitions.get(index));
        let at = at.copied().ok_or_else(|| Refusal::Failed(self.no_partition(topic, index)))?;
        Ok((at, named.is_none()))
    }

    /// Chooses where the records without a place go next.
    #[cold]
    fn spread(&mut self, topic: usize, now: impl Fn() -> Now) -> i32 {
        let views = self.views(topic, || now().instant);
        let random = self.cluster.random.next();
        let topic = &mut self.topics[topic];
        topic.spread.choose(&TopicView { name: &topic.name, partitions: &views }, random)
    }

    /// The partitions of a topic as a partitioner sees them; none while metadata has not come.
    pub(crate) fn views(&self, topic: usize, now: impl FnOnce() -> Instant) -> Vec<PartitionView> {
        let timeout = self.config.partition_availability_timeout;
        let since = (!timeout.is_zero()).then(now).and_then(|now| now.checked_sub(timeout));
        let queues = self.topics[topic].partitions.iter().map(|at| &self.queues[*at]);
        let view = |queue: &Queue<D>| PartitionView {
            id: queue.index,
            leader: queue.leader.filter(|node| since.is_none_or(|since| self.takes(*node, queue, since))),
            rack: queue.leader.and_then(|node| self.cluster.rack(node)).map(|rack| rack.as_str().into()),
            queued_bytes: queue.waiting_bytes,
        };
        queues.map(view).collect()
    }

    /// Whether the leader of a partition has taken batches since then, or has had none to take (KIP-794).
    fn takes(&self, node: i32, queue: &Queue<D>, since: Instant) -> bool {
        let Some(outlet) = self.outlets.get(&node) else { return true };
        let ready = outlet.ready.front().map(|at| &self.queues[*at]);
        let oldest = ready.into_iter().chain([queue]).filter_map(|queue| queue.waiting.front());
        let mut expiries =
            oldest.filter_map(|batch| self.ledger.get(batch.number.opened).map(|entry| entry.expires));
        let waits = expiries.any(|expires| expires <= since + self.config.delivery_timeout);
        !waits || outlet.taken.is_some_and(|taken| taken > since)
    }

    #[cold]
    fn unknown(&self, topic: usize) -> Refusal {
        let name = &self.topics[topic].name;
        let failed = |kind, code: ErrorCode| {
            let error = Error::new(kind, format!("topic {name}: {code}")).with_code(code);
            Refusal::Failed(error.with_outcome(Outcome::NotWritten))
        };
        match (self.accepts_nothing(), self.cluster.metadata.error(name), self.cluster.failure()) {
            (Some(error), ..) => Refusal::Failed(error),
            (_, Some(code @ ErrorCode::TOPIC_AUTHORIZATION_FAILED), _) => {
                failed(ErrorKind::Authorization, code)
            }
            (_, Some(code @ ErrorCode::INVALID_TOPIC_EXCEPTION), _) => {
                failed(ErrorKind::InvalidArgument, code)
            }
            (_, _, Some(e)) if e.needs_help() => Refusal::Failed(e.clone().with_outcome(Outcome::NotWritten)),
            _ => Refusal::Metadata,
        }
    }

    fn no_partition(&self, topic: usize, index: i32) -> Error {
        let topic = &self.topics[topic];
        let message =
            format!("topic {} has {} partitions, there is no {index}", topic.name, topic.partitions.len());
        Error::new(ErrorKind::InvalidArgument, message).with_outcome(Outcome::NotWritten)
    }

    /// What to say when waiting for a topic or for room took too long.
    pub(crate) fn explain_wait(&self, topic: usize, refusal: &Refusal) -> Error {
        let (name, wait) = (&self.topics[topic].name, self.config.max_block);
        let cause = self.cluster.failure().map(|cause| format!(": {cause}")).unwrap_or_default();
        let (kind, message) = match (refusal, self.cluster.metadata.error(name)) {
            (Refusal::Metadata, Some(code)) => {
                (ErrorKind::UnknownTopic, format!("topic {name}: {code}, and so it stayed for {wait:?}"))
            }
            (Refusal::Metadata, None) => {
                (ErrorKind::Timeout, format!("topic {name}: no metadata within {wait:?}{cause}"))
            }
            _ => (ErrorKind::BufferFull, format!("topic {name}: no room in the buffer within {wait:?}")),
        };
        let error = Error::new(kind, message).with_outcome(Outcome::NotWritten);
        match (self.cluster.metadata.error(name), self.cluster.failure()) {
            (Some(code), _) if kind == ErrorKind::UnknownTopic => error.with_code(code),
            (_, Some(cause)) => error.with_source(cause.clone()),
            _ => error,
        }
    }

    /// Refuses records from now on; what was accepted goes on.
    pub(crate) fn refuse_more(&mut self, error: Error) {
        self.flush();
        self.ended.get_or_insert(error);
    }

    /// Closes all open batches. The flush is over when [`Producer::is_flushed`] says so of the number returned.
    pub(crate) fn flush(&mut self) -> u64 {
        (0..self.queues.len()).for_each(|at| self.seal(at, false));
        self.ledger.next_number()
    }

    /// Whether every batch that was open when [`Producer::flush`] returned `number` is settled.
    pub(crate) fn is_flushed(&self, number: u64) -> bool {
        self.ledger.is_settled_below(number)
    }

    /// Keeps the buffer of a settled batch for the next one, unless a single record has made it large.
    pub(super) fn keep_buffer(&mut self, buffer: BytesMut) {
        let compresses = self.config.codec != Codec::NONE;
        // What compresses well fills a batch up to the size of a request.
        let usual = if compresses { self.config.max_request_size } else { self.config.batch_size };
        let fits = buffer.capacity() <= 2 * usual.max(1 << 10);
        if fits && self.spare_bytes + buffer.capacity() <= SPARE_BYTES {
            self.spare_bytes += buffer.capacity();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
impl<D: Ticket> Producer<D> {
    /// As [`Producer::append_in_turn`], for a caller that has not waited.
    pub(crate) fn append(
        &mut self,
        topic: usize,
        record: &Entrant<'_>,
        patient: bool,
        now: impl Fn() -> Now + Copy,
    ) -> (Result<(D::Claim, i32), Refusal>, bool) {
        self.append_in_turn(topic, record, patient, None, now)
    }
}
