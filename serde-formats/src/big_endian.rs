//! Numbers in as many bytes as their type has, the highest first.
//!
//! It refuses to widen or narrow: the type that reads must be the type that wrote, because four bytes do not say whether
//! they are signed. Invariant: only the type's own number of bytes decodes.

use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};

/// Integers, floating-point numbers and booleans, as Java's serializers of the same types write them.
///
/// A boolean is one byte, 0 or 1. Integers order as their bytes do only when they are unsigned.
///
/// ```
/// use ottla::format::{Decode, Encode, Encoded, Encoding};
/// use ottla_serde::BigEndian;
///
/// let mut out = Vec::new();
/// BigEndian.encode(&258_i32, &mut Encoding::value("counts", &mut out))?;
/// assert_eq!(out, [0, 0, 1, 2]);
/// let back: i32 = BigEndian.decode(Encoded::value("counts", &out))?;
/// assert_eq!(back, 258);
///
/// let wider: Result<i64, _> = BigEndian.decode(Encoded::value("counts", &out));
/// assert_eq!(wider.unwrap_err().to_string(), "expected 8 bytes for i64, found 4");
/// # Ok::<(), ottla::format::FormatError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BigEndian;

macro_rules! numbers {
    ($($number:ident)*) => {$(
        impl Encode<$number> for BigEndian {
            fn encode(&self, value: &$number, to: &mut Encoding<'_>) -> Result<(), FormatError> {
                to.bytes.extend_from_slice(&value.to_be_bytes());
                Ok(())
            }
        }

        impl Decode<$number> for BigEndian {
            fn decode(&self, Encoded { bytes, .. }: Encoded<'_>) -> Result<$number, FormatError> {
                match bytes.try_into() {
                    Ok(bytes) => Ok($number::from_be_bytes(bytes)),
                    Err(_) => Err(wrong_length(stringify!($number), size_of::<$number>(), bytes.len())),
                }
            }
        }
    )*};
}

numbers! { i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 }

impl Encode<bool> for BigEndian {
    fn encode(&self, value: &bool, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        to.bytes.push(u8::from(*value));
        Ok(())
    }
}

impl Decode<bool> for BigEndian {
    fn decode(&self, Encoded { bytes, .. }: Encoded<'_>) -> Result<bool, FormatError> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(FormatError::new("expected 0 or 1 for bool, found another byte")),
            _ => Err(wrong_length("bool", 1, bytes.len())),
        }
    }
}

fn wrong_length(name: &str, expected: usize, found: usize) -> FormatError {
    let unit = if expected == 1 { "byte" } else { "bytes" };
    FormatError::new(format!("expected {expected} {unit} for {name}, found {found}"))
}
