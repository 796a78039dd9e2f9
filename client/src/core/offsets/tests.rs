//! Commits and look-ups, answer by answer.

use std::collections::BTreeMap;

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::Uuid;

use super::{CommitId, CommitOutcome, Committed};
use crate::core::group::Parting;
use crate::core::group::scene::*;
use crate::core::{Answer, Ask};
use crate::error::{Error, ErrorKind};
use crate::planted::{Defect, planted};

/// A member in generation 1 that holds partitions 0 and 1, of which nothing is committed.
fn member() -> Scene {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0, 1]);
    scene.offsets.look_up(partitions(&[0, 1]));
    assert_eq!(expect_look_up(&mut scene), [0, 1]);
    scene.answer(CONTROL_1, looked_up(&[(0, -1, ErrorCode::NONE), (1, -1, ErrorCode::NONE)]));
    assert_eq!(found(&mut scene), ["0: none", "1: none"]);
    scene
}

fn commit(scene: &mut Scene, offsets: &[(i32, i64)]) -> CommitId {
    let committed = |offset| Committed { offset, leader_epoch: -1, metadata: None };
    let offsets = offsets.iter().map(|(partition, offset)| (one(*partition), committed(*offset)));
    let id = scene.offsets.commit(scene.now, offsets.collect());
    scene.step();
    id
}

fn one(partition: i32) -> crate::core::TopicPartition {
    partitions(&[partition]).remove(0)
}

/// The generation and the offsets of the commit that is sent now.
fn expect_commit(scene: &mut Scene) -> (i32, Vec<(i32, i64)>) {
    let Some(Ask::OffsetCommit(request)) = scene.next(CONTROL_1) else { panic!("no OffsetCommit") };
    let offsets = request.topics.iter().flat_map(|topic| &topic.partitions);
    let offsets = offsets.map(|partition| (partition.partition_index, partition.committed_offset)).collect();
    (request.generation_id_or_member_epoch, offsets)
}

fn expect_look_up(scene: &mut Scene) -> Vec<i32> {
    let Some(Ask::OffsetFetch(request)) = scene.next(CONTROL_1) else { panic!("no OffsetFetch") };
    assert!(request.require_stable);
    request.groups[0].topics.iter().flatten().flat_map(|topic| topic.partition_indexes.clone()).collect()
}

/// An answer to a commit in the newest version, which names topic t by its id.
fn committed(codes: &[(i32, ErrorCode)]) -> Answer {
    let partition = |(partition_index, error_code): &(i32, ErrorCode)| OffsetCommittedPartition {
        partition_index: *partition_index,
        error_code: *error_code,
    };
    let partitions = codes.iter().map(partition).collect();
    let topic = OffsetCommittedTopic { topic_id: Uuid(7), partitions, ..Default::default() };
    Answer::OffsetCommit(OffsetCommitResponse { topics: vec![topic], ..Default::default() })
}

fn looked_up(offsets: &[(i32, i64, ErrorCode)]) -> Answer {
    let partition =
        |(partition_index, committed_offset, error_code): &(i32, i64, ErrorCode)| OffsetFetchedPartition {
            partition_index: *partition_index,
            committed_offset: *committed_offset,
            committed_leader_epoch: 3,
            error_code: *error_code,
            ..Default::default()
        };
    let partitions = offsets.iter().map(partition).collect();
    let topics = vec![OffsetFetchedTopic { topic_id: Uuid(7), partitions, ..Default::default() }];
    look_up_answer(OffsetFetchedGroup { group_id: "g".into(), topics, error_code: ErrorCode::NONE })
}

fn look_up_refused(error_code: ErrorCode) -> Answer {
    look_up_answer(OffsetFetchedGroup { group_id: "g".into(), topics: Vec::new(), error_code })
}

fn look_up_answer(group: OffsetFetchedGroup) -> Answer {
    Answer::OffsetFetch(OffsetFetchResponse { groups: vec![group], ..Default::default() })
}

fn found(scene: &mut Scene) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(event) = scene.offsets.poll_event() {
        all.push(match event {
            Ok(found) => match found.committed {
                Some((offset, epoch)) => format!("{}: {offset} of {epoch}", found.partition.partition),
                None => format!("{}: none", found.partition.partition),
            },
            Err(error) => format!("{:?}", error.kind()),
        });
    }
    all
}

