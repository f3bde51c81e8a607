//! What time alone does.

use holdfast_proto::v1::{self, command::Command};

use crate::bench::{Bench, chat_request, policy_folder, sign_in};

#[tokio::test]
async fn an_offer_that_nobody_answers_is_missed_and_goes_on_to_the_next() {
    let folder = policy_folder("offer_deadline_ms = 100");
    let overrides = [("policy.dir", folder.path().to_str().unwrap()), ("ticker.interval_ms", "20")];
    let bench = Bench::with(&overrides).await;
    let mut dispatch = bench.dispatch().await;
    dispatch.say(sign_in("ana")).await.unwrap();
    dispatch.say(Command::Request(chat_request("c1"))).await.unwrap();
    dispatch.notice("offered").await;
    dispatch.say(sign_in("ben")).await.unwrap();

    let missed = dispatch.notice("missed").await;
    let next = dispatch.notice("offered").await;

    assert_eq!((missed.responder_id.as_str(), missed.chat_id.as_str()), ("ana", "c1"));
    assert_eq!((next.responder_id.as_str(), next.offer_number), ("ben", 2));
}

#[tokio::test]
async fn a_visitor_who_is_not_heard_from_is_away_and_then_given_up() {
    let folder = policy_folder("away_after_ms = 100\nabandon_after_ms = 100");
    let overrides = [("policy.dir", folder.path().to_str().unwrap()), ("ticker.interval_ms", "20")];
    let bench = Bench::with(&overrides).await;
    let mut intake = bench.intake().await;
    let live = v1::RequestCommand { presence: v1::VisitorPresence::Live.into(), ..chat_request("c1") };
    intake.say(Command::Request(live)).await.unwrap();

    intake.notice("away").await;

    assert_eq!(intake.notice("ended").await.outcome(), v1::ChatOutcome::Abandoned);
}
