//! What a consumer tells on its own on the bundled broker: partitions that come and go, and an application that asks for
//! nothing.

use std::time::Duration;

use ottla::{Client, Consumer, ConsumerBuilder, Control, Event, GroupProtocol, Payload, When};
use ottla_broker::TestBroker;

const SOON: Duration = Duration::from_secs(10);
/// Long enough for whatever was going to happen.
const WHILE: Duration = Duration::from_secs(3);

async fn cluster(partitions: i32) -> (TestBroker, Client) {
    let broker = TestBroker::builder().topic("t", partitions).start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = client.producer().build().expect("valid settings");
    for partition in 0..partitions {
        let record = Payload { partition: Some(partition), ..Payload::value(b"v") };
        producer.topic("t").send(record).await.expect("written");
    }
    producer.close(SOON).await;
    (broker, client)
}

fn member(client: &Client) -> ConsumerBuilder {
    client.consumer().group("g").subscribe(["t"]).commit_when(When::EachRecord)
}

async fn next(control: &Control) -> Event {
    tokio::time::timeout(SOON, control.next_event()).await.expect("in time").expect("an event")
}

/// The next event that is not about where a partition without a commit starts.
async fn next_of_the_group(control: &Control) -> Event {
    loop {
        match next(control).await {
            Event::PositionChanged { .. } => {}
            event => return event,
        }
    }
}

fn all(partitions: i32) -> Vec<(String, i32)> {
    (0..partitions).map(|partition| ("t".into(), partition)).collect()
}

async fn recv(consumer: &mut Consumer) -> i32 {
    tokio::time::timeout(SOON, consumer.recv())
        .await
        .expect("in time")
        .expect("no error")
        .expect("open")
        .partition()
}

#[tokio::test]
async fn what_the_group_gives_and_takes_is_told() {
    let (_broker, client) = cluster(2).await;
    let one = member(&client).heartbeat_interval(Duration::from_millis(50)).build().expect("valid settings");
    let control = one.control();
    assert_eq!(control.wait_assigned().await.expect("assigned"), all(2));
    assert_eq!(next_of_the_group(&control).await, Event::Assigned(all(2)));
    let two = member(&client).group_protocol(GroupProtocol::Classic).build().expect("valid settings");
    let Event::Revoked(revoked) = next_of_the_group(&control).await else { panic!("nothing was taken away") };
    assert_eq!(next_of_the_group(&two.control()).await, Event::Assigned(revoked));
    one.close(SOON).await.expect("left");
    let ended = control.next_event().await.expect_err("nothing happens to a closed consumer");
    assert_eq!(ended.kind(), ottla::ErrorKind::Closed);
    two.close(SOON).await.expect("left");
}

/// Fault 53: its heartbeats go on, and it is `lost`.
#[tokio::test]
async fn an_application_is_warned_before_it_is_evicted_and_comes_back() {
    let (_broker, client) = cluster(1).await;
    let mut consumer =
        member(&client).max_poll_interval(Duration::from_secs(1)).build().expect("valid settings");
    let control = consumer.control();
    recv(&mut consumer).await;
    assert_eq!(next_of_the_group(&control).await, Event::Assigned(all(1)));
    let near = next_of_the_group(&control).await;
    assert!(matches!(near, Event::EvictionNear { left } if left <= Duration::from_millis(250)), "{near:?}");
    assert_eq!(next_of_the_group(&control).await, Event::Lost(all(1)));
    assert!(!control.health().live, "it is stuck");
    // The record in hand was not finished in time, and comes again.
    recv(&mut consumer).await;
    assert_eq!(next_of_the_group(&control).await, Event::Assigned(all(1)));
    assert!(control.health().live);
    consumer.close(SOON).await.expect("left");
}

#[tokio::test]
async fn time_in_which_everything_is_paused_does_not_count() {
    let (_broker, client) = cluster(1).await;
    let mut consumer =
        member(&client).max_poll_interval(Duration::from_secs(1)).build().expect("valid settings");
    let control = consumer.control();
    recv(&mut consumer).await;
    control.pause("t", 0).await.expect("assigned");
    assert_eq!(next_of_the_group(&control).await, Event::Assigned(all(1)));
    let more = tokio::time::timeout(WHILE, next_of_the_group(&control)).await;
    assert!(more.is_err(), "{more:?}");
    assert!(control.health().ready, "{:?}", control.health());
    consumer.close(SOON).await.expect("left");
}

/// Fault 99: a runtime that runs nothing for longer than the session sends no heartbeats; its member is told what it lost.
#[test]
fn fault_99_a_starved_runtime_loses_its_partitions_and_says_so() {
    let elsewhere = tokio::runtime::Runtime::new().expect("a runtime");
    let broker = TestBroker::builder().topic("t", 1).setting("group.min.session.timeout.ms", "100");
    let broker = elsewhere.block_on(broker.start()).expect("a broker");
    let starved = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    starved.block_on(async {
        let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
        let session = Duration::from_millis(500);
        let member = member(&client).group_protocol(GroupProtocol::Classic).session_timeout(session);
        let member = member.heartbeat_interval(session / 5).build().expect("valid settings");
        let control = member.control();
        assert_eq!(next_of_the_group(&control).await, Event::Assigned(all(1)));
        std::thread::sleep(session * 3);
        assert_eq!(next_of_the_group(&control).await, Event::Lost(all(1)));
        assert_eq!(next_of_the_group(&control).await, Event::Assigned(all(1)));
        member.close(SOON).await.expect("left");
    });
}

/// Fault 99: whoever waits elsewhere for a consumer whose runtime has ended is told, and closing it returns.
#[test]
fn fault_99_a_runtime_that_ends_ends_what_waits_for_it() {
    let outer = tokio::runtime::Runtime::new().expect("a runtime");
    let inner = tokio::runtime::Runtime::new().expect("a runtime");
    let broker = outer.block_on(TestBroker::builder().topic("t", 1).start()).expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let mut consumer = inner.block_on(async { member(&client).build().expect("valid settings") });
    let control = consumer.control();
    outer.block_on(control.wait_assigned()).expect("assigned");
    let waiting = outer.spawn(async move {
        let error = consumer.recv().await.map(|record| record.is_some()).expect_err("nobody brings a record");
        (error.kind(), consumer.close(SOON).await.is_err())
    });
    std::thread::sleep(Duration::from_millis(50));
    inner.shutdown_background();
    let ended = outer.block_on(async { tokio::time::timeout(SOON, waiting).await });
    assert_eq!(ended.expect("in time").expect("no panic"), (ottla::ErrorKind::Fatal, true));
    let ended = outer.block_on(control.wait_assigned()).expect_err("nobody assigns anything");
    assert_eq!(ended.kind(), ottla::ErrorKind::Fatal);
}
