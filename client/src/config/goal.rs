//! The four goals of a service, each as the settings that serve it.
//!
//! It owns which values a goal sets, what works against it, and what it asks of topics and brokers. It refuses to overrule
//! anybody: a value that the user has set stays. Invariant: whatever works against a goal is reported by the key that
//! has to change.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ottla_protocol::records::Compression;

use super::explain::Settings;
use super::problem::{ConfigError, Findings};
use super::{
    Acks, ClientBuilder, ClientConfig, ConsumerConfig, Done, GroupProtocol, IsolationLevel, ProducerConfig,
    Reset, When,
};
use crate::error::Error;

/// What matters most to a service. [`ClientBuilder::goal`](crate::ClientBuilder::goal) sets producers and consumers
/// accordingly, wherever the user has said nothing; [`Client::explain`](crate::Client::explain) tells what that is, what it
/// trades, and what topics and brokers have to do for it.
///
/// No goal weakens what an acknowledgement means: `acks=all` and retries stay.
///
/// ```
/// use ottla::{Client, Goal};
///
/// # fn main() -> Result<(), ottla::Error> {
/// let client = Client::builder().bootstrap("localhost:9092").goal(Goal::Latency).build()?;
/// let linger = client.explain()?.settings().iter().find(|setting| setting.key == "linger.ms").map(|s| s.value.clone());
/// assert_eq!(linger.as_deref(), Some("0"));
/// assert_eq!("latency".parse::<Goal>()?, Goal::Latency);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// As many bytes as possible: large, compressed batches that wait to be full.
    Throughput,
    /// Each record as soon as possible: nothing waits for company.
    Latency,
    /// No record is lost or seen twice: all replicas acknowledge, only committed transactions are read, and nothing is
    /// committed by the clock.
    Durability,
    /// Service goes on when machines fail: what a lost member held is soon somebody else's.
    Availability,
}

impl Goal {
    /// All of them.
    pub const ALL: [Goal; 4] = [Goal::Throughput, Goal::Latency, Goal::Durability, Goal::Availability];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Goal::Throughput => "throughput",
            Goal::Latency => "latency",
            Goal::Durability => "durability",
            Goal::Availability => "availability",
        }
    }

    /// What topics and brokers have to do for it, which no client can: a setting of theirs, and its value.
    pub fn needs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Goal::Throughput => &[("num.partitions", "enough that every consumer of the group has some")],
            Goal::Latency => {
                &[("num.partitions", "few for each broker: each is one more to replicate and to answer for")]
            }
            Goal::Durability => &[
                ("replication.factor", "3"),
                ("min.insync.replicas", "2"),
                ("unclean.leader.election.enable", "false"),
                ("auto.create.topics.enable", "false"),
                ("broker.rack", "one for each zone, so that replicas do not fail together"),
            ],
            Goal::Availability => &[
                ("min.insync.replicas", "1: writing goes on with one replica, and that one can be lost"),
                (
                    "unclean.leader.election.enable",
                    "true: a replica that is behind may lead, and what it lacks is lost",
                ),
                ("num.partitions", "few, so that new leaders are soon found for all"),
            ],
        }
    }

    /// What is often advised for this goal and not done here, with its price.
    pub(super) fn kept(self) -> &'static [(&'static str, &'static str)] {
        const ACKS: (&str, &str) = (
            "acks",
            "stays all: acks=1 saves the wait for the replicas, and loses what was acknowledged when a leader fails",
        );
        const RETRIES: (&str, &str) = (
            "retries",
            "stay: retries=0 saves nothing while all is well, and makes each lost connection a lost batch",
        );
        match self {
            Goal::Throughput => &[ACKS, RETRIES],
            Goal::Latency => &[ACKS],
            Goal::Durability | Goal::Availability => &[],
        }
    }

    /// Sets what the user has not set in a file; what the program sets comes later.
    pub(super) fn apply<C: Settings>(self, client: &ClientConfig, config: &mut C) {
        for aim in C::aims(self) {
            if let Some(set) = aim.set
                && !client.given.contains(aim.key)
            {
                set(config);
            }
        }
    }

    /// Warns of what the user has set against the goal.
    pub(super) fn weigh<C: Settings>(self, client: &ClientConfig, config: &C, found: &mut Findings) {
        for aim in C::aims(self) {
            if (aim.against)(config) && client.is_set_by_user(config, aim.key) {
                found.warn(&[aim.key], format!("it works against the goal {self}: {}", aim.harm));
            }
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Goal {
    type Err = Error;

    /// Reads a goal by its [`name`](Goal::name).
    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || ConfigError::BadValue {
            key: "goal",
            value: text.to_owned(),
            expected: format!("one of {}", Goal::ALL.map(Goal::name).join(", ")),
            nearest: super::nearest::nearest_value(text, Goal::ALL.map(Goal::name).into_iter()),
        };
        let found = Goal::ALL.into_iter().find(|goal| goal.name().eq_ignore_ascii_case(text));
        Ok(found.ok_or_else(unknown)?)
    }
}

/// What a goal wants of one setting.
pub(super) struct Aim<C: 'static> {
    pub(super) key: &'static str,
    /// Sets it; nothing where the goal is served by the default, whatever that is.
    pub(super) set: Option<fn(&mut C)>,
    /// Whether a value that the user has set works against the goal.
    against: fn(&C) -> bool,
    harm: &'static str,
}

const fn aim<C>(key: &'static str, set: fn(&mut C), against: fn(&C) -> bool, harm: &'static str) -> Aim<C> {
    Aim { key, set: Some(set), against, harm }
}

const fn shun<C>(key: &'static str, against: fn(&C) -> bool, harm: &'static str) -> Aim<C> {
    Aim { key, set: None, against, harm }
}

