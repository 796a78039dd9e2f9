//! What an API is: its key, its name, the versions we have, and the version that we and a peer agree on.
//!
//! Knows no connection: the ranges that a peer advertised are remembered by whoever talks to it.
//!
//! Invariant: a negotiated version lies within our range and within the peer's.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use thiserror::Error;

use crate::messages::{self, ApiVersionsResponse};
use crate::wire::{DecodeError, Decoder, EncodeError, Encoder, Str, Wire};

/// A request message, which names its API and the answer to it. Tables implement it.
pub trait Request: Wire + Default + Clone + fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The API's number.
    const KEY: ApiKey;
    /// The API's name, as Kafka spells it: `Fetch`.
    const NAME: &'static str;
    /// The versions that this crate writes and reads.
    const VERSIONS: RangeInclusive<i16>;
    /// The first flexible version; `i16::MAX` for an API that has none.
    const FLEXIBLE: i16;
    /// The answer.
    type Response: Wire + Default + Clone + fmt::Debug + PartialEq + Send + Sync + 'static;
}

/// The number of an API. Numbers that this crate has no messages for are representable.
///
/// ```
/// use ottla_protocol::api::ApiKey;
/// assert_eq!(ApiKey::FETCH.to_string(), "Fetch");
/// assert_eq!(ApiKey(900).to_string(), "api 900");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKey(pub i16);

macro_rules! api_keys {
    ($($name:ident = $key:literal, $text:literal;)*) => {
        impl ApiKey {
            $(
                #[doc = concat!("The key of ", $text, ".")]
                pub const $name: Self = Self($key);
            )*

            /// The API's name as Kafka spells it, `Fetch` for instance, when it is one of the constants.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $( Self::$name => Some($text), )*
                    _ => None,
                }
            }
        }
    };
}

api_keys! {
    PRODUCE = 0, "Produce";
    FETCH = 1, "Fetch";
    LIST_OFFSETS = 2, "ListOffsets";
    METADATA = 3, "Metadata";
    OFFSET_COMMIT = 8, "OffsetCommit";
    OFFSET_FETCH = 9, "OffsetFetch";
    FIND_COORDINATOR = 10, "FindCoordinator";
    JOIN_GROUP = 11, "JoinGroup";
    HEARTBEAT = 12, "Heartbeat";
    LEAVE_GROUP = 13, "LeaveGroup";
    SYNC_GROUP = 14, "SyncGroup";
    DESCRIBE_GROUPS = 15, "DescribeGroups";
    LIST_GROUPS = 16, "ListGroups";
    SASL_HANDSHAKE = 17, "SaslHandshake";
    API_VERSIONS = 18, "ApiVersions";
    CREATE_TOPICS = 19, "CreateTopics";
    DELETE_TOPICS = 20, "DeleteTopics";
    DELETE_RECORDS = 21, "DeleteRecords";
    INIT_PRODUCER_ID = 22, "InitProducerId";
    OFFSET_FOR_LEADER_EPOCH = 23, "OffsetForLeaderEpoch";
    ADD_PARTITIONS_TO_TXN = 24, "AddPartitionsToTxn";
    ADD_OFFSETS_TO_TXN = 25, "AddOffsetsToTxn";
    END_TXN = 26, "EndTxn";
    WRITE_TXN_MARKERS = 27, "WriteTxnMarkers";
    TXN_OFFSET_COMMIT = 28, "TxnOffsetCommit";
    DESCRIBE_ACLS = 29, "DescribeAcls";
    CREATE_ACLS = 30, "CreateAcls";
    DELETE_ACLS = 31, "DeleteAcls";
    DESCRIBE_CONFIGS = 32, "DescribeConfigs";
    ALTER_CONFIGS = 33, "AlterConfigs";
    ALTER_REPLICA_LOG_DIRS = 34, "AlterReplicaLogDirs";
    DESCRIBE_LOG_DIRS = 35, "DescribeLogDirs";
    SASL_AUTHENTICATE = 36, "SaslAuthenticate";
    CREATE_PARTITIONS = 37, "CreatePartitions";
    CREATE_DELEGATION_TOKEN = 38, "CreateDelegationToken";
    RENEW_DELEGATION_TOKEN = 39, "RenewDelegationToken";
    EXPIRE_DELEGATION_TOKEN = 40, "ExpireDelegationToken";
    DESCRIBE_DELEGATION_TOKEN = 41, "DescribeDelegationToken";
    DELETE_GROUPS = 42, "DeleteGroups";
    ELECT_LEADERS = 43, "ElectLeaders";
    INCREMENTAL_ALTER_CONFIGS = 44, "IncrementalAlterConfigs";
    ALTER_PARTITION_REASSIGNMENTS = 45, "AlterPartitionReassignments";
    LIST_PARTITION_REASSIGNMENTS = 46, "ListPartitionReassignments";
    OFFSET_DELETE = 47, "OffsetDelete";
    DESCRIBE_CLIENT_QUOTAS = 48, "DescribeClientQuotas";
    ALTER_CLIENT_QUOTAS = 49, "AlterClientQuotas";
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50, "DescribeUserScramCredentials";
    ALTER_USER_SCRAM_CREDENTIALS = 51, "AlterUserScramCredentials";
    DESCRIBE_QUORUM = 55, "DescribeQuorum";
    UPDATE_FEATURES = 57, "UpdateFeatures";
    DESCRIBE_CLUSTER = 60, "DescribeCluster";
    DESCRIBE_PRODUCERS = 61, "DescribeProducers";
    UNREGISTER_BROKER = 64, "UnregisterBroker";
    DESCRIBE_TRANSACTIONS = 65, "DescribeTransactions";
    LIST_TRANSACTIONS = 66, "ListTransactions";
    CONSUMER_GROUP_HEARTBEAT = 68, "ConsumerGroupHeartbeat";
    CONSUMER_GROUP_DESCRIBE = 69, "ConsumerGroupDescribe";
    GET_TELEMETRY_SUBSCRIPTIONS = 71, "GetTelemetrySubscriptions";
    PUSH_TELEMETRY = 72, "PushTelemetry";
    LIST_CONFIG_RESOURCES = 74, "ListConfigResources";
    DESCRIBE_TOPIC_PARTITIONS = 75, "DescribeTopicPartitions";
    SHARE_GROUP_HEARTBEAT = 76, "ShareGroupHeartbeat";
    SHARE_GROUP_DESCRIBE = 77, "ShareGroupDescribe";
    SHARE_FETCH = 78, "ShareFetch";
    SHARE_ACKNOWLEDGE = 79, "ShareAcknowledge";
    DESCRIBE_SHARE_GROUP_OFFSETS = 90, "DescribeShareGroupOffsets";
    ALTER_SHARE_GROUP_OFFSETS = 91, "AlterShareGroupOffsets";
    DELETE_SHARE_GROUP_OFFSETS = 92, "DeleteShareGroupOffsets";
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "api {}", self.0),
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Wire for ApiKey {
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
        self.0.encode(out)
    }

    fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        i16::decode(input).map(Self)
    }
}

