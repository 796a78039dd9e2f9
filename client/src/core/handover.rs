//! Offsets that a transaction commits in place of the consumer.
//!
//! It owns the question which offsets a consumer may put into a transaction: only those of leases that still hold, on behalf of
//! the member as it is in the same moment. Invariant: a partition that was given up since its records were delivered is
//! never spoken for, or its next owner's work would be undone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::consumer::Consumer;
use super::group::GroupMetadata;
use super::offsets::Committed;
use super::positions::{Lease, Place};
use super::transaction::GroupOffsets;
use crate::error::{Error, ErrorKind};

impl Consumer {
    /// On behalf of whom offsets can be committed now.
    pub(crate) fn group_metadata(&self) -> Result<GroupMetadata, Error> {
        let Some((group, _)) = &self.group else {
            let message = "a consumer without a group has no offsets to put into a transaction";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        };
        group.identity().ok_or_else(|| {
            let message = format!("group {}: the consumer is no member of it at the moment", group.id());
            Error::new(ErrorKind::Superseded, message)
        })
    }

    /// The offsets behind what was delivered under these leases.
    pub(crate) fn hand_over(&self, delivered: &[(Arc<Lease>, i64)]) -> Result<GroupOffsets, Error> {
        let metadata = self.group_metadata()?;
        let mut offsets = BTreeMap::new();
        for (lease, offset) in delivered {
            let holds = self.positions.iter().find(|(_, position)| Arc::ptr_eq(&position.lease, lease));
            let (partition, position) = holds.ok_or_else(|| {
                let what =
                    "a partition was taken away, or is read from elsewhere, since its records were read";
                Error::new(ErrorKind::Superseded, format!("group {}: {what}", metadata.group))
            })?;
            let leader_epoch = position.epochs.before(*offset);
            offsets.insert(partition.clone(), Committed { offset: *offset, leader_epoch, metadata: None });
        }
        Ok(GroupOffsets { metadata, offsets })
    }

    /// Reads again what was delivered under these leases and is not finished. What was given up meanwhile is somebody
    /// else's.
    pub(crate) fn rewind(&mut self, now: Instant, delivered: &[(Arc<Lease>, i64)]) {
        for (lease, _) in delivered {
            let held = self.positions.iter().find(|(_, position)| Arc::ptr_eq(&position.lease, lease));
            if let Some(partition) = held.map(|(partition, _)| partition.clone()) {
                // It is assigned: it was found.
                let _ = self.seek(now, &partition, Place::At(lease.finished()));
            }
        }
    }
}
