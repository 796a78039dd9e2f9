//! What a pipeline does with a consumer: put what was delivered into a transaction, keep it, or read it again.
//!
//! It owns what "delivered and not finished" means for records in a transaction. Invariant: nothing counts as finished
//! before the transaction is known to be committed.

use std::sync::Arc;

use super::{Consumer, Control};
use crate::config::{Done, When};
use crate::core::group::GroupMetadata;
use crate::core::positions::Lease;
use crate::core::transaction::GroupOffsets;
use crate::error::{Error, ErrorKind};

impl Control {
    /// Who this consumer is in its group now, for [`Transaction::send_offsets`](crate::Transaction::send_offsets): once the
    /// group has moved on, offsets are refused on its behalf (KIP-447). Never waits.
    ///
    /// A rebalance may come between any two records. Take it with the first of the records that it is to speak for: what was
    /// read before a rebalance is not fenced by who we are after it. [`Consumer::group_metadata`] looks at the
    /// records in hand, and a [`Pipeline`](crate::Pipeline) sees to all of this.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] without a group; [`ErrorKind::Superseded`] while the consumer is no member of it:
    /// before it has joined, and after it has lost its partitions.
    pub fn group_metadata(&self) -> Result<GroupMetadata, Error> {
        self.door.with(|machine, _| machine.group_metadata())?
    }
}

impl Consumer {
    /// Who this consumer is in its group, as [`Control::group_metadata`] tells it, if the records in hand are still its own.
    ///
    /// ```no_run
    /// # async fn run(
    /// #     mut consumer: ottla::Consumer,
    /// #     mut producer: ottla::TransactionalProducer,
    /// # ) -> Result<(), ottla::Error> {
    /// use std::time::Duration;
    /// use ottla::{Offset, Payload};
    ///
    /// while let Some(batch) = consumer.recv_batch(500, Duration::from_millis(50)).await? {
    ///     let member = consumer.group_metadata()?;
    ///     let transaction = producer.begin().await?;
    ///     for record in &batch.records {
    ///         transaction.topic("invoices").enqueue(Payload::value(b"one cup")).await?;
    ///     }
    ///     let done = batch.records.iter().map(|record| Offset {
    ///         topic: record.topic(),
    ///         partition: record.partition(),
    ///         next: record.offset() + 1,
    ///         leader_epoch: None,
    ///     });
    ///     transaction.send_offsets(&member, done).await?;
    ///     transaction.commit().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Control::group_metadata`]; [`ErrorKind::Superseded`] also when a partition of a record in hand was taken
    /// away meanwhile.
    pub fn group_metadata(&self) -> Result<GroupMetadata, Error> {
        Ok(self.hand_over()?.metadata)
    }

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
