//! What brokers do to a consumer's fetches, one fault after the other: damaged, repeated, partial and late answers.

use super::*;

fn raw(set: &RecordSet) -> Vec<u8> {
    set.0.as_ref().map(|bytes| bytes.to_vec()).unwrap_or_default()
}

fn set(parts: &[Vec<u8>]) -> RecordSet {
    RecordSet(Some(parts.concat().into()))
}

/// A consumer whose first fetch, of so many partitions from offset 0, is out.
fn fetching(partitions: i32) -> Desk {
    let mut desk = Desk::new(reading(partitions));
    desk.list(0);
    desk.expect_fetch(FETCH);
    desk
}

/// Fault 41: a compaction gap, a control batch, and a batch whose records are all gone.
#[test]
fn a_batch_without_records_moves_the_position_behind_its_last_offset() {
    let mut emptied = raw(&batch(20, 5, 5));
    // Of a batch that compaction has emptied the header stays, with its last offset.
    emptied.truncate(61);
    emptied[8..12].copy_from_slice(&49_i32.to_be_bytes());
    emptied[57..61].copy_from_slice(&0_i32.to_be_bytes());
    let mut control = raw(&batch(40, 1, 5));
    control[22] |= 0x20;
    let mut desk = fetching(1);
    for (answer, next) in [(raw(&batch(10, 3, 5)), 13), (emptied, 25), (control, 41)] {
        desk.fetched(FETCH, vec![records(0, set(&[answer]))]);
        assert_eq!(desk.expect_fetch(FETCH).0, [(0, next)]);
    }
}

/// Fault 45: what was on its way when the reader went elsewhere, or lost the partition.
#[test]
fn an_answer_from_before_a_seek_brings_nothing() {
    let mut desk = fetching(1);
    desk.machine.seek(desk.now, &at(0), Place::At(50)).unwrap();
    desk.fetched(FETCH, vec![records(0, batch(0, 3, 5))]);
    assert!(desk.machine.take(desk.now).is_none());
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 50)]);
    // What a broker refused of the old place is no error of the new one.
    desk.machine.seek(desk.now, &at(0), Place::At(60)).unwrap();
    desk.refuse(FETCH, 0, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(desk.failure(), None);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 60)]);
}

/// Fault 45: a pause keeps what comes, and delivers nothing of it.
#[test]
fn an_answer_from_before_a_pause_is_kept_until_it_ends() {
    let mut desk = fetching(1);
    desk.machine.pause(desk.now, &at(0), true).unwrap();
    desk.fetched(FETCH, vec![records(0, batch(0, 3, 5))]);
    assert!(desk.machine.take(desk.now).is_none());
    assert_eq!(desk.next(FETCH), None);
    desk.machine.pause(desk.now, &at(0), false).unwrap();
    assert_eq!(desk.read(), [3]);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 3)]);
}

/// Fault 46: brokers cut an answer off wherever its bytes end.
#[test]
fn a_batch_that_is_cut_off_is_fetched_again() {
    let (whole, next) = (raw(&batch(0, 3, 5)), raw(&batch(3, 4, 5)));
    for left in [1, 11, 12, 60, 61, next.len() - 1] {
        let mut desk = fetching(1);
        desk.fetched(FETCH, vec![records(0, set(&[whole.clone(), next[..left].to_vec()]))]);
        assert_eq!(desk.read(), [3], "{left} bytes of the second batch");
        assert_eq!(desk.expect_fetch(FETCH).0, [(0, 3)], "{left} bytes of the second batch");
    }
}

/// Fault 46: Kafka returns the first batch however large it is (KIP-74).
#[test]
fn a_first_batch_above_every_limit_is_read() {
    let small = ConsumerConfig { max_partition_fetch_bytes: 64, fetch_buffer_bytes: 256, ..reading(1) };
    let mut desk = Desk::new(small);
    desk.list(0);
    desk.expect_fetch(FETCH);
    let large = batch(0, 200, 5);
    assert!(raw(&large).len() > 1_024);
    desk.fetched(FETCH, vec![records(0, large)]);
    assert_eq!(desk.next(FETCH), None, "there is no room for more");
    assert_eq!(desk.read(), [200]);
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 200)]);
}

/// Fault 47: whoever found damage waits for a seek; the damage is neither skipped nor fetched again and again.
#[test]
fn a_damaged_chunk_stops_its_partition_until_a_seek() {
    let mut desk = fetching(1);
    desk.fetched(FETCH, vec![records(0, batch(0, 3, 5))]);
    let chunk = desk.machine.take(desk.now).unwrap().unwrap();
    // It was asked for more before anybody looked at the first.
    desk.expect_fetch(FETCH);
    desk.machine.fail(desk.now, chunk);
    desk.fetched(FETCH, vec![records(0, batch(3, 3, 5))]);
    assert!(desk.machine.take(desk.now).is_none(), "what lies behind the damage is not delivered");
    for _ in 0..100 {
        desk.pass(ms(1_000));
        assert_eq!(desk.expect_fetch_of(), [0_i64; 0]);
    }
    desk.machine.seek(desk.now, &at(0), Place::At(5)).unwrap();
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 5)]);
}

