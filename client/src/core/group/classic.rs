//! One member of one classic group: it joins, shares out as leader, keeps itself alive, and leaves.
//!
//! It owns the phase of the membership and what is out because of it. Heartbeats go on through every phase in which the
//! coordinator knows us; while a JoinGroup or a SyncGroup occupies the Group lane they take the Control lane. Invariant: the
//! reader's partitions are lost here before the session timeout has passed since the last sign of life that we know to have
//! arrived, so no other member can have them already (F10).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse,
};
use ottla_protocol::wire::Str;

use super::assign::{Member, Topics};
use super::leader::Sharing;
use super::membership::Membership;
use super::{GroupEvent, GroupMetadata, Parting, leader};
use crate::config::{Assignor, ClientConfig, ConsumerConfig, Source};
use crate::core::ask::{Answer, Ask};
use crate::core::backoff::Backoff;
use crate::core::cluster::Cluster;
use crate::core::coordinator::{Coordinated, Coordinator};
use crate::core::{Lane, Link, Request, TopicPartition, Work};
use crate::error::{Error, ErrorKind};

/// What a JoinGroup may take longer than the rebalance it waits for.
const JOIN_SLACK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum Phase {
    /// Not a member: the partitions are named by hand, and only the group's offsets are used.
    Alone,
    /// It is not known yet which topics match the pattern.
    Unsubscribed,
    /// A JoinGroup is due at this time, or out.
    Joining {
        after: Instant,
    },
    /// We lead, and wait for the metadata of what the members read, but not for ever.
    Assigning {
        members: Vec<Member>,
        assignor: Assignor,
        until: Instant,
    },
    /// We lead, and a link is to share the partitions out, or does so.
    Sharing(Option<Box<Sharing>>),
    /// A SyncGroup is due at this time, or out.
    Syncing {
        shares: Vec<SyncGroupAssignment>,
        after: Instant,
    },
    Stable,
    /// The reader was told to give these up; we join again when it has.
    Revoking(BTreeSet<TopicPartition>),
    /// We left because the application asks for nothing, and join again when it does.
    Idle,
    /// We left, or were thrown out for good.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Find,
    Join,
    Share,
    Sync,
    Heartbeat,
    Leave,
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) link: Link,
    pub(super) duty: Duty,
    pub(super) sent: Instant,
    pub(super) generation: i32,
    /// False once the membership that it belongs to is gone: its answer means nothing.
    pub(super) live: bool,
}

/// A LeaveGroup that is to be sent.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) member_id: Str,
    pub(super) reason: &'static str,
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(crate) struct Classic {
    pub(super) config: Arc<ConsumerConfig>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) member: Membership,
    pub(super) coordinator: Coordinator,
    pub(super) phase: Phase,
    /// Of a leader: the partitions that it shared out. When there are others, it joins again.
    pub(super) shared_out: Option<Topics>,
    pub(super) metadata_seen: u64,
    /// What the reader has.
    pub(super) owned: BTreeSet<TopicPartition>,
    pub(super) flights: Vec<Flight>,
    pub(super) next_heartbeat: Instant,
    /// When the last request was sent that the coordinator has certainly taken for a sign of life.
    pub(super) contact: Instant,
    /// When the application must have asked for the next record.
    pub(super) poll_by: Option<Instant>,
    /// Why we join (KIP-800).
    pub(super) reason: &'static str,
    pub(super) farewell: Option<Farewell>,
    pub(super) failure: Option<Error>,
    pub(super) backoff: Backoff,
    pub(super) events: VecDeque<GroupEvent>,
}

