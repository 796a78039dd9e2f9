//! krafka. Its consumer is measured at its own defaults and tuned by hand (`--settings equal`), which is what its cost
//! depends on most: with 500 records buffered it fetches the same bytes many times.

use std::sync::Arc;
use std::time::Duration;

use krafka::consumer::{AutoOffsetReset, Consumer};
use krafka::producer::{Acks, DeliveryHandle};
use krafka::{Compression, Kafka, Record};
use workload::{Meter, Mode, Producer, Settings, Tally, fail};

fn main() {
    let settings = Settings::from_arguments();
    settings.runtime().block_on(async {
        match settings.mode {
            Mode::Produce => workload::produce(Krafka::new(&settings).await, &settings).await,
            Mode::First => workload::first(Krafka::new(&settings).await, &settings).await,
            Mode::Consume => consume(&settings).await,
            Mode::Ack if settings.rate == 0 => {
                workload::closed_loop(&Krafka::new(&settings).await, &settings).await;
            }
            Mode::Ack => workload::open_loop(&Krafka::new(&settings).await, &settings).await,
            Mode::Deliver => deliver(&settings).await,
        }
    });
}

async fn connect(settings: &Settings) -> Kafka {
    Kafka::builder(settings.brokers.clone()).connect().await.unwrap_or_else(|e| fail(e))
}

struct Krafka {
    producer: krafka::producer::Producer,
    topic: String,
}

impl Krafka {
    async fn new(settings: &Settings) -> Krafka {
        let mut builder = connect(settings).await.producer();
        builder = match settings.compression.as_str() {
            "none" => builder,
            "gzip" => builder.compression(Compression::Gzip),
            "snappy" => builder.compression(Compression::Snappy),
            "lz4" => builder.compression(Compression::Lz4),
            "zstd" => builder.compression(Compression::Zstd),
            other => fail(format!("unknown compression {other}")),
        };
        if let Some(tuning) = settings.tuning {
            builder = builder
                .acks(Acks::All)
                .idempotent(true)
                .linger(Duration::from_millis(tuning.linger_ms))
                .batch_size(tuning.batch_bytes)
                .metrics_push(false);
        }
        let producer = builder.build().await.unwrap_or_else(|e| fail(e));
        Krafka { producer, topic: settings.topic.clone() }
    }
}

impl Producer for Krafka {
    type Ack = DeliveryHandle;

    async fn enqueue(&self, value: &[u8]) -> Result<DeliveryHandle, String> {
        // The API takes owned values.
        let record = Record::new(self.topic.as_str(), value.to_vec());
        self.producer.enqueue(record).await.map_err(|e| e.to_string())
    }

    async fn settle(ack: DeliveryHandle) -> Result<(), String> {
        ack.await.map(drop).map_err(|e| e.to_string())
    }
}

async fn assigned(settings: &Settings) -> Consumer {
    let mut builder = connect(settings)
        .await
        .consumer_without_group()
        .auto_offset_reset(AutoOffsetReset::Earliest)
        .enable_auto_commit(false);
    if settings.tuning.is_some() {
        builder = builder.max_poll_records(2000).max_buffered_records(20_000).metrics_push(false);
    }
    let consumer = builder.build().await.unwrap_or_else(|e| fail(e));
    let partitions = (0..settings.partitions).collect();
    consumer.assign(&settings.topic, partitions).await.unwrap_or_else(|e| fail(e));
    consumer
}

async fn consume(settings: &Settings) {
    let meter = Meter::start();
    let consumer = assigned(settings).await;
    let mut tally = Tally::default();
    while tally.records() < settings.records {
        match consumer.poll(Duration::from_millis(100)).await {
            Ok(records) => {
                records.iter().for_each(|record| tally.add(record.value.as_deref().unwrap_or(&[])))
            }
            Err(problem) => fail(problem),
        }
    }
    tally.report(settings, meter);
}

async fn deliver(settings: &Settings) {
    let consumer = assigned(settings).await;
    workload::delivery_loop(Arc::new(Krafka::new(&settings.without_linger()).await), settings, |arrivals| {
        tokio::spawn(async move {
            while let Ok(Some(_)) = consumer.recv().await {
                arrivals.note();
            }
        });
    })
    .await;
}
