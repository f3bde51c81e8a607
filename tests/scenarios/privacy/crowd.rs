//! Those who plant: a visitor, a responder, a supervisor, an operator and whoever else knocks, over connections whose every
//! header tells too much.

use super::canaries::{Canaries, Kind, PEER, STAFF, V4, V6};
use super::contract::{self, Field};
use holdfast_proto::v1::{self, action, session_request, session_response};
use holdfast_tests::processes::{HELPLINE, PATIENCE};
use holdfast_tests::wire::AsBytes;
use prost::Message;
use prost::bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_stream::{StreamExt, iter, pending};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataKey, BinaryMetadataKey, BinaryMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// The trace that half of the calls belong to.
pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The volunteer whose hands are full of chats, and one who is here for a moment at a time.
pub const ANA: &str = "staffmark-ana";
const BEN: &str = "staffmark-ben";

/// Answers that bring content to whom it is for.
const DELIVERING: [&str; 5] = [
    "holdfast.v1.IntakeService/WatchChat",
    "holdfast.v1.DispatchService/Session",
    "holdfast.v1.DispatchService/Watch",
    "holdfast.v1.DispatchService/Act",
    "holdfast.v1.SupervisionService/TakeOver",
];
/// Its answers and refusals repeat what was asked, to whoever asked: it is a library's.
const REPEATING: &str = "ServerReflection/ServerReflectionInfo";

/// Where everything is.
#[derive(Clone)]
pub struct Doors {
    pub intake: SocketAddr,
    pub queue: SocketAddr,
    pub dispatch: SocketAddr,
    /// What an integrator asks for chats with, where intake wants to know it.
    pub integrator: Option<String>,
    /// Ports of operators.
    pub admin: Vec<SocketAddr>,
}

/// What came back of one call.
struct Answer {
    refused: bool,
    messages: Vec<Bytes>,
}

#[derive(Clone, Default)]
struct Held {
    chat_id: String,
    token: String,
    ticket: Vec<u8>,
}

impl Held {
    fn key(&self) -> Option<v1::ChatKey> {
        let (chat_id, visitor_token) = (self.chat_id.clone(), self.token.clone());
        Some(v1::ChatKey { helpline: HELPLINE.to_owned(), chat_id, visitor_token })
    }

    fn hashed(&self) -> Option<v1::HashedChatKey> {
        let token_hash = Sha256::digest(&self.token).to_vec();
        Some(v1::HashedChatKey { chat_id: self.chat_id.clone(), token_hash })
    }
}

/// A chat in the hands of [`ANA`], or on its way there.
#[derive(Clone, Default)]
struct InHand {
    chat_id: String,
    offer_number: u32,
    fence: Option<v1::Fence>,
}

/// Everybody who plants.
pub struct Crowd {
    pub canaries: Arc<Canaries>,
    /// Everything that anybody was answered: messages, headers, trailers, refusals. Content is taken out where it was delivered.
    pub heard: Arc<Mutex<Vec<u8>>>,
    /// RPC and field, of every canary that was sent in a request.
    pub planted: BTreeSet<String>,
    /// RPCs that carried out a call with planted headers, and those that refused a planted field.
    pub carried_out: BTreeSet<String>,
    pub refused: BTreeSet<String>,
    /// Fields in which a canary was taken as it came.
    pub taken: BTreeSet<String>,
    /// What nobody but their holders may see.
    pub secrets: Vec<String>,
    contents: Arc<Mutex<Vec<Vec<u8>>>>,
    doors: Doors,
    channels: [Channel; 3],
    calls: u64,
    session: u64,
    revision: u64,
    block: String,
    /// In the line, where nobody here can serve them: for their visitors, to be assigned, to be taken over, to leave.
    waiting: [Held; 4],
    offered: InHand,
    declined: InHand,
    active: InHand,
    closed: InHand,
}

impl Crowd {
    /// Comes to the doors, and brings people into every situation that a request may be about.
    pub async fn come(doors: Doors, canaries: Arc<Canaries>) -> Self {
        let channels = [doors.intake, doors.queue, doors.dispatch].map(channel);
        let secrets = doors.integrator.iter().cloned().collect();
        let mut crowd = Self {
            canaries,
            doors,
            channels,
            heard: Arc::default(),
            planted: BTreeSet::new(),
            carried_out: BTreeSet::new(),
            refused: BTreeSet::new(),
            taken: BTreeSet::new(),
            secrets,
            contents: Arc::default(),
            calls: 0,
            session: 0,
            revision: 0,
            block: String::new(),
            waiting: Default::default(),
            offered: InHand::default(),
            declined: InHand::default(),
            active: InHand::default(),
            closed: InHand::default(),
        };
        crowd.settle().await;
        crowd
    }

