//! Proving who one is: SASL, delegation tokens, SCRAM credentials.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::Str;

message! {
    /// Chooses the SASL mechanism.
    SaslHandshakeRequest: key 17, versions 0..=1, flexible never, answer SaslHandshakeResponse {
        mechanism: Str,
    }

    /// The mechanisms that the broker offers.
    SaslHandshakeResponse {
        error_code: ErrorCode,
        mechanisms: Vec<Str>,
    }

    /// Carries a token of the SASL mechanism (KIP-152).
    SaslAuthenticateRequest: key 36, versions 0..=2, flexible 2, answer SaslAuthenticateResponse {
        auth_bytes: Bytes,
    }

    /// The broker's token. Lifetime of the session: KIP-368.
    SaslAuthenticateResponse {
        error_code:          ErrorCode,
        error_message:       Option<Str>       = Some(Str::default()),
        auth_bytes:          Bytes,
        session_lifetime_ms: i64         [1..],
    }

    /// Asks for a delegation token (KIP-48). On behalf of another: KIP-373.
    CreateDelegationTokenRequest: key 38, versions 1..=3, flexible 2, answer CreateDelegationTokenResponse {
        owner_principal_type: Option<Str>           [3..] = Some(Str::default()),
        owner_principal_name: Option<Str>           [3..] = Some(Str::default()),
        renewers:             Vec<CreatableRenewer>,
        max_lifetime_ms:      i64,
    }

    /// A principal that may renew the token.
    CreatableRenewer {
        principal_type: Str,
        principal_name: Str,
    }

    /// The token.
    CreateDelegationTokenResponse {
        error_code:                     ErrorCode,
        principal_type:                 Str,
        principal_name:                 Str,
        token_requester_principal_type: Str       [3..],
        token_requester_principal_name: Str       [3..],
        issue_timestamp_ms:             i64,
        expiry_timestamp_ms:            i64,
        max_timestamp_ms:               i64,
        token_id:                       Str,
        hmac:                           Bytes,
        throttle_time_ms:               i32,
    }

    /// Renews a delegation token (KIP-48).
    RenewDelegationTokenRequest: key 39, versions 1..=2, flexible 2, answer RenewDelegationTokenResponse {
        hmac:            Bytes,
        renew_period_ms: i64,
    }

    /// When the token expires now.
    RenewDelegationTokenResponse {
        error_code:          ErrorCode,
        expiry_timestamp_ms: i64,
        throttle_time_ms:    i32,
    }

    /// Ends a delegation token, at once or later (KIP-48).
    ExpireDelegationTokenRequest: key 40, versions 1..=2, flexible 2, answer ExpireDelegationTokenResponse {
        hmac:                  Bytes,
        expiry_time_period_ms: i64,
    }

    /// When the token expires now.
    ExpireDelegationTokenResponse {
        error_code:          ErrorCode,
        expiry_timestamp_ms: i64,
        throttle_time_ms:    i32,
    }

    /// Asks for delegation tokens (KIP-48); null owners means all.
    DescribeDelegationTokenRequest: key 41, versions 1..=3, flexible 2, answer DescribeDelegationTokenResponse {
        owners: Option<Vec<DescribeDelegationTokenOwner>> = Some(Vec::new()),
    }

    /// A principal whose tokens to list.
    DescribeDelegationTokenOwner {
        principal_type: Str,
        principal_name: Str,
    }

    /// The tokens.
    DescribeDelegationTokenResponse {
        error_code:       ErrorCode,
        tokens:           Vec<DescribedDelegationToken>,
        throttle_time_ms: i32,
    }

    /// A token.
    DescribedDelegationToken {
        principal_type:                 Str,
        principal_name:                 Str,
        token_requester_principal_type: Str                                  [3..],
        token_requester_principal_name: Str                                  [3..],
        issue_timestamp:                i64,
        expiry_timestamp:               i64,
        max_timestamp:                  i64,
        token_id:                       Str,
        hmac:                           Bytes,
        renewers:                       Vec<DescribedDelegationTokenRenewer>,
    }

    /// A principal that may renew the token.
    DescribedDelegationTokenRenewer {
        principal_type: Str,
        principal_name: Str,
    }

    /// Asks which SCRAM credentials users have (KIP-554); null users means all.
    DescribeUserScramCredentialsRequest: key 50, versions 0..=0, flexible 0, answer DescribeUserScramCredentialsResponse {
        users: Option<Vec<ScramUser>> = Some(Vec::new()),
    }

    /// A user to ask about.
    ScramUser {
        name: Str,
    }

    /// The credentials, without their secrets.
    DescribeUserScramCredentialsResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        error_message:    Option<Str>                             = Some(Str::default()),
        results:          Vec<DescribeUserScramCredentialsResult>,
    }

    /// The credentials of one user.
    DescribeUserScramCredentialsResult {
        user:             Str,
        error_code:       ErrorCode,
        error_message:    Option<Str>              = Some(Str::default()),
        credential_infos: Vec<ScramCredentialInfo>,
    }

    /// A mechanism (1 SCRAM-SHA-256, 2 SCRAM-SHA-512) and its iterations.
    ScramCredentialInfo {
        mechanism:  i8,
        iterations: i32,
    }

    /// Sets and deletes SCRAM credentials (KIP-554). The salted password is computed by the client.
    AlterUserScramCredentialsRequest: key 51, versions 0..=0, flexible 0, answer AlterUserScramCredentialsResponse {
        deletions:  Vec<ScramCredentialDeletion>,
        upsertions: Vec<ScramCredentialUpsertion>,
    }

    /// A credential to delete.
    ScramCredentialDeletion {
        name:      Str,
        mechanism: i8,
    }

    /// A credential to set.
    ScramCredentialUpsertion {
        name:            Str,
        mechanism:       i8,
        iterations:      i32,
        salt:            Bytes,
        salted_password: Bytes,
    }

    /// The outcome for each user.
    AlterUserScramCredentialsResponse {
        throttle_time_ms: i32,
        results:          Vec<AlterUserScramCredentialsResult>,
    }

    /// The outcome for one user.
    AlterUserScramCredentialsResult {
        user:          Str,
        error_code:    ErrorCode,
        error_message: Option<Str> = Some(Str::default()),
    }
}
