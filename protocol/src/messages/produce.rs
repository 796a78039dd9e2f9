//! Writing records: Produce.

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::{RecordSet, Str, Uuid};

message! {
    /// Appends record batches to partitions. Record errors: KIP-467. Leader hints: KIP-951. Topic ids: KIP-516.
    ProduceRequest: key 0, versions 3..=13, flexible 9, answer ProduceResponse {
        transactional_id: Option<Str>,
        acks:             i16,
        timeout_ms:       i32,
        topic_data:       Vec<ProduceTopic>,
    }

    /// The partitions of one topic to append to.
    ProduceTopic {
        name:           Str                   [..=12],
        topic_id:       Uuid                  [13..],
        partition_data: Vec<ProducePartition>,
    }

    /// The batches for one partition.
    ProducePartition {
        index:   i32,
        records: RecordSet,
    }

    /// What became of each partition's records.
    ProduceResponse {
        responses:        Vec<ProducedTopic>,
        throttle_time_ms: i32,
        node_endpoints:   Vec<NodeEndpoint>  [tag 0, 10..],
    }

    /// What became of the records for one topic.
    ProducedTopic {
        name:                Str                    [..=12],
        topic_id:            Uuid                   [13..],
        partition_responses: Vec<ProducedPartition>,
    }

    /// What became of the records for one partition.
    ProducedPartition {
        index:              i32,
        error_code:         ErrorCode,
        base_offset:        i64,
        log_append_time_ms: i64                                   = -1,
        log_start_offset:   i64                     [5..]         = -1,
        record_errors:      Vec<ProduceRecordError> [8..],
        error_message:      Option<Str>             [8..],
        current_leader:     LeaderIdAndEpoch        [tag 0, 10..],
    }

    /// A record that made the broker refuse its batch (KIP-467).
    ProduceRecordError {
        batch_index:               i32,
        batch_index_error_message: Option<Str>,
    }

    /// Who leads a partition now, so that a refused client needs no metadata (KIP-951).
    LeaderIdAndEpoch {
        leader_id:    i32 = -1,
        leader_epoch: i32 = -1,
    }

    /// The address of a node that an answer names as leader (KIP-951).
    NodeEndpoint {
        node_id: i32,
        host:    Str,
        port:    i32,
        rack:    Option<Str>,
    }
}
