//! What a consumer holds, on the bundled broker: `fetch.buffer.bytes` bounds it, records held by the application included.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ottla::{Client, Compression, Consumer, ErrorKind, OwnedRecord, Payload};
use ottla_broker::TestBroker;

const SOON: Duration = Duration::from_secs(20);
const BUDGET: usize = 128 * 1024;

/// Three partitions with 400 records of 1,000 bytes each.
async fn cluster(compression: Compression, patience: Duration) -> (TestBroker, Consumer) {
    let broker = TestBroker::builder().topic("t", 3).start().await.expect("a broker");
    let builder = Client::builder().bootstrap(broker.bootstrap());
    let client = builder.default_api_timeout(patience).build().expect("valid settings");
    let producer = client.producer().compression(compression).build().expect("valid settings");
    let topic = producer.topic("t");
    for n in 0..1_200 {
        let record = Payload { partition: Some(n % 3), ..Payload::value(&[7; 1000]) };
        drop(topic.enqueue(record).await.expect("accepted"));
    }
    producer.close(SOON).await;
    let consumer = client.consumer().assign([("t", 0), ("t", 1), ("t", 2)]).fetch_buffer_bytes(BUDGET);
    (broker, consumer.max_partition_fetch_bytes(16 * 1024).build().expect("valid settings"))
}

/// The next record, copied.
async fn next(consumer: &mut Consumer) -> Result<OwnedRecord, ottla::Error> {
    let record = tokio::time::timeout(SOON, consumer.recv()).await.expect("in time")?;
    Ok(record.expect("open").to_owned())
}

#[tokio::test]
async fn records_that_are_dropped_on_another_thread_make_room() {
    let (_broker, mut consumer) = cluster(Compression::None, SOON).await;
    let (hand_over, handed) = channel::<OwnedRecord>();
    let (control, mut most) = (consumer.control(), 0);
    let holder = std::thread::spawn(move || {
        let (mut held, mut stalls) = (Vec::new(), 0);
        loop {
            match handed.recv_timeout(Duration::from_millis(20)) {
                Ok(record) => held.push(record.value().cloned()),
                // Nothing comes any more: everything is held.
                Err(RecvTimeoutError::Timeout) => {
                    stalls += usize::from(!held.is_empty());
                    held.clear();
                }
                Err(RecvTimeoutError::Disconnected) => return stalls,
            }
        }
    });
    for _ in 0..1_200 {
        hand_over.send(next(&mut consumer).await.expect("readable")).expect("listening");
        most = control.metrics().buffer_bytes.max(most);
    }
    drop(hand_over);
    let stalls = holder.join().expect("no panic");
    assert!(stalls > 5, "1.2 MB went through a budget of {BUDGET}: {stalls}");
    // What was handed out last may go above it.
    assert!(most <= BUDGET + 20_000, "{most}");
}

#[tokio::test]
async fn who_holds_everything_and_asks_for_more_is_told() {
    holds_everything(Compression::None, BUDGET).await;
}

#[tokio::test]
async fn what_is_fetched_compressed_is_not_handed_out_without_room_for_it() {
    // All of a partition comes at once.
    holds_everything(Compression::Lz4, BUDGET + 400_000).await;
}

async fn holds_everything(compression: Compression, most: usize) {
    let (_broker, mut consumer) = cluster(compression, Duration::from_millis(500)).await;
    let mut held = Vec::new();
    let error = loop {
        match next(&mut consumer).await {
            Ok(record) => held.push(record),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::BufferFull, "{error}");
    let bytes: usize = held.iter().filter_map(|record| record.value()).map(|value| value.len()).sum();
    assert!((BUDGET / 2..most).contains(&bytes), "{bytes}");
    // The rest comes when there is room for it.
    let read = held.len();
    drop(held);
    for _ in read..1_200 {
        next(&mut consumer).await.expect("readable");
    }
}

#[tokio::test]
async fn a_batch_call_does_not_wait_for_records_that_its_own_leave_no_room_for() {
    let (_broker, mut consumer) = cluster(Compression::None, SOON).await;
    let mut read = 0;
    while read < 1_200 {
        let all = consumer.recv_batch(500, if read < 1_000 { SOON * 100 } else { Duration::ZERO });
        let batch = tokio::time::timeout(SOON, all).await.expect("in time").expect("readable").expect("open");
        read += batch.records.len();
        assert!(batch.records.len() * 1_000 < BUDGET);
    }
}

#[tokio::test]
async fn decompressed_bytes_count() {
    let (_broker, mut consumer) = cluster(Compression::Lz4, SOON).await;
    let control = consumer.control();
    tokio::time::timeout(SOON, consumer.recv()).await.expect("in time").expect("readable");
    let metrics = control.metrics();
    // A thousand equal bytes compress well.
    assert!(metrics.fetched_bytes < 20_000 && metrics.buffer_bytes > 20_000, "{metrics:?}");
}
