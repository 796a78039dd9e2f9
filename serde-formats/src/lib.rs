//! Typed records for [`ottla`]: formats of keys and values, with and without a schema registry.
//!
//! A format is a value that implements [`Encode`](ottla::format::Encode) and [`Decode`](ottla::format::Decode) for the types it
//! can carry. [`TypedSend::typed`] gives a topic a format for its keys and one for its values, [`TypedReceive::typed`] a consumer. Those
//! that the Java client has too are byte for byte the same, and refuse what it refuses:
//!
//! | format | Rust types | the same bytes as |
//! |---|---|---|
//! | [`Text`] | `str`, `String`, .. | `StringSerializer` |
//! | [`Raw`] | `[u8]`, `Vec<u8>`, `Bytes`, .. | `ByteArraySerializer`, `BytesSerializer`, `ByteBufferSerializer` |
//! | [`BigEndian`] | `i16`, `i32`, `i64`, `f32`, `f64`, `bool` | `Short-`, `Integer-`, `Long-`, `Float-`, `Double-`, `BooleanSerializer` |
//! | [`BigEndian`] | `i8`, `u8`, `u16`, `u32`, `u64` | none |
//! | [`UuidText`] | `u128` | `UUIDSerializer` |
//! | [`Void`] | none | `VoidSerializer` |
//! | `Json` (feature `json`, the default) | all that serde knows | none |
//! | `Avro` (feature `avro`) | all that serde knows, generic values, JSON | a datum of Avro |
//! | `Protobuf` (feature `protobuf`) | prost's messages | a message of Protobuf |
//! | `Registered` (feature `registry`) around `Avro`, `ProtobufSchema`, `JsonSchema` | as theirs | Confluent's serializers |
//!
//! Null never reaches a format: a key or value that is missing is a `None`. Invariant: a decoder answers any bytes with a value
//! or an error, and no error holds payload.
//!
//! ```
//! use ottla::format::{Decode, Encode, Encoded, Encoding};
//! use ottla_serde::Text;
//!
//! let mut key = Vec::new();
//! Text.encode("grüezi", &mut Encoding::value("greetings", &mut key))?;
//! let back: String = Text.decode(Encoded::value("greetings", &key))?;
//! assert_eq!(back, "grüezi");
//! # Ok::<(), ottla::format::FormatError>(())
//! ```

#[cfg(feature = "avro")]
mod avro;
mod big_endian;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "protobuf")]
mod protobuf;
mod raw;
#[cfg(feature = "registry")]
mod registered;
#[cfg(feature = "registry")]
mod registry;
mod text;
#[cfg(any(feature = "avro", feature = "json"))]
mod trail;
mod typed;
mod uuid;
mod void;

#[cfg(feature = "avro")]
pub use avro::{Avro, AvroCodec, AvroJson, AvroValues};
pub use big_endian::BigEndian;
#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "protobuf")]
pub use protobuf::Protobuf;
#[cfg(feature = "protobuf-dynamic")]
pub use protobuf::ProtobufDynamic;
pub use raw::Raw;
#[cfg(all(feature = "registry", feature = "json"))]
pub use registered::JsonSchema;
#[cfg(all(feature = "registry", feature = "protobuf"))]
pub use registered::ProtobufSchema;
#[cfg(feature = "registry")]
pub use registered::{Choose, DecodeWith, EncodeWith, Framing, Language, Registered, Subject, SubjectName};
#[cfg(feature = "registry")]
pub use registry::{
    Compatibility, Mode, Registration, Registry, RegistryBuilder, RegistryError, RegistryErrorKind,
    RegistrySchema, SchemaReference, SchemaType, SchemaVersion, Version,
};
#[cfg(feature = "fake-registry")]
mod fake;
#[cfg(feature = "fake-registry")]
pub use fake::{FakeRegistry, Trouble};
pub use text::Text;
pub use typed::{
    OnPoison, PoisonRecord, PoisonSink, Sinking, TypedConsumer, TypedError, TypedPayload, TypedReceive,
    TypedRecord, TypedSend, TypedTopic,
};
pub use uuid::UuidText;
pub use void::Void;
