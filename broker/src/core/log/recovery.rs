//! Reading a log back: segment by segment, batch by batch, up to the first that is not whole.
//!
//! What a process left behind when it died ends with a batch that is cut, or fails its checksum; everything from there on is
//! cut off. It refuses to know what the batches mean: whoever recovers is shown each of them.

use super::{Log, Segment, Storage};
use bytes::Bytes;
use ottla_protocol::records::{Batch, BatchHeader, HEADER_BYTES};
use std::io;

impl Log {
    /// The log that a storage holds. `show` sees every batch, in order.
    pub(crate) fn recover(
        storage: Box<dyn Storage>,
        now_ms: i64,
        show: &mut dyn FnMut(&Batch),
    ) -> io::Result<Self> {
        let mut segments = storage.segments()?.into_iter();
        let mut log = Self::new(storage);
        let mut is_torn = false;
        for (base_offset, length) in &mut segments {
            // Behind a tear nothing can be trusted; and what compaction has merged into the segment before is there twice.
            let is_merged =
                log.segments.back().is_some_and(|it| !it.entries.is_empty()) && base_offset < log.next_offset;
            if is_torn || is_merged {
                log.storage.remove(base_offset)?;
                continue;
            }
            let begins_at = log.end_position();
            log.next_offset = log.next_offset.max(base_offset);
            if log.segments.len() == 1 && log.segments[0].entries.is_empty() {
                log.segments.clear();
                log.start_offset = base_offset;
            }
            log.segments.push_back(Segment::new(base_offset, begins_at, now_ms));
            let whole = log.read_back(base_offset, length, show)?;
            if whole < length {
                log.storage.truncate(base_offset, whole)?;
                is_torn = true;
            }
        }
        log.clean_until = log.start_offset;
        Ok(log)
    }

    /// Reads the last segment and returns how many bytes of it are whole batches.
    fn read_back(&mut self, segment: i64, length: u64, show: &mut dyn FnMut(&Batch)) -> io::Result<u64> {
        let mut position = 0;
        while let Some(batch) = self.read_batch(segment, position, length)? {
            let header = *batch.header();
            if header.base_offset < self.next_offset {
                break;
            }
            show(&batch);
            self.next_offset = header.last_offset() + 1;
            self.active().push_batch(&header);
            position += header.size as u64;
        }
        Ok(position)
    }

    /// The batch at a position, if it is whole.
    fn read_batch(&mut self, segment: i64, position: u64, length: u64) -> io::Result<Option<Batch>> {
        let left = length - position;
        if left < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let header = self.storage.read(segment, position, HEADER_BYTES)?;
        let Ok(header) = BatchHeader::parse(&header) else { return Ok(None) };
        if header.size as u64 > left {
            return Ok(None);
        }
        let bytes: Bytes = self.storage.read(segment, position, header.size)?;
        let batch = Batch::parse(bytes).ok();
        Ok(batch.filter(|batch| batch.check_checksum().is_ok()))
    }
}
