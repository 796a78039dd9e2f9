//! The producer's machine alone: no runtime, no bytes on a wire, no clock but a number; many seeds a second.
//!
//! A toy cluster takes the requests of the machine in, by the rules of Kafka's log for idempotent producers, and a seeded
//! dice decides what happens next: records, answers, lost connections, leaders that move, time. At the end everything heals,
//! and the logs are compared with what the deliveries were told (S1 to S5, L1).
#![allow(clippy::print_stdout, reason = "says how many seeds ran")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test starts its clock somewhere, and shares outcomes"
)]

mod metrics;
mod room;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::records::{
    Codec, Compression, Compressor, DECOMPRESSED_BYTES_MAX, Decompressor, add_sequence, batches,
};
use ottla_protocol::wire::{Str, Uuid};

use super::accumulator::{Entrant, Place, Refusal};
use super::backoff::Random;
use super::batch::{BatchOutcome, Ticket};
use super::compression::Loan;
use super::producer::Producer;
use super::seeds::run_seeds;
use super::{Answer, Ask, Dial, Input, Lane, Link, Machine, Now, Work};
use crate::config::{ClientConfig, ProducerConfig};
use crate::error::{Error, ErrorKind, Outcome};

const NODES: i32 = 3;
const PARTITIONS: i32 = 4;
const TOPIC_ID: Uuid = Uuid(77);

#[derive(Clone)]
struct Told(Arc<Mutex<Option<BatchOutcome<Told>>>>);

impl Ticket for Told {
    type Claim = Told;

    fn new(_: &Str, _: i32) -> Self {
        Told(Arc::default())
    }

    fn claim(&self) -> Told {
        self.clone()
    }

    fn settle(self, outcome: BatchOutcome<Told>) {
        let before = self.0.lock().expect("not poisoned").replace(outcome);
        assert!(before.is_none(), "a batch was settled twice (L1)");
    }
}

impl Told {
    /// What became of the record at `index`, and its place in the part of the batch that it went in.
    fn outcome(&self, index: i32) -> (BatchOutcome<Told>, i32) {
        let outcome = self.0.lock().expect("not poisoned").clone();
        match outcome.expect("every batch has its outcome (L1)") {
            BatchOutcome::Split(parts) => {
                let part = parts.iter().rev().find(|(first, _)| *first <= index);
                let (first, told) = part.expect("the first part begins with record 0");
                told.outcome(index - first)
            }
            outcome => (outcome, index),
        }
    }
}

/// What the log of a partition knows of one producer.
#[derive(Default)]
struct Known {
    epoch: i16,
    /// First sequence, count and base offset of the last five batches.
    last: VecDeque<(i32, i32, i64)>,
}

#[derive(Default)]
struct Log {
    leader: i32,
    leader_epoch: i32,
    values: Vec<u64>,
    producers: BTreeMap<i64, Known>,
}

