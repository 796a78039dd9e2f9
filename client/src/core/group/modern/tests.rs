//! A member of KIP-848 and its coordinator, answer by answer.

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::Uuid;

use crate::config::{ConsumerConfig, GroupProtocol, Source, TopicPattern};
use crate::core::group::Parting;
use crate::core::group::scene::*;
use crate::core::{Answer, Ask, Link};
use crate::error::ErrorKind;

const T: Uuid = Uuid(7);

fn auto() -> ConsumerConfig {
    ConsumerConfig { group_protocol: GroupProtocol::Auto, ..modern() }
}

/// A static member.
fn named() -> ConsumerConfig {
    ConsumerConfig { group_instance_id: Some("i".into()), ..modern() }
}

fn epoch(scene: &Scene) -> Option<i32> {
    scene.group.identity().map(|it| it.generation)
}

/// Time until the link is wanted again.
fn wait(scene: &mut Scene, link: Link) {
    let again = scene.group.ready_at(link).expect("it goes on");
    scene.pass(again.saturating_duration_since(scene.now));
}

#[test]
fn a_member_makes_its_id_and_says_everything_when_it_joins() {
    let config = ConsumerConfig { group_remote_assignor: Some("range".into()), ..modern() };
    let mut scene = Scene::new(config);
    scene.find_coordinator(1);
    let request = scene.expect_report(GROUP_1);
    assert_eq!((&*request.group_id, request.member_epoch), ("g", 0));
    assert_eq!(request.member_id.len(), 22, "a UUID in base 64 (KIP-1082)");
    assert_eq!(request.rebalance_timeout_ms, 300_000, "max.poll.interval.ms");
    assert_eq!(request.subscribed_topic_names, Some(vec!["t".into()]));
    assert_eq!(request.server_assignor.as_deref(), Some("range"));
    assert_eq!(reported(&request), Some(vec![]));
    assert_eq!(scene.next(GROUP_1), None, "one at a time");
    assert_eq!(scene.group.identity(), None);
    scene.answer(GROUP_1, assigned(3, &[(T, &[0, 2])]));
    assert_eq!((scene.events(), epoch(&scene)), (vec!["assign 0 2".to_owned()], Some(3)));
    assert_eq!(scene.group.reader(), Some((request.member_id.clone(), 3)));

    let report = scene.expect_report(GROUP_1);
    assert_eq!((report.member_id, report.member_epoch), (request.member_id, 3));
    assert_eq!((report.subscribed_topic_names, report.rebalance_timeout_ms), (None, -1), "no more than news");
    assert_eq!(
        report.topic_partitions.unwrap()[0],
        GroupTopicPartitions { topic_id: T, partitions: vec![0, 2] }
    );
    scene.answer(GROUP_1, kept(3));
    assert_eq!(scene.next(GROUP_1), None, "not before the interval of the broker is over");
    scene.pass(seconds(5));
    assert_eq!(reported(&scene.expect_report(GROUP_1)), None, "nothing is new");
}

#[test]
fn what_moves_is_given_up_then_told_and_only_then_more_is_taken_up() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0, 1]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(1, &[(T, &[1, 2])]));
    assert_eq!(scene.events(), ["revoke 0"]);
    assert_eq!(epoch(&scene), Some(1), "the reader commits meanwhile");
    scene.pass(seconds(5));
    assert_eq!(reported(&scene.expect_report(GROUP_1)), None, "it still has it, and is alive");
    scene.answer(GROUP_1, kept(1));

    scene.group.given_up(scene.now);
    scene.step();
    assert_eq!(scene.events(), [""; 0]);
    assert_eq!(reported(&scene.expect_report(GROUP_1)), Some(vec![1]));
    scene.answer(GROUP_1, kept(2));
    assert_eq!((scene.events(), epoch(&scene)), (vec!["assign 2".to_owned()], Some(2)));
    assert_eq!(reported(&scene.expect_report(GROUP_1)), Some(vec![1, 2]));
}

