//! Consume, transform, produce: nothing is lost or done twice, wherever a step is given up or a group rebalances.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ottla::{
    Assignor, Client, ConsumerBuilder, ErrorCode, ErrorKind, GroupMetadata, IsolationLevel, Offset,
    OwnedRecord, Payload, Pipeline, Step, Transaction, When,
};
use ottla_broker::{Fault, TestBroker};
use ottla_protocol::api::{Api, ApiKey};
use ottla_protocol::messages::APIS;
use tokio::time::sleep;

use crate::scene::*;

const WITHIN: Duration = Duration::from_millis(2);

fn pipeline(client: &Client, id: &str) -> Pipeline {
    pipeline_of(client, id, Duration::from_secs(10))
}

fn pipeline_of(client: &Client, id: &str, session: Duration) -> Pipeline {
    let producer =
        client.producer().linger(Duration::ZERO).transactional_id(id).build_transactional().unwrap();
    Pipeline::new(member(client).session_timeout(session).build().unwrap(), producer).unwrap()
}

/// The settings of a consumer whose offsets are committed by transactions.
fn member(client: &Client) -> ConsumerBuilder {
    client
        .consumer()
        .group("g")
        .subscribe(["in"])
        .isolation_level(IsolationLevel::ReadCommitted)
        .heartbeat_interval(Duration::from_millis(20))
        .fetch_max_wait(Duration::from_millis(20))
        .commit_when(When::Manual)
}

/// Fills both partitions of `in` with the numbers from 0 on.
async fn fill(client: &Client, count: u32) {
    let producer = client.producer().linger(Duration::ZERO).build().unwrap();
    let topic = producer.topic("in");
    for n in 0..count {
        for partition in 0..2 {
            topic.send(to(partition, &format!("{partition}:{n:03}"))).await.unwrap();
        }
    }
}

async fn copy(records: &[OwnedRecord], transaction: &Transaction<'_>) -> Result<usize, ottla::Error> {
    let topic = transaction.topic("t");
    for record in records {
        let payload = Payload {
            partition: Some(record.partition()),
            value: record.value().map(|value| &value[..]),
            ..Payload::default()
        };
        drop(topic.enqueue(payload).await?);
    }
    Ok(records.len())
}

fn is_all_out(broker: &TestBroker, count: u32) -> bool {
    let out: usize = (0..2).map(|p| broker.committed_log("t", p).unwrap().len()).sum();
    out >= 2 * usize::try_from(count).unwrap()
}

/// The output is the input, once and in order, and the offsets are behind it.
async fn check(broker: &TestBroker, count: u32, what: &str) {
    let expected: Vec<String> =
        (0..2).flat_map(|partition| (0..count).map(move |n| format!("{partition}:{n:03}"))).collect();
    assert_eq!(seen(broker).await, expected, "{what}");
    assert_eq!(offset(broker), Some(i64::from(count)), "{what}");
}

/// Polls a future until something is so.
async fn until_polled(future: &mut (impl Future + Unpin), is_so: impl Fn() -> bool) {
    tokio::select! {
        biased;
        _ = future => panic!("it has ended"),
        () = until(is_so) => {}
    }
}

/// Steps until everything is out.
async fn finish(pipeline: &mut Pipeline, broker: &TestBroker, count: u32) {
    while !is_all_out(broker, count) {
        // Somebody else may have the rest.
        let step = pipeline.step(3, WITHIN, async |records, t| copy(records, t).await);
        if let Ok(step) = tokio::time::timeout(Duration::from_millis(100), step).await {
            step.unwrap();
        }
    }
}

/// Fault 97: a step is dropped at each of its polls, and the next one goes on.
#[tokio::test]
async fn a_step_that_is_dropped_at_any_poll_loses_and_doubles_nothing() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        fill(&client, 30).await;
        let mut pipeline = pipeline(&client, "p");
        let (mut polls, mut ready) = (0, 0);
        while ready < 3 {
            let step = pipeline.step(1, WITHIN, async |records, t| copy(records, t).await);
            match in_time("a step", poll_then_drop(polls, step)).await {
                Some(step) => {
                    step.unwrap();
                    ready += 1;
                    polls = 0;
                }
                None => polls += 1,
            }
        }
        in_time("the rest", finish(&mut pipeline, &broker, 30)).await;
        check(&broker, 30, &format!("version {version}")).await;
        pipeline.close(SOON).await.unwrap();
    }
}

