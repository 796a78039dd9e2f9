//! Message sets of before Kafka 0.11 (magic 0 and 1), read and turned into the records of a batch.
//!
//! Such a message is an entry of its own, or a wrapper around a compressed set of messages. Both are opened by encoding
//! their messages anew as the body of a batch, so that nothing above knows of them. Never written to the wire.

use super::RecordError;
use super::batch::{self, BatchHeader, LENGTH_END, MAGIC, TimestampType};
use super::compress::Compression;
use super::decompress::Decompressor;
use super::lz4::HeaderChecksum;
use super::open::OpenBatch;
use super::record::{Lie, Reader, RecordSize, put_record};
use bytes::{Bytes, BytesMut};
use crc_fast::CrcAlgorithm;

/// The header of the message that `bytes` begins with, as if it were a batch of one record.
pub(super) fn parse(bytes: &[u8]) -> Result<BatchHeader, RecordError> {
    let (message, _) = Message::read(bytes)?;
    Ok(message.header())
}

/// CRC-32 (the one of gzip) of a whole message.
pub(super) fn checksum(message: &[u8]) -> u32 {
    // A 32-bit algorithm in a 64-bit return type.
    crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, message.get(MAGIC..).unwrap_or_default()) as u32
}

/// Opens the message in `bytes`.
pub(super) fn open(
    header: &BatchHeader,
    bytes: &Bytes,
    decompressor: &mut Decompressor,
    bytes_max: usize,
) -> Result<OpenBatch, RecordError> {
    let (wrapper, _) = Message::read(bytes)?;
    let lied = |what| RecordError::Header { base_offset: wrapper.offset, what };
    if header.compression == Compression::None {
        return gather(&wrapper, &[wrapper]);
    }
    let compressed = wrapper.value.ok_or_else(|| lied("is compressed and has no value"))?;
    let mut set = Vec::new();
    decompressor
        .decompress_with(header.compression, HeaderChecksum::Ignored, compressed, bytes_max, &mut set)
        .map_err(|source| RecordError::Compression { base_offset: wrapper.offset, source })?;
    let mut rest = set.as_slice();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let (message, behind) = Message::read(rest)?;
        if message.magic != wrapper.magic || message.compression != Compression::None {
            return Err(lied("wraps a message of another kind"));
        }
        if checksum(&rest[..message.size]) != message.checksum {
            return Err(lied("wraps a message with a wrong checksum"));
        }
        messages.push(message);
        rest = behind;
    }
    let Some(last) = messages.last() else { return Err(lied("is compressed and wraps nothing")) };
    // From magic 1 on the offsets inside are relative, and the wrapper carries the last one; unless an old librdkafka
    // wrote them absolute.
    if wrapper.magic == 1 && wrapper.offset >= last.offset {
        let base = wrapper.offset - last.offset;
        for message in &mut messages {
            message.offset =
                message.offset.checked_add(base).ok_or_else(|| lied("has offsets that no partition has"))?;
        }
    }
    gather(&wrapper, &messages)
}

/// Encodes the messages as the body of one batch.
fn gather(wrapper: &Message<'_>, messages: &[Message<'_>]) -> Result<OpenBatch, RecordError> {
    let mut header = wrapper.header();
    let (Some(first), Some(last)) = (messages.first(), messages.last()) else {
        return Ok(OpenBatch::new(header, Bytes::new()));
    };
    let lied = |what| RecordError::Header { base_offset: wrapper.offset, what };
    let delta_of = |offset: i64| {
        let delta = offset.checked_sub(first.offset).and_then(|delta| i32::try_from(delta).ok());
        delta.filter(|delta| *delta >= 0).ok_or_else(|| lied("has offsets that do not rise"))
    };
    header.base_offset = first.offset;
    header.last_offset_delta = delta_of(last.offset)?;
    header.count = i32::try_from(messages.len()).map_err(|_| lied("has too many messages"))?;
    header.base_timestamp = first.timestamp;
    if header.timestamp_type == TimestampType::Create {
        header.max_timestamp = messages.iter().map(|message| message.timestamp).max().unwrap_or(-1);
    }
    let mut body = BytesMut::new();
    for message in messages {
        let (delta, timestamp) = (delta_of(message.offset)?, message.timestamp.wrapping_sub(first.timestamp));
        let size = RecordSize::of(delta, timestamp, message.key, message.value, &[]);
        put_record(&mut body, size, delta, timestamp, message.key, message.value, &[]);
    }
    Ok(OpenBatch::new(header, body.freeze()))
}

/// One entry of a message set.
#[derive(Clone, Copy)]
struct Message<'a> {
    offset: i64,
    size: usize,
    checksum: u32,
    magic: i8,
    compression: Compression,
    timestamp_type: TimestampType,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// The message that `bytes` begins with, and what stands behind it.
    fn read(bytes: &'a [u8]) -> Result<(Message<'a>, &'a [u8]), RecordError> {
        let mut reader = Reader(bytes);
        let short = |_| RecordError::Short { need: MAGIC + 1, have: bytes.len() };
        let offset = i64::from_be_bytes(reader.array().map_err(short)?);
        let length = i32::from_be_bytes(reader.array().map_err(short)?);
        let lied = |what| RecordError::Header { base_offset: offset, what };
        let length = usize::try_from(length).map_err(|_| lied("has a negative length"))?;
        let size = LENGTH_END + length;
        let body = reader.take(length).map_err(|_| RecordError::Short { need: size, have: bytes.len() })?;
        if offset < 0 {
            return Err(lied("has offsets that no partition has"));
        }
        let message = Message::body(Reader(body), offset, size).map_err(lied)?;
        Ok((message, reader.0))
    }

    fn body(mut reader: Reader<'a>, offset: i64, size: usize) -> Result<Message<'a>, Lie> {
        let checksum = u32::from_be_bytes(reader.array()?);
        let [magic, attributes] = reader.array()?.map(u8::cast_signed);
        let timestamp = match magic {
            0 => -1,
            1 => i64::from_be_bytes(reader.array()?),
            _ => return Err("mixes its format with another"),
        };
        let compression = batch::compression(attributes.into())?;
        if compression == Compression::Zstd {
            return Err("is compressed with zstd, which its format is too old for");
        }
        // Magic 0 has no timestamps, whatever its attributes say.
        let timestamp_type =
            if magic == 0 { TimestampType::Create } else { batch::timestamp_type(attributes.into()) };
        let (key, value) = (nullable(&mut reader)?, nullable(&mut reader)?);
        if !reader.0.is_empty() {
            return Err("is shorter than its length claims");
        }
        Ok(Message { offset, size, checksum, magic, compression, timestamp_type, timestamp, key, value })
    }

    fn header(&self) -> BatchHeader {
        BatchHeader {
            base_offset: self.offset,
            size: self.size,
            partition_leader_epoch: -1,
            magic: self.magic,
            checksum: self.checksum,
            compression: self.compression,
            timestamp_type: self.timestamp_type,
            transactional: false,
            control: false,
            delete_horizon: false,
            last_offset_delta: 0,
            base_timestamp: self.timestamp,
            max_timestamp: self.timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 1,
        }
    }
}

fn nullable<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Lie> {
    match i32::from_be_bytes(reader.array()?) {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| "has a negative length")?;
            reader.take(length).map(Some)
        }
    }
}
