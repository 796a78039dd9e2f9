//! Requests that wait: their tickets, and the answers that have come meanwhile.
//!
//! Invariant: an answer is kept only for a ticket that somebody still holds.

use crate::api::Answer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Stands for one request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug, Default)]
pub(crate) struct Parking {
    issued: u64,
    held: BTreeSet<Ticket>,
    answers: BTreeMap<Ticket, Answer>,
    woken: VecDeque<Ticket>,
}

impl Parking {
    pub(crate) fn issue(&mut self) -> Ticket {
        self.issued += 1;
        let ticket = Ticket(self.issued);
        self.held.insert(ticket);
        ticket
    }

    /// Leaves the answer for the holder of the ticket and wakes it.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if self.held.contains(&ticket) {
            self.answers.insert(ticket, answer);
            self.woken.push_back(ticket);
        }
    }

    /// Tells the holder of the ticket that its answer can be made now.
    pub(crate) fn wake(&mut self, ticket: Ticket) {
        self.woken.push_back(ticket);
    }

    /// Takes the answer that was left, and the ticket back.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Answer> {
        let answer = self.answers.remove(&ticket)?;
        self.held.remove(&ticket);
        Some(answer)
    }

    /// The holder is gone, or got its answer otherwise.
    pub(crate) fn give_up(&mut self, ticket: Ticket) {
        self.held.remove(&ticket);
        self.answers.remove(&ticket);
    }

    pub(crate) fn poll_woken(&mut self) -> Option<Ticket> {
        self.woken.pop_front()
    }
}
