//! The responders' door as responders and visitors see it, with a real queue and intake.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what tests share fails as tests do"
)]

#[path = "floor/supervision.rs"]
mod supervision;
#[path = "../../link/tests/shared/world.rs"]
mod world;

use std::time::Duration;

use holdfast_dispatch::{Bound, Config};
use holdfast_proto::v1::{
    self, Accept, ActRequest, Action, ActionResult, Assignment, ChatKey, ChatOutcome, ChatState, Close, Decline,
    Drain, Heartbeat, LeaveChatRequest, Offer, RequestChatRequest, RequestChatResponse, ResponderStatus,
    SessionRequest, SessionResponse, SetStatus, SignIn, SignOut, SignedIn, WatchChatRequest, WatchRequest, action,
    dispatch_service_client::DispatchServiceClient, intake_service_client::IntakeServiceClient, session_request,
    session_response::Message, watch_chat_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;
use world::{MANY, Proxy, Running, Settings, are_spread, context, empty_line, owned, policy, queue, socket, soon};

/// `reconnect_within_ms` of sessions, as it comes.
const RECONNECT_WITHIN: Duration = Duration::from_millis(1500);

type Door = DispatchServiceClient<Channel>;
type Visitors = IntakeServiceClient<Channel>;

async fn dispatch(queue: &str, settings: Settings<'_>) -> (Running, Door) {
    let (grpc, address) = socket().await;
    let mut all = owned(&[
        ("security.insecure_no_authentication", "true"),
        ("security.insecure_no_tls", "true"),
        ("server.drain_wait_ms", "0"),
        ("server.drain_deadline_ms", "2000"),
        ("queue.reconnect_within_ms", "50"),
    ]);
    all.extend(owned(settings));
    let mut config = Config::load(None, &all).unwrap();
    config.queue.addresses = vec![queue.to_owned()];
    let context = context();
    let own = context.clone();
    let bound = Bound { grpc, admin: None };
    let ended = tokio::spawn(async move { holdfast_dispatch::run(config, bound, &own).await.unwrap() });
    let channel = Channel::from_shared(address.clone()).unwrap().connect_lazy();
    (Running { address, context, ended }, Door::new(channel))
}

async fn intake(queue: &str) -> (Running, Visitors) {
    let (grpc, address) = socket().await;
    let settings = owned(&[
        ("security.insecure_no_authentication", "true"),
        ("security.insecure_no_tls", "true"),
        ("security.insecure_random_token_key", "true"),
        ("server.drain_deadline_ms", "500"),
    ]);
    let mut config = holdfast_intake::Config::load(None, &settings).unwrap();
    config.queue.addresses = vec![queue.to_owned()];
    let context = context();
    let own = context.clone();
    let bound = holdfast_intake::Bound { grpc, admin: None };
    let ended = tokio::spawn(async move { holdfast_intake::run(config, bound, &own).await.unwrap() });
    let channel = Channel::from_shared(address.clone()).unwrap().connect_lazy();
    (Running { address, context, ended }, Visitors::new(channel))
}

/// Everything at once: a queue, and both doors in front of it.
struct Floor {
    queue: Running,
    dispatch: Running,
    door: Door,
    _intake: Running,
    visitors: Visitors,
}

async fn floor() -> Floor {
    floor_with("wrap_up_ms = [0, 0, 0, 0]\ncool_down_ms = [0, 0, 0, 0]").await
}

async fn floor_with(numbers: &str) -> Floor {
    let queue = queue(empty_line().await, policy(numbers)).await;
    let (dispatch, door) = dispatch(&queue.address, &[]).await;
    let (intake, visitors) = intake(&queue.address).await;
    Floor { queue, dispatch, door, _intake: intake, visitors }
}

async fn ask(visitors: &mut Visitors, id: &str) -> RequestChatResponse {
    let request = RequestChatRequest {
        helpline: "demo".to_owned(),
        request_id: id.to_owned(),
        handoff: b"for the responder".to_vec(),
        ..RequestChatRequest::default()
    };
    soon("a chat", visitors.request_chat(request)).await.unwrap().into_inner()
}

fn key(accepted: &RequestChatResponse) -> Option<ChatKey> {
    Some(ChatKey {
        helpline: "demo".to_owned(),
        chat_id: accepted.chat.as_ref().unwrap().chat_id.clone(),
        visitor_token: accepted.visitor_token.clone(),
    })
}

fn chat_id(accepted: &RequestChatResponse) -> String {
    accepted.chat.as_ref().unwrap().chat_id.clone()
}

fn sign_in(who: &str) -> SignIn {
    SignIn {
        helpline: "demo".to_owned(),
        responder_id: who.to_owned(),
        capacity: 4,
        ready: true,
        ..SignIn::default()
    }
}

/// A responder with a session over one stream.
struct Responder {
    requests: mpsc::Sender<SessionRequest>,
    messages: Streaming<SessionResponse>,
    last: u64,
}

impl Responder {
    async fn open(door: &mut Door, first: session_request::Message) -> Self {
        let (requests, outgoing) = mpsc::channel(16);
        requests.send(SessionRequest { request_number: 0, message: Some(first) }).await.unwrap();
        let messages = soon("a session", door.session(ReceiverStream::new(outgoing))).await.unwrap().into_inner();
        Self { requests, messages, last: 0 }
    }

    /// Signed in and ready.
    async fn ready(door: &mut Door, who: &str) -> (Self, SignedIn) {
        let mut responder = Self::open(door, session_request::Message::SignIn(sign_in(who))).await;
        let Message::SignedIn(signed_in) = responder.next().await else { panic!("not signed in") };
        (responder, signed_in)
    }

    async fn message(&mut self) -> Result<Option<SessionResponse>, Status> {
        soon("a message", self.messages.message()).await
    }

    async fn next(&mut self) -> Message {
        self.message().await.unwrap().expect("the stream ended").message.unwrap()
    }

    /// The first message that `pick` takes.
    async fn until<T>(&mut self, pick: impl Fn(Message) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(self.next().await) {
                return picked;
            }
        }
    }

    async fn offer(&mut self) -> Offer {
        self.until(|m| if let Message::Offer(offer) = m { Some(offer) } else { None }).await
    }

    async fn assignment(&mut self) -> Assignment {
        self.until(|m| if let Message::Assignment(a) = m { Some(a) } else { None }).await
    }

    async fn drain(&mut self) -> Drain {
        self.until(|m| if let Message::Drain(drain) = m { Some(drain) } else { None }).await
    }

    async fn send(&mut self, action: action::Action) -> u64 {
        self.last += 1;
        let message = Some(session_request::Message::Action(Action { action: Some(action) }));
        self.requests.send(SessionRequest { request_number: self.last, message }).await.unwrap();
        self.last
    }

    async fn act(&mut self, action: action::Action) -> ActionResult {
        let number = self.send(action).await;
        let result = self.until(|m| if let Message::Result(result) = m { Some(result) } else { None }).await;
        assert_eq!(result.request_number, number);
        result
    }

    async fn ends(&mut self) {
        while self.message().await.unwrap().is_some() {}
    }
}

