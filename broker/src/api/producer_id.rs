//! InitProducerId: a fresh id for an idempotent producer.
//!
//! Versions 0 to 5. Honoured: every request without a transactional id gets a new producer id with epoch 0, as in Apache
//! Kafka, whatever id it names. Refused: transactional ids, with UNSUPPORTED_VERSION, because transactions are not
//! served yet.

use super::{Caller, Refuse};
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

impl Refuse for InitProducerIdRequest {
    type Response = InitProducerIdResponse;

    fn refuse(&self, error_code: ErrorCode) -> InitProducerIdResponse {
        InitProducerIdResponse { error_code, producer_epoch: -1, ..InitProducerIdResponse::default() }
    }
}

impl Cluster {
    pub(crate) fn init_producer_id(
        &mut self,
        _: Now,
        _: &Caller,
        request: InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        match request.transactional_id.as_deref() {
            None => {}
            Some("") => return request.refuse(ErrorCode::INVALID_REQUEST),
            Some(_) => return request.refuse(ErrorCode::UNSUPPORTED_VERSION),
        }
        let producer_id = self.producer_ids;
        self.producer_ids += 1;
        InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
    }
}
