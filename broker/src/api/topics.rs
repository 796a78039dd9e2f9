//! CreateTopics and DeleteTopics.
//!
//! CreateTopics versions 2 to 7: whole, but for the timeout (topics are there at once). A configuration entry must be one
//! that Kafka has; those without effect here are accepted, see the settings. DeleteTopics versions 1 to 6: whole, by name
//! or by id, but for the timeout. Any node answers, as with KRaft.

use super::{Caller, Refuse};
use crate::core::authorizer::{Kind, Operation};
use crate::core::settings::{Given, PARTITIONS_MAX, TopicSettings};
use crate::core::topics::is_legal_name;
use crate::core::{Cluster, Now};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
    CreatedTopicConfig, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse, DeletedTopic,
};
use ottla_protocol::wire::{Str, Uuid};
use std::collections::BTreeSet;

/// The source of a configuration entry that was set for its topic.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;

/// An error code and what to tell the administrator.
type Refused = (ErrorCode, String);

impl Refuse for CreateTopicsRequest {
    type Response = CreateTopicsResponse;

    fn refuse(&self, code: ErrorCode) -> CreateTopicsResponse {
        let topics = self.topics.iter().map(|topic| not_created(topic, (code, code.message().to_string())));
        CreateTopicsResponse { topics: topics.collect(), ..CreateTopicsResponse::default() }
    }
}

/// What somebody is told of his topic who may not know how it is configured.
fn without_configs(created: CreatableTopicResult) -> CreatableTopicResult {
    CreatableTopicResult {
        topic_config_error_code: ErrorCode::TOPIC_AUTHORIZATION_FAILED.0,
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..created
    }
}

fn whole(code: ErrorCode) -> Refused {
    (code, code.message().to_string())
}

fn not_created(topic: &CreatableTopic, (error_code, message): Refused) -> CreatableTopicResult {
    let error_message = Some(Str::from(message));
    CreatableTopicResult {
        name: topic.name.clone(),
        error_code,
        error_message,
        ..CreatableTopicResult::default()
    }
}

impl Refuse for DeleteTopicsRequest {
    type Response = DeleteTopicsResponse;

    fn refuse(&self, code: ErrorCode) -> DeleteTopicsResponse {
        let by_name = self.topic_names.iter().map(|name| not_deleted(Some(name.clone()), Uuid::ZERO, code));
        let by_state = self.topics.iter().map(|topic| not_deleted(topic.name.clone(), topic.topic_id, code));
        DeleteTopicsResponse {
            responses: by_name.chain(by_state).collect(),
            ..DeleteTopicsResponse::default()
        }
    }
}

fn not_deleted(name: Option<Str>, topic_id: Uuid, error_code: ErrorCode) -> DeletedTopic {
    let error_message = Some(Str::from_static(error_code.message()));
    DeletedTopic { name, topic_id, error_code, error_message }
}

impl Cluster {
    pub(crate) fn create_topics(
        &mut self,
        now: Now,
        caller: &Caller,
        request: CreateTopicsRequest,
    ) -> CreateTopicsResponse {
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<&Str> =
            request.topics.iter().map(|topic| &topic.name).filter(|name| !seen.insert(*name)).collect();
        let all = self.access.on_cluster(Operation::Create, caller).is_ok();
        let create = |topic: &CreatableTopic| {
            let may = |it| self.access.check(caller, Kind::Topic, &topic.name, it);
            let allowed = if all { Ok(()) } else { may(Operation::Create) };
            let shows = may(Operation::DescribeConfigs).is_ok();
            let created = match twice.contains(&topic.name) {
                _ if allowed.is_err() => Err(whole(ErrorCode::TOPIC_AUTHORIZATION_FAILED)),
                true => Err((ErrorCode::INVALID_REQUEST, format!("topic {} is named twice", topic.name))),
                false => self.create(now, topic, request.validate_only),
            };
            let created = created.map(|created| if shows { created } else { without_configs(created) });
            created.unwrap_or_else(|refused| not_created(topic, refused))
        };
        let topics = request.topics.iter().map(create).collect();
        CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
    }

    fn create(
        &mut self,
        now: Now,
        asked: &CreatableTopic,
        validate_only: bool,
    ) -> Result<CreatableTopicResult, Refused> {
        self.check_name(&asked.name)?;
        let replicas = if asked.assignments.is_empty() { self.spread(asked)? } else { self.assigned(asked)? };
        let settings = self.asked_settings(&asked.configs)?;
        let configs = settings.given.iter().map(|(name, value)| CreatedTopicConfig {
            name: Str::from(&**name),
            value: Some(Str::from(&**value)),
            config_source: DYNAMIC_TOPIC_CONFIG,
            ..CreatedTopicConfig::default()
        });
        let mut result = CreatableTopicResult {
            name: asked.name.clone(),
            error_code: ErrorCode::NONE,
            error_message: None,
            num_partitions: i32::try_from(replicas.len()).unwrap_or(PARTITIONS_MAX),
            replication_factor: replicas
                .first()
                .and_then(|nodes| i16::try_from(nodes.len()).ok())
                .unwrap_or(-1),
            configs: Some(configs.collect()),
            ..CreatableTopicResult::default()
        };
        if !validate_only {
            let created = self.create_topic(now, Str::from(&*asked.name), replicas, settings);
            let failed =
                |error| (ErrorCode::KAFKA_STORAGE_ERROR, format!("the topic cannot be written: {error}"));
            result.topic_id = created.map_err(failed)?.id;
        }
        Ok(result)
    }

