//! What was appended comes back, however it is compressed, stamped, cut and resumed.

use crate::random::Random;
use crate::{Owned, batch_of, codecs, open, read};
use bytes::{Bytes, BytesMut};
use ottla_protocol::records::{
    Batch, BatchBuilder, BatchHeader, Codec, Compression, CompressionError, Compressor, Decompressor,
    HEADER_BYTES, Header, RecordError, Stamp, TimestampType, add_sequence, batches, set_base_offset,
    set_leader_epoch, set_log_append_time, stamp,
};

#[test]
fn random_records_come_back_from_every_codec() {
    for codec in codecs() {
        for seed in 0..60 {
            let records = Random::new(seed).records(1_000_000);
            let batch = batch_of(&records, codec, Stamp { base_offset: 1_000_000, ..Stamp::default() });
            let parsed = Batch::parse(batch.clone().freeze()).unwrap();
            parsed.check_produced().unwrap();
            assert_eq!(
                parsed.header().max_timestamp,
                records.iter().map(|record| record.timestamp).max().unwrap()
            );
            assert!(read(batch.freeze()).unwrap() == records, "{} seed {seed}", codec.compression());
        }
    }
}

#[test]
fn every_level_of_a_codec_writes_what_can_be_read() {
    let records = Random::new(1).records(0);
    let check = |compression, level| {
        let Ok(codec) = Codec::new(compression, Some(level)) else {
            assert!(compression == Compression::Zstd && !cfg!(feature = "zstd"));
            return;
        };
        assert_eq!(codec.level(), level);
        assert!(read(batch_of(&records, codec, Stamp::default()).freeze()).unwrap() == records, "{codec:?}");
    };
    for level in [-1, 1, 5, 9] {
        check(Compression::Gzip, level);
    }
    for level in [-131_072, -1, 1, 22] {
        check(Compression::Zstd, level);
    }
    check(Compression::Lz4, 9);
}

#[test]
fn a_level_that_a_codec_has_not_is_refused() {
    let refused = |compression, level| {
        let error = Codec::new(compression, Some(level)).unwrap_err();
        assert!(
            matches!(error, CompressionError::Level { .. } | CompressionError::NotCompiled { .. }),
            "{error}"
        );
        error.to_string()
    };
    for level in [0, 10, -2] {
        refused(Compression::Gzip, level);
    }
    for level in [23, -131_073] {
        refused(Compression::Zstd, level);
    }
    assert!(refused(Compression::Lz4, 1).contains("lz4-hc"));
    refused(Compression::Snappy, 1);
    refused(Compression::None, 0);
    assert_eq!("lz4".parse(), Ok(Compression::Lz4));
    assert!("LZ5".parse::<Compression>().is_err());
}

#[test]
fn zstd_is_written_only_where_it_is_compiled_in_and_read_everywhere() {
    let expected = if cfg!(feature = "zstd") {
        Ok(3)
    } else {
        Err(CompressionError::NotCompiled { compression: Compression::Zstd, feature: "zstd" })
    };
    assert_eq!(Codec::new(Compression::Zstd, None).map(Codec::level), expected);
    let records = crate::oracle::records(1);
    assert!(read(crate::oracle::write(&records, Compression::Zstd)).unwrap() == records);
}

#[test]
fn a_record_costs_no_allocation_in_or_out() {
    let mut builder = BatchBuilder::new(BytesMut::with_capacity(1 << 20), 0);
    let headers = [Header { key: "trace", value: Some(b"4711") }];
    let appending = allocation_counter::measure(|| {
        for i in 0..1000 {
            builder.append(i, Some(b"key"), Some(&[7; 100]), &headers[..i as usize % 2]).unwrap();
        }
    });
    assert_eq!(appending.count_total, 0);
    let (mut batch, fields) = builder.into_parts();
    stamp(&mut batch, &fields).unwrap();
    let mut open = open(batch).unwrap();
    let mut bytes = 0;
    let lending = allocation_counter::measure(|| {
        while let Some(record) = open.next().unwrap() {
            bytes +=
                record.value.unwrap().len() + record.headers.map(|header| header.key.len()).sum::<usize>();
        }
    });
    assert_eq!((bytes, lending.count_total), (102_500, 0));
}

#[test]
fn a_small_batch_keeps_little_memory_once_it_is_open() {
    let records: Vec<Owned> = Random::new(12).records(0).into_iter().take(1).collect();
    for codec in codecs() {
        let batch = batch_of(&records, codec, Stamp::default()).freeze();
        let mut decompressor = Decompressor::new();
        let mut read = || Batch::parse(batch.clone()).unwrap().open(&mut decompressor, 1 << 20).unwrap();
        drop(read());
        let memory = allocation_counter::measure(|| std::mem::forget(read()));
        assert!(memory.bytes_current <= 2 * read().bytes() as i64 + 100, "{}", codec.compression());
    }
}

