//! Memory that a record is encoded into before it is copied into its batch.
//!
//! A record stands behind its own length, and user code never runs under the producer's lock: so a format cannot write into the
//! batch itself. It owns one buffer a thread, which makes that copy the only cost. Invariant: what a single large record has
//! made it grow is not kept.

use std::cell::Cell;

/// What a thread keeps for the next record.
const KEPT_BYTES: usize = 256 << 10;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer, which goes back when it is dropped, to the thread that drops it.
pub(super) struct Scratch(pub(super) Vec<u8>);

impl Scratch {
    pub(super) fn take() -> Self {
        Self(SPARE.try_with(Cell::take).unwrap_or_default())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if bytes.capacity() <= KEPT_BYTES {
            bytes.clear();
            // A thread that is ending keeps nothing.
            let _ = SPARE.try_with(|spare| spare.set(bytes));
        }
    }
}
