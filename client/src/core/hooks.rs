//! User code that is to be told of partitions: in which order, and until when.
//!
//! It owns the queue of calls and the time of each. It refuses to know what is called, and what follows from it. Invariants:
//! one call is on at a time, in the order of what happened; one that is late is over, whatever it still does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::TopicPartition;
use crate::config::ConsumerConfig;
use crate::event::Hook;

/// User code that is to be called, or is on.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) hook: Hook,
    pub(crate) partitions: Vec<TopicPartition>,
    /// What it was called for is lost meanwhile.
    pub(super) moot: bool,
}

#[derive(Debug)]
pub(crate) struct Hooks {
    config: Arc<ConsumerConfig>,
    calls: VecDeque<Call>,
    /// The first call is on.
    taken: bool,
    /// When the first call is late, taken or not.
    until: Option<Instant>,
    issued: u64,
}

impl Hooks {
    pub(super) fn new(config: Arc<ConsumerConfig>) -> Self {
        Self { config, calls: VecDeque::new(), taken: false, until: None, issued: 0 }
    }

    /// Has user code called when its turn comes. False if there is none, or nothing to tell it.
    pub(super) fn push(&mut self, now: Instant, hook: Hook, partitions: &[TopicPartition]) -> bool {
        let exists = match hook {
            Hook::Load => self.config.offset_store.is_some(),
            Hook::Assigned | Hook::Revoked | Hook::Lost => self.config.rebalance_hooks.is_some(),
        };
        if !exists || partitions.is_empty() {
            return false;
        }
        self.issued += 1;
        self.calls.push_back(Call { id: self.issued, hook, partitions: partitions.to_vec(), moot: false });
        self.until.get_or_insert(now + self.config.hook_timeout);
        true
    }

    /// All that the group had given is lost. What waits to be told of a revocation is told that it is lost.
    pub(super) fn lose(&mut self, now: Instant, partitions: &[TopicPartition]) {
        let mut rest = partitions.to_vec();
        let on = usize::from(self.taken);
        for (at, call) in self.calls.iter_mut().enumerate() {
            if call.hook != Hook::Revoked || call.moot {
                continue;
            }
            rest.retain(|partition| !call.partitions.contains(partition));
            if at < on {
                call.moot = true;
            } else {
                call.hook = Hook::Lost;
            }
        }
        self.push(now, Hook::Lost, &rest);
    }

    pub(super) fn has_next(&self) -> bool {
        !self.taken && !self.calls.is_empty()
    }

    /// The next call, which is on from here.
    pub(super) fn take(&mut self) -> Option<Call> {
        let next = self.calls.front().filter(|_| !self.taken).cloned();
        self.taken |= next.is_some();
        next
    }

    /// Whether nobody waits for a call any more.
    pub(super) fn is_over(&self, id: u64) -> bool {
        self.calls.front().is_none_or(|call| call.id != id)
    }

