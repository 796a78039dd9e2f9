//! The drivers: thin tokio tasks between the machines and the sockets.
//!
//! One supervisor a machine opens links and sends ticks, one task a link moves bytes. They own sockets, timers, wakers and
//! the lock; they refuse to decide anything about the protocol. Invariant: whoever sleeps has put its waker down in the
//! critical section that found nothing to do, and [`shared::Shared`] asks on behalf of every sleeper after each change.

pub(crate) mod connection;
pub(crate) mod handshake;
pub(crate) mod link;
mod login;
pub(crate) mod shared;
pub(crate) mod supervisor;
