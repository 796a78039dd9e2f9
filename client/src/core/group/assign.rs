//! How the leader of a group shares the partitions among its members: pure functions of who they are and what there is.
//!
//! It owns what every assignor sees and must give, and `roundrobin`, the shortest of them; members of Java's client in the same
//! group know all of them by the same names and rules. It refuses to know requests and metadata. Invariants: the same members
//! and topics give the same shares in whatever order they are named, and no partition is in two shares.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_protocol::wire::Str;

use super::range::range;
use super::sticky::{newest_claims, sticky};
use super::written::assign_as_written;
use crate::config::Assignor;
use crate::core::TopicPartition;
use crate::error::Error;

/// A member, as it describes itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    pub(super) id: Str,
    pub(super) instance_id: Option<Str>,
    pub(super) topics: BTreeSet<Str>,
    /// What it has, and under which generation it was given that; -1 if it does not say.
    pub(super) owned: Vec<TopicPartition>,
    pub(super) generation: i32,
    pub(super) rack: Option<Str>,
    /// What the assignor of the member says beyond that.
    pub(super) user_data: Option<Bytes>,
}

impl Member {
    /// Whether a copy of the partition stands where the member does. Who says no rack is near everything.
    pub(super) fn is_near(&self, partition: &Racks) -> bool {
        self.rack.as_ref().is_none_or(|rack| partition.contains(rack))
    }
}

/// Where the copies of a partition stand, as far as anybody knows and cares.
pub(super) type Racks = BTreeSet<Str>;

/// The partitions of each topic. A topic that is not there has none.
pub(super) type Topics = BTreeMap<Str, Vec<Racks>>;

/// The share of each member, in the order of the members.
pub(super) type Shares = Vec<Vec<TopicPartition>>;

/// Shares the topics out. Only an assignor that a user wrote can fail.
pub(super) fn assign(assignor: &Assignor, members: &[Member], topics: &Topics) -> Result<Shares, Error> {
    let mut shares = match assignor {
        Assignor::Range => range(members, topics),
        Assignor::RoundRobin => round_robin(members, topics),
        Assignor::Sticky | Assignor::CooperativeSticky => sticky(members, topics),
        Assignor::Custom(written) => assign_as_written(&**written, members, topics)?,
    };
    if assignor.is_cooperative() {
        withhold_what_moves(members, &mut shares);
    }
    Ok(shares)
}

/// A partition that changes hands is in nobody's share until its owner has given it up and joined again (KIP-429).
fn withhold_what_moves(members: &[Member], shares: &mut Shares) {
    let claims = newest_claims(members);
    for (at, share) in shares.iter_mut().enumerate() {
        share.retain(|partition| claims.get(partition).is_none_or(|claim| claim.owner == Some(at)));
    }
}

/// One partition after the other to one member after the other; who does not read its topic is passed over.
pub(super) fn round_robin(members: &[Member], topics: &Topics) -> Shares {
    let mut shares = vec![Vec::new(); members.len()];
    let mut turn = in_order(members).into_iter().cycle().peekable();
    for (topic, partitions) in topics {
        if !members.iter().any(|member| member.topics.contains(topic)) {
            continue;
        }
        for (partition, _) in (0..).zip(partitions) {
            while turn.next_if(|at| !members[*at].topics.contains(topic)).is_some() {}
            if let Some(at) = turn.next() {
                shares[at].push(TopicPartition { topic: topic.clone(), partition });
            }
        }
    }
    shares
}

/// Java's order: static members first, by their instance id, then the others by their member id.
pub(super) fn in_order(members: &[Member]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&members[*a], &members[*b]);
        match (&a.instance_id, &b.instance_id) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => a.id.cmp(&b.id),
        }
    });
    order
}

/// KIP-881: racks decide something only where members stand in the partitions' racks and these are not all in each of them.
pub(super) fn racks_matter<'a>(
    mut readers: impl Iterator<Item = &'a Member>,
    partitions: impl Iterator<Item = &'a Racks> + Clone,
) -> bool {
    let all: BTreeSet<&Str> = partitions.clone().flatten().collect();
    readers.any(|reader| reader.rack.as_ref().is_some_and(|rack| all.contains(rack)))
        && partitions.map(BTreeSet::len).any(|racks| racks != all.len())
}

