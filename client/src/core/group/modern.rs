//! One member of one group whose partitions the broker assigns (KIP-848): it joins, reconciles what it has with what it
//! should have, keeps itself alive, and leaves, all by one request.
//!
//! It owns the member epoch, the target that the coordinator named last, and what is out because of them. It refuses to
//! know who gets what: that is decided by the coordinator. Invariants: a partition is reported as given up only after the
//! reader has given it up or has been told that it is lost; nothing is taken up before what has to go is gone.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DescribeGroupsResponse, GroupAssignment,
};
use ottla_protocol::wire::{Str, Uuid};

use super::choice::{self, Choice};
use super::classic::Classic;
use super::enrolment::Enrolment;
use super::{GroupEvent, GroupMetadata, Parting};
use crate::config::{ClientConfig, ConsumerConfig, GroupProtocol};
use crate::core::ask::{Answer, Ask};
use crate::core::backoff::Backoff;
use crate::core::cluster::Cluster;
use crate::core::coordinator::{Coordinated, Coordinator};
use crate::core::{Lane, Link, Request, TopicPartition, Work};
use crate::error::{Error, ErrorKind};
use crate::planted::{Defect, planted};

/// How long a member that the coordinator does not hear may go on. The broker's `group.consumer.session.timeout.ms` is not
/// told to anybody; this is its default. Kafka's own client goes on until it is told that it is fenced, and meanwhile two
/// members work on the same records. What is done without the coordinator cannot be committed anyway, and a member that has
/// stopped keeps its id and epoch: the coordinator that hears it in time gives it back what it had.
const SESSION: Duration = Duration::from_secs(45);

/// How often to report until the first answer says it.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Under `auto`: it is asked whether the group is one to join by this protocol.
    Choosing,
    /// It is not.
    GivenWay {
        reason: String,
        had_a_choice: bool,
    },
    /// A heartbeat with epoch 0 is due, or out.
    Joining,
    Member,
    /// We left because the application asks for nothing, and join again when it does.
    Idle,
    /// We left, or were thrown out for good.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Find,
    Describe,
    Heartbeat,
    Leave,
}

/// A request without an answer.
#[derive(Debug)]
struct Flight {
    link: Link,
    duty: Duty,
    sent: Instant,
    /// What it reported.
    owned: BTreeMap<TopicPartition, Uuid>,
    /// False once its answer means nothing.
    live: bool,
}

#[derive(Debug)]
pub(crate) struct Modern {
    config: Arc<ConsumerConfig>,
    client: Arc<ClientConfig>,
    enrolment: Enrolment,
    pub(super) coordinator: Coordinator,
    phase: Phase,
    /// Of the last answer; 0 while we are no member.
    epoch: i32,
    /// What the reader has, with the ids under which it was given.
    owned: BTreeMap<TopicPartition, Uuid>,
    /// What the coordinator has heard of that; `None` makes the next heartbeat say everything.
    told: Option<BTreeMap<TopicPartition, Uuid>>,
    /// What we should have. `None`: nobody has said so since we joined.
    target: Option<BTreeSet<(Uuid, i32)>>,
    /// The reader was told to give these up.
    revoking: BTreeSet<TopicPartition>,
    metadata_seen: u64,
    flights: Vec<Flight>,
    interval: Duration,
    next_heartbeat: Instant,
    /// When the last request was sent that the coordinator has certainly taken for a sign of life.
    contact: Instant,
    /// When the application must have asked for the next record.
    poll_by: Option<Instant>,
    /// The topics that match the pattern, which the coordinator finds by itself.
    matching: Option<Vec<Str>>,
    /// The coordinator may count us among its members.
    enrolled: bool,
    /// Another protocol may still have to do: `auto`, and no heartbeat was accepted yet.
    may_give_way: bool,
    /// A leave that is to be sent since this time, with its epoch.
    farewell: Option<(Instant, i32)>,
    failure: Option<Error>,
    backoff: Backoff,
    events: VecDeque<GroupEvent>,
}

