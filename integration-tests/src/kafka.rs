//! Apache Kafka nodes (KRaft, broker and controller in one) as child processes on free loopback ports.
//!
//! Owns the jars (by Maven, once per version, in the user's cache), the settings, the processes and their data. It knows
//! nothing of what runs on the cluster. Invariant: whatever ends this process, even SIGKILL, ends the nodes and removes
//! their data, because one watchdog waits for the end of a pipe that only this process holds open.

use crate::doors::{self, Door, PLAINTEXT};
use crate::judge::{self, Judge};
use crate::{Failure, ensure, fail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Sixteen bytes in url-safe base64: any will do, but every node must have the same.
const CLUSTER_ID: &str = "b3R0bGEtb24ta2Fma2EhIQ";
/// The listener of the nodes' controllers.
const CONTROLLER: &str = "CONTROLLER";
/// The folder with the certificates, below that of the cluster.
const CERTIFICATES: &str = "certificates";
const START_LIMIT: Duration = Duration::from_secs(90);

/// Reads until the pipe closes, then ends each node's process group and removes everything.
const WATCHDOG: &str =
    r#"read -r _; for f in "$0"/*.pid; do kill -9 "-$(cat "$f")"; done 2>/dev/null; rm -rf "$0""#;

/// What to start.
pub struct Settings {
    /// A version of Apache Kafka that Maven Central has.
    pub version: String,
    /// How many nodes, numbered from 1. Topics are replicated to three of them at most.
    pub nodes: u16,
    /// Whether there are listeners with TLS.
    pub tls: bool,
    /// Whether there are listeners with logins.
    pub sasl: bool,
    /// Whether an authorizer lets only the users of the doors do anything.
    pub acl: bool,
    /// Further settings of every node, by Kafka's names.
    pub extra: Vec<(String, String)>,
}

type Ports = BTreeMap<&'static str, Vec<u16>>;

/// A running cluster. Dropping it ends every node and deletes the data.
pub struct KafkaCluster {
    directory: PathBuf,
    version: String,
    classpath: String,
    /// By listener, a port for each node.
    ports: Ports,
    doors: Vec<Door>,
    nodes: Mutex<Vec<Option<Child>>>,
    watchdog: Child,
}

impl KafkaCluster {
    /// Formats and starts the nodes and waits until each is a member of the cluster.
    pub async fn start(settings: &Settings) -> Result<Self, Failure> {
        ensure!((1..=9).contains(&settings.nodes), "--nodes must be from 1 to 9");
        let classpath = format!("{}/*", jars(&settings.version)?.display());
        let directory = std::env::temp_dir().join(format!("ottla-kafka-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG])
            .arg(&directory)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let doors = Door::all(settings.tls, settings.sasl);
        if !doors.is_empty() {
            doors::issue(&directory.join(CERTIFICATES))?;
        }
        let ports = free_ports(settings.nodes, &doors)?;
        let count = usize::from(settings.nodes);
        let nodes = Mutex::new((0..count).map(|_| None).collect());
        let version = settings.version.clone();
        let cluster = KafkaCluster { directory, version, classpath, ports, doors, nodes, watchdog };
        cluster.format(settings)?;
        for node in 1..=settings.nodes {
            cluster.launch(node)?;
        }
        for node in 1..=settings.nodes {
            cluster.wait_open(node).await?;
        }
        let judge = Judge::new(judge::tcp(), &cluster.bootstrap())?;
        judge.wait_for_nodes(count).await?;
        Ok(cluster)
    }

    /// `host:port` of every node, separated by commas.
    pub fn bootstrap(&self) -> String {
        self.bootstrap_at(Door::Plaintext)
    }

    /// The same for those who come in by a door.
    pub fn bootstrap_at(&self, door: Door) -> String {
        let ports = self.ports.get(door.listener()).into_iter().flatten();
        ports.map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// The doors besides the plain one.
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// Where the certificates are, if there are any.
    pub fn certificates(&self) -> PathBuf {
        self.directory.join(CERTIFICATES)
    }

    /// Whether a new cluster of this version has the groups of KIP-848 switched on.
    pub fn has_modern_groups(&self) -> bool {
        self.version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .is_some_and(|major: u32| major >= 4)
    }

    /// How many nodes were started.
    pub fn nodes(&self) -> u16 {
        u16::try_from(self.ports[PLAINTEXT].len()).unwrap_or(u16::MAX)
    }

    /// SIGKILL: the node loses what it had not written and says goodbye to nobody.
    pub fn kill(&self, node: u16) -> Result<(), Failure> {
        let taken = self.nodes.lock().expect("never poisoned: no panic while it is held")[slot(node)].take();
        let Some(mut process) = taken else { fail!("node {node} is not running") };
        process.kill()?;
        process.wait()?;
        fs::remove_file(self.directory.join(format!("node-{node}.pid")))?;
        Ok(())
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self, node: u16) -> Result<(), Failure> {
        self.signal(node, "STOP")
    }

    /// SIGCONT, after [`pause`](Self::pause).
    pub fn resume(&self, node: u16) -> Result<(), Failure> {
        self.signal(node, "CONT")
    }

    /// Starts a killed node again, with the data it had, and waits until it accepts connections.
    pub async fn restart(&self, node: u16) -> Result<(), Failure> {
        self.launch(node)?;
        self.wait_open(node).await
    }

    fn signal(&self, node: u16, name: &str) -> Result<(), Failure> {
        let nodes = self.nodes.lock().expect("never poisoned: no panic while it is held");
        let Some(process) = &nodes[slot(node)] else { fail!("node {node} is not running") };
        let signal = Command::new("sh")
            .args(["-c", r#"kill "-$0" "$1""#, name, &process.id().to_string()])
            .status()?;
        ensure!(signal.success(), "SIG{name} to node {node}: {signal}");
        Ok(())
    }

    fn format(&self, settings: &Settings) -> Result<(), Failure> {
        let mut running = Vec::new();
        for node in 1..=settings.nodes {
            let file = self.directory.join(format!("node-{node}.properties"));
            fs::write(&file, self.properties(settings, node))?;
            let log = File::create(self.directory.join(format!("format-{node}.log")))?;
            let mut format = self.java("128m");
            format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(&file);
            if settings.sasl {
                format.args(doors::scram_users());
            }
            running.push(format.stdout(log.try_clone()?).stderr(log).spawn()?);
        }
        for (mut format, node) in running.into_iter().zip(1..) {
            if !format.wait()?.success() {
                let log = fs::read_to_string(self.directory.join(format!("format-{node}.log")))?;
                fail!("the storage of node {node} was not formatted: {log}");
            }
        }
        Ok(())
    }

    /// Timers are short: tests wait for elections, sessions and retention.
    fn properties(&self, settings: &Settings, node: u16) -> String {
        let voters =
            self.ports[CONTROLLER].iter().zip(1..).map(|(port, id)| format!("{id}@127.0.0.1:{port}"));
        let address =
            |(listener, ports): (&&str, &Vec<u16>)| format!("{listener}://127.0.0.1:{}", ports[slot(node)]);
        let listeners: Vec<_> = self.ports.iter().map(address).collect();
        let (_, advertised): (Vec<_>, Vec<_>) =
            listeners.iter().cloned().partition(|listener| listener.starts_with(CONTROLLER));
        let replicas = settings.nodes.min(3);
        let in_sync = replicas.saturating_sub(1).max(1);
        let mut text = format!(
        "process.roles=broker,controller
node.id={node}
broker.rack=rack-{node}
controller.quorum.voters={voters}
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,MTLS:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={directory}/data-{node}
num.partitions=1
default.replication.factor={replicas}
min.insync.replicas={in_sync}
auto.create.topics.enable=false
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
broker.session.timeout.ms=6000
leader.imbalance.check.interval.seconds=2
log.retention.check.interval.ms=1000
log.segment.delete.delay.ms=500
log.cleaner.backoff.ms=1000
replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector
num.network.threads=2
num.io.threads=4
",
        voters = voters.collect::<Vec<_>>().join(","),
        listeners = listeners.join(","),
        advertised = advertised.join(","),
        directory = self.directory.display(),
    );
        if !self.doors.is_empty() || settings.acl {
            text.push_str(&doors::properties(&self.doors, settings.acl, &self.certificates()));
        }
        for (key, value) in &settings.extra {
            text.push_str(&format!("{key}={value}\n"));
        }
        text
    }

    fn launch(&self, node: u16) -> Result<(), Failure> {
        let path = self.directory.join(format!("node-{node}.log"));
        let log = File::options().create(true).append(true).open(path)?;
        let mut java = self.java("512m");
        java.arg("kafka.Kafka").arg(self.directory.join(format!("node-{node}.properties")));
        // A group of its own: Ctrl-C goes to this process alone, and the watchdog then ends the nodes.
        let process = java.stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
        fs::write(self.directory.join(format!("node-{node}.pid")), process.id().to_string())?;
        self.nodes.lock().expect("never poisoned: no panic while it is held")[slot(node)] = Some(process);
        Ok(())
    }

    fn java(&self, heap: &str) -> Command {
        let mut java = Command::new("java");
        java.args([&format!("-Xmx{heap}"), &format!("-Xms{heap}"), "-XX:+UseSerialGC"])
            .args([
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
            ])
            .args(["-cp", &self.classpath])
            .stdin(Stdio::null())
            .current_dir(&self.directory);
        java
    }

    async fn wait_open(&self, node: u16) -> Result<(), Failure> {
        let address = ("127.0.0.1", self.ports[PLAINTEXT][slot(node)]);
        let end = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).await.is_err() {
            let log = self.directory.join(format!("node-{node}.log"));
            let ended = match &mut self.nodes.lock().expect("never poisoned: no panic while it is held")
                [slot(node)]
            {
                Some(process) => process.try_wait()?.is_some(),
                None => true,
            };
            if ended || Instant::now() > end {
                fail!("node {node} did not open its port:\n{}", fs::read_to_string(log)?);
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

impl Drop for KafkaCluster {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // The nodes are children of this process: without a wait they would stay behind as zombies until it ends.
        let _ = self.watchdog.wait();
        for node in self.nodes.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).iter_mut().flatten()
        {
            let _ = node.wait();
        }
    }
}

fn slot(node: u16) -> usize {
    usize::from(node) - 1
}

/// A port for each node at each listener: all are held until the last is known.
fn free_ports(nodes: u16, doors: &[Door]) -> io::Result<Ports> {
    let mut held = Vec::new();
    let mut ports = Ports::new();
    for listener in doors.iter().map(|door| door.listener()).chain([PLAINTEXT, CONTROLLER]) {
        if ports.contains_key(listener) {
            continue;
        }
        for _ in 0..nodes {
            let port = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            ports.entry(listener).or_default().push(port.local_addr()?.port());
            held.push(port);
        }
    }
    Ok(ports)
}

/// The folder with a version's jars, fetched by Maven if it is not there yet.
fn jars(version: &str) -> Result<PathBuf, Failure> {
    let plain = version.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    ensure!(plain && version.starts_with(|c: char| c.is_ascii_digit()), "{version:?} is no version of Kafka");
    // One that is not absolute does not count, says the standard; it would end up wherever this runs.
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|cache| Path::new(cache).is_absolute());
    let cache = match (named, std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => std::env::temp_dir(),
    };
    let target = cache.join("ottla-kafka").join(version);
    install_java(target.exists())?;
    if !target.exists() {
        // Renamed when it is complete: a download that was cut short is never taken for a whole one.
        let partial = target.with_extension(format!("partial-{}", std::process::id()));
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/pom.xml");
        run(Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(pom)
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime", &format!("-Dkafka={version}")])
            .arg(format!("-DoutputDirectory={}", partial.display())))?;
        fs::rename(&partial, &target)?;
    }
    Ok(target)
}

/// A Java runtime, and Maven when there is something to fetch, by apt where they are missing.
fn install_java(fetched: bool) -> Result<(), Failure> {
    let there = |tool: &str| {
        let mut version = Command::new(tool);
        version.arg("-version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    };
    let mut missing = Vec::new();
    if !there("java") {
        missing.push("default-jdk-headless");
    }
    if !fetched && !there("mvn") {
        missing.push("maven");
    }
    if !missing.is_empty() {
        run(Command::new("apt-get").args(["-qq", "update"]))?;
        run(Command::new("apt-get").args(["-qq", "install", "-y", "--no-install-recommends"]).args(missing))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let name = command.get_program().to_string_lossy().into_owned();
    let status = status.map_err(|error| Failure::from(error).while_doing(&name))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
