//! Records with a key: equal keys go to the same partition, and stay in order there.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::collections::BTreeMap;
use std::time::Duration;

use ottla::Payload;
use ottla_examples::{Failure, Playground};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(6).await?;
    let producer = playground.client.producer().build()?;
    let orders = producer.topic(&playground.topic);

    let (states, customers) = (["ordered", "paid", "shipped", "delivered"], ["Ada", "Ben", "Cleo", "Dov"]);
    for state in states {
        for customer in customers {
            // The partition is the hash of the key, as in Kafka's Java client. Retries do not change the order.
            drop(orders.enqueue(Payload::keyed(customer.as_bytes(), state.as_bytes())).await?);
        }
    }
    // A value of None is a tombstone: a topic that is compacted forgets the key.
    orders.send(Payload { key: Some(b"Dov"), ..Payload::default() }).await?;
    producer.close(Duration::from_secs(10)).await;

    let mut seen: BTreeMap<String, Vec<(i32, String)>> = BTreeMap::new();
    for record in playground.read(&playground.topic, states.len() * customers.len() + 1).await? {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let state = record.value().map_or("forgotten".into(), |value| text(value));
        seen.entry(text(record.key().ok_or("no key")?)).or_default().push((record.partition(), state));
    }
    for (customer, states) in seen {
        let one_place = states.iter().all(|(partition, _)| *partition == states[0].0);
        let states: Vec<_> = states.iter().map(|(_, state)| state.as_str()).collect();
        println!("{customer}: {}, in one partition: {one_place}", states.join(", "));
    }
    playground.close().await
}
