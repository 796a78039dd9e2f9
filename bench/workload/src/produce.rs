//! The produce loop: each task sends as fast as the client takes records, and awaits the oldest acknowledgement when its
//! window is full.
//!
//! It awaits each acknowledgement once, in the order of the sends, and counts failures; it does not retry.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::{Meter, Settings, Values, fail};

/// What the loops ask of a client's producer.
pub trait Producer: Send + Sync + 'static {
    /// What stands for a record that was handed over and is not yet acknowledged.
    type Ack: Send + 'static;

    /// Hands a value over, without a key, waiting while the client has no room.
    fn enqueue(&self, value: &[u8]) -> impl Future<Output = Result<Self::Ack, String>> + Send;

    /// Waits until the record is acknowledged.
    fn settle(ack: Self::Ack) -> impl Future<Output = Result<(), String>> + Send;
}

/// Sends `settings.records` records from `settings.tasks` tasks, which share the window, and reports what they cost. The
/// first record is not counted: connections, metadata and the producer id are there when it is acknowledged.
pub async fn produce<P: Producer>(producer: P, settings: &Settings) {
    let values = Arc::new(Values::new(settings.size, settings.records));
    warm_up(&producer, &values, 1).await;
    let meter = Meter::start();
    let failed = match settings.tasks {
        1 => send(&producer, &values, 1..settings.records, settings.window).await,
        tasks => {
            let (producer, window) = (Arc::new(producer), settings.window / tasks);
            let share = settings.records.div_ceil(tasks as u64).max(1);
            let firsts = (0..settings.records).step_by(share as usize);
            let ranges = firsts.map(|first| first.max(1)..(first + share).min(settings.records));
            let started: Vec<_> = ranges
                .map(|range| {
                    let (producer, values) = (producer.clone(), values.clone());
                    tokio::spawn(async move { send(&*producer, &values, range, window.max(1)).await })
                })
                .collect();
            let mut failed = 0;
            for task in started {
                failed += task.await.unwrap_or_else(|problem| fail(problem));
            }
            failed
        }
    };
    meter.report(settings, settings.records.saturating_sub(1), failed, Vec::new());
}

/// Sends these records, awaits all acknowledgements, and returns how many failed.
async fn send<P: Producer>(producer: &P, values: &Values, records: Range<u64>, most: usize) -> u64 {
    let mut window = VecDeque::with_capacity(most);
    let mut failures = Failures::default();
    for number in records {
        if window.len() >= most
            && let Some(oldest) = window.pop_front()
        {
            failures.note(P::settle(oldest).await);
        }
        match producer.enqueue(values.get(number)).await {
            Ok(ack) => window.push_back(ack),
            Err(problem) => fail(problem),
        }
    }
    for ack in window {
        failures.note(P::settle(ack).await);
    }
    failures.0
}

/// Sends one record, and reports how long after the start of the process it was acknowledged.
pub async fn first<P: Producer>(producer: P, settings: &Settings) {
    let meter = Meter::start();
    let sent = async { P::settle(producer.enqueue(&vec![b'1'; settings.size]).await?).await };
    sent.await.unwrap_or_else(|problem| fail(problem));
    let first_us = settings.started.elapsed().as_secs_f64() * 1e6;
    meter.report(settings, 1, 0, vec![("first_us", first_us.into())]);
}

/// Sends the first `records` records one at a time.
pub(crate) async fn warm_up<P: Producer>(producer: &P, values: &Values, records: u64) {
    for number in 0..records {
        let sent = async { P::settle(producer.enqueue(values.get(number)).await?).await };
        sent.await.unwrap_or_else(|problem| fail(problem));
    }
}

/// Counts what failed, and says what the first failure was.
#[derive(Default)]
struct Failures(u64);

impl Failures {
    fn note(&mut self, outcome: Result<(), String>) {
        if let Err(problem) = outcome {
            if self.0 == 0 {
                eprintln!("{problem}");
            }
            self.0 += 1;
        }
    }
}
