//! Reading from the replica in one's own rack (KIP-392), on the bundled broker.

use std::time::Duration;

use ottla::{Client, Consumer, ErrorCode, Payload};

use ottla_broker::{Fault, TestBroker};
use ottla_protocol::api::ApiKey;

const SOON: Duration = Duration::from_secs(20);
const SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// Two nodes in two racks, each with a copy of a partition that node 1 leads.
async fn two_racks() -> (TestBroker, Client) {
    let broker = TestBroker::builder().nodes(2).rack(1, "far").rack(2, "near").topic("t", 1);
    let broker = broker.setting("replica.selector.class", SELECTOR).start().await.expect("a broker");
    broker.move_leader("t", 0, 1).expect("a replica");
    let client = Client::builder().bootstrap(broker.bootstrap()).client_rack("near").build();
    (broker, client.expect("valid settings"))
}

async fn write(client: &Client, count: u32) {
    let producer = client.producer().build().expect("valid settings");
    let topic = producer.topic("t");
    for _ in 0..count {
        topic.send(Payload::value(b"v")).await.expect("written");
    }
    producer.close(SOON).await;
}

async fn read(consumer: &mut Consumer, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        let record = tokio::time::timeout(SOON, consumer.recv()).await.expect("in time");
        assert_eq!(record.expect("no error").expect("open").offset(), offset);
    }
}

fn fetches(broker: &TestBroker) -> [u64; 2] {
    [1, 2].map(|node| broker.requests(node, ApiKey::FETCH))
}

#[tokio::test]
async fn a_replica_in_the_same_rack_is_read_from() {
    let (broker, client) = two_racks().await;
    write(&client, 5).await;
    let mut consumer = client.consumer().assign([("t", 0)]).build().expect("valid settings");
    read(&mut consumer, 0..5).await;
    let before = fetches(&broker);
    assert!(before[1] > 0, "{before:?}");
    write(&client, 5).await;
    read(&mut consumer, 5..10).await;
    let after = fetches(&broker);
    assert!(after[0] == before[0] && after[1] > before[1], "{before:?}, {after:?}");
}

#[tokio::test]
async fn without_a_rack_the_leader_is_read_from() {
    let (broker, _) = two_racks().await;
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    write(&client, 5).await;
    let mut consumer = client.consumer().assign([("t", 0)]).build().expect("valid settings");
    read(&mut consumer, 0..5).await;
    assert_eq!(fetches(&broker)[1], 0);
}

/// Whatever a follower says or does not say, the leader is read from instead (fault 50).
async fn check_falls_back(trouble: impl FnOnce(&TestBroker)) {
    let (broker, client) = two_racks().await;
    write(&client, 5).await;
    let mut consumer = client.consumer().assign([("t", 0)]).build().expect("valid settings");
    read(&mut consumer, 0..5).await;
    trouble(&broker);
    write(&client, 5).await;
    read(&mut consumer, 5..10).await;
}

/// Fault 50.
#[tokio::test]
async fn a_follower_that_refuses_is_left() {
    for code in [
        ErrorCode::OFFSET_OUT_OF_RANGE,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ] {
        check_falls_back(|broker| {
            broker.fault(Fault::on(ApiKey::FETCH).node(2).topic("t").fail(code).always());
        })
        .await;
    }
}

/// Fault 50.
#[tokio::test]
async fn a_follower_that_is_gone_is_left() {
    check_falls_back(|broker| {
        broker.fault(Fault::on(ApiKey::FETCH).node(2).cut().always());
    })
    .await;
    check_falls_back(|broker| broker.stop_node(2)).await;
}
