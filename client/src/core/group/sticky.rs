//! Balanced shares of which each member keeps what it has where it can, and nearer ones where racks tell (KIP-54, KIP-881).
//!
//! It owns the claims of the members and the moves from one share to another. It refuses to know which of its results a
//! member may use at once. Invariants: every partition that somebody reads is in one share, and no move would make two shares
//! more equal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ottla_protocol::wire::Str;

use super::assign::{Member, Racks, Shares, Topics, in_order, racks_matter};
use crate::core::TopicPartition;

/// What each member is to have in the end.
pub(super) fn sticky(members: &[Member], topics: &Topics) -> Shares {
    let mut plan = Plan::new(members, topics);
    plan.place_what_nobody_has();
    plan.balance();
    plan.shares.iter().map(|share| share.list().collect()).collect()
}

/// What each partition's owner is by the newest claim (KIP-792).
pub(super) fn newest_claims(members: &[Member]) -> BTreeMap<TopicPartition, Claim> {
    let mut claims: BTreeMap<TopicPartition, Claim> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        let generation = member.generation;
        for partition in member.owned.iter().collect::<BTreeSet<_>>() {
            let fresh = Claim { generation, owner: Some(at) };
            match claims.get_mut(partition) {
                None => drop(claims.insert(partition.clone(), fresh)),
                Some(claim) if claim.generation < generation => *claim = fresh,
                Some(claim) if claim.generation == generation => claim.owner = None,
                Some(_) => {}
            }
        }
    }
    claims
}

/// Who says that a partition is his.
#[derive(Debug)]
pub(super) struct Claim {
    generation: i32,
    /// Nobody, if two say so under the same generation: both have to give it up.
    pub(super) owner: Option<usize>,
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

    fn contains(&self, topic: &Str, partition: i32) -> bool {
        self.topics.get(topic).is_some_and(|has| has.contains(&partition))
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
    topics: &'a Topics,
    /// Positions of the members in Java's order, to break ties.
    order: Vec<usize>,
    /// What is theirs by the newest claims.
    had: Vec<Share>,
    /// Whether racks decide anything.
    by_rack: bool,
    shares: Vec<Share>,
}

impl<'a> Plan<'a> {
    /// Everybody with what is his, unless it is far from him and may be near to another.
    fn new(members: &'a [Member], topics: &'a Topics) -> Self {
        let mut plan = Self {
            members,
            topics,
            order: in_order(members),
            had: vec![Share::default(); members.len()],
            by_rack: racks_matter(members.iter(), topics.values().flatten()),
            shares: vec![Share::default(); members.len()],
        };
        for (TopicPartition { topic, partition }, claim) in newest_claims(members) {
            let exists = plan.racks(&topic, partition).is_some();
            let reads = |owner: &usize| exists && members[*owner].topics.contains(&topic);
            if let Some(owner) = claim.owner.filter(reads) {
                plan.had[owner].insert(&topic, partition);
                if plan.is_near(owner, &topic, partition) {
                    plan.shares[owner].insert(&topic, partition);
                }
            }
        }
        plan
    }

    fn racks(&self, topic: &Str, partition: i32) -> Option<&'a Racks> {
        self.topics.get(topic)?.get(usize::try_from(partition).ok()?)
    }

    fn is_near(&self, at: usize, topic: &Str, partition: i32) -> bool {
        !self.by_rack || self.racks(topic, partition).is_some_and(|racks| self.members[at].is_near(racks))
    }

    /// Gives each free partition to the member with the smallest share; topics that few read go first. Where racks decide,
    /// first what is near to somebody who has room, and then the rest.
    fn place_what_nobody_has(&mut self) {
        let mut topics: Vec<(Vec<usize>, &Str, &Vec<Racks>)> = Vec::new();
        for (topic, partitions) in self.topics {
            let reads = |at: &usize| self.members[*at].topics.contains(topic);
            topics.push((self.order.iter().copied().filter(reads).collect(), topic, partitions));
        }
        topics.sort_by_key(|(readers, ..)| readers.len());
        let read = topics.iter().filter(|(readers, ..)| !readers.is_empty());
        let even =
            read.map(|(.., partitions)| partitions.len()).sum::<usize>().div_ceil(self.members.len().max(1));
        let passes: &[bool] = if self.by_rack { &[true, false] } else { &[false] };
        for near_only in passes {
            for (readers, topic, partitions) in &topics {
                let mut free = self.free(topic, partitions);
                if *near_only {
                    // Who is near to few takes what others cannot have nearby.
                    let near = |partition: &i32| {
                        readers.iter().filter(|at| self.is_near(**at, topic, *partition)).count()
                    };
                    free.sort_by_cached_key(near);
                }
                for partition in free {
                    let may = |at: &usize| {
                        !near_only || (self.shares[*at].size < even && self.is_near(*at, topic, partition))
                    };
                    let order = |at: &usize| {
                        let moves = !self.had[*at].contains(topic, partition);
                        (self.shares[*at].size, moves, self.shares[*at].count(topic))
                    };
                    if let Some(smallest) = readers.iter().copied().filter(may).min_by_key(order) {
                        self.shares[smallest].insert(topic, partition);
                    }
                }
            }
        }
    }

