//! The calls of a transaction to its coordinators: which is due, how it is asked, and what its answer changes.
//!
//! It owns the order of the calls: one is out at a time, so none overtakes another. Their error codes are
//! [`super::verdict`]'s. Invariant: EndTxn is due only when no batch and no offset of the transaction is on its way.

use std::collections::BTreeMap;
use std::time::Instant;

use ottla_protocol::api::Request as Api;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, EndTxnRequest,
    FindCoordinatorResponse, InitProducerIdRequest, TxnOffsetCommitPartition, TxnOffsetCommitRequest,
    TxnOffsetCommitTopic,
};
use ottla_protocol::wire::{Str, Uuid};

use super::verdict::{Call, Verdict, judge};
use super::{GroupOffsets, Phase, Protocol, Transaction};
use crate::core::ask::{Answer, Ask};
use crate::core::cluster::Cluster;
use crate::core::coordinator::Coordinator;
use crate::core::offsets::Committed;
use crate::core::sequence::Identity;
use crate::core::{Lane, Link, Request, TopicPartition, Work};
use crate::error::{Error, ErrorKind};
use crate::planted::{Defect, planted};

/// A call that is due, or out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Duty {
    /// InitProducerId.
    Name,
    AddPartitions,
    /// AddOffsetsToTxn, of a group.
    AddOffsets(Str),
    /// TxnOffsetCommit, of a group: the first offsets that wait.
    CommitOffsets(Str),
    End {
        commit: bool,
    },
    /// FindCoordinator: of the group, or of the transactional id.
    Find(Option<Str>),
}

impl Duty {
    fn call(&self) -> Option<Call> {
        match self {
            Duty::Name => Some(Call::Name),
            Duty::AddPartitions => Some(Call::AddPartitions),
            Duty::AddOffsets(_) => Some(Call::AddOffsets),
            Duty::CommitOffsets(_) => Some(Call::CommitOffsets),
            Duty::End { commit: true } => Some(Call::Commit),
            Duty::End { commit: false } => Some(Call::Abort),
            Duty::Find(_) => None,
        }
    }
}

/// What is said of the producer before it has an identity.
const NOBODY: Identity = Identity { id: -1, epoch: -1 };
/// Above it a group's coordinator registers the group with the transaction.
const TXN_OFFSET_COMMIT_V1_MAX: i16 = 4;
/// Above it topics are named by their id alone (KIP-1319).
const TXN_OFFSET_COMMIT_NAMED_MAX: i16 = 5;
/// Above it the answer brings the next epoch.
const END_TXN_V1_MAX: i16 = 4;
/// From this version on an epoch can be asked for by the one before (KIP-360).
const INIT_WITH_EPOCH: i16 = 3;
/// From this version on transactions may be prepared (KIP-939); it is unstable.
const INIT_TWO_PHASES: i16 = 6;

impl Transaction {
    /// The next call, whoever its coordinator is; none while one is out.
    pub(super) fn duty(&self, quiet: bool) -> Option<Duty> {
        if self.out.is_some() {
            return None;
        }
        match self.phase {
            Phase::Naming => Some(Duty::Name),
            Phase::Open | Phase::Preparing | Phase::Ending { commit: true, .. } if self.failed.is_none() => {
                let ends = matches!(self.phase, Phase::Ending { .. });
                match self.offsets.front() {
                    _ if !self.unregistered.is_empty() => Some(Duty::AddPartitions),
                    _ if ends && quiet && planted(Defect::OffsetsAfterEnd) => {
                        Some(Duty::End { commit: true })
                    }
                    Some((_, o))
                        if self.protocol == Protocol::V1
                            && !self.groups_added.contains(&o.metadata.group) =>
                    {
                        Some(Duty::AddOffsets(o.metadata.group.clone()))
                    }
                    Some((_, offsets)) => Some(Duty::CommitOffsets(offsets.metadata.group.clone())),
                    None => (ends && quiet).then_some(Duty::End { commit: true }),
                }
            }
            Phase::Ending { commit, .. } => quiet.then_some(Duty::End { commit }),
            Phase::Ready | Phase::Open | Phase::Preparing | Phase::Prepared(_) | Phase::Fatal(_) => None,
        }
    }

