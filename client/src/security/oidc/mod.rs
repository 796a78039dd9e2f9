//! Tokens by OpenID Connect: client credentials (KIP-768, KIP-1258) and JWT bearer assertions (KIP-1139).
//!
//! It owns what is asked of an identity provider and what is believed of its answer. It refuses to keep tokens, which the keeper
//! does, and to check them, which brokers do. Invariant: no error says what was sent, or what the provider answered.

mod assertion;
mod http;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::token::{Token, TokenError, TokenFuture, TokenProvider};
use super::{Secret, Tls, Trust};
use crate::config::ConfigError;
use crate::error::Error;
use crate::world::wall_ms;
use assertion::Signer;
pub use assertion::{Assertion, AssertionAlgorithm};
use http::{Endpoint, Form};

const URL: &str = "sasl.oauthbearer.token.endpoint.url";
/// RFC 7523, section 2.2.
const ASSERTION_TYPE: &[u8] = b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// RFC 7523, section 2.1.
const JWT_BEARER: &[u8] = b"urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Gets tokens for OAUTHBEARER from an identity provider. Needs the feature `oidc`.
///
/// Tokens are kept for as long as the provider says, and replaced ahead of time; see [`TokenRefresh`](crate::TokenRefresh). While the
/// provider is out of reach or out of order, logins are tried again; a refusal ends them with
/// [`ErrorKind::Authentication`](crate::ErrorKind::Authentication).
///
/// ```
/// # fn main() -> Result<(), ottla::Error> {
/// use ottla::{Client, Oidc, Sasl, Tls};
///
/// let oidc = Oidc::client_credentials("https://idp.example.com/oauth2/token", "billing", "secret")
///     .scope("kafka")
///     .tls(Tls::new());
/// # let oidc = oidc.tls(Tls::new().roots_pem(include_str!("../../config/tests/ca.pem")));
/// let client = Client::builder()
///     .bootstrap("broker.example.com:9093")
///     .tls(Tls::new())
///     .sasl(Sasl::oauth_bearer(oidc.build()?));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Oidc {
    url: String,
    grant: Grant,
    scope: Option<String>,
    extensions: Vec<(String, String)>,
    tls: Option<Tls>,
    encode_header: bool,
    https_only: bool,
    connect_timeout: Duration,
    read_timeout: Duration,
}

#[derive(Clone)]
enum Grant {
    Secret { id: String, secret: Secret },
    Statement { id: Option<String>, assertion: Assertion },
    JwtBearer(Assertion),
}

impl Oidc {
    fn new(url: String, grant: Grant) -> Self {
        let (connect_timeout, read_timeout) = (Duration::from_secs(10), Duration::from_secs(10));
        Oidc {
            url,
            grant,
            scope: None,
            extensions: Vec::new(),
            tls: None,
            encode_header: false,
            https_only: true,
            connect_timeout,
            read_timeout,
        }
    }

    /// The client credentials grant (KIP-768): the endpoint's URL, https, and what it knows the client by.
    pub fn client_credentials(
        url: impl Into<String>,
        id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Self {
        Oidc::new(url.into(), Grant::Secret { id: id.into(), secret: secret.into() })
    }

    /// The client credentials grant, where the client shows a signed statement in the place of a secret (KIP-1258). Without an
    /// id the statement says who it is.
    pub fn client_assertion(url: impl Into<String>, id: Option<String>, assertion: Assertion) -> Self {
        Oidc::new(url.into(), Grant::Statement { id, assertion })
    }

    /// The JWT bearer grant (KIP-1139): a signed statement is exchanged for a token.
    pub fn jwt_bearer(url: impl Into<String>, assertion: Assertion) -> Self {
        Oidc::new(url.into(), Grant::JwtBearer(assertion))
    }

    /// What the token is to allow (`sasl.oauthbearer.scope`). Default: what the provider gives.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into()).filter(|scope| !scope.is_empty());
        self
    }

    /// Tells the broker something beside the token (KIP-342).
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// How the identity provider is recognised. Default: by the operating system's roots; what is configured for brokers is not
    /// used here.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Encodes id and secret as in a URL before they go into the header (`sasl.oauthbearer.header.urlencode`), as RFC 6749 says and
    /// not every provider understands. Default: as they are.
    pub fn encode_header(mut self) -> Self {
        self.encode_header = true;
        self
    }

    /// How long connecting, and then asking, may take (`sasl.login.connect.timeout.ms`, `sasl.login.read.timeout.ms`). A login
    /// itself waits for `socket.connection.setup.timeout.ms` at most. Default 10 s each.
    pub fn timeouts(mut self, connect: Duration, read: Duration) -> Self {
        (self.connect_timeout, self.read_timeout) = (connect, read);
        self
    }

    /// Takes a URL with http as well: everybody on the way can then read the client's secret and its tokens.
    pub fn danger_allow_http(mut self) -> Self {
        self.https_only = false;
        self
    }

