//! Offsets of partitions and of groups, in every version that has a form of its own.
//! Records and commits are made by others than the admin client.

use ottla_broker::Fault;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{OffsetCommitPartition, OffsetCommitRequest, OffsetCommitTopic};
use ottla_protocol::wire::{Str, Uuid};

use super::*;
use crate::producer::Payload;
use crate::{IsolationLevel, OffsetReset, OffsetSpec};

/// A topic of two partitions: three records at 1000, 3000 and 2000 ms in the first, none in the second.
async fn cluster() -> Cluster {
    let cluster = Cluster::new(3);
    cluster.with_topic("t", 2).await;
    let producer = cluster.client("node-1:9092").producer().build().unwrap();
    for ms in [1_000, 3_000, 2_000] {
        let record = Payload { partition: Some(0), timestamp: Some(ms), ..Payload::value(b"v") };
        producer.topic("t").send(record).await.unwrap();
    }
    producer.close(SECOND).await;
    cluster
}

async fn check(
    cluster: &Cluster,
    partition: i32,
    spec: OffsetSpec,
    offset: Option<i64>,
    timestamp: Option<i64>,
) {
    let listed = cluster.admin().list_offsets([("t", partition)], spec, IsolationLevel::ReadCommitted).await;
    let found = listed.all().unwrap()[&("t".to_owned(), partition)];
    assert_eq!((found.offset, found.timestamp), (offset, timestamp), "{spec:?} in partition {partition}");
}

