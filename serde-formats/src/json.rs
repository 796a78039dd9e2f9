//! JSON, by serde.
//!
//! It refuses to quote: serde's messages repeat the value that did not fit, and that is payload. Invariant: a decoding error
//! is one of three fixed sentences and a position.

use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::trail::Trail;

/// JSON of everything that implements serde's traits, without spaces or line ends between its parts.
///
/// Reading refuses what is left over after the value, and values nested deeper than 127 levels.
///
/// ```
/// use ottla::format::{Decode, Encode, Encoded, Encoding};
/// use ottla_serde::Json;
///
/// #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
/// struct Quake {
///     place: String,
///     magnitude: f32,
/// }
///
/// let quake = Quake { place: "Chur".to_owned(), magnitude: 2.5 };
/// let mut out = Vec::new();
/// Json.encode(&quake, &mut Encoding::value("quakes", &mut out))?;
/// assert_eq!(out, br#"{"place":"Chur","magnitude":2.5}"#);
/// assert_eq!(quake, Json.decode(Encoded::value("quakes", &out))?);
///
/// let poison: Result<Quake, _> = Json.decode(Encoded::value("quakes", br#"{"place":"Chur","magnitude":"strong"}"#));
/// assert_eq!(poison.unwrap_err().to_string(), "the json does not fit the type at line 1 column 36");
/// # Ok::<(), ottla::format::FormatError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

impl<T: Serialize + ?Sized> Encode<T> for Json {
    /// Fails where the value cannot be JSON, as a map whose keys are not text, or a number that is infinite or none; the error
    /// names the field, and the cause is serde's.
    fn encode(&self, value: &T, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        write(value, to.bytes)
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(&self, from: Encoded<'_>) -> Result<T, FormatError> {
        read(from.bytes)
    }
}

pub(crate) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), FormatError> {
    let trail = Trail::finite();
    let mut json = serde_json::Serializer::new(out);
    value.serialize(trail.follow(&mut json)).map_err(|error| {
        FormatError::new(trail.tell("the value cannot be written as json")).with_source(error)
    })
}

pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let problem = match error.classify() {
            Category::Data => "the json does not fit the type",
            Category::Eof => "the json ends too early",
            Category::Syntax | Category::Io => "the bytes are not json",
        };
        FormatError::new(format!("{problem} at line {} column {}", error.line(), error.column()))
    })
}