    /// The next call if it goes on this link now: the call itself, or the search for who is to get it.
    fn due(&self, now: Instant, link: Link, quiet: bool) -> Option<Duty> {
        if link.lane != Lane::Control {
            return None;
        }
        let duty = self.duty(quiet)?;
        let coordinator = self.coordinator_of(&duty)?;
        match coordinator.node() {
            Some(node) => {
                let rested = self.retry_at.is_none_or(|at| at <= now);
                (node == link.node && rested).then_some(duty)
            }
            None => {
                let group = match &duty {
                    Duty::CommitOffsets(group) => Some(group.clone()),
                    _ => None,
                };
                coordinator.ready_at(link).is_some_and(|at| at <= now).then_some(Duty::Find(group))
            }
        }
    }

    fn coordinator_of(&self, duty: &Duty) -> Option<&Coordinator> {
        match duty {
            Duty::CommitOffsets(group) => self.groups.get(group),
            _ => Some(&self.coordinator),
        }
    }

    pub(crate) fn wants(&self, now: Instant, link: Link, quiet: bool) -> bool {
        self.due(now, link, quiet).is_some()
    }

    /// When [`Transaction::wants`] may become true by time alone.
    pub(crate) fn ready_at(&self, link: Link, quiet: bool) -> Option<Instant> {
        if link.lane != Lane::Control {
            return None;
        }
        let coordinator = self.coordinator_of(&self.duty(quiet)?)?;
        match coordinator.node() {
            Some(node) => self.retry_at.filter(|_| node == link.node),
            None => coordinator.ready_at(link),
        }
    }

    /// The call that goes on this link now. `name`: the topic and the number of a partition by its position.
    pub(crate) fn poll_work(
        &mut self,
        now: Instant,
        link: Link,
        quiet: bool,
        cluster: &mut Cluster,
        name: impl Fn(usize) -> TopicPartition,
    ) -> Option<Work> {
        let duty = self.due(now, link, quiet)?;
        let asked = match &duty {
            Duty::Find(None) => self.coordinator.ask(link, cluster),
            Duty::Find(Some(group)) => self.groups.get_mut(group)?.ask(link, cluster),
            duty => self.ask(duty, link, cluster, name).map(|(ask, version)| {
                let timeout = cluster.config.request_timeout;
                Work::Request(Request { ask, version, timeout, answered: true })
            }),
        };
        match asked {
            Ok(work) => {
                self.retry_at = None;
                self.out = Some((link, duty));
                Some(work)
            }
            Err(error) => {
                self.break_down(&error);
                None
            }
        }
    }

    fn ask(
        &mut self,
        duty: &Duty,
        link: Link,
        cluster: &mut Cluster,
        name: impl Fn(usize) -> TopicPartition,
    ) -> Result<(Ask, i16), Error> {
        let transactional_id = self.id.clone();
        let Identity { id: producer_id, epoch: producer_epoch } = self.identity.unwrap_or(NOBODY);
        Ok(match duty {
            Duty::Name => {
                let version = self.name_version(link, cluster)?;
                let ask = InitProducerIdRequest {
                    transactional_id: Some(transactional_id),
                    transaction_timeout_ms: self.timeout_ms,
                    producer_id,
                    producer_epoch,
                    enable_2_pc: self.two_phase,
                    keep_prepared_txn: self.keeps,
                };
                (Ask::InitProducerId(ask), version)
            }
            Duty::AddPartitions => {
                let version = cluster.version::<AddPartitionsToTxnRequest>(link, 3)?;
                self.touched = true;
                (Ask::AddPartitionsToTxn(self.add_partitions(name)), version)
            }
            Duty::AddOffsets(group) => {
                let version = cluster.version::<AddOffsetsToTxnRequest>(link, 4)?;
                self.touched = true;
                let group_id = group.clone();
                let ask = AddOffsetsToTxnRequest { transactional_id, producer_id, producer_epoch, group_id };
                (Ask::AddOffsetsToTxn(ask), version)
            }
            Duty::CommitOffsets(_) => {
                let (ask, version) = self.commit_offsets(link, cluster)?;
                self.touched = true;
                (Ask::TxnOffsetCommit(ask), version)
            }
            Duty::End { commit } => {
                let version = self.version::<EndTxnRequest>((END_TXN_V1_MAX, i16::MAX), link, cluster)?;
                if let Phase::Ending { decided, .. } = &mut self.phase {
                    *decided = true;
                }
                let ask = EndTxnRequest { transactional_id, producer_id, producer_epoch, committed: *commit };
                (Ask::EndTxn(ask), version)
            }
            Duty::Find(_) => {
                return Err(Error::new(ErrorKind::Fatal, "a search is no call of a transaction"));
            }
        })
    }

