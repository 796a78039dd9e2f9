//! The writing half: records are encoded straight into the buffer that will be sent.
//!
//! The buffer has room for the batch header in front, so that stamping it moves nothing; no record is kept in any other
//! form. Refuses to know when a batch is full: [`BatchBuilder::size_of`] is exact, the caller decides before appending.

use super::RecordError;
use super::batch::{HEADER_BYTES, Stamp};
use super::record::{Header, RecordSize, put_record};
use bytes::{BufMut, BytesMut};

/// A batch to which records are appended.
///
/// ```
/// use bytes::BytesMut;
/// use ottla_protocol::records::{BatchBuilder, Header, stamp};
///
/// let mut builder = BatchBuilder::new(BytesMut::new(), 1_700_000_000_000);
/// let header = Header { key: "trace", value: Some(b"4711") };
/// builder.append(1_700_000_000_000, Some(b"key"), Some(b"value"), &[])?;
/// builder.append(1_700_000_000_005, None, Some(b"another"), &[header])?;
/// let (mut batch, fields) = builder.into_parts();
/// stamp(&mut batch, &fields)?;
/// # Ok::<(), ottla_protocol::records::RecordError>(())
/// ```
#[derive(Debug)]
pub struct BatchBuilder {
    buffer: BytesMut,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
}

impl BatchBuilder {
    /// Starts a batch in `buffer`, whose content is dropped and whose capacity is used.
    ///
    /// `base_timestamp` (milliseconds) is what record timestamps are stored relative to; the nearer, the smaller.
    pub fn new(mut buffer: BytesMut, base_timestamp: i64) -> BatchBuilder {
        buffer.clear();
        buffer.put_bytes(0, HEADER_BYTES);
        BatchBuilder { buffer, base_timestamp, max_timestamp: i64::MIN, count: 0 }
    }

    /// By how many bytes the batch grows if this record is appended next.
    #[inline]
    pub fn size_of(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        RecordSize::of(self.count, timestamp.wrapping_sub(self.base_timestamp), key, value, headers).total()
    }

    /// Appends a record and returns its offset relative to the batch's first record.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`] if the batch would exceed 2 GiB; the batch is then as it was.
    #[inline]
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<i32, RecordError> {
        let offset_delta = self.count;
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let size = RecordSize::of(offset_delta, timestamp_delta, key, value, headers);
        // Every record takes at least seven bytes, so this bounds the count too.
        if size.total() > i32::MAX as usize - self.buffer.len() {
            return Err(RecordError::TooLarge { bytes: size.total() });
        }
        put_record(&mut self.buffer, size, offset_delta, timestamp_delta, key, value, headers);
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(offset_delta)
    }

    /// Bytes of the batch so far, header included.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether no record has been appended.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records appended so far.
    #[inline]
    pub fn count(&self) -> i32 {
        self.count
    }

    /// The timestamp that record timestamps are stored relative to.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The largest timestamp appended; -1 (Kafka's "none") while the batch is empty.
    pub fn max_timestamp(&self) -> i64 {
        if self.count == 0 { -1 } else { self.max_timestamp }
    }

    /// The encoded records, without the header: what a [`Compressor`](super::Compressor) takes.
    pub fn body(&self) -> &[u8] {
        self.buffer.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// The buffer, its header not yet stamped, and a [`Stamp`] with count and timestamps filled in.
    pub fn into_parts(self) -> (BytesMut, Stamp) {
        let stamp = Stamp {
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp(),
            ..Stamp::default()
        };
        (self.buffer, stamp)
    }
}
