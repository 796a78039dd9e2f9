//! The index of one segment: which batch lies where, by offset and by time.
//!
//! It refuses to know the bytes. Invariant: entries are in the order of their offsets, without overlaps, and the largest
//! timestamps never fall.

use ottla_protocol::records::BatchHeader;

/// One batch of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    /// The largest timestamp from the beginning of the segment up to this batch.
    pub(crate) largest_timestamp: i64,
    pub(crate) position: u64,
    pub(crate) length: u32,
}

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    /// Where it begins among all bytes that the log ever had.
    pub(crate) begins_at: u64,
    pub(crate) entries: Vec<Entry>,
    /// The largest timestamp of its first batch, by which it is closed in time.
    first_timestamp: Option<i64>,
    created_ms: i64,
}

impl Segment {
    pub(crate) fn new(base_offset: i64, begins_at: u64, created_ms: i64) -> Self {
        Self { base_offset, begins_at, entries: Vec::new(), first_timestamp: None, created_ms }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.position + u64::from(entry.length))
    }

    /// The position of its end among all bytes that the log ever had.
    pub(crate) fn ends_at(&self) -> u64 {
        self.begins_at + self.bytes()
    }

    pub(crate) fn push(&mut self, base_offset: i64, last_offset: i64, max_timestamp: i64, length: u32) {
        let largest_timestamp = self.largest_timestamp().map_or(max_timestamp, |it| it.max(max_timestamp));
        let position = self.bytes();
        self.first_timestamp.get_or_insert(max_timestamp);
        self.entries.push(Entry { base_offset, last_offset, largest_timestamp, position, length });
    }

    /// Forgets all but the first so many batches.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.entries.truncate(count);
        self.first_timestamp = self.first_timestamp.filter(|_| count > 0);
    }

    /// A batch that is in the log already.
    pub(crate) fn push_batch(&mut self, header: &BatchHeader) {
        let length = u32::try_from(header.size).expect("a batch's length is an i32 on the wire");
        self.push(header.base_offset, header.last_offset(), header.max_timestamp, length);
    }

    pub(crate) fn created_ms(&self) -> i64 {
        self.created_ms
    }

    pub(crate) fn largest_timestamp(&self) -> Option<i64> {
        self.entries.last().map(|entry| entry.largest_timestamp)
    }

    /// The time by which retention counts: the largest of its records, or when it was made if they have none.
    pub(crate) fn age_ms(&self, now_ms: i64) -> i64 {
        let newest = self.largest_timestamp().filter(|it| *it >= 0).unwrap_or(self.created_ms);
        now_ms.saturating_sub(newest)
    }

    /// How long it has been open when a batch of this timestamp comes.
    pub(crate) fn open_ms(&self, timestamp: i64, now_ms: i64) -> i64 {
        match self.first_timestamp {
            Some(first) if first >= 0 && timestamp >= 0 => timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(self.created_ms),
        }
    }

    /// The first batch that ends at this offset or behind it.
    pub(crate) fn index_of(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.last_offset < offset)
    }

    /// The first batch with a record that is not older.
    pub(crate) fn at_time(&self, timestamp: i64) -> Option<Entry> {
        let index = self.entries.partition_point(|entry| entry.largest_timestamp < timestamp);
        self.entries.get(index).copied()
    }
}
