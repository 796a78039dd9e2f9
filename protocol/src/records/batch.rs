//! The header of a record batch (magic 2): read in place, checked in place, changed in place.
//!
//! What a broker and the fetch half of a consumer need is all here, and none of it looks at a record or decompresses:
//! cutting a record set into batches, the checks before an append, and the fields that a broker assigns. The invariant:
//! a [`BatchHeader`] that was parsed is consistent in itself, so its arithmetic cannot overflow.

use super::compress::Compression;
use super::decompress::Decompressor;
use super::open::OpenBatch;
use super::record::{Lie, Reader};
use super::{RecordError, legacy};
use bytes::Bytes;
use crc_fast::CrcAlgorithm;

/// Bytes of a batch in front of its records.
pub const HEADER_BYTES: usize = 61;

/// Bytes in front of what the length field counts: base offset and the length itself.
pub(super) const LENGTH_END: usize = 12;
pub(super) const MAGIC: usize = 16;
/// The checksum covers everything from here on; what stands before it may change without it.
const ATTRIBUTES: usize = 21;
const MAX_TIMESTAMP: usize = 35;

const CODEC_BITS: i16 = 0x07;
const LOG_APPEND_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
const DELETE_HORIZON_BIT: i16 = 0x40;

/// Whose clock the timestamps of a batch come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    Create,
    /// The broker's, one for the whole batch.
    LogAppend,
}

/// What is written into the header of a batch by [`stamp()`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Offset of the first record. Producers send 0, the broker assigns it.
    pub base_offset: i64,
    /// Epoch of the leader that appended the batch. Producers send -1.
    pub partition_leader_epoch: i32,
    /// The codec that the body is compressed with.
    pub compression: Compression,
    /// Whose clock the timestamps come from.
    pub timestamp_type: TimestampType,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether the batch holds a control record instead of a user's.
    pub control: bool,
    /// Records in the batch, whose offsets are consecutive.
    pub count: i32,
    /// Milliseconds that record timestamps are relative to.
    pub base_timestamp: i64,
    /// The largest timestamp of the batch.
    pub max_timestamp: i64,
    /// Id of an idempotent producer, else -1.
    pub producer_id: i64,
    /// Epoch of an idempotent producer, else -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, else -1.
    pub base_sequence: i32,
}

impl Default for Stamp {
    /// A batch of no records by a producer without an id.
    fn default() -> Stamp {
        Stamp {
            base_offset: 0,
            partition_leader_epoch: -1,
            compression: Compression::None,
            timestamp_type: TimestampType::Create,
            transactional: false,
            control: false,
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        }
    }
}

impl From<&BatchHeader> for Stamp {
    /// What a parsed header says, as it was written. Compaction's gaps are not in it: see [`super::retain`].
    fn from(header: &BatchHeader) -> Stamp {
        Stamp {
            base_offset: header.base_offset,
            partition_leader_epoch: header.partition_leader_epoch,
            compression: header.compression,
            timestamp_type: header.timestamp_type,
            transactional: header.transactional,
            control: header.control,
            count: header.count,
            base_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        }
    }
}

/// Writes header and checksum over the first [`HEADER_BYTES`] bytes of `batch`, which ends with its last record.
///
/// A batch that is sent again is stamped again; its body stays as it is.
///
/// # Errors
/// If `batch` has no room for a header or is longer than a batch may be (2 GiB).
pub fn stamp(batch: &mut [u8], stamp: &Stamp) -> Result<(), RecordError> {
    let size = batch.len();
    let Some((header, _)) = batch.split_first_chunk_mut::<HEADER_BYTES>() else {
        return Err(RecordError::Short { need: HEADER_BYTES, have: size });
    };
    let length = i32::try_from(size - LENGTH_END).map_err(|_| RecordError::TooLarge { bytes: size })?;
    let flag = |set, bit| if set { bit } else { 0 };
    let attributes = i16::from(stamp.compression.id())
        | flag(stamp.timestamp_type == TimestampType::LogAppend, LOG_APPEND_BIT)
        | flag(stamp.transactional, TRANSACTIONAL_BIT)
        | flag(stamp.control, CONTROL_BIT);
    header[0..8].copy_from_slice(&stamp.base_offset.to_be_bytes());
    header[8..12].copy_from_slice(&length.to_be_bytes());
    header[12..16].copy_from_slice(&stamp.partition_leader_epoch.to_be_bytes());
    header[MAGIC] = 2;
    header[ATTRIBUTES..23].copy_from_slice(&attributes.to_be_bytes());
    header[23..27].copy_from_slice(&stamp.count.saturating_sub(1).max(0).to_be_bytes());
    header[27..35].copy_from_slice(&stamp.base_timestamp.to_be_bytes());
    header[MAX_TIMESTAMP..43].copy_from_slice(&stamp.max_timestamp.to_be_bytes());
    header[43..51].copy_from_slice(&stamp.producer_id.to_be_bytes());
    header[51..53].copy_from_slice(&stamp.producer_epoch.to_be_bytes());
    header[53..57].copy_from_slice(&stamp.base_sequence.to_be_bytes());
    header[57..61].copy_from_slice(&stamp.count.to_be_bytes());
    put_checksum(batch);
    Ok(())
}

