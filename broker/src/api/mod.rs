//! What the broker answers: one row an API in the table below, one file an area beside it.
//!
//! Each file opens with a "Versions" block that says what is honoured and what is ignored. The handlers are methods of
//! the [`Cluster`]; they see a request whole and answer it, or park it. Nothing here reads a clock or moves a byte.
//!
//! Invariant: what ApiVersions advertises is this table, and nothing outside of it is served.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod access;
pub(crate) mod acknowledgement;
pub(crate) mod acls;
pub(crate) mod cluster;
pub(crate) mod commits;
pub(crate) mod configs;
pub(crate) mod consumer_groups;
pub(crate) mod delegation;
pub(crate) mod elections;
pub(crate) mod fetch;
pub(crate) mod groups;
pub(crate) mod log_dirs;
pub(crate) mod membership;
pub(crate) mod offsets;
pub(crate) mod partitions;
pub(crate) mod produce;
pub(crate) mod producer_id;
pub(crate) mod reassignments;
pub(crate) mod records;
pub(crate) mod rules;
pub(crate) mod sasl;
pub(crate) mod scram_users;
pub(crate) mod topics;
pub(crate) mod transaction_offsets;
pub(crate) mod transaction_views;
pub(crate) mod transactions;
pub(crate) mod unserved;
pub(crate) mod versions;

use crate::core::{Cluster, Handled, Now};
use bytes::Bytes;
use ottla_protocol::api::{ApiKey, Request};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame::{self, Frame};
use ottla_protocol::messages::*;
use ottla_protocol::wire::{DecodeError, EncodeError, Str};

/// Who sent a request, and in which version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The node that was asked.
    pub(crate) node: i32,
    pub(crate) version: i16,
    /// Empty when the client has no name.
    pub(crate) client_id: Str,
    /// Where the client connects from, as text.
    pub(crate) host: Str,
    /// By which listener it came in.
    pub(crate) listener: usize,
    /// Who it is: `User:alice`.
    pub(crate) principal: Str,
    /// Whether it has shown a delegation token for that.
    pub(crate) by_token: bool,
}

/// A request that can be refused as a whole: what its answer looks like when everything in it failed.
pub(crate) trait Refuse {
    type Response;

    fn refuse(&self, code: ErrorCode) -> Self::Response;
}

/// Brokers that write markers are never throttled, nor are logins.
macro_rules! throttle {
    (WriteTxnMarkers, $response:ident, $ms:ident) => {{}};
    (SaslHandshake, $response:ident, $ms:ident) => {{}};
    (SaslAuthenticate, $response:ident, $ms:ident) => {{}};
    ($name:ident, $response:ident, $ms:ident) => {
        $response.throttle_time_ms = $ms
    };
}

macro_rules! apis {
    ($( $name:ident($call:ty): $request:ident, $versions:expr => $response:ident, $handler:ident; )+) => {
        /// A request that arrived, decoded.
        #[derive(Debug, Clone)]
        pub(crate) enum Call { $( $name($call), )+ }

        /// The answer to a request.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "each variant is the API of its name")]
        #[non_exhaustive]
        pub enum Answer { $( $name($response), )+ }

        $( impl From<$response> for Answer {
            fn from(response: $response) -> Self { Self::$name(response) }
        } )+

        /// Every API that is served, with its lowest and highest version.
        pub(crate) const SERVED: &[(ApiKey, i16, i16)] =
            &[ $( ($request::KEY, *$versions.start(), *$versions.end()), )+ ];

        impl Call {
            /// Reads the body of a request. `None` when the broker does not have the API, or not in this version.
            pub(crate) fn decode(key: ApiKey, version: i16, body: Bytes) -> Option<Result<Self, DecodeError>> {
                $( if key == $request::KEY && $request::VERSIONS.contains(&version) {
                    let flexible = version >= $request::FLEXIBLE;
                    let request = frame::decode::<$request>(body, version, flexible);
                    return Some(request.map(|request| Self::$name(request.into())));
                } )+
                None
            }

            /// The API that is asked.
            pub(crate) fn key(&self) -> ApiKey {
                match self { $( Self::$name(_) => $request::KEY, )+ }
            }

            /// Whether nobody waits for an answer.
            fn is_silent(&self) -> bool {
                matches!(self, Self::Produce(call) if call.is_silent())
            }

            /// The answer when everything that is asked fails with this code.
            pub(crate) fn refuse(&self, code: ErrorCode) -> Answer {
                match self { $( Self::$name(call) => Answer::$name(call.refuse(code)), )+ }
            }
        }

        impl Answer {
            /// Appends the answer to `frame`.
            pub(crate) fn encode(&self, version: i16, correlation: i32, frame: &mut Frame) -> Result<(), EncodeError> {
                match self { $( Self::$name(response) => {
                    let flexible = version >= $request::FLEXIBLE;
                    frame::encode_response($request::KEY, flexible, response, version, correlation, frame)
                } )+ }
            }

            /// Says for how long the client should be silent (KIP-219).
            pub(crate) fn throttle(&mut self, ms: i32) {
                match self { $( Self::$name(_response) => throttle!($name, _response, ms), )+ }
            }
        }

        impl Cluster {
            /// Handles a request that arrived at one of the nodes.
            pub(crate) fn handle(&mut self, now: Now, caller: &Caller, call: Call) -> Handled {
                self.tick(now);
                self.promise_producer_ids(now);
                if let Err(code) = self.access.gate(caller, &call) {
                    return if call.is_silent() { Handled::HangUp } else { Handled::Answer(call.refuse(code)) };
                }
                match call { $( Call::$name(call) => self.$handler(now, caller, call).into(), )+ }
            }
        }

        $( impl From<$response> for Handled {
            fn from(response: $response) -> Self { Self::Answer(Answer::$name(response)) }
        } )+
    };
}

