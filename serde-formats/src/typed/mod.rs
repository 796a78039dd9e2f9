//! Typed topics and consumers: values of Rust types on one side, records on the other.
//!
//! It owns the calls of formats, and what becomes of a record that they refuse. It refuses to know any format. Invariant: a null
//! never reaches a format, and a format's error costs one record and no other.

mod consumer;
mod poison;
mod scratch;
mod topic;

use std::sync::Arc;

use ottla::format::{Decode, Encode};
use ottla::{Consumer, Topic};

pub use consumer::{TypedConsumer, TypedError, TypedRecord};
pub use poison::{OnPoison, PoisonRecord, PoisonSink, Sinking};
pub use topic::{TypedPayload, TypedTopic};

/// Gives a [`Topic`] the types of its keys and values.
///
/// ```no_run
/// # #[derive(serde::Serialize)]
/// # struct Order { id: u64 }
/// # async fn run(producer: ottla::Producer) -> Result<(), ottla::Error> {
/// use ottla_serde::{Json, Text, TypedPayload, TypedSend};
///
/// let orders = producer.topic("orders").typed::<str, Order>(Text, Json);
/// orders.send(TypedPayload::new("4711", &Order { id: 4711 })).await?;
/// # Ok(())
/// # }
/// ```
pub trait TypedSend {
    /// A handle whose keys are written by one format, and whose values by another.
    fn typed<K: ?Sized, V: ?Sized>(
        &self,
        key: impl Encode<K> + 'static,
        value: impl Encode<V> + 'static,
    ) -> TypedTopic<K, V>;
}

impl TypedSend for Topic {
    fn typed<K: ?Sized, V: ?Sized>(
        &self,
        key: impl Encode<K> + 'static,
        value: impl Encode<V> + 'static,
    ) -> TypedTopic<K, V> {
        TypedTopic::new(self.clone(), Arc::new(key), Arc::new(value))
    }
}

/// Gives a [`Consumer`] the types of its keys and values.
///
/// ```no_run
/// # #[derive(serde::Deserialize, Debug)]
/// # struct Order { id: u64 }
/// # async fn run(consumer: ottla::Consumer) -> Result<(), ottla_serde::TypedError> {
/// use ottla_serde::{Json, Text, TypedReceive};
///
/// let mut orders = consumer.typed::<String, Order>(Text, Json);
/// while let Some(order) = orders.recv().await? {
///     println!("{:?}: {:?}", order.key, order.value);
/// }
/// # Ok(())
/// # }
/// ```
pub trait TypedReceive {
    /// Reads keys by one format, and values by another.
    fn typed<K, V>(
        self,
        key: impl Decode<K> + 'static,
        value: impl Decode<V> + 'static,
    ) -> TypedConsumer<K, V>;
}

impl TypedReceive for Consumer {
    fn typed<K, V>(
        self,
        key: impl Decode<K> + 'static,
        value: impl Decode<V> + 'static,
    ) -> TypedConsumer<K, V> {
        TypedConsumer::new(self, Arc::new(key), Arc::new(value))
    }
}