/// Gives a stamped batch the offsets that it had before compaction, and says whether its base timestamp is a delete horizon.
pub(super) fn narrow(
    batch: &mut [u8],
    last_offset_delta: i32,
    delete_horizon: bool,
) -> Result<(), RecordError> {
    let header = header_mut(batch)?;
    let horizon = if delete_horizon { DELETE_HORIZON_BIT } else { 0 };
    let attributes = i16::from_be_bytes([header[ATTRIBUTES], header[ATTRIBUTES + 1]]) | horizon;
    header[ATTRIBUTES..23].copy_from_slice(&attributes.to_be_bytes());
    header[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
    put_checksum(batch);
    Ok(())
}

/// Assigns the offset of a batch's first record. The checksum does not cover it.
///
/// # Errors
/// If `batch` is shorter than a header.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) -> Result<(), RecordError> {
    header_mut(batch)?[0..8].copy_from_slice(&base_offset.to_be_bytes());
    Ok(())
}

/// Assigns the epoch of the leader that appends a batch. The checksum does not cover it.
///
/// # Errors
/// If `batch` is shorter than a header.
pub fn set_leader_epoch(batch: &mut [u8], epoch: i32) -> Result<(), RecordError> {
    header_mut(batch)?[12..16].copy_from_slice(&epoch.to_be_bytes());
    Ok(())
}

/// Gives all records of a batch one timestamp, the broker's (milliseconds), and takes the checksum anew.
///
/// # Errors
/// If `batch` is shorter than a header.
pub fn set_log_append_time(batch: &mut [u8], timestamp: i64) -> Result<(), RecordError> {
    let header = header_mut(batch)?;
    let attributes = i16::from_be_bytes([header[ATTRIBUTES], header[ATTRIBUTES + 1]]) | LOG_APPEND_BIT;
    header[ATTRIBUTES..23].copy_from_slice(&attributes.to_be_bytes());
    header[MAX_TIMESTAMP..43].copy_from_slice(&timestamp.to_be_bytes());
    put_checksum(batch);
    Ok(())
}

/// The sequence number `count` records after `sequence`: behind 2^31 - 1 comes 0.
pub fn add_sequence(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

/// The header of a batch, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record. For a compressed message set of magic 0 or 1 it is the last one's until the batch
    /// is opened.
    pub base_offset: i64,
    /// Bytes of the whole batch, this header included.
    pub size: usize,
    /// Epoch of the leader that appended the batch, or -1.
    pub partition_leader_epoch: i32,
    /// The format version: 2, or 0 and 1 for the message sets of before Kafka 0.11.
    pub magic: i8,
    /// The checksum that the header carries, of everything behind it.
    pub checksum: u32,
    /// The codec that the body is compressed with.
    pub compression: Compression,
    /// Whose clock the timestamps come from.
    pub timestamp_type: TimestampType,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether the batch holds a control record instead of a user's.
    pub control: bool,
    /// Whether the base timestamp is the time from which a compacted batch may go (KIP-534).
    pub delete_horizon: bool,
    /// Offset of the last record that the batch was written with, relative to the base offset. Compaction removes
    /// records and keeps this.
    pub last_offset_delta: i32,
    /// Milliseconds that record timestamps are relative to.
    pub base_timestamp: i64,
    /// The largest timestamp of the batch.
    pub max_timestamp: i64,
    /// Id of the idempotent producer, or -1.
    pub producer_id: i64,
    /// Epoch of the idempotent producer, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch. For a compressed message set of magic 0 or 1 it is 1 until the batch is opened.
    pub count: i32,
}

