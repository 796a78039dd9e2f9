//! Compaction: of the records with one key only the last stays, and of tombstones not even that, after a while.
//!
//! Closed segments are rewritten, up to the first that is still undecided or too young; offsets never change. Markers stay as
//! long as a record of their transaction does, and then, like tombstones, for `delete.retention.ms` (KIP-534). It refuses to
//! know transactions: who reads tells it which batches were aborted.
//!
//! Invariant: a record with a key goes only if a later one with that key is in the log, or was and is a tombstone whose time
//! is over.

use super::{Located, Log, Segment};
use crate::core::settings::TopicSettings;
use bytes::Bytes;
use ottla_protocol::records::{
    Batch, BatchHeader, Compressor, DECOMPRESSED_BYTES_MAX, Decompressor, Record, RecordError, retain,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// What compaction asks about a batch.
pub(crate) struct Judge<'a> {
    /// Whether its transaction was aborted.
    pub(crate) is_aborted: &'a dyn Fn(&BatchHeader) -> bool,
    /// Whether it is the last that its producer wrote, so that its sequences are still needed.
    pub(crate) is_last: &'a dyn Fn(&BatchHeader) -> bool,
}

/// One pass over a log.
struct Pass<'a> {
    judge: &'a Judge<'a>,
    /// The last offset of each key in what is compacted for the first time.
    latest: BTreeMap<Bytes, i64>,
    now_ms: i64,
    delete_retention_ms: i64,
    /// Producers of whose open transactions records were kept.
    kept: BTreeSet<i64>,
    /// Offsets of markers that went.
    gone: Vec<i64>,
    decompressor: Decompressor,
    compressor: Compressor,
}

impl Log {
    /// Up to where it could be compacted, if that is worth it: enough of it is new, or some of it has waited too long.
    pub(crate) fn compactable(&self, stable: i64, now_ms: i64, settings: &TopicSettings) -> Option<i64> {
        let closed = self.segments.len() - 1;
        let from = self.clean_until.max(self.start_offset);
        let is_ripe = |segment: &&Segment| {
            segment.base_offset < stable
                && (settings.min_compaction_lag_ms == 0
                    || segment.age_ms(now_ms) > settings.min_compaction_lag_ms)
        };
        let is_new = |index: usize| self.segments[index + 1].base_offset > from;
        let (mut clean_bytes, mut dirty_bytes, mut oldest_ms, mut until) = (0, 0, 0, None);
        for (index, segment) in self.segments.iter().take(closed).enumerate() {
            if !is_new(index) {
                clean_bytes += segment.bytes();
                continue;
            }
            if !is_ripe(&segment) {
                break;
            }
            dirty_bytes += segment.bytes();
            oldest_ms = oldest_ms.max(segment.open_ms(now_ms, now_ms));
            until = Some(self.segments[index + 1].base_offset.min(stable));
        }
        let all = clean_bytes + dirty_bytes;
        #[expect(clippy::cast_precision_loss, reason = "a ratio of bytes is compared with two digits")]
        let is_dirty = all > 0 && dirty_bytes as f64 / all as f64 >= settings.dirty_ratio_min;
        until.filter(|_| is_dirty || oldest_ms > settings.max_compaction_lag_ms)
    }

    /// Compacts what lies before `until`, which [`Log::compactable`] has named. `gone` gets the offsets of the markers that are
    /// not there any more, also when an error stops it half way.
    pub(crate) fn compact(
        &mut self,
        until: i64,
        judge: &Judge<'_>,
        now_ms: i64,
        settings: &TopicSettings,
        gone: &mut Vec<i64>,
    ) -> io::Result<()> {
        let mut pass = Pass {
            judge,
            latest: BTreeMap::new(),
            now_ms,
            delete_retention_ms: settings.delete_retention_ms,
            kept: BTreeSet::new(),
            gone: Vec::new(),
            decompressor: Decompressor::new(),
            compressor: Compressor::new(),
        };
        let from = self.clean_until.max(self.start_offset);
        let new = |at: &Located| at.entry.last_offset >= from && at.entry.base_offset < until;
        for at in self.batches().filter(new).collect::<Vec<_>>() {
            let batch = self.batch(at)?;
            pass.note(batch).map_err(corrupt)?;
        }
        let mut group: Vec<(i64, Vec<Bytes>)> = Vec::new();
        let mut bytes = 0;
        let closed = self.segments.len() - 1;
        let segments: Vec<i64> = self.segments.iter().take(closed).map(|it| it.base_offset).collect();
        for segment in segments.into_iter().filter(|base_offset| *base_offset < until) {
            let batches = self.batches().filter(|at| at.segment == segment).collect::<Vec<_>>();
            let mut left = Vec::new();
            let before = pass.gone.len();
            for at in batches {
                let batch = self.batch(at)?;
                if at.entry.base_offset < until {
                    left.extend(pass.rewrite(batch).map_err(corrupt)?);
                } else {
                    left.push(batch);
                }
            }
            let size = left.iter().map(Bytes::len).sum::<usize>() as u64;
            if bytes + size > settings.segment_bytes && !group.is_empty() {
                self.merge(std::mem::take(&mut group))?;
                gone.extend(pass.gone.drain(..before));
                bytes = 0;
            }
            bytes += size;
            group.push((segment, left));
        }
        self.merge(group)?;
        gone.append(&mut pass.gone);
        self.clean_until = until;
        Ok(())
    }

