//! What became of a record: one shared outcome a batch, one position a record.
//!
//! It owns the waking of whoever awaits a delivery. Nothing is allocated for a record: a [`Delivery`] is a pointer to its
//! batch's outcome and the record's place in it. Invariant: an outcome is set once, and whoever waits is woken then.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use ottla_protocol::wire::Str;
use parking_lot::Mutex;

use crate::core::batch::{BatchOutcome, Ticket};
use crate::driver::shared::broken;
use crate::error::{Error, ErrorKind, Outcome};

/// Where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The partition.
    pub partition: i32,
    /// The offset. `None` with `acks=0`, and when a retry was recognised as a duplicate whose offset the broker no
    /// longer knows: the record is written once all the same.
    pub offset: Option<i64>,
    /// Milliseconds since the epoch, if the topic stamps records when it appends them
    /// (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: Option<i64>,
}

/// The outcome that the records of a batch share.
#[derive(Debug)]
pub(crate) struct Shared {
    topic: Str,
    partition: i32,
    outcome: OnceLock<BatchOutcome<Arc<Shared>>>,
    waiters: Mutex<Vec<Waker>>,
    promises: AtomicUsize,
}

impl Shared {
    fn log(&self, outcome: &BatchOutcome<Arc<Shared>>) {
        let Shared { topic, partition, .. } = self;
        match outcome {
            BatchOutcome::Written { .. } => {}
            BatchOutcome::Split(parts) => {
                tracing::debug!(%topic, partition, parts = parts.len(), "a batch was split");
            }
            BatchOutcome::Failed(error) | BatchOutcome::Refused { error, .. } => {
                let outcome = error.outcome();
                tracing::debug!(%topic, partition, ?outcome, %error, "a batch was not delivered");
            }
        }
    }

    /// Whether this outcome was the first.
    fn set(&self, outcome: BatchOutcome<Arc<Shared>>) -> bool {
        let first = self.outcome.set(outcome).is_ok();
        let waiters = std::mem::take(&mut *self.waiters.lock());
        waiters.into_iter().for_each(Waker::wake);
        first
    }
}

/// The machine's end of an outcome. When the last one is dropped without it, a panic took the machine away, and nobody
/// can say what became of the records.
#[derive(Debug)]
pub(crate) struct Promise(Arc<Shared>);

impl Ticket for Promise {
    type Claim = Arc<Shared>;

    fn new(topic: &Str, partition: i32) -> Self {
        let (topic, waiters, promises) = (topic.clone(), Mutex::new(Vec::new()), AtomicUsize::new(1));
        Promise(Arc::new(Shared { topic, partition, outcome: OnceLock::new(), waiters, promises }))
    }

    #[inline]
    fn claim(&self) -> Arc<Shared> {
        self.0.clone()
    }

    fn settle(self, outcome: BatchOutcome<Arc<Shared>>) {
        self.0.log(&outcome);
        let first = self.0.set(outcome);
        debug_assert!(first, "a batch is settled once");
    }
}

impl Clone for Promise {
    fn clone(&self) -> Self {
        self.0.promises.fetch_add(1, Ordering::Relaxed);
        Promise(self.0.clone())
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let last = self.0.promises.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.0.outcome.get().is_none() {
            self.0.set(BatchOutcome::Failed(broken().with_outcome(Outcome::PossiblyWritten)));
        }
    }
}

/// The future outcome of a record that was accepted.
///
/// It resolves exactly once, by `delivery.timeout.ms` at the latest, with the place of the record or with an error whose
/// [`outcome`](Error::outcome) says whether the record may be written. Dropping it detaches: the record is sent all
/// the same, only nobody hears of it.
///
/// ```no_run
/// # async fn run(orders: ottla::Topic) -> Result<(), ottla::Error> {
/// let delivery = orders.enqueue(ottla::Payload::new(b"key", b"value")).await?;
/// // ... enqueue more, then:
/// let written = delivery.await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an error of this record is only told here; drop it on purpose to detach"]
pub struct Delivery {
    batch: Arc<Shared>,
    index: i32,
}

impl Delivery {
    #[inline]
    pub(crate) fn new(batch: Arc<Shared>, index: i32) -> Self {
        Self { batch, index }
    }

    /// Another one for the same record.
    pub(super) fn twin(&self) -> Self {
        Self { batch: self.batch.clone(), index: self.index }
    }

    /// The outcome, if it is there; never waits.
    #[inline]
    pub fn now(&self) -> Option<Result<RecordMetadata, Error>> {
        Some(match self.batch.outcome.get()? {
            BatchOutcome::Written { base_offset, log_append_time } => Ok(RecordMetadata {
                partition: self.batch.partition,
                offset: base_offset.map(|base| base.saturating_add(i64::from(self.index))),
                log_append_time: *log_append_time,
            }),
            BatchOutcome::Failed(error) => Err(error.clone()),
            BatchOutcome::Refused { error, records } => Err(self.refused(error, records)),
            BatchOutcome::Split(parts) => return self.in_part(parts).now(),
        })
    }