impl Desk {
    /// The offsets that are asked for now, if anything is.
    fn expect_fetch_of(&mut self) -> Vec<i64> {
        let Some(Ask::Fetch(request)) = self.next(FETCH) else { return Vec::new() };
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        let offsets = partitions.map(|partition| partition.fetch_offset).collect();
        self.fetched(FETCH, vec![]);
        offsets
    }
}

/// Fault 49: an error of the session says everything again, also of the partitions of which nothing is new.
#[test]
fn an_error_of_the_session_forgets_no_partition() {
    for code in [
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ] {
        let mut desk = fetching(2);
        desk.fetched(FETCH, vec![records(0, batch(0, 3, 5))]);
        assert_eq!(desk.expect_fetch(FETCH).0, [(0, 3)]);
        desk.answer(FETCH, Answer::Fetch(FetchResponse { error_code: code, ..Default::default() }));
        let Some(Ask::Fetch(request)) = desk.next(FETCH) else { panic!("no Fetch after {code}") };
        assert_eq!((request.session_id, request.session_epoch), (0, 0), "{code}");
        let asked = request.topics.iter().flat_map(|topic| &topic.partitions);
        let asked: Vec<_> = asked.map(|p| (p.partition, p.fetch_offset)).collect();
        assert_eq!(asked, [(0, 3), (1, 0)], "{code}");
    }
}

/// Fault 49, L4: what an answer to a request that says everything refuses is no matter of the session.
#[test]
fn a_broker_that_refuses_every_fetch_is_asked_less_and_less() {
    let mut desk = fetching(2);
    let refused =
        || Answer::Fetch(FetchResponse { error_code: ErrorCode::UNKNOWN_SERVER_ERROR, ..Default::default() });
    desk.answer(FETCH, refused());
    // Each of the two partitions has a wait of its own, of a second at last.
    let mut asked = 0;
    for _ in 0..1_000 {
        desk.pass(ms(10));
        while desk.next(FETCH).is_some() {
            asked += 1;
            assert!(asked <= 30, "{asked} fetches after {:?}", desk.machine.deadline());
            desk.answer(FETCH, refused());
        }
    }
    assert!(asked >= 8, "it goes on asking: {asked} times in ten seconds");
}

/// Fault 51: what is repeated, was not asked for or is left out changes nothing.
#[test]
fn what_an_answer_repeats_counts_once_and_what_it_omits_is_asked_for_again() {
    let mut desk = fetching(2);
    let twice = vec![records(0, batch(0, 3, 5)), records(0, batch(0, 3, 5)), records(3, batch(0, 9, 5))];
    desk.fetched(FETCH, twice);
    assert_eq!(desk.read(), [3], "once");
    let request = desk.next(FETCH);
    let Some(Ask::Fetch(request)) = request else { panic!("no Fetch") };
    assert_eq!(request.topics[0].partitions[0].fetch_offset, 3);
    // Partition 1 is in the session still: it comes without being named again.
    assert!(request.forgotten_topics_data.is_empty());
    desk.fetched(FETCH, vec![records(1, batch(0, 2, 5))]);
    assert_eq!(desk.read(), [2]);
}

/// Fault 52: a partition that nobody takes, and one that is paused, stop no other, and are not fetched on and on.
#[test]
fn a_partition_that_is_full_or_paused_lets_the_others_flow() {
    let config = ConsumerConfig { max_partition_fetch_bytes: 64, ..reading(3) };
    let mut desk = Desk::new(config);
    desk.list(0);
    desk.machine.pause(desk.now, &at(1), true).unwrap();
    assert_eq!(desk.expect_fetch(FETCH).0, [(0, 0), (2, 0)]);
    desk.fetched(FETCH, vec![records(0, batch(0, 10, 5))]);
    // Partition 0 has more waiting than it may bring, and nobody takes it.
    for offset in 0..10 {
        let Some(Ask::Fetch(request)) = desk.next(FETCH) else { panic!("2 stands still at {offset}") };
        let asked = request.topics.iter().flat_map(|topic| &topic.partitions);
        assert!(asked.into_iter().all(|p| (p.partition, p.fetch_offset) == (2, offset)), "{request:?}");
        desk.fetched(FETCH, vec![records(2, batch(offset, 1, 5))]);
        // Its reader takes it, as one that has the partition to itself does.
        let position = desk.machine.positions.get_mut(&at(2)).unwrap();
        position.drop_waiting();
    }
}

/// F18: the end of a partition is no record.
#[test]
fn reaching_the_end_moves_neither_position_nor_lag() {
    let mut desk = Desk::new(reading(1));
    desk.list(97);
    desk.expect_fetch(FETCH);
    desk.fetched(FETCH, vec![records(0, batch(97, 2, 5))]);
    assert_eq!(desk.read(), [99]);
    for _ in 0..3 {
        assert!(desk.next(FETCH).is_some());
        desk.fetched(FETCH, vec![records(0, RecordSet(None))]);
        assert_eq!(desk.machine.positions[&at(0)].place, Place::At(99));
        assert_eq!((desk.read(), desk.machine.metrics(desk.now).lag), (vec![], 1));
    }
}
