//! SaslHandshake and SaslAuthenticate where nobody logs in.
//!
//! SaslHandshake versions 0 and 1, SaslAuthenticate versions 0 to 2. The logins themselves are answered by the server, for they
//! belong to a connection; what comes here comes by a listener without logins, or after one, and is ILLEGAL_SASL_STATE, as
//! in Kafka.

use super::{Caller, Refuse};
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use ottla_protocol::wire::Str;

impl Refuse for SaslHandshakeRequest {
    type Response = SaslHandshakeResponse;

    fn refuse(&self, error_code: ErrorCode) -> SaslHandshakeResponse {
        SaslHandshakeResponse { error_code, ..SaslHandshakeResponse::default() }
    }
}

impl Refuse for SaslAuthenticateRequest {
    type Response = SaslAuthenticateResponse;

    fn refuse(&self, error_code: ErrorCode) -> SaslAuthenticateResponse {
        let error_message = Some(Str::from_static(error_code.message()));
        SaslAuthenticateResponse { error_code, error_message, ..SaslAuthenticateResponse::default() }
    }
}

impl Cluster {
    pub(crate) fn sasl_handshake(
        &mut self,
        _: Now,
        _: &Caller,
        request: SaslHandshakeRequest,
    ) -> SaslHandshakeResponse {
        request.refuse(ErrorCode::ILLEGAL_SASL_STATE)
    }

    pub(crate) fn sasl_authenticate(
        &mut self,
        _: Now,
        _: &Caller,
        request: SaslAuthenticateRequest,
    ) -> SaslAuthenticateResponse {
        let reason = "SaslAuthenticate request received after successful authentication";
        let error_message = Some(Str::from_static(reason));
        SaslAuthenticateResponse { error_message, ..request.refuse(ErrorCode::ILLEGAL_SASL_STATE) }
    }
}
