//! Deadlines by name. Setting a name again moves its deadline; nothing here reads a clock.
//!
//! Equal deadlines fire in the order in which they were set, so a run can be repeated.

use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_time: BTreeMap<(Instant, u64), K>,
    by_key: BTreeMap<K, (Instant, u64)>,
    set: u64,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_time: BTreeMap::new(), by_key: BTreeMap::new(), set: 0 }
    }
}

impl<K: Ord + Clone> Timers<K> {
    pub(crate) fn set(&mut self, key: K, at: Instant) {
        self.cancel(&key);
        self.set += 1;
        self.by_time.insert((at, self.set), key.clone());
        self.by_key.insert(key, (at, self.set));
    }

    pub(crate) fn cancel(&mut self, key: &K) {
        if let Some(slot) = self.by_key.remove(key) {
            self.by_time.remove(&slot);
        }
    }

    pub(crate) fn is_set(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// Removes and returns the next timer that is due at `now`.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<K> {
        let slot = *self.by_time.first_key_value().filter(|((at, _), _)| *at <= now)?.0;
        let key = self.by_time.remove(&slot)?;
        self.by_key.remove(&key);
        Some(key)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_fire_by_time_and_then_in_the_order_in_which_they_were_set() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set("late", at(30));
        timers.set("b", at(10));
        timers.set("a", at(10));
        timers.set("gone", at(5));
        timers.set("late", at(20));
        timers.cancel(&"gone");
        assert_eq!(timers.deadline(), Some(at(10)));
        assert_eq!(timers.take_due(at(9)), None);
        let fired: Vec<_> = std::iter::from_fn(|| timers.take_due(at(25))).collect();
        assert_eq!(fired, ["b", "a", "late"]);
        assert_eq!(timers.deadline(), None);
    }
}
