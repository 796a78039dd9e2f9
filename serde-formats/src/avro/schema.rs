//! Avro schemas, parsed and kept.
//!
//! It owns the parsing, and what a reader and a writer of a schema need beside it. Readers and writers of apache-avro borrow their
//! schema, so schemas live as long as the process, each once by its text, and no more than [`SCHEMAS_MAX`] of them. Invariant: the
//! same text is parsed once.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::ResolvedSchema;
use apache_avro::writer::datum::GenericDatumWriter;
use ottla::format::FormatError;

/// Schemas that a process may use, of all its topics, in all their versions.
pub(super) const SCHEMAS_MAX: usize = 10_000;

/// A parsed schema with the schemas that it refers to.
pub(super) struct Parsed {
    pub(super) schema: Schema,
    pub(super) others: Vec<Schema>,
}

type Known = HashMap<(String, Vec<String>), &'static Parsed>;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// The schema of this text, with the texts of those that it refers to.
pub(super) fn parse(text: &str, others: &[String]) -> Result<&'static Parsed, FormatError> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (text.to_owned(), others.to_vec());
    if let Some(parsed) = known.get(&key) {
        return Ok(parsed);
    }
    if known.len() >= SCHEMAS_MAX {
        return Err(FormatError::new(format!("this process has used {SCHEMAS_MAX} avro schemas already")));
    }
    let (schema, others) = match others {
        [] => (Schema::parse_str(text).map_err(unreadable)?, Vec::new()),
        others => Schema::parse_str_with_list(text, others).map_err(unreadable)?,
    };
    let parsed: &'static Parsed = Box::leak(Box::new(Parsed { schema, others }));
    // It has to resolve too, before it is kept for good.
    parsed.names()?;
    known.insert(key, parsed);
    Ok(parsed)
}

fn unreadable(error: apache_avro::Error) -> FormatError {
    FormatError::new("the avro schema cannot be read").with_source(error)
}

impl Parsed {
    /// The types that the schema defines and those that it refers to.
    pub(super) fn names(&'static self) -> Result<ResolvedSchema<'static>, FormatError> {
        let all = self.others.iter().chain([&self.schema]).collect();
        ResolvedSchema::new_with_schemata(all).map_err(unreadable)
    }

    pub(super) fn writer(&'static self) -> Result<GenericDatumWriter<'static>, FormatError> {
        let writer = GenericDatumWriter::builder(&self.schema).resolved_schemata(self.names()?);
        writer.human_readable(false).build().map_err(unreadable)
    }

    /// Of values as they were written, or as `reader` wants them.
    pub(super) fn reader(
        &'static self,
        reader: Option<&'static Parsed>,
    ) -> Result<GenericDatumReader<'static>, FormatError> {
        let names = reader.map(Parsed::names).transpose()?;
        let built = GenericDatumReader::builder(&self.schema).resolved_writer_schemata(self.names()?);
        let built = built.maybe_reader_schema(reader.map(|reader| &reader.schema));
        built.maybe_resolved_reader_schemata(names).human_readable(false).build().map_err(unreadable)
    }
}
