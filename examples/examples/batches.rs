//! Consumes in batches that are written elsewhere as a whole, and commits each by hand once that is done.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{OwnedRecord, Payload, When};
use ottla_examples::{Failure, Playground};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(3).await?;
    let producer = playground.client.producer().build()?;
    let orders = producer.topic(&playground.topic);
    for number in 0..2_000_u32 {
        drop(orders.enqueue(Payload::value(&number.to_be_bytes())).await?);
    }
    producer.close(Duration::from_secs(10)).await;

    let mut consumer = playground
        .client
        .consumer()
        .group(&playground.group)
        .subscribe([&playground.topic])
        .commit_when(When::Manual)
        .max_poll_records(1_000)
        .build()?;

    let mut stored = 0;
    while stored < 2_000 {
        // At most 800 records: those that are there, and those that come within 50 ms. They are copies, and may go to
        // other tasks.
        let Some(batch) = consumer.recv_batch(800, Duration::from_millis(50)).await? else { break };
        store(&batch.records).await?;
        stored += batch.records.len();

        // Finishes the batch and commits it. What another member has meanwhile is no error: that one reads on from the
        // last commit.
        let outcome = consumer.commit().await?;
        println!("stored {} records, superseded: {:?}", batch.records.len(), outcome.superseded);
    }
    consumer.close(Duration::from_secs(10)).await?;
    playground.close().await
}

/// Stands for a database: all of the records are in it afterwards, or none.
async fn store(_records: &[OwnedRecord]) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}
