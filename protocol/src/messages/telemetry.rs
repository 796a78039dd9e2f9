//! Metrics that clients push to the cluster (KIP-714).

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::{Str, Uuid};

message! {
    /// Asks which metrics the cluster wants from this client (KIP-714).
    GetTelemetrySubscriptionsRequest: key 71, versions 0..=0, flexible 0, answer GetTelemetrySubscriptionsResponse {
        client_instance_id: Uuid,
    }

    /// The metrics and how often.
    GetTelemetrySubscriptionsResponse {
        throttle_time_ms:           i32,
        error_code:                 ErrorCode,
        client_instance_id:         Uuid,
        subscription_id:            i32,
        accepted_compression_types: Vec<i8>,
        push_interval_ms:           i32,
        telemetry_max_bytes:        i32,
        delta_temporality:          bool,
        requested_metrics:          Vec<Str>,
    }

    /// Delivers metrics in the OpenTelemetry format (KIP-714).
    PushTelemetryRequest: key 72, versions 0..=0, flexible 0, answer PushTelemetryResponse {
        client_instance_id: Uuid,
        subscription_id:    i32,
        terminating:        bool,
        compression_type:   i8,
        metrics:            Bytes,
    }

    /// The outcome.
    PushTelemetryResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
    }
}
