//! One connection: its requests one at a time and in order, as Kafka answers them.
//!
//! It moves bytes and waits; what to answer is the machine's. The stream may be TCP or a pipe in memory. A frame that
//! cannot be read closes the connection and nothing else: the node stays up.

mod login;

use crate::api::{Answer, Call, Caller, unserved, versions};
use crate::broker::{Outcome, Shared};
use crate::faults::{Effect, Rewrite};
use crate::security::session::{Admission, Entry, Session};
use crate::world::pause;
use bytes::{Bytes, BytesMut};
use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame::{self, Frame, FrameError, RequestHeader};
use ottla_protocol::messages::ApiVersionsResponse;
use ottla_protocol::wire::{DecodeError, EncodeError, Str};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

/// How much is read at once of what nobody waits for yet.
const READ_BYTES: usize = 64 * 1024;
/// What is read ahead while a request waits, so that a closed connection is noticed.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Why a connection ends before the client wants it to.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("a request header cannot be read: {0}")]
    Header(DecodeError),
    #[error("{key} version {version} cannot be read: {source}")]
    Body { key: ApiKey, version: i16, source: DecodeError },
    #[error("{key} version {version} is not served")]
    NotServed { key: ApiKey, version: i16 },
    #[error("{key} version {version} cannot be answered: {source}")]
    Answer { key: ApiKey, version: i16, source: EncodeError },
    #[error("a request without an answer failed")]
    NoAnswer,
    #[error("{0}")]
    Shut(&'static str),
    #[error("a login is refused: {0}")]
    Refused(String),
    #[error("a fault cut the connection")]
    Fault,
}

pub(crate) async fn serve(
    shared: Arc<Shared>,
    node: i32,
    peer: String,
    caps: Option<Versions>,
    entry: Entry,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) {
    let Some((id, closed)) = shared.open(node) else { return };
    let caps = if shared.has_unstable_versions() { caps } else { Some(versions::stable(caps)) };
    let request_bytes_max = shared.request_bytes_max();
    let mut connection = Connection {
        shared: shared.clone(),
        node,
        host: Str::from(format!("/{peer}")),
        caps,
        session: Session::new(entry),
        stream,
        inbox: BytesMut::new(),
        outbox: Frame::default(),
        request_bytes_max,
    };
    let ended = tokio::select! {
        biased;
        () = closed.notified() => Ok(()),
        ended = connection.run() => ended,
    };
    shared.close(id);
    match ended {
        Ok(()) => {}
        Err(Ended::Io(error)) => tracing::debug!(node, peer, %error, "connection lost"),
        Err(reason @ (Ended::Fault | Ended::NoAnswer | Ended::Shut(_) | Ended::Refused(_))) => {
            tracing::debug!(node, peer, %reason, "connection closed")
        }
        Err(reason) => tracing::warn!(node, peer, %reason, "connection closed"),
    }
}

struct Connection<S> {
    shared: Arc<Shared>,
    node: i32,
    host: Str,
    caps: Option<Versions>,
    session: Session,
    stream: S,
    inbox: BytesMut,
    outbox: Frame,
    request_bytes_max: usize,
}

/// What faults leave to do once a request took effect.
#[derive(Default)]
struct After {
    late: Option<Duration>,
    delay: Duration,
    cut: Option<usize>,
    swallow: bool,
    throttle_ms: Option<i32>,
    rewrites: Vec<Rewrite>,
    wrong_correlation: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    async fn run(&mut self) -> Result<(), Ended> {
        while let Some(request) = self.read_request().await? {
            self.shared.until_resumed(self.node).await;
            pause(&*self.shared.world).await;
            match self.session.is_bare() {
                true => self.authenticate_bare(&request).await?,
                false => self.answer(request).await?,
            }
        }
        Ok(())
    }

