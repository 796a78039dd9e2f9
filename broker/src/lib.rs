//! A Kafka broker for tests and development: in process in one line, or as the binary `ottla-broker`.
//!
//! Several nodes live in one process, each on its own port, with topics, partitions, leaders, idempotent and transactional
//! producers, fetch sessions, and groups of both protocols that behave as Apache Kafka's. What it does not know it refuses with Kafka's error codes.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = ottla_broker::TestBroker::builder().nodes(3).topic("orders", 6).start().await?;
//! println!("connect to {}", broker.bootstrap());
//! # Ok(()) }
//! ```
//!
//! Floors, lower never knows higher: `core` and `api` are the machine, which is told what happened and says what to
//! answer; `broker`, `server` and `tcp` are what moves bytes around it.

mod api;
mod broker;
mod builder;
mod core;
mod disk;
mod faults;
mod inspect;
#[cfg(test)]
mod page;
mod security;
mod server;
mod tcp;
mod world;

pub use api::Answer;
pub use broker::Broker;
pub use builder::{Builder, StartError};
pub use core::settings::{Honoured, SettingError};
pub use faults::{Fault, FaultId};
pub use inspect::{
    ConsumerGroupView, ConsumerMemberView, GroupView, Leader, LogRecord, PartitionView, ProducerView,
    TransactionView,
};
pub use tcp::TestBroker;
pub use world::{RealWorld, Work, World};
