//! What makes no progress although it should.
//!
//! It owns the look at every partition now and then, and at the time that a group leaves the application between two records.
//! It refuses to mend anything: it only tells. Invariant: each standstill is told once, until there is progress again.

use std::time::{Duration, Instant};

use super::TopicPartition;
use super::consumer::Consumer;
use super::positions::{Failure, Place, Position};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, StallReason};

/// How far a partition was when it was last seen to go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    finished: i64,
    since: Instant,
    told: bool,
}

#[derive(Debug)]
pub(crate) struct Watchdog {
    /// When to look at the partitions next.
    look_at: Instant,
    /// The eviction that was told.
    warned: Option<Instant>,
    /// When to say that the application waits for records while it holds all the memory there is.
    starves_at: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(now: Instant, stall_after: Duration) -> Self {
        Self { look_at: now + stall_after / 2, warned: None, starves_at: None }
    }
}

impl Consumer {
    /// Whether the application need not ask for records: it has paused all that it has, or one of its readers waits.
    pub(super) fn is_excused(&self) -> bool {
        let mut all = self.positions.values();
        let awaited = self.readers.is_some() && all.clone().any(|position| position.awaited);
        awaited || (!self.positions.is_empty() && all.all(|position| position.lease.is_paused()))
    }

    /// Partitions that were found standing still.
    pub(super) fn stalled(&self) -> impl Iterator<Item = &TopicPartition> {
        let told = |position: &Position| position.watched.is_some_and(|watched| watched.told);
        self.positions.iter().filter(move |(_, position)| told(position)).map(|(partition, _)| partition)
    }

    /// When to look again.
    pub(super) fn watch_at(&self) -> Option<Instant> {
        let look = (!self.positions.is_empty() && !self.closing).then_some(self.watchdog.look_at);
        let evicted = self.evicts_at().filter(|at| self.watchdog.warned != Some(*at));
        let told = evicted.map(|at| at - self.config.max_poll_interval / 4);
        look.into_iter().chain(told).chain(self.watchdog.starves_at).min()
    }

    /// Whether nothing is left to deliver, and what is held leaves no room to fetch more.
    pub(crate) fn is_starved(&self) -> bool {
        self.fetch.is_spent() && !self.has_next()
    }

    /// The application waits. If it has taken the last of the memory itself, it is told after a while.
    pub(super) fn starve(&mut self, now: Instant) {
        if self.fetch.is_spent() {
            let at = now + self.cluster.config.default_api_timeout;
            self.watchdog.starves_at.get_or_insert(at);
        }
    }

    /// The application has got records.
    pub(super) fn feed(&mut self) {
        self.watchdog.starves_at = None;
    }

    fn complain_of_hunger(&mut self, now: Instant) {
        if self.watchdog.starves_at.is_none_or(|at| at > now) {
            return;
        }
        self.watchdog.starves_at = None;
        let awaited = self.waiting || self.positions.values().any(|position| position.awaited);
        if awaited && self.is_starved() {
            let budget = self.config.fetch_buffer_bytes;
            let what = "is full of records that the application holds or has paused: nothing more is fetched";
            let error = Error::new(ErrorKind::BufferFull, format!("fetch.buffer.bytes ({budget}) {what}"));
            self.failures.push_back(Failure { lease: None, error });
        }
    }

    fn evicts_at(&self) -> Option<Instant> {
        // An application that has nothing is asked for nothing.
        self.group.as_ref().filter(|_| !self.positions.is_empty() && !self.closing)?.0.evicts_at()
    }

    pub(super) fn watch(&mut self, now: Instant) {
        self.complain_of_hunger(now);
        if let Some(at) = self.evicts_at()
            && self.watchdog.warned != Some(at)
            && at <= now + self.config.max_poll_interval / 4
        {
            self.watchdog.warned = Some(at);
            self.events.push(Event::EvictionNear { left: at.saturating_duration_since(now) });
        }
        if self.watchdog.look_at > now || self.closing {
            return;
        }
        self.watchdog.look_at = now + self.config.stall_after / 2;
        let mut stalls = Vec::new();
        for (partition, position) in &self.positions {
            if let Some(reason) = self.stall(now, position, partition) {
                stalls.push((partition.clone(), position.lease.finished(), reason));
            }
        }
        for (partition, position) in &mut self.positions {
            let finished = position.lease.finished();
            let stands = stalls.iter().any(|(stalled, ..)| stalled == partition);
            let same = position.watched.filter(|watched| watched.finished == finished);
            let idle = position.lease.is_paused() || position.is_read_to_its_end();
            position.watched = match same {
                Some(watched) if !idle => Some(Watched { told: watched.told || stands, ..watched }),
                _ => Some(Watched { finished, since: now, told: false }),
            };
        }
        for (partition, finished, reason) in stalls {
            let finished = Some(finished).filter(|finished| *finished >= 0);
            let TopicPartition { topic, partition } = partition;
            self.events.push(Event::Stalled { topic: topic.to_string(), partition, finished, reason });
        }
    }

    /// What holds a partition up, if it has stood still for long and that was not told.
    fn stall(&self, now: Instant, position: &Position, partition: &TopicPartition) -> Option<StallReason> {
        let finished = position.lease.finished();
        let watched = position.watched.filter(|watched| watched.finished == finished && !watched.told)?;
        let long = now.saturating_duration_since(watched.since) >= self.config.stall_after;
        if !long || position.lease.is_paused() || position.is_read_to_its_end() {
            return None;
        }
        let leader = || self.cluster.metadata.partition(&partition.topic, partition.partition)?.leader;
        Some(match position.place {
            Place::Failed => StallReason::Failed,
            Place::Committed | Place::Reset(_) | Place::Time { .. } => StallReason::NoPosition,
            Place::At(next) => {
                let taken = position.waiting.front().map_or(next, |chunk| chunk.from);
                if finished < taken {
                    StallReason::NotFinished
                } else if !position.waiting.is_empty() {
                    StallReason::NotTaken
                } else if leader().is_none() {
                    StallReason::NoLeader
                } else if position.lag() == Some(0) {
                    StallReason::OpenTransaction
                } else if self.fetch.is_full() {
                    StallReason::BufferFull
                } else {
                    StallReason::NotServed
                }
            }
        })
    }
}
