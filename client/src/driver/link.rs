//! One task a link: it writes what the machine asks for and hands back the answers.
//!
//! It owns the socket, the frame that is being written, the order of the requests that wait for their answers, and their
//! deadlines. It refuses to look inside an answer, and to decide what a loss means. Invariant: answers are matched to
//! requests by order and correlation id both; whatever does not match ends the connection.
//!
//! A caller that has just given an idle link something to do may poll it in its task's place ([`Io::stand_in`]), with the
//! task's own waker: whatever happens next wakes the task, as if it had slept all the time.

use std::collections::VecDeque;
use std::future::Future;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::frame::{self, Frame};
use ottla_protocol::records::Compressor;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Sleep;

use super::connection::{Connection, hung_up, lost, mismatch, take_frame, undecodable};
use super::shared::{Next, Shared, now};
use crate::config::ClientConfig;
use crate::connect::Stream;
use crate::core::ask::Decode;
use crate::core::{Answer, Input, Link, Machine, Request, Work};
use crate::error::{Error, ErrorKind};
use crate::world::{self, pause};

/// How many pieces of a frame one write is given; the next write takes the rest.
const SLICES_AT_ONCE: usize = 64;

/// A request that waits for its answer.
struct Sent {
    correlation_id: i32,
    key: ApiKey,
    version: i16,
    flexible: bool,
    decode: Decode,
    since: Instant,
    deadline: Instant,
}

pub(super) struct Io<M: Machine> {
    shared: Arc<Shared<M>>,
    config: Arc<ClientConfig>,
    link: Link,
    peer: Arc<str>,
    versions: Versions,
    stream: Box<dyn Stream>,
    inbox: BytesMut,
    frame: Frame,
    written: usize,
    correlation_id: i32,
    sent: VecDeque<Sent>,
    answers: Vec<Answer>,
    compressor: Compressor,
    /// Never cancelled, only set earlier: a ring that comes too soon finds nothing to do and is set again.
    timer: Pin<Box<Sleep>>,
    used: Instant,
    /// For a request that nobody answers: when it must have been written.
    write_deadline: Option<Instant>,
    /// Why it has ended, so that nobody polls it any more.
    over: Option<Error>,
    /// When the session must be renewed (KIP-368): then nothing new is sent, and what is out is waited for.
    renew_at: Option<tokio::time::Instant>,
    /// The session is being renewed, which has the stream.
    renewal: Option<world::Work<Result<Connection, Error>>>,
}

impl<M: Machine> Io<M> {
    pub(super) fn new(
        shared: Arc<Shared<M>>,
        config: Arc<ClientConfig>,
        link: Link,
        connection: Connection,
    ) -> Self {
        let Connection { stream, inbox, correlation_id, peer, renew_at, versions, .. } = connection;
        Self {
            shared,
            config,
            link,
            peer,
            versions,
            stream,
            inbox,
            frame: Frame::default(),
            written: 0,
            correlation_id,
            sent: VecDeque::new(),
            answers: Vec::new(),
            compressor: Compressor::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            used: now(),
            write_deadline: None,
            over: None,
            renew_at,
            renewal: None,
        }
    }

    /// Runs until the connection ends, and says why.
    pub(super) async fn run(self) -> Error {
        let (shared, link) = (self.shared.clone(), self.link);
        let io = Arc::new(Mutex::new(self));
        shared.lend(link, &io);
        loop {
            let turn = std::future::poll_fn(|cx| {
                let mut io = io.lock();
                io.over.take().map_or_else(|| io.poll(cx), |cause| Poll::Ready(Err(cause)))
            });
            match turn.await {
                Ok(()) => pause(&*shared.world).await,
                Err(cause) => return cause,
            }
        }
    }

