//! Committed offsets, on their way to the group's coordinator and from it.
//!
//! It owns what is to be committed and what is looked up, one request of each kind at a time, and the calls that wait for
//! a commit. It refuses to know positions and records. Invariants: nothing is sent for a partition that is not held; within
//! one holding of a partition the committed offset never moves back; an error is never taken for "no offset".
//!
//! A commit that the coordinator refused because the group moved on goes out again under the new generation, but only for
//! partitions that were held all the time: whatever is revoked or lost is forgotten first.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic, OffsetFetchGroup,
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchTopic, OffsetFetchedPartition, OffsetFetchedTopic,
};
use ottla_protocol::wire::{Str, Uuid};

use super::ask::{Answer, Ask};
use super::backoff::Backoff;
use super::cluster::Cluster;
use super::group::{Group, GroupMetadata};
use super::{Lane, Link, Request, TopicPartition, Work};
use crate::config::{ClientConfig, ConsumerConfig};
use crate::error::{Error, ErrorKind};
use crate::planted::{Defect, planted};

/// What is committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Of the next record to read.
    pub(crate) offset: i64,
    /// Of the last record that was read, -1 if it is not known.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Option<Str>,
}

/// Names one call of [`Offsets::commit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CommitId(u64);

/// What became of a commit that did not fail.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CommitOutcome {
    /// Not committed, because they are not held any more: their new owner goes on from the last commit.
    pub(crate) superseded: Vec<TopicPartition>,
}

/// The committed offset and leader epoch of a partition; `None` if the group has none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) partition: TopicPartition,
    pub(crate) committed: Option<(i64, i32)>,
}

/// An offset to commit. Later ones of a partition have larger numbers.
#[derive(Debug, Clone)]
struct Entry {
    number: u64,
    committed: Committed,
}

/// A call that waits until everything up to these numbers is settled.
#[derive(Debug)]
struct Call {
    open: BTreeMap<TopicPartition, u64>,
    outcome: CommitOutcome,
    error: Option<Error>,
    by: Instant,
}

/// A request without an answer, with the topics' names by the ids that it used.
#[derive(Debug)]
struct Flight<T> {
    link: Link,
    content: BTreeMap<TopicPartition, T>,
    names: BTreeMap<Uuid, Str>,
    identity: Option<GroupMetadata>,
}

/// What an answer says of one partition.
enum Verdict {
    Done,
    /// Not done, and to be tried again after a wait.
    Again,
    /// Not done, and not to be tried again under the same identity.
    OtherGeneration,
    /// Not done: this member is none any more.
    Superseded,
    Failed(Error),
}

#[derive(Debug)]
pub(crate) struct Offsets {
    client: Arc<ClientConfig>,
    /// The partitions that may be committed, each with the largest offset that was to be committed since it is held.
    held: BTreeMap<TopicPartition, i64>,
    next_number: u64,

    waiting: BTreeMap<TopicPartition, Entry>,
    commit: Option<Flight<Entry>>,
    commit_after: Option<Instant>,
    commit_backoff: Backoff,
    /// Under which a commit was refused: it is of no use any more.
    refused: Option<GroupMetadata>,
    calls: BTreeMap<CommitId, Call>,

    sought: BTreeMap<TopicPartition, u64>,
    look_up: Option<Flight<u64>>,
    look_up_after: Option<Instant>,
    look_up_backoff: Backoff,
    events: VecDeque<Result<Found, Error>>,
}

