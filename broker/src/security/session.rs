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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::users::{Credential, Hash};
    use crate::security::exchange::Known;
    use crate::security::{Scope, sasl};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    const SECOND: Duration = Duration::from_secs(1);

    /// Knows alice, whose password is secret, and no clock but zero.
    struct Alice;

    impl Book for Alice {
        fn credential(&self, name: &str, hash: Hash, is_token: bool) -> Option<Known> {
            let credential = Credential::of_password(hash, b"secret", b"salt".to_vec());
            (name == "alice" && !is_token).then(|| Known { credential, name: name.into(), ends_ms: None })
        }

        fn nonce(&self) -> Option<String> {
            Some("theirs".into())
        }

        fn wall_ms(&self) -> i64 {
            0
        }
    }

    fn session(reauth_ms: &str) -> Session {
        let settings = [
            ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,OAUTHBEARER"),
            ("connections.max.reauth.ms", reauth_ms),
            ("sasl.jaas.config", "Module required user_alice=secret user_bob=secret unsecuredLogin=yes;"),
        ];
        let given = settings.map(|(name, value)| (name.to_string(), value.to_string())).into();
        let sasl = sasl::Sasl::new(Scope { given: &given, listener: "SASL_PLAINTEXT" }, &[]).unwrap();
        Session::new(Entry { sasl: Some(Arc::new(sasl)), ..Entry::default() })
    }

    fn plain(user: &str, password: &str) -> Vec<u8> {
        format!("\0{user}\0{password}").into_bytes()
    }

    fn log_in(
        session: &mut Session,
        mechanism: &str,
        message: &[u8],
        now: Instant,
    ) -> Result<Duration, String> {
        assert_eq!(session.admit(ApiKey::SASL_HANDSHAKE, now), Admission::Login);
        assert!(session.handshake(mechanism, Framing::Request, now));
        assert_eq!(session.admit(ApiKey::SASL_AUTHENTICATE, now), Admission::Login);
        match session.authenticate(&Alice, message, now)? {
            Progress::Done(_, lifetime) => Ok(lifetime),
            Progress::Challenge(challenge) => Err(String::from_utf8(challenge).unwrap()),
        }
    }

    /// SEC18.
    #[test]
    fn nothing_is_answered_before_a_login_but_what_leads_to_it() {
        let (mut session, now) = (session("0"), Instant::now());
        assert_eq!(session.admit(ApiKey::API_VERSIONS, now), Admission::Free);
        for key in [ApiKey::METADATA, ApiKey::PRODUCE, ApiKey::SASL_AUTHENTICATE] {
            assert!(matches!(session.admit(key, now), Admission::Shut(_)), "{key}");
        }
        assert!(!session.handshake("SCRAM-SHA-512", Framing::Request, now), "it is not offered");
        assert!(session.handshake("PLAIN", Framing::Request, now));
        for key in [ApiKey::API_VERSIONS, ApiKey::METADATA, ApiKey::SASL_HANDSHAKE] {
            assert_eq!(session.admit(key, now), Admission::Illegal, "{key}");
        }
        assert!(session.request_bytes_max() <= 524_288);
        assert!(session.authenticate(&Alice, &plain("alice", "secret"), now).is_ok());
        assert_eq!(&*session.principal, "User:alice");
        assert_eq!(session.admit(ApiKey::METADATA, now), Admission::Free);
        // Without sessions that end there is no second login.
        assert_eq!(session.admit(ApiKey::SASL_HANDSHAKE, now + SECOND), Admission::Free);
    }

    #[test]
    fn a_session_ends_unless_the_same_one_logs_in_again() {
        let (mut session, start) = (session("10000"), Instant::now());
        let lifetime = log_in(&mut session, "PLAIN", &plain("alice", "secret"), start);
        assert_eq!(lifetime, Ok(10 * SECOND));
        assert_eq!(session.admit(ApiKey::FETCH, start + 9 * SECOND), Admission::Free);
        let late = start + 10 * SECOND;
        assert_eq!(session.admit(ApiKey::FETCH, late), Admission::Shut("the session has expired"));
        assert_eq!(log_in(&mut session, "PLAIN", &plain("alice", "secret"), late), Ok(10 * SECOND));
        assert_eq!(session.admit(ApiKey::FETCH, late), Admission::Free);
        // At most once a second; the request is then answered as any that does not belong here.
        assert_eq!(session.admit(ApiKey::SASL_HANDSHAKE, late + SECOND / 2), Admission::Free);
        let changed = log_in(&mut session, "PLAIN", &plain("bob", "secret"), late + SECOND);
        assert!(changed.is_err_and(|reason| reason.contains("principals")));
    }

    #[test]
    fn nobody_changes_the_mechanism_of_a_session() {
        let (mut session, start) = (session("10000"), Instant::now());
        log_in(&mut session, "PLAIN", &plain("alice", "secret"), start).unwrap();
        let changed = log_in(&mut session, "SCRAM-SHA-256", b"n,,n=alice,r=mine", start + SECOND);
        assert!(changed.is_err_and(|reason| reason.contains("mechanism")));
    }

    #[test]
    fn a_session_by_a_token_ends_with_it() {
        let token = |seconds: i64| {
            let claims = format!(r#"{{"sub":"alice","exp":{seconds}}}"#);
            let [header, claims] = [r#"{"alg":"none"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
            format!("n,,\x01auth=Bearer {header}.{claims}.\x01\x01").into_bytes()
        };
        let now = Instant::now();
        for (reauth, seconds, expected) in [("0", 60, 60), ("10000", 60, 10), ("10000", 5, 5)] {
            let lifetime = log_in(&mut session(reauth), "OAUTHBEARER", &token(seconds), now);
            assert_eq!(lifetime, Ok(expected * SECOND), "{reauth} {seconds}");
        }
        // What has expired is refused in two steps, so that the client can be told why.
        let mut session = session("0");
        let challenge = log_in(&mut session, "OAUTHBEARER", &token(-31), now).unwrap_err();
        assert_eq!(challenge, r#"{"status":"invalid_token"}"#);
        assert!(
            session.authenticate(&Alice, b"\x01", now).is_err_and(|reason| reason.contains("invalid_token"))
        );
        assert!(matches!(session.admit(ApiKey::METADATA, now), Admission::Illegal));
    }

    /// SEC8: the broker's side.
    #[test]
    fn scram_believes_whoever_knows_the_password_and_continues_our_nonce() {
        let attempt = |password: &str, nonce: &str, binding: &str| {
            let (mut session, now) = (session("0"), Instant::now());
            let challenge = log_in(&mut session, "SCRAM-SHA-256", b"n,,n=alice,r=mine", now).unwrap_err();
            assert_eq!(challenge, "r=minetheirs,s=c2FsdA==,i=4096");
            let without_proof = format!("c={binding},r={nonce}");
            let covered = format!("n=alice,r=mine,{challenge},{without_proof}");
            let mut salted = [0; 32];
            pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.as_bytes(), b"salt", 4096, &mut salted);
            let client_key = Hash::Sha256.keyed(&salted, b"Client Key");
            let signature = Hash::Sha256.keyed(&Hash::Sha256.digest(&client_key), covered.as_bytes());
            let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
            let last = format!("{without_proof},p={}", STANDARD.encode(proof));
            let server_key = Hash::Sha256.keyed(&salted, b"Server Key");
            let expected = STANDARD.encode(Hash::Sha256.keyed(&server_key, covered.as_bytes()));
            match session.authenticate(&Alice, last.as_bytes(), now) {
                Ok(Progress::Done(bytes, _)) => bytes == format!("v={expected}").as_bytes(),
                Ok(Progress::Challenge(_)) => panic!("there is nothing more to ask"),
                Err(_) => false,
            }
        };
        assert!(attempt("secret", "minetheirs", "biws"));
        assert!(!attempt("wrong", "minetheirs", "biws"));
        assert!(!attempt("secret", "mine", "biws"), "a nonce without our part is one that was seen before");
        assert!(!attempt("secret", "minetheirs2", "biws"));
        assert!(!attempt("secret", "minetheirs", "eSws"), "another binding than the first message said");
    }

    #[test]
    fn what_is_no_message_of_a_mechanism_is_refused() {
        let now = Instant::now();
        for (mechanism, message) in [
            ("PLAIN", &b""[..]),
            ("PLAIN", b"alice"),
            ("PLAIN", b"\0alice\0"),
            ("PLAIN", b"\0\0secret"),
            ("PLAIN", b"\0nobody\0secret"),
            ("PLAIN", b"bob\0alice\0secret"),
            ("PLAIN", b"\0alice\0secret\0more"),
            ("PLAIN", b"\0ali\xffce\0secret"),
            ("SCRAM-SHA-256", b""),
            ("SCRAM-SHA-256", b"n,,n=nobody,r=mine"),
            ("SCRAM-SHA-256", b"p=tls-unique,,n=alice,r=mine"),
            ("SCRAM-SHA-256", b"n,a=bob,n=alice,r=mine"),
            ("SCRAM-SHA-256", b"n,,n=alice,r="),
            ("SCRAM-SHA-256", b"n,,n=ali=ce,r=mine"),
            ("SCRAM-SHA-256", b"n,,n=alice,r=mine,tokenauth=true"),
            ("OAUTHBEARER", b""),
            ("OAUTHBEARER", b"n,,\x01auth=Basic x\x01\x01"),
            ("OAUTHBEARER", b"y,,\x01auth=Bearer x\x01\x01"),
        ] {
            let refusal = log_in(&mut session("0"), mechanism, message, now).unwrap_err();
            assert!(refusal.starts_with("Authentication failed"), "{mechanism} {message:?}: {refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }
}
