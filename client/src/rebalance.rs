//! User code that is told of partitions that come and go, and user code that knows where they begin.
//!
//! It owns what such code sees, and what it may answer. It refuses to know when any of it is called, and what waits for it:
//! that is [`core::hooks`](crate::core) and the task in `consumer/hooks`. Invariant: none of it runs under a lock.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use crate::consumer::Control;
use crate::event::Hook;
use crate::world::Work;

/// What user code that failed says of it.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// Is told of partitions that come and go: [`ConsumerBuilder::rebalance_hooks`](crate::ConsumerBuilder::rebalance_hooks).
///
/// The methods are called one at a time, in the order of what happened, by a task of their own: no `recv` has to be waited
/// for, and one that is dropped stops none of them. Each partition that was [`assigned`](Self::assigned) is
/// [`revoked`](Self::revoked) or [`lost`](Self::lost) later, once, unless the consumer is dropped before. Heartbeats and the
/// other partitions go on meanwhile. The [`Control`] is that of the consumer, and all of it works: commit, seek, pause, close.
///
/// Each call has the time of [`hook_timeout`](crate::ConsumerBuilder::hook_timeout), from when it is its turn. One that takes
/// longer is dropped where it waits; then, and after an error or a panic, [`Event::HookFailed`](crate::Event::HookFailed) tells
/// so, and the consumer goes on as if it had returned. It does so even if the call blocks its thread, but the next
/// calls then come when that has ended, or not at all.
///
/// When the consumer is closed, a call that is on goes on, and `revoked` is called for all partitions, within the time of
/// [`close`](crate::Consumer::close). When it is dropped, a call that is on is dropped where it waits, and no other
/// comes.
///
/// ```
/// use ottla::{Control, HookError, RebalanceHooks};
///
/// /// Keeps a cache for each partition.
/// struct Caches;
///
/// impl RebalanceHooks for Caches {
///     async fn assigned(&self, _: &Control, partitions: &[(String, i32)]) -> Result<(), HookError> {
///         println!("warming up {partitions:?}, of which nothing is delivered yet");
///         Ok(())
///     }
///
///     async fn revoked(&self, control: &Control, partitions: &[(String, i32)]) -> Result<(), HookError> {
///         println!("writing {partitions:?} down, which nobody else has yet");
///         control.commit().await?;
///         Ok(())
///     }
/// }
///
/// # fn example(client: ottla::Client) -> Result<(), ottla::Error> {
/// let consumer = client.consumer().group("billing").subscribe(["orders"]).rebalance_hooks(Caches).build()?;
/// # drop(consumer);
/// # Ok(())
/// # }
/// ```
#[expect(unused_variables, reason = "the names are for the readers of the documentation")]
pub trait RebalanceHooks: Send + Sync + 'static {
    /// These partitions have come: those that the group gave, those that were assigned by name, or new ones that match the
    /// pattern. Nothing is fetched or delivered of them before this has returned, so a seek in it decides what comes
    /// first, and a pause holds from the first record on. Where nothing is sought they begin behind the last commit.
    fn assigned(
        &self,
        control: &Control,
        partitions: &[(String, i32)],
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        async { Ok(()) }
    }

    /// These partitions are to go: to other members, or because the consumer is being closed. Nothing more of them is
    /// delivered, and nobody else has them before this has returned. Records that are acknowledged meanwhile
    /// ([`Done::OnAck`](crate::Done::OnAck)) count, and so do commits. Afterwards what is finished is committed, unless commits
    /// are [`When::Manual`](crate::When::Manual).
    ///
    /// If the membership ends while it is on, this was all that is told of them, and what is committed from then on is
    /// [`superseded`](crate::CommitOutcome::superseded).
    fn revoked(
        &self,
        control: &Control,
        partitions: &[(String, i32)],
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        async { Ok(()) }
    }

    /// These partitions are gone, and others may have them already: the session timed out, the group went on without this
    /// member, or their topic was deleted. What was finished since the last commit will be delivered again, and a commit says
    /// that it is [`superseded`](crate::CommitOutcome::superseded).
    fn lost(
        &self,
        control: &Control,
        partitions: &[(String, i32)],
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        async { Ok(()) }
    }
}

