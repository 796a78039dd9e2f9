//! Who we are in a group whose partitions the broker assigns, and how heartbeats say it (KIP-848).
//!
//! It owns the member id, which is made here and kept for life (KIP-1082), and the subscription. It refuses to know epochs
//! and when anything is sent. Invariant: what never changes is said only where everything is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupTopicPartitions,
};
use ottla_protocol::wire::{Str, Uuid};

use super::{GroupMetadata, Parting};
use crate::config::{ClientConfig, ConsumerConfig, Source, wire_millis};
use crate::core::TopicPartition;
use crate::core::backoff::Random;
use crate::error::{Error, ErrorKind};

/// The epochs that say goodbye: for good, and for a while, with the partitions kept (KIP-345).
const LEAVES: i32 = -1;
const LEAVES_ITS_PLACE_TAKEN: i32 = -2;

/// The first version that knows patterns.
const PATTERNS: i16 = 1;

#[derive(Debug)]
pub(super) struct Enrolment {
    config: Arc<ConsumerConfig>,
    rack: Option<Str>,
    pub(super) group: Str,
    topics: Vec<Str>,
    /// An expression of RE2 that the coordinator matches topics against.
    pattern: Option<Str>,
    /// Empty until the first heartbeat.
    member_id: Str,
}

impl Enrolment {
    pub(super) fn new(config: &Arc<ConsumerConfig>, client: &ClientConfig) -> Self {
        let topics = match &config.source {
            Source::Topics(topics) => topics.clone(),
            Source::Nothing | Source::Partitions(_) | Source::Matching { .. } => Vec::new(),
        };
        let pattern = match &config.source {
            Source::Matching { pattern, .. } => Some(pattern.text().clone()),
            _ => None,
        };
        Self {
            group: config.group_id.clone().unwrap_or_default(),
            rack: client.client_rack.clone(),
            topics,
            pattern,
            member_id: Str::default(),
            config: config.clone(),
        }
    }

    /// The topics that are subscribed to by name.
    pub(super) fn topics(&self) -> &[Str] {
        &self.topics
    }

    /// The first version of the heartbeat that can say it all.
    pub(super) fn version_needed(&self) -> i16 {
        if self.pattern.is_some() { PATTERNS } else { 0 }
    }

    /// Whether a topic is one that was subscribed to. Metadata holds no others where there is a pattern.
    pub(super) fn reads(&self, topic: &Str) -> bool {
        self.pattern.is_some() || self.topics.contains(topic)
    }

    /// Makes the member id, a UUID of version 4, unless there is one.
    pub(super) fn have_id(&mut self, random: &mut Random) {
        if self.member_id.is_empty() {
            let bits = (u128::from(random.next()) << 64) | u128::from(random.next());
            let (version, variant) = (0xf_u128 << 76, 0b11_u128 << 62);
            let id = Uuid((bits & !version & !variant) | (4 << 76) | (0b10 << 62));
            self.member_id = Str::from(id.to_string());
        }
    }

    /// A coordinator that is too old for our id has given another one.
    pub(super) fn take_id(&mut self, given: Option<&str>) {
        if let Some(given) = given.filter(|given| !given.is_empty() && *given != &*self.member_id) {
            self.member_id = Str::from(given);
        }
    }

    pub(super) fn identity(&self, epoch: i32) -> GroupMetadata {
        GroupMetadata {
            group: self.group.clone(),
            member_id: self.member_id.clone(),
            generation: epoch,
            instance_id: self.config.group_instance_id.clone(),
        }
    }

    /// A sign of life, with what the member has if that is other than was said before.
    pub(super) fn heartbeat(
        &self,
        epoch: i32,
        owned: Option<&BTreeMap<TopicPartition, Uuid>>,
    ) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: epoch,
            instance_id: self.config.group_instance_id.clone(),
            topic_partitions: owned.map(by_topic),
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }

    /// Everything that the coordinator has to know: with epoch 0 it makes us a member.
    pub(super) fn full_heartbeat(
        &self,
        epoch: i32,
        owned: &BTreeMap<TopicPartition, Uuid>,
        version: i16,
    ) -> Result<ConsumerGroupHeartbeatRequest, Error> {
        if version < self.version_needed() {
            let message = "the coordinator is too old to match topics against a pattern (KIP-848)";
            return Err(Error::new(ErrorKind::UnsupportedVersion, message));
        }
        Ok(ConsumerGroupHeartbeatRequest {
            rack_id: self.rack.clone(),
            rebalance_timeout_ms: wire_millis(self.config.max_poll_interval),
            subscribed_topic_names: Some(self.topics.clone()).filter(|_| self.pattern.is_none()),
            subscribed_topic_regex: self.pattern.clone(),
            server_assignor: self.config.group_remote_assignor.clone(),
            ..self.heartbeat(epoch, Some(owned))
        })
    }

    /// The epoch of the last words, if there are any. A static member that remains keeps its partitions until it is back or
    /// its session is over; a dynamic one says nothing then.
    pub(super) fn last_epoch(&self, parting: Parting) -> Option<i32> {
        let is_static = self.config.group_instance_id.is_some();
        if parting.leaves(is_static) { Some(LEAVES) } else { is_static.then_some(LEAVES_ITS_PLACE_TAKEN) }
    }

    /// An error of the coordinator, with what the user can do about it.
    pub(super) fn describe(&self, code: ErrorCode, response: &ConsumerGroupHeartbeatResponse) -> Error {
        let group = &self.group;
        let subject = match code {
            ErrorCode::UNSUPPORTED_ASSIGNOR => {
                let assignor = self.config.group_remote_assignor.as_deref().unwrap_or_default();
                format!("group {group}, group.remote.assignor {assignor}")
            }
            ErrorCode::UNRELEASED_INSTANCE_ID | ErrorCode::FENCED_INSTANCE_ID => {
                let instance_id = self.config.group_instance_id.as_deref().unwrap_or_default();
                format!("group {group}, group.instance.id {instance_id}")
            }
            ErrorCode::UNSUPPORTED_VERSION => {
                format!("group {group}, group.protocol consumer: the cluster lacks it (group.version 1)")
            }
            ErrorCode::GROUP_ID_NOT_FOUND => {
                format!(
                    "group {group}, group.protocol consumer: the group is another protocol's, and stays so"
                )
            }
            _ => format!("group {group}"),
        };
        let said = response.error_message.as_deref().filter(|said| !said.is_empty());
        match said {
            Some(said) => Error::from_code(code, format_args!("{subject}: {said}")),
            None => Error::from_code(code, subject),
        }
    }
}

fn by_topic(owned: &BTreeMap<TopicPartition, Uuid>) -> Vec<GroupTopicPartitions> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (partition, id) in owned {
        topics.entry(*id).or_default().push(partition.partition);
    }
    topics.into_iter().map(|(topic_id, partitions)| GroupTopicPartitions { topic_id, partitions }).collect()
}
