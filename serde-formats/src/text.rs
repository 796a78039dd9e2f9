//! Strings as UTF-8.
//!
//! It knows no other charset. Invariant: what decodes, encodes to the same bytes.

use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};

/// Text in UTF-8, as Java's `StringSerializer` writes it by default.
///
/// Bytes that are not UTF-8 are an error. (Java's `StringDeserializer` puts U+FFFD in their place, and the text that is
/// written back differs.)
///
/// ```
/// use ottla::format::{Decode, Encode, Encoded, Encoding};
/// use ottla_serde::Text;
///
/// let mut out = Vec::new();
/// Text.encode("Zürich", &mut Encoding::value("cities", &mut out))?;
/// assert_eq!(out, b"Z\xc3\xbcrich");
/// assert_eq!(Text.decode(Encoded::value("cities", &out))?, "Zürich");
///
/// let error = Text.decode(Encoded::value("cities", b"Z\xfcrich")).unwrap_err();
/// assert_eq!(error.to_string(), "the text is not utf-8 at byte 1");
/// # Ok::<(), ottla::format::FormatError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text;

impl<T: AsRef<str> + ?Sized> Encode<T> for Text {
    fn encode(&self, value: &T, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        to.bytes.extend_from_slice(value.as_ref().as_bytes());
        Ok(())
    }
}

impl Decode<String> for Text {
    fn decode(&self, Encoded { bytes, .. }: Encoded<'_>) -> Result<String, FormatError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                Err(FormatError::new(format!("the text is not utf-8 at byte {}", error.valid_up_to())))
            }
        }
    }
}
