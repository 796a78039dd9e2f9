//! Where a partition starts to be read when no position says it: at the log's beginning or at its end.
//!
//! It owns the look-ups (ListOffsets) that are out, one a broker. It refuses to choose: which end a reset means was decided
//! by the configuration or by a seek. Invariant: an answer counts only for the lease under which it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, ListedPartition,
};

use super::ask::Ask;
use super::consumer::Consumer;
use super::positions::{Failure, Place, Position};
use super::{Lane, Link, Request, TopicPartition, Work};
use crate::config::{Reset, wire_millis};
use crate::error::{Error, ErrorKind};

impl Consumer {
    pub(super) fn to_list(&self, node: i32) -> impl Iterator<Item = (&TopicPartition, &Position, Reset)> {
        self.positions.iter().filter_map(move |(partition, position)| {
            let Place::Reset(reset) = position.place else { return None };
            let leader = self.cluster.metadata.partition(&partition.topic, partition.partition)?.leader?;
            (leader == node && position.retry_at.is_none()).then_some((partition, position, reset))
        })
    }

    pub(super) fn want_listings(&mut self) {
        let resets =
            self.positions.iter().filter(|(_, p)| matches!(p.place, Place::Reset(_)) && p.retry_at.is_none());
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
        for (partition, position, reset) in self.to_list(link.node) {
            let known = self.cluster.metadata.partition(&partition.topic, partition.partition);
            let asked = ListOffsetsPartition {
                partition_index: partition.partition,
                current_leader_epoch: known.map_or(-1, |p| p.leader_epoch),
                timestamp: if reset == Reset::Latest { -1 } else { -2 },
            };
            match topics.last_mut().filter(|topic| topic.name == partition.topic) {
                Some(topic) => topic.partitions.push(asked),
                None => {
                    topics.push(ListOffsetsTopic { name: partition.topic.clone(), partitions: vec![asked] })
                }
            }
            leases.insert(partition.clone(), position.lease.clone());
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
        let leases = self.listings.remove(&link.node).unwrap_or_default();
        for topic in &response.topics {
            for answer in &topic.partitions {
                let partition =
                    TopicPartition { topic: topic.name.clone(), partition: answer.partition_index };
                let Some(lease) = leases.get(&partition) else { continue };
                let holds =
                    |p: &&mut Position| Arc::ptr_eq(&p.lease, lease) && matches!(p.place, Place::Reset(_));
                if self.positions.get_mut(&partition).filter(holds).is_some() {
                    self.start_from_log(now, link.node, &partition, answer);
                }
            }
        }
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
        if code.is_ok() && answer.offset >= 0 {
            position.start_at(answer.offset);
            position.committed = Some(answer.offset);
        } else if code.is_retriable() || code.needs_refresh() {
            let retry_at = now + self.retry_backoff.next(&mut self.cluster.random);
            self.retry_backoff.reset();
            position.retry_at = Some(retry_at);
            self.retries.insert((retry_at, partition.clone()));
            if code == ErrorCode::NOT_LEADER_OR_FOLLOWER {
                self.cluster.metadata.deny(&partition.topic, partition.partition, node);
            }
            self.cluster.metadata.refresh(now, &mut self.cluster.random);
        } else {
            position.place = Place::Failed;
            let error =
                Error::new(ErrorKind::Broker, format!("{partition}: no offset to start from: {code}"))
                    .with_code(code);
            self.failures.push_back(Failure { lease: Some(position.lease.clone()), error });
        }
    }
}
