//! What producers, consumers and admin clients of one [`Client`](crate::Client) have in common.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::wire::Str;

use super::LENGTH_MAX;
use super::goal::Goal;
use super::problem::{ConfigError, Findings, Warning};
use super::security::Security;
use super::{ConsumerConfig, ProducerConfig};
use crate::connect::{Connector, Given};
use crate::security::SecurityProtocol;

/// Sets up a [`Client`](crate::Client). Every setting has a default but [`bootstrap`](ClientBuilder::bootstrap); each
/// is checked when the client is built, and an error names the keys by Kafka's names.
///
/// ```
/// # fn main() -> Result<(), ottla::Error> {
/// use std::time::Duration;
///
/// let client = ottla::Client::builder()
///     .bootstrap("localhost:9092")
///     .client_id("billing")
///     .request_timeout(Duration::from_secs(10))
///     .build()?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    pub(crate) config: ClientConfig,
    /// What producers start from: our defaults, or what a property file says.
    pub(crate) producer: ProducerConfig,
    /// What consumers start from.
    pub(crate) consumer: ConsumerConfig,
    pub(crate) warnings: Vec<Warning>,
    /// Where connections, randomness and time come from.
    pub(crate) outside: crate::world::Outside,
}

settings! {
    /// The checked settings of a client.
    ClientConfig set by ClientBuilder {
        /// How long one request may take, from the moment it is due until its answer is read (`request.timeout.ms`).
        /// Default 30 s, from 1 ms.
        request_timeout: Duration = Duration::from_secs(30);
        /// The deadline of calls that name none: commits, position look-ups, admin calls (`default.api.timeout.ms`).
        /// Default 60 s, from 1 ms.
        default_api_timeout: Duration = Duration::from_secs(60);
        /// How old metadata may be before it is refreshed without need (`metadata.max.age.ms`). Default 5 min,
        /// from 1 ms.
        metadata_max_age: Duration = Duration::from_secs(300);
        /// How long metadata may be out of reach before the client starts again from the bootstrap servers
        /// (`metadata.recovery.rebootstrap.trigger.ms`, KIP-1102). Default 5 min, from 0.
        rebootstrap_trigger: Duration = Duration::from_secs(300);
        /// Whether this client keeps to the cluster that answered first, and to the broker that it means to reach
        /// (`metadata.cluster.check.enable`, KIP-1242). Brokers from 4.4 on check both when a connection opens; of older ones
        /// the cluster's id is compared in their metadata. Whoever turns out to be another is left with an error that says so, and
        /// the client starts again from the bootstrap servers. Default `true`.
        cluster_check: bool = true;
        /// When a connection without traffic is closed (`connections.max.idle.ms`). A connection that waits for an
        /// answer is not idle. Default 3 min, from 1 ms; Kafka's default of 9 min lies above the limit of cloud load
        /// balancers, which cut idle connections without a word.
        connections_max_idle: Duration = Duration::from_secs(180);
        /// The socket's send buffer in bytes (`send.buffer.bytes`); `None` leaves it to the operating system, which
        /// adapts it to the connection. Default `None`, from 1.
        send_buffer_bytes: Option<u32> = None;
        /// The socket's receive buffer in bytes (`receive.buffer.bytes`); `None` leaves it to the operating system,
        /// which adapts it to the connection. Default `None`, from 1.
        receive_buffer_bytes: Option<u32> = None;
        /// The largest answer, in bytes, that is read from a broker; a longer one is refused before memory is set
        /// aside (librdkafka's `receive.message.max.bytes`). Default 100,000,000, from 1,000, and it must hold what a
        /// consumer may fetch at once.
        frame_bytes_max: usize = 100_000_000;
        /// Whether asking for a topic that does not exist may create it, where the broker allows that
        /// (`allow.auto.create.topics`). Default `false`, unlike Kafka's clients: a mistyped name is to fail, not to
        /// become a topic.
        allow_auto_create_topics: bool = false;
    } and by hand {
        /// As written: `host:port`, lists of them, or with the protocol in front, as in `SSL://`.
        servers: Vec<String> = Vec::new();
        /// What `servers` means: host and port, without duplicates. Filled by `check`.
        bootstrap: Vec<(String, u16)> = Vec::new();
        /// Empty until a handle is built that was given none.
        client_id: Str = Str::default();
        client_rack: Option<Str> = None;
        retry_backoff: Duration = Duration::from_millis(100);
        retry_backoff_max: Duration = Duration::from_millis(1000);
        reconnect_backoff: Duration = Duration::from_millis(50);
        reconnect_backoff_max: Duration = Duration::from_millis(1000);
        socket_setup_timeout: Duration = Duration::from_secs(10);
        socket_setup_timeout_max: Duration = Duration::from_secs(30);
        /// Who opens connections.
        connector: Given = Given::default();
        /// What connections are made of, and who logs in on them.
        security: Security = Security::default();
        /// What matters most, if anything does.
        goal: Option<Goal> = None;
        /// The keys that a file has set, for producers and consumers too.
        given: BTreeSet<&'static str> = BTreeSet::new();
    }
}

