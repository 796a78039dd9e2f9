//! What the answers to a producer mean for its batches, and how each of them ends.
//!
//! It owns the way of a batch after it was sent: settled, sent again, given a new number, given up. What an error code means
//! comes from [`super::verdict`]; who may be sent what is the machine's. Invariant: a batch is told its outcome once, and
//! its memory is given back only when it is gone from every list.

use std::time::Instant;

use ottla_protocol::error_code::{ErrorCode, Write};
use ottla_protocol::messages::{InitProducerIdResponse, ProduceResponse, ProducedPartition};
use ottla_protocol::wire::{Str, Uuid};

use super::Link;
use super::backoff::Backoff;
use super::batch::{Batch, BatchOutcome, Body, Number, Ticket};
use super::producer::{Name, News, Producer};
use super::queue::Queue;
use super::sequence::Identity;
use super::transaction::{BUSY_WAIT, Transaction};
use super::verdict::{Situation, Verdict, judge};
use crate::error::{Error, ErrorKind, Outcome};
use crate::planted::{Defect, planted};

impl<D: Ticket> Producer<D> {
    pub(super) fn named(&mut self, now: Instant, link: Link, response: &InitProducerIdResponse) {
        self.cluster.throttle(now, link, response.throttle_time_ms);
        if response.error_code.is_ok() {
            self.name_backoff.reset();
            self.name = Name::Known(Identity { id: response.producer_id, epoch: response.producer_epoch });
            self.list_all();
            return;
        }
        let ask_after = now + self.name_backoff.next(&mut self.cluster.random);
        self.name = Name::Unknown { ask_after };
        if !response.error_code.is_retriable() {
            let message = format!("no producer id: {}", response.error_code);
            self.end(Error::new(ErrorKind::Fatal, message).with_code(response.error_code));
        }
    }

    pub(super) fn answered(&mut self, now: Instant, link: Link, response: &ProduceResponse) {
        self.cluster.throttle(now, link, response.throttle_time_ms);
        for node in &response.node_endpoints {
            self.cluster.learn_node(now, node.node_id, &node.host, node.port, node.rack.clone());
        }
        let flight = self.outlets.get_mut(&link.node).and_then(|outlet| outlet.flights.pop_front());
        if let Some((since, _)) = &flight {
            self.metrics.request_latency.add(now.saturating_duration_since(*since));
        }
        let flight = flight.map(|(_, batches)| batches).unwrap_or_default();
        let answers: Vec<(&Str, Uuid, &ProducedPartition)> = response
            .responses
            .iter()
            .flat_map(|topic| topic.partition_responses.iter().map(|p| (&topic.name, topic.topic_id, p)))
            .collect();
        for (position, (at, number)) in flight.into_iter().enumerate() {
            let queue = &self.queues[at];
            let topic = &self.topics[queue.topic];
            let named = |(name, id, p): &(&Str, Uuid, &ProducedPartition)| {
                p.index == queue.index && (**name == topic.name || (*id == topic.id && *id != Uuid::ZERO))
            };
            // A broker answers in the order of the request, so the first look nearly always hits.
            let in_order = answers.get(position).filter(|answer| named(answer));
            match in_order.or_else(|| answers.iter().find(|answer| named(answer))) {
                Some((_, _, answer)) => self.judge(now, link.node, at, number, answer),
                None => {
                    let message = format!("{}-{} is missing in the answer", topic.name, queue.index);
                    self.try_again(now, at, number, Error::new(ErrorKind::Protocol, message));
                }
            }
        }
        self.read_metadata(now);
    }

