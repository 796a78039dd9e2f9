//! What the broker's answer to a batch means: one table.
//!
//! It owns the meaning of each error code of Produce for an idempotent or plain producer (faults 5-16). What a code says in
//! general (retriable, refresh, written) comes from the protocol's error table; only what depends on the situation of the
//! batch is here. Invariant: a code nobody knows is a failure, never a success.

use ottla_protocol::error_code::{ErrorCode, Write};

use crate::error::Outcome;

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in the log.
    Written,
    /// It was in the log before; nobody can tell at which offset.
    Duplicate,
    /// Send it again under its number; first ask for metadata, when `refresh` says so.
    Retry { refresh: bool },
    /// Send it again under a new identity: the broker misses an earlier number, or has forgotten us, and this batch is
    /// certainly not in the log.
    Renumber,
    /// Send it again in parts (KIP-126).
    Split,
    /// Give it up.
    Fail(Outcome),
}

/// What is known about the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Situation {
    pub(crate) idempotent: bool,
    /// Part of a transaction, which is aborted rather than numbered again (B3).
    pub(crate) transactional: bool,
    /// An earlier batch of the partition has no answer yet, or is to be sent again.
    pub(crate) earlier_unresolved: bool,
    /// A number before this batch's was lost, and what is out is to be numbered again.
    pub(crate) broken: bool,
    /// An earlier attempt ended without an answer: the batch may be in the log already.
    pub(crate) doubtful: bool,
    /// It is part of a batch that was split while that was in doubt.
    pub(crate) part: bool,
    /// It has more than one record.
    pub(crate) divisible: bool,
    /// The log no longer holds the last batch that was acknowledged: retention has removed what we wrote (KIP-360).
    pub(crate) log_moved: bool,
}

impl Situation {
    /// A batch that is certainly not in the log may go under another number.
    fn renumbers(self) -> bool {
        self.idempotent && !self.transactional && !self.doubtful
    }
}

pub(crate) fn judge(code: ErrorCode, at: Situation) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Written,
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Verdict::Duplicate,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER if at.idempotent && at.earlier_unresolved => {
            Verdict::Retry { refresh: false }
        }
        // The broker remembers our last five batches, and this is not among them; a part of one of them might be.
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            if at.idempotent && at.broken && !(at.part && at.doubtful) =>
        {
            Verdict::Renumber
        }
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => Verdict::Fail(Outcome::PossiblyWritten),
        ErrorCode::UNKNOWN_PRODUCER_ID if at.renumbers() && at.log_moved => Verdict::Renumber,
        ErrorCode::UNKNOWN_PRODUCER_ID => Verdict::Fail(Outcome::PossiblyWritten),
        ErrorCode::INVALID_PRODUCER_EPOCH if at.renumbers() => Verdict::Renumber,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE if at.divisible => Verdict::Split,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE if !at.doubtful => {
            Verdict::Fail(Outcome::Rejected)
        }
        code if code.is_retriable() => Verdict::Retry { refresh: code.needs_refresh() },
        code => Verdict::Fail(match code.write() {
            Write::NotWritten if !at.doubtful => Outcome::NotWritten,
            _ => Outcome::PossiblyWritten,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Situation = Situation {
        idempotent: true,
        transactional: false,
        earlier_unresolved: false,
        broken: false,
        doubtful: false,
        part: false,
        divisible: true,
        log_moved: false,
    };

    fn check(code: ErrorCode, at: Situation, expected: Verdict) {
        assert_eq!(judge(code, at), expected, "{code} at {at:?}");
    }

    #[test]
    fn out_of_order_behind_an_earlier_batch_is_a_plain_retry() {
        let behind = Situation { earlier_unresolved: true, ..PLAIN };
        check(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, behind, Verdict::Retry { refresh: false });
    }

    #[test]
    fn out_of_order_with_nothing_earlier_is_possibly_written() {
        check(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, PLAIN, Verdict::Fail(Outcome::PossiblyWritten));
    }

    #[test]
    fn out_of_order_after_a_lost_number_goes_on_under_a_new_one() {
        let broken = Situation { broken: true, ..PLAIN };
        check(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, broken, Verdict::Renumber);
        check(
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            Situation { doubtful: true, ..broken },
            Verdict::Renumber,
        );
    }

    #[test]
    fn an_unknown_producer_goes_on_only_where_retention_explains_it() {
        let moved = Situation { log_moved: true, ..PLAIN };
        check(ErrorCode::UNKNOWN_PRODUCER_ID, moved, Verdict::Renumber);
        check(ErrorCode::UNKNOWN_PRODUCER_ID, PLAIN, Verdict::Fail(Outcome::PossiblyWritten));
        let doubt = Situation { doubtful: true, ..moved };
        check(ErrorCode::UNKNOWN_PRODUCER_ID, doubt, Verdict::Fail(Outcome::PossiblyWritten));
    }

    #[test]
    fn in_a_transaction_nothing_is_numbered_again() {
        let within = Situation { transactional: true, log_moved: true, ..PLAIN };
        check(ErrorCode::UNKNOWN_PRODUCER_ID, within, Verdict::Fail(Outcome::PossiblyWritten));
        check(ErrorCode::INVALID_PRODUCER_EPOCH, within, Verdict::Fail(Outcome::NotWritten));
        check(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, within, Verdict::Fail(Outcome::PossiblyWritten));
        check(ErrorCode::TRANSACTION_ABORTABLE, within, Verdict::Fail(Outcome::NotWritten));
    }

    #[test]
    fn a_refusal_is_certain_unless_an_earlier_attempt_is_in_doubt() {
        check(ErrorCode::TOPIC_AUTHORIZATION_FAILED, PLAIN, Verdict::Fail(Outcome::NotWritten));
        let doubt = Situation { doubtful: true, ..PLAIN };
        check(ErrorCode::TOPIC_AUTHORIZATION_FAILED, doubt, Verdict::Fail(Outcome::PossiblyWritten));
    }

    #[test]
    fn what_is_too_large_is_split_down_to_the_record_and_that_one_is_rejected() {
        for code in [ErrorCode::MESSAGE_TOO_LARGE, ErrorCode::RECORD_LIST_TOO_LARGE] {
            check(code, PLAIN, Verdict::Split);
            check(code, Situation { doubtful: true, ..PLAIN }, Verdict::Split);
            let single = Situation { divisible: false, ..PLAIN };
            check(code, single, Verdict::Fail(Outcome::Rejected));
            let doubt = Situation { doubtful: true, ..single };
            check(code, doubt, Verdict::Fail(Outcome::PossiblyWritten));
        }
    }

    #[test]
    fn a_part_out_of_order_says_nothing_while_the_whole_may_be_in_the_log() {
        let part = Situation { broken: true, part: true, ..PLAIN };
        check(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, part, Verdict::Renumber);
        let doubt = Situation { doubtful: true, ..part };
        check(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, doubt, Verdict::Fail(Outcome::PossiblyWritten));
    }

    #[test]
    fn leaders_are_looked_up_again_and_replicas_waited_for() {
        check(ErrorCode::NOT_LEADER_OR_FOLLOWER, PLAIN, Verdict::Retry { refresh: true });
        check(ErrorCode::NOT_ENOUGH_REPLICAS, PLAIN, Verdict::Retry { refresh: false });
    }

    #[test]
    fn a_code_nobody_knows_is_no_success() {
        check(ErrorCode(9_999), PLAIN, Verdict::Fail(Outcome::PossiblyWritten));
    }
}
