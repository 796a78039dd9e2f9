//! The life of classic groups, as members see it.
#![allow(clippy::unwrap_used)]

mod wire;

use bytes::Bytes;
use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::Str;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wire::*;

const JOIN: i16 = 9;

async fn broker() -> Broker {
    with_setting("group.max.size", "100").await
}

async fn with_setting(name: &str, value: &str) -> Broker {
    let broker = Broker::builder().topic("t", 2).setting(name, value).build().unwrap();
    broker.coordinator("g").unwrap();
    broker
}

fn join(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Str::from("g"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        member_id: Str::from(member_id),
        protocol_type: Str::from("consumer"),
        protocols: protocols(&["range"]),
        ..JoinGroupRequest::default()
    }
}

fn protocols(names: &[&str]) -> Vec<JoinGroupProtocol> {
    let protocol = |name: &&str| JoinGroupProtocol {
        name: Str::from(*name),
        metadata: Bytes::from(format!("says {name}")),
    };
    names.iter().map(protocol).collect()
}

fn instance(request: JoinGroupRequest, id: &str) -> JoinGroupRequest {
    JoinGroupRequest { group_instance_id: Some(Str::from(id)), ..request }
}

fn sync(joined: &JoinGroupResponse, assignments: &[(&str, &str)]) -> SyncGroupRequest {
    let assign = |(member, share): &(&str, &str)| SyncGroupAssignment {
        member_id: Str::from(*member),
        assignment: Bytes::from(share.to_string()),
    };
    SyncGroupRequest {
        group_id: Str::from("g"),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: joined.protocol_type.clone(),
        protocol_name: joined.protocol_name.clone(),
        assignments: assignments.iter().map(assign).collect(),
        ..SyncGroupRequest::default()
    }
}

async fn heartbeat(wire: &mut Wire, joined: &JoinGroupResponse) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: Str::from("g"),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
    };
    wire.call(4, request).await.error_code
}

/// Asks for a member id, as every dynamic member does first (KIP-394).
async fn member_id(wire: &mut Wire) -> String {
    let answer = wire.call(JOIN, join("")).await;
    assert_eq!(answer.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    answer.member_id.to_string()
}

/// One member, stable, with the share "all".
async fn alone(wire: &mut Wire) -> JoinGroupResponse {
    let id = member_id(wire).await;
    let joined = wire.call(JOIN, join(&id)).await;
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let synced = wire.call(5, sync(&joined, &[(&id, "all")])).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (ErrorCode::NONE, &b"all"[..]));
    joined
}

/// Two members, stable: the first leads and got "one", the second "two".
async fn pair(broker: &Broker) -> [(Wire, JoinGroupResponse); 2] {
    let (mut first, mut second) = (Wire::connect(broker, 1), Wire::connect(broker, 1));
    let leader = alone(&mut first).await;
    let id = member_id(&mut second).await;
    second.send(JOIN, &join(&id)).await;
    settle().await;
    assert_eq!(heartbeat(&mut first, &leader).await, ErrorCode::REBALANCE_IN_PROGRESS);
    let leader = first.call(JOIN, join(&leader.member_id)).await;
    let follower = second.receive::<JoinGroupRequest>(JOIN).await;
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0), "only the leader sees the members");
    second.send(5, &sync(&follower, &[])).await;
    settle().await;
    let shares = [(&*leader.member_id, "one"), (&*id, "two")];
    assert_eq!(first.call(5, sync(&leader, &shares)).await.assignment, "one");
    assert_eq!(second.receive::<SyncGroupRequest>(5).await.assignment, "two");
    [(first, leader), (second, follower)]
}

/// Lets the broker handle what was sent.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_joins_with_the_id_it_was_given_and_leads() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1).named("app");
    let joined = alone(&mut wire).await;
    assert!(joined.member_id.starts_with("app-"), "{}", joined.member_id);
    assert_eq!((joined.generation_id, &joined.leader), (1, &joined.member_id));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members[0].metadata, "says range");
    assert_eq!(heartbeat(&mut wire, &joined).await, ErrorCode::NONE);
    assert_eq!(broker.group("g").unwrap().state, "Stable");
}

