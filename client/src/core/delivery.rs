//! What the application takes from a consumer: chunk by chunk, or an error.
//!
//! It owns the order of delivery: chunks in the order in which they came, none of a paused partition. It refuses to know
//! where they came from. Invariant: nothing is taken twice; what goes back in the middle is the first to come again.

use std::sync::Arc;
use std::time::Instant;

use super::TopicPartition;
use super::consumer::Consumer;
use super::positions::{Chunk, Position};
use crate::error::Error;

impl Consumer {
    /// Whether there is something to take: records, an error, or the end.
    pub(crate) fn has_next(&self) -> bool {
        self.closing
            || self.ended.is_some()
            || !self.failures.is_empty()
            || (self.queue.iter().any(|partition| self.is_deliverable(partition)) && self.has_room())
    }

    /// Whether the application may have more. Who holds nothing always may, however large it is.
    fn has_room(&self) -> bool {
        self.fetch.may_hand_out(|| self.positions.values().map(|position| position.waiting_bytes).sum())
    }

    fn is_deliverable(&self, partition: &TopicPartition) -> bool {
        self.positions
            .get(partition)
            .is_some_and(|position| !position.lease.is_paused() && !position.waiting.is_empty())
    }

    /// The next chunk, or an error. `None`: wait, or the consumer is closed.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Result<Chunk, Error>> {
        self.waiting = false;
        if self.closing {
            return None;
        }
        while let Some(failure) = self.failures.pop_front() {
            if failure.lease.is_none_or(|lease| !lease.is_recalled()) {
                return Some(Err(failure.error));
            }
        }
        if let Some(error) = &self.ended {
            return Some(Err(error.clone()));
        }
        let deliverable = self.queue.iter().position(|partition| self.is_deliverable(partition));
        let Some(at) = deliverable.filter(|_| self.has_room()) else {
            // The application waits, and is not to blame for the time.
            self.waiting = true;
            self.starve(now);
            self.step(now);
            return None;
        };
        let partition = self.queue.remove(at)?;
        let position = self.positions.get_mut(&partition)?;
        let mut chunk = position.waiting.pop_front()?;
        position.waiting_bytes = position.waiting_bytes.saturating_sub(chunk.records.len());
        chunk.uncommitted = position.uncommitted;
        self.feed();
        self.step(now);
        Some(Ok(chunk))
    }

    /// A partition was paused in the middle of a chunk: what was not delivered of it waits for the resumption.
    pub(crate) fn give_back(&mut self, now: Instant, mut chunk: Chunk, from: i64) {
        let holds = |position: &&mut Position| Arc::ptr_eq(&position.lease, &chunk.lease);
        if let Some(position) = self.positions.get_mut(&chunk.partition).filter(holds) {
            chunk.from = from;
            chunk.charge.set(chunk.records.len());
            position.waiting_bytes += chunk.records.len();
            self.queue.push_front(chunk.partition.clone());
            position.waiting.push_front(chunk);
        }
        self.step(now);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }
}
