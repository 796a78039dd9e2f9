//! How a client reaches a host: the seam of every connection, and TCP behind it.
//!
//! It owns names and addresses, the order in which they are tried, and the only socket in this crate. It refuses to know TLS,
//! logins and Kafka, which all go over what a connector gives. Invariant: nothing is remembered from one connection to the
//! next, so a name that changes leads to its new address.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

/// A connection that is being opened, as a [`Connector`] returns it.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// A connected byte stream; every `AsyncRead + AsyncWrite` that can be sent to another thread is one.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Opens each connection of a client: through a proxy, by a Unix socket, within the process, or to another address than the
/// one that a broker gives of itself. TLS and logins go over the stream; a certificate must still be for `host`.
///
/// Closures that return a future are connectors:
///
/// ```no_run
/// # fn main() -> Result<(), ottla::Error> {
/// use ottla::Client;
/// use tokio::net::TcpStream;
///
/// // Brokers call themselves broker-1.internal and so on; from here, all are behind one address.
/// let client = Client::builder()
///     .bootstrap("broker-1.internal:9092")
///     .connector(|_host: String, port: u16| TcpStream::connect(("kafka.example.com", port)))
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// Opens a stream to a host, which is a name or an IP address as the bootstrap servers or a broker say it. Called once a
    /// connection; dropping the future gives the attempt up, which happens when `socket.connection.setup.timeout.ms` is over.
    fn connect(&self, host: &str, port: u16) -> Connecting;
}

impl<F, Fut, S> Connector for F
where
    F: Fn(String, u16) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<S>> + Send + 'static,
    S: Stream + 'static,
{
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let opening = self(host.to_owned(), port);
        Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn Stream>) })
    }
}

/// The connector that a program gave, if it did.
#[derive(Clone, Default)]
pub(crate) struct Given(pub(crate) Option<Arc<dyn Connector>>);

impl Given {
    pub(crate) fn or<'a>(&'a self, otherwise: &'a dyn Connector) -> &'a dyn Connector {
        self.0.as_deref().unwrap_or(otherwise)
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "the program's" } else { "TCP" })
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// TCP, as a client uses it by default. A name is looked up for each connection, and its addresses are tried in the order and
/// at the pace of RFC 8305: the next begins when one has failed or 250 ms have passed, and the first to connect is taken.
///
/// ```
/// use ottla::{Connector, Tcp};
///
/// let tcp = Tcp::default();
/// let rewritten = move |host: String, port: u16| tcp.connect(&host.replace(".internal", ".example.com"), port);
/// # let _: &dyn Connector = &rewritten;
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Tcp {
    /// Bytes of the socket's send buffer; `None` leaves it to the operating system.
    pub send_buffer_bytes: Option<u32>,
    /// Bytes of the socket's receive buffer; `None` leaves it to the operating system.
    pub receive_buffer_bytes: Option<u32>,
}

impl Connector for Tcp {
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let (host, options) = (host.to_owned(), *self);
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((host, port)).await?;
            let stream = race(alternate(addresses), |address| options.open(address)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

impl Tcp {
    async fn open(self, address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
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

/// RFC 8305, section 5: what an attempt may take before the next one begins beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// RFC 8305, section 4: the families in turn, beginning with the one that the resolver puts first.
fn alternate(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.peekable();
    let Some(first_is_v6) = addresses.peek().map(SocketAddr::is_ipv6) else { return Vec::new() };
    let (first, second): (Vec<_>, Vec<_>) = addresses.partition(|it| it.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        all.extend(first.next());
        all.extend(second.next());
    }
    all
}

/// Opens all addresses, one after the other and a little beside each other. The first that is open is the answer; the rest is
/// dropped.
async fn race<S, F>(addresses: Vec<SocketAddr>, open: impl Fn(SocketAddr) -> F) -> io::Result<S>
where
    F: Future<Output = io::Result<S>>,
{
    let mut ahead = addresses.into_iter();
    let mut trying: Vec<(SocketAddr, Pin<Box<F>>)> = Vec::new();
    let mut failures: Vec<(SocketAddr, io::Error)> = Vec::new();
    let mut head_start = pin!(sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let failed_before = failures.len();
            let mut at = 0;
            while let Some((address, attempt)) = trying.get_mut(at) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(cause)) => {
                        failures.push((*address, cause));
                        trying.swap_remove(at);
                    }
                    Poll::Pending => at += 1,
                }
            }
            let due = trying.is_empty()
                || failures.len() > failed_before
                || head_start.as_mut().poll(cx).is_ready();
            match if due { ahead.next() } else { None } {
                Some(address) => {
                    trying.push((address, Box::pin(open(address))));
                    head_start.as_mut().reset(Instant::now() + HEAD_START);
                }
                None if trying.is_empty() => return Poll::Ready(Err(none(std::mem::take(&mut failures)))),
                None => return Poll::Pending,
            }
        }
    })
    .await
}