fn accept(offer: &Offer) -> action::Action {
    action::Action::Accept(Accept {
        chat_id: offer.chat_id.clone(),
        offer_number: offer.offer_number,
        reply_handoff: b"for the visitor".to_vec(),
    })
}

fn close(assignment: &Assignment) -> action::Action {
    action::Action::Close(Close { chat_id: assignment.chat_id.clone(), fence: assignment.fence })
}

fn heartbeat() -> action::Action {
    action::Action::Heartbeat(Heartbeat {})
}

#[tokio::test]
async fn a_chat_goes_from_the_request_to_the_hand_over_and_its_end() {
    let mut floor = floor().await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    let watch = WatchChatRequest { key: key(&chat), locale: String::new(), ticket: Vec::new() };
    let mut visitor = floor.visitors.watch_chat(watch).await.unwrap().into_inner();
    let mut sees = async |state: ChatState| loop {
        let message = soon("an update", visitor.message()).await.unwrap().unwrap().message.unwrap();
        let watch_chat_response::Message::Update(update) = message else { panic!("{message:?}") };
        if update.chat.as_ref().unwrap().state() == state {
            return update;
        }
    };
    let (mut ana, signed_in) = Responder::ready(&mut floor.door, "ana").await;
    assert_eq!(signed_in.status(), ResponderStatus::Ready);
    assert_eq!(signed_in.heartbeat_every.unwrap().seconds, 3);

    let offer = ana.offer().await;
    assert_eq!(offer.chat_id, chat_id(&chat));
    assert!(offer.waited.is_some() && offer.remaining.unwrap().seconds > 10);
    let accepted = ana.act(accept(&offer)).await;
    assert_eq!(accepted.assignment.as_ref().unwrap().handoff, b"for the responder");
    let assignment = ana.assignment().await;
    assert_eq!(accepted.assignment.unwrap(), assignment);
    assert_eq!(sees(ChatState::Active).await.reply_handoff, b"for the visitor");

    assert_eq!(ana.act(close(&assignment)).await.code, 0);
    let ended = ana.until(|m| if let Message::AssignmentEnded(e) = m { Some(e) } else { None }).await;
    assert_eq!((ended.outcome(), ended.reason.as_str()), (ChatOutcome::Completed, "asked"));
    assert_eq!(sees(ChatState::Ended).await.chat.unwrap().outcome(), ChatOutcome::Completed);
}

