//! How a broker is put together: nodes, topics, settings.

use crate::broker::Broker;
use crate::core::log::storage::{InMemory, Storages};
use crate::core::settings::{Honoured, SettingError, Settings};
use crate::core::topics::is_legal_name;
use crate::core::users::{Credential, Hash};
use crate::core::{Cluster, Node, Now, group, transactions};
use crate::disk::Directory;
use crate::security::{self, Listener};
use crate::tcp::TestBroker;
use crate::world::{RealWorld, World};
use ottla_protocol::wire::Str;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting was refused.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A topic cannot be created as asked.
    #[error("topic {name:?}: {reason}")]
    Topic {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no such level of the feature `transaction.version`.
    #[error("transaction.version {0}: there are 0 to {max}", max = transactions::VERSION_MAX)]
    TransactionVersion(i16),
    /// There is no such level of the feature `group.version`.
    #[error("group.version {0}: there are 0 to {max}", max = group::VERSION_MAX)]
    GroupVersion(i16),
    /// The directory for the data cannot be used; another process that has it is one reason.
    #[error("cannot use {}: {source}", directory.display())]
    Data {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There must be at least one node, and not more than 100.
    #[error("{0} nodes: there must be 1 to 100")]
    Nodes(usize),
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// Puts a broker together. Made by [`Broker::builder`] and [`TestBroker::builder`].
///
/// Nodes are numbered from 1. Topics have as many replicas as there are nodes, at most three, unless
/// `default.replication.factor` says otherwise.
#[must_use = "a builder does nothing until it builds"]
#[derive(Clone)]
pub struct Builder {
    nodes: usize,
    address: SocketAddr,
    /// By node and listener, host and port.
    hosts: Vec<((i32, usize), String, u16)>,
    users: Vec<(String, String)>,
    racks: Vec<(i32, String)>,
    topics: Vec<(String, i32)>,
    settings: Vec<(String, String)>,
    transaction_version: i16,
    group_version: i16,
    data: Option<PathBuf>,
    world: Arc<dyn World>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("nodes", &self.nodes)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            nodes: 1,
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            hosts: Vec::new(),
            users: Vec::new(),
            racks: Vec::new(),
            topics: Vec::new(),
            settings: Vec::new(),
            transaction_version: transactions::VERSION_MAX,
            group_version: group::VERSION_MAX,
            data: None,
            world: Arc::new(RealWorld),
        }
    }
}

impl Broker {
    /// A broker of one node, to be changed before it is built.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// How many nodes there are, 1 by default.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// A topic that is there from the start.
    pub fn topic(mut self, name: impl Into<String>, partitions: i32) -> Self {
        self.topics.push((name.into(), partitions));
        self
    }

    /// A setting by Kafka's name.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Settings by Kafka's names, one `name=value` a line, as in `server.properties`. Lines that are empty or begin with `#` or
    /// `!` do not count. Which names there are is checked when the broker is built.
    ///
    /// # Errors
    /// A line without a name.
    pub fn properties(mut self, text: &str) -> Result<Self, SettingError> {
        for line in
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
        {
            let (name, value) = line.split_once(['=', ':']).unwrap_or((line, ""));
            if name.trim().is_empty() {
                let expected = "a line is NAME=VALUE".to_string();
                return Err(SettingError::Value { name: String::new(), value: line.to_string(), expected });
            }
            self = self.setting(name.trim(), value.trim());
        }
        Ok(self)
    }

    /// The finalized level of the feature `transaction.version`: 1 for transactions that keep their epoch, as before Apache
    /// Kafka 4.0; 2, the default, for those of KIP-890. [`Broker::set_transaction_version`] changes it later.
    pub fn transaction_version(mut self, level: i16) -> Self {
        self.transaction_version = level;
        self
    }

    /// The finalized level of the feature `group.version`: 0 for a cluster that has classic groups only, as before Apache
    /// Kafka 4.0; 1, the default, for consumer groups too (KIP-848). [`Broker::set_group_version`] changes it later.
    pub fn group_version(mut self, level: i16) -> Self {
        self.group_version = level;
        self
    }

    /// The rack that a node is in.
    pub fn rack(mut self, node: i32, rack: impl Into<String>) -> Self {
        self.racks.push((node, rack.into()));
        self
    }

    /// What clients are told to connect to for a node. Without TCP, hosts are `node-1` and so on, with port 9092.
    pub fn advertise(self, node: i32, host: impl Into<String>, port: u16) -> Self {
        self.advertise_at(node, 0, host.into(), port)
    }

    pub(crate) fn advertise_at(mut self, node: i32, listener: usize, host: String, port: u16) -> Self {
        self.hosts.push(((node, listener), host, port));
        self
    }

