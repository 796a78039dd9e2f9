//! Where a scenario runs: the simulator, the bundled broker over TCP, or Apache Kafka.
//!
//! It owns what differs between the three: how a client reaches the cluster, names that are not taken yet, and the
//! trouble that each world can make. It refuses to know any scenario. Invariant: what a scenario draws comes from the
//! run's seed, in every world.

use crate::checks::{History, Log, Logged};
use crate::cluster::{CLIENT_ID, SimulatedCluster, end_without_a_word};
use crate::doors::Door;
use crate::judge::{self, Judge};
use crate::kafka::KafkaCluster;
use crate::random::Random;
use crate::record::RecordId;
use crate::world::Simulation;
use crate::{Failure, fail};
use ottla_broker::TestBroker;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The cluster and what surrounds it. Cheap to clone.
#[derive(Clone)]
pub struct Backend(Arc<Inner>);

struct Inner {
    place: Place,
    judge: Judge,
    bootstrap: String,
    /// How clients come in.
    door: Door,
    seed: u64,
    /// Suffixes that make names unique on a cluster that lives longer than a scenario.
    names: AtomicU32,
}

#[expect(clippy::large_enum_variant, reason = "one a run")]
enum Place {
    Simulator(Simulation, SimulatedCluster),
    /// With the certificates of its doors, if it has any.
    Bundled(TestBroker, PathBuf),
    Kafka(Arc<KafkaCluster>),
}

