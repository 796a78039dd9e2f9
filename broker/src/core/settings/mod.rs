//! The settings of the broker and of a topic, by Kafka's names.
//!
//! A setting is honoured, or listed as accepted without effect, or refused with the reason and the nearest name that
//! exists. Nothing is ignored silently.

mod broker;
mod security;
mod topic;
mod value;

pub(crate) use broker::BrokerKey;
pub(crate) use security::AccessSettings;
pub(crate) use topic::{Given, TOPIC_KEYS, TopicKey, TopicSettings};
pub(crate) use value::Kind;
pub use value::SettingError;

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Whether an accepted setting changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honoured {
    /// The broker behaves by it.
    Yes,
    /// Kafka has it; this broker has nothing that it could change.
    WithoutEffect,
}

/// More partitions than a topic of one process can sensibly have.
pub(crate) const PARTITIONS_MAX: i32 = 10_000;

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
    /// What was given, as text.
    pub(crate) given: Given,
    pub(crate) auto_create_topics: bool,
    pub(crate) delete_topics: bool,
    /// Whether consumers are sent to a replica in their rack (KIP-392), and served by it.
    pub(crate) rack_aware_replicas: bool,
    pub(crate) partitions: i32,
    /// None: as many as there are nodes, at most three.
    pub(crate) replication_factor: Option<i16>,
    pub(crate) fetch_bytes_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) fetch_sessions_max: usize,
    pub(crate) offset_metadata_bytes_max: usize,
    pub(crate) offsets_topic: CoordinatorTopic,
    pub(crate) transactions_topic: CoordinatorTopic,
    pub(crate) transaction_timeout_max: Duration,
    /// Whether producers may have transactions that never run out of their time (KIP-939).
    pub(crate) two_phase_commit: bool,
    /// Whether versions are served that Kafka may still change.
    pub(crate) unstable_api_versions: bool,
    pub(crate) transactional_id_expiration: Duration,
    pub(crate) producer_expiration: Duration,
    /// How long a follower may lack something and be in sync.
    pub(crate) replica_lag_max: Duration,
    /// How long the controller waits for a node that it does not reach.
    pub(crate) node_session_timeout: Duration,
    pub(crate) retention_check_interval: Duration,
    pub(crate) cleaner_backoff: Duration,
    pub(crate) cleaner_enabled: bool,
    pub(crate) group: GroupSettings,
    pub(crate) access: AccessSettings,
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
            given: Given::new(),
            auto_create_topics: false,
            delete_topics: true,
            rack_aware_replicas: false,
            partitions: 1,
            replication_factor: None,
            fetch_bytes_max: 55 * 1024 * 1024,
            request_bytes_max: 100 * 1024 * 1024,
            fetch_sessions_max: 1000,
            offset_metadata_bytes_max: 4096,
            offsets_topic: CoordinatorTopic::default(),
            transactions_topic: CoordinatorTopic::default(),
            transaction_timeout_max: Duration::from_secs(900),
            two_phase_commit: false,
            unstable_api_versions: false,
            transactional_id_expiration: Duration::from_secs(7 * 24 * 3600),
            producer_expiration: Duration::from_secs(24 * 3600),
            replica_lag_max: Duration::from_secs(30),
            node_session_timeout: Duration::from_secs(9),
            retention_check_interval: Duration::from_secs(300),
            cleaner_backoff: Duration::from_secs(15),
            cleaner_enabled: true,
            group: GroupSettings {
                initial_rebalance_delay: Duration::ZERO,
                session_timeout: Duration::from_secs(6)..=Duration::from_secs(1800),
                members_max: 2_147_483_647,
                consumer_session_timeout: Duration::from_secs(45),
                consumer_heartbeat_interval: Duration::from_secs(5),
                consumer_members_max: 2_147_483_647,
                consumer_assignment_interval: Duration::ZERO,
                migration: Migration::Bidirectional,
            },
            access: AccessSettings::default(),
        }
    }
}

