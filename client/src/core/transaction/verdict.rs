//! What a coordinator's answer to a call of a transaction means: one table.
//!
//! It owns the meaning of each error code for each call (KIP-360, KIP-447, KIP-890). What a code says in general comes from
//! the protocol's error table. Invariant: a code nobody knows is no success, and after an EndTxn it leaves the outcome open.

use ottla_protocol::error_code::ErrorCode;

use super::Protocol;

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// InitProducerId.
    Name,
    AddPartitions,
    AddOffsets,
    CommitOffsets,
    Commit,
    Abort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// The same again, after a while.
    Again,
    /// The same again, after another look for the coordinator.
    FindAgain,
    /// The transaction can only be aborted.
    Abort,
    /// The producer is of no more use.
    Fatal,
    /// Only the same decision may be sent again.
    Unknown,
}

pub(super) fn judge(call: Call, code: ErrorCode, protocol: Protocol) -> Verdict {
    use Call::{Abort, AddOffsets, AddPartitions, Commit, CommitOffsets, Name};
    let ends = matches!(call, Commit | Abort);
    match code {
        ErrorCode::NONE => Verdict::Done,
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => Verdict::FindAgain,
        ErrorCode::REQUEST_TIMED_OUT if call == CommitOffsets => Verdict::FindAgain,
        code if code.is_retriable() => Verdict::Again,
        // The transaction may only have run out of its time: the answer to the abort tells.
        ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH
            if call == CommitOffsets && protocol == Protocol::V2 =>
        {
            Verdict::Abort
        }
        // Before KIP-588 a coordinator says the second where it means the first.
        ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH => Verdict::Fatal,
        // The coordinator has aborted it by itself: its time was over. The abort of ours brings the next epoch.
        ErrorCode::INVALID_TXN_STATE if call == Commit && protocol == Protocol::V2 => Verdict::Abort,
        ErrorCode::INVALID_TXN_STATE | ErrorCode::INVALID_PRODUCER_ID_MAPPING => Verdict::Fatal,
        ErrorCode::TRANSACTION_ABORTABLE if matches!(call, Abort | Name) => Verdict::Fatal,
        ErrorCode::TRANSACTION_ABORTABLE => Verdict::Abort,
        ErrorCode::UNKNOWN_PRODUCER_ID if call == Abort => Verdict::Fatal,
        ErrorCode::GROUP_AUTHORIZATION_FAILED | ErrorCode::TOPIC_AUTHORIZATION_FAILED => match call {
            AddPartitions | AddOffsets | CommitOffsets => Verdict::Abort,
            _ => Verdict::Fatal,
        },
        // The member is out of date, or the group's name is no name: that is not the end of the producer.
        ErrorCode::FENCED_INSTANCE_ID | ErrorCode::INVALID_GROUP_ID
            if matches!(call, AddOffsets | CommitOffsets) =>
        {
            Verdict::Abort
        }
        code if code.is_fatal() => Verdict::Fatal,
        _ if ends => Verdict::Unknown,
        _ if call == Name => Verdict::Fatal,
        _ => Verdict::Abort,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(call: Call, code: ErrorCode, expected: Verdict) {
        for protocol in [Protocol::V1, Protocol::V2] {
            assert_eq!(judge(call, code, protocol), expected, "{call:?} answered {code}, {protocol:?}");
        }
    }

    const ALL: [Call; 6] =
        [Call::Name, Call::AddPartitions, Call::AddOffsets, Call::CommitOffsets, Call::Commit, Call::Abort];

    #[test]
    fn a_coordinator_that_moved_is_found_again_by_every_call() {
        for call in ALL {
            check(call, ErrorCode::NOT_COORDINATOR, Verdict::FindAgain);
            check(call, ErrorCode::COORDINATOR_NOT_AVAILABLE, Verdict::FindAgain);
        }
    }

    #[test]
    fn a_coordinator_that_loads_or_is_busy_is_asked_again_by_every_call() {
        for call in ALL {
            check(call, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, Verdict::Again);
            check(call, ErrorCode::CONCURRENT_TRANSACTIONS, Verdict::Again);
        }
    }

    #[test]
    fn a_fenced_producer_is_at_its_end_whatever_it_asked() {
        for call in ALL {
            for code in [ErrorCode::PRODUCER_FENCED, ErrorCode::INVALID_PRODUCER_EPOCH] {
                assert_eq!(judge(call, code, Protocol::V1), Verdict::Fatal, "{call:?} answered {code}");
                let asks = if call == Call::CommitOffsets { Verdict::Abort } else { Verdict::Fatal };
                assert_eq!(judge(call, code, Protocol::V2), asks, "{call:?} answered {code}");
            }
            check(call, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Verdict::Fatal);
        }
    }

    /// Or they would be sent again at once, for ever.
    #[test]
    fn no_code_aborts_where_there_is_nothing_to_abort() {
        for code in (-1..200).map(ErrorCode) {
            for protocol in [Protocol::V1, Protocol::V2] {
                for call in [Call::Name, Call::Abort] {
                    assert_ne!(judge(call, code, protocol), Verdict::Abort, "{call:?} answered {code}");
                }
                assert_ne!(judge(Call::Name, code, protocol), Verdict::Unknown, "answered {code}");
            }
        }
    }

    #[test]
    fn an_end_that_nobody_understands_leaves_the_outcome_open() {
        for call in [Call::Commit, Call::Abort] {
            check(call, ErrorCode::UNKNOWN_SERVER_ERROR, Verdict::Unknown);
            check(call, ErrorCode(9_999), Verdict::Unknown);
        }
    }

    #[test]
    fn offsets_of_a_member_that_is_out_of_date_abort_the_transaction() {
        for code in [
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::ILLEGAL_GENERATION,
            ErrorCode::STALE_MEMBER_EPOCH,
            ErrorCode::GROUP_ID_NOT_FOUND,
            ErrorCode::FENCED_INSTANCE_ID,
        ] {
            check(Call::CommitOffsets, code, Verdict::Abort);
        }
    }

    #[test]
    fn what_is_abortable_is_fatal_while_aborting() {
        check(Call::AddPartitions, ErrorCode::TRANSACTION_ABORTABLE, Verdict::Abort);
        check(Call::Commit, ErrorCode::TRANSACTION_ABORTABLE, Verdict::Abort);
        check(Call::Abort, ErrorCode::TRANSACTION_ABORTABLE, Verdict::Fatal);
    }

    #[test]
    fn only_under_version_2_a_transaction_that_ran_out_of_time_is_survived() {
        let judged = |protocol| judge(Call::Commit, ErrorCode::INVALID_TXN_STATE, protocol);
        assert_eq!((judged(Protocol::V1), judged(Protocol::V2)), (Verdict::Fatal, Verdict::Abort));
    }

    #[test]
    fn a_partition_that_may_not_be_written_to_aborts_the_transaction() {
        check(Call::AddPartitions, ErrorCode::TOPIC_AUTHORIZATION_FAILED, Verdict::Abort);
        check(Call::AddPartitions, ErrorCode::OPERATION_NOT_ATTEMPTED, Verdict::Abort);
        check(Call::AddOffsets, ErrorCode::GROUP_AUTHORIZATION_FAILED, Verdict::Abort);
    }
}
