//! A consumer's machine, answer by answer: what it asks for, from where, and when again.

mod budget;
mod faults;
mod standing;

use bytes::BytesMut;
use ottla_protocol::api::{Request as Api, Versions};
use ottla_protocol::messages::*;
use ottla_protocol::records::{BatchBuilder, Stamp, stamp};
use ottla_protocol::wire::{RecordSet, Str, Uuid};

use super::*;
use crate::config::Reset;
use crate::core::Ask;

const CONTROL: Link = Link { node: 1, lane: Lane::Control };
const FETCH: Link = Link { node: 1, lane: Lane::Fetch };
const ASIDE: Link = Link { node: 1, lane: Lane::Aside };

/// A consumer that reads partitions of topic t, all led by node 1, whose answers are made by hand. No real time.
struct Desk {
    now: Instant,
    machine: Consumer,
    topic_id: Uuid,
    leader_epoch: i32,
    partitions: i32,
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn reading(partitions: i32) -> ConsumerConfig {
    let partitions = (0..partitions).map(|partition| ("t".into(), partition)).collect();
    ConsumerConfig { source: Source::Partitions(partitions), when: When::Manual, ..ConsumerConfig::default() }
}

fn committing(partitions: i32) -> ConsumerConfig {
    ConsumerConfig { group_id: Some("g".into()), ..reading(partitions) }
}

/// One batch of records under a leader epoch.
pub(super) fn batch(base_offset: i64, count: i32, leader_epoch: i32) -> RecordSet {
    let mut builder = BatchBuilder::new(BytesMut::new(), 0);
    for _ in 0..count {
        builder.append(0, None, Some(b"value"), &[]).unwrap();
    }
    let (mut bytes, parts) = builder.into_parts();
    stamp(&mut bytes, &Stamp { base_offset, partition_leader_epoch: leader_epoch, ..parts }).unwrap();
    RecordSet(Some(bytes.freeze()))
}

impl Desk {
    fn new(config: ConsumerConfig) -> Self {
        let now = Instant::now();
        let client = ClientConfig { bootstrap: vec![("seed".into(), 9092)], ..ClientConfig::default() };
        let machine =
            Consumer::new(Arc::new(client), Arc::new(config), 1, Now { instant: now, wall_ms: WALL_MS });
        let mut desk = Self { now, machine, topic_id: Uuid(7), leader_epoch: 5, partitions: 4 };
        let seed = Link { node: i32::MIN, lane: Lane::Control };
        assert!(matches!(desk.next(seed), Some(Ask::Metadata(_))));
        desk.show_cluster(seed);
        desk
    }

    fn show_cluster(&mut self, link: Link) {
        let broker = Broker { node_id: 1, host: "broker".into(), port: 9001, ..Default::default() };
        let partition = |partition_index| PartitionMetadata {
            partition_index,
            leader_id: 1,
            leader_epoch: self.leader_epoch,
            ..Default::default()
        };
        let topic = TopicMetadata {
            name: Some("t".into()),
            topic_id: self.topic_id,
            partitions: (0..self.partitions).map(partition).collect(),
            ..Default::default()
        };
        let response = MetadataResponse { brokers: vec![broker], topics: vec![topic], ..Default::default() };
        self.answer(link, Answer::Metadata(response));
    }

    fn dial(&mut self) {
        while let Some(dial) = self.machine.poll_dial(self.now) {
            let versions = every_version();
            self.machine.handle(self.now, Input::Opened { link: dial.link, versions });
        }
    }