/// An API as a value, for whoever handles all of them alike: see [`messages::APIS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// The API's number.
    pub key: ApiKey,
    /// The API's name.
    pub name: &'static str,
    /// The first version that this crate has.
    pub min: i16,
    /// The last version that this crate has.
    pub max: i16,
    /// The first flexible version; `i16::MAX` for an API that has none.
    pub flexible: i16,
}

impl Api {
    /// The API of a request message.
    pub const fn of<R: Request>() -> Self {
        let versions = R::VERSIONS;
        Self {
            key: R::KEY,
            name: R::NAME,
            min: *versions.start(),
            max: *versions.end(),
            flexible: R::FLEXIBLE,
        }
    }

    /// The API with this key, if this crate has its messages.
    pub fn find(key: ApiKey) -> Option<&'static Self> {
        let found = messages::APIS.binary_search_by_key(&key, |api| api.key).ok()?;
        messages::APIS.get(found)
    }
}

/// The version ranges that a peer advertised.
///
/// ```
/// use ottla_protocol::api::{ApiKey, Versions};
/// let versions: Versions = [(ApiKey::FETCH, (4, 13))].into_iter().collect();
/// assert_eq!(versions.get(ApiKey::FETCH), Some((4, 13)));
/// assert_eq!(versions.get(ApiKey::PRODUCE), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    ranges: BTreeMap<ApiKey, (i16, i16)>,
    features: BTreeMap<Str, i16>,
}

impl Versions {
    /// The first and the last version of an API, or `None` if the peer does not offer it.
    pub fn get(&self, key: ApiKey) -> Option<(i16, i16)> {
        self.ranges.get(&key).copied()
    }

    /// The highest version of `R` that the peer and this crate both have.
    pub fn negotiate<R: Request>(&self) -> Result<i16, Unsupported> {
        negotiate(R::KEY, R::VERSIONS, self.get(R::KEY))
    }

    /// The ranges in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (ApiKey, (i16, i16))> + '_ {
        self.ranges.iter().map(|(key, range)| (*key, *range))
    }

    /// The level at which the peer's cluster has a feature switched on (KIP-584), such as `transaction.version`. `None` if
    /// the peer names no such feature.
    pub fn feature(&self, name: &str) -> Option<i16> {
        self.features.get(name).copied()
    }

    /// The same, with a feature at this level.
    pub fn with_feature(mut self, name: Str, level: i16) -> Self {
        self.features.insert(name, level);
        self
    }
}

impl From<&ApiVersionsResponse> for Versions {
    fn from(response: &ApiVersionsResponse) -> Self {
        let ranges =
            response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        let features = response.finalized_features.iter();
        Self { ranges, features: features.map(|f| (f.name.clone(), f.max_version_level)).collect() }
    }
}

