//! The consumer's machine: what it reads, how far it is, and what it commits.
//!
//! It owns the positions and ties the parts together: the group gives and takes partitions, offsets say where to start,
//! fetches fill the queue that the application empties. Each part owns its own requests. Invariant: what is committed for a
//! partition is what its lease says is finished, and only while the lease holds.

#[cfg(test)]
mod alone;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::FetchResponse;

use super::ask::Answer;
use super::cluster::Cluster;
use super::epochs::Question;
use super::fetch::{Fetch, Fetched, Positions};
use super::group::{Group, Parting};
use super::hooks::Hooks;
use super::offsets::{CommitId, Offsets};
use super::positions::{Failure, Lease, Place};
use super::readers::Readers;
use super::saying::Saying;
use super::watchdog::Watchdog;
use super::{Dial, Input, Lane, Link, Machine, Now, TopicPartition, Work};
use crate::config::{ClientConfig, ConsumerConfig, Source, When};
use crate::error::{Error, ErrorKind};
use crate::event::Events;

/// What the application does, as far as deadlines have to know. Written for each record, so it is not under the lock.
#[derive(Debug, Default)]
pub(crate) struct Attention(AtomicU64);

impl Attention {
    /// The application asks for the next record. There is one that asks.
    #[inline]
    pub(crate) fn ask(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(super) config: Arc<ConsumerConfig>,
    pub(crate) cluster: Cluster,
    pub(super) group: Option<(Group, Offsets)>,
    pub(super) positions: Positions,
    pub(super) fetch: Fetch,
    /// Partitions with chunks, in the order in which they came; one entry a chunk.
    pub(super) queue: VecDeque<TopicPartition>,
    /// Records that the application was handed, as far as it has told.
    pub(crate) read: u64,
    pub(super) failures: VecDeque<Failure>,
    /// Look-ups of a reset that are out, by broker: the time that is asked for.
    pub(super) listings: BTreeMap<i32, BTreeMap<TopicPartition, (Arc<Lease>, i64)>>,
    /// What new leaders are asked, by broker.
    pub(super) questions: BTreeMap<i32, BTreeMap<TopicPartition, Question>>,
    /// Of the metadata that positions were compared with.
    pub(super) generation_seen: u64,
    /// Of the metadata that the topics of a pattern were taken from.
    pub(super) pattern_seen: Option<u64>,
    pub(super) retries: BTreeSet<(Instant, TopicPartition)>,
    /// The first wait after a failure, and the longest.
    pub(super) retry_backoff: (Duration, Duration),
    pub(super) commit_at: Option<Instant>,
    /// A commit that a revocation waits for, and the partitions to give up after it.
    pub(super) revoking: Option<(CommitId, Vec<TopicPartition>)>,
    /// User code that is to be told of partitions.
    pub(super) hooks: Hooks,
    /// Commits that nobody waits for.
    pub(super) unwatched: Vec<CommitId>,
    pub(super) attention: Arc<Attention>,
    pub(super) attention_seen: u64,
    /// The application waits for a record: the time does not count against max.poll.interval.ms.
    pub(super) waiting: bool,
    /// When to say that nothing can be reached, or that a topic does not exist.
    pub(super) complain_at: Option<Instant>,
    pub(super) closing: bool,
    /// What the group is told then.
    pub(super) parting: Parting,
    /// The membership is over for good: what every call says from now on.
    pub(super) ended: Option<Error>,
    /// What is to be logged.
    pub(super) said: Vec<Saying>,
    pub(super) events: Events,
    pub(super) watchdog: Watchdog,
    /// Where each partition has a reader of its own.
    pub(super) readers: Option<Readers>,
    /// What the wall clock said when it started: the time since is counted by the other one.
    pub(super) started: Now,
}

impl Consumer {
    pub(crate) fn new(
        client: Arc<ClientConfig>,
        config: Arc<ConsumerConfig>,
        seed: u64,
        started: Now,
    ) -> Self {
        let now = started.instant;
        let retry_backoff = (client.retry_backoff, client.retry_backoff_max);
        let group = config.group_id.is_some().then(|| {
            (Group::new(config.clone(), client.clone(), now), Offsets::new(config.clone(), client.clone()))
        });
        let complain_at = Some(now + client.default_api_timeout);
        let mut consumer = Self {
            cluster: Cluster::new(client, seed, now),
            fetch: Fetch::new(config.clone()),
            group,
            positions: BTreeMap::new(),
            queue: VecDeque::new(),
            read: 0,
            failures: VecDeque::new(),
            listings: BTreeMap::new(),
            questions: BTreeMap::new(),
            generation_seen: 0,
            pattern_seen: None,
            retries: BTreeSet::new(),
            retry_backoff,
            commit_at: None,
            revoking: None,
            hooks: Hooks::new(config.clone()),
            unwatched: Vec::new(),
            attention: Arc::default(),
            attention_seen: 0,
            waiting: false,
            complain_at,
            closing: false,
            parting: Parting::default(),
            ended: None,
            said: Vec::new(),
            events: Events::default(),
            watchdog: Watchdog::new(now, config.stall_after),
            readers: None,
            started,
            config,
        };
        consumer.commit_at = consumer.commit_interval().map(|interval| now + interval);
        match consumer.config.source.clone() {
            Source::Nothing => {}
            Source::Topics(topics) => {
                topics.iter().for_each(|topic| consumer.cluster.metadata.want(now, topic))
            }
            Source::Partitions(partitions) => {
                let partitions =
                    partitions.into_iter().map(|(topic, partition)| TopicPartition { topic, partition });
                consumer.assign(now, partitions.collect());
            }
            Source::Matching { pattern, .. } => consumer.cluster.metadata.select(now, pattern),
        }
        consumer.step(now);
        consumer
    }

