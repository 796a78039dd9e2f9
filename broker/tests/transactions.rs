//! What a transaction coordinator answers, step by step, under both versions of the protocol.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;
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
        (10, ErrorCode::TRANSACTION_ABORTABLE),
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