#[test]
fn what_is_given_up_while_a_heartbeat_is_out_is_told_in_the_next() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0, 1]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(1, &[(T, &[1])]));
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.group.given_up(scene.now);
    assert_eq!(scene.next(GROUP_1), None);
    scene.answer(GROUP_1, kept(1));
    assert_eq!(reported(&scene.expect_report(GROUP_1)), Some(vec![1]));
    assert_eq!(scene.events(), ["revoke 0"]);
}

#[test]
fn another_target_during_a_revocation_waits_for_its_end() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0, 1]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(1, &[(T, &[1])]));
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(1, &[(T, &[3])]));
    assert_eq!(scene.events(), ["revoke 0"]);
    scene.group.given_up(scene.now);
    assert_eq!(reported(&scene.expect_report(GROUP_1)), Some(vec![1]));
    scene.answer(GROUP_1, kept(2));
    assert_eq!(scene.events(), ["revoke 1"]);
    scene.group.given_up(scene.now);
    assert_eq!(reported(&scene.expect_report(GROUP_1)), Some(vec![]));
    scene.answer(GROUP_1, kept(2));
    assert_eq!(scene.events(), ["assign 3"]);
}

/// Fault 57.
#[test]
fn after_a_lost_answer_everything_is_said_again_and_nothing_is_done_twice() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    scene.pass(seconds(5));
    let lost = scene.expect_report(GROUP_1);
    scene.lose(GROUP_1);
    scene.pass(seconds(2));
    scene.find_coordinator(1);
    let again = scene.expect_report(GROUP_1);
    assert_eq!((again.member_id.clone(), again.member_epoch), (lost.member_id, 1));
    assert_eq!((reported(&again), again.rebalance_timeout_ms), (Some(vec![0]), 300_000));
    assert!(again.subscribed_topic_names.is_some());
    scene.answer(GROUP_1, assigned(2, &[(T, &[0])]));
    assert_eq!((scene.events(), epoch(&scene)), (vec![], Some(2)));
}

/// A join that was lost may have been taken.
#[test]
fn a_lost_join_is_sent_again_with_the_same_id() {
    let mut scene = Scene::new(modern());
    scene.find_coordinator(1);
    let first = scene.expect_report(GROUP_1);
    scene.lose(GROUP_1);
    scene.pass(seconds(2));
    scene.find_coordinator(2);
    assert_eq!(scene.expect_report(GROUP_2), first);
}

/// Fault 61.
#[test]
fn a_member_that_is_none_any_more_loses_everything_and_joins_again_with_its_id() {
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::GROUP_ID_NOT_FOUND]
    {
        let mut scene = Scene::new(modern());
        scene.enrol(4, &[0, 1]);
        scene.pass(seconds(5));
        let id = scene.expect_report(GROUP_1).member_id;
        scene.answer(GROUP_1, report_refused(code));
        assert_eq!(scene.events(), ["lost 0 1"], "{code}");
        assert_eq!(scene.group.identity(), None, "what it had is not committed any more");
        assert_eq!(scene.next(GROUP_1), None, "not at once");
        wait(&mut scene, GROUP_1);
        let request = scene.expect_report(GROUP_1);
        assert_eq!((request.member_id.clone(), request.member_epoch), (id, 0), "{code}");
        assert_eq!((reported(&request), request.rebalance_timeout_ms), (Some(vec![]), 300_000));
    }
}

#[test]
fn a_revocation_that_a_loss_overtakes_is_moot() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0, 1]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(1, &[(T, &[1])]));
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, report_refused(ErrorCode::FENCED_MEMBER_EPOCH));
    assert_eq!(scene.events(), ["revoke 0", "lost 0 1"]);
    wait(&mut scene, GROUP_1);
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(3, &[(T, &[0])]));
    assert_eq!(scene.events(), ["assign 0"]);
    scene.group.given_up(scene.now);
    assert_eq!(reported(&scene.expect_report(GROUP_1)), Some(vec![0]), "it was not given up a second time");
}

