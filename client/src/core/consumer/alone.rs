//! Consumers' machines alone: no runtime, no bytes on a wire, no clock but a number; many seeds a second.
//!
//! A toy broker keeps a group, classic or of KIP-848, and its offsets by Kafka's rules, and a seeded dice decides what
//! happens next: records, answers, lost connections, members that crash, leave and come, time. C1 to C6 are judged as it goes; at the end everything
//! heals, and every record must have been delivered and committed.
#![allow(clippy::print_stdout, reason = "says how many seeds ran")]

mod classic;
mod modern;

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_protocol::api::{Request as Api, Versions};
use ottla_protocol::messages::*;
use ottla_protocol::records::batches;
use ottla_protocol::wire::{Str, Uuid};

use super::tests::{batch, every_version};
use super::*;
use crate::config::{Assignor, GroupProtocol};
use crate::core::Ask;
use crate::core::backoff::Random;
use crate::core::positions::Chunk;
use crate::core::seeds::run_seeds;

use classic::{Peer, Phase};

const MEMBERS: usize = 3;
const PARTITIONS: i32 = 4;
const TOPIC_ID: Uuid = Uuid(77);
const SESSION: Duration = Duration::from_secs(6);

/// Where an answer goes: the member and its life, and the link.
type From = (usize, u32, Link);

#[derive(Default)]
struct Pipe {
    requests: VecDeque<Ask>,
    answers: VecDeque<Answer>,
}

/// One consumer and the application that uses it.
struct Member {
    life: u32,
    machine: Consumer,
    pipes: BTreeMap<Link, Pipe>,
    dials: Vec<Dial>,
    /// A chunk, and the next offset of it.
    reading: Option<(Chunk, i64)>,
    /// The record that the application works on: its end.
    in_hand: Option<i64>,
    /// What comes next under a lease.
    expected: Vec<(Arc<Lease>, i64)>,
    /// What the group said of the start of partitions that were not fetched since.
    told: BTreeMap<i32, i64>,
    /// The group has thrown it out, and it cannot know yet: others may have its partitions.
    evicted: bool,
}

struct Run {
    dice: Random,
    now: Instant,
    seed: u64,
    peer: Peer,
    /// In place of the classic group.
    modern: Option<modern::Coordinator>,
    members: Vec<Member>,
    lives: u32,
    finished: Vec<BTreeSet<i64>>,
    delivered: usize,
    healed: bool,
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition }
}

fn at(partition: i32) -> usize {
    usize::try_from(partition).expect("0 to 3")
}

fn versions() -> Versions {
    fn of<R: Api>() -> (ottla_protocol::api::ApiKey, (i16, i16)) {
        (R::KEY, (*R::VERSIONS.start(), *R::VERSIONS.end()))
    }
    let mut versions = every_version();
    for (key, range) in [
        of::<JoinGroupRequest>(),
        of::<SyncGroupRequest>(),
        of::<HeartbeatRequest>(),
        of::<LeaveGroupRequest>(),
        of::<ConsumerGroupHeartbeatRequest>(),
    ] {
        versions = std::iter::once((key, range)).chain(ranges(&versions)).collect();
    }
    versions
}

/// What reading needs, again as pairs.
fn ranges(versions: &Versions) -> Vec<(ottla_protocol::api::ApiKey, (i16, i16))> {
    (0..100).map(ottla_protocol::api::ApiKey).filter_map(|key| Some((key, versions.get(key)?))).collect()
}

