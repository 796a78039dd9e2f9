//! Fire and forget: nobody waits for anything. What cannot be taken at once is skipped, and what became of the rest is in
//! the metrics.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{Full, Payload};
use ottla_examples::{Failure, Playground};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(3).await?;
    let producer = playground.client.producer().buffer_memory(1 << 20).build()?;
    let clicks = producer.topic(&playground.topic);
    // Before the topic is known nothing can be taken: this one waits for it.
    drop(clicks.enqueue(Payload::value(b"click 0")).await?);

    let mut skipped = 0_u64;
    for number in 1..100_000_u32 {
        match clicks.try_enqueue(Payload::value(format!("click {number}").as_bytes())) {
            // Dropping a delivery detaches: the record is sent, and sent again if need be, only nobody hears of it.
            Ok(delivery) => drop(delivery),
            // Fewer clicks are better than a slow page.
            Err(Full::Buffer | Full::Metadata) => skipped += 1,
            Err(full) => return Err(full.into()),
        }
        if number % 1_000 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await; // a page is served
        }
    }

    // Even who forgets records closes the producer, so that what it holds is sent.
    producer.close(Duration::from_secs(10)).await;
    let metrics = producer.metrics();
    println!("{} written, {} failed, {skipped} skipped", metrics.records_written, metrics.records_failed);
    println!(
        "all of {} clicks are accounted for",
        metrics.records_written + metrics.records_failed + skipped
    );
    playground.close().await
}