// What the consumer asks for.
impl Offsets {
    pub(crate) fn new(_: Arc<ConsumerConfig>, client: Arc<ClientConfig>) -> Self {
        let backoff = Backoff::new(client.retry_backoff, client.retry_backoff_max);
        Self {
            client,
            held: BTreeMap::new(),
            next_number: 0,
            waiting: BTreeMap::new(),
            commit: None,
            commit_after: None,
            commit_backoff: backoff.clone(),
            refused: None,
            calls: BTreeMap::new(),
            sought: BTreeMap::new(),
            look_up: None,
            look_up_after: None,
            look_up_backoff: backoff,
            events: VecDeque::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// This one is held from now on.
    pub(crate) fn hold(&mut self, partition: &TopicPartition) {
        self.held.entry(partition.clone()).or_insert(-1);
    }

    /// These are held from now on: asks for their committed offsets.
    pub(crate) fn look_up(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for partition in partitions {
            self.hold(&partition);
            let number = self.number();
            self.sought.insert(partition, number);
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Result<Found, Error>> {
        self.events.pop_front()
    }

    /// The application reads these from elsewhere: their committed offsets are not needed, and may move back.
    pub(crate) fn forget_look_ups(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for partition in partitions {
            self.sought.remove(&partition);
            self.forget_floor(&partition);
        }
    }

    /// The largest offset was not committed, or is not to be the smallest any more.
    fn forget_floor(&mut self, partition: &TopicPartition) {
        if let Some(floor) = self.held.get_mut(partition) {
            *floor = -1;
        }
    }

    /// These are not held any more: what is not committed yet never will be.
    pub(crate) fn forget(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for partition in partitions {
            self.held.remove(&partition);
            self.sought.remove(&partition);
            self.waiting.remove(&partition);
            // The request cannot be called back; its answer for this partition tells nobody anything.
            if let Some(flight) = &mut self.commit {
                flight.content.remove(&partition);
            }
            self.settle(&partition, u64::MAX, &Verdict::Superseded);
        }
    }

    /// The topic is another one under the same name: what was to be committed, or is known of commits, is of the old one.
    pub(crate) fn start_over(&mut self, partition: &TopicPartition, look_up: bool) {
        if !self.held.contains_key(partition) {
            return;
        }
        self.forget([partition.clone()]);
        if look_up {
            self.look_up([partition.clone()]);
        } else {
            self.held.insert(partition.clone(), -1);
        }
    }

    /// Commits these, and whatever is still on its way: the call is resolved when all of it is.
    pub(crate) fn commit(&mut self, now: Instant, offsets: BTreeMap<TopicPartition, Committed>) -> CommitId {
        let id = CommitId(self.number());
        let mut outcome = CommitOutcome::default();
        for (partition, committed) in offsets {
            match self.held.get_mut(&partition) {
                None => outcome.superseded.push(partition),
                Some(floor) if committed.offset < *floor => {}
                Some(floor) => {
                    *floor = committed.offset;
                    let number = self.number();
                    self.waiting.insert(partition, Entry { number, committed });
                }
            }
        }
        let out = self.commit.iter().flat_map(|flight| &flight.content);
        let open =
            out.chain(&self.waiting).map(|(partition, entry)| (partition.clone(), entry.number)).collect();
        let by = now + self.client.default_api_timeout;
        self.calls.insert(id, Call { open, outcome, error: None, by });
        id
    }

    /// Whether the call is resolved, and its result there or taken.
    pub(crate) fn is_resolved(&self, id: CommitId) -> bool {
        self.calls.get(&id).is_none_or(|call| call.open.is_empty())
    }

    /// The result of a call that is resolved, once.
    pub(crate) fn take_result(&mut self, id: CommitId) -> Option<Result<CommitOutcome, Error>> {
        if !self.is_resolved(id) {
            return None;
        }
        let call = self.calls.remove(&id)?;
        Some(match call.error {
            Some(error) => Err(error),
            None => Ok(call.outcome),
        })
    }

    /// Whether nothing is to be committed or being committed.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.commit.is_none()
    }

    /// Tells the calls what became of everything up to `number` of a partition.
    fn settle(&mut self, partition: &TopicPartition, number: u64, verdict: &Verdict) {
        if let Verdict::Failed(_) = verdict {
            self.forget_floor(partition);
        }
        for call in self.calls.values_mut() {
            if call.open.get(partition).is_none_or(|open| *open > number) {
                continue;
            }
            call.open.remove(partition);
            match verdict {
                Verdict::Failed(error) => {
                    call.error.get_or_insert_with(|| error.clone());
                }
                Verdict::Superseded => call.outcome.superseded.push(partition.clone()),
                Verdict::Done | Verdict::Again | Verdict::OtherGeneration => {}
            }
        }
    }
}

// What the links ask.
impl Offsets {
    /// For an open link that may be written to: whether [`Offsets::poll_work`] would give something.
    pub(crate) fn wants(&self, now: Instant, link: Link, group: &Group) -> bool {
        let over = |after: Option<Instant>| after.is_none_or(|at| at <= now);
        (self.may_commit(link, group) && over(self.commit_after))
            || (self.may_look_up(link, group) && over(self.look_up_after))
    }

    /// When a wait for another attempt is over.
    pub(crate) fn ready_at(&self, link: Link, group: &Group) -> Option<Instant> {
        let commit = self.commit_after.filter(|_| self.may_commit(link, group));
        let look_up = self.look_up_after.filter(|_| self.may_look_up(link, group));
        commit.into_iter().chain(look_up).min()
    }

    fn may_commit(&self, link: Link, group: &Group) -> bool {
        let identity = group.identity();
        let holds = identity.is_some() && identity != self.refused;
        is_to_coordinator(link, group) && !self.waiting.is_empty() && self.commit.is_none() && holds
    }

    fn may_look_up(&self, link: Link, group: &Group) -> bool {
        is_to_coordinator(link, group) && !self.sought.is_empty() && self.look_up.is_none()
    }

    pub(crate) fn poll_work(
        &mut self,
        now: Instant,
        link: Link,
        group: &Group,
        cluster: &mut Cluster,
    ) -> Option<Work> {
        let over = |after: Option<Instant>| after.is_none_or(|at| at <= now);
        let work = if self.may_commit(link, group) && over(self.commit_after) {
            self.ask_to_commit(link, group.identity()?, cluster)
        } else if self.may_look_up(link, group) && over(self.look_up_after) {
            self.ask_to_look_up(link, group, cluster)
        } else {
            return None;
        };
        Some(work.unwrap_or_else(|error| {
            self.give_up(&error);
            Work::Close(error)
        }))
    }

    fn ask_to_commit(
        &mut self,
        link: Link,
        identity: GroupMetadata,
        cluster: &mut Cluster,
    ) -> Result<Work, Error> {
        let ids = topic_ids(self.waiting.keys(), cluster);
        // From version 10 on a request names topics by id alone.
        let version =
            cluster.version::<OffsetCommitRequest>(link, if ids.is_some() { i16::MAX } else { 9 })?;
        let ids = ids.unwrap_or_default();
        let content = std::mem::take(&mut self.waiting);
        let mut topics: Vec<OffsetCommitTopic> = Vec::new();
        for (TopicPartition { topic, partition }, Entry { committed, .. }) in &content {
            let partition = OffsetCommitPartition {
                partition_index: *partition,
                committed_offset: committed.offset,
                committed_leader_epoch: committed.leader_epoch,
                committed_metadata: Some(committed.metadata.clone().unwrap_or_default()),
            };
            match topics.last_mut().filter(|last| last.name == *topic) {
                Some(last) => last.partitions.push(partition),
                None => {
                    let topic_id = ids.get(topic).copied().unwrap_or_default();
                    topics.push(OffsetCommitTopic {
                        name: topic.clone(),
                        topic_id,
                        partitions: vec![partition],
                    });
                }
            }
        }
        let ask = OffsetCommitRequest {
            group_id: identity.group.clone(),
            generation_id_or_member_epoch: identity.generation,
            member_id: identity.member_id.clone(),
            group_instance_id: identity.instance_id.clone(),
            topics,
            ..OffsetCommitRequest::default()
        };
        self.commit = Some(Flight { link, content, names: reverse(ids), identity: Some(identity) });
        Ok(request(Ask::OffsetCommit(ask), version, self.client.request_timeout))
    }

    fn ask_to_look_up(&mut self, link: Link, group: &Group, cluster: &mut Cluster) -> Result<Work, Error> {
        let ids = topic_ids(self.sought.keys(), cluster);
        let version =
            cluster.version::<OffsetFetchRequest>(link, if ids.is_some() { i16::MAX } else { 9 })?;
        let ids = ids.unwrap_or_default();
        let mut topics: Vec<OffsetFetchTopic> = Vec::new();
        for TopicPartition { topic, partition } in self.sought.keys() {
            match topics.last_mut().filter(|last| last.name == *topic) {
                Some(last) => last.partition_indexes.push(*partition),
                None => {
                    let topic_id = ids.get(topic).copied().unwrap_or_default();
                    let partition_indexes = vec![*partition];
                    topics.push(OffsetFetchTopic { name: topic.clone(), topic_id, partition_indexes });
                }
            }
        }
        // KIP-447: an offset that a transaction has not decided yet is waited for, never read past.
        let mut ask = OffsetFetchRequest { require_stable: true, ..OffsetFetchRequest::default() };
        if version < 8 {
            ask.group_id = group.id().clone();
            ask.topics = Some(topics);
        } else {
            let group_id = group.id().clone();
            let (member_id, member_epoch) =
                group.reader().map_or((None, -1), |(id, epoch)| (Some(id), epoch));
            ask.groups = vec![OffsetFetchGroup { group_id, member_id, member_epoch, topics: Some(topics) }];
        }
        self.look_up =
            Some(Flight { link, content: self.sought.clone(), names: reverse(ids), identity: None });
        Ok(request(Ask::OffsetFetch(ask), version, self.client.request_timeout))
    }
}

// What comes back.
impl Offsets {
    /// Takes an answer in, if it answers one of this machine's requests.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        link: Link,
        answer: &Answer,
        group: &mut Group,
        cluster: &mut Cluster,
    ) -> bool {
        match answer {
            Answer::OffsetCommit(response) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                if let Some(flight) = self.commit.take_if(|flight| flight.link == link) {
                    self.committed(now, flight, response, group, cluster);
                }
            }
            Answer::OffsetFetch(response) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                if let Some(flight) = self.look_up.take_if(|flight| flight.link == link) {
                    self.looked_up(now, &flight, response, group, cluster);
                }
            }
            _ => return false,
        }
        true
    }

