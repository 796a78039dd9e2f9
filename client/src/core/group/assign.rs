//! How the leader of a group shares the partitions among its members: pure functions of who they are and what there is.
//!
//! It owns the two assignors, `range` and `cooperative-sticky`, which members of Java's client in the same group know by the
//! same names and rules. It refuses to know requests and metadata. Invariants: the same members and topics give the same
//! shares in whatever order they are named, and no partition is in two shares.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::wire::Str;

use crate::core::TopicPartition;

/// A member, as it describes itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    pub(super) id: Str,
    pub(super) instance_id: Option<Str>,
    pub(super) topics: BTreeSet<Str>,
    /// What it has, and under which generation it was given that; -1 if it does not say.
    pub(super) owned: Vec<TopicPartition>,
    pub(super) generation: i32,
}

/// How many partitions each topic has. A topic that is not there has none.
pub(super) type Counts = BTreeMap<Str, i32>;

/// The share of each member, in the order of the members.
pub(super) type Shares = Vec<Vec<TopicPartition>>;

/// Neighbouring partitions, topic by topic: the first members get one more where it does not come out even.
pub(super) fn range(members: &[Member], counts: &Counts) -> Shares {
    let mut shares = vec![Vec::new(); members.len()];
    let order = in_order(members);
    for (topic, &count) in counts {
        let subscribers: Vec<usize> =
            order.iter().copied().filter(|at| members[*at].topics.contains(topic)).collect();
        let mut left = subscribers.len();
        let mut next = 0;
        for at in subscribers {
            let divisor = i32::try_from(left).unwrap_or(i32::MAX);
            // What is left, divided by those who are left and rounded up: who comes first has the remainder.
            let end =
                next + (count - next).div_euclid(divisor) + i32::from((count - next).rem_euclid(divisor) > 0);
            shares[at]
                .extend((next..end).map(|partition| TopicPartition { topic: topic.clone(), partition }));
            (next, left) = (end, left - 1);
        }
    }
    shares
}

/// Balanced, and each member keeps what it has where it can. A partition that changes hands is in nobody's share until its
/// owner has given it up and joined again (KIP-429).
pub(super) fn cooperative_sticky(members: &[Member], counts: &Counts) -> Shares {
    let mut plan = Plan::new(members, counts);
    plan.place_what_nobody_has();
    plan.balance();
    let claims = &plan.claims;
    let may_have = |at: usize, partition: &TopicPartition| match claims.get(partition) {
        Some(claim) => claim.owner == Some(at),
        None => true,
    };
    let list =
        |(at, share): (usize, &Share)| share.list().filter(|partition| may_have(at, partition)).collect();
    plan.shares.iter().enumerate().map(list).collect()
}

/// Java's order: static members first, by their instance id, then the others by their member id.
fn in_order(members: &[Member]) -> Vec<usize> {
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

/// Who says that a partition is his.
#[derive(Debug)]
struct Claim {
    generation: i32,
    /// Nobody, if two say so under the same generation: both have to give it up.
    owner: Option<usize>,
}

/// What a member is to have, by topic.
#[derive(Debug, Clone, Default)]
struct Share {
    topics: BTreeMap<Str, BTreeSet<i32>>,
    size: usize,
}

impl Share {
    fn insert(&mut self, topic: &Str, partition: i32) {
        self.size += usize::from(self.topics.entry(topic.clone()).or_default().insert(partition));
    }

    fn remove(&mut self, topic: &Str, partition: i32) {
        self.size -= usize::from(self.topics.get_mut(topic).is_some_and(|has| has.remove(&partition)));
    }

    fn count(&self, topic: &Str) -> usize {
        self.topics.get(topic).map_or(0, BTreeSet::len)
    }

    fn list(&self) -> impl Iterator<Item = TopicPartition> {
        let of_topic = |(topic, partitions): (&Str, &BTreeSet<i32>)| {
            let name = |partition: &i32| TopicPartition { topic: topic.clone(), partition: *partition };
            partitions.iter().map(name).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic)
    }
}

#[derive(Debug)]
struct Plan<'a> {
    members: &'a [Member],
    counts: &'a Counts,
    /// Positions of the members in Java's order, to break ties.
    order: Vec<usize>,
    claims: BTreeMap<TopicPartition, Claim>,
    shares: Vec<Share>,
}

