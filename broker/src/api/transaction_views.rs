//! DescribeTransactions, ListTransactions and DescribeProducers: what operators see of transactions (KIP-664).
//!
//! DescribeTransactions version 0: whole. ListTransactions versions 0 to 2: whole, but that a pattern (KIP-1152) may hold
//! only `.` and `.*` beside literal letters; what else looks like a regular expression is refused with
//! INVALID_REGULAR_EXPRESSION. DescribeProducers version 0: whole, on leaders only.

use super::{Caller, Refuse};
use crate::core::authorizer::{Kind, Operation};
use crate::core::coordinator::Coordinated;
use crate::core::topics::Partition;
use crate::core::transactions::{State, Transaction};
use crate::core::{Cluster, Now};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeProducersTopic, DescribeTransactionsRequest,
    DescribeTransactionsResponse, DescribedProducersPartition, DescribedProducersTopic, DescribedTransaction,
    DescribedTransactionTopic, ListTransactionsRequest, ListTransactionsResponse, ListedTransaction,
    ProducerState,
};
use ottla_protocol::wire::Str;

impl Refuse for DescribeTransactionsRequest {
    type Response = DescribeTransactionsResponse;

    fn refuse(&self, code: ErrorCode) -> DescribeTransactionsResponse {
        let states = self.transactional_ids.iter().map(|id| not_described(id, code));
        DescribeTransactionsResponse {
            transaction_states: states.collect(),
            ..DescribeTransactionsResponse::default()
        }
    }
}

fn not_described(id: &Str, error_code: ErrorCode) -> DescribedTransaction {
    DescribedTransaction { error_code, transactional_id: id.clone(), ..DescribedTransaction::default() }
}

impl Refuse for ListTransactionsRequest {
    type Response = ListTransactionsResponse;

    fn refuse(&self, error_code: ErrorCode) -> ListTransactionsResponse {
        ListTransactionsResponse { error_code, ..ListTransactionsResponse::default() }
    }
}

impl Refuse for DescribeProducersRequest {
    type Response = DescribeProducersResponse;

    fn refuse(&self, code: ErrorCode) -> DescribeProducersResponse {
        let topics = self.topics.iter().map(|topic| DescribedProducersTopic {
            name: topic.name.clone(),
            partitions: topic.partition_indexes.iter().map(|index| no_producers(*index, code)).collect(),
        });
        DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() }
    }
}

fn no_producers(partition_index: i32, error_code: ErrorCode) -> DescribedProducersPartition {
    DescribedProducersPartition { partition_index, error_code, ..DescribedProducersPartition::default() }
}

impl Cluster {
    pub(crate) fn describe_transactions(
        &mut self,
        _: Now,
        caller: &Caller,
        request: DescribeTransactionsRequest,
    ) -> DescribeTransactionsResponse {
        let describe = |id: &Str| {
            if id.is_empty() {
                return not_described(id, ErrorCode::INVALID_REQUEST);
            }
            let allowed = self.access.on_transaction(Operation::Describe, caller, id);
            let here = || self.check_coordinator(caller, Coordinated::Transaction(id));
            if let Err(code) = allowed.and_then(|()| here()) {
                return not_described(id, code);
            }
            match self.transactions.get(id) {
                Some(transaction) => {
                    let mut described = described(id, transaction);
                    let may =
                        |topic: &Str| self.access.check(caller, Kind::Topic, topic, Operation::Describe);
                    described.topics.retain(|topic| may(&topic.topic).is_ok());
                    described
                }
                None => not_described(id, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND),
            }
        };
        DescribeTransactionsResponse {
            transaction_states: request.transactional_ids.iter().map(describe).collect(),
            ..DescribeTransactionsResponse::default()
        }
    }

    pub(crate) fn list_transactions(
        &mut self,
        now: Now,
        caller: &Caller,
        request: ListTransactionsRequest,
    ) -> ListTransactionsResponse {
        let pattern = request.transactional_id_pattern.as_deref().unwrap_or_default();
        if pattern.chars().any(|c| "\\^$|?+()[]{}".contains(c)) || pattern.replace(".*", "").contains('*') {
            return request.refuse(ErrorCode::INVALID_REGULAR_EXPRESSION);
        }
        let is_state = |name: &&Str| State::ALL.iter().any(|state| state.name() == &***name);
        let (states, unknown): (Vec<&Str>, Vec<&Str>) = request.state_filters.iter().partition(is_state);
        let is_wanted = |id: &Str, transaction: &Transaction| {
            let of_state = request.state_filters.is_empty()
                || states.iter().any(|name| transaction.state().name() == &***name);
            let ids = &request.producer_id_filters;
            let of_producer = ids.is_empty() || ids.contains(&transaction.identity().producer_id);
            let open_ms = transaction.started_ms.map_or(-1, |started| now.wall_ms - started);
            let of_duration = request.duration_filter < 0 || open_ms > request.duration_filter;
            of_state && of_producer && of_duration && (pattern.is_empty() || matches(pattern, id))
        };
        let here = self.transactions.iter().filter(|(id, transaction)| {
            self.access.on_transaction(Operation::Describe, caller, id).is_ok()
                && self.check_coordinator(caller, Coordinated::Transaction(id)).is_ok()
                && is_wanted(id, transaction)
        });
        let listed = here.map(|(id, transaction)| ListedTransaction {
            transactional_id: id.clone(),
            producer_id: transaction.identity().producer_id,
            transaction_state: Str::from_static(transaction.state().name()),
        });
        ListTransactionsResponse {
            unknown_state_filters: unknown.into_iter().cloned().collect(),
            transaction_states: listed.collect(),
            ..ListTransactionsResponse::default()
        }
    }

