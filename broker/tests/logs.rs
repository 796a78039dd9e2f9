//! What becomes of a log in time: segments, retention, compaction; and what a topic makes of the records that come.
#![allow(clippy::unwrap_used)]

mod wire;

use bytes::{Bytes, BytesMut};
use ottla_broker::{Broker, Work, World};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::records::{BatchBuilder, BatchHeader, Codec, Compression, Compressor, Stamp, stamp};
use ottla_protocol::wire::{Str, Uuid};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wire::*;

/// When every test begins, in milliseconds since 1970.
const BEGINNING: i64 = 1_700_000_000_000;

/// Its wall clock is the virtual one.
struct Virtual(Instant);

impl World for Virtual {
    fn spawn(&self, _: &'static str, task: Work<()>) {
        tokio::spawn(task);
    }

    fn wall_ms(&self) -> i64 {
        BEGINNING + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn random(&self) -> u64 {
        7
    }
}

/// A broker with the topic `t`, which has these settings.
async fn broker(settings: &[(&str, &str)]) -> (Broker, Wire) {
    let broker = Broker::builder().world(Arc::new(Virtual(Instant::now()))).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let configs = settings
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name: Str::from(*name), value: Some(Str::from(*value)) });
    let topic = CreatableTopic {
        name: Str::from("t"),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false };
    let answer = wire.call(7, request).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::NONE, "{:?}", answer.topics[0].error_message);
    (broker, wire)
}

/// A batch of records at these times, with these keys and values.
fn keyed(records: &[(i64, Option<&str>, Option<&str>)], change: impl FnOnce(&mut Stamp)) -> Bytes {
    let mut builder = BatchBuilder::new(BytesMut::new(), records[0].0);
    for (time, key, value) in records {
        builder.append(*time, key.map(str::as_bytes), value.map(str::as_bytes), &[]).unwrap();
    }
    let (mut buffer, mut fields) = builder.into_parts();
    change(&mut fields);
    stamp(&mut buffer, &fields).unwrap();
    buffer.freeze()
}

/// A record that fills a segment of a megabyte, at this time after the beginning.
fn filling(seconds: i64, key: &str) -> Bytes {
    let value = "x".repeat(1_000_000);
    keyed(&[(BEGINNING + seconds * 1000, Some(key), Some(&value))], |_| {})
}

async fn appended(wire: &mut Wire, records: Bytes) -> i64 {
    let answer = append(wire, "t", 0, records).await;
    assert_eq!(answer.error_code, ErrorCode::NONE, "{:?}", answer.error_message);
    answer.base_offset
}

/// Where the log begins, and where a time is found.
async fn listed(wire: &mut Wire, timestamp: i64) -> i64 {
    let partition = ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() };
    let topics = vec![ListOffsetsTopic { name: Str::from("t"), partitions: vec![partition] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
    wire.call(9, request).await.topics[0].partitions[0].offset
}

/// Offset, key and value of what is in the log.
fn log(broker: &Broker) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let records = broker.log("t", 0).unwrap().into_iter();
    records.map(|it| (it.offset, it.key.map(text).unwrap_or_default(), it.value.map(text))).collect()
}

const SEGMENTS: (&str, &str) = ("segment.bytes", "1048576");

