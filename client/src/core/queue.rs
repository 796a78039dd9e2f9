//! The batches of one partition: the open one, those that wait, those that are out.
//!
//! It owns their order and the decision which may go next. It refuses to know links, memory and the meaning of error
//! codes. Invariants: batches leave in the order in which they were opened; at most five are out, all on one broker; one
//! that comes back goes again only when nothing before it is unresolved.

use std::collections::VecDeque;
use std::time::Instant;

use super::batch::{Batch, Body, Number};
use super::sequence::{Identity, Sequence};
use crate::planted::{Defect, planted};

#[derive(Debug)]
pub(crate) struct Queue<D> {
    /// Position of the topic in the machine's list.
    pub(crate) topic: usize,
    /// The partition's number within the topic.
    pub(crate) index: i32,
    pub(crate) leader: Option<i32>,
    pub(crate) open: Option<Batch<D>>,
    /// Sealed, by number.
    pub(crate) waiting: VecDeque<Batch<D>>,
    /// Sent and not answered, by number.
    pub(crate) out: VecDeque<Batch<D>>,
    /// The broker that has what is out.
    pub(crate) out_on: Option<i32>,
    pub(crate) sequence: Sequence,
    /// Not to be sent to before this time.
    pub(crate) retry_at: Option<Instant>,
    /// Whether the leader's list of ready partitions names it.
    pub(crate) listed: bool,
    /// Bytes of the batches that wait.
    pub(crate) waiting_bytes: usize,
    /// Bytes of the batches that are out.
    pub(crate) out_bytes: usize,
    /// The offset after the last record that was acknowledged.
    pub(crate) acknowledged: i64,
}

impl<D> Queue<D> {
    pub(crate) fn new(topic: usize, index: i32) -> Self {
        Self {
            topic,
            index,
            leader: None,
            open: None,
            waiting: VecDeque::new(),
            out: VecDeque::new(),
            out_on: None,
            sequence: Sequence::default(),
            retry_at: None,
            listed: false,
            waiting_bytes: 0,
            out_bytes: 0,
            acknowledged: -1,
        }
    }

    /// Closes the open batch. False if there is none.
    pub(crate) fn seal(&mut self) -> bool {
        let Some(mut batch) = self.open.take() else { return false };
        batch.seal();
        self.waiting_bytes += batch.bytes;
        self.waiting.push_back(batch);
        true
    }

    /// The broker to which the first waiting batch may go now. `identity`: what a producer starts with at a partition;
    /// `None` while it is unknown. `window`: the batches that may be out without idempotence.
    pub(crate) fn may_send(&self, idempotent: bool, identity: Option<Identity>) -> Option<i32> {
        let leader = self.leader.filter(|_| self.retry_at.is_none())?;
        // One that is away comes back compressed, or in pieces.
        let first = self.waiting.front().filter(|batch| !matches!(batch.body, Body::Away))?;
        if !idempotent || matches!(first.body, Body::Oversized(..)) {
            return Some(leader);
        }
        let settled_elsewhere = self.out.is_empty() || self.out_on == Some(leader);
        let oldest_is_later = self.out.front().is_none_or(|out| out.number > first.number);
        let resent = first.numbered.is_some();
        let in_turn = if resent { oldest_is_later } else { self.out.len() < self.sequence.window() };
        let in_turn = in_turn || planted(Defect::WideWindow);
        let can_number = if self.starts_over() {
            self.out.is_empty() && (!self.sequence.is_exhausted() || identity.is_some())
        } else {
            resent || identity.is_some()
        };
        (settled_elsewhere && in_turn && can_number).then_some(leader)
    }

    /// Whether the next batch goes out under a new identity. One that may be in the log goes again under its old number
    /// first, and so does what is before it: only that tells whether it is.
    fn starts_over(&self) -> bool {
        self.sequence.is_broken()
            && !self.waiting.iter().any(|batch| batch.doubtful && batch.numbered.is_some())
    }

    /// The broker misses a number: nothing from there on can be in the log.
    pub(crate) fn clear_doubt(&mut self) {
        for batch in &mut self.waiting {
            batch.doubtful = false;
        }
    }

