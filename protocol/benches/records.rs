//! What a record costs on its way into a batch and out of it: nanoseconds a record, the least of several rounds.
//!
//! `cargo bench -p ottla-protocol --bench records`, with a part of a line's name to run only such lines.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use bytes::{Bytes, BytesMut};
use ottla_protocol::records::{
    Batch, BatchBuilder, Codec, Compression, Compressor, DECOMPRESSED_BYTES_MAX, Decompressor, Header, Stamp,
    batches, stamp,
};
use std::hint::black_box;
use std::time::Instant;

const BATCH_BYTES: usize = 128 << 10;
const ROUNDS: usize = 25;

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    for size in [100, 1024] {
        let values = Values::new(size);
        let records = fill(BytesMut::new(), &values, &[]).count() as usize;
        let run = |name: &str, f: &mut dyn FnMut()| {
            let name = format!("{name}, {size} B");
            if wanted(&name) {
                report(&name, size, records, f);
            }
        };
        let mut spare = BytesMut::with_capacity(BATCH_BYTES);
        run("encode, with CRC", &mut || spare = sealed(fill(std::mem::take(&mut spare), &values, &[])));
        run("encode, without CRC", &mut || {
            spare = fill(std::mem::take(&mut spare), &values, &[]).into_parts().0
        });
        let header = [Header { key: "trace", value: Some(b"0123456789abcdef") }];
        run("encode with a header, with CRC", &mut || {
            spare = sealed(fill(std::mem::take(&mut spare), &values, &header));
        });
        let plain = sealed(fill(BytesMut::new(), &values, &[])).freeze();
        let mut decompressor = Decompressor::new();
        run("lend, with CRC", &mut || {
            let batch = batches(&plain).next().unwrap().unwrap();
            batch.check_checksum().unwrap();
            lend(batch, &mut decompressor);
        });
        run("lend", &mut || lend(batches(&plain).next().unwrap().unwrap(), &mut decompressor));
        run("lend by the iterator", &mut || {
            let open =
                Batch::parse(plain.clone()).unwrap().open(&mut decompressor, DECOMPRESSED_BYTES_MAX).unwrap();
            for record in open.records() {
                let record = record.unwrap();
                black_box((record.offset, record.timestamp, record.value));
            }
        });
        codecs(&values, &run);
    }
}

fn codecs(values: &Values, run: &dyn Fn(&str, &mut dyn FnMut())) {
    for compression in &Compression::ALL[1..] {
        let Ok(codec) = Codec::new(*compression, None) else { continue };
        let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
        let builder = fill(BytesMut::new(), values, &[]);
        run(&format!("{compression}: compress"), &mut || {
            black_box(compressor.compress(codec, builder.body()).unwrap());
        });
        let mut batch = compressor.compress(codec, builder.body()).unwrap();
        stamp(&mut batch, &Stamp { compression: *compression, ..builder.into_parts().1 }).unwrap();
        let batch: Bytes = batch.freeze();
        run(&format!("{compression}: decompress and lend"), &mut || {
            lend(batches(&batch).next().unwrap().unwrap(), &mut decompressor);
        });
    }
}

fn fill(buffer: BytesMut, values: &Values, headers: &[Header<'_>]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(buffer, 1_700_000_000_000);
    for i in 0.. {
        let timestamp = 1_700_000_000_000 + i / 100;
        let value = values.get(i);
        if builder.len() + builder.size_of(timestamp, None, Some(value), headers) > BATCH_BYTES {
            break;
        }
        builder.append(timestamp, None, Some(value), headers).unwrap();
    }
    builder
}

fn sealed(builder: BatchBuilder) -> BytesMut {
    let (mut batch, fields) = builder.into_parts();
    stamp(&mut batch, &fields).unwrap();
    batch
}

fn lend(batch: Batch, decompressor: &mut Decompressor) {
    let mut open = batch.open(decompressor, DECOMPRESSED_BYTES_MAX).unwrap();
    while let Some(record) = open.next().unwrap() {
        black_box((record.offset, record.timestamp, record.value));
    }
}

fn report(name: &str, size: usize, records: usize, f: &mut dyn FnMut()) {
    // Long enough for the clock, short enough to be undisturbed once in a while.
    let batches = 1 + 20_000 / records;
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..batches {
            f();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (batches * records) as f64);
    }
    println!("{name:<48} {best:>9.1} ns a record {:>9.0} MB/s", size as f64 * 1000.0 / best);
}

/// Values that compress about as text does.
struct Values {
    bytes: Vec<u8>,
    size: usize,
}

impl Values {
    fn new(size: usize) -> Values {
        const WORDS: [&str; 16] = [
            "partition",
            "offset",
            "leader",
            "epoch",
            "magnitude",
            "network",
            "station",
            "depth",
            "latitude",
            "longitude",
            "place",
            "time",
            "quake",
            "status",
            "reviewed",
            "type",
        ];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::new();
        while bytes.len() < (1 << 20) + size {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes.extend_from_slice(WORDS[(random % 16) as usize].as_bytes());
            bytes.extend_from_slice(format!("\":{},\"", random >> 44).as_bytes());
        }
        Values { bytes, size }
    }

    fn get(&self, i: i64) -> &[u8] {
        let start = (i as usize).wrapping_mul(self.size) % (1 << 20);
        &self.bytes[start..start + self.size]
    }
}
