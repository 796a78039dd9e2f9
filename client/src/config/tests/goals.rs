//! What each goal sets, what works against it, and what is told of it.

use super::super::explain::Settings;
use super::super::keys::{KEYS, Rule};
use super::*;
#[cfg(feature = "_tls")]
use crate::Tls;
use crate::{Client, Sasl, SecurityProtocol};

fn client(goal: Goal) -> Client {
    Client::builder().bootstrap("a:1").goal(goal).build().expect("a goal breaks no rule")
}

/// The value and origin of a setting, as "value origin".
#[track_caller]
fn told(explanation: &Explanation, key: &str) -> String {
    let found = explanation.settings().iter().find(|setting| setting.key == key);
    let found = found.unwrap_or_else(|| panic!("{key} is not explained"));
    format!("{} {}", found.value, found.origin)
}

/// Asserts that a goal sets these and nothing else.
#[track_caller]
fn check_sets(goal: Goal, expected: &[(&str, &str)]) {
    let explanation = client(goal).explain().expect("valid");
    let set = explanation.settings().iter().filter(|setting| setting.origin == Origin::Goal);
    let set: Vec<_> = set.map(|setting| (setting.key, setting.value.as_str())).collect();
    assert_eq!(set, expected, "{goal}");
    assert_eq!(explanation.warnings(), [], "{goal}");
    let table = explanation.to_string();
    assert!(goal.needs().iter().all(|(name, needed)| table.contains(name) && table.contains(needed)));
}

#[test]
fn each_goal_sets_its_values_and_no_other() {
    check_sets(
        Goal::Throughput,
        &[
            ("linger.ms", "50"),
            ("batch.size", "131072"),
            ("buffer.memory", "67108864"),
            ("compression.type", "lz4"),
            ("fetch.min.bytes", "100000"),
        ],
    );
    check_sets(Goal::Latency, &[("linger.ms", "0"), ("compression.type", "none"), ("fetch.min.bytes", "1")]);
    check_sets(
        Goal::Durability,
        &[
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("max.in.flight.requests.per.connection", "5"),
            ("isolation.level", "read_committed"),
        ],
    );
    check_sets(
        Goal::Availability,
        &[("group.protocol", "classic"), ("session.timeout.ms", "10000"), ("heartbeat.interval.ms", "3000")],
    );
}

#[test]
fn durability_commits_with_the_work_and_not_by_the_clock() {
    let explained = client(Goal::Durability).consumer().group("g").explain().expect("valid");
    assert_eq!(told(&explained, "enable.auto.commit"), "each_batch goal");
}

#[test]
fn what_a_goal_asks_of_others_and_does_not_do_is_told() {
    for (goal, part) in [
        (Goal::Throughput, "kept: acks stays all"),
        (Goal::Throughput, "kept: retries stay"),
        (Goal::Latency, "kept: acks stays all"),
        (Goal::Durability, "unclean.leader.election.enable"),
        (Goal::Availability, "what it lacks is lost"),
    ] {
        let table = client(goal).explain().expect("valid").to_string();
        assert!(table.contains(part), "{goal}: {part} is missing in:\n{table}");
    }
}

#[test]
fn the_origin_of_each_value_is_told() {
    let builder = accepted(&[("bootstrap.servers", "a:1"), ("linger.ms", "7"), ("compression.type", "gzip")]);
    let client =
        builder.goal(Goal::Latency).request_timeout(Duration::from_secs(200)).build().expect("valid");
    let producer = client.producer().batch_size(99).linger(Duration::from_millis(5));
    let explained = producer.explain().expect("valid");
    for (key, expected) in [
        ("linger.ms", "5 call"),
        ("batch.size", "99 call"),
        ("compression.type", "gzip property"),
        ("bootstrap.servers", "a:1 property"),
        ("request.timeout.ms", "200000 call"),
        ("acks", "all default"),
        // Raised to what linger and request timeout add up to.
        ("delivery.timeout.ms", "200005 rule"),
    ] {
        assert_eq!(told(&explained, key), expected, "{key}");
    }
    let from_file = client.explain().expect("valid");
    assert_eq!(told(&from_file, "linger.ms"), "7 property");
    assert_eq!(told(&from_file, "fetch.min.bytes"), "1 goal");
}

struct Nobody;

impl crate::Interceptor for Nobody {}

