//! Which leader wrote what was read, and whether the leader of now has it too (KIP-320).
//!
//! It owns the questions to new leaders (OffsetForLeaderEpoch) that are out, one request a broker. It refuses to know why a
//! leader changed. Invariant: nothing is fetched behind a record of an older leader before the newer leader has confirmed
//! that its log holds that record; a log that was cut off there is reported, never read on silently.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use ottla_protocol::messages::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};

use super::ask::Ask;
use super::consumer::Consumer;
use super::positions::{Lease, Place, Position};
use super::saying::Saying;
use super::{Lane, Link, Request, TopicPartition, Work};
use crate::config::Reset;
use crate::event::PositionCause;

/// The leader epochs of the records in front of a position.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    /// Where each begins, as far as it was read; rising.
    begins: VecDeque<(i64, i32)>,
    /// The newest leader that has confirmed the position.
    confirmed: Option<i32>,
}

impl Epochs {
    /// Records from this offset on were written under this epoch; -1 if nobody knows.
    pub(crate) fn begin(&mut self, offset: i64, epoch: i32) {
        if self.begins.back().is_none_or(|(_, last)| *last != epoch) {
            self.begins.push_back((offset, epoch));
        }
    }

    /// Nobody will ask about records in front of this offset, but for the last.
    pub(crate) fn forget_before(&mut self, offset: i64) {
        while self.begins.get(1).is_some_and(|(begin, _)| *begin < offset) {
            self.begins.pop_front();
        }
    }

    /// The epoch of the last record in front of an offset, -1 if it is not known.
    pub(crate) fn before(&self, offset: i64) -> i32 {
        self.begins.iter().rev().find(|(begin, _)| *begin < offset).map_or(-1, |(_, epoch)| *epoch)
    }

    /// Whether the leader of this epoch has still to confirm the log in front of an offset.
    pub(crate) fn is_doubtful(&self, offset: i64, leader_epoch: i32) -> bool {
        let epoch = self.before(offset);
        epoch >= 0 && leader_epoch > self.confirmed.unwrap_or(-1).max(epoch)
    }
}

/// What a leader was asked about a partition.
#[derive(Debug)]
pub(super) struct Question {
    lease: Arc<Lease>,
    offset: i64,
    /// Of the last record in front of it.
    epoch: i32,
    leader_epoch: i32,
}

impl Question {
    fn concerns(&self, position: &Position) -> bool {
        Arc::ptr_eq(&position.lease, &self.lease) && position.place == Place::At(self.offset)
    }
}

impl Consumer {
    /// The positions that a leader has to confirm, with the leader and its epoch.
    fn doubtful(&self) -> impl Iterator<Item = (&TopicPartition, &Position, i32, i32)> {
        self.positions.iter().filter_map(|(partition, position)| {
            let Place::At(offset) = position.place else { return None };
            let known = self.cluster.metadata.partition(&partition.topic, partition.partition)?;
            let doubtful = position.epochs.is_doubtful(offset, known.leader_epoch);
            (doubtful && position.is_open()).then_some((
                partition,
                position,
                known.leader?,
                known.leader_epoch,
            ))
        })
    }

    pub(super) fn want_confirmations(&mut self) {
        let nodes: BTreeSet<i32> = self.doubtful().map(|(_, _, node, _)| node).collect();
        nodes.into_iter().for_each(|node| self.cluster.want(Link { node, lane: Lane::Control }));
    }

    pub(super) fn wants_confirmation(&self, link: Link) -> bool {
        let idle = !self.questions.contains_key(&link.node);
        link.lane == Lane::Control
            && idle
            && !self.closing
            && self.doubtful().any(|(_, _, node, _)| node == link.node)
    }

    pub(super) fn ask_for_confirmation(&mut self, link: Link) -> Option<Work> {
        let mut topics: Vec<OffsetForLeaderTopic> = Vec::new();
        let mut questions = BTreeMap::new();
        for (partition, position, node, leader_epoch) in self.doubtful() {
            let Place::At(offset) = position.place else { continue };
            if node != link.node {
                continue;
            }
            let epoch = position.epochs.before(offset);
            let asked = OffsetForLeaderPartition {
                partition: partition.partition,
                current_leader_epoch: leader_epoch,
                leader_epoch: epoch,
            };
            match topics.last_mut().filter(|topic| topic.topic == partition.topic) {
                Some(topic) => topic.partitions.push(asked),
                None => topics
                    .push(OffsetForLeaderTopic { topic: partition.topic.clone(), partitions: vec![asked] }),
            }
            let lease = position.lease.clone();
            questions.insert(partition.clone(), Question { lease, offset, epoch, leader_epoch });
        }
        let version = match self.cluster.version::<OffsetForLeaderEpochRequest>(link, i16::MAX) {
            Ok(version) => version,
            Err(cause) => return Some(Work::Close(cause)),
        };
        self.questions.insert(link.node, questions);
        let timeout = self.cluster.config.request_timeout;
        let ask = OffsetForLeaderEpochRequest { replica_id: -1, topics };
        Some(Work::Request(Request { ask: Ask::OffsetForLeaderEpoch(ask), version, timeout, answered: true }))
    }

