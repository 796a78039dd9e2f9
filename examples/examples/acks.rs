//! Acknowledgements compared: what each promises, and what it costs to wait for.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::{Duration, Instant};

use ottla::{Acks, Payload};
use ottla_examples::{Failure, Playground};

const RECORDS: u32 = 500;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(3).await?;
    for (acks, promise) in [
        (Acks::All, "all replicas in sync have it: it survives the loss of brokers"),
        (Acks::Leader, "the leader has it: it is lost with the leader, if that fails too soon"),
        (Acks::None, "it was sent: nobody says whether it arrived, and it has no offset"),
    ] {
        // Idempotence is a promise too: it needs the acknowledgement of all, and is given up here for less.
        let producer = playground.client.producer().acks(acks).idempotence(acks == Acks::All);
        let producer = producer.linger(Duration::ZERO).build()?;
        let topic = producer.topic(&playground.topic);
        topic.send(Payload::value(b"connections are open from here on")).await?;

        let start = Instant::now();
        let mut offset = None;
        for number in 0..RECORDS {
            offset = topic.send(Payload::value(&number.to_be_bytes())).await?.offset;
        }
        let each = start.elapsed() / RECORDS;
        println!("{acks:?}: {each:.0?} a record, one after the other; last offset {offset:?}");
        println!("    {promise}");
        producer.close(Duration::from_secs(10)).await;
    }
    println!("waiting for each record is what costs: enqueue many, await the deliveries later");
    playground.close().await
}
