//! Typed producers and consumers with schemas from a registry: on the fake registry and the bundled broker, over TCP.
//!
//! Here are the values that all of these tests write, and the calls of a format that wait for what it has to fetch.

mod bad_input;
mod calls;
mod poison;
mod travel;

use ottla::Header;
use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};
use ottla_serde::{Avro, FakeRegistry, Registry};

const ORDER: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"},
    {"name": "customer", "type": "string"},
    {"name": "weight", "type": "double"},
    {"name": "note", "type": ["null", "string"], "default": null},
    {"name": "lines", "type": {"type": "array", "items": "string"}}]}"#;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Order {
    id: i64,
    customer: String,
    weight: f64,
    note: Option<String>,
    lines: Vec<String>,
}

fn order(id: i64) -> Order {
    Order {
        id,
        customer: format!("Zoë {id}"),
        weight: 0.5 * id as f64,
        note: (id % 2 == 0).then(|| "ring twice".to_owned()),
        lines: (0..id % 3).map(|line| format!("tea {line}")).collect(),
    }
}

fn avro() -> Avro {
    Avro::new(ORDER).expect("the schema is good")
}

async fn fake() -> (FakeRegistry, Registry) {
    let fake = FakeRegistry::start().await.expect("there is a port");
    let registry = Registry::builder([fake.url()]).build().expect("the settings are good");
    (fake, registry)
}

/// A payload, and the headers that came with it.
type Written = (Vec<u8>, Vec<(String, Vec<u8>)>);

async fn encode<T: ?Sized>(format: &impl Encode<T>, value: &T) -> Result<Written, FormatError> {
    loop {
        let mut out = Vec::new();
        let mut to = Encoding::value("orders", &mut out);
        let result = format.encode(value, &mut to);
        let headers = to.headers.into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
        match result {
            Ok(()) => return Ok((out, headers)),
            Err(mut error) => match error.take_later() {
                Some(later) => later.await?,
                None => return Err(error),
            },
        }
    }
}

async fn decode<T>(format: &impl Decode<T>, bytes: &[u8]) -> Result<T, FormatError> {
    loop {
        let Err(mut error) = format.decode(Encoded::value("orders", bytes)) else {
            return format.decode(Encoded::value("orders", bytes));
        };
        match error.take_later() {
            Some(later) => later.await?,
            None => return Err(error),
        }
    }
}

fn header<'a>(key: &'a str, value: &'a [u8]) -> Header<'a> {
    Header { key, value: Some(value) }
}
