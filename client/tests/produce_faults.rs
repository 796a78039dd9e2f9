//! What goes wrong while producing, one fault at a time, on the bundled broker. Each test names the fault it shows, and what
//! users are promised then: written once and in order, or an error that says truly what became of the record.

mod polls;

use std::time::Duration;

use ottla::{Client, Deliveries, Error, ErrorCode, ErrorKind, Outcome, Payload, Producer, ProducerBuilder};
use ottla_broker::{Answer, Fault, TestBroker};
use ottla_protocol::api::ApiKey;
use ottla_protocol::messages::{ProduceRecordError, ProduceResponse, ProducedPartition};
use polls::poll_then_drop;

const SOON: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(400);

/// A broker with one node and the topic t, and a producer whose requests and deliveries end soon.
struct Scene {
    broker: TestBroker,
    producer: Producer,
}

impl Scene {
    async fn new() -> Self {
        Self::with(1, |producer| producer).await
    }

    async fn with(partitions: i32, set: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Self {
        let broker = TestBroker::builder().topic("t", partitions).start().await.expect("a broker");
        let client = Client::builder().bootstrap(broker.bootstrap()).request_timeout(SHORT);
        let client = client.metadata_max_age(SHORT).build().expect("valid settings");
        let producer = client.producer().linger(Duration::ZERO).batch_size(0);
        let producer = set(producer).build().expect("valid settings");
        Self { broker, producer }
    }

    /// Sends the numbers of a range, all of them on their way at once.
    async fn send(&self, numbers: std::ops::Range<u8>) -> Vec<Result<Option<i64>, Error>> {
        let topic = self.producer.topic("t");
        let mut window = Deliveries::default();
        for number in numbers {
            let value = [number];
            let payload = Payload { partition: Some(0), ..Payload::value(&value) };
            window.push(topic.enqueue(payload).await.expect("accepted"));
        }
        let mut outcomes = Vec::new();
        while let Some(outcome) = window.next().await {
            outcomes.push(outcome.map(|written| written.offset));
        }
        outcomes
    }

    /// Sends the numbers, of which each must be written where it belongs.
    #[track_caller]
    fn written(outcomes: Vec<Result<Option<i64>, Error>>, offsets: std::ops::Range<i64>) {
        let offsets: Vec<_> = offsets.map(Some).collect();
        assert_eq!(outcomes.into_iter().collect::<Result<Vec<_>, _>>().expect("written"), offsets);
    }

    fn log(&self) -> Vec<u8> {
        let log = self.broker.log("t", 0).expect("a readable log");
        log.iter().map(|record| record.value.as_ref().expect("a value")[0]).collect()
    }

    /// The epoch under which the producer wrote last, and its last sequence number.
    fn producer(&self) -> (i16, Option<i32>) {
        let producers = self.broker.producers("t", 0);
        let last = producers.last().expect("an idempotent producer");
        (last.epoch, last.last_sequence)
    }
}

/// Changes what the next answers to Produce say of each partition.
fn rewrite(change: impl Fn(&mut ProducedPartition) + Send + Sync + 'static) -> Fault {
    rewrite_all(move |answer| {
        answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses).for_each(&change);
    })
}

fn rewrite_all(change: impl Fn(&mut ProduceResponse) + Send + Sync + 'static) -> Fault {
    Fault::on(ApiKey::PRODUCE).rewrite(move |answer| match answer {
        Answer::Produce(answer) => change(answer),
        _ => panic!("an answer to Produce"),
    })
}

fn refuse(code: ErrorCode) -> Fault {
    Fault::on(ApiKey::PRODUCE).topic("t").partition(0).fail(code)
}

/// One fault, at the second of three records: all are written once and in order, under the first epoch.
async fn check_once(fault: Fault) {
    let scene = Scene::new().await;
    Scene::written(scene.send(0..1).await, 0..1);
    let fault = scene.broker.fault(fault);
    Scene::written(scene.send(1..3).await, 1..3);
    assert!(scene.broker.fired(fault) > 0, "the fault has not happened");
    assert_eq!((scene.log(), scene.producer()), (vec![0, 1, 2], (0, Some(2))));
}

