//! Offsets: those that a partition has, and those that a group has committed.
//!
//! It owns what the special timestamps mean, and that a partition's leader is asked about it. Invariant: a broker that does
//! not know a special timestamp is never sent one, since it would look it up as a time.

use std::collections::BTreeMap;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, ListedPartition,
    MetadataResponse, MetadataTopic, OffsetFetchGroup, OffsetFetchRequest, OffsetFetchResponse,
    OffsetFetchedTopic,
};
use ottla_protocol::wire::{Str, Uuid};

use super::attempts::{Deadline, Pending, all};
use super::cluster::{address_of, by_name, metadata_request};
use super::nodes::Address;
use super::topics::{leaderless, name_of};
use super::{Admin, Results, checked};
use crate::config::{IsolationLevel, wire_millis};
use crate::error::{Error, ErrorKind};

/// A topic and the number of a partition.
type Partition = (String, i32);

/// Which offset of a partition is asked for.
///
/// ```
/// use ottla::OffsetSpec;
///
/// let since_new_year = OffsetSpec::Timestamp(1_767_225_600_000);
/// # let _ = since_new_year;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// That of the oldest record that is still there.
    Earliest,
    /// That of the record that will come next: the high watermark, or under
    /// [`ReadCommitted`](IsolationLevel::ReadCommitted) the end of the last transaction that has ended.
    Latest,
    /// That of the first record with this timestamp or a later one, in milliseconds since the Unix epoch (KIP-79). A
    /// negative one is refused.
    Timestamp(i64),
    /// That of the record with the largest timestamp (KIP-734, from Kafka 3.0 on).
    MaxTimestamp,
}

impl OffsetSpec {
    /// The value on the wire, and the first version of ListOffsets that knows it.
    fn wire(self) -> (i64, i16) {
        match self {
            OffsetSpec::Latest => (-1, 0),
            OffsetSpec::Earliest => (-2, 0),
            OffsetSpec::MaxTimestamp => (-3, 7),
            OffsetSpec::Timestamp(ms) => (ms, 0),
        }
    }
}

/// What was found in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOffset {
    /// The offset; `None` when no record fits: none is as late as the timestamp, or there is none at all.
    pub offset: Option<i64>,
    /// The timestamp of the record there, in milliseconds since the Unix epoch, when it was looked up by one.
    pub timestamp: Option<i64>,
    /// The leader epoch of the record there (KIP-320), if the broker says so.
    pub leader_epoch: Option<i32>,
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read (KIP-320), if it was committed too.
    pub leader_epoch: Option<i32>,
    /// What the committer wrote beside it.
    pub metadata: String,
}

