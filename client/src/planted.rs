//! Defects planted on purpose, to prove that the tests catch them.
//!
//! It owns the list and the switch. Without `--cfg ottla_planted` every question is answered with a constant `false`, so a
//! release build holds none of them. The switch belongs to one thread, as a simulated run does.

/// A mistake that can be switched on. The doc of each says what goes wrong and which promise breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A sealed batch does not wake the link of its leader: it waits for whatever comes next (L2).
    LostWakeUp,
    /// A batch that comes back after a lost connection gives its sequence number to the next one (S2).
    SequenceReused,
    /// A retried batch goes behind the batches that were sealed after it (S3).
    RetryAtTheBack,
    /// More than five batches of a partition are out at once (S1).
    WideWindow,
    /// A batch whose time ran out after it was sent is reported as certainly not written (S5).
    FalseNotWritten,
    /// A batch that ran out of time is forgotten without telling its deliveries (L1).
    SilentExpiry,
    /// After a request that may arrive late the next transaction goes on under the same epoch (S6, KAFKA-17754).
    EpochKept,
    /// A transaction with a record that failed is committed (S6).
    CommitDespiteFailure,
    /// A partition is written to before the coordinator knows that it takes part (S6).
    WriteUnregistered,
    /// A coordinator's answer that says nothing is taken for a commit (S6).
    UnknownIsCommitted,
    /// EndTxn overtakes the offsets of the transaction (S6).
    OffsetsAfterEnd,
    /// The record that was only lent, not finished, is committed too (C1).
    CommitLent,
    /// An offset is committed for a partition that was given up (C3).
    CommitAfterRevoke,
    /// A fetched batch is delivered although a seek came after its request (C4).
    StaleFetch,
    /// An error of OffsetFetch counts as "no offset": the reset policy jumps in (C6).
    ErrorIsNoOffset,
    /// A partition is reported as given up before what is finished of it is committed (C3, KIP-848).
    GoneTooSoon,
    /// A member that is fenced keeps its partitions, which others get (C5, KIP-848).
    KeptWhenFenced,
    /// Offsets are asked for and committed under the epoch before (L2, KIP-848).
    StaleEpoch,
}

#[cfg(feature = "unstable-world")]
impl Defect {
    /// Those that scenarios catch, in the order of their declaration. The others are caught by the machines alone.
    pub const ALL: &'static [Defect] = &[
        Defect::LostWakeUp,
        Defect::SequenceReused,
        Defect::RetryAtTheBack,
        Defect::WideWindow,
        Defect::FalseNotWritten,
        Defect::SilentExpiry,
        Defect::EpochKept,
        Defect::CommitDespiteFailure,
        Defect::WriteUnregistered,
        Defect::UnknownIsCommitted,
        Defect::OffsetsAfterEnd,
        Defect::CommitLent,
        Defect::CommitAfterRevoke,
        Defect::StaleFetch,
        Defect::ErrorIsNoOffset,
    ];
}

#[cfg(ottla_planted)]
std::thread_local! {
    static PLANTED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Plants a defect in this thread, or with `None` takes it back.
#[cfg(all(ottla_planted, any(test, feature = "unstable-world")))]
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

/// Whether this thread runs with the defect.
#[cfg(ottla_planted)]
pub(crate) fn planted(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}

/// Whether this thread runs with the defect: never, in a build without planted defects.
#[cfg(not(ottla_planted))]
#[inline(always)]
pub(crate) fn planted(_: Defect) -> bool {
    false
}
