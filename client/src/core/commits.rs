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
use super::positions::{Chunk, Place, Position};
use crate::config::When;
use crate::error::{Error, ErrorKind};
use crate::planted::{Defect, planted};

impl Consumer {
    /// The application has come to the end of a chunk, with this many finished records since the partition's last commit.
    pub(crate) fn finished_chunk(&mut self, now: Instant, chunk: &Chunk, uncommitted: u32) {
        let holds = |position: &&mut Position| Arc::ptr_eq(&position.lease, &chunk.lease);
        if let Some(position) = self.positions.get_mut(&chunk.partition).filter(holds) {
            position.uncommitted = uncommitted;
        }
        if self.config.when == When::EachBatch {
            self.commit_quietly(now, Some(&chunk.partition));
        }
    }

    /// The application has finished records of several chunks at once.
    pub(crate) fn finished_batch(&mut self, now: Instant) {
        match self.config.when {
            When::EachRecord | When::EachBatch => self.commit_quietly(now, None),
            When::Hybrid { records, .. } if self.positions.values().any(|p| p.uncommitted >= records) => {
                self.commit_quietly(now, None);
            }
            _ => {}
        }
    }

    /// The rest of a chunk cannot be read: nothing more is read of its partition until a seek.
    pub(crate) fn fail(&mut self, now: Instant, chunk: &Chunk) {
        let holds = |position: &&mut Position| Arc::ptr_eq(&position.lease, &chunk.lease);
        if let Some(position) = self.positions.get_mut(&chunk.partition).filter(holds) {
            position.place = Place::Failed;
            position.waiting.clear();
            self.fetch.release(std::mem::take(&mut position.waiting_bytes));
            self.queue.retain(|queued| *queued != chunk.partition);
        }
        self.step(now);
    }

    /// Commits what is finished, of one partition or of all, and lets whoever wants wait for it.
    pub(crate) fn commit(
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
                position.uncommitted = 0;
            }
        }
        if finished.is_empty() && offsets.is_settled() {
            return Ok(None);
        }
        let id = offsets.commit(now, finished);
        self.step(now);
        Ok(Some(id))
    }

    pub(crate) fn commit_quietly(&mut self, now: Instant, partition: Option<&TopicPartition>) {
        if let Ok(Some(id)) = self.commit(now, partition) {
            self.unwatched.push(id);
        }
    }

    pub(crate) fn is_committed(&self, id: CommitId) -> bool {
        self.group.as_ref().is_none_or(|(_, offsets)| offsets.is_resolved(id))
    }

    pub(crate) fn take_commit(&mut self, id: CommitId) -> Option<Result<CommitOutcome, Error>> {
        let result = self.group.as_mut()?.1.take_result(id)?;
        if result.is_err() {
            self.forget_committed();
        }
        Some(result)
    }

    /// Nobody waits for a commit any more.
    pub(crate) fn unwatch(&mut self, id: CommitId) {
        self.unwatched.push(id);
    }

    /// A commit failed: what we believed to be committed may not be.
    pub(super) fn forget_committed(&mut self) {
        self.positions.values_mut().for_each(|position| position.committed = None);
    }
}
