//! The machine of the cluster: nodes, topics, groups, transactions, and the requests that wait. It is told what happened and says
//! what to answer; the server around it reads clocks and moves bytes.
//!
//! The requests themselves are handled in [`crate::api`], one file an area. Equal inputs give equal outputs: time and
//! randomness are handed in, and every map is ordered.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub(crate) mod authorizer;
mod catalog;
mod cleaning;
pub(crate) mod coordinator;
mod coordinator_log;
mod election;
pub(crate) mod group;
mod links;
pub(crate) mod log;
mod markers;
pub(crate) mod parking;
pub(crate) mod producers;
pub(crate) mod random;
mod reassignment;
mod recovery;
pub(crate) mod replicas;
pub(crate) mod replication;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod stability;
pub(crate) mod timers;
pub(crate) mod tokens;
pub(crate) mod topics;
pub(crate) mod transactions;
pub(crate) mod users;
pub(crate) mod verification;

pub(crate) use parking::Ticket;

use crate::api::Answer;
use crate::api::acknowledgement::Unacknowledged;
use crate::api::fetch::Waiting;
use authorizer::Authorizer;
use catalog::Catalog;
use group::{Effects, Groups, Timer};
use links::Links;
use log::storage::Storages;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{LeaderIdAndEpoch, NodeEndpoint};
use ottla_protocol::wire::Str;
use parking::Parking;
use random::Random;
use sessions::Sessions;
use settings::{Given, SettingError, Settings, TopicSettings};
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;
use timers::Timers;
use tokens::Tokens;
use topics::{Partition, Readable, Topic, Topics};
use transactions::Transactions;
use users::Users;

/// Producer ids that one request may take, and more.
const PRODUCER_IDS_AHEAD: i64 = 100;

/// The moment at which something happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For timeouts.
    pub(crate) at: Instant,
    /// For what is written into logs: milliseconds since the epoch.
    pub(crate) wall_ms: i64,
}

/// A node of the cluster, as its peers and clients see it.
#[derive(Debug)]
pub(crate) struct Node {
    /// Host and port, a pair for each listener.
    pub(crate) endpoints: Vec<(Str, i32)>,
    pub(crate) rack: Option<Str>,
    pub(crate) sessions: Sessions,
    /// Whether its process is there.
    pub(crate) runs: bool,
    /// Its process is there, and does nothing.
    pub(crate) paused: bool,
    /// The controller has lost it.
    pub(crate) fenced: bool,
}

impl Node {
    /// A node that runs.
    pub(crate) fn new(endpoints: Vec<(Str, i32)>, rack: Option<Str>) -> Self {
        Self { endpoints, rack, sessions: Sessions::default(), runs: true, paused: false, fenced: false }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.runs && !self.fenced
    }

    /// Where those find it who came in by a listener.
    pub(crate) fn endpoint(&self, listener: usize) -> (Str, i32) {
        self.endpoints.get(listener).cloned().unwrap_or_default()
    }
}

/// What came of a request.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a request, and matched at once")]
pub(crate) enum Handled {
    Answer(Answer),
    /// The answer comes later, under this ticket.
    Parked(Ticket),
    /// There is no answer to this request: Produce with acks=0.
    Silent,
    /// Something went wrong with a request that has no answer; the only way to say so is to hang up.
    HangUp,
}

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) id: Str,
    pub(crate) settings: Settings,
    /// What the broker was started with, and what was changed since.
    pub(crate) fixed: Given,
    pub(crate) dynamic: Given,
    pub(crate) nodes: BTreeMap<i32, Node>,
    pub(crate) links: Links,
    /// Where logs are kept.
    storages: Box<dyn Storages>,
    catalog: Catalog,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) fetches: BTreeMap<Ticket, Waiting>,
    pub(crate) produces: BTreeMap<Ticket, Unacknowledged>,
    pub(crate) parking: Parking,
    pub(crate) timers: Timers<Timer>,
    pub(crate) random: Random,
    /// The next producer id.
    pub(crate) producer_ids: i64,
    pub(crate) transactions: Transactions,
    /// The finalized level of the feature `transaction.version`: from 2 on, KIP-890 is whole.
    pub(crate) transaction_version: i16,
    /// The finalized level of the feature `group.version`: from 1 on, there are consumer groups (KIP-848).
    pub(crate) group_version: i16,
    /// How often the levels of features were changed.
    pub(crate) features_epoch: i64,
    pub(crate) users: Users,
    pub(crate) access: Authorizer,
    pub(crate) tokens: Tokens,
    pub(crate) faults: crate::faults::Faults,
}

