//! Compression of a batch's records: the codecs, their levels, and the writing half.
//!
//! A [`Codec`] is a promise that was checked: what it names is compiled in and the level exists. A [`Compressor`] keeps
//! its contexts and buffers from batch to batch. Refuses to know when compression pays.

use super::batch::HEADER_BYTES;
use super::lz4;
use bytes::{BufMut, BytesMut};
use flate2::{Compress, FlushCompress, Status};
use std::fmt;
use std::str::FromStr;

/// How the records of a batch are compressed. The numbers are those of the batch attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy, in the framing of xerial's snappy-java.
    Snappy,
    /// LZ4, in its frame format.
    Lz4,
    /// Zstandard (RFC 8878). From Kafka 2.1 on (KIP-110).
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The number that stands for it in batch attributes.
    pub fn id(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// What the number stands for, if for anything.
    pub fn from_id(id: i16) -> Option<Compression> {
        Compression::ALL.into_iter().find(|compression| i16::from(compression.id()) == id)
    }

    /// The name in Kafka's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    /// Reads the name in Kafka's configuration.
    fn from_str(name: &str) -> Result<Compression, CompressionError> {
        let found = Compression::ALL.into_iter().find(|compression| compression.name() == name);
        found.ok_or_else(|| CompressionError::Unknown { name: name.to_owned() })
    }
}

/// What is wrong with a codec's configuration, or with bytes that it was to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// No codec has this name.
    #[error("unknown compression '{name}': it is one of none, gzip, snappy, lz4 and zstd")]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The codec cannot write in this build.
    #[error("{compression} is not compiled in: build with the feature '{feature}'")]
    NotCompiled {
        /// The codec asked for.
        compression: Compression,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },
    /// The codec has no such level.
    #[error("{compression} has no level {level}: {allowed}")]
    Level {
        /// The codec asked for.
        compression: Compression,
        /// The level asked for.
        level: i32,
        /// What would be possible.
        allowed: &'static str,
    },
    /// The bytes are not what the codec writes.
    #[error("{compression} data is corrupt: {reason}")]
    Corrupt {
        /// The codec that was to read.
        compression: Compression,
        /// What it met.
        reason: String,
    },
    /// The bytes decompress to more than was allowed.
    #[error("{compression} data is larger than {bytes_max} bytes when decompressed")]
    TooLarge {
        /// The codec that was reading.
        compression: Compression,
        /// The limit.
        bytes_max: usize,
    },
    /// The codec failed to write, for want of memory for example.
    #[error("{compression} failed to compress: {reason}")]
    Failed {
        /// The codec that was writing.
        compression: Compression,
        /// What it says.
        reason: String,
    },
}

/// A codec and its level, known to be possible in this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codec {
    compression: Compression,
    level: i32,
}

impl Codec {
    /// No compression.
    pub const NONE: Codec = Codec { compression: Compression::None, level: 0 };

    /// Checks that this build can write the codec at this level (KIP-390); no level is the codec's default.
    ///
    /// | codec | levels | default |
    /// |---|---|---|
    /// | gzip | -1 (zlib's own choice), 1 to 9 | -1 |
    /// | lz4 | 9, Java's number for the fast compressor | 9 |
    /// | zstd | -131072 to 22 | 3 |
    /// | none, snappy | have none | |
    ///
    /// # Errors
    /// [`CompressionError::Level`] or [`CompressionError::NotCompiled`].
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Codec, CompressionError> {
        if compression == Compression::Zstd && !cfg!(feature = "zstd") {
            return Err(CompressionError::NotCompiled { compression, feature: "zstd" });
        }
        let (default, allowed) = match compression {
            Compression::None | Compression::Snappy => (0, "it has no levels"),
            Compression::Gzip => (-1, "its levels are 1 to 9, and -1 for the default"),
            Compression::Lz4 => {
                (9, "other levels than 9 need the feature 'lz4-hc', which is not in this build")
            }
            Compression::Zstd => (3, "its levels are -131072 to 22"),
        };
        let possible = |level| match compression {
            Compression::None | Compression::Snappy => false,
            Compression::Gzip => level == default || (1..=9).contains(&level),
            Compression::Lz4 => level == default,
            Compression::Zstd => (-131_072..=22).contains(&level),
        };
        match level {
            None => Ok(Codec { compression, level: default }),
            Some(level) if possible(level) => Ok(Codec { compression, level }),
            Some(level) => Err(CompressionError::Level { compression, level, allowed }),
        }
    }

