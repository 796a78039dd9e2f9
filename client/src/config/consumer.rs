//! What a consumer can be told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::wire::Str;

use super::ClientConfig;
use super::LENGTH_MAX;
use super::assignor::PartitionAssignor;
use super::pattern::TopicPattern;
use super::problem::{ConfigError, Findings, Warning};
use super::protocol::GroupProtocol;
use crate::Client;
use crate::rebalance::{AnyHooks, AnyStore, OffsetStore, RebalanceHooks};

/// What a fetched answer carries besides record batches, generously: its header and a line for each partition.
const FRAME_SLACK_BYTES: usize = 64 * 1024;

/// Sets up a consumer: [`Client::consumer`] makes one, `build` starts it.
///
/// ```
/// # async fn example(client: ottla::Client) -> Result<(), ottla::Error> {
/// use ottla::When;
/// use std::time::Duration;
///
/// let consumer = client
///     .consumer()
///     .group("billing")
///     .subscribe(["orders"])
///     .commit_when(When::Hybrid { records: 100, within: Duration::from_secs(1) })
///     .build()?;
/// # drop(consumer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ConsumerBuilder {
    pub(crate) client: Client,
    pub(crate) config: ConsumerConfig,
}

/// What finishes a record. Only finished records are committed, so this decides what a crash repeats or skips.
///
/// ```
/// # fn example(client: ottla::Client) {
/// // Each record is acknowledged by name, perhaps from another task.
/// let builder = client.consumer().group("billing").finish_on(ottla::Done::OnAck);
/// # drop(builder);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Done {
    /// Asking for the next record finishes the one before. At least once: a crash repeats what was in hand. For lent
    /// records, where the compiler proves that one is done with before the next is asked for.
    #[default]
    OnNext,
    /// The application says so, record by record and in any order ([`Record::ack`](crate::Record::ack),
    /// [`OwnedRecord::ack`](crate::OwnedRecord::ack)). At least once: a record that nobody acknowledges holds its
    /// partition's commits back, and a crash repeats everything from there on.
    OnAck,
    /// Handing a record out finishes it, and it is committed before. At most once: nothing is delivered twice to the
    /// group, and a crash or a rebalance loses what was committed ahead: one record with [`When::EachRecord`], the
    /// number of [`When::Hybrid`], and otherwise what one fetch brought of the partition. With [`When::Manual`] nothing is
    /// committed ahead, and the application decides.
    Delivered,
}

/// What sends a commit of the finished records. All but [`Manual`](When::Manual) also commit when partitions are taken
/// away and on close.
///
/// What a crash repeats is said for records that are finished by asking for the next ([`Done::OnNext`]); those of a
/// [`RecordBatch`](crate::RecordBatch) count as one there. With [`Done::OnAck`] no record waits for a commit, and a crash also repeats what
/// was acknowledged since the last one was answered; with [`Done::Delivered`] it repeats nothing.
///
/// ```
/// # fn example(client: ottla::Client) {
/// use std::time::Duration;
///
/// let builder = client.consumer().group("billing").commit_when(ottla::When::Every(Duration::from_secs(1)));
/// # drop(builder);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// Each finished record; the next one is lent when the commit is acknowledged. A crash repeats the record in hand, and no
    /// other, at the price of a round trip for each.
    EachRecord,
    /// The end of what a fetch brought of a partition. A crash repeats two of these at most: the one in hand, and the one
    /// before if its commit is on its way.
    EachBatch,
    /// Time, where something was finished in it. A crash repeats what was read in that time, and while the last commit was on
    /// its way.
    Every(Duration),
    /// A number of finished records, counted for each partition, or time, whichever comes first (1+N: the last of N is
    /// committed for all of them). A crash repeats twice the number of a partition at most: those in work, and those before
    /// if their commit is on its way; the next commit waits for it.
    Hybrid {
        /// Finished records of a partition, from 1.
        records: u32,
        /// The longest that a finished record waits for its commit, from 1 ms.
        within: Duration,
    },
    /// Nothing but the application. A crash repeats what came after its last commit.
    Manual,
}

/// Where to read on when there is no position to read on from.
///
/// ```
/// # fn example(client: ottla::Client) {
/// let builder = client.consumer().on_out_of_range(ottla::Reset::Earliest);
/// # drop(builder);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reset {
    /// At the oldest record that the broker still holds.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// At the first record whose timestamp is not older than this, counted back from the moment of the reset; behind the newest
    /// record if all are older (KIP-1106).
    ByDuration(Duration),
    /// Nowhere: the consumer returns an error of kind [`OffsetOutOfRange`](crate::ErrorKind::OffsetOutOfRange).
    Error,
}

