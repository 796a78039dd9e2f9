//! The transactions of the cluster: one state for each transactional id, and which step may follow which.
//!
//! The rules are those of Apache Kafka's transaction coordinator, with its error codes. A transaction is first decided
//! (prepared) and complete once every partition has its marker; writing the markers is [`super::markers`]'s. It refuses
//! to know which node is asked, and what stands in the logs.
//!
//! Invariant: the epoch of a producer id never falls, and a decision is never changed.

use super::Now;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{TransactionLogPartitions, TransactionLogValue};
use ottla_protocol::wire::Str;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The highest level of the feature `transaction.version` (KIP-584).
pub(crate) const VERSION_MAX: i16 = 2;

/// "No epoch": of a transactional id that nobody has been given yet.
const NO_EPOCH: i16 = -1;

/// The last epoch that a producer is given. The one above is kept to fence it with.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// The timeout of a transaction of two phases (KIP-939): it waits for its decision however long that takes.
pub(crate) const NO_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// A producer, as it names itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl State {
    pub(crate) const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Every transition that exists. With KIP-890 a transaction that wrote nothing may be aborted too.
    fn may_become(self, next: Self) -> bool {
        use State::{CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit};
        matches!(
            (self, next),
            (Empty | CompleteCommit | CompleteAbort, Empty | Ongoing | PrepareAbort)
                | (Ongoing, Ongoing | PrepareCommit | PrepareAbort)
                | (PrepareCommit, CompleteCommit)
                | (PrepareAbort, CompleteAbort)
        )
    }

    fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// What InitProducerId leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    Ready(Identity),
    /// A transaction that was prepared stays open, for this producer to end (KIP-939).
    Kept {
        producer: Identity,
        ongoing: Identity,
    },
    /// A transaction is open: [`Transaction::fence`] it, and let the producer ask again.
    AbortFirst,
}

/// What EndTxn leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The decision is new; its markers are to be written. The producer goes on as this.
    Now(Identity),
    /// It was decided so before; this was a retry.
    Before(Identity),
}

/// Which rules the end of a transaction follows: by the version of EndTxn, or by the feature `transaction.version` when
/// the coordinator itself ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The epoch stays (KIP-98).
    V1,
    /// Each transaction has an epoch of its own (KIP-890).
    V2,
}

/// A partition that takes part.
pub(crate) type Place = (Str, i32);

/// See the head of the module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transaction {
    state: State,
    now: Identity,
    /// Before the last transition.
    previous_id: Option<i64>,
    /// Takes over when the markers are written: the epochs are used up.
    next: Option<Identity>,
    /// Who alone may end the open transaction, which an instance before it prepared (KIP-939).
    heir: Option<Identity>,
    /// The epoch before, for a producer that did not hear of the new one. `NO_EPOCH` when another took over.
    last_epoch: i16,
    /// Whose rules the decision followed.
    protocol: Protocol,
    pub(crate) timeout: Duration,
    /// The partitions that have no marker yet, once the transaction is prepared.
    pub(crate) partitions: BTreeSet<Place>,
    pub(crate) started_ms: Option<i64>,
    /// When it times out, while it is ongoing.
    pub(crate) deadline: Option<Instant>,
    /// When its producer was initialized, or its last transaction began or was completed.
    used: Instant,
}

impl Transaction {
    fn new(producer_id: i64, timeout: Duration, at: Instant) -> Self {
        Self {
            state: State::Empty,
            now: Identity { producer_id, epoch: NO_EPOCH },
            previous_id: None,
            next: None,
            heir: None,
            last_epoch: NO_EPOCH,
            protocol: Protocol::V1,
            timeout,
            partitions: BTreeSet::new(),
            started_ms: None,
            deadline: None,
            used: at,
        }
    }

