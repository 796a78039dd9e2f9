//! The two traits between typed values and the bytes of keys and values.
//!
//! It knows no format: those of the crate `ottla-serde` implement these traits, and so may yours. It refuses to know null: a
//! missing key or value never reaches a format, because to Kafka a null is not an encoding of anything (a tombstone
//! deletes, an empty value does not). Invariant: an error holds no payload, so that it may be logged.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use ottla_protocol::records::Headers;
use ottla_protocol::wire::Str;
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Outcome};

/// Turns values of type `T` into bytes.
///
/// ```
/// use ottla::format::{Encode, Encoding, FormatError};
///
/// struct Celsius;
///
/// impl Encode<f32> for Celsius {
///     fn encode(&self, value: &f32, to: &mut Encoding<'_>) -> Result<(), FormatError> {
///         to.bytes.extend_from_slice(format!("{value} °C").as_bytes());
///         Ok(())
///     }
/// }
///
/// let mut out = Vec::new();
/// Celsius.encode(&21.5, &mut Encoding::value("weather", &mut out))?;
/// assert_eq!(out, "21.5 °C".as_bytes());
/// # Ok::<(), FormatError>(())
/// ```
pub trait Encode<T: ?Sized>: Send + Sync {
    /// Appends the encoding of `value` to `to.bytes` and leaves what is there alone. After an error the caller discards what
    /// was appended.
    ///
    /// # Errors
    /// A value that the format cannot carry. What the format has to fetch before it can say is an error too, one with
    /// [`FormatError::later`]: who gets it awaits that and calls again, with the same value.
    fn encode(&self, value: &T, to: &mut Encoding<'_>) -> Result<(), FormatError>;
}

/// Turns bytes into values of type `T`.
///
/// The bytes come from whoever may write to the topic: a decoder must answer any of them with a value or an error, and
/// must not reserve memory for a length it only read.
///
/// ```
/// use ottla::format::{Decode, Encoded, FormatError};
///
/// struct Flag;
///
/// impl Decode<bool> for Flag {
///     fn decode(&self, from: Encoded<'_>) -> Result<bool, FormatError> {
///         match from.bytes {
///             b"on" => Ok(true),
///             b"off" => Ok(false),
///             _ => Err(FormatError::new("neither on nor off")),
///         }
///     }
/// }
///
/// assert!(Flag.decode(Encoded::value("switches", b"on"))?);
/// assert!(Flag.decode(Encoded::value("switches", b"perhaps")).is_err());
/// # Ok::<(), FormatError>(())
/// ```
pub trait Decode<T>: Send + Sync {
    /// The value that all of `from.bytes` stand for: bytes that are left over are an error.
    ///
    /// # Errors
    /// Bytes that are no such value; and, as for [`Encode::encode`], what has to be fetched first.
    fn decode(&self, from: Encoded<'_>) -> Result<T, FormatError>;
}

/// Which part of a record a format is asked for.
///
/// ```
/// assert_eq!(ottla::format::Part::Key.to_string(), "key");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Key => "key",
            Part::Value => "value",
        })
    }
}

/// Where a format writes to.
///
/// ```
/// use ottla::format::{Encoding, Part};
///
/// let mut bytes = Vec::new();
/// let to = Encoding::key("orders", &mut bytes);
/// assert_eq!((to.topic, to.part), ("orders", Part::Key));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Encoding<'a> {
    /// The topic that the record goes to.
    pub topic: &'a str,
    /// Which part of the record this is.
    pub part: Part,
    /// The encoding, behind what is there already.
    pub bytes: &'a mut Vec<u8>,
    /// Headers for the record, by name, behind those that it has.
    pub headers: Vec<(Cow<'static, str>, Vec<u8>)>,
}

impl<'a> Encoding<'a> {
    /// Of a record's key.
    pub fn key(topic: &'a str, bytes: &'a mut Vec<u8>) -> Self {
        Encoding { topic, part: Part::Key, bytes, headers: Vec::new() }
    }

