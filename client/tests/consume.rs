//! The consumer on the bundled broker: everything that was produced is delivered in order, and what is finished is committed.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla::{Client, Consumer, Done, OwnedRecord, Payload, SeekTo, When};
use ottla_broker::TestBroker;

const SOON: Duration = Duration::from_secs(10);

async fn cluster(partitions: i32) -> (TestBroker, Client) {
    let broker = TestBroker::builder().nodes(3).topic("t", partitions);
    let broker = broker.setting("group.min.session.timeout.ms", "100").start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    (broker, client)
}

async fn produce(client: &Client, count: u32) {
    let producer = client.producer().build().expect("valid settings");
    let topic = producer.topic("t");
    let mut window = ottla::Deliveries::default();
    for n in 0..count {
        window
            .push(topic.enqueue(Payload::keyed(&n.to_be_bytes(), &n.to_be_bytes())).await.expect("accepted"));
    }
    while let Some(written) = window.next().await {
        written.expect("written");
    }
    producer.close(SOON).await;
}

fn committed(broker: &TestBroker) -> i64 {
    broker.committed("g").values().sum()
}

/// F13.
#[tokio::test]
async fn a_member_reads_everything_once_and_commits_every_nth_record() {
    let (broker, client) = cluster(6).await;
    produce(&client, 5_000).await;
    let hybrid = When::Hybrid { records: 100, within: Duration::from_secs(60) };
    let mut consumer =
        client.consumer().group("g").subscribe(["t"]).commit_when(hybrid).build().expect("valid settings");
    let mut seen = BTreeSet::new();
    let mut last = [-1; 6];
    for _ in 0..5_000 {
        let record = consumer.recv().await.expect("no error").expect("open");
        let partition = usize::try_from(record.partition()).expect("0 to 5");
        assert!(record.offset() > last[partition], "offsets of a partition rise");
        last[partition] = record.offset();
        seen.insert(record.value().expect("a value").to_vec());
    }
    assert_eq!(seen.len(), 5_000);
    // The last record is in hand, not finished.
    consumer.close(SOON).await.expect("left");
    assert_eq!(committed(&broker), 4_999);
}

#[tokio::test]
async fn committing_by_hand_covers_the_record_in_hand() {
    let (broker, client) = cluster(1).await;
    produce(&client, 10).await;
    let mut consumer = client
        .consumer()
        .group("g")
        .subscribe(["t"])
        .commit_when(When::Manual)
        .build()
        .expect("valid settings");
    for _ in 0..3 {
        consumer.recv().await.expect("no error").expect("open");
    }
    consumer.commit().await.expect("committed");
    assert_eq!(committed(&broker), 3);
    let record = consumer.recv().await.expect("no error").expect("open");
    record.commit().await.expect("committed");
    assert_eq!(committed(&broker), 4);
    consumer.close(SOON).await.expect("left");
    assert_eq!(committed(&broker), 4);
}

#[tokio::test]
async fn two_members_share_a_topic() {
    let (broker, client) = cluster(6).await;
    let member = || {
        client.consumer().group("g").subscribe(["t"]).commit_when(When::EachRecord).build().expect("valid")
    };
    let (mut one, mut two) = (member(), member());
    produce(&client, 1_000).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 1_000 {
        let record = tokio::select! {
            biased;
            record = one.recv() => record,
            record = two.recv() => record,
        };
        seen.insert(record.expect("no error").expect("open").offset() * 6);
        if seen.len() >= 100 {
            break;
        }
    }
    let (first, second) = (one.control().assignment().len(), two.control().assignment().len());
    assert!(first + second <= 6, "{first} and {second}");
    one.close(SOON).await.expect("left");
    two.close(SOON).await.expect("left");
    drop(broker);
}

/// Fault 45, F6.
#[tokio::test]
async fn after_a_seek_no_older_record_appears() {
    let (_broker, client) = cluster(1).await;
    produce(&client, 100).await;
    let mut consumer = client.consumer().assign([("t", 0)]).build().expect("valid settings");
    let control = consumer.control();
    for _ in 0..10 {
        consumer.recv().await.expect("no error").expect("open");
    }
    control.seek("t", 0, SeekTo::Offset(70)).await.expect("assigned");
    assert_eq!(consumer.recv().await.expect("no error").expect("open").offset(), 70);
    control.seek("t", 0, SeekTo::Beginning).await.expect("assigned");
    assert_eq!(consumer.recv().await.expect("no error").expect("open").offset(), 0);
    let batch = consumer.recv_batch(1_000, Duration::from_millis(20)).await.expect("no error").expect("open");
    assert_eq!(batch.records.len(), 99);
}

