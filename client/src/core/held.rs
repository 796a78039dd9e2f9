//! The bytes that a consumer has in memory, and what waits for them to become fewer.
//!
//! It owns one number, the use of `fetch.buffer.bytes`: what was fetched, decompressed, and copied for the application. Each
//! piece of memory carries its [`Charge`], so its bytes count until whoever has it drops it, on whatever thread. Like the
//! facts of a lease it lives in atomics and nowhere else. Invariant: bytes that are let go outside of the lock
//! while somebody waits for them are told, by [`Charge::settle`] or by whoever passes the lock next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: AtomicUsize,
    /// Somebody waits until fewer bytes than this are held; 0 if nobody does.
    awaited: AtomicUsize,
}

impl Held {
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.bytes.fetch_add(bytes, SeqCst);
        Charge { held: self.clone(), bytes }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(SeqCst)
    }

    /// Whether at most this many bytes are held. If not, the [`Charge::settle`] that makes it so says it.
    pub(crate) fn is_at_most(&self, bytes: usize) -> bool {
        if self.bytes() <= bytes {
            return true;
        }
        // Of several who wait, whoever waits for least is told first, and then the others ask again.
        self.awaited.fetch_max(bytes.saturating_add(1), SeqCst);
        // What was let go between the question and the wish has told nobody.
        self.bytes() <= bytes
    }
}

/// Bytes that are held, until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    held: Arc<Held>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        self.held.bytes.fetch_add(bytes, SeqCst);
        self.held.bytes.fetch_sub(self.bytes, SeqCst);
        self.bytes = bytes;
    }

    /// Lets the bytes go. True if somebody waits for that, who is to be told by passing the lock.
    pub(crate) fn settle(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.bytes);
        let left = self.held.bytes.fetch_sub(bytes, SeqCst).saturating_sub(bytes);
        left < self.held.awaited.load(SeqCst) && self.held.awaited.swap(0, SeqCst) > 0
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, SeqCst);
    }
}
