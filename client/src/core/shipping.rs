//! Requests to write: which batches go into the next one, and what becomes of them once a link has encoded them.
//!
//! It owns the lane of one broker: linger that ends, the turn of its partitions, and how much a request holds. It refuses to know
//! what answers mean. Invariant: a request has at most one batch of a partition, and none that a sleeping link would not
//! have been woken for.

use std::time::Instant;

use bytes::Bytes;
use ottla_protocol::messages::ProduceRequest;
use ottla_protocol::records::{Codec, HEADER_BYTES, Stamp};

use super::batch::{Address, Batch, BatchOutcome, Body, Shipment, Ticket};
use super::producer::{Outlet, Producer};
use super::{Link, Work};
use crate::config::wire_millis;

impl<D: Ticket> Producer<D> {
    pub(super) fn outlet_wants(&self, now: Instant, node: i32) -> bool {
        let due = |outlet: &Outlet| outlet.lingering.front().is_some_and(|(at, ..)| *at <= now);
        self.outlets
            .get(&node)
            .is_some_and(|o| self.has_room_for_flight(o) && (!o.ready.is_empty() || due(o)))
    }

    pub(super) fn has_room_for_flight(&self, outlet: &Outlet) -> bool {
        outlet.flights.len() < self.config.max_in_flight
    }

    /// Closes the batches whose linger is over.
    pub(super) fn end_linger(&mut self, now: Instant, node: i32) {
        while let Some(outlet) = self.outlets.get_mut(&node)
            && let Some((until, at, number)) = outlet.lingering.front().copied()
        {
            let open = self.queues[at].open.as_ref().is_some_and(|batch| batch.number == number);
            if open && until > now {
                break;
            }
            outlet.lingering.pop_front();
            if open {
                self.seal(at, false);
            }
        }
    }

    /// A request of at most one batch for each ready partition, up to max.request.size.
    pub(super) fn ship(&mut self, now: Instant, link: Link) -> Option<Work> {
        self.end_linger(now, link.node);
        if !self.outlet_wants(now, link.node) {
            return None;
        }
        // From version 13 on a request names topics by id alone, which an old metadata answer does not have.
        let version_max = if self.has_ids { i16::MAX } else { 12 };
        let version_max =
            self.transaction.as_ref().map_or(version_max, |t| t.produce_version_max().min(version_max));
        let version = match self.cluster.version::<ProduceRequest>(link, version_max) {
            Ok(version) => version,
            Err(cause) => return Some(Work::Close(cause)),
        };
        let identity = self.identity();
        let (mut parcels, mut shipping, mut bytes) = (Vec::new(), Vec::new(), 0);
        let lifetime = self.config.delivery_timeout;
        while let Some(at) = self.outlets.get(&link.node).and_then(|outlet| outlet.ready.front().copied()) {
            let first = self.queues[at].waiting.front();
            let size = first.map_or(0, Batch::wire_bytes_max);
            let oversized = first.is_some_and(|batch| matches!(batch.body, Body::Oversized(_)));
            let again = shipping.iter().any(|(shipped, _)| *shipped == at);
            if again || (bytes > 0 && (oversized || bytes + size > self.config.max_request_size)) {
                break;
            }
            let outlet = self.outlets.entry(link.node).or_default();
            outlet.ready.pop_front();
            self.queues[at].listed = false;
            if oversized {
                return self.lend_oversized(at);
            }
            let (idempotent, transactional) = (self.config.idempotence, self.transaction.is_some());
            let sent = self.change(at, |queue| {
                let batch = queue.send(link.node, idempotent, identity)?;
                let first = (batch.attempts == 1).then_some((batch.count, batch.bytes));
                Some((batch.number, first, batch.lend(transactional)))
            });
            if let Some((number, first, parcel)) = sent {
                bytes += size;
                if let Some((count, bytes)) = first {
                    let accepted =
                        self.ledger.get(number.opened).and_then(|e| e.expires.checked_sub(lifetime));
                    self.metrics.sent(count, bytes, accepted.map(|at| now - at));
                }
                shipping.push((at, number));
                let queue = &self.queues[at];
                let topic = &self.topics[queue.topic];
                let address = Address { topic: topic.name.clone(), topic_id: topic.id, index: queue.index };
                parcels.push((address, parcel));
            }
            self.list(at);
        }
        if parcels.is_empty() {
            return None;
        }
        let outlet = self.outlets.entry(link.node).or_default();
        outlet.flights.push_back((now, shipping.clone()));
        outlet.shipping = shipping;
        outlet.taken = Some(now);
        let timeout = self.cluster.config.request_timeout;
        let (codec, acks) = (self.config.codec, self.config.acks.wire());
        let transactional_id = self.transaction.as_mut().map(|transaction| {
            transaction.touch();
            transaction.id().clone()
        });
        let timeout_ms = wire_millis(timeout);
        let shipment = Shipment { parcels, transactional_id, codec, acks, timeout_ms, version, timeout };
        Some(Work::Produce(Box::new(shipment)))
    }

    /// The link has encoded what it borrowed.
    pub(super) fn shipped(&mut self, link: Link, encoded: Vec<(Bytes, Stamp)>) {
        let Some(outlet) = self.outlets.get_mut(&link.node) else { return };
        let shipping = std::mem::take(&mut outlet.shipping);
        for ((at, number), (bytes, stamp)) in shipping.iter().zip(encoded) {
            self.metrics.sent_bytes += bytes.len() as u64;
            let queue = &mut self.queues[*at];
            if let Some(batch) = queue.out.iter_mut().find(|b| b.number == *number) {
                if batch.attempts == 1 && self.config.codec != Codec::NONE {
                    self.topics[queue.topic].fill.compressed(batch.bytes + HEADER_BYTES, bytes.len());
                }
                batch.body = Body::Encoded(bytes, stamp);
            }
        }
        if self.config.acks.wire() == 0 {
            // Nobody will answer: what the link has is as good as sent.
            self.outlets.entry(link.node).or_default().flights.pop_back();
            for (at, number) in shipping {
                if let Some(batch) = self.change(at, |queue| queue.take_out(number)) {
                    self.settle(batch, BatchOutcome::Written { base_offset: None, log_append_time: None });
                }
                self.list(at);
            }
        }
    }
}
