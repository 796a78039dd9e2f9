//! What the leader of a group does for the others: read what they say, and write what each of them gets.
//!
//! It owns the bytes of the consumer protocol that travel inside of JoinGroup and SyncGroup, which members of Java's client
//! read and write too. It refuses to know phases and links. Invariant: what another member wrote is never trusted to be
//! readable; who cannot be understood gets nothing.

use bytes::Bytes;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription, JoinGroupMember,
    StickyUserData, SyncGroupAssignment,
};
use ottla_protocol::wire::{DecodeError, EncodeError, Str};

use super::assign::{Member, Racks, Topics, assign};
use crate::config::Assignor;
use crate::core::cluster::Cluster;
use crate::core::{Input, TopicPartition};
use crate::error::{Error, ErrorKind};

/// Partitions to be shared among the members of one generation.
#[derive(Debug)]
pub(crate) struct Sharing {
    pub(super) group: Str,
    pub(super) generation: i32,
    pub(super) assignor: Assignor,
    pub(super) members: Vec<Member>,
    pub(super) topics: Topics,
}

impl Sharing {
    /// Shares them. It takes time and may call the user's code: nothing for a lock.
    pub(crate) fn finish(self) -> Input {
        let shares = write_shares(&self.assignor, &self.members, &self.topics).map_err(|error| {
            let message = format!("group {}, assignor {}: {error}", self.group, self.assignor.name());
            Error::new(error.kind(), message).with_source(error)
        });
        Input::Shared { generation: self.generation, shares }
    }
}

/// What a member says about itself under one assignor.
#[derive(Debug, Clone, Default)]
pub(super) struct Said<'a> {
    pub(super) topics: &'a [Str],
    /// What it has, if it keeps that while the group rebalances.
    pub(super) owned: Vec<&'a TopicPartition>,
    pub(super) generation: i32,
    pub(super) rack: Option<Str>,
    pub(super) user_data: Option<Bytes>,
}

impl Said<'_> {
    pub(super) fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        let subscription = ConsumerProtocolSubscription {
            topics: self.topics.to_vec(),
            user_data: self.user_data.clone(),
            owned_partitions: by_topic(self.owned.iter().copied()),
            generation_id: self.generation,
            rack_id: self.rack.clone(),
        };
        subscription.to_bytes(ConsumerProtocolSubscription::LATEST)
    }
}

/// What `sticky` says in its user data: everything else of it is given up before it joins.
pub(super) fn write_previous(previous: &[TopicPartition], generation: i32) -> Result<Bytes, EncodeError> {
    StickyUserData { previous: by_topic(previous), generation }.to_bytes()
}

/// The members of a JoinGroup answer. Copied, or they would hold on to the frame the answer came in.
pub(super) fn read_members(assignor: &Assignor, members: &[JoinGroupMember]) -> Vec<Member> {
    members.iter().map(|member| read_member(assignor, member)).collect()
}

fn read_member(assignor: &Assignor, member: &JoinGroupMember) -> Member {
    let said = ConsumerProtocolSubscription::from_bytes(member.metadata.clone()).unwrap_or_default();
    let (owned, generation) = match (assignor, &said.user_data) {
        (Assignor::Sticky, data) => {
            let data = data.clone().map(StickyUserData::from_bytes).and_then(Result::ok);
            data.map_or((Vec::new(), -1), |data| (flatten(&data.previous), data.generation))
        }
        // KIP-792; a member of an older client says its generation in its own data.
        (Assignor::CooperativeSticky, Some(data)) if said.generation_id < 0 => {
            let generation = data.first_chunk().map_or(-1, |bytes| i32::from_be_bytes(*bytes));
            (flatten(&said.owned_partitions), generation)
        }
        _ => (flatten(&said.owned_partitions), said.generation_id),
    };
    Member {
        id: Str::from(&*member.member_id),
        instance_id: member.group_instance_id.as_deref().map(Str::from),
        topics: said.topics.iter().map(|topic| Str::from(&**topic)).collect(),
        owned,
        generation,
        rack: said.rack_id.as_deref().filter(|rack| !rack.is_empty()).map(Str::from),
        user_data: said.user_data.map(|data| Bytes::copy_from_slice(&data)),
    }
}

