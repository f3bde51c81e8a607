//! One contract for both stores: the same commands, the same answers. `suite` says it in sentences, `differential`
//! in random histories; the suite also runs on a Cluster, which proves that every key a script touches is in its
//! helpline's slot.

mod differential;
mod fixture;
mod suite;

macro_rules! on_both_stores {
    ($($promise:ident),+ $(,)?) => {
        /// Every promise by name.
        const PROMISES: &[&str] = &[$(stringify!($promise)),+];

        async fn keep(promise: &str, fixture: fixture::Fixture) {
            match promise {
                $(stringify!($promise) => suite::$promise(fixture).await,)+
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
                crate::keep(stringify!($promise), crate::fixture::Fixture::on_redis(vec![server.url().to_owned()], false).await).await;
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
    a_policy_is_replaced_only_at_the_revision_that_it_was_made_for,
    content_is_gone_when_a_chat_is_erased,
];

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_contract_holds_on_a_redis_cluster() {
    let cluster = holdfast_tests::redis_cluster::RedisCluster::start().await;
    for promise in PROMISES {
        let fixture = fixture::Fixture::on_redis(cluster.urls(), true).await;
        keep(promise, fixture.at_helpline(&promise.replace('_', "-")[..20])).await;
    }
}
