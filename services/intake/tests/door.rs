//! The visitors' door as visitors see it, with a real queue behind it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what tests share fails as tests do")]

#[path = "../../link/tests/shared/world.rs"]
mod world;

use std::time::Duration;

use holdfast_intake::{Bound, Config, RunError};
use holdfast_proto::v1::{
    Chat, ChatKey, ChatState, ChatUpdate, Drain, EraseChatRequest, GetFallbackRequest, GetFallbackResponse,
    LeaveChatRequest, RequestChatRequest, RequestChatResponse, ResumeChatRequest, UpdateChatRequest, Urgency,
    WatchChatRequest, WatchChatResponse, intake_service_client::IntakeServiceClient, watch_chat_response::Message,
};
use prost::Message as _;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::{StatusExt, pb};
use world::{
    MANY, Proxy, Running, Settings, are_spread, context, empty_line, owned, policy, queue, queue_on, socket, soon,
};

type Visitor = IntakeServiceClient<Channel>;

/// Intake in front of these queue addresses.
async fn intake(queues: &[&str], settings: Settings<'_>) -> (Running, Visitor) {
    let (grpc, address) = socket().await;
    let mut all = owned(&[
        ("security.insecure_no_authentication", "true"),
        ("security.insecure_no_tls", "true"),
        ("security.insecure_random_token_key", "true"),
        ("server.drain_wait_ms", "0"),
        ("server.drain_deadline_ms", "2000"),
        ("queue.reconnect_within_ms", "50"),
        ("visitors.place_every_ms", "50"),
        ("visitors.reconnect_within_ms", "1000"),
    ]);
    all.extend(owned(settings));
    let mut config = Config::load(None, &all).unwrap();
    config.queue.addresses = queues.iter().map(|q| (*q).to_owned()).collect();
    let context = context();
    let own = context.clone();
    let bound = Bound { grpc, admin: None };
    let ended = tokio::spawn(async move { holdfast_intake::run(config, bound, &own).await.unwrap() });
    let channel = Channel::from_shared(address.clone()).unwrap().connect_lazy();
    (Running { address, context, ended }, IntakeServiceClient::new(channel))
}

fn request(id: &str) -> RequestChatRequest {
    RequestChatRequest { helpline: "demo".to_owned(), request_id: id.to_owned(), ..RequestChatRequest::default() }
}

async fn ask(visitor: &mut Visitor, id: &str) -> RequestChatResponse {
    soon("a chat", visitor.request_chat(request(id))).await.unwrap().into_inner()
}

fn key(accepted: &RequestChatResponse) -> Option<ChatKey> {
    Some(ChatKey {
        helpline: "demo".to_owned(),
        chat_id: accepted.chat.as_ref().unwrap().chat_id.clone(),
        visitor_token: accepted.visitor_token.clone(),
    })
}

async fn watch(visitor: &mut Visitor, accepted: &RequestChatResponse) -> Streaming<WatchChatResponse> {
    let request = WatchChatRequest { key: key(accepted), locale: String::new(), ticket: Vec::new() };
    soon("a stream", visitor.watch_chat(request)).await.unwrap().into_inner()
}

async fn update(stream: &mut Streaming<WatchChatResponse>) -> ChatUpdate {
    match soon("an update", stream.message()).await.unwrap().unwrap().message.unwrap() {
        Message::Update(update) => update,
        Message::Drain(drain) => panic!("{drain:?}"),
    }
}

/// The word to go elsewhere, past whatever else is said.
async fn drain(stream: &mut Streaming<WatchChatResponse>) -> Drain {
    loop {
        if let Message::Drain(drain) = soon("a drain", stream.message()).await.unwrap().unwrap().message.unwrap() {
            return drain;
        }
    }
}