/// A task of a scenario.
pub struct Task<T>(&'static str, JoinHandle<Option<T>>);

impl<T> Task<T> {
    /// Waits for its result. A panic in it is a failure.
    pub async fn join(self) -> Result<T, Failure> {
        match self.1.await {
            Ok(Some(done)) => Ok(done),
            Ok(None) => fail!("{} panicked", self.0),
            Err(ended) => Err(Failure::from(ended).while_doing(self.0)),
        }
    }
}

impl Backend {
    /// The simulator.
    pub fn simulated(simulation: Simulation, seed: u64) -> Result<Self, Failure> {
        let network = simulation.network.clone();
        let dial: judge::Dial = Arc::new(move |host, port| {
            let opening = network.connect(host, port);
            Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn judge::Stream>) })
        });
        let cluster = SimulatedCluster::start(&simulation)?;
        let bootstrap = cluster.bootstrap();
        let judge = Judge::new(dial, &bootstrap)?;
        Ok(Self::new(Place::Simulator(simulation, cluster), judge, bootstrap, seed))
    }

    /// The bundled broker over TCP.
    pub fn bundled(broker: TestBroker, seed: u64) -> Result<Self, Failure> {
        let bootstrap = broker.bootstrap();
        let judge = Judge::new(judge::tcp(), &bootstrap)?;
        Ok(Self::new(Place::Bundled(broker, PathBuf::new()), judge, bootstrap, seed))
    }

    /// The bundled broker, by one of its doors. The judge comes in by the plain one, which is the first.
    pub fn bundled_behind(
        broker: TestBroker,
        door: Door,
        certificates: &Path,
        seed: u64,
    ) -> Result<Self, Failure> {
        let judge = Judge::new(judge::tcp(), &broker.bootstrap())?;
        let Some(bootstrap) = broker.bootstrap_at(door.listener()) else { fail!("{door} is not there") };
        let (place, names) = (Place::Bundled(broker, certificates.to_path_buf()), AtomicU32::new(0));
        Ok(Backend(Arc::new(Inner { place, judge, bootstrap, door, seed, names })))
    }

    /// Apache Kafka.
    pub fn kafka(cluster: Arc<KafkaCluster>, door: Door, seed: u64) -> Result<Self, Failure> {
        let judge = Judge::new(judge::tcp(), &cluster.bootstrap())?;
        let bootstrap = cluster.bootstrap_at(door);
        let names = AtomicU32::new(0);
        Ok(Backend(Arc::new(Inner { place: Place::Kafka(cluster), judge, bootstrap, door, seed, names })))
    }

    fn new(place: Place, judge: Judge, bootstrap: String, seed: u64) -> Self {
        let (door, names) = (Door::Plaintext, AtomicU32::new(0));
        Backend(Arc::new(Inner { place, judge, bootstrap, door, seed, names }))
    }

    /// Ends the cluster, if it was started for one scenario.
    pub fn stop(&self) {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.stop(),
            Place::Bundled(broker, _) => broker.stop(),
            Place::Kafka(_) => {}
        }
    }

    /// `host:port` of every node, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.0.bootstrap
    }

    /// An independent look at the cluster.
    pub fn judge(&self) -> &Judge {
        &self.0.judge
    }

    /// A client's builder that reaches the cluster.
    pub fn client(&self) -> ottla::ClientBuilder {
        self.client_at(self.bootstrap())
    }

    /// A client's builder in this world that looks for the cluster at another address.
    pub fn client_at(&self, bootstrap: &str) -> ottla::ClientBuilder {
        // A name of our own: the one that the client makes up counts on across runs.
        let builder = ottla::Client::builder().bootstrap(bootstrap).client_id(CLIENT_ID);
        match &self.0.place {
            Place::Simulator(simulation, _) => builder.world(Arc::new(simulation.clone())),
            Place::Bundled(_, certificates) => self.0.door.enter(builder, certificates),
            Place::Kafka(cluster) => self.0.door.enter(builder, &cluster.certificates()),
        }
    }

    /// Creates a topic whose name begins with `name`.
    pub async fn topic(&self, name: &str, partitions: i32) -> Result<String, Failure> {
        self.topic_with(name, partitions, &[]).await
    }

    /// Creates a topic with settings of its own.
    pub async fn topic_with(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<String, Failure> {
        let name = self.unique(name);
        self.judge().create_topic(&name, partitions, configs).await?;
        Ok(name)
    }

    /// A name of a group, whose coordinator may be moved.
    pub fn group(&self, name: &str) -> String {
        let name = self.unique(name);
        if let Place::Simulator(_, cluster) = &self.0.place {
            cluster.know_group(&name);
        }
        name
    }

    /// A name that nobody else uses on this cluster.
    pub fn unique(&self, name: &str) -> String {
        let number = self.0.names.fetch_add(1, Ordering::Relaxed);
        match &self.0.place {
            Place::Simulator(..) => format!("{name}-{number}"),
            Place::Bundled(..) | Place::Kafka(_) => format!("{name}-{}-{number}", self.0.seed),
        }
    }

    /// What the log of a topic holds now, for records that were written as [`RecordId`] says.
    pub async fn log(&self, topic: &str) -> Result<Log, Failure> {
        let mut log = Log::new();
        for (partition, records) in self.judge().read(topic).await? {
            let mut logged = Vec::new();
            for record in records {
                let value = record.value.unwrap_or_default();
                let Some(id) = RecordId::parse(&value) else {
                    fail!("corrupt (S2): {topic} {partition}:{} is no record of ours", record.offset);
                };
                let intact = id.is_intact(record.key.as_deref(), &value);
                logged.push(Logged { offset: record.offset, id, intact, source: record.source });
            }
            log.insert(partition, logged);
        }
        Ok(log)
    }

    /// The random stream of a purpose in this run.
    pub fn random(&self, purpose: &str) -> Random {
        Random::new(self.0.seed, purpose)
    }

    /// More records where they cost real time only, fewer where each run counts.
    pub fn scale(&self, simulated: u32) -> u32 {
        match &self.0.place {
            Place::Simulator(..) => simulated,
            Place::Bundled(..) | Place::Kafka(_) => simulated * 4,
        }
    }

    /// Whether the brokers tell topics apart that have the same name, one after the other.
    pub fn knows_topic_ids(&self) -> bool {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.knows_topic_ids(),
            Place::Bundled(..) | Place::Kafka(_) => true,
        }
    }

    /// Whether the cluster has the groups of KIP-848 beside the classic ones.
    pub fn has_modern_groups(&self) -> bool {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.has_modern_groups(),
            Place::Bundled(..) => true,
            Place::Kafka(cluster) => cluster.has_modern_groups(),
        }
    }

    /// Whether the members of a group may leave the matching of a pattern to the broker (KIP-848).
    pub fn matches_patterns(&self) -> bool {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.matches_patterns(),
            Place::Bundled(..) | Place::Kafka(_) => self.has_modern_groups(),
        }
    }

    /// Whether the brokers send readers to the replica in their rack (KIP-392).
    pub fn reads_from_followers(&self) -> bool {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.reads_from_followers(),
            Place::Bundled(..) | Place::Kafka(_) => true,
        }
    }

    /// Whether the brokers tell a reader that the log was cut in front of it (KIP-320).
    pub fn tells_truncation(&self) -> bool {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.tells_truncation(),
            Place::Bundled(..) | Place::Kafka(_) => true,
        }
    }

    /// Ends a node as if its process died.
    pub async fn kill(&self, node: i32) -> Result<(), Failure> {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.kill(node),
            Place::Bundled(broker, _) => broker.kill_node(node).await,
            Place::Kafka(cluster) => cluster.kill(u16::try_from(node)?)?,
        }
        Ok(())
    }

    /// Starts a node that was killed.
    pub async fn start_again(&self, node: i32) -> Result<(), Failure> {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.start_again(node),
            Place::Bundled(broker, _) => broker.restart_node(node).await?,
            Place::Kafka(cluster) => cluster.restart(u16::try_from(node)?).await?,
        }
        Ok(())
    }

    /// Starts a task.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        match &self.0.place {
            Place::Simulator(simulation, _) => Task(name, simulation.spawn(name, task)),
            Place::Bundled(..) | Place::Kafka(_) => Task(name, tokio::spawn(async { Some(task.await) })),
        }
    }

    /// Watches for somebody who sleeps although there is something to do, where time can be watched.
    pub fn watch(&self, probe: crate::world::Probe) {
        if let Place::Simulator(simulation, _) = &self.0.place {
            simulation.probe(probe);
        }
    }

    /// Tells a history whatever a group commits, until it is ended. The simulator misses nothing; elsewhere it looks often, and
    /// reads in the end in which order the commits were taken, where they are kept in a log.
    pub fn watch_commits(&self, group: &str, topic: &str, history: &Arc<History>) -> CommitWatch {
        let over = Arc::new(AtomicBool::new(false));
        if let Place::Simulator(_, cluster) = &self.0.place {
            cluster.watch_commits(group, topic, history);
            return CommitWatch { over, task: None };
        }
        let (backend, until, history) = (self.clone(), over.clone(), history.clone());
        let (group, topic) = (group.to_string(), topic.to_string());
        let task = self.spawn("watch commits", async move {
            while !until.load(Ordering::Relaxed) {
                backend.look_at_commits(&group, &topic, &history).await?;
                sleep(Duration::from_millis(150)).await;
            }
            if let Place::Kafka(_) = &backend.0.place {
                for (partition, offset) in backend.judge().commits(&group, &topic).await? {
                    history.committed_next(partition, offset);
                }
            }
            Ok(())
        });
        CommitWatch { over, task: Some(task) }
    }

    /// Tells the history what a group has committed now.
    pub async fn look_at_commits(&self, group: &str, topic: &str, history: &History) -> Result<(), Failure> {
        for (partition, offset) in self.judge().committed(group, topic).await? {
            self.tell(format_args!("{group} committed {partition}:{offset}"));
            match &self.0.place {
                // Leaders move: it may be one of yesterday that answers.
                Place::Kafka(_) => history.glimpsed(partition, offset),
                Place::Simulator(..) | Place::Bundled(..) => history.committed(partition, offset),
            }
        }
        Ok(())
    }

    /// Starts a protocol of transactions, 1 or 2, where a cluster can do without its operators.
    pub fn set_transaction_version(&self, level: i16) -> Result<(), Failure> {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.set_transaction_version(level),
            Place::Bundled(broker, _) => {
                broker.set_transaction_version(level).map_err(|code| Failure::new(format!("{code}")))
            }
            Place::Kafka(_) => Ok(()),
        }
    }

    /// Lets the coordinator answer the next end of a transaction with an error that says nothing, where it can be told to:
    /// it has done it, or not.
    pub fn end_without_a_word(&self, done: bool) {
        match &self.0.place {
            Place::Simulator(_, cluster) => cluster.end_without_a_word(done),
            Place::Bundled(broker, _) => {
                broker.fault(end_without_a_word(done));
            }
            Place::Kafka(_) => {}
        }
    }

    /// Something that a user did or saw: part of the trace, where there is one.
    pub fn tell(&self, what: fmt::Arguments<'_>) {
        if let Place::Simulator(simulation, _) = &self.0.place {
            simulation.trace.tell(what);
        }
    }

    /// Makes the trouble that this world can make, on the nodes and on the partitions of a topic, until it is ended.
    pub fn trouble(&self, topic: &str) -> Trouble {
        self.trouble_of(topic, false)
    }

    /// Makes trouble between the nodes: those that die, freeze, are cut off or fall behind. On Apache Kafka, they die.
    pub fn trouble_of_replicas(&self, topic: &str) -> Trouble {
        self.trouble_of(topic, true)
    }

    fn trouble_of(&self, topic: &str, between_nodes: bool) -> Trouble {
        let over = Arc::new(AtomicBool::new(false));
        let (backend, topic, until) = (self.clone(), topic.to_string(), over.clone());
        let task = self.spawn("trouble", async move {
            let mut random = backend.random("trouble");
            while !until.load(Ordering::Relaxed) {
                match between_nodes {
                    true => backend.disturb_replicas(&topic, &mut random).await?,
                    false => backend.disturb(&topic, &mut random).await?,
                }
            }
            Ok(())
        });
        Trouble { backend: self.clone(), over, task: Some(task) }
    }

    /// One disturbance between nodes, with the wait in front of it.
    async fn disturb_replicas(&self, topic: &str, random: &mut Random) -> Result<(), Failure> {
        match &self.0.place {
            Place::Simulator(_, cluster) => {
                sleep(Duration::from_millis(random.below(300))).await;
                cluster.disturb_replicas(topic, random).await;
            }
            Place::Bundled(broker, _) => {
                sleep(Duration::from_millis(10 + random.below(100))).await;
                let node = 1 + i32::try_from(random.below(3))?;
                match random.below(4) {
                    0 => {
                        broker.kill_node(node).await;
                        sleep(Duration::from_millis(random.below(300))).await;
                        broker.restart_node(node).await?;
                    }
                    1 => {
                        broker.isolate(node);
                        sleep(Duration::from_millis(random.below(300))).await;
                        broker.heal();
                    }
                    2 => broker.slow_replicas(node, Duration::from_millis(random.below(20))),
                    // The node may be the leader already, or out of sync.
                    _ => _ = broker.move_leader(topic, 0, node),
                }
            }
            Place::Kafka(_) => self.disturb(topic, random).await?,
        }
        Ok(())
    }

    /// One disturbance, with the wait in front of it.
    async fn disturb(&self, topic: &str, random: &mut Random) -> Result<(), Failure> {
        match &self.0.place {
            Place::Simulator(_, cluster) => {
                sleep(Duration::from_millis(100 + random.below(1_000))).await;
                cluster.disturb(topic, random).await;
            }
            Place::Bundled(broker, _) => {
                sleep(Duration::from_millis(10 + random.below(100))).await;
                let node = 1 + i32::try_from(random.below(3))?;
                let partitions = (0..).take_while(|index| broker.leader(topic, *index).is_some()).count();
                let partition = i32::try_from(random.below(partitions as u64))?;
                // The node may be the leader already.
                let _ = broker.move_leader(topic, partition, node);
                if random.percent(10) {
                    broker.kill_node(node).await;
                    sleep(Duration::from_millis(random.below(500))).await;
                    broker.restart_node(node).await?;
                }
            }
            Place::Kafka(cluster) => {
                sleep(Duration::from_millis(500 + random.below(1_000))).await;
                if cluster.nodes() >= 3 {
                    let node = 1 + u16::try_from(random.below(u64::from(cluster.nodes())))?;
                    cluster.kill(node)?;
                    sleep(Duration::from_millis(random.below(2_000))).await;
                    cluster.restart(node).await?;
                    self.judge().wait_for_nodes(usize::from(cluster.nodes())).await?;
                }
            }
        }
        Ok(())
    }
}

/// Looks at commits until it is ended.
pub struct CommitWatch {
    over: Arc<AtomicBool>,
    task: Option<Task<Result<(), Failure>>>,
}

impl CommitWatch {
    /// Looks no more.
    pub async fn end(mut self) -> Result<(), Failure> {
        self.over.store(true, Ordering::Relaxed);
        match self.task.take() {
            Some(task) => task.join().await?,
            None => Ok(()),
        }
    }
}

impl Drop for CommitWatch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Trouble that goes on until it is ended.
#[must_use = "trouble goes on until it is ended"]
pub struct Trouble {
    backend: Backend,
    over: Arc<AtomicBool>,
    task: Option<Task<Result<(), Failure>>>,
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Trouble {
    /// Makes no more of it and waits until the cluster is whole again.
    pub async fn end(mut self) -> Result<(), Failure> {
        self.over.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            task.join().await??;
        }
        match &self.backend.0.place {
            Place::Simulator(_, cluster) => cluster.heal(),
            Place::Bundled(broker, _) => broker.heal(),
            Place::Kafka(_) => {}
        }
        Ok(())
    }
}
