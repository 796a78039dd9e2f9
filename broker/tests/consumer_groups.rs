//! The life of consumer groups (KIP-848), as members see it. The answers are those of Apache Kafka 4.4.0 to the same calls.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::{Broker, ConsumerGroupView};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::Str;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::sleep;
use wire::*;

type Heartbeat = ConsumerGroupHeartbeatRequest;

/// A group's coordinator, with a connection to it.
struct Scene {
    broker: Broker,
    wire: Wire,
}

impl Scene {
    /// Topic `t` has four partitions, `u` two.
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let builder = Broker::builder().topic("t", 4).topic("u", 2);
        let builder = settings.iter().fold(builder, |builder, (name, value)| builder.setting(*name, *value));
        let broker = builder.build().unwrap();
        broker.coordinator("g").unwrap();
        let wire = Wire::connect(&broker, 1);
        Self { broker, wire }
    }

    async fn beat(&mut self, request: Heartbeat) -> ConsumerGroupHeartbeatResponse {
        self.wire.call(1, request).await
    }

    /// A heartbeat that is fine: the member's epoch, and what it is told to own if it is told.
    async fn told(&mut self, request: Heartbeat) -> (i32, Option<Vec<(String, i32)>>) {
        let answer = self.beat(request).await;
        assert_eq!((answer.error_code, answer.error_message.as_deref()), (ErrorCode::NONE, None));
        (answer.member_epoch, answer.assignment.map(|it| self.named(&it.topic_partitions)))
    }

    async fn refused(&mut self, request: Heartbeat) -> ErrorCode {
        let answer = self.beat(request).await;
        assert!(answer.error_code.is_ok() || answer.error_message.is_some(), "{answer:?}");
        answer.error_code
    }

    fn named(&self, topics: &[GroupTopicPartitions]) -> Vec<(String, i32)> {
        let name = |id| self.broker.topics().into_iter().find(|name| self.broker.topic_id(name) == Some(id));
        let mut named: Vec<(String, i32)> = topics
            .iter()
            .flat_map(|it| it.partitions.iter().map(move |index| (name(it.topic_id).unwrap(), *index)))
            .collect();
        named.sort();
        named
    }

    /// What a member says that owns these partitions.
    fn owns(&self, request: Heartbeat, owned: &[(&str, &[i32])]) -> Heartbeat {
        let owned = owned.iter().map(|(topic, partitions)| GroupTopicPartitions {
            topic_id: self.broker.topic_id(topic).unwrap(),
            partitions: partitions.to_vec(),
        });
        Heartbeat { topic_partitions: Some(owned.collect()), ..request }
    }

    fn group(&self) -> ConsumerGroupView {
        self.broker.consumer_group("g").unwrap()
    }

    /// `a` owns 0 and 1 of `t`, `b` owns 2 and 3; both are in epoch 3.
    async fn pair(&mut self) {
        assert_eq!(self.told(join("a", &["t"])).await, (2, t(&[0, 1, 2, 3])));
        assert_eq!(self.told(join("b", &["t"])).await, (3, t(&[])));
        assert_eq!(self.told(at("a", 2)).await, (2, t(&[0, 1])));
        assert_eq!(self.told(self.owns(at("a", 2), &[("t", &[0, 1])])).await, (3, None));
        assert_eq!(self.told(at("b", 3)).await, (3, t(&[2, 3])));
        assert_eq!(self.group().state, "Stable");
    }

    async fn commit(&mut self, version: i16, member: &str, epoch: i32, index: i32) -> ErrorCode {
        let partition =
            OffsetCommitPartition { partition_index: index, committed_offset: 5, ..Default::default() };
        let topic = OffsetCommitTopic {
            name: Str::from("t"),
            topic_id: self.broker.topic_id("t").unwrap(),
            partitions: vec![partition],
        };
        let request = OffsetCommitRequest {
            group_id: Str::from("g"),
            generation_id_or_member_epoch: epoch,
            member_id: Str::from(member),
            topics: vec![topic],
            ..Default::default()
        };
        self.wire.call(version, request).await.topics[0].partitions[0].error_code
    }

    async fn fetch(&mut self, member: Option<&str>, epoch: i32) -> Result<i64, ErrorCode> {
        let topic = OffsetFetchTopic {
            name: Str::from("t"),
            partition_indexes: vec![0],
            ..OffsetFetchTopic::default()
        };
        let group = OffsetFetchGroup {
            group_id: Str::from("g"),
            member_id: member.map(Str::from),
            member_epoch: epoch,
            topics: Some(vec![topic]),
        };
        let request = OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
        let fetched = self.wire.call(9, request).await.groups.remove(0);
        match fetched.error_code {
            ErrorCode::NONE => Ok(fetched.topics[0].partitions[0].committed_offset),
            code => Err(code),
        }
    }

    async fn create(&mut self, topic: &str) {
        let topic = CreatableTopic {
            name: Str::from(topic),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        assert_eq!(self.wire.call(7, request).await.topics[0].error_code, ErrorCode::NONE);
    }
}

