//! A peer that speaks Kafka as far as the login, and keeps what it is told: for what a broker of ours would never do.
//!
//! It owns the connections. What it answers to a login is the test's.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use ottla_protocol::api::{ApiKey, Request};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame::{self, Frame};
use ottla_protocol::messages::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What an answer to a login is made of, given the client's message and how many came before it on the connection.
pub(crate) type Judge = fn(&[u8], usize) -> SaslAuthenticateResponse;

#[derive(Clone)]
pub(crate) struct Doorman {
    pub(crate) address: String,
    offers: &'static [&'static str],
    judge: Judge,
    told: Arc<Mutex<Told>>,
}

/// What it was told so far.
#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) connections: usize,
    /// Mechanisms that clients have named.
    pub(crate) mechanisms: Vec<String>,
    /// Messages of logins.
    pub(crate) messages: Vec<Vec<u8>>,
    /// Requests of any other kind.
    pub(crate) others: Vec<i16>,
}

pub(crate) fn refusal(message: &str) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
        error_message: Some(message.into()),
        ..SaslAuthenticateResponse::default()
    }
}

impl Doorman {
    /// Stands at a free port for as long as the test's runtime lives.
    pub(crate) async fn open(offers: &'static [&'static str], judge: Judge) -> Doorman {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let doorman = Doorman { address, offers, judge, told: Arc::default() };
        let keeper = doorman.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                keeper.told.lock().expect("not poisoned").connections += 1;
                tokio::spawn(keeper.clone().serve(stream));
            }
        });
        doorman
    }

    pub(crate) fn told(&self) -> Told {
        self.told.lock().expect("not poisoned").clone()
    }

    /// Until the client hangs up, or has been refused, or asks for something else.
    async fn serve(self, mut stream: TcpStream) -> Option<()> {
        let (mut inbox, mut messages) = (BytesMut::new(), 0);
        loop {
            while let Some(mut body) = frame::next_frame(&mut inbox, 1 << 20).ok()? {
                let header = frame::decode_request_header(&mut body).ok()?;
                let (key, version) = (header.api_key, header.api_version);
                let mut out = Frame::default();
                let mut refused = false;
                if key == ApiKey::API_VERSIONS {
                    let flexible = version >= ApiVersionsRequest::FLEXIBLE;
                    encode(key, flexible, &self.versions(), version, header.correlation_id, &mut out)?;
                } else if key == ApiKey::SASL_HANDSHAKE {
                    let request: SaslHandshakeRequest = frame::decode(body, version, false).ok()?;
                    let answer = self.shake_hands(&request.mechanism);
                    refused = answer.error_code != ErrorCode::NONE;
                    encode(key, false, &answer, version, header.correlation_id, &mut out)?;
                } else if key == ApiKey::SASL_AUTHENTICATE {
                    let flexible = version >= SaslAuthenticateRequest::FLEXIBLE;
                    let request: SaslAuthenticateRequest = frame::decode(body, version, flexible).ok()?;
                    self.told.lock().expect("not poisoned").messages.push(request.auth_bytes.to_vec());
                    let answer = (self.judge)(&request.auth_bytes, messages);
                    messages += 1;
                    refused = answer.error_code != ErrorCode::NONE;
                    encode(key, flexible, &answer, version, header.correlation_id, &mut out)?;
                } else {
                    self.told.lock().expect("not poisoned").others.push(key.0);
                    return None;
                }
                stream.write_all(&out.to_bytes()).await.ok()?;
                if refused {
                    return None;
                }
            }
            if stream.read_buf(&mut inbox).await.ok()? == 0 {
                return None;
            }
        }
    }

    fn versions(&self) -> ApiVersionsResponse {
        let apis = ottla_protocol::messages::APIS.iter();
        let api_keys = apis
            .map(|api| ApiVersion { api_key: api.key, min_version: api.min, max_version: api.max })
            .collect();
        ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }
    }

    fn shake_hands(&self, mechanism: &str) -> SaslHandshakeResponse {
        self.told.lock().expect("not poisoned").mechanisms.push(mechanism.to_owned());
        let known = self.offers.contains(&mechanism);
        let error_code = if known { ErrorCode::NONE } else { ErrorCode::UNSUPPORTED_SASL_MECHANISM };
        let mechanisms = self.offers.iter().map(|name| (*name).into()).collect();
        SaslHandshakeResponse { error_code, mechanisms }
    }
}

fn encode<T: ottla_protocol::wire::Wire>(
    key: ApiKey,
    flexible: bool,
    answer: &T,
    version: i16,
    correlation_id: i32,
    out: &mut Frame,
) -> Option<()> {
    frame::encode_response(key, flexible, answer, version, correlation_id, out).ok()
}
