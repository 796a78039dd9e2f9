//! What must not be seen: passwords, keys, tokens.
//!
//! It owns the only type that carries them. It refuses to print them, so that no error, event, span or setting can, and
//! wipes them when it is dropped.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A password, a private key or a token. It has neither `Debug` nor `Display`, is compared in constant time, and its memory
/// is overwritten when it is dropped.
///
/// ```
/// use ottla::Secret;
///
/// let secret = Secret::from("wallace");
/// assert!(secret == Secret::from("wallace".to_string()));
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// For the wire; wiped all the same, when the last reference goes.
    pub(crate) fn into_bytes(self) -> bytes::Bytes {
        bytes::Bytes::from_owner(self.0)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret::from(text.as_bytes())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret::from(text.into_bytes())
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Secret::from(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Secret(Zeroizing::new(bytes))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}
