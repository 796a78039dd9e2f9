//! What a connection is allowed, by where its login is (KIP-43, KIP-152, KIP-368).
//!
//! It owns the state of a connection's login and when it ends. It refuses to read a clock: times are handed in. Invariant:
//! behind a listener with logins no request is answered before one, but for the two that lead to it.

use super::ANONYMOUS;
use super::exchange::{Book, Exchange, Proven, Refusal, Step};
use super::sasl::{Mechanism, Sasl};
use ottla_protocol::api::ApiKey;
use ottla_protocol::wire::Str;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nobody logs in again more often than this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Who comes in by which listener, before a login.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// Which of the listeners.
    pub(crate) listener: usize,
    /// Who a certificate says it is.
    pub(crate) principal: Option<Str>,
    pub(crate) sasl: Option<Arc<Sasl>>,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Answer it.
    Free,
    /// It is a part of a login.
    Login,
    /// Answer that it does not belong here, and hang up.
    Illegal,
    /// Hang up.
    Shut(&'static str),
}

/// See the head of the file.
pub(crate) struct Session {
    pub(crate) entry: Entry,
    pub(crate) principal: Str,
    /// Whether it logged in by a delegation token.
    pub(crate) by_token: bool,
    phase: Phase,
    /// Who it is, when it logs in again.
    before: Option<Mechanism>,
    ends: Option<Instant>,
    began_again: Option<Instant>,
}

enum Phase {
    Handshake,
    Exchange(Exchange, Framing),
    Open,
}

/// How the messages of the mechanism come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In SaslAuthenticate.
    Request,
    /// Bare, after version 0 of SaslHandshake.
    Bare,
}

/// What a message of a login has led to.
pub(crate) enum Progress {
    Challenge(Vec<u8>),
    /// The last word, and for how long it counts.
    Done(Vec<u8>, Duration),
}

impl Session {
    pub(crate) fn new(entry: Entry) -> Self {
        let principal = entry.principal.clone().unwrap_or(Str::from_static(ANONYMOUS));
        let phase = if entry.sasl.is_some() { Phase::Handshake } else { Phase::Open };
        Self { entry, principal, by_token: false, phase, before: None, ends: None, began_again: None }
    }

    /// What is to be done with a request that comes now.
    pub(crate) fn admit(&self, key: ApiKey, now: Instant) -> Admission {
        match &self.phase {
            Phase::Handshake => match key {
                ApiKey::API_VERSIONS => Admission::Free,
                ApiKey::SASL_HANDSHAKE => Admission::Login,
                _ => Admission::Shut("a request before the login"),
            },
            Phase::Exchange(..) if key == ApiKey::SASL_AUTHENTICATE => Admission::Login,
            Phase::Exchange(..) => Admission::Illegal,
            Phase::Open => {
                let may_begin = self.began_again.is_none_or(|began| now >= began + AGAIN_AFTER);
                match self.ends {
                    Some(_) if key == ApiKey::SASL_HANDSHAKE && may_begin => Admission::Login,
                    Some(ends) if now >= ends => Admission::Shut("the session has expired"),
                    _ => Admission::Free,
                }
            }
        }
    }

    /// Whether what comes next is no request, but a bare message of the mechanism.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.phase, Phase::Exchange(_, Framing::Bare))
    }

    /// Nobody may send much before he has logged in.
    pub(crate) fn request_bytes_max(&self) -> usize {
        match (&self.phase, &self.entry.sasl) {
            (Phase::Handshake | Phase::Exchange(..), Some(sasl)) => sasl.token_bytes_max,
            _ => usize::MAX,
        }
    }

    /// Begins a login by the mechanism of this name. False when it is not offered.
    pub(crate) fn handshake(&mut self, name: &str, framing: Framing, now: Instant) -> bool {
        let Some(offer) = self.entry.sasl.as_ref().and_then(|sasl| sasl.offer(name)) else { return false };
        if matches!(self.phase, Phase::Open) {
            self.began_again = Some(now);
        }
        self.phase = Phase::Exchange(Exchange::new(offer.mechanism), framing);
        true
    }

    /// Goes on with a login.
    pub(crate) fn authenticate(
        &mut self,
        book: &dyn Book,
        message: &[u8],
        now: Instant,
    ) -> Result<Progress, Refusal> {
        let (Phase::Exchange(exchange, _), Some(sasl)) = (&mut self.phase, &self.entry.sasl) else {
            return Err("SaslAuthenticate without SaslHandshake".into());
        };
        let mechanism = exchange.mechanism();
        if let Some(before) = self.before.filter(|before| *before != mechanism) {
            let (before, name) = (before.name(), mechanism.name());
            return Err(format!("Cannot change mechanism during re-authentication from {before} to {name}"));
        }
        let (proven, last) = match exchange.answer(sasl, book, message)? {
            Step::Challenge(challenge) => return Ok(Progress::Challenge(challenge)),
            Step::Done(proven, last) => (proven, last),
        };
        let principal = Str::from(format!("User:{}", proven.name));
        if self.before.is_some() && principal != self.principal {
            let before = &self.principal;
            return Err(format!(
                "Cannot change principals during re-authentication from {before}: {principal}"
            ));
        }
        let at_most = sasl.offer(mechanism.name()).and_then(|offer| offer.session);
        let lifetime = lifetime(&proven, at_most, book.wall_ms());
        (self.principal, self.by_token) = (principal, proven.by_token);
        self.before = Some(mechanism);
        self.ends = lifetime.and_then(|lifetime| now.checked_add(lifetime));
        self.phase = Phase::Open;
        Ok(Progress::Done(last, lifetime.unwrap_or_default()))
    }
}

/// For how long a login counts: as long as the credential does, and no longer than the listener wants.
fn lifetime(proven: &Proven, at_most: Option<Duration>, wall_ms: i64) -> Option<Duration> {
    let left = proven.ends_ms.map(|ends| u64::try_from(ends.saturating_sub(wall_ms)).unwrap_or(0));
    match (left.map(Duration::from_millis), at_most) {
        (Some(left), Some(most)) => Some(left.min(most)),
        (left, most) => left.or(most),
    }
}