    pub(super) fn judge(
        &mut self,
        now: Instant,
        node: i32,
        at: usize,
        number: Number,
        answer: &ProducedPartition,
    ) {
        let Some(mut batch) = self.change(at, |queue| queue.take_out(number)) else { return };
        let queue = &mut self.queues[at];
        let situation = Situation {
            idempotent: self.config.idempotence,
            transactional: self.transaction.is_some(),
            earlier_unresolved: queue.has_earlier(number),
            broken: queue.sequence.is_broken(),
            doubtful: batch.doubtful,
            part: batch.part,
            divisible: batch.count > 1,
            log_moved: answer.log_start_offset >= queue.acknowledged.max(0),
        };
        match judge(answer.error_code, situation) {
            Verdict::Written => self.written(at, batch, answer),
            Verdict::Duplicate => {
                batch.numbered.into_iter().for_each(|numbered| queue.sequence.prove(numbered));
                self.settle(batch, BatchOutcome::Written { base_offset: None, log_append_time: None });
            }
            Verdict::Retry { refresh } => {
                let error = self.describe(at, answer);
                if refresh {
                    self.look_for_leader(now, node, at, answer);
                }
                batch.doubtful |= answer.error_code.write() != Write::NotWritten;
                self.again(now, at, batch, error, refresh);
            }
            Verdict::Renumber => {
                (batch.numbered, batch.doubtful) = (None, false);
                self.break_off(now, at);
                self.put_back(at, batch);
                if answer.error_code == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER {
                    self.queues[at].clear_doubt();
                } else {
                    self.give_up_doubtful(at, &self.describe(at, answer));
                }
            }
            Verdict::Split => {
                let error = self.describe(at, answer);
                self.refuse_size(now, at, batch, error);
            }
            Verdict::Fail(outcome) => self.refused(now, at, batch, answer, outcome),
        }
        self.list(at);
    }

    /// A batch is in the log.
    fn written(&mut self, at: usize, batch: Batch<D>, answer: &ProducedPartition) {
        let queue = &mut self.queues[at];
        queue.acknowledged = answer.base_offset.saturating_add(i64::from(batch.count));
        batch.numbered.into_iter().for_each(|numbered| queue.sequence.prove(numbered));
        if batch.part {
            queue.clear_doubt_of_parts(batch.number);
        }
        if let Body::Encoded(bytes, _) = &batch.body {
            let topic = queue.topic;
            self.topics[topic].fill.fitted(bytes.len());
        }
        let log_append_time = (answer.log_append_time_ms >= 0).then_some(answer.log_append_time_ms);
        let base_offset = (answer.base_offset >= 0).then_some(answer.base_offset);
        self.settle(batch, BatchOutcome::Written { base_offset, log_append_time });
    }

    /// A batch is refused for good: as a whole, or for the records that the answer names (KIP-467).
    fn refused(
        &mut self,
        now: Instant,
        at: usize,
        batch: Batch<D>,
        answer: &ProducedPartition,
        outcome: Outcome,
    ) {
        let error = self.describe(at, answer);
        let numbered = batch.numbered.is_some();
        // Names say nothing while an earlier attempt may have been written.
        let named = !answer.record_errors.is_empty() && outcome == Outcome::NotWritten;
        if named && !batch.settled {
            let records = answer.record_errors.iter();
            let records = records.map(|r| (r.batch_index, r.batch_index_error_message.clone())).collect();
            self.settle(batch, BatchOutcome::Refused { error, records });
        } else {
            self.give_up(batch, error, outcome);
        }
        if numbered {
            self.break_off(now, at);
        }
    }

    /// A number of a partition is lost. A producer id whose epochs are used up there is replaced for all.
    pub(super) fn break_off(&mut self, now: Instant, at: usize) {
        if let Some(transaction) = &mut self.transaction {
            // It has one epoch for all partitions, and only a failed transaction gets here.
            return transaction.doubt();
        }
        self.queues[at].sequence.break_off();
        if self.queues[at].sequence.is_exhausted() && matches!(self.name, Name::Known(_)) {
            self.name = Name::Unknown { ask_after: now };
            // None of the others may number a batch either, until there is a new one.
            self.list_all();
        }
        self.list(at);
    }

