//! What coordinators keep in their topics, as records in Kafka's own format: committed offsets and transactions.
//!
//! Written before it counts, so that whoever recovers the topics knows all that was answered. It refuses to know when an
//! offset may be committed and which step of a transaction may follow which.
//!
//! Invariant: what is in memory of a group's offsets and of a transaction is what the log of its partition says.

use super::coordinator::Coordinated;
use super::group::Committed;
use super::log::Appended;
use super::replication::Reach;
use super::topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use super::transactions::{Identity, Transaction};
use super::{Cluster, Now};
use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame::decode;
use ottla_protocol::messages::{OffsetCommitKey, OffsetCommitValue, TransactionLogKey, TransactionLogValue};
use ottla_protocol::records::{BatchBuilder, Stamp, stamp};
use ottla_protocol::wire::{Encoder, Str, Wire};

/// The versions that are written; of offsets, a key of version 0 is read too.
const OFFSET_KEY: i16 = 1;
const OFFSET_VALUE: i16 = 3;
const TRANSACTION_KEY: i16 = 0;
const TRANSACTION_VALUE: i16 = 1;

/// A record of a coordinator's topic; one without a value takes back what was said of its key.
#[derive(Debug)]
struct Fact {
    key: Bytes,
    value: Option<Bytes>,
}

/// What a record of a coordinator's topic says.
#[derive(Debug)]
pub(super) enum Said {
    Offset {
        group: Str,
        place: (Str, i32),
        committed: Option<Committed>,
    },
    Transaction {
        id: Str,
        value: Option<TransactionLogValue>,
    },
    /// Something that is not kept here, such as the members of a group.
    Other,
}

fn versioned(version: i16, flexible: bool, body: &impl Wire) -> Result<Bytes, ErrorCode> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    let encoded = body.encode(&mut Encoder::new(&mut bytes, version, flexible));
    // A name that is too long for the format.
    encoded.map_err(|_| ErrorCode::INVALID_REQUEST)?;
    Ok(bytes.freeze())
}

fn offset_fact(
    group: &str,
    (topic, partition): &(Str, i32),
    to: Option<&Committed>,
) -> Result<Fact, ErrorCode> {
    let key = OffsetCommitKey { group: Str::from(group), topic: topic.clone(), partition: *partition };
    let value = to.map(|committed| {
        let value = OffsetCommitValue {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata.clone(),
            commit_timestamp: committed.at_ms,
        };
        versioned(OFFSET_VALUE, false, &value)
    });
    Ok(Fact { key: versioned(OFFSET_KEY, false, &key)?, value: value.transpose()? })
}

/// Reads a record of a coordinator's topic. Nothing for one that cannot be read.
pub(super) fn read(topic: &str, key: &[u8], value: Option<&[u8]>) -> Option<Said> {
    let (version, key) = split(key)?;
    let value = match value {
        Some(value) => Some(split(value)?),
        None => None,
    };
    Some(match (topic, version) {
        (OFFSETS_TOPIC, 0 | OFFSET_KEY) => {
            let OffsetCommitKey { group, topic, partition } = decode(key, version, false).ok()?;
            let committed = match value {
                None => None,
                Some((version, value)) => {
                    let value: OffsetCommitValue = decode(value, version, version >= 4).ok()?;
                    Some(Committed {
                        offset: value.offset,
                        leader_epoch: value.leader_epoch,
                        metadata: value.metadata,
                        at_ms: value.commit_timestamp,
                    })
                }
            };
            Said::Offset { group, place: (topic, partition), committed }
        }
        (TRANSACTIONS_TOPIC, TRANSACTION_KEY) => {
            let TransactionLogKey { transactional_id } = decode(key, version, false).ok()?;
            let value = match value {
                None => None,
                Some((version, value)) => Some(decode(value, version, version >= TRANSACTION_VALUE).ok()?),
            };
            Said::Transaction { id: transactional_id, value }
        }
        _ => Said::Other,
    })
}

/// The version, and what follows it in memory of its own.
fn split(bytes: &[u8]) -> Option<(i16, Bytes)> {
    let (version, rest) = bytes.split_first_chunk::<2>()?;
    Some((i16::from_be_bytes(*version), Bytes::copy_from_slice(rest)))
}