/// The first update for which `is` holds.
async fn until(stream: &mut Streaming<WatchChatResponse>, is: impl Fn(&Chat) -> bool) -> ChatUpdate {
    loop {
        let update = update(stream).await;
        if is(update.chat.as_ref().unwrap()) {
            return update;
        }
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

fn fallback(status: &Status) -> GetFallbackResponse {
    let said = pb::Status::decode(status.details()).unwrap();
    let any = said.details.iter().find(|d| d.type_url.ends_with("holdfast.v1.GetFallbackResponse")).unwrap();
    GetFallbackResponse::decode(any.value.as_slice()).unwrap()
}

#[tokio::test]
async fn a_repeat_gets_the_same_chat_and_token_and_another_body_is_a_conflict() {
    let queue = queue(empty_line().await, policy("")).await;
    let (_intake, mut visitor) = intake(&[&queue.address], &[]).await;
    let first = ask(&mut visitor, "r-1").await;

    let again = ask(&mut visitor, "r-1").await;
    let conflict = RequestChatRequest { urgency: Urgency::High.into(), ..request("r-1") };
    let refused = visitor.request_chat(conflict).await.unwrap_err();

    assert!(again.replayed && !first.replayed);
    assert_eq!(again.chat.unwrap().chat_id, first.chat.as_ref().unwrap().chat_id);
    assert_eq!(again.visitor_token, first.visitor_token);
    assert_eq!(first.resources.len(), 1);
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(fallback(&refused).resources.len(), 1);
}

#[tokio::test]
async fn another_replica_repeats_the_same_token_when_both_have_the_key() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0123456789abcdef0123456789abcdef\n").unwrap();
    let path = file.path().display().to_string();
    let settings: Settings<'_> =
        &[("security.insecure_random_token_key", "false"), ("security.visitor_token_key_file", &path)];
    let queue = queue(empty_line().await, policy("")).await;
    let (_one, mut visitor) = intake(&[&queue.address], settings).await;
    let (_other, mut elsewhere) = intake(&[&queue.address], settings).await;

    let first = ask(&mut visitor, "r-1").await;
    let again = ask(&mut elsewhere, "r-1").await;

    assert_eq!(first.visitor_token, again.visitor_token);
}

#[tokio::test]
async fn with_the_queue_down_a_refusal_says_at_once_where_else_to_turn() {
    let files = policy("");
    let dir = files.path().display().to_string();
    let (gone, address) = socket().await;
    drop(gone);
    let (_intake, mut visitor) =
        intake(&[&address], &[("policy.dir", &dir), ("queue.attach_patience_ms", "0")]).await;

    let refused = soon("an answer", visitor.request_chat(request("r-1"))).await.unwrap_err();
    let asked =
        GetFallbackRequest { helpline: "demo".to_owned(), locale: "es-MX".to_owned(), region: String::new() };
    let resources = visitor.get_fallback(asked).await.unwrap().into_inner().resources;

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "QUEUE_UNREACHABLE"));
    assert_eq!(fallback(&refused).resources, resources);
    assert_eq!(resources[0].title, "A vetted service");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test]
async fn a_wrong_field_is_named_and_where_else_to_turn_is_said() {
    let queue = queue(empty_line().await, policy("")).await;
    let (_intake, mut visitor) = intake(&[&queue.address], &[]).await;
    let tag = holdfast_proto::v1::Tag { name: "lang:xx".to_owned(), level: 1 };
    let step = holdfast_proto::v1::RoutingStep {
        after: None,
        any_of: vec![holdfast_proto::v1::Alternative { all_of: vec![tag] }],
    };

    let urgency = visitor.request_chat(RequestChatRequest { urgency: 99, ..request("r-1") }).await.unwrap_err();
    let unknown_tag = RequestChatRequest { routing_steps: vec![step], ..request("r-2") };
    let tag = visitor.request_chat(unknown_tag).await.unwrap_err();

    let field = |status: &Status| status.get_details_bad_request().unwrap().field_violations[0].field.clone();
    assert_eq!((urgency.code(), field(&urgency).as_str()), (Code::InvalidArgument, "urgency"));
    assert_eq!(fallback(&urgency).resources.len(), 1);
    assert_eq!(tag.code(), Code::InvalidArgument);
    assert!(field(&tag).starts_with("routing_steps[0].any_of[0].all_of[0]"), "{}", field(&tag));
}

#[tokio::test]
async fn a_wrong_token_a_malformed_one_and_an_unknown_chat_look_the_same() {
    let queue = queue(empty_line().await, policy("")).await;
    let (_intake, mut visitor) = intake(&[&queue.address], &[]).await;
    let (mine, other) = (ask(&mut visitor, "r-1").await, ask(&mut visitor, "r-2").await);
    let right = key(&mine).unwrap();
    let wrong = ChatKey { visitor_token: other.visitor_token.clone(), ..right.clone() };
    let malformed = ChatKey { visitor_token: "x".to_owned(), ..right.clone() };
    let unknown = ChatKey { chat_id: "nobody".to_owned(), ..right };

    let mut seen = Vec::new();
    for key in [wrong, malformed, unknown] {
        let leave = LeaveChatRequest { key: Some(key.clone()), fallback_accepted: false };
        seen.push(visitor.leave_chat(leave).await.unwrap_err());
        let watch = WatchChatRequest { key: Some(key), locale: String::new(), ticket: Vec::new() };
        seen.push(visitor.watch_chat(watch).await.unwrap_err());
    }

    for status in &seen {
        assert_eq!((status.code(), reason(status).as_str()), (Code::NotFound, "UNKNOWN_CHAT"));
        assert_eq!((status.message(), status.details()), (seen[0].message(), seen[0].details()));
    }
}