impl BatchHeader {
    /// Reads the header that `bytes` begins with. The checksum is not looked at, nor need the records be there.
    ///
    /// # Errors
    /// If the bytes are no batch of magic 2, or its fields contradict each other.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, RecordError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(RecordError::Short { need: HEADER_BYTES, have: bytes.len() });
        };
        let base_offset = base_offset(header);
        let magic = header[MAGIC].cast_signed();
        if magic != 2 {
            return Err(RecordError::Magic { base_offset, magic });
        }
        let lied = |what| RecordError::Header { base_offset, what };
        BatchHeader::fields(header).and_then(BatchHeader::checked).map_err(lied)
    }

    /// Offset of the last record that the batch was written with: the next batch begins behind it, even if compaction
    /// has removed that record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Sequence number of the last record; -1 if the batch has none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 { -1 } else { add_sequence(self.base_sequence, self.last_offset_delta) }
    }
    fn fields(header: &[u8; HEADER_BYTES]) -> Result<BatchHeader, Lie> {
        let mut reader = Reader(header);
        let base_offset = i64::from_be_bytes(reader.array()?);
        let length = i32::from_be_bytes(reader.array()?);
        let partition_leader_epoch = i32::from_be_bytes(reader.array()?);
        let magic = i8::from_be_bytes(reader.array()?);
        let checksum = u32::from_be_bytes(reader.array()?);
        let attributes = i16::from_be_bytes(reader.array()?);
        Ok(BatchHeader {
            base_offset,
            size: LENGTH_END + usize::try_from(length).map_err(|_| "has a negative length")?,
            partition_leader_epoch,
            magic,
            checksum,
            compression: compression(attributes)?,
            timestamp_type: timestamp_type(attributes),
            transactional: attributes & TRANSACTIONAL_BIT != 0,
            control: attributes & CONTROL_BIT != 0,
            delete_horizon: attributes & DELETE_HORIZON_BIT != 0,
            last_offset_delta: i32::from_be_bytes(reader.array()?),
            base_timestamp: i64::from_be_bytes(reader.array()?),
            max_timestamp: i64::from_be_bytes(reader.array()?),
            producer_id: i64::from_be_bytes(reader.array()?),
            producer_epoch: i16::from_be_bytes(reader.array()?),
            base_sequence: i32::from_be_bytes(reader.array()?),
            count: i32::from_be_bytes(reader.array()?),
        })
    }

    fn checked(self) -> Result<BatchHeader, Lie> {
        if self.size < HEADER_BYTES {
            return Err("claims to be shorter than its header");
        }
        if self.base_offset < 0 || self.base_offset.checked_add(i64::from(self.last_offset_delta)).is_none() {
            return Err("has offsets that no partition has");
        }
        if self.count < 0 || self.last_offset_delta < 0 {
            return Err("has a negative number of records");
        }
        // Compaction takes records away, never offsets.
        if self.count - 1 > self.last_offset_delta {
            return Err("has more records than offsets");
        }
        Ok(self)
    }
}

/// One batch of a record set, still closed: a slice of the frame or log that it was cut from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// The batch that `bytes` begins with; what stands behind it is cut off.
    ///
    /// # Errors
    /// If the batch is not wholly there, or its header contradicts itself. The checksum is not looked at.
    pub fn parse(mut bytes: Bytes) -> Result<Batch, RecordError> {
        let header = match bytes.get(MAGIC) {
            Some(0 | 1) => legacy::parse(&bytes)?,
            _ => BatchHeader::parse(&bytes)?,
        };
        if bytes.len() < header.size {
            return Err(RecordError::Short { need: header.size, have: bytes.len() });
        }
        bytes.truncate(header.size);
        Ok(Batch { header, bytes })
    }

    /// The parsed header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch as it stands in the record set.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch as it stands in the record set.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Takes the checksum of the bytes and compares it with the header's.
    ///
    /// # Errors
    /// [`RecordError::Checksum`] if they differ.
    pub fn check_checksum(&self) -> Result<(), RecordError> {
        let computed = match self.header.magic {
            2 => checksum(&self.bytes),
            _ => legacy::checksum(&self.bytes),
        };
        if computed != self.header.checksum {
            let (base_offset, stored) = (self.header.base_offset, self.header.checksum);
            return Err(RecordError::Checksum { base_offset, stored, computed });
        }
        Ok(())
    }

    /// What a broker checks before it appends a client's batch: the format, the checksum, that the records have
    /// consecutive offsets, that there is at least one and none of control, and that an idempotent producer's batch is
    /// complete in id, epoch and sequence. Records are not looked at and nothing is decompressed.
    ///
    /// # Errors
    /// Whatever of this does not hold.
    pub fn check_produced(&self) -> Result<(), RecordError> {
        let header = &self.header;
        let base_offset = header.base_offset;
        if header.magic != 2 {
            return Err(RecordError::Magic { base_offset, magic: header.magic });
        }
        self.check_checksum()?;
        let idempotent = header.producer_id >= 0;
        let lie = if header.count < 1 {
            "has no records"
        } else if header.count - 1 != header.last_offset_delta {
            "has more offsets than records"
        } else if header.control {
            "is a control batch"
        } else if idempotent && (header.producer_epoch < 0 || header.base_sequence < 0) {
            "has a producer id without an epoch or a sequence number"
        } else if header.transactional && !idempotent {
            "is transactional and has no producer id"
        } else {
            return Ok(());
        };
        Err(RecordError::Header { base_offset, what: lie })
    }

    /// Opens the batch, so that its records can be lent: without a copy when it is not compressed.
    ///
    /// The checksum is not looked at: call [`Batch::check_checksum`] first, unless the transport is trusted.
    ///
    /// # Errors
    /// If the body does not decompress, or to more than `bytes_max` bytes.
    pub fn open(self, decompressor: &mut Decompressor, bytes_max: usize) -> Result<OpenBatch, RecordError> {
        if self.header.magic != 2 {
            return legacy::open(&self.header, &self.bytes, decompressor, bytes_max);
        }
        let body = self.bytes.slice(HEADER_BYTES..);
        if self.header.compression == Compression::None {
            return Ok(OpenBatch::new(self.header, body));
        }
        let mut records = Vec::new();
        let base_offset = self.header.base_offset;
        decompressor
            .decompress(self.header.compression, &body, bytes_max, &mut records)
            .map_err(|source| RecordError::Compression { base_offset, source })?;
        // The batch stays for as long as its user takes: it keeps at most twice what it needs.
        if records.capacity() / 2 > records.len() {
            records.shrink_to_fit();
        }
        Ok(OpenBatch::new(self.header, records.into()))
    }
}

