//! What happened in a simulated run, as two hashes and, for a replay, as lines.
//!
//! It owns the run's first violation and the start of its clock. It never stores an `Instant`: those differ from run to
//! run, only their distance to the start is the run's own. Invariants: the same seed gives the same hashes (D1), and a
//! bounded number of polls happens between two jumps of virtual time, so that a spin fails the run instead of hanging it.

use crate::random::{digest, mix};
use parking_lot::Mutex;
use std::fmt;
use tokio::sync::Notify;
use tokio::time::Instant;

/// More polls than this without a jump of time is a spin.
const POLLS_BETWEEN_JUMPS_MAX: u64 = 300_000;

/// The trace of one run.
pub struct Trace {
    start: Instant,
    state: Mutex<State>,
    violated: Notify,
}

struct State {
    /// Every chunk on every wire and every event a user sees, with its virtual time.
    events: u64,
    /// Every poll of every task, with its virtual time.
    polls: u64,
    event_count: u64,
    /// Polls of tasks and of streams since time jumped last.
    since_jump: u64,
    lines: Option<Vec<String>>,
    violation: Option<String>,
}

impl Trace {
    /// A trace that starts now; with `lines` it also keeps a line of text for each event.
    pub fn new(lines: bool) -> Self {
        let lines = lines.then(Vec::new);
        let state = State { events: 0, polls: 0, event_count: 0, since_jump: 0, lines, violation: None };
        Trace { start: Instant::now(), state: Mutex::new(state), violated: Notify::new() }
    }

    /// Something that a wire or a node did, in two numbers.
    pub fn event(&self, what: &'static str, a: u64, b: u64) {
        let micros = self.micros();
        let mut state = self.state.lock();
        let state = &mut *state;
        state.events = [micros, digest(what.as_bytes()), a, b].into_iter().fold(state.events, mix);
        state.event_count += 1;
        if let Some(lines) = &mut state.lines {
            lines.push(format!("{micros:>12} {what} {a} {b:x}"));
        }
    }

    /// Something that a user did or saw, in words.
    pub fn tell(&self, what: fmt::Arguments<'_>) {
        let micros = self.micros();
        let text = what.to_string();
        let mut state = self.state.lock();
        state.events = mix(mix(state.events, micros), digest(text.as_bytes()));
        state.event_count += 1;
        if let Some(lines) = &mut state.lines {
            lines.push(format!("{micros:>12} {text}"));
        }
    }

    /// A task was polled. False if it spins.
    #[must_use]
    pub(crate) fn poll(&self, task: u64, name: &str) -> bool {
        let micros = self.micros();
        let mut state = self.state.lock();
        state.polls = mix(mix(state.polls, micros), task);
        drop(state);
        self.advance(name)
    }

    /// Something was polled that costs no time. False if that has gone on too long without a jump of time.
    #[must_use]
    pub(crate) fn advance(&self, name: &str) -> bool {
        let mut state = self.state.lock();
        state.since_jump += 1;
        let spins = state.since_jump > POLLS_BETWEEN_JUMPS_MAX;
        drop(state);
        if spins {
            self.violate(format_args!("{name} spins: time stands still"));
        }
        !spins
    }

    /// Time is about to jump.
    pub(crate) fn jump(&self) {
        self.state.lock().since_jump = 0;
    }

    /// Something that must never happen did. Only the first counts: the rest may follow from it.
    pub fn violate(&self, what: impl fmt::Display) {
        let seconds = self.start.elapsed().as_secs_f64();
        self.state.lock().violation.get_or_insert_with(|| format!("at {seconds:.3} s: {what}"));
        self.violated.notify_one();
    }

    /// Waits for the first violation.
    pub(crate) async fn violated(&self) {
        self.violated.notified().await;
    }

    /// The first violation so far.
    pub fn violation(&self) -> Option<String> {
        self.state.lock().violation.clone()
    }

    /// Hash of events, hash of polls, number of events.
    pub fn hashes(&self) -> (u64, u64, u64) {
        let state = self.state.lock();
        (state.events, state.polls, state.event_count)
    }

    /// The lines so far, if they are kept.
    pub fn take_lines(&self) -> Vec<String> {
        self.state.lock().lines.take().unwrap_or_default()
    }

    /// Virtual microseconds since the start.
    pub fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