#[test]
fn final_errors_end_the_membership() {
    fn check(code: ErrorCode, kind: ErrorKind, text: &str) {
        let mut scene = Scene::new(ConsumerConfig { group_remote_assignor: Some("own".into()), ..named() });
        scene.enrol(1, &[0]);
        scene.pass(seconds(5));
        scene.expect_report(GROUP_1);
        scene.answer(GROUP_1, report_refused(code));
        assert_eq!(scene.events(), ["lost 0".to_owned(), format!("failed {kind:?}")], "{code}");
        let error = scene.group.failure().unwrap();
        assert_eq!(error.code(), Some(code));
        assert!(error.to_string().contains(text), "{error}");
        scene.pass(seconds(60));
        assert_eq!(scene.next(GROUP_1), None);
        assert!(scene.group.has_left());
    }
    check(ErrorCode::FENCED_INSTANCE_ID, ErrorKind::Fenced, "group.instance.id i");
    check(ErrorCode::UNSUPPORTED_ASSIGNOR, ErrorKind::Broker, "group.remote.assignor own");
    check(ErrorCode::UNSUPPORTED_VERSION, ErrorKind::UnsupportedVersion, "group.version 1");
    check(ErrorCode::GROUP_AUTHORIZATION_FAILED, ErrorKind::Authorization, "group g");
    check(ErrorCode::GROUP_MAX_SIZE_REACHED, ErrorKind::Broker, "group g");
    check(ErrorCode::INVALID_REQUEST, ErrorKind::Broker, "group g");
    check(ErrorCode::INVALID_REGULAR_EXPRESSION, ErrorKind::Broker, "group g");
    check(ErrorCode(999), ErrorKind::Broker, "group g");
}

#[test]
fn a_group_that_stays_classic_is_an_error_for_who_insists() {
    let mut scene = Scene::new(modern());
    scene.find_coordinator(1);
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, report_refused(ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(scene.events(), ["failed Broker"]);
    assert!(scene.group.failure().unwrap().to_string().contains("another protocol's"));
}

/// Nobody is to read what a member has whose epoch says that it has left.
#[test]
fn an_epoch_that_no_member_has_is_a_defect_of_the_peer() {
    for wrong in [0, -1] {
        let mut scene = Scene::new(modern());
        scene.find_coordinator(1);
        scene.expect_report(GROUP_1);
        scene.answer(GROUP_1, assigned(wrong, &[(T, &[0])]));
        assert_eq!(scene.events(), ["failed Protocol"]);
    }
}

/// Fault 62.
#[test]
fn a_name_that_is_taken_is_waited_for_but_not_for_ever() {
    waits_for_a_minute(ErrorCode::UNRELEASED_INSTANCE_ID, "group.instance.id i");
}

#[test]
fn an_error_that_says_nothing_is_waited_out_but_not_for_ever() {
    waits_for_a_minute(ErrorCode::UNKNOWN_SERVER_ERROR, "group g");
}

fn waits_for_a_minute(code: ErrorCode, text: &str) {
    let mut scene = Scene::new(named());
    scene.find_coordinator(1);
    assert_eq!(scene.expect_report(GROUP_1).instance_id.as_deref(), Some("i"));
    let start = scene.now;
    while scene.now < start + seconds(60) {
        scene.answer(GROUP_1, report_refused(code));
        assert_eq!(scene.events(), [""; 0]);
        wait(&mut scene, GROUP_1);
        scene.expect_report(GROUP_1);
    }
    scene.answer(GROUP_1, report_refused(code));
    assert_eq!(scene.events(), ["failed Broker"]);
    assert!(scene.group.failure().unwrap().to_string().contains(text));
}

#[test]
fn a_coordinator_that_loads_is_asked_again_later() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, report_refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    assert_eq!((scene.next(GROUP_1), scene.events(), epoch(&scene)), (None, vec![], Some(1)));
    wait(&mut scene, GROUP_1);
    assert_eq!(reported(&scene.expect_report(GROUP_1)), Some(vec![0]));
}

#[test]
fn a_coordinator_that_moves_is_found_again_and_the_membership_kept() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, report_refused(ErrorCode::NOT_COORDINATOR));
    assert_eq!((scene.group.coordinator(), scene.next(GROUP_1)), (None, None));
    scene.pass(seconds(1));
    scene.find_coordinator(2);
    let request = scene.expect_report(GROUP_2);
    assert_eq!((request.member_epoch, reported(&request)), (1, Some(vec![0])));
    assert_eq!(scene.events(), [""; 0]);
}

