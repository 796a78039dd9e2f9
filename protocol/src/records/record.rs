//! One record within a batch: its encoding, and decoding by lending.
//!
//! A record is a length, then attributes, timestamp and offset relative to the batch, key, value and headers, all
//! lengths as zigzag varints. Nothing is copied or allocated: a [`Record`] borrows the batch. The invariant: a record
//! that was lent has used exactly the bytes that its length claims, and its headers are already checked.

use super::RecordError;
use super::batch::{BatchHeader, TimestampType};
use bytes::{BufMut, BytesMut};

/// A record, borrowing the batch that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970; -1 if there is none. By [`TimestampType`] the producer's or the broker's.
    pub timestamp: i64,
    /// The key; an empty key is not the same as none.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers in their order; keys may repeat.
    pub headers: Headers<'a>,
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key, which need not be unique within the record.
    pub key: &'a str,
    /// The value, if any.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, decoded as they are iterated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl Headers<'_> {
    /// How many headers are left.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether no header is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut reader = Reader(self.bytes);
        // Checked when the record was lent.
        let header = reader.header().ok()?;
        self.bytes = reader.0;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// The records of an uncompressed batch body, in order.
///
/// Ends after the first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    cursor: Cursor,
}

impl<'a> Records<'a> {
    /// The records of `body`, which `header` belongs to.
    pub fn new(header: &BatchHeader, body: &'a [u8]) -> Records<'a> {
        Records { bytes: body, cursor: Cursor::new(header) }
    }

    pub(super) fn resume(bytes: &'a [u8], cursor: Cursor) -> Records<'a> {
        Records { bytes, cursor }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.cursor.next(self.bytes).transpose();
        if let Some(Err(_)) = next {
            self.bytes = &[];
            self.cursor.end();
        }
        next
    }
}

/// A place between two records of a batch body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    position: usize,
    left: i32,
    /// The smallest offset delta that the next record may have: offsets rise.
    delta_min: i32,
    delta_max: i32,
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
    log_append_time: Option<i64>,
}

impl Cursor {
    pub(super) fn new(header: &BatchHeader) -> Cursor {
        let log_append_time = match header.timestamp_type {
            TimestampType::Create => None,
            TimestampType::LogAppend => Some(header.max_timestamp),
        };
        Cursor {
            position: 0,
            left: header.count,
            delta_min: 0,
            delta_max: header.last_offset_delta,
            count: header.count,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            log_append_time,
        }
    }

    pub(super) fn left(&self) -> i32 {
        self.left
    }

    /// The record at the cursor. The cursor moves behind it, and stays where it is on an error.
    #[inline]
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Record<'a>>, RecordError> {
        if self.left <= 0 {
            return self.finish(bytes);
        }
        let mut rest = Reader(bytes.get(self.position..).unwrap_or_default());
        match self.record(&mut rest) {
            Ok((delta, record)) => {
                self.position = bytes.len() - rest.0.len();
                self.left -= 1;
                self.delta_min = delta.saturating_add(1);
                Ok(Some(record))
            }
            Err(what) => Err(self.error(what)),
        }
    }

    #[inline]
    fn record<'a>(&self, rest: &mut Reader<'a>) -> Result<(i32, Record<'a>), Lie> {
        let Some(length) = rest.length()? else { return Err("has a negative length") };
        let mut body = Reader(rest.take(length)?);
        body.take(1)?; // Attributes, of which none is in use.
        let timestamp_delta = body.varlong()?;
        let delta = body.varint()?;
        if delta < self.delta_min || delta > self.delta_max {
            return Err("has an offset that does not follow within its batch");
        }
        let key = body.bytes()?;
        let value = body.bytes()?;
        let headers = body.headers()?;
        if !body.0.is_empty() {
            return Err("is shorter than its length claims");
        }
        let timestamp = match self.log_append_time {
            None => self.base_timestamp.wrapping_add(timestamp_delta),
            Some(time) => time,
        };
        // No overflow: the header's last offset has been checked to fit.
        let offset = self.base_offset.wrapping_add(i64::from(delta));
        Ok((delta, Record { offset, timestamp, key, value, headers }))
    }

    /// Behind the last record there is nothing.
    fn finish<T>(&self, bytes: &[u8]) -> Result<Option<T>, RecordError> {
        if self.position < bytes.len() {
            return Err(RecordError::Header {
                base_offset: self.base_offset,
                what: "has bytes behind its last record",
            });
        }
        Ok(None)
    }

    fn end(&mut self) {
        self.left = 0;
        self.position = 0;
    }

    #[cold]
    fn error(&self, what: Lie) -> RecordError {
        RecordError::Record { base_offset: self.base_offset, index: self.count - self.left, what }
    }
}

/// What is wrong with a record, as the rest of a sentence about it.
pub(super) type Lie = &'static str;

const SHORT: Lie = "is longer than the bytes that are left";

