//! Membership of a consumer group: which partitions this consumer may read, and until when.
//!
//! [`Group`] is one member of one classic group. It owns the membership and the search for the coordinator; it refuses to
//! know records, positions and commits: whoever reads is told by [`GroupEvent`]s what to take up and what to give up.
//! Invariant: a partition is joined for again, or left to others, only after the reader has given it up or has been told
//! that it is lost.

mod assign;
mod classic;
mod ending;
mod leader;
mod membership;
mod range;
#[cfg(test)]
pub(crate) mod scene;
mod sticky;
#[cfg(test)]
mod tests;
mod written;

use ottla_protocol::wire::Str;

use super::TopicPartition;
use crate::error::Error;
pub(crate) use classic::Group;
pub(crate) use leader::Sharing;

/// What the reader has to do.
#[derive(Debug)]
pub(crate) enum GroupEvent {
    /// Finish with these, commit, and say [`Group::given_up`]: the group waits for it.
    Revoke(Vec<TopicPartition>),
    /// These are added to what it has.
    Assign(Vec<TopicPartition>),
    /// These may be somebody else's already: deliver nothing more of them, commit nothing. Answers an open `Revoke` too.
    Lost(Vec<TopicPartition>),
    /// The membership is over for good.
    Failed(Error),
}

/// What a commit says about who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) group: Str,
    /// Empty for a consumer that names its partitions itself.
    pub(crate) member_id: Str,
    /// -1 for a consumer that names its partitions itself.
    pub(crate) generation: i32,
    pub(crate) instance_id: Option<Str>,
}
