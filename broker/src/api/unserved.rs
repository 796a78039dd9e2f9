//! APIs that Kafka has and this broker does not serve.
//!
//! Versions: none of these is served in any version, and nothing of a request is looked at.
//!
//! A client that asks for one without having seen it advertised gets UNSUPPORTED_VERSION, wherever the answer has a place
//! for an error of the whole request. The others can only be answered by closing the connection, as Kafka does with an
//! API that it does not have.

use ottla_protocol::api::{ApiKey, Request};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame::{Frame, encode_response};
use ottla_protocol::messages::*;
use ottla_protocol::wire::EncodeError;

macro_rules! refusals {
    ($($request:ident => $response:ident,)+) => {
        /// Appends the refusal of a request to `frame`. False when there is no way to say it.
        pub(crate) fn refuse(
            key: ApiKey,
            version: i16,
            correlation_id: i32,
            frame: &mut Frame,
        ) -> Result<bool, EncodeError> {
            $( if key == $request::KEY && $request::VERSIONS.contains(&version) {
                let response =
                    $response { error_code: ErrorCode::UNSUPPORTED_VERSION, ..$response::default() };
                let flexible = version >= $request::FLEXIBLE;
                return encode_response(key, flexible, &response, version, correlation_id, frame).map(|()| true);
            } )+
            Ok(false)
        }
    };
}

refusals! {
    DescribeClientQuotasRequest => DescribeClientQuotasResponse,
    DescribeQuorumRequest => DescribeQuorumResponse,
    UpdateFeaturesRequest => UpdateFeaturesResponse,
    UnregisterBrokerRequest => UnregisterBrokerResponse,
    GetTelemetrySubscriptionsRequest => GetTelemetrySubscriptionsResponse,
    PushTelemetryRequest => PushTelemetryResponse,
    ListConfigResourcesRequest => ListConfigResourcesResponse,
    ShareGroupHeartbeatRequest => ShareGroupHeartbeatResponse,
    ShareFetchRequest => ShareFetchResponse,
    ShareAcknowledgeRequest => ShareAcknowledgeResponse,
}
