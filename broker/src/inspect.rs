//! What a test may look at, and move: logs, offsets, groups, producers, transactions, leaders, requests seen, faults.

use crate::broker::Broker;
use crate::core::coordinator::Coordinated;
use crate::core::group::consumer::Place;
use crate::core::group::{Entry, Membership};
use crate::core::topics::{Partition, Topic};
use crate::faults::{Fault, FaultId};
use bytes::Bytes;
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::records::{BatchHeader, DECOMPRESSED_BYTES_MAX, Decompressor, RecordError, batches};
use ottla_protocol::wire::{Str, Uuid};
use std::collections::BTreeMap;
use std::time::Duration;

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
    /// The epoch of that producer, or -1.
    pub producer_epoch: i16,
    /// Its sequence number, or -1.
    pub sequence: i32,
    /// The leader epoch under which it was written.
    pub leader_epoch: i32,
}

/// A group, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupView {
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Stable`; of a consumer group `Empty`, `Assigning`,
    /// `Reconciling` or `Stable`.
    pub state: &'static str,
    /// The generation, which grows with each rebalance; of a consumer group its epoch.
    pub generation: i32,
    /// The assignor that the members agreed on; of a consumer group the broker's.
    pub protocol: Option<String>,
    /// Member ids, and the client id of each.
    pub members: BTreeMap<String, String>,
}

/// A consumer group (KIP-848), seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerGroupView {
    /// `Empty`, `Assigning`, `Reconciling` or `Stable`.
    pub state: &'static str,
    /// The epoch, which grows with each change of members, subscriptions and topics.
    pub epoch: i32,
    /// The epoch for which targets were computed last.
    pub assignment_epoch: i32,
    /// `uniform` or `range`.
    pub assignor: &'static str,
    /// The members by their ids.
    pub members: BTreeMap<String, ConsumerMemberView>,
}

/// A member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerMemberView {
    /// Its epoch; -2 when it left for a while.
    pub epoch: i32,
    /// What its client calls itself.
    pub client_id: String,
    /// Its instance, if it is static.
    pub instance_id: Option<String>,
    /// Whether it speaks the classic protocol still.
    pub is_classic: bool,
    /// What it owns, by topic and partition.
    pub assigned: Vec<(String, i32)>,
    /// What it was told to give up and has not given up yet.
    pub revoking: Vec<(String, i32)>,
    /// What it should own.
    pub target: Vec<(String, i32)>,
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
    /// The first offset of its open transaction.
    pub opened_at: Option<i64>,
}

/// A transaction, as its coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionView {
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit` or `CompleteAbort`.
    pub state: &'static str,
    /// The id of its producer.
    pub producer_id: i64,
    /// The epoch of its producer.
    pub epoch: i16,
    /// The partitions that take part; once it is decided, those that have no marker yet.
    pub partitions: Vec<(String, i32)>,
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

/// A partition and its replicas, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionView {
    /// The node that leads it.
    pub leader: Option<i32>,
    /// The leader epoch, which grows with each election.
    pub leader_epoch: i32,
    /// The nodes that are in sync: those that acks=all waits for, and of which a clean election takes the next leader.
    pub in_sync: Vec<i32>,
    /// Every replica in sync has what lies before it, and consumers see no further.
    pub high_watermark: i64,
    /// The end of the log of each node that has a replica, first the preferred leader's.
    pub replicas: Vec<(i32, i64)>,
}

impl Broker {
    /// Every record of a partition, in order, whatever became of its transaction. Empty for a partition that does not
    /// exist. The markers that end transactions take offsets and are not among the records.
    ///
    /// # Errors
    /// A batch that does not open: the broker stores what producers send and looks at headers only.
    pub fn log(&self, topic: &str, partition: i32) -> Result<Vec<LogRecord>, RecordError> {
        self.records(topic, partition, |_, _| true)
    }

    /// As [`Broker::log`], but only the records that a reader of committed records gets: those below the last stable
    /// offset that belong to no aborted transaction.
    ///
    /// # Errors
    /// As [`Broker::log`].
    pub fn committed_log(&self, topic: &str, partition: i32) -> Result<Vec<LogRecord>, RecordError> {
        self.records(topic, partition, Partition::is_committed)
    }

    fn records(
        &self,
        topic: &str,
        partition: i32,
        is_wanted: impl Fn(&Partition, &BatchHeader) -> bool,
    ) -> Result<Vec<LogRecord>, RecordError> {
        let mut start_offset = 0;
        let stored = self.shared.with(|cluster, _| {
            let partition = cluster.topics.partition_mut(topic, partition)?;
            let entries: Vec<_> = partition.log.batches().collect();
            start_offset = partition.log.start_offset();
            let mut stored = Vec::new();
            for entry in entries {
                let Ok(batch) = partition.log.batch(entry) else { continue };
                let header = BatchHeader::parse(&batch);
                if header.is_ok_and(|header| !header.control && is_wanted(partition, &header)) {
                    stored.push(batch);
                }
            }
            Some(stored)
        });
        opened(&stored.unwrap_or_default(), start_offset)
    }