#[cfg(test)]
mod java;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::backoff::Random;

    /// The shares of these members, as `member: topic0 topic1, ...`, one a line.
    fn check(assignor: Assignor, members: &[Member], counts: &[(&str, usize)], expected: &str) {
        let topics = topics(counts);
        let shares = assign(&assignor, members, &topics).unwrap();
        let line = |(member, share): (&Member, &Vec<TopicPartition>)| {
            let share: Vec<String> = share.iter().map(|p| format!("{}{}", p.topic, p.partition)).collect();
            format!("{}: {}", member.id, share.join(" "))
        };
        let lines: Vec<String> = members.iter().zip(&shares).map(line).collect();
        assert_eq!(lines.join("\n"), expected);

        let mut reversed: Vec<Member> = members.to_vec();
        reversed.reverse();
        let mut again = assign(&assignor, &reversed, &topics).unwrap();
        again.reverse();
        assert_eq!(again, shares, "the order in which members are named decides something");
    }

    fn topics(counts: &[(&str, usize)]) -> Topics {
        counts.iter().map(|(topic, count)| (Str::from(*topic), vec![Racks::new(); *count])).collect()
    }

    fn member(id: &str, topics: &str, owned: &[&str], generation: i32) -> Member {
        let owned = owned.iter().map(|name| {
            let (topic, partition) = name.split_at(1);
            TopicPartition { topic: topic.into(), partition: partition.parse().unwrap() }
        });
        let topics = topics.split_whitespace().map(Str::from).collect();
        Member { id: id.into(), topics, owned: owned.collect(), generation, ..Member::default() }
    }

    #[test]
    fn range_gives_the_first_members_one_more() {
        let members = [member("a", "t", &[], -1), member("b", "t", &[], -1), member("c", "t", &[], -1)];
        check(Assignor::Range, &members, &[("t", 7)], "a: t0 t1 t2\nb: t3 t4\nc: t5 t6");
        check(Assignor::Range, &members, &[("t", 2)], "a: t0\nb: t1\nc: ");
    }

    #[test]
    fn range_starts_anew_with_each_topic() {
        let members = [member("a", "t u", &[], -1), member("b", "t u", &[], -1)];
        check(Assignor::Range, &members, &[("t", 3), ("u", 3)], "a: t0 t1 u0 u1\nb: t2 u2");
    }

    #[test]
    fn range_shares_a_topic_among_those_who_read_it() {
        let members = [member("a", "t", &[], -1), member("b", "t u", &[], -1), member("c", "", &[], -1)];
        check(Assignor::Range, &members, &[("t", 3), ("u", 2), ("v", 1)], "a: t0 t1\nb: t2 u0 u1\nc: ");
    }

    #[test]
    fn range_puts_static_members_first_in_the_order_of_their_names() {
        let mut members = [member("a", "t", &[], -1), member("b", "t", &[], -1), member("c", "t", &[], -1)];
        members[1].instance_id = Some("pod-2".into());
        members[2].instance_id = Some("pod-1".into());
        check(Assignor::Range, &members, &[("t", 4)], "a: t3\nb: t2\nc: t0 t1");
    }

    #[test]
    fn round_robin_goes_on_where_the_topic_before_has_ended() {
        let members = [member("a", "t u", &[], -1), member("b", "t", &[], -1), member("c", "t u", &[], -1)];
        check(Assignor::RoundRobin, &members, &[("t", 4), ("u", 2)], "a: t0 t3 u1\nb: t1\nc: t2 u0");
        check(Assignor::RoundRobin, &[member("a", "", &[], -1)], &[("t", 4)], "a: ");
    }

    #[test]
    fn eager_sticky_gives_at_once_what_moves() {
        let members = [member("a", "t", &["t0", "t1", "t2", "t3"], 1), member("b", "t", &[], -1)];
        check(Assignor::Sticky, &members, &[("t", 4)], "a: t0 t1\nb: t2 t3");
    }

    #[test]
    fn sticky_balances_what_nobody_has() {
        let members = [member("a", "t", &[], -1), member("b", "t", &[], -1)];
        check(Assignor::CooperativeSticky, &members, &[("t", 5)], "a: t0 t2 t4\nb: t1 t3");
    }

    /// F11.
    #[test]
    fn sticky_withholds_what_moves_until_its_owner_has_given_it_up() {
        let before = [member("a", "t", &["t0", "t1", "t2", "t3"], 1), member("b", "t", &[], -1)];
        check(Assignor::CooperativeSticky, &before, &[("t", 4)], "a: t0 t1\nb: ");
        let after = [member("a", "t", &["t0", "t1"], 2), member("b", "t", &[], 2)];
        check(Assignor::CooperativeSticky, &after, &[("t", 4)], "a: t0 t1\nb: t2 t3");
    }

    #[test]
    fn sticky_leaves_a_balanced_group_as_it_is() {
        let members = [member("a", "t", &["t3", "t0"], 1), member("b", "t", &["t1", "t2", "t4"], 1)];
        check(Assignor::CooperativeSticky, &members, &[("t", 5)], "a: t0 t3\nb: t1 t2 t4");
    }

    #[test]
    fn sticky_gives_the_partitions_of_a_member_that_left_to_those_with_less() {
        let members = [member("a", "t", &["t0", "t1"], 3), member("b", "t", &["t2"], 3)];
        check(Assignor::CooperativeSticky, &members, &[("t", 6)], "a: t0 t1 t4\nb: t2 t3 t5");
    }

    /// Fault 56.
    #[test]
    fn the_newest_claim_wins() {
        let members = [member("a", "t", &["t0", "t1"], 3), member("b", "t", &["t0", "t2"], 4)];
        check(Assignor::CooperativeSticky, &members, &[("t", 4)], "a: t1 t3\nb: t0 t2");
    }

    /// Fault 56.
    #[test]
    fn two_claims_of_one_generation_are_both_void_and_both_have_to_give_up() {
        let members = [member("a", "t", &["t0", "t1"], 4), member("b", "t", &["t0", "t2"], 4)];
        check(Assignor::CooperativeSticky, &members, &[("t", 4)], "a: t1\nb: t2 t3");
    }

    #[test]
    fn what_is_gone_or_not_read_any_more_is_given_up() {
        let members = [member("a", "u", &["t0", "u9"], 1), member("b", "t u", &[], 1)];
        check(Assignor::CooperativeSticky, &members, &[("t", 1), ("u", 1)], "a: u0\nb: ");
    }

    #[test]
    fn topics_that_few_read_are_placed_first() {
        let members = [member("a", "t u", &[], -1), member("b", "t", &[], -1)];
        check(Assignor::CooperativeSticky, &members, &[("t", 2), ("u", 2)], "a: u0 u1\nb: t0 t1");
    }

    /// Groups that grow, shrink and change what they read, by chance: each rebalance is followed to its end as members do it.
    /// Fault 56, F11.
    #[test]
    fn sticky_never_gives_a_partition_to_two_and_ends_balanced() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mut members: Vec<Member> = Vec::new();
            let mut generation = 0;
            for step in 0..12 {
                change(&mut members, step, &mut random);
                let counts = [("t", 1 + random.below(9)), ("u", random.below(5)), ("v", random.below(3))];
                let counts = topics(&counts);
                let rounds = settle(&mut members, &counts, &mut generation);
                assert!(rounds <= 3, "seed {seed}, step {step}: {rounds} rebalances");
                assert_balanced(&members, &counts);
            }
        }
    }

    fn change(members: &mut Vec<Member>, step: usize, random: &mut Random) {
        if members.len() < 2 || random.below(3) > 0 {
            let topics = ["t", "t u", "t u v", "u v"][random.below(4)];
            members.push(member(&format!("m{step}"), topics, &[], -1));
        } else {
            members.remove(random.below(members.len()));
        }
    }

    /// Rebalances until nobody has to give anything up, and says how often.
    fn settle(members: &mut [Member], topics: &Topics, generation: &mut i32) -> usize {
        for round in 1.. {
            let owners: BTreeMap<TopicPartition, usize> = (0..members.len())
                .flat_map(|at| members[at].owned.iter().map(move |p| (p.clone(), at)))
                .collect();
            let shares = assign(&Assignor::CooperativeSticky, members, topics).unwrap();
            *generation += 1;
            let mut taken = BTreeSet::new();
            let mut again = false;
            for (at, share) in shares.iter().enumerate() {
                for partition in share {
                    assert!(taken.insert(partition.clone()), "{partition} is in two shares");
                    assert!(
                        owners.get(partition).is_none_or(|owner| *owner == at),
                        "{partition} is somebody else's still"
                    );
                }
                again |= members[at].owned.iter().any(|owned| !share.contains(owned));
                members[at].owned.clone_from(share);
                members[at].generation = *generation;
            }
            if !again {
                return round;
            }
        }
        unreachable!("the loop ends by returning")
    }

    fn assert_balanced(members: &[Member], topics: &Topics) {
        let read = |topic: &Str| members.iter().any(|member| member.topics.contains(topic));
        let all: usize = topics.iter().filter(|(topic, _)| read(topic)).map(|(_, all)| all.len()).sum();
        let placed: usize = members.iter().map(|member| member.owned.len()).sum();
        assert_eq!(all, placed, "everything that is read has an owner");
        for from in members {
            for to in members {
                let movable = from.owned.iter().any(|partition| to.topics.contains(&partition.topic));
                assert!(
                    !movable || from.owned.len() <= to.owned.len() + 1,
                    "{} could give {} one",
                    from.id,
                    to.id
                );
            }
        }
    }

    #[test]
    fn a_member_that_joins_takes_no_more_than_its_share() {
        let owned: Vec<String> = (0..12).map(|partition| format!("t{partition}")).collect();
        let owned: Vec<&str> = owned.iter().map(String::as_str).collect();
        let mut members =
            [member("a", "t", &owned[..6], 1), member("b", "t", &owned[6..], 1), member("c", "t", &[], -1)];
        let before = members.clone();
        settle(&mut members, &topics(&[("t", 12)]), &mut 1);
        assert_eq!(members.each_ref().map(|member| member.owned.len()), [4, 4, 4]);
        for (before, after) in before.iter().zip(&members).take(2) {
            assert!(after.owned.iter().all(|partition| before.owned.contains(partition)));
        }
    }

    struct Written(bool, Vec<Vec<(&'static str, i32)>>);

    impl crate::PartitionAssignor for Written {
        fn name(&self) -> &str {
            "written"
        }

        fn is_cooperative(&self) -> bool {
            self.0
        }

        fn assign(&self, _: &[crate::Subscriber], _: &BTreeMap<String, i32>) -> Vec<Vec<(String, i32)>> {
            assert!(!self.1.is_empty(), "a defect of the user");
            let named = |share: &Vec<(&str, i32)>| share.iter().map(|(t, p)| (t.to_string(), *p)).collect();
            self.1.iter().map(named).collect()
        }
    }

    #[test]
    fn a_written_assignor_is_followed_and_what_moves_is_withheld_if_it_is_cooperative() {
        let written = |cooperative| {
            Assignor::Custom(std::sync::Arc::new(Written(cooperative, vec![vec![("t", 1)], vec![("t", 0)]])))
        };
        let members = [member("a", "t", &["t0"], 1), member("b", "t", &[], 1)];
        let shares = |cooperative| assign(&written(cooperative), &members, &topics(&[("t", 2)])).unwrap();
        let t = |partition| TopicPartition { topic: "t".into(), partition };
        assert_eq!((shares(false), shares(true)), (vec![vec![t(1)], vec![t(0)]], vec![vec![t(1)], vec![]]));
    }

    #[test]
    fn a_written_assignor_is_not_trusted() {
        #[track_caller]
        fn refuse(given: Vec<Vec<(&'static str, i32)>>, text: &str) {
            let assignor = Assignor::Custom(std::sync::Arc::new(Written(false, given)));
            let members = [member("a", "t", &[], 1), member("b", "t u", &[], 1)];
            let error = assign(&assignor, &members, &topics(&[("t", 2), ("u", 1)])).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        refuse(vec![], "panicked");
        refuse(vec![vec![]], "gave 1 shares to 2 members");
        refuse(vec![vec![("u", 0)], vec![]], "gave u-0 to a, who does not read that topic");
        refuse(vec![vec![("t", 2)], vec![]], "gave t-2 to a, and there is no such partition");
        refuse(vec![vec![("t", -1)], vec![]], "there is no such partition");
        refuse(vec![vec![("t", 0)], vec![("t", 0)]], "gave t-0 to b and to another share");
    }
}