// What the reader asks for.
impl Classic {
    pub(super) fn new(config: Arc<ConsumerConfig>, client: Arc<ClientConfig>, now: Instant) -> Self {
        let member = Membership::new(config.clone(), &client);
        let is_member = member.subscribes();
        let phase = match is_member {
            false => Phase::Alone,
            true if matches!(config.source, Source::Matching { .. }) => Phase::Unsubscribed,
            true => Phase::Joining { after: now },
        };
        Self {
            coordinator: Coordinator::new(Coordinated::Group, member.group.clone(), is_member, &client, now),
            phase,
            member,
            shared_out: None,
            metadata_seen: 0,
            owned: BTreeSet::new(),
            flights: Vec::new(),
            next_heartbeat: now,
            contact: now,
            poll_by: is_member.then(|| now + config.max_poll_interval),
            reason: "the consumer starts",
            farewell: None,
            failure: None,
            backoff: Backoff::new(client.retry_backoff, client.retry_backoff_max),
            events: VecDeque::new(),
            config,
            client,
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<GroupEvent> {
        self.events.pop_front()
    }

    /// The reader has finished with what `Revoke` named: its last commit is done, or will never be.
    pub(super) fn given_up(&mut self, now: Instant) {
        if let Phase::Revoking(partitions) = &mut self.phase {
            let partitions = std::mem::take(partitions);
            self.owned.retain(|owned| !partitions.contains(owned));
            self.phase = Phase::Joining { after: now };
        }
    }

    /// The application asked for the next record, or waits for one: `max.poll.interval.ms` starts anew.
    pub(super) fn polled(&mut self, now: Instant) {
        match self.phase {
            Phase::Alone | Phase::Over => return,
            Phase::Idle => {
                self.reason = "the application asks for records again";
                self.phase = Phase::Joining { after: now };
            }
            _ => {}
        }
        self.poll_by = Some(now + self.config.max_poll_interval);
    }

    pub(super) fn leave(&mut self, now: Instant, parting: Parting) {
        if !matches!(self.phase, Phase::Over) {
            self.say_farewell(now, parting, "the consumer is being closed");
            self.end();
        }
    }

    /// Whether there is nothing more to tell the coordinator.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Over) && self.farewell.is_none()
    }

    /// Who commits now. `None` while the group is between two generations, and when we belong to none.
    pub(super) fn identity(&self) -> Option<GroupMetadata> {
        match self.phase {
            Phase::Alone => Some(self.member.identity()),
            Phase::Stable | Phase::Revoking(_) | Phase::Joining { .. } if self.member.generation >= 0 => {
                Some(self.member.identity())
            }
            _ => None,
        }
    }

    /// Whether the membership is over for good, because of an error or because we left.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// The error that ended the membership.
    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// The group's name.
    pub(super) fn id(&self) -> &Str {
        &self.member.group
    }

    /// Another answer said that this node does not coordinate the group.
    pub(super) fn coordinator_failed(&mut self, now: Instant, node: i32, cluster: &mut Cluster) {
        if self.coordinator.node() == Some(node) {
            self.coordinator.fail(now, &mut cluster.random);
            self.close_flights("the group's coordinator moved", cluster);
        }
    }

    /// Another answer doubts our membership: let the next heartbeat tell.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.next_heartbeat = self.next_heartbeat.min(now);
    }
}

// What the links ask.
impl Classic {
    pub(super) fn ready_at(&self, link: Link) -> Option<Instant> {
        self.due(link).map(|(at, _)| at)
    }

    pub(super) fn poll_work(&mut self, now: Instant, link: Link, cluster: &mut Cluster) -> Option<Work> {
        let (_, duty) = self.due(link).filter(|(at, _)| *at <= now)?;
        if duty == Duty::Share {
            let Phase::Sharing(sharing) = &mut self.phase else { return None };
            return sharing.take().map(Work::Share);
        }
        let work = match duty {
            Duty::Share | Duty::Find => self.coordinator.ask(link, cluster),
            Duty::Join => self.join(link, cluster),
            Duty::Sync => self.sync(link, cluster),
            Duty::Heartbeat => self.beat(link, cluster),
            Duty::Leave => self.ask_to_leave(link, cluster),
        };
        if work.is_ok() && duty != Duty::Find {
            let live = true;
            self.flights.push(Flight { link, duty, sent: now, generation: self.member.generation, live });
        }
        Some(work.unwrap_or_else(|error| {
            self.fail(error.clone());
            Work::Close(error)
        }))
    }

    fn due(&self, link: Link) -> Option<(Instant, Duty)> {
        let find = self.coordinator.ready_at(link).map(|at| (at, Duty::Find));
        let here = self.coordinator.node() == Some(link.node);
        let own = match link.lane {
            Lane::Group if here => self.due_on_group_lane(link),
            Lane::Control if here => self.due_on_control_lane(link),
            _ => None,
        };
        find.into_iter().chain(own).min_by_key(|(at, _)| *at)
    }

