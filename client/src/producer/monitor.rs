//! A look at a producer from other tasks.
//!
//! It owns nothing: numbers and events are the machine's. It refuses to send, and does not keep the producer alive.

use std::sync::Arc;

use super::{Door, Producer};
use crate::driver::shared::Then;
use crate::error::Error;
use crate::event::Event;
use crate::metrics::ProducerMetrics;
use crate::world::pause;

/// Watches a producer from other tasks, where its owner is busy with it: [`TransactionalProducer::monitor`] and
/// [`Pipeline::monitor`]. Cheap to clone; it does not keep the producer alive.
///
/// ```no_run
/// # async fn run(pipeline: ottla::Pipeline) {
/// let monitor = pipeline.monitor();
/// tokio::spawn(async move {
///     while let Ok(event) = monitor.next_event().await {
///         eprintln!("{event:?}, after {} records", monitor.metrics().records_written);
///     }
/// });
/// # }
/// ```
///
/// [`TransactionalProducer::monitor`]: crate::TransactionalProducer::monitor
/// [`Pipeline::monitor`]: crate::Pipeline::monitor
#[derive(Clone)]
pub struct Monitor {
    door: Arc<Door>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl Monitor {
    /// What the producer has done so far, in numbers. Never waits.
    pub fn metrics(&self) -> ProducerMetrics {
        self.door.with_hot(|machine| (machine.metrics(), Then::Nothing)).unwrap_or_default()
    }

    /// As [`Producer::next_event`].
    ///
    /// # Errors
    /// When the producer is closed, dropped or broken, and all events are taken.
    pub async fn next_event(&self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.door.with(|machine, _| machine.take_event())?? {
                return Ok(event);
            }
            pause(&*self.door.world).await;
            self.door.until(|machine| machine.has_event()).await?;
        }
    }
}

impl Producer {
    pub(super) fn monitor(&self) -> Monitor {
        Monitor { door: self.0.door.clone() }
    }
}