impl Run {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let peer = Peer {
            phase: Phase::Joining,
            generation: 0,
            next_member: 0,
            members: BTreeMap::new(),
            leader: Str::default(),
            shares: BTreeMap::new(),
            committed: BTreeMap::new(),
            ends: vec![5; at(PARTITIONS)],
        };
        let mut run = Self {
            dice: Random::new(seed ^ 0x5eed),
            now,
            seed,
            peer,
            modern: (seed % 2 == 1).then(modern::Coordinator::default),
            members: Vec::new(),
            lives: 0,
            finished: vec![BTreeSet::new(); at(PARTITIONS)],
            delivered: 0,
            healed: false,
        };
        for _ in 0..MEMBERS {
            let member = run.born();
            run.members.push(member);
        }
        run
    }

    fn born(&mut self) -> Member {
        self.lives += 1;
        let assignor = [Assignor::Range, Assignor::CooperativeSticky, Assignor::Sticky, Assignor::RoundRobin];
        let assignor = assignor[usize::try_from(self.seed / 2 % 4).expect("below 4")].clone();
        let client = ClientConfig { bootstrap: vec![("seed".into(), 1)], ..ClientConfig::default() };
        let config = ConsumerConfig {
            group_protocol: if self.modern.is_some() {
                GroupProtocol::Consumer
            } else {
                GroupProtocol::Classic
            },
            group_id: Some("g".into()),
            source: Source::Topics(vec!["t".into()]),
            assignors: vec![assignor],
            session_timeout: SESSION,
            heartbeat_interval: Duration::from_secs(1),
            when: When::Every(Duration::from_millis(300)),
            ..ConsumerConfig::default()
        };
        let seed = self.seed.wrapping_mul(31) + u64::from(self.lives);
        Member {
            life: self.lives,
            machine: Consumer::new(
                Arc::new(client),
                Arc::new(config),
                seed,
                Now { instant: self.now, wall_ms: 0 },
            ),
            pipes: BTreeMap::new(),
            dials: Vec::new(),
            reading: None,
            in_hand: None,
            expected: Vec::new(),
            told: BTreeMap::new(),
            evicted: false,
        }
    }

    fn step(&mut self) {
        let who = self.dice.below(MEMBERS);
        match self.dice.below(1_000) {
            0..=249 => self.drive_links(who),
            250..=399 => self.serve(who),
            400..=599 => self.answer(who),
            600..=799 => self.apply(who),
            800..=839 => self.dial(who),
            840..=869 if !self.healed => self.peer.ends[self.dice.below(at(PARTITIONS))] += 1,
            870 | 871 if !self.healed => self.members[who] = self.born(),
            872..=874 if !self.healed => {
                let now = self.now;
                self.members[who].machine.close(now, None);
            }
            875..=884 if !self.healed => self.reset(who),
            885..=889 => self.seek(who),
            890 if !self.healed => self.evict(who),
            _ => self.pass_time(),
        }
        if self.members[who].machine.is_closed() {
            self.members[who] = self.born();
        }
    }

    fn drive_links(&mut self, who: usize) {
        let now = self.now;
        let member = &mut self.members[who];
        while let Some(dial) = member.machine.poll_dial(now) {
            member.dials.push(dial);
        }
        for link in member.pipes.keys().copied().collect::<Vec<_>>() {
            let member = &mut self.members[who];
            let wanted = member.machine.wants(now, link);
            let work = member.machine.poll_work(now, link);
            assert!(wanted || work.is_none(), "{link:?} got work that it would have slept through");
            match work {
                None => {}
                Some(Work::Close(cause)) => self.lose(who, link, cause),
                Some(Work::Request(request)) => {
                    self.judge_request(who, &request.ask);
                    let pipe = self.members[who].pipes.get_mut(&link).expect("open");
                    pipe.requests.push_back(request.ask);
                }
                Some(Work::Share(sharing)) => self.members[who].machine.handle(now, sharing.finish()),
                Some(Work::Produce(_) | Work::Split(_)) => panic!("a consumer writes nothing"),
            }
        }
    }

    /// What a consumer may ask at this moment.
    fn judge_request(&mut self, who: usize, ask: &Ask) {
        let member = &mut self.members[who];
        match ask {
            Ask::OffsetCommit(request) => {
                for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
                    let p = partition.partition_index;
                    let holds = member.machine.positions.contains_key(&place(p));
                    assert!(holds, "a commit for {p}, which was given up (C3)");
                }
            }
            Ask::ConsumerGroupHeartbeat(request) if request.member_epoch >= 0 => {
                let Some(topics) = &request.topic_partitions else { return };
                let reported: BTreeSet<i32> =
                    topics.iter().flat_map(|t| t.partitions.iter().copied()).collect();
                let given_up = member.machine.positions.keys().find(|p| !reported.contains(&p.partition));
                assert_eq!(given_up, None, "reported as gone, and it is not (C3)");
            }
            Ask::Fetch(request) => {
                for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
                    if let Some(told) = member.told.remove(&partition.partition) {
                        let from = partition.fetch_offset;
                        let p = partition.partition;
                        assert_eq!(from, told.max(0), "{p} does not start at the commit (C6)");
                    }
                }
            }
            _ => {}
        }
    }

    /// The broker takes the oldest request of a connection in.
    fn serve(&mut self, who: usize) {
        let now = self.now;
        let mut out = Vec::new();
        self.peer.expire(now, &mut out);
        self.modern.iter_mut().for_each(|group| group.expire(now));
        self.peer.end_joining(now, &mut out);
        let member = &mut self.members[who];
        let links: Vec<Link> = member.pipes.keys().copied().collect();
        if let Some(link) = links.get(self.dice.below(links.len())).copied()
            && let Some(ask) = member.pipes.get_mut(&link).and_then(|pipe| pipe.requests.pop_front())
        {
            let from = (who, member.life, link);
            self.take_in(from, ask, &mut out);
        }
        for ((who, life, link), answer) in out {
            let member = &mut self.members[who];
            if let Some(pipe) = member.pipes.get_mut(&link).filter(|_| member.life == life) {
                pipe.answers.push_back(answer);
            }
        }
    }

    fn take_in(&mut self, from: From, ask: Ask, out: &mut Vec<(From, Answer)>) {
        let (now, busy) = (self.now, !self.healed && self.dice.below(15) == 0);
        let peer = &mut self.peer;
        let answer = match ask {
            Ask::Metadata(_) => Answer::Metadata(metadata()),
            Ask::FindCoordinator(_) => crate::core::group::scene::found_coordinator(1),
            Ask::JoinGroup(request) => return peer.join(now, from, &request, out),
            Ask::SyncGroup(request) => return peer.sync(now, from, &request, out),
            Ask::Heartbeat(request) => {
                let mut error_code = peer.check(&request.member_id, request.generation_id);
                if let Some(member) = peer.members.get_mut(&request.member_id) {
                    member.seen = now;
                }
                if error_code.is_ok() && peer.phase == Phase::Joining {
                    error_code = ErrorCode::REBALANCE_IN_PROGRESS;
                }
                Answer::Heartbeat(HeartbeatResponse { error_code, ..Default::default() })
            }
            Ask::ConsumerGroupHeartbeat(request) => {
                let group = self.modern.as_mut().expect("a group of KIP-848");
                Answer::ConsumerGroupHeartbeat(group.heartbeat(now, &request))
            }
            Ask::LeaveGroup(request) => {
                for leaving in &request.members {
                    peer.members.remove(&leaving.member_id);
                }
                peer.rebalance(out);
                Answer::LeaveGroup(LeaveGroupResponse::default())
            }
            Ask::ListOffsets(request) => {
                let listed = |asked: &ListOffsetsPartition| ListedPartition {
                    partition_index: asked.partition_index,
                    offset: 0,
                    ..Default::default()
                };
                let partitions = request.topics[0].partitions.iter().map(listed).collect();
                let topics = vec![ListedTopic { name: "t".into(), partitions }];
                Answer::ListOffsets(ListOffsetsResponse { topics, ..Default::default() })
            }
            Ask::Fetch(request) => Answer::Fetch(self.fetch(&request)),
            Ask::OffsetFetch(request) => Answer::OffsetFetch(self.committed(&request, busy)),
            Ask::OffsetCommit(request) => Answer::OffsetCommit(self.commit(&request, busy)),
            other => panic!("a consumer asked {other:?}"),
        };
        out.push((from, answer));
    }

    fn fetch(&mut self, request: &FetchRequest) -> FetchResponse {
        let mut partitions = Vec::new();
        for asked in request.topics.iter().flat_map(|topic| &topic.partitions) {
            let end = self.peer.ends[at(asked.partition)];
            let count = (end - asked.fetch_offset).clamp(0, 3);
            let mut answer = FetchedPartition {
                partition_index: asked.partition,
                high_watermark: end,
                ..Default::default()
            };
            if count > 0 {
                answer.records = batch(asked.fetch_offset, i32::try_from(count).expect("1 to 3"), 0);
            }
            partitions.push(answer);
        }
        let responses = vec![FetchedTopic { topic_id: TOPIC_ID, partitions, ..Default::default() }];
        FetchResponse { responses, ..Default::default() }
    }

    fn committed(&self, request: &OffsetFetchRequest, busy: bool) -> OffsetFetchResponse {
        let error_code = if busy { ErrorCode::UNSTABLE_OFFSET_COMMIT } else { ErrorCode::NONE };
        let asked = request.groups[0].topics.iter().flatten().flat_map(|topic| &topic.partition_indexes);
        let offset = |p: &i32| if busy { -1 } else { self.peer.committed.get(p).copied().unwrap_or(-1) };
        let found = |p: &i32| OffsetFetchedPartition {
            partition_index: *p,
            committed_offset: offset(p),
            error_code,
            ..Default::default()
        };
        let partitions = asked.map(found).collect();
        let topics = vec![OffsetFetchedTopic { topic_id: TOPIC_ID, partitions, ..Default::default() }];
        let asked = &request.groups[0];
        let check =
            |group: &modern::Coordinator| group.check_fetch(asked.member_id.as_ref(), asked.member_epoch);
        let error_code = self.modern.as_ref().map_or(ErrorCode::NONE, check);
        let topics = if error_code.is_ok() { topics } else { Vec::new() };
        let group = OffsetFetchedGroup { group_id: "g".into(), topics, error_code };
        OffsetFetchResponse { groups: vec![group], ..Default::default() }
    }

    fn may_commit(&self, request: &OffsetCommitRequest, partition: i32) -> ErrorCode {
        let (id, epoch) = (&request.member_id, request.generation_id_or_member_epoch);
        match &self.modern {
            Some(group) => group.check_commit(id, epoch, partition),
            None => match self.peer.check(id, epoch) {
                code if code.is_ok() && self.peer.phase == Phase::Syncing => ErrorCode::REBALANCE_IN_PROGRESS,
                code => code,
            },
        }
    }

    fn commit(&mut self, request: &OffsetCommitRequest, busy: bool) -> OffsetCommitResponse {
        let mut partitions = Vec::new();
        for asked in request.topics.iter().flat_map(|topic| &topic.partitions) {
            let (partition_index, offset) = (asked.partition_index, asked.committed_offset);
            let error_code = match self.may_commit(request, partition_index) {
                code if code.is_ok() && busy => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                code => code,
            };
            partitions.push(OffsetCommittedPartition { partition_index, error_code });
            if error_code.is_ok() {
                let finished = &self.finished[at(partition_index)];
                let open = (0..offset).find(|earlier| !finished.contains(earlier));
                assert_eq!(open, None, "{partition_index} committed {offset} (C1)");
                let before = self.peer.committed.insert(partition_index, offset).unwrap_or(0);
                assert!(before <= offset, "{partition_index} went from {before} back to {offset} (C2)");
            }
        }
        let topics = vec![OffsetCommittedTopic { topic_id: TOPIC_ID, partitions, ..Default::default() }];
        OffsetCommitResponse { topics, ..Default::default() }
    }

    fn answer(&mut self, who: usize) {
        let now = self.now;
        let member = &mut self.members[who];
        let links: Vec<Link> = member.pipes.keys().copied().collect();
        let Some(link) = links.get(self.dice.below(links.len())).copied() else { return };
        let Some(answer) = member.pipes.get_mut(&link).and_then(|pipe| pipe.answers.pop_front()) else {
            return;
        };
        if let Answer::OffsetFetch(response) = &answer {
            let topics = response.groups.iter().flat_map(|group| &group.topics);
            for found in topics.flat_map(|topic| &topic.partitions) {
                // An error says nothing of where to start.
                let start = if found.error_code.is_ok() { found.committed_offset } else { i64::MAX };
                member.told.insert(found.partition_index, start);
            }
        }
        if let Answer::ConsumerGroupHeartbeat(response) = &answer {
            member.evicted &= response.error_code.is_ok();
        }
        member.machine.handle(now, Input::Answer { link, answer });
    }

    /// The group goes on without a member, as after a revocation that took too long.
    fn evict(&mut self, who: usize) {
        let member = &mut self.members[who];
        let (Some(group), Some((own, _))) = (&mut self.modern, &member.machine.group) else { return };
        if let Some(identity) = own.identity() {
            member.evicted |= group.remove(&identity.member_id);
        }
    }

    /// The application goes on: what it has in hand is finished, and the next record is delivered.
    fn apply(&mut self, who: usize) {
        let now = self.now;
        let member = &mut self.members[who];
        if let (Some(end), Some((chunk, _))) = (member.in_hand.take(), &member.reading) {
            self.finished[at(chunk.partition.partition)].insert(end - 1);
            chunk.lease.finish(end);
        }
        if member.reading.as_ref().is_some_and(|(chunk, _)| chunk.lease.is_recalled()) {
            member.reading = None;
        }
        if member.reading.as_ref().is_some_and(|(chunk, next)| chunk.end == Some(*next))
            && let Some((chunk, _)) = member.reading.take()
        {
            member.machine.finished_chunk(&chunk.partition, &chunk.lease, 0);
        }
        if member.reading.is_none() {
            member.machine.attention.ask();
            match member.machine.take(now) {
                // What is being taken away may still be queued; a reader drops it.
                Some(Ok(chunk)) if chunk.lease.is_recalled() => return,
                Some(Ok(chunk)) => {
                    let from = chunk.from;
                    member.reading = Some((chunk, from));
                }
                Some(Err(error)) => panic!("{error}"),
                None => return,
            }
        }
        self.deliver(who);
    }

    fn deliver(&mut self, who: usize) {
        let member = &mut self.members[who];
        let Some((chunk, next)) = &mut member.reading else { return };
        let p = chunk.partition.partition;
        let expected = match member.expected.iter_mut().find(|(lease, _)| Arc::ptr_eq(lease, &chunk.lease)) {
            Some((_, expected)) => expected,
            None => {
                member.expected.push((chunk.lease.clone(), chunk.lease.finished()));
                &mut member.expected.last_mut().expect("just pushed").1
            }
        };
        let held = batches(&chunk.records).flatten().any(|batch| {
            let header = batch.header();
            (header.base_offset..=header.last_offset()).contains(next)
        });
        assert!(held && *next == *expected, "{p}:{next} came, {expected} was next (C4)");
        *expected += 1;
        *next += 1;
        member.in_hand = Some(*next);
        self.delivered += 1;
        let known = |(other, member): &(usize, &Member)| *other != who && !member.evicted;
        let deceived = self.members[who].evicted;
        for (other, member) in self.members.iter().enumerate().filter(known).filter(|_| !deceived) {
            let position = member.machine.positions.get(&place(p));
            let owns = position.is_some_and(|position| !position.lease.is_recalled());
            assert!(!owns, "members {who} and {other} both have {p} (C5)");
        }
    }

    /// Reads a partition again from where it is finished.
    fn seek(&mut self, who: usize) {
        let p = i32::try_from(self.dice.below(at(PARTITIONS))).expect("0 to 3");
        let (now, member) = (self.now, &mut self.members[who]);
        let Some(position) = member.machine.positions.get(&place(p)) else { return };
        let finished = position.lease.finished();
        if finished >= 0 && matches!(position.place, Place::At(_)) && !position.lease.is_recalled() {
            member.told.remove(&p);
            member.machine.seek(now, &place(p), Place::At(finished)).expect("assigned");
        }
    }

    fn reset(&mut self, who: usize) {
        let links: Vec<Link> = self.members[who].pipes.keys().copied().collect();
        if let Some(link) = links.get(self.dice.below(links.len())).copied() {
            self.lose(who, link, Error::new(ErrorKind::Connect, "reset"));
        }
    }

    fn lose(&mut self, who: usize, link: Link, cause: Error) {
        self.members[who].pipes.remove(&link);
        self.members[who].machine.handle(self.now, Input::Lost { link, cause });
    }

    fn dial(&mut self, who: usize) {
        let Some(dial) = self.members[who].dials.pop() else { return };
        if !self.healed && self.dice.below(5) == 0 {
            let cause = Error::new(ErrorKind::Connect, "refused");
            return self.members[who].machine.handle(self.now, Input::Lost { link: dial.link, cause });
        }
        self.members[who].pipes.insert(dial.link, Pipe::default());
        let opened = Input::Opened { link: dial.link, versions: versions() };
        self.members[who].machine.handle(self.now, opened);
    }

    fn pass_time(&mut self) {
        let session = if self.modern.is_some() { modern::SESSION } else { SESSION };
        let little = self.now + Duration::from_millis(u64::try_from(self.dice.below(20)).expect("small"));
        self.now = match self.dice.below(500) {
            0 if !self.healed => self.now + session / 2,
            _ => little,
        };
        for member in &mut self.members {
            member.machine.handle(self.now, Input::Tick);
        }
    }

    fn is_done(&self) -> bool {
        let end = |p| self.peer.ends[at(p)];
        (0..PARTITIONS).all(|p| self.peer.committed.get(&p) == Some(&end(p)))
    }
}

