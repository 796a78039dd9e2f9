//! What the cluster looks like: the topics in use, their partitions and leaders, and when to ask again.
//!
//! It owns the schedule of refreshes (bounded by a backoff, whoever asks for one) and the rule that an older leader epoch
//! never replaces a newer one (KIP-320). It refuses to know links: which broker is asked is the cluster's business.
//! Invariant: a topic that an answer omits keeps what was known of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{MetadataRequest, MetadataResponse, MetadataTopic, TopicMetadata};
use ottla_protocol::wire::{Str, Uuid};

use super::backoff::{Backoff, Random};
use crate::config::TopicPattern;

/// A partition as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) leader: Option<i32>,
    /// -1 when the broker is too old to say.
    pub(crate) leader_epoch: i32,
    /// The brokers with a copy.
    pub(crate) replicas: Box<[i32]>,
}

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    /// Zero when the broker is too old to say.
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Partition>,
}

#[derive(Debug)]
struct Entry {
    known: Option<Topic>,
    /// The error of the last answer that named the topic.
    error: Option<ErrorCode>,
    used: Instant,
    /// How many partitions it had when it was first described.
    partitions_first: Option<usize>,
    /// It is there because it matches the pattern.
    selected: bool,
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self { known: None, error: None, used: now, partitions_first: None, selected: false }
    }
}

#[derive(Debug)]
pub(crate) struct Metadata {
    topics: BTreeMap<Str, Entry>,
    due: Instant,
    asked: Option<Instant>,
    backoff: Backoff,
    max_age: Duration,
    auto_create: bool,
    /// Topics that match it are in use: all are asked for.
    pattern: Option<TopicPattern>,
    /// Whether all topics were seen once since the pattern is there.
    looked: bool,
    /// Whether a request is out.
    pub(crate) in_flight: bool,
    pub(crate) succeeded: Option<Instant>,
    pub(crate) cluster_id: Option<Str>,
    /// Counts the answers that changed something, so that a machine can tell cheaply.
    pub(crate) generation: u64,
}

/// A topic nobody used for this long leaves the requests.
const IDLE: Duration = Duration::from_secs(300);

impl Metadata {
    pub(crate) fn new(now: Instant, backoff: Backoff, max_age: Duration, auto_create: bool) -> Self {
        Self {
            topics: BTreeMap::new(),
            due: now,
            asked: None,
            backoff,
            max_age,
            auto_create,
            pattern: None,
            looked: false,
            in_flight: false,
            succeeded: None,
            cluster_id: None,
            generation: 0,
        }
    }

    /// Puts a topic to use: it is part of every request from now on.
    pub(crate) fn want(&mut self, now: Instant, topic: &Str) {
        match self.topics.get_mut(topic) {
            Some(entry) => entry.used = now,
            None => {
                self.topics.insert(topic.clone(), Entry::new(now));
                self.due = now;
            }
        }
    }

    /// Puts all topics to use that match, as they come and go.
    pub(crate) fn select(&mut self, now: Instant, pattern: TopicPattern) {
        (self.pattern, self.looked, self.due) = (Some(pattern), false, now);
    }

    /// Whether it is known which topics match.
    pub(crate) fn has_looked(&self) -> bool {
        self.looked
    }

    /// The topics that match.
    pub(crate) fn selected(&self) -> impl Iterator<Item = (&Str, &Topic)> {
        let selected = self.topics.iter().filter(|(_, entry)| entry.selected);
        selected.filter_map(|(name, entry)| Some((name, entry.known.as_ref()?)))
    }