#[test]
fn an_answer_of_the_former_coordinator_means_nothing() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.group.coordinator_failed(scene.now, 1, &mut scene.cluster);
    scene.answer(GROUP_1, report_refused(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!((scene.events(), epoch(&scene)), (vec![], Some(1)));
}

#[test]
fn a_topic_that_may_not_be_read_is_reported_and_the_membership_goes_on() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, report_refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(scene.events(), ["refused Authorization"]);
    assert_eq!(scene.next(GROUP_1), None);
    scene.pass(seconds(5));
    assert_eq!(scene.expect_report(GROUP_1).member_epoch, 1);
}

/// Fault 60.
#[test]
fn a_topic_that_metadata_does_not_know_yet_is_taken_up_when_it_does() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(2, &[(T, &[0]), (Uuid(8), &[1])]));
    assert_eq!(scene.events(), [""; 0]);
    let due = scene.cluster.metadata.due().unwrap();
    assert!(due <= scene.now + seconds(2), "metadata is asked for");
    // The topic is another one under the same name.
    scene.show_topic(Uuid(8), 4);
    assert_eq!(scene.events(), ["assign 1"]);
    let report = scene.expect_report(GROUP_1).topic_partitions.unwrap();
    let topic = |id, partition| GroupTopicPartitions { topic_id: Uuid(id), partitions: vec![partition] };
    assert_eq!(report, [topic(7, 0), topic(8, 1)]);
}

#[test]
fn a_partition_of_a_topic_that_was_created_again_is_given_up_before_it_is_taken_up() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    scene.show_topic(Uuid(8), 4);
    scene.answer(GROUP_1, assigned(1, &[(Uuid(8), &[0])]));
    assert_eq!(scene.events(), ["revoke 0"]);
    scene.group.given_up(scene.now);
    assert_eq!(reported(&scene.expect_report(GROUP_1)), Some(vec![]));
    scene.answer(GROUP_1, kept(2));
    assert_eq!(scene.events(), ["assign 0"]);
}

#[test]
fn a_share_of_what_was_not_asked_for_is_refused() {
    let mut scene = Scene::new(modern());
    scene.find_coordinator(1);
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(1, &[(T, &[2, -1, 2]), (Uuid(99), &[0]), (Uuid::ZERO, &[0])]));
    assert_eq!(scene.events(), ["assign 2"]);
}

/// Fault 59.
#[test]
fn a_member_leaves_and_a_late_answer_does_not_bring_it_back() {
    let cases = [
        (modern(), Parting::ByKind, -1),
        (named(), Parting::ByKind, -2),
        (named(), Parting::Remain, -2),
        (named(), Parting::Leave, -1),
    ];
    for (config, parting, expected) in cases {
        let mut scene = Scene::new(config);
        scene.enrol(1, &[0]);
        scene.pass(seconds(5));
        let id = scene.expect_report(GROUP_1).member_id;
        scene.group.leave(scene.now, parting);
        assert!(!scene.group.has_left());
        // It does not wait for the answer to the heartbeat.
        let request = scene.expect_report(GROUP_1);
        assert_eq!((request.member_id, request.member_epoch, request.topic_partitions), (id, expected, None));
        scene.answer(GROUP_1, assigned(2, &[(T, &[0, 1])]));
        assert_eq!((scene.events(), scene.group.identity()), (vec![], None));
        scene.answer(GROUP_1, kept(expected));
        assert!(scene.group.has_left());
        scene.pass(seconds(60));
        assert_eq!(scene.next(GROUP_1), None);
    }
}

/// KIP-1092.
#[test]
fn a_dynamic_member_that_remains_says_nothing() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    scene.group.leave(scene.now, Parting::Remain);
    assert!(scene.group.has_left());
    scene.pass(seconds(60));
    assert_eq!(scene.next(GROUP_1), None);
}

