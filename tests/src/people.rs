//! A visitor and a responder, as small as their devices could be: they remember what came and wait with a deadline.

use crate::inbox::Inbox;
use crate::processes::{HELPLINE, PATIENCE, connect};
use holdfast_proto::v1::action::Action as Word;
use holdfast_proto::v1::dispatch_service_client::DispatchServiceClient;
use holdfast_proto::v1::intake_service_client::IntakeServiceClient;
use holdfast_proto::v1::session_response::Message;
use holdfast_proto::v1::watch_chat_response::Message as Watched;
use holdfast_proto::v1::{
    Accept, Action, ActionResult, Assignment, AssignmentEnded, Challenge, ChallengeSolution, Chat, ChatKey,
    ChatState, ChatUpdate, Close, Decline, DeclineReason, Drain, Engaged, EraseChatRequest, Fence, Heartbeat,
    LeaveChatRequest, Offer, RequestChatRequest, RequestChatResponse, Rescinded, ResponderStatus,
    ResumeChatRequest, ResumeChatResponse, SessionRequest, SessionResponse, SetStatus, SignIn, SignOut, SignedIn,
    Tag, Transfer, Urgency, WatchChatRequest, WatchChatResponse, session_request,
};
use prost::Message as _;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::pb;

/// Results of heartbeats bear numbers from here on.
const HEARTBEATS: u64 = 1 << 32;

/// Somebody in distress, and their device.
pub struct Visitor {
    /// What they ask.
    pub ask: RequestChatRequest,
    /// Headers that their device sends.
    pub headers: Vec<(&'static str, String)>,
    /// Their hold on the chat, once they have one.
    pub key: ChatKey,
    /// The newest ticket that they kept.
    pub ticket: Vec<u8>,
    client: IntakeServiceClient<Channel>,
    inbox: Option<Inbox<WatchChatResponse>>,
}

impl Visitor {
    /// Somebody who is about to ask at an address.
    pub async fn at(url: &str) -> Self {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let request_id = format!("{}-{}", std::process::id(), ASKED.fetch_add(1, Ordering::Relaxed));
        let ask =
            RequestChatRequest { helpline: HELPLINE.to_owned(), request_id, ..RequestChatRequest::default() };
        let client = IntakeServiceClient::new(connect(url).await);
        Self { ask, headers: Vec::new(), key: ChatKey::default(), ticket: Vec::new(), client, inbox: None }
    }

    /// Somebody else over the same connection, as at an integrator's.
    pub fn beside(&self, request_id: &str) -> Self {
        let ask = RequestChatRequest { request_id: request_id.to_owned(), ..self.ask.clone() };
        let (headers, client) = (self.headers.clone(), self.client.clone());
        Self { ask, headers, key: ChatKey::default(), ticket: Vec::new(), client, inbox: None }
    }

    /// The same person on another connection, watching nothing.
    pub async fn elsewhere(&self, url: &str) -> Self {
        let client = IntakeServiceClient::new(connect(url).await);
        let (ask, headers, key) = (self.ask.clone(), self.headers.clone(), self.key.clone());
        Self { ask, headers, key, ticket: self.ticket.clone(), client, inbox: None }
    }

    /// As urgent as said.
    pub fn urgent(mut self, urgency: Urgency) -> Self {
        self.ask.urgency = urgency.into();
        self
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(PATIENCE);
        for (name, value) in &self.headers {
            let value = MetadataValue::try_from(value.as_str()).expect("a header");
            request.metadata_mut().insert(MetadataKey::from_static(name), value);
        }
        request
    }

    /// Asks for a chat.
    pub async fn try_ask(&mut self) -> Result<RequestChatResponse, Status> {
        let request = self.request(self.ask.clone());
        let asked = self.client.request_chat(request).await?.into_inner();
        let chat_id = asked.chat.as_ref().map(|chat| chat.chat_id.clone()).unwrap_or_default();
        self.ticket.clone_from(&asked.ticket);
        self.key = ChatKey { helpline: HELPLINE.to_owned(), chat_id, visitor_token: asked.visitor_token.clone() };
        Ok(asked)
    }