apis! {
    Produce(produce::Produced): ProduceRequest, 3..=13 => ProduceResponse, produce;
    Fetch(FetchRequest): FetchRequest, 4..=17 => FetchResponse, fetch;
    ListOffsets(ListOffsetsRequest): ListOffsetsRequest, 1..=11 => ListOffsetsResponse, list_offsets;
    Metadata(MetadataRequest): MetadataRequest, 0..=13 => MetadataResponse, metadata;
    OffsetCommit(OffsetCommitRequest): OffsetCommitRequest, 2..=10 => OffsetCommitResponse, offset_commit;
    OffsetFetch(OffsetFetchRequest): OffsetFetchRequest, 1..=10 => OffsetFetchResponse, offset_fetch;
    FindCoordinator(FindCoordinatorRequest): FindCoordinatorRequest, 0..=6 => FindCoordinatorResponse, find_coordinator;
    JoinGroup(JoinGroupRequest): JoinGroupRequest, 0..=9 => JoinGroupResponse, join_group;
    Heartbeat(HeartbeatRequest): HeartbeatRequest, 0..=4 => HeartbeatResponse, heartbeat;
    LeaveGroup(LeaveGroupRequest): LeaveGroupRequest, 0..=5 => LeaveGroupResponse, leave_group;
    SyncGroup(SyncGroupRequest): SyncGroupRequest, 0..=5 => SyncGroupResponse, sync_group;
    DescribeGroups(DescribeGroupsRequest): DescribeGroupsRequest, 0..=6 => DescribeGroupsResponse, describe_groups;
    ListGroups(ListGroupsRequest): ListGroupsRequest, 0..=5 => ListGroupsResponse, list_groups;
    SaslHandshake(SaslHandshakeRequest): SaslHandshakeRequest, 0..=1 => SaslHandshakeResponse, sasl_handshake;
    ApiVersions(ApiVersionsRequest): ApiVersionsRequest, 0..=5 => ApiVersionsResponse, api_versions;
    CreateTopics(CreateTopicsRequest): CreateTopicsRequest, 2..=7 => CreateTopicsResponse, create_topics;
    DeleteTopics(DeleteTopicsRequest): DeleteTopicsRequest, 1..=6 => DeleteTopicsResponse, delete_topics;
    DescribeAcls(DescribeAclsRequest): DescribeAclsRequest, 1..=3 => DescribeAclsResponse, describe_acls;
    CreateAcls(CreateAclsRequest): CreateAclsRequest, 1..=3 => CreateAclsResponse, create_acls;
    DeleteAcls(DeleteAclsRequest): DeleteAclsRequest, 1..=3 => DeleteAclsResponse, delete_acls;
    CreateDelegationToken(CreateDelegationTokenRequest): CreateDelegationTokenRequest, 1..=3 => CreateDelegationTokenResponse, create_delegation_token;
    RenewDelegationToken(RenewDelegationTokenRequest): RenewDelegationTokenRequest, 1..=2 => RenewDelegationTokenResponse, renew_delegation_token;
    ExpireDelegationToken(ExpireDelegationTokenRequest): ExpireDelegationTokenRequest, 1..=2 => ExpireDelegationTokenResponse, expire_delegation_token;
    DescribeDelegationToken(DescribeDelegationTokenRequest): DescribeDelegationTokenRequest, 1..=3 => DescribeDelegationTokenResponse, describe_delegation_token;
    DescribeUserScramCredentials(DescribeUserScramCredentialsRequest): DescribeUserScramCredentialsRequest, 0..=0 => DescribeUserScramCredentialsResponse, describe_user_scram_credentials;
    AlterUserScramCredentials(AlterUserScramCredentialsRequest): AlterUserScramCredentialsRequest, 0..=0 => AlterUserScramCredentialsResponse, alter_user_scram_credentials;
    DescribeLogDirs(DescribeLogDirsRequest): DescribeLogDirsRequest, 1..=5 => DescribeLogDirsResponse, describe_log_dirs;
    DescribeConfigs(DescribeConfigsRequest): DescribeConfigsRequest, 1..=4 => DescribeConfigsResponse, describe_configs;
    AlterConfigs(AlterConfigsRequest): AlterConfigsRequest, 0..=2 => AlterConfigsResponse, alter_configs;
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest): IncrementalAlterConfigsRequest, 0..=1 => IncrementalAlterConfigsResponse, incremental_alter_configs;
    SaslAuthenticate(SaslAuthenticateRequest): SaslAuthenticateRequest, 0..=2 => SaslAuthenticateResponse, sasl_authenticate;
    CreatePartitions(CreatePartitionsRequest): CreatePartitionsRequest, 0..=3 => CreatePartitionsResponse, create_partitions;
    DeleteRecords(DeleteRecordsRequest): DeleteRecordsRequest, 0..=2 => DeleteRecordsResponse, delete_records;
    InitProducerId(InitProducerIdRequest): InitProducerIdRequest, 0..=6 => InitProducerIdResponse, init_producer_id;
    AddPartitionsToTxn(AddPartitionsToTxnRequest): AddPartitionsToTxnRequest, 0..=5 => AddPartitionsToTxnResponse, add_partitions_to_txn;
    AddOffsetsToTxn(AddOffsetsToTxnRequest): AddOffsetsToTxnRequest, 0..=4 => AddOffsetsToTxnResponse, add_offsets_to_txn;
    EndTxn(EndTxnRequest): EndTxnRequest, 0..=5 => EndTxnResponse, end_txn;
    WriteTxnMarkers(WriteTxnMarkersRequest): WriteTxnMarkersRequest, 1..=2 => WriteTxnMarkersResponse, write_txn_markers;
    TxnOffsetCommit(TxnOffsetCommitRequest): TxnOffsetCommitRequest, 0..=6 => TxnOffsetCommitResponse, txn_offset_commit;
    DescribeProducers(DescribeProducersRequest): DescribeProducersRequest, 0..=0 => DescribeProducersResponse, describe_producers;
    DescribeTransactions(DescribeTransactionsRequest): DescribeTransactionsRequest, 0..=0 => DescribeTransactionsResponse, describe_transactions;
    ListTransactions(ListTransactionsRequest): ListTransactionsRequest, 0..=2 => ListTransactionsResponse, list_transactions;
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest): OffsetForLeaderEpochRequest, 2..=4 => OffsetForLeaderEpochResponse, offset_for_leader_epoch;
    DeleteGroups(DeleteGroupsRequest): DeleteGroupsRequest, 0..=3 => DeleteGroupsResponse, delete_groups;
    ElectLeaders(ElectLeadersRequest): ElectLeadersRequest, 0..=2 => ElectLeadersResponse, elect_leaders;
    AlterPartitionReassignments(AlterPartitionReassignmentsRequest): AlterPartitionReassignmentsRequest, 0..=1 => AlterPartitionReassignmentsResponse, alter_partition_reassignments;
    ListPartitionReassignments(ListPartitionReassignmentsRequest): ListPartitionReassignmentsRequest, 0..=0 => ListPartitionReassignmentsResponse, list_partition_reassignments;
    OffsetDelete(OffsetDeleteRequest): OffsetDeleteRequest, 0..=0 => OffsetDeleteResponse, offset_delete;
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest): ConsumerGroupHeartbeatRequest, 0..=1 => ConsumerGroupHeartbeatResponse, consumer_group_heartbeat;
    ConsumerGroupDescribe(ConsumerGroupDescribeRequest): ConsumerGroupDescribeRequest, 0..=1 => ConsumerGroupDescribeResponse, consumer_group_describe;
    DescribeCluster(DescribeClusterRequest): DescribeClusterRequest, 0..=2 => DescribeClusterResponse, describe_cluster;
}
