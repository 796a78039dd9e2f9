//! Who we are in the group, and how the requests say it.
//!
//! It owns the member id, the generation and the assignor that the group chose. It refuses to know when anything is sent and
//! what the answers mean. Invariant: a generation is only ever that of the last JoinGroup answered, or none.

use std::sync::Arc;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    HeartbeatRequest, JoinGroupProtocol, JoinGroupRequest, LeaveGroupRequest, LeavingMember,
    SyncGroupAssignment, SyncGroupRequest,
};
use ottla_protocol::wire::Str;

use super::{Identity, leader};
use crate::config::{Assignor, ClientConfig, ConsumerConfig, Source, wire_millis};
use crate::core::TopicPartition;
use crate::error::{Error, ErrorKind};

/// The protocol type of consumers, as against others that use groups.
const CONSUMER: Str = Str::from_static("consumer");

/// The first version of JoinGroup that knows static members.
const STATIC_MEMBERS: i16 = 5;

#[derive(Debug)]
pub(super) struct Membership {
    config: Arc<ConsumerConfig>,
    rack: Option<Str>,
    pub(super) group: Str,
    /// Empty for a consumer that names its partitions itself.
    pub(super) topics: Vec<Str>,
    /// Empty until the coordinator has given one.
    pub(super) member_id: Str,
    /// -1 while we have none.
    pub(super) generation: i32,
    pub(super) assignor: Option<Assignor>,
}

impl Membership {
    pub(super) fn new(config: Arc<ConsumerConfig>, client: &ClientConfig) -> Self {
        let topics = match &config.source {
            Source::Topics(topics) => topics.clone(),
            Source::Nothing | Source::Partitions(_) => Vec::new(),
        };
        Self {
            group: config.group_id.clone().unwrap_or_default(),
            rack: client.client_rack.clone(),
            topics,
            member_id: Str::default(),
            generation: -1,
            assignor: None,
            config,
        }
    }

    pub(super) fn is_static(&self) -> bool {
        self.config.group_instance_id.is_some()
    }

    /// As Java decides it: one eager assignor makes the member eager.
    pub(super) fn is_cooperative(&self) -> bool {
        self.config.assignors.iter().all(|assignor| *assignor == Assignor::CooperativeSticky)
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            group: self.group.clone(),
            member_id: self.member_id.clone(),
            generation: self.generation,
            instance_id: self.config.group_instance_id.clone().filter(|_| self.generation >= 0),
        }
    }

    pub(super) fn join_request<'a>(
        &self,
        owned: impl IntoIterator<Item = &'a TopicPartition> + Clone,
        reason: &'static str,
        version: i16,
    ) -> Result<JoinGroupRequest, Error> {
        if self.is_static() && version < STATIC_MEMBERS {
            let message = "the coordinator is too old for group.instance.id (KIP-345)";
            return Err(Error::new(ErrorKind::UnsupportedVersion, message));
        }
        let mut protocols = Vec::new();
        for assignor in &self.config.assignors {
            let owned = owned.clone();
            let (generation, rack) = (self.generation, self.rack.clone());
            let metadata = leader::write_subscription(*assignor, &self.topics, owned, generation, rack)
                .map_err(|e| {
                    Error::new(ErrorKind::InvalidArgument, format!("the subscription cannot be written: {e}"))
                        .with_source(e)
                })?;
            protocols.push(JoinGroupProtocol { name: Str::from_static(assignor.name()), metadata });
        }
        Ok(JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: wire_millis(self.config.session_timeout),
            rebalance_timeout_ms: wire_millis(self.config.max_poll_interval),
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_type: CONSUMER,
            protocols,
            reason: Some(Str::from_static(reason)),
        })
    }

    pub(super) fn sync_request(&self, assignments: Vec<SyncGroupAssignment>) -> SyncGroupRequest {
        SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_type: Some(CONSUMER),
            protocol_name: self.assignor.map(|assignor| Str::from_static(assignor.name())),
            assignments,
        }
    }

    pub(super) fn heartbeat_request(&self) -> HeartbeatRequest {
        HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
        }
    }

    /// Takes a member out that this consumer was.
    pub(super) fn leave_request(
        &self,
        member_id: Str,
        reason: &'static str,
        version: i16,
    ) -> LeaveGroupRequest {
        let group_id = self.group.clone();
        if version < 3 {
            return LeaveGroupRequest { group_id, member_id, members: Vec::new() };
        }
        let member =
            LeavingMember { member_id, group_instance_id: None, reason: Some(Str::from_static(reason)) };
        LeaveGroupRequest { group_id, member_id: Str::default(), members: vec![member] }
    }

    /// Finds the assignor that the group has chosen.
    pub(super) fn choose(&mut self, name: Option<&str>) -> Result<Assignor, Error> {
        let chosen = self.config.assignors.iter().find(|assignor| Some(assignor.name()) == name).copied();
        self.assignor = chosen;
        chosen.ok_or_else(|| {
            let name = name.unwrap_or_default();
            let message =
                format!("group {}: it chose the assignor {name:?}, which this member lacks", self.group);
            Error::new(ErrorKind::Protocol, message)
        })
    }

    /// A final error of the coordinator, with what the user can do about it.
    pub(super) fn describe(&self, code: ErrorCode) -> Error {
        let group = &self.group;
        let subject = match code {
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
                let names: Vec<&str> = self.config.assignors.iter().map(|assignor| assignor.name()).collect();
                format!("group {group}, partition.assignment.strategy {}", names.join(", "))
            }
            ErrorCode::INVALID_SESSION_TIMEOUT => {
                format!("group {group}, session.timeout.ms {}", self.config.session_timeout.as_millis())
            }
            ErrorCode::FENCED_INSTANCE_ID | ErrorCode::UNRELEASED_INSTANCE_ID => {
                let instance_id = self.config.group_instance_id.as_deref().unwrap_or_default();
                format!("group {group}, group.instance.id {instance_id}")
            }
            _ => format!("group {group}"),
        };
        Error::from_code(code, subject)
    }
}