#[test]
fn the_size_of_a_record_is_known_before_it_is_appended() {
    for seed in 0..40 {
        let mut builder = BatchBuilder::new(BytesMut::new(), 1_700_000_000_000);
        for (i, record) in Random::new(seed).records(0).iter().enumerate() {
            let (key, value, headers) = (record.key.as_deref(), record.value.as_deref(), record.headers());
            let size = builder.size_of(record.timestamp, key, value, &headers);
            let before = builder.len();
            assert_eq!(builder.append(record.timestamp, key, value, &headers), Ok(i as i32));
            assert_eq!(builder.len() - before, size, "seed {seed}, record {i}");
        }
    }
}

#[test]
fn timestamps_anywhere_in_64_bits_come_back() {
    let record = |offset, timestamp| Owned { offset, timestamp, key: None, value: None, headers: Vec::new() };
    let records = [record(0, i64::MIN), record(1, i64::MAX), record(2, -1), record(3, 0)];
    assert_eq!(read(batch_of(&records, Codec::NONE, Stamp::default()).freeze()).unwrap(), records);
}

#[test]
fn a_recycled_buffer_keeps_nothing_but_its_capacity() {
    let mut buffer = BytesMut::from(&[0xff; 500][..]);
    buffer.reserve(1000);
    let capacity = buffer.capacity();
    let mut builder = BatchBuilder::new(buffer, 0);
    assert_eq!((builder.len(), builder.count(), builder.max_timestamp()), (HEADER_BYTES, 0, -1));
    builder.append(5, None, Some(b"value"), &[]).unwrap();
    let (batch, fields) = builder.into_parts();
    assert_eq!((batch.capacity(), fields.count, fields.max_timestamp), (capacity, 1, 5));
    assert_eq!(batch[..HEADER_BYTES], [0; HEADER_BYTES]);
}

#[test]
fn lending_stops_and_goes_on_at_any_record() {
    let records = Random::new(7).records(50);
    let mut open =
        open(batch_of(&records, Codec::NONE, Stamp { base_offset: 50, ..Stamp::default() })).unwrap();
    for i in 0..=records.len() {
        assert_eq!(open.left() as usize, records.len() - i);
        let ahead: Vec<Owned> = open.records().map(|record| record.unwrap().into()).collect();
        assert!(ahead == records[i..], "after {i}");
        assert_eq!(open.next().unwrap().map(Owned::from), records.get(i).cloned());
    }
    for i in 0..records.len() {
        open.rewind();
        open.skip_to(50 + i as i64).unwrap();
        assert_eq!(open.next().unwrap().unwrap().offset, 50 + i as i64);
    }
    open.skip_to(i64::MAX).unwrap();
    assert_eq!(open.next().unwrap(), None);
}

#[test]
fn a_retry_changes_the_header_and_not_the_records() {
    let records = Random::new(3).records(0);
    let mut batch = batch_of(&records, Codec::new(Compression::Lz4, None).unwrap(), Stamp::default());
    let before = batch.clone();
    let header = BatchHeader::parse(&batch).unwrap();
    let again = Stamp {
        compression: header.compression,
        count: header.count,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        producer_id: 9,
        producer_epoch: 1,
        base_sequence: i32::MAX,
        transactional: true,
        ..Stamp::default()
    };
    stamp(&mut batch, &again).unwrap();
    assert_eq!(batch[HEADER_BYTES..], before[HEADER_BYTES..]);
    let stamped = Batch::parse(batch.freeze()).unwrap();
    stamped.check_produced().unwrap();
    let stamped = stamped.header();
    assert_eq!((stamped.producer_id, stamped.base_sequence, stamped.transactional), (9, i32::MAX, true));
    assert_ne!(stamped.checksum, header.checksum);
}

#[test]
fn a_broker_assigns_offset_epoch_and_time_in_place() {
    let mut records = Random::new(5).records(777);
    let mut batch = batch_of(&records, Codec::NONE, Stamp::default());
    let checksum = BatchHeader::parse(&batch).unwrap().checksum;
    set_base_offset(&mut batch, 777).unwrap();
    set_leader_epoch(&mut batch, 12).unwrap();
    let parsed = Batch::parse(batch.clone().freeze()).unwrap();
    parsed.check_checksum().unwrap();
    assert_eq!((parsed.header().checksum, parsed.header().partition_leader_epoch), (checksum, 12));
    assert!(read(batch.clone().freeze()).unwrap() == records);

    set_log_append_time(&mut batch, 4_000).unwrap();
    let parsed = Batch::parse(batch.clone().freeze()).unwrap();
    parsed.check_checksum().unwrap();
    assert_eq!(
        (parsed.header().timestamp_type, parsed.header().max_timestamp),
        (TimestampType::LogAppend, 4_000)
    );
    records.iter_mut().for_each(|record| record.timestamp = 4_000);
    assert!(read(batch.freeze()).unwrap() == records);

    assert_eq!(set_base_offset(&mut [0; 60], 0), Err(RecordError::Short { need: 61, have: 60 }));
    assert!(set_leader_epoch(&mut [0; 60], 0).is_err() && set_log_append_time(&mut [0; 60], 0).is_err());
    assert!(stamp(&mut [0; 60], &Stamp::default()).is_err());
}

