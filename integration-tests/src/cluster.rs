//! The bundled broker in the simulator: nodes at `node-1:9092` and so on, in versions drawn by the seed.
//!
//! It owns which versions the nodes offer (one draw an API, a run) and the disturbances that a run may see: leaders and
//! coordinators that move, nodes that die or freeze, answers that are lost or late or an error. Invariant: only what a
//! real cluster does too; so no acknowledged record is ever lost by the cluster itself.

use crate::Failure;
use crate::checks::History;
use crate::random::Random;
use crate::world::Simulation;
use ottla_broker::{Answer, Broker, Fault};
use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::APIS;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Nodes of every simulated cluster.
pub const NODES: i32 = 3;
const PORT: u16 = 9092;
/// No version at all.
const NONE: (i16, i16) = (0, -1);
const BY_RACK: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
/// The first version of Metadata with the ids of topics.
const TOPIC_IDS: i16 = 10;
/// The first version of Metadata with leader epochs.
const LEADER_EPOCHS: i16 = 7;
/// What the clients of scenarios call themselves.
pub const CLIENT_ID: &str = "scenario";

/// A cluster of one run. Cheap to clone.
#[derive(Clone)]
pub struct SimulatedCluster {
    broker: Broker,
    simulation: Simulation,
    versions: Versions,
    groups: Arc<Mutex<BTreeSet<String>>>,
}

impl SimulatedCluster {
    /// Starts every node.
    pub fn start(simulation: &Simulation) -> Result<Self, Failure> {
        let nodes = usize::try_from(NODES)?;
        let level = simulation.random_for("transaction.version").choose(&[1, 2]);
        let builder = Broker::builder().nodes(nodes).transaction_version(level);
        // A member that dies without a word is soon gone.
        let builder = builder.setting("group.consumer.session.timeout.ms", "6000");
        let builder = builder.setting("group.consumer.heartbeat.interval.ms", "1000");
        let builder = builder.setting("transaction.two.phase.commit.enable", "true");
        let builder = builder.setting("unstable.api.versions.enable", "true");
        // As soon as a run can see it.
        let builder = builder.setting("replica.lag.time.max.ms", "5000");
        let builder = builder.setting("broker.session.timeout.ms", "3000");
        let builder = (1..=NODES).fold(builder, |builder, node| builder.rack(node, format!("rack-{node}")));
        let builder = builder.setting("replica.selector.class", BY_RACK);
        let broker = builder.world(Arc::new(simulation.clone())).build()?;
        let versions = draw_versions(&mut simulation.random_for("versions"));
        let cluster =
            SimulatedCluster { broker, simulation: simulation.clone(), versions, groups: Arc::default() };
        (1..=NODES).for_each(|node| cluster.listen(node));
        Ok(cluster)
    }

    /// `host:port` of every node, separated by commas.
    pub fn bootstrap(&self) -> String {
        (1..=NODES).map(|node| format!("{}:{PORT}", host(node))).collect::<Vec<_>>().join(",")
    }

    /// Groups whose coordinator may be moved.
    pub fn know_group(&self, group: &str) {
        self.groups.lock().insert(group.to_string());
    }

    /// Tells a history whatever a group commits, as soon as time moves on.
    pub fn watch_commits(&self, group: &str, topic: &str, history: &Arc<History>) {
        let (broker, history) = (self.broker.clone(), history.clone());
        let (group, topic) = (group.to_string(), topic.to_string());
        self.simulation.probe(Box::new(move || {
            for ((of, partition), offset) in broker.committed(&group) {
                if of == topic {
                    history.committed(partition, offset);
                }
            }
            history.violation()
        }));
    }

    /// Whether the versions that were drawn have topic ids in their metadata.
    pub fn knows_topic_ids(&self) -> bool {
        self.has(ApiKey::METADATA, TOPIC_IDS)
    }

    /// Whether the versions that were drawn have the groups of KIP-848.
    pub fn has_modern_groups(&self) -> bool {
        let epochs = [ApiKey::OFFSET_COMMIT, ApiKey::OFFSET_FETCH];
        self.has(ApiKey::CONSUMER_GROUP_HEARTBEAT, 0) && epochs.iter().all(|key| self.has(*key, 9))
    }

    /// Whether the broker can match topics against a pattern in the versions that were drawn.
    pub fn matches_patterns(&self) -> bool {
        self.has_modern_groups() && self.has(ApiKey::CONSUMER_GROUP_HEARTBEAT, 1)
    }

