//! ListOffsets and OffsetForLeaderEpoch: positions in the logs.
//!
//! ListOffsets versions 1 to 11: earliest, latest, by time, and the largest timestamp (KIP-734). There is no tiered
//! storage: the earliest local offset (-4) is the earliest, and what asks for tiered offsets (-5, -6) gets none. For a
//! reader of committed records the latest offset is the last stable one, and what lies behind it is not found by time.
//! Ignored: the replica, the timeout. OffsetForLeaderEpoch versions 2 to 4: whole, but for the
//! replica. Both are answered by leaders only.

use super::fetch::READ_COMMITTED;
use super::{Caller, Refuse};
use crate::core::log::Located;
use crate::core::topics::Partition;
use crate::core::{Cluster, Now, check_leader_epoch};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    EpochEndOffset, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListedPartition,
    ListedTopic, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use ottla_protocol::records::{Batch, DECOMPRESSED_BYTES_MAX, Decompressor, TimestampType};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const LARGEST_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

impl Refuse for ListOffsetsRequest {
    type Response = ListOffsetsResponse;

    fn refuse(&self, code: ErrorCode) -> ListOffsetsResponse {
        let topics = self.topics.iter().map(|topic| ListedTopic {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(|it| not_listed(it, code)).collect(),
        });
        ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
    }
}

fn not_listed(asked: &ListOffsetsPartition, error_code: ErrorCode) -> ListedPartition {
    ListedPartition { partition_index: asked.partition_index, error_code, ..ListedPartition::default() }
}

impl Refuse for OffsetForLeaderEpochRequest {
    type Response = OffsetForLeaderEpochResponse;

    fn refuse(&self, code: ErrorCode) -> OffsetForLeaderEpochResponse {
        let topics = self.topics.iter().map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic.partitions.iter().map(|it| no_end(it, code)).collect(),
        });
        OffsetForLeaderEpochResponse { topics: topics.collect(), ..OffsetForLeaderEpochResponse::default() }
    }
}

fn no_end(asked: &OffsetForLeaderPartition, error_code: ErrorCode) -> EpochEndOffset {
    EpochEndOffset { error_code, partition: asked.partition, ..EpochEndOffset::default() }
}

impl Cluster {
    pub(crate) fn list_offsets(
        &mut self,
        _: Now,
        caller: &Caller,
        request: ListOffsetsRequest,
    ) -> ListOffsetsResponse {
        let mut response = ListOffsetsResponse::default();
        let committed = request.isolation_level == READ_COMMITTED;
        for topic in request.topics {
            let list = |asked: &ListOffsetsPartition| {
                let listed = self.list_offset(caller, &topic.name, asked, committed);
                listed.unwrap_or_else(|code| not_listed(asked, code))
            };
            let partitions = topic.partitions.iter().map(list).collect();
            response.topics.push(ListedTopic { name: topic.name, partitions });
        }
        response
    }