/// Knows where partitions begin, because the offsets are kept with what is made of the records:
/// [`ConsumerBuilder::offset_store`](crate::ConsumerBuilder::offset_store).
///
/// Whoever writes the result of a record and the offset behind it in one transaction of a database has each record in it
/// exactly once: after a crash either both are there or neither, and reading goes on from what is there. The group's commits
/// decide nothing then; they are good for monitoring, or left out by [`When::Manual`](crate::When::Manual).
///
/// In a group one more thing is needed, because a member that was cut off may write once more while its successor is at work:
/// the transaction must fail unless the stored offset is the one that the member goes on from, as in
/// `UPDATE offsets SET next = 43 WHERE partition = 0 AND next = 42`.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Mutex;
/// use ottla::{HookError, OffsetStore};
///
/// /// A sum, and the offsets behind the records that are in it.
/// struct Sum(Mutex<(u64, BTreeMap<(String, i32), i64>)>);
///
/// impl OffsetStore for Sum {
///     async fn load(&self, _: &[(String, i32)]) -> Result<BTreeMap<(String, i32), i64>, HookError> {
///         Ok(self.0.lock().map_err(|_| "a panic in the middle of an update")?.1.clone())
///     }
/// }
///
/// # fn example(client: ottla::Client, sum: Sum) -> Result<(), ottla::Error> {
/// let consumer = client.consumer().assign([("orders", 0)]).offset_store(sum).build()?;
/// # drop(consumer);
/// # Ok(())
/// # }
/// ```
pub trait OffsetStore: Send + Sync + 'static {
    /// The offset to read next of each of these partitions, which have just come. One that is missing begins as
    /// [`on_no_commit`](crate::ConsumerBuilder::on_no_commit) says, and others are ignored. Called before
    /// [`RebalanceHooks::assigned`], as that is, and with the same limit.
    ///
    /// After an error, a panic, a negative offset, or when the time is over, nobody else is asked: the partitions are not read,
    /// `recv` returns an error of kind [`OffsetStore`](crate::ErrorKind::OffsetStore) for each, and they wait for a seek.
    fn load(
        &self,
        partitions: &[(String, i32)],
    ) -> impl Future<Output = Result<BTreeMap<(String, i32), i64>, HookError>> + Send;
}

/// The same store for several consumers.
impl<S: OffsetStore> OffsetStore for std::sync::Arc<S> {
    fn load(
        &self,
        partitions: &[(String, i32)],
    ) -> impl Future<Output = Result<BTreeMap<(String, i32), i64>, HookError>> + Send {
        (**self).load(partitions)
    }
}

/// [`RebalanceHooks`] of any type.
pub(crate) trait AnyHooks: Send + Sync {
    fn call(
        self: std::sync::Arc<Self>,
        hook: Hook,
        control: Control,
        partitions: Vec<(String, i32)>,
    ) -> Work<Result<(), HookError>>;
}

impl<H: RebalanceHooks> AnyHooks for H {
    fn call(
        self: std::sync::Arc<Self>,
        hook: Hook,
        control: Control,
        partitions: Vec<(String, i32)>,
    ) -> Work<Result<(), HookError>> {
        Box::pin(async move {
            match hook {
                Hook::Assigned => self.assigned(&control, &partitions).await,
                Hook::Revoked => self.revoked(&control, &partitions).await,
                Hook::Lost => self.lost(&control, &partitions).await,
                // It is asked of the store.
                Hook::Load => Ok(()),
            }
        })
    }
}

impl fmt::Debug for dyn AnyHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RebalanceHooks")
    }
}

/// What an offset store answers.
type Loaded = Result<BTreeMap<(String, i32), i64>, HookError>;

/// An [`OffsetStore`] of any type.
pub(crate) trait AnyStore: Send + Sync {
    fn load(self: std::sync::Arc<Self>, partitions: Vec<(String, i32)>) -> Work<Loaded>;
}

impl<S: OffsetStore> AnyStore for S {
    fn load(self: std::sync::Arc<Self>, partitions: Vec<(String, i32)>) -> Work<Loaded> {
        Box::pin(async move { OffsetStore::load(&*self, &partitions).await })
    }
}

impl fmt::Debug for dyn AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OffsetStore")
    }
}
