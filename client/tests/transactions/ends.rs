//! How transactions end: committed, aborted, unknown or fatal, and what is in the log then.

use std::time::Duration;

use ottla::{ErrorCode, ErrorKind, Outcome, Previous};
use ottla_broker::{Answer, Fault};
use ottla_protocol::api::ApiKey;
use tokio::time::sleep;

use crate::scene::*;

/// Requests that were late are there by then.
const LATE: Duration = Duration::from_millis(100);
const AFTER_LATE: Duration = Duration::from_millis(250);

/// Fault 21, KAFKA-17754.
#[tokio::test]
async fn a_late_end_of_one_transaction_does_not_end_the_next() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        broker.fault(Fault::on(ApiKey::END_TXN).late(LATE));
        write(&mut producer, "a").await.unwrap();
        let next = producer.begin().await.unwrap();
        send(&next, "b").await.unwrap();
        sleep(AFTER_LATE).await;
        next.abort().await.unwrap();
        assert_eq!(seen(&broker).await, ["a"], "version {version}");
        write(&mut producer, "c").await.unwrap();
        assert_eq!(seen(&broker).await, ["a", "c"], "version {version}");
    }
}

/// Faults 21 and 23: a record of a transaction that was aborted arrives while the next is open.
#[tokio::test]
async fn a_late_record_of_one_transaction_does_not_get_into_the_next() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        write(&mut producer, "a").await.unwrap();
        let given_up = producer.begin().await.unwrap();
        let late = broker.fault(Fault::on(ApiKey::PRODUCE).late(LATE));
        // No second try, which would make the late one a duplicate.
        let silent = broker.fault(Fault::on(ApiKey::PRODUCE).skip(1).always().cut());
        let delivery = given_up.topic("t").enqueue(to(0, "late")).await.unwrap();
        until_fired(&broker, late).await;
        given_up.abort().await.unwrap();
        broker.remove_fault(silent);
        let error = delivery.await.unwrap_err();
        assert_eq!(error.outcome(), Some(Outcome::PossiblyWritten), "version {version}: {error}");
        let next = producer.begin().await.unwrap();
        send(&next, "b").await.unwrap();
        sleep(AFTER_LATE).await;
        send(&next, "c").await.unwrap();
        next.commit().await.unwrap();
        assert_eq!(seen(&broker).await, ["a", "b", "c"], "version {version}");
    }
}

/// Faults 22 and 34, F29, F30, B5: nothing is taken for a commit but a commit, and nobody turns it into an abort.
#[tokio::test]
async fn a_commit_of_unknown_outcome_is_asked_for_again_until_it_is_known() {
    for version in VERSIONS {
        for code in [ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode(9_999)] {
            for took_effect in [false, true] {
                let (broker, client) = cluster(version).await;
                let mut producer =
                    builder(&client).max_block(Duration::from_millis(100)).build_transactional().unwrap();
                let transaction = producer.begin().await.unwrap();
                send(&transaction, "a").await.unwrap();
                send_offset(&transaction, 7).await.unwrap();
                let fault = Fault::on(ApiKey::END_TXN).always();
                broker.fault(match took_effect {
                    false => fault.fail(code),
                    true => fault.rewrite(move |answer| {
                        if let Answer::EndTxn(answer) = answer {
                            answer.error_code = code;
                        }
                    }),
                });
                let error = transaction.commit().await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{error}");
                let error = producer.begin().await.map(|_| ()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{error}");
                assert_eq!(broker.committed_log("t", 0).unwrap().len(), usize::from(took_effect));
                broker.heal();
                let mut next = producer.begin().await;
                while next.is_err() {
                    drop(next);
                    next = producer.begin().await;
                }
                let next = next.unwrap();
                assert_eq!(next.previous(), Some(Previous::Committed));
                next.abort().await.unwrap();
                assert_eq!((seen(&broker).await, offset(&broker)), (vec!["a".to_owned()], Some(7)));
            }
        }
    }
}

/// Faults 22 and 38 without a death: an answer is lost, whether or not its request did something.
#[tokio::test]
async fn an_end_whose_answer_is_lost_is_asked_for_again() {
    for version in VERSIONS {
        let faults: [fn(Fault) -> Fault; 3] = [Fault::cut, Fault::cut_answer, |fault| fault.late(LATE)];
        for fault in faults {
            let (broker, client) = cluster(version).await;
            let mut producer = producer(&client);
            broker.fault(fault(Fault::on(ApiKey::END_TXN)));
            write(&mut producer, "a").await.unwrap();
            let aborted = producer.begin().await.unwrap();
            assert_eq!(aborted.previous(), None, "its end was told");
            send(&aborted, "b").await.unwrap();
            broker.fault(fault(Fault::on(ApiKey::END_TXN)));
            aborted.abort().await.unwrap();
            write(&mut producer, "c").await.unwrap();
            sleep(AFTER_LATE).await;
            assert_eq!(seen(&broker).await, ["a", "c"], "version {version}");
        }
    }
}

/// Fault 22, S5: after an answer that leaves the outcome open, a producer that is fenced does not know it either.
#[tokio::test]
async fn a_commit_that_may_have_been_done_before_the_fence_is_not_called_undone() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let transaction = producer.begin().await.unwrap();
        send(&transaction, "a").await.unwrap();
        // It was done, and is said to have failed; the second try comes after the next instance.
        broker.fault(Fault::on(ApiKey::END_TXN).rewrite(|answer| {
            if let Answer::EndTxn(answer) = answer {
                answer.error_code = ErrorCode::COORDINATOR_NOT_AVAILABLE;
            }
        }));
        let second = broker.fault(Fault::on(ApiKey::END_TXN).skip(1).delay(Duration::from_millis(300)));
        let successor = async {
            until_fired(&broker, second).await;
            // Its own id is bumped twice, so that no epoch looks like the one before.
            for _ in 0..2 {
                let mut producer = builder(&client).build_transactional().unwrap();
                drop(producer.begin().await.unwrap());
                producer.close(SOON).await;
            }
        };
        let (ended, ()) = tokio::join!(transaction.commit(), successor);
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "version {version}: {error}");
        assert!(error.to_string().contains("is not known"), "version {version}: {error}");
        assert_eq!(seen(&broker).await, ["a"], "version {version}");
    }
}

