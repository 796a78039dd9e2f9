//! Positions in logs, and positions that groups have committed.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::{Str, Uuid};
use wire::*;

async fn broker() -> Broker {
    let broker = Broker::builder().nodes(2).topic("t", 2).build().unwrap();
    // Timestamps 1000, 1001 and 1002, then 1000 and 1001.
    let mut wire = Wire::connect(&broker, 1);
    append(&mut wire, "t", 0, plain(&["a", "b", "c"])).await;
    append(&mut wire, "t", 0, plain(&["d", "e"])).await;
    broker
}

fn list(topic: &str, partition_index: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition { partition_index, timestamp, ..ListOffsetsPartition::default() };
    let topics = vec![ListOffsetsTopic { name: Str::from(topic), partitions: vec![partition] }];
    ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() }
}

async fn check_listed(wire: &mut Wire, version: i16, timestamp: i64, expected: (i64, i64)) {
    let answer = wire.call(version, list("t", 0, timestamp)).await;
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::NONE, "{timestamp} in v{version}");
    assert_eq!((partition.offset, partition.timestamp), expected, "{timestamp} in v{version}");
}

#[tokio::test(start_paused = true)]
async fn offsets_are_found_by_end_by_time_and_by_the_largest_time() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    for version in 1..=11 {
        check_listed(&mut wire, version, -1, (5, -1)).await;
        check_listed(&mut wire, version, -2, (0, -1)).await;
        check_listed(&mut wire, version, 0, (0, 1000)).await;
        check_listed(&mut wire, version, 1001, (1, 1001)).await;
        check_listed(&mut wire, version, 1003, (-1, -1)).await;
    }
    check_listed(&mut wire, 7, -3, (2, 1002)).await;
    check_listed(&mut wire, 8, -4, (0, -1)).await;
    check_listed(&mut wire, 9, -5, (-1, -1)).await;
    check_listed(&mut wire, 11, -6, (-1, -1)).await;
}