#[tokio::test]
async fn a_pause_holds_in_the_middle_of_what_was_fetched_and_loses_nothing() {
    let (_broker, client) = cluster(1).await;
    produce(&client, 100).await;
    let mut consumer = client.consumer().assign([("t", 0)]).build().expect("valid settings");
    let control = consumer.control();
    for offset in 0..10 {
        assert_eq!(consumer.recv().await.expect("no error").expect("open").offset(), offset);
    }
    control.pause("t", 0).await.expect("assigned");
    let paused = tokio::time::timeout(Duration::from_millis(50), consumer.recv()).await;
    assert!(paused.is_err(), "a paused partition delivers nothing");
    control.resume("t", 0).await.expect("assigned");
    for offset in 10..100 {
        assert_eq!(consumer.recv().await.expect("no error").expect("open").offset(), offset);
    }
}

/// F1.
#[tokio::test]
async fn what_was_fetched_and_not_delivered_is_never_committed() {
    let (broker, client) = cluster(1).await;
    produce(&client, 100).await;
    let every = When::Every(Duration::from_millis(10));
    let mut consumer =
        client.consumer().group("g").subscribe(["t"]).commit_when(every).build().expect("valid settings");
    for _ in 0..5 {
        consumer.recv().await.expect("no error").expect("open");
    }
    consumer.control().close();
    assert!(consumer.recv().await.expect("no error").is_none());
    consumer.close(SOON).await.expect("left");
    assert!(committed(&broker) <= 5, "only what was delivered is committed");
}

fn member(client: &Client, done: Done, when: When) -> Consumer {
    let consumer = client.consumer().group("g").subscribe(["t"]).finish_on(done).commit_when(when);
    // One that is dropped is gone soon.
    let (session, heartbeat) = (Duration::from_secs(1), Duration::from_millis(200));
    consumer.session_timeout(session).heartbeat_interval(heartbeat).build().expect("valid settings")
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<OwnedRecord> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(consumer.recv().await.expect("no error").expect("open").to_owned());
    }
    taken
}

/// Fault 67, F2, F3.
#[tokio::test]
async fn the_first_record_that_is_not_acknowledged_holds_the_commit() {
    let (broker, client) = cluster(1).await;
    produce(&client, 10).await;
    let mut consumer = member(&client, Done::OnAck, When::Manual);
    let records = take(&mut consumer, 6).await;
    for offset in [5, 1, 0, 3] {
        assert!(records[offset].ack());
    }
    consumer.commit().await.expect("committed");
    assert_eq!(committed(&broker), 2);
    assert!(records[2].ack());
    assert!(records[2].ack(), "a second time changes nothing");
    consumer.commit().await.expect("committed");
    assert_eq!(committed(&broker), 4);
    // What was asked for and not acknowledged comes again.
    drop(consumer);
    assert!(!records[4].ack(), "a consumer that is gone counts nothing");
    let mut next = member(&client, Done::OnAck, When::Manual);
    assert_eq!(take(&mut next, 1).await[0].offset(), 4);
}

#[tokio::test]
async fn every_nth_acknowledged_record_sends_a_commit() {
    let (broker, client) = cluster(1).await;
    produce(&client, 10).await;
    let hybrid = When::Hybrid { records: 4, within: Duration::from_secs(600) };
    let mut consumer = member(&client, Done::OnAck, hybrid);
    let records = take(&mut consumer, 10).await;
    for offset in [3, 2, 1] {
        assert!(records[offset].ack());
    }
    assert!(broker.committed("g").is_empty(), "the first is open");
    assert!(records[0].ack());
    let sent = async {
        while committed(&broker) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, sent).await.expect("the fourth sends a commit");
    for record in &records[5..] {
        assert!(record.ack());
    }
    consumer.close(SOON).await.expect("left");
    assert_eq!(committed(&broker), 4, "what is behind an open record is not committed");
}

