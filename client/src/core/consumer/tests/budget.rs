//! The memory of a consumer: what is asked for, fetched and held stays within `fetch.buffer.bytes`.

use super::*;
use crate::core::held::{Charge, Held};

const PARTITIONS: i32 = 1_000;
const BUDGET: usize = 1024 * 1024;

/// A consumer of a thousand partitions that are all behind.
fn a_thousand_behind() -> Desk {
    let per_partition = 32 * 1024;
    let mut desk = Desk::new(ConsumerConfig {
        fetch_buffer_bytes: BUDGET,
        max_partition_fetch_bytes: per_partition,
        ..reading(PARTITIONS)
    });
    desk.partitions = PARTITIONS;
    desk.show_cluster(CONTROL);
    desk.list(0);
    desk
}

/// Sends a fetch and answers it with as much as it may bring, if it is wanted. Returns how much it may.
fn fetch(desk: &mut Desk) -> Option<usize> {
    let Some(Ask::Fetch(request)) = desk.next(FETCH) else { return None };
    let most = usize::try_from(request.max_bytes).unwrap();
    let mut left = most;
    let mut answers = Vec::new();
    // A broker begins where it ended the last time; here it begins anywhere.
    for partition in 0..PARTITIONS {
        let Place::At(offset) = desk.machine.positions[&at(partition)].place else { panic!("no offset") };
        let set = batch(offset, 200, 5);
        let bytes = set.0.as_ref().map_or(0, |set| set.len());
        if bytes > left {
            break;
        }
        left -= bytes;
        answers.push(records(partition, set));
    }
    desk.fetched(FETCH, answers);
    Some(most)
}

/// Fault 52, L3.
#[test]
fn a_thousand_partitions_stay_within_the_budget_whatever_the_application_holds() {
    let mut desk = a_thousand_behind();
    let mut held: Vec<Charge> = Vec::new();
    let mut in_use = 0;
    for _ in 0..10_000 {
        let before = desk.machine.metrics(desk.now).buffer_bytes;
        let granted = fetch(&mut desk);
        assert!(before + granted.unwrap_or(0) <= BUDGET, "{granted:?} on top of {before}");
        in_use = desk.machine.metrics(desk.now).buffer_bytes;
        assert!(in_use <= BUDGET);
        match desk.machine.take(desk.now) {
            None if granted.is_none() => break,
            None => {}
            // A copy of each record is kept.
            Some(chunk) => {
                let chunk = chunk.expect("records");
                held.push(chunk.charge.held().charge(chunk.records.len()));
            }
        }
    }
    assert!(in_use > BUDGET / 2 && desk.machine.is_starved(), "{in_use}");
    assert!(!desk.machine.wants(desk.now, FETCH));
    // The drop that makes room says so, and none before.
    let told = held.iter_mut().position(|charge| charge.settle()).expect("room");
    assert!(told > 0 || in_use <= BUDGET + 32 * 1024);
    assert!(desk.machine.wants(desk.now, FETCH) && !desk.machine.is_starved());
    drop(held);
    assert_eq!(desk.machine.metrics(desk.now).buffer_bytes, 0);
}

#[test]
fn an_application_that_waits_while_it_holds_everything_is_told() {
    let mut desk = a_thousand_behind();
    let all = desk.machine.fetch.held().charge(BUDGET);
    let told = |desk: &mut Desk, seconds: u64| {
        (0..seconds).for_each(|_| desk.pass(ms(1_000)));
        desk.failure().map(|(kind, _)| kind)
    };
    assert_eq!(desk.failure(), None);
    assert_eq!(told(&mut desk, 59), None);
    assert_eq!(told(&mut desk, 2), Some(ErrorKind::BufferFull));
    assert_eq!(told(&mut desk, 1), None, "once for each such time");
    assert_eq!(told(&mut desk, 61), Some(ErrorKind::BufferFull));
    drop(all);
    assert_eq!(told(&mut desk, 600), None);
    fetch(&mut desk).expect("room");
    assert!(desk.machine.take(desk.now).unwrap().is_ok());
}

#[test]
fn no_drop_that_makes_room_is_missed() {
    let held: Arc<Held> = Arc::default();
    for _ in 0..20_000 {
        let mut charge = held.charge(10);
        let told = std::thread::scope(|scope| {
            let drops = scope.spawn(move || charge.settle());
            let room = held.is_at_most(0);
            drops.join().unwrap() || room
        });
        assert!(told, "somebody sleeps, and there is room");
        assert_eq!(held.bytes(), 0);
        // What nobody waits for any more is told at most once.
        held.charge(1).settle();
        assert!(!held.charge(1).settle());
    }
}
