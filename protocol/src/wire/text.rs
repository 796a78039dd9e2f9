//! UTF-8 text that lives in the frame it arrived in.
//!
//! Owns the one check of its bytes. Refuses to know what a text names.

use super::{DecodeError, Decoder, EncodeError, Encoder, Nullable, Width};
use bytes::{BufMut, Bytes};
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// UTF-8 text that shares memory, most often with the frame it arrived in. Cloning copies no text.
///
/// ```
/// use ottla_protocol::wire::Str;
/// let topic = Str::from_static("orders");
/// assert_eq!(topic.clone(), topic);
/// assert!(topic.starts_with("ord"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str(Bytes);

impl Str {
    /// Text of the program itself, without a copy.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// The text. Checked again on each call, as this crate has no `unsafe`: for names a few nanoseconds.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every constructor takes text or checks the bytes")
    }

    /// The text's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Bytes> for Str {
    type Error = std::str::Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(Bytes::from(text.into_bytes()))
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `str` does it, which `Borrow<str>` requires.
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Nullable for Str {
    fn encode_or_null(this: Option<&Self>, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
        out.length("a string", this.map(|text| text.0.len()), Width::Two)?;
        out.buf.put_slice(this.map_or(&[], |text| &text.0));
        Ok(())
    }

    fn decode_or_null(input: &mut Decoder) -> Result<Option<Self>, DecodeError> {
        let Some(length) = input.length(Width::Two)? else {
            return Ok(None);
        };
        let at = input.position();
        let bytes = input.take(length)?;
        Self::try_from(bytes).map(Some).map_err(|_| DecodeError::Utf8 { at })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wire;
    use super::*;

    #[test]
    fn text_read_from_a_frame_shares_its_memory() {
        let frame = Bytes::from(b"\0\x02hi".to_vec());
        let text = Str::decode(&mut Decoder::new(frame.clone(), 0, false)).expect("is text");
        assert_eq!(text.as_bytes().as_ptr(), frame[2..].as_ptr());
    }
}
