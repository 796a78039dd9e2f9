//! The produce loop: one task sends as fast as the client takes records, and awaits the oldest acknowledgement when its
//! window is full.
//!
//! It awaits each acknowledgement once, in the order of the sends, and counts failures; it does not retry.

use std::collections::VecDeque;

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

/// Sends `settings.records` records and reports what they cost. The first record is not counted: connections, metadata and
/// the producer id are there when it is acknowledged.
pub async fn produce<P: Producer>(producer: &P, settings: &Settings) {
    let values = Values::new(settings.size, settings.records);
    warm_up(producer, &values, 1).await;
    let meter = Meter::start();
    let mut window = VecDeque::with_capacity(settings.window);
    let mut failures = Failures::default();
    for number in 1..settings.records {
        if window.len() >= settings.window
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
    meter.report(settings, settings.records.saturating_sub(1), failures.0, Vec::new());
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
