//! A native async Kafka producer and consumer for Rust services.
//!
//! A [`Client`] holds the settings; [`Client::producer`] and [`Client::consumer`] build the parts that do work. Nothing blocks,
//! no thread is started, and every wait has a limit.
//!
//! ```no_run
//! # async fn run() -> Result<(), ottla::Error> {
//! use ottla::{Client, Payload};
//!
//! let client = Client::builder().bootstrap("127.0.0.1:9092").build()?;
//! let producer = client.producer().build()?;
//! let orders = producer.topic("orders");
//! let written = orders.send(Payload::new(b"4711", b"one cup of coffee")).await?;
//! println!("partition {}, offset {:?}", written.partition, written.offset);
//! producer.close(std::time::Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Outcomes
//! Every send resolves exactly once, by its `delivery.timeout.ms` at the latest. An error says through [`Error::outcome`] whether
//! the record is certainly not written, or may be.
//!
//! # Cancelling
//! Dropping the future of `enqueue` before it is ready sends nothing. Dropping a [`Delivery`] detaches: the record is sent
//! all the same. Dropping a handle returns at once; `close` is the graceful way.

mod admin;
mod client;
mod config;
mod connect;
mod consumer;
mod core;
mod driver;
mod error;
mod event;
pub mod format;
mod interceptor;
mod metrics;
mod pipeline;
#[cfg_attr(
    not(feature = "unstable-world"),
    expect(unreachable_pub, reason = "public under the feature unstable-world")
)]
mod planted;
mod producer;
mod rebalance;
mod security;
#[cfg_attr(
    not(feature = "unstable-world"),
    expect(unreachable_pub, reason = "public under the feature unstable-world")
)]
#[cfg(not(feature = "unstable-world"))]
mod world;
#[cfg(feature = "unstable-world")]
pub mod world;

pub use self::core::group::GroupMetadata;
pub use admin::{
    Acl, AclFilter, AclOperation, AclPattern, AclPermission, AclResource, Admin, ClusterDescription,
    CommittedOffset, CreatedTopic, DelegationToken, Election, GroupDescription, GroupListing, GroupMember,
    ListedOffset, NewDelegationToken, NewTopic, Node, OffsetReset, OffsetSpec, PartitionDescription,
    Reassignment, Results, ScramChange, ScramMechanism, TopicDescription,
};
pub use client::Client;
pub use config::{
    Acks, Assignor, ClientBuilder, ConfigError, ConsumerBuilder, Done, Explanation, Goal, GroupProtocol,
    IsolationLevel, Origin, PartitionAssignor, ProducerBuilder, Reset, Setting, Subscriber, Warning, When,
};
pub use connect::{Connecting, Connector, Stream, Tcp};
pub use consumer::{
    CloseOptions, CommitOutcome, Consumer, Control, EventStream, OwnedRecord, PartitionStream,
    PartitionStreams, Record, RecordBatch, RecordStream, SeekTo, StreamEnd,
};
pub use error::{Error, ErrorKind, Outcome, Result};
pub use event::{Event, Hook, HookFailure, PositionCause, StallReason};
pub use interceptor::{Interceptor, Outgoing};
pub use metrics::{ConsumerMetrics, Health, Histogram, ProducerMetrics};
pub use ottla_partitioners as partitioners;
pub use ottla_protocol::error_code::ErrorCode;
pub use ottla_protocol::records::{Codec, Compression, Header};
pub use ottla_protocol::wire::Uuid;
pub use pipeline::{Pipeline, Step};
pub use producer::{
    CloseReport, Deliveries, Delivery, Enqueue, Full, Monitor, Offset, Payload, Previous, Producer,
    RecordMetadata, Topic, Transaction, TransactionTopic, TransactionalProducer,
};
#[cfg(feature = "unstable-two-phase-commit")]
pub use producer::{PreparedState, PreparedTransaction};
pub use rebalance::{HookError, OffsetStore, RebalanceHooks};
#[cfg(feature = "_tls")]
pub use security::Tls;
#[cfg(all(feature = "oidc", feature = "_tls"))]
pub use security::{Assertion, AssertionAlgorithm, Oidc};
#[cfg(feature = "msk-iam")]
pub use security::{AwsCredentials, AwsCredentialsProvider, MskIam};
pub use security::{
    Sasl, Secret, SecurityProtocol, Token, TokenError, TokenFile, TokenFuture, TokenProvider, TokenRefresh,
};
