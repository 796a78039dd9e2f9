//! Commits that are due while records are lent, and how far the lending may run ahead of them.
//!
//! It owns what a policy promises of a crash: a record is lent only when so many before it are safely committed. It refuses
//! to know how a commit gets to the group. Invariant: before a commit is sent, the one before it is acknowledged; with
//! [`When::EachRecord`] that goes for the next record too. A wait that is given up goes on with the next call.

use crate::config::{Done, When};
use crate::core::TopicPartition;
use crate::core::offsets::CommitId;
use crate::error::{Error, ErrorKind};
use crate::world::pause;

use super::Consumer;

/// What a consumer owes its group.
#[derive(Debug, Default)]
pub(super) struct Debt {
    due: Due,
    /// Sent, and not yet seen to be acknowledged.
    sent: Option<CommitId>,
}

#[derive(Debug, Default)]
enum Due {
    #[default]
    Nothing,
    Of(TopicPartition),
    All,
}

impl Debt {
    /// What is finished of a partition is to be committed.
    pub(super) fn add(&mut self, partition: &TopicPartition) {
        self.due = match std::mem::take(&mut self.due) {
            Due::Nothing => Due::Of(partition.clone()),
            Due::Of(other) if other == *partition => Due::Of(other),
            Due::Of(_) | Due::All => Due::All,
        };
    }

    /// Everything that is finished is to be committed.
    pub(super) fn add_all(&mut self) {
        self.due = Due::All;
    }

    /// Whether something is to be paid before the next record.
    #[inline]
    pub(super) fn is_due(&self, when: When) -> bool {
        !matches!(self.due, Due::Nothing) || (self.sent.is_some() && when == When::EachRecord)
    }
}

impl Consumer {
    /// A chunk ends: with it a batch, if the records of batches are not finished otherwise.
    pub(super) fn owe_batch(&mut self, partition: &TopicPartition) {
        if self.config.when == When::EachBatch && self.config.done == Done::OnNext {
            self.debt.add(partition);
        }
    }

    /// Sends the commit that is due, and waits as long as the policy wants.
    ///
    /// Dropping the future loses nothing; the next call goes on.
    #[cold]
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        self.acknowledged().await?;
        let partition = match std::mem::take(&mut self.debt.due) {
            Due::Nothing => return Ok(()),
            Due::Of(partition) => Some(partition),
            Due::All => None,
        };
        let sent = self.control.door.with(|machine, now| machine.commit(now, partition.as_ref()));
        // A consumer without a group owes nothing; one that is broken says so at the next chunk.
        self.debt.sent = sent.and_then(|sent| sent).unwrap_or_default();
        if self.config.when == When::EachRecord { self.acknowledged().await } else { Ok(()) }
    }

    /// Waits for the commit that was sent. One that failed is due again.
    async fn acknowledged(&mut self) -> Result<(), Error> {
        let Some(id) = self.debt.sent else { return Ok(()) };
        let door = &self.control.door;
        pause(&*door.world).await;
        match door.until(move |machine| machine.is_committed(id)).await {
            // Nothing more is lent then.
            Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
            ready => ready?,
        }
        self.debt.sent = None;
        match door.with(|machine, _| machine.take_commit(id))? {
            Some(Err(error)) => {
                self.debt.add_all();
                Err(error)
            }
            _ => Ok(()),
        }
    }
}
