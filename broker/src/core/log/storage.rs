//! Where a log keeps its bytes: in memory, or wherever else an implementation of [`Storage`] puts them.
//!
//! A storage knows segments by their base offsets and bytes by their positions; it refuses to know what a batch is, but for
//! one thing: what was appended at once is read at once.
//!
//! Invariant (memory): the pieces of a segment and then its open chunk cover every position, without a gap.

use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;

/// Where the logs of a broker are kept.
pub(crate) trait Storages: fmt::Debug + Send {
    /// The storage of one partition, with what it held before.
    fn open(&self, topic: &str, index: i32) -> Box<dyn Storage>;

    /// What administrators know the place by.
    fn name(&self) -> String;

    /// Whether anything is left when the broker ends.
    fn is_durable(&self) -> bool;
}

/// In memory, and gone with the broker.
#[derive(Debug, Default)]
pub(crate) struct InMemory;

impl Storages for InMemory {
    fn open(&self, _: &str, _: i32) -> Box<dyn Storage> {
        Box::new(Memory::default())
    }

    fn name(&self) -> String {
        "memory".to_string()
    }

    fn is_durable(&self) -> bool {
        false
    }
}

/// The bytes of one log, by segment.
pub(crate) trait Storage: fmt::Debug + Send {
    /// The segments that there are, and how long they are.
    fn segments(&self) -> io::Result<BTreeMap<i64, u64>>;

    /// Makes an empty segment.
    fn create(&mut self, segment: i64) -> io::Result<()>;

    /// Appends a copy of `batch` that `stamp` has changed. On an error the segment is as it was.
    fn append(&mut self, segment: i64, batch: &[u8], stamp: &mut dyn FnMut(&mut [u8])) -> io::Result<()>;

    /// `length` bytes from `position`, or fewer, but whatever was appended at once is whole.
    fn read(&mut self, segment: i64, position: u64, length: usize) -> io::Result<Bytes>;

    /// Cuts the end of a segment off.
    fn truncate(&mut self, segment: i64, length: u64) -> io::Result<()>;

    /// Returns when what was appended to a segment survives the loss of power.
    fn flush(&mut self, segment: i64) -> io::Result<()>;

    /// Puts other bytes in the place of a segment's, wholly or not at all.
    fn replace(&mut self, segment: i64, batches: &[Bytes]) -> io::Result<()>;

    /// Forgets a segment.
    fn remove(&mut self, segment: i64) -> io::Result<()>;

    /// Forgets the log: it is not used any more.
    fn remove_all(&mut self) -> io::Result<()>;
}

/// A piece at least this large is handed out alone, without gathering its neighbours into one copy.
const PIECE_WORTH_SENDING_ALONE: usize = 64 * 1024;
const FIRST_CHUNK: usize = 4 * 1024;
const LARGEST_CHUNK: usize = 1024 * 1024;

/// A log in memory. Appending copies a batch once, out of the request into the open chunk, so that a log never pins the
/// network buffer that a batch came in. Reading hands out slices of chunks and copies only when a run of batches lies in many
/// small pieces.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    segments: BTreeMap<i64, Chunks>,
    next_chunk: usize,
}

#[derive(Debug, Default)]
struct Chunks {
    /// Frozen bytes by their position; an open chunk is frozen bit by bit, as it is read.
    pieces: VecDeque<(u64, Bytes)>,
    open: BytesMut,
    /// The position at which `open` begins.
    open_at: u64,
}

impl Storage for Memory {
    fn segments(&self) -> io::Result<BTreeMap<i64, u64>> {
        let length = |chunks: &Chunks| chunks.open_at + chunks.open.len() as u64;
        Ok(self.segments.iter().map(|(segment, chunks)| (*segment, length(chunks))).collect())
    }

    fn create(&mut self, segment: i64) -> io::Result<()> {
        // The room left in the last one's chunk would be kept for nothing.
        if let Some(mut last) = self.segments.last_entry() {
            last.get_mut().freeze();
            last.get_mut().open = BytesMut::new();
        }
        self.segments.insert(segment, Chunks::default());
        Ok(())
    }

    fn append(&mut self, segment: i64, batch: &[u8], stamp: &mut dyn FnMut(&mut [u8])) -> io::Result<()> {
        let chunks = self.segments.entry(segment).or_default();
        if chunks.open.capacity() - chunks.open.len() < batch.len() {
            chunks.freeze();
            let chunk = self.next_chunk.clamp(FIRST_CHUNK, LARGEST_CHUNK);
            chunks.open = BytesMut::with_capacity(chunk.max(batch.len()));
            self.next_chunk = chunk * 2;
        }
        let start = chunks.open.len();
        chunks.open.extend_from_slice(batch);
        stamp(&mut chunks.open[start..]);
        Ok(())
    }

    fn read(&mut self, segment: i64, position: u64, length: usize) -> io::Result<Bytes> {
        let chunks = self.segments.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        Ok(chunks.read(position, length))
    }

    fn truncate(&mut self, segment: i64, length: u64) -> io::Result<()> {
        let chunks = self.segments.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        let left = chunks.read(0, usize::try_from(length).unwrap_or(usize::MAX));
        self.replace(segment, &[left])
    }

    fn flush(&mut self, _: i64) -> io::Result<()> {
        Ok(())
    }

    fn replace(&mut self, segment: i64, batches: &[Bytes]) -> io::Result<()> {
        let mut all = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
        batches.iter().for_each(|batch| all.extend_from_slice(batch));
        let all = all.freeze();
        let open_at = all.len() as u64;
        let chunks = Chunks { pieces: VecDeque::from([(0, all)]), open: BytesMut::new(), open_at };
        self.segments.insert(segment, chunks);
        Ok(())
    }

    fn remove(&mut self, segment: i64) -> io::Result<()> {
        self.segments.remove(&segment);
        Ok(())
    }

    fn remove_all(&mut self) -> io::Result<()> {
        self.segments.clear();
        Ok(())
    }
}

impl Chunks {
    fn read(&mut self, position: u64, length: usize) -> Bytes {
        if position + length as u64 > self.open_at {
            self.freeze();
        }
        let index = self.pieces.partition_point(|(at, bytes)| at + bytes.len() as u64 <= position);
        let Some((at, piece)) = self.pieces.get(index) else { return Bytes::new() };
        let start = usize::try_from(position - at).expect("a position within a piece");
        let here = piece.slice(start..piece.len().min(start + length));
        if here.len() == length || here.len() >= PIECE_WORTH_SENDING_ALONE {
            return here;
        }
        let mut gathered = BytesMut::with_capacity(length);
        gathered.extend_from_slice(&here);
        for (_, piece) in self.pieces.range(index + 1..) {
            let missing = length - gathered.len();
            if missing == 0 {
                break;
            }
            gathered.extend_from_slice(&piece[..piece.len().min(missing)]);
        }
        gathered.freeze()
    }

    /// Makes what is in the open chunk readable without a copy. The rest of the chunk's room stays writable.
    fn freeze(&mut self) {
        if !self.open.is_empty() {
            let piece = self.open.split().freeze();
            let length = piece.len() as u64;
            self.pieces.push_back((self.open_at, piece));
            self.open_at += length;
        }
    }
}