// What the reader asks for.
impl Modern {
    pub(super) fn new(config: Arc<ConsumerConfig>, client: Arc<ClientConfig>, now: Instant) -> Self {
        let enrolment = Enrolment::new(&config, &client);
        let chooses = config.group_protocol == GroupProtocol::Auto;
        Self {
            coordinator: Coordinator::new(Coordinated::Group, enrolment.group.clone(), true, &client, now),
            enrolment,
            phase: if chooses { Phase::Choosing } else { Phase::Joining },
            epoch: 0,
            owned: BTreeMap::new(),
            told: None,
            target: None,
            revoking: BTreeSet::new(),
            metadata_seen: 0,
            flights: Vec::new(),
            interval: FIRST_INTERVAL,
            next_heartbeat: now,
            contact: now,
            poll_by: Some(now + config.max_poll_interval),
            matching: None,
            enrolled: false,
            may_give_way: chooses,
            farewell: None,
            failure: None,
            backoff: Backoff::new(client.retry_backoff, client.retry_backoff_max),
            events: VecDeque::new(),
            config,
            client,
        }
    }

    /// Why another protocol has to do, if that has become clear. The reader has been given nothing then.
    pub(super) fn gives_way(&mut self) -> Option<(String, bool)> {
        match &mut self.phase {
            Phase::GivenWay { reason, had_a_choice } => Some((std::mem::take(reason), *had_a_choice)),
            _ => None,
        }
    }

    /// The classic member that takes its place.
    pub(super) fn as_classic(&self, now: Instant) -> Classic {
        let mut classic = Classic::new(self.config.clone(), self.client.clone(), now);
        classic.coordinator = self.coordinator.clone();
        if let Some(topics) = &self.matching {
            classic.subscribe(now, topics.clone());
        }
        classic
    }

    pub(super) fn poll_event(&mut self) -> Option<GroupEvent> {
        self.events.pop_front()
    }

    /// What is to be taken up instead is looked at when the coordinator has answered to this.
    pub(super) fn given_up(&mut self, now: Instant) {
        let gone = std::mem::take(&mut self.revoking);
        if !gone.is_empty() {
            self.owned.retain(|owned, _| !gone.contains(owned));
            self.next_heartbeat = now;
        }
    }

    pub(super) fn subscribe(&mut self, _: Instant, topics: Vec<Str>) {
        self.matching = Some(topics);
    }

    pub(super) fn polled(&mut self, now: Instant) {
        match self.phase {
            Phase::Over => return,
            Phase::Idle => {
                self.phase = Phase::Joining;
                self.next_heartbeat = now;
            }
            _ => {}
        }
        self.poll_by = Some(now + self.config.max_poll_interval);
    }

    pub(super) fn leave(&mut self, now: Instant, parting: Parting) {
        if !self.is_over() {
            self.say_farewell(now, parting);
            self.end();
        }
    }

    pub(super) fn has_left(&self) -> bool {
        self.is_over() && self.farewell.is_none()
    }

    pub(super) fn identity(&self) -> Option<GroupMetadata> {
        let late = i32::from(planted(Defect::StaleEpoch));
        (self.phase == Phase::Member).then(|| self.enrolment.identity(self.epoch - late))
    }

    pub(super) fn evicts_at(&self) -> Option<Instant> {
        self.poll_by.filter(|_| matches!(self.phase, Phase::Joining | Phase::Member))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    pub(super) fn id(&self) -> &Str {
        &self.enrolment.group
    }

    pub(super) fn coordinator_failed(&mut self, now: Instant, node: i32, cluster: &mut Cluster) {
        if self.coordinator.node() == Some(node) {
            self.coordinator.fail(now, &mut cluster.random);
            self.close_flights();
        }
    }

    pub(super) fn doubt(&mut self, now: Instant) {
        self.next_heartbeat = self.next_heartbeat.min(now);
    }
}

// What the links ask.
impl Modern {
    pub(super) fn ready_at(&self, link: Link) -> Option<Instant> {
        self.due(link).map(|(at, _)| at)
    }

    pub(super) fn poll_work(&mut self, now: Instant, link: Link, cluster: &mut Cluster) -> Option<Work> {
        let (_, duty) = self.due(link).filter(|(at, _)| *at <= now)?;
        let work = match duty {
            Duty::Find => self.coordinator.ask(link, cluster),
            Duty::Describe => choice::ask(&self.enrolment.group, link, cluster),
            Duty::Heartbeat => self.beat(link, cluster),
            Duty::Leave => self.ask_to_leave(link, cluster),
        };
        if work.is_ok() && duty != Duty::Find {
            self.enrolled |= duty == Duty::Heartbeat;
            let owned = self.owned.clone();
            self.flights.push(Flight { link, duty, sent: now, owned, live: true });
        }
        Some(work.unwrap_or_else(|error| {
            self.fail(error.clone());
            Work::Close(error)
        }))
    }