/// Which records of transactions are read.
///
/// ```
/// # fn example(client: ottla::Client) {
/// let builder = client.consumer().isolation_level(ottla::IsolationLevel::ReadCommitted);
/// # drop(builder);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// All of them, those of open and aborted transactions too.
    #[default]
    ReadUncommitted,
    /// Those of committed transactions, and records without one. Reading stops before the first open transaction.
    ReadCommitted,
}

impl IsolationLevel {
    /// The value of the request field.
    pub(crate) fn wire(self) -> i8 {
        match self {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        }
    }
}

/// How the members of a classic group share its partitions.
///
/// ```
/// # fn example(client: ottla::Client) {
/// let builder = client.consumer().group("billing").assignors([ottla::Assignor::Range]);
/// # drop(builder);
/// # }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Assignor {
    /// Neighbouring partitions, topic by topic, near to the member where racks are known (KIP-881). Each change stops the
    /// whole group.
    Range,
    /// One partition after the other to one member after the other. Each change stops the whole group.
    RoundRobin,
    /// Balanced, and each member keeps what it has where it can, or gets what is near where racks are known (KIP-54,
    /// KIP-881). Each change stops the whole group.
    Sticky,
    /// As `Sticky`, and only partitions that move stop (KIP-429).
    CooperativeSticky,
    /// Written by the user.
    Custom(Arc<dyn PartitionAssignor>),
}

impl Assignor {
    /// Its name in the group protocol.
    pub(crate) fn name(&self) -> &str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::Sticky => "sticky",
            Assignor::CooperativeSticky => "cooperative-sticky",
            Assignor::Custom(written) => written.name(),
        }
    }

    /// Whether members keep what they have during a rebalance.
    pub(crate) fn is_cooperative(&self) -> bool {
        match self {
            Assignor::CooperativeSticky => true,
            Assignor::Custom(written) => written.is_cooperative(),
            Assignor::Range | Assignor::RoundRobin | Assignor::Sticky => false,
        }
    }
}

impl fmt::Debug for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Two are the same to a group if they have the same name.
impl PartialEq for Assignor {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Assignor {}

/// What a consumer reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nothing yet.
    #[default]
    Nothing,
    /// What the group gives it of these topics.
    Topics(Vec<Str>),
    /// These partitions, whatever the group does.
    Partitions(Vec<(Str, i32)>),
    /// Of the topics that match, as they come and go, what the group gives it; or all partitions, if it does not share them.
    Matching { pattern: TopicPattern, shared: bool },
}

