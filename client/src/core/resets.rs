//! Where a partition is read on when its position says it no longer: at the log's beginning, at its end, at a time, or not at
//! all.
//!
//! It owns the look-ups (ListOffsets) that are out, one a broker, and the waits after refusals. It refuses to choose: which
//! end a reset means was decided by the configuration or by a seek. Invariants: an answer counts only for the lease under
//! which it was asked for; a position that nobody moved changes only with an event and a warning in
//! the log.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, ListedPartition,
};
use ottla_protocol::wire::Uuid;

use super::ask::Ask;
use super::backoff::Backoff;
use super::consumer::Consumer;
use super::positions::{Failure, Lease, Place, Position};
use super::saying::Saying;
use super::{Lane, Link, Request, TopicPartition, Work};
use crate::config::{Reset, wire_millis};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, PositionCause};

impl Consumer {
    pub(super) fn to_list(&self, node: i32) -> impl Iterator<Item = (&TopicPartition, &Position, i64)> {
        self.positions.iter().filter_map(move |(partition, position)| {
            let timestamp = position.place.sought()?;
            let leader = self.cluster.metadata.partition(&partition.topic, partition.partition)?.leader?;
            (leader == node && position.is_open()).then_some((partition, position, timestamp))
        })
    }

    pub(super) fn want_listings(&mut self) {
        let resets = self.positions.iter().filter(|(_, p)| p.place.sought().is_some() && p.is_open());
        let leader = |p: &TopicPartition| self.cluster.metadata.partition(&p.topic, p.partition)?.leader;
        let nodes: BTreeSet<i32> = resets.filter_map(|(partition, _)| leader(partition)).collect();
        nodes.into_iter().for_each(|node| self.cluster.want(Link { node, lane: Lane::Control }));
    }

    pub(super) fn wants_listing(&self, link: Link) -> bool {
        let idle = !self.listings.contains_key(&link.node);
        link.lane == Lane::Control && idle && !self.closing && self.to_list(link.node).next().is_some()
    }

    pub(super) fn list(&mut self, link: Link) -> Option<Work> {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        let mut leases = BTreeMap::new();
        for (partition, position, timestamp) in self.to_list(link.node) {
            let known = self.cluster.metadata.partition(&partition.topic, partition.partition);
            let asked = ListOffsetsPartition {
                partition_index: partition.partition,
                current_leader_epoch: known.map_or(-1, |p| p.leader_epoch),
                timestamp,
            };
            match topics.last_mut().filter(|topic| topic.name == partition.topic) {
                Some(topic) => topic.partitions.push(asked),
                None => {
                    topics.push(ListOffsetsTopic { name: partition.topic.clone(), partitions: vec![asked] })
                }
            }
            leases.insert(partition.clone(), (position.lease.clone(), timestamp));
        }
        let version = match self.cluster.version::<ListOffsetsRequest>(link, i16::MAX) {
            Ok(version) => version,
            Err(cause) => return Some(Work::Close(cause)),
        };
        self.listings.insert(link.node, leases);
        let timeout = self.cluster.config.request_timeout;
        let isolation_level = self.config.isolation_level.wire();
        let ask =
            ListOffsetsRequest { replica_id: -1, isolation_level, topics, timeout_ms: wire_millis(timeout) };
        Some(Work::Request(Request { ask: Ask::ListOffsets(ask), version, timeout, answered: true }))
    }

    pub(super) fn listed(&mut self, now: Instant, link: Link, response: &ListOffsetsResponse) {
        self.cluster.throttle(now, link, response.throttle_time_ms);
        let mut leases = self.listings.remove(&link.node).unwrap_or_default();
        for topic in &response.topics {
            for answer in &topic.partitions {
                let partition =
                    TopicPartition { topic: topic.name.clone(), partition: answer.partition_index };
                let Some((lease, timestamp)) = leases.remove(&partition) else { continue };
                if self.is_to_list(&partition, &lease, timestamp) {
                    self.start_from_log(now, link.node, &partition, answer);
                }
            }
        }
        // What the answer leaves out is asked again, but not at once.
        for (partition, (lease, timestamp)) in leases {
            if self.is_to_list(&partition, &lease, timestamp) {
                self.retry_later(now, &partition);
            }
        }
    }

