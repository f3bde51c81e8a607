//! One contract for both stores: the same commands, the same answers. `suite` says it in sentences, `differential`
//! in random histories; the suite also runs on a Cluster, which proves that every key a script touches is in its
//! helpline's slot.

mod admission;
mod audit;
mod blocks;
mod care;
mod differential;
mod fixture;
mod mutants;
mod overflow;
mod recovery;
mod retention;
mod routing;
mod stored;
mod suite;
mod supervision;

/// All promises, by what they are about.
mod promises {
    pub use crate::admission::*;
    pub use crate::audit::*;
    pub use crate::blocks::*;
    pub use crate::care::*;
    pub use crate::recovery::*;
    pub use crate::routing::*;
    pub use crate::suite::*;
    pub use crate::supervision::*;
}

macro_rules! on_both_stores {
    ($($promise:ident),+ $(,)?) => {
        /// Every promise by name.
        const PROMISES: &[&str] = &[$(stringify!($promise)),+];

        async fn keep(promise: &str, fixture: fixture::Fixture) {
            match promise {
                $(stringify!($promise) => promises::$promise(fixture).await,)+
                _ => panic!("no promise of that name"),
            }
        }

        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                crate::keep(stringify!($promise), crate::fixture::Fixture::on_memory().await).await;
            })+
        }

        mod redis {
            $(#[tokio::test]
            async fn $promise() {
                let server = holdfast_tests::redis_server::RedisServer::start(&["--appendonly", "no"]);
                crate::keep(stringify!($promise), crate::fixture::Fixture::on_redis(vec![server.reader_url()], false).await).await;
            })+
        }
    };
}

