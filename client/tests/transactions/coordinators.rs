//! Coordinators that move, load, are busy, silent or say no, during each of the calls of a transaction.

use std::time::Duration;

use ottla::{ErrorCode, ErrorKind, Outcome, TransactionalProducer};
use ottla_broker::{Answer, Fault, TestBroker};
use ottla_protocol::api::ApiKey;
use tokio::time::sleep;

use crate::scene::*;

/// The calls of a transaction under each version.
fn calls(version: i16) -> Vec<ApiKey> {
    let mut calls = vec![
        ApiKey::FIND_COORDINATOR,
        ApiKey::INIT_PRODUCER_ID,
        ApiKey::PRODUCE,
        ApiKey::TXN_OFFSET_COMMIT,
        ApiKey::END_TXN,
    ];
    if version == 1 {
        calls.extend([ApiKey::ADD_PARTITIONS_TO_TXN, ApiKey::ADD_OFFSETS_TO_TXN]);
    }
    calls
}

/// One transaction with records of two partitions and an offset, and another one behind it.
async fn two_transactions(producer: &mut TransactionalProducer) -> Result<(), ottla::Error> {
    for (n, value) in (1..).zip(["a", "b"]) {
        let transaction = producer.begin().await?;
        send_to(&transaction, 0, value).await?;
        send_to(&transaction, 1, value).await?;
        send_offset(&transaction, n).await?;
        transaction.commit().await?;
    }
    Ok(())
}

async fn check_both_are_seen(broker: &TestBroker, what: &str) {
    assert_eq!(seen(broker).await, ["a", "b", "a", "b"], "{what}");
    assert_eq!(offset(broker), Some(2), "{what}");
}

/// Faults 25 and 28: whatever a coordinator says once, of each call, in the first and in the second transaction.
#[tokio::test]
async fn a_coordinator_that_moves_loads_or_is_busy_delays_each_call_and_no_more() {
    for version in VERSIONS {
        for api in calls(version) {
            for code in [
                ErrorCode::NOT_COORDINATOR,
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode::CONCURRENT_TRANSACTIONS,
            ] {
                let (broker, client) = cluster(version).await;
                let mut producer = producer(&client);
                let first = broker.fault(Fault::on(api).times(2).fail(code));
                broker.fault(Fault::on(api).skip(3).times(2).fail(code));
                let what = format!("version {version}, {api:?}: {code}");
                let run = in_time(&what, two_transactions(&mut producer)).await;
                run.unwrap_or_else(|error| panic!("{what}: {error}"));
                check_both_are_seen(&broker, &what).await;
                assert!(broker.fired(first) > 0, "{what} was not tried");
            }
        }
    }
}

/// Fault 28: the connection is lost before, after and long before the call takes effect.
#[tokio::test]
async fn a_connection_that_is_lost_during_each_call_delays_it_and_no_more() {
    let late = Duration::from_millis(30);
    let faults: [fn(Fault) -> Fault; 3] =
        [Fault::cut, Fault::cut_answer, |fault| fault.late(Duration::from_millis(30))];
    for version in VERSIONS {
        for api in calls(version) {
            for (number, fault) in faults.iter().enumerate() {
                // A question for an identity that arrives late fences whom the next one has named: the coordinator cannot
                // tell it from a newer producer.
                if number == 2 && api == ApiKey::INIT_PRODUCER_ID {
                    continue;
                }
                for skip in 0..3 {
                    let (broker, client) = cluster(version).await;
                    let mut producer = producer(&client);
                    broker.fault(fault(Fault::on(api).skip(skip)));
                    let what = format!("version {version}, {api:?}, fault {number} at call {skip}");
                    let run = in_time(&what, two_transactions(&mut producer)).await;
                    run.unwrap_or_else(|error| panic!("{what}: {error}"));
                    if number == 2 {
                        sleep(2 * late).await;
                    }
                    check_both_are_seen(&broker, &what).await;
                }
            }
        }
    }
}

/// Fault 28, with real moves: the coordinators of the transaction and of the group are others before each call.
#[tokio::test]
async fn coordinators_that_move_between_the_calls_of_a_transaction_are_found_again() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        let mut to = 0;
        let mut move_both = || {
            to = 1 + to % 3;
            broker.move_transaction_coordinator(ID, to).unwrap();
            broker.move_coordinator("g", 1 + to % 3).unwrap();
        };
        for (n, value) in (1..).zip(["a", "b"]) {
            move_both();
            let transaction = producer.begin().await.unwrap();
            move_both();
            send_to(&transaction, 0, value).await.unwrap();
            move_both();
            send_to(&transaction, 1, value).await.unwrap();
            move_both();
            send_offset(&transaction, n).await.unwrap();
            move_both();
            transaction.commit().await.unwrap();
        }
        check_both_are_seen(&broker, "moved before each call").await;
    }
}

