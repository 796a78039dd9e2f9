//! Transactions and pipelines on the bundled broker: a test for each fault of transactions that can be provoked here.
//!
//! Each test names what must hold, and its comment the faults and promises that it stands for. What takes an exact order
//! of events is tested with the machine alone (`client/src/core/transaction/alone.rs`), and what takes luck in the scenarios
//! of the simulator.
#![allow(clippy::unwrap_used)]

mod cancelled;
mod coordinators;
mod ends;
mod pipelines;
#[path = "../polls/mod.rs"]
mod polls;
mod scene;
mod versions;
