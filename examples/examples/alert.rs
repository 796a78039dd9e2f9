//! A small stream processor, topic to topic, exactly once: it masks the numbers of cards, adds up what each shop takes in a
//! minute, and raises one alert for each minute that goes over the limit.
//! Its windows live in memory: a process that starts again, or gets partitions of another's, begins with empty ones.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::collections::BTreeMap;
use std::time::Duration;

use ottla::format::{Decode, Encode, Encoded, Encoding};
use ottla::{IsolationLevel, OwnedRecord, Payload, Pipeline, Step, Transaction, When};
use ottla_examples::payments::{self, Payment};
use ottla_examples::{Failure, Playground};
use ottla_serde::Json;

const LIMIT: u64 = 1_000;

/// What each shop took in each minute.
type Windows = BTreeMap<(String, u64), u64>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut playground = Playground::open(3).await?;
    let outputs = [playground.add_topic("masked").await?, playground.add_topic("alerts").await?];
    payments::write(&playground.client, &playground.topic).await?;
    let consumer = playground.client.consumer().isolation_level(IsolationLevel::ReadCommitted);
    let consumer = consumer.group(&playground.group).subscribe([&playground.topic]);
    let consumer = consumer.commit_when(When::Manual).build()?;
    let producer = playground.client.producer().transactional_id(&playground.group).build_transactional()?;
    let mut pipeline = Pipeline::new(consumer, producer)?;

    let (mut windows, mut done) = (Windows::new(), 0);
    while done < payments::COUNT {
        let within = Duration::from_millis(50);
        let step = pipeline.step(100, within, async |payments, transaction| {
            // On a copy: after an abort the payments come again, and must not be added up twice.
            let mut after = windows.clone();
            for payment in payments {
                process(payment, transaction, &outputs, &mut after).await?;
            }
            Ok::<_, Failure>((after, payments.len()))
        });
        if let Some(Step::Committed((after, count))) = step.await? {
            (windows, done) = (after, done + count);
        }
    }
    pipeline.close(Duration::from_secs(10)).await?;

    for alert in playground.read(&outputs[1], 2).await? {
        println!("alert: {}", String::from_utf8_lossy(alert.value().ok_or("no value")?));
    }
    let masked = playground.read(&outputs[0], payments::COUNT).await?;
    let shown = masked.iter().filter(|payment| format!("{:?}", payment.value()).contains("5555"));
    println!("{} payments, {} with a card to be seen", masked.len(), shown.count());
    playground.close().await
}

async fn process(
    record: &OwnedRecord,
    transaction: &Transaction<'_>,
    [masked, alerts]: &[String; 2],
    windows: &mut Windows,
) -> Result<(), Failure> {
    let value = record.value().ok_or("a payment without a value")?;
    let mut payment: Payment = Json.decode(Encoded::value(record.topic(), value))?;
    payment.card.replace_range(..12, "************");
    let mut value = Vec::new();
    Json.encode(&payment, &mut Encoding::value(masked, &mut value))?;
    drop(transaction.topic(masked).enqueue(Payload::keyed(payment.shop.as_bytes(), &value)).await?);

    let (shop, minute) = (payment.shop, payment.time_ms / 60_000);
    let taken = windows.entry((shop.clone(), minute)).or_default();
    *taken += payment.francs;
    // Once for each window: by the payment that goes over the limit.
    if *taken > LIMIT && *taken - payment.francs <= LIMIT {
        let alert = format!("{shop} took {taken} francs in minute {minute}");
        drop(transaction.topic(alerts).enqueue(Payload::keyed(shop.as_bytes(), alert.as_bytes())).await?);
    }
    Ok(())
}
