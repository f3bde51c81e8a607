//! A process that is asked to stop: it says so, finishes what is in hand, and ends in order.

use holdfast_proto::v1::{AttachRequest, Hello, queue_service_client::QueueServiceClient};
use holdfast_proto::v1::{ChatState, Drain, attach_request, attach_response, hello};
use holdfast_tests::events::Events;
use holdfast_tests::inbox::Inbox;
use holdfast_tests::people::accept;
use holdfast_tests::processes::{Deployment, Process, connect, send_signal};
use std::time::Duration;
use tokio::time::sleep;
use tokio_stream::{StreamExt, once, pending};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// What the settings of these scenarios leave a process to end in, and a little more.
const DEADLINE: Duration = Duration::from_millis(300 + 3_000 + 2_000);

/// Enough of them for chance to spread them.
const MANY: usize = 24;
/// `reconnect_within_ms` of visitors and of sessions, here.
const RECONNECT_WITHIN: Duration = Duration::from_millis(300);

/// Whoever is sent away together does not come back together: the times differ, and reach over a good part of what they may.
fn come_back_apart(drains: &[Drain]) {
    let after = |drain: &Drain| Duration::try_from(drain.reconnect_after.expect("a time")).expect("a time");
    let mut times: Vec<_> = drains.iter().map(after).collect();
    times.sort_unstable();
    let (first, middle, last) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    assert!(last <= RECONNECT_WITHIN, "{last:?}");
    assert!(middle > first && last - first > RECONNECT_WITHIN / 3, "they come back together: {times:?}");
}

/// What health says about a name of the process (the whole of it has none), as it changes.
pub(crate) async fn health(process: &Process, name: &str) -> Inbox<HealthCheckResponse> {
    let mut client = HealthClient::new(connect(&process.url()).await);
    let request = HealthCheckRequest { service: name.to_owned() };
    let watching = client.watch(request).await.expect("health").into_inner();
    let mut inbox = Inbox::new("health", |inbox| async move {
        let mut watching = watching;
        while let Some(status) = watching.next().await {
            if inbox.send(status).is_err() {
                return;
            }
        }
    });
    until_health(&mut inbox, ServingStatus::Serving).await;
    inbox
}

pub(crate) async fn until_health(health: &mut Inbox<HealthCheckResponse>, status: ServingStatus) {
    health.until(status.as_str_name(), |said| (said.status() == status).then_some(())).await;
}

#[tokio::test]
async fn an_intake_that_is_asked_to_stop_sends_its_visitors_elsewhere() {
    let mut house = Deployment::usual().await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let mut others: Vec<_> =
        (1..MANY).map(|n| visitor.beside(&format!("{}-{n}", visitor.ask.request_id))).collect();
    for other in &mut others {
        other.asks().await;
    }
    let mut health = health(&house.intakes[0], "").await;

    house.intakes[0].signal("TERM");

    until_health(&mut health, ServingStatus::NotServing).await;
    let mut drains = vec![visitor.drain().await];
    for other in &mut others {
        drains.push(other.drain().await);
    }
    come_back_apart(&drains);
    assert!(visitor.inbox().end().await.is_ok());
    assert_eq!(house.intakes[0].ended(DEADLINE).await.code(), Some(0));
    house.intakes[0].start_again().await;
    let mut visitor = visitor.elsewhere(&house.intakes[0].url()).await;
    visitor.watch().await;
    visitor.until_chat("place 1", |chat| chat.place == 1).await;
}

#[tokio::test]
async fn a_dispatch_that_is_asked_to_stop_sends_its_volunteers_elsewhere_with_all_they_have() {
    let mut house = Deployment::usual().await;
    let mut ana = house.stranger("ana").await;
    ana.sign_in.capacity = 2;
    ana.sign_in().await;
    let mut others = Vec::new();
    for n in 1..MANY {
        let mut other = house.stranger(&format!("away-{n}")).await;
        other.sign_in.ready = false;
        other.sign_in().await;
        others.push(other);
    }
    let (mut talking, mut asking) = (house.visitor().await, house.visitor().await);
    talking.asks().await;
    let chat = ana.takes().await;
    asking.asks().await;
    let offer = ana.offer().await;
    let mut health = health(&house.dispatches[0], "").await;

    house.dispatches[0].signal("TERM");

    until_health(&mut health, ServingStatus::NotServing).await;
    let mut drains = vec![ana.drain().await];
    for other in &mut others {
        drains.push(other.drain().await);
    }
    come_back_apart(&drains);
    assert!(ana.inbox().end().await.is_ok());
    assert_eq!(house.dispatches[0].ended(DEADLINE).await.code(), Some(0));
    ana.goes_to(&house.dispatches[1].url());
    ana.sign_in().await;
    let (after, again) = (ana.assignment().await, ana.offer().await);
    assert_eq!(
        (after.fence, again.offer_number),
        (chat.fence, offer.offer_number),
        "nothing was taken away meanwhile"
    );
}

