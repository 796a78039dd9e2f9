//! The time that a call has, and what it does with it: attempts, with growing waits between them (KIP-580).
//!
//! It owns the rule of every admin call: what the error table calls retriable is tried again until the deadline, never
//! beyond, and an item that has its answer is not asked for again. It refuses to know any request.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Results;
use super::nodes::Nodes;
use crate::core::backoff::{Backoff, Random};
use crate::error::{Error, ErrorKind};

/// A longer deadline than this is this one: the clock has an end, and tokio's timers have an earlier one.
const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// When a call must have ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    request_timeout: Duration,
}

impl Deadline {
    pub(super) fn remaining(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// How long a request may take that is sent now.
    pub(super) fn request_timeout(self) -> Duration {
        self.request_timeout.min(self.remaining())
    }

    /// An earlier deadline, for what is not worth waiting longer for.
    pub(super) fn within(self, patience: Duration) -> Self {
        Self { at: Instant::now() + self.remaining().min(patience), ..self }
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) deadline: Deadline,
    limit: Duration,
    backoff: Backoff,
    random: Random,
}

impl Attempts {
    pub(super) fn new(nodes: &Nodes, limit: Duration) -> Self {
        let limit = limit.min(DEADLINE_MAX);
        let config = &nodes.config;
        Self {
            deadline: Deadline { at: Instant::now() + limit, request_timeout: config.request_timeout },
            limit,
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            random: Random::new(nodes.world.random()),
        }
    }

    /// Waits until the next attempt may begin.
    ///
    /// # Errors
    /// `cause`, at once, when it will not pass, or when the deadline comes before the next attempt.
    pub(super) async fn pause(&mut self, cause: Error) -> Result<(), Error> {
        if !cause.is_retriable() {
            return Err(cause);
        }
        let wait = self.backoff.next(&mut self.random);
        if wait >= self.deadline.remaining() {
            return Err(cause.with_context(format_args!("not done within {:?}", self.limit)));
        }
        tracing::debug!(%cause, ?wait, "trying again");
        sleep(wait).await;
        Ok(())
    }
}

/// The items of a call: those that have their result, and those that are still to be asked for.
#[derive(Debug)]
pub(super) struct Pending<K, V> {
    /// With the reason why the last attempt gave no result.
    open: BTreeMap<K, Option<Error>>,
    settled: BTreeMap<K, Result<V, Error>>,
    begun: bool,
}

impl<K: Ord + Clone + fmt::Debug, V> Pending<K, V> {
    pub(super) fn new(items: impl IntoIterator<Item = K>) -> Self {
        let open = items.into_iter().map(|item| (item, None)).collect();
        Self { open, settled: BTreeMap::new(), begun: false }
    }

    /// The items to ask for in this attempt.
    pub(super) fn open(&self) -> Vec<K> {
        self.open.keys().cloned().collect()
    }

    /// The last word on an item. One that was not asked for, or has its result, is ignored.
    pub(super) fn settle(&mut self, item: &K, result: Result<V, Error>) {
        if let Some((item, _)) = self.open.remove_entry(item) {
            self.settled.insert(item, result);
        }
    }

    /// What an attempt says of an item: an error that may pass leaves it open.
    pub(super) fn answer(&mut self, item: &K, result: Result<V, Error>) {
        match result {
            Err(cause) if cause.is_retriable() => {
                if let Some(last) = self.open.get_mut(item) {
                    *last = Some(cause);
                }
            }
            result => self.settle(item, result),
        }
    }

    /// The attempt failed as a whole.
    pub(super) fn fail(&mut self, cause: &Error) {
        for item in self.open() {
            self.answer(&item, Err(cause.clone()));
        }
    }

    /// Whether there is another attempt to make, after the wait that stands before it. When there is no time for one, each
    /// open item gets the reason of its last failure.
    pub(super) async fn again(&mut self, attempts: &mut Attempts) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            return !self.open.is_empty();
        }
        let Some(cause) = self.open.values().flatten().next().cloned() else {
            self.give_up(attempts.limit);
            return false;
        };
        match attempts.pause(cause).await {
            Ok(()) => true,
            Err(_) => {
                self.give_up(attempts.limit);
                false
            }
        }
    }

    fn give_up(&mut self, limit: Duration) {
        while let Some((item, cause)) = self.open.pop_first() {
            let error = match cause {
                Some(cause) => cause.with_context(format_args!("not done within {limit:?}")),
                None => {
                    Error::new(ErrorKind::Protocol, format!("the broker's answer says nothing of {item:?}"))
                }
            };
            self.settled.insert(item, Err(error));
        }
    }

    pub(super) fn into_results(self) -> Results<K, V> {
        Results(self.settled)
    }
}

/// Waits for the first of them that is done, and takes it out. Never ends when there is none.
pub(super) async fn first<F: Future>(waiting: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|cx| {
        for index in 0..waiting.len() {
            if let Poll::Ready(output) = waiting[index].as_mut().poll(cx) {
                drop(waiting.remove(index));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits for all of them at once, without a task for each; the outputs are in the order of the futures.
pub(super) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = Vec::new();
    let mut outputs = Vec::new();
    for future in futures {
        waiting.push(Box::pin(future));
        outputs.push(None);
    }
    poll_fn(|cx| {
        let mut ready = true;
        for (future, output) in waiting.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => ready = false,
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
