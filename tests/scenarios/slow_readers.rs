//! Devices that take nothing of what they are sent, and go on speaking all the same.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::dispatch_service_client::DispatchServiceClient;
use holdfast_proto::v1::intake_service_client::IntakeServiceClient;
use holdfast_proto::v1::session_response::Message;
use holdfast_proto::v1::{
    Action, ChatState, Heartbeat, SessionRequest, SessionResponse, SignIn, Urgency, VisitorPresence,
    WatchChatRequest, action, session_request,
};
use holdfast_tests::events::Events;
use holdfast_tests::processes::{Deployment, HELPLINE, numbers};
use std::{pin::pin, time::Duration};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// From the moment at which nobody reads any more, with what the services run with when nothing else is said.
const BOUND: Duration = Duration::from_secs(10);
/// A window that is full with the next message or two, so that everything after them waits at the service.
const WINDOW: u32 = 64;

async fn narrow(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("an address");
    endpoint.initial_stream_window_size(WINDOW).connect().await.expect("a connection")
}

/// A responder's device that speaks as often as it should, and stops reading when it is told to.
struct Deaf {
    messages: Streaming<SessionResponse>,
    speaks: tokio::task::JoinHandle<()>,
}

impl Deaf {
    async fn signs_in(url: &str, id: &str) -> Self {
        let (out, requests) = mpsc::channel(64);
        let sign_in = SignIn {
            helpline: HELPLINE.to_owned(),
            responder_id: id.to_owned(),
            capacity: 1,
            ready: true,
            ..SignIn::default()
        };
        let first = session_request::Message::SignIn(sign_in);
        out.send(SessionRequest { request_number: 0, message: Some(first) }).await.expect("room");
        let mut client = DispatchServiceClient::new(narrow(url).await);
        let messages = client.session(ReceiverStream::new(requests)).await.expect("a session").into_inner();
        let speaks = tokio::spawn(async move {
            let mut beat = interval(Duration::from_millis(300));
            for request_number in 1.. {
                beat.tick().await;
                let word = Action { action: Some(action::Action::Heartbeat(Heartbeat {})) };
                let message = Some(session_request::Message::Action(word));
                if out.send(SessionRequest { request_number, message }).await.is_err() {
                    return;
                }
            }
        });
        Self { messages, speaks }
    }

    async fn hears_of_an_offer(&mut self) {
        while let Some(response) = self.messages.message().await.expect("a session") {
            if matches!(response.message, Some(Message::Offer(_))) {
                return;
            }
        }
        panic!("no offer");
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.speaks.abort();
    }
}

#[tokio::test]
async fn a_responder_who_reads_nothing_loses_the_session_and_the_offer_goes_to_somebody_else() {
    let patient = Numbers { offer_deadline_ms: 600_000, presence_lease_ms: 30_000, ..numbers() };
    let house = Deployment::with(patient).await;
    let mut deaf = Deaf::signs_in(&house.dispatches[0].url(), "deaf").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    deaf.hears_of_an_offer().await;
    let mut ben = house.responder("ben").await;
    let mut events = Events::after(&house.queues[0], "").await;

    let since = Instant::now();
    let unlinked = events.until("unlinked").await;
    let lost = since.elapsed();
    let offer = ben.offer().await;
    let offered = since.elapsed();

    println!(
        "the session of a device that reads nothing ended after {lost:?}, its offer was elsewhere after {offered:?}"
    );
    assert_eq!((unlinked.responder_id.as_str(), offer.chat_id.as_str()), ("deaf", visitor.chat_id()));
    assert!(offered < BOUND, "{offered:?}");
    ben.accepts(&offer).await;
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn a_visitor_whose_device_reads_nothing_is_away_keeps_their_place_and_comes_back_to_it() {
    let house = Deployment::with(Numbers { away_after_ms: 1_500, abandon_after_ms: 600_000, ..numbers() }).await;
    let mut visitor = house.visitor().await;
    visitor.try_ask().await.expect("a chat");
    let mut deaf = IntakeServiceClient::new(narrow(&house.intakes[0].url()).await);
    let watch = WatchChatRequest {
        key: Some(visitor.key.clone()),
        locale: visitor.ask.locale.clone(),
        ticket: visitor.ticket.clone(),
    };
    let mut messages = deaf.watch_chat(watch).await.expect("a stream").into_inner();
    messages.message().await.expect("a stream").expect("how the chat stands");
    let mut events = Events::after(&house.queues[0], "").await;

    let mut behind = house.visitor().await;
    behind.asks().await;

    let since = Instant::now();
    let gate = house.visitor().await;
    let mut others = Vec::new();
    let silent = Duration::from_millis(1_500 + 3_000); // until they are away, and what beats and ticks may add
    // Others come before them and stay: whenever their place is looked at, there is something to tell.
    {
        let mut is_away = pin!(async { while events.until("away").await.chat_id != visitor.key.chat_id {} });
        while timeout(Duration::from_millis(100), &mut is_away).await.is_err() {
            assert!(since.elapsed() < BOUND + silent, "they are still there after {:?}", since.elapsed());
            let name = format!("stirs-{}-{}", others.len(), std::process::id());
            let mut other = gate.beside(&name).urgent(Urgency::High);
            other.ask.presence = VisitorPresence::Attested.into(); // nobody must see them to know that they are there
            other.try_ask().await.expect("a chat");
            others.push(other);
        }
    }
    println!("a visitor whose device reads nothing was away after {:?}", since.elapsed());
    for other in &mut others {
        other.leaves().await;
    }
    let back = visitor.resumes().await;
    assert_eq!((back.state(), back.place, behind.resumes().await.place), (ChatState::Waiting, 1, 2));
    while events.until("back").await.chat_id != visitor.chat_id() {}
    drop(messages);
}
