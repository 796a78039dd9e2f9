//! The LZ4 frame format around lz4_flex's blocks, so that blocks go straight into the reader's buffer.
//!
//! Written: one frame of independent 64 KiB blocks without checksums, as Kafka's clients do; the batch has its own
//! checksum. Read: any frame without a dictionary, with linked blocks and checksums too. The invariant: room is made for
//! what the bytes at hand can become at most, never for what they say.

use super::compress::{Compression, CompressionError, append, corrupt, failed};
use super::record::Reader;
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};
use std::hash::Hasher;
use twox_hash::XxHash32;

const MAGIC: u32 = 0x184d_2204;
const VERSION_MASK: u8 = 0xc0;
const VERSION: u8 = 0x40;
const BLOCKS_INDEPENDENT: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
const RESERVED_OR_DICTIONARY: u8 = 0x03;
/// The bit of a block's length that says that the block is stored, not compressed.
const STORED: u32 = 1 << 31;
/// How far back a block may refer.
const WINDOW: usize = 64 << 10;
/// One byte of a compressed block stands for at most 255 bytes.
const EXPANSION: usize = 255;

/// Frame header: magic, independent blocks of 64 KiB, and the checksum of these two bytes.
const FRAME_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, VERSION | BLOCKS_INDEPENDENT, 0x40, 0x82];

/// Writes frames, keeping its hash table.
#[derive(Default)]
pub(super) struct Encoder {
    table: Option<CompressTable>,
}

impl Encoder {
    pub(super) fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), CompressionError> {
        let table = self.table.get_or_insert_default();
        output.extend_from_slice(&FRAME_HEADER);
        for block in input.chunks(WINDOW) {
            let start = output.len();
            output.extend_from_slice(&[0; 4]);
            let bound = get_maximum_output_size(block.len());
            let written = append(output, bound, |room| compress_into_with_table(block, room, table))
                .map_err(|error| failed(Compression::Lz4, &error))?;
            // Both are lengths of a block, at most 64 KiB.
            let mut length = written as u32;
            if written >= block.len() {
                output.truncate(start + 4);
                output.extend_from_slice(block);
                length = block.len() as u32 | STORED;
            }
            output[start..start + 4].copy_from_slice(&length.to_le_bytes());
        }
        output.extend_from_slice(&[0; 4]);
        Ok(())
    }
}

/// Whether the checksum of a frame's header must hold. Kafka wrote a wrong one in messages of magic 0 and 1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderChecksum {
    Checked,
    Ignored,
}

/// Reads one frame, appending to `output`.
pub(super) fn decode(
    input: &[u8],
    header_checksum: HeaderChecksum,
    bytes_max: usize,
    output: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let lied = |what| corrupt(Compression::Lz4, &what);
    let mut reader = Reader(input);
    let frame = Frame::read(&mut reader, header_checksum).map_err(lied)?;
    let start = output.len();
    loop {
        let word = u32::from_le_bytes(reader.array().map_err(|_| lied("it ends within a frame"))?);
        if word == 0 {
            break;
        }
        // A u32 fits.
        let length = (word & !STORED) as usize;
        let block = reader.take(length).map_err(|_| lied("it ends within a block"))?;
        if frame.flags & BLOCK_CHECKSUMS != 0 {
            frame.check(&mut reader, block).map_err(lied)?;
        }
        if length > frame.block_bytes {
            return Err(lied("a block is larger than its frame allows"));
        }
        if word & STORED != 0 {
            output.extend_from_slice(block);
        } else {
            frame.decode_block(block, start, output).map_err(|error| corrupt(Compression::Lz4, &error))?;
        }
        if output.len() - start > bytes_max {
            return Err(CompressionError::TooLarge { compression: Compression::Lz4, bytes_max });
        }
    }
    if frame.flags & CONTENT_CHECKSUM != 0 {
        frame.check(&mut reader, &output[start..]).map_err(lied)?;
    }
    if !reader.0.is_empty() {
        return Err(lied("bytes follow its frame"));
    }
    Ok(())
}

struct Frame {
    flags: u8,
    block_bytes: usize,
}

impl Frame {
    fn read(reader: &mut Reader<'_>, header_checksum: HeaderChecksum) -> Result<Frame, &'static str> {
        let short = |_| "it ends within the frame header";
        if u32::from_le_bytes(reader.array().map_err(short)?) != MAGIC {
            return Err("it does not begin as a frame does");
        }
        let descriptor = reader.0;
        let [flags, block] = reader.array().map_err(short)?;
        if flags & VERSION_MASK != VERSION {
            return Err("its frame version is unknown");
        }
        if flags & RESERVED_OR_DICTIONARY != 0 {
            return Err("it needs a dictionary");
        }
        let block_bytes = match block >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err("its block size is unknown"),
        };
        if flags & CONTENT_SIZE != 0 {
            reader.take(8).map_err(short)?;
        }
        let descriptor = &descriptor[..descriptor.len() - reader.0.len()];
        let [stored] = reader.array().map_err(short)?;
        if header_checksum == HeaderChecksum::Checked && stored != xxhash(descriptor).to_be_bytes()[2] {
            return Err("the checksum of its frame header is wrong");
        }
        Ok(Frame { flags, block_bytes })
    }

    fn check(&self, reader: &mut Reader<'_>, bytes: &[u8]) -> Result<(), &'static str> {
        let stored = u32::from_le_bytes(reader.array().map_err(|_| "it ends within a checksum")?);
        if stored == xxhash(bytes) { Ok(()) } else { Err("a checksum is wrong") }
    }

    /// `start` is where the frame begins in `output`: linked blocks may refer back to there.
    fn decode_block(
        &self,
        block: &[u8],
        start: usize,
        output: &mut Vec<u8>,
    ) -> Result<usize, lz4_flex::block::DecompressError> {
        let bound = self.block_bytes.min(block.len().saturating_mul(EXPANSION));
        if self.flags & BLOCKS_INDEPENDENT != 0 {
            return append(output, bound, |room| decompress_into(block, room));
        }
        let end = output.len();
        let from = start.max(end.saturating_sub(WINDOW));
        output.resize(end + bound, 0);
        let (before, room) = output.split_at_mut(end);
        let written = decompress_into_with_dict(block, room, &before[from..]);
        output.truncate(end + *written.as_ref().unwrap_or(&0));
        written
    }
}

fn xxhash(bytes: &[u8]) -> u32 {
    let mut hasher = XxHash32::with_seed(0);
    hasher.write(bytes);
    // A 32-bit hash in a 64-bit return type.
    hasher.finish() as u32
}
