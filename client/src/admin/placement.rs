//! On which nodes partitions are, and who of them leads: elections (KIP-460) and reassignments (KIP-455).
//!
//! It refuses to choose nodes. Invariant: all of it is asked of the controller, and each partition has its own result.

use std::collections::BTreeMap;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequest, ElectLeadersRequest, ElectLeadersResponse, ElectLeadersTopic,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, ReassignablePartition,
    ReassignableTopic,
};
use ottla_protocol::wire::Str;

use super::attempts::{Deadline, Pending};
use super::leaders::{Partition, Told};
use super::{Admin, Results, checked};
use crate::config::wire_millis;
use crate::error::{Error, ErrorKind};

/// Which replica is to lead, for [`Admin::elect_leaders`].
///
/// ```
/// assert_ne!(ottla::Election::Preferred, ottla::Election::Unclean);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Election {
    /// The first one of the partition's replicas, if it is in sync.
    Preferred,
    /// Where nobody leads: one in sync, or else any that is there. **Records that only others have are lost**, though they were
    /// acknowledged.
    Unclean,
}

impl Election {
    fn wire(self) -> i8 {
        match self {
            Self::Preferred => 0,
            Self::Unclean => 1,
        }
    }

    /// The first version of ElectLeaders that knows it.
    fn since(self) -> i16 {
        i16::from(self.wire())
    }
}

/// A partition that is on its way to other nodes.
///
/// ```no_run
/// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
/// for ((topic, partition), moving) in admin.list_reassignments().await? {
///     println!("{topic}-{partition} comes to {:?}", moving.adding);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reassignment {
    /// The nodes that it is on now, those among them that it comes to and those that it leaves.
    pub replicas: Vec<i32>,
    /// The nodes that it comes to, and that lack some of it still.
    pub adding: Vec<i32>,
    /// The nodes that it leaves, once the others have all of it.
    pub removing: Vec<i32>,
}