impl Log {
    /// Kafka's rules for a batch of an idempotent producer.
    fn append(&mut self, id: i64, epoch: i16, sequence: i32, values: Vec<u64>) -> Result<i64, ErrorCode> {
        let count = i32::try_from(values.len()).expect("small");
        let base = i64::try_from(self.values.len()).expect("small");
        let new = !self.producers.contains_key(&id);
        let known = self.producers.entry(id).or_default();
        if epoch < known.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if new || epoch > known.epoch {
            if !new && sequence != 0 {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            (known.epoch, known.last) = (epoch, VecDeque::new());
        } else if let Some((.., base)) = known.last.iter().find(|(s, n, _)| (*s, *n) == (sequence, count)) {
            return Ok(*base);
        } else if known.last.back().is_some_and(|(s, n, _)| add_sequence(*s, *n) != sequence) {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        known.last.push_back((sequence, count, base));
        if known.last.len() > 5 {
            known.last.pop_front();
        }
        self.values.extend(values);
        Ok(base)
    }
}

/// A connection: requests on their way there, and answers on their way back.
#[derive(Default)]
struct Pipe {
    requests: VecDeque<Ask>,
    answers: VecDeque<Answer>,
}

struct Run {
    dice: Random,
    now: Instant,
    machine: Producer<Told>,
    topic: usize,
    logs: Vec<Log>,
    pipes: BTreeMap<Link, Pipe>,
    dials: Vec<Dial>,
    next_id: i64,
    compressor: Compressor,
    decompressor: Decompressor,
    /// Each record: its partition, its batch's outcome and its place in the batch.
    sent: Vec<(i32, Told, i32)>,
    healed: bool,
    /// The `max.message.bytes` of the topic, and how many batches were split because of it.
    message_bytes_max: usize,
    splits: usize,
    /// Batches that tasks compress, and how many they have given back.
    loans: Vec<Loan>,
    lent: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let client = ClientConfig { bootstrap: vec![("seed".into(), 1)], ..ClientConfig::default() };
        let lz4 = Codec::new(Compression::Lz4, None).expect("compiled in");
        let config = ProducerConfig {
            batch_size: 300,
            linger: Duration::from_millis(5),
            delivery_timeout: Duration::from_secs(3),
            codec: if seed.is_multiple_of(2) { Codec::NONE } else { lz4 },
            ..ProducerConfig::default()
        };
        let mut machine = Producer::new(Arc::new(client), Arc::new(config), seed, now);
        let topic = machine.topic(now, &Str::from("t"));
        let log = |p| Log { leader: p % NODES, ..Log::default() };
        Run {
            dice: Random::new(seed ^ 0x5eed),
            now,
            machine,
            topic,
            logs: (0..PARTITIONS).map(log).collect(),
            pipes: BTreeMap::new(),
            dials: Vec::new(),
            next_id: 100,
            compressor: Compressor::default(),
            decompressor: Decompressor::default(),
            sent: Vec::new(),
            healed: false,
            message_bytes_max: usize::MAX,
            splits: 0,
            loans: Vec::new(),
            lent: 0,
        }
    }

    fn tell(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        self.machine.take_news().into_iter().for_each(Producer::<Told>::tell);
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..=39 if !self.healed => self.send(),
            0..=59 => self.drive_links(),
            60..=74 => self.serve(),
            75..=89 => self.answer(),
            90 if !self.healed => self.reset(),
            91 if !self.healed => self.move_leader(),
            // Some of these limits let no record through, others hardly two.
            92 if !self.healed => self.message_bytes_max = [70, 100, 180, usize::MAX][self.dice.below(4)],
            93..=95 => self.dial(),
            _ => self.pass_time(),
        }
    }

    fn send(&mut self) {
        let value = u64::try_from(self.sent.len()).expect("small").to_be_bytes();
        let partition = i32::try_from(self.dice.below(4)).expect("0 to 3");
        let place = Place::Partition(partition);
        let entrant = Entrant { place, timestamp: None, key: None, value: Some(&value), headers: &[] };
        let now = Now { instant: self.now, wall_ms: 1_000 };
        let patient = self.dice.below(2) == 0;
        match self.machine.append(self.topic, &entrant, patient, || now).0 {
            Ok((told, index)) => self.sent.push((partition, told, index)),
            Err(Refusal::Failed(e)) => panic!("refused: {e}"),
            Err(Refusal::Turn { partition }) => self.loans.extend(self.machine.lend_sealed(partition)),
            Err(_) => {}
        }
        self.machine.take_news().into_iter().for_each(Producer::<Told>::tell);
    }

