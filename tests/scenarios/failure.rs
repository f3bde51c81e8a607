//! What breaks, and that nobody is lost by it.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::{
    ChatState, GetFallbackRequest, GetFallbackResponse, Offer, SessionResponse,
    intake_service_client::IntakeServiceClient, session_response,
};
use holdfast_tests::events::Events;
use holdfast_tests::people::{Responder, Visitor, accept, close};
use holdfast_tests::processes::{Deployment, HELPLINE, PATIENCE, connect, numbers, send_signal};
use prost::Message;
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::pb;

/// A pause in which everything that broke is found and gone round.
const SHORT: Duration = Duration::from_millis(2_500);

#[tokio::test]
async fn the_volunteers_of_a_dispatch_that_crashes_go_on_at_another() {
    let mut house = Deployment::with(Numbers { reconnect_grace_ms: 10_000, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.ask.handoff = b"room 7".to_vec();
    visitor.asks().await;
    let before = ana.takes().await;

    house.dispatches[0].kill().await;
    ana.inbox().end().await.expect_err("a broken stream");
    ana.goes_to(&house.dispatches[1].url());
    ana.sign_in().await;

    let after = ana.assignment().await;
    assert_eq!((after.fence, &after.handoff), (before.fence, &before.handoff));
    ana.closes(&after).await;
    visitor.until(ChatState::Ended).await;
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn an_offer_at_a_dispatch_that_crashes_goes_to_another_volunteer_when_the_lease_is_over() {
    let mut house = Deployment::with(Numbers { presence_lease_ms: 1_500, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    ana.offer().await;
    let mut ben = house.stranger("ben").await;
    ben.goes_to(&house.dispatches[1].url());
    ben.sign_in().await;

    house.dispatches[0].kill().await;

    assert_eq!(ben.takes().await.chat_id, visitor.chat_id());
}

#[tokio::test]
async fn a_queue_that_crashes_under_load_delays_chats_by_seconds_at_most_and_loses_none() {
    let mut house = Deployment::with(Numbers { wrap_up_ms: [0; 4], ..numbers() }).await;
    let (done, mut finished) = mpsc::unbounded_channel();
    let mut volunteers = Vec::new();
    for n in 0..6 {
        let mut volunteer = house.stranger(&format!("volunteer-{n}")).await;
        volunteer.goes_to(&house.dispatches[n % 2].url());
        volunteer.sign_in().await;
        volunteers.push(works(volunteer, done.clone()));
    }
    let asking = keep_asking(&house, 4, Duration::from_secs(4)).await;

    sleep(Duration::from_secs(1)).await; // the load before the crash
    house.queues[0].kill().await;
    let (mut answered, mut last, mut longest) = (HashSet::new(), Instant::now(), Duration::ZERO);
    let mut asked = HashSet::new();
    for visitor in asking {
        asked.extend(visitor.await.expect("no panic"));
    }
    while answered.len() < asked.len() {
        let (chat, at): (String, Instant) =
            timeout(PATIENCE, finished.recv()).await.expect("the next chat in time").expect("volunteers");
        longest = longest.max(at.saturating_duration_since(last));
        last = at.max(last);
        answered.insert(chat);
    }

    assert_eq!(answered, asked);
    assert!(asked.len() > 20, "little load: {}", asked.len());
    assert!(longest < SHORT, "nobody was answered for {longest:?}");
    house.nobody_is_lost(asked.len() as u64).await;
}

#[tokio::test]
async fn a_queue_that_crashes_and_comes_back_serves_again() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let chat = ana.takes().await;

    house.queues[0].kill().await;
    house.queues[1].kill().await;
    house.queues[0].start_again().await;
    house.intakes[0].ready().await;

    let closed = until_done(&mut ana, || close(&chat)).await;
    assert_eq!(closed.code, 0, "{closed:?}");
    visitor.until(ChatState::Ended).await;
    let mut next = house.visitor().await;
    asks_until_heard(&mut next).await;
    assert_eq!(ana.takes().await.chat_id, next.chat_id());
    house.queues.truncate(1);
    house.nobody_is_lost(2).await;
}

#[tokio::test]
async fn a_queue_that_freezes_is_gone_round() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;

    house.queues[0].signal("STOP");
    let mut times = Vec::new();
    for _ in 0..6 {
        let (began, mut visitor) = (Instant::now(), house.visitor().await);
        asks_until_heard(&mut visitor).await;
        let offer = ana.offer().await;
        let accepted = until_done(&mut ana, || accept(&offer, "")).await;
        let chat = accepted.assignment.expect("an assignment");
        assert_eq!(until_done(&mut ana, || close(&chat)).await.code, 0);
        times.push(began.elapsed());
    }
    house.queues[0].signal("CONT");

    assert!(times.iter().all(|took| *took < Duration::from_secs(6)), "they took {times:?}");
    house.nobody_is_lost(6).await;
}

#[tokio::test]
async fn the_visitors_of_an_intake_that_crashes_resume_with_their_token_at_the_old_place() {
    let mut house = Deployment::usual().await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    second.asks().await;
    second.until_chat("place 2", |chat| chat.place == 2).await;

    house.intakes[0].kill().await;
    first.inbox().end().await.expect_err("a broken stream");
    house.intakes[0].start_again().await;
    let mut second = second.elsewhere(&house.intakes[0].url()).await;
    let resumed = second.resumes().await;

    assert_eq!((resumed.state(), resumed.place), (ChatState::Waiting, 2));
    second.watch().await;
    let mut first = first.elsewhere(&house.intakes[0].url()).await;
    let again = first.try_ask().await.expect("the same chat");
    assert!(again.replayed, "the same request is the same chat, also at another process");
    first.watch().await;
    first.until_chat("place 1", |chat| chat.place == 1).await;
    house.nobody_is_lost(2).await;
}

#[tokio::test]
async fn a_redis_that_crashes_and_comes_back_has_lost_nothing_that_was_acknowledged() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut talking = house.visitor().await;
    talking.asks().await;
    let chat = ana.takes().await;
    let asking = keep_asking(&house, 4, Duration::from_millis(2_500)).await;
    sleep(Duration::from_millis(700)).await; // chats before the crash

    house.redis().kill();
    sleep(Duration::from_millis(300)).await; // chats that are refused meanwhile
    house.redis().start_again();

    let mut asked = HashSet::from([talking.chat_id().to_owned()]);
    for visitor in asking {
        asked.extend(visitor.await.expect("no panic"));
    }
    let closed = until_done(&mut ana, || close(&chat)).await;
    assert_eq!(closed.code, 0, "{closed:?}");
    let next = ana.takes().await;
    assert!(asked.contains(&next.chat_id));
    talking.until(ChatState::Ended).await;
    house.nobody_is_lost(asked.len() as u64).await;
}

#[tokio::test]
async fn a_redis_that_was_gone_for_longer_than_the_leases_lets_nobody_expire() {
    let short = Numbers { presence_lease_ms: 3_000, away_after_ms: 3_000, ..numbers() };
    let mut house = Deployment::with(short).await;
    let mut ana = house.responder("ana").await;
    let (mut talking, mut waiting) = (house.visitor().await, house.visitor().await);
    talking.asks().await;
    let chat = ana.takes().await;
    waiting.asks().await;

    house.redis().kill();
    sleep(Duration::from_secs(4)).await; // longer than the lease
    house.redis().start_again();

    let back = Instant::now();
    assert_eq!(until_done(&mut ana, || close(&chat)).await.code, 0, "she still has it");
    assert_eq!(ana.takes().await.chat_id, waiting.chat_id());
    assert!(back.elapsed() < Duration::from_secs(4), "the service took {:?} to resume", back.elapsed());
    let mut events = Events::after(&house.queues[0], "").await;
    let mut kinds = HashSet::new();
    while !kinds.contains("wrapped_up") {
        kinds.extend(events.next(1).await.into_iter().map(|event| event.kind));
    }
    let expired = ["returned", "signed_out", "away"].iter().any(|kind| kinds.contains(*kind));
    assert!(!expired, "somebody expired: {kinds:?}");
    house.nobody_is_lost(2).await;
}

#[tokio::test]
async fn while_redis_is_down_visitors_are_told_at_once_where_else_to_turn() {
    let mut house = Deployment::usual().await;
    let mut visitor = house.visitor().await;
    visitor.ask.locale = "es".to_owned();
    assert_eq!(accepting(&house).await, ServingStatus::Serving);
    knows_where_else_to_turn(&house).await;

    house.redis().kill();
    let began = Instant::now();
    let refused = visitor.try_ask().await.expect_err("no chat");

    assert!(began.elapsed() < SHORT, "it took {:?}", began.elapsed());
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert_eq!(resources(&refused), ["Servicio", "Anyone"]);
    assert_eq!(accepting(&house).await, ServingStatus::NotServing);
    assert_eq!(house.intakes[0].get("/readyz").await.status, 200, "it still has something to say");
    house.redis().start_again();
    asks_until_heard(&mut visitor).await;
    assert_eq!(accepting(&house).await, ServingStatus::Serving);
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn while_redis_is_frozen_visitors_are_told_in_time_where_else_to_turn() {
    let mut house = Deployment::usual().await;
    let mut visitor = house.visitor().await;
    let redis = house.redis().pid();
    knows_where_else_to_turn(&house).await;

    send_signal(redis, "STOP");
    let began = Instant::now();
    let refused = visitor.try_ask().await;
    let took = began.elapsed();
    send_signal(redis, "CONT");

    let refused = refused.expect_err("no chat");
    assert!(took < Duration::from_millis(4_500), "it took {took:?}");
    assert!([Code::Unavailable, Code::DeadlineExceeded].contains(&refused.code()), "{refused:?}");
    assert_eq!(resources(&refused), ["Anyone"]);
    asks_until_heard(&mut visitor).await;
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn while_no_queue_lives_visitors_are_told_at_once_where_else_to_turn() {
    let mut house = Deployment::usual().await;
    let mut visitor = house.visitor().await;
    knows_where_else_to_turn(&house).await;
    house.queues[0].kill().await;
    house.queues[1].kill().await;

    let began = Instant::now();
    let refused = visitor.try_ask().await.expect_err("no chat");

    assert!(began.elapsed() < SHORT, "it took {:?}", began.elapsed());
    assert_eq!((refused.code(), resources(&refused)), (Code::Unavailable, vec!["Anyone".to_owned()]));
    let mut intake = IntakeServiceClient::new(connect(&house.intakes[0].url()).await);
    let (helpline, locale) = (HELPLINE.to_owned(), "en".to_owned());
    let request = GetFallbackRequest { helpline, locale, ..GetFallbackRequest::default() };
    let fallback = intake.get_fallback(request).await.expect("resources").into_inner();
    assert_eq!(fallback.resources[0].title, "English service");
}

/// Takes every offer, ends the conversation at once, and says which one and when.
fn works(mut volunteer: Responder, done: mpsc::UnboundedSender<(String, Instant)>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let Some(offer) = next_offer(&mut volunteer).await else { return };
            let accepted = until_done(&mut volunteer, || accept(&offer, "")).await;
            let Some(chat) = accepted.assignment else { continue };
            let closed = until_done(&mut volunteer, || close(&chat)).await;
            assert!(closed.code == 0, "{closed:?}");
            if done.send((chat.chat_id, Instant::now())).is_err() {
                return;
            }
        }
    })
}

async fn next_offer(volunteer: &mut Responder) -> Option<Offer> {
    let pick = |response: &SessionResponse| match &response.message {
        Some(session_response::Message::Offer(offer)) => Some(offer.clone()),
        _ => None,
    };
    loop {
        if volunteer.inbox().has_ended() {
            return None;
        }
        if let Some(offer) = volunteer.inbox().take_within(Duration::from_secs(1), pick).await {
            return Some(offer);
        }
    }
}

/// Does something, again while nobody can say what became of it.
pub(crate) async fn until_done(
    volunteer: &mut Responder,
    word: impl Fn() -> holdfast_proto::v1::action::Action,
) -> holdfast_proto::v1::ActionResult {
    let until = Instant::now() + PATIENCE;
    loop {
        let result = volunteer.does(word()).await;
        if !unknown(Code::from_i32(result.code)) || Instant::now() > until {
            return result;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) fn unknown(code: Code) -> bool {
    [Code::Unavailable, Code::DeadlineExceeded].contains(&code)
}

/// Asks, again while nobody can say what became of it.
pub(crate) async fn asks_until_heard(visitor: &mut Visitor) {
    let until = Instant::now() + PATIENCE;
    loop {
        match visitor.try_ask().await {
            Ok(_) => return,
            Err(status) if unknown(status.code()) && Instant::now() < until => {
                sleep(Duration::from_millis(100)).await;
            }
            Err(status) => panic!("not heard: {status:?}"),
        }
    }
}

/// So many devices ask for one chat after another, for a time; each ends with the names of its chats.
async fn keep_asking(house: &Deployment, devices: usize, lasting: Duration) -> Vec<JoinHandle<Vec<String>>> {
    let mut asking = Vec::new();
    for device in 0..devices {
        let mut visitor = house.visitor().await;
        asking.push(tokio::spawn(async move {
            let (began, base) = (Instant::now(), visitor.ask.request_id.clone());
            let mut chats = Vec::new();
            for n in 0.. {
                if began.elapsed() > lasting {
                    break;
                }
                visitor.ask.request_id = format!("{base}-{device}-{n}");
                asks_until_heard(&mut visitor).await;
                chats.push(visitor.chat_id().to_owned());
                sleep(Duration::from_millis(40)).await; // between two visitors
            }
            chats
        }));
    }
    asking
}

/// An intake without policies of its own shows what the queue told it before: here it has.
async fn knows_where_else_to_turn(house: &Deployment) {
    let mut intake = IntakeServiceClient::new(connect(&house.intakes[0].url()).await);
    let request = GetFallbackRequest { helpline: HELPLINE.to_owned(), ..GetFallbackRequest::default() };
    intake.get_fallback(request).await.expect("resources");
}

/// What intake's health says about new chats.
pub(crate) async fn accepting(house: &Deployment) -> ServingStatus {
    let mut health = HealthClient::new(connect(&house.intakes[0].url()).await);
    let request = HealthCheckRequest { service: "holdfast.intake.accepting".to_owned() };
    health.check(request).await.expect("health").into_inner().status()
}

/// Where else to turn, as a refusal says.
pub(crate) fn resources(refused: &Status) -> Vec<String> {
    let details = pb::Status::decode(refused.details()).expect("details").details;
    let fallback = details.iter().find(|any| any.type_url.ends_with("holdfast.v1.GetFallbackResponse"));
    let fallback = fallback.unwrap_or_else(|| panic!("no resources in {refused:?}"));
    let fallback = GetFallbackResponse::decode(fallback.value.as_slice()).expect("resources");
    fallback.resources.into_iter().map(|resource| resource.title).collect()
}