    fn committed(
        &mut self,
        now: Instant,
        mut flight: Flight<Entry>,
        response: &OffsetCommitResponse,
        group: &mut Group,
        cluster: &mut Cluster,
    ) {
        let mut again = false;
        for topic in &response.topics {
            let name = flight.names.get(&topic.topic_id).unwrap_or(&topic.name).clone();
            for answer in &topic.partitions {
                let partition = TopicPartition { topic: name.clone(), partition: answer.partition_index };
                let Some(entry) = flight.content.remove(&partition) else { continue };
                let code = answer.error_code;
                self.heed(now, link_node(&flight), code, group, cluster);
                match judge_commit(code, &partition, flight.identity.as_ref()) {
                    Verdict::Again => {
                        again = true;
                        self.put_back(partition, entry);
                    }
                    Verdict::OtherGeneration => {
                        self.refused.clone_from(&flight.identity);
                        self.put_back(partition, entry);
                    }
                    verdict => self.settle(&partition, entry.number, &verdict),
                }
            }
        }
        // What the answer leaves out is not known to be committed.
        again |= !flight.content.is_empty();
        std::mem::take(&mut flight.content)
            .into_iter()
            .for_each(|(partition, entry)| self.put_back(partition, entry));
        self.commit_after = again.then(|| now + self.commit_backoff.next(&mut cluster.random));
        if !again {
            self.commit_backoff.reset();
        }
    }

