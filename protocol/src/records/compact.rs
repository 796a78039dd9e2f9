//! Rewriting a batch that is in a log: with another codec, or with fewer records.
//!
//! What was promised stays: offsets, producer, sequences and leader epoch. Refuses to know why a record goes.

use super::RecordError;
use super::batch::{Batch, BatchHeader, Stamp, narrow, stamp};
use super::compress::{Codec, Compressor};
use super::decompress::{DECOMPRESSED_BYTES_MAX, Decompressor};
use super::record::{Header, Record, RecordSize, put_record};
use bytes::{BufMut, Bytes, BytesMut};

/// Rewrites a batch with another codec.
///
/// # Errors
/// If the batch does not open, or the codec fails.
pub fn recompress(
    batch: Batch,
    codec: Codec,
    decompressor: &mut Decompressor,
    compressor: &mut Compressor,
) -> Result<Bytes, RecordError> {
    let header = *batch.header();
    let open = batch.open(decompressor, DECOMPRESSED_BYTES_MAX)?;
    close(&header, open.body(), codec, compressor, Stamp::from(&header))
}

/// Rewrites a batch with those of its records that `keeps` names (KIP-534). With none of them it is a header that still
/// says which offsets and sequences there were.
///
/// `delete_horizon` (milliseconds) is the time from which the batch may lose its tombstones; a batch keeps the one it has.
///
/// # Errors
/// If the batch does not open, or its codec fails.
pub fn retain(
    batch: Batch,
    delete_horizon: Option<i64>,
    decompressor: &mut Decompressor,
    compressor: &mut Compressor,
    mut keeps: impl FnMut(&Record<'_>) -> bool,
) -> Result<Bytes, RecordError> {
    let header = *batch.header();
    // A build without the writer of this codec leaves the records uncompressed.
    let codec = Codec::new(header.compression, None).unwrap_or(Codec::NONE);
    let base_timestamp = delete_horizon.filter(|_| !header.delete_horizon).unwrap_or(header.base_timestamp);
    let mut open = batch.open(decompressor, DECOMPRESSED_BYTES_MAX)?;
    let mut body = BytesMut::with_capacity(open.body().len());
    let (mut count, mut max_timestamp) = (0, -1);
    while let Some(record) = open.next()? {
        if !keeps(&record) {
            continue;
        }
        let headers: Vec<Header<'_>> = record.headers.collect();
        // An offset of a batch lies at most an i32 behind its first.
        let offset_delta = i32::try_from(record.offset - header.base_offset).unwrap_or(i32::MAX);
        let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
        let size = RecordSize::of(offset_delta, timestamp_delta, record.key, record.value, &headers);
        if size.total() > i32::MAX as usize - body.len() {
            return Err(RecordError::TooLarge { bytes: body.len() });
        }
        body.reserve(size.total());
        put_record(&mut body, size, offset_delta, timestamp_delta, record.key, record.value, &headers);
        count += 1;
        max_timestamp = max_timestamp.max(record.timestamp);
    }
    let codec = if count == 0 { Codec::NONE } else { codec };
    let fields = Stamp { count, base_timestamp, max_timestamp, ..Stamp::from(&header) };
    let has_horizon = header.delete_horizon || delete_horizon.is_some();
    close(&BatchHeader { delete_horizon: has_horizon, ..header }, &body, codec, compressor, fields)
}

fn close(
    header: &BatchHeader,
    body: &[u8],
    codec: Codec,
    compressor: &mut Compressor,
    fields: Stamp,
) -> Result<Bytes, RecordError> {
    let base_offset = header.base_offset;
    let mut batch = match codec == Codec::NONE {
        true => {
            let mut plain = BytesMut::with_capacity(super::HEADER_BYTES + body.len());
            plain.put_bytes(0, super::HEADER_BYTES);
            plain.put_slice(body);
            plain
        }
        false => compressor
            .compress(codec, body)
            .map_err(|source| RecordError::Compression { base_offset, source })?,
    };
    stamp(&mut batch, &Stamp { compression: codec.compression(), ..fields })?;
    narrow(&mut batch, header.last_offset_delta, header.delete_horizon)?;
    Ok(batch.freeze())
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Compression};
    use super::*;

    fn batch(compression: Compression) -> Batch {
        let mut builder = BatchBuilder::new(BytesMut::new(), 100);
        let header = Header { key: "h", value: Some(b"v") };
        for (timestamp, key) in (100..).zip([b"a", b"b", b"a", b"c"]) {
            builder.append(timestamp, Some(key), (key != b"c").then_some(&b"value"[..]), &[header]).unwrap();
        }
        let codec = Codec::new(compression, None).unwrap();
        let mut bytes = Compressor::new().compress(codec, builder.body()).unwrap();
        let (_, fields) = builder.into_parts();
        let fields = Stamp {
            base_offset: 70,
            partition_leader_epoch: 3,
            producer_id: 9,
            producer_epoch: 1,
            base_sequence: 40,
            compression,
            ..fields
        };
        stamp(&mut bytes, &fields).unwrap();
        Batch::parse(bytes.freeze()).unwrap()
    }

    fn records(bytes: &Bytes) -> (BatchHeader, Vec<(i64, i64, u8, bool)>) {
        let batch = Batch::parse(bytes.clone()).unwrap();
        batch.check_checksum().unwrap();
        let header = *batch.header();
        let mut open = batch.open(&mut Decompressor::new(), 1 << 20).unwrap();
        let mut all = Vec::new();
        while let Some(record) = open.next().unwrap() {
            assert_eq!(record.headers.len(), 1);
            all.push((record.offset, record.timestamp, record.key.unwrap()[0], record.value.is_some()));
        }
        (header, all)
    }

    #[test]
    fn records_that_stay_keep_their_offsets_and_times_and_the_batch_its_sequences() {
        for compression in [Compression::None, Compression::Lz4] {
            let (mut decompressor, mut compressor) = (Decompressor::new(), Compressor::new());
            let keeps = |record: &Record<'_>| record.offset != 70;
            let kept =
                retain(batch(compression), Some(5000), &mut decompressor, &mut compressor, keeps).unwrap();
            let (header, all) = records(&kept);
            assert_eq!(all, [(71, 101, b'b', true), (72, 102, b'a', true), (73, 103, b'c', false)]);
            assert_eq!((header.base_offset, header.last_offset(), header.count), (70, 73, 3));
            assert_eq!((header.producer_id, header.base_sequence, header.last_sequence()), (9, 40, 43));
            assert_eq!((header.partition_leader_epoch, header.compression), (3, compression));
            assert!(header.delete_horizon);
            assert_eq!((header.base_timestamp, header.max_timestamp), (5000, 103));
            let again = Batch::parse(kept).unwrap();
            let none = retain(again, Some(9), &mut decompressor, &mut compressor, |_| false).unwrap();
            let (header, all) = records(&none);
            assert_eq!(
                (all.len(), header.count, header.last_offset(), header.base_timestamp),
                (0, 0, 73, 5000)
            );
        }
    }

    #[test]
    fn another_codec_changes_nothing_but_the_bytes() {
        for (from, to) in [(Compression::None, Compression::Gzip), (Compression::Snappy, Compression::None)] {
            let (before, expected) = records(batch(from).bytes());
            let codec = Codec::new(to, None).unwrap();
            let bytes = recompress(batch(from), codec, &mut Decompressor::new(), &mut Compressor::new());
            let (after, all) = records(&bytes.unwrap());
            assert_eq!((all, after.compression), (expected, to));
            let BatchHeader { size, checksum, compression, .. } = before;
            assert_eq!(BatchHeader { size, checksum, compression, ..after }, before);
        }
    }
}
