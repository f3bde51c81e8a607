//! Who meets whom.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::{Alternative, ChatOutcome, ChatState, RoutingStep, Tag, Urgency};
use holdfast_tests::people::Visitor;
use holdfast_tests::processes::{Deployment, numbers};
use std::collections::HashSet;
use std::time::Duration;

/// Only for who has a tag, at first.
fn only(tag: &str, level: u32) -> Vec<RoutingStep> {
    let all_of = vec![Tag { name: tag.to_owned(), level }];
    vec![RoutingStep { after: None, any_of: vec![Alternative { all_of }] }]
}

#[tokio::test]
async fn a_chat_reaches_a_volunteer_and_ends() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.ask.handoff = b"room 7".to_vec();

    visitor.asks().await;
    let offer = ana.offer().await;
    let chat = ana.try_accept(&offer, "come in").await.assignment.expect("an assignment");
    let active = visitor.until(ChatState::Active).await;
    ana.closes(&chat).await;
    let ended = visitor.until(ChatState::Ended).await.chat.expect("a chat");

    assert_eq!((offer.chat_id.as_str(), chat.chat_id.as_str()), (visitor.chat_id(), visitor.chat_id()));
    assert_eq!((chat.handoff.as_slice(), active.reply_handoff.as_slice()), (&b"room 7"[..], &b"come in"[..]));
    assert_eq!(ended.outcome(), ChatOutcome::Completed);
    assert!(visitor.inbox().end().await.is_ok());
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn visitors_wait_in_the_order_of_urgency_and_arrival_and_see_their_place() {
    let house = Deployment::usual().await;
    let mut first = house.visitor().await;
    let mut second = house.visitor().await;
    let mut worst = house.visitor().await.urgent(Urgency::Imminent);

    first.asks().await;
    second.asks().await;
    worst.asks().await;

    first.until_chat("place 2", |chat| chat.place == 2).await;
    second.until_chat("place 3", |chat| chat.place == 3).await;
    worst.until_chat("place 1", |chat| chat.place == 1).await;
    let mut ana = house.responder("ana").await;
    assert_eq!(ana.takes().await.chat_id, worst.chat_id());
    first.until_chat("place 1", |chat| chat.place == 1).await;
}

#[tokio::test]
async fn a_chat_in_spanish_is_offered_to_who_speaks_spanish() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut ben = house.stranger("ben").await.can("lang:es");
    ben.sign_in().await;
    let mut visitor = house.visitor().await;
    visitor.ask.routing_steps = only("lang:es", 1);

    visitor.asks().await;

    assert_eq!(ben.offer().await.chat_id, visitor.chat_id());
    assert!(!ana.is_offered_within(Duration::from_millis(200)).await);
}

#[tokio::test]
async fn a_chat_for_a_specialist_is_offered_to_anyone_after_a_time() {
    let house = Deployment::with(Numbers { anyone_after_ms: 1_000, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.ask.routing_steps = only("skill:minors", 2);

    visitor.asks().await;

    let offer = ana.offer().await;
    let waited: Duration = offer.waited.expect("a time").try_into().expect("a time");
    assert!((1_000..10_000).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test]
async fn an_imminent_chat_is_offered_to_two_and_the_slower_one_is_told_that_it_is_taken() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut ben = house.responder("ben").await;
    let mut visitor = house.visitor().await.urgent(Urgency::Imminent);

    visitor.asks().await;
    let (to_ana, to_ben) = (ana.offer().await, ben.offer().await);
    ana.accepts(&to_ana).await;
    let rescinded = ben.rescinded().await;
    let late = ben.try_accept(&to_ben, "").await;

    assert_eq!((rescinded.offer_number, rescinded.reason.as_str()), (to_ben.offer_number, "taken"));
    assert_eq!(late.reason, "OFFER_GONE");
    let floor = house.floor().await;
    assert!(floor.responders.iter().all(|r| r.status == 2), "nobody missed anything: {:?}", floor.responders);
}

#[tokio::test]
async fn of_two_who_accept_an_imminent_chat_at_once_exactly_one_gets_it() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut ben = house.stranger("ben").await;
    ben.goes_to(&house.dispatches[1].url());
    ben.sign_in().await;
    for round in 1..=10 {
        let mut visitor = house.visitor().await.urgent(Urgency::Imminent);
        visitor.try_ask().await.expect("a chat");
        let (to_ana, to_ben) = (ana.offer().await, ben.offer().await);

        let (a, b) = tokio::join!(ana.try_accept(&to_ana, ""), ben.try_accept(&to_ben, ""));

        let reasons = [a.reason.as_str(), b.reason.as_str()];
        assert!(reasons == ["", "OFFER_GONE"] || reasons == ["OFFER_GONE", ""], "round {round}: {a:?} {b:?}");
        match (a.assignment, b.assignment) {
            (Some(chat), None) => ana.closes(&chat).await,
            (None, Some(chat)) => ben.closes(&chat).await,
            both => panic!("round {round}: {both:?}"),
        }
    }
    house.nobody_is_lost(10).await;
}

#[tokio::test]
async fn a_volunteer_for_two_never_gets_a_third_chat_while_fifty_ask_at_once() {
    let house = Deployment::with(Numbers { wrap_up_ms: [0; 4], away_after_ms: 600_000, ..numbers() }).await;
    let mut visitors: Vec<Visitor> = Vec::new();
    for _ in 0..50 {
        visitors.push(house.visitor().await);
    }
    let mut ana = house.stranger("ana").await;
    ana.sign_in.capacity = 2;
    ana.sign_in().await;

    let asking: Vec<_> =
        visitors.into_iter().map(|mut v| tokio::spawn(async move { v.try_ask().await })).collect();
    let mut answered = HashSet::new();
    for _ in 0..25 {
        let (one, other) = (ana.takes().await, ana.takes().await);
        let floor = house.floor().await;
        assert!(floor.responders.iter().all(|r| r.load <= 2), "{:?}", floor.responders);
        for chat in [one, other] {
            ana.closes(&chat).await;
            answered.insert(chat.chat_id);
        }
    }

    assert_eq!(answered.len(), 50);
    for asked in asking {
        asked.await.expect("no panic").expect("a chat");
    }
    house.nobody_is_lost(50).await;
}
