//! The group coordinator: which groups there are, and what offsets each has committed.
//!
//! Membership is [`classic`]'s or [`consumer`]'s; this module owns the offsets and knows which group is which. It refuses
//! to know which node is asked: that is checked before.

pub(crate) mod classic;
pub(crate) mod consumer;
mod membership;

use super::parking::{Parking, Ticket};
use super::random::{Random, hyphenated};
use super::settings::GroupSettings;
use super::timers::Timers;
use super::topics::Topics;
use crate::api::Answer;
pub(crate) use membership::{Membership, as_transactions_know_it, not_a_consumer_group};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use ottla_protocol::wire::Str;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The highest level of the feature `group.version`.
pub(crate) const VERSION_MAX: i16 = 1;

/// What the machine waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The longest wait of a fetch.
    Fetch(Ticket),
    /// Group and member: the next heartbeat.
    Session(Str, Str),
    /// Group: its members must have joined.
    Join(Str),
    /// Group: its members must have asked for their assignment.
    Sync(Str),
    /// Group and member of a consumer group: it must have given up what is no longer its own.
    Revoke(Str, Str),
    /// Group and member: a classic member of a consumer group must have joined again.
    Rejoin(Str, Str),
    /// Group and member: a classic member of a consumer group must have asked for its assignment.
    Resync(Str, Str),
    /// Group: topics are to be matched with the patterns of its members.
    Patterns(Str),
    /// Transactional id: its transaction has been open for as long as it may.
    Transaction(Str),
    /// Transactional id: the markers of its transaction are to be written.
    Markers(Str),
    /// Logs: what is too old or too much is to be deleted.
    Retention,
    /// Logs: keys are to be compacted.
    Compaction,
    /// Logs: what `flush.ms` says is to be flushed.
    Flush,
    /// The longest wait of a Produce for its replicas.
    Produce(Ticket),
    /// Node: its followers fetch.
    Replicate(i32),
    /// Replicas: those that lag are to be taken out of sync.
    Lag,
    /// Node: the controller has not heard of it for too long.
    Fence(i32),
}

/// What a group may do to the world around it.
pub(crate) struct Effects<'a> {
    pub(crate) now: Instant,
    pub(crate) settings: &'a GroupSettings,
    pub(crate) timers: &'a mut Timers<Timer>,
    pub(crate) random: &'a mut Random,
    pub(crate) parking: &'a mut Parking,
    pub(crate) topics: &'a Topics,
}

/// Why a request about a consumer group is refused, in Kafka's words: a code alone tells a developer little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Effects<'_> {
    fn set(&mut self, timer: Timer, after: Duration) {
        self.timers.set(timer, self.now + after);
    }

    fn cancel(&mut self, timer: &Timer) {
        self.timers.cancel(timer);
    }

    fn is_set(&self, timer: &Timer) -> bool {
        self.timers.is_set(timer)
    }

    fn answer(&mut self, ticket: Ticket, answer: impl Into<Answer>) {
        self.parking.answer(ticket, answer.into());
    }

    fn join_refused(&mut self, ticket: Ticket, error_code: ErrorCode, member_id: Str) {
        self.answer(ticket, JoinGroupResponse { error_code, member_id, ..JoinGroupResponse::default() });
    }

    pub(crate) fn sync_refused(&mut self, ticket: Ticket, error_code: ErrorCode) {
        self.answer(ticket, SyncGroupResponse { error_code, ..SyncGroupResponse::default() });
    }

    /// Kafka's form: what it is called by, and a random UUID.
    fn new_member_id(&mut self, named: &str) -> Str {
        Str::from(format!("{named}-{}", hyphenated(self.random.uuid())))
    }

    /// The id of a member that brings none and has no name.
    fn new_id(&mut self) -> Str {
        Str::from(self.random.uuid().to_string())
    }
}

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Str,
    pub(crate) at_ms: i64,
}

/// Offsets by topic and partition, each with the number of the commit that it came with.
type Numbered = BTreeMap<(Str, i32), (u64, Committed)>;

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) membership: Membership,
    offsets: Numbered,
    /// By producer id: what was committed within a transaction that is still open.
    pending: BTreeMap<i64, Numbered>,
    commits: u64,
}

