//! Transactions of two phases as their users see them (KIP-939): prepare, note the state elsewhere, commit or abort.
//!
//! It owns the waiting for what is on its way, and the text by which a prepared transaction is known after a restart. What
//! the coordinator is asked is the machine's. Invariant: only its user ends a prepared transaction; no drop does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Transaction, TransactionalProducer};
use crate::config::ProducerBuilder;
use crate::core::sequence::Identity;
use crate::error::{Error, ErrorKind};
use crate::world::pause;

/// Which transaction was prepared: to be stored with what decides about it, such as the rows of a database.
///
/// It is written as Kafka's Java client writes it, `producerId:epoch`.
///
/// ```
/// let state: ottla::PreparedState = "4711:12".parse()?;
/// assert_eq!(state.to_string(), "4711:12");
/// # Ok::<(), ottla::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PreparedState {
    producer_id: i64,
    epoch: i16,
}

impl fmt::Display for PreparedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.producer_id, self.epoch)
    }
}

impl FromStr for PreparedState {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for anything but `producerId:epoch` with numbers from 0.
    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let (producer_id, epoch) = text.split_once(':')?;
            Some(Self { producer_id: producer_id.parse().ok()?, epoch: epoch.parse().ok()? })
        };
        let fits = |state: &Self| state.producer_id >= 0 && state.epoch >= 0;
        read().filter(fits).ok_or_else(|| {
            let message = format!("{text:?} is no prepared transaction: producerId:epoch is expected");
            Error::new(ErrorKind::InvalidArgument, message)
        })
    }
}

impl From<Identity> for PreparedState {
    fn from(identity: Identity) -> Self {
        Self { producer_id: identity.id, epoch: identity.epoch }
    }
}

impl ProducerBuilder {
    /// As [`build_transactional`](Self::build_transactional), but a transaction that an earlier producer of this
    /// `transactional.id` left open is kept instead of aborted: [`TransactionalProducer::prepared`] hands it out. Needs
    /// [`two_phase_commit`](Self::two_phase_commit).
    ///
    /// # Errors
    /// [`ErrorKind::Config`], which names the settings that are wrong; [`ErrorKind::InvalidArgument`] outside of a Tokio runtime.
    pub fn build_recovering(mut self) -> Result<TransactionalProducer, Error> {
        if !self.config.two_phase_commit {
            return Err(Error::new(ErrorKind::Config, "transaction.two.phase.commit.enable is not set"));
        }
        self.config.keeps_prepared = true;
        self.build_transactional()
    }
}

impl TransactionalProducer {
    /// The transaction that is prepared and not ended: one of an earlier producer after
    /// [`build_recovering`](ProducerBuilder::build_recovering), or one whose handle was dropped. Waits at most `max.block.ms`
    /// for the coordinator. Dropping the future changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedVersion`] when the brokers cannot keep a transaction, as those of Apache Kafka 4.4,
    /// [`ErrorKind::Authorization`] when they do not allow transactions of two phases, [`ErrorKind::Timeout`];
    /// [`ErrorKind::Fenced`] and [`ErrorKind::Fatal`] for good.
    pub async fn prepared(&mut self) -> Result<Option<PreparedTransaction<'_>>, Error> {
        let door = &self.producer.0.door;
        pause(&*door.world).await;
        let named = door.until(|m| m.transaction.as_ref().is_none_or(|transaction| transaction.may_begin()));
        if let Ok(named) = tokio::time::timeout(self.producer.0.config.max_block, named).await {
            named?;
        }
        let prepared =
            door.with(|machine, now| machine.change_transaction(now, |transaction| transaction.prepared()))??;
        Ok(prepared.map(|(number, identity)| PreparedTransaction {
            transaction: Transaction { producer: self, number, previous: None, ended: true },
            state: identity.into(),
        }))
    }
}

