//! The replicas of one partition: how much of the leader's log each has, who is in sync, and how far that makes it safe.
//!
//! All replicas are in this process, so what they have in common is kept once: the log of the node that leads, or led last,
//! is the *trunk*. Another replica has the trunk up to an offset; what it has beyond that, written under a leader whose log
//! lost, is its *branch*, and shares its bytes with the log that it was cut from. A branch goes when its replica follows again
//! (KIP-101), or grows on the trunk when its replica is elected. It refuses to know who can reach whom, and when.
//!
//! Invariant: every replica in sync has the trunk up to the high watermark.

use super::Now;
use super::log::Appended;
use super::reassignment::Move;
use super::settings::TopicSettings;
use super::topics::Partition;
use bytes::Bytes;
use ottla_protocol::records::{Batch, BatchHeader};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

/// A replica that does not hold the trunk.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// It has the trunk up to here.
    pub(crate) end: i64,
    /// The high watermark that it was told last.
    pub(crate) high_watermark: i64,
    /// The batches behind `end` that it has and the trunk has not.
    branch: Vec<Bytes>,
    /// Since when the leader has something that it has not fetched.
    pub(crate) behind_since: Option<Instant>,
    /// It has not fetched from this leader yet.
    stale: bool,
}

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The node whose log the trunk is.
    holder: i32,
    pub(crate) followers: BTreeMap<i32, Follower>,
    /// The replicas in sync, with the leader, in the order of the replicas.
    pub(crate) in_sync: Vec<i32>,
    /// Every replica in sync has what lies before it, and consumers see no further.
    pub(crate) high_watermark: i64,
    /// Where the partition is moving to, if it is.
    pub(super) moving: Option<Move>,
}

/// What a replica can answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    /// The end of what it has in common with the leader.
    pub(crate) end: i64,
    /// The high watermark that it knows.
    pub(crate) high_watermark: i64,
}

impl Standing {
    pub(crate) fn new(replicas: &[i32], leader: Option<i32>, is_alive: impl Fn(i32) -> bool) -> Self {
        let holder = leader.or(replicas.first().copied()).unwrap_or(-1);
        let others = replicas.iter().filter(|node| **node != holder);
        let mut in_sync: Vec<i32> = replicas.iter().copied().filter(|node| is_alive(*node)).collect();
        if in_sync.is_empty() {
            // There is nothing yet that anybody could lack.
            in_sync = replicas.to_vec();
        }
        let followers = others.map(|node| (*node, Follower::default())).collect();
        Self { holder, followers, in_sync, high_watermark: 0, moving: None }
    }

    /// Replicas without which acks=all is refused; a topic may ask for more than there are (KIP-966).
    pub(crate) fn in_sync_min(&self, settings: &TopicSettings) -> usize {
        settings.min_insync_replicas.min(self.followers.len() + 1)
    }

    pub(crate) fn has_enough_in_sync(&self, settings: &TopicSettings) -> bool {
        self.in_sync.len() >= self.in_sync_min(settings)
    }

    /// Takes a replica out of sync. The last one stays: only it has everything.
    pub(crate) fn drop_from_sync(&mut self, node: i32) {
        if self.in_sync.len() > 1 {
            self.in_sync.retain(|other| *other != node);
        }
    }
}

impl Follower {
    /// Whether its next fetch brings something: records, or how far they are safe.
    pub(crate) fn is_behind(&self, high_watermark: i64) -> bool {
        self.stale || self.behind_since.is_some() || self.high_watermark < high_watermark
    }

    /// Its log ended behind this offset, from which on the trunk is another now. `lost` is what the trunk had there.
    fn diverge(&mut self, offset: i64, lost: &[Bytes]) {
        if self.end <= offset {
            return;
        }
        let had = lost.iter().filter(|batch| base_offset(batch).is_some_and(|base| base < self.end));
        let mut branch: Vec<Bytes> = had.cloned().collect();
        branch.append(&mut self.branch);
        self.branch = branch;
        self.end = offset;
    }
}

fn base_offset(batch: &Bytes) -> Option<i64> {
    BatchHeader::parse(batch).ok().map(|header| header.base_offset)
}

