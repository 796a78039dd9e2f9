//! Who this client says it is: the SASL mechanisms and their credentials, and the messages of each login.
//!
//! It owns the first word of a mechanism and what follows from the broker's answer. It refuses to know connections.
//! Invariant: the mechanism is what the settings say; what a broker offers changes nothing (SEC7).

use std::fmt;
use std::sync::Arc;

use super::Secret;
use super::keeper::{Keeper, TokenRefresh};
use super::scram::{Challenge, Expected, Hash, Scram};
use super::token::{TokenError, TokenProvider};
use crate::world::World;

/// How a client proves who it is, with the credentials for it (`sasl.mechanism` and `sasl.jaas.config`).
///
/// ```
/// # fn main() -> Result<(), ottla::Error> {
/// use ottla::{Client, Sasl, Tls};
///
/// let client = Client::builder()
///     .bootstrap("broker.example.com:9094")
///     .tls(Tls::new())
///     .sasl(Sasl::scram_sha_512("alice", "wallace"))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Sasl {
    credentials: Credentials,
}

#[derive(Clone)]
enum Credentials {
    Plain { user: String, password: Secret },
    Scram { hash: Hash, user: String, password: Secret, is_token: bool },
    OAuthBearer(Arc<Keeper>),
}

impl Sasl {
    /// Name and password, which the broker gets to see: use it with TLS.
    pub fn plain(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        let (user, password) = (user.into(), password.into());
        Sasl { credentials: Credentials::Plain { user, password } }
    }

    /// SCRAM-SHA-256: both sides show that they know the password, nobody sends it.
    pub fn scram_sha_256(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Sasl::scram(Hash::Sha256, user.into(), password.into(), false)
    }

    /// SCRAM-SHA-512.
    pub fn scram_sha_512(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Sasl::scram(Hash::Sha512, user.into(), password.into(), false)
    }

    /// A delegation token (KIP-48), as SCRAM-SHA-512 carries it: the token's id, and its HMAC in base64.
    pub fn delegation_token(id: impl Into<String>, hmac: impl Into<Secret>) -> Self {
        Sasl::scram(Hash::Sha512, id.into(), hmac.into(), true)
    }

    pub(crate) fn scram(hash: Hash, user: String, password: Secret, is_token: bool) -> Self {
        Sasl { credentials: Credentials::Scram { hash, user, password, is_token } }
    }

    /// OAUTHBEARER (KIP-255): the tokens of an identity provider, which the broker gets to see: use it with TLS. Tokens that say
    /// how long they are [valid](crate::Token::valid_for) are kept and replaced in time; others are asked for at each login.
    ///
    /// ```
    /// use ottla::{Sasl, Token};
    ///
    /// let sasl = Sasl::oauth_bearer(|| async { Ok(Token::new(std::env::var("TOKEN")?)) });
    /// ```
    pub fn oauth_bearer(provider: impl TokenProvider) -> Self {
        let keeper = Keeper::new(Arc::new(provider), TokenRefresh::default());
        Sasl { credentials: Credentials::OAuthBearer(Arc::new(keeper)) }
    }

    /// When a token is replaced by the next one, where they say how long they are valid. Of no effect on other mechanisms.
    pub fn token_refresh(mut self, refresh: TokenRefresh) -> Self {
        if let Credentials::OAuthBearer(keeper) = &self.credentials {
            self.credentials = Credentials::OAuthBearer(Arc::new(keeper.with(refresh)));
        }
        self
    }

    /// When tokens are replaced, if there are tokens.
    pub(crate) fn refresh(&self) -> Option<&TokenRefresh> {
        match &self.credentials {
            Credentials::OAuthBearer(keeper) => Some(keeper.refresh()),
            _ => None,
        }
    }

    /// Whether a text of the broker repeats the secret that it was told: then nobody is to read it. `first` is the login's first
    /// message.
    pub(crate) fn is_repeated(&self, first: &[u8], text: &str) -> bool {
        let secret = match &self.credentials {
            Credentials::Plain { password, .. } | Credentials::Scram { password, .. } => password.expose(),
            // `n,,`, `auth=Bearer`, and the token.
            Credentials::OAuthBearer(_) => first.split(|byte| *byte <= b' ').nth(2).unwrap_or_default(),
        };
        !secret.is_empty() && text.as_bytes().windows(secret.len()).any(|part| part == secret)
    }

    /// A broker has refused what [`begin`](Self::begin) gave.
    pub(crate) fn refused(&self) {
        if let Credentials::OAuthBearer(keeper) = &self.credentials {
            keeper.refused();
        }
    }