    pub(crate) fn attention(&self) -> Arc<Attention> {
        self.attention.clone()
    }

    fn commit_interval(&self) -> Option<Duration> {
        match self.config.when {
            When::Every(interval) | When::Hybrid { within: interval, .. } => Some(interval),
            When::EachRecord | When::EachBatch | When::Manual => None,
        }
    }

    // Where is read.

    /// Reads a partition from another place. No record from before is delivered after this.
    pub(crate) fn seek(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        place: Place,
    ) -> Result<(), Error> {
        let Some(position) = self.positions.get_mut(partition) else { return Err(not_assigned(partition)) };
        position.go_to(place);
        self.queue.retain(|queued| queued != partition);
        if let Some((_, offsets)) = &mut self.group {
            offsets.forget_look_ups(vec![partition.clone()]);
        }
        self.step(now);
        Ok(())
    }

    /// Stops or goes on delivering a partition; what is buffered of it stays.
    pub(crate) fn pause(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        paused: bool,
    ) -> Result<(), Error> {
        self.positions.get(partition).ok_or_else(|| not_assigned(partition))?.lease.pause(paused);
        self.step(now);
        Ok(())
    }

    // How it ends.

    /// Nobody reads any more: nothing that is still acknowledged counts.
    pub(crate) fn abandon(&mut self) {
        self.positions.values().for_each(|position| position.lease.recall());
    }

    pub(crate) fn is_closed(&self) -> bool {
        let has_left = self.group.as_ref().is_none_or(|(group, _)| group.has_left());
        self.closing && has_left && self.hooks.is_idle()
    }

    // What the parts say.