fn batch(facts: &[Fact], now_ms: i64, producer: Option<Identity>) -> Result<Bytes, ErrorCode> {
    let mut builder = BatchBuilder::new(BytesMut::new(), now_ms);
    for fact in facts {
        let appended = builder.append(now_ms, Some(&fact.key), fact.value.as_deref(), &[]);
        appended.map_err(|_| ErrorCode::MESSAGE_TOO_LARGE)?;
    }
    let (mut batch, mut fields) = builder.into_parts();
    if let Some(Identity { producer_id, epoch }) = producer {
        fields = Stamp { transactional: true, producer_id, producer_epoch: epoch, ..fields };
    }
    stamp(&mut batch, &fields).map_err(|_| ErrorCode::MESSAGE_TOO_LARGE)?;
    Ok(batch.freeze())
}

impl Cluster {
    /// Writes what a group commits, or takes back; within a transaction, if it is a producer's.
    pub(crate) fn store_offsets<'a>(
        &mut self,
        now: Now,
        group: &str,
        producer: Option<Identity>,
        commits: impl Iterator<Item = (&'a (Str, i32), Option<&'a Committed>)>,
    ) -> Result<(), ErrorCode> {
        let facts: Result<Vec<Fact>, ErrorCode> =
            commits.map(|(place, committed)| offset_fact(group, place, committed)).collect();
        let of = Coordinated::Group(group);
        self.coordinator(now, of);
        self.store(now, OFFSETS_TOPIC, self.coordinator_index(of), &facts?, producer)
    }

    /// Takes back what groups have committed of a topic that goes. What cannot be written comes back with the next start, and
    /// is then of a topic that is not there.
    pub(crate) fn forget_offsets_of(&mut self, now: Now, topic: &str) {
        for (group, places) in self.groups.offsets_of(topic) {
            let commits = places.iter().map(|place| (place, None));
            if let Err(code) = self.store_offsets(now, &group, None, commits) {
                tracing::error!(group = &*group, topic, ?code, "cannot take committed offsets back");
            }
        }
    }

    fn store(
        &mut self,
        now: Now,
        topic: &'static str,
        index: i32,
        facts: &[Fact],
        producer: Option<Identity>,
    ) -> Result<(), ErrorCode> {
        if facts.is_empty() {
            return Ok(());
        }
        let batch = batch(facts, now.wall_ms, producer)?;
        // Kafka would wait for them first.
        self.reaches_in_sync(topic, index).map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let (settings, partition) =
            self.topics.parts_mut(topic, index).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let before = partition.readable();
        let offsets = i32::try_from(facts.len()).map_err(|_| ErrorCode::MESSAGE_TOO_LARGE)?;
        let what = Appended { offsets, max_timestamp: now.wall_ms };
        let base_offset = partition
            .append(&batch, what, None, now, settings)
            .map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
        if let Some(Identity { producer_id, epoch }) = producer {
            partition.producers.begin(producer_id, epoch, now);
            partition.stability.wrote(producer_id, base_offset);
        }
        let flushed = partition.log.flush_if_due(now.wall_ms, settings);
        self.written(now, topic, index, before, Reach::All);
        flushed.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)
    }

    /// Changes a transaction, and writes it down before that counts. One that cannot be written stays as it was.
    pub(crate) fn change_transaction<R>(
        &mut self,
        now: Now,
        id: &str,
        change: impl FnOnce(&mut Transaction, &mut i64) -> Result<R, ErrorCode>,
    ) -> Result<R, ErrorCode> {
        let Self { transactions, producer_ids, .. } = self;
        let transaction = transactions.known(id)?;
        let before = transaction.clone();
        let result = change(transaction, producer_ids);
        if *transaction == before {
            return result;
        }
        let value = transaction.to_value(now.wall_ms);
        if let Err(code) = self.store_transaction(now, id, Some(&value)) {
            *self.transactions.known(id)? = before;
            return Err(match code {
                ErrorCode::KAFKA_STORAGE_ERROR => ErrorCode::COORDINATOR_NOT_AVAILABLE,
                code => code,
            });
        }
        result
    }

    /// Writes a transaction, or that there is none any more.
    pub(crate) fn store_transaction(
        &mut self,
        now: Now,
        id: &str,
        value: Option<&TransactionLogValue>,
    ) -> Result<(), ErrorCode> {
        let key = TransactionLogKey { transactional_id: Str::from(id) };
        let value = value.map(|value| versioned(TRANSACTION_VALUE, true, value)).transpose()?;
        let fact = Fact { key: versioned(TRANSACTION_KEY, false, &key)?, value };
        let of = Coordinated::Transaction(id);
        self.coordinator(now, of);
        self.store(now, TRANSACTIONS_TOPIC, self.coordinator_index(of), &[fact], None)
    }
}
