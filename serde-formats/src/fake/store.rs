//! What a registry knows: schemas by number, subjects with versions, and what each subject allows.
//!
//! It owns the answers. It refuses to know connections. Invariant: a number is given once, and the same schema has the same number
//! under every subject.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::compatible::{Whole, problem};
use crate::registry::{Compatibility, Mode, RegistrySchema, SchemaType};

#[derive(Debug, Default)]
pub(super) struct Store {
    /// The schema with number 1 comes first.
    schemas: Vec<RegistrySchema>,
    subjects: BTreeMap<String, Vec<Entry>>,
    levels: BTreeMap<Option<String>, Compatibility>,
    modes: BTreeMap<Option<String>, Mode>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    version: i32,
    id: u32,
    deleted: bool,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn refusal(status: u16, code: u32, message: &str) -> Answer {
        Answer { status, body: json!({"error_code": code, "message": message}).to_string() }
    }

    fn ok(body: Value) -> Result<Answer, Answer> {
        Ok(Answer { status: 200, body: body.to_string() })
    }
}

fn no_subject() -> Answer {
    Answer::refusal(404, 40401, "Subject not found")
}

fn no_version() -> Answer {
    Answer::refusal(404, 40402, "Version not found")
}

fn no_schema() -> Answer {
    Answer::refusal(404, 40403, "Schema not found")
}

fn body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Answer> {
    serde_json::from_slice(bytes).map_err(|error| Answer::refusal(422, 42201, &error.to_string()))
}

fn guid(id: u32) -> String {
    format!("{id:08x}-0000-4000-8000-{id:012x}")
}

impl Store {
    /// `path`: its parts, without escapes.
    pub(super) fn answer(&mut self, method: &str, path: &[&str], query: &str, bytes: &[u8]) -> Answer {
        let has = |name: &str| query.split('&').any(|pair| pair == name);
        let answered = match (method, path) {
            ("GET", ["schemas", "ids", id]) => self.by_id(id.parse().unwrap_or(0)),
            ("GET", ["schemas", "guids", wanted]) => {
                let id = (1..).take(self.schemas.len()).find(|id| guid(*id) == *wanted);
                self.by_id(id.unwrap_or(0))
            }
            ("GET", ["subjects"]) => self.subjects(has("deleted=true")),
            ("GET", ["contexts"]) => self.contexts(),
            ("GET", ["subjects", subject, "versions"]) => self.versions(subject),
            ("POST", ["subjects", subject, "versions"]) => {
                body(bytes).and_then(|schema| self.register(subject, schema))
            }
            ("POST", ["subjects", subject]) => body(bytes).and_then(|schema| self.lookup(subject, &schema)),
            ("GET", ["subjects", subject, "versions", version]) => self.version(subject, version),
            ("GET", ["subjects", subject, "versions", version, "referencedby"]) => {
                self.referenced_by(subject, version)
            }
            ("DELETE", ["subjects", subject]) => self.delete_subject(subject, has("permanent=true")),
            ("DELETE", ["subjects", subject, "versions", version]) => {
                self.delete_version(subject, version, has("permanent=true"))
            }
            ("POST", ["compatibility", "subjects", subject, "versions", version]) => {
                body(bytes).and_then(|schema| self.is_compatible(subject, version, &schema))
            }
            ("GET", ["config", ..]) => {
                Answer::ok(json!({"compatibilityLevel": self.level(path.get(1).copied())}))
            }
            ("PUT", ["config", ..]) => self.set_level(path.get(1).copied(), bytes),
            ("GET", ["mode", ..]) => Answer::ok(json!({"mode": self.mode(path.get(1).copied())})),
            ("PUT", ["mode", ..]) => self.set_mode(path.get(1).copied(), bytes),
            _ => Err(Answer::refusal(404, 404, "HTTP 404 Not Found")),
        };
        answered.unwrap_or_else(|refusal| refusal)
    }