#[test]
fn a_record_set_cut_anywhere_gives_its_whole_batches() {
    let sizes: Vec<Owned> = Random::new(11).records(0).into_iter().take(3).collect();
    let one = batch_of(&sizes, Codec::NONE, Stamp::default()).freeze();
    let two = batch_of(&sizes, Codec::NONE, Stamp { base_offset: 3, ..Stamp::default() }).freeze();
    let set: Bytes = [one.clone(), two.clone()].concat().into();
    for cut in 0..=set.len() {
        let mut iterator = batches(&set.slice(..cut));
        let found: Vec<Bytes> = iterator.by_ref().map(|batch| batch.unwrap().into_bytes()).collect();
        let whole = usize::from(cut >= one.len()) + usize::from(cut == set.len());
        assert!(found == [one.clone(), two.clone()][..whole], "cut at {cut}");
        assert_eq!(iterator.rest(), cut - found.iter().map(Bytes::len).sum::<usize>());
    }
}

#[test]
fn compaction_leaves_gaps_and_empty_batches() {
    let records = Random::new(2).records(10);
    let mut batch = batch_of(&records, Codec::NONE, Stamp { base_offset: 10, ..Stamp::default() });
    batch[23..27].copy_from_slice(&1_000_000_i32.to_be_bytes());
    assert_eq!(BatchHeader::parse(&batch).unwrap().last_offset(), 1_000_010);
    assert!(read(batch.freeze()).unwrap() == records);

    let mut empty = batch_of(&[], Codec::NONE, Stamp { base_offset: 10, ..Stamp::default() });
    empty[23..27].copy_from_slice(&4_i32.to_be_bytes());
    assert_eq!(BatchHeader::parse(&empty).unwrap().last_offset(), 14);
    assert_eq!(read(empty.freeze()).unwrap(), []);
}

#[test]
fn sequence_numbers_wrap_to_zero() {
    assert_eq!(add_sequence(0, 1), 1);
    assert_eq!(add_sequence(i32::MAX, 1), 0);
    assert_eq!(add_sequence(i32::MAX - 1, 5), 3);
}

#[test]
fn the_checks_before_an_append_refuse_what_is_not_a_producers_batch() {
    let records = Random::new(4).records(0);
    let good = Stamp { producer_id: 1, producer_epoch: 0, base_sequence: 0, ..Stamp::default() };
    let verdict = |records: &[Owned], fields, change: &dyn Fn(&mut BytesMut)| {
        let mut batch = batch_of(records, Codec::NONE, fields);
        change(&mut batch);
        Batch::parse(batch.freeze())
            .and_then(|batch| batch.check_produced())
            .err()
            .map(|error| error.to_string())
    };
    let refused = |fields, expected: &str| {
        let error = verdict(&records, fields, &|_| {}).unwrap();
        assert!(error.contains(expected), "{error}");
    };
    assert_eq!(verdict(&records, good, &|_| {}), None);
    assert_eq!(verdict(&records, Stamp::default(), &|_| {}), None);
    refused(Stamp { control: true, ..good }, "is a control batch");
    refused(Stamp { base_sequence: -1, ..good }, "without an epoch or a sequence");
    refused(Stamp { producer_epoch: -1, ..good }, "without an epoch or a sequence");
    refused(Stamp { producer_id: -1, transactional: true, ..good }, "has no producer id");
    assert!(verdict(&[], good, &|_| {}).unwrap().contains("has no records"));
    let last = |batch: &mut BytesMut| *batch.last_mut().unwrap() ^= 1;
    assert!(verdict(&records, good, &last).unwrap().contains("checksum"));
}

#[test]
fn a_batch_compressed_in_place_reads_the_same_and_keeps_its_buffer() {
    let value = [7; 4_000];
    for codec in codecs() {
        let mut builder = BatchBuilder::new(BytesMut::new(), 0);
        builder.append(0, None, Some(&value), &[]).unwrap();
        let (mut batch, fields) = builder.into_parts();
        let (address, plain) = (batch.as_ptr(), batch.len());
        let smaller = Compressor::new().compress_in_place(codec, &mut batch).unwrap();
        assert_eq!(smaller, codec != Codec::NONE, "{codec:?}");
        assert!(smaller == (batch.len() < plain) && batch.as_ptr() == address, "{codec:?}");
        stamp(&mut batch, &Stamp { compression: codec.compression(), ..fields }).unwrap();
        assert_eq!(read(batch).unwrap()[0].value.as_deref(), Some(&value[..]), "{codec:?}");
    }
}

#[test]
fn a_batch_that_does_not_shrink_stays_as_it_was() {
    for codec in codecs() {
        let mut builder = BatchBuilder::new(BytesMut::new(), 0);
        builder.append(0, None, Some(b"!"), &[]).unwrap();
        let (mut batch, _) = builder.into_parts();
        let before = batch.clone();
        assert!(!Compressor::new().compress_in_place(codec, &mut batch).unwrap(), "{codec:?}");
        assert_eq!(batch, before, "{codec:?}");
    }
}