/// Cuts a record set, as Produce and Fetch carry it, into its batches. No record is looked at.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use ottla_protocol::records::{BatchBuilder, DECOMPRESSED_BYTES_MAX, Decompressor, batches, stamp};
///
/// let mut builder = BatchBuilder::new(BytesMut::new(), 0);
/// builder.append(7, None, Some(b"value"), &[])?;
/// let (mut batch, fields) = builder.into_parts();
/// stamp(&mut batch, &fields)?;
///
/// let mut decompressor = Decompressor::new();
/// for batch in batches(&batch.freeze()) {
///     let batch = batch?;
///     batch.check_checksum()?;
///     let mut open = batch.open(&mut decompressor, DECOMPRESSED_BYTES_MAX)?;
///     while let Some(record) = open.next()? {
///         assert_eq!((record.timestamp, record.value), (7, Some(&b"value"[..])));
///     }
/// }
/// # Ok::<(), ottla_protocol::records::RecordError>(())
/// ```
pub fn batches(record_set: &Bytes) -> Batches {
    Batches { rest: record_set.clone() }
}

/// The batches of a record set, in order.
///
/// A broker cuts the last batch off wherever the byte limit falls: such a part is not an error, it ends the iteration.
/// So does the first error.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Bytes behind the batches that have been returned: once the iteration has ended, those of the part that was cut.
    pub fn rest(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = self.rest.get(8..LENGTH_END)?.first_chunk()?;
        // A negative length is left for the parser to refuse.
        let size = LENGTH_END + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        if self.rest.len() < size.max(MAGIC + 1) {
            return None;
        }
        let batch = Batch::parse(self.rest.clone());
        match &batch {
            Ok(batch) => self.rest = self.rest.slice(batch.header.size..),
            Err(_) => self.rest.clear(),
        }
        Some(batch)
    }
}

pub(super) fn base_offset(header: &[u8; HEADER_BYTES]) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[..8]);
    i64::from_be_bytes(bytes)
}

pub(super) fn compression(attributes: i16) -> Result<Compression, Lie> {
    Compression::from_id(attributes & CODEC_BITS).ok_or("is compressed with an unknown codec")
}

pub(super) fn timestamp_type(attributes: i16) -> TimestampType {
    if attributes & LOG_APPEND_BIT == 0 { TimestampType::Create } else { TimestampType::LogAppend }
}

fn header_mut(batch: &mut [u8]) -> Result<&mut [u8; HEADER_BYTES], RecordError> {
    let have = batch.len();
    batch.first_chunk_mut().ok_or(RecordError::Short { need: HEADER_BYTES, have })
}

fn put_checksum(batch: &mut [u8]) {
    let checksum = checksum(batch);
    batch[MAGIC + 1..ATTRIBUTES].copy_from_slice(&checksum.to_be_bytes());
}

/// CRC-32C of a batch of at least a header.
fn checksum(batch: &[u8]) -> u32 {
    // A 32-bit algorithm in a 64-bit return type.
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &batch[ATTRIBUTES..]) as u32
}