    /// The version of `R`, at most `most`; under version 1 of the transaction protocol not above `v1_max`, and under
    /// version 2 above it.
    fn version<R: Api>(
        &self,
        (v1_max, most): (i16, i16),
        link: Link,
        cluster: &mut Cluster,
    ) -> Result<i16, Error> {
        if self.protocol == Protocol::V1 {
            return cluster.version::<R>(link, v1_max);
        }
        let version = cluster.version::<R>(link, most)?;
        if version > v1_max {
            return Ok(version);
        }
        let message = format!(
            "broker {} has transaction.version 2, but no version of {} above {v1_max}",
            link.node,
            R::NAME
        );
        Err(Error::new(ErrorKind::UnsupportedVersion, message))
    }

    fn name_version(&self, link: Link, cluster: &mut Cluster) -> Result<i16, Error> {
        let most = if self.two_phase { INIT_TWO_PHASES } else { INIT_TWO_PHASES - 1 };
        let version = cluster.version::<InitProducerIdRequest>(link, most)?;
        if self.two_phase && version < INIT_TWO_PHASES {
            let message = format!(
                "transactional id {}: broker {} has no transactions of two phases (KIP-939)",
                self.id, link.node
            );
            let error = Error::new(ErrorKind::UnsupportedVersion, message);
            return Err(error.with_code(ErrorCode::UNSUPPORTED_VERSION));
        }
        if self.identity.is_some() && version < INIT_WITH_EPOCH {
            let message = format!(
                "transactional id {}: broker {} is too old to give out a new epoch (KIP-360)",
                self.id, link.node
            );
            return Err(Error::new(ErrorKind::Fatal, message));
        }
        Ok(version)
    }

