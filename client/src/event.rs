//! What happens to a producer or a consumer that no call is told.
//!
//! It owns the vocabulary, and a queue that is never longer than [`EVENTS_MAX`]: who does not look misses the oldest, and
//! is told how many. It refuses to know what leads to an event.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Something that happened, and that nobody waited for: see [`Producer::next_event`](crate::Producer::next_event) and
/// [`Control::next_event`](crate::Control::next_event).
///
/// ```no_run
/// # async fn run(producer: ottla::Producer) {
/// while let Ok(event) = producer.next_event().await {
///     eprintln!("{event:?}");
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A topic has more partitions than before: keys are spread over all of them from now on, so that a key may be in
    /// another partition than its earlier records. [`Topic::pin_partitions`](crate::Topic::pin_partitions) prevents that.
    PartitionsGrew {
        /// The topic.
        topic: String,
        /// How many partitions it had.
        from: i32,
        /// How many it has.
        to: i32,
    },
    /// A partition gets more than half of its topic's bytes, or more than four times the average: a few keys, or one, have
    /// most of the records. Told once, until the partition has cooled down or another is hot.
    HotPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Bytes of the records that it got lately, before compression.
        bytes: u64,
        /// Bytes that all partitions of the topic got in the same time.
        of: u64,
    },
    /// The cluster has the groups of KIP-848, and a consumer whose [`GroupProtocol`](crate::GroupProtocol) is `Auto` is a
    /// member of a classic group all the same.
    ClassicGroup {
        /// Why: who else is a member, or what the coordinator refused.
        reason: String,
    },
    /// The group gave a consumer these partitions, beside those that it had; or topics appeared that match its pattern.
    Assigned(Vec<(String, i32)>),
    /// The group took these partitions away from a consumer; what was finished of them was committed before, unless commits
    /// are manual.
    Revoked(Vec<(String, i32)>),
    /// These partitions may have been given to others already, or are deleted: nothing more of them is delivered or committed, and what was
    /// finished since the last commit will be delivered again.
    Lost(Vec<(String, i32)>),
    /// A partition is read from another offset than the one that came next, and nobody asked for that.
    PositionChanged {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that came next; `None` where there was none.
        from: Option<i64>,
        /// The offset that comes next.
        to: i64,
        /// Offsets whose records are gone: passed over without being delivered, or, where the log was
        /// [`Truncated`](PositionCause::Truncated), read and no longer in the log.
        lost: Option<Range<i64>>,
        /// Why.
        cause: PositionCause,
    },
    /// A partition would have to be read from elsewhere, and [`Reset::Error`](crate::Reset::Error) forbids that: `recv` returns an
    /// error of kind [`OffsetOutOfRange`](crate::ErrorKind::OffsetOutOfRange), and the partition waits for a seek.
    PositionRefused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that came next; `None` where there was none.
        from: Option<i64>,
        /// Offsets whose records are gone, as far as it is known.
        lost: Option<Range<i64>>,
        /// Why.
        cause: PositionCause,
    },
    /// User code that partitions waited for ended without success: the consumer has gone on, as [`Hook`] says.
    HookFailed {
        /// What was called.
        hook: Hook,
        /// What it was called for.
        partitions: Vec<(String, i32)>,
        /// How it ended.
        failure: HookFailure,
    },
    /// A consumer of a group will lose its partitions, because the application has not asked for a record for three quarters of
    /// `max.poll.interval.ms`. Time in which it waits for a record, or in which it has paused all its partitions, does not
    /// count. Told once until it asks again.
    EvictionNear {
        /// What is left of the time.
        left: Duration,
    },
    /// A partition that is neither paused nor read to its end has made no progress for
    /// [`stall_after`](crate::ConsumerBuilder::stall_after). Told once until it goes on.
    Stalled {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Everything below this offset is finished; `None` while it is not known where to start.
        finished: Option<i64>,
        /// What holds it up.
        reason: StallReason,
    },
    /// So many events before this one were dropped, because nobody took them.
    Missed(u64),
}

