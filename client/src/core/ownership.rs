//! Partitions that a consumer is given, and how it gives them up.
//!
//! It owns the order of the steps: user code is told, what is finished is committed, the group hears of it. It refuses to
//! know how a group decides. Invariants: of a partition that is held nothing is asked for and nothing is delivered: until
//! user code knows of it and has said where it begins, and from when it is to go; what user code does or leaves undone delays
//! no heartbeat, and the rest for `hook_timeout` at most.

use std::collections::BTreeMap;
use std::time::Instant;

use ottla_protocol::wire::Uuid;

use super::TopicPartition;
use super::consumer::Consumer;
use super::group::{GroupEvent, Parting};
use super::hooks::Call;
use super::offsets::Found;
use super::positions::{Failure, Place, Position};
use super::saying::Saying;
use crate::config::{Reset, When};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Hook, HookFailure, PositionCause};
use crate::planted::{Defect, planted};

/// What an offset store knows.
pub(crate) type Stored = BTreeMap<(String, i32), i64>;

// How partitions come.
impl Consumer {
    pub(super) fn assign(&mut self, now: Instant, partitions: Vec<TopicPartition>) {
        let loads = self.hooks.push(now, Hook::Load, &partitions);
        let held = self.hooks.push(now, Hook::Assigned, &partitions) || loads;
        for partition in &partitions {
            self.cluster.metadata.want(now, &partition.topic);
            let is_known = self.group.is_some() || loads;
            let place = if is_known { Place::Committed } else { self.place_to_start(now, partition) };
            let mut position = Position::new(place);
            position.held = held;
            position.topic_id =
                self.cluster.metadata.topic(&partition.topic).map_or(Uuid::ZERO, |topic| topic.id);
            self.readers.iter_mut().for_each(|readers| readers.issue(partition, &mut position));
            self.positions.insert(partition.clone(), position);
        }
        match &mut self.group {
            Some((_, offsets)) if held => partitions.iter().for_each(|partition| offsets.hold(partition)),
            Some((_, offsets)) => offsets.look_up(partitions),
            None if held => {}
            None => partitions.iter().for_each(|partition| self.check_reset(partition)),
        }
    }

    /// User code has said what it had to say of these: they are read, from the group's commits on if they are nowhere yet.
    fn release(&mut self, partitions: &[TopicPartition]) {
        let mut sought = Vec::new();
        for partition in partitions {
            // They may be gone, and given again meanwhile: then it is not over.
            let holds = |position: &&mut Position| position.held && !position.lease.is_recalled();
            let position = self.positions.get_mut(partition).filter(holds);
            let Some(position) = position.filter(|_| !self.hooks.names(partition)) else { continue };
            position.held = false;
            if position.place == Place::Committed {
                sought.push(partition.clone());
            } else {
                self.check_reset(partition);
            }
        }
        if let Some((_, offsets)) = &mut self.group {
            offsets.look_up(sought);
        }
    }

    /// A reset that is not allowed is an error.
    fn check_reset(&mut self, partition: &TopicPartition) {
        if self.positions.get(partition).is_some_and(|position| position.place == Place::Reset(Reset::Error))
        {
            let why = format!("{partition}: no offset is committed");
            self.refuse(partition, None, None, PositionCause::NoCommit, why);
        }
    }

    /// The group has answered where a partition begins.
    pub(super) fn start(&mut self, now: Instant, found: Result<Found, Error>) {
        match found {
            Ok(Found { partition, committed }) => self.begin(now, &partition, committed),
            Err(error) => self.failures.push_back(Failure { lease: None, error }),
        }
    }

    /// Where a partition begins is known, with the leader epoch in front of it; or nobody knows.
    fn begin(&mut self, now: Instant, partition: &TopicPartition, known: Option<(i64, i32)>) {
        let reset = self.place_to_start(now, partition);
        let unplaced = |position: &&mut Position| position.place == Place::Committed;
        let Some(position) = self.positions.get_mut(partition).filter(unplaced) else { return };
        match known {
            Some((offset, leader_epoch)) => {
                position.start_at(offset, leader_epoch);
                position.committed = Some(offset);
            }
            None => {
                (position.place, position.moved) = (reset, Some((None, PositionCause::NoCommit)));
                self.check_reset(partition);
            }
        }
    }

    /// The offset store has answered, or has not: then nobody else is asked, for only what it says is in step with the
    /// application's data.
    fn begin_as_stored(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        stored: &Result<Stored, HookFailure>,
    ) {
        if self.hooks.is_due(Hook::Load, partition) {
            // Gone and given again: the answer may be older than what others did meanwhile.
            return;
        }
        match stored {
            Ok(stored) => {
                let key = (partition.topic.to_string(), partition.partition);
                self.begin(now, partition, stored.get(&key).map(|offset| (*offset, -1)));
            }
            Err(failure) => {
                let unplaced = |position: &&mut Position| position.place == Place::Committed;
                let Some(position) = self.positions.get_mut(partition).filter(unplaced) else { return };
                position.place = Place::Failed;
                let message = format!("{partition}: the offset store does not say where to begin: {failure}");
                let error = Error::new(ErrorKind::OffsetStore, message);
                self.failures.push_back(Failure { lease: Some(position.lease.clone()), error });
            }
        }
    }
}

