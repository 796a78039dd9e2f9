//! What a caller may do: whom a request is refused as a whole, and which operation a topic in it needs.
//!
//! Versions: of every request, in each version. The table below is Kafka's; what is asked of single items is beside the items.
//! Without `authorizer.class.name` nobody is refused.

use super::{Call, Caller};
use crate::core::authorizer::{Authorizer, CLUSTER_NAME, Kind, Operation, Who};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;

type Checked = Result<(), ErrorCode>;

/// From this version on it is brokers that add partitions to transactions.
pub(super) const BY_BROKERS: i16 = 4;

/// What must be allowed with a topic that a request names.
fn operation(key: ApiKey) -> Operation {
    match key {
        ApiKey::PRODUCE | ApiKey::ADD_PARTITIONS_TO_TXN => Operation::Write,
        ApiKey::FETCH
        | ApiKey::OFFSET_COMMIT
        | ApiKey::TXN_OFFSET_COMMIT
        | ApiKey::OFFSET_DELETE
        | ApiKey::DESCRIBE_PRODUCERS => Operation::Read,
        ApiKey::DELETE_RECORDS | ApiKey::DELETE_TOPICS => Operation::Delete,
        ApiKey::CREATE_PARTITIONS => Operation::Alter,
        _ => Operation::Describe,
    }
}

impl<'a> From<&'a Caller> for Who<'a> {
    fn from(caller: &'a Caller) -> Self {
        Self { principal: &caller.principal, host: caller.host.trim_start_matches('/') }
    }
}

impl Authorizer {
    /// Whether somebody may do this with a resource; else the error that Kafka has for its kind.
    pub(super) fn check(&self, caller: &Caller, kind: Kind, name: &str, operation: Operation) -> Checked {
        if self.allows(caller.into(), kind, name, operation) {
            return Ok(());
        }
        Err(match kind {
            Kind::Topic => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            Kind::Group => ErrorCode::GROUP_AUTHORIZATION_FAILED,
            Kind::TransactionalId => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Kind::DelegationToken => ErrorCode::DELEGATION_TOKEN_AUTHORIZATION_FAILED,
            Kind::Cluster | Kind::User => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        })
    }

    /// Whether a request of this API may be about a topic.
    pub(super) fn on_topic(&self, key: ApiKey, caller: &Caller, topic: &str) -> Checked {
        self.check(caller, Kind::Topic, topic, operation(key))
    }

    pub(super) fn on_group(&self, operation: Operation, caller: &Caller, group: &str) -> Checked {
        self.check(caller, Kind::Group, group, operation)
    }

    pub(super) fn on_cluster(&self, operation: Operation, caller: &Caller) -> Checked {
        self.check(caller, Kind::Cluster, CLUSTER_NAME, operation)
    }

    pub(super) fn on_transaction(&self, operation: Operation, caller: &Caller, id: &str) -> Checked {
        self.check(caller, Kind::TransactionalId, id, operation)
    }

    /// Whether somebody may do this with the tokens of a user (KIP-373).
    pub(super) fn check_tokens(&self, caller: &Caller, owner: &str, operation: Operation) -> Checked {
        let checked = self.check(caller, Kind::User, owner, operation);
        checked.map_err(|_| ErrorCode::DELEGATION_TOKEN_AUTHORIZATION_FAILED)
    }

