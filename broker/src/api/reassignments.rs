//! AlterPartitionReassignments and ListPartitionReassignments: partitions that move to other nodes (KIP-455).
//!
//! AlterPartitionReassignments versions 0 to 1, ListPartitionReassignments version 0: whole, but for the timeout. Nodes must be
//! nodes of the cluster, running or not; a replica that comes begins to fetch at once, and when all are in sync the move is over,
//! which without disturbances is before the answer. Any node answers, as with KRaft.

use super::{Caller, Refuse};
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment, ReassignablePartition, ReassignedPartition, ReassignedTopic,
};
use ottla_protocol::wire::Str;
use std::collections::BTreeSet;

/// An error code and what to tell the administrator.
type Refused = (ErrorCode, String);

fn said(code: ErrorCode) -> Refused {
    (code, code.message().to_string())
}

impl Refuse for AlterPartitionReassignmentsRequest {
    type Response = AlterPartitionReassignmentsResponse;

    fn refuse(&self, error_code: ErrorCode) -> AlterPartitionReassignmentsResponse {
        let error_message = Some(Str::from_static(error_code.message()));
        let allow_replication_factor_change = self.allow_replication_factor_change;
        AlterPartitionReassignmentsResponse {
            error_code,
            error_message,
            allow_replication_factor_change,
            ..Default::default()
        }
    }
}

impl Refuse for ListPartitionReassignmentsRequest {
    type Response = ListPartitionReassignmentsResponse;

    fn refuse(&self, error_code: ErrorCode) -> ListPartitionReassignmentsResponse {
        let error_message = Some(Str::from_static(error_code.message()));
        ListPartitionReassignmentsResponse { error_code, error_message, ..Default::default() }
    }
}

impl Cluster {
    pub(crate) fn alter_partition_reassignments(
        &mut self,
        now: Now,
        _: &Caller,
        request: AlterPartitionReassignmentsRequest,
    ) -> AlterPartitionReassignmentsResponse {
        let keeps_factor = !request.allow_replication_factor_change;
        let mut responses = Vec::new();
        for topic in &request.topics {
            let alter = |asked: &ReassignablePartition| {
                let altered = self.alter_reassignment(now, &topic.name, asked, keeps_factor);
                let (error_code, error_message) = match altered {
                    Ok(()) => (ErrorCode::NONE, None),
                    Err((code, message)) => (code, Some(Str::from(message))),
                };
                ReassignedPartition { partition_index: asked.partition_index, error_code, error_message }
            };
            let partitions = topic.partitions.iter().map(alter).collect();
            responses.push(ReassignedTopic { name: topic.name.clone(), partitions });
        }
        AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: request.allow_replication_factor_change,
            error_message: None,
            responses,
            ..Default::default()
        }
    }

    fn alter_reassignment(
        &mut self,
        now: Now,
        topic: &Str,
        asked: &ReassignablePartition,
        keeps_factor: bool,
    ) -> Result<(), Refused> {
        let index = asked.partition_index;
        let unknown =
            || (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("there is no partition {topic}-{index}"));
        let partition =
            self.topics.get(topic).and_then(|topic| topic.partition(index)).ok_or_else(unknown)?;
        let Some(target) = &asked.replicas else {
            return self.cancel_reassignment(now, topic, index).map_err(said);
        };
        let distinct: BTreeSet<&i32> = target.iter().collect();
        let known = target.iter().all(|node| self.nodes.contains_key(node));
        if target.is_empty() || distinct.len() != target.len() || !known {
            let reason = format!("{target:?}: there must be distinct nodes of the cluster, at least one");
            return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, reason));
        }
        let there = partition.settled_replicas().len();
        if keeps_factor && target.len() != there {
            let reason = format!("{target:?}: the replication factor is {there}, and must stay so");
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, reason));
        }
        self.reassign(now, topic, index, target.clone()).map_err(said)
    }

    pub(crate) fn list_partition_reassignments(
        &mut self,
        _: Now,
        _: &Caller,
        request: ListPartitionReassignmentsRequest,
    ) -> ListPartitionReassignmentsResponse {
        let is_asked = |name: &str, index: i32| {
            request.topics.as_ref().is_none_or(|topics| {
                topics.iter().any(|topic| &*topic.name == name && topic.partition_indexes.contains(&index))
            })
        };
        let mut topics = Vec::new();
        for topic in self.topics.iter() {
            let asked = (0..).zip(&topic.partitions).filter(|(index, _)| is_asked(&topic.name, *index));
            let moving = asked.filter_map(|(partition_index, partition)| {
                let (adding_replicas, removing_replicas) = partition.moving()?;
                let replicas = partition.replicas.clone();
                Some(OngoingPartitionReassignment {
                    partition_index,
                    replicas,
                    adding_replicas,
                    removing_replicas,
                })
            });
            let partitions: Vec<_> = moving.collect();
            if !partitions.is_empty() {
                topics.push(OngoingTopicReassignment { name: topic.name.clone(), partitions });
            }
        }
        ListPartitionReassignmentsResponse { error_message: None, topics, ..Default::default() }
    }
}
