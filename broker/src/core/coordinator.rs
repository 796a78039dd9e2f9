//! Which node coordinates a group or a transaction: the leader of the partition that its name belongs to.
//!
//! Groups belong to `__consumer_offsets`, transactional ids to `__transaction_state`. Both topics come into being when they
//! are first asked for; what is in them is [`super::coordinator_log`]'s.

use super::settings::CoordinatorTopic;
use super::topics::{OFFSETS_TOPIC, Partition, TRANSACTIONS_TOPIC};
use super::{Cluster, Now};
use crate::api::Caller;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::wire::Str;

/// What the topics of coordinators override, as in Kafka.
const OVERRIDES: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];

/// What has a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinated<'a> {
    /// A group, by its id.
    Group(&'a str),
    /// A transaction, by its transactional id.
    Transaction(&'a str),
}

impl Coordinated<'_> {
    fn topic(self) -> &'static str {
        match self {
            Self::Group(_) => OFFSETS_TOPIC,
            Self::Transaction(_) => TRANSACTIONS_TOPIC,
        }
    }
}

impl Cluster {
    /// The node that coordinates it. The topic is made if it is not there yet.
    pub(crate) fn coordinator(&mut self, now: Now, of: Coordinated<'_>) -> Option<i32> {
        if self.topics.get(of.topic()).is_none() {
            let CoordinatorTopic { partitions, replication_factor } = *self.coordinator_topic(of);
            let replicas = self.replication_factor(replication_factor);
            let assignment = self.assign(partitions, replicas);
            let given = OVERRIDES.map(|(name, value)| (name.to_string(), value.to_string()));
            let settings = self.topic_settings(given.into()).unwrap_or_else(|_| self.plain_settings());
            // Without its topic there is no coordinator, and whoever asked tries again.
            self.create_topic(now, Str::from_static(of.topic()), assignment, settings).ok()?;
        }
        self.known_coordinator(of)
    }

    /// The node that coordinates it, if anybody has looked for it before.
    pub(crate) fn known_coordinator(&self, of: Coordinated<'_>) -> Option<i32> {
        self.coordinator_partition(of)?.leader
    }

    /// How often the coordinator has changed: markers of an older one are refused.
    pub(crate) fn coordinator_epoch(&self, of: Coordinated<'_>) -> i32 {
        self.coordinator_partition(of).map_or(0, |partition| partition.leader_epoch)
    }

    /// Whether the node that is asked coordinates it.
    pub(crate) fn check_coordinator(&self, caller: &Caller, of: Coordinated<'_>) -> Result<(), ErrorCode> {
        match self.known_coordinator(of) {
            Some(node) if node == caller.node => Ok(()),
            Some(_) | None => Err(ErrorCode::NOT_COORDINATOR),
        }
    }

    /// Moves the partition that it belongs to to another of its replicas.
    pub(crate) fn move_coordinator(
        &mut self,
        now: Now,
        of: Coordinated<'_>,
        node: i32,
    ) -> Result<(), ErrorCode> {
        self.coordinator(now, of);
        self.move_leader(now, of.topic(), self.coordinator_index(of), node)
    }

    /// The index of the partition that it belongs to: Java's string hash, as Apache Kafka has it.
    pub(crate) fn coordinator_index(&self, of: Coordinated<'_>) -> i32 {
        let (Coordinated::Group(name) | Coordinated::Transaction(name)) = of;
        let there = self.topics.get(of.topic()).and_then(|topic| i32::try_from(topic.partitions.len()).ok());
        java_hash(name).checked_abs().unwrap_or(0) % there.unwrap_or(self.coordinator_topic(of).partitions)
    }

    fn coordinator_partition(&self, of: Coordinated<'_>) -> Option<&Partition> {
        self.topics.get(of.topic())?.partition(self.coordinator_index(of))
    }

    fn coordinator_topic(&self, of: Coordinated<'_>) -> &CoordinatorTopic {
        match of {
            Coordinated::Group(_) => &self.settings.offsets_topic,
            Coordinated::Transaction(_) => &self.settings.transactions_topic,
        }
    }
}

fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::super::log::storage::InMemory;
    use super::super::settings::Settings;
    use super::*;

    #[test]
    fn groups_and_transactions_are_placed_by_javas_string_hash() {
        // "hello".hashCode() is 99162322; "polygenelubricants" hashes to the number without an absolute value.
        let cluster = Cluster::new(Settings::default(), 1, Box::new(InMemory));
        for (name, index) in [("hello", 22), ("polygenelubricants", 0), ("", 0)] {
            assert_eq!(cluster.coordinator_index(Coordinated::Group(name)), index);
            assert_eq!(cluster.coordinator_index(Coordinated::Transaction(name)), index);
        }
    }
}
