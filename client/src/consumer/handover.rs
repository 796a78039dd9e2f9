//! What a pipeline does with a consumer: put what was delivered into a transaction, keep it, or read it again.
//!
//! It owns what "delivered and not finished" means for records in a transaction. Invariant: nothing counts as finished
//! before the transaction is known to be committed.

use std::sync::Arc;

use super::Consumer;
use crate::config::{Done, When};
use crate::core::positions::Lease;
use crate::core::transaction::GroupOffsets;
use crate::error::{Error, ErrorKind};

impl Consumer {
    /// Whether the commits of this consumer can be left to transactions.
    pub(crate) fn check_for_pipeline(&self) -> Result<(), Error> {
        let refuse = |what| Err(Error::new(ErrorKind::Config, what));
        if self.config.group_id.is_none() {
            return refuse("a pipeline needs a consumer with a group");
        }
        if self.config.when != When::Manual || self.config.done != Done::OnNext {
            return refuse(
                "a pipeline commits by its transactions: the consumer must be built with commit_when(When::Manual) and \
                 finish_on(Done::OnNext)",
            );
        }
        Ok(())
    }

    /// The offsets behind all records that were delivered and are not finished.
    pub(crate) fn hand_over(&self) -> Result<GroupOffsets, Error> {
        let delivered = self.delivered();
        self.control.door.with(|machine, _| machine.hand_over(&delivered))?
    }

    /// The records that were delivered are done, and committed elsewhere.
    pub(crate) fn keep(&mut self) {
        self.finish();
    }

    /// The records that were delivered and are not finished will be delivered again, unless others own them now.
    pub(crate) fn rewind(&mut self) -> Result<(), Error> {
        let delivered = self.delivered();
        self.gathered.clear();
        self.batch.clear();
        self.in_hand = None;
        self.reading = None;
        self.control.door.with(|machine, now| machine.rewind(now, &delivered))
    }

    fn delivered(&self) -> Vec<(Arc<Lease>, i64)> {
        let in_hand = self.in_hand.zip(self.reading.as_ref());
        let in_hand = in_hand.map(|(offset, reading)| (reading.chunk.lease.clone(), offset));
        self.batch.iter().cloned().chain(in_hand).collect()
    }
}
