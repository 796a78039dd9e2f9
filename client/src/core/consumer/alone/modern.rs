//! A toy coordinator of one group of KIP-848: members report what they have, and are told what they should have.
//!
//! It owns the epochs, and who holds what since when. It refuses to know offsets. Invariant: a partition is given to nobody
//! as long as another member has not said that it is gone.

use super::*;

/// What the coordinator counts on; members count on the same, which is Kafka's default.
pub(super) const SESSION: Duration = Duration::from_secs(45);

struct Member {
    seen: Instant,
    epoch: i32,
    previous_epoch: i32,
    /// With the epoch in which it got each.
    assigned: BTreeMap<i32, i32>,
    /// What it was told to give up, and has not reported as gone.
    revoking: BTreeMap<i32, i32>,
    /// Others still have some of what it is to get.
    waits: bool,
}

impl Member {
    fn since(&self, partition: i32) -> Option<i32> {
        self.assigned.get(&partition).or_else(|| self.revoking.get(&partition)).copied()
    }
}

#[derive(Default)]
pub(super) struct Coordinator {
    epoch: i32,
    members: BTreeMap<Str, Member>,
}

impl Coordinator {
    pub(super) fn expire(&mut self, now: Instant) {
        let before = self.members.len();
        self.members.retain(|_, member| member.seen + SESSION > now);
        self.epoch += i32::from(self.members.len() < before);
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, id: &Str) -> bool {
        let known = self.members.remove(id).is_some();
        self.epoch += i32::from(known);
        known
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Instant,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let id = &request.member_id;
        let refused = |error_code| ConsumerGroupHeartbeatResponse {
            error_code,
            ..ConsumerGroupHeartbeatResponse::default()
        };
        if request.member_epoch < 0 {
            self.remove(id);
            return refused(ErrorCode::NONE);
        }
        if request.member_epoch == 0 && !self.members.contains_key(id) {
            self.epoch += 1;
            let (assigned, revoking) = (BTreeMap::new(), BTreeMap::new());
            let member = Member { seen: now, epoch: 0, previous_epoch: 0, assigned, revoking, waits: false };
            self.members.insert(id.clone(), member);
        }
        let owned: Option<BTreeSet<i32>> = request
            .topic_partitions
            .as_ref()
            .map(|topics| topics.iter().flat_map(|topic| topic.partitions.iter().copied()).collect());
        let Some(member) = self.members.get(id) else { return refused(ErrorCode::UNKNOWN_MEMBER_ID) };
        let owns_its_own = || owned.iter().flatten().all(|p| member.assigned.contains_key(p));
        // The answer with the newer epoch may have been lost.
        let late = request.member_epoch == member.previous_epoch && owned.is_some() && owns_its_own();
        if request.member_epoch != 0 && request.member_epoch != member.epoch && !late {
            return refused(ErrorCode::FENCED_MEMBER_EPOCH);
        }
        let before: BTreeSet<i32> = member.assigned.keys().copied().collect();
        self.reconcile(id, owned.as_ref());
        let Some(member) = self.members.get_mut(id) else { return refused(ErrorCode::UNKNOWN_MEMBER_ID) };
        member.seen = now;
        let says_all = request.rebalance_timeout_ms >= 0 && owned.is_some();
        let tells = says_all || !member.assigned.keys().eq(&before);
        let partitions = member.assigned.keys().copied().collect();
        let topic_partitions = vec![GroupTopicPartitions { topic_id: TOPIC_ID, partitions }];
        ConsumerGroupHeartbeatResponse {
            member_id: Some(id.clone()),
            member_epoch: member.epoch,
            heartbeat_interval_ms: 1_000,
            assignment: tells.then_some(GroupAssignment { topic_partitions }),
            ..ConsumerGroupHeartbeatResponse::default()
        }
    }

    /// One step of a member towards its share of the partitions, which are dealt in turn.
    fn reconcile(&mut self, id: &Str, owned: Option<&BTreeSet<i32>>) {
        let at = self.members.keys().position(|member| member == id).unwrap_or(0);
        let target: BTreeSet<i32> =
            (0..PARTITIONS).filter(|p| super::at(*p) % self.members.len() == at).collect();
        let others = self.members.iter().filter(|(other, _)| *other != id);
        let taken: BTreeSet<i32> =
            others.flat_map(|(_, m)| m.assigned.keys().chain(m.revoking.keys()).copied()).collect();
        let epoch = self.epoch;
        let Some(member) = self.members.get_mut(id) else { return };
        let has_any =
            |of: &BTreeMap<i32, i32>| owned.is_none_or(|owned| owned.iter().any(|p| of.contains_key(p)));
        if !member.revoking.is_empty() && has_any(&member.revoking) {
            return;
        }
        if member.revoking.is_empty() && !member.waits && member.epoch == epoch {
            return;
        }
        member.previous_epoch = member.epoch;
        member.revoking = member.assigned.extract_if(.., |p, _| !target.contains(p)).collect();
        if !member.revoking.is_empty() && has_any(&member.revoking) {
            return;
        }
        member.revoking.clear();
        member.epoch = epoch;
        let missing = target.iter().filter(|p| !member.assigned.contains_key(p));
        let (late, free): (Vec<i32>, Vec<i32>) = missing.partition(|p| taken.contains(p));
        member.waits = !late.is_empty();
        member.assigned.extend(free.into_iter().map(|p| (p, epoch)));
    }

    /// Whether a member may commit for a partition: as of the epoch in which it got it, or a later one (KIP-1251).
    pub(super) fn check_commit(&self, id: &Str, epoch: i32, partition: i32) -> ErrorCode {
        let Some(member) = self.members.get(id) else { return ErrorCode::UNKNOWN_MEMBER_ID };
        let since = || member.since(partition).is_some_and(|since| (since..=member.epoch).contains(&epoch));
        if epoch == member.epoch || since() { ErrorCode::NONE } else { ErrorCode::STALE_MEMBER_EPOCH }
    }

    pub(super) fn check_fetch(&self, id: Option<&Str>, epoch: i32) -> ErrorCode {
        match id.and_then(|id| self.members.get(id)) {
            None => ErrorCode::UNKNOWN_MEMBER_ID,
            Some(member) if member.epoch != epoch => ErrorCode::STALE_MEMBER_EPOCH,
            Some(_) => ErrorCode::NONE,
        }
    }
}
