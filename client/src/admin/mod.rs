//! The admin client: topics, offsets, groups and the cluster itself, one request after the other.
//!
//! It owns what a user asks of a cluster and how that is told. Nothing here lives longer than a call but the connections
//! (`nodes`): who controls, leads or coordinates is looked up by each attempt of each call, so nothing known is ever out of
//! date. It refuses to start tasks, and to decide what may be retried: that comes from the error table.
//! Invariant: a call ends by its deadline, and no item of it is left without a result.

mod acls;
mod attempts;
mod cluster;
mod commits;
mod groups;
mod leaders;
mod nodes;
mod offsets;
mod placement;
mod records;
#[cfg(test)]
mod tests;
mod tokens;
mod topics;
mod users;

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::wire::Str;

use crate::client::Client;
use crate::error::{Error, ErrorKind};
use attempts::Attempts;
use nodes::Nodes;

pub use acls::{Acl, AclFilter, AclOperation, AclPattern, AclPermission, AclResource};
pub use cluster::{ClusterDescription, Node};
pub use commits::{CommittedOffset, OffsetReset};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use offsets::{ListedOffset, OffsetSpec};
pub use placement::{Election, Reassignment};
pub use tokens::{DelegationToken, NewDelegationToken};
pub use topics::{CreatedTopic, NewTopic, PartitionDescription, TopicDescription};
pub use users::{ScramChange, ScramMechanism};

/// Manages a cluster. Cheap to clone; the clones share their connections, of which each broker gets at most one, opened
/// when it is needed. Requests to one broker follow one another.
///
/// # Deadlines and retries
/// Each call ends within `default.api.timeout.ms`, or within what [`with_deadline`](Admin::with_deadline) says. Until then,
/// whatever Kafka calls retriable is tried again: lost connections, a controller, leader or coordinator that has moved, a
/// quota that is used up. The waits between are `retry.backoff.ms`, growing.
/// An attempt that got no answer may still take effect, even after the call has ended.
///
/// # Cancelling
/// Dropping the future of a call gives it up. What was sent may still take effect; its connection is closed and never used
/// again. Dropping the last clone closes all connections and returns at once; there is nothing to flush.
///
/// ```no_run
/// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
/// use ottla::NewTopic;
///
/// let admin = client.admin();
/// admin.create_topics([NewTopic::new("orders").partitions(6)]).await.all()?;
/// for (name, topic) in admin.list_topics().await? {
///     println!("{name}: {} partitions", topic.partitions.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Admin {
    nodes: Arc<Nodes>,
    limit: Duration,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("deadline", &self.limit).finish_non_exhaustive()
    }
}

static NUMBER: AtomicU64 = AtomicU64::new(1);

impl Client {
    /// An admin client with connections of its own. It opens none before they are needed. Brokers see it as `admin-N`
    /// unless the client has a name.
    ///
    /// ```no_run
    /// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
    /// println!("{:?}", client.admin().describe_cluster().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn admin(&self) -> Admin {
        let config = self.named(|| format!("admin-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let limit = config.default_api_timeout;
        Admin { nodes: Arc::new(Nodes::new(config, self.world.clone())), limit }
    }
}

impl Admin {
    /// The same admin client, with the same connections, whose calls each end within `deadline`. Zero leaves a call no time
    /// at all, never all of it.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use std::time::Duration;
    ///
    /// let soon = admin.with_deadline(Duration::from_secs(5)).describe_cluster().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "the deadline is that of the handle that is returned"]
    pub fn with_deadline(&self, deadline: Duration) -> Admin {
        Admin { nodes: self.nodes.clone(), limit: deadline }
    }

    fn attempts(&self) -> Attempts {
        Attempts::new(&self.nodes, self.limit)
    }
}

/// What became of each item of a call, in the order of the items: one may fail where its neighbour succeeds.
///
/// ```no_run
/// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
/// for (topic, result) in admin.delete_topics(["old", "older"]).await {
///     match result {
///         Ok(()) => println!("{topic} is gone"),
///         Err(error) => println!("{error}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "each item has its own result, and may have failed"]
pub struct Results<K, V>(BTreeMap<K, Result<V, Error>>);

impl<K: Ord, V> Results<K, V> {
    /// All values, or the first error.
    ///
    /// # Errors
    /// That of the first item that failed; the others are dropped.
    pub fn all(self) -> Result<BTreeMap<K, V>, Error> {
        self.0.into_iter().map(|(item, result)| result.map(|value| (item, value))).collect()
    }

    /// The result of one item, if it was asked for.
    pub fn get<Q: Ord + ?Sized>(&self, item: &Q) -> Option<&Result<V, Error>>
    where
        K: Borrow<Q>,
    {
        self.0.get(item)
    }

    /// Takes the result of one item out.
    ///
    /// # Errors
    /// Its error; [`ErrorKind::InvalidArgument`] when the item was not asked for, or has been taken out already.
    pub fn take<Q: Ord + fmt::Debug + ?Sized>(&mut self, item: &Q) -> Result<V, Error>
    where
        K: Borrow<Q>,
    {
        let absent = || Error::new(ErrorKind::InvalidArgument, format!("there is no result for {item:?}"));
        self.0.remove(item).unwrap_or_else(|| Err(absent()))
    }

    /// Each item with its result.
    pub fn iter(&self) -> btree_map::Iter<'_, K, Result<V, Error>> {
        self.0.iter()
    }
}

impl<K, V> IntoIterator for Results<K, V> {
    type Item = (K, Result<V, Error>);
    type IntoIter = btree_map::IntoIter<K, Result<V, Error>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Results<K, V> {
    type Item = (&'a K, &'a Result<V, Error>);
    type IntoIter = btree_map::Iter<'a, K, Result<V, Error>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Nothing where a broker says that there is no error; else its code, with what it says beside it.
fn checked(code: ErrorCode, detail: Option<&Str>, subject: impl fmt::Display) -> Result<(), Error> {
    if code.is_ok() {
        return Ok(());
    }
    Err(match detail.filter(|detail| !detail.is_empty()) {
        Some(detail) => {
            let message = format!("{subject}: {} ({}): {detail}", code.message(), code.name());
            Error::new(ErrorKind::of(code), message).with_code(code)
        }
        None => Error::from_code(code, subject),
    })
}
