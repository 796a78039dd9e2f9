//! Schemas as a registry knows them: text of a kind, and names of others.
//!
//! It owns the layout of the registry's JSON. It refuses to read the text. Invariant: what the registry adds to an answer that is
//! not known here is left alone.

use serde::{Deserialize, Serialize};

/// The language of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SchemaType {
    /// Avro, in JSON; where an answer says nothing, it is this.
    #[default]
    Avro,
    /// Protobuf, as the text of a `.proto` file.
    Protobuf,
    /// JSON Schema.
    Json,
}

/// A schema that another one refers to.
///
/// ```
/// let reference = ottla_serde::SchemaReference { name: "shop.Tea".to_owned(), subject: "tea".to_owned(), version: 1 };
/// # drop(reference);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SchemaReference {
    /// How the schema names it: a type of Avro, a file of Protobuf, a URL of JSON Schema.
    pub name: String,
    /// Where it is registered.
    pub subject: String,
    /// Which version of that.
    pub version: i32,
}

/// A schema: its text, the language, and what it refers to.
///
/// ```
/// use ottla_serde::{RegistrySchema, SchemaType};
///
/// let schema = RegistrySchema::new(SchemaType::Avro, r#""string""#);
/// assert!(schema.references.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RegistrySchema {
    /// The language.
    #[serde(default)]
    pub schema_type: SchemaType,
    /// The text.
    pub schema: String,
    /// Other schemas that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_none")]
    pub references: Vec<SchemaReference>,
}

/// Some registries write null for an empty list.
fn or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<SchemaReference>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl RegistrySchema {
    /// A schema that refers to no other.
    pub fn new(schema_type: SchemaType, schema: impl Into<String>) -> Self {
        Self { schema_type, schema: schema.into(), references: Vec::new() }
    }

    /// Adds a schema that this one refers to.
    pub fn reference(mut self, name: impl Into<String>, subject: impl Into<String>, version: i32) -> Self {
        self.references.push(SchemaReference { name: name.into(), subject: subject.into(), version });
        self
    }
}

/// A schema under a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SchemaVersion {
    /// The subject.
    pub subject: String,
    /// Counted from 1 in each subject.
    pub version: i32,
    /// The number of the schema in the whole registry, or in its context.
    pub id: u32,
    /// The schema's name in all registries, where the registry has such names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// The schema.
    #[serde(flatten)]
    pub schema: RegistrySchema,
}

/// What registering a schema has brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Registration {
    /// The number of the schema.
    pub id: u32,
    /// The schema's name in all registries, where the registry has such names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
}

/// Which version of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The newest when it is asked for.
    Latest,
    /// This one.
    Number(i32),
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Version::Latest => f.write_str("latest"),
            Version::Number(number) => number.fmt(f),
        }
    }
}

/// What a new schema of a subject must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Compatibility {
    /// Anything.
    None,
    /// The new one reads what the one before has written.
    Backward,
    /// The new one reads what all before have written.
    BackwardTransitive,
    /// The one before reads what the new one writes.
    Forward,
    /// All before read what the new one writes.
    ForwardTransitive,
    /// Both ways, with the one before.
    Full,
    /// Both ways, with all before.
    FullTransitive,
}

/// What may be done to a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// Everything.
    ReadWrite,
    /// Nothing is registered.
    ReadOnly,
    /// As `ReadOnly`, set from outside by some registries.
    #[serde(rename = "READONLY_OVERRIDE")]
    ReadOnlyOverride,
    /// Schemas are registered under numbers that are given.
    Import,
}
