//! The conversation of a login, the broker's side: PLAIN (RFC 4616), SCRAM (RFC 5802, KIP-84), OAUTHBEARER (RFC 7628,
//! KIP-255), as Kafka answers them.
//!
//! It owns the messages and what must be true of the client's. It refuses to know requests and clocks. Invariant: nobody is
//! in before the mechanism of the handshake has seen a proof, and what is compared with a secret is compared in constant time.

use super::sasl::{Mechanism, Sasl};
use crate::core::users::{Credential, Hash};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

/// "No channel binding", in base64.
const NO_BINDING: &str = "biws";

/// Why a login is refused, as the client is told.
pub(crate) type Refusal = String;

/// Somebody has shown who he is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    /// What he is called.
    pub(crate) name: String,
    /// When his credential ends, in milliseconds since the epoch.
    pub(crate) ends_ms: Option<i64>,
    /// Whether he has a delegation token instead of a password.
    pub(crate) by_token: bool,
}

/// What follows a message of the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This must be answered.
    Challenge(Vec<u8>),
    /// Who it is, and a last word.
    Done(Proven, Vec<u8>),
}

/// A SCRAM credential, and what the one who has it is called.
pub(crate) struct Known {
    pub(crate) credential: Credential,
    pub(crate) name: String,
    pub(crate) ends_ms: Option<i64>,
}

/// What a conversation asks of its surroundings.
pub(crate) trait Book {
    /// The credential of a user, or of a delegation token.
    fn credential(&self, name: &str, hash: Hash, is_token: bool) -> Option<Known>;
    /// Something that nobody can guess.
    fn nonce(&self) -> Option<String>;
    fn wall_ms(&self) -> i64;
}

/// A login that is on its way.
pub(crate) struct Exchange {
    mechanism: Mechanism,
    state: State,
}

enum State {
    First,
    Scram(Box<Scram>),
    /// The token was refused; the client says that it has understood, and is told why.
    RefusedToken(&'static str),
}

/// What is known once the challenge is out.
struct Scram {
    known: Known,
    nonce: String,
    /// The client's first message without its header, and the answer to it: the proof covers both.
    bare: String,
    challenge: String,
    binding: String,
    by_token: bool,
}

impl Exchange {
    pub(crate) fn new(mechanism: Mechanism) -> Self {
        Self { mechanism, state: State::First }
    }

    pub(crate) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// What follows a message of the client. After a refusal there is nothing more to say.
    pub(crate) fn answer(&mut self, sasl: &Sasl, book: &dyn Book, message: &[u8]) -> Result<Step, Refusal> {
        let mechanism = self.mechanism;
        match (std::mem::replace(&mut self.state, State::First), mechanism) {
            (State::First, Mechanism::Plain) => plain(sasl, message),
            (State::First, Mechanism::OAuthBearer) => self.bearer(sasl, book, message),
            (State::First, Mechanism::Scram(hash)) => {
                let scram = Scram::begin(book, hash, message).ok_or_else(|| invalid(mechanism))?;
                let challenge = scram.challenge.clone().into_bytes();
                self.state = State::Scram(Box::new(scram));
                Ok(Step::Challenge(challenge))
            }
            (State::Scram(scram), Mechanism::Scram(hash)) => {
                scram.finish(hash, message).ok_or_else(|| invalid(mechanism))
            }
            (State::RefusedToken(status), _) => Err(format!("{{\"status\":\"{status}\"}}")),
            (State::Scram(_), _) => Err(invalid(mechanism)),
        }
    }

