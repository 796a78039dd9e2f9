//! The outside of a client: randomness, the wall clock, tasks, and by its [`Connector`] streams, behind one object-safe trait.
//!
//! It owns the only `tokio::spawn` and the only reading of the wall clock in this crate; the monotonic clock and timers are
//! tokio's, so that a paused runtime stops them too. It refuses to know the protocol.
//! A simulator implements [`World`] and runs the public API on in-memory pipes; everybody else gets [`Tcp`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

#[cfg(feature = "unstable-world")]
pub use crate::connect::{Connecting, Stream};
use crate::connect::{Connector, Tcp};

/// A boxed future, as the object-safe [`World`] returns it.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a client asks of the outside, besides tokio's clock and the connections.
pub trait World: Connector {
    /// A random number: jitter, load balancing, the seed of each machine.
    fn random(&self) -> u64;

    /// Milliseconds since the Unix epoch, for the timestamps of records.
    fn wall_ms(&self) -> i64;

    /// Starts a task. `name` says what it is for whoever watches tasks.
    fn spawn(&self, name: &'static str, task: Work<()>);

    /// Fills `bytes` with what nobody can guess: nonces.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    fn unguessable(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::from)
    }

    /// Runs beside the tasks what computes for long and waits for nothing.
    fn compute(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }

    /// A place where another thread could run: between a decision under the lock and the wait that follows it.
    /// A simulator yields here, a few times or not at all.
    fn poll_pause(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The world that a client was given; by default [`Tcp`].
#[derive(Clone, Default)]
pub(crate) struct Outside(pub(crate) Option<std::sync::Arc<dyn World>>);

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a world of its own" } else { "TCP" })
    }
}

/// Waits at a place where another thread could run; see [`World::poll_pause`].
pub(crate) async fn pause(world: &dyn World) {
    std::future::poll_fn(|cx| world.poll_pause(cx)).await
}

/// Milliseconds since the Unix epoch, as this machine believes.
pub(crate) fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// The real world: TCP sockets on tokio.
impl World for Tcp {
    fn random(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        std::collections::hash_map::RandomState::new().build_hasher().finish()
    }

    fn wall_ms(&self) -> i64 {
        wall_ms()
    }

    fn spawn(&self, _name: &'static str, task: Work<()>) {
        tokio::spawn(task);
    }

    fn poll_pause(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[cfg(feature = "unstable-world")]
impl crate::ClientBuilder {
    /// Runs the client in another world than TCP's. Outside semver.
    pub fn world(mut self, world: std::sync::Arc<dyn World>) -> Self {
        self.outside = Outside(Some(world));
        self
    }
}

#[cfg(feature = "unstable-world")]
pub use crate::planted::Defect;
#[cfg(all(feature = "unstable-world", ottla_planted))]
pub use crate::planted::plant;