/// The partitions of what all members read, as far as metadata says; with their racks only if a member says its own.
pub(super) fn topics(members: &[Member], cluster: &Cluster) -> Topics {
    let by_rack = members.iter().any(|member| member.rack.is_some());
    let read = members.iter().flat_map(|member| &member.topics);
    read.map(|topic| (topic.clone(), partitions(topic, by_rack, cluster).unwrap_or_default())).collect()
}

/// Whether a topic has other partitions, or copies of them in other racks where that decided something.
pub(super) fn have_changed(topics: &Topics, cluster: &Cluster) -> bool {
    let by_rack = topics.values().flatten().any(|racks| !racks.is_empty());
    topics.iter().any(|(topic, before)| partitions(topic, by_rack, cluster).is_some_and(|now| now != *before))
}

fn partitions(topic: &Str, by_rack: bool, cluster: &Cluster) -> Option<Vec<Racks>> {
    let known = cluster.metadata.topic(topic)?;
    let racks = |replicas: &[i32]| replicas.iter().filter_map(|node| cluster.rack(*node)).cloned().collect();
    let describe = |replicas: &[i32]| if by_rack { racks(replicas) } else { Racks::new() };
    Some(known.partitions.iter().map(|partition| describe(&partition.replicas)).collect())
}

/// What the leader sends along in its SyncGroup.
fn write_shares(
    assignor: &Assignor,
    members: &[Member],
    topics: &Topics,
) -> Result<Vec<SyncGroupAssignment>, Error> {
    let write = |(member, share): (&Member, Vec<TopicPartition>)| {
        let assignment =
            ConsumerProtocolAssignment { assigned_partitions: by_topic(&share), user_data: None };
        let assignment = assignment.to_bytes(ConsumerProtocolAssignment::LATEST).map_err(|e| {
            Error::new(ErrorKind::Protocol, format!("the shares cannot be written: {e}")).with_source(e)
        })?;
        Ok(SyncGroupAssignment { member_id: member.id.clone(), assignment })
    };
    members.iter().zip(assign(assignor, members, topics)?).map(write).collect()
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
        let owned = partitions(&[2]);
        let said = Said {
            topics: &["t".into()],
            owned: owned.iter().collect(),
            generation: 5,
            rack: Some("r".into()),
            user_data: Some(Bytes::from_static(b"\0\0\0\x05")),
        };
        let version = b"\0\x03";
        let topics = b"\0\0\0\x01\0\x01t";
        let user_data = b"\0\0\0\x04\0\0\0\x05";
        let owned = b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x02";
        let generation_and_rack = b"\0\0\0\x05\0\x01r";
        assert_eq!(
            said.to_bytes().unwrap(),
            [&version[..], topics, user_data, owned, generation_and_rack].concat()
        );
    }

    fn says(user_data: &'static [u8], owned: &[i32]) -> ConsumerProtocolSubscription {
        ConsumerProtocolSubscription {
            topics: vec!["t".into()],
            user_data: Some(Bytes::from_static(user_data)),
            owned_partitions: by_topic(&partitions(owned)),
            ..Default::default()
        }
    }

    #[test]
    fn an_older_cooperative_member_says_its_generation_in_its_own_data() {
        let said = says(b"\0\0\0\x09", &[0, 3]).to_bytes(1).unwrap();
        let members = read_members(&Assignor::CooperativeSticky, &[joined("a", said)]);
        assert_eq!((members[0].generation, &members[0].owned), (9, &partitions(&[0, 3])));
    }

    #[test]
    fn a_sticky_member_says_what_it_had_in_its_own_data_with_or_without_the_generation() {
        let check = |data: &'static [u8], owned: &[i32], generation: i32| {
            let said = says(data, &[7]).to_bytes(1).unwrap();
            let members = read_members(&Assignor::Sticky, &[joined("a", said)]);
            assert_eq!((&members[0].owned, members[0].generation), (&partitions(owned), generation));
        };
        check(b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\x09", &[0, 3], 9);
        check(b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x03", &[0, 3], -1);
        check(b"\x7f\xff\xff\xff", &[], -1);
    }

    #[test]
    fn who_cannot_be_understood_gets_nothing_and_stops_nobody() {
        let said = Said { topics: &["t".into()], generation: -1, ..Said::default() }.to_bytes().unwrap();
        let joined = [joined("a", &b"\0\x01\x7f\xff"[..]), joined("b", said)];
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky]
        {
            let members = read_members(&assignor, &joined);
            let topics = [("t".into(), vec![Racks::new(); 2])].into_iter().collect();
            let shares = write_shares(&assignor, &members, &topics).unwrap();
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