    async fn settle(&mut self) {
        let (said, first) = (Arc::clone(&self.heard), self.sign_in(ANA, true));
        let mut stream = self.open("holdfast.v1.DispatchService/Session", vec![first]).await.expect("a session");
        let signed_in = self.next_of_session(&mut stream).await;
        let Some(session_response::Message::SignedIn(signed_in)) = signed_in else { panic!("{signed_in:?}") };
        self.session = signed_in.session;
        for i in 0..self.waiting.len() {
            self.waiting[i] = self.ask("skill:minors", 3).await;
            self.secrets.push(self.waiting[i].token.clone());
        }
        let mut hands = Vec::new();
        for _ in 0..4 {
            self.ask("lang:en", 1).await;
            let offer = loop {
                match self.next_of_session(&mut stream).await {
                    Some(session_response::Message::Offer(offer)) => break offer,
                    Some(_) => {}
                    None => panic!("the session ended"),
                }
            };
            hands.push(InHand { chat_id: offer.chat_id, offer_number: offer.offer_number, fence: None });
        }
        [self.offered, self.declined, self.active, self.closed] = hands.try_into().ok().expect("four");
        self.active.fence = self.accept(&self.active.clone()).await;
        self.closed.fence = self.accept(&self.closed.clone()).await;
        let close = v1::Close { chat_id: self.closed.chat_id.clone(), fence: self.closed.fence };
        self.act(action::Action::Close(close)).await;
        // What comes to her from now on is an answer like others.
        let contents = Arc::clone(&self.contents);
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                keep(&said, &without(&message, &contents.lock().expect("no panic")));
            }
        });
    }

    async fn next_of_session(&self, stream: &mut Streaming<Bytes>) -> Option<session_response::Message> {
        let message = timeout(PATIENCE, stream.message()).await.expect("a message in time").expect("a message")?;
        keep(&self.heard, &without(&message, &self.contents.lock().expect("no panic")));
        v1::SessionResponse::decode(message).expect("a message of a session").message
    }

    async fn ask(&mut self, tag: &str, level: u32) -> Held {
        let request = self.request(tag, level);
        let answer = self.call("holdfast.v1.IntakeService/RequestChat", request).await;
        let answer = v1::RequestChatResponse::decode(answer.messages[0].clone()).expect("an answer");
        let chat_id = answer.chat.expect("a chat").chat_id;
        Held { chat_id, token: answer.visitor_token, ticket: answer.ticket }
    }

    async fn accept(&mut self, of: &InHand) -> Option<v1::Fence> {
        let reply_handoff = self.content("what a responder hands over");
        let (chat_id, offer_number) = (of.chat_id.clone(), of.offer_number);
        let accept = v1::Accept { chat_id, offer_number, reply_handoff };
        self.act(action::Action::Accept(accept)).await.assignment.and_then(|assignment| assignment.fence)
    }

    async fn act(&mut self, action: action::Action) -> v1::ActionResult {
        let request = self.acting(action);
        let answer = self.call("holdfast.v1.DispatchService/Act", request).await;
        let answer = v1::ActResponse::decode(answer.messages[0].clone()).expect("an answer");
        let result = answer.result.expect("a result");
        assert_eq!(result.code, 0, "{result:?}");
        result
    }

    /// Something that one person hands to another, and everybody else must not see.
    fn content(&self, place: &str) -> Vec<u8> {
        let content = self.canaries.plant(Kind::Phrase, place).into_bytes();
        self.contents.lock().expect("no panic").push(content.clone());
        content
    }

    /// A request for a chat that is no other's.
    fn request(&mut self, tag: &str, level: u32) -> Vec<u8> {
        self.calls += 1;
        let all_of = vec![v1::Tag { name: tag.to_owned(), level }];
        let step = v1::RoutingStep { after: None, any_of: vec![v1::Alternative { all_of }] };
        v1::RequestChatRequest {
            helpline: HELPLINE.to_owned(),
            request_id: format!("{}, {}", self.canaries.plant(Kind::Phrase, "request_id"), self.calls),
            urgency: v1::Urgency::Low.into(),
            routing_steps: vec![step],
            presence: v1::VisitorPresence::Attested.into(),
            handoff: self.content("what a visitor hands over"),
            locale: "en".to_owned(),
            subject: self.subject(),
            // Of no use, and whole: nobody asks for one here.
            challenge_solution: Some(v1::ChallengeSolution { token: vec![1; 41], nonce: vec![1; 8] }),
            ..Default::default()
        }
        .encode_to_vec()
    }

    /// What an integrator calls a visitor; only one who is known may.
    fn subject(&self) -> String {
        let known = self.doors.integrator.as_ref();
        known.map(|_| self.canaries.plant(Kind::Phrase, "subject")).unwrap_or_default()
    }

    fn signing_in(who: &str, ready: bool) -> v1::SignIn {
        v1::SignIn {
            helpline: HELPLINE.to_owned(),
            responder_id: who.to_owned(),
            capabilities: vec![v1::Tag { name: "lang:en".to_owned(), level: 1 }],
            capacity: 20,
            ready,
            ..v1::SignIn::default()
        }
    }

    fn sign_in(&self, who: &str, ready: bool) -> Vec<u8> {
        let message = Some(session_request::Message::SignIn(Self::signing_in(who, ready)));
        v1::SessionRequest { request_number: 0, message }.encode_to_vec()
    }

    fn acting(&self, action: action::Action) -> Vec<u8> {
        v1::ActRequest {
            helpline: HELPLINE.to_owned(),
            responder_id: ANA.to_owned(),
            session: self.session,
            action: Some(v1::Action { action: Some(action) }),
        }
        .encode_to_vec()
    }

    /// An action in which everything is as it should be, so that a planted field of it is looked at.
    fn action(&self, word: &str) -> action::Action {
        let (of, taken) = (&self.active, &self.offered);
        let (chat_id, fence) = (of.chat_id.clone(), of.fence);
        match word {
            "accept" => action::Action::Accept(v1::Accept {
                chat_id: taken.chat_id.clone(),
                offer_number: taken.offer_number,
                reply_handoff: Vec::new(),
            }),
            "decline" => action::Action::Decline(v1::Decline {
                chat_id: self.declined.chat_id.clone(),
                offer_number: self.declined.offer_number,
                reason: v1::DeclineReason::Busy.into(),
            }),
            "engaged" => action::Action::Engaged(v1::Engaged { chat_id, fence }),
            "close" => action::Action::Close(v1::Close { chat_id, fence }),
            "transfer" => action::Action::Transfer(v1::Transfer { chat_id, fence }),
            "finish_wrap_up" => {
                action::Action::FinishWrapUp(v1::FinishWrapUp { chat_id: self.closed.chat_id.clone() })
            }
            "call_supervisor" => action::Action::CallSupervisor(v1::CallSupervisor { chat_id, fence }),
            _ => action::Action::Heartbeat(v1::Heartbeat {}),
        }
    }

    /// Messages to an RPC in which everything is as it should be; of those that have several kinds, the one that this field
    /// is in.
    fn whole(&mut self, rpc: &str, path: &str) -> Vec<Vec<u8>> {
        let (helpline, Some((_, method))) = (HELPLINE.to_owned(), rpc.split_once("/")) else { panic!("{rpc}") };
        let [visits, assigned, taken_over, leaves] = self.waiting.clone();
        let (key, ticket, locale) = (visits.key(), visits.ticket.clone(), "en".to_owned());
        let chat_id = visits.chat_id.clone();
        let reason = v1::SupervisionReason::Safety.into();
        let by = |who: &str| {
            Some(v1::Supervisor { helpline: HELPLINE.to_owned(), supervisor_id: who.to_owned(), reason })
        };
        let supervisor = by("staffmark-sue");
        let responder_id = BEN.to_owned();
        let minute = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let word = path.strip_prefix("action.").and_then(|path| path.split('.').next()).unwrap_or_default();
        let any_of =
            |tag: &str| vec![v1::Alternative { all_of: vec![v1::Tag { name: tag.to_owned(), level: 1 }] }];
        let of_supervision = rpc.contains("SupervisionService");
        let message = match method {
            "RequestChat" => self.request("skill:minors", 3),
            "WatchChat" => v1::WatchChatRequest { key, locale, ticket }.encode_to_vec(),
            "UpdateChat" => {
                let urgency = v1::Urgency::Moderate.into();
                v1::UpdateChatRequest { key, urgency, answers: Vec::new(), ticket }.encode_to_vec()
            }
            "LeaveChat" => v1::LeaveChatRequest { key: leaves.key(), fallback_accepted: false }.encode_to_vec(),
            "ResumeChat" => v1::ResumeChatRequest { key, locale, ticket }.encode_to_vec(),
            "EraseChat" => v1::EraseChatRequest { key: leaves.key() }.encode_to_vec(),
            "GetFallback" => v1::GetFallbackRequest { helpline, locale, region: String::new() }.encode_to_vec(),
            "GetLimits" => Vec::new(),
            "Session" if !word.is_empty() => {
                let action = v1::Action { action: Some(self.action(word)) };
                let message = Some(session_request::Message::Action(action));
                let acts = v1::SessionRequest { request_number: 7, message }.encode_to_vec();
                return vec![self.sign_in(BEN, false), acts];
            }
            "Session" => self.sign_in(BEN, false),
            "Watch" if rpc.contains("Dispatch") => {
                v1::WatchRequest { sign_in: Some(Self::signing_in(BEN, false)) }.encode_to_vec()
            }
            "Act" => self.acting(self.action(word)),
            "WatchFloor" => v1::WatchFloorRequest { helpline, limit: 100 }.encode_to_vec(),
            "AssignChat" => {
                let (chat_id, responder_id) = (assigned.chat_id, ANA.to_owned());
                v1::AssignChatRequest { supervisor, chat_id, responder_id, break_glass: true }.encode_to_vec()
            }
            "PullChat" => {
                let chat_id = self.active.chat_id.clone();
                v1::PullChatRequest { supervisor, chat_id }.encode_to_vec()
            }
            "TakeOver" => {
                let (chat_id, session, reply_handoff) = (taken_over.chat_id, self.session, Vec::new());
                v1::TakeOverRequest { supervisor: by(ANA), chat_id, session, reply_handoff }.encode_to_vec()
            }
            "SetUrgency" => {
                let urgency = v1::Urgency::Moderate.into();
                v1::SetUrgencyRequest { supervisor, chat_id, urgency }.encode_to_vec()
            }
            "EndChat" => {
                let (chat_id, outcome) = (assigned.chat_id, v1::ChatOutcome::Blocked.into());
                v1::EndChatRequest { supervisor, chat_id, outcome }.encode_to_vec()
            }
            "ProposeBlock" => {
                let chat_id = leaves.chat_id;
                v1::ProposeBlockRequest { supervisor, chat_id, r#for: minute }.encode_to_vec()
            }
            "ConfirmBlock" => {
                let (supervisor, block_id) = (by("staffmark-lea"), self.block.clone());
                v1::ConfirmBlockRequest { supervisor, block_id }.encode_to_vec()
            }
            "LiftBlock" => v1::LiftBlockRequest { supervisor, block_id: self.block.clone() }.encode_to_vec(),
            "ListBlocks" => {
                let after_block_id = String::new();
                v1::ListBlocksRequest { helpline, after_block_id, limit: 0 }.encode_to_vec()
            }
            "EndBreak" => v1::EndBreakRequest { supervisor, responder_id }.encode_to_vec(),
            "ExtendRest" => v1::ExtendRestRequest { supervisor, responder_id, r#for: minute }.encode_to_vec(),
            "ForceOffline" => v1::ForceOfflineRequest { supervisor, responder_id }.encode_to_vec(),
            "Reroute" => v1::RerouteRequest {
                supervisor,
                from_any_of: any_of("lang:es"),
                to_any_of: any_of("lang:en"),
                r#for: minute,
            }
            .encode_to_vec(),
            "ExplainRouting" if of_supervision => {
                v1::SupervisionServiceExplainRoutingRequest { helpline, chat_id }.encode_to_vec()
            }
            "GetKpis" if of_supervision => {
                v1::SupervisionServiceGetKpisRequest { helpline, window: None }.encode_to_vec()
            }
            "ExplainRouting" => v1::ExplainRoutingRequest { helpline, chat_id }.encode_to_vec(),
            "GetKpis" => v1::GetKpisRequest { helpline, window: None }.encode_to_vec(),
            "WatchEvents" => v1::WatchEventsRequest { helpline, from_cursor: String::new() }.encode_to_vec(),
            "GetChat" => v1::GetChatRequest { helpline, key: visits.hashed(), ticket_version: 0 }.encode_to_vec(),
            "GetPlace" => v1::GetPlaceRequest { helpline, chat_id }.encode_to_vec(),
            "GetResponder" => v1::GetResponderRequest { helpline, responder_id: ANA.to_owned() }.encode_to_vec(),
            "GetFloor" => v1::GetFloorRequest { helpline, limit: 100 }.encode_to_vec(),
            "GetPolicy" => v1::GetPolicyRequest { helpline, revision: 0 }.encode_to_vec(),
            "PutPolicy" => v1::PutPolicyRequest {
                helpline,
                toml: super::POLICY.to_owned(),
                expected_revision: self.revision,
                supervisor_id: "staffmark-olga".to_owned(),
                dry_run: false,
            }
            .encode_to_vec(),
            "ReadAudit" => v1::ReadAuditRequest { helpline, after: 0, limit: 100 }.encode_to_vec(),
            "Check" | "Watch" => Vec::new(),
            "ServerReflectionInfo" => reflection(),
            other => panic!("{other}: say here what a whole request of it looks like"),
        };
        vec![message]
    }

    /// Plants one canary of every kind in every field, in requests that are whole but for that.
    pub async fn plant_everywhere(&mut self) {
        for field in contract::fields() {
            for kind in kinds(&field) {
                self.plant(&field, kind).await;
            }
        }
    }

    async fn plant(&mut self, field: &Field, kind: Kind) {
        let canary = if is_staff(&field.path) {
            format!("{STAFF}{}", if kind == Kind::Slug { "-new" } else { " @ the river line" })
        } else {
            self.canaries.plant(kind, &field.name())
        };
        self.prepare(&field.rpc).await;
        let mut messages = self.whole(&field.rpc, &field.path);
        if field.path.ends_with("handoff") {
            self.contents.lock().expect("no panic").push(canary.clone().into_bytes());
        }
        messages.last_mut().expect("a message").extend(field.holding(canary.as_bytes()));
        assert!(super::places::holds(messages.last().expect("a message"), canary.as_bytes()), "{}", field.name());
        self.planted.insert(field.name());
        let answer = self.send(&field.rpc, messages).await;
        if answer.refused {
            self.refused.insert(field.rpc.clone());
        } else if !is_staff(&field.path) {
            self.taken.insert(field.name());
        }
    }

    /// Who puts a policy must have seen the one that is in force; who confirms a block or lifts it needs one.
    async fn prepare(&mut self, rpc: &str) {
        if rpc.ends_with("/ConfirmBlock") || rpc.ends_with("/LiftBlock") {
            self.block = self.some_block().await;
        }
        if rpc.ends_with("/PutPolicy") {
            let asking = v1::GetPolicyRequest { helpline: HELPLINE.to_owned(), revision: 0 };
            let answer = self.call("holdfast.v1.QueueService/GetPolicy", asking.encode_to_vec()).await;
            let answer = v1::GetPolicyResponse::decode(answer.messages[0].clone()).expect("a policy");
            self.revision = answer.revision;
        }
    }

    /// The block that there is, or one that is proposed now.
    async fn some_block(&mut self) -> String {
        const PROPOSE: &str = "holdfast.v1.SupervisionService/ProposeBlock";
        const LIST: &str = "holdfast.v1.SupervisionService/ListBlocks";
        let whole = self.whole(LIST, "").remove(0);
        let answer = self.call(LIST, whole).await;
        let listed = v1::SupervisionServiceListBlocksResponse::decode(answer.messages[0].clone());
        if let Some(block) = listed.expect("a page").blocks.pop() {
            return block.block_id;
        }
        let whole = self.whole(PROPOSE, "").remove(0);
        let answer = self.call(PROPOSE, whole).await;
        v1::ProposeBlockResponse::decode(answer.messages[0].clone()).expect("an answer").block_id
    }

    /// Has every RPC carried out once, what ends something last.
    pub async fn have_everything_carried_out(&mut self) {
        self.act(action::Action::Heartbeat(v1::Heartbeat {})).await;
        let mut rpcs = contract::rpcs();
        let late = ["LiftBlock", "TakeOver", "PullChat", "EndChat", "LeaveChat", "EraseChat", "ForceOffline"];
        rpcs.sort_by_key(|rpc| late.iter().position(|late| rpc.ends_with(late)).map_or(0, |at| at + 1));
        for rpc in rpcs {
            if self.carried_out.contains(&rpc) {
                continue; // with a canary in one of its fields
            }
            let ben_is_here = self.ben_takes_a_break(&rpc).await;
            self.prepare(&rpc).await;
            let whole = self.whole(&rpc, "").remove(0);
            self.call(&rpc, whole).await;
            drop(ben_is_here);
        }
    }

    /// Acts about a responder need one who is there, and on a break.
    async fn ben_takes_a_break(&mut self, rpc: &str) -> Option<Streaming<Bytes>> {
        if !["EndBreak", "ExtendRest", "ForceOffline"].iter().any(|about| rpc.ends_with(about)) {
            return None;
        }
        let set = v1::SetStatus { status: v1::ResponderStatus::OnBreak.into() };
        let action = v1::Action { action: Some(action::Action::SetStatus(set)) };
        let message = Some(session_request::Message::Action(action));
        let status = v1::SessionRequest { request_number: 1, message }.encode_to_vec();
        let messages = vec![self.sign_in(BEN, true), status];
        let mut stream = self.open("holdfast.v1.DispatchService/Session", messages).await.expect("a session");
        loop {
            if let Some(session_response::Message::Result(_)) = self.next_of_session(&mut stream).await {
                return Some(stream);
            }
        }
    }

    async fn call(&mut self, rpc: &str, message: Vec<u8>) -> Answer {
        let answer = self.send(rpc, vec![message]).await;
        assert!(!answer.refused, "{rpc} is refused: {}", self.heard_last());
        answer
    }

    fn heard_last(&self) -> String {
        let heard = self.heard.lock().expect("no panic");
        String::from_utf8_lossy(&heard[heard.len().saturating_sub(400)..]).into_owned()
    }

    async fn open(&mut self, rpc: &str, messages: Vec<Vec<u8>>) -> Result<Streaming<Bytes>, Status> {
        let [intake, queue, dispatch] = self.channels.clone();
        let channel = match rpc {
            rpc if rpc.contains("IntakeService") => intake,
            rpc if rpc.contains("QueueService") || rpc.starts_with("grpc.") => queue,
            _ => dispatch,
        };
        self.calls += 1;
        // Only a stream stays open behind what was said.
        let stays = ["/Session", "/ServerReflectionInfo"].iter().any(|stream| rpc.ends_with(stream));
        let messages = iter(messages.into_iter().map(Bytes::from));
        let path = PathAndQuery::try_from(format!("/{rpc}")).expect("a path");
        let mut client = Grpc::new(channel);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let answer = if stays {
            client.streaming(self.telling(rpc, messages.chain(pending())), path, AsBytes).await
        } else {
            client.streaming(self.telling(rpc, messages), path, AsBytes).await
        };
        let answer = answer.inspect_err(|status| self.keep_refusal(rpc, status))?;
        keep(&self.heard, format!("{:?}", answer.metadata()).as_bytes());
        Ok(answer.into_inner())
    }

    async fn send(&mut self, rpc: &str, messages: Vec<Vec<u8>>) -> Answer {
        let wanted = messages.len();
        let sending = async {
            let mut stream = match self.open(rpc, messages).await {
                Ok(stream) => stream,
                Err(_) => return Answer { refused: true, messages: Vec::new() },
            };
            let mut messages = Vec::new();
            while messages.len() < wanted {
                match stream.message().await {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(status) => {
                        self.keep_refusal(rpc, &status);
                        return Answer { refused: true, messages };
                    }
                }
            }
            for message in &messages {
                self.keep_answer(rpc, message);
            }
            Answer { refused: messages.last().is_some_and(|last| is_refusal(rpc, last)), messages }
        };
        let sent = timeout(PATIENCE, sending).await;
        let answer = sent.unwrap_or_else(|_| panic!("{rpc} does not answer"));
        if !answer.refused {
            self.carried_out.insert(rpc.to_owned());
        }
        answer
    }

    fn keep_refusal(&self, rpc: &str, status: &Status) {
        if !rpc.ends_with(REPEATING) {
            keep(&self.heard, said(status).as_bytes());
        }
    }

    fn keep_answer(&self, rpc: &str, message: &[u8]) {
        if rpc.ends_with(REPEATING) {
            return;
        }
        if DELIVERING.contains(&rpc) {
            return keep(&self.heard, &without(message, &self.contents.lock().expect("no panic")));
        }
        keep(&self.heard, message);
    }

    /// A call whose headers tell everything that a device, a proxy or a page could tell.
    fn telling<T>(&self, rpc: &str, messages: T) -> Request<T> {
        let mut request = Request::new(messages);
        let headers = request.metadata_mut();
        for (name, value) in telling_headers(self.calls) {
            let key: AsciiMetadataKey = name.parse().expect("a header");
            headers.insert(key, value.parse().expect("a value"));
        }
        if let Some(key) = self.doors.integrator.as_ref().filter(|_| rpc.ends_with("/RequestChat")) {
            headers.insert("authorization", format!("Bearer {key}").parse().expect("a value"));
        }
        let bytes = BinaryMetadataValue::from_bytes(b"Zebedina Quillfeather");
        headers.insert_bin("visitor-bin".parse::<BinaryMetadataKey>().expect("a header"), bytes.clone());
        headers.insert_bin("grpc-trace-bin".parse::<BinaryMetadataKey>().expect("a header"), bytes);
        request
    }

    /// Knocks in ways that no client of ours would.
    pub async fn knock(&mut self) {
        let doors = [self.doors.intake, self.doors.queue, self.doors.dispatch];
        for door in doors.into_iter().chain(self.doors.admin.clone()) {
            for path in [
                "/zebedina/quillfeather?from=203.0.113.77",
                "/metrics?visitor=zebedina",
                "/holdfast.v1.IntakeService/GetFallback",
                "/",
            ] {
                for method in ["GET", "POST", "Zebedina"] {
                    for kind in ["text/html", "application/grpc", "application/grpc-web+proto"] {
                        keep(&self.heard, &plainly(door, &spoken(method, path, kind)).await);
                    }
                }
            }
            keep(&self.heard, &plainly(door, b"Zebedina Quillfeather cannot go on\r\n\r\n").await);
        }
        for path in ["/zebedina.Quillfeather/Cannot", "/holdfast.v1.IntakeService/Zebedina"] {
            for channel in self.channels.clone() {
                self.calls += 1;
                let mut client = Grpc::new(channel);
                client.ready().await.expect("a connection");
                let request = self.telling(path, iter([Bytes::from_static(b"Zebedina Quillfeather")]));
                let answer = client.streaming(request, PathAndQuery::from_static(path), AsBytes).await;
                keep(&self.heard, said(&answer.expect_err("no such method")).as_bytes());
            }
        }
    }

    /// Whether nobody knows through whom they come.
    pub fn is_anonymous(&self) -> bool {
        self.doors.integrator.is_none()
    }

    /// All that anybody was answered.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().expect("no panic").clone()
    }
}

