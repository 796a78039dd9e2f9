//! The outside of a client: streams, randomness, the wall clock and tasks, behind one object-safe trait.
//!
//! It owns the only `tokio::spawn`, the only socket and the only reading of the wall clock in this crate; the monotonic
//! clock and timers are tokio's, so that a paused runtime stops them too. It refuses to know the protocol.
//! A simulator implements [`World`] and runs the public API on in-memory pipes; everybody else gets [`Tcp`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

/// A boxed future, as the object-safe [`World`] returns it.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A connected byte stream; every `AsyncRead + AsyncWrite` is one.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What a client asks of the outside, besides tokio's clock.
pub trait World: Send + Sync + 'static {
    /// Opens a stream to a broker. Dropping the future gives the attempt up.
    fn connect(&self, host: &str, port: u16) -> Work<io::Result<Box<dyn Stream>>>;

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

/// The real world: TCP sockets on tokio.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp {
    /// Bytes of the socket's send buffer; `None` leaves it to the operating system.
    pub send_buffer_bytes: Option<u32>,
    /// Bytes of the socket's receive buffer; `None` leaves it to the operating system.
    pub receive_buffer_bytes: Option<u32>,
}

impl World for Tcp {
    fn connect(&self, host: &str, port: u16) -> Work<io::Result<Box<dyn Stream>>> {
        let (host, options) = (host.to_string(), *self);
        Box::pin(async move {
            let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in tokio::net::lookup_host((host, port)).await? {
                match options.open(address).await {
                    Ok(stream) => return Ok(Box::new(stream) as Box<dyn Stream>),
                    Err(e) => failure = e,
                }
            }
            Err(failure)
        })
    }

    fn random(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        std::collections::hash_map::RandomState::new().build_hasher().finish()
    }

    fn wall_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }

    fn spawn(&self, _name: &'static str, task: Work<()>) {
        tokio::spawn(task);
    }

    fn poll_pause(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Tcp {
    async fn open(&self, address: std::net::SocketAddr) -> io::Result<tokio::net::TcpStream> {
        use tokio::net::TcpSocket;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(bytes) = self.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.set_keepalive(true)?;
        socket.set_nodelay(true)?;
        socket.connect(address).await
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
