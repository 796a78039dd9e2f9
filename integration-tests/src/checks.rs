//! What must always hold: a history of one topic, judged against the log that the cluster kept.
//!
//! It owns the names of the rules: S and C are safety of sends and of consuming, L1 says that every send ends, and the
//! words in front are the ones that Jepsen's reports use. It refuses to know how records travelled. Invariant: a check
//! only reads the history, so that any of them can run at any time and in any order.

use crate::record::RecordId;
use crate::{Failure, ensure, fail};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A record as the log holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its place in the partition.
    pub offset: i64,
    /// Which record it is.
    pub id: RecordId,
    /// Whether key and value are the ones that were sent.
    pub intact: bool,
    /// Id and epoch of the producer that wrote it, and the sequence number of its batch.
    pub source: (i64, i16, i32),
}

/// Every partition of a topic from its start to its high watermark.
pub type Log = BTreeMap<i32, Vec<Logged>>;

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client said that the record is at this place; the offset is unknown where the broker did not tell.
    Written {
        /// The partition that the client reported.
        partition: i32,
        /// The offset that the client reported.
        offset: Option<i64>,
    },
    /// The client said that the record is certainly not in the log.
    NotWritten,
    /// The client said that it cannot know.
    PossiblyWritten,
}

/// One delivery to a consumer.
#[derive(Clone, Copy, Debug)]
struct Receipt {
    /// Who received it.
    member: u32,
    offset: i64,
    id: RecordId,
}

/// What the users of one topic did and saw, in the order in which it happened.
#[derive(Default)]
pub struct History(Mutex<State>);

#[derive(Default)]
struct State {
    sends: BTreeMap<RecordId, Vec<Ending>>,
    receipts: BTreeMap<i32, Vec<Receipt>>,
    finished: BTreeMap<i32, BTreeSet<i64>>,
    /// The last committed offset, in the order of the commits.
    committed: BTreeMap<i32, i64>,
    /// The last committed offset that was seen.
    glimpsed: BTreeMap<i32, i64>,
    violation: Option<String>,
}

impl History {
    /// A send was accepted: it must end.
    pub fn sending(&self, id: RecordId) {
        self.0.lock().sends.entry(id).or_default();
    }

    /// A send ended.
    pub fn ended(&self, id: RecordId, ending: Ending) {
        self.0.lock().sends.entry(id).or_default().push(ending);
    }

    /// A member got a record.
    pub fn received(&self, member: u32, partition: i32, offset: i64, id: RecordId) {
        let receipt = Receipt { member, offset, id };
        self.0.lock().receipts.entry(partition).or_default().push(receipt);
    }

    /// A record was finished, so that its offset may be committed.
    pub fn finished(&self, partition: i32, offset: i64) {
        self.0.lock().finished.entry(partition).or_default().insert(offset);
    }

    /// The cluster was seen to hold this committed offset. Judged at once: the next record may be finished a moment later.
    pub fn committed(&self, partition: i32, offset: i64) {
        self.glimpsed(partition, offset);
        self.committed_next(partition, offset);
    }

    /// Whoever was asked held this committed offset, and perhaps another one holds a newer: that it is of finished records only
    /// can be judged, its order cannot.
    pub fn glimpsed(&self, partition: i32, offset: i64) {
        let state = &mut *self.0.lock();
        let finished = state.finished.entry(partition).or_default();
        if let Some(open) = (0..offset).find(|earlier| !finished.contains(earlier)) {
            let text = format!(
                "int-commit-unfinished (C1): {partition} committed {offset}, but {open} is not finished"
            );
            state.violation.get_or_insert(text);
        }
        state.glimpsed.insert(partition, offset);
    }

    /// In the order of the commits, this one was next.
    pub fn committed_next(&self, partition: i32, offset: i64) {
        let state = &mut *self.0.lock();
        let before = state.committed.insert(partition, offset);
        if let Some(before) = before.filter(|before| *before > offset) {
            let text = format!("nonmonotonic-commit (C2): {partition} went from {before} back to {offset}");
            state.violation.get_or_insert(text);
        }
    }

    /// The first broken rule of commits.
    pub fn violation(&self) -> Option<String> {
        self.0.lock().violation.clone()
    }

