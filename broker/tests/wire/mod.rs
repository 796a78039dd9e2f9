//! A client that is nothing but frames: it writes requests of any version and reads the answers.
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses a part of it")]

use bytes::{Bytes, BytesMut};
use ottla_broker::Broker;
use ottla_protocol::api::Request;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame::{self, Frame};
use ottla_protocol::messages::*;
use ottla_protocol::records::{BatchBuilder, Stamp, batches, stamp};
use ottla_protocol::wire::{RecordSet, Str, Uuid};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

/// Longer than anything in a test should take, in virtual time.
const PATIENCE: Duration = Duration::from_secs(3600);

pub struct Wire {
    pub stream: DuplexStream,
    inbox: BytesMut,
    correlation: i32,
    client_id: &'static str,
}

impl Wire {
    /// Connects to a node. The broker's side runs as a task of the test's runtime.
    pub fn connect(broker: &Broker, node: i32) -> Self {
        let (stream, server) = tokio::io::duplex(256 * 1024);
        let broker = broker.clone();
        tokio::spawn(async move { broker.serve(node, "127.0.0.1", server).await });
        Self::over(stream)
    }

    pub fn over(stream: DuplexStream) -> Self {
        Self { stream, inbox: BytesMut::new(), correlation: 0, client_id: "test" }
    }

    pub fn named(mut self, client_id: &'static str) -> Self {
        self.client_id = client_id;
        self
    }

    pub async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation += 1;
        let mut frame = Frame::default();
        frame::encode_request(request, version, self.correlation, Some(self.client_id), &mut frame).unwrap();
        self.stream.write_all(&frame.to_bytes()).await.unwrap();
    }

    /// The next frame, or `None` when the broker has closed the connection.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = frame::next_frame(&mut self.inbox, 1 << 30).unwrap() {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.inbox)).await;
            if read.expect("the broker never answered").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut body = self.frame().await.expect("the broker closed the connection");
        let flexible = version >= R::FLEXIBLE;
        let correlation = frame::decode_response_header(&mut body, R::KEY, flexible).unwrap();
        assert_eq!(correlation, self.correlation, "answers come in the order of the requests");
        frame::decode(body, version, flexible).unwrap()
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        self.send(version, &request).await;
        self.receive::<R>(version).await
    }

    pub async fn is_closed(&mut self) -> bool {
        self.frame().await.is_none()
    }
}

/// A batch of records with these values, stamped by `change`.
pub fn batch(values: &[&str], change: impl FnOnce(&mut Stamp)) -> Bytes {
    let mut builder = BatchBuilder::new(BytesMut::new(), 1000);
    for (timestamp, value) in (1000..).zip(values) {
        builder.append(timestamp, None, Some(value.as_bytes()), &[]).unwrap();
    }
    let (mut buffer, mut fields) = builder.into_parts();
    change(&mut fields);
    stamp(&mut buffer, &fields).unwrap();
    buffer.freeze()
}

pub fn plain(values: &[&str]) -> Bytes {
    batch(values, |_| {})
}

/// As an idempotent producer numbers it.
pub fn numbered(values: &[&str], producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Bytes {
    batch(values, |fields| {
        fields.producer_id = producer_id;
        fields.producer_epoch = producer_epoch;
        fields.base_sequence = base_sequence;
    })
}

pub fn produce(topic: &str, topic_id: Uuid, index: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![ProduceTopic {
            name: Str::from(topic),
            topic_id,
            partition_data: vec![ProducePartition { index, records: RecordSet(Some(records)) }],
        }],
        ..ProduceRequest::default()
    }
}

pub async fn append(wire: &mut Wire, topic: &str, index: i32, records: Bytes) -> ProducedPartition {
    only(wire.call(9, produce(topic, Uuid::ZERO, index, records)).await)
}

pub fn only(response: ProduceResponse) -> ProducedPartition {
    response.responses.into_iter().next().unwrap().partition_responses.into_iter().next().unwrap()
}

pub fn fetch(topic: &str, partition: i32, fetch_offset: i64) -> FetchRequest {
    FetchRequest {
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: Str::from(topic),
            topic_id: Uuid::ZERO,
            partitions: vec![FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
        }],
        ..FetchRequest::default()
    }
}

/// The values of the records in a record set.
pub fn values(records: &RecordSet) -> Vec<String> {
    let mut values = Vec::new();
    let bytes = records.0.clone().unwrap_or_default();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        batch.check_checksum().unwrap();
        let mut open = batch.open(&mut ottla_protocol::records::Decompressor::new(), 1 << 20).unwrap();
        while let Some(record) = open.next().unwrap() {
            values.push(String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap());
        }
    }
    values
}

/// Topic, partition and values of what was fetched, and the error of what failed.
pub fn fetched(response: &FetchResponse) -> Vec<(String, i32, Result<Vec<String>, ErrorCode>)> {
    assert_eq!(response.error_code, ErrorCode::NONE);
    let mut all = Vec::new();
    for topic in &response.responses {
        for partition in &topic.partitions {
            let values = match partition.error_code {
                ErrorCode::NONE => Ok(values(&partition.records)),
                code => Err(code),
            };
            all.push((topic.topic.to_string(), partition.partition_index, values));
        }
    }
    all
}