on_both_stores![
    a_request_made_twice_is_one_chat,
    a_request_with_another_body_is_refused_and_changes_nothing,
    the_most_urgent_goes_first_and_then_who_came_first,
    exactly_one_of_two_who_accept_gets_the_chat,
    a_chat_that_comes_back_gets_a_higher_fence_and_the_old_one_is_stale,
    whoever_knows_the_need_is_asked_and_a_scarce_skill_is_kept_for_who_needs_it,
    a_declined_chat_goes_on_at_once_and_never_back_within_the_back_off,
    a_missed_offer_makes_the_responder_say_ready_first,
    no_more_load_than_capacity_and_wrap_up_counts,
    an_abandoned_chat_can_be_reopened_at_its_old_place,
    the_last_free_responder_is_kept_for_imminent,
    one_replica_ticks_and_another_takes_over,
    a_wall_clock_that_leaps_expires_nobody,
    events_are_gap_free_and_can_be_read_from_any_cursor,
    notices_come_in_order_with_what_they_tell_of,
    the_floor_shows_who_waits_and_who_is_here,
    events_are_gone_once_they_are_older_than_the_policy_keeps,
    a_policy_is_replaced_only_at_the_revision_that_it_was_made_for,
    content_is_gone_when_a_chat_is_erased,
    a_silent_accept_goes_back_to_the_line_and_a_sign_of_life_stays,
    a_cool_down_can_be_made_longer_and_never_shorter,
    hard_chats_in_a_row_end_with_an_easier_one_or_a_rest,
    an_easier_chat_ends_a_row_at_once_for_whoever_has_room_beside_the_notes,
    hard_chats_of_a_shift_are_counted_until_the_next_shift,
    no_hard_chat_comes_shortly_before_the_end_of_a_shift,
    a_topic_that_somebody_opted_out_of_goes_to_others,
    nothing_is_offered_with_too_few_on_shift_and_everything_once_enough_came,
    somebody_whom_the_visitor_trusts_is_waited_for_and_then_anyone_may_come,
    whoever_is_trusted_but_not_on_shift_is_not_waited_for,
    nobody_whom_the_visitor_does_not_want_to_meet_is_asked,
    everybody_in_line_stands_where_a_new_policy_puts_them_from_its_first_moment,
    a_chat_that_nobody_answers_goes_to_the_partner_who_takes_it,
    a_chat_that_somebody_took_meanwhile_stays_and_the_partner_reads_so,
    a_partner_who_says_no_or_nothing_is_asked_again_after_a_while,
    with_too_few_on_shift_chats_go_to_the_partner_at_once,
    a_chat_kept_for_a_partner_is_nobodys_until_the_partner_lets_go,
    a_chat_that_the_partner_kept_leaves_no_trace,
    strangers_and_too_many_are_not_taken_in,
    a_surge_begins_at_once_and_ends_with_patience,
    a_surge_shortens_easy_wrap_ups_and_shows_low_requests_the_resources_first,
    in_a_surge_only_work_lets_new_chats_in_but_danger_and_repeats,
    volunteers_are_called_up_in_waves_until_enough_came,
    so_many_new_chats_are_let_in_at_once_and_so_many_a_minute,
    imminent_chats_have_room_of_their_own_and_past_it_are_let_in_as_high,
    only_requests_that_make_a_chat_count_and_a_refused_one_may_come_again,
    neither_a_clock_that_leaps_nor_a_new_policy_fills_or_empties_a_quota,
    shown_waits_are_compared_with_what_they_were,
    a_supervisor_offers_a_chat_to_whom_they_choose_within_the_rules_or_past_them,
    a_visitors_wish_is_past_every_supervisors_reach,
    a_chat_that_is_pulled_goes_back_to_its_place_and_to_others,
    taking_over_moves_a_chat_from_hand_to_hand_in_one_step,
    a_chat_that_reaches_nobody_again_and_again_is_shown_at_its_place_until_somebody_writes,
    what_is_polite_is_no_failed_delivery_and_a_chat_that_ends_is_shown_no_more,
    a_call_for_a_supervisor_stands_until_the_chat_has_left_these_hands,
    a_supervisor_may_lower_an_urgency_and_a_visitor_may_not,
    a_supervisor_ends_chats_only_as_what_they_are,
    a_supervisor_ends_breaks_gives_rest_and_signs_people_out,
    a_reroute_lets_others_serve_for_a_time_and_ends_by_itself,
    everybody_comes_back_at_their_old_rank_and_new_ones_come_after_them,
    a_repeat_after_a_loss_is_answered_with_the_chat_that_came_back,
    nothing_that_comes_back_is_offered_before_the_hold_is_over_and_what_is_new_is_at_once,
    whoever_had_a_chat_has_it_again_under_the_same_fence_and_the_next_one_is_higher,
    an_assignment_alone_brings_its_chat_back_and_makes_room_for_it,
    a_chat_that_came_back_from_its_owner_before_the_loss_is_not_theirs,
    a_record_that_is_there_always_wins_a_tombstone_too,
    an_expired_or_a_strangers_ticket_brings_nothing_back_after_a_loss,
    nobody_in_an_older_copy_is_offered_before_they_are_heard_and_the_hold_is_over,
    whoever_accepted_after_the_copy_was_made_has_the_chat_again_and_later_fences_are_higher,
    who_held_a_chat_in_an_older_copy_has_it_again_and_who_came_later_comes_back_from_their_ticket,
    an_accept_that_was_lost_with_the_end_of_the_line_is_claimed_by_its_fence,
    thousands_in_an_older_copy_come_back_at_once,
    only_one_replica_brings_the_policy_back_and_nothing_happens_before,
    an_audit_is_appended_to_only_where_it_stands,
    an_audit_is_read_page_by_page_and_loses_what_is_too_old,
    a_chats_name_goes_in_the_step_that_says_so,
    a_block_takes_two_people_and_keeps_one_subject_out_and_nobody_else,
    whoever_is_in_the_line_when_a_block_is_confirmed_stays_and_a_repeat_finds_them,
    a_block_counts_from_its_confirmation_and_ends_by_itself,
    a_proposal_that_nobody_confirms_lapses,
    one_person_lifts_a_block_and_whoever_it_was_of_may_come_again,
    a_block_of_a_token_keeps_its_chat_out_of_the_line_and_nobody_else,
    a_block_of_a_subject_keeps_its_abandoned_chats_out_too,
    of_one_visitor_there_is_one_block_and_asking_again_is_answered_the_same,
    blocks_are_listed_page_by_page_and_say_who_and_why,
    a_block_stays_and_leads_no_more_to_a_chat_that_was_erased_or_forgotten,
    so_many_blocks_wait_to_be_confirmed_and_no_more,
    so_many_blocks_are_in_force_and_no_more,
    a_subject_comes_back_with_a_chat_that_the_store_had_lost,
];

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_contract_holds_on_a_redis_cluster() {
    let cluster = holdfast_tests::redis_cluster::RedisCluster::start().await;
    for promise in PROMISES {
        let fixture = fixture::Fixture::on_redis(cluster.urls(), true).await;
        keep(promise, fixture.at_helpline(&promise.replace('_', "-")[..20])).await;
    }
}
