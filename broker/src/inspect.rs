//! What a test may look at, and move: logs, offsets, groups, producers, leaders, requests seen, faults.

use crate::broker::Broker;
use crate::core::topics::Topic;
use crate::faults::{Fault, FaultId};
use bytes::Bytes;
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::records::{DECOMPRESSED_BYTES_MAX, Decompressor, RecordError, batches};
use ottla_protocol::wire::Uuid;
use std::collections::BTreeMap;

/// A record as it stands in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRecord {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Names and values of its headers.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// The idempotent producer that wrote it, or -1.
    pub producer_id: i64,
    /// Its sequence number, or -1.
    pub sequence: i32,
    /// The leader epoch under which it was written.
    pub leader_epoch: i32,
}

/// A group, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupView {
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Stable`.
    pub state: &'static str,
    /// The generation, which grows with each rebalance.
    pub generation: i32,
    /// The assignor that the members agreed on.
    pub protocol: Option<String>,
    /// Member ids, and the client id of each.
    pub members: BTreeMap<String, String>,
}

/// A producer, as a partition remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerView {
    /// Its id.
    pub producer_id: i64,
    /// The epoch in which it wrote last.
    pub epoch: i16,
    /// The sequence of the last record that it wrote in this epoch.
    pub last_sequence: Option<i32>,
}

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// The node, unless all replicas are stopped.
    pub node: Option<i32>,
    /// The leader epoch.
    pub epoch: i32,
}

impl Broker {
    /// Every record of a partition, in order. Empty for a partition that does not exist.
    ///
    /// # Errors
    /// A batch that does not open: the broker stores what producers send and looks at headers only.
    pub fn log(&self, topic: &str, partition: i32) -> Result<Vec<LogRecord>, RecordError> {
        let stored = self.shared.with(|cluster, _| {
            let log = &mut cluster.topics.partition_mut(topic, partition)?.log;
            let entries: Vec<_> = log.entries().copied().collect();
            Some(entries.into_iter().map(|entry| log.batch(entry)).collect::<Vec<Bytes>>())
        });
        let mut records = Vec::new();
        let mut decompressor = Decompressor::new();
        for batch in stored.unwrap_or_default().iter().flat_map(batches) {
            let mut open = batch?.open(&mut decompressor, DECOMPRESSED_BYTES_MAX)?;
            let header = *open.header();
            while let Some(record) = open.next()? {
                let delta = i32::try_from(record.offset - header.base_offset).unwrap_or_default();
                records.push(LogRecord {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(Bytes::copy_from_slice),
                    value: record.value.map(Bytes::copy_from_slice),
                    headers: record
                        .headers
                        .map(|it| (it.key.to_string(), it.value.map(Bytes::copy_from_slice)))
                        .collect(),
                    producer_id: header.producer_id,
                    sequence: match header.base_sequence {
                        ..0 => -1,
                        first => ottla_protocol::records::add_sequence(first, delta),
                    },
                    leader_epoch: header.partition_leader_epoch,
                });
            }
        }
        Ok(records)
    }

    /// The offset that the next record of a partition gets.
    pub fn end_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        self.shared.with(|cluster, _| Some(cluster.topics.partition_mut(topic, partition)?.log.end_offset()))
    }

    /// The id of a topic.
    pub fn topic_id(&self, topic: &str) -> Option<Uuid> {
        self.shared.with(|cluster, _| cluster.topics.get(topic).map(|topic| topic.id))
    }

    /// The names of all topics, internal ones too.
    pub fn topics(&self) -> Vec<String> {
        self.shared.with(|cluster, _| cluster.topics.iter().map(|topic| topic.name.to_string()).collect())
    }

    /// What a group has committed, by topic and partition.
    pub fn committed(&self, group: &str) -> BTreeMap<(String, i32), i64> {
        self.shared.with(|cluster, _| {
            let offsets = cluster.groups.get(group).map(|entry| &entry.offsets).into_iter().flatten();
            offsets
                .map(|((topic, index), committed)| ((topic.to_string(), *index), committed.offset))
                .collect()
        })
    }

    /// A group, if it exists.
    pub fn group(&self, group: &str) -> Option<GroupView> {
        self.shared.with(|cluster, _| {
            let membership = &cluster.groups.get(group)?.membership;
            let members = membership.members().iter();
            Some(GroupView {
                state: membership.state().name(),
                generation: membership.generation(),
                protocol: membership.protocol().map(ToString::to_string),
                members: members.map(|(id, member)| (id.to_string(), member.client_id.to_string())).collect(),
            })
        })
    }

    /// The producers that a partition remembers.
    pub fn producers(&self, topic: &str, partition: i32) -> Vec<ProducerView> {
        self.shared.with(|cluster, _| {
            let found = cluster.topics.get(topic).and_then(|topic| topic.partition(partition));
            let producers = found.into_iter().flat_map(|partition| partition.producers.iter());
            let view = |(producer_id, producer): (i64, &crate::core::producers::Producer)| ProducerView {
                producer_id,
                epoch: producer.epoch,
                last_sequence: producer.last_sequence(),
            };
            producers.map(view).collect()
        })
    }

    /// Who leads a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        self.shared.with(|cluster, _| {
            let found = cluster.topics.get(topic).and_then(|topic: &Topic| topic.partition(partition))?;
            Some(Leader { node: found.leader, epoch: found.leader_epoch })
        })
    }

    /// The node that coordinates a group.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        self.shared.with(|cluster, _| cluster.coordinator(group))
    }

    /// Makes another replica the leader of a partition.
    ///
    /// # Errors
    /// The code says what does not exist or is stopped: the partition, the node, or the replica.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), ErrorCode> {
        self.shared.with(|cluster, now| cluster.move_leader(now, topic, partition, node))
    }

    /// Makes another node the coordinator of a group. Members that wait are told to look for it.
    ///
    /// # Errors
    /// As [`Broker::move_leader`].
    pub fn move_coordinator(&self, group: &str, node: i32) -> Result<(), ErrorCode> {
        self.shared.with(|cluster, now| cluster.move_coordinator(now, group, node))
    }

    /// Requests of an API that arrived at a node, answered or not.
    pub fn requests(&self, node: i32, api: ApiKey) -> u64 {
        self.shared.seen(node, api)
    }

    /// Connections that are open, of all nodes.
    pub fn connections(&self) -> usize {
        self.shared.connections()
    }

    /// Lets requests go wrong from now on.
    pub fn fault(&self, fault: Fault) -> FaultId {
        self.shared.with(|cluster, _| cluster.faults.add(fault))
    }

    /// How often a fault has acted.
    pub fn fired(&self, fault: FaultId) -> usize {
        self.shared.with(|cluster, _| cluster.faults.fired(fault))
    }

    /// Takes a fault away.
    pub fn remove_fault(&self, fault: FaultId) {
        self.shared.with(|cluster, _| cluster.faults.remove(fault));
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.shared.with(|cluster, _| cluster.faults.clear());
    }
}
