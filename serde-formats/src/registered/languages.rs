//! The crate's formats as languages of a registry.
//!
//! Invariant: a schema of another language is refused by name, so that an id which is none of ours reads nothing.

use ottla::format::FormatError;

#[cfg(any(feature = "avro", feature = "json", feature = "protobuf"))]
use super::{DecodeWith, EncodeWith, Language};
use crate::registry::{RegistrySchema, SchemaType, SchemaVersion};

fn expect(schema: &RegistrySchema, wanted: SchemaType) -> Result<(), FormatError> {
    if schema.schema_type == wanted {
        return Ok(());
    }
    Err(FormatError::new(format!("the schema is {:?}, not {wanted:?}", schema.schema_type)))
}

#[cfg(feature = "avro")]
mod avro {
    use apache_avro::types::Value;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::avro::{Avro, AvroCodec, AvroJson, AvroValues};

    impl Language for Avro {
        type Codec = AvroCodec;

        fn schema(&self) -> Option<&RegistrySchema> {
            Some(&self.registered)
        }

        fn record_name(&self) -> Option<String> {
            self.record_name()
        }

        fn codec(
            &self,
            schema: &RegistrySchema,
            references: &[SchemaVersion],
        ) -> Result<AvroCodec, FormatError> {
            expect(schema, SchemaType::Avro)?;
            self.codec_for(&schema.schema, references.iter().map(|version| version.schema.schema.clone()))
        }
    }

    impl<T: Serialize + ?Sized> EncodeWith<T> for Avro {
        fn encode_with(&self, codec: &AvroCodec, value: &T, out: &mut Vec<u8>) -> Result<(), FormatError> {
            codec.encode(value, out)
        }
    }

    impl<T: DeserializeOwned> DecodeWith<T> for Avro {
        fn decode_with(&self, codec: &AvroCodec, bytes: &[u8]) -> Result<T, FormatError> {
            codec.decode(bytes)
        }
    }

    macro_rules! generic {
        ($($format:ident: $value:ty, $encode:ident, $decode:ident;)*) => {$(
            impl Language for $format {
                type Codec = AvroCodec;

                fn schema(&self) -> Option<&RegistrySchema> {
                    self.0.schema()
                }

                fn record_name(&self) -> Option<String> {
                    self.0.record_name()
                }

                fn codec(
                    &self,
                    schema: &RegistrySchema,
                    references: &[SchemaVersion],
                ) -> Result<AvroCodec, FormatError> {
                    self.0.codec(schema, references)
                }
            }

            impl EncodeWith<$value> for $format {
                fn encode_with(&self, codec: &AvroCodec, value: &$value, out: &mut Vec<u8>) -> Result<(), FormatError> {
                    codec.$encode(value, out)
                }
            }

            impl DecodeWith<$value> for $format {
                fn decode_with(&self, codec: &AvroCodec, bytes: &[u8]) -> Result<$value, FormatError> {
                    codec.$decode(bytes)
                }
            }
        )*};
    }

    generic! {
        AvroValues: Value, encode_value, decode_value;
        AvroJson: serde_json::Value, encode_json, decode_json;
    }
}

/// JSON whose schema is in a registry. The schema is registered and named; whether a value keeps it is not checked here.
///
/// ```
/// use ottla_serde::JsonSchema;
///
/// let json = JsonSchema::new(r#"{"title": "Quake", "type": "object"}"#);
/// # drop(json);
/// ```
#[cfg(feature = "json")]
#[derive(Clone, Debug)]
pub struct JsonSchema(RegistrySchema);

#[cfg(feature = "json")]
mod json {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::json;

    impl JsonSchema {
        /// Values of this JSON Schema.
        pub fn new(schema: impl Into<String>) -> Self {
            Self(RegistrySchema::new(SchemaType::Json, schema))
        }
    }

    impl Language for JsonSchema {
        type Codec = ();

        fn schema(&self) -> Option<&RegistrySchema> {
            Some(&self.0)
        }

        /// The schema's title, as for Confluent's serializers.
        fn record_name(&self) -> Option<String> {
            let schema: serde_json::Value = serde_json::from_str(&self.0.schema).ok()?;
            Some(schema.get("title")?.as_str()?.to_owned())
        }

        fn codec(&self, schema: &RegistrySchema, _: &[SchemaVersion]) -> Result<(), FormatError> {
            expect(schema, SchemaType::Json)
        }
    }

    impl<T: Serialize + ?Sized> EncodeWith<T> for JsonSchema {
        fn encode_with(&self, (): &(), value: &T, out: &mut Vec<u8>) -> Result<(), FormatError> {
            json::write(value, out)
        }
    }

    impl<T: DeserializeOwned> DecodeWith<T> for JsonSchema {
        fn decode_with(&self, (): &(), bytes: &[u8]) -> Result<T, FormatError> {
            json::read(bytes)
        }
    }
}

/// Protobuf messages whose file is in a registry.
///
/// ```
/// use ottla_serde::ProtobufSchema;
///
/// let first = ProtobufSchema::new(r#"syntax = "proto3"; message Quake { string place = 1; }"#, "Quake");
/// # drop(first);
/// ```
#[cfg(feature = "protobuf")]
#[derive(Clone, Debug)]
pub struct ProtobufSchema {
    schema: RegistrySchema,
    name: String,
    indexes: Vec<i32>,
}

#[cfg(feature = "protobuf")]
mod protobuf {
    use prost::Message;

    use super::*;
    use crate::protobuf::{too_large, unreadable};

    impl ProtobufSchema {
        /// The first message of a `.proto` file; `name` is its full name.
        pub fn new(file: impl Into<String>, name: impl Into<String>) -> Self {
            let schema = RegistrySchema::new(SchemaType::Protobuf, file);
            Self { schema, name: name.into(), indexes: vec![0] }
        }

        /// The message at another place: `[1, 0]` is the first that is declared within the second of the file.
        pub fn at(self, indexes: impl Into<Vec<i32>>) -> Self {
            Self { indexes: indexes.into(), ..self }
        }

        /// Adds a file that this one imports, which is registered under this subject.
        pub fn import(self, file: impl Into<String>, subject: impl Into<String>, version: i32) -> Self {
            Self { schema: self.schema.reference(file, subject, version), ..self }
        }
    }

    impl Language for ProtobufSchema {
        type Codec = ();

        fn schema(&self) -> Option<&RegistrySchema> {
            Some(&self.schema)
        }

        fn record_name(&self) -> Option<String> {
            Some(self.name.clone())
        }

        fn indexes(&self) -> Option<&[i32]> {
            Some(&self.indexes)
        }

        fn codec(&self, schema: &RegistrySchema, _: &[SchemaVersion]) -> Result<(), FormatError> {
            expect(schema, SchemaType::Protobuf)
        }
    }

    impl<M: Message> EncodeWith<M> for ProtobufSchema {
        fn encode_with(&self, (): &(), message: &M, out: &mut Vec<u8>) -> Result<(), FormatError> {
            message.encode(out).map_err(too_large)
        }
    }

    impl<M: Message + Default> DecodeWith<M> for ProtobufSchema {
        fn decode_with(&self, (): &(), bytes: &[u8]) -> Result<M, FormatError> {
            M::decode(bytes).map_err(unreadable)
        }
    }
}
