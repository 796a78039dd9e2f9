//! Replicas: who waits for them, who falls out of sync, who may lead, and what is lost when.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::{Broker, LogRecord};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::records::RecordError;
use ottla_protocol::wire::{Str, Uuid};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wire::*;

const ALL: i16 = -1;
const LEADER: i16 = 1;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One partition on so many nodes; node 1 leads it.
fn cluster(nodes: usize, settings: &[(&str, &str)]) -> Broker {
    let builder = Broker::builder().nodes(nodes).topic("t", 1);
    settings.iter().fold(builder, |builder, (name, value)| builder.setting(*name, *value)).build().unwrap()
}

fn asked(acks: i16, timeout_ms: i32, value: &str) -> ProduceRequest {
    ProduceRequest { acks, timeout_ms, ..produce("t", Uuid::ZERO, 0, plain(&[value])) }
}

async fn write(wire: &mut Wire, acks: i16, value: &str) -> ErrorCode {
    only(wire.call(9, asked(acks, 60_000, value)).await).error_code
}

/// Everything that a reader of this node gets from this offset on.
async fn read(wire: &mut Wire, offset: i64) -> Result<Vec<String>, ErrorCode> {
    fetched(&wire.call(11, fetch("t", 0, offset)).await).pop().unwrap().2
}

fn texts(log: Result<Vec<LogRecord>, RecordError>) -> Vec<String> {
    let text = |record: LogRecord| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
    log.unwrap().into_iter().map(text).collect()
}

/// Leader, its epoch and who is in sync.
fn state(broker: &Broker) -> (Option<i32>, i32, Vec<i32>) {
    let partition = broker.partition("t", 0).unwrap();
    (partition.leader, partition.leader_epoch, partition.in_sync)
}

async fn latest(wire: &mut Wire) -> Result<i64, ErrorCode> {
    let partitions = vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: Str::from("t"), partitions }];
    let answer = wire.call(5, ListOffsetsRequest { topics, ..Default::default() }).await;
    let listed = &answer.topics[0].partitions[0];
    if listed.error_code.is_ok() { Ok(listed.offset) } else { Err(listed.error_code) }
}

