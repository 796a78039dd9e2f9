//! Groups that go from the classic protocol to the consumer protocol and back while members go on (KIP-848). The answers
//! are those of Apache Kafka 4.4.0 to the same calls.
#![allow(clippy::unwrap_used)]

mod wire;

use bytes::Bytes;
use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::Str;
use std::time::Duration;
use tokio::time::sleep;
use wire::*;

const JOIN: i16 = 9;

/// A group's coordinator, with a connection to it.
struct Scene {
    broker: Broker,
    wire: Wire,
}

impl Scene {
    fn new() -> Self {
        Self::with("group.consumer.migration.policy", "bidirectional")
    }

    /// Topic `t` has four partitions.
    fn with(setting: &str, value: &str) -> Self {
        let broker = Broker::builder().topic("t", 4).setting(setting, value).build().unwrap();
        broker.coordinator("g").unwrap();
        let wire = Wire::connect(&broker, 1);
        Self { broker, wire }
    }

    async fn join(&mut self, request: JoinGroupRequest) -> JoinGroupResponse {
        self.wire.call(JOIN, request).await
    }

    /// A stable classic group of one member that owns all of `t` in generation 1.
    async fn classic(&mut self) -> JoinGroupResponse {
        let id = self.join(join("", &[])).await.member_id;
        let joined = self.join(join(&id, &[])).await;
        assert_eq!(self.sync(&joined, &[0, 1, 2, 3]).await, Ok(vec![0, 1, 2, 3]));
        joined
    }

    /// As [`Scene::classic`], and a member `a` of the consumer protocol that waits for its share in epoch 2.
    async fn mixed(&mut self) -> JoinGroupResponse {
        let joined = self.classic().await;
        assert_eq!(self.told(first("a")).await, (2, Some(vec![])));
        joined
    }

    /// As [`Scene::mixed`], and each has its half. What the classic member was told when it joined last.
    async fn settled(&mut self) -> JoinGroupResponse {
        let joined = self.mixed().await;
        let joined = self.join(join(&joined.member_id, &[0, 1])).await;
        assert_eq!(self.sync(&joined, &[]).await, Ok(vec![0, 1]));
        assert_eq!(self.told(at("a", 2)).await, (2, Some(vec![2, 3])));
        joined
    }

    /// The share that the member is answered, when it leads with `share`.
    async fn sync(&mut self, joined: &JoinGroupResponse, share: &[i32]) -> Result<Vec<i32>, ErrorCode> {
        let assignment = SyncGroupAssignment {
            member_id: joined.member_id.clone(),
            assignment: assignment(share).to_bytes(1).unwrap(),
        };
        let request = SyncGroupRequest {
            group_id: Str::from("g"),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments: vec![assignment],
            ..SyncGroupRequest::default()
        };
        let synced = self.wire.call(5, request).await;
        if synced.error_code != ErrorCode::NONE {
            return Err(synced.error_code);
        }
        let share = ConsumerProtocolAssignment::from_bytes(synced.assignment).unwrap();
        Ok(share.assigned_partitions.into_iter().flat_map(|it| it.partitions).collect())
    }

    async fn heartbeat(&mut self, member: &str, generation_id: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: Str::from("g"),
            generation_id,
            member_id: Str::from(member),
            group_instance_id: None,
        };
        self.wire.call(4, request).await.error_code
    }

    async fn leave(&mut self, member: &str) -> ErrorCode {
        let members = vec![LeavingMember { member_id: Str::from(member), ..LeavingMember::default() }];
        let request = LeaveGroupRequest { group_id: Str::from("g"), members, ..LeaveGroupRequest::default() };
        self.wire.call(5, request).await.members[0].error_code
    }

    async fn beat(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        self.wire.call(1, request).await
    }

    /// A heartbeat that is fine: the member's epoch, and what it is told to own if it is told.
    async fn told(&mut self, request: ConsumerGroupHeartbeatRequest) -> (i32, Option<Vec<i32>>) {
        let answer = self.beat(request).await;
        assert_eq!((answer.error_code, answer.error_message.as_deref()), (ErrorCode::NONE, None));
        let share =
            |it: GroupAssignment| it.topic_partitions.into_iter().flat_map(|it| it.partitions).collect();
        (answer.member_epoch, answer.assignment.map(share))
    }

    /// State and type, as ListGroups has them.
    async fn listed(&mut self) -> (String, String) {
        let listed = self.wire.call(5, ListGroupsRequest::default()).await.groups.remove(0);
        (listed.group_state.to_string(), listed.group_type.to_string())
    }

    async fn check_listed(&mut self, state: &str, group_type: &str) {
        assert_eq!(self.listed().await, (state.to_string(), group_type.to_string()));
    }
}