#[tokio::test]
async fn a_lost_notice_costs_at_most_one_heartbeat() {
    let queue = queue(empty_line().await, policy("")).await;
    let proxy = Proxy::to(&queue.address).await;
    let (_dispatch, mut door) = dispatch(&proxy.address, &[]).await;
    let (_intake, mut visitors) = intake(&queue.address).await;
    let (mut ana, _) = Responder::ready(&mut door, "ana").await;
    ana.act(heartbeat()).await;
    proxy.lose_notices(true);

    let chat = ask(&mut visitors, "r-1").await;
    ana.send(heartbeat()).await;
    let offer = ana.offer().await;
    assert_eq!(offer.chat_id, chat_id(&chat));

    let leave = LeaveChatRequest { key: key(&chat), fallback_accepted: false };
    visitors.leave_chat(leave).await.unwrap();
    ana.send(heartbeat()).await;
    let rescinded = ana.until(|m| if let Message::Rescinded(r) = m { Some(r) } else { None }).await;
    assert_eq!((rescinded.chat_id, rescinded.offer_number), (offer.chat_id, offer.offer_number));
}

#[tokio::test]
async fn sessions_outlive_the_loss_of_the_way_to_the_queue() {
    let queue = queue(empty_line().await, policy("")).await;
    let proxy = Proxy::to(&queue.address).await;
    let (_dispatch, mut door) = dispatch(&proxy.address, &[]).await;
    let (_intake, mut visitors) = intake(&queue.address).await;
    let (mut ana, _) = Responder::ready(&mut door, "ana").await;

    proxy.refuse(true);
    proxy.cut();
    let chat = ask(&mut visitors, "r-1").await;
    proxy.refuse(false);

    assert_eq!(ana.offer().await.chat_id, chat_id(&chat)); // attached again, it looked again
    assert_eq!(ana.act(heartbeat()).await.code, 0);
}

#[tokio::test]
async fn the_newest_sign_in_replaces_the_one_before() {
    let mut floor = floor().await;
    let (mut first, old) = Responder::ready(&mut floor.door, "ana").await;

    let (mut second, new) = Responder::ready(&mut floor.door, "ana").await;

    assert!(new.session > old.session);
    first.until(|m| matches!(m, Message::Replaced(_)).then_some(())).await;
    first.ends().await;
    assert_eq!(second.act(heartbeat()).await.code, 0);
    let stale = act(&mut floor.door, "ana", old.session, heartbeat()).await.unwrap_err();
    assert_eq!(stale.code(), Code::FailedPrecondition);
    assert_eq!(stale.get_details_error_info().unwrap().reason, "STALE_SESSION");
}

async fn act(door: &mut Door, who: &str, session: u64, action: action::Action) -> Result<ActionResult, Status> {
    let request = ActRequest {
        helpline: "demo".to_owned(),
        responder_id: who.to_owned(),
        session,
        action: Some(Action { action: Some(action) }),
    };
    Ok(soon("an answer", door.act(request)).await?.into_inner().result.unwrap())
}

#[tokio::test]
async fn a_broken_stream_passes_its_offers_on_at_once() {
    let mut floor = floor_with("offer_deadline_ms = 600000").await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    assert_eq!(ana.offer().await.chat_id, chat_id(&chat));
    let (mut ben, _) = Responder::ready(&mut floor.door, "ben").await;

    drop(ana);

    assert_eq!(ben.offer().await.chat_id, chat_id(&chat));
}

#[tokio::test]
async fn whoever_does_not_read_is_let_go_and_their_offers_go_on() {
    let mut floor = floor_with("offer_deadline_ms = 600000").await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    ana.offer().await;
    let (mut ben, _) = Responder::ready(&mut floor.door, "ben").await;

    // Each is answered with a refusal, until the connection holds no more.
    let wrong = Action { action: Some(action::Action::SetStatus(SetStatus { status: 0 })) };
    let wrong = SessionRequest { request_number: 1, message: Some(session_request::Message::Action(wrong)) };
    let requests = ana.requests.clone();
    let flood = tokio::spawn(async move { while requests.send(wrong.clone()).await.is_ok() {} });

    assert_eq!(ben.offer().await.chat_id, chat_id(&chat));
    flood.abort();
    let status = loop {
        if let Err(status) = ana.message().await {
            break status;
        }
    };
    assert_eq!(status.get_details_error_info().unwrap().reason, "SLOW_READER");
}

