//! OffsetCommit, OffsetFetch and OffsetDelete: what groups have committed.
//!
//! OffsetCommit versions 2 to 10: whole (member epochs from 9, topic ids from 10); retention is ignored, offsets stay until
//! the topic or the group is deleted. OffsetFetch versions 1 to 10: whole (all topics from 2, stable offsets from 7, many
//! groups from 8, member epochs from 9, topic ids from 10). OffsetDelete version 0: a group with members keeps its offsets.

use super::{Caller, Refuse};
use crate::core::authorizer::Operation;
use crate::core::coordinator::Coordinated;
use crate::core::group::{Committed, Entry};
use crate::core::topics::Topics;
use crate::core::{Cluster, Now};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
    OffsetCommittedPartition, OffsetCommittedTopic, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetDeletedPartition, OffsetDeletedTopic, OffsetFetchGroup, OffsetFetchRequest, OffsetFetchResponse,
    OffsetFetchTopic, OffsetFetchedGroup, OffsetFetchedPartition, OffsetFetchedTopic,
};
use ottla_protocol::wire::{Str, Uuid};

impl Refuse for OffsetCommitRequest {
    type Response = OffsetCommitResponse;

    fn refuse(&self, code: ErrorCode) -> OffsetCommitResponse {
        let topics = self.topics.iter().map(|topic| not_committed(topic, code));
        OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
    }
}

