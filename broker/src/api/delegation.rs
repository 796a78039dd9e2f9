//! CreateDelegationToken, RenewDelegationToken, ExpireDelegationToken and DescribeDelegationToken (KIP-48, KIP-373).
//!
//! Versions: Create 1 to 3, Renew and Expire 1 and 2, Describe 1 to 3: whole. Without `delegation.token.secret.key` all are
//! refused with DELEGATION_TOKEN_AUTH_DISABLED; whoever has not logged in, or has by a token, with
//! DELEGATION_TOKEN_REQUEST_NOT_ALLOWED. A token that has expired is not found, where Apache Kafka may still say
//! DELEGATION_TOKEN_EXPIRED until it cleans up. Tokens are kept in memory.

use super::{Caller, Refuse};
use crate::core::authorizer::{Kind, Operation};
use crate::core::tokens::Token;
use crate::core::users::Hash;
use crate::core::{Cluster, Now};
use bytes::Bytes;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    CreateDelegationTokenRequest, CreateDelegationTokenResponse, DescribeDelegationTokenRequest,
    DescribeDelegationTokenResponse, DescribedDelegationToken, DescribedDelegationTokenRenewer,
    ExpireDelegationTokenRequest, ExpireDelegationTokenResponse, RenewDelegationTokenRequest,
    RenewDelegationTokenResponse,
};
use ottla_protocol::wire::Str;
use std::time::Duration;

/// The only type of principals that can have tokens.
const USER: &str = "User";
const ANONYMOUS: &str = "User:ANONYMOUS";

impl Refuse for CreateDelegationTokenRequest {
    type Response = CreateDelegationTokenResponse;

    fn refuse(&self, error_code: ErrorCode) -> CreateDelegationTokenResponse {
        CreateDelegationTokenResponse {
            error_code,
            issue_timestamp_ms: -1,
            expiry_timestamp_ms: -1,
            max_timestamp_ms: -1,
            ..CreateDelegationTokenResponse::default()
        }
    }
}

impl Refuse for RenewDelegationTokenRequest {
    type Response = RenewDelegationTokenResponse;

    fn refuse(&self, error_code: ErrorCode) -> RenewDelegationTokenResponse {
        RenewDelegationTokenResponse { error_code, expiry_timestamp_ms: -1, throttle_time_ms: 0 }
    }
}

impl Refuse for ExpireDelegationTokenRequest {
    type Response = ExpireDelegationTokenResponse;

    fn refuse(&self, error_code: ErrorCode) -> ExpireDelegationTokenResponse {
        ExpireDelegationTokenResponse { error_code, expiry_timestamp_ms: -1, throttle_time_ms: 0 }
    }
}

impl Refuse for DescribeDelegationTokenRequest {
    type Response = DescribeDelegationTokenResponse;

    fn refuse(&self, error_code: ErrorCode) -> DescribeDelegationTokenResponse {
        DescribeDelegationTokenResponse { error_code, ..DescribeDelegationTokenResponse::default() }
    }
}

fn principal(kind: &str, name: &str) -> Str {
    Str::from(format!("{kind}:{name}"))
}

