//! Delegation tokens: created, renewed, ended, described (KIP-48, KIP-373).
//!
//! It owns the token as users see it. It refuses to print what logs in by it. Any broker is asked, by a connection that has
//! logged in by something else than a token.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ottla_protocol::api::Request;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    CreatableRenewer, CreateDelegationTokenRequest, DescribeDelegationTokenOwner,
    DescribeDelegationTokenRequest, DescribedDelegationToken, ExpireDelegationTokenRequest,
    RenewDelegationTokenRequest,
};
use ottla_protocol::wire::Str;

use super::nodes::Throttle;
use super::{Admin, checked};
use crate::error::Error;
use crate::security::{Sasl, Secret};

/// What is asked for with a new token (Java: `CreateDelegationTokenOptions`). The default: for oneself, that nobody else
/// renews, as long as the broker allows.
///
/// ```
/// use ottla::NewDelegationToken;
/// use std::time::Duration;
///
/// let short = NewDelegationToken { max_lifetime: Some(Duration::from_secs(3_600)), ..Default::default() };
/// assert!(short.renewers.is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewDelegationToken {
    /// Whom it logs in, such as `User:bob`, when that is somebody else (KIP-373; brokers from 3.3 on, which ask for `CreateTokens`).
    pub owner: Option<String>,
    /// Who may renew and end it beside its owner, such as `User:scheduler`.
    pub renewers: Vec<String>,
    /// Beyond this it cannot be renewed; `delegation.token.max.lifetime.ms` of the broker at most.
    pub max_lifetime: Option<Duration>,
}

/// A delegation token. It logs in whoever has it as its owner: keep it as a password is kept.
#[derive(Clone)]
#[non_exhaustive]
pub struct DelegationToken {
    /// Its id.
    pub id: String,
    /// Whom it logs in, such as `User:alice`.
    pub owner: String,
    /// Who asked for it; the owner, before Kafka 3.3.
    pub requester: String,
    /// Who may renew and end it as well.
    pub renewers: Vec<String>,
    /// When it was made, in milliseconds since the Unix epoch.
    pub issued_ms: i64,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: i64,
    /// Beyond this it cannot be renewed, in milliseconds since the Unix epoch.
    pub max_ms: i64,
    hmac: Secret,
}

impl std::fmt::Debug for DelegationToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DelegationToken")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("requester", &self.requester)
            .field("renewers", &self.renewers)
            .field("issued_ms", &self.issued_ms)
            .field("expires_ms", &self.expires_ms)
            .field("max_ms", &self.max_ms)
            .finish_non_exhaustive()
    }
}

impl DelegationToken {
    /// The login that it gives: SCRAM-SHA-512 with the token.
    pub fn sasl(&self) -> Sasl {
        Sasl::delegation_token(self.id.clone(), self.secret())
    }

