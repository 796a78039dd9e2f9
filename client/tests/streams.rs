//! Streams of records on the bundled broker: finished in any order, a task for each partition, and none that stops another.

use std::time::Duration;

use ottla::{Client, ConsumerBuilder, Done, ErrorKind, Payload, SeekTo, StreamEnd, When};
use ottla::{PartitionStream, PartitionStreams};
use ottla_broker::TestBroker;

const SOON: Duration = Duration::from_secs(20);

/// Each partition has this many records, whose values are their offsets.
async fn cluster(partitions: i32, records: u32) -> (TestBroker, Client) {
    let broker = TestBroker::builder().topic("t", partitions).start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = client.producer().build().expect("valid settings");
    let topic = producer.topic("t");
    for partition in 0..partitions {
        for n in 0..records {
            let value = [&n.to_be_bytes()[..], &[0; 1000]].concat();
            let record = Payload { partition: Some(partition), ..Payload::value(&value) };
            drop(topic.enqueue(record).await.expect("accepted"));
        }
    }
    producer.close(SOON).await;
    (broker, client)
}

fn acking(client: &Client) -> ConsumerBuilder {
    client.consumer().group("g").subscribe(["t"]).finish_on(Done::OnAck).commit_when(When::EachRecord)
}

async fn next_partition(partitions: &mut PartitionStreams) -> PartitionStream {
    tokio::time::timeout(SOON, partitions.next()).await.expect("in time").expect("open").expect("no error")
}

async fn next(records: &mut PartitionStream) -> Option<ottla::OwnedRecord> {
    tokio::time::timeout(SOON, records.next()).await.expect("in time").map(|next| next.expect("no error"))
}

/// Reads on from `from` to `to`, acknowledging each record.
async fn read(records: &mut PartitionStream, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        let record = next(records).await.expect("open");
        assert_eq!(record.offset(), offset, "{records:?}");
        assert!(record.ack());
    }
}

#[tokio::test]
async fn records_of_a_stream_are_committed_when_they_are_acknowledged_in_any_order() {
    let (broker, client) = cluster(1, 10).await;
    let mut records = acking(&client).build().expect("valid settings").into_stream().expect("acks");
    let mut in_work = Vec::new();
    for _ in 0..10 {
        in_work.push(records.next().await.expect("open").expect("no error"));
    }
    assert!(broker.committed("g").is_empty(), "F1: asking for the next finishes nothing");
    in_work.remove(3).ack();
    in_work.drain(..3).for_each(|record| assert!(record.ack()));
    records.close(SOON).await.expect("left");
    assert_eq!(broker.committed("g").values().sum::<i64>(), 4);
}

#[tokio::test]
async fn a_stream_ends_when_the_consumer_is_closed() {
    let (_broker, client) = cluster(1, 1).await;
    let mut records = acking(&client).build().expect("valid settings").into_stream().expect("acks");
    records.next().await.expect("open").expect("no error").ack();
    let control = records.control();
    let ended = tokio::spawn(async move { records.next().await.is_none() && records.next().await.is_none() });
    control.close();
    assert!(tokio::time::timeout(SOON, ended).await.expect("in time").expect("no panic"));
}

#[tokio::test]
async fn what_asking_for_the_next_would_finish_is_no_stream() {
    let (_broker, client) = cluster(1, 1).await;
    let build = |done| acking(&client).finish_on(done).build().expect("valid settings");
    let kind = |error: ottla::Error| error.kind();
    assert_eq!(build(Done::OnNext).into_stream().map_err(kind).err(), Some(ErrorKind::Config));
    assert_eq!(build(Done::OnNext).into_partitions().map_err(kind).err(), Some(ErrorKind::Config));
    let mut once = build(Done::Delivered).into_stream().expect("at most once");
    assert_eq!(once.next().await.expect("open").expect("no error").offset(), 0);
}

/// Fault 52.
#[tokio::test]
async fn a_partition_that_nobody_reads_stops_no_other() {
    let (_broker, client) = cluster(3, 400).await;
    // A third of what one partition holds.
    let consumer = acking(&client).fetch_buffer_bytes(128 * 1024).build().expect("valid settings");
    let mut partitions = consumer.into_partitions().expect("acks");
    let (mut one, _two, _three) = (
        next_partition(&mut partitions).await,
        next_partition(&mut partitions).await,
        next_partition(&mut partitions).await,
    );
    read(&mut one, 0..400).await;
    partitions.close(SOON).await.expect("left");
    assert!(next(&mut one).await.is_none());
    assert_eq!(one.end(), Some(StreamEnd::Closed));
}

#[tokio::test]
async fn a_partition_that_is_taken_away_ends_its_stream() {
    let (broker, client) = cluster(2, 20).await;
    let quick = |builder: ConsumerBuilder| builder.heartbeat_interval(Duration::from_millis(50));
    let first = quick(acking(&client)).build().expect("valid settings");
    let mut partitions = first.into_partitions().expect("acks");
    let mut streams = vec![next_partition(&mut partitions).await, next_partition(&mut partitions).await];
    for records in &mut streams {
        read(records, 0..10).await;
    }
    let second = quick(acking(&client)).build().expect("valid settings");
    let mut others = second.into_partitions().expect("acks");
    let mut taken = next_partition(&mut others).await;
    let gone =
        streams.iter().position(|stream| stream.partition() == taken.partition()).expect("one of them");
    let mut gone = streams.remove(gone);
    while let Some(record) = next(&mut gone).await {
        // Those that were acknowledged in time are not delivered again, but these may be.
        assert!(record.offset() >= 10);
    }
    assert_eq!(gone.end(), Some(StreamEnd::Revoked));
    read(&mut taken, 10..20).await;
    read(&mut streams[0], 10..20).await;
    partitions.close(SOON).await.expect("left");
    others.close(SOON).await.expect("left");
    assert_eq!(broker.committed("g").values().sum::<i64>(), 40);
}

#[tokio::test]
async fn seek_pause_and_resume_reach_a_stream_of_a_partition() {
    let (_broker, client) = cluster(1, 50).await;
    let mut partitions = acking(&client).build().expect("valid settings").into_partitions().expect("acks");
    let control = partitions.control();
    let mut records = next_partition(&mut partitions).await;
    read(&mut records, 0..5).await;
    control.pause("t", 0).await.expect("assigned");
    assert!(tokio::time::timeout(Duration::from_millis(300), records.next()).await.is_err());
    control.resume("t", 0).await.expect("assigned");
    read(&mut records, 5..8).await;
    control.seek("t", 0, SeekTo::Offset(30)).await.expect("assigned");
    read(&mut records, 30..50).await;
    control.pause("t", 0).await.expect("assigned");
    control.seek("t", 0, SeekTo::Beginning).await.expect("assigned");
    assert!(tokio::time::timeout(Duration::from_millis(300), records.next()).await.is_err());
    control.resume("t", 0).await.expect("assigned");
    read(&mut records, 0..50).await;
    partitions.close(SOON).await.expect("left");
}

#[tokio::test]
async fn a_stream_that_was_dropped_is_handed_out_again_behind_what_is_finished() {
    let (_broker, client) = cluster(1, 20).await;
    let mut partitions = acking(&client).build().expect("valid settings").into_partitions().expect("acks");
    let mut records = next_partition(&mut partitions).await;
    read(&mut records, 0..5).await;
    let in_work = next(&mut records).await.expect("open");
    drop(records);
    assert!(!in_work.ack(), "another task has it now");
    read(&mut next_partition(&mut partitions).await, 5..20).await;
    partitions.close(SOON).await.expect("left");
}