    /// The next request on a link, if there is one now. Work must come if and only if it is wanted.
    fn next(&mut self, link: Link) -> Option<Ask> {
        self.dial();
        let wanted = self.machine.wants(self.now, link);
        match self.machine.poll_work(self.now, link) {
            None => {
                assert!(!wanted, "what is wanted on {link:?}");
                None
            }
            Some(Work::Request(request)) => {
                assert!(wanted, "{link:?} would have slept through {:?}", request.ask);
                Some(request.ask)
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, link: Link, answer: Answer) {
        self.machine.handle(self.now, Input::Answer { link, answer });
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.handle(self.now, Input::Tick);
    }

    /// Partition, offset and wait of the fetch that is sent now.
    fn expect_fetch(&mut self, link: Link) -> (Vec<(i32, i64)>, i32) {
        let Some(Ask::Fetch(request)) = self.next(link) else { panic!("no Fetch") };
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        (partitions.map(|p| (p.partition, p.fetch_offset)).collect(), request.max_wait_ms)
    }

    fn fetched(&mut self, link: Link, partitions: Vec<FetchedPartition>) {
        let topic = FetchedTopic { topic: Str::default(), topic_id: self.topic_id, partitions };
        let responses = if topic.partitions.is_empty() { Vec::new() } else { vec![topic] };
        self.answer(link, Answer::Fetch(FetchResponse { session_id: 9, responses, ..Default::default() }));
    }

    fn refuse(&mut self, link: Link, partition_index: i32, error_code: ErrorCode) {
        let refused = FetchedPartition { partition_index, error_code, ..Default::default() };
        self.fetched(link, vec![refused]);
    }

    /// The log of every partition that is looked up begins here.
    fn list(&mut self, offset: i64) {
        let request = self.expect_listing();
        self.listed(&request, offset);
    }

    fn expect_listing(&mut self) -> ListOffsetsRequest {
        match self.next(CONTROL) {
            Some(Ask::ListOffsets(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Looks a place up that is asked for by this time; -1 is "nowhere".
    fn list_at(&mut self, timestamp: i64, offset: i64) {
        let request = self.expect_listing();
        assert_eq!(request.topics[0].partitions[0].timestamp, timestamp);
        self.listed(&request, offset);
    }

    fn listed(&mut self, request: &ListOffsetsRequest, offset: i64) {
        let listed = |asked: &ListOffsetsPartition| ListedPartition {
            partition_index: asked.partition_index,
            offset,
            ..Default::default()
        };
        let topic = ListedTopic {
            name: "t".into(),
            partitions: request.topics[0].partitions.iter().map(listed).collect(),
        };
        let topics = vec![topic];
        self.answer(CONTROL, Answer::ListOffsets(ListOffsetsResponse { topics, ..Default::default() }));
    }

    /// Partition 0 has this commit in the group, whose coordinator is node 1.
    fn find_committed(&mut self, committed_offset: i64, committed_leader_epoch: i32) {
        self.dial();
        let seed = Link { node: i32::MIN, lane: Lane::Control };
        let asked = [CONTROL, seed].into_iter().find(|link| self.machine.wants(self.now, *link)).unwrap();
        assert!(matches!(self.next(asked), Some(Ask::FindCoordinator(_))));
        let found = crate::core::group::scene::found_coordinator(1);
        self.answer(asked, found);
        assert!(matches!(self.next(CONTROL), Some(Ask::OffsetFetch(_))));
        let partition =
            OffsetFetchedPartition { committed_offset, committed_leader_epoch, ..Default::default() };
        let topic =
            OffsetFetchedTopic { topic_id: self.topic_id, partitions: vec![partition], ..Default::default() };
        let group =
            OffsetFetchedGroup { group_id: "g".into(), topics: vec![topic], error_code: ErrorCode::NONE };
        self.answer(
            CONTROL,
            Answer::OffsetFetch(OffsetFetchResponse { groups: vec![group], ..Default::default() }),
        );
    }

    /// The epochs that the leader is asked about now: its own, and that of the last record.
    fn expect_question(&mut self) -> (i32, i32) {
        let Some(Ask::OffsetForLeaderEpoch(request)) = self.next(CONTROL) else { panic!("no question") };
        let asked = &request.topics[0].partitions[0];
        (asked.current_leader_epoch, asked.leader_epoch)
    }

    fn confirm(&mut self, error_code: ErrorCode, leader_epoch: i32, end_offset: i64) {
        let end = EpochEndOffset { error_code, partition: 0, leader_epoch, end_offset };
        let topics = vec![OffsetForLeaderTopicResult { topic: "t".into(), partitions: vec![end] }];
        let response = OffsetForLeaderEpochResponse { topics, ..Default::default() };
        self.answer(CONTROL, Answer::OffsetForLeaderEpoch(response));
    }

    /// Everything that may be delivered now is read to its end and finished.
    fn read(&mut self) -> Vec<i64> {
        let mut ends = Vec::new();
        while let Some(chunk) = self.machine.take(self.now) {
            let chunk = chunk.expect("records");
            chunk.lease.finish(chunk.end.expect("whole batches"));
            ends.extend(chunk.end);
        }
        ends
    }

    fn failure(&mut self) -> Option<(ErrorKind, String)> {
        let error = self.machine.take(self.now)?.expect_err("an error");
        Some((error.kind(), error.to_string()))
    }
}

pub(super) fn every_version() -> Versions {
    fn of<R: Api>() -> (ottla_protocol::api::ApiKey, (i16, i16)) {
        (R::KEY, (*R::VERSIONS.start(), *R::VERSIONS.end()))
    }
    let reading = [of::<MetadataRequest>(), of::<FetchRequest>(), of::<ListOffsetsRequest>()];
    let group = [of::<FindCoordinatorRequest>(), of::<OffsetCommitRequest>(), of::<OffsetFetchRequest>()];
    reading.into_iter().chain(group).chain([of::<OffsetForLeaderEpochRequest>()]).collect()
}

fn records(partition_index: i32, records: RecordSet) -> FetchedPartition {
    FetchedPartition { partition_index, records, high_watermark: 100, ..Default::default() }
}

// Fetches aside.

/// Three partitions, of which only the first is in the long poll that is out.
fn one_of_three_polled() -> Desk {
    // A long poll must not take the whole budget: what it reserves is held for as long as it waits.
    let mut desk = Desk::new(ConsumerConfig { fetch_buffer_bytes: 4 * 1024 * 1024, ..reading(3) });
    desk.list(0);
    for partition in [1, 2] {
        desk.machine.pause(desk.now, &at(partition), true).unwrap();
    }
    assert_eq!(desk.expect_fetch(FETCH), (vec![(0, 0)], 500));
    desk
}

#[test]
fn what_joins_during_a_long_poll_does_not_wait_for_it() {
    let mut desk = one_of_three_polled();
    desk.machine.pause(desk.now, &at(1), false).unwrap();
    assert_eq!(desk.next(ASIDE), None, "the long poll may end any moment");
    desk.pass(ms(5));
    assert_eq!(desk.expect_fetch(ASIDE), (vec![(1, 0)], 20));
    // Another one joins: it waits for the fetch aside, which the broker holds for 20 ms at most.
    desk.machine.pause(desk.now, &at(2), false).unwrap();
    assert_eq!(desk.next(ASIDE), None);
    desk.pass(ms(1));
    desk.fetched(ASIDE, vec![records(1, batch(0, 3, 5))]);
    assert_eq!(desk.expect_fetch(ASIDE), (vec![(1, 3), (2, 0)], 20));
}

#[test]
fn a_long_poll_takes_over_what_is_asked_for_aside() {
    let mut desk = one_of_three_polled();
    desk.machine.pause(desk.now, &at(1), false).unwrap();
    desk.pass(ms(5));
    desk.expect_fetch(ASIDE);
    desk.fetched(FETCH, vec![records(0, batch(0, 3, 5))]);
    assert_eq!(desk.next(FETCH), None, "else partition 1 would be asked for aside again and again");
    desk.fetched(ASIDE, vec![]);
    assert_eq!(desk.expect_fetch(FETCH), (vec![(0, 3), (1, 0)], 500));
}

/// L4.
#[test]
fn an_idle_consumer_sends_two_requests_a_second() {
    let mut desk = one_of_three_polled();
    let start = desk.now;
    let mut out = vec![(desk.now + ms(500), FETCH)];
    for partition in [1, 2] {
        desk.machine.pause(desk.now, &at(partition), false).unwrap();
    }
    let mut sent = Vec::new();
    while desk.now < start + ms(10_000) {
        desk.dial();
        for link in [FETCH, ASIDE] {
            if let Some(Ask::Fetch(request)) = desk.next(link) {
                sent.push((desk.now - start, link.lane));
                // The broker has nothing, and holds the request as long as it may.
                let wait = ms(u64::try_from(request.max_wait_ms).unwrap());
                out.push((desk.now + wait, link));
            }
        }
        let ready = [FETCH, ASIDE].into_iter().filter_map(|link| desk.machine.ready_at(link));
        let times = out.iter().map(|(at, _)| *at).chain(ready).chain(desk.machine.deadline());
        let next = times.filter(|at| *at > desk.now).min().expect("something to wait for");
        desk.pass(next - desk.now);
        let over: Vec<Link> = out.extract_if(.., |(at, _)| *at <= desk.now).map(|(_, link)| link).collect();
        over.into_iter().for_each(|link| desk.fetched(link, vec![]));
    }
    let first: Vec<_> = sent.iter().filter(|(at, _)| *at < ms(1_000)).collect();
    assert!(first.len() <= 10, "the long poll takes over soon: {first:?}");
    let rest: Vec<_> = sent.iter().filter(|(at, _)| *at >= ms(1_000)).collect();
    assert!(rest.len() <= 18, "{} requests in nine seconds: {rest:?}", rest.len());
    assert!(rest.iter().all(|(_, lane)| *lane == Lane::Fetch), "{rest:?}");
}

// Waits.

/// L4.
#[test]
fn a_partition_that_is_refused_again_and_again_is_asked_for_less_and_less() {
    let mut desk = Desk::new(reading(1));
    desk.list(0);
    let mut waits = Vec::new();
    for round in 0..7 {
        assert!(desk.next(FETCH).is_some(), "round {round}");
        desk.refuse(FETCH, 0, ErrorCode::KAFKA_STORAGE_ERROR);
        let retry_at = desk.machine.positions[&at(0)].retry_at.unwrap();
        waits.push(retry_at - desk.now);
        desk.pass(retry_at - desk.now);
        // Metadata is asked for as well; the leader stays.
        if desk.machine.wants(desk.now, CONTROL) {
            assert!(matches!(desk.next(CONTROL), Some(Ask::Metadata(_))));
            desk.show_cluster(CONTROL);
        }
    }
    for (wait, base) in waits.iter().zip([100, 200, 400, 800, 1_000, 1_000, 1_000]) {
        assert!(*wait >= ms(base) * 8 / 10 && *wait <= ms(base) * 12 / 10, "{waits:?}");
    }
    desk.expect_fetch(FETCH);
    desk.fetched(FETCH, vec![records(0, batch(0, 1, 5))]);
    assert_eq!(desk.machine.positions[&at(0)].attempts, 0, "the next wait is the first again");
}

// Positions that are lost.

/// Fault 42: without a reset that is allowed.
#[test]
fn a_position_out_of_range_is_reported_after_what_was_fetched_before() {
    let mut desk = Desk::new(reading(1));
    desk.list(0);
    desk.expect_fetch(FETCH);
    desk.fetched(FETCH, vec![records(0, batch(0, 3, 5))]);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 3)]);
    desk.refuse(FETCH, 0, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(desk.read(), [3]);
    desk.pass(ms(200));
    assert_eq!(desk.expect_fetch(FETCH).0, []);
    desk.refuse(FETCH, 0, ErrorCode::OFFSET_OUT_OF_RANGE);
    let (kind, text) = desk.failure().unwrap();
    assert_eq!(kind, ErrorKind::OffsetOutOfRange);
    assert!(text.contains("offset 3"), "{text}");
    assert_eq!(desk.next(FETCH), None, "nothing is read until a seek");
}

/// Two records of three are fetched; one is finished, then the topic is deleted and created again.
fn recreated(config: ConsumerConfig) -> Desk {
    let mut desk = Desk::new(config);
    desk.list(0);
    desk.expect_fetch(FETCH);
    desk.fetched(FETCH, vec![records(0, batch(0, 3, 5))]);
    desk.expect_fetch(FETCH);
    desk.refuse(FETCH, 0, ErrorCode::UNKNOWN_TOPIC_ID);
    (desk.topic_id, desk.leader_epoch) = (Uuid(8), 0);
    desk.pass(ms(200));
    assert!(matches!(desk.next(CONTROL), Some(Ask::Metadata(_))));
    desk.show_cluster(CONTROL);
    desk
}

/// F16.
#[test]
fn a_topic_that_was_created_again_is_not_read_from_the_old_position() {
    let mut desk = recreated(reading(1));
    let (kind, text) = desk.failure().unwrap();
    assert_eq!(kind, ErrorKind::OffsetOutOfRange);
    assert!(text.contains("created again"), "{text}");
    assert!(desk.read().is_empty(), "what was buffered is of the old topic");
    desk.pass(ms(200));
    assert_eq!(desk.next(FETCH), None, "nothing is read until a seek");
}

#[test]
fn a_topic_that_was_created_again_is_read_as_the_reset_says() {
    let mut desk = recreated(ConsumerConfig { on_out_of_range: Reset::Earliest, ..reading(1) });
    assert!(desk.read().is_empty(), "what was buffered is of the old topic");
    desk.list(0);
    let Some(Ask::Fetch(request)) = desk.next(FETCH) else { panic!("no Fetch") };
    assert_eq!((request.topics[0].topic_id, request.topics[0].partitions[0].fetch_offset), (Uuid(8), 0));
    let forgotten: Vec<Uuid> = request.forgotten_topics_data.iter().map(|topic| topic.topic_id).collect();
    assert!(forgotten.iter().all(|id| *id == Uuid(7)), "{forgotten:?}");
}

/// F16.
#[test]
fn what_was_finished_of_a_topic_is_not_committed_to_the_one_created_again() {
    let config = ConsumerConfig { on_out_of_range: Reset::Earliest, ..committing(1) };
    let mut desk = Desk::new(config);
    desk.find_committed(2, -1);
    desk.expect_fetch(FETCH);
    desk.fetched(FETCH, vec![records(0, batch(2, 3, 5))]);
    assert_eq!(desk.read(), [5]);
    let id = desk.machine.commit(desk.now, None).unwrap().unwrap();
    (desk.topic_id, desk.leader_epoch) = (Uuid(8), 0);
    desk.show_cluster(CONTROL);
    let outcome = desk.machine.take_commit(id).unwrap().unwrap();
    assert_eq!(outcome.superseded, [at(0)]);
    assert_eq!(desk.machine.commit(desk.now, None).unwrap(), None);
    desk.list(0);
    assert_eq!(desk.next(CONTROL), None);
}

// Leader epochs (KIP-320).

/// Partition 0 is committed up to 40 under leader epoch 3; epoch 5 leads.
fn taken_up(config: ConsumerConfig) -> Desk {
    let mut desk = Desk::new(config);
    desk.find_committed(40, 3);
    assert_eq!(desk.next(FETCH), None, "the new leader is asked first");
    assert_eq!(desk.expect_question(), (5, 3));
    desk
}

/// B10, F14.
#[test]
fn a_commit_of_an_older_leader_is_confirmed_before_it_is_read_from() {
    let mut desk = taken_up(committing(1));
    desk.confirm(ErrorCode::NONE, 3, 60);
    assert_eq!(desk.next(CONTROL), None);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 40)]);
}

#[test]
fn a_commit_of_the_leader_of_now_needs_no_confirmation() {
    let mut desk = Desk::new(committing(1));
    desk.find_committed(40, 5);
    assert_eq!(desk.next(CONTROL), None);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 40)]);
}

