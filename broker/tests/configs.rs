//! Settings on the wire: what is described, what can change, and that it takes effect at once. And topics that grow.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::Str;
use wire::*;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn connected() -> (Broker, Wire) {
    let builder = Broker::builder().nodes(2).topic("t", 1).setting("log.retention.hours", "2");
    let broker = builder.build().unwrap();
    let wire = Wire::connect(&broker, 1);
    (broker, wire)
}

async fn describe(wire: &mut Wire, of: i8, name: &str) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type: of,
        resource_name: Str::from(name),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        ..DescribeConfigsRequest::default()
    };
    wire.call(4, request).await.results.remove(0)
}

/// Value and source of an entry, and the names and sources of its synonyms.
async fn entry(wire: &mut Wire, of: i8, name: &str, key: &str) -> (String, i8, Vec<(String, i8)>) {
    let described = describe(wire, of, name).await;
    assert_eq!(described.error_code, ErrorCode::NONE);
    let found = described.configs.into_iter().find(|entry| entry.name == key).unwrap();
    let synonyms = found.synonyms.iter().map(|it| (it.name.to_string(), it.source)).collect();
    (found.value.unwrap().to_string(), found.config_source, synonyms)
}

async fn alter(wire: &mut Wire, of: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> ErrorCode {
    let change = |(name, config_operation, value): &(&str, i8, Option<&str>)| IncrementalAlterableConfig {
        name: Str::from(*name),
        config_operation: *config_operation,
        value: value.map(Str::from),
    };
    let resource = IncrementalAlterConfigsResource {
        resource_type: of,
        resource_name: Str::from(name),
        configs: changes.iter().map(change).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    wire.call(1, request).await.responses[0].error_code
}

#[tokio::test(start_paused = true)]
async fn a_topic_says_where_each_of_its_settings_comes_from() {
    let (_broker, mut wire) = connected();
    let named =
        |rows: &[(&str, i8)]| rows.iter().map(|(name, at)| ((*name).to_string(), *at)).collect::<Vec<_>>();
    let hours = [("log.retention.hours", 4), ("log.retention.hours", 5)];
    assert_eq!(entry(&mut wire, TOPIC, "t", "retention.ms").await, ("7200000".to_string(), 4, named(&hours)));
    assert_eq!(alter(&mut wire, TOPIC, "t", &[("retention.ms", SET, Some("5000"))]).await, ErrorCode::NONE);
    let all = [("retention.ms", 1), hours[0], hours[1]];
    assert_eq!(entry(&mut wire, TOPIC, "t", "retention.ms").await, ("5000".to_string(), 1, named(&all)));
    assert_eq!(alter(&mut wire, TOPIC, "t", &[("retention.ms", DELETE, None)]).await, ErrorCode::NONE);
    assert_eq!(entry(&mut wire, TOPIC, "t", "retention.ms").await.1, 4);
    assert_eq!(alter(&mut wire, BROKER, "", &[("log.retention.ms", SET, Some("9"))]).await, ErrorCode::NONE);
    assert_eq!(entry(&mut wire, TOPIC, "t", "retention.ms").await.0, "9");
    assert_eq!(entry(&mut wire, BROKER, "1", "log.retention.ms").await.1, 3);
    assert_eq!(describe(&mut wire, BROKER, "").await.configs.len(), 1, "what was changed for all of them");
}

#[tokio::test(start_paused = true)]
async fn lists_grow_and_shrink_word_by_word() {
    let (_broker, mut wire) = connected();
    for (operation, word, expected) in [
        (APPEND, "compact", "delete,compact"),
        (APPEND, "compact", "delete,compact"),
        (SUBTRACT, "delete", "compact"),
    ] {
        let changed = alter(&mut wire, TOPIC, "t", &[("cleanup.policy", operation, Some(word))]).await;
        assert_eq!(changed, ErrorCode::NONE);
        assert_eq!(entry(&mut wire, TOPIC, "t", "cleanup.policy").await.0, expected);
    }
    let answer = append(&mut wire, "t", 0, plain(&["no key"])).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD, "it is compacted from now on");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_change_is_refused_as_kafka_does() {
    let (_broker, mut wire) = connected();
    let (config, request) = (ErrorCode::INVALID_CONFIG, ErrorCode::INVALID_REQUEST);
    for (of, name, key, operation, value, expected) in [
        (TOPIC, "t", "retention.ms", SET, Some("x"), config),
        (TOPIC, "t", "nope", SET, Some("1"), config),
        (TOPIC, "none", "retention.ms", SET, Some("1"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "t", "retention.ms", APPEND, Some("5"), config),
        (TOPIC, "t", "segment.bytes", SET, Some("100"), config),
        (TOPIC, "t", "retention.ms", SET, None, request),
        (TOPIC, "t", "retention.ms", 9, Some("5"), request),
        (BROKER, "1", "num.partitions", SET, Some("4"), request),
        (BROKER, "9", "log.cleaner.backoff.ms", SET, Some("4"), request),
        (BROKER, "", "log.retention.ms", SET, Some("q"), config),
        (32, "g", "consumer.session.timeout.ms", SET, Some("1"), request),
    ] {
        let refused = alter(&mut wire, of, name, &[(key, operation, value)]).await;
        assert_eq!(refused, expected, "{name} {key} {value:?}");
    }
    let twice = [("retention.ms", SET, Some("5")), ("retention.ms", SET, Some("6"))];
    assert_eq!(alter(&mut wire, TOPIC, "t", &twice).await, request);
    assert_eq!(entry(&mut wire, TOPIC, "t", "retention.ms").await.0, "7200000", "nothing has changed");
    assert_eq!(describe(&mut wire, BROKER, "2").await.error_code, request, "each node answers for itself");
    assert_eq!(describe(&mut wire, TOPIC, "none").await.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test(start_paused = true)]
async fn alter_configs_replaces_everything_and_a_dry_run_nothing() {
    let (_broker, mut wire) = connected();
    alter(&mut wire, TOPIC, "t", &[("retention.ms", SET, Some("5000"))]).await;
    let request = |validate_only| {
        let configs =
            vec![AlterableConfig { name: Str::from("max.message.bytes"), value: Some(Str::from("100")) }];
        let resource = AlterConfigsResource { resource_type: TOPIC, resource_name: Str::from("t"), configs };
        AlterConfigsRequest { resources: vec![resource], validate_only }
    };
    assert_eq!(wire.call(2, request(true)).await.responses[0].error_code, ErrorCode::NONE);
    assert_eq!(entry(&mut wire, TOPIC, "t", "retention.ms").await.0, "5000");
    assert_eq!(wire.call(2, request(false)).await.responses[0].error_code, ErrorCode::NONE);
    assert_eq!(entry(&mut wire, TOPIC, "t", "retention.ms").await.0, "7200000");
    let answer =
        append(&mut wire, "t", 0, plain(&["more than a hundred bytes with its header and all of that"]))
            .await;
    assert_eq!(answer.error_code, ErrorCode::MESSAGE_TOO_LARGE);
}

async fn grow(wire: &mut Wire, topic: &str, count: i32, nodes: Option<&[&[i32]]>) -> ErrorCode {
    let assignment = |ids: &&[i32]| CreatePartitionsAssignment { broker_ids: ids.to_vec() };
    let assignments = nodes.map(|nodes| nodes.iter().map(assignment).collect());
    let topics = vec![CreatePartitionsTopic { name: Str::from(topic), count, assignments }];
    let request = CreatePartitionsRequest { topics, timeout_ms: 1000, validate_only: false };
    wire.call(3, request).await.results[0].error_code
}

#[tokio::test(start_paused = true)]
async fn a_topic_grows_and_its_new_partitions_take_records() {
    let (broker, mut wire) = connected();
    append(&mut wire, "t", 0, plain(&["old"])).await;
    assert_eq!(grow(&mut wire, "t", 3, None).await, ErrorCode::NONE);
    assert_eq!(grow(&mut wire, "t", 4, Some(&[&[1, 2]])).await, ErrorCode::NONE);
    assert_eq!(broker.leader("t", 3).unwrap().node, Some(1));
    assert_eq!(append(&mut wire, "t", 3, plain(&["new"])).await.error_code, ErrorCode::NONE);
    assert_eq!(broker.end_offset("t", 0), Some(1));
    for (topic, count, nodes, expected) in [
        ("t", 4, None, ErrorCode::INVALID_PARTITIONS),
        ("t", 1, None, ErrorCode::INVALID_PARTITIONS),
        ("none", 3, None, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("t", 5, Some(&[&[1, 9][..]][..]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        ("t", 5, Some(&[][..]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
    ] {
        assert_eq!(grow(&mut wire, topic, count, nodes).await, expected, "{topic} {count} {nodes:?}");
    }
}