impl Entry {
    fn new(id: Str) -> Self {
        Self {
            membership: Membership::new(id),
            offsets: BTreeMap::new(),
            pending: BTreeMap::new(),
            commits: 0,
        }
    }

    /// What is committed, by topic and partition.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = (&(Str, i32), &Committed)> {
        self.offsets.iter().map(|(place, (_, committed))| (place, committed))
    }

    pub(crate) fn offset(&self, place: &(Str, i32)) -> Option<&Committed> {
        self.offsets.get(place).map(|(_, committed)| committed)
    }

    /// Whether an open transaction may still change what is committed (KIP-447).
    pub(crate) fn is_unstable(&self, place: &(Str, i32)) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(place))
    }

    pub(crate) fn commit(&mut self, place: (Str, i32), committed: Committed) {
        self.commits += 1;
        self.offsets.insert(place, (self.commits, committed));
    }

    /// Commits within the open transaction of a producer.
    pub(crate) fn commit_pending(&mut self, producer_id: i64, place: (Str, i32), committed: Committed) {
        self.commits += 1;
        self.pending.entry(producer_id).or_default().insert(place, (self.commits, committed));
    }

    /// The transaction of a producer ended. An offset that was committed later by other means stays.
    pub(crate) fn end_pending(&mut self, producer_id: i64, committed: bool) {
        let pending = self.pending.remove(&producer_id).unwrap_or_default();
        for (place, numbered) in pending.into_iter().filter(|_| committed) {
            if self.offsets.get(&place).is_none_or(|(number, _)| *number < numbered.0) {
                self.offsets.insert(place, numbered);
            }
        }
    }

    /// Forgets every offset: the log that they were kept in has lost some.
    pub(crate) fn forget_all(&mut self) {
        self.offsets.clear();
        self.pending.clear();
    }

    /// Forgets what is committed of a partition. False when there was nothing.
    pub(crate) fn forget(&mut self, place: &(Str, i32)) -> bool {
        for offsets in self.pending.values_mut() {
            offsets.remove(place);
        }
        self.offsets.remove(place).is_some()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Str, Entry>);

impl Groups {
    pub(crate) fn get(&self, id: &str) -> Option<&Entry> {
        self.0.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Entry> {
        self.0.get_mut(id)
    }

    pub(crate) fn get_or_create(&mut self, id: &str) -> &mut Entry {
        // The id is copied, or the group would hold on to the frame that it came in.
        let id = Str::from(id);
        self.0.entry(id.clone()).or_insert_with(|| Entry::new(id))
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Str, &Entry)> {
        self.0.iter()
    }

    /// Every group with the offsets that it has committed of a topic.
    pub(crate) fn offsets_of(&self, topic: &str) -> Vec<(Str, Vec<(Str, i32)>)> {
        let of_topic = |entry: &Entry| -> Vec<(Str, i32)> {
            let pending = entry.pending.values().flat_map(BTreeMap::keys);
            let places = entry.offsets.keys().chain(pending).filter(|(name, _)| &**name == topic);
            places.cloned().collect()
        };
        let groups = self.0.iter().map(|(id, entry)| (id.clone(), of_topic(entry)));
        groups.filter(|(_, places)| !places.is_empty()).collect()
    }

    /// A topic that is deleted takes its committed offsets with it.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for entry in self.0.values_mut() {
            entry.offsets.retain(|(name, _), _| &**name != topic);
            for offsets in entry.pending.values_mut() {
                offsets.retain(|(name, _), _| &**name != topic);
            }
        }
    }

    pub(crate) fn fire(&mut self, fx: &mut Effects, timer: &Timer) {
        let group = match timer {
            Timer::Session(group, _)
            | Timer::Join(group)
            | Timer::Sync(group)
            | Timer::Revoke(group, _)
            | Timer::Rejoin(group, _)
            | Timer::Resync(group, _)
            | Timer::Patterns(group) => group,
            Timer::Fetch(_)
            | Timer::Transaction(_)
            | Timer::Markers(_)
            | Timer::Retention
            | Timer::Compaction
            | Timer::Flush
            | Timer::Produce(_)
            | Timer::Replicate(_)
            | Timer::Lag
            | Timer::Fence(_) => return,
        };
        if let Some(entry) = self.0.get_mut(group) {
            entry.membership.fire(fx, timer);
        }
    }
}
