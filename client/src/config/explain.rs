//! What is in force, where it came from, and what it trades.
//!
//! It owns the list of all settings as a reader wants to see them. It refuses to decide: values come from the checked
//! settings, goals say themselves what works against them. Invariant: each setting is a line here, which a test holds
//! against the table of property names.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::goal::{Aim, Goal, of_consumers, of_producers};
use super::problem::{Findings, Warning};
use super::{
    Acks, ClientBuilder, ClientConfig, ConsumerBuilder, ConsumerConfig, ProducerBuilder, ProducerConfig, When,
};
use crate::client::Client;
use crate::error::Error;

/// Where a value came from.
///
/// ```
/// assert_eq!(ottla::Origin::Property.to_string(), "property");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody has said anything: this crate's default, or Java's for a client that was made from properties.
    Default,
    /// The [`Goal`] of the client.
    Goal,
    /// [`ClientBuilder::from_properties`](crate::ClientBuilder::from_properties).
    Property,
    /// A method of a builder.
    Call,
    /// Another setting, which this one has to follow; a warning says which.
    Rule,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Origin::Default => "default",
            Origin::Goal => "goal",
            Origin::Property => "property",
            Origin::Call => "call",
            Origin::Rule => "rule",
        })
    }
}

/// A setting as it is in force. Values have Kafka's units: milliseconds and bytes.
///
/// ```
/// # fn example(explanation: ottla::Explanation) {
/// for setting in explanation.settings() {
///     println!("{}={} # {}", setting.key, setting.value, setting.trade);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Whose it is: client, producer or consumer.
    pub of: &'static str,
    /// Kafka's name, or that of the builder's method where Kafka has none.
    pub key: &'static str,
    /// What is in force.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
    /// What more of it, or another choice, would win and cost.
    pub trade: &'static str,
}

/// All settings of a client, a producer or a consumer, with what is odd about them. Printed, it is a table.
///
/// ```
/// use std::time::Duration;
/// use ottla::{Client, Goal, Origin};
///
/// # fn main() -> Result<(), ottla::Error> {
/// let client = Client::builder().bootstrap("localhost:9092").goal(Goal::Latency).build()?;
/// let explanation = client.producer().linger(Duration::from_millis(100)).explain()?;
/// assert_eq!(explanation.warnings()[0].keys(), ["linger.ms"]);
/// assert!(explanation.to_string().contains("works against the goal latency"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Explanation {
    goal: Option<Goal>,
    settings: Vec<Setting>,
    warnings: Vec<Warning>,
}

impl Explanation {
    /// Every setting.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// What contradicts the goal, has no effect, or gave way to another setting.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn new(client: &Client) -> Result<Self, Error> {
        let warnings = client.builder.warnings.clone();
        let mut this = Self { goal: client.config.goal, settings: Vec::new(), warnings };
        this.add::<ClientConfig>(&client.config, &client.config, &client.config);
        Ok(this)
    }

    fn add<C: Settings>(&mut self, client: &ClientConfig, set: &C, checked: &C) {
        for line in C::LINES {
            let value = (line.show)(checked);
            let origin = if (line.show)(set) == value { client.origin(set, line.key) } else { Origin::Rule };
            self.settings.push(Setting { of: C::OF, key: line.key, value, origin, trade: line.trade });
        }
    }

    fn with_producer(mut self, client: &ClientConfig, config: &ProducerConfig) -> Result<Self, Error> {
        let mut checked = config.clone();
        self.warnings.extend(checked.check(client)?);
        self.add(client, config, &checked);
        Ok(self)
    }

    fn with_consumer(mut self, client: &ClientConfig, config: &ConsumerConfig) -> Result<Self, Error> {
        let mut checked = config.clone();
        self.warnings.extend(checked.check(client)?);
        self.add(client, config, &checked);
        Ok(self)
    }
}

impl Client {
    /// The settings in force: the client's own, and those that its producers and consumers start from.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), when no producer or consumer could be built.
    pub fn explain(&self) -> Result<Explanation, Error> {
        let ClientBuilder { producer, consumer, .. } = &*self.builder;
        Explanation::new(self)?.with_producer(&self.config, producer)?.with_consumer(&self.config, consumer)
    }
}

