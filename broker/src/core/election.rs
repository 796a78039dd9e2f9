//! Who leads which partition: nodes that stop, start, freeze or are cut off, and the replica that takes over.
//!
//! There is no quorum of controllers in this process: the controller is a role of the first node that reaches most of the others.
//! It knows at once of a process that ended; a node that it cannot reach is fenced after `broker.session.timeout.ms`, and leads
//! nothing until it is back. A fenced leader knows that too, at once, so that nobody writes in an old epoch.
//!
//! Invariant: a partition without unclean elections is led by a replica in sync, or by nobody.

use super::coordinator::Coordinated;
use super::group::Timer;
use super::replication::Reach;
use super::sessions::Sessions;
use super::topics::{OFFSETS_TOPIC, Partition, TRANSACTIONS_TOPIC};
use super::{Cluster, Node, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::wire::Str;

impl Cluster {
    /// Whether a node counts: it runs, and the controller has not lost it.
    pub(crate) fn is_alive(&self, node: i32) -> bool {
        self.nodes.get(&node).is_some_and(Node::is_alive)
    }

    pub(crate) fn alive_nodes(&self) -> impl Iterator<Item = (i32, &Node)> {
        self.nodes.iter().filter(|(_, node)| node.is_alive()).map(|(id, node)| (*id, node))
    }

    /// The node that decides for the cluster: the first that reaches most of those that are alive.
    pub(crate) fn controller(&self) -> i32 {
        let alive: Vec<i32> = self.alive_nodes().map(|(id, _)| id).collect();
        let reached = |id: &i32| alive.iter().filter(|it| self.links.reach(&self.nodes, *id, **it)).count();
        let by_most = alive.iter().find(|id| 2 * reached(id) > alive.len());
        let runs = |(id, node): (&i32, &Node)| (node.runs && !node.paused).then_some(*id);
        by_most.or(alive.first()).copied().or_else(|| self.nodes.iter().find_map(runs)).unwrap_or(-1)
    }

    /// A node that stops: others take over what it led, and its fetch sessions are forgotten.
    pub(crate) fn node_stopped(&mut self, now: Now, node: i32) {
        let Some(stopped) = self.nodes.get_mut(&node) else { return };
        (stopped.runs, stopped.fenced) = (false, false);
        stopped.sessions = Sessions::default();
        self.timers.cancel(&Timer::Fence(node));
        self.lost(now, node);
        self.reached(now);
    }

    /// A node that starts: it follows, and leads again what nobody could lead without it.
    pub(crate) fn node_started(&mut self, now: Now, node: i32) {
        let Some(started) = self.nodes.get_mut(&node) else { return };
        started.runs = true;
        self.elect(now);
        self.reached(now);
        self.replicate_all(now);
    }

    /// A node freezes, or goes on.
    pub(crate) fn node_paused(&mut self, now: Now, node: i32, paused: bool) {
        let Some(found) = self.nodes.get_mut(&node) else { return };
        found.paused = paused;
        self.links_changed(now);
    }

    /// Nodes reach others than before.
    pub(crate) fn links_changed(&mut self, now: Now) {
        self.reached(now);
        self.replicate_all(now);
    }

    /// Nodes that the controller does not reach have a time until they are fenced; those that it reaches again are back.
    fn reached(&mut self, now: Now) {
        let controller = self.controller();
        let mut is_back = false;
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let reached = self.links.reach(&self.nodes, controller, id);
            let Some(node) = self.nodes.get_mut(&id).filter(|node| node.runs) else { continue };
            let timer = Timer::Fence(id);
            if reached {
                self.timers.cancel(&timer);
                is_back |= std::mem::take(&mut node.fenced);
            } else if !node.fenced && !self.timers.is_set(&timer) {
                self.timers.set(timer, now.at + self.settings.node_session_timeout);
            }
        }
        if is_back {
            self.elect(now);
            self.replicate_all(now);
        }
    }

    /// The controller has not heard of a node for too long.
    pub(crate) fn fire_fence(&mut self, now: Now, node: i32) {
        let Some(found) = self.nodes.get_mut(&node) else { return };
        found.fenced = true;
        self.lost(now, node);
        self.reached(now);
    }

    /// A node is not there any more: it is out of sync wherever another is in sync, and leads nothing.
    fn lost(&mut self, now: Now, node: i32) {
        for topic in self.topics.iter_mut() {
            topic.partitions.iter_mut().for_each(|partition| partition.standing.drop_from_sync(node));
        }
        self.elect(now);
        self.replicate_all(now);
    }

    /// Moves one partition to another of its replicas.
    pub(crate) fn move_leader(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        node: i32,
    ) -> Result<(), ErrorCode> {
        if !self.is_alive(node) {
            return Err(ErrorCode::BROKER_NOT_AVAILABLE);
        }
        let found =
            self.topics.partition_mut(topic, partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if !found.replicas.contains(&node) {
            return Err(ErrorCode::REPLICA_NOT_AVAILABLE);
        }
        if !found.standing.in_sync.contains(&node) {
            return Err(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE);
        }
        self.set_leader(now, topic, partition, Some(node));
        Ok(())
    }

    /// Gives every partition whose leader is not alive another: the first replica in sync, or where unclean elections are
    /// allowed the first at all.
    pub(crate) fn elect(&mut self, now: Now) {
        let mut changes = Vec::new();
        for topic in self.topics.iter() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                if !partition.leader.is_some_and(|leader| self.is_alive(leader)) {
                    let next = self.eligible(partition, topic.settings.unclean_election);
                    changes.push((topic.name.clone(), index, next));
                }
            }
        }
        for (topic, index, next) in changes {
            self.set_leader(now, &topic, index, next);
        }
    }

    pub(crate) fn eligible(&self, partition: &Partition, unclean: bool) -> Option<i32> {
        let mut alive = partition.replicas.iter().copied().filter(|node| self.is_alive(*node));
        let in_sync = alive.clone().find(|node| partition.standing.in_sync.contains(node));
        in_sync.or_else(|| alive.next().filter(|_| unclean))
    }

    pub(crate) fn set_leader(&mut self, now: Now, topic: &str, index: i32, leader: Option<i32>) {
        let Some((settings, partition)) = self.topics.parts_mut(topic, index) else { return };
        if partition.leader == leader {
            return;
        }
        let was_cut = partition.lead(leader, now, settings).unwrap_or_else(|error| {
            tracing::error!(topic, index, %error, "nobody leads: the log cannot be cut");
            true
        });
        if let Some(leader) = leader.filter(|leader| !partition.standing.in_sync.contains(leader)) {
            tracing::warn!(
                topic,
                index,
                leader,
                "led by a replica that was not in sync: records may be lost"
            );
            partition.standing.in_sync = vec![leader];
        }
        self.note_partition(now, topic, index);
        if was_cut {
            self.reload_coordinator(now, topic, index);
        }
        self.acknowledge(topic, index);
        self.replicate(now, topic, index, Reach::Quick);
        let Some(partition) = self.topics.partition_mut(topic, index) else { return };
        for ticket in &partition.waiting {
            self.parking.wake(*ticket);
        }
        if topic == OFFSETS_TOPIC {
            let moved = |id: &&Str| self.coordinator_index(Coordinated::Group(id)) == index;
            let moved: Vec<Str> = self.groups.iter().map(|(id, _)| id).filter(moved).cloned().collect();
            let (groups, mut fx) = self.groups(now);
            for id in moved {
                if let Some(entry) = groups.get_mut(&id) {
                    entry.membership.move_away(&mut fx);
                }
            }
        }
        self.resume_transactions(now);
    }

    /// A coordinator whose log has lost something knows what is left of it, and nothing else.
    fn reload_coordinator(&mut self, now: Now, topic: &str, index: i32) {
        match topic {
            OFFSETS_TOPIC => {
                let ids: Vec<Str> = self.groups.iter().map(|(id, _)| id.clone()).collect();
                for id in ids {
                    if self.coordinator_index(Coordinated::Group(&id)) == index
                        && let Some(entry) = self.groups.get_mut(&id)
                    {
                        entry.forget_all();
                    }
                }
            }
            TRANSACTIONS_TOPIC => {
                let ids: Vec<Str> = self.transactions.iter().map(|(id, _)| id.clone()).collect();
                for id in ids {
                    if self.coordinator_index(Coordinated::Transaction(&id)) == index {
                        self.timers.cancel(&Timer::Transaction(id.clone()));
                        self.timers.cancel(&Timer::Markers(id.clone()));
                        self.transactions.forget(&id);
                    }
                }
            }
            _ => return,
        }
        let Some(partition) = self.topics.partition_mut(topic, index) else { return };
        let batches = partition.whole_log().unwrap_or_else(|error| {
            tracing::error!(topic, index, %error, "what the coordinator has written cannot be read");
            Vec::new()
        });
        batches.into_iter().for_each(|batch| self.learn(now, topic, index, batch));
    }
}
