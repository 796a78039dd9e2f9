//! How a partition makes sure that what is written to it belongs to an open transaction (KIP-890).
//!
//! Before the first batch of a transaction the leader asks the coordinator, which knows whether the partition takes part,
//! or lets it take part, as the version of the request says. As long as the transaction is open nobody is asked again.
//! Without this a late batch of a transaction that ended would open one that nobody ends.

use super::coordinator::Coordinated;
use super::producers::Sequenced;
use super::transactions::Identity;
use super::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;

/// What a client understands, by the version of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// A partition that does not take part is INVALID_TXN_STATE, which is fatal.
    InvalidState,
    /// It is TRANSACTION_ABORTABLE.
    Abortable,
    /// It is added: the client does not say beforehand where it will write.
    Adding,
}

impl Cluster {
    /// Whether the producer may write to the partition within its transaction.
    pub(crate) fn let_into_transaction(
        &mut self,
        now: Now,
        transactional_id: &str,
        topic: &str,
        index: i32,
        batch: Sequenced,
        support: Support,
    ) -> Result<(), ErrorCode> {
        let found = self.topics.get(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        // The topic's own name, so that no frame is held on to.
        let place = (found.name.clone(), index);
        let partition =
            self.topics.partition_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let Sequenced { producer_id, epoch, .. } = batch;
        if partition.producers.epoch_of(producer_id).is_some_and(|known| epoch < known) {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if partition.has_open_transaction(producer_id, epoch) {
            return Ok(());
        }
        partition.forget_idle_producers(now.at.checked_sub(self.settings.producer_expiration));
        partition.producers.verify(batch, support == Support::Adding, now);
        if self.coordinator(now, Coordinated::Transaction(transactional_id)).is_none() {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let producer = Identity { producer_id, epoch };
        let asked = match support {
            Support::Adding => {
                self.add_to_transaction(now, transactional_id, producer, std::iter::once(place))
            }
            Support::InvalidState | Support::Abortable => {
                let transaction = self.transactions.known(transactional_id);
                transaction.and_then(|transaction| transaction.verify(producer, &place))
            }
        };
        asked.map_err(|code| match code {
            // What clients take for the end of the producer is only the end of this transaction.
            ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
            ErrorCode::TRANSACTION_ABORTABLE if support == Support::InvalidState => {
                ErrorCode::INVALID_TXN_STATE
            }
            code => code,
        })
    }
}
