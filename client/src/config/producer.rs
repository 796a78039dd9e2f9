//! What a producer can be told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ottla_partitioners::{Partitioner, Scheme};
use ottla_protocol::records::{Codec, Compression, CompressionError};
use ottla_protocol::wire::Str;

use super::ClientConfig;
use super::LENGTH_MAX;
use super::problem::{ConfigError, Findings, Warning};
use crate::Client;
use crate::interceptor::{Chain, Interceptor};

/// Sets up a producer: [`Client::producer`] makes one, `build` starts it. The defaults are safe (acks from all
/// replicas, idempotent, five requests in flight) and are those of Kafka's Java client.
///
/// ```
/// # async fn example(client: ottla::Client) -> Result<(), ottla::Error> {
/// use std::time::Duration;
///
/// let producer = client.producer().linger(Duration::from_millis(20)).batch_size(131_072).build()?;
/// # drop(producer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ProducerBuilder {
    pub(crate) client: Client,
    pub(crate) config: ProducerConfig,
}

/// Who must have a batch before the broker says that it is written (`acks`).
///
/// ```
/// # fn example(client: ottla::Client) -> Result<(), ottla::Error> {
/// // Not idempotent: an idempotent producer needs the acknowledgement of all replicas.
/// let producer = client.producer().acks(ottla::Acks::Leader).build()?;
/// # drop(producer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Acks {
    /// Every replica that is in sync. What is acknowledged survives the loss of brokers.
    #[default]
    All,
    /// The leader alone. What is acknowledged is lost if it fails before the others have caught up.
    Leader,
    /// Nobody: the broker does not answer, and deliveries resolve when the bytes are on the socket. Anything may be
    /// lost.
    None,
}

impl Acks {
    /// The value of the request field.
    pub(crate) fn wire(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

/// Who picks the partition of a record that names none.
#[derive(Clone)]
pub(crate) enum PartitionerChoice {
    /// One of those that Kafka's clients have.
    Scheme(Scheme),
    /// One of the user's own.
    Custom(Arc<dyn Partitioner>),
}

impl fmt::Debug for PartitionerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionerChoice::Scheme(scheme) => scheme.fmt(f),
            PartitionerChoice::Custom(_) => f.write_str("Custom"),
        }
    }
}

settings! {
    /// The checked settings of a producer.
    ProducerConfig set by ProducerBuilder {
        /// Who must have a batch before it counts as written (`acks`). Default [`Acks::All`].
        acks: Acks = Acks::All;
        /// How often a batch is sent again (`retries`). [`delivery_timeout`](Self::delivery_timeout) ends it in any
        /// case. Default 2147483647, from 0.
        retries: u32 = i32::MAX.unsigned_abs();
        /// Requests on one connection that wait for an answer (`max.in.flight.requests.per.connection`). Default 5,
        /// from 1; at most 5 when the producer is idempotent, for a broker remembers that many batches.
        max_in_flight: usize = 5;
        /// How long a batch waits for more records before it is sent (`linger.ms`). Default 5 ms, from 0.
        linger: Duration = Duration::from_millis(5);
        /// The size in bytes at which a batch is full (`batch.size`). A larger record has a batch to itself. Default
        /// 16,384, from 0; 0 puts every record into a batch of its own.
        batch_size: usize = 16_384;
        /// Bytes of records that the producer holds, sent ones included until they are answered (`buffer.memory`).
        /// When it is full, `enqueue` waits. Default 33,554,432, from [`batch_size`](Self::batch_size).
        buffer_memory: usize = 33_554_432;
        /// How long a call may wait for room or for metadata (`max.block.ms`). Default 60 s, from 0.
        max_block: Duration = Duration::from_secs(60);
        /// The largest request, and the largest record, in bytes before compression (`max.request.size`). Default
        /// 1,048,576, from 1; the topic has a limit of its own, `max.message.bytes`.
        max_request_size: usize = 1_048_576;
        /// How batches are compressed (`compression.type`). Default [`Compression::None`]. A codec that this build
        /// cannot write is an error when the producer is built.
        compression: Compression = Compression::None;
        /// Whether records without a key go to a partition the more often the shorter its leader's queue is
        /// (`partitioner.adaptive.partitioning.enable`, KIP-794). Default `true`.
        adaptive_partitioning: bool = true;
        /// After how long a broker that takes nothing, though records wait for it, gets no records without a key any more,
        /// until it takes some (`partitioner.availability.timeout.ms`, KIP-794). Default 0, which is never.
        partition_availability_timeout: Duration = Duration::ZERO;
        /// Whether records without a key go to partitions with a leader in the client's own
        /// [rack](crate::ClientBuilder::client_rack), as long as one is there (`partitioner.rack.aware`, KIP-1123).
        /// Default `false`.
        rack_aware_partitioning: bool = false;
        /// When a topic that was not produced to is forgotten (`metadata.max.idle.ms`). Default 5 min, from 5 s.
        metadata_max_idle: Duration = Duration::from_secs(300);
        /// How long a transaction may be open before the coordinator aborts it (`transaction.timeout.ms`). Default 60 s,
        /// from 1 ms; at most what the broker allows (`transaction.max.timeout.ms`, 15 min).
        transaction_timeout: Duration = Duration::from_secs(60);
        /// Whether transactions may be [prepared](crate::Transaction#method.prepare), to be ended by what an application decides
        /// elsewhere (`transaction.two.phase.commit.enable`, KIP-939). They never run out of their time, so
        /// [`transaction_timeout`](Self::transaction_timeout) must not be set, and a producer that is lost holds readers of
        /// committed records up until another one ends what it left. Default `false`; needs the feature
        /// `unstable-two-phase-commit`, and brokers that allow it.
        two_phase_commit: bool = false;
    } and by hand {
        transactional_id: Option<Str> = None;
        idempotence: bool = true;
        /// Whether the user said so; only a default may be switched off by other settings.
        idempotence_named: bool = false;
        delivery_timeout: Duration = Duration::from_secs(120);
        /// Whether the user said so; only a default may be raised to what the other times add up to.
        delivery_timeout_named: bool = false;
        /// Whether a property said so; a call is known by its name.
        transaction_timeout_named: bool = false;
        /// What an earlier producer of the same transactional id has prepared stays open.
        keeps_prepared: bool = false;
        partitioner: PartitionerChoice = PartitionerChoice::Scheme(Scheme::Java);
        compression_level: Option<i32> = None;
        /// Who sees every record.
        interceptors: Chain = Chain::default();
        /// What `compression` and its level mean. Filled by `check`.
        codec: Codec = Codec::NONE;
    }
}

