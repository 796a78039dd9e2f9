//! Message sets of magic 0 and 1, made here from the description of the format.

use crate::{Owned, hex, open, read};
use bytes::Bytes;
use flate2::Crc;
use ottla_protocol::records::{
    Batch, Codec, Compression, Compressor, DECOMPRESSED_BYTES_MAX, Decompressor, TimestampType, batches,
};

/// Two messages of magic 0 and a gzip wrapper of magic 1, written outside of this project.
const BARE: &str = "0000000000000005 00000012 99e87370 00 00 00000001 6b 00000003 6f6c64
    0000000000000006 0000000e a7ec6803 00 00 ffffffff ffffffff";
const GZIP_WRAPPER: &str = "000000000000000c 00000054 37267add 01 01 0000000000000064 ffffffff 0000003e
    1f8b080000000000020363608003a9b72f159b1961bc1420664c0412ccf979a950312620964cb8e2f611ae2aea3f1080149594e70300
    84c17bcc4b000000";

/// Fault 48.
#[test]
fn bare_messages_of_magic_0_are_read() {
    let set: Bytes = hex(BARE).into();
    let found: Vec<Batch> = batches(&set).map(|batch| batch.unwrap()).collect();
    assert_eq!(found.len(), 2);
    let read = |batch: &Batch| {
        batch.check_checksum().unwrap();
        read(batch.bytes().clone()).unwrap()
    };
    assert_eq!(read(&found[0]), [owned(5, -1, Some("k"), Some("old"))]);
    assert_eq!(read(&found[1]), [owned(6, -1, None, None)]);
    assert_eq!(found[1].header().last_offset(), 6);
}

/// Fault 48.
#[test]
fn a_wrapper_of_magic_1_gives_its_messages_their_offsets() {
    let batch = Batch::parse(hex(GZIP_WRAPPER).into()).unwrap();
    batch.check_checksum().unwrap();
    assert_eq!((batch.header().magic, batch.header().last_offset()), (1, 12));
    let open = open(hex(GZIP_WRAPPER)).unwrap();
    assert_eq!((open.header().base_offset, open.header().last_offset(), open.header().count), (10, 12, 2));
    let expected = [owned(10, 100, Some("a"), Some("one")), owned(12, 90, None, Some("two"))];
    assert_eq!(read(hex(GZIP_WRAPPER)).unwrap(), expected);
}

#[test]
fn every_codec_of_their_time_is_unwrapped() {
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        for magic in [0, 1] {
            let first = if magic == 0 { 40 } else { 0 };
            let inner =
                [message(first, magic, 0, 7, b"one"), message(first + 1, magic, 0, 8, b"two")].concat();
            let bytes = message(41, magic, compression.id(), 8, &compress(compression, &inner));
            let time = |time| if magic == 0 { -1 } else { time };
            let expected = [owned(40, time(7), None, Some("one")), owned(41, time(8), None, Some("two"))];
            assert_eq!(read(bytes).unwrap(), expected, "{compression}, magic {magic}");
        }
    }
}

#[test]
fn absolute_offsets_inside_a_wrapper_without_one_are_kept() {
    let inner = [message(40, 1, 0, 7, b"one"), message(41, 1, 0, 8, b"two")].concat();
    let bytes = message(0, 1, 1, 8, &compress(Compression::Gzip, &inner));
    let offsets: Vec<i64> = read(bytes).unwrap().iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [40, 41]);
}

#[test]
fn the_time_of_a_log_appended_wrapper_is_the_time_of_its_messages() {
    let inner = message(0, 1, 0, 7, b"one");
    let bytes = message(3, 1, 1 | 8, 99, &compress(Compression::Gzip, &inner));
    assert_eq!(open(bytes.clone()).unwrap().header().timestamp_type, TimestampType::LogAppend);
    assert_eq!(read(bytes).unwrap(), [owned(3, 99, None, Some("one"))]);
}

#[test]
fn kafkas_wrong_lz4_header_checksum_is_taken_in_old_messages_only() {
    let mut frame = compress(Compression::Lz4, &message(0, 1, 0, 7, b"one"));
    frame[6] ^= 0xff;
    assert_eq!(read(message(0, 1, 3, 7, &frame)).unwrap(), [owned(0, 7, None, Some("one"))]);
    let result =
        Decompressor::new().decompress(Compression::Lz4, &frame, DECOMPRESSED_BYTES_MAX, &mut Vec::new());
    assert!(result.unwrap_err().to_string().contains("checksum of its frame header"));
}

#[test]
fn formats_mix_in_a_record_set_and_not_in_a_wrapper() {
    let set = [message(1, 0, 0, 0, b"one"), message(2, 1, 0, 0, b"two")].concat();
    assert_eq!(batches(&set.into()).filter(|batch| batch.is_ok()).count(), 2);
    let refused = |bytes: Vec<u8>, expected: &str| {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let wrap = |inner: &[u8]| message(9, 1, 1, 0, &compress(Compression::Gzip, inner));
    refused(wrap(&message(0, 0, 0, 0, b"one")), "another kind");
    refused(wrap(&wrap(&message(0, 1, 0, 0, b"one"))), "another kind");
    refused(wrap(&[]), "wraps nothing");
    refused(wrap(&[message(1, 1, 0, 0, b""), message(0, 1, 0, 0, b"")].concat()), "do not rise");
    refused(message(0, 1, 4, 0, b""), "zstd");
    let mut wrong = message(0, 1, 0, 0, b"one");
    *wrong.last_mut().unwrap() ^= 1;
    refused(wrap(&wrong), "wrong checksum");
}

#[test]
fn a_damaged_message_does_not_pass_its_checksum() {
    let mut bytes = message(0, 1, 0, 0, b"one");
    *bytes.last_mut().unwrap() ^= 1;
    assert!(Batch::parse(bytes.into()).unwrap().check_checksum().is_err());
}

fn message(offset: i64, magic: u8, attributes: u8, timestamp: i64, value: &[u8]) -> Vec<u8> {
    let mut body = vec![magic, attributes];
    if magic == 1 {
        body.extend(timestamp.to_be_bytes());
    }
    body.extend((-1_i32).to_be_bytes());
    body.extend((value.len() as i32).to_be_bytes());
    body.extend(value);
    let mut crc = Crc::new();
    crc.update(&body);
    let mut message = offset.to_be_bytes().to_vec();
    message.extend((body.len() as i32 + 4).to_be_bytes());
    message.extend(crc.sum().to_be_bytes());
    message.extend(body);
    message
}

fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    Compressor::new().compress_into(Codec::new(compression, None).unwrap(), bytes, &mut output).unwrap();
    output
}

fn owned(offset: i64, timestamp: i64, key: Option<&str>, value: Option<&str>) -> Owned {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Owned { offset, timestamp, key: key.map(bytes), value: value.map(bytes), headers: Vec::new() }
}
