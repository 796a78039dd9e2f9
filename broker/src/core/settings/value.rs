//! What the value of a setting may be, and how a setting that does not exist or does not fit is refused.

use std::fmt::Display;

/// Why a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no such setting.
    #[error("unknown setting {name}{}", suggestion(.nearest))]
    Unknown {
        /// The name as given.
        name: String,
        /// The name that was perhaps meant.
        nearest: Option<&'static str>,
    },
    /// The setting exists in older versions of Kafka, or makes no sense here.
    #[error("{name} is refused: {reason}")]
    Refused {
        /// The name as given.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The value is not one of those allowed.
    #[error("{name} = {value} is not valid: {expected}")]
    Value {
        /// The name as given.
        name: String,
        /// The value as given.
        value: String,
        /// What would be valid.
        expected: String,
    },
}

fn suggestion(nearest: &Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}

/// The values that a setting can have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Boolean,
    Int(i32, i32),
    Long(i64, i64),
    /// A number from 0 to 1.
    Ratio,
    Choice(&'static [&'static str]),
    /// Some of these, with commas between.
    List(&'static [&'static str]),
    /// -1 for the default, or 1 to 9.
    GzipLevel,
    Text,
    /// A text that is never shown.
    Password,
}

impl Kind {
    /// The type by its number on the wire.
    pub(crate) fn wire_type(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Choice(_) | Self::Text => 2,
            Self::Int(..) | Self::GzipLevel => 3,
            Self::Long(..) => 5,
            Self::Ratio => 6,
            Self::List(_) => 7,
            Self::Password => 9,
        }
    }

    /// Whether a value can be that of the setting `name`.
    pub(crate) fn check(self, name: &str, value: &str) -> Result<(), SettingError> {
        let within = |low: &dyn Display, high: &dyn Display| format!("a number from {low} to {high}");
        let one_of = |words: &[&str]| words.join(", ");
        let (valid, expected) = match self {
            Self::Boolean => (value.parse::<bool>().is_ok(), "true or false".to_string()),
            Self::Int(low, high) => {
                (value.parse().is_ok_and(|it| (low..=high).contains(&it)), within(&low, &high))
            }
            Self::Long(low, high) => {
                (value.parse().is_ok_and(|it| (low..=high).contains(&it)), within(&low, &high))
            }
            Self::Ratio => (value.parse().is_ok_and(|it| (0.0..=1.0).contains(&it)), within(&0, &1)),
            Self::Choice(words) => (words.contains(&value), format!("one of {}", one_of(words))),
            Self::List(words) => {
                let valid = value.split(',').all(|word| words.contains(&word.trim()));
                (valid, format!("a list of {}", one_of(words)))
            }
            Self::GzipLevel => {
                let valid = value.parse().is_ok_and(|level: i32| level == -1 || (1..=9).contains(&level));
                (valid, "-1, or a number from 1 to 9".to_string())
            }
            Self::Text | Self::Password => (true, String::new()),
        };
        match valid {
            true => Ok(()),
            false => Err(SettingError::Value { name: name.to_string(), value: value.to_string(), expected }),
        }
    }
}

/// Refuses a name that is not among those known.
pub(super) fn refuse(name: &str, known: impl Iterator<Item = &'static str>) -> SettingError {
    if name.starts_with("zookeeper.") {
        let reason = "Kafka has no ZooKeeper since version 4.0";
        return SettingError::Refused { name: name.to_string(), reason };
    }
    let nearest = known
        .map(|candidate| (edits(name, candidate), candidate))
        .min()
        .filter(|(edits, _)| *edits <= name.len() / 3)
        .map(|(_, candidate)| candidate);
    SettingError::Unknown { name: name.to_string(), nearest }
}

/// Letters to insert, delete or replace to turn one text into the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