/// Why no address could be reached: each has its own reason, where there are several.
fn none(mut failures: Vec<(SocketAddr, io::Error)>) -> io::Error {
    match failures.len() {
        0 => io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        1 => failures.remove(0).1,
        _ => {
            let kind = failures[0].1.kind();
            let texts: Vec<_> =
                failures.iter().map(|(address, cause)| format!("{}: {cause}", address.ip())).collect();
            io::Error::new(kind, texts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        if text.contains(':') { format!("[{text}]:1") } else { format!("{text}:1") }.parse().expect("is one")
    }

    /// What becomes of an attempt, after how many milliseconds.
    type Fate = (&'static str, u64, bool);

    /// Counts the attempts that were begun and not finished, and those that were dropped on the way.
    struct Running<'a>(&'a AtomicUsize);

    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Who wins, when, and which attempts began at what time.
    async fn run(fates: &[Fate]) -> (Result<String, String>, u128, Vec<(String, u128)>) {
        let (start, begun, running) = (Instant::now(), Mutex::new(Vec::new()), AtomicUsize::new(0));
        let addresses = alternate(fates.iter().map(|(text, ..)| address(text)));
        let won = race(addresses, |at| {
            let (_, millis, good) = *fates.iter().find(|(text, ..)| address(text) == at).expect("is asked");
            begun.lock().unwrap().push((at.ip().to_string(), start.elapsed().as_millis()));
            running.fetch_add(1, Ordering::Relaxed);
            let running = Running(&running);
            async move {
                let _running = running;
                sleep(Duration::from_millis(millis)).await;
                let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
                good.then(|| at.ip().to_string()).ok_or_else(refused)
            }
        })
        .await;
        assert_eq!(running.load(Ordering::Relaxed), 0, "losers are dropped");
        (won.map_err(|e| e.to_string()), start.elapsed().as_millis(), begun.into_inner().unwrap())
    }

    fn begun(list: &[(&str, u128)]) -> Vec<(String, u128)> {
        list.iter().map(|(text, at)| ((*text).to_owned(), *at)).collect()
    }

    /// Fault 75.
    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_delays_the_next_by_a_quarter_of_a_second_only() {
        let (won, at, order) = run(&[("::1", 60_000, true), ("10.0.0.1", 20, true)]).await;
        assert_eq!((won.as_deref(), at), (Ok("10.0.0.1"), 270));
        assert_eq!(order, begun(&[("::1", 0), ("10.0.0.1", 250)]));
    }

    /// Fault 75.
    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_is_followed_by_the_next_at_once() {
        let (won, at, _) = run(&[("::1", 1, false), ("::2", 2, false), ("10.0.0.1", 4, true)]).await;
        assert_eq!(
            (won.as_deref(), at),
            (Ok("10.0.0.1"), 5),
            "the families take turns, so the second is ::2's"
        );
    }

    /// Fault 75.
    #[tokio::test(start_paused = true)]
    async fn who_began_first_may_still_win_beside_the_others() {
        let (won, at, order) = run(&[("10.0.0.1", 400, true), ("10.0.0.2", 600, true)]).await;
        assert_eq!((won.as_deref(), at, order.len()), (Ok("10.0.0.1"), 400, 2));
    }

    /// Fault 75.
    #[tokio::test(start_paused = true)]
    async fn every_address_is_tried_and_named_when_none_is_there() {
        let (won, _, order) = run(&[("10.0.0.1", 1, false), ("10.0.0.2", 1, false), ("::1", 1, false)]).await;
        let text = won.expect_err("all refuse");
        assert!(
            text.contains("10.0.0.1: ") && text.contains("10.0.0.2: ") && text.contains("::1: "),
            "{text}"
        );
        assert_eq!(order.len(), 3);
        assert!(run(&[]).await.0.expect_err("there is none").contains("no address"));
    }

    #[test]
    fn the_families_take_turns_and_the_resolver_says_which_is_first() {
        let turns = |list: &[&str]| -> Vec<String> {
            alternate(list.iter().map(|text| address(text))).iter().map(|it| it.ip().to_string()).collect()
        };
        assert_eq!(turns(&["::1", "::2", "::3", "1.1.1.1"]), ["::1", "1.1.1.1", "::2", "::3"]);
        assert_eq!(turns(&["1.1.1.1", "::1", "2.2.2.2"]), ["1.1.1.1", "::1", "2.2.2.2"]);
    }
}
