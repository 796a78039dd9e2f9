//! Values travel from a typed producer to a typed consumer, and the bytes between them are those that Confluent's serializers write.

use std::collections::BTreeMap;
use std::convert::Infallible;

use ottla::{Client, Consumer, Producer};
use ottla_broker::TestBroker;
use ottla_serde::{
    Avro, BigEndian, Framing, JsonSchema, ProtobufSchema, Registered, Text, TypedPayload, TypedReceive,
    TypedSend, Void,
};

use crate::{ORDER, Order, avro, decode, encode, fake, order};

pub(crate) async fn start() -> (TestBroker, Producer, impl Fn() -> Consumer) {
    let broker = TestBroker::start().await.expect("there is a port");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("good settings");
    let producer = client.producer().build().expect("good settings");
    let admin = client.admin();
    let topics = ["orders", "orders.poison"].map(|name| ottla::NewTopic::new(name).partitions(2));
    admin.create_topics(topics).await.all().expect("they are new");
    let consumer = move || {
        let partitions = [("orders", 0), ("orders", 1)];
        client.consumer().assign(partitions).build().expect("good settings")
    };
    (broker, producer, consumer)
}

#[derive(Clone, PartialEq, prost::Message)]
struct Parcel {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(string, tag = "2")]
    to: String,
}

const PARCEL: &str = r#"syntax = "proto3"; package shop; message Parcel { int64 id = 1; string to = 2; }"#;

#[tokio::test]
async fn values_of_every_language_come_back_with_their_keys() {
    let (_broker, producer, consumer) = start().await;
    let (_fake, registry) = fake().await;
    let topic = producer.topic("orders");
    let avro = Registered::new(&registry, avro());
    let headed = avro.clone().framing(Framing::Header);
    for format in [&avro, &headed] {
        let orders = topic.typed::<i64, Order>(BigEndian, format.clone());
        for id in 0..10 {
            orders.send(TypedPayload::new(&id, &order(id))).await.expect("it is written");
        }
        orders.send(TypedPayload::tombstone(&3)).await.expect("it is written");
    }
    let mut orders = consumer().typed::<i64, Order>(BigEndian, avro);
    let mut found: BTreeMap<i64, Vec<Option<Order>>> = BTreeMap::new();
    for _ in 0..22 {
        let record = orders.recv().await.expect("no poison").expect("not closed");
        let bare = record.record.headers().any(|(name, _)| name == "__value_schema_id");
        let framed = record.record.value().is_some_and(|value| value.starts_with(&[0, 0, 0, 0, 1]));
        assert!(record.value.is_none() || bare != framed, "{record:?}");
        found.entry(record.key.expect("each has a key")).or_default().push(record.value);
    }
    for (id, values) in found {
        let mut expected = vec![Some(order(id)); 2];
        if id == 3 {
            expected = vec![Some(order(id)), None, Some(order(id)), None];
        }
        assert_eq!(values, expected);
    }
}

#[tokio::test]
async fn protobuf_and_json_come_back_through_the_registry() {
    let (_broker, producer, consumer) = start().await;
    let (_fake, registry) = fake().await;
    let parcel = Parcel { id: 7, to: "Chur".to_owned() };
    let protobuf = Registered::new(&registry, ProtobufSchema::new(PARCEL, "shop.Parcel"));
    let key = Registered::new(&registry, JsonSchema::new(r#"{"title": "key", "type": "string"}"#));
    let parcels = producer.topic("orders").typed::<str, Parcel>(key.clone(), protobuf.clone());
    parcels.send(TypedPayload::new("Zoë", &parcel)).await.expect("it is written");
    let mut parcels = consumer().typed::<String, Parcel>(key, protobuf);
    let record = parcels.recv().await.expect("no poison").expect("not closed");
    assert_eq!((record.key.as_deref(), record.value), (Some("Zoë"), Some(parcel)));
    assert_eq!(record.record.value().expect("a value")[..6], [0, 0, 0, 0, 2, 0]);
    assert_eq!(registry.versions("orders-key").await.expect("keys have a subject of their own"), [1]);
}

/// F20: null and empty are different, and no format sees a null.
#[tokio::test]
async fn null_and_empty_are_different() {
    let (_broker, producer, consumer) = start().await;
    let texts = producer.topic("orders").typed::<str, str>(Text, Text);
    let partition = Some(0);
    for payload in [TypedPayload::new("", ""), TypedPayload::tombstone(""), TypedPayload::value("")] {
        texts.send(TypedPayload { partition, ..payload }).await.expect("it is written");
    }
    let mut texts = consumer().typed::<String, String>(Text, Text);
    let empty = || Some(String::new());
    for expected in [(empty(), empty()), (empty(), None), (None, empty())] {
        let record = texts.recv().await.expect("no poison").expect("not closed");
        assert_eq!((record.key, record.value), expected);
    }
    let keyless = producer.topic("orders").typed::<Infallible, str>(Void, Text);
    keyless.send(TypedPayload { partition, ..TypedPayload::value("a") }).await.expect("it is written");
    let record = texts.recv().await.expect("no poison").expect("not closed");
    assert_eq!((record.key, record.value), (None, Some("a".to_owned())));
}

/// The same order in the third version of its schema, whose readers know of a currency.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Priced {
    id: i64,
    customer: String,
    currency: String,
}

const PRICED: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"}, {"name": "customer", "type": "string"},
    {"name": "currency", "type": "string", "default": "CHF"}]}"#;

#[tokio::test]
async fn a_schema_evolves_and_old_records_are_read_with_the_new_one() {
    let (_fake, registry) = fake().await;
    let (old, _) = encode(&Registered::new(&registry, avro()), &order(4)).await.expect("it is registered");
    let priced = Registered::new(&registry, Avro::new(PRICED).expect("a good schema"));
    let read: Priced = decode(&priced, &old).await.expect("fields may go, and come with a default");
    assert_eq!(read, Priced { id: 4, customer: "Zoë 4".to_owned(), currency: "CHF".to_owned() });
    encode(&priced, &read).await.expect("the registry finds them compatible");

    let strict = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"}, {"name": "vat", "type": "long"}]}"#;
    let strict = Registered::new(&registry, Avro::new(strict).expect("a good schema").json());
    let error = encode(&strict, &serde_json::json!({"id": 1, "vat": 2})).await.expect_err("no default");
    assert!(
        error.to_string().starts_with("subject orders-value: the schema registry answered 409"),
        "{error}"
    );
}

#[tokio::test]
async fn json_values_pass_through_avro() {
    let json = Avro::new(ORDER).expect("a good schema").json();
    let value = serde_json::to_value(order(5)).expect("it is json");
    let (bytes, _) = encode(&json, &value).await.expect("it fits");
    assert_eq!(bytes, encode(&avro(), &order(5)).await.expect("it fits").0);
    let back: serde_json::Value = decode(&json, &bytes).await.expect("it is ours");
    assert_eq!(back, value);
}

#[tokio::test]
async fn generic_values_pass_through_avro() {
    use apache_avro::types::Value;
    let generic = avro().values();
    let (bytes, _) = encode(&avro(), &order(2)).await.expect("it fits");
    let value: Value = decode(&generic, &bytes).await.expect("it is ours");
    assert_eq!(encode(&generic, &value).await.expect("it fits").0, bytes);
}
