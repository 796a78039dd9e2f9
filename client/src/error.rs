//! The one public error of this crate. It owns how a failure is described: its kind, the broker's code, what became
//! of the records of a send, and its cause. It refuses to decide anything: whether a code may be retried comes from
//! the error table of `ottla_protocol`. Invariant: an [`Error`] is one word wide and cheap to clone, because the
//! failure of one batch is told to the delivery of every record in it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use ottla_protocol::error_code::ErrorCode;

/// What a fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed, and what can be done about it.
///
/// Match on [`kind`](Error::kind) to decide; print it for people. [`outcome`](Error::outcome) says what became of the
/// records of a send, and [`source`](std::error::Error::source) gives the cause, if there is one beneath.
///
/// ```
/// use ottla::{Error, ErrorKind};
///
/// fn should_pause(error: &Error) -> bool {
///     error.kind() == ErrorKind::BufferFull || error.is_retriable()
/// }
/// # let _ = should_pause;
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    code: Option<ErrorCode>,
    outcome: Option<Outcome>,
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The class of an [`Error`]: who is at fault, and so what to do next.
///
/// ```
/// use ottla::ErrorKind;
///
/// assert_eq!(ErrorKind::BufferFull.to_string(), "buffer full");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong: an unknown key, a value out of range, two settings that contradict each other, or
    /// one that this build cannot honour. The caller's to mend.
    Config,
    /// The call does not fit the state or the arguments: an empty topic name, a partition that does not exist, a
    /// commit without a group. The caller's to mend.
    InvalidArgument,
    /// No connection to a broker could be opened, or it was lost. The network's; trying again may help.
    Connect,
    /// The deadline passed before an answer came. Trying again may help.
    Timeout,
    /// The peer sent bytes that are not the Kafka protocol, or an answer that cannot be true. The peer's.
    Protocol,
    /// The broker does not speak a version of an API that this client needs.
    UnsupportedVersion,
    /// The broker does not accept who we are.
    Authentication,
    /// The broker knows who we are, and does not allow the operation.
    Authorization,
    /// The topic or the partition does not exist.
    UnknownTopic,
    /// A record is larger than `max.request.size`, or than the topic takes.
    RecordTooLarge,
    /// The memory of a producer was full for as long as the caller would wait; or that of a consumer is, of records that the
    /// application holds or has paused.
    BufferFull,
    /// The producer, the consumer or the client was closed.
    Closed,
    /// The handle cannot go on: after this error each of its calls fails. Build a new one.
    Fatal,
    /// A newer instance has taken this one's place: the same transactional id or group instance id is in use.
    Fenced,
    /// The transaction was not committed, and nothing of it will be seen; the source says why. Begin another.
    Aborted,
    /// Whether the transaction was committed is not known. Nothing but the same decision may be sent again, which the
    /// producer does by itself: the next `begin` waits until the outcome is known, and tells it.
    CommitUnknown,
    /// The member has lost the partition, or its group has moved to another generation: the result is of no use.
    Superseded,
    /// The position lies outside of what the broker still holds.
    OffsetOutOfRange,
    /// The application's [`OffsetStore`](crate::OffsetStore) did not say where a partition begins. The caller's to mend.
    OffsetStore,
    /// A record batch is damaged: its checksum, its compression or its layout is wrong.
    Corrupt,
    /// A value could not be encoded or decoded by its format.
    Format,
    /// Another record of the same batch was refused, and so was this one with it (KIP-467). It can be sent again.
    BatchRefused,
    /// The broker answered with another error code; [`Error::code`] has it.
    Broker,
}