    /// Puts what is left of some neighbouring segments into the first of them.
    fn merge(&mut self, group: Vec<(i64, Vec<Bytes>)>) -> io::Result<()> {
        let Some((first, _)) = group.first() else { return Ok(()) };
        let first = *first;
        let (segments, batches): (Vec<i64>, Vec<Vec<Bytes>>) = group.into_iter().unzip();
        let batches: Vec<Bytes> = batches.into_iter().flatten().collect();
        self.storage.replace(first, &batches)?;
        if let Some(kept) = self.segments.iter_mut().find(|it| it.base_offset == first) {
            let mut rewritten = Segment::new(first, kept.begins_at, kept.created_ms());
            for batch in &batches {
                let header = BatchHeader::parse(batch).map_err(corrupt)?;
                rewritten.push_batch(&header);
            }
            *kept = rewritten;
        }
        // From the front, so that what a crash leaves behind is not older than what is gone.
        for segment in segments.into_iter().skip(1) {
            self.segments.retain(|it| it.base_offset != segment);
            self.storage.remove(segment)?;
        }
        Ok(())
    }
}

impl Pass<'_> {
    /// Remembers the keys of a batch that is compacted for the first time.
    fn note(&mut self, bytes: Bytes) -> Result<(), RecordError> {
        let batch = Batch::parse(bytes)?;
        if batch.header().control || (self.judge.is_aborted)(batch.header()) {
            return Ok(());
        }
        let mut open = batch.open(&mut self.decompressor, DECOMPRESSED_BYTES_MAX)?;
        while let Some(record) = open.next()? {
            if let Some(key) = record.key {
                self.latest.insert(Bytes::copy_from_slice(key), record.offset);
            }
        }
        Ok(())
    }

    /// What is left of a batch.
    fn rewrite(&mut self, bytes: Bytes) -> Result<Option<Bytes>, RecordError> {
        let batch = Batch::parse(bytes)?;
        let header = *batch.header();
        let is_over = header.delete_horizon && self.now_ms >= header.base_timestamp;
        if header.control {
            // Nothing that it ends may be left, or readers would take that for undecided.
            let may_go = !self.kept.remove(&header.producer_id);
            return match may_go {
                true if is_over => {
                    self.gone.push(header.base_offset);
                    Ok(None)
                }
                true if !header.delete_horizon => self.rebuild(batch, true, |_| true).map(Some),
                _ => Ok(Some(batch.into_bytes())),
            };
        }
        if (self.judge.is_aborted)(&header) {
            return self.leave_nothing(batch);
        }
        let latest = std::mem::take(&mut self.latest);
        let keeps = |record: &Record<'_>| {
            let is_latest =
                record.key.is_some_and(|key| latest.get(key).is_none_or(|it| record.offset >= *it));
            is_latest && (record.value.is_some() || !is_over)
        };
        let (mut all, mut any, mut tombstones) = (true, false, false);
        let mut open = batch.clone().open(&mut self.decompressor, DECOMPRESSED_BYTES_MAX)?;
        while let Some(record) = open.next()? {
            let stays = keeps(&record);
            (all, any) = (all && stays, any || stays);
            tombstones |= stays && record.value.is_none();
        }
        let needs_horizon = tombstones && !header.delete_horizon;
        let left = match any {
            false => self.leave_nothing(batch),
            true if all && !needs_horizon => Ok(Some(batch.into_bytes())),
            true => self.rebuild(batch, needs_horizon, keeps).map(Some),
        };
        self.latest = latest;
        if any && header.transactional {
            self.kept.insert(header.producer_id);
        }
        left
    }

    fn rebuild(
        &mut self,
        batch: Batch,
        with_horizon: bool,
        keeps: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<Bytes, RecordError> {
        let horizon = with_horizon.then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        retain(batch, horizon, &mut self.decompressor, &mut self.compressor, keeps)
    }

    /// Of a batch without records only the header stays, and only while its producer needs it.
    fn leave_nothing(&mut self, batch: Batch) -> Result<Option<Bytes>, RecordError> {
        match batch.header().producer_id >= 0 && (self.judge.is_last)(batch.header()) {
            true => self.rebuild(batch, false, |_| false).map(Some),
            false => Ok(None),
        }
    }
}

fn corrupt(error: RecordError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