#[tokio::test]
async fn in_the_drain_a_responder_finds_elsewhere_what_they_had_here() {
    let mut floor = floor_with("offer_deadline_ms = 600000").await;
    let (_elsewhere, mut other_door) = dispatch(&floor.queue.address, &[]).await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let taken = ask(&mut floor.visitors, "r-1").await;
    let offer = ana.offer().await;
    assert_eq!(ana.act(accept(&offer)).await.code, 0);
    let fence = ana.assignment().await.fence;
    let open = ask(&mut floor.visitors, "r-2").await;
    let offer = ana.offer().await;

    floor.dispatch.context.stop.trigger();
    ana.drain().await;
    ana.ends().await;
    let (mut ana, _) = Responder::ready(&mut other_door, "ana").await;
    let (mut same_offer, mut assignment) = (None, None);
    while same_offer.is_none() || assignment.is_none() {
        match ana.next().await {
            Message::Offer(offer) => same_offer = Some(offer),
            Message::Assignment(held) => assignment = Some(held),
            other => panic!("{other:?}"),
        }
    }

    let same_offer = same_offer.unwrap();
    assert_eq!((same_offer.chat_id, same_offer.offer_number), (chat_id(&open), offer.offer_number));
    let assignment = assignment.unwrap();
    assert_eq!((assignment.chat_id, assignment.fence), (chat_id(&taken), fence));
    assert_eq!(assignment.handoff, b"for the responder");
    drop(floor.door);
    soon("the end of dispatch", floor.dispatch.ended).await.unwrap();
}

#[tokio::test]
async fn in_the_drain_responders_are_not_told_to_come_back_all_at_once() {
    let mut floor = floor().await;
    let mut responders = Vec::new();
    for n in 0..MANY {
        responders.push(Responder::ready(&mut floor.door, &format!("ana-{n}")).await.0);
    }

    floor.dispatch.context.stop.trigger();

    let mut times = Vec::new();
    for responder in &mut responders {
        times.push(responder.drain().await.reconnect_after.unwrap().try_into().unwrap());
    }
    are_spread(&times, RECONNECT_WITHIN);
}

#[tokio::test]
async fn a_browser_watches_and_acts_in_calls() {
    let mut floor = floor().await;
    let watch = WatchRequest { sign_in: Some(sign_in("ana")) };
    let mut stream = floor.door.watch(watch).await.unwrap().into_inner();
    let mut next = async || {
        let response = soon("a message", stream.message()).await.unwrap().unwrap();
        response.message.unwrap().message.unwrap()
    };
    let Message::SignedIn(signed_in) = next().await else { panic!("not signed in") };
    let chat = ask(&mut floor.visitors, "r-1").await;
    let Message::Offer(offer) = next().await else { panic!("not an offer") };
    assert_eq!(offer.chat_id, chat_id(&chat));

    let accepted = act(&mut floor.door, "ana", signed_in.session, accept(&offer)).await.unwrap();
    let Message::Assignment(assignment) = next().await else { panic!("not an assignment") };
    assert_eq!(accepted.assignment.as_ref(), Some(&assignment));
    let gone = Accept { offer_number: 99, chat_id: chat_id(&chat), reply_handoff: Vec::new() };
    let refused = act(&mut floor.door, "ana", signed_in.session, action::Action::Accept(gone)).await.unwrap_err();
    assert_eq!(refused.get_details_error_info().unwrap().reason, "OFFER_GONE");
    act(&mut floor.door, "ana", signed_in.session, close(&assignment)).await.unwrap();
    let Message::AssignmentEnded(ended) = next().await else { panic!("not ended") };
    assert_eq!(ended.chat_id, chat_id(&chat));
    act(&mut floor.door, "ana", signed_in.session, action::Action::SignOut(SignOut {})).await.unwrap();
    while soon("the end", stream.message()).await.unwrap().is_some() {}
}

#[tokio::test]
async fn an_action_through_another_replica_shows_on_the_stream() {
    let mut floor = floor().await;
    let (_elsewhere, mut other_door) = dispatch(&floor.queue.address, &[]).await;
    let (mut ana, signed_in) = Responder::ready(&mut floor.door, "ana").await;
    ask(&mut floor.visitors, "r-1").await;
    let offer = ana.offer().await;

    act(&mut other_door, "ana", signed_in.session, accept(&offer)).await.unwrap();

    let assignment = ana.assignment().await;
    assert_eq!(assignment.handoff, b"for the responder");
}