/// A transactional producer that says what it is told to, right or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Txn {
    pub id: &'static str,
    pub producer_id: i64,
    pub epoch: i16,
}

impl Txn {
    /// Initializes a transactional id, for as long as it takes.
    pub async fn new(wire: &mut Wire, id: &'static str) -> Self {
        let txn = Self { id, producer_id: -1, epoch: -1 };
        loop {
            let answer = wire.call(5, txn.init()).await;
            if answer.error_code != ErrorCode::CONCURRENT_TRANSACTIONS {
                assert_eq!(answer.error_code, ErrorCode::NONE);
                return Self { id, producer_id: answer.producer_id, epoch: answer.producer_epoch };
            }
        }
    }

    pub fn at(self, epoch: i16) -> Self {
        Self { epoch, ..self }
    }

    /// Names the id and epoch that it has, if it has one.
    pub fn init(&self) -> InitProducerIdRequest {
        InitProducerIdRequest {
            transactional_id: Some(Str::from(self.id)),
            transaction_timeout_ms: 60_000,
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            ..InitProducerIdRequest::default()
        }
    }

    pub fn add(&self, topic: &str, partitions: &[i32]) -> AddPartitionsToTxnRequest {
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: Str::from(self.id),
            v3_and_below_producer_id: self.producer_id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: Str::from(topic),
                partitions: partitions.to_vec(),
            }],
            ..AddPartitionsToTxnRequest::default()
        }
    }

    /// As a broker asks a coordinator.
    pub fn add_verified(&self, topic: &str, partitions: &[i32]) -> AddPartitionsToTxnRequest {
        let topics =
            vec![AddPartitionsToTxnTopic { name: Str::from(topic), partitions: partitions.to_vec() }];
        AddPartitionsToTxnRequest {
            transactions: vec![AddPartitionsToTxnTransaction {
                transactional_id: Str::from(self.id),
                producer_id: self.producer_id,
                producer_epoch: self.epoch,
                verify_only: true,
                topics,
            }],
            ..AddPartitionsToTxnRequest::default()
        }
    }

    pub fn add_offsets(&self, group: &str) -> AddOffsetsToTxnRequest {
        AddOffsetsToTxnRequest {
            transactional_id: Str::from(self.id),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            group_id: Str::from(group),
        }
    }

    pub fn batch(&self, values: &[&str], base_sequence: i32) -> Bytes {
        batch(values, |fields| {
            fields.transactional = true;
            fields.producer_id = self.producer_id;
            fields.producer_epoch = self.epoch;
            fields.base_sequence = base_sequence;
        })
    }

    pub fn produce(&self, topic: &str, index: i32, values: &[&str], base_sequence: i32) -> ProduceRequest {
        let request = produce(topic, Uuid::ZERO, index, self.batch(values, base_sequence));
        ProduceRequest { transactional_id: Some(Str::from(self.id)), ..request }
    }

    pub fn commit_offset(&self, group: &str, topic: &str, index: i32, offset: i64) -> TxnOffsetCommitRequest {
        TxnOffsetCommitRequest {
            transactional_id: Str::from(self.id),
            group_id: Str::from(group),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitTopic {
                name: Str::from(topic),
                topic_id: Uuid::ZERO,
                partitions: vec![TxnOffsetCommitPartition {
                    partition_index: index,
                    committed_offset: offset,
                    ..TxnOffsetCommitPartition::default()
                }],
            }],
            ..TxnOffsetCommitRequest::default()
        }
    }

    pub fn end(&self, committed: bool) -> EndTxnRequest {
        EndTxnRequest {
            transactional_id: Str::from(self.id),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed,
        }
    }

    /// Ends the transaction in some partitions, past its coordinator.
    pub fn mark(&self, committed: bool, topic: &str, partitions: &[i32]) -> WriteTxnMarkersRequest {
        let topics =
            vec![WritableTxnMarkerTopic { name: Str::from(topic), partition_indexes: partitions.to_vec() }];
        WriteTxnMarkersRequest {
            markers: vec![WritableTxnMarker {
                producer_id: self.producer_id,
                producer_epoch: self.epoch,
                transaction_result: committed,
                topics,
                ..WritableTxnMarker::default()
            }],
        }
    }
}

/// The outcome of the only partition that was added.
pub fn added(response: AddPartitionsToTxnResponse) -> ErrorCode {
    let all = response.results_by_topic_v3_and_below.into_iter();
    let all = all.chain(response.results_by_transaction.into_iter().flat_map(|it| it.topic_results));
    let mut codes = all.flat_map(|topic| topic.results_by_partition);
    ErrorCode(codes.next().unwrap().partition_error_code)
}

/// The outcome of the only offset that was committed.
pub fn offset_committed(response: TxnOffsetCommitResponse) -> ErrorCode {
    response.topics[0].partitions[0].error_code
}

pub fn read_committed(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    FetchRequest { isolation_level: 1, ..fetch(topic, partition, offset) }
}
