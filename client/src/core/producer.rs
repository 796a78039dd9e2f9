//! The producer's machine: partitions, what may be sent to whom, and what the answers mean.
//!
//! It owns the queues of all partitions, the producer id, and the requests that wait for an answer. Records come in by
//! [`super::accumulator`]; encoding is the link's work. Invariant: a partition is on its leader's list of ready ones if and only if
//! its first batch may be sent, so that nobody ever scans partitions, and a link that finds the list empty may sleep.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ottla_partitioners::Spread;
use ottla_protocol::error_code::{ErrorCode, Write};
use ottla_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducedPartition,
};
use ottla_protocol::records::Stamp;
use ottla_protocol::wire::{Str, Uuid};

use super::ask::{Answer, Ask};
use super::backoff::Backoff;
use super::batch::{Address, Batch, BatchOutcome, Body, Shipment, Ticket};
use super::cluster::Cluster;
use super::ledger::Ledger;
use super::queue::Queue;
use super::sequence::Identity;
use super::verdict::{Situation, Verdict, judge};
use super::{Dial, Input, Lane, Link, Machine, Request, Work};
use crate::config::{ClientConfig, ProducerConfig, wire_millis};
use crate::error::{Error, ErrorKind, Outcome};
use crate::planted::{Defect, planted};

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Str,
    pub(super) id: Uuid,
    /// Positions of its partitions in the machine's list; empty until metadata has come.
    pub(super) partitions: Vec<usize>,
    /// Where records without a place go.
    pub(super) spread: Spread,
    /// When a batch was opened for it last.
    pub(super) used: Instant,
}

/// The produce lane of one broker.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    /// Partitions whose first batch may go, in turn; each at most once.
    pub(super) ready: VecDeque<usize>,
    /// Open batches by the end of their linger; entries of batches that are open no more are dropped when met.
    pub(super) lingering: VecDeque<(Instant, usize, u64)>,
    /// Requests without an answer, oldest first: the batches of each.
    flights: VecDeque<Vec<(usize, u64)>>,
    /// The batches that the link is encoding.
    shipping: Vec<(usize, u64)>,
    /// Bytes that wait for this broker.
    pub(super) backlog: usize,
}

/// Where the producer id comes from.
#[derive(Debug)]
enum Name {
    Unknown { ask_after: Instant },
    Asked(Link),
    Known(Identity),
}

/// How many records came to which end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
}

#[derive(Debug)]
pub(crate) struct Producer<D> {
    pub(super) config: Arc<ProducerConfig>,
    pub(crate) cluster: Cluster,
    pub(super) topics: Vec<Topic>,
    pub(super) by_name: BTreeMap<Str, usize>,
    pub(super) queues: Vec<Queue<D>>,
    pub(super) outlets: BTreeMap<i32, Outlet>,
    pub(super) ledger: Ledger,
    pub(super) buffered: usize,
    pub(super) spare: Vec<BytesMut>,
    /// Partitions that wait before they try again.
    retries: BTreeSet<(Instant, usize)>,
    name: Name,
    name_backoff: Backoff,
    retry_backoff: (Duration, Duration),
    metadata_seen: u64,
    /// Whether metadata names the ids of all topics.
    has_ids: bool,
    /// Why nothing is accepted any more.
    pub(super) ended: Option<Error>,
    news: Vec<(D, BatchOutcome)>,
    tally: Tally,
}