    /// Whether the versions that were drawn tell a reader that the log was cut in front of it (KIP-320).
    pub fn tells_truncation(&self) -> bool {
        self.has(ApiKey::METADATA, LEADER_EPOCHS) && self.has(ApiKey::OFFSET_FOR_LEADER_EPOCH, 3)
    }

    /// Whether the versions that were drawn name another replica to read from (KIP-392).
    pub fn reads_from_followers(&self) -> bool {
        self.has(ApiKey::FETCH, 11)
    }

    fn has(&self, key: ApiKey, version: i16) -> bool {
        self.versions.get(key).is_some_and(|(_, max)| max >= version)
    }

    /// Stops every node and closes every connection.
    pub fn stop(&self) {
        self.broker.stop();
        (1..=NODES).for_each(|node| self.simulation.network.cut(&host(node), PORT));
    }

    /// Makes a node the leader of partition 0 of a topic, and of no other partition.
    pub fn lead_first_alone(&self, topic: &str, node: i32) {
        for index in (0..).take_while(|index| self.broker.leader(topic, *index).is_some()) {
            let other = 1 + (node + index.rem_euclid(NODES - 1)) % NODES;
            let leader = if index == 0 { node } else { other };
            // It may lead already.
            let _ = self.broker.move_leader(topic, index, leader);
        }
    }

    /// Lets a node take so long for each request to write, until it is healed.
    pub fn slow(&self, node: i32, by: Duration) {
        self.broker.fault(Fault::on(ApiKey::PRODUCE).node(node).always().delay(by));
    }

    /// Starts the protocol of transactions that everybody uses from now on.
    pub fn set_transaction_version(&self, level: i16) -> Result<(), Failure> {
        self.broker.set_transaction_version(level).map_err(|code| Failure::new(format!("{code}")))
    }

    /// Answers the next EndTxn with an error that says nothing, whether it was `done` or not.
    pub fn end_without_a_word(&self, done: bool) {
        self.broker.fault(end_without_a_word(done));
    }

    /// Lets nothing through to a node or from it for a while.
    pub fn freeze(&self, node: i32, time: Duration) {
        self.simulation.network.freeze(&host(node), PORT, time);
    }

    /// Takes every fault away that has not acted yet.
    pub fn heal(&self) {
        self.broker.heal();
        self.simulation.network.thaw();
    }

    /// Lets one thing go wrong, and waits until it is over if it takes a while.
    pub async fn disturb(&self, topic: &str, random: &mut Random) {
        let node = 1 + i32::try_from(random.below(3)).unwrap_or(0);
        let what = random.below(100);
        self.simulation.trace.event("disturb", what, u64::from(node.unsigned_abs()));
        match what {
            0..30 => {
                let partitions =
                    (0..).take_while(|index| self.broker.leader(topic, *index).is_some()).count();
                let partition = i32::try_from(random.below(partitions as u64)).unwrap_or(0);
                // The node may be the leader already.
                let _ = self.broker.move_leader(topic, partition, node);
            }
            30..40 => {
                let groups: Vec<_> = self.groups.lock().iter().cloned().collect();
                for group in groups {
                    let _ = self.broker.move_coordinator(&group, node);
                }
            }
            40..50 => self.restart(node, Duration::from_millis(random.below(4_000))).await,
            50..60 => {
                let time = Duration::from_millis(random.below(8_000));
                self.simulation.network.freeze(&host(node), PORT, time);
            }
            _ => {
                // The judge is another client: what it is told must be true at once.
                self.broker.fault(draw_fault(topic, random).node(node).client_id(CLIENT_ID));
            }
        }
    }

    /// Lets one thing go wrong between nodes, and waits until it is over if it takes a while. Slow replicas stay slow.
    pub async fn disturb_replicas(&self, topic: &str, random: &mut Random) {
        let leader = self.broker.leader(topic, 0).and_then(|leader| leader.node);
        let node = leader.filter(|_| random.percent(50)).unwrap_or_else(|| random_node(random));
        let what = random.below(100);
        let time = Duration::from_millis(random.below(8_000));
        self.simulation.trace.event("disturb replicas", what, u64::from(node.unsigned_abs()));
        match what {
            0..25 => self.restart(node, time / 2).await,
            25..40 => {
                self.broker.isolate(node);
                sleep(time / 2).await;
                // Another one may die meanwhile, so that nobody may lead for a while.
                let other = random_node(random);
                if other != node && random.percent(50) {
                    self.restart(other, time / 2).await;
                }
                (1..=NODES).filter(|other| *other != node).for_each(|other| self.broker.join(node, other));
            }
            40..50 => {
                let other = 1 + node % NODES;
                self.broker.separate(node, other);
                sleep(time).await;
                self.broker.join(node, other);
            }
            50..60 => {
                self.broker.hold_replicas(node, true);
                sleep(time).await;
                self.broker.hold_replicas(node, false);
            }
            60..80 => self.broker.slow_replicas(node, time / 16),
            80..90 => {
                // Whoever is out of sync is alone for a while.
                self.broker.hold_replicas(node, true);
                sleep(Duration::from_millis(5_500)).await;
                (1..=NODES).filter(|other| *other != node).for_each(|other| self.kill(other));
                self.broker.hold_replicas(node, false);
                sleep(time / 8).await;
                (1..=NODES).filter(|other| *other != node).for_each(|other| self.start_again(other));
            }
            _ => {
                // The node may be the leader already, or out of sync.
                let _ = self.broker.move_leader(topic, 0, node);
            }
        }
    }

