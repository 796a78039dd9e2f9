//! Groups: found, listed and described.
//!
//! It owns the way to a group's coordinator. It refuses to know how a group decides: that is its members' and its
//! coordinator's.

use std::collections::BTreeMap;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, DescribeGroupsRequest, DescribedGroup, DescribedGroupMember,
    FindCoordinatorRequest, ListGroupsRequest, ListedGroup,
};
use ottla_protocol::wire::Str;

use super::attempts::{Attempts, Deadline, Pending, all};
use super::nodes::{Address, address};
use super::{Admin, Results, checked};
use crate::error::{Error, ErrorKind};

/// The protocol type of consumers, whose assignments can be read.
const CONSUMER: &str = "consumer";

/// A group, as its coordinator lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// The group's id.
    pub group: String,
    /// What its members are to each other: `consumer`, `connect`, or empty.
    pub protocol_type: String,
    /// Kafka's word for its state, such as `Stable` or `Empty`, from Kafka 2.6 on (KIP-518).
    pub state: Option<String>,
    /// Kafka's word for its type, such as `classic` or `consumer`, from Kafka 3.8 on (KIP-848).
    pub group_type: Option<String>,
}

/// A classic group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// The group's id.
    pub group: String,
    /// Kafka's word for its state: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    pub state: String,
    /// What its members are to each other: `consumer`, `connect`, or empty.
    pub protocol_type: String,
    /// The assignor that the members have agreed on, while there is one.
    pub assignor: Option<String>,
    /// The node that coordinates it.
    pub coordinator: i32,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// The coordinator's name for it.
    pub member_id: String,
    /// Its own name, if it is a static member (KIP-345).
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it is, as the coordinator sees it.
    pub host: String,
    /// Topic and number of each of its partitions; `None` when it has no assignment yet, or one that is not of the kind that consumers use.
    pub assignment: Option<Vec<(String, i32)>>,
}

impl Admin {
    /// Asks every broker for the groups that it coordinates, of all types.
    ///
    /// # Errors
    /// When a broker of the cluster has not answered within the deadline, for then the list would not be whole. Cancelling
    /// does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// for group in admin.list_groups().await? {
    ///     println!("{} {:?}", group.group, group.state);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> {
        let mut attempts = self.attempts();
        loop {
            match self.try_list_groups(&attempts).await {
                Ok(groups) => return Ok(groups.into_values().collect()),
                Err(cause) => attempts.pause(cause).await?,
            }
        }
    }

    async fn try_list_groups(&self, attempts: &Attempts) -> Result<BTreeMap<String, GroupListing>, Error> {
        let cluster = self.metadata(Some(Vec::new()), attempts.deadline).await?;
        let addresses = cluster.brokers.iter().filter_map(|broker| address(&broker.host, broker.port));
        let asked = addresses.map(|address| async move {
            let node = self.nodes.reach(&address, attempts.deadline).await?;
            let answer = node.call(&ListGroupsRequest::default()).await?;
            let subject = format_args!("groups of broker {}:{}", address.0, address.1);
            checked(answer.error_code, None, subject).map(|()| answer.groups)
        });
        let mut groups = BTreeMap::new();
        for answer in all(asked).await {
            // A group that moves while they are asked may be listed twice.
            groups.extend(answer?.iter().map(|group| (group.group_id.to_string(), listing(group))));
        }
        Ok(groups)
    }

    /// Asks the coordinators of classic groups for their members. A group of the new protocol (KIP-848) has another
    /// description: to this call it does not exist.
    ///
    /// # Errors
    /// For each group its own; [`Error::code`] says `GROUP_ID_NOT_FOUND` for one that does not exist. Cancelling does no
    /// harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// let billing = admin.describe_groups(["billing"]).await.take("billing")?;
    /// println!("{} with {} members", billing.state, billing.members.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_groups(
        &self,
        groups: impl IntoIterator<Item = impl Into<String>>,
    ) -> Results<String, GroupDescription> {
        let mut attempts = self.attempts();
        let mut pending = Pending::new(groups.into_iter().map(Into::into));
        while pending.again(&mut attempts).await {
            let open = pending.open();
            let asked = open.iter().map(|group| self.describe_group(group, attempts.deadline));
            for (group, result) in open.iter().zip(all(asked).await) {
                pending.answer(group, result);
            }
        }
        pending.into_results()
    }

    async fn describe_group(&self, group: &str, deadline: Deadline) -> Result<GroupDescription, Error> {
        let (coordinator, address) = self.coordinator(group, deadline).await?;
        let node = self.nodes.reach(&address, deadline).await?;
        let request = DescribeGroupsRequest { groups: vec![Str::from(group)], ..Default::default() };
        let answer = node.call(&request).await?;
        let Some(described) = answer.groups.iter().find(|described| described.group_id == *group) else {
            let message =
                format!("the answer of broker {}:{} says nothing of group {group}", address.0, address.1);
            return Err(Error::new(ErrorKind::Protocol, message));
        };
        let subject = format_args!("group {group}");
        checked(described.error_code, described.error_message.as_ref(), subject)?;
        // Before version 6 (KIP-1043) a group that does not exist is described as a dead one.
        if described.group_state == "Dead" {
            return Err(Error::from_code(ErrorCode::GROUP_ID_NOT_FOUND, subject));
        }
        Ok(description(described, coordinator))
    }

    /// Asks any broker which node coordinates a group.
    pub(super) async fn coordinator(&self, group: &str, deadline: Deadline) -> Result<(i32, Address), Error> {
        let key = Str::from(group);
        // The group in both forms: which one is sent depends on the version (KIP-699).
        let request =
            FindCoordinatorRequest { key: key.clone(), coordinator_keys: vec![key], ..Default::default() };
        let answer = self.nodes.ask_any(&request, deadline).await?;
        let subject = format_args!("coordinator of group {group}");
        let (node, host, port) = match answer.coordinators.first() {
            Some(found) => {
                checked(found.error_code, found.error_message.as_ref(), subject)?;
                (found.node_id, &found.host, found.port)
            }
            None => {
                checked(answer.error_code, answer.error_message.as_ref(), subject)?;
                (answer.node_id, &answer.host, answer.port)
            }
        };
        let nowhere = || Error::new(ErrorKind::Protocol, format!("{subject}: {host}:{port} is no address"));
        Ok((node, address(host, port).ok_or_else(nowhere)?))
    }
}

fn listing(group: &ListedGroup) -> GroupListing {
    GroupListing {
        group: group.group_id.to_string(),
        protocol_type: group.protocol_type.to_string(),
        state: said(&group.group_state),
        group_type: said(&group.group_type),
    }
}

fn description(group: &DescribedGroup, coordinator: i32) -> GroupDescription {
    let member = |member: &DescribedGroupMember| GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assignment: if group.protocol_type == CONSUMER { assignment(member) } else { None },
    };
    GroupDescription {
        group: group.group_id.to_string(),
        state: group.group_state.to_string(),
        protocol_type: group.protocol_type.to_string(),
        assignor: said(&group.protocol_data),
        coordinator,
        members: group.members.iter().map(member).collect(),
    }
}

fn assignment(member: &DescribedGroupMember) -> Option<Vec<(String, i32)>> {
    let assignment = ConsumerProtocolAssignment::from_bytes(member.member_assignment.clone()).ok()?;
    let mut partitions = Vec::new();
    for topic in &assignment.assigned_partitions {
        partitions.extend(topic.partitions.iter().map(|partition| (topic.topic.to_string(), *partition)));
    }
    Some(partitions)
}

/// What a broker that is too old leaves empty.
fn said(text: &Str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}