    pub(crate) fn describe_producers(
        &mut self,
        _: Now,
        caller: &Caller,
        request: DescribeProducersRequest,
    ) -> DescribeProducersResponse {
        let describe = |topic: &DescribeProducersTopic| {
            let allowed = self.access.on_topic(ApiKey::DESCRIBE_PRODUCERS, caller, &topic.name);
            let found = self.topics.get(&topic.name);
            let partitions = topic.partition_indexes.iter().map(|index| {
                match found.and_then(|topic| topic.partition(*index)) {
                    _ if allowed.is_err() => no_producers(*index, ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                    None => no_producers(*index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                    Some(partition) if partition.leader != Some(caller.node) => {
                        no_producers(*index, ErrorCode::NOT_LEADER_OR_FOLLOWER)
                    }
                    Some(partition) => DescribedProducersPartition {
                        active_producers: producers(partition),
                        ..no_producers(*index, ErrorCode::NONE)
                    },
                }
            });
            DescribedProducersTopic { name: topic.name.clone(), partitions: partitions.collect() }
        };
        let topics = request.topics.iter().map(describe).collect();
        DescribeProducersResponse { topics, ..DescribeProducersResponse::default() }
    }
}

fn described(id: &Str, transaction: &Transaction) -> DescribedTransaction {
    let mut topics: Vec<DescribedTransactionTopic> = Vec::new();
    for (topic, index) in &transaction.partitions {
        match topics.last_mut().filter(|last| last.topic == *topic) {
            Some(last) => last.partitions.push(*index),
            None => topics.push(DescribedTransactionTopic { topic: topic.clone(), partitions: vec![*index] }),
        }
    }
    DescribedTransaction {
        error_code: ErrorCode::NONE,
        transactional_id: id.clone(),
        transaction_state: Str::from_static(transaction.state().name()),
        transaction_timeout_ms: i32::try_from(transaction.timeout.as_millis()).unwrap_or(i32::MAX),
        transaction_start_time_ms: transaction.started_ms.unwrap_or(-1),
        producer_id: transaction.identity().producer_id,
        producer_epoch: transaction.identity().epoch,
        topics,
    }
}

fn producers(partition: &Partition) -> Vec<ProducerState> {
    let state = |(producer_id, producer): (i64, &crate::core::producers::Producer)| ProducerState {
        producer_id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence().unwrap_or(-1),
        last_timestamp: producer.wrote_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: partition.stability.opened_at(producer_id).unwrap_or(-1),
    };
    partition.producers.iter().map(state).collect()
}

/// Whether the whole text fits a pattern of letters, `.` and `.*`.
fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let parts: Vec<Vec<char>> = pattern.split(".*").map(|part| part.chars().collect()).collect();
    let fits = |part: &[char], here: &[char]| {
        part.len() == here.len() && part.iter().zip(here).all(|(wanted, c)| *wanted == '.' || wanted == c)
    };
    let Some((first, others)) = parts.split_first() else { return text.is_empty() };
    let Some((last, middle)) = others.split_last() else { return fits(first, &text) };
    if text.len() < first.len() + last.len() {
        return false;
    }
    let (head, rest) = text.split_at(first.len());
    let (mut rest, tail) = rest.split_at(rest.len() - last.len());
    let found = middle.iter().filter(|part| !part.is_empty()).all(|part| {
        let at = rest.windows(part.len()).position(|here| fits(part, here));
        rest = at.map_or(&[], |at| &rest[at + part.len()..]);
        at.is_some()
    });
    fits(first, head) && fits(last, tail) && found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_letters_and_wildcards_fits_the_whole_id() {
        for (pattern, id, fits) in [
            ("orders", "orders", true),
            ("order", "orders", false),
            ("order.", "orders", true),
            ("o.*s", "orders", true),
            (".*", "", true),
            (".*-1", "orders-1", true),
            (".*-1", "orders-12", false),
            ("a.*b.*c", "a-b-b-c", true),
            ("a.*b.*c", "acb", false),
            ("ab.*ba", "aba", false),
            ("a.*.*", "a", true),
        ] {
            assert_eq!(matches(pattern, id), fits, "{pattern} for {id}");
        }
    }
}
