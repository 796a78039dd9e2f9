//! The transactions of one producer: which is open, what belongs to it, and how it ends.
//!
//! It owns the phase, the producer's identity, the search for the coordinators and the one call to them that is out; what the
//! records do is the producer's machine's. It speaks both protocols of KIP-890: under version 1 a partition is registered
//! before anything is written to it, under version 2 the broker does that and every transaction has an epoch of its own.
//! Invariant: a decision is never changed once EndTxn may have carried it, and no transaction begins while an
//! earlier request of ours may still arrive under the same epoch (KAFKA-17754).

#[cfg(test)]
mod alone;
mod calls;
#[cfg_attr(
    not(feature = "unstable-two-phase-commit"),
    expect(dead_code, reason = "public under the feature unstable-two-phase-commit")
)]
mod prepared;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::wire::Str;

use super::TopicPartition;
use super::backoff::Backoff;
use super::cluster::Cluster;
use super::coordinator::{Coordinated, Coordinator};
use super::group::GroupMetadata;
use super::offsets::Committed;
use super::sequence::Identity;
use super::{Lane, Link};
use crate::config::{ClientConfig, ProducerConfig, wire_millis};
use crate::error::{Error, ErrorKind, Outcome};
use crate::planted::{Defect, planted};
use calls::Duty;

/// A group's member and the offsets that it commits with a transaction (KIP-447).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GroupOffsets {
    pub(crate) metadata: GroupMetadata,
    pub(crate) offsets: BTreeMap<TopicPartition, Committed>,
}

/// What became of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Committed,
    /// The error is why, if it was not asked for.
    Aborted(Option<Error>),
}

/// The version of the transaction protocol (feature `transaction.version`). Fixed for each transaction at its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Partitions and groups are registered before use; the epoch stays from one transaction to the next.
    V1,
    /// The brokers register what is used; the answer to EndTxn brings the next epoch.
    V2,
}

#[derive(Debug)]
enum Phase {
    /// An identity is to be asked for.
    Naming,
    /// Between two transactions.
    Ready,
    Open,
    /// Everything in flight is waited for; then it is [`Phase::Prepared`] (KIP-939).
    Preparing,
    /// Nothing can fail any more: it ends as its user says, whoever was its user when it was prepared as this identity.
    Prepared(Identity),
    /// Everything in flight is waited for; then EndTxn is sent. `decided`: it was. `lost`: an attempt to commit ended without
    /// an answer that says what it did.
    Ending {
        commit: bool,
        decided: bool,
        lost: bool,
    },
    /// Nothing goes on.
    Fatal(Error),
}

#[derive(Debug)]
pub(crate) struct Transaction {
    id: Str,
    timeout_ms: i32,
    /// Its transactions may be prepared, and wait for their end however long that takes (KIP-939).
    two_phase: bool,
    /// What an earlier instance prepared is not to be aborted when this one gets its name.
    keeps: bool,
    coordinator: Coordinator,
    groups: BTreeMap<Str, Coordinator>,
    identity: Option<Identity>,
    phase: Phase,
    protocol: Protocol,
    /// The partitions that may be written to, by their position in the producer's list.
    admitted: BTreeSet<usize>,
    /// Those that the coordinator has to know of first.
    unregistered: BTreeSet<usize>,
    /// Groups that the coordinator knows of.
    groups_added: BTreeSet<Str>,
    offsets: VecDeque<(u64, GroupOffsets)>,
    next_offsets: u64,
    /// Something was sent that made the coordinator open the transaction, or may have.
    touched: bool,
    /// An answer has shown that the coordinator has opened it.
    opened: bool,
    /// Why it cannot be committed any more.
    failed: Option<Error>,
    /// A request of this epoch may arrive late: the next transaction needs another epoch.
    doubt: bool,
    /// The call that is out.
    out: Option<(Link, Duty)>,
    /// The partitions that an AddPartitionsToTxn names.
    asked: Vec<usize>,
    /// `transaction.version` of the cluster, as far as it is known.
    level: i16,
    retry_at: Option<Instant>,
    backoff: Backoff,
    /// How many were begun, and how many of them are over.
    begun: u64,
    over: u64,
    past: Option<End>,
    /// The coordinator's answer to EndTxn leaves the outcome open; it is asked again.
    unknown: Option<Error>,
    /// What has changed for the queues since [`Transaction::take_change`].
    change: Change,
}

