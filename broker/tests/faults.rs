//! Faults do what they say, as often as they say, and to nobody else.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::{Answer, Broker, Fault};
use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame;
use ottla_protocol::messages::*;
use ottla_protocol::wire::Uuid;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use wire::*;

fn broker() -> Broker {
    Broker::builder().nodes(2).topic("t", 2).topic("u", 1).build().unwrap()
}

async fn code(wire: &mut Wire, topic: &str) -> ErrorCode {
    append(wire, topic, 0, plain(&["a"])).await.error_code
}

#[tokio::test(start_paused = true)]
async fn an_error_hits_the_request_it_is_meant_for_and_nothing_takes_effect() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    let fault =
        broker.fault(Fault::on(ApiKey::PRODUCE).skip(1).times(2).fail(ErrorCode::NOT_ENOUGH_REPLICAS));
    let failed = ErrorCode::NOT_ENOUGH_REPLICAS;
    for expected in [ErrorCode::NONE, failed, failed, ErrorCode::NONE] {
        assert_eq!(code(&mut wire, "t").await, expected);
    }
    assert_eq!((broker.fired(fault), broker.end_offset("t", 0)), (2, Some(2)));
    assert_eq!(broker.requests(1, ApiKey::PRODUCE), 4);
}

#[tokio::test(start_paused = true)]
async fn an_error_for_a_topic_leaves_the_others_of_the_request_alone() {
    let broker = broker();
    broker.move_leader("t", 1, 1).unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let fault = Fault::on(ApiKey::PRODUCE).topic("t").partition(1).always();
    broker.fault(fault.fail(ErrorCode::KAFKA_STORAGE_ERROR));
    let mut request = produce("t", Uuid::ZERO, 0, plain(&["a"]));
    request.topic_data.extend(produce("u", Uuid::ZERO, 0, plain(&["b"])).topic_data);
    let second = ProducePartition { index: 1, ..request.topic_data[0].partition_data[0].clone() };
    request.topic_data[0].partition_data.push(second);
    let answer = wire.call(9, request).await;
    let topics = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    let codes: Vec<_> = topics.map(|partition| partition.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::KAFKA_STORAGE_ERROR, ErrorCode::NONE]);
    broker.heal();
    assert_eq!(append(&mut wire, "t", 1, plain(&["a"])).await.error_code, ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn node_and_client_narrow_a_fault() {
    let broker = broker();
    broker.fault(Fault::on_anything().node(2).client_id("bad").always().cut());
    assert_eq!(code(&mut Wire::connect(&broker, 1).named("bad"), "t").await, ErrorCode::NONE);
    let request = || fetch("t", 1, 0);
    assert_eq!(Wire::connect(&broker, 2).call(11, request()).await.error_code, ErrorCode::NONE);
    let mut cut = Wire::connect(&broker, 2).named("bad");
    cut.send(11, &request()).await;
    assert!(cut.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_cut_before_the_effect_loses_the_request_and_one_after_it_only_the_answer() {
    let broker = broker();
    for (fault, end_offset) in [
        (Fault::on(ApiKey::PRODUCE).cut(), 0),
        (Fault::on(ApiKey::PRODUCE).cut_answer(), 1),
        (Fault::on(ApiKey::PRODUCE).cut_within_answer(7), 2),
    ] {
        broker.fault(fault);
        let mut wire = Wire::connect(&broker, 1);
        wire.send(9, &produce("t", Uuid::ZERO, 0, plain(&["a"]))).await;
        assert!(wire.is_closed().await);
        assert_eq!(broker.end_offset("t", 0), Some(end_offset));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_swallowed_is_never_answered() {
    let broker = broker();
    for (fault, end_offset) in
        [(Fault::on(ApiKey::PRODUCE).swallow(), 0), (Fault::on(ApiKey::PRODUCE).swallow_answer(), 1)]
    {
        broker.fault(fault);
        let mut wire = Wire::connect(&broker, 1);
        wire.send(9, &produce("t", Uuid::ZERO, 0, plain(&["a"]))).await;
        wire.send(9, &produce("t", Uuid::ZERO, 0, plain(&["b"]))).await;
        assert!(timeout(Duration::from_secs(600), wire.frame()).await.is_err());
        assert_eq!(broker.end_offset("t", 0), Some(end_offset));
    }
}

#[tokio::test(start_paused = true)]
async fn delays_come_before_the_effect_or_after_it() {
    let broker = broker();
    let second = Duration::from_secs(1);
    for (fault, meanwhile) in
        [(Fault::on(ApiKey::PRODUCE).delay(second), 0), (Fault::on(ApiKey::PRODUCE).delay_answer(second), 2)]
    {
        broker.fault(fault);
        let mut wire = Wire::connect(&broker, 1);
        let started = Instant::now();
        wire.send(9, &produce("t", Uuid::ZERO, 0, plain(&["a"]))).await;
        sleep(second / 2).await;
        assert_eq!(broker.end_offset("t", 0), Some(meanwhile));
        assert_eq!(only(wire.receive::<ProduceRequest>(9).await).error_code, ErrorCode::NONE);
        assert_eq!(started.elapsed().as_secs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_can_be_throttled_rewritten_and_misnumbered() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    broker.fault(Fault::on(ApiKey::PRODUCE).throttle(Duration::from_secs(3)));
    broker.fault(Fault::on(ApiKey::PRODUCE).rewrite(|answer| {
        if let Answer::Produce(answer) = answer {
            answer.responses.clear();
        }
    }));
    let answer = wire.call(9, produce("t", Uuid::ZERO, 0, plain(&["a"]))).await;
    assert_eq!((answer.throttle_time_ms, answer.responses.len()), (3000, 0));
    broker.fault(Fault::on(ApiKey::PRODUCE).wrong_correlation());
    wire.send(9, &produce("t", Uuid::ZERO, 0, plain(&["b"]))).await;
    let mut body = wire.frame().await.unwrap();
    let correlation = frame::decode_response_header(&mut body, ApiKey::PRODUCE, true).unwrap();
    assert_ne!(correlation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_paused_node_answers_when_it_goes_on() {
    let broker = broker();
    let mut wire = Wire::connect(&broker, 1);
    broker.pause_node(1);
    wire.send(9, &produce("t", Uuid::ZERO, 0, plain(&["a"]))).await;
    assert!(timeout(Duration::from_secs(5), wire.frame()).await.is_err());
    assert_eq!(broker.end_offset("t", 0), Some(0));
    let one = ProduceRequest { acks: 1, ..produce("t", Uuid::ZERO, 1, plain(&["b"])) };
    assert_eq!(only(Wire::connect(&broker, 2).call(9, one).await).error_code, ErrorCode::NONE);
    broker.resume_node(1);
    assert_eq!(only(wire.receive::<ProduceRequest>(9).await).error_code, ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_node_breaks_its_connections_and_takes_none() {
    let broker = broker();
    let (mut first, mut second) = (Wire::connect(&broker, 1), Wire::connect(&broker, 2));
    assert_eq!(code(&mut first, "t").await, ErrorCode::NONE);
    broker.stop_node(1);
    assert!(first.is_closed().await);
    assert!(Wire::connect(&broker, 1).is_closed().await);
    assert_eq!(code(&mut second, "t").await, ErrorCode::NONE, "the other node leads now");
    broker.start_node(1);
    assert_eq!(code(&mut Wire::connect(&broker, 1), "t").await, ErrorCode::NOT_LEADER_OR_FOLLOWER);
}

#[tokio::test(start_paused = true)]
async fn an_older_broker_is_imitated_by_its_versions() {
    let broker = broker();
    let (stream, server) = tokio::io::duplex(64 * 1024);
    let versions: Versions = [(ApiKey::PRODUCE, (3, 8)), (ApiKey::FETCH, (0, 0))].into_iter().collect();
    let serving = broker.clone();
    tokio::spawn(async move { serving.serve_versions(1, "127.0.0.1", versions, server).await });
    let mut wire = Wire::over(stream);
    let advertised = Versions::from(&wire.call(0, ApiVersionsRequest::default()).await);
    assert_eq!((advertised.get(ApiKey::PRODUCE), advertised.get(ApiKey::FETCH)), (Some((3, 8)), None));
    assert_eq!(advertised.get(ApiKey::METADATA), Some((0, 13)));
    let answer = wire.call(9, produce("t", Uuid::ZERO, 0, plain(&["a"]))).await;
    assert_eq!(only(answer).error_code, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(wire.call(11, fetch("t", 0, 0)).await.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let answer = wire.call(8, produce("t", Uuid::ZERO, 0, plain(&["a"]))).await;
    assert_eq!(only(answer).error_code, ErrorCode::NONE);
}