    /// The offset that the next record of a partition gets.
    pub fn end_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        self.shared.with(|cluster, _| Some(cluster.topics.partition_mut(topic, partition)?.log.end_offset()))
    }

    /// The offset up to which every transaction of a partition is decided.
    pub fn last_stable_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        self.shared
            .with(|cluster, _| Some(cluster.topics.get(topic)?.partition(partition)?.last_stable_offset()))
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
            let offsets = cluster.groups.get(group).into_iter().flat_map(Entry::offsets);
            offsets
                .map(|((topic, index), committed)| ((topic.to_string(), *index), committed.offset))
                .collect()
        })
    }

    /// A group, if it exists.
    pub fn group(&self, group: &str) -> Option<GroupView> {
        self.shared.with(|cluster, _| {
            let name = |id: &Str, client_id: &Str| (id.to_string(), client_id.to_string());
            let membership = &cluster.groups.get(group)?.membership;
            let (generation, protocol, members) = match membership {
                Membership::Classic(group) => {
                    let members = group.members().iter().map(|(id, it)| name(id, &it.client_id)).collect();
                    (group.generation(), group.protocol().map(ToString::to_string), members)
                }
                Membership::Consumer(group) => {
                    let members = group.members().iter().map(|(id, it)| name(id, &it.client_id)).collect();
                    (group.epoch(), Some(group.assignor().name().to_string()), members)
                }
            };
            Some(GroupView { state: membership.state(), generation, protocol, members })
        })
    }

    /// A consumer group (KIP-848), if it exists and is one.
    pub fn consumer_group(&self, group: &str) -> Option<ConsumerGroupView> {
        self.shared.with(|cluster, _| {
            let Membership::Consumer(group) = &cluster.groups.get(group)?.membership else { return None };
            let named = |(topic, index): &Place| Some((cluster.topics.name_of(*topic)?.to_string(), *index));
            let members = group.members().iter().map(|(id, member)| {
                let view = ConsumerMemberView {
                    epoch: member.epoch,
                    client_id: member.client_id.to_string(),
                    instance_id: member.instance_id.as_ref().map(ToString::to_string),
                    is_classic: member.classic.is_some(),
                    assigned: member.assigned.keys().filter_map(named).collect(),
                    revoking: member.revoking.keys().filter_map(named).collect(),
                    target: group.target(id).filter_map(named).collect(),
                };
                (id.to_string(), view)
            });
            Some(ConsumerGroupView {
                state: group.state().name(),
                epoch: group.epoch(),
                assignment_epoch: group.assignment_epoch(),
                assignor: group.assignor().name(),
                members: members.collect(),
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
                opened_at: found.and_then(|partition| partition.stability.opened_at(producer_id)),
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

    /// A partition and its replicas.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<PartitionView> {
        self.shared.with(|cluster, _| {
            let found = cluster.topics.get(topic)?.partition(partition)?;
            let replicas = found.replicas.iter().map(|node| (*node, found.end_at(*node).unwrap_or(0)));
            Some(PartitionView {
                leader: found.leader,
                leader_epoch: found.leader_epoch,
                in_sync: found.standing.in_sync.clone(),
                high_watermark: found.high_watermark(),
                replicas: replicas.collect(),
            })
        })
    }

    /// The records that a node has of a partition beyond what it has in common with the leader: they were written by a leader
    /// that lost, and go when the node follows again.
    ///
    /// # Errors
    /// As [`Broker::log`].
    pub fn diverged_log(
        &self,
        topic: &str,
        partition: i32,
        node: i32,
    ) -> Result<Vec<LogRecord>, RecordError> {
        let branch = self.shared.with(|cluster, _| {
            let found = cluster.topics.get(topic).and_then(|topic| topic.partition(partition));
            found.map_or_else(Vec::new, |found| found.branch_at(node).to_vec())
        });
        opened(&branch, 0)
    }

    /// The node that coordinates a group.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        self.shared.with(|cluster, now| cluster.coordinator(now, Coordinated::Group(group)))
    }

    /// The node that coordinates the transactions of a transactional id.
    pub fn transaction_coordinator(&self, transactional_id: &str) -> Option<i32> {
        let of = Coordinated::Transaction(transactional_id);
        self.shared.with(|cluster, now| cluster.coordinator(now, of))
    }

    /// The transaction of a transactional id, if a producer was ever initialized with it.
    pub fn transaction(&self, transactional_id: &str) -> Option<TransactionView> {
        self.shared.with(|cluster, _| {
            let transaction = cluster.transactions.get(transactional_id)?;
            let partitions = transaction.partitions.iter();
            Some(TransactionView {
                state: transaction.state().name(),
                producer_id: transaction.identity().producer_id,
                epoch: transaction.identity().epoch,
                partitions: partitions.map(|(topic, index)| (topic.to_string(), *index)).collect(),
            })
        })
    }

    /// Changes the finalized level of the feature `transaction.version`, as an administrator of a live cluster does: 1 for
    /// transactions that keep their epoch, 2 for KIP-890. Clients see it on connections that open from now on.
    ///
    /// # Errors
    /// INVALID_UPDATE_VERSION for a level that does not exist; there are 0 to 2.
    pub fn set_transaction_version(&self, level: i16) -> Result<(), ErrorCode> {
        self.shared.with(|cluster, _| cluster.set_transaction_version(level))
    }

    /// Changes the finalized level of the feature `group.version`, as an administrator of a live cluster does: 0 for classic
    /// groups only, 1 for consumer groups too (KIP-848). Clients see it on connections that open from now on.
    ///
    /// # Errors
    /// INVALID_UPDATE_VERSION for a level that does not exist; there are 0 and 1.
    pub fn set_group_version(&self, level: i16) -> Result<(), ErrorCode> {
        self.shared.with(|cluster, _| cluster.set_group_version(level))
    }

    /// Makes another replica in sync the leader of a partition.
    ///
    /// # Errors
    /// The code says what does not exist, is stopped or is not in sync: the partition, the node, or the replica.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), ErrorCode> {
        self.shared.with(|cluster, now| cluster.move_leader(now, topic, partition, node))
    }

    /// Makes another node the coordinator of a group. Members that wait are told to look for it.
    ///
    /// # Errors
    /// As [`Broker::move_leader`].
    pub fn move_coordinator(&self, group: &str, node: i32) -> Result<(), ErrorCode> {
        self.shared.with(|cluster, now| cluster.move_coordinator(now, Coordinated::Group(group), node))
    }

    /// Makes another node the coordinator of a transactional id. Its transaction goes on there.
    ///
    /// # Errors
    /// As [`Broker::move_leader`].
    pub fn move_transaction_coordinator(&self, transactional_id: &str, node: i32) -> Result<(), ErrorCode> {
        let of = Coordinated::Transaction(transactional_id);
        self.shared.with(|cluster, now| cluster.move_coordinator(now, of, node))
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

    /// Takes all faults away, and what keeps nodes and their replicas apart.
    pub fn heal(&self) {
        self.shared.with(|cluster, now| {
            cluster.faults.clear();
            cluster.links.heal();
            cluster.links_changed(now);
        });
    }

    /// Lets two nodes not reach each other, until [`Broker::join`]: their replicas do not fetch from each other, and if one of
    /// them is the controller, the other is fenced after `broker.session.timeout.ms`. Clients reach both.
    pub fn separate(&self, one: i32, other: i32) {
        self.shared.with(|cluster, now| {
            cluster.links.separate(one, other);
            cluster.links_changed(now);
        });
    }

    /// Lets two nodes reach each other again.
    pub fn join(&self, one: i32, other: i32) {
        self.shared.with(|cluster, now| {
            cluster.links.join(one, other);
            cluster.links_changed(now);
        });
    }

    /// Lets a node be reached by no other, until [`Broker::heal`] or [`Broker::join`]. Clients reach it.
    pub fn isolate(&self, node: i32) {
        self.shared.with(|cluster, now| {
            let others: Vec<i32> = cluster.nodes.keys().copied().filter(|other| *other != node).collect();
            others.into_iter().for_each(|other| cluster.links.separate(node, other));
            cluster.links_changed(now);
        });
    }

    /// Lets the followers on a node fetch once in this time, instead of at once; zero takes that away. What coordinators and
    /// transactions write for themselves still reaches them at once.
    pub fn slow_replicas(&self, node: i32, every: Duration) {
        self.shared.with(|cluster, now| {
            cluster.links.slow(node, every);
            cluster.links_changed(now);
        });
    }

    /// Lets the followers on a node fetch nothing, or go on. They fall out of sync after `replica.lag.time.max.ms`.
    pub fn hold_replicas(&self, node: i32, held: bool) {
        self.shared.with(|cluster, now| {
            cluster.links.hold(node, held);
            cluster.links_changed(now);
        });
    }
}

/// The records of these batches, from this offset on.
fn opened(stored: &[Bytes], start_offset: i64) -> Result<Vec<LogRecord>, RecordError> {
    let mut records = Vec::new();
    let mut decompressor = Decompressor::new();
    for batch in stored.iter().flat_map(batches) {
        let mut open = batch?.open(&mut decompressor, DECOMPRESSED_BYTES_MAX)?;
        let header = *open.header();
        open.skip_to(start_offset)?;
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
                producer_epoch: header.producer_epoch,
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