    /// As the log of its coordinator keeps it.
    pub(crate) fn to_value(&self, now_ms: i64) -> TransactionLogValue {
        let mut partitions: Vec<TransactionLogPartitions> = Vec::new();
        for (topic, index) in &self.partitions {
            match partitions.last_mut().filter(|last| last.topic == *topic) {
                Some(last) => last.partition_ids.push(*index),
                None => partitions
                    .push(TransactionLogPartitions { topic: topic.clone(), partition_ids: vec![*index] }),
            }
        }
        let next = if self.state == State::Ongoing { self.heir } else { self.next };
        let status = State::ALL.iter().position(|state| *state == self.state);
        TransactionLogValue {
            producer_id: self.now.producer_id,
            previous_producer_id: self.previous_id.unwrap_or(-1),
            next_producer_id: next.map_or(-1, |next| next.producer_id),
            next_producer_epoch: next.map_or(-1, |next| next.epoch),
            producer_epoch: self.now.epoch,
            transaction_timeout_ms: i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX),
            transaction_status: status.and_then(|status| i8::try_from(status).ok()).unwrap_or_default(),
            transaction_partitions: Some(partitions),
            last_update_timestamp_ms: now_ms,
            start_timestamp_ms: self.started_ms.unwrap_or(-1),
            client_transaction_version: if self.protocol == Protocol::V2 { 2 } else { 0 },
        }
    }

    /// From what the log of its coordinator kept. As in Kafka, the epoch before is not among it.
    pub(crate) fn from_value(value: &TransactionLogValue, now: Now) -> Option<Self> {
        let state = *State::ALL.get(usize::try_from(value.transaction_status).ok()?)?;
        let timeout = Duration::from_millis(u64::try_from(value.transaction_timeout_ms).ok()?);
        let started_ms = (value.start_timestamp_ms >= 0).then_some(value.start_timestamp_ms);
        let elapsed = u64::try_from(now.wall_ms.saturating_sub(started_ms.unwrap_or(now.wall_ms)));
        let left = timeout.saturating_sub(Duration::from_millis(elapsed.unwrap_or_default()));
        let (is_open, next_id) = (state == State::Ongoing, value.next_producer_id);
        let epoch = value.next_producer_epoch.max(0);
        let next = (next_id >= 0).then_some(Identity { producer_id: next_id, epoch });
        let partitions = value
            .transaction_partitions
            .iter()
            .flatten()
            .flat_map(|topic| topic.partition_ids.iter().map(|index| (topic.topic.clone(), *index)));
        Some(Self {
            state,
            now: Identity { producer_id: value.producer_id, epoch: value.producer_epoch },
            previous_id: (value.previous_producer_id >= 0).then_some(value.previous_producer_id),
            next: next.filter(|_| !is_open),
            heir: next.filter(|_| is_open),
            last_epoch: NO_EPOCH,
            protocol: if value.client_transaction_version >= 2 { Protocol::V2 } else { Protocol::V1 },
            timeout,
            partitions: partitions.collect(),
            started_ms,
            deadline: (is_open && timeout != NO_TIMEOUT).then(|| now.at + left),
            used: now.at,
        })
    }

    /// Whether nothing is going on, and nothing was since then.
    fn is_idle_since(&self, then: Instant) -> bool {
        self.state != State::Ongoing && !self.state.is_prepared() && self.used < then
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The producer whose transaction it is; while it is prepared, the one whose epoch the markers carry.
    pub(crate) fn identity(&self) -> Identity {
        self.now
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The decision, while markers are missing.
    pub(crate) fn decision(&self) -> Option<bool> {
        self.state.is_prepared().then_some(self.state == State::PrepareCommit)
    }

    fn become_state(&mut self, next: State) {
        debug_assert!(self.state.may_become(next), "{:?} never becomes {next:?}", self.state);
        self.previous_id = Some(self.now.producer_id);
        self.state = next;
    }

    /// Gives the producer an id and an epoch that nobody else has. With what it had before (KIP-360), only whoever had
    /// it last gets an answer.
    pub(crate) fn init(
        &mut self,
        had: Option<Identity>,
        keep_prepared: bool,
        timeout: Duration,
        at: Instant,
        fresh_id: impl FnOnce() -> i64,
    ) -> Result<Init, ErrorCode> {
        if had.is_some_and(|had| !self.may_init(had)) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match self.state {
            State::PrepareCommit | State::PrepareAbort => return Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            State::Ongoing if keep_prepared => {
                let producer = self.heir.unwrap_or(self.now).successor(fresh_id);
                self.heir = Some(producer);
                return Ok(Init::Kept { producer, ongoing: self.now });
            }
            State::Ongoing => return Ok(Init::AbortFirst),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {}
        }
        let epoch = self.now.epoch;
        let (next, last_epoch) = match had {
            _ if epoch >= LAST_EPOCH && had.is_none_or(|had| had.epoch == epoch) => {
                let last_epoch = if had.is_some() { epoch } else { NO_EPOCH };
                (Identity { producer_id: fresh_id(), epoch: 0 }, last_epoch)
            }
            None => (self.now.bumped(), NO_EPOCH),
            Some(had) if epoch == NO_EPOCH || had.epoch == epoch => (self.now.bumped(), epoch),
            // A retry of a call whose answer got lost: nobody else came meanwhile.
            Some(had) if had.epoch == self.last_epoch => (self.now, self.last_epoch),
            Some(_) => return Err(ErrorCode::PRODUCER_FENCED),
        };
        self.become_state(State::Empty);
        self.now = next;
        self.last_epoch = last_epoch;
        self.timeout = timeout;
        self.used = at;
        self.partitions.clear();
        self.started_ms = None;
        Ok(Init::Ready(next))
    }

    fn may_init(&self, had: Identity) -> bool {
        self.now.epoch == NO_EPOCH
            || had.producer_id == self.now.producer_id
            || (Some(had.producer_id) == self.previous_id && had.epoch >= LAST_EPOCH)
    }

    /// Whether a producer may write within the transaction, or into a new one.
    fn check(&self, producer: Identity) -> Result<(), ErrorCode> {
        if producer.producer_id != self.now.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if producer.epoch != self.now.epoch || self.heir.is_some() {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        if self.state.is_prepared() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        Ok(())
    }

    /// Lets partitions take part. The first of them begins the transaction.
    pub(crate) fn add(
        &mut self,
        producer: Identity,
        partitions: impl Iterator<Item = Place>,
        at: Instant,
        wall_ms: i64,
    ) -> Result<(), ErrorCode> {
        self.check(producer)?;
        if self.state != State::Ongoing {
            self.become_state(State::Ongoing);
            self.started_ms = Some(wall_ms);
            self.deadline = (self.timeout != NO_TIMEOUT).then(|| at + self.timeout);
            self.used = at;
        }
        self.partitions.extend(partitions);
        Ok(())
    }

    /// Whether a partition takes part. The caller has to turn TRANSACTION_ABORTABLE into what old clients know.
    pub(crate) fn verify(&self, producer: Identity, partition: &Place) -> Result<(), ErrorCode> {
        self.check(producer)?;
        match self.partitions.contains(partition) {
            true => Ok(()),
            false => Err(ErrorCode::TRANSACTION_ABORTABLE),
        }
    }

    /// Decides the transaction as its producer asks.
    pub(crate) fn end(
        &mut self,
        producer: Identity,
        commit: bool,
        protocol: Protocol,
        wall_ms: i64,
        fresh_id: impl FnOnce() -> i64,
    ) -> Result<Ended, ErrorCode> {
        let was_open = self.state == State::Ongoing;
        if was_open && let Some(heir) = self.heir {
            return match producer == heir {
                true => Ok(Ended::Now(self.decide_and_bump(commit, fresh_id))),
                false => Err(ErrorCode::PRODUCER_FENCED),
            };
        }
        let ended = match protocol {
            Protocol::V1 => self.end_v1(producer, commit),
            Protocol::V2 => self.end_v2(producer, commit, fresh_id),
        };
        if matches!(ended, Ok(Ended::Now(_))) && !was_open {
            // It wrote nothing, and so it begins with its end.
            self.started_ms = Some(wall_ms);
        }
        ended
    }

    fn end_v1(&mut self, producer: Identity, commit: bool) -> Result<Ended, ErrorCode> {
        if producer.producer_id != self.now.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if producer.epoch != self.now.epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match (self.state, commit) {
            (State::Ongoing, _) => {
                self.decide(commit, Protocol::V1);
                Ok(Ended::Now(self.now))
            }
            // It cannot be told from a late EndTxn of the transaction before (KAFKA-17754).
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Ended::Before(self.now)),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    fn end_v2(
        &mut self,
        producer: Identity,
        commit: bool,
        fresh_id: impl FnOnce() -> i64,
    ) -> Result<Ended, ErrorCode> {
        let was_bumped = producer.epoch.checked_add(1) == Some(self.now.epoch);
        let got_new_id = Some(producer.producer_id) == self.previous_id
            && producer.epoch == LAST_EPOCH
            && self.now.epoch == 0;
        // An heir of another id, whose decision is being carried out under the id of the one before.
        let goes_on = self.next.is_some_and(|next| next == producer.bumped());
        if producer.producer_id != self.now.producer_id && !got_new_id && !goes_on {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let is_retry = was_bumped || got_new_id;
        let fits = match self.state {
            State::Ongoing | State::Empty => producer.epoch == self.now.epoch,
            State::PrepareCommit | State::PrepareAbort => was_bumped || goes_on,
            State::CompleteCommit | State::CompleteAbort => is_retry || producer.epoch == self.now.epoch,
        };
        if !fits {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match (self.state, commit) {
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if is_retry => {
                Ok(Ended::Before(self.now))
            }
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            (State::Ongoing, _) | (State::Empty | State::CompleteAbort, false) => {
                Ok(Ended::Now(self.decide_and_bump(commit, fresh_id)))
            }
            (State::CompleteCommit, false) if !is_retry => {
                Ok(Ended::Now(self.decide_and_bump(commit, fresh_id)))
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// Aborts the open transaction in the name of the coordinator, so that its producer can do nothing more: it timed
    /// out, or another instance came.
    pub(crate) fn fence(&mut self, protocol: Protocol, fresh_id: impl FnOnce() -> i64) {
        match protocol {
            Protocol::V1 if self.heir.is_none() => {
                self.now = self.now.bumped();
                self.last_epoch = NO_EPOCH;
                self.decide(false, Protocol::V1);
            }
            _ => {
                self.decide_and_bump(false, fresh_id);
            }
        }
    }

    /// Decides under an epoch of its own, and says as what the producer goes on.
    fn decide_and_bump(&mut self, commit: bool, fresh_id: impl FnOnce() -> i64) -> Identity {
        self.next = match self.heir.take() {
            Some(heir) if heir.producer_id != self.now.producer_id => Some(heir.successor(fresh_id)),
            heir => {
                self.now = heir.unwrap_or(self.now);
                (self.now.epoch >= LAST_EPOCH).then(|| self.now.successor(fresh_id))
            }
        };
        self.last_epoch = self.now.epoch;
        self.now = self.now.bumped();
        self.decide(commit, Protocol::V2);
        self.next.unwrap_or(self.now)
    }

    fn decide(&mut self, commit: bool, protocol: Protocol) {
        self.become_state(if commit { State::PrepareCommit } else { State::PrepareAbort });
        self.protocol = protocol;
        self.deadline = None;
    }

    /// Every partition has its marker.
    pub(crate) fn complete(&mut self, at: Instant) {
        debug_assert!(self.partitions.is_empty(), "a marker is missing");
        self.used = at;
        self.become_state(match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        });
        if let Some(next) = self.next.take() {
            self.now = next;
        }
    }
}

impl Identity {
    /// The next epoch of the same id, if there is one: the last is only for fencing.
    fn bumped(self) -> Self {
        Self { epoch: self.epoch.saturating_add(1), ..self }
    }

    /// What a producer is given after this: the next epoch, or another id where there is none.
    fn successor(self, fresh_id: impl FnOnce() -> i64) -> Self {
        match self.epoch >= LAST_EPOCH {
            true => Self { producer_id: fresh_id(), epoch: 0 },
            false => self.bumped(),
        }
    }
}

/// Idle ids are forgotten in passing, when this many new ones have come, or as many as there were.
const SWEPT_AT_LEAST: usize = 64;

/// Every transactional id that was initialized and not idle for too long since.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    known: BTreeMap<Str, Transaction>,
    /// How many there were after those that had expired were last forgotten.
    swept: usize,
}

impl Transactions {
    pub(crate) fn get(&self, id: &str) -> Option<&Transaction> {
        self.known.get(id)
    }

    /// A transaction whose producer must have been initialized.
    pub(crate) fn known(&mut self, id: &str) -> Result<&mut Transaction, ErrorCode> {
        self.known.get_mut(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
    }

    pub(crate) fn get_or_create(
        &mut self,
        id: &str,
        timeout: Duration,
        at: Instant,
        fresh_id: impl FnOnce() -> i64,
    ) -> &mut Transaction {
        // The id is copied, or the transaction would hold on to the frame that it came in.
        self.known.entry(Str::from(id)).or_insert_with(|| Transaction::new(fresh_id(), timeout, at))
    }

    /// Forgets this id if it was idle since `expired`, and the others that were, if there are enough to make it worth it. Says
    /// which.
    pub(crate) fn forget_idle(&mut self, id: &str, expired: Option<Instant>) -> Vec<Str> {
        let Some(expired) = expired else { return Vec::new() };
        let all = self.known.len() >= SWEPT_AT_LEAST.max(2 * self.swept);
        let idle = self
            .known
            .iter()
            .filter(|(known, transaction)| (all || &***known == id) && transaction.is_idle_since(expired));
        let idle: Vec<Str> = idle.map(|(id, _)| id.clone()).collect();
        idle.iter().for_each(|id| self.forget(id));
        if all {
            self.swept = self.known.len();
        }
        idle
    }

    pub(crate) fn forget(&mut self, id: &str) {
        self.known.remove(id);
    }

    /// A transaction that a log has kept.
    pub(crate) fn restore(&mut self, id: Str, transaction: Transaction) {
        self.known.insert(id, transaction);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Str, &Transaction)> {
        self.known.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_log_keeps_of_a_transaction_is_all_but_the_epoch_before() {
        let now = Now { at: Instant::now(), wall_ms: 5000 };
        let timeout = Duration::from_secs(9);
        let mut transaction = Transaction::new(7, timeout, now.at);
        let check = |transaction: &Transaction| {
            let back = Transaction::from_value(&transaction.to_value(now.wall_ms), now).unwrap();
            assert_eq!(back, Transaction { last_epoch: NO_EPOCH, used: now.at, ..transaction.clone() });
        };
        let Ok(Init::Ready(producer)) = transaction.init(None, false, timeout, now.at, || 1) else {
            panic!("it is new")
        };
        check(&transaction);
        let places = [("a", 0), ("a", 2), ("b", 1)].map(|(topic, index)| (Str::from(topic), index));
        transaction.add(producer, places.into_iter(), now.at, now.wall_ms).unwrap();
        check(&transaction);
        let kept = transaction.init(None, true, timeout, now.at, || 8).unwrap();
        assert!(matches!(kept, Init::Kept { .. }));
        check(&transaction);
        transaction.now.epoch = LAST_EPOCH;
        transaction.heir = None;
        transaction.end(transaction.now, true, Protocol::V2, now.wall_ms, || 8).unwrap();
        assert_eq!(transaction.next, Some(Identity { producer_id: 8, epoch: 0 }));
        check(&transaction);
    }

    #[test]
    fn ids_that_were_idle_too_long_are_forgotten_unless_something_is_open() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut transactions = Transactions::default();
        let timeout = Duration::from_secs(9);
        let init = |transactions: &mut Transactions, id: &str, seconds, expired| {
            transactions.forget_idle(id, expired);
            let transaction = transactions.get_or_create(id, timeout, at(seconds), || 0);
            let Ok(Init::Ready(producer)) = transaction.init(None, false, timeout, at(seconds), || 1) else {
                panic!("{id} is open")
            };
            producer
        };
        assert_eq!(init(&mut transactions, "a", 1, None).epoch, 0);
        assert_eq!(init(&mut transactions, "a", 2, Some(at(1))).epoch, 1, "used at 1");
        assert_eq!(init(&mut transactions, "a", 5, Some(at(3))).epoch, 0, "idle since 2");
        let open = init(&mut transactions, "open", 5, None);
        let place = (Str::from_static("t"), 0);
        let open_transaction = transactions.known("open").unwrap();
        open_transaction.add(open, std::iter::once(place), at(5), 0).unwrap();
        for id in 0..100 {
            init(&mut transactions, &format!("id {id}"), 6, None);
        }
        init(&mut transactions, "last", 20, Some(at(10)));
        let left: Vec<&str> = transactions.iter().map(|(id, _)| &**id).collect();
        assert_eq!(left, ["last", "open"]);
    }
}
