//! What a transaction coordinator answers, step by step, under both versions of the protocol.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::{Broker, Fault};
use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::Str;
use std::time::Duration;
use tokio::time::sleep;
use wire::*;

const NONE: ErrorCode = ErrorCode::NONE;

/// One node that leads and coordinates everything.
fn broker() -> Broker {
    let broker = Broker::builder().topic("t", 2).topic("u", 1).build().unwrap();
    broker.transaction_coordinator("x");
    broker.coordinator("g");
    broker
}

async fn wired() -> (Broker, Wire) {
    let broker = broker();
    let wire = Wire::connect(&broker, 1);
    (broker, wire)
}

fn state(broker: &Broker) -> &'static str {
    broker.transaction("x").unwrap().state
}

fn texts(broker: &Broker, topic: &str) -> Vec<String> {
    let records = broker.committed_log(topic, 0).unwrap().into_iter();
    records.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
}

/// Ends a transaction under KIP-890 and goes on as the answer says.
async fn end(wire: &mut Wire, txn: &mut Txn, commit: bool) {
    let answer = wire.call(5, txn.end(commit)).await;
    assert_eq!(answer.error_code, NONE);
    (txn.producer_id, txn.epoch) = (answer.producer_id, answer.producer_epoch);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_of_before_kip_890_keeps_its_epoch_and_its_sequence() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    assert_eq!((txn.epoch, state(&broker)), (0, "Empty"));
    for (round, values) in [["a", "b"], ["c", "d"]].iter().enumerate() {
        let first = i32::try_from(2 * round).unwrap();
        assert_eq!(added(wire.call(3, txn.add("t", &[0])).await), NONE);
        assert_eq!(state(&broker), "Ongoing");
        let sent = only(wire.call(11, txn.produce("t", 0, values, first)).await);
        assert_eq!(sent.error_code, NONE);
        assert_eq!(wire.call(4, txn.end(true)).await.error_code, NONE);
        assert_eq!(state(&broker), "CompleteCommit");
    }
    assert_eq!(texts(&broker, "t"), ["a", "b", "c", "d"]);
    assert_eq!(broker.end_offset("t", 0), Some(6), "each transaction has a marker");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_of_kip_890_needs_no_announcement_and_has_an_epoch_of_its_own() {
    let (broker, mut wire) = wired().await;
    let mut txn = Txn::new(&mut wire, "x").await;
    for (round, commit) in (0..).zip([true, false, true]) {
        assert_eq!(txn.epoch, round);
        let sent = only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
        assert_eq!(sent.error_code, NONE);
        let sent = only(wire.call(12, txn.produce("t", 0, &["b"], 1)).await);
        assert_eq!(sent.error_code, NONE);
        assert_eq!(state(&broker), "Ongoing");
        end(&mut wire, &mut txn, commit).await;
    }
    assert_eq!(texts(&broker, "t"), ["a", "b", "a", "b"]);
    assert_eq!(broker.log("t", 0).unwrap().len(), 6);
    assert_eq!(broker.end_offset("t", 0), Some(9));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_was_not_announced_is_refused_as_the_client_knows_it() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    assert_eq!(added(wire.call(3, txn.add("t", &[1])).await), NONE);
    for (version, expected) in [
        (9, ErrorCode::INVALID_TXN_STATE),
        (10, ErrorCode::INVALID_TXN_STATE),
        (11, ErrorCode::TRANSACTION_ABORTABLE),
    ] {
        let sent = only(wire.call(version, txn.produce("t", 0, &["a"], 0)).await);
        assert_eq!(sent.error_code, expected, "v{version}");
    }
    assert_eq!(broker.end_offset("t", 0), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_overtake_one_that_was_refused_before_its_partition_took_part() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    let early = only(wire.call(11, txn.produce("t", 0, &["a"], 0)).await);
    assert_eq!(early.error_code, ErrorCode::TRANSACTION_ABORTABLE);
    wire.call(3, txn.add("t", &[0])).await;
    let second = only(wire.call(11, txn.produce("t", 0, &["b"], 1)).await);
    assert_eq!(second.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let first = only(wire.call(11, txn.produce("t", 0, &["a"], 0)).await);
    assert_eq!((first.error_code, broker.end_offset("t", 0)), (NONE, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_asks_with_what_it_had_gets_the_next_epoch_and_the_same_again_when_it_retries() {
    let (_, mut wire) = wired().await;
    let first = Txn::new(&mut wire, "x").await;
    for _ in 0..2 {
        let answer = wire.call(5, first.init()).await;
        assert_eq!((answer.producer_id, answer.producer_epoch), (first.producer_id, 1));
    }
    let second = first.at(1);
    let taken_over = Txn::new(&mut wire, "x").await;
    assert_eq!(taken_over, first.at(2));
    for (version, old, expected) in [
        (5, first, ErrorCode::PRODUCER_FENCED),
        (5, second, ErrorCode::PRODUCER_FENCED),
        (3, second, ErrorCode::INVALID_PRODUCER_EPOCH),
        (5, Txn { producer_id: 4711, ..second }, ErrorCode::PRODUCER_FENCED),
        (5, Txn { producer_id: -1, ..second }, ErrorCode::INVALID_REQUEST),
    ] {
        let answer = wire.call(version, old.init()).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (expected, -1), "{old:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_or_a_timeout_that_is_not_allowed_is_refused() {
    let setting = "transaction.max.timeout.ms";
    let broker = Broker::builder().nodes(2).setting(setting, "60000").build().unwrap();
    let node = broker.transaction_coordinator("x").unwrap();
    let mut wire = Wire::connect(&broker, node);
    let txn = Txn { id: "x", producer_id: -1, epoch: -1 };
    for (timeout, expected) in [
        (0, ErrorCode::INVALID_TRANSACTION_TIMEOUT),
        (-1, ErrorCode::INVALID_TRANSACTION_TIMEOUT),
        (60_001, ErrorCode::INVALID_TRANSACTION_TIMEOUT),
        (60_000, NONE),
    ] {
        let request = InitProducerIdRequest { transaction_timeout_ms: timeout, ..txn.init() };
        assert_eq!(wire.call(5, request).await.error_code, expected, "{timeout} ms");
    }
    assert_eq!(wire.call(5, Txn { id: "", ..txn }.init()).await.error_code, ErrorCode::INVALID_REQUEST);
    let elsewhere = Wire::connect(&broker, 3 - node).call(5, txn.init()).await;
    assert_eq!(elsewhere.error_code, ErrorCode::NOT_COORDINATOR);
}

/// Initializes while a transaction is open, and returns what the zombie and its follower are.
async fn take_over(level: i16) -> (Broker, Wire, Txn, Txn) {
    let (broker, mut wire) = wired().await;
    broker.set_transaction_version(level).unwrap();
    let zombie = Txn::new(&mut wire, "x").await;
    wire.call(3, zombie.add("t", &[0])).await;
    only(wire.call(11, zombie.produce("t", 0, &["lost"], 0)).await);
    let fresh = Txn { producer_id: -1, epoch: -1, ..zombie };
    assert_eq!(wire.call(5, fresh.init()).await.error_code, ErrorCode::CONCURRENT_TRANSACTIONS);
    assert_eq!(state(&broker), "CompleteAbort");
    let follower = Txn::new(&mut wire, "x").await;
    (broker, wire, zombie, follower)
}

#[tokio::test(start_paused = true)]
async fn a_second_instance_aborts_what_the_first_left_open_and_fences_it() {
    for level in [1, 2] {
        let (broker, mut wire, zombie, follower) = take_over(level).await;
        assert_eq!(follower, zombie.at(2), "one epoch to fence with, one for the follower");
        for version in [11, 12] {
            let late = only(wire.call(version, zombie.produce("t", 0, &["late"], 1)).await);
            assert_eq!(late.error_code, ErrorCode::INVALID_PRODUCER_EPOCH, "level {level}, v{version}");
        }
        let code = added(wire.call(3, zombie.add("t", &[1])).await);
        assert_eq!(code, ErrorCode::PRODUCER_FENCED);
        let code = added(wire.call(1, zombie.add("t", &[1])).await);
        assert_eq!(code, ErrorCode::INVALID_PRODUCER_EPOCH, "before version 2 there was one code for both");
        for (version, expected) in [
            (1, ErrorCode::INVALID_PRODUCER_EPOCH),
            (4, ErrorCode::PRODUCER_FENCED),
            (5, ErrorCode::PRODUCER_FENCED),
        ] {
            assert_eq!(wire.call(version, zombie.end(true)).await.error_code, expected, "v{version}");
        }
        assert!(texts(&broker, "t").is_empty());
        assert_eq!(broker.last_stable_offset("t", 0), Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_producer_may_abort_by_asking_for_an_epoch_under_kip_890_and_not_before() {
    for (level, expected) in [(1, (ErrorCode::PRODUCER_FENCED, -1)), (2, (NONE, 1))] {
        let (broker, mut wire) = wired().await;
        broker.set_transaction_version(level).unwrap();
        let txn = Txn::new(&mut wire, "x").await;
        wire.call(3, txn.add("t", &[0])).await;
        assert_eq!(wire.call(5, txn.init()).await.error_code, ErrorCode::CONCURRENT_TRANSACTIONS);
        let again = wire.call(5, txn.init()).await;
        assert_eq!((again.error_code, again.producer_epoch), expected, "level {level}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_before_kip_890_is_repeated_for_whoever_asks_the_same_again() {
    let (_, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    assert_eq!(wire.call(4, txn.end(true)).await.error_code, ErrorCode::INVALID_TXN_STATE, "nothing is open");
    assert_eq!(wire.call(4, txn.end(false)).await.error_code, ErrorCode::INVALID_TXN_STATE);
    for commit in [true, false] {
        wire.call(3, txn.add("t", &[0])).await;
        for _ in 0..2 {
            assert_eq!(wire.call(4, txn.end(commit)).await.error_code, NONE);
        }
        assert_eq!(wire.call(4, txn.end(!commit)).await.error_code, ErrorCode::INVALID_TXN_STATE);
    }
    let other = Txn { producer_id: 4711, ..txn };
    assert_eq!(wire.call(4, other.end(true)).await.error_code, ErrorCode::INVALID_PRODUCER_ID_MAPPING);
}

#[tokio::test(start_paused = true)]
async fn a_decision_of_kip_890_is_repeated_for_its_own_epoch_and_never_ends_the_next_transaction() {
    let (broker, mut wire) = wired().await;
    let old = Txn::new(&mut wire, "x").await;
    let mut txn = old;
    only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    end(&mut wire, &mut txn, true).await;
    assert_eq!(txn, old.at(1));
    let again = wire.call(5, old.end(true)).await;
    assert_eq!((again.error_code, again.producer_id, again.producer_epoch), (NONE, txn.producer_id, 1));
    assert_eq!(wire.call(5, old.end(false)).await.error_code, ErrorCode::INVALID_TXN_STATE);
    only(wire.call(12, txn.produce("t", 0, &["b"], 0)).await);
    for commit in [true, false] {
        assert_eq!(wire.call(5, old.end(commit)).await.error_code, ErrorCode::PRODUCER_FENCED);
    }
    assert_eq!(state(&broker), "Ongoing");
    end(&mut wire, &mut txn, true).await;
    assert_eq!(texts(&broker, "t"), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn under_kip_890_a_transaction_that_wrote_nothing_may_be_aborted_but_not_committed() {
    let (broker, mut wire) = wired().await;
    let mut txn = Txn::new(&mut wire, "x").await;
    for epoch in 1..=3 {
        assert_eq!(wire.call(5, txn.end(true)).await.error_code, ErrorCode::INVALID_TXN_STATE);
        end(&mut wire, &mut txn, false).await;
        assert_eq!((txn.epoch, state(&broker)), (epoch, "CompleteAbort"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_batch_of_a_transaction_that_ended_is_refused_everywhere() {
    let (broker, mut wire) = wired().await;
    let old = Txn::new(&mut wire, "x").await;
    let mut txn = old;
    only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    end(&mut wire, &mut txn, false).await;
    for (partition, sequence) in [(0, 0), (0, 1), (1, 0)] {
        let late = only(wire.call(12, old.produce("t", partition, &["late"], sequence)).await);
        assert_eq!(late.error_code, ErrorCode::INVALID_PRODUCER_EPOCH, "partition {partition}");
    }
    assert_eq!((broker.end_offset("t", 0), broker.end_offset("t", 1)), (Some(2), Some(0)));
    let gap = only(wire.call(12, txn.produce("t", 1, &["b"], 1)).await);
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, "each transaction starts at zero");
}

#[tokio::test(start_paused = true)]
async fn before_kip_890_a_late_batch_is_refused_because_its_partition_takes_part_no_more() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    wire.call(3, txn.add("t", &[0])).await;
    only(wire.call(11, txn.produce("t", 0, &["a"], 0)).await);
    wire.call(4, txn.end(true)).await;
    for sequence in [0, 1] {
        let late = only(wire.call(11, txn.produce("t", 0, &["late"], sequence)).await);
        assert_eq!(late.error_code, ErrorCode::TRANSACTION_ABORTABLE);
    }
    assert_eq!(broker.end_offset("t", 0), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_shut_out() {
    for level in [1, 2] {
        let (broker, mut wire) = wired().await;
        broker.set_transaction_version(level).unwrap();
        let txn = Txn::new(&mut wire, "x").await;
        wire.call(3, txn.add("t", &[0])).await;
        only(wire.call(11, txn.produce("t", 0, &["a"], 0)).await);
        sleep(Duration::from_millis(59_999)).await;
        assert_eq!(state(&broker), "Ongoing");
        sleep(Duration::from_millis(2)).await;
        let view = broker.transaction("x").unwrap();
        assert_eq!((view.state, view.epoch), ("CompleteAbort", 1), "level {level}");
        let late = only(wire.call(11, txn.produce("t", 0, &["b"], 1)).await);
        assert_eq!(late.error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
        assert_eq!(added(wire.call(3, txn.add("t", &[0])).await), ErrorCode::PRODUCER_FENCED);
        let (version, expected) =
            if level == 1 { (4, ErrorCode::PRODUCER_FENCED) } else { (5, ErrorCode::INVALID_TXN_STATE) };
        assert_eq!(wire.call(version, txn.end(true)).await.error_code, expected);
        assert!(texts(&broker, "t").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn under_kip_890_a_producer_goes_on_after_its_transaction_timed_out() {
    let (_, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    sleep(Duration::from_secs(61)).await;
    let aborted = wire.call(5, txn.end(false)).await;
    assert_eq!((aborted.error_code, aborted.producer_epoch), (NONE, 1));
    let sent = only(wire.call(12, txn.at(1).produce("t", 0, &["b"], 0)).await);
    assert_eq!(sent.error_code, NONE);
}

#[tokio::test(start_paused = true)]
async fn when_the_epochs_are_used_up_the_producer_goes_on_under_a_new_id() {
    let (_, mut wire) = wired().await;
    let first = Txn::new(&mut wire, "x").await;
    let mut txn = first;
    while txn.epoch < i16::MAX - 1 {
        txn.epoch = wire.call(5, txn.init()).await.producer_epoch;
    }
    assert_eq!(txn.producer_id, first.producer_id);
    let last = txn;
    only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    end(&mut wire, &mut txn, true).await;
    assert_eq!(txn.epoch, 0);
    assert_ne!(txn.producer_id, last.producer_id);
    let again = wire.call(5, last.end(true)).await;
    assert_eq!((again.error_code, again.producer_id, again.producer_epoch), (NONE, txn.producer_id, 0));
    let sent = only(wire.call(12, txn.produce("t", 0, &["b"], 0)).await);
    assert_eq!(sent.error_code, NONE);
}

#[tokio::test(start_paused = true)]
async fn asking_again_at_the_last_epoch_gives_a_new_id_too() {
    let (_, mut wire) = wired().await;
    let first = Txn::new(&mut wire, "x").await;
    let mut txn = first;
    while txn.epoch < i16::MAX - 1 {
        txn.epoch = wire.call(5, txn.init()).await.producer_epoch;
    }
    let next = wire.call(5, txn.init()).await;
    assert_eq!((next.error_code, next.producer_epoch), (NONE, 0));
    assert_ne!(next.producer_id, first.producer_id);
    let again = wire.call(5, txn.init()).await;
    assert_eq!(again.producer_id, next.producer_id, "a retry gets what the first call got");
}

#[tokio::test(start_paused = true)]
async fn partitions_are_added_all_or_not_at_all() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    let codes = |answer: &AddPartitionsToTxnResponse| -> Vec<ErrorCode> {
        let topics = answer.results_by_topic_v3_and_below.iter();
        let partitions = topics.flat_map(|topic| &topic.results_by_partition);
        partitions.map(|it| ErrorCode(it.partition_error_code)).collect()
    };
    for version in 0..=3 {
        let answer = wire.call(version, txn.add("t", &[0, 7])).await;
        let expected = [ErrorCode::OPERATION_NOT_ATTEMPTED, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
        assert_eq!(codes(&answer), expected);
    }
    broker.fault(
        Fault::on(ApiKey::ADD_PARTITIONS_TO_TXN).topic("t").fail(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
    );
    let code = added(wire.call(3, txn.add("t", &[0])).await);
    assert_eq!((code, state(&broker)), (ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Empty"));
    let nobody = Txn { id: "nobody", ..txn };
    let code = added(wire.call(3, nobody.add("t", &[0])).await);
    assert_eq!(code, ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    assert_eq!(codes(&wire.call(3, txn.add("t", &[0, 1])).await), [NONE, NONE]);
    let view = broker.transaction("x").unwrap();
    assert_eq!(view.partitions, [("t".to_string(), 0), ("t".to_string(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn brokers_may_ask_whether_a_partition_takes_part() {
    let (_, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    wire.call(3, txn.add("t", &[0])).await;
    for version in 4..=5 {
        let code = added(wire.call(version, txn.add_verified("t", &[0])).await);
        assert_eq!(code, NONE);
        let code = added(wire.call(version, txn.add_verified("t", &[1])).await);
        assert_eq!(code, ErrorCode::TRANSACTION_ABORTABLE);
        let code = added(wire.call(version, txn.at(9).add_verified("t", &[0])).await);
        assert_eq!(code, ErrorCode::PRODUCER_FENCED);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_mixes_neither_producers_nor_transactions_and_other_records() {
    let (_, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    let mut mixed = txn.produce("t", 0, &["a"], 0);
    mixed.topic_data.extend(txn.at(1).produce("t", 1, &["b"], 0).topic_data);
    let answer = wire.call(12, mixed).await;
    let codes = answer.responses.iter().map(|topic| topic.partition_responses[0].error_code);
    assert!(codes.clone().all(|code| code == ErrorCode::INVALID_PRODUCER_ID_MAPPING), "{codes:?}");
    only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    let outside = numbered(&["b"], txn.producer_id, txn.epoch, 1);
    assert_eq!(append(&mut wire, "t", 0, outside).await.error_code, ErrorCode::INVALID_TXN_STATE);
}

#[tokio::test(start_paused = true)]
async fn while_markers_are_missing_the_producer_meets_concurrent_transactions() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    broker.fault(Fault::on(ApiKey::WRITE_TXN_MARKERS).delay(Duration::from_secs(3)));
    only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    let answer = wire.call(5, txn.end(true)).await;
    assert_eq!((answer.error_code, answer.producer_epoch), (NONE, 1), "the decision is what is answered");
    assert_eq!((state(&broker), broker.last_stable_offset("t", 0)), ("PrepareCommit", Some(0)));
    let next = txn.at(1);
    let busy = ErrorCode::CONCURRENT_TRANSACTIONS;
    assert_eq!(wire.call(5, txn.end(true)).await.error_code, busy);
    assert_eq!(wire.call(5, txn.end(false)).await.error_code, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(wire.call(5, next.end(true)).await.error_code, ErrorCode::PRODUCER_FENCED);
    assert_eq!(wire.call(5, next.init()).await.error_code, busy);
    assert_eq!(added(wire.call(3, next.add("t", &[1])).await), busy);
    assert_eq!(only(wire.call(12, next.produce("t", 1, &["b"], 0)).await).error_code, busy);
    let older = only(wire.call(11, next.produce("t", 1, &["b"], 0)).await);
    assert_eq!(older.error_code, ErrorCode::NOT_ENOUGH_REPLICAS, "older clients would take it for fatal");
    sleep(Duration::from_millis(3001)).await;
    assert_eq!((state(&broker), broker.last_stable_offset("t", 0)), ("CompleteCommit", Some(2)));
    assert_eq!(only(wire.call(12, next.produce("t", 1, &["b"], 0)).await).error_code, NONE);
}

#[tokio::test(start_paused = true)]
async fn a_marker_waits_until_its_partition_has_a_leader() {
    let builder = Broker::builder().nodes(2).topic("t", 2);
    let broker = builder.setting("default.replication.factor", "1").build().unwrap();
    broker.transaction_coordinator("x");
    broker.move_transaction_coordinator("x", 1).unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let txn = Txn::new(&mut wire, "x").await;
    for (node, partition) in [(1, 0), (2, 1)] {
        let mut wire = Wire::connect(&broker, node);
        let sent = only(wire.call(12, txn.produce("t", partition, &["a"], 0)).await);
        assert_eq!(sent.error_code, NONE);
    }
    broker.stop_node(2);
    assert_eq!(wire.call(5, txn.end(true)).await.error_code, NONE);
    let view = broker.transaction("x").unwrap();
    assert_eq!((view.state, view.partitions), ("PrepareCommit", vec![("t".to_string(), 1)]));
    assert_eq!(broker.last_stable_offset("t", 0), Some(2));
    broker.start_node(2);
    assert_eq!((state(&broker), broker.last_stable_offset("t", 1)), ("CompleteCommit", Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_needs_no_marker() {
    let builder = Broker::builder().nodes(2).topic("t", 2);
    let broker = builder.setting("default.replication.factor", "1").build().unwrap();
    broker.transaction_coordinator("x");
    broker.move_transaction_coordinator("x", 1).unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let txn = Txn::new(&mut wire, "x").await;
    wire.call(3, txn.add("t", &[0, 1])).await;
    broker.stop_node(2);
    wire.call(4, txn.end(true)).await;
    assert_eq!(state(&broker), "PrepareCommit");
    let delete = DeleteTopicsRequest { topic_names: vec![Str::from("t")], ..DeleteTopicsRequest::default() };
    wire.call(5, delete).await;
    assert_eq!(state(&broker), "CompleteCommit");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_idle_too_long_begins_anew() {
    let setting = "transactional.id.expiration.ms";
    let broker = Broker::builder().setting(setting, "60000").build().unwrap();
    broker.transaction_coordinator("x");
    let mut wire = Wire::connect(&broker, 1);
    let first = Txn::new(&mut wire, "x").await;
    sleep(Duration::from_secs(59)).await;
    assert_eq!(Txn::new(&mut wire, "x").await, first.at(1));
    sleep(Duration::from_secs(61)).await;
    let anew = wire.call(5, first.at(1).init()).await;
    assert_eq!((anew.error_code, anew.producer_epoch), (NONE, 0), "nobody else can have come");
    assert_ne!(anew.producer_id, first.producer_id);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_goes_on_at_another_coordinator() {
    let broker = Broker::builder().nodes(2).topic("t", 1).build().unwrap();
    let node = broker.transaction_coordinator("x").unwrap();
    let (mut old, mut new) = (Wire::connect(&broker, node), Wire::connect(&broker, 3 - node));
    let txn = Txn::new(&mut old, "x").await;
    old.call(3, txn.add("t", &[0])).await;
    broker.move_transaction_coordinator("x", 3 - node).unwrap();
    let moved = ErrorCode::NOT_COORDINATOR;
    assert_eq!(old.call(5, txn.init()).await.error_code, moved);
    assert_eq!(added(old.call(3, txn.add("t", &[0])).await), moved);
    assert_eq!(old.call(4, txn.add_offsets("g")).await.error_code, moved);
    assert_eq!(old.call(5, txn.end(true)).await.error_code, moved);
    let describe = DescribeTransactionsRequest { transactional_ids: vec![Str::from("x")] };
    assert_eq!(old.call(0, describe).await.transaction_states[0].error_code, moved);
    assert_eq!(new.call(5, txn.end(true)).await.error_code, NONE);
    assert_eq!(state(&broker), "CompleteCommit");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_whose_coordinator_was_away_times_out_when_it_is_back() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    broker.stop_node(1);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(state(&broker), "Ongoing");
    broker.start_node(1);
    sleep(Duration::from_millis(1)).await;
    assert_eq!((state(&broker), broker.last_stable_offset("t", 0)), ("CompleteAbort", Some(2)));
}

#[tokio::test(start_paused = true)]
async fn the_level_of_the_feature_is_advertised_and_can_be_changed_live() {
    let broker = Broker::builder().transaction_version(1).build().unwrap();
    assert!(Broker::builder().transaction_version(3).build().is_err());
    let mut wire = Wire::connect(&broker, 1);
    let mut epochs = Vec::new();
    for level in [1, 2, 0] {
        broker.set_transaction_version(level).unwrap();
        for version in 3..=5 {
            let request = ApiVersionsRequest {
                client_software_name: Str::from("a"),
                client_software_version: Str::from("1"),
                ..ApiVersionsRequest::default()
            };
            let answer = wire.call(version, request).await;
            let supported: Vec<_> =
                answer.supported_features.iter().map(|it| (it.min_version, it.max_version)).collect();
            assert_eq!(supported, if version == 3 { vec![] } else { vec![(0, 1), (0, 2)] });
            let finalized: Vec<_> = answer
                .finalized_features
                .iter()
                .filter(|it| &*it.name == "transaction.version")
                .map(|it| (&*it.name, it.min_version_level, it.max_version_level))
                .collect();
            let expected = vec![("transaction.version", level, level)];
            assert_eq!(finalized, if level == 0 { vec![] } else { expected });
            epochs.push(answer.finalized_features_epoch);
        }
    }
    assert!(epochs.is_sorted() && epochs[0] < epochs[8], "{epochs:?}");
    assert_eq!(broker.set_transaction_version(3), Err(ErrorCode::INVALID_UPDATE_VERSION));
}

#[tokio::test(start_paused = true)]
async fn an_older_broker_shows_the_level_that_it_would_have() {
    let broker = broker();
    let (stream, server) = tokio::io::duplex(64 * 1024);
    let versions: Versions = [(ApiKey::END_TXN, (0, 4))].into_iter().collect();
    let serving = broker.clone();
    tokio::spawn(async move { serving.serve_versions(1, "127.0.0.1", versions, server).await });
    let request = ApiVersionsRequest {
        client_software_name: Str::from("a"),
        client_software_version: Str::from("1"),
        ..ApiVersionsRequest::default()
    };
    let answer = Wire::over(stream).call(4, request).await;
    let finalized = answer.finalized_features.iter().map(|it| (&*it.name, it.max_version_level));
    assert_eq!(finalized.collect::<Vec<_>>(), [("group.version", 1), ("transaction.version", 1)]);
    assert_eq!(answer.supported_features[1].max_version, 1);
}

#[tokio::test(start_paused = true)]
async fn faults_hit_the_calls_of_a_transaction_as_any_other() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    let code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    for key in [ApiKey::INIT_PRODUCER_ID, ApiKey::ADD_PARTITIONS_TO_TXN, ApiKey::ADD_OFFSETS_TO_TXN] {
        broker.fault(Fault::on(key).fail(code));
    }
    broker.fault(Fault::on(ApiKey::END_TXN).fail(ErrorCode::UNKNOWN_SERVER_ERROR));
    broker.fault(Fault::on(ApiKey::TXN_OFFSET_COMMIT).topic("t").fail(code));
    assert_eq!(wire.call(5, txn.init()).await.error_code, code);
    assert_eq!(added(wire.call(3, txn.add("t", &[0])).await), code);
    assert_eq!(wire.call(4, txn.add_offsets("g")).await.error_code, code);
    assert_eq!(wire.call(5, txn.end(false)).await.error_code, ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_eq!(offset_committed(wire.call(5, txn.commit_offset("g", "t", 0, 1)).await), code);
    only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    broker.fault(Fault::on(ApiKey::END_TXN).cut_answer());
    wire.send(5, &txn.end(true)).await;
    assert!(wire.is_closed().await);
    assert_eq!(texts(&broker, "t"), ["a"], "the answer got lost, not the decision");
}

#[tokio::test(start_paused = true)]
async fn markers_that_fail_are_written_again() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await);
    broker.fault(Fault::on(ApiKey::WRITE_TXN_MARKERS).fail(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    wire.call(5, txn.end(true)).await;
    assert_eq!(state(&broker), "PrepareCommit");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(state(&broker), "CompleteCommit");
}

#[tokio::test(start_paused = true)]
async fn transactions_are_described_and_listed() {
    let (_, mut wire) = wired().await;
    let open = Txn::new(&mut wire, "x").await;
    let empty = Txn::new(&mut wire, "xy").await;
    wire.call(3, open.add("t", &[0, 1])).await;
    let ids = ["x", "xy", "z", ""].map(Str::from).to_vec();
    let answer = wire.call(0, DescribeTransactionsRequest { transactional_ids: ids }).await;
    let [x, xy, unknown, nameless] = &answer.transaction_states[..] else { panic!("four were asked for") };
    assert_eq!((&*x.transaction_state, x.transaction_timeout_ms), ("Ongoing", 60_000));
    assert_eq!((&*x.topics[0].topic, &x.topics[0].partitions[..]), ("t", &[0, 1][..]));
    assert_eq!((&*xy.transaction_state, xy.producer_id), ("Empty", empty.producer_id));
    assert_eq!(unknown.error_code, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
    assert_eq!(nameless.error_code, ErrorCode::INVALID_REQUEST);
    let all = ListTransactionsRequest { duration_filter: -1, ..ListTransactionsRequest::default() };
    let of_state = |names: &[&'static str]| ListTransactionsRequest {
        state_filters: names.iter().map(|name| Str::from(*name)).collect(),
        ..all.clone()
    };
    let like = |pattern: &'static str| ListTransactionsRequest {
        transactional_id_pattern: Some(Str::from(pattern)),
        ..all.clone()
    };
    for (request, expected) in [
        (all.clone(), vec!["x", "xy"]),
        (of_state(&["Ongoing"]), vec!["x"]),
        (of_state(&["Ongoing", "Empty"]), vec!["x", "xy"]),
        (ListTransactionsRequest { producer_id_filters: vec![empty.producer_id], ..all.clone() }, vec!["xy"]),
        (ListTransactionsRequest { duration_filter: 1000, ..all.clone() }, vec![]),
        (like("x.*"), vec!["x", "xy"]),
        (like(".*y"), vec!["xy"]),
    ] {
        let answer = wire.call(2, request.clone()).await;
        let ids: Vec<_> = answer.transaction_states.iter().map(|it| &*it.transactional_id).collect();
        assert_eq!(ids, expected, "{request:?}");
    }
    let answer = wire.call(2, of_state(&["nope"])).await;
    assert_eq!((answer.unknown_state_filters, answer.transaction_states.len()), (vec![Str::from("nope")], 0));
    assert_eq!(wire.call(2, like("(")).await.error_code, ErrorCode::INVALID_REGULAR_EXPRESSION);
}