/// Nobody can ask for too little of it.
fn never<C>(_: &C) -> bool {
    false
}

pub(super) fn of_producers(goal: Goal) -> &'static [Aim<ProducerConfig>] {
    match goal {
        Goal::Throughput => THROUGHPUT_PRODUCERS,
        Goal::Latency => LATENCY_PRODUCERS,
        Goal::Durability => DURABILITY_PRODUCERS,
        Goal::Availability => &[],
    }
}

const THROUGHPUT_PRODUCERS: &[Aim<ProducerConfig>] = &[
    aim(
        "batch.size",
        |c| c.batch_size = 131_072,
        |c| c.batch_size < 16_384,
        "small batches cost a request each",
    ),
    aim(
        "linger.ms",
        |c| c.linger = Duration::from_millis(50),
        |c| c.linger < Duration::from_millis(5),
        "batches are sent before they are full",
    ),
    aim(
        "compression.type",
        |c| c.compression = Compression::Lz4,
        |c| c.compression == Compression::None,
        "each byte crosses the network and the disks as it is",
    ),
    aim(
        "buffer.memory",
        |c| c.buffer_memory = 64 << 20,
        |c| c.buffer_memory < 32 << 20,
        "the application waits for room while brokers could take more",
    ),
    shun(
        "max.in.flight.requests.per.connection",
        |c| c.max_in_flight < 2,
        "each request waits for the answer to the one before",
    ),
];
const LATENCY_PRODUCERS: &[Aim<ProducerConfig>] = &[
    aim(
        "linger.ms",
        |c| c.linger = Duration::ZERO,
        |c| c.linger > Duration::from_millis(5),
        "a record waits that long for others before it is sent",
    ),
    aim(
        "compression.type",
        |c| c.compression = Compression::None,
        |c| c.compression != Compression::None,
        "compressing takes time that small batches do not win back",
    ),
];
const DURABILITY_PRODUCERS: &[Aim<ProducerConfig>] = &[
    aim(
        "acks",
        |c| c.acks = Acks::All,
        |c| c.acks != Acks::All,
        "what is acknowledged is lost with the leader",
    ),
    aim(
        "enable.idempotence",
        |c| c.idempotence = true,
        |c| !c.idempotence,
        "a retry may write a record twice, or behind a later one",
    ),
    aim(
        "max.in.flight.requests.per.connection",
        |c| c.max_in_flight = c.max_in_flight.min(5),
        |c| c.max_in_flight > 5,
        "a broker remembers the last five batches, and cannot tell older ones from new ones",
    ),
    shun("retries", |c| c.retries == 0, "each lost connection is a lost batch"),
];

pub(super) fn of_consumers(goal: Goal) -> &'static [Aim<ConsumerConfig>] {
    match goal {
        Goal::Throughput => THROUGHPUT_CONSUMERS,
        Goal::Latency => LATENCY_CONSUMERS,
        Goal::Durability => DURABILITY_CONSUMERS,
        Goal::Availability => AVAILABILITY_CONSUMERS,
    }
}

const THROUGHPUT_CONSUMERS: &[Aim<ConsumerConfig>] = &[
    aim(
        "fetch.min.bytes",
        |c| c.fetch_min_bytes = 100_000,
        |c| c.fetch_min_bytes <= 1,
        "a broker answers with the first record that comes",
    ),
    shun("enable.auto.commit", |c| c.when == When::EachRecord, "each record costs a request"),
];
const LATENCY_CONSUMERS: &[Aim<ConsumerConfig>] = &[aim(
    "fetch.min.bytes",
    |c| c.fetch_min_bytes = 1,
    |c| c.fetch_min_bytes > 1,
    "a record waits for others, at most fetch.max.wait.ms",
)];
const DURABILITY_CONSUMERS: &[Aim<ConsumerConfig>] = &[
    aim(
        "isolation.level",
        |c| c.isolation_level = IsolationLevel::ReadCommitted,
        |c| c.isolation_level != IsolationLevel::ReadCommitted,
        "records of aborted transactions are read",
    ),
    aim(
        "enable.auto.commit",
        |c| c.when = When::EachBatch,
        |c| matches!(c.when, When::Every(_)),
        "commits follow the clock and not the work: a crash repeats what the time between them brought",
    ),
    shun("finish_on", |c| c.done == Done::Delivered, "a crash loses the records in hand"),
    shun(
        "auto.offset.reset",
        |c| c.on_out_of_range == Reset::Latest || c.on_no_commit == Reset::Latest,
        "records are skipped without a word",
    ),
];
const AVAILABILITY_CONSUMERS: &[Aim<ConsumerConfig>] = &[
    aim(
        "group.protocol",
        |c| c.group_protocol = GroupProtocol::Classic,
        |c| c.group_protocol == GroupProtocol::Consumer,
        "the broker alone decides how soon a lost member is noticed, after 45 s if it was told nothing else",
    ),
    aim(
        "session.timeout.ms",
        |c| c.session_timeout = Duration::from_secs(10),
        |c| c.session_timeout > Duration::from_secs(45),
        "what a lost member held stands still that long",
    ),
    aim("heartbeat.interval.ms", |c| c.heartbeat_interval = Duration::from_secs(3), never, ""),
];

impl ClientBuilder {
    /// What matters most: sets producers and consumers for it, wherever properties and calls say nothing. Replaces an
    /// earlier goal. Default: none.
    pub fn goal(mut self, goal: Goal) -> Self {
        self.config.goal = Some(goal);
        self
    }

    /// Applies the goal, when everything else is known.
    pub(crate) fn settle_goal(&mut self) {
        if let Some(goal) = self.config.goal {
            goal.apply(&self.config, &mut self.producer);
            goal.apply(&self.config, &mut self.consumer);
        }
    }
}
