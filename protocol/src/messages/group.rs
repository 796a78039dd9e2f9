//! Classic groups: the requests, and what members tell each other inside them.

use bytes::{Bytes, BytesMut};

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::{DecodeError, Decoder, EncodeError, Encoder, Str, Wire};

message! {
    /// Joins a classic group, or joins it again. The answer comes when the whole group has joined.
    JoinGroupRequest: key 11, versions 0..=9, flexible 6, answer JoinGroupResponse {
        group_id:             Str,
        session_timeout_ms:   i32,
        rebalance_timeout_ms: i32                    [1..] = -1,
        member_id:            Str,
        group_instance_id:    Option<Str>            [5..],
        protocol_type:        Str,
        protocols:            Vec<JoinGroupProtocol>,
        reason:               Option<Str>            [8..],
    }

    /// An assignor that the member has, with what it tells that assignor.
    JoinGroupProtocol {
        name:     Str,
        metadata: Bytes,
    }

    /// The generation; for the leader also its members.
    JoinGroupResponse {
        throttle_time_ms: i32                  [2..],
        error_code:       ErrorCode,
        generation_id:    i32                             = -1,
        protocol_type:    Option<Str>          [7..],
        protocol_name:    Option<Str>          [null 7..] = Some(Str::default()),
        leader:           Str,
        skip_assignment:  bool                 [9..],
        member_id:        Str,
        members:          Vec<JoinGroupMember>,
    }

    /// A member, as the leader sees it.
    JoinGroupMember {
        member_id:         Str,
        group_instance_id: Option<Str> [5..],
        metadata:          Bytes,
    }

    /// Asks for the member's share, and brings all shares when the leader asks.
    SyncGroupRequest: key 14, versions 0..=5, flexible 4, answer SyncGroupResponse {
        group_id:          Str,
        generation_id:     i32,
        member_id:         Str,
        group_instance_id: Option<Str>              [3..],
        protocol_type:     Option<Str>              [5..],
        protocol_name:     Option<Str>              [5..],
        assignments:       Vec<SyncGroupAssignment>,
    }

    /// The share of one member.
    SyncGroupAssignment {
        member_id:  Str,
        assignment: Bytes,
    }

    /// The member's share.
    SyncGroupResponse {
        throttle_time_ms: i32         [1..],
        error_code:       ErrorCode,
        protocol_type:    Option<Str> [5..],
        protocol_name:    Option<Str> [5..],
        assignment:       Bytes,
    }

    /// Keeps a member of a classic group alive.
    HeartbeatRequest: key 12, versions 0..=4, flexible 4, answer HeartbeatResponse {
        group_id:          Str,
        generation_id:     i32,
        member_id:         Str,
        group_instance_id: Option<Str> [3..],
    }

    /// Whether the generation still holds.
    HeartbeatResponse {
        throttle_time_ms: i32       [1..],
        error_code:       ErrorCode,
    }

    /// Takes members out of a classic group: one until version 2, many from version 3 (KIP-345).
    LeaveGroupRequest: key 13, versions 0..=5, flexible 4, answer LeaveGroupResponse {
        group_id:  Str,
        member_id: Str                [..=2],
        members:   Vec<LeavingMember> [3..],
    }

    /// A member that leaves.
    LeavingMember {
        member_id:         Str,
        group_instance_id: Option<Str>,
        reason:            Option<Str> [5..],
    }

    /// Whether the members are gone.
    LeaveGroupResponse {
        throttle_time_ms: i32             [1..],
        error_code:       ErrorCode,
        members:          Vec<LeftMember> [3..],
    }

    /// The outcome for one member.
    LeftMember {
        member_id:         Str,
        group_instance_id: Option<Str> = Some(Str::default()),
        error_code:        ErrorCode,
    }

    /// Asks for the state and the members of classic groups.
    DescribeGroupsRequest: key 15, versions 0..=6, flexible 5, answer DescribeGroupsResponse {
        groups:                        Vec<Str>,
        include_authorized_operations: bool     [3..],
    }

    /// The groups.
    DescribeGroupsResponse {
        throttle_time_ms: i32                 [1..],
        groups:           Vec<DescribedGroup>,
    }

    /// A classic group.
    DescribedGroup {
        error_code:            ErrorCode,
        error_message:         Option<Str>               [6..],
        group_id:              Str,
        group_state:           Str,
        protocol_type:         Str,
        protocol_data:         Str,
        members:               Vec<DescribedGroupMember>,
        authorized_operations: i32                       [3..] = i32::MIN,
    }

    /// A member of a classic group.
    DescribedGroupMember {
        member_id:         Str,
        group_instance_id: Option<Str> [4..],
        client_id:         Str,
        client_host:       Str,
        member_metadata:   Bytes,
        member_assignment: Bytes,
    }

    /// Asks which groups a node coordinates. Filters by state: KIP-518. By type: KIP-848.
    ListGroupsRequest: key 16, versions 0..=5, flexible 3, answer ListGroupsResponse {
        states_filter: Vec<Str> [4..],
        types_filter:  Vec<Str> [5..],
    }

    /// The groups.
    ListGroupsResponse {
        throttle_time_ms: i32              [1..],
        error_code:       ErrorCode,
        groups:           Vec<ListedGroup>,
    }

    /// A group of any type.
    ListedGroup {
        group_id:      Str,
        protocol_type: Str,
        group_state:   Str [4..],
        group_type:    Str [5..],
    }

    /// Deletes groups that have no members.
    DeleteGroupsRequest: key 42, versions 0..=3, flexible 2, answer DeleteGroupsResponse {
        groups_names: Vec<Str>,
    }

    /// The outcome for each group.
    DeleteGroupsResponse {
        throttle_time_ms: i32,
        results:          Vec<DeletedGroup>,
    }

    /// The outcome for one group.
    DeletedGroup {
        group_id:      Str,
        error_code:    ErrorCode,
        error_message: Option<Str> [3..],
    }

    /// What a member of a classic group of consumers tells the leader. On the wire its version leads as an `i16`. Owned
    /// partitions: KIP-429. Rack: KIP-881.
    ConsumerProtocolSubscription {
        topics:           Vec<Str>,
        user_data:        Option<Bytes>,
        owned_partitions: Vec<ConsumerProtocolPartitions> [1..],
        generation_id:    i32                             [2..] = -1,
        rack_id:          Option<Str>                     [3..],
    }

    /// Partitions of one topic.
    ConsumerProtocolPartitions {
        topic:      Str,
        partitions: Vec<i32>,
    }

    /// What the leader of a classic group of consumers tells a member. On the wire its version leads as an `i16`.
    ConsumerProtocolAssignment {
        assigned_partitions: Vec<ConsumerProtocolPartitions>,
        user_data:           Option<Bytes>,
    }

    /// What a member of the assignor `sticky` says in its user data: what it was given last. No version leads it; older
    /// members leave the generation out.
    StickyUserData {
        previous:   Vec<ConsumerProtocolPartitions>,
        generation: i32                             [1..] = -1,
    }
}

