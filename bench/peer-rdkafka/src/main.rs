//! rdkafka (librdkafka): `--api base` is BaseProducer and BaseConsumer, `--api future` FutureProducer and StreamConsumer.
//!
//! The base APIs see acknowledgements only when the application polls, so latencies are those of the futures.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{
    BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer as _, ProducerContext,
};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use workload::{Meter, Mode, Producer, Settings, Tally, Values, fail};

/// More than any call takes where nothing fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let settings = Settings::from_arguments();
    let base = settings.api == "base";
    match settings.mode {
        Mode::Produce if settings.transaction > 0 => transactions(&settings),
        Mode::Produce if base => produce_base(&settings),
        Mode::Consume if base => consume_base(&settings),
        mode => settings.runtime().block_on(async {
            match mode {
                Mode::Produce => workload::produce(Future::new(&settings), &settings).await,
                Mode::First => workload::first(Future::new(&settings), &settings).await,
                Mode::Consume => consume_stream(&settings).await,
                Mode::Ack if settings.rate == 0 => {
                    workload::closed_loop(&Future::new(&settings), &settings).await
                }
                Mode::Ack => workload::open_loop(&Future::new(&settings), &settings).await,
                Mode::Deliver => deliver(&settings).await,
            }
        }),
    }
}

fn producer_config(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.brokers);
    if settings.compression != "none" {
        config.set("compression.type", &settings.compression);
    }
    if let Some(tuning) = settings.tuning {
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", tuning.in_flight.to_string())
            .set("linger.ms", tuning.linger_ms.to_string())
            .set("batch.size", tuning.batch_bytes.to_string())
            .set("batch.num.messages", "1000000")
            .set("queue.buffering.max.messages", (settings.window + 10_000).to_string());
    }
    config
}

struct Future {
    producer: FutureProducer,
    topic: String,
}

impl Future {
    fn new(settings: &Settings) -> Future {
        let producer = producer_config(settings).create().unwrap_or_else(|e| fail(e));
        Future { producer, topic: settings.topic.clone() }
    }
}

impl Producer for Future {
    type Ack = DeliveryFuture;

    async fn enqueue(&self, value: &[u8]) -> Result<DeliveryFuture, String> {
        let mut record = FutureRecord::<(), [u8]>::to(&self.topic).payload(value);
        loop {
            match self.producer.send_result(record) {
                Ok(ack) => return Ok(ack),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                    record = same;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err((problem, _)) => return Err(problem.to_string()),
            }
        }
    }

    async fn settle(ack: DeliveryFuture) -> Result<(), String> {
        match ack.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((problem, _))) => Err(problem.to_string()),
            Err(canceled) => Err(canceled.to_string()),
        }
    }
}

/// Counts deliveries; its callbacks run inside `poll`.
#[derive(Clone, Default)]
struct Deliveries {
    settled: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        self.settled.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
    }
}

fn produce_base(settings: &Settings) {
    let deliveries = Deliveries::default();
    let producer: BaseProducer<Deliveries> =
        producer_config(settings).create_with_context(deliveries.clone()).unwrap_or_else(|e| fail(e));
    let values = Values::new(settings.size, settings.records);
    let send = |value: &[u8]| {
        let mut record = BaseRecord::<(), [u8]>::to(&settings.topic).payload(value);
        while let Err((problem, same)) = producer.send(record) {
            match problem {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => nap(&producer),
                problem => fail(problem),
            }
            record = same;
        }
    };
    let settled = || deliveries.settled.load(Ordering::Relaxed);
    send(values.get(0));
    while settled() == 0 {
        nap(&producer);
    }
    let meter = Meter::start();
    for number in 1..settings.records {
        send(values.get(number));
        if number % 1024 == 0 {
            drain(&producer);
            while producer.in_flight_count() as usize >= settings.window {
                nap(&producer);
            }
        }
    }
    while settled() < settings.records {
        nap(&producer);
    }
    meter.report(
        settings,
        settings.records.saturating_sub(1),
        deliveries.failed.load(Ordering::Relaxed),
        Vec::new(),
    );
}

