//! The handle that steers a consumer and looks at it: while a record is on loan, and from other tasks.
//!
//! It owns nothing: each call is one look or one order to the machine. Invariant: no call waits for the reading task, and
//! none keeps the consumer alive.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::wire::Str;

use super::{CloseOptions, CommitOutcome, Door, commit};
use crate::config::Reset;
use crate::core::TopicPartition;
use crate::core::positions::Place;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::metrics::{ConsumerMetrics, Health};
use crate::world::pause;

/// Where [`Control::seek`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTo {
    /// This offset.
    Offset(i64),
    /// The oldest record that the broker still holds.
    Beginning,
    /// Behind the newest record.
    End,
    /// The first record whose timestamp, in milliseconds since the Unix epoch, is not older than this; behind the newest
    /// record if all are older.
    Time(i64),
}

/// Steers a [`Consumer`](crate::Consumer): from other tasks, or while a record is on loan. Cheap to clone; it does not keep the consumer
/// alive.
///
/// ```no_run
/// # async fn run(mut consumer: ottla::Consumer) -> Result<(), ottla::Error> {
/// let control = consumer.control();
/// while let Some(record) = consumer.recv().await? {
///     if record.value().is_none() {
///         control.pause(record.topic(), record.partition()).await?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Control {
    pub(super) door: Arc<Door>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Reads a partition from another place. Once this has returned, no record from before is delivered, and finishing one
    /// that is still in hand counts for nothing. Never waits.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a partition that is not assigned.
    pub async fn seek(&self, topic: &str, partition: i32, to: SeekTo) -> Result<(), Error> {
        let place = match to {
            SeekTo::Offset(offset) => Place::At(offset.max(0)),
            SeekTo::Beginning => Place::Reset(Reset::Earliest),
            SeekTo::End => Place::Reset(Reset::Latest),
            // Less names something else in the protocol.
            SeekTo::Time(timestamp) => Place::Time { timestamp: timestamp.max(0), end: None },
        };
        self.door.with(|machine, now| machine.seek(now, &named(topic, partition), place))?
    }

    /// Stops delivering a partition. What is buffered of it stays, and the group is not told. Never waits.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a partition that is not assigned.
    pub async fn pause(&self, topic: &str, partition: i32) -> Result<(), Error> {
        self.door.with(|machine, now| machine.pause(now, &named(topic, partition), true))?
    }

    /// Goes on delivering a partition. Never waits.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a partition that is not assigned.
    pub async fn resume(&self, topic: &str, partition: i32) -> Result<(), Error> {
        self.door.with(|machine, now| machine.pause(now, &named(topic, partition), false))?
    }

    /// Commits what is finished of all partitions; the record in hand is not. Otherwise as [`Consumer::commit`](crate::Consumer::commit).
    ///
    /// # Errors
    /// As [`Consumer::commit`](crate::Consumer::commit).
    pub async fn commit(&self) -> Result<CommitOutcome, Error> {
        commit(&self.door).await
    }

    /// The partitions that this consumer reads now.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        let assignment = self.door.with(|machine, _| machine.assignment()).unwrap_or_default();
        assignment.into_iter().map(|p| (p.topic.to_string(), p.partition)).collect()
    }

    /// Records of each partition that are readable and not finished; `None` until a fetch has told the end of the
    /// partition. The end is the high watermark, or the last stable offset when only committed records are read.
    pub fn lag(&self) -> Vec<(String, i32, Option<i64>)> {
        let lag = self.door.with(|machine, _| machine.lag()).unwrap_or_default();
        lag.into_iter().map(|(p, lag)| (p.topic.to_string(), p.partition, lag)).collect()
    }

    /// How old the oldest record of each partition is that is not finished: zero where all are; `None` while it is not fetched.
    /// The clocks of the producers, or of the brokers, say when a record was written; those of a batch count as written
    /// with the first.
    pub fn time_lag(&self) -> Vec<(String, i32, Option<Duration>)> {
        let lag = self.door.with(|machine, now| machine.time_lag(now)).unwrap_or_default();
        lag.into_iter().map(|(p, lag)| (p.topic.to_string(), p.partition, lag)).collect()
    }

    /// What the consumer has done so far, in numbers. Never waits.
    pub fn metrics(&self) -> ConsumerMetrics {
        self.door.with(|machine, now| machine.metrics(now)).unwrap_or_default()
    }

    /// Whether the consumer is alive, and does its work. Never waits.
    pub fn health(&self) -> Health {
        self.door
            .with(|machine, _| machine.health())
            .unwrap_or_else(|broken| Health { reason: Some(broken.to_string()), ..Health::default() })
    }

    /// Waits until the consumer has partitions, and returns all that it has then. A member of a group with more members than
    /// partitions may wait for ever: put a limit around it. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When the consumer is closed or broken, or its membership has ended.
    pub async fn wait_assigned(&self) -> Result<Vec<(String, i32)>, Error> {
        self.door.until(|machine| machine.has_assignment()).await?;
        let assignment = self.door.with(|machine, _| machine.take_assignment())??;
        Ok(assignment.into_iter().map(|p| (p.topic.to_string(), p.partition)).collect())
    }

    /// Waits for something that happened and that no call was told, such as [`Event::PositionChanged`]. Events wait for a while
    /// in a queue that drops the oldest; each is told once, to whoever asks. Dropping the future loses none.
    ///
    /// ```no_run
    /// # async fn run(consumer: ottla::Consumer) {
    /// let control = consumer.control();
    /// tokio::spawn(async move {
    ///     while let Ok(event) = control.next_event().await {
    ///         if let ottla::Event::PositionChanged { topic, partition, lost: Some(lost), cause, .. } = event {
    ///             eprintln!("{topic}-{partition}: {} to {} are lost: {cause:?}", lost.start, lost.end);
    ///         }
    ///     }
    /// });
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the consumer is closed or broken, or its membership has ended, and all events are taken.
    pub async fn next_event(&self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.door.with(|machine, _| machine.take_event())?? {
                return Ok(event);
            }
            pause(&*self.door.world).await;
            self.door.until(|machine| machine.has_event()).await?;
        }
    }

    /// Ends the delivery: [`Consumer::recv`](crate::Consumer::recv) returns `None` from now on. What is finished is committed, unless commits are
    /// [`When::Manual`](crate::When::Manual), and the group is left, in the background. Never waits.
    pub fn close(&self) {
        // A consumer that is broken delivers nothing anyway.
        let _ = self.door.with(|machine, now| machine.close(now, None));
    }

    /// Closes, and waits until the group is left.
    pub(super) async fn close_with(&self, options: CloseOptions) -> Result<(), Error> {
        let CloseOptions { deadline, parting } = options;
        // One that is broken says so below.
        let _ = self.door.with(|machine, now| machine.close(now, Some(parting)));
        pause(&*self.door.world).await;
        let closed = self.door.until(|machine| machine.is_closed());
        let late =
            || Error::new(ErrorKind::Timeout, format!("the group could not be left within {deadline:?}"));
        tokio::time::timeout(deadline, closed).await.unwrap_or_else(|_| Err(late()))
    }
}

fn named(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: Str::from(topic), partition }
}
