//! Topics: created, deleted, described, and waited for.
//!
//! It owns what a new topic is told to the controller as, and when a topic counts as usable. Invariant: a refusal that may
//! come from our own earlier attempt, whose answer was lost, says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreateTopicsRequest, DeleteTopicState, DeleteTopicsRequest, MetadataResponse, PartitionMetadata,
    TopicMetadata,
};
use ottla_protocol::wire::{Str, Uuid};

use super::attempts::{Attempts, Pending};
use super::cluster::by_name;
use super::{Admin, Results, checked};
use crate::config::wire_millis;
use crate::error::{Error, ErrorKind};

/// A topic to create.
///
/// ```
/// use ottla::NewTopic;
///
/// let orders = NewTopic::new("orders").partitions(6).replication_factor(3).config("retention.ms", "86400000");
/// # drop(orders);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    placement: Placement,
    configs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Placement {
    /// The cluster chooses the nodes, and with `None` the number too.
    Spread { partitions: Option<i32>, replication_factor: Option<i16> },
    /// The nodes of each partition.
    Assigned(Vec<Vec<i32>>),
}

/// How long a broker has at least to say that it knows a topic, before all of them are asked anew.
const PATIENCE_MIN: Duration = Duration::from_millis(100);

const BY_CLUSTER: Placement = Placement::Spread { partitions: None, replication_factor: None };

impl NewTopic {
    /// A topic with the cluster's default number of partitions and replicas (`num.partitions`,
    /// `default.replication.factor`; KIP-464, from Kafka 2.4), and its default settings.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), placement: BY_CLUSTER, configs: BTreeMap::new() }
    }

    /// How many partitions, from 1. Takes back [`assignments`](NewTopic::assignments).
    #[must_use]
    pub fn partitions(mut self, count: i32) -> Self {
        let replication_factor = match self.placement {
            Placement::Spread { replication_factor, .. } => replication_factor,
            Placement::Assigned(_) => None,
        };
        self.placement = Placement::Spread { partitions: Some(count), replication_factor };
        self
    }

    /// How many copies of each partition, from 1. Takes back [`assignments`](NewTopic::assignments).
    #[must_use]
    pub fn replication_factor(mut self, copies: i16) -> Self {
        let partitions = match self.placement {
            Placement::Spread { partitions, .. } => partitions,
            Placement::Assigned(_) => None,
        };
        self.placement = Placement::Spread { partitions, replication_factor: Some(copies) };
        self
    }

    /// The node ids of each partition, from partition 0 on; the first is its preferred leader. Takes back
    /// [`partitions`](NewTopic::partitions) and [`replication_factor`](NewTopic::replication_factor), which follow.
    #[must_use]
    pub fn assignments(mut self, nodes: impl IntoIterator<Item = Vec<i32>>) -> Self {
        self.placement = Placement::Assigned(nodes.into_iter().collect());
        self
    }

    /// Sets a topic setting, by Kafka's name.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    fn to_wire(&self) -> CreatableTopic {
        let config = |(name, value): (&String, &String)| CreatableTopicConfig {
            name: Str::from(name.as_str()),
            value: Some(Str::from(value.as_str())),
        };
        let (num_partitions, replication_factor, assignments) = match &self.placement {
            Placement::Spread { partitions, replication_factor } => {
                (partitions.unwrap_or(-1), replication_factor.unwrap_or(-1), Vec::new())
            }
            Placement::Assigned(nodes) => {
                let assignment = |(partition_index, nodes): (i32, &Vec<i32>)| CreatableReplicaAssignment {
                    partition_index,
                    broker_ids: nodes.clone(),
                };
                (-1, -1, (0..).zip(nodes).map(assignment).collect())
            }
        };
        CreatableTopic {
            name: Str::from(self.name.as_str()),
            num_partitions,
            replication_factor,
            assignments,
            configs: self.configs.iter().map(config).collect(),
        }
    }
}

/// A topic that was created, or would be, as far as the broker says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// The topic's id (KIP-516), from Kafka 2.8 on; `None` for a topic that was only validated.
    pub id: Option<Uuid>,
    /// How many partitions it has, from Kafka 2.4 on (KIP-525).
    pub partitions: Option<i32>,
    /// How many copies each has, from Kafka 2.4 on (KIP-525).
    pub replication_factor: Option<i16>,
    /// All of its settings, from Kafka 2.4 on (KIP-525); a secret has no value. Empty for somebody who may not see them.
    pub configs: BTreeMap<String, Option<String>>,
}