    /// Whether a request is to be looked at at all.
    pub(super) fn gate(&self, caller: &Caller, call: &Call) -> Checked {
        use Operation::{Alter, ClusterAction, Delete, Describe, Read, Write};
        if !self.is_on() {
            return Ok(());
        }
        match call {
            Call::Produce(call) => {
                call.transactional_id().map_or(Ok(()), |id| self.on_transaction(Write, caller, id))
            }
            Call::OffsetCommit(call) => self.on_group(Read, caller, &call.group_id),
            Call::OffsetFetch(call) if caller.version < 8 => self.on_group(Describe, caller, &call.group_id),
            Call::OffsetDelete(call) => self.on_group(Delete, caller, &call.group_id),
            Call::JoinGroup(call) => self.on_group(Read, caller, &call.group_id),
            Call::SyncGroup(call) => self.on_group(Read, caller, &call.group_id),
            Call::Heartbeat(call) => self.on_group(Read, caller, &call.group_id),
            Call::LeaveGroup(call) => self.on_group(Read, caller, &call.group_id),
            Call::ConsumerGroupHeartbeat(call) => {
                self.on_group(Read, caller, &call.group_id)?;
                let topics = call.subscribed_topic_names.iter().flatten();
                topics.into_iter().try_for_each(|topic| self.check(caller, Kind::Topic, topic, Describe))
            }
            Call::InitProducerId(call) => self.on_producer(caller, call),
            Call::AddPartitionsToTxn(_) if caller.version >= BY_BROKERS => {
                self.on_cluster(ClusterAction, caller)
            }
            Call::AddPartitionsToTxn(call) => {
                self.on_transaction(Write, caller, &call.v3_and_below_transactional_id)
            }
            Call::AddOffsetsToTxn(call) => {
                self.on_transaction(Write, caller, &call.transactional_id)?;
                self.on_group(Read, caller, &call.group_id)
            }
            Call::EndTxn(call) => self.on_transaction(Write, caller, &call.transactional_id),
            Call::TxnOffsetCommit(call) => {
                self.on_transaction(Write, caller, &call.transactional_id)?;
                self.on_group(Read, caller, &call.group_id)
            }
            Call::WriteTxnMarkers(_) => {
                self.on_cluster(Alter, caller).or_else(|_| self.on_cluster(ClusterAction, caller))
            }
            Call::DescribeLogDirs(_)
            | Call::DescribeAcls(_)
            | Call::DescribeUserScramCredentials(_)
            | Call::ListPartitionReassignments(_) => self.on_cluster(Describe, caller),
            Call::CreateAcls(_)
            | Call::DeleteAcls(_)
            | Call::AlterUserScramCredentials(_)
            | Call::ElectLeaders(_)
            | Call::AlterPartitionReassignments(_) => self.on_cluster(Alter, caller),
            _ => Ok(()),
        }
    }