/// The same while ends are slow, so that a dropped step leaves its commit on its way.
#[tokio::test]
async fn a_step_that_is_dropped_while_its_commit_is_on_its_way_is_not_done_again() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        fill(&client, 10).await;
        let mut pipeline = pipeline(&client, "p");
        broker.fault(Fault::on(ApiKey::END_TXN).always().delay(Duration::from_millis(5)));
        for _ in 0..6 {
            let before = requests(&broker, ApiKey::END_TXN);
            let step = pipeline.step(1, WITHIN, async |records, t| copy(records, t).await);
            tokio::select! {
                biased;
                step = step => drop(step.unwrap()),
                () = until(|| requests(&broker, ApiKey::END_TXN) > before) => {}
            }
            // The next step, which finds out, is dropped too.
            let step = pipeline.step(1, WITHIN, async |records, t| copy(records, t).await);
            drop(poll_then_drop(2, step).await);
        }
        in_time("the rest", finish(&mut pipeline, &broker, 10)).await;
        check(&broker, 10, &format!("version {version}")).await;
    }
}

/// Fault 31, F32: another member joins after each poll of a step, and the step goes on when the group has rebalanced.
#[tokio::test]
async fn a_rebalance_at_any_await_point_of_a_step_loses_and_doubles_nothing() {
    for version in VERSIONS {
        for polls in 0..10 {
            let (broker, client) = cluster(version).await;
            fill(&client, 8).await;
            let mut first = pipeline(&client, "p1");
            let step = first.step(2, WITHIN, async |records, t| copy(records, t).await);
            in_time("the first step", step).await.unwrap();
            let second = {
                let step = first.step(2, WITHIN, async |records, t| copy(records, t).await);
                let mut step = pin!(step);
                let mut left = polls;
                let early = std::future::poll_fn(|cx| match left {
                    0 => Poll::Ready(None),
                    _ => {
                        left -= 1;
                        match step.as_mut().poll(cx) {
                            Poll::Pending if left == 0 => Poll::Ready(None),
                            poll => poll.map(Some),
                        }
                    }
                });
                let early = in_time("the polls", early).await;
                let generation = broker.group("g").unwrap().generation;
                let second = pipeline(&client, "p2");
                let moved = || broker.group("g").is_some_and(|group| group.generation > generation);
                if early.is_none() {
                    // The step may have to go on before the group can.
                    let patience = until(moved);
                    drop(tokio::time::timeout(Duration::from_millis(60), patience).await);
                    in_time("the step", step).await.unwrap();
                }
                second
            };
            let mut second = second;
            let both = async {
                tokio::join!(finish(&mut first, &broker, 8), finish(&mut second, &broker, 8));
            };
            in_time("the rest", both).await;
            check(&broker, 8, &format!("version {version}, {polls} polls")).await;
        }
    }
}

/// Fault 31: the member is out of date, or its coordinator says so; the transaction is aborted, and the records come again.
#[tokio::test]
async fn offsets_of_a_member_that_is_out_of_date_abort_and_rewind() {
    for version in VERSIONS {
        for code in [
            ErrorCode::ILLEGAL_GENERATION,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::REBALANCE_IN_PROGRESS,
            ErrorCode::FENCED_INSTANCE_ID,
            ErrorCode::STALE_MEMBER_EPOCH,
        ] {
            let (broker, client) = cluster(version).await;
            fill(&client, 4).await;
            let mut pipeline = pipeline(&client, "p");
            broker.fault(Fault::on(ApiKey::TXN_OFFSET_COMMIT).fail(code));
            let step = pipeline.step(2, WITHIN, async |records, t| copy(records, t).await);
            let step = in_time("a step", step).await.unwrap().unwrap();
            let Step::Repeated(reason) = step else { panic!("{code}: it was committed") };
            assert!(matches!(reason.kind(), ErrorKind::Superseded | ErrorKind::Aborted), "{code}: {reason}");
            in_time("the rest", finish(&mut pipeline, &broker, 4)).await;
            check(&broker, 4, &format!("version {version}, {code}")).await;
        }
    }
}

