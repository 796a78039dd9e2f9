//! Fault 97: every call is dropped after so many polls, until it is ready before that. What it asked for is then done or not,
//! the same handle goes on, and the call itself works the next time.

use super::polls::poll_then_drop;
use super::*;
use crate::producer::Payload;
use crate::{IsolationLevel, OffsetReset, OffsetSpec};

/// More than any of these calls takes.
const POLLS_MAX: usize = 200;

/// A topic with three records in its first partition, and a group that has committed the second of them.
async fn cluster() -> (Cluster, Admin) {
    let cluster = Cluster::new(2);
    cluster.with_topic("t", 2).await;
    let producer = cluster.client("node-1:9092").producer().build().unwrap();
    for _ in 0..3 {
        let record = Payload { partition: Some(0), timestamp: Some(1_000), ..Payload::value(b"v") };
        producer.topic("t").send(record).await.unwrap();
    }
    producer.close(SECOND).await;
    let admin = cluster.admin();
    admin.alter_offsets("g", [("t", 0, 1)]).await.all().unwrap();
    (cluster, admin)
}

/// A call that changes nothing says the same whenever it is asked.
async fn check_question(what: &str, question: impl AsyncFn() -> String) {
    let whole = question().await;
    for polls in 0..POLLS_MAX {
        match poll_then_drop(polls, question()).await {
            Some(answer) => {
                assert_eq!(answer, whole, "{what}");
                assert!(polls > 1, "{what} never waits: nothing was dropped");
                return;
            }
            None => assert_eq!(question().await, whole, "{what} after one that was dropped at poll {polls}"),
        }
    }
    panic!("{what} is never ready");
}

macro_rules! check_questions {
    ($($call:expr;)*) => { $(
        check_question(stringify!($call), async || format!("{:?}", $call.await)).await;
    )* };
}

#[tokio::test(start_paused = true)]
async fn fault_97_questions_that_are_dropped_at_any_poll_are_answered_the_next_time() {
    let (_cluster, admin) = cluster().await;
    let committed = IsolationLevel::ReadCommitted;
    check_questions! {
        admin.describe_cluster();
        admin.list_topics();
        admin.list_groups();
        admin.committed_offsets("g");
        admin.describe_topics(["t", "u"]);
        admin.wait_for_topics(["t"]);
        admin.describe_groups(["g"]);
        admin.validate_topics([NewTopic::new("u")]);
        admin.list_offsets([("t", 0), ("t", 1)], OffsetSpec::Latest, committed);
        admin.list_offsets([("t", 0)], OffsetSpec::Timestamp(500), committed);
    }
}

/// A call that changes something: after it was dropped all of the change is there or nothing, and once it is ready all.
async fn check_change(
    what: &str,
    prepare: impl AsyncFn(usize),
    change: impl AsyncFn(usize) -> Result<(), Error>,
    state: impl AsyncFn(usize) -> String,
) {
    let mut seen = BTreeSet::new();
    for polls in 0..POLLS_MAX {
        prepare(polls).await;
        let before = state(polls).await;
        let done = poll_then_drop(polls, change(polls)).await;
        // What was sent may still take effect.
        tokio::time::sleep(SECOND).await;
        let dropped = state(polls).await;
        // Whatever says that there is nothing to do any more is right.
        let again = change(polls).await;
        let after = state(polls).await;
        assert_ne!(before, after, "{what} changes nothing");
        assert!(dropped == before || dropped == after, "{what} at poll {polls}: {dropped}");
        if dropped == before {
            again
                .unwrap_or_else(|error| panic!("{what} after one that was dropped at poll {polls}: {error}"));
        }
        seen.insert(dropped == after);
        if let Some(done) = done {
            done.unwrap();
            assert_eq!(dropped, after, "{what} is done");
            assert_eq!(seen.len(), 2, "{what} was never dropped before it had an effect");
            return;
        }
    }
    panic!("{what} is never ready");
}

#[tokio::test(start_paused = true)]
async fn fault_97_changes_that_are_dropped_at_any_poll_are_done_or_not() {
    let (_cluster, admin) = cluster().await;
    let admin = &admin;
    let nothing = async |_: usize| {};
    let topic = async |number: usize| {
        let described = admin.describe_topics([format!("c{number}")]).await.all();
        format!("{:?}", described.map(|found| found.values().next().map(|it| it.partitions.len())).is_ok())
    };
    let new = |number: usize| [NewTopic::new(format!("c{number}")).partitions(2)];
    let create = async |number: usize| admin.create_topics(new(number)).await.all().map(drop);
    check_change("create_topics", nothing, create, topic).await;
    let make = async |number: usize| drop(admin.create_topics(new(number)).await);
    let delete = async |number: usize| admin.delete_topics([format!("c{number}")]).await.all().map(drop);
    check_change("delete_topics", make, delete, topic).await;

    let committed = async |_: usize| format!("{:?}", admin.committed_offsets("g").await.unwrap());
    let rewind = async |_: usize| drop(admin.alter_offsets("g", [("t", 0, 1)]).await.all().unwrap());
    let alter = async |_: usize| admin.alter_offsets("g", [("t", 0, 2)]).await.all().map(drop);
    check_change("alter_offsets", rewind, alter, committed).await;
    let reset =
        async |_: usize| admin.reset_offsets("g", [("t", 0)], OffsetReset::Latest).await.all().map(drop);
    check_change("reset_offsets", rewind, reset, committed).await;
}

/// It cannot be undone, so each poll has a cluster of its own.
#[tokio::test(start_paused = true)]
async fn fault_97_a_deletion_of_records_that_is_dropped_at_any_poll_is_done_or_not() {
    for polls in 0..POLLS_MAX {
        let (_cluster, admin) = cluster().await;
        let delete = async || admin.delete_records([("t", 0, Some(2))]).await.all().unwrap();
        let done = poll_then_drop(polls, delete()).await;
        tokio::time::sleep(SECOND).await;
        let listed =
            admin.list_offsets([("t", 0)], OffsetSpec::Earliest, IsolationLevel::ReadCommitted).await;
        let first = listed.all().unwrap()[&("t".to_owned(), 0)].offset;
        assert!(first == Some(2) || (done.is_none() && first == Some(0)), "{polls} polls: {first:?}");
        assert_eq!(delete().await[&("t".to_owned(), 0)], 2);
        if done.is_some() {
            return;
        }
    }
    panic!("it is never ready");
}