#[tokio::test]
async fn a_visitor_sees_the_chat_at_once_each_change_and_its_end() {
    let queue = queue(empty_line().await, policy("")).await;
    let (_intake, mut visitor) = intake(&[&queue.address], &[]).await;
    let accepted = ask(&mut visitor, "r-1").await;
    let mut stream = watch(&mut visitor, &accepted).await;
    assert_eq!(update(&mut stream).await.chat.unwrap().place, 1);

    let urgent = UpdateChatRequest {
        key: key(&accepted),
        urgency: Urgency::High.into(),
        answers: Vec::new(),
        ticket: Vec::new(),
    };
    visitor.update_chat(urgent).await.unwrap();
    until(&mut stream, |chat| chat.urgency() == Urgency::High).await;
    let leave = LeaveChatRequest { key: key(&accepted), fallback_accepted: true };
    visitor.leave_chat(leave).await.unwrap();

    let last = until(&mut stream, |chat| chat.state() == ChatState::Ended).await;
    assert_eq!(last.resources.len(), 1);
    assert!(soon("the end", stream.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_visitor_learns_of_a_new_place_when_others_leave() {
    let queue = queue(empty_line().await, policy("")).await;
    let (_intake, mut visitor) = intake(&[&queue.address], &[]).await;
    let first = ask(&mut visitor, "r-1").await;
    let second = ask(&mut visitor, "r-2").await;
    let mut stream = watch(&mut visitor, &second).await;
    assert_eq!(update(&mut stream).await.chat.unwrap().place, 2);

    visitor.leave_chat(LeaveChatRequest { key: key(&first), fallback_accepted: false }).await.unwrap();

    until(&mut stream, |chat| chat.place == 1).await;
}

#[tokio::test]
async fn the_open_stream_is_the_proof_of_presence() {
    let numbers = "away_after_ms = 1500\nabandon_after_ms = 600000";
    let queue = queue(empty_line().await, policy(numbers)).await;
    let (_intake, mut visitor) = intake(&[&queue.address], &[("visitors.beat_every_ms", "50")]).await;
    let (watched, unwatched) = (ask(&mut visitor, "r-1").await, ask(&mut visitor, "r-2").await);
    let mut stream = watch(&mut visitor, &watched).await;
    assert_eq!(update(&mut stream).await.chat.unwrap().place, 1);

    // The one who does not watch is away after a while, and back as soon as they watch.
    let mut at_last = loop {
        let mut stream = watch(&mut visitor, &unwatched).await;
        let chat = update(&mut stream).await.chat.unwrap();
        if chat.away {
            break stream;
        }
        drop(stream);
        tokio::time::sleep(Duration::from_millis(1800)).await; // longer than away_after
    };
    until(&mut at_last, |chat| !chat.away).await;

    visitor.leave_chat(LeaveChatRequest { key: key(&watched), fallback_accepted: false }).await.unwrap();
    let last = until(&mut stream, |chat| chat.away || chat.state() == ChatState::Ended).await;
    assert!(!last.chat.unwrap().away, "who watched was never away");
}

#[tokio::test]
async fn an_abandoned_chat_comes_back_to_its_visitor() {
    let numbers = "away_after_ms = 100\nabandon_after_ms = 100";
    let queue = queue(empty_line().await, policy(numbers)).await;
    let (_intake, mut visitor) = intake(&[&queue.address], &[]).await;
    let accepted = ask(&mut visitor, "r-1").await;
    // The first look is a look only: it brings nobody back.
    loop {
        let mut stream = watch(&mut visitor, &accepted).await;
        if update(&mut stream).await.chat.unwrap().state() == ChatState::Ended {
            break;
        }
        drop(stream);
        tokio::time::sleep(Duration::from_millis(250)).await; // longer than both together
    }

    let resume = ResumeChatRequest { key: key(&accepted), locale: String::new(), ticket: Vec::new() };
    let back = visitor.resume_chat(resume).await.unwrap().into_inner();

    assert_eq!(back.chat.unwrap().state(), ChatState::Waiting);
    assert_eq!(back.resources.len(), 1);
}

#[tokio::test]
async fn an_erased_chat_is_over() {
    let queue = queue(empty_line().await, policy("")).await;
    let (_intake, mut visitor) = intake(&[&queue.address], &[]).await;
    let accepted = ask(&mut visitor, "r-1").await;
    let erased = visitor.erase_chat(EraseChatRequest { key: key(&accepted) }).await.unwrap().into_inner();
    assert_eq!(erased.chat.unwrap().state(), ChatState::Ended);
}

#[tokio::test]
async fn a_stream_outlives_the_loss_of_its_way_to_the_queue() {
    let queue = queue(empty_line().await, policy("")).await;
    let proxy = Proxy::to(&queue.address).await;
    let (_intake, mut visitor) = intake(&[&proxy.address], &[]).await;
    let accepted = ask(&mut visitor, "r-1").await;
    let mut stream = watch(&mut visitor, &accepted).await;
    update(&mut stream).await;

    proxy.cut();
    visitor.leave_chat(LeaveChatRequest { key: key(&accepted), fallback_accepted: false }).await.unwrap();

    until(&mut stream, |chat| chat.state() == ChatState::Ended).await;
}

#[tokio::test]
async fn a_lost_notice_is_made_good_by_the_next_sign_of_presence() {
    let queue = queue(empty_line().await, policy("")).await;
    let proxy = Proxy::to(&queue.address).await;
    let (_intake, mut visitor) = intake(&[&proxy.address], &[("visitors.beat_every_ms", "100")]).await;
    let accepted = ask(&mut visitor, "r-1").await;
    let mut stream = watch(&mut visitor, &accepted).await;
    update(&mut stream).await;

    proxy.lose_notices(true);
    let urgent = UpdateChatRequest {
        key: key(&accepted),
        urgency: Urgency::Imminent.into(),
        answers: Vec::new(),
        ticket: Vec::new(),
    };
    visitor.update_chat(urgent).await.unwrap();

    until(&mut stream, |chat| chat.urgency() == Urgency::Imminent).await;
}

#[tokio::test]
async fn in_the_drain_every_visitor_is_told_to_reconnect_and_not_all_at_once() {
    let queue = queue(empty_line().await, policy("")).await;
    let (intake, mut visitor) = intake(&[&queue.address], &[]).await;
    let mut streams = Vec::new();
    for n in 0..MANY {
        let accepted = ask(&mut visitor, &format!("r-{n}")).await;
        let mut stream = watch(&mut visitor, &accepted).await;
        update(&mut stream).await;
        streams.push(stream);
    }

    intake.context.stop.trigger();

    let mut times = Vec::new();
    for mut stream in streams {
        times.push(drain(&mut stream).await.reconnect_after.unwrap().try_into().unwrap());
        assert!(soon("the end", stream.message()).await.unwrap().is_none());
    }
    are_spread(&times, Duration::from_secs(1));
    drop(visitor);
    soon("the end of intake", intake.ended).await.unwrap();
}

#[tokio::test]
async fn health_says_whether_new_chats_are_accepted() {
    let (grpc, address) = socket().await;
    let (intake, _visitor) = intake(&[&address], &[]).await;
    let channel = Channel::from_shared(intake.address.clone()).unwrap().connect_lazy();
    let request = HealthCheckRequest { service: holdfast_intake::ACCEPTING.to_owned() };
    let mut health = HealthClient::new(channel).watch(request).await.unwrap().into_inner();
    let mut says = async |wanted: ServingStatus| {
        while soon("health", health.message()).await.unwrap().unwrap().status() != wanted {}
    };
    says(ServingStatus::NotServing).await;

    let queue = queue_on(grpc, address, empty_line().await, policy(""));
    says(ServingStatus::Serving).await;
    queue.drain().await;
    says(ServingStatus::NotServing).await;
    assert!(intake.context.readiness.is_ready(), "out of the endpoints it could tell nobody where else to turn");
}

#[tokio::test]
async fn without_a_word_about_security_it_does_not_start() {
    for (settings, expected) in [
        (&[][..], "security.insecure_no_authentication"),
        (&[("security.insecure_no_authentication", "true")][..], "server.tls.cert_file"),
        (
            &[("security.insecure_no_authentication", "true"), ("security.insecure_no_tls", "true")][..],
            "security.visitor_token_key_file",
        ),
    ] {
        let config = Config::load(None, &owned(settings)).unwrap();
        let (grpc, _) = socket().await;
        let error: RunError =
            holdfast_intake::run(config, Bound { grpc, admin: None }, &context()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn only_so_many_streams_are_open() {
    let queue = queue(empty_line().await, policy("")).await;
    let (_intake, mut visitor) = intake(&[&queue.address], &[("limits.max_watches", "1")]).await;
    let accepted = ask(&mut visitor, "r-1").await;
    let _first = watch(&mut visitor, &accepted).await;

    let request = WatchChatRequest { key: key(&accepted), locale: String::new(), ticket: Vec::new() };
    let refused = visitor.watch_chat(request).await.unwrap_err();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY_STREAMS"));
}
