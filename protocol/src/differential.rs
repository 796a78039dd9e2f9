//! Our tables against the generated code of the `kafka-protocol` crate: both must read and write the same bytes.
//!
//! Only bytes that we have made ourselves are given to that crate, as it trusts whatever lengths it reads.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};

use crate::api::{Api, Request};
use crate::frame::{self, Frame};
use crate::messages::{self as ours, APIS};
use crate::random::{Random, Source};
use crate::wire::{Encoder, Wire};

const VALUES_PER_VERSION: u64 = 100;

/// What kafka-protocol 0.18 does not have; golden frames of Apache Kafka stand in for it.
pub(crate) const ONLY_OURS: &[(&str, i16)] = &[
    ("ListOffsetsRequest", 11),
    ("ListOffsetsResponse", 11),
    ("OffsetCommitRequest", 10),
    ("OffsetFetchRequest", 10),
    ("ApiVersionsRequest", 5),
    ("ApiVersionsResponse", 5),
    UNSTABLE,
    ("WriteTxnMarkersRequest", 2),
    ("WriteTxnMarkersResponse", 2),
    ("TxnOffsetCommitRequest", 6),
    ("TxnOffsetCommitResponse", 6),
    ("DescribeLogDirsRequest", 5),
    ("DescribeLogDirsResponse", 5),
    ("DeleteGroupsRequest", 3),
    ("DeleteGroupsResponse", 3),
    ("ShareFetchRequest", 2),
    ("ShareFetchResponse", 2),
    ("ShareAcknowledgeRequest", 2),
    ("ShareAcknowledgeResponse", 2),
    ("DescribeShareGroupOffsetsRequest", 1),
    ("DescribeShareGroupOffsetsResponse", 1),
];

/// No broker says it unless it is told to (KIP-939), so it was not recorded; Kafka's classes have written it.
pub(crate) const UNSTABLE: (&str, i16) = ("InitProducerIdRequest", 6);

/// Fields that only one side has: of versions that the other one lacks, and two that are named otherwise.
const ONE_SIDE: &[(&str, &str)] = &[
    ("ApiVersionsRequest", "cluster_id"),
    ("ApiVersionsRequest", "node_id"),
    ("DeleteGroupsResponse", "error_message"),
    ("DescribeClientQuotasRequest", "_match"),
    ("DescribeClientQuotasRequest", "match"),
    ("DescribeLogDirsResponse", "is_cordoned"),
    ("DescribeShareGroupOffsetsResponse", "lag"),
    ("OffsetFetchRequest", "topic_id"),
    ("OffsetFetchResponse", "topic_id"),
    ("ShareAcknowledgeRequest", "is_renew_ack"),
    ("ShareAcknowledgeResponse", "acquisition_lock_timeout_ms"),
    ("ShareFetchRequest", "is_renew_ack"),
    ("ShareFetchRequest", "partition_max_bytes"),
    ("ShareFetchRequest", "share_acquire_mode"),
    ("TxnOffsetCommitRequest", "generation_id"),
    ("TxnOffsetCommitRequest", "generation_id_or_member_epoch"),
    ("TxnOffsetCommitRequest", "topic_id"),
    ("TxnOffsetCommitResponse", "topic_id"),
    ("WriteTxnMarkersRequest", "transaction_version"),
];

