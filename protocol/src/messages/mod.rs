//! Every message, one file an area, all of them re-exported here.
//!
//! A field has the name that Kafka's definition gives it, in snake case. What the values mean is said by the KIPs that
//! the messages name; the tables say what is on the wire in which version, and nothing else does.

mod acls;
mod cluster;
mod configs;
mod consumer_group;
mod fetch;
mod group;
mod metadata;
mod offsets;
mod produce;
mod quotas;
mod security;
mod share_group;
mod telemetry;
mod topics;
mod transaction;

use crate::api::Api;

pub use acls::*;
pub use cluster::*;
pub use configs::*;
pub use consumer_group::*;
pub use fetch::*;
pub use group::*;
pub use metadata::*;
pub use offsets::*;
pub use produce::*;
pub use quotas::*;
pub use security::*;
pub use share_group::*;
pub use telemetry::*;
pub use topics::*;
pub use transaction::*;

/// Every API that this crate has, in the order of their keys.
pub const APIS: &[Api] = &[
    Api::of::<ProduceRequest>(),
    Api::of::<FetchRequest>(),
    Api::of::<ListOffsetsRequest>(),
    Api::of::<MetadataRequest>(),
    Api::of::<OffsetCommitRequest>(),
    Api::of::<OffsetFetchRequest>(),
    Api::of::<FindCoordinatorRequest>(),
    Api::of::<JoinGroupRequest>(),
    Api::of::<HeartbeatRequest>(),
    Api::of::<LeaveGroupRequest>(),
    Api::of::<SyncGroupRequest>(),
    Api::of::<DescribeGroupsRequest>(),
    Api::of::<ListGroupsRequest>(),
    Api::of::<SaslHandshakeRequest>(),
    Api::of::<ApiVersionsRequest>(),
    Api::of::<CreateTopicsRequest>(),
    Api::of::<DeleteTopicsRequest>(),
    Api::of::<DeleteRecordsRequest>(),
    Api::of::<InitProducerIdRequest>(),
    Api::of::<OffsetForLeaderEpochRequest>(),
    Api::of::<AddPartitionsToTxnRequest>(),
    Api::of::<AddOffsetsToTxnRequest>(),
    Api::of::<EndTxnRequest>(),
    Api::of::<WriteTxnMarkersRequest>(),
    Api::of::<TxnOffsetCommitRequest>(),
    Api::of::<DescribeAclsRequest>(),
    Api::of::<CreateAclsRequest>(),
    Api::of::<DeleteAclsRequest>(),
    Api::of::<DescribeConfigsRequest>(),
    Api::of::<AlterConfigsRequest>(),
    Api::of::<AlterReplicaLogDirsRequest>(),
    Api::of::<DescribeLogDirsRequest>(),
    Api::of::<SaslAuthenticateRequest>(),
    Api::of::<CreatePartitionsRequest>(),
    Api::of::<CreateDelegationTokenRequest>(),
    Api::of::<RenewDelegationTokenRequest>(),
    Api::of::<ExpireDelegationTokenRequest>(),
    Api::of::<DescribeDelegationTokenRequest>(),
    Api::of::<DeleteGroupsRequest>(),
    Api::of::<ElectLeadersRequest>(),
    Api::of::<IncrementalAlterConfigsRequest>(),
    Api::of::<AlterPartitionReassignmentsRequest>(),
    Api::of::<ListPartitionReassignmentsRequest>(),
    Api::of::<OffsetDeleteRequest>(),
    Api::of::<DescribeClientQuotasRequest>(),
    Api::of::<AlterClientQuotasRequest>(),
    Api::of::<DescribeUserScramCredentialsRequest>(),
    Api::of::<AlterUserScramCredentialsRequest>(),
    Api::of::<DescribeQuorumRequest>(),
    Api::of::<UpdateFeaturesRequest>(),
    Api::of::<DescribeClusterRequest>(),
    Api::of::<DescribeProducersRequest>(),
    Api::of::<UnregisterBrokerRequest>(),
    Api::of::<DescribeTransactionsRequest>(),
    Api::of::<ListTransactionsRequest>(),
    Api::of::<ConsumerGroupHeartbeatRequest>(),
    Api::of::<ConsumerGroupDescribeRequest>(),
    Api::of::<GetTelemetrySubscriptionsRequest>(),
    Api::of::<PushTelemetryRequest>(),
    Api::of::<ListConfigResourcesRequest>(),
    Api::of::<DescribeTopicPartitionsRequest>(),
    Api::of::<ShareGroupHeartbeatRequest>(),
    Api::of::<ShareGroupDescribeRequest>(),
    Api::of::<ShareFetchRequest>(),
    Api::of::<ShareAcknowledgeRequest>(),
    Api::of::<DescribeShareGroupOffsetsRequest>(),
    Api::of::<AlterShareGroupOffsetsRequest>(),
    Api::of::<DeleteShareGroupOffsetsRequest>(),
];
