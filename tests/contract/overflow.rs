//! The saga of two lines on a real Redis: wherever a courier dies, nobody is lost and nobody stands in two lines. The
//! promises are those that the queue's own tests keep on the store in memory.

#[path = "../../services/queue/tests/overflow/dying.rs"]
mod dying;
#[path = "../../services/queue/tests/overflow/saga.rs"]
mod saga;
#[path = "../../services/queue/tests/overflow/world.rs"]
#[expect(dead_code, reason = "the queue's own tests begin on the store in memory")]
mod world;

use crate::fixture::settings;
use holdfast_queue::store::redis::RedisStore;
use holdfast_tests::redis_server::RedisServer;
use std::sync::Arc;
use world::World;

async fn on(server: &RedisServer) -> World {
    let settings = settings(vec![server.reader_url()], false);
    let store = Arc::new(RedisStore::connect_with_given_time(&settings).await.expect("a store"));
    let clock = Arc::clone(&store);
    World::new(store, Box::new(move |ms| clock.set_time(ms)))
}

macro_rules! on_redis {
    ($($promise:ident),+ $(,)?) => {
        $(#[tokio::test]
        async fn $promise() {
            let server = RedisServer::start(&["--appendonly", "no"]);
            saga::$promise(&on(&server).await).await;
        })+
    };
}

on_redis![
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
