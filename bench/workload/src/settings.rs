//! The command line of a peer: a mode and pairs of `--name value`, in plain strings and numbers.
//!
//! Knows nothing of the clients' own configuration. A name that no peer reads is an error, so that a misspelt option
//! never measures something else than was asked for.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// What a process measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// CPU and rate of sending records, with a window of unacknowledged ones.
    Produce,
    /// CPU and rate of reading records that are there already.
    Consume,
    /// Time from a record's send to its acknowledgement: one at a time, or at a fixed rate.
    Ack,
    /// Time from a record's send to its arrival in a consumer of the same process, one at a time.
    Deliver,
    /// Time from the start of the process to the first acknowledgement.
    First,
}

/// Settings that are made equal for all clients; without them a client runs at its own defaults.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// How long a producer waits for more records of a batch.
    pub linger_ms: u64,
    /// Largest batch of a producer, in bytes.
    pub batch_bytes: usize,
    /// Requests that may be without an answer.
    pub in_flight: usize,
}

/// What a peer was asked to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When the process began, as near as it can tell.
    pub started: Instant,
    /// What to measure.
    pub mode: Mode,
    /// Which of several ways a client offers (`base` or `future`, for instance); empty for the first.
    pub api: String,
    /// Bootstrap address.
    pub brokers: String,
    /// Topic to write or read; it exists.
    pub topic: String,
    /// Its number of partitions.
    pub partitions: i32,
    /// Records to send or read, at most.
    pub records: u64,
    /// Bytes of a value.
    pub size: usize,
    /// Codec of the batches (`none`, `gzip`, `snappy`, `lz4`, `zstd`).
    pub compression: String,
    /// Records that the application leaves unacknowledged at once.
    pub window: usize,
    /// Tasks that share the producer.
    pub tasks: usize,
    /// Records of a transaction; 0 is none.
    pub transaction: u64,
    /// Records a second of the open loop; 0 is the closed loop.
    pub rate: u64,
    /// The longest that a latency loop sends.
    pub limit: Duration,
    /// Worker threads of the tokio runtime; 1 is a current-thread runtime.
    pub workers: usize,
    /// The equal settings, or none for the client's own defaults.
    pub tuning: Option<Tuning>,
}

impl Settings {
    /// Reads the process's arguments; ends the process with code 2 and a usage line when they make no sense.
    pub fn from_arguments() -> Settings {
        Settings::parse(Instant::now(), std::env::args().skip(1)).unwrap_or_else(|problem| {
            eprintln!("{problem}\n{USAGE}");
            std::process::exit(2)
        })
    }

    fn parse(started: Instant, mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
        let mode = match arguments.next().as_deref() {
            Some("produce") => Mode::Produce,
            Some("consume") => Mode::Consume,
            Some("ack") => Mode::Ack,
            Some("deliver") => Mode::Deliver,
            Some("first") => Mode::First,
            other => return Err(format!("unknown mode {other:?}")),
        };
        let mut options = Options::read(arguments)?;
        let tuning = match options.text("settings", "equal").as_str() {
            "equal" => Some(Tuning {
                linger_ms: options.number("linger-ms", 5)?,
                batch_bytes: options.number("batch-bytes", BATCH_BYTES)?,
                in_flight: options.number("in-flight", 5)?,
            }),
            "defaults" => None,
            other => return Err(format!("unknown settings {other}")),
        };
        let settings = Settings {
            started,
            mode,
            api: options.text("api", ""),
            brokers: options.text("brokers", "127.0.0.1:9092"),
            topic: options.text("topic", "bench"),
            partitions: options.number("partitions", 6)?,
            records: options.number("records", 1_000_000)?,
            size: options.number("size", 100)?,
            compression: options.text("compression", "none"),
            window: options.number("window", 100_000)?,
            tasks: options.number("tasks", 1)?.max(1),
            transaction: options.number("transaction", 0)?,
            rate: options.number("rate", 0)?,
            limit: Duration::from_secs(options.number("seconds", 3)?),
            workers: options.number("workers", 2)?,
            tuning,
        };
        match options.0.keys().next() {
            None => Ok(settings),
            Some(name) => Err(format!("unknown option --{name}")),
        }
    }

    /// The same with the equal settings and no linger: the producer that feeds a consumer whose latency is measured.
    pub fn without_linger(&self) -> Settings {
        let tuning = Tuning { linger_ms: 0, batch_bytes: BATCH_BYTES, in_flight: 5 };
        Settings { tuning: Some(tuning), ..self.clone() }
    }

    /// The tokio runtime on which the client and the loop run.
    pub fn runtime(&self) -> Runtime {
        let mut builder = match self.workers {
            1 => Builder::new_current_thread(),
            workers => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(workers);
                builder
            }
        };
        builder.enable_all().build().expect("a runtime starts where threads can be made")
    }
}

const BATCH_BYTES: usize = 131_072;

const USAGE: &str = "usage: PEER produce|consume|ack|deliver|first [--brokers HOST:PORT] [--topic NAME] [--partitions N] \
    [--records N] [--size BYTES] [--settings equal|defaults] [--linger-ms N] [--batch-bytes N] [--in-flight N] \
    [--compression CODEC] [--tasks N] [--transaction RECORDS] [--window N] [--rate N] [--seconds N] [--workers N] [--api NAME]";

/// The pairs that were given and not yet taken.
struct Options(BTreeMap<String, String>);

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = BTreeMap::new();
        while let Some(name) = arguments.next() {
            let key = name.strip_prefix("--").ok_or_else(|| format!("unexpected {name}"))?;
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            options.insert(key.to_string(), value);
        }
        Ok(Options(options))
    }

    fn text(&mut self, name: &str, default: &str) -> String {
        self.0.remove(name).unwrap_or_else(|| default.to_string())
    }

    fn number<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.0.remove(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|problem| format!("--{name} {text}: {problem}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Settings, String> {
        Settings::parse(Instant::now(), line.split_whitespace().map(String::from))
    }

    #[test]
    fn own_defaults_carry_no_tuning() {
        assert!(parse("produce --settings defaults").expect("valid").tuning.is_none());
        assert_eq!(parse("produce --linger-ms 0").expect("valid").tuning.map(|t| t.linger_ms), Some(0));
    }

    #[test]
    fn a_misspelt_option_is_refused_by_name() {
        assert_eq!(parse("produce --recrods 5").expect_err("misspelt"), "unknown option --recrods");
        assert!(parse("produce --records many").expect_err("no number").starts_with("--records many:"));
        // The equal settings mean nothing to a client at its defaults.
        assert!(parse("produce --settings defaults --linger-ms 5").is_err());
    }
}