    /// Does what there is to do now in the place of the link's task, whose waker this is; at linger 0 that saves a record
    /// a task switch. One request is pulled and written at most: the task is woken for the rest, and when it is at it already.
    pub(super) fn stand_in(io: &Mutex<Self>, waker: Waker) {
        let Some(mut io) = io.try_lock() else { return waker.wake() };
        let mut cx = Context::from_waker(&waker);
        // The first turn takes a request, the second writes it and looks for more.
        for _ in 0..2 {
            if io.over.is_some() {
                break;
            }
            match catch_unwind(AssertUnwindSafe(|| io.poll(&mut cx))) {
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(Ok(()))) => {}
                Ok(Poll::Ready(Err(cause))) => io.over = Some(cause),
                // As when the task itself had panicked.
                Err(_) => io.end(),
            }
        }
        drop(io);
        waker.wake();
    }

    /// Lets nobody poll it any more.
    pub(super) fn end(&mut self) {
        let died = || Error::new(ErrorKind::Connect, "the task of a connection ended early");
        self.over.get_or_insert_with(died);
    }

    /// Ready with `Ok` after each piece of work taken; the caller may let others run in between.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            ready!(self.poll_renewal(cx)?);
            self.read(cx)?;
            if !self.frame.is_empty() {
                match self.write(cx)? {
                    Poll::Ready(()) => continue,
                    Poll::Pending => {
                        self.attend_to_nothing(cx)?;
                        ready!(self.wait(cx, None)?);
                        continue;
                    }
                }
            }
            if self.renew_at.is_some_and(|at| at.into_std() <= now()) {
                if self.sent.is_empty() {
                    self.renew();
                } else {
                    self.attend_to_nothing(cx)?;
                    ready!(self.wait(cx, None)?);
                }
                continue;
            }
            match self.shared.next(self.link, cx) {
                Next::Work(work) => return Poll::Ready(self.take(work)),
                Next::Stop => return Poll::Ready(Err(Error::new(ErrorKind::Closed, "closed"))),
                Next::Sleep(alarm) => ready!(self.wait(cx, alarm)?),
            }
        }
    }

    /// Only the end of everything is to wake the link while it has its hands full.
    fn attend_to_nothing(&self, cx: &mut Context<'_>) -> Result<(), Error> {
        if self.shared.is_stopped() {
            return Err(Error::new(ErrorKind::Closed, "closed"));
        }
        self.shared.busy(self.link, cx);
        Ok(())
    }

    /// Lends the stream to a login; nothing else is on its way.
    fn renew(&mut self) {
        let mut connection = Connection {
            stream: std::mem::replace(&mut self.stream, Box::new(tokio::io::empty())),
            inbox: std::mem::take(&mut self.inbox),
            correlation_id: self.correlation_id,
            peer: self.peer.clone(),
            versions: self.versions.clone(),
            renew_at: None,
            config: self.config.clone(),
        };
        let (world, limit) = (self.shared.world.clone(), self.config.socket_setup_timeout);
        self.renewal = Some(Box::pin(async move {
            connection.renew(&*world, limit).await?;
            tracing::debug!("the session is renewed");
            Ok(connection)
        }));
    }

    fn poll_renewal(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(renewal) = &mut self.renewal else { return Poll::Ready(Ok(())) };
        let Poll::Ready(renewed) = renewal.as_mut().poll(cx) else {
            self.attend_to_nothing(cx)?;
            return Poll::Pending;
        };
        self.renewal = None;
        let Connection { stream, inbox, correlation_id, renew_at, .. } = renewed?;
        (self.stream, self.inbox) = (stream, inbox);
        (self.correlation_id, self.renew_at) = (correlation_id, renew_at);
        self.used = now();
        Poll::Ready(Ok(()))
    }

    /// Reads what is there, and tells the machine all of its answers at once.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        loop {
            frame::make_room(&mut self.inbox);
            let read = pin!(self.stream.read_buf(&mut self.inbox)).poll(cx);
            match read.map_err(|e| lost(&self.peer, e))? {
                Poll::Pending => break,
                Poll::Ready(0) => return Err(hung_up(&self.peer)),
                Poll::Ready(_) => self.take_answers()?,
            }
            if !self.answers.is_empty() {
                self.tell()?;
            }
        }
        Ok(())
    }

    fn take_answers(&mut self) -> Result<(), Error> {
        while let Some(mut body) = take_frame(&mut self.inbox, self.config.frame_bytes_max, &self.peer)? {
            let Some(sent) = self.sent.pop_front() else {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    format!("{} answered a request nobody sent", self.peer),
                ));
            };
            let name = sent.key.name().unwrap_or("a request");
            tracing::trace!(api = name, bytes = body.len(), took = ?now().saturating_duration_since(sent.since), "an answer");
            let id = frame::decode_response_header(&mut body, sent.key, sent.flexible)
                .map_err(|e| undecodable(&self.peer, name, e))?;
            if id != sent.correlation_id {
                return Err(mismatch(&self.peer, sent.correlation_id, id));
            }
            self.answers
                .push((sent.decode)(body, sent.version).map_err(|e| undecodable(&self.peer, name, e))?);
        }
        Ok(())
    }

    fn tell(&mut self) -> Result<(), Error> {
        let (link, answers) = (self.link, &mut self.answers);
        self.used = now();
        self.shared.with(|machine, now| {
            for answer in answers.drain(..) {
                machine.handle(now, Input::Answer { link, answer });
            }
        })
    }

    fn take(&mut self, work: Work) -> Result<(), Error> {
        match work {
            Work::Request(request) => self.encode(&request),
            Work::Close(cause) => Err(cause),
            Work::Produce(shipment) => {
                let (request, encoded) = shipment.finish(&mut self.compressor);
                let result = self.encode(&request);
                let link = self.link;
                self.shared.with(|machine, now| machine.handle(now, Input::Shipped { link, encoded }))?;
                result
            }
            Work::Split(oversized) => {
                let split = oversized.split();
                self.shared.with(|machine, now| machine.handle(now, split))
            }
            Work::Share(sharing) => {
                let shared = sharing.finish();
                self.shared.with(|machine, now| machine.handle(now, shared))
            }
        }
    }

    fn encode(&mut self, request: &Request) -> Result<(), Error> {
        let (ask, version) = (&request.ask, request.version);
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        self.written = 0;
        ask.encode(version, self.correlation_id, &self.config.client_id, &mut self.frame).map_err(|e| {
            Error::new(
                ErrorKind::Protocol,
                format!("{} cannot be encoded: {e}", ask.key().name().unwrap_or("a request")),
            )
            .with_source(e)
        })?;
        self.used = now();
        let deadline = self.used + request.timeout;
        tracing::trace!(
            api = ask.key().name().unwrap_or("a request"),
            version,
            bytes = self.frame.len(),
            "a request"
        );
        if request.answered {
            self.sent.push_back(Sent {
                correlation_id: self.correlation_id,
                key: ask.key(),
                version,
                flexible: ask.is_flexible(version),
                decode: ask.decoder(),
                since: self.used,
                deadline,
            });
        } else {
            self.write_deadline = Some(deadline);
        }
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.written < self.frame.len() {
            let mut slices = [IoSlice::new(&[]); SLICES_AT_ONCE];
            let count = self.frame.slices(self.written).zip(&mut slices).map(|(s, room)| *room = s).count();
            let n = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]))
                .map_err(|e| lost(&self.peer, e))?;
            if n == 0 {
                return Poll::Ready(Err(hung_up(&self.peer)));
            }
            self.written += n;
        }
        // A stream that encrypts may hold back what it took.
        ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(|e| lost(&self.peer, e))?;
        // The batches of the frame are given back: what is acknowledged may be used again.
        self.frame.clear();
        self.written = 0;
        self.write_deadline = None;
        Poll::Ready(Ok(()))
    }

    /// Waits for the alarm, the oldest request's deadline or the idle limit, whichever is first.
    fn wait(&mut self, cx: &mut Context<'_>, alarm: Option<Instant>) -> Poll<Result<(), Error>> {
        loop {
            let now = now();
            let answer_by =
                self.sent.front().map(|s| s.deadline).into_iter().chain(self.write_deadline).min();
            if answer_by.is_some_and(|at| at <= now) {
                let name = self.sent.front().map_or("a request", |s| s.key.name().unwrap_or("a request"));
                let message = format!("no answer to {name} from {} in time", self.peer);
                return Poll::Ready(Err(Error::new(ErrorKind::Timeout, message)));
            }
            let idle = self.used + self.config.connections_max_idle;
            if answer_by.is_none() && idle <= now {
                return Poll::Ready(Err(Error::new(
                    ErrorKind::Closed,
                    format!("connection to {} was idle", self.peer),
                )));
            }
            if alarm.is_some_and(|at| at <= now) {
                return Poll::Ready(Ok(()));
            }
            let renewal = self.renew_at.map(|at| at.into_std()).filter(|_| self.sent.is_empty());
            if renewal.is_some_and(|at| at <= now) {
                return Poll::Ready(Ok(()));
            }
            let first = answer_by.unwrap_or(idle).min(alarm.unwrap_or(idle)).min(renewal.unwrap_or(idle));
            if self.timer.is_elapsed() || self.timer.deadline().into_std() > first {
                self.timer.as_mut().reset(first.into());
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};
    use std::time::Duration;

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;
    use crate::connect::{Connecting, Connector, Tcp};
    use crate::world::{Outside, Work, World};
    use crate::{Client, Payload};

    /// TCP that counts the bytes which were written.
    #[derive(Default)]
    struct Counting(Arc<AtomicUsize>);

    struct Counted(Box<dyn Stream>, Arc<AtomicUsize>);

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.0).poll_write(cx, bytes))?;
            self.1.fetch_add(written, Ordering::Relaxed);
            Poll::Ready(Ok(written))
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl Connector for Counting {
        fn connect(&self, host: &str, port: u16) -> Connecting {
            let (opening, count) = (Tcp::default().connect(host, port), self.0.clone());
            Box::pin(async move { Ok(Box::new(Counted(opening.await?, count)) as Box<dyn Stream>) })
        }
    }

    impl World for Counting {
        fn random(&self) -> u64 {
            4
        }
        fn wall_ms(&self) -> i64 {
            Tcp::default().wall_ms()
        }
        fn spawn(&self, name: &'static str, task: Work<()>) {
            Tcp::default().spawn(name, task);
        }
        fn poll_pause(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    /// Bytes that a record of 1,000 bytes brought onto the wire before its task gave way to any other.
    async fn written_at_once(linger: Duration) -> usize {
        let broker = ottla_broker::TestBroker::builder().topic("t", 1).start().await.unwrap();
        let written = Arc::new(AtomicUsize::new(0));
        let mut builder = Client::builder().bootstrap(broker.bootstrap());
        builder.outside = Outside(Some(Arc::new(Counting(written.clone()))));
        let producer = builder.build().unwrap().producer().linger(linger).build().unwrap();
        let topic = producer.topic("t");
        topic.send(Payload::value(b"opens the connection")).await.unwrap();
        // The answer was told by the link's task before it went back to sleep.
        tokio::task::yield_now().await;
        let before = written.load(Ordering::Relaxed);
        let delivery = topic.enqueue(Payload::value(&[b'v'; 1_000])).await.unwrap();
        let at_once = written.load(Ordering::Relaxed) - before;
        delivery.await.unwrap();
        at_once
    }

    #[tokio::test]
    async fn without_linger_the_task_that_enqueues_a_record_writes_it() {
        assert!(written_at_once(Duration::ZERO).await > 1_000);
        assert_eq!(written_at_once(Duration::from_millis(5)).await, 0);
    }
}
