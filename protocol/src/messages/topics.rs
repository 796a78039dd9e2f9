//! Creating, deleting and growing topics.

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::{Str, Uuid};

message! {
    /// Creates topics.
    CreateTopicsRequest: key 19, versions 2..=7, flexible 5, answer CreateTopicsResponse {
        topics:        Vec<CreatableTopic>,
        timeout_ms:    i32                 = 60000,
        validate_only: bool,
    }

    /// A topic to create.
    CreatableTopic {
        name:               Str,
        num_partitions:     i32,
        replication_factor: i16,
        assignments:        Vec<CreatableReplicaAssignment>,
        configs:            Vec<CreatableTopicConfig>,
    }

    /// The nodes to put a partition on.
    CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids:      Vec<i32>,
    }

    /// A configuration entry of the topic.
    CreatableTopicConfig {
        name:  Str,
        value: Option<Str> = Some(Str::default()),
    }

    /// The outcome for each topic. The configuration it got: KIP-525.
    CreateTopicsResponse {
        throttle_time_ms: i32,
        topics:           Vec<CreatableTopicResult>,
    }

    /// The outcome for one topic.
    CreatableTopicResult {
        name:                    Str,
        topic_id:                Uuid                            [7..],
        error_code:              ErrorCode,
        error_message:           Option<Str>                                  = Some(Str::default()),
        topic_config_error_code: i16                             [tag 0, 5..],
        num_partitions:          i32                             [5..]        = -1,
        replication_factor:      i16                             [5..]        = -1,
        configs:                 Option<Vec<CreatedTopicConfig>> [5..]        = Some(Vec::new()),
    }

    /// A configuration entry that the topic got.
    CreatedTopicConfig {
        name:          Str,
        value:         Option<Str> = Some(Str::default()),
        read_only:     bool,
        config_source: i8          = -1,
        is_sensitive:  bool,
    }

    /// Deletes topics: by name until version 5, by name or id from version 6.
    DeleteTopicsRequest: key 20, versions 1..=6, flexible 4, answer DeleteTopicsResponse {
        topics:      Vec<DeleteTopicState> [6..],
        topic_names: Vec<Str>              [..=5],
        timeout_ms:  i32,
    }

    /// A topic to delete, by name or by id.
    DeleteTopicState {
        name:     Option<Str>,
        topic_id: Uuid,
    }

    /// The outcome for each topic.
    DeleteTopicsResponse {
        throttle_time_ms: i32,
        responses:        Vec<DeletedTopic>,
    }

    /// The outcome for one topic.
    DeletedTopic {
        name:          Option<Str> [null 6..] = Some(Str::default()),
        topic_id:      Uuid        [6..],
        error_code:    ErrorCode,
        error_message: Option<Str> [5..],
    }

    /// Adds partitions to topics (KIP-195).
    CreatePartitionsRequest: key 37, versions 0..=3, flexible 2, answer CreatePartitionsResponse {
        topics:        Vec<CreatePartitionsTopic>,
        timeout_ms:    i32,
        validate_only: bool,
    }

    /// A topic and how many partitions it should have.
    CreatePartitionsTopic {
        name:        Str,
        count:       i32,
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Vec::new()),
    }

    /// The nodes to put a new partition on.
    CreatePartitionsAssignment {
        broker_ids: Vec<i32>,
    }

    /// The outcome for each topic.
    CreatePartitionsResponse {
        throttle_time_ms: i32,
        results:          Vec<CreatePartitionsTopicResult>,
    }

    /// The outcome for one topic.
    CreatePartitionsTopicResult {
        name:          Str,
        error_code:    ErrorCode,
        error_message: Option<Str>,
    }
}