    /// Lets every part go on as far as it can. Called at the end of whatever changes something.
    pub(super) fn step(&mut self, now: Instant) {
        self.cluster.step(now);
        self.notice_new_topics(now);
        self.follow_pattern(now);
        self.expire_followers(now);
        self.end_commits(now);
        let settled = self.unwatched.is_empty() && self.revoking.is_none() && self.hooks.is_idle();
        if self.closing && settled {
            let parting = self.parting;
            self.group.iter_mut().for_each(|(group, _)| group.leave(now, parting));
        }
        if let Some((group, _)) = &mut self.group {
            group.step(now, &mut self.cluster);
        }
        // What the group says first: the offsets of what it gives are looked up at once.
        while let Some(event) = self.group.as_mut().and_then(|(group, _)| group.poll_event()) {
            self.obey(now, event);
        }
        if let Some((group, offsets)) = &mut self.group {
            offsets.step(now, group, &mut self.cluster);
        }
        while let Some(found) = self.group.as_mut().and_then(|(_, offsets)| offsets.poll_event()) {
            self.start(now, found);
        }
        if !self.closing {
            self.fetch.share_among(self.readers.as_ref().map(|_| self.positions.len()));
            self.fetch.step(now, &self.positions, &mut self.cluster);
            self.want_listings();
            self.want_confirmations();
        }
    }

    /// Takes the results of commits that no call waits for; a revocation goes on when its commit is resolved.
    fn end_commits(&mut self, now: Instant) {
        let Some((_, offsets)) = &mut self.group else { return };
        let mut failed = false;
        self.unwatched.retain(|id| match offsets.take_result(*id) {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(error)) => {
                self.said.push(Saying::new(move || tracing::warn!(%error, "offsets were not committed")));
                failed = true;
                false
            }
        });
        let ready = self.revoking.as_ref().is_some_and(|(id, _)| offsets.is_resolved(*id));
        if let Some((id, partitions)) = self.revoking.take_if(|_| ready) {
            if let Some(Err(error)) = offsets.take_result(id) {
                let what = "offsets were not committed before partitions were given up";
                self.said.push(Saying::new(move || tracing::warn!(%error, "{what}")));
            }
            self.gave_up(now, &partitions);
        }
        if failed {
            self.forget_committed();
        }
    }

    fn fetched(&mut self, now: Instant, link: Link, response: &FetchResponse) {
        self.cluster.throttle(now, link, response.throttle_time_ms);
        for node in &response.node_endpoints {
            self.cluster.learn_node(now, node.node_id, &node.host, node.port, node.rack.clone());
        }
        let in_vain = self.fetch.in_vain(link, response);
        let answered = self.fetch.answered(now, link, response, &mut self.positions, &self.cluster);
        in_vain.iter().for_each(|partition| self.retry_later(now, partition));
        for fetched in answered {
            let Some(position) = self.positions.get_mut(&fetched.partition) else { continue };
            if fetched.answer.error_code.is_ok() {
                position.attempts = 0;
                position.prefer(
                    fetched.answer.preferred_read_replica,
                    now + self.cluster.config.metadata_max_age,
                );
                let end = match self.config.isolation_level {
                    crate::config::IsolationLevel::ReadCommitted => fetched.answer.last_stable_offset,
                    crate::config::IsolationLevel::ReadUncommitted => fetched.answer.high_watermark,
                };
                position.readable_end = (end >= 0).then_some(end);
                let watermark = fetched.answer.high_watermark;
                position.high_watermark = (watermark >= 0).then_some(watermark);
                let before = position.waiting.len();
                if !self.fetch.keep(link.node, &fetched, position) {
                    let partition = fetched.partition.clone();
                    let unreadable = move || tracing::error!(%partition, "a fetch brought no readable batch");
                    self.said.push(Saying::new(unreadable));
                }
                if position.waiting.len() > before {
                    self.queue.push_back(fetched.partition);
                }
            } else {
                self.refused(now, link.node, &fetched);
            }
        }
    }

    /// A partition was not fetched.
    fn refused(&mut self, now: Instant, node: i32, fetched: &Fetched<'_>) {
        let (partition, answer, code) = (&fetched.partition, fetched.answer, fetched.answer.error_code);
        if self.is_of_follower(now, node, partition, code) {
            return;
        }
        if code == ErrorCode::OFFSET_OUT_OF_RANGE {
            return self.out_of_range(now, partition, answer.log_start_offset);
        }
        let hint = &answer.current_leader;
        self.cluster.metadata.hint(&partition.topic, partition.partition, hint.leader_id, hint.leader_epoch);
        self.not_served(now, node, partition, code);
    }

