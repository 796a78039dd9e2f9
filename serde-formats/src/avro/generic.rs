//! Avro of values that need no Rust type of their own: apache-avro's, and those of JSON.
//!
//! It owns the way between JSON and Avro, which goes by the schema: objects are records or maps, texts are texts or symbols, and null
//! is a branch of a union. Invariant: what is read from Avro as JSON is written as the same bytes.

use apache_avro::types::Value;
use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};

use super::{Avro, AvroCodec};

/// [`Avro`] of generic values, from [`Avro::values`].
#[derive(Debug)]
pub struct AvroValues(pub(crate) Avro);

/// [`Avro`] of JSON, from [`Avro::json`].
///
/// A field that the value lacks has the schema's default; one that the schema lacks is left out. Bytes are lists of numbers. What
/// JSON cannot say, such as NaN, is refused.
///
/// ```
/// use ottla::format::{Encode, Encoding};
/// use ottla_serde::Avro;
///
/// let schema = r#"{"type": "record", "name": "Quake", "fields": [
///     {"name": "place", "type": "string"}, {"name": "depth", "type": ["null", "long"], "default": null}]}"#;
/// let mut out = Vec::new();
/// let quake = serde_json::json!({"place": "Chur"});
/// Avro::new(schema)?.json().encode(&quake, &mut Encoding::value("quakes", &mut out))?;
/// assert_eq!(out, b"\x08Chur\0");
/// # Ok::<(), ottla::format::FormatError>(())
/// ```
#[derive(Debug)]
pub struct AvroJson(pub(crate) Avro);

impl AvroCodec {
    pub(crate) fn encode_value(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), FormatError> {
        // The error may repeat the value.
        self.writer.write_value_ref(out, value).map(|_| ()).map_err(|_| unwritable())
    }

    pub(crate) fn decode_value(&self, mut bytes: &[u8]) -> Result<Value, FormatError> {
        self.check(bytes)?;
        self.resolving.as_ref().unwrap_or(&self.reader).read_value(&mut bytes).map_err(super::unfit)
    }

    pub(crate) fn encode_json(
        &self,
        value: &serde_json::Value,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let generic = Value::try_from(value.clone()).map_err(|_| unwritable())?;
        let fitting = generic.resolve_with_names(&self.parsed.schema, self.names.get_names());
        self.encode_value(&fitting.map_err(|_| unwritable())?, out)
    }

    pub(crate) fn decode_json(&self, bytes: &[u8]) -> Result<serde_json::Value, FormatError> {
        let value = self.decode_value(bytes)?;
        value.try_into().map_err(|_| FormatError::new("the avro value cannot be said in json"))
    }
}

fn unwritable() -> FormatError {
    FormatError::new("the value does not fit the avro schema")
}

impl Encode<Value> for AvroValues {
    fn encode(&self, value: &Value, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        self.0.codec.encode_value(value, to.bytes)
    }
}

impl Decode<Value> for AvroValues {
    fn decode(&self, from: Encoded<'_>) -> Result<Value, FormatError> {
        self.0.codec.decode_value(from.bytes)
    }
}

impl Encode<serde_json::Value> for AvroJson {
    fn encode(&self, value: &serde_json::Value, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        self.0.codec.encode_json(value, to.bytes)
    }
}

impl Decode<serde_json::Value> for AvroJson {
    fn decode(&self, from: Encoded<'_>) -> Result<serde_json::Value, FormatError> {
        self.0.codec.decode_json(from.bytes)
    }
}
