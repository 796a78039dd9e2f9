//! Formats whose schemas are in a registry.
//!
//! It owns which schema a record is written with, and the frame that names it. It refuses to know languages: those are the formats
//! that it is given. Invariant: encoding and decoding never wait; what is not known yet is an error that says what to await.

mod frame;
mod known;
mod languages;
mod subject;

use std::sync::Arc;

use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError, Part};

pub use frame::Framing;
use frame::Named;
use known::Known;
#[cfg(feature = "json")]
pub use languages::JsonSchema;
#[cfg(feature = "protobuf")]
pub use languages::ProtobufSchema;
pub use subject::{Subject, SubjectName};

use crate::registry::{Registry, RegistryError, RegistryErrorKind, RegistrySchema, SchemaVersion, Version};

/// A language of schemas, for [`Registered`]: what the crate's formats implement, and yours may.
pub trait Language: Send + Sync + 'static {
    /// What reads and writes the values of one schema.
    type Codec: Send + Sync + 'static;

    /// The schema that values are written with; `None` for a format that only reads, or that writes with whatever is newest.
    fn schema(&self) -> Option<&RegistrySchema>;

    /// The name of the record that the schema describes, for subjects that are named after it.
    fn record_name(&self) -> Option<String>;

    /// The message's place in a Protobuf schema; `None` for other languages.
    fn indexes(&self) -> Option<&[i32]> {
        None
    }

    /// Reads a schema, with the schemas that it refers to.
    ///
    /// # Errors
    /// A schema that cannot be read, or one of another language.
    fn codec(
        &self,
        schema: &RegistrySchema,
        references: &[SchemaVersion],
    ) -> Result<Self::Codec, FormatError>;
}

/// A [`Language`] that writes values of a type.
pub trait EncodeWith<T: ?Sized>: Language {
    /// Appends the payload.
    ///
    /// # Errors
    /// A value that does not fit the schema.
    fn encode_with(&self, codec: &Self::Codec, value: &T, out: &mut Vec<u8>) -> Result<(), FormatError>;
}

/// A [`Language`] that reads values of a type.
pub trait DecodeWith<T>: Language {
    /// Reads the payload, which was written with the schema of `codec`.
    ///
    /// # Errors
    /// Bytes that are not the schema's, or do not fit the type.
    fn decode_with(&self, codec: &Self::Codec, bytes: &[u8]) -> Result<T, FormatError>;
}

/// Which schema values are written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choose {
    /// The format's own, which is registered if need be. The default.
    #[default]
    Register,
    /// The format's own, which must be registered already.
    Lookup,
    /// The subject's newest, when a topic is first written to.
    Latest,
    /// This version of the subject.
    Version(i32),
}

/// A format whose records name their schema in a registry, framed as those of Confluent's serializers.
///
/// ```no_run
/// # #[derive(serde::Serialize)]
/// # struct Order { id: i64 }
/// # async fn run(producer: ottla::Producer) -> Result<(), Box<dyn std::error::Error>> {
/// use ottla_serde::{Avro, Registered, Registry, Text, TypedPayload, TypedSend};
///
/// let registry = Registry::builder(["http://127.0.0.1:8081"]).build()?;
/// let avro = Avro::new(r#"{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}"#)?;
/// let orders = producer.topic("orders").typed::<str, Order>(Text, Registered::new(&registry, avro));
/// orders.send(TypedPayload::new("4711", &Order { id: 4711 })).await?;
/// # Ok(())
/// # }
/// ```
///
/// A schema is fetched or registered once: by the first record that needs it, while its task waits and no other does.
pub struct Registered<L: Language>(Arc<Inner<L>>);

struct Inner<L: Language> {
    registry: Registry,
    language: Arc<L>,
    options: Options,
    known: Known<L::Codec>,
}

#[derive(Clone, Debug, Default)]
struct Options {
    subject: Subject,
    choose: Choose,
    framing: Framing,
    normalize: bool,
}

impl<L: Language> Clone for Registered<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L: Language> std::fmt::Debug for Registered<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl<L: Language> Registered<L> {
    /// A format that registers its schema under the topic's subject, and names it in front of the payload.
    pub fn new(registry: &Registry, language: L) -> Self {
        Self::set(registry.clone(), Arc::new(language), Options::default())
    }

    /// Names subjects in another way.
    pub fn subject(self, subject: Subject) -> Self {
        self.with(|options| options.subject = subject)
    }

    /// Chooses the schema in another way.
    pub fn choose(self, choose: Choose) -> Self {
        self.with(|options| options.choose = choose)
    }

    /// Names the schema elsewhere. Readers read both.
    pub fn framing(self, framing: Framing) -> Self {
        self.with(|options| options.framing = framing)
    }

    /// Lets the registry treat schemas alike that say the same in another text.
    pub fn normalize(self, normalize: bool) -> Self {
        self.with(|options| options.normalize = normalize)
    }

    /// Other settings make another format, which has to find out again what it writes with.
    fn with(self, edit: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.0.options.clone();
        edit(&mut options);
        Self::set(self.0.registry.clone(), self.0.language.clone(), options)
    }

    fn set(registry: Registry, language: Arc<L>, options: Options) -> Self {
        Self(Arc::new(Inner { registry, language, options, known: Known::default() }))
    }
}

/// What a topic's records are written with.
struct Writing<C> {
    named: Named,
    codec: C,
}

