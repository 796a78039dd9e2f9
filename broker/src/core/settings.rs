//! The settings of the broker and of a topic, by Kafka's names.
//!
//! A setting is honoured, or listed as accepted without effect, or refused with the reason and the nearest name that
//! exists. Nothing is ignored silently.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Why a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no such setting.
    #[error("unknown setting {name}{}", suggestion(.nearest))]
    Unknown {
        /// The name as given.
        name: String,
        /// The name that was perhaps meant.
        nearest: Option<&'static str>,
    },
    /// The setting exists in older versions of Kafka, or makes no sense here.
    #[error("{name} is refused: {reason}")]
    Refused {
        /// The name as given.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The value is not one of those allowed.
    #[error("{name} = {value} is not valid: {expected}")]
    Value {
        /// The name as given.
        name: String,
        /// The value as given.
        value: String,
        /// What would be valid.
        expected: String,
    },
}

fn suggestion(nearest: &Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}

/// Whether an accepted setting changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honoured {
    /// The broker behaves by it.
    Yes,
    /// Kafka has it; this broker has nothing that it could change.
    WithoutEffect,
}

const HONOURED: &[&str] = &[
    "auto.create.topics.enable",
    "default.replication.factor",
    "delete.topic.enable",
    "fetch.max.bytes",
    "group.consumer.assignment.interval.ms",
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.max.size",
    "group.consumer.migration.policy",
    "group.consumer.session.timeout.ms",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "log.message.timestamp.type",
    "max.incremental.fetch.session.cache.slots",
    "message.max.bytes",
    "min.insync.replicas",
    "num.partitions",
    "offset.metadata.max.bytes",
    "offsets.topic.num.partitions",
    "offsets.topic.replication.factor",
    "producer.id.expiration.ms",
    "replica.selector.class",
    "socket.request.max.bytes",
    "transaction.max.timeout.ms",
    "transaction.state.log.num.partitions",
    "transaction.state.log.replication.factor",
    "transactional.id.expiration.ms",
];

const WITHOUT_EFFECT: &[&str] = &[
    "KAFKA_HEAP_OPTS",
    "background.threads",
    "compression.type",
    "group.consumer.assignor.offload.enable",
    "group.consumer.max.heartbeat.interval.ms",
    "group.consumer.max.session.timeout.ms",
    "group.consumer.min.heartbeat.interval.ms",
    "group.consumer.min.session.timeout.ms",
    "log.cleaner.enable",
    "log.cleanup.policy",
    "log.dirs",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.retention.bytes",
    "log.retention.check.interval.ms",
    "log.retention.hours",
    "log.retention.minutes",
    "log.retention.ms",
    "log.roll.hours",
    "log.roll.ms",
    "log.segment.bytes",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "offsets.retention.minutes",
    "replica.fetch.min.bytes",
    "replica.lag.time.max.ms",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms",
    "transaction.remove.expired.transaction.cleanup.interval.ms",
    "transaction.state.log.min.isr",
    "unclean.leader.election.enable",
];

const TOPIC_HONOURED: &[&str] = &["max.message.bytes", "message.timestamp.type", "min.insync.replicas"];

const TOPIC_WITHOUT_EFFECT: &[&str] = &[
    "cleanup.policy",
    "compression.type",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "index.interval.bytes",
    "max.compaction.lag.ms",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "preallocate",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

/// Whose time a record carries (KIP-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

impl FromStr for TimestampType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "CreateTime" => Ok(Self::CreateTime),
            "LogAppendTime" => Ok(Self::LogAppendTime),
            _ => Err(()),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) auto_create_topics: bool,
    pub(crate) delete_topics: bool,
    /// Whether consumers are sent to a replica in their rack (KIP-392), and served by it.
    pub(crate) rack_aware_replicas: bool,
    pub(crate) partitions: i32,
    /// None: as many as there are nodes, at most three.
    pub(crate) replication_factor: Option<i16>,
    pub(crate) min_insync_replicas: usize,
    pub(crate) message_bytes_max: usize,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) fetch_bytes_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) fetch_sessions_max: usize,
    pub(crate) offset_metadata_bytes_max: usize,
    pub(crate) offsets_topic: CoordinatorTopic,
    pub(crate) transactions_topic: CoordinatorTopic,
    pub(crate) transaction_timeout_max: Duration,
    pub(crate) transactional_id_expiration: Duration,
    pub(crate) producer_expiration: Duration,
    pub(crate) group: GroupSettings,
}