/// Fault 44.
#[test]
fn a_leader_that_knows_nothing_of_the_epoch_proves_no_loss() {
    let mut desk = taken_up(committing(1));
    desk.confirm(ErrorCode::NONE, -1, -1);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 40)]);
}

#[test]
fn a_refused_question_is_asked_again_after_a_wait() {
    let mut desk = taken_up(committing(1));
    desk.confirm(ErrorCode::FENCED_LEADER_EPOCH, -1, -1);
    assert_eq!(desk.next(FETCH), None);
    desk.pass(ms(200));
    assert!(matches!(desk.next(CONTROL), Some(Ask::Metadata(_))));
    desk.leader_epoch = 6;
    desk.show_cluster(CONTROL);
    assert_eq!(desk.expect_question(), (6, 3));
    // And an answer that leaves the partition out answers nothing.
    desk.answer(CONTROL, Answer::OffsetForLeaderEpoch(OffsetForLeaderEpochResponse::default()));
    assert_eq!(desk.next(CONTROL), None, "not at once");
    assert_eq!(desk.next(FETCH), None);
    desk.pass(ms(500));
    assert_eq!(desk.expect_question(), (6, 3));
}

/// Fault 43, F14.
#[test]
fn a_log_that_was_cut_off_is_an_error() {
    let mut desk = taken_up(committing(1));
    desk.confirm(ErrorCode::NONE, 3, 30);
    let (kind, text) = desk.failure().unwrap();
    assert_eq!(kind, ErrorKind::OffsetOutOfRange);
    assert!(text.contains("truncated to 30") && text.contains("position 40"), "{text}");
    assert_eq!(desk.next(FETCH), None, "nothing is read until a seek");
    assert_eq!(desk.machine.commit(desk.now, None).unwrap(), None);
}

