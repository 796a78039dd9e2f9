//! What transactions leave in a log, and what readers see of it before and after they end.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::{Broker, Builder};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::records::{ControlKind, ControlRecord, DECOMPRESSED_BYTES_MAX, Decompressor, batches};
use ottla_protocol::wire::{RecordSet, Str, Uuid};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wire::*;

const NONE: ErrorCode = ErrorCode::NONE;

/// Markers are of today and records of 1970: nothing is to be closed or deleted for that.
fn builder() -> Builder {
    let never = i64::MAX.to_string();
    Broker::builder().setting("log.roll.ms", &*never).setting("log.retention.ms", "-1").topic("t", 1)
}

async fn wired() -> (Broker, Wire) {
    let broker = builder().build().unwrap();
    for id in ["x", "y"] {
        broker.transaction_coordinator(id);
    }
    let wire = Wire::connect(&broker, 1);
    (broker, wire)
}

async fn write(wire: &mut Wire, txn: &Txn, value: &str, sequence: i32) {
    let sent = only(wire.call(12, txn.produce("t", 0, &[value], sequence)).await);
    assert_eq!(sent.error_code, NONE);
}

async fn end(wire: &mut Wire, txn: &Txn, commit: bool) {
    assert_eq!(wire.call(5, txn.end(commit)).await.error_code, NONE);
}

/// What stands in a record set: the values of records, and the markers.
fn contents(records: &RecordSet) -> Vec<String> {
    let mut contents = Vec::new();
    for batch in batches(&records.0.clone().unwrap_or_default()) {
        let batch = batch.unwrap();
        batch.check_checksum().unwrap();
        let header = *batch.header();
        let mut open = batch.open(&mut Decompressor::new(), DECOMPRESSED_BYTES_MAX).unwrap();
        while let Some(record) = open.next().unwrap() {
            contents.push(match header.control {
                false => String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
                true => match ControlRecord::parse(&record, header.base_offset).unwrap().kind {
                    ControlKind::Commit => format!("commit {}", header.producer_epoch),
                    ControlKind::Abort => format!("abort {}", header.producer_epoch),
                    ControlKind::Unknown(kind) => panic!("no marker: {kind}"),
                },
            });
        }
    }
    contents
}

async fn read(wire: &mut Wire, request: FetchRequest) -> FetchedPartition {
    let answer = wire.call(11, request).await;
    assert_eq!(answer.error_code, NONE);
    answer.responses.into_iter().next().unwrap().partitions.into_iter().next().unwrap()
}

fn aborted(partition: &FetchedPartition) -> Vec<(i64, i64)> {
    let aborted = partition.aborted_transactions.iter().flatten();
    aborted.map(|it| (it.producer_id, it.first_offset)).collect()
}

