//! Offsets that a transaction commits in place of the consumer.
//!
//! It owns the question which offsets a consumer may put into a transaction: only those of leases that still hold, on behalf of
//! the member as it is in the same moment. Invariant: a partition that was given up since its records were delivered is
//! never spoken for, or its next owner's work would be undone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::TopicPartition;
use super::consumer::Consumer;
use super::positions::{Lease, Place};
use super::transaction::{GroupOffsets, NextOffset};
use crate::error::{Error, ErrorKind};

impl Consumer {
    /// The offsets behind what was delivered under these leases.
    pub(crate) fn hand_over(&self, delivered: &[(Arc<Lease>, i64)]) -> Result<GroupOffsets, Error> {
        let Some((group, _)) = &self.group else {
            let message = "a consumer without a group has no offsets to put into a transaction";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        };
        let superseded = |what: &str| {
            Error::new(
                ErrorKind::Superseded,
                format!("group {}: {what} since the records were read", group.id()),
            )
        };
        let identity = group.identity().ok_or_else(|| superseded("the membership has ended"))?;
        let mut offsets: BTreeMap<TopicPartition, NextOffset> = BTreeMap::new();
        for (lease, offset) in delivered {
            let holds = self.positions.iter().find(|(_, position)| Arc::ptr_eq(&position.lease, lease));
            let (partition, position) =
                holds.ok_or_else(|| superseded("a partition was taken away, or is read from elsewhere,"))?;
            let leader_epoch = Some(position.epochs.before(*offset)).filter(|epoch| *epoch >= 0);
            offsets.insert(partition.clone(), NextOffset { offset: *offset, leader_epoch });
        }
        Ok(GroupOffsets {
            group: identity.group,
            generation: identity.generation,
            member: identity.member_id,
            instance: identity.instance_id,
            offsets,
        })
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
