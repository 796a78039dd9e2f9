//! AddPartitionsToTxn, AddOffsetsToTxn, EndTxn and WriteTxnMarkers: what a transaction is made of.
//!
//! AddPartitionsToTxn versions 0 to 5: whole; from 4 on, where brokers ask each other about many transactions, it may only
//! verify. AddOffsetsToTxn versions 0 to 4, EndTxn versions 0 to 5: whole; from 5 on each transaction has an epoch of its
//! own (KIP-890), whatever level the feature `transaction.version` has, as in Apache Kafka. WriteTxnMarkers versions 1 and
//! 2: whole, on the leaders of the partitions only; it is how a hanging transaction is ended by hand (KIP-664).

use super::access::BY_BROKERS;
use super::{Caller, Refuse};
use crate::core::coordinator::Coordinated;
use crate::core::producers::{Marker, fresh_id};
use crate::core::topics::OFFSETS_TOPIC;
use crate::core::transactions::{Ended, Identity, Place, Protocol};
use crate::core::{Cluster, Now};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnResult, AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult, AddPartitionsToTxnTransaction, EndTxnRequest, EndTxnResponse,
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopic,
    WritableTxnMarkerTopicResult, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use ottla_protocol::wire::Str;

impl Refuse for AddPartitionsToTxnRequest {
    type Response = AddPartitionsToTxnResponse;

    fn refuse(&self, error_code: ErrorCode) -> AddPartitionsToTxnResponse {
        AddPartitionsToTxnResponse {
            error_code,
            results_by_topic_v3_and_below: all(&self.v3_and_below_topics, error_code),
            ..AddPartitionsToTxnResponse::default()
        }
    }
}

/// The same outcome for each partition.
fn all(topics: &[AddPartitionsToTxnTopic], code: ErrorCode) -> Vec<AddPartitionsToTxnTopicResult> {
    each(topics, |_, _| code)
}

fn each(
    topics: &[AddPartitionsToTxnTopic],
    mut outcome: impl FnMut(&Str, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let result = |topic: &AddPartitionsToTxnTopic| {
        let partitions = topic.partitions.iter().map(|index| AddPartitionsToTxnPartitionResult {
            partition_index: *index,
            partition_error_code: outcome(&topic.name, *index).0,
        });
        AddPartitionsToTxnTopicResult { name: topic.name.clone(), results_by_partition: partitions.collect() }
    };
    topics.iter().map(result).collect()
}

impl Refuse for AddOffsetsToTxnRequest {
    type Response = AddOffsetsToTxnResponse;

    fn refuse(&self, error_code: ErrorCode) -> AddOffsetsToTxnResponse {
        AddOffsetsToTxnResponse { error_code, ..AddOffsetsToTxnResponse::default() }
    }
}

impl Refuse for EndTxnRequest {
    type Response = EndTxnResponse;

    fn refuse(&self, error_code: ErrorCode) -> EndTxnResponse {
        EndTxnResponse { error_code, ..EndTxnResponse::default() }
    }
}

impl Refuse for WriteTxnMarkersRequest {
    type Response = WriteTxnMarkersResponse;

    fn refuse(&self, code: ErrorCode) -> WriteTxnMarkersResponse {
        let markers = self.markers.iter().map(|marker| marked(marker, |_, _| code));
        WriteTxnMarkersResponse { markers: markers.collect() }
    }
}

fn marked(
    marker: &WritableTxnMarker,
    mut outcome: impl FnMut(&Str, i32) -> ErrorCode,
) -> WritableTxnMarkerResult {
    let topic = |topic: &WritableTxnMarkerTopic| {
        let partitions = topic.partition_indexes.iter().map(|index| WritableTxnMarkerPartitionResult {
            partition_index: *index,
            error_code: outcome(&topic.name, *index),
        });
        WritableTxnMarkerTopicResult { name: topic.name.clone(), partitions: partitions.collect() }
    };
    let topics = marker.topics.iter().map(topic).collect();
    WritableTxnMarkerResult { producer_id: marker.producer_id, topics }
}

/// Clients of before know one code for both.
fn known_in(version: i16, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::PRODUCER_FENCED if version < 2 => ErrorCode::INVALID_PRODUCER_EPOCH,
        code => code,
    }
}