    /// The same record's delivery, where its batch was split.
    #[cold]
    fn in_part(&self, parts: &[(i32, Arc<Shared>)]) -> Delivery {
        let part = parts.iter().rev().find(|(first, _)| *first <= self.index);
        match part {
            Some((first, batch)) => Delivery { batch: batch.clone(), index: self.index - first },
            // The first part begins with record 0.
            None => Delivery { batch: self.batch.clone(), index: self.index },
        }
    }

    #[cold]
    fn refused(&self, error: &Error, records: &[(i32, Option<Str>)]) -> Error {
        match records.iter().find(|(index, _)| *index == self.index) {
            Some((_, Some(text))) => {
                error.clone().with_context(text.as_str()).with_outcome(Outcome::Rejected)
            }
            Some((_, None)) => error.clone().with_outcome(Outcome::Rejected),
            None => {
                let message = format!(
                    "{}-{}: another record of the batch was refused",
                    self.batch.topic, self.batch.partition
                );
                Error::new(ErrorKind::BatchRefused, message)
                    .with_outcome(Outcome::NotWritten)
                    .with_source(error.clone())
            }
        }
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(outcome) = self.now() {
                return Poll::Ready(outcome);
            }
            if let Some(BatchOutcome::Split(parts)) = self.batch.outcome.get() {
                *self = self.in_part(parts);
                continue;
            }
            let mut waiters = self.batch.waiters.lock();
            // The outcome may have come before the lock; after it, whoever sets it finds the waker.
            if self.batch.outcome.get().is_none() {
                if !waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                    waiters.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
        }
    }
}

/// Deliveries in the order in which their records were enqueued: a window of records on their way.
///
/// Waiting for the oldest costs one wake-up a batch, where a set that polls each delivery costs one a record.
///
/// ```no_run
/// # async fn run(orders: ottla::Topic) -> Result<(), ottla::Error> {
/// let mut window = ottla::Deliveries::default();
/// for n in 0..1_000_000_u32 {
///     window.push(orders.enqueue(ottla::Payload::value(&n.to_be_bytes())).await?);
///     while window.len() > 100_000 {
///         window.next().await.transpose()?;
///     }
/// }
/// while let Some(written) = window.next().await {
///     written?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Deliveries(VecDeque<Delivery>);

impl Deliveries {
    /// Adds the youngest.
    #[inline]
    pub fn push(&mut self, delivery: Delivery) {
        self.0.push_back(delivery);
    }

    /// How many have not been taken.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all have been taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for the oldest and takes it; `None` when there is none. Dropping the future loses nothing.
    #[inline]
    pub async fn next(&mut self) -> Option<Result<RecordMetadata, Error>> {
        let outcome = Pin::new(self.0.front_mut()?).await;
        self.0.pop_front();
        Some(outcome)
    }

    /// Takes the oldest if its outcome is there; never waits.
    #[inline]
    pub fn try_next(&mut self) -> Option<Result<RecordMetadata, Error>> {
        let outcome = self.0.front()?.now()?;
        self.0.pop_front();
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Client, Payload};

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn after_a_panic_under_the_lock_every_handle_is_fatal_and_nothing_waits() {
        let broker = ottla_broker::TestBroker::builder().topic("t", 1).start().await.unwrap();
        let client = Client::builder().bootstrap(broker.bootstrap()).build().unwrap();
        let producer = client.producer().linger(MINUTE).delivery_timeout(MINUTE * 2).build().unwrap();
        let (topic, nowhere) = (producer.topic("t"), producer.topic("nowhere"));
        let delivery = topic.enqueue(Payload::value(b"open")).await.unwrap();
        // Both sleep when it happens: one for its outcome, the other for metadata.
        let panics = async {
            tokio::task::yield_now().await;
            let door = &producer.0.door;
            let panic = std::panic::AssertUnwindSafe(|| door.with(|_, _| panic!("this panic is a test's")));
            assert!(std::panic::catch_unwind(panic).is_err());
        };
        let enqueued = nowhere.enqueue(Payload::value(b"waits"));
        let all = async { tokio::join!(biased; delivery, enqueued, panics) };
        let (delivered, enqueued, ()) =
            tokio::time::timeout(MINUTE, all).await.expect("nobody waits for ever");
        let errors = [
            delivered.map(drop).unwrap_err(),
            enqueued.map(drop).unwrap_err(),
            topic.send(Payload::value(b"later")).await.map(drop).unwrap_err(),
            producer.flush(MINUTE).await.unwrap_err(),
        ];
        assert_eq!(errors.each_ref().map(Error::kind), [ErrorKind::Fatal; 4], "{errors:?}");
        assert_eq!(errors[0].outcome(), Some(Outcome::PossiblyWritten));
        assert!(producer.0.door.is_stopped(), "links and supervisor go on");
        producer.close(MINUTE).await;
    }
}
