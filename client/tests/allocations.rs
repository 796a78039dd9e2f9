//! What a record costs in allocations, from `enqueue` to its acknowledgement: batches and requests may allocate, records
//! may not. Everything of the client runs on the thread that is measured; the broker has threads of its own.

use std::sync::mpsc;
use std::time::Duration;

use ottla::{Client, Compression, Deliveries, Payload, Topic};
use ottla_broker::TestBroker;

/// Lets a broker run on another thread until the returned sender is dropped; says where it listens.
fn broker() -> (String, mpsc::Sender<()>) {
    let (keep, until) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let started = TestBroker::builder().topic("t", 6).start();
        let broker = runtime.block_on(started).expect("a broker");
        tell.send(broker.bootstrap()).expect("somebody listens");
        let _ = until.recv();
    });
    (told.recv().expect("the broker has started"), keep)
}

/// Enqueues `count` records of 100 bytes with at most 10,000 of them unacknowledged.
async fn produce(topic: &Topic, window: &mut Deliveries, count: u32) {
    for _ in 0..count {
        let accepted = topic.enqueue(Payload::value(&[b'x'; 100])).await;
        window.push(accepted.expect("accepted"));
        if window.len() >= 10_000 {
            window.next().await.expect("the window is full").expect("written");
        }
    }
    while let Some(written) = window.next().await {
        written.expect("written");
    }
}

/// Asserts that a record costs at most `limit` allocations, in batches of up to `batch_size` bytes.
#[track_caller]
fn check(compression: Compression, batch_size: usize, limit: f64) {
    const RECORDS: u32 = 100_000;
    let (bootstrap, _keep) = broker();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (producer, topic, mut window) = runtime.block_on(async {
        let client = Client::builder().bootstrap(bootstrap).build().expect("valid settings");
        let producer = client.producer().compression(compression).batch_size(batch_size);
        let producer = producer.build().expect("valid settings");
        let (topic, mut window) = (producer.topic("t"), Deliveries::default());
        // Connections, metadata, and buffers that are used again.
        produce(&topic, &mut window, RECORDS / 4).await;
        (producer, topic, window)
    });
    let measured = allocation_counter::measure(|| runtime.block_on(produce(&topic, &mut window, RECORDS)));
    let each = measured.count_total as f64 / f64::from(RECORDS);
    assert!(measured.count_total > 0, "nothing was counted, not even batches");
    assert!(each <= limit, "{compression}, {batch_size}: {each} allocations a record");
    runtime.block_on(producer.close(Duration::from_secs(10)));
}

#[test]
fn a_record_costs_no_allocation() {
    check(Compression::None, 128 << 10, 0.05);
}

#[test]
fn a_compressed_record_costs_no_allocation() {
    check(Compression::Lz4, 128 << 10, 0.05);
}

/// A batch of 16 KiB holds 148 of these records, and may cost a dozen of allocations and some.
#[test]
fn small_batches_cost_few_allocations_each() {
    check(Compression::None, 16 << 10, 0.15);
    check(Compression::Lz4, 16 << 10, 0.15);
}
