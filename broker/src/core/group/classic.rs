//! One group of the classic protocol: who its members are, and in which phase of a rebalance it stands.
//!
//! The states and their rules are those of Apache Kafka's group coordinator. The group owns its members and what it last
//! stored; it refuses to know connections and sockets: a member that waits is a [`Ticket`], answered through [`Effects`].
//!
//! Invariant: a ticket that was handed in is answered exactly once, or replaced by a newer one of the same member, which
//! answers the older.

mod member;
mod migration;
mod rebalance;

use super::{Effects, Timer};
use crate::api::Caller;
use crate::core::Ticket;
use bytes::Bytes;
pub(crate) use member::Member;
use member::milliseconds;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{JoinGroupRequest, SyncGroupRequest};
use ottla_protocol::wire::Str;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A new member that waits for its first JoinGroup answer cannot send heartbeats; this is how long it may wait.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// The protocol type of consumers, as against connectors and others that use groups.
const CONSUMER: &str = "consumer";

/// The phases of a group. Dead is not among them: a group that is gone is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }

    /// Every transition that exists.
    fn may_become(self, next: Self) -> bool {
        use State::{CompletingRebalance, Empty, PreparingRebalance, Stable};
        matches!(
            (self, next),
            (Empty | CompletingRebalance | Stable, PreparingRebalance)
                | (PreparingRebalance, CompletingRebalance | Empty)
                | (CompletingRebalance, Stable)
        )
    }
}

/// What survives when the group moves to another coordinator: what it stored when it last became stable or empty.
#[derive(Debug, Clone, Default)]
struct Stored {
    generation: i32,
    protocol_type: Option<Str>,
    protocol: Option<Str>,
    leader: Option<Str>,
    members: BTreeMap<Str, Member>,
}

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Group {
    id: Str,
    state: State,
    previous: State,
    generation: i32,
    protocol_type: Option<Str>,
    protocol: Option<Str>,
    leader: Option<Str>,
    members: BTreeMap<Str, Member>,
    /// Member ids that were given out and must come back in a second JoinGroup (KIP-394).
    pending_join: BTreeSet<Str>,
    /// Members that have not sent the SyncGroup of this generation.
    pending_sync: BTreeSet<Str>,
    /// In the first rebalance: how long each wait for more members lasts, and how much waiting is left.
    initial_delay: Option<(Duration, Duration)>,
    new_member_added: bool,
    stored: Stored,
}

impl Group {
    pub(crate) fn new(id: Str) -> Self {
        Self {
            id,
            state: State::Empty,
            previous: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            initial_delay: None,
            new_member_added: false,
            stored: Stored::default(),
        }
    }