settings! {
    /// The checked settings of a consumer.
    ConsumerConfig set by ConsumerBuilder {
        /// By which protocol it is a member of its group (`group.protocol`). Default [`GroupProtocol::Auto`], unlike
        /// Kafka's clients, where it is `Classic` (KIP-848).
        group_protocol: GroupProtocol = GroupProtocol::Auto;
        /// How long a classic group waits for a sign of life before it gives the partitions away
        /// (`session.timeout.ms`). Default 45 s, from 1 ms; the broker has limits of its own. A member that is not heard for
        /// so long stops reading until it is, because others may have its partitions. For groups of KIP-848 the broker
        /// decides alone, and members stop after 45 s, its default.
        session_timeout: Duration = Duration::from_secs(45);
        /// How often a classic group is sent the sign of life (`heartbeat.interval.ms`). Default 3 s, from 1 ms, and
        /// below [`session_timeout`](Self::session_timeout); a third of it at most is wise. For groups of KIP-848 the
        /// broker decides alone.
        heartbeat_interval: Duration = Duration::from_secs(3);
        /// How long the application may hold records without asking for more before its partitions are given away
        /// (`max.poll.interval.ms`). Default 5 min, from 1 ms.
        max_poll_interval: Duration = Duration::from_secs(300);
        /// How long a partition with records to read may stand still before [`Event::Stalled`](crate::Event::Stalled) tells so; it
        /// may take half as long again. Default 60 s, from 1 ms.
        stall_after: Duration = Duration::from_secs(60);
        /// How long each call of [`RebalanceHooks`](crate::RebalanceHooks) and of an [`OffsetStore`](crate::OffsetStore)
        /// may take before the consumer goes on without it. Default 30 s, from 1 ms; it is shortened to half of
        /// [`max_poll_interval`](Self::max_poll_interval), after which a group goes on without this member.
        hook_timeout: Duration = Duration::from_secs(30);
        /// The most records that one batch call returns (`max.poll.records`). Default 500, from 1.
        max_poll_records: usize = 500;
        /// Where a partition starts that has no committed offset (`auto.offset.reset`). Default
        /// [`Reset::Earliest`], unlike Kafka's clients: under `Latest` the first records of a new partition are
        /// skipped.
        on_no_commit: Reset = Reset::Earliest;
        /// Where a partition goes on when its position is no longer in the log (`auto.offset.reset`). Default
        /// [`Reset::Error`], unlike Kafka's clients: records lost to retention are not to be a silent gap.
        on_out_of_range: Reset = Reset::Error;
        /// Which records of transactions are read (`isolation.level`). Default
        /// [`IsolationLevel::ReadUncommitted`].
        isolation_level: IsolationLevel = IsolationLevel::ReadUncommitted;
        /// Bytes that a broker gathers before it answers a fetch (`fetch.min.bytes`). Default 1, from 0.
        fetch_min_bytes: i32 = 1;
        /// How long a broker gathers at most (`fetch.max.wait.ms`). Default 500 ms, from 0.
        fetch_max_wait: Duration = Duration::from_millis(500);
        /// The most bytes of an answer (`fetch.max.bytes`); a larger first batch comes nevertheless. Default
        /// 52,428,800, from 0.
        fetch_max_bytes: i32 = 52_428_800;
        /// The most bytes of one partition in an answer (`max.partition.fetch.bytes`). Default 1,048,576, from 0.
        max_partition_fetch_bytes: i32 = 1_048_576;
        /// Bytes that this consumer holds: fetched ahead, decompressed, and of owned records that the application still
        /// holds (`fetch.buffer.bytes`, librdkafka's `queued.max.messages.kbytes`). Default 64 MiB, from 1.
        ///
        /// Nothing is fetched or handed out that there is no room for. Above the limit may go a batch that alone is larger, what
        /// comes out of the fetched records of one partition when they are handed out, and the batch that each
        /// [`PartitionStream`](crate::PartitionStream) has open. Who holds all of it and waits for more gets
        /// [`ErrorKind::BufferFull`](crate::ErrorKind::BufferFull) every `default.api.timeout.ms` until records are dropped.
        fetch_buffer_bytes: usize = 64 * 1024 * 1024;
        /// The most bytes that one batch may have after decompression. Default 64 MiB, from 1.
        batch_bytes_max: usize = 64 * 1024 * 1024;
        /// Whether the checksum of each batch is checked (`check.crcs`). Default `true`.
        check_crcs: bool = true;
    } and by hand {
        group_id: Option<Str> = None;
        group_instance_id: Option<Str> = None;
        group_remote_assignor: Option<Str> = None;
        source: Source = Source::Nothing;
        assignors: Vec<Assignor> = vec![Assignor::CooperativeSticky];
        done: Done = Done::OnNext;
        when: When = When::Every(Duration::from_secs(5));
        /// Told of partitions that come and go.
        rebalance_hooks: Option<Arc<dyn AnyHooks>> = None;
        /// Asked where partitions begin.
        offset_store: Option<Arc<dyn AnyStore>> = None;
        /// Whether the user said so; only a default becomes [`When::Manual`] without a group.
        when_named: bool = false;
    }
}

impl ConsumerBuilder {
    /// The group that shares the partitions and keeps the offsets (`group.id`). Default: none, and then partitions are
    /// named by [`assign`](Self::assign) and nothing is committed.
    pub fn group(mut self, id: impl AsRef<str>) -> Self {
        self.config.group_id = Some(Str::from(id.as_ref()));
        self.config.called.insert("group");
        self
    }

    /// A name by which the group knows this member again after a restart, so that it moves no partitions
    /// (`group.instance.id`, KIP-345). Default: none.
    pub fn group_instance_id(mut self, id: impl AsRef<str>) -> Self {
        self.config.group_instance_id = Some(Str::from(id.as_ref()));
        self.config.called.insert("group_instance_id");
        self
    }

    /// How the broker is to share the partitions of a group of KIP-848 (`group.remote.assignor`): `uniform`, `range`, or
    /// another that it has. Default: what it prefers. A classic group has none, which is an error if it is certain that the
    /// group is one.
    pub fn group_remote_assignor(mut self, name: impl AsRef<str>) -> Self {
        self.config.group_remote_assignor = Some(Str::from(name.as_ref()));
        self.config.called.insert("group_remote_assignor");
        self
    }