fn result(scene: &mut Scene, id: CommitId) -> Option<Result<String, ErrorKind>> {
    assert_eq!(
        scene.offsets.is_resolved(id),
        scene.offsets.calls.get(&id).is_none_or(|call| call.open.is_empty())
    );
    let said = |outcome: CommitOutcome| format!("superseded {}", list(&outcome.superseded));
    scene.offsets.take_result(id).map(|result| result.map(said).map_err(|error: Error| error.kind()))
}

fn done() -> Option<Result<String, ErrorKind>> {
    Some(Ok("superseded ".into()))
}

// Look-ups.

#[test]
fn an_offset_is_found_with_its_leader_epoch() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0, 1]);
    scene.offsets.look_up(partitions(&[0, 1]));
    expect_look_up(&mut scene);
    assert_eq!(scene.next(CONTROL_1), None, "one look-up at a time");
    scene.answer(CONTROL_1, looked_up(&[(1, 40, ErrorCode::NONE), (0, -1, ErrorCode::NONE)]));
    assert_eq!(found(&mut scene), ["1: 40 of 3", "0: none"]);
    assert_eq!(scene.next(CONTROL_1), None);
}

/// Faults 64 and 65, F7: with a question that wants stable offsets.
#[test]
fn what_an_answer_leaves_out_or_cannot_say_yet_is_asked_again() {
    if planted(Defect::ErrorIsNoOffset) {
        return;
    }
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0, 1, 2]);
    scene.offsets.look_up(partitions(&[0, 1, 2]));
    expect_look_up(&mut scene);
    scene
        .answer(CONTROL_1, looked_up(&[(0, 5, ErrorCode::NONE), (1, -1, ErrorCode::UNSTABLE_OFFSET_COMMIT)]));
    assert_eq!(found(&mut scene), ["0: 5 of 3"]);
    assert_eq!(scene.next(CONTROL_1), None, "not at once");
    scene.pass(seconds(1));
    assert_eq!(expect_look_up(&mut scene), [1, 2]);
}

/// Fault 65, B8.
#[test]
fn an_error_is_never_no_offset() {
    fn check(code: ErrorCode, expected: &[&str]) {
        let mut scene = Scene::new(cooperative());
        scene.become_member(1, &[0]);
        scene.offsets.look_up(partitions(&[0]));
        expect_look_up(&mut scene);
        scene.answer(CONTROL_1, look_up_refused(code));
        assert_eq!(found(&mut scene), expected, "{code}, of the group");
        scene.offsets.look_up(partitions(&[0]));
        scene.pass(seconds(1));
        if scene.group.coordinator().is_none() {
            scene.find_coordinator(1);
        }
        expect_look_up(&mut scene);
        scene.answer(CONTROL_1, looked_up(&[(0, -1, code)]));
        assert_eq!(found(&mut scene), expected, "{code}, of the partition");
    }
    check(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, &[]);
    check(ErrorCode::NOT_COORDINATOR, &[]);
    check(ErrorCode::STALE_MEMBER_EPOCH, &[]);
    check(ErrorCode::UNKNOWN_MEMBER_ID, &[]);
    check(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &[]);
    check(ErrorCode::GROUP_AUTHORIZATION_FAILED, &["Authorization"]);
    check(ErrorCode(999), &["Broker"]);
}

/// B6.
#[test]
fn an_answer_for_an_earlier_holding_says_nothing_of_the_next() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.offsets.look_up(partitions(&[0]));
    expect_look_up(&mut scene);
    scene.offsets.forget(partitions(&[0]));
    scene.offsets.look_up(partitions(&[0]));
    scene.answer(CONTROL_1, looked_up(&[(0, 5, ErrorCode::NONE)]));
    assert_eq!(found(&mut scene), [""; 0]);
    expect_look_up(&mut scene);
    scene.answer(CONTROL_1, looked_up(&[(0, 9, ErrorCode::NONE)]));
    assert_eq!(found(&mut scene), ["0: 9 of 3"]);
}

