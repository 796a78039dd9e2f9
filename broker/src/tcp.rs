//! The broker on TCP: a listener a node, on the loopback address unless told otherwise.

use crate::broker::Broker;
use crate::builder::{Builder, StartError};
use ottla_protocol::api::Versions;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

/// A broker for a test, with a TCP port for each node. Dropping it closes everything.
///
/// It dereferences to its [`Broker`], which has the faults and the views.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ottla_broker::TestBroker;
///
/// let broker = TestBroker::start().await?;
/// println!("connect to {}", broker.bootstrap());
///
/// let cluster = TestBroker::builder().nodes(3).topic("orders", 6).start().await?;
/// assert_eq!(cluster.bootstrap().split(',').count(), 3);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TestBroker {
    broker: Broker,
    addresses: BTreeMap<i32, SocketAddr>,
    listeners: Mutex<BTreeMap<i32, Listener>>,
    versions: Arc<Mutex<Option<Versions>>>,
}

#[derive(Debug)]
struct Listener {
    close: Arc<Notify>,
    closed: oneshot::Receiver<()>,
}

impl Deref for TestBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl TestBroker {
    /// One node on a free port, no topics.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// A broker of one node on a free port, to be changed before it starts.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) async fn listen(mut builder: Builder, first: SocketAddr) -> Result<Self, StartError> {
        let mut bound = Vec::new();
        let mut addresses = BTreeMap::new();
        for (id, index) in (1..).zip(0..builder.node_count().min(100)) {
            let port = match (first.port(), u16::try_from(index)) {
                (0, _) => 0,
                (port, Ok(index)) => port.saturating_add(index),
                (port, Err(_)) => port,
            };
            let address = SocketAddr::new(first.ip(), port);
            let listening = async {
                let listener = TcpListener::bind(address).await?;
                let address = listener.local_addr()?;
                Ok((listener, address))
            };
            let (listener, address) =
                listening.await.map_err(|source: io::Error| StartError::Listen { address, source })?;
            builder = builder.advertise(id, advertised(address), address.port());
            addresses.insert(id, address);
            bound.push((id, listener));
        }
        let broker = builder.build()?;
        let started = Self { broker, addresses, listeners: Mutex::default(), versions: Arc::default() };
        for (id, listener) in bound {
            started.accept(id, listener);
        }
        Ok(started)
    }

    /// The addresses of the nodes, `127.0.0.1:4711,127.0.0.1:4712`: what clients call `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        let addresses = self.addresses.values().map(|it| format!("{}:{}", advertised(*it), it.port()));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Where a node listens.
    pub fn address(&self, node: i32) -> Option<SocketAddr> {
        self.addresses.get(&node).copied()
    }

    /// Shows connections that open from now on only these versions of the APIs, as an older broker would.
    pub fn limit_versions(&self, versions: Versions) {
        *self.versions.lock() = Some(versions);
    }

    /// Closes every listener and connection.
    pub fn stop(&self) {
        self.broker.stop();
        self.listeners.lock().values().for_each(|listener| listener.close.notify_one());
    }

    /// Kills a node: its port closes, its connections break, other nodes take over what it led. Returns when the port is
    /// closed.
    pub async fn kill_node(&self, node: i32) {
        let listener = self.listeners.lock().remove(&node);
        self.broker.stop_node(node);
        if let Some(listener) = listener {
            listener.close.notify_one();
            // An error means that the task is gone, and the listener with it.
            let _ = listener.closed.await;
        }
    }

    /// Starts a node again that was killed, on the same port.
    ///
    /// # Errors
    /// The port was taken meanwhile.
    pub async fn restart_node(&self, node: i32) -> io::Result<()> {
        let Some(address) = self.address(node) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no node {node}")));
        };
        if self.listeners.lock().contains_key(&node) {
            return Ok(());
        }
        let listener = TcpListener::bind(address).await?;
        self.broker.start_node(node);
        self.accept(node, listener);
        Ok(())
    }

    fn accept(&self, node: i32, listener: TcpListener) {
        let close = Arc::new(Notify::new());
        let (done, closed) = oneshot::channel();
        self.listeners.lock().insert(node, Listener { close: close.clone(), closed });
        let (broker, versions) = (self.broker.clone(), self.versions.clone());
        let task = async move {
            tokio::select! {
                biased;
                () = close.notified() => {}
                () = accept_all(&broker, node, &listener, &versions) => {}
            }
            drop(listener);
            // Nobody waits unless the node was killed.
            let _ = done.send(());
        };
        self.broker.shared.world.spawn("broker listener", Box::pin(task));
    }
}

async fn accept_all(broker: &Broker, node: i32, listener: &TcpListener, versions: &Mutex<Option<Versions>>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others must close before there is room.
                tracing::warn!(node, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(node, %error, "cannot switch off delays of small answers");
        }
        let (broker, versions, peer) = (broker.clone(), versions.lock().clone(), peer.ip().to_string());
        let world = broker.shared.world.clone();
        let task = async move {
            match versions {
                Some(versions) => broker.serve_versions(node, &peer, versions, stream).await,
                None => broker.serve(node, &peer, stream).await,
            }
        };
        world.spawn("broker connection", Box::pin(task));
    }
}

/// An address that a client can connect to: "everywhere" is none.
fn advertised(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => "localhost".to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    }
}