impl Admin {
    /// Lets another replica of each of these partitions lead. The result of each is whether there was a need: `false` where the
    /// preferred replica leads already, or for [`Election::Unclean`] any.
    ///
    /// # Errors
    /// For each partition its own: [`ErrorKind::UnknownTopic`] at once for one that does not exist, [`ErrorKind::Broker`] when
    /// until the deadline no replica is there that may lead. [`ErrorKind::UnsupportedVersion`] for an unclean election on a cluster older than 2.4.
    /// Cancelling may leave some of it done; doing it again does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use ottla::Election;
    ///
    /// for (partition, elected) in admin.elect_leaders(Election::Preferred, [("orders", 0), ("orders", 1)]).await {
    ///     println!("{partition:?}: {elected:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: impl IntoIterator<Item = (impl Into<String>, i32)>,
    ) -> Results<(String, i32), bool> {
        let partitions = partitions.into_iter().map(|(topic, partition)| (topic.into(), partition));
        let mut pending = Pending::new(partitions);
        let mut attempts = self.attempts();
        while pending.again(&mut attempts).await {
            let mut topics: Vec<ElectLeadersTopic> = Vec::new();
            for (topic, index) in pending.open() {
                match topics.last_mut().filter(|last| *last.topic == *topic) {
                    Some(last) => last.partitions.push(index),
                    None => {
                        topics.push(ElectLeadersTopic { topic: Str::from(topic), partitions: vec![index] })
                    }
                }
            }
            match self.elect(election, Some(topics), attempts.deadline).await {
                Ok(told) => settle(&mut pending, told),
                Err(cause) => pending.fail(&cause),
            }
        }
        pending.into_results()
    }

    /// Lets another replica lead wherever the preferred one could and does not, or for [`Election::Unclean`] wherever nobody leads.
    /// Partitions without a need are not among the results.
    ///
    /// # Errors
    /// That of the last attempt, when none succeeds within the deadline; for each partition its own, as
    /// [`elect_leaders`](Admin::elect_leaders). Cancelling may leave some of it done; doing it again does no harm.
    pub async fn elect_all_leaders(&self, election: Election) -> Result<Results<(String, i32), bool>, Error> {
        let mut attempts = self.attempts();
        loop {
            match self.elect(election, None, attempts.deadline).await {
                Ok(told) => return Ok(Results(told.into_iter().collect())),
                Err(cause) => attempts.pause(cause).await?,
            }
        }
    }

    async fn elect(
        &self,
        election: Election,
        topic_partitions: Option<Vec<ElectLeadersTopic>>,
        deadline: Deadline,
    ) -> Result<Told<bool>, Error> {
        let controller = self.controller(deadline).await?;
        if controller.version::<ElectLeadersRequest>()? < election.since() {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                "the cluster is too old for unclean elections",
            ));
        }
        let timeout_ms = wire_millis(deadline.request_timeout());
        let request = ElectLeadersRequest { election_type: election.wire(), topic_partitions, timeout_ms };
        elected(controller.call(&request).await?)
    }

    /// Moves partitions to other nodes, or with `None` back to where they were before a move that is not over. It returns when the
    /// moves have begun; [`list_reassignments`](Admin::list_reassignments) tells which are not over. The first node of each is its
    /// preferred leader from then on.
    ///
    /// # Errors
    /// For each partition its own: [`ErrorKind::UnknownTopic`] at once for one that does not exist, [`ErrorKind::InvalidArgument`] or
    /// [`ErrorKind::Broker`] for nodes that are unknown or named twice, and where nothing is on its way that could be taken back. Where the
    /// answer to an earlier attempt was lost, that may be that attempt's own work. Cancelling: moves may begin all the same.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// admin.alter_reassignments([("orders", 0, Some(vec![2, 3])), ("orders", 1, None)]).await.all()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn alter_reassignments(
        &self,
        moves: impl IntoIterator<Item = (impl Into<String>, i32, Option<Vec<i32>>)>,
    ) -> Results<(String, i32), ()> {
        let named = moves.into_iter().map(|(topic, partition, nodes)| ((topic.into(), partition), nodes));
        let moves: BTreeMap<Partition, Option<Vec<i32>>> = named.collect();
        let mut pending = Pending::new(moves.keys().cloned());
        let mut attempts = self.attempts();
        while pending.again(&mut attempts).await {
            let mut topics: Vec<ReassignableTopic> = Vec::new();
            for partition in pending.open() {
                let replicas = moves.get(&partition).cloned().flatten();
                let (topic, partition_index) = partition;
                let moved = ReassignablePartition { partition_index, replicas };
                match topics.last_mut().filter(|last| *last.name == *topic) {
                    Some(last) => last.partitions.push(moved),
                    None => {
                        topics.push(ReassignableTopic { name: Str::from(topic), partitions: vec![moved] });
                    }
                }
            }
            match self.reassign(topics, attempts.deadline).await {
                Ok(told) => settle(&mut pending, told),
                Err(cause) => pending.fail(&cause),
            }
        }
        pending.into_results()
    }

    async fn reassign(&self, topics: Vec<ReassignableTopic>, deadline: Deadline) -> Result<Told<()>, Error> {
        let controller = self.controller(deadline).await?;
        let timeout_ms = wire_millis(deadline.request_timeout());
        let request = AlterPartitionReassignmentsRequest { timeout_ms, topics, ..Default::default() };
        let answer = controller.call(&request).await?;
        checked(answer.error_code, answer.error_message.as_ref(), "reassignments")?;
        let mut told = Vec::new();
        for topic in answer.responses {
            for partition in topic.partitions {
                let index = partition.partition_index;
                let subject = format_args!("topic {}, partition {index}", topic.name);
                let result = checked(partition.error_code, partition.error_message.as_ref(), subject);
                told.push(((topic.name.to_string(), index), result));
            }
        }
        Ok(told)
    }

    /// Every partition that is on its way to other nodes.
    ///
    /// # Errors
    /// That of the last attempt, when none succeeds within the deadline. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// while !admin.list_reassignments().await?.is_empty() {
    ///     // Not over yet.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_reassignments(&self) -> Result<BTreeMap<(String, i32), Reassignment>, Error> {
        let mut attempts = self.attempts();
        loop {
            match self.listed(attempts.deadline).await {
                Ok(moving) => return Ok(moving),
                Err(cause) => attempts.pause(cause).await?,
            }
        }
    }

    async fn listed(&self, deadline: Deadline) -> Result<BTreeMap<Partition, Reassignment>, Error> {
        let controller = self.controller(deadline).await?;
        let timeout_ms = wire_millis(deadline.request_timeout());
        let request = ListPartitionReassignmentsRequest { timeout_ms, topics: None };
        let answer: ListPartitionReassignmentsResponse = controller.call(&request).await?;
        checked(answer.error_code, answer.error_message.as_ref(), "reassignments")?;
        let mut moving = BTreeMap::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let reassignment = Reassignment {
                    replicas: partition.replicas,
                    adding: partition.adding_replicas,
                    removing: partition.removing_replicas,
                };
                moving.insert((topic.name.to_string(), partition.partition_index), reassignment);
            }
        }
        Ok(moving)
    }
}

/// What the controller says of each partition; one that does not exist will not come into being meanwhile.
fn settle<V>(pending: &mut Pending<Partition, V>, told: Told<V>) {
    for (partition, result) in told {
        let code = result.as_ref().err().and_then(Error::code);
        match code {
            Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => pending.settle(&partition, result),
            _ => pending.answer(&partition, result),
        }
    }
}

fn elected(answer: ElectLeadersResponse) -> Result<Told<bool>, Error> {
    checked(answer.error_code, None, "elections")?;
    let mut told = Vec::new();
    for topic in answer.replica_election_results {
        for partition in topic.partition_result {
            let index = partition.partition_id;
            let subject = format_args!("topic {}, partition {index}", topic.topic);
            let result = match partition.error_code {
                ErrorCode::ELECTION_NOT_NEEDED => Ok(false),
                code => checked(code, partition.error_message.as_ref(), subject).map(|()| true),
            };
            told.push(((topic.topic.to_string(), index), result));
        }
    }
    Ok(told)
}
