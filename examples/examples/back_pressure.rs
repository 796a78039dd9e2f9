//! Back-pressure: a producer holds no more than its buffer, and whoever is faster than the cluster waits, or does something
//! else meanwhile.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{ErrorKind, Full, Outcome, Payload};
use ottla_examples::{Failure, Playground, grouped};

const BUFFER_BYTES: usize = 128 << 10;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(3).await?;
    let producer = playground
        .client
        .producer()
        .buffer_memory(BUFFER_BYTES)
        // How long `enqueue` waits for room before it is an error.
        .max_block(Duration::from_secs(20))
        .build()?;

    // Four tasks that know no limit. Each waits in `enqueue` while there is no room, first come, first served.
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let topic = producer.topic(&playground.topic);
        tasks.push(tokio::spawn(async move {
            for _ in 0..5_000 {
                drop(topic.enqueue(Payload::value(&[b'x'; 1_000])).await?);
            }
            Ok::<(), ottla::Error>(())
        }));
    }
    let mut most = 0;
    while !tasks.iter().all(|task| task.is_finished()) {
        most = most.max(producer.metrics().buffer_bytes);
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    for task in tasks {
        task.await??;
    }
    println!("20,000 records of 1,000 bytes, and at most {} bytes in memory", grouped(most as u64));
    assert!(most <= BUFFER_BYTES);

    // Without waiting: the caller keeps the record, and decides.
    let topic = producer.topic(&playground.topic);
    let refused = loop {
        match topic.try_enqueue(Payload::value(&[b'x'; 10_000])) {
            Ok(delivery) => drop(delivery),
            Err(full) => break full,
        }
    };
    println!("try_enqueue says: {refused} ({})", matches!(refused, Full::Buffer));

    // What can never fit is refused at once, and is certainly not written.
    let error =
        topic.enqueue(Payload::value(&[b'x'; 2 * BUFFER_BYTES])).await.map(drop).expect_err("too large");
    println!("{error}");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::RecordTooLarge, Some(Outcome::NotWritten)));
    producer.close(Duration::from_secs(10)).await;
    playground.close().await
}