fn assignment(indexes: &[i32]) -> ConsumerProtocolAssignment {
    let share = ConsumerProtocolPartitions { topic: Str::from("t"), partitions: indexes.to_vec() };
    ConsumerProtocolAssignment { assigned_partitions: vec![share], user_data: None }
}

/// The JoinGroup of a member that owns these partitions of `t`, which it reads.
fn join(member_id: &str, owned: &[i32]) -> JoinGroupRequest {
    let subscription = ConsumerProtocolSubscription {
        topics: vec![Str::from("t")],
        owned_partitions: assignment(owned).assigned_partitions,
        ..ConsumerProtocolSubscription::default()
    };
    let protocol = JoinGroupProtocol {
        name: Str::from("cooperative-sticky"),
        metadata: subscription.to_bytes(1).unwrap(),
    };
    JoinGroupRequest {
        group_id: Str::from("g"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        member_id: Str::from(member_id),
        protocol_type: Str::from("consumer"),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

fn at(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: Str::from("g"),
        member_id: Str::from(member),
        member_epoch: epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// The first heartbeat of a member.
fn first(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec![Str::from("t")]),
        topic_partitions: Some(Vec::new()),
        ..at(member, 0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_classic_member_gives_up_for_one_of_the_consumer_protocol() {
    let mut scene = Scene::new();
    let joined = scene.mixed().await;
    let id = joined.member_id.clone();
    scene.check_listed("Reconciling", "consumer").await;
    assert_eq!(scene.heartbeat(&id, 1).await, ErrorCode::REBALANCE_IN_PROGRESS);
    // It still owns all: a step that only says what it must give up.
    let joined = scene.join(join(&id, &[0, 1, 2, 3])).await;
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1));
    assert_eq!((&*joined.leader, joined.members.len()), ("", 0), "nobody leads");
    assert_eq!(scene.sync(&joined, &[]).await, Ok(vec![0, 1]));
    assert_eq!(scene.told(at("a", 2)).await, (2, None), "nothing was given up yet");
    assert_eq!(scene.heartbeat(&id, 1).await, ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = scene.join(join(&id, &[0, 1])).await;
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 2));
    assert_eq!(scene.sync(&joined, &[]).await, Ok(vec![0, 1]));
    assert_eq!(scene.heartbeat(&id, 2).await, ErrorCode::NONE);
    assert_eq!(scene.told(at("a", 2)).await, (2, Some(vec![2, 3])));
    let group = scene.broker.consumer_group("g").unwrap();
    assert_eq!((group.state, group.members[&*id].is_classic), ("Stable", true));
    scene.check_listed("Stable", "consumer").await;
}

#[tokio::test(start_paused = true)]
async fn classic_members_join_a_consumer_group_that_is_on_its_way() {
    let mut scene = Scene::new();
    scene.settled().await;
    let asked = scene.join(join("", &[])).await;
    assert_eq!(asked.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    let third = scene.join(join(&asked.member_id, &[])).await;
    assert_eq!((third.error_code, third.generation_id), (ErrorCode::NONE, 3));
    assert_eq!(scene.sync(&third, &[]).await, Ok(vec![]), "others have to give up first");
    assert_eq!(scene.heartbeat(&third.member_id, 3).await, ErrorCode::NONE, "and it waits");
    for (request, code) in [
        (
            JoinGroupRequest { protocol_type: Str::from("connect"), ..join("", &[]) },
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ),
        (
            JoinGroupRequest {
                protocols: vec![JoinGroupProtocol { name: Str::from("range"), metadata: Bytes::new() }],
                ..join("", &[])
            },
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ),
        (
            JoinGroupRequest { group_instance_id: Some(Str::from("i")), ..join("nobody", &[]) },
            ErrorCode::UNKNOWN_MEMBER_ID,
        ),
    ] {
        assert_eq!(scene.join(request.clone()).await.error_code, code, "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn classic_members_with_the_wrong_generation_are_told_so() {
    let mut scene = Scene::new();
    let joined = scene.settled().await;
    let id = joined.member_id.clone();
    assert_eq!(scene.heartbeat(&id, 99).await, ErrorCode::ILLEGAL_GENERATION);
    for member in ["nobody", "a"] {
        assert_eq!(scene.heartbeat(member, 2).await, ErrorCode::UNKNOWN_MEMBER_ID, "{member}");
    }
    let old = JoinGroupResponse { generation_id: 1, ..joined.clone() };
    assert_eq!(scene.sync(&old, &[]).await, Err(ErrorCode::ILLEGAL_GENERATION));
    let other = JoinGroupResponse { protocol_name: Some(Str::from("range")), ..joined.clone() };
    assert_eq!(scene.sync(&other, &[]).await, Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
    let commit = |epoch, index| OffsetCommitRequest {
        group_id: Str::from("g"),
        generation_id_or_member_epoch: epoch,
        member_id: id.clone(),
        topics: vec![OffsetCommitTopic {
            name: Str::from("t"),
            partitions: vec![OffsetCommitPartition { partition_index: index, ..Default::default() }],
            ..OffsetCommitTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    for (epoch, index, code) in [
        (2, 0, ErrorCode::NONE),
        (1, 0, ErrorCode::NONE),
        (1, 2, ErrorCode::ILLEGAL_GENERATION),
        (3, 0, ErrorCode::ILLEGAL_GENERATION),
    ] {
        let answer = scene.wire.call(8, commit(epoch, index)).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, code, "{epoch} {index}");
    }
    // Somebody new: the member has to join again before it may ask for its share.
    scene.told(first("b")).await;
    assert_eq!(scene.sync(&joined, &[]).await, Err(ErrorCode::REBALANCE_IN_PROGRESS));
}

#[tokio::test(start_paused = true)]
async fn a_classic_member_that_does_not_join_again_in_time_is_expelled() {
    let mut scene = Scene::new();
    let joined = scene.mixed().await;
    for _ in 0..6 {
        assert_eq!(scene.heartbeat(&joined.member_id, 1).await, ErrorCode::REBALANCE_IN_PROGRESS);
        scene.told(at("a", 2)).await;
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(scene.heartbeat(&joined.member_id, 1).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(scene.told(at("a", 2)).await, (3, Some(vec![0, 1, 2, 3])));
}

#[tokio::test(start_paused = true)]
async fn a_classic_member_that_joins_again_and_asks_for_its_share_stays() {
    let mut scene = Scene::new();
    let joined = scene.mixed().await;
    assert_eq!(scene.heartbeat(&joined.member_id, 1).await, ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = scene.join(join(&joined.member_id, &[0, 1])).await;
    assert_eq!(scene.sync(&joined, &[]).await, Ok(vec![0, 1]));
    for _ in 0..8 {
        assert_eq!(scene.heartbeat(&joined.member_id, 2).await, ErrorCode::NONE);
        scene.told(at("a", 2)).await;
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(scene.broker.consumer_group("g").unwrap().members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_classic_member_that_does_not_ask_for_its_share_in_time_is_expelled() {
    let mut scene = Scene::new();
    let joined = scene.mixed().await;
    let joined = scene.join(join(&joined.member_id, &[0, 1])).await;
    for _ in 0..6 {
        assert_eq!(scene.heartbeat(&joined.member_id, 2).await, ErrorCode::NONE);
        scene.told(at("a", 2)).await;
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(scene.heartbeat(&joined.member_id, 2).await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test(start_paused = true)]
async fn a_classic_member_has_the_session_that_it_asked_for() {
    let mut scene = Scene::new();
    let joined = scene.settled().await;
    sleep(Duration::from_secs(9)).await;
    assert_eq!(scene.heartbeat(&joined.member_id, 2).await, ErrorCode::NONE);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(scene.heartbeat(&joined.member_id, 2).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(scene.told(at("a", 2)).await, (3, Some(vec![0, 1, 2, 3])));
}

#[tokio::test(start_paused = true)]
async fn sessions_begin_again_when_the_protocol_changes() {
    let mut scene = Scene::new();
    scene.mixed().await;
    sleep(Duration::from_secs(9)).await;
    assert_eq!(scene.broker.group("g").unwrap().members.len(), 2);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.told(at("a", 2)).await, (3, Some(vec![0, 1, 2, 3])), "the classic member was silent");
    scene.told(at("a", -1)).await;
    let instance = Some(Str::from("i"));
    scene.told(ConsumerGroupHeartbeatRequest { instance_id: instance.clone(), ..first("a") }).await;
    scene.join(JoinGroupRequest { group_instance_id: instance, ..join("", &[]) }).await;
    scene.check_listed("Stable", "classic").await;
    sleep(Duration::from_secs(11)).await;
    scene.check_listed("Empty", "classic").await;
}

#[tokio::test(start_paused = true)]
async fn the_group_is_classic_again_when_its_last_member_of_the_other_protocol_leaves() {
    let mut scene = Scene::new();
    let joined = scene.settled().await;
    let id = joined.member_id;
    assert_eq!(scene.told(at("a", -1)).await, (-1, None));
    scene.check_listed("PreparingRebalance", "classic").await;
    assert_eq!(scene.beat(at("a", 2)).await.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(scene.heartbeat(&id, 2).await, ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = scene.join(join(&id, &[0, 1])).await;
    assert_eq!((joined.generation_id, &joined.leader), (3, &id));
    assert_eq!(scene.sync(&joined, &[0, 1, 2, 3]).await, Ok(vec![0, 1, 2, 3]));
    scene.check_listed("Stable", "classic").await;
}

#[tokio::test(start_paused = true)]
async fn the_group_is_classic_again_when_the_last_session_of_the_other_protocol_ends() {
    let mut scene = Scene::with("group.consumer.session.timeout.ms", "6000");
    let joined = scene.settled().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(scene.heartbeat(&joined.member_id, 2).await, ErrorCode::NONE);
    sleep(Duration::from_secs(2)).await;
    scene.check_listed("PreparingRebalance", "classic").await;
}

#[tokio::test(start_paused = true)]
async fn an_administrator_removes_members_of_either_protocol() {
    let mut scene = Scene::new();
    let joined = scene.settled().await;
    assert_eq!(scene.leave("nobody").await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(scene.leave("a").await, ErrorCode::NONE);
    scene.check_listed("PreparingRebalance", "classic").await;
    assert_eq!(scene.leave(&joined.member_id).await, ErrorCode::NONE);
    scene.check_listed("Empty", "classic").await;
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_comes_back_classic_keeps_its_share_in_a_classic_group() {
    let mut scene = Scene::new();
    let instance = Some(Str::from("i"));
    let request = ConsumerGroupHeartbeatRequest { instance_id: instance.clone(), ..first("a") };
    assert_eq!(scene.told(request).await, (2, Some(vec![0, 1, 2, 3])));
    let joined = scene.join(JoinGroupRequest { group_instance_id: instance, ..join("", &[]) }).await;
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 2));
    scene.check_listed("Stable", "classic").await;
    assert_eq!(scene.sync(&joined, &[]).await, Ok(vec![0, 1, 2, 3]));
    assert_eq!(scene.heartbeat(&joined.member_id, 2).await, ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn a_static_member_of_the_classic_protocol_is_taken_over() {
    let mut scene = Scene::new();
    let instance = Some(Str::from("i"));
    let old = scene.join(JoinGroupRequest { group_instance_id: instance.clone(), ..join("", &[]) }).await;
    scene.sync(&old, &[0, 1, 2, 3]).await.unwrap();
    let request = ConsumerGroupHeartbeatRequest { instance_id: instance, ..first("a") };
    assert_eq!(scene.told(request).await, (1, Some(vec![0, 1, 2, 3])));
    assert_eq!(scene.heartbeat(&old.member_id, 1).await, ErrorCode::UNKNOWN_MEMBER_ID);
    let group = scene.broker.consumer_group("g").unwrap();
    assert_eq!((group.state, group.epoch, group.members.len()), ("Stable", 1, 1));
}

#[tokio::test(start_paused = true)]
async fn members_that_wait_in_a_rebalance_are_told_to_join_again() {
    let mut scene = Scene::new();
    let joined = scene.classic().await;
    let mut waiting = Wire::connect(&scene.broker, 1);
    let id = waiting.call(JOIN, join("", &[])).await.member_id;
    waiting.send(JOIN, &join(&id, &[])).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(scene.told(first("a")).await, (2, Some(vec![])));
    let sent_away = waiting.receive::<JoinGroupRequest>(JOIN).await;
    assert_eq!(sent_away.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(scene.heartbeat(&joined.member_id, 1).await, ErrorCode::REBALANCE_IN_PROGRESS);
    let group = scene.broker.consumer_group("g").unwrap();
    assert_eq!((group.members.len(), group.members[&*id].is_classic), (3, true));
}

#[tokio::test(start_paused = true)]
async fn members_that_wait_for_their_share_are_told_to_join_again() {
    let mut scene = Scene::new();
    let leader = scene.classic().await;
    let mut waiting = Wire::connect(&scene.broker, 1);
    let id = waiting.call(JOIN, join("", &[])).await.member_id;
    waiting.send(JOIN, &join(&id, &[])).await;
    sleep(Duration::from_millis(1)).await;
    scene.join(join(&leader.member_id, &[0, 1, 2, 3])).await;
    let joined = waiting.receive::<JoinGroupRequest>(JOIN).await;
    let request = SyncGroupRequest {
        group_id: Str::from("g"),
        generation_id: joined.generation_id,
        member_id: joined.member_id,
        ..SyncGroupRequest::default()
    };
    waiting.send(4, &request).await;
    sleep(Duration::from_millis(1)).await;
    scene.told(first("a")).await;
    let sent_away = waiting.receive::<SyncGroupRequest>(4).await;
    assert_eq!(sent_away.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
}

#[tokio::test(start_paused = true)]
async fn an_empty_group_takes_the_protocol_of_whoever_comes_first() {
    let mut scene = Scene::new();
    let joined = scene.classic().await;
    scene.leave(&joined.member_id).await;
    assert_eq!(scene.beat(at("a", 2)).await.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    scene.check_listed("Empty", "classic").await;
    assert_eq!(scene.told(first("a")).await, (2, Some(vec![0, 1, 2, 3])));
    scene.told(at("a", -1)).await;
    scene.check_listed("Empty", "consumer").await;
    assert_eq!(scene.heartbeat("x", 2).await, ErrorCode::UNKNOWN_MEMBER_ID);
    let joined = scene.classic().await;
    assert_eq!(joined.generation_id, 1);
    scene.check_listed("Stable", "classic").await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_become_a_consumer_group_goes_on_as_it_is() {
    let malformed = JoinGroupProtocol { name: Str::from("range"), metadata: Bytes::from_static(b"x") };
    let connect = JoinGroupRequest { protocol_type: Str::from("connect"), ..join("", &[]) };
    for (request, policy) in [
        (connect, "bidirectional"),
        (JoinGroupRequest { protocols: vec![malformed], ..join("", &[]) }, "bidirectional"),
        (join("", &[]), "disabled"),
    ] {
        let mut scene = Scene::with("group.consumer.migration.policy", policy);
        let member_id = scene.join(request.clone()).await.member_id;
        let joined = scene.join(JoinGroupRequest { member_id, ..request }).await;
        assert_eq!(scene.beat(first("a")).await.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
        scene.check_listed("CompletingRebalance", "classic").await;
        assert_eq!(scene.heartbeat(&joined.member_id, 1).await, ErrorCode::NONE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_group_stays_classic_but_for_whom_takes_over_an_instance() {
    let mut scene = Scene::with("group.consumer.max.size", "1");
    let joined = scene.classic().await;
    assert_eq!(scene.beat(first("a")).await.error_code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    scene.check_listed("Stable", "classic").await;
    assert_eq!(scene.heartbeat(&joined.member_id, 1).await, ErrorCode::NONE);
    scene.leave(&joined.member_id).await;
    let instance = Some(Str::from("i"));
    let old = scene.join(JoinGroupRequest { group_instance_id: instance.clone(), ..join("", &[]) }).await;
    scene.sync(&old, &[0, 1, 2, 3]).await.unwrap();
    let generation = old.generation_id;
    let request = ConsumerGroupHeartbeatRequest { instance_id: instance, ..first("a") };
    assert_eq!(scene.told(request).await, (generation, Some(vec![0, 1, 2, 3])));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_may_not_go_back_stays_as_it_is() {
    let mut scene = Scene::with("group.consumer.migration.policy", "upgrade");
    let joined = scene.settled().await;
    scene.told(at("a", -1)).await;
    scene.check_listed("Assigning", "consumer").await;
    let joined = scene.join(join(&joined.member_id, &[0, 1])).await;
    assert_eq!(scene.sync(&joined, &[]).await, Ok(vec![0, 1, 2, 3]));
}
