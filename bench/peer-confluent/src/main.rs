//! confluent-kafka, a translation of the Java client; a future a record.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use confluent_kafka::common::serialization::{ByteArraySerializer, BytesDeserializer};
use confluent_kafka::common::{KafkaFuture, TopicPartition};
use confluent_kafka::consumer::{Consumer, ConsumerConfig, KafkaConsumer};
use confluent_kafka::producer::{KafkaProducer, ProducerConfig, ProducerRecord, RecordMetadata};
use workload::{Meter, Mode, Producer, Settings, Tally, fail};

fn main() {
    let settings = Settings::from_arguments();
    settings.runtime().block_on(async {
        match settings.mode {
            Mode::Produce => workload::produce(Confluent::new(&settings), &settings).await,
            Mode::First => workload::first(Confluent::new(&settings), &settings).await,
            Mode::Consume => consume(&settings).await,
            Mode::Ack if settings.rate == 0 => {
                workload::closed_loop(&Confluent::new(&settings), &settings).await
            }
            Mode::Ack => workload::open_loop(&Confluent::new(&settings), &settings).await,
            Mode::Deliver => deliver(&settings).await,
        }
    });
}

struct Confluent {
    producer: KafkaProducer<Vec<u8>, Vec<u8>>,
    topic: String,
}

impl Confluent {
    fn new(settings: &Settings) -> Confluent {
        let mut properties = HashMap::from([("bootstrap.servers".to_string(), settings.brokers.clone())]);
        if settings.compression != "none" {
            properties.insert("compression.type".into(), settings.compression.clone());
        }
        if let Some(tuning) = settings.tuning {
            properties.insert("acks".into(), "all".into());
            properties.insert("enable.idempotence".into(), "true".into());
            properties.insert("linger.ms".into(), tuning.linger_ms.to_string());
            properties.insert("batch.size".into(), tuning.batch_bytes.to_string());
        }
        let config = ProducerConfig::new(&properties).unwrap_or_else(|e| fail(e));
        let producer =
            KafkaProducer::new(config, ByteArraySerializer::default(), ByteArraySerializer::default());
        Confluent { producer: producer.unwrap_or_else(|e| fail(e)), topic: settings.topic.clone() }
    }
}

impl Producer for Confluent {
    type Ack = KafkaFuture<RecordMetadata>;

    async fn enqueue(&self, value: &[u8]) -> Result<KafkaFuture<RecordMetadata>, String> {
        let record = ProducerRecord::<&[u8], &[u8]>::new(self.topic.clone(), Some(value));
        self.producer.send(record, None).await.map_err(|e| e.to_string())
    }

    async fn settle(ack: KafkaFuture<RecordMetadata>) -> Result<(), String> {
        ack.get().await.map(drop).map_err(|e| e.to_string())
    }
}

async fn assigned(settings: &Settings) -> KafkaConsumer<Bytes, Bytes> {
    let mut properties = HashMap::from([
        ("bootstrap.servers".to_string(), settings.brokers.clone()),
        ("group.protocol".into(), "consumer".into()),
        ("auto.offset.reset".into(), "earliest".into()),
        ("enable.auto.commit".into(), "false".into()),
    ]);
    if settings.tuning.is_some() {
        properties.insert("max.poll.records".into(), "10000".into());
    }
    let config = ConsumerConfig::new(&properties).unwrap_or_else(|e| fail(e));
    let consumer = KafkaConsumer::new(config, BytesDeserializer::new(), BytesDeserializer::new());
    let mut consumer = consumer.unwrap_or_else(|e| fail(e));
    let partitions: Vec<TopicPartition> = (0..settings.partitions)
        .map(|partition| TopicPartition::new(settings.topic.clone(), partition))
        .collect();
    consumer.assign(partitions.clone()).await.unwrap_or_else(|e| fail(e));
    consumer.seek_to_beginning(&partitions).await.unwrap_or_else(|e| fail(e));
    consumer
}

async fn consume(settings: &Settings) {
    let meter = Meter::start();
    let mut consumer = assigned(settings).await;
    let mut tally = Tally::default();
    while tally.records() < settings.records {
        let records = consumer.poll(Duration::from_millis(100)).await.unwrap_or_else(|e| fail(e));
        for record in records {
            tally.add(record.value().map_or(&[][..], |value| value));
        }
    }
    tally.report(settings, meter);
}

async fn deliver(settings: &Settings) {
    let mut consumer = assigned(settings).await;
    workload::delivery_loop(Arc::new(Confluent::new(&settings.without_linger())), settings, |arrivals| {
        tokio::spawn(async move {
            while let Ok(records) = consumer.poll(Duration::from_millis(500)).await {
                for _ in records {
                    arrivals.note();
                }
            }
        });
    })
    .await;
}