/// A topic whose partitions' leaders are coordinators.
#[derive(Debug, Clone)]
pub(crate) struct CoordinatorTopic {
    pub(crate) partitions: i32,
    /// None: as many as there are nodes, at most three.
    pub(crate) replication_factor: Option<i16>,
}

impl Default for CoordinatorTopic {
    fn default() -> Self {
        Self { partitions: 50, replication_factor: None }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct GroupSettings {
    pub(crate) initial_rebalance_delay: Duration,
    pub(crate) session_timeout: RangeInclusive<Duration>,
    pub(crate) members_max: usize,
    pub(crate) consumer_session_timeout: Duration,
    pub(crate) consumer_heartbeat_interval: Duration,
    pub(crate) consumer_members_max: usize,
    /// The least time from one assignment of a consumer group to the next.
    pub(crate) consumer_assignment_interval: Duration,
    pub(crate) migration: Migration,
}

/// Which groups may change their protocol while they have members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Migration {
    Bidirectional,
    Upgrade,
    Downgrade,
    Disabled,
}

impl Migration {
    pub(crate) fn upgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    pub(crate) fn downgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

impl FromStr for Migration {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match &*text.to_ascii_lowercase() {
            "bidirectional" => Ok(Self::Bidirectional),
            "upgrade" => Ok(Self::Upgrade),
            "downgrade" => Ok(Self::Downgrade),
            "disabled" => Ok(Self::Disabled),
            _ => Err(()),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            auto_create_topics: false,
            delete_topics: true,
            rack_aware_replicas: false,
            partitions: 1,
            replication_factor: None,
            min_insync_replicas: 1,
            message_bytes_max: 1024 * 1024 + 12,
            timestamp_type: TimestampType::CreateTime,
            fetch_bytes_max: 55 * 1024 * 1024,
            request_bytes_max: 100 * 1024 * 1024,
            fetch_sessions_max: 1000,
            offset_metadata_bytes_max: 4096,
            offsets_topic: CoordinatorTopic::default(),
            transactions_topic: CoordinatorTopic::default(),
            transaction_timeout_max: Duration::from_secs(900),
            transactional_id_expiration: Duration::from_secs(7 * 24 * 3600),
            producer_expiration: Duration::from_secs(24 * 3600),
            group: GroupSettings {
                initial_rebalance_delay: Duration::ZERO,
                session_timeout: Duration::from_secs(6)..=Duration::from_secs(1800),
                members_max: usize::MAX,
                consumer_session_timeout: Duration::from_secs(45),
                consumer_heartbeat_interval: Duration::from_secs(5),
                consumer_members_max: usize::MAX,
                consumer_assignment_interval: Duration::ZERO,
                migration: Migration::Bidirectional,
            },
        }
    }
}

impl Settings {
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<Honoured, SettingError> {
        match name {
            "auto.create.topics.enable" => self.auto_create_topics = boolean(name, value)?,
            "replica.selector.class" => self.rack_aware_replicas = rack_aware(name, value)?,
            "delete.topic.enable" => self.delete_topics = boolean(name, value)?,
            "num.partitions" => self.partitions = number(name, value, 1..=PARTITIONS_MAX)?,
            "default.replication.factor" => {
                self.replication_factor = Some(number(name, value, 1..=i16::MAX)?)
            }
            "min.insync.replicas" => self.min_insync_replicas = number(name, value, 1..=32767)?,
            "message.max.bytes" => self.message_bytes_max = number(name, value, 0..=BYTES_MAX)?,
            "log.message.timestamp.type" => self.timestamp_type = timestamp_type(name, value)?,
            "fetch.max.bytes" => self.fetch_bytes_max = number(name, value, 1024..=BYTES_MAX)?,
            "socket.request.max.bytes" => self.request_bytes_max = number(name, value, 1..=BYTES_MAX)?,
            "max.incremental.fetch.session.cache.slots" => {
                self.fetch_sessions_max = number(name, value, 0..=1_000_000)?;
            }
            "offset.metadata.max.bytes" => {
                self.offset_metadata_bytes_max = number(name, value, 0..=BYTES_MAX)?
            }
            "offsets.topic.num.partitions" => {
                self.offsets_topic.partitions = number(name, value, 1..=1000)?;
            }
            "offsets.topic.replication.factor" => {
                self.offsets_topic.replication_factor = Some(number(name, value, 1..=i16::MAX)?);
            }
            "transaction.state.log.num.partitions" => {
                self.transactions_topic.partitions = number(name, value, 1..=1000)?;
            }
            "transaction.state.log.replication.factor" => {
                self.transactions_topic.replication_factor = Some(number(name, value, 1..=i16::MAX)?);
            }
            "transactional.id.expiration.ms" => {
                self.transactional_id_expiration = milliseconds(name, value)?;
            }
            "transaction.max.timeout.ms" => self.transaction_timeout_max = milliseconds(name, value)?,
            "producer.id.expiration.ms" => self.producer_expiration = milliseconds(name, value)?,
            "group.initial.rebalance.delay.ms" => {
                self.group.initial_rebalance_delay = milliseconds(name, value)?
            }
            "group.min.session.timeout.ms" => {
                self.group.session_timeout = milliseconds(name, value)?..=*self.group.session_timeout.end();
            }
            "group.max.session.timeout.ms" => {
                self.group.session_timeout = *self.group.session_timeout.start()..=milliseconds(name, value)?;
            }
            "group.consumer.session.timeout.ms" => {
                self.group.consumer_session_timeout = milliseconds(name, value)?;
            }
            "group.consumer.heartbeat.interval.ms" => {
                self.group.consumer_heartbeat_interval = milliseconds(name, value)?;
            }
            "group.consumer.assignment.interval.ms" => {
                self.group.consumer_assignment_interval = milliseconds(name, value)?;
            }
            "group.consumer.max.size" => {
                self.group.consumer_members_max = number(name, value, 1..=BYTES_MAX)?;
            }
            "group.consumer.migration.policy" => self.group.migration = migration(name, value)?,
            "group.max.size" => self.group.members_max = number(name, value, 1..=BYTES_MAX)?,
            _ if WITHOUT_EFFECT.contains(&name) => return Ok(Honoured::WithoutEffect),
            _ => return Err(refuse(name, &[HONOURED, WITHOUT_EFFECT])),
        }
        Ok(Honoured::Yes)
    }
}

/// What a topic overrides. The texts are kept as given, to be described.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicSettings {
    pub(crate) given: BTreeMap<String, String>,
    pub(crate) message_bytes_max: Option<usize>,
    pub(crate) timestamp_type: Option<TimestampType>,
    pub(crate) min_insync_replicas: Option<usize>,
}