    /// Whether this is still what is to be asked: an answer of a former leader may come after that of the next.
    fn is_to_list(&self, partition: &TopicPartition, lease: &Arc<Lease>, timestamp: i64) -> bool {
        let holds = |p: &&Position| Arc::ptr_eq(&p.lease, lease) && p.place.sought() == Some(timestamp);
        self.positions.get(partition).filter(holds).is_some()
    }

    pub(super) fn start_from_log(
        &mut self,
        now: Instant,
        node: i32,
        partition: &TopicPartition,
        answer: &ListedPartition,
    ) {
        let Some(position) = self.positions.get_mut(partition) else { return };
        let code = answer.error_code;
        if let Place::Time { timestamp, end } = position.place
            && code.is_ok()
            && (end.is_none() == (answer.offset >= 0))
        {
            match end {
                None => position.place = Place::Time { timestamp, end: Some(answer.offset) },
                // All records that were there are older.
                Some(end) => {
                    position.start_at(end, -1);
                    self.tell_moved(partition, end);
                }
            }
        } else if code.is_ok() && answer.offset >= 0 {
            // The epoch is that of the record at the offset, which says nothing of the one in front of it.
            position.start_at(answer.offset, -1);
            position.committed = Some(answer.offset);
            self.tell_moved(partition, answer.offset);
        } else {
            // No offset and no error is an answer that cannot be true.
            let code = if code.is_ok() { ErrorCode::UNKNOWN_SERVER_ERROR } else { code };
            self.not_served(now, node, partition, code);
        }
    }

    /// A broker refused something about a partition: it is tried again after a wait, or has failed.
    pub(super) fn not_served(
        &mut self,
        now: Instant,
        node: i32,
        partition: &TopicPartition,
        code: ErrorCode,
    ) {
        if code.is_retriable() || code.needs_refresh() {
            // A topic that is gone may come back as another one: nothing is asked about it until metadata has told its id.
            let gone = [
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::UNKNOWN_TOPIC_ID,
            ];
            if gone.contains(&code) {
                self.cluster.metadata.deny(&partition.topic, partition.partition, node);
            }
            if code.needs_refresh() {
                self.cluster.metadata.refresh(now, &mut self.cluster.random);
            }
            return self.retry_later(now, partition);
        }
        let Some(position) = self.positions.get_mut(partition) else { return };
        position.place = Place::Failed;
        let kind = match code {
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => ErrorKind::Authorization,
            _ => ErrorKind::Broker,
        };
        let error = Error::new(kind, format!("{partition}: {code}")).with_code(code);
        self.failures.push_back(Failure { lease: Some(position.lease.clone()), error });
    }

    /// Nothing is asked about a partition for a while: the longer, the more often it failed.
    pub(super) fn retry_later(&mut self, now: Instant, partition: &TopicPartition) {
        let Some(position) = self.positions.get_mut(partition) else { return };
        let mut backoff = Backoff::after(self.retry_backoff, position.attempts);
        position.attempts = position.attempts.saturating_add(1);
        let retry_at = now + backoff.next(&mut self.cluster.random);
        position.retry_at = Some(retry_at);
        self.retries.insert((retry_at, partition.clone()));
    }

    /// The position is not in the log. What was fetched before is read first, for it may be nowhere else.
    pub(super) fn out_of_range(&mut self, now: Instant, partition: &TopicPartition, log_start: i64) {
        let Some(position) = self.positions.get_mut(partition) else { return };
        let Place::At(offset) = position.place else { return };
        if position.lease.finished() != offset {
            return self.retry_later(now, partition);
        }
        let reset = self.config.on_out_of_range;
        let place = partition.clone();
        self.said.push(Saying::new(move || tracing::warn!(partition = %place, offset, log_start, ?reset, "the position is out of range")));
        let start = if log_start >= 0 { format!(", which starts at {log_start}") } else { String::new() };
        let why = format!("{partition}: offset {offset} is not in the log{start}");
        let lost = Some(offset..log_start).filter(|lost| !lost.is_empty());
        self.reset(now, partition, offset, lost, PositionCause::OutOfRange, why);
    }

