//! Logging in on a connection, and again before the session ends (KIP-152, KIP-368).
//!
//! It owns the order of the requests and what a refusal means to the user. It refuses to know mechanisms, and to try again:
//! whoever wanted the connection decides. Invariant: an error here holds nothing that was sent.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connection::Connection;
use crate::core::backoff::Random;
use crate::error::{Error, ErrorKind};
use crate::security::{Login, Next, Sasl, TokenError};
use crate::world::World;

/// As many random bytes as make a nonce that nobody meets twice.
const NONCE_BYTES: usize = 24;
/// The part of a session's lifetime after which it is renewed, in percent: from the first to below the second.
const RENEW_AT: (u32, u32) = (85, 95);

/// Proves who we are. Returns when to do it again, if the broker ends sessions.
pub(super) async fn login(
    connection: &mut Connection,
    sasl: &Sasl,
    world: &dyn World,
) -> Result<Option<Instant>, Error> {
    let peer = connection.peer.clone();
    let refused =
        |why: String| Error::new(ErrorKind::Authentication, format!("{} at {peer}: {why}", sasl.mechanism()));
    handshake(connection, sasl).await?;
    let mut nonce = [0; NONCE_BYTES];
    world.unguessable(&mut nonce).map_err(|cause| refused("no random numbers".into()).with_source(cause))?;
    let (first, mut login) = sasl
        .begin(STANDARD_NO_PAD.encode(nonce), world)
        .await
        .map_err(|cause| no_token(&peer, sasl, &cause))?;
    let first = first.into_bytes();
    let mut message = first.clone();
    loop {
        let request = SaslAuthenticateRequest { auth_bytes: message };
        let answer = connection.ask(&request).await?;
        if answer.error_code != ErrorCode::NONE {
            sasl.refused();
            let reason = answer.error_message.as_deref();
            let reason = reason.filter(|it| !it.is_empty() && !sasl.is_repeated(&first, it));
            let reason = reason.unwrap_or(answer.error_code.message()).to_owned();
            return Err(refused(reason).with_code(answer.error_code));
        }
        (message, login) = match login.answered(&answer.auth_bytes).map_err(refused)? {
            Next::Done => return Ok(renewal(answer.session_lifetime_ms, world)),
            Next::Send(message, login) => (message.into(), login),
            Next::Compute(challenge) => {
                let (done, computed) = oneshot::channel();
                // Fails when nobody waits any more.
                world.compute(Box::new(move || drop(done.send(challenge.answer()))));
                let lost = |_| Error::new(ErrorKind::Closed, "the runtime ended during a login");
                let (message, expected) = computed.await.map_err(lost)?;
                (message.into(), Login::Signature(expected))
            }
        };
    }
}

/// A token may come later where nobody could be asked for one; a refusal is one.
fn no_token(peer: &str, sasl: &Sasl, cause: &TokenError) -> Error {
    let passes = cause.downcast_ref::<std::io::Error>().is_some();
    let kind = if passes { ErrorKind::Connect } else { ErrorKind::Authentication };
    Error::new(kind, format!("{} at {peer}: there is no token: {cause}", sasl.mechanism()))
}

async fn handshake(connection: &mut Connection, sasl: &Sasl) -> Result<(), Error> {
    let request = SaslHandshakeRequest { mechanism: sasl.mechanism().into() };
    let answer = connection.ask(&request).await?;
    if answer.error_code == ErrorCode::NONE {
        return Ok(());
    }
    let offered: Vec<_> = answer.mechanisms.iter().map(|name| name.as_str()).collect();
    let message = format!(
        "{} does not take {}: {} (it offers {})",
        connection.peer,
        sasl.mechanism(),
        answer.error_code.message(),
        offered.join(", ")
    );
    Err(Error::new(ErrorKind::Authentication, message).with_code(answer.error_code))
}

fn renewal(lifetime_ms: i64, world: &dyn World) -> Option<Instant> {
    let lifetime = u64::try_from(lifetime_ms).ok().filter(|lifetime| *lifetime > 0)?;
    let (from, to) = RENEW_AT;
    let percent = from + u32::try_from(Random::new(world.random()).below((to - from) as usize)).unwrap_or(0);
    Instant::now().checked_add(Duration::from_millis(lifetime).saturating_mul(percent) / 100)
}
