//! What coordinators keep in their topics: committed offsets in `__consumer_offsets`, transactions in `__transaction_state`.
//!
//! They are records of these topics, never requests; each key and value begins with its version, which is not part of it.

use crate::table::message;
use crate::wire::Str;

message! {
    /// The key of a committed offset, version 1.
    OffsetCommitKey {
        group:     Str,
        topic:     Str,
        partition: i32,
    }

    /// A committed offset, version 3.
    OffsetCommitValue {
        offset:           i64,
        leader_epoch:     i32 [3..] = -1,
        metadata:         Str,
        commit_timestamp: i64,
    }

    /// The key of a transaction, version 0.
    TransactionLogKey {
        transactional_id: Str,
    }

    /// A transaction. Version 1 is flexible.
    TransactionLogValue {
        producer_id:                i64,
        previous_producer_id:       i64 [tag 0, 1..] = -1,
        next_producer_id:           i64 [tag 1, 1..] = -1,
        producer_epoch:             i16,
        transaction_timeout_ms:     i32,
        transaction_status:         i8,
        transaction_partitions:     Option<Vec<TransactionLogPartitions>> = Some(Vec::new()),
        last_update_timestamp_ms:   i64,
        start_timestamp_ms:         i64,
        client_transaction_version: i16 [tag 2, 1..],
        next_producer_epoch:        i16 [tag 3, 1..] = -1,
    }

    /// The partitions of a topic that take part.
    TransactionLogPartitions {
        topic:         Str,
        partition_ids: Vec<i32>,
    }
}
