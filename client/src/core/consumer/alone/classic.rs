//! A toy coordinator of one classic group, and a log for each partition.
//!
//! It owns the phases of a rebalance, and what is committed. It refuses to know what members do with their shares.
//! Invariant: a generation begins when all members have joined, or those who have not had their time.

use super::*;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Phase {
    Joining,
    Syncing,
    Stable,
}

/// A member as the group sees it.
pub(super) struct Enrolled {
    pub(super) seen: Instant,
    pub(super) subscription: JoinGroupProtocol,
    pub(super) joining: Option<From>,
    pub(super) syncing: Option<From>,
}

/// A coordinator of one classic group, and a log for each partition.
pub(super) struct Peer {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) next_member: u32,
    pub(super) members: BTreeMap<Str, Enrolled>,
    pub(super) leader: Str,
    pub(super) shares: BTreeMap<Str, Bytes>,
    pub(super) committed: BTreeMap<i32, i64>,
    pub(super) ends: Vec<i64>,
}

impl Peer {
    pub(super) fn rebalance(&mut self, out: &mut Vec<(From, Answer)>) {
        self.phase = Phase::Joining;
        for member in self.members.values_mut() {
            let error_code = ErrorCode::REBALANCE_IN_PROGRESS;
            let answer = Answer::SyncGroup(SyncGroupResponse { error_code, ..Default::default() });
            out.extend(member.syncing.take().map(|from| (from, answer)));
        }
    }

    pub(super) fn join(
        &mut self,
        now: Instant,
        from: From,
        request: &JoinGroupRequest,
        out: &mut Vec<(From, Answer)>,
    ) {
        let mut id = request.member_id.clone();
        if id.is_empty() {
            self.next_member += 1;
            id = format!("member-{}", self.next_member).as_str().into();
        } else if !self.members.contains_key(&id) {
            let error_code = ErrorCode::UNKNOWN_MEMBER_ID;
            let answer = JoinGroupResponse { error_code, ..Default::default() };
            return out.push((from, Answer::JoinGroup(answer)));
        }
        let subscription = request.protocols[0].clone();
        self.members.insert(id, Enrolled { seen: now, subscription, joining: Some(from), syncing: None });
        if self.phase != Phase::Joining {
            self.rebalance(out);
        }
    }

    /// All have joined, or those who have not had their time.
    pub(super) fn end_joining(&mut self, now: Instant, out: &mut Vec<(From, Answer)>) {
        if self.phase != Phase::Joining || self.members.is_empty() {
            return;
        }
        let late = |m: &Enrolled| m.joining.is_none() && m.seen + SESSION <= now;
        self.members.retain(|_, member| !late(member));
        if self.members.values().any(|member| member.joining.is_none()) {
            return;
        }
        let Some(leader) = self.members.keys().next().cloned() else { return };
        self.generation += 1;
        (self.phase, self.shares, self.leader) = (Phase::Syncing, BTreeMap::new(), leader.clone());
        let all = |(id, member): (&Str, &Enrolled)| JoinGroupMember {
            member_id: id.clone(),
            group_instance_id: None,
            metadata: member.subscription.metadata.clone(),
        };
        let everybody: Vec<JoinGroupMember> = self.members.iter().map(all).collect();
        for (id, member) in &mut self.members {
            member.seen = now;
            let answer = JoinGroupResponse {
                generation_id: self.generation,
                protocol_name: Some(member.subscription.name.clone()),
                leader: leader.clone(),
                member_id: id.clone(),
                members: if *id == leader { everybody.clone() } else { Vec::new() },
                ..Default::default()
            };
            out.extend(member.joining.take().map(|from| (from, Answer::JoinGroup(answer))));
        }
    }

    /// Whether somebody may act in the group now.
    pub(super) fn check(&self, id: &Str, generation: i32) -> ErrorCode {
        if !self.members.contains_key(id) {
            ErrorCode::UNKNOWN_MEMBER_ID
        } else if generation != self.generation {
            ErrorCode::ILLEGAL_GENERATION
        } else {
            ErrorCode::NONE
        }
    }

    pub(super) fn sync(
        &mut self,
        now: Instant,
        from: From,
        request: &SyncGroupRequest,
        out: &mut Vec<(From, Answer)>,
    ) {
        let mut error_code = self.check(&request.member_id, request.generation_id);
        if error_code.is_ok() && self.phase == Phase::Joining {
            error_code = ErrorCode::REBALANCE_IN_PROGRESS;
        }
        if !error_code.is_ok() {
            let answer = SyncGroupResponse { error_code, ..Default::default() };
            return out.push((from, Answer::SyncGroup(answer)));
        }
        if let Some(member) = self.members.get_mut(&request.member_id) {
            (member.seen, member.syncing) = (now, Some(from));
        }
        if request.member_id == self.leader && self.phase == Phase::Syncing {
            let shares = request.assignments.iter();
            self.shares = shares.map(|s| (s.member_id.clone(), s.assignment.clone())).collect();
            self.phase = Phase::Stable;
        }
        if self.phase == Phase::Stable {
            for (id, member) in &mut self.members {
                let assignment = self.shares.get(id).cloned().unwrap_or_default();
                let answer = SyncGroupResponse { assignment, ..Default::default() };
                out.extend(member.syncing.take().map(|from| (from, Answer::SyncGroup(answer))));
            }
        }
    }

    pub(super) fn expire(&mut self, now: Instant, out: &mut Vec<(From, Answer)>) {
        let before = self.members.len();
        self.members.retain(|_, member| {
            member.joining.is_some() || member.syncing.is_some() || member.seen + SESSION > now
        });
        if self.members.len() < before && self.phase != Phase::Joining {
            self.rebalance(out);
        }
    }
}
