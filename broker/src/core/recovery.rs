//! A cluster that starts again on what it left behind: topics from the catalog, logs from their segments, and from the logs
//! what their readers and coordinators know.
//!
//! Leader epochs go on above all that were ever given, so that no client takes what comes for older than what it has.

use super::catalog::{Catalog, Known, KnownPartition, KnownTopic};
use super::coordinator_log::{Said, read};
use super::log::Log;
use super::log::storage::{Memory, Storage};
use super::producers::{Marker, Sequenced};
use super::topics::{OFFSETS_TOPIC, Partition, TRANSACTIONS_TOPIC, Topic};
use super::transactions::Transaction;
use super::{Cluster, Now};
use ottla_protocol::records::{
    Batch, ControlKind, ControlRecord, DECOMPRESSED_BYTES_MAX, Decompressor, TimestampType,
};
use ottla_protocol::wire::Str;
use std::io;

impl Cluster {
    /// Takes up what the storage holds. To be called once, when the nodes are known and nothing else is.
    pub(crate) fn recover(&mut self, now: Now) -> io::Result<()> {
        let (catalog, known) = Catalog::open(&*self.storages, self.plain_settings(), now.wall_ms)?;
        self.catalog = catalog;
        let Known { cluster_id, producer_ids_end, dynamic, topics } = known;
        if let Some(id) = cluster_id {
            self.id = Str::from(id);
        }
        self.producer_ids = producer_ids_end;
        match self.configured(&dynamic) {
            Ok(settings) => (self.settings, self.dynamic) = (settings, dynamic),
            Err(error) => tracing::error!(%error, "what was changed of the broker's settings is forgotten"),
        }
        let mut coordinated = Vec::new();
        for (name, known) in topics {
            let topic = self.recover_topic(now, &name, known, &mut coordinated)?;
            self.topics.insert(topic);
        }
        for (topic, index, batch) in coordinated {
            self.learn(now, &topic, index, batch);
        }
        let from = self.catalog.begin(now.wall_ms)?;
        self.catalog.put_cluster(now.wall_ms, &self.id, self.producer_ids)?;
        self.catalog.put_config(now.wall_ms, &self.dynamic)?;
        for topic in self.topics.iter() {
            self.catalog.put_topic(now.wall_ms, topic)?;
        }
        self.catalog.forget_before(from)?;
        let written: Vec<(Str, i32)> = self
            .topics
            .iter()
            .flat_map(|topic| (0..).zip(&topic.partitions).map(|(index, _)| (topic.name.clone(), index)))
            .collect();
        for (topic, index) in written {
            self.wrote(now, &topic, index);
        }
        self.resume_transactions(now);
        Ok(())
    }

    /// `coordinated` gets what coordinators have written.
    fn recover_topic(
        &mut self,
        now: Now,
        name: &str,
        known: KnownTopic,
        coordinated: &mut Vec<(String, i32, Batch)>,
    ) -> io::Result<Topic> {
        // A setting that this version does not know any more must not keep the topic from coming back.
        let settings = self.topic_settings(known.given).unwrap_or_else(|error| {
            tracing::error!(topic = name, %error, "the topic's settings are forgotten");
            self.plain_settings()
        });
        let mut partitions = Vec::new();
        for (index, known) in known.partitions {
            let storage = self.storages.open(name, index);
            let is_internal = matches!(name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC);
            let mut partition = Partition::recover(now, storage, &known, &mut |batch| {
                if is_internal {
                    coordinated.push((name.to_string(), index, batch.clone()));
                }
            })?;
            partition.take_up(known.leader_epoch, |node| self.is_alive(node));
            partitions.push(partition);
        }
        Ok(Topic { name: Str::from(name), id: known.id, settings, partitions })
    }

    /// Takes up what a batch of a coordinator's topic says.
    pub(super) fn learn(&mut self, now: Now, topic: &str, index: i32, batch: Batch) {
        let header = *batch.header();
        let Ok(mut open) = batch.open(&mut Decompressor::new(), DECOMPRESSED_BYTES_MAX) else { return };
        while let Ok(Some(record)) = open.next() {
            if header.control {
                let committed = ControlRecord::parse(&record, header.base_offset)
                    .is_ok_and(|control| control.kind == ControlKind::Commit);
                self.end_pending_offsets(index, header.producer_id, committed);
                continue;
            }
            let said = record.key.and_then(|key| read(topic, key, record.value));
            match said {
                Some(Said::Offset { group, place, committed }) => {
                    let entry = self.groups.get_or_create(&group);
                    match committed {
                        None => _ = entry.forget(&place),
                        Some(committed) if header.transactional => {
                            entry.commit_pending(header.producer_id, place, committed);
                        }
                        Some(committed) => entry.commit(place, committed),
                    }
                }
                Some(Said::Transaction { id, value }) => match value {
                    None => self.transactions.forget(&id),
                    Some(value) => {
                        if let Some(transaction) = Transaction::from_value(&value, now) {
                            self.transactions.restore(id, transaction);
                        }
                    }
                },
                Some(Said::Other) | None => {}
            }
        }
    }
}

impl Partition {
    /// The partition that a storage holds. `show` sees every batch.
    fn recover(
        now: Now,
        storage: Box<dyn Storage>,
        known: &KnownPartition,
        show: &mut dyn FnMut(&Batch),
    ) -> io::Result<Self> {
        let mut partition = Self::new(known.replicas.clone(), Box::new(Memory::default()), |_| false);
        let log = Log::recover(storage, now.wall_ms, &mut |batch| {
            partition.learn(now, batch);
            show(batch);
        })?;
        partition.log = log;
        partition.delete_before(known.start_offset)?;
        Ok(partition)
    }

    /// Takes up what a batch says of its producer, its transaction and its leader epoch.
    pub(super) fn learn(&mut self, now: Now, batch: &Batch) {
        let header = batch.header();
        self.saw_epoch(header.partition_leader_epoch, header.base_offset);
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        if header.control {
            let Ok(mut open) = batch.clone().open(&mut Decompressor::new(), DECOMPRESSED_BYTES_MAX) else {
                return;
            };
            let Ok(Some(record)) = open.next() else { return };
            let Ok(control) = ControlRecord::parse(&record, header.base_offset) else { return };
            let coordinator_epoch = record.value.and_then(|value| value.get(2..6)?.try_into().ok());
            let coordinator_epoch = coordinator_epoch.map_or(0, i32::from_be_bytes);
            let marker = Marker { producer_id, epoch, coordinator_epoch, bumped: false };
            self.producers.remember_marker(marker, now);
            let committed = control.kind == ControlKind::Commit;
            self.stability.ended(producer_id, header.base_offset, committed);
            return;
        }
        if producer_id < 0 {
            return;
        }
        if header.base_sequence < 0 {
            self.producers.begin(producer_id, epoch, now);
        } else {
            let count = header.last_offset_delta + 1;
            let sequenced = Sequenced { producer_id, epoch, first: header.base_sequence, count };
            let append_time = match header.timestamp_type {
                TimestampType::LogAppend => header.max_timestamp,
                TimestampType::Create => -1,
            };
            self.producers.remember(sequenced, header.base_offset, append_time, now);
        }
        if header.transactional {
            self.stability.wrote(producer_id, header.base_offset);
        }
    }
}
