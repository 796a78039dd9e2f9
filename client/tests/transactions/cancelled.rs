//! Fault 97 for transactions: each call is dropped after so many polls, until it is ready before that. The next call works,
//! and what was told of the outcome is what a reader sees.

use std::time::Duration;

use ottla::{Previous, TransactionalProducer};
use ottla_broker::{Fault, TestBroker};
use ottla_protocol::api::ApiKey;

use crate::scene::*;

/// More than any of these calls takes.
const POLLS_MAX: usize = 200;

async fn check_next(broker: &TestBroker, producer: &mut TransactionalProducer, expected: &mut Vec<String>) {
    let value = format!("next {}", expected.len());
    in_time("the next transaction", write(producer, &value)).await.unwrap();
    expected.push(value);
    assert_eq!(seen(broker).await, *expected);
}

#[tokio::test]
async fn a_begin_that_is_dropped_begins_nothing() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut expected = Vec::new();
        let mut ready = false;
        for polls in 0..POLLS_MAX {
            let mut producer = producer(&client);
            ready = poll_then_drop(polls, producer.begin()).await.is_some();
            check_next(&broker, &mut producer, &mut expected).await;
            if ready {
                break;
            }
        }
        assert!(ready, "it is never ready");
    }
}

#[tokio::test]
async fn a_begin_that_is_dropped_while_it_waits_for_the_transaction_before_leaves_its_outcome_to_the_next() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let mut expected = Vec::new();
        for polls in 0..4 {
            let transaction = producer.begin().await.unwrap();
            send(&transaction, "waited for").await.unwrap();
            expected.push("waited for".to_owned());
            broker.fault(Fault::on(ApiKey::END_TXN).delay(Duration::from_millis(20)));
            drop(poll_then_drop(1, transaction.commit()).await);
            let begun = poll_then_drop(polls, producer.begin()).await.map(|begun| begun.unwrap().previous());
            let told = match begun {
                Some(previous) => previous,
                None => producer.begin().await.unwrap().previous(),
            };
            assert_eq!(told, Some(Previous::Committed), "version {version}, {polls} polls");
            check_next(&broker, &mut producer, &mut expected).await;
        }
    }
}

#[tokio::test]
async fn offsets_whose_call_is_dropped_are_part_of_the_transaction() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let mut ready = false;
        let mut expected = None;
        for (polls, next) in (0..POLLS_MAX).zip(1..) {
            let transaction = producer.begin().await.unwrap();
            // F31: EndTxn does not overtake them, however long they take.
            broker.fault(Fault::on(ApiKey::TXN_OFFSET_COMMIT).delay(Duration::from_millis(5)));
            ready = poll_then_drop(polls, send_offset(&transaction, next)).await.is_some();
            in_time("commit", transaction.commit()).await.unwrap();
            seen(&broker).await;
            // A call that was never polled has not been made.
            expected = if polls == 0 { expected } else { Some(next) };
            assert_eq!(offset(&broker), expected, "version {version}, {polls} polls");
            if ready {
                break;
            }
        }
        assert!(ready, "it is never ready");
    }
}

/// Also F29 and fault 22: what the next begin tells of it is true.
#[tokio::test]
async fn a_commit_that_is_dropped_goes_on_and_its_outcome_is_told() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let mut expected = Vec::new();
        let mut ready = false;
        for polls in 0..POLLS_MAX {
            let transaction = producer.begin().await.unwrap();
            let value = format!("{polls} polls");
            drop(transaction.topic("t").enqueue(to(0, &value)).await.unwrap());
            let ended = poll_then_drop(polls, transaction.commit()).await;
            ready = ended.is_some();
            let told = in_time("begin", producer.begin()).await.unwrap().previous();
            match (ended, polls) {
                (Some(ended), _) => assert_eq!((ended.is_ok(), told), (true, None), "told once"),
                (None, 0) => assert_eq!(told, Some(Previous::Aborted), "it was never polled"),
                (None, _) => assert_eq!(told, Some(Previous::Committed), "version {version}, {polls} polls"),
            }
            expected.extend((polls > 0).then_some(value));
            check_next(&broker, &mut producer, &mut expected).await;
            if ready {
                break;
            }
        }
        assert!(ready, "it is never ready");
    }
}

#[tokio::test]
async fn an_abort_that_is_dropped_goes_on() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let mut expected = Vec::new();
        let mut ready = false;
        for polls in 0..POLLS_MAX {
            let transaction = producer.begin().await.unwrap();
            drop(transaction.topic("t").enqueue(to(0, "aborted")).await.unwrap());
            ready = poll_then_drop(polls, transaction.abort()).await.is_some();
            check_next(&broker, &mut producer, &mut expected).await;
            if ready {
                break;
            }
        }
        assert!(ready, "it is never ready");
    }
}

#[tokio::test]
async fn a_run_that_is_dropped_is_committed_or_aborted_as_the_next_begin_says() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let mut expected = Vec::new();
        let mut ready = false;
        for polls in 0..POLLS_MAX {
            let value = format!("{polls} polls");
            let ended = poll_then_drop(polls, write(&mut producer, &value)).await;
            ready = ended.is_some();
            let told = in_time("begin", producer.begin()).await.unwrap().previous();
            if let Some(ended) = ended {
                ended.unwrap();
                assert_eq!(told, None, "told once");
            }
            expected.extend((ready || told == Some(Previous::Committed)).then_some(value));
            check_next(&broker, &mut producer, &mut expected).await;
            if ready {
                break;
            }
        }
        assert!(ready, "it is never ready");
    }
}

/// A record whose enqueue or delivery is dropped is there or not, but the transaction is whole.
#[tokio::test]
async fn a_send_that_is_dropped_leaves_the_transaction_whole() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let mut count = 0;
        for polls in 0..6 {
            let transaction = producer.begin().await.unwrap();
            let sent = poll_then_drop(polls, send(&transaction, "dropped")).await;
            send(&transaction, "kept").await.unwrap();
            transaction.commit().await.unwrap();
            let now = seen(&broker).await;
            let added = now.len() - count;
            count = now.len();
            assert_eq!(now.last().map(String::as_str), Some("kept"));
            match (polls, sent) {
                (0, _) => assert_eq!(added, 1),
                (_, Some(sent)) => assert_eq!((sent.is_ok(), added), (true, 2)),
                (_, None) => assert!(added == 1 || added == 2, "{added} records"),
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_whose_handle_was_leaked_is_aborted_by_the_next_begin() {
    let (broker, client) = cluster(2).await;
    let mut producer = producer(&client);
    let leaked = producer.begin().await.unwrap();
    send(&leaked, "leaked").await.unwrap();
    std::mem::forget(leaked);
    let next = in_time("begin", producer.begin()).await.unwrap();
    assert_eq!(next.previous(), Some(Previous::Aborted));
    send(&next, "next").await.unwrap();
    next.commit().await.unwrap();
    assert_eq!(seen(&broker).await, ["next"]);
}

/// Fault 98 for transactions.
#[tokio::test]
async fn dropping_the_producer_with_a_transaction_on_its_way_returns_at_once() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let transaction = producer.begin().await.unwrap();
        let delivery = transaction.topic("t").enqueue(to(0, "a")).await.unwrap();
        drop(transaction);
        drop(producer);
        let told = in_time("the delivery", delivery).await;
        assert!(told.unwrap_err().outcome().is_some());
        until(|| broker.connections() == 0).await;
    }
}
