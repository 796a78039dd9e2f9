//! The requests that machines send, and their answers, as one table.
//!
//! It owns nothing but the pairing of a request with its message tables; drivers encode and decode through it without
//! ever looking inside.

use bytes::Bytes;
use ottla_protocol::api::{ApiKey, Request as _, Versions, negotiate};
use ottla_protocol::frame::{self, Frame};
use ottla_protocol::messages::*;
use ottla_protocol::wire::{DecodeError, EncodeError};

/// Reads the body of an answer.
pub(crate) type Decode = fn(Bytes, i16) -> Result<Answer, DecodeError>;

macro_rules! asks {
    ($($name:ident: $request:ident,)*) => {
        /// A request.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) enum Ask { $($name($request),)* }

        /// An answer.
        #[derive(Debug, Clone)]
        pub(crate) enum Answer { $($name(<$request as ottla_protocol::api::Request>::Response),)* }

        impl Ask {
            pub(crate) fn key(&self) -> ApiKey {
                match self { $(Ask::$name(_) => $request::KEY,)* }
            }

            pub(crate) fn is_flexible(&self, version: i16) -> bool {
                match self { $(Ask::$name(_) => version >= $request::FLEXIBLE,)* }
            }

            pub(crate) fn encode(
                &self, version: i16, correlation_id: i32, client_id: &str, frame: &mut Frame,
            ) -> Result<(), EncodeError> {
                match self {
                    $(Ask::$name(r) => frame::encode_request(r, version, correlation_id, Some(client_id), frame),)*
                }
            }

            pub(crate) fn decoder(&self) -> Decode {
                match self {
                    $(Ask::$name(_) => |body, version| {
                        frame::decode(body, version, version >= $request::FLEXIBLE).map(Answer::$name)
                    },)*
                }
            }
        }
    };
}

asks! {
    Metadata: MetadataRequest,
    FindCoordinator: FindCoordinatorRequest,
    InitProducerId: InitProducerIdRequest,
    AddPartitionsToTxn: AddPartitionsToTxnRequest,
    AddOffsetsToTxn: AddOffsetsToTxnRequest,
    TxnOffsetCommit: TxnOffsetCommitRequest,
    EndTxn: EndTxnRequest,
    Produce: ProduceRequest,
    Fetch: FetchRequest,
    ListOffsets: ListOffsetsRequest,
    JoinGroup: JoinGroupRequest,
    SyncGroup: SyncGroupRequest,
    Heartbeat: HeartbeatRequest,
    LeaveGroup: LeaveGroupRequest,
    DescribeGroups: DescribeGroupsRequest,
    ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest,
    OffsetCommit: OffsetCommitRequest,
    OffsetFetch: OffsetFetchRequest,
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest,
}

/// The version of `R` to use with a peer: the highest that both have, at most `cap`.
pub(crate) fn version_for<R: ottla_protocol::api::Request>(
    versions: &Versions,
    cap: i16,
) -> Result<i16, ottla_protocol::api::Unsupported> {
    let (low, high) = (*R::VERSIONS.start(), *R::VERSIONS.end());
    negotiate(R::KEY, low..=high.min(cap), versions.get(R::KEY))
}
