//! The log of one partition: record batches one after another in memory, and an index of them.
//!
//! Appending copies a batch once, out of the request into the open chunk, and stamps its base offset and leader epoch
//! there; so a log never pins the network buffer that a batch came in. Reading hands out slices of chunks and copies
//! only when a run of batches lies in many small pieces.
//!
//! Invariant: `pieces` and then `open` cover every byte position from the first batch to `end`, without a gap; and the start
//! lies in the first batch, or at the end of a log that has none.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::ops::Range;

/// A piece at least this large is handed out alone, without gathering its neighbours into one copy.
const PIECE_WORTH_SENDING_ALONE: usize = 64 * 1024;
const FIRST_CHUNK: usize = 4 * 1024;
const LARGEST_CHUNK: usize = 1024 * 1024;

/// What the log must know about a batch that is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Offsets the batch covers: its last offset delta and one.
    pub(crate) offsets: i32,
    /// The largest timestamp of its records, in milliseconds.
    pub(crate) max_timestamp: i64,
}

/// One batch of the log, by offset and by byte position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    position: u64,
    length: u32,
}

/// See the head of the module.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    /// Frozen bytes by their position; an open chunk is frozen bit by bit, as it is read.
    pieces: VecDeque<(u64, Bytes)>,
    open: BytesMut,
    /// The position at which `open` begins.
    open_at: u64,
    start_offset: i64,
    next_offset: i64,
    next_chunk: usize,
}

impl Log {
    /// The offset the next record gets: the log end, and the high watermark too, because every replica shares the log.
    pub(crate) fn end_offset(&self) -> i64 {
        self.next_offset
    }

