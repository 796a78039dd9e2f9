//! A fetch session with one broker (KIP-227): after the first request only what changed is said.
//!
//! It owns what the broker remembers of us. It refuses to know why a partition is wanted. Invariant: after any error and any
//! lost answer everything is said again, so no partition is forgotten.

use std::collections::BTreeMap;

use ottla_protocol::messages::{FetchPartition, FetchTopic, ForgottenTopic};
use ottla_protocol::wire::{Str, Uuid};

use super::TopicPartition;

/// What is asked of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) topic_id: Uuid,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) bytes_max: i32,
}

/// The part of a Fetch request that a session decides.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Difference {
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    pub(crate) topics: Vec<FetchTopic>,
    pub(crate) forgotten: Vec<ForgottenTopic>,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    id: i32,
    /// Zero: the next request says everything.
    epoch: i32,
    known: BTreeMap<TopicPartition, Ask>,
}

impl Session {
    /// The next request for exactly these partitions.
    pub(crate) fn ask(&mut self, wanted: BTreeMap<TopicPartition, Ask>) -> Difference {
        let (session_id, session_epoch) = (self.id, self.epoch);
        let full = self.epoch == 0;
        let changed = wanted.iter().filter(|(partition, ask)| full || self.known.get(partition) != Some(ask));
        let topics = group(changed);
        let gone = |(partition, known): &(&TopicPartition, &Ask)| {
            !full && wanted.get(*partition).is_none_or(|ask| ask.topic_id != known.topic_id)
        };
        let mut forgotten: Vec<ForgottenTopic> = Vec::new();
        for (partition, known) in self.known.iter().filter(gone) {
            match forgotten.last_mut().filter(|t| t.topic == partition.topic && t.topic_id == known.topic_id)
            {
                Some(topic) => topic.partitions.push(partition.partition),
                None => forgotten.push(ForgottenTopic {
                    topic: partition.topic.clone(),
                    topic_id: known.topic_id,
                    partitions: vec![partition.partition],
                }),
            }
        }
        self.known = wanted;
        Difference { session_id, session_epoch, topics, forgotten }
    }

    /// Whether the last request said everything, or the next one will.
    pub(crate) fn is_new(&self) -> bool {
        self.epoch == 0
    }

    /// The broker has taken the request in.
    pub(crate) fn accepted(&mut self, session_id: i32) {
        if session_id == 0 {
            // It keeps no session for us.
            self.reset();
        } else if session_id != self.id {
            (self.id, self.epoch) = (session_id, 1);
        } else {
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        }
    }

    /// Nobody knows what the broker remembers: the next request says everything, in a session of its own.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Partitions by topic, as requests hold them.
pub(crate) fn group<'a>(partitions: impl Iterator<Item = (&'a TopicPartition, &'a Ask)>) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut last: Option<&Str> = None;
    for (partition, ask) in partitions {
        if last != Some(&partition.topic) {
            let (topic, topic_id) = (partition.topic.clone(), ask.topic_id);
            topics.push(FetchTopic { topic, topic_id, partitions: Vec::new() });
            last = Some(&partition.topic);
        }
        let asked = FetchPartition {
            partition: partition.partition,
            current_leader_epoch: ask.leader_epoch,
            fetch_offset: ask.offset,
            partition_max_bytes: ask.bytes_max,
            ..FetchPartition::default()
        };
        topics.last_mut().into_iter().for_each(|topic| topic.partitions.push(asked.clone()));
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(offsets: &[(i32, i64)]) -> BTreeMap<TopicPartition, Ask> {
        let ask = |offset| Ask { topic_id: Uuid(7), offset, leader_epoch: 3, bytes_max: 100 };
        offsets
            .iter()
            .map(|(p, offset)| (TopicPartition { topic: "t".into(), partition: *p }, ask(*offset)))
            .collect()
    }

    fn said(difference: &Difference) -> (i32, i32, Vec<i32>, Vec<i32>) {
        let topics = difference.topics.iter().flat_map(|t| t.partitions.iter().map(|p| p.partition));
        let forgotten = difference.forgotten.iter().flat_map(|t| t.partitions.iter().copied());
        (difference.session_id, difference.session_epoch, topics.collect(), forgotten.collect())
    }

    #[test]
    fn after_the_first_request_only_changes_are_said() {
        let mut session = Session::default();
        assert_eq!(said(&session.ask(wanted(&[(0, 5), (1, 5)]))), (0, 0, vec![0, 1], vec![]));
        session.accepted(9);
        assert_eq!(said(&session.ask(wanted(&[(0, 5), (1, 8)]))), (9, 1, vec![1], vec![]));
        session.accepted(9);
        assert_eq!(said(&session.ask(wanted(&[(1, 8), (2, 0)]))), (9, 2, vec![2], vec![0]));
    }

    /// Fault 49.
    #[test]
    fn after_an_error_everything_is_said_again() {
        let mut session = Session::default();
        session.ask(wanted(&[(0, 5)]));
        session.accepted(9);
        session.reset();
        assert_eq!(said(&session.ask(wanted(&[(0, 5)]))), (0, 0, vec![0], vec![]));
    }

    /// Fault 49.
    #[test]
    fn the_epoch_wraps_to_one() {
        let mut session = Session { id: 9, epoch: i32::MAX, known: BTreeMap::new() };
        session.ask(wanted(&[(0, 5)]));
        session.accepted(9);
        assert_eq!(session.ask(wanted(&[(0, 5)])).session_epoch, 1);
    }
}
