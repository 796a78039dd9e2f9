//! The rules of a configuration, one `check` function for each way in.

use std::time::Duration;

use ottla_partitioners::Scheme;
use ottla_protocol::records::Compression;

use super::keys::{self, KEYS, Rule};
use super::*;
use crate::{Error, Sasl, SecurityProtocol};

mod defaults;
mod goals;
mod protocol;

fn read(properties: &[(&str, &str)]) -> Result<ClientBuilder, Error> {
    ClientBuilder::from_properties(properties.iter().copied())
}

fn accepted(properties: &[(&str, &str)]) -> ClientBuilder {
    read(properties).unwrap_or_else(|error| panic!("{properties:?} must be accepted: {error}"))
}

/// Asserts that the properties break no rule.
#[track_caller]
fn check_accepted(properties: &[(&str, &str)]) {
    let _ = accepted(properties);
}

/// Asserts that the properties are refused, with a text that has all of `parts` in it.
#[track_caller]
fn check_refused(properties: &[(&str, &str)], parts: &[&str]) {
    let error = read(properties).expect_err("must be refused");
    assert_eq!(error.kind(), crate::ErrorKind::Config);
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is missing in: {error}");
    }
}

/// Asserts that a producer's settings are refused, with a text that has all of `parts` in it.
#[track_caller]
fn check_producer_refused(change: impl FnOnce(&mut ProducerConfig), parts: &[&str]) {
    let mut config = ProducerConfig::default();
    change(&mut config);
    let error = config.check(&ClientConfig::default()).expect_err("must be refused").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
}

/// Asserts that a consumer's settings are refused, with a text that has all of `parts` in it.
#[track_caller]
fn check_consumer_refused(change: impl FnOnce(&mut ConsumerConfig), parts: &[&str]) {
    let mut config = ConsumerConfig::default();
    change(&mut config);
    let error = config.check(&ClientConfig::default()).expect_err("must be refused").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
}

/// The addresses of a `bootstrap.servers`, or why there are none.
fn addresses(servers: &str) -> Result<Vec<(String, u16)>, String> {
    let mut config = ClientBuilder::default().bootstrap(servers).config;
    config.check().map(|_| config.bootstrap).map_err(|error| error.to_string())
}

/// Rule 15.
#[test]
fn misspelt_keys_of_real_notes_get_their_suggestion() {
    for (written, meant) in [
        ("ack", "acks"),
        ("enable.itemoptence", "enable.idempotence"),
        ("auto.commit.enable", "enable.auto.commit"),
        ("auto.create.topic.enable", "auto.create.topics.enable"),
        ("fetch.min.byte", "fetch.min.bytes"),
        ("fetch.max.byte", "fetch.max.bytes"),
        ("message.max.byte", "message.max.bytes"),
        ("min.sync.replicas", "min.insync.replicas"),
        ("log.retentions.ms", "log.retention.ms"),
        ("log.retention.byte", "log.retention.bytes"),
    ] {
        check_refused(&[(written, "1")], &[&format!("unknown key {written}; did you mean {meant}?")]);
    }
}

#[test]
fn a_misspelt_assignor_gets_its_suggestion() {
    check_refused(
        &[("partition.assignment.strategy", "org.apache.kafka.clients.consumer.StickyPartitionAssignor")],
        &["partition.assignment.strategy", "StickyPartitionAssignor", "did you mean StickyAssignor?"],
    );
}

#[test]
fn a_name_with_one_letter_too_many_is_recognised() {
    for name in keys::names().step_by(3) {
        let mut wrong = name.to_owned();
        wrong.insert(name.len() / 2, 'q');
        let error = read(&[(&wrong, "1")]).expect_err("must be unknown").to_string();
        assert!(error.contains(&format!("did you mean {name}?")), "{wrong}: {error}");
    }
}

#[test]
fn a_key_that_resembles_nothing_gets_no_suggestion() {
    check_refused(&[("colour", "blue")], &["configuration: unknown key colour"]);
    assert!(!read(&[("colour", "blue")]).expect_err("must be unknown").to_string().contains("did you mean"));
}