#[tokio::test]
async fn a_missed_offer_is_taken_back_and_said_once() {
    let numbers = "offer_deadline_ms = 100\nmin_back_off_ms = 60000\nback_off_ms = 60000";
    let mut floor = floor_with(numbers).await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    ask(&mut floor.visitors, "r-1").await;
    let offer = ana.offer().await;

    let (mut rescinded, mut standing) = (Vec::new(), Vec::new());
    while standing.is_empty() || rescinded.is_empty() {
        match ana.next().await {
            Message::Rescinded(r) => rescinded.push((r.offer_number, r.reason)),
            Message::StatusChanged(s) => standing.push(s.status()),
            other => panic!("{other:?}"),
        }
    }

    assert_eq!(rescinded, [(offer.offer_number, "deadline".to_owned())]);
    assert_eq!(standing, [ResponderStatus::NotResponding]);
    let ready = SetStatus { status: ResponderStatus::Ready.into() };
    assert_eq!(ana.act(action::Action::SetStatus(ready)).await.code, 0);
    let status = ana.until(|m| if let Message::StatusChanged(s) = m { Some(s.status()) } else { None }).await;
    assert_eq!(status, ResponderStatus::Ready);
}

#[tokio::test]
async fn refusals_come_as_results_with_the_number_of_their_request() {
    let mut floor = floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let decline = Decline { chat_id: "nobody".to_owned(), offer_number: 1, reason: 0 };

    let gone = ana.act(action::Action::Decline(decline)).await;
    let offline = SetStatus { status: ResponderStatus::Offline.into() };
    let not_allowed = ana.act(action::Action::SetStatus(offline)).await;

    assert_eq!((gone.code, gone.reason.as_str()), (Code::FailedPrecondition.into(), "OFFER_GONE"));
    assert_eq!(not_allowed.field, "action.set_status.status");
    assert_eq!(ana.act(heartbeat()).await.code, 0);
}

#[tokio::test]
async fn signing_out_ends_the_stream_and_returns_what_is_in_hand() {
    let mut floor = floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    let offer = ana.offer().await;
    ana.act(accept(&offer)).await;

    ana.act(action::Action::SignOut(SignOut {})).await;

    ana.ends().await;
    let (mut ben, _) = Responder::ready(&mut floor.door, "ben").await;
    assert_eq!(ben.offer().await.chat_id, chat_id(&chat));
}

#[tokio::test]
async fn whoever_falls_silent_is_told_that_they_are_gone() {
    let numbers = "heartbeat_ms = 100\npresence_lease_ms = 300";
    let mut floor = floor_with(numbers).await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let status = ana.until(|m| if let Message::StatusChanged(s) = m { Some(s.status()) } else { None }).await;
    assert_eq!(status, ResponderStatus::Offline);
    ana.ends().await;
}

#[tokio::test]
async fn a_first_message_that_is_no_sign_in_or_a_bad_one_ends_the_stream_with_a_status() {
    let mut floor = floor().await;
    let beat = session_request::Message::Action(Action { action: Some(heartbeat()) });
    let status = Responder::open(&mut floor.door, beat).await.message().await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "SIGN_IN_EXPECTED");

    let capabilities = vec![v1::Tag { name: "lang:xx".to_owned(), level: 1 }];
    let unknown = session_request::Message::SignIn(SignIn { capabilities, ..sign_in("ana") });
    let status = Responder::open(&mut floor.door, unknown).await.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let field = status.get_details_bad_request().unwrap().field_violations[0].field.clone();
    assert!(field.starts_with("sign_in.capabilities[0]"), "{field}");
}

#[tokio::test]
async fn a_sign_in_must_come_soon() {
    let queue = queue(empty_line().await, policy("")).await;
    let (_dispatch, mut door) = dispatch(&queue.address, &[("sessions.sign_in_within_ms", "20")]).await;
    let (_requests, outgoing) = mpsc::channel::<SessionRequest>(1);
    let mut stream = door.session(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let status = soon("a status", stream.message()).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "SIGN_IN_EXPECTED");
}

#[tokio::test]
async fn without_a_word_about_security_it_does_not_start() {
    let config = Config::load(None, &[]).unwrap();
    let (grpc, _) = socket().await;
    let error = holdfast_dispatch::run(config, Bound { grpc, admin: None }, &context()).await.unwrap_err();
    assert!(error.to_string().contains("security.insecure_no_authentication"), "{error}");
}

#[tokio::test]
async fn it_is_ready_while_it_is_attached() {
    let queue = queue(empty_line().await, policy("")).await;
    let (dispatch, mut door) = dispatch(&queue.address, &[]).await;
    let _session = Responder::ready(&mut door, "ana").await;
    assert!(dispatch.context.readiness.is_ready());
}
