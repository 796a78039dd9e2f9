//! Every scenario, by name. A file holds what belongs to one part of the client.
//!
//! A scenario is told nothing of its world. A *stormy* one must keep its promises while connections break, stall and are
//! refused and leaders move; a fair one judges an answer, not endurance.

mod admin;
mod bad_input;
mod finishing;
mod group;
mod hooks;
mod patterns;
mod pipelines;
mod positions;
mod produce;
mod replication;
mod stores;
mod streams;
mod transactions;
mod two_phases;

use crate::Failure;
use crate::backend::Backend;
use std::pin::Pin;

/// A scenario on its way.
pub type Work = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Something that users do, and what must hold meanwhile and afterwards.
pub struct Scenario {
    /// The function's name.
    pub name: &'static str,
    /// The part of the client that it is about.
    pub area: &'static str,
    /// Whether the simulated network breaks things meanwhile.
    pub stormy: bool,
    /// Runs it.
    pub run: fn(Backend) -> Work,
}

const STORMY: bool = true;
const FAIR: bool = false;

macro_rules! scenarios {
    ($($weather:ident $file:ident::$name:ident,)*) => {
        /// Every scenario.
        pub const ALL: &[Scenario] = &[$(Scenario {
            name: stringify!($name),
            area: stringify!($file),
            stormy: $weather,
            run: |backend| Box::pin(async move { $file::$name(&backend).await }),
        }),*];
    };
}

scenarios! {
    FAIR produce::records_come_back_as_they_were_sent,
    STORMY produce::acknowledged_records_are_in_the_log_once_and_in_order,
    STORMY produce::young_producers_keep_their_order_in_trouble,
    STORMY produce::many_producers_keep_what_each_has_sent,
    STORMY produce::every_send_ends_by_its_deadline,
    FAIR produce::flush_and_close_account_for_every_record,
    STORMY produce::a_full_buffer_makes_senders_wait,
    FAIR produce::weaker_acknowledgements_still_arrive,
    STORMY produce::one_acknowledgement_tells_no_lies,
    FAIR produce::compressed_records_come_back,
    STORMY produce::batches_above_the_topics_limit_are_split,
    FAIR replication::what_two_replicas_acknowledged_survives_every_clean_election,
    FAIR replication::an_unclean_election_loses_what_it_says_and_readers_are_told,
    STORMY group::a_group_reads_everything_and_commits_it,
    STORMY group::members_come_and_go_without_a_gap,
    STORMY group::members_of_both_protocols_come_and_go,
    STORMY group::a_lone_member_gets_each_record_once,
    STORMY group::a_crash_repeats_records_and_skips_none,
    FAIR group::a_closed_member_is_gone_or_stays_as_it_was_told,
    FAIR hooks::hooks_frame_every_ownership,
    STORMY hooks::hooks_frame_every_ownership_in_trouble,
    FAIR hooks::a_hook_does_no_harm_and_has_its_way,
    STORMY finishing::what_is_still_in_work_is_never_committed,
    STORMY finishing::at_most_once_delivers_nothing_twice,
    STORMY stores::results_hold_each_record_once_through_crashes,
    STORMY streams::a_task_for_each_partition_reads_everything,
    FAIR positions::a_topic_created_again_is_read_from_its_start,
    FAIR positions::seek_pause_and_resume_are_obeyed,
    FAIR positions::a_time_is_found_and_what_comes_later_is_not_missed,
    FAIR positions::a_log_that_is_cut_in_front_of_a_reader_is_told,
    STORMY positions::seeks_among_late_answers_show_nothing_older,
    FAIR patterns::topics_that_match_are_read_as_they_come,
    FAIR patterns::the_replica_in_the_same_rack_is_read_from,
    FAIR transactions::a_transaction_is_seen_when_it_is_committed,
    FAIR transactions::a_transaction_with_a_failed_record_is_not_committed,
    FAIR transactions::a_fenced_producer_stays_fenced,
    FAIR transactions::a_commit_that_returns_is_in_the_log,
    STORMY transactions::transactions_of_version_1_are_whole_or_absent,
    STORMY transactions::transactions_of_version_2_are_whole_or_absent,
    STORMY two_phases::prepared_transactions_end_as_they_were_decided,
    STORMY pipelines::a_chain_of_pipelines_loses_and_doubles_nothing,
    FAIR admin::topics_are_created_described_and_deleted,
    FAIR admin::a_group_is_led_to_other_offsets,
    FAIR bad_input::a_record_that_is_too_large_is_refused_alone,
    FAIR bad_input::a_record_above_the_topics_limit_is_rejected_alone,
    FAIR bad_input::an_unknown_topic_fails_by_the_deadline,
    FAIR bad_input::an_address_without_a_broker_fails_by_the_deadline,
}

/// The scenarios whose name holds `filter`.
pub fn matching(filter: &str) -> Vec<&'static Scenario> {
    ALL.iter().filter(|scenario| scenario.name.contains(filter)).collect()
}
