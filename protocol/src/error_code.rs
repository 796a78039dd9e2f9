//! What each error code of a broker means, and what follows from it, as one table.
//!
//! Knows no request: the same code may end one call and be waited out by another, and that decision is the caller's.
//!
//! Invariant: the rows are those of Kafka, without a gap, and a code that is not among them is never taken for success.

use std::fmt;

use crate::wire::{DecodeError, Decoder, EncodeError, Encoder, Wire};

/// The error code of an answer, or of a part of it. Codes unknown to this crate are kept.
///
/// ```
/// use ottla_protocol::error_code::{ErrorCode, Write};
/// let code = ErrorCode(6);
/// assert_eq!(code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
/// assert!(code.is_retriable() && code.needs_refresh() && !code.is_fatal());
/// assert_eq!(code.write(), Write::PossiblyWritten);
/// assert_eq!(ErrorCode(999).to_string(), "error 999: an error that this client does not know");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i16);

/// What an answer to Produce says of the records it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// The broker refused them before it appended anything.
    NotWritten,
    /// They may be in the log, or may come to be.
    PossiblyWritten,
    /// They are in the log.
    Written,
}

impl ErrorCode {
    /// The name that Kafka gives the code, `UNKNOWN` if it is not in the table.
    pub fn name(self) -> &'static str {
        self.row().map_or("UNKNOWN", |row| row.name)
    }

    /// What went wrong, in a few words that can follow "topic orders: ".
    pub fn message(self) -> &'static str {
        self.row().map_or("an error that this client does not know", |row| row.message)
    }

    /// Whether there is no error.
    pub fn is_ok(self) -> bool {
        self == Self::NONE
    }

    /// Whether the same request may succeed later.
    pub fn is_retriable(self) -> bool {
        self.row().is_some_and(|row| row.retriable)
    }

    /// Whether what the client knows of leaders or coordinators is out of date.
    pub fn needs_refresh(self) -> bool {
        self.row().is_some_and(|row| row.refresh)
    }

    /// Whether the producer or the group member that gets this cannot go on.
    pub fn is_fatal(self) -> bool {
        self.row().is_some_and(|row| row.fatal)
    }

    /// What the code says of the records when it answers a Produce request. Says nothing of earlier attempts.
    pub fn write(self) -> Write {
        self.row().map_or(Write::PossiblyWritten, |row| row.write)
    }

    fn row(self) -> Option<&'static Row> {
        let index = usize::try_from(i32::from(self.0) - i32::from(TABLE[0].code.0)).ok()?;
        TABLE.get(index)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row() {
            Some(row) => write!(f, "{}: {}", row.name, row.message),
            None => write!(f, "error {}: {}", self.0, self.message()),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl Wire for ErrorCode {
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
        self.0.encode(out)
    }

    fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        i16::decode(input).map(Self)
    }
}

struct Row {
    code: ErrorCode,
    name: &'static str,
    retriable: bool,
    refresh: bool,
    fatal: bool,
    write: Write,
    message: &'static str,
}

macro_rules! flag {
    (-) => {
        false
    };
    ($set:ident) => {
        true
    };
}

macro_rules! error_codes {
    ($($name:ident = $code:literal, $retry:tt $refresh:tt $fatal:tt $write:ident $message:literal;)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!("Code ", stringify!($code), ": ", $message, ".")]
                pub const $name: Self = Self($code);
            )*
        }

        const TABLE: &[Row] = &[$(
            Row {
                code: ErrorCode::$name,
                name: stringify!($name),
                retriable: flag!($retry),
                refresh: flag!($refresh),
                fatal: flag!($fatal),
                write: Write::$write,
                message: $message,
            },
        )*];
    };
}

