//! The numbers of a producer and a consumer on the bundled broker.

use std::time::Duration;

use ottla::{Client, ErrorKind, Payload};
use ottla_broker::{Fault, TestBroker};
use ottla_protocol::api::ApiKey;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_was_written_and_read_is_counted() {
    let broker = TestBroker::builder().topic("t", 2).start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = client.producer().batch_size(1_000).build().expect("valid settings");
    let topic = producer.topic("t");
    for n in 0..200_u8 {
        drop(topic.enqueue(Payload::new(&[n], &[n; 50])).await.expect("accepted"));
    }
    producer.flush(SOON).await.expect("acknowledged");
    let written = producer.metrics();
    assert_eq!((written.records_written, written.batch_records, written.records_failed), (200, 200, 0));
    assert!(written.errors.is_empty() && written.buffer_bytes == 0 && written.waiting_tasks == 0);
    assert!(written.batch_bytes >= 200 * 51 && written.sent_bytes > written.batch_bytes);
    assert!(written.fill() > 0.3 && written.fill() <= 1.0, "{} full", written.fill());
    assert_eq!(written.queue_time.count(), written.batches);
    assert!((1..=written.batches).contains(&written.request_latency.count()));

    let mut consumer = client.consumer().assign([("t", 0), ("t", 1)]).build().expect("valid settings");
    for _ in 0..150 {
        consumer.recv().await.expect("readable").expect("open");
    }
    let control = consumer.control();
    let lag = control.metrics().lag;
    assert!((50..=51).contains(&lag), "{lag}: the record in hand is not finished");
    for _ in 150..200 {
        consumer.recv().await.expect("readable").expect("open");
    }
    // Asking for more finishes the last one, and the wait ends without it.
    assert!(tokio::time::timeout(Duration::from_millis(50), consumer.recv()).await.is_err());
    let read = control.metrics();
    assert_eq!((read.records, read.lag), (200, 0));
    assert_eq!(read.fetched_bytes, written.sent_bytes, "what was written is what was fetched");
    assert!(read.fetch_latency.count() > 0);
}

#[tokio::test]
async fn retries_and_errors_are_counted_by_kind() {
    let broker = TestBroker::builder().topic("t", 1).start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = client.producer().build().expect("valid settings");
    let topic = producer.topic("t");
    topic.send(Payload::value(b"one")).await.expect("written");
    broker.fault(Fault::on(ApiKey::PRODUCE).fail(ottla::ErrorCode::NOT_ENOUGH_REPLICAS));
    topic.send(Payload::value(b"two")).await.expect("written by a retry");
    broker.fault(Fault::on(ApiKey::PRODUCE).fail(ottla::ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    topic.send(Payload::value(b"three")).await.expect_err("not allowed");
    let metrics = producer.metrics();
    assert_eq!((metrics.batches, metrics.retries), (3, 1));
    assert_eq!((metrics.records_written, metrics.records_failed), (2, 1));
    assert_eq!(metrics.errors.into_iter().collect::<Vec<_>>(), [(ErrorKind::Authorization, 1)]);
}

#[tokio::test]
async fn tasks_that_wait_are_counted_while_they_do() {
    let broker = TestBroker::builder().topic("t", 1).start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = client.producer().build().expect("valid settings");
    let nowhere = producer.topic("nowhere");
    let mut waiting = Box::pin(nowhere.enqueue(Payload::value(b"waits")));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err());
    assert_eq!(producer.metrics().waiting_tasks, 1);
    drop(waiting);
    assert_eq!(producer.metrics().waiting_tasks, 0);
}
