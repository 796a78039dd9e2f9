//! Groups that share the records of a partition (KIP-932).

use crate::error_code::ErrorCode;
use crate::messages::{DescribedGroupAssignment, GroupAssignment, LeaderIdAndEpoch, NodeEndpoint};
use crate::table::message;
use crate::wire::{RecordSet, Str, Uuid};

message! {
    /// Joins a share group and keeps a member alive (KIP-932). A member leaves by epoch -1.
    ShareGroupHeartbeatRequest: key 76, versions 1..=1, flexible 1, answer ShareGroupHeartbeatResponse {
        group_id:               Str,
        member_id:              Str,
        member_epoch:           i32,
        rack_id:                Option<Str>,
        subscribed_topic_names: Option<Vec<Str>>,
    }

    /// The member's epoch, and its share when that has changed.
    ShareGroupHeartbeatResponse {
        throttle_time_ms:      i32,
        error_code:            ErrorCode,
        error_message:         Option<Str>,
        member_id:             Option<Str>,
        member_epoch:          i32,
        heartbeat_interval_ms: i32,
        assignment:            Option<GroupAssignment>,
    }

    /// Asks for the state and the members of share groups (KIP-932).
    ShareGroupDescribeRequest: key 77, versions 1..=1, flexible 1, answer ShareGroupDescribeResponse {
        group_ids:                     Vec<Str>,
        include_authorized_operations: bool,
    }

    /// The groups.
    ShareGroupDescribeResponse {
        throttle_time_ms: i32,
        groups:           Vec<DescribedShareGroup>,
    }

    /// A share group.
    DescribedShareGroup {
        error_code:            ErrorCode,
        error_message:         Option<Str>,
        group_id:              Str,
        group_state:           Str,
        group_epoch:           i32,
        assignment_epoch:      i32,
        assignor_name:         Str,
        members:               Vec<DescribedShareGroupMember>,
        authorized_operations: i32                            = i32::MIN,
    }

    /// A member of a share group.
    DescribedShareGroupMember {
        member_id:              Str,
        rack_id:                Option<Str>,
        member_epoch:           i32,
        client_id:              Str,
        client_host:            Str,
        subscribed_topic_names: Vec<Str>,
        assignment:             DescribedGroupAssignment,
    }

    /// Long-poll for records of a share group, with acknowledgements of earlier ones (KIP-932). Acquire modes:
    /// KIP-1206. Renewal: KIP-1222.
    ShareFetchRequest: key 78, versions 1..=2, flexible 1, answer ShareFetchResponse {
        group_id:              Option<Str>,
        member_id:             Option<Str>                    = Some(Str::default()),
        share_session_epoch:   i32,
        max_wait_ms:           i32,
        min_bytes:             i32,
        max_bytes:             i32                            = i32::MAX,
        max_records:           i32,
        batch_size:            i32,
        share_acquire_mode:    i8                       [2..],
        is_renew_ack:          bool                     [2..],
        topics:                Vec<ShareFetchTopic>,
        forgotten_topics_data: Vec<ShareForgottenTopic>,
    }

    /// The partitions of one topic to fetch.
    ShareFetchTopic {
        topic_id:   Uuid,
        partitions: Vec<ShareFetchPartition>,
    }

    /// A partition to fetch, and what to acknowledge in it.
    ShareFetchPartition {
        partition_index:         i32,
        acknowledgement_batches: Vec<ShareAcknowledgementBatch>,
    }

    /// How a range of records ended: one type for all of them, or one for each. 0 gap, 1 accept, 2 release, 3 reject, 4
    /// renew.
    ShareAcknowledgementBatch {
        first_offset:      i64,
        last_offset:       i64,
        acknowledge_types: Vec<i8>,
    }

    /// Partitions to take out of the share session.
    ShareForgottenTopic {
        topic_id:   Uuid,
        partitions: Vec<i32>,
    }

    /// The records that the member acquired.
    ShareFetchResponse {
        throttle_time_ms:            i32,
        error_code:                  ErrorCode,
        error_message:               Option<Str>,
        acquisition_lock_timeout_ms: i32,
        responses:                   Vec<ShareFetchedTopic>,
        node_endpoints:              Vec<NodeEndpoint>,
    }

    /// What was fetched of one topic.
    ShareFetchedTopic {
        topic_id:   Uuid,
        partitions: Vec<ShareFetchedPartition>,
    }

    /// What was fetched of one partition.
    ShareFetchedPartition {
        partition_index:           i32,
        error_code:                ErrorCode,
        error_message:             Option<Str>,
        acknowledge_error_code:    ErrorCode,
        acknowledge_error_message: Option<Str>,
        current_leader:            LeaderIdAndEpoch     = LeaderIdAndEpoch { leader_id: 0, leader_epoch: 0 },
        records:                   RecordSet,
        acquired_records:          Vec<AcquiredRecords>,
    }

    /// A range of records that the member holds, and how often they were delivered.
    AcquiredRecords {
        first_offset:   i64,
        last_offset:    i64,
        delivery_count: i16,
    }

    /// Acknowledges records of a share group without fetching (KIP-932). Renewal: KIP-1222.
    ShareAcknowledgeRequest: key 79, versions 1..=2, flexible 1, answer ShareAcknowledgeResponse {
        group_id:            Option<Str>,
        member_id:           Option<Str>                      = Some(Str::default()),
        share_session_epoch: i32,
        is_renew_ack:        bool                       [2..],
        topics:              Vec<ShareAcknowledgeTopic>,
    }

    /// The partitions of one topic.
    ShareAcknowledgeTopic {
        topic_id:   Uuid,
        partitions: Vec<ShareAcknowledgePartition>,
    }

    /// What to acknowledge in one partition.
    ShareAcknowledgePartition {
        partition_index:         i32,
        acknowledgement_batches: Vec<ShareAcknowledgementBatch>,
    }

    /// Whether the acknowledgements were taken.
    ShareAcknowledgeResponse {
        throttle_time_ms:            i32,
        error_code:                  ErrorCode,
        error_message:               Option<Str>,
        acquisition_lock_timeout_ms: i32                         [2..],
        responses:                   Vec<ShareAcknowledgedTopic>,
        node_endpoints:              Vec<NodeEndpoint>,
    }

    /// The outcome for one topic.
    ShareAcknowledgedTopic {
        topic_id:   Uuid,
        partitions: Vec<ShareAcknowledgedPartition>,
    }

    /// The outcome for one partition.
    ShareAcknowledgedPartition {
        partition_index: i32,
        error_code:      ErrorCode,
        error_message:   Option<Str>,
        current_leader:  LeaderIdAndEpoch = LeaderIdAndEpoch { leader_id: 0, leader_epoch: 0 },
    }

    /// Asks where share groups stand (KIP-932). Lag: KIP-1226.
    DescribeShareGroupOffsetsRequest: key 90, versions 0..=1, flexible 0, answer DescribeShareGroupOffsetsResponse {
        groups: Vec<DescribeShareGroupOffsetsGroup>,
    }

    /// A group to ask about; null topics means all.
    DescribeShareGroupOffsetsGroup {
        group_id: Str,
        topics:   Option<Vec<DescribeShareGroupOffsetsTopic>> = Some(Vec::new()),
    }

    /// The partitions of one topic to ask about.
    DescribeShareGroupOffsetsTopic {
        topic_name: Str,
        partitions: Vec<i32>,
    }

    /// Where the groups stand.
    DescribeShareGroupOffsetsResponse {
        throttle_time_ms: i32,
        groups:           Vec<DescribedShareGroupOffsets>,
    }

    /// Where one group stands.
    DescribedShareGroupOffsets {
        group_id:      Str,
        topics:        Vec<DescribedShareGroupOffsetsTopic>,
        error_code:    ErrorCode,
        error_message: Option<Str>,
    }

    /// Where the group stands in one topic.
    DescribedShareGroupOffsetsTopic {
        topic_name: Str,
        topic_id:   Uuid,
        partitions: Vec<DescribedShareGroupOffsetsPartition>,
    }

    /// Where the group stands in one partition.
    DescribedShareGroupOffsetsPartition {
        partition_index: i32,
        start_offset:    i64,
        leader_epoch:    i32,
        lag:             i64         [1..] = -1,
        error_code:      ErrorCode,
        error_message:   Option<Str>,
    }

    /// Moves a share group (KIP-932).
    AlterShareGroupOffsetsRequest: key 91, versions 0..=0, flexible 0, answer AlterShareGroupOffsetsResponse {
        group_id: Str,
        topics:   Vec<AlterShareGroupOffsetsTopic>,
    }

    /// The partitions of one topic.
    AlterShareGroupOffsetsTopic {
        topic_name: Str,
        partitions: Vec<AlterShareGroupOffsetsPartition>,
    }

    /// Where to move in one partition.
    AlterShareGroupOffsetsPartition {
        partition_index: i32,
        start_offset:    i64,
    }

    /// The outcome.
    AlterShareGroupOffsetsResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        error_message:    Option<Str>,
        responses:        Vec<AlteredShareGroupOffsetsTopic>,
    }

    /// The outcome for one topic.
    AlteredShareGroupOffsetsTopic {
        topic_name: Str,
        topic_id:   Uuid,
        partitions: Vec<AlteredShareGroupOffsetsPartition>,
    }

    /// The outcome for one partition.
    AlteredShareGroupOffsetsPartition {
        partition_index: i32,
        error_code:      ErrorCode,
        error_message:   Option<Str>,
    }

    /// Makes a share group forget topics (KIP-932).
    DeleteShareGroupOffsetsRequest: key 92, versions 0..=0, flexible 0, answer DeleteShareGroupOffsetsResponse {
        group_id: Str,
        topics:   Vec<DeleteShareGroupOffsetsTopic>,
    }

    /// A topic to forget.
    DeleteShareGroupOffsetsTopic {
        topic_name: Str,
    }

    /// The outcome.
    DeleteShareGroupOffsetsResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        error_message:    Option<Str>,
        responses:        Vec<DeletedShareGroupOffsetsTopic>,
    }

    /// The outcome for one topic.
    DeletedShareGroupOffsetsTopic {
        topic_name:    Str,
        topic_id:      Uuid,
        error_code:    ErrorCode,
        error_message: Option<Str>,
    }
}