/// Type and name of a principal.
fn parts(principal: &str) -> (Str, Str) {
    let (kind, name) = principal.split_once(':').unwrap_or((USER, principal));
    (Str::from(kind), Str::from(name))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Cluster {
    /// The broker's secret, if somebody may ask for tokens at all.
    fn token_secret(&self, caller: &Caller) -> Result<String, ErrorCode> {
        let has_logged_in = !caller.principal.is_empty() && *caller.principal != *ANONYMOUS;
        if !has_logged_in || caller.by_token {
            return Err(ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED);
        }
        let secret = self.settings.access.tokens.secret.clone();
        secret.ok_or(ErrorCode::DELEGATION_TOKEN_AUTH_DISABLED)
    }

    pub(crate) fn create_delegation_token(
        &mut self,
        now: Now,
        caller: &Caller,
        request: CreateDelegationTokenRequest,
    ) -> CreateDelegationTokenResponse {
        let token = match self.new_token(now, caller, &request) {
            Ok(token) => token,
            Err(code) => return request.refuse(code),
        };
        let (principal_type, principal_name) = parts(&token.owner);
        let (requester_type, requester_name) = parts(&token.requester);
        self.tokens.insert(token.clone());
        CreateDelegationTokenResponse {
            error_code: ErrorCode::NONE,
            principal_type,
            principal_name,
            token_requester_principal_type: requester_type,
            token_requester_principal_name: requester_name,
            issue_timestamp_ms: token.issued_ms,
            expiry_timestamp_ms: token.expires_ms,
            max_timestamp_ms: token.ends_ms,
            token_id: token.id,
            hmac: Bytes::from(token.hmac),
            throttle_time_ms: 0,
        }
    }

    fn new_token(
        &mut self,
        now: Now,
        caller: &Caller,
        request: &CreateDelegationTokenRequest,
    ) -> Result<Token, ErrorCode> {
        let secret = self.token_secret(caller)?;
        let requester = Str::from(&*caller.principal);
        let owner = match (&request.owner_principal_type, &request.owner_principal_name) {
            (Some(kind), Some(name)) if !name.is_empty() => principal(kind, name),
            _ => requester.clone(),
        };
        if owner != requester {
            self.access.check_tokens(caller, &owner, Operation::CreateTokens)?;
        }
        if !owner.starts_with("User:") || request.renewers.iter().any(|it| *it.principal_type != *USER) {
            return Err(ErrorCode::INVALID_PRINCIPAL_TYPE);
        }
        let settings = &self.settings.access.tokens;
        let most = milliseconds(settings.lifetime_max);
        let lifetime = if request.max_lifetime_ms < 0 { most } else { request.max_lifetime_ms.min(most) };
        let ends_ms = now.wall_ms.saturating_add(lifetime);
        let expires_ms = ends_ms.min(now.wall_ms.saturating_add(milliseconds(settings.expiry)));
        let id = Str::from(self.random.uuid().to_string());
        let renewers = request.renewers.iter();
        Ok(Token {
            hmac: Hash::Sha512.keyed(secret.as_bytes(), id.as_bytes()),
            id,
            owner,
            requester,
            renewers: renewers.map(|it| principal(&it.principal_type, &it.principal_name)).collect(),
            issued_ms: now.wall_ms,
            expires_ms,
            ends_ms,
        })
    }

    pub(crate) fn renew_delegation_token(
        &mut self,
        now: Now,
        caller: &Caller,
        request: RenewDelegationTokenRequest,
    ) -> RenewDelegationTokenResponse {
        let period = match request.renew_period_ms {
            ..0 => milliseconds(self.settings.access.tokens.expiry),
            period => period,
        };
        match self.move_expiry(now, caller, &request.hmac, period) {
            Ok(expiry_timestamp_ms) => {
                RenewDelegationTokenResponse { expiry_timestamp_ms, ..request.refuse(ErrorCode::NONE) }
            }
            Err(code) => request.refuse(code),
        }
    }

    pub(crate) fn expire_delegation_token(
        &mut self,
        now: Now,
        caller: &Caller,
        request: ExpireDelegationTokenRequest,
    ) -> ExpireDelegationTokenResponse {
        match self.move_expiry(now, caller, &request.hmac, request.expiry_time_period_ms) {
            Ok(expiry_timestamp_ms) => {
                ExpireDelegationTokenResponse { expiry_timestamp_ms, ..request.refuse(ErrorCode::NONE) }
            }
            Err(code) => request.refuse(code),
        }
    }

    /// Lets a token expire so late from now, or at once: when it expires.
    fn move_expiry(
        &mut self,
        now: Now,
        caller: &Caller,
        hmac: &[u8],
        period_ms: i64,
    ) -> Result<i64, ErrorCode> {
        self.token_secret(caller)?;
        let now_ms = now.wall_ms;
        let token = self.tokens.find(hmac, now_ms).ok_or(ErrorCode::DELEGATION_TOKEN_NOT_FOUND)?;
        if !token.concerns(&caller.principal) {
            return Err(ErrorCode::DELEGATION_TOKEN_OWNER_MISMATCH);
        }
        if period_ms < 0 {
            let id = token.id.clone();
            self.tokens.remove(&id);
            return Ok(now_ms);
        }
        token.expires_ms = token.ends_ms.min(now_ms.saturating_add(period_ms));
        Ok(token.expires_ms)
    }

    pub(crate) fn describe_delegation_token(
        &mut self,
        now: Now,
        caller: &Caller,
        request: DescribeDelegationTokenRequest,
    ) -> DescribeDelegationTokenResponse {
        if let Err(code) = self.token_secret(caller) {
            return request.refuse(code);
        }
        let owners: Option<Vec<Str>> = request.owners.map(|owners| {
            owners.iter().map(|it| principal(&it.principal_type, &it.principal_name)).collect()
        });
        let Self { tokens, access, .. } = self;
        let is_shown = |token: &&Token| {
            let is_meant = owners.as_ref().is_none_or(|all| all.iter().any(|it| token.concerns(it)));
            let may = || {
                access.check(caller, Kind::DelegationToken, &token.id, Operation::Describe).is_ok()
                    || access.check_tokens(caller, &token.owner, Operation::DescribeTokens).is_ok()
            };
            is_meant && (token.concerns(&caller.principal) || may())
        };
        let tokens = tokens.iter(now.wall_ms).filter(is_shown).map(described).collect();
        DescribeDelegationTokenResponse { tokens, ..DescribeDelegationTokenResponse::default() }
    }
}

fn described(token: &Token) -> DescribedDelegationToken {
    let (principal_type, principal_name) = parts(&token.owner);
    let (requester_type, requester_name) = parts(&token.requester);
    let renewer = |it: &Str| {
        let (principal_type, principal_name) = parts(it);
        DescribedDelegationTokenRenewer { principal_type, principal_name }
    };
    DescribedDelegationToken {
        principal_type,
        principal_name,
        token_requester_principal_type: requester_type,
        token_requester_principal_name: requester_name,
        issue_timestamp: token.issued_ms,
        expiry_timestamp: token.expires_ms,
        max_timestamp: token.ends_ms,
        token_id: token.id.clone(),
        hmac: Bytes::from(token.hmac.clone()),
        renewers: token.renewers.iter().map(renewer).collect(),
    }
}