    fn due(&self, link: Link) -> Option<(Instant, Duty)> {
        let find = self.coordinator.ready_at(link).map(|at| (at, Duty::Find));
        let here = link.lane == Lane::Group && self.coordinator.node() == Some(link.node);
        let own = here.then(|| self.due_at_coordinator(link)).flatten();
        find.into_iter().chain(own).min_by_key(|(at, _)| *at)
    }

    fn due_at_coordinator(&self, link: Link) -> Option<(Instant, Duty)> {
        let out = |duty| self.flights.iter().any(|flight| flight.link == link && flight.duty == duty);
        if let Some((since, _)) = self.farewell {
            // It may follow a heartbeat that is out, but not a leave.
            return (!out(Duty::Leave)).then_some((since, Duty::Leave));
        }
        if self.flights.iter().any(|flight| flight.link == link) {
            return None;
        }
        match self.phase {
            Phase::Choosing => Some((self.next_heartbeat, Duty::Describe)),
            Phase::Joining | Phase::Member => Some((self.next_heartbeat, Duty::Heartbeat)),
            Phase::GivenWay { .. } | Phase::Idle | Phase::Over => None,
        }
    }

    fn beat(&mut self, link: Link, cluster: &mut Cluster) -> Result<Work, Error> {
        let version = cluster.version::<ConsumerGroupHeartbeatRequest>(link, i16::MAX)?;
        self.enrolment.have_id(&mut cluster.random);
        let ask = match &self.told {
            Some(told) => {
                let report = (*told != self.owned).then_some(&self.owned);
                self.enrolment.heartbeat(self.epoch, report)
            }
            None => self.enrolment.full_heartbeat(self.epoch, &self.owned, version)?,
        };
        let timeout = Coordinator::heartbeat_timeout(&self.client, SESSION);
        Ok(request(Ask::ConsumerGroupHeartbeat(ask), version, timeout))
    }