impl<'a> Plan<'a> {
    /// Everybody with what is his by the newest claim (KIP-792).
    fn new(members: &'a [Member], counts: &'a Counts) -> Self {
        let order = in_order(members);
        let mut claims: BTreeMap<TopicPartition, Claim> = BTreeMap::new();
        for &at in &order {
            let generation = members[at].generation;
            for partition in members[at].owned.iter().collect::<BTreeSet<_>>() {
                let fresh = Claim { generation, owner: Some(at) };
                match claims.get_mut(partition) {
                    None => drop(claims.insert(partition.clone(), fresh)),
                    Some(claim) if claim.generation < generation => *claim = fresh,
                    Some(claim) if claim.generation == generation => claim.owner = None,
                    Some(_) => {}
                }
            }
        }
        let mut shares = vec![Share::default(); members.len()];
        for (TopicPartition { topic, partition }, claim) in &claims {
            let exists = counts.get(topic).is_some_and(|count| (0..*count).contains(partition));
            if let Some(owner) = claim.owner.filter(|owner| exists && members[*owner].topics.contains(topic))
            {
                shares[owner].insert(topic, *partition);
            }
        }
        Self { members, counts, order, claims, shares }
    }

    /// Gives each free partition to the member with the smallest share; topics that few read go first.
    fn place_what_nobody_has(&mut self) {
        let mut topics: Vec<(Vec<usize>, &Str, i32)> = Vec::new();
        for (topic, count) in self.counts {
            let reads = |at: &usize| self.members[*at].topics.contains(topic);
            topics.push((self.order.iter().copied().filter(reads).collect(), topic, *count));
        }
        topics.sort_by_key(|(readers, ..)| readers.len());
        for (readers, topic, count) in topics {
            let owned: Vec<&BTreeSet<i32>> =
                self.shares.iter().filter_map(|share| share.topics.get(topic)).collect();
            let free: Vec<i32> =
                (0..count).filter(|p| !owned.iter().any(|owned| owned.contains(p))).collect();
            for partition in free {
                let size = |at: &usize| (self.shares[*at].size, self.shares[*at].count(topic));
                if let Some(smallest) = readers.iter().copied().min_by_key(size) {
                    self.shares[smallest].insert(topic, partition);
                }
            }
        }
    }

    /// Moves one partition at a time from a larger to a smaller share, until no move makes two shares more equal. Each move
    /// makes the sum of the squares of their sizes smaller, so there is an end.
    fn balance(&mut self) {
        while let Some((topic, partition, from, to)) = self.next_move() {
            self.shares[from].remove(&topic, partition);
            self.shares[to].insert(&topic, partition);
        }
    }

    fn next_move(&self) -> Option<(Str, i32, usize, usize)> {
        let mut by_size = self.order.clone();
        by_size.sort_by_key(|at| self.shares[*at].size);
        for &from in by_size.iter().rev() {
            for &to in &by_size {
                if self.shares[from].size < self.shares[to].size + 2 {
                    break;
                }
                if let Some((topic, partition)) = self.movable(from, to) {
                    return Some((topic, partition, from, to));
                }
            }
        }
        None
    }

