//! What a store is worth where nobody may look at it, and what keeps a line from being opened at all.

use crate::line::Line;
use holdfast_queue::store::redis::{RedisSettings, RedisStore};
use holdfast_queue::store::{Below, Persistence, Standing, Store, StoreError};
use holdfast_tests::redis_server::RedisServer;
use std::time::Duration;
use tokio::time::timeout;

/// A server on which everybody may do everything but this.
async fn server_without(command: &str) -> (RedisServer, RedisSettings) {
    let server = RedisServer::start_on_port(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut forbid = redis::cmd("ACL");
    let forbid = forbid.arg("SETUSER").arg("holdfast-queue").arg(format!("-{command}"));
    let () = forbid.query_async(&mut server.connection().await).await.expect("OK");
    let settings = RedisSettings { floor_persistence: Persistence::Fsynced, ..at(&server) };
    (server, settings)
}

fn at(server: &RedisServer) -> RedisSettings {
    RedisSettings::at(vec![server.service_url()])
}

async fn comes_to(store: &RedisStore, is_so: impl Fn(&Standing) -> bool) -> Standing {
    let mut standing = store.standing();
    let found = timeout(Duration::from_secs(20), standing.wait_for(is_so)).await.expect("in time");
    found.expect("a store").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_scripts_cannot_read_the_nodes_id_no_line_is_opened() {
    let _turn = crate::turn().await;
    let (_server, settings) = server_without("info").await;

    let refused = RedisStore::connect(&settings).await.err();

    let Some(StoreError::Refusing(why)) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("master_replid"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_may_look_at_the_settings_what_is_claimed_was_declared_and_that_is_said() {
    let _turn = crate::turn().await;
    let (_server, settings) = server_without("config").await;
    let declared = RedisSettings { declared_persistence: Some(Persistence::Fsynced), ..settings.clone() };

    let silent = RedisStore::connect(&settings).await.expect("a store");
    let silent = comes_to(&silent, |standing| standing.is_declared).await;
    let line = Line::open(&declared, "river").await;
    let said = comes_to(&line.store, |standing| standing.below.is_none()).await;

    assert_eq!((silent.persistence, silent.below), (Persistence::Ephemeral, Some(Below::Persistence)));
    assert_eq!((said.persistence, said.is_declared), (Persistence::Fsynced, true));
    assert_eq!(line.request(1).await.durability.persistence, Persistence::Fsynced);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_something_lost_is_brought_back_no_new_chats_are_taken() {
    let _turn = crate::turn().await;
    let server = RedisServer::start_on_port(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = RedisStore::connect(&at(&server)).await.expect("a store");
    comes_to(&store, |standing| standing.below.is_none()).await;

    store.begin_recovery(Duration::from_millis(300));
    comes_to(&store, |standing| standing.below == Some(Below::Recovering)).await;
    comes_to(&store, |standing| standing.below.is_none()).await;
}