    /// Reads what the group gives this member of these topics. Replaces an earlier `subscribe` or `assign`.
    pub fn subscribe(mut self, topics: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.config.source =
            Source::Topics(topics.into_iter().map(|topic| Str::from(topic.as_ref())).collect());
        self
    }

    /// Reads these partitions, without sharing them with anybody. Replaces an earlier `subscribe` or `assign`.
    pub fn assign(mut self, partitions: impl IntoIterator<Item = (impl AsRef<str>, i32)>) -> Self {
        let named = |(topic, partition): (_, i32)| (Str::from(AsRef::<str>::as_ref(&topic)), partition);
        self.config.source = Source::Partitions(partitions.into_iter().map(named).collect());
        self
    }

    /// Reads what the group gives this member of the topics that match, of those that are created later too. The expression
    /// is in the syntax of RE2 and has to match the whole name; Kafka's internal topics never match. New topics are found
    /// within `metadata.max.age.ms` and read from their first record. Replaces an earlier `subscribe` or `assign`.
    ///
    /// ```
    /// # fn example(client: ottla::Client) {
    /// let builder = client.consumer().group("billing").subscribe_pattern("orders-.*");
    /// # drop(builder);
    /// # }
    /// ```
    pub fn subscribe_pattern(mut self, pattern: impl AsRef<str>) -> Self {
        self.config.source = Source::Matching { pattern: TopicPattern::new(pattern.as_ref()), shared: true };
        self
    }

    /// Reads all partitions of the topics that match, without sharing them with anybody; otherwise as
    /// [`subscribe_pattern`](Self::subscribe_pattern). Replaces an earlier `subscribe` or `assign`.
    pub fn assign_pattern(mut self, pattern: impl AsRef<str>) -> Self {
        self.config.source = Source::Matching { pattern: TopicPattern::new(pattern.as_ref()), shared: false };
        self
    }

    /// How a classic group shares its partitions, the preferred way first (`partition.assignment.strategy`). Default
    /// [`Assignor::CooperativeSticky`] alone. All members of a group need one in common. Partitions stop at each rebalance
    /// for the whole group unless every assignor that is named is cooperative.
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Assignor>) -> Self {
        self.config.assignors = assignors.into_iter().collect();
        self.config.called.insert("assignors");
        self
    }

    /// Has partitions that come and go told to this. Replaces an earlier one. Default: nobody is told, but for
    /// [`Control::next_event`](crate::Control::next_event).
    pub fn rebalance_hooks(mut self, hooks: impl RebalanceHooks) -> Self {
        self.config.rebalance_hooks = Some(Arc::new(hooks));
        self
    }

    /// Begins where this says, with or without a group, and not behind the group's commits. Replaces an earlier one. Default:
    /// none.
    pub fn offset_store(mut self, store: impl OffsetStore) -> Self {
        self.config.offset_store = Some(Arc::new(store));
        self
    }

    /// What finishes a record. Default [`Done::OnNext`].
    pub fn finish_on(mut self, done: Done) -> Self {
        self.config.done = done;
        self.config.called.insert("finish_on");
        self
    }

    /// What sends a commit of the finished records (`enable.auto.commit`, `auto.commit.interval.ms`). Default every
    /// 5 s, and nothing without a [`group`](Self::group).
    pub fn commit_when(mut self, when: When) -> Self {
        self.config.when = when;
        self.config.when_named = true;
        self.config.called.insert("commit_when");
        self
    }
}

impl ConsumerConfig {
    /// Checks every rule about these settings, and settles what follows from others.
    pub(crate) fn check(&mut self, client: &ClientConfig) -> Result<Vec<Warning>, ConfigError> {
        let mut found = Findings::default();
        found.millis("max.poll.interval.ms", self.max_poll_interval, 1);
        found.millis("stall_after", self.stall_after, 1);
        self.check_hooks(&mut found);
        found.within("max.poll.records", self.max_poll_records, 1..=LENGTH_MAX);
        client.weigh(self, &mut found);
        self.check_fetch(client, &mut found);
        self.check_group(&mut found);
        self.check_protocol(client, &mut found);
        self.check_commit(&mut found);
        self.check_source(&mut found);
        found.finish()
    }

