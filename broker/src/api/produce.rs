//! Produce: appends one batch to each of the partitions named.
//!
//! Versions 3 to 13. Honoured: acks (-1, 0, 1), idempotence, min.insync.replicas, message.max.bytes, times (append time,
//! and how far those of producers may lie from it), compression.type, keys in compacted topics, leader hints (KIP-951), topic ids (13), transactions: the first batch of one in a partition is let in by the coordinator, which
//! up to version 11 must have been told of the partition before, and from 12 on adds it (KIP-890). With acks=all the answer
//! waits for the replicas in sync, at most for the timeout ([`super::acknowledgement`]). Refused: batches older than magic 2.
//!
//! The batches are checked (format, checksum, counts) when the request is read, before the lock of the cluster is taken, and
//! opened after that only where a topic asks for it ([`Produced::obey`]); what is decided under the lock is only who leads and
//! whether the sequence fits.

use super::acknowledgement::Awaited;
use super::rules::{Refused, Rules};
use super::{Caller, Refuse};
use crate::core::log::Appended;
use crate::core::producers::{Sequenced, Verdict};
use crate::core::replication::Reach;
use crate::core::settings::{TimestampType, TopicSettings};
use crate::core::topics::{Partition, Topic};
use crate::core::verification::Support;
use crate::core::{Cluster, Handled, Now};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    LeaderIdAndEpoch, ProduceRequest, ProduceResponse, ProducedPartition, ProducedTopic,
};
use ottla_protocol::records::{Batch, BatchHeader, Compression, RecordError};
use ottla_protocol::wire::{RecordSet, Str};

/// A Produce request whose batches have been checked.
#[derive(Debug, Clone)]
pub(crate) struct Produced {
    request: ProduceRequest,
    /// For each partition, in the order of the request.
    batches: Vec<Result<Batch, Refused>>,
}

impl Produced {
    pub(super) fn transactional_id(&self) -> Option<&Str> {
        self.request.transactional_id.as_ref()
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_silent(&self) -> bool {
        self.request.acks == 0
    }

    /// The request as it came.
    pub(crate) fn request(&self) -> &ProduceRequest {
        &self.request
    }

    /// The transactional batches of a request are of one producer, which says its transactional id.
    fn check_transactional(&self) -> Result<(), ErrorCode> {
        let headers = self.batches.iter().flatten().map(Batch::header);
        let mut producers =
            headers.filter(|it| it.transactional).map(|it| (it.producer_id, it.producer_epoch));
        let Some(first) = producers.next() else { return Ok(()) };
        if self.request.transactional_id.is_none() {
            return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        }
        match producers.all(|producer| producer == first) {
            true => Ok(()),
            false => Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING),
        }
    }
}

impl From<ProduceRequest> for Produced {
    fn from(request: ProduceRequest) -> Self {
        let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
        let batches = partitions.map(|partition| check(&partition.records)).collect();
        Self { request, batches }
    }
}

/// What can be said of a batch without knowing the partition it is for.
fn check(records: &RecordSet) -> Result<Batch, Refused> {
    let invalid = |reason: &'static str| Refused::saying(ErrorCode::INVALID_RECORD, Str::from_static(reason));
    let Some(bytes) = records.as_ref().filter(|bytes| !bytes.is_empty()) else {
        return Err(invalid("a Produce request must have one record batch per partition"));
    };
    let batch = Batch::parse(bytes.clone()).map_err(refused)?;
    if batch.bytes().len() != bytes.len() {
        return Err(invalid("a Produce request must have exactly one record batch per partition"));
    }
    if batch.header().base_offset != 0 {
        return Err(invalid("the base offset of a batch that is sent must be zero"));
    }
    batch.check_produced().map_err(refused)?;
    Ok(batch)
}

