//! Consume, transform, produce, exactly once: one type that owns both ends.
//!
//! It owns the order of things: records are read, work makes others of them, both are committed by one transaction, and
//! whatever goes wrong is aborted and read again. It refuses to know how transactions and groups work. Invariant: the
//! records in hand are finished only when their transaction is known to be committed.

use std::time::Duration;

use crate::consumer::{Consumer, Control, OwnedRecord};
use crate::error::{Error, ErrorKind};
use crate::producer::{Monitor, Previous, Transaction, TransactionalProducer};

/// Reads records, has them worked on, and writes the results: each input record has its effect exactly once, as far as it is
/// seen by readers with [`IsolationLevel::ReadCommitted`](crate::IsolationLevel::ReadCommitted) (KIP-447).
///
/// The work is done again for records whose transaction was aborted: a rebalance, a lost coordinator, an error of a
/// send. Only what it sends through its transaction is undone then.
///
/// ```no_run
/// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
/// use std::time::Duration;
/// use ottla::{IsolationLevel, Payload, Pipeline, When};
///
/// let consumer = client.consumer().group("billing").subscribe(["orders"]);
/// let consumer = consumer.isolation_level(IsolationLevel::ReadCommitted).commit_when(When::Manual).build()?;
/// let producer = client.producer().transactional_id("billing-1").build_transactional()?;
/// let mut pipeline = Pipeline::new(consumer, producer)?;
/// pipeline
///     .run(500, Duration::from_millis(50), async |records, transaction| {
///         let invoices = transaction.topic("invoices");
///         for record in records {
///             let invoice = Payload { value: record.value().map(|value| &value[..]), ..Payload::default() };
///             // An error of its delivery is told by the commit.
///             drop(invoices.enqueue(invoice).await?);
///         }
///         Ok::<(), ottla::Error>(())
///     })
///     .await
/// # }
/// ```
#[derive(Debug)]
pub struct Pipeline {
    consumer: Consumer,
    producer: TransactionalProducer,
    /// Records are in hand whose transaction has no known end: the step that worked on them was given up.
    unresolved: bool,
}

/// What a step of a [`Pipeline`] came to.
///
/// ```
/// use ottla::Step;
///
/// fn count(step: &Step<usize>) -> usize {
///     match step {
///         Step::Committed(records) => *records,
///         Step::Repeated(_) => 0,
///     }
/// }
/// # let _ = count;
/// ```
#[derive(Debug)]
pub enum Step<T> {
    /// Input and output are committed; this is what the work returned.
    Committed(T),
    /// The transaction was aborted for this reason, and the records will be delivered again, here or to another member.
    Repeated(Error),
}

impl Pipeline {
    /// Takes a consumer and a producer of their own.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a consumer without a group, or one that commits by itself: build it with
    /// [`When::Manual`](crate::When::Manual).
    pub fn new(consumer: Consumer, producer: TransactionalProducer) -> Result<Self, Error> {
        consumer.check_for_pipeline()?;
        Ok(Self { consumer, producer, unresolved: false })
    }

    /// Works until [`Control::close`] is called on its [`control`](Self::control). Otherwise as [`step`](Self::step).
    ///
    /// # Errors
    /// As [`step`](Self::step); another call goes on behind it.
    pub async fn run<E: From<Error>>(
        &mut self,
        max: usize,
        within: Duration,
        mut work: impl AsyncFnMut(&[OwnedRecord], &Transaction<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(step) = self.step(max, within, async |records, t| work(records, t).await).await? {
            if let Step::Repeated(reason) = step {
                tracing::info!(%reason, "a transaction was aborted, its records are worked on again");
            }
        }
        Ok(())
    }

    /// Waits for a record, takes those that are there or come `within` this time, at most `max`, and has them worked on in one
    /// transaction, which commits their offsets too. `None` once the consumer is closed.
    ///
    /// Dropping the future aborts the transaction, unless its commit was on its way: the next step finds out, and the
    /// records are delivered again or not.
    ///
    /// # Errors
    /// An error of the work aborts the transaction and is handed on, and the records are delivered again.
    /// [`ErrorKind::CommitUnknown`]: the next step waits for the outcome. [`ErrorKind::Fenced`] and
    /// [`ErrorKind::Fatal`]: build new ones; the records of committed transactions are not delivered again. Those of the
    /// consumer, as [`Consumer::recv`] tells them.
    pub async fn step<T, E: From<Error>>(
        &mut self,
        max: usize,
        within: Duration,
        work: impl AsyncFnOnce(&[OwnedRecord], &Transaction<'_>) -> Result<T, E>,
    ) -> Result<Option<Step<T>>, E> {
        if self.unresolved {
            self.resolve().await?;
        }
        let Some(batch) = self.consumer.recv_batch(max, within).await? else { return Ok(None) };
        // Whatever happens from here on, the records are in hand until their transaction has an end.
        self.unresolved = true;
        let transaction = self.producer.begin().await?;
        let done = match work(&batch.records, &transaction).await {
            Ok(done) => done,
            Err(error) => {
                let aborted = transaction.abort().await;
                self.read_again()?;
                aborted?;
                return Err(error);
            }
        };
        let committed = match self.consumer.hand_over() {
            Ok(offsets) => transaction.commit_with(offsets).await,
            Err(superseded) => transaction.abort().await.and(Err(superseded)),
        };
        match committed {
            Ok(()) => {
                self.consumer.keep();
                self.unresolved = false;
                Ok(Some(Step::Committed(done)))
            }
            Err(error) if matches!(error.kind(), ErrorKind::Aborted | ErrorKind::Superseded) => {
                self.read_again()?;
                Ok(Some(Step::Repeated(error)))
            }
            // Resolved by the next step, if ever.
            Err(error) => Err(error.into()),
        }
    }

    /// Steers the consumer, from other tasks or from within the work: pause, resume, close, lag. A seek is undone by the next
    /// abort.
    pub fn control(&self) -> Control {
        self.consumer.control()
    }

    /// Tells metrics and events of the producer, to other tasks as well.
    pub fn monitor(&self) -> Monitor {
        self.producer.monitor()
    }

    /// Aborts what is open, leaves the group and ends all connections, within `deadline`: half of it at most is for the
    /// transaction, so that the group learns of it even if the transaction's coordinator is gone.
    ///
    /// # Errors
    /// As [`Consumer::close`].
    pub async fn close(self, deadline: Duration) -> Result<(), Error> {
        let until = tokio::time::Instant::now() + deadline;
        // Its transaction ends first, so that whoever gets the partitions need not wait for it.
        self.producer.close(deadline / 2).await;
        self.consumer.close(until.saturating_duration_since(tokio::time::Instant::now())).await
    }

    fn read_again(&mut self) -> Result<(), Error> {
        self.consumer.rewind()?;
        self.unresolved = false;
        Ok(())
    }

    /// Finds out what became of the transaction of the records in hand.
    async fn resolve(&mut self) -> Result<(), Error> {
        let transaction = self.producer.begin().await?;
        let committed = transaction.previous() == Some(Previous::Committed);
        // It is told once: nothing may be waited for before it is acted upon.
        drop(transaction);
        if committed {
            self.consumer.keep();
            self.unresolved = false;
            return Ok(());
        }
        self.read_again()
    }

    /// For a simulator: says who sleeps although there is something to do.
    #[cfg(feature = "unstable-world")]
    pub fn probe(&self) -> Box<dyn Fn() -> Option<String> + Send> {
        let (consumer, producer) = (self.consumer.probe(), self.producer.probe());
        Box::new(move || consumer().or_else(&producer))
    }
}
