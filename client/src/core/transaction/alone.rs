//! The machine of a transactional producer alone: no runtime, no bytes on a wire, no clock but a number.
//!
//! A toy cluster follows the rules of Kafka's transaction coordinator, under version 1 and version 2 of KIP-890, and a
//! seeded dice decides what happens next: records, offsets, ends, answers, lost connections, requests that arrive long
//! after their connection is gone, time. At the end everything heals, and what a reader of committed records sees is compared with what
//! the application was told (S2 to S6).
#![allow(clippy::print_stdout, reason = "says how many seeds ran")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test starts its clock somewhere")]

mod coordinator;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::records::{Compressor, DECOMPRESSED_BYTES_MAX, Decompressor, batches};
use ottla_protocol::wire::{Str, Uuid};

use super::{End, GroupOffsets};
use crate::config::{ClientConfig, ProducerConfig};
use crate::core::accumulator::{Entrant, Place, Refusal};
use crate::core::backoff::Random;
use crate::core::batch::{BatchOutcome, Ticket};
use crate::core::group::GroupMetadata;
use crate::core::offsets::Committed;
use crate::core::producer::Producer;
use crate::core::seeds::run_seeds;
use crate::core::sequence::Identity;
use crate::core::{Answer, Ask, Dial, Input, Link, Machine, Now, TopicPartition, Work};
use crate::error::{Error, ErrorKind};
use coordinator::{Coordinator, FIRST_ID, LAST_EPOCH, Log};

const NODES: i32 = 3;
const PARTITIONS: usize = 3;
const TOPIC_ID: Uuid = Uuid(77);
const NOBODY: Identity = Identity { id: -1, epoch: -1 };

/// Transactions are judged as wholes: what became of a batch is not looked at.
#[derive(Clone)]
struct Unheard;

impl Ticket for Unheard {
    type Claim = Unheard;

    fn claim(&self) -> Unheard {
        self.clone()
    }

    fn new(_: &Str, _: i32) -> Self {
        Unheard
    }

    fn settle(self, _: BatchOutcome<Unheard>) {}
}

/// What the application does, and knows.
enum Application {
    Idle,
    Open {
        number: u64,
        values: Vec<u64>,
        offset: Option<i64>,
    },
    /// `patient`: it will hear the outcome. One that is not has dropped the future.
    Ending {
        number: u64,
        patient: bool,
    },
    /// It was told that this cannot go on.
    Broken,
}

/// A transaction, as the application knows it.
struct Told {
    values: Vec<u64>,
    offset: Option<i64>,
    /// Committed or not, where it was told.
    committed: Option<bool>,
}

#[derive(Default)]
struct Pipe {
    requests: VecDeque<Ask>,
    answers: VecDeque<Answer>,
}

