//! Topics come and go, and metadata tells of them, of nodes and of coordinators.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::{Str, Uuid};
use wire::*;

fn create(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic { name: Str::from(name), num_partitions, replication_factor, ..CreatableTopic::default() }
}

async fn create_code(wire: &mut Wire, topic: CreatableTopic) -> ErrorCode {
    let answer = wire.call(7, CreateTopicsRequest { topics: vec![topic], ..Default::default() }).await;
    answer.topics[0].error_code
}

fn named(names: &[&str]) -> MetadataRequest {
    let topics =
        names.iter().map(|name| MetadataTopic { name: Some(Str::from(*name)), ..Default::default() });
    MetadataRequest { topics: Some(topics.collect()), ..MetadataRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn every_version_creates_a_topic_and_metadata_describes_it() {
    let broker = Broker::builder().nodes(3).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    for version in 2..=7 {
        let name = format!("t{version}");
        let request = CreateTopicsRequest { topics: vec![create(&name, 4, 2)], ..Default::default() };
        let created = &wire.call(version, request).await.topics[0];
        assert_eq!(created.error_code, ErrorCode::NONE, "v{version}");
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (4, 2));
        }
    }
    for version in 0..=13 {
        let answer = wire.call(version, named(&["t7", "none"])).await;
        assert_eq!(answer.brokers.len(), 3);
        assert_eq!((&*answer.brokers[1].host, answer.brokers[1].port), ("node-2", 9092));
        let [known, unknown] = &answer.topics[..] else { panic!("two topics were asked for") };
        assert_eq!((known.error_code, known.partitions.len()), (ErrorCode::NONE, 4), "v{version}");
        let leaders: Vec<i32> = known.partitions.iter().map(|partition| partition.leader_id).collect();
        assert_eq!(leaders, [1, 2, 3, 1]);
        assert_eq!(known.partitions[2].replica_nodes, [3, 1]);
        assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
}

#[tokio::test(start_paused = true)]
async fn all_topics_are_asked_for_by_nothing_and_none_by_an_empty_list() {
    let broker = Broker::builder().topic("a", 1).topic("b", 1).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let count = |answer: MetadataResponse| answer.topics.len();
    assert_eq!(count(wire.call(0, named(&[])).await), 2, "version 0 has no null");
    assert_eq!(count(wire.call(1, named(&[])).await), 0);
    assert_eq!(count(wire.call(1, MetadataRequest { topics: None, ..Default::default() }).await), 2);
}

#[tokio::test(start_paused = true)]
async fn topics_are_found_by_their_ids() {
    let broker = Broker::builder().topic("a", 1).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let ids = [broker.topic_id("a").unwrap(), Uuid(7)];
    let topics = ids.map(|topic_id| MetadataTopic { topic_id, name: None });
    let request = MetadataRequest { topics: Some(topics.to_vec()), ..MetadataRequest::default() };
    for version in 10..=13 {
        let answer = wire.call(version, request.clone()).await;
        assert_eq!(answer.topics[0].name.as_deref(), Some("a"));
        assert_eq!(
            (answer.topics[1].error_code, answer.topics[1].topic_id),
            (ErrorCode::UNKNOWN_TOPIC_ID, Uuid(7))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_topics_are_created_only_when_the_setting_and_the_client_allow_it() {
    let broker = Broker::builder().setting("auto.create.topics.enable", "true").build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let forbid = MetadataRequest { allow_auto_topic_creation: false, ..named(&["a"]) };
    assert_eq!(wire.call(9, forbid).await.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(wire.call(9, named(&["a"])).await.topics[0].partitions.len(), 1);
    assert_eq!(wire.call(9, named(&["a b"])).await.topics[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert_eq!(broker.topics(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn topics_that_cannot_be_say_why() {
    let broker = Broker::builder().nodes(2).topic("a.b", 1).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let assigned = |nodes: &[&[i32]]| CreatableTopic {
        assignments: (0..)
            .zip(nodes)
            .map(|(partition_index, nodes)| CreatableReplicaAssignment {
                partition_index,
                broker_ids: nodes.to_vec(),
            })
            .collect(),
        ..create("c", -1, -1)
    };
    let mut twice_assigned = assigned(&[&[1], &[2]]);
    twice_assigned.assignments[1].partition_index = 0;
    let config = |name: &str, value: Option<&str>| CreatableTopic {
        configs: vec![CreatableTopicConfig { name: Str::from(name), value: value.map(Str::from) }],
        ..create("c", 1, 1)
    };
    for (topic, expected) in [
        (create("a.b", 1, 1), ErrorCode::TOPIC_ALREADY_EXISTS),
        (create("a_b", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (create("c/d", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (create("", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (create("c", 0, 1), ErrorCode::INVALID_PARTITIONS),
        (create("c", i32::MAX, 1), ErrorCode::INVALID_PARTITIONS),
        (create("c", 1, 3), ErrorCode::INVALID_REPLICATION_FACTOR),
        (create("c", 1, 0), ErrorCode::INVALID_REPLICATION_FACTOR),
        (config("retention.mss", Some("1")), ErrorCode::INVALID_CONFIG),
        (config("max.message.bytes", None), ErrorCode::INVALID_CONFIG),
        (config("min.insync.replicas", Some("0")), ErrorCode::INVALID_CONFIG),
        (assigned(&[&[1], &[3]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[&[1, 1]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[&[]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (twice_assigned, ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (CreatableTopic { num_partitions: 1, ..assigned(&[&[1]]) }, ErrorCode::INVALID_REQUEST),
    ] {
        assert_eq!(create_code(&mut wire, topic.clone()).await, expected, "{topic:?}");
    }
    let twice =
        CreateTopicsRequest { topics: vec![create("c", 1, 1), create("c", 1, 1)], ..Default::default() };
    let codes: Vec<_> = wire.call(7, twice).await.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [ErrorCode::INVALID_REQUEST; 2]);
    assert_eq!(broker.topics(), ["a.b"]);
}

#[tokio::test(start_paused = true)]
async fn an_assignment_is_kept_and_defaults_fill_what_is_left_open() {
    let broker = Broker::builder().nodes(2).setting("num.partitions", "5").build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let assignments = vec![
        CreatableReplicaAssignment { partition_index: 1, broker_ids: vec![1] },
        CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![2, 1] },
    ];
    let topic = CreatableTopic { assignments, ..create("a", -1, -1) };
    assert_eq!(create_code(&mut wire, topic).await, ErrorCode::NONE);
    let described = wire.call(12, named(&["a"])).await;
    let replicas: Vec<_> = described.topics[0].partitions.iter().map(|it| it.replica_nodes.clone()).collect();
    assert_eq!(replicas, [vec![2, 1], vec![1]]);
    let answer =
        wire.call(7, CreateTopicsRequest { topics: vec![create("b", -1, -1)], ..Default::default() }).await;
    assert_eq!((answer.topics[0].num_partitions, answer.topics[0].replication_factor), (5, 2));
    let dry =
        CreateTopicsRequest { topics: vec![create("c", 1, 1)], validate_only: true, ..Default::default() };
    assert_eq!(wire.call(7, dry).await.topics[0].error_code, ErrorCode::NONE);
    assert_eq!(broker.topics(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn topics_are_deleted_by_name_and_by_id() {
    let broker = Broker::builder().topic("a", 1).topic("b", 1).topic("c", 1).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    let names = |names: &[&str]| DeleteTopicsRequest {
        topic_names: names.iter().map(|name| Str::from(*name)).collect(),
        ..DeleteTopicsRequest::default()
    };
    let id = broker.topic_id("b").unwrap();
    for version in 1..=5 {
        let answer = wire.call(version, names(&["none"])).await;
        assert_eq!(answer.responses[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    assert_eq!(wire.call(1, names(&["a"])).await.responses[0].error_code, ErrorCode::NONE);
    let state = |name: Option<&str>, topic_id| DeleteTopicState { name: name.map(Str::from), topic_id };
    let topics =
        vec![state(None, id), state(Some("c"), Uuid::ZERO), state(None, Uuid(3)), state(Some("c"), Uuid(3))];
    let answer = wire.call(6, DeleteTopicsRequest { topics, ..Default::default() }).await;
    let codes: Vec<_> = answer.responses.iter().map(|topic| topic.error_code).collect();
    assert_eq!(
        codes,
        [ErrorCode::NONE, ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_ID, ErrorCode::INVALID_REQUEST]
    );
    assert!(broker.topics().is_empty());
}

#[tokio::test(start_paused = true)]
async fn deletion_can_be_switched_off() {
    let broker = Broker::builder().topic("a", 1).setting("delete.topic.enable", "false").build().unwrap();
    let request = DeleteTopicsRequest { topic_names: vec![Str::from("a")], ..DeleteTopicsRequest::default() };
    let answer = Wire::connect(&broker, 1).call(5, request).await;
    assert_eq!(answer.responses[0].error_code, ErrorCode::TOPIC_DELETION_DISABLED);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_node_leaves_the_metadata_and_others_lead() {
    let broker = Broker::builder().nodes(3).topic("t", 3).build().unwrap();
    let mut wire = Wire::connect(&broker, 2);
    broker.stop_node(1);
    let answer = wire.call(12, named(&["t"])).await;
    assert_eq!(answer.brokers.iter().map(|it| it.node_id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(answer.controller_id, 2);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!((partition.leader_id, partition.leader_epoch), (2, 1));
    assert_eq!((&partition.isr_nodes[..], &partition.offline_replicas[..]), (&[2, 3][..], &[1][..]));
    broker.stop_node(3);
    broker.stop_node(2);
    broker.start_node(3);
    let answer = Wire::connect(&broker, 3).call(12, named(&["t"])).await;
    assert!(answer.topics[0].partitions.iter().all(|it| it.leader_id == -1 && it.isr_nodes == [2]));
    broker.start_node(2);
    let answer = Wire::connect(&broker, 3).call(12, named(&["t"])).await;
    assert!(answer.topics[0].partitions.iter().all(|it| it.leader_id == 2 && it.isr_nodes.len() == 2));
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_living_replica_has_no_leader() {
    let broker =
        Broker::builder().nodes(2).topic("t", 2).setting("default.replication.factor", "1").build().unwrap();
    broker.stop_node(2);
    let answer = Wire::connect(&broker, 1).call(12, named(&["t"])).await;
    let partition = &answer.topics[0].partitions[1];
    assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::LEADER_NOT_AVAILABLE, -1));
    broker.start_node(2);
    let leader = broker.leader("t", 1).unwrap();
    assert_eq!((leader.node, leader.epoch), (Some(2), 2));
}

#[tokio::test(start_paused = true)]
async fn coordinators_are_found_one_by_one_and_together() {
    let broker = Broker::builder().nodes(3).build().unwrap();
    let mut wire = Wire::connect(&broker, 1);
    for version in 0..=3 {
        let request = FindCoordinatorRequest { key: Str::from("g"), ..FindCoordinatorRequest::default() };
        let found = wire.call(version, request).await;
        assert_eq!((found.error_code, Some(found.node_id)), (ErrorCode::NONE, broker.coordinator("g")));
    }
    for version in 4..=6 {
        let coordinator_keys = vec![Str::from("g"), Str::from("h"), Str::default()];
        let found =
            wire.call(version, FindCoordinatorRequest { coordinator_keys, ..Default::default() }).await;
        assert_eq!(found.coordinators[0].node_id, broker.coordinator("g").unwrap());
        assert_eq!(found.coordinators[1].node_id, broker.coordinator("h").unwrap());
        assert_eq!(found.coordinators[2].error_code, ErrorCode::INVALID_GROUP_ID);
    }
    let of_type = |key_type| FindCoordinatorRequest { key: Str::from("x"), key_type, ..Default::default() };
    let found = wire.call(3, of_type(1)).await;
    assert_eq!(found.error_code, ErrorCode::NONE);
    assert_eq!(Some(found.node_id), broker.transaction_coordinator("x"));
    assert_eq!(wire.call(3, of_type(2)).await.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let listed = wire.call(12, MetadataRequest { topics: None, ..Default::default() }).await.topics;
    let names: Vec<_> = listed.iter().filter_map(|topic| topic.name.as_deref()).collect();
    assert_eq!(names, ["__consumer_offsets", "__transaction_state"]);
    assert!(listed.iter().all(|topic| topic.is_internal && topic.partitions.len() == 50));
}

#[tokio::test(start_paused = true)]
async fn the_cluster_describes_itself() {
    let broker = Broker::builder().nodes(2).rack(2, "r2").build().unwrap();
    broker.stop_node(2);
    let mut wire = Wire::connect(&broker, 1);
    let request =
        DescribeClusterRequest { include_cluster_authorized_operations: true, ..Default::default() };
    let described = wire.call(2, request.clone()).await;
    assert_eq!((described.brokers.len(), described.controller_id), (1, 1));
    assert!(described.cluster_authorized_operations > 0);
    let fenced =
        wire.call(2, DescribeClusterRequest { include_fenced_brokers: true, ..request.clone() }).await;
    let node = &fenced.brokers[1];
    assert_eq!((node.broker_id, node.rack.as_deref(), node.is_fenced), (2, Some("r2"), true));
    let controllers = DescribeClusterRequest { endpoint_type: 2, ..request };
    assert_eq!(wire.call(1, controllers).await.error_code, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE);
}