    fn drive_links(&mut self) {
        // A task may take long to compress, and others may be quicker.
        if self.dice.below(3) == 0 && !self.loans.is_empty() {
            let loan = self.loans.swap_remove(self.dice.below(self.loans.len()));
            self.machine.take_back(loan.compress(&mut self.compressor));
            self.lent += 1;
        }
        while let Some(dial) = self.machine.poll_dial(self.now) {
            self.dials.push(dial);
        }
        for link in self.pipes.keys().copied().collect::<Vec<_>>() {
            let wanted = self.machine.wants(self.now, link);
            let work = self.machine.poll_work(self.now, link);
            assert!(wanted || work.is_none(), "{link:?} got work that it would have slept through");
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
                Some(Work::Split(oversized)) => {
                    self.splits += 1;
                    self.tell(oversized.split());
                }
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

    /// A broker takes the oldest request of a connection in.
    fn serve(&mut self) {
        let Some(link) = self.any_link() else { return };
        let Some(ask) = self.pipes.get_mut(&link).and_then(|pipe| pipe.requests.pop_front()) else { return };
        let answer = match ask {
            Ask::Metadata(_) => Answer::Metadata(self.metadata()),
            Ask::InitProducerId(_) => {
                self.next_id += 1;
                let producer_id = self.next_id;
                Answer::InitProducerId(InitProducerIdResponse { producer_id, ..Default::default() })
            }
            Ask::Produce(request) => Answer::Produce(self.produce(link.node, &request)),
            other => panic!("a producer asked {other:?}"),
        };
        self.pipes.get_mut(&link).expect("open").answers.push_back(answer);
    }

    fn metadata(&self) -> MetadataResponse {
        let broker =
            |node_id| Broker { node_id, host: format!("n{node_id}").as_str().into(), port: 1, rack: None };
        let partition = |(index, log): (i32, &Log)| PartitionMetadata {
            partition_index: index,
            leader_id: log.leader,
            leader_epoch: log.leader_epoch,
            ..Default::default()
        };
        MetadataResponse {
            brokers: (0..NODES).map(broker).collect(),
            topics: vec![TopicMetadata {
                name: Some("t".into()),
                topic_id: TOPIC_ID,
                partitions: (0..).zip(&self.logs).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn produce(&mut self, node: i32, request: &ProduceRequest) -> ProduceResponse {
        let mut partition_responses = Vec::new();
        for asked in request.topic_data.iter().flat_map(|topic| &topic.partition_data) {
            let set = asked.records.0.clone().expect("records");
            let batch = batches(&set).next().expect("one batch").expect("a valid header");
            batch.check_produced().expect("a batch that a broker takes");
            let header = *batch.header();
            let mut open = batch.open(&mut self.decompressor, DECOMPRESSED_BYTES_MAX).expect("opens");
            let mut values = Vec::new();
            while let Some(record) = open.next().expect("a valid record") {
                values.push(u64::from_be_bytes(
                    record.value.expect("a value").try_into().expect("eight bytes"),
                ));
            }
            let log = &mut self.logs[usize::try_from(asked.index).expect("0 to 3")];
            let busy = !self.healed && self.dice.below(20) == 0;
            let appended = if log.leader != node {
                Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
            } else if set.len() > self.message_bytes_max {
                // As Kafka does, before it looks at numbers.
                Err(ErrorCode::MESSAGE_TOO_LARGE)
            } else if busy {
                Err(ErrorCode::NOT_ENOUGH_REPLICAS)
            } else {
                log.append(header.producer_id, header.producer_epoch, header.base_sequence, values)
            };
            let (error_code, base_offset) = appended.map_or_else(|e| (e, -1), |base| (ErrorCode::NONE, base));
            let index = asked.index;
            partition_responses.push(ProducedPartition {
                index,
                error_code,
                base_offset,
                ..Default::default()
            });
        }
        let topic = ProducedTopic { name: "t".into(), topic_id: TOPIC_ID, partition_responses };
        ProduceResponse { responses: vec![topic], ..Default::default() }
    }

    fn answer(&mut self) {
        let Some(link) = self.any_link() else { return };
        let Some(answer) = self.pipes.get_mut(&link).and_then(|pipe| pipe.answers.pop_front()) else {
            return;
        };
        self.tell(Input::Answer { link, answer });
    }

    fn reset(&mut self) {
        if let Some(link) = self.any_link() {
            // What was written may still arrive.
            for _ in 0..self.dice.below(3) {
                if let Some(Ask::Produce(request)) =
                    self.pipes.get_mut(&link).and_then(|p| p.requests.pop_front())
                {
                    self.produce(link.node, &request);
                }
            }
            self.lose(link, Error::new(ErrorKind::Connect, "reset"));
        }
    }

    fn lose(&mut self, link: Link, cause: Error) {
        self.pipes.remove(&link);
        self.tell(Input::Lost { link, cause });
    }

    fn move_leader(&mut self) {
        let at = self.dice.below(4);
        let node = i32::try_from(self.dice.below(3)).expect("0 to 2");
        let log = &mut self.logs[at];
        (log.leader, log.leader_epoch) = (node, log.leader_epoch + 1);
    }

    fn dial(&mut self) {
        let Some(dial) = self.dials.pop() else { return };
        if !self.healed && self.dice.below(5) == 0 {
            let cause = Error::new(ErrorKind::Connect, "refused");
            return self.tell(Input::Lost { link: dial.link, cause });
        }
        self.pipes.insert(dial.link, Pipe::default());
        let versions =
            [(ApiKey::PRODUCE, (3, 13)), (ApiKey::METADATA, (0, 13)), (ApiKey::INIT_PRODUCER_ID, (0, 5))];
        self.tell(Input::Opened { link: dial.link, versions: versions.into_iter().collect::<Versions>() });
    }

    /// Time goes on by a little, or to the next deadline.
    fn pass_time(&mut self) {
        let little = self.now + Duration::from_millis(u64::try_from(self.dice.below(4)).expect("small"));
        let next = self.machine.deadline().unwrap_or(little).max(self.now);
        self.now = match self.dice.below(300) {
            0 if !self.healed => self.now + Duration::from_millis(3_500),
            1..=30 if next < self.now + Duration::from_millis(400) => next,
            _ => little,
        };
        self.tell(Input::Tick);
        // A driver would spin: what is due must not be due any more.
        let due =
            self.machine.deadline().is_some_and(|at| at < self.now) && !self.machine.wants_dial(self.now);
        assert!(!due, "a deadline that a tick does not move");
    }

    /// Everything works again, and whatever is left gets its outcome.
    fn settle(&mut self) {
        self.healed = true;
        let number = self.machine.flush();
        for _ in 0..200_000 {
            if self.machine.is_flushed(number) {
                return;
            }
            self.step();
        }
        panic!("not flushed (L2)");
    }

    fn check(&self) {
        let mut ends = [-1_i64; 4];
        for (value, (partition, told, index)) in (0_u64..).zip(&self.sent) {
            let at = usize::try_from(*partition).expect("0 to 3");
            let copies: Vec<usize> =
                (0..).zip(&self.logs[at].values).filter(|(_, v)| **v == value).map(|p| p.0).collect();
            assert!(copies.len() <= 1, "record {value} is in the log {} times (S2)", copies.len());
            let (outcome, index) = told.outcome(*index);
            match outcome {
                BatchOutcome::Written { base_offset, .. } => {
                    let offset = i64::try_from(*copies.first().expect("acknowledged, so in the log (S1)"))
                        .expect("small");
                    let told = base_offset.map(|base| base + i64::from(index));
                    assert!(told.is_none_or(|told| told == offset), "told {told:?}, is at {offset} (S1)");
                    assert!(offset > ends[at], "record {value} is before an earlier one (S3)");
                    ends[at] = offset;
                }
                BatchOutcome::Failed(e) if e.outcome() != Some(Outcome::PossiblyWritten) => {
                    let rejected = e.outcome() == Some(Outcome::Rejected);
                    assert!(!rejected || e.kind() == ErrorKind::RecordTooLarge, "{e}");
                    assert!(e.outcome().is_some(), "{e} (S5)");
                    assert!(copies.is_empty(), "record {value} was said to be not written: {e} (S4, S5)");
                }
                BatchOutcome::Failed(_) => {}
                BatchOutcome::Refused { error, .. } => panic!("nothing is refused here: {error}"),
                BatchOutcome::Split(_) => unreachable!("followed to its part"),
            }
        }
    }
}

/// Runs one seed; panics with the invariant that broke. Returns how many records were sent, how many
/// batches were split, and how many compressed by the task that had filled them.
fn run(seed: u64) -> [usize; 3] {
    let mut run = Run::new(seed);
    let steps = 500 + run.dice.below(3_000);
    (0..steps).for_each(|_| run.step());
    run.settle();
    run.check();
    [run.sent.len(), run.splits, run.lent]
}

/// Faults 1 to 6, 13 to 15 and F25 in every order that the dice finds: leaders move with five batches out, answers and
/// connections get lost, replicas are missing, time runs out, limits change.
#[test]
fn a_producer_alone_keeps_its_promises_whatever_happens() {
    let (seeds, runs) = run_seeds("the producer", 200, run);
    let mut done = [0; 3];
    runs.into_iter().for_each(|more| done.iter_mut().zip(more).for_each(|(done, more)| *done += more));
    let [records, splits, lent] = done;
    assert!(records > 100, "the runs send records");
    assert!(splits > 10, "batches are split");
    assert!(lent > 10, "batches are compressed by those who filled them");
    println!("{seeds} seeds, {records} records, {splits} batches split, {lent} compressed aside");
}

#[test]
fn a_link_that_sleeps_has_nothing_to_do() {
    let mut run = Run::new(1);
    (0..2_000).for_each(|_| run.step());
    run.drive_links();
    let asleep = Link { node: 99, lane: Lane::Produce };
    assert!(!run.machine.wants(run.now, asleep));
}

/// Every mistake that can be planted in this machine is caught, and soon.
#[cfg(ottla_planted)]
#[test]
fn planted_defects_are_caught() {
    use crate::core::seeds::catch_planted;
    use crate::planted::Defect;
    let defects = [
        Defect::SequenceReused,
        Defect::RetryAtTheBack,
        Defect::WideWindow,
        Defect::FalseNotWritten,
        Defect::SilentExpiry,
    ];
    catch_planted(&defects, 600, run);
}
