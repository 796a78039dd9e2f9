//! A member and its coordinator, answer by answer.

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;

use super::scene::*;
use super::{Parting, leader};
use crate::config::{Assignor, ConsumerConfig};
use crate::core::{Answer, Ask, Link};
use crate::error::ErrorKind;

#[test]
fn a_new_member_gets_its_id_first_and_leads_alone() {
    let mut scene = Scene::new(cooperative());
    scene.find_coordinator(1);
    assert_eq!(scene.expect_join(GROUP_1).member_id, "");
    scene.answer(GROUP_1, join_refused(ErrorCode::MEMBER_ID_REQUIRED, "me"));
    assert_eq!(scene.expect_join(GROUP_1).member_id, "me");
    assert_eq!(scene.next(GROUP_1), None, "one request at a time");

    scene.answer(GROUP_1, led(1, vec![member("me", &["t"], &[], -1)]));
    let Some(Ask::SyncGroup(request)) = scene.next(GROUP_1) else { panic!("no SyncGroup") };
    assert_eq!(share_of(&request, "me"), "0 1 2 3");
    assert_eq!(scene.group.identity(), None, "nobody commits between two generations");
    scene.answer(GROUP_1, synced(&[0, 1, 2, 3]));
    assert_eq!(scene.events(), ["assign 0 1 2 3"]);
    let identity = scene.group.identity().unwrap();
    assert_eq!((&*identity.group, &*identity.member_id, identity.generation), ("g", "me", 1));
}

/// F11.
#[test]
fn a_cooperative_member_gives_up_only_what_moves_and_joins_again_without_it() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0, 1, 2]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    assert_eq!(scene.events(), [""; 0], "it keeps what it has");
    assert_eq!(owned_in(&scene.expect_join(GROUP_1)), (vec![0, 1, 2], 1));
    scene.answer(GROUP_1, joined(2, "other"));
    assert!(matches!(scene.next(GROUP_1), Some(Ask::SyncGroup(_))));
    scene.answer(GROUP_1, synced(&[1, 2, 3]));
    assert_eq!(scene.events(), ["revoke 0", "assign 3"]);
    assert_eq!(scene.next(GROUP_1), None, "it waits until the reader has given 0 up");
    assert_eq!(scene.group.identity().map(|it| it.generation), Some(2), "the reader commits meanwhile");

    scene.group.given_up(scene.now);
    assert_eq!(owned_in(&scene.expect_join(GROUP_1)), (vec![1, 2, 3], 2));
}

#[test]
fn an_eager_member_gives_everything_up_before_it_joins_again() {
    let mut scene = Scene::new(eager());
    scene.become_member(1, &[0, 1]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    assert_eq!(scene.events(), ["revoke 0 1"]);
    assert_eq!(scene.next(GROUP_1), None);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    assert_eq!(scene.events(), [""; 0], "it was told once");

    scene.group.given_up(scene.now);
    assert_eq!(owned_in(&scene.expect_join(GROUP_1)), (vec![], 1));
    scene.answer(GROUP_1, joined(2, "other"));
    assert!(matches!(scene.next(GROUP_1), Some(Ask::SyncGroup(_))));
    scene.answer(GROUP_1, synced(&[0, 2]));
    assert_eq!(scene.events(), ["assign 0 2"]);
}

/// Fault 53: heartbeats wait for no other request.
#[test]
fn heartbeats_take_the_other_lane_while_a_join_waits() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    scene.expect_join(GROUP_1);
    // A rebalance that takes much longer than the session timeout.
    for _ in 0..30 {
        scene.pass(seconds(3));
        assert_eq!(scene.next(GROUP_1), None);
        assert_eq!(scene.expect_heartbeat(CONTROL_1).generation_id, 1);
        scene.answer(CONTROL_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    }
    scene.pass(seconds(3));
    scene.expect_heartbeat(CONTROL_1);
    scene.answer(CONTROL_1, beaten(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(scene.events(), [""; 0], "the answer to the join is on its way");
    scene.answer(GROUP_1, joined(2, "other"));
    assert!(matches!(scene.next(GROUP_1), Some(Ask::SyncGroup(_))));
    scene.answer(GROUP_1, synced(&[0]));
    assert_eq!(scene.events(), [""; 0]);
    assert_eq!(scene.group.identity().map(|it| it.generation), Some(2));
}

/// F10.
#[test]
fn a_member_that_hears_nothing_stops_before_its_session_is_over() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0, 1]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::NONE));
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    // The session of 45 s counts from the sending of the last heartbeat that was answered, 3 s ago.
    assert_eq!(scene.group.deadline(), Some(scene.now + seconds(42)));
    scene.pass(seconds(42));
    assert_eq!(scene.events(), ["lost 0 1"]);
    assert_eq!(scene.group.identity(), None, "what it has is not committed any more");
    scene.answer(GROUP_1, beaten(ErrorCode::NONE));
    scene.pass(seconds(1));
    let request = scene.expect_join(GROUP_1);
    assert_eq!((&*request.member_id, owned_in(&request)), ("me", (vec![], -1)));
}

