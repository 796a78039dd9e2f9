//! One task a link: it writes what the machine asks for and hands back the answers.
//!
//! It owns the socket, the frame that is being written, the order of the requests that wait for their answers, and their
//! deadlines. It refuses to look inside an answer, and to decide what a loss means. Invariant: answers are matched to
//! requests by order and correlation id both; whatever does not match ends the connection.

use std::collections::VecDeque;
use std::future::Future;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ottla_protocol::api::ApiKey;
use ottla_protocol::frame::{self, Frame};
use ottla_protocol::records::Compressor;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Sleep;

use super::connection::{Connection, hung_up, lost, mismatch, take_frame, undecodable};
use super::shared::{Next, Shared, now};
use crate::config::ClientConfig;
use crate::core::ask::Decode;
use crate::core::{Answer, Input, Link, Machine, Request, Work};
use crate::error::{Error, ErrorKind};
use crate::world::{Stream, pause};

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
}

impl<M: Machine> Io<M> {
    pub(super) fn new(
        shared: Arc<Shared<M>>,
        config: Arc<ClientConfig>,
        link: Link,
        connection: Connection,
    ) -> Self {
        let Connection { stream, inbox, correlation_id, peer, .. } = connection;
        Self {
            shared,
            config,
            link,
            peer,
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
        }
    }

    /// Runs until the connection ends, and says why.
    pub(super) async fn run(mut self) -> Error {
        loop {
            let turn = std::future::poll_fn(|cx| self.poll(cx)).await;
            match turn {
                Ok(()) => pause(&*self.shared.world).await,
                Err(cause) => return cause,
            }
        }
    }

    /// Ready with `Ok` after each piece of work taken; the caller may let others run in between.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.read(cx)?;
            if self.written < self.frame.len() {
                match self.write(cx)? {
                    Poll::Ready(()) => continue,
                    Poll::Pending => {
                        if self.shared.is_stopped() {
                            return Poll::Ready(Err(Error::new(ErrorKind::Closed, "closed")));
                        }
                        self.shared.busy(self.link, cx);
                        ready!(self.wait(cx, None)?);
                        continue;
                    }
                }
            }
            match self.shared.next(self.link, cx) {
                Next::Work(work) => return Poll::Ready(self.take(work)),
                Next::Stop => return Poll::Ready(Err(Error::new(ErrorKind::Closed, "closed"))),
                Next::Sleep(alarm) => ready!(self.wait(cx, alarm)?),
            }
        }
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
            let first = answer_by.unwrap_or(idle).min(alarm.unwrap_or(idle));
            if self.timer.is_elapsed() || self.timer.deadline().into_std() > first {
                self.timer.as_mut().reset(first.into());
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}