#[tokio::test(start_paused = true)]
async fn what_is_older_than_retention_goes_by_segments_and_readers_are_told() {
    let (broker, mut wire) = broker(&[SEGMENTS, ("retention.ms", "3600000")]).await;
    for second in [0, 1, 3000] {
        appended(&mut wire, filling(second, "k")).await;
    }
    sleep(Duration::from_secs(3000)).await;
    assert_eq!(listed(&mut wire, -2).await, 0);
    sleep(Duration::from_secs(1000)).await;
    assert_eq!((listed(&mut wire, -2).await, listed(&mut wire, -4).await), (2, 2));
    assert_eq!(listed(&mut wire, BEGINNING).await, 2, "the first that is left");
    let answer = wire.call(11, fetch("t", 0, 1)).await;
    assert_eq!(fetched(&answer)[0].2, Err(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert_eq!(log(&broker).len(), 1);
    sleep(Duration::from_secs(4000)).await;
    assert_eq!((listed(&mut wire, -2).await, listed(&mut wire, -1).await), (3, 3));
    assert_eq!(appended(&mut wire, filling(8000, "k")).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_log_is_kept_to_its_size() {
    let (_broker, mut wire) = broker(&[SEGMENTS, ("retention.bytes", "2100000")]).await;
    for second in 0..6 {
        appended(&mut wire, filling(second, "k")).await;
    }
    sleep(Duration::from_secs(301)).await;
    assert_eq!(listed(&mut wire, -2).await, 3, "three megabytes are the least that reach the limit");
}

const COMPACTED: (&str, &str) = ("cleanup.policy", "compact");

#[tokio::test(start_paused = true)]
async fn the_last_record_of_a_key_stays_and_a_tombstone_for_a_while() {
    let settings =
        [SEGMENTS, COMPACTED, ("min.cleanable.dirty.ratio", "0"), ("delete.retention.ms", "60000")];
    let (broker, mut wire) = broker(&settings).await;
    let at = BEGINNING;
    let first = [(at, Some("a"), Some("1")), (at, Some("b"), Some("2")), (at, Some("a"), Some("3"))];
    appended(&mut wire, keyed(&first, |_| {})).await;
    appended(&mut wire, keyed(&[(at, Some("b"), None), (at, Some("c"), Some("4"))], |_| {})).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(log(&broker).len(), 5, "the segment that is written to is left alone");
    for key in ["d", "e"] {
        appended(&mut wire, filling(0, key)).await;
    }
    sleep(Duration::from_secs(20)).await;
    let small = |broker: &Broker| -> Vec<(i64, String, Option<String>)> {
        log(broker).into_iter().filter(|it| it.2.as_ref().is_none_or(|value| value.len() < 9)).collect()
    };
    let row = |offset, key: &str, value: Option<&str>| (offset, key.to_string(), value.map(str::to_string));
    let (a, b, c) = (row(2, "a", Some("3")), row(3, "b", None), row(4, "c", Some("4")));
    assert_eq!(small(&broker), [a.clone(), b, c.clone()]);
    assert_eq!((listed(&mut wire, -2).await, listed(&mut wire, -1).await), (0, 7));
    sleep(Duration::from_secs(60)).await;
    appended(&mut wire, filling(0, "f")).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(small(&broker), [a, c]);
    let answer = wire.call(11, fetch("t", 0, 0)).await;
    let values = fetched(&answer).remove(0).2.unwrap();
    assert_eq!(values[..2], ["3", "4"], "a reader meets no gap that it cannot pass");
}

#[tokio::test(start_paused = true)]
async fn nothing_undecided_is_compacted_and_nothing_aborted_comes_back() {
    let settings = [SEGMENTS, COMPACTED, ("min.cleanable.dirty.ratio", "0"), ("delete.retention.ms", "0")];
    let (broker, mut wire) = broker(&settings).await;
    let transactional = |txn: Txn, value: &str, sequence| {
        keyed(&[(BEGINNING, Some("k"), Some(value))], |fields| {
            fields.transactional = true;
            fields.producer_id = txn.producer_id;
            fields.producer_epoch = txn.epoch;
            fields.base_sequence = sequence;
        })
    };
    broker.transaction_coordinator("x").unwrap();
    let txn = Txn::new(&mut wire, "x").await;
    let mut produce = async |records: Bytes| {
        let request =
            ProduceRequest { transactional_id: Some(Str::from("x")), ..produce("t", Uuid::ZERO, 0, records) };
        let answer = only(wire.call(12, request).await);
        assert_eq!(answer.error_code, ErrorCode::NONE);
    };
    produce(transactional(txn, "aborted", 0)).await;
    produce(filling(0, "f")).await;
    produce(filling(0, "g")).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(log(&broker).len(), 3, "the transaction is open");
    let mut other = Wire::connect(&broker, 1);
    assert_eq!(other.call(4, txn.end(false)).await.error_code, ErrorCode::NONE);
    produce(filling(0, "f")).await;
    sleep(Duration::from_secs(20)).await;
    let keys: Vec<String> = log(&broker).into_iter().map(|it| it.1).collect();
    assert_eq!(keys, ["f", "g", "f"], "the aborted record is gone");
    // A second pass takes the marker; then the producer writes again, and commits.
    produce(filling(0, "h")).await;
    produce(transactional(txn, "committed", 1)).await;
    assert_eq!(other.call(4, txn.end(true)).await.error_code, ErrorCode::NONE);
    produce(filling(0, "i")).await;
    produce(filling(0, "j")).await;
    for _ in 0..3 {
        sleep(Duration::from_secs(20)).await;
    }
    let mut offset = 0;
    let mut values = Vec::new();
    loop {
        let answer = other.call(11, read_committed("t", 0, offset)).await;
        let partition = &answer.responses[0].partitions[0];
        let aborted = partition.aborted_transactions.as_deref().unwrap_or_default();
        assert!(aborted.is_empty(), "nobody is told of a transaction that left no marker: {aborted:?}");
        let bytes = partition.records.0.clone().unwrap_or_default();
        let last = ottla_protocol::records::batches(&bytes).last();
        let Some(last) = last else { break };
        values.extend(wire::values(&partition.records));
        offset = last.unwrap().header().last_offset() + 1;
    }
    assert!(values.iter().any(|value| value == "committed"));
    assert!(!values.iter().any(|value| value == "aborted"));
}

#[tokio::test(start_paused = true)]
async fn a_compacted_topic_takes_no_record_without_a_key() {
    let (_broker, mut wire) = broker(&[COMPACTED]).await;
    let records = keyed(&[(BEGINNING, Some("k"), Some("v")), (BEGINNING, None, Some("v"))], |_| {});
    let answer = append(&mut wire, "t", 0, records).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD);
    let blamed: Vec<i32> = answer.record_errors.iter().map(|it| it.batch_index).collect();
    assert_eq!(blamed, [1]);
}

#[tokio::test(start_paused = true)]
async fn times_too_far_from_the_brokers_are_refused_record_by_record() {
    let settings = [("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "2000")];
    let (_broker, mut wire) = broker(&settings).await;
    let at = |times: [i64; 3]| {
        let records: Vec<_> = times.iter().map(|it| (BEGINNING + it, None, Some("v"))).collect();
        keyed(&records, |_| {})
    };
    appended(&mut wire, at([0, -1000, 2000])).await;
    for (times, expected) in [([0, -1001, 0], [1]), ([0, 0, 2001], [2])] {
        let answer = append(&mut wire, "t", 0, at(times)).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP);
        let blamed: Vec<i32> = answer.record_errors.iter().map(|it| it.batch_index).collect();
        assert_eq!(blamed, expected);
    }
    let (_broker, mut wire) = self::broker(&[]).await;
    appended(&mut wire, at([0, -1_000_000_000, 3_600_000])).await;
    let answer = append(&mut wire, "t", 0, at([0, 0, 3_600_001])).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP, "an hour ahead is the most, by default");
}

#[tokio::test(start_paused = true)]
async fn a_topic_stores_by_its_own_codec() {
    for (given, sent, stored) in [
        ("producer", Compression::Lz4, Compression::Lz4),
        ("gzip", Compression::Lz4, Compression::Gzip),
        ("uncompressed", Compression::Snappy, Compression::None),
        ("lz4", Compression::None, Compression::Lz4),
    ] {
        let (broker, mut wire) = broker(&[("compression.type", given)]).await;
        let mut builder = BatchBuilder::new(BytesMut::new(), BEGINNING);
        for value in ["a", "b", "c"] {
            builder.append(BEGINNING, Some(b"k"), Some(value.as_bytes()), &[]).unwrap();
        }
        let codec = Codec::new(sent, None).unwrap();
        let mut bytes = Compressor::new().compress(codec, builder.body()).unwrap();
        let (_, fields) = builder.into_parts();
        stamp(&mut bytes, &Stamp { compression: sent, ..fields }).unwrap();
        assert_eq!(appended(&mut wire, bytes.freeze()).await, 0);
        let answer = wire.call(11, fetch("t", 0, 0)).await;
        let records = answer.responses[0].partitions[0].records.clone();
        assert_eq!(values(&records), ["a", "b", "c"]);
        let header = BatchHeader::parse(records.as_ref().unwrap()).unwrap();
        assert_eq!(header.compression, stored, "{given}");
        assert_eq!(log(&broker).len(), 3);
    }
}