/// Which canaries are planted in a field: who staff are is not looked for, so there only what is refused and what is not.
fn kinds(field: &Field) -> Vec<Kind> {
    if is_staff(&field.path) { vec![Kind::Slug, Kind::Email] } else { Kind::ALL.to_vec() }
}

/// Fields that say who of the staff somebody is, or are published by them: [`super::KEPT`] has the reasons.
fn is_staff(path: &str) -> bool {
    ["responder_id", "supervisor_id", "toml"]
        .iter()
        .any(|name| path == *name || path.ends_with(&format!(".{name}")))
}

/// Whether the last message of an answer says no.
fn is_refusal(rpc: &str, message: &Bytes) -> bool {
    let result = if rpc.ends_with("/Act") {
        v1::ActResponse::decode(message.clone()).ok().and_then(|answer| answer.result)
    } else if rpc.ends_with("/Session") {
        let answer = v1::SessionResponse::decode(message.clone()).ok().and_then(|answer| answer.message);
        answer.and_then(|message| match message {
            session_response::Message::Result(result) => Some(result),
            _ => None,
        })
    } else {
        None
    };
    result.is_some_and(|result| result.code != 0)
}

fn said(status: &Status) -> String {
    let headers: &MetadataMap = status.metadata();
    format!("{} {} {headers:?}\n", status.message(), String::from_utf8_lossy(status.details()))
}