    /// The next frame, or `None` when the client has closed the connection.
    async fn read_request(&mut self) -> Result<Option<Bytes>, Ended> {
        let bytes_max = self.request_bytes_max.min(self.session.request_bytes_max());
        loop {
            if let Some(request) = frame::next_frame(&mut self.inbox, bytes_max)? {
                return Ok(Some(request));
            }
            frame::make_room(&mut self.inbox);
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn answer(&mut self, mut request: Bytes) -> Result<(), Ended> {
        let header = frame::decode_request_header(&mut request).map_err(Ended::Header)?;
        let (key, version) = (header.api_key, header.api_version);
        let admission = self.session.admit(key, login::now());
        if let Admission::Shut(reason) = admission {
            return Err(Ended::Shut(reason));
        }
        let is_served = versions::served(key, self.caps.as_ref())
            .is_some_and(|(min, max)| (min..=max).contains(&version));
        if key == ApiKey::API_VERSIONS && !is_served {
            return self.refuse_api_versions(&header).await;
        }
        let Some(call) = Call::decode(key, version, request) else {
            return self.refuse_unserved(&header).await;
        };
        let mut call = call.map_err(|source| Ended::Body { key, version, source })?;
        if !is_served {
            let answer = call.refuse(ErrorCode::UNSUPPORTED_VERSION);
            return self.write_answer(&header, answer, After::default()).await;
        }
        if admission == Admission::Illegal {
            return self.refuse_state(&header, call.refuse(ErrorCode::ILLEGAL_SASL_STATE)).await;
        }
        let caller = self.caller(&header);
        if let Call::Produce(produced) = &mut call {
            let rules = self.shared.with(|cluster, now| cluster.rules(now, version, produced));
            rules.into_iter().for_each(|rules| produced.obey(rules));
        }
        let (failed, after) = self.suffer(&caller, &call).await?;
        if let Some(delay) = after.late {
            let shared = self.shared.clone();
            let take_effect = async move {
                sleep(delay).await;
                // Whoever asked has gone.
                drop(shared.handle(&caller, call));
            };
            self.shared.world.spawn("late request", Box::pin(take_effect));
            return Err(Ended::Fault);
        }
        let call = match (failed, admission, call) {
            (None, Admission::Login, Call::SaslHandshake(call)) => {
                return self.handshake(&header, call, after).await;
            }
            (None, Admission::Login, Call::SaslAuthenticate(call)) => {
                return self.authenticate(&header, call, after).await;
            }
            (_, _, call) => call,
        };
        let answer = match failed {
            Some(code) => call.refuse(code),
            None => match self.shared.handle(&caller, call) {
                Outcome::Answer(answer) => answer,
                Outcome::Silent => return Ok(()),
                Outcome::HangUp => return Err(Ended::NoAnswer),
                Outcome::Later(mut later) => {
                    pause(&*self.shared.world).await;
                    self.until_ready(&mut later.ready).await?;
                    later.take().ok_or(Ended::NoAnswer)?
                }
            },
        };
        self.write_answer(&header, answer, after).await
    }

    fn caller(&self, header: &RequestHeader) -> Caller {
        Caller {
            node: self.node,
            version: header.api_version,
            client_id: header.client_id.clone().unwrap_or_default(),
            host: self.host.clone(),
            listener: self.session.entry.listener,
            principal: self.session.principal.clone(),
            by_token: self.session.by_token,
        }
    }

    /// Goes through what the faults do before the request takes effect.
    async fn suffer(&mut self, caller: &Caller, call: &Call) -> Result<(Option<ErrorCode>, After), Ended> {
        let (mut failed, mut after) = (None, After::default());
        for effect in self.shared.plan(caller, call) {
            match effect {
                Effect::Fail(code) => failed = Some(code),
                Effect::Delay(delay) => sleep(delay).await,
                Effect::DelayAnswer(delay) => after.delay += delay,
                Effect::Cut => return Err(Ended::Fault),
                Effect::Late(delay) => after.late = Some(delay),
                Effect::CutAnswer => after.cut = Some(0),
                Effect::CutWithinAnswer(bytes) => after.cut = Some(bytes),
                Effect::Swallow => return self.until_closed().await,
                Effect::SwallowAnswer => after.swallow = true,
                Effect::Throttle(time) => {
                    after.throttle_ms = Some(i32::try_from(time.as_millis()).unwrap_or(i32::MAX))
                }
                Effect::Rewrite(rewrite) => after.rewrites.push(rewrite),
                Effect::WrongCorrelation => after.wrong_correlation = true,
            }
        }
        Ok((failed, after))
    }

    /// Waits for the answer of a parked request, and notices when the client closes the connection meanwhile.
    async fn until_ready(&mut self, ready: &mut tokio::sync::oneshot::Receiver<()>) -> Result<(), Ended> {
        loop {
            let may_read = self.inbox.len() < READ_AHEAD_BYTES;
            if may_read {
                self.inbox.reserve(READ_BYTES);
            }
            tokio::select! {
                biased;
                ready = &mut *ready => return ready.map_err(|_| Ended::NoAnswer),
                read = self.stream.read_buf(&mut self.inbox), if may_read => {
                    if read? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
            }
        }
    }

    /// Reads and forgets until the client closes the connection.
    async fn until_closed<T>(&mut self) -> Result<T, Ended> {
        loop {
            self.inbox.clear();
            self.inbox.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(Ended::Fault);
            }
        }
    }

    /// A version that we cannot read is answered in one that everybody can (KIP-511).
    async fn refuse_api_versions(&mut self, header: &RequestHeader) -> Result<(), Ended> {
        let response = ApiVersionsResponse {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            api_keys: versions::advertised(self.caps.as_ref()),
            ..ApiVersionsResponse::default()
        };
        let header = RequestHeader { api_version: 0, ..header.clone() };
        self.write_answer(&header, response.into(), After::default()).await
    }

    async fn refuse_unserved(&mut self, header: &RequestHeader) -> Result<(), Ended> {
        let (key, version) = (header.api_key, header.api_version);
        self.outbox.clear();
        let refused = unserved::refuse(key, version, header.correlation_id, &mut self.outbox);
        if !refused.map_err(|source| Ended::Answer { key, version, source })? {
            return Err(Ended::NotServed { key, version });
        }
        Ok(self.write(self.outbox.len()).await?)
    }

    async fn write_answer(
        &mut self,
        header: &RequestHeader,
        mut answer: Answer,
        after: After,
    ) -> Result<(), Ended> {
        if let (Answer::ApiVersions(answer), Some(caps)) = (&mut answer, &self.caps) {
            versions::narrow(answer, caps);
        }
        if let Some(ms) = after.throttle_ms {
            answer.throttle(ms);
        }
        after.rewrites.iter().for_each(|rewrite| rewrite(&mut answer));
        if !after.delay.is_zero() {
            sleep(after.delay).await;
        }
        if after.swallow {
            return self.until_closed().await;
        }
        let (key, version) = (header.api_key, header.api_version);
        let correlation_id = header.correlation_id ^ if after.wrong_correlation { 0x5a5a_5a5a } else { 0 };
        self.outbox.clear();
        answer.encode(version, correlation_id, &mut self.outbox).map_err(|source| Ended::Answer {
            key,
            version,
            source,
        })?;
        drop(answer);
        let length = self.outbox.len();
        self.write(after.cut.unwrap_or(length).min(length)).await?;
        if after.cut.is_some() { Err(Ended::Fault) } else { Ok(()) }
    }

    /// Writes the outbox, or its first `length` bytes. Record sets go out from where they are in the log.
    async fn write(&mut self, length: usize) -> io::Result<()> {
        if length < self.outbox.len() {
            self.stream.write_all(&self.outbox.to_bytes()[..length]).await?;
        } else if self.outbox.bodies.is_empty() {
            self.stream.write_all(&self.outbox.head).await?;
        } else {
            let mut written = 0;
            while written < length {
                let slices: Vec<_> = self.outbox.slices(written).collect();
                match self.stream.write_vectored(&slices).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => written += count,
                }
            }
            // The records belong to the log; a connection that idles must not keep them alive.
            self.outbox.clear();
        }
        self.stream.flush().await
    }
}
