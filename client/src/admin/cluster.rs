//! Who is in the cluster, and who is asked for what: any broker, the controller, all of them.
//!
//! It owns the reading of metadata answers about brokers. Invariant: an answer is used by the attempt that asked for it,
//! and by no other.

use std::time::Duration;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{Broker, MetadataRequest, MetadataResponse, MetadataTopic};
use ottla_protocol::wire::Str;

use super::Admin;
use super::attempts::{Deadline, all};
use super::nodes::{self, Address, address};
use crate::error::{Error, ErrorKind};

/// A broker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its number (`node.id`).
    pub id: i32,
    /// Where clients are to find it.
    pub host: String,
    /// Its port there.
    pub port: u16,
    /// Where it stands (`broker.rack`), if it says so.
    pub rack: Option<String>,
}

/// The cluster, as one of its brokers sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// The cluster's name for itself (KIP-78).
    pub cluster_id: Option<String>,
    /// The broker that takes requests for the controller; not the controller itself where that is no broker (KIP-919).
    pub controller: Option<i32>,
    /// The brokers that are alive, in the order of their numbers.
    pub nodes: Vec<Node>,
}

impl Admin {
    /// Asks for the brokers of the cluster.
    ///
    /// # Errors
    /// That of the last attempt, when none succeeds within the deadline. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// for node in admin.describe_cluster().await?.nodes {
    ///     println!("node {} at {}:{}", node.id, node.host, node.port);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, Error> {
        let mut attempts = self.attempts();
        loop {
            match self.metadata(Some(Vec::new()), attempts.deadline).await {
                Ok(answer) => return Ok(description(&answer)),
                Err(cause) => attempts.pause(cause).await?,
            }
        }
    }

    /// Asks any broker for all brokers and for some topics, or with `None` for all topics.
    pub(super) async fn metadata(
        &self,
        topics: Option<Vec<MetadataTopic>>,
        deadline: Deadline,
    ) -> Result<MetadataResponse, Error> {
        let answer = self.nodes.ask_any(&metadata_request(topics), deadline).await?;
        if answer.error_code == ErrorCode::REBOOTSTRAP_REQUIRED {
            self.nodes.start_over();
            let message = "the broker says that clients must start again from their bootstrap servers";
            return Err(Error::new(ErrorKind::Connect, message).with_code(answer.error_code));
        }
        super::checked(answer.error_code, None, "metadata")?;
        self.nodes.learn(&answer).inspect_err(|_| self.nodes.start_over())?;
        Ok(answer)
    }

    /// Connects to the broker that takes requests for the controller.
    pub(super) async fn controller(&self, deadline: Deadline) -> Result<nodes::Node, Error> {
        let cluster = self.metadata(Some(Vec::new()), deadline).await?;
        let Some(address) = address_of(&cluster.brokers, cluster.controller_id) else {
            return Err(Error::new(ErrorKind::Connect, "the cluster has no controller at the moment"));
        };
        self.nodes.reach(&address, deadline).await
    }

    /// Asks every broker for the same topics. Those that cannot be reached are left out, unless that is all of them.
    ///
    /// # Errors
    /// Also when a broker takes the question and does not answer within `patience`.
    pub(super) async fn metadata_of_each(
        &self,
        topics: Vec<MetadataTopic>,
        deadline: Deadline,
        patience: Duration,
    ) -> Result<Vec<MetadataResponse>, Error> {
        let cluster = self.metadata(Some(Vec::new()), deadline).await?;
        let (request, deadline) = (metadata_request(Some(topics)), deadline.within(patience));
        let addresses: Vec<Address> =
            cluster.brokers.iter().filter_map(|b| address(&b.host, b.port)).collect();
        let asked = addresses.iter().map(|address| self.nodes.ask(address, &request, deadline));
        let mut answers = Vec::new();
        let mut unreached = None;
        for answer in all(asked).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(cause) if cause.kind() == ErrorKind::Connect => unreached = Some(cause),
                Err(cause) => return Err(cause),
            }
        }
        match unreached {
            Some(cause) if answers.is_empty() => Err(cause),
            _ => Ok(answers),
        }
    }
}

/// A topic that is asked about by its name.
pub(super) fn by_name(name: &str) -> MetadataTopic {
    MetadataTopic { name: Some(Str::from(name)), ..MetadataTopic::default() }
}

/// Asking never creates a topic here.
pub(super) fn metadata_request(topics: Option<Vec<MetadataTopic>>) -> MetadataRequest {
    MetadataRequest { topics, allow_auto_topic_creation: false, ..MetadataRequest::default() }
}

pub(super) fn address_of(brokers: &[Broker], id: i32) -> Option<Address> {
    let broker = brokers.iter().find(|broker| broker.node_id == id)?;
    address(&broker.host, broker.port)
}

fn description(answer: &MetadataResponse) -> ClusterDescription {
    let node = |broker: &Broker| {
        let (host, port) = address(&broker.host, broker.port)?;
        let rack = broker.rack.as_ref().filter(|rack| !rack.is_empty()).map(|rack| rack.to_string());
        Some(Node { id: broker.node_id, host: host.to_string(), port, rack })
    };
    let mut nodes: Vec<Node> = answer.brokers.iter().filter_map(node).collect();
    nodes.sort_by_key(|node| node.id);
    ClusterDescription {
        cluster_id: answer.cluster_id.as_ref().map(|id| id.to_string()),
        controller: Some(answer.controller_id).filter(|id| *id >= 0),
        nodes,
    }
}
