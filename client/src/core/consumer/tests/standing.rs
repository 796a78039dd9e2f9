//! What a consumer's machine says without being asked, and how it is.

use super::*;
use crate::config::IsolationLevel;
use crate::event::{Event, PositionCause, StallReason};

fn events(desk: &mut Desk) -> Vec<Event> {
    std::iter::from_fn(|| desk.machine.take_event().unwrap()).collect()
}

fn moved(from: Option<i64>, to: i64, lost: Option<std::ops::Range<i64>>, cause: PositionCause) -> Event {
    Event::PositionChanged { topic: "t".into(), partition: 0, from, to, lost, cause }
}

fn earliest(config: ConsumerConfig) -> ConsumerConfig {
    ConsumerConfig { on_out_of_range: Reset::Earliest, ..config }
}

// Positions (P4, F8, F16).

/// Fault 42, F8.
#[test]
fn records_that_retention_took_are_told_to_the_offset() {
    let mut desk = Desk::new(earliest(reading(1)));
    desk.list(0);
    desk.expect_fetch(FETCH);
    desk.fetched(FETCH, vec![records(0, batch(0, 10, 5))]);
    assert_eq!(desk.read(), [10]);
    desk.expect_fetch(FETCH);
    assert_eq!(events(&mut desk), [], "to start where one is told to is no change");
    desk.refuse(FETCH, 0, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(events(&mut desk), [], "the new place is not known yet");
    desk.list(40);
    assert_eq!(events(&mut desk), [moved(Some(10), 40, Some(10..40), PositionCause::OutOfRange)]);
}

#[test]
fn a_position_that_no_reset_may_mend_is_told_beside_its_error() {
    let refused = |from, lost, cause| {
        let topic = "t".to_owned();
        [Event::PositionRefused { topic, partition: 0, from, lost, cause }]
    };
    let mut desk = Desk::new(reading(1));
    desk.list(10);
    desk.expect_fetch(FETCH);
    desk.refuse(FETCH, 0, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(events(&mut desk), refused(Some(10), None, PositionCause::OutOfRange));
    let mut desk = taken_up(committing(1));
    desk.confirm(ErrorCode::NONE, 3, 30);
    assert_eq!(events(&mut desk), refused(Some(40), Some(30..40), PositionCause::Truncated));
    let mut desk = recreated(reading(1));
    assert_eq!(events(&mut desk), refused(Some(3), None, PositionCause::Recreated));
    let mut desk = Desk::new(ConsumerConfig { on_no_commit: Reset::Error, ..committing(1) });
    desk.find_committed(-1, -1);
    assert_eq!(events(&mut desk), refused(None, None, PositionCause::NoCommit));
    assert!(
        matches!(desk.machine.take(desk.now), Some(Err(error)) if error.kind() == ErrorKind::OffsetOutOfRange)
    );
}

/// B6.
#[test]
fn a_seek_meanwhile_makes_a_reset_moot() {
    let mut desk = Desk::new(earliest(reading(1)));
    desk.list(10);
    desk.expect_fetch(FETCH);
    desk.refuse(FETCH, 0, ErrorCode::OFFSET_OUT_OF_RANGE);
    desk.machine.seek(desk.now, &at(0), Place::Reset(Reset::Latest)).unwrap();
    desk.list(70);
    assert_eq!(events(&mut desk), []);
}

/// Fault 43, F14.
#[test]
fn a_truncated_log_tells_what_is_no_longer_in_it() {
    let mut desk = taken_up(earliest(committing(1)));
    desk.confirm(ErrorCode::NONE, 3, 30);
    assert_eq!(events(&mut desk), [moved(Some(40), 30, Some(30..40), PositionCause::Truncated)]);
}

#[test]
fn a_topic_created_again_is_told() {
    let mut desk = recreated(earliest(reading(1)));
    desk.list(0);
    assert_eq!(events(&mut desk), [moved(Some(3), 0, None, PositionCause::Recreated)]);
}

#[test]
fn a_start_without_a_commit_is_told() {
    let mut desk = Desk::new(committing(1));
    desk.find_committed(-1, -1);
    desk.list(7);
    assert_eq!(events(&mut desk), [moved(None, 7, None, PositionCause::NoCommit)]);
}

/// F9.
#[test]
fn a_new_partition_is_read_from_its_first_record_even_under_latest() {
    let mut desk = Desk::new(ConsumerConfig { on_no_commit: Reset::Latest, ..committing(1) });
    desk.partitions = 6;
    desk.show_cluster(CONTROL);
    let start = |partition| desk.machine.place_to_start(desk.now, &at(partition));
    assert_eq!([start(3), start(4)], [Place::Reset(Reset::Latest), Place::Reset(Reset::Earliest)]);
}

// Standstills.

/// The reasons that are told while a time passes.
fn stalls(desk: &mut Desk, seconds: u64) -> Vec<StallReason> {
    (0..seconds).for_each(|_| desk.pass(ms(1_000)));
    let reason = |event| match event {
        Event::Stalled { reason, .. } => Some(reason),
        Event::PositionRefused { .. } => None,
        other => panic!("{other:?}"),
    };
    events(desk).into_iter().filter_map(reason).collect()
}

/// Ten records of a hundred are fetched.
fn with_records(config: ConsumerConfig) -> Desk {
    let mut desk = Desk::new(config);
    desk.list(0);
    desk.expect_fetch(FETCH);
    desk.fetched(FETCH, vec![records(0, batch(0, 10, 5))]);
    desk
}

#[test]
fn records_that_nobody_takes_are_told_once_until_there_is_progress() {
    let mut desk = with_records(reading(1));
    assert_eq!(stalls(&mut desk, 59), []);
    assert_eq!(stalls(&mut desk, 600), [StallReason::NotTaken]);
    assert!(!desk.machine.health().ready);
    assert_eq!(desk.read(), [10]);
    assert_eq!(stalls(&mut desk, 59), [], "it went on");
    // 90 records are left, and no answer brings them.
    assert_eq!(stalls(&mut desk, 600), [StallReason::NotServed]);
}

#[test]
fn records_that_are_not_finished_are_told() {
    let mut desk = with_records(reading(1));
    let chunk = desk.machine.take(desk.now).unwrap().unwrap();
    assert_eq!(stalls(&mut desk, 300), [StallReason::NotFinished]);
    chunk.lease.finish(10);
    desk.machine.pause(desk.now, &at(0), true).unwrap();
    assert_eq!(stalls(&mut desk, 300), [], "what is paused does not stand still");
}

#[test]
fn a_partition_that_is_read_to_its_end_does_not_stand_still() {
    let mut desk = Desk::new(reading(1));
    desk.list(100);
    desk.expect_fetch(FETCH);
    desk.fetched(FETCH, vec![records(0, RecordSet(None))]);
    assert_eq!(stalls(&mut desk, 600), []);
}

#[test]
fn each_standstill_has_its_reason() {
    let mut desk = Desk::new(reading(1));
    assert_eq!(stalls(&mut desk, 300), [StallReason::NoPosition]);
    let committed = IsolationLevel::ReadCommitted;
    let mut desk = Desk::new(ConsumerConfig { isolation_level: committed, ..reading(1) });
    desk.list(60);
    desk.expect_fetch(FETCH);
    let open = FetchedPartition { last_stable_offset: 60, ..records(0, RecordSet(None)) };
    desk.fetched(FETCH, vec![open]);
    assert_eq!(stalls(&mut desk, 300), [StallReason::OpenTransaction], "fault 36");
    let mut desk = with_records(reading(1));
    assert_eq!(desk.read(), [10]);
    desk.machine.cluster.metadata.deny("t", 0, 1);
    assert_eq!(stalls(&mut desk, 300), [StallReason::NoLeader]);
    let mut desk = with_records(ConsumerConfig { on_out_of_range: Reset::Error, ..reading(1) });
    assert_eq!(desk.read(), [10]);
    desk.expect_fetch(FETCH);
    desk.refuse(FETCH, 0, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(stalls(&mut desk, 300), [StallReason::Failed]);
}

// Lag and health.

#[test]
fn the_oldest_record_that_is_not_finished_tells_the_lag_in_time() {
    let mut desk = with_records(reading(1));
    desk.pass(ms(500));
    // The records of the batch were written at 0.
    let age = ms(u64::try_from(WALL_MS).unwrap() + 500);
    assert_eq!(desk.machine.time_lag(desk.now), [(at(0), Some(age))]);
    let metrics = desk.machine.metrics(desk.now);
    assert_eq!((metrics.time_lag_max, metrics.lag_max), (age, 100));
    desk.read();
    assert_eq!(desk.machine.time_lag(desk.now), [(at(0), None)], "what comes next is not fetched");
}

#[test]
fn a_consumer_is_ready_when_it_knows_where_to_read() {
    let mut desk = Desk::new(reading(1));
    let health = desk.machine.health();
    assert!(health.live && !health.ready, "{health:?}");
    desk.list(0);
    assert!(desk.machine.health().ready);
    desk.machine.close(desk.now, None);
    assert!(!desk.machine.health().live);
    assert_eq!(desk.machine.take_event().unwrap_err().kind(), ErrorKind::Closed);
}
