//! What the cluster does to its logs in time: it deletes what retention says, compacts, and flushes.
//!
//! Invariant: a timer runs exactly while there is a log that it may have something to do with.

use super::group::Timer;
use super::{Cluster, Now};
use std::time::Duration;

/// How often logs are looked at that `flush.ms` flushes.
const FLUSH_CHECK: Duration = Duration::from_millis(100);

impl Cluster {
    /// Something was written to a topic: what there is to do later is done in time.
    pub(crate) fn wrote(&mut self, now: Now, topic: &str, index: i32) {
        let Some(found) = self.topics.get(topic) else { return };
        let Some(partition) = found.partition(index) else { return };
        let compacts = found.settings.compacts && partition.log.has_closed();
        let flushes = partition.log.is_unflushed(&found.settings);
        let due = [
            (Timer::Retention, true, self.settings.retention_check_interval),
            (Timer::Compaction, compacts && self.settings.cleaner_enabled, self.settings.cleaner_backoff),
            (Timer::Flush, flushes, FLUSH_CHECK),
        ];
        for (timer, has_work, after) in due {
            if has_work && !self.timers.is_set(&timer) {
                self.timers.set(timer, now.at + after);
            }
        }
    }

    /// Does what is due for the logs. An error leaves the log as it is, until the next time.
    pub(crate) fn fire_cleaning(&mut self, now: Now, timer: &Timer) {
        let (mut has_more, mut moved) = (false, Vec::new());
        for topic in self.topics.iter_mut() {
            let settings = &topic.settings;
            for (index, partition) in (0..).zip(&mut topic.partitions) {
                match timer {
                    Timer::Retention => {
                        has_more |= partition.log.bytes() > 0;
                        if partition.retain(now.wall_ms, settings) {
                            moved.push((topic.name.clone(), index));
                        }
                    }
                    Timer::Compaction if settings.compacts => {
                        has_more |= partition.log.has_closed();
                        partition.compact(now.wall_ms, settings);
                    }
                    Timer::Flush => {
                        if let Err(error) = partition.log.flush_if_due(now.wall_ms, settings) {
                            tracing::error!(topic = &*topic.name, index, %error, "cannot flush");
                        }
                        has_more |= partition.log.is_unflushed(settings);
                    }
                    _ => {}
                }
            }
        }
        let after = match timer {
            Timer::Retention => self.settings.retention_check_interval,
            Timer::Compaction => self.settings.cleaner_backoff,
            _ => FLUSH_CHECK,
        };
        if has_more {
            self.timers.set(timer.clone(), now.at + after);
        }
        for (topic, index) in moved {
            self.start_moved(now, &topic, index);
        }
    }

    /// Whoever waits at an offset that is not there any more is told so.
    pub(crate) fn start_moved(&mut self, now: Now, topic: &str, index: i32) {
        self.note_partition(now, topic, index);
        let Some(partition) = self.topics.partition_mut(topic, index) else { return };
        for ticket in &partition.waiting {
            self.parking.wake(*ticket);
        }
    }
}
