//! Against the kafka-protocol crate: each side reads what the other wrote.

use crate::random::Random;
use crate::{Owned, batch_of, codecs, read};
use bytes::{Bytes, BytesMut};
use kafka_protocol::records as theirs;
use ottla_protocol::records::{Batch, Compression, Stamp};

#[test]
fn another_implementation_reads_what_is_written() {
    for codec in codecs() {
        for seed in 0..40 {
            let records = records(seed);
            let fields = Stamp {
                base_offset: 500,
                partition_leader_epoch: 3,
                producer_id: 77,
                producer_epoch: 2,
                base_sequence: 9,
                transactional: true,
                ..Stamp::default()
            };
            let mut batch = batch_of(&records, codec, fields).freeze();
            let decoded = theirs::RecordBatchDecoder::decode(&mut batch).unwrap().records;
            assert!(decoded.iter().all(|record| record.transactional && record.producer_id == 77));
            assert!(
                decoded.iter().all(|record| record.partition_leader_epoch == 3 && record.producer_epoch == 2)
            );
            let decoded: Vec<Owned> = decoded.into_iter().map(owned).collect();
            assert!(decoded == records, "{} seed {seed}", codec.compression());
        }
    }
}

#[test]
fn what_another_implementation_writes_is_read() {
    for compression in Compression::ALL {
        for seed in 0..40 {
            let records = records(seed);
            let bytes = write(&records, compression);
            let batch = Batch::parse(bytes.clone().freeze()).unwrap();
            batch.check_produced().unwrap();
            assert_eq!((batch.header().compression, batch.header().size), (compression, bytes.len()));
            assert!(read(bytes.freeze()).unwrap() == records, "{compression} seed {seed}");
        }
    }
}

/// A batch by the other implementation, which has every codec in every build. Its timestamps must not be far apart.
pub(crate) fn write(records: &[Owned], compression: Compression) -> BytesMut {
    let compression = match compression {
        Compression::None => theirs::Compression::None,
        Compression::Gzip => theirs::Compression::Gzip,
        Compression::Snappy => theirs::Compression::Snappy,
        Compression::Lz4 => theirs::Compression::Lz4,
        Compression::Zstd => theirs::Compression::Zstd,
    };
    let records: Vec<theirs::Record> = records.iter().map(foreign).collect();
    let mut bytes = BytesMut::new();
    let options = theirs::RecordEncodeOptions { version: 2, compression };
    theirs::RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes
}

/// Records from offset 500 on. The other implementation does not survive timestamps whose difference overflows.
pub(crate) fn records(seed: u64) -> Vec<Owned> {
    let mut records = Random::new(seed).records(500);
    records.iter_mut().for_each(|record| record.timestamp = record.timestamp.rem_euclid(1 << 40));
    records
}

fn owned(record: theirs::Record) -> Owned {
    let bytes = |bytes: Bytes| bytes.to_vec();
    Owned {
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(bytes),
        value: record.value.map(bytes),
        headers: record.headers.into_iter().map(|(key, value)| (key.to_string(), value.map(bytes))).collect(),
    }
}

fn foreign(record: &Owned) -> theirs::Record {
    let bytes = |bytes: &Vec<u8>| Bytes::copy_from_slice(bytes);
    theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 7,
        producer_epoch: 1,
        timestamp_type: theirs::TimestampType::Creation,
        offset: record.offset,
        sequence: (record.offset - 500) as i32,
        timestamp: record.timestamp,
        key: record.key.as_ref().map(bytes),
        value: record.value.as_ref().map(bytes),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| (key.clone().into(), value.as_ref().map(bytes)))
            .collect(),
    }
}