    /// Kills a node and starts it again after a while.
    async fn restart(&self, node: i32, after: Duration) {
        self.kill(node);
        sleep(after).await;
        self.start_again(node);
    }

    /// Ends a node as if its process died.
    pub fn kill(&self, node: i32) {
        self.simulation.network.cut(&host(node), PORT);
        self.broker.stop_node(node);
    }

    /// Starts a node that was killed.
    pub fn start_again(&self, node: i32) {
        self.broker.start_node(node);
        self.listen(node);
    }

    fn listen(&self, node: i32) {
        let mut accept = self.simulation.network.listen(&host(node), PORT);
        let cluster = self.clone();
        self.simulation.tasks.spawn("broker listener", async move {
            while let Some(stream) = accept.recv().await {
                let (broker, versions) = (cluster.broker.clone(), cluster.versions.clone());
                cluster.simulation.tasks.spawn("broker connection", async move {
                    broker.serve_versions(node, "simulated", versions, stream).await;
                });
            }
        });
    }
}

fn random_node(random: &mut Random) -> i32 {
    1 + i32::try_from(random.below(NODES.unsigned_abs().into())).unwrap_or(0)
}

fn host(node: i32) -> String {
    format!("node-{node}")
}

/// The next EndTxn is answered with an error that says nothing: it was done, or not.
pub(crate) fn end_without_a_word(done: bool) -> Fault {
    let fault = Fault::on(ApiKey::END_TXN).client_id(CLIENT_ID);
    match done {
        false => fault.fail(ErrorCode::UNKNOWN_SERVER_ERROR),
        true => fault.rewrite(|answer| {
            if let Answer::EndTxn(answer) = answer {
                answer.error_code = ErrorCode::UNKNOWN_SERVER_ERROR;
            }
        }),
    }
}

/// A highest version for each API: the newest in every second draw, else any that the tables have.
fn draw_versions(random: &mut Random) -> Versions {
    let mut capped = |api: &ottla_protocol::api::Api| {
        let older = i16::try_from(random.below(api.max.abs_diff(api.min).into())).unwrap_or(0);
        let max = if random.percent(50) { api.max } else { api.max - older };
        // What fences the members of groups (KIP-447), without which a pipeline refuses to work.
        match api.key {
            ApiKey::TXN_OFFSET_COMMIT => max.max(3),
            // What gives a producer another epoch after a failure (KIP-360), without which it is at its end.
            ApiKey::INIT_PRODUCER_ID => max.max(3),
            ApiKey::OFFSET_FETCH => max.max(7),
            _ => max,
        }
    };
    let mut versions: BTreeMap<_, _> = APIS.iter().map(|api| (api.key, (api.min, capped(api)))).collect();
    // Names gave way to ids of topics in these versions; a broker that speaks them tells the ids in its metadata.
    let metadata = versions.get(&ApiKey::METADATA).map_or(0, |(_, max)| *max);
    if metadata < TOPIC_IDS {
        // What the members of these groups own is told by ids.
        versions.insert(ApiKey::CONSUMER_GROUP_HEARTBEAT, NONE);
        for (key, (_, max)) in &mut versions {
            *max = match *key {
                ApiKey::FETCH | ApiKey::PRODUCE => (*max).min(12),
                ApiKey::OFFSET_COMMIT | ApiKey::OFFSET_FETCH => (*max).min(9),
                _ => *max,
            };
        }
    }
    versions.into_iter().collect()
}

