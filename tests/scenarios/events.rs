//! What happened, for whoever comes back with a cursor.

use holdfast_domain::policy::Numbers;
use holdfast_tests::events::Events;
use holdfast_tests::processes::{Deployment, numbers};
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test]
async fn a_reader_who_comes_back_with_a_cursor_to_another_replica_misses_nothing() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let chat = ana.takes().await;
    ana.closes(&chat).await;
    let mut reader = Events::after(&house.queues[0], "").await;
    let mut all = vec![];
    while all.last().is_none_or(|event: &holdfast_proto::v1::Event| event.kind != "wrapped_up") {
        all.extend(reader.next(1).await);
    }

    let middle = all.len() / 2;
    let rest = Events::after(&house.queues[1], &all[middle].cursor).await.next(all.len() - middle - 1).await;

    assert_eq!(rest, all[middle + 1..]);
    assert!(all.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1), "no gaps: {all:#?}");
    let kinds: Vec<&str> = all.iter().filter(|e| e.chat_id == chat.chat_id).map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["requested", "offered", "accepted", "ended", "wrapped_up"]);
}

#[tokio::test]
async fn a_reader_follows_what_happens_on_every_replica() {
    let house = Deployment::usual().await;
    let mut here = Events::after(&house.queues[0], "").await;
    let mut there = Events::after(&house.queues[1], "").await;
    let mut visitor = house.visitor().await;

    visitor.asks().await;

    assert_eq!(here.until("requested").await, there.until("requested").await);
}

#[tokio::test]
async fn a_reader_whose_cursor_is_too_old_is_told_where_to_begin() {
    let house = Deployment::with(Numbers { keep_events: 100, ..numbers() }).await;
    let first = Events::after(&house.queues[0], "").await.next(1).await.remove(0);
    for _ in 0..150 {
        let mut visitor = house.visitor().await;
        visitor.try_ask().await.expect("a chat");
        visitor.leaves().await;
    }

    let refused = Events::after(&house.queues[0], &first.cursor).await.inbox.end().await.expect_err("a refusal");

    assert_eq!(refused.code(), Code::OutOfRange);
    let info = refused.get_details_error_info().expect("a reason");
    let begin = info.metadata.get("first_cursor").expect("where to begin");
    let next = Events::after(&house.queues[0], begin).await.next(1).await.remove(0);
    assert!(next.sequence > first.sequence + 1);
}