    fn list_offset(
        &mut self,
        caller: &Caller,
        topic: &str,
        asked: &ListOffsetsPartition,
        committed: bool,
    ) -> Result<ListedPartition, ErrorCode> {
        let index = asked.partition_index;
        let partition =
            self.led_partition(ApiKey::LIST_OFFSETS, caller, topic, index, asked.current_leader_epoch)?;
        let start = partition.log.start_offset();
        let end = if committed { partition.last_stable_offset() } else { partition.high_watermark() };
        let is_readable = |(offset, ..): &(i64, i64, i32)| *offset < end;
        // A new leader does not know yet how far its predecessor had come.
        if !partition.knows_high_watermark() && asked.timestamp == LATEST {
            return Err(match caller.version {
                ..=4 => ErrorCode::LEADER_NOT_AVAILABLE,
                _ => ErrorCode::OFFSET_NOT_AVAILABLE,
            });
        }
        let (lowest_version, found) = match asked.timestamp {
            LATEST => (1, Some((end, -1, partition.leader_epoch))),
            EARLIEST => (1, Some((start, -1, partition.epoch_of(start)))),
            LARGEST_TIMESTAMP => (7, find_largest_timestamp(partition)?.filter(is_readable)),
            EARLIEST_LOCAL => (8, Some((start, -1, partition.epoch_of(start)))),
            LATEST_TIERED => (9, None),
            EARLIEST_PENDING_UPLOAD => (11, None),
            timestamp if timestamp >= 0 => (1, find_time(partition, timestamp)?.filter(is_readable)),
            _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
        };
        if caller.version < lowest_version {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let (offset, timestamp, leader_epoch) = found.unwrap_or((-1, -1, -1));
        let partition_index = index;
        Ok(ListedPartition { partition_index, error_code: ErrorCode::NONE, timestamp, offset, leader_epoch })
    }

    pub(crate) fn offset_for_leader_epoch(
        &mut self,
        _: Now,
        caller: &Caller,
        request: OffsetForLeaderEpochRequest,
    ) -> OffsetForLeaderEpochResponse {
        let mut response = OffsetForLeaderEpochResponse::default();
        for topic in request.topics {
            let look_up = |asked: &OffsetForLeaderPartition| {
                let key = ApiKey::OFFSET_FOR_LEADER_EPOCH;
                let (index, epoch) = (asked.partition, asked.current_leader_epoch);
                match self.led_partition(key, caller, &topic.topic, index, epoch) {
                    Ok(partition) => end_of_epoch(partition, asked),
                    Err(code) => no_end(asked, code),
                }
            };
            let partitions = topic.partitions.iter().map(look_up).collect();
            response.topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
        }
        response
    }

    /// The partition, if the node that is asked leads it and the client's leader epoch is the current one.
    pub(super) fn led_partition(
        &mut self,
        key: ApiKey,
        caller: &Caller,
        topic: &str,
        index: i32,
        epoch: i32,
    ) -> Result<&mut Partition, ErrorCode> {
        self.access.on_topic(key, caller, topic)?;
        if let Some(code) = self.faults.on_partition(key, caller.node, topic, index) {
            return Err(code);
        }
        let partition =
            self.topics.partition_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if partition.leader != Some(caller.node) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        check_leader_epoch(partition, epoch)?;
        Ok(partition)
    }
}

fn end_of_epoch(partition: &Partition, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let mut answer = no_end(asked, ErrorCode::NONE);
    if let Some(end) = partition.epoch_end(asked.leader_epoch).filter(|_| asked.leader_epoch >= 0) {
        (answer.leader_epoch, answer.end_offset) = (end.epoch, end.end_offset);
    }
    answer
}

/// Offset, timestamp and leader epoch of a record.
type Found = Option<(i64, i64, i32)>;

/// The first record that is not older than `timestamp`.
fn find_time(partition: &mut Partition, timestamp: i64) -> Result<Found, ErrorCode> {
    let Some(first) = partition.log.at_time(timestamp) else { return Ok(None) };
    // What lies before the start of the log does not count, and the next may be in any batch behind.
    let mut offset = first.entry.base_offset.max(partition.log.start_offset());
    while let Some(at) = partition.log.at(offset) {
        let found = find_in(partition, at, timestamp)?;
        if found.is_some() {
            return Ok(found);
        }
        offset = at.entry.last_offset + 1;
    }
    Ok(None)
}

fn find_largest_timestamp(partition: &mut Partition) -> Result<Found, ErrorCode> {
    let largest = partition.log.largest_timestamp();
    largest.map_or(Ok(None), |timestamp| find_time(partition, timestamp))
}

/// The first record of a batch that is not older than `timestamp`.
fn find_in(partition: &mut Partition, at: Located, timestamp: i64) -> Result<Found, ErrorCode> {
    let corrupt = |_| ErrorCode::CORRUPT_MESSAGE;
    let start = partition.log.start_offset();
    let bytes = partition.log.batch(at).map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
    let batch = Batch::parse(bytes).map_err(corrupt)?;
    let header = *batch.header();
    if header.max_timestamp < timestamp {
        return Ok(None);
    }
    let epoch = header.partition_leader_epoch;
    if header.timestamp_type == TimestampType::LogAppend {
        return Ok(Some((header.base_offset.max(start), header.max_timestamp, epoch)));
    }
    let mut open = batch.open(&mut Decompressor::new(), DECOMPRESSED_BYTES_MAX).map_err(corrupt)?;
    while let Some(record) = open.next().map_err(corrupt)? {
        if record.timestamp >= timestamp && record.offset >= start {
            return Ok(Some((record.offset, record.timestamp, epoch)));
        }
    }
    Ok(None)
}