/// What the producer's queues have to learn.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Numbers start again at zero.
    pub(crate) renamed: bool,
    /// Partitions may be sent to that could not be before.
    pub(crate) admitted: bool,
    /// What was not sent is not to be sent any more.
    pub(crate) dropped: bool,
}

/// How long a coordinator that is busy with the transaction before is left alone at first.
pub(crate) const BUSY_WAIT: Duration = Duration::from_millis(20);

impl Transaction {
    pub(crate) fn new(id: Str, config: &ProducerConfig, client: &ClientConfig, now: Instant) -> Self {
        let two_phase = config.two_phase_commit;
        Self {
            coordinator: Coordinator::new(Coordinated::Transactions, id.clone(), true, client, now),
            id,
            timeout_ms: if two_phase { i32::MAX } else { wire_millis(config.transaction_timeout) },
            two_phase,
            keeps: config.keeps_prepared,
            groups: BTreeMap::new(),
            identity: None,
            phase: Phase::Naming,
            protocol: Protocol::V1,
            admitted: BTreeSet::new(),
            unregistered: BTreeSet::new(),
            groups_added: BTreeSet::new(),
            offsets: VecDeque::new(),
            next_offsets: 0,
            touched: false,
            opened: false,
            failed: None,
            doubt: false,
            out: None,
            asked: Vec::new(),
            level: 1,
            retry_at: None,
            backoff: Backoff::new(BUSY_WAIT, client.retry_backoff_max),
            begun: 0,
            over: 0,
            past: None,
            unknown: None,
            change: Change::default(),
        }
    }

    pub(crate) fn id(&self) -> &Str {
        &self.id
    }

    // What its users call.

