//! The broker without sockets: the cluster behind its lock, its clock, and the connections that are open.
//!
//! [`Shared::with`] is the only door to the machine: lock, decide, unlock, then wake whoever has an answer. Nothing waits
//! and nothing is computed under the lock but decisions and the copy of a batch into its log.
//!
//! Invariant: a connection waits on its own receiver, which is registered in the same critical section in which its
//! request was parked; so no answer can come before somebody waits for it.

use crate::api::{Answer, Call, Caller};
use crate::core::{Cluster, Handled, Now, Ticket};
use crate::faults::Effect;
use crate::security::session::Entry;
use crate::server;
use crate::world::World;
use ottla_protocol::api::{ApiKey, Versions};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};

/// A Kafka cluster in this process: some nodes, their topics and groups, in memory.
///
/// It has no sockets of its own. [`Broker::serve`] answers on any stream; [`TestBroker`](crate::TestBroker) does so on TCP.
/// Clones are the same cluster.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ottla_broker::Broker;
///
/// let broker = Broker::builder().nodes(3).topic("orders", 6).build()?;
/// let (client, server) = tokio::io::duplex(64 * 1024);
/// let connection = broker.serve(1, "in memory", server);
/// # drop((client, connection));
/// broker.stop();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Broker {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    pub(crate) fn new(cluster: Cluster, world: Arc<dyn World>) -> Self {
        let inner = Inner {
            cluster,
            waiting: BTreeMap::new(),
            connections: BTreeMap::new(),
            opened: 0,
            paused: BTreeSet::new(),
            armed: None,
            stopped: false,
            seen: BTreeMap::new(),
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            world,
            clock: Arc::default(),
            resumed: Notify::new(),
        });
        let clock = keep_time(Arc::downgrade(&shared), shared.clock.clone());
        shared.world.spawn("broker clock", Box::pin(clock));
        Self { shared }
    }

    /// Answers the requests of one connection to a node, until either side closes it or the node stops. `peer` is where
    /// the client is, for the descriptions of groups. Dropping the future closes the connection.
    pub fn serve(
        &self,
        node: i32,
        peer: &str,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> impl Future<Output = ()> + Send {
        server::serve(self.shared.clone(), node, peer.to_string(), None, Entry::default(), stream)
    }

    /// As [`Broker::serve`], for a client that sees only these versions of the APIs: an older broker.
    pub fn serve_versions(
        &self,
        node: i32,
        peer: &str,
        versions: Versions,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> impl Future<Output = ()> + Send {
        let entry = Entry::default();
        server::serve(self.shared.clone(), node, peer.to_string(), Some(versions), entry, stream)
    }

    /// Closes every connection and ends the clock. What is in memory can still be looked at.
    pub fn stop(&self) {
        let closed: Vec<_> = {
            let mut inner = self.shared.inner.lock();
            inner.stopped = true;
            inner.connections.values().map(|connection| connection.closed.clone()).collect()
        };
        closed.iter().for_each(|closed| closed.notify_one());
        self.shared.clock.notify_one();
        self.shared.resumed.notify_waiters();
    }

    /// Stops a node as if its process died: connections close, and for what it led another replica in sync takes over at once.
    /// A partition that has none is led by nobody until the node is back, unless `unclean.leader.election.enable` says that any
    /// replica will do. What the node has written to its log is kept; where other records were written meanwhile, they count.
    pub fn stop_node(&self, node: i32) {
        self.shared.with(|cluster, now| cluster.node_stopped(now, node));
        let inner = self.shared.inner.lock();
        let of_node = inner.connections.values().filter(|connection| connection.node == node);
        of_node.for_each(|connection| connection.closed.notify_one());
    }

    /// Starts a node again that was stopped. Its replicas fetch what they lack, and are in sync again when they have it.
    pub fn start_node(&self, node: i32) {
        self.shared.with(|cluster, now| cluster.node_started(now, node));
    }

    /// Freezes a node: connections stay open, and requests that come are answered after [`Broker::resume_node`]. It does not
    /// fetch from other nodes, nor they from it; after `broker.session.timeout.ms` others take over what it led.
    pub fn pause_node(&self, node: i32) {
        self.shared.inner.lock().paused.insert(node);
        self.shared.with(|cluster, now| cluster.node_paused(now, node, true));
    }

    /// Lets a node go on that was paused.
    pub fn resume_node(&self, node: i32) {
        self.shared.inner.lock().paused.remove(&node);
        self.shared.with(|cluster, now| cluster.node_paused(now, node, false));
        self.shared.resumed.notify_waiters();
    }
}

/// Ends when the broker is stopped or nobody has it any more.
async fn keep_time(shared: Weak<Shared>, clock: Arc<Notify>) {
    while let Some((deadline, false)) = shared.upgrade().map(|shared| shared.tick()) {
        let Some(deadline) = deadline else {
            clock.notified().await;
            continue;
        };
        tokio::select! {
            biased;
            () = clock.notified() => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
    }
}

pub(crate) struct Shared {
    inner: Mutex<Inner>,
    pub(crate) world: Arc<dyn World>,
    /// Wakes the clock when a deadline moves forward.
    clock: Arc<Notify>,
    resumed: Notify,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.clock.notify_one();
    }
}

struct Inner {
    cluster: Cluster,
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
    connections: BTreeMap<u64, Connection>,
    opened: u64,
    paused: BTreeSet<i32>,
    /// The deadline that the clock knows.
    armed: Option<Instant>,
    stopped: bool,
    /// Requests by node and API.
    seen: BTreeMap<(i32, ApiKey), u64>,
}

struct Connection {
    node: i32,
    closed: Arc<Notify>,
}

/// What came of a request, for the connection that it came on.
pub(crate) enum Outcome {
    Answer(Answer),
    Later(Later),
    Silent,
    HangUp,
}

/// A request that waits. Dropping it gives the answer up.
pub(crate) struct Later {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
    pub(crate) ready: oneshot::Receiver<()>,
}

impl Later {
    /// The answer, once `ready` has said so.
    pub(crate) fn take(mut self) -> Option<Answer> {
        let ticket = self.ticket.take()?;
        self.shared.with(|cluster, _| cluster.take(ticket))
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let mut inner = self.shared.inner.lock();
            inner.waiting.remove(&ticket);
            inner.cluster.give_up(ticket);
        }
    }
}