    /// To be sent again, unless a newer offset is to be sent, which says it all, or nobody waits for it any more.
    fn put_back(&mut self, partition: TopicPartition, entry: Entry) {
        if self.held.contains_key(&partition) && self.is_awaited(&partition, entry.number) {
            self.waiting.entry(partition).or_insert(entry);
        }
    }

    fn is_awaited(&self, partition: &TopicPartition, number: u64) -> bool {
        self.calls.values().any(|call| call.open.get(partition).is_some_and(|open| *open <= number))
    }

    fn looked_up(
        &mut self,
        now: Instant,
        flight: &Flight<u64>,
        response: &OffsetFetchResponse,
        group: &mut Group,
        cluster: &mut Cluster,
    ) {
        let of_group = response.groups.iter().find(|answer| answer.group_id == *group.id());
        let (code, topics): (ErrorCode, &[OffsetFetchedTopic]) = match of_group {
            Some(answer) => (answer.error_code, &answer.topics),
            None => (response.error_code, &response.topics),
        };
        self.heed(now, link_node(flight), code, group, cluster);
        if code.is_ok() {
            for topic in topics {
                let name = flight.names.get(&topic.topic_id).unwrap_or(&topic.name);
                for answer in &topic.partitions {
                    let partition = TopicPartition { topic: name.clone(), partition: answer.partition_index };
                    if self.is_sought(flight, &partition) {
                        self.heed(now, link_node(flight), answer.error_code, group, cluster);
                        self.find(partition, answer);
                    }
                }
            }
        } else if planted(Defect::ErrorIsNoOffset) {
            for partition in flight.content.keys() {
                self.sought.remove(partition);
                self.events.push_back(Ok(Found { partition: partition.clone(), committed: None }));
            }
        } else if !is_worth_a_retry(code) {
            self.sought.retain(|partition, _| !flight.content.contains_key(partition));
            let subject = format!("group {}: the committed offsets cannot be read", group.id());
            self.events.push_back(Err(Error::from_code(code, subject)));
        }
        // What the answer leaves out is not known to have no offset (fault 65).
        let again = flight.content.keys().any(|partition| self.is_sought(flight, partition));
        self.look_up_after = again.then(|| now + self.look_up_backoff.next(&mut cluster.random));
        if !again {
            self.look_up_backoff.reset();
        }
    }

