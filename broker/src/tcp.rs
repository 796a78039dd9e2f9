//! The broker on TCP: a listener a node, on the loopback address unless told otherwise.

use crate::broker::Broker;
use crate::builder::{Builder, StartError};
use crate::security::Listener;
use crate::security::session::Entry;
use crate::server;
use ottla_protocol::api::Versions;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
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
    /// Each node listens at each of these.
    doors: Vec<Arc<Listener>>,
    addresses: BTreeMap<Place, SocketAddr>,
    open: Mutex<BTreeMap<Place, Open>>,
    versions: Arc<Mutex<Option<Versions>>>,
}

/// A node, and which of the listeners.
type Place = (i32, usize);

#[derive(Debug)]
struct Open {
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

    pub(crate) async fn listen(mut builder: Builder) -> Result<Self, StartError> {
        let doors: Vec<Arc<Listener>> = builder.listeners()?.into_iter().map(Arc::new).collect();
        let mut bound = Vec::new();
        let mut addresses = BTreeMap::new();
        for (id, index) in (1..).zip(0..builder.node_count().min(100)) {
            for (door, first) in doors.iter().map(|door| door.address).enumerate() {
                let address = SocketAddr::new(first.ip(), following(first.port(), index));
                let listening = async {
                    let listener = TcpListener::bind(address).await?;
                    let address = listener.local_addr()?;
                    Ok((listener, address))
                };
                let (listener, address) =
                    listening.await.map_err(|source: io::Error| StartError::Listen { address, source })?;
                builder = builder.advertise_at(id, door, advertised(address), address.port());
                addresses.insert((id, door), address);
                bound.push(((id, door), listener));
            }
        }
        let broker = builder.build()?;
        let (open, versions) = (Mutex::default(), Arc::default());
        let started = Self { broker, doors, addresses, open, versions };
        for (place, listener) in bound {
            started.accept(place, listener);
        }
        Ok(started)
    }

    /// The addresses of the nodes, `127.0.0.1:4711,127.0.0.1:4712`: what clients call `bootstrap.servers`. Of several
    /// listeners, those of the first.
    pub fn bootstrap(&self) -> String {
        self.bootstrap_of(0)
    }

    /// The addresses of the nodes at the listener of this name, as the setting `listeners` has it.
    pub fn bootstrap_at(&self, listener: &str) -> Option<String> {
        let door = self.doors.iter().position(|door| door.name == listener)?;
        Some(self.bootstrap_of(door))
    }

    fn bootstrap_of(&self, door: usize) -> String {
        let addresses = self.addresses.iter().filter(|((_, it), _)| *it == door);
        let addresses = addresses.map(|(_, it)| format!("{}:{}", advertised(*it), it.port()));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Where a node listens. Of several listeners, the first.
    pub fn address(&self, node: i32) -> Option<SocketAddr> {
        self.addresses.get(&(node, 0)).copied()
    }

    /// Shows connections that open from now on only these versions of the APIs, as an older broker would.
    pub fn limit_versions(&self, versions: Versions) {
        *self.versions.lock() = Some(versions);
    }

    /// Closes every listener and connection.
    pub fn stop(&self) {
        self.broker.stop();
        self.open.lock().values().for_each(|listener| listener.close.notify_one());
    }

    /// Kills a node: its ports close, its connections break, other nodes take over what it led. Returns when the ports are
    /// closed.
    pub async fn kill_node(&self, node: i32) {
        let mut closing = Vec::new();
        for door in 0..self.doors.len() {
            closing.extend(self.open.lock().remove(&(node, door)));
        }
        self.broker.stop_node(node);
        for listener in closing {
            listener.close.notify_one();
            // An error means that the task is gone, and the listener with it.
            let _ = listener.closed.await;
        }
    }

    /// Starts a node again that was killed, on the same ports.
    ///
    /// # Errors
    /// A port was taken meanwhile.
    pub async fn restart_node(&self, node: i32) -> io::Result<()> {
        if self.address(node).is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no node {node}")));
        }
        if self.open.lock().contains_key(&(node, 0)) {
            return Ok(());
        }
        let mut bound = Vec::new();
        for (place, address) in self.addresses.range((node, 0)..=(node, usize::MAX)) {
            bound.push((*place, TcpListener::bind(address).await?));
        }
        self.broker.start_node(node);
        bound.into_iter().for_each(|(place, listener)| self.accept(place, listener));
        Ok(())
    }

    fn accept(&self, place: Place, listener: TcpListener) {
        let close = Arc::new(Notify::new());
        let (done, closed) = oneshot::channel();
        self.open.lock().insert(place, Open { close: close.clone(), closed });
        let (broker, versions) = (self.broker.clone(), self.versions.clone());
        let door = self.doors[place.1].clone();
        let task = async move {
            tokio::select! {
                biased;
                () = close.notified() => {}
                () = accept_all(&broker, place, &door, &listener, &versions) => {}
            }
            drop(listener);
            // Nobody waits unless the node was killed.
            let _ = done.send(());
        };
        self.broker.shared.world.spawn("broker listener", Box::pin(task));
    }
}

/// The port of the node with this index; zero is any.
fn following(first: u16, index: usize) -> u16 {
    match (first, u16::try_from(index)) {
        (0, _) => 0,
        (port, Ok(index)) => port.saturating_add(index),
        (port, Err(_)) => port,
    }
}

async fn accept_all(
    broker: &Broker,
    place: Place,
    door: &Arc<Listener>,
    listener: &TcpListener,
    versions: &Mutex<Option<Versions>>,
) {
    let node = place.0;
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
        let door = door.clone();
        let task = async move { serve(&broker, place, &door, versions, peer, stream).await };
        world.spawn("broker connection", Box::pin(task));
    }
}

/// Serves a connection that came in by a door.
async fn serve(
    broker: &Broker,
    (node, index): Place,
    door: &Listener,
    versions: Option<Versions>,
    peer: String,
    stream: TcpStream,
) {
    let entry = Entry { listener: index, principal: None, sasl: door.sasl.clone() };
    let shared = broker.shared.clone();
    #[cfg(feature = "tls")]
    if let Some(tls) = &door.tls {
        // A node that is killed meanwhile closes the connection as soon as it is one.
        match tls.accept(stream).await {
            Ok((stream, principal)) => {
                let entry = Entry { principal, ..entry };
                server::serve(shared, node, peer, versions, entry, stream).await;
            }
            Err(error) => tracing::debug!(node, peer, %error, "no handshake of TLS"),
        }
        return;
    }
    server::serve(shared, node, peer, versions, entry, stream).await;
}

/// An address that a client can connect to: "everywhere" is none.
fn advertised(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => "localhost".to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    }
}