#[tokio::test]
async fn fault_1_an_answer_that_is_lost_makes_no_second_copy() {
    check_once(Fault::on(ApiKey::PRODUCE).cut_answer()).await;
}

#[tokio::test]
async fn fault_2_an_answer_that_is_too_late_makes_no_second_copy() {
    check_once(Fault::on(ApiKey::PRODUCE).delay_answer(SHORT * 2)).await;
}

#[tokio::test]
async fn fault_3_a_request_that_never_arrived_is_sent_again() {
    check_once(Fault::on(ApiKey::PRODUCE).cut()).await;
}

#[tokio::test]
async fn fault_4_a_number_in_doubt_is_never_used_again() {
    let scene = Scene::with(1, |producer| producer.delivery_timeout(SHORT * 2)).await;
    Scene::written(scene.send(0..1).await, 0..1);
    let fault = scene.broker.fault(Fault::on(ApiKey::PRODUCE).always().swallow_answer());
    let late = scene.send(1..2).await.remove(0).expect_err("nobody answered");
    assert_eq!((late.kind(), late.outcome()), (ErrorKind::Timeout, Some(Outcome::PossiblyWritten)));
    scene.broker.remove_fault(fault);
    Scene::written(scene.send(2..4).await, 2..4);
    // 1 was written; had 2 its number, the broker would have taken it for 1.
    assert_eq!(scene.log(), [0, 1, 2, 3]);
}

/// B4: one that comes too early is a plain retry.
#[tokio::test]
async fn fault_5_batches_behind_one_that_failed_wait_for_it_under_the_same_epoch() {
    let scene = Scene::with(1, |producer| producer.max_in_flight(5)).await;
    Scene::written(scene.send(0..1).await, 0..1);
    let fault = scene.broker.fault(refuse(ErrorCode::NOT_ENOUGH_REPLICAS));
    Scene::written(scene.send(1..9).await, 1..9);
    assert_eq!(scene.broker.fired(fault), 1);
    assert_eq!((scene.log(), scene.producer()), ((0..9).collect(), (0, Some(8))));
}

