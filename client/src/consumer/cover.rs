//! At most once: records are committed before they are handed out.
//!
//! It owns how far ahead that goes, which is also what a crash can lose. It refuses to know how a commit gets to the group.
//! Invariant: no record is lent before a commit behind it is acknowledged, so none is ever lent twice.

use crate::config::{Done, When};
use crate::core::offsets::CommitId;
use crate::error::Error;
use crate::world::pause;

use super::{Consumer, Watch};

impl Consumer {
    /// Where the records that are committed ahead end, when a chunk that begins at `from` is taken up.
    pub(super) fn covered_from(&self, from: i64) -> i64 {
        let ahead = self.config.done == Done::Delivered && self.config.when != When::Manual;
        if ahead { from } else { i64::MAX }
    }

    /// Commits the records that come next, and waits for it. Afterwards they may be lent, if their partition is still ours.
    ///
    /// Dropping the future leaves the commit on its way; the next call goes on with it.
    #[cold]
    pub(super) async fn cover(&mut self) -> Result<(), Error> {
        let Some(end) = self.cover_end() else { return Ok(()) };
        let door = &self.control.door;
        let Some(reading) = &self.reading else { return Ok(()) };
        let chunk = &reading.chunk;
        let id: Option<CommitId> = door.with(|machine, now| machine.commit_ahead(now, chunk, end))??;
        if let Some(id) = id {
            let mut watch = Watch { door, id: Some(id) };
            pause(&*door.world).await;
            door.until(move |machine| machine.is_committed(id)).await?;
            watch.id = None;
            let outcome = door.with(|machine, _| machine.take_commit(id))?;
            if outcome.transpose()?.is_some_and(|outcome| outcome.superseded.contains(&chunk.partition)) {
                // Nothing is known of whom it belongs to until the group says so.
                return Ok(());
            }
        }
        self.covered = end;
        Ok(())
    }

    /// Behind the last of the records to commit now.
    fn cover_end(&self) -> Option<i64> {
        let reading = self.reading.as_ref()?;
        let records = match self.config.when {
            When::EachRecord => 1,
            When::Hybrid { records, .. } => usize::try_from(records).unwrap_or(usize::MAX),
            // A commit by time would come too late for some; so it comes for all that was fetched at once.
            When::EachBatch | When::Every(_) | When::Manual => return reading.chunk.end,
        };
        // What cannot be read is reported when it is lent.
        let ahead = reading.open.as_ref()?.records().take(records).map_while(Result::ok).last();
        Some(ahead.map_or(self.next_offset, |record| record.offset).saturating_add(1))
    }
}
