//! The idempotence of one partition: who we are there, and which number comes next.
//!
//! It owns the producer epoch of the partition and its sequence numbers. A broker checks an idempotent producer's epoch and
//! numbers partition by partition, so each partition bumps an epoch of its own and no other has to wait for it (KIP-360
//! bumps one epoch for all). Invariant: a number is given out once; after a gap nothing is sent until the epoch is new.

use ottla_protocol::records::add_sequence;

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// A number given to a batch, and under which identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) identity: Identity,
    pub(crate) base: i32,
}

#[derive(Debug, Default)]
pub(crate) struct Sequence {
    identity: Option<Identity>,
    next: i32,
    /// A batch of this identity is in the log. Until then a second batch must not be out: a broker takes any number from
    /// a producer that is new to a partition, so the second could overtake the first.
    proven: bool,
    /// A number is missing in the log, or may be: the identity is used up.
    broken: bool,
}

/// How many batches of a partition a broker remembers; one that is further back cannot be told from a gap.
const REMEMBERED: usize = 5;

impl Sequence {
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// A number was lost. What is out keeps its number; what comes later gets a new identity.
    pub(crate) fn break_off(&mut self) {
        self.broken = self.identity.is_some();
    }

    /// Starts again under the next epoch, or under `fresh` where there is no next. False when `fresh` is needed and not there.
    pub(crate) fn start_over(&mut self, fresh: Option<Identity>) -> bool {
        let next = self.identity.and_then(|i| Some(Identity { epoch: i.epoch.checked_add(1)?, ..i }));
        let Some(identity) = next.or(fresh.filter(|f| self.identity.is_none_or(|i| i.id != f.id))) else {
            return false;
        };
        *self = Self { identity: Some(identity), ..Self::default() };
        true
    }

    /// Whether the epochs of this producer id are used up: only another id can go on.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.broken && self.identity.is_some_and(|i| i.epoch == i16::MAX)
    }

    /// How many batches may be out at once.
    pub(crate) fn window(&self) -> usize {
        if self.proven { REMEMBERED } else { 1 }
    }

    /// The number of a batch of `count` records that is sent for the first time.
    pub(crate) fn number(&mut self, count: i32, fresh: Identity) -> Numbered {
        let identity = *self.identity.get_or_insert(fresh);
        let base = self.next;
        self.next = add_sequence(base, count);
        Numbered { identity, base }
    }

    /// A batch is in the log.
    pub(crate) fn prove(&mut self, numbered: Numbered) {
        self.proven |= self.identity == Some(numbered.identity);
    }

    /// For the planted defect: gives a number out again.
    pub(crate) fn rewind_to(&mut self, numbered: Numbered) {
        if self.identity == Some(numbered.identity) {
            self.next = numbered.base;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Identity = Identity { id: 7, epoch: 0 };

    /// Fault 12.
    #[test]
    fn numbers_wrap_to_zero_after_the_largest() {
        let mut sequence = Sequence { next: i32::MAX - 1, ..Sequence::default() };
        assert_eq!(sequence.number(3, FRESH).base, i32::MAX - 1);
        assert_eq!(sequence.number(1, FRESH).base, 1);
    }

    #[test]
    fn a_gap_starts_at_zero_under_the_next_epoch() {
        let mut sequence = Sequence::default();
        sequence.number(3, FRESH);
        sequence.break_off();
        assert!(sequence.is_broken() && sequence.start_over(Some(FRESH)));
        assert_eq!(sequence.number(1, FRESH), Numbered { identity: Identity { id: 7, epoch: 1 }, base: 0 });
    }

    /// Fault 12.
    #[test]
    fn after_the_last_epoch_only_another_producer_id_goes_on() {
        let last = Identity { id: 7, epoch: i16::MAX };
        let mut sequence = Sequence::default();
        sequence.number(3, last);
        sequence.break_off();
        assert!(sequence.is_exhausted());
        assert!(!sequence.start_over(None) && !sequence.start_over(Some(FRESH)));
        assert!(sequence.start_over(Some(Identity { id: 8, epoch: 0 })));
    }

    #[test]
    fn a_second_batch_waits_until_the_first_is_in_the_log() {
        let mut sequence = Sequence::default();
        let first = sequence.number(3, FRESH);
        assert_eq!(sequence.window(), 1);
        sequence.prove(first);
        assert_eq!(sequence.window(), 5);
    }
}