#[tokio::test(start_paused = true)]
async fn all_acknowledgements_wait_for_the_replicas_in_sync_and_one_does_not() {
    let broker = cluster(3, &[]);
    broker.slow_replicas(2, ms(40));
    broker.slow_replicas(3, ms(100));
    let (mut wire, began) = (Wire::connect(&broker, 1), Instant::now());
    assert_eq!(write(&mut wire, LEADER, "a").await, ErrorCode::NONE);
    assert_eq!(began.elapsed(), ms(0));
    assert_eq!((read(&mut wire, 0).await, latest(&mut wire).await), (Ok(vec![]), Ok(0)), "not safe yet");
    sleep(ms(30)).await;
    assert_eq!(write(&mut wire, ALL, "b").await, ErrorCode::NONE);
    assert_eq!(began.elapsed(), ms(100), "with the fetch that the first one has waited for");
    assert_eq!((read(&mut wire, 0).await.unwrap().len(), latest(&mut wire).await), (2, Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_fetches_nothing_is_waited_for_and_then_out_of_sync() {
    let broker = cluster(3, &[]);
    let mut wire = Wire::connect(&broker, 1);
    broker.hold_replicas(3, true);
    let (began, answer) = (Instant::now(), wire.call(9, asked(ALL, 5_000, "a")).await);
    assert_eq!((only(answer).error_code, began.elapsed()), (ErrorCode::REQUEST_TIMED_OUT, ms(5_000)));
    assert_eq!((read(&mut wire, 0).await, state(&broker)), (Ok(vec![]), (Some(1), 0, vec![1, 2, 3])));
    assert_eq!(write(&mut wire, ALL, "b").await, ErrorCode::NONE);
    assert_eq!((began.elapsed(), state(&broker)), (ms(30_000), (Some(1), 0, vec![1, 2])));
    assert_eq!(read(&mut wire, 0).await.unwrap(), ["a", "b"], "what timed out is there all the same");
    broker.hold_replicas(3, false);
    assert_eq!(state(&broker), (Some(1), 0, vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn with_too_few_in_sync_nothing_becomes_visible() {
    let broker = cluster(2, &[("min.insync.replicas", "2"), ("replica.lag.time.max.ms", "1000")]);
    let mut wire = Wire::connect(&broker, 1);
    broker.hold_replicas(2, true);
    assert_eq!(write(&mut wire, ALL, "a").await, ErrorCode::REQUEST_TIMED_OUT);
    assert_eq!(state(&broker), (Some(1), 0, vec![1]));
    assert_eq!(write(&mut wire, ALL, "b").await, ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(write(&mut wire, LEADER, "c").await, ErrorCode::NONE);
    assert_eq!(read(&mut wire, 0).await.unwrap(), [""; 0], "KIP-966");
    broker.hold_replicas(2, false);
    assert_eq!(read(&mut wire, 0).await.unwrap(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_when_another_leads() {
    let broker = cluster(3, &[]);
    let mut wire = Wire::connect(&broker, 1);
    broker.hold_replicas(2, true);
    wire.send(9, &asked(ALL, 60_000, "a")).await;
    sleep(ms(10)).await;
    broker.move_leader("t", 0, 2).unwrap();
    let answer = only(wire.receive::<ProduceRequest>(9).await);
    assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(broker.end_offset("t", 0), Some(0), "it was never acknowledged, and the new leader lacks it");
}

#[tokio::test(start_paused = true)]
async fn what_one_acknowledgement_promised_is_lost_with_the_leader() {
    let broker = cluster(2, &[]);
    let mut wire = Wire::connect(&broker, 1);
    assert_eq!(append(&mut wire, "t", 0, numbered(&["safe"], 7, 0, 0)).await.error_code, ErrorCode::NONE);
    broker.slow_replicas(2, ms(1_000));
    let lost = ProduceRequest { acks: LEADER, ..produce("t", Uuid::ZERO, 0, numbered(&["lost"], 7, 0, 1)) };
    assert_eq!(only(wire.call(9, lost).await).error_code, ErrorCode::NONE);
    broker.stop_node(1);
    assert_eq!(state(&broker), (Some(2), 1, vec![2]));
    assert_eq!(
        (texts(broker.log("t", 0)), texts(broker.diverged_log("t", 0, 1))),
        (vec!["safe".to_string()], vec!["lost".to_string()])
    );
    assert_eq!(broker.producers("t", 0)[0].last_sequence, Some(0), "the producer is where its log is");
    let mut wire = Wire::connect(&broker, 2);
    assert_eq!(append(&mut wire, "t", 0, numbered(&["other"], 7, 0, 1)).await.base_offset, 1);
    broker.start_node(1);
    assert_eq!((state(&broker).2, texts(broker.diverged_log("t", 0, 1))), (vec![1, 2], vec![]));
    assert_eq!(read(&mut wire, 0).await.unwrap(), ["safe", "other"]);
    // The epoch of what was lost ended before it.
    let partitions =
        vec![OffsetForLeaderPartition { leader_epoch: 0, current_leader_epoch: 1, ..Default::default() }];
    let topics = vec![OffsetForLeaderTopic { topic: Str::from("t"), partitions }];
    let ends = wire.call(4, OffsetForLeaderEpochRequest { replica_id: -1, topics }).await;
    assert_eq!(ends.topics[0].partitions[0].end_offset, 1);
}

/// Node 2 misses "b", which was acknowledged by node 1 alone; then node 1 dies and node 2 comes back.
async fn led_by_who_lacks_something(unclean: &str) -> Broker {
    let broker = cluster(2, &[("unclean.leader.election.enable", unclean)]);
    let mut wire = Wire::connect(&broker, 1);
    assert_eq!(write(&mut wire, ALL, "a").await, ErrorCode::NONE);
    broker.stop_node(2);
    assert_eq!(write(&mut wire, ALL, "b").await, ErrorCode::NONE);
    broker.stop_node(1);
    broker.start_node(2);
    broker
}

#[tokio::test(start_paused = true)]
async fn a_clean_election_waits_for_a_replica_in_sync() {
    let broker = led_by_who_lacks_something("false").await;
    assert_eq!(state(&broker), (None, 1, vec![1]));
    broker.start_node(1);
    assert_eq!(state(&broker), (Some(1), 2, vec![1, 2]));
    assert_eq!(read(&mut Wire::connect(&broker, 1), 0).await.unwrap(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_unclean_election_loses_what_was_acknowledged_and_readers_are_told() {
    let broker = led_by_who_lacks_something("true").await;
    assert_eq!(state(&broker), (Some(2), 2, vec![2]));
    let mut wire = Wire::connect(&broker, 2);
    assert_eq!((read(&mut wire, 0).await, latest(&mut wire).await), (Ok(vec!["a".to_string()]), Ok(1)));
    assert_eq!(read(&mut wire, 2).await, Err(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert_eq!(write(&mut wire, ALL, "c").await, ErrorCode::NONE);
    let mut request = fetch("t", 0, 2);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let told = &wire.call(12, request).await.responses[0].partitions[0].diverging_epoch;
    assert_eq!((told.epoch, told.end_offset), (0, 1));
    // Whoever led before gives up what it had, and leads with the log of the new leader.
    broker.start_node(1);
    broker.stop_node(2);
    assert_eq!(read(&mut Wire::connect(&broker, 1), 0).await.unwrap(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_comes_back_when_its_replica_is_elected_again() {
    let broker = led_by_who_lacks_something("true").await;
    assert_eq!(write(&mut Wire::connect(&broker, 2), ALL, "c").await, ErrorCode::NONE);
    broker.stop_node(2);
    broker.start_node(1);
    assert_eq!(read(&mut Wire::connect(&broker, 1), 0).await.unwrap(), ["a", "b"]);
    assert_eq!(texts(broker.diverged_log("t", 0, 2)), ["c"]);
    assert_eq!(broker.partition("t", 0).unwrap().replicas, [(1, 2), (2, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_frozen_or_cut_off_is_fenced_after_a_while_and_comes_back() {
    let broker = cluster(3, &[]);
    for node in [1, 2] {
        let (_, epoch, _) = state(&broker);
        if node == 1 {
            broker.pause_node(node)
        } else {
            broker.isolate(node)
        }
        sleep(ms(8_900)).await;
        assert_eq!(state(&broker), (Some(node), epoch, vec![1, 2, 3]));
        sleep(ms(200)).await;
        let (leader, next, in_sync) = state(&broker);
        assert!(leader != Some(node) && next == epoch + 1 && !in_sync.contains(&node), "{leader:?} {next}");
        if node == 1 {
            broker.resume_node(node)
        } else {
            broker.heal()
        }
        assert_eq!(state(&broker), (leader, epoch + 1, vec![1, 2, 3]));
        broker.move_leader("t", 0, 2).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_acknowledges_nothing_and_nothing_acknowledged_is_lost() {
    let broker = cluster(3, &[("min.insync.replicas", "2")]);
    let mut wire = Wire::connect(&broker, 1);
    assert_eq!(write(&mut wire, ALL, "a").await, ErrorCode::NONE);
    broker.isolate(1);
    assert_eq!(write(&mut wire, ALL, "b").await, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let (leader, _, in_sync) = state(&broker);
    assert_eq!((leader, in_sync), (Some(2), vec![2, 3]));
    assert_eq!(texts(broker.diverged_log("t", 0, 1)), ["b"]);
    assert_eq!(write(&mut Wire::connect(&broker, 2), ALL, "c").await, ErrorCode::NONE);
    broker.heal();
    assert_eq!(
        (texts(broker.log("t", 0)), texts(broker.diverged_log("t", 0, 1))),
        (vec!["a".to_string(), "c".to_string()], vec![])
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_shows_what_it_has_and_was_told_of() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let broker = cluster(2, &[("replica.selector.class", selector)]);
    broker.slow_replicas(2, ms(100));
    let (mut leader, mut follower) = (Wire::connect(&broker, 1), Wire::connect(&broker, 2));
    assert_eq!(write(&mut leader, ALL, "a").await, ErrorCode::NONE);
    assert_eq!(read(&mut leader, 0).await.unwrap(), ["a"]);
    assert_eq!(read(&mut follower, 0).await.unwrap(), [""; 0], "its next fetch tells it that this is safe");
    let waiting = FetchRequest { max_wait_ms: 60_000, ..fetch("t", 0, 0) };
    let (began, answer) = (Instant::now(), follower.call(11, waiting).await);
    assert_eq!((fetched(&answer)[0].2.clone().unwrap().len(), began.elapsed()), (1, ms(100)));
}

#[tokio::test(start_paused = true)]
async fn coordinators_and_markers_reach_slow_replicas_at_once_and_wait_for_none_that_is_away() {
    let broker = cluster(2, &[]);
    broker.slow_replicas(2, ms(60_000));
    let mut wire = Wire::connect(&broker, 1);
    broker.transaction_coordinator("x");
    broker.move_transaction_coordinator("x", 1).unwrap();
    let txn = Txn::new(&mut wire, "x").await;
    assert_eq!(added(wire.call(3, txn.add("t", &[0])).await), ErrorCode::NONE);
    let request = ProduceRequest { acks: LEADER, ..txn.produce("t", 0, &["a"], 0) };
    assert_eq!(only(wire.call(9, request).await).error_code, ErrorCode::NONE);
    assert_eq!(wire.call(3, txn.end(true)).await.error_code, ErrorCode::NONE);
    assert_eq!(broker.last_stable_offset("t", 0), Some(2), "the marker took along what was before it");
    broker.hold_replicas(2, true);
    let refused = wire.call(3, txn.add("t", &[0])).await;
    assert_eq!(added(refused), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    sleep(ms(30_100)).await;
    broker.hold_replicas(2, false);
    assert_eq!(added(wire.call(3, txn.add("t", &[0])).await), ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_whose_log_lost_something_knows_what_is_left() {
    let broker =
        cluster(2, &[("unclean.leader.election.enable", "true"), ("offsets.topic.num.partitions", "1")]);
    assert_eq!(broker.coordinator("g"), Some(1));
    let commit = |offset| OffsetCommitRequest {
        group_id: Str::from("g"),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitTopic {
            name: Str::from("t"),
            partitions: vec![OffsetCommitPartition { committed_offset: offset, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut wire = Wire::connect(&broker, 1);
    for (offset, alone) in [(5, false), (6, true)] {
        if alone {
            broker.stop_node(2);
        }
        let answer = wire.call(7, commit(offset)).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    }
    assert_eq!(broker.committed("g")[&("t".to_string(), 0)], 6);
    broker.stop_node(1);
    broker.start_node(2);
    assert_eq!((broker.coordinator("g"), broker.committed("g")[&("t".to_string(), 0)]), (Some(2), 5));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_whose_marker_is_lost_is_open_again() {
    let broker = cluster(2, &[("unclean.leader.election.enable", "true")]);
    broker.transaction_coordinator("x");
    broker.move_transaction_coordinator("x", 1).unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let txn = Txn::new(&mut wire, "x").await;
    assert_eq!(added(wire.call(3, txn.add("t", &[0])).await), ErrorCode::NONE);
    assert_eq!(only(wire.call(9, txn.produce("t", 0, &["a"], 0)).await).error_code, ErrorCode::NONE);
    broker.stop_node(2);
    assert_eq!(wire.call(3, txn.end(true)).await.error_code, ErrorCode::NONE);
    assert_eq!(broker.last_stable_offset("t", 0), Some(2));
    broker.stop_node(1);
    broker.start_node(2);
    // Its coordinator has lost the decision too, so that it times out and is aborted.
    assert_eq!(broker.last_stable_offset("t", 0), Some(0));
    assert_eq!(broker.transaction("x").unwrap().state, "Ongoing");
    sleep(ms(61_000)).await;
    assert_eq!((broker.last_stable_offset("t", 0), texts(broker.committed_log("t", 0))), (Some(2), vec![]));
}
