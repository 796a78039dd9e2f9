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