/// Some partitions of the topic `t`.
fn t(indexes: &[i32]) -> Option<Vec<(String, i32)>> {
    Some(places("t", indexes))
}

fn places(topic: &str, indexes: &[i32]) -> Vec<(String, i32)> {
    indexes.iter().map(|index| (topic.to_string(), *index)).collect()
}

/// The first heartbeat of a member.
fn join(member: &str, topics: &[&str]) -> Heartbeat {
    Heartbeat {
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(topics.iter().map(|topic| Str::from(*topic)).collect()),
        topic_partitions: Some(Vec::new()),
        ..at(member, 0)
    }
}

fn join_by(member: &str, pattern: &str) -> Heartbeat {
    Heartbeat {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(Str::from(pattern)),
        ..join(member, &[])
    }
}

/// A heartbeat that says nothing new.
fn at(member: &str, epoch: i32) -> Heartbeat {
    Heartbeat {
        group_id: Str::from("g"),
        member_id: Str::from(member),
        member_epoch: epoch,
        ..Heartbeat::default()
    }
}

fn instance(request: Heartbeat, id: &str) -> Heartbeat {
    Heartbeat { instance_id: Some(Str::from(id)), ..request }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_joins_alone_gets_everything_at_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.told(join("a", &["t", "nowhere"])).await, (2, t(&[0, 1, 2, 3])));
    assert_eq!(scene.told(at("a", 2)).await, (2, None), "nothing has changed");
    let answer = scene.beat(at("a", 2)).await;
    assert_eq!((answer.member_id.as_deref(), answer.heartbeat_interval_ms), (Some("a"), 5000));
}