impl TopicSettings {
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<Honoured, SettingError> {
        let honoured = match name {
            "max.message.bytes" => {
                self.message_bytes_max = Some(number(name, value, 0..=BYTES_MAX)?);
                Honoured::Yes
            }
            "message.timestamp.type" => {
                self.timestamp_type = Some(timestamp_type(name, value)?);
                Honoured::Yes
            }
            "min.insync.replicas" => {
                self.min_insync_replicas = Some(number(name, value, 1..=32767)?);
                Honoured::Yes
            }
            _ if TOPIC_WITHOUT_EFFECT.contains(&name) => Honoured::WithoutEffect,
            _ => return Err(refuse(name, &[TOPIC_HONOURED, TOPIC_WITHOUT_EFFECT])),
        };
        self.given.insert(name.to_string(), value.to_string());
        Ok(honoured)
    }
}

/// Which of the replica selectors that Kafka brings along.
fn rack_aware(name: &str, value: &str) -> Result<bool, SettingError> {
    match value {
        "" | "org.apache.kafka.common.replica.LeaderSelector" => Ok(false),
        "org.apache.kafka.common.replica.RackAwareReplicaSelector" => Ok(true),
        _ => Err(SettingError::Value {
            name: name.to_string(),
            value: value.to_string(),
            expected: "org.apache.kafka.common.replica.RackAwareReplicaSelector, or nothing".to_string(),
        }),
    }
}

