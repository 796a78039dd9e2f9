//! The toy coordinator of one transactional id and of one group, and the toy log of a partition.
//!
//! It owns Kafka's rules for who may do what in which state, under version 1 and version 2 of KIP-890. It refuses to know
//! nodes, links and time beyond the transaction's own. Invariant: an identity is given out once, and when the epochs of a
//! producer id are used up another id takes over (KIP-360).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::InitProducerIdRequest;
use ottla_protocol::records::add_sequence;

use crate::core::sequence::Identity;

/// How long a transaction may be open.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The last epoch that a producer gets; the one above it only fences.
pub(super) const LAST_EPOCH: i16 = i16::MAX - 1;
/// The first producer id.
pub(super) const FIRST_ID: i64 = 100;

/// What a log knows of a producer id.
#[derive(Default)]
struct Producer {
    epoch: i16,
    last: VecDeque<(i32, i32)>,
}

/// The log of a partition. Its records are those that a reader of committed ones sees.
#[derive(Default)]
pub(super) struct Log {
    pub(super) committed: Vec<u64>,
    open: Vec<u64>,
    producers: BTreeMap<i64, Producer>,
}

impl Log {
    pub(super) fn append(&mut self, who: Identity, sequence: i32, values: Vec<u64>) -> Result<(), ErrorCode> {
        let count = i32::try_from(values.len()).expect("small");
        let known = self.producers.get(&who.id).map(|known| known.epoch);
        if known.is_some_and(|epoch| who.epoch < epoch) {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if known.is_some_and(|epoch| who.epoch > epoch) && sequence != 0 {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        let producer = self.know(who);
        if known == Some(who.epoch) {
            if producer.last.contains(&(sequence, count)) {
                return Ok(());
            }
            let next = producer.last.back().map_or(0, |(s, n)| add_sequence(*s, *n));
            if next != sequence {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
        }
        producer.last.push_back((sequence, count));
        if producer.last.len() > 5 {
            producer.last.pop_front();
        }
        self.open.extend(values);
        Ok(())
    }

    /// Writes the marker.
    pub(super) fn end(&mut self, who: Identity, commit: bool) {
        let open = std::mem::take(&mut self.open);
        if commit {
            self.committed.extend(open);
        }
        if self.producers.get(&who.id).is_none_or(|known| who.epoch > known.epoch) {
            self.know(who);
        }
    }

    /// The producer, with no numbers if its epoch is new here.
    fn know(&mut self, who: Identity) -> &mut Producer {
        let producer = self.producers.entry(who.id).or_default();
        if producer.epoch != who.epoch {
            *producer = Producer { epoch: who.epoch, last: VecDeque::new() };
        }
        producer
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    Ongoing,
    /// Markers are being written.
    Preparing {
        commit: bool,
    },
    Complete {
        commit: bool,
    },
}

/// See the head of the module.
pub(super) struct Coordinator {
    pub(super) v2: bool,
    /// The producer, or what the markers bear.
    pub(super) now: Identity,
    /// What it was before, if it may not have heard of a new one. None when another instance came.
    before: Option<Identity>,
    state: State,
    partitions: BTreeSet<usize>,
    /// Offsets that wait for the end of the transaction.
    pending: Option<i64>,
    /// Who has committed offsets last.
    group: Option<Identity>,
    pub(super) committed: i64,
    began: Instant,
}

impl Coordinator {
    /// Has given out the epochs of its producer id up to `epoch`; -1 is none.
    pub(super) fn new(v2: bool, epoch: i16, now: Instant) -> Self {
        Self {
            v2,
            now: Identity { id: FIRST_ID, epoch },
            before: None,
            state: State::Empty,
            partitions: BTreeSet::new(),
            pending: None,
            group: None,
            committed: -1,
            began: now,
        }
    }

    pub(super) fn init(&mut self, asked: &InitProducerIdRequest) -> Result<Identity, ErrorCode> {
        let had = Identity { id: asked.producer_id, epoch: asked.producer_epoch };
        let had = (had.id >= 0).then_some(had);
        let fits = had.is_none_or(|had| had == self.now || Some(had) == self.before);
        if had.is_some_and(|had| had.id != self.now.id) && !fits {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match self.state {
            State::Preparing { .. } => return Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            State::Ongoing => {
                self.fence();
                return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
            }
            State::Empty | State::Complete { .. } => {}
        }
        if !fits {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        if had.is_none_or(|had| had == self.now) {
            self.before = had;
            self.now = successor(self.now);
            self.state = State::Empty;
        }
        Ok(self.now)
    }

    /// Aborts under the next epoch.
    fn fence(&mut self) {
        // Under version 2 its producer may hear of it, and goes on.
        self.before = self.v2.then_some(self.now);
        self.now.epoch += 1;
        self.state = State::Preparing { commit: false };
    }

    /// Aborts what is open for too long.
    pub(super) fn pass_time(&mut self, now: Instant) {
        if self.state == State::Ongoing && now > self.began + TIMEOUT {
            self.fence();
        }
    }

    fn open(&mut self, now: Instant, who: Identity) -> Result<(), ErrorCode> {
        if who != self.now {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match self.state {
            State::Preparing { .. } => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            State::Ongoing => Ok(()),
            State::Empty | State::Complete { .. } => {
                (self.state, self.began) = (State::Ongoing, now);
                Ok(())
            }
        }
    }

    /// Registers partitions, or with none of them a group.
    pub(super) fn add(
        &mut self,
        now: Instant,
        who: Identity,
        partitions: impl IntoIterator<Item = usize>,
    ) -> Result<(), ErrorCode> {
        self.open(now, who)?;
        self.partitions.extend(partitions);
        Ok(())
    }

    /// As a leader asks before it appends.
    pub(super) fn verify(&mut self, now: Instant, at: usize, who: Identity) -> Result<(), ErrorCode> {
        if self.v2 {
            return self.add(now, who, [at]).map_err(|code| match code {
                ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
                code => code,
            });
        }
        let verified = who == self.now && self.state == State::Ongoing && self.partitions.contains(&at);
        if verified { Ok(()) } else { Err(ErrorCode::INVALID_TXN_STATE) }
    }

    /// Under version 1: whether a partition that this producer writes to has been registered. A fenced one may be late.
    pub(super) fn knows(&self, at: usize, who: Identity) -> bool {
        self.v2 || who != self.now || self.partitions.contains(&at)
    }

    pub(super) fn commit_offset(
        &mut self,
        now: Instant,
        who: Identity,
        offset: i64,
    ) -> Result<(), ErrorCode> {
        if self.group.is_some_and(|last| last.id == who.id && who.epoch < last.epoch) {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        // Under version 1 only a registered group gets here; a late request does not find its producer.
        if self.v2 || who.id != self.now.id {
            self.open(now, who)?;
        }
        self.group = Some(who);
        self.pending = Some(offset);
        Ok(())
    }

    pub(super) fn end(&mut self, who: Identity, commit: bool) -> Result<Identity, ErrorCode> {
        if self.v2 && Some(who) == self.before {
            return match self.state {
                State::Preparing { commit: c } if c == commit => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
                State::Complete { commit: c } if c == commit => Ok(self.now),
                _ => Err(ErrorCode::INVALID_TXN_STATE),
            };
        }
        if who != self.now {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match self.state {
            State::Ongoing if self.v2 => {
                self.before = Some(self.now);
                self.state = State::Preparing { commit };
                let next = successor(self.now);
                self.now.epoch += 1;
                Ok(next)
            }
            State::Ongoing => {
                self.state = State::Preparing { commit };
                Ok(self.now)
            }
            State::Empty | State::Complete { .. } if self.v2 && !commit => {
                self.before = Some(self.now);
                self.now = successor(self.now);
                self.state = State::Complete { commit: false };
                Ok(self.now)
            }
            State::Complete { commit: c } if !self.v2 && c == commit => Ok(self.now),
            State::Preparing { commit: c } if !self.v2 && c == commit => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// The markers of an ending transaction are written.
    pub(super) fn complete(&mut self, logs: &mut [Log]) {
        let State::Preparing { commit } = self.state else { return };
        self.state = State::Complete { commit };
        for at in std::mem::take(&mut self.partitions) {
            logs[at].end(self.now, commit);
        }
        if self.group.is_none_or(|last| last.id != self.now.id || last.epoch < self.now.epoch) {
            self.group = Some(self.now);
        }
        if let Some(offset) = self.pending.take()
            && commit
        {
            self.committed = offset;
        }
        if self.v2 && self.now.epoch > LAST_EPOCH {
            self.now = Identity { id: self.now.id + 1, epoch: 0 };
        }
    }
}

/// The next epoch, or another id where there is none.
fn successor(who: Identity) -> Identity {
    match who.epoch >= LAST_EPOCH {
        true => Identity { id: who.id + 1, epoch: 0 },
        false => Identity { epoch: who.epoch + 1, ..who },
    }
}