pub(super) fn refused(error: RecordError) -> Refused {
    let code = match error {
        RecordError::Short { .. } | RecordError::Checksum { .. } => ErrorCode::CORRUPT_MESSAGE,
        _ => ErrorCode::INVALID_RECORD,
    };
    Refused::saying(code, Str::from(error.to_string()))
}

impl Refuse for Produced {
    type Response = ProduceResponse;

    fn refuse(&self, code: ErrorCode) -> ProduceResponse {
        let topics = self.request.topic_data.iter().map(|topic| ProducedTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: topic
                .partition_data
                .iter()
                .map(|it| failed(it.index, code.into()))
                .collect(),
        });
        ProduceResponse { responses: topics.collect(), ..ProduceResponse::default() }
    }
}

fn failed(index: i32, refused: Refused) -> ProducedPartition {
    ProducedPartition {
        index,
        error_code: refused.code,
        error_message: refused.message,
        record_errors: refused.records,
        base_offset: -1,
        ..ProducedPartition::default()
    }
}

impl Produced {
    /// Checks and rewrites the batches as their topics ask. Without the lock of the cluster.
    pub(crate) fn obey(&mut self, rules: Vec<Rules>) {
        for (batch, rules) in self.batches.iter_mut().zip(rules) {
            if let Ok(sent) = batch {
                *batch = rules.obeyed(sent.clone());
            }
        }
    }
}

impl Cluster {
    /// What the topics of a request ask of its batches; nothing when all of them can stay closed.
    pub(crate) fn rules(&self, now: Now, version: i16, call: &Produced) -> Option<Vec<Rules>> {
        let topics = call.request.topic_data.iter().flat_map(|topic| {
            let name = match version {
                ..=12 => Some(&topic.name),
                _ => self.topics.name_of(topic.topic_id),
            };
            let settings = name.and_then(|name| Some(&self.topics.get(name)?.settings));
            topic.partition_data.iter().map(move |partition| (name, settings, partition.index))
        });
        let rules =
            topics.zip(&call.batches).map(|((name, settings, index), batch)| match (settings, batch) {
                (Some(settings), Ok(batch)) => Rules::of(settings, batch.header(), now.wall_ms, || {
                    format!("{}-{index}", name.map_or("", |name| &**name))
                }),
                _ => Rules::default(),
            });
        let rules: Vec<Rules> = rules.collect();
        rules.iter().any(|rules| *rules != Rules::default()).then_some(rules)
    }

