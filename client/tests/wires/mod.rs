//! Connections that go bad when a test says so, opened by a connector of the test's own.
//!
//! It owns what the wires do to bytes. It knows no Kafka but where an answer has its number.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What every wire looks at.
#[derive(Default)]
pub(crate) struct Wires {
    /// The names that were connected to, in order.
    pub(crate) names: Mutex<Vec<String>>,
    /// Bytes pass one at a time.
    pub(crate) drip: AtomicBool,
    /// The next answer has another number than its request.
    pub(crate) renumber: AtomicBool,
    /// Wires before this one are half open: what is written goes nowhere, and nothing comes.
    silent_before: AtomicUsize,
    /// Wires before this one were reset.
    reset_before: AtomicUsize,
}

impl Wires {
    /// Whoever is asked for, the port is on this machine.
    pub(crate) async fn connect(self: Arc<Self>, host: String, port: u16) -> io::Result<Wire> {
        let number = {
            let mut names = self.names.lock().expect("not poisoned");
            names.push(host);
            names.len()
        };
        let inner = TcpStream::connect(("127.0.0.1", port)).await?;
        Ok(Wire { inner, number, wires: self })
    }

    fn count(&self) -> usize {
        self.names.lock().expect("not poisoned").len()
    }

    /// From now on nothing passes what is open.
    pub(crate) fn silence(&self) {
        self.silent_before.store(self.count() + 1, Ordering::Relaxed);
    }

    /// What is open was reset by somebody on the way, and is told at the next write.
    pub(crate) fn reset(&self) {
        self.reset_before.store(self.count() + 1, Ordering::Relaxed);
    }
}

pub(crate) struct Wire {
    inner: TcpStream,
    number: usize,
    wires: Arc<Wires>,
}

impl Wire {
    fn is_silent(&self) -> bool {
        self.number < self.wires.silent_before.load(Ordering::Relaxed)
    }

    fn limit(&self, length: usize) -> usize {
        if self.wires.drip.load(Ordering::Relaxed) { length.min(1) } else { length }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_silent() {
            return Poll::Pending;
        }
        let mut part = vec![0; self.limit(buffer.remaining().min(64 << 10))];
        let mut read = ReadBuf::new(&mut part);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut read))?;
        if self.is_silent() {
            return Poll::Pending;
        }
        let bytes = read.filled_mut();
        // Behind the length; the wire was idle, so this is the beginning of an answer.
        if bytes.len() >= 8 && self.wires.renumber.swap(false, Ordering::Relaxed) {
            bytes[7] ^= 0x40;
        }
        buffer.put_slice(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.number < self.wires.reset_before.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.is_silent() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let limit = self.limit(bytes.len());
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..limit])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