fn metadata() -> MetadataResponse {
    let broker = Broker { node_id: 1, host: "broker".into(), port: 9001, rack: None };
    let partition =
        |partition_index| PartitionMetadata { partition_index, leader_id: 1, ..Default::default() };
    let topic = TopicMetadata {
        name: Some("t".into()),
        topic_id: TOPIC_ID,
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..Default::default()
    };
    MetadataResponse { brokers: vec![broker], topics: vec![topic], ..Default::default() }
}

/// Runs one seed; panics with the rule that broke.
fn run(seed: u64) -> usize {
    let mut run = Run::new(seed);
    let steps = 2_000 + run.dice.below(6_000);
    (0..steps).for_each(|_| run.step());
    run.healed = true;
    for _ in 0..400_000 {
        if run.is_done() {
            return run.delivered;
        }
        run.step();
    }
    panic!(
        "not everything was delivered and committed: {:?} of {:?} (C4)",
        run.peer.committed, run.peer.ends
    );
}

#[test]
fn consumers_alone_keep_their_promises_whatever_happens() {
    let (seeds, runs) = run_seeds("the consumers", 60, run);
    let records = runs.into_iter().sum::<usize>();
    assert!(records > 100, "the runs deliver records");
    println!("{seeds} seeds, {records} records");
}

/// Every mistake that can be planted in this machine is caught, and soon.
#[cfg(ottla_planted)]
#[test]
fn planted_defects_are_caught() {
    use crate::core::seeds::catch_planted;
    use crate::planted::Defect;
    let defects = [
        Defect::CommitLent,
        Defect::CommitAfterRevoke,
        Defect::StaleFetch,
        Defect::ErrorIsNoOffset,
        Defect::GoneTooSoon,
        Defect::KeptWhenFenced,
        Defect::StaleEpoch,
    ];
    catch_planted(&defects, 600, run);
}
