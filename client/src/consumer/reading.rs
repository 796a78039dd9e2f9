//! Reading a chunk record by record: checksums, decompression, and what a reader must not see.
//!
//! It owns the place in the chunk. All of it runs in the application's task, without the lock. Invariant: a batch is opened
//! only after its checksum held, and records of aborted transactions and control records never come out (KIP-98).

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::messages::AbortedTransaction;
use ottla_protocol::records::{
    Batch, BatchHeader, Batches, Compression, ControlKind, ControlRecord, Decompressor, OpenBatch,
    RecordError, batches,
};

use crate::config::{ConsumerConfig, IsolationLevel};
use crate::core::TopicPartition;
use crate::core::positions::Chunk;
use crate::error::{Error, ErrorKind};

pub(super) struct Reading {
    pub(super) chunk: Chunk,
    batches: Batches,
    pub(super) open: Option<OpenBatch>,
    /// Bytes of the largest batch after decompression, so far; `None` if they do not count.
    opened: Option<usize>,
    aborted: Aborted,
    config: Arc<ConsumerConfig>,
}

impl Reading {
    /// What is decompressed counts in `fetch.buffer.bytes`.
    pub(super) fn new(chunk: Chunk, config: Arc<ConsumerConfig>) -> Self {
        Self { opened: Some(0), ..Self::uncounted(chunk, config) }
    }

    /// One of many readers, whose open batches must not take the memory of the others.
    pub(super) fn uncounted(chunk: Chunk, config: Arc<ConsumerConfig>) -> Self {
        let aborted = match config.isolation_level {
            IsolationLevel::ReadCommitted => Aborted::new(&chunk.aborted),
            IsolationLevel::ReadUncommitted => Aborted::default(),
        };
        Self { batches: batches(&chunk.records), chunk, open: None, opened: None, aborted, config }
    }

    /// Whether the open batch has a record left; opens the next ones until one has. False at the end of the chunk.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], which names the place. Nothing is skipped.
    #[inline]
    pub(super) fn next_open(&mut self, decompressor: &mut Decompressor) -> Result<bool, Error> {
        match &self.open {
            Some(open) if open.left() > 0 => Ok(true),
            _ => self.open_next(decompressor),
        }
    }

    #[cold]
    #[inline(never)]
    fn open_next(&mut self, decompressor: &mut Decompressor) -> Result<bool, Error> {
        self.open = None;
        loop {
            let batch = match self.batches.next() {
                None if self.chunk.end.is_none() => return Err(self.unreadable()),
                None => return Ok(false),
                Some(batch) => batch.map_err(|e| corrupt(&self.chunk.partition, &e))?,
            };
            let header = *batch.header();
            // What is below the start is not delivered, but it still tells which transactions go on.
            let below = header.last_offset() < self.chunk.from;
            if self.config.check_crcs && (!below || header.control) {
                batch.check_checksum().map_err(|e| corrupt(&self.chunk.partition, &e))?;
            }
            let dropped = self.aborted.holds(&header);
            if header.control {
                self.end_transaction(batch, decompressor)?;
                continue;
            }
            if dropped || below {
                continue;
            }
            let mut open = batch
                .open(decompressor, self.config.batch_bytes_max)
                .map_err(|e| corrupt(&self.chunk.partition, &e))?;
            open.skip_to(self.chunk.from).map_err(|e| corrupt(&self.chunk.partition, &e))?;
            if let Some(opened) = self.opened.as_mut().filter(|_| header.compression != Compression::None) {
                // As long as the chunk does.
                *opened = open.bytes().max(*opened);
                self.chunk.charge.set(self.chunk.records.len().saturating_add(*opened));
            }
            if open.left() > 0 {
                self.open = Some(open);
                return Ok(true);
            }
        }
    }

