//! Who compresses a batch: the link that sends it, or the task that has filled it.
//!
//! It owns the decision to lend a sealed batch to its task, so that one broker's batches are compressed on several cores.
//! Compressing itself is [`Loan::compress`], without the lock. Invariant: a batch that is lent is away, so it does not go,
//! and nothing of its partition goes before it.

use bytes::Bytes;
use ottla_protocol::records::{Codec, Compressor, Stamp};

use super::batch::{Body, Number, Parcel, Ticket};
use super::producer::Producer;

/// A sealed batch, lent to the task that has filled it.
#[derive(Debug)]
pub(crate) struct Loan {
    /// Its partition, by the position in the machine's list.
    at: usize,
    number: Number,
    parcel: Parcel,
    codec: Codec,
}

/// What [`Producer::take_back`] is to be given.
#[derive(Debug)]
pub(crate) struct Compressed {
    at: usize,
    number: Number,
    encoded: (Bytes, Stamp),
}

impl Loan {
    /// Compresses the batch.
    pub(crate) fn compress(self, compressor: &mut Compressor) -> Compressed {
        let encoded = self.parcel.encode(self.codec, compressor);
        Compressed { at: self.at, number: self.number, encoded }
    }
}

impl<D: Ticket> Producer<D> {
    /// Lends the batch that was sealed last in a partition, if its codec takes time and the broker's link has another one
    /// to go on with.
    pub(crate) fn lend_sealed(&mut self, at: usize) -> Option<Loan> {
        let codec = self.config.codec;
        let backlog = self.backlog(at);
        let last = self.queues[at].waiting.back_mut()?;
        if codec == Codec::NONE || !matches!(last.body, Body::Sealed(..)) || backlog <= last.bytes {
            return None;
        }
        let (number, parcel) = (last.number, last.lend(self.transaction.is_some()));
        // If it is the first of its partition, that has to wait for it.
        self.list(at);
        Some(Loan { at, number, parcel, codec })
    }

    /// Takes a batch back. Whatever ended it meanwhile has told its deliveries.
    pub(crate) fn take_back(&mut self, compressed: Compressed) {
        let Compressed { at, number, encoded: (bytes, stamp) } = compressed;
        if let Some(batch) = self.queues[at].waiting.iter_mut().rfind(|batch| batch.number == number) {
            batch.body = Body::Encoded(bytes, stamp);
        }
        self.list(at);
    }
}
