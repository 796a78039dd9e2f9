//! CreatePartitions: lets topics grow.
//!
//! Versions 0 to 3: whole, but for the timeout (partitions are there at once). Refused: fewer or as many partitions as there
//! are, and the topics of coordinators, where what is stored belongs to a partition by the number of them. Any node answers, as
//! with KRaft.

use super::{Caller, Refuse};
use crate::core::settings::PARTITIONS_MAX;
use crate::core::{Cluster, Now};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use ottla_protocol::wire::Str;
use std::collections::BTreeSet;

/// An error code and what to tell the administrator.
type Refused = (ErrorCode, String);

impl Refuse for CreatePartitionsRequest {
    type Response = CreatePartitionsResponse;

    fn refuse(&self, code: ErrorCode) -> CreatePartitionsResponse {
        let refused = || Err((code, code.message().to_string()));
        let results = self.topics.iter().map(|topic| grown(&topic.name, refused())).collect();
        CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
    }
}

fn grown(name: &Str, outcome: Result<(), Refused>) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = match outcome {
        Ok(()) => (ErrorCode::NONE, None),
        Err((code, message)) => (code, Some(Str::from(message))),
    };
    CreatePartitionsTopicResult { name: name.clone(), error_code, error_message }
}

impl Cluster {
    pub(crate) fn create_partitions(
        &mut self,
        now: Now,
        caller: &Caller,
        request: CreatePartitionsRequest,
    ) -> CreatePartitionsResponse {
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<&Str> =
            request.topics.iter().map(|topic| &topic.name).filter(|name| !seen.insert(*name)).collect();
        let grow = |topic: &CreatePartitionsTopic| {
            let allowed = self.access.on_topic(ApiKey::CREATE_PARTITIONS, caller, &topic.name);
            let outcome = match twice.contains(&topic.name) {
                _ if allowed.is_err() => {
                    let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
                    Err((code, code.message().to_string()))
                }
                true => Err((ErrorCode::INVALID_REQUEST, format!("topic {} is named twice", topic.name))),
                false => self.grow(now, topic, request.validate_only),
            };
            grown(&topic.name, outcome)
        };
        let results = request.topics.iter().map(grow).collect();
        CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
    }

    fn grow(&mut self, now: Now, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refused> {
        let name = &asked.name;
        let unknown = || (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("there is no topic {name}"));
        let topic = self.topics.get(name).ok_or_else(unknown)?;
        if topic.is_internal() {
            return Err((ErrorCode::INVALID_REQUEST, format!("{name} keeps its number of partitions")));
        }
        let there = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let invalid = |reason| Err((ErrorCode::INVALID_PARTITIONS, reason));
        if asked.count == there {
            return invalid(format!("Topic already has {there} partition(s)."));
        }
        if asked.count < there {
            let reason = "which would not be an increase";
            return invalid(format!(
                "{name} has {there} partition(s) and {} were asked for, {reason}",
                asked.count
            ));
        }
        if asked.count > PARTITIONS_MAX {
            return invalid(format!("{} partitions: there must be 1 to {PARTITIONS_MAX}", asked.count));
        }
        let replicas = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
        let nodes = match &asked.assignments {
            Some(assignments) => self.checked(assignments, asked.count - there, replicas)?,
            None => {
                let replicas = i16::try_from(replicas).unwrap_or(1);
                let all = self.assign(asked.count, replicas);
                all.into_iter().skip(usize::try_from(there).unwrap_or(0)).collect()
            }
        };
        if validate_only {
            return Ok(());
        }
        let failed = |error| (ErrorCode::KAFKA_STORAGE_ERROR, format!("{name} cannot be written: {error}"));
        self.extend_topic(now, name, nodes).map_err(failed)
    }

    /// The nodes that the request names for each new partition.
    fn checked(
        &self,
        assignments: &[CreatePartitionsAssignment],
        missing: i32,
        replicas: usize,
    ) -> Result<Vec<Vec<i32>>, Refused> {
        let invalid = |reason| Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, reason));
        if i32::try_from(assignments.len()) != Ok(missing) {
            return invalid(format!("{missing} partitions are new, {} are assigned", assignments.len()));
        }
        for CreatePartitionsAssignment { broker_ids } in assignments {
            let distinct: BTreeSet<&i32> = broker_ids.iter().collect();
            let known = broker_ids.iter().all(|node| self.nodes.contains_key(node));
            if distinct.len() != replicas || broker_ids.len() != replicas || !known {
                return invalid(format!("{broker_ids:?}: there must be {replicas} distinct nodes"));
            }
        }
        Ok(assignments.iter().map(|it| it.broker_ids.clone()).collect())
    }
}
