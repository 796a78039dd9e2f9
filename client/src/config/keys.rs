//! The one table of property names: those of Kafka's Java client 4.4, and those of librdkafka.
//!
//! It owns what a name means here and what Java takes when a file leaves it out. It refuses to check ranges or
//! combinations: a value goes through the same rules as one from the typed builders. Invariant: a name is in the table
//! once, and each name of the table is honoured, refused or listed as ignored.

use std::time::Duration;

use super::problem::ConfigError;
use super::properties::{Draft, Value};
use super::tokens::Retriever;
use super::{Acks, Assignor, GroupProtocol, IsolationLevel, Reset};
use crate::security::SecurityProtocol;

/// A setting of this client.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What Java takes where a file does not name the key; empty for nothing.
    pub(super) default: &'static str,
    pub(super) rule: Rule,
}

type Setter = fn(&mut Draft, Value<'_>) -> Result<(), ConfigError>;

/// What a value does.
pub(super) enum Rule {
    /// It is taken over.
    Set(Setter),
    /// It is what librdkafka calls another key.
    Alias(&'static str),
    /// As `Alias`, counted in units of 1,024 bytes.
    Kibibytes(&'static str),
    /// Only this value is honoured, for the reason given: it says what happens anyway.
    Only(&'static str, &'static str),
}

/// What is known about a name.
pub(super) enum Known {
    /// It is a setting of this client.
    Key(&'static Key),
    /// Kafka's clients have it, this one does not yet.
    NotYet(&'static str, &'static str),
    /// It has no effect here, and nobody misses it.
    Ignored(&'static str, &'static str),
    /// It belongs to another program, or to another way of working.
    NotApplicable(&'static str, &'static str),
}

const fn set(name: &'static str, default: &'static str, setter: Setter) -> Key {
    Key { name, default, rule: Rule::Set(setter) }
}

const fn alias(name: &'static str, of: &'static str) -> Key {
    Key { name, default: "", rule: Rule::Alias(of) }
}

const fn only(name: &'static str, value: &'static str, otherwise: &'static str) -> Key {
    Key { name, default: "", rule: Rule::Only(value, otherwise) }
}

pub(super) const KEYS: &[Key] = &[
    // Common to producers and consumers.
    set("bootstrap.servers", "", |d, v| v.list(&mut d.client.servers)),
    set("client.id", "", |d, v| {
        d.client.client_id = v.text.into();
        Ok(())
    }),
    set("client.rack", "", |d, v| v.name(&mut d.client.client_rack)),
    set("request.timeout.ms", "30000", |d, v| v.millis(&mut d.client.request_timeout)),
    set("default.api.timeout.ms", "60000", |d, v| v.millis(&mut d.client.default_api_timeout)),
    set("metadata.max.age.ms", "300000", |d, v| v.millis(&mut d.client.metadata_max_age)),
    set("metadata.recovery.rebootstrap.trigger.ms", "300000", |d, v| {
        v.millis(&mut d.client.rebootstrap_trigger)
    }),
    set("retry.backoff.ms", "100", |d, v| v.millis(&mut d.client.retry_backoff)),
    set("retry.backoff.max.ms", "1000", |d, v| v.millis(&mut d.client.retry_backoff_max)),
    set("reconnect.backoff.ms", "50", |d, v| v.millis(&mut d.client.reconnect_backoff)),
    set("reconnect.backoff.max.ms", "1000", |d, v| v.millis(&mut d.client.reconnect_backoff_max)),
    set("socket.connection.setup.timeout.ms", "10000", |d, v| v.millis(&mut d.client.socket_setup_timeout)),
    set("socket.connection.setup.timeout.max.ms", "30000", |d, v| {
        v.millis(&mut d.client.socket_setup_timeout_max)
    }),
    set("connections.max.idle.ms", "540000", |d, v| v.millis(&mut d.client.connections_max_idle)),
    set("send.buffer.bytes", "131072", |d, v| v.socket_buffer(&mut d.client.send_buffer_bytes)),
    // Java's producer has 32768 here; a file does not say which of the two it is for.
    set("receive.buffer.bytes", "65536", |d, v| v.socket_buffer(&mut d.client.receive_buffer_bytes)),
    set("allow.auto.create.topics", "true", |d, v| v.flag(&mut d.client.allow_auto_create_topics)),
    set("receive.message.max.bytes", "", |d, v| v.number(&mut d.client.frame_bytes_max)),
    only("client.dns.lookup", "use_all_dns_ips", "canonical names serve Kerberos, which is not there"),
    only(
        "metadata.recovery.strategy",
        "rebootstrap",
        "a client that cannot find its cluster again has to be restarted",
    ),
    set("metadata.cluster.check.enable", "true", |d, v| v.flag(&mut d.client.cluster_check)),
    only("enable.metrics.push", "false", "metrics are not pushed to the cluster"),
    set("security.protocol", "", |d, v| {
        let mut protocol = SecurityProtocol::Plaintext;
        v.choice(&mut protocol, &SecurityProtocol::ALL)?;
        d.security.protocol = Some(protocol);
        Ok(())
    }),
    set("sasl.mechanism", "", |d, v| v.text(&mut d.security.mechanism)),
    set("sasl.jaas.config", "", |d, v| v.text(&mut d.security.jaas)),
    set("sasl.username", "", |d, v| v.text(&mut d.security.user)),
    set("sasl.password", "", |d, v| v.text(&mut d.security.password)),
    alias("sasl.mechanisms", "sasl.mechanism"),
    set("sasl.login.refresh.window.factor", "0.8", |d, v| {
        v.number(&mut d.security.tokens.refresh.window_factor)
    }),
    set("sasl.login.refresh.window.jitter", "0.05", |d, v| {
        v.number(&mut d.security.tokens.refresh.window_jitter)
    }),
    set("sasl.login.refresh.min.period.seconds", "60", |d, v| {
        v.seconds(&mut d.security.tokens.refresh.min_period)
    }),
    set("sasl.login.refresh.buffer.seconds", "300", |d, v| v.seconds(&mut d.security.tokens.refresh.buffer)),
    set("sasl.login.retry.backoff.ms", "100", |d, v| v.millis(&mut d.security.tokens.refresh.retry_backoff)),
    set("sasl.login.retry.backoff.max.ms", "10000", |d, v| {
        v.millis(&mut d.security.tokens.refresh.retry_backoff_max)
    }),
    set("sasl.login.connect.timeout.ms", "", |d, v| {
        v.millis(d.security.tokens.connect_timeout.insert(Duration::ZERO))
    }),
    set("sasl.login.read.timeout.ms", "", |d, v| {
        v.millis(d.security.tokens.read_timeout.insert(Duration::ZERO))
    }),
    set("sasl.oauthbearer.token.endpoint.url", "", |d, v| v.text(&mut d.security.tokens.url)),
    set("org.apache.kafka.sasl.oauthbearer.allowed.urls", "", |d, v| {
        v.list(&mut d.security.tokens.allowed_urls)
    }),
    set("sasl.oauthbearer.jwt.retriever.class", "", |d, v| {
        let simple = v.text.rsplit('.').next().unwrap_or_default();
        Value { text: simple, ..v }.choice(&mut d.security.tokens.retriever, &Retriever::ALL)
    }),
    set("sasl.oauthbearer.grant.type", "", |d, v| {
        v.choice(&mut d.security.tokens.retriever, &Retriever::ALL)
    }),
    set("sasl.oauthbearer.method", "", |d, v| {
        v.choice(&mut d.security.tokens.method_is_oidc, &[("default", false), ("oidc", true)])
    }),
    set("sasl.oauthbearer.client.credentials.client.id", "", |d, v| v.text(&mut d.security.tokens.id)),
    set("sasl.oauthbearer.client.credentials.client.secret", "", |d, v| {
        v.text(&mut d.security.tokens.secret)
    }),
    alias("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.credentials.client.id"),
    alias("sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.credentials.client.secret"),
    set("sasl.oauthbearer.scope", "", |d, v| v.text(&mut d.security.tokens.scope)),
    set("sasl.oauthbearer.extensions", "", |d, v| v.list(&mut d.security.tokens.extensions)),
    set("sasl.oauthbearer.header.urlencode", "false", |d, v| v.flag(&mut d.security.tokens.encode_header)),
    set("sasl.oauthbearer.assertion.algorithm", "RS256", |d, v| {
        v.choice(&mut d.security.tokens.assertion.es256, &[("RS256", false), ("ES256", true)])
    }),
    set("sasl.oauthbearer.assertion.file", "", |d, v| v.text(&mut d.security.tokens.assertion.file)),
    set("sasl.oauthbearer.assertion.private.key.file", "", |d, v| {
        v.text(&mut d.security.tokens.assertion.key_file)
    }),
    set("sasl.oauthbearer.assertion.private.key.passphrase", "", |d, v| {
        v.text(&mut d.security.tokens.assertion.passphrase)
    }),
    set("sasl.oauthbearer.assertion.template.file", "", |d, v| {
        v.text(&mut d.security.tokens.assertion.template)
    }),
    set("sasl.oauthbearer.assertion.claim.exp.seconds", "300", |d, v| {
        v.number(&mut d.security.tokens.assertion.exp_seconds)
    }),
    set("sasl.oauthbearer.assertion.claim.nbf.seconds", "60", |d, v| {
        v.number(&mut d.security.tokens.assertion.nbf_seconds)
    }),
    set("sasl.oauthbearer.assertion.claim.jti.include", "false", |d, v| {
        v.flag(&mut d.security.tokens.assertion.with_id)
    }),
    set("sasl.oauthbearer.assertion.claim.aud", "", |d, v| v.text(&mut d.security.tokens.assertion.audience)),
    set("sasl.oauthbearer.assertion.claim.iss", "", |d, v| v.text(&mut d.security.tokens.assertion.issuer)),
    set("sasl.oauthbearer.assertion.claim.sub", "", |d, v| v.text(&mut d.security.tokens.assertion.subject)),
    set("ssl.truststore.location", "", |d, v| v.text(&mut d.security.truststore)),
    set("ssl.truststore.password", "", |d, v| v.text(&mut d.security.truststore_password)),
    set("ssl.truststore.certificates", "", |d, v| v.text(&mut d.security.truststore_pem)),
    alias("ssl.ca.location", "ssl.truststore.location"),
    alias("ssl.ca.pem", "ssl.truststore.certificates"),
    set("ssl.keystore.location", "", |d, v| v.text(&mut d.security.keystore)),
    set("ssl.keystore.password", "", |d, v| v.text(&mut d.security.keystore_password)),
    set("ssl.keystore.certificate.chain", "", |d, v| v.text(&mut d.security.chain_pem)),
    set("ssl.keystore.key", "", |d, v| v.text(&mut d.security.key_pem)),
    set("ssl.certificate.location", "", |d, v| v.text(&mut d.security.chain_file)),
    set("ssl.key.location", "", |d, v| v.text(&mut d.security.key_file)),
    set("ssl.key.password", "", |d, v| v.text(&mut d.security.key_password)),
    alias("ssl.certificate.pem", "ssl.keystore.certificate.chain"),
    alias("ssl.key.pem", "ssl.keystore.key"),
    set("ssl.enabled.protocols", "", |d, v| v.tls_versions(&mut d.security.tls13_only)),
    set("ssl.endpoint.identification.algorithm", "https", |d, v| {
        v.choice(&mut d.security.any_host, &[("https", false), ("", true), ("none", true)])
    }),
    only("ssl.cipher.suites", "", "the suites are those that rustls holds to be safe"),
    only("enable.ssl.certificate.verification", "true", "a broker is always recognised by its certificate"),
    only("interceptor.classes", "", "interceptors are missing"),
    only("config.providers", "", "resolve the values before they come here"),
    // The producer.
    set("acks", "all", |d, v| {
        v.choice(
            &mut d.producer.acks,
            &[("all", Acks::All), ("-1", Acks::All), ("1", Acks::Leader), ("0", Acks::None)],
        )
    }),
    set("enable.idempotence", "true", |d, v| v.flag(&mut d.producer.idempotence)),
    set("retries", "2147483647", |d, v| v.number(&mut d.producer.retries)),
    set("max.in.flight.requests.per.connection", "5", |d, v| v.number(&mut d.producer.max_in_flight)),
    set("delivery.timeout.ms", "120000", |d, v| v.millis(&mut d.producer.delivery_timeout)),
    set("linger.ms", "5", |d, v| v.millis(&mut d.producer.linger)),
    set("batch.size", "16384", |d, v| v.number(&mut d.producer.batch_size)),
    set("buffer.memory", "33554432", |d, v| v.number(&mut d.producer.buffer_memory)),
    set("max.block.ms", "60000", |d, v| v.millis(&mut d.producer.max_block)),
    set("max.request.size", "1048576", |d, v| v.number(&mut d.producer.max_request_size)),
    set("compression.type", "none", |d, v| v.compression(&mut d.producer.compression)),
    set("compression.gzip.level", "", |d, v| v.level(&mut d.gzip_level)),
    set("compression.lz4.level", "", |d, v| v.level(&mut d.lz4_level)),
    set("compression.zstd.level", "", |d, v| v.level(&mut d.zstd_level)),
    set("compression.level", "", |d, v| v.level(&mut d.any_level)),
    set("partitioner.class", "", |d, v| d.partitioner(v)),
    set("partitioner.adaptive.partitioning.enable", "true", |d, v| {
        v.flag(&mut d.producer.adaptive_partitioning)
    }),
    set("partitioner.ignore.keys", "false", |d, v| v.flag(&mut d.ignore_keys)),
    set("metadata.max.idle.ms", "300000", |d, v| v.millis(&mut d.producer.metadata_max_idle)),
    set("key.serializer", "", |d, v| d.format(v)),
    set("value.serializer", "", |d, v| d.format(v)),
    only("buffer.memory.allocation.strategy", "full", "there is one way to use the memory"),
    set("partitioner.availability.timeout.ms", "0", |d, v| {
        v.millis(&mut d.producer.partition_availability_timeout)
    }),
    set("partitioner.rack.aware", "false", |d, v| v.flag(&mut d.producer.rack_aware_partitioning)),
    set("transactional.id", "", |d, v| v.name(&mut d.producer.transactional_id)),
    set("transaction.timeout.ms", "60000", |d, v| v.millis(&mut d.producer.transaction_timeout)),
    set("transaction.two.phase.commit.enable", "false", |d, v| v.flag(&mut d.producer.two_phase_commit)),
    // The consumer.
    set("group.id", "", |d, v| v.name(&mut d.consumer.group_id)),
    set("group.instance.id", "", |d, v| v.name(&mut d.consumer.group_instance_id)),
    set("group.protocol", "classic", |d, v| {
        v.choice(
            &mut d.consumer.group_protocol,
            &[
                ("classic", GroupProtocol::Classic),
                ("consumer", GroupProtocol::Consumer),
                ("auto", GroupProtocol::Auto),
            ],
        )
    }),
    set("group.remote.assignor", "", |d, v| v.name(&mut d.consumer.group_remote_assignor)),
    set("partition.assignment.strategy", "range,cooperative-sticky", |d, v| {
        v.choices(
            &mut d.consumer.assignors,
            &[
                ("range", Some(Assignor::Range)),
                ("cooperative-sticky", Some(Assignor::CooperativeSticky)),
                ("RangeAssignor", Some(Assignor::Range)),
                ("CooperativeStickyAssignor", Some(Assignor::CooperativeSticky)),
                ("roundrobin", Some(Assignor::RoundRobin)),
                ("sticky", Some(Assignor::Sticky)),
                ("RoundRobinAssignor", Some(Assignor::RoundRobin)),
                ("StickyAssignor", Some(Assignor::Sticky)),
            ],
        )
    }),
    set("session.timeout.ms", "45000", |d, v| v.millis(&mut d.consumer.session_timeout)),
    set("heartbeat.interval.ms", "3000", |d, v| v.millis(&mut d.consumer.heartbeat_interval)),
    set("max.poll.interval.ms", "300000", |d, v| v.millis(&mut d.consumer.max_poll_interval)),
    set("max.poll.records", "500", |d, v| v.number(&mut d.consumer.max_poll_records)),
    set("enable.auto.commit", "true", |d, v| v.flag(&mut d.auto_commit)),
    set("auto.commit.interval.ms", "5000", |d, v| v.millis(&mut d.auto_commit_interval)),
    set("auto.offset.reset", "latest", |d, v| {
        let mut reset = d.consumer.on_no_commit;
        let known = &[
            ("earliest", Reset::Earliest),
            ("latest", Reset::Latest),
            ("none", Reset::Error),
            ("smallest", Reset::Earliest),
            ("beginning", Reset::Earliest),
            ("largest", Reset::Latest),
            ("end", Reset::Latest),
            ("error", Reset::Error),
        ];
        v.reset(&mut reset, known)?;
        d.consumer.on_no_commit = reset;
        d.consumer.on_out_of_range = reset;
        Ok(())
    }),
    set("isolation.level", "read_uncommitted", |d, v| {
        v.choice(
            &mut d.consumer.isolation_level,
            &[
                ("read_uncommitted", IsolationLevel::ReadUncommitted),
                ("read_committed", IsolationLevel::ReadCommitted),
            ],
        )
    }),
    set("fetch.min.bytes", "1", |d, v| v.number(&mut d.consumer.fetch_min_bytes)),
    set("fetch.max.bytes", "52428800", |d, v| v.number(&mut d.consumer.fetch_max_bytes)),
    set("fetch.max.wait.ms", "500", |d, v| v.millis(&mut d.consumer.fetch_max_wait)),
    set("max.partition.fetch.bytes", "1048576", |d, v| v.number(&mut d.consumer.max_partition_fetch_bytes)),
    set("fetch.buffer.bytes", "", |d, v| v.number(&mut d.consumer.fetch_buffer_bytes)),
    set("check.crcs", "true", |d, v| v.flag(&mut d.consumer.check_crcs)),
    set("key.deserializer", "", |d, v| d.format(v)),
    set("value.deserializer", "", |d, v| d.format(v)),
    only("exclude.internal.topics", "true", "topics are subscribed to by name"),
    // librdkafka's names for the same.
    alias("metadata.broker.list", "bootstrap.servers"),
    alias("socket.timeout.ms", "request.timeout.ms"),
    alias("topic.metadata.refresh.interval.ms", "metadata.max.age.ms"),
    alias("socket.send.buffer.bytes", "send.buffer.bytes"),
    alias("socket.receive.buffer.bytes", "receive.buffer.bytes"),
    alias("request.required.acks", "acks"),
    alias("message.send.max.retries", "retries"),
    alias("max.in.flight", "max.in.flight.requests.per.connection"),
    alias("message.timeout.ms", "delivery.timeout.ms"),
    alias("queue.buffering.max.ms", "linger.ms"),
    alias("message.max.bytes", "max.request.size"),
    alias("compression.codec", "compression.type"),
    alias("partitioner", "partitioner.class"),
    alias("fetch.wait.max.ms", "fetch.max.wait.ms"),
    alias("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    Key { name: "queue.buffering.max.kbytes", default: "", rule: Rule::Kibibytes("buffer.memory") },
    Key { name: "queued.max.messages.kbytes", default: "", rule: Rule::Kibibytes("fetch.buffer.bytes") },
    only("socket.nagle.disable", "true", "small requests never wait for one another"),
    only("socket.keepalive.enable", "true", "dead connections have to be found"),
    only("broker.address.family", "any", "every address of a name is tried"),
    only("group.protocol.type", "consumer", "a consumer is a consumer"),
    only("enable.partition.eof", "false", "the end of a partition is not reported"),
    only("enable.gapless.guarantee", "false", "a failed batch does not stop the producer"),
    only("delivery.report.only.error", "false", "every delivery resolves"),
    only("offset.store.method", "broker", "offsets are kept by the group"),
    only("api.version.request", "true", "versions are always negotiated"),
];

/// Names that Kafka's clients know and this one cannot honour yet, with what is missing.
const NOT_YET: &[(&str, &[&str])] = &[
    ("share groups are missing", &["share.acknowledgement.mode", "share.acquire.mode"]),
    (
        "Kerberos is not there, in no feature",
        &[
            "sasl.kerberos.service.name",
            "sasl.kerberos.principal",
            "sasl.kerberos.keytab",
            "sasl.kerberos.kinit.cmd",
            "sasl.kerberos.ticket.renew.window.factor",
            "sasl.kerberos.ticket.renew.jitter",
            "sasl.kerberos.min.time.before.relogin",
        ],
    ),
    (
        "tokens that nobody has signed are for the program to make, by Sasl::oauth_bearer",
        &["sasl.oauthbearer.config"],
    ),
    ("lists of revoked certificates are not read", &["ssl.crl.location"]),
];

const JVM_ONLY: &str = "only a Java virtual machine can honour it";

/// Names without an effect here, with the reason.
const IGNORED: &[(&str, &[&str])] = &[
    (
        "brokers check tokens; a client passes them on",
        &[
            "sasl.oauthbearer.jwt.validator.class",
            "sasl.oauthbearer.clock.skew.seconds",
            "sasl.oauthbearer.scope.claim.name",
            "sasl.oauthbearer.sub.claim.name",
            "sasl.oauthbearer.jwks.endpoint.url",
            "sasl.oauthbearer.jwks.endpoint.refresh.ms",
            "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
            "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
            "sasl.oauthbearer.expected.audience",
            "sasl.oauthbearer.expected.issuer",
            "sasl.oauthbearer.allow.unverified.audience",
            "sasl.oauthbearer.allow.unverified.issuer",
        ],
    ),
    (
        "the content of a file tells its form, and both sides agree on the newest version of TLS",
        &["ssl.keystore.type", "ssl.truststore.type", "ssl.protocol"],
    ),
    (
        JVM_ONLY,
        &[
            "security.providers",
            "ssl.provider",
            "ssl.keymanager.algorithm",
            "ssl.trustmanager.algorithm",
            "ssl.secure.random.implementation",
            "ssl.engine.factory.class",
            "sasl.login.class",
            "sasl.client.callback.handler.class",
            "sasl.login.callback.handler.class",
            "metric.reporters",
            "metrics.sample.window.ms",
            "metrics.num.samples",
            "metrics.recording.level",
        ],
    ),
    (
        "names are resolved when a connection is opened, within its own timeout",
        &["bootstrap.resolve.timeout.ms"],
    ),
    (
        "logging goes through the tracing crate",
        &[
            "debug",
            "log_level",
            "log.queue",
            "log.thread.name",
            "log.connection.close",
            "statistics.interval.ms",
        ],
    ),
    (
        "it tunes how librdkafka works inside",
        &[
            "api.version.fallback.ms",
            "api.version.request.timeout.ms",
            "broker.version.fallback",
            "broker.address.ttl",
            "coordinator.query.interval.ms",
            "enable.random.seed",
            "fetch.error.backoff.ms",
            "fetch.queue.backoff.ms",
            "internal.termination.signal",
            "message.copy.max.bytes",
            "queue.buffering.backpressure.threshold",
            "queuing.strategy",
            "reconnect.backoff.jitter.ms",
            "socket.blocking.max.ms",
            "socket.max.fails",
            "topic.metadata.propagation.max.ms",
            "topic.metadata.refresh.fast.cnt",
            "topic.metadata.refresh.fast.interval.ms",
            "topic.metadata.refresh.sparse",
        ],
    ),
];

/// Names that mean something elsewhere, with where or what instead. A program that sets one expects an effect.
const NOT_APPLICABLE: &[(&str, &[&str])] = &[
    (
        "it is a setting of the broker or of the topic",
        &[
            "auto.create.topics.enable",
            "background.threads",
            "broker.id",
            "broker.rack",
            "cleanup.policy",
            "default.replication.factor",
            "delete.topic.enable",
            "group.initial.rebalance.delay.ms",
            "group.max.session.timeout.ms",
            "group.min.session.timeout.ms",
            "listeners",
            "advertised.listeners",
            "log.cleanup.policy",
            "log.dirs",
            "log.flush.interval.messages",
            "log.flush.interval.ms",
            "log.retention.bytes",
            "log.retention.hours",
            "log.retention.minutes",
            "log.retention.ms",
            "log.roll.hours",
            "log.roll.ms",
            "log.segment.bytes",
            "max.connections",
            "max.message.bytes",
            "message.timestamp.type",
            "min.insync.replicas",
            "node.id",
            "num.io.threads",
            "num.network.threads",
            "num.partitions",
            "num.recovery.threads.per.data.dir",
            "num.replica.fetchers",
            "offsets.retention.minutes",
            "offsets.topic.num.partitions",
            "offsets.topic.replication.factor",
            "replica.fetch.min.bytes",
            "replica.lag.time.max.ms",
            "retention.bytes",
            "retention.ms",
            "segment.bytes",
            "transaction.max.timeout.ms",
            "transaction.state.log.min.isr",
            "transaction.state.log.replication.factor",
            "unclean.leader.election.enable",
        ],
    ),
    ("the buffer is limited in bytes, by buffer.memory", &["queue.buffering.max.messages"]),
    ("a batch is limited in bytes, by batch.size", &["batch.num.messages"]),
    ("what is fetched ahead is limited in bytes, by fetch.buffer.bytes", &["queued.min.messages"]),
    ("say what finishes a record in the program: finish_on", &["enable.auto.offset.store"]),
    ("records without a key stay with a partition for batch.size bytes", &["sticky.partitioning.linger.ms"]),
    ("only topics that are used are asked for", &["topic.blacklist"]),
    ("nothing is loaded at run time", &["plugin.library.paths"]),
];

/// What is known about `name`, if anything is.
pub(super) fn find(name: &str) -> Option<Known> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Some(Known::Key(key));
    }
    let among = |table: &'static [(&'static str, &'static [&'static str])]| {
        table.iter().find_map(|(reason, names)| {
            names.iter().find(|known| **known == name).map(|known| (*known, *reason))
        })
    };
    among(NOT_YET)
        .map(|(key, reason)| Known::NotYet(key, reason))
        .or_else(|| among(IGNORED).map(|(key, reason)| Known::Ignored(key, reason)))
        .or_else(|| among(NOT_APPLICABLE).map(|(key, reason)| Known::NotApplicable(key, reason)))
        .or_else(|| {
            name.starts_with("metrics.context.").then_some(Known::Ignored("metrics.context.*", JVM_ONLY))
        })
}

/// All names, the most likely ones first.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let listed =
        [NOT_YET, IGNORED, NOT_APPLICABLE].into_iter().flatten().flat_map(|(_, names)| names.iter().copied());
    KEYS.iter().map(|key| key.name).chain(listed)
}
