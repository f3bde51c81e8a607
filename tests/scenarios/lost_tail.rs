//! A failover that loses the end of the line: the store is the same one, and a little younger than what people were told.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::{ChatState, Urgency};
use holdfast_tests::events::Events;
use holdfast_tests::processes::{Deployment, Setup, numbers};
use holdfast_tests::redis_sentinel::{Group, PRIMARY_NAME, RedisSentinel};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From the first word after the failover on.
const BOUND: Duration = Duration::from_secs(15);

/// Words that no replica has are given here, as an operator may choose: only so can there be anything to lose.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_in_the_lost_end_is_back_at_their_place_and_an_accept_in_it_stands() {
    let mut group = RedisSentinel::start_as(Group { min_replicas_to_write: 0, ..Group::default() }).await;
    let settings = vec![
        ("STORE__REDIS_URLS", group.nodes[0].service_url()),
        ("STORE__REDIS_SENTINELS", group.sentinel_urls().join(",")),
        ("STORE__REDIS_PRIMARY_NAME", PRIMARY_NAME.to_owned()),
        ("STORE__REPLICAS_REQUIRED", "0".to_owned()),
        ("STORE__FLOOR_REPLICAS", "0".to_owned()),
    ];
    let numbers = Numbers {
        presence_lease_ms: 30_000,
        reconnect_grace_ms: 30_000,
        away_after_ms: 60_000,
        abandon_after_ms: 60_000,
        recovery_hold_ms: 3_000,
        ..numbers()
    };
    let house = Deployment::start(Setup { numbers, queue_settings: settings, ..Setup::default() }).await;
    let gate = house.visitor().await;
    let name = |n: usize| format!("tail-{n}-{}", std::process::id());
    let mut ana = house.responder("ana").await;
    let mut early = gate.beside(&name(0)).urgent(Urgency::High);
    early.asks().await;
    let offer = ana.offer().await;
    let mut waits = gate.beside(&name(1)).urgent(Urgency::Low);
    waits.asks().await;
    group.cut_replicas_off().await;
    let chat = ana.accepts(&offer).await;
    early.until(ChatState::Active).await;
    let mut lost = Vec::new();
    for (n, urgency) in (2..).zip([Urgency::Moderate, Urgency::Imminent, Urgency::Low]) {
        let mut visitor = gate.beside(&name(n)).urgent(urgency);
        visitor.asks().await;
        lost.push(visitor);
    }
    let before: Vec<String> = house.floor().await.waiting.into_iter().map(|chat| chat.chat_id).collect();
    assert_eq!(before.len(), 4);
    group.nodes[0].kill();
    group.failed_over(0).await;

    let since = Instant::now();
    loop {
        let floor = house.try_floor().await.unwrap_or_default();
        let ledger = floor.ledger.unwrap_or_default();
        let found: Vec<String> = floor.waiting.into_iter().map(|chat| chat.chat_id).collect();
        if found == before && ledger.active == 1 {
            assert_eq!((ledger.accepted, ledger.difference), (5, 0));
            break;
        }
        assert!(since.elapsed() < BOUND, "{found:?} of {before:?} are back: {ledger:?}");
        sleep(Duration::from_millis(100)).await; // polls what is measured
    }
    println!("the lost end was back {:?} after another node led", since.elapsed());
    let mut events = Events::after(&house.queues[0], "").await;
    let mut accepted_again = false;
    loop {
        let event = events.next(1).await.remove(0);
        accepted_again |= event.kind == "accepted" && event.chat_id == chat.chat_id;
        if event.kind == "reclaimed" {
            assert_eq!((event.chat_id, event.responder_id.as_str()), (chat.chat_id.clone(), "ana"));
            assert_eq!(event.fence, chat.fence);
            break;
        }
    }
    assert!(!accepted_again, "the accept was not lost, so there was nothing to see");
    ana.closes(&chat).await;
    early.until(ChatState::Ended).await;
    let mut next = ana.takes().await;
    if next.chat_id == waits.chat_id() {
        // Who was never away is offered while the others are held.
        ana.closes(&next).await;
        next = ana.takes().await;
    }
    assert_eq!(next.chat_id, before[0], "who is in danger goes first, as before");
    house.nobody_is_lost(5).await;
}
