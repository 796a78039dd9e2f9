//! Record batches, from outside: by hand-made bytes, round trips, another implementation, old formats and hostile bytes.

#![allow(clippy::unwrap_used)]

mod golden;
mod hostile;
mod legacy;
mod oracle;
mod random;
mod round_trip;

use bytes::{Bytes, BytesMut};
use ottla_protocol::records::{
    Batch, BatchBuilder, Codec, Compressor, DECOMPRESSED_BYTES_MAX, Decompressor, Header, OpenBatch, Record,
    RecordError, Stamp, stamp,
};

/// A record that owns what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Owned {
    pub(crate) fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect()
    }
}

impl From<Record<'_>> for Owned {
    fn from(record: Record<'_>) -> Owned {
        Owned {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.map(|it| (it.key.to_owned(), it.value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

/// A stamped batch of the records; those fields of `fields` that follow from the records are set.
pub(crate) fn batch_of(records: &[Owned], codec: Codec, fields: Stamp) -> BytesMut {
    let mut builder =
        BatchBuilder::new(BytesMut::new(), records.first().map_or(0, |record| record.timestamp));
    for record in records {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.append(record.timestamp, key, value, &record.headers()).unwrap();
    }
    let mut batch = Compressor::new().compress(codec, builder.body()).unwrap();
    let (_, built) = builder.into_parts();
    let fields = Stamp {
        compression: codec.compression(),
        count: built.count,
        base_timestamp: built.base_timestamp,
        max_timestamp: built.max_timestamp,
        ..fields
    };
    stamp(&mut batch, &fields).unwrap();
    batch
}

pub(crate) fn open(batch: impl Into<Bytes>) -> Result<OpenBatch, RecordError> {
    Batch::parse(batch.into())?.open(&mut Decompressor::new(), DECOMPRESSED_BYTES_MAX)
}

/// All records of a batch, by lending them.
pub(crate) fn read(batch: impl Into<Bytes>) -> Result<Vec<Owned>, RecordError> {
    let mut open = open(batch)?;
    let mut records = Vec::new();
    while let Some(record) = open.next()? {
        records.push(record.into());
    }
    Ok(records)
}

/// Codecs that this build writes, each at its default level.
pub(crate) fn codecs() -> Vec<Codec> {
    use ottla_protocol::records::Compression;
    Compression::ALL.into_iter().filter_map(|compression| Codec::new(compression, None).ok()).collect()
}

pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
