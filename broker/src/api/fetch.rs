//! Fetch: reads batches, or waits until there are enough of them.
//!
//! Versions 4 to 17. Honoured: the byte limits (whole batches; the first one is returned even when it is larger), minimum
//! bytes and longest wait, sessions (KIP-227), leader epochs and divergence (KIP-320, KIP-595), topic ids (13), leader
//! hints (KIP-951), the isolation level: a reader of committed records sees no further than the last stable offset, and is
//! told which transactions were aborted; nobody sees beyond the high watermark; with `replica.selector.class`, a consumer is
//! sent to a replica in its rack that is in sync, which shows as much as it has and was told of (KIP-392). Ignored: replica fields, the log start offset. Version 18 is for followers only
//! and is not served.

use super::{Caller, Refuse};
use crate::core::group::Timer;
use crate::core::replicas::View;
use crate::core::sessions::{Asked, Context, NO_SESSION, Place, Wanted};
use crate::core::topics::{Partition, Readable};
use crate::core::{Cluster, Handled, Now, Ticket, check_leader_epoch};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    AbortedTransaction, DivergingEpoch, FetchPartition, FetchRequest, FetchResponse, FetchedPartition,
    FetchedTopic,
};
use ottla_protocol::wire::{RecordSet, Str, Uuid};
use std::time::Duration;

/// The first version whose consumers may read from followers.
const FROM_FOLLOWERS: i16 = 11;

/// The isolation level of a reader of committed records.
pub(crate) const READ_COMMITTED: i8 = 1;

/// A fetch that waits for records.
#[derive(Debug)]
pub(crate) struct Waiting {
    node: i32,
    caller: Caller,
    version: i16,
    session_id: i32,
    rack: Str,
    wanted: Vec<(Place, Wanted)>,
    /// Whether records count only once they are decided.
    committed: bool,
    bytes_max: usize,
    /// Bytes that must still become readable before the wait ends.
    missing: u64,
}

impl Waiting {
    /// More of a partition that this fetch waits for can be read: whether that ends the wait.
    pub(crate) fn is_over_after(&mut self, before: Readable, after: Readable) -> bool {
        let bytes = match self.committed {
            false => after.all.saturating_sub(before.all),
            true => after.committed.saturating_sub(before.committed),
        };
        self.missing = self.missing.saturating_sub(bytes);
        self.missing == 0
    }

    /// Whether it waits at this node.
    pub(crate) fn is_at(&self, node: i32) -> bool {
        self.node == node
    }
}

impl Refuse for FetchRequest {
    type Response = FetchResponse;

    fn refuse(&self, error_code: ErrorCode) -> FetchResponse {
        FetchResponse { error_code, ..FetchResponse::default() }
    }
}

/// What one pass over the partitions found.
#[derive(Default)]
struct Pass {
    answers: Vec<(Place, FetchedPartition)>,
    bytes: usize,
    /// Something must be said at once: an error, or a log that diverges.
    urgent: bool,
}

impl Cluster {
    pub(crate) fn fetch(&mut self, now: Now, caller: &Caller, request: FetchRequest) -> Handled {
        let sessions_max = self.settings.fetch_sessions_max;
        let Some(node) = self.nodes.get_mut(&caller.node) else {
            return request.refuse(ErrorCode::BROKER_NOT_AVAILABLE).into();
        };
        let asked = asked(caller.version, &request);
        let context = match node.sessions.resolve(now.at, asked, sessions_max, &mut self.random) {
            Ok(context) => context,
            Err(code) => return request.refuse(code).into(),
        };
        let Context { session_id, wanted } = context;
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(self.settings.fetch_bytes_max);
        let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
        let committed = request.isolation_level == READ_COMMITTED;
        let (node, version) = (caller.node, caller.version);
        let caller = caller.clone();
        let rack = Str::from(&*request.rack_id);
        let mut waiting =
            Waiting { node, caller, version, session_id, rack, wanted, committed, bytes_max, missing: 0 };
        let pass = self.pass(&waiting);
        if pass.urgent || pass.bytes >= bytes_min || request.max_wait_ms <= 0 || waiting.wanted.is_empty() {
            return self.respond(&waiting, pass).into();
        }
        waiting.missing = (bytes_min - pass.bytes) as u64;
        let ticket = self.parking.issue();
        for (place, _) in &waiting.wanted {
            let name = self.name_of(place);
            if let Some(partition) = name.and_then(|name| self.topics.partition_mut(&name, place.partition)) {
                partition.waiting.push(ticket);
            }
        }
        self.fetches.insert(ticket, waiting);
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        self.timers.set(Timer::Fetch(ticket), now.at + wait);
        Handled::Parked(ticket)
    }