impl Partition {
    pub(crate) fn high_watermark(&self) -> i64 {
        self.standing.high_watermark
    }

    /// What a node can answer with, if it has a replica.
    pub(crate) fn view(&self, node: i32) -> Option<View> {
        if self.standing.holder == node {
            let (end, high_watermark) = (self.log.end_offset(), self.standing.high_watermark);
            return Some(View { end, high_watermark });
        }
        let follower = self.standing.followers.get(&node)?;
        let end = follower.end.max(self.log.start_offset());
        Some(View { end, high_watermark: follower.high_watermark.min(end) })
    }

    /// The end of the log that a node has, with what the leader does not have.
    pub(crate) fn end_at(&self, node: i32) -> Option<i64> {
        let last = self.standing.followers.get(&node).and_then(|follower| follower.branch.last());
        let header = last.and_then(|batch| BatchHeader::parse(batch).ok());
        header.map(|header| header.last_offset() + 1).or_else(|| Some(self.view(node)?.end))
    }

    /// Batches that a node has and the leader has not.
    pub(crate) fn branch_at(&self, node: i32) -> &[Bytes] {
        self.standing.followers.get(&node).map_or(&[], |follower| &follower.branch)
    }

    /// The followers fetch: everything, and the high watermark that the leader knows. A follower whose log had diverged has
    /// none but the leader's now.
    pub(crate) fn follow(&mut self, node: i32) {
        let end = self.log.end_offset();
        let Some(follower) = self.standing.followers.get_mut(&node) else { return };
        follower.branch.clear();
        follower.end = end;
        follower.high_watermark = self.standing.high_watermark;
        (follower.behind_since, follower.stale) = (None, false);
    }

    /// Lets there be these replicas and no others. Those that are new have nothing yet. The trunk stays with its holder until
    /// somebody else leads.
    pub(super) fn keep(&mut self, replicas: Vec<i32>) {
        let standing = &mut self.standing;
        standing.followers.retain(|node, _| replicas.contains(node));
        for node in replicas.iter().filter(|node| **node != standing.holder) {
            let new = || Follower { stale: true, ..Follower::default() };
            standing.followers.entry(*node).or_insert_with(new);
        }
        standing.in_sync.retain(|node| replicas.contains(node));
        self.replicas = replicas;
    }

    /// Every replica has everything, and knows it.
    pub(super) fn follow_all(&mut self) {
        let end = self.log.end_offset();
        self.standing.high_watermark = end;
        self.stability.replicated(end);
        for follower in self.standing.followers.values_mut() {
            *follower = Follower { end, high_watermark: end, ..Follower::default() };
        }
    }

    /// Takes replicas into sync that have everything. Whether there was one.
    pub(crate) fn expand(&mut self, may_join: impl Fn(i32) -> bool) -> bool {
        let Self { standing, replicas, log, .. } = self;
        let has_all = |follower: &Follower| !follower.stale && follower.end == log.end_offset();
        let ready = |node: &i32| {
            let follower = standing.followers.get(node);
            !standing.in_sync.contains(node) && may_join(*node) && follower.is_some_and(has_all)
        };
        let joining: Vec<i32> = replicas.iter().copied().filter(ready).collect();
        standing.in_sync.extend(&joining);
        standing.in_sync.sort_by_key(|node| replicas.iter().position(|other| other == node));
        !joining.is_empty()
    }

    /// Moves the high watermark up to what every replica in sync has, while there are enough of them (KIP-966).
    pub(crate) fn advance(&mut self, settings: &TopicSettings) -> bool {
        let end = self.log.end_offset();
        let standing = &mut self.standing;
        if !standing.has_enough_in_sync(settings) {
            return false;
        }
        let ends = standing.in_sync.iter().filter_map(|node| Some(standing.followers.get(node)?.end));
        let reached = ends.min().unwrap_or(end).min(end);
        let advances = reached > standing.high_watermark;
        if advances {
            standing.high_watermark = reached;
            self.stability.replicated(reached);
        }
        advances
    }