    fn ask_to_leave(&mut self, link: Link, cluster: &mut Cluster) -> Result<Work, Error> {
        let version = cluster.version::<ConsumerGroupHeartbeatRequest>(link, i16::MAX)?;
        let epoch = self.farewell.map_or(self.epoch, |(_, epoch)| epoch);
        let ask = Ask::ConsumerGroupHeartbeat(self.enrolment.heartbeat(epoch, None));
        Ok(request(ask, version, self.client.request_timeout))
    }
}

// What comes back.
impl Modern {
    pub(super) fn handle(
        &mut self,
        now: Instant,
        link: Link,
        answer: &Answer,
        cluster: &mut Cluster,
    ) -> bool {
        match answer {
            Answer::DescribeGroups(response) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                if let Some(flight) = self.land(link) {
                    self.described(now, &flight, response, cluster);
                }
            }
            Answer::ConsumerGroupHeartbeat(response) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                match self.land(link) {
                    // Whatever it says: the session timeout does the rest.
                    Some(Flight { duty: Duty::Leave, .. }) => self.farewell = None,
                    Some(flight) => self.has_beaten(now, flight, response, cluster),
                    None => {}
                }
            }
            _ => return false,
        }
        true
    }

    /// The request that an answer belongs to, unless its answer means nothing any more (fault 59).
    fn land(&mut self, link: Link) -> Option<Flight> {
        let at = self.flights.iter().position(|flight| flight.link == link)?;
        Some(self.flights.remove(at)).filter(|flight| flight.live)
    }

    fn described(
        &mut self,
        now: Instant,
        flight: &Flight,
        response: &DescribeGroupsResponse,
        cluster: &mut Cluster,
    ) {
        match choice::judge(&self.enrolment.group, response) {
            Choice::Modern => {
                self.phase = Phase::Joining;
                self.next_heartbeat = now;
            }
            Choice::Classic(reason) => self.phase = Phase::GivenWay { reason, had_a_choice: true },
            Choice::Elsewhere => self.coordinator_failed(now, flight.link.node, cluster),
            Choice::Later => self.next_heartbeat = now + self.backoff.next(&mut cluster.random),
        }
    }

    fn has_beaten(
        &mut self,
        now: Instant,
        flight: Flight,
        response: &ConsumerGroupHeartbeatResponse,
        cluster: &mut Cluster,
    ) {
        if !response.error_code.is_ok() {
            return self.refused(now, flight.link.node, response, cluster);
        }
        if response.member_epoch <= 0 {
            let message = format!("group {}: a member of epoch {}", self.id(), response.member_epoch);
            return self.fail(Error::new(ErrorKind::Protocol, message));
        }
        self.contact = self.contact.max(flight.sent);
        self.coordinator.alive();
        self.backoff.reset();
        self.may_give_way = false;
        self.enrolment.take_id(response.member_id.as_deref());
        self.epoch = response.member_epoch;
        self.phase = Phase::Member;
        self.told = Some(flight.owned);
        let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or(0);
        self.interval = if interval == 0 { FIRST_INTERVAL } else { Duration::from_millis(interval) };
        // What was given up or taken up while it was out is told at once.
        let changed = self.told.as_ref() != Some(&self.owned);
        self.next_heartbeat = if changed { now } else { now + self.interval };
        self.enrolment.topics().iter().for_each(|topic| cluster.metadata.want(now, topic));
        if let Some(assignment) = &response.assignment {
            self.target = Some(flatten(assignment));
        }
        self.reconcile(now, cluster);
    }

    /// Has the reader give up what it should not have, and only then take up what it should. What it cannot be told the name
    /// of is taken up when metadata has it (fault 60).
    fn reconcile(&mut self, now: Instant, cluster: &mut Cluster) {
        let Some(target) = &self.target else { return };
        if !self.revoking.is_empty() || self.phase != Phase::Member {
            return;
        }
        let goes = |(owned, id): &(&TopicPartition, &Uuid)| !target.contains(&(**id, owned.partition));
        let revoked: BTreeSet<TopicPartition> =
            self.owned.iter().filter(goes).map(|(owned, _)| owned.clone()).collect();
        if !revoked.is_empty() {
            self.events.push_back(GroupEvent::Revoke(revoked.iter().cloned().collect()));
            if planted(Defect::GoneTooSoon) {
                self.owned.retain(|owned, _| !revoked.contains(owned));
                self.next_heartbeat = now;
            }
            self.revoking = revoked;
            return;
        }
        let had: BTreeSet<(Uuid, i32)> = self.owned.iter().map(|(p, id)| (*id, p.partition)).collect();
        let mut added = Vec::new();
        let mut nameless = false;
        for (id, partition) in target.difference(&had).filter(|(_, partition)| *partition >= 0) {
            // What was not asked for is refused: a broken coordinator must not make the application read it.
            match cluster.metadata.name_of(*id).filter(|name| self.enrolment.reads(name)) {
                Some(topic) => {
                    added.push((TopicPartition { topic: topic.clone(), partition: *partition }, *id))
                }
                None => nameless = true,
            }
        }
        added.retain(|(partition, id)| *self.owned.entry(partition.clone()).or_insert(*id) == *id);
        if !added.is_empty() {
            let added = added.into_iter().map(|(partition, _)| partition).collect();
            self.events.push_back(GroupEvent::Assign(added));
            self.next_heartbeat = now;
        }
        if nameless {
            cluster.metadata.refresh(now, &mut cluster.random);
        }
    }

    fn refused(
        &mut self,
        now: Instant,
        node: i32,
        response: &ConsumerGroupHeartbeatResponse,
        cluster: &mut Cluster,
    ) {
        // What it said may be known or not.
        self.told = None;
        match response.error_code {
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                self.coordinator_failed(now, node, cluster);
                self.next_heartbeat = now;
            }
            code @ (ErrorCode::UNSUPPORTED_VERSION | ErrorCode::GROUP_ID_NOT_FOUND) if self.may_give_way => {
                let reason = format!("the coordinator refused the first heartbeat: {code}");
                self.phase = Phase::GivenWay { reason, had_a_choice: true };
            }
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => self.rejoin(now, cluster),
            // All members were gone, and the group with them.
            ErrorCode::GROUP_ID_NOT_FOUND if self.epoch > 0 => self.rejoin(now, cluster),
            code @ ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
                self.events.push_back(GroupEvent::Refused(self.enrolment.describe(code, response)));
                self.next_heartbeat = now + self.interval;
            }
            // Whoever had the name may be gone without a word: then its session ends by itself (fault 62). And what went wrong in
            // the coordinator says nothing of us.
            ErrorCode::UNRELEASED_INSTANCE_ID | ErrorCode::UNKNOWN_SERVER_ERROR
                if self.coordinator.may_relent(now) =>
            {
                self.next_heartbeat = now + self.backoff.next(&mut cluster.random);
            }
            code if code.is_retriable() && code != ErrorCode::UNRELEASED_INSTANCE_ID => {
                self.next_heartbeat = now + self.backoff.next(&mut cluster.random);
            }
            code => self.fail(self.enrolment.describe(code, response)),
        }
    }

    pub(super) fn lost(&mut self, now: Instant, link: Link, cluster: &mut Cluster) {
        self.coordinator.lost(now, link, &mut cluster.random);
        let is_here = |flight: &Flight| flight.link == link;
        for flight in self.flights.iter().filter(|flight| is_here(flight)) {
            if flight.duty == Duty::Leave {
                // Best effort: the session timeout does the rest.
                self.farewell = None;
            } else if flight.live {
                // Nobody knows whether it arrived (fault 57).
                self.told = None;
                self.next_heartbeat = now;
            }
        }
        self.flights.retain(|flight| !is_here(flight));
        // A Control link may have been idle; while the Group link is open, the broker is there.
        let group = Link { node: link.node, lane: Lane::Group };
        if matches!(link.lane, Lane::Group | Lane::Control) && !cluster.is_open(group) {
            self.coordinator_failed(now, link.node, cluster);
        }
    }
}

