//! What the connections share: the topics, the ports, and a bell that rings when records arrive.
//!
//! A topic is found by its name or its id; both maps hold the same topics. Knows no wire format.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use uuid::Uuid;

use crate::codes;
use crate::log::Log;

/// Topics of this prefix are acknowledged, counted and not kept.
const THROWN_AWAY: &str = "drop";

#[derive(Default)]
pub(crate) struct Broker {
    /// One a node; node ids count from 0.
    pub(crate) ports: Vec<u16>,
    pub(crate) default_partitions: i32,
    topics: RwLock<HashMap<String, Arc<Topic>>>,
    by_id: RwLock<HashMap<Uuid, Arc<Topic>>>,
    ids: AtomicU64,
    arrivals: Mutex<u64>,
    bell: Condvar,
}

pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    keep: bool,
    partitions: Vec<Mutex<Log>>,
    counts: Mutex<Counts>,
}

/// What was produced to a topic.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
}

impl Broker {
    pub(crate) fn new(ports: Vec<u16>, default_partitions: i32) -> Broker {
        Broker { ports, default_partitions, ..Broker::default() }
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn topic_by_id(&self, id: &Uuid) -> Option<Arc<Topic>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(crate) fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The topic of this name, made if it is not there.
    pub(crate) fn create(&self, name: &str, partitions: i32) -> Arc<Topic> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return topic.clone();
        }
        let topic = Arc::new(Topic {
            name: name.to_string(),
            id: Uuid::from_u64_pair(0x6f74_746c_6120_4b61, self.new_id()),
            keep: !name.starts_with(THROWN_AWAY),
            partitions: (0..partitions).map(|_| Mutex::default()).collect(),
            counts: Mutex::default(),
        });
        topics.insert(name.to_string(), topic.clone());
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(topic.id, topic.clone());
        topic
    }

    pub(crate) fn delete(&self, name: &str) -> Option<Arc<Topic>> {
        let topic = self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(name)?;
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(&topic.id);
        Some(topic)
    }

    pub(crate) fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn leader(&self, partition: i32) -> i32 {
        partition % i32::try_from(self.ports.len()).unwrap_or(1)
    }

    /// How often records have arrived.
    pub(crate) fn arrivals(&self) -> u64 {
        *lock(&self.arrivals)
    }

    pub(crate) fn ring(&self) {
        *lock(&self.arrivals) += 1;
        self.bell.notify_all();
    }

    /// Sleeps until records have arrived since `seen`, or until the deadline.
    pub(crate) fn wait(&self, seen: u64, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        drop(self.bell.wait_timeout_while(lock(&self.arrivals), left, |arrivals| *arrivals == seen));
    }
}

impl Topic {
    pub(crate) fn partitions(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.keep
    }

    pub(crate) fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Appends a partition's batches; gives the offset of the first record.
    pub(crate) fn append(&self, partition: i32, records: &[u8]) -> Result<i64, i16> {
        let outcome = self.log(partition)?.append(records, self.keep);
        let mut counts = lock(&self.counts);
        match outcome {
            Err(_) => counts.refused += 1,
            Ok(appended) => {
                counts.batches += appended.batches;
                counts.records += appended.records;
                counts.bytes += appended.bytes;
                counts.duplicates += appended.duplicates;
            }
        }
        outcome.map(|appended| appended.base_offset)
    }

    pub(crate) fn read(&self, partition: i32, offset: i64, max_bytes: usize) -> Result<Bytes, i16> {
        self.log(partition)?.read(offset, max_bytes)
    }

    pub(crate) fn next_offset(&self, partition: i32) -> Result<i64, i16> {
        Ok(self.log(partition)?.next_offset())
    }

    fn log(&self, partition: i32) -> Result<MutexGuard<'_, Log>, i16> {
        let log = usize::try_from(partition).ok().and_then(|partition| self.partitions.get(partition));
        log.map(lock).ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
