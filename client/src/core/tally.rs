//! What the producer's machine says of itself.
//!
//! It owns the numbers that users and the end of a producer ask for; they are counted where things happen. Invariant: a
//! record that has its outcome is counted once.

use super::batch::Ticket;
use super::producer::{News, Producer};
use super::saying::Saying;
use crate::error::Error;
use crate::event::Event;
use crate::metrics::ProducerMetrics;

/// How many records came to which end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
}

impl<D: Ticket> Producer<D> {
    pub(crate) fn tally(&self) -> Tally {
        let ProducerMetrics { records_written, records_failed, records_in_doubt, .. } = self.metrics;
        Tally { delivered: records_written, failed: records_failed, unknown: records_in_doubt }
    }

    /// A task begins to wait for metadata, or has waited.
    pub(crate) fn waits(&mut self, begins: bool) {
        let waiting = &mut self.metrics.waiting_tasks;
        *waiting = if begins { *waiting + 1 } else { waiting.saturating_sub(1) };
    }

    pub(crate) fn has_event(&self) -> bool {
        !self.events.is_empty() || self.ended.is_some()
    }

    /// What happened that nobody was told yet, oldest first. An error when nothing will happen any more.
    pub(crate) fn take_event(&mut self) -> Result<Option<Event>, Error> {
        match (self.events.take(), &self.ended) {
            (None, Some(error)) => Err(error.clone()),
            (event, _) => Ok(event),
        }
    }

    /// Bytes of the records that each partition of a topic has got, before compression.
    pub(crate) fn partition_bytes(&self, topic: usize) -> Vec<u64> {
        let topic = &self.topics[topic];
        topic.heat.bytes(topic.partitions.len())
    }

    pub(crate) fn metrics(&self) -> ProducerMetrics {
        let mut metrics = self.metrics.clone();
        metrics.waiting_tasks += self.lined_up;
        (metrics.batch_size, metrics.buffer_bytes) = (self.config.batch_size, self.buffered);
        metrics
    }

    /// Warns when a batch for each partition is more than memory holds: batches will go before they are full (rule 19).
    pub(super) fn weigh_batches(&mut self, known_before: usize) {
        let (batch_size, buffer_memory) = (self.config.batch_size, self.config.buffer_memory);
        let fit = |partitions: usize| partitions.saturating_mul(batch_size) <= buffer_memory;
        let partitions = self.queues.len();
        if fit(known_before) && !fit(partitions) {
            let what = "buffer.memory holds less than a batch of batch.size for each partition in use";
            let saying = move || tracing::warn!(partitions, batch_size, buffer_memory, "{what}");
            self.news.push(News::Saying(Saying::new(saying)));
        }
    }
}
