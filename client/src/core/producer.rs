//! The producer's machine: partitions, what may be sent to whom, and what the answers mean.
//!
//! It owns the queues of all partitions, the producer id, and the requests that wait for an answer. Records come in by
//! [`super::accumulator`]; encoding is the link's work. Invariant: a partition is on its leader's list of ready ones if and only if
//! its first batch may be sent, so that nobody ever scans partitions, and a link that finds the list empty may sleep.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ottla_partitioners::Spread;
use ottla_protocol::messages::InitProducerIdRequest;
use ottla_protocol::wire::{Str, Uuid};

use super::ask::{Answer, Ask};
use super::backoff::Backoff;
use super::batch::{BatchOutcome, Number, Ticket};
use super::cluster::Cluster;
use super::failures::Failures;
use super::fill::Fill;
use super::heat::Heat;
use super::ledger::Ledger;
use super::queue::Queue;
use super::saying::Saying;
use super::sequence::{Identity, Sequence};
use super::transaction::{Change, End, GroupOffsets, Transaction};
use super::{Dial, Input, Lane, Link, Machine, Request, TopicPartition, Work};
use crate::config::{ClientConfig, ProducerConfig};
use crate::error::{Error, ErrorKind, Outcome};
use crate::event::{Event, Events};
use crate::metrics::ProducerMetrics;

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Str,
    pub(super) id: Uuid,
    /// Positions of its partitions in the machine's list; empty until metadata has come.
    pub(super) partitions: Vec<usize>,
    /// Where records without a place go.
    pub(super) spread: Spread,
    /// How much goes into its batches.
    pub(super) fill: Fill,
    pub(super) heat: Heat,
    /// Keys are spread over so many partitions at most.
    pub(super) pinned: usize,
    /// When a batch was opened for it last.
    pub(super) used: Instant,
}

/// The produce lane of one broker. [`NOWHERE`] has one too, for the partitions without a leader.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    /// Partitions whose first batch may go, in turn; each at most once.
    pub(super) ready: VecDeque<usize>,
    /// Open batches by the end of their linger; entries of batches that are open no more are dropped when met.
    pub(super) lingering: VecDeque<(Instant, usize, Number)>,
    /// Requests without an answer, oldest first: when each was made, and its batches.
    pub(super) flights: VecDeque<(Instant, Vec<(usize, Number)>)>,
    /// The batches that the link is encoding.
    pub(super) shipping: Vec<(usize, Number)>,
    /// Bytes that wait to be sent.
    pub(super) backlog: usize,
    /// When the broker took batches last.
    pub(super) taken: Option<Instant>,
    /// Bytes that wait to be sent or to be answered.
    pub(super) held: usize,
    /// Calls that wait for room, oldest first: their numbers, and the partition of each.
    pub(super) line: VecDeque<(u64, usize)>,
}

/// Where partitions without a leader are.
pub(super) const NOWHERE: i32 = -1;

/// Where the producer id comes from.
#[derive(Debug)]
pub(super) enum Name {
    Unknown { ask_after: Instant },
    Asked(Link),
    Known(Identity),
}

/// What is to be told once the lock is open.
#[derive(Debug)]
pub(crate) enum News<D, C> {
    Outcome(D, BatchOutcome<C>),
    Saying(Saying),
}

#[derive(Debug)]
pub(crate) struct Producer<D: Ticket> {
    pub(super) config: Arc<ProducerConfig>,
    pub(crate) cluster: Cluster,
    pub(super) topics: Vec<Topic>,
    pub(super) by_name: BTreeMap<Str, usize>,
    pub(super) queues: Vec<Queue<D>>,
    pub(super) outlets: BTreeMap<i32, Outlet>,
    pub(super) ledger: Ledger,
    pub(super) buffered: usize,
    pub(super) spare: Vec<BytesMut>,
    /// What the spare buffers hold.
    pub(super) spare_bytes: usize,
    /// Partitions that wait before they try again.
    pub(super) retries: BTreeSet<(Instant, usize)>,
    pub(super) name: Name,
    /// Of a transactional producer, whose name comes from there.
    pub(crate) transaction: Option<Transaction>,
    pub(super) name_backoff: Backoff,
    pub(super) retry_backoff: (Duration, Duration),
    metadata_seen: u64,
    /// Whether metadata names the ids of all topics.
    pub(super) has_ids: bool,
    /// Why nothing is accepted any more.
    pub(super) ended: Option<Error>,
    pub(super) news: Vec<News<D, D::Claim>>,
    /// How many calls wait for room, and how many ever did.
    pub(super) lined_up: usize,
    pub(super) turns: u64,
    pub(super) metrics: ProducerMetrics,
    pub(super) events: Events,
    pub(super) failures: Failures,
}

