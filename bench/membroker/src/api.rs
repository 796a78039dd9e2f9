//! One function for each request that is served: decoded request in, response out.
//!
//! Honours what a producer and an assigned consumer need. Agrees to everything that a transaction asks for and writes no
//! markers: readers see each record at once. Ignores quotas, sessions (each Fetch is a whole one), groups, followers and
//! authorisation. A request that is not in `SERVED` closes its connection.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::broker::{Broker, Topic};
use crate::codes;

const HOST: &str = "127.0.0.1";
/// The timestamp that stands for the earliest offset in ListOffsets.
const EARLIEST: i64 = -2;

const SERVED: [(ApiKey, i16, i16); 12] = [
    (ApiKey::Produce, 3, 12),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::ApiVersions, 0, API_VERSIONS_MAX),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::AddPartitionsToTxn, 0, 3),
    (ApiKey::EndTxn, 0, 4),
];

/// A client that asks for a newer ApiVersions is told so in the oldest form.
pub(crate) const API_VERSIONS_MAX: i16 = 4;

/// Answers one request into `out`; false when the client expects no answer.
pub(crate) fn answer(
    broker: &Broker,
    node: i32,
    (key, version): (ApiKey, i16),
    body: &mut Bytes,
    out: &mut BytesMut,
) -> Result<bool, String> {
    match key {
        ApiKey::ApiVersions if version > API_VERSIONS_MAX => {
            write(api_versions().with_error_code(codes::UNSUPPORTED_VERSION), 0, out)?;
        }
        ApiKey::ApiVersions => write(api_versions(), version, out)?,
        ApiKey::Metadata => write(metadata(broker, &read(body, version)?, version), version, out)?,
        ApiKey::InitProducerId => {
            let producer_id = ProducerId(i64::try_from(broker.new_id()).unwrap_or(i64::MAX));
            write(InitProducerIdResponse::default().with_producer_id(producer_id), version, out)?;
        }
        ApiKey::Produce => {
            let request = read::<ProduceRequest>(body, version)?;
            let response = produce(broker, &request, version);
            if request.acks == 0 {
                return Ok(false);
            }
            write(response, version, out)?;
        }
        ApiKey::Fetch => write(fetch(broker, &read(body, version)?, version), version, out)?,
        ApiKey::ListOffsets => write(list_offsets(broker, &read(body, version)?, version), version, out)?,
        ApiKey::FindCoordinator => {
            write(find_coordinator(broker, node, &read(body, version)?), version, out)?
        }
        ApiKey::OffsetForLeaderEpoch => write(end_of_epoch(broker, &read(body, version)?), version, out)?,
        ApiKey::AddPartitionsToTxn => write(add_partitions(&read(body, version)?), version, out)?,
        ApiKey::EndTxn => {
            read::<EndTxnRequest>(body, version)?;
            write(EndTxnResponse::default(), version, out)?;
        }
        ApiKey::CreateTopics => write(create_topics(broker, &read(body, version)?), version, out)?,
        ApiKey::DeleteTopics => write(delete_topics(broker, &read(body, version)?, version), version, out)?,
        _ => return Err("it is not served".to_string()),
    }
    Ok(true)
}

fn read<T: Decodable>(body: &mut Bytes, version: i16) -> Result<T, String> {
    T::decode(body, version).map_err(|problem| problem.to_string())
}

fn write<T: Encodable>(response: T, version: i16, out: &mut BytesMut) -> Result<(), String> {
    response.encode(out, version).map_err(|problem| problem.to_string())
}

fn api_versions() -> ApiVersionsResponse {
    let served = SERVED.map(|(key, min, max)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
    });
    ApiVersionsResponse::default().with_api_keys(served.to_vec())
}

