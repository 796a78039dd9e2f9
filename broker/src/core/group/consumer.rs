//! One group of the consumer protocol (KIP-848): the broker assigns, and members reconcile one by one.
//!
//! The group owns its members, its epoch, and the target of each member. Members report by heartbeats and are told what to
//! own; nobody waits for anybody in an answer. Members of the classic protocol may be among them, see [`classic`]. It
//! refuses to know connections, and how messages are checked that make no sense on their own.
//!
//! Invariant: a partition is held by one member at a time, and epochs of the group only grow.

pub(crate) mod assign;
mod classic;
mod member;
mod migration;
mod patterns;

use super::{Effects, Refusal, Timer};
use crate::api::Caller;
use crate::core::topics::{Topic, Topics};
use assign::{Assignor, Reader, Reading};
use member::{Aim, LEFT_FOR_A_WHILE, Progress};
pub(crate) use member::{Classic, Member, Place, Places};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupAssignment, GroupTopicPartitions,
};
use ottla_protocol::wire::{Str, Uuid};
use patterns::Patterns;
pub(crate) use patterns::check_pattern;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The epoch of a member that leaves for good.
pub(crate) const LEAVES: i32 = -1;

/// The epoch of a static member that leaves and will come back.
pub(crate) const LEAVES_FOR_A_WHILE: i32 = LEFT_FOR_A_WHILE;

/// The phases of a group, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Assigning,
    Reconciling,
    Stable,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Group {
    id: Str,
    epoch: i32,
    members: BTreeMap<Str, Member>,
    /// The topics that members subscribe to, as far as they exist: their ids, and how many partitions they have.
    topics: BTreeMap<Str, (Uuid, i32)>,
    assignment_epoch: i32,
    targets: BTreeMap<Str, Places>,
    assigned_at: Option<Instant>,
    patterns: Patterns,
}

impl Group {
    pub(crate) fn new(id: Str) -> Self {
        Self {
            id,
            epoch: 1,
            members: BTreeMap::new(),
            topics: BTreeMap::new(),
            assignment_epoch: 1,
            targets: BTreeMap::new(),
            assigned_at: None,
            patterns: Patterns::default(),
        }
    }

