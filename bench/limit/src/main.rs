//! What this machine allows: thread time a record of the steps that no Kafka client can leave out, written as plainly as
//! they can be. A client is judged against other clients; these figures say how far there is to go.
//!
//! Batches of 128 KiB in format 2, the values of the benchmark, no keys. One line of JSON a step, medians of seven.
//! Reading and writing are those of a loopback socket with a thread at its other end that does nothing else.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use nix::time::{ClockId, clock_gettime};
use workload::{Values, fold};

const BATCH_BYTES: usize = 128 << 10;
const HEADER_BYTES: usize = 61;
const REPETITIONS: usize = 7;

fn main() -> std::io::Result<()> {
    for size in [100, 1024] {
        produce(size)?;
        consume(size)?;
    }
    Ok(())
}

fn produce(size: usize) -> std::io::Result<()> {
    let values = Values::new(size, u64::MAX);
    let records = (50_000_000 / size) as u64;
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    let mut step = |name: &str, then: &mut dyn FnMut(&mut Vec<u8>) -> std::io::Result<()>| {
        measure(name, size, &mut || {
            let mut next = 0;
            while next < records {
                fill(&mut batch, &values, &mut next);
                then(&mut batch)?;
            }
            Ok(next)
        })
    };
    step("encode", &mut |batch| {
        black_box(&batch[..]);
        Ok(())
    })?;
    step("encode + CRC", &mut |batch| {
        seal(batch);
        black_box(&batch[..]);
        Ok(())
    })?;
    let mut socket = sink()?;
    step("encode + CRC + write", &mut |batch| {
        seal(batch);
        socket.write_all(batch)
    })
}

fn consume(size: usize) -> std::io::Result<()> {
    let values = Values::new(size, u64::MAX);
    let (mut batches, mut next, mut bytes) = (Vec::new(), 0, 0);
    while bytes < 8 << 20 {
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        fill(&mut batch, &values, &mut next);
        seal(&mut batch);
        bytes += batch.len();
        batches.push(batch);
    }
    measure("iterate", size, &mut || {
        batches.iter().for_each(|batch| iterate(batch, |value| _ = black_box(value.len())));
        Ok(next)
    })?;
    measure("CRC + iterate", size, &mut || {
        for batch in &batches {
            black_box(crc(batch));
            iterate(batch, |value| _ = black_box(value.len()));
        }
        Ok(next)
    })?;
    let mut socket = source(batches.concat())?;
    let mut buffer = vec![0; BATCH_BYTES];
    measure("read + CRC + iterate + xor", size, &mut || {
        let mut sum = 0;
        for batch in &batches {
            let buffer = &mut buffer[..batch.len()];
            socket.read_exact(buffer)?;
            assert_eq!(crc(buffer).to_be_bytes(), buffer[17..21], "the bytes are those that were written");
            iterate(buffer, |value| sum ^= fold(value));
        }
        black_box(sum);
        Ok(next)
    })
}

/// Prints the thread time a record of a step that says how many records it did.
fn measure(name: &str, size: usize, step: &mut dyn FnMut() -> std::io::Result<u64>) -> std::io::Result<()> {
    step()?;
    let mut costs = Vec::with_capacity(REPETITIONS);
    for _ in 0..REPETITIONS {
        let start = thread_ns();
        let records = step()?;
        costs.push((thread_ns() - start) as f64 / records as f64);
    }
    costs.sort_by(f64::total_cmp);
    println!("{{\"step\":\"{name}\",\"size\":{size},\"ns\":{:.1}}}", costs[REPETITIONS / 2]);
    Ok(())
}

fn thread_ns() -> i64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux counts the time of each thread");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

/// Fills a batch with records from `next` on.
fn fill(batch: &mut Vec<u8>, values: &Values, next: &mut u64) {
    batch.clear();
    batch.resize(HEADER_BYTES, 0);
    let mut count: i32 = 0;
    while batch.len() + values.get(*next).len() + 16 <= BATCH_BYTES {
        encode(batch, i64::from(count), i64::from(count / 100), values.get(*next));
        count += 1;
        *next += 1;
    }
    let length = batch.len() as i32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
}

#[inline]
fn encode(batch: &mut Vec<u8>, offset_delta: i64, timestamp_delta: i64, value: &[u8]) {
    let length = value.len() as i64;
    let body =
        3 + varint_bytes(timestamp_delta) + varint_bytes(offset_delta) + varint_bytes(length) + value.len();
    let mut front = [0; 40];
    let mut end = 0;
    varint(&mut front, &mut end, body as i64);
    end += 1; // attributes
    varint(&mut front, &mut end, timestamp_delta);
    varint(&mut front, &mut end, offset_delta);
    varint(&mut front, &mut end, -1); // no key
    varint(&mut front, &mut end, length);
    batch.extend_from_slice(&front[..end]);
    batch.extend_from_slice(value);
    batch.push(0); // no headers
}

#[inline]
fn varint(out: &mut [u8], end: &mut usize, value: i64) {
    let mut zigzag = (value << 1 ^ value >> 63) as u64;
    while zigzag >= 0x80 {
        out[*end] = zigzag as u8 | 0x80;
        *end += 1;
        zigzag >>= 7;
    }
    out[*end] = zigzag as u8;
    *end += 1;
}

#[inline]
fn varint_bytes(value: i64) -> usize {
    let zigzag = (value << 1 ^ value >> 63) as u64 | 1;
    (70 - zigzag.leading_zeros() as usize) / 7
}

fn iterate(batch: &[u8], mut each: impl FnMut(&[u8])) {
    let mut at = HEADER_BYTES;
    while at < batch.len() {
        let body = read_varint(batch, &mut at);
        let end = at + body as usize;
        at += 1;
        read_varint(batch, &mut at);
        read_varint(batch, &mut at);
        let key = read_varint(batch, &mut at);
        at += key.max(0) as usize;
        let value = read_varint(batch, &mut at) as usize;
        each(&batch[at..at + value]);
        at = end;
    }
}

#[inline]
fn read_varint(bytes: &[u8], at: &mut usize) -> i64 {
    let (mut zigzag, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        }
        shift += 7;
    }
}

fn seal(batch: &mut [u8]) {
    let crc = crc(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn crc(batch: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32
}

/// A connection to a thread that throws away what it reads.
fn sink() -> std::io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    let (mut other, _) = listener.accept()?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while other.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
    });
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A connection to a thread that writes `bytes` again and again.
fn source(bytes: Vec<u8>) -> std::io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    let (mut other, _) = listener.accept()?;
    std::thread::spawn(move || while other.write_all(&bytes).is_ok() {});
    Ok(socket)
}
