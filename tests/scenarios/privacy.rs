//! Nothing that a visitor says, and nothing about who they are, is ever logged, measured, traced or kept beside what
//! the line needs.

use holdfast_proto::v1::ChatState;
use holdfast_tests::collector::Collector;
use holdfast_tests::processes::{Deployment, Setup};

const HANDOFF: &str = "canary-handoff-1b7e";
const REPLY: &str = "canary-reply-2c8f";
const REQUEST_ID: &str = "canary-request-3d90";
const USER_AGENT: &str = "canary-agent-4ea1";
const ADDRESS: &str = "203.0.113.77";
const LOCALE: &str = "xx-canary5f";
const SUBJECT: &str = "canary-subject-7c3d";
const TAG: &str = "canary-tag-6b2c";

#[tokio::test]
async fn nothing_that_a_visitor_says_or_is_gets_into_logs_metrics_or_traces() {
    let collector = Collector::start().await;
    let collected = Some(collector.url().to_owned());
    let mut house =
        Deployment::start(Setup { collector: collected, log_filter: "debug", ..Setup::default() }).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.ask.handoff = HANDOFF.into();
    visitor.ask.request_id = REQUEST_ID.to_owned();
    visitor.ask.locale = LOCALE.to_owned();
    visitor.headers = vec![
        ("x-forwarded-for", ADDRESS.to_owned()),
        ("forwarded", format!("for={ADDRESS}")),
        ("user-agent", USER_AGENT.to_owned()),
    ];

    visitor.asks().await;
    let offer = ana.offer().await;
    let chat = ana.try_accept(&offer, REPLY).await.assignment.expect("an assignment");
    visitor.until(ChatState::Active).await;
    ana.closes(&chat).await;
    visitor.until(ChatState::Ended).await;
    let token = visitor.key.visitor_token.clone();
    refusals(&house).await;

    let aof = house.redis().files();
    for process in house.queues.iter_mut().chain(&mut house.intakes).chain(&mut house.dispatches) {
        let metrics = process.get("/metrics").await.body;
        process.signal("TERM"); // what is left of traces and metrics is sent now
        process.ended(std::time::Duration::from_secs(8)).await;
        look(&format!("the log of {}", process.name), &process.log(), &token);
        look(&format!("the metrics of {}", process.name), &metrics, &token);
    }
    let sent = collector.everything();
    assert!(sent.contains("RequestChat"), "nothing was collected");
    look("what was collected", &sent, &token);
    assert!(aof.contains(&visitor.key.chat_id), "the store was not looked at");
    for canary in [HANDOFF, REPLY, REQUEST_ID, USER_AGENT, ADDRESS, LOCALE, token.as_str()] {
        assert!(!aof.contains(canary), "{canary} is in the store");
    }
}

/// What is refused is not quoted either.
async fn refusals(house: &Deployment) {
    let mut visitor = house.visitor().await;
    visitor.ask.locale = format!("{LOCALE} {ADDRESS}");
    visitor.try_ask().await.expect_err("not a locale");
    let mut visitor = house.visitor().await;
    visitor.ask.subject = SUBJECT.to_owned();
    visitor.try_ask().await.expect_err("no integrator");
    let mut visitor = house.visitor().await;
    visitor.ask.helpline = USER_AGENT.to_uppercase();
    visitor.try_ask().await.expect_err("not a helpline");
    let mut visitor = house.visitor().await;
    let tag = holdfast_proto::v1::Tag { name: TAG.to_owned(), level: 1 };
    let any_of = vec![holdfast_proto::v1::Alternative { all_of: vec![tag] }];
    visitor.ask.routing_steps = vec![holdfast_proto::v1::RoutingStep { after: None, any_of }];
    visitor.try_ask().await.expect_err("not a tag");
}

fn look(place: &str, text: &str, token: &str) {
    let text = text.to_lowercase();
    for canary in [HANDOFF, REPLY, REQUEST_ID, USER_AGENT, ADDRESS, LOCALE, SUBJECT, TAG, token] {
        let canary = canary.to_lowercase();
        let line = text.lines().find(|line| line.contains(&canary));
        assert!(
            line.is_none(),
            "{canary} is in {place}: {}",
            &line.unwrap_or_default()[..300.min(line.unwrap_or_default().len())]
        );
        // As bytes, the way debug output shows them.
        let bytes = format!("{:?}", canary.as_bytes());
        assert!(!text.contains(bytes.trim_matches(['[', ']'])), "{canary} is in {place}, as bytes");
    }
}
