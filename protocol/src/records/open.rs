//! An opened batch: what a consumer holds between two calls.
//!
//! Owns its bytes (a slice of the frame, or what was decompressed) and a place in them, so that lending can stop and go on
//! at any record. Refuses to know of fetch positions and aborted transactions: its owner decides by the header.

use super::RecordError;
use super::batch::BatchHeader;
use super::record::{Cursor, Record, Records};
use bytes::Bytes;

/// A batch whose records can be lent, one after the other.
#[derive(Debug, Clone)]
pub struct OpenBatch {
    header: BatchHeader,
    records: Bytes,
    cursor: Cursor,
}

impl OpenBatch {
    pub(super) fn new(header: BatchHeader, records: Bytes) -> OpenBatch {
        let cursor = Cursor::new(&header);
        OpenBatch { header, records, cursor }
    }

    /// The header of the batch.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The encoded records, not compressed.
    pub(super) fn body(&self) -> &Bytes {
        &self.records
    }

    /// Bytes of the records: of the slice, or of what was decompressed.
    pub fn bytes(&self) -> usize {
        self.records.len()
    }

    /// Records that have not been lent, if the header tells the truth.
    pub fn left(&self) -> i32 {
        self.cursor.left()
    }

    /// Lends the next record, or says that there is none.
    ///
    /// # Errors
    /// If the record contradicts the batch or itself. Nothing is skipped: the next call meets it again.
    #[expect(clippy::should_implement_trait, reason = "an Iterator cannot lend from itself")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        self.cursor.next(&self.records)
    }

    /// Skips the records below `offset`, as a fetch from the middle of a batch must.
    ///
    /// # Errors
    /// As [`OpenBatch::next`].
    pub fn skip_to(&mut self, offset: i64) -> Result<(), RecordError> {
        loop {
            let mut ahead = self.cursor;
            match ahead.next(&self.records)? {
                Some(record) if record.offset < offset => self.cursor = ahead,
                _ => return Ok(()),
            }
        }
    }

    /// The records that have not been lent, without moving on.
    pub fn records(&self) -> Records<'_> {
        Records::resume(&self.records, self.cursor)
    }

    /// Goes back to the first record.
    pub fn rewind(&mut self) {
        self.cursor = Cursor::new(&self.header);
    }
}