    pub(crate) fn id(&self) -> &Str {
        &self.id
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn protocol_type(&self) -> Option<&Str> {
        self.protocol_type.as_ref()
    }

    pub(crate) fn protocol(&self) -> Option<&Str> {
        self.protocol.as_ref()
    }

    pub(crate) fn members(&self) -> &BTreeMap<Str, Member> {
        &self.members
    }

    /// Handles a JoinGroup whose group id and session timeout are valid.
    pub(crate) fn join(
        &mut self,
        fx: &mut Effects,
        ticket: Ticket,
        request: &JoinGroupRequest,
        caller: &Caller,
    ) {
        let member_id = request.member_id.clone();
        if !self.has_room_for(&member_id, fx.settings.members_max) {
            self.remove(&member_id);
            return fx.join_refused(ticket, ErrorCode::GROUP_MAX_SIZE_REACHED, Str::default());
        }
        if !self.supports_protocols(request) {
            return fx.join_refused(ticket, ErrorCode::INCONSISTENT_GROUP_PROTOCOL, member_id);
        }
        match (member_id.is_empty(), &request.group_instance_id) {
            (true, None) => self.join_as_new(fx, ticket, request, caller),
            (true, Some(instance_id)) => {
                self.join_as_static(fx, ticket, request, caller, &instance_id.clone())
            }
            (false, _) => self.join_again(fx, ticket, request, caller),
        }
    }

    fn join_as_new(&mut self, fx: &mut Effects, ticket: Ticket, request: &JoinGroupRequest, caller: &Caller) {
        let member_id = fx.new_member_id(&caller.client_id);
        if caller.version >= 4 {
            // KIP-394: the member must come back with its id, so that a client which gave up leaves no ghost behind.
            self.pending_join.insert(member_id.clone());
            let timeout = milliseconds(request.session_timeout_ms);
            fx.set(Timer::Session(self.id.clone(), member_id.clone()), timeout);
            return fx.join_refused(ticket, ErrorCode::MEMBER_ID_REQUIRED, member_id);
        }
        self.add(fx, ticket, member_id, request, caller);
    }

    /// KIP-345: a known instance takes over its former member's place, which is thereby fenced.
    fn join_as_static(
        &mut self,
        fx: &mut Effects,
        ticket: Ticket,
        request: &JoinGroupRequest,
        caller: &Caller,
        instance_id: &Str,
    ) {
        let new_id = fx.new_member_id(instance_id);
        let Some(old_id) = self.static_member(instance_id) else {
            return self.add(fx, ticket, new_id, request, caller);
        };
        let former_leader = self.leader.clone();
        self.replace_static(fx, &old_id, &new_id);
        self.expect_heartbeat(fx, &new_id);
        self.update(fx, ticket, &new_id, request, caller.version);
        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                self.store();
                let is_leader = self.leader.as_ref() == Some(&new_id);
                let mut answer = self.join_answer(&new_id);
                if caller.version < 9 {
                    // Before version 9 nothing can say "keep the assignment"; naming the former leader keeps the new
                    // member from assigning (KIP-814).
                    answer.leader = former_leader.unwrap_or_default();
                    answer.members = Vec::new();
                } else {
                    answer.skip_assignment = is_leader;
                }
                self.answer_join(fx, &new_id, answer);
            }
            State::Stable => self.rebalance(fx),
            State::CompletingRebalance => self.prepare_rebalance(fx),
            State::PreparingRebalance | State::Empty => self.complete_join_if_all_are_here(fx),
        }
    }

    fn join_again(&mut self, fx: &mut Effects, ticket: Ticket, request: &JoinGroupRequest, caller: &Caller) {
        let member_id = Str::from(&*request.member_id);
        if self.pending_join.contains(&member_id) {
            return self.add(fx, ticket, member_id, request, caller);
        }
        if let Err(code) = self.check_member(&member_id, request.group_instance_id.as_ref()) {
            return fx.join_refused(ticket, code, member_id);
        }
        let changed = !self.members.get(&member_id).is_some_and(|member| member.says_the_same(request));
        let is_leader = self.leader.as_ref() == Some(&member_id);
        let must_rebalance = match self.state {
            State::PreparingRebalance => true,
            // The same member with the same metadata: it lost the answer, and gets it again.
            State::CompletingRebalance => changed,
            // The leader asks for a rebalance by joining, for instance because partitions were added.
            State::Stable => changed || is_leader,
            State::Empty => return fx.join_refused(ticket, ErrorCode::UNKNOWN_MEMBER_ID, member_id),
        };
        if must_rebalance {
            self.update(fx, ticket, &member_id, request, caller.version);
            self.rebalance(fx);
        } else {
            fx.answer(ticket, self.join_answer(&member_id));
        }
    }

    /// Handles a SyncGroup: the leader's carries the assignments, which end the rebalance.
    pub(crate) fn sync(&mut self, fx: &mut Effects, ticket: Ticket, request: &SyncGroupRequest) {
        if let Err(code) = self.check_sync(request) {
            return fx.sync_refused(ticket, code);
        }
        self.pending_sync.remove(&request.member_id);
        if self.pending_sync.is_empty() {
            fx.cancel(&Timer::Sync(self.id.clone()));
        }
        let Some(member) = self.members.get_mut(&request.member_id) else {
            return fx.sync_refused(ticket, ErrorCode::UNKNOWN_MEMBER_ID);
        };
        if self.state == State::Stable {
            let assignment = member.assignment.clone();
            return fx.answer(ticket, self.sync_answer(assignment));
        }
        if let Some(older) = member.syncing.replace(ticket) {
            fx.sync_refused(older, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        if self.leader.as_ref() == Some(&request.member_id) {
            for (id, member) in &mut self.members {
                let given = request.assignments.iter().find(|it| it.member_id == *id);
                member.assignment =
                    given.map(|it| Bytes::copy_from_slice(&it.assignment)).unwrap_or_default();
            }
            self.become_state(State::Stable);
            self.store();
            self.answer_syncs(fx, ErrorCode::NONE);
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        fx: &mut Effects,
        member_id: &Str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> ErrorCode {
        if let Err(code) = self.check_member(member_id, instance_id) {
            return code;
        }
        if generation != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        self.expect_heartbeat(fx, member_id);
        match self.state {
            State::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            State::CompletingRebalance | State::Stable => ErrorCode::NONE,
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }

    /// One member of a LeaveGroup. The caller ends with [`Group::after_leaving`] when any of them left.
    pub(crate) fn leave(
        &mut self,
        fx: &mut Effects,
        member_id: &Str,
        instance_id: Option<&Str>,
    ) -> ErrorCode {
        // An administrator removes a static member by its instance alone.
        let member_id = match instance_id {
            Some(instance_id) if member_id.is_empty() => match self.static_member(instance_id) {
                Some(member_id) => member_id,
                None => return ErrorCode::UNKNOWN_MEMBER_ID,
            },
            _ => member_id.clone(),
        };
        let is_pending = self.pending_join.contains(&member_id);
        if let Err(code) = self.check_member(&member_id, instance_id)
            && !is_pending
        {
            return code;
        }
        self.expel(fx, &member_id);
        ErrorCode::NONE
    }

    pub(crate) fn after_leaving(&mut self, fx: &mut Effects) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.rebalance(fx),
            State::PreparingRebalance => self.complete_join_if_all_are_here(fx),
            State::Empty => {}
        }
    }

    /// Whether offsets may be committed with this membership. A commit of a member counts as a heartbeat.
    pub(crate) fn check_commit(
        &mut self,
        fx: &mut Effects,
        member_id: &Str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.state == State::Empty {
            // Somebody who assigns partitions by hand.
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.expect_heartbeat(fx, member_id);
        Ok(())
    }

    /// Whether offsets may be committed within a transaction (KIP-447): also while the group rebalances, because the
    /// transaction may have to end before its producer can take part.
    pub(crate) fn check_transactional_commit(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        // Whoever names no member and no generation is from before KIP-447, and trusted.
        let names_nothing = generation < 0 && member_id.is_empty() && instance_id.is_none();
        if names_nothing || (generation < 0 && self.state == State::Empty) {
            return Ok(());
        }
        self.check_member(member_id, instance_id)?;
        if generation == self.generation { Ok(()) } else { Err(ErrorCode::ILLEGAL_GENERATION) }
    }

    /// Whether the members are consumers, who say what they read.
    pub(crate) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    pub(crate) fn session_timed_out(&mut self, fx: &mut Effects, member_id: &Str) {
        if self.pending_join.remove(member_id) {
            self.complete_join_if_all_joined(fx);
            return;
        }
        let Some(member) = self.members.get(member_id) else { return };
        if member.is_waiting() {
            return;
        }
        self.expel(fx, member_id);
        match self.state {
            State::Stable | State::CompletingRebalance => self.rebalance(fx),
            State::PreparingRebalance => self.complete_join_if_all_joined(fx),
            State::Empty => {}
        }
    }

    pub(crate) fn join_timed_out(&mut self, fx: &mut Effects) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if let Some((delay, remaining)) = self.initial_delay
            && self.new_member_added
            && !remaining.is_zero()
        {
            self.new_member_added = false;
            let next = fx.settings.initial_rebalance_delay.min(remaining);
            self.initial_delay = Some((next, remaining.saturating_sub(delay)));
            return fx.set(Timer::Join(self.id.clone()), next);
        }
        self.complete_join(fx);
    }

    pub(crate) fn sync_timed_out(&mut self, fx: &mut Effects) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.pending_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_sync) {
            self.expel(fx, &member_id);
        }
        self.prepare_rebalance(fx);
    }

    /// The coordinator moved: whoever waits must look for the new one, which knows only what was stored.
    pub(crate) fn move_away(&mut self, fx: &mut Effects) {
        let waiting = std::mem::take(&mut self.members);
        for (member_id, member) in waiting {
            fx.cancel(&Timer::Session(self.id.clone(), member_id.clone()));
            if let Some(ticket) = member.joining {
                fx.join_refused(ticket, ErrorCode::NOT_COORDINATOR, member_id);
            }
            if let Some(ticket) = member.syncing {
                fx.sync_refused(ticket, ErrorCode::NOT_COORDINATOR);
            }
        }
        for member_id in &self.pending_join {
            fx.cancel(&Timer::Session(self.id.clone(), member_id.clone()));
        }
        fx.cancel(&Timer::Join(self.id.clone()));
        fx.cancel(&Timer::Sync(self.id.clone()));
        let stored = self.stored.clone();
        let state = if stored.members.is_empty() { State::Empty } else { State::Stable };
        *self = Self {
            state,
            previous: state,
            generation: stored.generation,
            protocol_type: stored.protocol_type.clone(),
            protocol: stored.protocol.clone(),
            leader: stored.leader.clone(),
            members: stored.members.clone(),
            stored,
            ..Self::new(self.id.clone())
        };
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.expect_heartbeat(fx, &member_id);
        }
    }

    fn has_room_for(&self, member_id: &Str, members_max: usize) -> bool {
        let known = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                known.is_some_and(|member| member.joining.is_some()) || self.joining().count() < members_max
            }
            State::CompletingRebalance | State::Stable => known.is_some() || self.members.len() < members_max,
        }
    }

    fn supports_protocols(&self, request: &JoinGroupRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|protocol| self.is_common(&protocol.name))
    }

    fn is_common(&self, protocol: &Str) -> bool {
        self.members.values().all(|member| member.protocols.iter().any(|(name, _)| name == protocol))
    }

    /// Each member votes for the first of its protocols that all support. Equal votes: the leader's preference wins.
    fn select_protocol(&self) -> Option<Str> {
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| self.is_common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let preferred = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let of_leader =
            preferred.into_iter().flat_map(|member| member.protocols.iter().map(|(name, _)| name));
        of_leader.chain(votes.keys().copied()).find(|name| votes.get(name) == Some(&most)).cloned()
    }

    fn static_member(&self, instance_id: &Str) -> Option<Str> {
        let found = self.members.iter().find(|(_, member)| member.instance_id.as_ref() == Some(instance_id));
        found.map(|(member_id, _)| member_id.clone())
    }

    fn check_member(&self, member_id: &Str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_member(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(holder) if holder != *member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = |said: &Option<Str>, ours: &Option<Str>| said.is_some() && said != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    fn add(
        &mut self,
        fx: &mut Effects,
        ticket: Ticket,
        member_id: Str,
        request: &JoinGroupRequest,
        caller: &Caller,
    ) {
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(Str::from(&*request.protocol_type));
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        self.pending_join.remove(&member_id);
        let mut member = Member::new(request, caller);
        member.joining = Some(ticket);
        self.members.insert(member_id.clone(), member);
        fx.set(Timer::Session(self.id.clone(), member_id), NEW_MEMBER_JOIN_TIMEOUT);
        self.rebalance(fx);
    }

    fn update(
        &mut self,
        fx: &mut Effects,
        ticket: Ticket,
        member_id: &Str,
        request: &JoinGroupRequest,
        version: i16,
    ) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.update(request, version);
        if let Some(older) = member.joining.replace(ticket) {
            // Kafka leaves the older request without an answer; a connection that waits for ever helps nobody.
            fx.join_refused(older, ErrorCode::REBALANCE_IN_PROGRESS, member_id.clone());
        }
    }

    fn replace_static(&mut self, fx: &mut Effects, old_id: &Str, new_id: &Str) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        if let Some(ticket) = member.joining.take() {
            fx.join_refused(ticket, ErrorCode::FENCED_INSTANCE_ID, old_id.clone());
        }
        if let Some(ticket) = member.syncing.take() {
            fx.sync_refused(ticket, ErrorCode::FENCED_INSTANCE_ID);
        }
        fx.cancel(&Timer::Session(self.id.clone(), old_id.clone()));
        if self.leader.as_ref() == Some(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.pending_sync.remove(old_id);
        self.members.insert(new_id.clone(), member);
    }

    /// Answers what the member waits for, and forgets it.
    fn expel(&mut self, fx: &mut Effects, member_id: &Str) {
        fx.cancel(&Timer::Session(self.id.clone(), member_id.clone()));
        if let Some(member) = self.remove(member_id) {
            if let Some(ticket) = member.joining {
                fx.join_refused(ticket, ErrorCode::UNKNOWN_MEMBER_ID, Str::default());
            }
            if let Some(ticket) = member.syncing {
                fx.sync_refused(ticket, ErrorCode::UNKNOWN_MEMBER_ID);
            }
        }
    }

    fn remove(&mut self, member_id: &Str) -> Option<Member> {
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        let member = self.members.remove(member_id);
        if self.leader.as_ref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        member
    }

    fn become_state(&mut self, next: State) {
        debug_assert!(self.state.may_become(next), "{:?} never becomes {next:?}", self.state);
        self.previous = self.state;
        self.state = next;
    }

    fn store(&mut self) {
        let mut members = self.members.clone();
        for member in members.values_mut() {
            (member.joining, member.syncing) = (None, None);
        }
        self.stored = Stored {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members,
        };
    }
}
