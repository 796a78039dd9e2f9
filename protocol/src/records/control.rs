//! Control records: how a partition says that a transaction ended.
//!
//! A control batch holds one record, whose key is a version and a type. Refuses to know of transactions themselves.

use super::RecordError;
use super::record::{Reader, Record};

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlKind {
    /// The producer's open transaction was aborted.
    Abort,
    /// The producer's open transaction was committed.
    Commit,
    /// Something else, such as the records of a quorum; a reader of the partition skips it.
    Unknown(i16),
}

/// The key of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ControlRecord {
    /// Version of the key. A later one than 0 still begins with these two fields.
    pub version: i16,
    /// What it says.
    pub kind: ControlKind,
}

impl ControlRecord {
    /// Reads the key of a control batch's record.
    ///
    /// # Errors
    /// If there is no key, or its version is negative or missing.
    pub fn parse(record: &Record<'_>, base_offset: i64) -> Result<ControlRecord, RecordError> {
        let lied = |what| RecordError::Record { base_offset, index: 0, what };
        let mut key = Reader(record.key.ok_or_else(|| lied("is a control record without a key"))?);
        let version = i16::from_be_bytes(key.array().map_err(lied)?);
        if version < 0 {
            return Err(lied("is a control record of a negative version"));
        }
        let kind = match i16::from_be_bytes(key.array().map_err(lied)?) {
            0 => ControlKind::Abort,
            1 => ControlKind::Commit,
            other => ControlKind::Unknown(other),
        };
        Ok(ControlRecord { version, kind })
    }

    /// Key and value of the record that ends a transaction, by the coordinator of that epoch.
    pub fn end_of_transaction(committed: bool, coordinator_epoch: i32) -> ([u8; 4], [u8; 6]) {
        let mut value = [0; 6];
        value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
        ([0, 0, 0, u8::from(committed)], value)
    }
}