    fn due_on_group_lane(&self, link: Link) -> Option<(Instant, Duty)> {
        if let Phase::Sharing(Some(_)) = self.phase {
            // Nothing is written for it, so it waits for no answer.
            return Some((self.contact, Duty::Share));
        }
        if self.flights.iter().any(|flight| flight.link == link) {
            return None;
        }
        let next = match self.phase {
            Phase::Joining { after } => Some((after, Duty::Join)),
            Phase::Syncing { after, .. } => Some((after, Duty::Sync)),
            _ => None,
        };
        let heartbeat = self.is_alive().then_some((self.next_heartbeat, Duty::Heartbeat));
        next.into_iter().chain(heartbeat).min_by_key(|(at, _)| *at)
    }

    fn due_on_control_lane(&self, link: Link) -> Option<(Instant, Duty)> {
        let out = |duty| {
            self.flights.iter().any(|flight| flight.link == link && flight.duty == duty && flight.live)
        };
        let farewell = self.farewell.as_ref().filter(|_| !out(Duty::Leave)).map(|it| (it.since, Duty::Leave));
        let heartbeat = (self.occupies_group_lane() && !out(Duty::Heartbeat))
            .then_some((self.next_heartbeat, Duty::Heartbeat));
        farewell.into_iter().chain(heartbeat).min_by_key(|(at, _)| *at)
    }

    /// Whether the coordinator expects heartbeats of us.
    fn is_alive(&self) -> bool {
        self.member.generation >= 0 && !matches!(self.phase, Phase::Alone | Phase::Idle | Phase::Over)
    }

    /// Whether heartbeats have to take the other lane.
    fn occupies_group_lane(&self) -> bool {
        let waits = |flight: &Flight| flight.live && matches!(flight.duty, Duty::Join | Duty::Sync);
        self.is_alive() && self.flights.iter().any(waits)
    }

    fn join(&mut self, link: Link, cluster: &mut Cluster) -> Result<Work, Error> {
        let version = cluster.version::<JoinGroupRequest>(link, i16::MAX)?;
        self.member.told.clone_from(&self.member.topics);
        let ask = Ask::JoinGroup(self.member.join_request(&self.owned, self.reason, version)?);
        Ok(request(ask, version, self.config.max_poll_interval + JOIN_SLACK))
    }

    fn sync(&mut self, link: Link, cluster: &mut Cluster) -> Result<Work, Error> {
        let version = cluster.version::<SyncGroupRequest>(link, i16::MAX)?;
        let shares = match &self.phase {
            Phase::Syncing { shares, .. } => shares.clone(),
            _ => Vec::new(),
        };
        // It waits for the leader as a JoinGroup waits for the members.
        let timeout = self.config.max_poll_interval + JOIN_SLACK;
        Ok(request(Ask::SyncGroup(self.member.sync_request(shares)), version, timeout))
    }

    fn beat(&mut self, link: Link, cluster: &mut Cluster) -> Result<Work, Error> {
        let version = cluster.version::<HeartbeatRequest>(link, i16::MAX)?;
        let timeout = Coordinator::heartbeat_timeout(&self.client, self.config.session_timeout);
        Ok(request(Ask::Heartbeat(self.member.heartbeat_request()), version, timeout))
    }

    fn ask_to_leave(&mut self, link: Link, cluster: &mut Cluster) -> Result<Work, Error> {
        let version = cluster.version::<LeaveGroupRequest>(link, i16::MAX)?;
        let farewell = self.farewell.as_ref().map(|it| (it.member_id.clone(), it.reason));
        let (member_id, reason) = farewell.unwrap_or_default();
        let ask = Ask::LeaveGroup(self.member.leave_request(member_id, reason, version));
        Ok(request(ask, version, self.client.request_timeout))
    }
}

