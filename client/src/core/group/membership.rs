//! Who we are in the group, and how the requests say it.
//!
//! It owns the member id, the generation and the assignor that the group chose. It refuses to know when anything is sent and
//! what the answers mean. Invariant: a generation is only ever that of the last JoinGroup answered, or none.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    HeartbeatRequest, JoinGroupProtocol, JoinGroupRequest, LeaveGroupRequest, LeavingMember,
    SyncGroupAssignment, SyncGroupRequest,
};
use ottla_protocol::wire::Str;

use super::GroupMetadata;
use super::leader::{self, Said};
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
    /// The topics that the group was told.
    pub(super) told: Vec<Str>,
    /// Empty until the coordinator has given one.
    pub(super) member_id: Str,
    /// -1 while we have none.
    pub(super) generation: i32,
    /// In the order of preference.
    offers: Vec<Offer>,
    /// The name of the assignor that the group has chosen.
    chosen: Option<Str>,
    /// What it was given last, and in which generation: what `sticky` goes by.
    previous: Option<(Vec<TopicPartition>, i32)>,
}

/// An assignor with what it said when it was asked: user code is not asked again under the lock.
#[derive(Debug)]
struct Offer {
    assignor: Assignor,
    name: Str,
    cooperative: bool,
    user_data: Option<Bytes>,
}

impl Offer {
    fn new(assignor: &Assignor) -> Self {
        let user_data = match assignor {
            Assignor::Custom(written) => written.user_data().map(Bytes::from),
            _ => None,
        };
        let (name, cooperative) = (Str::from(assignor.name()), assignor.is_cooperative());
        Self { assignor: assignor.clone(), name, cooperative, user_data }
    }
}

impl Membership {
    pub(super) fn new(config: Arc<ConsumerConfig>, client: &ClientConfig) -> Self {
        let topics = match &config.source {
            Source::Topics(topics) => topics.clone(),
            Source::Nothing | Source::Partitions(_) | Source::Matching { .. } => Vec::new(),
        };
        Self {
            group: config.group_id.clone().unwrap_or_default(),
            rack: client.client_rack.clone(),
            topics,
            told: Vec::new(),
            member_id: Str::default(),
            generation: -1,
            offers: config.assignors.iter().map(Offer::new).collect(),
            chosen: None,
            previous: None,
            config,
        }
    }

    /// Whether it shares partitions with others, rather than to name its own.
    pub(super) fn subscribes(&self) -> bool {
        matches!(self.config.source, Source::Topics(_) | Source::Matching { shared: true, .. })
    }

    pub(super) fn is_static(&self) -> bool {
        self.config.group_instance_id.is_some()
    }

    /// As Java decides it: one eager assignor makes the member eager.
    pub(super) fn is_cooperative(&self) -> bool {
        self.offers.iter().all(|offer| offer.cooperative)
    }

    pub(super) fn identity(&self) -> GroupMetadata {
        GroupMetadata {
            group: self.group.clone(),
            member_id: self.member_id.clone(),
            generation: self.generation,
            instance_id: self.config.group_instance_id.clone().filter(|_| self.generation >= 0),
        }
    }

    pub(super) fn join_request<'a>(
        &self,
        owned: impl IntoIterator<Item = &'a TopicPartition>,
        reason: &'static str,
        version: i16,
    ) -> Result<JoinGroupRequest, Error> {
        if self.is_static() && version < STATIC_MEMBERS {
            let message = "the coordinator is too old for group.instance.id (KIP-345)";
            return Err(Error::new(ErrorKind::UnsupportedVersion, message));
        }
        let owned: Vec<&TopicPartition> = owned.into_iter().collect();
        let unwritable = |e| {
            Error::new(ErrorKind::InvalidArgument, format!("the subscription cannot be written: {e}"))
                .with_source(e)
        };
        let mut protocols = Vec::new();
        for offer in &self.offers {
            let user_data = match (&offer.assignor, &self.previous) {
                // Java's members before 3.2 look for the generation here.
                (Assignor::CooperativeSticky, _) => {
                    Some(Bytes::copy_from_slice(&self.generation.to_be_bytes()))
                }
                (Assignor::Sticky, Some((previous, generation))) => {
                    Some(leader::write_previous(previous, *generation).map_err(unwritable)?)
                }
                _ => offer.user_data.clone(),
            };
            let (generation, rack) = (self.generation, self.rack.clone());
            let said = Said { topics: &self.topics, owned: owned.clone(), generation, rack, user_data };
            let metadata = said.to_bytes().map_err(unwritable)?;
            protocols.push(JoinGroupProtocol { name: offer.name.clone(), metadata });
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
            protocol_name: self.chosen.clone(),
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
        let offer = self.offers.iter().find(|offer| Some(&*offer.name) == name);
        self.chosen = offer.map(|offer| offer.name.clone());
        offer.map(|offer| offer.assignor.clone()).ok_or_else(|| {
            let name = name.unwrap_or_default();
            let message =
                format!("group {}: it chose the assignor {name:?}, which this member lacks", self.group);
            Error::new(ErrorKind::Protocol, message)
        })
    }

    /// This share was given in this generation.
    pub(super) fn remember(&mut self, share: impl IntoIterator<Item = TopicPartition>) {
        if self.offers.iter().any(|offer| matches!(offer.assignor, Assignor::Sticky)) {
            self.previous = Some((share.into_iter().collect(), self.generation));
        }
    }

    /// A final error of the coordinator, with what the user can do about it.
    pub(super) fn describe(&self, code: ErrorCode) -> Error {
        let group = &self.group;
        let subject = match code {
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
                let names: Vec<&str> = self.offers.iter().map(|offer| &*offer.name).collect();
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
