//! Produce with acks=all: the answer waits until every replica in sync has what was written.
//!
//! Versions: those of Produce ([`super::produce`]). Honoured: the timeout. As in Kafka, a partition whose leader changes meanwhile
//! answers NOT_LEADER_OR_FOLLOWER, one that ends with too few in sync
//! NOT_ENOUGH_REPLICAS_AFTER_APPEND, and what is left when the time of the request is over REQUEST_TIMED_OUT: all of it is
//! in the log of the leader, and may stay there or not.

use crate::core::group::Timer;
use crate::core::{Cluster, Handled, Now, Ticket};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{ProduceResponse, ProducedPartition};
use ottla_protocol::wire::Str;
use std::time::Duration;

/// A partition whose replicas are waited for.
#[derive(Debug, Clone)]
pub(crate) struct Awaited {
    pub(crate) topic: Str,
    pub(crate) index: i32,
    /// The high watermark that acknowledges it.
    pub(crate) until: i64,
    /// The leader epoch in which it was written.
    pub(crate) leader_epoch: i32,
    /// Where it is in the answer.
    pub(crate) place: (usize, usize),
}

/// An answer that waits for replicas.
#[derive(Debug)]
pub(crate) struct Unacknowledged {
    response: ProduceResponse,
    awaited: Vec<Awaited>,
}

impl Unacknowledged {
    fn settle(&mut self, awaited: &Awaited, error_code: ErrorCode) {
        let (topic, partition) = awaited.place;
        let topic = self.response.responses.get_mut(topic);
        if let Some(answer) = topic.and_then(|topic| topic.partition_responses.get_mut(partition)) {
            *answer = ProducedPartition { error_code, ..std::mem::take(answer) };
        }
    }
}

impl Cluster {
    /// Answers when every partition that is awaited is acknowledged.
    pub(super) fn await_replicas(
        &mut self,
        now: Now,
        response: ProduceResponse,
        awaited: Vec<Awaited>,
        longest_ms: i32,
    ) -> Handled {
        let ticket = self.parking.issue();
        for Awaited { topic, index, .. } in &awaited {
            if let Some(partition) = self.topics.partition_mut(topic, *index) {
                partition.unacknowledged.push(ticket);
            }
        }
        let longest = Duration::from_millis(u64::try_from(longest_ms).unwrap_or(0));
        self.timers.set(Timer::Produce(ticket), now.at + longest);
        self.produces.insert(ticket, Unacknowledged { response, awaited });
        self.settle(ticket);
        self.answered_or_parked(ticket)
    }

    /// What a partition's replicas have, who leads it or who is in sync has changed.
    pub(crate) fn acknowledge(&mut self, topic: &str, index: i32) {
        let Some(partition) = self.topics.get(topic).and_then(|topic| topic.partition(index)) else { return };
        if !partition.unacknowledged.is_empty() {
            partition.unacknowledged.clone().into_iter().for_each(|ticket| self.settle(ticket));
        }
    }

    /// Answers a Produce, if nothing of it is awaited any more.
    pub(crate) fn settle(&mut self, ticket: Ticket) {
        let Some(mut waiting) = self.produces.remove(&ticket) else { return };
        for awaited in std::mem::take(&mut waiting.awaited) {
            match self.verdict(&awaited) {
                None => waiting.awaited.push(awaited),
                Some(code) => {
                    waiting.settle(&awaited, code);
                    self.await_no_more(ticket, &awaited);
                }
            }
        }
        match waiting.awaited.is_empty() {
            false => _ = self.produces.insert(ticket, waiting),
            true => self.answer_produce(ticket, waiting),
        }
    }

    /// What came of a partition, if that can be said.
    fn verdict(&self, awaited: &Awaited) -> Option<ErrorCode> {
        let found = self.topics.get(&awaited.topic);
        let Some((found, partition)) = found.and_then(|topic| Some((topic, topic.partition(awaited.index)?)))
        else {
            return Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        if partition.leader_epoch != awaited.leader_epoch {
            return Some(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        (partition.high_watermark() >= awaited.until).then(|| {
            match partition.standing.has_enough_in_sync(&found.settings) {
                true => ErrorCode::NONE,
                false => ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            }
        })
    }

    /// The time of a Produce is over.
    pub(crate) fn time_out(&mut self, ticket: Ticket) {
        let Some(mut waiting) = self.produces.remove(&ticket) else { return };
        for awaited in std::mem::take(&mut waiting.awaited) {
            waiting.settle(&awaited, ErrorCode::REQUEST_TIMED_OUT);
            self.await_no_more(ticket, &awaited);
        }
        self.answer_produce(ticket, waiting);
    }

    fn answer_produce(&mut self, ticket: Ticket, waiting: Unacknowledged) {
        self.timers.cancel(&Timer::Produce(ticket));
        self.parking.answer(ticket, waiting.response.into());
    }

    /// Nobody waits for this answer any more.
    pub(crate) fn forget_produce(&mut self, ticket: Ticket) {
        let Some(waiting) = self.produces.remove(&ticket) else { return };
        self.timers.cancel(&Timer::Produce(ticket));
        waiting.awaited.iter().for_each(|awaited| self.await_no_more(ticket, awaited));
    }

    fn await_no_more(&mut self, ticket: Ticket, awaited: &Awaited) {
        if let Some(partition) = self.topics.partition_mut(&awaited.topic, awaited.index) {
            partition.unacknowledged.retain(|other| *other != ticket);
        }
    }
}