    /// Whether the answer to this request is still of interest: a partition that was forgotten and is held again has another
    /// number.
    fn is_sought(&self, flight: &Flight<u64>, partition: &TopicPartition) -> bool {
        let asked = flight.content.get(partition);
        asked.is_some() && self.sought.get(partition) == asked
    }

    fn find(&mut self, partition: TopicPartition, answer: &OffsetFetchedPartition) {
        let code = answer.error_code;
        let found = if code.is_ok() && answer.committed_offset >= 0 {
            Ok(Found { partition, committed: Some((answer.committed_offset, answer.committed_leader_epoch)) })
        } else if code.is_ok() || planted(Defect::ErrorIsNoOffset) {
            Ok(Found { partition, committed: None })
        } else if is_worth_a_retry(code) {
            return;
        } else {
            let error =
                Error::from_code(code, format_args!("{partition}: the committed offset cannot be read"));
            self.sought.remove(&partition);
            return self.events.push_back(Err(error));
        };
        if let Ok(found) = &found {
            self.sought.remove(&found.partition);
        }
        self.events.push_back(found);
    }

    /// What an error code says of coordinator, membership and topics.
    fn heed(&self, now: Instant, node: i32, code: ErrorCode, group: &mut Group, cluster: &mut Cluster) {
        match code {
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                group.coordinator_failed(now, node, cluster);
            }
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::STALE_MEMBER_EPOCH
            | ErrorCode::FENCED_INSTANCE_ID => group.doubt(now),
            code if code.needs_refresh() => cluster.metadata.refresh(now, &mut cluster.random),
            _ => {}
        }
    }

    /// What was out on the link is unanswered.
    pub(crate) fn lost(&mut self, _: Instant, link: Link, _: &mut Cluster) {
        self.look_up.take_if(|flight| flight.link == link);
        if let Some(flight) = self.commit.take_if(|flight| flight.link == link) {
            flight.content.into_iter().for_each(|(partition, entry)| self.put_back(partition, entry));
        }
    }
}