/// F6.
#[tokio::test]
async fn an_acknowledgement_from_before_a_seek_counts_for_nothing() {
    let (broker, client) = cluster(1).await;
    produce(&client, 10).await;
    let mut consumer = member(&client, Done::OnAck, When::Manual);
    let old = take(&mut consumer, 3).await;
    consumer.control().seek("t", 0, SeekTo::Offset(0)).await.expect("assigned");
    assert!(!old[0].ack());
    let new = consumer.recv().await.expect("no error").expect("open");
    assert!(new.ack());
    consumer.commit().await.expect("committed");
    assert_eq!(committed(&broker), 1);
}

#[tokio::test]
async fn a_dropped_batch_call_finishes_nothing_that_is_not_acknowledged() {
    let (broker, client) = cluster(1).await;
    produce(&client, 4).await;
    let mut consumer = member(&client, Done::OnAck, When::Manual);
    let first = take(&mut consumer, 2).await;
    let gathering = consumer.recv_batch(100, Duration::from_secs(60));
    assert!(tokio::time::timeout(Duration::from_millis(100), gathering).await.is_err());
    // Records that were acknowledged out of order, or not at all, come again: nothing is skipped.
    let again = take(&mut consumer, 4).await;
    assert_eq!(again.iter().map(OwnedRecord::offset).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(!first[1].ack());
    assert!(again[3].ack());
    consumer.commit().await.expect("committed");
    assert_eq!(committed(&broker), 0);
}

/// What members that die after so many records are given, one member after the other.
async fn delivered_to(when: When, lives: &[usize]) -> Vec<i64> {
    let (_broker, client) = cluster(1).await;
    produce(&client, 20).await;
    let mut offsets = Vec::new();
    for count in lives {
        let mut consumer = member(&client, Done::Delivered, when);
        offsets.extend(take(&mut consumer, *count).await.iter().map(OwnedRecord::offset));
        drop(consumer);
    }
    offsets
}

#[tokio::test]
async fn at_most_once_delivers_no_record_to_two_members() {
    assert_eq!(delivered_to(When::EachRecord, &[3, 1, 2]).await, [0, 1, 2, 3, 4, 5]);
    let hybrid = When::Hybrid { records: 5, within: Duration::from_secs(600) };
    assert_eq!(delivered_to(hybrid, &[6, 2]).await, [0, 1, 2, 3, 4, 5, 10, 11]);
}

#[tokio::test]
async fn at_most_once_commits_a_batch_before_it_is_returned() {
    let (broker, client) = cluster(1).await;
    produce(&client, 20).await;
    let mut consumer = member(&client, Done::Delivered, When::EachRecord);
    let batch = consumer.recv_batch(7, Duration::from_secs(5)).await.expect("no error").expect("open");
    assert_eq!((batch.records.len(), committed(&broker)), (7, 7));
}

/// C1: an aborted transaction that comes by itself has nothing to deliver, and moves nothing past what is still in a batch.
/// F19.
#[tokio::test]
async fn a_chunk_without_records_finishes_nothing_that_is_in_a_batch() {
    let (broker, client) = cluster(1).await;
    let mut producer = client.producer().transactional_id("p").build_transactional().expect("valid settings");
    let consumer = client.consumer().group("g").subscribe(["t"]).commit_when(When::Manual);
    let consumer = consumer.isolation_level(ottla::IsolationLevel::ReadCommitted);
    let mut consumer = consumer.build().expect("valid settings");
    let control = consumer.control();
    let writing = async {
        // One after the other, so that each comes in a chunk of its own.
        for (records, commit) in [(3, true), (5, false), (1, true)] {
            let transaction = producer.begin().await.expect("begun");
            let topic = transaction.topic("t");
            for _ in 0..records {
                topic.send(Payload::value(b"x")).await.expect("written");
            }
            match commit {
                true => transaction.commit().await.expect("committed"),
                false => transaction.abort().await.expect("aborted"),
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let (batch, ()) = tokio::join!(consumer.recv_batch(4, SOON), writing);
    assert_eq!(batch.expect("no error").expect("open").records.len(), 4);
    control.commit().await.expect("committed");
    assert_eq!(committed(&broker), 0, "nothing of the batch is finished");
    consumer.commit().await.expect("committed");
    assert!(committed(&broker) >= 11, "the batch and what lies between is finished");
}
