//! Bytes and schemas that nobody should have written: each leads to an error, in memory that is bounded.

use ottla_serde::{Avro, JsonSchema, ProtobufSchema, Registered, RegistrySchema, SchemaType};

use crate::{Order, avro, decode, encode, fake, order};

#[derive(Clone, PartialEq, prost::Message)]
struct Parcel {
    #[prost(bytes = "vec", tag = "1")]
    content: Vec<u8>,
}

#[tokio::test]
async fn bytes_that_are_no_record_of_the_schema_are_refused() {
    let (_fake, registry) = fake().await;
    let format = Registered::new(&registry, avro());
    let (good, _) = encode(&format, &order(3)).await.expect("it is registered");
    let refused = async |bytes: &[u8], said: &str| {
        let error = decode::<Order>(&format, bytes).await.expect_err(said);
        assert!(error.to_string().contains(said), "{error}");
        assert!(!format!("{error:?}").contains("Zo"), "{error:?}");
    };
    refused(b"", "empty").await;
    refused(b"{\"id\":1}", "begin with 123").await;
    refused(&[0, 0, 0], "within the id").await;
    refused(&[0, 0, 0, 0, 99, 1], "schema 99: the schema registry answered 40403").await;
    for end in 5..good.len() {
        refused(&good[..end], "schema 1: the avro value ends too early").await;
    }
    refused(&[&good[..], &[0]].concat(), "1 bytes are left over").await;
    // A length of a gigabyte, and a number that never ends.
    refused(&[&good[..6], &[0x80, 0x80, 0x80, 0x80, 0x08]].concat(), "ends too early").await;
    refused(&[&good[..5], &[0xff; 11]].concat(), "more than 64 bits").await;
    refused(&[&good[..6], &[0x02, 0xff], &[0; 8], &[0, 0]].concat(), "does not fit").await;
}

#[tokio::test]
async fn an_id_of_another_language_is_refused() {
    let (_fake, registry) = fake().await;
    let json = Registered::new(&registry, JsonSchema::new(r#"{"title": "Order"}"#));
    let (bytes, _) = encode(&json, &order(1)).await.expect("it is registered");
    let error = decode::<Order>(&Registered::new(&registry, avro()), &bytes).await.expect_err("it is json");
    assert_eq!(error.to_string(), "schema 1: the schema is Json, not Avro");
}

#[tokio::test]
async fn protobuf_that_lies_is_refused() {
    let (_fake, registry) = fake().await;
    let file = r#"syntax = "proto3"; message Parcel { bytes content = 1; } message Other {}"#;
    let format = Registered::new(&registry, ProtobufSchema::new(file, "Parcel"));
    encode(&format, &Parcel::default()).await.expect("it is registered");
    let refused = async |payload: &[u8], said: &str| {
        let bytes = [&[0, 0, 0, 0, 1], payload].concat();
        let error = decode::<Parcel>(&format, &bytes).await.expect_err(said);
        assert!(error.to_string().contains(said), "{error}");
    };
    refused(&[], "within the place").await;
    refused(&[2, 2], "the message at [1] of their file, not that at [0]").await;
    refused(&[0, 0x0a, 0x80, 0x80, 0x80, 0x80, 0x04], "not the protobuf message").await;
    refused(&[0, 0x0a, 5, 1], "not the protobuf message").await;
    let second = Registered::new(&registry, ProtobufSchema::new(file, "Other").at([1]));
    let (bytes, _) = encode(&second, &Parcel::default()).await.expect("it is registered");
    assert_eq!(bytes, [0, 0, 0, 0, 1, 2, 2]);
}

#[tokio::test]
async fn a_recursive_value_has_an_end() {
    let list =
        r#"{"type": "record", "name": "List", "fields": [{"name": "next", "type": ["null", "List"]}]}"#;
    let list = Avro::new(list).expect("a good schema").json();
    let deep = [2].repeat(100_000);
    let error = decode::<serde_json::Value>(&list, &deep).await.expect_err("it never ends");
    assert!(error.to_string().contains("nested too deep"), "{error}");
    let good = decode::<serde_json::Value>(&list, &[2, 2, 0]).await.expect("three are fine");
    assert_eq!(good["next"]["next"]["next"], serde_json::Value::Null);
    // A record that holds itself, without a way out, takes no bytes at all.
    let endless = r#"{"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]}"#;
    let endless = Avro::new(endless).expect("its names are known");
    let error = decode(&endless.json(), &[]).await.expect_err("it has no end");
    assert!(error.to_string().contains("nested too deep"), "{error}");
    let nulls = Avro::new(r#"{"type": "array", "items": "null"}"#).expect("a good schema");
    let many = [0x80, 0x80, 0x80, 0x80, 0x08, 0];
    let error = decode::<Vec<()>>(&nulls, &many).await.expect_err("a gigabyte of nothing");
    assert!(error.to_string().contains("take no bytes"), "{error}");
}

#[tokio::test]
async fn a_schema_that_does_not_parse_is_refused_by_us_and_by_the_registry() {
    let (_fake, registry) = fake().await;
    let error = Avro::new(r#"{"type": "recrod"}"#).expect_err("it is misspelt");
    assert_eq!(error.to_string(), "the avro schema cannot be read");
    let schema = RegistrySchema::new(SchemaType::Avro, r#"{"type": "recrod"}"#);
    let error = registry.register("orders-value", &schema, false).await.expect_err("it is misspelt");
    assert_eq!(error.kind(), ottla_serde::RegistryErrorKind::InvalidSchema);
}
