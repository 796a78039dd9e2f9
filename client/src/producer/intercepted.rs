//! The way of a record when a producer has interceptors.
//!
//! It owns when they are called: before a record is accepted, and once its outcome is known, although nobody may wait for
//! that. Invariant: whoever was told of a record that was accepted is told its outcome, once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use ottla_protocol::wire::Str;
use parking_lot::Mutex;

use super::{Delivery, Full, Payload, Topic};
use crate::config::ProducerConfig;
use crate::error::Error;
use crate::interceptor::Outgoing;

impl Topic {
    #[inline]
    pub(super) fn is_intercepted(&self) -> bool {
        !self.producer.0.config.interceptors.is_empty()
    }

    /// As [`enqueue`](Topic::enqueue).
    pub(super) async fn enqueue_intercepted(&self, payload: Payload<'_>) -> Result<Delivery, Error> {
        let accepted = match self.intercept(payload) {
            Err(error) => Err(error),
            Ok(record) => {
                let headers = record.headers();
                let payload = record.payload(&headers);
                match self.append(&payload, true) {
                    Ok(delivery) => Ok(delivery),
                    Err(refusal) => self.enqueue_later(payload, refusal).await,
                }
            }
        };
        self.watch(accepted)
    }

    /// As [`try_enqueue`](Topic::try_enqueue).
    pub(super) fn try_enqueue_intercepted(&self, payload: Payload<'_>) -> Result<Delivery, Full> {
        let accepted = match self.intercept(payload) {
            Err(error) => Err(error),
            Ok(record) => match self.append_at_once(&record.payload(&record.headers())) {
                Err(Full::Failed(error)) => Err(error),
                Err(full) => return Err(full),
                Ok(delivery) => Ok(delivery),
            },
        };
        self.watch(accepted).map_err(Full::Failed)
    }

    fn intercept<'a>(&self, payload: Payload<'a>) -> Result<Outgoing<'a>, Error> {
        let mut record = Outgoing::new(payload);
        self.producer.0.config.interceptors.on_send(&self.name, &mut record)?;
        Ok(record)
    }

    /// Tells the interceptors how it ends.
    fn watch(&self, accepted: Result<Delivery, Error>) -> Result<Delivery, Error> {
        let config = &self.producer.0.config;
        match accepted {
            Ok(delivery) => {
                let watched = Mutex::new(Some(delivery.twin()));
                let watch = Watch { config: config.clone(), topic: self.name.clone(), watched };
                Arc::new(watch).wake();
                Ok(delivery)
            }
            Err(error) => {
                let refused = Err(error.clone());
                config.interceptors.on_outcome(&self.name, &refused);
                Err(error)
            }
        }
    }
}

/// Waits for an outcome without being a task: whoever brings the outcome wakes it, and it does its work then.
struct Watch {
    config: Arc<ProducerConfig>,
    topic: Str,
    watched: Mutex<Option<Delivery>>,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        let mut watched = self.watched.lock();
        let Some(delivery) = &mut *watched else { return };
        let waker = Waker::from(self.clone());
        if let Poll::Ready(outcome) = Pin::new(delivery).poll(&mut Context::from_waker(&waker)) {
            *watched = None;
            drop(watched);
            self.config.interceptors.on_outcome(&self.topic, &outcome);
        }
    }
}
