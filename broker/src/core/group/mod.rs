//! The group coordinator: which groups there are, and what offsets each has committed.
//!
//! Membership is [`classic`]'s; this module owns the offsets and knows which group is which. It refuses to know which
//! node is asked: that is checked before.

pub(crate) mod classic;

use super::parking::{Parking, Ticket};
use super::random::{Random, hyphenated};
use super::settings::GroupSettings;
use super::timers::Timers;
use crate::api::Answer;
use classic::Group;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use ottla_protocol::wire::Str;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the machine waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The longest wait of a fetch.
    Fetch(Ticket),
    /// Group and member: the next heartbeat.
    Session(Str, Str),
    /// Group: its members must have joined.
    Join(Str),
    /// Group: its members must have asked for their assignment.
    Sync(Str),
}

/// What a group may do to the world around it.
pub(crate) struct Effects<'a> {
    pub(crate) now: Instant,
    pub(crate) settings: &'a GroupSettings,
    pub(crate) timers: &'a mut Timers<Timer>,
    pub(crate) random: &'a mut Random,
    pub(crate) parking: &'a mut Parking,
}

impl Effects<'_> {
    fn set(&mut self, timer: Timer, after: Duration) {
        self.timers.set(timer, self.now + after);
    }

    fn cancel(&mut self, timer: &Timer) {
        self.timers.cancel(timer);
    }

    fn answer(&mut self, ticket: Ticket, answer: impl Into<Answer>) {
        self.parking.answer(ticket, answer.into());
    }

    fn join_refused(&mut self, ticket: Ticket, error_code: ErrorCode, member_id: Str) {
        self.answer(ticket, JoinGroupResponse { error_code, member_id, ..JoinGroupResponse::default() });
    }

    pub(crate) fn sync_refused(&mut self, ticket: Ticket, error_code: ErrorCode) {
        self.answer(ticket, SyncGroupResponse { error_code, ..SyncGroupResponse::default() });
    }

    /// Kafka's form: what it is called by, and a random UUID.
    fn new_member_id(&mut self, named: &str) -> Str {
        Str::from(format!("{named}-{}", hyphenated(self.random.uuid())))
    }
}

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Str,
    pub(crate) at_ms: i64,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) membership: Group,
    pub(crate) offsets: BTreeMap<(Str, i32), Committed>,
}

#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Str, Entry>);

impl Groups {
    pub(crate) fn get(&self, id: &str) -> Option<&Entry> {
        self.0.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Entry> {
        self.0.get_mut(id)
    }

    pub(crate) fn get_or_create(&mut self, id: &str) -> &mut Entry {
        // The id is copied, or the group would hold on to the frame that it came in.
        let id = Str::from(id);
        self.0
            .entry(id.clone())
            .or_insert_with(|| Entry { membership: Group::new(id), offsets: BTreeMap::new() })
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Str, &Entry)> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Str, &mut Entry)> {
        self.0.iter_mut()
    }

    /// A topic that is deleted takes its committed offsets with it.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for entry in self.0.values_mut() {
            entry.offsets.retain(|(name, _), _| &**name != topic);
        }
    }

    pub(crate) fn fire(&mut self, fx: &mut Effects, timer: &Timer) {
        match timer {
            Timer::Session(group, member) => {
                if let Some(entry) = self.0.get_mut(group) {
                    entry.membership.session_timed_out(fx, member);
                }
            }
            Timer::Join(group) => {
                if let Some(entry) = self.0.get_mut(group) {
                    entry.membership.join_timed_out(fx);
                }
            }
            Timer::Sync(group) => {
                if let Some(entry) = self.0.get_mut(group) {
                    entry.membership.sync_timed_out(fx);
                }
            }
            Timer::Fetch(_) => {}
        }
    }
}

/// Which partition of the offsets topic keeps a group: Java's string hash, as Apache Kafka has it.
pub(crate) fn offsets_partition(group: &str, partitions: i32) -> i32 {
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_placed_by_javas_string_hash() {
        // "hello".hashCode() is 99162322; "polygenelubricants" hashes to the number without an absolute value.
        assert_eq!(offsets_partition("hello", 50), 22);
        assert_eq!(offsets_partition("polygenelubricants", 50), 0);
        assert_eq!(offsets_partition("", 50), 0);
    }
}
