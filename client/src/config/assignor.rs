//! How a group shares its partitions, where the user decides.
//!
//! It owns what such an assignor sees and must give. It refuses to know how it travels to the other members.

use std::collections::BTreeMap;

/// A way to share the partitions of a classic group among its members, for
/// [`Assignor::Custom`](crate::Assignor::Custom). Every member must offer one of the same [`name`](Self::name); the leader,
/// whichever member that is, calls its own [`assign`](Self::assign).
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use ottla::{Assignor, PartitionAssignor, Subscriber};
///
/// /// Everything to the oldest member; the others stand by.
/// struct OneActive;
///
/// impl PartitionAssignor for OneActive {
///     fn name(&self) -> &str {
///         "one-active"
///     }
///
///     fn assign(&self, members: &[Subscriber], partitions: &BTreeMap<String, i32>) -> Vec<Vec<(String, i32)>> {
///         let active = members.iter().enumerate().max_by_key(|(_, member)| member.owned.len());
///         let mut shares = vec![Vec::new(); members.len()];
///         if let Some((at, active)) = active {
///             for topic in &active.topics {
///                 let count = partitions.get(topic).copied().unwrap_or(0);
///                 shares[at].extend((0..count).map(|partition| (topic.clone(), partition)));
///             }
///         }
///         shares
///     }
/// }
///
/// # fn example(client: ottla::Client) {
/// let builder = client.consumer().group("billing").assignors([Assignor::Custom(Arc::new(OneActive))]);
/// # drop(builder);
/// # }
/// ```
pub trait PartitionAssignor: Send + Sync + 'static {
    /// Its name in the group protocol. Asked once, when the consumer is built.
    fn name(&self) -> &str;

    /// Whether members keep what they have while the group rebalances (KIP-429). What moves from one to another is then held
    /// back until its owner has given it up, and a second rebalance follows. Asked once, when the consumer is built.
    fn is_cooperative(&self) -> bool {
        false
    }

    /// What a member says about itself to whoever leads: capacity, say. Asked once, when the consumer is built.
    fn user_data(&self) -> Option<Vec<u8>> {
        None
    }

    /// The share of each member, in the order of the members. `partitions` says how many each topic has. A partition may be
    /// in nobody's share. Called by the task of a connection, under no lock; heartbeats wait for it.
    ///
    /// A panic, a partition that does not exist, is given twice or is given to a member that does not read its topic ends the
    /// membership of the leader with an error of kind [`InvalidArgument`](crate::ErrorKind::InvalidArgument).
    fn assign(&self, members: &[Subscriber], partitions: &BTreeMap<String, i32>) -> Vec<Vec<(String, i32)>>;
}

/// A member of a group, as a [`PartitionAssignor`] sees it.
///
/// ```
/// # fn example(member: &ottla::Subscriber) {
/// let keeps: Vec<&(String, i32)> = member.owned.iter().filter(|(topic, _)| member.topics.contains(topic)).collect();
/// # drop(keeps);
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscriber {
    /// Given by the coordinator.
    pub id: String,
    /// Its `group.instance.id`, if it is a static member.
    pub instance_id: Option<String>,
    /// What it reads.
    pub topics: Vec<String>,
    /// What it has: empty where all members give everything up before they join.
    pub owned: Vec<(String, i32)>,
    /// The generation in which it was given that; -1 if it does not say. The highest is right where two say they have the
    /// same partition (KIP-792).
    pub generation: i32,
    /// Its `client.rack`.
    pub rack: Option<String>,
    /// What its own [`PartitionAssignor::user_data`] said.
    pub user_data: Option<Vec<u8>>,
}