    /// A user who can log in from the start, by PLAIN and by SCRAM, wherever a listener has them in
    /// `sasl.enabled.mechanisms`. Others come by AlterUserScramCredentials, or by `sasl.jaas.config` as in Kafka.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broker = ottla_broker::TestBroker::builder()
    ///     .setting("listeners", "SASL_PLAINTEXT://127.0.0.1:0")
    ///     .setting("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256")
    ///     .user("alice", "alice-secret")
    ///     .start()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// Where the first node listens on TCP; the others take the ports that follow. By default a free port of the loopback
    /// address for each. The setting `listeners`, when it is there, says so instead.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Keeps everything in this directory, which is made if it is not there, instead of in memory; what an earlier broker
    /// left there is taken up: topics and their records, committed offsets, transactions. Members of groups join again.
    ///
    /// What was acknowledged survives the death of the process. It survives the loss of power once it was flushed, which
    /// `flush.messages` and `flush.ms` ask for, as in Kafka. All nodes share the directory, and one process has it at a time.
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data = Some(directory.into());
        self
    }

    /// Tasks, clock and randomness from elsewhere: for simulation.
    pub fn world(mut self, world: Arc<dyn World>) -> Self {
        self.world = world;
        self
    }

    /// Settings of these that are accepted and change nothing.
    ///
    /// # Errors
    /// The first setting that is refused.
    pub fn without_effect(&self) -> Result<Vec<&str>, SettingError> {
        let mut settings = Settings::default();
        let mut names = Vec::new();
        for (name, value) in &self.settings {
            if settings.set(name, value)? == Honoured::WithoutEffect {
                names.push(&**name);
            }
        }
        Ok(names)
    }

    /// Builds a broker without sockets. Within a tokio runtime, because its clock is a task.
    ///
    /// # Errors
    /// A setting that is refused, a topic that cannot be, or a directory that cannot be used.
    pub fn build(self) -> Result<Broker, StartError> {
        let mut settings = Settings::default();
        for (name, value) in &self.settings {
            settings.set(name, value)?;
        }
        if !(1..=100).contains(&self.nodes) {
            return Err(StartError::Nodes(self.nodes));
        }
        let storages: Box<dyn Storages> = match &self.data {
            None => Box::new(InMemory),
            Some(directory) => Box::new(Directory::open(directory).map_err(|it| self.unusable(it))?),
        };
        let mut cluster = Cluster::new(settings, self.world.random(), storages);
        let level = self.transaction_version;
        cluster.set_transaction_version(level).map_err(|_| StartError::TransactionVersion(level))?;
        let level = self.group_version;
        cluster.set_group_version(level).map_err(|_| StartError::GroupVersion(level))?;
        for id in (1..).take(self.nodes) {
            let endpoints = self.endpoints(id);
            let rack =
                self.racks.iter().rev().find(|(node, _)| *node == id).map(|(_, rack)| Str::from(&**rack));
            let node = Node::new(endpoints, rack);
            cluster.nodes.insert(id, node);
        }
        let now = Now { at: tokio::time::Instant::now().into_std(), wall_ms: self.world.wall_ms() };
        cluster.recover(now).map_err(|error| self.unusable(error))?;
        for (name, password) in &self.users {
            add_user(&mut cluster, name, password, &*self.world);
        }
        let there: Vec<String> = cluster.topics.iter().map(|topic| topic.name.to_string()).collect();
        for (name, partitions) in &self.topics {
            if !there.contains(name) {
                create_topic(&mut cluster, now, name, *partitions)?;
            }
        }
        Ok(Broker::new(cluster, self.world))
    }

    /// Where a node is found by those who come in by each listener.
    fn endpoints(&self, node: i32) -> Vec<(Str, i32)> {
        let found = |place| {
            let advertised = self.hosts.iter().rev().find(|(here, ..)| *here == place);
            advertised.map(|(_, host, port)| (Str::from(&**host), i32::from(*port)))
        };
        let first = found((node, 0)).unwrap_or_else(|| (Str::from(format!("node-{node}")), 9092));
        let others = (1..).map_while(|listener| found((node, listener)));
        std::iter::once(first).chain(others).collect()
    }

    /// The doors of each node.
    pub(crate) fn listeners(&self) -> Result<Vec<Listener>, SettingError> {
        let mut settings = Settings::default();
        for (name, value) in &self.settings {
            settings.set(name, value)?;
        }
        security::listeners(&settings.given, self.address, &self.users)
    }

    fn unusable(&self, source: io::Error) -> StartError {
        StartError::Data { directory: self.data.clone().unwrap_or_default(), source }
    }

    /// Builds a broker and listens on TCP, one port a node.
    ///
    /// # Errors
    /// As [`Builder::build`], or an address that cannot be listened on.
    pub async fn start(self) -> Result<TestBroker, StartError> {
        TestBroker::listen(self).await
    }

    pub(crate) fn node_count(&self) -> usize {
        self.nodes
    }
}

/// Gives a user a password, unless he has one that an earlier broker has kept.
fn add_user(cluster: &mut Cluster, name: &str, password: &str, world: &dyn World) {
    for hash in Hash::ALL {
        let salt = [world.random().to_be_bytes(), world.random().to_be_bytes()].concat();
        if cluster.users.get(name, hash).is_none() {
            cluster.users.insert(name, hash, Credential::of_password(hash, password.as_bytes(), salt));
        }
    }
}

fn create_topic(cluster: &mut Cluster, now: Now, name: &str, partitions: i32) -> Result<(), StartError> {
    let refuse = |reason| Err(StartError::Topic { name: name.to_string(), reason });
    if !is_legal_name(name) {
        return refuse("a name is 1 to 249 letters, digits, dots, hyphens and underscores");
    }
    if cluster.topics.get(name).is_some() {
        return refuse("it is named twice");
    }
    if !(1..=crate::core::settings::PARTITIONS_MAX).contains(&partitions) {
        return refuse("a topic has 1 to 10000 partitions");
    }
    let replicas = cluster.replication_factor(cluster.settings.replication_factor);
    let assignment = cluster.assign(partitions, replicas);
    let settings = cluster.plain_settings();
    match cluster.create_topic(now, Str::from(name), assignment, settings) {
        Ok(_) => Ok(()),
        Err(_) => refuse("it cannot be written"),
    }
}