    /// Its HMAC in base64, as Kafka's tools print it and other clients take it.
    pub fn secret(&self) -> Secret {
        Secret::from(STANDARD.encode(self.hmac.expose()))
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// What a principal is made of.
fn parts(principal: &str) -> (Str, Str) {
    let (kind, name) = principal.split_once(':').unwrap_or(("User", principal));
    (Str::from(kind), Str::from(name))
}

impl Admin {
    /// Makes a delegation token.
    ///
    /// # Errors
    /// [`Error::code`] says `DELEGATION_TOKEN_AUTH_DISABLED` where the broker has no secret for them,
    /// `DELEGATION_TOKEN_REQUEST_NOT_ALLOWED` where this client has not logged in, or has by a token; else that of the last
    /// attempt. An attempt without an answer, and cancelling, may leave a token behind that nobody knows; it expires.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// let token = admin.create_delegation_token(&ottla::NewDelegationToken::default()).await?;
    /// let client = ottla::Client::builder().bootstrap("broker:9094").sasl(token.sasl());
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_delegation_token(&self, new: &NewDelegationToken) -> Result<DelegationToken, Error> {
        let renewer = |it: &String| {
            let (principal_type, principal_name) = parts(it);
            CreatableRenewer { principal_type, principal_name }
        };
        let (owner_principal_type, owner_principal_name) = new.owner.as_deref().map(parts).unzip();
        let request = CreateDelegationTokenRequest {
            owner_principal_type,
            owner_principal_name,
            renewers: new.renewers.iter().map(renewer).collect(),
            max_lifetime_ms: new.max_lifetime.map_or(-1, millis),
        };
        let answer = self.ask_for_token(&request, |answer| answer.error_code).await?;
        let owner = format!("{}:{}", answer.principal_type, answer.principal_name);
        let (kind, name) = (&answer.token_requester_principal_type, &answer.token_requester_principal_name);
        Ok(DelegationToken {
            id: answer.token_id.to_string(),
            requester: if name.is_empty() { owner.clone() } else { format!("{kind}:{name}") },
            owner,
            renewers: new.renewers.clone(),
            issued_ms: answer.issue_timestamp_ms,
            expires_ms: answer.expiry_timestamp_ms,
            max_ms: answer.max_timestamp_ms,
            hmac: Secret::from(&answer.hmac[..]),
        })
    }

    /// Lets a token expire so late from now, or with `None` after the broker's `delegation.token.expiry.time.ms`; never later
    /// than it may be renewed. Says when it expires, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`Error::code`] says `DELEGATION_TOKEN_NOT_FOUND`, `DELEGATION_TOKEN_EXPIRED` or `DELEGATION_TOKEN_OWNER_MISMATCH`; else
    /// as [`create_delegation_token`](Admin::create_delegation_token). Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin, token: ottla::DelegationToken) -> Result<(), ottla::Error> {
    /// println!("expires at {}", admin.renew_delegation_token(&token, None).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn renew_delegation_token(
        &self,
        token: &DelegationToken,
        period: Option<Duration>,
    ) -> Result<i64, Error> {
        let hmac = token.hmac.expose().to_vec().into();
        let request = RenewDelegationTokenRequest { hmac, renew_period_ms: period.map_or(-1, millis) };
        let answer = self.ask_for_token(&request, |answer| answer.error_code).await?;
        Ok(answer.expiry_timestamp_ms)
    }

    /// Lets a token expire so late from now, or with `None` at once. Says when it expires, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`renew_delegation_token`](Admin::renew_delegation_token). An attempt without an answer may have ended the token, and
    /// the next one does not find it then. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin, token: ottla::DelegationToken) -> Result<(), ottla::Error> {
    /// admin.expire_delegation_token(&token, None).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn expire_delegation_token(
        &self,
        token: &DelegationToken,
        period: Option<Duration>,
    ) -> Result<i64, Error> {
        let hmac = token.hmac.expose().to_vec().into();
        let request = ExpireDelegationTokenRequest { hmac, expiry_time_period_ms: period.map_or(-1, millis) };
        let answer = self.ask_for_token(&request, |answer| answer.error_code).await?;
        Ok(answer.expiry_timestamp_ms)
    }

    /// Asks for the tokens of these owners, such as `User:alice`, or with `None` of all; those that this client may see.
    ///
    /// # Errors
    /// As [`create_delegation_token`](Admin::create_delegation_token). Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// for token in admin.describe_delegation_tokens(None).await? {
    ///     println!("{token:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_delegation_tokens(
        &self,
        owners: Option<&[&str]>,
    ) -> Result<Vec<DelegationToken>, Error> {
        let owner = |it: &&str| {
            let (principal_type, principal_name) = parts(it);
            DescribeDelegationTokenOwner { principal_type, principal_name }
        };
        let owners = owners.map(|owners| owners.iter().map(owner).collect());
        let request = DescribeDelegationTokenRequest { owners };
        let answer = self.ask_for_token(&request, |answer| answer.error_code).await?;
        Ok(answer.tokens.iter().map(described).collect())
    }

    async fn ask_for_token<R: Request>(
        &self,
        request: &R,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, Error>
    where
        R::Response: Throttle,
    {
        let mut attempts = self.attempts();
        loop {
            let answer = self.nodes.ask_any(request, attempts.deadline).await;
            let checked = answer.and_then(|it| checked(code(&it), None, "delegation token").map(|()| it));
            match checked {
                Ok(answer) => return Ok(answer),
                Err(cause) => attempts.pause(cause).await?,
            }
        }
    }
}

fn described(token: &DescribedDelegationToken) -> DelegationToken {
    let owner = format!("{}:{}", token.principal_type, token.principal_name);
    let (kind, name) = (&token.token_requester_principal_type, &token.token_requester_principal_name);
    let renewers = token.renewers.iter();
    DelegationToken {
        id: token.token_id.to_string(),
        requester: if name.is_empty() { owner.clone() } else { format!("{kind}:{name}") },
        owner,
        renewers: renewers.map(|it| format!("{}:{}", it.principal_type, it.principal_name)).collect(),
        issued_ms: token.issue_timestamp,
        expires_ms: token.expiry_timestamp,
        max_ms: token.max_timestamp,
        hmac: Secret::from(&token.hmac[..]),
    }
}
