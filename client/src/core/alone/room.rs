//! Who gets memory when there is little, and who waits for it in which order (fault 17).

use super::*;
use crate::error::Error;

impl Run {
    /// A producer with so much memory on the cluster, which may have lost leaders.
    fn with_memory(bytes: usize, leaderless: &[usize]) -> Self {
        let mut run = Run::new(7);
        run.healed = true;
        leaderless.iter().for_each(|at| run.logs[*at].leader = -1);
        Arc::make_mut(&mut run.machine.config).buffer_memory = bytes;
        (0..5).for_each(|_| run.exchange());
        run
    }

    /// Appends a record of about 100 bytes. Whether it was taken.
    fn put(&mut self, partition: i32, patient: bool, turn: Option<u64>) -> Result<bool, Error> {
        let place = Place::Partition(partition);
        let entrant =
            Entrant { place, timestamp: None, key: Some(&[7; 84]), value: Some(&[7; 8]), headers: &[] };
        let now = Now { instant: self.now, wall_ms: 1_000 };
        let mut put = |patient| self.machine.append_in_turn(self.topic, &entrant, patient, turn, || now).0;
        let mut appended = put(patient);
        if matches!(appended, Err(Refusal::Turn { .. })) {
            appended = put(false);
        }
        match appended {
            Ok(_) => Ok(true),
            Err(Refusal::Room { .. }) => Ok(false),
            Err(Refusal::Failed(error)) => Err(error),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// How many records a partition is given before there is no room for more.
    fn fill(&mut self, partition: i32) -> usize {
        (0..1_000).take_while(|_| self.put(partition, false, None).expect("no error")).count()
    }
}

#[test]
fn calls_get_room_in_the_order_in_which_they_came() {
    let mut run = Run::with_memory(2_000, &[]);
    assert!(run.fill(1) > 5, "there was room");
    let turns: Vec<u64> = (0..3).map(|_| run.machine.join_line(1)).collect();
    let has_room =
        |run: &Run| turns.iter().map(|turn| run.machine.has_room(1, 100, *turn)).collect::<Vec<_>>();
    assert_eq!(has_room(&run), [false; 3]);
    run.later(5);
    (0..5).for_each(|_| run.exchange());
    assert_eq!(run.machine.buffered, 0, "everything was acknowledged");
    assert_eq!(has_room(&run), [true, false, false]);
    assert!(!run.put(1, true, None).expect("no error"), "one that has just come goes behind");
    assert!(!run.put(1, true, Some(turns[1])).expect("no error"), "and the second after the first");
    assert!(run.put(1, true, Some(turns[0])).expect("no error"));
    run.machine.leave_line(turns[0]);
    assert_eq!(has_room(&run), [false, true, false]);
    // Whoever gives up leaves no gap.
    run.machine.leave_line(turns[1]);
    assert_eq!(has_room(&run), [false, false, true]);
    assert!(run.put(2, true, None).expect("no error"), "nobody waits for the other broker");
    run.machine.leave_line(turns[2]);
    assert!(run.put(1, true, None).expect("no error"));
}

#[test]
fn where_only_a_broker_is_behind_nobody_lines_up() {
    let mut run = Run::with_memory(64 << 20, &[]);
    let full = vec![7; 1 << 20];
    let now = Now { instant: run.now, wall_ms: 1_000 };
    Arc::make_mut(&mut run.machine.config).max_request_size = 2 << 20;
    let place = Place::Partition(1);
    let entrant = Entrant { place, timestamp: None, key: None, value: Some(&full), headers: &[] };
    for _ in 0..4 {
        assert!(run.machine.append(run.topic, &entrant, true, || now).0.is_ok(), "there is memory");
    }
    let refused = run.machine.append(run.topic, &entrant, true, || now).0;
    assert!(matches!(refused, Err(Refusal::Backlog { partition: 1 })), "{:?}", refused.err());
    assert!(!run.machine.has_gone_on(1) && run.machine.has_gone_on(2));
}

/// `partitioner.availability.timeout.ms` (KIP-794).
#[test]
fn a_broker_that_takes_nothing_gets_no_free_records_until_it_takes_some() {
    let mut run = Run::with_memory(30_000, &[]);
    Arc::make_mut(&mut run.machine.config).partition_availability_timeout = Duration::from_millis(100);
    let leaders = |run: &Run| -> Vec<Option<i32>> {
        run.machine.views(run.topic, || run.now).iter().map(|view| view.leader).collect()
    };
    let all = vec![Some(0), Some(1), Some(2), Some(0)];
    run.fill(1);
    assert_eq!(leaders(&run), all, "it has not had its time");
    run.later(50);
    run.drive_links();
    run.dial();
    run.drive_links();
    run.later(90);
    assert_eq!(leaders(&run), all, "it took something 90 ms ago");
    run.later(20);
    assert_eq!(leaders(&run), [Some(0), None, Some(2), Some(0)]);
    run.exchange();
    assert_eq!(leaders(&run), all);
}

#[test]
fn partitions_without_a_leader_cannot_have_all_the_memory() {
    let mut run = Run::with_memory(30_000, &[0]);
    run.fill(0);
    let held = run.machine.buffered;
    assert!((10_000..=21_000).contains(&held), "{held} bytes of 30,000 wait for a leader");
    for partition in 1..4 {
        assert!(run.fill(partition) > 5, "partition {partition} has no memory left");
    }
    // The leader comes, and nothing was lost.
    run.logs[0].leader = 2;
    run.later(2_000);
    (0..200).for_each(|_| run.exchange());
    run.later(5);
    (0..200).for_each(|_| run.exchange());
    assert_eq!((run.machine.buffered, run.machine.tally().failed), (0, 0));
}
