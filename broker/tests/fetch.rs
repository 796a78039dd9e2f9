//! What Fetch returns, how long it waits, and what a session remembers.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::{Str, Uuid};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wire::*;

async fn broker(topic: &str, values: &[&str]) -> Broker {
    let broker = Broker::builder().nodes(2).topic(topic, 2).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    for value in values {
        append(&mut wire, topic, 0, plain(&[value])).await;
    }
    broker
}

fn got(topic: &str, partition: i32, values: &[&str]) -> (String, i32, Result<Vec<String>, ErrorCode>) {
    (topic.to_string(), partition, Ok(values.iter().map(ToString::to_string).collect()))
}

fn failed(topic: &str, partition: i32, code: ErrorCode) -> (String, i32, Result<Vec<String>, ErrorCode>) {
    (topic.to_string(), partition, Err(code))
}

#[tokio::test(start_paused = true)]
async fn every_version_reads_from_the_offset_asked_for() {
    let broker = broker("t", &["a", "b", "c"]).await;
    let mut wire = Wire::connect(&broker, 1);
    for version in 4..=17 {
        let mut request = fetch("t", 0, 1);
        let by_id = version >= 13;
        request.topics[0].topic_id = if by_id { broker.topic_id("t").unwrap() } else { Uuid::ZERO };
        let answer = wire.call(version, request).await;
        assert_eq!(fetched(&answer), [got(if by_id { "" } else { "t" }, 0, &["b", "c"])], "v{version}");
        let partition = &answer.responses[0].partitions[0];
        assert_eq!((partition.high_watermark, partition.last_stable_offset), (3, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn limits_cut_between_batches_and_never_before_the_first() {
    let broker = broker("t", &["aaaa", "bbbb", "cccc"]).await;
    append(&mut Wire::connect(&broker, 1), "t", 0, plain(&["d"])).await;
    let size = i32::try_from(plain(&["aaaa"]).len()).unwrap();
    let mut wire = Wire::connect(&broker, 1);
    for (partition_max, max, expected) in [
        (1, 1 << 20, &["aaaa"][..]),
        (1 << 20, 1, &["aaaa"]),
        (2 * size, 1 << 20, &["aaaa", "bbbb"]),
        (2 * size + 1, 1 << 20, &["aaaa", "bbbb"]),
        (1 << 20, 3 * size - 1, &["aaaa", "bbbb"]),
        (0, 0, &["aaaa"]),
    ] {
        let mut request = FetchRequest { max_bytes: max, ..fetch("t", 0, 0) };
        request.topics[0].partitions[0].partition_max_bytes = partition_max;
        assert_eq!(fetched(&wire.call(11, request).await), [got("t", 0, expected)], "{partition_max} {max}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_fetch_is_shared_by_its_partitions() {
    let broker = Broker::builder().topic("t", 2).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    append(&mut wire, "t", 0, plain(&["a"])).await;
    append(&mut wire, "t", 1, plain(&["b"])).await;
    let mut request = FetchRequest { max_bytes: 10, ..fetch("t", 0, 0) };
    let second = FetchPartition { partition: 1, ..request.topics[0].partitions[0].clone() };
    request.topics[0].partitions.push(second);
    // An oversized batch is returned once, for the first partition that has anything.
    assert_eq!(fetched(&wire.call(11, request).await), [got("t", 0, &["a"]), got("t", 1, &[])]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_with_nothing_to_read_waits_as_long_as_it_may() {
    let broker = broker("t", &["a"]).await;
    let mut wire = Wire::connect(&broker, 1);
    let started = Instant::now();
    let answer = wire.call(11, FetchRequest { max_wait_ms: 500, ..fetch("t", 0, 1) }).await;
    assert_eq!(fetched(&answer), [got("t", 0, &[])]);
    let waited = started.elapsed();
    assert!((500..510).contains(&waited.as_millis()), "{waited:?} of virtual time");
}

#[tokio::test(start_paused = true)]
async fn an_append_ends_the_wait_once_there_are_enough_bytes() {
    let broker = broker("t", &[]).await;
    let size = i32::try_from(plain(&["aaaa"]).len()).unwrap();
    let mut waiting = Wire::connect(&broker, 1);
    let request = FetchRequest { max_wait_ms: 60_000, min_bytes: 2 * size, ..fetch("t", 0, 0) };
    let started = Instant::now();
    waiting.send(11, &request).await;
    let mut producer = Wire::connect(&broker, 1);
    sleep(Duration::from_secs(1)).await;
    append(&mut producer, "t", 0, plain(&["aaaa"])).await;
    sleep(Duration::from_secs(1)).await;
    append(&mut producer, "t", 0, plain(&["bbbb"])).await;
    let answer = waiting.receive::<FetchRequest>(11).await;
    assert_eq!(fetched(&answer), [got("t", 0, &["aaaa", "bbbb"])]);
    assert_eq!(started.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_comes_again_does_not_end_the_wait() {
    let broker = broker("t", &[]).await;
    let mut producer = Wire::connect(&broker, 1);
    append(&mut producer, "t", 0, numbered(&["a"], 7, 0, 0)).await;
    let mut waiting = Wire::connect(&broker, 1);
    let started = Instant::now();
    waiting.send(11, &FetchRequest { max_wait_ms: 5000, ..fetch("t", 0, 1) }).await;
    sleep(Duration::from_secs(1)).await;
    append(&mut producer, "t", 0, numbered(&["a"], 7, 0, 0)).await;
    assert_eq!(fetched(&waiting.receive::<FetchRequest>(11).await), [got("t", 0, &[])]);
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_leaves_no_fetch_behind() {
    let broker = broker("t", &[]).await;
    let mut waiting = Wire::connect(&broker, 1);
    waiting.send(11, &FetchRequest { max_wait_ms: 60_000, ..fetch("t", 0, 0) }).await;
    sleep(Duration::from_secs(1)).await;
    let before = broker.connections();
    drop(waiting);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(broker.connections(), before - 1);
}

#[tokio::test(start_paused = true)]
async fn offsets_outside_of_the_log_are_refused() {
    let broker = broker("t", &["a"]).await;
    let mut wire = Wire::connect(&broker, 1);
    for offset in [-1, 2, i64::MAX, i64::MIN] {
        let answer = wire.call(11, fetch("t", 0, offset)).await;
        assert_eq!(fetched(&answer), [failed("t", 0, ErrorCode::OFFSET_OUT_OF_RANGE)], "offset {offset}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_moves_ends_the_wait_and_is_named() {
    let broker = broker("t", &["a"]).await;
    let mut wire = Wire::connect(&broker, 1);
    let mut request = FetchRequest { max_wait_ms: 60_000, ..fetch("t", 0, 1) };
    request.topics[0].topic_id = broker.topic_id("t").unwrap();
    wire.send(16, &request).await;
    sleep(Duration::from_secs(1)).await;
    broker.move_leader("t", 0, 2).unwrap();
    let moved = Instant::now();
    let answer = wire.receive::<FetchRequest>(16).await;
    assert!(moved.elapsed() < Duration::from_secs(1), "of virtual time");
    assert_eq!(fetched(&answer), [failed("", 0, ErrorCode::NOT_LEADER_OR_FOLLOWER)]);
    let leader = &answer.responses[0].partitions[0].current_leader;
    assert_eq!((leader.leader_id, leader.leader_epoch), (2, 1));
    assert_eq!((answer.node_endpoints[0].node_id, answer.node_endpoints[0].port), (2, 9092));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_ends_the_wait() {
    let broker = broker("t", &[]).await;
    let mut wire = Wire::connect(&broker, 1);
    wire.send(11, &FetchRequest { max_wait_ms: 60_000, ..fetch("t", 0, 0) }).await;
    let delete = DeleteTopicsRequest { topic_names: vec![Str::from("t")], ..DeleteTopicsRequest::default() };
    sleep(Duration::from_secs(1)).await;
    Wire::connect(&broker, 1).call(5, delete).await;
    let deleted = Instant::now();
    let answer = wire.receive::<FetchRequest>(11).await;
    assert!(deleted.elapsed() < Duration::from_secs(1), "of virtual time");
    assert_eq!(fetched(&answer), [failed("t", 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
}

#[tokio::test(start_paused = true)]
async fn leader_epochs_fence_clients_that_are_behind_or_ahead() {
    let broker = broker("t", &["a"]).await;
    broker.move_leader("t", 0, 2).unwrap();
    broker.move_leader("t", 0, 1).unwrap();
    let mut wire = Wire::connect(&broker, 1);
    for (epoch, expected) in [
        (-1, got("t", 0, &["a"])),
        (2, got("t", 0, &["a"])),
        (1, failed("t", 0, ErrorCode::FENCED_LEADER_EPOCH)),
        (3, failed("t", 0, ErrorCode::UNKNOWN_LEADER_EPOCH)),
    ] {
        let mut request = fetch("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(fetched(&wire.call(11, request).await), [expected], "epoch {epoch}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_read_what_is_not_in_the_log_is_told_where_it_diverges() {
    let broker = broker("t", &["a", "b"]).await;
    broker.move_leader("t", 0, 2).unwrap();
    append(&mut Wire::connect(&broker, 2), "t", 0, plain(&["c"])).await;
    let mut wire = Wire::connect(&broker, 2);
    let mut request = fetch("t", 0, 3);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let answer = wire.call(12, request).await;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.diverging_epoch, DivergingEpoch { epoch: 0, end_offset: 2 });
    assert!(partition.records.as_ref().is_none_or(|records| records.is_empty()));
    let mut request = fetch("t", 0, 2);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    assert_eq!(fetched(&wire.call(12, request).await), [got("t", 0, &["c"])]);
}

/// A session over both partitions of `t`, at the ends of their logs.
async fn session(wire: &mut Wire) -> i32 {
    let mut request = FetchRequest { session_epoch: 0, ..fetch("t", 0, 0) };
    let second = FetchPartition { partition: 1, ..request.topics[0].partitions[0].clone() };
    request.topics[0].partitions.push(second);
    let answer = wire.call(11, request).await;
    assert_eq!(fetched(&answer).len(), 2, "the first answer tells all");
    assert!(answer.session_id > 0);
    answer.session_id
}

fn next(session_id: i32, session_epoch: i32) -> FetchRequest {
    FetchRequest { session_id, session_epoch, max_bytes: 1 << 20, ..FetchRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn a_session_tells_only_what_changed() {
    let broker = Broker::builder().topic("t", 2).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let id = session(&mut wire).await;
    assert_eq!(fetched(&wire.call(11, next(id, 1)).await), []);
    append(&mut wire, "t", 1, plain(&["a"])).await;
    assert_eq!(fetched(&wire.call(11, next(id, 2)).await), [got("t", 1, &["a"])]);
    // The position has not been moved, so the records come again.
    assert_eq!(fetched(&wire.call(11, next(id, 3)).await), [got("t", 1, &["a"])]);
    let moved = FetchRequest { topics: fetch("t", 1, 1).topics, ..next(id, 4) };
    assert_eq!(fetched(&wire.call(11, moved).await), []);
}

#[tokio::test(start_paused = true)]
async fn a_session_forgets_what_it_is_told_to() {
    let broker = Broker::builder().topic("t", 2).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let id = session(&mut wire).await;
    append(&mut wire, "t", 0, plain(&["a"])).await;
    let forget = |partitions| ForgottenTopic { topic: Str::from("t"), topic_id: Uuid::ZERO, partitions };
    let request = FetchRequest { forgotten_topics_data: vec![forget(vec![0])], ..next(id, 1) };
    assert_eq!(fetched(&wire.call(11, request).await), []);
    let request = FetchRequest { forgotten_topics_data: vec![forget(vec![1])], ..next(id, 2) };
    assert_eq!(wire.call(11, request).await.session_id, 0, "a session without partitions ends");
    assert_eq!(wire.call(11, next(id, 3)).await.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_held_to_its_epoch_and_its_way_of_naming_topics() {
    let broker = Broker::builder().topic("t", 2).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let id = session(&mut wire).await;
    assert_eq!(wire.call(11, next(id, 2)).await.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    assert_eq!(wire.call(13, next(id, 1)).await.error_code, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
    assert_eq!(wire.call(11, next(id + 1, 1)).await.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(wire.call(11, next(id, 1)).await.error_code, ErrorCode::NONE);
    assert_eq!(wire.call(11, next(id, 1)).await.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_failed_to_read_tells_the_partition_again_when_it_can() {
    let broker = Broker::builder().nodes(2).topic("t", 2).build().unwrap();
    broker.move_leader("t", 1, 1).unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let id = session(&mut wire).await;
    broker.move_leader("t", 0, 2).unwrap();
    let answer = wire.call(11, next(id, 1)).await;
    assert_eq!(fetched(&answer), [failed("t", 0, ErrorCode::NOT_LEADER_OR_FOLLOWER)]);
    broker.move_leader("t", 0, 1).unwrap();
    assert_eq!(fetched(&wire.call(11, next(id, 2)).await), [got("t", 0, &[])]);
    assert_eq!(fetched(&wire.call(11, next(id, 3)).await), []);
}

#[tokio::test(start_paused = true)]
async fn partitions_that_got_records_go_to_the_back_of_the_line() {
    let broker = Broker::builder().topic("t", 2).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let id = session(&mut wire).await;
    append(&mut wire, "t", 0, plain(&["a"])).await;
    append(&mut wire, "t", 1, plain(&["b"])).await;
    // One batch an answer: who was served waits for the other.
    let one = |epoch| FetchRequest { max_bytes: 1, ..next(id, epoch) };
    let first = fetched(&wire.call(11, one(1)).await);
    assert_eq!(first, [got("t", 0, &["a"]), got("t", 1, &[])]);
    assert_eq!(fetched(&wire.call(11, one(2)).await)[0], got("t", 1, &["b"]));
}

#[tokio::test(start_paused = true)]
async fn a_full_cache_gives_no_session_until_one_is_idle() {
    let setting = "max.incremental.fetch.session.cache.slots";
    let broker = Broker::builder().topic("t", 2).setting(setting, "1").build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let id = session(&mut wire).await;
    let request = FetchRequest { session_epoch: 0, ..fetch("t", 0, 0) };
    assert_eq!(wire.call(11, request.clone()).await.session_id, 0);
    sleep(Duration::from_secs(121)).await;
    assert!(wire.call(11, request).await.session_id > 0);
    assert_eq!(wire.call(11, next(id, 1)).await.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_restarts_has_forgotten_its_sessions() {
    let broker = Broker::builder().topic("t", 2).build().unwrap();
    let id = session(&mut Wire::connect(&broker, 1)).await;
    broker.stop_node(1);
    broker.start_node(1);
    let mut wire = Wire::connect(&broker, 1);
    assert_eq!(wire.call(11, next(id, 1)).await.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}