    pub(super) fn confirmed(&mut self, now: Instant, link: Link, response: &OffsetForLeaderEpochResponse) {
        self.cluster.throttle(now, link, response.throttle_time_ms);
        let mut questions = self.questions.remove(&link.node).unwrap_or_default();
        for topic in &response.topics {
            for answer in &topic.partitions {
                let partition = TopicPartition { topic: topic.topic.clone(), partition: answer.partition };
                if let Some(question) = questions.remove(&partition)
                    && self.positions.get(&partition).is_some_and(|position| question.concerns(position))
                {
                    self.heed(now, link.node, &partition, &question, answer);
                }
            }
        }
        // What the answer leaves out is asked again, but not at once.
        for (partition, question) in questions {
            if self.positions.get(&partition).is_some_and(|position| question.concerns(position)) {
                self.retry_later(now, &partition);
            }
        }
    }

    fn heed(
        &mut self,
        now: Instant,
        node: i32,
        partition: &TopicPartition,
        question: &Question,
        answer: &EpochEndOffset,
    ) {
        let Some(position) = self.positions.get_mut(partition) else { return };
        let code = answer.error_code;
        if !code.is_ok() {
            return self.not_served(now, node, partition, code);
        }
        // A leader that knows nothing of the epoch says -1: that proves no loss, and the fetch will tell.
        if (0..question.offset).contains(&answer.end_offset) {
            return self.cut_off(partition, question, answer.end_offset);
        }
        position.attempts = 0;
        position.epochs.confirmed = Some(question.leader_epoch);
    }

    /// The log of the new leader ends, for the epoch that was read, in front of the position: records were lost that this
    /// consumer has seen or was about to see.
    fn cut_off(&mut self, partition: &TopicPartition, question: &Question, end: i64) {
        let Question { offset, epoch, leader_epoch, .. } = *question;
        let Some(position) = self.positions.get_mut(partition) else { return };
        let reset = self.config.on_out_of_range;
        let finished = position.lease.finished();
        let log = partition.clone();
        self.said.push(Saying::new(move || {
            tracing::warn!(partition = %log, offset, epoch, end, leader_epoch, ?reset, "the log was truncated in front of the position");
        }));
        // What is buffered may be of the lost part; what is still in the log comes again.
        let place = if reset == Reset::Error { Place::Failed } else { Place::At(end.min(finished.max(0))) };
        position.go_to(place);
        if reset == Reset::Error {
            let message = format!(
                "{partition}: the log was truncated to {end} under a new leader (epoch {leader_epoch}), \
                 position {offset} of epoch {epoch} is lost"
            );
            self.refuse(partition, Some(offset), Some(end..offset), PositionCause::Truncated, message);
        }
        self.queue.retain(|queued| queued != partition);
        if let Place::At(to) = place {
            self.tell_position(partition, Some(offset), to, Some(end..offset), PositionCause::Truncated);
        }
        if let Some((_, offsets)) = &mut self.group {
            offsets.forget_look_ups([partition.clone()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_offset_has_the_epoch_of_the_record_in_front_of_it() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.before(7), -1);
        for (offset, epoch) in [(10, 3), (15, 3), (20, 5)] {
            epochs.begin(offset, epoch);
        }
        let of = |epochs: &Epochs| [10, 11, 20, 21, 99].map(|offset| epochs.before(offset));
        assert_eq!(of(&epochs), [-1, 3, 3, 5, 5]);
        epochs.forget_before(20);
        assert_eq!(of(&epochs), [-1, 3, 3, 5, 5]);
        epochs.forget_before(21);
        assert_eq!(of(&epochs), [-1, -1, -1, 5, 5]);
    }

    #[test]
    fn only_a_newer_leader_has_to_confirm_and_once() {
        let mut epochs = Epochs::default();
        assert!(!epochs.is_doubtful(7, 4), "of an unknown epoch nothing can be asked");
        epochs.begin(6, 3);
        let doubtful = |epochs: &Epochs| [-1, 3, 4, 5].map(|leader| epochs.is_doubtful(7, leader));
        assert_eq!(doubtful(&epochs), [false, false, true, true]);
        epochs.confirmed = Some(4);
        assert_eq!(doubtful(&epochs), [false, false, false, true]);
    }
}
