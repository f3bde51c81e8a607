//! The services with people in every situation that a bad input may be about, and a way to see that none changed.

use crate::row::{Refusal, Sent, Way};
use crate::wire;
use holdfast_domain::limits::MAX_REROUTES;
use holdfast_proto::v1::{
    self, action, attach_request, attach_response, command, dispatch_service_client::DispatchServiceClient,
    intake_service_client::IntakeServiceClient, outcome, queue_service_client::QueueServiceClient,
    session_request, session_response, supervision_service_client::SupervisionServiceClient, watch_chat_response,
};
use holdfast_tests::in_process::{Services, channel};
use prost::Message;
use prost::bytes::Bytes;
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, iter, pending};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// Every wait for a message ends here.
const PATIENCE: Duration = Duration::from_secs(10);

/// The helpline that the table is about. Nothing in it happens by itself within the hour.
pub const HELPLINE: &str = "steady";
/// A helpline where nobody more can wait, and nothing more be rerouted.
pub const FULL: &str = "full";
/// A helpline that is closed today, and to which one has to come another day.
pub const CLOSED: &str = "closed";
/// A helpline where more wait than it is made for.
pub const SURGING: &str = "surging";
/// A helpline whose quota is spent, for a minute from when the world begins.
pub const SPENT: &str = "spent";
/// Signed in over Session.
pub const ANA: &str = "ana";
/// Signed in over Watch.
pub const BEN: &str = "ben";
/// Changes status after every row, so that the next event is known.
const PROBE: &str = "probe";

const POLICY: &str = r#"
helpline = "steady"
name = "Nothing happens by itself"
tags = [{ name = "lang:en" }, { name = "lang:es" }, { name = "skill:minors", levels = 3 }, { name = "topic:grief" }]
resources = [{ title = "Another helpline", contact = "https://example.org" }]
[[survey]]
id = "plan"
kind = "flag"
[[survey]]
id = "distress"
kind = "scale"
[[survey]]
id = "topic"
kind = "choice"
options = ["grief", "other"]
[[triage]]
name = "has a plan"
when = [{ question = "plan", is = "yes" }]
urgency = "imminent"
[numbers]
offer_deadline_ms = 3600000
first_reply_ms = 3600000
prefer_for_ms = 3600000
heartbeat_ms = 600000
presence_lease_ms = 3600000
reconnect_grace_ms = 3600000
away_after_ms = 3600000
abandon_after_ms = 3600000
anyone_after_ms = 3600000
wrap_up_ms = [3600000, 3600000, 3600000, 3600000]
cool_down_ms = [0, 0, 0, 0]
"#;

const FULL_POLICY: &str = r#"
helpline = "full"
name = "Full with one"
resources = [{ title = "Another helpline", contact = "https://example.org" }]
tags = [
    { name = "t0" }, { name = "t1" }, { name = "t2" }, { name = "t3" }, { name = "t4" },
    { name = "t5" }, { name = "t6" }, { name = "t7" }, { name = "t8" },
]
[numbers]
max_waiting = 1
"#;

const SURGING_POLICY: &str = r#"
helpline = "surging"
name = "One is too many"
resources = [{ title = "Another helpline", contact = "https://example.org" }]
[[surge]]
name = "too many"
enter_percent = 100
leave_percent = 1
hold_ms = 3600000
resources_first = true
challenge_bits = 24
"#;

const SPENT_POLICY: &str = r#"
helpline = "spent"
name = "One a minute"
resources = [{ title = "Another helpline", contact = "https://example.org" }]
[admission]
quota = { per_minute = 1, burst = 1 }
imminent = { per_minute = 1, burst = 1 }
"#;

/// Open for a minute, on the weekday three days from now.
fn closed_policy() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / (24 * 3600);
    // The first of January 1970 was a Thursday.
    let weekdays = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
    let in_three_days = usize::try_from((days + 3) % 7).expect("a weekday");
    format!(
        "helpline = \"closed\"\nname = \"Closed today\"\n\
         resources = [{{ title = \"Another helpline\", contact = \"https://example.org\" }}]\n\
         [hours]\ntime_zone = \"Etc/UTC\"\n{} = [\"12:00-12:01\"]\n",
        weekdays[in_three_days]
    )
}