#[tokio::test(start_paused = true)]
async fn offsets_are_found_by_place_and_by_time() {
    let cluster = cluster().await;
    check(&cluster, 0, OffsetSpec::Earliest, Some(0), None).await;
    check(&cluster, 0, OffsetSpec::Latest, Some(3), None).await;
    check(&cluster, 0, OffsetSpec::Timestamp(0), Some(0), Some(1_000)).await;
    check(&cluster, 0, OffsetSpec::Timestamp(1_001), Some(1), Some(3_000)).await;
    check(&cluster, 0, OffsetSpec::Timestamp(3_001), None, None).await;
    check(&cluster, 0, OffsetSpec::MaxTimestamp, Some(1), Some(3_000)).await;
    check(&cluster, 1, OffsetSpec::Earliest, Some(0), None).await;
    check(&cluster, 1, OffsetSpec::Latest, Some(0), None).await;
    check(&cluster, 1, OffsetSpec::MaxTimestamp, None, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_does_not_exist_fails_alone_and_at_once() {
    let cluster = cluster().await;
    let (admin, start) = (cluster.admin(), Instant::now());
    let asked = [("t", 0), ("t", 2), ("u", 0), ("t", 1), ("t", 0)];
    let listed = admin.list_offsets(asked, OffsetSpec::Latest, IsolationLevel::ReadUncommitted).await;
    let outcomes: Vec<_> = listed
        .into_iter()
        .map(|((topic, partition), result)| {
            (topic, partition, result.map(|l| l.offset).map_err(|e| e.kind()))
        })
        .collect();
    let expected = [
        ("t".to_owned(), 0, Ok(Some(3))),
        ("t".to_owned(), 1, Ok(Some(0))),
        ("t".to_owned(), 2, Err(ErrorKind::UnknownTopic)),
        ("u".to_owned(), 0, Err(ErrorKind::UnknownTopic)),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_has_moved_is_looked_for_again() {
    let cluster = cluster().await;
    for code in [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ] {
        let fault = Fault::on(ApiKey::LIST_OFFSETS).topic("t").partition(0).times(2).fail(code);
        let fault = cluster.broker.fault(fault);
        check(&cluster, 0, OffsetSpec::Latest, Some(3), None).await;
        assert_eq!(cluster.broker.fired(fault), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_be_reached_fails_its_partitions_and_no_others() {
    let cluster = cluster().await;
    let (zero, one) = (cluster.broker.leader("t", 0).unwrap(), cluster.broker.leader("t", 1).unwrap());
    assert_ne!(zero, one, "the scenario needs two leaders");
    cluster.broker.fault(Fault::on(ApiKey::LIST_OFFSETS).node(zero.node.unwrap()).always().swallow());
    let (admin, start) = (cluster.admin().with_deadline(5 * SECOND), Instant::now());
    let listed =
        admin.list_offsets([("t", 0), ("t", 1)], OffsetSpec::Latest, IsolationLevel::ReadCommitted).await;
    let results: Vec<_> = listed.into_iter().map(|(_, result)| result).collect();
    assert_eq!(results[1].as_ref().unwrap().offset, Some(0));
    check_error(results[0].clone(), ErrorKind::Timeout, &["not done within 5s", "ListOffsets"]);
    assert!(start.elapsed() <= 5 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_special_time_is_never_sent_to_a_broker_that_would_look_it_up() {
    let cluster = cluster().await;
    cluster.cap(ApiKey::LIST_OFFSETS, 6);
    let isolation = IsolationLevel::ReadUncommitted;
    let listed = cluster.admin().list_offsets([("t", 0)], OffsetSpec::MaxTimestamp, isolation).await;
    check_error(listed.all(), ErrorKind::UnsupportedVersion, &["too old", "MaxTimestamp"]);
    let listed = cluster.admin().list_offsets([("t", 0)], OffsetSpec::Timestamp(-2), isolation).await;
    check_error(listed.all(), ErrorKind::InvalidArgument, &["topic t, partition 0", "-2"]);
    check(&cluster, 0, OffsetSpec::Latest, Some(3), None).await;
}

async fn commit(cluster: &Cluster, offsets: &[(i32, i64)]) {
    let partition = |(partition_index, committed_offset): &(i32, i64)| OffsetCommitPartition {
        partition_index: *partition_index,
        committed_offset: *committed_offset,
        committed_metadata: Some(Str::from("by hand")),
        ..Default::default()
    };
    let topic = OffsetCommitTopic {
        name: Str::from("t"),
        topic_id: cluster.broker.topic_id("t").unwrap_or(Uuid::ZERO),
        partitions: offsets.iter().map(partition).collect(),
    };
    let request = OffsetCommitRequest {
        group_id: Str::from("g"),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    let answer = cluster.ask(cluster.broker.coordinator("g").unwrap(), request).await;
    assert!(answer.topics[0].partitions.iter().all(|p| p.error_code.is_ok()), "{answer:?}");
}

async fn check_committed(cluster: &Cluster, expected: &[(i32, i64)]) {
    let committed = cluster.admin().committed_offsets("g").await.unwrap();
    let found: Vec<_> =
        committed.iter().map(|((topic, index), c)| (topic.as_str(), *index, c.offset)).collect();
    let expected: Vec<_> = expected.iter().map(|(index, offset)| ("t", *index, *offset)).collect();
    assert_eq!(found, expected);
    assert!(committed.values().all(|committed| committed.metadata == "by hand"));
}

#[tokio::test(start_paused = true)]
async fn committed_offsets_come_from_every_version() {
    let cluster = cluster().await;
    check_committed(&cluster, &[]).await;
    commit(&cluster, &[(0, 2), (1, 0)]).await;
    for version in (2..=10).rev() {
        cluster.cap(ApiKey::OFFSET_FETCH, version);
        check_committed(&cluster, &[(0, 2), (1, 0)]).await;
    }
    cluster.age();
    check_committed(&cluster, &[(0, 2), (1, 0)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moves_or_loads_is_waited_for() {
    let cluster = cluster().await;
    commit(&cluster, &[(0, 3)]).await;
    for (key, code) in [
        (ApiKey::FIND_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        (ApiKey::OFFSET_FETCH, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey::OFFSET_FETCH, ErrorCode::NOT_COORDINATOR),
    ] {
        for version in [10, 3] {
            cluster.cap(key, version);
            let fault = cluster.broker.fault(Fault::on(key).times(3).fail(code));
            check_committed(&cluster, &[(0, 3)]).await;
            assert_eq!(cluster.broker.fired(fault), 3);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_one_partition_is_no_missing_offset() {
    let cluster = cluster().await;
    commit(&cluster, &[(0, 3), (1, 0)]).await;
    cluster.broker.fault(Fault::on(ApiKey::OFFSET_FETCH).rewrite(|answer| {
        if let ottla_broker::Answer::OffsetFetch(offsets) = answer {
            let partition = &mut offsets.groups[0].topics[0].partitions[1];
            (partition.committed_offset, partition.error_code) = (-1, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        }
    }));
    let committed = cluster.admin().committed_offsets("g").await;
    check_error(committed, ErrorKind::Authorization, &["group g, topic t, partition 1"]);
}

#[tokio::test(start_paused = true)]
async fn records_are_deleted_up_to_an_offset() {
    let cluster = cluster().await;
    let fault = Fault::on(ApiKey::DELETE_RECORDS).topic("t").partition(0).times(2);
    let fault = cluster.broker.fault(fault.fail(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    let starts = cluster.admin().delete_records([("t", 0, Some(2)), ("t", 1, None)]).await.all().unwrap();
    assert_eq!(starts.into_values().collect::<Vec<_>>(), [2, 0]);
    assert_eq!(cluster.broker.fired(fault), 2);
    check(&cluster, 0, OffsetSpec::Earliest, Some(2), None).await;
    let asked = [("t", 0, Some(4)), ("t", 1, Some(-1)), ("t", 2, None), ("u", 0, None)];
    let kinds: Vec<_> =
        cluster.admin().delete_records(asked).await.into_iter().map(|(_, r)| r.unwrap_err().kind()).collect();
    let unknown = ErrorKind::UnknownTopic;
    assert_eq!(kinds, [ErrorKind::OffsetOutOfRange, ErrorKind::InvalidArgument, unknown, unknown]);
    let starts = cluster.admin().delete_records([("t", 0, None)]).await.all().unwrap();
    assert_eq!(starts.into_values().collect::<Vec<_>>(), [3]);
}

async fn check_reset(cluster: &Cluster, to: OffsetReset, expected: [i64; 2]) {
    let reset = cluster.admin().reset_offsets("g", [("t", 0), ("t", 1), ("t", 0)], to).await;
    let found: Vec<_> = reset.all().unwrap().into_values().collect();
    assert_eq!(found, expected, "{to:?}");
    let committed = cluster.admin().committed_offsets("g").await.unwrap();
    assert_eq!(committed.values().map(|c| c.offset).collect::<Vec<_>>(), expected, "{to:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_without_members_is_led_to_other_offsets() {
    let cluster = cluster().await;
    for version in [10, 9, 2] {
        cluster.cap(ApiKey::OFFSET_COMMIT, version);
        check_reset(&cluster, OffsetReset::To(2), [2, 0]).await;
        check_reset(&cluster, OffsetReset::Shift(-1), [1, 0]).await;
        check_reset(&cluster, OffsetReset::Shift(9), [3, 0]).await;
        check_reset(&cluster, OffsetReset::Earliest, [0, 0]).await;
        check_reset(&cluster, OffsetReset::Timestamp(2_000), [1, 0]).await;
        check_reset(&cluster, OffsetReset::Timestamp(9_000), [3, 0]).await;
        check_reset(&cluster, OffsetReset::Latest, [3, 0]).await;
    }
    let shifted = cluster.admin().reset_offsets("new", [("t", 0)], OffsetReset::Shift(1)).await;
    check_error(
        shifted.all(),
        ErrorKind::InvalidArgument,
        &["group new", "committed nothing", "topic t, partition 0"],
    );
    let asked = [("t", 0, 1), ("t", 1, -1), ("t", 2, 0), ("u", 0, 0)];
    let outcomes: Vec<_> = cluster
        .admin()
        .alter_offsets("g", asked)
        .await
        .into_iter()
        .map(|(_, r)| r.map_err(|e| e.kind()))
        .collect();
    let unknown = Err(ErrorKind::UnknownTopic);
    assert_eq!(outcomes, [Ok(()), Err(ErrorKind::InvalidArgument), unknown, unknown]);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_not_moved_under_its_members() {
    let cluster = cluster().await;
    let consumer = cluster.client("node-1:9092").consumer().group("g").subscribe(["t"]);
    let mut consumer = consumer.build().unwrap();
    consumer.recv().await.unwrap().unwrap();
    let altered = cluster.admin().alter_offsets("g", [("t", 0, 1)]).await;
    check_error(altered.all(), ErrorKind::Superseded, &["the group has members"]);
    consumer.close(10 * SECOND).await.unwrap();
    cluster.admin().alter_offsets("g", [("t", 0, 1)]).await.all().unwrap();
}