fn metadata(broker: &Broker, request: &MetadataRequest, version: i16) -> MetadataResponse {
    let nodes = (0..).zip(&broker.ports).map(|(node, port)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node))
            .with_host(StrBytes::from_static_str(HOST))
            .with_port(i32::from(*port))
    });
    let auto_create = request.allow_auto_topic_creation || version < 4;
    let topics = match &request.topics {
        // In version 0 an empty list asks for all topics, later no list does.
        Some(wanted) if !wanted.is_empty() || version > 0 => wanted
            .iter()
            .map(|wanted| match &wanted.name {
                Some(name) if auto_create => Ok(broker.create(name, broker.default_partitions)),
                Some(name) => broker.topic(name).ok_or(name.clone()),
                None => broker.topic_by_id(&wanted.topic_id).ok_or(TopicName::default()),
            })
            .map(|topic| topic.map_or_else(unknown_topic, |topic| topic_metadata(broker, &topic)))
            .collect(),
        _ => broker.all_topics().iter().map(|topic| topic_metadata(broker, topic)).collect(),
    };
    MetadataResponse::default()
        .with_brokers(nodes.collect())
        .with_cluster_id(Some(StrBytes::from_static_str("membroker")))
        .with_controller_id(BrokerId(0))
        .with_topics(topics)
}

fn topic_metadata(broker: &Broker, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.partitions()).map(|partition| {
        let leader = BrokerId(broker.leader(partition));
        MetadataResponsePartition::default()
            .with_partition_index(partition)
            .with_leader_id(leader)
            .with_leader_epoch(0)
            .with_replica_nodes(vec![leader])
            .with_isr_nodes(vec![leader])
    });
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

fn unknown_topic(name: TopicName) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_name(Some(name)).with_error_code(codes::UNKNOWN_TOPIC_OR_PARTITION)
}

fn produce(broker: &Broker, request: &ProduceRequest, version: i16) -> ProduceResponse {
    let mut kept = false;
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in &request.topic_data {
        let topic = broker.topic(&data.name);
        kept |= topic.as_ref().is_some_and(|topic| topic.is_kept());
        let partitions = data.partition_data.iter().map(|data| {
            let records = data.records.as_deref().unwrap_or(&[]);
            let topic = topic.as_ref().ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION);
            let (base_offset, error) = split(topic.and_then(|topic| topic.append(data.index, records)), -1);
            PartitionProduceResponse::default()
                .with_index(data.index)
                .with_error_code(error)
                .with_base_offset(base_offset)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(since(5, version))
        });
        let partitions = partitions.collect();
        topics.push(
            TopicProduceResponse::default().with_name(data.name.clone()).with_partition_responses(partitions),
        );
    }
    if kept {
        broker.ring();
    }
    ProduceResponse::default().with_responses(topics)
}

/// Waits until there are `min_bytes`, an error, or no time left.
fn fetch(broker: &Broker, request: &FetchRequest, version: i16) -> FetchResponse {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    loop {
        let seen = broker.arrivals();
        let mut room = Room { left: usize::try_from(request.max_bytes).unwrap_or(0).max(1), used: 0 };
        let topics: Vec<FetchableTopicResponse> =
            request.topics.iter().map(|wanted| fetch_topic(broker, wanted, version, &mut room)).collect();
        let is_error = |topic: &FetchableTopicResponse| topic.partitions.iter().any(|p| p.error_code != 0);
        let enough = room.used >= usize::try_from(request.min_bytes).unwrap_or(0);
        if enough || topics.iter().any(is_error) || Instant::now() >= deadline {
            return FetchResponse::default().with_responses(topics);
        }
        broker.wait(seen, deadline);
    }
}

/// Bytes of one Fetch response.
struct Room {
    left: usize,
    used: usize,
}

fn fetch_topic(
    broker: &Broker,
    wanted: &FetchTopic,
    version: i16,
    room: &mut Room,
) -> FetchableTopicResponse {
    let topic = match version {
        ..13 => broker.topic(&wanted.topic).ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION),
        _ => broker.topic_by_id(&wanted.topic_id).ok_or(codes::UNKNOWN_TOPIC_ID),
    };
    let read = |topic: &Topic, partition, offset, max_bytes| {
        let end = topic.next_offset(partition)?;
        let records = if max_bytes > 0 { topic.read(partition, offset, max_bytes)? } else { Bytes::new() };
        Ok((end, records))
    };
    let partitions = wanted.partitions.iter().map(|wanted| {
        let max_bytes = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(room.left);
        let records = topic
            .as_ref()
            .map_err(|code| *code)
            .and_then(|topic| read(topic, wanted.partition, wanted.fetch_offset, max_bytes));
        let ((end, records), error) = split(records, (-1, Bytes::new()));
        room.left = room.left.saturating_sub(records.len());
        room.used += records.len();
        PartitionData::default()
            .with_partition_index(wanted.partition)
            .with_error_code(error)
            .with_high_watermark(end)
            .with_last_stable_offset(end)
            .with_log_start_offset(since(5, version))
            .with_aborted_transactions(None)
            .with_records(Some(records))
    });
    FetchableTopicResponse::default()
        .with_partitions(partitions.collect())
        .with_topic(wanted.topic.clone())
        .with_topic_id(wanted.topic_id)
}

