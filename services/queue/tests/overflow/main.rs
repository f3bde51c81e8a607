//! Overflow between two lines of one store: wherever a courier dies, nobody is lost and nobody stands in two lines.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "what tests share fails as tests do"
)]

mod dying;
mod saga;
mod world;

macro_rules! on_memory {
    ($($promise:ident),+ $(,)?) => {
        $(#[tokio::test(start_paused = true)]
        async fn $promise() {
            saga::$promise(&world::World::on_memory()).await;
        })+
    };
}

on_memory![
    a_chat_that_overflows_goes_on_at_the_partner_as_old_as_it_was,
    wherever_couriers_die_the_chat_ends_up_in_one_line_once,
    a_partner_that_does_not_take_it_is_passed_over,
    a_partner_with_too_many_of_its_own_is_asked_again,
    a_partner_that_is_not_known_refuses,
    a_partner_that_never_answers_costs_time_only,
    a_chat_that_is_taken_at_home_meanwhile_is_let_go_by_the_partner,
    a_visitor_who_leaves_meanwhile_is_let_go_by_the_partner,
    the_chat_speaks_the_words_of_the_partners_policy,
    a_policy_that_changes_on_the_way_is_read_again,
    an_errand_that_comes_late_or_twice_changes_nothing,
    whatever_happens_on_the_way_everybody_is_in_one_line_in_the_end,
];