// What comes back.
impl Classic {
    /// Takes an answer in, if it answers one of this machine's requests.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        link: Link,
        answer: &Answer,
        cluster: &mut Cluster,
    ) -> bool {
        match answer {
            Answer::JoinGroup(response) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                if let Some(flight) = self.land(link, Duty::Join) {
                    self.joined(now, &flight, response, cluster);
                }
            }
            Answer::SyncGroup(response) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                if let Some(flight) = self.land(link, Duty::Sync) {
                    self.synced(now, &flight, response, cluster);
                }
            }
            Answer::Heartbeat(response) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                if let Some(flight) = self.land(link, Duty::Heartbeat) {
                    self.has_beaten(now, &flight, response, cluster);
                }
            }
            Answer::LeaveGroup(response) => {
                cluster.throttle(now, link, response.throttle_time_ms);
                // Whatever it says: the session timeout does the rest.
                if self.land(link, Duty::Leave).is_some() {
                    self.farewell = None;
                }
            }
            _ => return false,
        }
        true
    }

    /// The request that an answer belongs to, unless it belongs to a membership that is gone (fault 59).
    fn land(&mut self, link: Link, duty: Duty) -> Option<Flight> {
        let at = self.flights.iter().position(|flight| flight.link == link && flight.duty == duty)?;
        Some(self.flights.remove(at)).filter(|flight| flight.live)
    }

    fn joined(&mut self, now: Instant, flight: &Flight, response: &JoinGroupResponse, cluster: &mut Cluster) {
        let code = response.error_code;
        if code == ErrorCode::MEMBER_ID_REQUIRED {
            // KIP-394: the id comes first, so that a client which gives up leaves no ghost behind.
            self.member.member_id = Str::from(&*response.member_id);
            self.phase = Phase::Joining { after: now };
            return;
        }
        if !code.is_ok() {
            return self.refused(now, flight, code, cluster);
        }
        self.prove_contact(flight);
        self.coordinator.alive();
        self.member.generation = response.generation_id;
        self.member.member_id = Str::from(&*response.member_id);
        self.next_heartbeat = now + self.config.heartbeat_interval;
        self.shared_out = None;
        let assignor = match self.member.choose(response.protocol_name.as_deref()) {
            Ok(assignor) => assignor,
            Err(error) => return self.fail(error),
        };
        if response.leader != self.member.member_id {
            self.phase = Phase::Syncing { shares: Vec::new(), after: now };
            return;
        }
        let members = leader::read_members(&assignor, &response.members);
        if response.skip_assignment {
            // KIP-814: a static leader that came back watches the topics, but leaves the shares as they are.
            self.shared_out = Some(leader::topics(&members, cluster));
            self.phase = Phase::Syncing { shares: Vec::new(), after: now };
            return;
        }
        members.iter().flat_map(|member| &member.topics).for_each(|topic| cluster.metadata.want(now, topic));
        self.phase = Phase::Assigning { members, assignor, until: now + self.client.request_timeout };
        self.share_out(false, cluster);
    }

    /// As leader: has the partitions shared out, when the metadata of every topic is there or the wait for it is over.
    fn share_out(&mut self, over: bool, cluster: &Cluster) {
        let Phase::Assigning { members, assignor, .. } = &mut self.phase else { return };
        let metadata = &cluster.metadata;
        let is_clear = |topic: &Str| metadata.topic(topic).is_some() || metadata.error(topic).is_some();
        if !over && !members.iter().flat_map(|member| &member.topics).all(is_clear) {
            return;
        }
        let topics = leader::topics(members, cluster);
        self.shared_out = Some(topics.clone());
        let sharing = Sharing {
            group: self.member.group.clone(),
            generation: self.member.generation,
            assignor: assignor.clone(),
            members: std::mem::take(members),
            topics,
        };
        self.phase = Phase::Sharing(Some(Box::new(sharing)));
    }

    /// The partitions are shared out, unless the group has gone on meanwhile.
    pub(super) fn shared(
        &mut self,
        now: Instant,
        generation: i32,
        shares: Result<Vec<SyncGroupAssignment>, Error>,
    ) {
        if generation == self.member.generation && matches!(self.phase, Phase::Sharing(None)) {
            match shares {
                Ok(shares) => self.phase = Phase::Syncing { shares, after: now },
                Err(error) => self.fail(error),
            }
        }
    }

    fn synced(&mut self, now: Instant, flight: &Flight, response: &SyncGroupResponse, cluster: &mut Cluster) {
        if !response.error_code.is_ok() {
            return self.refused(now, flight, response.error_code, cluster);
        }
        match leader::read_share(response.assignment.clone()) {
            Ok(share) => {
                self.prove_contact(flight);
                self.backoff.reset();
                self.next_heartbeat = now + self.config.heartbeat_interval;
                self.take_up(share);
            }
            Err(e) => {
                let message =
                    format!("group {}: the leader's assignment cannot be read: {e}", self.member.group);
                self.fail(Error::new(ErrorKind::Protocol, message).with_source(e));
            }
        }
    }

    /// Tells the reader what it has from now on. An eager member has given everything up before it joined.
    fn take_up(&mut self, share: Vec<TopicPartition>) {
        // What was not asked for is refused: a broken leader must not make the application read it.
        let subscribed = |partition: &TopicPartition| {
            self.member.topics.contains(&partition.topic) && partition.partition >= 0
        };
        let share: BTreeSet<TopicPartition> = share.into_iter().filter(subscribed).collect();
        self.member.remember(share.iter().cloned());
        let revoked: BTreeSet<TopicPartition> = self.owned.difference(&share).cloned().collect();
        let added: Vec<TopicPartition> = share.difference(&self.owned).cloned().collect();
        if revoked.is_empty() {
            self.phase = Phase::Stable;
        } else {
            // KIP-429: their new owners get them in the next generation, which begins when we have joined without them.
            self.reason = "partitions were given up for other members";
            self.events.push_back(GroupEvent::Revoke(revoked.iter().cloned().collect()));
            self.phase = Phase::Revoking(revoked);
        }
        if !added.is_empty() {
            self.owned.extend(added.iter().cloned());
            self.events.push_back(GroupEvent::Assign(added));
        }
    }

    fn has_beaten(
        &mut self,
        now: Instant,
        flight: &Flight,
        response: &HeartbeatResponse,
        cluster: &mut Cluster,
    ) {
        self.next_heartbeat = now + self.config.heartbeat_interval;
        self.member.topics.iter().for_each(|topic| cluster.metadata.want(now, topic));
        if flight.generation != self.member.generation {
            return;
        }
        match response.error_code {
            ErrorCode::NONE => {
                self.prove_contact(flight);
                self.coordinator.alive();
            }
            ErrorCode::REBALANCE_IN_PROGRESS => {
                self.prove_contact(flight);
                if matches!(self.phase, Phase::Stable) {
                    self.join_again(now, "the group rebalances");
                }
            }
            // The answer that says so properly is on its way on the other lane.
            ErrorCode::ILLEGAL_GENERATION if matches!(self.phase, Phase::Joining { .. }) => {}
            code => self.refused(now, flight, code, cluster),
        }
    }

    fn prove_contact(&mut self, flight: &Flight) {
        self.contact = self.contact.max(flight.sent);
    }

    /// What the codes of JoinGroup, SyncGroup and Heartbeat have in common.
    fn refused(&mut self, now: Instant, flight: &Flight, code: ErrorCode, cluster: &mut Cluster) {
        match code {
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                self.coordinator_failed(now, flight.link.node, cluster);
                self.postpone(flight.duty, now);
            }
            ErrorCode::REBALANCE_IN_PROGRESS if !matches!(self.phase, Phase::Joining { .. }) => {
                self.join_again(now, "the group rebalances");
            }
            ErrorCode::ILLEGAL_GENERATION => {
                self.lose_membership(now, "the group went on without this member", cluster);
            }
            ErrorCode::UNKNOWN_MEMBER_ID => {
                self.member.member_id = Str::default();
                self.lose_membership(now, "the coordinator forgot this member", cluster);
            }
            code if code.is_retriable() || code == ErrorCode::REBALANCE_IN_PROGRESS => {
                let after = now + self.backoff.next(&mut cluster.random);
                self.postpone(flight.duty, after);
            }
            // What went wrong in the coordinator says nothing of us.
            ErrorCode::UNKNOWN_SERVER_ERROR if self.coordinator.may_relent(now) => {
                let after = now + self.backoff.next(&mut cluster.random);
                self.postpone(flight.duty, after);
            }
            code => self.fail(self.member.describe(code)),
        }
    }

    /// The same request again, at this time.
    fn postpone(&mut self, duty: Duty, at: Instant) {
        match &mut self.phase {
            Phase::Joining { after } if duty == Duty::Join => *after = at,
            Phase::Syncing { after, .. } if duty == Duty::Sync => *after = at,
            _ => self.next_heartbeat = at,
        }
    }

    /// What was out on the link is unanswered.
    pub(super) fn lost(&mut self, now: Instant, link: Link, cluster: &mut Cluster) {
        self.coordinator.lost(now, link, &mut cluster.random);
        let (lost, kept) =
            std::mem::take(&mut self.flights).into_iter().partition(|flight| flight.link == link);
        self.flights = kept;
        for flight in Vec::<Flight>::into_iter(lost).filter(|flight| flight.live) {
            match flight.duty {
                // Best effort: the session timeout does the rest.
                Duty::Leave => self.farewell = None,
                duty => self.postpone(duty, now),
            }
        }
        // A Control link may have been idle; while the Group link is open, the broker is there.
        let group = Link { node: link.node, lane: Lane::Group };
        if matches!(link.lane, Lane::Group | Lane::Control) && !cluster.is_open(group) {
            self.coordinator_failed(now, link.node, cluster);
        }
    }
}

