//! Whether a schema may follow others.
//!
//! It owns the direction in which each level looks; the rules of Avro are apache-avro's. Other languages are compatible with
//! themselves. Invariant: a schema that cannot be read is compatible with nothing.

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;

use crate::registry::{Compatibility, SchemaType};

/// A schema with the texts of those that it refers to.
pub(super) struct Whole {
    pub(super) kind: SchemaType,
    pub(super) text: String,
    pub(super) references: Vec<String>,
}

impl Whole {
    /// What is wrong with the text, if its language is known here.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.kind {
            SchemaType::Avro => self.avro().map(|_| ()),
            SchemaType::Json => serde_json::from_str::<serde_json::Value>(&self.text)
                .map(|_| ())
                .map_err(|error| error.to_string()),
            SchemaType::Protobuf if self.text.trim().is_empty() => Err("an empty file".to_owned()),
            SchemaType::Protobuf => Ok(()),
        }
    }

    fn avro(&self) -> Result<Schema, String> {
        let parsed = Schema::parse_str_with_list(&self.text, &self.references);
        parsed.map(|(schema, _)| schema).map_err(|error| error.to_string())
    }
}

/// Why `new` may not follow `before`, the oldest first; `None` if it may.
pub(super) fn problem(level: Compatibility, new: &Whole, before: &[Whole]) -> Option<String> {
    use Compatibility::*;
    let (reads, read) = match level {
        None => (false, false),
        Backward | BackwardTransitive => (true, false),
        Forward | ForwardTransitive => (false, true),
        Full | FullTransitive => (true, true),
    };
    let transitive = matches!(level, BackwardTransitive | ForwardTransitive | FullTransitive);
    let count = if transitive { before.len() } else { 1 };
    before.iter().rev().take(count).find_map(|old| {
        let pairs = [(reads, old, new), (read, new, old)];
        pairs
            .into_iter()
            .filter(|(looks, ..)| *looks)
            .find_map(|(_, writer, reader)| cannot_read(writer, reader))
    })
}

fn cannot_read(writer: &Whole, reader: &Whole) -> Option<String> {
    if writer.kind != reader.kind {
        return Some("the language is another".to_owned());
    }
    if writer.kind != SchemaType::Avro {
        return None;
    }
    let (writer, reader) = match (writer.avro(), reader.avro()) {
        (Ok(writer), Ok(reader)) => (writer, reader),
        (Err(error), _) | (_, Err(error)) => return Some(error),
    };
    SchemaCompatibility::can_read(&writer, &reader).err().map(|error| error.to_string())
}