    fn end_transaction(&mut self, batch: Batch, decompressor: &mut Decompressor) -> Result<(), Error> {
        let header = *batch.header();
        let mut open = batch
            .open(decompressor, self.config.batch_bytes_max)
            .map_err(|e| corrupt(&self.chunk.partition, &e))?;
        // Only the first record of a control batch says anything; an unknown kind is none of ours.
        let kind = match open.next() {
            Ok(Some(record)) => {
                ControlRecord::parse(&record, header.base_offset).map(|control| control.kind).ok()
            }
            _ => None,
        };
        if kind == Some(ControlKind::Abort) {
            self.aborted.ended(header.producer_id);
        }
        Ok(())
    }

    fn unreadable(&self) -> Error {
        let (partition, from, bytes) = (&self.chunk.partition, self.chunk.from, self.chunk.records.len());
        let message = format!("{partition}: {bytes} bytes at offset {from} hold no whole batch");
        Error::new(ErrorKind::Corrupt, message)
    }
}

/// What to say of a damaged batch.
pub(super) fn corrupt(partition: &TopicPartition, cause: &RecordError) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{partition}: {cause}")).with_source(cause.clone())
}

/// The transactions of a chunk that were aborted. Brokers do not agree on the order of the list, so it is sorted here; one
/// that is listed twice counts once.
#[derive(Default)]
struct Aborted {
    /// By first offset, the next one last.
    ahead: Vec<(i64, i64)>,
    /// Producers in the middle of an aborted transaction.
    open: BTreeSet<i64>,
}

impl Aborted {
    fn new(list: &[AbortedTransaction]) -> Self {
        let mut ahead: Vec<(i64, i64)> = list.iter().map(|t| (t.first_offset, t.producer_id)).collect();
        ahead.sort_unstable_by(|a, b| b.cmp(a));
        Self { ahead, open: BTreeSet::new() }
    }

    /// Whether a batch belongs to one of them. To be asked of every batch in turn, markers too: the records of a transaction
    /// may lie before the chunk, or be compacted away, and then its marker must not leave it open for the next one.
    fn holds(&mut self, batch: &BatchHeader) -> bool {
        while let Some((_, producer_id)) = self.ahead.pop_if(|(first, _)| *first <= batch.last_offset()) {
            self.open.insert(producer_id);
        }
        batch.transactional && self.open.contains(&batch.producer_id)
    }

