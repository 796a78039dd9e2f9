//! The settings of the broker: one row each in the table below, beside those that topics fall back to.
//!
//! It owns their names, what their values may be, and whether they can change while the broker runs.

use super::security::{self, Row};
use super::topic::TOPIC_KEYS;
use super::value::{Kind, SettingError, refuse};
use super::{Honoured, PARTITIONS_MAX};

/// A setting of the broker.
#[derive(Debug, Clone)]
pub(crate) struct BrokerKey {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// None: it has no value of its own.
    pub(crate) default: Option<String>,
    pub(crate) honoured: Honoured,
    /// Whether it can change while the broker runs.
    pub(crate) dynamic: bool,
}

const BOOLEAN: Kind = Kind::Boolean;
const MS: Kind = Kind::Long(0, 0xffff_ffff);
const COUNT: Kind = Kind::Int(1, i32::MAX);
const NATURAL: Kind = Kind::Int(0, i32::MAX);
const ANY: Kind = Kind::Text;
const FACTOR: Kind = Kind::Int(1, i16::MAX as i32);
pub(super) const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
const SELECTORS: Kind = Kind::Choice(&["", "org.apache.kafka.common.replica.LeaderSelector", RACK_AWARE]);
const MIGRATIONS: Kind = Kind::Choice(&["bidirectional", "upgrade", "downgrade", "disabled"]);

const HONOURED: &[Row] = &[
    ("auto.create.topics.enable", BOOLEAN, "false"),
    ("broker.session.timeout.ms", MS, "9000"),
    ("default.replication.factor", FACTOR, ""),
    ("delete.topic.enable", BOOLEAN, "true"),
    ("fetch.max.bytes", Kind::Int(1024, i32::MAX), "57671680"),
    ("group.consumer.assignment.interval.ms", MS, "0"),
    ("group.consumer.heartbeat.interval.ms", MS, "5000"),
    ("group.consumer.max.size", COUNT, "2147483647"),
    ("group.consumer.migration.policy", MIGRATIONS, "bidirectional"),
    ("group.consumer.session.timeout.ms", MS, "45000"),
    ("group.initial.rebalance.delay.ms", MS, "0"),
    ("group.max.session.timeout.ms", MS, "1800000"),
    ("group.max.size", COUNT, "2147483647"),
    ("group.min.session.timeout.ms", MS, "6000"),
    ("log.cleaner.backoff.ms", Kind::Long(1, 0xffff_ffff), "15000"),
    ("log.cleaner.enable", BOOLEAN, "true"),
    ("log.retention.check.interval.ms", Kind::Long(1, 0xffff_ffff), "300000"),
    ("max.incremental.fetch.session.cache.slots", Kind::Int(0, 1_000_000), "1000"),
    ("num.partitions", Kind::Int(1, PARTITIONS_MAX), "1"),
    ("offset.metadata.max.bytes", NATURAL, "4096"),
    ("offsets.topic.num.partitions", Kind::Int(1, 1000), "50"),
    ("offsets.topic.replication.factor", FACTOR, ""),
    ("producer.id.expiration.ms", MS, "86400000"),
    ("replica.lag.time.max.ms", MS, "30000"),
    ("replica.selector.class", SELECTORS, ""),
    ("socket.request.max.bytes", COUNT, "104857600"),
    ("transaction.max.timeout.ms", MS, "900000"),
    ("transaction.state.log.num.partitions", Kind::Int(1, 1000), "50"),
    ("transaction.state.log.replication.factor", FACTOR, ""),
    ("transaction.two.phase.commit.enable", BOOLEAN, "false"),
    ("transactional.id.expiration.ms", MS, "604800000"),
    ("unstable.api.versions.enable", BOOLEAN, "false"),
];

