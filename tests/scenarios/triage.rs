//! What visitors answer, what follows from it, and who is asked to come.

use holdfast_domain::Policy;
use holdfast_intake::returning::TOKEN_BYTES;
use holdfast_proto::v1::intake_service_client::IntakeServiceClient;
use holdfast_proto::v1::queue_service_client::QueueServiceClient;
use holdfast_proto::v1::triage_classifier_server::{TriageClassifier, TriageClassifierServer};
use holdfast_proto::v1::watch_chat_response::Message;
use holdfast_proto::v1::{
    Answer, ChatState, ClassifyRequest, ClassifyResponse, GetPolicyRequest, PutPolicyRequest, UpdateChatRequest,
    Urgency, WatchChatResponse,
};
use holdfast_tests::collector::Collector;
use holdfast_tests::people::{Responder, Visitor};
use holdfast_tests::processes::{Deployment, HELPLINE, PATIENCE, Setup, connect};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

/// For what must not happen.
const A_MOMENT: Duration = Duration::from_millis(500);

/// What the helpline asks, and what it makes of it.
const RULES: &str = r#"
helpline = "river"
name = "The river line"
tags = [{ name = "lang:es" }]

[[survey]]
id = "plan"
kind = "flag"
[[survey]]
id = "distress"
kind = "scale"

[[triage]]
name = "has a plan"
when = [{ question = "plan", is = "yes" }]
urgency = "imminent"
[[triage]]
name = "in distress"
when = [{ question = "distress", at_least = 7 }]
urgency = "high"

[[routes]]
name = "Spanish"
when = [{ language = "es" }]
steps = [{ any_of = [["lang:es"]] }]

[classifier]
use = true
may_raise_to = "high"
"#;

/// The usual deployment, with these rules in force since a moment ago.
async fn deployed(setup: Setup) -> Deployment {
    let house = Deployment::start(setup).await;
    decides(&house, RULES).await;
    house
}

/// Puts rules in force, beside everything else that the helpline's policy says.
async fn decides(house: &Deployment, rules: &str) {
    let file = std::fs::read_to_string(house.policies().join("river.toml")).expect("a policy file");
    let policy = Policy::from_toml(&file).expect("a policy");
    let Policy { survey, triage, routes, classifier, .. } = Policy::from_toml(rules).expect("rules");
    let policy = Policy { survey, triage, routes, classifier, ..policy };
    let mut queue = QueueServiceClient::new(connect(&house.queues[0].url()).await);
    let asked = GetPolicyRequest { helpline: HELPLINE.to_owned(), revision: 0 };
    let in_force = queue.get_policy(asked).await.expect("the policy in force").into_inner();
    let put = PutPolicyRequest {
        helpline: HELPLINE.to_owned(),
        toml: policy.to_toml().expect("a policy"),
        expected_revision: in_force.revision,
        supervisor_id: "sam".to_owned(),
        dry_run: false,
    };
    queue.put_policy(put).await.expect("a policy that can be put in force");
}

fn said(question: &str, value: &str) -> Answer {
    Answer { question: question.to_owned(), value: value.to_owned() }
}

/// A volunteer who speaks Spanish, signed in and ready.
async fn spanish(house: &Deployment, id: &str) -> Responder {
    let mut responder = house.stranger(id).await.can("lang:es");
    responder.sign_in().await;
    responder
}

#[tokio::test]
async fn whoever_answers_that_it_is_urgent_is_served_first_and_told_why() {
    let house = deployed(Setup::default()).await;
    let mut first = house.visitor().await;
    first.asks().await;
    let mut urgent = house.visitor().await;
    urgent.ask.answers = vec![said("plan", "yes"), said("distress", "9")];

    let accepted = urgent.asks().await;
    let triaged = accepted.triaged.expect("why");
    let mut ana = house.responder("ana").await;

    assert_eq!((triaged.urgency(), triaged.reasons), (Urgency::Imminent, vec!["has a plan".to_owned()]));
    assert_eq!(ana.offer().await.chat_id, urgent.chat_id());
    house.nobody_is_lost(2).await;
}