#[test]
fn a_forgotten_member_loses_everything_and_joins_as_a_new_one() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0, 1]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(scene.events(), ["lost 0 1"]);
    assert_eq!(scene.next(GROUP_1), None, "not at once");
    scene.pass(seconds(1));
    assert_eq!(scene.expect_join(GROUP_1).member_id, "");
}

#[test]
fn a_generation_that_went_on_is_lost_and_the_member_id_kept() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(scene.events(), ["lost 0"]);
    scene.pass(seconds(1));
    assert_eq!(scene.expect_join(GROUP_1).member_id, "me");
}

#[test]
fn an_error_that_says_nothing_is_waited_out_but_not_for_ever() {
    let mut scene = Scene::new(cooperative());
    scene.find_coordinator(1);
    scene.expect_join(GROUP_1);
    let start = scene.now;
    while scene.now < start + seconds(60) {
        scene.answer(GROUP_1, join_refused(ErrorCode::UNKNOWN_SERVER_ERROR, ""));
        assert_eq!((scene.next(GROUP_1), scene.events()), (None, vec![]), "not at once");
        scene.pass(seconds(2));
        scene.expect_join(GROUP_1);
    }
    scene.answer(GROUP_1, join_refused(ErrorCode::UNKNOWN_SERVER_ERROR, ""));
    assert_eq!(scene.events(), ["failed Broker"]);
}

#[test]
fn final_errors_end_the_membership() {
    fn check(code: ErrorCode, kind: ErrorKind, text: &str) {
        let mut scene = Scene::new(cooperative());
        scene.become_member(1, &[0]);
        scene.pass(seconds(3));
        scene.expect_heartbeat(GROUP_1);
        scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
        scene.expect_join(GROUP_1);
        scene.answer(GROUP_1, join_refused(code, "me"));
        assert_eq!(scene.events(), ["lost 0".to_owned(), format!("failed {kind:?}")]);
        let error = scene.group.failure().unwrap();
        assert!(error.to_string().contains(text), "{error}");
        scene.pass(seconds(60));
        assert_eq!(scene.next(GROUP_1), None);
        assert!(scene.group.has_left());
    }
    check(ErrorCode::FENCED_INSTANCE_ID, ErrorKind::Fenced, "group.instance.id");
    check(
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ErrorKind::Broker,
        "partition.assignment.strategy cooperative-sticky",
    );
    check(ErrorCode::INVALID_SESSION_TIMEOUT, ErrorKind::Broker, "session.timeout.ms 45000");
    check(ErrorCode::GROUP_AUTHORIZATION_FAILED, ErrorKind::Authorization, "group g");
    check(ErrorCode::GROUP_MAX_SIZE_REACHED, ErrorKind::Broker, "group g");
    check(ErrorCode(999), ErrorKind::Broker, "group g");
}