    /// The mechanism by its registered name.
    pub fn mechanism(&self) -> &'static str {
        match &self.credentials {
            Credentials::Plain { .. } => "PLAIN",
            Credentials::Scram { hash: Hash::Sha256, .. } => "SCRAM-SHA-256",
            Credentials::Scram { hash: Hash::Sha512, .. } => "SCRAM-SHA-512",
            Credentials::OAuthBearer(_) => "OAUTHBEARER",
        }
    }

    /// Begins a login: what to send first, and what comes after. `nonce` is used once.
    ///
    /// # Errors
    /// There is no token.
    pub(crate) async fn begin(
        &self,
        nonce: String,
        world: &dyn World,
    ) -> Result<(Secret, Login), TokenError> {
        Ok(match &self.credentials {
            Credentials::Plain { user, password } => {
                let message = [b"\0", user.as_bytes(), b"\0", password.expose()].concat();
                (Secret::from(message), Login::Last)
            }
            Credentials::Scram { hash, user, password, is_token } => {
                let scram = Scram::new(*hash, user, password.clone(), *is_token, nonce);
                (Secret::from(scram.first()), Login::Scram(scram))
            }
            Credentials::OAuthBearer(keeper) => {
                let token = keeper.token(world).await?;
                let told: usize =
                    token.extensions.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
                let (head, value) = (b"n,,\x01auth=Bearer ", token.value.expose());
                // As long as it becomes: what grows leaves copies behind that nobody wipes.
                let mut message = Vec::with_capacity(head.len() + value.len() + told + 2);
                message.extend_from_slice(head);
                message.extend_from_slice(value);
                for (name, value) in &token.extensions {
                    message.extend_from_slice(format!("\x01{name}={value}").as_bytes());
                }
                message.extend_from_slice(b"\x01\x01");
                (Secret::from(message), Login::OAuthBearer)
            }
        })
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl").field("mechanism", &self.mechanism()).finish_non_exhaustive()
    }
}

/// What is still to come of a login, after a message of ours.
pub(crate) enum Login {
    /// The broker's answer is the last word.
    Last,
    /// An answer that says something is a refusal, which must be acknowledged before the broker names its error.
    OAuthBearer,
    Scram(Scram),
    Signature(Expected),
}

/// What to do after an answer of the broker.
pub(crate) enum Next {
    Done,
    Send(Vec<u8>, Login),
    /// Work out the answer, which takes long; send it.
    Compute(Challenge),
}

impl Login {
    /// # Errors
    /// What is wrong with the broker's answer.
    pub(crate) fn answered(self, answer: &[u8]) -> Result<Next, String> {
        match self {
            Login::Last => Ok(Next::Done),
            Login::OAuthBearer if answer.is_empty() => Ok(Next::Done),
            Login::OAuthBearer => Ok(Next::Send(vec![1], Login::Last)),
            Login::Scram(scram) => scram.challenged(answer).map(Next::Compute),
            Login::Signature(expected) => expected.check(answer).map(|()| Next::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Token;
    use super::*;
    use crate::connect::Tcp;

    async fn first(sasl: &Sasl) -> Vec<u8> {
        sasl.begin("nonce".into(), &Tcp::default()).await.expect("nothing is missing").0.expose().to_vec()
    }

    #[tokio::test]
    async fn each_mechanism_says_its_first_word_as_its_standard_has_it() {
        assert_eq!(first(&Sasl::plain("alice", "secret")).await, b"\0alice\0secret");
        assert_eq!(first(&Sasl::scram_sha_256("alice", "secret")).await, b"n,,n=alice,r=nonce");
        assert_eq!(first(&Sasl::delegation_token("id", "hmac")).await, b"n,,n=id,r=nonce,tokenauth=true");
        let provider = || async { Ok(Token::new("a.b.c").extension("logicalCluster", "lkc-1")) };
        let oauth = first(&Sasl::oauth_bearer(provider)).await;
        assert_eq!(oauth, b"n,,\x01auth=Bearer a.b.c\x01logicalCluster=lkc-1\x01\x01");
    }

    #[tokio::test]
    async fn a_provider_without_a_token_ends_the_login() {
        let sasl = Sasl::oauth_bearer(|| async { Err("the identity provider is down".into()) });
        let begun = sasl.begin(String::new(), &Tcp::default()).await;
        assert!(begun.is_err_and(|cause| cause.to_string().contains("is down")));
    }

    #[test]
    fn a_refused_token_is_acknowledged_before_the_broker_says_why() {
        let next = Login::OAuthBearer.answered(br#"{"status":"invalid_token"}"#).expect("is no violation");
        assert!(matches!(next, Next::Send(bytes, Login::Last) if bytes == [1]));
    }

    /// SEC10.
    #[test]
    fn credentials_do_not_print() {
        let canary = "canary-secret";
        for sasl in
            [Sasl::plain("a", canary), Sasl::scram_sha_512("a", canary), Sasl::delegation_token("a", canary)]
        {
            assert!(!format!("{sasl:?}").contains(canary));
        }
        assert!(!format!("{:?}", Token::new(canary)).contains(canary));
    }
}
