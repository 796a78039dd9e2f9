//! Takes a configuration as it was written for Kafka's Java client or for librdkafka, and names all that is wrong in it.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{ClientBuilder, Payload};
use ottla_examples::{Failure, Playground};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Misspelt keys, values that cannot be, and contradictions are reported together. Nothing is ignored in silence.
    let mistakes =
        [("acks", "1"), ("enable.idempotence", "true"), ("linger.sm", "5"), ("batch.size", "16 KB")];
    println!("{}\n", ClientBuilder::from_properties(mistakes).expect_err("three mistakes"));

    // Values may hold for producers, for consumers or for both; what is left out has Java's default, not ottla's.
    let file = "
        compression.type = zstd
        linger.ms        = 20
        # librdkafka's name of buffer.memory
        queue.buffering.max.kbytes = 16384
        # something that only Java has
        metric.reporters = com.example.Reporter
    ";
    let lines = file.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let properties =
        lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
    let builder = ClientBuilder::from_properties(properties)?;
    for warning in builder.warnings() {
        println!("warning: {warning}");
    }

    // The typed setters work on it too.
    let playground = Playground::open(1).await?;
    let client = builder.bootstrap(&playground.bootstrap).client_id("coffee shop").build()?;
    let producer = client.producer().linger(Duration::ZERO).build()?;
    let written = producer.topic(&playground.topic).send(Payload::value(b"one cup of coffee")).await?;
    println!("written to partition {}", written.partition);
    producer.close(Duration::from_secs(10)).await;
    playground.close().await
}
