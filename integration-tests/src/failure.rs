//! Why a scenario did not pass: one sentence that names what was expected and what was seen.
//!
//! Every error converts into it, so that scenarios use `?` throughout. It is not an error itself: nothing handles it,
//! it is only printed.

use std::fmt;

/// What went wrong, as a person reads it.
pub struct Failure(String);

/// Ends a scenario with a sentence.
#[macro_export]
macro_rules! fail {
    ($($text:tt)*) => { return Err($crate::Failure::new(format!($($text)*))) };
}

/// Ends a scenario with a sentence unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => { if !$holds { $crate::fail!($($text)*) } };
}

impl Failure {
    /// A failure that says `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Failure(text.into())
    }

    /// The same failure, after the words that say what was being done.
    pub fn while_doing(self, what: impl fmt::Display) -> Self {
        Failure(format!("{what}: {}", self.0))
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Failure(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As it is displayed: `main` prints the `Debug` form.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
