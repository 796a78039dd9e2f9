//! The settings of a topic: one row each in the table below, with the broker's settings that it falls back to.
//!
//! It owns what a topic overrides, as text, and what follows from that together with what the broker was given. It refuses
//! to know which topic it is.
//!
//! Invariant: the typed fields always say what the texts say.

use super::value::{Kind, SettingError, refuse};
use super::{Honoured, TimestampType};
use ottla_protocol::records::{Codec, Compression};
use std::collections::BTreeMap;

/// A setting of topics.
#[derive(Debug)]
pub(crate) struct TopicKey {
    pub(crate) name: &'static str,
    /// The broker's settings that it falls back to, first the one that counts most, and by what their values are
    /// multiplied.
    pub(crate) fallbacks: &'static [(&'static str, i64)],
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    pub(crate) honoured: Honoured,
}

const fn honoured(
    name: &'static str,
    fallbacks: &'static [(&'static str, i64)],
    kind: Kind,
    default: &'static str,
) -> TopicKey {
    TopicKey { name, fallbacks, kind, default, honoured: Honoured::Yes }
}

const fn without_effect(
    name: &'static str,
    fallbacks: &'static [(&'static str, i64)],
    kind: Kind,
    default: &'static str,
) -> TopicKey {
    TopicKey { name, fallbacks, kind, default, honoured: Honoured::WithoutEffect }
}

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
const NEVER: &str = "9223372036854775807";
const POSITIVE: Kind = Kind::Long(1, i64::MAX);
const NATURAL: Kind = Kind::Long(0, i64::MAX);
const OR_UNLIMITED: Kind = Kind::Long(-1, i64::MAX);
const SEGMENT_BYTES_MIN: i32 = 1 << 20;

/// Every setting of a topic, by name.
pub(crate) const TOPIC_KEYS: &[TopicKey] = &[
    honoured("cleanup.policy", &[("log.cleanup.policy", 1)], Kind::List(&["delete", "compact"]), "delete"),
    honoured("compression.gzip.level", &[("compression.gzip.level", 1)], Kind::GzipLevel, "-1"),
    without_effect("compression.lz4.level", &[("compression.lz4.level", 1)], Kind::Int(1, 17), "9"),
    honoured(
        "compression.type",
        &[("compression.type", 1)],
        Kind::Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "producer",
    ),
    honoured("compression.zstd.level", &[("compression.zstd.level", 1)], Kind::Int(-131_072, 22), "3"),
    honoured("delete.retention.ms", &[("log.cleaner.delete.retention.ms", 1)], NATURAL, "86400000"),
    without_effect("file.delete.delay.ms", &[("log.segment.delete.delay.ms", 1)], NATURAL, "60000"),
    honoured("flush.messages", &[("log.flush.interval.messages", 1)], POSITIVE, NEVER),
    honoured("flush.ms", &[("log.flush.interval.ms", 1)], NATURAL, NEVER),
    without_effect(
        "index.interval.bytes",
        &[("log.index.interval.bytes", 1)],
        Kind::Int(0, i32::MAX),
        "4096",
    ),
    honoured("max.compaction.lag.ms", &[("log.cleaner.max.compaction.lag.ms", 1)], POSITIVE, NEVER),
    honoured("max.message.bytes", &[("message.max.bytes", 1)], Kind::Int(0, i32::MAX), "1048588"),
    honoured(
        "message.timestamp.after.max.ms",
        &[("log.message.timestamp.after.max.ms", 1)],
        NATURAL,
        "3600000",
    ),
    honoured(
        "message.timestamp.before.max.ms",
        &[("log.message.timestamp.before.max.ms", 1)],
        NATURAL,
        NEVER,
    ),
    honoured(
        "message.timestamp.type",
        &[("log.message.timestamp.type", 1)],
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
    ),
    honoured("min.cleanable.dirty.ratio", &[("log.cleaner.min.cleanable.ratio", 1)], Kind::Ratio, "0.5"),
    honoured("min.compaction.lag.ms", &[("log.cleaner.min.compaction.lag.ms", 1)], NATURAL, "0"),
    honoured("min.insync.replicas", &[("min.insync.replicas", 1)], Kind::Int(1, i32::MAX), "1"),
    without_effect("preallocate", &[("log.preallocate", 1)], Kind::Boolean, "false"),
    honoured("retention.bytes", &[("log.retention.bytes", 1)], OR_UNLIMITED, "-1"),
    honoured(
        "retention.ms",
        &[("log.retention.ms", 1), ("log.retention.minutes", MINUTE_MS), ("log.retention.hours", HOUR_MS)],
        OR_UNLIMITED,
        "604800000",
    ),
    honoured(
        "segment.bytes",
        &[("log.segment.bytes", 1)],
        Kind::Int(SEGMENT_BYTES_MIN, i32::MAX),
        "1073741824",
    ),
    without_effect(
        "segment.index.bytes",
        &[("log.index.size.max.bytes", 1)],
        Kind::Int(4, i32::MAX),
        "10485760",
    ),
    without_effect(
        "segment.jitter.ms",
        &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)],
        NATURAL,
        "0",
    ),
    honoured("segment.ms", &[("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)], POSITIVE, "604800000"),
    honoured(
        "unclean.leader.election.enable",
        &[("unclean.leader.election.enable", 1)],
        Kind::Boolean,
        "false",
    ),
];

impl TopicKey {
    pub(crate) fn find(name: &str) -> Result<&'static TopicKey, SettingError> {
        let found = TOPIC_KEYS.iter().find(|key| key.name == name);
        found.ok_or_else(|| refuse(name, TOPIC_KEYS.iter().map(|key| key.name)))
    }

    /// The broker's setting that counts here, its name, and its value in the topic's unit.
    pub(crate) fn fallback<'a>(
        &self,
        broker: &'a Given,
    ) -> Option<(&'static str, std::borrow::Cow<'a, str>)> {
        self.fallbacks.iter().find_map(|(name, factor)| {
            let text = broker.get(*name)?;
            let scaled = match text.parse::<i64>() {
                Ok(number) if *factor != 1 && number >= 0 => {
                    number.saturating_mul(*factor).to_string().into()
                }
                _ => text.into(),
            };
            Some((*name, scaled))
        })
    }
}