#[tokio::test]
async fn fault_6_a_gap_that_nothing_explains_is_told_and_a_new_epoch_goes_on() {
    let scene = Scene::new().await;
    Scene::written(scene.send(0..1).await, 0..1);
    scene.broker.fault(refuse(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    let gap = scene.send(1..2).await.remove(0).expect_err("out of order");
    assert_eq!(gap.outcome(), Some(Outcome::PossiblyWritten));
    Scene::written(scene.send(2..4).await, 1..3);
    assert_eq!((scene.log(), scene.producer()), (vec![0, 2, 3], (1, Some(1))));
}

#[tokio::test]
async fn fault_7_a_forgotten_producer_goes_on_where_retention_explains_it() {
    let scene = Scene::new().await;
    Scene::written(scene.send(0..1).await, 0..1);
    scene.broker.fault(refuse(ErrorCode::UNKNOWN_PRODUCER_ID));
    scene.broker.fault(rewrite(|partition| partition.log_start_offset = 1));
    Scene::written(scene.send(1..2).await, 1..2);
    assert_eq!(scene.producer(), (1, Some(0)), "the record went under a new epoch");
    scene.broker.fault(refuse(ErrorCode::UNKNOWN_PRODUCER_ID));
    let unexplained = scene.send(2..3).await.remove(0).expect_err("nothing explains it");
    assert_eq!(unexplained.outcome(), Some(Outcome::PossiblyWritten));
    assert_eq!(scene.log(), [0, 1]);
}

#[tokio::test]
async fn fault_8_a_duplicate_is_a_success_without_an_offset() {
    let scene = Scene::new().await;
    scene.broker.fault(rewrite(|partition| {
        (partition.error_code, partition.base_offset) = (ErrorCode::DUPLICATE_SEQUENCE_NUMBER, -1);
    }));
    assert_eq!(scene.send(0..1).await.remove(0).expect("written"), None);
    Scene::written(scene.send(1..2).await, 1..2);
    assert_eq!(scene.log(), [0, 1]);
}

#[tokio::test]
async fn fault_9_an_epoch_that_is_out_of_date_is_replaced() {
    let scene = Scene::new().await;
    Scene::written(scene.send(0..1).await, 0..1);
    scene.broker.fault(refuse(ErrorCode::INVALID_PRODUCER_EPOCH));
    Scene::written(scene.send(1..3).await, 1..3);
    assert_eq!((scene.log(), scene.producer()), (vec![0, 1, 2], (1, Some(1))));
}

/// B2: a topic that metadata leaves out for a while keeps its numbers.
#[tokio::test]
async fn fault_10_sequences_outlive_metadata_that_omits_the_topic() {
    let scene = Scene::new().await;
    Scene::written(scene.send(0..2).await, 0..2);
    let omit = |answer: &mut Answer| {
        if let Answer::Metadata(answer) = answer {
            answer.topics.clear();
        }
    };
    let fault = scene.broker.fault(Fault::on(ApiKey::METADATA).always().rewrite(omit));
    while scene.broker.fired(fault) < 2 {
        tokio::time::sleep(SHORT / 4).await;
    }
    Scene::written(scene.send(2..3).await, 2..3);
    scene.broker.remove_fault(fault);
    Scene::written(scene.send(3..4).await, 3..4);
    assert_eq!((scene.log(), scene.producer()), (vec![0, 1, 2, 3], (0, Some(3))));
}

#[tokio::test]
async fn fault_11_a_topic_created_again_is_numbered_from_zero() {
    let scene = Scene::new().await;
    Scene::written(scene.send(0..2).await, 0..2);
    let client = Client::builder().bootstrap(scene.broker.bootstrap()).build().expect("valid settings");
    let admin = client.admin();
    admin.delete_topics(["t"]).await.all().expect("deleted");
    admin.create_topics([ottla::NewTopic::new("t").partitions(1)]).await.all().expect("created");
    for outcome in scene.send(2..4).await {
        outcome.expect("written into the new topic");
    }
    assert_eq!(scene.log(), [2, 3]);
    assert_eq!(scene.producer().1, Some(1), "the new log begins with number 0");
}

#[tokio::test]
async fn fault_13_a_batch_that_is_too_large_goes_on_in_parts_under_the_same_numbers() {
    let broker = TestBroker::builder().topic("t", 1).setting("message.max.bytes", "120");
    let broker = broker.start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = client.producer().linger(SHORT / 8).batch_size(10_000).retries(1).build();
    let scene = Scene { broker, producer: producer.expect("valid settings") };
    // One batch of all of them is split several times; no attempt of that counts as a retry, of which a part needs its only one.
    let fault = scene.broker.fault(refuse(ErrorCode::NOT_ENOUGH_REPLICAS).skip(3));
    Scene::written(scene.send(0..40).await, 0..40);
    assert_eq!(scene.broker.fired(fault), 1);
    Scene::written(scene.send(40..50).await, 40..50);
    assert_eq!((scene.log(), scene.producer()), ((0..50).collect(), (0, Some(49))));
    let refused = scene.producer.topic("t").send(Payload::value(&[0; 200])).await.expect_err("too large");
    assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::RecordTooLarge, Some(Outcome::Rejected)));
}