impl ProducerBuilder {
    /// The settings in force for this producer and its client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), which names the settings that are wrong.
    pub fn explain(&self) -> Result<Explanation, Error> {
        Explanation::new(&self.client)?.with_producer(&self.client.config, &self.config)
    }
}

impl ConsumerBuilder {
    /// The settings in force for this consumer and its client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), which names the settings that are wrong.
    pub fn explain(&self) -> Result<Explanation, Error> {
        Explanation::new(&self.client)?.with_consumer(&self.client.config, &self.config)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
        let value = self.settings.iter().map(|s| s.value.len()).max().unwrap_or(0).min(32);
        let mut of = "";
        for setting in &self.settings {
            if of != setting.of {
                of = setting.of;
                writeln!(f, "{of:<width$}    {:<value$}  {:<8}  trade", "value", "from")?;
            }
            let Setting { key: name, value: shown, origin, trade, .. } = setting;
            writeln!(f, "  {name:<width$}  {shown:<value$}  {origin:<8}  {trade}")?;
        }
        if let Some(goal) = self.goal {
            writeln!(f, "the goal {goal} asks of topics and brokers")?;
            for (name, needed) in goal.needs() {
                writeln!(f, "  {name:<width$}  {needed}")?;
            }
            for (name, why) in goal.kept() {
                writeln!(f, "kept: {name} {why}")?;
            }
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

/// A line of the table.
pub(super) struct Line<C: 'static> {
    pub(super) key: &'static str,
    /// The builder's method.
    pub(super) setter: &'static str,
    pub(super) show: fn(&C) -> String,
    pub(super) trade: &'static str,
}

const fn line<C>(
    key: &'static str,
    setter: &'static str,
    show: fn(&C) -> String,
    trade: &'static str,
) -> Line<C> {
    Line { key, setter, show, trade }
}

/// What can be explained: the settings of a client, a producer or a consumer.
pub(super) trait Settings: Sized + 'static {
    const OF: &'static str;
    const LINES: &'static [Line<Self>];
    fn aims(goal: Goal) -> &'static [Aim<Self>];
    /// The builder's methods that were called.
    fn called(&self) -> &BTreeSet<&'static str>;
}

impl ClientConfig {
    pub(super) fn origin<C: Settings>(&self, config: &C, key: &'static str) -> Origin {
        let aims = |goal: Goal| C::aims(goal).iter().any(|aim| aim.key == key && aim.set.is_some());
        let line = C::LINES.iter().find(|line| line.key == key);
        if line.is_some_and(|line| config.called().contains(line.setter)) {
            Origin::Call
        } else if self.given.contains(key) {
            Origin::Property
        } else if self.goal.is_some_and(aims) {
            Origin::Goal
        } else {
            Origin::Default
        }
    }

    /// Whether a file or the program has said what `key` is to be.
    pub(super) fn is_set_by_user<C: Settings>(&self, config: &C, key: &'static str) -> bool {
        matches!(self.origin(config, key), Origin::Property | Origin::Call)
    }

    /// Warns of what was set against the goal.
    pub(super) fn weigh<C: Settings>(&self, config: &C, found: &mut Findings) {
        if let Some(goal) = self.goal {
            goal.weigh(self, config, found);
        }
    }
}

fn ms(time: Duration) -> String {
    time.as_millis().to_string()
}

fn or(value: Option<impl fmt::Display>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), |value| value.to_string())
}