#[test]
fn whatever_is_called_is_told_to_be_a_call() {
    let second = Duration::from_secs(1);
    let builder = Client::builder();
    #[cfg(feature = "_tls")]
    let builder = builder
        .security_protocol(SecurityProtocol::SaslSsl)
        .tls(Tls::new().roots_pem(include_str!("ca.pem")));
    #[cfg(not(feature = "_tls"))]
    let builder = builder.security_protocol(SecurityProtocol::SaslPlaintext);
    let client = builder
        .bootstrap("a:1")
        .client_id("i")
        .client_rack("r")
        .request_timeout(second)
        .default_api_timeout(second)
        .metadata_max_age(second)
        .rebootstrap_trigger(second)
        .cluster_check(true)
        .connector(crate::Tcp::default())
        .connections_max_idle(second)
        .send_buffer_bytes(None)
        .receive_buffer_bytes(None)
        .frame_bytes_max(100_000_000)
        .allow_auto_create_topics(false)
        .retry_backoff(second, second)
        .reconnect_backoff(second, second)
        .socket_setup_timeout(second, second)
        .sasl(Sasl::plain("a", "b"))
        .build()
        .expect("valid");
    let producer = client.producer().acks(Acks::All).idempotence(true).retries(9).max_in_flight(5);
    let producer = producer.delivery_timeout(second * 9).linger(second).batch_size(9).buffer_memory(99);
    let producer = producer.max_block(second).max_request_size(9).compression(Compression::Gzip);
    let producer = producer.compression_level(3).scheme(Scheme::Java).adaptive_partitioning(true);
    let producer = producer
        .metadata_max_idle(second * 9)
        .partition_availability_timeout(second)
        .rack_aware_partitioning(true)
        .interceptor(Nobody)
        .transactional_id("t")
        .transaction_timeout(second)
        .two_phase_commit(false);
    let consumer = client.consumer().group("g").group_instance_id("i").assignors([Assignor::Range]);
    let consumer = consumer.group_protocol(GroupProtocol::Classic);
    let consumer = consumer.session_timeout(second * 9).heartbeat_interval(second).max_poll_interval(second);
    let consumer = consumer.max_poll_records(9).finish_on(Done::OnNext).commit_when(When::Manual);
    let consumer = consumer.on_no_commit(Reset::Error).on_out_of_range(Reset::Error).check_crcs(true);
    let consumer = consumer.isolation_level(IsolationLevel::ReadCommitted).fetch_min_bytes(1);
    let consumer = consumer.fetch_max_wait(second).fetch_max_bytes(9).max_partition_fetch_bytes(9);
    let consumer = consumer.fetch_buffer_bytes(9).batch_bytes_max(9).stall_after(second);
    let consumer = consumer.hook_timeout(second / 2);
    for explained in [producer.explain().expect("valid"), consumer.explain().expect("valid")] {
        let others = explained.settings().iter().filter(|setting| setting.origin != Origin::Call);
        // What no classic group has is called below.
        let others = others.filter(|setting| setting.key != "group.remote.assignor");
        let others = others.filter(|setting| cfg!(feature = "_tls") || setting.key != "tls");
        let others: Vec<_> = others.map(|setting| setting.key).collect();
        assert_eq!(others, [""; 0], "not called above, or their lines name other methods");
    }
    let consumer = client.consumer().group("g").group_remote_assignor("uniform").explain().expect("valid");
    assert_eq!(told(&consumer, "group.remote.assignor"), "uniform call");
}

#[test]
fn a_later_goal_replaces_an_earlier_one() {
    let builder = Client::builder().bootstrap("a:1").goal(Goal::Throughput).goal(Goal::Latency);
    let explained = builder.build().and_then(|client| client.explain()).expect("valid");
    assert_eq!(told(&explained, "linger.ms"), "0 goal");
    assert_eq!(told(&explained, "batch.size"), "16384 default");
}

/// Asserts that what a producer was told works against the goal by these keys, and does as it was told all the same.
#[track_caller]
fn check_producer_warned(goal: Goal, change: fn(ProducerBuilder) -> ProducerBuilder, keys: &[&str]) {
    let explained = change(client(goal).producer()).explain().expect("only a warning");
    check_warned(goal, &explained, keys);
}

#[track_caller]
fn check_consumer_warned(goal: Goal, change: fn(ConsumerBuilder) -> ConsumerBuilder, keys: &[&str]) {
    let explained = change(client(goal).consumer().group("g")).explain().expect("only a warning");
    check_warned(goal, &explained, keys);
}

#[track_caller]
fn check_warned(goal: Goal, explained: &Explanation, keys: &[&str]) {
    let against = format!("works against the goal {goal}");
    let warned = explained.warnings().iter().filter(|warning| warning.to_string().contains(&against));
    let warned: Vec<_> = warned.flat_map(|warning| warning.keys().iter().copied()).collect();
    assert_eq!(warned, keys, "{goal}");
    keys.iter().for_each(|key| assert!(told(explained, key).ends_with("call"), "{key}"));
}