    /// How many sends were accepted.
    pub fn accepted(&self) -> usize {
        self.0.lock().sends.len()
    }

    /// How many sends ended as `Written`.
    pub fn acked(&self) -> usize {
        let state = self.0.lock();
        state.sends.values().flatten().filter(|ending| matches!(ending, Ending::Written { .. })).count()
    }

    /// Ids that were received at least once.
    pub fn received_ids(&self) -> BTreeSet<RecordId> {
        self.0.lock().receipts.values().flatten().map(|receipt| receipt.id).collect()
    }

    /// Deliveries of records that had been delivered before.
    pub fn redelivered(&self) -> usize {
        let all: usize = self.0.lock().receipts.values().map(Vec::len).sum();
        all - self.received_ids().len()
    }

    /// S4, S5 (SEC13) and L1, for sends with any acks: nothing is there that nobody sent, or that is said not to be there.
    pub fn check_honesty(&self, log: &Log) -> Result<(), Failure> {
        self.check(log, false, false)
    }

    /// S1 to S5 and L1, for sends with acks=all; `idempotent` adds S2 and S3.
    pub fn check_sends(&self, log: &Log, idempotent: bool) -> Result<(), Failure> {
        self.check(log, true, idempotent)
    }

    fn check(&self, log: &Log, durable: bool, idempotent: bool) -> Result<(), Failure> {
        let state = self.0.lock();
        let places = places(log);
        for (id, endings) in &state.sends {
            let [ending] = endings[..] else {
                fail!("unresolved (L1): {id} was accepted and ended {} times", endings.len());
            };
            let found = places.get(id).map_or(&[][..], |found| &found[..]);
            match ending {
                Ending::Written { .. } if !durable => {}
                Ending::Written { partition, offset } => {
                    let there = found
                        .iter()
                        .any(|(p, o)| *p == partition && offset.is_none_or(|offset| offset == *o));
                    ensure!(
                        there,
                        "lost-write (S1): {id} was acknowledged at {partition}:{offset:?}, it is at {found:?}"
                    );
                }
                Ending::NotWritten => {
                    ensure!(found.is_empty(), "false-not-written (S4, S5): {id} is at {found:?}");
                }
                Ending::PossiblyWritten => {}
            }
        }
        for (id, found) in &places {
            ensure!(state.sends.contains_key(id), "phantom (S4): {id} was never sent, it is at {found:?}");
            ensure!(!idempotent || found.len() == 1, "duplicate (S2): {id} is at {}", copies(log, *id));
        }
        check_bytes(log)?;
        if idempotent { check_order(log) } else { Ok(()) }
    }

    /// S8, C1, C2 and C4. With `complete`, every acknowledged record must have reached the group.
    pub fn check_receipts(&self, log: &Log, complete: bool) -> Result<(), Failure> {
        if let Some(violation) = &self.0.lock().violation {
            fail!("{violation}");
        }
        let state = self.0.lock();
        for (partition, receipts) in &state.receipts {
            let Some(logged) = log.get(partition) else {
                fail!("unseen (S8): there is no partition {partition}")
            };
            check_partition(*partition, logged, receipts)?;
        }
        if complete {
            let seen: BTreeSet<_> = state.receipts.values().flatten().map(|receipt| receipt.id).collect();
            for logged in log.values().flatten() {
                ensure!(seen.contains(&logged.id), "poll-skip (C4): {} never reached the group", logged.id);
            }
        }
        Ok(())
    }

    /// C4: whoever begins again in front of what was received repeats no more records of the partition than this.
    pub fn check_repeats(&self, at_most: usize) -> Result<(), Failure> {
        let state = self.0.lock();
        for (partition, receipts) in &state.receipts {
            let mut seen = BTreeSet::new();
            for Receipt { member, offset, .. } in receipts {
                let repeated = seen.range(offset..).count();
                ensure!(
                    repeated <= at_most,
                    "repeats (C4): member {member} began again at {partition}:{offset}, {repeated} records back"
                );
                seen.insert(*offset);
            }
        }
        Ok(())
    }

