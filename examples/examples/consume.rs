//! Consumes as a member of a group, with 1+N hybrid commits, until Ctrl-C or a thousand records.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{Payload, When};
use ottla_examples::{Failure, Playground};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(3).await?;
    let producer = playground.client.producer().build()?;
    let orders = producer.topic(&playground.topic);
    for number in 0..1_000_u32 {
        // Nobody looks at this delivery: the record is sent all the same, and `close` waits for it.
        drop(orders.enqueue(Payload::value(&number.to_be_bytes())).await?);
    }
    producer.close(Duration::from_secs(10)).await;

    let mut consumer = playground
        .client
        .consumer()
        .group(&playground.group)
        .subscribe([&playground.topic])
        // A commit after 100 finished records of a partition, and where one has waited for a second.
        .commit_when(When::Hybrid { records: 100, within: Duration::from_secs(1) })
        .build()?;

    // `Control` is for other tasks: this one ends the loop below, between two records.
    let control = consumer.control();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            control.close();
        }
    });

    // Asking for the next record finishes the one before. Leaving the loop by `?` or `break` does not: the record in
    // hand will be delivered again.
    let mut count = 0;
    while let Some(record) = consumer.recv().await? {
        count += 1;
        if count % 250 == 0 {
            println!("partition {}, offset {}: {:?}", record.partition(), record.offset(), record.value());
        }
        if count == 1_000 {
            // Enough for an example. This finishes the record in hand too.
            record.commit().await?;
            break;
        }
    }
    println!("{count} records");

    // Commits what is finished, and leaves the group, so that other members need not wait for a timeout.
    consumer.close(Duration::from_secs(10)).await?;
    let committed = playground.client.admin().committed_offsets(&playground.group).await?;
    println!("{} committed", committed.values().map(|committed| committed.offset).sum::<i64>());
    playground.close().await
}