    fn check_hooks(&mut self, found: &mut Findings) {
        found.millis("hook_timeout", self.hook_timeout, 1);
        let longest = (self.max_poll_interval / 2).max(Duration::from_millis(1));
        if self.hook_timeout > longest {
            if self.called.contains("hook_timeout") {
                let shortened =
                    "the first is shortened to half of the second, so that a commit still comes in time";
                found.warn(&["hook_timeout", "max.poll.interval.ms"], shortened);
            }
            self.hook_timeout = longest;
        }
    }

    fn check_fetch(&self, client: &ClientConfig, found: &mut Findings) {
        found.within("fetch.min.bytes", self.fetch_min_bytes, 0..=i32::MAX);
        found.within("fetch.max.bytes", self.fetch_max_bytes, 0..=i32::MAX);
        found.within("max.partition.fetch.bytes", self.max_partition_fetch_bytes, 0..=i32::MAX);
        found.millis("fetch.max.wait.ms", self.fetch_max_wait, 0);
        found.within("fetch.buffer.bytes", self.fetch_buffer_bytes, 1..=usize::MAX);
        found.within("batch_bytes_max", self.batch_bytes_max, 1..=LENGTH_MAX);
        let fetched = usize::try_from(self.fetch_max_bytes).unwrap_or(0).saturating_add(FRAME_SLACK_BYTES);
        if fetched > client.frame_bytes_max {
            found.contradiction(
                &["fetch.max.bytes", "receive.message.max.bytes"],
                format!(
                    "an answer to a fetch may have {fetched} bytes, and {} at most are read",
                    client.frame_bytes_max
                ),
            );
        }
    }

    fn check_group(&mut self, found: &mut Findings) {
        found.millis("session.timeout.ms", self.session_timeout, 1);
        found.millis("heartbeat.interval.ms", self.heartbeat_interval, 1);
        let keys = ["heartbeat.interval.ms", "session.timeout.ms"];
        if self.heartbeat_interval >= self.session_timeout {
            found.contradiction(&keys, "the first must be less than the second");
        } else if self.heartbeat_interval > self.session_timeout / 3 {
            found.warn(
                &keys,
                "the first is more than a third of the second, so two lost heartbeats lose the partitions",
            );
        }
        for (key, id) in [("group.id", &self.group_id), ("group.instance.id", &self.group_instance_id)] {
            if id.as_ref().is_some_and(|id| id.is_empty()) {
                found.bad_value(key, "empty", "a name");
            }
        }
        if self.group_instance_id.is_some() && self.group_id.is_none() {
            found.contradiction(
                &["group.instance.id", "group.id"],
                "the first has no meaning without the second",
            );
        }
        let key = "partition.assignment.strategy";
        if self.assignors.is_empty() {
            found.bad_value(key, "empty", "one assignor or more");
        }
        found.drop_repeated(key, &mut self.assignors);
    }

    fn check_commit(&mut self, found: &mut Findings) {
        match self.when {
            When::Every(time) => found.millis("auto.commit.interval.ms", time, 1),
            When::Hybrid { records, within } => {
                found.within("the records of a hybrid commit", records, 1..=i32::MAX.unsigned_abs());
                found.millis("the time of a hybrid commit", within, 1);
            }
            When::EachRecord | When::EachBatch | When::Manual => {}
        }
        if self.group_id.is_none() && self.when != When::Manual {
            if self.when_named {
                found.contradiction(
                    &["enable.auto.commit", "group.id"],
                    "nothing can be committed without a group",
                );
            }
            self.when = When::Manual;
        }
    }

    fn check_source(&mut self, found: &mut Findings) {
        match &mut self.source {
            Source::Nothing => {}
            Source::Topics(_) | Source::Matching { shared: true, .. } if self.group_id.is_none() => {
                found.contradiction(
                    &["subscribe", "group.id"],
                    "a subscription needs a group; or assign partitions",
                );
            }
            Source::Matching { pattern, .. } => {
                if let Some(problem) = pattern.problem() {
                    found.bad_value(
                        "subscribe_pattern",
                        pattern.text(),
                        format!("a regular expression: {problem}"),
                    );
                }
            }
            Source::Topics(topics) => {
                if topics.is_empty() || topics.iter().any(|topic| topic.is_empty()) {
                    found.bad_value("subscribe", format!("{topics:?}"), "the names of topics");
                }
                found.drop_repeated("subscribe", topics);
            }
            Source::Partitions(partitions) => {
                if partitions.iter().any(|(topic, partition)| topic.is_empty() || *partition < 0) {
                    found.bad_value("assign", format!("{partitions:?}"), "topics with partitions from 0");
                }
                found.drop_repeated("assign", partitions);
            }
        }
    }
}
