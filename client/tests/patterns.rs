//! Topics by a pattern, on the bundled broker: they come and go (F9, F17).

use std::collections::BTreeSet;
use std::time::Duration;

use ottla::{Client, Consumer, ErrorKind, Event, NewTopic, Payload, Reset};
use ottla_broker::TestBroker;

const SOON: Duration = Duration::from_secs(20);

async fn cluster(topics: &[&str]) -> (TestBroker, Client) {
    let builder =
        topics.iter().fold(TestBroker::builder().nodes(2), |builder, topic| builder.topic(*topic, 2));
    let broker = builder.start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).metadata_max_age(Duration::from_millis(100));
    (broker, client.build().expect("valid settings"))
}

/// One record in each of the two partitions of each topic, whose value is the topic.
async fn write(client: &Client, topics: &[&str]) {
    let producer = client.producer().build().expect("valid settings");
    for topic in topics {
        for partition in 0..2 {
            let record = Payload { partition: Some(partition), ..Payload::value(topic.as_bytes()) };
            producer.topic(topic).send(record).await.expect("written");
        }
    }
    producer.close(SOON).await;
}

/// Receives two records of each of these topics and none of another.
async fn expect(consumer: &mut Consumer, topics: &[&str]) {
    let mut found = Vec::new();
    while found.len() < 2 * topics.len() {
        let record = tokio::time::timeout(SOON, consumer.recv()).await.expect("in time");
        found.push(record.expect("no error").expect("open").topic().to_string());
    }
    let (found, expected) =
        (BTreeSet::from_iter(found), topics.iter().map(|topic| topic.to_string()).collect());
    assert_eq!(found, expected);
}

fn topics_of(consumer: &Consumer) -> BTreeSet<String> {
    consumer.control().assignment().into_iter().map(|(topic, _)| topic).collect()
}

async fn wait_for_topics(consumer: &mut Consumer, topics: &[&str]) {
    let expected: BTreeSet<String> = topics.iter().map(|topic| topic.to_string()).collect();
    let reached = async {
        while topics_of(consumer) != expected {
            let _ = tokio::time::timeout(Duration::from_millis(50), consumer.recv()).await;
        }
    };
    tokio::time::timeout(SOON, reached).await.expect("in time");
}

async fn check_topics_come_and_go(builder: ottla::ConsumerBuilder, client: &Client) {
    let mut consumer = builder.build().expect("valid settings");
    expect(&mut consumer, &["orders-a", "orders-b"]).await;
    client.admin().create_topics([NewTopic::new("orders-c").partitions(2)]).await.all().expect("created");
    // Written before anybody knows of it, and read under `Latest` nevertheless.
    write(client, &["orders-c"]).await;
    expect(&mut consumer, &["orders-c"]).await;
    client.admin().delete_topics(["orders-a"]).await.all().expect("deleted");
    wait_for_topics(&mut consumer, &["orders-b", "orders-c"]).await;
    write(client, &["orders-b", "other"]).await;
    expect(&mut consumer, &["orders-b"]).await;
    consumer.close(SOON).await.expect("left");
}

/// F17.
#[tokio::test]
async fn a_group_follows_the_topics_that_match() {
    let (_broker, client) = cluster(&["orders-a", "orders-b", "other", "my-orders-x"]).await;
    write(&client, &["orders-a", "orders-b", "other", "my-orders-x"]).await;
    let builder = client.consumer().group("g").subscribe_pattern("orders-.*");
    check_topics_come_and_go(builder.heartbeat_interval(Duration::from_millis(50)), &client).await;
}

#[tokio::test]
async fn without_a_group_every_partition_that_matches_is_read() {
    let (_broker, client) = cluster(&["orders-a", "orders-b", "other"]).await;
    write(&client, &["orders-a", "orders-b", "other"]).await;
    check_topics_come_and_go(client.consumer().assign_pattern("orders-(a|b|c)"), &client).await;
}

/// F9.
#[tokio::test]
async fn a_topic_that_appears_is_read_from_its_first_record_even_under_latest() {
    let (_broker, client) = cluster(&["orders-a"]).await;
    let builder = client.consumer().assign_pattern(".*").on_no_commit(Reset::Latest);
    let mut consumer = builder.build().expect("valid settings");
    let control = consumer.control();
    assert_eq!(control.wait_assigned().await.expect("assigned").len(), 2);
    let first = Event::Assigned(vec![("orders-a".into(), 0), ("orders-a".into(), 1)]);
    assert_eq!(control.next_event().await.expect("an event"), first);
    client.admin().create_topics([NewTopic::new("orders-b").partitions(2)]).await.all().expect("created");
    write(&client, &["orders-b"]).await;
    expect(&mut consumer, &["orders-b"]).await;
}

#[tokio::test]
async fn internal_topics_never_match() {
    let (broker, client) = cluster(&["t"]).await;
    write(&client, &["t"]).await;
    let mut consumer = client.consumer().group("g").subscribe_pattern(".*").build().expect("valid settings");
    expect(&mut consumer, &["t"]).await;
    assert!(broker.topics().iter().any(|topic| topic == "__consumer_offsets"), "{:?}", broker.topics());
    // Two looks at the metadata.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(topics_of(&consumer), BTreeSet::from(["t".to_string()]));
    consumer.close(SOON).await.expect("left");
}

#[tokio::test]
async fn what_is_no_pattern_is_refused() {
    let (_broker, client) = cluster(&["t"]).await;
    let kind = |builder: ottla::ConsumerBuilder| builder.build().map_err(|error| error.kind()).err();
    assert_eq!(kind(client.consumer().group("g").subscribe_pattern("orders-(")), Some(ErrorKind::Config));
    assert_eq!(kind(client.consumer().assign_pattern("")), Some(ErrorKind::Config));
    assert_eq!(kind(client.consumer().subscribe_pattern("t")), Some(ErrorKind::Config), "without a group");
}
