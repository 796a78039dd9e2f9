//! Avro, by apache-avro.
//!
//! It owns which schema writes and which reads. It refuses to know where schemas come from: the registry's framing is put around
//! this by [`Registered`](crate::Registered). Invariant: bytes are checked against their schema before anything of them is
//! allocated.

mod bounds;
mod generic;
mod schema;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::ResolvedSchema;
use apache_avro::writer::datum::GenericDatumWriter;
use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use generic::{AvroJson, AvroValues};
use schema::Parsed;

use crate::trail::Trail;

/// Avro without framing, of everything that implements serde's traits and fits the schema: the
/// bytes of one value, which bear no schema.
///
/// ```
/// use ottla::format::{Decode, Encode, Encoded, Encoding};
/// use ottla_serde::Avro;
///
/// #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
/// struct Quake {
///     place: String,
///     magnitude: f32,
/// }
///
/// let avro = Avro::new(r#"{"type": "record", "name": "Quake", "fields": [
///     {"name": "place", "type": "string"}, {"name": "magnitude", "type": "float"}]}"#)?;
/// let quake = Quake { place: "Chur".to_owned(), magnitude: 2.5 };
/// let mut out = Vec::new();
/// avro.encode(&quake, &mut Encoding::value("quakes", &mut out))?;
/// assert_eq!(out, b"\x08Chur\0\0\x20\x40");
/// assert_eq!(quake, avro.decode(Encoded::value("quakes", &out))?);
/// # Ok::<(), ottla::format::FormatError>(())
/// ```
///
/// Schemas are kept as long as the process lives, each once, and at most 10,000 of them.
pub struct Avro {
    text: String,
    own: &'static Parsed,
    codec: AvroCodec,
    #[cfg(feature = "registry")]
    pub(crate) registered: crate::registry::RegistrySchema,
}

/// What reads and writes values of one schema; made by [`Avro`] and opaque.
pub struct AvroCodec {
    parsed: &'static Parsed,
    names: ResolvedSchema<'static>,
    writer: GenericDatumWriter<'static>,
    /// As they were written.
    reader: GenericDatumReader<'static>,
    /// As the format's own schema wants them, where that is another.
    resolving: Option<GenericDatumReader<'static>>,
}

impl std::fmt::Debug for Avro {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Avro").field("schema", &self.text).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AvroCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AvroCodec").finish_non_exhaustive()
    }
}

impl Avro {
    /// Values of a schema, given in JSON.
    ///
    /// # Errors
    /// A schema that cannot be read, or that refers to types it does not define.
    pub fn new(schema: &str) -> Result<Avro, FormatError> {
        Avro::with_references(schema, [])
    }

    /// Values of a schema that refers to types of other schemas, which are given too.
    ///
    /// # Errors
    /// As [`new`](Avro::new).
    pub fn with_references(
        schema: &str,
        references: impl IntoIterator<Item = String>,
    ) -> Result<Avro, FormatError> {
        let own = schema::parse(schema, &references.into_iter().collect::<Vec<_>>())?;
        Ok(Avro {
            text: schema.to_owned(),
            own,
            codec: AvroCodec::new(own, None)?,
            #[cfg(feature = "registry")]
            registered: crate::registry::RegistrySchema::new(crate::registry::SchemaType::Avro, schema),
        })
    }

    /// Reads with this format's schema what was written with another one: by Avro's rules of schema resolution, so that fields
    /// may come and go where they have defaults.
    ///
    /// # Errors
    /// As [`new`](Avro::new).
    ///
    /// ```
    /// # use ottla::format::{Decode, Encode, Encoded, Encoding};
    /// # use ottla_serde::Avro;
    /// let old = r#"{"type": "record", "name": "Quake", "fields": [{"name": "place", "type": "string"}]}"#;
    /// let new = r#"{"type": "record", "name": "Quake", "fields": [
    ///     {"name": "place", "type": "string"}, {"name": "depth", "type": "long", "default": -1}]}"#;
    /// let mut out = Vec::new();
    /// Avro::new(old)?.json().encode(&serde_json::json!({"place": "Chur"}), &mut Encoding::value("quakes", &mut out))?;
    /// let quake: serde_json::Value = Avro::new(new)?.written_with(old)?.json().decode(Encoded::value("quakes", &out))?;
    /// assert_eq!(quake["depth"], -1);
    /// # Ok::<(), ottla::format::FormatError>(())
    /// ```
    pub fn written_with(self, writer: &str) -> Result<Avro, FormatError> {
        let codec = AvroCodec::new(schema::parse(writer, &[])?, Some(self.own))?;
        Ok(Avro { codec, ..self })
    }

    /// The same format for values of [`apache_avro::types::Value`], which need no Rust type.
    pub fn values(self) -> AvroValues {
        AvroValues(self)
    }

    /// The same format for JSON.
    pub fn json(self) -> AvroJson {
        AvroJson(self)
    }

    /// Says under which subjects the schemas are registered that this one refers to.
    #[cfg(feature = "registry")]
    pub fn reference(mut self, name: &str, subject: &str, version: i32) -> Avro {
        self.registered = self.registered.reference(name, subject, version);
        self
    }

    /// What reads, as this format's schema wants it, what was written with another.
    #[cfg(feature = "registry")]
    pub(crate) fn codec_for(
        &self,
        schema: &str,
        references: impl IntoIterator<Item = String>,
    ) -> Result<AvroCodec, FormatError> {
        let parsed = schema::parse(schema, &references.into_iter().collect::<Vec<_>>())?;
        AvroCodec::new(parsed, Some(self.own))
    }

    /// The full name of the schema, if it has one.
    #[cfg(feature = "registry")]
    pub(crate) fn record_name(&self) -> Option<String> {
        self.own.schema.name().map(|name| name.fullname(None))
    }

    /// The schema, as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl AvroCodec {
    fn new(parsed: &'static Parsed, wanted: Option<&'static Parsed>) -> Result<AvroCodec, FormatError> {
        let wanted = wanted.filter(|wanted| wanted.schema != parsed.schema);
        Ok(AvroCodec {
            parsed,
            names: parsed.names()?,
            writer: parsed.writer()?,
            reader: parsed.reader(None)?,
            resolving: wanted.map(|wanted| parsed.reader(Some(wanted))).transpose()?,
        })
    }

    fn check(&self, bytes: &[u8]) -> Result<(), FormatError> {
        bounds::check(&self.parsed.schema, self.names.get_names(), bytes)
    }

    pub(crate) fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let trail = Trail::default();
        let written = self.writer.write_ser(out, &trail.of(value));
        written
            .map(|_| ())
            .map_err(|_| FormatError::new(trail.tell("the value does not fit the avro schema")))
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, mut bytes: &[u8]) -> Result<T, FormatError> {
        self.check(bytes)?;
        match &self.resolving {
            None => self.reader.read_deser(&mut bytes).map_err(unfit),
            Some(reader) => {
                let value = reader.read_value(&mut bytes).map_err(unfit)?;
                apache_avro::from_value(&value).map_err(unfit)
            }
        }
    }
}

/// The error of apache-avro may repeat the value, so it is not kept.
fn unfit(_: apache_avro::Error) -> FormatError {
    FormatError::new("the avro value does not fit the type or its schema")
}

impl<T: Serialize + ?Sized> Encode<T> for Avro {
    fn encode(&self, value: &T, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        self.codec.encode(value, to.bytes)
    }
}

impl<T: DeserializeOwned> Decode<T> for Avro {
    fn decode(&self, from: Encoded<'_>) -> Result<T, FormatError> {
        self.codec.decode(from.bytes)
    }
}
