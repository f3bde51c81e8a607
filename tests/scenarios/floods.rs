//! Somebody asks again and again, and whoever else needs help gets it all the same.

use crate::failure::resources;
use holdfast_domain::Policy;
use holdfast_domain::policy::{Admission, Rate};
use holdfast_proto::v1::{UpdateChatRequest, Urgency, intake_service_client::IntakeServiceClient};
use holdfast_tests::people::Visitor;
use holdfast_tests::processes::{Deployment, Setup, connect, numbers, policy};
use std::time::Duration;
use tonic::{Code, Request};
use tonic_types::StatusExt;

/// The header in which the proxy before intake says whom it was called by.
const BEFORE: &str = "x-forwarded-for";

/// Behind a proxy, with small buckets.
async fn behind_a_proxy() -> Deployment {
    let mut house = Deployment::usual().await;
    for (setting, value) in [
        ("FLOODS__SOURCE_HEADER", BEFORE),
        ("FLOODS__REQUESTS_AT_ONCE", "4"),
        ("FLOODS__REQUESTS_PER_HOUR", "60"),
        ("FLOODS__IMMINENT_AT_ONCE", "2"),
        ("FLOODS__IMMINENT_PER_HOUR", "2"),
    ] {
        house.intakes[0].set(setting, value);
    }
    house.intakes[0].kill().await;
    house.intakes[0].start_again().await;
    house.ready().await;
    house
}

async fn from(house: &Deployment, address: &str) -> Visitor {
    let mut visitor = house.visitor().await;
    visitor.headers.push((BEFORE, address.to_owned()));
    visitor
}

#[tokio::test]
async fn one_source_is_refused_with_where_else_to_turn_and_another_is_let_in() {
    let house = behind_a_proxy().await;
    for _ in 0..4 {
        from(&house, "203.0.113.7").await.try_ask().await.expect("a chat");
    }

    let refused = from(&house, "198.51.100.1, 203.0.113.7").await.try_ask().await.expect_err("a refusal");

    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.get_details_error_info().expect("a reason").reason, "SOURCE_LIMIT");
    assert!(refused.get_details_retry_info().expect("when").retry_delay.is_some());
    assert!(resources(&refused).contains(&"Anyone".to_owned()), "{refused:?}");
    from(&house, "203.0.113.8").await.try_ask().await.expect("a chat");
    house.nobody_is_lost(5).await;
}

#[tokio::test]
async fn a_source_that_asks_too_often_keeps_nobody_in_danger_out() {
    let house = behind_a_proxy().await;
    for _ in 0..4 {
        from(&house, "203.0.113.7").await.try_ask().await.expect("a chat");
    }
    from(&house, "203.0.113.7").await.try_ask().await.expect_err("a refusal");

    for _ in 0..2 {
        let mut in_danger = from(&house, "203.0.113.7").await.urgent(Urgency::Imminent);
        let triaged = in_danger.try_ask().await.expect("a chat").triaged.expect("how urgent");
        assert_eq!(triaged.urgency(), Urgency::Imminent);
    }
    let past_both = from(&house, "203.0.113.7").await.urgent(Urgency::Imminent).try_ask().await;
    let past_both = past_both.expect_err("a refusal");
    assert_eq!(past_both.get_details_error_info().expect("a reason").reason, "SOURCE_LIMIT");
    assert!(resources(&past_both).contains(&"Anyone".to_owned()), "{past_both:?}");
    house.nobody_is_lost(6).await;
}

#[tokio::test]
async fn whoever_says_again_and_again_that_it_is_imminent_is_let_in_but_not_before_all_others() {
    let house = behind_a_proxy().await;
    let mut triaged = Vec::new();
    for _ in 0..3 {
        let mut visitor = from(&house, "203.0.113.7").await.urgent(Urgency::Imminent);
        triaged.push(visitor.try_ask().await.expect("a chat").triaged.expect("how urgent"));
    }
    let urgencies: Vec<_> = triaged.iter().map(|triaged| triaged.urgency()).collect();
    assert_eq!(urgencies, [Urgency::Imminent, Urgency::Imminent, Urgency::High]);
    assert_eq!(triaged[2].reasons, ["stated", "source_limit"]);

    // Nor by a word afterwards.
    let mut fourth = from(&house, "203.0.113.7").await;
    fourth.try_ask().await.expect("a chat");
    let mut update = Request::new(UpdateChatRequest {
        key: Some(fourth.key.clone()),
        urgency: Urgency::Imminent.into(),
        ..UpdateChatRequest::default()
    });
    update.metadata_mut().insert(BEFORE, "203.0.113.7".parse().expect("a header"));
    let mut intake = IntakeServiceClient::new(connect(&house.intakes[0].url()).await);
    let updated = intake.update_chat(update).await.expect("an answer").into_inner();
    assert_eq!(updated.chat.expect("the chat").urgency(), Urgency::High);

    let mut another = from(&house, "203.0.113.8").await.urgent(Urgency::Imminent);
    let another = another.try_ask().await.expect("a chat");
    assert_eq!(another.triaged.expect("how urgent").urgency(), Urgency::Imminent);
}

fn few_at_once(policy: &mut Policy) {
    let rate = |per_minute, burst| Rate { per_minute, burst };
    policy.admission = Some(Admission { quota: rate(1, 2), imminent: rate(1, 1) });
}

#[tokio::test]
async fn past_its_quota_a_helpline_says_when_to_ask_again_and_danger_has_room_of_its_own() {
    let also = vec![Policy { helpline: "lake".to_owned(), ..policy(numbers()) }];
    let house = Deployment::start(Setup { rules: few_at_once, also, ..Setup::default() }).await;
    let mut first = house.visitor().await;
    let chat = first.try_ask().await.expect("a chat").chat;
    house.visitor().await.try_ask().await.expect("a chat");

    let refused = house.visitor().await.try_ask().await.expect_err("a refusal");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.get_details_error_info().expect("a reason").reason, "QUOTA_EXCEEDED");
    let wait = refused.get_details_retry_info().expect("when").retry_delay.expect("when");
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(60), "{wait:?}");
    assert!(resources(&refused).contains(&"Anyone".to_owned()), "{refused:?}");
    let again = first.try_ask().await.expect("a repeat");
    assert_eq!((again.replayed, again.chat.map(|c| c.chat_id)), (true, chat.map(|c| c.chat_id)));

    let mut in_danger = house.visitor().await.urgent(Urgency::Imminent);
    let triaged = in_danger.try_ask().await.expect("a chat").triaged.expect("how urgent");
    assert_eq!(triaged.urgency(), Urgency::Imminent);
    let past_both = house.visitor().await.urgent(Urgency::Imminent).try_ask().await.expect_err("a refusal");
    assert!(resources(&past_both).contains(&"Anyone".to_owned()), "{past_both:?}");
    let mut at_the_lake = house.visitor().await;
    at_the_lake.ask.helpline = "lake".to_owned();
    at_the_lake.try_ask().await.expect("a chat at another helpline");

    let is_counted = |m: &str| {
        m.lines().any(|l| {
            l.starts_with("holdfast_requests_total{") && l.contains("quota_exceeded") && l.ends_with(" 2")
        })
    };
    house.intakes[0].measures("refusals by the quota", is_counted).await;
    house.nobody_is_lost(3).await;
}
