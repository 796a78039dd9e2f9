//! Producer ids and transactions (KIP-98, KIP-360, KIP-447, KIP-890), and what operators see of them (KIP-664).

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::{Str, Uuid};

message! {
    /// Asks for a producer id, or for a new epoch of one (KIP-98, KIP-360). Version 6, with transactions of two phases
    /// (KIP-939), is unstable in Apache Kafka 4.4.
    InitProducerIdRequest: key 22, versions 0..=6, flexible 2, answer InitProducerIdResponse {
        transactional_id:       Option<Str>       = Some(Str::default()),
        transaction_timeout_ms: i32,
        producer_id:            i64         [3..] = -1,
        producer_epoch:         i16         [3..] = -1,
        enable_2_pc:            bool        [6..],
        keep_prepared_txn:      bool        [6..],
    }

    /// The producer id and its epoch.
    InitProducerIdResponse {
        throttle_time_ms:           i32,
        error_code:                 ErrorCode,
        producer_id:                i64             = -1,
        producer_epoch:             i16,
        ongoing_txn_producer_id:    i64       [6..] = -1,
        ongoing_txn_producer_epoch: i16       [6..] = -1,
    }

    /// Adds partitions to a transaction. From version 4 brokers verify with it for many transactions (KIP-890); clients
    /// stay at 3.
    AddPartitionsToTxnRequest: key 24, versions 0..=5, flexible 3, answer AddPartitionsToTxnResponse {
        transactions:                  Vec<AddPartitionsToTxnTransaction> [4..],
        v3_and_below_transactional_id: Str                                [..=3],
        v3_and_below_producer_id:      i64                                [..=3],
        v3_and_below_producer_epoch:   i16                                [..=3],
        v3_and_below_topics:           Vec<AddPartitionsToTxnTopic>       [..=3],
    }

    /// A transaction, as one broker asks another.
    AddPartitionsToTxnTransaction {
        transactional_id: Str,
        producer_id:      i64,
        producer_epoch:   i16,
        verify_only:      bool,
        topics:           Vec<AddPartitionsToTxnTopic>,
    }

    /// The partitions of one topic.
    AddPartitionsToTxnTopic {
        name:       Str,
        partitions: Vec<i32>,
    }

    /// The outcome for each partition.
    AddPartitionsToTxnResponse {
        throttle_time_ms:              i32,
        error_code:                    ErrorCode                          [4..],
        results_by_transaction:        Vec<AddPartitionsToTxnResult>      [4..],
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [..=3],
    }

    /// The outcome for one transaction.
    AddPartitionsToTxnResult {
        transactional_id: Str,
        topic_results:    Vec<AddPartitionsToTxnTopicResult>,
    }

    /// The outcome for one topic.
    AddPartitionsToTxnTopicResult {
        name:                 Str,
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
    }

    /// The outcome for one partition.
    AddPartitionsToTxnPartitionResult {
        partition_index:      i32,
        partition_error_code: i16,
    }

    /// Adds a group's offsets to a transaction (KIP-98).
    AddOffsetsToTxnRequest: key 25, versions 0..=4, flexible 3, answer AddOffsetsToTxnResponse {
        transactional_id: Str,
        producer_id:      i64,
        producer_epoch:   i16,
        group_id:         Str,
    }

    /// The outcome.
    AddOffsetsToTxnResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
    }

    /// Commits or aborts a transaction. From version 5 the answer brings the next epoch (KIP-890).
    EndTxnRequest: key 26, versions 0..=5, flexible 3, answer EndTxnResponse {
        transactional_id: Str,
        producer_id:      i64,
        producer_epoch:   i16,
        committed:        bool,
    }

    /// The outcome.
    EndTxnResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        producer_id:      i64       [5..] = -1,
        producer_epoch:   i16       [5..] = -1,
    }

    /// Commits offsets within a transaction. Fencing by member: KIP-447. Topic ids: KIP-1319.
    TxnOffsetCommitRequest: key 28, versions 0..=6, flexible 3, answer TxnOffsetCommitResponse {
        transactional_id:              Str,
        group_id:                      Str,
        producer_id:                   i64,
        producer_epoch:                i16,
        generation_id_or_member_epoch: i32                       [3..] = -1,
        member_id:                     Str                       [3..],
        group_instance_id:             Option<Str>               [3..],
        topics:                        Vec<TxnOffsetCommitTopic>,
    }

    /// The offsets of one topic.
    TxnOffsetCommitTopic {
        name:       Str                           [..=5],
        topic_id:   Uuid                          [6..],
        partitions: Vec<TxnOffsetCommitPartition>,
    }

    /// The offset of one partition: that of the next record to read.
    TxnOffsetCommitPartition {
        partition_index:        i32,
        committed_offset:       i64,
        committed_leader_epoch: i32         [2..] = -1,
        committed_metadata:     Option<Str>       = Some(Str::default()),
    }

    /// The outcome of each commit.
    TxnOffsetCommitResponse {
        throttle_time_ms: i32,
        topics:           Vec<TxnOffsetCommittedTopic>,
    }

    /// The outcome for one topic.
    TxnOffsetCommittedTopic {
        name:       Str                              [..=5],
        topic_id:   Uuid                             [6..],
        partitions: Vec<TxnOffsetCommittedPartition>,
    }

    /// The outcome for one partition.
    TxnOffsetCommittedPartition {
        partition_index: i32,
        error_code:      ErrorCode,
    }

    /// Ends transactions in partitions: the coordinator writes it to leaders, and an operator to end a hanging one
    /// (KIP-664).
    WriteTxnMarkersRequest: key 27, versions 1..=2, flexible 1, answer WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarker>,
    }

    /// The end of one transaction.
    WritableTxnMarker {
        producer_id:         i64,
        producer_epoch:      i16,
        transaction_result:  bool,
        topics:              Vec<WritableTxnMarkerTopic>,
        coordinator_epoch:   i32,
        transaction_version: i8                          [2..],
    }

    /// The partitions of one topic.
    WritableTxnMarkerTopic {
        name:              Str,
        partition_indexes: Vec<i32>,
    }

    /// The outcome of each marker.
    WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarkerResult>,
    }

    /// The outcome for one producer.
    WritableTxnMarkerResult {
        producer_id: i64,
        topics:      Vec<WritableTxnMarkerTopicResult>,
    }

    /// The outcome for one topic.
    WritableTxnMarkerTopicResult {
        name:       Str,
        partitions: Vec<WritableTxnMarkerPartitionResult>,
    }

    /// The outcome for one partition.
    WritableTxnMarkerPartitionResult {
        partition_index: i32,
        error_code:      ErrorCode,
    }

    /// Asks which producers write to partitions (KIP-664).
    DescribeProducersRequest: key 61, versions 0..=0, flexible 0, answer DescribeProducersResponse {
        topics: Vec<DescribeProducersTopic>,
    }

    /// The partitions of one topic to ask about.
    DescribeProducersTopic {
        name:              Str,
        partition_indexes: Vec<i32>,
    }

    /// The producers.
    DescribeProducersResponse {
        throttle_time_ms: i32,
        topics:           Vec<DescribedProducersTopic>,
    }

    /// The producers of one topic.
    DescribedProducersTopic {
        name:       Str,
        partitions: Vec<DescribedProducersPartition>,
    }

    /// The producers of one partition.
    DescribedProducersPartition {
        partition_index:  i32,
        error_code:       ErrorCode,
        error_message:    Option<Str>,
        active_producers: Vec<ProducerState>,
    }

    /// A producer, as the leader of a partition knows it.
    ProducerState {
        producer_id:              i64,
        producer_epoch:           i32,
        last_sequence:            i32 = -1,
        last_timestamp:           i64 = -1,
        coordinator_epoch:        i32,
        current_txn_start_offset: i64 = -1,
    }

    /// Asks for the state of transactions (KIP-664).
    DescribeTransactionsRequest: key 65, versions 0..=0, flexible 0, answer DescribeTransactionsResponse {
        transactional_ids: Vec<Str>,
    }

    /// The transactions.
    DescribeTransactionsResponse {
        throttle_time_ms:   i32,
        transaction_states: Vec<DescribedTransaction>,
    }

    /// The state of one transaction.
    DescribedTransaction {
        error_code:                ErrorCode,
        transactional_id:          Str,
        transaction_state:         Str,
        transaction_timeout_ms:    i32,
        transaction_start_time_ms: i64,
        producer_id:               i64,
        producer_epoch:            i16,
        topics:                    Vec<DescribedTransactionTopic>,
    }

    /// The partitions of one topic that take part.
    DescribedTransactionTopic {
        topic:      Str,
        partitions: Vec<i32>,
    }

    /// Asks which transactions a node coordinates (KIP-664). Patterns: KIP-1152.
    ListTransactionsRequest: key 66, versions 0..=2, flexible 0, answer ListTransactionsResponse {
        state_filters:            Vec<Str>,
        producer_id_filters:      Vec<i64>,
        duration_filter:          i64         [1..] = -1,
        transactional_id_pattern: Option<Str> [2..],
    }

    /// The transactions.
    ListTransactionsResponse {
        throttle_time_ms:      i32,
        error_code:            ErrorCode,
        unknown_state_filters: Vec<Str>,
        transaction_states:    Vec<ListedTransaction>,
    }

    /// A transaction.
    ListedTransaction {
        transactional_id:  Str,
        producer_id:       i64,
        transaction_state: Str,
    }
}
