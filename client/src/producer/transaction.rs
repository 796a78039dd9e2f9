//! Transactions as their users see them: begin, send, commit.
//!
//! It owns the waiting of user tasks for the coordinator, and the types that keep a record from going out without a
//! transaction. What is said to the coordinator, and what becomes of a transaction whose user has gone, is the machine's.
//! Invariant: whoever drops one of these futures or the transaction leaves the machine with a decision to carry out.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::wire::Str;

use super::{CloseReport, Door, Enqueue, Full, Monitor, Payload, Producer, RecordMetadata, Topic};
use crate::config::ProducerBuilder;
use crate::core::TopicPartition;
use crate::core::group::GroupMetadata;
use crate::core::offsets::Committed;
use crate::core::transaction::{End, GroupOffsets};
use crate::error::{Error, ErrorKind};
use crate::metrics::ProducerMetrics;
use crate::producer::Delivery;
use crate::world::pause;

/// Writes records in transactions: all of one are seen by readers with
/// [`IsolationLevel::ReadCommitted`](crate::IsolationLevel::ReadCommitted), or none (KIP-98, KIP-360, KIP-890).
///
/// It is no `Clone`, and each [`Transaction`] borrows it: a record cannot be sent outside of a transaction, nor two
/// transactions be open at once.
///
/// ```no_run
/// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
/// let mut producer = client.producer().transactional_id("billing-1").build_transactional()?;
/// let transaction = producer.begin().await?;
/// let invoices = transaction.topic("invoices");
/// invoices.enqueue(ottla::Payload::new(b"4711", b"two cups")).await?;
/// invoices.enqueue(ottla::Payload::new(b"4712", b"one cup")).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TransactionalProducer {
    pub(super) producer: Producer,
}

/// What became of an earlier transaction, where the call that was to tell it ended too early.
///
/// ```
/// use ottla::Previous;
///
/// fn sends_again(previous: Option<Previous>) -> bool {
///     previous == Some(Previous::Aborted)
/// }
/// # let _ = sends_again;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// All of it is seen.
    Committed,
    /// Nothing of it is seen.
    Aborted,
}

/// The offset of the next record to read of a partition.
///
/// ```
/// let next = ottla::Offset { topic: "orders", partition: 3, next: 1_024, leader_epoch: None };
/// # let _ = next;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// One more than the offset of the last record that is done.
    pub next: i64,
    /// The leader epoch of that record, if it is known (KIP-320).
    pub leader_epoch: Option<i32>,
}

impl ProducerBuilder {
    /// Checks the settings and starts a producer of transactions. Its identity is asked for in the background from now
    /// on, which fences a producer that was started with the same `transactional.id` before.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], which names the settings that are wrong; `transactional.id` must be set. [`ErrorKind::InvalidArgument`] outside of a Tokio runtime.
    pub fn build_transactional(self) -> Result<TransactionalProducer, Error> {
        if self.config.transactional_id.is_none() {
            return Err(Error::new(ErrorKind::Config, "transactional.id is not set"));
        }
        Ok(TransactionalProducer { producer: self.start()? })
    }
}

impl TransactionalProducer {
    /// Begins a transaction, waiting at most `max.block.ms` for the coordinator. A transaction before that was left open is
    /// aborted first, and one whose commit was not known is resolved first: [`Transaction::previous`] tells what became
    /// of it. Dropping the future begins nothing.
    ///
    /// # Errors
    /// [`ErrorKind::CommitUnknown`] while the outcome of the transaction before is still open, [`ErrorKind::Timeout`],
    /// [`ErrorKind::Authorization`]; [`ErrorKind::Fenced`] and [`ErrorKind::Fatal`] for good.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        let door = &self.producer.0.door;
        // What nobody holds any more can only be aborted: its handle was leaked.
        door.with(|machine, now| machine.end_transaction(now, false))?;
        pause(&*door.world).await;
        let ready = door.until(|m| m.transaction.as_ref().is_none_or(|transaction| transaction.may_begin()));
        let waited = tokio::time::timeout(self.producer.0.config.max_block, ready).await;
        if let Ok(ready) = waited {
            ready?;
        }
        let (number, previous) = door.with(|machine, now| machine.begin_transaction(now))??;
        let previous = previous.map(|end| match end {
            End::Committed => Previous::Committed,
            End::Aborted(_) => Previous::Aborted,
        });
        Ok(Transaction { producer: self, number, previous, ended: false })
    }

    /// What the producer has done so far, in numbers. Never waits.
    pub fn metrics(&self) -> ProducerMetrics {
        self.producer.metrics()
    }

    /// A handle that tells metrics and events also while a transaction is open, and to other tasks.
    pub fn monitor(&self) -> Monitor {
        self.producer.monitor()
    }

    /// Runs `work` in a transaction, which is committed when it returns `Ok` and aborted when it returns an error. Dropping
    /// the future aborts, unless the commit was on its way already.
    ///
    /// ```no_run
    /// # async fn run(mut producer: ottla::TransactionalProducer) -> Result<(), ottla::Error> {
    /// producer
    ///     .run(async |transaction| {
    ///         transaction.topic("invoices").send(ottla::Payload::value(b"two cups")).await?;
    ///         Ok(())
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin), of `work`, and of [`Transaction::commit`].
    pub async fn run<T, E: From<Error>>(
        &mut self,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.begin().await?;
        match work(&transaction).await {
            Ok(done) => {
                transaction.commit().await?;
                Ok(done)
            }
            Err(error) => {
                transaction.abort().await?;
                Err(error)
            }
        }
    }

    /// Aborts what is open, resolves what is not known, and ends all connections, within `deadline`. Dropping the future
    /// leaves the rest to the coordinator, which aborts an open transaction when its time is over.
    pub async fn close(self, deadline: Duration) -> CloseReport {
        let door = &self.producer.0.door;
        let until = tokio::time::Instant::now() + deadline;
        let over = door.until(|m| m.transaction.as_ref().is_none_or(|transaction| !transaction.is_ending()));
        // What is not over by then is told by the report.
        let _ = tokio::time::timeout_at(until, over).await;
        self.producer.close(until.saturating_duration_since(tokio::time::Instant::now())).await
    }

    /// For a simulator: says who sleeps although there is something to do.
    #[cfg(feature = "unstable-world")]
    pub fn probe(&self) -> Box<dyn Fn() -> Option<String> + Send> {
        self.producer.probe()
    }
}

