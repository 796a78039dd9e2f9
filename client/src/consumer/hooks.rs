//! The task that runs user code when partitions come and go.
//!
//! It owns the call that is on, and keeps its panics from everybody else. It refuses to know what waits for it, and for how
//! long: that is the machine's. Invariant: a call whose time is over is dropped, and the task goes on with the next.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Control;
use crate::config::ConsumerConfig;
use crate::core::hooks::Call;
use crate::core::ownership::Stored;
use crate::event::{Hook, HookFailure};
use crate::world::{Work, pause};

/// Starts the task, if there is user code to be called. It ends with the consumer.
pub(super) fn start(control: &Control, config: &Arc<ConsumerConfig>) {
    if config.rebalance_hooks.is_some() || config.offset_store.is_some() {
        let task = run(control.clone(), config.clone());
        control.door.world.spawn("hooks", Box::pin(task));
    }
}

async fn run(control: Control, config: Arc<ConsumerConfig>) {
    let door = &control.door;
    while door.until(|machine| machine.has_hook()).await.is_ok() && !door.is_stopped() {
        let Ok(call) = door.with(|machine, _| machine.take_hook()) else { return };
        let Some(call) = call else { continue };
        let id = call.id;
        let mut guarded = Guarded(Some(perform(call, control.clone(), config.clone())));
        pause(&*door.world).await;
        let outcome = tokio::select! {
            biased;
            _ = door.until(move |machine| machine.is_hook_over(id)) => None,
            outcome = &mut guarded => Some(outcome),
        };
        drop(guarded);
        if let Some(outcome) = outcome {
            // A consumer that is broken says so to whoever asks it.
            let _ = door.with(|machine, now| machine.end_hook(now, id, outcome));
        }
    }
}

fn perform(call: Call, control: Control, config: Arc<ConsumerConfig>) -> Work<Result<Stored, HookFailure>> {
    Box::pin(async move {
        let partitions = call.partitions.into_iter().map(|p| (p.topic.to_string(), p.partition)).collect();
        let failed = |error: crate::HookError| HookFailure::Failed(error.to_string());
        match (call.hook, &config.offset_store, &config.rebalance_hooks) {
            (Hook::Load, Some(store), _) => {
                let stored = store.clone().load(partitions).await.map_err(failed)?;
                match stored.iter().find(|(_, offset)| **offset < 0) {
                    Some(((topic, partition), offset)) => {
                        Err(HookFailure::Failed(format!("{offset} is no offset, for {topic}-{partition}")))
                    }
                    None => Ok(stored),
                }
            }
            (hook, _, Some(hooks)) if hook != Hook::Load => {
                hooks.clone().call(hook, control, partitions).await.map_err(failed)?;
                Ok(Stored::new())
            }
            _ => Ok(Stored::new()),
        }
    })
}

/// A call that may panic, also when it is dropped.
struct Guarded(Option<Work<Result<Stored, HookFailure>>>);

impl Future for Guarded {
    type Output = Result<Stored, HookFailure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Ready(Err(HookFailure::Panicked)) };
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        polled.unwrap_or(Poll::Ready(Err(HookFailure::Panicked)))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let work = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(work))).is_err() {
            tracing::error!("user code for partitions panicked when it was dropped");
        }
    }
}
