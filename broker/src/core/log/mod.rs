//! The log of one partition: segments of record batches, one after another, with an index of each.
//!
//! Batches are appended to the last segment, which is closed when it is full or old; what is deleted goes by whole segments,
//! from the front. Where the bytes are is [`storage`]'s.
//!
//! Invariant: there is always a last segment, segments are in the order of their offsets, and no error of the storage
//! changes what the index says.

pub(crate) mod compaction;
mod recovery;
pub(crate) mod segment;
pub(crate) mod storage;
mod truncation;

use super::settings::TopicSettings;
use bytes::Bytes;
use segment::{Entry, Segment};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use storage::{Memory, Storage};

/// What the log must know about a batch that is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Offsets the batch covers: its last offset delta and one.
    pub(crate) offsets: i32,
    /// The largest timestamp of its records, in milliseconds.
    pub(crate) max_timestamp: i64,
}

/// A batch of a log: its segment, and where it is in there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located {
    segment: i64,
    pub(crate) entry: Entry,
}

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Log {
    storage: Box<dyn Storage>,
    segments: VecDeque<Segment>,
    start_offset: i64,
    next_offset: i64,
    /// Everything before it has been compacted.
    clean_until: i64,
    /// Records that were appended since the last flush, and the time of the first of them.
    unflushed: Option<(i64, i64)>,
}

impl Default for Log {
    fn default() -> Self {
        Self::new(Box::new(Memory::default()))
    }
}

impl Log {
    /// An empty log.
    pub(crate) fn new(storage: Box<dyn Storage>) -> Self {
        let segments = VecDeque::from([Segment::new(0, 0, 0)]);
        Self { storage, segments, start_offset: 0, next_offset: 0, clean_until: 0, unflushed: None }
    }

    /// The offset the next record gets.
    pub(crate) fn end_offset(&self) -> i64 {
        self.next_offset
    }

    /// The offset of the first record that can be read.
    pub(crate) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The bytes that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// Whether there are segments that are not written to any more.
    pub(crate) fn has_closed(&self) -> bool {
        self.segments.len() > 1
    }

    /// Where its segments begin.
    #[cfg(test)]
    pub(crate) fn segment_offsets(&self) -> Vec<i64> {
        self.segments.iter().map(|segment| segment.base_offset).collect()
    }