/// A bounds-checked reader: what is not there is a [`Lie`].
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Lie> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Lie> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A nullable byte string with a varint length.
    #[inline]
    fn bytes(&mut self) -> Result<Option<&'a [u8]>, Lie> {
        match self.length()? {
            None => Ok(None),
            Some(length) => self.take(length).map(Some),
        }
    }

    /// A varint length, where -1 stands for null.
    #[inline]
    fn length(&mut self) -> Result<Option<usize>, Lie> {
        match self.varint()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| "has a negative length"),
        }
    }

    #[inline]
    fn headers(&mut self) -> Result<Headers<'a>, Lie> {
        if let [0, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(Headers::default());
        }
        self.checked_headers()
    }

    /// Walks the headers once, so that iterating them later cannot fail.
    fn checked_headers(&mut self) -> Result<Headers<'a>, Lie> {
        let Some(count) = self.length()? else { return Err("has a negative number of headers") };
        let headers = Headers { bytes: self.0, left: count };
        for _ in 0..count {
            self.header()?;
        }
        Ok(headers)
    }

    fn header(&mut self) -> Result<Header<'a>, Lie> {
        let Some(key) = self.bytes()? else { return Err("has a header without a key") };
        let key = std::str::from_utf8(key).map_err(|_| "has a header key that is not UTF-8")?;
        Ok(Header { key, value: self.bytes()? })
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, Lie> {
        i32::try_from(unzigzag(self.unsigned()?)).map_err(|_| "has a number beyond 32 bits")
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, Lie> {
        self.unsigned().map(unzigzag)
    }

    #[inline]
    fn unsigned(&mut self) -> Result<u64, Lie> {
        match *self.0 {
            [a, ref rest @ ..] if a < 0x80 => {
                self.0 = rest;
                Ok(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.0 = rest;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.unsigned_long(),
        }
    }

    fn unsigned_long(&mut self) -> Result<u64, Lie> {
        let mut number = 0;
        for (i, &byte) in self.0.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has one bit left to give.
            if i == 9 && bits > 1 {
                break;
            }
            number |= bits << (7 * i);
            if byte < 0x80 {
                self.take(i + 1)?;
                return Ok(number);
            }
        }
        Err(if self.0.len() < 10 { SHORT } else { "has a number beyond 64 bits" })
    }
}

#[inline]
fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[inline]
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

#[inline]
fn varint_size(number: i64) -> usize {
    let bits = 64 - (zigzag(number) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// How many bytes a record takes.
#[derive(Clone, Copy)]
pub(super) struct RecordSize {
    /// Bytes behind the record's length, which is what that length says.
    body: usize,
}

impl RecordSize {
    #[inline]
    pub(super) fn of(
        offset_delta: i32,
        timestamp_delta: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> RecordSize {
        let headers = if headers.is_empty() { 1 } else { headers_size(headers) };
        let body = 1
            + varint_size(timestamp_delta)
            + varint_size(i64::from(offset_delta))
            + nullable_size(key)
            + nullable_size(value);
        RecordSize { body: body.saturating_add(headers) }
    }

    #[inline]
    pub(super) fn total(self) -> usize {
        self.body.saturating_add(varint_size(wire_length(self.body)))
    }
}

#[inline]
fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_size(wire_length(bytes.len())) + bytes.len())
}

fn headers_size(headers: &[Header<'_>]) -> usize {
    let each =
        headers.iter().map(|header| nullable_size(Some(header.key.as_bytes())) + nullable_size(header.value));
    // The same slice may be named many times, so that the sum has no bound by memory.
    each.fold(varint_size(wire_length(headers.len())), usize::saturating_add)
}

/// A slice is never longer than `isize::MAX`, so this loses nothing.
#[inline]
fn wire_length(length: usize) -> i64 {
    length as i64
}

/// Appends the record of which `size` was taken.
#[inline]
pub(super) fn put_record(
    buffer: &mut BytesMut,
    size: RecordSize,
    offset_delta: i32,
    timestamp_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) {
    buffer.reserve(size.total());
    let mut head = Scratch::default();
    head.varint(wire_length(size.body));
    head.varint(0); // Attributes, of which none is in use.
    head.varint(timestamp_delta);
    head.varint(i64::from(offset_delta));
    head.varint(key.map_or(-1, |key| wire_length(key.len())));
    if let Some(key) = key {
        buffer.put_slice(head.filled());
        buffer.put_slice(key);
        head = Scratch::default();
    }
    head.varint(value.map_or(-1, |value| wire_length(value.len())));
    buffer.put_slice(head.filled());
    buffer.put_slice(value.unwrap_or_default());
    if headers.is_empty() {
        buffer.put_u8(0);
    } else {
        put_headers(buffer, headers);
    }
}

fn put_headers(buffer: &mut BytesMut, headers: &[Header<'_>]) {
    let mut put = |number, bytes: &[u8]| {
        let mut head = Scratch::default();
        head.varint(number);
        buffer.put_slice(head.filled());
        buffer.put_slice(bytes);
    };
    put(wire_length(headers.len()), &[]);
    for header in headers {
        put(wire_length(header.key.len()), header.key.as_bytes());
        put(header.value.map_or(-1, |value| wire_length(value.len())), header.value.unwrap_or_default());
    }
}

/// Room for the numbers in front of a record's value: six of at most ten bytes.
struct Scratch {
    bytes: [u8; 64],
    length: usize,
}

impl Default for Scratch {
    #[inline]
    fn default() -> Scratch {
        Scratch { bytes: [0; 64], length: 0 }
    }
}

impl Scratch {
    #[inline]
    fn varint(&mut self, number: i64) {
        let mut rest = zigzag(number);
        while rest >= 0x80 {
            // Seven bits a byte, the lowest first; the casts take just those.
            self.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.push(rest as u8);
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    #[inline]
    fn filled(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
