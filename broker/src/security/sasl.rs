//! What a listener knows of logins: its mechanisms, the users of PLAIN, whose tokens are believed, how long a session lasts.
//!
//! It owns the reading of `sasl.jaas.config`. Invariant: no error and no text of it holds a password.

use super::token::Verifier;
use super::{Scope, refused};
use crate::core::settings::SettingError;
use crate::core::users::Hash;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

const JAAS: &str = "sasl.jaas.config";
const USER: &str = "user_";

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    Scram(Hash),
    OAuthBearer,
}

impl Mechanism {
    const ALL: [Self; 4] =
        [Self::Plain, Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512), Self::OAuthBearer];

    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }
}

/// A mechanism that a listener offers.
pub(crate) struct Offer {
    pub(crate) mechanism: Mechanism,
    /// How long a session lasts before the client must log in again (KIP-368).
    pub(crate) session: Option<Duration>,
}

/// See the head of the file.
pub(crate) struct Sasl {
    pub(crate) offers: Vec<Offer>,
    pub(super) passwords: BTreeMap<String, String>,
    pub(super) verifier: Option<Verifier>,
    /// How long a client waits for a refusal.
    pub(crate) refusal_delay: Duration,
    pub(crate) token_bytes_max: usize,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mechanisms: Vec<_> = self.offers.iter().map(|offer| offer.mechanism).collect();
        f.debug_struct("Sasl").field("mechanisms", &mechanisms).finish_non_exhaustive()
    }
}

impl Sasl {
    pub(super) fn new(scope: Scope<'_>, users: &[(String, String)]) -> Result<Self, SettingError> {
        let names = scope.get("sasl.enabled.mechanisms").unwrap_or_default().split(',').map(str::trim);
        let mechanisms: Vec<Mechanism> = names.filter_map(Mechanism::find).collect();
        if mechanisms.is_empty() {
            return Err(refused("listeners", scope.listener, "sasl.enabled.mechanisms beside it"));
        }
        let session = |mechanism: Mechanism| {
            let text = scope.of(mechanism.name(), "connections.max.reauth.ms")?;
            text.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis)
        };
        let mut passwords: BTreeMap<String, String> = users.iter().cloned().collect();
        let mut verifier = None;
        for mechanism in &mechanisms {
            let jaas = scope.of(mechanism.name(), JAAS).filter(|text| !text.is_empty());
            let options = jaas.map_or(Ok(BTreeMap::new()), options)?;
            match mechanism {
                Mechanism::Plain => {
                    let named = options.into_iter();
                    let named = named.filter_map(|(key, it)| Some((key.strip_prefix(USER)?.to_string(), it)));
                    passwords.extend(named);
                }
                Mechanism::OAuthBearer => verifier = Some(Verifier::new(scope, &options)?),
                Mechanism::Scram(_) => {}
            }
        }
        let offers = mechanisms.into_iter().map(|it| Offer { mechanism: it, session: session(it) }).collect();
        let delay = scope.number("connection.failed.authentication.delay.ms", 100);
        let bytes = scope.number("sasl.server.max.receive.size", 524_288);
        Ok(Self {
            offers,
            passwords,
            verifier,
            refusal_delay: Duration::from_millis(delay),
            token_bytes_max: usize::try_from(bytes).unwrap_or(usize::MAX),
        })
    }

    pub(crate) fn offer(&self, name: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.mechanism.name() == name)
    }
}

/// The options of the first login module of a JAAS text: `module flag key="value" key=value;`.
fn options(jaas: &str) -> Result<BTreeMap<String, String>, SettingError> {
    let bad = || refused(JAAS, "...", "MODULE required NAME=\"VALUE\" ...; as Kafka writes it");
    let mut words = Vec::new();
    let (mut word, mut quoted, mut escaped, mut ended) = (String::new(), None, false, false);
    for c in jaas.chars() {
        match (c, quoted) {
            (c, Some(_)) if escaped => {
                word.push(c);
                escaped = false;
            }
            ('\\', Some(_)) => escaped = true,
            (c, Some(quote)) if c == quote => quoted = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => quoted = Some(c),
            (';', None) => {
                ended = true;
                break;
            }
            (c, None) if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            (c, None) => word.push(c),
        }
    }
    words.push(word);
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    if !ended || quoted.is_some() || words.next().is_none() || words.next().is_none() {
        return Err(bad());
    }
    let pair = |word: String| {
        let (name, value) = word.split_once('=').ok_or_else(bad)?;
        Ok((name.to_string(), value.to_string()))
    };
    words.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_people_paste_them() {
        let read = options(
            "org.apache.kafka.common.security.plain.PlainLoginModule required\n  user_alice=\"a;=\\\"b\" user_bob='c d' x=y;",
        )
        .unwrap();
        let expected = [("user_alice", "a;=\"b"), ("user_bob", "c d"), ("x", "y")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_string(), value.to_string())).into());
        for canary in ["Module required user_alice=\"canary", "Module required user_alice=canary", "canary;"]
        {
            assert!(!options(canary).unwrap_err().to_string().contains("canary"));
        }
    }
}
