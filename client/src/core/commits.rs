//! What of the finished records is committed, and when.
//!
//! It owns the policy of `commit_when`; how a commit gets to the group is the business of [`super::offsets`]. Invariant: only
//! what a lease says is finished is committed, and an offset that was committed already is not sent again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::TopicPartition;
use super::consumer::Consumer;
use super::offsets::{CommitId, CommitOutcome, Committed};
use super::positions::{Chunk, Lease, Place, Position};
use crate::config::{Done, When};
use crate::error::{Error, ErrorKind};
use crate::event::Hook;
use crate::planted::{Defect, planted};

impl Consumer {
    /// The application has come to the end of a chunk, with this many finished records since the partition's last commit.
    pub(crate) fn finished_chunk(
        &mut self,
        partition: &TopicPartition,
        lease: &Arc<Lease>,
        uncommitted: u32,
    ) {
        let holds = |position: &&mut Position| Arc::ptr_eq(&position.lease, lease);
        let Some(position) = self.positions.get_mut(partition).filter(holds) else { return };
        if self.config.done == Done::OnNext {
            position.uncommitted = uncommitted;
        }
    }

    /// Whether a commit is due now that the application has finished records of several chunks at once.
    pub(crate) fn is_batch_due(&self) -> bool {
        match self.config.when {
            When::EachRecord | When::EachBatch => true,
            When::Hybrid { records, .. } => self.positions.values().any(|p| p.uncommitted >= records),
            When::Every(_) | When::Manual => false,
        }
    }

    /// A record is acknowledged, in any order; with it everything from the end of the record before. Whether a commit is due
    /// now; `None` if it counts for nothing: the partition was given up or is read from elsewhere, or records are not
    /// finished this way.
    pub(crate) fn acknowledge(
        &mut self,
        partition: &TopicPartition,
        lease: &Arc<Lease>,
        offsets: std::ops::Range<i64>,
        records: u32,
    ) -> Option<bool> {
        // What is told that it goes may still be finished.
        let open = !lease.is_recalled() || self.hooks.is_due(Hook::Revoked, partition);
        let counts = self.config.done == Done::OnAck && open;
        let holds = |position: &&mut Position| counts && Arc::ptr_eq(&position.lease, lease);
        let position = self.positions.get_mut(partition).filter(holds)?;
        let before = lease.finished();
        let (done, finished) = position.acks.add(before, offsets.start, offsets.end, records);
        lease.finish(done);
        position.uncommitted = position.uncommitted.saturating_add(finished);
        Some(match self.config.when {
            When::EachRecord => done > before,
            When::Hybrid { records, .. } => position.uncommitted >= records,
            When::EachBatch => position.acks.take_end(done),
            When::Every(_) | When::Manual => false,
        })
    }

    /// Every record of a chunk was delivered, the last one up to this offset; what follows needs no acknowledgement.
    pub(crate) fn delivered_chunk(&mut self, now: Instant, chunk: &Chunk, from: i64, end: i64) {
        let holds = |position: &&mut Position| Arc::ptr_eq(&position.lease, &chunk.lease);
        if let Some(position) = self.positions.get_mut(&chunk.partition).filter(holds) {
            position.acks.end_chunk(end);
        }
        if self.acknowledge(&chunk.partition, &chunk.lease, from..end, 0) == Some(true) {
            self.commit_quietly(now, Some(&chunk.partition));
        }
    }

    /// Records that were not delivered yet are finished and committed all the same (at most once).
    pub(crate) fn commit_ahead(
        &mut self,
        now: Instant,
        chunk: &Chunk,
        end: i64,
    ) -> Result<Option<CommitId>, Error> {
        if chunk.lease.is_recalled() {
            return Ok(None);
        }
        chunk.lease.finish(end);
        self.commit(now, Some(&chunk.partition))
    }

    /// Records of a partition that were read are to be read again, from this offset: or from where everything is finished.
    pub(crate) fn read_again(&mut self, now: Instant, partition: &TopicPartition, offset: i64) {
        let Some(position) = self.positions.get(partition) else { return };
        let finished = position.lease.finished();
        let from = if finished >= 0 { offset.min(finished) } else { offset };
        // A partition that is no longer ours has nothing to give back.
        let _ = self.seek(now, partition, Place::At(from));
    }