impl StickyUserData {
    /// The bytes, with the generation.
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        let mut bytes = BytesMut::new();
        self.encode(&mut Encoder::new(&mut bytes, 1, false))?;
        Ok(bytes.freeze())
    }

    /// Reads what another member wrote, with or without the generation.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let with_generation = Self::decode(&mut Decoder::new(bytes.clone(), 1, false));
        with_generation.or_else(|_| Self::decode(&mut Decoder::new(bytes, 0, false)))
    }
}

macro_rules! led_by_version {
    ($($name:ident)*) => { $(
        impl $name {
            /// The newest version that this crate writes.
            pub const LATEST: i16 = 3;

            /// The bytes that travel inside of JoinGroup or SyncGroup.
            pub fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
                if !(0..=Self::LATEST).contains(&version) {
                    let name = stringify!($name);
                    return Err(EncodeError::Version { name, version, min: 0, max: Self::LATEST });
                }
                let mut bytes = BytesMut::new();
                let mut out = Encoder::new(&mut bytes, version, false);
                version.encode(&mut out)?;
                self.encode(&mut out)?;
                Ok(bytes.freeze())
            }

            /// Reads what another member wrote. A version newer than ours begins like ours and is read as ours.
            pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
                let mut input = Decoder::new(bytes, 0, false);
                let version = i16::decode(&mut input)?;
                if version < 0 {
                    return Err(DecodeError::Version { at: 0, version });
                }
                Self::decode(&mut input.at_version(version.min(Self::LATEST)))
            }
        }
    )* };
}

led_by_version! { ConsumerProtocolSubscription ConsumerProtocolAssignment }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_of_a_future_version_is_read_as_the_newest_we_know() {
        let topics = vec![Str::from_static("orders")];
        let subscription = ConsumerProtocolSubscription { topics, generation_id: 7, ..Default::default() };
        let mut bytes = subscription.to_bytes(3).expect("is a version").to_vec();
        bytes[..2].copy_from_slice(&99i16.to_be_bytes());
        bytes.extend(b"what a future version adds");
        assert_eq!(ConsumerProtocolSubscription::from_bytes(bytes.into()), Ok(subscription));
    }

    #[test]
    fn a_subscription_of_a_negative_version_is_refused() {
        let bytes = Bytes::from_static(&[0xff, 0xfe, 0, 0, 0, 0]);
        let error = ConsumerProtocolSubscription::from_bytes(bytes).expect_err("is no version");
        assert_eq!(error, DecodeError::Version { at: 0, version: -2 });
    }

    #[test]
    fn an_assignment_has_the_layout_of_kafka() {
        let partitions = ConsumerProtocolPartitions { topic: "t".into(), partitions: vec![0, 258] };
        let assignment =
            ConsumerProtocolAssignment { assigned_partitions: vec![partitions], user_data: None };
        let bytes = assignment.to_bytes(1).expect("is a version");
        let expected = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\x01\x02\xff\xff\xff\xff";
        assert_eq!(bytes, &expected[..]);
        assert_eq!(ConsumerProtocolAssignment::from_bytes(bytes), Ok(assignment));
    }
}