    /// The codec.
    pub fn compression(self) -> Compression {
        self.compression
    }

    /// Its level; 0 where it has none.
    pub fn level(self) -> i32 {
        self.level
    }
}

impl Default for Codec {
    fn default() -> Codec {
        Codec::NONE
    }
}

/// Writes compressed batches, keeping contexts and buffers for the next one.
///
/// ```
/// use bytes::BytesMut;
/// use ottla_protocol::records::{BatchBuilder, Codec, Compression, Compressor, Stamp, stamp};
///
/// let codec = Codec::new(Compression::Lz4, None)?;
/// let mut compressor = Compressor::new();
///
/// let mut builder = BatchBuilder::new(BytesMut::new(), 0);
/// builder.append(0, None, Some(&[7; 1000]), &[])?;
/// let mut batch = compressor.compress(codec, builder.body())?;
/// let (_, fields) = builder.into_parts();
/// stamp(&mut batch, &Stamp { compression: codec.compression(), ..fields })?;
/// assert!(batch.len() < 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Compressor {
    output: Vec<u8>,
    gzip: Option<(i32, Compress)>,
    snappy: Option<snap::raw::Encoder>,
    lz4: lz4::Encoder,
    #[cfg(feature = "zstd")]
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
}

impl Compressor {
    /// A compressor that has nothing allocated yet.
    pub fn new() -> Compressor {
        Compressor::default()
    }

    /// Compresses the body of a batch into a buffer of its own, with [`HEADER_BYTES`] spare bytes in front for
    /// [`stamp()`](super::stamp()). [`Codec::NONE`] copies.
    ///
    /// # Errors
    /// [`CompressionError::Failed`] if the codec does.
    pub fn compress(&mut self, codec: Codec, body: &[u8]) -> Result<BytesMut, CompressionError> {
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        let result = self.compress_into(codec, body, &mut output).map(|()| {
            let mut batch = BytesMut::with_capacity(HEADER_BYTES + output.len());
            batch.put_bytes(0, HEADER_BYTES);
            batch.put_slice(&output);
            batch
        });
        self.output = output;
        result
    }

    /// Compresses the body of a batch where it stands, behind the spare bytes of its header, if that makes it smaller;
    /// says whether it did. The buffer keeps its capacity, so that the next batch can be built in it without growing it.
    ///
    /// # Errors
    /// [`CompressionError::Failed`] if the codec does; the batch is then as it was.
    pub fn compress_in_place(
        &mut self,
        codec: Codec,
        batch: &mut BytesMut,
    ) -> Result<bool, CompressionError> {
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        let body = batch.get(HEADER_BYTES..).unwrap_or_default();
        let result = self.compress_into(codec, body, &mut output);
        let smaller = result.is_ok() && output.len() < body.len();
        if smaller {
            batch.truncate(HEADER_BYTES);
            batch.extend_from_slice(&output);
        }
        self.output = output;
        result.map(|()| smaller)
    }

    /// Compresses anything, appending to `output`.
    ///
    /// # Errors
    /// [`CompressionError::Failed`] if the codec does.
    pub fn compress_into(
        &mut self,
        codec: Codec,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        match codec.compression {
            Compression::None => output.extend_from_slice(input),
            Compression::Gzip => self.gzip(codec, input, output)?,
            Compression::Snappy => self.snappy(input, output)?,
            Compression::Lz4 => self.lz4.encode(input, output)?,
            Compression::Zstd => self.zstd(codec, input, output)?,
        }
        Ok(())
    }

