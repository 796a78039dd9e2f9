//! Payments to try a stream processor on. It owns how many there are, and which minutes are busy ones.

use std::time::Duration;

use ottla::format::{Encode, Encoding};
use ottla::{Client, Payload};
use ottla_serde::Json;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// The value of a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Payment {
    pub shop: String,
    pub card: String,
    pub francs: u64,
    pub time_ms: u64,
}

/// How many there are.
pub const COUNT: usize = 600;

/// Three shops, each with ten payments a minute for twenty minutes. The jeweller takes much in minutes 5 and 13.
///
/// # Errors
/// The cluster's.
pub async fn write(client: &Client, topic: &str) -> Result<(), Failure> {
    let producer = client.producer().build()?;
    let topic = producer.topic(topic);
    let (mut value, mut time_ms) = (Vec::new(), 0);
    for _ in 0..COUNT / 3 {
        for shop in ["baker", "florist", "jeweller"] {
            let busy = shop == "jeweller" && (time_ms / 60_000) % 8 == 5;
            let francs = if busy { 150 } else { 7 };
            let payment = Payment { shop: shop.into(), card: "5555444433334242".into(), francs, time_ms };
            value.clear();
            Json.encode(&payment, &mut Encoding::value(topic.name(), &mut value))?;
            // The key keeps the payments of a shop in order.
            drop(topic.enqueue(Payload::keyed(shop.as_bytes(), &value)).await?);
        }
        time_ms += 6_000;
    }
    producer.close(Duration::from_secs(10)).await;
    Ok(())
}
