//! Places records by a rule of one's own: a partitioner sees the key and the partitions as they are now.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::Payload;
use ottla::partitioners::{ANY, Keyed, Partitioner, TopicView, murmur2};
use ottla_examples::{Failure, Playground};

/// Partition 0 is for orders that cannot wait; all others share the rest, by Kafka's hash of the key.
struct ExpressLane;

impl Partitioner for ExpressLane {
    fn partition(&self, record: &Keyed<'_>, topic: &TopicView<'_>) -> i32 {
        match record.key {
            Some(key) if key.starts_with(b"express/") => 0,
            Some(key) => 1 + murmur2::keyed(key, topic.count() - 1),
            None => ANY, // wherever the producer has room
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(4).await?;
    let producer = playground.client.producer().partitioner(ExpressLane).build()?;
    let orders = producer.topic(&playground.topic);
    for key in ["express/1", "2", "3", "express/4", "5", "6"] {
        let written = orders.send(Payload::keyed(key.as_bytes(), b"one cup of coffee")).await?;
        println!("{key} went to partition {}", written.partition);
    }
    producer.close(Duration::from_secs(10)).await;
    playground.close().await
}