fn not_committed(topic: &OffsetCommitTopic, error_code: ErrorCode) -> OffsetCommittedTopic {
    let partitions = topic
        .partitions
        .iter()
        .map(|it| OffsetCommittedPartition { partition_index: it.partition_index, error_code });
    OffsetCommittedTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

impl Refuse for OffsetFetchRequest {
    type Response = OffsetFetchResponse;

    fn refuse(&self, error_code: ErrorCode) -> OffsetFetchResponse {
        let groups = self.groups.iter().map(|group| OffsetFetchedGroup {
            group_id: group.group_id.clone(),
            error_code,
            ..OffsetFetchedGroup::default()
        });
        let topics = self.topics.iter().flatten().map(|topic| no_offsets(topic, error_code));
        OffsetFetchResponse {
            error_code,
            topics: topics.collect(),
            groups: groups.collect(),
            ..OffsetFetchResponse::default()
        }
    }
}

fn no_offsets(topic: &OffsetFetchTopic, error_code: ErrorCode) -> OffsetFetchedTopic {
    let partitions = topic.partition_indexes.iter().map(|index| no_offset(*index, error_code));
    OffsetFetchedTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

fn no_offset(partition_index: i32, error_code: ErrorCode) -> OffsetFetchedPartition {
    OffsetFetchedPartition {
        partition_index,
        committed_offset: -1,
        error_code,
        ..OffsetFetchedPartition::default()
    }
}

impl Refuse for OffsetDeleteRequest {
    type Response = OffsetDeleteResponse;

    fn refuse(&self, error_code: ErrorCode) -> OffsetDeleteResponse {
        OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() }
    }
}

impl Cluster {
    pub(crate) fn offset_commit(
        &mut self,
        now: Now,
        caller: &Caller,
        request: OffsetCommitRequest,
    ) -> OffsetCommitResponse {
        if let Err(code) = self.check_coordinator(caller, Coordinated::Group(&request.group_id)) {
            return request.refuse(code);
        }
        let generation = request.generation_id_or_member_epoch;
        if self.groups.get(&request.group_id).is_none() && generation >= 0 {
            return request.refuse(match caller.version {
                ..=8 => ErrorCode::ILLEGAL_GENERATION,
                _ => ErrorCode::GROUP_ID_NOT_FOUND,
            });
        }
        let (groups, mut fx) = self.groups(now);
        let instance_id = request.group_instance_id.as_ref();
        let entry = groups.get_or_create(&request.group_id);
        let member_id = &request.member_id;
        let membership = &mut entry.membership;
        if let Err(code) =
            membership.check_commit(&mut fx, member_id, instance_id, generation, caller.version)
        {
            return request.refuse(code);
        }
        let member = (member_id, generation);
        let mut response = OffsetCommitResponse::default();
        let mut commits = Vec::new();
        for topic in request.topics {
            let by_id = caller.version >= 10;
            let name = if by_id { self.topics.name_of(topic.topic_id) } else { Some(&topic.name) };
            let Some(name) = name.cloned() else {
                response.topics.push(not_committed(&topic, ErrorCode::UNKNOWN_TOPIC_ID));
                continue;
            };
            let commit = |it: &OffsetCommitPartition| {
                let checked = self.check_commit(now, caller, (&request.group_id, member), &name, it);
                OffsetCommittedPartition {
                    partition_index: it.partition_index,
                    error_code: checked.map(|commit| commits.push(commit)).err().unwrap_or(ErrorCode::NONE),
                }
            };
            let partitions = topic.partitions.iter().map(commit).collect();
            response.topics.push(OffsetCommittedTopic {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions,
            });
        }
        let facts = commits.iter().map(|(place, committed)| (place, Some(committed)));
        if self.store_offsets(now, &request.group_id, None, facts).is_err() {
            // As Kafka says it: whoever commits looks for the coordinator again, and tries again.
            let all = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            all.filter(|it| it.error_code.is_ok()).for_each(|it| it.error_code = ErrorCode::NOT_COORDINATOR);
            return response;
        }
        let entry = self.groups.get_or_create(&request.group_id);
        commits.into_iter().for_each(|(place, committed)| entry.commit(place, committed));
        response
    }

    /// What is to be committed of a partition, if it may be.
    fn check_commit(
        &mut self,
        now: Now,
        caller: &Caller,
        (group, (member_id, epoch)): (&str, (&Str, i32)),
        topic: &str,
        asked: &OffsetCommitPartition,
    ) -> Result<((Str, i32), Committed), ErrorCode> {
        let index = asked.partition_index;
        self.access.on_topic(ApiKey::OFFSET_COMMIT, caller, topic)?;
        if let Some(code) = self.faults.on_partition(ApiKey::OFFSET_COMMIT, caller.node, topic, index) {
            return Err(code);
        }
        // The topic's own name, so that no frame is held on to.
        let Some(topic) = self.topics.get(topic).filter(|topic| topic.partition(index).is_some()) else {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let metadata = asked.committed_metadata.as_deref().unwrap_or_default();
        if metadata.len() > self.settings.offset_metadata_bytes_max {
            return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
        }
        let committed = Committed {
            offset: asked.committed_offset,
            leader_epoch: asked.committed_leader_epoch,
            metadata: Str::from(metadata),
            at_ms: now.wall_ms,
        };
        let entry = self.groups.get_or_create(group);
        entry.membership.check_commit_of(member_id, epoch, &(topic.id, index))?;
        Ok(((topic.name.clone(), index), committed))
    }

    pub(crate) fn offset_fetch(
        &mut self,
        _: Now,
        caller: &Caller,
        request: OffsetFetchRequest,
    ) -> OffsetFetchResponse {
        if caller.version >= 8 {
            let fetch = |group: &OffsetFetchGroup| {
                let topics = group.topics.as_deref();
                let member = (group.member_id.as_ref(), group.member_epoch);
                let fetched = self.committed(caller, &group.group_id, member, topics, request.require_stable);
                let (topics, error_code) =
                    fetched.map_or_else(|code| (Vec::new(), code), |it| (it, ErrorCode::NONE));
                OffsetFetchedGroup { group_id: group.group_id.clone(), topics, error_code }
            };
            let groups = request.groups.iter().map(fetch).collect();
            return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
        }
        let topics = request.topics.as_deref();
        match self.committed(caller, &request.group_id, (None, -1), topics, request.require_stable) {
            Ok(topics) => OffsetFetchResponse { topics, ..OffsetFetchResponse::default() },
            Err(code) => request.refuse(code),
        }
    }

    /// The committed offsets of a group: of these topics, or of all.
    fn committed(
        &mut self,
        caller: &Caller,
        group: &str,
        (member_id, epoch): (Option<&Str>, i32),
        asked: Option<&[OffsetFetchTopic]>,
        stable: bool,
    ) -> Result<Vec<OffsetFetchedTopic>, ErrorCode> {
        self.access.on_group(Operation::Describe, caller, group)?;
        self.check_coordinator(caller, Coordinated::Group(group))?;
        let entry = self.groups.get(group);
        if let Some(entry) = entry {
            entry.membership.check_fetch(member_id, epoch)?;
        }
        let Some(asked) = asked else {
            let mut all = entry.map(|entry| all_offsets(&self.topics, entry, stable)).unwrap_or_default();
            all.retain(|topic| self.access.on_topic(ApiKey::OFFSET_FETCH, caller, &topic.name).is_ok());
            return Ok(all);
        };
        let mut topics = Vec::with_capacity(asked.len());
        for topic in asked {
            let by_id = caller.version >= 10;
            let name = if by_id { self.topics.name_of(topic.topic_id) } else { Some(&topic.name) };
            let Some(name) = name else {
                topics.push(no_offsets(topic, ErrorCode::UNKNOWN_TOPIC_ID));
                continue;
            };
            if let Err(code) = self.access.on_topic(ApiKey::OFFSET_FETCH, caller, name) {
                topics.push(no_offsets(topic, code));
                continue;
            }
            let fetched = |index: &i32| {
                if let Some(code) = self.faults.on_partition(ApiKey::OFFSET_FETCH, caller.node, name, *index)
                {
                    return no_offset(*index, code);
                }
                let Some(entry) = entry else { return no_offset(*index, ErrorCode::NONE) };
                fetched_offset(entry, &(name.clone(), *index), stable)
            };
            let partitions = topic.partition_indexes.iter().map(fetched).collect();
            topics.push(OffsetFetchedTopic {
                name: topic.name.clone(),
                partitions,
                topic_id: topic.topic_id,
            });
        }
        Ok(topics)
    }

    pub(crate) fn offset_delete(
        &mut self,
        now: Now,
        caller: &Caller,
        request: OffsetDeleteRequest,
    ) -> OffsetDeleteResponse {
        if let Err(code) = self.check_group(caller, &request.group_id) {
            return request.refuse(code);
        }
        let Some(entry) = self.groups.get(&request.group_id) else {
            return request.refuse(ErrorCode::GROUP_ID_NOT_FOUND);
        };
        if !entry.membership.is_empty() && !entry.membership.has_subscriptions() {
            return request.refuse(ErrorCode::NON_EMPTY_GROUP);
        }
        let may = |name: &str| self.access.on_topic(ApiKey::OFFSET_DELETE, caller, name);
        let subscribed = |name: &str| entry.membership.subscribes_to(name);
        let places = request.topics.iter();
        let places = places.filter(|topic| may(&topic.name).is_ok() && !subscribed(&topic.name));
        let places = places
            .flat_map(|topic| topic.partitions.iter().map(|it| (topic.name.clone(), it.partition_index)));
        let places: Vec<(Str, i32)> = places.filter(|place| entry.offset(place).is_some()).collect();
        let facts = places.iter().map(|place| (place, None));
        if let Err(code) = self.store_offsets(now, &request.group_id, None, facts) {
            return request.refuse(code);
        }
        let Some(entry) = self.groups.get_mut(&request.group_id) else {
            return request.refuse(ErrorCode::GROUP_ID_NOT_FOUND);
        };
        let mut response = OffsetDeleteResponse::default();
        for topic in request.topics {
            let allowed = self.access.on_topic(ApiKey::OFFSET_DELETE, caller, &topic.name);
            let in_use = entry.membership.subscribes_to(&topic.name);
            let partitions = topic.partitions.iter().map(|it| {
                let error_code = match in_use {
                    _ if allowed.is_err() => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
                    true => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
                    false if entry.forget(&(topic.name.clone(), it.partition_index)) => ErrorCode::NONE,
                    false => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                };
                OffsetDeletedPartition { partition_index: it.partition_index, error_code }
            });
            let partitions = partitions.collect();
            response.topics.push(OffsetDeletedTopic { name: topic.name, partitions });
        }
        response
    }
}

/// What is committed of a partition; whoever wants stable offsets waits while a transaction may still change it.
fn fetched_offset(entry: &Entry, place: &(Str, i32), stable: bool) -> OffsetFetchedPartition {
    let partition_index = place.1;
    if stable && entry.is_unstable(place) {
        return no_offset(partition_index, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    }
    let Some(committed) = entry.offset(place) else { return no_offset(partition_index, ErrorCode::NONE) };
    OffsetFetchedPartition {
        partition_index,
        committed_offset: committed.offset,
        committed_leader_epoch: committed.leader_epoch,
        metadata: Some(committed.metadata.clone()),
        error_code: ErrorCode::NONE,
    }
}

fn all_offsets(topics: &Topics, entry: &Entry, stable: bool) -> Vec<OffsetFetchedTopic> {
    let mut fetched: Vec<OffsetFetchedTopic> = Vec::new();
    for (place, _) in entry.offsets() {
        let (topic, partition) = (&place.0, fetched_offset(entry, place, stable));
        match fetched.last_mut().filter(|last| last.name == *topic) {
            Some(last) => last.partitions.push(partition),
            None => fetched.push(OffsetFetchedTopic {
                name: topic.clone(),
                partitions: vec![partition],
                topic_id: topics.get(topic).map_or(Uuid::ZERO, |topic| topic.id),
            }),
        }
    }
    fetched
}
