//! Offsets that a group has committed: read, set and reset.
//!
//! It owns where a reset leads. It refuses to know how a group's members commit. Invariant: a group that has members is never
//! moved under them; its coordinator refuses, and that is told.

use std::collections::BTreeMap;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    MetadataTopic, OffsetCommitPartition, OffsetCommitRequest, OffsetCommitTopic, OffsetFetchGroup,
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchedTopic,
};
use ottla_protocol::wire::{Str, Uuid};

use super::attempts::{Deadline, Pending};
use super::cluster::{by_name, metadata_request};
use super::leaders::Partition;
use super::nodes::Address;
use super::offsets::OffsetSpec;
use super::topics::name_of;
use super::{Admin, Results, checked};
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind};

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

/// Where [`Admin::reset_offsets`] leads a group. What lies outside of a partition becomes its nearest end.
///
/// ```
/// use ottla::OffsetReset;
///
/// let a_hundred_again = OffsetReset::Shift(-100);
/// # let _ = a_hundred_again;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetReset {
    /// This offset.
    To(i64),
    /// The oldest record that is still there.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// The first record with this timestamp or a later one, in milliseconds since the Unix epoch; behind the newest record if
    /// all are older.
    Timestamp(i64),
    /// So many records further than what is committed now, or back from it.
    Shift(i64),
}

impl Admin {
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