#[test]
fn each_name_is_in_the_table_once() {
    let mut names: Vec<_> = keys::names().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn each_alias_means_a_setting() {
    for key in KEYS {
        if let Rule::Alias(of) | Rule::Kibibytes(of) = key.rule {
            let setting = KEYS.iter().any(|other| other.name == of && matches!(other.rule, Rule::Set(_)));
            assert!(setting, "{} means {of}, which is no setting", key.name);
        }
    }
}

#[test]
fn an_empty_file_has_the_defaults_of_java() {
    let builder = accepted(&[]);
    let (client, producer, consumer) = (builder.config, builder.producer, builder.consumer);
    assert!(client.allow_auto_create_topics);
    assert_eq!(client.connections_max_idle, Duration::from_millis(540_000));
    assert_eq!((client.send_buffer_bytes, client.receive_buffer_bytes), (Some(131_072), Some(65_536)));
    assert_eq!(producer.acks, Acks::All);
    assert!(producer.idempotence && !producer.idempotence_named);
    assert_eq!((producer.batch_size, producer.linger), (16_384, Duration::from_millis(5)));
    assert_eq!(consumer.assignors, [Assignor::Range, Assignor::CooperativeSticky]);
    assert_eq!(consumer.group_protocol, GroupProtocol::Classic);
    assert_eq!((consumer.on_no_commit, consumer.on_out_of_range), (Reset::Latest, Reset::Latest));
    assert_eq!((consumer.done, consumer.when), (Done::OnNext, When::Every(Duration::from_secs(5))));
    assert_eq!(builder.warnings, []);
}

#[test]
fn the_typed_builders_have_defaults_of_their_own() {
    let (client, consumer) = (ClientConfig::default(), ConsumerConfig::default());
    assert!(!client.allow_auto_create_topics);
    assert_eq!(consumer.assignors, [Assignor::CooperativeSticky]);
    assert_eq!(consumer.group_protocol, GroupProtocol::Auto);
    assert_eq!((consumer.on_no_commit, consumer.on_out_of_range), (Reset::Earliest, Reset::Error));
}

#[test]
fn the_defaults_break_no_rule_and_earn_no_warning() {
    let mut client = ClientBuilder::default().bootstrap("localhost:9092").config;
    assert_eq!(client.check(), Ok(vec![]));
    assert_eq!(ProducerConfig::default().check(&client), Ok(vec![]));
    assert_eq!(ConsumerConfig::default().check(&client), Ok(vec![]));
}

#[test]
fn values_arrive_where_they_belong() {
    let builder = accepted(&[
        ("client.id", "billing"),
        ("request.timeout.ms", "1500"),
        ("acks", "ALL"),
        ("linger.ms", "7"),
        ("compression.type", "gzip"),
        ("compression.gzip.level", "6"),
        ("partitioner.class", "org.apache.kafka.clients.producer.RoundRobinPartitioner"),
        ("group.id", "audit"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "none"),
        ("isolation.level", "read_committed"),
        ("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"),
    ]);
    assert_eq!(&*builder.config.client_id, "billing");
    assert_eq!(builder.config.request_timeout, Duration::from_millis(1500));
    let mut producer = builder.producer;
    assert_eq!(producer.linger, Duration::from_millis(7));
    producer.check(&builder.config).expect("the file was accepted");
    assert_eq!((producer.codec.compression(), producer.codec.level()), (Compression::Gzip, 6));
    assert!(matches!(producer.partitioner, PartitionerChoice::Scheme(Scheme::RoundRobin)));
    let consumer = builder.consumer;
    assert_eq!(consumer.group_id.as_deref(), Some("audit"));
    assert_eq!(consumer.when, When::Manual);
    assert_eq!((consumer.on_no_commit, consumer.on_out_of_range), (Reset::Error, Reset::Error));
    assert_eq!(consumer.isolation_level, IsolationLevel::ReadCommitted);
    assert_eq!(consumer.assignors, [Assignor::CooperativeSticky]);
}

#[test]
fn names_of_librdkafka_are_understood() {
    let builder = accepted(&[
        ("metadata.broker.list", "a:1,b:2"),
        ("queue.buffering.max.ms", "9"),
        ("queue.buffering.max.kbytes", "2048"),
        ("queued.max.messages.kbytes", "1024"),
        ("message.max.bytes", "5000"),
        ("compression.codec", "gzip"),
        ("compression.level", "3"),
        ("partitioner", "consistent_random"),
        ("auto.offset.reset", "smallest"),
        ("socket.receive.buffer.bytes", "0"),
    ]);
    assert_eq!(builder.config.servers, ["a:1", "b:2"]);
    assert_eq!(builder.config.receive_buffer_bytes, None);
    assert_eq!(builder.producer.linger, Duration::from_millis(9));
    assert_eq!(builder.producer.buffer_memory, 2 << 20);
    assert_eq!(builder.producer.max_request_size, 5000);
    assert_eq!(builder.producer.compression_level, Some(3));
    let scheme = PartitionerChoice::Scheme(Scheme::LibrdkafkaConsistentRandom);
    assert_eq!(format!("{:?}", builder.producer.partitioner), format!("{scheme:?}"));
    assert_eq!(builder.consumer.fetch_buffer_bytes, 1 << 20);
    assert_eq!(builder.consumer.on_no_commit, Reset::Earliest);
}

#[test]
fn a_setting_under_two_names_is_a_contradiction() {
    check_refused(
        &[("linger.ms", "1"), ("queue.buffering.max.ms", "2")],
        &["linger.ms and queue.buffering.max.ms: they set the same thing"],
    );
    check_refused(&[("acks", "1"), ("acks", "all")], &["acks and acks: they set the same thing"]);
    check_refused(
        &[("compression.type", "gzip"), ("compression.level", "3"), ("compression.gzip.level", "4")],
        &["compression.level and compression.gzip.level"],
    );
}

/// Rule 17.
#[test]
fn all_problems_are_reported_at_once() {
    check_refused(
        &[("ack", "all"), ("linger.ms", "-1"), ("ssl.crl.location", "x")],
        &["3 problems", "unknown key ack", "linger.ms is -1", "ssl.crl.location is not supported yet"],
    );
}

#[test]
fn values_that_cannot_be_read_are_refused_by_name() {
    for (key, value) in [
        ("linger.ms", "5ms"),
        ("linger.ms", ""),
        ("linger.ms", "99999999999999999999"),
        ("batch.size", "-1"),
        ("retries", "2147483648"),
        ("fetch.min.bytes", "-1"),
        ("fetch.max.bytes", "2147483648"),
        ("max.poll.records", "0"),
        ("max.in.flight.requests.per.connection", "0"),
        ("request.timeout.ms", "0"),
        ("request.timeout.ms", "2147483648"),
        ("session.timeout.ms", "0"),
        ("metadata.max.idle.ms", "4999"),
        ("receive.message.max.bytes", "999"),
        ("receive.buffer.bytes", "-2"),
        ("check.crcs", "yes"),
        ("acks", "2"),
        ("auto.offset.reset", "newest"),
        ("auto.offset.reset", "by_duration"),
        ("auto.offset.reset", "by_duration:"),
        ("auto.offset.reset", "by_duration:P"),
        ("auto.offset.reset", "by_duration:P1DT"),
        ("auto.offset.reset", "by_duration:PT"),
        ("auto.offset.reset", "by_duration:1D"),
        ("auto.offset.reset", "by_duration:P-1D"),
        ("auto.offset.reset", "by_duration:PT1M1H"),
        ("auto.offset.reset", "by_duration:PT1.5M"),
        ("auto.offset.reset", "by_duration:PT1.S"),
        ("auto.offset.reset", "by_duration:P1H"),
        ("auto.offset.reset", "by_duration:P999999999999999999999D"),
        ("isolation.level", "serializable"),
        ("partition.assignment.strategy", ""),
        ("partition.assignment.strategy", "com.example.Mine"),
        ("partitioner.class", "com.example.Mine"),
        ("queue.buffering.max.kbytes", "18446744073709551615"),
        ("bootstrap.servers", "localhost"),
    ] {
        check_refused(&[(key, value)], &[&format!("{key} is ")]);
    }
}

#[test]
fn a_reset_by_duration_is_written_as_java_writes_it() {
    #[track_caller]
    fn check(text: &str, millis: u64) {
        let builder = read(&[("bootstrap.servers", "a:1"), ("auto.offset.reset", text)]).unwrap();
        let expected = Reset::ByDuration(Duration::from_millis(millis));
        assert_eq!((builder.consumer.on_no_commit, builder.consumer.on_out_of_range), (expected, expected));
    }
    check("by_duration:P1D", 86_400_000);
    check("by_duration:PT1H", 3_600_000);
    check("by_duration:P2DT3H4M5.678S", 183_845_678);
    check("by_duration:PT0S", 0);
}

#[test]
fn a_misspelt_value_gets_its_suggestion() {
    check_refused(&[("compression.type", "snapy")], &["compression.type is snapy", "did you mean snappy?"]);
    check_refused(&[("isolation.level", "read-committed")], &["did you mean read_committed?"]);
    check_refused(&[("partitioner", "murmur")], &["did you mean murmur2?"]);
}

#[test]
fn what_is_not_built_yet_is_refused_and_says_so() {
    for (key, value) in [
        ("sasl.kerberos.keytab", "alice.keytab"),
        ("ssl.crl.location", "revoked.pem"),
        ("ssl.cipher.suites", "TLS_AES_128_GCM_SHA256"),
        ("enable.ssl.certificate.verification", "false"),
        ("share.acquire.mode", "record_limit"),
        ("interceptor.classes", "com.example.Audit"),
        ("enable.metrics.push", "true"),
        ("key.serializer", "io.confluent.kafka.serializers.KafkaAvroSerializer"),
    ] {
        check_refused(&[(key, value)], &[&format!("{key} is not supported yet: ")]);
    }
}

#[test]
fn secrets_never_appear_in_errors() {
    let properties =
        [("sasl.jaas.config", "hunter2"), ("ssl.key.password", "hunter2"), ("sasl.pasword", "hunter2")];
    let error = read(&properties).expect_err("must be refused");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn what_happens_anyway_is_accepted() {
    let builder = accepted(&[
        ("security.protocol", "plaintext"),
        ("group.protocol", "classic"),
        ("enable.metrics.push", "false"),
        ("socket.nagle.disable", "true"),
        ("interceptor.classes", ""),
    ]);
    assert_eq!(builder.warnings(), []);
}

/// Rule 15.
#[test]
fn ignored_keys_are_listed() {
    for key in
        ["ssl.provider", "metrics.num.samples", "debug", "socket.max.fails", "bootstrap.resolve.timeout.ms"]
    {
        let builder = accepted(&[(key, "1")]);
        assert_eq!(builder.warnings().len(), 1, "{key}");
        assert_eq!(builder.warnings()[0].keys(), [key]);
        assert!(builder.warnings()[0].to_string().starts_with(&format!("{key}: ignored: ")));
    }
    assert_eq!(accepted(&[("metrics.context.tenant", "x")]).warnings()[0].keys(), ["metrics.context.*"]);
    let java = "org.apache.kafka.common.serialization.StringSerializer";
    assert_eq!(accepted(&[("key.serializer", java)]).warnings()[0].keys(), ["key.serializer"]);
}

#[test]
fn settings_of_brokers_and_other_clients_are_refused_with_the_place_they_belong_to() {
    check_refused(
        &[("min.insync.replicas", "2")],
        &["min.insync.replicas has no meaning here: it is a setting of the broker or of the topic"],
    );
    check_refused(&[("queue.buffering.max.messages", "9")], &["buffer.memory"]);
}

/// Rule 6.
#[test]
fn without_a_ceiling_of_its_own_the_reconnect_backoff_does_not_grow() {
    let builder = accepted(&[("reconnect.backoff.ms", "3000")]);
    assert_eq!(builder.config.reconnect_backoff_max, Duration::from_secs(3));
    assert_eq!(builder.warnings()[0].keys(), ["reconnect.backoff.ms", "reconnect.backoff.max.ms"]);
}

/// Rule 7.
#[test]
fn a_base_above_its_ceiling_becomes_the_ceiling() {
    let (long, short) = (Duration::from_secs(3), Duration::from_secs(1));
    let builder = ClientBuilder::default().bootstrap("a:1").retry_backoff(long, short);
    let mut config = builder.reconnect_backoff(long, short).socket_setup_timeout(long, short).config;
    let warnings = config.check().expect("only a warning");
    assert_eq!(warnings.len(), 3);
    assert_eq!([config.retry_backoff, config.reconnect_backoff, config.socket_setup_timeout], [short; 3]);
}

/// Rule 1.
#[test]
fn idempotence_asked_for_contradicts_weak_acks_and_no_retries() {
    check_refused(
        &[("enable.idempotence", "true"), ("acks", "1")],
        &["enable.idempotence and acks: idempotence needs the acknowledgement of all replicas"],
    );
    check_refused(&[("enable.idempotence", "true"), ("retries", "0")], &["enable.idempotence and retries"]);
    check_producer_refused(
        |config| (config.idempotence_named, config.acks) = (true, Acks::None),
        &["enable.idempotence and acks"],
    );
}

/// Rule 1.
#[test]
fn idempotence_by_default_gives_way_to_weak_acks_with_a_warning() {
    let mut producer = accepted(&[("acks", "1")]).producer;
    let warnings = producer.check(&ClientConfig::default()).expect("only a warning");
    assert!(!producer.idempotence);
    assert_eq!(warnings[0].keys(), ["enable.idempotence", "acks"]);
}

/// Rule 2.
#[test]
fn more_than_five_in_flight_contradict_idempotence_even_by_default() {
    check_refused(
        &[("max.in.flight.requests.per.connection", "6")],
        &["enable.idempotence and max.in.flight.requests.per.connection"],
    );
    check_accepted(&[("max.in.flight.requests.per.connection", "6"), ("enable.idempotence", "false")]);
    check_accepted(&[("max.in.flight.requests.per.connection", "5")]);
}

/// Rule 3.
#[test]
fn transactions_need_idempotence_and_never_lose_it_to_another_setting() {
    let id = ("transactional.id", "billing");
    check_refused(&[id, ("enable.idempotence", "false")], &["transactional.id and enable.idempotence"]);
    // What switches idempotence off by default is an error here, for transactions are nothing without it.
    check_refused(&[id, ("acks", "1")], &["enable.idempotence and acks"]);
    check_refused(&[id, ("retries", "0")], &["enable.idempotence and retries"]);
    check_accepted(&[id]);
}

/// Rule 4.
#[test]
fn transactions_of_two_phases_have_no_timeout_and_need_an_id() {
    let two_phases = ("transaction.two.phase.commit.enable", "true");
    let id = ("transactional.id", "billing");
    check_refused(
        &[two_phases, id, ("transaction.timeout.ms", "60000")],
        &["transaction.two.phase.commit.enable and transaction.timeout.ms"],
    );
    check_refused(&[two_phases], &["transaction.two.phase.commit.enable and transactional.id"]);
    match cfg!(feature = "unstable-two-phase-commit") {
        true => check_accepted(&[two_phases, id]),
        false => check_refused(&[two_phases, id], &["the feature unstable-two-phase-commit is off"]),
    }
}

/// Rule 10: what it is about cannot be asked for yet, and the rest of the pair is not taken without it.
#[test]
fn a_pair_of_what_is_not_there_is_refused_by_the_first_of_them() {
    check_refused(
        &[("share.acknowledgement.mode", "explicit")],
        &["share.acknowledgement.mode is not supported yet"],
    );
}

/// Rule 16.
#[test]
fn credentials_never_travel_because_a_setting_was_overlooked() {
    let login = [("sasl.mechanism", "PLAIN"), ("sasl.username", "alice"), ("sasl.password", "hunter2")];
    let with = |protocol: &[(&'static str, &'static str)]| [&login[..], protocol].concat();
    for protocol in [&[][..], &[("security.protocol", "PLAINTEXT")], &[("security.protocol", "SSL")]] {
        check_refused(&with(protocol), &["security.protocol and sasl.mechanism", "is without a login"]);
    }
    check_accepted(&with(&[("security.protocol", "SASL_PLAINTEXT")]));
    check_accepted(&with(&[("security.protocol", "sasl_ssl")]));
    check_refused(&[("ssl.ca.location", "ca.pem")], &["PLAINTEXT is without TLS"]);
    check_refused(&[("ssl.endpoint.identification.algorithm", "")], &["PLAINTEXT is without TLS"]);
    check_refused(&[("security.protocol", "SASL_SSL")], &["Kerberos is not there"]);
    check_refused(&[("sasl.mechanism", "PLAIN")], &["sasl.jaas.config is not set"]);
    let typed = || ClientBuilder::default().bootstrap("a:1").sasl(Sasl::plain("alice", "hunter2"));
    let error = typed().build().expect_err("it must be named").to_string();
    assert!(error.contains("use TLS, or name SASL_PLAINTEXT") && !error.contains("hunter2"), "{error}");
    typed().security_protocol(SecurityProtocol::SaslPlaintext).build().expect("it is named");
    let error =
        ClientBuilder::default().bootstrap("a:1").security_protocol(SecurityProtocol::SaslPlaintext).build();
    assert!(error.expect_err("nobody is to log in").to_string().contains("sasl.jaas.config is not set"));
}

#[test]
fn the_module_of_a_login_must_be_that_of_its_mechanism() {
    let module =
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"a\" password=\"b\";";
    let file = |mechanism| {
        [("security.protocol", "SASL_SSL"), ("sasl.mechanism", mechanism), ("sasl.jaas.config", module)]
    };
    check_accepted(&file("PLAIN"));
    check_refused(&file("SCRAM-SHA-512"), &["PlainLoginModule is not the module of SCRAM-SHA-512"]);
}

#[test]
fn a_server_may_be_named_with_the_protocol_in_front() {
    let file = |server, protocol| [("bootstrap.servers", server), ("security.protocol", protocol)];
    check_accepted(&file("SSL://a:1,ssl://b:2", "SSL"));
    check_refused(&file("SSL://a:1", "PLAINTEXT"), &["only where it is that of security.protocol"]);
}

/// Rule 17.
#[test]
fn typed_settings_are_all_checked_when_the_handle_is_built() {
    let client = ClientBuilder::default().bootstrap("a").request_timeout(Duration::ZERO).build();
    let error = client.expect_err("two problems").to_string();
    assert!(error.contains("bootstrap.servers is") && error.contains("request.timeout.ms is 0"), "{error}");
    let client = ClientBuilder::default().bootstrap("a:1").build().expect("valid");
    let producer = client.producer().max_in_flight(0).retries(u32::MAX).metadata_max_idle(Duration::ZERO);
    let error = producer.build().expect_err("three problems").to_string();
    for key in
        ["max.in.flight.requests.per.connection is 0", "retries is 4294967295", "metadata.max.idle.ms is 0"]
    {
        assert!(error.contains(key), "{key}: {error}");
    }
}

/// Rule 18: a time of zero is refused, or it means at once.
#[test]
fn zero_never_means_for_ever() {
    for key in [
        "request.timeout.ms",
        "default.api.timeout.ms",
        "metadata.max.age.ms",
        "connections.max.idle.ms",
        "socket.connection.setup.timeout.ms",
        "socket.connection.setup.timeout.max.ms",
        "transaction.timeout.ms",
        "metadata.max.idle.ms",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
    ] {
        check_refused(&[(key, "0")], &[&format!("{key} is 0")]);
    }
    check_refused(
        &[("delivery.timeout.ms", "0")],
        &["delivery.timeout.ms and linger.ms and request.timeout.ms"],
    );
    for at_once in ["linger.ms", "max.block.ms", "fetch.max.wait.ms", "retry.backoff.ms"] {
        check_accepted(&[(at_once, "0")]);
    }
}

/// Rule 5.
#[test]
fn a_delivery_timeout_below_linger_and_request_timeout_is_refused_or_raised() {
    check_refused(
        &[("delivery.timeout.ms", "30004"), ("linger.ms", "5")],
        &["delivery.timeout.ms and linger.ms and request.timeout.ms: 30004 ms", "30005 ms"],
    );
    check_accepted(&[("delivery.timeout.ms", "30005"), ("linger.ms", "5")]);
    let builder = accepted(&[("request.timeout.ms", "200000")]);
    let mut producer = builder.producer;
    let warnings = producer.check(&builder.config).expect("only a warning");
    assert_eq!(producer.delivery_timeout, Duration::from_millis(200_005));
    assert_eq!(warnings.len(), 1);
}

/// Rule 19.
#[test]
fn a_buffer_that_holds_no_batch_is_refused() {
    check_refused(&[("buffer.memory", "1000")], &["buffer.memory and batch.size"]);
    check_producer_refused(|config| (config.buffer_memory, config.batch_size) = (0, 0), &["buffer.memory"]);
}

/// Rule 14.
#[test]
fn codecs_and_levels_that_this_build_lacks_fail_here() {
    check_producer_refused(
        |config| (config.compression, config.compression_level) = (Compression::Gzip, Some(10)),
        &["compression.gzip.level is 10"],
    );
    check_refused(
        &[("compression.type", "lz4"), ("compression.lz4.level", "12")],
        &["compression.lz4.level is 12", "lz4-hc"],
    );
    check_accepted(&[("compression.type", "lz4"), ("compression.lz4.level", "9")]);
    check_producer_refused(
        |config| (config.compression, config.compression_level) = (Compression::Snappy, Some(1)),
        &["compression.level is 1"],
    );
    let zstd = read(&[("compression.type", "zstd")]);
    if cfg!(feature = "zstd") {
        assert!(zstd.is_ok());
    } else {
        assert!(zstd.expect_err("not compiled in").to_string().contains("compression.type is zstd: "));
    }
}

#[test]
fn a_level_for_a_codec_without_levels_is_listed_as_ignored() {
    let builder = accepted(&[("compression.type", "snappy"), ("compression.level", "3")]);
    assert_eq!(builder.producer.compression_level, None);
    assert_eq!(builder.warnings()[0].keys(), ["compression.level", "compression.type"]);
    let builder = accepted(&[("compression.type", "gzip"), ("compression.level", "-1")]);
    assert_eq!(builder.producer.compression_level, None);
}

/// Rule 11.
#[test]
fn commits_need_a_group() {
    check_refused(&[("enable.auto.commit", "true")], &["enable.auto.commit and group.id"]);
    check_accepted(&[("enable.auto.commit", "true"), ("group.id", "g")]);
    check_consumer_refused(
        |config| (config.when, config.when_named) = (When::EachRecord, true),
        &["enable.auto.commit and group.id"],
    );
    let mut config = ConsumerConfig::default();
    config.check(&ClientConfig::default()).expect("the default gives way");
    assert_eq!(config.when, When::Manual);
}

#[test]
fn no_time_between_commits_means_each_batch_in_a_file_and_nothing_in_the_builder() {
    let builder = accepted(&[("group.id", "g"), ("auto.commit.interval.ms", "0")]);
    assert_eq!(builder.consumer.when, When::EachBatch);
    check_consumer_refused(
        |config| config.when = When::Every(Duration::ZERO),
        &["auto.commit.interval.ms is 0"],
    );
    let when = When::Hybrid { records: 0, within: Duration::ZERO };
    check_consumer_refused(|config| config.when = when, &["2 problems", "the records of", "the time of"]);
}

/// Rule 20.
#[test]
fn a_heartbeat_fits_into_the_session() {
    let session = ("session.timeout.ms", "6000");
    check_refused(
        &[session, ("heartbeat.interval.ms", "6000")],
        &["heartbeat.interval.ms and session.timeout.ms"],
    );
    let mut consumer = accepted(&[session, ("heartbeat.interval.ms", "2001")]).consumer;
    assert_eq!(consumer.check(&ClientConfig::default()).expect("only a warning").len(), 1);
    let mut consumer = accepted(&[session, ("heartbeat.interval.ms", "2000")]).consumer;
    assert_eq!(consumer.check(&ClientConfig::default()), Ok(vec![]));
}

#[test]
fn a_fetch_fits_into_a_frame() {
    check_refused(
        &[("fetch.max.bytes", "100000000")],
        &["fetch.max.bytes and receive.message.max.bytes: an answer to a fetch may have 100065536 bytes"],
    );
    check_accepted(&[("fetch.max.bytes", "100000000"), ("receive.message.max.bytes", "100065536")]);
}

#[test]
fn a_subscription_needs_a_group_and_names() {
    check_consumer_refused(
        |config| config.source = Source::Topics(vec!["a".into()]),
        &["subscribe and group.id"],
    );
    for topics in [vec![], vec!["".into()]] {
        check_consumer_refused(
            |config| (config.group_id, config.source) = (Some("g".into()), Source::Topics(topics)),
            &["subscribe is"],
        );
    }
    check_consumer_refused(
        |config| config.source = Source::Partitions(vec![("a".into(), -1)]),
        &["assign is"],
    );
    check_consumer_refused(
        |config| config.group_instance_id = Some("i".into()),
        &["group.instance.id and group.id"],
    );
    check_consumer_refused(|config| config.group_id = Some("".into()), &["group.id is empty"]);
}

/// Rule 12.
#[test]
fn repeated_entries_count_once_and_are_warned_of() {
    let mut config = ConsumerConfig { group_id: Some("g".into()), ..Default::default() };
    config.assignors = vec![Assignor::Range, Assignor::Range];
    config.source = Source::Topics(vec!["a".into(), "b".into(), "a".into()]);
    assert_eq!(config.check(&ClientConfig::default()).expect("only warnings").len(), 2);
    assert_eq!(config.assignors, [Assignor::Range]);
    assert_eq!(config.source, Source::Topics(vec!["a".into(), "b".into()]));
}

#[test]
fn bootstrap_servers_are_hosts_with_ports() {
    let host = |name: &str, port| Ok(vec![(name.to_owned(), port)]);
    assert_eq!(addresses("localhost:9092"), host("localhost", 9092));
    assert_eq!(addresses("[::1]:9092"), host("::1", 9092));
    assert_eq!(addresses("plaintext://a.example:65535"), host("a.example", 65535));
    assert_eq!(addresses("a:1, a:1"), host("a", 1));
    assert_eq!(addresses("a:1,b:2").map(|list| list.len()), Ok(2));
    for wrong in [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:1,",
        "::1:9092",
        "http://localhost:9092",
        "SSL://a:1",
        "a/b:1",
        "a b:1",
        "a:x",
        "user@a:1",
        "[]:1",
    ] {
        let error = addresses(wrong).expect_err(wrong);
        assert!(error.starts_with("bootstrap.servers is "), "{wrong:?}: {error}");
    }
}

#[test]
fn a_client_without_servers_is_refused_only_when_it_is_built() {
    let mut builder = accepted(&[]);
    let error = builder.config.check().expect_err("no servers");
    assert_eq!(error, ConfigError::Missing { key: "bootstrap.servers" });
    assert!(builder.bootstrap("a:1").config.check().is_ok());
}
