//! The machines: all protocol state, and no I/O.
//!
//! A machine is a value that is told what happened and asked what to do. It never reads a clock, a socket or a random
//! source, takes no lock and starts no task: the same inputs give the same outputs. The drivers above move bytes and
//! wake tasks; what they must never do is look inside an answer.
//!
//! A link is pulled: its task asks [`Machine::poll_work`] whenever its socket can take more. Nothing is pushed, so a
//! machine cannot flood a slow broker, and batches grow while a socket is slow.
// Tests may read a clock to start from.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub(crate) mod accumulator;
mod acks;
#[cfg(test)]
mod alone;
pub(crate) mod ask;
pub(crate) mod backoff;
pub(crate) mod batch;
pub(crate) mod cluster;
mod commits;
pub(crate) mod compression;
pub(crate) mod consumer;
pub(crate) mod coordinator;
mod delivery;
mod epochs;
pub(crate) mod failures;
mod fetch;
mod fill;
mod followers;
pub(crate) mod group;
mod handover;
mod heat;
pub(crate) mod held;
pub(crate) mod hooks;
mod ledger;
pub(crate) mod metadata;
pub(crate) mod offsets;
pub(crate) mod ownership;
mod pattern;
pub(crate) mod positions;
pub(crate) mod producer;
mod queue;
pub(crate) mod readers;
mod resets;
pub(crate) mod saying;
#[cfg(test)]
mod seeds;
pub(crate) mod sequence;
mod session;
mod settling;
mod shipping;
mod splitting;
mod standing;
pub(crate) mod tally;
mod times;
pub(crate) mod transaction;
mod verdict;
mod watchdog;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ottla_protocol::api::Versions;
use ottla_protocol::messages::SyncGroupAssignment;
use ottla_protocol::records::Stamp;
use ottla_protocol::wire::Str;

use crate::error::Error;
pub(crate) use ask::{Answer, Ask};

/// What a request is for. A broker answers the requests of one connection one at a time, so what may wait long stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Everything that is answered at once: metadata, offsets, coordinators, commits.
    Control,
    /// Record batches to write.
    Produce,
    /// Long polls for records.
    Fetch,
    /// Fetches for partitions that joined while a long poll was out: they do not wait for it.
    Aside,
    /// JoinGroup, SyncGroup and heartbeats: a JoinGroup waits as long as a rebalance takes.
    Group,
}

/// A partition by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicPartition {
    pub(crate) topic: Str,
    pub(crate) partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// One connection to one broker. Negative nodes are bootstrap addresses whose node id is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(crate) node: i32,
    pub(crate) lane: Lane,
}

/// A link that should exist: the driver opens it and tells the machine `Opened` or `Lost`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dial {
    pub(crate) link: Link,
    pub(crate) host: Str,
    pub(crate) port: u16,
    /// The cluster that the broker must belong to, where that is known and to be checked (KIP-1242).
    pub(crate) cluster_id: Option<Str>,
    /// For the whole of connect and handshake.
    pub(crate) timeout: Duration,
}

/// A request to write on a link.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    pub(crate) version: i16,
    /// From now; when it has passed without an answer the link is closed.
    pub(crate) timeout: Duration,
    /// False for a Produce with acks=0, which a broker never answers.
    pub(crate) answered: bool,
}

/// What a link is to do next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made and used up at once, once a request")]
pub(crate) enum Work {
    Request(Request),
    /// Close the link, for this reason.
    Close(Error),
    /// Batches to compress, stamp and write: computing that the lock must not see.
    Produce(Box<crate::core::batch::Shipment>),
    /// A batch to split: more of that computing.
    Split(Box<crate::core::batch::Oversized>),
    /// Partitions to share among the members of a group: as much computing as there are of both.
    Share(Box<crate::core::group::Sharing>),
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A link is connected and authenticated, and its broker speaks these versions.
    Opened { link: Link, versions: Versions },
    /// The answer to the oldest unanswered request of a link.
    Answer { link: Link, answer: Answer },
    /// The batches of the last [`Work::Produce`] are encoded: what a retry sends again.
    Shipped { link: Link, encoded: Vec<(Bytes, Stamp)> },
    /// The answer to [`Work::Split`]: the parts of a batch, their headers not yet stamped.
    Split { at: usize, number: batch::Number, parts: Vec<(BytesMut, Stamp)> },
    /// The answer to [`Work::Share`]: what each member of this generation gets.
    Shared { generation: i32, shares: Result<Vec<SyncGroupAssignment>, Error> },
    /// A link could not be opened, or is gone with all that was unanswered on it.
    Lost { link: Link, cause: Error },
    /// Time passed.
    Tick,
}

/// The time, twice: for deadlines and for the timestamps of records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Milliseconds since the Unix epoch.
    pub(crate) wall_ms: i64,
}

/// What a driver may ask of a machine. Nothing here blocks, reads a clock or touches a socket.
pub(crate) trait Machine: Send + 'static {
    /// What is to be told to user tasks when the lock is open again.
    type News: Send;

    /// Tells it what happened.
    fn handle(&mut self, now: Instant, input: Input);

    /// A link that should exist now and does not: it counts as being dialled from here on.
    fn poll_dial(&mut self, now: Instant) -> Option<Dial>;

    /// What to write on an open link next.
    fn poll_work(&mut self, now: Instant, link: Link) -> Option<Work>;

    /// Whether [`Machine::poll_work`] would give something. Pure, so that the simulator can ask it of every sleeper.
    fn wants(&self, now: Instant, link: Link) -> bool;

    /// When `wants` may become true by time alone; the link's own timer asks again then.
    fn ready_at(&self, link: Link) -> Option<Instant>;

    /// Whether [`Machine::poll_dial`] would give something. Pure.
    fn wants_dial(&self, now: Instant) -> bool;

    /// When to send `Tick`, or to ask `poll_dial` again.
    fn deadline(&self) -> Option<Instant>;

    /// What there is to tell.
    fn take_news(&mut self) -> Vec<Self::News>;

    /// Tells it, outside the lock.
    fn tell(news: Self::News);
}