#[test]
fn who_may_have_joined_leaves_and_who_has_not_does_not() {
    let mut scene = Scene::new(modern());
    scene.find_coordinator(1);
    scene.group.leave(scene.now, Parting::ByKind);
    assert!(scene.group.has_left(), "nobody knows of it");

    let mut scene = Scene::new(modern());
    scene.find_coordinator(1);
    scene.expect_report(GROUP_1);
    scene.lose(GROUP_1);
    scene.group.leave(scene.now, Parting::ByKind);
    assert!(!scene.group.has_left());
    scene.pass(seconds(2));
    scene.find_coordinator(1);
    assert_eq!(scene.expect_report(GROUP_1).member_epoch, -1);
    scene.lose(GROUP_1);
    assert!(scene.group.has_left(), "its session ends by itself");
}

/// Fault 53.
#[test]
fn who_does_not_poll_is_out_until_he_does() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0]);
    for _ in 0..60 {
        assert_eq!(scene.events(), [""; 0]);
        scene.pass(seconds(5));
        if scene.now < scene.group.deadline().unwrap() && epoch(&scene).is_some() {
            scene.expect_report(GROUP_1);
            scene.answer(GROUP_1, kept(1));
        }
    }
    assert_eq!(scene.events(), ["lost 0"]);
    let request = scene.expect_report(GROUP_1);
    assert_eq!(request.member_epoch, -1);
    scene.group.polled(scene.now);
    assert_eq!(scene.next(GROUP_1), None, "it has left first");
    scene.answer(GROUP_1, kept(-1));
    let again = scene.expect_report(GROUP_1);
    assert_eq!((again.member_id.clone(), again.member_epoch), (request.member_id, 0));
}

/// Others have it all by then, if the broker has the usual session timeout (C5).
#[test]
fn a_member_that_hears_nothing_stops_after_a_session_and_asks_what_is_its() {
    let mut scene = Scene::new(modern());
    scene.enrol(1, &[0, 1]);
    scene.pass(seconds(5));
    scene.expect_report(GROUP_1);
    assert_eq!(scene.group.deadline(), Some(scene.now + seconds(40)));
    scene.pass(seconds(40));
    assert_eq!(scene.events(), ["lost 0 1"]);
    scene.answer(GROUP_1, kept(1));
    let request = scene.expect_report(GROUP_1);
    assert_eq!((request.member_epoch, reported(&request)), (1, Some(vec![])));
    assert!(request.subscribed_topic_names.is_some(), "so that the share is named again");
    scene.answer(GROUP_1, assigned(1, &[(T, &[0, 1])]));
    assert_eq!(scene.events(), ["assign 0 1"]);
}

// Which protocol it is.

fn described(error_code: ErrorCode, members: usize) -> Answer {
    let members = vec![DescribedGroupMember::default(); members];
    let group = DescribedGroup { error_code, group_id: "g".into(), members, ..Default::default() };
    Answer::DescribeGroups(DescribeGroupsResponse { groups: vec![group], ..Default::default() })
}

fn expect_question(scene: &mut Scene) {
    let Some(Ask::DescribeGroups(request)) = scene.next(GROUP_1) else { panic!("no DescribeGroups") };
    assert_eq!(request.groups, ["g"]);
}

#[test]
fn auto_joins_as_the_cluster_and_the_group_allow() {
    fn check(answer: Answer, classic_because: Option<&str>) {
        let mut scene = Scene::new(auto());
        scene.find_coordinator(1);
        expect_question(&mut scene);
        assert_eq!(scene.next(GROUP_1), None);
        scene.answer(GROUP_1, answer);
        match classic_because {
            Some(reason) => {
                assert_eq!(scene.events(), [format!("classic: {reason}")]);
                scene.follow(GROUP_1, 1, &[0]);
            }
            None => {
                assert_eq!(scene.expect_report(GROUP_1).member_epoch, 0);
                scene.answer(GROUP_1, assigned(1, &[(T, &[0])]));
            }
        }
        assert_eq!(scene.events(), ["assign 0"]);
    }
    check(described(ErrorCode::GROUP_ID_NOT_FOUND, 0), None);
    check(described(ErrorCode::NONE, 0), None);
    check(described(ErrorCode::NONE, 2), Some("it has 2 classic members"));
    let refused = described(ErrorCode::GROUP_AUTHORIZATION_FAILED, 0);
    let reason = format!("the group may not be looked at: {}", ErrorCode::GROUP_AUTHORIZATION_FAILED);
    check(refused, Some(&reason));
    let silent = Answer::DescribeGroups(DescribeGroupsResponse::default());
    check(silent, Some("the coordinator does not describe the group"));
}