/// A chat and its visitor's right to it.
#[derive(Clone, Default)]
pub struct Held {
    pub chat_id: String,
    pub token: String,
    /// The ticket that came with the answer to the request.
    pub ticket: Vec<u8>,
}

impl Held {
    /// As it comes from outside.
    pub fn key(&self) -> v1::ChatKey {
        v1::ChatKey {
            helpline: HELPLINE.to_owned(),
            chat_id: self.chat_id.clone(),
            visitor_token: self.token.clone(),
        }
    }

    /// As it travels inside.
    pub fn hashed(&self) -> v1::HashedChatKey {
        v1::HashedChatKey { chat_id: self.chat_id.clone(), token_hash: Sha256::digest(&self.token).to_vec() }
    }
}

/// A responder, and what is in their hands.
#[derive(Clone, Default)]
pub struct Hands {
    pub responder: &'static str,
    pub session: u64,
    /// Theirs, under this fence.
    pub active: String,
    pub fence: v1::Fence,
    /// The sealed assignment of it.
    pub sealed: Vec<u8>,
    /// Offered to them.
    pub offered: String,
    pub offer_number: u32,
    /// Was offered to them; its visitor left.
    pub gone: String,
    pub gone_number: u32,
    /// Closed by them, under this fence; the notes are not finished.
    pub closed: String,
    pub closed_fence: v1::Fence,
    /// The sealed assignment of it, from before it was closed.
    pub closed_sealed: Vec<u8>,
    /// What the visitor of the closed chat may ask for them with.
    pub token: Vec<u8>,
}

/// Whoever is called so is blocked at the full helpline.
pub const BLOCKED: [u8; 16] = [9; 16];

/// What the rows are about.
#[derive(Clone, Default)]
pub struct Facts {
    /// In the line, with a request id of the same name; nobody here can serve it.
    pub waiting: Held,
    /// Its visitor left.
    pub left: Held,
    /// Its visitor left and erased it.
    pub erased: Held,
    pub ana: Hands,
    pub ben: Hands,
    /// Sue's proposal to block whoever waits.
    pub proposed: String,
    /// The cursor of some event, of a store that has never been.
    pub foreign_cursor: String,
}

/// The waiting chat's request, as it was made.
pub fn waiting_request() -> v1::RequestChatRequest {
    request("waiting", "skill:minors", 3)
}

fn request(id: &str, tag: &str, level: u32) -> v1::RequestChatRequest {
    let all_of = vec![v1::Tag { name: tag.to_owned(), level }];
    let step = v1::RoutingStep { after: None, any_of: vec![v1::Alternative { all_of }] };
    v1::RequestChatRequest {
        helpline: HELPLINE.to_owned(),
        request_id: id.to_owned(),
        urgency: v1::Urgency::Low.into(),
        routing_steps: vec![step],
        presence: v1::VisitorPresence::Attested.into(),
        handoff: b"sealed".to_vec(),
        locale: "en".to_owned(),
        ..Default::default()
    }
}

/// All that a bad input must leave as it is.
#[derive(Debug, PartialEq)]
struct Seen {
    ledgers: Vec<Option<v1::Ledger>>,
    /// Of each helpline: its policy's revision, its reroutes and its stage of surge.
    standing: Vec<(u64, u32, u64)>,
    waiting: Vec<(String, i32, i32, u64)>,
    responders: Vec<v1::FloorResponder>,
    in_line: u64,
}

/// One open stream for many messages.
struct Open {
    to: mpsc::Sender<Bytes>,
    from: Streaming<Bytes>,
}

impl Open {
    async fn new(channel: Channel, rpc: &str, first: impl Message) -> Self {
        let (to, messages) = mpsc::channel(16);
        to.send(first.encode_to_vec().into()).await.expect("room for the first message");
        let from = wire::call(channel, rpc, ReceiverStream::new(messages)).await.expect("a stream");
        Self { to, from }
    }