impl Cluster {
    pub(crate) fn add_partitions_to_txn(
        &mut self,
        now: Now,
        caller: &Caller,
        request: AddPartitionsToTxnRequest,
    ) -> AddPartitionsToTxnResponse {
        if caller.version < BY_BROKERS {
            let transaction = AddPartitionsToTxnTransaction {
                transactional_id: request.v3_and_below_transactional_id,
                producer_id: request.v3_and_below_producer_id,
                producer_epoch: request.v3_and_below_producer_epoch,
                verify_only: false,
                topics: request.v3_and_below_topics,
            };
            return AddPartitionsToTxnResponse {
                results_by_topic_v3_and_below: self.add_partitions(now, caller, &transaction),
                ..AddPartitionsToTxnResponse::default()
            };
        }
        let results = request.transactions.iter().map(|transaction| AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id.clone(),
            topic_results: self.add_partitions(now, caller, transaction),
        });
        AddPartitionsToTxnResponse {
            results_by_transaction: results.collect(),
            ..AddPartitionsToTxnResponse::default()
        }
    }

    /// All partitions are added, or none of them.
    fn add_partitions(
        &mut self,
        now: Now,
        caller: &Caller,
        asked: &AddPartitionsToTxnTransaction,
    ) -> Vec<AddPartitionsToTxnTopicResult> {
        let mut refused = false;
        let found = each(&asked.topics, |topic, index| {
            let code = self.check_place(caller, topic, index).err().unwrap_or(ErrorCode::NONE);
            refused |= !code.is_ok();
            code
        });
        if refused {
            let mut results = found;
            let partitions = results.iter_mut().flat_map(|topic| &mut topic.results_by_partition);
            for partition in partitions.filter(|it| it.partition_error_code == ErrorCode::NONE.0) {
                partition.partition_error_code = ErrorCode::OPERATION_NOT_ATTEMPTED.0;
            }
            return results;
        }
        let id = &asked.transactional_id;
        if let Err(code) = self.check_transactional_id(caller, id) {
            return all(&asked.topics, code);
        }
        let producer = Identity { producer_id: asked.producer_id, epoch: asked.producer_epoch };
        if asked.verify_only {
            return each(&asked.topics, |topic, index| {
                let transaction = self.transactions.known(id);
                let verified = transaction.and_then(|it| it.verify(producer, &(topic.clone(), index)));
                verified.err().unwrap_or(ErrorCode::NONE)
            });
        }
        let places = asked.topics.iter().flat_map(|topic| {
            // The topic's own name, so that no frame is held on to.
            let name = self.topics.get(&topic.name).map(|topic| topic.name.clone());
            topic.partitions.iter().filter_map(move |index| Some((name.clone()?, *index)))
        });
        let places: Vec<Place> = places.collect();
        let added = self.add_to_transaction(now, id, producer, places.into_iter());
        all(&asked.topics, added.map_or_else(|code| known_in(caller.version, code), |()| ErrorCode::NONE))
    }

    fn check_place(&mut self, caller: &Caller, topic: &Str, index: i32) -> Result<(), ErrorCode> {
        let key = ApiKey::ADD_PARTITIONS_TO_TXN;
        if caller.version < BY_BROKERS {
            self.access.on_topic(key, caller, topic)?;
        }
        if let Some(code) = self.faults.on_partition(key, caller.node, topic, index) {
            return Err(code);
        }
        let found = self.topics.get(topic).and_then(|topic| topic.partition(index));
        found.map(|_| ()).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }

    fn check_transactional_id(&self, caller: &Caller, id: &Str) -> Result<(), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.check_coordinator(caller, Coordinated::Transaction(id))
    }

    pub(crate) fn add_offsets_to_txn(
        &mut self,
        now: Now,
        caller: &Caller,
        request: AddOffsetsToTxnRequest,
    ) -> AddOffsetsToTxnResponse {
        let id = &request.transactional_id;
        if let Err(code) = self.check_transactional_id(caller, id) {
            return request.refuse(code);
        }
        let index = self.coordinator_index(Coordinated::Group(&request.group_id));
        let producer = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
        let place = (Str::from_static(OFFSETS_TOPIC), index);
        match self.add_to_transaction(now, id, producer, std::iter::once(place)) {
            Ok(()) => AddOffsetsToTxnResponse::default(),
            Err(code) => request.refuse(known_in(caller.version, code)),
        }
    }

    pub(crate) fn end_txn(&mut self, now: Now, caller: &Caller, request: EndTxnRequest) -> EndTxnResponse {
        let id = &request.transactional_id;
        if let Err(code) = self.check_transactional_id(caller, id) {
            return request.refuse(code);
        }
        let protocol = if caller.version >= 5 { Protocol::V2 } else { Protocol::V1 };
        let producer = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
        let ended = self.change_transaction(now, id, |transaction, producer_ids| {
            transaction.end(producer, request.committed, protocol, now.wall_ms, || fresh_id(producer_ids))
        });
        let next = match ended {
            Ok(Ended::Before(next)) => next,
            Ok(Ended::Now(next)) => {
                self.transaction_decided(now, &Str::from(&**id));
                next
            }
            Err(code) => return request.refuse(known_in(caller.version, code)),
        };
        EndTxnResponse {
            producer_id: next.producer_id,
            producer_epoch: next.epoch,
            ..EndTxnResponse::default()
        }
    }

    pub(crate) fn write_txn_markers(
        &mut self,
        now: Now,
        caller: &Caller,
        request: WriteTxnMarkersRequest,
    ) -> WriteTxnMarkersResponse {
        let write = |marker: &WritableTxnMarker| {
            let fields = Marker {
                producer_id: marker.producer_id,
                epoch: marker.producer_epoch,
                coordinator_epoch: marker.coordinator_epoch,
                bumped: marker.transaction_version >= 2,
            };
            marked(marker, |topic, index| {
                let partition = self.topics.get(topic).and_then(|topic| topic.partition(index));
                match partition.map(|partition| partition.leader) {
                    None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    Some(leader) if leader != Some(caller.node) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    Some(_) => {
                        let committed = marker.transaction_result;
                        let written = self.append_marker(now, topic, index, fields, committed);
                        written.err().unwrap_or(ErrorCode::NONE)
                    }
                }
            })
        };
        WriteTxnMarkersResponse { markers: request.markers.iter().map(write).collect() }
    }
}
