//! The codecs compared on the same data: a week of earthquakes as JSON, ten times.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::{Duration, Instant};

use ottla::format::{Encode, Encoding};
use ottla::{Compression, Payload};
use ottla_examples::{Failure, Playground, earthquakes, grouped};
use ottla_serde::Json;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(3).await?;
    let (events, _) = earthquakes::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/earthquakes.csv"))?;
    println!("codec   bytes of records    on the wire    ratio    records a batch    time");
    for compression in Compression::ALL {
        // Codecs find more to save in large batches, and linger lets them grow. Batches fill by what they compress to.
        let producer = playground.client.producer().compression(compression);
        let producer = producer.batch_size(131_072).linger(Duration::from_millis(50)).build()?;
        let topic = producer.topic(&playground.topic);

        let (start, mut value) = (Instant::now(), Vec::new());
        for event in events.iter().cycle().take(10 * events.len()) {
            value.clear();
            Json.encode(event, &mut Encoding::value(topic.name(), &mut value))?;
            drop(topic.enqueue(Payload::keyed(event.network.as_bytes(), &value)).await?);
        }
        producer.flush(Duration::from_secs(30)).await?;

        let (metrics, took) = (producer.metrics(), start.elapsed());
        println!(
            "{:<6} {:>17} {:>14} {:>8.2} {:>18.0}    {took:.0?}",
            compression.name(),
            grouped(metrics.batch_bytes),
            grouped(metrics.sent_bytes),
            metrics.batch_bytes as f64 / metrics.sent_bytes as f64,
            metrics.records_per_batch(),
        );
        assert_eq!(metrics.records_written, 10 * events.len() as u64);
        producer.close(Duration::from_secs(10)).await;
    }
    playground.close().await
}