#[derive(Default)]
struct Comparison {
    apis: Vec<Api>,
    compared: usize,
    only_ours: Vec<(&'static str, i16)>,
    one_side: BTreeSet<(&'static str, String)>,
}

impl Comparison {
    fn api<R, Q, A>(&mut self, request: &'static str, response: &'static str)
    where
        R: Request + Random,
        R::Response: Random,
        Q: Encodable + Decodable + Message + HeaderVersion + Debug,
        A: Encodable + Decodable + Message + Debug,
    {
        self.apis.push(Api::of::<R>());
        self.message::<R, Q>(request, R::VERSIONS, R::FLEXIBLE);
        self.message::<R::Response, A>(response, R::VERSIONS, R::FLEXIBLE);
        for version in R::VERSIONS.filter(|version| shares::<Q>(*version)) {
            check_header::<R, Q>(version);
        }
    }

    fn message<O, T>(&mut self, name: &'static str, versions: RangeInclusive<i16>, flexible_from: i16)
    where
        O: Wire + Random + Default + Debug + PartialEq,
        T: Encodable + Decodable + Message + Debug,
    {
        for version in versions {
            if !shares::<T>(version) {
                self.only_ours.push((name, version));
                continue;
            }
            self.compared += 1;
            let flexible = version >= flexible_from;
            let context = format!("{name} v{version} by default");
            // A default may hold what its version does not carry, so it need not come back as it was.
            check_value::<O, T>(&context, &O::default(), version, flexible);
            for seed in 0..VALUES_PER_VERSION {
                let context = format!("{name} v{version} seed {seed}");
                let value = O::random(&mut Source::new(seed, version, flexible));
                let (back, other) = check_value::<O, T>(&context, &value, version, flexible);
                assert_eq!(back, value, "{context}: we read other values than we wrote");
                self.names(&context, name, &format!("{value:?}"), &format!("{other:?}"));
            }
        }
    }

    /// Two fields of one type that change places are no matter to the bytes, but to the names.
    fn names(&mut self, context: &str, message: &'static str, ours: &str, theirs: &str) {
        let (ours, theirs) = (names(ours), names(theirs));
        let both = |name: &&&str| ours.contains(name) && theirs.contains(name);
        let alone = ours.iter().chain(&theirs).filter(|name| !both(name));
        self.one_side.extend(alone.map(|name| (message, String::from(*name))));
        let [ours, theirs] = [&ours, &theirs].map(|names| names.iter().filter(both).collect::<Vec<_>>());
        assert_eq!(ours, theirs, "{context}: our fields have other names than theirs");
    }
}

fn shares<T: Message>(version: i16) -> bool {
    (T::VERSIONS.min..=T::VERSIONS.max).contains(&version)
}

/// We write, they read and write; returns what we read of that, and what they had read.
fn check_value<O: Wire, T: Encodable + Decodable>(
    context: &str,
    value: &O,
    version: i16,
    flexible: bool,
) -> (O, T) {
    let mut bytes = BytesMut::new();
    value.encode(&mut Encoder::new(&mut bytes, version, flexible)).expect(context);
    let mut left = bytes.clone().freeze();
    let other = T::decode(&mut left, version).expect(context);
    assert!(left.is_empty(), "{context}: they leave {} bytes", left.len());
    let mut written = BytesMut::new();
    other.encode(&mut written, version).expect(context);
    assert_eq!(written, bytes, "{context}: they write other bytes than we do");
    (frame::decode(written.freeze(), version, flexible).expect(context), other)
}

/// The names of the fields in what `Debug` prints of a message.
fn names(debug: &str) -> Vec<&str> {
    debug
        .split(' ')
        .filter_map(|word| word.strip_suffix(':'))
        .filter(|name| *name != "unknown_tagged_fields")
        .collect()
}

fn check_header<R: Request, Q: HeaderVersion>(version: i16) {
    let context = format!("{} v{version}", R::NAME);
    let mut frame = Frame::default();
    frame::encode_request(&R::default(), version, 77, Some("me"), &mut frame).expect(&context);
    let bytes = frame.to_bytes();
    let mut rest: Bytes = bytes.slice(4..);
    let header = theirs::RequestHeader::decode(&mut rest, Q::header_version(version)).expect(&context);
    assert_eq!((header.request_api_key, header.request_api_version), (R::KEY.0, version), "{context}");
    assert_eq!((header.correlation_id, header.client_id.as_deref()), (77, Some("me")), "{context}");
    let mut body = BytesMut::new();
    R::default().encode(&mut Encoder::new(&mut body, version, version >= R::FLEXIBLE)).expect(&context);
    assert_eq!(rest, body, "{context}: what follows the header is the message");
}

#[test]
#[allow(clippy::print_stderr)] // The count tells whoever reads the log that nothing was skipped.
fn every_message_in_every_version_is_what_kafka_protocol_reads_and_writes() {
    let mut comparison = compare_apis();
    comparison.message::<ours::ConsumerProtocolSubscription, theirs::ConsumerProtocolSubscription>(
        "ConsumerProtocolSubscription",
        0..=ours::ConsumerProtocolSubscription::LATEST,
        i16::MAX,
    );
    comparison.message::<ours::ConsumerProtocolAssignment, theirs::ConsumerProtocolAssignment>(
        "ConsumerProtocolAssignment",
        0..=ours::ConsumerProtocolAssignment::LATEST,
        i16::MAX,
    );
    assert_eq!(comparison.apis, APIS, "a row for each API, in the order of their keys");
    let one_side = comparison.one_side.iter().map(|(message, field)| (*message, field.as_str()));
    assert_eq!(one_side.collect::<Vec<_>>(), ONE_SIDE, "the fields that one side does not have");
    assert_eq!(comparison.only_ours, ONLY_OURS, "the versions that only we have");
    eprintln!("{} message-versions compared, {VALUES_PER_VERSION} random values each", comparison.compared);
}

macro_rules! compare {
    ($($request:ident $response:ident;)*) => {{
        let mut comparison = Comparison::default();
        $( comparison.api::<ours::$request, theirs::$request, theirs::$response>(
            stringify!($request),
            stringify!($response),
        ); )*
        comparison
    }};
}

fn compare_apis() -> Comparison {
    compare! {
        ProduceRequest ProduceResponse;
        FetchRequest FetchResponse;
        ListOffsetsRequest ListOffsetsResponse;
        MetadataRequest MetadataResponse;
        OffsetCommitRequest OffsetCommitResponse;
        OffsetFetchRequest OffsetFetchResponse;
        FindCoordinatorRequest FindCoordinatorResponse;
        JoinGroupRequest JoinGroupResponse;
        HeartbeatRequest HeartbeatResponse;
        LeaveGroupRequest LeaveGroupResponse;
        SyncGroupRequest SyncGroupResponse;
        DescribeGroupsRequest DescribeGroupsResponse;
        ListGroupsRequest ListGroupsResponse;
        SaslHandshakeRequest SaslHandshakeResponse;
        ApiVersionsRequest ApiVersionsResponse;
        CreateTopicsRequest CreateTopicsResponse;
        DeleteTopicsRequest DeleteTopicsResponse;
        DeleteRecordsRequest DeleteRecordsResponse;
        InitProducerIdRequest InitProducerIdResponse;
        OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
        AddPartitionsToTxnRequest AddPartitionsToTxnResponse;
        AddOffsetsToTxnRequest AddOffsetsToTxnResponse;
        EndTxnRequest EndTxnResponse;
        WriteTxnMarkersRequest WriteTxnMarkersResponse;
        TxnOffsetCommitRequest TxnOffsetCommitResponse;
        DescribeAclsRequest DescribeAclsResponse;
        CreateAclsRequest CreateAclsResponse;
        DeleteAclsRequest DeleteAclsResponse;
        DescribeConfigsRequest DescribeConfigsResponse;
        AlterConfigsRequest AlterConfigsResponse;
        AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse;
        DescribeLogDirsRequest DescribeLogDirsResponse;
        SaslAuthenticateRequest SaslAuthenticateResponse;
        CreatePartitionsRequest CreatePartitionsResponse;
        CreateDelegationTokenRequest CreateDelegationTokenResponse;
        RenewDelegationTokenRequest RenewDelegationTokenResponse;
        ExpireDelegationTokenRequest ExpireDelegationTokenResponse;
        DescribeDelegationTokenRequest DescribeDelegationTokenResponse;
        DeleteGroupsRequest DeleteGroupsResponse;
        ElectLeadersRequest ElectLeadersResponse;
        IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
        AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse;
        ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse;
        OffsetDeleteRequest OffsetDeleteResponse;
        DescribeClientQuotasRequest DescribeClientQuotasResponse;
        AlterClientQuotasRequest AlterClientQuotasResponse;
        DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse;
        AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse;
        DescribeQuorumRequest DescribeQuorumResponse;
        UpdateFeaturesRequest UpdateFeaturesResponse;
        DescribeClusterRequest DescribeClusterResponse;
        DescribeProducersRequest DescribeProducersResponse;
        UnregisterBrokerRequest UnregisterBrokerResponse;
        DescribeTransactionsRequest DescribeTransactionsResponse;
        ListTransactionsRequest ListTransactionsResponse;
        ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse;
        ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse;
        GetTelemetrySubscriptionsRequest GetTelemetrySubscriptionsResponse;
        PushTelemetryRequest PushTelemetryResponse;
        ListConfigResourcesRequest ListConfigResourcesResponse;
        DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse;
        ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse;
        ShareGroupDescribeRequest ShareGroupDescribeResponse;
        ShareFetchRequest ShareFetchResponse;
        ShareAcknowledgeRequest ShareAcknowledgeResponse;
        DescribeShareGroupOffsetsRequest DescribeShareGroupOffsetsResponse;
        AlterShareGroupOffsetsRequest AlterShareGroupOffsetsResponse;
        DeleteShareGroupOffsetsRequest DeleteShareGroupOffsetsResponse;
    }
}