    /// Of the topic of which `from` has most more than `to`, the last partition; rather one that `from` does not have yet.
    fn movable(&self, from: usize, to: usize) -> Option<(Str, i32)> {
        let (from_share, to_share) = (&self.shares[from], &self.shares[to]);
        let topics = self.members[to].topics.iter().filter(|topic| from_share.count(topic) > 0);
        let topic =
            topics.max_by_key(|topic| from_share.count(topic).saturating_sub(to_share.count(topic)))?;
        let is_new = |partition: &&i32| {
            let named = TopicPartition { topic: topic.clone(), partition: **partition };
            self.claims.get(&named).is_none_or(|claim| claim.owner != Some(from))
        };
        let has = from_share.topics.get(topic)?;
        let partition = has.iter().rev().find(is_new).or_else(|| has.last())?;
        Some((topic.clone(), *partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::backoff::Random;

    /// The shares of these members, as `member: topic0 topic1, ...`, one a line.
    fn check(
        assignor: fn(&[Member], &Counts) -> Shares,
        members: &[Member],
        counts: &[(&str, i32)],
        expected: &str,
    ) {
        let counts: Counts = counts.iter().map(|(topic, count)| (Str::from(*topic), *count)).collect();
        let shares = assignor(members, &counts);
        let line = |(member, share): (&Member, &Vec<TopicPartition>)| {
            let share: Vec<String> = share.iter().map(|p| format!("{}{}", p.topic, p.partition)).collect();
            format!("{}: {}", member.id, share.join(" "))
        };
        let lines: Vec<String> = members.iter().zip(&shares).map(line).collect();
        assert_eq!(lines.join("\n"), expected);

        let mut reversed: Vec<Member> = members.to_vec();
        reversed.reverse();
        let mut again = assignor(&reversed, &counts);
        again.reverse();
        assert_eq!(again, shares, "the order in which members are named decides something");
    }

    fn member(id: &str, topics: &str, owned: &[&str], generation: i32) -> Member {
        let owned = owned.iter().map(|name| {
            let (topic, partition) = name.split_at(1);
            TopicPartition { topic: topic.into(), partition: partition.parse().unwrap() }
        });
        let topics = topics.split_whitespace().map(Str::from).collect();
        Member { id: id.into(), instance_id: None, topics, owned: owned.collect(), generation }
    }

    #[test]
    fn range_gives_the_first_members_one_more() {
        let members = [member("a", "t", &[], -1), member("b", "t", &[], -1), member("c", "t", &[], -1)];
        check(range, &members, &[("t", 7)], "a: t0 t1 t2\nb: t3 t4\nc: t5 t6");
        check(range, &members, &[("t", 2)], "a: t0\nb: t1\nc: ");
    }

    #[test]
    fn range_starts_anew_with_each_topic() {
        let members = [member("a", "t u", &[], -1), member("b", "t u", &[], -1)];
        check(range, &members, &[("t", 3), ("u", 3)], "a: t0 t1 u0 u1\nb: t2 u2");
    }

    #[test]
    fn range_shares_a_topic_among_those_who_read_it() {
        let members = [member("a", "t", &[], -1), member("b", "t u", &[], -1), member("c", "", &[], -1)];
        check(range, &members, &[("t", 3), ("u", 2), ("v", 1)], "a: t0 t1\nb: t2 u0 u1\nc: ");
    }

    #[test]
    fn range_puts_static_members_first_in_the_order_of_their_names() {
        let mut members = [member("a", "t", &[], -1), member("b", "t", &[], -1), member("c", "t", &[], -1)];
        members[1].instance_id = Some("pod-2".into());
        members[2].instance_id = Some("pod-1".into());
        check(range, &members, &[("t", 4)], "a: t3\nb: t2\nc: t0 t1");
    }

    #[test]
    fn sticky_balances_what_nobody_has() {
        let members = [member("a", "t", &[], -1), member("b", "t", &[], -1)];
        check(cooperative_sticky, &members, &[("t", 5)], "a: t0 t2 t4\nb: t1 t3");
    }

    #[test]
    fn sticky_withholds_what_moves_until_its_owner_has_given_it_up() {
        let before = [member("a", "t", &["t0", "t1", "t2", "t3"], 1), member("b", "t", &[], -1)];
        check(cooperative_sticky, &before, &[("t", 4)], "a: t0 t1\nb: ");
        let after = [member("a", "t", &["t0", "t1"], 2), member("b", "t", &[], 2)];
        check(cooperative_sticky, &after, &[("t", 4)], "a: t0 t1\nb: t2 t3");
    }

    #[test]
    fn sticky_leaves_a_balanced_group_as_it_is() {
        let members = [member("a", "t", &["t3", "t0"], 1), member("b", "t", &["t1", "t2", "t4"], 1)];
        check(cooperative_sticky, &members, &[("t", 5)], "a: t0 t3\nb: t1 t2 t4");
    }

    #[test]
    fn sticky_gives_the_partitions_of_a_member_that_left_to_those_with_less() {
        let members = [member("a", "t", &["t0", "t1"], 3), member("b", "t", &["t2"], 3)];
        check(cooperative_sticky, &members, &[("t", 6)], "a: t0 t1 t4\nb: t2 t3 t5");
    }

    #[test]
    fn the_newest_claim_wins() {
        let members = [member("a", "t", &["t0", "t1"], 3), member("b", "t", &["t0", "t2"], 4)];
        check(cooperative_sticky, &members, &[("t", 4)], "a: t1 t3\nb: t0 t2");
    }

    #[test]
    fn two_claims_of_one_generation_are_both_void_and_both_have_to_give_up() {
        let members = [member("a", "t", &["t0", "t1"], 4), member("b", "t", &["t0", "t2"], 4)];
        check(cooperative_sticky, &members, &[("t", 4)], "a: t1\nb: t2 t3");
    }

    #[test]
    fn what_is_gone_or_not_read_any_more_is_given_up() {
        let members = [member("a", "u", &["t0", "u9"], 1), member("b", "t u", &[], 1)];
        check(cooperative_sticky, &members, &[("t", 1), ("u", 1)], "a: u0\nb: ");
    }

    #[test]
    fn topics_that_few_read_are_placed_first() {
        let members = [member("a", "t u", &[], -1), member("b", "t", &[], -1)];
        check(cooperative_sticky, &members, &[("t", 2), ("u", 2)], "a: u0 u1\nb: t0 t1");
    }

    /// Groups that grow, shrink and change what they read, by chance: each rebalance is followed to its end as members do it.
    #[test]
    fn sticky_never_gives_a_partition_to_two_and_ends_balanced() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mut members: Vec<Member> = Vec::new();
            let mut generation = 0;
            for step in 0..12 {
                change(&mut members, step, &mut random);
                let counts = [("t", 1 + random.below(9)), ("u", random.below(5)), ("v", random.below(3))];
                let counts = counts.map(|(topic, count)| (Str::from(topic), i32::try_from(count).unwrap()));
                let counts: Counts = counts.into_iter().collect();
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
    fn settle(members: &mut [Member], counts: &Counts, generation: &mut i32) -> usize {
        for round in 1.. {
            let owners: BTreeMap<TopicPartition, usize> = (0..members.len())
                .flat_map(|at| members[at].owned.iter().map(move |p| (p.clone(), at)))
                .collect();
            let shares = cooperative_sticky(members, counts);
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

    fn assert_balanced(members: &[Member], counts: &Counts) {
        let read = |topic: &Str| members.iter().any(|member| member.topics.contains(topic));
        let all: i32 = counts.iter().filter(|(topic, _)| read(topic)).map(|(_, count)| *count).sum();
        let placed: usize = members.iter().map(|member| member.owned.len()).sum();
        assert_eq!(usize::try_from(all), Ok(placed), "everything that is read has an owner");
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
        settle(&mut members, &[(Str::from("t"), 12)].into_iter().collect(), &mut 1);
        assert_eq!(members.each_ref().map(|member| member.owned.len()), [4, 4, 4]);
        for (before, after) in before.iter().zip(&members).take(2) {
            assert!(after.owned.iter().all(|partition| before.owned.contains(partition)));
        }
    }
}
