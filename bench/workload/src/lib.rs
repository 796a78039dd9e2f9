//! What every benchmarked client shares: the command line, the values, the loops that send and receive them, the
//! accounting of CPU and memory, and the JSON line on standard output that `bench/run` reads.
//!
//! A peer is a small binary that hands its client to these loops, so that all clients are measured by the same code.
//! This crate knows no client and no broker. One line of JSON comes out of each process, whatever happens.

mod consume;
mod latency;
mod meter;
mod produce;
mod settings;
mod values;

pub use consume::Tally;
pub use latency::{Arrivals, Latencies, closed_loop, delivery_loop, open_loop};
pub use meter::{Meter, fail};
pub use produce::{Producer, first, produce};
pub use settings::{Mode, Settings, Tuning};
pub use values::{Values, fold};