    pub(crate) fn stop_waiting(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.fetches.remove(&ticket)?;
        self.timers.cancel(&Timer::Fetch(ticket));
        for (place, _) in &waiting.wanted {
            let name = self.name_of(place);
            if let Some(partition) = name.and_then(|name| self.topics.partition_mut(&name, place.partition)) {
                partition.waiting.retain(|other| *other != ticket);
            }
        }
        Some(waiting)
    }

    pub(crate) fn answer_fetch(&mut self, waiting: Waiting) -> super::Answer {
        let pass = self.pass(&waiting);
        self.respond(&waiting, pass).into()
    }

    fn name_of(&self, place: &Place) -> Option<Str> {
        if place.topic_id == Uuid::ZERO {
            Some(place.topic.clone())
        } else {
            self.topics.name_of(place.topic_id).cloned()
        }
    }

    fn pass(&mut self, waiting: &Waiting) -> Pass {
        let mut pass = Pass::default();
        for (place, wanted) in &waiting.wanted {
            let room = waiting.bytes_max.saturating_sub(pass.bytes);
            let answer = self.read(waiting, place, *wanted, room, pass.bytes == 0);
            pass.bytes += answer.records.as_ref().map_or(0, |records| records.len());
            pass.urgent |= answer.error_code != ErrorCode::NONE
                || answer.diverging_epoch.end_offset >= 0
                || answer.preferred_read_replica >= 0;
            pass.answers.push((place.clone(), answer));
        }
        pass
    }

