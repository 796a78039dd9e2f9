//! The logins of a connection (KIP-43, KIP-152, KIP-368): the two requests that they are made of.
//!
//! It owns how a step of the conversation is asked for and answered. It refuses to know a mechanism. Invariant: whoever is
//! refused is told so late, and then the connection ends.

use super::{After, Connection, Ended};
use crate::api::Answer;
use crate::broker::Shared;
use crate::core::users::{Credential, Hash};
use crate::security::exchange::{Book, Known};
use crate::security::session::{Framing, Progress};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use ottla_protocol::wire::Str;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 24;

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Book for Shared {
    fn credential(&self, name: &str, hash: Hash, is_token: bool) -> Option<Known> {
        if is_token {
            return self.by_token(name, hash);
        }
        let credential = self.with(|cluster, _| cluster.users.get(name, hash).cloned())?;
        Some(Known { credential, name: name.to_string(), ends_ms: None })
    }

    fn nonce(&self) -> Option<String> {
        let mut bytes = [0; NONCE_BYTES];
        getrandom::fill(&mut bytes).ok()?;
        Some(STANDARD_NO_PAD.encode(bytes))
    }

    fn wall_ms(&self) -> i64 {
        self.world.wall_ms()
    }
}

impl Shared {
    /// What logs in by a delegation token: its HMAC is the password, its owner whoever comes in.
    fn by_token(&self, id: &str, hash: Hash) -> Option<Known> {
        let token = self.with(|cluster, now| cluster.tokens.get(id, now.wall_ms).cloned())?;
        let password = STANDARD.encode(&token.hmac);
        let mut salt = [0; NONCE_BYTES];
        getrandom::fill(&mut salt).ok()?;
        let credential = Credential::of_password(hash, password.as_bytes(), salt.to_vec());
        let name = token.owner.strip_prefix("User:")?.to_string();
        Some(Known { credential, name, ends_ms: Some(token.expires_ms) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Answers the request that names a mechanism.
    pub(super) async fn handshake(
        &mut self,
        header: &RequestHeader,
        request: SaslHandshakeRequest,
        after: After,
    ) -> Result<(), Ended> {
        let framing = if header.api_version == 0 { Framing::Bare } else { Framing::Request };
        let begun = self.session.handshake(&request.mechanism, framing, now());
        let offers = self.session.entry.sasl.iter().flat_map(|sasl| &sasl.offers);
        let mechanisms = offers.map(|offer| Str::from_static(offer.mechanism.name())).collect();
        let error_code = if begun { ErrorCode::NONE } else { ErrorCode::UNSUPPORTED_SASL_MECHANISM };
        let answer = SaslHandshakeResponse { error_code, mechanisms };
        self.write_answer(header, answer.into(), after).await?;
        if begun { Ok(()) } else { Err(Ended::Refused("there is no such mechanism".into())) }
    }

    /// Answers a message of the mechanism.
    pub(super) async fn authenticate(
        &mut self,
        header: &RequestHeader,
        request: SaslAuthenticateRequest,
        after: After,
    ) -> Result<(), Ended> {
        let shared = self.shared.clone();
        let (auth_bytes, lifetime) = match self.session.authenticate(&*shared, &request.auth_bytes, now()) {
            Ok(Progress::Challenge(challenge)) => (challenge, Duration::ZERO),
            Ok(Progress::Done(last, lifetime)) => (last, lifetime),
            Err(refusal) => {
                self.wait_to_refuse().await;
                let answer = SaslAuthenticateResponse {
                    error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
                    error_message: Some(Str::from(&*refusal)),
                    ..SaslAuthenticateResponse::default()
                };
                self.write_answer(header, answer.into(), after).await?;
                return Err(Ended::Refused(refusal));
            }
        };
        let answer = SaslAuthenticateResponse {
            auth_bytes: Bytes::from(auth_bytes),
            session_lifetime_ms: i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX),
            error_message: None,
            ..SaslAuthenticateResponse::default()
        };
        self.write_answer(header, answer.into(), after).await
    }

    /// Answers a message of the mechanism that comes without a request around it. A refusal has no words here.
    pub(super) async fn authenticate_bare(&mut self, message: &Bytes) -> Result<(), Ended> {
        let shared = self.shared.clone();
        match self.session.authenticate(&*shared, message, now()) {
            Ok(Progress::Challenge(bytes) | Progress::Done(bytes, _)) => {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                self.stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
                Ok(self.stream.flush().await?)
            }
            Err(refusal) => {
                self.wait_to_refuse().await;
                Err(Ended::Refused(refusal))
            }
        }
    }

    /// Answers a request that does not belong into a login, and ends the connection.
    pub(super) async fn refuse_state(&mut self, header: &RequestHeader, answer: Answer) -> Result<(), Ended> {
        self.write_answer(header, answer, After::default()).await?;
        Err(Ended::Refused(format!("{} within a login", header.api_key)))
    }

    /// Guessing takes time.
    async fn wait_to_refuse(&mut self) {
        let delay = self.session.entry.sasl.as_ref().map_or(Duration::ZERO, |sasl| sasl.refusal_delay);
        sleep(delay).await;
    }
}
