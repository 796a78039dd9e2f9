//! What Produce accepts, refuses and remembers.
#![allow(clippy::unwrap_used)]

mod wire;

use bytes::{Bytes, BytesMut};
use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::records::{Compression, TimestampType, set_log_append_time};
use ottla_protocol::wire::{RecordSet, Str, Uuid};
use wire::*;

fn broker() -> Broker {
    Broker::builder().nodes(2).topic("t", 2).build().unwrap()
}

/// A batch of one record whose header claims another number, under a checksum that fits.
fn counting(count: i32) -> Bytes {
    let mut bytes = BytesMut::from(&plain(&["a"])[..]);
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    set_log_append_time(&mut bytes, 1000).unwrap();
    bytes.freeze()
}

async fn check_refused(records: Bytes, expected: ErrorCode) {
    let broker = broker();
    let answer = append(&mut Wire::connect(&broker, 1), "t", 0, records).await;
    assert_eq!((answer.error_code, answer.base_offset), (expected, -1));
    assert_eq!(broker.end_offset("t", 0), Some(0), "nothing was appended");
}

#[tokio::test(start_paused = true)]
async fn every_version_appends_and_says_where() {
    let broker = broker();
    let id = broker.topic_id("t").unwrap();
    let mut wire = Wire::connect(&broker, 1);
    for (version, written) in (3..=13).zip(0..) {
        let topic_id = if version >= 13 { id } else { Uuid::ZERO };
        let answer = wire.call(version, produce("t", topic_id, 0, plain(&["a", "b"]))).await;
        let name = if version >= 13 { "" } else { "t" };
        assert_eq!(answer.responses[0].name, name);
        let partition = only(answer);
        assert_eq!(
            (partition.error_code, partition.base_offset),
            (ErrorCode::NONE, 2 * written),
            "v{version}"
        );
        assert_eq!(partition.log_append_time_ms, -1);
    }
    let log = broker.log("t", 0).unwrap();
    assert_eq!(log.iter().map(|record| record.offset).collect::<Vec<_>>(), (0..22).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_comes_again_is_answered_with_its_first_offset() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    let first = append(&mut wire, "t", 0, numbered(&["a", "b"], 7, 0, 0)).await;
    let other = append(&mut wire, "t", 0, numbered(&["c"], 7, 0, 2)).await;
    let again = append(&mut wire, "t", 0, numbered(&["a", "b"], 7, 0, 0)).await;
    assert_eq!((first.base_offset, other.base_offset), (0, 2));
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 0));
    assert_eq!(broker.end_offset("t", 0), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_the_sequence_and_an_old_epoch_are_refused() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    append(&mut wire, "t", 0, numbered(&["a"], 7, 1, 0)).await;
    let gap = append(&mut wire, "t", 0, numbered(&["c"], 7, 1, 2)).await;
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let old = append(&mut wire, "t", 0, numbered(&["b"], 7, 0, 1)).await;
    assert_eq!(old.error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    let elsewhere = append(&mut Wire::connect(&broker, 2), "t", 1, numbered(&["x"], 7, 0, 9)).await;
    assert_eq!(elsewhere.error_code, ErrorCode::NONE, "each partition remembers for itself");
    assert_eq!((broker.end_offset("t", 0), broker.end_offset("t", 1)), (Some(1), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn what_a_producer_wrote_is_known_to_the_next_leader_too() {
    let broker = broker();
    append(&mut Wire::connect(&broker, 1), "t", 0, numbered(&["a"], 7, 0, 0)).await;
    broker.stop_node(1);
    let again = append(&mut Wire::connect(&broker, 2), "t", 0, numbered(&["a"], 7, 0, 0)).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 0));
    assert_eq!(broker.end_offset("t", 0), Some(1));
}

#[tokio::test(start_paused = true)]
async fn batches_that_contradict_themselves_are_refused() {
    check_refused(Bytes::new(), ErrorCode::INVALID_RECORD).await;
    check_refused(plain(&["a"]).slice(..60), ErrorCode::CORRUPT_MESSAGE).await;
    check_refused(plain(&["a"]).slice(..65), ErrorCode::CORRUPT_MESSAGE).await;
    let mut flipped = BytesMut::from(&plain(&["abc"])[..]);
    let last = flipped.len() - 2;
    flipped[last] ^= 1;
    check_refused(flipped.freeze(), ErrorCode::CORRUPT_MESSAGE).await;
    let two = [plain(&["a"]), plain(&["b"])].concat();
    check_refused(two.into(), ErrorCode::INVALID_RECORD).await;
    for count in [-1, 0, 2, i32::MAX] {
        check_refused(counting(count), ErrorCode::INVALID_RECORD).await;
    }
    check_refused(batch(&["a"], |it| it.base_offset = 5), ErrorCode::INVALID_RECORD).await;
    check_refused(batch(&["a"], |it| it.control = true), ErrorCode::INVALID_RECORD).await;
    check_refused(numbered(&["a"], 7, 0, -1), ErrorCode::INVALID_RECORD).await;
    let transactional = batch(&["a"], |it| {
        (it.producer_id, it.producer_epoch, it.base_sequence, it.transactional) = (7, 0, 0, true);
    });
    check_refused(transactional, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED).await;
    let mut old = BytesMut::from(&plain(&["a"])[..]);
    old[16] = 1;
    check_refused(old.freeze(), ErrorCode::INVALID_RECORD).await;
}

#[tokio::test(start_paused = true)]
async fn zstd_needs_version_seven() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    let zstd = || batch(&["a"], |it| it.compression = Compression::Zstd);
    let refused = only(wire.call(6, produce("t", Uuid::ZERO, 0, zstd())).await);
    assert_eq!(refused.error_code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    let accepted = only(wire.call(7, produce("t", Uuid::ZERO, 0, zstd())).await);
    assert_eq!(accepted.error_code, ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn a_batch_above_the_limit_of_broker_or_topic_is_too_large() {
    let broker = Broker::builder().topic("t", 1).setting("message.max.bytes", "200").build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let large = "x".repeat(200);
    let answer = append(&mut wire, "t", 0, plain(&[&large])).await;
    assert_eq!(answer.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    let topic = CreatableTopic {
        name: Str::from("large"),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig {
            name: Str::from("max.message.bytes"),
            value: Some(Str::from("1000")),
        }],
        ..CreatableTopic::default()
    };
    wire.call(7, CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }).await;
    let answer = append(&mut wire, "large", 0, plain(&[&large])).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn another_node_refuses_and_names_the_leader() {
    let broker = broker();
    broker.move_leader("t", 0, 2).unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let refused = wire.call(10, produce("t", Uuid::ZERO, 0, plain(&["a"]))).await;
    assert_eq!(refused.node_endpoints.len(), 1);
    assert_eq!((refused.node_endpoints[0].node_id, &*refused.node_endpoints[0].host), (2, "node-2"));
    let partition = only(refused);
    assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(partition.current_leader, LeaderIdAndEpoch { leader_id: 2, leader_epoch: 1 });
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_named_so() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    for (topic, index) in [("nope", 0), ("t", 2), ("t", -1)] {
        let answer = append(&mut wire, topic, index, plain(&["a"])).await;
        assert_eq!(answer.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "{topic} {index}");
    }
    let answer = only(wire.call(13, produce("", Uuid(99), 0, plain(&["a"]))).await);
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgement_there_is_no_answer_but_a_failure_hangs_up() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    let silent = |topic| ProduceRequest { acks: 0, ..produce(topic, Uuid::ZERO, 0, plain(&["a"])) };
    wire.send(9, &silent("t")).await;
    let next = append(&mut wire, "t", 0, plain(&["b"])).await;
    assert_eq!(next.base_offset, 1, "the next answer is that of the next request");
    wire.send(9, &silent("nope")).await;
    assert!(wire.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_other_than_three_are_refused() {
    let broker = broker();
    let request = ProduceRequest { acks: 2, ..produce("t", Uuid::ZERO, 0, plain(&["a"])) };
    let answer = only(Wire::connect(&broker, 1).call(9, request).await);
    assert_eq!(answer.error_code, ErrorCode::INVALID_REQUIRED_ACKS);
}

#[tokio::test(start_paused = true)]
async fn too_few_replicas_refuse_what_wants_all_of_them() {
    let broker =
        Broker::builder().nodes(2).topic("t", 1).setting("min.insync.replicas", "2").build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    assert_eq!(append(&mut wire, "t", 0, plain(&["a"])).await.error_code, ErrorCode::NONE);
    broker.stop_node(2);
    let refused = append(&mut wire, "t", 0, plain(&["b"])).await;
    assert_eq!(refused.error_code, ErrorCode::NOT_ENOUGH_REPLICAS);
    let one = ProduceRequest { acks: 1, ..produce("t", Uuid::ZERO, 0, plain(&["c"])) };
    assert_eq!(only(wire.call(9, one).await).error_code, ErrorCode::NONE);
    broker.start_node(2);
    assert_eq!(append(&mut wire, "t", 0, plain(&["d"])).await.error_code, ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn append_time_is_the_brokers_and_holds_for_every_record() {
    let broker = Broker::builder()
        .topic("t", 1)
        .setting("log.message.timestamp.type", "LogAppendTime")
        .build()
        .unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let answer = append(&mut wire, "t", 0, numbered(&["a", "b"], 1, 0, 0)).await;
    assert!(answer.log_append_time_ms > 1_500_000_000_000);
    let again = append(&mut wire, "t", 0, numbered(&["a", "b"], 1, 0, 0)).await;
    assert_eq!(again.log_append_time_ms, answer.log_append_time_ms);
    let got = wire.call(12, fetch("t", 0, 0)).await;
    let records = &got.responses[0].partitions[0].records;
    let stored = ottla_protocol::records::batches(records.as_ref().unwrap()).next().unwrap().unwrap();
    assert_eq!(stored.header().timestamp_type, TimestampType::LogAppend);
    assert_eq!(values(records), ["a", "b"]);
    assert!(broker.log("t", 0).unwrap().iter().all(|record| record.timestamp == answer.log_append_time_ms));
}

#[tokio::test(start_paused = true)]
async fn one_partition_that_fails_leaves_the_others_alone() {
    let broker = broker();
    let mut request = produce("t", Uuid::ZERO, 0, plain(&["a"]));
    let more = [(9, plain(&["b"])), (0, plain(&["c"]))];
    let more = more.map(|(index, records)| ProducePartition { index, records: RecordSet(Some(records)) });
    request.topic_data[0].partition_data.extend(more);
    let answer = Wire::connect(&broker, 1).call(9, request).await;
    let codes: Vec<_> = answer.responses[0].partition_responses.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::NONE]);
    assert_eq!(broker.end_offset("t", 0), Some(2));
}

#[tokio::test(start_paused = true)]
async fn every_producer_gets_an_id_of_its_own() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    let mut ids = Vec::new();
    for version in 0..=5 {
        let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
        let answer = wire.call(version, request).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (ErrorCode::NONE, 0));
        ids.push(answer.producer_id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 6);
}