    pub(crate) fn state(&self) -> State {
        match () {
            () if self.members.is_empty() => State::Empty,
            () if self.epoch > self.assignment_epoch => State::Assigning,
            () if self.members.values().all(|member| member.is_at(self.assignment_epoch)) => State::Stable,
            () => State::Reconciling,
        }
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(crate) fn assignment_epoch(&self) -> i32 {
        self.assignment_epoch
    }

    pub(crate) fn assignor(&self) -> Assignor {
        Assignor::elect(self.members.values().filter_map(|member| member.assignor.as_ref()))
    }

    pub(crate) fn members(&self) -> &BTreeMap<Str, Member> {
        &self.members
    }

    /// What a member should own.
    pub(crate) fn target(&self, member_id: &str) -> impl Iterator<Item = &Place> {
        self.targets.get(member_id).into_iter().flatten()
    }

    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| self.subscription(member).any(|name| &**name == topic))
    }

    /// Handles the heartbeat of a member that joins or is in the group. What makes no sense on its own was refused before.
    pub(crate) fn heartbeat(
        &mut self,
        fx: &mut Effects,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        self.check_room(fx, &request.member_id, request.instance_id.as_ref())?;
        let owned = request.topic_partitions.as_deref().map(flatten);
        // The id is copied, or the member would hold on to the frame that it came in.
        let member_id = match request.member_id.is_empty() {
            true => fx.new_id(),
            false => Str::from(&*request.member_id),
        };
        self.enter(fx, caller, request, &member_id, owned.as_ref())?;
        let Some(member) = self.members.get_mut(&member_id) else {
            return Err(self.unknown(&member_id));
        };
        let before: Places = member.assigned.keys().copied().collect();
        let former = (member.topics.clone(), member.pattern.clone());
        tell(member, caller, request);
        let named_others = member.topics != former.0;
        let resubscribed = named_others || self.changed_pattern(&member_id, former.1.as_ref());
        self.advance(fx, &member_id, resubscribed, owned.as_ref());
        fx.set(Timer::Session(self.id.clone(), member_id.clone()), fx.settings.consumer_session_timeout);
        self.match_patterns_soon(fx);
        Ok(self.heartbeat_answer(fx, &member_id, &before, request))
    }

    fn heartbeat_answer(
        &self,
        fx: &Effects,
        member_id: &Str,
        before: &Places,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let Some(member) = self.members.get(member_id) else {
            return ConsumerGroupHeartbeatResponse::default();
        };
        // Whoever says everything about itself is told everything: it joins, or has lost an answer.
        let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
        let says_all = request.rebalance_timeout_ms >= 0 && subscribes && request.topic_partitions.is_some();
        let is_asked = request.member_epoch == 0 || says_all;
        let has_changed = !member.assigned.keys().eq(before);
        let assignment = (is_asked || has_changed)
            .then(|| GroupAssignment { topic_partitions: by_topic(member.assigned.keys()) });
        ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.clone()),
            member_epoch: member.epoch,
            heartbeat_interval_ms: i32::try_from(fx.settings.consumer_heartbeat_interval.as_millis())
                .unwrap_or(i32::MAX),
            assignment,
            ..ConsumerGroupHeartbeatResponse::default()
        }
    }

    /// Finds the member, or makes it when it joins.
    fn enter(
        &mut self,
        fx: &mut Effects,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
        owned: Option<&Places>,
    ) -> Result<(), Refusal> {
        let joins = request.member_epoch == 0;
        let Some(instance_id) = request.instance_id.as_ref() else {
            if joins {
                self.members.entry(member_id.clone()).or_insert_with(|| Member::new(caller));
            }
            return self.check_epoch(member_id, request.member_epoch, owned);
        };
        if !joins {
            self.check_instance(member_id, instance_id)?;
            return self.check_epoch(member_id, request.member_epoch, owned);
        }
        let holder = self.static_member(instance_id);
        if let Some((holder_id, holder)) = holder
            && holder.classic.is_none()
            && holder.epoch != LEFT_FOR_A_WHILE
        {
            let message = format!(
                "Static member {member_id} with instance id {instance_id} cannot join the group because the instance id is owned by {holder_id} member."
            );
            return Err(Refusal { code: ErrorCode::UNRELEASED_INSTANCE_ID, message });
        }
        self.enter_as_instance(fx, caller, member_id, instance_id);
        Ok(())
    }

    /// KIP-345: a member with a known instance takes over its former self's place and share.
    fn enter_as_instance(&mut self, fx: &mut Effects, caller: &Caller, member_id: &Str, instance_id: &Str) {
        let former = self.static_member(instance_id).map(|(id, _)| id.clone());
        let Some((former_id, member)) = former.and_then(|id| self.members.remove_entry(&id)) else {
            self.members.entry(member_id.clone()).or_insert_with(|| Member::new(caller));
            return;
        };
        cancel_timers(fx, &self.id, &former_id);
        if let Some(target) = self.targets.remove(&former_id) {
            self.targets.insert(member_id.clone(), target);
        }
        self.members.insert(member_id.clone(), Member { epoch: 0, previous_epoch: 0, ..member });
    }

    /// Brings the group and one member up to date: which topics there are, the epoch, the targets, what the member owns.
    fn advance(&mut self, fx: &mut Effects, member_id: &Str, resubscribed: bool, owned: Option<&Places>) {
        let topics = self.read_topics(fx.topics);
        if resubscribed || topics != self.topics {
            self.topics = topics;
            self.epoch += 1;
        }
        let interval = fx.settings.consumer_assignment_interval;
        if self.epoch > self.assignment_epoch && self.assigned_at.is_none_or(|at| fx.now >= at + interval) {
            self.targets = self.assignor().assign(&self.reading());
            self.assignment_epoch = self.epoch;
            self.assigned_at = Some(fx.now);
        }
        self.reconcile(fx, member_id, resubscribed, owned);
    }

    fn reconcile(&mut self, fx: &mut Effects, member_id: &Str, resubscribed: bool, owned: Option<&Places>) {
        let subscribed =
            self.members.get(member_id).map(|member| self.subscribed(member)).unwrap_or_default();
        let target: Places =
            self.target(member_id).filter(|(topic, _)| subscribed.contains(topic)).copied().collect();
        let others = self.members.iter().filter(|(id, _)| *id != member_id);
        let taken: Places = others.flat_map(|(_, member)| member.held()).copied().collect();
        let aim = Aim {
            epoch: self.assignment_epoch,
            target: &target,
            subscribed: &subscribed,
            taken: &taken,
            owned,
        };
        let Some(member) = self.members.get_mut(member_id) else { return };
        let before = member.clone();
        member.reconcile(&aim, resubscribed);
        // Its time begins when it is told, and not again while it goes on as before.
        if *member != before && member.progress == Progress::Revoking && member.classic.is_none() {
            fx.set(Timer::Revoke(self.id.clone(), member_id.clone()), member.rebalance_timeout);
        }
    }

    /// A member leaves, for good or for a while. The caller ends with [`Group::after_leaving`] when it left for good.
    pub(crate) fn leave(
        &mut self,
        fx: &mut Effects,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let member_id = &request.member_id;
        if let Some(instance_id) = &request.instance_id {
            self.check_instance(member_id, instance_id)?;
        }
        let Some(member) = self.members.get_mut(member_id) else { return Err(self.unknown(member_id)) };
        if request.member_epoch == LEAVES_FOR_A_WHILE {
            member.epoch = LEFT_FOR_A_WHILE;
            member.revoking.clear();
            fx.cancel(&Timer::Revoke(self.id.clone(), member_id.clone()));
        } else {
            self.remove(fx, member_id);
        }
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.clone()),
            member_epoch: request.member_epoch,
            ..ConsumerGroupHeartbeatResponse::default()
        })
    }

    /// Forgets a member. False when there is no such member.
    pub(crate) fn remove(&mut self, fx: &mut Effects, member_id: &str) -> bool {
        let member_id = Str::from(member_id);
        cancel_timers(fx, &self.id, &member_id);
        self.targets.remove(&member_id);
        self.members.remove(&member_id).is_some()
    }

    pub(crate) fn after_leaving(&mut self, fx: &Effects) {
        self.topics = self.read_topics(fx.topics);
        self.epoch += 1;
        if self.members.is_empty() {
            self.assignment_epoch = self.epoch;
        }
    }

    /// The member that had to give something up in time, if it still has not.
    pub(crate) fn is_late(&self, member_id: &str) -> bool {
        self.members.get(member_id).is_some_and(|member| member.progress == Progress::Revoking)
    }

    /// Matches the patterns of all members against the topics that there are.
    pub(crate) fn match_patterns(&mut self, fx: &Effects) {
        let patterns = self.all_patterns();
        if self.patterns.refresh(&patterns, fx.topics, fx.now) {
            self.topics = self.read_topics(fx.topics);
            self.epoch += 1;
        }
    }

    /// The coordinator moved. The new one knows all of the group but how long members have been silent.
    pub(crate) fn move_away(&mut self, fx: &mut Effects) {
        for (member_id, member) in &self.members {
            cancel_timers(fx, &self.id, member_id);
            let session = member.classic.as_ref().map(|classic| classic.session_timeout);
            let session = session.unwrap_or(fx.settings.consumer_session_timeout);
            fx.set(Timer::Session(self.id.clone(), member_id.clone()), session);
            if member.classic.is_none() && member.progress == Progress::Revoking {
                fx.set(Timer::Revoke(self.id.clone(), member_id.clone()), member.rebalance_timeout);
            }
        }
    }

    /// Whether offsets may be committed with this epoch. An older one counts for what the member has had since: that is
    /// left to [`Group::check_commit_of`].
    pub(crate) fn check_commit(
        &self,
        member_id: &str,
        instance_id: Option<&Str>,
        epoch: i32,
        in_transaction: bool,
        version: i16,
    ) -> Result<(), ErrorCode> {
        if epoch < 0 && self.members.is_empty() {
            // Somebody who assigns partitions by hand.
            return Ok(());
        }
        if in_transaction && epoch == -1 && member_id.is_empty() && instance_id.is_none() {
            // From before KIP-447, and trusted.
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if !in_transaction && member.classic.is_none() && version < 9 {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        match epoch > member.epoch {
            true => Err(stale(member)),
            false => Ok(()),
        }
    }

    /// KIP-1251: whether a member may commit for one partition with an epoch that is not its newest.
    pub(crate) fn check_commit_of(
        &self,
        member_id: &str,
        epoch: i32,
        place: &Place,
    ) -> Result<(), ErrorCode> {
        let Some(member) = self.members.get(member_id).filter(|member| member.epoch != epoch) else {
            return Ok(());
        };
        match member.held_since(place) {
            Some(since) if epoch >= since => Ok(()),
            _ => Err(stale(member)),
        }
    }

    /// Whether this member may ask what is committed. Whoever names no member is an administrator.
    pub(crate) fn check_fetch(&self, member_id: Option<&Str>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|id| self.members.get(id)).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch == epoch { Ok(()) } else { Err(stale(member)) }
    }

    /// Whoever is in the group has its place, and so has who takes over an instance.
    fn check_room(&self, fx: &Effects, member_id: &str, instance_id: Option<&Str>) -> Result<(), Refusal> {
        let most = fx.settings.consumer_members_max;
        let is_known = self.members.contains_key(member_id)
            || instance_id.is_some_and(|instance_id| self.static_member(instance_id).is_some());
        if is_known || self.members.len() < most {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {most} members.");
        Err(Refusal { code: ErrorCode::GROUP_MAX_SIZE_REACHED, message })
    }

    /// An answer may have been lost: so the epoch of before is good as well, with nothing that is not the member's now.
    fn check_epoch(&self, member_id: &Str, epoch: i32, owned: Option<&Places>) -> Result<(), Refusal> {
        let member = self.members.get(member_id).ok_or_else(|| self.unknown(member_id))?;
        let owns_its_own =
            || owned.is_some_and(|it| it.iter().all(|place| member.assigned.contains_key(place)));
        let side = match epoch {
            0 => return Ok(()),
            _ if epoch == member.epoch => return Ok(()),
            _ if epoch > member.epoch => "greater",
            _ if epoch == member.previous_epoch && owns_its_own() => return Ok(()),
            _ => "smaller",
        };
        let message = format!(
            "The consumer group member has a {side} member epoch ({epoch}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
            member.epoch
        );
        Err(Refusal { code: ErrorCode::FENCED_MEMBER_EPOCH, message })
    }

    /// KIP-345: whether this member still stands for the instance.
    fn check_instance(&self, member_id: &Str, instance_id: &Str) -> Result<(), Refusal> {
        let (code, message) = match self.static_member(instance_id) {
            None => (ErrorCode::UNKNOWN_MEMBER_ID, format!("Instance id {instance_id} is unknown.")),
            Some((holder, _)) if holder != member_id => (
                ErrorCode::FENCED_INSTANCE_ID,
                format!(
                    "Static member {member_id} with instance id {instance_id} was fenced by member {holder}."
                ),
            ),
            Some(_) => return Ok(()),
        };
        Err(Refusal { code, message })
    }

    fn unknown(&self, member_id: &str) -> Refusal {
        let message = format!("Member {member_id} is not a member of group {}.", self.id);
        Refusal { code: ErrorCode::UNKNOWN_MEMBER_ID, message }
    }

    fn static_member(&self, instance_id: &Str) -> Option<(&Str, &Member)> {
        self.members.iter().find(|(_, member)| member.instance_id.as_ref() == Some(instance_id))
    }

    /// A pattern whose topics are not known yet changes nothing until they are.
    fn changed_pattern(&self, member_id: &Str, former: Option<&Str>) -> bool {
        let pattern = self.members.get(member_id).and_then(|member| member.pattern.as_ref());
        pattern != former && pattern.is_none_or(|pattern| self.patterns.has(pattern))
    }

    fn match_patterns_soon(&self, fx: &mut Effects) {
        if self.patterns.want_refresh(&self.all_patterns(), fx.topics, fx.now) {
            fx.set(Timer::Patterns(self.id.clone()), Duration::ZERO);
        }
    }

    fn all_patterns(&self) -> BTreeSet<Str> {
        self.members.values().filter_map(|member| member.pattern.clone()).collect()
    }

    fn subscription<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a Str> {
        let matched = member.pattern.iter().flat_map(|pattern| self.patterns.topics(pattern));
        member.topics.iter().chain(matched)
    }

    fn subscribed(&self, member: &Member) -> BTreeSet<Uuid> {
        self.subscription(member).filter_map(|name| self.topics.get(name)).map(|(id, _)| *id).collect()
    }

    fn read_topics(&self, topics: &Topics) -> BTreeMap<Str, (Uuid, i32)> {
        let names = self.members.values().flat_map(|member| self.subscription(member));
        let read = names.filter_map(|name| topics.get(name)).map(|topic: &Topic| {
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            (topic.name.clone(), (topic.id, count))
        });
        read.collect()
    }

    fn reading(&self) -> Reading {
        let readers = self.members.iter().map(|(id, member)| {
            let former = self.targets.get(id).cloned().unwrap_or_default();
            let reader =
                Reader { instance_id: member.instance_id.clone(), topics: self.subscribed(member), former };
            (id.clone(), reader)
        });
        Reading { readers: readers.collect(), topics: self.topics.values().copied().collect() }
    }
}

fn cancel_timers(fx: &mut Effects, group: &Str, member_id: &Str) {
    for timer in [Timer::Session, Timer::Revoke, Timer::Rejoin, Timer::Resync] {
        fx.cancel(&timer(group.clone(), member_id.clone()));
    }
}

/// The member takes over what a heartbeat says. What is left out stays as it is.
fn tell(member: &mut Member, caller: &Caller, request: &ConsumerGroupHeartbeatRequest) {
    let copied = |text: &Option<Str>| text.as_deref().map(Str::from);
    member.client_id = Str::from(&*caller.client_id);
    member.client_host = Str::from(&*caller.host);
    member.classic = None;
    member.instance_id = copied(&request.instance_id).or(member.instance_id.take());
    member.rack_id = copied(&request.rack_id).or(member.rack_id.take());
    member.assignor = copied(&request.server_assignor).or(member.assignor.take());
    if let Ok(ms) = u64::try_from(request.rebalance_timeout_ms) {
        member.rebalance_timeout = Duration::from_millis(ms);
    }
    if let Some(names) = &request.subscribed_topic_names {
        member.topics = names.iter().map(|name| Str::from(&**name)).collect();
    }
    if let Some(pattern) = &request.subscribed_topic_regex {
        member.pattern = Some(Str::from(&**pattern)).filter(|pattern| !pattern.is_empty());
    }
}

/// What a member is told that commits or asks with the wrong epoch.
fn stale(member: &Member) -> ErrorCode {
    match member.classic {
        Some(_) => ErrorCode::ILLEGAL_GENERATION,
        None => ErrorCode::STALE_MEMBER_EPOCH,
    }
}

fn flatten(topics: &[GroupTopicPartitions]) -> Places {
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index))).collect()
}

fn by_topic<'a>(places: impl Iterator<Item = &'a Place>) -> Vec<GroupTopicPartitions> {
    let mut topics: Vec<GroupTopicPartitions> = Vec::new();
    for (topic_id, index) in places {
        match topics.last_mut().filter(|last| last.topic_id == *topic_id) {
            Some(last) => last.partitions.push(*index),
            None => topics.push(GroupTopicPartitions { topic_id: *topic_id, partitions: vec![*index] }),
        }
    }
    topics
}