#[test]
fn a_lost_look_up_is_sent_again() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.offsets.look_up(partitions(&[0]));
    expect_look_up(&mut scene);
    scene.lose(CONTROL_1);
    scene.pass(seconds(2));
    assert_eq!(expect_look_up(&mut scene), [0]);
}

// Commits.

/// Fault 66, F5.
#[test]
fn commits_go_one_at_a_time_and_those_that_wait_become_one() {
    let mut scene = member();
    let first = commit(&mut scene, &[(0, 10)]);
    assert_eq!(expect_commit(&mut scene), (1, vec![(0, 10)]));
    let second = commit(&mut scene, &[(0, 20), (1, 5)]);
    let third = commit(&mut scene, &[(0, 30)]);
    assert_eq!(scene.next(CONTROL_1), None);
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::NONE)]));
    assert_eq!(result(&mut scene, first), done());
    assert_eq!((result(&mut scene, second), result(&mut scene, third)), (None, None));
    assert_eq!(expect_commit(&mut scene), (1, vec![(0, 30), (1, 5)]));
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::NONE), (1, ErrorCode::NONE)]));
    assert_eq!((result(&mut scene, second), result(&mut scene, third)), (done(), done()));
    assert!(scene.offsets.is_settled());
    assert_eq!(result(&mut scene, third), None, "a result is taken once");
}

#[test]
fn a_call_waits_for_what_earlier_calls_have_sent() {
    let mut scene = member();
    commit(&mut scene, &[(0, 10)]);
    expect_commit(&mut scene);
    let all = commit(&mut scene, &[]);
    assert!(!scene.offsets.is_resolved(all));
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::NONE)]));
    assert_eq!(result(&mut scene, all), done());
}

/// Fault 66, F5.
#[test]
fn a_refused_commit_never_replaces_a_newer_one() {
    let mut scene = member();
    let first = commit(&mut scene, &[(0, 10), (1, 1)]);
    expect_commit(&mut scene);
    let second = commit(&mut scene, &[(0, 20)]);
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), (1, ErrorCode::NONE)]));
    assert_eq!(scene.next(CONTROL_1), None, "not at once");
    scene.pass(seconds(1));
    assert_eq!(expect_commit(&mut scene), (1, vec![(0, 20)]));
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::NONE)]));
    assert_eq!((result(&mut scene, first), result(&mut scene, second)), (done(), done()));
}

/// Fault 66.
#[test]
fn the_committed_offset_does_not_move_back_while_a_partition_is_held() {
    let mut scene = member();
    commit(&mut scene, &[(0, 20)]);
    expect_commit(&mut scene);
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::NONE)]));
    let older = commit(&mut scene, &[(0, 10)]);
    assert_eq!(result(&mut scene, older), done());
    assert_eq!(scene.next(CONTROL_1), None);

    scene.offsets.forget_look_ups(partitions(&[0]));
    commit(&mut scene, &[(0, 10)]);
    assert_eq!(expect_commit(&mut scene), (1, vec![(0, 10)]), "but a seek moves it back on purpose");
}

#[test]
fn a_lost_commit_is_sent_again_and_so_is_what_an_answer_leaves_out() {
    let mut scene = member();
    let id = commit(&mut scene, &[(0, 10), (1, 5)]);
    expect_commit(&mut scene);
    scene.lose(CONTROL_1);
    scene.pass(seconds(2));
    assert_eq!(expect_commit(&mut scene), (1, vec![(0, 10), (1, 5)]));
    scene.answer(CONTROL_1, committed(&[(1, ErrorCode::NONE)]));
    scene.pass(seconds(1));
    assert_eq!(expect_commit(&mut scene), (1, vec![(0, 10)]));
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::NONE)]));
    assert_eq!(result(&mut scene, id), done());
}