/// A topic, as one of the brokers sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// The topic's name.
    pub name: String,
    /// The topic's id (KIP-516), from Kafka 2.8 on.
    pub id: Option<Uuid>,
    /// Whether it belongs to Kafka itself, like `__consumer_offsets`.
    pub internal: bool,
    /// Its partitions, in the order of their numbers.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition and the nodes that it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number, from 0.
    pub partition: i32,
    /// The node that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// Which election made the leader (KIP-320), if the broker says so.
    pub leader_epoch: Option<i32>,
    /// The nodes that it is on, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those of them that have all of it.
    pub in_sync: Vec<i32>,
    /// Those of them that are not there.
    pub offline: Vec<i32>,
}

impl TopicDescription {
    /// Topic and number of each partition, as other calls take them.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use ottla::{IsolationLevel, OffsetSpec};
    ///
    /// let orders = admin.describe_topics(["orders"]).await.take("orders")?;
    /// let all = orders.topic_partitions();
    /// let ends = admin.list_offsets(all, OffsetSpec::Latest, IsolationLevel::ReadUncommitted).await.all()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn topic_partitions(&self) -> Vec<(String, i32)> {
        self.partitions.iter().map(|partition| (self.name.clone(), partition.partition)).collect()
    }
}

impl Admin {
    /// Creates topics, and waits until they can be used: each broker that answers knows them with a leader for every
    /// partition, so whoever starts next finds them.
    ///
    /// # Errors
    /// For each topic its own; [`Error::code`] says `TOPIC_ALREADY_EXISTS`, `INVALID_REPLICATION_FACTOR` and the like, and
    /// the message has the broker's words. Where the answer to an earlier attempt was lost, a `TOPIC_ALREADY_EXISTS` may
    /// be that attempt's own work, and the message says so. An error that begins with "created" is about the wait.
    /// A topic that is named twice is created not at all.
    ///
    /// Cancelling: topics may be created all the same.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use ottla::{ErrorCode, NewTopic};
    ///
    /// let mut results = admin.create_topics([NewTopic::new("orders").partitions(6)]).await;
    /// match results.take("orders") {
    ///     Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {}
    ///     result => drop(result?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Results<String, CreatedTopic> {
        let mut attempts = self.attempts();
        let mut results = self.create(topics, false, &mut attempts).await;
        let made = results.0.iter().filter_map(|(name, result)| {
            let topic = result.as_ref().ok()?;
            Some((name.clone(), topic.id))
        });
        for (name, ready) in self.wait(made.collect(), &mut attempts).await {
            if let Err(cause) = ready {
                results.0.insert(name, Err(cause.with_context("created, but not yet known everywhere")));
            }
        }
        results
    }

    /// Creates topics as [`create_topics`](Admin::create_topics) does, and returns as soon as the controller has them: for a
    /// moment, some brokers still say that they do not exist.
    pub async fn create_topics_without_waiting(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Results<String, CreatedTopic> {
        self.create(topics, false, &mut self.attempts()).await
    }

    /// Has the controller check whether topics could be created, and creates none.
    ///
    /// # Errors
    /// For each topic what [`create_topics`](Admin::create_topics) would have said. Cancelling does no harm.
    pub async fn validate_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Results<String, CreatedTopic> {
        self.create(topics, true, &mut self.attempts()).await
    }

    async fn create(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
        validate_only: bool,
        attempts: &mut Attempts,
    ) -> Results<String, CreatedTopic> {
        let (wanted, twice) = by_unique_name(topics);
        let mut pending = Pending::new(wanted.keys().cloned());
        for name in twice {
            let error =
                Error::new(ErrorKind::InvalidArgument, format!("topic {name} is to be created twice"));
            pending.settle(&name, Err(error));
        }
        let mut doubtful = BTreeSet::new();
        while pending.again(attempts).await {
            let open = pending.open();
            let request = CreateTopicsRequest {
                topics: open.iter().filter_map(|name| wanted.get(name)).map(NewTopic::to_wire).collect(),
                timeout_ms: wire_millis(attempts.deadline.request_timeout()),
                validate_only,
            };
            let controller = match self.controller(attempts.deadline).await {
                Ok(controller) => controller,
                Err(cause) => {
                    pending.fail(&cause);
                    continue;
                }
            };
            match controller.call(&request).await {
                Ok(answer) => {
                    for topic in &answer.topics {
                        let name = topic.name.to_string();
                        let result = created(topic, validate_only)
                            .map_err(|error| own_work(error, doubtful.contains(&name)));
                        if topic.error_code == ErrorCode::REQUEST_TIMED_OUT {
                            doubtful.insert(name.clone());
                        }
                        pending.answer(&name, result);
                    }
                }
                Err(cause) => {
                    doubtful.extend(open);
                    pending.fail(&cause);
                }
            }
        }
        pending.into_results()
    }

    /// Waits until topics that somebody creates can be used: each broker that answers knows them with a leader for every
    /// partition. Brokers that cannot be reached are left out, for they cannot be used either; one that hangs is waited for
    /// until it answers or the cluster drops it.
    ///
    /// # Errors
    /// For each topic what still stood in the way when the deadline came. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// admin.wait_for_topics(["orders"]).await.all()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_for_topics(
        &self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Results<String, TopicDescription> {
        let wanted = names.into_iter().map(|name| (name.into(), None));
        self.wait(wanted.collect(), &mut self.attempts()).await
    }

    /// A topic with an id is this very topic, not one of the same name that was there before.
    async fn wait(
        &self,
        wanted: BTreeMap<String, Option<Uuid>>,
        attempts: &mut Attempts,
    ) -> Results<String, TopicDescription> {
        let mut pending = Pending::new(wanted.keys().cloned());
        // A broker that hangs soon leaves the list of brokers: the attempts until then are short.
        let mut patience = self.nodes.config.retry_backoff_max.max(PATIENCE_MIN);
        while pending.again(attempts).await {
            let open = pending.open();
            let topics = open.iter().map(|name| by_name(name)).collect();
            let asked = self.metadata_of_each(topics, attempts.deadline, patience).await;
            patience = patience.saturating_mul(2);
            match asked {
                Ok(answers) => {
                    for name in &open {
                        let id = wanted.get(name).copied().flatten();
                        pending.answer(name, usable(&answers, name, id));
                    }
                }
                Err(cause) => pending.fail(&cause),
            }
        }
        pending.into_results()
    }

    /// Deletes topics with all that is in them. For a moment, some brokers may still say that they exist.
    ///
    /// # Errors
    /// For each topic its own, [`ErrorKind::UnknownTopic`] for one that does not exist. Where the answer to an earlier
    /// attempt was lost, that may be that attempt's own work, and the message says so.
    ///
    /// Cancelling: topics may be deleted all the same.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// admin.delete_topics(["orders"]).await.all()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_topics(
        &self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Results<String, ()> {
        let mut attempts = self.attempts();
        let mut pending = Pending::new(names.into_iter().map(Into::into));
        let mut doubtful = BTreeSet::new();
        while pending.again(&mut attempts).await {
            let open = pending.open();
            let controller = match self.controller(attempts.deadline).await {
                Ok(controller) => controller,
                Err(cause) => {
                    pending.fail(&cause);
                    continue;
                }
            };
            let request = delete_request(&open, wire_millis(attempts.deadline.request_timeout()));
            match controller.call(&request).await {
                Ok(answer) => {
                    for topic in &answer.responses {
                        let Some(name) = topic.name.as_ref().map(|name| name.to_string()) else { continue };
                        let subject = format_args!("topic {name}");
                        let result = checked(topic.error_code, topic.error_message.as_ref(), subject)
                            .map_err(|error| own_work(error, doubtful.contains(&name)));
                        match topic.error_code {
                            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => pending.settle(&name, result),
                            ErrorCode::REQUEST_TIMED_OUT => {
                                doubtful.insert(name.clone());
                                pending.answer(&name, result);
                            }
                            _ => pending.answer(&name, result),
                        }
                    }
                }
                Err(cause) => {
                    doubtful.extend(open);
                    pending.fail(&cause);
                }
            }
        }
        pending.into_results()
    }

    /// Asks any broker for topics by name. Asking never creates one.
    ///
    /// # Errors
    /// For each topic its own, [`ErrorKind::UnknownTopic`] at once for one that the broker does not know. Cancelling does no
    /// harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// let orders = admin.describe_topics(["orders"]).await.take("orders")?;
    /// println!("{} partitions", orders.partitions.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_topics(
        &self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Results<String, TopicDescription> {
        let mut attempts = self.attempts();
        let mut pending = Pending::new(names.into_iter().map(Into::into));
        while pending.again(&mut attempts).await {
            let topics = pending.open().iter().map(|name| by_name(name)).collect();
            match self.metadata(Some(topics), attempts.deadline).await {
                Ok(answer) => {
                    for topic in &answer.topics {
                        let name = name_of(topic).to_owned();
                        match topic.error_code {
                            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => pending.settle(&name, described(topic)),
                            _ => pending.answer(&name, described(topic)),
                        }
                    }
                }
                Err(cause) => pending.fail(&cause),
            }
        }
        pending.into_results()
    }

    /// Asks any broker for all topics that one is allowed to see, Kafka's own too.
    ///
    /// # Errors
    /// That of the last attempt, when none succeeds within the deadline. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// let names: Vec<String> =
    ///     admin.list_topics().await?.into_values().filter(|topic| !topic.internal).map(|topic| topic.name).collect();
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_topics(&self) -> Result<BTreeMap<String, TopicDescription>, Error> {
        let mut attempts = self.attempts();
        loop {
            let listed = self.metadata(None, attempts.deadline).await.and_then(|answer| {
                let topics = answer.topics.iter().map(described);
                topics.map(|topic| topic.map(|topic| (topic.name.clone(), topic))).collect()
            });
            match listed {
                Ok(topics) => return Ok(topics),
                Err(cause) => attempts.pause(cause).await?,
            }
        }
    }
}

