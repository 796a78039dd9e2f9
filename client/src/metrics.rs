//! What a producer and a consumer have done so far, in numbers.
//!
//! It owns the names and the units. It refuses to export anything: whoever wants rates takes a snapshot now and then and
//! subtracts. Invariant: numbers change when a batch or a request changes hands, under the lock that is held then; a
//! record costs nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Outcome};

/// How often something took how long. The buckets are fixed: each ends at twice the time of the one before, from 64 µs
/// to 67 s; what takes longer is in one more.
///
/// ```
/// # fn example(metrics: ottla::ProducerMetrics) {
/// let latency = &metrics.request_latency;
/// println!("{} requests, {:?} on average", latency.count(), latency.mean());
/// println!("99 of 100 took at most {:?}", latency.quantile(0.99));
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: Duration,
    max: Duration,
}

const BUCKETS: usize = 22;
/// The first bucket ends here.
const FIRST_MICROS: u64 = 64;

impl Histogram {
    pub(crate) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (0..BUCKETS - 1).find(|at| micros <= FIRST_MICROS << at).unwrap_or(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(took);
        self.max = self.max.max(took);
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of it together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest; zero while there is none.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The average; zero while there is none.
    pub fn mean(&self) -> Duration {
        let nanos = self.sum.as_nanos().checked_div(u128::from(self.count())).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Where each bucket ends, and how many are in it. The last has no end.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let end = |at| match at {
            at if at == BUCKETS - 1 => Duration::MAX,
            at => Duration::from_micros(FIRST_MICROS << at),
        };
        self.counts.iter().enumerate().map(move |(at, count)| (end(at), *count))
    }

    /// A time that this part of them did not exceed, from 0 to 1: the end of its bucket, or the longest. `None` while there
    /// is none.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let mut left = part.clamp(0.0, 1.0) * self.count() as f64;
        for (end, count) in self.buckets().filter(|(_, count)| *count > 0) {
            left -= count as f64;
            if left <= 0.0 {
                return Some(end.min(self.max));
            }
        }
        None
    }
}

/// What a producer has done since it was built: [`Producer::metrics`](crate::Producer::metrics). Counts only rise.
///
/// ```no_run
/// # async fn run(producer: ottla::Producer) {
/// let before = producer.metrics();
/// tokio::time::sleep(std::time::Duration::from_secs(10)).await;
/// let after = producer.metrics();
/// println!("{} records a second", (after.records_written - before.records_written) / 10);
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ProducerMetrics {
    /// Records that are written: acknowledged, or with `acks=0` sent.
    pub records_written: u64,
    /// Records that failed and are certainly not written.
    pub records_failed: u64,
    /// Records that failed and may be written.
    pub records_in_doubt: u64,
    /// Records that failed, by the kind of the error.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Batches that were sent, each counted once.
    pub batches: u64,
    /// Records in those batches.
    pub batch_records: u64,
    /// Bytes of those records before compression.
    pub batch_bytes: u64,
    /// Bytes of record batches that were written to sockets: compressed, and again with each retry.
    pub sent_bytes: u64,
    /// Batches that were sent again.
    pub retries: u64,
    /// From the opening of a batch until it was sent for the first time: the linger, and the wait for the broker.
    pub queue_time: Histogram,
    /// From the sending of a Produce request until its answer; of those that were answered.
    pub request_latency: Histogram,
    /// Bytes of `buffer.memory` in use now.
    pub buffer_bytes: usize,
    /// Tasks that wait in `enqueue` now, for room or for metadata.
    pub waiting_tasks: usize,
    /// `batch.size`.
    pub(crate) batch_size: usize,
}

impl ProducerMetrics {
    /// A batch goes out for the first time.
    pub(crate) fn sent(&mut self, records: i32, bytes: usize, waited: Option<Duration>) {
        self.batches += 1;
        self.batch_records += u64::from(records.unsigned_abs());
        self.batch_bytes += bytes as u64;
        waited.into_iter().for_each(|waited| self.queue_time.add(waited));
    }

    pub(crate) fn failed(&mut self, records: u64, error: &Error) {
        match error.outcome() {
            Some(Outcome::PossiblyWritten) => self.records_in_doubt += records,
            _ => self.records_failed += records,
        }
        *self.errors.entry(error.kind()).or_default() += records;
    }

