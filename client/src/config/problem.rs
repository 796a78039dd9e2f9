//! What is wrong with a configuration, or only odd about it. It owns the texts; the rules stand beside the settings.
//! Invariant: every problem is reported, not only the first, and each names the keys that have to change.

use std::fmt::{self, Debug, Display};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// Why a configuration was refused. It is the [`source`](std::error::Error::source) of an
/// [`Error`] of kind [`Config`](ErrorKind::Config).
///
/// ```
/// use ottla::{ClientBuilder, ConfigError};
/// use std::error::Error;
///
/// let error = ClientBuilder::from_properties([("bootstrap.servers", "localhost:9092"), ("ack", "all")]).unwrap_err();
/// assert_eq!(error.to_string(), "configuration: unknown key ack; did you mean acks?");
/// let cause = error.source().and_then(|source| source.downcast_ref::<ConfigError>());
/// assert!(matches!(cause, Some(ConfigError::UnknownKey { nearest: Some("acks"), .. })));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No setting has this name.
    #[error("unknown key {key}{}", did_you_mean(*nearest))]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// The known key that looks most like it, if one does.
        nearest: Option<&'static str>,
    },
    /// The value cannot be read, or lies outside of its range.
    #[error("{key} is {value}: it must be {expected}{}", did_you_mean(*nearest))]
    BadValue {
        /// The key, by Kafka's name.
        key: &'static str,
        /// The value as it was written.
        value: String,
        /// What would be accepted.
        expected: String,
        /// The accepted value that looks most like it, if one does.
        nearest: Option<&'static str>,
    },
    /// Settings that exclude each other.
    #[error("{}: {reason}", keys.join(" and "))]
    Contradiction {
        /// The keys that do not go together.
        keys: Vec<&'static str>,
        /// Why not.
        reason: String,
    },
    /// A setting without which nothing works is not there.
    #[error("{key} is not set")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// Kafka's clients know the key; this version of this client cannot honour it.
    #[error("{key} is not supported yet: {reason}")]
    NotSupportedYet {
        /// The key.
        key: &'static str,
        /// What is missing, and what to do meanwhile.
        reason: &'static str,
    },
    /// The key means something elsewhere: in a broker, in a topic, or in a client that works in another way.
    #[error("{key} has no meaning here: {reason}")]
    NotApplicable {
        /// The key.
        key: &'static str,
        /// Where it belongs, or what to use in its place.
        reason: &'static str,
    },
    /// This build lacks what the setting needs.
    #[error("{key} is {value}: {reason}")]
    NotCompiledIn {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The feature that would have it.
        reason: String,
    },
    /// More than one of them.
    #[error("{} problems: {}", .0.len(), list(.0))]
    Several(Vec<ConfigError>),
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

fn list(errors: &[ConfigError]) -> String {
    errors.iter().map(ConfigError::to_string).collect::<Vec<_>>().join("; ")
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::new(ErrorKind::Config, format!("configuration: {error}")).with_source(error)
    }
}

/// Something odd about a configuration that is accepted nevertheless: a setting that another one switches off, one
/// that has no effect here, a value that people regret. Warnings are logged when the handle is built.
///
/// ```
/// # fn main() -> Result<(), ottla::Error> {
/// let properties = [("bootstrap.servers", "localhost:9092"), ("ssl.provider", "x")];
/// let builder = ottla::ClientBuilder::from_properties(properties)?;
/// assert_eq!(builder.warnings()[0].keys(), ["ssl.provider"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    keys: Vec<&'static str>,
    text: String,
}

impl Warning {
    pub(crate) fn new(keys: &[&'static str], text: impl Into<String>) -> Self {
        Warning { keys: keys.to_vec(), text: text.into() }
    }

    /// The keys that it is about.
    pub fn keys(&self) -> &[&'static str] {
        &self.keys
    }
}

impl Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.keys.join(" and "), self.text)
    }
}

/// What the rules found, collected so that a user can mend everything in one go.
#[derive(Default)]
pub(super) struct Findings {
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
}

impl Findings {
    pub(super) fn add(&mut self, error: ConfigError) {
        match error {
            ConfigError::Several(errors) => self.errors.extend(errors),
            error => self.errors.push(error),
        }
    }

    pub(super) fn bad_value(&mut self, key: &'static str, value: impl Display, expected: impl Into<String>) {
        self.add(ConfigError::BadValue {
            key,
            value: value.to_string(),
            expected: expected.into(),
            nearest: None,
        });
    }

    pub(super) fn within<T: PartialOrd + Display>(
        &mut self,
        key: &'static str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            self.bad_value(key, value, format!("from {} to {}", range.start(), range.end()));
        }
    }

    /// Checks a time: `least` milliseconds or more, and no more than a request field can carry.
    pub(super) fn millis(&mut self, key: &'static str, value: Duration, least: u128) {
        self.within(key, value.as_millis(), least..=u128::from(i32::MAX.unsigned_abs()));
    }

    pub(super) fn contradiction(&mut self, keys: &[&'static str], reason: impl Into<String>) {
        self.add(ConfigError::Contradiction { keys: keys.to_vec(), reason: reason.into() });
    }

    /// Keeps the first of equal entries (KIP-1161).
    pub(super) fn drop_repeated<T: PartialEq + Debug>(&mut self, key: &'static str, entries: &mut Vec<T>) {
        let mut once: Vec<T> = Vec::with_capacity(entries.len());
        for entry in entries.drain(..) {
            if once.contains(&entry) {
                self.warn(&[key], format!("{entry:?} is named twice"));
            } else {
                once.push(entry);
            }
        }
        *entries = once;
    }

    pub(super) fn warn(&mut self, keys: &[&'static str], text: impl Into<String>) {
        self.warnings.push(Warning::new(keys, text));
    }

    pub(super) fn finish(mut self) -> Result<Vec<Warning>, ConfigError> {
        match self.errors.len() {
            0 => Ok(self.warnings),
            1 => Err(self.errors.remove(0)),
            _ => Err(ConfigError::Several(self.errors)),
        }
    }
}
