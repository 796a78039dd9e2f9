//! Counting events exactly, while several tasks produce and consume them.
//!
//! It owns which events were consumed, a bit each: a million of them need 128 KB. It knows nothing of Kafka. Invariant:
//! however often an event is delivered, it counts as consumed once.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::grouped;

/// How many of the events, which are numbered from 0, were produced and consumed, and how long it took.
#[derive(Debug)]
pub struct Tally {
    total: u64,
    began: Instant,
    took: OnceLock<Duration>,
    produced: AtomicU64,
    consumed: AtomicU64,
    again: AtomicU64,
    seen: Vec<AtomicU64>,
}

impl Tally {
    /// Starts the stopwatch: nothing was done with any of `total` events yet.
    pub fn new(total: usize) -> Tally {
        let zero = AtomicU64::default;
        Tally {
            total: total as u64,
            began: Instant::now(),
            took: OnceLock::new(),
            produced: zero(),
            consumed: zero(),
            again: zero(),
            seen: (0..total.div_ceil(64)).map(|_| zero()).collect(),
        }
    }

    /// Counts an event that was produced.
    pub fn produce(&self) {
        self.produced.fetch_add(1, Relaxed);
    }

    /// Counts an event that was consumed, and says whether it is the first time.
    pub fn consume(&self, number: u64) -> bool {
        let bit = 1 << (number % 64);
        let word = usize::try_from(number / 64).ok().and_then(|at| self.seen.get(at));
        let first = word.is_some_and(|word| word.fetch_or(bit, Relaxed) & bit == 0);
        let counter = if first { &self.consumed } else { &self.again };
        let before = counter.fetch_add(1, Relaxed);
        if first && before + 1 == self.total {
            self.took.get_or_init(|| self.began.elapsed());
        }
        first
    }

    /// How fast all were produced and consumed, given the bytes of their values, and how much memory that took.
    pub fn speed(&self, bytes: u64) -> String {
        let seconds = self.took.get().copied().unwrap_or_else(|| self.began.elapsed()).as_secs_f64();
        let (megabytes, records) = (bytes as f64 / 1e6, grouped((self.total as f64 / seconds) as u64));
        let a_second = megabytes / seconds;
        let memory = peak_memory().map_or_else(String::new, |peak| format!("; at most {peak} MB of memory"));
        format!(
            "{megabytes:.1} MB in {seconds:.2} s: {records} records and {a_second:.1} MB a second{memory}"
        )
    }

    /// All events there are, those produced, and those consumed.
    pub fn counts(&self) -> [u64; 3] {
        [self.total, self.produced.load(Relaxed), self.consumed.load(Relaxed)]
    }

    /// How often an event came that had been consumed before.
    pub fn redelivered(&self) -> u64 {
        self.again.load(Relaxed)
    }
}

/// The line that shows how far a run is: redrawn on a terminal, elsewhere a new one every few seconds.
#[derive(Debug)]
pub struct Progress {
    counts: [u64; 4],
    shown: Option<Instant>,
    moved: Instant,
}

impl Progress {
    /// Shows nothing yet.
    #[expect(clippy::new_without_default, reason = "it begins a stopwatch")]
    pub fn new() -> Progress {
        Progress { counts: [0; 4], shown: None, moved: Instant::now() }
    }

    /// Shows how far it is.
    #[expect(clippy::print_stderr, reason = "it is for the one who waits")]
    pub fn show(&mut self, tally: &Tally, committed: u64) {
        let [total, produced, consumed] = tally.counts();
        let counts = [total, produced, consumed, committed];
        if counts != self.counts {
            (self.counts, self.moved) = (counts, Instant::now());
        }
        let [total, produced, consumed, committed] = counts.map(grouped);
        let done = usize::try_from(counts[2] * 20 / counts[0].max(1)).map_or(0, |done| done.min(20));
        let bar = "#".repeat(done);
        let line = format!(
            "[{bar:<20}] of {total}: produced {produced}, consumed {consumed}, committed {committed}"
        );
        let terminal = std::io::stderr().is_terminal();
        if terminal {
            eprint!("\r{line}");
        } else if self.shown.is_none_or(|shown| shown.elapsed() >= Duration::from_secs(5)) {
            eprintln!("{line}");
            self.shown = Some(Instant::now());
        }
        if terminal && self.is_done() {
            eprintln!();
        }
    }

    /// Whether everything is produced, consumed and committed.
    pub fn is_done(&self) -> bool {
        let [total, rest @ ..] = self.counts;
        rest.into_iter().all(|count| count >= total)
    }

    /// How long nothing has moved.
    pub fn still(&self) -> Duration {
        self.moved.elapsed()
    }
}

/// The most memory that this process has held, in MB, where the system tells it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn an_event_counts_once() {
        let tally = Tally::new(65);
        let first: Vec<bool> = [0, 63, 64, 0, 64].map(|number| tally.consume(number)).into();
        assert_eq!(first, [true, true, true, false, false]);
        assert_eq!((tally.counts(), tally.redelivered()), ([65, 0, 3], 2));
    }

    #[test]
    fn an_event_that_nobody_produced_is_not_one_of_them() {
        let tally = Tally::new(1);
        assert!(!tally.consume(64) && !tally.consume(u64::MAX));
        assert_eq!(tally.counts(), [1, 0, 0]);
    }
}