    /// Every partition's committed offset, as last seen, is the end of the log.
    pub fn check_all_committed(&self, log: &Log) -> Result<(), Failure> {
        let state = self.0.lock();
        for (partition, logged) in log {
            let Some(end) = logged.last().map(|last| last.offset + 1) else { continue };
            let committed = state.glimpsed.get(partition);
            ensure!(committed == Some(&end), "{partition} ends at {end}, committed is {committed:?}");
        }
        Ok(())
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        write!(f, "{} sends, {} partitions received from", state.sends.len(), state.receipts.len())
    }
}

/// Where each record is in the log.
fn places(log: &Log) -> BTreeMap<RecordId, Vec<(i32, i64)>> {
    let mut places = BTreeMap::<_, Vec<_>>::new();
    for (partition, logged) in log {
        for record in logged {
            places.entry(record.id).or_default().push((*partition, record.offset));
        }
    }
    places
}

/// Every copy of a record, with who wrote it: a duplicate under two epochs has another cause than one under the same.
fn copies(log: &Log, id: RecordId) -> String {
    let mut text = Vec::new();
    for (partition, logged) in log {
        for record in logged.iter().filter(|record| record.id == id) {
            let (producer, epoch, sequence) = record.source;
            text.push(format!(
                "{partition}:{} (id {producer} epoch {epoch} sequence {sequence})",
                record.offset
            ));
        }
    }
    text.join(" and ")
}

/// S2: the bytes are the ones that were sent.
fn check_bytes(log: &Log) -> Result<(), Failure> {
    match log.values().flatten().find(|record| !record.intact) {
        Some(record) => {
            fail!("corrupt (S2): {} at {} has other bytes than were sent", record.id, record.offset)
        }
        None => Ok(()),
    }
}

/// S3: a writer's records stand in a partition in the order in which they were sent.
fn check_order(log: &Log) -> Result<(), Failure> {
    for (partition, logged) in log {
        let mut last = BTreeMap::new();
        for record in logged {
            let before = last.insert(record.id.writer, record.id.number);
            ensure!(
                before.is_none_or(|before| before < record.id.number),
                "reorder (S3): {} stands in {partition} at {} after number {before:?} of its writer",
                record.id,
                record.offset
            );
        }
    }
    Ok(())
}

