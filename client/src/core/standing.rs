//! What the consumer's machine says of itself: how far behind it is, how well it is, and what happened.
//!
//! It owns no state but the events that nobody has taken. Invariant: an answer is of one moment, under one lock.

use std::time::{Duration, Instant};

use super::TopicPartition;
use super::consumer::Consumer;
use super::positions::{Place, Position};
use super::saying::Saying;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Hook, HookFailure, PositionCause};
use crate::metrics::{ConsumerMetrics, Health};

impl Consumer {
    pub(crate) fn assignment(&self) -> Vec<TopicPartition> {
        self.positions.keys().cloned().collect()
    }

    pub(crate) fn has_assignment(&self) -> bool {
        !self.positions.is_empty() || self.closing || self.ended.is_some()
    }

    /// What [`Consumer::has_assignment`] has waited for.
    pub(crate) fn take_assignment(&self) -> Result<Vec<TopicPartition>, Error> {
        match &self.ended {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(closed()),
            None => Ok(self.assignment()),
        }
    }

    pub(crate) fn lag(&self) -> Vec<(TopicPartition, Option<i64>)> {
        self.positions.iter().map(|(partition, position)| (partition.clone(), position.lag())).collect()
    }

    /// The age of the oldest record of each partition that is not finished.
    pub(crate) fn time_lag(&self, now: Instant) -> Vec<(TopicPartition, Option<Duration>)> {
        let wall_ms = self.wall_ms(now);
        let of = |position: &Position| position.time_lag(wall_ms);
        self.positions.iter().map(|(partition, position)| (partition.clone(), of(position))).collect()
    }

    pub(super) fn wall_ms(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.started.instant).as_millis();
        self.started.wall_ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    pub(crate) fn metrics(&self, now: Instant) -> ConsumerMetrics {
        let lags = || self.positions.values().filter_map(|p| p.lag()).map(i64::unsigned_abs);
        let wall_ms = self.wall_ms(now);
        let mut metrics = ConsumerMetrics {
            records: self.read,
            lag: lags().sum(),
            lag_max: lags().max().unwrap_or(0),
            time_lag_max: self
                .positions
                .values()
                .filter_map(|p| p.time_lag(wall_ms))
                .max()
                .unwrap_or_default(),
            ..ConsumerMetrics::default()
        };
        self.fetch.measure(&mut metrics);
        metrics
    }

    pub(crate) fn health(&self) -> Health {
        let member = self.group.as_ref().map(|(group, _)| group);
        let dead = if let Some(error) = &self.ended {
            Some(error.to_string())
        } else if self.closing {
            Some("the consumer is closed".into())
        } else if member.is_some_and(|group| group.is_idle()) {
            Some("the application asked for no record within max.poll.interval.ms".into())
        } else {
            None
        };
        if let Some(reason) = dead {
            return Health { live: false, ready: false, reason: Some(reason) };
        }
        let starting = |(_, position): &(&TopicPartition, &Position)| {
            matches!(position.place, Place::Committed | Place::Reset(_) | Place::Time { .. })
        };
        let unready = if self.cluster.metadata.succeeded.is_none() {
            let cause = self.cluster.failure().map(|cause| format!(": {cause}")).unwrap_or_default();
            Some(format!("no broker has answered yet{cause}"))
        } else if member.is_some_and(|group| group.identity().is_none()) {
            Some("the group has not given this member its partitions yet".into())
        } else if let Some((partition, _)) = self.positions.iter().find(starting) {
            Some(format!("{partition}: where to start is not known yet"))
        } else {
            self.stalled().next().map(|partition| format!("{partition} makes no progress"))
        };
        Health { live: true, ready: unready.is_none(), reason: unready }
    }

    // Events.

    pub(crate) fn has_event(&self) -> bool {
        !self.events.is_empty() || self.is_closed() || self.ended.is_some()
    }

    /// What happened that nobody was told yet, oldest first. An error when nothing will happen any more.
    pub(crate) fn take_event(&mut self) -> Result<Option<Event>, Error> {
        match (self.events.take(), &self.ended) {
            (Some(event), _) => Ok(Some(event)),
            (None, Some(error)) => Err(error.clone()),
            (None, None) if self.is_closed() => Err(closed()),
            (None, None) => Ok(None),
        }
    }

    /// Tells of partitions that the group gave or took; of none there is nothing to tell.
    pub(super) fn announce(&mut self, event: fn(Vec<(String, i32)>) -> Event, partitions: &[TopicPartition]) {
        if !partitions.is_empty() {
            self.events.push(event(partitions.iter().map(named).collect()));
        }
    }

    pub(super) fn tell_hook_failed(
        &mut self,
        hook: Hook,
        partitions: &[TopicPartition],
        failure: HookFailure,
    ) {
        let warned = failure.clone();
        self.said.push(Saying::new(
            move || tracing::warn!(?hook, %warned, "user code failed that partitions waited for"),
        ));
        let partitions = partitions.iter().map(named).collect();
        self.events.push(Event::HookFailed { hook, partitions, failure });
    }

    /// A partition that was moved has found where it goes on.
    pub(super) fn tell_moved(&mut self, partition: &TopicPartition, to: i64) {
        let moved = self.positions.get_mut(partition).and_then(|position| position.moved.take());
        let Some((from, cause)) = moved else { return };
        let lost = match cause {
            PositionCause::OutOfRange => from.map(|from| from..to).filter(|lost| !lost.is_empty()),
            // The log's end was told by its leader, and it goes on there or before.
            _ => None,
        };
        self.tell_position(partition, from, to, lost, cause);
    }

    pub(super) fn tell_position(
        &mut self,
        partition: &TopicPartition,
        from: Option<i64>,
        to: i64,
        lost: Option<std::ops::Range<i64>>,
        cause: PositionCause,
    ) {
        let (topic, partition) = named(partition);
        self.events.push(Event::PositionChanged { topic, partition, from, to, lost, cause });
    }
}

impl Position {
    /// Whether nothing more can be read for now. Behind the last stable offset there may be records that nobody may read yet.
    pub(super) fn is_read_to_its_end(&self) -> bool {
        let finished = self.lease.finished();
        matches!(self.place, Place::At(_)) && self.high_watermark.is_some_and(|end| finished >= end)
    }

    /// How old the first record is that is not finished; `None` while it is not fetched.
    fn time_lag(&self, wall_ms: i64) -> Option<Duration> {
        if self.lag() == Some(0) {
            return Some(Duration::ZERO);
        }
        let written = self.times.oldest(self.lease.finished())?;
        Some(Duration::from_millis(u64::try_from(wall_ms.saturating_sub(written)).unwrap_or(0)))
    }
}

fn named(partition: &TopicPartition) -> (String, i32) {
    (partition.topic.to_string(), partition.partition)
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the consumer is closed")
}
