//! What a machine has to say to a log.
//!
//! It owns the putting off: whoever listens to the log is user code, which must not run under the lock. It refuses to
//! know what is said. Invariant: it is said once, when the lock is open again.

use std::fmt;

/// Something to log once the lock is open.
pub(crate) struct Saying(Box<dyn FnOnce() + Send>);

impl Saying {
    pub(super) fn new(line: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(line))
    }

    pub(super) fn say(self) {
        (self.0)();
    }
}

impl fmt::Debug for Saying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Saying")
    }
}