    fn schema(&self, id: u32) -> Option<&RegistrySchema> {
        self.schemas.get(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    fn by_id(&self, id: u32) -> Result<Answer, Answer> {
        Answer::ok(shown(self.schema(id).ok_or_else(no_schema)?))
    }

    fn subjects(&self, deleted: bool) -> Result<Answer, Answer> {
        let shows = |entries: &[Entry]| entries.iter().any(|entry| deleted || !entry.deleted);
        let names = self.subjects.iter().filter(|(_, entries)| shows(entries)).map(|(name, _)| name);
        Answer::ok(json!(names.collect::<Vec<_>>()))
    }

    fn contexts(&self) -> Result<Answer, Answer> {
        let context = |name: &String| Some(name.strip_prefix(':')?.split_once(':')?.0.to_owned());
        let mut all: Vec<String> = self.subjects.keys().filter_map(context).chain([".".to_owned()]).collect();
        all.sort();
        all.dedup();
        Answer::ok(json!(all))
    }

    fn live(&self, subject: &str) -> Vec<Entry> {
        let entries = self.subjects.get(subject).into_iter().flatten();
        entries.filter(|entry| !entry.deleted).copied().collect()
    }

    fn versions(&self, subject: &str) -> Result<Answer, Answer> {
        let live = self.live(subject);
        if live.is_empty() {
            return Err(no_subject());
        }
        Answer::ok(json!(live.iter().map(|entry| entry.version).collect::<Vec<_>>()))
    }

    fn find(&self, subject: &str, version: &str) -> Result<Entry, Answer> {
        let live = self.live(subject);
        let newest = live.last().ok_or_else(no_subject)?;
        if version == "latest" || version == "-1" {
            return Ok(*newest);
        }
        live.iter().find(|entry| entry.version.to_string() == version).copied().ok_or_else(no_version)
    }

    fn version(&self, subject: &str, version: &str) -> Result<Answer, Answer> {
        let entry = self.find(subject, version)?;
        Answer::ok(self.entry(subject, entry))
    }

    fn entry(&self, subject: &str, entry: Entry) -> Value {
        let mut all = self.schema(entry.id).map_or(Value::Null, shown);
        all["subject"] = json!(subject);
        all["version"] = json!(entry.version);
        all["id"] = json!(entry.id);
        all["guid"] = json!(guid(entry.id));
        all
    }

    fn register(&mut self, subject: &str, schema: RegistrySchema) -> Result<Answer, Answer> {
        if matches!(self.mode(Some(subject)), Mode::ReadOnly | Mode::ReadOnlyOverride) {
            return Err(Answer::refusal(422, 42205, "the subject is in read-only mode"));
        }
        let whole = self.whole(&schema)?;
        whole.check().map_err(|problem| Answer::refusal(422, 42201, &problem))?;
        let (known, live) = (self.id_of(&schema), self.live(subject));
        if let Some(entry) = live.iter().find(|entry| Some(entry.id) == known) {
            return Answer::ok(json!({"id": entry.id, "version": entry.version, "guid": guid(entry.id)}));
        }
        if let Some(problem) = problem(self.level(Some(subject)), &whole, &self.wholes(&live)?) {
            return Err(Answer::refusal(409, 409, &problem));
        }
        let id = known.unwrap_or_else(|| {
            self.schemas.push(schema);
            u32::try_from(self.schemas.len()).unwrap_or(u32::MAX)
        });
        let entries = self.subjects.entry(subject.to_owned()).or_default();
        let version = entries.last().map_or(1, |entry| entry.version + 1);
        entries.push(Entry { version, id, deleted: false });
        Answer::ok(json!({"id": id, "version": version, "guid": guid(id)}))
    }

    fn id_of(&self, schema: &RegistrySchema) -> Option<u32> {
        let at = self.schemas.iter().position(|known| same(known, schema))?;
        u32::try_from(at + 1).ok()
    }

    fn lookup(&self, subject: &str, schema: &RegistrySchema) -> Result<Answer, Answer> {
        let live = self.live(subject);
        if live.is_empty() {
            return Err(no_subject());
        }
        let id = self.id_of(schema).ok_or_else(no_schema)?;
        let entry = live.into_iter().find(|entry| entry.id == id).ok_or_else(no_schema)?;
        Answer::ok(self.entry(subject, entry))
    }

    /// A schema with those that it refers to, and those that they refer to.
    fn whole(&self, schema: &RegistrySchema) -> Result<Whole, Answer> {
        let mut references = Vec::new();
        let mut left: Vec<_> = schema.references.clone();
        while let Some(reference) = left.pop() {
            let entry = self.find(&reference.subject, &reference.version.to_string())?;
            let referred = self.schema(entry.id).ok_or_else(no_schema)?;
            if references.contains(&referred.schema) {
                continue;
            }
            left.extend(referred.references.iter().cloned());
            references.push(referred.schema.clone());
        }
        Ok(Whole { kind: schema.schema_type, text: schema.schema.clone(), references })
    }

    fn wholes(&self, entries: &[Entry]) -> Result<Vec<Whole>, Answer> {
        entries.iter().filter_map(|entry| self.schema(entry.id)).map(|schema| self.whole(schema)).collect()
    }

    fn referenced_by(&self, subject: &str, version: &str) -> Result<Answer, Answer> {
        let entry = self.find(subject, version)?;
        let refers = |schema: &RegistrySchema| {
            schema
                .references
                .iter()
                .any(|reference| reference.subject == subject && reference.version == entry.version)
        };
        let ids = (1_u32..).zip(&self.schemas).filter(|(_, schema)| refers(schema)).map(|(id, _)| id);
        Answer::ok(json!(ids.collect::<Vec<_>>()))
    }

    fn delete_subject(&mut self, subject: &str, permanent: bool) -> Result<Answer, Answer> {
        let entries = self.subjects.get_mut(subject).ok_or_else(no_subject)?;
        let versions: Vec<i32> = entries.iter().map(|entry| entry.version).collect();
        if !permanent {
            entries.iter_mut().for_each(|entry| entry.deleted = true);
        } else if entries.iter().all(|entry| entry.deleted) {
            self.subjects.remove(subject);
        } else {
            return Err(Answer::refusal(
                404,
                40405,
                "Subject was not deleted first before being permanently deleted",
            ));
        }
        Answer::ok(json!(versions))
    }

    fn delete_version(&mut self, subject: &str, version: &str, permanent: bool) -> Result<Answer, Answer> {
        let found = if permanent { version.parse().ok() } else { Some(self.find(subject, version)?.version) };
        let entries = self.subjects.get_mut(subject).ok_or_else(no_subject)?;
        let at = entries.iter().position(|entry| Some(entry.version) == found).ok_or_else(no_version)?;
        let number = entries[at].version;
        if !permanent {
            entries[at].deleted = true;
        } else if entries[at].deleted {
            entries.remove(at);
        } else {
            return Err(Answer::refusal(
                404,
                40407,
                "Version was not deleted first before being permanently deleted",
            ));
        }
        Answer::ok(json!(number))
    }

    fn is_compatible(&self, subject: &str, version: &str, schema: &RegistrySchema) -> Result<Answer, Answer> {
        let entry = self.find(subject, version)?;
        let new = self.whole(schema)?;
        let problem = problem(self.level(Some(subject)), &new, &self.wholes(&[entry])?);
        Answer::ok(json!({"is_compatible": problem.is_none()}))
    }

    fn level(&self, subject: Option<&str>) -> Compatibility {
        let own = subject.and_then(|subject| self.levels.get(&Some(subject.to_owned())));
        own.or_else(|| self.levels.get(&None)).copied().unwrap_or(Compatibility::Backward)
    }

    fn set_level(&mut self, subject: Option<&str>, bytes: &[u8]) -> Result<Answer, Answer> {
        #[derive(serde::Deserialize)]
        struct Body {
            compatibility: Compatibility,
        }
        let Body { compatibility } = body(bytes)?;
        self.levels.insert(subject.map(str::to_owned), compatibility);
        Answer::ok(json!({"compatibility": compatibility}))
    }

    fn mode(&self, subject: Option<&str>) -> Mode {
        let own = subject.and_then(|subject| self.modes.get(&Some(subject.to_owned())));
        own.or_else(|| self.modes.get(&None)).copied().unwrap_or(Mode::ReadWrite)
    }

    fn set_mode(&mut self, subject: Option<&str>, bytes: &[u8]) -> Result<Answer, Answer> {
        #[derive(serde::Deserialize)]
        struct Body {
            mode: Mode,
        }
        let Body { mode } = body(bytes)?;
        self.modes.insert(subject.map(str::to_owned), mode);
        Answer::ok(json!({"mode": mode}))
    }
}

/// A schema as answers have it: of Avro nothing is said.
fn shown(schema: &RegistrySchema) -> Value {
    let mut all = json!({"schema": schema.schema});
    if schema.schema_type != SchemaType::Avro {
        all["schemaType"] = json!(schema.schema_type);
    }
    if !schema.references.is_empty() {
        all["references"] = json!(schema.references);
    }
    all
}

/// Whether two schemas are one: in JSON, spaces and line ends do not count.
fn same(one: &RegistrySchema, other: &RegistrySchema) -> bool {
    let read = |schema: &RegistrySchema| serde_json::from_str::<Value>(&schema.schema).ok();
    let alike = one.schema == other.schema || read(one).is_some_and(|value| Some(value) == read(other));
    alike && one.schema_type == other.schema_type && one.references == other.references
}
