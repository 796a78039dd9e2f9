//! Reading a chunk record by record: checksums, decompression, and what a reader must not see.
//!
//! It owns the place in the chunk. All of it runs in the application's task, without the lock. Invariant: a batch is opened
//! only after its checksum held, and records of aborted transactions and control records never come out (KIP-98).

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::messages::AbortedTransaction;
use ottla_protocol::records::{
    Batch, BatchHeader, Batches, ControlKind, ControlRecord, Decompressor, OpenBatch, RecordError, batches,
};

use crate::config::{ConsumerConfig, IsolationLevel};
use crate::core::TopicPartition;
use crate::core::positions::Chunk;
use crate::error::{Error, ErrorKind};

pub(super) struct Reading {
    pub(super) chunk: Chunk,
    batches: Batches,
    pub(super) open: Option<OpenBatch>,
    aborted: Aborted,
    config: Arc<ConsumerConfig>,
}

impl Reading {
    pub(super) fn new(chunk: Chunk, config: Arc<ConsumerConfig>) -> Self {
        let aborted = match config.isolation_level {
            IsolationLevel::ReadCommitted => Aborted::new(&chunk.aborted),
            IsolationLevel::ReadUncommitted => Aborted::default(),
        };
        Self { batches: batches(&chunk.records), chunk, open: None, aborted, config }
    }

    /// Whether the open batch has a record left; opens the next ones until one has. False at the end of the chunk.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], which names the place. Nothing is skipped.
    #[inline]
    pub(super) fn next_open(&mut self, decompressor: &mut Decompressor) -> Result<bool, Error> {
        match &self.open {
            Some(open) if open.left() > 0 => Ok(true),
            _ => self.open_next(decompressor),
        }
    }

    #[cold]
    #[inline(never)]
    fn open_next(&mut self, decompressor: &mut Decompressor) -> Result<bool, Error> {
        self.open = None;
        loop {
            let batch = match self.batches.next() {
                None if self.chunk.end.is_none() => return Err(self.unreadable()),
                None => return Ok(false),
                Some(batch) => batch.map_err(|e| corrupt(&self.chunk.partition, &e))?,
            };
            let header = *batch.header();
            // What is below the start is not delivered, but it still tells which transactions go on.
            let below = header.last_offset() < self.chunk.from;
            if self.config.check_crcs && (!below || header.control) {
                batch.check_checksum().map_err(|e| corrupt(&self.chunk.partition, &e))?;
            }
            if header.control {
                self.end_transaction(batch, decompressor)?;
                continue;
            }
            if self.aborted.holds(&header) || below {
                continue;
            }
            let mut open = batch
                .open(decompressor, self.config.batch_bytes_max)
                .map_err(|e| corrupt(&self.chunk.partition, &e))?;
            open.skip_to(self.chunk.from).map_err(|e| corrupt(&self.chunk.partition, &e))?;
            if open.left() > 0 {
                self.open = Some(open);
                return Ok(true);
            }
        }
    }

    fn end_transaction(&mut self, batch: Batch, decompressor: &mut Decompressor) -> Result<(), Error> {
        let header = *batch.header();
        let mut open = batch
            .open(decompressor, self.config.batch_bytes_max)
            .map_err(|e| corrupt(&self.chunk.partition, &e))?;
        // Only the first record of a control batch says anything; an unknown kind is none of ours.
        let kind = match open.next() {
            Ok(Some(record)) => {
                ControlRecord::parse(&record, header.base_offset).map(|control| control.kind).ok()
            }
            _ => None,
        };
        if kind == Some(ControlKind::Abort) {
            self.aborted.ended(header.producer_id);
        }
        Ok(())
    }

    fn unreadable(&self) -> Error {
        let (partition, from, bytes) = (&self.chunk.partition, self.chunk.from, self.chunk.records.len());
        let message = format!("{partition}: {bytes} bytes at offset {from} hold no whole batch");
        Error::new(ErrorKind::Corrupt, message)
    }
}

/// What to say of a damaged batch.
pub(super) fn corrupt(partition: &TopicPartition, cause: &RecordError) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{partition}: {cause}")).with_source(cause.clone())
}

/// The transactions of a chunk that were aborted. Brokers do not agree on the order of the list, so it is sorted here.
#[derive(Default)]
struct Aborted {
    /// By first offset, the next one last.
    ahead: Vec<(i64, i64)>,
    /// Producers in the middle of an aborted transaction.
    open: BTreeSet<i64>,
}

impl Aborted {
    fn new(list: &[AbortedTransaction]) -> Self {
        let mut ahead: Vec<(i64, i64)> = list.iter().map(|t| (t.first_offset, t.producer_id)).collect();
        ahead.sort_unstable_by(|a, b| b.cmp(a));
        Self { ahead, open: BTreeSet::new() }
    }

    fn holds(&mut self, batch: &BatchHeader) -> bool {
        while let Some((_, producer_id)) = self.ahead.pop_if(|(first, _)| *first <= batch.last_offset()) {
            self.open.insert(producer_id);
        }
        batch.transactional && self.open.contains(&batch.producer_id)
    }

    fn ended(&mut self, producer_id: i64) {
        self.open.remove(&producer_id);
    }
}