/// What became of the records of a send that failed.
///
/// ```
/// use ottla::{Error, Outcome};
///
/// /// Whether sending the record again can make a duplicate.
/// fn could_duplicate(error: &Error) -> bool {
///     error.outcome() == Some(Outcome::PossiblyWritten)
/// }
/// # let _ = could_duplicate;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The record is not in the log and will not get there. Sending it again makes no duplicate.
    NotWritten,
    /// A request with the record was sent and no answer says what became of it. Sending it again may make a duplicate.
    PossiblyWritten,
    /// The broker refused this very record (KIP-467). It is not in the log, and the same record will be refused again.
    Rejected,
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The error code that a broker answered with; `None` when the failure is not a broker's answer.
    pub fn code(&self) -> Option<ErrorCode> {
        self.0.code
    }

    /// What became of the record; `None` for every error that is not about a send.
    pub fn outcome(&self) -> Option<Outcome> {
        self.0.outcome
    }

    /// Whether the same call may succeed later without anything being changed. Of a send, also look at
    /// [`outcome`](Error::outcome): a retriable error may still leave a record in the log.
    pub fn is_retriable(&self) -> bool {
        if self.is_fatal() || self.0.outcome == Some(Outcome::Rejected) {
            return false;
        }
        let by_kind = matches!(
            self.0.kind,
            ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::BufferFull | ErrorKind::BatchRefused
        );
        by_kind || self.0.code.is_some_and(|code| code.is_retriable())
    }

    /// Whether the handle that returned this error is of no more use: close it and build another.
    pub fn is_fatal(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Fatal | ErrorKind::Fenced | ErrorKind::Closed)
            || self.0.code.is_some_and(|code| code.is_fatal())
    }
}

impl Error {
    /// A new error; `message` is lower case, names the topic, partition or node, and ends without a dot.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Arc::new(Inner { kind, code: None, outcome: None, message: message.into(), source: None }))
    }

    /// What a broker answered about `subject`: the kind follows from the code.
    pub(crate) fn from_code(code: ErrorCode, subject: impl fmt::Display) -> Self {
        let message = format!("{subject}: {} ({})", code.message(), code.name());
        Error::new(ErrorKind::of(code), message).with_code(code)
    }

    /// Whether somebody has to change something before a connection can be of use: waiting is in vain.
    pub(crate) fn needs_help(&self) -> bool {
        matches!(self.kind(), ErrorKind::UnsupportedVersion | ErrorKind::Authentication | ErrorKind::Config)
    }

    /// The same failure, of another class.
    pub(crate) fn with_kind(self, kind: ErrorKind) -> Self {
        self.change(|inner| inner.kind = kind)
    }

    /// Adds the broker's error code.
    pub(crate) fn with_code(self, code: ErrorCode) -> Self {
        self.change(|inner| inner.code = Some(code))
    }

    /// Adds what became of the record.
    pub(crate) fn with_outcome(self, outcome: Outcome) -> Self {
        self.change(|inner| inner.outcome = Some(outcome))
    }

    /// Adds the cause.
    pub(crate) fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.change(|inner| inner.source = Some(Arc::new(source)))
    }

    /// Says in front what was being done: `"topic orders: the deadline passed"`.
    pub(crate) fn with_context(self, context: impl fmt::Display) -> Self {
        self.change(|inner| inner.message = Cow::Owned(format!("{context}: {}", inner.message)))
    }

    fn change(mut self, edit: impl FnOnce(&mut Inner)) -> Self {
        edit(Arc::make_mut(&mut self.0));
        self
    }
}

