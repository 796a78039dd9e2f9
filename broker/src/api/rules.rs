//! What a topic asks of a batch that only its records can tell, and the batch as the topic wants it.
//!
//! Versions: of no request, it is a part of Produce. Honoured: `message.timestamp.before.max.ms` and `.after.max.ms`, keys in
//! compacted topics, `compression.type` with its levels. It runs without the lock of the cluster, and only for batches that
//! must be opened.

use super::produce::refused;
use crate::core::settings::{TimestampType, TopicSettings};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::ProduceRecordError;
use ottla_protocol::records::{
    Batch, BatchHeader, Codec, Compressor, DECOMPRESSED_BYTES_MAX, Decompressor, recompress,
};
use ottla_protocol::wire::Str;
use std::ops::RangeInclusive;

/// Why a batch was refused: a code, a sentence for the log of the client, and the records that are to blame.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused {
    pub(super) code: ErrorCode,
    pub(super) message: Option<Str>,
    pub(super) records: Vec<ProduceRecordError>,
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Refused {
    pub(super) fn saying(code: ErrorCode, message: Str) -> Self {
        Self { code, message: Some(message), records: Vec::new() }
    }
}

/// See the head of the module. By default a batch is as it should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rules {
    times: Option<RangeInclusive<i64>>,
    /// The partition, for the error, if every record must have a key.
    keyed: Option<String>,
    codec: Option<Codec>,
}

impl Rules {
    pub(super) fn of(
        settings: &TopicSettings,
        header: &BatchHeader,
        now_ms: i64,
        partition: impl FnOnce() -> String,
    ) -> Self {
        let earliest = now_ms.saturating_sub(settings.timestamp_before_max_ms);
        let latest = now_ms.saturating_add(settings.timestamp_after_max_ms);
        let by_producer = settings.timestamp_type == TimestampType::CreateTime;
        // The header bounds the times from above only.
        let must_look = settings.timestamp_before_max_ms < i64::MAX || header.max_timestamp > latest;
        Self {
            times: (by_producer && must_look).then_some(earliest..=latest),
            keyed: settings.compacts.then(partition),
            codec: settings.codec.filter(|codec| codec.compression() != header.compression),
        }
    }

    pub(super) fn obeyed(&self, batch: Batch) -> Result<Batch, Refused> {
        let mut decompressor = Decompressor::new();
        if self.times.is_some() || self.keyed.is_some() {
            self.check(batch.clone(), &mut decompressor)?;
        }
        let Some(codec) = self.codec else { return Ok(batch) };
        let rewritten = recompress(batch, codec, &mut decompressor, &mut Compressor::new());
        rewritten.and_then(Batch::parse).map_err(refused)
    }

    fn check(&self, batch: Batch, decompressor: &mut Decompressor) -> Result<(), Refused> {
        let mut open = batch.open(decompressor, DECOMPRESSED_BYTES_MAX).map_err(refused)?;
        let (mut early_or_late, mut keyless, mut index) = (Vec::new(), Vec::new(), 0);
        while let Some(record) = open.next().map_err(refused)? {
            let blame = |message: String| ProduceRecordError {
                batch_index: index,
                batch_index_error_message: Some(Str::from(message)),
            };
            if let Some(partition) = self.keyed.as_ref().filter(|_| record.key.is_none()) {
                keyless.push(blame(format!(
                    "Compacted topic cannot accept message without key in topic partition {partition}."
                )));
            }
            // -1 is no time at all.
            let time = record.timestamp;
            if let Some(times) = self.times.as_ref().filter(|it| time != -1 && !it.contains(&time)) {
                let (from, to) = (times.start(), times.end());
                early_or_late.push(blame(format!(
                    "Timestamp {time} of message with offset {index} is out of range. The timestamp should be within [{from}, {to}]"
                )));
            }
            index += 1;
        }
        let (code, reason, records) = match keyless.is_empty() {
            false => (ErrorCode::INVALID_RECORD, "one or more records have been rejected", keyless),
            true if !early_or_late.is_empty() => {
                let reason = "one or more records have been rejected due to invalid timestamp";
                (ErrorCode::INVALID_TIMESTAMP, reason, early_or_late)
            }
            true => return Ok(()),
        };
        Err(Refused { code, message: Some(Str::from_static(reason)), records })
    }
}