    /// One part of a batch that may be in the log as a whole was written: so the whole is not, nor are the other parts.
    pub(crate) fn clear_doubt_of_parts(&mut self, number: Number) {
        for batch in self.waiting.iter_mut().filter(|batch| batch.number.opened == number.opened) {
            (batch.doubtful, batch.part) = (false, false);
        }
    }

    /// Takes the first waiting batch, numbered and on its way to `node`. Only when [`Queue::may_send`] said so.
    pub(crate) fn send(
        &mut self,
        node: i32,
        idempotent: bool,
        identity: Option<Identity>,
    ) -> Option<&mut Batch<D>> {
        if idempotent && self.starts_over() {
            if !self.sequence.start_over(identity) {
                return None;
            }
            self.waiting.iter_mut().for_each(|batch| batch.numbered = None);
        }
        let mut batch = self.waiting.pop_front()?;
        self.waiting_bytes -= batch.bytes;
        if idempotent && batch.numbered.is_none() {
            batch.numbered = identity.map(|fresh| self.sequence.number(batch.count, fresh));
        }
        batch.attempts += 1;
        self.out_bytes += batch.bytes;
        self.out_on = Some(node);
        let at = self.out.partition_point(|out| out.number < batch.number);
        self.out.insert(at, batch);
        self.out.get_mut(at)
    }

    /// Takes back a batch that is out.
    pub(crate) fn take_out(&mut self, number: Number) -> Option<Batch<D>> {
        let at = self.out.iter().position(|batch| batch.number == number)?;
        let batch = self.out.remove(at)?;
        self.out_bytes -= batch.bytes;
        Some(batch)
    }

    /// Takes back what is not out of a batch whose time is over: the batch itself or, one call each, its parts.
    pub(crate) fn take_expired(&mut self, opened: u64) -> Option<Batch<D>> {
        let part = self.waiting.iter().map(|batch| batch.number).find(|number| number.opened == opened);
        match part {
            Some(number) => self.take_waiting(number),
            None => self.open.take_if(|batch| batch.number.opened == opened),
        }
    }

    /// Takes back a batch that waits.
    pub(crate) fn take_waiting(&mut self, number: Number) -> Option<Batch<D>> {
        let at = self.waiting.iter().position(|batch| batch.number == number)?;
        let batch = self.waiting.remove(at)?;
        self.waiting_bytes -= batch.bytes;
        Some(batch)
    }

    /// Takes back all that may be in the log and waits to be sent again.
    pub(crate) fn take_doubtful(&mut self) -> VecDeque<Batch<D>> {
        let all = std::mem::take(&mut self.waiting).into_iter();
        let (doubtful, waiting): (VecDeque<_>, _) = all.partition(|batch| batch.doubtful);
        self.waiting = waiting;
        self.waiting_bytes -= doubtful.iter().map(|batch| batch.bytes).sum::<usize>();
        doubtful
    }

    /// Takes back all that has not been sent, or waits to be sent again.
    pub(crate) fn take_unsent(&mut self) -> impl Iterator<Item = Batch<D>> + use<D> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting).into_iter().chain(self.open.take())
    }

    /// Takes back all that is out.
    pub(crate) fn take_all_out(&mut self) -> VecDeque<Batch<D>> {
        self.out_bytes = 0;
        std::mem::take(&mut self.out)
    }

    /// Puts a batch back to its place among those that wait.
    pub(crate) fn put_back(&mut self, batch: Batch<D>) {
        self.waiting_bytes += batch.bytes;
        let at = self.waiting.partition_point(|waiting| waiting.number < batch.number);
        let at = if planted(Defect::RetryAtTheBack) { self.waiting.len() } else { at };
        if planted(Defect::SequenceReused)
            && let Some(numbered) = batch.numbered
        {
            self.sequence.rewind_to(numbered);
        }
        self.waiting.insert(at, batch);
    }

    /// Whether a batch before this one is out or waits.
    pub(crate) fn has_earlier(&self, number: Number) -> bool {
        let unresolved = |batch: &Batch<D>| batch.number < number && !batch.settled;
        self.out.front().is_some_and(unresolved) || self.waiting.front().is_some_and(unresolved)
    }

    /// Whether nothing of the partition is in memory.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_none() && self.waiting.is_empty() && self.out.is_empty()
    }
}