#[tokio::test]
async fn a_queue_that_is_asked_to_stop_sends_its_peers_elsewhere_and_nobody_notices() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut peer = attached(&house.queues[0]).await;
    let mut events = Events::after(&house.queues[0], "").await;
    let mut health = health(&house.queues[0], "").await;

    house.queues[0].signal("TERM");

    until_health(&mut health, ServingStatus::NotServing).await;
    peer.until("drain", |message| matches!(message, attach_response::Message::Drain(_)).then_some(())).await;
    for _ in 0..10 {
        let mut visitor = house.visitor().await;
        visitor.asks().await;
        let chat = ana.takes().await;
        ana.closes(&chat).await;
        visitor.until(ChatState::Ended).await;
    }
    events.inbox.end().await.expect_err("the word to come back elsewhere");
    drop(peer);
    assert_eq!(house.queues[0].ended(DEADLINE).await.code(), Some(0));
    house.nobody_is_lost(10).await;
}

/// What a queue tells somebody who is attached to it.
async fn attached(queue: &Process) -> Inbox<attach_response::Message> {
    let mut client = QueueServiceClient::new(connect(&queue.url()).await);
    let hello = Hello { role: hello::Role::Intake.into(), replica: "onlooker".to_owned() };
    let hello = AttachRequest { message: Some(attach_request::Message::Hello(hello)), ..AttachRequest::default() };
    let stream = client.attach(once(hello).chain(pending())).await.expect("a stream").into_inner();
    let mut inbox = Inbox::new("onlooker", |inbox| async move {
        let mut stream = stream;
        while let Some(Ok(response)) = stream.next().await {
            if response.message.is_some_and(|message| inbox.send(Ok(message)).is_err()) {
                return;
            }
        }
    });
    inbox.until("welcome", |message| matches!(message, attach_response::Message::Welcome(_)).then_some(())).await;
    inbox
}

#[tokio::test]
async fn a_request_that_is_under_way_when_intake_is_asked_to_stop_is_answered() {
    let mut house = Deployment::usual().await;
    let mut visitor = house.visitor().await;
    let redis = house.redis().pid();
    send_signal(redis, "STOP");
    let asking = tokio::spawn(async move { visitor.try_ask().await });
    sleep(Duration::from_millis(500)).await; // on its way

    house.intakes[0].signal("TERM");
    house.intakes[0].logged("draining").await;
    send_signal(redis, "CONT");

    asking.await.expect("no panic").expect("a chat");
    assert_eq!(house.intakes[0].ended(DEADLINE).await.code(), Some(0));
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn an_accept_that_is_under_way_when_dispatch_is_asked_to_stop_is_answered() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let offer = ana.offer().await;
    let redis = house.redis().pid();
    send_signal(redis, "STOP");
    let accepting = ana.begin(accept(&offer, "come in"));
    sleep(Duration::from_millis(500)).await; // on its way

    house.dispatches[0].signal("TERM");
    ana.drain().await;
    send_signal(redis, "CONT");

    let chat = ana.result(accepting).await.assignment.expect("an assignment");
    assert_eq!(visitor.until(ChatState::Active).await.reply_handoff, b"come in");
    assert_eq!(house.dispatches[0].ended(DEADLINE).await.code(), Some(0));
    ana.goes_to(&house.dispatches[1].url());
    ana.sign_in().await;
    assert_eq!(ana.assignment().await.fence, chat.fence);
}

#[tokio::test]
async fn a_second_signal_ends_a_process_at_once() {
    let mut house = Deployment::usual().await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;

    for process in [&mut house.intakes[0], &mut house.dispatches[0], &mut house.queues[0]] {
        process.signal("TERM");
        process.logged("draining").await;
        process.signal("TERM");
        assert_eq!(process.ended(Duration::from_secs(3)).await.code(), Some(0), "{}", process.name);
    }
}