    /// The rest of a chunk cannot be read: nothing more is read of its partition until a seek.
    pub(crate) fn fail(&mut self, now: Instant, chunk: Chunk) {
        let (partition, lease) = chunk.let_go();
        let holds = |position: &&mut Position| Arc::ptr_eq(&position.lease, &lease);
        if let Some(position) = self.positions.get_mut(&partition).filter(holds) {
            position.place = Place::Failed;
            position.drop_waiting();
            self.queue.retain(|queued| *queued != partition);
        }
        self.step(now);
    }

    /// Commits what is finished, of one partition or of all, and lets whoever wants wait for it.
    pub(crate) fn commit(
        &mut self,
        now: Instant,
        partition: Option<&TopicPartition>,
    ) -> Result<Option<CommitId>, Error> {
        let id = self.send_commit(now, partition);
        self.step(now);
        id
    }

    /// The same, without going on with anything.
    pub(super) fn send_commit(
        &mut self,
        now: Instant,
        partition: Option<&TopicPartition>,
    ) -> Result<Option<CommitId>, Error> {
        let Some((_, offsets)) = &mut self.group else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "a consumer without a group has nowhere to commit to",
            ));
        };
        let mut finished = BTreeMap::new();
        for (named, position) in &mut self.positions {
            if partition.is_some_and(|partition| partition != named) {
                continue;
            }
            let lent = i64::from(planted(Defect::CommitLent) && position.lease.finished() >= 0);
            if let Some(offset) = position.to_commit() {
                let leader_epoch = position.epochs.before(offset);
                position.epochs.forget_before(offset);
                let committed = Committed { offset: offset + lent, leader_epoch, metadata: None };
                finished.insert(named.clone(), committed);
                position.committed = Some(offset);
                // Not by a commit that comes for another reason: the count says how far the last of its own is behind.
                if matches!(self.config.when, When::Hybrid { records, .. } if position.uncommitted >= records)
                {
                    position.uncommitted = 0;
                }
            }
        }
        // User code hears that what goes with its partitions is committed no more.
        for gone in self.hooks.going().iter().filter(|gone| !self.positions.contains_key(*gone)) {
            let nothing = Committed { offset: -1, leader_epoch: -1, metadata: None };
            finished.insert(gone.clone(), nothing);
        }
        if finished.is_empty() && offsets.is_settled() {
            return Ok(None);
        }
        Ok(Some(offsets.commit(now, finished)))
    }

    pub(crate) fn commit_quietly(&mut self, now: Instant, partition: Option<&TopicPartition>) {
        if let Ok(Some(id)) = self.send_commit(now, partition) {
            self.unwatched.push(id);
        }
        self.step(now);
    }

    pub(crate) fn is_committed(&self, id: CommitId) -> bool {
        self.group.as_ref().is_none_or(|(_, offsets)| offsets.is_resolved(id))
    }

    pub(crate) fn take_commit(&mut self, id: CommitId) -> Option<Result<CommitOutcome, Error>> {
        let result = self.group.as_mut()?.1.take_result(id)?;
        match &result {
            Ok(outcome) => self.forget_superseded(outcome),
            Err(_) => self.forget_committed(),
        }
        Some(result)
    }

    /// Nobody waits for a commit any more.
    pub(crate) fn unwatch(&mut self, id: CommitId) {
        self.unwatched.push(id);
    }

    /// What was not committed is to be committed again, if its partition turns out to be ours.
    pub(super) fn forget_superseded(&mut self, outcome: &CommitOutcome) {
        for partition in &outcome.superseded {
            if let Some(position) = self.positions.get_mut(partition) {
                position.committed = None;
            }
        }
    }

    /// A commit failed: what we believed to be committed may not be.
    pub(super) fn forget_committed(&mut self) {
        self.positions.values_mut().for_each(|position| position.committed = None);
    }
}