/// Fault 25: the markers of one transaction are late, and the next one is given up before anything of it got through.
#[tokio::test]
async fn giving_up_while_the_transaction_before_is_completed_does_not_end_the_producer() {
    for version in VERSIONS {
        for drop_it in [false, true] {
            let (broker, client) = cluster(version).await;
            let mut producer = producer(&client);
            broker.fault(Fault::on(ApiKey::WRITE_TXN_MARKERS).delay(Duration::from_millis(200)));
            write(&mut producer, "a").await.unwrap();
            let before =
                requests(&broker, ApiKey::PRODUCE) + requests(&broker, ApiKey::ADD_PARTITIONS_TO_TXN);
            let given_up = producer.begin().await.unwrap();
            drop(given_up.topic("t").enqueue(to(0, "b")).await.unwrap());
            let asked =
                || requests(&broker, ApiKey::PRODUCE) + requests(&broker, ApiKey::ADD_PARTITIONS_TO_TXN);
            until(|| asked() > before).await;
            match drop_it {
                true => drop(given_up),
                false => given_up.abort().await.unwrap(),
            }
            in_time("the next transaction", write(&mut producer, "c")).await.unwrap();
            assert_eq!(seen(&broker).await, ["a", "c"], "version {version}");
        }
    }
}

/// Fault 25 in an abort: a record that waits for its next attempt has used up a number.
#[tokio::test]
async fn a_record_given_up_between_two_attempts_leaves_no_gap_for_the_next_transaction() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let mut producer = producer(&client);
        write(&mut producer, "a").await.unwrap();
        let given_up = producer.begin().await.unwrap();
        send(&given_up, "b").await.unwrap();
        let fault = broker.fault(Fault::on(ApiKey::PRODUCE).always().fail(ErrorCode::NOT_ENOUGH_REPLICAS));
        let delivery = given_up.topic("t").enqueue(to(0, "c")).await.unwrap();
        until(|| broker.fired(fault) > 2).await;
        given_up.abort().await.unwrap();
        assert_eq!(delivery.await.unwrap_err().outcome(), Some(Outcome::NotWritten));
        broker.heal();
        write(&mut producer, "d").await.unwrap();
        assert_eq!(seen(&broker).await, ["a", "d"], "version {version}");
    }
}

/// Fault 37: nothing is written before the coordinator knows where.
#[tokio::test]
async fn nothing_is_written_before_its_place_is_registered() {
    let (broker, client) = cluster(1).await;
    let mut producer = producer(&client);
    let silence = Duration::from_millis(100);
    let transaction = producer.begin().await.unwrap();
    for partition in 0..2 {
        let before = requests(&broker, ApiKey::PRODUCE);
        let held = broker.fault(Fault::on(ApiKey::ADD_PARTITIONS_TO_TXN).delay_answer(silence));
        let delivery = transaction.topic("t").enqueue(to(partition, "a")).await.unwrap();
        until_fired(&broker, held).await;
        sleep(silence / 2).await;
        assert_eq!(requests(&broker, ApiKey::PRODUCE), before, "written before it was registered");
        delivery.await.unwrap();
    }
    let held = broker.fault(Fault::on(ApiKey::ADD_OFFSETS_TO_TXN).delay_answer(silence));
    let offsets = async {
        until_fired(&broker, held).await;
        sleep(silence / 2).await;
        assert_eq!(requests(&broker, ApiKey::TXN_OFFSET_COMMIT), 0, "sent before the group was registered");
    };
    let (sent, ()) = tokio::join!(send_offset(&transaction, 1), offsets);
    sent.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(seen(&broker).await, ["a", "a"]);
}

/// One partition of a request is not known for a while; the others, which were not tried, are not at fault.
#[tokio::test]
async fn a_partition_that_is_unknown_for_a_while_does_not_abort_for_those_that_were_not_tried() {
    let (broker, client) = cluster(1).await;
    let mut producer = producer(&client);
    let transaction = producer.begin().await.unwrap();
    let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    // Both partitions go in one request, because the first look for them is late.
    let unknown = Fault::on(ApiKey::ADD_PARTITIONS_TO_TXN).topic("t").partition(1).fail(code);
    broker.fault(unknown);
    let topic = transaction.topic("t");
    let one = topic.enqueue(to(0, "a")).await.unwrap();
    let two = topic.enqueue(to(1, "b")).await.unwrap();
    one.await.unwrap();
    two.await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(seen(&broker).await, ["a", "b"]);
}

