//! What happens to a producer that no call is told.
//!
//! It owns the vocabulary, and a queue that is never longer than [`EVENTS_MAX`]: who does not look misses the oldest, and
//! is told how many. It refuses to know what leads to an event.

use std::collections::VecDeque;

/// Something that happened, and that nobody waited for: see [`Producer::next_event`](crate::Producer::next_event).
///
/// ```no_run
/// # async fn run(producer: ottla::Producer) {
/// while let Ok(event) = producer.next_event().await {
///     eprintln!("{event:?}");
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A topic has more partitions than before: keys are spread over all of them from now on, so that a key may be in
    /// another partition than its earlier records. [`Topic::pin_partitions`](crate::Topic::pin_partitions) prevents that.
    PartitionsGrew {
        /// The topic.
        topic: String,
        /// How many partitions it had.
        from: i32,
        /// How many it has.
        to: i32,
    },
    /// A partition gets more than half of its topic's bytes, or more than four times the average: a few keys, or one, have
    /// most of the records. Told once, until the partition has cooled down or another is hot.
    HotPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Bytes of the records that it got lately, before compression.
        bytes: u64,
        /// Bytes that all partitions of the topic got in the same time.
        of: u64,
    },
    /// So many events before this one were dropped, because nobody took them.
    Missed(u64),
}

/// Events that wait to be taken, at most.
const EVENTS_MAX: usize = 128;

/// Events that nobody has taken.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    missed: u64,
}

impl Events {
    pub(crate) fn push(&mut self, event: Event) {
        if self.queue.len() == EVENTS_MAX {
            self.queue.pop_front();
            self.missed += 1;
        }
        self.queue.push_back(event);
    }

    /// The oldest; before it, that there were older ones.
    pub(crate) fn take(&mut self) -> Option<Event> {
        match std::mem::take(&mut self.missed) {
            0 => self.queue.pop_front(),
            missed => Some(Event::Missed(missed)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_events_are_dropped_and_counted() {
        let grew = |to| Event::PartitionsGrew { topic: "t".into(), from: 1, to };
        let mut events = Events::default();
        assert_eq!(events.take(), None);
        (1..=130).for_each(|to| events.push(grew(to)));
        assert_eq!(events.take(), Some(Event::Missed(2)));
        for to in 3..=130 {
            assert_eq!(events.take(), Some(grew(to)));
        }
        assert_eq!((events.take(), events.is_empty()), (None, true));
    }
}