/// An open transaction. Several tasks may send in it at once by reference. Dropping it aborts it, in the background.
///
/// A record that fails makes the whole transaction one that can only be aborted: later sends fail at once, and
/// [`commit`](Self::commit) aborts it and says why.
///
/// ```compile_fail
/// # async fn run(mut producer: ottla::TransactionalProducer) -> Result<(), ottla::Error> {
/// let transaction = producer.begin().await?;
/// let invoices = transaction.topic("invoices");
/// transaction.commit().await?;
/// // The topic was the transaction's, and that is over.
/// invoices.send(ottla::Payload::value(b"stray")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'a> {
    pub(super) producer: &'a mut TransactionalProducer,
    pub(super) number: u64,
    pub(super) previous: Option<Previous>,
    /// The machine has been told how it is to end.
    pub(super) ended: bool,
}

impl Transaction<'_> {
    /// What became of the transaction before this one, where nobody was told: its `commit` was dropped, or left it unknown.
    pub fn previous(&self) -> Option<Previous> {
        self.previous
    }

    /// A handle to send to one topic as part of this transaction.
    pub fn topic(&self, name: &str) -> TransactionTopic<'_> {
        TransactionTopic { topic: self.producer.producer.topic(name), transaction: std::marker::PhantomData }
    }

    /// Commits offsets of a group with this transaction: they count as committed when it is, and not before. The group's
    /// metadata comes from [`Consumer::group_metadata`](crate::Consumer::group_metadata). Waits for the coordinators, at most `max.block.ms`. Dropping the future leaves the offsets in the transaction.
    ///
    /// # Errors
    /// [`ErrorKind::Superseded`] when the member is out of date (abort, and read again from what is committed),
    /// [`ErrorKind::Timeout`], [`ErrorKind::Authorization`], [`ErrorKind::Aborted`] when the transaction had failed
    /// before. After any of them it can only be aborted.
    pub async fn send_offsets<'o>(
        &self,
        group: &GroupMetadata,
        offsets: impl IntoIterator<Item = Offset<'o>>,
    ) -> Result<(), Error> {
        let mut next = BTreeMap::new();
        for Offset { topic, partition, next: offset, leader_epoch } in offsets {
            if offset < 0 {
                let message = format!("{topic}-{partition}: {offset} is no offset");
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            let at = TopicPartition { topic: Str::from(topic), partition };
            let leader_epoch = leader_epoch.unwrap_or(-1);
            next.insert(at, Committed { offset, leader_epoch, metadata: None });
        }
        if next.is_empty() {
            return Ok(());
        }
        self.hand_in(GroupOffsets { metadata: group.clone(), offsets: next }).await
    }

    /// Commits, and these offsets with it.
    pub(crate) async fn commit_with(self, offsets: GroupOffsets) -> Result<(), Error> {
        if !offsets.offsets.is_empty()
            && let Err(error) = self.hand_in(offsets).await
        {
            return self.abort().await.and(Err(error));
        }
        self.commit().await
    }

    pub(super) fn door(&self) -> &Door {
        &self.producer.producer.0.door
    }

    async fn hand_in(&self, offsets: GroupOffsets) -> Result<(), Error> {
        let name = offsets.metadata.group.clone();
        let door = self.door();
        let number = door.with(|machine, now| machine.send_offsets(now, offsets))??;
        pause(&*door.world).await;
        let sent = door.until(move |m| m.transaction.as_ref().is_none_or(|t| t.are_sent(number)));
        let wait = self.producer.producer.0.config.max_block;
        if tokio::time::timeout(wait, sent).await.is_err() {
            let message = format!("offsets of group {name}: no answer within {wait:?}");
            let late = Error::new(ErrorKind::Timeout, message);
            return door.with(|machine, now| machine.fail_transaction(now, &late)).and(Err(late));
        }
        door.with(|machine, _| machine.transaction.as_ref().map_or(Ok(()), |t| t.outcome_of_offsets(number)))?
    }

    /// Commits: waits until everything that was sent is acknowledged, and has the coordinator make it seen. Takes at most
    /// `delivery.timeout.ms` and `max.block.ms` together.
    ///
    /// Dropping the future does not abort, unless it was never polled: the commit goes on, and the next
    /// [`begin`](TransactionalProducer::begin) waits for it and tells its outcome.
    ///
    /// # Errors
    /// [`ErrorKind::Aborted`]: a record or an offset failed, so nothing of the transaction is seen.
    /// [`ErrorKind::CommitUnknown`]: the coordinator did not say; the only way on is the next `begin`, which resolves
    /// it. [`ErrorKind::Fenced`] and [`ErrorKind::Fatal`]: the producer is at its end; the message says whether the
    /// transaction may have been committed.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.end(true).await
    }

    /// Aborts: nothing of the transaction is seen, and records that were not sent yet are not sent. Waits at most
    /// `max.block.ms`; whenever it returns, or its future is dropped, the abort goes on, and the next `begin` waits for it.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] and [`ErrorKind::Fatal`]: the producer is at its end. The transaction is aborted all the
    /// same, by whoever fenced this producer or when its time is over.
    pub async fn abort(mut self) -> Result<(), Error> {
        match self.end(false).await {
            Err(error) if matches!(error.kind(), ErrorKind::Aborted | ErrorKind::Timeout) => Ok(()),
            ended => ended,
        }
    }

    async fn end(&mut self, commit: bool) -> Result<(), Error> {
        self.door().with(|machine, now| machine.end_transaction(now, commit))?;
        self.ended = true;
        let config = &self.producer.producer.0.config;
        let records = if commit { config.delivery_timeout } else { Duration::ZERO };
        self.outcome(config.max_block.saturating_add(records)).await
    }

    /// What became of it, once it is over or the time is.
    pub(super) async fn outcome(&self, time: Duration) -> Result<(), Error> {
        let door = self.door();
        pause(&*door.world).await;
        let number = self.number;
        let over = door.until(move |m| m.transaction.as_ref().is_none_or(|t| t.is_over(number)));
        if let Ok(over) = tokio::time::timeout(time, over).await {
            over?;
        }
        door.with(|machine, now| machine.outcome_of_transaction(now, number))?
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // A producer that is broken has no transaction left to abort.
            let _ = self.producer.producer.0.door.with(|machine, now| machine.end_transaction(now, false));
        }
    }
}

