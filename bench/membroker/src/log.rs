//! The log of one partition: batches as they came, in segments of memory.
//!
//! Knows a batch's header and nothing of its records: it checks counts and sequence numbers, because a client that gets
//! those wrong is not worth measuring, and leaves the CRC to the consumers. A batch is changed in two places, its base
//! offset and its leader epoch, which no CRC covers.

use std::collections::HashMap;

use bytes::Bytes;

use crate::codes;

const SEGMENT_BYTES: usize = 32 << 20;
const HEADER_BYTES: usize = 61;

/// What an append did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) duplicates: u64,
}

#[derive(Default)]
pub(crate) struct Log {
    segments: Vec<Vec<u8>>,
    index: Vec<Place>,
    next_offset: i64,
    /// For each producer id its epoch and the sequence number that comes next.
    producers: HashMap<i64, (i16, i32)>,
}

/// Where a stored batch is.
struct Place {
    last_offset: i64,
    segment: usize,
    start: usize,
    end: usize,
}

impl Log {
    /// The offset that the next record will have; also the high watermark.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Takes the batches of one Produce; without `keep` they are counted and thrown away.
    pub(crate) fn append(&mut self, mut records: &[u8], keep: bool) -> Result<Appended, i16> {
        let mut appended = Appended { base_offset: self.next_offset, ..Appended::default() };
        while !records.is_empty() {
            let header = Header::read(records).ok_or(codes::CORRUPT_MESSAGE)?;
            let (batch, rest) = records.split_at_checked(header.bytes).ok_or(codes::CORRUPT_MESSAGE)?;
            records = rest;
            if header.count <= 0 || header.count - 1 != header.last_delta {
                return Err(codes::INVALID_RECORD);
            }
            if !self.is_next(&header)? {
                appended.duplicates += 1;
                continue;
            }
            if keep {
                self.store(batch, self.next_offset + i64::from(header.last_delta));
            }
            self.next_offset += i64::from(header.count);
            appended.batches += 1;
            appended.records += u64::from(header.count.unsigned_abs());
            appended.bytes += batch.len() as u64;
        }
        Ok(appended)
    }

    /// Whole batches from the one that holds `offset`: at least one, no more than fit in `max_bytes`, none past the end of
    /// a segment.
    pub(crate) fn read(&self, offset: i64, max_bytes: usize) -> Result<Bytes, i16> {
        if !(0..=self.next_offset).contains(&offset) {
            return Err(codes::OFFSET_OUT_OF_RANGE);
        }
        let from = self.index.partition_point(|place| place.last_offset < offset);
        let Some(first) = self.index.get(from) else { return Ok(Bytes::new()) };
        let fits = |place: &&Place| place.segment == first.segment && place.end - first.start <= max_bytes;
        let last = self.index[from..].iter().take_while(fits).last().unwrap_or(first);
        Ok(Bytes::copy_from_slice(&self.segments[first.segment][first.start..last.end]))
    }

    /// Whether this batch comes next for its producer; false if it is there already.
    fn is_next(&mut self, header: &Header) -> Result<bool, i16> {
        if header.producer_id < 0 {
            return Ok(true);
        }
        let expected = self.producers.entry(header.producer_id).or_insert((header.epoch, 0));
        if expected.0 != header.epoch {
            *expected = (header.epoch, 0);
        }
        if header.sequence < expected.1 {
            return Ok(false);
        }
        if header.sequence > expected.1 {
            return Err(codes::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        expected.1 = header.sequence.wrapping_add(header.count) & i32::MAX;
        Ok(true)
    }

    fn store(&mut self, batch: &[u8], last_offset: i64) {
        if self.segments.last().is_none_or(|segment| segment.len() + batch.len() > SEGMENT_BYTES) {
            self.segments.push(Vec::with_capacity(SEGMENT_BYTES.max(batch.len())));
        }
        let base_offset = self.next_offset;
        let number = self.segments.len() - 1;
        let segment = &mut self.segments[number];
        let start = segment.len();
        segment.extend_from_slice(batch);
        segment[start..start + 8].copy_from_slice(&base_offset.to_be_bytes());
        segment[start + 12..start + 16].copy_from_slice(&0_i32.to_be_bytes());
        self.index.push(Place { last_offset, segment: number, start, end: segment.len() });
    }
}

/// The fields of a batch header (magic 2) that a broker must look at.
struct Header {
    bytes: usize,
    last_delta: i32,
    producer_id: i64,
    epoch: i16,
    sequence: i32,
    count: i32,
}

impl Header {
    fn read(batch: &[u8]) -> Option<Header> {
        let int = |at: usize| Some(i32::from_be_bytes(*batch.get(at..)?.first_chunk()?));
        let bytes = usize::try_from(int(8)?).ok()?.checked_add(12)?;
        if bytes < HEADER_BYTES || *batch.get(16)? != 2 {
            return None;
        }
        Some(Header {
            bytes,
            last_delta: int(23)?,
            producer_id: i64::from_be_bytes(*batch.get(43..)?.first_chunk()?),
            epoch: i16::from_be_bytes(*batch.get(51..)?.first_chunk()?),
            sequence: int(53)?,
            count: int(57)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sequence: i32, count: i32) -> Vec<u8> {
        let mut batch = vec![0; HEADER_BYTES + 10];
        batch[8..12].copy_from_slice(&(HEADER_BYTES as i32 + 10 - 12).to_be_bytes());
        batch[16] = 2;
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch[43..51].copy_from_slice(&7_i64.to_be_bytes());
        batch[53..57].copy_from_slice(&sequence.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        batch
    }

    #[test]
    fn a_gap_in_the_sequence_is_refused_and_a_repeat_is_not_stored() {
        let mut log = Log::default();
        assert_eq!(log.append(&batch(0, 3), true).map(|appended| appended.records), Ok(3));
        assert_eq!(log.append(&batch(4, 1), true), Err(codes::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(log.append(&batch(0, 3), true).map(|appended| appended.duplicates), Ok(1));
        assert_eq!(log.next_offset(), 3);
    }

    #[test]
    fn a_read_returns_the_batch_that_holds_the_offset_with_its_place_in_the_log() {
        let mut log = Log::default();
        log.append(&[batch(0, 3), batch(3, 2)].concat(), true).expect("in order");
        let second = log.read(4, 1).expect("in range");
        assert_eq!(second.len(), HEADER_BYTES + 10);
        assert_eq!(second[..8], 3_i64.to_be_bytes());
        assert_eq!(log.read(0, 1000).expect("in range").len(), 2 * (HEADER_BYTES + 10));
        assert_eq!(log.read(5, 1000), Ok(Bytes::new()));
        assert_eq!(log.read(6, 1000), Err(codes::OFFSET_OUT_OF_RANGE));
    }

    #[test]
    fn a_batch_that_lies_about_its_length_or_count_is_refused() {
        let mut longer = batch(0, 1);
        longer[11] += 1;
        assert_eq!(Log::default().append(&longer, true), Err(codes::CORRUPT_MESSAGE));
        let mut fewer = batch(0, 3);
        fewer[60] = 2;
        assert_eq!(Log::default().append(&fewer, true), Err(codes::INVALID_RECORD));
        assert_eq!(Log::default().append(&[0; 30], true), Err(codes::CORRUPT_MESSAGE));
    }
}