/// Faults 22, 29 and 30 in a pipeline: the records come again, or not, as their transaction ended.
#[tokio::test]
async fn a_step_that_fails_is_worked_on_again_and_one_that_is_unknown_is_found_out() {
    for version in VERSIONS {
        for (api, code) in [
            (ApiKey::PRODUCE, ErrorCode::INVALID_RECORD),
            (ApiKey::PRODUCE, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            (ApiKey::TXN_OFFSET_COMMIT, ErrorCode::UNKNOWN_SERVER_ERROR),
            (ApiKey::END_TXN, ErrorCode::UNKNOWN_SERVER_ERROR),
        ] {
            let (broker, client) = cluster(version).await;
            fill(&client, 4).await;
            let mut pipeline = pipeline(&client, "p");
            broker.fault(Fault::on(api).skip(1).fail(code));
            let mut all_well = false;
            while !is_all_out(&broker, 4) || !all_well {
                let step = pipeline.step(2, WITHIN, async |records, t| copy(records, t).await);
                match tokio::time::timeout(Duration::from_millis(300), step).await {
                    // What the coordinators say of the pipeline itself is told.
                    Ok(Err(error)) => assert!(api != ApiKey::PRODUCE, "{code}: {error}"),
                    // Or nothing is left to read.
                    Ok(Ok(_)) | Err(_) => all_well = true,
                }
            }
            check(&broker, 4, &format!("version {version}, {api:?}, {code}")).await;
        }
    }
}

/// The transaction's coordinator does not answer; the group is left all the same, so that others go on at once.
#[tokio::test]
async fn a_pipeline_that_cannot_end_its_transaction_leaves_its_group_in_time() {
    let (broker, client) = cluster(2).await;
    fill(&client, 2).await;
    let mut pipeline = pipeline(&client, "p");
    let monitor = pipeline.monitor();
    let step = pipeline.step(1, WITHIN, async |records, t| copy(records, t).await);
    in_time("a step", step).await.unwrap();
    assert_eq!(monitor.metrics().records_written, 1);
    broker.fault(Fault::on(ApiKey::END_TXN).always().swallow());
    {
        // It is given up while its records are on their way.
        let step = pipeline.step(1, WITHIN, async |records, t| {
            copy(records, t).await?;
            std::future::pending::<Result<(), ottla::Error>>().await
        });
        let mut step = pin!(step);
        until_polled(&mut step, || monitor.metrics().records_written == 2).await;
    }
    pipeline.close(Duration::from_secs(2)).await.unwrap();
    assert!(broker.group("g").is_none_or(|group| group.members.is_empty()));
    assert!(monitor.next_event().await.is_err(), "the producer is closed");
}

/// KIP-447: a broker that cannot fence a member would let its successor's work be done twice.
#[tokio::test]
async fn a_broker_that_cannot_fence_a_member_is_refused_by_name() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        fill(&client, 1).await;
        let cap = |api: &Api| if api.key == ApiKey::TXN_OFFSET_COMMIT { 2 } else { api.max };
        broker.limit_versions(APIS.iter().map(|api| (api.key, (api.min, cap(api)))).collect());
        let mut pipeline = pipeline(&client, "p");
        let step = pipeline.step(1, WITHIN, async |records, t| copy(records, t).await);
        let error = in_time("a step", step).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fatal, "{error}");
        assert!(error.to_string().contains("KIP-447"), "{error}");
        assert_eq!(offset(&broker), None);
    }
}