/// S8 and the order of C4 in one partition.
fn check_partition(partition: i32, logged: &[Logged], receipts: &[Receipt]) -> Result<(), Failure> {
    let by_offset: BTreeMap<i64, RecordId> = logged.iter().map(|record| (record.offset, record.id)).collect();
    // A group reads a log from its start: whoever receives a record, everything before it was received by somebody.
    // Going back is allowed, for a new owner begins at the committed offset.
    let mut expected = logged.iter().map(|record| record.offset).peekable();
    for Receipt { member, offset, id } in receipts {
        let there = by_offset.get(offset);
        ensure!(
            there == Some(id),
            "inconsistent-offsets (S8): {partition}:{offset} was read as {id}, the log says {there:?}"
        );
        let skipped = expected.peek().filter(|expected| *expected < offset);
        ensure!(
            skipped.is_none(),
            "poll-skip (C4): member {member} got {partition}:{offset}, nobody got {skipped:?}"
        );
        expected.next_if_eq(offset);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> RecordId {
        RecordId { writer: 1, number }
    }

    fn log(numbers: &[u32]) -> Log {
        let logged = numbers.iter().zip(0..).map(|(number, offset)| Logged {
            offset,
            id: id(*number),
            intact: true,
            source: (1, 0, 0),
        });
        BTreeMap::from([(0, logged.collect())])
    }

    /// Sends with these endings against a log with these numbers break the rule that starts with `rule`, or none.
    fn check_sends(endings: &[(u32, Ending)], numbers: &[u32], rule: &str) {
        let history = History::default();
        endings.iter().for_each(|(number, ending)| history.ended(id(*number), *ending));
        let found = history.check_sends(&log(numbers), true).err().map(|failure| failure.to_string());
        let found = found.unwrap_or_default();
        assert!(found.starts_with(rule) && rule.is_empty() == found.is_empty(), "{rule:?} expected: {found}");
    }

    fn check_receipts(offsets: &[(i64, u32)], numbers: &[u32], rule: &str) {
        let history = History::default();
        offsets.iter().for_each(|(offset, number)| history.received(1, 0, *offset, id(*number)));
        let found = history.check_receipts(&log(numbers), true).err().map(|failure| failure.to_string());
        let found = found.unwrap_or_default();
        assert!(found.starts_with(rule) && rule.is_empty() == found.is_empty(), "{rule:?} expected: {found}");
    }

    const fn at(offset: i64) -> Ending {
        Ending::Written { partition: 0, offset: Some(offset) }
    }

    #[test]
    fn sends_that_kept_their_promise_pass() {
        let possibly = (3, Ending::PossiblyWritten);
        check_sends(&[(1, at(0)), (2, Ending::NotWritten), possibly], &[1], "");
        check_sends(&[(1, at(0)), (2, Ending::NotWritten), possibly], &[1, 3], "");
        check_sends(&[(1, Ending::Written { partition: 0, offset: None })], &[1], "");
    }

    #[test]
    fn each_broken_promise_of_a_send_is_named() {
        check_sends(&[(1, at(0))], &[], "lost-write (S1)");
        check_sends(&[(1, at(0)), (2, at(0))], &[1, 2], "lost-write (S1)");
        check_sends(&[(1, Ending::NotWritten)], &[1], "false-not-written (S4, S5)");
        check_sends(&[(1, at(0))], &[1, 1], "duplicate (S2)");
        check_sends(&[(1, at(1)), (2, at(0))], &[2, 1], "reorder (S3)");
        check_sends(&[(1, at(0))], &[1, 2], "phantom (S4)");
        check_sends(&[(1, at(0)), (1, at(0))], &[1], "unresolved (L1)");
        let history = History::default();
        history.sending(id(1));
        let found = history.check_sends(&log(&[]), true).err().map(|failure| failure.to_string());
        assert!(found.is_some_and(|found| found.starts_with("unresolved (L1)")));
    }

    #[test]
    fn records_with_one_acknowledgement_may_be_lost_and_not_lied_about() {
        let check = |ending: Ending, numbers: &[u32], honest: bool| {
            let history = History::default();
            history.ended(id(1), ending);
            assert_eq!(
                history.check_honesty(&log(numbers)).is_ok(),
                honest,
                "{ending:?}, the log has {numbers:?}"
            );
        };
        check(at(0), &[], true);
        check(at(0), &[1, 1], true);
        check(Ending::PossiblyWritten, &[1], true);
        check(Ending::NotWritten, &[1], false);
        check(at(0), &[1, 2], false);
    }

    #[test]
    fn each_broken_promise_of_a_delivery_is_named() {
        check_receipts(&[(0, 1), (1, 2)], &[1, 2], "");
        check_receipts(&[(0, 1)], &[1, 2], "poll-skip (C4)");
        check_receipts(&[(0, 1), (2, 3), (1, 2)], &[1, 2, 3], "poll-skip (C4)");
        check_receipts(&[(0, 1), (0, 1), (1, 2)], &[1, 2], "");
        check_receipts(&[(0, 2)], &[1, 2], "inconsistent-offsets (S8)");
    }

    #[test]
    fn more_repeats_than_allowed_are_named() {
        let history = History::default();
        [0, 1, 2, 3, 1, 2].iter().for_each(|offset| history.received(1, 0, *offset, id(1)));
        assert!(history.check_repeats(3).is_ok());
        let found = history.check_repeats(2).err().map(|failure| failure.to_string());
        assert!(found.is_some_and(|found| found.starts_with("repeats (C4)")));
    }

    #[test]
    fn a_commit_of_an_unfinished_record_or_a_step_back_is_named() {
        let check = |commits: &[i64], rule: &str| {
            let history = History::default();
            (0..3).for_each(|offset| history.finished(0, offset));
            commits.iter().for_each(|offset| history.committed(0, *offset));
            let found = history.check_receipts(&log(&[]), false).err().map(|failure| failure.to_string());
            assert!(found.unwrap_or_default().starts_with(rule), "{rule}");
        };
        check(&[0, 1, 3], "");
        check(&[4], "int-commit-unfinished (C1)");
        check(&[2, 1], "nonmonotonic-commit (C2)");
    }
}