fn keep(heard: &Mutex<Vec<u8>>, more: &[u8]) {
    let mut heard = heard.lock().expect("no panic");
    heard.extend(more);
    heard.push(b'\n');
}

/// The same without content, which is in it because its reader asked for it.
fn without(message: &[u8], contents: &[Vec<u8>]) -> Vec<u8> {
    let mut rest = message.to_vec();
    for content in contents {
        while let Some(at) = rest.windows(content.len()).position(|part| part == content) {
            rest.drain(at..at + content.len());
        }
    }
    rest
}

fn telling_headers(call: u64) -> Vec<(&'static str, String)> {
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let sane = call.is_multiple_of(2);
    vec![
        ("x-forwarded-for", format!("{V6}, {V4}")),
        ("forwarded", format!("for={V4};host=quillfeather.example;by=\"[{V6}]\"")),
        ("x-real-ip", V4.to_owned()),
        ("x-client-ip", V6.to_owned()),
        ("cf-connecting-ip", V4.to_owned()),
        ("true-client-ip", V4.to_owned()),
        ("via", "1.1 quillfeather.example".to_owned()),
        ("referer", "https://quillfeather.example/zebedina?i=cannot+go+on".to_owned()),
        ("origin", "https://quillfeather.example".to_owned()),
        ("cookie", "visitor=zebedina; at=203.0.113.77".to_owned()),
        ("from", "zebedina@quillfeather.example".to_owned()),
        ("accept-language", "zebedina".to_owned()),
        ("authorization", "Bearer zebedina.quillfeather".to_owned()),
        ("x-request-id", "zebedina-quillfeather".to_owned()),
        ("x-user-name", "Zebedina Quillfeather".to_owned()),
        ("x-user-phone", "+4312349876550".to_owned()),
        ("sec-ch-ua", "\"Quillfox\";v=\"7\"".to_owned()),
        ("baggage", "visitor=zebedina,ip=203.0.113.77".to_owned()),
        ("b3", "zebedina".to_owned()),
        ("tracestate", "quillfeather=zebedina,ip=203.0.113.77".to_owned()),
        ("traceparent", if sane { traceparent } else { "00-zebedina-quillfeather-01".to_owned() }),
        ("grpc-encoding", "identity".to_owned()),
    ]
}