    /// How the stream ends, whatever comes before.
    async fn end(&mut self) -> Code {
        let end = async {
            loop {
                match self.from.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Code::Ok,
                    Err(status) => return status.code(),
                }
            }
        };
        timeout(PATIENCE, end).await.expect("the stream ends in time")
    }

    async fn send(&self, message: impl Message) {
        self.to.send(message.encode_to_vec().into()).await.expect("the stream is open");
    }

    /// The first message that fits; those before it are passed over.
    async fn next<M: Message + Default, T>(&mut self, fits: impl Fn(M) -> Option<T>) -> T {
        let next = async {
            loop {
                let bytes = self.from.message().await.expect("a message").expect("the stream goes on");
                if let Some(found) = fits(M::decode(bytes).expect("a message of the contract")) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, next).await.expect("the message comes in time")
    }
}

pub struct World {
    pub facts: Facts,
    services: Services,
    queue: QueueServiceClient<Channel>,
    dispatch: DispatchServiceClient<Channel>,
    supervision: SupervisionServiceClient<Channel>,
    intake: IntakeServiceClient<Channel>,
    channels: [Channel; 3],
    /// Ana's session.
    session: Open,
    /// A replica's stream.
    attached: Open,
    /// Ben's messages; while it is open he is linked.
    watch: Streaming<v1::WatchResponse>,
    events: Streaming<v1::WatchEventsResponse>,
    probe_session: u64,
    probe_is_ready: bool,
    last_sequence: u64,
    seen: Option<Seen>,
    numbers: u64,
}

impl World {
    pub async fn new() -> Self {
        let services =
            Services::start(&[POLICY, FULL_POLICY, SURGING_POLICY, SPENT_POLICY, &closed_policy()]).await;
        let channels = [channel(services.intake), channel(services.queue), channel(services.dispatch)];
        let [at_intake, at_queue, at_dispatch] = channels.clone();
        let mut queue = QueueServiceClient::new(at_queue.clone());
        let mut dispatch = DispatchServiceClient::new(at_dispatch.clone());
        let first = session_request::Message::SignIn(sign_in(ANA, "lang:en"));
        let first = v1::SessionRequest { request_number: 0, message: Some(first) };
        let session = Open::new(at_dispatch, "DispatchService/Session", first).await;
        let hello = v1::Hello { role: v1::hello::Role::Intake.into(), replica: "tests".to_owned() };
        let hello =
            v1::AttachRequest { message: Some(attach_request::Message::Hello(hello)), ..Default::default() };
        let attached = Open::new(at_queue, "QueueService/Attach", hello).await;
        let watching = v1::WatchRequest { sign_in: Some(sign_in(BEN, "lang:es")) };
        let watch = dispatch.watch(watching).await.expect("ben is signed in").into_inner();
        let reading = v1::WatchEventsRequest { helpline: HELPLINE.to_owned(), from_cursor: String::new() };
        let events = queue.watch_events(reading).await.expect("events").into_inner();
        let mut world = Self {
            facts: Facts::default(),
            services,
            queue,
            dispatch,
            supervision: SupervisionServiceClient::new(channels[2].clone()),
            intake: IntakeServiceClient::new(at_intake),
            channels,
            session,
            attached,
            watch,
            events,
            probe_session: 0,
            probe_is_ready: false,
            last_sequence: 0,
            seen: None,
            numbers: 0,
        };
        world.settle().await;
        world
    }

    /// Brings everybody into their situation.
    async fn settle(&mut self) {
        let probe = v1::SignInCommand { responder_id: PROBE.to_owned(), capacity: 1, ..Default::default() };
        self.probe_session = match self.execute(command::Command::SignIn(probe)).await {
            Some(outcome::Outcome::Responder(view)) => view.session,
            other => panic!("the probe signs in: {other:?}"),
        };
        let session = self.session.next(|m: v1::SessionResponse| match m.message? {
            session_response::Message::SignedIn(s) => Some(s.session),
            _ => None,
        });
        self.facts.ana = Hands { responder: ANA, session: session.await, ..Hands::default() };
        let signed_in = timeout(PATIENCE, self.watch.message()).await.expect("in time").expect("a message");
        let session = match signed_in.and_then(|w| w.message?.message) {
            Some(session_response::Message::SignedIn(s)) => s.session,
            other => panic!("signed in comes first: {other:?}"),
        };
        self.facts.ben = Hands { responder: BEN, session, ..Hands::default() };

        self.facts.waiting = self.ask(waiting_request()).await;
        self.facts.left = self.ask(request("left", "skill:minors", 3)).await;
        self.leave(&self.facts.left.clone()).await;
        self.facts.erased = self.ask(request("erased", "skill:minors", 3)).await;
        let erase = v1::EraseChatRequest { key: Some(self.facts.erased.key()) };
        self.intake.erase_chat(erase).await.expect("erased");
        self.facts.ana = self.fill(self.facts.ana.clone(), "lang:en").await;
        self.facts.ben = self.fill(self.facts.ben.clone(), "lang:es").await;
        for helpline in [FULL, SURGING, SPENT] {
            let only_one = v1::RequestChatRequest {
                helpline: helpline.to_owned(),
                routing_steps: Vec::new(),
                resources_seen: true,
                ..request("the only one", "", 0)
            };
            self.ask(only_one).await;
        }
        self.facts.proposed = self.propose(HELPLINE, &self.facts.waiting.chat_id.clone()).await;
        self.block().await;
        for number in 0..MAX_REROUTES {
            self.reroute(&format!("t{number}")).await;
        }
        self.surge().await;
        self.facts.foreign_cursor = "another-store.1.1".to_owned();
        self.last_sequence = self.probe().await.sequence;
        self.seen = Some(self.look().await);
    }

