//! The list of all settings: what each is called, how it is shown, and what it trades. A line is all that is said of a setting
//! beside its builder's method; it refuses to know where a value came from.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::super::goal::{Aim, Goal, of_consumers, of_producers};
use super::super::{Acks, ClientConfig, ConsumerConfig, ProducerConfig, When};
use super::{Line, Settings, line};
use crate::security::Sasl;

fn ms(time: Duration) -> String {
    time.as_millis().to_string()
}

fn or(value: Option<impl fmt::Display>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), |value| value.to_string())
}

/// A name of a variant as configurations have it.
fn word(value: impl fmt::Debug) -> String {
    let mut words = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && words.ends_with(char::is_lowercase) {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

impl Settings for ClientConfig {
    const OF: &'static str = "client";
    const LINES: &'static [Line<Self>] = &[
        line(
            "bootstrap.servers",
            "bootstrap",
            |c| c.servers.join(","),
            "more of them find the cluster when some are down",
        ),
        line(
            "client.id",
            "client_id",
            |c| if c.client_id.is_empty() { "by kind and number".into() } else { c.client_id.to_string() },
            "the name in the brokers' logs and quotas",
        ),
        line(
            "client.rack",
            "client_rack",
            |c| or(c.client_rack.as_ref(), "unknown"),
            "set: partitions and replicas near by, where the cluster has them",
        ),
        line(
            "security.protocol",
            "security_protocol",
            |c| c.security.protocol().to_string(),
            "with SSL nobody on the way can read or change anything, for some CPU",
        ),
        line(
            "sasl.mechanism",
            "sasl",
            |c| or(c.security.sasl.as_ref().map(Sasl::mechanism), "none"),
            "SCRAM shows a password to nobody; PLAIN and OAUTHBEARER show theirs to the broker",
        ),
        line(
            "tls",
            "tls",
            |c| c.security.show_tls(),
            "roots of your own: only who has a certificate of yours is believed",
        ),
        line(
            "request.timeout.ms",
            "request_timeout",
            |c| ms(c.request_timeout),
            "shorter: a stuck broker is left sooner; longer: a slow one is waited for",
        ),
        line(
            "default.api.timeout.ms",
            "default_api_timeout",
            |c| ms(c.default_api_timeout),
            "shorter: calls fail sooner; longer: they outlive more trouble",
        ),
        line(
            "metadata.max.age.ms",
            "metadata_max_age",
            |c| ms(c.metadata_max_age),
            "shorter: new partitions are seen sooner, for more requests",
        ),
        line(
            "metadata.recovery.rebootstrap.trigger.ms",
            "rebootstrap_trigger",
            |c| ms(c.rebootstrap_trigger),
            "shorter: a cluster that moved is found sooner",
        ),
        line(
            "metadata.cluster.check.enable",
            "cluster_check",
            |c| c.cluster_check.to_string(),
            "off: an address that leads to another cluster is not noticed",
        ),
        line(
            "connector",
            "connector",
            |c| c.connector.to_string(),
            "one of your own opens connections as it likes: proxies, other addresses",
        ),
        line(
            "connections.max.idle.ms",
            "connections_max_idle",
            |c| ms(c.connections_max_idle),
            "longer: fewer connections are opened again; beyond a load balancer's limit they are cut",
        ),
        line(
            "send.buffer.bytes",
            "send_buffer_bytes",
            |c| or(c.send_buffer_bytes, "operating system's"),
            "a fixed size ends the system's own tuning",
        ),
        line(
            "receive.buffer.bytes",
            "receive_buffer_bytes",
            |c| or(c.receive_buffer_bytes, "operating system's"),
            "a fixed size ends the system's own tuning",
        ),
        line(
            "receive.message.max.bytes",
            "frame_bytes_max",
            |c| c.frame_bytes_max.to_string(),
            "the most memory that one answer can cost",
        ),
        line(
            "allow.auto.create.topics",
            "allow_auto_create_topics",
            |c| c.allow_auto_create_topics.to_string(),
            "true: a mistyped name becomes a topic",
        ),
        line(
            "retry.backoff.ms",
            "retry_backoff",
            |c| ms(c.retry_backoff),
            "shorter: back sooner, at the price of more requests in trouble",
        ),
        line(
            "retry.backoff.max.ms",
            "retry_backoff",
            |c| ms(c.retry_backoff_max),
            "the longest wait between two attempts",
        ),
        line(
            "reconnect.backoff.ms",
            "reconnect_backoff",
            |c| ms(c.reconnect_backoff),
            "shorter: back sooner, at the price of more attempts",
        ),
        line(
            "reconnect.backoff.max.ms",
            "reconnect_backoff",
            |c| ms(c.reconnect_backoff_max),
            "the longest wait between two attempts",
        ),
        line(
            "socket.connection.setup.timeout.ms",
            "socket_setup_timeout",
            |c| ms(c.socket_setup_timeout),
            "shorter: a dead address is left sooner",
        ),
        line(
            "socket.connection.setup.timeout.max.ms",
            "socket_setup_timeout",
            |c| ms(c.socket_setup_timeout_max),
            "what it grows to while connecting fails",
        ),
    ];

    fn aims(_: Goal) -> &'static [Aim<Self>] {
        &[]
    }

    fn called(&self) -> &BTreeSet<&'static str> {
        &self.called
    }
}