#[test]
fn a_join_is_tried_again_after_a_wait_when_that_may_help() {
    for code in [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::UNRELEASED_INSTANCE_ID,
        ErrorCode::REBALANCE_IN_PROGRESS,
    ] {
        let mut scene = Scene::new(cooperative());
        scene.find_coordinator(1);
        scene.expect_join(GROUP_1);
        scene.answer(GROUP_1, join_refused(code, ""));
        assert_eq!(scene.next(GROUP_1), None, "{code}");
        let again = scene.group.ready_at(GROUP_1).unwrap();
        assert!(again > scene.now, "{code}");
        scene.pass(again - scene.now);
        scene.expect_join(GROUP_1);
    }
}

#[test]
fn a_lost_join_is_sent_again_with_the_same_member_id() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    scene.expect_join(GROUP_1);
    scene.lose(GROUP_1);
    scene.pass(seconds(2));
    scene.find_coordinator(2);
    let request = scene.expect_join(GROUP_2);
    assert_eq!((&*request.member_id, owned_in(&request)), ("me", (vec![0], 1)));
    assert_eq!(scene.events(), [""; 0]);
}

#[test]
fn a_lost_sync_is_sent_again_in_the_same_generation_with_the_same_shares() {
    let mut scene = Scene::new(cooperative());
    scene.find_coordinator(1);
    scene.expect_join(GROUP_1);
    scene.answer(GROUP_1, led(4, vec![member("me", &["t"], &[], -1)]));
    let Some(Ask::SyncGroup(first)) = scene.next(GROUP_1) else { panic!("no SyncGroup") };
    scene.lose(GROUP_1);
    scene.pass(seconds(2));
    scene.find_coordinator(1);
    let Some(Ask::SyncGroup(second)) = scene.next(GROUP_1) else { panic!("no SyncGroup") };
    assert_eq!((first.generation_id, &first), (4, &second));
}

#[test]
fn a_coordinator_that_moves_is_found_again_and_the_membership_kept() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::NOT_COORDINATOR));
    assert_eq!((scene.group.coordinator(), scene.next(GROUP_1)), (None, None));
    scene.pass(seconds(1));
    scene.find_coordinator(2);
    let request = scene.expect_heartbeat(GROUP_2);
    assert_eq!((&*request.member_id, request.generation_id), ("me", 1));
    assert_eq!(scene.events(), [""; 0]);
}

#[test]
fn an_answer_of_the_former_coordinator_means_nothing() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    scene.expect_join(GROUP_1);
    scene.group.coordinator_failed(scene.now, 1, &mut scene.cluster);
    scene.pass(seconds(1));
    scene.find_coordinator(2);
    scene.expect_join(GROUP_2);
    scene.answer(GROUP_1, joined(9, "other"));
    assert_eq!(scene.group.identity().map(|it| it.generation), Some(1));
    scene.answer(GROUP_2, joined(2, "other"));
    let Some(Ask::SyncGroup(request)) = scene.next(GROUP_2) else { panic!("no SyncGroup") };
    assert_eq!(request.generation_id, 2);
}

#[test]
fn the_search_for_a_coordinator_goes_on_after_a_wait() {
    let mut scene = Scene::new(cooperative());
    scene.step();
    let seed = Link { node: i32::MIN, lane: crate::core::Lane::Control };
    let links = [seed, CONTROL_1, CONTROL_2];
    let mut asked = links.into_iter().find(|link| matches!(scene.next(*link), Some(Ask::FindCoordinator(_))));
    let link = asked.take().unwrap();
    scene.lose(link);
    assert!(links.iter().all(|link| scene.next(*link).is_none()));
    scene.pass(seconds(1));
    scene.find_coordinator(1);
    assert_eq!(scene.group.coordinator(), Some(1));
}

