//! Every message, one file an area, all of them re-exported here.
//!
//! A field has the name that Kafka's definition gives it, in snake case. What the values mean is said by the KIPs that
//! the messages name; the tables say what is on the wire in which version, and nothing else does.

mod acls;
mod cluster;
mod configs;
mod consumer_group;
mod coordinators;
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
pub use coordinators::*;
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

macro_rules! apis {
    ($($request:ident)*) => {
        /// Every API that this crate has, in the order of their keys.
        pub const APIS: &[Api] = &[$( Api::of::<$request>(), )*];

        /// Shows every API to a test that treats all of them alike.
        #[cfg(test)]
        pub(crate) fn visit(visitor: &mut impl crate::random::Visitor) {
            $( visitor.api::<$request>(); )*
        }
    };
}

apis! {
    ProduceRequest
    FetchRequest
    ListOffsetsRequest
    MetadataRequest
    OffsetCommitRequest
    OffsetFetchRequest
    FindCoordinatorRequest
    JoinGroupRequest
    HeartbeatRequest
    LeaveGroupRequest
    SyncGroupRequest
    DescribeGroupsRequest
    ListGroupsRequest
    SaslHandshakeRequest
    ApiVersionsRequest
    CreateTopicsRequest
    DeleteTopicsRequest
    DeleteRecordsRequest
    InitProducerIdRequest
    OffsetForLeaderEpochRequest
    AddPartitionsToTxnRequest
    AddOffsetsToTxnRequest
    EndTxnRequest
    WriteTxnMarkersRequest
    TxnOffsetCommitRequest
    DescribeAclsRequest
    CreateAclsRequest
    DeleteAclsRequest
    DescribeConfigsRequest
    AlterConfigsRequest
    AlterReplicaLogDirsRequest
    DescribeLogDirsRequest
    SaslAuthenticateRequest
    CreatePartitionsRequest
    CreateDelegationTokenRequest
    RenewDelegationTokenRequest
    ExpireDelegationTokenRequest
    DescribeDelegationTokenRequest
    DeleteGroupsRequest
    ElectLeadersRequest
    IncrementalAlterConfigsRequest
    AlterPartitionReassignmentsRequest
    ListPartitionReassignmentsRequest
    OffsetDeleteRequest
    DescribeClientQuotasRequest
    AlterClientQuotasRequest
    DescribeUserScramCredentialsRequest
    AlterUserScramCredentialsRequest
    DescribeQuorumRequest
    UpdateFeaturesRequest
    DescribeClusterRequest
    DescribeProducersRequest
    UnregisterBrokerRequest
    DescribeTransactionsRequest
    ListTransactionsRequest
    ConsumerGroupHeartbeatRequest
    ConsumerGroupDescribeRequest
    GetTelemetrySubscriptionsRequest
    PushTelemetryRequest
    ListConfigResourcesRequest
    DescribeTopicPartitionsRequest
    ShareGroupHeartbeatRequest
    ShareGroupDescribeRequest
    ShareFetchRequest
    ShareAcknowledgeRequest
    DescribeShareGroupOffsetsRequest
    AlterShareGroupOffsetsRequest
    DeleteShareGroupOffsetsRequest
}