impl Settings {
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<Honoured, SettingError> {
        let key = BrokerKey::find(name)?;
        key.kind.check(name, value)?;
        self.given.insert(name.to_string(), value.to_string());
        self.apply(name, value);
        Ok(key.honoured)
    }

    /// Gives a value that was checked to the field that it belongs to, if it has one here.
    fn apply(&mut self, name: &str, value: &str) {
        let number = || value.parse().unwrap_or(i64::MAX);
        let size = || usize::try_from(number()).unwrap_or(usize::MAX);
        let count = || i32::try_from(number()).unwrap_or(i32::MAX);
        let factor = || i16::try_from(number()).ok();
        let time = || Duration::from_millis(number().unsigned_abs());
        match name {
            "auto.create.topics.enable" => self.auto_create_topics = value == "true",
            "replica.selector.class" => self.rack_aware_replicas = value == broker::RACK_AWARE,
            "delete.topic.enable" => self.delete_topics = value == "true",
            "num.partitions" => self.partitions = count(),
            "default.replication.factor" => self.replication_factor = factor(),
            "fetch.max.bytes" => self.fetch_bytes_max = size(),
            "socket.request.max.bytes" => self.request_bytes_max = size(),
            "max.incremental.fetch.session.cache.slots" => self.fetch_sessions_max = size(),
            "offset.metadata.max.bytes" => self.offset_metadata_bytes_max = size(),
            "offsets.topic.num.partitions" => self.offsets_topic.partitions = count(),
            "offsets.topic.replication.factor" => self.offsets_topic.replication_factor = factor(),
            "transaction.state.log.num.partitions" => self.transactions_topic.partitions = count(),
            "transaction.state.log.replication.factor" => {
                self.transactions_topic.replication_factor = factor();
            }
            "transactional.id.expiration.ms" => self.transactional_id_expiration = time(),
            "transaction.two.phase.commit.enable" => self.two_phase_commit = value == "true",
            "unstable.api.versions.enable" => self.unstable_api_versions = value == "true",
            "transaction.max.timeout.ms" => self.transaction_timeout_max = time(),
            "producer.id.expiration.ms" => self.producer_expiration = time(),
            "replica.lag.time.max.ms" => self.replica_lag_max = time(),
            "broker.session.timeout.ms" => self.node_session_timeout = time(),
            "log.retention.check.interval.ms" => self.retention_check_interval = time(),
            "log.cleaner.backoff.ms" => self.cleaner_backoff = time(),
            "log.cleaner.enable" => self.cleaner_enabled = value == "true",
            _ => {
                self.group.apply(name, value, time(), size());
                self.access.apply(name, value, time());
            }
        }
    }
}

impl GroupSettings {
    fn apply(&mut self, name: &str, value: &str, time: Duration, size: usize) {
        match name {
            "group.initial.rebalance.delay.ms" => self.initial_rebalance_delay = time,
            "group.min.session.timeout.ms" => self.session_timeout = time..=*self.session_timeout.end(),
            "group.max.session.timeout.ms" => self.session_timeout = *self.session_timeout.start()..=time,
            "group.consumer.session.timeout.ms" => self.consumer_session_timeout = time,
            "group.consumer.heartbeat.interval.ms" => self.consumer_heartbeat_interval = time,
            "group.consumer.assignment.interval.ms" => self.consumer_assignment_interval = time,
            "group.consumer.max.size" => self.consumer_members_max = size,
            "group.consumer.migration.policy" => self.migration = value.parse().unwrap_or(self.migration),
            "group.max.size" => self.members_max = size,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_takes_its_default_and_changes_nothing_by_it() {
        let plain = format!("{:?}", Settings::default());
        let mut settings = Settings::default();
        for key in BrokerKey::all() {
            let Some(default) = &key.default else { continue };
            assert_eq!(settings.set(key.name, default), Ok(key.honoured), "{}", key.name);
        }
        settings.given.clear();
        assert_eq!(format!("{settings:?}"), plain, "the table and the typed defaults say the same");
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
