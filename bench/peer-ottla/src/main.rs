//! ottla, with nothing set by hand but what every client is given.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ottla::{Acks, Client, Compression, Consumer, Delivery, Payload, ProducerBuilder, Topic};
use workload::{Meter, Mode, Producer, Settings, Tally, Values, fail};

fn main() {
    let settings = Settings::from_arguments();
    settings.runtime().block_on(async {
        match settings.mode {
            Mode::Produce if settings.transaction > 0 => transactions(&settings).await,
            Mode::Produce => workload::produce(Ottla::new(&settings), &settings).await,
            Mode::First => workload::first(Ottla::new(&settings), &settings).await,
            Mode::Consume => consume(&settings).await,
            Mode::Ack if settings.rate == 0 => workload::closed_loop(&Ottla::new(&settings), &settings).await,
            Mode::Ack => workload::open_loop(&Ottla::new(&settings), &settings).await,
            Mode::Deliver => deliver(&settings).await,
        }
    });
}

fn client(settings: &Settings) -> Client {
    Client::builder().bootstrap(&settings.brokers).build().unwrap_or_else(|e| fail(e))
}

fn producer(settings: &Settings) -> ProducerBuilder {
    let builder = client(settings).producer();
    let builder = match settings.compression.as_str() {
        "none" => builder,
        "gzip" => builder.compression(Compression::Gzip),
        "snappy" => builder.compression(Compression::Snappy),
        "lz4" => builder.compression(Compression::Lz4),
        "zstd" => builder.compression(Compression::Zstd),
        other => fail(format!("unknown compression {other}")),
    };
    match settings.tuning {
        None => builder,
        Some(tuning) => builder
            .acks(Acks::All)
            .idempotence(true)
            .max_in_flight(tuning.in_flight)
            .linger(Duration::from_millis(tuning.linger_ms))
            .batch_size(tuning.batch_bytes),
    }
}

/// The commit of a transaction waits for its records.
async fn transactions(settings: &Settings) {
    let values = Values::new(settings.size, settings.records);
    let builder = producer(settings).transactional_id("bench");
    let mut producer = builder.build_transactional().unwrap_or_else(|e| fail(e));
    let mut write = async |records: Range<u64>| {
        let transaction = producer.begin().await?;
        let topic = transaction.topic(&settings.topic);
        for number in records {
            drop(topic.enqueue(Payload::value(values.get(number))).await?);
        }
        transaction.commit().await
    };
    let sent = async {
        write(0..1).await?;
        let meter = Meter::start();
        let mut next = 1;
        while next < settings.records {
            let end = settings.records.min(next + settings.transaction);
            write(next..end).await?;
            next = end;
        }
        Ok::<_, ottla::Error>(meter)
    };
    let meter = sent.await.unwrap_or_else(|e| fail(e));
    meter.report(settings, settings.records.saturating_sub(1), 0, Vec::new());
}

struct Ottla(Topic);

impl Ottla {
    fn new(settings: &Settings) -> Ottla {
        Ottla(producer(settings).build().unwrap_or_else(|e| fail(e)).topic(&settings.topic))
    }
}

impl Producer for Ottla {
    type Ack = Delivery;

    async fn enqueue(&self, value: &[u8]) -> Result<Delivery, String> {
        self.0.enqueue(Payload::value(value)).await.map_err(|e| e.to_string())
    }

    async fn settle(ack: Delivery) -> Result<(), String> {
        ack.await.map(drop).map_err(|e| e.to_string())
    }
}

fn assigned(settings: &Settings) -> Consumer {
    let partitions = (0..settings.partitions).map(|partition| (&settings.topic, partition));
    client(settings).consumer().assign(partitions).build().unwrap_or_else(|e| fail(e))
}

async fn consume(settings: &Settings) {
    let meter = Meter::start();
    let mut consumer = assigned(settings);
    let mut tally = Tally::default();
    while tally.records() < settings.records {
        match consumer.recv().await {
            Ok(Some(record)) => tally.add(record.value().unwrap_or(&[])),
            Ok(None) => fail("the consumer ended"),
            Err(problem) => fail(problem),
        }
    }
    tally.report(settings, meter);
}

async fn deliver(settings: &Settings) {
    let mut consumer = assigned(settings);
    workload::delivery_loop(Arc::new(Ottla::new(&settings.without_linger())), settings, |arrivals| {
        tokio::spawn(async move {
            while let Ok(Some(_)) = consumer.recv().await {
                arrivals.note();
            }
        });
    })
    .await;
}
