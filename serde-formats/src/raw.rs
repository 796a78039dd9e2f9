//! Bytes as they are.
//!
//! Invariant: encoding and decoding neither fail nor change a byte.

use bytes::Bytes;
use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};

/// The bytes themselves, for values that are encoded elsewhere, as Java's `ByteArraySerializer` writes them.
///
/// ```
/// use ottla::format::{Decode, Encode, Encoded, Encoding};
/// use ottla_serde::Raw;
///
/// let mut out = Vec::new();
/// Raw.encode(&[0x89, b'P', b'N', b'G'], &mut Encoding::value("images", &mut out))?;
/// let back: Vec<u8> = Raw.decode(Encoded::value("images", &out))?;
/// assert_eq!(back, b"\x89PNG");
/// # Ok::<(), ottla::format::FormatError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw;

impl<T: AsRef<[u8]> + ?Sized> Encode<T> for Raw {
    fn encode(&self, value: &T, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        to.bytes.extend_from_slice(value.as_ref());
        Ok(())
    }
}

impl Decode<Vec<u8>> for Raw {
    fn decode(&self, Encoded { bytes, .. }: Encoded<'_>) -> Result<Vec<u8>, FormatError> {
        Ok(bytes.to_vec())
    }
}

impl Decode<Bytes> for Raw {
    fn decode(&self, Encoded { bytes, .. }: Encoded<'_>) -> Result<Bytes, FormatError> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}