impl ProducerBuilder {
    /// Whether the broker drops what arrives twice and refuses what arrives out of order (`enable.idempotence`).
    /// Default `true`, and switched off by [`acks`](Self::acks) other than all or by no [`retries`](Self::retries);
    /// when it was asked for by this call, those are errors.
    pub fn idempotence(mut self, idempotence: bool) -> Self {
        self.config.idempotence = idempotence;
        self.config.idempotence_named = true;
        self.config.called.insert("idempotence");
        self
    }

    /// The name under which transactions are written (`transactional.id`): the same for each start of the same part of a
    /// service, and no other's, since a producer that starts with it fences the one before. Not empty; needs
    /// [`idempotence`](Self::idempotence). [`build_transactional`](Self::build_transactional) makes such a producer.
    pub fn transactional_id(mut self, id: &str) -> Self {
        self.config.transactional_id = Some(Str::from(id));
        self.config.called.insert("transactional_id");
        self
    }

    /// How long a record may take from its acceptance until its delivery resolves, retries included
    /// (`delivery.timeout.ms`). Waiting for room in the buffer comes before acceptance and does not count. Default
    /// 120 s; it must be at least [`linger`](Self::linger) plus the client's
    /// [`request_timeout`](crate::ClientBuilder::request_timeout).
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.config.delivery_timeout = timeout;
        self.config.delivery_timeout_named = true;
        self.config.called.insert("delivery_timeout");
        self
    }

    /// The level of [`compression`](Self::compression) (`compression.<codec>.level`, KIP-390). Default: the codec's
    /// own. gzip has 1 to 9, zstd -131072 to 22.
    pub fn compression_level(mut self, level: i32) -> Self {
        self.config.compression_level = Some(level);
        self.config.called.insert("compression_level");
        self
    }

    /// How records that name no partition are placed, as one of Kafka's clients does it (`partitioner.class`). Default
    /// [`Scheme::Java`]: by the murmur2 hash of the key, and without a key one partition until it has had a batch's
    /// worth of bytes, then another. Replaces an earlier `scheme` or `partitioner`.
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.config.partitioner = PartitionerChoice::Scheme(scheme);
        self.config.called.insert("partitioner");
        self
    }

    /// Places records that name no partition in a way of your own. Replaces an earlier `scheme` or `partitioner`.
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.config.partitioner = PartitionerChoice::Custom(Arc::new(partitioner));
        self.config.called.insert("partitioner");
        self
    }
}

impl ProducerBuilder {
    /// Has every record seen by this, before it is sent and when its outcome is known (`interceptor.classes`). Several are
    /// asked in the order in which they were added.
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.config.interceptors.add(interceptor);
        self.config.called.insert("interceptor");
        self
    }
}