    fn gzip(&mut self, codec: Codec, mut input: &[u8], output: &mut Vec<u8>) -> Result<(), CompressionError> {
        let (_, context) = match &mut self.gzip {
            Some(kept) if kept.0 == codec.level => kept,
            kept => {
                let level =
                    u32::try_from(codec.level).map_or_else(|_| Default::default(), flate2::Compression::new);
                kept.insert((codec.level, Compress::new_gzip(level, GZIP_WINDOW_BITS)))
            }
        };
        context.reset();
        loop {
            output.reserve(input.len() / 2 + 1024);
            let before = context.total_in();
            let status = context
                .compress_vec(input, output, FlushCompress::Finish)
                .map_err(|error| failed(Compression::Gzip, &error))?;
            // What one call took cannot be longer than what it was given.
            let taken = (context.total_in() - before) as usize;
            input = input.get(taken..).unwrap_or_default();
            if status == Status::StreamEnd {
                return Ok(());
            }
        }
    }

    /// The framing of snappy-java: a header, then blocks, each behind its length.
    fn snappy(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), CompressionError> {
        let encoder = self.snappy.get_or_insert_with(snap::raw::Encoder::new);
        output.extend_from_slice(&XERIAL_HEADER);
        for block in input.chunks(SNAPPY_BLOCK_BYTES) {
            let start = output.len();
            output.extend_from_slice(&[0; 4]);
            let bound = snap::raw::max_compress_len(block.len());
            let written = append(output, bound, |room| encoder.compress(block, room))
                .map_err(|error| failed(Compression::Snappy, &error))?;
            // A block's bound is far below 2^32.
            output[start..start + 4].copy_from_slice(&(written as u32).to_be_bytes());
        }
        Ok(())
    }

    #[cfg(feature = "zstd")]
    fn zstd(&mut self, codec: Codec, input: &[u8], output: &mut Vec<u8>) -> Result<(), CompressionError> {
        let (_, context) = match &mut self.zstd {
            Some(kept) if kept.0 == codec.level => kept,
            kept => {
                let context = zstd::bulk::Compressor::new(codec.level);
                kept.insert((codec.level, context.map_err(|error| failed(Compression::Zstd, &error))?))
            }
        };
        append(output, zstd::zstd_safe::compress_bound(input.len()), |room| {
            context.compress_to_buffer(input, room)
        })
        .map_err(|error| failed(Compression::Zstd, &error))?;
        Ok(())
    }

    #[cfg(not(feature = "zstd"))]
    fn zstd(&mut self, codec: Codec, _: &[u8], _: &mut Vec<u8>) -> Result<(), CompressionError> {
        Err(CompressionError::NotCompiled { compression: codec.compression, feature: "zstd" })
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// zlib's largest window, which is what gzip has.
pub(super) const GZIP_WINDOW_BITS: u8 = 15;

/// Magic, version 1, readable from version 1 on.
pub(super) const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";

/// Snappy compresses in blocks of this size whatever it is given; smaller ones would only compress worse.
const SNAPPY_BLOCK_BYTES: usize = 64 << 10;

/// Lets `write` fill room for at most `bound` bytes behind `output`, and keeps as many as it says.
pub(super) fn append<E>(
    output: &mut Vec<u8>,
    bound: usize,
    write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) -> Result<usize, E> {
    let start = output.len();
    output.resize(start + bound, 0);
    let written = write(&mut output[start..]);
    output.truncate(start + *written.as_ref().unwrap_or(&0));
    written
}

#[cold]
pub(super) fn failed(compression: Compression, error: &dyn fmt::Display) -> CompressionError {
    CompressionError::Failed { compression, reason: error.to_string() }
}

#[cold]
pub(super) fn corrupt(compression: Compression, reason: &dyn fmt::Display) -> CompressionError {
    CompressionError::Corrupt { compression, reason: reason.to_string() }
}