    fn bearer(&mut self, sasl: &Sasl, book: &dyn Book, message: &[u8]) -> Result<Step, Refusal> {
        let verifier = sasl.verifier.as_ref().ok_or_else(|| invalid(self.mechanism))?;
        let (authorization_id, token) = bearer_token(message).ok_or_else(|| invalid(self.mechanism))?;
        match verifier.verify(token, book.wall_ms()) {
            Ok(proven) if authorization_id.is_empty() || authorization_id == proven.name => {
                Ok(Step::Done(proven, Vec::new()))
            }
            Ok(_) => Err("Authentication failed: Client requested an authorization id that is different from the token's principal name".into()),
            Err(reason) => {
                tracing::debug!(reason, "a token is refused");
                self.state = State::RefusedToken("invalid_token");
                Ok(Step::Challenge(br#"{"status":"invalid_token"}"#.to_vec()))
            }
        }
    }
}

/// What everybody is told who has not shown who he is, whatever was wrong.
fn invalid(mechanism: Mechanism) -> Refusal {
    let name = mechanism.name();
    format!(
        "Authentication failed during authentication due to invalid credentials with SASL mechanism {name}"
    )
}

fn plain(sasl: &Sasl, message: &[u8]) -> Result<Step, Refusal> {
    let refuse = |reason: &str| Err(format!("Authentication failed: {reason}"));
    let parts: Option<Vec<&str>> =
        message.split(|byte| *byte == 0).map(|part| std::str::from_utf8(part).ok()).collect();
    let Some([authorization_id, user, password]) = parts.as_deref() else {
        return refuse("the message is not as PLAIN has it");
    };
    if user.is_empty() {
        return refuse("username not specified");
    }
    if password.is_empty() {
        return refuse("password not specified");
    }
    if !authorization_id.is_empty() && authorization_id != user {
        return refuse("Client requested an authorization id that is different from username");
    }
    let expected = sasl.passwords.get(*user).filter(|it| it.as_bytes().ct_eq(password.as_bytes()).into());
    if expected.is_none() {
        return refuse("Invalid username or password");
    }
    Ok(Step::Done(Proven { name: (*user).to_string(), ends_ms: None, by_token: false }, Vec::new()))
}

/// The authorization id and the token of a client's first message.
fn bearer_token(message: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(message).ok()?;
    let (header, rest) = text.split_once('\x01')?;
    let id = header.strip_prefix("n,")?.strip_suffix(',')?;
    let mut pairs = rest.split('\x01').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == "auth")?;
    let (scheme, token) = value.split_once(' ')?;
    let id = id.strip_prefix("a=").or(Some(id).filter(|id| id.is_empty()))?;
    scheme.eq_ignore_ascii_case("bearer").then_some((id, token.trim()))
}

impl Scram {
    fn begin(book: &dyn Book, hash: Hash, message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        // Channel binding is not offered; whoever insists on it is refused.
        let (authorization_id, bare) = text.strip_prefix("n,")?.split_once(',')?;
        let mut parts = bare.split(',');
        let name = parts.next()?.strip_prefix("n=")?;
        let name = unescaped(name)?;
        let theirs = parts.next()?.strip_prefix("r=").filter(|nonce| !nonce.is_empty())?;
        let by_token = parts.any(|part| part == "tokenauth=true");
        let known = book.credential(&name, hash, by_token)?;
        if !authorization_id.is_empty() && unescaped(authorization_id.strip_prefix("a=")?)? != name {
            return None;
        }
        let nonce = format!("{theirs}{}", book.nonce()?);
        let Credential { salt, iterations, .. } = &known.credential;
        let challenge = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        let binding = match authorization_id {
            "" => NO_BINDING.to_string(),
            id => STANDARD.encode(format!("n,{id},")),
        };
        Some(Self { known, nonce, bare: bare.to_string(), challenge, binding, by_token })
    }

    fn finish(self, hash: Hash, message: &[u8]) -> Option<Step> {
        let text = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let binding = parts.next()?.strip_prefix("c=")?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        if binding != self.binding || nonce != self.nonce {
            return None;
        }
        let covered = format!("{},{},{without_proof}", self.bare, self.challenge);
        let Credential { stored_key, server_key, .. } = &self.known.credential;
        let signature = hash.keyed(stored_key, covered.as_bytes());
        let proof = STANDARD.decode(proof).ok().filter(|proof| proof.len() == signature.len())?;
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, sign)| proof ^ sign).collect();
        if !bool::from(hash.digest(&client_key).ct_eq(stored_key)) {
            return None;
        }
        let last = format!("v={}", STANDARD.encode(hash.keyed(server_key, covered.as_bytes())));
        let Known { name, ends_ms, .. } = self.known;
        Some(Step::Done(Proven { name, ends_ms, by_token: self.by_token }, last.into_bytes()))
    }
}

/// A name with its reserved signs, which must be escaped.
fn unescaped(name: &str) -> Option<String> {
    let plain = name.replace("=2C", ",").replace("=3D", "=");
    let escapes = name.matches("=2C").count() + name.matches("=3D").count();
    (name.matches('=').count() == escapes && !name.is_empty()).then_some(plain)
}