// How it begins again, and how it ends.
impl Modern {
    /// The group goes on without us: nothing that we have is ours any more.
    fn rejoin(&mut self, now: Instant, cluster: &mut Cluster) {
        self.close_flights();
        if !planted(Defect::KeptWhenFenced) {
            self.lose_everything();
        }
        (self.epoch, self.enrolled) = (0, false);
        self.phase = Phase::Joining;
        self.next_heartbeat = now + self.backoff.next(&mut cluster.random);
    }

    fn lose_everything(&mut self) {
        self.revoking.clear();
        (self.told, self.target) = (None, None);
        if !self.owned.is_empty() {
            let lost = std::mem::take(&mut self.owned).into_keys().collect();
            self.events.push_back(GroupEvent::Lost(lost));
        }
    }

    /// Answers to what is out mean nothing any more, so the next heartbeat says everything.
    fn close_flights(&mut self) {
        self.told = None;
        let out = self.flights.iter_mut().filter(|flight| flight.duty != Duty::Leave);
        out.for_each(|flight| flight.live = false);
    }

    fn say_farewell(&mut self, now: Instant, parting: Parting) {
        if std::mem::take(&mut self.enrolled) {
            self.farewell = self.enrolment.last_epoch(parting).map(|epoch| (now, epoch));
        }
    }

    fn end(&mut self) {
        self.close_flights();
        self.phase = Phase::Over;
        self.owned.clear();
        self.poll_by = None;
    }

    pub(super) fn fail(&mut self, error: Error) {
        if !self.is_over() {
            self.lose_everything();
            self.end();
            self.failure = Some(error.clone());
            self.events.push_back(GroupEvent::Failed(error));
        }
        self.farewell = None;
    }
}

// Time.
impl Modern {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.session_end().into_iter().chain(self.poll_by).min()
    }

    fn session_end(&self) -> Option<Instant> {
        (!self.owned.is_empty()).then(|| self.contact + SESSION)
    }

    pub(super) fn tick(&mut self, now: Instant, _: &mut Cluster) {
        if self.session_end().is_some_and(|at| at <= now) {
            // Others may have it all. If not, the coordinator gives it back when it hears that we have nothing.
            self.close_flights();
            self.lose_everything();
            self.doubt(now);
        }
        if self.poll_by.is_some_and(|at| at <= now) {
            // From here on it is when to look again whether the application has come back.
            self.poll_by = Some(now + self.interval);
            if matches!(self.phase, Phase::Joining | Phase::Member) {
                self.say_farewell(now, Parting::ByKind);
                self.close_flights();
                self.lose_everything();
                self.epoch = 0;
                self.phase = Phase::Idle;
            }
        }
    }

    pub(super) fn step(&mut self, now: Instant, cluster: &mut Cluster) {
        if self.metadata_seen != cluster.metadata.generation {
            self.metadata_seen = cluster.metadata.generation;
            self.reconcile(now, cluster);
        }
        if self.is_over() && self.farewell.is_none() {
            return;
        }
        self.coordinator.step(now, cluster);
        let Some(node) = self.coordinator.node() else { return };
        let link = Link { node, lane: Lane::Group };
        if self.phase != Phase::Idle || self.farewell.is_some() {
            cluster.want(link);
        }
        if self.phase == Phase::Choosing
            && let Some(reason) = choice::lacks(link, self.enrolment.version_needed(), cluster)
        {
            self.phase = Phase::GivenWay { reason, had_a_choice: false };
        }
    }
}

fn flatten(assignment: &GroupAssignment) -> BTreeSet<(Uuid, i32)> {
    let topics = assignment.topic_partitions.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition))).collect()
}

fn request(ask: Ask, version: i16, timeout: Duration) -> Work {
    Work::Request(Request { ask, version, timeout, answered: true })
}