/// Fault 43.
#[test]
fn a_log_that_was_cut_off_is_read_on_from_there_if_resets_are_allowed() {
    let mut desk = taken_up(ConsumerConfig { on_out_of_range: Reset::Earliest, ..committing(1) });
    desk.confirm(ErrorCode::NONE, 3, 30);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 30)]);
}

/// Faults 42 and 43, F14.
#[test]
fn a_new_leader_confirms_what_is_read_and_what_it_cut_off_comes_again() {
    let mut desk = Desk::new(ConsumerConfig { on_out_of_range: Reset::Earliest, ..reading(1) });
    desk.list(0);
    desk.expect_fetch(FETCH);
    desk.fetched(FETCH, vec![records(0, batch(0, 10, 5))]);
    desk.leader_epoch = 6;
    desk.show_cluster(CONTROL);
    assert_eq!(desk.next(FETCH), None);
    assert_eq!(desk.expect_question(), (6, 5));
    desk.confirm(ErrorCode::NONE, 5, 10);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 10)]);
    desk.fetched(FETCH, vec![]);
    desk.leader_epoch = 7;
    desk.show_cluster(CONTROL);
    assert_eq!(desk.expect_question(), (7, 5));
    desk.confirm(ErrorCode::NONE, 5, 8);
    // Nothing was finished, and the end of what was buffered is not in the log any more.
    assert!(desk.read().is_empty());
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 0)]);
}

