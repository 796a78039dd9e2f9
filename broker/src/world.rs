//! What the broker asks of the world around it: tasks, randomness, the wall clock. Timers and the monotonic clock are
//! tokio's, so a paused runtime rules them.
//!
//! The simulator hands in a world of its own; everybody else uses [`RealWorld`].

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

/// A task, with its type erased.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The seam between the broker and its surroundings.
pub trait World: Send + Sync + 'static {
    /// Runs a task beside the caller. The name says which kind of task it is.
    fn spawn(&self, name: &'static str, task: Work<()>);

    /// Milliseconds since the epoch, for what is written into logs.
    fn wall_ms(&self) -> i64;

    /// A random number: seeds ids of clusters, members, sessions.
    fn random(&self) -> u64;

    /// A place where another thread could run. A simulator yields here; the real world has threads for that.
    fn poll_pause(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

pub(crate) async fn pause(world: &dyn World) {
    poll_fn(|context| world.poll_pause(context)).await;
}

/// Tokio's tasks, the system's clock and randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealWorld;

impl World for RealWorld {
    fn spawn(&self, _: &'static str, task: Work<()>) {
        tokio::spawn(task);
    }

    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> u64 {
        // The standard library keys its hasher from the system's random source; there is no safe way nearer to it.
        use std::hash::{BuildHasher, Hasher};
        std::hash::RandomState::new().build_hasher().finish()
    }
}
