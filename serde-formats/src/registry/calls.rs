//! What a registry can be asked, one method a call.
//!
//! It owns the paths. It refuses to know URLs and attempts. Invariant: a name is escaped before it is part of a path.

use std::fmt::Write as _;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::Registry;
use super::error::RegistryError;
use super::http::Ask;
use super::schema::{Compatibility, Mode, Registration, RegistrySchema, SchemaVersion, Version};

fn get(path: impl Into<String>) -> Ask {
    Ask { method: Method::GET, path: path.into(), body: None }
}

fn delete(path: impl Into<String>) -> Ask {
    Ask { method: Method::DELETE, path: path.into(), body: None }
}

fn send(method: Method, path: impl Into<String>, body: &impl Serialize) -> Ask {
    let body = serde_json::to_string(body).expect("these types have text for keys, and so they are json");
    Ask { method, path: path.into(), body: Some(body) }
}

/// A name as a part of a path.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("a string takes all that is written"),
        }
    }
    out
}

/// `/config`, or that of a subject.
fn of_subject(what: &str, subject: Option<&str>) -> String {
    subject.map_or(format!("/{what}"), |subject| format!("/{what}/{}", escaped(subject)))
}

/// Every call ends within the deadline of the registry's settings, and its errors are those that [`RegistryErrorKind`](crate::RegistryErrorKind)
/// names. Dropping a future drops the request.
impl Registry {
    /// The schema of this number. Asked once, and kept.
    pub async fn schema(&self, id: u32) -> Result<RegistrySchema, RegistryError> {
        let ask = || self.0.http.ask(get(format!("/schemas/ids/{id}{}", self.context_query('?'))));
        self.0.by_id.get(id, ask).await
    }

    /// The schema of this GUID. Asked once, and kept.
    pub async fn schema_by_guid(&self, guid: &str) -> Result<RegistrySchema, RegistryError> {
        let ask = || self.0.http.ask(get(format!("/schemas/guids/{}", escaped(guid))));
        self.0.by_guid.get(guid.to_owned(), ask).await
    }

    /// Registers a schema under a subject, or finds that it is there. `normalize` lets the registry treat texts alike that say
    /// the same. Asked once, and kept.
    pub async fn register(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        normalize: bool,
    ) -> Result<Registration, RegistryError> {
        let path = format!("/subjects/{}/versions?normalize={normalize}", self.escaped(subject));
        let key = (subject.to_owned(), schema.clone(), normalize);
        self.0.registered.get(key, || self.0.http.ask(send(Method::POST, path, schema))).await
    }

    /// Under which version a subject has a schema.
    pub async fn lookup(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        normalize: bool,
    ) -> Result<SchemaVersion, RegistryError> {
        let path = format!("/subjects/{}?normalize={normalize}", self.escaped(subject));
        self.0.http.ask(send(Method::POST, path, schema)).await
    }

    /// A version of a subject. One that has a number is asked for once, and kept.
    pub async fn version(&self, subject: &str, version: Version) -> Result<SchemaVersion, RegistryError> {
        let ask = || self.0.http.ask(get(format!("/subjects/{}/versions/{version}", self.escaped(subject))));
        match version {
            Version::Latest => ask().await,
            Version::Number(number) => self.0.versions.get((subject.to_owned(), number), ask).await,
        }
    }

    /// The subjects, those that are deleted too if asked for.
    pub async fn subjects(&self, deleted: bool) -> Result<Vec<String>, RegistryError> {
        let prefix = match &self.0.context {
            Some(context) => format!("&subjectPrefix={}", escaped(&format!(":{context}:"))),
            None => String::new(),
        };
        self.0.http.ask(get(format!("/subjects?deleted={deleted}{prefix}"))).await
    }

    /// The versions of a subject.
    pub async fn versions(&self, subject: &str) -> Result<Vec<i32>, RegistryError> {
        self.0.http.ask(get(format!("/subjects/{}/versions", self.escaped(subject)))).await
    }

    /// The numbers of the schemas that refer to a version.
    pub async fn referenced_by(&self, subject: &str, version: i32) -> Result<Vec<u32>, RegistryError> {
        let subject = self.escaped(subject);
        self.0.http.ask(get(format!("/subjects/{subject}/versions/{version}/referencedby"))).await
    }