impl FromIterator<(ApiKey, (i16, i16))> for Versions {
    fn from_iter<T: IntoIterator<Item = (ApiKey, (i16, i16))>>(ranges: T) -> Self {
        Self { ranges: ranges.into_iter().collect(), features: BTreeMap::new() }
    }
}

/// There is no version of an API that both sides have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Unsupported {
    /// The API.
    pub key: ApiKey,
    /// The versions we have.
    pub ours: RangeInclusive<i16>,
    /// The versions the peer has, `None` if it does not offer the API.
    pub theirs: Option<(i16, i16)>,
}

/// APIs with keys up to this one are older than Kafka 2.1, and KIP-896 removed their versions from before it.
const LAST_KEY_BEFORE_2_1: ApiKey = ApiKey::DELETE_GROUPS;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, from, to) = (self.key, self.ours.start(), self.ours.end());
        let Some((min, max)) = self.theirs else {
            return write!(f, "the broker does not offer {name}");
        };
        write!(f, "the broker offers {name} in versions {min} to {max}, this client speaks {from} to {to}")?;
        if min > max {
            return f.write_str(": the broker's range is empty");
        }
        if max < *from && self.key <= LAST_KEY_BEFORE_2_1 {
            return f.write_str(": the broker is older than Kafka 2.1");
        }
        f.write_str(if max < *from { ": the broker is too old" } else { ": the broker is too new" })
    }
}

/// The highest version that both sides have. `theirs` is what the peer advertised for this API.
///
/// ```
/// use ottla_protocol::api::{ApiKey, negotiate};
/// assert_eq!(negotiate(ApiKey::FETCH, 4..=17, Some((0, 11))), Ok(11));
/// let error = negotiate(ApiKey::FETCH, 4..=17, Some((0, 3))).unwrap_err();
/// assert!(error.to_string().ends_with("the broker is older than Kafka 2.1"));
/// ```
pub fn negotiate(
    key: ApiKey,
    ours: RangeInclusive<i16>,
    theirs: Option<(i16, i16)>,
) -> Result<i16, Unsupported> {
    if let Some((min, max)) = theirs {
        let highest = max.min(*ours.end());
        if highest >= min && ours.contains(&highest) {
            return Ok(highest);
        }
    }
    Err(Unsupported { key, ours, theirs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{APIS, ApiVersion, FetchRequest};

    #[test]
    fn every_key_is_named_as_its_messages_are() {
        for api in APIS {
            assert_eq!(api.key.name(), Some(api.name));
            assert_eq!(Api::find(api.key), Some(api));
        }
        assert!(APIS.is_sorted_by_key(|api| api.key), "and each stands once");
    }

    #[test]
    fn the_highest_version_of_both_is_spoken() {
        assert_eq!(negotiate(ApiKey::FETCH, 4..=17, Some((0, 99))), Ok(17));
        assert_eq!(negotiate(ApiKey::FETCH, 4..=17, Some((12, 13))), Ok(13));
        assert_eq!(negotiate(ApiKey::FETCH, 4..=17, Some((17, 20))), Ok(17));
    }

    #[track_caller]
    fn check_refusal(key: ApiKey, theirs: Option<(i16, i16)>, text: &str) {
        assert_eq!(negotiate(key, 4..=17, theirs).expect_err("no version is shared").to_string(), text);
    }

    #[test]
    fn a_refusal_says_who_is_too_old() {
        check_refusal(
            ApiKey::FETCH,
            Some((0, 3)),
            "the broker offers Fetch in versions 0 to 3, this client speaks 4 to 17: the broker is older than Kafka 2.1",
        );
        check_refusal(
            ApiKey::SHARE_FETCH,
            Some((0, 0)),
            "the broker offers ShareFetch in versions 0 to 0, this client speaks 4 to 17: the broker is too old",
        );
        check_refusal(
            ApiKey::FETCH,
            Some((18, 20)),
            "the broker offers Fetch in versions 18 to 20, this client speaks 4 to 17: the broker is too new",
        );
        check_refusal(
            ApiKey::FETCH,
            Some((9, 8)),
            "the broker offers Fetch in versions 9 to 8, this client speaks 4 to 17: the broker's range is empty",
        );
        check_refusal(ApiKey(900), None, "the broker does not offer api 900");
    }

    #[test]
    fn advertised_ranges_are_kept_by_key_even_for_unknown_apis() {
        let api = |api_key, min_version, max_version| ApiVersion { api_key, min_version, max_version };
        let api_keys = vec![api(ApiKey::FETCH, 4, 13), api(ApiKey(900), 0, 1)];
        let versions = Versions::from(&ApiVersionsResponse { api_keys, ..Default::default() });
        assert_eq!(versions.get(ApiKey(900)), Some((0, 1)));
        assert_eq!(versions.negotiate::<FetchRequest>(), Ok(13));
        assert_eq!(versions.iter().count(), 2);
    }
}
