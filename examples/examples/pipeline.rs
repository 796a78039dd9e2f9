//! Consume, transform, produce, exactly once: each order becomes one invoice, although the work fails in the middle now and
//! then.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::collections::BTreeSet;
use std::time::Duration;

use ottla::{IsolationLevel, Payload, Pipeline, Step, When};
use ottla_examples::{Failure, Playground};

const ORDERS: usize = 1_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut playground = Playground::open(3).await?;
    let invoices = playground.add_topic("invoices").await?;
    let producer = playground.client.producer().build()?;
    let orders = producer.topic(&playground.topic);
    for number in 0..ORDERS {
        drop(orders.enqueue(Payload::value(format!("order {number}").as_bytes())).await?);
    }
    producer.close(Duration::from_secs(10)).await;

    // A pipeline owns both ends: its transactions commit what was read together with what was written.
    let consumer = playground.client.consumer().group(&playground.group).subscribe([&playground.topic]);
    let consumer =
        consumer.isolation_level(IsolationLevel::ReadCommitted).commit_when(When::Manual).build()?;
    let producer = playground.client.producer().transactional_id(&playground.group).build_transactional()?;
    let mut pipeline = Pipeline::new(consumer, producer)?;

    let (mut done, mut attempts) = (0, 0);
    while done < ORDERS {
        attempts += 1;
        let step = pipeline
            .step(100, Duration::from_millis(50), async |orders, transaction| {
                let topic = transaction.topic(&invoices);
                for (at, order) in orders.iter().enumerate() {
                    if attempts % 3 == 2 && at == orders.len() / 2 {
                        return Err(Failure::from("out of paper")); // half of the invoices are written already
                    }
                    let order = String::from_utf8_lossy(order.value().ok_or("an order without a value")?);
                    drop(topic.enqueue(Payload::value(format!("invoice for {order}").as_bytes())).await?);
                }
                Ok(orders.len())
            })
            .await;
        match step {
            Ok(Some(Step::Committed(count))) => done += count,
            // A rebalance or a lost broker: aborted, and the orders come again, here or to another member.
            Ok(Some(Step::Repeated(reason))) => println!("again: {reason}"),
            Ok(None) => break,
            // Ours to judge. The orders come again here too.
            Err(reason) => println!("again: {reason}"),
        }
    }
    pipeline.close(Duration::from_secs(10)).await?;

    let written = playground.read(&invoices, ORDERS).await?;
    let distinct: BTreeSet<_> = written.iter().map(|invoice| invoice.value()).collect();
    println!("{} orders, {} invoices, {} of them distinct", ORDERS, written.len(), distinct.len());
    playground.close().await
}