impl<D: Ticket> Producer<D> {
    pub(crate) fn new(
        client: Arc<ClientConfig>,
        config: Arc<ProducerConfig>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let retry_backoff = (client.retry_backoff, client.retry_backoff_max);
        let transactional = config.transactional_id.clone();
        let transaction = transactional.map(|id| Transaction::new(id, &config, &client, now));
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
            spare_bytes: 0,
            retries: BTreeSet::new(),
            name: Name::Unknown { ask_after: now },
            transaction,
            name_backoff: Backoff::new(retry_backoff.0, retry_backoff.1),
            retry_backoff,
            metadata_seen: 0,
            has_ids: true,
            ended: None,
            news: Vec::new(),
            lined_up: 0,
            turns: 0,
            metrics: ProducerMetrics::default(),
            events: Events::default(),
            failures: Failures::new(now),
        }
    }

    /// What a queue starts to number with; none while a producer id is to be asked for.
    pub(super) fn identity(&self) -> Option<Identity> {
        match (&self.transaction, &self.name) {
            (Some(transaction), _) => transaction.identity(),
            (None, Name::Known(identity)) => Some(*identity),
            (None, _) => None,
        }
    }

    /// Puts a partition on its leader's list if its first batch may go, or takes it off if that may not go any more. To be
    /// called after whatever may have changed that.
    pub(super) fn list(&mut self, at: usize) {
        let identity = self.identity();
        let queue = &mut self.queues[at];
        let admitted = self.transaction.as_ref().is_none_or(|transaction| transaction.admits(at));
        let node = queue.may_send(self.config.idempotence, identity).filter(|_| admitted);
        match (queue.listed, node) {
            (false, Some(node)) => {
                self.outlets.entry(node).or_default().ready.push_back(at);
                self.cluster.want(Link { node, lane: Lane::Produce });
            }
            (true, None) => {
                let outlet = queue.leader.and_then(|node| self.outlets.get_mut(&node));
                outlet.into_iter().for_each(|outlet| outlet.ready.retain(|listed| *listed != at));
            }
            _ => {}
        }
        queue.listed = node.is_some();
    }

    pub(super) fn list_all(&mut self) {
        (0..self.queues.len()).for_each(|at| self.list(at));
    }

    /// Changes what a partition holds: the only way, so that its outlet always knows.
    pub(super) fn change<T>(&mut self, at: usize, change: impl FnOnce(&mut Queue<D>) -> T) -> T {
        let queue = &mut self.queues[at];
        let (waiting, out) = (queue.waiting_bytes, queue.out_bytes);
        let changed = change(queue);
        let outlet = self.outlets.entry(queue.leader.unwrap_or(NOWHERE)).or_default();
        outlet.backlog = (outlet.backlog + queue.waiting_bytes).saturating_sub(waiting);
        outlet.held = (outlet.held + queue.waiting_bytes + queue.out_bytes).saturating_sub(waiting + out);
        changed
    }

    /// Closes the open batch of a partition.
    pub(super) fn seal(&mut self, at: usize, full: bool) {
        if self.change(at, Queue::seal) {
            let queue = &self.queues[at];
            let (topic, bytes) =
                (&mut self.topics[queue.topic], queue.waiting.back().map_or(0, |batch| batch.bytes));
            topic.spread.batch_sealed(queue.index, full);
            if let Some((partition, bytes, of)) = topic.heat.add(queue.index, bytes, self.config.batch_size) {
                self.events.push(Event::HotPartition { topic: topic.name.to_string(), partition, bytes, of });
            }
            self.list(at);
        }
    }

    /// Moves a partition to the list of another leader.
    fn lead(&mut self, at: usize, leader: Option<i32>) {
        let queue = &mut self.queues[at];
        if queue.leader == leader {
            return;
        }
        let (waiting, out) = (queue.waiting_bytes, queue.out_bytes);
        let old = self.outlets.entry(queue.leader.unwrap_or(NOWHERE)).or_default();
        old.ready.retain(|listed| *listed != at);
        old.lingering.retain(|(_, lingering, _)| *lingering != at);
        old.backlog = old.backlog.saturating_sub(waiting);
        old.held = old.held.saturating_sub(waiting + out);
        let (moved, line) = std::mem::take(&mut old.line).into_iter().partition(|(_, place)| *place == at);
        old.line = line;
        queue.leader = leader;
        queue.listed = false;
        if let Some(retry_at) = queue.retry_at.take() {
            self.retries.remove(&(retry_at, at));
        }
        let new = self.outlets.entry(leader.unwrap_or(NOWHERE)).or_default();
        new.backlog += waiting;
        new.held += waiting + out;
        let moved: VecDeque<_> = moved;
        new.line.extend(moved);
        new.line.make_contiguous().sort_unstable();
        // Its linger belongs to the old leader's list, and it is late already.
        self.seal(at, false);
        self.list(at);
    }

    /// Brings topics and leaders up to what metadata says.
    pub(super) fn read_metadata(&mut self, now: Instant) {
        if self.metadata_seen == self.cluster.metadata.generation {
            return;
        }
        self.metadata_seen = self.cluster.metadata.generation;
        self.has_ids = true;
        let known_before = self.queues.len();
        let mut leaders = Vec::new();
        let mut recreated = Vec::new();
        for (position, topic) in self.topics.iter_mut().enumerate() {
            let Some(known) = self.cluster.metadata.topic(&topic.name) else { continue };
            if topic.id != known.id && topic.id != Uuid::ZERO {
                recreated.extend(topic.partitions.iter().copied());
            }
            topic.id = known.id;
            self.has_ids &= known.id != Uuid::ZERO;
            let (from, to) = (topic.partitions.len(), known.partitions.len());
            if 0 < from && from < to && from < topic.pinned {
                let count = |partitions| i32::try_from(partitions).unwrap_or(i32::MAX);
                let (topic, from, to) = (topic.name.to_string(), count(from), count(to));
                self.events.push(Event::PartitionsGrew { topic, from, to });
            }
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
        self.weigh_batches(known_before);
    }

    /// The topic was deleted and created again: what may be in the old log must not be sent into the new one.
    fn forget_log(&mut self, now: Instant, at: usize) {
        let name = &self.topics[self.queues[at].topic].name;
        let message = format!("topic {name} was created again while a record was on its way");
        self.give_up_doubtful(at, &Error::new(ErrorKind::UnknownTopic, message));
        self.break_off(now, at);
    }

    /// Gives up what may be in the log already, where sending it again cannot tell.
    pub(super) fn give_up_doubtful(&mut self, at: usize, error: &Error) {
        for batch in self.change(at, Queue::take_doubtful) {
            self.give_up(batch, error.clone(), Outcome::PossiblyWritten);
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

    fn wants_name(&self, now: Instant) -> bool {
        matches!(self.name, Name::Unknown { ask_after } if ask_after <= now && self.needs_name())
    }

    fn needs_name(&self) -> bool {
        self.config.idempotence && self.transaction.is_none() && !self.topics.is_empty()
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

    fn lost(&mut self, now: Instant, link: Link, cause: &Error) {
        self.cluster.lost(now, link, cause);
        if let Some(transaction) = &mut self.transaction {
            transaction.lost(now, link, &mut self.cluster);
        }
        if matches!(self.name, Name::Asked(asked) if asked == link) {
            self.name = Name::Unknown { ask_after: now + self.name_backoff.next(&mut self.cluster.random) };
        }
        if link.lane != Lane::Produce {
            return;
        }
        let Some(outlet) = self.outlets.get_mut(&link.node) else { return };
        outlet.shipping.clear();
        let flights = std::mem::take(&mut outlet.flights);
        for (at, number) in flights.into_iter().flat_map(|(_, batches)| batches) {
            self.try_again(now, at, number, cause.clone());
        }
        if self.outlets.get(&link.node).is_some_and(|o| !o.ready.is_empty() || !o.lingering.is_empty()) {
            self.cluster.want(link);
        }
    }

    // Transactions.

    /// Whether no record is on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.buffered == 0
    }

    /// Begins a transaction; only of a transactional producer. See [`Transaction::begin`].
    pub(crate) fn begin_transaction(&mut self, now: Instant) -> Result<(u64, Option<End>), Error> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let Some(transaction) = &mut self.transaction else { return Err(not_transactional()) };
        let begun = transaction.begin(&self.cluster);
        self.step_transaction(now);
        begun
    }

    /// Ends the open transaction. See [`Transaction::end`].
    pub(crate) fn end_transaction(&mut self, now: Instant, commit: bool) {
        if commit {
            self.flush();
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.end(commit);
        }
        self.step_transaction(now);
    }

    /// Prepares the open transaction, or ends what is prepared: what `change` says, with no linger in its way.
    #[cfg(feature = "unstable-two-phase-commit")]
    pub(crate) fn change_transaction<T>(
        &mut self,
        now: Instant,
        change: impl FnOnce(&mut Transaction) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.flush();
        let changed = self.transaction.as_mut().map_or_else(|| Err(not_transactional()), change);
        self.step_transaction(now);
        changed
    }

    /// Commits a group's offsets with the open transaction. See [`Transaction::send_offsets`].
    pub(crate) fn send_offsets(&mut self, now: Instant, offsets: GroupOffsets) -> Result<u64, Error> {
        let Some(transaction) = &mut self.transaction else { return Err(not_transactional()) };
        let number = transaction.send_offsets(offsets)?;
        self.step_transaction(now);
        Ok(number)
    }

    /// The open transaction can only be aborted from now on.
    pub(crate) fn fail_transaction(&mut self, now: Instant, error: &Error) {
        self.transaction.iter_mut().for_each(|transaction| transaction.fail(error));
        self.step_transaction(now);
    }

    /// What to tell of a transaction whose end was asked for. A commit that has not gone out by then is given up.
    pub(crate) fn outcome_of_transaction(&mut self, now: Instant, number: u64) -> Result<(), Error> {
        let Some(transaction) = &mut self.transaction else { return Err(not_transactional()) };
        let outcome = transaction.take_outcome(number);
        self.step_transaction(now);
        outcome
    }

    /// Lets the transaction go on, and the queues learn what it has changed.
    pub(super) fn step_transaction(&mut self, now: Instant) {
        while let Some(transaction) = &mut self.transaction {
            transaction.step(now, self.buffered == 0, &mut self.cluster);
            let change = transaction.take_change();
            if change == Change::default() {
                return;
            }
            let (cause, fatal) = (transaction.cause(), transaction.fatal().cloned());
            if change.renamed {
                self.queues.iter_mut().for_each(|queue| queue.sequence = Sequence::default());
            }
            if change.dropped {
                self.drop_unsent(&cause);
            }
            if let Some(error) = fatal {
                self.end(error);
            }
            self.list_all();
        }
    }

    fn call_for_transaction(&mut self, now: Instant, link: Link) -> Option<Work> {
        let quiet = self.is_quiet();
        let (topics, queues) = (&self.topics, &self.queues);
        let name = |at: usize| TopicPartition {
            topic: topics[queues[at].topic].name.clone(),
            partition: queues[at].index,
        };
        let work = self.transaction.as_mut()?.poll_work(now, link, quiet, &mut self.cluster, name);
        self.step_transaction(now);
        work
    }

    fn tick(&mut self, now: Instant) {
        while let Some((retry_at, at)) = self.retries.first().copied()
            && retry_at <= now
        {
            self.retries.remove(&(retry_at, at));
            self.queues[at].retry_at = None;
            self.list(at);
        }
        while let Some((opened, at)) = self.ledger.expired(now) {
            self.expire(now, opened, at);
        }
        self.cluster.step(now);
    }
}

fn not_transactional() -> Error {
    Error::new(ErrorKind::InvalidArgument, "the producer has no transactional.id")
}

impl<D: Ticket> Machine for Producer<D> {
    type News = News<D, D::Claim>;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Opened { link, versions } => self.cluster.opened(link, versions),
            Input::Lost { link, cause } => self.lost(now, link, &cause),
            Input::Shipped { link, encoded } => self.shipped(link, encoded),
            Input::Split { at, number, parts } => self.split(now, at, number, parts),
            // A producer is in no group.
            Input::Shared { .. } => {}
            Input::Tick => self.tick(now),
            Input::Answer { link, answer } => {
                self.cluster.alive(link);
                match answer {
                    Answer::Produce(response) => self.answered(now, link, &response),
                    Answer::InitProducerId(response) if self.transaction.is_none() => {
                        self.named(now, link, &response)
                    }
                    Answer::Metadata(response) => {
                        self.cluster.answered(now, link, &response);
                        self.read_metadata(now);
                        self.forget_idle(now);
                    }
                    answer => {
                        if let Some(transaction) = &mut self.transaction {
                            transaction.answered(now, link, &answer, &mut self.cluster);
                        }
                    }
                }
            }
        }
        if self.needs_name() && matches!(self.name, Name::Unknown { .. }) {
            self.cluster.want_any_control(now);
        }
        self.step_transaction(now);
        self.news.extend(self.failures.take(now).map(News::Saying));
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
            Lane::Control => self.call_for_transaction(now, link),
            _ => None,
        }
    }

    fn wants(&self, now: Instant, link: Link) -> bool {
        let own = match link.lane {
            Lane::Produce => self.outlet_wants(now, link.node),
            Lane::Control => {
                let call = |t: &Transaction| t.wants(now, link, self.is_quiet());
                self.wants_name(now) || self.transaction.as_ref().is_some_and(call)
            }
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
        let call = self.transaction.as_ref().and_then(|t| t.ready_at(link, self.is_quiet()));
        let own = linger.into_iter().chain(name).chain(call).min();
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
        let own = [retry, self.ledger.deadline(), self.failures.due()];
        own.into_iter().chain([self.cluster.deadline()]).flatten().min()
    }

    fn take_news(&mut self) -> Vec<Self::News> {
        std::mem::take(&mut self.news)
    }

    fn tell(news: Self::News) {
        match news {
            News::Outcome(ticket, outcome) => ticket.settle(outcome),
            News::Saying(saying) => saying.say(),
        }
    }
}
