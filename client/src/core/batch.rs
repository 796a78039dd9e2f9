//! A batch on its way: open, sealed, encoded, and what becomes of it.
//!
//! It owns the bytes of the records and what is known of their fate; where the batch stands in its partition is the
//! queue's business. Compressing, stamping and the checksum happen in [`Shipment::finish`], splitting in
//! [`Oversized::split`], which a link calls without the lock. Invariant: encoded bytes are shared by reference count, so a buffer is used again only when no socket can
//! still be reading from it (KAFKA-19012).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_protocol::messages::{ProducePartition, ProduceRequest, ProduceTopic};
use ottla_protocol::records::{
    Batch as Closed, BatchBuilder, Codec, Compression, Compressor, Decompressor, HEADER_BYTES, Header,
    RecordError, Stamp, stamp,
};
use ottla_protocol::wire::{Str, Uuid};

use super::sequence::Numbered;
use super::{Ask, Input, Request};
use crate::error::Error;

/// What the machine owes to those who wait for a batch. It makes one when it opens the batch, and gives it its outcome
/// once. Dropping the last clone before that is told, too: the machine was lost.
pub(crate) trait Ticket: Clone + Send + 'static {
    /// What a record's owner waits with.
    type Claim: Clone + Send;
    fn new(topic: &Str, partition: i32) -> Self;
    fn claim(&self) -> Self::Claim;
    /// Called outside the lock.
    fn settle(self, outcome: BatchOutcome<Self::Claim>);
}

/// What became of a batch. `C` claims the outcome of a part of it.
#[derive(Debug, Clone)]
pub(crate) enum BatchOutcome<C> {
    /// In the log. No offset after acks=0, and when the broker only knows that it had the batch before.
    Written { base_offset: Option<i64>, log_append_time: Option<i64> },
    /// Not acknowledged; the error says whether it may be written.
    Failed(Error),
    /// Refused because of these records, by their position in the batch (KIP-467). The others are not written either.
    Refused { error: Error, records: Vec<(i32, Option<Str>)> },
    /// It was too large for its topic, and goes on in parts (KIP-126): each with the position of its first record.
    Split(Vec<(i32, C)>),
}

/// Names a batch and its place in the order: batches rise with the time at which they were opened, over all partitions,
/// and the parts of one that was split by the records they begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    pub(crate) opened: u64,
    /// The position of its first record in the batch that was opened.
    pub(crate) from: i32,
}

#[derive(Debug)]
pub(crate) enum Body {
    Open(BatchBuilder),
    /// Full or due; its header is not written.
    Sealed(BytesMut, Stamp),
    /// With a link, which encodes or splits it, or with the task that has filled it, which compresses it.
    Away,
    /// As it goes over the wire.
    Encoded(Bytes, Stamp),
    /// As it went over the wire, and too large for its topic: a link is to split it.
    Oversized(Bytes),
}

#[derive(Debug)]
pub(crate) struct Batch<D> {
    pub(crate) number: Number,
    pub(crate) body: Body,
    /// Bytes of the records before compression: what it holds of buffer.memory.
    pub(crate) bytes: usize,
    /// At how many bytes before compression, header included, it is full.
    pub(crate) limit: usize,
    pub(crate) count: i32,
    /// When it was opened, milliseconds since the epoch: the timestamp of records that name none.
    pub(crate) opened_ms: i64,
    pub(crate) numbered: Option<Numbered>,
    pub(crate) attempts: u32,
    /// An attempt ended without a definite answer: it may be in the log.
    pub(crate) doubtful: bool,
    /// One of several that a larger one was split into, under the same sequence numbers. If it is in doubt, the log may
    /// have the larger one.
    pub(crate) part: bool,
    /// Its deliveries have been told; it only stays for its place in the sequence.
    pub(crate) settled: bool,
    pub(crate) ticket: D,
}

impl<D> Batch<D> {
    /// Takes no more records.
    pub(crate) fn seal(&mut self) {
        if let Body::Open(_) = self.body
            && let Body::Open(builder) = std::mem::replace(&mut self.body, Body::Away)
        {
            let (buffer, stamp) = builder.into_parts();
            self.body = Body::Sealed(buffer, stamp);
        }
    }

    /// How many bytes of a request it takes at most: what is not encoded yet may not compress.
    pub(crate) fn wire_bytes_max(&self) -> usize {
        match &self.body {
            Body::Encoded(bytes, _) => bytes.len(),
            _ => self.bytes + HEADER_BYTES,
        }
    }

    /// What a link needs to encode it. The body is away until the link gives it back.
    pub(crate) fn lend(&mut self, transactional: bool) -> Parcel {
        let (base, identity) = self.numbered.map_or((-1, None), |n| (n.base, Some(n.identity)));
        let numbered = |stamp: Stamp| Stamp {
            producer_id: identity.map_or(-1, |i| i.id),
            producer_epoch: identity.map_or(-1, |i| i.epoch),
            base_sequence: base,
            transactional,
            ..stamp
        };
        match std::mem::replace(&mut self.body, Body::Away) {
            Body::Sealed(buffer, stamp) => Parcel::Sealed(buffer, numbered(stamp)),
            Body::Encoded(bytes, stamp) if numbered(stamp) == stamp => Parcel::Encoded(bytes, stamp),
            Body::Encoded(bytes, stamp) => Parcel::Renumbered(bytes, numbered(stamp)),
            // Only a sealed batch is in a queue, and one that is too large is not sent.
            Body::Open(_) | Body::Away | Body::Oversized(_) => {
                Parcel::Encoded(Bytes::new(), Stamp::default())
            }
        }
    }