/// Fault 24: the partition was let into the transaction, though nothing of ours is in it.
#[tokio::test]
async fn a_transaction_of_which_every_record_failed_is_aborted_at_the_coordinator() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let transaction = producer.begin().await.unwrap();
        broker.fault(Fault::on(ApiKey::PRODUCE).always().rewrite(|answer| {
            if let Answer::Produce(answer) = answer {
                let partitions = answer.responses.iter_mut().flat_map(|t| &mut t.partition_responses);
                partitions.for_each(|partition| partition.error_code = ErrorCode::INVALID_RECORD);
            }
        }));
        send(&transaction, "a").await.unwrap_err();
        assert_eq!(transaction.commit().await.unwrap_err().kind(), ErrorKind::Aborted);
        assert!(requests(&broker, ApiKey::END_TXN) >= 1, "version {version}: nobody was told");
        until(|| state(&broker) == "CompleteAbort").await;
        broker.heal();
        write(&mut producer, "b").await.unwrap();
        assert_eq!(seen(&broker).await, ["b"], "version {version}");
    }
}

/// Fault 26: the error is fatal at once, and its text names the time that may be the reason.
#[tokio::test]
async fn a_fenced_producer_is_at_its_end_and_hears_why_it_may_be() {
    for version in VERSIONS {
        let mut calls = vec![ApiKey::INIT_PRODUCER_ID, ApiKey::END_TXN];
        if version == 1 {
            calls.extend([
                ApiKey::ADD_PARTITIONS_TO_TXN,
                ApiKey::ADD_OFFSETS_TO_TXN,
                ApiKey::TXN_OFFSET_COMMIT,
            ]);
        }
        for api in calls {
            let (broker, client) = cluster(version).await;
            broker.fault(Fault::on(api).fail(ErrorCode::PRODUCER_FENCED));
            let mut producer = producer(&client);
            let run = producer.run(async |transaction| {
                send(transaction, "a").await?;
                send_offset(transaction, 7).await
            });
            let error = in_time("a fenced run", run).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fenced, "version {version}, {api:?}: {error}");
            assert!(error.to_string().contains("transaction.timeout.ms"), "{api:?}: {error}");
            broker.heal();
            let error = producer.begin().await.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fenced, "it stays so: {error}");
        }
    }
}

/// Fault 27: under version 2 the next transaction goes on, under version 1 the producer is at its end.
#[tokio::test]
async fn a_transaction_that_ran_out_of_its_time_is_not_committed() {
    for version in VERSIONS {
        for offsets_only in [false, true] {
            let (broker, client) = cluster(version).await;
            let mut producer = builder(&client)
                .transaction_timeout(Duration::from_millis(150))
                .build_transactional()
                .unwrap();
            let transaction = producer.begin().await.unwrap();
            send(&transaction, "a").await.unwrap();
            until(|| state(&broker) == "CompleteAbort").await;
            if offsets_only {
                send_offset(&transaction, 7).await.unwrap_err();
            }
            let error = transaction.commit().await.unwrap_err();
            if version == 1 {
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
                assert!(error.to_string().contains("is not committed"), "{error}");
            } else {
                assert_eq!(error.kind(), ErrorKind::Aborted, "{error}");
                write(&mut producer, "b").await.unwrap();
                assert_eq!(seen(&broker).await, ["b"]);
            }
            assert!(!seen(&broker).await.contains(&"a".to_owned()));
            assert_eq!(offset(&broker), None);
        }
    }
}

