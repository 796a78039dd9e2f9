//! A member of a consumer group: what it subscribes to, what it owns, and the way from one assignment to the next.
//!
//! A member first gives up what is no longer its own, then says so, then gets what others gave up. It owns that order and
//! its epochs; it refuses to know the other members: whether a partition is free is told to it.
//!
//! Invariant: what is `assigned` and what is `revoking` never overlap, and nothing is assigned that is not free.

use crate::api::Caller;
use bytes::Bytes;
use ottla_protocol::wire::{Str, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A partition: the id of its topic, and its index.
pub(crate) type Place = (Uuid, i32);

pub(crate) type Places = BTreeSet<Place>;

/// The epoch of a member that left and comes back soon under the same instance id.
pub(crate) const LEFT_FOR_A_WHILE: i32 = -2;

/// How far a member has come on its way to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has all that it may have.
    Stable,
    /// It must give partitions up, and say so.
    Revoking,
    /// Others still hold what it will get.
    Waiting,
}

/// What only members of the classic protocol have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classic {
    pub(crate) session_timeout: Duration,
    /// In the member's order of preference, with what it says about itself under each.
    pub(crate) protocols: Vec<(Str, Bytes)>,
}

/// See the head of the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<Str>,
    pub(crate) rack_id: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    pub(crate) topics: BTreeSet<Str>,
    /// A regular expression that whole names of topics match.
    pub(crate) pattern: Option<Str>,
    pub(crate) assignor: Option<Str>,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) epoch: i32,
    pub(crate) previous_epoch: i32,
    pub(crate) progress: Progress,
    /// What it owns, with the epoch in which it got each.
    pub(crate) assigned: BTreeMap<Place, i32>,
    /// What it has to give up, with the epoch in which it had got each.
    pub(crate) revoking: BTreeMap<Place, i32>,
    pub(crate) classic: Option<Classic>,
}

/// Where a member should get to, and what it says it has.
pub(crate) struct Aim<'a> {
    pub(crate) epoch: i32,
    /// What it should own of the topics that it subscribes to.
    pub(crate) target: &'a Places,
    /// The topics that it subscribes to.
    pub(crate) subscribed: &'a BTreeSet<Uuid>,
    /// What others own or are about to give up.
    pub(crate) taken: &'a Places,
    /// What it says it owns; `None` when it says nothing.
    pub(crate) owned: Option<&'a Places>,
}

impl Aim<'_> {
    /// A member that says nothing may still own anything.
    fn owns_any(&self, places: &BTreeMap<Place, i32>) -> bool {
        self.owned.is_none_or(|owned| owned.iter().any(|place| places.contains_key(place)))
    }
}

impl Member {
    pub(crate) fn new(caller: &Caller) -> Self {
        Self {
            instance_id: None,
            rack_id: None,
            client_id: Str::from(&*caller.client_id),
            client_host: Str::from(&*caller.host),
            topics: BTreeSet::new(),
            pattern: None,
            assignor: None,
            rebalance_timeout: Duration::ZERO,
            epoch: 0,
            previous_epoch: 0,
            progress: Progress::Stable,
            assigned: BTreeMap::new(),
            revoking: BTreeMap::new(),
            classic: None,
        }
    }

    pub(crate) fn is_at(&self, epoch: i32) -> bool {
        self.progress == Progress::Stable && self.epoch == epoch
    }