    fn on_producer(
        &self,
        caller: &Caller,
        call: &ottla_protocol::messages::InitProducerIdRequest,
    ) -> Checked {
        let Some(id) = &call.transactional_id else {
            return match self.allows_any(caller.into(), Kind::Topic, Operation::Write) {
                true => Ok(()),
                false => self.on_cluster(Operation::IdempotentWrite, caller),
            };
        };
        if call.enable_2_pc {
            self.on_transaction(Operation::TwoPhaseCommit, caller, id)?;
        }
        self.on_transaction(Operation::Write, caller, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::authorizer::Rule;
    use crate::core::log::storage::InMemory;
    use crate::core::settings::Settings;
    use crate::core::{Cluster, Handled, Node, Now};
    use ottla_protocol::api::Request;
    use ottla_protocol::frame::{self, Frame};
    use ottla_protocol::messages::*;
    use ottla_protocol::wire::{Str, Uuid};
    use std::time::Instant;

    const STANDARD: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";

    /// A cluster with a topic `t`, in which alice may do everything by rules, and bob nothing.
    fn cluster() -> Cluster {
        let mut settings = Settings::default();
        settings.set("authorizer.class.name", STANDARD).unwrap();
        let mut cluster = Cluster::new(settings, 1, Box::new(InMemory));
        let endpoints = vec![(Str::from_static("node-1"), 9092)];
        let node = Node::new(endpoints, None);
        cluster.nodes.insert(1, node);
        let now = Now { at: Instant::now(), wall_ms: 0 };
        let settings = cluster.plain_settings();
        cluster.create_topic(now, Str::from("t"), vec![vec![1]], settings).unwrap();
        for kind in [Kind::Topic, Kind::Group, Kind::Cluster, Kind::TransactionalId] {
            let name = if kind == Kind::Cluster { CLUSTER_NAME } else { "*" };
            cluster.access.insert(Rule {
                kind,
                name: Str::from(name),
                prefixed: false,
                principal: Str::from("User:alice"),
                host: Str::from("*"),
                operation: Operation::All,
                allows: true,
            });
        }
        cluster
    }

    /// Sends a request as bob, who is refused with this code, and as alice, who is not.
    fn check<R: Request>(version: i16, request: &R, code: ErrorCode) {
        let mut cluster = cluster();
        let now = Now { at: Instant::now(), wall_ms: 0 };
        for (user, refused) in [("bob", true), ("alice", false)] {
            let principal = Str::from(format!("User:{user}"));
            let host = Str::from_static("/127.0.0.1");
            let caller = Caller { node: 1, version, principal, host, ..Caller::default() };
            let mut sent = Frame::default();
            frame::encode_request(request, version, 1, None, &mut sent).unwrap();
            let mut body = sent.to_bytes().slice(4..);
            frame::decode_request_header(&mut body).unwrap();
            let call = Call::decode(R::KEY, version, body).unwrap().unwrap();
            // What is parked was let in.
            let answer = match cluster.handle(now, &caller, call) {
                Handled::Answer(answer) => format!("{answer:?}"),
                other => format!("{other:?}"),
            };
            let (word, number) = (format!("{code:?}"), format!("_code: {},", code.0));
            let says = answer.contains(&word) || answer.contains(&number);
            assert_eq!(says, refused, "{} version {version} of {user}: {answer}", R::KEY);
        }
    }

    fn t() -> Str {
        Str::from_static("t")
    }

    #[test]
    fn who_may_not_use_a_topic_is_refused_by_every_api_that_names_one() {
        let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        let (name, topic, topic_id) = (t(), t(), Uuid::ZERO);
        let partition_data = vec![ProducePartition::default()];
        let topic_data = vec![ProduceTopic { name: t(), topic_id, partition_data }];
        check(9, &ProduceRequest { acks: -1, topic_data, ..ProduceRequest::default() }, code);
        let partitions = vec![FetchPartition::default()];
        let topics = vec![FetchTopic { topic: t(), topic_id, partitions }];
        check(12, &FetchRequest { topics, ..FetchRequest::default() }, code);
        let partitions = vec![ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() }];
        let topics = vec![ListOffsetsTopic { name: t(), partitions }];
        check(5, &ListOffsetsRequest { topics, ..ListOffsetsRequest::default() }, code);
        let partitions = vec![OffsetForLeaderPartition::default()];
        let topics = vec![OffsetForLeaderTopic { topic, partitions }];
        check(3, &OffsetForLeaderEpochRequest { topics, ..OffsetForLeaderEpochRequest::default() }, code);
        let partitions = vec![DeleteRecordsPartition::default()];
        let topics = vec![DeleteRecordsTopic { name: t(), partitions }];
        check(1, &DeleteRecordsRequest { topics, ..DeleteRecordsRequest::default() }, code);
        let asked = MetadataTopic { name: Some(t()), ..MetadataTopic::default() };
        check(9, &MetadataRequest { topics: Some(vec![asked]), ..MetadataRequest::default() }, code);
        let topics = vec![CreatableTopic {
            name: Str::from_static("new"),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }];
        check(5, &CreateTopicsRequest { topics, ..CreateTopicsRequest::default() }, code);
        let grown = CreatePartitionsTopic { name, count: 2, ..CreatePartitionsTopic::default() };
        check(
            1,
            &CreatePartitionsRequest { topics: vec![grown], ..CreatePartitionsRequest::default() },
            code,
        );
        let asked = DescribeConfigsResource { resource_type: 2, resource_name: t(), ..Default::default() };
        check(2, &DescribeConfigsRequest { resources: vec![asked], ..Default::default() }, code);
        let asked =
            IncrementalAlterConfigsResource { resource_type: 2, resource_name: t(), ..Default::default() };
        check(1, &IncrementalAlterConfigsRequest { resources: vec![asked], ..Default::default() }, code);
        let topics = vec![DescribeProducersTopic { name: t(), partition_indexes: vec![0] }];
        check(0, &DescribeProducersRequest { topics }, code);
        check(3, &DeleteTopicsRequest { topic_names: vec![t()], ..DeleteTopicsRequest::default() }, code);
    }

    #[test]
    fn who_may_not_use_a_group_is_refused() {
        let code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
        let g = || Str::from_static("g");
        check(5, &JoinGroupRequest { group_id: g(), ..JoinGroupRequest::default() }, code);
        check(3, &SyncGroupRequest { group_id: g(), ..SyncGroupRequest::default() }, code);
        check(3, &HeartbeatRequest { group_id: g(), ..HeartbeatRequest::default() }, code);
        check(3, &LeaveGroupRequest { group_id: g(), ..LeaveGroupRequest::default() }, code);
        check(0, &ConsumerGroupHeartbeatRequest { group_id: g(), ..Default::default() }, code);
        let partitions = vec![OffsetCommitPartition::default()];
        let topics = vec![OffsetCommitTopic { name: t(), topic_id: Uuid::ZERO, partitions }];
        check(8, &OffsetCommitRequest { group_id: g(), topics, ..OffsetCommitRequest::default() }, code);
        check(5, &OffsetFetchRequest { group_id: g(), ..OffsetFetchRequest::default() }, code);
        let group = OffsetFetchGroup { group_id: g(), ..OffsetFetchGroup::default() };
        check(8, &OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() }, code);
        check(0, &OffsetDeleteRequest { group_id: g(), ..OffsetDeleteRequest::default() }, code);
        check(4, &FindCoordinatorRequest { coordinator_keys: vec![g()], ..Default::default() }, code);
        check(3, &FindCoordinatorRequest { key: g(), ..FindCoordinatorRequest::default() }, code);
        check(5, &DescribeGroupsRequest { groups: vec![g()], ..DescribeGroupsRequest::default() }, code);
        check(0, &ConsumerGroupDescribeRequest { group_ids: vec![g()], ..Default::default() }, code);
        check(2, &DeleteGroupsRequest { groups_names: vec![g()] }, code);
    }

