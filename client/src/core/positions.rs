//! Where a consumer stands in each of its partitions.
//!
//! It owns, for each partition, what is fetched next, what waits to be read, and the [`Lease`] that tells how far the
//! application has come. It refuses to know brokers. Invariant: every change of position that is not reading on makes a new
//! lease, so whatever was fetched, lent or finished under the old one counts for nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use ottla_protocol::messages::AbortedTransaction;
use ottla_protocol::wire::Uuid;

use super::TopicPartition;
use super::acks::Acks;
use super::epochs::Epochs;
use super::held::Charge;
use super::times::Times;
use super::watchdog::Watched;
use crate::config::Reset;
use crate::error::Error;
use crate::event::PositionCause;

/// What the machine and the reading task share of one ownership of one partition, from one seek to the next. Both facts
/// live here and nowhere else, because they are read or written for each record.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The offset after the last finished record.
    finished: AtomicI64,
    /// The partition was given up, or read from elsewhere: nothing more of it may be delivered.
    recalled: AtomicBool,
    /// Nothing of it is to be delivered for now.
    paused: AtomicBool,
}

impl Lease {
    fn new(finished: i64, paused: bool) -> Arc<Self> {
        let (finished, recalled) = (AtomicI64::new(finished), AtomicBool::new(false));
        Arc::new(Self { finished, recalled, paused: AtomicBool::new(paused) })
    }

    /// Everything below `offset` is finished. Only the reading task says so, in order; or only the machine, where records are
    /// acknowledged.
    #[inline]
    pub(crate) fn finish(&self, offset: i64) {
        self.finished.store(offset, Relaxed);
    }

    pub(crate) fn finished(&self) -> i64 {
        self.finished.load(Relaxed)
    }

    #[inline]
    pub(crate) fn is_recalled(&self) -> bool {
        self.recalled.load(Relaxed)
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    pub(crate) fn recall(&self) {
        self.recalled.store(true, Relaxed);
    }
}

/// Fetched records of one partition, not yet looked at.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) partition: TopicPartition,
    pub(crate) records: Bytes,
    /// Records below it come only because their batch begins earlier.
    pub(crate) from: i64,
    /// The offset after the last one; `None` if no batch could be read.
    pub(crate) end: Option<i64>,
    pub(crate) aborted: Vec<AbortedTransaction>,
    pub(crate) lease: Arc<Lease>,
    /// Finished records of the partition since its last commit, when the chunk was handed out.
    pub(crate) uncommitted: u32,
    /// The records, and what is decompressed of them.
    pub(crate) charge: Charge,
}

