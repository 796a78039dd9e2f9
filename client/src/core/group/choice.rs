//! Which protocol a member speaks that may choose (`group.protocol` auto).
//!
//! It owns the question to the coordinator and what its answer decides. It refuses to know what follows. Invariant: merely
//! joining never converts a group in which classic members live, nor one that may not be looked at.

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerGroupHeartbeatRequest, DescribeGroupsRequest, DescribeGroupsResponse,
};
use ottla_protocol::wire::Str;

use crate::core::ask::Ask;
use crate::core::cluster::Cluster;
use crate::core::{Link, Request, Work};
use crate::error::Error;

/// The feature of a cluster that can assign partitions itself.
const FEATURE: &str = "group.version";

#[derive(Debug)]
pub(super) enum Choice {
    Modern,
    /// For this reason.
    Classic(String),
    /// Another node coordinates the group.
    Elsewhere,
    /// It cannot be told yet.
    Later,
}

/// What the coordinator lacks for anything but a classic group, once its link is open; `version` of the heartbeat is needed.
pub(super) fn lacks(link: Link, version: i16, cluster: &Cluster) -> Option<String> {
    let level = cluster.feature(link, FEATURE)?;
    let speaks = cluster.speaks::<ConsumerGroupHeartbeatRequest>(link, version);
    if level < 1 || !speaks || !cluster.speaks::<DescribeGroupsRequest>(link, 0) {
        return Some(format!("the cluster is at {FEATURE} {level}, and lacks what is needed"));
    }
    None
}

pub(super) fn ask(group: &Str, link: Link, cluster: &mut Cluster) -> Result<Work, Error> {
    let version = cluster.version::<DescribeGroupsRequest>(link, i16::MAX)?;
    let ask = DescribeGroupsRequest { groups: vec![group.clone()], ..DescribeGroupsRequest::default() };
    let timeout = cluster.config.request_timeout;
    Ok(Work::Request(Request { ask: Ask::DescribeGroups(ask), version, timeout, answered: true }))
}

pub(super) fn judge(group: &Str, response: &DescribeGroupsResponse) -> Choice {
    let Some(described) = response.groups.iter().find(|described| described.group_id == *group) else {
        return Choice::Classic("the coordinator does not describe the group".to_owned());
    };
    match described.error_code {
        ErrorCode::NONE if described.members.is_empty() => Choice::Modern,
        ErrorCode::NONE => Choice::Classic(format!("it has {} classic members", described.members.len())),
        // There is no classic group of this name (KIP-1043).
        ErrorCode::GROUP_ID_NOT_FOUND => Choice::Modern,
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => Choice::Elsewhere,
        code if code.is_retriable() => Choice::Later,
        code => Choice::Classic(format!("the group may not be looked at: {code}")),
    }
}
