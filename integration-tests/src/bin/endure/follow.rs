//! What a group of several clients' members needs of ottla: a member that says what it receives, and somebody who writes.
//!
//! It owns the words that `clients/mixed/run.py` reads. Invariant: a member says a record before it asks for the next, and
//! leaves its group when its standard input ends.

use super::{Options, client};
use ottla::{ClientBuilder, Payload};
use ottla_integration_tests::judge::{self, Judge};
use ottla_integration_tests::{Failure, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

const CLOSE: Duration = Duration::from_secs(30);

/// Reads a topic as the properties say, which are Java's.
pub(super) async fn follow(options: &Options) -> Result<(), Failure> {
    let client = ClientBuilder::from_properties(options.properties.iter().map(|(key, value)| (key, value)))?
        .build()?;
    let mut consumer = client.consumer().subscribe([&options.from]).build()?;
    let control = consumer.control();
    tokio::spawn(async move {
        // However it ends, nobody wants more.
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
        control.close();
    });
    while let Some(record) = consumer.recv().await? {
        println!("{} {}", record.partition(), record.offset());
    }
    Ok(consumer.close(CLOSE).await?)
}

/// Creates a topic, says so, and writes records at a rate; says in the end how many are in each partition.
pub(super) async fn write(options: &Options) -> Result<(), Failure> {
    let topic = &options.from;
    Judge::new(judge::tcp(), &options.brokers)?.create_topic(topic, options.partitions, &[]).await?;
    println!("ready");
    let producer = client(options)?.producer().build()?;
    let (topic, began) = (producer.topic(topic), Instant::now());
    let (mut open, mut ends) = (ottla::Deliveries::default(), BTreeMap::<i32, i64>::new());
    for number in 0..options.records {
        open.push(topic.enqueue(Payload::value(&number.to_be_bytes())).await?);
        while open.len() > usize::try_from(options.rate)?
            && let Some(written) = open.next().await
        {
            *ends.entry(written?.partition).or_default() += 1;
        }
        if number % 20 == 0 {
            let due = Duration::from_secs_f64(number as f64 / options.rate.max(1) as f64);
            sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
    while let Some(written) = open.next().await {
        *ends.entry(written?.partition).or_default() += 1;
    }
    let report = producer.close(CLOSE).await;
    ensure!(report.failed == 0 && report.unknown == 0, "{report:?}");
    ends.iter().for_each(|(partition, end)| println!("{partition} {end}"));
    Ok(())
}
