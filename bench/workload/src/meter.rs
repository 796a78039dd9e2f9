//! What the process itself used between two moments, and the JSON line that says so.
//!
//! Processor time is the kernel's own count for all threads of this process, the broker's is not in it. Peak memory is
//! that of the whole process, its pool of values (8 MiB) included.

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Map, Value, json};

use crate::Settings;

/// Measures from its start to its report.
pub struct Meter {
    start: Instant,
    user_us: i64,
    system_us: i64,
}

impl Meter {
    /// Starts to measure.
    pub fn start() -> Meter {
        let (user_us, system_us) = processor_us();
        Meter { start: Instant::now(), user_us, system_us }
    }

    /// Prints what `records` records cost, with fields of the caller's beside it.
    pub fn report(self, settings: &Settings, records: u64, failed: u64, more: Vec<(&'static str, Value)>) {
        let seconds = self.start.elapsed().as_secs_f64();
        let (user_us, system_us) = processor_us();
        let (user_us, system_us) = (user_us - self.user_us, system_us - self.system_us);
        let mut line = Map::new();
        line.insert("records".into(), records.into());
        line.insert("failed".into(), failed.into());
        line.insert("bytes".into(), (records * settings.size as u64).into());
        line.insert("seconds".into(), seconds.into());
        line.insert("records_per_s".into(), (records as f64 / seconds).into());
        line.insert("user_us".into(), user_us.into());
        line.insert("system_us".into(), system_us.into());
        line.insert(
            "cpu_us_per_record".into(),
            ((user_us + system_us) as f64 / records.max(1) as f64).into(),
        );
        line.insert("peak_kb".into(), peak_kb().into());
        line.extend(more.into_iter().map(|(name, value)| (name.to_string(), value)));
        println!("{}", Value::Object(line));
    }
}

/// Prints why the process cannot measure, and ends it.
pub fn fail(why: impl std::fmt::Display) -> ! {
    println!("{}", json!({ "error": why.to_string() }));
    std::process::exit(1)
}

fn processor_us() -> (i64, i64) {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("every process may ask what it used");
    (usage.user_time().num_microseconds(), usage.system_time().num_microseconds())
}

/// Peak resident memory. `getrusage` would count what this process held before its `exec` as a copy of its parent, so
/// the kernel's figure for this program image comes first.
fn peak_kb() -> i64 {
    let image = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    });
    image.unwrap_or_else(|| getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss()))
}