    /// Checks the settings and reads the files. Nobody is asked yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): the URL is not https, or a file is not what it should be.
    pub fn build(self) -> Result<impl TokenProvider + use<>, Error> {
        Ok(self.provider()?)
    }

    pub(crate) fn provider(self) -> Result<Provider, ConfigError> {
        let trust = match self.https_only || self.url.starts_with("https:") {
            true => Some(Arc::new(Trust::load(self.tls.unwrap_or_default())?)),
            false => None,
        };
        let (connect, read) = (self.connect_timeout, self.read_timeout);
        let endpoint =
            Endpoint::new(&self.url, self.https_only, trust, connect, read).map_err(|expected| {
                // Never the URL itself: people put secrets into them.
                let (value, expected) = ("what was given".to_owned(), expected.to_owned());
                ConfigError::BadValue { key: URL, value, expected, nearest: None }
            })?;
        let asking = match self.grant {
            Grant::Secret { id, secret } => Asking::Secret(header(&id, &secret, self.encode_header)),
            Grant::Statement { id, assertion } => Asking::Statement(id, assertion.build()?),
            Grant::JwtBearer(assertion) => Asking::JwtBearer(assertion.build()?),
        };
        let (scope, extensions) = (self.scope, self.extensions);
        Ok(Provider(Arc::new(Inner { endpoint, asking, scope, extensions })))
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// `Basic`, as RFC 6749 has it, section 2.3.1.
fn header(id: &str, secret: &Secret, encoded: bool) -> Secret {
    let mut plain = zeroize::Zeroizing::new(Vec::new());
    let part = |value: &[u8]| match encoded {
        true => {
            let mut text = String::new();
            http::encode(value, &mut text);
            text.into_bytes()
        }
        false => value.to_vec(),
    };
    plain.extend(part(id.as_bytes()));
    plain.push(b':');
    plain.extend(part(secret.expose()));
    Secret::from(format!("Basic {}", STANDARD.encode(&*plain)))
}

/// What [`Oidc::build`] makes.
#[derive(Clone)]
pub(crate) struct Provider(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    asking: Asking,
    scope: Option<String>,
    extensions: Vec<(String, String)>,
}

enum Asking {
    /// By the header `Authorization`.
    Secret(Secret),
    Statement(Option<String>, Signer),
    JwtBearer(Signer),
}

impl TokenProvider for Provider {
    fn token(&self) -> TokenFuture {
        let inner = self.0.clone();
        Box::pin(async move { inner.get().await })
    }
}

impl Inner {
    async fn get(&self) -> Result<Token, TokenError> {
        let mut form = Form::new();
        let mut login = None;
        match &self.asking {
            Asking::Secret(header) => {
                form = form.field("grant_type", b"client_credentials");
                login = Some(header);
            }
            Asking::Statement(id, signer) => {
                form = form.field("grant_type", b"client_credentials");
                form = form.field("client_assertion_type", ASSERTION_TYPE);
                form = form.field("client_assertion", signer.statement(wall_ms())?.expose());
                if let Some(id) = id {
                    form = form.field("client_id", id.as_bytes());
                }
            }
            Asking::JwtBearer(signer) => {
                form = form.field("grant_type", JWT_BEARER);
                form = form.field("assertion", signer.statement(wall_ms())?.expose());
            }
        }
        if let Some(scope) = &self.scope {
            form = form.field("scope", scope.as_bytes());
        }
        let answer = self.endpoint.post(form, login).await?.json()?;
        let mut token = read(&answer, wall_ms())?;
        token.extensions.extend(self.extensions.iter().cloned());
        Ok(token)
    }
}

/// The token of an answer, with how long it is valid by the answer or else by its own claims.
fn read(answer: &Value, wall_ms: i64) -> Result<Token, TokenError> {
    let text = answer["access_token"].as_str().or_else(|| answer["id_token"].as_str());
    let text = text.ok_or("the answer holds no token")?;
    if answer["token_type"].as_str().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("the answer holds a token of another kind than Bearer".into());
    }
    let token = Token::new(text);
    token.check().map_err(|cause| format!("the answer holds no token: {cause}"))?;
    let said = match &answer["expires_in"] {
        Value::String(text) => text.parse::<i64>().ok(),
        value => value.as_f64().map(|seconds| seconds as i64),
    };
    match said.or_else(|| Some(expiry(text)?.saturating_sub(wall_ms.div_euclid(1_000)))) {
        None => Ok(token),
        Some(seconds) if seconds > 0 => Ok(token.valid_for(Duration::from_secs(seconds.unsigned_abs()))),
        Some(_) => Err("the token that came has ended already: look at the clocks".into()),
    }
}

/// When a JWT ends by its own words, in seconds since the Unix epoch. Nothing is verified: brokers do that.
fn expiry(token: &str) -> Option<i64> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims["exp"].as_f64().map(|seconds| seconds as i64)
}