#[tokio::test]
async fn fault_14_replicas_that_are_missing_are_waited_for_and_the_deadline_tells_what_is_known() {
    check_once(refuse(ErrorCode::NOT_ENOUGH_REPLICAS)).await;
    check_once(rewrite(|it| it.error_code = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND)).await;
    for (fault, outcome) in [
        (refuse(ErrorCode::NOT_ENOUGH_REPLICAS), Outcome::NotWritten),
        (rewrite(|it| it.error_code = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND), Outcome::PossiblyWritten),
    ] {
        let scene = Scene::with(1, |producer| producer.delivery_timeout(SHORT * 2)).await;
        scene.broker.fault(fault.always());
        let error = scene.send(0..1).await.remove(0).expect_err("never enough");
        assert_eq!(error.outcome(), Some(outcome), "{error}");
    }
}

/// Several batches of a partition are on their way, and their leader is no leader any more.
#[tokio::test]
async fn fault_15_what_is_on_its_way_to_a_leader_that_moves_keeps_its_order() {
    let broker = TestBroker::builder().nodes(3).topic("t", 1).start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = client.producer().linger(Duration::ZERO).batch_size(0).build().expect("valid settings");
    let scene = Scene { broker, producer };
    Scene::written(scene.send(0..1).await, 0..1);
    for round in 0..3 {
        let late = scene.broker.fault(Fault::on(ApiKey::PRODUCE).times(5).delay(SHORT / 16));
        let first = 1 + 20 * round;
        let moves = async {
            while scene.broker.fired(late) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let leader = scene.broker.leader("t", 0).expect("it is there").node.expect("somebody leads");
            scene.broker.move_leader("t", 0, 1 + leader % 3).expect("another node");
        };
        let (outcomes, ()) = tokio::join!(scene.send(first..first + 20), moves);
        Scene::written(outcomes, i64::from(first)..i64::from(first) + 20);
    }
    assert_eq!(scene.log(), (0..61).collect::<Vec<_>>());
}

#[tokio::test]
async fn fault_16_partitions_that_an_answer_omits_repeats_or_makes_up_do_no_harm() {
    check_once(rewrite_all(|answer| answer.responses.clear())).await;
    check_once(rewrite_all(|answer| {
        let partitions = &mut answer.responses[0].partition_responses;
        let mut again = partitions[0].clone();
        again.base_offset = 77;
        partitions.push(again.clone());
        again.index = 99;
        partitions.push(again);
    }))
    .await;
}

#[tokio::test]
async fn fault_17_a_buffer_that_stays_full_is_an_error_at_max_block() {
    let scene = Scene::with(1, |producer| producer.buffer_memory(2_000).max_block(SHORT)).await;
    scene.broker.fault(Fault::on(ApiKey::PRODUCE).always().delay(SOON));
    let topic = scene.producer.topic("t");
    let first = topic.enqueue(Payload::value(&[1; 1_500])).await.expect("accepted");
    let full = topic.enqueue(Payload::value(&[2; 1_500])).await.expect_err("no room");
    assert_eq!((full.kind(), full.outcome()), (ErrorKind::BufferFull, Some(Outcome::NotWritten)));
    // Given up while it waits, a record is never sent.
    let patience = tokio::time::timeout(SHORT / 4, topic.enqueue(Payload::value(&[3; 1_500]))).await;
    assert!(patience.is_err(), "there is no room");
    scene.broker.heal();
    drop(first);
    Scene::written(scene.send(4..5).await, 1..2);
    assert_eq!(scene.log(), [1, 4]);
}

