//! Decompression of a batch's records: every codec, whatever this build can write, under a cap.
//!
//! Decodes as it goes into a buffer that grows with what comes out. The invariant: no size that the bytes claim is
//! trusted; a buffer grows beyond what has been written only by a factor that the codec cannot exceed, and never far
//! beyond the cap.

use super::compress::{Compression, CompressionError, GZIP_WINDOW_BITS, XERIAL_HEADER, append, corrupt};
use super::lz4::{self, HeaderChecksum};
use flate2::{Decompress, FlushDecompress, Status};
use std::fmt;

/// A cap that no honest batch meets: 64 MiB.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Reads compressed batches, keeping contexts for the next one.
#[derive(Default)]
pub struct Decompressor {
    gzip: Option<Decompress>,
    snappy: snap::raw::Decoder,
    zstd: zstandard::Decoder,
}

impl Decompressor {
    /// A decompressor that has nothing allocated yet.
    pub fn new() -> Decompressor {
        Decompressor::default()
    }

    /// Decompresses `input`, appending at most `bytes_max` bytes to `output`.
    ///
    /// On an error `output` holds what came out before it, perhaps a block beyond the cap.
    ///
    /// # Errors
    /// [`CompressionError::Corrupt`], or [`CompressionError::TooLarge`] if there is more than `bytes_max`.
    pub fn decompress(
        &mut self,
        compression: Compression,
        input: &[u8],
        bytes_max: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        self.decompress_with(compression, HeaderChecksum::Checked, input, bytes_max, output)
    }

    pub(super) fn decompress_with(
        &mut self,
        compression: Compression,
        lz4_header: HeaderChecksum,
        input: &[u8],
        bytes_max: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        let mut room = Room { compression, bytes_max, start: output.len(), output };
        match compression {
            Compression::None => {
                room.output.extend_from_slice(input);
                room.check()
            }
            Compression::Gzip => self.gzip(input, &mut room),
            Compression::Snappy => self.snappy(input, &mut room),
            Compression::Lz4 => lz4::decode(input, lz4_header, bytes_max, output),
            Compression::Zstd => self.zstd.decode(input, &mut room),
        }
    }

    /// Any number of members, one after the other.
    fn gzip(&mut self, mut input: &[u8], room: &mut Room<'_>) -> Result<(), CompressionError> {
        let context = self.gzip.get_or_insert_with(|| Decompress::new_gzip(GZIP_WINDOW_BITS));
        context.reset(true);
        loop {
            room.grow(input.len())?;
            let (taken, given) = (context.total_in(), room.output.len());
            let status = context
                .decompress_vec(input, room.output, FlushDecompress::None)
                .map_err(|error| room.corrupt(&error))?;
            // What one call took cannot be longer than what it was given.
            let taken = (context.total_in() - taken) as usize;
            input = input.get(taken..).unwrap_or_default();
            match status {
                Status::StreamEnd if input.is_empty() => return room.check(),
                Status::StreamEnd => context.reset(true),
                _ if taken == 0 && room.output.len() == given => return Err(room.corrupt(&"it ends early")),
                _ => {}
            }
        }
    }

    /// Snappy-java's framing, perhaps several such streams one after the other, or else one raw block.
    fn snappy(&mut self, input: &[u8], room: &mut Room<'_>) -> Result<(), CompressionError> {
        if !input.starts_with(&XERIAL_HEADER[..8]) {
            return self.snappy_block(input, room);
        }
        let mut rest = input;
        while !rest.is_empty() {
            if rest.starts_with(&XERIAL_HEADER[..8]) {
                // Magic, then a version and the oldest version that can read it.
                rest = rest
                    .get(XERIAL_HEADER.len()..)
                    .ok_or_else(|| room.corrupt(&"it ends within its header"))?;
                continue;
            }
            let (length, behind) =
                rest.split_first_chunk().ok_or_else(|| room.corrupt(&"it ends within a block's length"))?;
            // A u32 fits.
            let length = u32::from_be_bytes(*length) as usize;
            let (block, behind) =
                behind.split_at_checked(length).ok_or_else(|| room.corrupt(&"it ends within a block"))?;
            self.snappy_block(block, room)?;
            rest = behind;
        }
        Ok(())
    }

