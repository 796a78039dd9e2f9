//! Tasks of a simulated run: their order, their panics, their names while they live.
//!
//! tokio's current-thread queue is first in, first out, so without help a run sees one order of ready tasks. Two seeded
//! helps: a *roulette* sends a task that comes to the head of the queue to its back, and a *pause* yields a few times at
//! a place where another thread could run. Invariant: a task that panics or spins ends, and the run fails with its name.

use crate::random::Random;
use crate::trace::Trace;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

/// How often in a row a task may lose its turn.
const SKIPS_MAX: u8 = 8;

/// The tasks of one run.
#[derive(Clone)]
pub struct Tasks {
    state: Arc<Mutex<State>>,
    trace: Arc<Trace>,
}

struct State {
    random: Random,
    /// Of a hundred turns, how many a task loses.
    roulette_percent: u64,
    /// At most this many yields in a pause.
    pause_max: u64,
    live: BTreeMap<u64, &'static str>,
    next: u64,
    polls: u64,
}

impl Tasks {
    /// No tasks yet; how strongly their order is shuffled is drawn from `random`.
    pub fn new(mut random: Random, trace: Arc<Trace>) -> Self {
        let (roulette_percent, pause_max) = (random.choose(&[0, 20, 40, 60]), random.choose(&[0, 1, 3, 6]));
        let state = State { random, roulette_percent, pause_max, live: BTreeMap::new(), next: 0, polls: 0 };
        Tasks { state: Arc::new(Mutex::new(state)), trace }
    }

    /// Starts a task under the roulette. A panic in it is a violation with the task's name.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let id = {
            let mut state = self.state.lock();
            state.next += 1;
            let id = state.next;
            state.live.insert(id, name);
            id
        };
        tokio::spawn(Watched { task: Box::pin(task), tasks: self.clone(), name, id, skips: 0 })
    }

    /// A place where another thread could run.
    pub fn poll_pause(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        // Each poll decides anew whether one more turn is lost, so a pause needs no place for a count.
        let pause_max = state.pause_max;
        if state.random.below(pause_max + 2) <= 1 {
            return Poll::Ready(());
        }
        drop(state);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Names of the tasks that have not ended.
    pub fn live(&self) -> Vec<&'static str> {
        self.state.lock().live.values().copied().collect()
    }

    /// Polls of all tasks so far.
    pub fn polls(&self) -> u64 {
        self.state.lock().polls
    }

    /// Whether the task at the head of the queue loses its turn.
    fn loses_turn(&self, skips: u8) -> bool {
        let mut state = self.state.lock();
        let percent = state.roulette_percent;
        skips < SKIPS_MAX && percent > 0 && state.random.percent(percent)
    }
}

struct Watched<F> {
    task: Pin<Box<F>>,
    tasks: Tasks,
    name: &'static str,
    id: u64,
    skips: u8,
}

impl<F: Future> Future for Watched<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.tasks.loses_turn(this.skips) {
            this.skips += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.skips = 0;
        this.tasks.state.lock().polls += 1;
        if !this.tasks.trace.poll(this.id, this.name) {
            return Poll::Ready(None);
        }
        catch_unwind(AssertUnwindSafe(|| this.task.as_mut().poll(cx).map(Some))).unwrap_or_else(|panic| {
            this.tasks.trace.violate(format_args!("panic in {}: {}", this.name, panic_text(&panic)));
            Poll::Ready(None)
        })
    }
}

impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        self.tasks.state.lock().live.remove(&self.id);
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default()
}
