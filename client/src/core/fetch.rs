//! Which partitions are asked for on which broker, and what the answers bring.
//!
//! It owns the fetches that are out, the sessions, and the shares of `fetch.buffer.bytes`. Every broker is fetched from on its own;
//! nothing waits for the slowest. A partition that may be fetched while the long poll of its broker is out without it is
//! asked for aside, on a second connection. Invariant: what is asked for stays, with all that is held, within the budget, but
//! for the one batch that Kafka returns however large it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::{FetchRequest, FetchResponse, FetchedPartition};
use ottla_protocol::records::batches;
use ottla_protocol::wire::{Str, Uuid};

use super::ask::Ask;
use super::cluster::Cluster;
use super::held::Held;
use super::positions::{Chunk, Lease, Place, Position};
use super::session::{self, Session};
use super::{Lane, Link, Request, TopicPartition, Work};
use crate::config::{ConsumerConfig, wire_millis};
use crate::metrics::{ConsumerMetrics, Histogram};

/// A fetch that waits for its answer.
#[derive(Debug)]
struct Out {
    since: Instant,
    /// What was asked for, and under which lease: an answer under another one is dropped.
    leases: BTreeMap<TopicPartition, Arc<Lease>>,
    /// Bytes of the budget that the answer may fill.
    reserved: usize,
}

#[derive(Debug, Default)]
struct Broker {
    session: Session,
    poll: Option<Out>,
    aside: Option<Out>,
    /// Fetches aside since the last long poll that brought nothing.
    empty_asides: u32,
    /// All that was fetched from it.
    fetched_bytes: u64,
}

impl Broker {
    fn out(&self, lane: Lane) -> Option<&Out> {
        if lane == Lane::Aside { self.aside.as_ref() } else { self.poll.as_ref() }
    }
}

/// How long a partition waits for the long poll of its broker to end before it is asked for aside.
const PATIENCE: Duration = Duration::from_millis(5);
/// How long a broker may hold the first fetch aside. Short: what becomes fetchable meanwhile waits for it, and so does the
/// next long poll, which takes its partitions over. Each one that brings nothing doubles it, up to four times as long.
const ASIDE_WAIT: Duration = Duration::from_millis(20);
/// The versions that a consumer speaks; version 18 adds a field for followers only.
const VERSION_MAX: i16 = 17;

#[derive(Debug)]
pub(crate) struct Fetch {
    config: Arc<ConsumerConfig>,
    brokers: BTreeMap<i32, Broker>,
    /// What a partition may have waiting before it is fetched again, and what it may bring at once.
    partition_bytes: usize,
    held: Arc<Held>,
    latency: Histogram,
    /// Until when leaders are not told where we are, because a follower failed.
    pub(super) leaders_only: Option<Instant>,
}

/// What an answer says of one partition.
#[derive(Debug)]
pub(crate) struct Fetched<'a> {
    pub(crate) partition: TopicPartition,
    pub(crate) lease: Arc<Lease>,
    pub(crate) answer: &'a FetchedPartition,
}

pub(crate) type Positions = BTreeMap<TopicPartition, Position>;

impl Fetch {
    pub(crate) fn new(config: Arc<ConsumerConfig>) -> Self {
        let latency = Histogram::default();
        let partition_bytes = usize::try_from(config.max_partition_fetch_bytes).unwrap_or(usize::MAX);
        let (brokers, leaders_only) = (BTreeMap::new(), None);
        let held = Arc::default();
        Self { config, brokers, partition_bytes, held, latency, leaders_only }
    }

    /// Where each of so many partitions has a reader of its own, all but one may stand still without stopping that one: each
    /// holds a chunk in hand, what waits, and what is fetched on top of it.
    pub(crate) fn share_among(&mut self, readers: Option<usize>) {
        if let Some(readers) = readers {
            let most = usize::try_from(self.config.max_partition_fetch_bytes).unwrap_or(usize::MAX);
            let part = self.config.fetch_buffer_bytes / readers.max(1).saturating_mul(4);
            self.partition_bytes = part.clamp(1, most.max(1));
        }
    }

    /// The broker to fetch a partition from, when it may be fetched at all.
    fn source(&self, partition: &TopicPartition, position: &Position, cluster: &Cluster) -> Option<i32> {
        let enough = position.waiting_bytes >= self.partition_bytes;
        let open = !position.lease.is_paused() && position.is_open() && !enough;
        let Place::At(offset) = position.place else { return None };
        let known = cluster.metadata.partition(&partition.topic, partition.partition)?;
        let leader =
            known.leader.filter(|_| open && !position.epochs.is_doubtful(offset, known.leader_epoch))?;
        let preferred = position.preferred.map(|(node, _)| node).filter(|node| cluster.has_node(*node));
        Some(preferred.unwrap_or(leader))
    }