/// Settings that were given, as text.
pub(crate) type Given = BTreeMap<String, String>;

/// What holds for a topic. See the head of the module.
#[derive(Debug, Clone)]
pub(crate) struct TopicSettings {
    /// What the topic overrides.
    pub(crate) given: Given,
    pub(crate) message_bytes_max: usize,
    pub(crate) timestamp_type: TimestampType,
    /// How far a record's time may lie before and after the broker's.
    pub(crate) timestamp_before_max_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
    pub(crate) min_insync_replicas: usize,
    /// Whether a replica that is not in sync may lead when no other can.
    pub(crate) unclean_election: bool,
    /// None: as the producer compresses.
    pub(crate) codec: Option<Codec>,
    pub(crate) deletes: bool,
    pub(crate) compacts: bool,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
    /// Negative: without end.
    pub(crate) retention_ms: i64,
    /// Negative: without limit.
    pub(crate) retention_bytes: i64,
    pub(crate) delete_retention_ms: i64,
    pub(crate) min_compaction_lag_ms: i64,
    pub(crate) max_compaction_lag_ms: i64,
    pub(crate) dirty_ratio_min: f64,
    pub(crate) flush_records: i64,
    pub(crate) flush_ms: i64,
}

impl TopicSettings {
    /// What holds for a topic that overrides `given`, in a broker that was given `broker`.
    pub(crate) fn new(given: Given, broker: &Given) -> Result<Self, SettingError> {
        for (name, value) in &given {
            TopicKey::find(name)?.kind.check(name, value)?;
        }
        let text = |name: &str| {
            let key = TopicKey::find(name).expect("the names below are in the table");
            let own = given.get(name).cloned();
            own.or_else(|| key.fallback(broker).map(|(_, text)| text.into_owned()))
                .unwrap_or_else(|| key.default.to_string())
        };
        // Checked above, and what the broker was given when it was set.
        let long = |name: &str| text(name).parse::<i64>().unwrap_or(i64::MAX);
        let size = |name: &str| usize::try_from(long(name)).unwrap_or(usize::MAX);
        let policy = text("cleanup.policy");
        let has_policy = |name: &str| policy.split(',').any(|it| it.trim() == name);
        let (deletes, compacts) = (has_policy("delete"), has_policy("compact"));
        let name = text("compression.type");
        let codec = codec(&name, |level| i32::try_from(long(level)).ok())?;
        Ok(Self {
            message_bytes_max: size("max.message.bytes"),
            timestamp_type: text("message.timestamp.type").parse().unwrap_or_default(),
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            min_insync_replicas: size("min.insync.replicas"),
            unclean_election: text("unclean.leader.election.enable").eq_ignore_ascii_case("true"),
            codec,
            deletes,
            compacts,
            segment_bytes: long("segment.bytes").unsigned_abs(),
            segment_ms: long("segment.ms"),
            retention_ms: long("retention.ms"),
            retention_bytes: long("retention.bytes"),
            delete_retention_ms: long("delete.retention.ms"),
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            dirty_ratio_min: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            flush_records: long("flush.messages"),
            flush_ms: long("flush.ms"),
            given,
        })
    }
}