const WITHOUT_EFFECT: &[Row] = &[
    ("KAFKA_HEAP_OPTS", ANY, ""),
    ("advertised.listeners", ANY, ""),
    ("background.threads", COUNT, "10"),
    ("controller.quorum.bootstrap.servers", ANY, ""),
    ("controller.quorum.voters", ANY, ""),
    ("group.consumer.assignor.offload.enable", BOOLEAN, "false"),
    ("group.consumer.max.heartbeat.interval.ms", MS, "15000"),
    ("group.consumer.max.session.timeout.ms", MS, "60000"),
    ("group.consumer.min.heartbeat.interval.ms", MS, "5000"),
    ("group.consumer.min.session.timeout.ms", MS, "45000"),
    ("inter.broker.listener.name", ANY, ""),
    ("log.dirs", ANY, ""),
    ("node.id", ANY, ""),
    ("num.io.threads", COUNT, "8"),
    ("num.network.threads", COUNT, "3"),
    ("num.recovery.threads.per.data.dir", COUNT, "2"),
    ("num.replica.fetchers", COUNT, "1"),
    ("offsets.retention.minutes", COUNT, "10080"),
    ("process.roles", ANY, ""),
    ("replica.fetch.min.bytes", NATURAL, "1"),
    ("socket.receive.buffer.bytes", Kind::Int(-1, i32::MAX), "102400"),
    ("socket.send.buffer.bytes", Kind::Int(-1, i32::MAX), "102400"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", MS, "10000"),
    ("transaction.remove.expired.transaction.cleanup.interval.ms", MS, "3600000"),
    ("transaction.state.log.min.isr", COUNT, "2"),
];

/// Those of the broker's own that can change while it runs, as in Kafka.
const DYNAMIC: &[&str] = &[
    "background.threads",
    "log.cleaner.backoff.ms",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "producer.id.expiration.ms",
];

/// Those that topics fall back to and that cannot change while the broker runs, as in Kafka.
const STATIC_FALLBACKS: &[&str] =
    &["log.retention.hours", "log.retention.minutes", "log.roll.hours", "log.roll.jitter.hours"];

impl BrokerKey {
    pub(crate) fn find(name: &str) -> Result<Self, SettingError> {
        let own = security::unscoped(name);
        let found = Self::all().find(|key| key.name == own);
        found.ok_or_else(|| refuse(name, Self::all().map(|key| key.name)))
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let own = |rows: &'static [Row], honoured| {
            rows.iter().map(move |(name, kind, default)| Self {
                name,
                kind: *kind,
                default: Some((*default).to_string()).filter(|text| !text.is_empty()),
                honoured,
                dynamic: DYNAMIC.contains(name),
            })
        };
        let fallbacks = TOPIC_KEYS.iter().flat_map(|key| {
            let coarsest = key.fallbacks.len() - 1;
            key.fallbacks.iter().enumerate().map(move |(index, (name, factor))| Self {
                name,
                kind: if *factor == 1 { key.kind } else { Kind::Int(-1, i32::MAX) },
                default: Some(key.default).filter(|_| index == coarsest).map(|text| {
                    let scaled = text.parse::<i64>().ok().filter(|_| *factor != 1).map(|it| it / factor);
                    scaled.map_or_else(|| text.to_string(), |it| it.to_string())
                }),
                honoured: key.honoured,
                dynamic: !STATIC_FALLBACKS.contains(name),
            })
        });
        own(HONOURED, Honoured::Yes)
            .chain(own(security::HONOURED, Honoured::Yes))
            .chain(own(WITHOUT_EFFECT, Honoured::WithoutEffect))
            .chain(fallbacks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_there_once_and_defaults_are_valid() {
        let mut names = BTreeSet::new();
        for key in BrokerKey::all() {
            assert!(names.insert(key.name), "{}", key.name);
            if let Some(default) = key.default {
                key.kind.check(key.name, &default).unwrap();
            }
        }
        assert_eq!(BrokerKey::find("log.retention.hours").unwrap().default.as_deref(), Some("168"));
        assert_eq!(BrokerKey::find("log.retention.ms").unwrap().default, None);
    }
}
