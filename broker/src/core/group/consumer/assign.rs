//! The assignors of the broker: which partitions each member should own.
//!
//! It owns the two ways to share partitions out, and refuses to know epochs and what members own at the moment: it works
//! from the last target to the next.
//!
//! Invariant: a partition goes to one member, which subscribes to its topic; a partition whose topic nobody reads to none.

use super::member::{Place, Places};
use ottla_protocol::wire::{Str, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// How partitions are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Assignor {
    /// Equally, and with few moves.
    Uniform,
    /// Topic by topic in ranges, so that equal indexes of topics of equal size meet at one member.
    Range,
}

impl Assignor {
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What most members ask for; `Uniform` where nobody asks, or as many for the one as for the other.
    pub(crate) fn elect<'a>(asked: impl Iterator<Item = &'a Str>) -> Self {
        let mut votes = BTreeMap::new();
        for assignor in asked.filter_map(|name| Self::find(name)) {
            *votes.entry(assignor).or_insert(0) += 1;
        }
        let most = votes.values().copied().max();
        votes.into_iter().find(|(_, count)| Some(*count) == most).map_or(Self::Uniform, |(it, _)| it)
    }

    pub(crate) fn assign(self, group: &Reading) -> BTreeMap<Str, Places> {
        match self {
            Self::Uniform => uniform(group),
            Self::Range => range(group),
        }
    }
}

/// A member, as far as assignors look at it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reader {
    pub(crate) instance_id: Option<Str>,
    pub(crate) topics: BTreeSet<Uuid>,
    /// What it should own so far.
    pub(crate) former: Places,
}

/// Who reads which topics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    pub(crate) readers: BTreeMap<Str, Reader>,
    /// The number of partitions of each topic.
    pub(crate) topics: BTreeMap<Uuid, i32>,
}

impl Reading {
    fn readers_of(&self, topic: Uuid) -> impl Iterator<Item = (&Str, &Reader)> {
        self.readers.iter().filter(move |(_, reader)| reader.topics.contains(&topic))
    }
}

fn range(group: &Reading) -> BTreeMap<Str, Places> {
    let mut shares = nothing(group);
    for (&topic, &partitions) in &group.topics {
        let mut readers: Vec<_> = group.readers_of(topic).collect();
        // Static members first, by their instances: they keep their ranges when they restart under another id.
        readers.sort_by_key(|(id, reader)| match &reader.instance_id {
            Some(instance) => (0, instance.clone()),
            None => (1, (*id).clone()),
        });
        let count = i32::try_from(readers.len()).unwrap_or(i32::MAX);
        let mut first = 0;
        for (position, (id, _)) in (0..).zip(readers) {
            let next = first + partitions / count + i32::from(position < partitions % count);
            shares.entry(id.clone()).or_default().extend((first..next).map(|index| (topic, index)));
            first = next;
        }
    }
    shares
}

fn uniform(group: &Reading) -> BTreeMap<Str, Places> {
    let mut shares = nothing(group);
    let mut owners: BTreeMap<Place, Str> = BTreeMap::new();
    for (id, reader) in &group.readers {
        let keeps = |(topic, index): &Place| {
            reader.topics.contains(topic) && group.topics.get(topic).is_some_and(|count| index < count)
        };
        for place in reader.former.iter().filter(|place| keeps(place)) {
            if owners.insert(*place, id.clone()).is_none() {
                shares.entry(id.clone()).or_default().insert(*place);
            }
        }
    }
    // Topics that few read come first: the others still find room afterwards.
    let mut topics: Vec<(usize, Uuid, i32)> =
        group.topics.iter().map(|(id, count)| (group.readers_of(*id).count(), *id, *count)).collect();
    topics.sort_unstable();
    let places = topics
        .iter()
        .flat_map(|(_, topic, count)| (0..*count).map(|index| (*topic, index)))
        .collect::<Vec<_>>();
    for place in &places {
        if !owners.contains_key(place)
            && let Some(id) = least_loaded(group, &shares, place.0)
        {
            owners.insert(*place, id.clone());
            shares.entry(id).or_default().insert(*place);
        }
    }
    while level(group, &places, &mut owners, &mut shares) {}
    shares
}

/// Moves partitions from members to others that have at least two less. False when nothing moved: each move makes the
/// sum of the squares of all shares smaller, so that comes to pass.
fn level(
    group: &Reading,
    places: &[Place],
    owners: &mut BTreeMap<Place, Str>,
    shares: &mut BTreeMap<Str, Places>,
) -> bool {
    let mut moved = false;
    for place in places.iter().rev() {
        let (Some(owner), Some(other)) = (owners.get(place), least_loaded(group, shares, place.0)) else {
            continue;
        };
        if size(shares, owner) > size(shares, &other) + 1 {
            if let Some(share) = shares.get_mut(owner) {
                share.remove(place);
            }
            shares.entry(other.clone()).or_default().insert(*place);
            owners.insert(*place, other);
            moved = true;
        }
    }
    moved
}