#[test]
fn auto_asks_nothing_where_the_cluster_lacks_the_protocol() {
    let mut scene = Scene::new(auto());
    scene.group_version = 0;
    scene.find_coordinator(1);
    scene.follow(GROUP_1, 1, &[0]);
    assert_eq!(
        scene.events(),
        ["classic: the cluster is at group.version 0, and lacks what is needed", "assign 0"]
    );
}

#[test]
fn auto_asks_again_where_the_answer_says_nothing() {
    let mut scene = Scene::new(auto());
    scene.find_coordinator(1);
    expect_question(&mut scene);
    scene.answer(GROUP_1, described(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, 0));
    assert_eq!(scene.next(GROUP_1), None);
    wait(&mut scene, GROUP_1);
    expect_question(&mut scene);
    scene.lose(GROUP_1);
    scene.pass(seconds(2));
    scene.find_coordinator(1);
    expect_question(&mut scene);
    scene.answer(GROUP_1, described(ErrorCode::NOT_COORDINATOR, 0));
    assert_eq!((scene.group.coordinator(), scene.events()), (None, vec![]));
    scene.group.leave(scene.now, Parting::ByKind);
    assert!(scene.group.has_left());
}

#[test]
fn auto_gives_way_to_a_coordinator_that_refuses_the_first_heartbeat_and_no_other() {
    for code in [ErrorCode::UNSUPPORTED_VERSION, ErrorCode::GROUP_ID_NOT_FOUND] {
        let mut scene = Scene::new(auto());
        scene.find_coordinator(1);
        expect_question(&mut scene);
        scene.answer(GROUP_1, described(ErrorCode::NONE, 0));
        scene.expect_report(GROUP_1);
        scene.answer(GROUP_1, report_refused(code));
        assert_eq!(scene.events(), [format!("classic: the coordinator refused the first heartbeat: {code}")]);
        scene.follow(GROUP_1, 1, &[0]);
    }
    let mut scene = Scene::new(auto());
    scene.find_coordinator(1);
    expect_question(&mut scene);
    scene.answer(GROUP_1, described(ErrorCode::NONE, 0));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, assigned(1, &[(T, &[0])]));
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, report_refused(ErrorCode::UNKNOWN_MEMBER_ID));
    wait(&mut scene, GROUP_1);
    scene.expect_report(GROUP_1);
    scene.answer(GROUP_1, report_refused(ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(
        scene.events(),
        ["assign 0", "lost 0", "failed Broker"],
        "a member never changes its protocol"
    );
}

#[test]
fn partitions_that_are_named_by_hand_need_no_protocol() {
    let mut scene = Scene::new(ConsumerConfig { group_protocol: GroupProtocol::Consumer, ..by_hand() });
    assert_eq!(scene.next(GROUP_1), None);
    assert_eq!(epoch(&scene), Some(-1));
}

#[test]
fn a_pattern_is_told_to_the_coordinator_which_finds_the_topics() {
    let source = Source::Matching { pattern: TopicPattern::new("t.*"), shared: true };
    let mut scene = Scene::new(ConsumerConfig { source: source.clone(), ..modern() });
    scene.find_coordinator(1);
    let request = scene.expect_report(GROUP_1);
    assert_eq!((request.subscribed_topic_names, request.subscribed_topic_regex), (None, Some("t.*".into())));
    scene.answer(GROUP_1, assigned(1, &[(T, &[0])]));
    assert_eq!(scene.events(), ["assign 0"]);

    // What matched before the choice is what the classic member reads.
    let mut scene = Scene::new(ConsumerConfig { source, ..auto() });
    scene.group_version = 0;
    scene.group.subscribe(scene.now, vec!["t".into()]);
    scene.find_coordinator(1);
    scene.follow(GROUP_1, 1, &[0]);
    assert_eq!(scene.events().last().map(String::as_str), Some("assign 0"));
}