    /// Does the work that a refusal asks for, as the contract says; the next request carries it.
    pub fn works(&mut self, refused: &Status) -> Challenge {
        let said = pb::Status::decode(refused.details()).expect("details");
        let any = said.details.iter().find(|any| any.type_url.ends_with("/holdfast.v1.Challenge"));
        let challenge = Challenge::decode(any.expect("a challenge").value.as_slice()).expect("a challenge");
        let id = self.ask.request_id.as_bytes();
        let is_solved = |nonce: &[u8; 8]| {
            let hash = Sha256::digest([challenge.token.as_slice(), id, nonce].concat());
            u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]).leading_zeros() >= challenge.bits
        };
        let nonce = (0..u64::MAX).map(u64::to_be_bytes).find(is_solved).expect("a nonce").to_vec();
        self.ask.challenge_solution = Some(ChallengeSolution { token: challenge.token.clone(), nonce });
        challenge
    }

    /// Asks for a chat, gets one, and watches it.
    pub async fn asks(&mut self) -> RequestChatResponse {
        let asked = self.try_ask().await.expect("a chat");
        self.watch().await;
        asked
    }

    /// The chat's name.
    pub fn chat_id(&self) -> &str {
        &self.key.chat_id
    }

    /// Watches the chat; an older stream ends.
    pub async fn watch(&mut self) {
        let message = WatchChatRequest {
            key: Some(self.key.clone()),
            locale: self.ask.locale.clone(),
            ticket: self.ticket.clone(),
        };
        let request = self.request(message);
        let opened = timeout(PATIENCE, self.client.watch_chat(request)).await.expect("an answer in time");
        let mut stream = opened.expect("a stream").into_inner();
        self.inbox = Some(Inbox::new("visitor", |inbox| async move {
            while let Some(message) = stream.message().await.transpose() {
                let over = message.is_err();
                if inbox.send(message).is_err() || over {
                    return;
                }
            }
        }));
    }

    /// Puts the device away: the stream breaks.
    pub fn goes_silent(&mut self) {
        self.inbox = None;
    }

    /// What came over the stream.
    pub fn inbox(&mut self) -> &mut Inbox<WatchChatResponse> {
        self.inbox.as_mut().expect("a visitor who watches")
    }

    /// Waits until the chat stands so.
    pub async fn until(&mut self, state: ChatState) -> ChatUpdate {
        self.until_chat(state.as_str_name(), |chat| chat.state() == state).await
    }

    /// Waits until the chat is as described.
    pub async fn until_chat(&mut self, what: &str, is_so: impl Fn(&Chat) -> bool) -> ChatUpdate {
        self.until_update(what, |update| update.chat.as_ref().is_some_and(&is_so)).await
    }

    /// Waits for an update as described.
    pub async fn until_update(&mut self, what: &str, is_so: impl Fn(&ChatUpdate) -> bool) -> ChatUpdate {
        let pick = |message: &WatchChatResponse| match &message.message {
            Some(Watched::Update(update)) if is_so(update) => Some(update.clone()),
            _ => None,
        };
        self.inbox().until(what, pick).await
    }

    /// Waits for the word to go elsewhere.
    pub async fn drain(&mut self) -> Drain {
        let pick = |message: &WatchChatResponse| match &message.message {
            Some(Watched::Drain(drain)) => Some(*drain),
            _ => None,
        };
        self.inbox().until("drain", pick).await
    }

    /// How the chat stands, which also brings an abandoned one back.
    pub async fn resumes(&mut self) -> Chat {
        let message =
            ResumeChatRequest { key: Some(self.key.clone()), locale: String::new(), ticket: self.ticket.clone() };
        let request = self.request(message);
        let resumed = self.client.resume_chat(request).await.expect("a chat to come back to");
        resumed.into_inner().chat.expect("a chat")
    }

    /// Has everything erased that they said.
    pub async fn erases(&mut self) -> Chat {
        let request = self.request(EraseChatRequest { key: Some(self.key.clone()) });
        let erased = self.client.erase_chat(request).await.expect("an erased chat");
        erased.into_inner().chat.expect("a chat")
    }

    /// Presents the ticket without a stream, as an SMS gateway does.
    pub async fn try_resume(&mut self) -> Result<ResumeChatResponse, Status> {
        let (key, ticket) = (Some(self.key.clone()), self.ticket.clone());
        let request = self.request(ResumeChatRequest { key, locale: String::new(), ticket });
        Ok(self.client.resume_chat(request).await?.into_inner())
    }

    /// Leaves.
    pub async fn leaves(&mut self) -> Chat {
        self.try_leave().await.expect("a way out")
    }

    /// Leaves, if that can be heard.
    pub async fn try_leave(&mut self) -> Result<Chat, Status> {
        let request = self.request(LeaveChatRequest { key: Some(self.key.clone()), fallback_accepted: false });
        Ok(self.client.leave_chat(request).await?.into_inner().chat.unwrap_or_default())
    }
}

/// A volunteer, and their device.
pub struct Responder {
    /// As whom they come.
    pub sign_in: SignIn,
    /// The number of the session.
    pub session: u64,
    url: String,
    next: u64,
    connection: Option<Connection>,
}

struct Connection {
    out: mpsc::Sender<SessionRequest>,
    inbox: Inbox<SessionResponse>,
    quiet: tokio::sync::watch::Sender<bool>,
}