/// A name of a variant as configurations have it.
fn word(value: impl fmt::Debug) -> String {
    let mut words = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && words.ends_with(char::is_lowercase) {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

impl Settings for ClientConfig {
    const OF: &'static str = "client";
    const LINES: &'static [Line<Self>] = &[
        line(
            "bootstrap.servers",
            "bootstrap",
            |c| c.servers.join(","),
            "more of them find the cluster when some are down",
        ),
        line(
            "client.id",
            "client_id",
            |c| if c.client_id.is_empty() { "by kind and number".into() } else { c.client_id.to_string() },
            "the name in the brokers' logs and quotas",
        ),
        line(
            "client.rack",
            "client_rack",
            |c| or(c.client_rack.as_ref(), "unknown"),
            "set: partitions and replicas near by, where the cluster has them",
        ),
        line(
            "request.timeout.ms",
            "request_timeout",
            |c| ms(c.request_timeout),
            "shorter: a stuck broker is left sooner; longer: a slow one is waited for",
        ),
        line(
            "default.api.timeout.ms",
            "default_api_timeout",
            |c| ms(c.default_api_timeout),
            "shorter: calls fail sooner; longer: they outlive more trouble",
        ),
        line(
            "metadata.max.age.ms",
            "metadata_max_age",
            |c| ms(c.metadata_max_age),
            "shorter: new partitions are seen sooner, for more requests",
        ),
        line(
            "metadata.recovery.rebootstrap.trigger.ms",
            "rebootstrap_trigger",
            |c| ms(c.rebootstrap_trigger),
            "shorter: a cluster that moved is found sooner",
        ),
        line(
            "connections.max.idle.ms",
            "connections_max_idle",
            |c| ms(c.connections_max_idle),
            "longer: fewer connections are opened again; beyond a load balancer's limit they are cut",
        ),
        line(
            "send.buffer.bytes",
            "send_buffer_bytes",
            |c| or(c.send_buffer_bytes, "operating system's"),
            "a fixed size ends the system's own tuning",
        ),
        line(
            "receive.buffer.bytes",
            "receive_buffer_bytes",
            |c| or(c.receive_buffer_bytes, "operating system's"),
            "a fixed size ends the system's own tuning",
        ),
        line(
            "receive.message.max.bytes",
            "frame_bytes_max",
            |c| c.frame_bytes_max.to_string(),
            "the most memory that one answer can cost",
        ),
        line(
            "allow.auto.create.topics",
            "allow_auto_create_topics",
            |c| c.allow_auto_create_topics.to_string(),
            "true: a mistyped name becomes a topic",
        ),
        line(
            "retry.backoff.ms",
            "retry_backoff",
            |c| ms(c.retry_backoff),
            "shorter: back sooner, at the price of more requests in trouble",
        ),
        line(
            "retry.backoff.max.ms",
            "retry_backoff",
            |c| ms(c.retry_backoff_max),
            "the longest wait between two attempts",
        ),
        line(
            "reconnect.backoff.ms",
            "reconnect_backoff",
            |c| ms(c.reconnect_backoff),
            "shorter: back sooner, at the price of more attempts",
        ),
        line(
            "reconnect.backoff.max.ms",
            "reconnect_backoff",
            |c| ms(c.reconnect_backoff_max),
            "the longest wait between two attempts",
        ),
        line(
            "socket.connection.setup.timeout.ms",
            "socket_setup_timeout",
            |c| ms(c.socket_setup_timeout),
            "shorter: a dead address is left sooner",
        ),
        line(
            "socket.connection.setup.timeout.max.ms",
            "socket_setup_timeout",
            |c| ms(c.socket_setup_timeout_max),
            "what it grows to while connecting fails",
        ),
    ];

    fn aims(_: Goal) -> &'static [Aim<Self>] {
        &[]
    }

    fn called(&self) -> &BTreeSet<&'static str> {
        &self.called
    }
}