fn by_unique_name(
    topics: impl IntoIterator<Item = NewTopic>,
) -> (BTreeMap<String, NewTopic>, BTreeSet<String>) {
    let (mut unique, mut twice) = (BTreeMap::new(), BTreeSet::new());
    for topic in topics {
        let name = topic.name.clone();
        if unique.insert(name.clone(), topic).is_some() {
            twice.insert(name);
        }
    }
    (unique, twice)
}

/// Names in both forms: which one is sent depends on the version.
fn delete_request(names: &[String], timeout_ms: i32) -> DeleteTopicsRequest {
    let names: Vec<Str> = names.iter().map(|name| Str::from(name.as_str())).collect();
    let state = |name: &Str| DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::ZERO };
    DeleteTopicsRequest { topics: names.iter().map(state).collect(), topic_names: names, timeout_ms }
}

fn created(topic: &CreatableTopicResult, validate_only: bool) -> Result<CreatedTopic, Error> {
    let name = &topic.name;
    checked(topic.error_code, topic.error_message.as_ref(), format_args!("topic {name}"))?;
    let configs = topic.configs.iter().flatten();
    let value = |value: &Option<Str>| value.as_ref().map(|value| value.to_string());
    Ok(CreatedTopic {
        // Apache Kafka makes an id up for a topic that it only validates, and forgets it.
        id: known(topic.topic_id).filter(|_| !validate_only),
        partitions: Some(topic.num_partitions).filter(|count| *count >= 0),
        replication_factor: Some(topic.replication_factor).filter(|copies| *copies >= 0),
        configs: configs.map(|config| (config.name.to_string(), value(&config.value))).collect(),
    })
}

