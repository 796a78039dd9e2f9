//! Bytes that lie: every lie is an error, none is a panic, and none makes memory grow beyond the cap.

use crate::random::Random;
use crate::{batch_of, codecs, oracle, read};
use bytes::{Bytes, BytesMut};
use ottla_protocol::records::{
    Batch, BatchBuilder, Codec, Compression, CompressionError, Compressor, Decompressor, HEADER_BYTES,
    RecordError, Stamp, batches, stamp,
};
use std::io::Write;

const CAP: usize = 1 << 20;

/// What reading ends with when `body` claims to be `count` records.
fn lie(count: i32, body: &[u8]) -> String {
    let mut batch = BytesMut::zeroed(HEADER_BYTES);
    batch.extend_from_slice(body);
    stamp(&mut batch, &Stamp { count, ..Stamp::default() }).unwrap();
    read(batch.freeze()).unwrap_err().to_string()
}

#[test]
fn each_lie_of_a_record_is_named() {
    let check = |count, body: &[u8], expected: &str| {
        let error = lie(count, body);
        assert!(error.contains(expected), "{body:?}: {error}");
    };
    // Length, attributes, timestamp delta, offset delta, key length, value length, headers.
    check(1, &[], "record 0 of the batch at offset 0 is longer than the bytes that are left");
    check(1, &[14, 0, 0, 0, 1, 1, 0], "longer than the bytes");
    check(1, &[1, 0, 0, 0, 1, 1, 0], "negative length");
    check(1, &[3, 0, 0, 0, 1, 1, 0], "negative length");
    check(1, &[10, 0, 0, 0, 1, 1, 0], "longer than the bytes");
    check(1, &[14, 0, 0, 0, 1, 1, 0, 0], "shorter than its length claims");
    check(1, &[12, 0, 0, 0, 1, 1, 0, 0], "bytes behind its last record");
    check(2, &[12, 0, 0, 0, 1, 1, 0], "record 1 of the batch");
    check(1, &[12, 0, 0, 2, 1, 1, 0], "does not follow");
    check(1, &[12, 0, 0, 1, 1, 1, 0], "does not follow");
    check(2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0], "does not follow");
    check(1, &[12, 0, 0, 0, 3, 1, 0], "negative length");
    check(1, &[12, 0, 0, 0, 2, 1, 0], "longer than the bytes");
    check(1, &[12, 0, 0, 0, 4, 1, 0], "longer than the bytes");
    check(1, &[12, 0, 0, 0, 1, 1, 1], "negative number of headers");
    check(1, &[12, 0, 0, 0, 1, 1, 2], "longer than the bytes");
    check(1, &[16, 0, 0, 0, 1, 1, 2, 1, 1], "header without a key");
    check(1, &[18, 0, 0, 0, 1, 1, 2, 2, 0xff, 1], "not UTF-8");
    check(1, &[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], "longer than the bytes");
    // Numbers beyond 32 and 64 bits, and one that does not end.
    check(1, &[0x80, 0x80, 0x80, 0x80, 0x20, 0], "beyond 32 bits");
    check(1, &[30, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2, 0, 1, 1, 0], "beyond 64 bits");
    check(
        1,
        &[32, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0, 1, 1, 0],
        "beyond 64 bits",
    );
    check(1, &[0x80, 0x80], "longer than the bytes");
}

