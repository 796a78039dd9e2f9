//! Protobuf, by prost.
//!
//! It knows messages whose types were generated when the program was compiled, and with the feature `protobuf-dynamic` those that
//! are known by descriptor. Invariant: prost checks every length against the bytes that are there, and nests no deeper than 100
//! messages.

use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};
use prost::Message;

/// Protobuf messages without framing.
///
/// ```
/// use ottla::format::{Decode, Encode, Encoded, Encoding};
/// use ottla_serde::Protobuf;
///
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Quake {
///     #[prost(string, tag = "1")]
///     place: String,
///     #[prost(float, tag = "2")]
///     magnitude: f32,
/// }
///
/// let quake = Quake { place: "Chur".to_owned(), magnitude: 2.5 };
/// let mut out = Vec::new();
/// Protobuf.encode(&quake, &mut Encoding::value("quakes", &mut out))?;
/// assert_eq!(out, b"\x0a\x04Chur\x15\0\0\x20\x40");
/// assert_eq!(quake, Protobuf.decode(Encoded::value("quakes", &out))?);
/// # Ok::<(), ottla::format::FormatError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protobuf;

impl<M: Message> Encode<M> for Protobuf {
    fn encode(&self, message: &M, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        message.encode(to.bytes).map_err(too_large)
    }
}

impl<M: Message + Default> Decode<M> for Protobuf {
    fn decode(&self, from: Encoded<'_>) -> Result<M, FormatError> {
        M::decode(from.bytes).map_err(unreadable)
    }
}

pub(crate) fn too_large(error: prost::EncodeError) -> FormatError {
    FormatError::new("the protobuf message is too large").with_source(error)
}

/// Prost names fields and what is wrong with them, never their content.
pub(crate) fn unreadable(error: prost::DecodeError) -> FormatError {
    FormatError::new("the bytes are not the protobuf message").with_source(error)
}

/// Messages that the program knows by descriptor.
#[cfg(feature = "protobuf-dynamic")]
#[derive(Clone, Debug)]
pub struct ProtobufDynamic(prost_reflect::MessageDescriptor);

#[cfg(feature = "protobuf-dynamic")]
mod dynamic {
    use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage};

    use super::*;

    impl ProtobufDynamic {
        /// Messages of this type.
        pub fn new(message: MessageDescriptor) -> Self {
            Self(message)
        }
    }

    impl Encode<DynamicMessage> for ProtobufDynamic {
        /// Fails for a message of another type.
        fn encode(&self, message: &DynamicMessage, to: &mut Encoding<'_>) -> Result<(), FormatError> {
            if message.descriptor() != self.0 {
                return Err(FormatError::new(format!("the message is not a {}", self.0.full_name())));
            }
            message.encode(to.bytes).map_err(too_large)
        }
    }

    impl Decode<DynamicMessage> for ProtobufDynamic {
        fn decode(&self, from: Encoded<'_>) -> Result<DynamicMessage, FormatError> {
            DynamicMessage::decode(self.0.clone(), from.bytes).map_err(unreadable)
        }
    }
}