// Time.
impl Offsets {
    /// When the first call is to be resolved at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.calls.values().filter(|call| !call.open.is_empty()).map(|call| call.by).min()
    }

    pub(crate) fn tick(&mut self, now: Instant, group: &Group, cluster: &mut Cluster) {
        let wait = self.client.default_api_timeout;
        let is_late = |call: &&mut Call| !call.open.is_empty() && call.by <= now;
        let mut late = self.calls.values_mut().filter(is_late).peekable();
        if late.peek().is_none() {
            return;
        }
        let message = format!("group {}: offsets were not committed within {wait:?}", group.id());
        let error = Error::new(ErrorKind::Timeout, message);
        let error = match cluster.failure() {
            Some(cause) => error.with_source(cause.clone()),
            None => error,
        };
        let mut open = BTreeMap::new();
        for call in late {
            open.append(&mut call.open);
            call.error.get_or_insert_with(|| error.clone());
        }
        open.keys().for_each(|partition| self.forget_floor(partition));
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting
            .into_iter()
            .filter(|(partition, entry)| self.is_awaited(partition, entry.number))
            .collect();
    }

    /// Wants the link that it needs. To be called after whatever may have changed something.
    pub(crate) fn step(&mut self, now: Instant, group: &mut Group, cluster: &mut Cluster) {
        if group.is_over() {
            match group.failure().cloned() {
                Some(error) => self.give_up(&error),
                None => self.supersede(),
            }
        }
        let idle = self.waiting.is_empty() || self.commit.is_some();
        if idle && (self.sought.is_empty() || self.look_up.is_some()) {
            return;
        }
        group.need_coordinator(now, cluster);
        if let Some(node) = group.coordinator() {
            cluster.want(Link { node, lane: Lane::Control });
        }
    }

    /// Nothing can be committed or looked up any more.
    fn give_up(&mut self, error: &Error) {
        self.drop_all(&Verdict::Failed(error.clone()));
        if !std::mem::take(&mut self.sought).is_empty() {
            self.events.push_back(Err(error.clone()));
        }
    }

    /// The membership ended by our own will.
    fn supersede(&mut self) {
        self.drop_all(&Verdict::Superseded);
        self.sought.clear();
    }

    fn drop_all(&mut self, verdict: &Verdict) {
        self.waiting.clear();
        self.commit = None;
        let partitions: Vec<TopicPartition> = self.held.keys().cloned().collect();
        partitions.iter().for_each(|partition| self.settle(partition, u64::MAX, verdict));
    }
}

fn is_to_coordinator(link: Link, group: &Group) -> bool {
    link.lane == Lane::Control && group.coordinator() == Some(link.node)
}

fn link_node<T>(flight: &Flight<T>) -> i32 {
    flight.link.node
}

fn request(ask: Ask, version: i16, timeout: Duration) -> Work {
    Work::Request(Request { ask, version, timeout, answered: true })
}

/// The id of each topic, if all of them are known.
fn topic_ids<'a>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
    cluster: &Cluster,
) -> Option<BTreeMap<Str, Uuid>> {
    let id = |partition: &TopicPartition| {
        let id = cluster.metadata.topic(&partition.topic)?.id;
        (id != Uuid::ZERO).then(|| (partition.topic.clone(), id))
    };
    partitions.map(id).collect()
}

fn reverse(ids: BTreeMap<Str, Uuid>) -> BTreeMap<Uuid, Str> {
    ids.into_iter().map(|(name, id)| (id, name)).collect()
}

/// Whether the same request may succeed later. A member that is gone and a generation that is over tell nothing of offsets.
fn is_worth_a_retry(code: ErrorCode) -> bool {
    let of_member = matches!(
        code,
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION | ErrorCode::STALE_MEMBER_EPOCH
    );
    of_member || code.is_retriable() || code.needs_refresh()
}

fn judge_commit(code: ErrorCode, partition: &TopicPartition, identity: Option<&GroupMetadata>) -> Verdict {
    let is_member = identity.is_some_and(|identity| identity.generation >= 0);
    match code {
        ErrorCode::NONE => Verdict::Done,
        // Fault 58: what is still held is committed under the epoch that the next heartbeat brings.
        ErrorCode::ILLEGAL_GENERATION | ErrorCode::STALE_MEMBER_EPOCH if is_member => {
            Verdict::OtherGeneration
        }
        ErrorCode::UNKNOWN_MEMBER_ID if is_member => Verdict::Superseded,
        // The members have joined, and wait for their shares: soon it is decided who has what.
        ErrorCode::REBALANCE_IN_PROGRESS if is_member => Verdict::Again,
        code if code.is_retriable() => Verdict::Again,
        code => {
            Verdict::Failed(Error::from_code(code, format_args!("{partition}: the offset was not committed")))
        }
    }
}