#[tokio::test]
async fn what_is_answered_later_moves_a_visitor_up() {
    let house = deployed(Setup::default()).await;
    let mut first = house.visitor().await.urgent(Urgency::Low);
    first.asks().await;
    let mut other = house.visitor().await.urgent(Urgency::Low);
    other.asks().await;

    let mut door = IntakeServiceClient::new(connect(&house.intakes[0].url()).await);
    let key = Some(other.key.clone());
    let told = UpdateChatRequest { key, answers: vec![said("distress", "8")], ..UpdateChatRequest::default() };
    door.update_chat(told).await.expect("an answer");

    other.until_chat("first in line", |chat| chat.urgency() == Urgency::High && chat.place == 1).await;
    let mut ana = house.responder("ana").await;
    assert_eq!(ana.offer().await.chat_id, other.chat_id());
}

#[tokio::test]
async fn who_speaks_the_language_is_asked_before_anyone_else() {
    let house = deployed(Setup::default()).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.ask.language = "es-MX".to_owned();

    let accepted = visitor.asks().await;

    assert_eq!(accepted.route, "Spanish");
    assert!(!ana.is_offered_within(A_MOMENT).await, "not yet");
    let mut eva = spanish(&house, "eva").await;
    assert_eq!(eva.offer().await.chat_id, visitor.chat_id());
}

#[tokio::test]
async fn new_rules_hold_from_the_next_request_on_and_earlier_requests_are_still_known() {
    let house = deployed(Setup::default()).await;
    let mut early = house.visitor().await;
    early.ask.answers = vec![said("plan", "yes")];
    let first = early.asks().await;

    // The question is another one now.
    decides(&house, &RULES.replace("\"plan\"", "\"means\"").replace("has a plan", "has the means")).await;
    let mut late = house.visitor().await;
    late.ask.answers = vec![said("means", "yes")];
    let second = late.asks().await;
    let again = early.try_ask().await.expect("the same chat");

    assert_eq!(second.triaged.expect("why").reasons, ["has the means"]);
    let chat_of = |accepted: &holdfast_proto::v1::RequestChatResponse| {
        accepted.chat.as_ref().expect("a chat").chat_id.clone()
    };
    assert!(again.replayed);
    assert_eq!(chat_of(&again), chat_of(&first));
    assert_eq!(again.triaged.expect("why").urgency(), Urgency::Imminent);
    house.nobody_is_lost(2).await;
}

#[tokio::test]
async fn what_does_not_fit_the_survey_is_refused_by_its_field_with_where_else_to_turn() {
    let house = deployed(Setup::default()).await;
    let mut visitor = house.visitor().await;
    visitor.ask.answers = vec![said("plan", "yes"), said("distress", "eleven")];

    let refused = visitor.try_ask().await.expect_err("no number");

    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("answers[1].value"), "{refused:?}");
    let details = String::from_utf8_lossy(refused.details()).into_owned();
    assert!(details.contains("GetFallbackResponse") && !details.contains("eleven"), "{details}");
    house.nobody_is_lost(0).await;
}

#[tokio::test]
async fn a_visitor_is_led_back_to_the_one_they_met_or_never_to_them_again() {
    let house = deployed(Setup::default()).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let chat = ana.takes().await;
    let token = visitor.until(ChatState::Active).await.return_token;
    ana.closes(&chat).await;
    let completed = visitor.until(ChatState::Ended).await.return_token;
    assert_eq!((token.len(), completed.len()), (TOKEN_BYTES, TOKEN_BYTES));

    // Ben has waited for longer, so it is he who would be asked.
    let mut ben = house.responder("ben").await;
    let mut back = house.visitor().await;
    back.ask.return_token = token.clone();
    back.asks().await;
    let chat = ana.takes().await;
    assert_eq!(chat.chat_id, back.chat_id());
    ana.closes(&chat).await;

    let mut never = house.visitor().await;
    never.ask.not_again_tokens = vec![completed];
    ben.declares(holdfast_proto::v1::ResponderStatus::OnBreak).await;
    never.asks().await;
    assert!(!ana.is_offered_within(A_MOMENT).await, "never again");
    ben.declares(holdfast_proto::v1::ResponderStatus::Ready).await;
    assert_eq!(ben.offer().await.chat_id, never.chat_id());
}

/// A classifier that finds everything serious.
struct Grave;

#[tonic::async_trait]
impl TriageClassifier for Grave {
    async fn classify(&self, _: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        let answer =
            ClassifyResponse { urgency: Urgency::Imminent.into(), confidence: 1.0, ..ClassifyResponse::default() };
        Ok(Response::new(answer))
    }
}

