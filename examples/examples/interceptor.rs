//! Interceptors see every record of a producer: this one says in a header where a record came from, and counts outcomes.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla::{Error, Interceptor, Outgoing, Payload, RecordMetadata};
use ottla_examples::{Failure, Playground};

#[derive(Clone, Default)]
struct Audit {
    written: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Interceptor for Audit {
    /// Before the partition is chosen; everything of the record may be changed. A panic fails this record alone.
    fn on_send(&self, _topic: &str, record: &mut Outgoing<'_>) {
        record.headers.push(("service".into(), Some(b"coffee shop".into())));
    }

    /// Whether or not anybody waits for the delivery.
    fn on_outcome(&self, _topic: &str, outcome: &Result<RecordMetadata, Error>) {
        let counter = if outcome.is_ok() { &self.written } else { &self.lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(3).await?;
    let audit = Audit::default();
    let producer = playground.client.producer().interceptor(audit.clone()).build()?;
    let orders = producer.topic(&playground.topic);
    for number in 0..1_000_u32 {
        drop(orders.enqueue(Payload::value(&number.to_be_bytes())).await?);
    }
    // A record that is refused is told as well.
    orders
        .send(Payload { partition: Some(99), ..Payload::value(b"nowhere") })
        .await
        .expect_err("no such partition");
    producer.close(Duration::from_secs(10)).await;
    println!("{} written, {} not", audit.written.load(Ordering::Relaxed), audit.lost.load(Ordering::Relaxed));

    let records = playground.read(&playground.topic, 1_000).await?;
    let signed = records.iter().filter(|record| record.headers().any(|(name, _)| name == "service"));
    println!("{} records bear the header", signed.count());
    playground.close().await
}
