//! Our shares beside those of Java's assignors: `tests/assignments/Assignments.java` has made the groups and shared them out.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::wire::Str;

use super::{Member, Racks, Shares, Topics, assign};
use crate::config::Assignor;
use crate::core::TopicPartition;
use crate::core::group::leader;

const GROUPS: &str = include_str!("../../../../tests/assignments/groups.txt");

#[derive(Default)]
struct Group {
    members: Vec<Member>,
    topics: Topics,
    /// Of Java, by the assignor's name.
    shares: BTreeMap<&'static str, Shares>,
}

fn named(text: &str) -> Option<&str> {
    (text != "-").then_some(text)
}

fn partitions(text: &str) -> Vec<TopicPartition> {
    let read = |name: &str| {
        let (topic, partition) = name.split_once(':').unwrap();
        TopicPartition { topic: topic.into(), partition: partition.parse().unwrap() }
    };
    named(text).into_iter().flat_map(|all| all.split(',')).map(read).collect()
}

fn racks(letters: &str) -> Racks {
    named(letters).unwrap_or_default().chars().map(String::from).map(Str::from).collect()
}

fn bytes(hex: &str) -> Bytes {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}

fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for line in GROUPS.lines() {
        let words: Vec<&'static str> = line.split(' ').collect();
        if words[0] == "group" {
            groups.push(Group::default());
            continue;
        }
        let group = groups.last_mut().unwrap();
        match words[0] {
            "topic" => {
                let all = words[3].split(';').take(words[2].parse().unwrap());
                group.topics.insert(words[1].into(), all.map(racks).collect());
            }
            "member" => group.members.push(Member {
                id: words[1].into(),
                instance_id: named(words[2]).map(Str::from),
                rack: named(words[3]).map(Str::from),
                topics: named(words[4]).into_iter().flat_map(|t| t.split(',')).map(Str::from).collect(),
                generation: words[5].parse().unwrap_or(-1),
                owned: partitions(words[6]),
                user_data: named(words[7]).map(bytes),
            }),
            assignor => {
                drop(group.shares.insert(assignor, words[1..].iter().map(|w| partitions(w)).collect()))
            }
        }
    }
    groups
}

fn sorted(mut shares: Shares) -> Shares {
    shares.iter_mut().for_each(|share| share.sort());
    shares
}

#[test]
fn range_and_round_robin_share_as_java_does() {
    let groups = groups();
    assert_eq!(groups.len(), 1_000);
    for (number, group) in groups.iter().enumerate() {
        for assignor in [Assignor::Range, Assignor::RoundRobin] {
            let ours = sorted(assign(&assignor, &group.members, &group.topics).unwrap());
            assert_eq!(
                ours,
                group.shares[assignor.name()],
                "{assignor:?}, group {number}: {:#?}",
                group.members
            );
        }
    }
}

/// What a result of `sticky` is judged by.
#[derive(Debug, Default, PartialEq)]
struct Quality {
    /// The sum of the squares of the sizes: the smaller, the more even.
    unevenness: usize,
    /// Partitions that an owner by the newest claim does not keep, although it is there and reads them.
    moved: usize,
    /// Partitions of which no copy stands where their new owner does.
    far: usize,
}

fn judge(group: &Group, shares: &Shares) -> Quality {
    let claims = super::super::sticky::newest_claims(&group.members);
    let mut quality = Quality::default();
    for (at, share) in shares.iter().enumerate() {
        quality.unevenness += share.len() * share.len();
        for partition in share {
            let index = usize::try_from(partition.partition).unwrap();
            let owner = claims.get(partition).and_then(|claim| claim.owner);
            let may_keep = |owner: usize| group.members[owner].topics.contains(&partition.topic);
            quality.moved += usize::from(owner.is_some_and(|owner| owner != at && may_keep(owner)));
            quality.far += usize::from(!group.members[at].is_near(&group.topics[&partition.topic][index]));
        }
    }
    quality
}

#[test]
fn sticky_is_as_even_as_java_and_moves_no_more() {
    let (mut ours, mut theirs) =
        ([Quality::default(), Quality::default()], [Quality::default(), Quality::default()]);
    let mut compared = 0;
    for (number, group) in groups().iter().enumerate() {
        let reads = |member: &Member, share: &[TopicPartition]| {
            share.iter().all(|p| member.topics.contains(&p.topic))
        };
        if !group.members.iter().zip(&group.shares["sticky"]).all(|(member, share)| reads(member, share)) {
            // Java leaves partitions with an owner who does not read their topic any more.
            continue;
        }
        compared += 1;
        let shares = assign(&Assignor::Sticky, &group.members, &group.topics).unwrap();
        let placed = |shares: &Shares| shares.iter().map(Vec::len).sum::<usize>();
        assert_eq!(placed(&shares), placed(&group.shares["sticky"]), "group {number}");
        let by_rack = usize::from(group.members.iter().any(|member| member.rack.is_some()));
        let (our, their) = (judge(group, &shares), judge(group, &group.shares["sticky"]));
        assert!(our.unevenness <= their.unevenness, "group {number}: {our:?} {their:?}");
        for (sum, one) in [(&mut ours[by_rack], our), (&mut theirs[by_rack], their)] {
            sum.unevenness += one.unevenness;
            sum.moved += one.moved;
            sum.far += one.far;
        }
    }
    assert!(compared > 900, "{compared}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(ours.moved <= theirs.moved, "{ours:?} {theirs:?}");
        // Evenness comes first, and costs a little nearness.
        assert!(ours.far * 100 <= theirs.far * 102, "{ours:?} {theirs:?}");
    }
}

#[test]
fn sticky_members_say_what_they_have_in_the_bytes_of_java() {
    let mut read = 0;
    for member in groups().iter().flat_map(|group| &group.members) {
        let Some(data) = &member.user_data else { continue };
        let said = ottla_protocol::messages::StickyUserData::from_bytes(data.clone()).unwrap();
        assert_eq!(said.to_bytes().as_ref(), Ok(data));
        let topics = said.previous.iter().flat_map(|all| {
            all.partitions
                .iter()
                .map(|partition| TopicPartition { topic: all.topic.clone(), partition: *partition })
        });
        let mut previous: Vec<_> = topics.collect();
        assert_eq!(leader::write_previous(&previous, said.generation).as_ref(), Ok(data));
        previous.sort();
        assert_eq!((&previous, said.generation), (&member.owned, member.generation));
        read += 1;
    }
    assert!(read > 1_000, "{read}");
}