impl Responder {
    /// A volunteer for one chat at a time, at an address, before they sign in.
    pub async fn at(url: &str, id: &str) -> Self {
        let sign_in = SignIn {
            helpline: HELPLINE.to_owned(),
            responder_id: id.to_owned(),
            capabilities: Vec::new(),
            capacity: 1,
            ready: true,
            ..SignIn::default()
        };
        Self { sign_in, session: 0, url: url.to_owned(), next: 1, connection: None }
    }

    /// Who can do this too.
    pub fn can(mut self, tag: &str) -> Self {
        self.sign_in.capabilities.push(Tag { name: tag.to_owned(), level: 1 });
        self
    }

    /// Opens a session and says now and then that the device is alive.
    pub async fn sign_in(&mut self) -> SignedIn {
        self.open().await;
        let signed_in = self.pick("signed_in", |message| match message {
            Message::SignedIn(signed_in) => Some(*signed_in),
            _ => None,
        });
        let signed_in = signed_in.await;
        self.session = signed_in.session;
        signed_in
    }

    /// Opens a stream and says who comes, without waiting for an answer.
    pub async fn open(&mut self) {
        let (out, requests) = mpsc::channel(64);
        let first = session_request::Message::SignIn(self.sign_in.clone());
        out.try_send(SessionRequest { request_number: 0, message: Some(first) }).expect("room");
        let mut client = DispatchServiceClient::new(connect(&self.url).await);
        let opened = timeout(PATIENCE, client.session(ReceiverStream::new(requests))).await;
        let mut stream = opened.expect("an answer in time").expect("a stream").into_inner();
        let (quiet, is_quiet) = tokio::sync::watch::channel(false);
        let beats = out.clone();
        let inbox = Inbox::new(&self.sign_in.responder_id, |inbox| async move {
            let mut number = HEARTBEATS;
            let mut every = interval(Duration::from_secs(3600));
            loop {
                tokio::select! {
                    message = stream.message() => match message.transpose() {
                        Some(Ok(message)) if is_beat(&message) => {}
                        Some(Ok(message)) => {
                            if let Some(Message::SignedIn(signed_in)) = &message.message {
                                let beat = signed_in.heartbeat_every.and_then(|d| d.try_into().ok());
                                every = interval(beat.unwrap_or(Duration::from_secs(3)));
                            }
                            if inbox.send(Ok(message)).is_err() {
                                return;
                            }
                        }
                        Some(Err(status)) => {
                            let _ = inbox.send(Err(status));
                            return;
                        }
                        None => return,
                    },
                    _ = every.tick() => {
                        if !*is_quiet.borrow() {
                            number += 1;
                            let beat = action(Word::Heartbeat(Heartbeat {}));
                            let _ = beats.try_send(SessionRequest { request_number: number, message: beat });
                        }
                    }
                }
            }
        });
        self.connection = Some(Connection { out, inbox, quiet });
    }

    /// Moves to another replica; the connection there is the next sign-in's.
    pub fn goes_to(&mut self, url: &str) {
        self.connection = None;
        self.url = url.to_owned();
    }

    /// The device dies: the stream breaks.
    pub fn vanishes(&mut self) {
        self.connection = None;
    }

    /// The device hangs: the stream stays, but nothing more is said.
    pub fn hangs(&mut self) {
        let _ = self.connection().quiet.send(true);
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a responder with a session")
    }

    /// What came over the stream.
    pub fn inbox(&mut self) -> &mut Inbox<SessionResponse> {
        &mut self.connection().inbox
    }

    async fn pick<R>(&mut self, what: &str, pick: impl Fn(&Message) -> Option<R>) -> R {
        self.inbox().pick(what, |response| response.message.as_ref().and_then(&pick)).await
    }

    /// The next offer.
    pub async fn offer(&mut self) -> Offer {
        self.pick("offer", |message| match message {
            Message::Offer(offer) => Some(offer.clone()),
            _ => None,
        })
        .await
    }

    /// Whether an offer comes within a time.
    pub async fn is_offered_within(&mut self, within: Duration) -> bool {
        let pick = |response: &SessionResponse| matches!(response.message, Some(Message::Offer(_))).then_some(());
        self.inbox().comes_within(within, pick).await.is_some()
    }

    /// The next word that an offer is over.
    pub async fn rescinded(&mut self) -> Rescinded {
        self.pick("rescinded", |message| match message {
            Message::Rescinded(rescinded) => Some(rescinded.clone()),
            _ => None,
        })
        .await
    }

    /// The next chat that is theirs.
    pub async fn assignment(&mut self) -> Assignment {
        self.pick("assignment", |message| match message {
            Message::Assignment(assignment) => Some(assignment.clone()),
            _ => None,
        })
        .await
    }

