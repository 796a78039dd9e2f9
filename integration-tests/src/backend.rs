//! Where a scenario runs: the simulator, the bundled broker over TCP, or Apache Kafka.
//!
//! It owns what differs between the three: how a client reaches the cluster, names that are not taken yet, and the
//! trouble that each world can make. It refuses to know any scenario. Invariant: what a scenario draws comes from the
//! run's seed, in every world.

use crate::checks::{Log, Logged};
use crate::judge::{self, Judge};
use crate::kafka::KafkaCluster;
use crate::random::Random;
use crate::record::RecordId;
use crate::world::Simulation;
use crate::{Failure, fail};
use std::fmt;
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
    seed: u64,
    /// Suffixes that make names unique on a cluster that lives longer than a scenario.
    names: AtomicU32,
}

enum Place {
    Simulator(Simulation),
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
    pub async fn simulated(simulation: Simulation, seed: u64) -> Result<Self, Failure> {
        let network = simulation.network.clone();
        let dial: judge::Dial = Arc::new(move |host, port| {
            let opening = network.connect(host, port);
            Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn judge::Stream>) })
        });
        let bootstrap = "node-1:9092,node-2:9092,node-3:9092".to_string();
        let judge = Judge::new(dial, &bootstrap)?;
        Ok(Self::new(Place::Simulator(simulation), judge, bootstrap, seed))
    }

    /// Ends what the backend started.
    pub async fn stop(&self) {}

    /// Apache Kafka.
    pub fn kafka(cluster: Arc<KafkaCluster>, seed: u64) -> Result<Self, Failure> {
        let bootstrap = cluster.bootstrap();
        let judge = Judge::new(judge::tcp(), &bootstrap)?;
        Ok(Self::new(Place::Kafka(cluster), judge, bootstrap, seed))
    }

    fn new(place: Place, judge: Judge, bootstrap: String, seed: u64) -> Self {
        Backend(Arc::new(Inner { place, judge, bootstrap, seed, names: AtomicU32::new(0) }))
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
        let builder = ottla::Client::builder().bootstrap(bootstrap).client_id("scenario");
        match &self.0.place {
            Place::Simulator(simulation) => builder.world(Arc::new(simulation.clone())),
            Place::Kafka(_) => builder,
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

    /// A name that nobody else uses on this cluster.
    pub fn unique(&self, name: &str) -> String {
        let number = self.0.names.fetch_add(1, Ordering::Relaxed);
        match &self.0.place {
            Place::Simulator(_) => format!("{name}-{number}"),
            Place::Kafka(_) => format!("{name}-{}-{number}", self.0.seed),
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
                logged.push(Logged { offset: record.offset, id, intact });
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
            Place::Simulator(_) => simulated,
            Place::Kafka(_) => simulated * 4,
        }
    }

    /// Starts a task.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        match &self.0.place {
            Place::Simulator(simulation) => Task(name, simulation.spawn(name, task)),
            Place::Kafka(_) => Task(name, tokio::spawn(async { Some(task.await) })),
        }
    }

    /// Watches for somebody who sleeps although there is something to do, where time can be watched.
    pub fn watch(&self, probe: crate::world::Probe) {
        if let Place::Simulator(simulation) = &self.0.place {
            simulation.probe(probe);
        }
    }

    /// Something that a user did or saw: part of the trace, where there is one.
    pub fn tell(&self, what: fmt::Arguments<'_>) {
        if let Place::Simulator(simulation) = &self.0.place {
            simulation.trace.tell(what);
        }
    }

    /// Makes the trouble that this world can make, on the nodes and on the partitions of a topic, until it is ended.
    pub fn trouble(&self, topic: &str) -> Trouble {
        let over = Arc::new(AtomicBool::new(false));
        let (backend, topic, until) = (self.clone(), topic.to_string(), over.clone());
        let task = self.spawn("trouble", async move {
            let mut random = backend.random("trouble");
            while !until.load(Ordering::Relaxed) {
                backend.disturb(&topic, &mut random).await?;
            }
            Ok(())
        });
        Trouble { over, task: Some(task) }
    }

    /// One disturbance, with the wait in front of it.
    async fn disturb(&self, topic: &str, random: &mut Random) -> Result<(), Failure> {
        match &self.0.place {
            Place::Simulator(_) => {
                let _ = topic;
                sleep(Duration::from_millis(100 + random.below(1_500))).await;
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

/// Trouble that goes on until it is ended.
#[must_use = "trouble goes on until it is ended"]
pub struct Trouble {
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
        match self.task.take() {
            Some(task) => task.join().await?,
            None => Ok(()),
        }
    }
}