// Time.
impl Classic {
    /// The session timeout as judged here, `max.poll.interval.ms`, and the leader's patience.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let patience = match self.phase {
            Phase::Assigning { until, .. } => Some(until),
            _ => None,
        };
        [self.session_end(), self.poll_by, patience].into_iter().flatten().min()
    }

    fn session_end(&self) -> Option<Instant> {
        (self.member.generation >= 0 && !self.owned.is_empty())
            .then(|| self.contact + self.config.session_timeout)
    }

    pub(super) fn tick(&mut self, now: Instant, cluster: &mut Cluster) {
        if self.session_end().is_some_and(|at| at <= now) {
            self.lose_membership(now, "no sign of life arrived within the session timeout", cluster);
        }
        if self.poll_by.is_some_and(|at| at <= now) && matches!(self.phase, Phase::Idle) {
            self.poll_by = Some(now + self.config.heartbeat_interval);
        } else if self.poll_by.is_some_and(|at| at <= now) {
            // From here on it is when to look again whether the application has come back.
            self.poll_by = Some(now + self.config.heartbeat_interval);
            self.close_flights("the application asks for no records", cluster);
            let reason = "the application asked for no record within max.poll.interval.ms";
            self.say_farewell(now, Parting::ByKind, reason);
            self.lose_everything();
            self.phase = Phase::Idle;
        }
        if matches!(self.phase, Phase::Assigning { until, .. } if until <= now) {
            self.share_out(true, cluster);
        }
    }

    /// Goes on as far as it can: wants the links that it needs, and looks at the metadata if there is news. To be called after
    /// whatever may have changed something.
    pub(super) fn step(&mut self, now: Instant, cluster: &mut Cluster) {
        // News that come in between are looked at when the phase is one that can follow them.
        if matches!(self.phase, Phase::Stable | Phase::Assigning { .. })
            && self.metadata_seen != cluster.metadata.generation
        {
            self.metadata_seen = cluster.metadata.generation;
            if matches!(self.phase, Phase::Stable) && self.has_other_partitions(cluster) {
                self.join_again(now, "the topics have other partitions");
            }
            self.share_out(false, cluster);
        }
        self.follow_subscription(now);
        if matches!(self.phase, Phase::Over) && self.farewell.is_none() {
            return;
        }
        self.coordinator.step(now, cluster);
        let Some(node) = self.coordinator.node() else { return };
        if self.farewell.is_some() || self.occupies_group_lane() {
            cluster.want(Link { node, lane: Lane::Control });
        }
        if !matches!(self.phase, Phase::Alone | Phase::Idle | Phase::Over) {
            cluster.want(Link { node, lane: Lane::Group });
        }
    }

    fn has_other_partitions(&self, cluster: &Cluster) -> bool {
        self.shared_out.as_ref().is_some_and(|topics| leader::have_changed(topics, cluster))
    }
}

fn request(ask: Ask, version: i16, timeout: Duration) -> Work {
    Work::Request(Request { ask, version, timeout, answered: true })
}