    fn snappy_block(&mut self, block: &[u8], room: &mut Room<'_>) -> Result<(), CompressionError> {
        let length = snap::raw::decompress_len(block).map_err(|error| room.corrupt(&error))?;
        if length > block.len().saturating_mul(SNAPPY_EXPANSION) {
            return Err(room.corrupt(&"it claims more than snappy can hold"));
        }
        if length > room.left() {
            return Err(room.too_large());
        }
        let decoder = &mut self.snappy;
        let result = append(room.output, length, |to| decoder.decompress(block, to));
        result.map(drop).map_err(|error| room.corrupt(&error))
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// Three bytes of a snappy block stand for at most 64.
const SNAPPY_EXPANSION: usize = 22;

/// The least that a buffer grows by, and the most that a codec without a bound gets ahead of its output.
const GROWTH_BYTES: usize = 16 << 10;

/// Where the output goes, and how much of it there may be.
struct Room<'a> {
    compression: Compression,
    bytes_max: usize,
    start: usize,
    output: &'a mut Vec<u8>,
}

impl Room<'_> {
    /// How many bytes may still come.
    fn left(&self) -> usize {
        (self.start + self.bytes_max).saturating_sub(self.output.len())
    }

    /// Makes room behind the output when there is none: as much again as there is, or three times the rest of the
    /// input. One byte above the cap is allowed for, which then is an error.
    fn grow(&mut self, input_left: usize) -> Result<(), CompressionError> {
        self.check()?;
        if self.output.len() == self.output.capacity() {
            let doubled =
                (self.output.len() - self.start).max(input_left.saturating_mul(3)).max(GROWTH_BYTES);
            self.output.reserve_exact(doubled.min(self.left() + 1));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), CompressionError> {
        if self.output.len() - self.start > self.bytes_max { Err(self.too_large()) } else { Ok(()) }
    }

    #[cold]
    fn too_large(&self) -> CompressionError {
        CompressionError::TooLarge { compression: self.compression, bytes_max: self.bytes_max }
    }

    #[cold]
    fn corrupt(&self, reason: &dyn fmt::Display) -> CompressionError {
        corrupt(self.compression, reason)
    }
}

/// By the C library. Its window buffer is address space until it is written to, so a frame's claim costs nothing.
#[cfg(feature = "zstd")]
mod zstandard {
    use super::{CompressionError, Room};
    use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective, get_error_name};

    #[derive(Default)]
    pub(super) struct Decoder(Option<DCtx<'static>>);

    impl Decoder {
        /// Any number of frames, one after the other.
        pub(super) fn decode(&mut self, input: &[u8], room: &mut Room<'_>) -> Result<(), CompressionError> {
            let context = match &mut self.0 {
                Some(kept) => kept,
                none => none.insert(DCtx::try_create().ok_or_else(|| room.corrupt(&"no memory to read it"))?),
            };
            let reset = context.reset(ResetDirective::SessionOnly);
            reset.map_err(|code| room.corrupt(&get_error_name(code)))?;
            let mut source = InBuffer::around(input);
            loop {
                room.grow(input.len() - source.pos())?;
                let given = room.output.len();
                let mut target = OutBuffer::around_pos(&mut *room.output, given);
                let hint = context.decompress_stream(&mut target, &mut source);
                let more = hint.map_err(|code| room.corrupt(&get_error_name(code)))? != 0;
                let all_taken = source.pos() == input.len();
                if all_taken && !more {
                    return room.check();
                }
                if all_taken && room.output.len() < room.output.capacity() {
                    return Err(room.corrupt(&"it ends early"));
                }
            }
        }
    }
}

/// By ruzstd, in pure Rust.
#[cfg(not(feature = "zstd"))]
mod zstandard {
    use super::{CompressionError, GROWTH_BYTES, Room};
    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

    #[derive(Default)]
    pub(super) struct Decoder(Option<FrameDecoder>);

    impl Decoder {
        /// Any number of frames, one after the other.
        pub(super) fn decode(&mut self, input: &[u8], room: &mut Room<'_>) -> Result<(), CompressionError> {
            let decoder = self.0.get_or_insert_with(FrameDecoder::new);
            let mut source = input;
            while !source.is_empty() {
                decoder.reset(&mut source).map_err(|error| room.corrupt(&error))?;
                while !decoder.is_finished() {
                    decoder
                        .decode_blocks(&mut source, BlockDecodingStrategy::UptoBytes(GROWTH_BYTES))
                        .map_err(|error| room.corrupt(&error))?;
                    if decoder.can_collect() > room.left() {
                        return Err(room.too_large());
                    }
                    decoder.collect_to_writer(&mut *room.output).map_err(|error| room.corrupt(&error))?;
                }
            }
            Ok(())
        }
    }
}