    pub(super) fn describe(&self, at: usize, answer: &ProducedPartition) -> Error {
        let queue = &self.queues[at];
        let code = answer.error_code;
        let text = answer.error_message.as_ref().map(|m| format!(": {m}")).unwrap_or_default();
        let limit = match code {
            ErrorCode::MESSAGE_TOO_LARGE => ", which is max.message.bytes",
            ErrorCode::RECORD_LIST_TOO_LARGE => ", which is segment.bytes",
            _ => "",
        };
        let message = format!("{}-{}: {code}{limit}{text}", self.topics[queue.topic].name, queue.index);
        let kind = match code {
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => ErrorKind::RecordTooLarge,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
                ErrorKind::Authorization
            }
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => ErrorKind::UnknownTopic,
            ErrorCode::PRODUCER_FENCED => ErrorKind::Fenced,
            _ => ErrorKind::Broker,
        };
        Error::new(kind, message).with_code(code)
    }

    /// The leader is not where we thought: believe the hint (KIP-951), else ask.
    pub(super) fn look_for_leader(&mut self, now: Instant, node: i32, at: usize, answer: &ProducedPartition) {
        let queue = &self.queues[at];
        let (name, index) = (&self.topics[queue.topic].name, queue.index);
        let hint = &answer.current_leader;
        let metadata = &mut self.cluster.metadata;
        metadata.hint(name, index, hint.leader_id, hint.leader_epoch);
        metadata.deny(name, index, node);
        metadata.refresh(now, &mut self.cluster.random);
    }

    /// No definite answer came for a batch that is out.
    pub(super) fn try_again(&mut self, now: Instant, at: usize, number: Number, error: Error) {
        if let Some(mut batch) = self.change(at, |queue| queue.take_out(number)) {
            batch.doubtful = true;
            self.transaction.iter_mut().for_each(Transaction::doubt);
            self.again(now, at, batch, error, false);
        }
        self.list(at);
    }

    /// Puts a batch that was out back into its queue, unless its attempts or its time are used up. `moved`: the wait is for
    /// metadata, which has a backoff of its own.
    pub(super) fn again(&mut self, now: Instant, at: usize, batch: Batch<D>, error: Error, moved: bool) {
        let queue = &mut self.queues[at];
        let over = self.transaction.as_ref().is_some_and(|transaction| !transaction.is_going_on());
        if batch.settled || over || matches!(batch.body, Body::Away) || batch.attempts > self.config.retries {
            if batch.numbered.is_some() {
                self.break_off(now, at);
            }
            let outcome = if batch.doubtful { Outcome::PossiblyWritten } else { Outcome::NotWritten };
            self.give_up(batch, error, outcome);
        } else {
            let busy = error.code() == Some(ErrorCode::CONCURRENT_TRANSACTIONS);
            let (base, most) = self.retry_backoff;
            let base = if busy { base.min(BUSY_WAIT) } else { base };
            let mut backoff = Backoff::after((base, most), batch.attempts.saturating_sub(1));
            let wait = backoff.next(&mut self.cluster.random);
            if !moved && queue.retry_at.is_none() {
                queue.retry_at = Some(now + wait);
                self.retries.insert((now + wait, at));
            }
            self.metrics.retries += 1;
            self.put_back(at, batch);
        }
    }

    pub(super) fn put_back(&mut self, at: usize, batch: Batch<D>) {
        self.change(at, |queue| queue.put_back(batch));
        // The batch in front may be another one now, which has to wait for its turn.
        self.list(at);
    }

    // How a batch ends.

    pub(super) fn give_up(&mut self, batch: Batch<D>, error: Error, outcome: Outcome) {
        self.settle(batch, BatchOutcome::Failed(error.with_outcome(outcome)));
    }

    /// Gives a batch its outcome and its memory back.
    pub(super) fn settle(&mut self, batch: Batch<D>, outcome: BatchOutcome<D::Claim>) {
        if !batch.settled {
            self.resolve(&batch, outcome);
        }
        self.buffered = self.buffered.saturating_sub(batch.bytes);
        if let Some(buffer) = batch.into_buffer() {
            self.keep_buffer(buffer);
        }
    }

    pub(super) fn resolve(&mut self, batch: &Batch<D>, outcome: BatchOutcome<D::Claim>) {
        let records = u64::from(batch.count.unsigned_abs());
        match &outcome {
            BatchOutcome::Written { .. } => self.metrics.records_written += records,
            BatchOutcome::Failed(error) | BatchOutcome::Refused { error, .. } => {
                self.metrics.failed(records, error);
                if let Some(entry) = self.ledger.get(batch.number.opened) {
                    let queue = &self.queues[entry.partition];
                    self.failures.add(&self.topics[queue.topic].name, queue.index, records, error);
                }
            }
            BatchOutcome::Split(_) => {}
        }
        match (&mut self.transaction, &outcome) {
            (Some(transaction), BatchOutcome::Written { .. }) => transaction.opened(),
            (Some(transaction), BatchOutcome::Failed(error)) => transaction.fail(error),
            (Some(transaction), BatchOutcome::Refused { error, .. }) => {
                transaction.fail(&error.clone().with_outcome(Outcome::Rejected));
            }
            (None, _) | (_, BatchOutcome::Split(_)) => {}
        }
        self.ledger.settle(batch.number.opened);
        self.news.push(News::Outcome(batch.ticket.clone(), outcome));
    }

    /// The time of a batch is over, and that of its parts. One that is out keeps its place, for its number and for its bytes
    /// (faults 4, B1).
    pub(super) fn expire(&mut self, now: Instant, opened: u64, at: usize) {
        let queue = &self.queues[at];
        let name = self.topics[queue.topic].name.clone();
        let message =
            format!("{name}-{}: not acknowledged within {:?}", queue.index, self.config.delivery_timeout);
        let mut error = Error::new(ErrorKind::Timeout, message);
        if let Some(cause) = self.cluster.failure() {
            error = error.with_source(cause.clone());
        }
        let mut out = std::mem::take(&mut self.queues[at].out);
        for batch in out.iter_mut().filter(|batch| batch.number.opened == opened && !batch.settled) {
            batch.settled = true;
            if !planted(Defect::SilentExpiry) {
                let known = planted(Defect::FalseNotWritten);
                let outcome = if known { Outcome::NotWritten } else { Outcome::PossiblyWritten };
                self.resolve(batch, BatchOutcome::Failed(error.clone().with_outcome(outcome)));
            }
        }
        self.queues[at].out = out;
        while let Some(batch) = self.change(at, |queue| queue.take_expired(opened)) {
            if batch.numbered.is_some() {
                self.break_off(now, at);
            }
            let outcome = if batch.doubtful { Outcome::PossiblyWritten } else { Outcome::NotWritten };
            self.give_up(batch, error.clone(), outcome);
        }
        self.ledger.expire(opened);
        self.list(at);
    }

    /// Nothing goes on: every batch is settled with this error, and every later call fails with it.
    pub(crate) fn end(&mut self, error: Error) {
        for at in 0..self.queues.len() {
            for batch in self.change(at, Queue::take_all_out) {
                let error = error.clone().with_outcome(Outcome::PossiblyWritten);
                self.settle(batch, BatchOutcome::Failed(error));
            }
        }
        self.drop_unsent(&error);
        self.ended.get_or_insert(error);
    }

    /// Whatever waits to be sent, or to be sent again, is settled with this error.
    pub(super) fn drop_unsent(&mut self, error: &Error) {
        for at in 0..self.queues.len() {
            self.queues[at].listed = false;
            for batch in self.change(at, Queue::take_unsent) {
                if batch.numbered.is_some() {
                    // Its number is missing in the log: the next transaction must not go on behind the gap.
                    self.transaction.iter_mut().for_each(Transaction::doubt);
                }
                let outcome = if batch.doubtful { Outcome::PossiblyWritten } else { Outcome::NotWritten };
                self.settle(batch, BatchOutcome::Failed(error.clone().with_outcome(outcome)));
            }
        }
        for outlet in self.outlets.values_mut() {
            outlet.ready.clear();
            outlet.lingering.clear();
        }
    }
}
