//! Metadata, DescribeCluster and FindCoordinator: who is there, and who is in charge of what.
//!
//! Metadata versions 0 to 13: whole; a topic that is unknown is created when the client allows it and
//! auto.create.topics.enable is on, and is there at once. DescribeCluster versions 0 to 2: whole, but for controllers as
//! endpoints (UNSUPPORTED_ENDPOINT_TYPE). FindCoordinator versions 0 to 6: groups and transactions; share groups are refused
//! with UNSUPPORTED_VERSION. What somebody may not know of he is not shown.

use super::{Caller, Refuse};
use crate::core::authorizer::{CLUSTER_NAME, Kind, Operation};
use crate::core::coordinator::Coordinated;
use crate::core::topics::{Partition, Topic, is_legal_name};
use crate::core::{Cluster, Now};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    Broker, Coordinator, DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse, MetadataTopic,
    PartitionMetadata, TopicMetadata,
};
use ottla_protocol::wire::{Str, Uuid};

/// Read, write, create, delete, alter, describe, describe and alter configuration: bits by Kafka's numbers.
const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Create, alter, describe, cluster action, describe and alter configuration, idempotent write.
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// Nobody asked.
const NOT_ASKED: i32 = i32::MIN;

/// What a FindCoordinator key is.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

impl Refuse for MetadataRequest {
    type Response = MetadataResponse;

    fn refuse(&self, code: ErrorCode) -> MetadataResponse {
        let topics = self.topics.iter().flatten().map(|topic| no_topic(topic, code));
        MetadataResponse { topics: topics.collect(), ..MetadataResponse::default() }
    }
}

fn no_topic(asked: &MetadataTopic, error_code: ErrorCode) -> TopicMetadata {
    let (name, topic_id) = (asked.name.clone(), asked.topic_id);
    TopicMetadata { error_code, name, topic_id, ..TopicMetadata::default() }
}

impl Refuse for DescribeClusterRequest {
    type Response = DescribeClusterResponse;

    fn refuse(&self, error_code: ErrorCode) -> DescribeClusterResponse {
        DescribeClusterResponse { error_code, ..DescribeClusterResponse::default() }
    }
}

impl Refuse for FindCoordinatorRequest {
    type Response = FindCoordinatorResponse;

    fn refuse(&self, error_code: ErrorCode) -> FindCoordinatorResponse {
        let coordinators = self.coordinator_keys.iter().map(|key| no_coordinator(key, error_code));
        FindCoordinatorResponse {
            error_code,
            error_message: None,
            node_id: -1,
            port: -1,
            coordinators: coordinators.collect(),
            ..FindCoordinatorResponse::default()
        }
    }
}

fn no_coordinator(key: &Str, error_code: ErrorCode) -> Coordinator {
    let error_message = Some(Str::from_static(error_code.message()));
    Coordinator {
        key: key.clone(),
        node_id: -1,
        port: -1,
        error_code,
        error_message,
        ..Coordinator::default()
    }
}

impl Cluster {
    pub(crate) fn metadata(
        &mut self,
        now: Now,
        caller: &Caller,
        request: MetadataRequest,
    ) -> MetadataResponse {
        let wants_operations = request.include_topic_authorized_operations;
        let asked = request.topics.filter(|topics| caller.version > 0 || !topics.is_empty());
        let mut topics = match &asked {
            None => {
                let may =
                    |topic: &&Topic| self.access.on_topic(ApiKey::METADATA, caller, &topic.name).is_ok();
                self.topics.iter().filter(may).map(|topic| self.describe_topic(topic)).collect()
            }
            Some(asked) => {
                let may_create = request.allow_auto_topic_creation && self.settings.auto_create_topics;
                asked.iter().map(|it| self.look_up(now, caller, it, may_create)).collect::<Vec<_>>()
            }
        };
        for topic in topics.iter_mut().filter(|topic| wants_operations && topic.error_code.is_ok()) {
            let name = topic.name.as_deref().unwrap_or_default();
            topic.topic_authorized_operations =
                self.access.operations(caller.into(), Kind::Topic, name, TOPIC_OPERATIONS);
        }
        let brokers = self.alive_nodes().map(|(node_id, node)| {
            let (host, port) = node.endpoint(caller.listener);
            Broker { node_id, host, port, rack: node.rack.clone() }
        });
        let wants_cluster = request.include_cluster_authorized_operations;
        let operations = if wants_cluster { self.cluster_operations(caller) } else { NOT_ASKED };
        MetadataResponse {
            brokers: brokers.collect(),
            cluster_id: Some(self.id.clone()),
            controller_id: self.controller(),
            topics,
            cluster_authorized_operations: operations,
            ..MetadataResponse::default()
        }
    }