/// Fault 29, B3: what was acknowledged before is not lost by a commit that follows.
#[tokio::test]
async fn a_gap_in_the_sequence_aborts_the_whole_transaction() {
    for version in VERSIONS {
        for code in [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID] {
            let (broker, client) = cluster(version).await;
            let mut producer = producer(&client);
            let transaction = producer.begin().await.unwrap();
            send(&transaction, "a").await.unwrap();
            broker.fault(Fault::on(ApiKey::PRODUCE).fail(code));
            let error = send(&transaction, "b").await.unwrap_err();
            assert_eq!(error.outcome(), Some(Outcome::PossiblyWritten), "{error}");
            assert_eq!(transaction.commit().await.unwrap_err().kind(), ErrorKind::Aborted);
            write(&mut producer, "c").await.unwrap();
            assert_eq!(seen(&broker).await, ["c"], "version {version}, {code}");
        }
    }
}

/// Fault 30.
#[tokio::test]
async fn one_record_that_fails_among_many_is_enough_to_refuse_the_commit() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let transaction = producer.begin().await.unwrap();
        broker.fault(Fault::on(ApiKey::PRODUCE).topic("t").partition(1).fail(ErrorCode::INVALID_RECORD));
        let topic = transaction.topic("t");
        for n in 0..20 {
            // Later ones may be refused already.
            if let Ok(delivery) = topic.enqueue(to(n % 2, "many")).await {
                drop(delivery);
            }
        }
        until(|| requests(&broker, ApiKey::PRODUCE) >= 2).await;
        let error = transaction.commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Aborted, "version {version}: {error}");
        assert!(error.to_string().contains("INVALID_RECORD"), "the reason is told: {error}");
        write(&mut producer, "next").await.unwrap();
        assert_eq!(seen(&broker).await, ["next"], "version {version}");
    }
}

/// Fault 9 within transactions: the epoch is out of date for a partition, and the coordinator says whether it is.
#[tokio::test]
async fn an_epoch_that_a_partition_refuses_aborts_and_is_replaced() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let transaction = producer.begin().await.unwrap();
        send(&transaction, "a").await.unwrap();
        broker.fault(Fault::on(ApiKey::PRODUCE).fail(ErrorCode::INVALID_PRODUCER_EPOCH));
        let error = send(&transaction, "b").await.unwrap_err();
        assert_eq!(error.outcome(), Some(Outcome::NotWritten), "{error}");
        assert_eq!(transaction.commit().await.unwrap_err().kind(), ErrorKind::Aborted);
        let before = broker.transaction(ID).unwrap().epoch;
        write(&mut producer, "c").await.unwrap();
        assert_eq!(seen(&broker).await, ["c"], "version {version}");
        assert!(broker.transaction(ID).unwrap().epoch >= before);
    }
}

/// Fault 35, S9: after the answer to the new instance's InitProducerId nothing of the old one gets into the log.
#[tokio::test]
async fn a_zombie_writes_nothing_after_its_successor_has_begun() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut old = producer(&client);
        let zombie = old.begin().await.unwrap();
        send(&zombie, "a").await.unwrap();
        let mut new = producer(&client);
        let transaction = new.begin().await.unwrap();
        let before = written(&broker);
        for partition in [0, 1, 0] {
            send_to(&zombie, partition, "zombie").await.unwrap_err();
        }
        send_offset(&zombie, 7).await.unwrap_err();
        let error = zombie.commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "version {version}: {error}");
        assert_eq!(written(&broker), before, "version {version}");
        send(&transaction, "b").await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(old.begin().await.map(|_| ()).unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!((seen(&broker).await, offset(&broker)), (vec!["b".to_owned()], None));
    }
}