impl Settings for ProducerConfig {
    const OF: &'static str = "producer";
    const LINES: &'static [Line<Self>] = &[
        line(
            "acks",
            "acks",
            |c| match c.acks {
                Acks::All => "all".into(),
                acks => acks.wire().to_string(),
            },
            "fewer: sooner acknowledged, and lost with the leader",
        ),
        line(
            "enable.idempotence",
            "idempotence",
            |c| c.idempotence.to_string(),
            "false: retries may duplicate and reorder",
        ),
        line(
            "retries",
            "retries",
            |c| c.retries.to_string(),
            "fewer: errors come before delivery.timeout.ms",
        ),
        line(
            "max.in.flight.requests.per.connection",
            "max_in_flight",
            |c| c.max_in_flight.to_string(),
            "more: a long way to the broker costs less; beyond 5 without idempotence only",
        ),
        line(
            "delivery.timeout.ms",
            "delivery_timeout",
            |c| ms(c.delivery_timeout),
            "longer: outlives longer outages; shorter: errors come sooner, some of them in doubt",
        ),
        line(
            "linger.ms",
            "linger",
            |c| ms(c.linger),
            "more: fuller batches and fewer requests; less: each record goes sooner",
        ),
        line(
            "batch.size",
            "batch_size",
            |c| c.batch_size.to_string(),
            "larger: fewer requests and better compression, for more memory",
        ),
        line(
            "buffer.memory",
            "buffer_memory",
            |c| c.buffer_memory.to_string(),
            "more: longer pauses of a broker go unnoticed",
        ),
        line(
            "max.block.ms",
            "max_block",
            |c| ms(c.max_block),
            "longer: full buffers hold the caller up; shorter: they are errors",
        ),
        line(
            "max.request.size",
            "max_request_size",
            |c| c.max_request_size.to_string(),
            "larger: larger records; the topic has a limit of its own",
        ),
        line(
            "compression.type",
            "compression",
            |c| c.compression.to_string(),
            "less network and disk for processor time: lz4 and snappy are quick, zstd and gzip are small",
        ),
        line(
            "compression.level",
            "compression_level",
            |c| or(c.compression_level, "the codec's own"),
            "higher: smaller and slower",
        ),
        line(
            "interceptor.classes",
            "interceptor",
            |c| or(Some(c.interceptors.len()).filter(|len| *len > 0), "none"),
            "each sees every record: what they cost is paid for each",
        ),
        line(
            "partitioner.class",
            "partitioner",
            |c| word(&c.partitioner),
            "equal keys must meet: all producers of a topic need the same",
        ),
        line(
            "partitioner.adaptive.partitioning.enable",
            "adaptive_partitioning",
            |c| c.adaptive_partitioning.to_string(),
            "true: slow brokers get fewer of the records without a key; false: all get as many",
        ),
        line(
            "partitioner.availability.timeout.ms",
            "partition_availability_timeout",
            |c| ms(c.partition_availability_timeout),
            "0: only queues tell; more: a broker that takes nothing for so long is passed over",
        ),
        line(
            "partitioner.rack.aware",
            "rack_aware_partitioning",
            |c| c.rack_aware_partitioning.to_string(),
            "true: no traffic between racks for records without a key, and partitions as uneven as racks",
        ),
        line(
            "metadata.max.idle.ms",
            "metadata_max_idle",
            |c| ms(c.metadata_max_idle),
            "longer: the next record of an idle topic need not wait for metadata",
        ),
        line(
            "transactional.id",
            "transactional_id",
            |c| or(c.transactional_id.as_ref(), "none"),
            "whoever starts with it fences the one before",
        ),
        line(
            "transaction.timeout.ms",
            "transaction_timeout",
            |c| ms(c.transaction_timeout),
            "longer: longer transactions; a lost producer holds readers of committed records up that long",
        ),
        line(
            "transaction.two.phase.commit.enable",
            "two_phase_commit",
            |c| c.two_phase_commit.to_string(),
            "true: something else decides; a lost producer holds readers of committed records up until then",
        ),
    ];

    fn aims(goal: Goal) -> &'static [Aim<Self>] {
        of_producers(goal)
    }

    fn called(&self) -> &BTreeSet<&'static str> {
        &self.called
    }
}