/// Fault 54, B9, F4.
#[test]
fn what_is_forgotten_is_not_committed_and_the_call_says_so() {
    let mut scene = member();
    let out = commit(&mut scene, &[(0, 10)]);
    expect_commit(&mut scene);
    let waiting = commit(&mut scene, &[(0, 20), (1, 5)]);
    scene.offsets.forget(partitions(&[0]));
    assert_eq!(result(&mut scene, out), Some(Ok("superseded 0".into())));
    let late = commit(&mut scene, &[(0, 30)]);
    // Whatever the answer is, nothing more is sent for partition 0.
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)]));
    scene.pass(seconds(1));
    assert_eq!(expect_commit(&mut scene), (1, vec![(1, 5)]));
    scene.answer(CONTROL_1, committed(&[(1, ErrorCode::NONE)]));
    assert_eq!(result(&mut scene, waiting), Some(Ok("superseded 0".into())));
    assert_eq!(result(&mut scene, late), Some(Ok("superseded 0".into())));
}

#[test]
fn a_commit_that_crosses_a_rebalance_goes_out_under_the_next_generation_for_what_is_still_held() {
    let mut scene = member();
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    let id = commit(&mut scene, &[(0, 10), (1, 5)]);
    assert_eq!(expect_commit(&mut scene), (1, vec![(0, 10), (1, 5)]));
    scene.answer(
        CONTROL_1,
        committed(&[(0, ErrorCode::ILLEGAL_GENERATION), (1, ErrorCode::ILLEGAL_GENERATION)]),
    );
    assert_eq!(scene.next(CONTROL_1), None, "generation 1 is of no use any more");
    scene.follow(GROUP_1, 2, &[1]);
    assert_eq!(scene.events(), ["revoke 0"]);
    scene.offsets.forget(partitions(&[0]));
    assert_eq!(expect_commit(&mut scene), (2, vec![(1, 5)]));
    scene.answer(CONTROL_1, committed(&[(1, ErrorCode::NONE)]));
    assert_eq!(result(&mut scene, id), Some(Ok("superseded 0".into())));
}

/// Fault 55: whatever asks for the commit.
#[test]
fn nothing_is_committed_between_two_generations() {
    let mut scene = member();
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    scene.expect_join(GROUP_1);
    scene.answer(GROUP_1, joined(2, "other"));
    commit(&mut scene, &[(0, 10)]);
    assert_eq!(scene.next(CONTROL_1), None);
    assert!(matches!(scene.next(GROUP_1), Some(Ask::SyncGroup(_))));
    scene.answer(GROUP_1, synced(&[0, 1]));
    assert_eq!(expect_commit(&mut scene), (2, vec![(0, 10)]));
}

/// Fault 54, B9.
#[test]
fn a_member_that_is_none_any_more_commits_nothing_and_finds_out_at_once() {
    let mut scene = member();
    let id = commit(&mut scene, &[(0, 10)]);
    expect_commit(&mut scene);
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)]));
    assert_eq!(result(&mut scene, id), Some(Ok("superseded 0".into())));
    scene.expect_heartbeat(GROUP_1);
}

#[test]
fn a_final_error_is_told_and_the_other_partitions_are_committed() {
    let mut scene = member();
    let id = commit(&mut scene, &[(0, 10), (1, 5)]);
    expect_commit(&mut scene);
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::OFFSET_METADATA_TOO_LARGE), (1, ErrorCode::NONE)]));
    assert_eq!(result(&mut scene, id), Some(Err(ErrorKind::Broker)));
    let again = commit(&mut scene, &[(0, 9)]);
    assert_eq!(expect_commit(&mut scene), (1, vec![(0, 9)]), "what failed does not stand in the way");
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::NONE)]));
    assert_eq!(result(&mut scene, again), done());
}

#[test]
fn a_call_fails_when_its_time_is_over_and_nothing_is_sent_for_it_any_more() {
    let mut scene = member();
    scene.lose(CONTROL_1);
    scene.lose(GROUP_1);
    let id = commit(&mut scene, &[(0, 10)]);
    scene.pass(seconds(59));
    assert_eq!(result(&mut scene, id), None);
    scene.pass(seconds(1));
    assert_eq!(result(&mut scene, id), Some(Err(ErrorKind::Timeout)));
    assert!(scene.offsets.is_settled());
    assert_eq!(scene.offsets.deadline(), None);
}

