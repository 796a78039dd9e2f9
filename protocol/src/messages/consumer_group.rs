//! Groups whose partitions the broker assigns (KIP-848).

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::{Str, Uuid};

message! {
    /// Joins a consumer group, keeps a member alive, reports and receives what it owns (KIP-848). A member leaves by
    /// epoch -1.
    ConsumerGroupHeartbeatRequest: key 68, versions 0..=1, flexible 0, answer ConsumerGroupHeartbeatResponse {
        group_id:               Str,
        member_id:              Str,
        member_epoch:           i32,
        instance_id:            Option<Str>,
        rack_id:                Option<Str>,
        rebalance_timeout_ms:   i32                                     = -1,
        subscribed_topic_names: Option<Vec<Str>>,
        subscribed_topic_regex: Option<Str>                       [1..],
        server_assignor:        Option<Str>,
        topic_partitions:       Option<Vec<GroupTopicPartitions>>,
    }

    /// Partitions of one topic.
    GroupTopicPartitions {
        topic_id:   Uuid,
        partitions: Vec<i32>,
    }

    /// The member's epoch, and its share when that has changed.
    ConsumerGroupHeartbeatResponse {
        throttle_time_ms:      i32,
        error_code:            ErrorCode,
        error_message:         Option<Str>,
        member_id:             Option<Str>,
        member_epoch:          i32,
        heartbeat_interval_ms: i32,
        assignment:            Option<GroupAssignment>,
    }

    /// What a member should own.
    GroupAssignment {
        topic_partitions: Vec<GroupTopicPartitions>,
    }

    /// Asks for the state and the members of consumer groups (KIP-848).
    ConsumerGroupDescribeRequest: key 69, versions 0..=1, flexible 0, answer ConsumerGroupDescribeResponse {
        group_ids:                     Vec<Str>,
        include_authorized_operations: bool,
    }

    /// The groups.
    ConsumerGroupDescribeResponse {
        throttle_time_ms: i32,
        groups:           Vec<DescribedConsumerGroup>,
    }

    /// A consumer group.
    DescribedConsumerGroup {
        error_code:            ErrorCode,
        error_message:         Option<Str>,
        group_id:              Str,
        group_state:           Str,
        group_epoch:           i32,
        assignment_epoch:      i32,
        assignor_name:         Str,
        members:               Vec<DescribedConsumerGroupMember>,
        authorized_operations: i32                               = i32::MIN,
    }

    /// A member of a consumer group.
    DescribedConsumerGroupMember {
        member_id:              Str,
        instance_id:            Option<Str>,
        rack_id:                Option<Str>,
        member_epoch:           i32,
        client_id:              Str,
        client_host:            Str,
        subscribed_topic_names: Vec<Str>,
        subscribed_topic_regex: Option<Str>,
        assignment:             DescribedGroupAssignment,
        target_assignment:      DescribedGroupAssignment,
        member_type:            i8                       [1..] = -1,
    }

    /// What a member owns, or should own.
    DescribedGroupAssignment {
        topic_partitions: Vec<DescribedGroupTopicPartitions>,
    }

    /// Partitions of one topic, which is named for people to read.
    DescribedGroupTopicPartitions {
        topic_id:   Uuid,
        topic_name: Str,
        partitions: Vec<i32>,
    }
}
