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
mod subscription;
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

/// On behalf of which member of which group offsets are committed. One that is out of date is refused, so that no other
/// one's work is done twice (KIP-447).
///
/// ```
/// // A group that nobody is a member of: offsets are kept there, and partitions are assigned by hand.
/// let alone = ottla::GroupMetadata::of_no_member("billing");
/// # let _ = alone;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    pub(crate) group: Str,
    /// Empty for a consumer that names its partitions itself.
    pub(crate) member_id: Str,
    /// -1 for a consumer that names its partitions itself.
    pub(crate) generation: i32,
    pub(crate) instance_id: Option<Str>,
}

impl GroupMetadata {
    /// The offsets of a group without saying on behalf of which member. Nothing fences a second reader then.
    pub fn of_no_member(group: &str) -> Self {
        Self { group: Str::from(group), member_id: Str::default(), generation: -1, instance_id: None }
    }
}