#[tokio::test]
async fn fault_18_silence_that_a_broker_asks_for_is_kept_and_capped() {
    let scene = Scene::new().await;
    scene.broker.fault(Fault::on(ApiKey::PRODUCE).throttle(SHORT / 4));
    Scene::written(scene.send(0..2).await, 0..2);
    // 24 days; the cap is the request timeout.
    scene
        .broker
        .fault(Fault::on(ApiKey::PRODUCE).throttle(Duration::from_millis(i32::MAX.unsigned_abs().into())));
    Scene::written(scene.send(2..3).await, 2..3);
    Scene::written(scene.send(3..4).await, 3..4);
    assert_eq!(scene.log(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn fault_20_metadata_that_never_comes_is_a_definite_error() {
    let scene = Scene::with(1, |producer| producer.max_block(SHORT * 2)).await;
    scene.broker.fault(Fault::on(ApiKey::METADATA).always().swallow());
    let error = scene.producer.topic("t").send(Payload::value(b"v")).await.expect_err("no metadata");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Some(Outcome::NotWritten)));
}

/// B1: what is on its way keeps its bytes until its socket is done with them, whatever became of its deliveries.
#[tokio::test]
async fn b1_nothing_else_is_sent_from_the_bytes_of_a_batch_that_ran_out_of_time() {
    let scene = Scene::with(2, |producer| producer.delivery_timeout(SHORT * 2).batch_size(1_000_000)).await;
    Scene::written(scene.send(0..1).await, 0..1);
    // The node stops reading: most of the large batch cannot be written.
    scene.broker.pause_node(1);
    let topic = scene.producer.topic("t");
    let large = vec![b'a'; 900_000];
    let to = |partition| Payload { partition: Some(partition), ..Payload::default() };
    let late = topic.enqueue(Payload { value: Some(&large), ..to(0) }).await.expect("accepted");
    let late = late.await.expect_err("nobody reads");
    assert_eq!(late.outcome(), Some(Outcome::PossiblyWritten));
    let other = vec![b'b'; 900_000];
    let delivery = topic.enqueue(Payload { value: Some(&other), ..to(1) }).await.expect("accepted");
    scene.broker.resume_node(1);
    delivery.await.expect("written");
    let holds = |partition, value: u8| {
        let log = scene.broker.log("t", partition).expect("a readable log");
        let large = log.iter().filter(|record| record.value.as_ref().is_some_and(|v| v.len() > 1));
        large.into_iter().all(|record| record.value.iter().flat_map(|v| v.iter()).all(|byte| *byte == value))
    };
    assert!(holds(0, b'a') && holds(1, b'b'), "bytes of one record are in another");
}

/// B5: an unknown outcome is neither a success nor a failure.
#[tokio::test]
async fn b5_an_answer_that_says_timed_out_is_not_taken_for_not_written() {
    check_once(rewrite(|it| it.error_code = ErrorCode::REQUEST_TIMED_OUT)).await;
    let scene = Scene::with(1, |producer| producer.delivery_timeout(SHORT * 2)).await;
    scene.broker.fault(rewrite(|it| it.error_code = ErrorCode::REQUEST_TIMED_OUT).always());
    let error = scene.send(0..1).await.remove(0).expect_err("never known");
    assert_eq!(error.outcome(), Some(Outcome::PossiblyWritten));
}

/// F21: what was accepted is written once, whoever still listens; what was not accepted is never sent.
#[tokio::test]
async fn f21_dropping_a_delivery_detaches_and_the_next_record_is_not_harmed() {
    let scene = Scene::new().await;
    scene.broker.fault(Fault::on(ApiKey::PRODUCE).skip(1).times(2).delay(SHORT / 4));
    let topic = scene.producer.topic("t");
    for number in 0..20 {
        let enqueued = topic.enqueue(Payload::value(&[number])).await.expect("accepted");
        match number % 3 {
            0 => drop(enqueued),
            1 => drop(tokio::time::timeout(Duration::ZERO, enqueued).await),
            _ => drop(enqueued.await.expect("written")),
        }
        drop(topic.enqueue(Payload::value(&[100 + number])));
    }
    scene.producer.flush(SOON).await.expect("flushed");
    assert_eq!(scene.log(), (0..20).collect::<Vec<_>>());
}

/// F22: every delivery resolves when the producer is dropped, and says that its record is not written.
#[tokio::test]
async fn f22_a_producer_that_is_dropped_resolves_what_it_held() {
    let scene = Scene::with(1, |producer| producer.linger(SHORT / 4).batch_size(10_000)).await;
    Scene::written(scene.send(0..1).await, 0..1);
    let topic = scene.producer.topic("t");
    let held = topic.enqueue(Payload::value(b"held")).await.expect("accepted");
    let Scene { broker, producer } = scene;
    drop((topic, producer));
    let error = held.await.expect_err("dropped");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Some(Outcome::NotWritten)));
    assert_eq!(broker.log("t", 0).expect("a readable log").len(), 1);
}

