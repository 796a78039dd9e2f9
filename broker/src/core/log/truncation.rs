//! Cutting the end of a log off, where a leader has another one (KIP-101).
//!
//! It refuses to know why. Invariant: when the storage fails half way, the index says what is still there.

use super::{Located, Log};
use bytes::Bytes;
use std::io;

impl Log {
    /// Every batch that begins at this offset or behind it, oldest first.
    pub(crate) fn batches_from(&mut self, offset: i64) -> io::Result<Vec<Bytes>> {
        let behind: Vec<Located> = self.batches().filter(|at| at.entry.base_offset >= offset).collect();
        behind.into_iter().map(|at| self.batch(at)).collect()
    }

    /// Lets the log end at this offset, at which a batch begins or the log ends. Its start stays where it is.
    pub(crate) fn truncate(&mut self, offset: i64) -> io::Result<()> {
        let offset = offset.max(self.start_offset);
        while self.segments.len() > 1
            && let Some(last) = self.segments.back().filter(|last| last.base_offset >= offset)
        {
            let segment = last.base_offset;
            self.storage.remove(segment)?;
            self.segments.pop_back();
            self.next_offset = segment;
        }
        let last = self.segments.back_mut().expect("there is always a last segment");
        let kept = last.entries.partition_point(|entry| entry.base_offset < offset);
        if let Some(first) = last.entries.get(kept) {
            self.storage.truncate(last.base_offset, first.position)?;
            last.truncate(kept);
        }
        self.next_offset = self.next_offset.min(offset);
        self.clean_until = self.clean_until.min(offset);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Appended;
    use super::*;
    use crate::core::settings::{Given, TopicSettings};

    /// Six records of half a megabyte, two a segment; what is left when the log ends at this offset.
    fn check_cut(offset: i64, expected: &[i64]) {
        let given = Given::from([("segment.bytes".to_string(), "1048576".to_string())]);
        let settings = TopicSettings::new(given, &Given::new()).unwrap();
        let mut log = Log::default();
        let append = |log: &mut Log, mark: u8| {
            let what = Appended { offsets: 1, max_timestamp: 1 };
            log.append(&vec![mark; 1 << 19], what, 1, &settings, &mut |_, _| {}).unwrap()
        };
        (0..6).for_each(|mark| _ = append(&mut log, mark));
        let cut = log.batches_from(offset).unwrap();
        assert_eq!(cut.len(), usize::try_from(6 - offset).unwrap());
        log.truncate(offset).unwrap();
        assert_eq!((log.end_offset(), &*log.segment_offsets()), (offset, expected), "cut at {offset}");
        assert_eq!(append(&mut log, 9), offset);
        let (read, _) = log.read(0..i64::MAX, usize::MAX, true).unwrap();
        assert_eq!(read[0], if offset == 0 { 9 } else { 0 });
        let (read, _) = log.read(offset..i64::MAX, usize::MAX, true).unwrap();
        assert_eq!((read.len(), read[0]), (1 << 19, 9));
    }

    #[test]
    fn a_log_ends_where_it_is_cut_and_goes_on_from_there() {
        check_cut(6, &[0, 2, 4]);
        check_cut(5, &[0, 2, 4]);
        check_cut(4, &[0, 2]);
        check_cut(1, &[0]);
        check_cut(0, &[0]);
    }
}