impl ClientBuilder {
    /// Where to look for the cluster first (`bootstrap.servers`): `host:port`, or several with commas between.
    /// Calling it again adds more. Names are resolved when a connection is opened, never here.
    pub fn bootstrap(mut self, servers: impl AsRef<str>) -> Self {
        self.config.servers.extend(servers.as_ref().split(',').map(|server| server.trim().to_owned()));
        self.config.called.insert("bootstrap");
        self
    }

    /// The name that brokers see in their logs and quotas (`client.id`). Default: `producer-N`, or
    /// `consumer-<group>-N`.
    pub fn client_id(mut self, id: impl AsRef<str>) -> Self {
        self.config.client_id = Str::from(id.as_ref());
        self.config.called.insert("client_id");
        self
    }

    /// Where this client runs, in the terms of the brokers' `broker.rack` (`client.rack`). Groups are told, for whoever
    /// assigns partitions by racks, and leaders, which may send a consumer to a replica in its rack (KIP-392). Default:
    /// unknown.
    pub fn client_rack(mut self, rack: impl AsRef<str>) -> Self {
        self.config.client_rack = Some(Str::from(rack.as_ref())).filter(|rack| !rack.is_empty());
        self.config.called.insert("client_rack");
        self
    }

    /// The wait before a request is tried again, doubled from `base` up to `max`, ±20 % (`retry.backoff.ms` and
    /// `retry.backoff.max.ms`, KIP-580). Default 100 ms and 1 s, from 0.
    pub fn retry_backoff(mut self, base: Duration, max: Duration) -> Self {
        (self.config.retry_backoff, self.config.retry_backoff_max) = (base, max);
        self.config.called.insert("retry_backoff");
        self
    }

    /// The wait before a broker is dialled again, doubled from `base` up to `max`, ±20 % (`reconnect.backoff.ms` and
    /// `reconnect.backoff.max.ms`). Default 50 ms and 1 s, from 0.
    pub fn reconnect_backoff(mut self, base: Duration, max: Duration) -> Self {
        (self.config.reconnect_backoff, self.config.reconnect_backoff_max) = (base, max);
        self.config.called.insert("reconnect_backoff");
        self
    }

    /// How long connecting and the handshake may take, doubled from `base` up to `max` while they fail
    /// (`socket.connection.setup.timeout.ms` and `socket.connection.setup.timeout.max.ms`). Default 10 s and 30 s,
    /// from 1 ms.
    pub fn socket_setup_timeout(mut self, base: Duration, max: Duration) -> Self {
        (self.config.socket_setup_timeout, self.config.socket_setup_timeout_max) = (base, max);
        self.config.called.insert("socket_setup_timeout");
        self
    }

