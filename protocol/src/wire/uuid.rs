//! Ids of 128 bits, and how people read them.
//!
//! Knows nothing of what an id names.

use super::{DecodeError, Decoder, EncodeError, Encoder, Wire};
use std::fmt;

/// A topic id, directory id or the like. Prints as Kafka's tools do: URL-safe base64 without padding.
///
/// ```
/// use ottla_protocol::wire::Uuid;
/// assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
/// assert_eq!(Uuid(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

impl Uuid {
    /// Stands for "no id".
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // 128 bits are 21 digits of six bits and one of two, which base64 pads on the right.
        let digit = |bits: u128| char::from(DIGITS[(bits & 0x3f) as usize]);
        let mut text = String::with_capacity(22);
        text.extend((0..21).map(|place| digit(self.0 >> (122 - 6 * place))));
        text.push(digit(self.0 << 4));
        f.pad(&text)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Wire for Uuid {
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
        self.0.encode(out)
    }

    fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        u128::decode(input).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_the_tools_of_kafka_print_it() {
        assert_eq!(Uuid(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid(u128::MAX).to_string(), "_____________________w");
        assert_eq!(Uuid(0xfbef_be00_0000_0000_0000_0000_0000_0000).to_string(), "----AAAAAAAAAAAAAAAAAA");
    }
}