impl Chunk {
    /// Nothing more is read of it.
    pub(crate) fn let_go(self) -> (TopicPartition, Arc<Lease>) {
        (self.partition, self.lease)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Place {
    /// The group knows.
    Committed,
    /// To be looked up: the oldest or the newest record.
    Reset(Reset),
    /// To be looked up: the first record that is not older than this time. The end is asked for before, as the place if there
    /// is none: a record that is written between the two questions is not passed over.
    Time { timestamp: i64, end: Option<i64> },
    /// The offset to fetch next.
    At(i64),
    /// Nothing is fetched until a seek: an error was reported.
    Failed,
}

impl Place {
    /// The time by which ListOffsets is asked for it, or one of its names for the ends of a log.
    pub(super) fn sought(self) -> Option<i64> {
        match self {
            Place::Reset(Reset::Latest) | Place::Time { end: None, .. } => Some(NEWEST),
            Place::Reset(_) => Some(OLDEST),
            Place::Time { timestamp, end: Some(_) } => Some(timestamp),
            Place::Committed | Place::At(_) | Place::Failed => None,
        }
    }
}

/// How ListOffsets names the ends of a log.
const NEWEST: i64 = -1;
const OLDEST: i64 = -2;

#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) place: Place,
    pub(crate) lease: Arc<Lease>,
    /// The topic that it is a place in, which may be deleted and created again; zero while nobody knows.
    pub(crate) topic_id: Uuid,
    /// Of the records in front of it.
    pub(crate) epochs: Epochs,
    /// Not to be asked for before this time.
    pub(crate) retry_at: Option<Instant>,
    /// Attempts that failed since the last one that did not.
    pub(crate) attempts: u32,
    /// Nothing is asked of it: user code is to be told first that it has come, or it is being given up.
    pub(crate) held: bool,
    /// A request for it is out.
    pub(crate) asked: bool,
    pub(crate) waiting: VecDeque<Chunk>,
    pub(crate) waiting_bytes: usize,
    /// What the group holds, as far as we know.
    pub(crate) committed: Option<i64>,
    /// Finished records since the last commit was sent.
    pub(crate) uncommitted: u32,
    /// What was acknowledged behind the first record that was not.
    pub(crate) acks: Acks,
    /// The end of what may be read: the high watermark, or the last stable offset when only committed records are read.
    pub(crate) readable_end: Option<i64>,
    /// The end of what is replicated.
    pub(crate) high_watermark: Option<i64>,
    pub(crate) times: Times,
    /// It goes on elsewhere and nobody asked for that: where it was, and why. To be told when the new place is known.
    pub(crate) moved: Option<(Option<i64>, PositionCause)>,
    pub(crate) watched: Option<Watched>,
    /// A replica that its leader told to read from, and until when that is believed (KIP-392).
    pub(crate) preferred: Option<(i32, Instant)>,
    /// The number of its reader, where each partition has its own.
    pub(crate) reader: u64,
    /// Its reader waits for records.
    pub(crate) awaited: bool,
}

impl Position {
    pub(crate) fn new(place: Place) -> Self {
        let start = if let Place::At(offset) = place { offset } else { -1 };
        Self {
            place,
            lease: Lease::new(start, false),
            topic_id: Uuid::ZERO,
            epochs: Epochs::default(),
            retry_at: None,
            attempts: 0,
            held: false,
            asked: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            committed: None,
            uncommitted: 0,
            acks: Acks::default(),
            readable_end: None,
            high_watermark: None,
            times: Times::default(),
            moved: None,
            watched: None,
            preferred: None,
            reader: 0,
            awaited: false,
        }
    }

    /// Whether something may be asked of it now.
    pub(crate) fn is_open(&self) -> bool {
        !self.held && self.retry_at.is_none()
    }

    /// Goes elsewhere. What was fetched is dropped, what is lent counts no more.
    pub(crate) fn go_to(&mut self, place: Place) {
        let start = if let Place::At(offset) = place { offset } else { -1 };
        self.lease.recall();
        self.lease = Lease::new(start, self.lease.is_paused());
        (self.place, self.retry_at, self.asked, self.uncommitted) = (place, None, false, 0);
        (self.epochs, self.attempts) = (Epochs::default(), 0);
        self.acks.clear();
        self.times.clear();
        (self.moved, self.preferred) = (None, None);
        self.drop_waiting();
    }

    pub(crate) fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// Learns where it is to start, from the group or from the log, and under which leader epoch the record in front of it
    /// was written, -1 if nobody knows.
    pub(crate) fn start_at(&mut self, offset: i64, leader_epoch: i32) {
        self.place = Place::At(offset);
        self.lease.finish(offset);
        self.attempts = 0;
        self.epochs = Epochs::default();
        self.epochs.begin(offset.saturating_sub(1), leader_epoch);
    }

    /// What is finished and not committed yet.
    pub(crate) fn to_commit(&self) -> Option<i64> {
        let finished = self.lease.finished();
        (finished >= 0 && self.committed != Some(finished)).then_some(finished)
    }

    /// Records between the application and the end of the partition; `None` until a fetch has told the end.
    pub(crate) fn lag(&self) -> Option<i64> {
        let finished = self.lease.finished();
        self.readable_end.filter(|_| finished >= 0).map(|end| (end - finished).max(0))
    }
}

/// An error about a partition, to be reported once.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Reported only while this lease holds; `None` for what concerns the whole consumer.
    pub(crate) lease: Option<Arc<Lease>>,
    pub(crate) error: Error,
}