/// F34, P5: no call outlives its deadline when a coordinator says nothing, and what it says of the outcome is true.
#[tokio::test]
async fn each_call_ends_by_its_deadline_when_nobody_answers() {
    for version in VERSIONS {
        for api in calls(version) {
            let (broker, _) = cluster(version).await;
            let millis = Duration::from_millis;
            let client = ottla::Client::builder()
                .bootstrap(broker.bootstrap())
                .request_timeout(millis(100))
                .retry_backoff(millis(5), millis(50))
                .build()
                .unwrap();
            let builder = builder(&client).max_block(millis(150)).delivery_timeout(millis(150));
            let mut producer = builder.build_transactional().unwrap();
            let silent = broker.fault(Fault::on(api).always().swallow());
            let what = format!("version {version}, {api:?}");
            let told = in_time(&what, silence(&mut producer)).await;
            assert!(broker.fired(silent) > 0, "{what} was not asked for");
            broker.remove_fault(silent);
            until_it_writes(&mut producer, "next", &what).await;
            // Nobody has heard of a commit, so none may have been seen at the time; it is asked for again since.
            let expected: &[&str] = if told == ErrorKind::CommitUnknown { &["a", "next"] } else { &["next"] };
            assert_eq!(seen(&broker).await, expected, "{what}");
        }
    }
}

/// A transaction, until a call gives up. Says how.
async fn silence(producer: &mut TransactionalProducer) -> ErrorKind {
    let transaction = match producer.begin().await {
        Ok(transaction) => transaction,
        Err(error) => return error.kind(),
    };
    let sent = send(&transaction, "a").await;
    if let Err(error) = send_offset(&transaction, 1).await {
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Aborted), "{error}");
    }
    let error = transaction.commit().await.unwrap_err();
    let expected = if sent.is_ok() {
        &[ErrorKind::CommitUnknown, ErrorKind::Aborted][..]
    } else {
        &[ErrorKind::Aborted]
    };
    assert!(expected.contains(&error.kind()), "{error}");
    error.kind()
}

/// Writes as soon as a transaction can begin again.
async fn until_it_writes(producer: &mut TransactionalProducer, value: &str, what: &str) {
    let tries = async {
        while let Err(error) = write(producer, value).await {
            let waits =
                matches!(error.kind(), ErrorKind::Timeout | ErrorKind::CommitUnknown | ErrorKind::Aborted);
            assert!(waits, "{what}: {error}");
        }
    };
    in_time(what, tries).await;
}

/// F34: closing does not wait for longer than it is told to.
#[tokio::test]
async fn closing_ends_by_its_deadline_whatever_is_open() {
    for version in VERSIONS {
        for commits in [false, true] {
            let (broker, client) = cluster(version).await;
            let mut producer = producer(&client);
            let transaction = producer.begin().await.unwrap();
            send(&transaction, "a").await.unwrap();
            let silent = broker.fault(Fault::on(ApiKey::END_TXN).always().swallow());
            match commits {
                true => drop(poll_then_drop(1, transaction.commit()).await),
                false => drop(transaction),
            }
            until_fired(&broker, silent).await;
            let report = in_time("close", producer.close(Duration::from_millis(50))).await;
            assert_eq!((report.failed, report.unknown), (0, 0));
        }
    }
}

/// Closing with a transaction that was dropped open, or is being committed, ends it first.
#[tokio::test]
async fn closing_ends_the_transaction_that_is_on_its_way() {
    for version in VERSIONS {
        for commits in [false, true] {
            let (broker, client) = cluster(version).await;
            let mut producer = producer(&client);
            let transaction = producer.begin().await.unwrap();
            send(&transaction, "a").await.unwrap();
            match commits {
                true => drop(poll_then_drop(1, transaction.commit()).await),
                false => drop(transaction),
            }
            producer.close(SOON).await;
            let expected: &[&str] = if commits { &["a"] } else { &[] };
            assert_eq!(seen(&broker).await, expected, "version {version}");
        }
    }
}