    /// Every batch, in order. The first of them may reach below the start.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Located> {
        self.segments.iter().flat_map(|segment| {
            segment.entries.iter().map(|entry| Located { segment: segment.base_offset, entry: *entry })
        })
    }

    fn active(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("there is always a last segment")
    }

    /// Appends a checked batch and returns its base offset. `stamp` sees the stored copy and that offset, to write what the
    /// broker decides (base offset, leader epoch, append time).
    pub(crate) fn append(
        &mut self,
        batch: &[u8],
        what: Appended,
        now_ms: i64,
        settings: &TopicSettings,
        stamp: &mut dyn FnMut(&mut [u8], i64),
    ) -> io::Result<i64> {
        if self.is_full(batch.len() as u64, what.max_timestamp, now_ms, settings) {
            self.roll(now_ms)?;
        }
        let base_offset = self.next_offset;
        let segment = self.active().base_offset;
        self.storage.append(segment, batch, &mut |stored| stamp(stored, base_offset))?;
        let length = u32::try_from(batch.len()).expect("a batch's length is an i32 on the wire");
        self.next_offset += i64::from(what.offsets);
        let last_offset = self.next_offset - 1;
        self.active().push(base_offset, last_offset, what.max_timestamp, length);
        let (records, _) = self.unflushed.get_or_insert((0, now_ms));
        *records += i64::from(what.offsets);
        Ok(base_offset)
    }

    /// Whether the last segment takes no such batch any more.
    fn is_full(&mut self, bytes: u64, timestamp: i64, now_ms: i64, settings: &TopicSettings) -> bool {
        let open_max = match settings.compacts {
            true => settings.segment_ms.min(settings.max_compaction_lag_ms),
            false => settings.segment_ms,
        };
        let active = self.active();
        !active.entries.is_empty()
            && (active.bytes() + bytes > settings.segment_bytes
                || active.open_ms(timestamp, now_ms) > open_max)
    }

    /// Closes the last segment and begins another, unless it is empty.
    pub(crate) fn roll(&mut self, now_ms: i64) -> io::Result<()> {
        if self.active().entries.is_empty() {
            return Ok(());
        }
        if self.unflushed.is_some() {
            self.flush()?;
        }
        self.storage.create(self.next_offset)?;
        let begins_at = self.end_position();
        self.segments.push_back(Segment::new(self.next_offset, begins_at, now_ms));
        Ok(())
    }

    /// Returns when everything that was appended survives the loss of power.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let segment = self.active().base_offset;
        self.storage.flush(segment)?;
        self.unflushed = None;
        Ok(())
    }

    /// Flushes it if `flush.messages` or `flush.ms` say so.
    pub(crate) fn flush_if_due(&mut self, now_ms: i64, settings: &TopicSettings) -> io::Result<()> {
        match self.unflushed {
            Some((records, since_ms))
                if records >= settings.flush_records
                    || now_ms.saturating_sub(since_ms) >= settings.flush_ms =>
            {
                self.flush()
            }
            _ => Ok(()),
        }
    }

    /// Whether something waits for `flush.ms`.
    pub(crate) fn is_unflushed(&self, settings: &TopicSettings) -> bool {
        self.unflushed.is_some() && settings.flush_ms < i64::MAX
    }

    /// Lets the log begin at this offset, which is not behind its end. Segments that lie before it are gone. The start never
    /// moves back.
    pub(crate) fn delete_before(&mut self, offset: i64) -> io::Result<()> {
        self.start_offset = self.start_offset.max(offset.min(self.next_offset));
        while self.segments.get(1).is_some_and(|next| next.base_offset <= self.start_offset) {
            self.drop_first()?;
        }
        Ok(())
    }

    /// Deletes what is too old or too much, by whole segments that lie before `until`. Whether the start has moved.
    pub(crate) fn retain(&mut self, now_ms: i64, until: i64, settings: &TopicSettings) -> io::Result<bool> {
        let before = self.start_offset;
        self.delete_before(self.start_offset)?;
        if settings.deletes {
            let is_late = |segment: &Segment| {
                settings.retention_ms >= 0 && segment.age_ms(now_ms) > settings.retention_ms
            };
            let is_there = |it: &&Segment| it.entries.last().is_some_and(|last| last.last_offset < until);
            while self.segments.front().filter(is_there).is_some_and(is_late) {
                if self.segments.len() == 1 {
                    self.roll(now_ms)?;
                }
                self.drop_first()?;
            }
            let limit = u64::try_from(settings.retention_bytes).unwrap_or(u64::MAX);
            let mut bytes = self.bytes();
            while let Some(first) = self.segments.front().filter(is_there) {
                let left = bytes - first.bytes();
                if left < limit {
                    break;
                }
                if self.segments.len() == 1 {
                    self.roll(now_ms)?;
                }
                bytes = left;
                self.drop_first()?;
            }
        }
        Ok(self.start_offset > before)
    }

    /// Drops the first of several segments.
    fn drop_first(&mut self) -> io::Result<()> {
        let (Some(first), Some(next)) = (self.segments.front(), self.segments.get(1)) else { return Ok(()) };
        let (segment, start) = (first.base_offset, next.base_offset);
        self.storage.remove(segment)?;
        self.segments.pop_front();
        self.start_offset = self.start_offset.max(start);
        self.clean_until = self.clean_until.max(start);
        Ok(())
    }

    /// Forgets everything: the partition is deleted.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        self.storage.remove_all()
    }

    /// Bytes that were ever appended.
    pub(crate) fn end_position(&self) -> u64 {
        self.segments.back().map_or(0, Segment::ends_at)
    }

    /// The segment of the first batch that ends at this offset or behind it, and the batch's number there.
    fn find(&self, offset: i64) -> Option<(&Segment, usize)> {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        // Compaction may have taken the end of a segment.
        let candidates = self.segments.range(after.saturating_sub(1)..);
        candidates.map(|segment| (segment, segment.index_of(offset))).find(|(it, at)| *at < it.entries.len())
    }

    /// The first batch that ends at this offset or behind it.
    pub(crate) fn at(&self, offset: i64) -> Option<Located> {
        self.find(offset).map(|(it, at)| Located { segment: it.base_offset, entry: it.entries[at] })
    }

    /// Where the batch begins that holds `offset`, in bytes; the end of the log for one that is not there yet.
    pub(crate) fn position_of(&self, offset: i64) -> u64 {
        self.find(offset)
            .map_or_else(|| self.end_position(), |(it, at)| it.begins_at + it.entries[at].position)
    }

    /// Whole batches of one segment from the one that holds `wanted.start`, at most `max_bytes` of them, none that begins at
    /// `wanted.end` or later; and the offset after the last of them. The first is returned even when it is larger, if
    /// `oversize_first` says so. Empty at the end of the log.
    pub(crate) fn read(
        &mut self,
        wanted: Range<i64>,
        max_bytes: usize,
        oversize_first: bool,
    ) -> io::Result<(Bytes, i64)> {
        let nothing = Ok((Bytes::new(), wanted.start));
        let Some((segment, first)) = self.find(wanted.start) else { return nothing };
        let entries = &segment.entries[first..];
        let start = entries[0];
        let mut length = start.length as usize;
        if start.base_offset >= wanted.end || (length > max_bytes && !oversize_first) {
            return nothing;
        }
        for entry in &entries[1..] {
            if length + entry.length as usize > max_bytes || entry.base_offset >= wanted.end {
                break;
            }
            length += entry.length as usize;
        }
        let base_offset = segment.base_offset;
        let bytes = self.storage.read(base_offset, start.position, length)?;
        let end = start.position + bytes.len() as u64;
        let segment = self.segments.iter().find(|it| it.base_offset == base_offset);
        let after = segment.and_then(|it| {
            let next = it.entries.partition_point(|entry| entry.position < end);
            it.entries.get(next.checked_sub(1)?).map(|entry| entry.last_offset + 1)
        });
        Ok((bytes, after.unwrap_or(wanted.start)))
    }

    /// The bytes of one batch.
    pub(crate) fn batch(&mut self, at: Located) -> io::Result<Bytes> {
        self.storage.read(at.segment, at.entry.position, at.entry.length as usize)
    }

    /// The first batch with a record that is not older.
    pub(crate) fn at_time(&self, timestamp: i64) -> Option<Located> {
        self.segments.iter().find_map(|segment| {
            segment.at_time(timestamp).map(|entry| Located { segment: segment.base_offset, entry })
        })
    }

    /// The largest timestamp of all batches.
    pub(crate) fn largest_timestamp(&self) -> Option<i64> {
        self.segments.iter().filter_map(Segment::largest_timestamp).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::Given;

    fn batch(size: usize, mark: u8) -> Vec<u8> {
        vec![mark; size]
    }

    fn settings(given: &[(&str, &str)]) -> TopicSettings {
        let given = given.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        TopicSettings::new(given, &Given::new()).unwrap()
    }

    fn append(log: &mut Log, size: usize, mark: u8, offsets: i32) -> i64 {
        append_with(log, size, mark, offsets, &settings(&[]))
    }

    fn append_with(log: &mut Log, size: usize, mark: u8, offsets: i32, settings: &TopicSettings) -> i64 {
        let what = Appended { offsets, max_timestamp: i64::from(mark) };
        let mut stamp = |stored: &mut [u8], base| stored[0] = u8::try_from(base % 251).unwrap();
        log.append(&batch(size, mark), what, i64::from(mark), settings, &mut stamp).unwrap()
    }

    fn read(log: &mut Log, offset: i64, max_bytes: usize, oversize_first: bool) -> Bytes {
        let (bytes, next) = log.read(offset..i64::MAX, max_bytes, oversize_first).unwrap();
        assert_eq!(next > offset, !bytes.is_empty());
        bytes
    }

    const MEGABYTE: usize = 1 << 20;

    #[test]
    fn a_start_that_moves_takes_whole_segments_with_it() {
        let settings = settings(&[("segment.bytes", "1048576")]);
        let mut log = Log::default();
        (1..=4).for_each(|mark| {
            assert_eq!(append_with(&mut log, MEGABYTE, mark, 10, &settings), i64::from(mark - 1) * 10);
        });
        log.delete_before(25).unwrap();
        assert_eq!((log.start_offset(), log.end_offset()), (25, 40));
        assert_eq!((log.segment_offsets(), log.bytes()), (vec![20, 30], 2 << 20));
        assert_eq!(read(&mut log, 25, usize::MAX, true)[1], 3, "the batch that it lies in is whole");
        log.delete_before(10).unwrap();
        assert_eq!(log.start_offset(), 25);
        log.delete_before(99).unwrap();
        assert_eq!((log.start_offset(), log.end_offset(), log.segment_offsets()), (40, 40, vec![30]));
        assert_eq!(append_with(&mut log, 100, 6, 1, &settings), 40);
        assert_eq!(read(&mut log, 40, usize::MAX, true)[1], 6);
        assert_eq!(log.segment_offsets(), [30, 40]);
    }

    /// Appends a record at each of these times, a megabyte each, and says where the segments begin.
    fn check_rolls(given: &[(&str, &str)], times: &[u8], expected: &[i64]) {
        let settings = settings(given);
        let mut log = Log::default();
        for at in times {
            append_with(&mut log, MEGABYTE, *at, 1, &settings);
        }
        assert_eq!(log.segment_offsets(), expected, "{given:?}");
    }

    #[test]
    fn a_segment_is_closed_when_it_is_full_or_old() {
        check_rolls(&[], &[1, 2, 3], &[0]);
        check_rolls(&[("segment.bytes", "2097152")], &[1, 1, 1, 1, 1], &[0, 2, 4]);
        check_rolls(&[("segment.ms", "10")], &[1, 11, 12, 13, 22, 23], &[0, 2, 5]);
        check_rolls(&[("max.compaction.lag.ms", "10")], &[1, 12], &[0]);
        check_rolls(&[("max.compaction.lag.ms", "10"), ("cleanup.policy", "compact")], &[1, 12], &[0, 1]);
    }

    /// What is left of five records of a megabyte with the times 1 to 5, a segment each, at the time 10.
    fn check_retained(given: &[(&str, &str)], expected: (i64, &[i64])) {
        let mut given = given.to_vec();
        given.push(("segment.bytes", "1048576"));
        let settings = settings(&given);
        let mut log = Log::default();
        (1..=5).for_each(|at| _ = append_with(&mut log, MEGABYTE, at, 1, &settings));
        assert_eq!(log.retain(10, i64::MAX, &settings).unwrap(), expected.0 > 0);
        assert_eq!((log.start_offset(), &*log.segment_offsets()), expected, "{given:?}");
        assert_eq!(log.end_offset(), 5);
    }

    #[test]
    fn what_is_too_old_or_too_much_is_deleted_by_segments() {
        check_retained(&[], (0, &[0, 1, 2, 3, 4]));
        check_retained(&[("retention.ms", "7")], (2, &[2, 3, 4]));
        check_retained(&[("retention.ms", "1")], (5, &[5]));
        check_retained(&[("retention.ms", "-1"), ("retention.bytes", "2097152")], (3, &[3, 4]));
        check_retained(&[("retention.bytes", "2097153")], (2, &[2, 3, 4]));
        check_retained(&[("retention.bytes", "0")], (5, &[5]));
        check_retained(&[("retention.ms", "1"), ("cleanup.policy", "compact")], (0, &[0, 1, 2, 3, 4]));
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
        let lengths = |read: io::Result<(Bytes, i64)>| read.map(|(bytes, next)| (bytes.len(), next)).unwrap();
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
