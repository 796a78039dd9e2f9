//! Nothing, for keys or values that are always null.
//!
//! Invariant: it writes no bytes, and refuses all that there are.

use std::convert::Infallible;

use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};

/// For a key or a value that is always null, as Java's `VoidSerializer`. Its type has no values, so that a program which gives
/// one does not compile.
///
/// ```
/// use std::convert::Infallible;
/// use ottla::format::{Decode, Encoded};
/// use ottla_serde::Void;
///
/// let refused: Result<Infallible, _> = Void.decode(Encoded::key("orders", b""));
/// assert_eq!(refused.unwrap_err().to_string(), "expected null, found 0 bytes");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Void;

impl Encode<Infallible> for Void {
    fn encode(&self, value: &Infallible, _: &mut Encoding<'_>) -> Result<(), FormatError> {
        match *value {}
    }
}

impl Decode<Infallible> for Void {
    fn decode(&self, from: Encoded<'_>) -> Result<Infallible, FormatError> {
        Err(FormatError::new(format!("expected null, found {} bytes", from.bytes.len())))
    }
}
