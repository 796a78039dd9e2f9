//! Where records go by each of the partitioners that Kafka's clients have, so that a producer in Rust can write to a topic
//! beside producers in other languages. One of your own is in partitioner.rs.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::Payload;
use ottla::partitioners::Scheme;
use ottla_examples::{Failure, Playground};

const SCHEMES: [(&str, Scheme); 14] = [
    ("Java, franz-go, kafka-python", Scheme::Java),
    ("Java, partitioner.ignore.keys", Scheme::JavaIgnoreKeys),
    ("Java, RoundRobinPartitioner", Scheme::RoundRobin),
    ("librdkafka, random", Scheme::LibrdkafkaRandom),
    ("librdkafka, consistent", Scheme::LibrdkafkaConsistent),
    ("librdkafka, consistent_random", Scheme::LibrdkafkaConsistentRandom),
    ("librdkafka, murmur2", Scheme::LibrdkafkaMurmur2),
    ("librdkafka, murmur2_random", Scheme::LibrdkafkaMurmur2Random),
    ("librdkafka, fnv1a", Scheme::LibrdkafkaFnv1a),
    ("librdkafka, fnv1a_random", Scheme::LibrdkafkaFnv1aRandom),
    ("kafkajs", Scheme::KafkaJs),
    ("kafkajs before 2.0", Scheme::KafkaJsLegacy),
    ("Sarama", Scheme::Sarama),
    ("Sarama, NewReferenceHashPartitioner", Scheme::SaramaReference),
];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(6).await?;
    let keys = ["Ada", "Ben", "Cleo", "Dov", "Ada"].map(|key| Some(key.as_bytes()));
    println!("{:<35}  keys Ada Ben Cleo Dov Ada, then three records without a key", "");
    for (name, scheme) in SCHEMES {
        let producer = playground.client.producer().scheme(scheme).build()?;
        let orders = producer.topic(&playground.topic);
        let mut places = Vec::new();
        for key in keys.into_iter().chain([None; 3]) {
            let payload = Payload { key, ..Payload::value(b"one cup of coffee") };
            places.push(orders.send(payload).await?.partition.to_string());
        }
        println!("{name:<35}  {}", places.join(" "));
        producer.close(Duration::from_secs(10)).await;
    }
    playground.close().await
}
