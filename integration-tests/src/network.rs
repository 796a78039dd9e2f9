//! In-memory byte streams between named hosts, with seeded delay, partial reads and writes, resets, stalls and refusals.
//!
//! It owns every open stream and what goes wrong on it; it knows nothing of frames. A stream keeps its promises as TCP
//! does: bytes arrive in order and unchanged, or the stream breaks. Resets fall on byte positions, not on times, so that
//! they hit the middle of frames. Invariant: a draw for one connection comes from the network's own random stream.

use crate::random::{Random, digest};
use crate::trace::Trace;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Bytes that a direction holds before its writer must wait.
const PIPE_BYTES_MAX: usize = 64 * 1024;

/// How the network behaves until it heals; afterwards it only delays.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of a hundred connection attempts, how many are refused.
    pub refuse_percent: u64,
    /// Of a hundred directions of a stream, how many reset the stream at some byte.
    pub reset_percent: u64,
    /// Of a hundred directions of a stream, how many stall once at some byte.
    pub stall_percent: u64,
    /// The byte of a reset or stall is below this.
    pub fault_bytes_max: u64,
    /// The longest stall.
    pub stall_ms_max: u64,
    /// The longest ordinary delay of a chunk.
    pub delay_us_max: u64,
    /// Virtual time after which nothing new breaks.
    pub heals_after: Duration,
}

impl Weather {
    /// Nothing breaks; chunks take up to 2 ms.
    pub fn fair() -> Self {
        Weather {
            refuse_percent: 0,
            reset_percent: 0,
            stall_percent: 0,
            fault_bytes_max: 1,
            stall_ms_max: 0,
            delay_us_max: 2_000,
            heals_after: Duration::ZERO,
        }
    }

    /// Weather of any strength, for the first `heals_after` of a run.
    pub fn draw(random: &mut Random, heals_after: Duration) -> Self {
        Weather {
            refuse_percent: random.choose(&[0, 5, 15]),
            reset_percent: random.choose(&[0, 10, 40]),
            stall_percent: random.choose(&[0, 10]),
            fault_bytes_max: random.choose(&[2_000, 15_000, 100_000]),
            stall_ms_max: random.choose(&[500, 6_000, 40_000]),
            delay_us_max: random.choose(&[1_000, 4_000, 20_000]),
            heals_after,
        }
    }
}

/// Every host and stream of a run.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    trace: Arc<Trace>,
    weather: Weather,
    heals_at: Instant,
}

type Address = (String, u16);

struct State {
    random: Random,
    listeners: BTreeMap<Address, mpsc::UnboundedSender<SimulatedStream>>,
    /// Streams by the address they were opened to.
    open: BTreeMap<u64, (Address, Arc<Mutex<Connection>>)>,
    /// Until when nothing passes to or from an address.
    frozen: BTreeMap<Address, Instant>,
    next: u64,
    ends: usize,
}

impl Network {
    /// A network without hosts.
    pub fn new(random: Random, weather: Weather, trace: Arc<Trace>) -> Self {
        let (listeners, open, frozen) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let state = Arc::new(Mutex::new(State { random, listeners, open, frozen, next: 0, ends: 0 }));
        Network { state, trace, weather, heals_at: Instant::now() + weather.heals_after }
    }