#[test]
fn a_group_that_may_not_be_used_is_an_error() {
    let mut scene = Scene::new(cooperative());
    scene.step();
    let links = [Link { node: i32::MIN, ..CONTROL_1 }, CONTROL_1, CONTROL_2];
    let link = links.into_iter().find(|link| scene.next(*link).is_some()).unwrap();
    let refused = Coordinator {
        key: "g".into(),
        error_code: ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ..Default::default()
    };
    scene.answer(
        link,
        Answer::FindCoordinator(FindCoordinatorResponse {
            coordinators: vec![refused],
            ..Default::default()
        }),
    );
    assert_eq!(scene.events(), ["failed Authorization"]);
}

#[test]
fn a_leader_waits_for_the_metadata_of_all_topics_but_not_for_ever() {
    let mut scene = Scene::new(cooperative());
    scene.find_coordinator(1);
    scene.expect_join(GROUP_1);
    let members = vec![member("me", &["t"], &[], -1), member("you", &["t", "late"], &[], -1)];
    scene.answer(GROUP_1, led(1, members));
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::NONE));
    assert_eq!(scene.next(GROUP_1), None);
    scene.pass(seconds(28));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::NONE));
    let Some(Ask::SyncGroup(request)) = scene.next(GROUP_1) else { panic!("no SyncGroup") };
    assert_eq!((share_of(&request, "me"), share_of(&request, "you")), ("0 2".into(), "1 3".into()));
}

/// F17.
#[test]
fn a_leader_joins_again_when_partitions_are_added() {
    let mut scene = Scene::new(cooperative());
    scene.find_coordinator(1);
    scene.expect_join(GROUP_1);
    scene.answer(GROUP_1, led(1, vec![member("me", &["t"], &[], -1)]));
    assert!(matches!(scene.next(GROUP_1), Some(Ask::SyncGroup(_))));
    // The news comes too late for this generation, and must not be overlooked in the next phase.
    scene.show_partitions(6);
    scene.answer(GROUP_1, synced(&[0, 1, 2, 3]));
    assert_eq!(owned_in(&scene.expect_join(GROUP_1)), (vec![0, 1, 2, 3], 1));
}

#[test]
fn a_follower_leaves_it_to_the_leader_to_notice_partitions() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.show_partitions(6);
    assert_eq!(scene.next(GROUP_1), None);
}

#[test]
fn a_share_of_what_was_not_asked_for_is_refused() {
    let mut scene = Scene::new(cooperative());
    scene.find_coordinator(1);
    scene.expect_join(GROUP_1);
    scene.answer(GROUP_1, joined(1, "other"));
    assert!(matches!(scene.next(GROUP_1), Some(Ask::SyncGroup(_))));
    scene.answer(GROUP_1, synced(&[2, -1, 2]));
    assert_eq!(scene.events(), ["assign 2"]);
}

/// Fault 53.
#[test]
fn who_does_not_poll_is_out_until_he_does() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    for _ in 0..99 {
        scene.pass(seconds(3));
        scene.expect_heartbeat(GROUP_1);
        scene.answer(GROUP_1, beaten(ErrorCode::NONE));
    }
    assert_eq!(scene.events(), [""; 0]);
    scene.pass(seconds(3));
    assert_eq!(scene.events(), ["lost 0"]);
    let Some(Ask::LeaveGroup(request)) = scene.next(CONTROL_1) else { panic!("no LeaveGroup") };
    assert_eq!(request.members[0].member_id, "me");
    scene.answer(CONTROL_1, Answer::LeaveGroup(LeaveGroupResponse::default()));
    assert_eq!(scene.next(GROUP_1), None);

    scene.group.polled(scene.now);
    assert_eq!(scene.expect_join(GROUP_1).member_id, "");
    assert!(!scene.group.has_left());
}

#[test]
fn a_dynamic_member_leaves_and_a_late_answer_does_not_bring_it_back() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    scene.expect_join(GROUP_1);
    scene.group.leave(scene.now, Parting::ByKind);
    assert!(!scene.group.has_left());
    let Some(Ask::LeaveGroup(request)) = scene.next(CONTROL_1) else { panic!("no LeaveGroup") };
    assert_eq!(request.members[0].member_id, "me");
    scene.answer(GROUP_1, joined(2, "other"));
    assert_eq!((scene.next(GROUP_1), scene.group.identity()), (None, None));
    scene.answer(CONTROL_1, Answer::LeaveGroup(LeaveGroupResponse::default()));
    assert!(scene.group.has_left());
    assert_eq!(scene.events(), [""; 0]);
}