/// F23: a deadline alone does not say that a record is not written; that it never left does.
#[tokio::test]
async fn f23_a_record_that_never_left_is_certainly_not_written() {
    let scene = Scene::with(1, |producer| producer.delivery_timeout(SHORT * 2)).await;
    Scene::written(scene.send(0..1).await, 0..1);
    scene.broker.kill_node(1).await;
    let topic = scene.producer.topic("t");
    // The connection is lost first, so that the record waits for another.
    tokio::time::sleep(SHORT / 4).await;
    let error = topic.send(Payload::value(b"v")).await.expect_err("nobody is there");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Some(Outcome::NotWritten)));
}

/// F24: an answer that cannot be read is no refusal; nothing is split and nothing is sent under another number.
#[tokio::test]
async fn f24_an_answer_that_cannot_be_read_is_a_lost_answer() {
    check_once(Fault::on(ApiKey::PRODUCE).wrong_correlation()).await;
    check_once(Fault::on(ApiKey::PRODUCE).cut_within_answer(9)).await;
    let scene = Scene::with(1, |producer| producer.batch_size(10_000).linger(SHORT / 8)).await;
    scene.broker.fault(Fault::on(ApiKey::PRODUCE).wrong_correlation());
    Scene::written(scene.send(0..10).await, 0..10);
    assert_eq!((scene.log(), scene.producer()), ((0..10).collect(), (0, Some(9))));
}

/// F26: what is acknowledged was written by an idempotent producer, unless somebody said otherwise.
#[tokio::test]
async fn f26_producers_are_idempotent_by_default() {
    let scene = Scene::new().await;
    Scene::written(scene.send(0..1).await, 0..1);
    let log = scene.broker.log("t", 0).expect("a readable log");
    assert!(log[0].producer_id >= 0 && log[0].sequence == 0, "{:?}", log[0]);
}

/// F27: a topic that was mistyped fails, though the broker would create it.
#[tokio::test]
async fn f27_no_topic_is_created_by_a_mistyped_name() {
    let broker = TestBroker::builder().setting("auto.create.topics.enable", "true").start().await;
    let broker = broker.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = client.producer().max_block(SHORT).build().expect("valid settings");
    let error = producer.topic("mistyped").send(Payload::value(b"v")).await.expect_err("unknown");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::UnknownTopic, Some(Outcome::NotWritten)));
}

/// KIP-467: the record that the broker names is rejected; the others of its batch are not written and may be sent again.
#[tokio::test]
async fn a_refused_record_is_told_apart_from_its_neighbours() {
    let scene = Scene::with(1, |producer| producer.batch_size(10_000).linger(SHORT / 4)).await;
    let named =
        ProduceRecordError { batch_index: 1, batch_index_error_message: Some("it has no key".into()) };
    scene.broker.fault(refuse(ErrorCode::INVALID_RECORD));
    scene.broker.fault(rewrite(move |partition| partition.record_errors = vec![named.clone()]));
    let errors: Vec<Error> =
        scene.send(0..3).await.into_iter().map(|outcome| outcome.expect_err("refused")).collect();
    let seen: Vec<_> = errors.iter().map(|e| (e.kind(), e.outcome(), e.is_retriable())).collect();
    let neighbour = (ErrorKind::BatchRefused, Some(Outcome::NotWritten), true);
    assert_eq!(seen, [neighbour, (ErrorKind::Broker, Some(Outcome::Rejected), false), neighbour]);
    assert!(errors[1].to_string().contains("it has no key"), "{}", errors[1]);
    Scene::written(scene.send(3..6).await, 0..3);
    assert_eq!(scene.log(), [3, 4, 5]);
}

