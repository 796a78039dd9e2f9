//! Offsets that are committed within transactions: who may, and when they count.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::{Str, Uuid};
use wire::*;

const NONE: ErrorCode = ErrorCode::NONE;

async fn wired() -> (Broker, Wire) {
    let broker = Broker::builder().topic("t", 2).build().unwrap();
    broker.coordinator("g");
    for id in ["x", "y"] {
        broker.transaction_coordinator(id);
    }
    let wire = Wire::connect(&broker, 1);
    (broker, wire)
}

async fn commit(wire: &mut Wire, version: i16, request: TxnOffsetCommitRequest) -> ErrorCode {
    offset_committed(wire.call(version, request).await)
}

/// What the group has committed of partition 0, as whoever wants stable offsets or not is told.
async fn fetched(wire: &mut Wire, version: i16, require_stable: bool) -> (ErrorCode, i64) {
    let topics = vec![OffsetFetchTopic {
        name: Str::from("t"),
        partition_indexes: vec![0],
        ..OffsetFetchTopic::default()
    }];
    let group = OffsetFetchGroup {
        group_id: Str::from("g"),
        topics: Some(topics.clone()),
        ..OffsetFetchGroup::default()
    };
    let request = match version {
        ..=7 => OffsetFetchRequest { group_id: Str::from("g"), topics: Some(topics), ..Default::default() },
        _ => OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() },
    };
    let answer = wire.call(version, OffsetFetchRequest { require_stable, ..request }).await;
    let topics = if version <= 7 { &answer.topics } else { &answer.groups[0].topics };
    let partition = &topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