fn least_loaded(group: &Reading, shares: &BTreeMap<Str, Places>, topic: Uuid) -> Option<Str> {
    group.readers_of(topic).map(|(id, _)| id).min_by_key(|id| size(shares, id)).cloned()
}

fn size(shares: &BTreeMap<Str, Places>, id: &Str) -> usize {
    shares.get(id).map_or(0, BTreeSet::len)
}

fn nothing(group: &Reading) -> BTreeMap<Str, Places> {
    group.readers.keys().map(|id| (id.clone(), Places::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member, the topics that it reads, and what it had.
    type Said<'a> = (&'a str, &'a [u128], &'a [(u128, i32)]);

    /// Topics by number with their partitions, and who reads them.
    fn reading(topics: &[(u128, i32)], readers: &[Said]) -> Reading {
        let reader = |(id, topics, former): &Said| {
            let topics = topics.iter().map(|topic| Uuid(*topic)).collect();
            let former = former.iter().map(|(topic, index)| (Uuid(*topic), *index)).collect();
            (Str::from(*id), Reader { instance_id: None, topics, former })
        };
        Reading {
            readers: readers.iter().map(reader).collect(),
            topics: topics.iter().map(|(topic, count)| (Uuid(*topic), *count)).collect(),
        }
    }

    fn check(assignor: Assignor, group: &Reading, expected: &[(&str, &[(u128, i32)])]) {
        let shares = assignor.assign(group);
        let shares: Vec<(&str, Vec<(u128, i32)>)> = shares
            .iter()
            .map(|(id, share)| (&**id, share.iter().map(|(topic, index)| (topic.0, *index)).collect()))
            .collect();
        let expected: Vec<_> = expected.iter().map(|(id, share)| (*id, share.to_vec())).collect();
        assert_eq!(shares, expected);
    }

    #[test]
    fn uniform_keeps_what_it_can_and_moves_what_it_must() {
        let all = [(1, 0), (1, 1), (1, 2), (1, 3)];
        let group = reading(&[(1, 4)], &[("a", &[1], &all), ("b", &[1], &[])]);
        check(Assignor::Uniform, &group, &[("a", &all[..2]), ("b", &all[2..])]);
        let group = reading(&[(1, 4)], &[("b", &[1], &all[2..])]);
        check(Assignor::Uniform, &group, &[("b", &all)]);
    }

    #[test]
    fn uniform_gives_topics_that_few_read_to_those_and_levels_with_the_rest() {
        let group =
            reading(&[(1, 4), (2, 2)], &[("a", &[1], &[(1, 0), (1, 1)]), ("b", &[1, 2], &[(1, 2), (1, 3)])]);
        check(
            Assignor::Uniform,
            &group,
            &[("a", &[(1, 0), (1, 1), (1, 3)]), ("b", &[(1, 2), (2, 0), (2, 1)])],
        );
    }

    #[test]
    fn what_does_not_exist_or_is_not_read_any_more_goes_to_nobody() {
        let group = reading(&[(1, 1), (3, 1)], &[("a", &[1], &[(1, 0), (1, 7), (2, 0), (3, 0)])]);
        for assignor in Assignor::ALL {
            check(assignor, &group, &[("a", &[(1, 0)])]);
        }
    }

    #[test]
    fn range_shares_each_topic_in_the_order_of_the_members() {
        let group = reading(&[(1, 5), (2, 2)], &[("a", &[1, 2], &[]), ("b", &[1, 2], &[])]);
        check(
            Assignor::Range,
            &group,
            &[("a", &[(1, 0), (1, 1), (1, 2), (2, 0)]), ("b", &[(1, 3), (1, 4), (2, 1)])],
        );
        let mut group = reading(&[(1, 1)], &[("a", &[1], &[]), ("b", &[1], &[])]);
        group.readers.get_mut("b").expect("is a member").instance_id = Some(Str::from_static("i"));
        check(Assignor::Range, &group, &[("a", &[]), ("b", &[(1, 0)])]);
    }

    #[test]
    fn the_assignor_with_the_most_votes_wins_and_uniform_wins_a_draw() {
        let elect = |asked: &[&'static str]| {
            let asked: Vec<Str> = asked.iter().map(|name| Str::from_static(name)).collect();
            Assignor::elect(asked.iter())
        };
        assert_eq!(elect(&[]), Assignor::Uniform);
        assert_eq!(elect(&["range"]), Assignor::Range);
        assert_eq!(elect(&["range", "uniform"]), Assignor::Uniform);
        assert_eq!(elect(&["range", "uniform", "range"]), Assignor::Range);
    }
}