impl<L: Language> Inner<L> {
    /// Finds out what records of a topic are written with.
    async fn prepare(self: Arc<Self>, topic: String, part: Part) -> Result<(), FormatError> {
        let record = self.language.record_name();
        let subject = self.options.subject.name(&topic, part, record.as_deref())?;
        let writing = self
            .writing(&subject)
            .await
            .map_err(|error| FormatError::new(format!("subject {subject}: {error}")).with_source(error))?;
        self.known.write(topic, part, writing);
        Ok(())
    }

    async fn writing(&self, subject: &str) -> Result<Writing<L::Codec>, FormatError> {
        let Options { choose, normalize, .. } = self.options;
        let own = || {
            let own = self.language.schema();
            own.cloned().ok_or_else(|| FormatError::new("the format has no schema of its own to register"))
        };
        let (schema, id, guid) = match choose {
            Choose::Register => {
                let schema = own()?;
                let registration = self.registry.register(subject, &schema, normalize).await?;
                (schema, registration.id, registration.guid)
            }
            Choose::Lookup => {
                let found = self.registry.lookup(subject, &own()?, normalize).await?;
                (found.schema, found.id, found.guid)
            }
            Choose::Latest => {
                let found = self.registry.version(subject, Version::Latest).await?;
                (found.schema, found.id, found.guid)
            }
            Choose::Version(number) => {
                let found = self.registry.version(subject, Version::Number(number)).await?;
                (found.schema, found.id, found.guid)
            }
        };
        let named = match self.options.framing {
            Framing::Prefix => Named::Id(id),
            Framing::Header => {
                let guid = guid.as_deref().and_then(frame::parse_guid);
                Named::Guid(
                    guid.ok_or_else(|| FormatError::new("the schema registry gives schemas no guid"))?,
                )
            }
        };
        let references = self.registry.references(&schema).await?;
        Ok(Writing { named, codec: self.language.codec(&schema, &references)? })
    }

    /// Fetches a schema that a record names. That there is none is known afterwards, and no error here: the record's decoding says
    /// so.
    async fn fetch(self: Arc<Self>, named: Named) -> Result<(), FormatError> {
        let found = match self.reading(named).await {
            Err(Missing::Elsewhere(error)) => return Err(error.into()),
            Err(Missing::Refused(why)) => Err(why),
            Ok(codec) => Ok(codec),
        };
        self.known.read(named, found);
        Ok(())
    }

    async fn reading(&self, named: Named) -> Result<L::Codec, Missing> {
        let schema = match named {
            Named::Id(id) => self.registry.schema(id).await?,
            Named::Guid(guid) => self.registry.schema_by_guid(&frame::guid_text(&guid)).await?,
        };
        let references = self.registry.references(&schema).await?;
        self.language.codec(&schema, &references).map_err(|error| Missing::Refused(error.to_string()))
    }
}

/// Why there is nothing to read a record with.
enum Missing {
    /// Of the record: its schema does not exist, or cannot be read.
    Refused(String),
    /// Of the registry: the same may work later.
    Elsewhere(RegistryError),
}

impl From<RegistryError> for Missing {
    fn from(error: RegistryError) -> Self {
        match error.kind() {
            RegistryErrorKind::NotFound | RegistryErrorKind::InvalidSchema => {
                Missing::Refused(error.to_string())
            }
            _ => Missing::Elsewhere(error),
        }
    }
}

impl<T: ?Sized, L: EncodeWith<T>> Encode<T> for Registered<L> {
    fn encode(&self, value: &T, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        let Inner { language, known, .. } = &*self.0;
        let Some(writing) = known.writing(to.topic, to.part) else {
            let message = format!("what topic {} is written with is not known yet", to.topic);
            return Err(FormatError::later(message, self.0.clone().prepare(to.topic.to_owned(), to.part)));
        };
        match writing.named {
            Named::Id(_) => writing.named.write(language.indexes(), to.bytes),
            Named::Guid(_) => {
                let mut value = Vec::with_capacity(18);
                writing.named.write(language.indexes(), &mut value);
                to.headers.push((frame::header(to.part).into(), value));
            }
        }
        language.encode_with(&writing.codec, value, to.bytes)
    }
}

impl<T, L: DecodeWith<T>> Decode<T> for Registered<L> {
    fn decode(&self, from: Encoded<'_>) -> Result<T, FormatError> {
        let Inner { language, known, .. } = &*self.0;
        let framed = frame::read(&from, language.indexes().is_some())?;
        let Some(found) = known.reading(framed.named) else {
            let message = format!("{} is not known yet", framed.named);
            return Err(FormatError::later(message, self.0.clone().fetch(framed.named)));
        };
        let in_schema =
            |error: FormatError| FormatError::new(format!("{}: {error}", framed.named)).with_source(error);
        let codec =
            found.as_ref().as_ref().map_err(|why| FormatError::new(format!("{}: {why}", framed.named)))?;
        if let Some(own) = language.indexes().filter(|own| *own != framed.indexes) {
            let message = format!(
                "the bytes are the message at {:?} of their file, not that at {own:?}",
                framed.indexes
            );
            return Err(in_schema(FormatError::new(message)));
        }
        language.decode_with(codec, framed.payload).map_err(in_schema)
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Named::Id(id) => write!(f, "schema {id}"),
            Named::Guid(guid) => write!(f, "schema {}", frame::guid_text(guid)),
        }
    }
}