#[test]
fn an_offset_is_committed_with_the_epoch_of_the_last_finished_record() {
    let mut desk = Desk::new(committing(1));
    desk.find_committed(2, -1);
    desk.expect_fetch(FETCH);
    let both: Vec<u8> = [batch(2, 3, 3), batch(5, 2, 5)].iter().flat_map(|b| b.0.clone().unwrap()).collect();
    desk.fetched(FETCH, vec![records(0, RecordSet(Some(both.into())))]);
    let lease = desk.machine.take(desk.now).unwrap().unwrap().lease;
    for (finished, epoch) in [(5, 3), (6, 5), (7, 5)] {
        lease.finish(finished);
        let id = desk.machine.commit(desk.now, None).unwrap().unwrap();
        let Some(Ask::OffsetCommit(request)) = desk.next(CONTROL) else { panic!("no OffsetCommit") };
        let committed = &request.topics[0].partitions[0];
        assert_eq!((committed.committed_offset, committed.committed_leader_epoch), (finished, epoch));
        let partitions = vec![OffsetCommittedPartition { partition_index: 0, error_code: ErrorCode::NONE }];
        let topic = OffsetCommittedTopic { topic_id: Uuid(7), partitions, ..Default::default() };
        let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
        desk.answer(CONTROL, Answer::OffsetCommit(response));
        assert!(desk.machine.take_commit(id).unwrap().is_ok());
    }
}

