//! Who is there, and what happens when they are not.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::{ChatOutcome, ChatState, ResponderStatus};
use holdfast_tests::events::Events;
use holdfast_tests::people::{close, epoch};
use holdfast_tests::processes::{Deployment, numbers};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// What happens at once happens within this, and no deadline of a scenario is as short.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn an_offer_to_a_volunteer_whose_connection_breaks_goes_to_another_at_once() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    ana.offer().await;
    let mut ben = house.responder("ben").await;

    ana.vanishes();

    let offer = timeout(AT_ONCE, ben.offer()).await.expect("at once");
    assert_eq!(offer.chat_id, visitor.chat_id());
}

#[tokio::test]
async fn a_conversation_whose_volunteer_is_gone_comes_back_after_the_grace_and_the_old_fence_is_stale() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let old = ana.takes().await;
    let mut ben = house.responder("ben").await;

    ana.vanishes();
    let gone = Instant::now();
    let new = ben.takes().await;

    assert!(gone.elapsed() >= Duration::from_millis(700), "before the grace was over: {:?}", gone.elapsed());
    assert_eq!(new.chat_id, visitor.chat_id());
    assert!(epoch(new.fence.as_ref()) > epoch(old.fence.as_ref()));
    ana.sign_in().await;
    assert_eq!(ana.does(close(&old)).await.reason, "STALE_FENCE");
    ben.closes(&new).await;
    assert_eq!(visitor.until(ChatState::Ended).await.chat.expect("a chat").outcome(), ChatOutcome::Completed);
}

#[tokio::test]
async fn a_volunteer_whose_device_hangs_is_gone_when_the_lease_is_over() {
    let house = Deployment::with(Numbers { presence_lease_ms: 1_500, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    ana.offer().await;
    let mut ben = house.responder("ben").await;

    ana.hangs();

    assert_eq!(ben.takes().await.chat_id, visitor.chat_id());
    ana.until_status(ResponderStatus::Offline).await;
    assert!(ana.inbox().end().await.is_ok());
}

#[tokio::test]
async fn a_volunteer_who_comes_back_in_time_on_another_replica_finds_all_as_it_was() {
    let house = Deployment::with(Numbers { reconnect_grace_ms: 10_000, ..numbers() }).await;
    let mut ana = house.stranger("ana").await;
    ana.sign_in.capacity = 2;
    ana.sign_in().await;
    let (mut talking, mut asking) = (house.visitor().await, house.visitor().await);
    talking.ask.handoff = b"room 7".to_vec();
    talking.asks().await;
    let before = ana.takes().await;
    asking.asks().await;
    ana.offer().await;

    ana.goes_to(&house.dispatches[1].url());
    ana.sign_in().await;

    let after = ana.assignment().await;
    assert_eq!((after.fence, after.handoff.as_slice()), (before.fence, &b"room 7"[..]));
    assert_eq!(ana.takes().await.chat_id, asking.chat_id());
    ana.closes(&after).await;
    house.nobody_is_lost(2).await;
}

#[tokio::test]
async fn signing_in_on_a_second_device_replaces_the_first() {
    let house = Deployment::usual().await;
    let mut phone = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let offer = phone.offer().await;

    let mut laptop = house.stranger("ana").await;
    laptop.goes_to(&house.dispatches[1].url());
    laptop.sign_in().await;

    phone.replaced().await;
    assert!(phone.inbox().end().await.is_ok());
    let again = laptop.offer().await;
    assert_eq!(again.chat_id, offer.chat_id);
    laptop.accepts(&again).await;
    assert!(laptop.session > phone.session);
}

#[tokio::test]
async fn a_volunteer_who_leaves_finishes_what_is_in_hand_and_gets_no_more() {
    let house = Deployment::usual().await;
    let mut ana = house.stranger("ana").await;
    ana.sign_in.capacity = 2;
    ana.sign_in().await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    let chat = ana.takes().await;

    ana.declares(ResponderStatus::Leaving).await;
    second.asks().await;

    assert!(!ana.is_offered_within(Duration::from_millis(300)).await);
    ana.closes(&chat).await;
    ana.until_status(ResponderStatus::Offline).await;
    first.until(ChatState::Ended).await;
}

#[tokio::test]
async fn a_visitor_who_is_silent_is_passed_over_and_keeps_the_place_when_back_in_time() {
    let house = Deployment::with(Numbers { away_after_ms: 1_500, ..numbers() }).await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    second.asks().await;
    second.until_chat("place 2", |chat| chat.place == 2).await;

    first.goes_silent();

    second.until_chat("place 1", |chat| chat.place == 1).await;
    let mut ana = house.responder("ana").await;
    assert_eq!(ana.takes().await.chat_id, second.chat_id(), "nothing is offered for who is away");
    first.watch().await;
    let back = first.until_chat("back in the line", |chat| !chat.away && chat.place == 1).await;
    assert_eq!(back.chat.expect("a chat").state(), ChatState::Waiting);
}

#[tokio::test]
async fn a_visitor_who_stays_away_is_given_up_and_resumes_at_the_old_place() {
    let house = Deployment::with(Numbers { away_after_ms: 1_500, abandon_after_ms: 500, ..numbers() }).await;
    let mut events = Events::after(&house.queues[0], "").await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    second.asks().await;

    first.goes_silent();
    let ended = events.until("ended").await;
    let resumed = first.resumes().await;
    first.watch().await;

    assert_eq!((ended.chat_id.as_str(), ended.outcome()), (first.chat_id(), ChatOutcome::Abandoned));
    assert_eq!((resumed.state(), resumed.place), (ChatState::Waiting, 1));
    second.until_chat("place 2", |chat| chat.place == 2).await;
    house.nobody_is_lost(2).await;
}