    /// Deletes a subject, and returns its versions. What was deleted once can be deleted for good.
    pub async fn delete_subject(&self, subject: &str, permanent: bool) -> Result<Vec<i32>, RegistryError> {
        self.0.http.ask(delete(format!("/subjects/{}?permanent={permanent}", self.escaped(subject)))).await
    }

    /// Deletes a version of a subject.
    pub async fn delete_version(
        &self,
        subject: &str,
        version: Version,
        permanent: bool,
    ) -> Result<i32, RegistryError> {
        let subject = self.escaped(subject);
        let path = format!("/subjects/{subject}/versions/{version}?permanent={permanent}");
        self.0.http.ask(delete(path)).await
    }

    /// Whether a subject would take a schema.
    pub async fn is_compatible(
        &self,
        subject: &str,
        version: Version,
        schema: &RegistrySchema,
    ) -> Result<bool, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            is_compatible: bool,
        }
        let path = format!("/compatibility/subjects/{}/versions/{version}", self.escaped(subject));
        let answer: Answer = self.0.http.ask(send(Method::POST, path, schema)).await?;
        Ok(answer.is_compatible)
    }

    /// What new schemas must allow, of a subject or of all that say nothing else.
    pub async fn compatibility(&self, subject: Option<&str>) -> Result<Compatibility, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            compatibility_level: Compatibility,
        }
        let subject = subject.map(|subject| self.qualified(subject));
        let path = of_subject("config", subject.as_deref());
        let query = if subject.is_some() { "?defaultToGlobal=true" } else { "" };
        let answer: Answer = self.0.http.ask(get(path + query)).await?;
        Ok(answer.compatibility_level)
    }

    /// Sets what new schemas must allow.
    pub async fn set_compatibility(
        &self,
        subject: Option<&str>,
        compatibility: Compatibility,
    ) -> Result<(), RegistryError> {
        #[derive(Serialize)]
        struct Body {
            compatibility: Compatibility,
        }
        let path = of_subject("config", subject.map(|subject| self.qualified(subject)).as_deref());
        self.0.http.ask::<serde_json::Value>(send(Method::PUT, path, &Body { compatibility })).await?;
        Ok(())
    }

    /// What may be done to a subject, or to all that say nothing else.
    pub async fn mode(&self, subject: Option<&str>) -> Result<Mode, RegistryError> {
        let subject = subject.map(|subject| self.qualified(subject));
        let query = if subject.is_some() { "?defaultToGlobal=true" } else { "" };
        let answer: ModeBody = self.0.http.ask(get(of_subject("mode", subject.as_deref()) + query)).await?;
        Ok(answer.mode)
    }

    /// Sets what may be done.
    pub async fn set_mode(&self, subject: Option<&str>, mode: Mode) -> Result<(), RegistryError> {
        let path = of_subject("mode", subject.map(|subject| self.qualified(subject)).as_deref());
        self.0.http.ask::<serde_json::Value>(send(Method::PUT, path, &ModeBody { mode })).await?;
        Ok(())
    }

    /// The contexts that there are.
    pub async fn contexts(&self) -> Result<Vec<String>, RegistryError> {
        self.0.http.ask(get("/contexts")).await
    }

    /// The schemas that a schema refers to, and those that they refer to, each once, those that are needed first.
    pub async fn references(&self, schema: &RegistrySchema) -> Result<Vec<SchemaVersion>, RegistryError> {
        super::references::resolve(self, schema).await
    }

    fn escaped(&self, subject: &str) -> String {
        escaped(&self.qualified(subject))
    }

    /// A subject in the registry's context.
    fn qualified(&self, subject: &str) -> String {
        match &self.0.context {
            Some(context) if !subject.starts_with(":.") => format!(":{context}:{subject}"),
            _ => subject.to_owned(),
        }
    }

    fn context_query(&self, sign: char) -> String {
        let context = self.0.context.as_deref();
        context.map_or(String::new(), |context| format!("{sign}subject={}", escaped(&format!(":{context}:"))))
    }
}

#[derive(Serialize, Deserialize)]
struct ModeBody {
    mode: Mode,
}