    /// The partitions that may be fetched from a broker and are not asked for.
    fn fetchable<'a>(
        &'a self,
        node: i32,
        positions: &'a Positions,
        cluster: &'a Cluster,
    ) -> impl Iterator<Item = (&'a TopicPartition, &'a Position)> {
        positions
            .iter()
            .filter(move |(p, position)| !position.asked && self.source(p, position, cluster) == Some(node))
    }

    /// Bytes that the next answer of a broker may bring: its share of what is free. `None` while that is too little.
    ///
    /// Each broker has two: what a long poll reserves is held for as long as it finds nothing, and must leave room for what
    /// is asked for aside meanwhile.
    fn share(&self) -> Option<usize> {
        let outs = self.brokers.values().flat_map(|b| b.poll.iter().chain(&b.aside));
        let reserved = outs.map(|out| out.reserved).sum::<usize>();
        let idle = |b: &Broker| usize::from(b.poll.is_none()) + usize::from(b.aside.is_none());
        let idle: usize = self.brokers.values().map(idle).sum();
        let (budget, least) = (self.config.fetch_buffer_bytes, self.least());
        let may_hold = budget.checked_sub(reserved.saturating_add(least))?;
        let granted = self.held.is_at_most(may_hold);
        let free = budget.saturating_sub(reserved.saturating_add(self.held.bytes()));
        granted.then(|| (free / idle.max(1)).max(free.min(least)).max(1))
    }

    /// No less is worth a fetch. A consumer that holds nothing has room for it.
    fn least(&self) -> usize {
        self.partition_bytes.min(self.config.fetch_buffer_bytes / 2).max(1)
    }

    /// Whether more may be decompressed and copied: else what fits in as it was fetched would not in the end.
    pub(crate) fn may_hand_out(&self, waiting: impl FnOnce() -> usize) -> bool {
        let budget = self.config.fetch_buffer_bytes;
        self.held.bytes() <= budget || self.held.is_at_most(budget.max(waiting()))
    }

    /// Whether what is held leaves no room for another fetch, whatever those that are out bring.
    pub(crate) fn is_spent(&self) -> bool {
        let held = self.held.bytes();
        held.saturating_add(self.least()) > self.config.fetch_buffer_bytes
    }

    /// Wants the links of all brokers from which something may be fetched.
    pub(crate) fn step(&mut self, now: Instant, positions: &Positions, cluster: &mut Cluster) {
        let sources = positions.iter().filter(|(_, position)| !position.asked);
        let mut nodes: Vec<i32> =
            sources.filter_map(|(p, position)| self.source(p, position, cluster)).collect();
        nodes.dedup();
        for node in nodes {
            let busy = self.brokers.entry(node).or_default().poll.as_ref().map(|out| out.since + PATIENCE);
            match busy {
                None => cluster.want(Link { node, lane: Lane::Fetch }),
                Some(patient) if patient <= now => cluster.want(Link { node, lane: Lane::Aside }),
                Some(_) => {}
            }
        }
    }

    pub(crate) fn wants(&self, now: Instant, link: Link, positions: &Positions, cluster: &Cluster) -> bool {
        let broker = self.brokers.get(&link.node);
        if broker.is_some_and(|broker| broker.out(link.lane).is_some()) || self.share().is_none() {
            return false;
        }
        let poll = broker.and_then(|broker| broker.poll.as_ref());
        let in_turn = match link.lane {
            Lane::Aside => poll.is_some_and(|out| out.since + PATIENCE <= now),
            // Or what is asked for aside would stay so for ever, at a short wait.
            _ => broker.is_none_or(|broker| broker.aside.is_none()),
        };
        in_turn && self.fetchable(link.node, positions, cluster).next().is_some()
    }

    /// When a partition that waits for the long poll of its broker is to be asked for aside.
    pub(crate) fn impatient_at(
        &self,
        node: i32,
        positions: &Positions,
        cluster: &Cluster,
    ) -> Option<Instant> {
        let broker = self.brokers.get(&node).filter(|broker| broker.aside.is_none())?;
        let patient = broker.poll.as_ref()?.since + PATIENCE;
        self.fetchable(node, positions, cluster).next().map(|_| patient)
    }

    /// The next of these times over all brokers, for those whose second connection is not open.
    pub(crate) fn deadline(&self, positions: &Positions, cluster: &Cluster) -> Option<Instant> {
        let closed = |node: &&i32| !cluster.is_known(Link { node: **node, lane: Lane::Aside });
        self.brokers
            .keys()
            .filter(closed)
            .filter_map(|node| self.impatient_at(*node, positions, cluster))
            .min()
    }

    pub(crate) fn poll_work(
        &mut self,
        now: Instant,
        link: Link,
        positions: &mut Positions,
        cluster: &mut Cluster,
    ) -> Option<Work> {
        if !self.wants(now, link, positions, cluster) {
            return None;
        }
        let reserved = self.share()?.min(usize::try_from(self.config.fetch_max_bytes).unwrap_or(usize::MAX));
        let mut wanted = BTreeMap::new();
        let mut leases = BTreeMap::new();
        let mut named = false;
        for (partition, position) in self.fetchable(link.node, positions, cluster) {
            let Place::At(offset) = position.place else { continue };
            let Some(topic) = cluster.metadata.topic(&partition.topic) else { continue };
            let known = cluster.metadata.partition(&partition.topic, partition.partition);
            let leader_epoch = known.map_or(-1, |p| p.leader_epoch);
            let bytes_max = i32::try_from(self.partition_bytes).unwrap_or(i32::MAX);
            named |= topic.id == Uuid::ZERO;
            wanted.insert(
                partition.clone(),
                session::Ask { topic_id: topic.id, offset, leader_epoch, bytes_max },
            );
            leases.insert(partition.clone(), position.lease.clone());
        }
        let version = match cluster.version::<FetchRequest>(link, if named { 12 } else { VERSION_MAX }) {
            Ok(version) => version,
            Err(cause) => return Some(Work::Close(cause)),
        };
        for partition in leases.keys() {
            positions.entry(partition.clone()).and_modify(|position| position.asked = true);
        }
        let rack_id = self.rack(now, cluster);
        let broker = self.brokers.entry(link.node).or_default();
        let out = Some(Out { since: now, leases, reserved });
        let mut request = FetchRequest {
            max_wait_ms: wire_millis(self.config.fetch_max_wait),
            min_bytes: self.config.fetch_min_bytes,
            max_bytes: i32::try_from(reserved).unwrap_or(i32::MAX),
            isolation_level: self.config.isolation_level.wire(),
            session_id: 0,
            session_epoch: -1,
            rack_id,
            ..FetchRequest::default()
        };
        if link.lane == Lane::Aside {
            // Without a session: those of the long poll stay as they are.
            let wait = ASIDE_WAIT * 2_u32.pow(broker.empty_asides.min(2));
            request.max_wait_ms = wire_millis(self.config.fetch_max_wait.min(wait));
            request.topics = session::group(wanted.iter());
            broker.aside = out;
        } else {
            let difference = broker.session.ask(wanted);
            (request.session_id, request.session_epoch) = (difference.session_id, difference.session_epoch);
            (request.topics, request.forgotten_topics_data) = (difference.topics, difference.forgotten);
            broker.poll = out;
            broker.empty_asides = 0;
        }
        let timeout = cluster.config.request_timeout + self.config.fetch_max_wait;
        Some(Work::Request(Request { ask: Ask::Fetch(request), version, timeout, answered: true }))
    }

    /// The request that was out on a link is over; its partitions may be asked for again.
    fn end(&mut self, link: Link, positions: &mut Positions) -> BTreeMap<TopicPartition, Arc<Lease>> {
        let Some(broker) = self.brokers.get_mut(&link.node) else { return BTreeMap::new() };
        let out = if link.lane == Lane::Aside { broker.aside.take() } else { broker.poll.take() };
        let leases = out.map(|out| out.leases).unwrap_or_default();
        for (partition, lease) in &leases {
            if let Some(position) = positions.get_mut(partition).filter(|p| Arc::ptr_eq(&p.lease, lease)) {
                position.asked = false;
            }
        }
        leases
    }

    /// What was asked for in vain, though the request said everything: the answer as a whole is an error, and a new session
    /// will not mend it. To be asked before the answer is taken in.
    pub(crate) fn in_vain(&self, link: Link, response: &FetchResponse) -> Vec<TopicPartition> {
        let broker = self.brokers.get(&link.node).filter(|_| !response.error_code.is_ok());
        let whole = broker.filter(|broker| link.lane == Lane::Aside || broker.session.is_new());
        let out = whole.and_then(|broker| broker.out(link.lane));
        out.map_or_else(Vec::new, |out| out.leases.keys().cloned().collect())
    }

    /// What an answer says of the partitions whose position it still concerns.
    pub(crate) fn answered<'a>(
        &mut self,
        now: Instant,
        link: Link,
        response: &'a FetchResponse,
        positions: &mut Positions,
        cluster: &Cluster,
    ) -> Vec<Fetched<'a>> {
        let out = self.brokers.get(&link.node).and_then(|broker| broker.out(link.lane));
        let took = out.map(|out| now.saturating_duration_since(out.since));
        took.into_iter().for_each(|took| self.latency.add(took));
        let leases = self.end(link, positions);
        if let Some(broker) = self.brokers.get_mut(&link.node).filter(|_| link.lane == Lane::Fetch) {
            if response.error_code.is_ok() {
                broker.session.accepted(response.session_id);
            } else {
                broker.session.reset();
            }
        }
        if let Some(broker) = self.brokers.get_mut(&link.node).filter(|_| link.lane == Lane::Aside) {
            let mut answers = response.responses.iter().flat_map(|topic| &topic.partitions);
            let brought = answers.any(|p| p.records.0.as_ref().is_some_and(|records| !records.is_empty()));
            broker.empty_asides = if brought { 0 } else { broker.empty_asides.saturating_add(1) };
        }
        let mut fetched = Vec::new();
        for topic in &response.responses {
            let named = if topic.topic.is_empty() {
                cluster.metadata.name_of(topic.topic_id)
            } else {
                Some(&topic.topic)
            };
            let Some(name) = named else { continue };
            for answer in &topic.partitions {
                let partition = TopicPartition { topic: Str::clone(name), partition: answer.partition_index };
                let Some(lease) = leases.get(&partition) else { continue };
                let holds = |p: &&Position| Arc::ptr_eq(&p.lease, lease);
                let stale = crate::planted::planted(crate::planted::Defect::StaleFetch);
                if stale || positions.get(&partition).filter(holds).is_some() {
                    fetched.push(Fetched { partition, lease: lease.clone(), answer });
                }
            }
        }
        fetched
    }

    pub(crate) fn lost(&mut self, link: Link, positions: &mut Positions) {
        self.end(link, positions);
        if let Some(broker) = self.brokers.get_mut(&link.node).filter(|_| link.lane == Lane::Fetch) {
            broker.session.reset();
        }
    }

    /// Queues the records of an answer, and moves the position behind them. False if there was no whole batch among them.
    pub(crate) fn keep(&mut self, node: i32, fetched: &Fetched<'_>, position: &mut Position) -> bool {
        let Some(records) = fetched.answer.records.0.clone().filter(|records| !records.is_empty()) else {
            return true;
        };
        let Place::At(from) = position.place else { return true };
        let end = last_offset(&records).map(|last| last.saturating_add(1));
        if end.is_some_and(|end| end <= from) {
            return true;
        }
        position.epochs.forget_before(position.lease.finished());
        position.times.forget_before(position.lease.finished());
        for batch in batches(&records).map_while(Result::ok) {
            let header = batch.header();
            position.epochs.begin(header.base_offset, header.partition_leader_epoch);
            position.times.add(header.last_offset(), header.base_timestamp);
        }
        let bytes = records.len();
        let aborted = fetched.answer.aborted_transactions.clone().unwrap_or_default();
        let (partition, lease) = (fetched.partition.clone(), fetched.lease.clone());
        let charge = self.held.charge(bytes);
        position.waiting.push_back(Chunk {
            partition,
            records,
            from,
            end,
            aborted,
            lease,
            uncommitted: 0,
            charge,
        });
        position.waiting_bytes += bytes;
        self.brokers.entry(node).or_default().fetched_bytes += bytes as u64;
        position.place = end.map_or(Place::Failed, Place::At);
        end.is_some()
    }

    /// Whether nothing is asked for because too much is held.
    pub(crate) fn is_full(&self) -> bool {
        self.share().is_none()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// What there is to tell of it.
    pub(crate) fn measure(&self, metrics: &mut ConsumerMetrics) {
        let fetched = self.brokers.iter().map(|(node, broker)| (*node, broker.fetched_bytes));
        metrics.fetched_from = fetched.filter(|(_, bytes)| *bytes > 0).collect();
        metrics.fetched_bytes = metrics.fetched_from.values().sum();
        metrics.fetch_latency = self.latency.clone();
        metrics.buffer_bytes = self.held.bytes();
    }
}

/// The last offset of the last whole batch. Only headers are looked at.
fn last_offset(records: &Bytes) -> Option<i64> {
    batches(records).map_while(Result::ok).last().map(|batch| batch.header().last_offset())
}