    // Time.

    fn tick(&mut self, now: Instant) {
        while let Some((retry_at, partition)) = self.retries.first().cloned()
            && retry_at <= now
        {
            self.retries.pop_first();
            if let Some(position) = self.positions.get_mut(&partition) {
                position.retry_at = position.retry_at.filter(|at| *at > now);
            }
        }
        if self.commit_at.is_some_and(|at| at <= now) {
            self.commit_at = self.commit_interval().map(|interval| now + interval);
            self.commit_quietly(now, None);
        }
        let excused = self.is_excused();
        if let Some((group, offsets)) = &mut self.group {
            let asked = self.attention.count();
            if self.waiting || asked != self.attention_seen || excused {
                self.attention_seen = asked;
                group.polled(now);
            }
            group.tick(now, &mut self.cluster);
            offsets.tick(now, group, &mut self.cluster);
        }
        self.watch(now);
        self.end_late_hook(now);
        if self.complain_at.is_some_and(|at| at <= now) {
            self.complain(now);
        }
    }

    /// What does not come by itself, after a time in which it should have.
    fn complain(&mut self, now: Instant) {
        self.complain_at = None;
        let wait = self.cluster.config.default_api_timeout;
        if self.cluster.metadata.succeeded.is_none() {
            let cause = self.cluster.failure().map(|cause| format!(": {cause}")).unwrap_or_default();
            let message = format!("no broker could be reached within {wait:?}{cause}");
            let error = Error::new(ErrorKind::Connect, message);
            let error = match self.cluster.failure() {
                Some(cause) => error.with_source(cause.clone()),
                None => error,
            };
            self.failures.push_back(Failure { lease: None, error });
            self.complain_at = Some(now + wait);
            return;
        }
        let topics = match &self.config.source {
            Source::Topics(topics) => topics.clone(),
            Source::Partitions(partitions) => partitions.iter().map(|(topic, _)| topic.clone()).collect(),
            Source::Nothing | Source::Matching { .. } => Vec::new(),
        };
        for topic in topics.iter().filter(|topic| self.cluster.metadata.topic(topic).is_none()) {
            let code = self.cluster.metadata.error(topic).unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            let message = format!("topic {topic}: {code}, and so it stayed for {wait:?}");
            let error = Error::new(ErrorKind::UnknownTopic, message).with_code(code);
            self.failures.push_back(Failure { lease: None, error });
        }
    }

    fn answered(&mut self, now: Instant, link: Link, answer: &Answer) {
        self.cluster.alive(link);
        match answer {
            Answer::Metadata(response) => self.cluster.answered(now, link, response),
            Answer::Fetch(response) => self.fetched(now, link, response),
            Answer::ListOffsets(response) => self.listed(now, link, response),
            Answer::OffsetForLeaderEpoch(response) => self.confirmed(now, link, response),
            _ => {
                if let Some((group, offsets)) = &mut self.group
                    && !group.handle(now, link, answer, &mut self.cluster)
                {
                    offsets.handle(now, link, answer, group, &mut self.cluster);
                }
            }
        }
    }

    fn lost(&mut self, now: Instant, link: Link, cause: &Error) {
        self.cluster.lost(now, link, cause);
        if cause.needs_help() && self.failures.iter().all(|failure| failure.lease.is_some()) {
            self.failures.push_back(Failure { lease: None, error: cause.clone() });
        }
        match link.lane {
            Lane::Fetch | Lane::Aside => {
                self.fetch.lost(link, &mut self.positions);
                self.fetch.leave_follower(now, link.node, &mut self.positions);
            }
            _ => {
                if link.lane == Lane::Control {
                    self.listings.remove(&link.node);
                    self.questions.remove(&link.node);
                }
                if let Some((group, offsets)) = &mut self.group {
                    group.lost(now, link, &mut self.cluster);
                    offsets.lost(now, link, &mut self.cluster);
                }
            }
        }
    }
}