#[tokio::test(start_paused = true)]
async fn before_version_four_a_member_joins_at_once() {
    let broker = broker().await;
    for version in 0..=3 {
        let mut wire = Wire::connect(&broker, 1);
        let joined = wire.call(version, join("")).await;
        assert_eq!(joined.error_code, ErrorCode::NONE, "v{version}");
        let leave =
            LeaveGroupRequest { group_id: Str::from("g"), member_id: joined.member_id, ..Default::default() };
        assert_eq!(wire.call(2, leave).await.error_code, ErrorCode::NONE);
        assert_eq!(broker.group("g").unwrap().state, "Empty");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_member_starts_a_rebalance_and_each_gets_its_share() {
    let broker = broker().await;
    let [(mut first, leader), (mut second, follower)] = pair(&broker).await;
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    assert_eq!(follower.leader, leader.member_id);
    assert_eq!(heartbeat(&mut first, &leader).await, ErrorCode::NONE);
    assert_eq!(heartbeat(&mut second, &follower).await, ErrorCode::NONE);
    // Whoever lost its answer asks again and gets the same share.
    assert_eq!(second.call(5, sync(&follower, &[])).await.assignment, "two");
}

#[tokio::test(start_paused = true)]
async fn the_protocol_with_the_most_votes_among_the_common_ones_wins() {
    let broker = broker().await;
    let (mut first, mut second) = (Wire::connect(&broker, 1), Wire::connect(&broker, 1));
    let ask = |id: &str, names: &[&str]| JoinGroupRequest { protocols: protocols(names), ..join(id) };
    let leader = first.call(JOIN, ask("", &["a"])).await.member_id;
    assert_eq!(first.call(JOIN, ask(&leader, &["a", "b", "c"])).await.protocol_name.as_deref(), Some("a"));
    let id = second.call(JOIN, ask("", &["c"])).await.member_id;
    second.send(JOIN, &ask(&id, &["d", "c", "b"])).await;
    settle().await;
    let joined = first.call(JOIN, ask(&leader, &["a", "b", "c"])).await;
    // One vote for b, one for c: the leader prefers b.
    assert_eq!(joined.protocol_name.as_deref(), Some("b"));
    let mut third = Wire::connect(&broker, 1);
    let refused = third.call(JOIN, ask("", &["d"])).await;
    assert_eq!(refused.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let connect = JoinGroupRequest { protocol_type: Str::from("connect"), ..ask("", &["b"]) };
    assert_eq!(third.call(JOIN, connect).await.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[tokio::test(start_paused = true)]
async fn a_member_without_heartbeats_is_expelled_after_its_session() {
    let broker = broker().await;
    let [(mut first, leader), (mut second, follower)] = pair(&broker).await;
    for _ in 0..3 {
        sleep(Duration::from_secs(3)).await;
        assert_eq!(heartbeat(&mut first, &leader).await, ErrorCode::NONE);
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(heartbeat(&mut first, &leader).await, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(heartbeat(&mut second, &follower).await, ErrorCode::UNKNOWN_MEMBER_ID);
    let joined = first.call(JOIN, join(&leader.member_id)).await;
    assert_eq!((joined.generation_id, joined.members.len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_in_time_is_left_out() {
    let broker = broker().await;
    let [(mut first, leader), (mut second, follower)] = pair(&broker).await;
    let started = Instant::now();
    first.send(JOIN, &join(&leader.member_id)).await;
    // The other goes on with heartbeats but does not join.
    for _ in 0..4 {
        sleep(Duration::from_secs(7)).await;
        assert_eq!(heartbeat(&mut second, &follower).await, ErrorCode::REBALANCE_IN_PROGRESS);
    }
    let joined = first.receive::<JoinGroupRequest>(JOIN).await;
    assert_eq!((joined.members.len(), started.elapsed().as_secs()), (1, 30));
    assert_eq!(heartbeat(&mut second, &follower).await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_never_assigns_is_left_out() {
    let broker = broker().await;
    let [(mut first, leader), (mut second, follower)] = pair(&broker).await;
    first.send(JOIN, &join(&leader.member_id)).await;
    settle().await;
    let follower = second.call(JOIN, join(&follower.member_id)).await;
    let leader = first.receive::<JoinGroupRequest>(JOIN).await;
    second.send(5, &sync(&follower, &[])).await;
    for _ in 0..5 {
        sleep(Duration::from_secs(6)).await;
        heartbeat(&mut first, &leader).await;
    }
    let synced = second.receive::<SyncGroupRequest>(5).await;
    assert_eq!(synced.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = second.call(JOIN, join(&follower.member_id)).await;
    assert_eq!((joined.members.len(), &joined.leader), (1, &follower.member_id));
    assert_eq!(heartbeat(&mut first, &leader).await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_given_out_and_never_used_expires() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    let joined = alone(&mut wire).await;
    let id = member_id(&mut Wire::connect(&broker, 1)).await;
    // A rebalance waits for the id, and no longer than its session.
    wire.send(JOIN, &join(&joined.member_id)).await;
    let started = Instant::now();
    let joined = wire.receive::<JoinGroupRequest>(JOIN).await;
    assert_eq!((joined.members.len(), started.elapsed().as_secs()), (1, 10));
    let late = Wire::connect(&broker, 1).call(JOIN, join(&id)).await;
    assert_eq!(late.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test(start_paused = true)]
async fn wrong_generations_and_members_are_refused() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    let joined = alone(&mut wire).await;
    let old = JoinGroupResponse { generation_id: 0, ..joined.clone() };
    let other = JoinGroupResponse { member_id: Str::from("x"), ..joined.clone() };
    assert_eq!(heartbeat(&mut wire, &old).await, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(heartbeat(&mut wire, &other).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(wire.call(5, sync(&old, &[])).await.error_code, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(wire.call(5, sync(&other, &[])).await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    let named = JoinGroupResponse { protocol_name: Some(Str::from("x")), ..joined };
    assert_eq!(wire.call(5, sync(&named, &[])).await.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(wire.call(JOIN, join("x")).await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    let nameless = JoinGroupRequest { group_id: Str::default(), ..join("") };
    assert_eq!(wire.call(JOIN, nameless).await.error_code, ErrorCode::INVALID_GROUP_ID);
    for session_timeout_ms in [-1, 5_999, 1_800_001] {
        let request = JoinGroupRequest { session_timeout_ms, ..join("") };
        assert_eq!(wire.call(JOIN, request).await.error_code, ErrorCode::INVALID_SESSION_TIMEOUT);
    }
}

#[tokio::test(start_paused = true)]
async fn members_leave_one_by_one_or_many_at_once() {
    let broker = broker().await;
    let [(mut first, leader), (_second, follower)] = pair(&broker).await;
    let leaving = |id: &Str| LeavingMember { member_id: id.clone(), ..LeavingMember::default() };
    let request = LeaveGroupRequest {
        group_id: Str::from("g"),
        members: vec![leaving(&follower.member_id), leaving(&Str::from("x"))],
        ..LeaveGroupRequest::default()
    };
    let left = first.call(5, request).await;
    let codes: Vec<_> = left.members.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(heartbeat(&mut first, &leader).await, ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = first.call(JOIN, join(&leader.member_id)).await;
    assert_eq!(joined.members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_comes_back_keeps_its_share_without_a_rebalance() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    let first = wire.call(JOIN, instance(join(""), "i")).await;
    assert_eq!(first.error_code, ErrorCode::NONE, "a static member needs no second join");
    assert!(first.member_id.starts_with("i-"));
    wire.call(5, sync(&first, &[(&first.member_id, "all")])).await;
    let again = Wire::connect(&broker, 1).call(JOIN, instance(join(""), "i")).await;
    assert_ne!(again.member_id, first.member_id);
    assert_eq!((again.generation_id, &again.leader), (1, &again.member_id));
    assert!(again.skip_assignment, "it leads, and keeps what was assigned");
    let request = SyncGroupRequest { group_instance_id: Some(Str::from("i")), ..sync(&again, &[]) };
    assert_eq!(wire.call(5, request).await.assignment, "all");
    // Who was replaced is fenced.
    let request = HeartbeatRequest {
        group_id: Str::from("g"),
        generation_id: 1,
        member_id: first.member_id.clone(),
        group_instance_id: Some(Str::from("i")),
    };
    assert_eq!(wire.call(4, request).await.error_code, ErrorCode::FENCED_INSTANCE_ID);
    let request = instance(join(&first.member_id), "i");
    assert_eq!(wire.call(JOIN, request).await.error_code, ErrorCode::FENCED_INSTANCE_ID);
}

#[tokio::test(start_paused = true)]
async fn before_version_nine_a_static_leader_that_comes_back_is_told_of_its_former_self() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    let first = wire.call(8, instance(join(""), "i")).await;
    wire.call(5, sync(&first, &[(&first.member_id, "all")])).await;
    let again = wire.call(8, instance(join(""), "i")).await;
    assert_eq!((&again.leader, again.members.len()), (&first.member_id, 0));
}

#[tokio::test(start_paused = true)]
async fn a_static_member_is_missed_only_after_its_session() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    let joined = wire.call(JOIN, instance(join(""), "i")).await;
    wire.call(5, sync(&joined, &[(&joined.member_id, "all")])).await;
    sleep(Duration::from_secs(9)).await;
    assert_eq!(broker.group("g").unwrap().members.len(), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(broker.group("g").unwrap().state, "Empty");
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_does_not_leave_out_a_static_member_that_is_late() {
    let broker = broker().await;
    let (mut first, mut second) = (Wire::connect(&broker, 1), Wire::connect(&broker, 1));
    let slow = instance(JoinGroupRequest { session_timeout_ms: 60_000, ..join("") }, "slow");
    let joined = first.call(JOIN, slow).await;
    first.call(5, sync(&joined, &[])).await;
    let started = Instant::now();
    let quick = second.call(JOIN, instance(join(""), "quick")).await;
    assert_eq!((quick.error_code, started.elapsed().as_secs()), (ErrorCode::NONE, 30));
    assert_eq!((&quick.leader, quick.members.len()), (&quick.member_id, 2), "it is waited for, and kept");
}

#[tokio::test(start_paused = true)]
async fn an_administrator_removes_a_static_member_by_its_instance() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    let joined = wire.call(JOIN, instance(join(""), "i")).await;
    wire.call(5, sync(&joined, &[])).await;
    let leaving =
        |id: &str| LeavingMember { group_instance_id: Some(Str::from(id)), ..LeavingMember::default() };
    let request = LeaveGroupRequest {
        group_id: Str::from("g"),
        members: vec![leaving("j"), leaving("i")],
        ..LeaveGroupRequest::default()
    };
    let left = wire.call(5, request).await;
    let codes: Vec<_> = left.members.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::NONE]);
    assert_eq!(broker.group("g").unwrap().state, "Empty");
}

#[tokio::test(start_paused = true)]
async fn a_full_group_takes_no_more_members() {
    let broker = with_setting("group.max.size", "1").await;
    let mut wire = Wire::connect(&broker, 1);
    let joined = alone(&mut wire).await;
    let refused = Wire::connect(&broker, 1).call(JOIN, join("")).await;
    assert_eq!(refused.error_code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(heartbeat(&mut wire, &joined).await, ErrorCode::NONE, "whoever is in it stays");
}

#[tokio::test(start_paused = true)]
async fn the_first_rebalance_waits_for_more_members_if_told_to() {
    let broker = with_setting("group.initial.rebalance.delay.ms", "3000").await;
    let (mut first, mut second) = (Wire::connect(&broker, 1), Wire::connect(&broker, 1));
    let (one, two) = (member_id(&mut first).await, member_id(&mut second).await);
    let started = Instant::now();
    first.send(JOIN, &join(&one)).await;
    sleep(Duration::from_secs(2)).await;
    second.send(JOIN, &join(&two)).await;
    let joined = first.receive::<JoinGroupRequest>(JOIN).await;
    // A member that came within the delay prolongs it once more.
    assert_eq!((joined.generation_id, joined.members.len(), started.elapsed().as_secs()), (1, 2, 6));
}

#[tokio::test(start_paused = true)]
async fn the_leader_that_joins_again_asks_for_a_rebalance_and_a_follower_does_not() {
    let broker = broker().await;
    let [(mut first, leader), (mut second, follower)] = pair(&broker).await;
    let again = second.call(JOIN, join(&follower.member_id)).await;
    assert_eq!((again.generation_id, again.error_code), (2, ErrorCode::NONE));
    assert_eq!(heartbeat(&mut first, &leader).await, ErrorCode::NONE);
    first.send(JOIN, &join(&leader.member_id)).await;
    settle().await;
    assert_eq!(heartbeat(&mut second, &follower).await, ErrorCode::REBALANCE_IN_PROGRESS);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_joins_twice_is_answered_on_both_connections() {
    let broker = broker().await;
    let [(mut first, leader), (mut second, follower)] = pair(&broker).await;
    first.send(JOIN, &join(&leader.member_id)).await;
    settle().await;
    let mut elsewhere = Wire::connect(&broker, 1);
    elsewhere.send(JOIN, &join(&leader.member_id)).await;
    let older = first.receive::<JoinGroupRequest>(JOIN).await;
    assert_eq!(older.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    second.call(JOIN, join(&follower.member_id)).await;
    assert_eq!(elsewhere.receive::<JoinGroupRequest>(JOIN).await.members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moves_sends_waiting_members_away_and_keeps_the_stable_ones() {
    let broker = Broker::builder().nodes(2).topic("t", 2).build().unwrap();
    broker.coordinator("g");
    broker.move_coordinator("g", 1).unwrap();
    let [(mut first, leader), (_second, follower)] = pair(&broker).await;
    first.send(JOIN, &join(&leader.member_id)).await;
    settle().await;
    broker.move_coordinator("g", 2).unwrap();
    let sent_away = first.receive::<JoinGroupRequest>(JOIN).await;
    assert_eq!(sent_away.error_code, ErrorCode::NOT_COORDINATOR);
    assert_eq!(heartbeat(&mut first, &leader).await, ErrorCode::NOT_COORDINATOR);
    let mut found = Wire::connect(&broker, 2);
    assert_eq!(heartbeat(&mut found, &leader).await, ErrorCode::NONE);
    assert_eq!(heartbeat(&mut found, &follower).await, ErrorCode::NONE);
    assert_eq!(found.call(5, sync(&follower, &[])).await.assignment, "two");
}

fn commit(joined: &JoinGroupResponse, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: Str::from("g"),
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        topics: vec![OffsetCommitTopic {
            name: Str::from("t"),
            partitions: vec![OffsetCommitPartition {
                committed_offset: offset,
                ..OffsetCommitPartition::default()
            }],
            ..OffsetCommitTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

async fn commit_code(wire: &mut Wire, request: OffsetCommitRequest) -> ErrorCode {
    wire.call(9, request).await.topics[0].partitions[0].error_code
}

#[tokio::test(start_paused = true)]
async fn only_members_of_this_generation_commit_while_there_are_members() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    let nobody = JoinGroupResponse { generation_id: -1, member_id: Str::default(), ..Default::default() };
    assert_eq!(commit_code(&mut wire, commit(&nobody, 1)).await, ErrorCode::NONE, "an empty group takes it");
    let stranger = JoinGroupResponse { generation_id: 3, member_id: Str::from("x"), ..Default::default() };
    assert_eq!(commit_code(&mut wire, commit(&stranger, 2)).await, ErrorCode::UNKNOWN_MEMBER_ID);
    let joined = alone(&mut wire).await;
    assert_eq!(commit_code(&mut wire, commit(&nobody, 3)).await, ErrorCode::UNKNOWN_MEMBER_ID);
    let old = JoinGroupResponse { generation_id: 0, ..joined.clone() };
    assert_eq!(commit_code(&mut wire, commit(&old, 4)).await, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(broker.committed("g")[&("t".to_string(), 0)], 1);
    assert_eq!(commit_code(&mut wire, commit(&joined, 5)).await, ErrorCode::NONE);
    assert_eq!(broker.committed("g")[&("t".to_string(), 0)], 5);
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_held_back_between_join_and_sync_and_counts_as_a_heartbeat() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1);
    let id = member_id(&mut wire).await;
    let joined = wire.call(JOIN, join(&id)).await;
    assert_eq!(commit_code(&mut wire, commit(&joined, 1)).await, ErrorCode::REBALANCE_IN_PROGRESS);
    wire.call(5, sync(&joined, &[])).await;
    for offset in 0..5 {
        sleep(Duration::from_secs(8)).await;
        assert_eq!(commit_code(&mut wire, commit(&joined, offset)).await, ErrorCode::NONE);
    }
}

#[tokio::test(start_paused = true)]
async fn groups_are_described_listed_and_deleted_when_empty() {
    let broker = broker().await;
    let mut wire = Wire::connect(&broker, 1).named("app");
    let joined = alone(&mut wire).await;
    let describe =
        DescribeGroupsRequest { groups: vec![Str::from("g"), Str::from("none")], ..Default::default() };
    let described = wire.call(6, describe.clone()).await.groups;
    assert_eq!((&*described[0].group_state, &*described[0].protocol_data), ("Stable", "range"));
    let member = &described[0].members[0];
    assert_eq!(
        (&*member.client_id, &*member.client_host, &member.member_assignment[..]),
        ("app", "/127.0.0.1", &b"all"[..])
    );
    assert_eq!(described[1].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(&*wire.call(5, describe).await.groups[1].group_state, "Dead");

    let listed = wire.call(5, ListGroupsRequest::default()).await.groups;
    assert_eq!((listed.len(), &*listed[0].group_id, &*listed[0].group_state), (1, "g", "Stable"));
    let empty = ListGroupsRequest { states_filter: vec![Str::from("Empty")], ..Default::default() };
    assert_eq!(wire.call(5, empty).await.groups.len(), 0);

    let delete = DeleteGroupsRequest { groups_names: vec![Str::from("g")] };
    assert_eq!(wire.call(2, delete.clone()).await.results[0].error_code, ErrorCode::NON_EMPTY_GROUP);
    let leave =
        LeaveGroupRequest { group_id: Str::from("g"), member_id: joined.member_id, ..Default::default() };
    wire.call(2, leave).await;
    assert_eq!(wire.call(2, delete.clone()).await.results[0].error_code, ErrorCode::NONE);
    assert_eq!(wire.call(2, delete).await.results[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
}
