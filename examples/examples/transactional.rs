//! Transactions: all records of one are seen, or none, in however many topics and partitions they are.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::Payload;
use ottla_examples::{Failure, Playground};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut playground = Playground::open(3).await?;
    let (debits, credits) = (playground.add_topic("debits").await?, playground.add_topic("credits").await?);
    // The same name for each start of the same part of a service: a new start fences the one before.
    let producer = playground.client.producer().transactional_id(&playground.group);
    let mut bank = producer.build_transactional()?;

    for (from, to, francs) in [("Ada", "Ben", "20"), ("Ben", "Cleo", "1000000"), ("Cleo", "Ada", "5")] {
        // Committed if the work returns Ok, aborted if it returns an error or is dropped.
        let transferred = bank
            .run(async |transaction| {
                // Deliveries need not be looked at: if one fails, the commit says so.
                let debit = Payload::keyed(from.as_bytes(), francs.as_bytes());
                drop(transaction.topic(&debits).enqueue(debit).await?);
                if francs.len() > 6 {
                    return Err(Failure::from("too much"));
                }
                let credit = Payload::keyed(to.as_bytes(), francs.as_bytes());
                drop(transaction.topic(&credits).enqueue(credit).await?);
                Ok(())
            })
            .await;
        match transferred {
            Ok(()) => println!("{from} to {to}: {francs} francs"),
            Err(reason) => println!("{from} to {to}: nothing, for it is {reason}"),
        }
    }
    bank.close(Duration::from_secs(10)).await;

    // Readers of committed records see the transfers that were done, and nothing of the other.
    let (debits, credits) = (playground.read(&debits, 2).await?, playground.read(&credits, 2).await?);
    println!("{} debits and {} credits are seen", debits.len(), credits.len());
    playground.close().await
}