impl Admin {
    /// Asks the leaders of partitions for offsets.
    ///
    /// # Errors
    /// For each partition its own: [`ErrorKind::UnknownTopic`] at once for one that does not exist,
    /// [`ErrorKind::UnsupportedVersion`] when its leader is too old for what is asked. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use ottla::{IsolationLevel, OffsetSpec};
    ///
    /// let first_two = [("orders", 0), ("orders", 1)];
    /// let ends = admin.list_offsets(first_two, OffsetSpec::Latest, IsolationLevel::ReadCommitted).await;
    /// for ((topic, partition), end) in ends.all()? {
    ///     println!("{topic} {partition} ends at {:?}", end.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_offsets(
        &self,
        partitions: impl IntoIterator<Item = (impl Into<String>, i32)>,
        spec: OffsetSpec,
        isolation: IsolationLevel,
    ) -> Results<(String, i32), ListedOffset> {
        let mut attempts = self.attempts();
        let mut pending =
            Pending::new(partitions.into_iter().map(|(topic, partition)| (topic.into(), partition)));
        if let OffsetSpec::Timestamp(ms @ ..0) = spec {
            for partition in pending.open() {
                let message =
                    format!("topic {}, partition {}: timestamp {ms} is negative", partition.0, partition.1);
                pending.settle(&partition, Err(Error::new(ErrorKind::InvalidArgument, message)));
            }
        }
        while pending.again(&mut attempts).await {
            let open = pending.open();
            let mut topics: Vec<MetadataTopic> = open.iter().map(|p| by_name(&p.0)).collect();
            topics.dedup();
            let cluster = match self.metadata(Some(topics), attempts.deadline).await {
                Ok(cluster) => cluster,
                Err(cause) => {
                    pending.fail(&cause);
                    continue;
                }
            };
            let questions = by_leader(&cluster, open, &mut pending);
            let asked = questions.iter().map(|(leader, partitions)| {
                self.ask_leader(leader, partitions, spec, isolation, attempts.deadline)
            });
            for (partitions, answer) in questions.values().zip(all(asked).await) {
                match answer {
                    Ok(answer) => take_offsets(&answer, &mut pending),
                    Err(cause) => {
                        for partition in partitions.keys() {
                            pending.answer(partition, Err(cause.clone()));
                        }
                    }
                }
            }
        }
        pending.into_results()
    }

    async fn ask_leader(
        &self,
        leader: &Address,
        partitions: &BTreeMap<Partition, i32>,
        spec: OffsetSpec,
        isolation: IsolationLevel,
        deadline: Deadline,
    ) -> Result<ListOffsetsResponse, Error> {
        let node = self.nodes.reach(leader, deadline).await?;
        let (timestamp, since) = spec.wire();
        if node.version::<ListOffsetsRequest>()? < since {
            let message = format!("broker {}:{} is too old for {spec:?}", leader.0, leader.1);
            return Err(Error::new(ErrorKind::UnsupportedVersion, message));
        }
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for ((topic, partition), leader_epoch) in partitions {
            let question = ListOffsetsPartition {
                partition_index: *partition,
                current_leader_epoch: *leader_epoch,
                timestamp,
            };
            match topics.last_mut().filter(|last| last.name == **topic) {
                Some(last) => last.partitions.push(question),
                None => {
                    topics.push(ListOffsetsTopic {
                        name: Str::from(topic.as_str()),
                        partitions: vec![question],
                    });
                }
            }
        }
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: isolation.wire(),
            topics,
            timeout_ms: wire_millis(deadline.request_timeout()),
        };
        node.call(&request).await
    }

    /// Asks a group's coordinator for all that the group has committed. A group that nobody has heard of has committed
    /// nothing, and so has one with offsets of a topic that is gone. Offsets of a transaction count when it has committed.
    ///
    /// # Errors
    /// The coordinator's; or that of the last attempt, when none succeeds within the deadline. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// for ((topic, partition), committed) in admin.committed_offsets("billing").await? {
    ///     println!("{topic} {partition}: {}", committed.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<(String, i32), CommittedOffset>, Error> {
        let mut attempts = self.attempts();
        loop {
            match self.fetch_offsets(group, attempts.deadline).await {
                Ok(offsets) => return Ok(offsets),
                Err(cause) => attempts.pause(cause).await?,
            }
        }
    }

    async fn fetch_offsets(
        &self,
        group: &str,
        deadline: Deadline,
    ) -> Result<BTreeMap<Partition, CommittedOffset>, Error> {
        let (_, coordinator) = self.coordinator(group, deadline).await?;
        let node = self.nodes.reach(&coordinator, deadline).await?;
        let id = Str::from(group);
        // The group in both forms: which one is sent depends on the version (KIP-709).
        let everything =
            OffsetFetchGroup { group_id: id.clone(), topics: None, ..OffsetFetchGroup::default() };
        let request = OffsetFetchRequest {
            group_id: id,
            topics: None,
            groups: vec![everything],
            ..OffsetFetchRequest::default()
        };
        let topics = fetched_topics(node.call(&request).await?, group)?;
        let names = self.names_of(&topics, &coordinator, deadline).await?;
        let mut offsets = BTreeMap::new();
        for topic in &topics {
            let name =
                if topic.topic_id == Uuid::ZERO { Some(&topic.name) } else { names.get(&topic.topic_id) };
            let Some(name) = name else { continue };
            for partition in &topic.partitions {
                let subject =
                    format_args!("group {group}, topic {name}, partition {}", partition.partition_index);
                checked(partition.error_code, None, subject)?;
                if partition.committed_offset >= 0 {
                    let committed = CommittedOffset {
                        offset: partition.committed_offset,
                        leader_epoch: Some(partition.committed_leader_epoch).filter(|epoch| *epoch >= 0),
                        metadata: partition
                            .metadata
                            .as_ref()
                            .map(|text| text.to_string())
                            .unwrap_or_default(),
                    };
                    offsets.insert((name.to_string(), partition.partition_index), committed);
                }
            }
        }
        Ok(offsets)
    }

    /// From OffsetFetch version 10 on topics come by id. One whose id the broker no longer knows is gone.
    async fn names_of(
        &self,
        topics: &[OffsetFetchedTopic],
        coordinator: &Address,
        deadline: Deadline,
    ) -> Result<BTreeMap<Uuid, Str>, Error> {
        let ids = topics.iter().map(|topic| topic.topic_id).filter(|id| *id != Uuid::ZERO);
        let ids: Vec<_> = ids.map(|topic_id| MetadataTopic { topic_id, name: None }).collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let node = self.nodes.reach(coordinator, deadline).await?;
        let answer = node.call(&metadata_request(Some(ids))).await?;
        let mut names = BTreeMap::new();
        for topic in answer.topics {
            if let (Some(name), true) = (topic.name, topic.error_code.is_ok()) {
                names.insert(topic.topic_id, name);
            } else if topic.error_code != ErrorCode::UNKNOWN_TOPIC_ID {
                checked(topic.error_code, None, format_args!("topic with the id {}", topic.topic_id))?;
            }
        }
        Ok(names)
    }
}