/// An error that our own earlier attempt may have caused.
fn own_work(error: Error, doubtful: bool) -> Error {
    match error.code() {
        Some(ErrorCode::TOPIC_ALREADY_EXISTS | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) if doubtful => {
            error.with_context("perhaps done by an earlier attempt of this call, whose answer was lost")
        }
        _ => error,
    }
}

/// The topic, if every one of these brokers knows it and a leader for each of its partitions.
fn usable(answers: &[MetadataResponse], name: &str, id: Option<Uuid>) -> Result<TopicDescription, Error> {
    let mut description = None;
    for answer in answers {
        let topic = answer.topics.iter().find(|topic| name_of(topic) == name);
        let unknown =
            || Error::from_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format_args!("topic {name}"));
        let topic = topic.ok_or_else(unknown)?;
        let described = described(topic)?;
        // A broker that lags behind may still show an earlier topic of the same name.
        if id.is_some_and(|id| described.id.is_some_and(|shown| shown != id)) || topic.partitions.is_empty() {
            return Err(unknown());
        }
        if let Some(partition) = topic.partitions.iter().find(|p| p.leader_id < 0 || !p.error_code.is_ok()) {
            return Err(leaderless(name, partition));
        }
        description = Some(described);
    }
    description.ok_or_else(|| Error::new(ErrorKind::Connect, "the cluster has no broker at the moment"))
}

pub(super) fn leaderless(topic: &str, partition: &PartitionMetadata) -> Error {
    let code =
        if partition.error_code.is_ok() { ErrorCode::LEADER_NOT_AVAILABLE } else { partition.error_code };
    Error::from_code(code, format_args!("topic {topic}, partition {}", partition.partition_index))
}

pub(super) fn name_of(topic: &TopicMetadata) -> &str {
    topic.name.as_ref().map_or("", Str::as_str)
}

fn known(id: Uuid) -> Option<Uuid> {
    Some(id).filter(|id| *id != Uuid::ZERO)
}

fn described(topic: &TopicMetadata) -> Result<TopicDescription, Error> {
    let name = name_of(topic);
    checked(topic.error_code, None, format_args!("topic {name}"))?;
    let partition = |partition: &PartitionMetadata| PartitionDescription {
        partition: partition.partition_index,
        leader: Some(partition.leader_id).filter(|id| *id >= 0),
        leader_epoch: Some(partition.leader_epoch).filter(|epoch| *epoch >= 0),
        replicas: partition.replica_nodes.clone(),
        in_sync: partition.isr_nodes.clone(),
        offline: partition.offline_replicas.clone(),
    };
    let mut partitions: Vec<_> = topic.partitions.iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.partition);
    Ok(TopicDescription {
        name: name.to_owned(),
        id: known(topic.topic_id),
        internal: topic.is_internal,
        partitions,
    })
}