impl Shared {
    fn now(&self) -> Now {
        Now { at: tokio::time::Instant::now().into_std(), wall_ms: self.world.wall_ms() }
    }

    /// The door to the machine: lock, decide, unlock, wake.
    pub(crate) fn with<R>(&self, decide: impl FnOnce(&mut Cluster, Now) -> R) -> R {
        let now = self.now();
        let mut inner = self.inner.lock();
        let result = decide(&mut inner.cluster, now);
        let wakes = inner.wakes();
        drop(inner);
        self.wake(wakes);
        result
    }

    fn tick(&self) -> (Option<Instant>, bool) {
        let now = self.now();
        let mut inner = self.inner.lock();
        inner.cluster.tick(now);
        let wakes = inner.wakes();
        inner.armed = inner.cluster.deadline();
        let result = (inner.armed, inner.stopped);
        drop(inner);
        self.wake(Wakes { clock: false, ..wakes });
        result
    }

    fn wake(&self, wakes: Wakes) {
        for ready in wakes.answers {
            // A connection that closed meanwhile does not listen any more.
            let _ = ready.send(());
        }
        if wakes.clock {
            self.clock.notify_one();
        }
    }

    /// What the faults do to this request; also counts it as seen.
    pub(crate) fn plan(&self, caller: &Caller, call: &Call) -> Vec<Effect> {
        let mut inner = self.inner.lock();
        *inner.seen.entry((caller.node, call.key())).or_default() += 1;
        inner.cluster.faults.on_request(caller.node, &caller.client_id, call)
    }

