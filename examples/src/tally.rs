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

    /// What there is to say at the end, given the bytes of all values and how many records were committed.
    pub fn report(&self, bytes: u64, committed: u64) -> String {
        let seconds = self.took.get().copied().unwrap_or_else(|| self.began.elapsed()).as_secs_f64();
        let (megabytes, records) = (bytes as f64 / 1e6, grouped((self.total as f64 / seconds) as u64));
        let a_second = megabytes / seconds;
        let memory = peak_memory().map_or_else(String::new, |peak| format!(", at most {peak} MB of memory"));
        let speed = format!(
            "{megabytes:.1} MB in {seconds:.2} s: {records} records and {a_second:.1} MB a second{memory}\n"
        );
        let again = match self.redelivered() {
            0 => String::new(),
            again => format!("redelivered {}: a group delivers at least once\n", grouped(again)),
        };
        let counts = [self.produced(), self.consumed(), committed];
        let [produced, consumed, committed] = counts.map(grouped);
        let verdict = if counts == [self.total; 3] { "all of them" } else { "NOT all of them" };
        format!("{speed}{again}produced {produced}, consumed {consumed}, committed {committed}: {verdict}")
    }

    /// How many events there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many were produced.
    pub fn produced(&self) -> u64 {
        self.produced.load(Relaxed)
    }

    /// How many different ones were consumed.
    pub fn consumed(&self) -> u64 {
        self.consumed.load(Relaxed)
    }

    /// How often one came that had been consumed before.
    pub fn redelivered(&self) -> u64 {
        self.again.load(Relaxed)
    }
}

/// How long the counts may stand still before a run is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The line that shows how far a run is: redrawn on a terminal, elsewhere a new one every few seconds.
#[derive(Debug)]
pub struct Progress {
    counts: [u64; 3],
    moved: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Shows nothing yet.
    #[expect(clippy::new_without_default, reason = "it starts a stopwatch")]
    pub fn new() -> Progress {
        Progress { counts: [0; 3], moved: Instant::now(), shown: None }
    }

    /// Shows how far it is, and says whether that is the end: everything is committed, or nothing has moved for two
    /// minutes.
    pub fn show(&mut self, tally: &Tally, committed: u64) -> bool {
        let counts = [tally.produced(), tally.consumed(), committed];
        if counts != self.counts {
            (self.counts, self.moved) = (counts, Instant::now());
        }
        let ended = counts.iter().all(|count| *count >= tally.total()) || self.moved.elapsed() > PATIENCE;
        self.print(tally.total(), ended);
        ended
    }

    #[expect(clippy::print_stderr, reason = "it is for whoever waits")]
    fn print(&mut self, total: u64, ended: bool) {
        let [produced, consumed, committed] = self.counts.map(grouped);
        let bar: String =
            (0..20).map(|mark| if mark * total < self.counts[2] * 20 { '#' } else { '.' }).collect();
        let line = format!("[{bar}] produced {produced}, consumed {consumed}, committed {committed}");
        if std::io::stderr().is_terminal() {
            eprint!("\r{line}{}", if ended { "\n" } else { "" });
        } else if ended || self.shown.is_none_or(|shown| shown.elapsed() >= Duration::from_secs(5)) {
            eprintln!("{line}");
            self.shown = Some(Instant::now());
        }
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
        assert_eq!((tally.consumed(), tally.redelivered()), (3, 2));
    }

    #[test]
    fn an_event_that_nobody_produced_is_not_one_of_them() {
        let tally = Tally::new(1);
        assert!(!tally.consume(64) && !tally.consume(u64::MAX));
        assert_eq!(tally.consumed(), 0);
    }
}