impl ErrorKind {
    /// The kind that an error code belongs to.
    pub(crate) fn of(code: ErrorCode) -> ErrorKind {
        match code {
            ErrorCode::REQUEST_TIMED_OUT => ErrorKind::Timeout,
            ErrorCode::UNSUPPORTED_VERSION => ErrorKind::UnsupportedVersion,
            ErrorCode::SASL_AUTHENTICATION_FAILED
            | ErrorCode::UNSUPPORTED_SASL_MECHANISM
            | ErrorCode::ILLEGAL_SASL_STATE => ErrorKind::Authentication,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => ErrorKind::Authorization,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => ErrorKind::UnknownTopic,
            ErrorCode::INVALID_TOPIC_EXCEPTION => ErrorKind::InvalidArgument,
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => ErrorKind::RecordTooLarge,
            // INVALID_PRODUCER_EPOCH is not here: what it means depends on the request and the transaction version.
            ErrorCode::PRODUCER_FENCED | ErrorCode::FENCED_INSTANCE_ID => ErrorKind::Fenced,
            ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::STALE_MEMBER_EPOCH => ErrorKind::Superseded,
            ErrorCode::OFFSET_OUT_OF_RANGE => ErrorKind::OffsetOutOfRange,
            ErrorCode::CORRUPT_MESSAGE => ErrorKind::Corrupt,
            _ => ErrorKind::Broker,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(code) = self.0.code {
            debug.field("code", &code.name());
        }
        if let Some(outcome) = self.0.outcome {
            debug.field("outcome", &outcome);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::Config => "configuration",
            ErrorKind::InvalidArgument => "invalid argument",
            ErrorKind::Connect => "connection",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Protocol => "protocol",
            ErrorKind::UnsupportedVersion => "unsupported version",
            ErrorKind::Authentication => "authentication",
            ErrorKind::Authorization => "authorization",
            ErrorKind::UnknownTopic => "unknown topic",
            ErrorKind::RecordTooLarge => "record too large",
            ErrorKind::BufferFull => "buffer full",
            ErrorKind::Closed => "closed",
            ErrorKind::Fatal => "fatal",
            ErrorKind::Fenced => "fenced",
            ErrorKind::Aborted => "aborted",
            ErrorKind::CommitUnknown => "commit unknown",
            ErrorKind::Superseded => "superseded",
            ErrorKind::OffsetOutOfRange => "offset out of range",
            ErrorKind::OffsetStore => "offset store",
            ErrorKind::Corrupt => "corrupt data",
            ErrorKind::Format => "format",
            ErrorKind::BatchRefused => "batch refused",
            ErrorKind::Broker => "broker error",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::NotWritten => "not written",
            Outcome::PossiblyWritten => "possibly written",
            Outcome::Rejected => "rejected",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(code: ErrorCode) -> Error {
        Error::from_code(code, "topic orders, partition 3")
    }

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }

    #[test]
    fn errors_cross_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
    }

    #[test]
    fn an_error_of_a_broker_names_its_subject_and_its_code() {
        let error = broker(ErrorCode::MESSAGE_TOO_LARGE);
        assert_eq!(error.kind(), ErrorKind::RecordTooLarge);
        assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
        assert_eq!(error.outcome(), None);
        let text = error.to_string();
        assert!(text.starts_with("topic orders, partition 3: "), "{text}");
        assert!(text.ends_with("(MESSAGE_TOO_LARGE)"), "{text}");
    }

    #[test]
    fn what_a_code_says_decides_whether_to_try_again() {
        assert!(broker(ErrorCode::REQUEST_TIMED_OUT).is_retriable());
        assert!(!broker(ErrorCode::TOPIC_AUTHORIZATION_FAILED).is_retriable());
        assert!(Error::new(ErrorKind::Connect, "connection lost").is_retriable());
        assert!(!Error::new(ErrorKind::Format, "not a number").is_retriable());
    }

    #[test]
    fn a_fenced_handle_is_of_no_more_use() {
        let error = broker(ErrorCode::PRODUCER_FENCED);
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(error.is_fatal() && !error.is_retriable());
    }

    #[test]
    fn a_rejected_record_is_never_retriable_and_its_neighbours_are() {
        let timeout = Error::new(ErrorKind::Timeout, "late");
        assert!(timeout.clone().with_outcome(Outcome::PossiblyWritten).is_retriable());
        assert!(!timeout.with_outcome(Outcome::Rejected).is_retriable());
        let neighbour =
            Error::new(ErrorKind::BatchRefused, "record 3 was refused").with_outcome(Outcome::NotWritten);
        assert!(neighbour.is_retriable());
    }

    #[test]
    fn changing_a_clone_leaves_the_original_alone() {
        let error = Error::new(ErrorKind::Timeout, "no answer").with_source(std::fmt::Error);
        let other = error.clone().with_context("topic orders").with_outcome(Outcome::NotWritten);
        assert_eq!((error.to_string().as_str(), error.outcome()), ("no answer", None));
        assert_eq!(other.to_string(), "topic orders: no answer");
        assert!(other.source().is_some_and(|source| source.is::<std::fmt::Error>()));
    }
}