impl Cluster {
    pub(crate) fn new(settings: Settings, seed: u64, storages: Box<dyn Storages>) -> Self {
        let mut random = Random::new(seed);
        let access = Authorizer::new(settings.access.clone());
        Self {
            id: Str::from(random.uuid().to_string()),
            fixed: settings.given.clone(),
            dynamic: Given::new(),
            settings,
            nodes: BTreeMap::new(),
            links: Links::default(),
            storages,
            catalog: Catalog::default(),
            topics: Topics::default(),
            groups: Groups::default(),
            fetches: BTreeMap::new(),
            produces: BTreeMap::new(),
            parking: Parking::default(),
            timers: Timers::default(),
            random,
            producer_ids: 0,
            transactions: Transactions::default(),
            transaction_version: transactions::VERSION_MAX,
            group_version: group::VERSION_MAX,
            features_epoch: 0,
            users: Users::default(),
            access,
            tokens: Tokens::default(),
            faults: crate::faults::Faults::default(),
        }
    }

    /// When [`Cluster::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Now) {
        while let Some(timer) = self.timers.take_due(now.at) {
            match timer {
                Timer::Fetch(ticket) => self.parking.wake(ticket),
                Timer::Produce(ticket) => self.time_out(ticket),
                Timer::Replicate(node) => self.fire_replication(now, node),
                Timer::Lag => self.fire_lag(now),
                Timer::Fence(node) => self.fire_fence(now, node),
                Timer::Transaction(_) | Timer::Markers(_) => self.fire_transaction(now, &timer),
                Timer::Retention | Timer::Compaction | Timer::Flush => self.fire_cleaning(now, &timer),
                Timer::Session(..)
                | Timer::Join(_)
                | Timer::Sync(_)
                | Timer::Revoke(..)
                | Timer::Rejoin(..)
                | Timer::Resync(..)
                | Timer::Patterns(_) => {
                    let (groups, mut fx) = self.groups(now);
                    groups.fire(&mut fx, &timer);
                }
            }
        }
    }

    /// A ticket whose answer can be taken now.
    pub(crate) fn poll_woken(&mut self) -> Option<Ticket> {
        self.parking.poll_woken()
    }

    /// Takes the answer of a request that waited.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Answer> {
        if let Some(waiting) = self.stop_waiting(ticket) {
            self.parking.give_up(ticket);
            return Some(self.answer_fetch(waiting));
        }
        self.parking.take(ticket)
    }

    /// Nobody waits for this ticket any more: the connection is gone. A member that was joining stays a member, as in
    /// Kafka, until its session times out.
    pub(crate) fn give_up(&mut self, ticket: Ticket) {
        self.stop_waiting(ticket);
        self.forget_produce(ticket);
        self.parking.give_up(ticket);
    }

    /// An answer that is there already needs no wait.
    pub(crate) fn answered_or_parked(&mut self, ticket: Ticket) -> Handled {
        self.parking.take(ticket).map_or(Handled::Parked(ticket), Handled::Answer)
    }

    /// The groups, and what they may do to the world.
    pub(crate) fn groups(&mut self, now: Now) -> (&mut Groups, Effects<'_>) {
        let effects = Effects {
            now: now.at,
            settings: &self.settings.group,
            timers: &mut self.timers,
            random: &mut self.random,
            parking: &mut self.parking,
            topics: &self.topics,
        };
        (&mut self.groups, effects)
    }

    /// More of a partition can be read than before: fetches that have enough now are woken.
    pub(crate) fn wake_readers(&mut self, topic: &str, index: i32, before: Readable) {
        let Some(partition) = self.topics.partition_mut(topic, index) else { return };
        if partition.waiting.is_empty() {
            return;
        }
        let after = partition.readable();
        for ticket in &partition.waiting {
            let waiting = self.fetches.get_mut(ticket);
            if waiting.is_some_and(|waiting| waiting.is_over_after(before, after)) {
                self.parking.wake(*ticket);
            }
        }
    }

    /// As asked, or as many as there are nodes, at most three.
    pub(crate) fn replication_factor(&self, asked: Option<i16>) -> i16 {
        let nodes = i16::try_from(self.nodes.len()).unwrap_or(i16::MAX);
        asked.unwrap_or(3).min(nodes).max(1)
    }

    /// Spreads partitions over the nodes, leaders in turn.
    pub(crate) fn assign(&mut self, partitions: i32, replicas: i16) -> Vec<Vec<i32>> {
        let nodes: Vec<i32> = self.nodes.keys().copied().collect();
        let replicas = usize::try_from(replicas).unwrap_or(1);
        let count = usize::try_from(partitions).unwrap_or(0);
        let from = |first: usize| (0..replicas).map(|next| nodes[(first + next) % nodes.len()]).collect();
        (0..count).map(from).collect()
    }

    /// What holds for a topic that overrides these.
    pub(crate) fn topic_settings(&self, given: Given) -> Result<TopicSettings, SettingError> {
        TopicSettings::new(given, &self.settings.given)
    }

    /// Where the logs are, as administrators know it.
    pub(crate) fn log_dir(&self) -> String {
        self.storages.name()
    }

    /// What holds for the broker when this is changed.
    pub(crate) fn configured(&self, dynamic: &Given) -> Result<Settings, SettingError> {
        let mut settings = Settings::default();
        for (name, value) in self.fixed.iter().chain(dynamic) {
            settings.set(name, value)?;
        }
        Ok(settings)
    }

    /// Changes what holds for the broker, and for the topics that fall back to it.
    pub(crate) fn reconfigure(&mut self, now: Now, settings: Settings, dynamic: Given) -> io::Result<()> {
        self.catalog.put_config(now.wall_ms, &dynamic)?;
        (self.settings, self.dynamic) = (settings, dynamic);
        for topic in self.topics.iter_mut() {
            let given = topic.settings.given.clone();
            // What was valid for the topic stays valid, whatever the broker says.
            if let Ok(settings) = TopicSettings::new(given, &self.settings.given) {
                topic.settings = settings;
            }
        }
        Ok(())
    }

    /// Changes what holds for a topic.
    pub(crate) fn change_topic(&mut self, now: Now, name: &str, settings: TopicSettings) -> io::Result<()> {
        let Some(topic) = self.topics.get_mut(name) else { return Ok(()) };
        let before = std::mem::replace(&mut topic.settings, settings);
        if let Err(error) = self.catalog.put_topic(now.wall_ms, topic) {
            topic.settings = before;
            return Err(error);
        }
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        (0..partitions).for_each(|index| self.wrote(now, name, index));
        Ok(())
    }

    /// What holds for a topic that overrides nothing.
    pub(crate) fn plain_settings(&self) -> TopicSettings {
        self.topic_settings(Given::new()).expect("what the broker was given was checked when it was")
    }

    pub(crate) fn create_topic(
        &mut self,
        now: Now,
        name: Str,
        replicas: Vec<Vec<i32>>,
        settings: TopicSettings,
    ) -> io::Result<&Topic> {
        let new = |(index, nodes)| {
            let storage = self.storages.open(&name, index);
            Partition::new(nodes, storage, |node| self.is_alive(node))
        };
        let mut partitions: Vec<Partition> = (0..).zip(replicas).map(new).collect();
        for partition in &mut partitions {
            // What an earlier topic of this name could not delete.
            partition.log.remove()?;
        }
        let topic = Topic { name: name.clone(), id: self.random.uuid(), settings, partitions };
        self.catalog.put_topic(now.wall_ms, &topic)?;
        self.topics.insert(topic);
        Ok(self.topics.get(&name).expect("it was inserted on the line before"))
    }

    /// Adds partitions to a topic, on these nodes.
    pub(crate) fn extend_topic(&mut self, now: Now, name: &str, replicas: Vec<Vec<i32>>) -> io::Result<()> {
        let Some(topic) = self.topics.get(name) else { return Ok(()) };
        let before = topic.partitions.len();
        let mut added = Vec::new();
        for (index, nodes) in (0..).skip(before).zip(replicas) {
            let storage = self.storages.open(name, index);
            let mut partition = Partition::new(nodes, storage, |node| self.is_alive(node));
            partition.log.remove()?;
            added.push(partition);
        }
        let Some(topic) = self.topics.grow(name) else { return Ok(()) };
        topic.partitions.extend(added);
        let written = self.catalog.put_topic(now.wall_ms, topic);
        if written.is_err() {
            topic.partitions.truncate(before);
        }
        written
    }

    /// Writes down who leads a partition and where it begins. What cannot be written is not worth a failure: leader epochs go
    /// on above those of the log, and a start that is too early shows what was deleted once more.
    pub(crate) fn note_partition(&mut self, now: Now, topic: &str, index: i32) {
        let Some(found) = self.topics.get(topic) else { return };
        if let Err(error) = self.catalog.put_partition(now.wall_ms, found, index) {
            tracing::error!(topic, index, %error, "cannot write the catalog");
        }
    }

    /// Promises more producer ids before they are given.
    pub(crate) fn promise_producer_ids(&mut self, now: Now) {
        if self.storages.is_durable()
            && self.producer_ids + PRODUCER_IDS_AHEAD > self.catalog.producer_ids_end
            && let Err(error) = self.catalog.put_cluster(now.wall_ms, &self.id, self.producer_ids)
        {
            tracing::error!(%error, "cannot write the catalog");
        }
    }

    pub(crate) fn delete_topic(&mut self, now: Now, name: &str) -> Option<Topic> {
        let found = self.topics.get(name)?;
        // Before anything is gone, or a crash would bring back half of it.
        if let Err(error) = self.catalog.remove_topic(now.wall_ms, found) {
            tracing::error!(topic = name, %error, "cannot write the catalog");
            return None;
        }
        self.forget_offsets_of(now, name);
        let mut topic = self.topics.remove(name)?;
        for partition in &mut topic.partitions {
            if let Err(error) = partition.log.remove() {
                tracing::error!(topic = name, %error, "cannot delete a log");
            }
        }
        for ticket in topic.partitions.iter().flat_map(|partition| &partition.waiting) {
            self.parking.wake(*ticket);
        }
        for ticket in topic.partitions.iter().flat_map(|partition| &partition.unacknowledged) {
            self.settle(*ticket);
        }
        self.groups.forget_topic(name);
        self.resume_transactions(now);
        Some(topic)
    }

    /// Who leads the partition now, for a client that asked the wrong node (KIP-951).
    pub(crate) fn hint(&self, partition: &Partition) -> LeaderIdAndEpoch {
        LeaderIdAndEpoch { leader_id: partition.leader.unwrap_or(-1), leader_epoch: partition.leader_epoch }
    }

    /// The addresses of the leaders that an answer names.
    pub(crate) fn endpoints(&self, listener: usize, hints: impl Iterator<Item = i32>) -> Vec<NodeEndpoint> {
        let mut named: Vec<i32> = hints.filter(|node| *node >= 0).collect();
        named.sort_unstable();
        named.dedup();
        let endpoint = |node_id| {
            let node = self.nodes.get(&node_id).filter(|node| node.is_alive())?;
            let (host, port) = node.endpoint(listener);
            Some(NodeEndpoint { node_id, host, port, rack: node.rack.clone() })
        };
        named.into_iter().filter_map(endpoint).collect()
    }
}

/// Whether a client that named a leader epoch sees the partition as it is (KIP-320).
pub(crate) fn check_leader_epoch(partition: &Partition, said: i32) -> Result<(), ErrorCode> {
    match said {
        _ if said < 0 || said == partition.leader_epoch => Ok(()),
        _ if said < partition.leader_epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
        _ => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
    }
}