    /// Accepts streams that are opened to the address, until it is cut or listened to again.
    pub fn listen(&self, host: &str, port: u16) -> mpsc::UnboundedReceiver<SimulatedStream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state.lock().listeners.insert((host.to_string(), port), sender);
        receiver
    }

    /// Stops listening at the address and resets every stream to it, as when its process is killed.
    pub fn cut(&self, host: &str, port: u16) {
        let address = (host.to_string(), port);
        let mut state = self.state.lock();
        state.listeners.remove(&address);
        let hit: Vec<_> =
            state.open.values().filter(|open| open.0 == address).map(|open| open.1.clone()).collect();
        drop(state);
        for connection in hit {
            self.trace.event("cut", connection.lock().id, 0);
            connection.lock().reset();
        }
    }

    /// Nothing passes to or from the address for a while, as when its process is stopped: connections stay open.
    pub fn freeze(&self, host: &str, port: u16, time: Duration) {
        let (address, until) = ((host.to_string(), port), Instant::now() + time);
        let mut state = self.state.lock();
        let hit: Vec<_> =
            state.open.values().filter(|open| open.0 == address).map(|open| open.1.clone()).collect();
        state.frozen.insert(address, until);
        drop(state);
        for connection in hit {
            self.trace.event("freeze", connection.lock().id, time.as_micros() as u64);
            connection.lock().freeze(until);
        }
    }

    /// Ends every stall: what is under way arrives now.
    pub fn thaw(&self) {
        let mut state = self.state.lock();
        state.frozen.clear();
        let open: Vec<_> = state.open.values().map(|open| open.1.clone()).collect();
        drop(state);
        open.iter().for_each(|connection| connection.lock().thaw(Instant::now()));
    }

    /// Opens a stream. Dropping the future gives the attempt up.
    pub fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<SimulatedStream>> + Send + use<> {
        let (network, address) = (self.clone(), (host.to_string(), port));
        async move {
            let (arrives_at, refused) = {
                let state = &mut *network.state.lock();
                let delay = 100 + state.random.below(5 * network.weather.delay_us_max);
                let refused = network.is_faulty() && state.random.percent(network.weather.refuse_percent);
                let arrives_at = Instant::now() + Duration::from_micros(delay);
                (state.frozen.get(&address).map_or(arrives_at, |thaw| arrives_at.max(*thaw)), refused)
            };
            sleep_until(arrives_at).await;
            match refused {
                true => Err(ErrorKind::ConnectionRefused.into()),
                false => network.open(address),
            }
        }
    }

    /// Ends of streams that are still held by somebody.
    pub fn ends(&self) -> usize {
        self.state.lock().ends
    }

    fn is_faulty(&self) -> bool {
        Instant::now() < self.heals_at
    }

    fn open(&self, address: Address) -> io::Result<SimulatedStream> {
        let faulty = self.is_faulty();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(listener) = state.listeners.get(&address) else {
            return Err(ErrorKind::ConnectionRefused.into());
        };
        state.next += 1;
        let id = state.next;
        let mut half = || Half::new(faulty, &self.weather, &mut state.random);
        let connection = Connection { id, reset: false, halves: [half(), half()] };
        let connection = Arc::new(Mutex::new(connection));
        let end = |side| SimulatedStream {
            connection: connection.clone(),
            id,
            side,
            timer: Box::pin(sleep(Duration::ZERO)),
            network: self.clone(),
        };
        let (near, far) = (end(0), end(1));
        state.ends += 2;
        let sent = listener.send(far);
        self.trace.event("connect", id, digest(address.0.as_bytes()) ^ u64::from(address.1));
        state.open.insert(id, (address, connection));
        drop(guard); // a stream that nobody accepts is dropped, and then needs the lock
        match sent {
            Ok(()) => Ok(near),
            Err(_) => Err(ErrorKind::ConnectionRefused.into()),
        }
    }
}

enum Fault {
    None,
    ResetAt(u64),
    StallAt(u64, Duration),
}