/// One request that goes wrong, once.
fn draw_fault(topic: &str, random: &mut Random) -> Fault {
    const DATA: &[ApiKey] = &[ApiKey::PRODUCE, ApiKey::PRODUCE, ApiKey::FETCH];
    const GROUP: &[ApiKey] = &[
        ApiKey::JOIN_GROUP,
        ApiKey::SYNC_GROUP,
        ApiKey::HEARTBEAT,
        ApiKey::CONSUMER_GROUP_HEARTBEAT,
        ApiKey::CONSUMER_GROUP_HEARTBEAT,
        ApiKey::OFFSET_COMMIT,
        ApiKey::OFFSET_FETCH,
    ];
    const TRANSACTIONS: &[ApiKey] = &[
        ApiKey::INIT_PRODUCER_ID,
        ApiKey::ADD_PARTITIONS_TO_TXN,
        ApiKey::ADD_OFFSETS_TO_TXN,
        ApiKey::TXN_OFFSET_COMMIT,
        ApiKey::END_TXN,
        ApiKey::END_TXN,
    ];
    const OTHER: &[ApiKey] =
        &[ApiKey::METADATA, ApiKey::FIND_COORDINATOR, ApiKey::INIT_PRODUCER_ID, ApiKey::LIST_OFFSETS];
    let apis = random.choose(&[DATA, DATA, GROUP, TRANSACTIONS, OTHER]);
    let fault = Fault::on(random.choose(apis)).skip(usize::try_from(random.below(3)).unwrap_or(0));
    let time = Duration::from_millis(random.below(3_000));
    match random.below(9) {
        0 => fault.cut(),
        8 => fault.late(time),
        1 | 2 => fault.cut_answer(),
        3 => fault.cut_within_answer(usize::try_from(random.below(60)).unwrap_or(0)),
        4 => fault.delay(time),
        5 => fault.delay_answer(time),
        6 => fault.throttle(time),
        _ => draw_error(topic, apis, random),
    }
}

/// An error of one of these APIs that a real cluster answers with now and then; nothing takes effect.
fn draw_error(topic: &str, apis: &[ApiKey], random: &mut Random) -> Fault {
    let errors = [
        (ApiKey::PRODUCE, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (ApiKey::PRODUCE, ErrorCode::NOT_ENOUGH_REPLICAS),
        (ApiKey::PRODUCE, ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
        (ApiKey::PRODUCE, ErrorCode::REQUEST_TIMED_OUT),
        (ApiKey::PRODUCE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (ApiKey::FETCH, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (ApiKey::FETCH, ErrorCode::UNKNOWN_LEADER_EPOCH),
        (ApiKey::FETCH, ErrorCode::FENCED_LEADER_EPOCH),
        (ApiKey::LIST_OFFSETS, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (ApiKey::METADATA, ErrorCode::LEADER_NOT_AVAILABLE),
        (ApiKey::OFFSET_FETCH, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey::OFFSET_FETCH, ErrorCode::UNSTABLE_OFFSET_COMMIT),
        (ApiKey::OFFSET_COMMIT, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey::JOIN_GROUP, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey::JOIN_GROUP, ErrorCode::NOT_COORDINATOR),
        (ApiKey::SYNC_GROUP, ErrorCode::REBALANCE_IN_PROGRESS),
        (ApiKey::HEARTBEAT, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        (ApiKey::CONSUMER_GROUP_HEARTBEAT, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey::CONSUMER_GROUP_HEARTBEAT, ErrorCode::NOT_COORDINATOR),
        (ApiKey::FIND_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        (ApiKey::INIT_PRODUCER_ID, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey::INIT_PRODUCER_ID, ErrorCode::CONCURRENT_TRANSACTIONS),
        (ApiKey::ADD_PARTITIONS_TO_TXN, ErrorCode::CONCURRENT_TRANSACTIONS),
        (ApiKey::ADD_PARTITIONS_TO_TXN, ErrorCode::NOT_COORDINATOR),
        (ApiKey::ADD_OFFSETS_TO_TXN, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        (ApiKey::TXN_OFFSET_COMMIT, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey::TXN_OFFSET_COMMIT, ErrorCode::NOT_COORDINATOR),
        (ApiKey::END_TXN, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey::END_TXN, ErrorCode::UNKNOWN_SERVER_ERROR),
        (ApiKey::END_TXN, ErrorCode::UNKNOWN_SERVER_ERROR),
        (ApiKey::END_TXN, ErrorCode::UNKNOWN_SERVER_ERROR),
        (ApiKey::END_TXN, ErrorCode::NOT_COORDINATOR),
    ];
    let errors: Vec<_> = errors.into_iter().filter(|(api, _)| apis.contains(api)).collect();
    let (api, code) = random.choose(&errors);
    let fault = Fault::on(api).fail(code);
    match api {
        ApiKey::PRODUCE | ApiKey::FETCH | ApiKey::LIST_OFFSETS => fault.topic(topic),
        _ => fault,
    }
}
