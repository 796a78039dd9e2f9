//! Nodes, their quorum and directories, and the replicas that are on them.

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::{Str, Uuid};

message! {
    /// Asks for the nodes of the cluster (KIP-700). Controllers: KIP-919. Fenced nodes: KIP-1073.
    DescribeClusterRequest: key 60, versions 0..=2, flexible 0, answer DescribeClusterResponse {
        include_cluster_authorized_operations: bool,
        endpoint_type:                         i8   [1..] = 1,
        include_fenced_brokers:                bool [2..],
    }

    /// The nodes.
    DescribeClusterResponse {
        throttle_time_ms:              i32,
        error_code:                    ErrorCode,
        error_message:                 Option<Str>,
        endpoint_type:                 i8                         [1..] = 1,
        cluster_id:                    Str,
        controller_id:                 i32                              = -1,
        brokers:                       Vec<DescribeClusterBroker>,
        cluster_authorized_operations: i32                              = i32::MIN,
    }

    /// A node of the cluster.
    DescribeClusterBroker {
        broker_id: i32,
        host:      Str,
        port:      i32,
        rack:      Option<Str>,
        is_fenced: bool        [2..],
    }

    /// Asks for the state of the metadata quorum (KIP-595).
    DescribeQuorumRequest: key 55, versions 0..=2, flexible 0, answer DescribeQuorumResponse {
        topics: Vec<DescribeQuorumTopic>,
    }

    /// The partitions of one topic to ask about.
    DescribeQuorumTopic {
        topic_name: Str,
        partitions: Vec<DescribeQuorumPartition>,
    }

    /// A partition to ask about.
    DescribeQuorumPartition {
        partition_index: i32,
    }

    /// The quorum.
    DescribeQuorumResponse {
        error_code:    ErrorCode,
        error_message: Option<Str>      [2..] = Some(Str::default()),
        topics:        Vec<QuorumTopic>,
        nodes:         Vec<QuorumNode>  [2..],
    }

    /// The quorums of one topic.
    QuorumTopic {
        topic_name: Str,
        partitions: Vec<QuorumPartition>,
    }

    /// The quorum of one partition.
    QuorumPartition {
        partition_index: i32,
        error_code:      ErrorCode,
        error_message:   Option<Str>        [2..] = Some(Str::default()),
        leader_id:       i32,
        leader_epoch:    i32,
        high_watermark:  i64,
        current_voters:  Vec<QuorumReplica>,
        observers:       Vec<QuorumReplica>,
    }

    /// How far a voter or observer is.
    QuorumReplica {
        replica_id:               i32,
        replica_directory_id:     Uuid [2..],
        log_end_offset:           i64,
        last_fetch_timestamp:     i64  [1..] = -1,
        last_caught_up_timestamp: i64  [1..] = -1,
    }

    /// A node of the quorum.
    QuorumNode {
        node_id:   i32,
        listeners: Vec<QuorumListener>,
    }

    /// An address of the node.
    QuorumListener {
        name: Str,
        host: Str,
        port: u16,
    }

    /// Changes the finalized levels of features (KIP-584).
    UpdateFeaturesRequest: key 57, versions 0..=2, flexible 0, answer UpdateFeaturesResponse {
        timeout_ms:      i32                      = 60000,
        feature_updates: Vec<FeatureUpdate>,
        validate_only:   bool               [1..],
    }

    /// A feature and its new level.
    FeatureUpdate {
        feature:           Str,
        max_version_level: i16,
        allow_downgrade:   bool [..=0],
        upgrade_type:      i8   [1..]  = 1,
    }

    /// The outcome.
    UpdateFeaturesResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        error_message:    Option<Str>                     = Some(Str::default()),
        results:          Vec<FeatureUpdateResult> [..=1],
    }

    /// The outcome for one feature.
    FeatureUpdateResult {
        feature:       Str,
        error_code:    ErrorCode,
        error_message: Option<Str> = Some(Str::default()),
    }

    /// Takes a node out of the cluster's metadata (KIP-500).
    UnregisterBrokerRequest: key 64, versions 0..=0, flexible 0, answer UnregisterBrokerResponse {
        broker_id: i32,
    }

    /// The outcome.
    UnregisterBrokerResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        error_message:    Option<Str> = Some(Str::default()),
    }

    /// Moves replicas between the directories of a node (KIP-113).
    AlterReplicaLogDirsRequest: key 34, versions 1..=2, flexible 2, answer AlterReplicaLogDirsResponse {
        dirs: Vec<AlterReplicaLogDir>,
    }

    /// A directory and what should be in it.
    AlterReplicaLogDir {
        path:   Str,
        topics: Vec<AlterReplicaLogDirTopic>,
    }

    /// The partitions of one topic.
    AlterReplicaLogDirTopic {
        name:       Str,
        partitions: Vec<i32>,
    }

    /// The outcome for each replica.
    AlterReplicaLogDirsResponse {
        throttle_time_ms: i32,
        results:          Vec<AlterReplicaLogDirTopicResult>,
    }

    /// The outcome for one topic.
    AlterReplicaLogDirTopicResult {
        topic_name: Str,
        partitions: Vec<AlterReplicaLogDirPartitionResult>,
    }

    /// The outcome for one partition.
    AlterReplicaLogDirPartitionResult {
        partition_index: i32,
        error_code:      ErrorCode,
    }

    /// Asks for the directories of a node (KIP-113). Space: KIP-827. Cordoned: KIP-1066.
    DescribeLogDirsRequest: key 35, versions 1..=5, flexible 2, answer DescribeLogDirsResponse {
        topics: Option<Vec<DescribableLogDirTopic>> = Some(Vec::new()),
    }

    /// The partitions of one topic to ask about.
    DescribableLogDirTopic {
        topic:      Str,
        partitions: Vec<i32>,
    }

    /// The directories.
    DescribeLogDirsResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode                  [3..],
        results:          Vec<DescribeLogDirsResult>,
    }

    /// A directory.
    DescribeLogDirsResult {
        error_code:   ErrorCode,
        log_dir:      Str,
        topics:       Vec<DescribeLogDirsTopic>,
        total_bytes:  i64                       [4..] = -1,
        usable_bytes: i64                       [4..] = -1,
        is_cordoned:  bool                      [5..],
    }

    /// The replicas of one topic in the directory.
    DescribeLogDirsTopic {
        name:       Str,
        partitions: Vec<DescribeLogDirsPartition>,
    }

    /// The replica of one partition.
    DescribeLogDirsPartition {
        partition_index: i32,
        partition_size:  i64,
        offset_lag:      i64,
        is_future_key:   bool,
    }

    /// Elects leaders: the preferred ones, or unclean ones (KIP-460).
    ElectLeadersRequest: key 43, versions 0..=2, flexible 2, answer ElectLeadersResponse {
        election_type:    i8                             [1..],
        topic_partitions: Option<Vec<ElectLeadersTopic>>       = Some(Vec::new()),
        timeout_ms:       i32                                  = 60000,
    }

    /// The partitions of one topic.
    ElectLeadersTopic {
        topic:      Str,
        partitions: Vec<i32>,
    }

    /// The outcome for each partition.
    ElectLeadersResponse {
        throttle_time_ms:         i32,
        error_code:               ErrorCode         [1..],
        replica_election_results: Vec<ElectedTopic>,
    }

    /// The outcome for one topic.
    ElectedTopic {
        topic:            Str,
        partition_result: Vec<ElectedPartition>,
    }

    /// The outcome for one partition.
    ElectedPartition {
        partition_id:  i32,
        error_code:    ErrorCode,
        error_message: Option<Str> = Some(Str::default()),
    }

    /// Moves partitions between nodes (KIP-455); null replicas cancels.
    AlterPartitionReassignmentsRequest: key 45, versions 0..=1, flexible 0, answer AlterPartitionReassignmentsResponse {
        timeout_ms:                      i32                          = 60000,
        allow_replication_factor_change: bool                   [1..] = true,
        topics:                          Vec<ReassignableTopic>,
    }

    /// The partitions of one topic.
    ReassignableTopic {
        name:       Str,
        partitions: Vec<ReassignablePartition>,
    }

    /// The nodes that a partition should be on.
    ReassignablePartition {
        partition_index: i32,
        replicas:        Option<Vec<i32>>,
    }

    /// The outcome for each partition.
    AlterPartitionReassignmentsResponse {
        throttle_time_ms:                i32,
        allow_replication_factor_change: bool                 [1..] = true,
        error_code:                      ErrorCode,
        error_message:                   Option<Str>                = Some(Str::default()),
        responses:                       Vec<ReassignedTopic>,
    }

    /// The outcome for one topic.
    ReassignedTopic {
        name:       Str,
        partitions: Vec<ReassignedPartition>,
    }

    /// The outcome for one partition.
    ReassignedPartition {
        partition_index: i32,
        error_code:      ErrorCode,
        error_message:   Option<Str> = Some(Str::default()),
    }

    /// Asks which partitions are on the move (KIP-455).
    ListPartitionReassignmentsRequest: key 46, versions 0..=0, flexible 0, answer ListPartitionReassignmentsResponse {
        timeout_ms: i32                                          = 60000,
        topics:     Option<Vec<ListPartitionReassignmentsTopic>>,
    }

    /// The partitions of one topic to ask about.
    ListPartitionReassignmentsTopic {
        name:              Str,
        partition_indexes: Vec<i32>,
    }

    /// The partitions on the move.
    ListPartitionReassignmentsResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        error_message:    Option<Str>                   = Some(Str::default()),
        topics:           Vec<OngoingTopicReassignment>,
    }

    /// The partitions of one topic on the move.
    OngoingTopicReassignment {
        name:       Str,
        partitions: Vec<OngoingPartitionReassignment>,
    }

    /// A partition on the move.
    OngoingPartitionReassignment {
        partition_index:   i32,
        replicas:          Vec<i32>,
        adding_replicas:   Vec<i32>,
        removing_replicas: Vec<i32>,
    }
}
