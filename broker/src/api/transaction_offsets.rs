//! TxnOffsetCommit: offsets that count once the transaction of their producer commits.
//!
//! Versions 0 to 6: whole (fencing by member from 3, topic ids from 6). From version 5 on the partition of the offsets
//! topic is added to the transaction; before, AddOffsetsToTxn must have done so.

use super::{Caller, Refuse};
use crate::core::coordinator::Coordinated;
use crate::core::group::{Committed, as_transactions_know_it};
use crate::core::producers::Sequenced;
use crate::core::topics::OFFSETS_TOPIC;
use crate::core::transactions::Identity;
use crate::core::verification::Support;
use crate::core::{Cluster, Now};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    TxnOffsetCommitPartition, TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitTopic,
    TxnOffsetCommittedPartition, TxnOffsetCommittedTopic,
};
use ottla_protocol::wire::Str;

impl Refuse for TxnOffsetCommitRequest {
    type Response = TxnOffsetCommitResponse;

    fn refuse(&self, code: ErrorCode) -> TxnOffsetCommitResponse {
        let topics = self.topics.iter().map(|topic| each(topic, |_| code));
        TxnOffsetCommitResponse { topics: topics.collect(), ..TxnOffsetCommitResponse::default() }
    }
}

fn each(
    topic: &TxnOffsetCommitTopic,
    mut outcome: impl FnMut(&TxnOffsetCommitPartition) -> ErrorCode,
) -> TxnOffsetCommittedTopic {
    let partitions = topic.partitions.iter().map(|it| TxnOffsetCommittedPartition {
        partition_index: it.partition_index,
        error_code: outcome(it),
    });
    TxnOffsetCommittedTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

impl Cluster {
    pub(crate) fn txn_offset_commit(
        &mut self,
        now: Now,
        caller: &Caller,
        request: TxnOffsetCommitRequest,
    ) -> TxnOffsetCommitResponse {
        let name_of = |cluster: &Self, topic: &TxnOffsetCommitTopic| match caller.version {
            ..=5 => Some(topic.name.clone()),
            _ => cluster.topics.name_of(topic.topic_id).cloned(),
        };
        let has_any = request.topics.iter().any(|topic| {
            let name = name_of(self, topic);
            let found = name.as_ref().and_then(|name| self.topics.get(name));
            found.is_some_and(|found| {
                topic.partitions.iter().any(|it| found.partition(it.partition_index).is_some())
            })
        });
        // Nobody is asked about a request that has nothing to commit.
        let allowed = if has_any { self.check_txn_offset_commit(now, caller, &request) } else { Ok(()) };
        let mut commits = Vec::new();
        let check = |topic: &TxnOffsetCommitTopic| {
            let Some(name) = name_of(self, topic) else {
                return each(topic, |_| ErrorCode::UNKNOWN_TOPIC_ID);
            };
            each(topic, |asked| {
                let checked = self.check_pending(now, caller, &request, &name, asked, allowed);
                checked.map(|commit| commits.push(commit)).err().unwrap_or(ErrorCode::NONE)
            })
        };
        let mut topics: Vec<_> = request.topics.iter().map(check).collect();
        let producer = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
        let facts = commits.iter().map(|(place, committed)| (place, Some(committed)));
        if self.store_offsets(now, &request.group_id, Some(producer), facts).is_err() {
            // As Kafka says it: the producer looks for the coordinator again, and tries again.
            let all = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            all.filter(|it| it.error_code.is_ok()).for_each(|it| it.error_code = ErrorCode::NOT_COORDINATOR);
        } else if !commits.is_empty() {
            let entry = self.groups.get_or_create(&request.group_id);
            let pending = commits.into_iter();
            pending.for_each(|(place, it)| entry.commit_pending(request.producer_id, place, it));
        }
        TxnOffsetCommitResponse { topics, ..TxnOffsetCommitResponse::default() }
    }

    /// Whether this producer and this member may commit for the group now.
    fn check_txn_offset_commit(
        &mut self,
        now: Now,
        caller: &Caller,
        request: &TxnOffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        let group = &request.group_id;
        if group.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        self.check_coordinator(caller, Coordinated::Group(group))?;
        let support = match caller.version {
            ..=3 => Support::InvalidState,
            4 => Support::Abortable,
            _ => Support::Adding,
        };
        let index = self.coordinator_index(Coordinated::Group(group));
        let (producer_id, epoch) = (request.producer_id, request.producer_epoch);
        let unnumbered = Sequenced { producer_id, epoch, first: 0, count: 1 };
        let id = &request.transactional_id;
        self.let_into_transaction(now, id, OFFSETS_TOPIC, index, unnumbered, support)?;
        let generation = request.generation_id_or_member_epoch;
        if self.groups.get(group).is_none() && generation >= 0 {
            return Err(match caller.version {
                ..=5 => ErrorCode::ILLEGAL_GENERATION,
                _ => ErrorCode::GROUP_ID_NOT_FOUND,
            });
        }
        let instance_id = request.group_instance_id.as_ref();
        let membership = &self.groups.get_or_create(group).membership;
        membership.check_transactional_commit(&request.member_id, instance_id, generation)
    }

    /// What is to be committed of a partition, if it may be.
    fn check_pending(
        &mut self,
        now: Now,
        caller: &Caller,
        request: &TxnOffsetCommitRequest,
        topic: &str,
        asked: &TxnOffsetCommitPartition,
        allowed: Result<(), ErrorCode>,
    ) -> Result<((Str, i32), Committed), ErrorCode> {
        let index = asked.partition_index;
        self.access.on_topic(ApiKey::TXN_OFFSET_COMMIT, caller, topic)?;
        if let Some(code) = self.faults.on_partition(ApiKey::TXN_OFFSET_COMMIT, caller.node, topic, index) {
            return Err(code);
        }
        let found = self.topics.get(topic).filter(|topic| topic.partition(index).is_some());
        // The topic's own name, so that no frame is held on to.
        let found = found.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let (topic, topic_id) = (found.name.clone(), found.id);
        allowed?;
        let metadata = asked.committed_metadata.as_deref().unwrap_or_default();
        if metadata.len() > self.settings.offset_metadata_bytes_max {
            return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
        }
        let member_id = &request.member_id;
        if let Some(entry) = self.groups.get(&request.group_id) {
            let checked = entry.membership.check_commit_of(
                member_id,
                request.generation_id_or_member_epoch,
                &(topic_id, index),
            );
            checked.map_err(as_transactions_know_it)?;
        }
        let committed = Committed {
            offset: asked.committed_offset,
            leader_epoch: asked.committed_leader_epoch,
            metadata: Str::from(metadata),
            at_ms: now.wall_ms,
        };
        Ok(((topic, index), committed))
    }
}
