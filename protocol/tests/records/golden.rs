//! Bytes written by hand from the format's description, their checksums by a bitwise CRC outside of this project.

use crate::{Owned, hex, open, read};
use bytes::BytesMut;
use ottla_protocol::records::{
    Batch, BatchBuilder, BatchHeader, ControlKind, ControlRecord, Header, Stamp, stamp,
};

const TWO_RECORDS: &str = "0000000000000000 0000004b ffffffff 02 625d238b 0000 00000001 00000000000003e8
    00000000000003ed 0000000000000007 0003 00000028 00000002
    18 00 00 00 02 6b 0a 76616c7565 00
    18 00 0a 02 01 00 04 02 68 01 00 02 78";

const COMMIT_MARKER: &str = "0000000000000063 00000042 00000004 02 a00010bb 0030 00000000 00000000000007d0
    00000000000007d0 0000000000000007 0003 ffffffff 00000001
    20 00 00 00 08 00000001 0c 000000000009 00";

#[test]
fn the_builder_writes_the_bytes_of_the_format() {
    let mut builder = BatchBuilder::new(BytesMut::new(), 1000);
    builder.append(1000, Some(b"k"), Some(b"value"), &[]).unwrap();
    let headers = [Header { key: "h", value: None }, Header { key: "", value: Some(b"x") }];
    builder.append(1005, None, Some(b""), &headers).unwrap();
    let (mut batch, fields) = builder.into_parts();
    stamp(&mut batch, &Stamp { producer_id: 7, producer_epoch: 3, base_sequence: 40, ..fields }).unwrap();
    assert_eq!(batch, hex(TWO_RECORDS));
}

#[test]
fn the_bytes_of_the_format_are_read() {
    let batch = Batch::parse(hex(TWO_RECORDS).into()).unwrap();
    batch.check_checksum().unwrap();
    batch.check_produced().unwrap();
    let header = *batch.header();
    assert_eq!((header.size, header.last_offset(), header.count), (87, 1, 2));
    assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
    assert_eq!((header.base_sequence, header.last_sequence()), (40, 41));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1005));
    let first = Owned {
        offset: 0,
        timestamp: 1000,
        key: Some(b"k".to_vec()),
        value: Some(b"value".to_vec()),
        headers: Vec::new(),
    };
    let headers = vec![("h".to_owned(), None), (String::new(), Some(b"x".to_vec()))];
    let second = Owned { offset: 1, timestamp: 1005, key: None, value: Some(Vec::new()), headers };
    assert_eq!(read(hex(TWO_RECORDS)).unwrap(), [first, second]);
}

#[test]
fn a_commit_marker_is_read_and_written() {
    let bytes = hex(COMMIT_MARKER);
    let header = BatchHeader::parse(&bytes).unwrap();
    assert!(header.control && header.transactional);
    assert_eq!((header.partition_leader_epoch, header.last_sequence()), (4, -1));
    Batch::parse(bytes.clone().into()).unwrap().check_checksum().unwrap();
    let mut batch = open(bytes.clone()).unwrap();
    let record = batch.next().unwrap().unwrap();
    let control = ControlRecord::parse(&record, 99).unwrap();
    assert_eq!(control, ControlRecord { version: 0, kind: ControlKind::Commit });

    let (key, value) = ControlRecord::end_of_transaction(true, 9);
    let mut builder = BatchBuilder::new(BytesMut::new(), 2000);
    builder.append(2000, Some(&key), Some(&value), &[]).unwrap();
    let (mut batch, fields) = builder.into_parts();
    let fields = Stamp {
        base_offset: 99,
        partition_leader_epoch: 4,
        transactional: true,
        control: true,
        producer_id: 7,
        producer_epoch: 3,
        ..fields
    };
    stamp(&mut batch, &fields).unwrap();
    assert_eq!(batch, bytes);
}

#[test]
fn control_records_of_other_kinds_and_versions_are_told_apart() {
    let check = |key: &[u8], expected: Option<ControlRecord>| {
        let mut builder = BatchBuilder::new(BytesMut::new(), 0);
        builder.append(0, Some(key), None, &[]).unwrap();
        let (mut batch, fields) = builder.into_parts();
        stamp(&mut batch, &fields).unwrap();
        let mut batch = open(batch.freeze()).unwrap();
        assert_eq!(ControlRecord::parse(&batch.next().unwrap().unwrap(), 0).ok(), expected, "{key:?}");
    };
    check(&[0, 0, 0, 0], Some(ControlRecord { version: 0, kind: ControlKind::Abort }));
    check(&[0, 7, 0, 1, 9, 9], Some(ControlRecord { version: 7, kind: ControlKind::Commit }));
    check(&[0, 0, 0, 2], Some(ControlRecord { version: 0, kind: ControlKind::Unknown(2) }));
    check(&[0xff, 0xff, 0, 1], None);
    check(&[0, 0, 0], None);
}
