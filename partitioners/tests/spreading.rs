//! Records that may go anywhere reach every partition, evenly, and user code may take part in the choice.

use ottla_partitioners::{ANY, Keyed, PartitionView, Partitioner, RoundRobin, Scheme, TopicView, murmur2};

fn partitions(leaders: &[Option<i32>]) -> Vec<PartitionView> {
    let view = |(id, &leader): (usize, &Option<i32>)| PartitionView {
        id: id.try_into().expect("few partitions"),
        leader,
        ..Default::default()
    };
    leaders.iter().enumerate().map(view).collect()
}

fn check_turn(leaders: &[Option<i32>], expected: &[i32]) {
    let partitions = partitions(leaders);
    let topic = TopicView { name: "t", partitions: &partitions };
    let mut turn = RoundRobin::default();
    let chosen: Vec<i32> = expected.iter().map(|_| turn.choose(&topic)).collect();
    assert_eq!(chosen, expected);
}

#[test]
fn round_robin_takes_every_partition_in_turn() {
    check_turn(&[Some(1), Some(2), Some(1)], &[0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn round_robin_passes_over_partitions_without_a_leader_and_stays_even() {
    check_turn(&[None, Some(2), Some(1), None, Some(3)], &[1, 2, 4, 1, 2, 4, 1]);
}

#[test]
fn round_robin_without_any_leader_takes_all_in_turn() {
    check_turn(&[None, None], &[0, 1, 0, 1]);
}

#[test]
fn round_robin_survives_a_topic_without_partitions() {
    check_turn(&[], &[0, 0]);
}

#[test]
fn round_robin_goes_on_when_the_topic_shrinks_or_grows() {
    let few = partitions(&[Some(1); 2]);
    let many = partitions(&[Some(1); 5]);
    let mut turn = RoundRobin::default();
    let sequence = [&many, &many, &many, &many, &few, &few, &many];
    let chosen = sequence.map(|partitions| turn.choose(&TopicView { name: "t", partitions }));
    assert_eq!(chosen, [0, 1, 2, 3, 0, 1, 2]);
}

/// Numbers that are uniform enough and the same in every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state ^ *state >> 29
}

/// Sends records and returns how many bytes each partition got. Batches of `early` partitions are always sent half full,
/// as those of a broker that is quick to answer are.
fn bytes_by_partition(early: &[i32]) -> Vec<usize> {
    const BATCH_BYTES: usize = 1_000;
    let partitions = partitions(&[Some(1); 4]);
    let topic = TopicView { name: "t", partitions: &partitions };
    let mut spread = Scheme::Java.spread(BATCH_BYTES, false);
    let mut state = 1;
    let mut bytes = vec![0; partitions.len()];
    let mut open = vec![0; partitions.len()];
    for _ in 0..200_000 {
        let record = 1 + usize::try_from(random(&mut state) % 50).expect("below 50");
        let mut partition = spread.current().unwrap_or_else(|| spread.choose(&topic, random(&mut state)));
        let room = |partition: i32| if early.contains(&partition) { BATCH_BYTES / 2 } else { BATCH_BYTES };
        if open[partition as usize] + record > room(partition) {
            open[partition as usize] = 0;
            spread.batch_sealed(partition, room(partition) == BATCH_BYTES);
            partition = spread.current().unwrap_or_else(|| spread.choose(&topic, random(&mut state)));
        }
        open[partition as usize] += record;
        bytes[partition as usize] += record;
        spread.produced(record);
    }
    bytes
}

fn check_even(early: &[i32]) {
    let bytes = bytes_by_partition(early);
    let fair = bytes.iter().sum::<usize>() / bytes.len();
    for partition in &bytes {
        assert!((fair * 9 / 10..=fair * 11 / 10).contains(partition), "{bytes:?}");
    }
}

#[test]
fn sticky_spreads_bytes_evenly() {
    check_even(&[]);
}

#[test]
fn sticky_spreads_bytes_evenly_when_all_batches_leave_early() {
    check_even(&[0, 1, 2, 3]);
}

#[test]
fn a_partition_whose_batches_wait_and_grow_gets_no_more_than_its_share() {
    let bytes = bytes_by_partition(&[1, 2, 3]);
    let fair = bytes.iter().sum::<usize>() / bytes.len();
    assert!(bytes[0] < fair * 11 / 10, "{bytes:?}");
    assert!(bytes[0] > fair / 2, "{bytes:?}");
}

#[test]
fn free_records_leave_a_partition_that_lost_its_leader() {
    let mut partitions = partitions(&[Some(1); 2]);
    let mut spread = Scheme::LibrdkafkaConsistentRandom.spread(1_000, true);
    assert_eq!(spread.choose(&TopicView { name: "t", partitions: &partitions }, 0), 0);
    partitions[0].leader = None;
    spread.leave(0);
    assert_eq!(spread.current(), None);
    assert_eq!(spread.choose(&TopicView { name: "t", partitions: &partitions }, 0), 1);
}

#[test]
fn round_robin_is_asked_for_every_record() {
    let partitions = partitions(&[Some(1); 3]);
    let topic = TopicView { name: "t", partitions: &partitions };
    let mut spread = Scheme::RoundRobin.spread(1_000, true);
    let chosen = [(); 4].map(|()| {
        assert_eq!(spread.current(), None);
        let partition = spread.choose(&topic, u64::MAX);
        spread.produced(10);
        spread.batch_sealed(partition, true);
        partition
    });
    assert_eq!(chosen, [0, 1, 2, 0]);
}

struct AuditApart;

impl Partitioner for AuditApart {
    fn partition(&self, record: &Keyed<'_>, topic: &TopicView<'_>) -> i32 {
        match record.key {
            Some(key) if key.starts_with(b"audit/") => 0,
            Some(key) => 1 + murmur2::keyed(key, topic.count() - 1),
            None => ANY,
        }
    }
}

#[test]
fn a_partitioner_is_five_lines_of_user_code() {
    let partitions = partitions(&[Some(1); 7]);
    let topic = TopicView { name: "t", partitions: &partitions };
    let partitioner: Box<dyn Partitioner> = Box::new(AuditApart);
    let place =
        |key: Option<&[u8]>| partitioner.partition(&Keyed { topic: "t", key, value_bytes: 0 }, &topic);
    assert_eq!(place(Some(b"audit/1")), 0);
    assert_eq!(place(Some(b"abc")), 1 + 479_470_107 % 6);
    assert_eq!(place(None), ANY);
    partitioner.batch_sealed("t", 0);
}
