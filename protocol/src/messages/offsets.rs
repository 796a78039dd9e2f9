//! Positions in partitions: those that the log has, and those that groups have committed.

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::{Str, Uuid};

message! {
    /// Asks for offsets by timestamp, and for the ends of partitions. Timestamps below zero have a meaning of their
    /// own.
    ListOffsetsRequest: key 2, versions 1..=11, flexible 6, answer ListOffsetsResponse {
        replica_id:      i32,
        isolation_level: i8                    [2..],
        topics:          Vec<ListOffsetsTopic>,
        timeout_ms:      i32                   [10..],
    }

    /// The partitions of one topic to ask about.
    ListOffsetsTopic {
        name:       Str,
        partitions: Vec<ListOffsetsPartition>,
    }

    /// What to ask about one partition.
    ListOffsetsPartition {
        partition_index:      i32,
        current_leader_epoch: i32 [4..] = -1,
        timestamp:            i64,
    }

    /// The offsets.
    ListOffsetsResponse {
        throttle_time_ms: i32              [2..],
        topics:           Vec<ListedTopic>,
    }

    /// The offsets of one topic.
    ListedTopic {
        name:       Str,
        partitions: Vec<ListedPartition>,
    }

    /// The offset of one partition.
    ListedPartition {
        partition_index: i32,
        error_code:      ErrorCode,
        timestamp:       i64             = -1,
        offset:          i64             = -1,
        leader_epoch:    i32       [4..] = -1,
    }

    /// Asks where leader epochs end, to detect truncation (KIP-320).
    OffsetForLeaderEpochRequest: key 23, versions 2..=4, flexible 4, answer OffsetForLeaderEpochResponse {
        replica_id: i32                       [3..] = -2,
        topics:     Vec<OffsetForLeaderTopic>,
    }

    /// The partitions of one topic to ask about.
    OffsetForLeaderTopic {
        topic:      Str,
        partitions: Vec<OffsetForLeaderPartition>,
    }

    /// The leader epoch to look up in one partition.
    OffsetForLeaderPartition {
        partition:            i32,
        current_leader_epoch: i32 = -1,
        leader_epoch:         i32,
    }

    /// Where the leader epochs end.
    OffsetForLeaderEpochResponse {
        throttle_time_ms: i32,
        topics:           Vec<OffsetForLeaderTopicResult>,
    }

    /// The leader epochs of one topic.
    OffsetForLeaderTopicResult {
        topic:      Str,
        partitions: Vec<EpochEndOffset>,
    }

    /// The end of the largest leader epoch that is not above the one asked for.
    EpochEndOffset {
        error_code:   ErrorCode,
        partition:    i32,
        leader_epoch: i32       = -1,
        end_offset:   i64       = -1,
    }

    /// Moves the start of partitions forward (KIP-107).
    DeleteRecordsRequest: key 21, versions 0..=2, flexible 2, answer DeleteRecordsResponse {
        topics:     Vec<DeleteRecordsTopic>,
        timeout_ms: i32,
    }

    /// The partitions of one topic.
    DeleteRecordsTopic {
        name:       Str,
        partitions: Vec<DeleteRecordsPartition>,
    }

    /// Up to where to delete.
    DeleteRecordsPartition {
        partition_index: i32,
        offset:          i64,
    }

    /// Where the partitions start now.
    DeleteRecordsResponse {
        throttle_time_ms: i32,
        topics:           Vec<DeletedRecordsTopic>,
    }

    /// The outcome for one topic.
    DeletedRecordsTopic {
        name:       Str,
        partitions: Vec<DeletedRecordsPartition>,
    }

    /// The outcome for one partition.
    DeletedRecordsPartition {
        partition_index: i32,
        low_watermark:   i64,
        error_code:      ErrorCode,
    }

    /// Commits offsets for a group of either protocol, or for none. Topic ids from version 10 (KIP-848).
    OffsetCommitRequest: key 8, versions 2..=10, flexible 8, answer OffsetCommitResponse {
        group_id:                      Str,
        generation_id_or_member_epoch: i32                           = -1,
        member_id:                     Str,
        group_instance_id:             Option<Str>            [7..],
        retention_time_ms:             i64                    [..=4] = -1,
        topics:                        Vec<OffsetCommitTopic>,
    }

    /// The offsets of one topic.
    OffsetCommitTopic {
        name:       Str                        [..=9],
        topic_id:   Uuid                       [10..],
        partitions: Vec<OffsetCommitPartition>,
    }

    /// The offset of one partition: that of the next record to read.
    OffsetCommitPartition {
        partition_index:        i32,
        committed_offset:       i64,
        committed_leader_epoch: i32         [6..] = -1,
        committed_metadata:     Option<Str>       = Some(Str::default()),
    }

    /// The outcome of each commit.
    OffsetCommitResponse {
        throttle_time_ms: i32                       [3..],
        topics:           Vec<OffsetCommittedTopic>,
    }

    /// The outcome for one topic.
    OffsetCommittedTopic {
        name:       Str                           [..=9],
        topic_id:   Uuid                          [10..],
        partitions: Vec<OffsetCommittedPartition>,
    }

    /// The outcome for one partition.
    OffsetCommittedPartition {
        partition_index: i32,
        error_code:      ErrorCode,
    }

    /// Asks for the committed offsets of groups: one until version 7, many from version 8 (KIP-709).
    OffsetFetchRequest: key 9, versions 1..=10, flexible 6, answer OffsetFetchResponse {
        group_id:       Str                           [..=7],
        topics:         Option<Vec<OffsetFetchTopic>> [null 2.., ..=7] = Some(Vec::new()),
        groups:         Vec<OffsetFetchGroup>         [8..],
        require_stable: bool                          [7..],
    }

    /// The partitions of one topic to ask about.
    OffsetFetchTopic {
        name:              Str      [..=9],
        topic_id:          Uuid     [10..],
        partition_indexes: Vec<i32>,
    }

    /// What to ask about one group.
    OffsetFetchGroup {
        group_id:     Str,
        member_id:    Option<Str>                   [9..],
        member_epoch: i32                           [9..] = -1,
        topics:       Option<Vec<OffsetFetchTopic>>       = Some(Vec::new()),
    }

    /// The committed offsets.
    OffsetFetchResponse {
        throttle_time_ms: i32                     [3..],
        topics:           Vec<OffsetFetchedTopic> [..=7],
        error_code:       ErrorCode               [2..=7],
        groups:           Vec<OffsetFetchedGroup> [8..],
    }

    /// The committed offsets of one topic.
    OffsetFetchedTopic {
        name:       Str                         [..=9],
        topic_id:   Uuid                        [10..],
        partitions: Vec<OffsetFetchedPartition>,
    }

    /// The committed offset of one partition, -1 for none.
    OffsetFetchedPartition {
        partition_index:        i32,
        committed_offset:       i64,
        committed_leader_epoch: i32         [5..] = -1,
        metadata:               Option<Str>       = Some(Str::default()),
        error_code:             ErrorCode,
    }

    /// The committed offsets of one group.
    OffsetFetchedGroup {
        group_id:   Str,
        topics:     Vec<OffsetFetchedTopic>,
        error_code: ErrorCode,
    }

    /// Deletes committed offsets of a group (KIP-496).
    OffsetDeleteRequest: key 47, versions 0..=0, flexible never, answer OffsetDeleteResponse {
        group_id: Str,
        topics:   Vec<OffsetDeleteTopic>,
    }

    /// The partitions of one topic.
    OffsetDeleteTopic {
        name:       Str,
        partitions: Vec<OffsetDeletePartition>,
    }

    /// A partition whose committed offset goes.
    OffsetDeletePartition {
        partition_index: i32,
    }

    /// The outcome of each deletion.
    OffsetDeleteResponse {
        error_code:       ErrorCode,
        throttle_time_ms: i32,
        topics:           Vec<OffsetDeletedTopic>,
    }

    /// The outcome for one topic.
    OffsetDeletedTopic {
        name:       Str,
        partitions: Vec<OffsetDeletedPartition>,
    }

    /// The outcome for one partition.
    OffsetDeletedPartition {
        partition_index: i32,
        error_code:      ErrorCode,
    }
}