    /// A call is over, if it was not before. The time of the next one begins.
    pub(super) fn end(&mut self, now: Instant, id: u64) -> Option<Call> {
        if self.is_over(id) {
            return None;
        }
        let call = self.calls.pop_front();
        self.taken = false;
        self.until = (!self.calls.is_empty()).then(|| now + self.config.hook_timeout);
        call
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Ends the call whose time is over.
    pub(super) fn take_late(&mut self, now: Instant) -> Option<Call> {
        self.until.filter(|until| *until <= now)?;
        let id = self.calls.front()?.id;
        self.end(now, id)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether a call names this partition.
    pub(super) fn names(&self, partition: &TopicPartition) -> bool {
        self.calls.iter().any(|call| call.partitions.contains(partition))
    }

    /// Whether a call of a hook names this partition, and is about what it still is.
    pub(super) fn is_due(&self, hook: Hook, partition: &TopicPartition) -> bool {
        let of = |call: &&Call| call.hook == hook && !call.moot;
        self.calls.iter().filter(of).any(|call| call.partitions.contains(partition))
    }

    /// The partitions of the call that is on, if they go or are gone.
    pub(super) fn going(&self) -> &[TopicPartition] {
        let on =
            self.calls.front().filter(|call| self.taken && matches!(call.hook, Hook::Revoked | Hook::Lost));
        on.map_or(&[], |call| &call.partitions)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Control, RebalanceHooks};

    struct Deaf;

    impl RebalanceHooks for Deaf {
        async fn lost(&self, _: &Control, _: &[(String, i32)]) -> Result<(), crate::HookError> {
            Ok(())
        }
    }

    const LIMIT: Duration = Duration::from_secs(5);

    fn hooks() -> Hooks {
        let config = ConsumerConfig { hook_timeout: LIMIT, ..ConsumerConfig::default() };
        Hooks::new(Arc::new(ConsumerConfig { rebalance_hooks: Some(Arc::new(Deaf)), ..config }))
    }

    fn at(partitions: &[i32]) -> Vec<TopicPartition> {
        let named = |partition: &i32| TopicPartition { topic: "t".into(), partition: *partition };
        partitions.iter().map(named).collect()
    }

    fn next(hooks: &mut Hooks, now: Instant) -> (Hook, Vec<TopicPartition>) {
        let call = hooks.take().expect("a call");
        assert!(hooks.take().is_none(), "two are on at once");
        assert!(hooks.end(now, call.id).is_some());
        (call.hook, call.partitions)
    }

    #[test]
    fn only_what_exists_is_called_and_only_with_partitions() {
        let (mut hooks, now) = (hooks(), Instant::now());
        assert!(!hooks.push(now, Hook::Load, &at(&[0])));
        assert!(!hooks.push(now, Hook::Assigned, &[]));
        assert!(hooks.is_idle() && hooks.until().is_none());
    }

    #[test]
    fn a_revocation_that_was_not_told_yet_becomes_a_loss() {
        let (mut hooks, now) = (hooks(), Instant::now());
        hooks.push(now, Hook::Assigned, &at(&[0, 1]));
        hooks.push(now, Hook::Revoked, &at(&[0]));
        hooks.lose(now, &at(&[0, 1]));
        assert_eq!(next(&mut hooks, now), (Hook::Assigned, at(&[0, 1])));
        assert_eq!(next(&mut hooks, now), (Hook::Lost, at(&[0])));
        assert_eq!(next(&mut hooks, now), (Hook::Lost, at(&[1])));
        assert!(hooks.is_idle());
    }

    /// Or the next loss of the same partition would go untold.
    #[test]
    fn a_revocation_that_is_on_answers_for_one_loss() {
        let (mut hooks, now) = (hooks(), Instant::now());
        hooks.push(now, Hook::Revoked, &at(&[0]));
        let revoked = hooks.take().expect("a call");
        hooks.lose(now, &at(&[0]));
        hooks.push(now, Hook::Assigned, &at(&[0]));
        hooks.lose(now, &at(&[0]));
        assert!(hooks.end(now, revoked.id).is_some_and(|call| call.moot));
        assert_eq!(next(&mut hooks, now), (Hook::Assigned, at(&[0])));
        assert_eq!(next(&mut hooks, now), (Hook::Lost, at(&[0])));
        assert!(hooks.is_idle());
    }

    #[test]
    fn each_call_has_its_own_time_from_when_it_is_its_turn() {
        let (mut hooks, now) = (hooks(), Instant::now());
        hooks.push(now, Hook::Assigned, &at(&[0]));
        let late = hooks.take().expect("a call");
        hooks.push(now + LIMIT / 2, Hook::Revoked, &at(&[0]));
        assert!(hooks.take_late(now + LIMIT / 2).is_none());
        assert!(hooks.take_late(now + LIMIT).is_some_and(|call| call.id == late.id));
        assert!(hooks.is_over(late.id) && hooks.end(now + LIMIT, late.id).is_none());
        assert_eq!(hooks.until(), Some(now + 2 * LIMIT));
        // Nobody takes it: it is late all the same.
        assert!(hooks.take_late(now + 2 * LIMIT).is_some_and(|call| call.hook == Hook::Revoked));
        assert!(hooks.is_idle() && hooks.until().is_none());
    }
}