    /// Whether [`Transaction::begin`] has an answer.
    pub(crate) fn may_begin(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Prepared(_) | Phase::Fatal(_))
    }

    /// Begins a transaction. Returns its number, and what became of the one before where nobody was told.
    pub(crate) fn begin(&mut self, cluster: &Cluster) -> Result<(u64, Option<End>), Error> {
        if let Phase::Fatal(error) = &self.phase {
            return Err(error.clone());
        }
        if !matches!(self.phase, Phase::Ready) {
            return Err(self.not_ready());
        }
        self.learn_protocol(cluster)?;
        self.phase = Phase::Open;
        self.begun += 1;
        self.change.admitted = true;
        Ok((self.begun, self.past.take()))
    }

    /// Which protocol the transaction that begins follows.
    fn learn_protocol(&mut self, cluster: &Cluster) -> Result<(), Error> {
        let link = self.coordinator.node().map(|node| Link { node, lane: Lane::Control });
        if let Some(level) = link.and_then(|link| cluster.feature(link, "transaction.version")) {
            self.level = level;
        }
        self.protocol = if self.level >= 2 { Protocol::V2 } else { Protocol::V1 };
        if self.two_phase && self.protocol == Protocol::V1 {
            let message = format!(
                "transactional id {}: two phases need transaction.version 2, and the cluster has {}",
                self.id, self.level
            );
            let error = Error::new(ErrorKind::UnsupportedVersion, message);
            return Err(error.with_code(ErrorCode::UNSUPPORTED_VERSION));
        }
        Ok(())
    }

    /// Why no transaction can begin at the moment.
    pub(crate) fn not_ready(&self) -> Error {
        match (&self.phase, &self.unknown) {
            (Phase::Prepared(_), _) => Error::new(
                ErrorKind::InvalidArgument,
                format!("transactional id {}: a transaction is prepared, commit or abort it first", self.id),
            ),
            (_, Some(error)) => error.clone(),
            (_, None) => Error::new(
                ErrorKind::Timeout,
                format!("transactional id {}: the coordinator has not answered yet", self.id),
            ),
        }
    }

    /// Ends the open transaction: it is committed if everything in it succeeds.
    pub(crate) fn end(&mut self, commit: bool) {
        if matches!(self.phase, Phase::Open | Phase::Preparing) {
            let commit = commit && self.failed.is_none();
            self.phase = Phase::Ending { commit, decided: false, lost: false };
            self.change.dropped |= !commit;
        }
    }

    /// A part of the transaction failed: it can only be aborted. After EndTxn may have been sent nothing changes any more.
    pub(crate) fn fail(&mut self, error: &Error) {
        if error.is_fatal() && error.kind() != ErrorKind::Closed {
            return self.break_down(error);
        }
        match &mut self.phase {
            _ if planted(Defect::CommitDespiteFailure) => return,
            Phase::Open | Phase::Preparing if self.failed.is_none() => {}
            Phase::Ending { commit: commit @ true, decided: false, .. } => *commit = false,
            _ => return,
        }
        self.failed = Some(error.clone());
        self.doubt = true;
        self.change.dropped = true;
    }

    /// Nothing goes on with this producer.
    fn break_down(&mut self, error: &Error) {
        let fate = match self.phase {
            Phase::Fatal(_) => return,
            Phase::Ending { lost: true, .. } => ": whether the transaction was committed is not known",
            Phase::Ending { .. } | Phase::Prepared(_) if self.two_phase => {
                ": the prepared transaction is left to the next producer"
            }
            Phase::Open | Phase::Preparing | Phase::Prepared(_) | Phase::Ending { .. } => {
                ": the transaction is not committed"
            }
            Phase::Naming | Phase::Ready if matches!(self.past, Some(End::Committed)) => {
                ": the transaction before is committed"
            }
            Phase::Naming | Phase::Ready => "",
        };
        let error = error.clone().with_context(format_args!("transactional id {}{fate}", self.id));
        self.phase = Phase::Fatal(if error.is_fatal() { error } else { error.with_kind(ErrorKind::Fatal) });
        self.change.dropped = true;
    }

    /// Commits a group's offsets with the open transaction. The number is for [`Transaction::are_sent`].
    pub(crate) fn send_offsets(&mut self, offsets: GroupOffsets) -> Result<u64, Error> {
        self.accepts()?;
        self.next_offsets += 1;
        self.offsets.push_back((self.next_offsets, offsets));
        Ok(self.next_offsets)
    }

    /// Whether the offsets of this number, and those before, are part of the transaction, or will never be.
    pub(crate) fn are_sent(&self, number: u64) -> bool {
        self.accepts().is_err() || self.offsets.front().is_none_or(|(waiting, _)| *waiting > number)
    }

    /// Whether the transaction of this number is over, or its outcome must be left open.
    pub(crate) fn is_over(&self, number: u64) -> bool {
        self.over >= number || self.unknown.is_some() || matches!(self.phase, Phase::Fatal(_))
    }

    /// Whether its end was asked for, and is not over.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. })
    }

    /// Whether the offsets of this number are part of the transaction, once [`Transaction::are_sent`] says yes.
    pub(crate) fn outcome_of_offsets(&self, number: u64) -> Result<(), Error> {
        match self.offsets.front() {
            Some((waiting, _)) if *waiting <= number => Err(match (&self.phase, &self.failed) {
                (Phase::Fatal(error), _) => error.clone(),
                // A record failed, not they.
                (_, Some(error)) if error.outcome().is_some() => self.aborted(Some(error)),
                (_, Some(error)) => error.clone(),
                _ => self.aborted(None),
            }),
            _ => Ok(()),
        }
    }

    /// What to tell of the transaction of this number, when it is over or nobody waits any longer. A commit that did not go
    /// out by then never will.
    pub(crate) fn take_outcome(&mut self, number: u64) -> Result<(), Error> {
        if self.over < number {
            let late = Error::new(ErrorKind::Timeout, "no answer came in time");
            self.fail(&late);
            return Err(match (&self.phase, &self.unknown) {
                (Phase::Fatal(error), _) | (_, Some(error)) => error.clone(),
                (Phase::Ending { commit: true, .. }, None) => self.commit_unknown("no answer came in time"),
                _ if self.failed.is_some() => self.aborted(self.failed.as_ref()),
                _ => late,
            });
        }
        match self.past.take() {
            Some(End::Aborted(cause)) => Err(self.aborted(cause.as_ref())),
            Some(End::Committed) | None => Ok(()),
        }
    }

    fn commit_unknown(&self, why: &str) -> Error {
        let message = format!(
            "transactional id {}: whether the transaction was committed is not known: {why}; the next begin waits until \
             it is",
            self.id
        );
        Error::new(ErrorKind::CommitUnknown, message)
    }

    fn aborted(&self, cause: Option<&Error>) -> Error {
        let message = format!("transactional id {}: the transaction was aborted", self.id);
        let error = Error::new(
            ErrorKind::Aborted,
            match cause {
                Some(cause) => format!("{message}: {cause}"),
                None => message,
            },
        );
        match cause {
            Some(cause) => error.with_source(cause.clone()),
            None => error,
        }
    }

    // What the producer's queues ask.

    /// Whether a record may come into the open transaction.
    pub(crate) fn accepts(&self) -> Result<(), Error> {
        let refuse = |error: Error| Err(error.with_outcome(Outcome::NotWritten));
        match (&self.phase, &self.failed) {
            (Phase::Fatal(error), _) => refuse(error.clone()),
            (Phase::Open, None) => Ok(()),
            (Phase::Open | Phase::Preparing | Phase::Ending { .. }, Some(cause)) => {
                refuse(self.aborted(Some(cause)))
            }
            _ => refuse(Error::new(ErrorKind::InvalidArgument, "no transaction is open")),
        }
    }

    /// Whether batches may still be sent, and sent again.
    pub(crate) fn is_going_on(&self) -> bool {
        self.failed.is_none()
            && matches!(self.phase, Phase::Open | Phase::Preparing | Phase::Ending { commit: true, .. })
    }

    /// A record for this partition has come in.
    pub(crate) fn enter(&mut self, partition: usize) {
        if self.protocol == Protocol::V2 || planted(Defect::WriteUnregistered) {
            self.admitted.insert(partition);
        } else if !self.admitted.contains(&partition) {
            self.unregistered.insert(partition);
        }
    }

    /// Whether batches of this partition may be sent.
    pub(crate) fn admits(&self, partition: usize) -> bool {
        self.is_going_on() && self.admitted.contains(&partition)
    }

    /// What batches are stamped with.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity.filter(|_| self.is_going_on())
    }

    /// The highest version of Produce: from 12 on a broker registers the partitions itself.
    pub(crate) fn produce_version_max(&self) -> i16 {
        if self.protocol == Protocol::V2 { i16::MAX } else { 11 }
    }

    /// A batch is on its way.
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// A batch of it is in a log: its partition was let in.
    pub(crate) fn opened(&mut self) {
        self.opened = true;
    }

    /// A batch may arrive late: an attempt of it ended without an answer.
    pub(crate) fn doubt(&mut self) {
        self.doubt = true;
    }

    pub(crate) fn take_change(&mut self) -> Change {
        std::mem::take(&mut self.change)
    }

    /// Why nothing goes on, if so.
    pub(crate) fn fatal(&self) -> Option<&Error> {
        match &self.phase {
            Phase::Fatal(error) => Some(error),
            _ => None,
        }
    }

    /// Why what was not sent is dropped.
    pub(crate) fn cause(&self) -> Error {
        match &self.phase {
            Phase::Fatal(error) => error.clone(),
            _ => self.aborted(self.failed.as_ref()),
        }
    }

    // How it ends.

    /// Ends what needs no word to the coordinator, and sees to the links that are needed. `quiet`: no batch is unsettled.
    pub(crate) fn step(&mut self, now: Instant, quiet: bool, cluster: &mut Cluster) {
        if let Phase::Ending { commit, decided: false, .. } = self.phase
            && quiet
            && self.out.is_none()
            && !self.touched
            && (!commit || self.offsets.is_empty())
        {
            self.finish(commit, None);
        }
        let Some(duty) = self.duty(quiet) else { return };
        let coordinator = match &duty {
            Duty::CommitOffsets(group) => self.groups.entry(group.clone()).or_insert_with(|| {
                Coordinator::new(Coordinated::Group, group.clone(), false, &cluster.config, now)
            }),
            _ => &mut self.coordinator,
        };
        coordinator.need(now, cluster);
        if let Some(node) = coordinator.node() {
            cluster.want(Link { node, lane: Lane::Control });
        }
    }

    /// The transaction is over. `next`: the identity that its end has brought.
    fn finish(&mut self, committed: bool, next: Option<Identity>) {
        self.past = Some(if committed { End::Committed } else { End::Aborted(self.failed.take()) });
        self.over = self.begun;
        self.phase = Phase::Ready;
        match next {
            // Whatever comes late bears an epoch that the brokers no longer take.
            Some(identity) => self.rename(identity),
            None if self.doubt && !planted(Defect::EpochKept) => self.phase = Phase::Naming,
            None => {}
        }
        self.failed = None;
        self.unknown = None;
        (self.touched, self.opened) = (false, false);
        self.admitted.clear();
        self.unregistered.clear();
        self.groups_added.clear();
        self.offsets.clear();
    }

    fn rename(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.doubt = false;
        self.change.renamed = true;
    }
}