struct Run {
    dice: Random,
    now: Instant,
    machine: Producer<Unheard>,
    topic: usize,
    logs: Vec<Log>,
    leaders: Vec<i32>,
    coordinator: Coordinator,
    coordinator_node: i32,
    pipes: BTreeMap<Link, Pipe>,
    /// Requests on connections that are gone: they may still arrive.
    late: Vec<(i32, Ask)>,
    dials: Vec<Dial>,
    compressor: Compressor,
    decompressor: Decompressor,
    application: Application,
    told: Vec<Told>,
    next_value: u64,
    next_offset: i64,
    healed: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let client = ClientConfig { bootstrap: vec![("seed".into(), 1)], ..ClientConfig::default() };
        let config = ProducerConfig {
            batch_size: 200,
            linger: Duration::from_millis(5),
            delivery_timeout: Duration::from_secs(3),
            transactional_id: Some("t-1".into()),
            ..ProducerConfig::default()
        };
        let mut machine = Producer::new(Arc::new(client), Arc::new(config), seed, now);
        let topic = machine.topic(now, &Str::from("t"));
        let mut dice = Random::new(seed ^ 0x7a);
        // Or its epochs are used up soon.
        let given =
            if dice.below(2) == 0 { -1 } else { LAST_EPOCH - i16::try_from(dice.below(6)).expect("small") };
        let coordinator = Coordinator::new(dice.below(2) == 0, given, now);
        Run {
            dice,
            now,
            machine,
            topic,
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            leaders: (0..NODES).collect(),
            coordinator,
            coordinator_node: 0,
            pipes: BTreeMap::new(),
            late: Vec::new(),
            dials: Vec::new(),
            compressor: Compressor::default(),
            decompressor: Decompressor::default(),
            application: Application::Idle,
            told: Vec::new(),
            next_value: 0,
            next_offset: 0,
            healed: false,
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..=29 if !self.healed => self.apply(),
            0..=49 => self.drive_links(),
            50..=69 => self.serve(),
            70..=86 => self.answer(),
            87 if !self.healed && self.dice.below(3) == 0 => self.reset(),
            88 => self.arrive_late(),
            89 | 90 => self.complete(),
            91 if !self.healed && self.dice.below(5) == 0 => self.move_somebody(),
            92..=94 => self.dial(),
            _ => self.pass_time(),
        }
    }

    // The application.

    fn apply(&mut self) {
        match std::mem::replace(&mut self.application, Application::Idle) {
            Application::Idle => self.begin(),
            Application::Broken => self.application = Application::Broken,
            Application::Open { number, values, offset } => match self.dice.below(12) {
                0 => self.end(number, values, offset),
                1 if offset.is_none() => self.send_offset(number, values),
                _ => self.send(number, values, offset),
            },
            Application::Ending { number, patient } => self.hear(number, patient),
        }
    }

    fn begin(&mut self) {
        if !self.machine.transaction.as_ref().expect("transactional").may_begin() {
            return;
        }
        match self.machine.begin_transaction(self.now) {
            Ok((number, previous)) => {
                let committed = previous.map(|end| matches!(end, End::Committed));
                if let (Some(last), Some(committed)) = (self.told.last_mut(), committed) {
                    let told_so = last.committed.is_none_or(|told| told == committed);
                    assert!(told_so, "two different ends were told of a transaction");
                    last.committed = Some(committed);
                }
                self.application = Application::Open { number, values: Vec::new(), offset: None };
            }
            Err(error) => {
                assert!(error.is_fatal(), "{error}");
                self.application = Application::Broken;
            }
        }
    }

    fn send(&mut self, number: u64, mut values: Vec<u64>, offset: Option<i64>) {
        let partition = i32::try_from(self.dice.below(PARTITIONS)).expect("small");
        let value = self.next_value.to_be_bytes();
        let place = Place::Partition(partition);
        let entrant = Entrant { place, timestamp: None, key: None, value: Some(&value), headers: &[] };
        let now = Now { instant: self.now, wall_ms: 1_000 };
        match self.machine.append(self.topic, &entrant, false, || now).0 {
            Ok(_) => {
                values.push(self.next_value);
                self.next_value += 1;
            }
            Err(Refusal::Failed(e)) => {
                assert!(
                    matches!(e.kind(), ErrorKind::Aborted | ErrorKind::Fenced | ErrorKind::Fatal),
                    "refused: {e}"
                );
            }
            Err(_) => {}
        }
        self.application = Application::Open { number, values, offset };
    }

    fn send_offset(&mut self, number: u64, values: Vec<u64>) {
        self.next_offset += 1;
        let next = Committed { offset: self.next_offset, leader_epoch: -1, metadata: None };
        let read = TopicPartition { topic: "in".into(), partition: 0 };
        let (group, member_id) = ("g".into(), "m".into());
        let metadata = GroupMetadata { group, member_id, generation: 1, instance_id: None };
        let offsets = GroupOffsets { metadata, offsets: [(read, next)].into() };
        let sent = self.machine.send_offsets(self.now, offsets).is_ok();
        let offset = sent.then_some(self.next_offset);
        self.application = Application::Open { number, values, offset };
    }

    fn end(&mut self, number: u64, values: Vec<u64>, offset: Option<i64>) {
        let commit = self.dice.below(4) != 0;
        self.machine.end_transaction(self.now, commit);
        self.told.push(Told { values, offset, committed: (!commit).then_some(false) });
        self.application = Application::Ending { number, patient: commit && self.dice.below(5) != 0 };
    }

    fn hear(&mut self, number: u64, patient: bool) {
        if !patient {
            // The next begin tells.
            return;
        }
        let gives_up = self.dice.below(200) == 0;
        if !gives_up && !self.machine.transaction.as_ref().expect("transactional").is_over(number) {
            self.application = Application::Ending { number, patient };
            return;
        }
        let last = self.told.last_mut().expect("one ends");
        match self.machine.outcome_of_transaction(self.now, number) {
            Ok(()) => last.committed = Some(true),
            Err(error) => match error.kind() {
                ErrorKind::Aborted => last.committed = Some(false),
                // The next begin tells.
                ErrorKind::CommitUnknown => {}
                _ => {
                    assert!(error.is_fatal(), "{error}");
                    let unsure = error.to_string().contains("is not known");
                    last.committed = (!unsure).then_some(false);
                    self.application = Application::Broken;
                }
            },
        }
    }

    // The network.

    fn tell(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        self.machine.take_news().into_iter().for_each(Producer::<Unheard>::tell);
    }

    fn drive_links(&mut self) {
        while let Some(dial) = self.machine.poll_dial(self.now) {
            self.dials.push(dial);
        }
        for link in self.pipes.keys().copied().collect::<Vec<_>>() {
            let wanted = self.machine.wants(self.now, link);
            let work = self.machine.poll_work(self.now, link);
            assert!(wanted || work.is_none(), "{link:?} got work that it would have slept through");
            let spins = work.is_none() && self.machine.wants(self.now, link);
            assert!(!spins, "{link:?} is asked for what it does not get");
            match work {
                None => {}
                Some(Work::Close(cause)) => self.lose(link, cause),
                Some(Work::Request(request)) => self.write(link, request.ask),
                Some(Work::Share(_)) => panic!("a producer is in no group"),
                Some(Work::Produce(shipment)) => {
                    let (request, encoded) = shipment.finish(&mut self.compressor);
                    self.tell(Input::Shipped { link, encoded });
                    self.write(link, request.ask);
                }
                Some(Work::Split(oversized)) => self.tell(oversized.split()),
            }
        }
    }

    fn write(&mut self, link: Link, ask: Ask) {
        self.pipes.get_mut(&link).expect("open").requests.push_back(ask);
    }

    fn any_link(&mut self) -> Option<Link> {
        let links: Vec<Link> = self.pipes.keys().copied().collect();
        links.get(self.dice.below(links.len())).copied()
    }

    fn serve(&mut self) {
        let Some(link) = self.any_link() else { return };
        let Some(ask) = self.pipes.get_mut(&link).and_then(|pipe| pipe.requests.pop_front()) else { return };
        let answer = self.take_in(link.node, ask, false);
        self.pipes.get_mut(&link).expect("open").answers.push_back(answer);
    }

    fn arrive_late(&mut self) {
        let at = self.dice.below(self.late.len().max(1));
        if at < self.late.len() {
            let (node, ask) = self.late.swap_remove(at);
            self.take_in(node, ask, true);
        }
    }

    fn answer(&mut self) {
        let Some(link) = self.any_link() else { return };
        let answer = self.pipes.get_mut(&link).and_then(|pipe| pipe.answers.pop_front());
        answer.into_iter().for_each(|answer| self.tell(Input::Answer { link, answer }));
    }

    /// Breaks a link, of those with requests in half of the cases: they may arrive later.
    fn reset(&mut self) {
        let busy = self.pipes.iter().filter(|(_, pipe)| !pipe.requests.is_empty());
        let busy: Vec<Link> = busy.map(|(link, _)| *link).collect();
        let link = match self.dice.below(2) {
            0 if !busy.is_empty() => busy.get(self.dice.below(busy.len())).copied(),
            _ => self.any_link(),
        };
        link.into_iter().for_each(|link| self.lose(link, Error::new(ErrorKind::Connect, "reset")));
    }

    fn lose(&mut self, link: Link, cause: Error) {
        let pipe = self.pipes.remove(&link).unwrap_or_default();
        self.late.extend(pipe.requests.into_iter().map(|ask| (link.node, ask)));
        self.tell(Input::Lost { link, cause });
    }

    fn move_somebody(&mut self) {
        let node = i32::try_from(self.dice.below(3)).expect("0 to 2");
        match self.dice.below(PARTITIONS + 1) {
            PARTITIONS => self.coordinator_node = node,
            at => self.leaders[at] = node,
        }
    }

    fn dial(&mut self) {
        let Some(dial) = self.dials.pop() else { return };
        if !self.healed && self.dice.below(5) == 0 {
            let cause = Error::new(ErrorKind::Connect, "refused");
            return self.tell(Input::Lost { link: dial.link, cause });
        }
        self.pipes.insert(dial.link, Pipe::default());
        let v2 = self.coordinator.v2;
        let newest = |v1: i16, all: i16| (0, if v2 { all } else { v1 });
        let versions = [
            (ApiKey::PRODUCE, (3, if v2 { 13 } else { 11 })),
            (ApiKey::METADATA, (0, 13)),
            (ApiKey::FIND_COORDINATOR, (0, 6)),
            (ApiKey::INIT_PRODUCER_ID, (0, 5)),
            (ApiKey::ADD_PARTITIONS_TO_TXN, (0, 5)),
            (ApiKey::ADD_OFFSETS_TO_TXN, (0, 4)),
            (ApiKey::TXN_OFFSET_COMMIT, newest(4, 5)),
            (ApiKey::END_TXN, newest(4, 5)),
        ];
        let versions = versions.into_iter().collect::<Versions>();
        let versions = versions.with_feature("transaction.version".into(), if v2 { 2 } else { 1 });
        self.tell(Input::Opened { link: dial.link, versions });
    }

    fn pass_time(&mut self) {
        let little = self.now + Duration::from_millis(u64::try_from(self.dice.below(4)).expect("small"));
        let next = self.machine.deadline().unwrap_or(little).max(self.now);
        self.now = match self.dice.below(400) {
            0 if !self.healed => self.now + Duration::from_millis(3_500),
            1..=30 if next < self.now + Duration::from_millis(400) => next,
            _ => little,
        };
        self.tell(Input::Tick);
        self.coordinator.pass_time(self.now);
    }

    // The cluster.

    /// The markers of an ending transaction are written.
    fn complete(&mut self) {
        self.coordinator.complete(&mut self.logs);
    }

    fn take_in(&mut self, node: i32, ask: Ask, late: bool) -> Answer {
        let here = node == self.coordinator_node;
        let odd = !self.healed && self.dice.below(20) == 0;
        let done_all_the_same = self.dice.below(2) == 0;
        let now = self.now;
        let coordinator = &mut self.coordinator;
        // A coordinator that fails in a way it does not name may have done what it was asked.
        let code = |done: Result<(), ErrorCode>| match done {
            _ if !here => ErrorCode::NOT_COORDINATOR,
            Ok(()) => ErrorCode::NONE,
            Err(code) => code,
        };
        match ask {
            Ask::Metadata(_) => Answer::Metadata(self.metadata()),
            Ask::FindCoordinator(asked) => {
                let node_id = self.coordinator_node;
                let found = ottla_protocol::messages::Coordinator {
                    key: asked.coordinator_keys[0].clone(),
                    node_id,
                    host: format!("n{node_id}").as_str().into(),
                    port: 1,
                    ..Default::default()
                };
                Answer::FindCoordinator(FindCoordinatorResponse {
                    coordinators: vec![found],
                    ..Default::default()
                })
            }
            Ask::InitProducerId(asked) => {
                let given = if here { coordinator.init(&asked) } else { Err(ErrorCode::NOT_COORDINATOR) };
                let Identity { id: producer_id, epoch: producer_epoch } = given.unwrap_or(NOBODY);
                let error_code = code(given.map(|_| ()));
                Answer::InitProducerId(InitProducerIdResponse {
                    error_code,
                    producer_id,
                    producer_epoch,
                    ..Default::default()
                })
            }
            Ask::AddPartitionsToTxn(asked) => {
                let who =
                    Identity { id: asked.v3_and_below_producer_id, epoch: asked.v3_and_below_producer_epoch };
                let topic = &asked.v3_and_below_topics[0];
                let added = topic.partitions.iter().map(|p| usize::try_from(*p).expect("small"));
                let opened = if here { coordinator.add(now, who, added) } else { Ok(()) };
                let results = topic.partitions.iter().map(|index| AddPartitionsToTxnPartitionResult {
                    partition_index: *index,
                    partition_error_code: code(opened).0,
                });
                Answer::AddPartitionsToTxn(AddPartitionsToTxnResponse {
                    results_by_topic_v3_and_below: vec![AddPartitionsToTxnTopicResult {
                        name: topic.name.clone(),
                        results_by_partition: results.collect(),
                    }],
                    ..Default::default()
                })
            }
            Ask::AddOffsetsToTxn(asked) => {
                let who = Identity { id: asked.producer_id, epoch: asked.producer_epoch };
                let opened = if here { coordinator.add(now, who, []) } else { Ok(()) };
                Answer::AddOffsetsToTxn(AddOffsetsToTxnResponse {
                    error_code: code(opened),
                    ..Default::default()
                })
            }
            Ask::TxnOffsetCommit(asked) => {
                let topic = &asked.topics[0];
                let offset = topic.partitions[0].committed_offset;
                let who = Identity { id: asked.producer_id, epoch: asked.producer_epoch };
                let done = if here { coordinator.commit_offset(now, who, offset) } else { Ok(()) };
                let partition = TxnOffsetCommittedPartition { partition_index: 0, error_code: code(done) };
                let topic = TxnOffsetCommittedTopic {
                    name: topic.name.clone(),
                    partitions: vec![partition],
                    ..Default::default()
                };
                Answer::TxnOffsetCommit(TxnOffsetCommitResponse { topics: vec![topic], ..Default::default() })
            }
            Ask::EndTxn(asked) => {
                let who = Identity { id: asked.producer_id, epoch: asked.producer_epoch };
                let ended = match here {
                    true if odd && !done_all_the_same => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
                    true => coordinator.end(who, asked.committed),
                    false => Err(ErrorCode::NOT_COORDINATOR),
                };
                let next = ended.ok().filter(|_| coordinator.v2).unwrap_or(NOBODY);
                let Identity { id: producer_id, epoch: producer_epoch } = next;
                let error_code = match code(ended.map(|_| ())) {
                    _ if odd && here => ErrorCode::UNKNOWN_SERVER_ERROR,
                    code => code,
                };
                Answer::EndTxn(EndTxnResponse {
                    error_code,
                    producer_id,
                    producer_epoch,
                    ..Default::default()
                })
            }
            Ask::Produce(asked) => Answer::Produce(self.produce(node, &asked, late)),
            other => panic!("a transactional producer asked {other:?}"),
        }
    }

    fn metadata(&self) -> MetadataResponse {
        let broker =
            |node_id| Broker { node_id, host: format!("n{node_id}").as_str().into(), port: 1, rack: None };
        let partition = |(index, leader): (i32, &i32)| PartitionMetadata {
            partition_index: index,
            leader_id: *leader,
            leader_epoch: -1,
            ..Default::default()
        };
        MetadataResponse {
            brokers: (0..NODES).map(broker).collect(),
            topics: vec![TopicMetadata {
                name: Some("t".into()),
                topic_id: TOPIC_ID,
                partitions: (0..).zip(&self.leaders).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn produce(&mut self, node: i32, request: &ProduceRequest, late: bool) -> ProduceResponse {
        let mut partition_responses = Vec::new();
        for asked in request.topic_data.iter().flat_map(|topic| &topic.partition_data) {
            let at = usize::try_from(asked.index).expect("small");
            let set = asked.records.0.clone().expect("records");
            let batch = batches(&set).next().expect("one batch").expect("a valid header");
            batch.check_produced().expect("a batch that a broker takes");
            let header = *batch.header();
            assert!(header.transactional, "a record outside of a transaction");
            let mut open = batch.open(&mut self.decompressor, DECOMPRESSED_BYTES_MAX).expect("opens");
            let mut values = Vec::new();
            while let Some(record) = open.next().expect("a valid record") {
                let value = record.value.expect("a value").try_into().expect("eight bytes");
                values.push(u64::from_be_bytes(value));
            }
            let who = Identity { id: header.producer_id, epoch: header.producer_epoch };
            assert!(
                late || self.coordinator.knows(at, who),
                "partition {at} is written to before it is registered (fault 37)"
            );
            let (now, refused) = (self.now, !self.healed && self.dice.below(300) == 0);
            let too_large = !self.healed && header.count > 1 && self.dice.below(20) == 0;
            let appended = match node == self.leaders[at] {
                false => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                true if refused => Err(ErrorCode::INVALID_RECORD),
                true => self
                    .coordinator
                    .verify(now, at, who)
                    .and(if too_large { Err(ErrorCode::MESSAGE_TOO_LARGE) } else { Ok(()) })
                    .and_then(|()| self.logs[at].append(who, header.base_sequence, values)),
            };
            let error_code = appended.err().unwrap_or(ErrorCode::NONE);
            partition_responses.push(ProducedPartition {
                index: asked.index,
                error_code,
                base_offset: 0,
                ..Default::default()
            });
        }
        let topic = ProducedTopic { name: "t".into(), topic_id: TOPIC_ID, partition_responses };
        ProduceResponse { responses: vec![topic], ..Default::default() }
    }

    // The end.

    /// Everything works again, and the last transaction comes to its end.
    fn settle(&mut self) {
        self.healed = true;
        for _ in 0..100_000 {
            match self.application {
                Application::Broken => return,
                Application::Idle if self.machine.transaction.as_ref().expect("some").may_begin() => {
                    self.begin();
                    if let Application::Open { number, .. } = self.application {
                        // Nothing is in it, and it needs no word to anybody.
                        self.machine.end_transaction(self.now, true);
                        assert!(self.machine.outcome_of_transaction(self.now, number).is_ok());
                    }
                    return;
                }
                _ if self.dice.below(3) == 0 => self.apply(),
                _ => self.step(),
            }
        }
        panic!("a transaction does not end (L2)");
    }

    fn check(&mut self) {
        self.complete();
        let mut offset = -1;
        let mut unsure = None;
        for (number, told) in self.told.iter().enumerate() {
            let copies = |value: &u64| {
                self.logs.iter().flat_map(|log| &log.committed).filter(|seen| *seen == value).count()
            };
            let seen = told.values.iter().filter(|value| copies(value) == 1).count();
            let doubled = told.values.iter().any(|value| copies(value) > 1);
            assert!(!doubled, "a record of transaction {number} is there twice (S2)");
            let torn = seen != 0 && seen != told.values.len();
            assert!(!torn, "{seen} of {} records of transaction {number} are seen (S6)", told.values.len());
            match told.committed {
                Some(true) => {
                    assert_eq!(
                        seen,
                        told.values.len(),
                        "transaction {number} was committed, and is not seen (S1)"
                    );
                    offset = told.offset.unwrap_or(offset);
                }
                Some(false) => assert!(
                    seen == 0 || told.values.is_empty(),
                    "transaction {number} was aborted, and is seen (S4)"
                ),
                None => unsure = told.offset,
            }
        }
        let committed = self.coordinator.committed;
        assert!(
            committed == offset || Some(committed) == unsure,
            "offset {committed} is committed, and should be {offset} (S6)"
        );
        for log in &self.logs {
            assert!(log.committed.is_sorted(), "records are seen out of order: {:?} (S3)", log.committed);
        }
    }
}

/// Runs one seed; panics with the invariant that broke. Returns how many transactions were committed, and how many not.
fn run(seed: u64) -> (usize, usize) {
    finish(&mut Run::new(seed))
}

fn finish(run: &mut Run) -> (usize, usize) {
    let steps = 4_000 + run.dice.below(20_000);
    (0..steps).for_each(|_| run.step());
    run.settle();
    run.check();
    let committed = run.told.iter().filter(|told| told.committed == Some(true)).count();
    (committed, run.told.len() - committed)
}

#[test]
fn transactions_alone_are_seen_as_a_whole_or_not_at_all() {
    let (seeds, runs) = run_seeds("the transactions", 200, run);
    let (mut committed, mut not) = (0, 0);
    runs.into_iter().for_each(|(yes, no)| (committed, not) = (committed + yes, not + no));
    assert!(committed > 100 && not > 100, "the runs commit and abort");
    println!("{seeds} seeds, {committed} transactions committed, {not} not");
}

/// Fault 12: the last epoch of a producer id is given out, and another id goes on, of which nobody notices anything.
#[test]
fn a_producer_whose_epochs_are_used_up_goes_on_under_another_id() {
    for v2 in [false, true] {
        let (_, ids) = run_seeds("the last epochs", 20, |seed| {
            let mut run = Run::new(seed);
            let given = LAST_EPOCH - 1;
            run.coordinator = Coordinator::new(v2, given, run.now);
            let (committed, _) = finish(&mut run);
            (committed, run.coordinator.now.id)
        });
        let changed = ids.iter().filter(|(committed, id)| *committed > 0 && *id > FIRST_ID).count();
        assert!(changed >= 10, "version 2: {v2}: another id in {changed} of 20 runs");
    }
}

/// Every mistake that can be planted in this machine is caught, and soon.
#[cfg(ottla_planted)]
#[test]
fn planted_defects_of_transactions_are_caught() {
    use crate::core::seeds::catch_planted;
    use crate::planted::Defect;
    let defects = [
        Defect::EpochKept,
        Defect::CommitDespiteFailure,
        Defect::WriteUnregistered,
        Defect::UnknownIsCommitted,
        Defect::OffsetsAfterEnd,
    ];
    catch_planted(&defects, 2_000, run);
}