/// Fault 32: the abort rewinds while another partition's first offset is still looked for, and while leaders move.
#[tokio::test]
async fn an_abort_during_a_look_for_offsets_goes_back_to_what_is_committed() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        fill(&client, 6).await;
        // Each partition has a leader of its own, so one of them is known long before the other.
        let slow = broker.leader("in", 1).unwrap().node.unwrap();
        let late = Duration::from_millis(50);
        broker.fault(Fault::on(ApiKey::LIST_OFFSETS).node(slow).delay(late));
        let mut pipeline = pipeline(&client, "p");
        for round in 0..6 {
            let fails = pipeline.step(1, WITHIN, async |records, t| {
                copy(records, t).await?;
                Err::<(), _>(std::io::Error::other("given up").into())
            });
            let failed: Result<_, Box<dyn std::error::Error>> = in_time("a step that fails", fails).await;
            assert_eq!(failed.unwrap_err().to_string(), "given up");
            let partition = round % 2;
            let to = 1 + (broker.leader("in", partition).unwrap().node.unwrap() + round) % 3;
            broker.move_leader("in", partition, to).unwrap();
            if round == 3 {
                sleep(2 * late).await;
            }
            let step = pipeline.step(1, WITHIN, async |records, t| copy(records, t).await);
            in_time("a step", step).await.unwrap();
        }
        in_time("the rest", finish(&mut pipeline, &broker, 6)).await;
        check(&broker, 6, &format!("version {version}")).await;
    }
}

/// Fault 38: a pipeline is gone while its commit is on its way; its successor goes on behind it, or does it again.
#[tokio::test]
async fn a_pipeline_that_takes_over_from_a_dead_one_loses_and_doubles_nothing() {
    for version in VERSIONS {
        for took_effect in [false, true] {
            let (broker, client) = cluster(version).await;
            fill(&client, 4).await;
            let mut dying = pipeline_of(&client, "p", Duration::from_millis(500));
            let fault = Fault::on(ApiKey::END_TXN).skip(1);
            let fault = broker.fault(if took_effect { fault.swallow_answer() } else { fault.swallow() });
            let steps = async {
                loop {
                    dying.step(1, WITHIN, async |records, t| copy(records, t).await).await.unwrap();
                }
            };
            tokio::select! {
                biased;
                () = steps => {}
                () = until_fired(&broker, fault) => {}
            }
            drop(dying);
            let mut successor = pipeline(&client, "p");
            in_time("the rest", finish(&mut successor, &broker, 4)).await;
            check(&broker, 4, &format!("version {version}")).await;
        }
    }
}

/// Fault 31, KIP-447: by hand, as a pipeline does it. A member that has lost its partitions commits nothing for them.
#[tokio::test]
async fn offsets_of_a_zombie_are_refused() {
    for version in VERSIONS {
        let (broker, client) = cluster(version).await;
        fill(&client, 1).await;
        // Which gives up everything when another one comes.
        let eager = || member(&client).assignors([Assignor::Range]).build().unwrap();
        let mut zombie = eager();
        let batch = in_time("records", zombie.recv_batch(10, WITHIN)).await.unwrap().unwrap();
        let before = zombie.group_metadata().unwrap();
        assert_eq!(zombie.control().group_metadata().unwrap(), before);
        let record = batch.records.first().unwrap();
        let next = || {
            [Offset {
                topic: "in",
                partition: record.partition(),
                next: record.offset() + 1,
                leader_epoch: None,
            }]
        };
        let successor = eager();
        let joined =
            || broker.group("g").is_some_and(|group| group.members.len() == 2 && group.state == "Stable");
        until(joined).await;

        // Who it was when it read them is refused, and who it is now does not speak for them.
        let mut producer = producer(&client);
        let transaction = producer.begin().await.unwrap();
        send(&transaction, "twice").await.unwrap();
        let refused = in_time("the offsets", transaction.send_offsets(&before, next())).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Superseded, "version {version}: {refused}");
        let aborted = in_time("the commit", transaction.commit()).await.unwrap_err();
        assert_eq!(aborted.kind(), ErrorKind::Aborted, "version {version}: {aborted}");
        let lost = zombie.group_metadata().unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Superseded, "version {version}: {lost}");
        assert_eq!(offset(&broker), None, "version {version}");
        drop(successor);
    }
}

#[tokio::test]
async fn a_consumer_without_a_group_is_no_member() {
    let (_broker, client) = cluster(2).await;
    let alone = client.consumer().assign([("in", 0)]).build().unwrap();
    assert_eq!(alone.group_metadata().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let named = client.consumer().group("g").assign([("in", 0)]).build().unwrap();
    assert_eq!(named.group_metadata().unwrap(), GroupMetadata::of_no_member("g"));
    // Nobody has answered yet.
    assert_eq!(member(&client).build().unwrap().group_metadata().unwrap_err().kind(), ErrorKind::Superseded);
}
