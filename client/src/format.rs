//! The two traits between typed values and the bytes of keys and values.
//!
//! It knows no format: those of the crate `ottla-serde` implement these traits, and so may yours. It refuses to know null: a
//! missing key or value never reaches a format, because to Kafka a null is not an encoding of anything (a tombstone
//! deletes, an empty value does not). Invariant: an error holds no payload, so that it may be logged.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// Turns values of type `T` into bytes.
///
/// ```
/// use ottla::format::{Encode, FormatError};
///
/// struct Celsius;
///
/// impl Encode<f32> for Celsius {
///     fn encode(&self, _topic: &str, value: &f32, out: &mut Vec<u8>) -> Result<(), FormatError> {
///         if value.is_nan() {
///             return Err(FormatError::new("no temperature"));
///         }
///         out.extend_from_slice(format!("{value} °C").as_bytes());
///         Ok(())
///     }
/// }
///
/// let mut out = Vec::new();
/// Celsius.encode("weather", &21.5, &mut out)?;
/// assert_eq!(out, "21.5 °C".as_bytes());
/// # Ok::<(), FormatError>(())
/// ```
pub trait Encode<T: ?Sized>: Send + Sync {
    /// Appends the encoding of `value` to `out` and leaves what `out` holds alone. After an error the caller discards what
    /// was appended.
    ///
    /// `topic` is where the record goes, for formats whose schema depends on it.
    fn encode(&self, topic: &str, value: &T, out: &mut Vec<u8>) -> Result<(), FormatError>;
}

/// Turns bytes into values of type `T`.
///
/// The bytes come from whoever may write to the topic: a decoder must answer any of them with a value or an error, and
/// must not reserve memory for a length it only read.
///
/// ```
/// use ottla::format::{Decode, FormatError};
///
/// struct Flag;
///
/// impl Decode<bool> for Flag {
///     fn decode(&self, _topic: &str, bytes: &[u8]) -> Result<bool, FormatError> {
///         match bytes {
///             b"on" => Ok(true),
///             b"off" => Ok(false),
///             _ => Err(FormatError::new("neither on nor off")),
///         }
///     }
/// }
///
/// assert!(Flag.decode("switches", b"on")?);
/// assert!(Flag.decode("switches", b"perhaps").is_err());
/// # Ok::<(), FormatError>(())
/// ```
pub trait Decode<T>: Send + Sync {
    /// The value that all of `bytes` stand for: bytes that are left over are an error.
    ///
    /// `topic` is where the record was read, for formats whose schema depends on it.
    fn decode(&self, topic: &str, bytes: &[u8]) -> Result<T, FormatError>;
}

/// Why a value could not be encoded or decoded.
///
/// It says what was expected and where the bytes are wrong, never the bytes themselves: a record that does not decode can hold
/// anybody's secrets, and errors end up in logs. The raw bytes stay with the record.
///
/// ```
/// use ottla::format::FormatError;
///
/// let cause = "12x".parse::<u32>().unwrap_err();
/// let error = FormatError::new("expected a count of eggs").with_source(cause);
/// assert_eq!(error.to_string(), "expected a count of eggs");
/// ```
#[derive(Debug)]
pub struct FormatError {
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl FormatError {
    /// An error with a message in lower case that ends without a dot and holds no payload.
    pub fn new(message: impl Into<Cow<'static, str>>) -> FormatError {
        FormatError { message: message.into(), source: None }
    }

    /// Adds the cause. Its messages must hold no payload either.
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> FormatError {
        FormatError { source: Some(Box::new(source)), ..self }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for FormatError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