// NotWritten is said only of what a broker checks before it appends. A leader that loses its office while it waits for
// replicas answers NOT_LEADER_OR_FOLLOWER with the batch in its log: that one, for instance, is PossiblyWritten.
error_codes! {
    UNKNOWN_SERVER_ERROR                       = -1,  -     -       -     PossiblyWritten "the broker failed in a way it does not name";
    NONE                                       = 0,   -     -       -     Written         "no error";
    OFFSET_OUT_OF_RANGE                        = 1,   -     -       -     PossiblyWritten "no such offset in the partition";
    CORRUPT_MESSAGE                            = 2,   retry -       -     NotWritten      "the broker received a batch whose checksum or structure is wrong";
    UNKNOWN_TOPIC_OR_PARTITION                 = 3,   retry refresh -     NotWritten      "no such topic or partition on this broker";
    INVALID_FETCH_SIZE                         = 4,   -     -       -     PossiblyWritten "the fetch size is not valid";
    LEADER_NOT_AVAILABLE                       = 5,   retry refresh -     PossiblyWritten "the partition has no leader at the moment";
    NOT_LEADER_OR_FOLLOWER                     = 6,   retry refresh -     PossiblyWritten "the node does not lead the partition, or is no replica of it";
    REQUEST_TIMED_OUT                          = 7,   retry -       -     PossiblyWritten "the broker gave up waiting for replicas";
    BROKER_NOT_AVAILABLE                       = 8,   -     -       -     PossiblyWritten "the broker is not available";
    REPLICA_NOT_AVAILABLE                      = 9,   retry refresh -     PossiblyWritten "the replica is not available";
    MESSAGE_TOO_LARGE                          = 10,  -     -       -     NotWritten      "the batch exceeds the broker's or the topic's size limit";
    STALE_CONTROLLER_EPOCH                     = 11,  -     -       -     PossiblyWritten "the controller's epoch is out of date";
    OFFSET_METADATA_TOO_LARGE                  = 12,  -     -       -     PossiblyWritten "the metadata committed with the offset is too long";
    NETWORK_EXCEPTION                          = 13,  retry refresh -     PossiblyWritten "the connection ended before the answer came";
    COORDINATOR_LOAD_IN_PROGRESS               = 14,  retry -       -     PossiblyWritten "the coordinator is still loading";
    COORDINATOR_NOT_AVAILABLE                  = 15,  retry refresh -     PossiblyWritten "the coordinator is not available";
    NOT_COORDINATOR                            = 16,  retry refresh -     PossiblyWritten "the node is not the coordinator";
    INVALID_TOPIC_EXCEPTION                    = 17,  -     -       -     NotWritten      "the topic's name is not valid, or the topic may not be written to";
    RECORD_LIST_TOO_LARGE                      = 18,  -     -       -     NotWritten      "the batch exceeds the broker's segment size";
    NOT_ENOUGH_REPLICAS                        = 19,  retry -       -     NotWritten      "fewer replicas are in sync than the topic demands";
    NOT_ENOUGH_REPLICAS_AFTER_APPEND           = 20,  retry -       -     PossiblyWritten "the batch was appended, but fewer replicas were in sync than the topic demands";
    INVALID_REQUIRED_ACKS                      = 21,  -     -       -     NotWritten      "the number of acknowledgements is not valid";
    ILLEGAL_GENERATION                         = 22,  -     -       -     PossiblyWritten "the group has moved on to another generation";
    INCONSISTENT_GROUP_PROTOCOL                = 23,  -     -       fatal PossiblyWritten "the group's members have no assignor in common with this one";
    INVALID_GROUP_ID                           = 24,  -     -       fatal PossiblyWritten "the group's id is not valid";
    UNKNOWN_MEMBER_ID                          = 25,  -     -       -     PossiblyWritten "the group does not know this member";
    INVALID_SESSION_TIMEOUT                    = 26,  -     -       fatal PossiblyWritten "the session timeout is outside of what the broker allows";
    REBALANCE_IN_PROGRESS                      = 27,  -     -       -     PossiblyWritten "the group is rebalancing";
    INVALID_COMMIT_OFFSET_SIZE                 = 28,  -     -       -     PossiblyWritten "the committed metadata exceeds the broker's limit";
    TOPIC_AUTHORIZATION_FAILED                 = 29,  -     -       -     NotWritten      "not allowed to use the topic";
    GROUP_AUTHORIZATION_FAILED                 = 30,  -     -       -     NotWritten      "not allowed to use the group";
    CLUSTER_AUTHORIZATION_FAILED               = 31,  -     -       fatal NotWritten      "not allowed to do this in the cluster";
    INVALID_TIMESTAMP                          = 32,  -     -       -     NotWritten      "the record's timestamp is outside of what the topic allows";
    UNSUPPORTED_SASL_MECHANISM                 = 33,  -     -       fatal PossiblyWritten "the broker does not have the SASL mechanism";
    ILLEGAL_SASL_STATE                         = 34,  -     -       fatal PossiblyWritten "the request does not fit the state of the SASL handshake";
    UNSUPPORTED_VERSION                        = 35,  -     -       fatal NotWritten      "the broker does not speak this version of the request";
    TOPIC_ALREADY_EXISTS                       = 36,  -     -       -     PossiblyWritten "the topic exists already";
    INVALID_PARTITIONS                         = 37,  -     -       -     PossiblyWritten "the number of partitions is not valid";
    INVALID_REPLICATION_FACTOR                 = 38,  -     -       -     PossiblyWritten "the replication factor is not valid";
    INVALID_REPLICA_ASSIGNMENT                 = 39,  -     -       -     PossiblyWritten "the assignment of replicas is not valid";
    INVALID_CONFIG                             = 40,  -     -       -     PossiblyWritten "the configuration is not valid";
    NOT_CONTROLLER                             = 41,  retry refresh -     PossiblyWritten "the node is not the controller";
    INVALID_REQUEST                            = 42,  -     -       -     NotWritten      "the broker cannot accept the request as it stands";
    UNSUPPORTED_FOR_MESSAGE_FORMAT             = 43,  -     -       -     NotWritten      "the topic's message format does not support this";
    POLICY_VIOLATION                           = 44,  -     -       -     NotWritten      "a policy of the broker forbids this";
    OUT_OF_ORDER_SEQUENCE_NUMBER               = 45,  -     -       -     PossiblyWritten "the batch's sequence does not follow the last one that the broker has";
    DUPLICATE_SEQUENCE_NUMBER                  = 46,  -     -       -     Written         "the broker has this batch already";
    INVALID_PRODUCER_EPOCH                     = 47,  -     -       -     NotWritten      "the producer's epoch is out of date";
    INVALID_TXN_STATE                          = 48,  -     -       -     NotWritten      "the transaction's state does not allow this";
    INVALID_PRODUCER_ID_MAPPING                = 49,  -     -       fatal NotWritten      "the producer id does not belong to the transactional id";
    INVALID_TRANSACTION_TIMEOUT                = 50,  -     -       fatal PossiblyWritten "the transaction timeout exceeds what the broker allows";
    CONCURRENT_TRANSACTIONS                    = 51,  retry -       -     NotWritten      "another operation of the same transaction is still going on";
    TRANSACTION_COORDINATOR_FENCED             = 52,  -     -       fatal PossiblyWritten "the transaction's coordinator was replaced by a newer one";
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED      = 53,  -     -       fatal NotWritten      "not allowed to use the transactional id";
    SECURITY_DISABLED                          = 54,  -     -       -     PossiblyWritten "the broker has no security configured";
    OPERATION_NOT_ATTEMPTED                    = 55,  -     -       -     NotWritten      "not attempted, because another part of the request failed";
    KAFKA_STORAGE_ERROR                        = 56,  retry refresh -     PossiblyWritten "the broker's disk failed";
    LOG_DIR_NOT_FOUND                          = 57,  -     -       -     PossiblyWritten "no such log directory";
    SASL_AUTHENTICATION_FAILED                 = 58,  -     -       fatal PossiblyWritten "the credentials were refused";
    UNKNOWN_PRODUCER_ID                        = 59,  -     -       -     PossiblyWritten "the broker no longer knows this producer";
    REASSIGNMENT_IN_PROGRESS                   = 60,  -     -       -     PossiblyWritten "the partition is being moved already";
    DELEGATION_TOKEN_AUTH_DISABLED             = 61,  -     -       -     PossiblyWritten "delegation tokens are not enabled";
    DELEGATION_TOKEN_NOT_FOUND                 = 62,  -     -       -     PossiblyWritten "no such delegation token";
    DELEGATION_TOKEN_OWNER_MISMATCH            = 63,  -     -       -     PossiblyWritten "the delegation token belongs to another principal";
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED       = 64,  -     -       -     PossiblyWritten "a delegation token may not be asked for on this connection";
    DELEGATION_TOKEN_AUTHORIZATION_FAILED      = 65,  -     -       -     PossiblyWritten "not allowed to use the delegation token";
    DELEGATION_TOKEN_EXPIRED                   = 66,  -     -       -     PossiblyWritten "the delegation token has expired";
    INVALID_PRINCIPAL_TYPE                     = 67,  -     -       -     PossiblyWritten "the kind of principal is not supported";
    NON_EMPTY_GROUP                            = 68,  -     -       -     PossiblyWritten "the group is not empty";
    GROUP_ID_NOT_FOUND                         = 69,  -     -       -     PossiblyWritten "no such group";
    FETCH_SESSION_ID_NOT_FOUND                 = 70,  retry -       -     PossiblyWritten "no such fetch session";
    INVALID_FETCH_SESSION_EPOCH                = 71,  retry -       -     PossiblyWritten "the fetch session is at another epoch";
    LISTENER_NOT_FOUND                         = 72,  retry refresh -     PossiblyWritten "the leader has no listener of the name that this connection uses";
    TOPIC_DELETION_DISABLED                    = 73,  -     -       -     PossiblyWritten "deleting topics is disabled";
    FENCED_LEADER_EPOCH                        = 74,  retry refresh -     PossiblyWritten "the leader epoch is out of date";
    UNKNOWN_LEADER_EPOCH                       = 75,  retry -       -     PossiblyWritten "the node does not know the leader epoch yet";
    UNSUPPORTED_COMPRESSION_TYPE               = 76,  -     -       -     NotWritten      "the broker does not support the compression";
    STALE_BROKER_EPOCH                         = 77,  -     -       -     PossiblyWritten "the broker's epoch is out of date";
    OFFSET_NOT_AVAILABLE                       = 78,  retry -       -     PossiblyWritten "the new leader does not know the high watermark yet";
    MEMBER_ID_REQUIRED                         = 79,  -     -       -     PossiblyWritten "the group gave a member id to join again with";
    PREFERRED_LEADER_NOT_AVAILABLE             = 80,  retry refresh -     PossiblyWritten "the preferred leader is not available";
    GROUP_MAX_SIZE_REACHED                     = 81,  -     -       -     PossiblyWritten "the group is full";
    FENCED_INSTANCE_ID                         = 82,  -     -       fatal PossiblyWritten "another member has taken over this group instance id";
    ELIGIBLE_LEADERS_NOT_AVAILABLE             = 83,  retry refresh -     PossiblyWritten "no replica may become leader";
    ELECTION_NOT_NEEDED                        = 84,  -     -       -     PossiblyWritten "the leader is the right one already";
    NO_REASSIGNMENT_IN_PROGRESS                = 85,  -     -       -     PossiblyWritten "the partition is not being moved";
    GROUP_SUBSCRIBED_TO_TOPIC                  = 86,  -     -       -     PossiblyWritten "the group is subscribed to the topic";
    INVALID_RECORD                             = 87,  -     -       -     NotWritten      "the broker refused a record of the batch";
    UNSTABLE_OFFSET_COMMIT                     = 88,  retry -       -     PossiblyWritten "a transaction that holds the offset has not ended yet";
    THROTTLING_QUOTA_EXCEEDED                  = 89,  retry -       -     NotWritten      "the quota is used up";
    PRODUCER_FENCED                            = 90,  -     -       fatal NotWritten      "a newer producer has taken over the transactional id, or the transaction timed out";
    RESOURCE_NOT_FOUND                         = 91,  -     -       -     PossiblyWritten "no such resource";
    DUPLICATE_RESOURCE                         = 92,  -     -       -     PossiblyWritten "the resource is named twice, or exists already";
    UNACCEPTABLE_CREDENTIAL                    = 93,  -     -       -     PossiblyWritten "the credentials do not meet the broker's demands";
    INCONSISTENT_VOTER_SET                     = 94,  -     -       -     PossiblyWritten "the voters differ from those the node knows";
    INVALID_UPDATE_VERSION                     = 95,  -     -       -     PossiblyWritten "the version of the update is not valid";
    FEATURE_UPDATE_FAILED                      = 96,  -     -       -     PossiblyWritten "the features could not be updated";
    PRINCIPAL_DESERIALIZATION_FAILURE          = 97,  -     -       -     PossiblyWritten "the broker could not read the principal";
    SNAPSHOT_NOT_FOUND                         = 98,  -     -       -     PossiblyWritten "no such snapshot";
    POSITION_OUT_OF_RANGE                      = 99,  -     -       -     PossiblyWritten "the position is outside of the snapshot";
    UNKNOWN_TOPIC_ID                           = 100, retry refresh -     NotWritten      "the node does not know the topic id";
    DUPLICATE_BROKER_REGISTRATION              = 101, -     -       -     PossiblyWritten "a broker with this id is registered";
    BROKER_ID_NOT_REGISTERED                   = 102, -     -       -     PossiblyWritten "no broker with this id is registered";
    INCONSISTENT_TOPIC_ID                      = 103, retry refresh -     NotWritten      "the topic id does not belong to the topic";
    INCONSISTENT_CLUSTER_ID                    = 104, -     -       fatal PossiblyWritten "the node belongs to another cluster";
    TRANSACTIONAL_ID_NOT_FOUND                 = 105, -     -       -     PossiblyWritten "no such transactional id";
    FETCH_SESSION_TOPIC_ID_ERROR               = 106, retry -       -     PossiblyWritten "the fetch session mixes requests with and without topic ids";
    INELIGIBLE_REPLICA                         = 107, -     -       -     PossiblyWritten "a replica may not join those in sync";
    NEW_LEADER_ELECTED                         = 108, -     -       -     PossiblyWritten "another leader has been elected";
    OFFSET_MOVED_TO_TIERED_STORAGE             = 109, -     -       -     PossiblyWritten "the offset has moved to tiered storage";
    FENCED_MEMBER_EPOCH                        = 110, -     -       -     PossiblyWritten "the member's epoch is ahead of the group's or was replaced";
    UNRELEASED_INSTANCE_ID                     = 111, retry -       -     PossiblyWritten "another member still holds this group instance id";
    UNSUPPORTED_ASSIGNOR                       = 112, -     -       fatal PossiblyWritten "the broker has none of the assignors";
    STALE_MEMBER_EPOCH                         = 113, -     -       -     PossiblyWritten "the member's epoch is out of date";
    MISMATCHED_ENDPOINT_TYPE                   = 114, -     -       -     PossiblyWritten "the request went to a controller instead of a broker, or the other way round";
    UNSUPPORTED_ENDPOINT_TYPE                  = 115, -     -       -     PossiblyWritten "the kind of endpoint is not supported";
    UNKNOWN_CONTROLLER_ID                      = 116, -     -       -     PossiblyWritten "no such controller";
    UNKNOWN_SUBSCRIPTION_ID                    = 117, -     -       -     PossiblyWritten "the telemetry subscription is out of date";
    TELEMETRY_TOO_LARGE                        = 118, -     -       -     PossiblyWritten "the telemetry exceeds the broker's limit";
    INVALID_REGISTRATION                       = 119, -     -       -     PossiblyWritten "the broker's registration is not valid";
    TRANSACTION_ABORTABLE                      = 120, -     -       -     NotWritten      "the transaction must be aborted";
    INVALID_RECORD_STATE                       = 121, -     -       -     PossiblyWritten "the record is not in a state that can be acknowledged";
    SHARE_SESSION_NOT_FOUND                    = 122, retry -       -     PossiblyWritten "no such share session";
    INVALID_SHARE_SESSION_EPOCH                = 123, retry -       -     PossiblyWritten "the share session is at another epoch";
    FENCED_STATE_EPOCH                         = 124, -     -       -     PossiblyWritten "the share group's state is at another epoch";
    INVALID_VOTER_KEY                          = 125, -     -       -     PossiblyWritten "the voter's key is not the one the node has";
    DUPLICATE_VOTER                            = 126, -     -       -     PossiblyWritten "the voter is one already";
    VOTER_NOT_FOUND                            = 127, -     -       -     PossiblyWritten "no such voter";
    INVALID_REGULAR_EXPRESSION                 = 128, -     -       fatal PossiblyWritten "the pattern of topics is not valid";
    REBOOTSTRAP_REQUIRED                       = 129, -     -       -     PossiblyWritten "the client must start again from its bootstrap servers";
    STREAMS_INVALID_TOPOLOGY                   = 130, -     -       -     PossiblyWritten "the streams topology is not valid";
    STREAMS_INVALID_TOPOLOGY_EPOCH             = 131, -     -       -     PossiblyWritten "the streams topology's epoch is not valid";
    STREAMS_TOPOLOGY_FENCED                    = 132, -     -       -     PossiblyWritten "the streams topology's epoch is out of date";
    SHARE_SESSION_LIMIT_REACHED                = 133, retry -       -     PossiblyWritten "the broker has no room for another share session";
    GROUP_DELETION_FAILED                      = 134, -     -       -     PossiblyWritten "the group could not be deleted";
    STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED = 135, -     -       -     PossiblyWritten "the streams topology's description could not be updated";
    CONTROLLER_ID_NOT_REGISTERED               = 136, -     -       -     PossiblyWritten "no controller with this id is registered";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_gap_and_finds_each_code_by_its_number() {
        for (row, code) in TABLE.iter().zip(-1..) {
            assert_eq!(row.code, ErrorCode(code), "{}", row.name);
            assert_eq!(ErrorCode(code).name(), row.name);
        }
    }

    #[test]
    fn an_unknown_code_is_neither_success_nor_worth_a_retry() {
        for code in [-2, 137, i16::MAX, i16::MIN].map(ErrorCode) {
            assert!(!code.is_ok() && !code.is_retriable() && !code.needs_refresh() && !code.is_fatal());
            assert_eq!((code.name(), code.write()), ("UNKNOWN", Write::PossiblyWritten));
        }
    }

    #[test]
    fn whatever_needs_a_refresh_is_worth_a_retry_and_nothing_is_both_fatal_and_retriable() {
        for row in TABLE {
            assert!(row.retriable || !row.refresh, "{}", row.name);
            assert!(!(row.retriable && row.fatal), "{}", row.name);
        }
    }
}