/// It, running, and where. It has a runtime of its own: with that its connections are gone too.
async fn classifier() -> (Runtime, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let listener = listener.into_std().expect("a socket");
    let runtime = Runtime::new().expect("a runtime");
    runtime.spawn(async move {
        let incoming = TcpListenerStream::new(TcpListener::from_std(listener).expect("a socket"));
        let server = Server::builder().add_service(TriageClassifierServer::new(Grave));
        server.serve_with_incoming(incoming).await.expect("a server");
    });
    (runtime, url)
}

/// Somebody who is raised. The classifier has a fifth of a second for each and is asked once, so one may not do.
async fn raised(house: &Deployment, ask: impl Fn(&mut Visitor)) -> Visitor {
    for _ in 0..10 {
        let mut visitor = house.visitor().await;
        ask(&mut visitor);
        let accepted = visitor.asks().await;
        assert_eq!(accepted.triaged.expect("why").urgency(), Urgency::Moderate, "nobody waited for it");
        let is_high = |update: &WatchChatResponse| match &update.message {
            Some(Message::Update(update)) if update.chat.as_ref()?.urgency() == Urgency::High => Some(()),
            _ => None,
        };
        if visitor.inbox().comes_within(Duration::from_secs(1), is_high).await.is_some() {
            return visitor;
        }
    }
    panic!("the classifier raises nobody");
}

/// Starts the door again, with a classifier.
async fn with_classifier(house: &mut Deployment, url: &str) {
    let door = &mut house.intakes[0];
    door.signal("TERM");
    door.ended(Duration::from_secs(10)).await;
    door.set("CLASSIFIER__URL", url);
    door.start_again().await;
    for queue in &house.queues {
        queue.logged_times("attached", 1 + house.dispatches.len() + 1).await;
    }
}

#[tokio::test]
async fn a_second_opinion_raises_and_nobody_misses_it_when_it_is_gone() {
    let mut house = deployed(Setup::default()).await;
    let (running, url) = classifier().await;
    with_classifier(&mut house, &url).await;

    raised(&house, |_| {}).await;
    running.shutdown_background();

    let open = |metrics: &str| metrics.lines().any(|l| l.contains("opinions") && l.contains(r#"outcome="open""#));
    let until = Instant::now() + PATIENCE;
    while !open(&house.intakes[0].get("/metrics").await.body) {
        assert!(Instant::now() < until, "it is not left alone");
        let accepted = house.visitor().await.try_ask().await.expect("a chat");
        assert_eq!(accepted.chat.expect("a chat").urgency(), Urgency::Moderate);
    }
}

#[tokio::test]
async fn nothing_that_is_answered_gets_into_logs_metrics_traces_or_the_store() {
    const REGION: &str = "canary-region-7d1";
    const LANGUAGE: &str = "xx-canary8e2";
    const ANSWER: &str = "canary-answer-9f3";
    let (running, url) = classifier().await;
    let collector = Collector::start().await;
    let collected = Some(collector.url().to_owned());
    let mut house = deployed(Setup { collector: collected, log_filter: "debug", ..Setup::default() }).await;
    with_classifier(&mut house, &url).await;

    let canaries = |visitor: &mut Visitor| {
        visitor.ask.region = REGION.to_owned();
        visitor.ask.language = LANGUAGE.to_owned();
        visitor.ask.answers = vec![said("plan", "no")];
    };
    let visitor = raised(&house, canaries).await;
    for answer in [said(ANSWER, "yes"), said("plan", ANSWER)] {
        let mut refused = house.visitor().await;
        refused.ask.answers = vec![answer];
        refused.try_ask().await.expect_err("no answer to anything");
    }
    running.shutdown_background();

    let aof = house.redis().files();
    assert!(aof.contains(visitor.chat_id()), "the store was not looked at");
    let mut places = vec![("the store".to_owned(), aof)];
    for process in house.queues.iter_mut().chain(&mut house.intakes).chain(&mut house.dispatches) {
        places.push((format!("the metrics of {}", process.name), process.get("/metrics").await.body));
        process.signal("TERM"); // what is left of traces and metrics is sent now
        process.ended(Duration::from_secs(10)).await;
        places.push((format!("the log of {}", process.name), process.log()));
    }
    places.push(("what was collected".to_owned(), collector.everything()));
    for (place, text) in places {
        let text = text.to_lowercase();
        for canary in [REGION, LANGUAGE, ANSWER] {
            assert!(!text.contains(canary), "{canary} is in {place}");
        }
    }
}