/// User code that is called when partitions come and go, and what the consumer does when it fails, in [`Event::HookFailed`].
///
/// ```
/// # fn example(hook: ottla::Hook) {
/// if hook == ottla::Hook::Load {
///     eprintln!("partitions wait for a seek");
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hook {
    /// [`OffsetStore::load`](crate::OffsetStore::load). Its partitions are not read: `recv` returns an error of kind
    /// [`OffsetStore`](crate::ErrorKind::OffsetStore) for each, and they wait for a seek.
    Load,
    /// [`RebalanceHooks::assigned`](crate::RebalanceHooks::assigned). Its partitions are read.
    Assigned,
    /// [`RebalanceHooks::revoked`](crate::RebalanceHooks::revoked). What is finished is committed, and the partitions go.
    Revoked,
    /// [`RebalanceHooks::lost`](crate::RebalanceHooks::lost). Nothing waited for it.
    Lost,
}

/// How user code failed, in [`Event::HookFailed`].
///
/// ```
/// assert_eq!(ottla::HookFailure::Panicked.to_string(), "it panicked");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HookFailure {
    /// It took longer than [`hook_timeout`](crate::ConsumerBuilder::hook_timeout). Its future was dropped.
    Late,
    /// It panicked.
    Panicked,
    /// It returned this error.
    Failed(String),
}

impl std::fmt::Display for HookFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HookFailure::Late => f.write_str("it took longer than hook_timeout"),
            HookFailure::Panicked => f.write_str("it panicked"),
            HookFailure::Failed(error) => f.write_str(error),
        }
    }
}

/// Why a partition is read from elsewhere, or would have to be, in [`Event::PositionChanged`] and [`Event::PositionRefused`].
///
/// ```
/// # fn example(cause: ottla::PositionCause) {
/// if cause != ottla::PositionCause::NoCommit {
///     eprintln!("records may be missing: {cause:?}");
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PositionCause {
    /// The group has no committed offset: it starts as [`on_no_commit`](crate::ConsumerBuilder::on_no_commit) says.
    NoCommit,
    /// The position is not in the log: retention or a deletion took its records. It goes on as
    /// [`on_out_of_range`](crate::ConsumerBuilder::on_out_of_range) says.
    OutOfRange,
    /// A new leader does not have all that was read (KIP-320): its log ends in front of the position.
    Truncated,
    /// The topic was deleted and created again, and the position is of the old one.
    Recreated,
}

/// What holds a partition up, in [`Event::Stalled`].
///
/// ```
/// # fn example(reason: ottla::StallReason) {
/// if matches!(reason, ottla::StallReason::NotTaken | ottla::StallReason::NotFinished) {
///     eprintln!("the application is slow");
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StallReason {
    /// Records are fetched, and the application does not ask for them.
    NotTaken,
    /// Records were handed out, and the application has not finished them.
    NotFinished,
    /// Reading failed, and the error was returned: the partition waits for a seek.
    Failed,
    /// Where to start could not be found out yet: from the group, or from the log.
    NoPosition,
    /// No leader is known.
    NoLeader,
    /// `fetch.buffer.bytes` is full: of records of other partitions, or of records that the application holds.
    BufferFull,
    /// The next records belong to a transaction that is neither committed nor aborted.
    OpenTransaction,
    /// Its broker brings nothing: it refuses, or cannot be reached.
    NotServed,
}

/// Events that wait to be taken, at most.
const EVENTS_MAX: usize = 128;

/// Events that nobody has taken.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    missed: u64,
}

impl Events {
    pub(crate) fn push(&mut self, event: Event) {
        if self.queue.len() == EVENTS_MAX {
            self.queue.pop_front();
            self.missed += 1;
        }
        self.queue.push_back(event);
    }

    /// The oldest; before it, that there were older ones.
    pub(crate) fn take(&mut self) -> Option<Event> {
        match std::mem::take(&mut self.missed) {
            0 => self.queue.pop_front(),
            missed => Some(Event::Missed(missed)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_events_are_dropped_and_counted() {
        let grew = |to| Event::PartitionsGrew { topic: "t".into(), from: 1, to };
        let mut events = Events::default();
        assert_eq!(events.take(), None);
        (1..=130).for_each(|to| events.push(grew(to)));
        assert_eq!(events.take(), Some(Event::Missed(2)));
        for to in 3..=130 {
            assert_eq!(events.take(), Some(grew(to)));
        }
        assert_eq!((events.take(), events.is_empty()), (None, true));
    }
}
