//! Records that their format refuses, and what becomes of those behind them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::format::Part;
use ottla::{Client, Done, ErrorKind, Outcome, Payload, When};
use ottla_serde::{
    Json, OnPoison, PoisonRecord, PoisonSink, Registered, Registry, Sinking, Text, Trouble, TypedError,
    TypedPayload, TypedReceive, TypedSend,
};

use crate::travel::start;
use crate::{Order, avro, fake, header, order};

/// Nine numbers and a word in one batch of one partition.
async fn poisoned(producer: &ottla::Producer) {
    let orders = producer.topic("orders");
    let mut deliveries = Vec::new();
    for number in 0..10 {
        let value = if number == 4 { "secret".to_owned() } else { number.to_string() };
        let headers = [header("trace", b"1")];
        let payload =
            Payload { headers: &headers, partition: Some(0), ..Payload::keyed(b"k", value.as_bytes()) };
        deliveries.push(orders.enqueue(payload).await.expect("there is room"));
    }
    for delivery in deliveries {
        delivery.await.expect("it is written");
    }
}

/// F12: the poison record surfaces with its bytes and its position, and the rest of the batch is delivered.
#[tokio::test]
async fn a_poison_record_fails_alone() {
    let (_broker, producer, consumer) = start().await;
    poisoned(&producer).await;
    let mut numbers = consumer().typed::<String, u64>(Text, Json);
    for number in 0..10 {
        match numbers.recv().await {
            Ok(Some(record)) => assert_eq!(record.value, Some(number)),
            Err(TypedError::Poison(poison)) => {
                assert_eq!((number, poison.part, poison.record.offset()), (4, Part::Value, 4));
                assert_eq!(poison.record.value().expect("its bytes"), &b"secret"[..]);
                assert_eq!(poison.schema_id(), None);
                let said = poison.to_string();
                assert_eq!(
                    said,
                    "topic orders, partition 0, offset 4, value: the bytes are not json at line 1 column 1"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

/// F12: with an event, and with a sink.
#[tokio::test]
async fn a_poison_record_is_skipped_or_handed_to_a_sink() {
    let (broker, producer, consumer) = start().await;
    poisoned(&producer).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let skip = OnPoison::skip(move |poison| tell.lock().expect("no panic").push(poison.record.offset()));
    let sink = OnPoison::sink(producer.topic("orders.poison"));
    for policy in [skip, sink] {
        let mut numbers = consumer().typed::<String, u64>(Text, Json).on_poison(policy);
        for number in [0, 1, 2, 3, 5, 6, 7, 8, 9] {
            let record = numbers.recv().await.expect("no poison").expect("not closed");
            assert_eq!(record.value, Some(number));
        }
    }
    assert_eq!(*told.lock().expect("no panic"), [4]);
    let client = ottla::Client::builder().bootstrap(broker.bootstrap()).build().expect("good settings");
    let mut letters = client
        .consumer()
        .assign([("orders.poison", 0), ("orders.poison", 1)])
        .build()
        .expect("good settings");
    let letter = letters.recv().await.expect("it is there").expect("not closed").to_owned();
    assert_eq!(letter.value().expect("its bytes"), &b"secret"[..]);
    let headers: Vec<_> =
        letter.headers().map(|(name, value)| (name, value.expect("a value").as_ref())).collect();
    assert_eq!(headers[0], ("trace", &b"1"[..]));
    assert!(headers.contains(&("poison.offset", &b"4"[..])), "{headers:?}");
}

/// A sink that refuses twice.
struct Reluctant(AtomicUsize);

impl PoisonSink for Reluctant {
    fn take<'a>(&'a self, poison: &'a PoisonRecord) -> Sinking<'a> {
        Box::pin(async move {
            assert_eq!(poison.record.offset(), 4);
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(ottla::format::FormatError::new("full").not_written("orders", Part::Value)),
                _ => Ok(()),
            }
        })
    }
}

#[tokio::test]
async fn a_poison_record_that_its_sink_refuses_is_offered_again() {
    let (_broker, producer, consumer) = start().await;
    poisoned(&producer).await;
    let sink = OnPoison::sink(Reluctant(AtomicUsize::new(0)));
    let mut numbers = consumer().typed::<String, u64>(Text, Json).on_poison(sink);
    let (mut found, mut refused) = (Vec::new(), 0);
    while found.len() < 9 {
        match numbers.recv().await {
            Ok(record) => found.extend(record.and_then(|record| record.value)),
            Err(TypedError::Consumer(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((found.as_slice(), refused), (&[0, 1, 2, 3, 5, 6, 7, 8, 9][..], 2));
}

#[derive(serde::Serialize)]
struct Parcel {
    size: Size,
}

#[derive(serde::Serialize)]
struct Size {
    weight: f64,
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_is_not_written_and_its_field_is_named() {
    let (_broker, producer, _) = start().await;
    let parcels = producer.topic("orders").typed::<str, Parcel>(Text, Json);
    let parcel = Parcel { size: Size { weight: f64::NAN } };
    let error = parcels.send(TypedPayload::new("k", &parcel)).await.expect_err("json has no nan");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Format, Some(Outcome::NotWritten)));
    assert_eq!(
        error.to_string(),
        "topic orders, value: the value cannot be written as json: field size.weight"
    );
}

/// The registry is down while one partition has a record of a schema that is not known: the other one goes on.
#[tokio::test]
async fn a_schema_that_is_not_known_holds_its_own_partition_only() {
    let (_broker, producer, consumer) = start().await;
    let (fake, _) = fake().await;
    let registry = Registry::builder([fake.url()]).retries(100_000).backoff(Duration::from_millis(1));
    let registry = registry.build().expect("good settings");
    let topic = producer.topic("orders");
    let orders = topic.typed::<str, Order>(Text, Registered::new(&registry, avro()));
    for id in 0..3 {
        let order = order(id);
        let payload = TypedPayload { partition: Some(0), ..TypedPayload::value(&order) };
        orders.send(payload).await.expect("it is written");
    }
    fake.trouble(Trouble::Closes);
    // To the other partition, of the schema that the consumer will know first.
    let known = Registry::builder([fake.url()]).build().expect("good settings");
    let reader = Registered::new(&known, avro());
    let mut both = consumer().typed::<String, Either>(Text, Either(reader));
    for number in 0..3_u8 {
        let payload = Payload { partition: Some(1), ..Payload::value(std::slice::from_ref(&number)) };
        topic.send(payload).await.expect("it is written");
    }
    let mut found = Vec::new();
    while found.len() < 3 {
        match both.recv().await {
            Ok(record) => {
                let record = record.expect("not closed");
                assert_eq!(record.record.partition(), 1);
                found.push(record.record.offset());
            }
            // The registry is down: the record comes again.
            Err(TypedError::Fetch { partition: 0, offset: 0, .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(found, [0, 1, 2]);
    fake.trouble(None);
    let mut late = Vec::new();
    while late.len() < 3 {
        match both.recv().await {
            Ok(record) => late.push(record.expect("not closed").record.offset()),
            Err(TypedError::Fetch { partition: 0, offset: 0, .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(late, [0, 1, 2]);
}

/// C1: a record that waits for its schema is delivered in its turn, and what is not acknowledged in front of it stays so.
#[tokio::test]
async fn a_schema_that_is_not_known_finishes_nothing_that_is_not_acknowledged() {
    let (broker, producer, _) = start().await;
    let (fake, registry) = fake().await;
    let topic = producer.topic("orders");
    let orders = topic.typed::<str, Order>(Text, Registered::new(&registry, avro()));
    let raw = |number: u8| {
        let topic = &topic;
        async move {
            let payload = Payload { partition: Some(0), ..Payload::value(std::slice::from_ref(&number)) };
            topic.send(payload).await.expect("it is written");
        }
    };
    raw(0).await;
    raw(1).await;
    let order = order(2);
    orders
        .send(TypedPayload { partition: Some(0), ..TypedPayload::value(&order) })
        .await
        .expect("it is written");
    raw(3).await;
    fake.trouble(Trouble::Closes);
    let reader = Registry::builder([fake.url()]).retries(0).build().expect("good settings");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("good settings");
    let consumer = client.consumer().group("g").assign([("orders", 0)]).finish_on(Done::OnAck);
    let consumer = consumer.commit_when(When::Manual).build();
    let either = Either(Registered::new(&reader, avro()));
    let mut consumer = consumer.expect("good settings").typed::<String, Either>(Text, either);
    let mut delivered = Vec::new();
    while delivered.len() < 4 {
        match consumer.recv().await {
            Ok(record) => delivered.push(record.expect("not closed").record),
            Err(TypedError::Fetch { offset: 2, .. }) => {
                assert_eq!(delivered.len(), 2, "it waits in its place");
                fake.trouble(None);
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(delivered.iter().map(ottla::OwnedRecord::offset).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for (acked, committed) in [(2, 0), (0, 1), (1, 3), (3, 4)] {
        assert!(delivered[acked].ack(), "{acked} is still held");
        consumer.commit().await.expect("committed");
        let found = broker.committed("g").get(&("orders".to_owned(), 0)).copied().unwrap_or(0);
        assert_eq!(found, committed, "behind {acked}");
    }
}

/// Reads one byte as it is, and all else by the registry.
struct Either(Registered<ottla_serde::Avro>);

impl ottla::format::Decode<Either> for Either {
    fn decode(&self, from: ottla::format::Encoded<'_>) -> Result<Either, ottla::format::FormatError> {
        if from.bytes.len() > 1 {
            let _: Order = self.0.decode(from)?;
        }
        Ok(Either(self.0.clone()))
    }
}