/// Fault 36: a transaction that nobody ends keeps readers of committed records waiting, without a busy loop.
#[tokio::test]
async fn a_reader_of_committed_records_waits_for_a_transaction_that_hangs() {
    let (broker, client) = cluster(2).await;
    let mut producer = producer(&client);
    write(&mut producer, "a").await.unwrap();
    let hanging = producer.begin().await.unwrap();
    send(&hanging, "b").await.unwrap();
    let consumer = client.consumer().assign([("t", 0)]).fetch_max_wait(Duration::from_millis(100));
    let committed = ottla::IsolationLevel::ReadCommitted;
    let mut consumer = consumer.isolation_level(committed).build().unwrap();
    let first = in_time("the first record", consumer.recv()).await.unwrap().unwrap();
    assert_eq!(first.value(), Some(&b"a"[..]));
    let before = requests(&broker, ApiKey::FETCH);
    let waited = tokio::time::timeout(Duration::from_millis(500), consumer.recv()).await;
    assert!(waited.is_err(), "an open transaction is read");
    let asked = requests(&broker, ApiKey::FETCH) - before;
    assert!(asked <= 12, "{asked} fetches while nothing can be read");
    assert!(broker.last_stable_offset("t", 0) < broker.end_offset("t", 0));
    hanging.commit().await.unwrap();
    let second = in_time("the second record", consumer.recv()).await.unwrap().unwrap();
    assert_eq!(second.value(), Some(&b"b"[..]));
}

/// Fault 38: the producer is gone between EndTxn and its answer.
#[tokio::test]
async fn a_successor_finds_all_or_nothing_of_a_transaction_whose_producer_died() {
    for version in VERSIONS {
        for took_effect in [false, true] {
            let (broker, client) = cluster(version).await;
            let mut dying = producer(&client);
            let transaction = dying.begin().await.unwrap();
            send_to(&transaction, 0, "a").await.unwrap();
            send_to(&transaction, 1, "a").await.unwrap();
            send_offset(&transaction, 7).await.unwrap();
            let fault = Fault::on(ApiKey::END_TXN);
            let fault = broker.fault(if took_effect { fault.swallow_answer() } else { fault.swallow() });
            tokio::select! {
                biased;
                _ = transaction.commit() => panic!("nobody has answered"),
                () = until_fired(&broker, fault) => {}
            }
            drop(dying);
            let mut successor = producer(&client);
            let next = successor.begin().await.unwrap();
            assert_eq!(next.previous(), None, "it was another instance's");
            next.abort().await.unwrap();
            let all = ["a", "a"].map(str::to_owned);
            let expected = if took_effect { (all.to_vec(), Some(7)) } else { (Vec::new(), None) };
            assert_eq!((seen(&broker).await, offset(&broker)), expected, "version {version}");
            write(&mut successor, "b").await.unwrap();
        }
    }
}

/// F33, F35 (KAFKA-20785): markers are late, so that each transaction meets the one before; every `Ok` is in the log.
#[tokio::test]
async fn after_every_ok_the_transaction_is_in_the_log() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let markers = Duration::from_millis(5);
        broker.fault(Fault::on(ApiKey::WRITE_TXN_MARKERS).always().delay(markers));
        let mut producer = producer(&client);
        let mut expected = Vec::new();
        for n in 0..30 {
            let transaction = producer.begin().await.unwrap();
            let value = n.to_string();
            drop(transaction.topic("t").enqueue(to(0, &value)).await.unwrap());
            match n % 3 {
                0 => drop(transaction),
                1 => transaction.abort().await.unwrap(),
                _ => {
                    send_offset(&transaction, n).await.unwrap();
                    transaction.commit().await.unwrap();
                    expected.push(value);
                    assert_eq!(seen(&broker).await, expected, "version {version}");
                    assert_eq!(offset(&broker), Some(n), "version {version}");
                }
            }
        }
    }
}

/// Keys of a topic that is pinned stay where they are, in this transaction and in the next.
#[tokio::test]
async fn a_topic_of_transactions_is_pinned_as_any_other() {
    let (broker, client) = cluster(2).await;
    let mut producer = producer(&client);
    let send_keys = async |transaction: &ottla::Transaction<'_>, pins: bool| {
        let topic = transaction.topic("t");
        if pins {
            topic.pin_partitions(1);
        }
        for key in 0..20_u8 {
            let payload =
                ottla::Payload { key: Some(&[key]), value: Some(b"v"), ..ottla::Payload::default() };
            topic.send(payload).await?;
        }
        Ok::<_, ottla::Error>(topic.partition_bytes())
    };
    for pins in [true, false] {
        let bytes = producer.run(async |transaction| send_keys(transaction, pins).await).await.unwrap();
        assert!(bytes[0] > 0 && bytes[1] == 0, "{bytes:?}");
    }
    assert_eq!((broker.end_offset("t", 1), seen(&broker).await.len()), (Some(0), 40));
}