// How they go.
impl Consumer {
    pub(super) fn obey(&mut self, now: Instant, event: GroupEvent) {
        match event {
            // A consumer that is being closed takes up nothing, and leaving gives up everything.
            GroupEvent::Assign(_) | GroupEvent::Revoke(_) if self.closing => {}
            GroupEvent::Assign(partitions) => {
                self.announce(Event::Assigned, &partitions);
                self.assign(now, partitions);
            }
            GroupEvent::Revoke(partitions) => self.revoke(now, partitions),
            GroupEvent::Lost(partitions) => {
                // What a revocation waited for is moot, but it was told.
                let (waited, told) = self.revoking.take().unzip();
                self.unwatched.extend(waited);
                self.lose(now, &partitions, &told.unwrap_or_default());
            }
            GroupEvent::FellBack { reason, had_a_choice } => {
                if had_a_choice {
                    self.events.push(Event::ClassicGroup { reason: reason.clone() });
                }
                let group = self.config.group_id.clone().unwrap_or_default();
                let fell_back =
                    move || tracing::info!(%group, %reason, "the group is joined as a classic one");
                self.said.push(Saying::new(fell_back));
            }
            GroupEvent::Refused(error) => self.failures.push_back(Failure { lease: None, error }),
            GroupEvent::Failed(error) => {
                self.ended.get_or_insert(error);
            }
        }
    }

    /// Partitions are gone: others may have them already. `told`: of these user code knows that they go.
    pub(super) fn lose(&mut self, now: Instant, partitions: &[TopicPartition], told: &[TopicPartition]) {
        self.announce(Event::Lost, partitions);
        let untold: Vec<_> =
            partitions.iter().filter(|partition| !told.contains(partition)).cloned().collect();
        self.hooks.lose(now, &untold);
        self.unassign(partitions);
    }

    /// Partitions are taken away: nothing more of them is delivered, and what is finished is committed first.
    fn revoke(&mut self, now: Instant, partitions: Vec<TopicPartition>) {
        for partition in &partitions {
            if let Some(position) = self.positions.get_mut(partition) {
                position.lease.recall();
                position.held = true;
            }
        }
        // Of a topic that was deleted nothing can be committed.
        let metadata = &self.cluster.metadata;
        let deleted = partitions.iter().filter(|partition| metadata.topic(&partition.topic).is_none());
        let deleted: Vec<_> = deleted.cloned().collect();
        self.unassign(&deleted);
        if !self.hooks.push(now, Hook::Revoked, &partitions) {
            self.give_up(now, partitions);
        }
    }

    /// Gives partitions up, as soon as what is finished is committed.
    fn give_up(&mut self, now: Instant, partitions: Vec<TopicPartition>) {
        let commit = if self.config.when == When::Manual { Ok(None) } else { self.send_commit(now, None) };
        match commit {
            Ok(Some(id)) => self.revoking = Some((id, partitions)),
            _ => self.gave_up(now, &partitions),
        }
    }

    pub(super) fn gave_up(&mut self, now: Instant, partitions: &[TopicPartition]) {
        self.unassign(partitions);
        self.announce(Event::Revoked, partitions);
        if let Some((group, _)) = &mut self.group {
            group.given_up(now);
        }
    }

    pub(super) fn unassign(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(mut position) = self.positions.remove(partition) {
                position.lease.recall();
                position.go_to(Place::Failed);
            }
        }
        self.queue.retain(|queued| !partitions.contains(queued));
        if let Some((_, offsets)) = &mut self.group
            && !planted(Defect::CommitAfterRevoke)
        {
            offsets.forget(partitions.to_vec());
        }
    }

    /// Delivers nothing more, commits what is finished unless commits are manual, and ends the membership.
    pub(crate) fn close(&mut self, now: Instant, parting: Option<Parting>) {
        self.parting = parting.unwrap_or(self.parting);
        if self.closing {
            return;
        }
        self.closing = true;
        let is_told = |partition: &TopicPartition| {
            self.hooks.is_due(Hook::Revoked, partition)
                || self.revoking.as_ref().is_some_and(|(_, told)| told.contains(partition))
        };
        let rest: Vec<_> = self.positions.keys().filter(|partition| !is_told(partition)).cloned().collect();
        self.abandon();
        if !self.hooks.push(now, Hook::Revoked, &rest) {
            self.commit_last(now);
        }
        self.step(now);
    }

    fn commit_last(&mut self, now: Instant) {
        if self.config.when != When::Manual {
            self.commit_quietly(now, None);
        }
    }
}

// What user code is called for.
impl Consumer {
    pub(crate) fn has_hook(&self) -> bool {
        self.hooks.has_next()
    }

    pub(crate) fn take_hook(&mut self) -> Option<Call> {
        self.hooks.take()
    }

    /// Whether nobody waits for a call any more.
    pub(crate) fn is_hook_over(&self, id: u64) -> bool {
        self.hooks.is_over(id)
    }

    /// User code has returned; an offset store with what it knows.
    pub(crate) fn end_hook(&mut self, now: Instant, id: u64, outcome: Result<Stored, HookFailure>) {
        if let Some(call) = self.hooks.end(now, id) {
            self.conclude(now, call, &outcome);
            self.step(now);
        }
    }

    pub(super) fn end_late_hook(&mut self, now: Instant) {
        if let Some(call) = self.hooks.take_late(now) {
            self.conclude(now, call, &Err(HookFailure::Late));
        }
    }

    /// Goes on with what waited for user code.
    fn conclude(&mut self, now: Instant, call: Call, outcome: &Result<Stored, HookFailure>) {
        let Call { hook, partitions, moot, .. } = call;
        if let Err(failure) = outcome {
            self.tell_hook_failed(hook, &partitions, failure.clone());
        }
        match hook {
            Hook::Load => {
                partitions.iter().for_each(|partition| self.begin_as_stored(now, partition, outcome));
                self.release(&partitions);
            }
            Hook::Assigned => self.release(&partitions),
            Hook::Revoked if self.closing => self.commit_last(now),
            Hook::Revoked if !moot => self.give_up(now, partitions),
            Hook::Revoked | Hook::Lost => {}
        }
    }
}
