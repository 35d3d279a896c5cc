//! What every store of jobs must do, told once and against the seam alone.
//!
//! `store_conformance!(sqlite, fixture)` makes a test of each claim, where `fixture` is an
//! `async fn() -> Option<Fixture>`; `None` says that the database is not there.
//!
//! [`model`] holds random sequences of operations against a small model of the tables.

pub(crate) mod cancel;
pub(crate) mod claim;
pub(crate) mod cron;
pub(crate) mod dead;
pub(crate) mod guard;
pub(crate) mod insert;
pub(crate) mod model;
pub(crate) mod nodes;
pub(crate) mod rescue;
pub(crate) mod settle;
pub(crate) mod stage;
pub(crate) mod unique;
pub(crate) mod wake;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::JobStore;

pub(crate) use stage::Stage;

/// A store with empty tables of its own.
pub(crate) struct Fixture {
    store: Arc<dyn JobStore>,
    _cleans_up: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// A store whose tables go when `cleans_up` is dropped.
    pub(crate) fn new(store: Arc<dyn JobStore>, cleans_up: impl Any + Send + Sync) -> Self {
        Self { store, _cleans_up: Box::new(cleans_up) }
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::new(Arc::clone(&self.store))
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Makes a test of each claim for one store.
macro_rules! store_conformance {
    ($name:ident, $fixture:path) => {
        mod $name {
            use $crate::jobs::store::conformance::each_claim;

            each_claim!($fixture);
        }
    };
}
pub(crate) use store_conformance;

macro_rules! claims {
    ($fixture:path; $($group:ident { $($claim:ident,)* })*) => {$(
        mod $group {
            use $crate::jobs::store::conformance;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $claim() {
                    if let Some(fixture) = $fixture().await {
                        conformance::$group::$claim(fixture.stage()).await;
                    }
                }
            )*
        }
    )*};
}
pub(crate) use claims;

macro_rules! each_claim {
    ($fixture:path) => {
        $crate::jobs::store::conformance::claims! {
            $fixture;
            insert {
                a_new_job_is_ready_and_untried,
                everything_that_is_stored_is_claimed,
                answers_come_in_the_order_of_the_jobs,
                no_jobs_are_no_error,
                a_taken_key_does_not_hinder_the_others,
                arguments_are_kept_byte_for_byte,
                a_name_has_127_bytes_at_most,
                a_refused_row_takes_its_batch_along,
                a_full_queue_takes_no_more,
                whatever_is_not_over_counts_for_the_depth,
                a_limit_holds_within_a_batch,
                a_duplicate_is_told_of_by_a_full_queue_too,
                sixteen_racers_at_one_free_place_admit_one,
            }
            unique {
                any_bytes_are_a_key,
                another_kind_has_keys_of_its_own,
                a_key_is_taken_while_its_job_is_live,
                a_dead_job_holds_no_key,
                a_key_may_outlive_its_job,
                a_job_may_outlive_the_time_of_its_key,
                a_key_is_taken_by_the_dead_until_its_time,
                replace_takes_the_new_arguments_and_the_new_time,
                replace_keep_time_takes_the_new_arguments_only,
                replace_leaves_a_running_job_alone,
                a_running_job_loses_its_key_with_the_time_of_it,
                sixty_four_racers_with_one_key_are_one_row,
            }
            claim {
                no_more_than_asked_for_of_each_class,
                only_of_its_queue,
                classes_come_dearest_first,
                the_oldest_comes_first,
                nothing_before_its_time,
                what_has_expired_is_claimed_all_the_same,
                a_claim_counts_the_attempt_and_raises_the_fence,
                what_runs_is_not_claimed_again,
                a_paused_queue_gives_nothing,
                each_pause_holds_for_itself,
                what_runs_of_a_paused_queue_ends_in_order,
                a_running_limit_holds_across_processes,
                two_claimers_never_get_the_same_job,
                racers_keep_to_the_running_limit,
                progress_is_kept_for_the_run_that_reports_it,
            }
            settle {
                a_job_that_is_done_is_remembered_if_asked,
                the_errors_of_a_forgotten_job_are_forgotten,
                an_earlier_run_is_ignored_and_reported,
                an_unknown_job_is_ignored_and_reported,
                an_end_that_is_told_twice_happens_once,
                a_cancelled_run_is_not_tried_again,
                a_cancelled_run_may_still_finish,
                a_retry_waits_and_keeps_what_went_wrong,
                a_retry_without_an_attempt_left_is_the_end,
                a_release_gives_the_attempt_back_but_not_the_fence,
                a_release_keeps_its_age_if_asked,
                a_parked_release_waits_for_its_dependency,
                nothing_is_parked_that_nobody_would_release,
                what_is_put_off_once_more_can_be_pulled_forward,
                what_was_hurried_counts_as_never_put_off,
                a_dead_job_says_why,
                many_ends_of_all_kinds_at_once,
                the_newest_32_errors_are_kept,
            }
            cancel {
                a_waiting_job_is_dead_at_once,
                a_running_job_is_told_through_the_beat_of_its_process,
                what_is_over_or_unknown_is_left_alone,
                a_cancelled_job_frees_its_key,
                a_waiting_job_that_is_retried_is_due,
                a_due_job_that_is_retried_keeps_its_place,
                a_parked_job_that_is_retried_waits_no_longer,
                a_running_job_is_not_retried,
                a_dead_job_that_is_retried_has_one_more_attempt,
                the_end_of_the_run_that_killed_it_does_not_end_it_again,
                a_job_that_died_late_is_not_late_again,
                of_two_dead_jobs_with_one_key_one_is_retried,
                a_key_held_for_a_while_keeps_others_from_being_retried,
            }
            dead {
                everything_that_is_given_must_hold,
                dead_jobs_are_listed_page_by_page,
                a_replay_gives_all_attempts_back,
                a_replay_goes_on_where_it_stopped,
                a_replay_moves_only_what_is_meant,
                a_job_whose_key_is_taken_stays_dead,
                what_was_over_before_is_forgotten,
                the_errors_of_a_finished_job_go_along,
                pruning_goes_chunk_by_chunk,
                a_key_is_pruned_when_its_time_is_over,
                each_job_is_counted_once,
            }
            nodes {
                a_beat_is_counted_and_seen_by_all,
                a_process_that_leaves_is_forgotten,
                a_restarted_process_of_the_same_name_is_another,
                runs_are_told_that_were_claimed_before,
                nobody_is_elected_while_another_leads,
                a_leader_that_stays_keeps_its_term,
                each_change_of_leader_raises_the_term,
                a_leader_that_resigns_makes_room,
                a_leader_whose_process_is_forgotten_makes_room,
                resigning_from_an_old_term_changes_nothing,
                of_many_racers_one_is_elected,
            }
            rescue {
                the_jobs_of_a_dead_process_are_ready_again,
                the_jobs_of_a_forgotten_process_are_found_too,
                a_rescue_raises_the_fence,
                a_crash_is_charged_to_all_that_had_begun,
                a_suspect_that_did_not_begin_is_not_charged,
                whoever_runs_beside_a_suspect_becomes_one,
                each_process_has_a_crash_of_its_own,
                three_crashes_are_poison,
                poison_may_be_tried_again,
                without_an_attempt_left_a_job_is_discarded,
                a_last_attempt_that_did_not_begin_comes_back,
                a_rescued_job_that_was_to_be_cancelled_is_not_run_again,
                a_rescued_job_keeps_its_key,
                a_suspect_begins_when_it_says_so,
                two_rescuers_charge_a_crash_once,
            }
            guard {
                an_empty_queue_has_no_depth,
                depth_and_age_are_told_by_class,
                depth_says_whether_the_queue_is_paused,
                no_count_goes_beyond_the_limit,
                what_was_put_off_neither_counts_nor_ages,
                a_rescued_job_keeps_its_age_in_the_depths,
                parking_takes_the_ready_jobs_of_one_dependency,
                release_takes_those_first_that_were_due_first,
                release_does_not_run_a_job_before_its_time,
                dependencies_with_parked_jobs_are_told,
                those_are_pulled_forward_first_that_would_be_due_first,
                only_what_the_guard_put_off_is_pulled_forward,
                what_expired_is_shed,
                a_class_is_shed,
            }
            cron {
                a_periodic_job_is_kept_as_declared,
                declaring_it_again_keeps_its_tick_and_its_pause,
                another_expression_or_zone_has_another_tick,
                a_periodic_job_is_paused_and_resumed,
                a_tick_is_taken_once,
                a_tick_from_elsewhere_stores_nothing,
                a_tick_stores_none_or_many,
            }
            wake {
                a_stored_job_wakes_after_its_commit,
                a_released_job_wakes,
                a_job_pulled_forward_wakes,
                a_rescued_job_wakes,
                a_retried_and_a_replayed_job_wake,
                a_run_that_ends_due_wakes,
                a_resumed_queue_wakes,
                a_refused_job_wakes_nobody,
            }
        }
    };
}
pub(crate) use each_claim;