    /// Gives a responder a chat that is theirs, one that is offered, one that went away and one to wrap up.
    async fn fill(&mut self, mut hands: Hands, tag: &str) -> Hands {
        let id = |what: &str| format!("{what} of {}", hands.responder);
        let (active, offered, gone, closed) = (id("active"), id("offered"), id("gone"), id("closed"));
        let to_close = self.ask(request(&closed, tag, 1)).await;
        hands.closed.clone_from(&to_close.chat_id);
        (hands.closed_fence, hands.closed_sealed) = self.take(&hands, &hands.closed).await;
        let close = v1::Close { chat_id: hands.closed.clone(), fence: Some(hands.closed_fence) };
        self.act(&hands, action::Action::Close(close)).await;
        hands.token = self.return_token(&to_close).await;
        hands.active = self.ask(request(&active, tag, 1)).await.chat_id;
        (hands.fence, hands.sealed) = self.take(&hands, &hands.active).await;
        let left = self.ask(request(&gone, tag, 1)).await;
        hands.gone_number = self.offer_of(&hands, &left.chat_id).await;
        hands.gone.clone_from(&left.chat_id);
        self.leave(&left).await;
        hands.offered = self.ask(request(&offered, tag, 1)).await.chat_id;
        hands.offer_number = self.offer_of(&hands, &hands.offered).await;
        hands
    }

    async fn ask(&mut self, request: v1::RequestChatRequest) -> Held {
        let answer = self.intake.request_chat(request).await.expect("a chat").into_inner();
        let chat_id = answer.chat.expect("a chat").chat_id;
        Held { chat_id, token: answer.visitor_token, ticket: answer.ticket }
    }

    async fn leave(&mut self, chat: &Held) {
        let leave = v1::LeaveChatRequest { key: Some(chat.key()), fallback_accepted: false };
        self.intake.leave_chat(leave).await.expect("left");
    }

    /// What a visitor whose chat was completed is given for the next time.
    async fn return_token(&mut self, chat: &Held) -> Vec<u8> {
        let watch = v1::WatchChatRequest { key: Some(chat.key()), locale: String::new(), ticket: Vec::new() };
        let mut updates = self.intake.watch_chat(watch).await.expect("a chat to watch").into_inner();
        let first = updates.message().await.expect("a message").and_then(|m| m.message);
        match first {
            Some(watch_chat_response::Message::Update(update)) => update.return_token,
            other => panic!("the first message is how it stands: {other:?}"),
        }
    }

