//! What the producer's machine says of itself, on a clock that is a number.

use super::*;

impl Run {
    /// Lets everything happen that can happen without time passing.
    pub(super) fn exchange(&mut self) {
        for _ in 0..50 {
            self.drive_links();
            self.dial();
            self.serve();
            self.answer();
        }
    }

    pub(super) fn later(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.tell(Input::Tick);
    }

    /// A producer that has all it needs, on a cluster that makes no trouble.
    pub(super) fn ready() -> Self {
        let mut run = Run::new(7);
        run.healed = true;
        (0..5).for_each(|_| run.exchange());
        run
    }

    fn produce_link(&self) -> Link {
        *self.pipes.keys().find(|link| link.lane == Lane::Produce).expect("a connection to write on")
    }
}

#[test]
fn a_batch_is_measured_from_its_opening_to_its_answer() {
    let mut run = Run::ready();
    let before = run.machine.metrics();
    assert_eq!((before.batches, before.records_written, before.buffer_bytes), (0, 0, 0));
    let now = Now { instant: run.now, wall_ms: 1_000 };
    let entrant = Entrant {
        place: Place::Partition(1),
        timestamp: None,
        key: None,
        value: Some(&[7; 8]),
        headers: &[],
    };
    for _ in 0..3 {
        run.machine.append(run.topic, &entrant, true, || now).0.expect("there is room");
    }
    let bytes = run.machine.metrics().buffer_bytes;
    assert!(bytes >= 24, "{bytes} bytes of three records");

    run.exchange();
    assert_eq!(run.machine.metrics().batches, 0, "linger holds it back");
    run.later(5);
    run.drive_links();
    run.dial();
    run.drive_links();
    let sent = run.machine.metrics();
    assert_eq!((sent.batches, sent.batch_records, sent.batch_bytes), (1, 3, bytes as u64));
    assert!(sent.sent_bytes > sent.batch_bytes, "a batch has a header");
    assert_eq!((sent.queue_time.count(), sent.queue_time.max()), (1, Duration::from_millis(5)));
    assert_eq!(sent.fill(), bytes as f64 / 300.0);
    assert_eq!((sent.request_latency.count(), sent.records_written), (0, 0));

    run.later(40);
    run.exchange();
    let done = run.machine.metrics();
    assert_eq!((done.request_latency.count(), done.request_latency.max()), (1, Duration::from_millis(40)));
    assert_eq!((done.records_written, done.buffer_bytes, done.retries), (3, 0, 0));
}

#[test]
fn a_batch_that_goes_again_is_a_retry_and_no_second_batch() {
    let mut run = Run::ready();
    run.send();
    run.later(5);
    (0..3).for_each(|_| (run.drive_links(), run.dial()).0);
    assert_eq!(run.machine.metrics().batches, 1);
    let link = run.produce_link();
    run.lose(link, Error::new(ErrorKind::Connect, "reset"));
    let sent = run.machine.metrics().sent_bytes;
    for _ in 0..40 {
        run.later(100);
        run.exchange();
    }
    let done = run.machine.metrics();
    assert_eq!((done.batches, done.retries, done.records_written), (1, 1, 1));
    assert_eq!(done.sent_bytes, 2 * sent, "the same bytes go again");
    assert_eq!(done.request_latency.count(), 1, "an answer that never came has no latency");
}

#[test]
fn whatever_happens_the_numbers_are_those_that_deliveries_tell() {
    for seed in 0..60 {
        let mut run = Run::new(seed);
        (0..2_000).for_each(|_| run.step());
        run.settle();
        let (mut written, mut doubtful, mut failed) = (0, 0, 0);
        for (_, told, index) in &run.sent {
            match told.outcome(*index).0 {
                BatchOutcome::Written { .. } => written += 1,
                BatchOutcome::Failed(e) if e.outcome() == Some(Outcome::PossiblyWritten) => doubtful += 1,
                _ => failed += 1,
            }
        }
        let metrics = run.machine.metrics();
        let counted = (metrics.records_written, metrics.records_in_doubt, metrics.records_failed);
        assert_eq!(counted, (written, doubtful, failed), "seed {seed}");
        assert_eq!(metrics.errors.values().sum::<u64>(), doubtful + failed, "seed {seed}");
        assert!(metrics.batch_records >= written + doubtful, "seed {seed}: only what was sent is written");
        // What was split is sent as other batches, and counted again.
        let once = metrics.batch_records <= written + doubtful + failed;
        assert!(once || run.splits > 0, "seed {seed}: a batch is counted once");
    }
}