    /// Registers the partitions that the coordinator does not know of.
    fn add_partitions(&mut self, name: impl Fn(usize) -> TopicPartition) -> AddPartitionsToTxnRequest {
        self.asked = self.unregistered.iter().copied().collect();
        let asked = self.asked.iter().map(|at| name(*at)).map(|p| (p.topic, p.partition));
        let topic = |(name, partitions)| AddPartitionsToTxnTopic { name, partitions };
        let identity = self.identity.unwrap_or(NOBODY);
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: identity.id,
            v3_and_below_producer_epoch: identity.epoch,
            v3_and_below_topics: by_topic(asked).map(topic).collect(),
            ..AddPartitionsToTxnRequest::default()
        }
    }

    /// The offsets that wait first.
    fn commit_offsets(
        &self,
        link: Link,
        cluster: &mut Cluster,
    ) -> Result<(TxnOffsetCommitRequest, i16), Error> {
        let Some((_, GroupOffsets { metadata, offsets })) = self.offsets.front() else {
            return Err(Error::new(ErrorKind::Fatal, "no offsets wait"));
        };
        let mut topics = offsets.keys().map(|p| cluster.metadata.topic(&p.topic));
        let has_ids = topics.all(|known| known.is_some_and(|topic| topic.id != Uuid::ZERO));
        let most = if has_ids { i16::MAX } else { TXN_OFFSET_COMMIT_NAMED_MAX };
        let range = (TXN_OFFSET_COMMIT_V1_MAX, most);
        let version = self.version::<TxnOffsetCommitRequest>(range, link, cluster)?;
        let identity = self.identity.unwrap_or(NOBODY);
        let partition = |(place, next): (&TopicPartition, &Committed)| {
            let partition = TxnOffsetCommitPartition {
                partition_index: place.partition,
                committed_offset: next.offset,
                committed_leader_epoch: next.leader_epoch,
                committed_metadata: Some(next.metadata.clone().unwrap_or_default()),
            };
            (place.topic.clone(), partition)
        };
        let topic = |(name, partitions): (Str, Vec<TxnOffsetCommitPartition>)| TxnOffsetCommitTopic {
            topic_id: cluster.metadata.topic(&name).map(|topic| topic.id).unwrap_or_default(),
            name,
            partitions,
        };
        // Members are fenced by their generation from version 3 on (KIP-447).
        let fences = version >= 3;
        if !fences && metadata.generation >= 0 {
            let message = format!(
                "broker {} cannot tell whether a member of group {} is out of date (KIP-447): Apache Kafka 2.5 can",
                link.node, metadata.group
            );
            return Err(Error::new(ErrorKind::UnsupportedVersion, message));
        }
        let ask = TxnOffsetCommitRequest {
            transactional_id: self.id.clone(),
            group_id: metadata.group.clone(),
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            generation_id_or_member_epoch: if fences { metadata.generation } else { -1 },
            member_id: if fences { metadata.member_id.clone() } else { Str::default() },
            group_instance_id: metadata.instance_id.clone().filter(|_| fences),
            topics: by_topic(offsets.iter().map(partition)).map(topic).collect(),
        };
        Ok((ask, version))
    }

    /// The answer to a call. True if it was ours.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        link: Link,
        answer: &Answer,
        cluster: &mut Cluster,
    ) -> bool {
        let Some((_, duty)) = self.out.take_if(|(asked, _)| *asked == link) else { return false };
        match (answer, &duty) {
            (Answer::FindCoordinator(response), Duty::Find(group)) => {
                self.found(now, link, group.as_ref(), response, cluster);
            }
            (Answer::InitProducerId(response), Duty::Name) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                let given = Identity { id: response.producer_id, epoch: response.producer_epoch };
                if self.take(now, &duty, response.error_code, cluster) {
                    self.rename(given);
                    self.phase = Phase::Ready;
                    if self.two_phase {
                        self.inherit(response, cluster);
                    }
                }
            }
            (Answer::AddPartitionsToTxn(response), Duty::AddPartitions) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                let results = response.results_by_topic_v3_and_below.iter();
                let codes = results.flat_map(|topic| &topic.results_by_partition);
                let code = worst(codes.map(|p| ErrorCode(p.partition_error_code)), self.asked.len());
                if self.take(now, &duty, code, cluster) {
                    self.opened = true;
                    for at in std::mem::take(&mut self.asked) {
                        self.unregistered.remove(&at);
                        self.admitted.insert(at);
                    }
                    self.change.admitted = true;
                }
            }
            (Answer::AddOffsetsToTxn(response), Duty::AddOffsets(group)) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                if self.take(now, &duty, response.error_code, cluster) {
                    self.opened = true;
                    self.groups_added.insert(group.clone());
                }
            }
            (Answer::TxnOffsetCommit(response), Duty::CommitOffsets(_)) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                let codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
                let code = worst(codes, self.offsets.front().map_or(0, |(_, from)| from.offsets.len()));
                if self.take(now, &duty, code, cluster) {
                    self.opened = true;
                    self.offsets.pop_front();
                }
            }
            (Answer::EndTxn(response), Duty::End { commit }) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                let given = Identity { id: response.producer_id, epoch: response.producer_epoch };
                if self.take(now, &duty, response.error_code, cluster) {
                    let next = Some(given).filter(|i| self.protocol == Protocol::V2 && i.id >= 0);
                    self.finish(*commit, next);
                }
            }
            _ => return false,
        }
        true
    }

    fn found(
        &mut self,
        now: Instant,
        link: Link,
        group: Option<&Str>,
        response: &FindCoordinatorResponse,
        cluster: &mut Cluster,
    ) {
        let coordinator = match group {
            None => Some(&mut self.coordinator),
            Some(group) => self.groups.get_mut(group),
        };
        match coordinator.map(|coordinator| coordinator.answered(now, link, response, cluster)) {
            Some(Err(error)) if group.is_some() => self.fail_alone(error),
            Some(Err(error)) => self.break_down(&error),
            Some(Ok(())) | None => {}
        }
    }

    /// What an answer's code means for the transaction. True if the call is done.
    fn take(&mut self, now: Instant, duty: &Duty, code: ErrorCode, cluster: &mut Cluster) -> bool {
        let Some(call) = duty.call() else { return false };
        let verdict = match judge(call, code, self.protocol) {
            // There is nothing to abort, or the transaction before is being completed. An identity is asked for again,
            // and that tells whether we are fenced.
            Verdict::Fatal if call == Call::Abort && !self.opened => {
                self.doubt = true;
                Verdict::Done
            }
            Verdict::Unknown if planted(Defect::UnknownIsCommitted) => Verdict::Done,
            verdict => verdict,
        };
        let error = || {
            let what = match duty {
                Duty::AddOffsets(group) | Duty::CommitOffsets(group) => format!("offsets of group {group}"),
                _ => format!("{call:?}"),
            };
            Error::from_code(code, what)
        };
        match verdict {
            Verdict::Done => {
                self.backoff.reset();
                self.coordinator.alive();
                return true;
            }
            Verdict::Again | Verdict::FindAgain => {
                self.lose(duty);
                if verdict == Verdict::FindAgain {
                    self.look_again(now, duty, cluster);
                }
                self.rest(now, cluster);
            }
            Verdict::Abort => {
                // A definite answer: the decision may be another one now.
                if let Phase::Ending { decided, lost, .. } = &mut self.phase {
                    *decided = false;
                    *lost &= code != ErrorCode::INVALID_TXN_STATE;
                }
                self.fail_alone(error());
            }
            Verdict::Fatal => {
                let error = match code {
                    ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => fenced(code),
                    _ => error(),
                };
                self.break_down(&error);
            }
            Verdict::Unknown => {
                self.lose(duty);
                if call == Call::Commit {
                    let error = error();
                    self.unknown = Some(self.commit_unknown(&error.to_string()).with_source(error));
                }
                self.doubt = true;
                self.rest(now, cluster);
            }
        }
        false
    }

    /// A call ended without an answer that says that it was not done.
    fn lose(&mut self, duty: &Duty) {
        if let (Phase::Ending { lost, .. }, Duty::End { commit: true }) = (&mut self.phase, duty) {
            *lost = true;
        }
    }

    /// Fails the transaction with what would be the end of whoever else is told so, but is not that of the producer: a
    /// member of a group that is fenced, a group that cannot exist.
    fn fail_alone(&mut self, error: Error) {
        if !error.is_fatal() {
            return self.fail(&error);
        }
        let kind = if error.kind() == ErrorKind::Fenced { ErrorKind::Superseded } else { error.kind() };
        // Without its code, which says that nothing goes on.
        self.fail(&Error::new(kind, error.to_string()).with_source(error));
    }

    fn rest(&mut self, now: Instant, cluster: &mut Cluster) {
        self.retry_at = Some(now + self.backoff.next(&mut cluster.random));
    }

    fn look_again(&mut self, now: Instant, duty: &Duty, cluster: &mut Cluster) {
        let coordinator = match duty {
            Duty::CommitOffsets(group) => self.groups.get_mut(group),
            _ => Some(&mut self.coordinator),
        };
        coordinator.into_iter().for_each(|c| c.fail(now, &mut cluster.random));
    }

    /// A link is gone, and with it perhaps a coordinator. What was asked on it may have been done, and may still be.
    pub(crate) fn lost(&mut self, now: Instant, link: Link, cluster: &mut Cluster) {
        if link.lane != Lane::Control {
            return;
        }
        for coordinator in self.groups.values_mut().chain([&mut self.coordinator]) {
            if coordinator.node() == Some(link.node) {
                coordinator.fail(now, &mut cluster.random);
            }
            coordinator.lost(now, link, &mut cluster.random);
        }
        let Some((_, duty)) = self.out.take_if(|(asked, _)| *asked == link) else { return };
        self.doubt |= !matches!(duty, Duty::Name | Duty::Find(_));
        self.lose(&duty);
        self.rest(now, cluster);
    }
}

