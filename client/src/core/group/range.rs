//! Neighbouring partitions, topic by topic, and on the member's own rack where that is possible (KIP-881).
//!
//! It owns the rules of Java's `range`, so that whoever leads a mixed group shares it out alike. Invariant: each reader of a
//! topic gets the same number of its partitions, or one more; racks decide which, never how many.

use std::collections::BTreeMap;

use ottla_protocol::wire::Str;

use super::assign::{Member, Racks, Shares, Topics, in_order, racks_matter};
use crate::core::TopicPartition;

/// The first members get one partition more of a topic where it does not come out even.
pub(super) fn range(members: &[Member], topics: &Topics) -> Shares {
    let order = in_order(members);
    let mut spreads: Vec<Spread<'_>> =
        topics.iter().map(|(topic, partitions)| Spread::new(members, &order, topic, partitions)).collect();
    if spreads.iter().any(|spread| spread.by_rack) {
        match_racks(&mut spreads);
    }
    let mut shares = vec![Vec::new(); members.len()];
    for mut spread in spreads {
        spread.deal(false);
        for (partition, owner) in (0..).zip(&spread.owners) {
            if let Some(owner) = owner {
                shares[*owner].push(TopicPartition { topic: spread.topic.clone(), partition });
            }
        }
    }
    shares
}

/// Topics with as many partitions and the same readers are joined by partition number as a rule: a number stays together
/// before it is near.
fn match_racks(spreads: &mut [Spread<'_>]) {
    let mut alike: BTreeMap<(Vec<usize>, usize), Vec<&mut Spread<'_>>> = BTreeMap::new();
    for spread in spreads.iter_mut().filter(|spread| !spread.partitions.is_empty()) {
        alike.entry((spread.readers.clone(), spread.partitions.len())).or_default().push(spread);
    }
    for ((readers, count), mut together) in alike {
        if let [alone] = together.as_mut_slice() {
            if alone.by_rack {
                alone.deal(true);
            }
            continue;
        }
        for partition in 0..count {
            let takes = |at: &usize| {
                together.iter().all(|spread| spread.is_near(*at, partition) && spread.room(*at) > 0)
            };
            if let Some(at) = (0..readers.len()).find(takes) {
                together.iter_mut().for_each(|spread| spread.give(at, partition));
            }
        }
    }
}

/// How one topic is shared out. Readers are known by their place among the readers.
struct Spread<'a> {
    members: &'a [Member],
    topic: &'a Str,
    partitions: &'a [Racks],
    readers: Vec<usize>,
    /// The member that has each partition.
    owners: Vec<Option<usize>>,
    /// How many each reader has.
    counts: Vec<usize>,
    /// What every reader gets, and how many of them still get one more.
    quota: usize,
    extra: usize,
    by_rack: bool,
}

impl<'a> Spread<'a> {
    fn new(members: &'a [Member], order: &[usize], topic: &'a Str, partitions: &'a [Racks]) -> Self {
        let readers: Vec<usize> =
            order.iter().copied().filter(|at| members[*at].topics.contains(topic)).collect();
        Self {
            by_rack: racks_matter(readers.iter().map(|at| &members[*at]), partitions.iter()),
            owners: vec![None; partitions.len()],
            counts: vec![0; readers.len()],
            quota: partitions.len().checked_div(readers.len()).unwrap_or(0),
            extra: partitions.len().checked_rem(readers.len()).unwrap_or(0),
            readers,
            members,
            topic,
            partitions,
        }
    }

    fn room(&self, reader: usize) -> usize {
        (self.quota + usize::from(self.extra > 0)).saturating_sub(self.counts[reader])
    }

    /// Who says no rack is near everything.
    fn is_near(&self, reader: usize, partition: usize) -> bool {
        self.members[self.readers[reader]].is_near(&self.partitions[partition])
    }

    fn give(&mut self, reader: usize, partition: usize) {
        self.owners[partition] = Some(self.readers[reader]);
        self.counts[reader] += 1;
        if self.counts[reader] > self.quota {
            self.extra = self.extra.saturating_sub(1);
        }
    }

    /// Gives each reader in turn the first partitions that nobody has: all of them, or only those that are near.
    fn deal(&mut self, near_only: bool) {
        for reader in 0..self.readers.len() {
            let is_free = |partition: &usize| {
                self.owners[*partition].is_none() && (!near_only || self.is_near(reader, *partition))
            };
            let share: Vec<usize> =
                (0..self.partitions.len()).filter(is_free).take(self.room(reader)).collect();
            share.into_iter().for_each(|partition| self.give(reader, partition));
        }
    }
}