#[tokio::test(start_paused = true)]
async fn before_version_one_the_broker_names_members() {
    let mut scene = Scene::new();
    let joined = scene.wire.call(0, join("", &["t"])).await;
    assert_eq!((joined.error_code, joined.member_epoch), (ErrorCode::NONE, 2));
    let id = joined.member_id.unwrap();
    assert_eq!(id.len(), 22, "{id}: a UUID as Kafka writes it");
    assert_eq!(scene.told(at(&id, 2)).await, (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_partition_goes_to_another_member_only_after_it_was_given_up() {
    let mut scene = Scene::new();
    scene.told(join("a", &["t"])).await;
    assert_eq!(scene.told(join("b", &["t"])).await, (3, t(&[])));
    assert_eq!(scene.told(at("a", 2)).await, (2, t(&[0, 1])), "it stays in its epoch and gives up");
    assert_eq!(scene.told(at("b", 3)).await, (3, None));
    assert_eq!(scene.told(scene.owns(at("a", 2), &[("t", &[0, 1, 3])])).await, (2, None));
    assert_eq!(scene.told(at("b", 3)).await, (3, None), "one partition is not given up yet");
    let group = scene.group();
    assert_eq!((group.state, group.epoch, group.assignment_epoch), ("Reconciling", 3, 3));
    assert_eq!(group.members["a"].assigned, places("t", &[0, 1]));
    assert_eq!(group.members["a"].revoking, places("t", &[2, 3]));
    assert_eq!(group.members["b"].target, places("t", &[2, 3]));
    assert_eq!(scene.told(scene.owns(at("a", 2), &[("t", &[0, 1])])).await, (3, None));
    assert_eq!(scene.told(at("b", 3)).await, (3, t(&[2, 3])));
    assert_eq!(scene.group().state, "Stable");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_hands_over_and_is_forgotten() {
    let mut scene = Scene::new();
    scene.pair().await;
    assert_eq!(scene.told(at("b", -1)).await, (-1, None));
    assert_eq!((scene.group().state, scene.group().epoch), ("Assigning", 4));
    assert_eq!(scene.refused(at("b", -1)).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(scene.told(at("a", 3)).await, (4, t(&[0, 1, 2, 3])));
    scene.told(at("a", -1)).await;
    let group = scene.group();
    assert_eq!((group.state, group.epoch, group.assignment_epoch), ("Empty", 5, 5));
    assert_eq!(scene.told(join("c", &["t"])).await, (6, t(&[0, 1, 2, 3])), "epochs go on");
}

#[tokio::test(start_paused = true)]
async fn members_with_the_wrong_epoch_are_fenced_unless_an_answer_may_be_lost() {
    let mut scene = Scene::new();
    scene.pair().await;
    assert_eq!(scene.refused(at("a", 4)).await, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(
        scene.refused(at("a", 2)).await,
        ErrorCode::FENCED_MEMBER_EPOCH,
        "it does not say what it owns"
    );
    let owns_more = scene.owns(at("a", 2), &[("t", &[0, 2])]);
    assert_eq!(scene.refused(owns_more).await, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(scene.told(scene.owns(at("a", 2), &[("t", &[0])])).await, (3, None));
    let full = Heartbeat { member_epoch: 2, ..scene.owns(join("a", &["t"]), &[("t", &[0, 1])]) };
    assert_eq!(scene.told(full).await, (3, t(&[0, 1])), "who says everything is told everything");
    assert_eq!(scene.told(join("a", &["t"])).await, (3, t(&[0, 1])), "and so is who starts again");
    assert_eq!(scene.refused(at("x", 3)).await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused() {
    let mut scene = Scene::new();
    let fine = || join("a", &["t"]);
    let blank = Some(Str::from(" "));
    for senseless in [
        Heartbeat { group_id: Str::from(""), ..fine() },
        Heartbeat { member_id: Str::from(""), ..fine() },
        Heartbeat { instance_id: blank.clone(), ..fine() },
        Heartbeat { rack_id: blank, ..fine() },
        Heartbeat { rebalance_timeout_ms: -1, ..fine() },
        Heartbeat { topic_partitions: None, ..fine() },
        Heartbeat { subscribed_topic_names: None, ..fine() },
        Heartbeat { member_epoch: -3, ..fine() },
        scene.owns(fine(), &[("t", &[0])]),
        at("a", -2),
    ] {
        assert_eq!(scene.refused(senseless.clone()).await, ErrorCode::INVALID_REQUEST, "{senseless:?}");
    }
    let magic = Heartbeat { server_assignor: Some(Str::from("magic")), ..fine() };
    assert_eq!(scene.refused(magic).await, ErrorCode::UNSUPPORTED_ASSIGNOR);
    assert_eq!(scene.refused(join_by("a", "(a")).await, ErrorCode::INVALID_REGULAR_EXPRESSION);
    for epoch in [5, -1] {
        assert_eq!(scene.refused(at("a", epoch)).await, ErrorCode::GROUP_ID_NOT_FOUND);
    }
    assert!(scene.broker.group("g").is_none(), "nothing of this made a group");
}

#[tokio::test(start_paused = true)]
async fn a_member_without_heartbeats_is_expelled_after_its_session() {
    let mut scene = Scene::with(&[("group.consumer.session.timeout.ms", "6000")]);
    scene.pair().await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(scene.told(at("a", 3)).await, (3, None));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.told(at("a", 3)).await, (4, t(&[0, 1, 2, 3])));
    assert_eq!(scene.refused(at("b", 3)).await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_give_up_in_time_is_expelled() {
    let mut scene = Scene::new();
    scene.told(join("a", &["t"])).await;
    scene.told(join("b", &["t"])).await;
    scene.told(at("a", 2)).await;
    for _ in 0..4 {
        sleep(Duration::from_secs(7)).await;
        assert_eq!(scene.told(at("a", 2)).await, (2, None), "its time does not begin again");
        scene.told(at("b", 3)).await;
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.refused(at("a", 2)).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(scene.told(at("b", 3)).await, (4, t(&[0, 1, 2, 3])));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_gave_up_in_time_stays() {
    let mut scene = Scene::new();
    scene.pair().await;
    sleep(Duration::from_secs(29)).await;
    assert_eq!(scene.told(at("a", 3)).await, (3, None));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.told(at("a", 3)).await, (3, None));
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_leaves_for_a_while_finds_its_share_again() {
    let mut scene = Scene::new();
    scene.told(instance(join("a", &["t"]), "i")).await;
    for again in ["a", "b"] {
        let code = scene.refused(instance(join(again, &["t"]), "i")).await;
        assert_eq!(code, ErrorCode::UNRELEASED_INSTANCE_ID, "{again}");
    }
    assert_eq!(scene.refused(instance(at("b", 2), "i")).await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(scene.refused(instance(at("b", -2), "i")).await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(scene.refused(instance(at("b", 2), "j")).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(scene.told(instance(at("a", -2), "i")).await, (-2, None));
    assert_eq!(scene.group().members["a"].epoch, -2);
    assert_eq!(scene.told(join("c", &["t"])).await, (3, t(&[])), "its partitions wait for it");
    assert_eq!(scene.told(instance(join("b", &["t"]), "i")).await, (3, t(&[0, 1])));
    assert_eq!(scene.refused(instance(at("a", 2), "i")).await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(scene.refused(at("a", 2)).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(scene.told(at("c", 3)).await, (3, t(&[2, 3])));
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_leaves_for_a_while_gives_up_what_it_had_to() {
    let mut scene = Scene::new();
    scene.told(instance(join("a", &["t"]), "i")).await;
    scene.told(join("b", &["t"])).await;
    assert_eq!(scene.told(instance(at("a", 2), "i")).await, (2, t(&[0, 1])));
    scene.told(instance(at("a", -2), "i")).await;
    assert_eq!(scene.told(at("b", 3)).await, (3, t(&[2, 3])));
    sleep(Duration::from_secs(31)).await;
    assert_eq!(scene.group().members["a"].epoch, -2, "its session is all that it has to keep");
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_does_not_come_back_is_missed_after_its_session() {
    let mut scene = Scene::new();
    scene.told(instance(join("a", &["t"]), "i")).await;
    scene.told(instance(at("a", -2), "i")).await;
    sleep(Duration::from_secs(44)).await;
    assert_eq!(scene.group().members.len(), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.group().state, "Empty");
}

#[tokio::test(start_paused = true)]
async fn a_full_group_takes_no_more_members() {
    let mut scene = Scene::with(&[("group.consumer.max.size", "1")]);
    scene.told(join("a", &["t"])).await;
    assert_eq!(scene.refused(join("b", &["t"])).await, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(scene.refused(instance(join("b", &["t"]), "i")).await, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(scene.told(instance(join("a", &["t"]), "i")).await, (2, t(&[0, 1, 2, 3])));
    scene.told(instance(at("a", -2), "i")).await;
    assert_eq!(scene.told(instance(join("b", &["t"]), "i")).await.0, 2, "it takes the place of another");
}

#[tokio::test(start_paused = true)]
async fn what_a_member_does_not_read_any_more_goes_to_others() {
    let mut scene = Scene::new();
    scene.pair().await;
    let more = Heartbeat { subscribed_topic_names: Some(vec!["t".into(), "u".into()]), ..at("b", 3) };
    assert_eq!(scene.told(more).await, (3, t(&[2])), "it reads more, and gives up for that");
    assert_eq!(scene.told(scene.owns(at("b", 3), &[("t", &[2])])).await.0, 4);
    assert_eq!(scene.group().members["b"].assigned.len(), 3);
    assert_eq!(scene.told(at("a", 3)).await, (4, t(&[0, 1, 3])));
    let less = Heartbeat { subscribed_topic_names: Some(vec!["u".into()]), ..at("b", 4) };
    assert_eq!(scene.told(less).await, (4, Some(places("u", &[0, 1]))));
}

#[tokio::test(start_paused = true)]
async fn topics_that_come_and_go_change_the_assignment() {
    let mut scene = Scene::new();
    assert_eq!(scene.told(join("a", &["new", "u"])).await, (2, Some(places("u", &[0, 1]))));
    scene.create("new").await;
    let both = [places("new", &[0]), places("u", &[0, 1])].concat();
    assert_eq!(scene.told(at("a", 2)).await, (3, Some(both)));
    let gone = DeleteTopicState { name: Some(Str::from("u")), ..DeleteTopicState::default() };
    let request = DeleteTopicsRequest { topics: vec![gone], ..DeleteTopicsRequest::default() };
    scene.wire.call(6, request).await;
    assert_eq!(scene.told(at("a", 3)).await, (3, Some(places("new", &[0]))), "it must give up first");
    assert_eq!(scene.told(scene.owns(at("a", 3), &[("new", &[0])])).await, (4, None));
}

#[tokio::test(start_paused = true)]
async fn a_pattern_matches_whole_names_and_new_topics_after_a_while() {
    let mut scene = Scene::new();
    assert_eq!(scene.told(join_by("a", "t|x.*")).await, (1, Some(Vec::new())), "first it is looked");
    assert_eq!(scene.told(at("a", 1)).await, (2, t(&[0, 1, 2, 3])));
    let full = Heartbeat { member_epoch: 2, ..scene.owns(join_by("a", "t|x.*"), &[("t", &[0, 1, 2, 3])]) };
    assert_eq!(scene.told(full).await, (2, t(&[0, 1, 2, 3])), "who says everything is told everything");
    scene.create("x1").await;
    assert_eq!(scene.told(at("a", 2)).await, (2, None));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.told(at("a", 2)).await, (2, None));
    let more = [places("t", &[0, 1, 2, 3]), places("x1", &[0])].concat();
    assert_eq!(scene.told(at("a", 2)).await, (3, Some(more)));
    // Without a pattern nothing is left of what it read by it.
    let none = Heartbeat { subscribed_topic_regex: Some(Str::from("")), ..at("a", 3) };
    assert_eq!(scene.told(none).await, (3, Some(Vec::new())));
}

#[tokio::test(start_paused = true)]
async fn a_pattern_that_is_known_counts_at_once_and_another_when_it_was_looked() {
    let mut scene = Scene::new();
    scene.told(join_by("a", "t")).await;
    assert_eq!(scene.told(at("a", 1)).await, (2, t(&[0, 1, 2, 3])));
    assert_eq!(scene.told(join_by("b", "t")).await, (3, t(&[])));
    assert_eq!(scene.told(join_by("c", "u")).await, (3, t(&[])));
    assert_eq!(scene.group().epoch, 3);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.told(at("c", 3)).await, (3, None));
    assert_eq!(scene.told(at("c", 3)).await, (4, Some(places("u", &[0, 1]))));
}

#[tokio::test(start_paused = true)]
async fn the_assignor_that_most_members_ask_for_is_used() {
    let mut scene = Scene::new();
    let range = |member| Heartbeat { server_assignor: Some(Str::from("range")), ..join(member, &["t"]) };
    scene.told(join("a", &["t"])).await;
    assert_eq!(scene.group().assignor, "uniform");
    scene.told(range("b")).await;
    assert_eq!(scene.group().assignor, "range");
    let uniform = Heartbeat { server_assignor: Some(Str::from("uniform")), ..at("a", 2) };
    scene.told(uniform).await;
    assert_eq!(scene.group().assignor, "uniform", "in a draw");
    scene.told(range("c")).await;
    assert_eq!(scene.group().assignor, "range");
}

#[tokio::test(start_paused = true)]
async fn assignments_keep_their_distance_if_told_to() {
    let mut scene = Scene::with(&[("group.consumer.assignment.interval.ms", "1000")]);
    assert_eq!(scene.told(join("a", &["t"])).await, (2, t(&[0, 1, 2, 3])));
    assert_eq!(scene.told(join("b", &["t"])).await, (2, t(&[])));
    assert_eq!((scene.group().state, scene.group().epoch), ("Assigning", 3));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.told(at("a", 2)).await, (2, t(&[0, 1])));
    assert_eq!(scene.told(at("b", 2)).await, (3, None));
}

#[tokio::test(start_paused = true)]
async fn what_a_member_reads_counts_at_once_although_the_assignment_is_older() {
    let mut scene = Scene::with(&[("group.consumer.assignment.interval.ms", "1000")]);
    scene.told(join("a", &["t", "u"])).await;
    let reads = |topic: &str| Heartbeat { subscribed_topic_names: Some(vec![topic.into()]), ..at("a", 2) };
    assert_eq!(scene.told(reads("u")).await, (2, Some(places("u", &[0, 1]))));
    assert_eq!(scene.told(scene.owns(at("a", 2), &[("u", &[0, 1])])).await, (2, None));
    assert_eq!(scene.group().members["a"].assigned, places("u", &[0, 1]));
    assert_eq!(scene.told(reads("t")).await, (2, Some(Vec::new())));
    assert_eq!(scene.told(scene.owns(at("a", 2), &[])).await, (2, t(&[0, 1, 2, 3])));
}

#[tokio::test(start_paused = true)]
async fn what_a_member_is_giving_up_it_can_have_again_at_once() {
    let mut scene = Scene::with(&[("group.consumer.assignment.interval.ms", "1000")]);
    scene.told(join("a", &["t", "u"])).await;
    let reads = |topic: &str| Heartbeat { subscribed_topic_names: Some(vec![topic.into()]), ..at("a", 2) };
    assert_eq!(scene.told(reads("u")).await, (2, Some(places("u", &[0, 1]))));
    assert_eq!(scene.told(reads("t")).await, (2, Some(Vec::new())));
    assert_eq!(scene.told(scene.owns(at("a", 2), &[])).await, (2, t(&[0, 1, 2, 3])));
}

#[tokio::test(start_paused = true)]
async fn commits_count_for_what_a_member_has_held_since() {
    let mut scene = Scene::new();
    assert_eq!(scene.commit(9, "a", 1, 0).await, ErrorCode::GROUP_ID_NOT_FOUND);
    scene.pair().await;
    assert_eq!(scene.commit(9, "a", 3, 0).await, ErrorCode::NONE);
    assert_eq!(scene.commit(10, "a", 3, 2).await, ErrorCode::NONE, "the newest epoch is not asked for more");
    assert_eq!(scene.commit(9, "a", 2, 1).await, ErrorCode::NONE, "it has had this one since");
    assert_eq!(scene.commit(9, "a", 2, 2).await, ErrorCode::STALE_MEMBER_EPOCH, "and this one no longer");
    assert_eq!(scene.commit(9, "b", 2, 2).await, ErrorCode::STALE_MEMBER_EPOCH, "it got it later");
    assert_eq!(scene.commit(9, "a", 4, 0).await, ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(scene.commit(9, "a", -1, 0).await, ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(scene.commit(8, "a", 3, 0).await, ErrorCode::UNSUPPORTED_VERSION);
    for (member, epoch) in [("", -1), ("x", 3)] {
        assert_eq!(scene.commit(9, member, epoch, 0).await, ErrorCode::UNKNOWN_MEMBER_ID);
    }
    for member in ["a", "b"] {
        scene.told(at(member, -1)).await;
    }
    assert_eq!(scene.commit(9, "", -1, 0).await, ErrorCode::NONE, "an administrator, in an empty group");
}

#[tokio::test(start_paused = true)]
async fn offsets_are_told_to_members_of_the_epoch_and_to_administrators() {
    let mut scene = Scene::new();
    assert_eq!(scene.fetch(Some("a"), 2).await, Ok(-1), "there is no such group");
    scene.pair().await;
    scene.commit(9, "a", 3, 0).await;
    assert_eq!(scene.fetch(Some("a"), 3).await, Ok(5));
    assert_eq!(scene.fetch(None, -1).await, Ok(5));
    for epoch in [2, 4, -1] {
        assert_eq!(scene.fetch(Some("a"), epoch).await, Err(ErrorCode::STALE_MEMBER_EPOCH));
    }
    for epoch in [3, -1] {
        assert_eq!(scene.fetch(Some("x"), epoch).await, Err(ErrorCode::UNKNOWN_MEMBER_ID));
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_in_a_transaction_are_fenced_by_the_epoch() {
    let mut scene = Scene::new();
    scene.broker.transaction_coordinator("x").unwrap();
    scene.pair().await;
    let txn = Txn::new(&mut scene.wire, "x").await;
    let commit = |member: &str, epoch, index| TxnOffsetCommitRequest {
        member_id: Str::from(member),
        generation_id_or_member_epoch: epoch,
        ..txn.commit_offset("g", "t", index, 7)
    };
    for (member, epoch, index, code) in [
        ("a", 3, 0, ErrorCode::NONE),
        ("a", 2, 1, ErrorCode::NONE),
        ("a", 2, 2, ErrorCode::ILLEGAL_GENERATION),
        ("a", 4, 0, ErrorCode::ILLEGAL_GENERATION),
        ("x", 3, 0, ErrorCode::UNKNOWN_MEMBER_ID),
        ("", -1, 3, ErrorCode::NONE),
    ] {
        let answer = scene.wire.call(5, commit(member, epoch, index)).await;
        assert_eq!(offset_committed(answer), code, "{member} {epoch} {index}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_survives_its_coordinator() {
    let broker = Broker::builder().nodes(2).topic("t", 4).build().unwrap();
    broker.coordinator("g");
    broker.move_coordinator("g", 1).unwrap();
    let wire = Wire::connect(&broker, 1);
    let mut scene = Scene { broker, wire };
    scene.told(join("a", &["t"])).await;
    scene.told(join("b", &["t"])).await;
    scene.told(at("a", 2)).await;
    scene.broker.move_coordinator("g", 2).unwrap();
    assert_eq!(scene.beat(at("a", 2)).await.error_code, ErrorCode::NOT_COORDINATOR);
    scene.wire = Wire::connect(&scene.broker, 2);
    assert_eq!(scene.told(scene.owns(at("a", 2), &[("t", &[0, 1])])).await, (3, None));
    assert_eq!(scene.told(at("b", 3)).await, (3, t(&[2, 3])));
    sleep(Duration::from_secs(44)).await;
    assert_eq!(scene.told(at("a", 3)).await, (3, None), "sessions begin again");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.group().members.keys().collect::<Vec<_>>(), ["a"], "and end");
}

#[tokio::test(start_paused = true)]
async fn sessions_and_the_time_to_give_up_begin_again_with_another_coordinator() {
    let broker = Broker::builder().nodes(2).topic("t", 4).build().unwrap();
    broker.coordinator("g");
    broker.move_coordinator("g", 1).unwrap();
    let wire = Wire::connect(&broker, 1);
    let mut scene = Scene { broker, wire };
    scene.told(join("a", &["t"])).await;
    scene.told(join("b", &["t"])).await;
    scene.told(at("a", 2)).await;
    scene.broker.move_coordinator("g", 2).unwrap();
    scene.wire = Wire::connect(&scene.broker, 2);
    sleep(Duration::from_secs(29)).await;
    assert_eq!(scene.told(at("a", 2)).await, (2, None));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.refused(at("a", 2)).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(scene.group().members.len(), 1);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(scene.group().state, "Empty", "the other was silent for its whole session");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_feature_has_no_consumer_groups() {
    let mut scene = Scene::new();
    scene.broker.set_group_version(0).unwrap();
    assert_eq!(scene.beat(join("a", &["t"])).await.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let request = ApiVersionsRequest {
        client_software_name: Str::from("test"),
        client_software_version: Str::from("1"),
        ..ApiVersionsRequest::default()
    };
    let levels = |answer: ApiVersionsResponse| {
        let features = answer.finalized_features.into_iter();
        features.map(|it| (it.name.to_string(), it.max_version_level)).collect::<Vec<_>>()
    };
    let level = |name: &str, level| (name.to_string(), level);
    assert_eq!(levels(scene.wire.call(4, request.clone()).await), [level("transaction.version", 2)]);
    scene.broker.set_group_version(1).unwrap();
    assert_eq!(
        levels(scene.wire.call(4, request).await),
        [level("group.version", 1), level("transaction.version", 2)]
    );
    assert_eq!(scene.broker.set_group_version(2), Err(ErrorCode::INVALID_UPDATE_VERSION));
    assert_eq!(scene.told(join("a", &["t"])).await, (2, t(&[0, 1, 2, 3])));
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_described_and_deleted_by_their_type() {
    let mut scene = Scene::new();
    scene.pair().await;
    let list = |states: &[&str], types: &[&str]| ListGroupsRequest {
        states_filter: states.iter().map(|it| Str::from(*it)).collect(),
        types_filter: types.iter().map(|it| Str::from(*it)).collect(),
    };
    for (request, count) in [
        (list(&[], &[]), 1),
        (list(&["stable"], &["Consumer"]), 1),
        (list(&["Empty"], &[]), 0),
        (list(&[], &["classic"]), 0),
    ] {
        assert_eq!(scene.wire.call(5, request.clone()).await.groups.len(), count, "{request:?}");
    }
    let ids = vec![Str::from("g"), Str::from("none")];
    let request =
        ConsumerGroupDescribeRequest { group_ids: ids.clone(), include_authorized_operations: true };
    let described = scene.wire.call(1, request).await.groups;
    let group = &described[0];
    assert_eq!(
        (group.error_code, &*group.group_state, &*group.assignor_name),
        (ErrorCode::NONE, "Stable", "uniform")
    );
    assert_eq!((group.group_epoch, group.assignment_epoch, group.authorized_operations), (3, 3, 3400));
    let member = &group.members[1];
    assert_eq!((&*member.member_id, member.member_epoch, member.member_type), ("b", 3, 1));
    let share = &member.assignment.topic_partitions[0];
    assert_eq!((&*share.topic_name, &share.partitions), ("t", &vec![2, 3]));
    assert_eq!(member.target_assignment, member.assignment);
    assert_eq!(described[1].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    let classic =
        scene.wire.call(6, DescribeGroupsRequest { groups: ids, ..Default::default() }).await.groups;
    assert_eq!((classic[0].error_code, &*classic[0].group_state), (ErrorCode::GROUP_ID_NOT_FOUND, "Dead"));
    let delete = || DeleteGroupsRequest { groups_names: vec![Str::from("g")] };
    assert_eq!(scene.wire.call(2, delete()).await.results[0].error_code, ErrorCode::NON_EMPTY_GROUP);
    let offsets = |topic: &str| OffsetDeleteRequest {
        group_id: Str::from("g"),
        topics: vec![OffsetDeleteTopic {
            name: Str::from(topic),
            partitions: vec![OffsetDeletePartition { partition_index: 0 }],
        }],
    };
    scene.commit(9, "a", 3, 0).await;
    let code = |answer: OffsetDeleteResponse| answer.topics[0].partitions[0].error_code;
    assert_eq!(code(scene.wire.call(0, offsets("t")).await), ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
    assert_ne!(code(scene.wire.call(0, offsets("u")).await), ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
    for member in ["a", "b"] {
        scene.told(at(member, -1)).await;
    }
    assert_eq!(scene.wire.call(2, delete()).await.results[0].error_code, ErrorCode::NONE);
    assert!(scene.broker.group("g").is_none());
}

/// A member that keeps the protocol: what it believes to own, and what it says next.
#[derive(Default)]
struct Client {
    epoch: i32,
    owned: BTreeSet<(String, i32)>,
    /// It lost an answer, and says everything about itself until it has one.
    in_doubt: bool,
    topics: Vec<&'static str>,
}

impl Client {
    fn says(&self, scene: &Scene, id: &str) -> Heartbeat {
        let of = |topic| self.owned.iter().filter(move |(name, _)| *name == topic).map(|(_, index)| *index);
        let owned = ["t", "u"].map(|topic| (topic, of(topic).collect::<Vec<i32>>()));
        let owned: Vec<(&str, &[i32])> =
            owned.iter().map(|(topic, indexes)| (*topic, &indexes[..])).collect();
        let owned: Vec<_> = owned.into_iter().filter(|(_, indexes)| !indexes.is_empty()).collect();
        let full = Heartbeat { member_epoch: self.epoch, ..join(id, &self.topics) };
        if self.epoch == 0 || self.in_doubt {
            return scene.owns(full, if self.epoch == 0 { &[] } else { &owned });
        }
        scene.owns(at(id, self.epoch), &owned)
    }

    fn hears(&mut self, scene: &Scene, answer: ConsumerGroupHeartbeatResponse) {
        if !answer.error_code.is_ok() {
            let topics = std::mem::take(&mut self.topics);
            *self = Self { topics, ..Self::default() };
            return;
        }
        (self.epoch, self.in_doubt) = (answer.member_epoch, false);
        if let Some(share) = answer.assignment {
            self.owned = scene.named(&share.topic_partitions).into_iter().collect();
        }
    }
}

/// C5: members come, go, read other topics and lose answers, in an order drawn from the seed. At no time do two of them
/// believe to own the same partition, and once it is quiet every partition is owned.
#[tokio::test(start_paused = true)]
async fn no_partition_has_two_owners_whatever_members_do() {
    for seed in 1..=15u64 {
        let mut scene = Scene::new();
        let mut state = seed;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut clients: BTreeMap<String, Client> = BTreeMap::new();
        for step in 0..150 {
            let id = format!("m{}", draw(5));
            let topics = [vec!["t"], vec!["u"], vec!["t", "u"]][draw(3) as usize].clone();
            let (what, answer_is_lost) = (draw(12), draw(5) == 0);
            let Some(client) = clients.get_mut(&id) else {
                clients.insert(id, Client { topics, ..Client::default() });
                continue;
            };
            if what == 0 && client.epoch > 0 {
                scene.beat(at(&id, -1)).await;
                clients.remove(&id);
                continue;
            }
            let mut said = client.says(&scene, &id);
            if what == 1 && client.epoch > 0 {
                said.subscribed_topic_names = Some(topics.iter().map(|it| Str::from(*it)).collect());
                client.topics = topics;
            }
            let answer = scene.beat(said).await;
            match answer_is_lost {
                true => client.in_doubt = true,
                false => client.hears(&scene, answer),
            }
            let mut owned = BTreeSet::new();
            for place in clients.values().flat_map(|client| &client.owned) {
                assert!(owned.insert(place), "seed {seed}, step {step}: {place:?} has two owners");
            }
        }
        for _ in 0..20 {
            for (id, client) in &mut clients {
                let answer = scene.beat(client.says(&scene, id)).await;
                client.hears(&scene, answer);
            }
        }
        let reads: BTreeSet<&str> =
            clients.values().flat_map(|client| client.topics.iter().copied()).collect();
        let all = [places("t", &[0, 1, 2, 3]), places("u", &[0, 1])].concat();
        let all: BTreeSet<_> = all.iter().filter(|(topic, _)| reads.contains(&**topic)).collect();
        let owned: BTreeSet<_> = clients.values().flat_map(|client| &client.owned).collect();
        assert_eq!((owned, scene.group().state), (all, "Stable"), "seed {seed}");
    }
}
