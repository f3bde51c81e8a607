//! Volunteers who are off shift are called up through the helpline's own webhook.

use std::{io::Write, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::post,
};
use hmac::{Hmac, Mac};
use holdfast_proto::v1::{self, ResponderStatus, command::Command};
use holdfast_queue::DEMO;
use sha2::Sha256;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use crate::bench::{AT_MOST, Bench, chat_request, sign_in};

const SECRET: &str = "a secret of more than 32 characters";

/// What a webhook was told: headers and body.
type Told = (HeaderMap, String);

/// A webhook of a helpline, which answers every call alike.
struct Webhook {
    address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Told>,
}

impl Webhook {
    async fn answering(status: StatusCode) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let elsewhere = [(header::LOCATION, "/elsewhere")];
        let answer = async move |State(told): State<mpsc::UnboundedSender<Told>>, headers, body| {
            told.send((headers, body)).unwrap();
            (status, elsewhere).into_response()
        };
        let routes = Router::new()
            .route("/hook", post(answer.clone()))
            .route("/elsewhere", post(answer))
            .with_state(sender);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, calls }
    }

    async fn next(&mut self) -> Told {
        timeout(AT_MOST, self.calls.recv()).await.unwrap().unwrap()
    }
}

/// A service that signs its calls, and a helpline which calls up three waves, a second apart, until two are on shift,
/// as soon as one chat waits and nobody is there.
async fn bench(address: SocketAddr) -> (Bench, tempfile::NamedTempFile) {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(SECRET.as_bytes()).unwrap();
    let overrides = [("paging.secret_file", secret.path().to_str().unwrap()), ("ticker.interval_ms", "20")];
    let bench = Bench::with(&overrides).await;
    bench.set_policy(&policy(address)).await;
    (bench, secret)
}

fn policy(address: SocketAddr) -> String {
    let surge = "name = \"busy\"\nenter_percent = 100\nleave_percent = 50\nhold_ms = 60000\npage_until = 2\n\
                 page_every_ms = 1000\npage_waves = 3";
    format!("{DEMO}\n[[surge]]\n{surge}\n\n[paging]\nurl = \"http://{address}/hook\"\n")
}

/// The first event of this kind, when it happens.
async fn event(bench: &Bench, kind: &str) -> v1::Event {
    event_of(bench, kind, |_| true).await
}

async fn event_of(bench: &Bench, kind: &str, is_it: impl Fn(&v1::Event) -> bool) -> v1::Event {
    let request = v1::WatchEventsRequest { helpline: "demo".to_owned(), from_cursor: String::new() };
    let mut stream = bench.client().watch_events(request).await.unwrap().into_inner();
    loop {
        let event = timeout(AT_MOST, stream.message()).await.unwrap().unwrap().unwrap().event.unwrap();
        if event.kind == kind && is_it(&event) {
            return event;
        }
    }
}

/// The signature of a body, as a receiver reckons it.
fn signed(seconds: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{seconds}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_wave_is_told_with_a_signature_that_proves_who_tells_it() {
    let mut webhook = Webhook::answering(StatusCode::ACCEPTED).await;
    let (bench, _secret) = bench(webhook.address).await;
    bench.execute(Command::Request(chat_request("c1"))).await.unwrap();

    let (headers, body) = webhook.next().await;
    let paged = event(&bench, "paged").await;

    let signature = headers["holdfast-signature"].to_str().unwrap();
    let (seconds, code) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert_eq!(code, signed(seconds, &body));
    let now = holdfast_runtime::clock::wall_ms() / 1000;
    assert!(now.abs_diff(seconds.parse().unwrap()) < 60, "{signature}");
    let told: serde_json::Value = serde_json::from_str(&body).unwrap();
    let numbers = ["stage_number", "wave", "on_shift", "wanted"].map(|key| told[key].as_u64().unwrap());
    assert_eq!(
        (told["helpline"].as_str(), told["stage"].as_str(), numbers),
        (Some("demo"), Some("busy"), [1, 1, 0, 2])
    );
    assert_eq!(told.as_object().unwrap().len(), 8, "nothing else: {body}");
    assert_eq!(paged.number, 1);
}

#[tokio::test]
async fn waves_follow_each_other_until_enough_have_come() {
    let mut webhook = Webhook::answering(StatusCode::OK).await;
    let (bench, _secret) = bench(webhook.address).await;
    bench.execute(Command::Request(chat_request("c1"))).await.unwrap();
    let waves = [webhook.next().await, webhook.next().await];
    for who in ["ana", "ben"] {
        bench.execute(sign_in(who)).await.unwrap();
    }

    let third = timeout(Duration::from_millis(2500), webhook.calls.recv()).await;

    assert!(third.is_err(), "two are on shift: {third:?}");
    let ids = waves.map(|(_, body)| serde_json::from_str::<serde_json::Value>(&body).unwrap()["id"].to_string());
    assert_ne!(ids[0], ids[1]);
    let waves: Vec<u64> =
        bench.events().await.into_iter().filter(|e| e.kind == "paging").map(|event| event.number).collect();
    assert_eq!(waves, [1, 2]);
}

/// The wave fails, and the line goes on.
async fn fails(bench: Bench) {
    bench.execute(Command::Request(chat_request("c1"))).await.unwrap();

    // The second wave may be given up before the first.
    event_of(&bench, "page_failed", |failed| failed.number == 1).await;
    bench.execute(sign_in("ana")).await.unwrap();
    assert_eq!(event(&bench, "offered").await.chat_id, "c1");
    let floor = bench.floor().await;
    assert_eq!((floor.responders[0].status(), floor.surge_stage.as_str()), (ResponderStatus::Ready, "busy"));
}

#[tokio::test]
async fn a_webhook_that_is_broken_is_tried_three_times_and_the_line_goes_on() {
    let mut webhook = Webhook::answering(StatusCode::INTERNAL_SERVER_ERROR).await;
    let (bench, _secret) = bench(webhook.address).await;
    fails(bench).await;
    let mut ids = Vec::new();
    while let Ok((_, body)) = webhook.calls.try_recv() {
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        if told["wave"] == 1 {
            ids.push(told["id"].to_string());
        }
    }
    assert_eq!(ids.len(), 3, "{ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 1, "a wave has one id, however often it comes");
}

#[tokio::test]
async fn nobody_follows_a_redirect() {
    let mut webhook = Webhook::answering(StatusCode::TEMPORARY_REDIRECT).await;
    let (bench, _secret) = bench(webhook.address).await;
    fails(bench).await;
    let (headers, _) = webhook.next().await;
    assert_eq!(headers[header::HOST], webhook.address.to_string());
    let again = std::iter::from_fn(|| webhook.calls.try_recv().ok());
    let again: Vec<_> = again.filter(|(_, body)| body.contains("\"wave\":1,")).collect();
    assert!(again.is_empty(), "the first wave came once: {again:?}");
}

#[tokio::test]
async fn a_webhook_that_is_not_there_does_not_hold_the_line_up() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (bench, _secret) = bench(gone).await;
    fails(bench).await;
}

#[tokio::test]
async fn without_a_secret_nobody_is_called_up_and_the_events_say_so() {
    let mut webhook = Webhook::answering(StatusCode::OK).await;
    let bench = Bench::with(&[("ticker.interval_ms", "20")]).await;
    bench.set_policy(&policy(webhook.address)).await;
    fails(bench).await;
    assert!(webhook.calls.try_recv().is_err());
}
