//! Bytes that are no requests, or lie: the connection may end, the node never does.
#![allow(clippy::unwrap_used)]

mod wire;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_broker::Broker;
use ottla_protocol::api::{ApiKey, Request};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame::{self, Frame};
use ottla_protocol::messages::*;
use ottla_protocol::wire::{Str, Uuid};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::*;

fn broker() -> Broker {
    let broker = Broker::builder().topic("t", 2).build().unwrap();
    broker.coordinator("g");
    broker
}

/// A connection of its own for raw bytes, and the task that serves it.
async fn send_raw(broker: &Broker, bytes: &[u8]) -> (tokio::io::DuplexStream, JoinHandle<()>) {
    let (mut stream, server) = tokio::io::duplex(1 << 20);
    let serving = broker.clone();
    let task = tokio::spawn(async move { serving.serve(1, "127.0.0.1", server).await });
    // The broker may close before it has read all.
    let _ = stream.write_all(bytes).await;
    (stream, task)
}

async fn check_serves(broker: &Broker) {
    let answer = append(&mut Wire::connect(broker, 1), "t", 0, plain(&["a"])).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

async fn check_closes(bytes: &[u8]) {
    let broker = broker();
    let (mut stream, task) = send_raw(&broker, bytes).await;
    let mut answer = Vec::new();
    let closed = timeout(Duration::from_secs(1), stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "{bytes:?} leaves the connection open");
    assert_eq!(answer, [0; 0], "{bytes:?} is answered");
    task.await.expect("no panic");
    check_serves(&broker).await;
}

#[tokio::test(start_paused = true)]
async fn lengths_that_no_frame_has_close_the_connection() {
    for length in [0, -1, i32::MIN, 100 * 1024 * 1024 + 1, i32::MAX] {
        check_closes(&length.to_be_bytes()).await;
    }
    check_closes(b"GET / HTTP/1.1\r\n\r\n").await;
    check_closes(&[0x16, 0x03, 0x01, 0x02, 0x00]).await;
}

#[tokio::test(start_paused = true)]
async fn headers_and_apis_that_do_not_exist_close_the_connection() {
    check_closes(&[0, 0, 0, 1, 7]).await;
    check_closes(&[0, 0, 0, 10, 0, 3, 0, 9, 0, 0, 0, 1, 0, 9]).await;
    // A client id that is not UTF-8.
    check_closes(&[0, 0, 0, 12, 0, 3, 0, 9, 0, 0, 0, 1, 0, 2, 0xff, 0xfe]).await;
    for (key, version) in [(900i16, 0i16), (-1, 0), (3, 99), (3, -1), (4, 1)] {
        let mut bytes = BytesMut::new();
        bytes.put_i32(10);
        bytes.put_i16(key);
        bytes.put_i16(version);
        bytes.put_i32(1);
        bytes.put_i16(-1);
        check_closes(&bytes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn arrays_that_claim_more_than_the_frame_holds_close_the_connection() {
    // Metadata version 1 with 2^31 - 1 topics.
    check_closes(&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]).await;
    // Metadata version 9 with 2^28 tags in its header.
    check_closes(&[0, 0, 0, 15, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).await;
}

#[tokio::test(start_paused = true)]
async fn half_a_frame_and_silence_hold_one_connection_and_nothing_else() {
    let broker = broker();
    let mut claims = BytesMut::new();
    claims.put_i32(100 * 1024 * 1024);
    claims.put_bytes(0, 100);
    let (mut stream, task) = send_raw(&broker, &claims).await;
    assert!(timeout(Duration::from_secs(3600), stream.read_u8()).await.is_err(), "it waits for the rest");
    check_serves(&broker).await;
    drop(stream);
    task.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_byte_by_byte_or_all_at_once_are_answered_alike() {
    let broker = broker();
    let mut frames = Frame::default();
    for correlation in 0..20 {
        frame::encode_request(&ApiVersionsRequest::default(), 0, correlation, None, &mut frames).unwrap();
    }
    let bytes = frames.to_bytes();
    let mut answers = Vec::new();
    for step in [1, 7, bytes.len()] {
        let (mut stream, task) = send_raw(&broker, &[]).await;
        for part in bytes.chunks(step) {
            stream.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        task.await.expect("no panic");
        answers.push(answer);
    }
    assert!(answers[0].len() > 20 * 100);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test(start_paused = true)]
async fn an_api_versions_that_is_too_new_is_answered_in_version_zero() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    let mut bytes = BytesMut::new();
    bytes.put_i32(13);
    bytes.put_i16(ApiKey::API_VERSIONS.0);
    bytes.put_i16(77);
    bytes.put_i32(5);
    bytes.put_i16(-1);
    bytes.put_bytes(0, 3);
    wire.stream.write_all(&bytes).await.unwrap();
    let mut body = wire.frame().await.unwrap();
    let correlation = frame::decode_response_header(&mut body, ApiKey::API_VERSIONS, false).unwrap();
    let answer: ApiVersionsResponse = frame::decode(body, 0, false).unwrap();
    assert_eq!((correlation, answer.error_code), (5, ErrorCode::UNSUPPORTED_VERSION));
    let own = answer.api_keys.iter().find(|api| api.api_key == ApiKey::API_VERSIONS).unwrap();
    assert_eq!((own.min_version, own.max_version), (0, 5));
    check_serves(&broker).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_not_served_is_refused_by_its_code() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    let quorum = DescribeQuorumRequest::default();
    assert_eq!(wire.call(0, quorum).await.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let heartbeat = ShareGroupHeartbeatRequest::default();
    assert_eq!(wire.call(1, heartbeat).await.error_code, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(append(&mut wire, "t", 0, plain(&["a"])).await.error_code, ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn software_names_and_other_clusters_are_noticed_by_api_versions() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    let named = |name: &str| ApiVersionsRequest {
        client_software_name: Str::from(name),
        client_software_version: Str::from("1.0"),
        ..ApiVersionsRequest::default()
    };
    for (request, expected) in [
        (named("ottla"), ErrorCode::NONE),
        (named("-"), ErrorCode::INVALID_REQUEST),
        (named(""), ErrorCode::INVALID_REQUEST),
        (ApiVersionsRequest { node_id: 1, ..named("a") }, ErrorCode::NONE),
        (ApiVersionsRequest { node_id: 2, ..named("a") }, ErrorCode::REBOOTSTRAP_REQUIRED),
        (
            ApiVersionsRequest { cluster_id: Some(Str::from("x")), ..named("a") },
            ErrorCode::REBOOTSTRAP_REQUIRED,
        ),
    ] {
        assert_eq!(wire.call(5, request).await.error_code, expected);
    }
}

/// One request of each API that is served, with something in it.
fn samples() -> Vec<Bytes> {
    let mut samples = Vec::new();
    fn add<R: Request>(samples: &mut Vec<Bytes>, request: R) {
        for version in R::VERSIONS {
            let mut frame = Frame::default();
            // Some fields are not in every version; then there is no such sample.
            if frame::encode_request(&request, version, 1, Some("mutant"), &mut frame).is_ok() {
                samples.push(frame.to_bytes());
            }
        }
    }
    let topic = || Str::from("t");
    let group = || Str::from("g");
    add(&mut samples, produce("t", Uuid::ZERO, 0, numbered(&["a", "b"], 1, 0, 0)));
    add(&mut samples, FetchRequest { session_epoch: 0, ..fetch("t", 0, 0) });
    add(
        &mut samples,
        JoinGroupRequest {
            group_id: group(),
            session_timeout_ms: 10_000,
            protocol_type: Str::from("consumer"),
            protocols: vec![JoinGroupProtocol {
                name: Str::from("range"),
                metadata: Bytes::from_static(b"m"),
            }],
            ..JoinGroupRequest::default()
        },
    );
    add(
        &mut samples,
        SyncGroupRequest {
            group_id: group(),
            assignments: vec![SyncGroupAssignment::default()],
            ..SyncGroupRequest::default()
        },
    );
    add(&mut samples, HeartbeatRequest { group_id: group(), ..HeartbeatRequest::default() });
    add(
        &mut samples,
        LeaveGroupRequest {
            group_id: group(),
            members: vec![LeavingMember::default()],
            ..Default::default()
        },
    );
    let partition = OffsetCommitPartition::default();
    let commit = OffsetCommitTopic { name: topic(), partitions: vec![partition], ..Default::default() };
    add(&mut samples, OffsetCommitRequest { group_id: group(), topics: vec![commit], ..Default::default() });
    add(
        &mut samples,
        OffsetFetchRequest {
            group_id: group(),
            groups: vec![OffsetFetchGroup { group_id: group(), topics: None, ..Default::default() }],
            ..OffsetFetchRequest::default()
        },
    );
    let list = ListOffsetsTopic { name: topic(), partitions: vec![ListOffsetsPartition::default()] };
    add(&mut samples, ListOffsetsRequest { topics: vec![list], ..ListOffsetsRequest::default() });
    let epoch =
        OffsetForLeaderTopic { topic: topic(), partitions: vec![OffsetForLeaderPartition::default()] };
    add(&mut samples, OffsetForLeaderEpochRequest { topics: vec![epoch], ..Default::default() });
    let metadata = MetadataTopic { name: Some(topic()), ..MetadataTopic::default() };
    add(&mut samples, MetadataRequest { topics: Some(vec![metadata]), ..MetadataRequest::default() });
    add(
        &mut samples,
        FindCoordinatorRequest { key: group(), coordinator_keys: vec![group()], ..Default::default() },
    );
    let create = CreatableTopic {
        name: Str::from("n"),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    add(&mut samples, CreateTopicsRequest { topics: vec![create], ..CreateTopicsRequest::default() });
    add(
        &mut samples,
        DeleteTopicsRequest { topic_names: vec![Str::from("n")], ..DeleteTopicsRequest::default() },
    );
    add(&mut samples, InitProducerIdRequest::default());
    let txn = Txn { id: "x", producer_id: 1, epoch: 0 };
    add(&mut samples, txn.init());
    add(&mut samples, txn.add("t", &[0]));
    add(&mut samples, txn.add_verified("t", &[0]));
    add(&mut samples, txn.add_offsets("g"));
    add(&mut samples, txn.commit_offset("g", "t", 0, 1));
    add(&mut samples, txn.end(true));
    add(&mut samples, txn.mark(true, "t", &[0]));
    let ask = DescribeProducersTopic { name: topic(), partition_indexes: vec![0] };
    add(&mut samples, DescribeProducersRequest { topics: vec![ask] });
    add(&mut samples, DescribeTransactionsRequest { transactional_ids: vec![Str::from("x")] });
    let pattern = Some(Str::from("a.*b"));
    add(&mut samples, ListTransactionsRequest { transactional_id_pattern: pattern, ..Default::default() });
    add(&mut samples, ApiVersionsRequest::default());
    add(&mut samples, DescribeClusterRequest::default());
    add(&mut samples, DescribeGroupsRequest { groups: vec![group()], ..DescribeGroupsRequest::default() });
    add(&mut samples, ListGroupsRequest::default());
    add(&mut samples, DeleteGroupsRequest { groups_names: vec![group()] });
    add(&mut samples, OffsetDeleteRequest { group_id: group(), ..OffsetDeleteRequest::default() });
    samples
}

/// SplitMix64, so that a failing mutant can be made again.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    usize::try_from(mixed >> 40).unwrap()
}

#[tokio::test(start_paused = true)]
async fn mutants_of_every_request_end_their_connection_at_worst() {
    let broker = broker();
    let mut state = 1;
    let mut tried = 0;
    for sample in samples() {
        for round in 0..40 {
            let mut mutant = BytesMut::from(&sample[..]);
            if round % 4 == 0 {
                mutant.truncate(5 + random(&mut state) % (mutant.len() - 4));
            }
            for _ in 0..random(&mut state) % 4 + usize::from(round % 4 != 0) {
                let at = 4 + random(&mut state) % (mutant.len() - 4);
                mutant[at] = [0, 1, 0x7f, 0x80, 0xff, 0x40][random(&mut state) % 6];
            }
            let length = i32::try_from(mutant.len() - 4).unwrap();
            mutant[..4].copy_from_slice(&length.to_be_bytes());
            let (mut stream, task) = send_raw(&broker, &mutant).await;
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let ended = timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
            ended.unwrap_or_else(|_| panic!("a connection does not end: {mutant:?}")).unwrap();
            task.await.unwrap_or_else(|panicked| panic!("{panicked}: {mutant:?}"));
            tried += 1;
        }
    }
    assert!(tried > 5000, "{tried} mutants");
    // A mutant may have deleted the topic, so a fresh one shows that the node still works.
    let mut wire = Wire::connect(&broker, 1);
    let create = CreatableTopic {
        name: Str::from("fresh"),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    wire.call(7, CreateTopicsRequest { topics: vec![create], ..Default::default() }).await;
    assert_eq!(append(&mut wire, "fresh", 0, plain(&["a"])).await.error_code, ErrorCode::NONE);
    assert_eq!(broker.connections(), 1);
}
