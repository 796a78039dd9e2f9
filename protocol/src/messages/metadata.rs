//! What a client must know before it can ask for anything else: versions, nodes, leaders, coordinators.

use crate::api::ApiKey;
use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::{Str, Uuid};

message! {
    /// Asks for the nodes of the cluster and the leaders of topics. Null topics means all, none of them means none.
    MetadataRequest: key 3, versions 0..=13, flexible 9, answer MetadataResponse {
        topics:                                Option<Vec<MetadataTopic>> [null 1..] = Some(Vec::new()),
        allow_auto_topic_creation:             bool                       [4..]      = true,
        include_cluster_authorized_operations: bool                       [8..=10],
        include_topic_authorized_operations:   bool                       [8..],
    }

    /// A topic to ask about, by name or by id.
    MetadataTopic {
        topic_id: Uuid        [10..],
        name:     Option<Str> [null 10..] = Some(Str::default()),
    }

    /// The nodes and the leaders.
    MetadataResponse {
        throttle_time_ms:              i32                [3..],
        brokers:                       Vec<Broker>,
        cluster_id:                    Option<Str>        [2..],
        controller_id:                 i32                [1..]    = -1,
        topics:                        Vec<TopicMetadata>,
        cluster_authorized_operations: i32                [8..=10] = i32::MIN,
        error_code:                    ErrorCode          [13..],
    }

    /// A node of the cluster.
    Broker {
        node_id: i32,
        host:    Str,
        port:    i32,
        rack:    Option<Str> [1..],
    }

    /// A topic.
    TopicMetadata {
        error_code:                  ErrorCode,
        name:                        Option<Str>            [null 12..] = Some(Str::default()),
        topic_id:                    Uuid                   [10..],
        is_internal:                 bool                   [1..],
        partitions:                  Vec<PartitionMetadata>,
        topic_authorized_operations: i32                    [8..]       = i32::MIN,
    }

    /// A partition, its leader and its replicas.
    PartitionMetadata {
        error_code:       ErrorCode,
        partition_index:  i32,
        leader_id:        i32,
        leader_epoch:     i32       [7..] = -1,
        replica_nodes:    Vec<i32>,
        isr_nodes:        Vec<i32>,
        offline_replicas: Vec<i32>  [5..],
    }

    /// Asks what the peer speaks, as the first thing on a connection. Cluster and node from version 5 (KIP-1242).
    ApiVersionsRequest: key 18, versions 0..=5, flexible 3, answer ApiVersionsResponse {
        client_software_name:    Str         [3..],
        client_software_version: Str         [3..],
        cluster_id:              Option<Str> [5..],
        node_id:                 i32         [5..] = -1,
    }

    /// The versions and features of the peer. Its header is that of version 0 always (KIP-511).
    ApiVersionsResponse {
        error_code:               ErrorCode,
        api_keys:                 Vec<ApiVersion>,
        throttle_time_ms:         i32                   [1..],
        supported_features:       Vec<SupportedFeature> [tag 0, 3..],
        finalized_features_epoch: i64                   [tag 1, 3..] = -1,
        finalized_features:       Vec<FinalizedFeature> [tag 2, 3..],
        zk_migration_ready:       bool                  [tag 3, 3..],
    }

    /// The versions of one API that the peer accepts.
    ApiVersion {
        api_key:     ApiKey,
        min_version: i16,
        max_version: i16,
    }

    /// A feature and the levels that the peer supports (KIP-584).
    SupportedFeature {
        name:        Str,
        min_version: i16,
        max_version: i16,
    }

    /// A feature and the levels that the whole cluster has agreed on (KIP-584).
    FinalizedFeature {
        name:              Str,
        max_version_level: i16,
        min_version_level: i16,
    }

    /// Asks for the partitions of topics, page by page (KIP-966).
    DescribeTopicPartitionsRequest: key 75, versions 0..=0, flexible 0, answer DescribeTopicPartitionsResponse {
        topics:                   Vec<DescribeTopicPartitionsTopic>,
        response_partition_limit: i32                               = 2000,
        cursor:                   Option<TopicPartitionsCursor>,
    }

    /// A topic to ask about.
    DescribeTopicPartitionsTopic {
        name: Str,
    }

    /// Where a page begins.
    TopicPartitionsCursor {
        topic_name:      Str,
        partition_index: i32,
    }

    /// A page of partitions.
    DescribeTopicPartitionsResponse {
        throttle_time_ms: i32,
        topics:           Vec<DescribedTopic>,
        next_cursor:      Option<TopicPartitionsCursor>,
    }

    /// A topic.
    DescribedTopic {
        error_code:                  ErrorCode,
        name:                        Option<Str>                  = Some(Str::default()),
        topic_id:                    Uuid,
        is_internal:                 bool,
        partitions:                  Vec<DescribedTopicPartition>,
        topic_authorized_operations: i32                          = i32::MIN,
    }

    /// A partition, its leader and its replicas.
    DescribedTopicPartition {
        error_code:               ErrorCode,
        partition_index:          i32,
        leader_id:                i32,
        leader_epoch:             i32              = -1,
        replica_nodes:            Vec<i32>,
        isr_nodes:                Vec<i32>,
        eligible_leader_replicas: Option<Vec<i32>>,
        last_known_elr:           Option<Vec<i32>>,
        offline_replicas:         Vec<i32>,
    }

    /// Asks which node coordinates groups, transactions or shares: one key until version 3, many from version 4
    /// (KIP-699).
    FindCoordinatorRequest: key 10, versions 0..=6, flexible 3, answer FindCoordinatorResponse {
        key:              Str      [..=3],
        key_type:         i8       [1..],
        coordinator_keys: Vec<Str> [4..],
    }

    /// The coordinators.
    FindCoordinatorResponse {
        throttle_time_ms: i32              [1..],
        error_code:       ErrorCode        [..=3],
        error_message:    Option<Str>      [1..=3] = Some(Str::default()),
        node_id:          i32              [..=3],
        host:             Str              [..=3],
        port:             i32              [..=3],
        coordinators:     Vec<Coordinator> [4..],
    }

    /// The node that coordinates one key.
    Coordinator {
        key:           Str,
        node_id:       i32,
        host:          Str,
        port:          i32,
        error_code:    ErrorCode,
        error_message: Option<Str> = Some(Str::default()),
    }
}