/// A topic to send to as part of a transaction. See [`Topic`] for each method.
///
/// ```no_run
/// # async fn run(transaction: ottla::Transaction<'_>) -> Result<(), ottla::Error> {
/// let invoices = transaction.topic("invoices");
/// let written = invoices.send(ottla::Payload::value(b"two cups")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TransactionTopic<'t> {
    topic: Topic,
    transaction: std::marker::PhantomData<&'t ()>,
}

impl TransactionTopic<'_> {
    /// The topic's name.
    pub fn name(&self) -> &str {
        self.topic.name()
    }

    /// As [`Topic::pin_partitions`]: it outlasts the transaction.
    pub fn pin_partitions(&self, partitions: usize) {
        self.topic.pin_partitions(partitions);
    }

    /// As [`Topic::partition_bytes`].
    pub fn partition_bytes(&self) -> Vec<u64> {
        self.topic.partition_bytes()
    }

    /// As [`Topic::enqueue`]. The delivery resolves when the record is in the log; it is seen when the transaction is
    /// committed.
    #[inline]
    pub fn enqueue<'a>(&'a self, payload: Payload<'a>) -> Enqueue<'a> {
        self.topic.enqueue(payload)
    }

    /// As [`Topic::try_enqueue`].
    ///
    /// # Errors
    /// [`Full`] says what is in the way.
    pub fn try_enqueue(&self, payload: Payload<'_>) -> Result<Delivery, Full> {
        self.topic.try_enqueue(payload)
    }

    /// As [`Topic::send`].
    ///
    /// # Errors
    /// As [`Topic::send`], and [`ErrorKind::Aborted`] when the transaction has failed already.
    pub async fn send(&self, payload: Payload<'_>) -> Result<RecordMetadata, Error> {
        self.topic.send(payload).await
    }
}