/// KIP-467 after an answer that was lost: the first attempt may be in the log, so nobody is told that it is not.
#[tokio::test]
async fn names_of_refused_records_say_nothing_of_an_attempt_in_doubt() {
    let scene = Scene::new().await;
    scene.broker.fault(Fault::on(ApiKey::PRODUCE).cut_answer());
    let named = ProduceRecordError { batch_index: 0, ..Default::default() };
    scene.broker.fault(refuse(ErrorCode::INVALID_RECORD).skip(1));
    scene.broker.fault(rewrite(move |it| it.record_errors = vec![named.clone()]).skip(1));
    let error = scene.send(0..1).await.remove(0).expect_err("refused");
    assert_eq!(error.outcome(), Some(Outcome::PossiblyWritten));
    assert_eq!(scene.log(), [0], "and it is");
}

/// What a cluster claims that cannot be is passed over, and what can be used is used.
#[tokio::test]
async fn fault_95_numbers_that_cannot_be_are_not_believed() {
    let scene = Scene::new().await;
    scene.broker.fault(Fault::on(ApiKey::METADATA).times(2).rewrite(|answer| {
        let Answer::Metadata(answer) = answer else { return };
        let broker = answer.brokers[0].clone();
        for (node_id, host, port) in [(-5, "", 0), (i32::MAX, "no host at all", -1), (9, "\u{7f}", i32::MAX)]
        {
            let host = host.into();
            answer.brokers.push(ottla_protocol::messages::Broker { node_id, host, port, ..broker.clone() });
        }
        for topic in &mut answer.topics {
            let Some(partition) = topic.partitions.first().cloned() else { continue };
            for (partition_index, leader_id) in [(-7, -3), (i32::MIN, 9), (i32::MAX, i32::MIN)] {
                let odd = ottla_protocol::messages::PartitionMetadata {
                    partition_index,
                    leader_id,
                    leader_epoch: i32::MIN,
                    ..partition.clone()
                };
                topic.partitions.push(odd);
            }
        }
    }));
    scene.broker.fault(rewrite(|partition| {
        (partition.base_offset, partition.log_append_time_ms) = (i64::MIN, i64::MIN);
        (partition.current_leader.leader_id, partition.current_leader.leader_epoch) = (-9, i32::MIN);
    }));
    assert_eq!(scene.send(0..1).await.remove(0).expect("written"), None, "an offset that cannot be is none");
    let topic = scene.producer.topic("t");
    for number in 1..4 {
        let written = topic.send(Payload::value(&[number])).await.expect("written");
        assert_eq!((written.partition, written.offset), (0, Some(number.into())));
    }
    assert_eq!(scene.log(), [0, 1, 2, 3]);
}

/// A code that nobody knows is neither a success nor a reason to try again, and says nothing of the record.
#[tokio::test]
async fn fault_96_what_nobody_knows_is_no_success() {
    let scene = Scene::new().await;
    let unknown = scene.broker.fault(refuse(ErrorCode(9_999)));
    let error = scene.send(0..1).await.remove(0).expect_err("no success");
    assert_eq!((error.outcome(), error.code()), (Some(Outcome::PossiblyWritten), Some(ErrorCode(9_999))));
    assert_eq!((scene.broker.fired(unknown), error.is_retriable()), (1, false));
    Scene::written(scene.send(1..2).await, 0..1);
    assert_eq!(scene.log(), [1]);
}

