//! Produces many records: enqueue them all, then see what became of each.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{Deliveries, Header, Outcome, Payload};
use ottla_examples::{Failure, Playground};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(3).await?;
    let producer = playground.client.producer().linger(Duration::from_millis(5)).build()?;
    let orders = producer.topic(&playground.topic);

    // One at a time: the place of the record, after a round trip.
    let written = orders.send(Payload::new(b"4711", b"one cup of coffee")).await?;
    println!("partition {}, offset {:?}", written.partition, written.offset);

    // Many: `enqueue` waits only for room in the producer's memory. A payload is borrowed, and copied once, into its
    // batch.
    let mut deliveries = Deliveries::default();
    for number in 0..100_000_u32 {
        let (key, value) = (format!("customer {}", number % 1_000), format!("order {number}"));
        let headers = [Header { key: "shop", value: Some(b"Chur") }];
        let payload = Payload { headers: &headers, ..Payload::keyed(key.as_bytes(), value.as_bytes()) };
        deliveries.push(orders.enqueue(payload).await?);
    }

    // Each delivery resolves, by `delivery.timeout.ms` at the latest. An error says whether the record may be there.
    let mut acknowledged = 0;
    while let Some(delivery) = deliveries.next().await {
        match delivery {
            Ok(_) => acknowledged += 1,
            Err(error) if error.outcome() == Some(Outcome::PossiblyWritten) => println!("in doubt: {error}"),
            Err(error) => println!("not written: {error}"),
        }
    }
    println!("{acknowledged} records were written");

    // The graceful end: what is still on its way is waited for, and the report says what was not done in time.
    let report = producer.close(Duration::from_secs(10)).await;
    println!("{report:?}");
    playground.close().await
}
