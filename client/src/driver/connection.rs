//! A connection on which one request follows the other: the handshake of a link, and all of the admin client.
//!
//! It owns the stream, the correlation ids and the negotiated versions of its peer. It refuses to retry: whoever calls
//! decides. Invariant: after an error the connection is of no more use, since an answer may still be on its way.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_protocol::api::{Request, Versions};
use ottla_protocol::frame::{self, Frame};
use ottla_protocol::wire::Str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroize;

use super::{handshake, login};
use crate::config::ClientConfig;
use crate::connect::Stream;
use crate::core::ask::version_for;
use crate::error::{Error, ErrorKind};
use crate::world::World;

/// Whom a connection is to lead to.
pub(crate) struct Whom<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// The cluster that it must belong to, where that is known and checked (KIP-1242).
    pub(crate) cluster_id: Option<Str>,
    /// The broker that it must be; -1 where that is not known.
    pub(crate) node_id: i32,
}

pub(crate) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    pub(super) inbox: BytesMut,
    pub(super) correlation_id: i32,
    pub(super) peer: Arc<str>,
    pub(super) versions: Versions,
    /// When the session must be renewed, if the broker ends it (KIP-368).
    pub(super) renew_at: Option<Instant>,
    pub(super) config: Arc<ClientConfig>,
}

impl Connection {
    /// Connects, secures the connection, learns which versions the broker speaks, and logs in; all within `timeout`.
    pub(crate) async fn open(
        world: &dyn World,
        config: Arc<ClientConfig>,
        whom: Whom<'_>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let Whom { host, port, .. } = whom;
        let peer: Arc<str> = format!("{host}:{port}").into();
        let deadline = Instant::now() + timeout;
        let late =
            |what: &str| Error::new(ErrorKind::Connect, format!("no {what} {peer} within {timeout:.1?}"));
        let connect = timeout_at(deadline, config.connector.or(world).connect(host, port)).await;
        let stream = connect.map_err(|_| late("connection to"))?.map_err(|e| {
            Error::new(ErrorKind::Connect, format!("cannot connect to {peer}: {e}")).with_source(e)
        })?;
        let secured = timeout_at(deadline, secure(&config, host, &peer, stream)).await;
        let stream = secured.map_err(|_| late("TLS handshake with"))??;
        let (inbox, versions) = (BytesMut::new(), Versions::default());
        let mut this =
            Self { stream, inbox, correlation_id: 0, peer: peer.clone(), versions, renew_at: None, config };
        let shake = timeout_at(deadline, handshake::api_versions(&mut this, &whom)).await;
        this.versions = shake.map_err(|_| late("Kafka answer from"))??;
        timeout_at(deadline, this.login(world)).await.map_err(|_| late("end of the login at"))??;
        Ok(this)
    }

    /// Proves who we are, where that is configured: on a new connection, and again when its session is to end.
    pub(super) async fn login(&mut self, world: &dyn World) -> Result<(), Error> {
        let config = self.config.clone();
        if let Some(sasl) = &config.security.sasl {
            self.renew_at = login::login(self, sasl, world).await?;
        }
        Ok(())
    }

    /// Whether the session is to be renewed before the connection is used again.
    pub(crate) fn is_stale(&self) -> bool {
        self.renew_at.is_some_and(|at| at <= Instant::now())
    }

    /// Renews the session.
    pub(crate) async fn renew(&mut self, world: &dyn World, timeout: Duration) -> Result<(), Error> {
        let peer = self.peer.clone();
        let late = |_| Error::new(ErrorKind::Timeout, format!("no end of the login at {peer}"));
        tokio::time::timeout(timeout, self.login(world)).await.map_err(late)?
    }

    /// The highest version of `R` that both sides have.
    pub(crate) fn version<R: Request>(&self) -> Result<i16, Error> {
        version_for::<R>(&self.versions, i16::MAX).map_err(|unsupported| {
            Error::new(ErrorKind::UnsupportedVersion, format!("broker {}: {unsupported}", self.peer))
        })
    }