    #[test]
    fn who_may_not_have_a_transaction_is_refused() {
        let code = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        let x = || Str::from_static("x");
        let topics = vec![AddPartitionsToTxnTopic { name: t(), partitions: vec![0] }];
        let mut added =
            AddPartitionsToTxnRequest { v3_and_below_transactional_id: x(), ..Default::default() };
        added.v3_and_below_topics = topics;
        check(3, &added, code);
        let group_id = Str::from_static("g");
        check(3, &AddOffsetsToTxnRequest { transactional_id: x(), group_id, ..Default::default() }, code);
        check(3, &EndTxnRequest { transactional_id: x(), ..EndTxnRequest::default() }, code);
        let id = Some(x());
        check(4, &InitProducerIdRequest { transactional_id: id, ..InitProducerIdRequest::default() }, code);
        check(0, &DescribeTransactionsRequest { transactional_ids: vec![x()] }, code);
        let asked = FindCoordinatorRequest { key_type: 1, coordinator_keys: vec![x()], ..Default::default() };
        check(4, &asked, code);
    }

    #[test]
    fn who_may_not_manage_the_cluster_is_refused() {
        let code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        let fresh = InitProducerIdRequest {
            transactional_id: None,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        check(4, &fresh, code);
        check(4, &AddPartitionsToTxnRequest::default(), code);
        let marker = WritableTxnMarker {
            topics: vec![WritableTxnMarkerTopic { name: t(), partition_indexes: vec![0] }],
            ..WritableTxnMarker::default()
        };
        check(1, &WriteTxnMarkersRequest { markers: vec![marker] }, code);
        check(3, &DescribeLogDirsRequest::default(), code);
        let filter = DescribeAclsRequest {
            resource_type_filter: 1,
            pattern_type_filter: 1,
            operation: 1,
            permission_type: 1,
            ..DescribeAclsRequest::default()
        };
        check(2, &filter, code);
        check(2, &CreateAclsRequest { creations: vec![AclCreation::default()] }, code);
        check(2, &DeleteAclsRequest { filters: vec![DeleteAclsFilter::default()] }, code);
        check(0, &DescribeUserScramCredentialsRequest::default(), code);
        let deletions = vec![ScramCredentialDeletion { name: Str::from_static("u"), mechanism: 1 }];
        check(0, &AlterUserScramCredentialsRequest { deletions, ..Default::default() }, code);
        let asked = DescribeConfigsResource { resource_type: 4, ..DescribeConfigsResource::default() };
        check(2, &DescribeConfigsRequest { resources: vec![asked], ..Default::default() }, code);
    }

    #[test]
    fn what_somebody_may_not_know_of_he_is_not_shown() {
        let mut cluster = cluster();
        let now = Now { at: Instant::now(), wall_ms: 0 };
        let caller = |user: &str| {
            let principal = Str::from(format!("User:{user}"));
            Caller { node: 1, version: 12, principal, ..Caller::default() }
        };
        let all = || MetadataRequest {
            topics: None,
            include_topic_authorized_operations: true,
            ..MetadataRequest::default()
        };
        let shown = cluster.metadata(now, &caller("alice"), all()).topics;
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].topic_authorized_operations, 0b1101_1111_1000);
        let topic_id = shown[0].topic_id;
        assert_eq!(cluster.metadata(now, &caller("bob"), all()).topics, []);
        let by_id = MetadataTopic { topic_id, name: None };
        let asked = MetadataRequest { topics: Some(vec![by_id]), ..MetadataRequest::default() };
        let answer = cluster.metadata(now, &caller("bob"), asked);
        assert_eq!(answer.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
        assert_eq!(answer.topics[0].name, None);
    }
}