    /// Where a partition starts that has no committed offset. One that was added while this consumer was there is read from
    /// its first record, or those that were written before anybody knew of it would be passed over (F9).
    pub(super) fn place_to_start(&self, now: Instant, partition: &TopicPartition) -> Place {
        let is_new = self.cluster.metadata.is_new(&partition.topic, partition.partition);
        match self.config.on_no_commit {
            Reset::Latest if is_new => Place::Reset(Reset::Earliest),
            reset => self.place_by(now, reset),
        }
    }

    /// What a reset means at this moment.
    pub(super) fn place_by(&self, now: Instant, reset: Reset) -> Place {
        let Reset::ByDuration(duration) = reset else { return Place::Reset(reset) };
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Place::Time { timestamp: self.wall_ms(now).saturating_sub(millis(duration)).max(0), end: None }
    }

    /// The position means nothing any more: goes on as `on_out_of_range` says.
    fn reset(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        from: i64,
        lost: Option<Range<i64>>,
        cause: PositionCause,
        why: String,
    ) {
        let place = self.place_by(now, self.config.on_out_of_range);
        let Some(position) = self.positions.get_mut(partition) else { return };
        let reset = self.config.on_out_of_range;
        let place = if reset == Reset::Error { Place::Failed } else { place };
        position.go_to(place);
        if reset != Reset::Error {
            position.moved = Some((Some(from), cause));
        } else {
            self.refuse(partition, Some(from), lost, cause, why);
        }
        self.queue.retain(|queued| queued != partition);
    }

    /// A partition would have to go on elsewhere, and no reset is allowed: it waits for a seek, and both the reader and
    /// whoever looks at events are told.
    pub(super) fn refuse(
        &mut self,
        partition: &TopicPartition,
        from: Option<i64>,
        lost: Option<Range<i64>>,
        cause: PositionCause,
        why: String,
    ) {
        let Some(position) = self.positions.get_mut(partition) else { return };
        position.place = Place::Failed;
        let error = Error::new(ErrorKind::OffsetOutOfRange, why);
        let error = if from.is_some() { error.with_code(ErrorCode::OFFSET_OUT_OF_RANGE) } else { error };
        self.failures.push_back(Failure { lease: Some(position.lease.clone()), error });
        let TopicPartition { topic, partition } = partition;
        let (topic, partition) = (topic.to_string(), *partition);
        self.events.push(Event::PositionRefused { topic, partition, from, lost, cause });
    }

    /// Looks at the ids of topics when metadata has changed: a topic that was deleted and created again has another one, and
    /// neither position nor commit of the old log means anything in the new (F16).
    pub(super) fn notice_new_topics(&mut self, now: Instant) {
        if self.generation_seen == self.cluster.metadata.generation {
            return;
        }
        self.generation_seen = self.cluster.metadata.generation;
        let mut recreated = Vec::new();
        for (partition, position) in &mut self.positions {
            let id = self.cluster.metadata.topic(&partition.topic).map_or(Uuid::ZERO, |topic| topic.id);
            if id != Uuid::ZERO && id != position.topic_id {
                let before = std::mem::replace(&mut position.topic_id, id);
                recreated.extend((before != Uuid::ZERO).then(|| partition.clone()));
            }
        }
        for partition in recreated {
            let Some(position) = self.positions.get_mut(&partition) else { continue };
            (position.committed, position.readable_end, position.high_watermark) = (None, None, None);
            let place = position.place;
            if let Some((_, offsets)) = &mut self.group {
                offsets.start_over(&partition, place == Place::Committed);
            }
            if let Place::At(offset) = place {
                let reset = self.config.on_out_of_range;
                let place = partition.clone();
                self.said.push(Saying::new(move || tracing::warn!(partition = %place, offset, ?reset, "the topic was deleted and created again")));
                let why = format!(
                    "{partition}: the topic was deleted and created again; offset {offset} is of the old one"
                );
                self.reset(now, &partition, offset, None, PositionCause::Recreated, why);
            }
        }
    }
}