    fn ended(&mut self, producer_id: i64) {
        self.open.remove(&producer_id);
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use ottla_protocol::records::{BatchBuilder, Stamp, stamp};

    use super::*;
    use crate::core::held::Held;
    use crate::core::positions::{Place, Position};

    /// What lies in a log, in a form that is short to write down.
    #[derive(Clone, Copy)]
    enum Entry {
        /// Two records of a producer's transaction, at this offset and the next.
        Data(i64, i64),
        /// Two records without a transaction, by a producer.
        Plain(i64, i64),
        /// A producer's transaction was committed.
        Commit(i64, i64),
        /// A producer's transaction was aborted.
        Abort(i64, i64),
        /// A control batch whose record has this key.
        Control(i64, &'static [u8]),
    }
    use Entry::*;

    fn encode(entry: Entry) -> Bytes {
        let (offset, producer_id, transactional) = match entry {
            Data(offset, producer) => (offset, producer, true),
            Plain(offset, producer) => (offset, producer, false),
            Commit(offset, producer) | Abort(offset, producer) => (offset, producer, true),
            Control(offset, _) => (offset, 1, true),
        };
        let mut builder = BatchBuilder::new(BytesMut::new(), 0);
        let mut add = |key: &[u8], value: &[u8]| builder.append(0, Some(key), Some(value), &[]).unwrap();
        match entry {
            Data(..) | Plain(..) => {
                add(b"", b"one");
                add(b"", b"two");
            }
            Commit(..) | Abort(..) => {
                let (key, value) = ControlRecord::end_of_transaction(matches!(entry, Commit(..)), 0);
                add(&key, &value);
            }
            Control(_, key) => {
                // Only the first record of a control batch says anything.
                add(key, b"");
                let (key, value) = ControlRecord::end_of_transaction(false, 0);
                add(&key, &value);
            }
        }
        let control = !matches!(entry, Data(..) | Plain(..));
        let (mut bytes, parts) = builder.into_parts();
        let header = Stamp { base_offset: offset, producer_id, transactional, control, ..parts };
        stamp(&mut bytes, &header).unwrap();
        bytes.freeze()
    }

    /// A reader of committed records, from an offset on, when these are said to be aborted: pairs of producer and first
    /// offset.
    fn reader(records: Bytes, from: i64, aborted: &[(i64, i64)]) -> Reading {
        let listed = |(producer_id, first_offset): &(i64, i64)| AbortedTransaction {
            producer_id: *producer_id,
            first_offset: *first_offset,
        };
        let chunk = Chunk {
            partition: TopicPartition { topic: "t".into(), partition: 0 },
            records,
            from,
            end: Some(i64::MAX),
            aborted: aborted.iter().map(listed).collect(),
            lease: Position::new(Place::At(from)).lease,
            uncommitted: 0,
            charge: Arc::<Held>::default().charge(0),
        };
        let config =
            ConsumerConfig { isolation_level: IsolationLevel::ReadCommitted, ..ConsumerConfig::default() };
        Reading::new(chunk, Arc::new(config))
    }

    /// The offsets that come out, and the error that ends them.
    fn read(mut reading: Reading) -> (Vec<i64>, Option<String>) {
        let (mut decompressor, mut found) = (Decompressor::new(), Vec::new());
        loop {
            let next = match reading.next_open(&mut decompressor) {
                Ok(false) => return (found, None),
                Ok(true) => reading.open.as_mut().unwrap().next(),
                Err(error) => return (found, Some(error.to_string())),
            };
            match next {
                Ok(record) => found.push(record.unwrap().offset),
                Err(cause) => {
                    let error = corrupt(&reading.chunk.partition, &cause);
                    return (found, Some(error.to_string()));
                }
            }
        }
    }

    fn check(log: &[Entry], from: i64, aborted: &[(i64, i64)], seen: &[i64]) {
        let mut all = BytesMut::new();
        log.iter().for_each(|entry| all.extend_from_slice(&encode(*entry)));
        let (found, error) = read(reader(all.freeze(), from, aborted));
        assert_eq!((&*found, error), (seen, None), "aborted: {aborted:?}");
    }

    /// S7, F15: transactions of several producers, one in the other.
    #[test]
    fn aborted_records_do_not_come_out_and_committed_ones_do() {
        let log = [Data(0, 1), Data(2, 2), Plain(4, 3), Abort(6, 1), Commit(7, 2), Data(8, 1), Commit(10, 1)];
        check(&log, 0, &[(1, 0)], &[2, 3, 4, 5, 8, 9]);
        check(&log, 0, &[], &[0, 1, 2, 3, 4, 5, 8, 9]);
    }

    /// Fault 39, B7, F15.
    #[test]
    fn the_order_of_the_aborted_list_and_what_it_repeats_do_not_matter() {
        let log = [Data(0, 1), Data(2, 2), Abort(4, 2), Data(5, 2), Abort(7, 1), Commit(8, 2), Data(9, 1)];
        let (first, second) = ((1, 0), (2, 2));
        for list in [vec![first, second], vec![second, first], vec![second, first, second, first]] {
            check(&log, 0, &list, &[5, 6, 9, 10]);
        }
    }

    /// S7, F15: the marker comes in a later chunk than its records.
    #[test]
    fn a_transaction_whose_records_lie_before_the_chunk_does_not_swallow_the_next() {
        let log = [Abort(10, 1), Data(11, 1), Commit(13, 1)];
        check(&log, 10, &[(1, 2)], &[11, 12]);
    }

    #[test]
    fn records_behind_the_start_still_tell_which_transactions_go_on() {
        let log = [Data(0, 1), Data(2, 1), Abort(4, 1), Data(5, 1), Commit(7, 1)];
        check(&log, 3, &[(1, 0)], &[5, 6]);
        check(&log, 1, &[], &[1, 2, 3, 5, 6]);
    }

    /// Faults 39 and 40: also a transaction in the list that the log does not have.
    #[test]
    fn a_second_marker_and_a_marker_of_nobody_change_nothing() {
        let log = [Data(0, 1), Abort(2, 1), Abort(3, 1), Abort(4, 9), Data(5, 1), Data(7, 1), Abort(9, 1)];
        check(&log, 0, &[(1, 0), (1, 7)], &[5, 6]);
    }

    #[test]
    fn records_without_a_transaction_are_never_dropped() {
        let log = [Data(0, 1), Plain(2, 1), Abort(4, 1)];
        check(&log, 0, &[(1, 0)], &[2, 3]);
    }

    /// Fault 40.
    #[test]
    fn control_records_of_an_unknown_kind_or_version_end_nothing() {
        for key in [&[0, 0, 0, 9][..], &[0, 7, 0, 5], &[0xff, 0xff, 0, 0], &[0], &[]] {
            let log = [Data(0, 1), Control(2, key), Data(4, 1), Abort(6, 1), Data(7, 1)];
            check(&log, 0, &[(1, 0)], &[7, 8]);
        }
    }

    /// Fault 47: nothing of a damaged batch comes out, and nothing behind it; its error names where it is.
    #[test]
    fn a_batch_with_a_wrong_checksum_ends_the_chunk_with_its_place() {
        for damaged_byte in 17..encode(Plain(2, 3)).len() {
            let mut damaged = encode(Plain(2, 3)).to_vec();
            damaged[damaged_byte] ^= 0x10;
            let all = [encode(Plain(0, 3)).to_vec(), damaged, encode(Plain(4, 3)).to_vec()].concat();
            let (found, error) = read(reader(all.into(), 0, &[]));
            assert_eq!(found, [0, 1], "byte {damaged_byte}");
            let error = error.expect("damage is told");
            assert!(error.contains("t-0") && error.contains("offset 2"), "{error}");
        }
    }

    /// Fault 48: a log that was begun by an old broker has old messages in front of batches.
    #[test]
    fn old_messages_and_batches_are_read_from_one_chunk() {
        // Of magic 0, at offsets 0 and 1: a key and a value, and neither of them.
        let first = b"\0\0\0\0\0\0\0\0\0\0\0\x12\x99\xe8\x73\x70\0\0\0\0\0\x01k\0\0\0\x03old";
        let second = b"\0\0\0\0\0\0\0\x01\0\0\0\x0e\xa7\xec\x68\x03\0\0\xff\xff\xff\xff\xff\xff\xff\xff";
        let all = [&first[..], second, &encode(Plain(2, 3))].concat();
        assert_eq!(read(reader(all.into(), 0, &[])), (vec![0, 1, 2, 3], None));
    }

    /// F12: what lies in front of a record that cannot be read comes out, and nothing is passed over without a word.
    #[test]
    fn a_record_that_cannot_be_read_takes_none_in_front_of_it_along() {
        let mut builder = BatchBuilder::new(BytesMut::new(), 0);
        for _ in 0..3 {
            builder.append(0, None, Some(b"value"), &[]).unwrap();
        }
        let (mut bytes, parts) = builder.into_parts();
        // The number of headers of the last one: a checksum that holds says nothing of what a producer has written.
        *bytes.last_mut().unwrap() = 1;
        stamp(&mut bytes, &Stamp { base_offset: 7, ..parts }).unwrap();
        let (found, error) = read(reader(bytes.freeze(), 0, &[]));
        assert_eq!(found, [7, 8]);
        assert!(error.as_ref().is_some_and(|error| error.contains("t-0")), "{error:?}");
    }
}
