//! Batches that are too large for their topic: back to their place, and on in parts (KIP-126).
//!
//! It owns the way from the refusal to the parts; how large they are is [`super::fill`]'s, and a link does the work. Invariant:
//! the parts take exactly the sequence numbers of the whole, so what was sent behind it stays in order, and where the log
//! has the whole after all (an earlier attempt was in doubt) no part of it can get in.

use std::time::Instant;

use bytes::BytesMut;
use ottla_protocol::records::{HEADER_BYTES, Stamp, add_sequence};

use super::Work;
use super::batch::{Batch, BatchOutcome, Body, Number, Oversized, Ticket};
use super::producer::{News, Producer};
use super::sequence::Numbered;
use super::transaction::Transaction;
use crate::error::{Error, ErrorKind, Outcome};

impl<D: Ticket> Producer<D> {
    /// The topic refused a batch for its size. It goes back, and the next ones are made to fit.
    pub(super) fn refuse_size(&mut self, now: Instant, at: usize, mut batch: Batch<D>, error: Error) {
        let over = self.transaction.as_ref().is_some_and(|transaction| !transaction.is_going_on());
        match std::mem::replace(&mut batch.body, Body::Away) {
            Body::Encoded(bytes, _) if !batch.settled && !over => {
                let topic = self.queues[at].topic;
                self.topics[topic].fill.refused(bytes.len());
                batch.body = Body::Oversized(bytes);
                self.put_back(at, batch);
            }
            _ => {
                if batch.numbered.is_some() {
                    self.break_off(now, at);
                }
                let outcome = if batch.doubtful { Outcome::PossiblyWritten } else { Outcome::NotWritten };
                self.give_up(batch, error, outcome);
            }
        }
    }

    /// Lends the first batch of a partition to a link that splits it, if it is to be split.
    pub(super) fn lend_oversized(&mut self, at: usize) -> Option<Work> {
        let queue = &mut self.queues[at];
        let first = queue.waiting.front_mut()?;
        let Body::Oversized(bytes) = &first.body else { return None };
        let oversized = Oversized {
            at,
            number: first.number,
            batch: bytes.clone(),
            record_bytes: first.bytes,
            part_bytes: self.topics[queue.topic].fill.part(first.bytes, bytes.len()),
        };
        first.body = Body::Away;
        Some(Work::Split(Box::new(oversized)))
    }

    /// A link has split a batch: its parts take its place.
    pub(super) fn split(&mut self, now: Instant, at: usize, number: Number, parts: Vec<(BytesMut, Stamp)>) {
        // Whatever ended it meanwhile has told its deliveries.
        let Some(whole) = self.change(at, |queue| queue.take_waiting(number)) else { return };
        if parts.is_empty() {
            let message = "a batch could not be opened to be split";
            self.transaction.iter_mut().for_each(Transaction::doubt);
            self.break_off(now, at);
            self.give_up(whole, Error::new(ErrorKind::Corrupt, message), Outcome::NotWritten);
            return;
        }
        let name = self.topics[self.queues[at].topic].name.clone();
        let index = self.queues[at].index;
        self.ledger.split(number.opened, parts.len() - 1);
        let (mut first, mut claims) = (0, Vec::with_capacity(parts.len()));
        for (buffer, stamp) in parts {
            let ticket = D::new(&name, index);
            claims.push((first, ticket.claim()));
            let bytes = buffer.len().saturating_sub(HEADER_BYTES);
            self.buffered += bytes;
            let part = Batch {
                number: Number { from: number.from + first, ..number },
                body: Body::Sealed(buffer, stamp),
                bytes,
                limit: 0,
                count: stamp.count,
                opened_ms: whole.opened_ms,
                numbered: whole
                    .numbered
                    .map(|whole| Numbered { base: add_sequence(whole.base, first), ..whole }),
                attempts: 0,
                doubtful: whole.doubtful,
                part: whole.doubtful && self.config.idempotence,
                settled: false,
                ticket,
            };
            first += part.count;
            self.put_back(at, part);
        }
        self.buffered = self.buffered.saturating_sub(whole.bytes);
        self.news.push(News::Outcome(whole.ticket, BatchOutcome::Split(claims)));
        self.list(at);
    }
}