#[tokio::test(start_paused = true)]
async fn an_offset_counts_when_its_transaction_commits_and_is_unstable_until_then() {
    let (broker, mut wire) = wired().await;
    let mut txn = Txn::new(&mut wire, "x").await;
    for (offset, end, counts) in [(5, true, 5), (6, false, 5), (7, true, 7)] {
        let before = fetched(&mut wire, 9, false).await;
        assert_eq!(commit(&mut wire, 5, txn.commit_offset("g", "t", 0, offset)).await, NONE);
        for version in [7, 9] {
            let unstable = (ErrorCode::UNSTABLE_OFFSET_COMMIT, -1);
            assert_eq!(fetched(&mut wire, version, true).await, unstable);
            assert_eq!(fetched(&mut wire, version, false).await, before);
        }
        let answer = wire.call(5, txn.end(end)).await;
        txn.epoch = answer.producer_epoch;
        assert_eq!(fetched(&mut wire, 9, true).await, (NONE, counts));
    }
    assert_eq!(broker.committed("g").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn offsets_must_be_announced_before_kip_890_and_are_added_after_it() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    for (version, expected) in [(3, ErrorCode::INVALID_TXN_STATE), (4, ErrorCode::TRANSACTION_ABORTABLE)] {
        assert_eq!(commit(&mut wire, version, txn.commit_offset("g", "t", 0, 1)).await, expected);
    }
    assert_eq!(wire.call(4, txn.add_offsets("g")).await.error_code, NONE);
    for version in 0..=4 {
        let code = commit(&mut wire, version, txn.commit_offset("g", "t", 0, i64::from(version))).await;
        assert_eq!(code, NONE, "v{version}");
    }
    wire.call(4, txn.end(true)).await;
    assert_eq!(broker.committed("g")[&("t".to_string(), 0)], 4);
    let other = Txn::new(&mut wire, "y").await;
    let id = broker.topic_id("t").unwrap();
    let mut by_id = other.commit_offset("g", "", 0, 8);
    by_id.topics[0].topic_id = id;
    assert_eq!(commit(&mut wire, 6, by_id).await, NONE);
    wire.call(5, other.end(true)).await;
    assert_eq!(broker.committed("g")[&("t".to_string(), 0)], 8);
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_was_fenced_commits_nothing() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    assert_eq!(commit(&mut wire, 5, txn.commit_offset("g", "t", 0, 1)).await, NONE);
    wire.call(5, txn.end(false)).await;
    for (txn, expected) in [
        (txn, ErrorCode::INVALID_PRODUCER_EPOCH),
        (txn.at(9), ErrorCode::INVALID_PRODUCER_EPOCH),
        (Txn { producer_id: 4711, ..txn }, ErrorCode::INVALID_PRODUCER_ID_MAPPING),
        (Txn { id: "nobody", ..txn.at(1) }, ErrorCode::INVALID_PRODUCER_ID_MAPPING),
    ] {
        assert_eq!(commit(&mut wire, 5, txn.commit_offset("g", "t", 0, 2)).await, expected, "{txn:?}");
    }
    for (version, expected) in [(1, ErrorCode::INVALID_PRODUCER_EPOCH), (4, ErrorCode::PRODUCER_FENCED)] {
        assert_eq!(wire.call(version, txn.add_offsets("g")).await.error_code, expected);
    }
    assert!(broker.committed("g").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_committed_is_refused_partition_by_partition() {
    let setting = "offset.metadata.max.bytes";
    let broker = Broker::builder().nodes(2).topic("t", 1).setting(setting, "4").build().unwrap();
    let node = broker.coordinator("g").unwrap();
    broker.transaction_coordinator("x");
    broker.move_transaction_coordinator("x", node).unwrap();
    let mut wire = Wire::connect(&broker, node);
    let txn = Txn::new(&mut wire, "x").await;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(commit(&mut wire, 5, txn.commit_offset("g", "no", 0, 1)).await, unknown);
    assert_eq!(commit(&mut wire, 5, txn.commit_offset("g", "t", 7, 1)).await, unknown);
    assert_eq!(broker.transaction("x").unwrap().state, "Empty", "nothing was to be committed");
    let mut by_id = txn.commit_offset("g", "", 0, 1);
    by_id.topics[0].topic_id = Uuid(5);
    assert_eq!(commit(&mut wire, 6, by_id).await, ErrorCode::UNKNOWN_TOPIC_ID);
    let mut noted = txn.commit_offset("g", "t", 0, 1);
    noted.topics[0].partitions[0].committed_metadata = Some(Str::from("notes"));
    assert_eq!(commit(&mut wire, 5, noted).await, ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(commit(&mut wire, 5, txn.commit_offset("", "t", 0, 1)).await, ErrorCode::INVALID_GROUP_ID);
    let mut elsewhere = Wire::connect(&broker, 3 - node);
    let moved = commit(&mut elsewhere, 5, txn.commit_offset("g", "t", 0, 1)).await;
    assert_eq!(moved, ErrorCode::NOT_COORDINATOR);
}

#[tokio::test(start_paused = true)]
async fn a_member_commits_only_in_its_own_generation() {
    let (_, mut wire) = wired().await;
    let join = JoinGroupRequest {
        group_id: Str::from("g"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: Str::from("consumer"),
        protocols: vec![JoinGroupProtocol { name: Str::from("range"), ..Default::default() }],
        ..JoinGroupRequest::default()
    };
    let joined = wire.call(3, join).await;
    let (member, generation) = (&*joined.member_id, joined.generation_id);
    let txn = Txn::new(&mut wire, "x").await;
    let by = |member: &str, generation, instance: Option<&'static str>| TxnOffsetCommitRequest {
        member_id: Str::from(member),
        generation_id_or_member_epoch: generation,
        group_instance_id: instance.map(Str::from),
        ..txn.commit_offset("g", "t", 0, 1)
    };
    for (request, expected) in [
        (by(member, generation, None), NONE),
        (by("", -1, None), NONE),
        (by(member, generation - 1, None), ErrorCode::ILLEGAL_GENERATION),
        (by(member, generation + 1, None), ErrorCode::ILLEGAL_GENERATION),
        (by("stranger", generation, None), ErrorCode::UNKNOWN_MEMBER_ID),
        (by("", generation, None), ErrorCode::UNKNOWN_MEMBER_ID),
        (by(member, generation, Some("i")), ErrorCode::UNKNOWN_MEMBER_ID),
    ] {
        assert_eq!(commit(&mut wire, 5, request.clone()).await, expected, "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_not_there_has_no_generation_to_commit_in() {
    let (broker, mut wire) = wired().await;
    let txn = Txn::new(&mut wire, "x").await;
    let id = broker.topic_id("t").unwrap();
    for (version, expected) in [(5, ErrorCode::ILLEGAL_GENERATION), (6, ErrorCode::GROUP_ID_NOT_FOUND)] {
        let mut request = txn.commit_offset("g", "t", 0, 1);
        request.topics[0].topic_id = id;
        request.generation_id_or_member_epoch = 1;
        request.member_id = Str::from("m");
        assert_eq!(commit(&mut wire, version, request).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_commits_the_later_one_counts_whichever_way_it_came() {
    let (_, mut wire) = wired().await;
    let (x, y) = (Txn::new(&mut wire, "x").await, Txn::new(&mut wire, "y").await);
    commit(&mut wire, 5, x.commit_offset("g", "t", 0, 1)).await;
    commit(&mut wire, 5, y.commit_offset("g", "t", 0, 2)).await;
    wire.call(5, y.end(true)).await;
    assert_eq!(fetched(&mut wire, 9, true).await.0, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    wire.call(5, x.end(true)).await;
    assert_eq!(fetched(&mut wire, 9, true).await, (NONE, 2), "it was committed after the other");
    commit(&mut wire, 5, x.at(1).commit_offset("g", "t", 0, 3)).await;
    let partition = OffsetCommitPartition { committed_offset: 4, ..OffsetCommitPartition::default() };
    let topics = vec![OffsetCommitTopic {
        name: Str::from("t"),
        partitions: vec![partition],
        ..OffsetCommitTopic::default()
    }];
    wire.call(8, OffsetCommitRequest { group_id: Str::from("g"), topics, ..Default::default() }).await;
    wire.call(5, x.at(1).end(true)).await;
    assert_eq!(fetched(&mut wire, 9, true).await, (NONE, 4));
}

#[tokio::test(start_paused = true)]
async fn records_and_offsets_of_one_transaction_count_together() {
    let (broker, mut wire) = wired().await;
    let mut txn = Txn::new(&mut wire, "x").await;
    for (value, end) in [("a", false), ("b", true)] {
        let sent = only(wire.call(12, txn.produce("t", 1, &[value], 0)).await);
        assert_eq!(sent.error_code, NONE);
        assert_eq!(commit(&mut wire, 5, txn.commit_offset("g", "t", 0, 9)).await, NONE);
        txn.epoch = wire.call(5, txn.end(end)).await.producer_epoch;
        let records = broker.committed_log("t", 1).unwrap().len();
        assert_eq!((records, broker.committed("g").len()), (usize::from(end), usize::from(end)));
    }
}
