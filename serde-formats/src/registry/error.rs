//! Why a registry did not answer as it was asked.
//!
//! It owns the classes of failures: who is at fault, and whether asking again may help. Invariant: no message holds a password, a
//! token or the body of an answer that is not the registry's.

use std::fmt;
use std::sync::Arc;

use ottla::format::FormatError;

/// An error of a [`Registry`](crate::Registry). Cheap to clone, because all that wait for the same schema get the same.
///
/// ```
/// use ottla_serde::RegistryErrorKind;
///
/// # fn run(error: ottla_serde::RegistryError) {
/// if error.kind() == RegistryErrorKind::NotFound {
///     println!("{error}, code {:?}", error.code());
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RegistryError(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: RegistryErrorKind,
    code: Option<u32>,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The class of a [`RegistryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// The settings of the client are wrong.
    Config,
    /// No URL could be reached, or none answered. Asking again may help.
    Unreachable,
    /// The deadline passed. Asking again may help.
    Timeout,
    /// What answered is no schema registry: it sent HTML, or JSON of another kind.
    NotARegistry,
    /// The registry does not know who asks, or does not allow it.
    Unauthorized,
    /// There is no such subject, version or schema.
    NotFound,
    /// The schema cannot follow those that the subject has: the compatibility of the subject forbids it.
    Incompatible,
    /// The registry cannot read the schema.
    InvalidSchema,
    /// The registry answered with another error; [`RegistryError::code`] has it.
    Refused,
}

impl RegistryError {
    pub(crate) fn new(kind: RegistryErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, code: None, message: message.into(), source: None }))
    }

    pub(crate) fn caused(
        kind: RegistryErrorKind,
        message: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { kind, code: None, message: message.into(), source: Some(Box::new(source)) }))
    }

    /// What the registry answered. `code` is HTTP's status, or that with two digits behind it.
    pub(crate) fn answered(code: u32, message: &str) -> Self {
        use RegistryErrorKind::*;
        let kind = match code {
            401 | 403 | 40101 | 40301 => Unauthorized,
            404 | 40401..=40499 => NotFound,
            409 | 40901..=40999 => Incompatible,
            42201 => InvalidSchema,
            _ => Refused,
        };
        let message = format!("the schema registry answered {code}: {}", shortened(message));
        Self(Arc::new(Inner { kind, code: Some(code), message, source: None }))
    }

    /// The class of the failure.
    pub fn kind(&self) -> RegistryErrorKind {
        self.0.kind
    }

    /// The registry's own code, such as 40401 for a subject that does not exist; or HTTP's status.
    pub fn code(&self) -> Option<u32> {
        self.0.code
    }

    /// Whether the same call may succeed later without anything being changed.
    pub fn is_retriable(&self) -> bool {
        let busy = self.0.code.is_some_and(|code| code == 429 || code / 100 == 5 || code / 10_000 == 5);
        busy || matches!(self.0.kind, RegistryErrorKind::Unreachable | RegistryErrorKind::Timeout)
    }
}

/// What a registry says of a schema can be as long as that.
fn shortened(message: &str) -> &str {
    const KEPT: usize = 500;
    message.char_indices().nth(KEPT).map_or(message, |(end, _)| &message[..end])
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<RegistryError> for FormatError {
    fn from(error: RegistryError) -> Self {
        FormatError::new(error.to_string()).with_source(error)
    }
}
