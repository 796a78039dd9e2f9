//! Connections, deadlines and bootstrap addresses: what is kept, what is thrown away, and that every call ends.
//! Time is virtual, so elapsed times are exact.

use ottla_broker::Fault;
use ottla_protocol::error_code::ErrorCode;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_the_next_call_and_shared_by_clones() {
    let cluster = Cluster::new(3);
    let admin = cluster.admin();
    for _ in 0..3 {
        admin.describe_cluster().await.unwrap();
        admin.clone().list_topics().await.unwrap();
    }
    let both = tokio::join!(admin.describe_cluster(), admin.list_topics());
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(cluster.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_described_with_its_nodes_in_order() {
    let cluster = Cluster::built(Broker::builder().nodes(3).rack(2, "east"));
    let described = cluster.admin().describe_cluster().await.unwrap();
    assert!(described.cluster_id.is_some_and(|id| !id.is_empty()));
    assert!(described.controller.is_some_and(|id| (1..=3).contains(&id)));
    let nodes: Vec<_> =
        described.nodes.iter().map(|n| (n.id, n.host.as_str(), n.port, n.rack.as_deref())).collect();
    let expected = [(1, "node-1", 9092, None), (2, "node-2", 9092, Some("east")), (3, "node-3", 9092, None)];
    assert_eq!(nodes, expected);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_not_trusted() {
    let cluster = Cluster::new(1);
    let admin = cluster.admin();
    admin.describe_cluster().await.unwrap();
    tokio::time::sleep(Duration::from_secs(181)).await;
    admin.describe_cluster().await.unwrap();
    assert_eq!(cluster.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_takes_its_connection_with_it() {
    let cluster = Cluster::new(1);
    let admin = cluster.admin();
    admin.describe_cluster().await.unwrap();
    cluster.broker.fault(Fault::on(ApiKey::METADATA).delay_answer(2 * SECOND));
    assert!(tokio::time::timeout(SECOND, admin.list_topics()).await.is_err());
    // On the same connection this would get the answer to the dropped call.
    admin.describe_cluster().await.unwrap();
    assert_eq!(cluster.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ran_out_of_time_takes_its_connection_with_it() {
    let cluster = Cluster::new(1);
    let admin = cluster.admin();
    cluster.broker.fault(Fault::on(ApiKey::METADATA).delay_answer(2 * SECOND));
    let late = admin.with_deadline(SECOND).list_topics().await;
    check_error(late, ErrorKind::Timeout, &["not done within 1s", "no answer to Metadata from node-1:9092"]);
    admin.describe_cluster().await.unwrap();
    assert_eq!(cluster.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again() {
    let cluster = Cluster::new(1);
    for fault in [
        Fault::on(ApiKey::METADATA).cut(),
        Fault::on(ApiKey::METADATA).cut_answer(),
        Fault::on(ApiKey::METADATA).cut_within_answer(9),
        Fault::on(ApiKey::METADATA).swallow(),
        Fault::on(ApiKey::API_VERSIONS).cut(),
    ] {
        let fault = cluster.broker.fault(fault);
        cluster.admin().list_topics().await.unwrap();
        assert_eq!(cluster.broker.fired(fault), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_outlives_its_deadline() {
    let cluster = Cluster::new(2);
    cluster.broker.fault(Fault::on_anything().always().swallow());
    let admin = cluster.client("node-1:9092,silence:1,nowhere:1").admin();
    for seconds in [0, 1, 7, 100] {
        let (limit, start) = (SECOND * seconds, Instant::now());
        let admin = admin.with_deadline(limit);
        check_late(admin.describe_cluster().await);
        check_late(admin.list_topics().await);
        check_late(admin.list_groups().await);
        check_late(admin.committed_offsets("g").await);
        check_late(admin.create_topics([NewTopic::new("t")]).await.all());
        check_late(admin.delete_topics(["t"]).await.all());
        check_late(admin.describe_topics(["t"]).await.all());
        check_late(admin.wait_for_topics(["t"]).await.all());
        check_late(admin.describe_groups(["g"]).await.all());
        let (spec, isolation) = (crate::OffsetSpec::Latest, crate::IsolationLevel::ReadUncommitted);
        check_late(admin.list_offsets([("t", 0)], spec, isolation).await.all());
        assert!(start.elapsed() <= limit * 10, "{:?}", start.elapsed());
    }
}

fn check_late<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Connect), "{error}");
    assert!(error.is_retriable() && error.to_string().contains("not done within"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_asked_when_the_deadline_has_passed() {
    let cluster = Cluster::new(1);
    let many: Vec<String> = (0..20).map(|n| format!("silence{n}:1")).collect();
    let admin = cluster.client(&many.join(",")).admin().with_deadline(SECOND);
    check_late(admin.describe_cluster().await);
    assert_eq!(cluster.dials(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_may_be_longer_than_time() {
    let cluster = Cluster::new(1);
    cluster.admin().with_deadline(Duration::MAX).describe_cluster().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_address_where_nobody_is_is_named() {
    let cluster = Cluster::new(1);
    let admin = cluster.client("nowhere:4711").admin().with_deadline(3 * SECOND);
    let refused = admin.describe_cluster().await;
    check_error(refused, ErrorKind::Connect, &["nowhere:4711", "not done within 3s"]);
    let dials = cluster.dials();
    assert!((3..=8).contains(&dials), "{dials} dials in three seconds: the waits grow, and there are some");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_says_nothing_leaves_time_for_the_others() {
    let cluster = Cluster::new(1);
    for _ in 0..8 {
        let admin = cluster.client("silence:1,node-1:9092").admin();
        admin.with_deadline(SECOND).describe_cluster().await.unwrap();
    }
    assert!(cluster.pipes.dials.lock().contains_key("silence"));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_is_overtaken_by_the_next() {
    for hanging in 1..=3 {
        let cluster = Cluster::new(3);
        let admin = cluster.admin();
        admin.list_groups().await.unwrap();
        cluster.broker.pause_node(hanging);
        let start = Instant::now();
        for _ in 0..5 {
            admin.describe_cluster().await.unwrap();
        }
        // Its connection goes with the first call that it leaves waiting.
        assert!(start.elapsed() <= SECOND, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_broker_is_told_at_once_unless_another_address_is_one() {
    let cluster = Cluster::new(1);
    let start = Instant::now();
    check_error(cluster.client("web:80").admin().list_topics().await, ErrorKind::Protocol, &["web:80"]);
    for _ in 0..8 {
        cluster.client("web:80,node-1:9092").admin().list_topics().await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_broker_does_not_end_the_wait_for_one_that_is_down() {
    let cluster = Cluster::new(1);
    for _ in 0..8 {
        cluster.broker.fault(Fault::on(ApiKey::API_VERSIONS).times(2).cut());
        cluster.client("web:80,node-1:9092").admin().list_topics().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_slow_to_accept_gets_more_time_at_each_dial() {
    let cluster = Cluster::new(1);
    let admin = cluster.client("silence:1").admin().with_deadline(100 * SECOND);
    check_error(admin.describe_cluster().await, ErrorKind::Connect, &["silence:1"]);
    // 10, 20, 30 and 30 seconds, and what is left.
    assert_eq!(cluster.dials(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_waits_between_dials_begin_anew_after_one_that_succeeded() {
    let cluster = Cluster::new(1);
    let admin = cluster.admin();
    cluster.broker.fault(Fault::on(ApiKey::API_VERSIONS).times(6).cut());
    admin.describe_cluster().await.unwrap();
    cluster.broker.fault(Fault::on(ApiKey::METADATA).cut());
    cluster.broker.fault(Fault::on(ApiKey::API_VERSIONS).cut());
    let start = Instant::now();
    admin.describe_cluster().await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_broker_is_not_dialled_again_before_its_time_however_many_ask() {
    let cluster = Cluster::new(1);
    let admin = cluster.client("nowhere:1").admin().with_deadline(Duration::from_millis(50));
    let calls = super::super::attempts::all((0..100).map(|_| admin.describe_cluster())).await;
    assert!(calls.iter().all(|call| call.is_err()));
    assert_eq!(cluster.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_asks_for_silence_gets_it() {
    let cluster = Cluster::new(1);
    let admin = cluster.admin();
    cluster.broker.fault(Fault::on(ApiKey::METADATA).throttle(3 * SECOND));
    admin.describe_cluster().await.unwrap();
    let start = Instant::now();
    check_error(admin.with_deadline(SECOND).list_topics().await, ErrorKind::Timeout, &["silence"]);
    admin.list_topics().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(cluster.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn other_brokers_are_asked_when_the_bootstrap_address_is_gone() {
    let cluster = Cluster::new(3);
    let admin = cluster.admin();
    admin.describe_cluster().await.unwrap();
    cluster.broker.fault(Fault::on_anything().node(1).always().cut());
    admin.with_deadline(SECOND).list_topics().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_bootstrap_address_finds_a_cluster_whose_brokers_have_all_moved() {
    let cluster = Cluster::new(2);
    // Another name of node 1.
    let admin = cluster.client("node-01:9092").admin();
    admin.describe_cluster().await.unwrap();
    tokio::time::sleep(Duration::from_secs(181)).await;
    cluster.pipes.gone.lock().extend(["node-1".to_owned(), "node-2".to_owned()]);
    admin.describe_cluster().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_the_bootstrap_address_is_asked_when_a_broker_sends_clients_back_to_it() {
    let cluster = Cluster::new(3);
    let admin = cluster.client("node-2:9092").admin();
    admin.list_groups().await.unwrap();
    // Open connections are asked first, and from now on those to nodes 1 and 3 are the open ones.
    cluster.broker.fault(Fault::on(ApiKey::METADATA).node(2).cut());
    for node in [1, 3] {
        cluster.broker.fault(Fault::on(ApiKey::METADATA).node(node).always().rewrite(|answer| {
            if let ottla_broker::Answer::Metadata(metadata) = answer {
                metadata.error_code = ErrorCode::REBOOTSTRAP_REQUIRED;
            }
        }));
    }
    admin.describe_cluster().await.unwrap();
}

/// Fault 77, with brokers that do not check it themselves: the address of a cluster leads to another one.
#[tokio::test(start_paused = true)]
async fn another_cluster_behind_the_same_address_is_said_to_be_one() {
    let cluster = Cluster::new(1);
    let admin = cluster.admin();
    admin.describe_cluster().await.unwrap();
    cluster.broker.fault(Fault::on(ApiKey::METADATA).always().rewrite(|answer| {
        if let ottla_broker::Answer::Metadata(metadata) = answer {
            metadata.cluster_id = Some("another".into());
        }
    }));
    let late = admin.with_deadline(3 * SECOND).describe_cluster().await;
    check_error(late, ErrorKind::Connect, &["belongs to the cluster another", "not done within 3s"]);
}

/// Fault 74 (KIP-1242): an address that was one broker's is now another's, and the broker itself says so.
#[tokio::test(start_paused = true)]
async fn an_address_that_is_another_brokers_now_leads_back_to_the_bootstrap_servers() {
    let cluster = Cluster::new(2);
    let admin = cluster.client("node-1:9092").admin();
    admin.describe_cluster().await.unwrap();
    cluster.pipes.moved.lock().extend([("node-1".to_owned(), 2), ("node-2".to_owned(), 1)]);
    tokio::time::sleep(Duration::from_secs(181)).await;
    // Whom it dials as one node is the other, and says so; as a bootstrap server it may be either.
    admin.describe_cluster().await.unwrap();
    assert_eq!(cluster.dials(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_broker_before_2_1_is_refused_by_name() {
    let cluster = Cluster::new(1);
    cluster.broker.fault(Fault::on(ApiKey::API_VERSIONS).always().rewrite(|answer| {
        if let ottla_broker::Answer::ApiVersions(versions) = answer {
            for api in versions.api_keys.iter_mut().filter(|api| api.api_key == ApiKey::CREATE_TOPICS) {
                (api.min_version, api.max_version) = (0, 1);
            }
        }
    }));
    let mut results = cluster.admin().create_topics([NewTopic::new("t")]).await;
    check_error(results.take("t"), ErrorKind::UnsupportedVersion, &["node-1:9092", "CreateTopics", "2.1"]);
}