// What it says of itself.

#[test]
fn a_fetch_is_measured_from_its_sending_to_its_answer() {
    let mut desk = Desk::new(reading(1));
    desk.list(90);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 90)]);
    desk.pass(ms(30));
    let set = batch(90, 4, 5);
    let bytes = set.0.as_ref().map_or(0, |set| set.len());
    desk.fetched(FETCH, vec![records(0, set)]);
    let fetched = desk.machine.metrics(desk.now);
    assert_eq!((fetched.fetch_latency.count(), fetched.fetch_latency.max()), (1, ms(30)));
    assert_eq!((fetched.fetched_bytes, fetched.buffer_bytes), (bytes as u64, bytes));
    assert_eq!((fetched.lag, fetched.records), (10, 0));
    assert_eq!(desk.read(), [94]);
    desk.machine.read += 4;
    let read = desk.machine.metrics(desk.now);
    assert_eq!((read.lag, read.records, read.buffer_bytes), (6, 4, 0));
    // A fetch without an answer has no latency.
    desk.expect_fetch(FETCH);
    desk.pass(ms(30));
    desk.machine.handle(desk.now, Input::Lost { link: FETCH, cause: Error::new(ErrorKind::Connect, "gone") });
    assert_eq!(desk.machine.metrics(desk.now).fetch_latency.count(), 1);
}