impl ProducerConfig {
    /// Checks every rule about these settings, and settles the two that follow from others.
    pub(crate) fn check(&mut self, client: &ClientConfig) -> Result<Vec<Warning>, ConfigError> {
        let mut found = Findings::default();
        found.within("retries", self.retries, 0..=i32::MAX.unsigned_abs());
        found.within("max.in.flight.requests.per.connection", self.max_in_flight, 1..=1_000_000);
        found.millis("linger.ms", self.linger, 0);
        found.within("batch.size", self.batch_size, 0..=LENGTH_MAX);
        found.millis("max.block.ms", self.max_block, 0);
        found.within("max.request.size", self.max_request_size, 1..=LENGTH_MAX);
        found.millis("delivery.timeout.ms", self.delivery_timeout, 0);
        found.millis("metadata.max.idle.ms", self.metadata_max_idle, 5_000);
        found.millis("partitioner.availability.timeout.ms", self.partition_availability_timeout, 0);
        if self.rack_aware_partitioning && client.client_rack.is_none() {
            found.warn(&["partitioner.rack.aware", "client.rack"], "without a rack all racks are the same");
        }
        if self.buffer_memory < self.batch_size.max(1) {
            found.contradiction(
                &["buffer.memory", "batch.size"],
                format!("{} bytes of memory cannot hold a batch of {}", self.buffer_memory, self.batch_size),
            );
        }
        found.millis("transaction.timeout.ms", self.transaction_timeout, 1);
        if self.transactional_id.as_ref().is_some_and(|id| id.is_empty()) {
            found.bad_value("transactional.id", "", "a name that is not empty");
        }
        self.check_two_phases(&mut found);
        client.weigh(self, &mut found);
        self.settle_codec(&mut found);
        self.settle_idempotence(&mut found);
        self.settle_delivery_timeout(client, &mut found);
        found.finish()
    }

    fn check_two_phases(&self, found: &mut Findings) {
        const KEY: &str = "transaction.two.phase.commit.enable";
        if !self.two_phase_commit {
            return;
        }
        if !cfg!(feature = "unstable-two-phase-commit") {
            let reason = "the feature unstable-two-phase-commit is off".to_string();
            found.add(ConfigError::NotCompiledIn { key: KEY, value: "true".to_string(), reason });
        }
        if self.transaction_timeout_named || self.called.contains("transaction_timeout") {
            let reason = "transactions of two phases never run out of their time";
            found.contradiction(&[KEY, "transaction.timeout.ms"], reason);
        }
        if self.transactional_id.is_none() {
            found.contradiction(&[KEY, "transactional.id"], "only transactions have two phases");
        }
    }

    fn settle_codec(&mut self, found: &mut Findings) {
        match Codec::new(self.compression, self.compression_level) {
            Ok(codec) => self.codec = codec,
            Err(CompressionError::Level { compression, level, allowed }) => {
                found.bad_value(level_key(compression), level, format!("another: {allowed}"));
            }
            Err(error) => found.add(ConfigError::NotCompiledIn {
                key: "compression.type",
                value: self.compression.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    fn settle_idempotence(&mut self, found: &mut Findings) {
        // Transactions are nothing without it (rule 3), so it is never switched off by other settings.
        self.idempotence_named |= self.transactional_id.is_some();
        if !self.idempotence {
            if self.transactional_id.is_some() {
                let reason = "transactions need idempotence";
                found.contradiction(&["transactional.id", "enable.idempotence"], reason);
            }
            return;
        }
        let against = match (self.acks, self.retries) {
            (Acks::All, 1..) => None,
            (Acks::All, 0) => Some(("retries", "idempotence needs at least one retry")),
            _ => Some(("acks", "idempotence needs the acknowledgement of all replicas")),
        };
        match against {
            Some((key, reason)) if self.idempotence_named => {
                found.contradiction(&["enable.idempotence", key], reason);
            }
            Some((key, reason)) => {
                found.warn(&["enable.idempotence", key], format!("switched off, because {reason}"));
                self.idempotence = false;
            }
            None if self.max_in_flight > 5 => found.contradiction(
                &["enable.idempotence", "max.in.flight.requests.per.connection"],
                "a broker remembers the last five batches, so at most 5 requests may be in flight",
            ),
            None => {}
        }
    }

    fn settle_delivery_timeout(&mut self, client: &ClientConfig, found: &mut Findings) {
        let least = self.linger.saturating_add(client.request_timeout);
        if self.delivery_timeout >= least {
            return;
        }
        let keys = ["delivery.timeout.ms", "linger.ms", "request.timeout.ms"];
        if self.delivery_timeout_named {
            found.contradiction(
                &keys,
                format!(
                    "{} ms is less than the other two together, {} ms",
                    self.delivery_timeout.as_millis(),
                    least.as_millis()
                ),
            );
        } else {
            found.warn(
                &keys,
                format!("the first is raised to {} ms, what the others add up to", least.as_millis()),
            );
            self.delivery_timeout = least;
        }
    }
}

/// Where Java writes the level of a codec.
pub(super) fn level_key(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => "compression.gzip.level",
        Compression::Lz4 => "compression.lz4.level",
        Compression::Zstd => "compression.zstd.level",
        Compression::None | Compression::Snappy => "compression.level",
    }
}