    pub(crate) fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)?.known.as_ref()
    }

    pub(crate) fn error(&self, name: &str) -> Option<ErrorCode> {
        self.topics.get(name)?.error
    }

    pub(crate) fn partition(&self, name: &str, index: i32) -> Option<&Partition> {
        self.topic(name)?.partitions.get(usize::try_from(index).ok()?)
    }

    /// Whether a partition was added since its topic was first described.
    pub(crate) fn is_new(&self, name: &str, index: i32) -> bool {
        let first = self.topics.get(name).and_then(|entry| entry.partitions_first);
        first.is_some_and(|first| usize::try_from(index).is_ok_and(|index| index >= first))
    }

    /// The name that belongs to a topic id.
    pub(crate) fn name_of(&self, id: Uuid) -> Option<&Str> {
        let named = |e: &&(&Str, &Entry)| e.1.known.as_ref().is_some_and(|t| t.id == id);
        if id == Uuid::ZERO { None } else { self.topics.iter().find(|e| named(&e)).map(|e| e.0) }
    }

    /// Something that was known proved wrong: ask again, not sooner than the backoff after the last time.
    pub(crate) fn refresh(&mut self, now: Instant, random: &mut Random) {
        let earliest = match self.asked {
            Some(asked) if self.due > now => asked + self.backoff.next(random),
            _ => now,
        };
        self.due = self.due.min(earliest.max(now));
    }

    /// When to ask next; `None` while a request is out.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.in_flight).then_some(self.due)
    }

    /// The request to send now.
    pub(crate) fn ask(&mut self, now: Instant) -> MetadataRequest {
        self.in_flight = true;
        self.asked = Some(now);
        self.topics.retain(|_, e| e.known.is_some() || now.saturating_duration_since(e.used) < IDLE);
        let topic = |name: &Str| MetadataTopic { name: Some(name.clone()), ..MetadataTopic::default() };
        MetadataRequest {
            topics: self.pattern.is_none().then(|| self.topics.keys().map(topic).collect()),
            allow_auto_topic_creation: self.auto_create,
            ..MetadataRequest::default()
        }
    }

    /// No answer will come for the request that was out.
    pub(crate) fn lost(&mut self, now: Instant, random: &mut Random) {
        self.in_flight = false;
        self.due = now + self.backoff.next(random);
    }

    /// Takes an answer in, and plans the next request.
    pub(crate) fn apply(&mut self, now: Instant, response: &MetadataResponse, random: &mut Random) {
        self.in_flight = false;
        self.succeeded = Some(now);
        if response.cluster_id.is_some() {
            self.cluster_id.clone_from(&response.cluster_id);
        }
        self.look(now, response);
        for topic in &response.topics {
            let Some(entry) = topic.name.as_ref().and_then(|name| self.topics.get_mut(name)) else {
                continue;
            };
            if topic.error_code.is_ok() {
                entry.error = None;
                let newer = read_topic(topic, entry.known.as_ref());
                entry.partitions_first.get_or_insert(newer.partitions.len());
                if entry.known.as_ref() != Some(&newer) {
                    entry.known = Some(newer);
                    self.generation += 1;
                }
            } else {
                self.generation += u64::from(entry.error != Some(topic.error_code));
                entry.error = Some(topic.error_code);
            }
        }
        let complete = |e: &Entry| {
            let led = |t: &Topic| t.partitions.iter().all(|p| p.leader.is_some());
            e.error.is_none() && e.known.as_ref().is_some_and(led)
        };
        if self.topics.values().all(complete) {
            self.backoff.reset();
            self.due = now + self.max_age;
        } else {
            self.due = now + self.backoff.next(random);
        }
    }

    /// Which topics match the pattern now, when an answer describes all that there are.
    fn look(&mut self, now: Instant, response: &MetadataResponse) {
        let Some(pattern) = &self.pattern else { return };
        let is_there = |topic: &&TopicMetadata| topic.error_code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let matches = |topic: &&TopicMetadata| {
            !topic.is_internal && topic.name.as_ref().is_some_and(|name| pattern.matches(name))
        };
        let found: Vec<&Str> =
            response.topics.iter().filter(is_there).filter(matches).filter_map(|t| t.name.as_ref()).collect();
        let before = self.topics.len();
        self.topics.retain(|name, entry| !entry.selected || found.contains(&name));
        let mut changed = self.topics.len() != before || !self.looked;
        for name in found {
            let entry = self.topics.entry(Str::from(&**name)).or_insert_with(|| Entry::new(now));
            if !entry.selected {
                (entry.selected, changed) = (true, true);
                if self.looked {
                    // Nobody can have missed a record of it.
                    entry.partitions_first = Some(0);
                }
            }
        }
        self.looked = true;
        self.generation += u64::from(changed);
    }

    /// A leader that an answer of another API named (KIP-951).
    pub(crate) fn hint(&mut self, name: &str, index: i32, leader: i32, leader_epoch: i32) {
        let partitions = self.topics.get_mut(name).and_then(|e| e.known.as_mut()).map(|t| &mut t.partitions);
        let Ok(index) = usize::try_from(index) else { return };
        if let Some(partition) = partitions.and_then(|p| p.get_mut(index))
            && leader >= 0
            && leader_epoch > partition.leader_epoch
        {
            (partition.leader, partition.leader_epoch) = (Some(leader), leader_epoch);
            self.generation += 1;
        }
    }

    /// A broker says that it does not lead the partition; `leader` stays unknown until an answer names another one.
    pub(crate) fn deny(&mut self, name: &str, index: i32, node: i32) {
        let partitions = self.topics.get_mut(name).and_then(|e| e.known.as_mut()).map(|t| &mut t.partitions);
        let Ok(index) = usize::try_from(index) else { return };
        if let Some(partition) = partitions.and_then(|p| p.get_mut(index))
            && partition.leader == Some(node)
        {
            partition.leader = None;
            self.generation += 1;
        }
    }
}

/// Partitions by index; one whose epoch is older than what is known of the same topic stays as it was.
fn read_topic(answer: &TopicMetadata, known: Option<&Topic>) -> Topic {
    let same = known.filter(|k| k.id == answer.topic_id);
    let unknown = Partition { leader: None, leader_epoch: -1, replicas: Box::default() };
    let mut partitions = vec![unknown; answer.partitions.len()];
    for p in &answer.partitions {
        let Some(slot) = usize::try_from(p.partition_index).ok().and_then(|i| partitions.get_mut(i)) else {
            continue;
        };
        let leader = (p.leader_id >= 0).then_some(p.leader_id);
        *slot =
            Partition { leader, leader_epoch: p.leader_epoch, replicas: p.replica_nodes.as_slice().into() };
    }
    for (slot, old) in partitions.iter_mut().zip(same.iter().flat_map(|k| &k.partitions)) {
        // Metadata before version 7 tells no epoch (-1): it is taken, or a hint with one would hold for ever.
        if (0..old.leader_epoch).contains(&slot.leader_epoch) {
            *slot = old.clone();
        }
    }
    Topic { id: answer.topic_id, partitions }
}