/// Fault 68.
#[test]
fn leaving_does_not_wait_for_an_answer_that_will_not_come() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.group.leave(scene.now, Parting::ByKind);
    assert!(matches!(scene.next(CONTROL_1), Some(Ask::LeaveGroup(_))));
    scene.lose(CONTROL_1);
    assert!(scene.group.has_left());
}

/// KIP-1092.
#[test]
fn a_dynamic_member_that_remains_says_nothing() {
    let mut scene = Scene::new(cooperative());
    scene.become_member(1, &[0]);
    scene.group.leave(scene.now, Parting::Remain);
    assert!(scene.group.has_left());
    assert_eq!(scene.next(CONTROL_1), None);
}

#[test]
fn a_static_member_keeps_its_place_unless_it_leaves() {
    for (parting, leaves) in [(Parting::ByKind, false), (Parting::Remain, false), (Parting::Leave, true)] {
        check_static_parting(parting, leaves);
    }
}

fn check_static_parting(parting: Parting, leaves: bool) {
    let config = ConsumerConfig { group_instance_id: Some("pod-7".into()), ..cooperative() };
    let mut scene = Scene::new(config);
    scene.find_coordinator(1);
    assert_eq!(scene.expect_join(GROUP_1).group_instance_id.as_deref(), Some("pod-7"));
    scene.answer(GROUP_1, joined(1, "other"));
    assert!(matches!(scene.next(GROUP_1), Some(Ask::SyncGroup(_))));
    scene.answer(GROUP_1, synced(&[0]));
    scene.group.leave(scene.now, parting);
    assert_eq!(scene.group.has_left(), !leaves);
    let said = matches!(scene.next(CONTROL_1), Some(Ask::LeaveGroup(request)) if request.members[0].member_id == "me");
    assert_eq!(said, leaves);
}

#[test]
fn a_static_leader_that_came_back_leaves_the_shares_as_they_are() {
    let mut scene = Scene::new(ConsumerConfig { group_instance_id: Some("pod-7".into()), ..cooperative() });
    scene.find_coordinator(1);
    scene.expect_join(GROUP_1);
    let Answer::JoinGroup(mut response) = led(3, vec![member("me", &["t"], &[], -1)]) else { panic!() };
    response.skip_assignment = true;
    scene.answer(GROUP_1, Answer::JoinGroup(response));
    let Some(Ask::SyncGroup(request)) = scene.next(GROUP_1) else { panic!("no SyncGroup") };
    assert_eq!(request.assignments, []);
    scene.answer(GROUP_1, synced(&[0]));
    scene.show_partitions(5);
    scene.expect_join(GROUP_1);
}

#[test]
fn who_names_its_partitions_is_no_member_and_finds_the_coordinator_when_it_needs_it() {
    let mut scene = Scene::new(by_hand());
    assert!(!links_of_both_nodes().into_iter().any(|link| scene.next(link).is_some()));
    let identity = scene.group.identity().unwrap();
    assert_eq!((&*identity.member_id, identity.generation), ("", -1));
    scene.group.need_coordinator(scene.now, &mut scene.cluster);
    scene.find_coordinator(2);
    assert_eq!(scene.group.coordinator(), Some(2));
    assert_eq!(scene.next(GROUP_2), None);
    scene.group.leave(scene.now, Parting::ByKind);
    assert!(scene.group.has_left());
}

fn links_of_both_nodes() -> [Link; 4] {
    [GROUP_1, CONTROL_1, GROUP_2, CONTROL_2]
}

/// The answer to a JoinGroup that makes member "me" the leader of these.
fn led(generation: i32, members: Vec<JoinGroupMember>) -> Answer {
    let Answer::JoinGroup(mut response) = joined(generation, "me") else { panic!() };
    response.members = members;
    Answer::JoinGroup(response)
}