    /// Sends a request in the highest version that both sides have, and waits for its answer.
    pub(crate) async fn call<R: Request>(
        &mut self,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, Error> {
        let peer = self.peer.clone();
        let late = || {
            Error::new(ErrorKind::Timeout, format!("no answer to {} from {peer} within {timeout:?}", R::NAME))
        };
        tokio::time::timeout(timeout, self.ask(request)).await.map_err(|_| late())?
    }

    /// As [`call`](Self::call), for as long as the caller waits.
    pub(super) async fn ask<R: Request>(&mut self, request: &R) -> Result<R::Response, Error> {
        let version = self.version::<R>()?;
        let body = self.exchange(request, version).await?;
        frame::decode(body, version, version >= R::FLEXIBLE).map_err(|e| undecodable(&self.peer, R::NAME, e))
    }

    /// Sends a request in a given version, and returns the body of its answer.
    pub(super) async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, Error> {
        let mut frame = Frame { head: BytesMut::with_capacity(REQUEST_BYTES), ..Frame::default() };
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        frame::encode_request(
            request,
            version,
            self.correlation_id,
            Some(&self.config.client_id),
            &mut frame,
        )
        .map_err(|e| {
            Error::new(ErrorKind::InvalidArgument, format!("{} cannot be encoded: {e}", R::NAME))
                .with_source(e)
        })?;
        let written = Wiped(BytesMut::from(frame.to_bytes()));
        frame.head.zeroize();
        self.stream.write_all(&written.0).await.map_err(|e| lost(&self.peer, e))?;
        drop(written);
        self.stream.flush().await.map_err(|e| lost(&self.peer, e))?;
        let mut body = self.receive().await?;
        let flexible = version >= R::FLEXIBLE;
        let id = frame::decode_response_header(&mut body, R::KEY, flexible)
            .map_err(|e| undecodable(&self.peer, R::NAME, e))?;
        if id != self.correlation_id {
            return Err(mismatch(&self.peer, self.correlation_id, id));
        }
        Ok(body)
    }

    async fn receive(&mut self) -> Result<Bytes, Error> {
        loop {
            if let Some(body) = take_frame(&mut self.inbox, self.config.frame_bytes_max, &self.peer)? {
                return Ok(body);
            }
            frame::make_room(&mut self.inbox);
            if self.stream.read_buf(&mut self.inbox).await.map_err(|e| lost(&self.peer, e))? == 0 {
                return Err(hung_up(&self.peer));
            }
        }
    }
}

/// Requests that fit are encoded in one place: what grows leaves copies behind that nobody wipes.
const REQUEST_BYTES: usize = 8 * 1024;

/// A request on its way to the socket, wiped afterwards: it may be a password or a token.
struct Wiped(BytesMut);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// How a listener for TLS answers what is not TLS: an alert of version 3.
const TLS_ALERT: [u8; 2] = [21, 3];

/// The next whole frame, if it is there.
pub(super) fn take_frame(inbox: &mut BytesMut, max: usize, peer: &str) -> Result<Option<Bytes>, Error> {
    let hint = if inbox.starts_with(&TLS_ALERT) { "; it may want TLS (security.protocol)" } else { "" };
    frame::next_frame(inbox, max).map_err(|e| {
        Error::new(ErrorKind::Protocol, format!("{peer} does not speak the Kafka protocol: {e}{hint}"))
            .with_source(e)
    })
}

#[cfg(feature = "_tls")]
async fn secure(
    config: &ClientConfig,
    host: &str,
    peer: &str,
    stream: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, Error> {
    let Some(trust) = &config.security.trust else { return Ok(stream) };
    trust.wrap(host, stream).await.map_err(|cause| match cause.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            let message = format!("{peer} hung up during the TLS handshake: is it a PLAINTEXT listener?");
            Error::new(ErrorKind::Connect, message).with_source(cause)
        }
        _ => lost(peer, cause),
    })
}

#[cfg(not(feature = "_tls"))]
async fn secure(
    _: &ClientConfig,
    _: &str,
    _: &str,
    stream: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, Error> {
    Ok(stream)
}

pub(super) fn lost(peer: &str, cause: std::io::Error) -> Error {
    #[cfg(feature = "_tls")]
    if let Some((kind, advice)) = crate::security::explain(&cause) {
        return Error::new(kind, format!("{peer}: {advice}")).with_source(cause);
    }
    Error::new(ErrorKind::Connect, format!("connection to {peer} lost: {cause}")).with_source(cause)
}

pub(super) fn hung_up(peer: &str) -> Error {
    Error::new(ErrorKind::Connect, format!("connection closed by {peer}"))
}

pub(super) fn mismatch(peer: &str, expected: i32, got: i32) -> Error {
    Error::new(ErrorKind::Protocol, format!("{peer} answered request {got} where {expected} was next"))
}

pub(super) fn undecodable(peer: &str, what: &str, cause: ottla_protocol::wire::DecodeError) -> Error {
    Error::new(ErrorKind::Protocol, format!("answer to {what} from {peer} cannot be read: {cause}"))
        .with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Tcp;

    #[tokio::test]
    async fn a_peer_that_accepts_and_says_nothing_is_blamed_for_that() {
        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = mute.local_addr().unwrap().port();
        let timeout = Duration::from_millis(50);
        let whom = Whom { host: "127.0.0.1", port, cluster_id: None, node_id: -1 };
        let opened = Connection::open(&Tcp::default(), Arc::default(), whom, timeout).await;
        let error = opened.err().expect("nobody answers");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(error.to_string(), format!("no Kafka answer from 127.0.0.1:{port} within 50.0ms"));
    }
}