    /// Everything that others cannot have yet.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Place> {
        self.assigned.keys().chain(self.revoking.keys())
    }

    /// The epoch in which it got a partition that it has not given up.
    pub(crate) fn held_since(&self, place: &Place) -> Option<i32> {
        self.assigned.get(place).or_else(|| self.revoking.get(place)).copied()
    }

    /// One step towards the target. `resubscribed` says that the member has just changed what it subscribes to: what it
    /// does not read any more it gives up at once, also when the new target is not known yet.
    pub(crate) fn reconcile(&mut self, aim: &Aim, resubscribed: bool) {
        match self.progress {
            Progress::Stable if self.epoch != aim.epoch => self.step(aim),
            Progress::Revoking if !aim.owns_any(&self.revoking) => self.step(aim),
            Progress::Waiting => self.step(aim),
            Progress::Stable | Progress::Revoking if resubscribed => self.give_up_unsubscribed(aim),
            Progress::Stable | Progress::Revoking => {}
        }
    }

    fn step(&mut self, aim: &Aim) {
        let keeps = |place: &Place| aim.target.contains(place);
        let (kept, revoked): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.assigned).into_iter().partition(|(place, _)| keeps(place));
        self.assigned = kept;
        if !revoked.is_empty() && aim.owns_any(&revoked) {
            self.revoking = revoked;
            self.progress = Progress::Revoking;
            return self.enter(self.epoch);
        }
        let missing = aim.target.iter().filter(|place| !self.assigned.contains_key(*place));
        let (taken, free): (Vec<Place>, Vec<Place>) = missing.partition(|place| aim.taken.contains(*place));
        self.assigned.extend(free.into_iter().map(|place| (place, aim.epoch)));
        self.revoking.clear();
        self.progress = if taken.is_empty() { Progress::Stable } else { Progress::Waiting };
        self.enter(aim.epoch);
    }

    fn give_up_unsubscribed(&mut self, aim: &Aim) {
        let reads = |place: &Place| aim.subscribed.contains(&place.0);
        let (kept, revoked): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.assigned).into_iter().partition(|(place, _)| reads(place));
        self.assigned = kept;
        if revoked.is_empty() {
            return;
        }
        if aim.owns_any(&revoked) {
            self.revoking.extend(revoked);
            self.progress = Progress::Revoking;
        }
        self.enter(self.epoch);
    }

    fn enter(&mut self, epoch: i32) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid(7);

    fn places(indexes: &[i32]) -> Places {
        indexes.iter().map(|index| (TOPIC, *index)).collect()
    }

    fn member(epoch: i32, assigned: &[i32]) -> Member {
        let caller = Caller {
            node: 1,
            version: 1,
            client_id: Str::from_static("test"),
            host: Str::from_static("here"),
            ..Caller::default()
        };
        let assigned = places(assigned).into_iter().map(|place| (place, epoch)).collect();
        Member { epoch, assigned, ..Member::new(&caller) }
    }

    /// Epoch, progress, what is assigned and what is to be given up after one step.
    fn check(
        member: &mut Member,
        epoch: i32,
        target: &[i32],
        taken: &[i32],
        owned: Option<&[i32]>,
        expected: (i32, Progress, &[i32], &[i32]),
    ) {
        let (target, taken, owned) = (places(target), places(taken), owned.map(places));
        let subscribed = BTreeSet::from([TOPIC]);
        let aim =
            Aim { epoch, target: &target, subscribed: &subscribed, taken: &taken, owned: owned.as_ref() };
        member.reconcile(&aim, false);
        assert_eq!((member.epoch, member.progress), (expected.0, expected.1));
        assert_eq!(member.assigned.keys().copied().collect::<Places>(), places(expected.2));
        assert_eq!(member.revoking.keys().copied().collect::<Places>(), places(expected.3));
    }

    #[test]
    fn a_member_gives_up_first_and_stays_in_its_epoch_until_it_says_so() {
        let mut it = member(2, &[0, 1, 2]);
        check(&mut it, 3, &[0, 3], &[], None, (2, Progress::Revoking, &[0], &[1, 2]));
        check(&mut it, 3, &[0, 3], &[], None, (2, Progress::Revoking, &[0], &[1, 2]));
        check(&mut it, 3, &[0, 3], &[], Some(&[0, 2]), (2, Progress::Revoking, &[0], &[1, 2]));
        check(&mut it, 3, &[0, 3], &[], Some(&[0]), (3, Progress::Stable, &[0, 3], &[]));
        assert_eq!((it.previous_epoch, it.assigned[&(TOPIC, 0)], it.assigned[&(TOPIC, 3)]), (2, 2, 3));
    }

    #[test]
    fn a_member_waits_for_what_others_hold_and_takes_what_is_free() {
        let mut it = member(2, &[0]);
        check(&mut it, 3, &[0, 1, 2], &[2], None, (3, Progress::Waiting, &[0, 1], &[]));
        check(&mut it, 3, &[0, 1, 2], &[2], None, (3, Progress::Waiting, &[0, 1], &[]));
        check(&mut it, 3, &[0, 1, 2], &[], None, (3, Progress::Stable, &[0, 1, 2], &[]));
    }

    #[test]
    fn a_member_that_waits_gives_up_what_a_newer_target_takes_from_it() {
        let mut it = member(2, &[0]);
        check(&mut it, 3, &[0, 1, 2], &[2], None, (3, Progress::Waiting, &[0, 1], &[]));
        check(&mut it, 4, &[1], &[2], None, (3, Progress::Revoking, &[1], &[0]));
        check(&mut it, 5, &[0], &[2], Some(&[1]), (3, Progress::Revoking, &[], &[1]));
        check(&mut it, 5, &[0], &[2], Some(&[]), (5, Progress::Stable, &[0], &[]));
    }
}