/// As [`joined`] and [`led`], by another assignor.
fn by(assignor: &str, answer: Answer) -> Answer {
    let Answer::JoinGroup(mut response) = answer else { panic!() };
    response.protocol_name = Some(assignor.into());
    Answer::JoinGroup(response)
}

#[test]
fn an_eager_sticky_member_says_what_it_had_although_it_has_given_it_up() {
    let mut scene = Scene::new(ConsumerConfig { assignors: vec![Assignor::Sticky], ..cooperative() });
    scene.find_coordinator(1);
    let said = |request: &JoinGroupRequest| {
        let said = ConsumerProtocolSubscription::from_bytes(request.protocols[0].metadata.clone()).unwrap();
        assert_eq!((&*request.protocols[0].name, said.owned_partitions), ("sticky", vec![]));
        said.user_data.map(|data| StickyUserData::from_bytes(data).unwrap())
    };
    assert_eq!(said(&scene.expect_join(GROUP_1)), None);
    scene.answer(GROUP_1, by("sticky", joined(7, "other")));
    assert!(matches!(scene.next(GROUP_1), Some(Ask::SyncGroup(_))));
    scene.answer(GROUP_1, synced(&[1, 3]));
    assert_eq!(scene.events(), ["assign 1 3"]);
    scene.pass(seconds(3));
    scene.expect_heartbeat(GROUP_1);
    scene.answer(GROUP_1, beaten(ErrorCode::REBALANCE_IN_PROGRESS));
    assert_eq!(scene.events(), ["revoke 1 3"]);
    scene.group.given_up(scene.now);
    let previous = vec![ConsumerProtocolPartitions { topic: "t".into(), partitions: vec![1, 3] }];
    assert_eq!(said(&scene.expect_join(GROUP_1)), Some(StickyUserData { previous, generation: 7 }));
}

#[test]
fn a_leader_gives_members_what_stands_in_their_rack() {
    let mut scene = Scene::new(ConsumerConfig { assignors: vec![Assignor::Range], ..cooperative() });
    scene.find_coordinator(1);
    scene.expect_join(GROUP_1);
    let stands_in = |id: &str, rack: &str| {
        let said = leader::Said {
            topics: &["t".into()],
            rack: Some(rack.into()),
            generation: -1,
            ..Default::default()
        };
        JoinGroupMember { member_id: id.into(), metadata: said.to_bytes().unwrap(), group_instance_id: None }
    };
    let members = vec![stands_in("me", "rack-2"), stands_in("you", "rack-1")];
    scene.answer(GROUP_1, by("range", led(1, members)));
    let Some(Ask::SyncGroup(request)) = scene.next(GROUP_1) else { panic!("no SyncGroup") };
    assert_eq!((share_of(&request, "me"), share_of(&request, "you")), ("1 3".into(), "0 2".into()));
}

struct Panics;

impl crate::PartitionAssignor for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn assign(
        &self,
        _: &[crate::Subscriber],
        _: &std::collections::BTreeMap<String, i32>,
    ) -> Vec<Vec<(String, i32)>> {
        panic!("a defect of the user")
    }
}

#[test]
fn a_written_assignor_that_panics_ends_the_membership_and_nothing_else() {
    let assignors = vec![Assignor::Custom(std::sync::Arc::new(Panics))];
    let mut scene = Scene::new(ConsumerConfig { assignors, ..cooperative() });
    scene.find_coordinator(1);
    scene.expect_join(GROUP_1);
    scene.answer(GROUP_1, by("panics", led(1, vec![member("me", &["t"], &[], -1)])));
    assert_eq!(scene.next(GROUP_1), None);
    assert_eq!(scene.events(), ["failed InvalidArgument"]);
    let failure = scene.group.failure().unwrap().to_string();
    assert_eq!(failure, "group g, assignor panics: the assignor panicked");
}
