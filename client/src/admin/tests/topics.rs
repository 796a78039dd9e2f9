//! Creating, deleting and describing topics: who is refused, who is waited for, and what a lost answer means.
//! Faults are those of the bundled broker, on the request that they name.

use ottla_broker::Fault;
use ottla_protocol::error_code::ErrorCode;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_new_topic_is_known_to_every_broker_when_the_call_returns() {
    let cluster = Cluster::new(3);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let lagging = cluster.broker.fault(Fault::on(ApiKey::METADATA).node(3).topic("t").times(4).fail(unknown));
    let created = cluster.admin().create_topics([NewTopic::new("t").partitions(6)]).await.take("t").unwrap();
    assert_eq!((created.id, created.partitions), (cluster.broker.topic_id("t"), Some(6)));
    assert_eq!(cluster.broker.fired(lagging), 4);
}

#[tokio::test(start_paused = true)]
async fn creating_without_waiting_leaves_brokers_behind() {
    let cluster = Cluster::new(3);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let lagging = cluster.broker.fault(Fault::on(ApiKey::METADATA).topic("t").fail(unknown));
    cluster.admin().create_topics_without_waiting([NewTopic::new("t")]).await.all().unwrap();
    assert_eq!(cluster.broker.fired(lagging), 0);
    cluster.admin().wait_for_topics(["t"]).await.all().unwrap();
    assert_eq!(cluster.broker.fired(lagging), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_holds_nobody_up() {
    let cluster = Cluster::new(3);
    let down = cluster.broker.fault(Fault::on_anything().node(2).always().cut());
    cluster.admin().create_topics([NewTopic::new("t").partitions(3)]).await.all().unwrap();
    assert!(cluster.broker.fired(down) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_is_waited_for_and_not_for_long_at_a_time() {
    let cluster = Cluster::new(3);
    let hanging = cluster.broker.fault(Fault::on(ApiKey::METADATA).node(3).times(2).swallow());
    let start = Instant::now();
    cluster.admin().create_topics([NewTopic::new("t").partitions(3)]).await.all().unwrap();
    assert_eq!(cluster.broker.fired(hanging), 2);
    // One second, two seconds, and the waits after them.
    assert_eq!(start.elapsed().as_secs(), 3);

    cluster.broker.fault(Fault::on(ApiKey::METADATA).node(3).always().swallow());
    let (admin, start) = (cluster.admin().with_deadline(4 * SECOND), Instant::now());
    check_error(admin.wait_for_topics(["t"]).await.take("t"), ErrorKind::Timeout, &["not done within 4s"]);
    assert!(start.elapsed() <= 4 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_never_gets_everywhere_is_an_error_of_its_own() {
    let cluster = Cluster::new(3);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    cluster.broker.fault(Fault::on(ApiKey::METADATA).node(2).topic("slow").always().fail(unknown));
    let (admin, start) = (cluster.admin().with_deadline(5 * SECOND), Instant::now());
    let mut results = admin.create_topics([NewTopic::new("slow"), NewTopic::new("quick")]).await;
    check_error(
        results.take("slow"),
        ErrorKind::UnknownTopic,
        &["created, but", "not done within 5s", "topic slow"],
    );
    assert!(results.take("quick").is_ok());
    assert!(start.elapsed() <= 5 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_earlier_topic_of_the_same_name_is_not_taken_for_the_new_one() {
    let cluster = Cluster::new(2);
    let lagging = Fault::on(ApiKey::METADATA).node(2).times(3).rewrite(|answer| {
        if let ottla_broker::Answer::Metadata(metadata) = answer {
            for topic in &mut metadata.topics {
                topic.topic_id.0 ^= 1;
            }
        }
    });
    let lagging = cluster.broker.fault(lagging);
    cluster.admin().create_topics([NewTopic::new("t")]).await.all().unwrap();
    assert_eq!(cluster.broker.fired(lagging), 3);
}

#[tokio::test(start_paused = true)]
async fn a_topic_without_a_leader_is_not_usable_yet() {
    let cluster = Cluster::new(3);
    let only_there = NewTopic::new("t").assignments([vec![1], vec![2]]);
    cluster.admin().create_topics_without_waiting([only_there]).await.all().unwrap();
    cluster.broker.stop_node(2);
    let error = cluster.admin().with_deadline(2 * SECOND).wait_for_topics(["t"]).await.take("t").unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::LEADER_NOT_AVAILABLE), "{error}");
    assert!(error.to_string().contains("topic t, partition 1"), "{error}");
    let described = cluster.admin().describe_topics(["t"]).await.take("t").unwrap();
    assert_eq!(described.partitions.iter().map(|p| p.leader).collect::<Vec<_>>(), [Some(1), None]);
    cluster.broker.start_node(2);
    cluster.admin().wait_for_topics(["t"]).await.all().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_topic_fails_alone_and_the_broker_says_why() {
    let cluster = Cluster::new(3);
    cluster.with_topic("old", 1).await;
    let topics = [
        NewTopic::new("old"),
        NewTopic::new("wide").replication_factor(9),
        NewTopic::new("twice").partitions(1),
        NewTopic::new("odd").config("retention.msec", "1"),
        NewTopic::new("twice").partitions(2),
        NewTopic::new("good").config("retention.ms", "86400000"),
    ];
    let mut results = cluster.admin().create_topics(topics).await;
    assert_eq!(
        results.get("old").unwrap().as_ref().unwrap_err().code(),
        Some(ErrorCode::TOPIC_ALREADY_EXISTS)
    );
    check_error(results.take("old"), ErrorKind::Broker, &["topic old: ", "TOPIC_ALREADY_EXISTS"]);
    check_error(results.take("wide"), ErrorKind::Broker, &["topic wide: ", "INVALID_REPLICATION_FACTOR"]);
    check_error(results.take("odd"), ErrorKind::Broker, &["retention.msec"]);
    check_error(results.take("twice"), ErrorKind::InvalidArgument, &["topic twice", "twice"]);
    let good = results.take("good").unwrap();
    assert_eq!(good.configs.get("retention.ms"), Some(&Some("86400000".to_owned())));
    check_error(results.take("good"), ErrorKind::InvalidArgument, &["no result"]);
    assert_eq!(cluster.broker.topics(), ["good", "old"]);
}

#[tokio::test(start_paused = true)]
async fn assigned_partitions_are_where_they_were_put() {
    let cluster = Cluster::new(3);
    let assigned = NewTopic::new("t").partitions(9).assignments([vec![3, 1], vec![2]]);
    cluster.admin().create_topics([assigned]).await.all().unwrap();
    let topic = cluster.admin().describe_topics(["t"]).await.take("t").unwrap();
    let places: Vec<_> =
        topic.partitions.iter().map(|p| (p.partition, p.leader, p.replicas.clone())).collect();
    assert_eq!(places, [(0, Some(3), vec![3, 1]), (1, Some(2), vec![2])]);
    assert_eq!(topic.topic_partitions(), [("t".to_owned(), 0), ("t".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn validating_creates_nothing() {
    let cluster = Cluster::new(1);
    let topics = [NewTopic::new("good").partitions(4), NewTopic::new("bad").partitions(0)];
    cluster.broker.fault(Fault::on(ApiKey::CREATE_TOPICS).rewrite(|answer| {
        if let ottla_broker::Answer::CreateTopics(created) = answer {
            created.topics.iter_mut().for_each(|topic| topic.topic_id.0 = 7);
        }
    }));
    let mut results = cluster.admin().validate_topics(topics).await;
    let good = results.take("good").unwrap();
    assert_eq!((good.partitions, good.id), (Some(4), None));
    check_error(results.take("bad"), ErrorKind::Broker, &["INVALID_PARTITIONS"]);
    assert!(cluster.broker.topics().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_has_moved_is_looked_for_again() {
    let cluster = Cluster::new(3);
    for key in [ApiKey::CREATE_TOPICS, ApiKey::DELETE_TOPICS] {
        let moved = cluster.broker.fault(Fault::on(key).times(2).fail(ErrorCode::NOT_CONTROLLER));
        match key {
            ApiKey::CREATE_TOPICS => cluster.with_topic("t", 1).await,
            _ => drop(cluster.admin().delete_topics(["t"]).await.all().unwrap()),
        }
        assert_eq!(cluster.broker.fired(moved), 2);
    }
    assert!(cluster.broker.topics().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_may_be_our_own_work_says_so() {
    let cluster = Cluster::new(1);
    cluster.broker.fault(Fault::on(ApiKey::CREATE_TOPICS).cut_answer());
    let mut created = cluster.admin().create_topics([NewTopic::new("t")]).await;
    check_error(
        created.take("t"),
        ErrorKind::Broker,
        &["perhaps", "earlier attempt", "TOPIC_ALREADY_EXISTS"],
    );
    assert_eq!(cluster.broker.topics(), ["t"]);

    cluster.broker.fault(Fault::on(ApiKey::DELETE_TOPICS).cut_answer());
    let mut deleted = cluster.admin().delete_topics(["t"]).await;
    check_error(deleted.take("t"), ErrorKind::UnknownTopic, &["perhaps", "earlier attempt"]);
    assert!(cluster.broker.topics().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_took_effect_is_sent_again() {
    let cluster = Cluster::new(1);
    cluster.broker.fault(Fault::on(ApiKey::CREATE_TOPICS).cut());
    cluster.with_topic("t", 1).await;
    cluster.broker.fault(Fault::on(ApiKey::DELETE_TOPICS).swallow());
    cluster.admin().delete_topics(["t"]).await.all().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_is_told_at_once() {
    let cluster = Cluster::new(3);
    let (admin, start) = (cluster.admin(), Instant::now());
    check_error(admin.delete_topics(["nope"]).await.take("nope"), ErrorKind::UnknownTopic, &["topic nope"]);
    check_error(admin.describe_topics(["nope"]).await.take("nope"), ErrorKind::UnknownTopic, &["topic nope"]);
    check_error(admin.describe_topics(["a b"]).await.take("a b"), ErrorKind::InvalidArgument, &["topic a b"]);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(cluster.broker.topics().is_empty(), "asking creates nothing");
}

#[tokio::test(start_paused = true)]
async fn every_topic_is_listed() {
    let cluster = Cluster::new(3);
    cluster.with_topic("b", 2).await;
    cluster.with_topic("a", 1).await;
    let listed = cluster.admin().list_topics().await.unwrap();
    let sizes: Vec<_> = listed.values().map(|topic| (topic.name.as_str(), topic.partitions.len())).collect();
    assert_eq!(sizes, [("a", 1), ("b", 2)]);
    assert!(listed.values().all(|topic| topic.id.is_some() && !topic.internal));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_the_answer_leaves_out_is_an_error() {
    let cluster = Cluster::new(1);
    cluster.broker.fault(Fault::on(ApiKey::CREATE_TOPICS).rewrite(|answer| {
        if let ottla_broker::Answer::CreateTopics(created) = answer {
            created.topics.clear();
        }
    }));
    let mut results = cluster.admin().create_topics([NewTopic::new("t")]).await;
    check_error(results.take("t"), ErrorKind::Protocol, &["says nothing of", "\"t\""]);
}

#[tokio::test(start_paused = true)]
async fn an_old_cluster_is_served_too() {
    let cluster = Cluster::new(2);
    cluster.age();
    let admin = cluster.admin();
    let topic = NewTopic::new("t").partitions(2).replication_factor(1);
    let created = admin.create_topics([topic]).await.take("t").unwrap();
    assert_eq!((created.id, created.partitions, created.configs.len()), (None, None, 0));
    assert_eq!(admin.list_topics().await.unwrap()["t"].id, None);
    assert_eq!(admin.describe_cluster().await.unwrap().nodes.len(), 2);
    admin.delete_topics(["t"]).await.all().unwrap();
    assert!(cluster.broker.topics().is_empty());
}
