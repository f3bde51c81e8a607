//! What becomes of an offer that is not accepted: it never costs the chat its place.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::{ChatState, ResponderStatus};
use holdfast_tests::processes::{Deployment, numbers};
use std::time::Duration;
use tokio::time::timeout;

/// What happens at once happens within this, and no deadline of a scenario is as short.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_declined_chat_goes_to_another_volunteer_at_once() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let offer = ana.offer().await;
    let mut ben = house.responder("ben").await;

    ana.declines(&offer).await;

    let offer = timeout(AT_ONCE, ben.offer()).await.expect("at once");
    assert_eq!(offer.chat_id, visitor.chat_id());
    assert!(!ana.is_offered_within(Duration::from_millis(200)).await, "she has just declined it");
}

#[tokio::test]
async fn a_declined_chat_never_loses_its_place() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let (mut first, mut second, mut third) = (house.visitor().await, house.visitor().await, house.visitor().await);
    for visitor in [&mut first, &mut second, &mut third] {
        visitor.asks().await;
    }

    let offer = ana.offer().await;
    ana.declines(&offer).await;

    assert_eq!(ana.offer().await.chat_id, second.chat_id(), "another one for who declined");
    first.until_chat("place 1", |chat| chat.place == 1).await;
    let mut ben = house.responder("ben").await;
    assert_eq!(ben.offer().await.chat_id, first.chat_id(), "the first before the third");
}

#[tokio::test]
async fn who_misses_an_offer_is_not_asked_again_until_they_say_ready_and_the_chat_goes_on() {
    let house = Deployment::with(Numbers { offer_deadline_ms: 3_000, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    let mut ben = house.responder("ben").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    assert_eq!(ana.offer().await.chat_id, visitor.chat_id());

    let chat = ben.takes().await;
    let rescinded = ana.rescinded().await;
    ana.until_status(ResponderStatus::NotResponding).await;

    assert_eq!((chat.chat_id.as_str(), rescinded.reason.as_str()), (visitor.chat_id(), "deadline"));
    let mut next = house.visitor().await;
    next.asks().await;
    assert!(!ana.is_offered_within(Duration::from_millis(300)).await, "she has not said that she is ready");
    ana.declares(ResponderStatus::Ready).await;
    assert_eq!(ana.takes().await.chat_id, next.chat_id());
}

#[tokio::test]
async fn a_chat_that_its_visitor_leaves_while_it_is_offered_is_taken_back() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let offer = ana.offer().await;

    visitor.leaves().await;

    assert_eq!(ana.rescinded().await.reason, "chat_ended");
    visitor.until(ChatState::Ended).await;
    assert_eq!(ana.try_accept(&offer, "").await.reason, "OFFER_GONE");
    let mut next = house.visitor().await;
    next.asks().await;
    assert_eq!(ana.takes().await.chat_id, next.chat_id(), "it was no miss of hers");
}

#[tokio::test]
async fn a_chat_that_is_handed_on_goes_to_another_before_those_who_wait() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut first = house.visitor().await;
    first.asks().await;
    let chat = ana.takes().await;
    let mut second = house.visitor().await;
    second.asks().await;
    second.until_chat("place 1", |chat| chat.place == 1).await;
    ana.declares(ResponderStatus::OnBreak).await;

    ana.transfers(&chat).await;

    second.until_chat("place 2", |chat| chat.place == 2).await;
    let mut ben = house.responder("ben").await;
    assert_eq!(ben.takes().await.chat_id, first.chat_id());
}