/// Puts each partition to its leader, with the leader epoch that must hold there (KIP-320). Those without a leader get
/// their error.
fn by_leader(
    cluster: &MetadataResponse,
    open: Vec<Partition>,
    pending: &mut Pending<Partition, ListedOffset>,
) -> BTreeMap<Address, BTreeMap<Partition, i32>> {
    let mut questions: BTreeMap<Address, BTreeMap<Partition, i32>> = BTreeMap::new();
    for asked in open {
        let (name, index) = &asked;
        let subject = format_args!("topic {name}, partition {index}");
        let unknown = |code| Err(Error::from_code(code, subject));
        let Some(topic) = cluster.topics.iter().find(|topic| name_of(topic) == name) else { continue };
        match topic.error_code {
            ErrorCode::NONE => {}
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                pending.settle(&asked, unknown(topic.error_code));
                continue;
            }
            code => {
                pending.answer(&asked, unknown(code));
                continue;
            }
        }
        let Some(partition) = topic.partitions.iter().find(|p| p.partition_index == *index) else {
            pending.settle(&asked, unknown(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
            continue;
        };
        match address_of(&cluster.brokers, partition.leader_id) {
            Some(leader) => {
                questions.entry(leader).or_default().insert(asked, partition.leader_epoch);
            }
            None => pending.answer(&asked, Err(leaderless(name, partition))),
        }
    }
    questions
}

fn take_offsets(answer: &ListOffsetsResponse, pending: &mut Pending<Partition, ListedOffset>) {
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let asked = (topic.name.to_string(), partition.partition_index);
            let subject = format_args!("topic {}, partition {}", topic.name, partition.partition_index);
            let result = checked(partition.error_code, None, subject).map(|()| listed(partition));
            pending.answer(&asked, result);
        }
    }
}

fn listed(partition: &ListedPartition) -> ListedOffset {
    ListedOffset {
        offset: Some(partition.offset).filter(|offset| *offset >= 0),
        timestamp: Some(partition.timestamp).filter(|ms| *ms >= 0),
        leader_epoch: Some(partition.leader_epoch).filter(|epoch| *epoch >= 0),
    }
}

/// What the answer holds of the group, in whichever form it came.
fn fetched_topics(answer: OffsetFetchResponse, group: &str) -> Result<Vec<OffsetFetchedTopic>, Error> {
    let subject = format_args!("group {group}");
    match answer.groups.into_iter().find(|fetched| fetched.group_id == *group) {
        Some(fetched) => checked(fetched.error_code, None, subject).map(|()| fetched.topics),
        None => checked(answer.error_code, None, subject).map(|()| answer.topics),
    }
}
