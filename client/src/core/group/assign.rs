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