/// Fault 91.
#[test]
fn each_lie_of_a_header_is_named() {
    let good = batch_of(&Random::new(1).records(0), Codec::NONE, Stamp::default());
    let check = |at: usize, bytes: &[u8], expected: &str| {
        let mut batch = good.clone();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let error = Batch::parse(batch.freeze()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(0, &(-1_i64).to_be_bytes(), "offsets that no partition has");
    check(0, &i64::MAX.to_be_bytes(), "offsets that no partition has");
    check(8, &(-1_i32).to_be_bytes(), "negative length");
    check(8, &48_i32.to_be_bytes(), "shorter than its header");
    check(8, &i32::MAX.to_be_bytes(), "needs 2147483659 bytes");
    check(16, &[3], "magic 3");
    check(16, &[0xff], "magic -1");
    check(21, &[0, 5], "unknown codec");
    check(23, &(-1_i32).to_be_bytes(), "negative number of records");
    check(57, &(-1_i32).to_be_bytes(), "negative number of records");
    check(57, &i32::MIN.to_be_bytes(), "negative number of records");
    check(57, &i32::MAX.to_be_bytes(), "more records than offsets");
    assert_eq!(
        Batch::parse(Bytes::from_static(b"HTTP/1.1 400")),
        Err(RecordError::Short { need: 61, have: 12 })
    );
}

#[test]
fn an_error_is_met_again_by_the_batch_and_ends_the_iterator() {
    let mut batch = BytesMut::zeroed(HEADER_BYTES);
    batch.extend_from_slice(&[12, 0, 0, 0, 1, 1, 0, 99, 99]);
    stamp(&mut batch, &Stamp { count: 2, ..Stamp::default() }).unwrap();
    let mut open = crate::open(batch.freeze()).unwrap();
    let seen: Vec<bool> = open.records().map(|record| record.is_ok()).collect();
    assert_eq!(seen, [true, false]);
    assert!(open.next().is_ok());
    let error = open.next().unwrap_err();
    assert_eq!(open.next(), Err(error.clone()));
    assert_eq!(open.skip_to(5), Err(error));
}

#[test]
fn a_record_set_ends_at_its_first_lie() {
    let good = batch_of(&Random::new(1).records(0), Codec::NONE, Stamp::default());
    let mut bad = good.clone();
    bad[57..61].copy_from_slice(&(-1_i32).to_be_bytes());
    let set: Bytes = [good.clone(), bad, good].concat().into();
    let seen: Vec<bool> = batches(&set).map(|batch| batch.is_ok()).collect();
    assert_eq!(seen, [true, false]);
}

#[test]
fn a_body_cut_anywhere_is_an_error() {
    for codec in codecs() {
        let records = Random::new(9).records(0);
        let batch = batch_of(&records, codec, Stamp::default());
        let step = 1 + batch.len() / 500;
        for end in (HEADER_BYTES..batch.len()).step_by(step) {
            let mut cut = BytesMut::from(&batch[..end]);
            cut[8..12].copy_from_slice(&(end as i32 - 12).to_be_bytes());
            let result = read(cut.freeze());
            assert!(result.is_err(), "{} cut at {end}", codec.compression());
        }
    }
}

/// Changes bytes at random, everything but the length, and reads what comes of it as far as it goes.
#[test]
fn changed_bytes_never_panic_nor_outgrow_the_cap() {
    let mut decompressor = Decompressor::new();
    let (mut opened, mut refused) = (0, 0);
    for compression in Compression::ALL {
        for seed in 0..1000 {
            let mut random = Random::new(seed);
            let records: Vec<_> = oracle::records(seed).into_iter().take(8).collect();
            let mut batch = match Codec::new(compression, None) {
                Ok(codec) if seed % 2 == 0 => batch_of(&records, codec, Stamp::default()),
                _ => oracle::write(&records, compression),
            };
            for _ in 0..1 + random.below(4) {
                let at =
                    if random.chance(4) { random.below(HEADER_BYTES) } else { random.below(batch.len()) };
                match random.below(3) {
                    0 => batch[at] = random.next() as u8,
                    1 => batch[at] ^= 1 << random.below(8),
                    _ => batch[at] = [0, 0x7f, 0x80, 0xff][random.below(4)],
                }
            }
            for batch in batches(&batch.freeze()) {
                let Ok(Ok(mut open)) = batch.map(|batch| batch.open(&mut decompressor, CAP)) else {
                    refused += 1;
                    continue;
                };
                assert!(open.bytes() <= CAP);
                let mut lent = 0;
                while let Ok(Some(record)) = open.next() {
                    lent += 1 + record.headers.count();
                }
                assert!(lent <= open.bytes(), "no record is made of nothing");
                opened += 1;
            }
        }
    }
    assert!(opened > 500 && refused > 500, "{opened} opened and {refused} refused: both must be met");
}

#[test]
fn the_checksum_notices_every_changed_bit() {
    let records: Vec<_> = Random::new(6).records(0).into_iter().take(2).collect();
    let batch = batch_of(&records, Codec::NONE, Stamp::default());
    for at in (16..batch.len()).step_by(1 + batch.len() / 200) {
        for bit in 0..8 {
            let mut changed = batch.clone();
            changed[at] ^= 1 << bit;
            let changed = Batch::parse(changed.freeze());
            assert!(
                changed.is_err() || changed.is_ok_and(|batch| batch.check_checksum().is_err()),
                "{at}.{bit}"
            );
        }
    }
}

fn decompress(compression: Compression, bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    let result = Decompressor::new().decompress(compression, bytes, CAP, &mut output);
    let allowed = match compression {
        Compression::Gzip => CAP + 1,
        // A block is made room for before it is known to be too much, by a buffer that doubles.
        Compression::Lz4 => 2 * CAP + (4 << 20),
        _ => 2 * CAP,
    };
    assert!(output.capacity() <= allowed, "{compression} allocated {}", output.capacity());
    result.map(|()| output)
}

fn compress(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    Compressor::new().compress_into(codec, bytes, &mut output).unwrap();
    output
}

/// Fault 92, SEC3.
#[test]
fn a_bomb_is_refused_at_the_cap() {
    for codec in codecs().into_iter().skip(1) {
        let compression = codec.compression();
        let exactly = compress(codec, &vec![0; CAP]);
        assert_eq!(decompress(compression, &exactly).map(|bytes| bytes.len()), Ok(CAP));
        for size in [CAP + 1, 64 * CAP] {
            let error = decompress(compression, &compress(codec, &vec![0; size])).unwrap_err();
            assert_eq!(error, CompressionError::TooLarge { compression, bytes_max: CAP }, "{size}");
        }
    }
    // Whichever decoder is built in: blocks of 128 KiB that are one byte repeated, without a content size.
    let zstd = |blocks: usize| {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
        (1..=blocks).for_each(|i| frame.extend_from_slice(&[2 | u8::from(i == blocks), 0, 0x10, 0]));
        decompress(Compression::Zstd, &frame).map(|bytes| bytes.len())
    };
    assert_eq!(zstd(8), Ok(CAP));
    for blocks in [9, 8 * 64] {
        assert_eq!(
            zstd(blocks),
            Err(CompressionError::TooLarge { compression: Compression::Zstd, bytes_max: CAP })
        );
    }
}

#[test]
fn a_size_that_is_claimed_is_not_believed() {
    // Snappy: a block of no bytes that claims 2^32 - 1 and one of a few that claims 64 MiB.
    assert!(decompress(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    assert!(decompress(Compression::Snappy, &[0x80, 0x80, 0x80, 0x20, 0, 0]).is_err());
    // A claim below the cap is not made room for either.
    let claim = [0x80, 0x80, 0x20, 0, 0];
    let memory = allocation_counter::measure(|| assert!(decompress(Compression::Snappy, &claim).is_err()));
    assert!(memory.bytes_max < 64 << 10, "{} bytes for {}", memory.bytes_max, claim.len());
    // Zstandard: one segment of 2^60 bytes, in a raw block of one byte.
    let claim = (1_u64 << 60).to_le_bytes();
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &claim, &[0x09, 0, 0, b'x']].concat();
    assert!(decompress(Compression::Zstd, &frame).is_err());
    // LZ4: a content size is skipped, and a block is no longer than the bytes that are there.
    let frame = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 0xff, 0xff, 0xff, 0x7f, 0];
    assert!(decompress(Compression::Lz4, &frame).is_err());
}

#[test]
fn room_is_made_for_what_comes_out_and_not_for_what_might() {
    for codec in codecs() {
        let (input, mut output) = (compress(codec, &[b'a'; 1000]), Vec::new());
        let read = Decompressor::new().decompress(codec.compression(), &input, 64 << 20, &mut output);
        assert_eq!((read, output.len()), (Ok(()), 1000));
        assert!(output.capacity() <= CAP, "{codec:?} allocated {}", output.capacity());
    }
}

#[test]
fn what_follows_the_compressed_data_is_refused() {
    for codec in codecs().into_iter().skip(1) {
        let mut bytes = compress(codec, b"some bytes, some bytes, some bytes");
        bytes.extend_from_slice(b"\x01trailing");
        assert!(decompress(codec.compression(), &bytes).is_err(), "{}", codec.compression());
    }
}

/// Fault 93.
#[test]
fn frames_one_after_the_other_are_read_as_one() {
    let (one, two) = (vec![b'1'; 1000], vec![b'2'; 70_000]);
    for codec in codecs() {
        // Kafka's own reader stops behind the first LZ4 frame; here what follows is an error.
        if codec.compression() != Compression::Lz4 {
            let bytes = [compress(codec, &one), compress(codec, &two)].concat();
            assert_eq!(decompress(codec.compression(), &bytes).unwrap(), [one.clone(), two.clone()].concat());
        }
    }
}

/// Fault 93.
#[test]
fn the_variants_that_other_clients_write_are_read() {
    let mut random = Random::new(8);
    let text: Vec<u8> = (0..200_000).map(|_| random.below(7) as u8).collect();
    let raw = snap::raw::Encoder::new().compress_vec(&text).unwrap();
    assert!(decompress(Compression::Snappy, &raw).unwrap() == text);

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    for mode in [BlockMode::Linked, BlockMode::Independent] {
        for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
            let info = FrameInfo::new().block_mode(mode).block_size(size).block_checksums(true);
            let info = info.content_checksum(true).content_size(Some(text.len() as u64));
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&text).unwrap();
            let mut frame = encoder.finish().unwrap();
            assert!(decompress(Compression::Lz4, &frame).unwrap() == text, "{mode:?} {size:?}");
            *frame.last_mut().unwrap() ^= 1;
            assert!(decompress(Compression::Lz4, &frame).unwrap_err().to_string().contains("checksum"));
        }
    }

    let mut encoder = flate2::GzBuilder::new()
        .filename("name")
        .comment("comment")
        .extra("extra")
        .write(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&text).unwrap();
    assert!(decompress(Compression::Gzip, &encoder.finish().unwrap()).unwrap() == text);
}

