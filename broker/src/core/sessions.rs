//! Incremental fetch sessions of one node (KIP-227): what each consumer fetches, so that it need not repeat it.
//!
//! The cache has a limit. A new session may push out one that was idle for two minutes, or a smaller one that is older
//! than two minutes; otherwise the consumer gets no session and sends full requests.

use super::random::Random;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::FetchedPartition;
use ottla_protocol::wire::{Str, Uuid};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// "No session", in requests and answers.
pub(crate) const NO_SESSION: i32 = 0;
/// The epoch that asks for a new session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// The epoch that ends a session, or asks for none.
pub(crate) const FINAL_EPOCH: i32 = -1;

const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// A partition as a fetch names it: by topic id from version 13 on, by name before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) topic_id: Uuid,
    /// Empty while only the id is known.
    pub(crate) topic: Str,
    pub(crate) partition: i32,
}

/// What is fetched from one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) offset: i64,
    pub(crate) bytes_max: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

#[derive(Debug)]
struct Slot {
    wanted: Wanted,
    /// Where it stands in line: partitions that got data go to the back.
    turn: u64,
    /// What the consumer was last told; -1 makes sure that it is told again.
    high_watermark: i64,
    log_start_offset: i64,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    places: BTreeMap<Place, Slot>,
    line: BTreeMap<u64, Place>,
    turns: u64,
    created: Instant,
    used: Instant,
}

impl Session {
    fn put(&mut self, place: Place, wanted: Wanted) {
        if let Some(slot) = self.places.get_mut(&place) {
            slot.wanted = wanted;
            return;
        }
        self.turns += 1;
        self.line.insert(self.turns, place.clone());
        let slot = Slot { wanted, turn: self.turns, high_watermark: -1, log_start_offset: -1 };
        self.places.insert(place, slot);
    }

    fn forget(&mut self, place: &Place) {
        if let Some(slot) = self.places.remove(place) {
            self.line.remove(&slot.turn);
        }
    }

    /// Whether the consumer must be told of this partition; if so, notes what it is told.
    fn tells(&mut self, place: &Place, answer: &FetchedPartition) -> bool {
        let Some(slot) = self.places.get_mut(place) else { return true };
        let has_records = answer.records.as_ref().is_some_and(|records| !records.is_empty());
        let failed = answer.error_code != ErrorCode::NONE;
        let diverges = answer.diverging_epoch.end_offset >= 0;
        let moved =
            slot.high_watermark != answer.high_watermark || slot.log_start_offset != answer.log_start_offset;
        // That of a partition that failed is -1, so it is told again once it can be read.
        slot.high_watermark = answer.high_watermark;
        slot.log_start_offset = answer.log_start_offset;
        if has_records {
            self.line.remove(&slot.turn);
            self.turns += 1;
            slot.turn = self.turns;
            self.line.insert(self.turns, place.clone());
        }
        has_records || failed || diverges || moved || answer.preferred_read_replica >= 0
    }
}

/// What a fetch is about, once its session is settled.
#[derive(Debug)]
pub(crate) struct Context {
    /// The session's id, or [`NO_SESSION`].
    pub(crate) session_id: i32,
    /// In the order in which the partitions are served.
    pub(crate) wanted: Vec<(Place, Wanted)>,
}

/// A fetch request, as far as sessions look at it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) session_id: i32,
    pub(crate) epoch: i32,
    pub(crate) by_id: bool,
    pub(crate) named: Vec<(Place, Wanted)>,
    pub(crate) forgotten: Vec<Place>,
}

#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<i32, Session>);

impl Sessions {
    /// Finds or makes the session of a request and says what is to be fetched.
    pub(crate) fn resolve(
        &mut self,
        now: Instant,
        asked: Asked,
        sessions_max: usize,
        random: &mut Random,
    ) -> Result<Context, ErrorCode> {
        if matches!(asked.epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            self.0.remove(&asked.session_id);
            let wants_session = asked.epoch == INITIAL_EPOCH && !asked.named.is_empty();
            let has_room = wants_session && self.make_room(now, asked.named.len(), sessions_max);
            let session_id = if has_room { self.create(now, &asked, random) } else { NO_SESSION };
            return Ok(Context { session_id, wanted: asked.named });
        }
        let Some(session) = self.0.get_mut(&asked.session_id) else {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        if session.epoch != asked.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_id != asked.by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        for (place, wanted) in asked.named {
            session.put(place, wanted);
        }
        for place in &asked.forgotten {
            session.forget(place);
        }
        session.used = now;
        session.epoch = next_epoch(session.epoch);
        let in_line = session.line.values();
        let wanted: Vec<_> =
            in_line.filter_map(|it| Some((it.clone(), session.places.get(it)?.wanted))).collect();
        if wanted.is_empty() {
            self.0.remove(&asked.session_id);
            return Ok(Context { session_id: NO_SESSION, wanted });
        }
        Ok(Context { session_id: asked.session_id, wanted })
    }

    /// Whether the answer for `place` belongs into the response.
    pub(crate) fn tells(&mut self, session_id: i32, place: &Place, answer: &FetchedPartition) -> bool {
        self.0.get_mut(&session_id).is_none_or(|session| session.tells(place, answer))
    }

    fn create(&mut self, now: Instant, asked: &Asked, random: &mut Random) -> i32 {
        let mut id = random.positive();
        while self.0.contains_key(&id) {
            id = random.positive();
        }
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            by_id: asked.by_id,
            places: BTreeMap::new(),
            line: BTreeMap::new(),
            turns: 0,
            created: now,
            used: now,
        };
        for (place, wanted) in &asked.named {
            session.put(place.clone(), *wanted);
        }
        self.0.insert(id, session);
        id
    }

    fn make_room(&mut self, now: Instant, size: usize, sessions_max: usize) -> bool {
        if self.0.len() < sessions_max {
            return true;
        }
        let idlest =
            self.0.iter().min_by_key(|(id, session)| (session.used, **id)).map(|(id, it)| (*id, it.used));
        let smallest = self
            .0
            .iter()
            .filter(|(_, session)| now.duration_since(session.created) > EVICTABLE_AFTER)
            .min_by_key(|(id, session)| (session.places.len(), **id))
            .map(|(id, session)| (*id, session.places.len()));
        let victim = match (idlest, smallest) {
            (Some((id, used)), _) if now.duration_since(used) > EVICTABLE_AFTER => id,
            (_, Some((id, places))) if places <= size => id,
            _ => return false,
        };
        self.0.remove(&victim);
        true
    }
}

/// Epochs go round from the largest to one: zero and below have their own meaning.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_of_a_session_go_round_without_touching_those_that_mean_something_else() {
        assert_eq!(next_epoch(INITIAL_EPOCH), 1);
        assert_eq!(next_epoch(1), 2);
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