    /// Commits offsets in the place of a group that has no members; of a group that does not exist yet, its first ones.
    ///
    /// # Errors
    /// For each partition its own: [`ErrorKind::UnknownTopic`] at once for one that does not exist, [`ErrorKind::Superseded`] when
    /// the group has members, for only they may commit then. Cancelling may leave some of it done; doing it again does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// admin.alter_offsets("billing", [("orders", 0, 1_000)]).await.all()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn alter_offsets(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = (impl Into<String>, i32, i64)>,
    ) -> Results<(String, i32), ()> {
        let named = offsets.into_iter().map(|(topic, partition, offset)| ((topic.into(), partition), offset));
        let offsets: BTreeMap<Partition, i64> = named.collect();
        let (mut attempts, mut pending) = (self.attempts(), Pending::new(offsets.keys().cloned()));
        for (partition, offset) in offsets.iter().filter(|(_, offset)| **offset < 0) {
            let message =
                format!("topic {}, partition {}: offset {offset} is negative", partition.0, partition.1);
            pending.settle(partition, Err(Error::new(ErrorKind::InvalidArgument, message)));
        }
        while pending.again(&mut attempts).await {
            if let Err(cause) = self.try_alter(group, &offsets, &mut pending, attempts.deadline).await {
                pending.fail(&cause);
            }
        }
        pending.into_results()
    }

    async fn try_alter(
        &self,
        group: &str,
        offsets: &BTreeMap<Partition, i64>,
        pending: &mut Pending<Partition, ()>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let mut names: Vec<MetadataTopic> = pending.open().iter().map(|p| by_name(&p.0)).collect();
        names.dedup();
        let cluster = self.metadata(Some(names), deadline).await?;
        let mut topics = Vec::new();
        for topic in &cluster.topics {
            let (name, known) = (name_of(topic), topic.partitions.len());
            let mut partitions = Vec::new();
            for asked in pending.open().into_iter().filter(|(topic, _)| topic == name) {
                let subject = format_args!("topic {name}, partition {}", asked.1);
                if usize::try_from(asked.1).is_ok_and(|index| index < known) {
                    partitions.push(OffsetCommitPartition {
                        partition_index: asked.1,
                        committed_offset: offsets[&asked],
                        ..OffsetCommitPartition::default()
                    });
                } else if topic.error_code.is_ok() {
                    let unknown = Error::from_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, subject);
                    pending.settle(&asked, Err(unknown));
                } else if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                    pending.settle(&asked, Err(Error::from_code(topic.error_code, subject)));
                } else {
                    pending.answer(&asked, Err(Error::from_code(topic.error_code, subject)));
                }
            }
            if !partitions.is_empty() {
                topics.push(OffsetCommitTopic {
                    name: Str::from(name),
                    topic_id: topic.topic_id,
                    partitions,
                });
            }
        }
        if topics.is_empty() {
            return Ok(());
        }
        let ids: BTreeMap<Uuid, Str> =
            topics.iter().map(|topic| (topic.topic_id, topic.name.clone())).collect();
        let (_, coordinator) = self.coordinator(group, deadline).await?;
        let node = self.nodes.reach(&coordinator, deadline).await?;
        let request =
            OffsetCommitRequest { group_id: Str::from(group), topics, ..OffsetCommitRequest::default() };
        for topic in node.call(&request).await?.topics {
            // From version 10 on topics are named by their ids.
            let name = if topic.name.is_empty() { ids.get(&topic.topic_id) } else { Some(&topic.name) };
            let Some(name) = name else { continue };
            for partition in topic.partitions {
                let (index, code) = (partition.partition_index, partition.error_code);
                let subject = format_args!("group {group}, topic {name}, partition {index}");
                let result = checked(code, None, subject).map_err(|error| match code {
                    ErrorCode::UNKNOWN_MEMBER_ID => error.with_context("the group has members"),
                    _ => error,
                });
                pending.answer(&(name.to_string(), index), result);
            }
        }
        Ok(())
    }

    /// Leads a group that has no members to other offsets of partitions, and says for each where it goes on.
    ///
    /// # Errors
    /// For each partition its own, as those of [`alter_offsets`](Self::alter_offsets) and
    /// [`list_offsets`](Self::list_offsets); [`ErrorKind::InvalidArgument`] for a [`Shift`](OffsetReset::Shift) where nothing is
    /// committed. Cancelling may leave some of it done.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use ottla::OffsetReset;
    ///
    /// let since_new_year = OffsetReset::Timestamp(1_767_225_600_000);
    /// admin.reset_offsets("billing", [("orders", 0), ("orders", 1)], since_new_year).await.all()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reset_offsets(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = (impl Into<String>, i32)>,
        to: OffsetReset,
    ) -> Results<(String, i32), i64> {
        let partitions: Vec<Partition> =
            partitions.into_iter().map(|(topic, partition)| (topic.into(), partition)).collect();
        let list =
            |spec| self.list_offsets(partitions.iter().cloned(), spec, IsolationLevel::ReadUncommitted);
        let (mut earliest, mut latest) = (list(OffsetSpec::Earliest).await, list(OffsetSpec::Latest).await);
        let mut found = match to {
            OffsetReset::Timestamp(ms) => Some(list(OffsetSpec::Timestamp(ms)).await),
            _ => None,
        };
        let committed = match to {
            OffsetReset::Shift(_) => self.committed_offsets(group).await,
            _ => Ok(BTreeMap::new()),
        };
        let mut goal = |partition: &Partition| -> Result<i64, Error> {
            // A partition that has no offsets at all was answered with an error.
            let start = earliest.take(partition)?.offset.unwrap_or(0);
            let end = latest.take(partition)?.offset.unwrap_or(start);
            let wanted = match to {
                OffsetReset::To(offset) => offset,
                OffsetReset::Earliest => start,
                OffsetReset::Latest => end,
                OffsetReset::Timestamp(_) => match &mut found {
                    Some(found) => found.take(partition)?.offset.unwrap_or(end),
                    None => end,
                },
                OffsetReset::Shift(by) => {
                    let held = committed.as_ref().map_err(Clone::clone)?.get(partition);
                    let nothing = || {
                        let (topic, index) = partition;
                        let message = format!(
                            "group {group} has committed nothing for topic {topic}, partition {index}"
                        );
                        Error::new(ErrorKind::InvalidArgument, message)
                    };
                    held.ok_or_else(nothing)?.offset.saturating_add(by)
                }
            };
            Ok(wanted.clamp(start, end.max(start)))
        };
        let mut results: BTreeMap<Partition, Result<i64, Error>> = BTreeMap::new();
        for partition in &partitions {
            if !results.contains_key(partition) {
                results.insert(partition.clone(), goal(partition));
            }
        }
        let goals = results.iter().filter_map(|((topic, partition), goal)| {
            goal.as_ref().ok().map(|offset| (topic.clone(), *partition, *offset))
        });
        let goals: Vec<_> = goals.collect();
        for (partition, altered) in self.alter_offsets(group, goals).await {
            if let (Err(error), Some(result)) = (altered, results.get_mut(&partition)) {
                *result = Err(error);
            }
        }
        Results(results)
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