    /// How full batches are when they go: bytes before compression by `batch.size`. Zero while none has gone.
    pub fn fill(&self) -> f64 {
        ratio(self.batch_bytes, self.batches) / (self.batch_size.max(1) as f64)
    }

    /// Records in a batch, on average. Zero while none has gone.
    pub fn records_per_batch(&self) -> f64 {
        ratio(self.batch_records, self.batches)
    }
}

/// What a consumer has done since it was built: [`Control::metrics`](crate::Control::metrics). Counts only rise.
///
/// ```no_run
/// # fn run(consumer: ottla::Consumer) {
/// let metrics = consumer.control().metrics();
/// println!("{} records read, {} behind", metrics.records, metrics.lag);
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ConsumerMetrics {
    /// Records that were handed to the application; those of the batch in hand are counted when the next is asked for.
    pub records: u64,
    /// Bytes of record batches that were fetched, as they came over the wire.
    pub fetched_bytes: u64,
    /// The same by the node that they came from: with `client.rack`, followers too (KIP-392).
    pub fetched_from: BTreeMap<i32, u64>,
    /// From the sending of a Fetch until its answer, of those that were answered. A broker without new records holds a
    /// Fetch back for up to `fetch.max.wait.ms`.
    pub fetch_latency: Histogram,
    /// Bytes of `fetch.buffer.bytes` in use now, those of owned records that the application holds included.
    pub buffer_bytes: usize,
    /// Records that are readable and not finished, over all partitions whose end is known; see
    /// [`Control::lag`](crate::Control::lag) for each of them.
    pub lag: u64,
    /// The largest of these lags (`records-lag-max`).
    pub lag_max: u64,
    /// The age of the oldest record that is fetched and not finished; see [`Control::time_lag`](crate::Control::time_lag).
    pub time_lag_max: Duration,
}

/// Whether a consumer is well: [`Control::health`](crate::Control::health), for the probes of whoever runs the process.
///
/// ```no_run
/// # async fn run(consumer: ottla::Consumer) {
/// let health = consumer.control().health();
/// let status = if health.ready { 200 } else { 503 };
/// println!("{status} {}", health.reason.unwrap_or_default());
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// False when only a new consumer helps, or the application is stuck: it has not asked for records within
    /// `max.poll.interval.ms`, the membership has ended, or the consumer is closed or broken. That the cluster cannot be
    /// reached is no reason to start again.
    pub live: bool,
    /// Whether it does its work: the cluster has answered, the group has given it its share, each partition is known to
    /// start somewhere, and none stands still.
    pub ready: bool,
    /// Why it is not live, or not ready.
    pub reason: Option<String>,
}

fn ratio(of: u64, by: u64) -> f64 {
    if by == 0 { 0.0 } else { of as f64 / by as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        millis.iter().for_each(|ms| histogram.add(Duration::from_millis(*ms)));
        histogram
    }

    #[test]
    fn a_time_is_in_the_first_bucket_that_does_not_end_before_it() {
        let mut histogram = Histogram::default();
        for (micros, end) in [(0, 64), (64, 64), (65, 128), (4_096, 4_096), (4_097, 8_192)] {
            let before = histogram.clone();
            histogram.add(Duration::from_micros(micros));
            let changed = histogram.buckets().zip(before.buckets()).find(|(now, then)| now != then);
            assert_eq!(changed.map(|((at, _), _)| at), Some(Duration::from_micros(end)), "{micros}");
        }
        histogram.add(Duration::MAX);
        assert_eq!(histogram.buckets().last(), Some((Duration::MAX, 1)));
        assert_eq!(histogram.buckets().nth(BUCKETS - 2).map(|(end, _)| end.as_secs()), Some(67));
    }

    #[test]
    fn quantiles_are_the_ends_of_buckets_and_never_beyond_the_longest() {
        let histogram = of(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 100]);
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(1_024)));
        assert_eq!(histogram.quantile(0.9), Some(Duration::from_micros(1_024)));
        assert_eq!(histogram.quantile(0.91), Some(Duration::from_millis(100)));
        assert_eq!(histogram.quantile(1.0), Some(histogram.max()));
        assert_eq!(of(&[]).quantile(0.5), None);
    }

    #[test]
    fn averages_of_nothing_are_zero() {
        assert_eq!((of(&[]).mean(), of(&[1, 3]).mean()), (Duration::ZERO, Duration::from_millis(2)));
        assert_eq!(ProducerMetrics::default().fill(), 0.0);
    }
}
