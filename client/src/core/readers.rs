//! Delivery to a reader for each partition.
//!
//! It owns the numbers of the readers: one is issued when a partition is given to this consumer, and is void when it is
//! taken away. It refuses to know who reads. Invariant: a partition has one valid reader at a time, and what one leaves
//! unread never takes the memory that another needs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::TopicPartition;
use super::consumer::Consumer;
use super::positions::{Chunk, Place, Position};
use crate::error::Error;

/// A partition's reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) partition: TopicPartition,
    number: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Readers {
    issued: u64,
    /// Not yet handed out.
    new: VecDeque<Reader>,
}

impl Readers {
    /// Makes a reader for a partition; the one before is void.
    pub(super) fn issue(&mut self, partition: &TopicPartition, position: &mut Position) {
        self.issued += 1;
        position.reader = self.issued;
        self.new.push_back(Reader { partition: partition.clone(), number: self.issued });
    }
}

/// What there is for a reader.
#[derive(Debug)]
pub(crate) enum Share {
    Chunk(Chunk),
    Failed(Error),
    /// Nothing for now.
    Wait,
    /// The partition was taken away.
    Revoked,
    /// The consumer is closed.
    Closed,
}

impl Consumer {
    /// From now on each partition has a reader of its own.
    pub(crate) fn split(&mut self, now: Instant) {
        let mut readers = Readers::default();
        self.positions.iter_mut().for_each(|(partition, position)| readers.issue(partition, position));
        self.readers = Some(readers);
        self.step(now);
    }

    /// A reader that nobody has yet, or an error of the whole consumer. `None`: wait, or the consumer is closed.
    pub(crate) fn take_reader(&mut self) -> Option<Result<Reader, Error>> {
        if let Some(at) = self.failures.iter().position(|failure| failure.lease.is_none()) {
            return self.failures.remove(at).map(|failure| Err(failure.error));
        }
        while let Some(reader) = self.readers.as_mut().and_then(|readers| readers.new.pop_front()) {
            if self.position_of(&reader).is_some() {
                return Some(Ok(reader));
            }
        }
        self.ended.clone().filter(|_| !self.closing).map(Err)
    }

    pub(crate) fn has_reader(&self) -> bool {
        self.closing
            || self.ended.is_some()
            || self.failures.iter().any(|failure| failure.lease.is_none())
            || self.readers.as_ref().is_some_and(|readers| !readers.new.is_empty())
    }

    fn position_of(&self, reader: &Reader) -> Option<&Position> {
        self.positions.get(&reader.partition).filter(|position| position.reader == reader.number)
    }

    /// The next chunk of a partition.
    pub(crate) fn take_for(&mut self, now: Instant, reader: &Reader) -> Share {
        self.attention.ask();
        if self.closing {
            return Share::Closed;
        }
        // One that is being given up is recalled already.
        if self.position_of(reader).is_none_or(|position| position.lease.is_recalled()) {
            return Share::Revoked;
        }
        let Some(position) = self.positions.get_mut(&reader.partition) else { return Share::Revoked };
        let of = |lease: &Arc<_>| Arc::ptr_eq(lease, &position.lease);
        if let Some(at) = self.failures.iter().position(|failure| failure.lease.as_ref().is_some_and(of))
            && let Some(failure) = self.failures.remove(at)
        {
            return Share::Failed(failure.error);
        }
        let chunk = if position.lease.is_paused() { None } else { position.waiting.pop_front() };
        position.awaited = chunk.is_none();
        let Some(mut chunk) = chunk else {
            self.starve(now);
            return Share::Wait;
        };
        position.waiting_bytes = position.waiting_bytes.saturating_sub(chunk.records.len());
        chunk.uncommitted = position.uncommitted;
        if let Some(at) = self.queue.iter().position(|queued| *queued == reader.partition) {
            self.queue.remove(at);
        }
        self.feed();
        self.step(now);
        Share::Chunk(chunk)
    }

    /// Whether [`Consumer::take_for`] would not say wait; or what the reader has in hand may be read on.
    pub(crate) fn has_share(&self, reader: &Reader, in_hand: bool) -> bool {
        let Some(position) = self.position_of(reader).filter(|_| !self.closing) else { return true };
        let of = |lease: &Arc<_>| Arc::ptr_eq(lease, &position.lease);
        position.lease.is_recalled()
            || self.failures.iter().any(|failure| failure.lease.as_ref().is_some_and(of))
            || (!position.lease.is_paused() && (in_hand || !position.waiting.is_empty()))
    }

    /// A reader is gone. As long as the partition is ours, another one goes on behind what is finished.
    pub(crate) fn replace_reader(&mut self, now: Instant, reader: &Reader) {
        let Some(position) = self.position_of(reader).filter(|_| !self.closing) else { return };
        let finished = position.lease.finished();
        if finished >= 0 && matches!(position.place, Place::At(_)) {
            // It is assigned.
            let _ = self.seek(now, &reader.partition, Place::At(finished));
        }
        if let (Some(readers), Some(position)) =
            (&mut self.readers, self.positions.get_mut(&reader.partition))
        {
            readers.issue(&reader.partition, position);
        }
    }
}