/// What is not allowed aborts, or is told at once: nothing waits, and the producer goes on where it can.
#[tokio::test]
async fn what_is_not_allowed_aborts_the_transaction_and_not_the_producer() {
    for version in VERSIONS {
        for (api, code) in [
            (ApiKey::PRODUCE, ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            (ApiKey::ADD_PARTITIONS_TO_TXN, ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            (ApiKey::ADD_OFFSETS_TO_TXN, ErrorCode::GROUP_AUTHORIZATION_FAILED),
            (ApiKey::TXN_OFFSET_COMMIT, ErrorCode::GROUP_AUTHORIZATION_FAILED),
            (ApiKey::TXN_OFFSET_COMMIT, ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            (ApiKey::TXN_OFFSET_COMMIT, ErrorCode::FENCED_INSTANCE_ID),
            (ApiKey::TXN_OFFSET_COMMIT, ErrorCode::ILLEGAL_GENERATION),
            (ApiKey::TXN_OFFSET_COMMIT, ErrorCode::UNKNOWN_MEMBER_ID),
            (ApiKey::TXN_OFFSET_COMMIT, ErrorCode::INVALID_GROUP_ID),
        ] {
            if !calls(version).contains(&api) {
                continue;
            }
            let (broker, client) = cluster(version).await;
            let mut producer = producer(&client);
            let fault = broker.fault(Fault::on(api).fail(code));
            let transaction = producer.begin().await.unwrap();
            let sent = send(&transaction, "a").await;
            let offsets = in_time("offsets", send_offset(&transaction, 1)).await;
            assert!(sent.is_err() || offsets.is_err());
            let error = in_time("commit", transaction.commit()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Aborted, "version {version}, {api:?}, {code}: {error}");
            assert_eq!(broker.fired(fault), 1);
            in_time("the next", write(&mut producer, "b")).await.unwrap();
            assert_eq!((seen(&broker).await, offset(&broker)), (vec!["b".to_owned()], None));
        }
    }
}

/// Who may not use the transactional id hears it from the first begin.
#[tokio::test]
async fn a_transactional_id_that_is_not_ours_is_told_at_once() {
    for api in [ApiKey::FIND_COORDINATOR, ApiKey::INIT_PRODUCER_ID] {
        let (broker, client) = cluster(2).await;
        broker.fault(Fault::on(api).always().fail(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
        let mut producer = producer(&client);
        let error = in_time("begin", producer.begin()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
    }
}

/// A begin that waited in vain has begun nothing, and the next one succeeds.
#[tokio::test]
async fn a_begin_that_ran_out_of_its_time_is_followed_by_one_that_works() {
    let (broker, client) = cluster(2).await;
    broker.fault(Fault::on(ApiKey::FIND_COORDINATOR).always().fail(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    let short = builder(&client).max_block(Duration::from_millis(50));
    let mut producer = short.build_transactional().unwrap();
    let error = producer.begin().await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.is_retriable());
    broker.heal();
    until_it_writes(&mut producer, "a", "after the coordinator is there").await;
    assert_eq!(seen(&broker).await, ["a"]);
}

/// A topic that goes away in the middle of a transaction aborts it; the producer goes on.
#[tokio::test]
async fn a_topic_that_is_deleted_in_the_middle_aborts_the_transaction() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        let fast = ottla::Client::builder()
            .bootstrap(broker.bootstrap())
            .request_timeout(Duration::from_millis(400))
            .retry_backoff(Duration::from_millis(5), Duration::from_millis(50))
            .build()
            .unwrap();
        let builder = builder(&fast).delivery_timeout(Duration::from_millis(500));
        let mut producer = builder.build_transactional().unwrap();
        let transaction = producer.begin().await.unwrap();
        send(&transaction, "a").await.unwrap();
        let gone = transaction.topic("in");
        gone.send(to(0, "b")).await.unwrap();
        client.admin().delete_topics(["in"]).await.all().unwrap();
        let error = in_time("a send to a deleted topic", gone.send(to(0, "c"))).await.unwrap_err();
        assert!(error.outcome().is_some(), "{error}");
        let error = in_time("commit", transaction.commit()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Aborted, "version {version}: {error}");
        in_time("the next", write(&mut producer, "d")).await.unwrap();
        assert_eq!(seen(&broker).await, ["d"], "version {version}");
    }
}

/// An answer to AddPartitionsToTxn that forgets a partition registers nothing of it.
#[tokio::test]
async fn an_answer_that_says_nothing_of_a_partition_does_not_register_it() {
    let (broker, client) = cluster(1).await;
    let mut producer = producer(&client);
    broker.fault(Fault::on(ApiKey::ADD_PARTITIONS_TO_TXN).rewrite(|answer| {
        if let Answer::AddPartitionsToTxn(answer) = answer {
            answer.results_by_topic_v3_and_below.clear();
        }
    }));
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "a").await.unwrap();
    transaction.commit().await.unwrap();
    assert!(requests(&broker, ApiKey::ADD_PARTITIONS_TO_TXN) >= 2, "silence was taken for a yes");
    assert_eq!(seen(&broker).await, ["a"]);
}
