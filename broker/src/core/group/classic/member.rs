//! A member of a classic group: what it said of itself, and what it waits for.
//!
//! What its JoinGroup said is copied, or the member would hold on to the frame that the request came in.

use crate::api::Caller;
use crate::core::Ticket;
use bytes::Bytes;
use ottla_protocol::messages::JoinGroupRequest;
use ottla_protocol::wire::Str;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    pub(crate) assignment: Bytes,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    /// In the member's order of preference, with what it says about itself under each.
    pub(super) protocols: Vec<(Str, Bytes)>,
    /// It has not had an answer to its first JoinGroup yet.
    pub(super) is_new: bool,
    pub(super) joining: Option<Ticket>,
    pub(super) syncing: Option<Ticket>,
}

impl Member {
    pub(super) fn new(request: &JoinGroupRequest, caller: &Caller) -> Self {
        let mut member = Self {
            instance_id: request.group_instance_id.as_deref().map(Str::from),
            client_id: Str::from(&*caller.client_id),
            client_host: Str::from(&*caller.host),
            assignment: Bytes::new(),
            session_timeout: Duration::ZERO,
            rebalance_timeout: Duration::ZERO,
            protocols: Vec::new(),
            is_new: true,
            joining: None,
            syncing: None,
        };
        member.update(request, caller.version);
        member
    }

    /// Takes over what a JoinGroup says.
    pub(super) fn update(&mut self, request: &JoinGroupRequest, version: i16) {
        // Version 0 has no rebalance timeout; the session timeout stands for it.
        let rebalance_timeout_ms =
            if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
        self.session_timeout = milliseconds(request.session_timeout_ms);
        self.rebalance_timeout = milliseconds(rebalance_timeout_ms);
        self.protocols = request
            .protocols
            .iter()
            .map(|it| (Str::from(&*it.name), Bytes::copy_from_slice(&it.metadata)))
            .collect();
    }

    pub(super) fn says_the_same(&self, request: &JoinGroupRequest) -> bool {
        self.protocols.len() == request.protocols.len()
            && self.protocols.iter().zip(&request.protocols).all(|(a, b)| a.0 == b.name && a.1 == b.metadata)
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| &**name == protocol)
            .map(|(_, it)| it.clone())
            .unwrap_or_default()
    }

    /// Whether the member is alive without a heartbeat, because it waits for us.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}

/// A timeout on the wire; a negative one is none.
pub(super) fn milliseconds(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