#[tokio::test(start_paused = true)]
async fn of_equal_largest_timestamps_the_first_is_found() {
    let broker = Broker::builder().topic("t", 1).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    for _ in 0..3 {
        append(&mut wire, "t", 0, plain(&["a", "b"])).await;
    }
    check_listed(&mut wire, 7, -3, (1, 1001)).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_listed_says_why() {
    let broker = broker().await;
    broker.move_leader("t", 0, 2).unwrap();
    let mut wire = Wire::connect(&broker, 2);
    let mut fenced = list("t", 0, -1);
    fenced.topics[0].partitions[0].current_leader_epoch = 0;
    for (version, request, expected) in [
        (6, list("t", 0, -3), ErrorCode::UNSUPPORTED_VERSION),
        (7, list("t", 0, -9), ErrorCode::UNSUPPORTED_VERSION),
        (7, list("t", 5, -1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (7, list("no", 0, -1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (7, fenced, ErrorCode::FENCED_LEADER_EPOCH),
    ] {
        let answer = wire.call(version, request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, expected);
    }
    let answer = Wire::connect(&broker, 1).call(7, list("t", 0, -1)).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
}

#[tokio::test(start_paused = true)]
async fn leader_epochs_end_where_the_next_began() {
    let broker = broker().await;
    broker.move_leader("t", 0, 2).unwrap();
    append(&mut Wire::connect(&broker, 2), "t", 0, plain(&["f"])).await;
    let written: Vec<_> = broker.log("t", 0).unwrap().iter().map(|record| record.leader_epoch).collect();
    assert_eq!(written, [0, 0, 0, 0, 0, 1]);
    let mut wire = Wire::connect(&broker, 2);
    for (epoch, expected) in [(0, (0, 5)), (1, (1, 6)), (2, (-1, -1)), (-1, (-1, -1))] {
        for version in 2..=4 {
            let partition =
                OffsetForLeaderPartition { partition: 0, current_leader_epoch: 1, leader_epoch: epoch };
            let topics = vec![OffsetForLeaderTopic { topic: Str::from("t"), partitions: vec![partition] }];
            let request = OffsetForLeaderEpochRequest { topics, ..OffsetForLeaderEpochRequest::default() };
            let answer = wire.call(version, request).await;
            let end = &answer.topics[0].partitions[0];
            assert_eq!((end.leader_epoch, end.end_offset), expected, "epoch {epoch} in v{version}");
        }
    }
}

fn delete(topic: &str, partition_index: i32, offset: i64) -> DeleteRecordsRequest {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
    let topics = vec![DeleteRecordsTopic { name: Str::from(topic), partitions }];
    DeleteRecordsRequest { topics, timeout_ms: 1_000 }
}

async fn check_deleted(wire: &mut Wire, version: i16, offset: i64, expected: Result<i64, ErrorCode>) {
    let answer = wire.call(version, delete("t", 0, offset)).await;
    let partition = &answer.topics[0].partitions[0];
    let found =
        if partition.error_code.is_ok() { Ok(partition.low_watermark) } else { Err(partition.error_code) };
    assert_eq!(found, expected, "before {offset} in v{version}");
}

#[tokio::test(start_paused = true)]
async fn a_log_begins_where_its_records_were_deleted_up_to() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    check_deleted(&mut wire, 0, 1, Ok(1)).await;
    check_deleted(&mut wire, 1, 0, Ok(1)).await;
    check_listed(&mut wire, 7, -2, (1, -1)).await;
    check_listed(&mut wire, 7, 1000, (1, 1001)).await;
    check_listed(&mut wire, 7, -3, (2, 1002)).await;
    let before = wire.call(12, fetch("t", 0, 0)).await;
    assert_eq!(fetched(&before)[0].2, Err(ErrorCode::OFFSET_OUT_OF_RANGE));
    // Batches are whole: whoever reads passes over what lies before the start.
    let rest = wire.call(12, fetch("t", 0, 1)).await;
    assert_eq!(fetched(&rest)[0].2, Ok(["a", "b", "c", "d", "e"].map(String::from).to_vec()));
    assert_eq!(rest.responses[0].partitions[0].log_start_offset, 1);
    check_deleted(&mut wire, 2, 3, Ok(3)).await;
    let rest = wire.call(12, fetch("t", 0, 3)).await;
    assert_eq!(fetched(&rest)[0].2, Ok(["d", "e"].map(String::from).to_vec()));
    check_deleted(&mut wire, 2, 6, Err(ErrorCode::OFFSET_OUT_OF_RANGE)).await;
    check_deleted(&mut wire, 2, -2, Err(ErrorCode::OFFSET_OUT_OF_RANGE)).await;
    check_deleted(&mut wire, 2, -1, Ok(5)).await;
    check_listed(&mut wire, 7, -2, (5, -1)).await;
    append(&mut wire, "t", 0, plain(&["f"])).await;
    let rest = wire.call(12, fetch("t", 0, 5)).await;
    assert_eq!(fetched(&rest)[0].2, Ok(vec!["f".to_owned()]));
    for (node, index, expected) in
        [(2, 0, ErrorCode::NOT_LEADER_OR_FOLLOWER), (1, 9, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]
    {
        let answer = Wire::connect(&broker, node).call(2, delete("t", index, 0)).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, expected);
    }
}

fn commit(topic: &str, topic_id: Uuid, partition: OffsetCommitPartition) -> OffsetCommitRequest {
    let topics = vec![OffsetCommitTopic { name: Str::from(topic), topic_id, partitions: vec![partition] }];
    OffsetCommitRequest { group_id: Str::from("g"), topics, ..OffsetCommitRequest::default() }
}

fn offset(committed_offset: i64) -> OffsetCommitPartition {
    OffsetCommitPartition { committed_offset, ..OffsetCommitPartition::default() }
}

fn asked(topic: &str, topic_id: Uuid) -> OffsetFetchTopic {
    OffsetFetchTopic { name: Str::from(topic), topic_id, partition_indexes: vec![0, 1] }
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_in_any_version_is_fetched_in_any_version() {
    let broker = broker().await;
    broker.coordinator("g");
    broker.move_coordinator("g", 1).unwrap();
    let id = broker.topic_id("t").unwrap();
    let mut wire = Wire::connect(&broker, 1);
    for (version, expected) in (2..=10).zip(100..) {
        let named = if version < 10 { ("t", Uuid::ZERO) } else { ("", id) };
        let partition = OffsetCommitPartition {
            committed_leader_epoch: 3,
            committed_metadata: Some(Str::from("note")),
            ..offset(expected)
        };
        let answer = wire.call(version, commit(named.0, named.1, partition)).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE, "v{version}");
        for version in 1..=10 {
            let topics = Some(vec![if version < 10 { asked("t", Uuid::ZERO) } else { asked("", id) }]);
            let request = match version {
                ..=7 => {
                    OffsetFetchRequest { group_id: Str::from("g"), topics, ..OffsetFetchRequest::default() }
                }
                _ => OffsetFetchRequest {
                    groups: vec![OffsetFetchGroup { group_id: Str::from("g"), topics, ..Default::default() }],
                    ..OffsetFetchRequest::default()
                },
            };
            let answer = wire.call(version, request).await;
            let topics = if version <= 7 { &answer.topics } else { &answer.groups[0].topics };
            let [known, unknown] = &topics[0].partitions[..] else { panic!("two partitions were asked for") };
            assert_eq!(known.committed_offset, expected, "v{version}");
            assert_eq!(known.metadata.as_deref(), Some("note"));
            assert_eq!((unknown.committed_offset, unknown.error_code), (-1, ErrorCode::NONE));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_offsets_of_several_groups_come_in_one_answer() {
    let broker = Broker::builder().topic("t", 2).topic("u", 1).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    for group in ["g", "h"] {
        broker.coordinator(group);
        let mut request = commit("t", Uuid::ZERO, offset(1));
        request.group_id = Str::from(group);
        request.topics.extend(commit("u", Uuid::ZERO, offset(2)).topics);
        wire.call(9, request).await;
    }
    let all = |group| OffsetFetchGroup { group_id: Str::from(group), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![all("g"), all("h"), all("i")], ..Default::default() };
    let answer = wire.call(9, request).await;
    let names: Vec<Vec<&str>> =
        answer.groups.iter().map(|group| group.topics.iter().map(|topic| &*topic.name).collect()).collect();
    assert_eq!(names, [vec!["t", "u"], vec!["t", "u"], vec![]]);
}

#[tokio::test(start_paused = true)]
async fn commits_that_cannot_be_kept_are_refused_one_by_one() {
    let setting = "offset.metadata.max.bytes";
    let broker = Broker::builder().nodes(2).topic("t", 1).setting(setting, "4").build().unwrap();
    let node = broker.coordinator("g").unwrap();
    let mut wire = Wire::connect(&broker, node);
    let noted = OffsetCommitPartition { committed_metadata: Some(Str::from("notes")), ..offset(1) };
    let beyond = OffsetCommitPartition { partition_index: 7, ..offset(1) };
    for (version, request, expected) in [
        (9, commit("t", Uuid::ZERO, noted), ErrorCode::OFFSET_METADATA_TOO_LARGE),
        (9, commit("t", Uuid::ZERO, beyond), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (9, commit("no", Uuid::ZERO, offset(1)), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (10, commit("", Uuid(5), offset(1)), ErrorCode::UNKNOWN_TOPIC_ID),
    ] {
        let answer = wire.call(version, request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, expected);
    }
    let mut elsewhere = Wire::connect(&broker, 3 - node);
    let answer = elsewhere.call(9, commit("t", Uuid::ZERO, offset(1))).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NOT_COORDINATOR);
    assert!(broker.committed("g").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_not_there_has_no_generation_to_commit_in() {
    let broker = broker().await;
    let node = broker.coordinator("g").unwrap();
    let mut wire = Wire::connect(&broker, node);
    let request =
        OffsetCommitRequest { generation_id_or_member_epoch: 1, ..commit("t", Uuid::ZERO, offset(1)) };
    for (version, expected) in [(8, ErrorCode::ILLEGAL_GENERATION), (9, ErrorCode::GROUP_ID_NOT_FOUND)] {
        let answer = wire.call(version, request.clone()).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn deleting_a_topic_or_an_offset_forgets_what_was_committed() {
    let broker = Broker::builder().topic("t", 1).topic("u", 1).build().unwrap();
    broker.coordinator("g");
    let mut wire = Wire::connect(&broker, 1);
    for topic in ["t", "u"] {
        wire.call(9, commit(topic, Uuid::ZERO, offset(1))).await;
    }
    let delete = OffsetDeleteRequest {
        group_id: Str::from("g"),
        topics: vec![OffsetDeleteTopic {
            name: Str::from("t"),
            partitions: vec![OffsetDeletePartition { partition_index: 0 }],
        }],
    };
    let answer = wire.call(0, delete).await;
    assert_eq!(
        (answer.error_code, answer.topics[0].partitions[0].error_code),
        (ErrorCode::NONE, ErrorCode::NONE)
    );
    assert_eq!(broker.committed("g").len(), 1);
    let delete = DeleteTopicsRequest { topic_names: vec![Str::from("u")], ..DeleteTopicsRequest::default() };
    wire.call(5, delete).await;
    assert!(broker.committed("g").is_empty());
}