const WALL_MS: i64 = 1_000_000;

#[test]
fn a_time_is_looked_up_after_the_end_so_that_nothing_new_is_passed_over() {
    let mut desk = Desk::new(reading(1));
    desk.list(0);
    desk.expect_fetch(FETCH);
    let partition = TopicPartition { topic: "t".into(), partition: 0 };
    let place = Place::Time { timestamp: 777, end: None };
    desk.machine.seek(desk.now, &partition, place).unwrap();
    desk.list_at(-1, 40);
    desk.list_at(777, 25);
    assert_eq!(desk.machine.positions[&partition].place, Place::At(25));
    desk.machine.seek(desk.now, &partition, place).unwrap();
    desk.list_at(-1, 40);
    // Whatever came behind 40 meanwhile is newer than the seek.
    desk.list_at(777, -1);
    assert_eq!(desk.machine.positions[&partition].place, Place::At(40));
}

/// B6.
#[test]
fn an_end_that_comes_late_is_not_taken_for_the_time() {
    let mut desk = Desk::new(reading(1));
    desk.list(0);
    desk.expect_fetch(FETCH);
    let partition = TopicPartition { topic: "t".into(), partition: 0 };
    desk.machine.seek(desk.now, &partition, Place::Time { timestamp: 777, end: None }).unwrap();
    let late = desk.expect_listing();
    // Another leader has said the end meanwhile.
    desk.machine.positions.get_mut(&partition).unwrap().place = Place::Time { timestamp: 777, end: Some(30) };
    desk.listed(&late, 40);
    assert_eq!(desk.machine.positions[&partition].place, Place::Time { timestamp: 777, end: Some(30) });
    desk.list_at(777, 25);
    assert_eq!(desk.machine.positions[&partition].place, Place::At(25));
}

#[test]
fn a_reset_by_duration_counts_back_from_the_moment_of_the_reset() {
    let minute = Reset::ByDuration(Duration::from_secs(60));
    let mut desk = Desk::new(ConsumerConfig { on_no_commit: minute, on_out_of_range: minute, ..reading(1) });
    desk.list_at(-1, 40);
    desk.list_at(WALL_MS - 60_000, 5);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 5)]);
    desk.now += ms(2_000);
    desk.refuse(FETCH, 0, ErrorCode::OFFSET_OUT_OF_RANGE);
    desk.list_at(-1, 40);
    desk.list_at(WALL_MS - 58_000, -1);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 40)]);
}
