//! More people come than the line is made for.

use crate::failure::resources;
use holdfast_domain::Policy;
use holdfast_domain::policy::{Numbers, SurgeStage};
use holdfast_proto::v1::{Chat, Urgency};
use holdfast_tests::events::Events;
use holdfast_tests::people::Visitor;
use holdfast_tests::processes::{Deployment, PATIENCE, Setup, numbers};
use std::io::Write;
use std::sync::OnceLock;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn stage() -> SurgeStage {
    SurgeStage {
        name: "busy".to_owned(),
        enter_percent: 300,
        leave_percent: 100,
        hold_ms: 300,
        fan_out: 0,
        wrap_up_percent: 50,
        resources_first: true,
        challenge_bits: 0,
        page_until: 5,
        page_every_ms: 60_000,
        page_waves: 1,
    }
}

/// Where the volunteers' pagers listen; a policy is made by a plain function, so it looks here.
static PAGERS: OnceLock<String> = OnceLock::new();

fn rules(policy: &mut Policy) {
    policy.surge = vec![stage()];
    policy.paging = PAGERS.get().map(|url| holdfast_domain::policy::Paging { url: url.clone() });
}

/// One call of the webhook, head and body, answered with 204.
async fn called(pagers: &TcpListener) -> String {
    let (mut connection, _) = timeout(PATIENCE, pagers.accept()).await.expect("a call").expect("a connection");
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.ends_with('}') {
        let read = connection.read(&mut buffer).await.expect("a request");
        assert!(read > 0, "the request was cut: {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).expect("text"));
    }
    connection.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").await.expect("an answer");
    text
}

#[tokio::test]
async fn a_surge_calls_volunteers_up_shows_low_requests_the_resources_first_and_passes() {
    let pagers = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    PAGERS.set(format!("http://{}/page", pagers.local_addr().expect("an address"))).expect("set once");
    let mut secret = NamedTempFile::new().expect("a file");
    secret.write_all(b"a secret that is only good for scenarios").expect("a secret");
    let queue_settings = vec![("PAGING__SECRET_FILE", secret.path().display().to_string())];
    let numbers = Numbers { wrap_up_ms: [0; 4], ..numbers() };
    let house = Deployment::start(Setup { numbers, rules, queue_settings, ..Setup::default() }).await;
    let mut events = Events::after(&house.queues[0], "").await;

    let mut visitors = Vec::new();
    for _ in 0..3 {
        let mut visitor = house.visitor().await;
        visitor.asks().await;
        visitors.push(visitor);
    }
    assert_eq!(events.until("surge").await.number, 1);
    let call = called(&pagers).await;
    assert_eq!(events.until("paged").await.number, 1);
    assert!(call.to_ascii_lowercase().contains("holdfast-signature: t="), "{call}");
    assert!(!visitors.iter().any(|visitor| call.contains(visitor.chat_id())), "nobody is named in a call");

    let mut low = house.visitor().await.urgent(Urgency::Low);
    let refused = low.try_ask().await.expect_err("the resources first");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    low.ask.resources_seen = true;
    low.asks().await;
    assert_eq!(house.floor().await.surge_stage, "busy");

    for visitor in visitors.iter_mut().chain([&mut low]) {
        visitor.leaves().await;
    }
    assert_eq!(events.until("surge").await.number, 0);
    house.nobody_is_lost(4).await;
}

fn asks_for_work(policy: &mut Policy) {
    policy.surge = vec![SurgeStage { resources_first: false, challenge_bits: 8, page_until: 0, ..stage() }];
}

fn reason(refused: &Status) -> String {
    refused.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

#[tokio::test]
async fn in_a_surge_whoever_asks_solves_a_challenge_first_and_danger_never_does() {
    let house = Deployment::start(Setup { intakes: 2, rules: asks_for_work, ..Setup::default() }).await;
    let mut events = Events::after(&house.queues[0], "").await;
    let mut visitors = Vec::new();
    for _ in 0..3 {
        let mut visitor = house.visitor().await;
        visitor.asks().await;
        visitors.push(visitor);
    }
    assert_eq!(events.until("surge").await.number, 1);

    let mut unwilling = house.visitor().await;
    let refused = unwilling.try_ask().await.expect_err("a challenge first");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "CHALLENGE"));
    assert!(resources(&refused).contains(&"Anyone".to_owned()), "{refused:?}");

    // The other door knows the challenge of this one, and the work is for this request alone.
    let mut willing = Visitor::at(&house.intakes[0].url()).await;
    let refused = willing.try_ask().await.expect_err("a challenge first");
    assert_eq!(willing.works(&refused).bits, 8);
    let mut elsewhere = willing.elsewhere(&house.intakes[1].url()).await;
    let asked = elsewhere.try_ask().await.expect("a chat for work");
    let mut copied = elsewhere.beside("another request");
    assert_eq!(reason(&copied.try_ask().await.expect_err("work of their own")), "CHALLENGE");
    elsewhere.ask.challenge_solution = None;
    let again = elsewhere.try_ask().await.expect("a repeat needs no work");
    let id = |chat: Option<Chat>| chat.map(|chat| chat.chat_id);
    assert_eq!((again.replayed, id(again.chat)), (true, id(asked.chat)));

    let mut in_danger = house.visitor().await.urgent(Urgency::Imminent);
    in_danger.asks().await;
    visitors.extend([elsewhere, in_danger]);
    for visitor in &mut visitors {
        visitor.leaves().await;
    }
    assert_eq!(events.until("surge").await.number, 0);
    unwilling.asks().await;
    house.nobody_is_lost(6).await;
}