    /// Opens every connection of this client, in the place of TCP; TLS and logins go over it. Default: [`Tcp`](crate::Tcp) with
    /// this client's buffer sizes.
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.config.connector = Given(Some(Arc::new(connector)));
        self.config.called.insert("connector");
        self
    }

    /// What is odd about the properties that this builder was made from: keys without an effect here, and the like.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl ClientConfig {
    /// Checks every rule about these settings, and settles what follows from them: the addresses, and backoffs whose base
    /// lies above their ceiling.
    pub(crate) fn check(&mut self) -> Result<Vec<Warning>, ConfigError> {
        let mut found = Findings::default();
        if self.servers.is_empty() {
            found.add(ConfigError::Missing { key: "bootstrap.servers" });
        }
        self.check_values(&mut found);
        self.security.settle(&mut found);
        found.finish()
    }

    /// As [`check`](Self::check), for settings that may still be added to.
    pub(super) fn check_values(&mut self, found: &mut Findings) {
        self.security.check_values(found);
        self.check_seeds(found);
        found.millis("request.timeout.ms", self.request_timeout, 1);
        found.millis("default.api.timeout.ms", self.default_api_timeout, 1);
        found.millis("metadata.max.age.ms", self.metadata_max_age, 1);
        found.millis("metadata.recovery.rebootstrap.trigger.ms", self.rebootstrap_trigger, 0);
        found.millis("connections.max.idle.ms", self.connections_max_idle, 1);
        found.within("send.buffer.bytes", self.send_buffer_bytes.unwrap_or(1), 1..=i32::MAX.unsigned_abs());
        found.within(
            "receive.buffer.bytes",
            self.receive_buffer_bytes.unwrap_or(1),
            1..=i32::MAX.unsigned_abs(),
        );
        found.within("receive.message.max.bytes", self.frame_bytes_max, 1_000..=LENGTH_MAX);
        for (key, ceiling_key, base, ceiling, least) in [
            ("retry.backoff.ms", "retry.backoff.max.ms", &mut self.retry_backoff, self.retry_backoff_max, 0),
            (
                "reconnect.backoff.ms",
                "reconnect.backoff.max.ms",
                &mut self.reconnect_backoff,
                self.reconnect_backoff_max,
                0,
            ),
            (
                "socket.connection.setup.timeout.ms",
                "socket.connection.setup.timeout.max.ms",
                &mut self.socket_setup_timeout,
                self.socket_setup_timeout_max,
                1,
            ),
        ] {
            found.millis(key, *base, least);
            found.millis(ceiling_key, ceiling, least);
            if *base > ceiling {
                found.warn(
                    &[key, ceiling_key],
                    "the first lies above the second, so the second is always used",
                );
                *base = ceiling;
            }
        }
    }

    fn check_seeds(&mut self, found: &mut Findings) {
        self.bootstrap.clear();
        let protocol = self.security.protocol();
        for entry in &self.servers {
            match seed(entry, protocol) {
                Ok(seed) if self.bootstrap.contains(&seed) => {
                    found.warn(&["bootstrap.servers"], format!("{entry} is named twice"));
                }
                Ok(seed) => self.bootstrap.push(seed),
                Err(expected) => found.bad_value("bootstrap.servers", format!("{entry:?}"), expected),
            }
        }
    }
}

/// Host and port of one bootstrap entry, or what it should have looked like.
fn seed(entry: &str, protocol: SecurityProtocol) -> Result<(String, u16), &'static str> {
    let address = match entry.split_once("://") {
        None => entry,
        Some((named, address)) if named.eq_ignore_ascii_case(&protocol.to_string()) => address,
        Some(_) => {
            return Err("host:port, and a protocol in front only where it is that of security.protocol");
        }
    };
    let (host, port) = address.rsplit_once(':').ok_or("host:port, and the port is missing")?;
    let host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner,
        None if host.contains(':') => return Err("[address]:port, with an IPv6 address in brackets"),
        None => host,
    };
    let odd = |c: char| !(c.is_alphanumeric() || "-._%:".contains(c));
    if host.is_empty() || host.contains(odd) {
        return Err("host:port, with the name or the address of a host");
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok((host.to_owned(), port)),
        _ => Err("host:port, with a port from 1 to 65535"),
    }
}
