//! What a crash repeats under each policy of `commit_when`, for records that are finished by asking for the next.

use std::time::Duration;

use ottla::{Client, Consumer, Payload, When};
use ottla_broker::{Fault, TestBroker};
use ottla_protocol::api::ApiKey;

const AT_LAST: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const RECORDS: usize = 30;

/// A topic with one partition, whose records come one fetch after the other if a fetch may bring so little.
async fn cluster() -> (TestBroker, Client) {
    let broker = TestBroker::builder().topic("t", 1).setting("group.min.session.timeout.ms", "100");
    let broker = broker.start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = client.producer().linger(Duration::ZERO).build().expect("valid settings");
    let topic = producer.topic("t");
    for _ in 0..RECORDS {
        topic.send(Payload::value(b"x")).await.expect("written");
    }
    producer.close(AT_LAST).await;
    (broker, client)
}

fn member(client: &Client, when: When) -> Consumer {
    let consumer = client.consumer().group("g").subscribe(["t"]).commit_when(when);
    let consumer =
        consumer.session_timeout(Duration::from_millis(300)).heartbeat_interval(Duration::from_millis(100));
    consumer.max_partition_fetch_bytes(1).build().expect("valid settings")
}

/// Offsets of so many records.
async fn receive(consumer: &mut Consumer, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    for _ in 0..count {
        let next = tokio::time::timeout(AT_LAST, consumer.recv()).await.expect("a record comes");
        offsets.push(next.expect("no error").expect("open").offset());
    }
    offsets
}

/// No commit is answered: so many records are lent before the next one has to wait, and all of them come again.
async fn check_without_answers(when: When, lent: usize) {
    let (broker, client) = cluster().await;
    broker.fault(Fault::on(ApiKey::OFFSET_COMMIT).always().delay(HOUR));
    let mut consumer = member(&client, when);
    let offsets = receive(&mut consumer, lent).await;
    assert_eq!(offsets, (0..).take(lent).collect::<Vec<_>>(), "{when:?}");
    let more = tokio::time::timeout(Duration::from_millis(400), consumer.recv()).await;
    assert!(more.is_err(), "{when:?}: a record was lent before those in front of it were committed");
    drop(consumer);
    broker.heal();
    assert_eq!(receive(&mut member(&client, when), 1).await, [0], "{when:?}");
}

#[tokio::test]
async fn a_record_waits_until_the_commits_before_it_are_acknowledged() {
    check_without_answers(When::EachRecord, 1).await;
    check_without_answers(When::EachBatch, 2).await;
    check_without_answers(When::Hybrid { records: 4, within: HOUR }, 8).await;
    check_without_answers(When::Hybrid { records: 1, within: HOUR }, 2).await;
}

/// Members die one after the other with a record in hand: that one is repeated, and no other.
/// F1.
#[tokio::test]
async fn a_crash_repeats_the_record_in_hand_if_each_one_is_committed() {
    let (_broker, client) = cluster().await;
    let mut next = 0;
    for count in [1, 5, 2, 9] {
        let mut consumer = member(&client, When::EachRecord);
        let offsets = receive(&mut consumer, count).await;
        assert_eq!(offsets, (next..).take(count).collect::<Vec<_>>());
        next = offsets[count - 1];
    }
}

/// A wait for a commit that is given up goes on with the next call.
#[tokio::test]
async fn giving_up_the_wait_for_a_commit_skips_nothing() {
    let (broker, client) = cluster().await;
    broker.fault(Fault::on(ApiKey::OFFSET_COMMIT).always().delay(Duration::from_millis(50)));
    let mut consumer = member(&client, When::EachRecord);
    let mut offsets = Vec::new();
    while offsets.len() < 10 {
        if let Ok(next) = tokio::time::timeout(Duration::from_millis(7), consumer.recv()).await {
            let offset = next.expect("no error").expect("open").offset();
            assert!(broker.committed("g").values().sum::<i64>() >= offset, "{offset} was lent too early");
            offsets.push(offset);
        }
    }
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
}

/// A commit that is refused is told, and due again.
#[tokio::test]
async fn a_refused_commit_is_told_before_the_next_record() {
    let (broker, client) = cluster().await;
    let refusal = ottla_protocol::error_code::ErrorCode::GROUP_AUTHORIZATION_FAILED;
    let mut consumer = member(&client, When::EachRecord);
    receive(&mut consumer, 1).await;
    broker.fault(Fault::on(ApiKey::OFFSET_COMMIT).fail(refusal));
    let error =
        tokio::time::timeout(AT_LAST, consumer.recv()).await.expect("an answer").expect_err("a refusal");
    assert_eq!(error.kind(), ottla::ErrorKind::Authorization);
    assert_eq!(receive(&mut consumer, 1).await, [1]);
    assert_eq!(broker.committed("g").values().sum::<i64>(), 1);
}