impl Settings for ProducerConfig {
    const OF: &'static str = "producer";
    const LINES: &'static [Line<Self>] = &[
        line(
            "acks",
            "acks",
            |c| match c.acks {
                Acks::All => "all".into(),
                acks => acks.wire().to_string(),
            },
            "fewer: sooner acknowledged, and lost with the leader",
        ),
        line(
            "enable.idempotence",
            "idempotence",
            |c| c.idempotence.to_string(),
            "false: retries may duplicate and reorder",
        ),
        line(
            "retries",
            "retries",
            |c| c.retries.to_string(),
            "fewer: errors come before delivery.timeout.ms",
        ),
        line(
            "max.in.flight.requests.per.connection",
            "max_in_flight",
            |c| c.max_in_flight.to_string(),
            "more: a long way to the broker costs less; beyond 5 without idempotence only",
        ),
        line(
            "delivery.timeout.ms",
            "delivery_timeout",
            |c| ms(c.delivery_timeout),
            "longer: outlives longer outages; shorter: errors come sooner, some of them in doubt",
        ),
        line(
            "linger.ms",
            "linger",
            |c| ms(c.linger),
            "more: fuller batches and fewer requests; less: each record goes sooner",
        ),
        line(
            "batch.size",
            "batch_size",
            |c| c.batch_size.to_string(),
            "larger: fewer requests and better compression, for more memory",
        ),
        line(
            "buffer.memory",
            "buffer_memory",
            |c| c.buffer_memory.to_string(),
            "more: longer pauses of a broker go unnoticed",
        ),
        line(
            "max.block.ms",
            "max_block",
            |c| ms(c.max_block),
            "longer: full buffers hold the caller up; shorter: they are errors",
        ),
        line(
            "max.request.size",
            "max_request_size",
            |c| c.max_request_size.to_string(),
            "larger: larger records; the topic has a limit of its own",
        ),
        line(
            "compression.type",
            "compression",
            |c| c.compression.to_string(),
            "less network and disk for processor time: lz4 and snappy are quick, zstd and gzip are small",
        ),
        line(
            "compression.level",
            "compression_level",
            |c| or(c.compression_level, "the codec's own"),
            "higher: smaller and slower",
        ),
        line(
            "interceptor.classes",
            "interceptor",
            |c| or(Some(c.interceptors.len()).filter(|len| *len > 0), "none"),
            "each sees every record: what they cost is paid for each",
        ),
        line(
            "partitioner.class",
            "partitioner",
            |c| word(&c.partitioner),
            "equal keys must meet: all producers of a topic need the same",
        ),
        line(
            "partitioner.adaptive.partitioning.enable",
            "adaptive_partitioning",
            |c| c.adaptive_partitioning.to_string(),
            "true: slow brokers get fewer of the records without a key; false: all get as many",
        ),
        line(
            "partitioner.availability.timeout.ms",
            "partition_availability_timeout",
            |c| ms(c.partition_availability_timeout),
            "0: only queues tell; more: a broker that takes nothing for so long is passed over",
        ),
        line(
            "partitioner.rack.aware",
            "rack_aware_partitioning",
            |c| c.rack_aware_partitioning.to_string(),
            "true: no traffic between racks for records without a key, and partitions as uneven as racks",
        ),
        line(
            "metadata.max.idle.ms",
            "metadata_max_idle",
            |c| ms(c.metadata_max_idle),
            "longer: the next record of an idle topic need not wait for metadata",
        ),
        line(
            "transactional.id",
            "transactional_id",
            |c| or(c.transactional_id.as_ref(), "none"),
            "whoever starts with it fences the one before",
        ),
        line(
            "transaction.timeout.ms",
            "transaction_timeout",
            |c| ms(c.transaction_timeout),
            "longer: longer transactions; a lost producer holds readers of committed records up that long",
        ),
        line(
            "transaction.two.phase.commit.enable",
            "two_phase_commit",
            |c| c.two_phase_commit.to_string(),
            "true: something else decides; a lost producer holds readers of committed records up until then",
        ),
    ];

    fn aims(goal: Goal) -> &'static [Aim<Self>] {
        of_producers(goal)
    }

    fn called(&self) -> &BTreeSet<&'static str> {
        &self.called
    }
}

