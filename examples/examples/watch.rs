//! What to look at while a consumer runs: lag in records and in time, health, and what happens without being asked for.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{Event, Payload, When};
use ottla_examples::{Failure, Playground};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(2).await?;
    let producer = playground.client.producer().build()?;
    for number in 0..500_u32 {
        drop(producer.topic(&playground.topic).enqueue(Payload::value(&number.to_be_bytes())).await?);
    }
    producer.close(Duration::from_secs(10)).await;

    let consumer = playground.client.consumer().group(&playground.group).subscribe([&playground.topic]);
    let mut consumer = consumer.commit_when(When::Every(Duration::from_secs(1))).build()?;

    // Partitions that come and go, positions that change although nobody asked for it, an eviction before it happens, and
    // partitions that stand still: nothing of it ends the loop below.
    let mut events = consumer.control().events();
    let told = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::PositionChanged { partition, to, lost: Some(lost), cause, .. } => {
                    println!("ALERT partition {partition} goes on at {to}, {lost:?} are lost: {cause:?}");
                }
                Event::Stalled { partition, reason, .. } => {
                    println!("ALERT partition {partition}: {reason:?}")
                }
                event => println!("event {event:?}"),
            }
        }
    });

    // For the probes of whoever runs the process: alive, and ready.
    let control = consumer.control();
    println!("before: {:?}", control.health());
    control.wait_assigned().await?;
    for count in 1..=500 {
        consumer.recv().await?.ok_or("closed")?;
        if count % 100 == 0 {
            let metrics = control.metrics();
            println!("{count}: {} behind, the oldest by {:?}", metrics.lag, metrics.time_lag_max);
        }
    }
    println!("after: {:?}", control.health());
    consumer.close(Duration::from_secs(10)).await?;
    told.await?;
    playground.close().await
}