    fn read(
        &mut self,
        waiting: &Waiting,
        place: &Place,
        wanted: Wanted,
        room: usize,
        oversize_first: bool,
    ) -> FetchedPartition {
        let Some(topic) = self.name_of(place) else { return failed(place, ErrorCode::UNKNOWN_TOPIC_ID) };
        if let Err(code) = self.access.on_topic(ApiKey::FETCH, &waiting.caller, &topic) {
            return failed(place, code);
        }
        if let Some(code) = self.faults.on_partition(ApiKey::FETCH, waiting.node, &topic, place.partition) {
            return failed(place, code);
        }
        let nearer = self.nearer(waiting, &topic, place.partition, wanted.offset);
        let follows = self.settings.rack_aware_replicas;
        let Some(partition) = self.topics.partition_mut(&topic, place.partition) else {
            return failed(place, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let View { end, high_watermark } = match served(waiting, partition, wanted, follows) {
            Ok(view) => view,
            Err(code) => return not_served(place, partition, code),
        };
        let start = partition.log.start_offset();
        let mut answer = FetchedPartition {
            partition_index: place.partition,
            error_code: ErrorCode::NONE,
            high_watermark,
            last_stable_offset: partition.stable_below(high_watermark),
            log_start_offset: start,
            aborted_transactions: None,
            records: RecordSet(Some(bytes::Bytes::new())),
            ..FetchedPartition::default()
        };
        match diverging(partition, wanted, end) {
            Ok(None) => {}
            Ok(Some(diverging)) => {
                answer.diverging_epoch = diverging;
                return answer;
            }
            Err(code) => return failed(place, code),
        }
        if !(start..=end).contains(&wanted.offset) {
            return failed(place, ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if let Some(replica) = nearer {
            answer.preferred_read_replica = replica;
            return answer;
        }
        let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(0).min(room);
        let limit = if waiting.committed { answer.last_stable_offset } else { high_watermark };
        let read = partition.log.read(wanted.offset..limit, bytes_max, oversize_first);
        let Ok((records, next)) = read else { return failed(place, ErrorCode::KAFKA_STORAGE_ERROR) };
        if waiting.committed {
            let next = if records.is_empty() { i64::MIN } else { next };
            let aborted = partition
                .stability
                .aborted(wanted.offset, next)
                .map(|it| AbortedTransaction { producer_id: it.producer_id, first_offset: it.first_offset });
            answer.aborted_transactions = Some(aborted.collect());
        }
        answer.records = RecordSet(Some(records));
        answer
    }

    /// A replica in the rack of whoever asks its leader, if the leader is elsewhere (KIP-392).
    fn nearer(&self, waiting: &Waiting, topic: &str, partition: i32, offset: i64) -> Option<i32> {
        let asks = self.settings.rack_aware_replicas
            && waiting.version >= FROM_FOLLOWERS
            && !waiting.rack.is_empty();
        let partition = self.topics.get(topic).filter(|_| asks)?.partition(partition)?;
        let is_near = |id: &i32| {
            let node = self.nodes.get(id).filter(|node| node.is_alive());
            node.is_some_and(|node| node.rack.as_ref() == Some(&waiting.rack))
        };
        let from_leader = partition.leader == Some(waiting.node) && !is_near(&waiting.node);
        let has_it = |id: &i32| partition.view(*id).is_some_and(|view| view.end >= offset);
        let in_sync = partition.standing.in_sync.iter().copied().filter(|_| from_leader);
        in_sync.filter(has_it).find(is_near)
    }

    /// Puts the answer together: of a session, only what changed.
    fn respond(&mut self, waiting: &Waiting, pass: Pass) -> FetchResponse {
        let mut response = FetchResponse { session_id: waiting.session_id, ..FetchResponse::default() };
        let mut hints = Vec::new();
        for (place, answer) in pass.answers {
            let session = self.nodes.get_mut(&waiting.node).filter(|_| waiting.session_id != NO_SESSION);
            if !session.is_none_or(|node| node.sessions.tells(waiting.session_id, &place, &answer)) {
                continue;
            }
            hints.push(answer.current_leader.leader_id);
            match response.responses.last_mut() {
                Some(last) if last.topic == place.topic && last.topic_id == place.topic_id => {
                    last.partitions.push(answer);
                }
                _ => response.responses.push(FetchedTopic {
                    topic: place.topic,
                    topic_id: place.topic_id,
                    partitions: vec![answer],
                }),
            }
        }
        if waiting.version >= 16 {
            response.node_endpoints = self.endpoints(waiting.caller.listener, hints.into_iter());
        }
        response
    }
}

/// What a node may answer with: the leader, and where followers serve consumers any replica.
fn served(
    waiting: &Waiting,
    partition: &Partition,
    wanted: Wanted,
    follows: bool,
) -> Result<View, ErrorCode> {
    let follows = follows && waiting.version >= FROM_FOLLOWERS;
    let view = partition.view(waiting.node).filter(|_| {
        let leads = partition.leader == Some(waiting.node);
        leads || (follows && partition.leader.is_some())
    });
    let view = view.ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    check_leader_epoch(partition, wanted.leader_epoch)?;
    Ok(view)
}

/// With whom to ask instead, if that may be another.
fn not_served(place: &Place, partition: &Partition, code: ErrorCode) -> FetchedPartition {
    let mut answer = failed(place, code);
    if matches!(code, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH) {
        answer.current_leader.leader_id = partition.leader.unwrap_or(-1);
        answer.current_leader.leader_epoch = partition.leader_epoch;
    }
    answer
}

fn failed(place: &Place, error_code: ErrorCode) -> FetchedPartition {
    FetchedPartition {
        partition_index: place.partition,
        error_code,
        high_watermark: -1,
        aborted_transactions: None,
        records: RecordSet(Some(bytes::Bytes::new())),
        ..FetchedPartition::default()
    }
}

/// Whether what the client read last is in the log as it read it. A log that was cut since diverges.
fn diverging(partition: &Partition, wanted: Wanted, end: i64) -> Result<Option<DivergingEpoch>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let found = partition.epoch_end(wanted.last_fetched_epoch).ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)?;
    // A follower that lags is told from a log that was cut: its reader goes back to the leader.
    let diverges = found.epoch < wanted.last_fetched_epoch || found.end_offset < wanted.offset;
    let diverging = DivergingEpoch { epoch: found.epoch, end_offset: found.end_offset.min(end) };
    Ok(diverges.then_some(diverging))
}

fn asked(version: i16, request: &FetchRequest) -> Asked {
    let wanted = |it: &FetchPartition| Wanted {
        offset: it.fetch_offset,
        bytes_max: it.partition_max_bytes,
        leader_epoch: it.current_leader_epoch,
        last_fetched_epoch: it.last_fetched_epoch,
    };
    let mut named = Vec::new();
    for topic in &request.topics {
        // Copied, or a session would hold on to the frame that the name came in.
        let name = Str::from(&*topic.topic);
        let place = |partition| Place { topic: name.clone(), topic_id: topic.topic_id, partition };
        named.extend(topic.partitions.iter().map(|it| (place(it.partition), wanted(it))));
    }
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
        let place = |partition: &i32| Place {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partition: *partition,
        };
        topic.partitions.iter().map(place)
    });
    Asked {
        session_id: request.session_id,
        epoch: request.session_epoch,
        by_id: version >= 13,
        named,
        forgotten: forgotten.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::log::storage::InMemory;
    use crate::core::settings::Settings;
    use crate::core::{Cluster, Node};
    use std::time::Instant;

    /// Parks a fetch and lets `end` end it; nothing of it may be left.
    fn check_nothing_is_left(end: impl FnOnce(&mut Cluster, Ticket)) {
        let mut cluster = Cluster::new(Settings::default(), 1, Box::new(InMemory));
        cluster.nodes.insert(1, Node::new(Vec::new(), None));
        let settings = cluster.plain_settings();
        let now = Now { at: Instant::now(), wall_ms: 0 };
        cluster.create_topic(now, Str::from("t"), vec![vec![1]], settings).unwrap();
        let caller = Caller { node: 1, version: 12, ..Caller::default() };
        let partitions = vec![FetchPartition { partition_max_bytes: 1, ..FetchPartition::default() }];
        let topics = vec![ottla_protocol::messages::FetchTopic {
            topic: Str::from("t"),
            topic_id: Uuid::ZERO,
            partitions,
        }];
        let request = FetchRequest { max_wait_ms: 1000, min_bytes: 1, topics, ..FetchRequest::default() };
        let Handled::Parked(ticket) = cluster.fetch(now, &caller, request) else {
            panic!("nothing to wait for")
        };
        assert_eq!(cluster.topics.partition_mut("t", 0).unwrap().waiting, [ticket]);
        assert!(cluster.deadline().is_some());
        end(&mut cluster, ticket);
        assert_eq!(cluster.topics.partition_mut("t", 0).unwrap().waiting, []);
        assert!(cluster.fetches.is_empty());
        assert_eq!(cluster.deadline(), None);
    }

    #[test]
    fn a_fetch_that_was_answered_leaves_nothing_behind() {
        check_nothing_is_left(|cluster, ticket| assert!(cluster.take(ticket).is_some()));
    }

    #[test]
    fn a_fetch_that_was_given_up_leaves_nothing_behind() {
        check_nothing_is_left(|cluster, ticket| cluster.give_up(ticket));
    }
}