    /// The buffer, if nobody reads from it any more.
    pub(crate) fn into_buffer(self) -> Option<BytesMut> {
        match self.body {
            Body::Encoded(bytes, _) | Body::Oversized(bytes) => bytes.try_into_mut().ok(),
            Body::Sealed(buffer, _) => Some(buffer),
            Body::Open(builder) => Some(builder.into_parts().0),
            Body::Away => None,
        }
    }
}

/// A batch that a link has borrowed.
#[derive(Debug)]
pub(crate) enum Parcel {
    Sealed(BytesMut, Stamp),
    Encoded(Bytes, Stamp),
    /// Encoded once, and to be stamped again; its compressed bytes stay.
    Renumbered(Bytes, Stamp),
}

impl Parcel {
    pub(super) fn encode(self, codec: Codec, compressor: &mut Compressor) -> (Bytes, Stamp) {
        let (mut buffer, mut fields, fresh) = match self {
            Parcel::Encoded(bytes, stamp) => return (bytes, stamp),
            Parcel::Renumbered(bytes, stamp) => {
                (bytes.try_into_mut().unwrap_or_else(|b| BytesMut::from(&b[..])), stamp, false)
            }
            Parcel::Sealed(buffer, stamp) => (buffer, stamp, true),
        };
        if fresh && codec.compression() != Compression::None {
            // A codec that fails, or that makes more of it, leaves the batch as it is: uncompressed records are as good.
            if compressor.compress_in_place(codec, &mut buffer).unwrap_or(false) {
                fields.compression = codec.compression();
            }
        }
        let stamped = stamp(&mut buffer, &fields);
        debug_assert!(
            stamped.is_ok(),
            "the builder keeps a batch below 2 GiB and leaves room for its header"
        );
        (buffer.freeze(), fields)
    }
}

/// Where a parcel goes.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) topic: Str,
    pub(crate) topic_id: Uuid,
    pub(crate) index: i32,
}

/// A Produce request whose batches are not encoded yet.
#[derive(Debug)]
pub(crate) struct Shipment {
    pub(crate) parcels: Vec<(Address, Parcel)>,
    pub(crate) transactional_id: Option<Str>,
    pub(crate) codec: Codec,
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) version: i16,
    pub(crate) timeout: Duration,
}

impl Shipment {
    /// Compresses and stamps what is not encoded yet: the work that must not be done under the lock. Returns the request,
    /// and the encoded batches in the order of the parcels.
    pub(crate) fn finish(self, compressor: &mut Compressor) -> (Request, Vec<(Bytes, Stamp)>) {
        let mut request = ProduceRequest {
            transactional_id: self.transactional_id,
            acks: self.acks,
            timeout_ms: self.timeout_ms,
            ..ProduceRequest::default()
        };
        let mut encoded = Vec::with_capacity(self.parcels.len());
        for (address, parcel) in self.parcels {
            let (bytes, stamp) = parcel.encode(self.codec, compressor);
            tracing::trace!(topic = %address.topic, partition = address.index, bytes = bytes.len(), "a batch is sent");
            let partition = ProducePartition { index: address.index, records: Some(bytes.clone()).into() };
            encoded.push((bytes, stamp));
            let topics = &mut request.topic_data;
            match topics.iter_mut().find(|t| t.name == address.topic) {
                Some(topic) => topic.partition_data.push(partition),
                None => topics.push(ProduceTopic {
                    name: address.topic,
                    topic_id: address.topic_id,
                    partition_data: vec![partition],
                }),
            }
        }
        let answered = self.acks != 0;
        (
            Request { ask: Ask::Produce(request), version: self.version, timeout: self.timeout, answered },
            encoded,
        )
    }
}

/// A batch that its topic refused as too large, lent to a link that splits it.
#[derive(Debug)]
pub(crate) struct Oversized {
    /// Its partition, by the position in the machine's list.
    pub(crate) at: usize,
    pub(crate) number: Number,
    /// As it was sent.
    pub(crate) batch: Bytes,
    /// Bytes of its records before compression.
    pub(crate) record_bytes: usize,
    /// How many bytes of records a part may have, before compression.
    pub(crate) part_bytes: usize,
}

impl Oversized {
    /// Opens the batch and writes its records into smaller ones, at least two if there are two records: work that must
    /// not be done under the lock. The machine is to be told the result; no parts are an error.
    pub(crate) fn split(self) -> Input {
        let parts = self.parts();
        debug_assert!(parts.is_ok(), "a batch that this client has encoded can be opened: {parts:?}");
        Input::Split { at: self.at, number: self.number, parts: parts.unwrap_or_default() }
    }

    fn parts(&self) -> Result<Vec<(BytesMut, Stamp)>, RecordError> {
        let batch = Closed::parse(self.batch.clone())?;
        let count_max = (batch.header().count + 1) / 2;
        let mut open = batch.open(&mut Decompressor::new(), self.record_bytes)?;
        let mut parts = Vec::new();
        let mut part: Option<BatchBuilder> = None;
        while let Some(record) = open.next()? {
            let headers: Vec<Header<'_>> = record.headers.collect();
            let (timestamp, key, value) = (record.timestamp, record.key, record.value);
            let full = part.take_if(|part| {
                let bytes = part.body().len() + part.size_of(timestamp, key, value, &headers);
                bytes > self.part_bytes || part.count() >= count_max
            });
            parts.extend(full.map(BatchBuilder::into_parts));
            let part = part.get_or_insert_with(|| BatchBuilder::new(BytesMut::new(), timestamp));
            part.append(timestamp, key, value, &headers)?;
        }
        parts.extend(part.map(BatchBuilder::into_parts));
        Ok(parts)
    }
}