    /// Proposes to block whoever a chat is of.
    async fn propose(&mut self, helpline: &str, chat: &str) -> String {
        let propose = v1::ProposeBlockRequest {
            supervisor: Some(v1::Supervisor { helpline: helpline.to_owned(), ..supervisor() }),
            chat_id: chat.to_owned(),
            r#for: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        };
        self.supervision.propose_block(propose).await.expect("proposed").into_inner().block_id
    }

    /// Blocks somebody at the full helpline, which lets IMMINENT ones in.
    async fn block(&mut self) {
        let request = v1::RequestCommand {
            chat_id: "blocked".to_owned(),
            request_key: vec![4; 32],
            body_digest: vec![4; 32],
            token_hash: vec![4; 32],
            urgency: v1::Urgency::Imminent.into(),
            presence: v1::VisitorPresence::Attested.into(),
            subject_digest: BLOCKED.to_vec(),
            ..Default::default()
        };
        let command = Some(command::Command::Request(request));
        let command = Some(v1::Command { helpline: FULL.to_owned(), command });
        self.queue.execute(v1::ExecuteRequest { command }).await.expect("a chat");
        let block_id = self.propose(FULL, "blocked").await;
        let another =
            v1::Supervisor { helpline: FULL.to_owned(), supervisor_id: "lea".to_owned(), ..supervisor() };
        let confirm = v1::ConfirmBlockRequest { supervisor: Some(another), block_id };
        self.supervision.confirm_block(confirm).await.expect("blocked");
    }

    /// Sends chats that ask for a tag to anyone, for a day.
    async fn reroute(&mut self, tag: &str) {
        let all_of = vec![v1::Tag { name: tag.to_owned(), level: 1 }];
        let reroute = v1::RerouteRequest {
            supervisor: Some(v1::Supervisor { helpline: FULL.to_owned(), ..supervisor() }),
            from_any_of: vec![v1::Alternative { all_of }],
            to_any_of: Vec::new(),
            r#for: Some(prost_types::Duration { seconds: 24 * 3600, nanos: 0 }),
        };
        self.supervision.reroute(reroute).await.expect("rerouted");
    }

    /// Waits until there is a surge where there must be.
    async fn surge(&mut self) {
        let surging = async {
            while self.floor(SURGING).await.surge_stage_number == 0 {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, surging).await.expect("the surge comes in time");
    }

    /// The number of the offer of a chat, when the responder hears of it.
    async fn offer_of(&mut self, hands: &Hands, chat: &str) -> u32 {
        let number = |m: v1::SessionResponse| match m.message? {
            session_response::Message::Offer(offer) if offer.chat_id == chat => Some(offer.offer_number),
            _ => None,
        };
        if hands.responder == ANA {
            return self.session.next(number).await;
        }
        let offered = async {
            loop {
                let told = self.watch.message().await.expect("a message").expect("the stream goes on");
                if let Some(number) = told.message.and_then(number) {
                    return number;
                }
            }
        };
        timeout(PATIENCE, offered).await.expect("the offer comes in time")
    }

    /// The fence of an accepted chat, and its sealed assignment.
    async fn take(&mut self, hands: &Hands, chat: &str) -> (v1::Fence, Vec<u8>) {
        let offer_number = self.offer_of(hands, chat).await;
        let accept = v1::Accept { chat_id: chat.to_owned(), offer_number, reply_handoff: b"sealed".to_vec() };
        let result = self.act(hands, action::Action::Accept(accept)).await;
        let assignment = result.assignment.expect("an assignment");
        (assignment.fence.expect("a fence"), assignment.sealed)
    }

    async fn act(&mut self, hands: &Hands, action: action::Action) -> v1::ActionResult {
        let act = v1::ActRequest {
            helpline: HELPLINE.to_owned(),
            responder_id: hands.responder.to_owned(),
            session: hands.session,
            action: Some(v1::Action { action: Some(action) }),
        };
        let answer = self.dispatch.act(act).await.expect("done");
        answer.into_inner().result.expect("a result")
    }

    async fn execute(&mut self, command: command::Command) -> Option<outcome::Outcome> {
        let command = v1::Command { helpline: HELPLINE.to_owned(), command: Some(command) };
        let answer = self.queue.execute(v1::ExecuteRequest { command: Some(command) }).await.expect("done");
        answer.into_inner().outcome.and_then(|o| o.outcome)
    }

    /// Sends a bad input and tells how it was refused, or nothing when it was not.
    pub async fn send(&mut self, way: &Way) -> Option<Refusal> {
        let refusal = async {
            match &way.sent {
                Sent::Message(bytes) => self.send_message(way.rpc, bytes.clone()).await,
                Sent::InSession(request) => self.send_in_session(request.clone()).await,
                Sent::Attached(request) => self.send_attached(v1::AttachRequest::clone(request)).await,
            }
        };
        timeout(PATIENCE, refusal).await.unwrap_or_else(|_| panic!("{} does not answer", way.rpc))
    }

    async fn send_message(&mut self, rpc: &str, message: Bytes) -> Option<Refusal> {
        let [intake, queue, dispatch] = self.channels.clone();
        let channel = match rpc.split_once('/') {
            Some(("IntakeService", _)) => intake,
            Some(("QueueService", _)) => queue,
            Some(("DispatchService" | "SupervisionService", _)) => dispatch,
            _ => panic!("{rpc} is no RPC"),
        };
        let streams_requests = ["DispatchService/Session", "QueueService/Attach"].contains(&rpc);
        let answer = if streams_requests {
            wire::call(channel, rpc, iter([message]).chain(pending())).await
        } else {
            wire::call(channel, rpc, iter([message])).await
        };
        match answer {
            Ok(mut answer) => answer.message().await.err().map(Refusal::from),
            Err(status) => Some(status.into()),
        }
    }

    async fn send_in_session(&mut self, mut request: v1::SessionRequest) -> Option<Refusal> {
        self.numbers += 1;
        let number = self.numbers;
        request.request_number = number;
        self.session.send(request).await;
        let result = self.session.next(|m: v1::SessionResponse| match m.message? {
            session_response::Message::Result(result) if result.request_number == number => Some(result),
            _ => None,
        });
        Some(result.await).filter(|r| r.code != 0).map(Refusal::from)
    }

    async fn send_attached(&mut self, mut request: v1::AttachRequest) -> Option<Refusal> {
        self.numbers += 1;
        let number = self.numbers;
        request.correlation = number;
        self.attached.send(request).await;
        let answer = self.attached.next(|m: v1::AttachResponse| (m.correlation == number).then_some(m.message));
        match answer.await {
            Some(attach_response::Message::Error(error)) => Some(error.into()),
            _ => None,
        }
    }

    /// What changed since the last look, in words; nothing when nothing did.
    pub async fn changes(&mut self) -> Vec<String> {
        let mut changes = Vec::new();
        let event = self.probe().await;
        if event.sequence != self.last_sequence + 1 {
            changes.push(format!("{} events were written", event.sequence - self.last_sequence - 1));
        }
        self.last_sequence = event.sequence;
        let seen = self.look().await;
        if self.seen.as_ref() != Some(&seen) {
            changes.push(format!("the floor changed from {:?} to {seen:?}", self.seen));
        }
        if seen.ledgers.iter().flatten().any(|ledger| ledger.difference != 0) {
            changes.push("somebody was lost or counted twice".to_owned());
        }
        self.seen = Some(seen);
        changes
    }

    /// Makes an event, and reads on until it comes: whatever was written before it has come too.
    async fn probe(&mut self) -> v1::Event {
        self.probe_is_ready = !self.probe_is_ready;
        let status = if self.probe_is_ready { v1::ResponderStatus::Ready } else { v1::ResponderStatus::OnBreak };
        let session = v1::SessionKey { responder_id: PROBE.to_owned(), session: self.probe_session };
        let set = v1::SetStatusCommand { session: Some(session), status: status.into() };
        self.execute(command::Command::SetStatus(set)).await;
        let of_probe = async {
            loop {
                let event = self.events.message().await.expect("an event").and_then(|m| m.event);
                let event = event.expect("the stream goes on");
                let is_probe = event.responder_id == PROBE && event.kind == "status_changed";
                if is_probe && event.status == i32::from(status) && event.sequence > self.last_sequence {
                    return event;
                }
            }
        };
        timeout(PATIENCE, of_probe).await.expect("the event comes in time")
    }

    async fn look(&mut self) -> Seen {
        let floor = self.floor(HELPLINE).await;
        let mut floors = vec![floor.clone()];
        for other in [FULL, CLOSED, SURGING, SPENT] {
            floors.push(self.floor(other).await);
        }
        let standing = |f: &v1::GetFloorResponse| (f.policy_revision, f.reroutes, f.surge_stage_number);
        let standing = floors.iter().map(standing).collect();
        let ledgers = floors.into_iter().map(|f| f.ledger).collect();
        let waiting = floor.waiting.into_iter().map(|c| (c.chat_id, c.urgency, c.state, c.place)).collect();
        let responders = floor.responders.into_iter().filter(|r| r.responder_id != PROBE).collect();
        Seen { ledgers, standing, waiting, responders, in_line: floor.in_line }
    }

    async fn floor(&mut self, helpline: &str) -> v1::GetFloorResponse {
        let request = v1::GetFloorRequest { helpline: helpline.to_owned(), limit: 1000 };
        self.queue.get_floor(request).await.expect("the floor").into_inner()
    }

    /// Sends what is no message on the open streams, and tells how they end. Ana's offer is taken back for others,
    /// and she finds the rest of what was in her hands when she comes again.
    pub async fn break_both_streams(mut self) -> Vec<(&'static str, Code)> {
        let mut ended = Vec::new();
        for (rpc, stream) in
            [("DispatchService/Session", &mut self.session), ("QueueService/Attach", &mut self.attached)]
        {
            stream.to.send(Bytes::from_static(&[0x0a, 0x05, b'x'])).await.expect("the stream is open");
            ended.push((rpc, stream.end().await));
        }
        let ana = self.facts.ana.clone();
        self.event("rescinded", &ana.offered).await;
        let ledger = self.floor(HELPLINE).await.ledger.expect("a ledger");
        assert_eq!((ledger.active, ledger.difference), (2, 0));
        let again = v1::WatchRequest { sign_in: Some(sign_in(ANA, "lang:en")) };
        self.watch = self.dispatch.watch(again).await.expect("ana is signed in").into_inner();
        let assignment = timeout(PATIENCE, async {
            loop {
                let told = self.watch.message().await.expect("a message").expect("the stream goes on");
                if let Some(session_response::Message::Assignment(a)) = told.message.and_then(|m| m.message) {
                    return a;
                }
            }
        });
        let assignment = assignment.await.expect("the assignment comes in time");
        assert_eq!((assignment.chat_id, assignment.fence), (ana.active, Some(ana.fence)));
        self.services.stop().await;
        ended
    }

    /// Reads on until something happens to a chat.
    async fn event(&mut self, kind: &str, chat: &str) {
        let happens = async {
            loop {
                let event = self.events.message().await.expect("an event").and_then(|m| m.event);
                let event = event.expect("the stream goes on");
                if event.kind == kind && event.chat_id == chat {
                    return;
                }
            }
        };
        timeout(PATIENCE, happens).await.expect("the event comes in time");
    }

    /// The services still serve: both responders finish what is in their hands, and nobody is missing at the end.
    pub async fn finish(mut self) {
        for hands in [self.facts.ana.clone(), self.facts.ben.clone()] {
            let (chat_id, offer_number) = (hands.offered.clone(), hands.offer_number);
            let accept = v1::Accept { chat_id: chat_id.clone(), offer_number, reply_handoff: Vec::new() };
            let assignment = self.act(&hands, action::Action::Accept(accept)).await.assignment.expect("theirs");
            assert_eq!(assignment.handoff, b"sealed");
            for (chat_id, fence) in [(chat_id, assignment.fence), (hands.active.clone(), Some(hands.fence))] {
                self.act(&hands, action::Action::Engaged(v1::Engaged { chat_id: chat_id.clone(), fence })).await;
                self.act(&hands, action::Action::Close(v1::Close { chat_id, fence })).await;
            }
        }
        self.leave(&self.facts.waiting.clone()).await;
        let ledger = self.floor(HELPLINE).await.ledger.expect("a ledger");
        assert_eq!((ledger.waiting, ledger.offered, ledger.active, ledger.difference), (0, 0, 0, 0));
        drop((self.session, self.attached, self.watch, self.events));
        self.services.stop().await;
    }
}

/// Who may supervise, and why.
pub fn supervisor() -> v1::Supervisor {
    let (helpline, supervisor_id) = (HELPLINE.to_owned(), "sue".to_owned());
    v1::Supervisor { helpline, supervisor_id, reason: v1::SupervisionReason::Staffing.into() }
}

/// A good sign-in.
pub fn sign_in(responder: &str, tag: &str) -> v1::SignIn {
    v1::SignIn {
        helpline: HELPLINE.to_owned(),
        responder_id: responder.to_owned(),
        capabilities: vec![v1::Tag { name: tag.to_owned(), level: 1 }],
        capacity: 6,
        ready: true,
        ..Default::default()
    }
}