/// The commit of a transaction waits for its records.
fn transactions(settings: &Settings) {
    let mut config = producer_config(settings);
    config.set("transactional.id", "bench");
    let deliveries = Deliveries::default();
    let producer: BaseProducer<Deliveries> =
        config.create_with_context(deliveries.clone()).unwrap_or_else(|e| fail(e));
    let values = Values::new(settings.size, settings.records);
    let write = |records: Range<u64>| {
        producer.begin_transaction()?;
        for number in records {
            let mut record = BaseRecord::<(), [u8]>::to(&settings.topic).payload(values.get(number));
            while let Err((problem, same)) = producer.send(record) {
                match problem {
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => nap(&producer),
                    problem => return Err(problem),
                }
                record = same;
            }
        }
        producer.flush(PATIENCE)?;
        producer.commit_transaction(PATIENCE)
    };
    let sent = || {
        producer.init_transactions(PATIENCE)?;
        write(0..1)?;
        let meter = Meter::start();
        let mut next = 1;
        while next < settings.records {
            let end = settings.records.min(next + settings.transaction);
            write(next..end)?;
            next = end;
        }
        Ok::<_, KafkaError>(meter)
    };
    let meter = sent().unwrap_or_else(|e| fail(e));
    let failed = deliveries.failed.load(Ordering::Relaxed);
    meter.report(settings, settings.records.saturating_sub(1), failed, Vec::new());
}

/// Serves every report that is there. A `poll` with a timeout does not return before it is over and spins through its
/// last millisecond, which can double the client's cost; one without serves one batch of reports.
fn drain(producer: &BaseProducer<Deliveries>) {
    loop {
        let before = producer.in_flight_count();
        producer.poll(Duration::ZERO);
        if producer.in_flight_count() == before {
            return;
        }
    }
}

fn nap(producer: &BaseProducer<Deliveries>) {
    drain(producer);
    std::thread::sleep(Duration::from_micros(300));
}

fn consumer_config(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    if settings.tuning.is_some() {
        // The queue of a client at its defaults holds 100,000 records, and a full one stops fetching for a second.
        config
            .set("check.crcs", "true")
            .set("max.partition.fetch.bytes", "1048576")
            .set("queued.min.messages", "1000000")
            .set("queued.max.messages.kbytes", "262144")
            .set("fetch.queue.backoff.ms", "2");
    }
    config
}

fn assignment(settings: &Settings) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..settings.partitions {
        list.add_partition_offset(&settings.topic, partition, Offset::Beginning).unwrap_or_else(|e| fail(e));
    }
    list
}

fn consume_base(settings: &Settings) {
    let consumer: BaseConsumer = consumer_config(settings).create().unwrap_or_else(|e| fail(e));
    let meter = Meter::start();
    consumer.assign(&assignment(settings)).unwrap_or_else(|e| fail(e));
    let mut tally = Tally::default();
    while tally.records() < settings.records {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => tally.add(message.payload().unwrap_or(&[])),
            Some(Err(problem)) => fail(problem),
            None => {}
        }
    }
    tally.report(settings, meter);
}

async fn consume_stream(settings: &Settings) {
    let consumer: StreamConsumer = consumer_config(settings).create().unwrap_or_else(|e| fail(e));
    let meter = Meter::start();
    consumer.assign(&assignment(settings)).unwrap_or_else(|e| fail(e));
    let (mut tally, mut stream) = (Tally::default(), consumer.stream());
    while tally.records() < settings.records {
        match stream.next().await {
            Some(Ok(message)) => tally.add(message.payload().unwrap_or(&[])),
            Some(Err(problem)) => fail(problem),
            None => fail("the stream ended"),
        }
    }
    tally.report(settings, meter);
}

async fn deliver(settings: &Settings) {
    let consumer: StreamConsumer = consumer_config(settings).create().unwrap_or_else(|e| fail(e));
    consumer.assign(&assignment(settings)).unwrap_or_else(|e| fail(e));
    workload::delivery_loop(Arc::new(Future::new(&settings.without_linger())), settings, |arrivals| {
        tokio::spawn(async move {
            while consumer.recv().await.is_ok() {
                arrivals.note();
            }
        });
    })
    .await;
}
