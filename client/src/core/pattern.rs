//! Topics that come and go under a pattern.
//!
//! It owns the comparison of the topics that match with those that are read. It refuses to evaluate the pattern: metadata
//! holds only topics that match, beside those that were named. Invariant: a topic that appears later is read from its first
//! record (F9), and none is read after it was deleted.

use std::collections::BTreeSet;
use std::time::Instant;

use super::TopicPartition;
use super::consumer::Consumer;
use crate::config::Source;
use crate::event::Event;

impl Consumer {
    /// Looks at the topics that match when metadata has changed.
    pub(super) fn follow_pattern(&mut self, now: Instant) {
        let Source::Matching { shared, .. } = self.config.source else { return };
        let metadata = &self.cluster.metadata;
        if self.pattern_seen == Some(metadata.generation) || !metadata.has_looked() || self.closing {
            return;
        }
        self.pattern_seen = Some(metadata.generation);
        if let Some((group, _)) = self.group.as_mut().filter(|_| shared) {
            return group.subscribe(now, metadata.selected().map(|(name, _)| name.clone()).collect());
        }
        let partitions = |(name, topic): (&ottla_protocol::wire::Str, &super::metadata::Topic)| {
            let name = name.clone();
            (0_i32..)
                .zip(&topic.partitions)
                .map(move |(partition, _)| TopicPartition { topic: name.clone(), partition })
                .collect::<Vec<_>>()
        };
        let matching: BTreeSet<TopicPartition> = metadata.selected().flat_map(partitions).collect();
        let gone: Vec<_> = self.positions.keys().filter(|read| !matching.contains(*read)).cloned().collect();
        let new: Vec<_> = matching.into_iter().filter(|p| !self.positions.contains_key(p)).collect();
        self.lose(now, &gone, &[]);
        self.announce(Event::Assigned, &new);
        self.assign(now, new);
    }
}