fn fenced(code: ErrorCode) -> Error {
    let message = format!(
        "{}: a newer producer has taken over the transactional id, or the transaction ran out of its time \
         (transaction.timeout.ms); build a new producer",
        code.name()
    );
    Error::new(ErrorKind::Fenced, message).with_code(code)
}

/// The code that decides what happens next, of those for `asked` partitions: one that ends the transaction before one that
/// asks for patience. An answer that leaves a partition out has not answered.
fn worst(codes: impl Iterator<Item = ErrorCode>, asked: usize) -> ErrorCode {
    let weight = |code: &ErrorCode| match *code {
        ErrorCode::NONE => 0,
        // Another of its request is at fault.
        ErrorCode::OPERATION_NOT_ATTEMPTED => 1,
        code if code.is_retriable() => 2,
        code if !code.is_fatal() => 3,
        _ => 4,
    };
    let codes: Vec<ErrorCode> = codes.collect();
    let silent = (codes.len() < asked).then_some(ErrorCode::REQUEST_TIMED_OUT);
    codes.into_iter().chain(silent).max_by_key(weight).unwrap_or(ErrorCode::NONE)
}

fn by_topic<T>(of: impl Iterator<Item = (Str, T)>) -> impl Iterator<Item = (Str, Vec<T>)> {
    let mut topics: BTreeMap<Str, Vec<T>> = BTreeMap::new();
    of.for_each(|(topic, item)| topics.entry(topic).or_default().push(item));
    topics.into_iter()
}