/// A connection from an address that can be told from every other, where there is such a one.
fn channel(to: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an address");
    let endpoint = endpoint.user_agent("Quillfox/7.7 (zebedina; X11)").expect("a name");
    let endpoint = endpoint.origin("http://zebedina.quillfeather.example".parse().expect("an address"));
    let endpoint = if cfg!(target_os = "linux") { endpoint.local_address(Some(peer())) } else { endpoint };
    endpoint.connect_timeout(PATIENCE).connect_lazy()
}

fn peer() -> std::net::IpAddr {
    PEER.parse().expect("an address")
}

/// A request of plain HTTP.
fn spoken(method: &str, path: &str, kind: &str) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: zebedina.quillfeather.example\r\n");
    request +=
        &format!("user-agent: Quillfox/7.7\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: 8\r\n");
    for (name, value) in telling_headers(1) {
        request += &format!("{name}: {value}\r\n");
    }
    (request + "\r\nzebedina").into_bytes()
}

/// What a port answers to these bytes; nothing when it hangs up.
async fn plainly(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = TcpSocket::new_v4().expect("a socket");
    if cfg!(target_os = "linux") {
        socket.bind(SocketAddr::new(peer(), 0)).expect("an address of this machine");
    }
    let mut answer = Vec::new();
    let asking = async {
        let mut stream = socket.connect(to).await?;
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut answer).await
    };
    // Whoever hangs up has answered.
    let _ = timeout(Duration::from_secs(5), asking).await;
    answer
}

fn reflection() -> Vec<u8> {
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};
    let message_request = Some(MessageRequest::ListServices(String::new()));
    ServerReflectionRequest { host: String::new(), message_request }.encode_to_vec()
}
