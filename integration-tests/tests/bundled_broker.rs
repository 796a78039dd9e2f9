//! Every scenario on the bundled broker, over real sockets and threads.

use ottla_broker::TestBroker;
use ottla_integration_tests::backend::Backend;
use ottla_integration_tests::scenarios::ALL;
use std::time::Duration;

const BY_RACK: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
const LIMIT: Duration = Duration::from_secs(120);

fn check(name: &str) {
    let scenario = ALL.iter().find(|scenario| scenario.name == name).expect("one of the scenarios");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let broker = TestBroker::builder().nodes(3);
        // A member that dies without a word is soon gone.
        let broker = broker.setting("group.consumer.session.timeout.ms", "3000");
        let broker = broker.setting("group.consumer.heartbeat.interval.ms", "500");
        let broker = broker.setting("transaction.two.phase.commit.enable", "true");
        let broker = broker.setting("unstable.api.versions.enable", "true");
        let broker = (1..=3).fold(broker, |broker, node| broker.rack(node, format!("rack-{node}")));
        let broker = broker.setting("replica.selector.class", BY_RACK).start().await.expect("free ports");
        let backend = Backend::bundled(broker, 1).expect("an address");
        let ended = tokio::time::timeout(LIMIT, (scenario.run)(backend.clone())).await;
        backend.stop();
        if let Err(failure) = ended.expect("the scenario ends") {
            panic!("{failure}");
        }
    });
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_scenario_is_here() {
            let here = [$(stringify!($name)),*];
            let missing: Vec<_> = ALL.iter().map(|scenario| scenario.name).filter(|name| !here.contains(name)).collect();
            assert!(missing.is_empty(), "add {missing:?}");
        }
    };
}

scenarios! {
    records_come_back_as_they_were_sent
    acknowledged_records_are_in_the_log_once_and_in_order
    young_producers_keep_their_order_in_trouble
    many_producers_keep_what_each_has_sent
    every_send_ends_by_its_deadline
    flush_and_close_account_for_every_record
    a_full_buffer_makes_senders_wait
    weaker_acknowledgements_still_arrive
    one_acknowledgement_tells_no_lies
    compressed_records_come_back
    batches_above_the_topics_limit_are_split
    what_two_replicas_acknowledged_survives_every_clean_election
    an_unclean_election_loses_what_it_says_and_readers_are_told
    a_group_reads_everything_and_commits_it
    members_come_and_go_without_a_gap
    members_of_both_protocols_come_and_go
    a_lone_member_gets_each_record_once
    a_crash_repeats_records_and_skips_none
    a_closed_member_is_gone_or_stays_as_it_was_told
    hooks_frame_every_ownership
    hooks_frame_every_ownership_in_trouble
    a_hook_does_no_harm_and_has_its_way
    results_hold_each_record_once_through_crashes
    what_is_still_in_work_is_never_committed
    at_most_once_delivers_nothing_twice
    a_task_for_each_partition_reads_everything
    a_group_is_led_to_other_offsets
    a_log_that_is_cut_in_front_of_a_reader_is_told
    a_topic_created_again_is_read_from_its_start
    seek_pause_and_resume_are_obeyed
    seeks_among_late_answers_show_nothing_older
    a_time_is_found_and_what_comes_later_is_not_missed
    topics_that_match_are_read_as_they_come
    the_replica_in_the_same_rack_is_read_from
    a_transaction_is_seen_when_it_is_committed
    a_transaction_with_a_failed_record_is_not_committed
    a_fenced_producer_stays_fenced
    a_commit_that_returns_is_in_the_log
    transactions_of_version_1_are_whole_or_absent
    transactions_of_version_2_are_whole_or_absent
    prepared_transactions_end_as_they_were_decided
    a_chain_of_pipelines_loses_and_doubles_nothing
    topics_are_created_described_and_deleted
    a_record_that_is_too_large_is_refused_alone
    a_record_above_the_topics_limit_is_rejected_alone
    an_unknown_topic_fails_by_the_deadline
    an_address_without_a_broker_fails_by_the_deadline
}