#[test]
fn whatever_works_against_throughput_is_reported() {
    let goal = Goal::Throughput;
    check_producer_warned(goal, |p| p.linger(Duration::ZERO), &["linger.ms"]);
    check_producer_warned(goal, |p| p.batch_size(100), &["batch.size"]);
    check_producer_warned(goal, |p| p.compression(Compression::None), &["compression.type"]);
    check_producer_warned(goal, |p| p.buffer_memory(1 << 20), &["buffer.memory"]);
    check_producer_warned(goal, |p| p.max_in_flight(1), &["max.in.flight.requests.per.connection"]);
    check_producer_warned(goal, |p| p.linger(Duration::from_millis(5)).batch_size(16_384), &[]);
    check_consumer_warned(goal, |c| c.fetch_min_bytes(1), &["fetch.min.bytes"]);
    check_consumer_warned(goal, |c| c.commit_when(When::EachRecord), &["enable.auto.commit"]);
}

#[test]
fn whatever_works_against_latency_is_reported() {
    let goal = Goal::Latency;
    check_producer_warned(goal, |p| p.linger(Duration::from_millis(100)), &["linger.ms"]);
    check_producer_warned(goal, |p| p.compression(Compression::Gzip), &["compression.type"]);
    check_producer_warned(goal, |p| p.linger(Duration::from_millis(1)), &[]);
    check_consumer_warned(goal, |c| c.fetch_min_bytes(2), &["fetch.min.bytes"]);
}

#[test]
fn whatever_works_against_durability_is_reported() {
    let goal = Goal::Durability;
    check_producer_warned(goal, |p| p.acks(Acks::Leader), &["acks"]);
    check_producer_warned(goal, |p| p.idempotence(false), &["enable.idempotence"]);
    check_producer_warned(goal, |p| p.retries(0), &["retries"]);
    check_producer_warned(
        goal,
        |p| p.idempotence(false).max_in_flight(6),
        &["enable.idempotence", "max.in.flight.requests.per.connection"],
    );
    check_consumer_warned(goal, |c| c.isolation_level(IsolationLevel::ReadUncommitted), &["isolation.level"]);
    let timed = When::Every(Duration::from_secs(5));
    assert_eq!(ConsumerConfig::default().when, timed);
    check_consumer_warned(
        goal,
        |c| c.commit_when(When::Every(Duration::from_secs(5))),
        &["enable.auto.commit"],
    );
    check_consumer_warned(goal, |c| c.finish_on(Done::Delivered), &["finish_on"]);
    check_consumer_warned(goal, |c| c.on_no_commit(Reset::Latest), &["auto.offset.reset"]);
    check_consumer_warned(goal, |c| c.commit_when(When::Manual), &[]);
}

#[test]
fn whatever_works_against_availability_is_reported() {
    let goal = Goal::Availability;
    check_consumer_warned(goal, |c| c.session_timeout(Duration::from_secs(60)), &["session.timeout.ms"]);
    check_consumer_warned(goal, |c| c.session_timeout(Duration::from_secs(30)), &[]);
}

#[test]
fn what_a_file_sets_against_a_goal_is_reported_when_it_is_used() {
    let builder = accepted(&[("bootstrap.servers", "a:1"), ("linger.ms", "100")]).goal(Goal::Latency);
    let explained = builder.build().and_then(|client| client.explain()).expect("only a warning");
    assert_eq!(explained.warnings().iter().map(Warning::keys).collect::<Vec<_>>(), [["linger.ms"]]);
    assert_eq!(told(&explained, "linger.ms"), "100 property");
}

#[test]
fn every_setting_is_explained() {
    fn keys<C: Settings>() -> impl Iterator<Item = &'static str> {
        C::LINES.iter().map(|line| line.key)
    }
    let explained: Vec<_> =
        keys::<ClientConfig>().chain(keys::<ProducerConfig>()).chain(keys::<ConsumerConfig>()).collect();
    // What they set has a line of another name, or they set nothing.
    let elsewhere = [
        "org.apache.kafka.sasl.oauthbearer.allowed.urls",
        "auto.commit.interval.ms",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.zstd.level",
        "partitioner.ignore.keys",
        "key.serializer",
        "value.serializer",
        "key.deserializer",
        "value.deserializer",
    ];
    let elsewhere =
        |key: &str| elsewhere.contains(&key) || key.starts_with("ssl.") || key.starts_with("sasl.");
    for key in KEYS.iter().filter(|key| matches!(key.rule, Rule::Set(_))) {
        let has_line = explained.contains(&key.name) || elsewhere(key.name);
        assert!(has_line, "{} is not explained: give it a line in explain/lines.rs", key.name);
    }
}

#[test]
fn a_misspelt_goal_gets_its_suggestion() {
    let error = "latencey".parse::<Goal>().expect_err("misspelt").to_string();
    assert!(error.contains("goal is latencey") && error.ends_with("did you mean latency?"), "{error}");
}
