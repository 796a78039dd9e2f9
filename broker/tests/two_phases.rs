//! What a coordinator answers where transactions are prepared, kept and ended by another instance (KIP-939).
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::Broker;
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use std::time::Duration;
use tokio::time::sleep;
use wire::*;

const NONE: ErrorCode = ErrorCode::NONE;

fn broker(allowed: &str) -> (Broker, Wire) {
    let builder = Broker::builder().topic("t", 1).setting("unstable.api.versions.enable", "true");
    // The records of these tests have no date.
    let builder = builder.setting("log.retention.ms", "-1");
    let broker = builder.setting("transaction.two.phase.commit.enable", allowed).build().unwrap();
    broker.transaction_coordinator("x");
    let wire = Wire::connect(&broker, 1);
    (broker, wire)
}

fn nobody() -> Txn {
    Txn { id: "x", producer_id: -1, epoch: -1 }
}

/// Names itself with two phases.
async fn init(wire: &mut Wire, keep_prepared_txn: bool) -> InitProducerIdResponse {
    wire.call(6, InitProducerIdRequest { enable_2_pc: true, keep_prepared_txn, ..nobody().init() }).await
}

fn named(answer: &InitProducerIdResponse) -> Txn {
    assert_eq!(answer.error_code, NONE);
    Txn { producer_id: answer.producer_id, epoch: answer.producer_epoch, ..nobody() }
}

fn ongoing(answer: &InitProducerIdResponse) -> (i64, i16) {
    (answer.ongoing_txn_producer_id, answer.ongoing_txn_producer_epoch)
}

/// A producer with a record in an open transaction.
async fn opened(wire: &mut Wire) -> Txn {
    let txn = named(&init(wire, false).await);
    assert_eq!(only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await).error_code, NONE);
    txn
}

fn committed(broker: &Broker) -> usize {
    broker.committed_log("t", 0).unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn the_version_is_shown_and_the_phases_are_allowed_only_where_settings_say_so() {
    let plain = Broker::builder().build().unwrap();
    let mut wire = Wire::connect(&plain, 1);
    let request = ApiVersionsRequest {
        client_software_name: "t".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    for (wire, expected) in [(&mut wire, 5), (&mut broker("true").1, 6)] {
        let shown = wire.call(3, request.clone()).await.api_keys;
        let init = shown.iter().find(|api| api.api_key == ApiKey::INIT_PRODUCER_ID).unwrap();
        assert_eq!(init.max_version, expected);
    }
    let (_broker, mut wire) = broker("false");
    assert_eq!(init(&mut wire, false).await.error_code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_of_two_phases_never_runs_out_of_its_time() {
    let (broker, mut wire) = broker("true");
    let txn = opened(&mut wire).await;
    sleep(Duration::from_secs(30 * 24 * 3600)).await;
    assert_eq!(broker.transaction("x").unwrap().state, "Ongoing");
    assert_eq!(wire.call(5, txn.end(true)).await.error_code, NONE);
    assert_eq!(committed(&broker), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_ended_by_the_last_instance_alone() {
    for commit in [true, false] {
        let (broker, mut wire) = broker("true");
        let first = opened(&mut wire).await;
        let second = init(&mut wire, true).await;
        assert_eq!(ongoing(&second), (first.producer_id, first.epoch));
        let third = init(&mut wire, true).await;
        assert_eq!(ongoing(&third), (first.producer_id, first.epoch), "who prepared it stays the same");
        for old in [first, named(&second)] {
            assert_eq!(wire.call(5, old.end(true)).await.error_code, ErrorCode::PRODUCER_FENCED);
            assert_eq!(added(wire.call(3, old.add("t", &[0])).await), ErrorCode::PRODUCER_FENCED);
        }
        assert_eq!((broker.transaction("x").unwrap().state, committed(&broker)), ("Ongoing", 0));
        let ended = wire.call(5, named(&third).end(commit)).await;
        assert_eq!((ended.error_code, ended.producer_epoch), (NONE, third.producer_epoch + 1));
        assert_eq!(committed(&broker), usize::from(commit));
        let again = wire.call(5, named(&third).end(commit)).await;
        assert_eq!((again.error_code, again.producer_epoch), (NONE, ended.producer_epoch), "a retry");
        let next = Txn { epoch: ended.producer_epoch, ..named(&third) };
        assert_eq!(only(wire.call(12, next.produce("t", 0, &["b"], 0)).await).error_code, NONE);
    }
}

#[tokio::test(start_paused = true)]
async fn keeping_where_nothing_is_open_is_a_start_like_any_other() {
    let (_broker, mut wire) = broker("true");
    assert_eq!(ongoing(&init(&mut wire, true).await), (-1, -1));
}

#[tokio::test(start_paused = true)]
async fn whoever_keeps_nothing_aborts_what_was_kept() {
    let (broker, mut wire) = broker("true");
    opened(&mut wire).await;
    let heir = named(&init(&mut wire, true).await);
    let next = Txn::new(&mut wire, "x").await;
    assert!(next.epoch > heir.epoch);
    assert_eq!(wire.call(5, heir.end(true)).await.error_code, ErrorCode::PRODUCER_FENCED);
    assert_eq!((broker.transaction("x").unwrap().state, committed(&broker)), ("Empty", 0));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_kept_until_the_epochs_are_used_up_is_ended_under_another_id() {
    let (broker, mut wire) = broker("true");
    let first = opened(&mut wire).await;
    let mut heir = init(&mut wire, true).await;
    while heir.producer_id == first.producer_id {
        heir = init(&mut wire, true).await;
    }
    assert_eq!((heir.producer_epoch, ongoing(&heir)), (0, (first.producer_id, first.epoch)));
    let ended = wire.call(5, named(&heir).end(true)).await;
    assert_eq!((ended.producer_id, ended.producer_epoch), (heir.producer_id, 1));
    assert_eq!(committed(&broker), 1);
    assert_eq!(wire.call(5, named(&heir).end(true)).await.producer_epoch, 1, "a retry");
    let next = Txn { epoch: 1, ..named(&heir) };
    assert_eq!(only(wire.call(12, next.produce("t", 0, &["b"], 0)).await).error_code, NONE);
}