    /// The next word that a chat is no longer theirs.
    pub async fn assignment_ended(&mut self) -> AssignmentEnded {
        self.pick("assignment_ended", |message| match message {
            Message::AssignmentEnded(ended) => Some(ended.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until they are told that they stand so.
    pub async fn until_status(&mut self, status: ResponderStatus) {
        self.pick(status.as_str_name(), |message| match message {
            Message::StatusChanged(changed) if changed.status() == status => Some(()),
            _ => None,
        })
        .await;
    }

    /// Waits for the word that a newer sign-in took over.
    pub async fn replaced(&mut self) {
        self.pick("replaced", |message| matches!(message, Message::Replaced(_)).then_some(())).await;
    }

    /// Waits for the word to go elsewhere.
    pub async fn drain(&mut self) -> Drain {
        self.pick("drain", |message| match message {
            Message::Drain(drain) => Some(*drain),
            _ => None,
        })
        .await
    }

    /// Does something, without waiting for what becomes of it; its number.
    pub fn begin(&mut self, word: Word) -> u64 {
        let number = self.next;
        self.next += 1;
        let request = SessionRequest { request_number: number, message: action(word) };
        self.connection().out.try_send(request).expect("room for an action");
        number
    }

    /// What became of an action.
    pub async fn result(&mut self, number: u64) -> ActionResult {
        self.pick("result", |message| match message {
            Message::Result(result) if result.request_number == number => Some(result.clone()),
            _ => None,
        })
        .await
    }

    /// Does something; what became of it.
    pub async fn does(&mut self, word: Word) -> ActionResult {
        let number = self.begin(word);
        self.result(number).await
    }

    /// Takes an offer, with a word for the visitor; what became of it.
    pub async fn try_accept(&mut self, offer: &Offer, reply: &str) -> ActionResult {
        self.does(accept(offer, reply)).await
    }

    /// Takes an offer and gets the chat.
    pub async fn accepts(&mut self, offer: &Offer) -> Assignment {
        let result = self.try_accept(offer, "").await;
        result.assignment.clone().unwrap_or_else(|| panic!("no assignment: {result:?}"))
    }

    /// Takes the next offer and gets the chat.
    pub async fn takes(&mut self) -> Assignment {
        let offer = self.offer().await;
        self.accepts(&offer).await
    }

    /// Turns an offer down.
    pub async fn declines(&mut self, offer: &Offer) {
        self.done(decline(offer)).await;
    }

    /// Ends a conversation.
    pub async fn closes(&mut self, chat: &Assignment) {
        self.done(close(chat)).await;
    }

    /// Hands a conversation on.
    pub async fn transfers(&mut self, chat: &Assignment) {
        let (chat_id, fence) = (chat.chat_id.clone(), chat.fence);
        self.done(Word::Transfer(Transfer { chat_id, fence })).await;
    }

    /// Declares a status.
    pub async fn declares(&mut self, status: ResponderStatus) {
        self.done(Word::SetStatus(SetStatus { status: status.into() })).await;
    }

    /// Goes home.
    pub async fn signs_out(&mut self) {
        self.done(Word::SignOut(SignOut {})).await;
    }

    async fn done(&mut self, word: Word) {
        let result = self.does(word.clone()).await;
        assert_eq!(result.code, 0, "{word:?}: {result:?}");
    }
}

/// Taking an offer.
pub fn accept(offer: &Offer, reply: &str) -> Word {
    let (chat_id, offer_number) = (offer.chat_id.clone(), offer.offer_number);
    Word::Accept(Accept { chat_id, offer_number, reply_handoff: reply.as_bytes().to_vec() })
}

/// Turning an offer down.
pub fn decline(offer: &Offer) -> Word {
    let reason = DeclineReason::Busy.into();
    Word::Decline(Decline { chat_id: offer.chat_id.clone(), offer_number: offer.offer_number, reason })
}

/// Writing for the first time, or again.
pub fn engage(chat: &Assignment) -> Word {
    Word::Engaged(Engaged { chat_id: chat.chat_id.clone(), fence: chat.fence })
}

/// Ending a conversation.
pub fn close(chat: &Assignment) -> Word {
    Word::Close(Close { chat_id: chat.chat_id.clone(), fence: chat.fence })
}

/// The number in a fence that rises.
pub fn epoch(fence: Option<&Fence>) -> u64 {
    fence.expect("a fence").epoch
}

fn action(word: Word) -> Option<session_request::Message> {
    Some(session_request::Message::Action(Action { action: Some(word) }))
}

fn is_beat(message: &SessionResponse) -> bool {
    matches!(&message.message, Some(Message::Result(result)) if result.request_number >= HEARTBEATS && result.code == 0)
}