impl Settings for ConsumerConfig {
    const OF: &'static str = "consumer";
    const LINES: &'static [Line<Self>] = &[
        line(
            "group.id",
            "group",
            |c| or(c.group_id.as_ref(), "none"),
            "its members share the partitions and the offsets",
        ),
        line(
            "group.instance.id",
            "group_instance_id",
            |c| or(c.group_instance_id.as_ref(), "none"),
            "with one: a restart moves no partitions, and a crash is noticed by session.timeout.ms alone",
        ),
        line(
            "group.protocol",
            "group_protocol",
            |c| word(c.group_protocol),
            "consumer: the broker assigns and only what moves stops; classic: every broker has it",
        ),
        line(
            "group.remote.assignor",
            "group_remote_assignor",
            |c| or(c.group_remote_assignor.as_ref(), "none"),
            "range puts neighbours together, uniform moves less; without one the broker chooses",
        ),
        line(
            "partition.assignment.strategy",
            "assignors",
            |c| c.assignors.iter().map(|assignor| assignor.name()).collect::<Vec<_>>().join(","),
            "cooperative-sticky stops what moves at a change, all others the whole group",
        ),
        line(
            "session.timeout.ms",
            "session_timeout",
            |c| ms(c.session_timeout),
            "shorter: what a lost member held goes on sooner; longer: pauses move nothing",
        ),
        line(
            "heartbeat.interval.ms",
            "heartbeat_interval",
            |c| ms(c.heartbeat_interval),
            "shorter: changes are heard of sooner, for more requests",
        ),
        line(
            "max.poll.interval.ms",
            "max_poll_interval",
            |c| ms(c.max_poll_interval),
            "longer: slow work keeps its partitions, and so does a stuck one",
        ),
        line(
            "stall_after",
            "stall_after",
            |c| ms(c.stall_after),
            "shorter: a standstill is told sooner, and slow work is taken for one",
        ),
        line(
            "hook_timeout",
            "hook_timeout",
            |c| ms(c.hook_timeout),
            "longer: slow hooks are waited for, and so is a stuck one",
        ),
        line(
            "max.poll.records",
            "max_poll_records",
            |c| c.max_poll_records.to_string(),
            "more: fewer calls; a crash repeats more",
        ),
        line(
            "finish_on",
            "finish_on",
            |c| word(c.done),
            "on_next and on_ack: a crash repeats; delivered: a crash loses",
        ),
        line(
            "enable.auto.commit",
            "commit_when",
            |c| match c.when {
                When::Every(time) => format!("every {} ms", ms(time)),
                When::Hybrid { records, within } => format!("{records} records or {} ms", ms(within)),
                when => word(when),
            },
            "more often: a crash repeats less, for more requests",
        ),
        line(
            "auto.offset.reset",
            "on_no_commit",
            |c| word(c.on_no_commit),
            "latest skips what came before the first commit",
        ),
        line(
            "on_out_of_range",
            "on_out_of_range",
            |c| word(c.on_out_of_range),
            "error: what retention took is told; else it is a silent gap",
        ),
        line(
            "isolation.level",
            "isolation_level",
            |c| word(c.isolation_level),
            "read_committed: nothing of aborted transactions, and a wait for open ones",
        ),
        line(
            "fetch.min.bytes",
            "fetch_min_bytes",
            |c| c.fetch_min_bytes.to_string(),
            "more: fewer requests; records wait for others",
        ),
        line(
            "fetch.max.wait.ms",
            "fetch_max_wait",
            |c| ms(c.fetch_max_wait),
            "how long fetch.min.bytes may hold a record back",
        ),
        line(
            "fetch.max.bytes",
            "fetch_max_bytes",
            |c| c.fetch_max_bytes.to_string(),
            "more: fewer requests, for more memory",
        ),
        line(
            "max.partition.fetch.bytes",
            "max_partition_fetch_bytes",
            |c| c.max_partition_fetch_bytes.to_string(),
            "more: fewer requests; less: partitions take turns more often",
        ),
        line(
            "fetch.buffer.bytes",
            "fetch_buffer_bytes",
            |c| c.fetch_buffer_bytes.to_string(),
            "more: more is fetched ahead, for more memory",
        ),
        line(
            "batch_bytes_max",
            "batch_bytes_max",
            |c| c.batch_bytes_max.to_string(),
            "the most memory that one compressed batch can cost",
        ),
        line(
            "check.crcs",
            "check_crcs",
            |c| c.check_crcs.to_string(),
            "false: a little less work, and damaged records go unnoticed",
        ),
    ];

    fn aims(goal: Goal) -> &'static [Aim<Self>] {
        of_consumers(goal)
    }

    fn called(&self) -> &BTreeSet<&'static str> {
        &self.called
    }
}