impl<'a> Transaction<'a> {
    /// Prepares: waits until all that was sent is acknowledged, so that nothing but the decision is missing (KIP-939). Takes
    /// at most `delivery.timeout.ms` and `max.block.ms` together. Needs
    /// [`two_phase_commit`](ProducerBuilder::two_phase_commit). Dropping the future aborts.
    ///
    /// ```no_run
    /// # async fn store(_: String) -> Result<(), ottla::Error> { Ok(()) }
    /// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
    /// let builder = client.producer().transactional_id("billing-1").two_phase_commit(true);
    /// let mut producer = builder.build_recovering()?;
    /// // What a crash has left is committed if the database has its state.
    /// # let stored: ottla::PreparedState = "4711:12".parse()?;
    /// if let Some(prepared) = producer.prepared().await? {
    ///     prepared.complete(stored).await?;
    /// }
    /// let transaction = producer.begin().await?;
    /// transaction.topic("invoices").send(ottla::Payload::value(b"two cups")).await?;
    /// let prepared = transaction.prepare().await?;
    /// store(prepared.state().to_string()).await?;
    /// prepared.commit().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Aborted`] when a part of it failed or no answer came in time: it is aborted.
    /// [`ErrorKind::InvalidArgument`] for a producer of transactions of one phase; [`ErrorKind::Fenced`] and
    /// [`ErrorKind::Fatal`] for good.
    pub async fn prepare(mut self) -> Result<PreparedTransaction<'a>, Error> {
        let door = self.door();
        door.with(|machine, now| machine.change_transaction(now, |transaction| transaction.prepare()))??;
        pause(&*door.world).await;
        let config = &self.producer.producer.0.config;
        let ready = door.until(|m| {
            m.transaction.as_ref().is_none_or(|transaction| transaction.is_prepared(m.is_quiet()))
        });
        if let Ok(ready) =
            tokio::time::timeout(config.max_block.saturating_add(config.delivery_timeout), ready).await
        {
            ready?;
        }
        let identity = door.with(|machine, now| {
            let quiet = machine.is_quiet();
            machine.change_transaction(now, |transaction| transaction.take_prepared(quiet))
        })??;
        self.ended = true;
        Ok(PreparedTransaction { transaction: self, state: identity.into() })
    }
}

/// A transaction that only waits for a decision. Dropping it leaves it prepared, for [`TransactionalProducer::prepared`] and
/// for the producers after this one.
#[derive(Debug)]
#[must_use = "a prepared transaction stays open until it is committed or aborted"]
pub struct PreparedTransaction<'a> {
    transaction: Transaction<'a>,
    state: PreparedState,
}

impl PreparedTransaction<'_> {
    /// By what it is known after a restart.
    pub fn state(&self) -> PreparedState {
        self.state
    }

    /// Commits it. Waits at most `max.block.ms`; dropping the future after its first poll, or any error that is not for good,
    /// leaves the decision as it is: it is carried out, and the next [`begin`](TransactionalProducer::begin) tells.
    ///
    /// # Errors
    /// [`ErrorKind::CommitUnknown`] while the coordinator has not said so, [`ErrorKind::Aborted`] when somebody else has
    /// aborted it by force; [`ErrorKind::Fenced`] and [`ErrorKind::Fatal`] for good.
    pub async fn commit(self) -> Result<(), Error> {
        self.end(true).await
    }

    /// Aborts it, as [`commit`](Self::commit) commits.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] and [`ErrorKind::Fatal`]: the producer is at its end.
    pub async fn abort(self) -> Result<(), Error> {
        match self.end(false).await {
            Err(error) if matches!(error.kind(), ErrorKind::Aborted | ErrorKind::Timeout) => Ok(()),
            ended => ended,
        }
    }

    /// Commits it if `decided` is its state, and aborts it if not: what was decided is about another transaction, so this
    /// one never was. Returns whether it is committed.
    ///
    /// # Errors
    /// As [`commit`](Self::commit) and [`abort`](Self::abort).
    pub async fn complete(self, decided: PreparedState) -> Result<bool, Error> {
        match decided == self.state {
            true => self.commit().await.map(|()| true),
            false => self.abort().await.map(|()| false),
        }
    }

    async fn end(self, commit: bool) -> Result<(), Error> {
        let Self { transaction, .. } = self;
        let end = |machine: &mut super::Machine<_>, now| {
            machine.change_transaction(now, |transaction| {
                transaction.end_prepared(commit);
                Ok(())
            })
        };
        transaction.door().with(end)??;
        let time: Duration = transaction.producer.producer.0.config.max_block;
        transaction.outcome(time).await
    }
}