    /// The offset of the first record that can be read.
    pub(crate) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// Lets the log begin at this offset, which is not behind its end. Batches that lie before it are gone; one that it lies in
    /// stays whole, as in Kafka. The start never moves back.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start_offset = self.start_offset.max(offset.min(self.next_offset));
        while self.entries.front().is_some_and(|entry| entry.last_offset < self.start_offset) {
            self.entries.pop_front();
        }
        let kept = self.entries.front().map_or(self.end_position(), |entry| entry.position);
        while self.pieces.front().is_some_and(|(at, bytes)| at + bytes.len() as u64 <= kept) {
            self.pieces.pop_front();
        }
    }

    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Bytes that were ever appended.
    pub(crate) fn end_position(&self) -> u64 {
        self.open_at + self.open.len() as u64
    }

    /// Appends a checked batch and returns its base offset. `stamp` sees the stored copy, to write what the broker
    /// decides (base offset, leader epoch, append time).
    pub(crate) fn append(&mut self, batch: &[u8], what: Appended, stamp: impl FnOnce(&mut [u8], i64)) -> i64 {
        let base_offset = self.next_offset;
        let position = self.end_position();
        if self.open.capacity() - self.open.len() < batch.len() {
            self.freeze_open();
            let chunk = self.next_chunk.clamp(FIRST_CHUNK, LARGEST_CHUNK);
            self.open = BytesMut::with_capacity(chunk.max(batch.len()));
            self.next_chunk = chunk * 2;
        }
        let start = self.open.len();
        self.open.extend_from_slice(batch);
        stamp(&mut self.open[start..], base_offset);
        self.next_offset += i64::from(what.offsets);
        self.entries.push_back(Entry {
            base_offset,
            last_offset: self.next_offset - 1,
            max_timestamp: what.max_timestamp,
            position,
            length: u32::try_from(batch.len()).expect("a batch's length is an i32 on the wire"),
        });
        base_offset
    }

    /// Where the batch begins that holds `offset`, in bytes; the end of the log for one that is not there yet.
    pub(crate) fn position_of(&self, offset: i64) -> u64 {
        let index = self.entries.partition_point(|entry| entry.last_offset < offset);
        self.entries.get(index).map_or_else(|| self.end_position(), |entry| entry.position)
    }

    /// The offset after the batch that ends at this position.
    fn offset_at(&self, position: u64) -> i64 {
        let index = self.entries.partition_point(|entry| entry.position < position);
        self.entries.get(index).map_or(self.next_offset, |entry| entry.base_offset)
    }

    /// Whole batches from the one that holds `wanted.start`, at most `max_bytes` of them, none that begins at `wanted.end`
    /// or later; and the offset after the last of them. The first is returned even when it is larger, if `oversize_first`
    /// says so. Empty at the end of the log.
    pub(crate) fn read(
        &mut self,
        wanted: Range<i64>,
        max_bytes: usize,
        oversize_first: bool,
    ) -> (Bytes, i64) {
        let nothing = (Bytes::new(), wanted.start);
        let first = self.entries.partition_point(|entry| entry.last_offset < wanted.start);
        let start = self.entries.get(first).copied().filter(|entry| entry.base_offset < wanted.end);
        let Some(start) = start else { return nothing };
        let mut length = start.length as usize;
        if length > max_bytes && !oversize_first {
            return nothing;
        }
        for entry in self.entries.range(first + 1..) {
            if length + entry.length as usize > max_bytes || entry.base_offset >= wanted.end {
                break;
            }
            length += entry.length as usize;
        }
        let bytes = self.bytes_at(start.position, length);
        let next = self.offset_at(start.position + bytes.len() as u64);
        (bytes, next)
    }

    /// The bytes of one batch.
    pub(crate) fn batch(&mut self, entry: Entry) -> Bytes {
        self.bytes_at(entry.position, entry.length as usize)
    }

    /// `length` bytes from `position`, or fewer, but whole batches: one never lies in two pieces.
    fn bytes_at(&mut self, position: u64, length: usize) -> Bytes {
        let end = position + length as u64;
        if end > self.open_at {
            self.freeze_open();
        }
        let index = self.pieces.partition_point(|(at, bytes)| at + bytes.len() as u64 <= position);
        let Some((at, piece)) = self.pieces.get(index) else { return Bytes::new() };
        let start = usize::try_from(position - at).expect("a position within a piece");
        let here = piece.slice(start..piece.len().min(start + length));
        if here.len() == length || here.len() >= PIECE_WORTH_SENDING_ALONE {
            return here;
        }
        let mut gathered = BytesMut::with_capacity(length);
        gathered.extend_from_slice(&here);
        for (_, piece) in self.pieces.range(index + 1..) {
            let missing = length - gathered.len();
            if missing == 0 {
                break;
            }
            gathered.extend_from_slice(&piece[..piece.len().min(missing)]);
        }
        gathered.freeze()
    }

    /// Makes what is in the open chunk readable without a copy. The rest of the chunk's room stays writable.
    fn freeze_open(&mut self) {
        if !self.open.is_empty() {
            let piece = self.open.split().freeze();
            let length = piece.len() as u64;
            self.pieces.push_back((self.open_at, piece));
            self.open_at += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(size: usize, mark: u8) -> Vec<u8> {
        vec![mark; size]
    }

    fn append(log: &mut Log, size: usize, mark: u8, offsets: i32) -> i64 {
        let what = Appended { offsets, max_timestamp: i64::from(mark) };
        log.append(&batch(size, mark), what, |stored, base| stored[0] = u8::try_from(base % 251).unwrap())
    }

    fn read(log: &mut Log, offset: i64, max_bytes: usize, oversize_first: bool) -> Bytes {
        let (bytes, next) = log.read(offset..i64::MAX, max_bytes, oversize_first);
        assert_eq!(next > offset, !bytes.is_empty());
        bytes
    }

    #[test]
    fn a_start_that_moves_takes_whole_batches_with_it() {
        let mut log = Log::default();
        (1..=4).for_each(|mark| assert_eq!(append(&mut log, 40_000, mark, 10), i64::from(mark - 1) * 10));
        assert_eq!(read(&mut log, 0, usize::MAX, true).len(), 160_000);
        append(&mut log, 100, 5, 10);
        log.delete_before(25);
        assert_eq!((log.start_offset(), log.end_offset(), log.entries().count()), (25, 50, 3));
        assert_eq!(read(&mut log, 25, usize::MAX, true)[1], 3, "the batch that it lies in is whole");
        log.delete_before(10);
        assert_eq!(log.start_offset(), 25);
        log.delete_before(99);
        assert_eq!((log.start_offset(), log.end_offset(), log.entries().count()), (50, 50, 0));
        assert!(log.pieces.iter().all(|(at, bytes)| at + bytes.len() as u64 > log.open_at));
        assert_eq!(append(&mut log, 100, 6, 1), 50);
        assert_eq!(read(&mut log, 50, usize::MAX, true)[1], 6);
    }

    #[test]
    fn offsets_follow_the_records_of_each_batch() {
        let mut log = Log::default();
        assert_eq!(append(&mut log, 100, 1, 3), 0);
        assert_eq!(append(&mut log, 100, 2, 1), 3);
        assert_eq!(append(&mut log, 100, 3, 10), 4);
        assert_eq!((log.start_offset(), log.end_offset()), (0, 14));
    }

    #[test]
    fn reading_returns_whole_batches_from_the_one_that_holds_the_offset() {
        let mut log = Log::default();
        for mark in 0..10 {
            append(&mut log, 100, mark, 5);
        }
        let bytes = read(&mut log, 12, 250, false);
        assert_eq!(bytes.len(), 200);
        assert_eq!((bytes[1], bytes[101]), (2, 3));
        assert_eq!(read(&mut log, 50, 1000, true).len(), 0);
    }

    #[test]
    fn a_read_ends_where_it_is_told_and_says_where_that_was() {
        let mut log = Log::default();
        for mark in 0..10 {
            append(&mut log, 100, mark, 5);
        }
        let lengths = |(bytes, next): (Bytes, i64)| (bytes.len(), next);
        assert_eq!(lengths(log.read(12..30, 1000, true)), (400, 30));
        assert_eq!(lengths(log.read(12..30, 250, true)), (200, 20));
        assert_eq!(lengths(log.read(30..30, 1000, true)), (0, 30));
        assert_eq!((log.position_of(29), log.position_of(30), log.position_of(50)), (500, 600, 1000));
    }

    #[test]
    fn the_first_batch_is_returned_larger_than_the_limit_only_when_asked() {
        let mut log = Log::default();
        append(&mut log, 1000, 1, 1);
        assert_eq!(read(&mut log, 0, 10, false).len(), 0);
        assert_eq!(read(&mut log, 0, 10, true).len(), 1000);
    }

    #[test]
    fn what_is_read_equals_what_was_appended_however_reads_and_appends_interleave() {
        let mut log = Log::default();
        let mut expected = Vec::new();
        let mut random = 7u64;
        for step in 0..2000u32 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let size = 60 + usize::try_from((random >> 33) % 3000).unwrap();
            let mark = u8::try_from(step % 200).unwrap();
            let base = append(&mut log, size, mark, 1);
            let mut stored = batch(size, mark);
            stored[0] = u8::try_from(base % 251).unwrap();
            expected.push(stored);
            if step % 3 == 0 {
                let from = usize::try_from((random >> 20) % u64::from(step + 1)).unwrap();
                let got = read(&mut log, i64::try_from(from).unwrap(), 9000, true);
                let want: Vec<u8> = expected[from..].iter().flatten().copied().take(got.len()).collect();
                assert!(!got.is_empty());
                assert_eq!(got, want);
            }
        }
        let mut offset = 0;
        while offset < log.end_offset() {
            let got = read(&mut log, offset, 500_000, true);
            let mut length = 0;
            while length < got.len() {
                length += expected[usize::try_from(offset).unwrap()].len();
                offset += 1;
            }
            assert_eq!(length, got.len(), "a read ends at the end of a batch");
        }
    }

    #[test]
    fn a_large_batch_that_straddles_the_limit_of_one_piece_stays_whole() {
        let mut log = Log::default();
        append(&mut log, 200_000, 1, 1);
        read(&mut log, 0, 1, true);
        append(&mut log, 300_000, 2, 1);
        append(&mut log, 50, 3, 1);
        assert_eq!(read(&mut log, 1, 10, true).len(), 300_000);
        assert_eq!(read(&mut log, 0, 1 << 20, true).len() % 100, 0);
    }
}