impl Settings for ConsumerConfig {
    const OF: &'static str = "consumer";
    const LINES: &'static [Line<Self>] = &[
        line(
            "group.id",
            "group",
            |c| or(c.group_id.as_ref(), "none"),
            "its members share the partitions and the offsets",
        ),
        line(
            "group.instance.id",
            "group_instance_id",
            |c| or(c.group_instance_id.as_ref(), "none"),
            "with one: a restart moves no partitions, and a crash is noticed by session.timeout.ms alone",
        ),
        line(
            "group.protocol",
            "group_protocol",
            |c| word(c.group_protocol),
            "consumer: the broker assigns and only what moves stops; classic: every broker has it",
        ),
        line(
            "group.remote.assignor",
            "group_remote_assignor",
            |c| or(c.group_remote_assignor.as_ref(), "none"),
            "range puts neighbours together, uniform moves less; without one the broker chooses",
        ),
        line(
            "partition.assignment.strategy",
            "assignors",
            |c| c.assignors.iter().map(|assignor| assignor.name()).collect::<Vec<_>>().join(","),
            "cooperative-sticky stops what moves at a change, all others the whole group",
        ),
        line(
            "session.timeout.ms",
            "session_timeout",
            |c| ms(c.session_timeout),
            "shorter: what a lost member held goes on sooner; longer: pauses move nothing",
        ),
        line(
            "heartbeat.interval.ms",
            "heartbeat_interval",
            |c| ms(c.heartbeat_interval),
            "shorter: changes are heard of sooner, for more requests",
        ),
        line(
            "max.poll.interval.ms",
            "max_poll_interval",
            |c| ms(c.max_poll_interval),
            "longer: slow work keeps its partitions, and so does a stuck one",
        ),
        line(
            "stall_after",
            "stall_after",
            |c| ms(c.stall_after),
            "shorter: a standstill is told sooner, and slow work is taken for one",
        ),
        line(
            "hook_timeout",
            "hook_timeout",
            |c| ms(c.hook_timeout),
            "longer: slow hooks are waited for, and so is a stuck one",
        ),
        line(
            "max.poll.records",
            "max_poll_records",
            |c| c.max_poll_records.to_string(),
            "more: fewer calls; a crash repeats more",
        ),
        line(
            "finish_on",
            "finish_on",
            |c| word(c.done),
            "on_next and on_ack: a crash repeats; delivered: a crash loses",
        ),
        line(
            "enable.auto.commit",
            "commit_when",
            |c| match c.when {
                When::Every(time) => format!("every {} ms", ms(time)),
                When::Hybrid { records, within } => format!("{records} records or {} ms", ms(within)),
                when => word(when),
            },
            "more often: a crash repeats less, for more requests",
        ),
        line(
            "auto.offset.reset",
            "on_no_commit",
            |c| word(c.on_no_commit),
            "latest skips what came before the first commit",
        ),
        line(
            "on_out_of_range",
            "on_out_of_range",
            |c| word(c.on_out_of_range),
            "error: what retention took is told; else it is a silent gap",
        ),
        line(
            "isolation.level",
            "isolation_level",
            |c| word(c.isolation_level),
            "read_committed: nothing of aborted transactions, and a wait for open ones",
        ),
        line(
            "fetch.min.bytes",
            "fetch_min_bytes",
            |c| c.fetch_min_bytes.to_string(),
            "more: fewer requests; records wait for others",
        ),
        line(
            "fetch.max.wait.ms",
            "fetch_max_wait",
            |c| ms(c.fetch_max_wait),
            "how long fetch.min.bytes may hold a record back",
        ),
        line(
            "fetch.max.bytes",
            "fetch_max_bytes",
            |c| c.fetch_max_bytes.to_string(),
            "more: fewer requests, for more memory",
        ),
        line(
            "max.partition.fetch.bytes",
            "max_partition_fetch_bytes",
            |c| c.max_partition_fetch_bytes.to_string(),
            "more: fewer requests; less: partitions take turns more often",
        ),
        line(
            "fetch.buffer.bytes",
            "fetch_buffer_bytes",
            |c| c.fetch_buffer_bytes.to_string(),
            "more: more is fetched ahead, for more memory",
        ),
        line(
            "batch_bytes_max",
            "batch_bytes_max",
            |c| c.batch_bytes_max.to_string(),
            "the most memory that one compressed batch can cost",
        ),
        line(
            "check.crcs",
            "check_crcs",
            |c| c.check_crcs.to_string(),
            "false: a little less work, and damaged records go unnoticed",
        ),
    ];

    fn aims(goal: Goal) -> &'static [Aim<Self>] {
        of_consumers(goal)
    }

    fn called(&self) -> &BTreeSet<&'static str> {
        &self.called
    }
}
