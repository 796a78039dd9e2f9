//! What outlives the process beside the logs of topics: which cluster it is, which topics there are, who leads them.
//!
//! Each fact is a record of a log of its own, the last record of a key counts, and every start begins a new segment with all
//! that still holds. In memory there is no such log.

use super::log::storage::Storages;
use super::log::{Appended, Log};
use super::settings::{Given, TopicSettings};
use super::topics::Topic;
use bytes::BytesMut;
use ottla_protocol::records::{BatchBuilder, DECOMPRESSED_BYTES_MAX, Decompressor, set_base_offset, stamp};
use ottla_protocol::wire::Uuid;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

/// What the log is called. No topic can be called so.
const NAME: &str = "@catalog";
/// The key of what is said of the cluster itself.
const CLUSTER: &str = "cluster";
/// The key of what was changed of the broker's settings.
const CONFIG: &str = "config";
/// Producer ids that are promised at once, so that none is given twice after a crash.
const PRODUCER_IDS: i64 = 1000;

/// See the head of the module.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    log: Option<(Log, TopicSettings)>,
    /// No producer id from here on was ever given.
    pub(crate) producer_ids_end: i64,
}

/// What is known of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KnownPartition {
    pub(crate) replicas: Vec<i32>,
    pub(crate) leader_epoch: i32,
    pub(crate) start_offset: i64,
}

/// What is known of a topic.
#[derive(Debug, Default)]
pub(crate) struct KnownTopic {
    pub(crate) id: Uuid,
    pub(crate) given: Given,
    pub(crate) partitions: BTreeMap<i32, KnownPartition>,
}

/// What a catalog says.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) cluster_id: Option<String>,
    pub(crate) producer_ids_end: i64,
    pub(crate) dynamic: Given,
    pub(crate) topics: BTreeMap<String, KnownTopic>,
}

impl Catalog {
    /// Opens the catalog and says what is in it.
    pub(crate) fn open(
        storages: &dyn Storages,
        settings: TopicSettings,
        now_ms: i64,
    ) -> io::Result<(Self, Known)> {
        if !storages.is_durable() {
            return Ok((Self::default(), Known::default()));
        }
        let mut facts: BTreeMap<String, Option<String>> = BTreeMap::new();
        let mut decompressor = Decompressor::new();
        let log = Log::recover(storages.open(NAME, 0), now_ms, &mut |batch| {
            let Ok(mut open) = batch.clone().open(&mut decompressor, DECOMPRESSED_BYTES_MAX) else { return };
            while let Ok(Some(record)) = open.next() {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                facts.insert(record.key.map(text).unwrap_or_default(), record.value.map(text));
            }
        })?;
        let mut known = Known::default();
        for (key, value) in facts.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            known.learn(key, value).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{NAME}: {key} = {value:?} cannot be read"),
                )
            })?;
        }
        let catalog = Self { log: Some((log, settings)), producer_ids_end: known.producer_ids_end };
        Ok((catalog, known))
    }

    fn append(&mut self, now_ms: i64, facts: &[(String, Option<String>)]) -> io::Result<()> {
        let Some((log, settings)) = &mut self.log else { return Ok(()) };
        let mut builder = BatchBuilder::new(BytesMut::new(), now_ms);
        for (key, value) in facts {
            let value = value.as_ref().map(String::as_bytes);
            builder.append(now_ms, Some(key.as_bytes()), value, &[]).map_err(io::Error::other)?;
        }
        let (mut batch, fields) = builder.into_parts();
        stamp(&mut batch, &fields).map_err(io::Error::other)?;
        let offsets = i32::try_from(facts.len()).map_err(io::Error::other)?;
        let what = Appended { offsets, max_timestamp: now_ms };
        log.append(&batch, what, now_ms, settings, &mut |stored, base_offset| {
            let stamped = set_base_offset(stored, base_offset);
            debug_assert!(stamped.is_ok(), "the header was written, so it is there");
        })?;
        Ok(())
    }

    /// Topics and ids are few and worth the wait; who leads a partition is found again.
    fn flush(&mut self) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), |(log, _)| log.flush())
    }

    /// Writes down which cluster it is, and that these producer ids may have been given.
    pub(crate) fn put_cluster(&mut self, now_ms: i64, id: &str, producer_ids: i64) -> io::Result<()> {
        let end = producer_ids + PRODUCER_IDS;
        self.append(now_ms, &[(CLUSTER.to_string(), Some(format!("{id} {end}")))])?;
        self.flush()?;
        self.producer_ids_end = end;
        Ok(())
    }

    /// Writes down what was changed of the broker's settings.
    pub(crate) fn put_config(&mut self, now_ms: i64, dynamic: &Given) -> io::Result<()> {
        let lines: Vec<String> = dynamic.iter().map(|(name, text)| format!("{name}={text}")).collect();
        self.append(now_ms, &[(CONFIG.to_string(), Some(lines.join("\n")))])?;
        self.flush()
    }

    /// Writes down a topic and all of its partitions.
    pub(crate) fn put_topic(&mut self, now_ms: i64, topic: &Topic) -> io::Result<()> {
        if self.log.is_none() {
            return Ok(());
        }
        let mut value = format!("{:032x}", topic.id.0);
        for (name, text) in &topic.settings.given {
            // Writing into a string cannot fail.
            let _ = write!(value, "\n{name}={text}");
        }
        let mut facts = vec![(format!("topic {}", topic.name), Some(value))];
        facts.extend((0..).zip(&topic.partitions).map(|(index, _)| partition_fact(topic, index)));
        self.append(now_ms, &facts)?;
        self.flush()
    }

    /// Writes down who leads a partition, and where it begins.
    pub(crate) fn put_partition(&mut self, now_ms: i64, topic: &Topic, index: i32) -> io::Result<()> {
        match self.log {
            None => Ok(()),
            Some(_) => self.append(now_ms, &[partition_fact(topic, index)]),
        }
    }

    /// Takes back all that was written of a topic.
    pub(crate) fn remove_topic(&mut self, now_ms: i64, topic: &Topic) -> io::Result<()> {
        let mut facts = vec![(format!("topic {}", topic.name), None)];
        let partitions = (0..).zip(&topic.partitions);
        facts.extend(
            partitions.map(|(index, _): (i32, _)| (format!("partition {} {index}", topic.name), None)),
        );
        self.append(now_ms, &facts)?;
        self.flush()
    }

    /// Ends what was written before this start: all that holds has been written since `from`.
    pub(crate) fn forget_before(&mut self, from: i64) -> io::Result<()> {
        match &mut self.log {
            None => Ok(()),
            Some((log, _)) => log.delete_before(from),
        }
    }

    /// Begins a new segment, for all that holds, and says where it begins.
    pub(crate) fn begin(&mut self, now_ms: i64) -> io::Result<i64> {
        let Some((log, _)) = &mut self.log else { return Ok(0) };
        log.roll(now_ms)?;
        Ok(log.end_offset())
    }
}