    pub(crate) fn produce(&mut self, now: Now, caller: &Caller, call: Produced) -> Handled {
        let acks = call.request.acks;
        if !matches!(acks, -1..=1) {
            return call.refuse(ErrorCode::INVALID_REQUIRED_ACKS).into();
        }
        if let Err(code) = call.check_transactional() {
            return call.refuse(code).into();
        }
        let transactional_id = call.request.transactional_id.clone();
        let mut batches = call.batches.into_iter();
        let mut responses: Vec<ProducedTopic> = Vec::with_capacity(call.request.topic_data.len());
        let (mut failures, mut hints, mut awaited) = (false, Vec::new(), Vec::new());
        for topic in call.request.topic_data {
            let name = match caller.version {
                ..=12 => Some(topic.name.clone()),
                _ => self.topics.name_of(topic.topic_id).cloned(),
            };
            let allowed =
                name.as_ref().map_or(Ok(()), |it| self.access.on_topic(ApiKey::PRODUCE, caller, it));
            let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
            for partition in topic.partition_data {
                let batch = batches.next().expect("one batch was checked for each partition");
                let appended = match (&name, batch) {
                    (None, _) => Err(ErrorCode::UNKNOWN_TOPIC_ID.into()),
                    _ if allowed.is_err() => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED.into()),
                    (_, Err(refused)) => Err(refused),
                    (Some(name), Ok(batch)) => {
                        let sent = Sent { acks, transactional_id: transactional_id.as_ref(), batch: &batch };
                        let place = (responses.len(), partition_responses.len());
                        let appended = self.append(now, caller, name, partition.index, &sent);
                        if let (Ok(answer), -1) = (&appended, acks) {
                            awaited.extend(self.awaited(name, answer, batch.header(), place));
                        }
                        appended
                    }
                };
                partition_responses.push(appended.unwrap_or_else(|refused| {
                    failures = true;
                    let mut answer = failed(partition.index, refused);
                    answer.current_leader = self.leader_hint(&answer, name.as_ref());
                    hints.push(answer.current_leader.leader_id);
                    answer
                }));
            }
            responses.push(ProducedTopic { name: topic.name, topic_id: topic.topic_id, partition_responses });
        }
        match (acks, failures) {
            (0, true) => Handled::HangUp,
            (0, false) => Handled::Silent,
            _ => {
                let node_endpoints = self.endpoints(caller.listener, hints.into_iter());
                let response = ProduceResponse { responses, node_endpoints, ..ProduceResponse::default() };
                match awaited.is_empty() {
                    true => response.into(),
                    false => self.await_replicas(now, response, awaited, call.request.timeout_ms),
                }
            }
        }
    }

    /// What is to be waited for, if a replica in sync lacks it still.
    fn awaited(
        &self,
        topic: &Str,
        answer: &ProducedPartition,
        header: &BatchHeader,
        place: (usize, usize),
    ) -> Option<Awaited> {
        let index = answer.index;
        let partition = self.topics.get(topic)?.partition(index)?;
        let until = answer.base_offset + i64::from(header.last_offset_delta) + 1;
        let leader_epoch = partition.leader_epoch;
        let awaited = Awaited { topic: topic.clone(), index, until, leader_epoch, place };
        (partition.high_watermark() < until).then_some(awaited)
    }

    fn append(
        &mut self,
        now: Now,
        caller: &Caller,
        topic: &Str,
        index: i32,
        sent: &Sent<'_>,
    ) -> Result<ProducedPartition, Refused> {
        let batch = sent.batch;
        let refuse = |code: ErrorCode| Err(code.into());
        if let Some(code) = self.faults.on_partition(ApiKey::PRODUCE, caller.node, topic, index) {
            return refuse(code);
        }
        let Some(found) = self.topics.get(topic) else {
            return refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let Some(partition) = found.partition(index) else {
            return refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        if found.is_internal() {
            return refuse(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        if partition.leader != Some(caller.node) {
            return refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        self.let_in(now, caller, topic, index, sent)?;
        let Some(found) = self.topics.get(topic) else {
            return refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let has_enough = |it: &Partition| it.standing.has_enough_in_sync(&found.settings);
        if sent.acks == -1 && !found.partition(index).is_some_and(has_enough) {
            return refuse(ErrorCode::NOT_ENOUGH_REPLICAS);
        }
        check_batch(found, caller.version, batch)?;
        let Some((settings, partition)) = self.topics.parts_mut(topic, index) else {
            return refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        partition.forget_idle_producers(now.at.checked_sub(self.settings.producer_expiration));
        let before = partition.readable();
        let written = write(partition, batch, now, settings)?;
        let log_start_offset = partition.log.start_offset();
        if written.is_new {
            self.written(now, topic, index, before, Reach::Quick);
        }
        Ok(ProducedPartition {
            index,
            error_code: ErrorCode::NONE,
            base_offset: written.base_offset,
            log_append_time_ms: written.append_time,
            log_start_offset,
            ..ProducedPartition::default()
        })
    }

    /// Asks the coordinator about the first batch of a transaction in a partition (KIP-890).
    fn let_in(
        &mut self,
        now: Now,
        caller: &Caller,
        topic: &Str,
        index: i32,
        sent: &Sent<'_>,
    ) -> Result<(), ErrorCode> {
        let Some(id) = sent.transactional_id.filter(|_| sent.batch.header().transactional) else {
            return Ok(());
        };
        let Some(sequenced) = sequenced(sent.batch.header()) else { return Ok(()) };
        let support = match caller.version {
            ..=10 => Support::InvalidState,
            11 => Support::Abortable,
            _ => Support::Adding,
        };
        let let_in = self.let_into_transaction(now, id, topic, index, sequenced, support);
        let_in.map_err(|code| match code {
            // What clients of before would take for fatal.
            ErrorCode::CONCURRENT_TRANSACTIONS if support != Support::Adding => {
                ErrorCode::NOT_ENOUGH_REPLICAS
            }
            ErrorCode::COORDINATOR_NOT_AVAILABLE => ErrorCode::NOT_ENOUGH_REPLICAS,
            code => code,
        })
    }

    fn leader_hint(&self, answer: &ProducedPartition, topic: Option<&Str>) -> LeaderIdAndEpoch {
        let partition = topic.and_then(|topic| self.topics.get(topic)?.partition(answer.index));
        match partition {
            Some(partition) if answer.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER => self.hint(partition),
            _ => LeaderIdAndEpoch::default(),
        }
    }
}

fn check_batch(topic: &Topic, version: i16, batch: &Batch) -> Result<(), Refused> {
    let header = batch.header();
    if version < 7 && header.compression == Compression::Zstd {
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE.into());
    }
    if batch.bytes().len() > topic.settings.message_bytes_max {
        return Err(ErrorCode::MESSAGE_TOO_LARGE.into());
    }
    Ok(())
}

/// A batch as it was sent.
struct Sent<'a> {
    acks: i16,
    transactional_id: Option<&'a Str>,
    batch: &'a Batch,
}

struct Written {
    base_offset: i64,
    append_time: i64,
    /// False for a batch that was in the log before.
    is_new: bool,
}

/// Appends the batch, unless its producer's sequence forbids it or it is in the log already.
fn write(
    partition: &mut Partition,
    batch: &Batch,
    now: Now,
    settings: &TopicSettings,
) -> Result<Written, Refused> {
    let append_time = (settings.timestamp_type == TimestampType::LogAppendTime).then_some(now.wall_ms);
    let header = batch.header();
    let sequenced = sequenced(header);
    let producer_id = header.producer_id;
    let is_open = partition.stability.opened_at(producer_id).is_some();
    if let Some(sequenced) = sequenced {
        match partition.producers.judge(sequenced) {
            Verdict::Next => {}
            Verdict::Refused(code) => return Err(code.into()),
            Verdict::Duplicate(of) => {
                return Ok(Written {
                    base_offset: of.base_offset,
                    append_time: of.append_time,
                    is_new: false,
                });
            }
        }
    }
    if is_open && !header.transactional {
        return Err(ErrorCode::INVALID_TXN_STATE.into());
    }
    let what = Appended {
        offsets: header.last_offset_delta + 1,
        max_timestamp: append_time.unwrap_or(header.max_timestamp),
    };
    let appended = partition.append(batch.bytes(), what, append_time, now, settings);
    let base_offset = appended.map_err(|error| storage_failed(&error))?;
    let append_time = append_time.unwrap_or(-1);
    if let Some(sequenced) = sequenced {
        partition.producers.remember(sequenced, base_offset, append_time, now);
    }
    if header.transactional {
        partition.stability.wrote(producer_id, base_offset);
    }
    // It is in the log and remembered: a retry finds it there.
    partition.log.flush_if_due(now.wall_ms, settings).map_err(|error| storage_failed(&error))?;
    Ok(Written { base_offset, append_time, is_new: true })
}

fn storage_failed(error: &std::io::Error) -> Refused {
    let message = Str::from(format!("the log cannot be written: {error}"));
    Refused::saying(ErrorCode::KAFKA_STORAGE_ERROR, message)
}

fn sequenced(header: &BatchHeader) -> Option<Sequenced> {
    (header.producer_id >= 0).then_some(Sequenced {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        first: header.base_sequence,
        count: header.count,
    })
}
