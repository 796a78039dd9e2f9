//! Without a group: partitions are named, and how far they were read is kept by the application, with what it made of them.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::collections::BTreeMap;
use std::time::Duration;

use ottla::{Payload, SeekTo};
use ottla_examples::{Failure, Playground};

/// What is stored in one step, here in memory: a sum, and the offsets behind the records that are in it.
#[derive(Clone, Default)]
struct Stored {
    sum: u64,
    next: BTreeMap<i32, i64>,
}

/// Reads on from what is stored, at most `count` records, and stores after each ten.
async fn work(playground: &Playground, stored: &mut Stored, count: usize) -> Result<(), Failure> {
    let topic = playground.topic.as_str();
    let mut consumer = playground.client.consumer().assign([(topic, 0), (topic, 1)]).build()?;
    for (partition, offset) in &stored.next {
        consumer.control().seek(topic, *partition, SeekTo::Offset(*offset)).await?;
    }
    let mut working = stored.clone();
    for number in 1..=count {
        let record = consumer.recv().await?.ok_or("closed")?;
        let value: [u8; 8] = record.value().unwrap_or_default().try_into()?;
        working.sum += u64::from_be_bytes(value);
        working.next.insert(record.partition(), record.offset() + 1);
        if number % 10 == 0 {
            *stored = working.clone();
        }
    }
    // What was not stored is lost here, as in a crash, and is read again.
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(2).await?;
    let producer = playground.client.producer().build()?;
    for number in 1..=100_u64 {
        let partition = Some(i32::from(number % 2 == 0));
        let value = number.to_be_bytes();
        let payload = Payload { partition, ..Payload::value(&value) };
        producer.topic(&playground.topic).send(payload).await?;
    }
    producer.close(Duration::from_secs(10)).await;

    let mut stored = Stored::default();
    work(&playground, &mut stored, 37).await?;
    println!("a crash after 37 records, of which {:?} are stored", stored.next);
    work(&playground, &mut stored, 70).await?;
    println!("the sum of 1 to 100 is {}, each counted once", stored.sum);
    playground.close().await
}