    fn check_name(&self, name: &str) -> Result<(), Refused> {
        if !is_legal_name(name) {
            let reason =
                "must be 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_', '-', and not '.' or '..'";
            return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, format!("the topic's name {name:?} {reason}")));
        }
        if self.topics.get(name).is_some() {
            return Err((ErrorCode::TOPIC_ALREADY_EXISTS, format!("topic {name} exists already")));
        }
        // Metric names have '_' for '.', so two topics must not differ in that only.
        let plain = |name: &str| name.replace('.', "_");
        match self.topics.iter().find(|other| plain(&other.name) == plain(name)) {
            None => Ok(()),
            Some(other) => Err((
                ErrorCode::INVALID_TOPIC_EXCEPTION,
                format!("topic {name} collides with {}", other.name),
            )),
        }
    }

    /// Chooses the nodes of each partition.
    fn spread(&mut self, asked: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refused> {
        let partitions = match asked.num_partitions {
            -1 => self.settings.partitions,
            partitions @ 1..=PARTITIONS_MAX => partitions,
            other => {
                let reason = format!("{other} partitions: there must be 1 to {PARTITIONS_MAX}");
                return Err((ErrorCode::INVALID_PARTITIONS, reason));
            }
        };
        let nodes = self.nodes.len();
        let replicas = match asked.replication_factor {
            -1 => self.replication_factor(self.settings.replication_factor),
            asked if asked >= 1 && usize::try_from(asked).is_ok_and(|asked| asked <= nodes) => asked,
            other => {
                let reason = format!("replication factor {other}: there are {nodes} nodes");
                return Err((ErrorCode::INVALID_REPLICATION_FACTOR, reason));
            }
        };
        Ok(self.assign(partitions, replicas))
    }

    /// Takes the nodes of each partition from the request.
    fn assigned(&self, asked: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refused> {
        if asked.num_partitions != -1 || asked.replication_factor != -1 {
            let reason = "with an assignment, the number of partitions and the replication factor must be -1";
            return Err((ErrorCode::INVALID_REQUEST, reason.to_string()));
        }
        let invalid = |reason: String| (ErrorCode::INVALID_REPLICA_ASSIGNMENT, reason);
        let mut replicas: Vec<Vec<i32>> = vec![Vec::new(); asked.assignments.len()];
        for assignment in &asked.assignments {
            let index = assignment.partition_index;
            let slot = usize::try_from(index).ok().and_then(|index| replicas.get_mut(index));
            let slot = slot
                .ok_or_else(|| invalid(format!("partition {index}: partitions must be numbered from 0")))?;
            let distinct: BTreeSet<i32> = assignment.broker_ids.iter().copied().collect();
            let known = distinct.iter().all(|node| self.nodes.contains_key(node));
            if distinct.is_empty()
                || distinct.len() != assignment.broker_ids.len()
                || !known
                || !slot.is_empty()
            {
                return Err(invalid(format!(
                    "partition {index}: its nodes must be distinct nodes of the cluster"
                )));
            }
            slot.clone_from(&assignment.broker_ids);
        }
        Ok(replicas)
    }

    pub(crate) fn delete_topics(
        &mut self,
        now: Now,
        caller: &Caller,
        request: DeleteTopicsRequest,
    ) -> DeleteTopicsResponse {
        if !self.settings.delete_topics {
            return request.refuse(match caller.version {
                ..=2 => ErrorCode::INVALID_REQUEST,
                _ => ErrorCode::TOPIC_DELETION_DISABLED,
            });
        }
        let named =
            request.topic_names.iter().map(|name| self.delete_named(now, caller, name)).collect::<Vec<_>>();
        let stated =
            request.topics.iter().map(|topic| self.delete_stated(now, caller, topic)).collect::<Vec<_>>();
        let responses = named.into_iter().chain(stated).collect();
        DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
    }

    fn asked_settings(&self, configs: &[CreatableTopicConfig]) -> Result<TopicSettings, Refused> {
        let mut given = Given::new();
        for config in configs {
            let value = config.value.as_deref();
            let value =
                value.ok_or_else(|| (ErrorCode::INVALID_CONFIG, format!("{} has no value", config.name)))?;
            given.insert(config.name.to_string(), value.to_string());
        }
        self.topic_settings(given).map_err(|error| (ErrorCode::INVALID_CONFIG, error.to_string()))
    }

    fn delete_stated(&mut self, now: Now, caller: &Caller, topic: &DeleteTopicState) -> DeletedTopic {
        match (&topic.name, topic.topic_id) {
            (Some(name), Uuid::ZERO) => self.delete_named(now, caller, name),
            (None, id) if id != Uuid::ZERO => match self.topics.name_of(id).cloned() {
                // Who may not know of it is not told its name.
                Some(name) if self.access.check(caller, Kind::Topic, &name, Operation::Describe).is_err() => {
                    not_deleted(None, id, ErrorCode::UNKNOWN_TOPIC_ID)
                }
                Some(name) => self.delete_named(now, caller, &name),
                None => not_deleted(None, id, ErrorCode::UNKNOWN_TOPIC_ID),
            },
            (name, id) => not_deleted(name.clone(), id, ErrorCode::INVALID_REQUEST),
        }
    }

    fn delete_named(&mut self, now: Now, caller: &Caller, name: &Str) -> DeletedTopic {
        if let Err(code) = self.access.on_topic(ApiKey::DELETE_TOPICS, caller, name) {
            return not_deleted(Some(name.clone()), Uuid::ZERO, code);
        }
        match self.delete_topic(now, name) {
            None => not_deleted(Some(name.clone()), Uuid::ZERO, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Some(deleted) => DeletedTopic {
                name: Some(deleted.name),
                topic_id: deleted.id,
                error_code: ErrorCode::NONE,
                error_message: None,
            },
        }
    }
}
