//! Under which subject the schemas of a topic are registered.
//!
//! Invariant: a strategy that needs the record's name refuses a schema that has none, as Confluent's do.

use std::sync::Arc;

use ottla::format::{FormatError, Part};

/// Names a subject, of the topic, the part, and the name of the schema if it has one.
pub type SubjectName = dyn Fn(&str, Part, Option<&str>) -> String + Send + Sync;

/// How a subject follows from a topic and a schema.
///
/// ```
/// use ottla_serde::Subject;
///
/// let upper = Subject::custom(|topic, part, _record| format!("{}-{part}", topic.to_uppercase()));
/// # drop(upper);
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Subject {
    /// `orders-key` and `orders-value`: one kind of record in a topic. The default.
    #[default]
    Topic,
    /// `shop.Order`: the name of the schema, in whatever topic.
    Record,
    /// `orders-shop.Order`: several kinds of records in a topic.
    TopicRecord,
    /// What this function says, of the topic, the part, and the name of the schema if it has one.
    Custom(Arc<SubjectName>),
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Subject::Topic => "Topic",
            Subject::Record => "Record",
            Subject::TopicRecord => "TopicRecord",
            Subject::Custom(_) => "Custom",
        })
    }
}

impl Subject {
    /// A function of the topic, the part, and the name of the schema if it has one.
    pub fn custom(name: impl Fn(&str, Part, Option<&str>) -> String + Send + Sync + 'static) -> Self {
        Subject::Custom(Arc::new(name))
    }

    pub(super) fn name(&self, topic: &str, part: Part, record: Option<&str>) -> Result<String, FormatError> {
        let named =
            || record.ok_or_else(|| FormatError::new("the schema has no name, and its subject needs one"));
        Ok(match self {
            Subject::Topic => format!("{topic}-{part}"),
            Subject::Record => named()?.to_owned(),
            Subject::TopicRecord => format!("{topic}-{}", named()?),
            Subject::Custom(name) => name(topic, part, record),
        })
    }
}