/// One direction of a stream.
struct Half {
    chunks: VecDeque<(Instant, Bytes)>,
    queued: usize,
    sent: u64,
    /// When the last chunk arrives: a later one never overtakes it.
    due: Instant,
    /// The writer is done: the reader sees the end after the last chunk.
    closed: bool,
    /// The reader is gone: writing fails.
    abandoned: bool,
    fault: Fault,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Half {
    fn new(faulty: bool, weather: &Weather, random: &mut Random) -> Self {
        // Small positions hit the handshake, large ones the stream of records.
        let reach = weather.fault_bytes_max / random.choose(&[1, 10, 100]);
        let (roll, at) = (random.below(100), random.below(reach));
        let stall = Duration::from_millis(random.below(weather.stall_ms_max));
        let fault = if faulty && roll < weather.reset_percent {
            Fault::ResetAt(at)
        } else if faulty && roll < weather.reset_percent + weather.stall_percent {
            Fault::StallAt(at, stall)
        } else {
            Fault::None
        };
        Half {
            chunks: VecDeque::new(),
            queued: 0,
            sent: 0,
            due: Instant::now(),
            closed: false,
            abandoned: false,
            fault,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

struct Connection {
    id: u64,
    reset: bool,
    /// What side 0 writes, what side 1 writes.
    halves: [Half; 2],
}

impl Connection {
    fn reset(&mut self) {
        self.reset = true;
        self.halves.iter_mut().for_each(Half::wake);
    }

    fn freeze(&mut self, until: Instant) {
        for half in &mut self.halves {
            half.due = half.due.max(until);
            half.chunks.iter_mut().for_each(|(due, _)| *due = (*due).max(until));
        }
    }

    fn thaw(&mut self, now: Instant) {
        for half in &mut self.halves {
            half.due = half.due.min(now);
            half.chunks.iter_mut().for_each(|(due, _)| *due = (*due).min(now));
            half.wake();
        }
    }
}

/// One end of a stream.
pub struct SimulatedStream {
    connection: Arc<Mutex<Connection>>,
    id: u64,
    side: usize,
    timer: Pin<Box<Sleep>>,
    network: Network,
}

impl SimulatedStream {
    fn label(&self) -> u64 {
        self.id * 2 + self.side as u64
    }

    /// Bytes that this write takes, and when they arrive.
    fn draw(&self, offered: usize, half: &Half) -> (usize, Instant) {
        let state = &mut *self.network.state.lock();
        let (random, weather) = (&mut state.random, &self.network.weather);
        let taken = match random.below(4) {
            0 => 1 + random.below(offered as u64),
            _ => offered as u64,
        };
        let taken = usize::try_from(taken).unwrap_or(offered).min(offered);
        let delay = Duration::from_micros(100 + random.below(weather.delay_us_max));
        let slow = match random.percent(2) {
            true => Duration::from_millis(random.below(300)),
            false => Duration::ZERO,
        };
        (taken, half.due.max(Instant::now() + delay + slow))
    }
}

impl AsyncRead for SimulatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.network.trace.advance("whoever reads a stream") {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let mut connection = this.connection.lock();
        loop {
            if connection.reset {
                return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
            }
            let half = &mut connection.halves[1 - this.side];
            let Some((due, chunk)) = half.chunks.front_mut() else {
                if half.closed || buffer.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                half.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if *due > Instant::now() {
                this.timer.as_mut().reset(*due);
                if this.timer.as_mut().poll(cx).is_pending() {
                    // A reset must wake the reader too.
                    half.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                continue;
            }
            let offered = buffer.remaining().min(chunk.len());
            let taken = match this.network.state.lock().random.below(2 * offered as u64) {
                partial if partial < offered as u64 => usize::try_from(partial).unwrap_or(0).max(1),
                _ => offered,
            };
            let taken = taken.min(offered);
            this.network.trace.event("read", this.id * 2 + this.side as u64, digest(&chunk[..taken]));
            buffer.put_slice(&chunk[..taken]);
            chunk.advance(taken);
            if chunk.is_empty() {
                half.chunks.pop_front();
            }
            half.queued -= taken;
            half.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut connection = self.connection.lock();
        let reset = connection.reset;
        let half = &mut connection.halves[self.side];
        if reset || half.abandoned || half.closed {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let offered = slices.iter().map(|slice| slice.len()).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        if half.queued >= PIPE_BYTES_MAX {
            half.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (taken, due) = self.draw(offered, half);
        half.due = due;
        half.sent += taken as u64;
        if let Fault::StallAt(at, time) = half.fault
            && half.sent > at
        {
            half.due += time;
            half.fault = Fault::None;
            self.network.trace.event("stall", self.label(), time.as_micros() as u64);
        }
        let chunk = gather(slices, taken);
        self.network.trace.event("write", self.label(), digest(&chunk));
        half.chunks.push_back((half.due, chunk));
        half.queued += taken;
        half.reader.take().into_iter().for_each(Waker::wake);
        if matches!(half.fault, Fault::ResetAt(at) if half.sent > at) {
            self.network.trace.event("reset", self.id, 0);
            connection.reset();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut connection = self.connection.lock();
        let half = &mut connection.halves[self.side];
        half.closed = true;
        half.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        let mut connection = self.connection.lock();
        connection.halves[self.side].closed = true;
        connection.halves[1 - self.side].abandoned = true;
        connection.halves.iter_mut().for_each(Half::wake);
        let left_by_both = connection.halves.iter().all(|half| half.abandoned);
        drop(connection);
        let mut state = self.network.state.lock();
        state.ends -= 1;
        if left_by_both {
            state.open.remove(&self.id);
        }
    }
}

fn gather(slices: &[IoSlice<'_>], most: usize) -> Bytes {
    let mut chunk = BytesMut::with_capacity(most);
    for slice in slices {
        let left = most - chunk.len();
        chunk.extend_from_slice(&slice[..slice.len().min(left)]);
    }
    chunk.freeze()
}