#[tokio::test(start_paused = true)]
async fn markers_carry_the_decision_and_the_epoch_that_ends_the_transaction() {
    let (_, mut wire) = wired().await;
    let (x, y) = (Txn::new(&mut wire, "x").await, Txn::new(&mut wire, "y").await);
    write(&mut wire, &x, "a", 0).await;
    end(&mut wire, &x, true).await;
    wire.call(3, y.add("t", &[0])).await;
    only(wire.call(11, y.produce("t", 0, &["b"], 0)).await);
    wire.call(4, y.end(false)).await;
    let all = read(&mut wire, fetch("t", 0, 0)).await;
    assert_eq!(contents(&all.records), ["a", "commit 1", "b", "abort 0"]);
    assert_eq!(all.aborted_transactions, None, "who reads everything is told of nothing");
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_committed_records_stops_before_the_oldest_open_transaction() {
    let (broker, mut wire) = wired().await;
    let (x, y) = (Txn::new(&mut wire, "x").await, Txn::new(&mut wire, "y").await);
    append(&mut wire, "t", 0, plain(&["p"])).await;
    write(&mut wire, &x, "a", 0).await;
    write(&mut wire, &y, "b", 0).await;
    append(&mut wire, "t", 0, plain(&["q"])).await;
    let committed = read(&mut wire, read_committed("t", 0, 0)).await;
    assert_eq!((committed.high_watermark, committed.last_stable_offset), (4, 1));
    assert_eq!(contents(&committed.records), ["p"]);
    let beyond = read(&mut wire, read_committed("t", 0, 3)).await;
    assert_eq!((beyond.error_code, contents(&beyond.records).len()), (NONE, 0));
    end(&mut wire, &y, true).await;
    assert_eq!(broker.last_stable_offset("t", 0), Some(1), "the first one is still open");
    end(&mut wire, &x, true).await;
    let committed = read(&mut wire, read_committed("t", 0, 0)).await;
    assert_eq!(contents(&committed.records), ["p", "a", "b", "q", "commit 1", "commit 1"]);
    assert_eq!((committed.last_stable_offset, committed.aborted_transactions), (6, Some(vec![])));
}

#[tokio::test(start_paused = true)]
async fn aborted_transactions_are_named_to_whoever_reads_what_they_reach_into() {
    let (broker, mut wire) = wired().await;
    let (x, y) = (Txn::new(&mut wire, "x").await, Txn::new(&mut wire, "y").await);
    write(&mut wire, &x, "a", 0).await;
    write(&mut wire, &y, "b", 0).await;
    write(&mut wire, &x, "c", 1).await;
    end(&mut wire, &y, false).await;
    end(&mut wire, &x, false).await;
    write(&mut wire, &x.at(1), "d", 0).await;
    end(&mut wire, &x.at(1), true).await;
    let (first, second) = ((x.producer_id, 0), (y.producer_id, 1));
    for (offset, named) in
        [(0, vec![second, first]), (3, vec![second, first]), (4, vec![first]), (5, vec![]), (7, vec![])]
    {
        let committed = read(&mut wire, read_committed("t", 0, offset)).await;
        assert_eq!(aborted(&committed), named, "from {offset}");
    }
    let mut narrow = read_committed("t", 0, 0);
    narrow.topics[0].partitions[0].partition_max_bytes = 1;
    let only_first = read(&mut wire, narrow).await;
    assert_eq!((contents(&only_first.records), aborted(&only_first)), (vec!["a".to_string()], vec![first]));
    let committed = broker.committed_log("t", 0).unwrap();
    assert_eq!(committed.iter().map(|record| record.offset).collect::<Vec<_>>(), [5]);
    assert_eq!(broker.log("t", 0).unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_committed_records_waits_for_the_end_of_the_transaction_and_not_for_its_records() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    let mut reader = Wire::connect(&broker, 1);
    let started = Instant::now();
    let request = FetchRequest { max_wait_ms: 60_000, ..read_committed("t", 0, 0) };
    reader.send(11, &request).await;
    sleep(Duration::from_secs(1)).await;
    write(&mut wire, &txn, "a", 0).await;
    sleep(Duration::from_secs(1)).await;
    end(&mut wire, &txn, true).await;
    let answer = reader.receive::<FetchRequest>(11).await;
    assert_eq!(started.elapsed().as_secs(), 2);
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(contents(&partition.records), ["a", "commit 1"]);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_listed_up_to_the_last_stable_one_for_readers_of_committed_records() {
    let (_, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    append(&mut wire, "t", 0, plain(&["p"])).await;
    write(&mut wire, &txn, "a", 0).await;
    let list = |isolation_level, timestamp| {
        let partition =
            ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..ListOffsetsPartition::default() };
        let topics = vec![ListOffsetsTopic { name: Str::from("t"), partitions: vec![partition] }];
        ListOffsetsRequest { isolation_level, topics, ..ListOffsetsRequest::default() }
    };
    let cases = [
        (0, -1, 2),
        (1, -1, 1),
        (1, -2, 0),
        (0, 1000, 0),
        (1, 1000, 0),
        (0, 1001, -1),
        (1, 1001, -1),
        (0, -3, 0),
        (1, -3, 0),
    ];
    for (isolation, timestamp, expected) in cases {
        let answer = wire.call(7, list(isolation, timestamp)).await;
        let offset = answer.topics[0].partitions[0].offset;
        assert_eq!(offset, expected, "isolation {isolation}, time {timestamp}");
    }
    let newer = batch(&["b"], |fields| {
        (fields.base_timestamp, fields.max_timestamp) = (5000, 5000);
        (fields.producer_id, fields.producer_epoch, fields.base_sequence) = (txn.producer_id, txn.epoch, 1);
        fields.transactional = true;
    });
    let request =
        ProduceRequest { transactional_id: Some(Str::from("x")), ..produce("t", Uuid::ZERO, 0, newer) };
    assert_eq!(only(wire.call(12, request).await).error_code, NONE);
    for (isolation, timestamp, expected) in [(0, -3, 2), (1, -3, -1), (0, 2000, 2), (1, 2000, -1)] {
        let answer = wire.call(7, list(isolation, timestamp)).await;
        let offset = answer.topics[0].partitions[0].offset;
        assert_eq!(offset, expected, "isolation {isolation}, time {timestamp}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_transaction_is_ended_by_a_marker_written_by_hand() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    write(&mut wire, &txn, "a", 0).await;
    let code = |answer: WriteTxnMarkersResponse| answer.markers[0].topics[0].partitions[0].error_code;
    let version_2 = |coordinator_epoch| {
        let mut request = txn.mark(false, "t", &[0]);
        request.markers[0].transaction_version = 2;
        request.markers[0].coordinator_epoch = coordinator_epoch;
        request
    };
    let bumped = code(wire.call(2, version_2(0)).await);
    assert_eq!(bumped, ErrorCode::INVALID_PRODUCER_EPOCH, "KIP-890 raises the epoch for the marker");
    assert_eq!(code(wire.call(1, txn.mark(false, "t", &[0])).await), NONE);
    assert_eq!(broker.last_stable_offset("t", 0), Some(2));
    assert_eq!(code(wire.call(2, version_2(0)).await), NONE, "nothing is open that it could harm");
    let mut newer = txn.mark(false, "t", &[0]);
    newer.markers[0].coordinator_epoch = 5;
    assert_eq!(code(wire.call(1, newer).await), NONE);
    let older = code(wire.call(1, txn.mark(false, "t", &[0])).await);
    assert_eq!(older, ErrorCode::TRANSACTION_COORDINATOR_FENCED);
    let unknown = code(wire.call(1, txn.mark(false, "t", &[7])).await);
    assert_eq!(unknown, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_a_partition_has_fenced_begins_no_transaction_there() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    wire.call(1, txn.at(1).mark(false, "t", &[0])).await;
    let late = only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    assert_eq!(late.error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(broker.transaction("x").unwrap().state, "Empty");
}

#[tokio::test(start_paused = true)]
async fn markers_are_written_by_leaders_only() {
    let broker = Broker::builder().nodes(2).topic("t", 1).build().unwrap();
    let node = broker.leader("t", 0).unwrap().node.unwrap();
    let txn = Txn { id: "x", producer_id: 1, epoch: 0 };
    let answer = Wire::connect(&broker, 3 - node).call(1, txn.mark(true, "t", &[0])).await;
    let code = answer.markers[0].topics[0].partitions[0].error_code;
    assert_eq!((code, broker.end_offset("t", 0)), (ErrorCode::NOT_LEADER_OR_FOLLOWER, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn the_producers_of_a_partition_are_described_with_their_open_transactions() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    append(&mut wire, "t", 0, plain(&["p"])).await;
    write(&mut wire, &txn, "a", 0).await;
    let ask = || DescribeProducersRequest {
        topics: vec![DescribeProducersTopic { name: Str::from("t"), partition_indexes: vec![0, 7] }],
    };
    let answer = wire.call(0, ask()).await;
    let [known, unknown] = &answer.topics[0].partitions[..] else { panic!("two were asked for") };
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let producer = &known.active_producers[0];
    assert_eq!((producer.producer_id, producer.producer_epoch), (txn.producer_id, 0));
    assert_eq!((producer.last_sequence, producer.current_txn_start_offset), (0, 1));
    assert_eq!(broker.producers("t", 0)[0].opened_at, Some(1));
    end(&mut wire, &txn, true).await;
    let answer = wire.call(0, ask()).await;
    let producer = &answer.topics[0].partitions[0].active_producers[0];
    assert_eq!((producer.producer_epoch, producer.last_sequence), (1, -1));
    assert_eq!((producer.coordinator_epoch, producer.current_txn_start_offset), (0, -1));
    assert_eq!(broker.producers("t", 0)[0].opened_at, None);
}

#[tokio::test(start_paused = true)]
async fn transactions_stay_open_when_the_leader_changes() {
    let broker = builder().nodes(2).build().unwrap();
    broker.transaction_coordinator("x");
    broker.move_transaction_coordinator("x", 1).unwrap();
    broker.move_leader("t", 0, 1).unwrap();
    let (mut first, mut second) = (Wire::connect(&broker, 1), Wire::connect(&broker, 2));
    let txn = Txn::new(&mut first, "x").await;
    write(&mut first, &txn, "a", 0).await;
    broker.move_leader("t", 0, 2).unwrap();
    let again = only(second.call(12, txn.produce("t", 0, &["a"], 0)).await);
    assert_eq!((again.error_code, again.base_offset), (NONE, 0), "the new leader knows the batch");
    write(&mut second, &txn, "b", 1).await;
    assert_eq!(broker.last_stable_offset("t", 0), Some(0));
    end(&mut first, &txn, true).await;
    let committed = read(&mut second, read_committed("t", 0, 0)).await;
    assert_eq!(contents(&committed.records), ["a", "b", "commit 1"]);
}