    fn free(&self, topic: &Str, partitions: &[Racks]) -> Vec<i32> {
        let owned: Vec<&BTreeSet<i32>> =
            self.shares.iter().filter_map(|share| share.topics.get(topic)).collect();
        let is_free = |partition: &i32| !owned.iter().any(|owned| owned.contains(partition));
        (0..).zip(partitions).map(|(partition, _)| partition).filter(is_free).collect()
    }

    /// Makes a larger share one smaller and a smaller one larger, until there is no way to. Each time the sum of the squares of
    /// their sizes gets smaller, so there is an end; and where there is no way left, that sum is the smallest possible.
    fn balance(&mut self) {
        while let Some(way) = self.next_way() {
            // Backwards, so that nobody passes on what he has just got.
            for pair in way.windows(2).rev() {
                if let [from, to] = *pair
                    && let Some((topic, partition)) = self.movable(from, to)
                {
                    self.shares[from].remove(&topic, partition);
                    self.shares[to].insert(&topic, partition);
                }
            }
        }
    }

    /// The members from one with a large share to one with a smaller, each of whom can give the next one a partition: with the
    /// fewest moves.
    fn next_way(&self) -> Option<Vec<usize>> {
        let size = |at: usize| self.shares[at].size;
        let mut by_size = self.order.clone();
        by_size.sort_by_key(|at| size(*at));
        let smallest = size(*by_size.first()?);
        let mut giver: Vec<Option<usize>> = vec![None; self.members.len()];
        // Whom a larger share has reached in vain a smaller one need not try.
        let mut seen = vec![false; self.members.len()];
        for &from in by_size.iter().rev().take_while(|from| size(**from) >= smallest + 2) {
            let mut reached =
                VecDeque::from_iter((!std::mem::replace(&mut seen[from], true)).then_some(from));
            while let Some(at) = reached.pop_front() {
                for &to in &by_size {
                    if seen[to] || !self.members[to].topics.iter().any(|t| self.shares[at].count(t) > 0) {
                        continue;
                    }
                    (seen[to], giver[to]) = (true, Some(at));
                    if size(from) >= size(to) + 2 {
                        let mut way: Vec<usize> =
                            std::iter::successors(Some(to), |member| giver[*member]).collect();
                        way.reverse();
                        return Some(way);
                    }
                    reached.push_back(to);
                }
            }
        }
        None
    }

    /// What comes nearer before what goes farther away; what `from` does not have yet before what it has; of the topic of
    /// which `from` has most more than `to`, the last partition.
    fn movable(&self, from: usize, to: usize) -> Option<(Str, i32)> {
        let (from_share, to_share) = (&self.shares[from], &self.shares[to]);
        let mut best: Option<((i32, bool, usize), &Str, i32)> = None;
        for topic in &self.members[to].topics {
            let Some(partitions) = from_share.topics.get(topic) else { continue };
            let more = from_share.count(topic).saturating_sub(to_share.count(topic));
            let had = self.had[from].topics.get(topic);
            for &partition in partitions {
                let near = |at| self.is_near(at, topic, partition);
                let gain = if self.by_rack { i32::from(near(to)) - i32::from(near(from)) } else { 0 };
                let is_new = had.is_none_or(|had| !had.contains(&partition));
                let rank = (gain, is_new, more);
                if best.as_ref().is_none_or(|(highest, ..)| rank >= *highest) {
                    best = Some((rank, topic, partition));
                }
            }
        }
        best.map(|(_, topic, partition)| (topic.clone(), partition))
    }
}
