//! Record batches: what travels inside Produce and Fetch, and what a log is made of.
//!
//! A producer appends records to a [`BatchBuilder`], perhaps compresses its body with a [`Compressor`], and stamps the
//! header over the spare bytes in front ([`stamp()`]). A consumer cuts a record set into [`batches`], opens each one
//! ([`Batch::open`]) and is lent its records. A broker does neither: it reads the [`BatchHeader`], checks it and keeps
//! the bytes. Message sets of before Kafka 0.11 (magic 0 and 1) are read, never written.
//!
//! Knows no topic, partition, clock or socket. The invariant: bytes of a peer give records or a [`RecordError`], never a
//! panic, and a length they claim never sizes an allocation.

mod batch;
mod builder;
mod compact;
mod compress;
mod control;
mod decompress;
mod legacy;
mod lz4;
mod open;
mod record;

pub use batch::{
    Batch, BatchHeader, Batches, HEADER_BYTES, Stamp, TimestampType, add_sequence, batches, set_base_offset,
    set_leader_epoch, set_log_append_time, stamp,
};
pub use builder::BatchBuilder;
pub use compact::{recompress, retain};
pub use compress::{Codec, Compression, CompressionError, Compressor};
pub use control::{ControlKind, ControlRecord};
pub use decompress::{DECOMPRESSED_BYTES_MAX, Decompressor};
pub use open::OpenBatch;
pub use record::{Header, Headers, Record, Records};

/// Why bytes are not the record batch that they claim to be, or why a record does not fit into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Fewer bytes are here than a batch needs.
    #[error("a record batch needs {need} bytes, {have} are here")]
    Short {
        /// Bytes that the batch needs.
        need: usize,
        /// Bytes that are here.
        have: usize,
    },
    /// The format version is none of 0, 1 and 2, or not one that is allowed here.
    #[error("the batch at offset {base_offset} has magic {magic}, which is not readable here")]
    Magic {
        /// Offset in the batch's first eight bytes.
        base_offset: i64,
        /// The format version found.
        magic: i8,
    },
    /// The bytes are not those that the writer took the checksum of.
    #[error(
        "the batch at offset {base_offset} is corrupt: its checksum is {computed:#010x}, its header says {stored:#010x}"
    )]
    Checksum {
        /// Offset in the batch's first eight bytes.
        base_offset: i64,
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A field of a batch header contradicts the bytes or another field.
    #[error("the batch at offset {base_offset} {what}")]
    Header {
        /// Offset in the batch's first eight bytes.
        base_offset: i64,
        /// The contradiction, as the rest of a sentence about the batch.
        what: &'static str,
    },
    /// A record contradicts its batch or itself.
    #[error("record {index} of the batch at offset {base_offset} {what}")]
    Record {
        /// Base offset of the batch.
        base_offset: i64,
        /// Position of the record within the batch, from 0.
        index: i32,
        /// The contradiction, as the rest of a sentence about the record.
        what: &'static str,
    },
    /// The records of a batch do not decompress.
    #[error("the batch at offset {base_offset} cannot be opened: {source}")]
    Compression {
        /// Base offset of the batch.
        base_offset: i64,
        /// What the codec says.
        source: CompressionError,
    },
    /// A record does not fit into a batch, whose length is a signed 32-bit number.
    #[error("a record of {bytes} bytes does not fit into its batch")]
    TooLarge {
        /// Bytes that the record would take.
        bytes: usize,
    },
}
