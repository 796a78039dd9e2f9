//! Steers a consumer while it reads: pause, resume, seek and lag, by a handle that works with a record in hand.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{Payload, SeekTo};
use ottla_examples::{Failure, Playground};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(2).await?;
    let topic = playground.topic.as_str();
    let producer = playground.client.producer().build()?;
    for number in 0..200_u32 {
        let partition = Some(i32::from(number % 2 == 1));
        let value = format!("record {number}");
        let payload = Payload { partition, ..Payload::value(value.as_bytes()) };
        drop(producer.topic(topic).enqueue(payload).await?);
    }
    producer.close(Duration::from_secs(10)).await;

    // Without a group: these partitions, from their beginning, and nothing is committed.
    let mut consumer = playground.client.consumer().assign([(topic, 0), (topic, 1)]).build()?;
    let control = consumer.control();

    // A paused partition keeps what was fetched of it, and delivers nothing.
    control.pause(topic, 1).await?;
    for _ in 0..100 {
        let record = consumer.recv().await?.ok_or("closed")?;
        assert_eq!(record.partition(), 0);
    }
    println!("all of partition 0, and nothing of partition 1, which lags by {:?}", control.lag());
    control.resume(topic, 1).await?;

    // A seek holds from here on: nothing from before it is delivered.
    control.seek(topic, 1, SeekTo::Offset(90)).await?;
    let record = consumer.recv().await?.ok_or("closed")?;
    println!("partition {} goes on at {}", record.partition(), record.offset());

    // With a record in hand as well, for `control` does not borrow the consumer.
    control.seek(record.topic(), 0, SeekTo::Beginning).await?;
    control.pause(record.topic(), record.partition()).await?;
    let record = consumer.recv().await?.ok_or("closed")?;
    println!("partition {} begins again at {}", record.partition(), record.offset());

    consumer.close(Duration::from_secs(10)).await?;
    playground.close().await
}