#[test]
fn a_commit_that_nobody_waits_for_any_more_is_not_tried_again() {
    let mut scene = Scene::new(by_hand());
    scene.offsets.look_up(partitions(&[0]));
    scene.find_coordinator(1);
    expect_look_up(&mut scene);
    scene.answer(CONTROL_1, looked_up(&[(0, 5, ErrorCode::NONE)]));
    let id = commit(&mut scene, &[(0, 10)]);
    expect_commit(&mut scene);
    scene.pass(seconds(60));
    assert_eq!(result(&mut scene, id), Some(Err(ErrorKind::Timeout)));
    scene.lose(CONTROL_1);
    assert!(scene.offsets.is_settled());
}

#[test]
fn who_names_its_partitions_commits_without_a_generation() {
    let mut scene = Scene::new(by_hand());
    scene.offsets.look_up(partitions(&[0]));
    scene.find_coordinator(1);
    expect_look_up(&mut scene);
    scene.answer(CONTROL_1, looked_up(&[(0, 5, ErrorCode::NONE)]));
    let id = commit(&mut scene, &[(0, 10)]);
    assert_eq!(expect_commit(&mut scene), (-1, vec![(0, 10)]));
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::NOT_COORDINATOR)]));
    scene.pass(seconds(1));
    scene.find_coordinator(1);
    assert_eq!(expect_commit(&mut scene), (-1, vec![(0, 10)]));
    // The group has members: what it reads is none of ours.
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)]));
    assert_eq!(result(&mut scene, id), Some(Err(ErrorKind::Superseded)));
}

#[test]
fn the_end_of_the_membership_resolves_everything() {
    let mut scene = member();
    let id = commit(&mut scene, &[(0, 10)]);
    scene.offsets.look_up(partitions(&[1]));
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(result(&mut scene, id), Some(Err(ErrorKind::Fenced)));
    assert_eq!(found(&mut scene), ["Fenced"]);

    let mut scene = member();
    let id = commit(&mut scene, &[(0, 10)]);
    scene.group.leave(scene.now, Parting::ByKind);
    scene.step();
    assert_eq!(result(&mut scene, id), Some(Ok("superseded 0".into())));
}

/// Fault 70, F10: a process stands still for longer than its session, with a commit on its way and another one waiting.
#[test]
fn a_member_that_stood_still_too_long_commits_nothing_more_and_joins_again() {
    let mut scene = member();
    let out = commit(&mut scene, &[(0, 10)]);
    expect_commit(&mut scene);
    let waiting = commit(&mut scene, &[(0, 20), (1, 5)]);
    scene.pass(seconds(50));
    assert_eq!(scene.events(), ["lost 0 1"]);
    scene.offsets.forget(partitions(&[0, 1]));
    assert_eq!(result(&mut scene, out), Some(Ok("superseded 0".into())));
    assert_eq!(result(&mut scene, waiting), Some(Ok("superseded 0 1".into())));
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)]));
    scene.pass(seconds(1));
    scene.follow(GROUP_1, 3, &[0]);
    assert_eq!(scene.next(CONTROL_1), None, "nothing of it is sent under the next generation");
}

/// Commits, answers and losses in any order: what the coordinator has never moves back, and everything is resolved.
/// Fault 66, F5.
#[test]
fn whatever_happens_on_the_way_the_committed_offset_only_grows() {
    for seed in 0..200 {
        let mut random = crate::core::backoff::Random::new(seed);
        let mut scene = member();
        let (mut sent, mut applied, mut next, mut calls) = (None, BTreeMap::new(), 0, Vec::new());
        for _ in 0..60 {
            match random.below(5) {
                0 | 1 => {
                    next += 1;
                    let partition = i32::try_from(random.below(2)).unwrap();
                    calls.push(commit(&mut scene, &[(partition, next)]));
                }
                2 if sent.is_none() && scene.cluster.is_open(CONTROL_1) => {
                    if let Some(Ask::OffsetCommit(request)) = scene.next(CONTROL_1) {
                        sent = Some(request);
                    }
                }
                3 => {
                    if let Some(request) = sent.take() {
                        scene.answer(CONTROL_1, apply(request, random.below(4) > 0, &mut applied));
                    }
                }
                4 => {
                    if let Some(request) = sent.take() {
                        apply(request, random.below(2) > 0, &mut applied);
                        scene.lose(CONTROL_1);
                        scene.pass(seconds(1));
                    }
                }
                _ => {
                    scene.pass(seconds(1));
                    if let Some(Ask::Heartbeat(_)) = scene.next(GROUP_1) {
                        scene.answer(GROUP_1, beaten(ErrorCode::NONE));
                    }
                }
            }
        }
        assert_eq!(scene.group.identity().map(|it| it.generation), Some(1), "the membership lasted");
        scene.pass(seconds(60));
        assert!(calls.iter().all(|id| scene.offsets.is_resolved(*id)), "seed {seed}");
    }
}

