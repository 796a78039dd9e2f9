//! One scenario, three worlds: the simulator, the bundled broker over TCP, and Apache Kafka.
//!
//! A scenario is an `async fn` that drives the public API and judges what it saw by the checks in [`checks`]. Where it
//! runs is a [`backend::Backend`]; what may go wrong there is the backend's business. Invariant: no scenario knows which
//! world it is in, it only asks what the world can do.

pub mod backend;
pub mod checks;
pub mod cluster;
pub mod doors;
pub mod failure;
pub mod judge;
pub mod kafka;
pub mod network;
pub mod random;
pub mod record;
pub mod scenarios;
mod seam;
pub mod simulate;
pub mod tasks;
pub mod trace;
pub mod traffic;
pub mod world;

pub use failure::Failure;

/// The programs of README.md: they compile, and where they need no cluster they run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