fn partition_fact(topic: &Topic, index: i32) -> (String, Option<String>) {
    let value = topic.partition(index).map(|partition| {
        let replicas: Vec<String> = partition.replicas.iter().map(ToString::to_string).collect();
        format!("{} {} {}", replicas.join(","), partition.leader_epoch, partition.log.start_offset())
    });
    (format!("partition {} {index}", topic.name), value)
}

impl Known {
    /// `None` for what cannot be read.
    fn learn(&mut self, key: &str, value: &str) -> Option<()> {
        let mut words = key.split(' ');
        match (words.next()?, words.next(), words.next()) {
            (CLUSTER, None, None) => {
                let (id, end) = value.split_once(' ')?;
                self.cluster_id = Some(id.to_string());
                self.producer_ids_end = end.parse().ok()?;
            }
            (CONFIG, None, None) => {
                for line in value.lines() {
                    let (name, text) = line.split_once('=')?;
                    self.dynamic.insert(name.to_string(), text.to_string());
                }
            }
            ("topic", Some(name), None) => {
                let mut lines = value.lines();
                let topic = self.topics.entry(name.to_string()).or_default();
                topic.id = Uuid(u128::from_str_radix(lines.next()?, 16).ok()?);
                for line in lines {
                    let (name, text) = line.split_once('=')?;
                    topic.given.insert(name.to_string(), text.to_string());
                }
            }
            ("partition", Some(name), Some(index)) => {
                let mut fields = value.split(' ');
                let replicas = fields.next()?.split(',').map(|node| node.parse().ok());
                let partition = KnownPartition {
                    replicas: replicas.collect::<Option<_>>()?,
                    leader_epoch: fields.next()?.parse().ok()?,
                    start_offset: fields.next()?.parse().ok()?,
                };
                let topic = self.topics.entry(name.to_string()).or_default();
                topic.partitions.insert(index.parse().ok()?, partition);
            }
            _ => return None,
        }
        Some(())
    }
}