    /// Of a record's value.
    pub fn value(topic: &'a str, bytes: &'a mut Vec<u8>) -> Self {
        Encoding { topic, part: Part::Value, bytes, headers: Vec::new() }
    }
}

/// What a format reads.
///
/// ```
/// use ottla::format::Encoded;
///
/// assert_eq!(Encoded::value("orders", b"tea").header("schema"), None);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Encoded<'a> {
    /// The topic that the record was read from.
    pub topic: &'a str,
    /// Which part of the record this is.
    pub part: Part,
    /// The encoding, all of it.
    pub bytes: &'a [u8],
    pub(crate) headers: HeadersOf<'a>,
}

/// The headers of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeadersOf<'a> {
    /// Of one on loan, as its batch has them.
    Lent(Headers<'a>),
    /// Of one that keeps its own.
    Owned(&'a [(Str, Option<Bytes>)]),
}

impl<'a> Encoded<'a> {
    /// Of a record's key, without headers. What a consumer has read comes by [`Record::encoded`](crate::Record::encoded).
    pub fn key(topic: &'a str, bytes: &'a [u8]) -> Self {
        Encoded { topic, part: Part::Key, bytes, headers: HeadersOf::Owned(&[]) }
    }

    /// Of a record's value, without headers.
    pub fn value(topic: &'a str, bytes: &'a [u8]) -> Self {
        Encoded { topic, part: Part::Value, bytes, headers: HeadersOf::Owned(&[]) }
    }

    /// The value of the last header of this name, as Java's `lastHeader`.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        match self.headers {
            HeadersOf::Lent(mut headers) => {
                headers.by_ref().filter(|header| header.key == name).last()?.value
            }
            HeadersOf::Owned(headers) => {
                let (_, value) = headers.iter().rfind(|(key, _)| key.as_str() == name)?;
                value.as_deref()
            }
        }
    }
}

/// What a format has to fetch: see [`FormatError::later`].
pub type Later = Pin<Box<dyn Future<Output = Result<(), FormatError>> + Send>>;

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
pub struct FormatError {
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// Behind a lock that nobody contends: futures are not `Sync`, and errors have to be.
    later: Option<Mutex<Later>>,
}

impl FormatError {
    /// An error with a message in lower case that ends without a dot and holds no payload.
    pub fn new(message: impl Into<Cow<'static, str>>) -> FormatError {
        FormatError { message: message.into(), source: None, later: None }
    }

    /// Adds the cause. Its messages must hold no payload either.
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> FormatError {
        FormatError { source: Some(Box::new(source)), ..self }
    }

    /// Not an error yet: the format has to fetch something, such as a schema, and cannot wait where it was called. Who gets
    /// this awaits [`take_later`](Self::take_later) and calls again.
    ///
    /// The future may be dropped at any time; the next call makes another. It must end by itself, in an error if need be.
    ///
    /// ```
    /// use ottla::format::FormatError;
    ///
    /// # async fn run() -> Result<(), FormatError> {
    /// let mut error = FormatError::later("schema 7 is not known yet", async { Ok(()) });
    /// if let Some(later) = error.take_later() {
    ///     later.await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn later(
        message: impl Into<Cow<'static, str>>,
        fetch: impl Future<Output = Result<(), FormatError>> + Send + 'static,
    ) -> FormatError {
        FormatError { later: Some(Mutex::new(Box::pin(fetch))), ..FormatError::new(message) }
    }

    /// What to await before the same call is made again; `None` where that would be in vain.
    pub fn take_later(&mut self) -> Option<Later> {
        self.later.take().map(Mutex::into_inner)
    }

    /// The error of a send whose key or value could not be encoded: kind [`ErrorKind::Format`], and
    /// [`Outcome::NotWritten`].
    pub fn not_written(self, topic: &str, part: Part) -> Error {
        Error::new(ErrorKind::Format, format!("topic {topic}, {part}: {self}"))
            .with_outcome(Outcome::NotWritten)
            .with_source(self)
    }
}

impl fmt::Debug for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("FormatError");
        debug.field("message", &self.message).field("source", &self.source);
        debug.field("later", &self.later.is_some()).finish()
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
