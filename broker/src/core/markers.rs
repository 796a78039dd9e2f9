//! What a transaction does to the cluster: its timer runs from the first partition on, and its decision reaches each
//! partition as a marker in the log, or in the group coordinator for committed offsets.
//!
//! A coordinator writes the markers as soon as the transaction is decided, and again when a partition gets a leader or
//! the transaction gets a coordinator. A fault on WriteTxnMarkers delays them or lets them fail.
//!
//! Invariant: a transaction is complete exactly when each of its partitions has its marker, or is deleted.

use super::coordinator::Coordinated;
use super::group::Timer;
use super::log::Appended;
use super::producers::{Marker, fresh_id};
use super::replication::Reach;
use super::topics::OFFSETS_TOPIC;
use super::transactions::{Identity, Place, Protocol, State};
use super::{Cluster, Now};
use crate::faults::Effect;
use bytes::{Bytes, BytesMut};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::records::{BatchBuilder, ControlRecord, Stamp, stamp};
use ottla_protocol::wire::Str;
use std::time::Duration;

/// After which a coordinator tries again to write markers that failed.
const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Cluster {
    /// The rules by which coordinators end transactions on their own.
    fn coordinators_protocol(&self) -> Protocol {
        if self.transaction_version >= 2 { Protocol::V2 } else { Protocol::V1 }
    }

    /// Lets partitions take part in the transaction of a producer, and begins it with the first.
    pub(crate) fn add_to_transaction(
        &mut self,
        now: Now,
        id: &str,
        producer: Identity,
        partitions: impl Iterator<Item = Place>,
    ) -> Result<(), ErrorCode> {
        self.change_transaction(now, id, |transaction, _| {
            transaction.add(producer, partitions, now.at, now.wall_ms)
        })?;
        if let Some(deadline) = self.transactions.known(id)?.deadline {
            self.timers.set(Timer::Transaction(Str::from(id)), deadline);
        }
        Ok(())
    }

    /// Aborts the open transaction of a transactional id and shuts its producer out.
    pub(crate) fn fence_transaction(&mut self, now: Now, id: &Str) {
        let protocol = self.coordinators_protocol();
        let fenced = self.change_transaction(now, id, |transaction, producer_ids| {
            transaction.fence(protocol, || fresh_id(producer_ids));
            Ok(())
        });
        match fenced {
            Ok(()) => self.transaction_decided(now, id),
            // It cannot be written down now.
            Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) => {
                self.timers.set(Timer::Transaction(id.clone()), now.at + RETRY_AFTER);
            }
            Err(_) => {}
        }
    }

    /// A transaction has been decided: its markers go out, now or when faults allow it.
    pub(crate) fn transaction_decided(&mut self, now: Now, id: &Str) {
        self.timers.cancel(&Timer::Transaction(id.clone()));
        let Some(node) = self.known_coordinator(Coordinated::Transaction(id)) else { return };
        let mut wait = Duration::ZERO;
        for effect in self.faults.within(ApiKey::WRITE_TXN_MARKERS, node) {
            wait += match effect {
                Effect::Delay(delay) | Effect::DelayAnswer(delay) => delay,
                Effect::Throttle(_) | Effect::Rewrite(_) => Duration::ZERO,
                _ => RETRY_AFTER,
            };
        }
        if wait.is_zero() {
            self.write_markers(now, id);
        } else {
            self.timers.set(Timer::Markers(id.clone()), now.at + wait);
        }
    }

    /// Does what is due for a transaction.
    pub(crate) fn fire_transaction(&mut self, now: Now, timer: &Timer) {
        match timer {
            Timer::Markers(id) => self.write_markers(now, id),
            Timer::Transaction(id) => {
                let has_coordinator = self.known_coordinator(Coordinated::Transaction(id)).is_some();
                let state = self.transactions.get(id).map(|transaction| transaction.state());
                if has_coordinator && state == Some(State::Ongoing) {
                    self.fence_transaction(now, id);
                }
            }
            _ => {}
        }
    }

    /// A partition has a new leader, or is gone: what waited for it can go on.
    pub(crate) fn resume_transactions(&mut self, now: Now) {
        let mut prepared = Vec::new();
        for (id, transaction) in self.transactions.iter() {
            if let Some(deadline) = transaction.deadline {
                self.timers.set(Timer::Transaction(id.clone()), deadline);
            }
            if transaction.decision().is_some() && !self.timers.is_set(&Timer::Markers(id.clone())) {
                prepared.push(id.clone());
            }
        }
        for id in prepared {
            self.write_markers(now, &id);
        }
    }

    /// Writes the markers that are missing, as far as partitions have leaders.
    fn write_markers(&mut self, now: Now, id: &Str) {
        let of = Coordinated::Transaction(id);
        if self.known_coordinator(of).is_none() {
            return;
        }
        let coordinator_epoch = self.coordinator_epoch(of);
        let Ok(transaction) = self.transactions.known(id) else { return };
        let Some(committed) = transaction.decision() else { return };
        let producer = transaction.identity();
        let marker = Marker {
            producer_id: producer.producer_id,
            epoch: producer.epoch,
            coordinator_epoch,
            bumped: transaction.protocol() == Protocol::V2,
        };
        let mut missing = std::mem::take(&mut transaction.partitions);
        let mut again = false;
        // What is refused for another reason than its leader, its replicas or its disk will never be accepted.
        missing.retain(|(topic, index)| {
            let written = self.append_marker(now, topic, *index, marker, committed);
            let is_busy = [ErrorCode::KAFKA_STORAGE_ERROR, ErrorCode::NOT_ENOUGH_REPLICAS].map(Err);
            again |= is_busy.contains(&written);
            is_busy.contains(&written) || written == Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
        });
        let is_over = missing.is_empty();
        if let Ok(transaction) = self.transactions.known(id) {
            transaction.partitions = missing;
        }
        if is_over {
            let completed = self.change_transaction(now, id, |transaction, _| {
                transaction.complete(now.at);
                Ok(())
            });
            again |= completed.is_err();
        }
        if again {
            self.timers.set(Timer::Markers(id.clone()), now.at + RETRY_AFTER);
        }
    }

    /// Ends the producer's transaction in one partition.
    pub(crate) fn append_marker(
        &mut self,
        now: Now,
        topic: &Str,
        index: i32,
        marker: Marker,
        committed: bool,
    ) -> Result<(), ErrorCode> {
        self.reaches_in_sync(topic, index)?;
        let (settings, partition) =
            self.topics.parts_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let is_open = partition.stability.opened_at(marker.producer_id).is_some();
        partition.producers.check_marker(marker, is_open)?;
        let before = partition.readable();
        let what = Appended { offsets: 1, max_timestamp: now.wall_ms };
        let batch = control_batch(now, marker, committed);
        let appended = partition.append(&batch, what, None, now, settings);
        let offset = appended.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
        partition.producers.remember_marker(marker, now);
        partition.stability.ended(marker.producer_id, offset, committed);
        self.written(now, topic, index, before, Reach::All);
        if &**topic == OFFSETS_TOPIC {
            self.end_pending_offsets(index, marker.producer_id, committed);
        }
        Ok(())
    }

    /// Lets the offsets that a producer committed within its transaction count, or forgets them.
    pub(super) fn end_pending_offsets(&mut self, index: i32, producer_id: i64, committed: bool) {
        let groups: Vec<Str> = self.groups.iter().map(|(id, _)| id.clone()).collect();
        for id in groups {
            if self.coordinator_index(Coordinated::Group(&id)) == index
                && let Some(entry) = self.groups.get_mut(&id)
            {
                entry.end_pending(producer_id, committed);
            }
        }
    }
}

/// The batch that holds nothing but the marker.
fn control_batch(now: Now, marker: Marker, committed: bool) -> Bytes {
    let (key, value) = ControlRecord::end_of_transaction(committed, marker.coordinator_epoch);
    let mut builder = BatchBuilder::new(BytesMut::new(), now.wall_ms);
    let appended = builder.append(now.wall_ms, Some(&key), Some(&value), &[]);
    debug_assert!(appended.is_ok(), "a record of ten bytes fits");
    let (mut batch, fields) = builder.into_parts();
    let fields = Stamp {
        transactional: true,
        control: true,
        producer_id: marker.producer_id,
        producer_epoch: marker.epoch,
        base_sequence: -1,
        ..fields
    };
    let stamped = stamp(&mut batch, &fields);
    debug_assert!(stamped.is_ok(), "the builder left room for the header");
    batch.freeze()
}
