//! What the leader of a group does for the others: read what they say, and write what each of them gets.
//!
//! It owns the bytes of the consumer protocol that travel inside of JoinGroup and SyncGroup, which members of Java's client
//! read and write too. It refuses to know phases and links. Invariant: what another member wrote is never trusted to be
//! readable; who cannot be understood gets nothing.

use bytes::Bytes;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription, JoinGroupMember,
    SyncGroupAssignment,
};
use ottla_protocol::wire::{DecodeError, EncodeError, Str};

use super::assign::{Counts, Member, cooperative_sticky, range};
use crate::config::Assignor;
use crate::core::TopicPartition;
use crate::core::metadata::Metadata;

/// What a member says about itself under one assignor.
pub(super) fn write_subscription<'a>(
    assignor: Assignor,
    topics: &[Str],
    owned: impl IntoIterator<Item = &'a TopicPartition>,
    generation: i32,
    rack: Option<Str>,
) -> Result<Bytes, EncodeError> {
    // Java's sticky members before 3.2 look for the generation here.
    let user_data = match assignor {
        Assignor::CooperativeSticky => Some(Bytes::copy_from_slice(&generation.to_be_bytes())),
        Assignor::Range => None,
    };
    let subscription = ConsumerProtocolSubscription {
        topics: topics.to_vec(),
        user_data,
        owned_partitions: by_topic(owned),
        generation_id: generation,
        rack_id: rack,
    };
    subscription.to_bytes(ConsumerProtocolSubscription::LATEST)
}

/// The members of a JoinGroup answer. Copied, or they would hold on to the frame the answer came in.
pub(super) fn read_members(members: &[JoinGroupMember]) -> Vec<Member> {
    members.iter().map(read_member).collect()
}

fn read_member(member: &JoinGroupMember) -> Member {
    let said = ConsumerProtocolSubscription::from_bytes(member.metadata.clone()).unwrap_or_default();
    // KIP-792; a sticky member of an older client says it in its own data.
    let generation = match &said.user_data {
        Some(data) if said.generation_id < 0 => {
            data.first_chunk().map_or(-1, |bytes| i32::from_be_bytes(*bytes))
        }
        _ => said.generation_id,
    };
    Member {
        id: Str::from(&*member.member_id),
        instance_id: member.group_instance_id.as_deref().map(Str::from),
        topics: said.topics.iter().map(|topic| Str::from(&**topic)).collect(),
        owned: flatten(&said.owned_partitions),
        generation,
    }
}

/// How many partitions the topics of all members have, as far as metadata says.
pub(super) fn count(members: &[Member], metadata: &Metadata) -> Counts {
    let topics = members.iter().flat_map(|member| &member.topics);
    let partitions = |topic: &Str| metadata.topic(topic).map_or(0, |known| known.partitions.len());
    topics.map(|topic| (topic.clone(), i32::try_from(partitions(topic)).unwrap_or(i32::MAX))).collect()
}

/// What the leader sends along in its SyncGroup.
pub(super) fn write_shares(
    assignor: Assignor,
    members: &[Member],
    counts: &Counts,
) -> Result<Vec<SyncGroupAssignment>, EncodeError> {
    let shares = match assignor {
        Assignor::Range => range(members, counts),
        Assignor::CooperativeSticky => cooperative_sticky(members, counts),
    };
    let write = |(member, share): (&Member, Vec<TopicPartition>)| {
        let assignment =
            ConsumerProtocolAssignment { assigned_partitions: by_topic(&share), user_data: None };
        let assignment = assignment.to_bytes(ConsumerProtocolAssignment::LATEST)?;
        Ok(SyncGroupAssignment { member_id: member.id.clone(), assignment })
    };
    members.iter().zip(shares).map(write).collect()
}

/// What the leader gave this member. Empty bytes are an empty share.
pub(super) fn read_share(assignment: Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    ConsumerProtocolAssignment::from_bytes(assignment).map(|share| flatten(&share.assigned_partitions))
}

/// Neighbours of one topic in one entry.
fn by_topic<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Vec<ConsumerProtocolPartitions> {
    let mut topics: Vec<ConsumerProtocolPartitions> = Vec::new();
    for TopicPartition { topic, partition } in partitions {
        match topics.last_mut().filter(|last| last.topic == *topic) {
            Some(last) => last.partitions.push(*partition),
            None => {
                topics.push(ConsumerProtocolPartitions { topic: topic.clone(), partitions: vec![*partition] })
            }
        }
    }
    topics
}

fn flatten(topics: &[ConsumerProtocolPartitions]) -> Vec<TopicPartition> {
    let of_topic = |named: &ConsumerProtocolPartitions| {
        let topic = Str::from(&*named.topic);
        let partition = |partition: &i32| TopicPartition { topic: topic.clone(), partition: *partition };
        named.partitions.iter().map(partition).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(of_t: &[i32]) -> Vec<TopicPartition> {
        of_t.iter().map(|partition| TopicPartition { topic: "t".into(), partition: *partition }).collect()
    }

    fn joined(id: &str, metadata: impl Into<Bytes>) -> JoinGroupMember {
        JoinGroupMember { member_id: id.into(), group_instance_id: None, metadata: metadata.into() }
    }

    #[test]
    fn a_subscription_has_the_layout_of_java() {
        let rack = Some("r".into());
        let bytes =
            write_subscription(Assignor::CooperativeSticky, &["t".into()], &partitions(&[2]), 5, rack);
        let version = b"\0\x03";
        let topics = b"\0\0\0\x01\0\x01t";
        let user_data = b"\0\0\0\x04\0\0\0\x05";
        let owned = b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x02";
        let generation_and_rack = b"\0\0\0\x05\0\x01r";
        assert_eq!(bytes.unwrap(), [&version[..], topics, user_data, owned, generation_and_rack].concat());
    }

    #[test]
    fn an_older_sticky_member_says_its_generation_in_its_own_data() {
        let said = ConsumerProtocolSubscription {
            topics: vec!["t".into()],
            user_data: Some(Bytes::from_static(b"\0\0\0\x09")),
            owned_partitions: by_topic(&partitions(&[0, 3])),
            ..Default::default()
        };
        let members = read_members(&[joined("a", said.to_bytes(1).unwrap())]);
        assert_eq!((members[0].generation, &members[0].owned), (9, &partitions(&[0, 3])));
    }

    #[test]
    fn who_cannot_be_understood_gets_nothing_and_stops_nobody() {
        let said = write_subscription(Assignor::Range, &["t".into()], &[], -1, None).unwrap();
        let members = read_members(&[joined("a", &b"\0\x01\x7f\xff"[..]), joined("b", said)]);
        for assignor in [Assignor::Range, Assignor::CooperativeSticky] {
            let shares = write_shares(assignor, &members, &[("t".into(), 2)].into_iter().collect()).unwrap();
            let read = |at: usize| read_share(shares[at].assignment.clone()).unwrap();
            assert_eq!((read(0), read(1)), (vec![], partitions(&[0, 1])), "{assignor:?}");
        }
    }

    #[test]
    fn a_share_without_bytes_is_empty_and_a_damaged_one_an_error() {
        assert_eq!(read_share(Bytes::new()), Ok(Vec::new()));
        assert!(read_share(Bytes::from_static(b"\0\x01\x7f\xff\xff\xff")).is_err());
    }
}