/// More partitions than a topic of one process can sensibly have.
pub(crate) const PARTITIONS_MAX: i32 = 10_000;
const BYTES_MAX: usize = i32::MAX as usize;

fn refuse(name: &str, known: &[&[&'static str]]) -> SettingError {
    if name.starts_with("zookeeper.") {
        let reason = "Kafka has no ZooKeeper since version 4.0";
        return SettingError::Refused { name: name.to_string(), reason };
    }
    let nearest = known
        .iter()
        .flat_map(|names| names.iter().copied())
        .map(|candidate| (edits(name, candidate), candidate))
        .min()
        .filter(|(edits, _)| *edits <= name.len() / 3)
        .map(|(_, candidate)| candidate);
    SettingError::Unknown { name: name.to_string(), nearest }
}

/// Letters to insert, delete or replace to turn one text into the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

fn invalid(name: &str, value: &str, expected: String) -> SettingError {
    SettingError::Value { name: name.to_string(), value: value.to_string(), expected }
}

fn boolean(name: &str, value: &str) -> Result<bool, SettingError> {
    value.parse().map_err(|_| invalid(name, value, "true or false".to_string()))
}

fn timestamp_type(name: &str, value: &str) -> Result<TimestampType, SettingError> {
    value.parse().map_err(|()| invalid(name, value, "CreateTime or LogAppendTime".to_string()))
}

fn migration(name: &str, value: &str) -> Result<Migration, SettingError> {
    let expected = || "bidirectional, upgrade, downgrade or disabled".to_string();
    value.parse().map_err(|()| invalid(name, value, expected()))
}

fn milliseconds(name: &str, value: &str) -> Result<Duration, SettingError> {
    number(name, value, 0..=u64::from(u32::MAX)).map(Duration::from_millis)
}

fn number<T: FromStr + PartialOrd + Display>(
    name: &str,
    value: &str,
    allowed: RangeInclusive<T>,
) -> Result<T, SettingError> {
    match value.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(invalid(name, value, format!("a number from {} to {}", allowed.start(), allowed.end()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_setting_is_known_and_as_listed() {
        let mut settings = Settings::default();
        for name in HONOURED {
            let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
            let values = ["true", "2000", "LogAppendTime", "upgrade", selector, "2"];
            let accepted = values.iter().find_map(|it| settings.set(name, it).ok());
            assert_eq!(accepted, Some(Honoured::Yes), "{name}");
        }
        for name in WITHOUT_EFFECT {
            assert_eq!(settings.set(name, "1"), Ok(Honoured::WithoutEffect), "{name}");
        }
        let mut topic = TopicSettings::default();
        for name in TOPIC_HONOURED {
            let accepted = ["2000", "CreateTime"].iter().find_map(|it| topic.set(name, it).ok());
            assert_eq!(accepted, Some(Honoured::Yes), "{name}");
        }
    }

    #[test]
    fn a_misspelt_setting_is_refused_with_the_nearest_name() {
        let error = Settings::default().set("num.partition", "3").unwrap_err();
        assert_eq!(error.to_string(), "unknown setting num.partition, did you mean num.partitions?");
        let error = Settings::default().set("colour", "red").unwrap_err();
        assert_eq!(error.to_string(), "unknown setting colour");
        let error = Settings::default().set("zookeeper.connect", "x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "zookeeper.connect is refused: Kafka has no ZooKeeper since version 4.0"
        );
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_the_range() {
        let error = Settings::default().set("num.partitions", "0").unwrap_err();
        assert_eq!(error.to_string(), "num.partitions = 0 is not valid: a number from 1 to 10000");
        let error = Settings::default().set("auto.create.topics.enable", "yes").unwrap_err();
        assert_eq!(error.to_string(), "auto.create.topics.enable = yes is not valid: true or false");
    }
}
