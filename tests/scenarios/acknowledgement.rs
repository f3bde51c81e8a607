//! What an acknowledgement is worth, and that asking twice is asking once.

use holdfast_proto::v1::Urgency;
use holdfast_proto::v1::durability::Persistence;
use holdfast_tests::processes::{Deployment, Line, Setup};
use std::collections::HashSet;
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test]
async fn an_acknowledgement_says_fsynced_where_redis_writes_each_change_to_disk() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;

    let asked = visitor.try_ask().await.expect("a chat").durability.expect("a durability");
    let offer = ana.offer().await;
    let accepted = ana.try_accept(&offer, "").await.durability.expect("a durability");

    assert_eq!(asked.persistence(), Persistence::Fsynced);
    assert_eq!(accepted.persistence(), Persistence::Fsynced);
}

#[tokio::test]
async fn an_acknowledgement_says_ephemeral_where_the_line_is_in_memory() {
    let house = Deployment::start(Setup { line: Line::Embedded, queues: 1, ..Setup::default() }).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;

    let asked = visitor.asks().await.durability.expect("a durability");
    let chat = ana.takes().await;
    ana.closes(&chat).await;

    assert_eq!(asked.persistence(), Persistence::Ephemeral);
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn the_same_request_twice_is_one_chat_with_one_token() {
    let house = Deployment::usual().await;
    let mut visitor = house.visitor().await;

    let first = visitor.try_ask().await.expect("a chat");
    let again = visitor.try_ask().await.expect("the same chat");

    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!(first.chat.expect("a chat").chat_id, again.chat.expect("a chat").chat_id);
    assert_eq!(first.visitor_token, again.visitor_token);
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn the_same_request_twenty_times_at_once_is_one_chat() {
    let house = Deployment::usual().await;
    let visitor = house.visitor().await;
    let mut devices = Vec::new();
    for _ in 0..20 {
        devices.push(visitor.elsewhere(&house.intakes[0].url()).await);
    }

    let asking: Vec<_> = devices.into_iter().map(|mut v| tokio::spawn(async move { v.try_ask().await })).collect();
    let mut chats = HashSet::new();
    let mut new = 0;
    for asked in asking {
        let asked = asked.await.expect("no panic").expect("a chat");
        new += usize::from(!asked.replayed);
        chats.insert((asked.chat.expect("a chat").chat_id, asked.visitor_token));
    }

    assert_eq!((chats.len(), new), (1, 1));
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn the_same_request_with_other_words_is_refused_and_changes_nothing() {
    let house = Deployment::usual().await;
    let mut visitor = house.visitor().await;
    visitor.try_ask().await.expect("a chat");
    visitor.ask.urgency = Urgency::High.into();

    let refused = visitor.try_ask().await.expect_err("a conflict");

    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(refused.get_details_error_info().expect("a reason").reason, "REQUEST_CONFLICT");
    house.nobody_is_lost(1).await;
}