/// A send, a flush and a close are dropped at each of their polls: what was accepted is written once and in order.
#[tokio::test]
async fn fault_97_a_call_that_is_dropped_at_any_poll_loses_and_doubles_nothing() {
    let mut ready = [false; 2];
    for polls in 0..50 {
        let scene = Scene::new().await;
        let topic = scene.producer.topic("t");
        let sent = poll_then_drop(polls, topic.send(Payload::value(&[0]))).await;
        Scene::written(scene.send(1..2).await.into_iter().map(|it| it.map(|_| Some(0))).collect(), 0..1);
        let log = scene.log();
        assert!(log == [0, 1] || (sent.is_none() && log == [1]), "{polls} polls: {log:?}");
        let delivery = topic.enqueue(Payload::value(&[2])).await.expect("accepted");
        drop(poll_then_drop(polls, scene.producer.flush(SOON)).await);
        let closed = poll_then_drop(polls, scene.producer.close(SOON)).await;
        let refused = topic.send(Payload::value(&[3])).await.map(drop);
        let report = scene.producer.close(SOON).await;
        assert_eq!((report.failed, report.unknown), (0, 0), "{polls} polls");
        // A close that was never polled has not been asked for.
        assert_eq!(refused.is_err(), polls > 0, "{polls} polls: {refused:?}");
        delivery.await.expect("written");
        ready = [sent.is_some(), closed.is_some()];
        if ready == [true; 2] {
            break;
        }
    }
    assert_eq!(ready, [true; 2], "they are never ready");
}

/// Outside of the runtime as well, and while a panic unwinds.
#[tokio::test]
async fn fault_98_a_producer_that_is_dropped_anywhere_resolves_what_it_held() {
    for unwinds in [false, true] {
        let scene = Scene::with(1, |producer| producer.linger(SOON).batch_size(10_000)).await;
        let topic = scene.producer.topic("t");
        let held = topic.enqueue(Payload::value(b"held")).await.expect("accepted");
        let Scene { broker, producer } = scene;
        let gone = std::thread::spawn(move || {
            let _dropped = (topic, producer);
            if unwinds {
                std::panic::resume_unwind(Box::new("down"));
            }
        });
        assert_eq!(gone.join().is_err(), unwinds);
        let error = held.await.expect_err("dropped");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Some(Outcome::NotWritten)));
        assert_eq!(broker.log("t", 0).expect("a readable log").len(), 0);
    }
}

/// Fault 99: the runtime of a producer ends under it; whoever waits elsewhere is told what is known, and nothing panics.
#[test]
fn fault_99_a_runtime_that_ends_resolves_what_it_carried() {
    let outer = tokio::runtime::Runtime::new().expect("a runtime");
    let inner = tokio::runtime::Runtime::new().expect("a runtime");
    let (broker, scene) = outer.block_on(async {
        let broker = TestBroker::builder().topic("t", 1).start().await.expect("a broker");
        broker.fault(Fault::on(ApiKey::PRODUCE).always().swallow_answer());
        let scene = inner.spawn({
            let bootstrap = broker.bootstrap();
            async move {
                let client = Client::builder().bootstrap(bootstrap).build().expect("valid settings");
                let producer = client.producer().linger(Duration::ZERO).build().expect("valid settings");
                let delivery = producer.topic("t").enqueue(Payload::value(b"v")).await.expect("accepted");
                (producer, delivery)
            }
        });
        while broker.log("t", 0).expect("a readable log").is_empty() {
            tokio::time::sleep(SHORT / 40).await;
        }
        (broker, scene.await.expect("no panic"))
    });
    let (producer, delivery) = scene;
    inner.shutdown_background();
    outer.block_on(async {
        let error = tokio::time::timeout(SOON, delivery).await.expect("it resolves").expect_err("no answer");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Fatal, Some(Outcome::PossiblyWritten)));
        let refused = producer.topic("t").send(Payload::value(b"w")).await.expect_err("nobody carries it");
        assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Fatal, Some(Outcome::NotWritten)));
        tokio::time::timeout(SOON, producer.close(SOON)).await.expect("close returns");
        assert_eq!(broker.log("t", 0).expect("a readable log").len(), 1);
    });
}

#[test]
fn fault_99_without_a_runtime_nothing_is_built() {
    let client = Client::builder().bootstrap("127.0.0.1:1").build().expect("valid settings");
    let error = client.producer().build().expect_err("nothing could carry it");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("Tokio runtime"), "{error}");
}
