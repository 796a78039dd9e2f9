//! How a consumer is closed: within which time, and what its group is told.
//!
//! It owns the choice. It refuses to know how a group hears of it.

use std::time::Duration;

use crate::core::group::Parting;

/// How [`Consumer::close`](crate::Consumer::close) goes about it. A [`Duration`] alone is the time, and the group is told as Kafka's
/// clients do: a dynamic member leaves, and a static one ([`group_instance_id`](crate::ConsumerBuilder::group_instance_id))
/// keeps its place until it is back or its session is over (KIP-1092).
///
/// ```no_run
/// # async fn run(consumer: ottla::Consumer) -> Result<(), ottla::Error> {
/// use std::time::Duration;
/// use ottla::CloseOptions;
///
/// // This instance will not come back: its partitions are to move at once.
/// consumer.close(CloseOptions::within(Duration::from_secs(10)).leave_group()).await
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "options do nothing until they are given to close"]
pub struct CloseOptions {
    pub(super) deadline: Duration,
    pub(super) parting: Parting,
}

impl CloseOptions {
    /// The time that closing may take, with what a member of its kind tells the group by default.
    pub fn within(deadline: Duration) -> Self {
        Self { deadline, parting: Parting::ByKind }
    }

    /// Leaves the group for good, as a static member too: its partitions go to others at once.
    pub fn leave_group(self) -> Self {
        Self { parting: Parting::Leave, ..self }
    }

    /// Keeps its place in the group: no partition moves before its session is over. A static member that is back by then goes
    /// on with what it had; a dynamic one never comes back.
    pub fn remain_in_group(self) -> Self {
        Self { parting: Parting::Remain, ..self }
    }
}

impl From<Duration> for CloseOptions {
    fn from(deadline: Duration) -> Self {
        Self::within(deadline)
    }
}