fn list_offsets(broker: &Broker, request: &ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|wanted| {
        let partitions = wanted.partitions.iter().map(|partition| {
            let (end, error) = split(end_offset(broker, &wanted.name, partition.partition_index), -1);
            let offset = if partition.timestamp == EARLIEST && error == 0 { 0 } else { end };
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error)
                .with_timestamp(-1)
                .with_offset(offset)
                .with_leader_epoch(since(4, version))
        });
        ListOffsetsTopicResponse::default()
            .with_partitions(partitions.collect())
            .with_name(wanted.name.clone())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn find_coordinator(broker: &Broker, node: i32, request: &FindCoordinatorRequest) -> FindCoordinatorResponse {
    let port = usize::try_from(node)
        .ok()
        .and_then(|node| broker.ports.get(node))
        .map_or(-1, |port| i32::from(*port));
    let host = StrBytes::from_static_str(HOST);
    let coordinators = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(node))
            .with_host(host.clone())
            .with_port(port)
    });
    let response = FindCoordinatorResponse::default().with_coordinators(coordinators.collect());
    // Before version 4 a request names one key and the answer stands beside the list.
    match request.coordinator_keys.is_empty() {
        true => response.with_node_id(BrokerId(node)).with_host(host).with_port(port),
        false => response,
    }
}

fn add_partitions(request: &AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let topics = request.v3_and_below_topics.iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|index| AddPartitionsToTxnPartitionResult::default().with_partition_index(*index));
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

fn end_of_epoch(broker: &Broker, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|wanted| {
        let partitions = wanted.partitions.iter().map(|partition| {
            let (end, error) = split(end_offset(broker, &wanted.topic, partition.partition), -1);
            EpochEndOffset::default()
                .with_partition(partition.partition)
                .with_error_code(error)
                .with_leader_epoch(0)
                .with_end_offset(end)
        });
        OffsetForLeaderTopicResult::default()
            .with_partitions(partitions.collect())
            .with_topic(wanted.topic.clone())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn create_topics(broker: &Broker, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    let topics = request.topics.iter().map(|wanted| {
        let result = CreatableTopicResult::default().with_name(wanted.name.clone());
        if broker.topic(&wanted.name).is_some() {
            return result.with_error_code(codes::TOPIC_ALREADY_EXISTS);
        }
        let partitions =
            if wanted.num_partitions > 0 { wanted.num_partitions } else { broker.default_partitions };
        let topic = broker.create(&wanted.name, partitions);
        result.with_topic_id(topic.id).with_num_partitions(partitions).with_replication_factor(1)
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

/// Says on standard output what was produced to each topic.
fn delete_topics(broker: &Broker, request: &DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
    let names: Vec<TopicName> = match version {
        ..6 => request.topic_names.clone(),
        _ => request.topics.iter().filter_map(|topic| topic.name.clone()).collect(),
    };
    let results = names.into_iter().map(|name| {
        let deleted = broker.delete(&name).ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION);
        if let Ok(topic) = &deleted {
            let counts = topic.counts();
            println!(
                "{} batches {} records {} bytes {} duplicates {} refused {}",
                topic.name, counts.batches, counts.records, counts.bytes, counts.duplicates, counts.refused
            );
        }
        DeletableTopicResult::default().with_name(Some(name)).with_error_code(deleted.err().unwrap_or(0))
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}

fn end_offset(broker: &Broker, topic: &str, partition: i32) -> Result<i64, i16> {
    broker.topic(topic).ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)?.next_offset(partition)
}

/// The value, or what stands for it in a response, and the error code beside it.
fn split<T>(outcome: Result<T, i16>, otherwise: T) -> (T, i16) {
    match outcome {
        Ok(value) => (value, 0),
        Err(code) => (otherwise, code),
    }
}

/// 0 for a field that this version has; otherwise -1, its default, which is not written.
fn since<T: From<i8>>(first: i16, version: i16) -> T {
    T::from(if version >= first { 0 } else { -1 })
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_string()))
}