/// The codec of a topic, with its level.
fn codec(name: &str, level: impl Fn(&str) -> Option<i32>) -> Result<Option<Codec>, SettingError> {
    let (compression, level) = match name {
        "uncompressed" => (Compression::None, None),
        "gzip" => (Compression::Gzip, level("compression.gzip.level").filter(|level| *level >= 0)),
        "snappy" => (Compression::Snappy, None),
        "lz4" => (Compression::Lz4, None),
        "zstd" => (Compression::Zstd, level("compression.zstd.level")),
        _ => return Ok(None),
    };
    let codec = Codec::new(compression, level).map_err(|error| SettingError::Value {
        name: "compression.type".to_string(),
        value: name.to_string(),
        expected: error.to_string(),
    })?;
    Ok(Some(codec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(entries: &[(&str, &str)]) -> Given {
        entries.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    #[test]
    fn every_default_is_valid_and_the_table_is_in_order() {
        for key in TOPIC_KEYS {
            key.kind.check(key.name, key.default).unwrap();
        }
        assert!(TOPIC_KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let settings = TopicSettings::new(Given::new(), &Given::new()).unwrap();
        assert_eq!((settings.retention_ms, settings.segment_bytes), (7 * 24 * HOUR_MS, 1 << 30));
        assert_eq!((settings.deletes, settings.compacts, settings.codec), (true, false, None));
    }

    #[test]
    fn a_topic_overrides_what_the_broker_says_and_the_finer_unit_counts() {
        let broker = given(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]);
        let settings = TopicSettings::new(Given::new(), &broker).unwrap();
        assert_eq!(settings.retention_ms, 3 * MINUTE_MS);
        let settings = TopicSettings::new(given(&[("retention.ms", "-1")]), &broker).unwrap();
        assert_eq!(settings.retention_ms, -1);
    }

    #[test]
    fn what_a_topic_cannot_be_is_refused_by_name() {
        for (name, value, expected) in [
            ("segment.bytes", "14", "segment.bytes = 14 is not valid: a number from 1048576 to 2147483647"),
            ("cleanup.policy", "shred", "cleanup.policy = shred is not valid: a list of delete, compact"),
            (
                "compression.type",
                "brotli",
                "compression.type = brotli is not valid: one of producer, uncompressed, gzip, snappy, lz4, zstd",
            ),
            (
                "min.cleanable.dirty.ratio",
                "2",
                "min.cleanable.dirty.ratio = 2 is not valid: a number from 0 to 1",
            ),
            ("retention", "1", "unknown setting retention, did you mean retention.ms?"),
        ] {
            let error = TopicSettings::new(given(&[(name, value)]), &Given::new()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