    /// Another leader, or none, in another epoch. Whether the log has lost something by that.
    ///
    /// # Errors
    /// The log could not be changed: nobody leads the partition.
    pub(crate) fn lead(
        &mut self,
        leader: Option<i32>,
        now: Now,
        settings: &TopicSettings,
    ) -> io::Result<bool> {
        let switched = match leader.filter(|node| *node != self.standing.holder) {
            Some(node) => self.switch(node, now, settings),
            None => Ok(false),
        };
        self.begin_epoch(leader.filter(|_| switched.is_ok()));
        let end = self.log.end_offset();
        for follower in self.standing.followers.values_mut() {
            follower.stale = true;
            follower.behind_since = (follower.end < end).then_some(now.at);
        }
        switched
    }

    /// Makes another replica's log the trunk.
    fn switch(&mut self, node: i32, now: Now, settings: &TopicSettings) -> io::Result<bool> {
        let Some(next) = self.standing.followers.get(&node) else { return Ok(false) };
        let cut = next.end.max(self.log.start_offset());
        let known = next.high_watermark.min(self.log.end_offset());
        let lost = self.log.batches_from(cut)?;
        if !lost.is_empty() {
            self.log.truncate(cut)?;
        }
        let next = self.standing.followers.remove(&node).unwrap_or_default();
        let before = Follower {
            end: self.log.end_offset(),
            high_watermark: self.standing.high_watermark,
            branch: lost.clone(),
            ..Follower::default()
        };
        self.standing.followers.values_mut().for_each(|follower| follower.diverge(cut, &lost));
        if self.replicas.contains(&self.standing.holder) {
            self.standing.followers.insert(self.standing.holder, before);
        }
        self.standing.holder = node;
        self.forget(cut, &lost, now)?;
        for batch in next.branch {
            self.append_as_it_is(batch, now, settings)?;
        }
        self.standing.high_watermark = known.min(self.log.end_offset());
        self.rejoin()?;
        Ok(!lost.is_empty())
    }

    /// Every batch of the trunk.
    pub(super) fn whole_log(&mut self) -> io::Result<Vec<Batch>> {
        let all = self.log.batches().collect::<Vec<_>>();
        let read = all.into_iter().map(|at| Batch::parse(self.log.batch(at)?).map_err(io::Error::other));
        read.collect()
    }

    /// Takes back what was known of batches that are not in the log any more, from this offset on.
    fn forget(&mut self, offset: i64, lost: &[Bytes], now: Now) -> io::Result<()> {
        let headers = lost.iter().filter_map(|batch| BatchHeader::parse(batch).ok());
        let producers: BTreeSet<i64> =
            headers.map(|header| header.producer_id).filter(|id| *id >= 0).collect();
        self.epochs.retain(|(_, began)| *began < offset);
        if producers.is_empty() {
            return Ok(());
        }
        self.stability.cut(offset, &producers);
        self.producers.forget(&producers);
        let left = self.whole_log()?;
        let theirs = left.iter().filter(|batch| producers.contains(&batch.header().producer_id));
        theirs.for_each(|batch| self.learn(now, batch));
        Ok(())
    }

    fn append_as_it_is(&mut self, batch: Bytes, now: Now, settings: &TopicSettings) -> io::Result<()> {
        let batch = Batch::parse(batch).map_err(io::Error::other)?;
        let header = batch.header();
        let what = Appended { offsets: header.last_offset_delta + 1, max_timestamp: header.max_timestamp };
        self.log.append(batch.bytes(), what, now.wall_ms, settings, &mut |_, _| {})?;
        self.learn(now, &batch);
        Ok(())
    }

    /// What a branch has in common with the trunk after all is no branch.
    fn rejoin(&mut self) -> io::Result<()> {
        let Self { standing, log, .. } = self;
        for follower in standing.followers.values_mut() {
            let mut common = 0;
            for batch in &follower.branch {
                let Some(at) = log.at(follower.end) else { break };
                if BatchHeader::parse(&log.batch(at)?) != BatchHeader::parse(batch) {
                    break;
                }
                follower.end = at.entry.last_offset + 1;
                common += 1;
            }
            follower.branch.drain(..common);
        }
        Ok(())
    }
}