impl<D: Ticket> Producer<D> {
    pub(crate) fn new(
        client: Arc<ClientConfig>,
        config: Arc<ProducerConfig>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let retry_backoff = (client.retry_backoff, client.retry_backoff_max);
        Self {
            cluster: Cluster::new(client, seed, now),
            config,
            topics: Vec::new(),
            by_name: BTreeMap::new(),
            queues: Vec::new(),
            outlets: BTreeMap::new(),
            ledger: Ledger::default(),
            buffered: 0,
            spare: Vec::new(),
            retries: BTreeSet::new(),
            name: Name::Unknown { ask_after: now },
            name_backoff: Backoff::new(retry_backoff.0, retry_backoff.1),
            retry_backoff,
            metadata_seen: 0,
            has_ids: true,
            ended: None,
            news: Vec::new(),
            tally: Tally::default(),
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// What a queue starts to number with; none while a producer id is to be asked for.
    fn identity(&self) -> Option<Identity> {
        match self.name {
            Name::Known(identity) => Some(identity),
            _ => None,
        }
    }

    /// Puts a partition on its leader's list if its first batch may go. To be called after whatever may have changed that.
    pub(super) fn list(&mut self, at: usize) {
        let identity = self.identity();
        let queue = &mut self.queues[at];
        if !queue.listed
            && let Some(node) = queue.may_send(self.config.idempotence, identity)
        {
            queue.listed = true;
            self.outlets.entry(node).or_default().ready.push_back(at);
            self.cluster.want(Link { node, lane: Lane::Produce });
        }
    }

    fn list_all(&mut self) {
        (0..self.queues.len()).for_each(|at| self.list(at));
    }

    /// Closes the open batch of a partition.
    pub(super) fn seal(&mut self, at: usize, full: bool) {
        let queue = &mut self.queues[at];
        let before = queue.waiting_bytes;
        if queue.seal() {
            if let Some(outlet) = queue.leader.and_then(|node| self.outlets.get_mut(&node)) {
                outlet.backlog += queue.waiting_bytes - before;
            }
            self.topics[queue.topic].spread.batch_sealed(queue.index, full);
            self.list(at);
        }
    }

    /// Moves a partition to the list of another leader.
    fn lead(&mut self, at: usize, leader: Option<i32>) {
        let queue = &mut self.queues[at];
        if queue.leader == leader {
            return;
        }
        if let Some(old) = queue.leader.and_then(|node| self.outlets.get_mut(&node)) {
            old.ready.retain(|listed| *listed != at);
            old.lingering.retain(|(_, lingering, _)| *lingering != at);
            old.backlog = old.backlog.saturating_sub(queue.waiting_bytes);
        }
        queue.leader = leader;
        queue.listed = false;
        if let Some(retry_at) = queue.retry_at.take() {
            self.retries.remove(&(retry_at, at));
        }
        if let Some(node) = leader {
            self.outlets.entry(node).or_default().backlog += queue.waiting_bytes;
        }
        // Its linger belongs to the old leader's list, and it is late already.
        self.seal(at, false);
        self.list(at);
    }

    /// Brings topics and leaders up to what metadata says.
    fn read_metadata(&mut self, now: Instant) {
        if self.metadata_seen == self.cluster.metadata.generation {
            return;
        }
        self.metadata_seen = self.cluster.metadata.generation;
        self.has_ids = true;
        let mut leaders = Vec::new();
        let mut recreated = Vec::new();
        for (position, topic) in self.topics.iter_mut().enumerate() {
            let Some(known) = self.cluster.metadata.topic(&topic.name) else { continue };
            if topic.id != known.id && topic.id != Uuid::ZERO {
                recreated.extend(topic.partitions.iter().copied());
            }
            topic.id = known.id;
            self.has_ids &= known.id != Uuid::ZERO;
            for (index, partition) in (0..).zip(&known.partitions) {
                let at = match usize::try_from(index).ok().and_then(|index| topic.partitions.get(index)) {
                    Some(at) => *at,
                    None => {
                        self.queues.push(Queue::new(position, index));
                        topic.partitions.push(self.queues.len() - 1);
                        self.queues.len() - 1
                    }
                };
                leaders.push((at, partition.leader.filter(|node| self.cluster.has_node(*node))));
            }
        }
        recreated.into_iter().for_each(|at| self.forget_log(now, at));
        leaders.into_iter().for_each(|(at, leader)| self.lead(at, leader));
    }

    /// The topic was deleted and created again: what may be in the old log must not be sent into the new one.
    fn forget_log(&mut self, now: Instant, at: usize) {
        let name = &self.topics[self.queues[at].topic].name;
        let message = format!("topic {name} was created again while a record was on its way");
        self.give_up_doubtful(at, &Error::new(ErrorKind::UnknownTopic, message));
        self.break_off(now, at);
    }

    /// Gives up what may be in the log already, where sending it again cannot tell.
    fn give_up_doubtful(&mut self, at: usize, error: &Error) {
        let (doubtful, waiting) = std::mem::take(&mut self.queues[at].waiting)
            .into_iter()
            .partition(|batch: &Batch<D>| batch.doubtful);
        self.queues[at].waiting = waiting;
        let doubtful: VecDeque<Batch<D>> = doubtful;
        for batch in doubtful {
            self.queues[at].waiting_bytes -= batch.bytes;
            if let Some(outlet) = self.queues[at].leader.and_then(|node| self.outlets.get_mut(&node)) {
                outlet.backlog = outlet.backlog.saturating_sub(batch.bytes);
            }
            self.give_up(at, batch, error.clone(), Outcome::PossiblyWritten);
        }
    }

    /// Leaves topics out of the metadata requests that were not produced to for long. Their sequences stay (fault 10).
    fn forget_idle(&mut self, now: Instant) {
        let idle = |t: &&Topic| now.saturating_duration_since(t.used) > self.config.metadata_max_idle;
        let still = |t: &&Topic| t.partitions.iter().all(|at| self.queues[*at].is_idle());
        let forgotten: Vec<Str> =
            self.topics.iter().filter(idle).filter(still).map(|t| t.name.clone()).collect();
        forgotten.iter().for_each(|name| self.cluster.metadata.forget(name));
    }

    // What goes out.

    fn outlet_wants(&self, now: Instant, node: i32) -> bool {
        let due = |outlet: &Outlet| outlet.lingering.front().is_some_and(|(at, ..)| *at <= now);
        self.outlets
            .get(&node)
            .is_some_and(|o| self.has_room_for_flight(o) && (!o.ready.is_empty() || due(o)))
    }

    fn has_room_for_flight(&self, outlet: &Outlet) -> bool {
        outlet.flights.len() < self.config.max_in_flight
    }

    /// Closes the batches whose linger is over.
    fn end_linger(&mut self, now: Instant, node: i32) {
        while let Some(outlet) = self.outlets.get_mut(&node)
            && let Some((until, at, number)) = outlet.lingering.front().copied()
        {
            let open = self.queues[at].open.as_ref().is_some_and(|batch| batch.number == number);
            if open && until > now {
                break;
            }
            outlet.lingering.pop_front();
            if open {
                self.seal(at, false);
            }
        }
    }

    /// A request of at most one batch for each ready partition, up to max.request.size.
    fn ship(&mut self, now: Instant, link: Link) -> Option<Work> {
        self.end_linger(now, link.node);
        if !self.outlet_wants(now, link.node) {
            return None;
        }
        // From version 13 on a request names topics by id alone, which an old metadata answer does not have.
        let version_max = if self.has_ids { i16::MAX } else { 12 };
        let version = match self.cluster.version::<ProduceRequest>(link, version_max) {
            Ok(version) => version,
            Err(cause) => return Some(Work::Close(cause)),
        };
        let identity = self.identity();
        let mut parcels = Vec::new();
        let mut shipping = Vec::new();
        let mut bytes = 0;
        while let Some(at) = self.outlets.get(&link.node).and_then(|outlet| outlet.ready.front().copied()) {
            let queue = &mut self.queues[at];
            let size = queue.waiting.front().map_or(0, |batch| batch.bytes);
            let again = shipping.iter().any(|(shipped, _)| *shipped == at);
            if again || (bytes + size > self.config.max_request_size && bytes > 0) {
                break;
            }
            let outlet = self.outlets.entry(link.node).or_default();
            outlet.ready.pop_front();
            outlet.backlog = outlet.backlog.saturating_sub(size);
            queue.listed = false;
            if let Some(batch) = queue.send(link.node, self.config.idempotence, identity) {
                bytes += size;
                shipping.push((at, batch.number));
                let topic = &self.topics[queue.topic];
                let parcel = queue.out.iter_mut().find(|b| Some(b.number) == shipping.last().map(|s| s.1));
                let address = Address { topic: topic.name.clone(), topic_id: topic.id, index: queue.index };
                parcels.extend(parcel.map(|batch| (address, batch.lend())));
            }
            self.list(at);
        }
        if parcels.is_empty() {
            return None;
        }
        let outlet = self.outlets.entry(link.node).or_default();
        outlet.flights.push_back(shipping.clone());
        outlet.shipping = shipping;
        let timeout = self.cluster.config.request_timeout;
        let (codec, acks) = (self.config.codec, self.config.acks.wire());
        let shipment = Shipment { parcels, codec, acks, timeout_ms: wire_millis(timeout), version, timeout };
        Some(Work::Produce(Box::new(shipment)))
    }

    /// The link has encoded what it borrowed.
    fn shipped(&mut self, link: Link, encoded: Vec<(Bytes, Stamp)>) {
        let Some(outlet) = self.outlets.get_mut(&link.node) else { return };
        let shipping = std::mem::take(&mut outlet.shipping);
        for ((at, number), (bytes, stamp)) in shipping.iter().zip(encoded) {
            if let Some(batch) = self.queues[*at].out.iter_mut().find(|b| b.number == *number) {
                batch.body = Body::Encoded(bytes, stamp);
            }
        }
        if self.config.acks.wire() == 0 {
            // Nobody will answer: what the link has is as good as sent.
            self.outlets.entry(link.node).or_default().flights.pop_back();
            for (at, number) in shipping {
                if let Some(batch) = self.queues[at].take_out(number) {
                    self.settle(batch, BatchOutcome::Written { base_offset: None, log_append_time: None });
                }
                self.list(at);
            }
        }
    }

    fn wants_name(&self, now: Instant) -> bool {
        matches!(self.name, Name::Unknown { ask_after } if ask_after <= now && self.needs_name())
    }

    fn needs_name(&self) -> bool {
        self.config.idempotence && !self.topics.is_empty()
    }

    fn ask_name(&mut self, link: Link) -> Work {
        match self.cluster.version::<InitProducerIdRequest>(link, 5) {
            Ok(version) => {
                self.name = Name::Asked(link);
                let ask = Ask::InitProducerId(InitProducerIdRequest {
                    transactional_id: None,
                    transaction_timeout_ms: i32::MAX,
                    ..InitProducerIdRequest::default()
                });
                Work::Request(Request {
                    ask,
                    version,
                    timeout: self.cluster.config.request_timeout,
                    answered: true,
                })
            }
            Err(cause) => {
                self.end(cause.clone());
                Work::Close(cause)
            }
        }
    }

    // What comes back.

    fn named(&mut self, now: Instant, link: Link, response: &InitProducerIdResponse) {
        self.cluster.throttle(now, link, response.throttle_time_ms);
        if response.error_code.is_ok() {
            self.name_backoff.reset();
            self.name = Name::Known(Identity { id: response.producer_id, epoch: response.producer_epoch });
            self.list_all();
            return;
        }
        let ask_after = now + self.name_backoff.next(&mut self.cluster.random);
        self.name = Name::Unknown { ask_after };
        if !response.error_code.is_retriable() {
            let message = format!("no producer id: {}", response.error_code);
            self.end(Error::new(ErrorKind::Fatal, message).with_code(response.error_code));
        }
    }

    fn answered(&mut self, now: Instant, link: Link, response: &ProduceResponse) {
        self.cluster.throttle(now, link, response.throttle_time_ms);
        for node in &response.node_endpoints {
            self.cluster.learn_node(now, node.node_id, &node.host, node.port, node.rack.clone());
        }
        let flight = self
            .outlets
            .get_mut(&link.node)
            .and_then(|outlet| outlet.flights.pop_front())
            .unwrap_or_default();
        let answers: Vec<(&Str, Uuid, &ProducedPartition)> = response
            .responses
            .iter()
            .flat_map(|topic| topic.partition_responses.iter().map(|p| (&topic.name, topic.topic_id, p)))
            .collect();
        for (position, (at, number)) in flight.into_iter().enumerate() {
            let queue = &self.queues[at];
            let topic = &self.topics[queue.topic];
            let named = |(name, id, p): &(&Str, Uuid, &ProducedPartition)| {
                p.index == queue.index && (**name == topic.name || (*id == topic.id && *id != Uuid::ZERO))
            };
            // A broker answers in the order of the request, so the first look nearly always hits.
            let in_order = answers.get(position).filter(|answer| named(answer));
            match in_order.or_else(|| answers.iter().find(|answer| named(answer))) {
                Some((_, _, answer)) => self.judge(now, link.node, at, number, answer),
                None => {
                    let message = format!("{}-{} is missing in the answer", topic.name, queue.index);
                    self.try_again(now, at, number, Error::new(ErrorKind::Protocol, message));
                }
            }
        }
        self.read_metadata(now);
    }

    fn judge(&mut self, now: Instant, node: i32, at: usize, number: u64, answer: &ProducedPartition) {
        let queue = &mut self.queues[at];
        let Some(mut batch) = queue.take_out(number) else { return };
        let situation = Situation {
            idempotent: self.config.idempotence,
            earlier_unresolved: queue.has_earlier(number),
            broken: queue.sequence.is_broken(),
            doubtful: batch.doubtful,
            log_moved: answer.log_start_offset > queue.acknowledged,
        };
        match judge(answer.error_code, situation) {
            Verdict::Written => {
                queue.acknowledged = answer.base_offset.saturating_add(i64::from(batch.count));
                batch.numbered.into_iter().for_each(|numbered| queue.sequence.prove(numbered));
                let log_append_time = (answer.log_append_time_ms >= 0).then_some(answer.log_append_time_ms);
                let base_offset = (answer.base_offset >= 0).then_some(answer.base_offset);
                self.settle(batch, BatchOutcome::Written { base_offset, log_append_time });
            }
            Verdict::Duplicate => {
                batch.numbered.into_iter().for_each(|numbered| queue.sequence.prove(numbered));
                self.settle(batch, BatchOutcome::Written { base_offset: None, log_append_time: None });
            }
            Verdict::Retry { refresh } => {
                let error = self.describe(at, answer);
                if refresh {
                    self.look_for_leader(now, node, at, answer);
                }
                batch.doubtful |= answer.error_code.write() != Write::NotWritten;
                self.again(now, at, batch, error, refresh);
            }
            Verdict::Renumber => {
                (batch.numbered, batch.doubtful) = (None, false);
                self.break_off(now, at);
                self.put_back(at, batch);
                if answer.error_code == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER {
                    self.queues[at].clear_doubt();
                } else {
                    self.give_up_doubtful(at, &self.describe(at, answer));
                }
            }
            Verdict::Fail(outcome) => {
                let error = self.describe(at, answer);
                let numbered = batch.numbered.is_some();
                if answer.record_errors.is_empty() || batch.settled {
                    self.give_up(at, batch, error, outcome);
                } else {
                    let records = answer.record_errors.iter();
                    let records =
                        records.map(|r| (r.batch_index, r.batch_index_error_message.clone())).collect();
                    self.settle(batch, BatchOutcome::Refused { error, records });
                }
                if numbered {
                    self.break_off(now, at);
                }
            }
        }
        self.list(at);
    }

    /// A number of a partition is lost. A producer id whose epochs are used up there is replaced for all.
    fn break_off(&mut self, now: Instant, at: usize) {
        self.queues[at].sequence.break_off();
        if self.queues[at].sequence.is_exhausted() && matches!(self.name, Name::Known(_)) {
            self.name = Name::Unknown { ask_after: now };
        }
    }

    fn describe(&self, at: usize, answer: &ProducedPartition) -> Error {
        let queue = &self.queues[at];
        let code = answer.error_code;
        let text = answer.error_message.as_ref().map(|m| format!(": {m}")).unwrap_or_default();
        let message = format!("{}-{}: {code}{text}", self.topics[queue.topic].name, queue.index);
        let kind = match code {
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => ErrorKind::RecordTooLarge,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
                ErrorKind::Authorization
            }
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => ErrorKind::UnknownTopic,
            _ => ErrorKind::Broker,
        };
        Error::new(kind, message).with_code(code)
    }

    /// The leader is not where we thought: believe the hint (KIP-951), else ask.
    fn look_for_leader(&mut self, now: Instant, node: i32, at: usize, answer: &ProducedPartition) {
        let queue = &self.queues[at];
        let (name, index) = (&self.topics[queue.topic].name, queue.index);
        let hint = &answer.current_leader;
        let metadata = &mut self.cluster.metadata;
        metadata.hint(name, index, hint.leader_id, hint.leader_epoch);
        metadata.deny(name, index, node);
        metadata.refresh(now, &mut self.cluster.random);
    }

    /// No definite answer came for a batch that is out.
    fn try_again(&mut self, now: Instant, at: usize, number: u64, error: Error) {
        if let Some(mut batch) = self.queues[at].take_out(number) {
            batch.doubtful = true;
            self.again(now, at, batch, error, false);
        }
        self.list(at);
    }

    /// Puts a batch that was out back into its queue, unless its attempts or its time are used up. `moved`: the wait is for
    /// metadata, which has a backoff of its own.
    fn again(&mut self, now: Instant, at: usize, batch: Batch<D>, error: Error, moved: bool) {
        let queue = &mut self.queues[at];
        if batch.settled || matches!(batch.body, Body::Away) || batch.attempts > self.config.retries {
            if batch.numbered.is_some() {
                self.break_off(now, at);
            }
            let outcome = if batch.doubtful { Outcome::PossiblyWritten } else { Outcome::NotWritten };
            self.give_up(at, batch, error, outcome);
        } else {
            let mut backoff = Backoff::after(self.retry_backoff, batch.attempts.saturating_sub(1));
            let wait = backoff.next(&mut self.cluster.random);
            if !moved && queue.retry_at.is_none() {
                queue.retry_at = Some(now + wait);
                self.retries.insert((now + wait, at));
            }
            self.put_back(at, batch);
        }
    }

    fn put_back(&mut self, at: usize, batch: Batch<D>) {
        let identity = self.identity();
        let queue = &mut self.queues[at];
        if let Some(outlet) = queue.leader.and_then(|node| self.outlets.get_mut(&node)) {
            outlet.backlog += batch.bytes;
        }
        queue.put_back(batch);
        // The batch in front is another one now: it may have to wait for its turn.
        if queue.listed && queue.may_send(self.config.idempotence, identity).is_none() {
            let node = self.queues[at].leader;
            self.queues[at].listed = false;
            if let Some(outlet) = node.and_then(|node| self.outlets.get_mut(&node)) {
                outlet.ready.retain(|listed| *listed != at);
            }
        }
    }

    // How a batch ends.

    fn give_up(&mut self, at: usize, batch: Batch<D>, error: Error, outcome: Outcome) {
        let queue = &self.queues[at];
        tracing::warn!(
            topic = %self.topics[queue.topic].name, partition = queue.index, records = batch.count, ?outcome, %error,
            "records were not delivered"
        );
        self.settle(batch, BatchOutcome::Failed(error.with_outcome(outcome)));
    }

    /// Gives a batch its outcome and its memory back.
    fn settle(&mut self, batch: Batch<D>, outcome: BatchOutcome) {
        if !batch.settled {
            self.tell(&batch, outcome);
        }
        self.buffered = self.buffered.saturating_sub(batch.bytes);
        if let Some(buffer) = batch.into_buffer() {
            self.keep_buffer(buffer);
        }
    }

    fn tell(&mut self, batch: &Batch<D>, outcome: BatchOutcome) {
        let records = u64::try_from(batch.count).unwrap_or(0);
        match &outcome {
            BatchOutcome::Written { .. } => self.tally.delivered += records,
            BatchOutcome::Failed(e) if e.outcome() == Some(Outcome::PossiblyWritten) => {
                self.tally.unknown += records
            }
            BatchOutcome::Failed(_) | BatchOutcome::Refused { .. } => self.tally.failed += records,
        }
        self.ledger.settle(batch.number);
        self.news.push((batch.ticket.clone(), outcome));
    }

    /// The time of a batch is over. One that is out keeps its place, for its number and for its bytes (faults 4, B1).
    fn expire(&mut self, now: Instant, number: u64, at: usize) {
        let queue = &mut self.queues[at];
        let name = self.topics[queue.topic].name.clone();
        let message =
            format!("{name}-{}: not acknowledged within {:?}", queue.index, self.config.delivery_timeout);
        let mut error = Error::new(ErrorKind::Timeout, message);
        if let Some(cause) = self.cluster.failure() {
            error = error.with_source(cause.clone());
        }
        if let Some(place) = queue.out.iter().position(|b| b.number == number) {
            let mut batch = queue.out.remove(place).filter(|_| !planted(Defect::SilentExpiry));
            if let Some(batch) = &mut batch {
                batch.settled = true;
                let known = planted(Defect::FalseNotWritten);
                let outcome = if known { Outcome::NotWritten } else { Outcome::PossiblyWritten };
                self.tell(batch, BatchOutcome::Failed(error.with_outcome(outcome)));
            }
            let queue = &mut self.queues[at];
            batch.into_iter().for_each(|batch| queue.out.insert(place, batch));
        } else if let Some(place) = queue.waiting.iter().position(|b| b.number == number) {
            if let Some(batch) = queue.waiting.remove(place) {
                queue.waiting_bytes -= batch.bytes;
                if let Some(outlet) = queue.leader.and_then(|node| self.outlets.get_mut(&node)) {
                    outlet.backlog = outlet.backlog.saturating_sub(batch.bytes);
                }
                if batch.numbered.is_some() {
                    self.break_off(now, at);
                }
                let outcome = if batch.doubtful { Outcome::PossiblyWritten } else { Outcome::NotWritten };
                self.give_up(at, batch, error, outcome);
            }
        } else if let Some(batch) = queue.open.take_if(|b| b.number == number) {
            self.give_up(at, batch, error, Outcome::NotWritten);
        }
        self.ledger.settle(number);
        self.list(at);
    }

    /// Nothing goes on: every batch is settled with this error, and every later call fails with it.
    pub(crate) fn end(&mut self, error: Error) {
        for at in 0..self.queues.len() {
            let queue = &mut self.queues[at];
            queue.waiting_bytes = 0;
            let out = std::mem::take(&mut queue.out).into_iter().map(|batch| (batch, true));
            let waiting = std::mem::take(&mut queue.waiting).into_iter().chain(queue.open.take());
            let batches: Vec<_> = out.chain(waiting.map(|batch| (batch, false))).collect();
            for (batch, is_out) in batches {
                let doubtful = is_out || batch.doubtful;
                let outcome = if doubtful { Outcome::PossiblyWritten } else { Outcome::NotWritten };
                self.settle(batch, BatchOutcome::Failed(error.clone().with_outcome(outcome)));
            }
        }
        for outlet in self.outlets.values_mut() {
            outlet.ready.clear();
            outlet.lingering.clear();
            outlet.backlog = 0;
        }
        self.ended.get_or_insert(error);
    }

    fn lost(&mut self, now: Instant, link: Link, cause: &Error) {
        self.cluster.lost(now, link, cause);
        if matches!(self.name, Name::Asked(asked) if asked == link) {
            self.name = Name::Unknown { ask_after: now + self.name_backoff.next(&mut self.cluster.random) };
        }
        if link.lane != Lane::Produce {
            return;
        }
        let Some(outlet) = self.outlets.get_mut(&link.node) else { return };
        outlet.shipping.clear();
        let flights = std::mem::take(&mut outlet.flights);
        for (at, number) in flights.into_iter().flatten() {
            self.try_again(now, at, number, cause.clone());
        }
        if self.outlets.get(&link.node).is_some_and(|o| !o.ready.is_empty() || !o.lingering.is_empty()) {
            self.cluster.want(link);
        }
    }

    fn tick(&mut self, now: Instant) {
        while let Some((retry_at, at)) = self.retries.first().copied()
            && retry_at <= now
        {
            self.retries.remove(&(retry_at, at));
            self.queues[at].retry_at = None;
            self.list(at);
        }
        while let Some((number, at)) = self.ledger.expired(now) {
            self.expire(now, number, at);
        }
        self.cluster.step(now);
    }
}

impl<D: Ticket> Machine for Producer<D> {
    type News = (D, BatchOutcome);

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Opened { link, versions } => self.cluster.opened(link, versions),
            Input::Lost { link, cause } => self.lost(now, link, &cause),
            Input::Shipped { link, encoded } => self.shipped(link, encoded),
            Input::Tick => self.tick(now),
            Input::Answer { link, answer } => {
                self.cluster.alive(link);
                match answer {
                    Answer::Produce(response) => self.answered(now, link, &response),
                    Answer::InitProducerId(response) => self.named(now, link, &response),
                    Answer::Metadata(response) => {
                        self.cluster.answered(now, link, &response);
                        self.read_metadata(now);
                        self.forget_idle(now);
                    }
                    // A producer asks nothing else.
                    _ => {}
                }
            }
        }
        if self.needs_name() && matches!(self.name, Name::Unknown { .. }) {
            self.cluster.want_any_control(now);
        }
    }

    fn poll_dial(&mut self, now: Instant) -> Option<Dial> {
        self.cluster.poll_dial(now)
    }

    fn poll_work(&mut self, now: Instant, link: Link) -> Option<Work> {
        if let Some(work) = self.cluster.poll_work(now, link) {
            return Some(work);
        }
        if !self.cluster.is_writable(now, link) {
            return None;
        }
        match link.lane {
            Lane::Produce => self.ship(now, link),
            Lane::Control if self.wants_name(now) => Some(self.ask_name(link)),
            _ => None,
        }
    }

    fn wants(&self, now: Instant, link: Link) -> bool {
        let own = match link.lane {
            Lane::Produce => self.outlet_wants(now, link.node),
            Lane::Control => self.wants_name(now),
            _ => false,
        };
        self.cluster.wants(now, link) || (own && self.cluster.is_writable(now, link))
    }

    fn ready_at(&self, link: Link) -> Option<Instant> {
        let muted = self.cluster.muted_until(link);
        let linger = self
            .outlets
            .get(&link.node)
            .filter(|o| link.lane == Lane::Produce && self.has_room_for_flight(o));
        let linger = linger.and_then(|outlet| Some(outlet.lingering.front()?.0));
        let name = match self.name {
            Name::Unknown { ask_after } if link.lane == Lane::Control && self.needs_name() => Some(ask_after),
            _ => None,
        };
        let own = linger.into_iter().chain(name).min();
        // A muted link has nothing to do before it may speak again.
        match (own, muted) {
            (Some(own), Some(muted)) => Some(own.max(muted)),
            (own, muted) => own.or(muted),
        }
    }

    fn wants_dial(&self, now: Instant) -> bool {
        self.cluster.wants_dial(now)
    }

    fn deadline(&self) -> Option<Instant> {
        let retry = self.retries.first().map(|(at, _)| *at);
        self.cluster.deadline().into_iter().chain(retry).chain(self.ledger.deadline()).min()
    }

    fn take_news(&mut self) -> Vec<Self::News> {
        std::mem::take(&mut self.news)
    }

    fn tell(news: Self::News) {
        news.0.settle(news.1);
    }
}