fn not_assigned(partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("{partition} is not assigned to this consumer"))
}

impl Machine for Consumer {
    type News = Saying;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Opened { link, versions } => self.cluster.opened(link, versions),
            Input::Lost { link, cause } => self.lost(now, link, &cause),
            Input::Answer { link, answer } => self.answered(now, link, &answer),
            Input::Tick => self.tick(now),
            Input::Shared { generation, shares } => {
                if let Some((group, _)) = &mut self.group {
                    group.shared(now, generation, shares);
                }
            }
            // A consumer writes no batches.
            Input::Shipped { .. } | Input::Split { .. } => {}
        }
        self.step(now);
    }

    fn poll_dial(&mut self, now: Instant) -> Option<Dial> {
        self.cluster.poll_dial(now)
    }

    fn poll_work(&mut self, now: Instant, link: Link) -> Option<Work> {
        if let Some(work) = self.cluster.poll_work(now, link) {
            return Some(work);
        }
        if !self.wants(now, link) {
            return None;
        }
        if matches!(link.lane, Lane::Fetch | Lane::Aside) {
            return self.fetch.poll_work(now, link, &mut self.positions, &mut self.cluster);
        }
        if let Some((group, offsets)) = &mut self.group {
            let work = group.poll_work(now, link, &mut self.cluster);
            let work = work.or_else(|| offsets.poll_work(now, link, group, &mut self.cluster));
            if work.is_some() {
                return work;
            }
        }
        if self.wants_listing(link) {
            return self.list(link);
        }
        if self.wants_confirmation(link) { self.ask_for_confirmation(link) } else { None }
    }

    fn wants(&self, now: Instant, link: Link) -> bool {
        if self.cluster.wants(now, link) {
            return true;
        }
        if !self.cluster.is_writable(now, link) {
            return false;
        }
        let group =
            |(group, offsets): &(Group, Offsets)| group.wants(now, link) || offsets.wants(now, link, group);
        match link.lane {
            Lane::Fetch | Lane::Aside => {
                !self.closing && self.fetch.wants(now, link, &self.positions, &self.cluster)
            }
            _ => {
                self.group.as_ref().is_some_and(group)
                    || self.wants_listing(link)
                    || self.wants_confirmation(link)
            }
        }
    }

    fn ready_at(&self, link: Link) -> Option<Instant> {
        let group = |(group, offsets): &(Group, Offsets)| {
            group.ready_at(link).into_iter().chain(offsets.ready_at(link, group)).min()
        };
        let own = match link.lane {
            Lane::Aside if !self.closing => {
                self.fetch.impatient_at(link.node, &self.positions, &self.cluster)
            }
            Lane::Control | Lane::Group => self.group.as_ref().and_then(group),
            _ => None,
        };
        match (own, self.cluster.muted_until(link)) {
            (Some(own), Some(muted)) => Some(own.max(muted)),
            (own, muted) => own.or(muted),
        }
    }

    fn wants_dial(&self, now: Instant) -> bool {
        self.cluster.wants_dial(now)
    }

    fn deadline(&self) -> Option<Instant> {
        let group = self
            .group
            .as_ref()
            .and_then(|(group, offsets)| group.deadline().into_iter().chain(offsets.deadline()).min());
        let retry = self.retries.first().map(|(at, _)| *at);
        let aside = self.fetch.deadline(&self.positions, &self.cluster).filter(|_| !self.closing);
        let own = [retry, self.commit_at, self.complain_at, aside, self.watch_at(), self.hooks.until()];
        own.into_iter().chain([self.cluster.deadline(), group]).flatten().min()
    }

    fn take_news(&mut self) -> Vec<Saying> {
        std::mem::take(&mut self.said)
    }

    fn tell(news: Saying) {
        news.say();
    }
}
