//! Latencies: of acknowledgements, one record at a time or at a fixed rate, and of deliveries to a consumer.
//!
//! At a fixed rate a record's latency counts from the moment at which it was due, whether or not the client could take
//! it then, so that a client that stalls is not spared the records which waited.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::produce::warm_up;
use crate::{Meter, Producer, Settings, Values, fail};

/// Records sent before a loop measures.
const WARM_UP: u64 = 100;
/// Records a second whose acknowledgement the open loop times; all others are let go.
const SAMPLES_PER_SECOND: u64 = 10_000;
/// What the open loop sleeps between two looks at what is due.
const TICK: Duration = Duration::from_micros(100);

/// Latencies in nanoseconds.
#[derive(Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Adds one.
    pub fn push(&mut self, latency: Duration) {
        self.0.push(latency.as_nanos() as u64);
    }

    /// The JSON fields `samples`, `p50_us`, `p99_us` and `p999_us`.
    pub fn fields(mut self) -> Vec<(&'static str, Value)> {
        self.0.sort_unstable();
        let quantile = |q: f64| {
            let place = ((self.0.len() as f64 * q) as usize).min(self.0.len().saturating_sub(1));
            json!(self.0.get(place).map(|nanoseconds| *nanoseconds as f64 / 1e3))
        };
        vec![
            ("samples", json!(self.0.len())),
            ("p50_us", quantile(0.5)),
            ("p99_us", quantile(0.99)),
            ("p999_us", quantile(0.999)),
        ]
    }
}

/// Sends one record at a time and reports how long each acknowledgement took.
pub async fn closed_loop<P: Producer>(producer: &P, settings: &Settings) {
    let values = Values::new(settings.size, settings.records);
    warm_up(producer, &values, WARM_UP).await;
    let (meter, end) = (Meter::start(), Instant::now() + settings.limit);
    let mut latencies = Latencies::default();
    let mut sent = 0;
    while sent < settings.records && Instant::now() < end {
        let start = Instant::now();
        let acked = async { P::settle(producer.enqueue(values.get(sent)).await?).await };
        acked.await.unwrap_or_else(|problem| fail(problem));
        latencies.push(start.elapsed());
        sent += 1;
    }
    meter.report(settings, sent, 0, latencies.fields());
}

/// Sends `settings.rate` records a second for `settings.limit` and reports how long the acknowledgements of a sample of
/// them took.
pub async fn open_loop<P: Producer>(producer: &P, settings: &Settings) {
    let records = settings.rate * settings.limit.as_secs();
    let values = Values::new(settings.size, records);
    warm_up(producer, &values, WARM_UP).await;
    let (settled, mut outcomes) = unbounded_channel();
    let stride = (settings.rate / SAMPLES_PER_SECOND).max(1);
    let mut ticks = ticks();
    let (meter, start) = (Meter::start(), Instant::now());
    let mut sent = 0;
    while sent < records {
        ticks.recv().await;
        let due = (start.elapsed().as_secs_f64() * settings.rate as f64) as u64;
        while sent < due.min(records) {
            let ack = producer.enqueue(values.get(sent)).await.unwrap_or_else(|problem| fail(problem));
            if sent.is_multiple_of(stride) {
                let due = start + Duration::from_secs_f64(sent as f64 / settings.rate as f64);
                let settled = settled.clone();
                tokio::spawn(async move {
                    let outcome = P::settle(ack).await;
                    settled.send((outcome, due.elapsed())).ok();
                });
            }
            sent += 1;
        }
    }
    drop(settled);
    let (mut latencies, mut failed) = (Latencies::default(), 0);
    while let Some((outcome, latency)) = outcomes.recv().await {
        latencies.push(latency);
        failed += u64::from(outcome.is_err());
    }
    meter.report(settings, sent, failed, latencies.fields());
}

/// A message about every tenth of a millisecond. It comes from a thread, because timers of the runtime have a resolution
/// of one millisecond.
fn ticks() -> UnboundedReceiver<()> {
    let (tick, ticks) = unbounded_channel();
    std::thread::spawn(move || {
        while tick.send(()).is_ok() {
            std::thread::sleep(TICK);
        }
    });
    ticks
}

/// Where the consumer of a delivery loop says that a record has arrived.
#[derive(Clone)]
pub struct Arrivals(UnboundedSender<Instant>);

impl Arrivals {
    /// Notes the arrival of the next record.
    pub fn note(&self) {
        self.0.send(Instant::now()).ok();
    }
}

/// Sends one record at a time, waits until `consumer` has it, and reports how long that took. `consumer` starts a task
/// that notes each record of the topic.
pub async fn delivery_loop<P: Producer>(
    producer: Arc<P>,
    settings: &Settings,
    consumer: impl FnOnce(Arrivals),
) {
    let values = Values::new(settings.size, settings.records);
    let (noted, mut arrivals) = unbounded_channel();
    consumer(Arrivals(noted));
    warm_up(&*producer, &values, WARM_UP).await;
    for _ in 0..WARM_UP {
        arrivals.recv().await.unwrap_or_else(|| fail("the consumer ended"));
    }
    let (meter, end) = (Meter::start(), Instant::now() + settings.limit);
    let mut latencies = Latencies::default();
    let mut sent = 0;
    while sent < settings.records && Instant::now() < end {
        let start = Instant::now();
        let ack = producer.enqueue(values.get(sent)).await.unwrap_or_else(|problem| fail(problem));
        let arrival = arrivals.recv().await.unwrap_or_else(|| fail("the consumer ended"));
        latencies.push(arrival.duration_since(start));
        P::settle(ack).await.unwrap_or_else(|problem| fail(problem));
        sent += 1;
    }
    meter.report(settings, sent, 0, latencies.fields());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_that_were_seen() {
        let mut latencies = Latencies::default();
        (0..1000).rev().for_each(|us| latencies.push(Duration::from_micros(us)));
        let fields = latencies.fields();
        assert_eq!(fields[0], ("samples", json!(1000)));
        assert_eq!(fields[1], ("p50_us", json!(500.0)));
        assert_eq!(fields[3], ("p999_us", json!(999.0)));
        assert_eq!(Latencies::default().fields()[1], ("p50_us", json!(null)));
    }
}