#[test]
fn an_lz4_frame_of_ours_is_an_lz4_frame() {
    let codec = Codec::new(Compression::Lz4, None).unwrap();
    for size in [0_usize, 1, 100, 65_535, 65_536, 65_537, 300_000] {
        let mut random = Random::new(size as u64);
        for letters in [3, 256] {
            let text: Vec<u8> = (0..size).map(|_| random.below(letters) as u8).collect();
            let frame = compress(codec, &text);
            let mut read = Vec::new();
            std::io::copy(&mut lz4_flex::frame::FrameDecoder::new(&frame[..]), &mut read).unwrap();
            assert!(read == text && frame.len() <= size + 16 + 4 * size.div_ceil(65_536), "{size}");
            assert!(decompress(Compression::Lz4, &frame).unwrap() == text);
        }
    }
}

#[test]
fn a_decompressor_reads_on_after_an_error() {
    let mut decompressor = Decompressor::new();
    for codec in codecs() {
        let good = compress(codec, &[7; 5000]);
        let cut = &good[..good.len() / 2];
        for _ in 0..3 {
            if codec.compression() != Compression::None {
                assert!(decompressor.decompress(codec.compression(), cut, CAP, &mut Vec::new()).is_err());
                assert!(decompressor.decompress(codec.compression(), &good, 4999, &mut Vec::new()).is_err());
            }
            let mut output = b"before".to_vec();
            decompressor.decompress(codec.compression(), &good, CAP, &mut output).unwrap();
            assert!(output == [&b"before"[..], &[7; 5000]].concat(), "{}", codec.compression());
        }
    }
}

#[test]
fn a_batch_beyond_two_gigabytes_is_not_begun() {
    let mut builder = BatchBuilder::new(BytesMut::new(), 0);
    builder.append(0, None, Some(b"value"), &[]).unwrap();
    // The same mebibyte, named three thousand times: nothing of it is copied.
    let mebibyte = vec![0; 1 << 20];
    let headers = vec![ottla_protocol::records::Header { key: "again", value: Some(&mebibyte) }; 3000];
    let before = builder.len();
    assert!(
        matches!(builder.append(0, None, None, &headers), Err(RecordError::TooLarge { bytes }) if bytes > 3000 << 20)
    );
    assert_eq!((builder.len(), builder.count()), (before, 1));
}