    pub(crate) fn handle(self: &Arc<Self>, caller: &Caller, call: Call) -> Outcome {
        let now = self.now();
        let mut inner = self.inner.lock();
        let outcome = match inner.cluster.handle(now, caller, call) {
            Handled::Answer(answer) => Outcome::Answer(answer),
            Handled::Silent => Outcome::Silent,
            Handled::HangUp => Outcome::HangUp,
            Handled::Parked(ticket) => {
                let (sender, ready) = oneshot::channel();
                inner.waiting.insert(ticket, sender);
                Outcome::Later(Later { shared: self.clone(), ticket: Some(ticket), ready })
            }
        };
        let wakes = inner.wakes();
        drop(inner);
        self.wake(wakes);
        outcome
    }

    pub(crate) fn request_bytes_max(&self) -> usize {
        self.inner.lock().cluster.settings.request_bytes_max
    }

    /// Whether versions are served that Kafka may still change.
    pub(crate) fn has_unstable_versions(&self) -> bool {
        self.inner.lock().cluster.settings.unstable_api_versions
    }

    /// Registers a connection, if the node takes any. It must close when told so.
    pub(crate) fn open(&self, node: i32) -> Option<(u64, Arc<Notify>)> {
        let mut inner = self.inner.lock();
        if inner.stopped || !inner.cluster.nodes.get(&node).is_some_and(|node| node.runs) {
            return None;
        }
        inner.opened += 1;
        let (id, closed) = (inner.opened, Arc::new(Notify::new()));
        inner.connections.insert(id, Connection { node, closed: closed.clone() });
        Some((id, closed))
    }

    pub(crate) fn close(&self, connection: u64) {
        self.inner.lock().connections.remove(&connection);
    }

    /// Returns when the node is not paused.
    pub(crate) async fn until_resumed(&self, node: i32) {
        loop {
            let resumed = self.resumed.notified();
            tokio::pin!(resumed);
            // Registered before looking, or a resume in between would be missed.
            resumed.as_mut().enable();
            if !self.inner.lock().paused.contains(&node) {
                return;
            }
            resumed.await;
        }
    }

    pub(crate) fn seen(&self, node: i32, key: ApiKey) -> u64 {
        self.inner.lock().seen.get(&(node, key)).copied().unwrap_or(0)
    }

    pub(crate) fn connections(&self) -> usize {
        self.inner.lock().connections.len()
    }
}

/// Who is to be woken once the lock is free.
struct Wakes {
    answers: Vec<oneshot::Sender<()>>,
    clock: bool,
}

impl Inner {
    fn wakes(&mut self) -> Wakes {
        let mut answers = Vec::new();
        while let Some(ticket) = self.cluster.poll_woken() {
            answers.extend(self.waiting.remove(&ticket));
        }
        let deadline = self.cluster.deadline();
        let clock = match (deadline, self.armed) {
            (Some(deadline), Some(armed)) => deadline < armed,
            (deadline, None) => deadline.is_some(),
            (None, Some(_)) => false,
        };
        if clock {
            self.armed = deadline;
        }
        Wakes { answers, clock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::frame::{Frame, encode_request};
    use ottla_protocol::messages::{FetchPartition, FetchRequest, FetchTopic};
    use ottla_protocol::wire::{Str, Uuid};
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_away_while_it_waits_gives_its_fetch_up() {
        let broker = Broker::builder().topic("t", 1).build().unwrap();
        let (mut client, server) = tokio::io::duplex(1024);
        let serving = tokio::spawn({
            let broker = broker.clone();
            async move { broker.serve(1, "127.0.0.1", server).await }
        });
        let partitions = vec![FetchPartition { partition_max_bytes: 1, ..FetchPartition::default() }];
        let topics = vec![FetchTopic { topic: Str::from("t"), topic_id: Uuid::ZERO, partitions }];
        let request = FetchRequest { max_wait_ms: 60_000, min_bytes: 1, topics, ..FetchRequest::default() };
        let mut frame = Frame::default();
        encode_request(&request, 12, 1, None, &mut frame).unwrap();
        client.write_all(&frame.to_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let waiting = || {
            (broker.shared.with(|cluster, _| cluster.fetches.len()), broker.shared.inner.lock().waiting.len())
        };
        assert_eq!(waiting(), (1, 1));
        drop(client);
        serving.await.unwrap();
        assert_eq!(waiting(), (0, 0));
    }
}
