//! InitProducerId: an id and an epoch for an idempotent or a transactional producer.
//!
//! Versions 0 to 5, and 6 with unstable.api.versions.enable, as it is unstable in Apache Kafka 4.4. Honoured: every request without a
//! transactional id gets a new producer id with epoch 0, whatever id it names; one with a transactional id fences whoever
//! had it before, aborts what that one left open (the answer is then CONCURRENT_TRANSACTIONS, so that the producer asks
//! again), and is held to transaction.max.timeout.ms; a producer that names the id and epoch it had (KIP-360) goes on only
//! if nobody came meanwhile. Ids that were idle for transactional.id.expiration.ms are forgotten when others come.
//!
//! KIP-939: with transaction.two.phase.commit.enable a producer may have transactions that never run out of their time. One that
//! keeps what its predecessor prepared is told who that was, and alone may end it; Apache Kafka 4.4 answers
//! UNSUPPORTED_VERSION to that.

use super::{Caller, Refuse};
use crate::core::coordinator::Coordinated;
use crate::core::producers::fresh_id;
use crate::core::transactions::{Identity, Init, NO_TIMEOUT};
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_protocol::wire::Str;
use std::time::Duration;

impl Refuse for InitProducerIdRequest {
    type Response = InitProducerIdResponse;

    fn refuse(&self, error_code: ErrorCode) -> InitProducerIdResponse {
        InitProducerIdResponse { error_code, producer_epoch: -1, ..InitProducerIdResponse::default() }
    }
}

impl Cluster {
    pub(crate) fn init_producer_id(
        &mut self,
        now: Now,
        caller: &Caller,
        request: InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        let had = match (request.producer_id, request.producer_epoch) {
            (-1, -1) => None,
            (-1, _) | (_, -1) => return request.refuse(ErrorCode::INVALID_REQUEST),
            (producer_id, epoch) => Some(Identity { producer_id, epoch }),
        };
        let given = match &request.transactional_id {
            None => {
                let fresh = Identity { producer_id: fresh_id(&mut self.producer_ids), epoch: 0 };
                Ok((fresh, None))
            }
            Some(id) => self.init_transaction(now, caller, id, &request, had),
        };
        match given {
            Ok((Identity { producer_id, epoch: producer_epoch }, ongoing)) => InitProducerIdResponse {
                producer_id,
                producer_epoch,
                ongoing_txn_producer_id: ongoing.map_or(-1, |ongoing| ongoing.producer_id),
                ongoing_txn_producer_epoch: ongoing.map_or(-1, |ongoing| ongoing.epoch),
                ..InitProducerIdResponse::default()
            },
            Err(ErrorCode::PRODUCER_FENCED) if caller.version < 4 => {
                request.refuse(ErrorCode::INVALID_PRODUCER_EPOCH)
            }
            Err(code) => request.refuse(code),
        }
    }

    /// Who the producer is from now on, and who prepared what it has kept.
    fn init_transaction(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &Str,
        request: &InitProducerIdRequest,
        had: Option<Identity>,
    ) -> Result<(Identity, Option<Identity>), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if request.enable_2_pc && !self.settings.two_phase_commit {
            return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        }
        let timeout = match u64::try_from(request.transaction_timeout_ms) {
            _ if request.enable_2_pc => NO_TIMEOUT,
            timeout => timeout.map(Duration::from_millis).unwrap_or_default(),
        };
        if !request.enable_2_pc && (timeout.is_zero() || timeout > self.settings.transaction_timeout_max) {
            return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        }
        self.check_coordinator(caller, Coordinated::Transaction(id))?;
        let Self { transactions, producer_ids, .. } = self;
        let expired = now.at.checked_sub(self.settings.transactional_id_expiration);
        let forgotten = transactions.forget_idle(id, expired);
        transactions.get_or_create(id, timeout, now.at, || fresh_id(producer_ids));
        for id in forgotten {
            // What cannot be written comes back with the next start, and is forgotten again.
            let _ = self.store_transaction(now, &id, None);
        }
        let keeps = request.keep_prepared_txn;
        let init = self.change_transaction(now, id, |transaction, producer_ids| {
            transaction.init(had, keeps, timeout, now.at, || fresh_id(producer_ids))
        });
        match init? {
            Init::Ready(producer) => Ok((producer, None)),
            Init::Kept { producer, ongoing } => Ok((producer, Some(ongoing))),
            Init::AbortFirst => {
                self.fence_transaction(now, &Str::from(&**id));
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
        }
    }
}