/// What a coordinator does with a commit, and its answer.
fn apply(request: OffsetCommitRequest, ok: bool, applied: &mut BTreeMap<i32, i64>) -> Answer {
    let code = if ok { ErrorCode::NONE } else { ErrorCode::COORDINATOR_LOAD_IN_PROGRESS };
    let mut codes = Vec::new();
    for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
        codes.push((partition.partition_index, code));
        if ok {
            let before = applied.insert(partition.partition_index, partition.committed_offset);
            assert!(before.is_none_or(|before| before <= partition.committed_offset), "{request:?}");
        }
    }
    committed(&codes)
}

// Members of KIP-848.

/// A member in epoch 1 that holds partitions 0 and 1, of which nothing is committed.
fn modern_member() -> Scene {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0, 1]);
    scene.offsets.look_up(partitions(&[0, 1]));
    expect_look_up(&mut scene);
    scene.answer(CONTROL_1, looked_up(&[(0, -1, ErrorCode::NONE), (1, -1, ErrorCode::NONE)]));
    assert_eq!(found(&mut scene), ["0: none", "1: none"]);
    scene
}

/// Fault 58.
#[test]
fn a_look_up_says_who_asks_and_an_epoch_that_is_over_tells_nothing_of_offsets() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    let (id, _) = scene.group.reader().unwrap();
    scene.offsets.look_up(partitions(&[0]));
    let asked = |epoch: i32, scene: &mut Scene| {
        let Some(Ask::OffsetFetch(request)) = scene.next(CONTROL_1) else { panic!("no OffsetFetch") };
        let group = &request.groups[0];
        assert_eq!((group.member_id.clone(), group.member_epoch), (Some(id.clone()), epoch));
    };
    asked(1, &mut scene);
    scene.answer(CONTROL_1, look_up_refused(ErrorCode::STALE_MEMBER_EPOCH));
    assert_eq!(found(&mut scene), [""; 0]);
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, kept(2));
    scene.pass(seconds(1));
    asked(2, &mut scene);
}

/// Fault 58.
#[test]
fn a_commit_of_an_old_epoch_goes_out_again_under_the_new_one() {
    let mut scene = modern_member();
    let id = commit(&mut scene, &[(0, 5), (1, 7)]);
    assert_eq!(expect_commit(&mut scene), (1, vec![(0, 5), (1, 7)]));
    scene.answer(
        CONTROL_1,
        committed(&[(0, ErrorCode::STALE_MEMBER_EPOCH), (1, ErrorCode::STALE_MEMBER_EPOCH)]),
    );
    assert_eq!((scene.next(CONTROL_1), result(&mut scene, id)), (None, None));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, kept(2));
    assert_eq!(expect_commit(&mut scene), (2, vec![(0, 5), (1, 7)]));
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::NONE), (1, ErrorCode::NONE)]));
    assert_eq!(result(&mut scene, id), done());
}

/// Fault 54.
#[test]
fn a_commit_of_a_member_that_turns_out_to_be_none_is_superseded() {
    let mut scene = modern_member();
    let id = commit(&mut scene, &[(0, 5)]);
    expect_commit(&mut scene);
    scene.answer(CONTROL_1, committed(&[(0, ErrorCode::STALE_MEMBER_EPOCH)]));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, report_refused(ErrorCode::FENCED_MEMBER_EPOCH));
    assert_eq!(scene.events(), ["lost 0 1"]);
    scene.offsets.forget(partitions(&[0, 1]));
    assert_eq!(result(&mut scene, id), Some(Ok("superseded 0".into())));
    scene.pass(seconds(1));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(3, &[(Uuid(7), &[0])]));
    assert_eq!(scene.next(CONTROL_1), None, "it is never sent under the next membership");
}
