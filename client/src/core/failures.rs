//! What is said of records that failed: the first at once, and then one line a second at most.
//!
//! It owns the count of what was not said yet; every batch by itself is told by its deliveries, and at debug level.
//! Invariant: a failure that was counted is said within [`QUIET`], however many follow.

use std::time::{Duration, Instant};

use ottla_protocol::wire::Str;

use super::saying::Saying;
use crate::error::{Error, ErrorKind};

/// How long nothing more is said after a line: a broker that is gone fails thousands of batches.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Failures {
    /// The first that was not said, with its place.
    first: Option<(Str, i32, Error)>,
    /// Of all partitions.
    records: u64,
    quiet_until: Instant,
}

impl Failures {
    pub(super) fn new(now: Instant) -> Self {
        Self { first: None, records: 0, quiet_until: now }
    }

    /// Records of a partition were not delivered. Not for whoever closes the producer or aborts, and so asked for it.
    pub(super) fn add(&mut self, topic: &Str, partition: i32, records: u64, error: &Error) {
        if !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Aborted) {
            self.records += records;
            self.first.get_or_insert_with(|| (topic.clone(), partition, error.clone()));
        }
    }

    /// When there is something to say.
    pub(super) fn due(&self) -> Option<Instant> {
        self.first.is_some().then_some(self.quiet_until)
    }

    /// What is to be said now, if anything.
    pub(super) fn take(&mut self, now: Instant) -> Option<Saying> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let (topic, partition, error) = self.first.take()?;
        let records = std::mem::take(&mut self.records);
        self.quiet_until = now + QUIET;
        Some(Saying::new(move || {
            let outcome = error.outcome();
            tracing::warn!(%topic, partition, records, ?outcome, %error, "records were not delivered");
        }))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test starts its clock somewhere")]
mod tests {
    use super::*;

    /// U25.
    #[test]
    fn failures_that_repeat_are_said_once_a_second() {
        let now = Instant::now();
        let fail = |failures: &mut Failures| {
            failures.add(&"t".into(), 0, 3, &Error::new(ErrorKind::Timeout, "late"))
        };
        let mut failures = Failures::new(now);
        assert!(failures.due().is_none() && failures.take(now).is_none());
        fail(&mut failures);
        assert!(failures.take(now).is_some(), "the first at once");
        (0..1_000).for_each(|_| fail(&mut failures));
        assert!(failures.take(now + QUIET / 2).is_none(), "it was said a moment ago");
        assert_eq!((failures.due(), failures.records), (Some(now + QUIET), 3_000));
        assert!(failures.take(now + QUIET).is_some() && failures.due().is_none());
    }

    #[test]
    fn what_was_asked_for_is_no_failure_to_warn_of() {
        let now = Instant::now();
        let mut failures = Failures::new(now);
        for kind in [ErrorKind::Closed, ErrorKind::Aborted] {
            failures.add(&"t".into(), 0, 1, &Error::new(kind, "asked for"));
        }
        assert!(failures.take(now).is_none());
    }
}
