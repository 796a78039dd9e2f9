//! Which protocol the member of a group speaks.
//!
//! It owns the choice, and what does not go with it. It refuses to know the cluster: what `auto` comes to there is the
//! business of the membership. Invariant: a setting that the protocol does not have is refused by name, or decides for the
//! protocol that has it.

use super::consumer::ConsumerConfig;
use super::explain::Origin;
use super::problem::Findings;
use super::{ClientConfig, LENGTH_MAX};

/// The protocol by which a consumer is a member of its group (`group.protocol`).
///
/// ```
/// # fn example(client: ottla::Client) {
/// let builder = client.consumer().group("billing").group_protocol(ottla::GroupProtocol::Consumer);
/// # drop(builder);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GroupProtocol {
    /// [`Consumer`](GroupProtocol::Consumer) where the cluster has it, and nothing speaks against it; else
    /// [`Classic`](GroupProtocol::Classic).
    ///
    /// Against it speaks: a setting that only classic groups have (`session.timeout.ms`, `heartbeat.interval.ms`,
    /// `partition.assignment.strategy`); a cluster below `group.version` 1; a group in which classic members live, or that
    /// may not be described, since joining would convert it; a coordinator that refuses the first heartbeat. The log says
    /// so. A consumer decides once, when it joins, and never again.
    #[default]
    Auto,
    /// The members share the partitions by an assignor of their own, one of them leads. Every broker has it.
    Classic,
    /// The broker shares the partitions, and only what moves stops (KIP-848). Apache Kafka from 4.0 on. A classic group is
    /// converted by its first member of this protocol, if the broker allows that.
    Consumer,
}

/// The settings that only classic groups have.
const CLASSIC_ONLY: [&str; 3] =
    ["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"];

const PROTOCOL: &str = "group.protocol";
const ASSIGNOR: &str = "group.remote.assignor";

impl ConsumerConfig {
    /// Refuses what the protocol does not have. What only classic groups have makes `auto` classic.
    pub(super) fn check_protocol(&mut self, client: &ClientConfig, found: &mut Findings) {
        if let Some(assignor) = &self.group_remote_assignor {
            found.within("the length of group.remote.assignor", assignor.len(), 1..=LENGTH_MAX);
        }
        let set = CLASSIC_ONLY.into_iter().filter(|key| client.origin(self, key) != Origin::Default);
        let set: Vec<&'static str> = set.collect();
        match self.group_protocol {
            GroupProtocol::Consumer => {
                for key in set.into_iter().filter(|key| client.is_set_by_user(self, key)) {
                    found.contradiction(&[PROTOCOL, key], "only classic groups have the second");
                }
            }
            GroupProtocol::Auto => {
                if let Some(key) = set.first() {
                    self.group_protocol = GroupProtocol::Classic;
                    if self.group_id.is_some() {
                        found.warn(
                            &[PROTOCOL, key],
                            "only classic groups have the second, so the first is classic",
                        );
                    }
                }
            }
            GroupProtocol::Classic => {}
        }
        if self.group_protocol == GroupProtocol::Classic && self.group_remote_assignor.is_some() {
            found.contradiction(&[PROTOCOL, ASSIGNOR], "classic groups do not have the second");
        }
    }
}
