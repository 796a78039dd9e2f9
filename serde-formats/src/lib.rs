//! Formats of record keys and values for [`ottla`]: text, bytes, numbers, UUIDs and JSON.
//!
//! A format is a value that implements [`Encode`](ottla::format::Encode) and [`Decode`](ottla::format::Decode) for the types it
//! can carry. Those that the Java client has too are byte for byte the same, and refuse what it refuses:
//!
//! | format | Rust types | Java's serializer |
//! |---|---|---|
//! | [`Text`] | `str`, `String`, .. | `StringSerializer` |
//! | [`Raw`] | `[u8]`, `Vec<u8>`, `Bytes`, .. | `ByteArraySerializer`, `BytesSerializer`, `ByteBufferSerializer` |
//! | [`BigEndian`] | `i16`, `i32`, `i64`, `f32`, `f64`, `bool` | `Short-`, `Integer-`, `Long-`, `Float-`, `Double-`, `BooleanSerializer` |
//! | [`BigEndian`] | `i8`, `u8`, `u16`, `u32`, `u64` | none |
//! | [`UuidText`] | `u128` | `UUIDSerializer` |
//! | [`Json`] | all that serde knows | none |
//!
//! The crate knows nothing of producers, consumers or the protocol, and nothing of null: a key or value that is missing is
//! the caller's `None`. Invariant: a decoder answers any bytes with a value or an error, and no error holds payload.
//!
//! ```
//! use ottla::format::{Decode, Encode};
//! use ottla_serde::Text;
//!
//! let mut key = Vec::new();
//! Text.encode("greetings", "grüezi", &mut key)?;
//! let back: String = Text.decode("greetings", &key)?;
//! assert_eq!(back, "grüezi");
//! # Ok::<(), ottla::format::FormatError>(())
//! ```

mod big_endian;
mod json;
mod raw;
mod text;
mod uuid;

pub use big_endian::BigEndian;
pub use json::Json;
pub use raw::Raw;
pub use text::Text;
pub use uuid::UuidText;
