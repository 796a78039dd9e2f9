//! Reading records: Fetch.

use crate::error_code::ErrorCode;
use crate::messages::{LeaderIdAndEpoch, NodeEndpoint};
use crate::table::message;
use crate::wire::{RecordSet, Str, Uuid};

message! {
    /// Long-poll for records. Sessions: KIP-227. Leader epochs: KIP-320. Topic ids: KIP-516.
    FetchRequest: key 1, versions 4..=18, flexible 12, answer FetchResponse {
        cluster_id:            Option<Str>         [tag 0, 12..],
        replica_id:            i32                 [..=14]       = -1,
        replica_state:         FetchReplicaState   [tag 1, 15..],
        max_wait_ms:           i32,
        min_bytes:             i32,
        max_bytes:             i32                               = i32::MAX,
        isolation_level:       i8,
        session_id:            i32                 [7..],
        session_epoch:         i32                 [7..]         = -1,
        topics:                Vec<FetchTopic>,
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id:               Str                 [11..],
    }

    /// Which follower asks (KIP-903). Consumers leave the default.
    FetchReplicaState {
        replica_id:    i32 = -1,
        replica_epoch: i64 = -1,
    }

    /// The partitions of one topic to fetch.
    FetchTopic {
        topic:      Str                 [..=12],
        topic_id:   Uuid                [13..],
        partitions: Vec<FetchPartition>,
    }

    /// From where to fetch one partition.
    FetchPartition {
        partition:            i32,
        current_leader_epoch: i32  [9..]         = -1,
        fetch_offset:         i64,
        last_fetched_epoch:   i32  [12..]        = -1,
        log_start_offset:     i64  [5..]         = -1,
        partition_max_bytes:  i32,
        replica_directory_id: Uuid [tag 0, 17..],
        high_watermark:       i64  [tag 1, 18..] = i64::MAX,
    }

    /// Partitions to take out of the fetch session (KIP-227).
    ForgottenTopic {
        topic:      Str      [..=12],
        topic_id:   Uuid     [13..],
        partitions: Vec<i32>,
    }

    /// The records, in slices of the frame.
    FetchResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode         [7..],
        session_id:       i32               [7..],
        responses:        Vec<FetchedTopic>,
        node_endpoints:   Vec<NodeEndpoint> [tag 0, 16..],
    }

    /// What was fetched of one topic.
    FetchedTopic {
        topic:      Str                   [..=12],
        topic_id:   Uuid                  [13..],
        partitions: Vec<FetchedPartition>,
    }

    /// What was fetched of one partition.
    FetchedPartition {
        partition_index:        i32,
        error_code:             ErrorCode,
        high_watermark:         i64,
        last_stable_offset:     i64                                           = -1,
        log_start_offset:       i64                             [5..]         = -1,
        diverging_epoch:        DivergingEpoch                  [tag 0, 12..],
        current_leader:         LeaderIdAndEpoch                [tag 1, 12..],
        snapshot_id:            SnapshotId                      [tag 2, 12..],
        aborted_transactions:   Option<Vec<AbortedTransaction>>               = Some(Vec::new()),
        preferred_read_replica: i32                             [11..]        = -1,
        records:                RecordSet,
    }

    /// Where the log of the partition departs from what was fetched before (KIP-595).
    DivergingEpoch {
        epoch:      i32 = -1,
        end_offset: i64 = -1,
    }

    /// A snapshot to fetch instead of the log; only of the metadata partition.
    SnapshotId {
        end_offset: i64 = -1,
        epoch:      i32 = -1,
    }

    /// A producer whose records from this offset on were aborted.
    AbortedTransaction {
        producer_id:  i64,
        first_offset: i64,
    }
}