    fn look_up(
        &mut self,
        now: Now,
        caller: &Caller,
        asked: &MetadataTopic,
        may_create: bool,
    ) -> TopicMetadata {
        let by_id = asked.topic_id != Uuid::ZERO;
        let name = if by_id { self.topics.name_of(asked.topic_id).cloned() } else { asked.name.clone() };
        let Some(name) = name else {
            let mut unknown = no_topic(asked, ErrorCode::UNKNOWN_TOPIC_ID);
            // Before version 12 there is no way to say that a topic has no name.
            unknown.name = (caller.version < 12).then(Str::default);
            return unknown;
        };
        match self.access.on_topic(ApiKey::METADATA, caller, &name) {
            // Who may not know of a topic is not told that there is one of this id.
            Err(_) if by_id => return no_topic(asked, ErrorCode::UNKNOWN_TOPIC_ID),
            Err(code) => return no_topic(asked, code),
            Ok(()) => {}
        }
        if let Some(code) = self.faults.on_topic(ApiKey::METADATA, caller.node, &name) {
            return no_topic(asked, code);
        }
        if let Some(topic) = self.topics.get(&name) {
            return self.describe_topic(topic);
        }
        if !is_legal_name(&name) {
            return no_topic(asked, ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        if !may_create {
            return no_topic(asked, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        if let Err(code) = self.may_create(caller, &name) {
            return no_topic(asked, code);
        }
        let replicas = self.replication_factor(self.settings.replication_factor);
        let assignment = self.assign(self.settings.partitions, replicas);
        let settings = self.plain_settings();
        if self.create_topic(now, Str::from(&*name), assignment, settings).is_err() {
            return no_topic(asked, ErrorCode::KAFKA_STORAGE_ERROR);
        }
        self.topics.get(&name).map_or_else(
            || no_topic(asked, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            |topic| self.describe_topic(topic),
        )
    }

    /// What somebody may do with the cluster, if he may know of it at all.
    fn cluster_operations(&self, caller: &Caller) -> i32 {
        match self.access.on_cluster(Operation::Describe, caller) {
            Ok(()) => self.access.operations(caller.into(), Kind::Cluster, CLUSTER_NAME, CLUSTER_OPERATIONS),
            Err(_) => 0,
        }
    }

    /// Whether somebody may make a topic by asking for it.
    fn may_create(&self, caller: &Caller, topic: &str) -> Result<(), ErrorCode> {
        let anywhere = self.access.on_cluster(Operation::Create, caller);
        anywhere.or_else(|_| self.access.check(caller, Kind::Topic, topic, Operation::Create))
    }

    fn describe_topic(&self, topic: &Topic) -> TopicMetadata {
        let partitions = (0..).zip(&topic.partitions).map(|(index, it)| self.describe_partition(index, it));
        TopicMetadata {
            error_code: ErrorCode::NONE,
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: topic.is_internal(),
            partitions: partitions.collect(),
            topic_authorized_operations: NOT_ASKED,
        }
    }

    fn describe_partition(&self, partition_index: i32, partition: &Partition) -> PartitionMetadata {
        let isr_nodes = partition.standing.in_sync.clone();
        let is_offline = |node: &i32| !self.is_alive(*node);
        PartitionMetadata {
            error_code: if partition.leader.is_some() {
                ErrorCode::NONE
            } else {
                ErrorCode::LEADER_NOT_AVAILABLE
            },
            partition_index,
            leader_id: partition.leader.unwrap_or(-1),
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.clone(),
            offline_replicas: partition.replicas.iter().copied().filter(is_offline).collect(),
            isr_nodes,
        }
    }

    pub(crate) fn describe_cluster(
        &mut self,
        _: Now,
        caller: &Caller,
        request: DescribeClusterRequest,
    ) -> DescribeClusterResponse {
        const BROKERS: i8 = 1;
        if request.endpoint_type != BROKERS {
            return request.refuse(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE);
        }
        let nodes = self.nodes.iter().filter(|(_, node)| node.is_alive() || request.include_fenced_brokers);
        let brokers = nodes.map(|(id, node)| {
            let (host, port) = node.endpoint(caller.listener);
            let (broker_id, rack, is_fenced) = (*id, node.rack.clone(), !node.is_alive());
            DescribeClusterBroker { broker_id, host, port, rack, is_fenced }
        });
        let wanted = request.include_cluster_authorized_operations;
        DescribeClusterResponse {
            cluster_id: self.id.clone(),
            controller_id: self.controller(),
            brokers: brokers.collect(),
            cluster_authorized_operations: if wanted { self.cluster_operations(caller) } else { NOT_ASKED },
            ..DescribeClusterResponse::default()
        }
    }

    pub(crate) fn find_coordinator(
        &mut self,
        now: Now,
        caller: &Caller,
        request: FindCoordinatorRequest,
    ) -> FindCoordinatorResponse {
        let is_group = match request.key_type {
            GROUP => true,
            TRANSACTION => false,
            _ => return request.refuse(ErrorCode::UNSUPPORTED_VERSION),
        };
        if caller.version >= 4 {
            let find = |key| self.coordinator_of(now, caller, key, is_group);
            let coordinators = request.coordinator_keys.iter().map(find).collect();
            return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
        }
        let found = self.coordinator_of(now, caller, &request.key, is_group);
        FindCoordinatorResponse {
            error_code: found.error_code,
            error_message: found.error_message,
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            ..FindCoordinatorResponse::default()
        }
    }

    fn coordinator_of(&mut self, now: Now, caller: &Caller, key: &Str, is_group: bool) -> Coordinator {
        if key.is_empty() && is_group {
            return no_coordinator(key, ErrorCode::INVALID_GROUP_ID);
        }
        let allowed = match is_group {
            true => self.access.on_group(Operation::Describe, caller, key),
            false => self.access.on_transaction(Operation::Describe, caller, key),
        };
        if let Err(code) = allowed {
            return no_coordinator(key, code);
        }
        let of = if is_group { Coordinated::Group(key) } else { Coordinated::Transaction(key) };
        let found = self.coordinator(now, of).and_then(|id| Some((id, self.nodes.get(&id)?)));
        let Some((node_id, node)) = found else {
            return no_coordinator(key, ErrorCode::COORDINATOR_NOT_AVAILABLE);
        };
        let (host, port) = node.endpoint(caller.listener);
        let (key, error_code) = (key.clone(), ErrorCode::NONE);
        Coordinator { key, node_id, host, port, error_code, error_message: None }
    }
}
