//! A queue that keeps chats in a map, does what a test tells it to, and writes down what it was asked.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{Stream, StreamExt};
use holdfast_proto::v1::{
    self, AttachRequest, AttachResponse, Chat, ChatOutcomeView, ChatState, Command, CommandError, Event,
    GetChatResponse, GetPolicyRequest, GetPolicyResponse, Notice, Outcome, RequestCommand, TriageCommand, Urgency,
    Welcome, attach_request as from, attach_response as to, command, outcome,
    queue_service_server::{QueueService, QueueServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};

use crate::world::socket;

/// How it answers to GetPolicy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyDesk {
    Answers,
    Fails,
    Hangs,
}

/// A chat, and what GetChat says beside it.
#[derive(Clone, Default)]
pub(crate) struct KeptChat {
    pub(crate) token_hash: Vec<u8>,
    pub(crate) chat: Chat,
    pub(crate) responder_id: String,
}

/// What it keeps.
pub(crate) struct Kept {
    pub(crate) policy_desk: PolicyDesk,
    /// By helpline, oldest first: the last one is in force, and its revision is their number.
    pub(crate) policies: HashMap<String, Vec<String>>,
    /// By helpline and id.
    pub(crate) chats: HashMap<(String, String), KeptChat>,
    /// Every request and triage, as it came.
    pub(crate) asked: Vec<Command>,
    /// Answers to the next requests, instead of accepting them.
    pub(crate) refusals: VecDeque<CommandError>,
    /// Every request that names a revision is told that there is another.
    pub(crate) policy_always_changed: bool,
    /// IMMINENT chats are let in as HIGH ones.
    pub(crate) imminent_as_high: bool,
    /// How often a policy was asked for.
    pub(crate) policies_read: usize,
    /// By request key: helpline, chat id, digest of the body.
    requests: HashMap<Vec<u8>, (String, String, Vec<u8>)>,
    streams: Vec<mpsc::Sender<Result<AttachResponse, Status>>>,
}

/// The queue, running.
pub(crate) struct Line {
    pub(crate) address: String,
    kept: Arc<Mutex<Kept>>,
    _server: AbortOnDropHandle<()>,
}

impl Line {
    /// With this policy in force for helpline "demo".
    pub(crate) async fn with(policy: &str) -> Self {
        let (listener, address) = socket().await;
        let kept = Kept {
            policy_desk: PolicyDesk::Answers,
            policies: HashMap::from([("demo".to_owned(), vec![policy.to_owned()])]),
            chats: HashMap::new(),
            asked: Vec::new(),
            refusals: VecDeque::new(),
            policy_always_changed: false,
            imminent_as_high: false,
            policies_read: 0,
            requests: HashMap::new(),
            streams: Vec::new(),
        };
        let kept = Arc::new(Mutex::new(kept));
        let serving = tokio::spawn(serve(listener, Arc::clone(&kept)));
        Self { address, kept, _server: AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// Puts a policy in force for "demo"; nobody is told.
    pub(crate) fn put_policy(&self, policy: &str) {
        self.kept().policies.get_mut("demo").unwrap().push(policy.to_owned());
    }

    /// Tells everybody who is attached.
    pub(crate) fn tell(&self, kind: &str, chat_id: &str) {
        let event = Event { kind: kind.to_owned(), chat_id: chat_id.to_owned(), ..Event::default() };
        let notice = Notice { helpline: "demo".to_owned(), event: Some(event) };
        for stream in &self.kept().streams {
            let _ = stream.try_send(Ok(answer(0, to::Message::Notice(notice.clone()))));
        }
    }

    /// Changes a chat of "demo", and tells.
    pub(crate) fn change(&self, chat_id: &str, change: impl FnOnce(&mut KeptChat)) {
        let key = ("demo".to_owned(), chat_id.to_owned());
        let mut kept = self.kept();
        let chat = kept.chats.get_mut(&key).unwrap();
        change(chat);
        chat.chat.version += 1;
        drop(kept);
        self.tell("accepted", chat_id);
    }

    /// The requests, as they came.
    pub(crate) fn requests(&self) -> Vec<RequestCommand> {
        let request = |c: &Command| match &c.command {
            Some(command::Command::Request(request)) => Some(request.clone()),
            _ => None,
        };
        self.kept().asked.iter().filter_map(request).collect()
    }

    /// The last request, as it came.
    pub(crate) fn request(&self) -> RequestCommand {
        self.requests().pop().unwrap()
    }

    /// The words about urgency, as they came.
    pub(crate) fn triages(&self) -> Vec<TriageCommand> {
        let triage = |c: &Command| match &c.command {
            Some(command::Command::Triage(triage)) => Some(triage.clone()),
            _ => None,
        };
        self.kept().asked.iter().filter_map(triage).collect()
    }

    /// How urgent a chat of "demo" is.
    pub(crate) fn urgency(&self, chat_id: &str) -> Urgency {
        self.kept().chats[&("demo".to_owned(), chat_id.to_owned())].chat.urgency()
    }
}

pub(crate) fn refusal(code: Code, reason: &str, field: &str) -> CommandError {
    let message = if field.is_empty() { "no".to_owned() } else { format!("{field}: is wrong") };
    CommandError {
        code: i32::from(code),
        message,
        reason: reason.to_owned(),
        field: field.to_owned(),
        ..CommandError::default()
    }
}

async fn serve(listener: TcpListener, kept: Arc<Mutex<Kept>>) {
    let server = Server::builder().add_service(QueueServiceServer::new(Queue { kept }));
    server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
}

fn answer(correlation: u64, message: to::Message) -> AttachResponse {
    AttachResponse { correlation, message: Some(message) }
}

impl Kept {
    fn carry_out(&mut self, asked: Command) -> to::Message {
        let helpline = asked.helpline.clone();
        let done = match asked.command.clone() {
            Some(command::Command::Request(request)) => {
                self.asked.push(asked);
                self.accept(&helpline, request)
            }
            Some(command::Command::Triage(triage)) => {
                self.asked.push(asked);
                self.triage(&helpline, &triage)
            }
            Some(command::Command::Beat(beat)) => self.view(&helpline, &beat.key.unwrap().chat_id, false),
            _ => Err(refusal(Code::Unimplemented, "NOT_HERE", "")),
        };
        match done {
            Ok(view) => {
                to::Message::Outcome(Outcome { outcome: Some(outcome::Outcome::Chat(view)), durability: None })
            }
            Err(error) => to::Message::Error(error),
        }
    }

    fn accept(&mut self, helpline: &str, request: RequestCommand) -> Result<ChatOutcomeView, CommandError> {
        if let Some((helpline, chat_id, body)) = self.requests.get(&request.request_key).cloned() {
            if body != request.body_digest {
                return Err(refusal(Code::AlreadyExists, "REQUEST_CONFLICT", ""));
            }
            return self.view(&helpline, &chat_id, true);
        }
        let revision = self.policies.get(helpline).map_or(0, Vec::len) as u64;
        let named = request.policy_revision;
        if named != 0 && (self.policy_always_changed || named != revision) {
            let mut changed = refusal(Code::Aborted, "POLICY_CHANGED", "");
            changed.metadata.insert("revision".to_owned(), revision.to_string());
            return Err(changed);
        }
        if let Some(refusal) = self.refusals.pop_front() {
            return Err(refusal);
        }
        let RequestCommand { chat_id, request_key, body_digest, token_hash, urgency, .. } = request;
        let is_capped = self.imminent_as_high && urgency == i32::from(Urgency::Imminent);
        let urgency = if is_capped { Urgency::High.into() } else { urgency };
        let state = ChatState::Waiting.into();
        let chat = Chat { chat_id: chat_id.clone(), state, urgency, place: 1, version: 1, ..Chat::default() };
        self.requests.insert(request_key, (helpline.to_owned(), chat_id.clone(), body_digest));
        let kept = KeptChat { token_hash, chat, responder_id: String::new() };
        self.chats.insert((helpline.to_owned(), chat_id.clone()), kept);
        self.view(helpline, &chat_id, false)
    }

    fn triage(&mut self, helpline: &str, triage: &TriageCommand) -> Result<ChatOutcomeView, CommandError> {
        let key = triage.key.clone().unwrap();
        let chat = self.chats.get_mut(&(helpline.to_owned(), key.chat_id.clone())).unwrap();
        assert_eq!(chat.token_hash, key.token_hash);
        chat.chat.urgency = chat.chat.urgency.max(triage.urgency);
        self.view(helpline, &key.chat_id, false)
    }

    fn view(&self, helpline: &str, chat_id: &str, replayed: bool) -> Result<ChatOutcomeView, CommandError> {
        let chat = self.chats.get(&(helpline.to_owned(), chat_id.to_owned()));
        let chat = chat.ok_or_else(|| refusal(Code::NotFound, "UNKNOWN_CHAT", ""))?;
        Ok(ChatOutcomeView { chat: Some(chat.chat.clone()), replayed, ..ChatOutcomeView::default() })
    }
}

struct Queue {
    kept: Arc<Mutex<Kept>>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl QueueService for Queue {
    type AttachStream = Messages<AttachResponse>;
    type WatchEventsStream = Messages<v1::WatchEventsResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (to_client, responses) = mpsc::channel(256);
        let kept = Arc::clone(&self.kept);
        let mut incoming = request.into_inner();
        let welcome = Welcome { replica: "fake".to_owned(), window: 64, ..Welcome::default() };
        to_client.try_send(Ok(answer(0, to::Message::Welcome(welcome)))).unwrap();
        kept.lock().unwrap().streams.push(to_client.clone());
        tokio::spawn(async move {
            while let Ok(Some(asked)) = incoming.message().await {
                if let Some(from::Message::Command(command)) = asked.message {
                    let done = kept.lock().unwrap().carry_out(command);
                    if to_client.send(Ok(answer(asked.correlation, done))).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses).boxed()))
    }

    async fn get_chat(&self, request: Request<v1::GetChatRequest>) -> Result<Response<GetChatResponse>, Status> {
        let request = request.into_inner();
        let key = request.key.unwrap();
        let chat = self.kept.lock().unwrap().chats.get(&(request.helpline, key.chat_id)).cloned();
        let chat = chat.filter(|c| c.token_hash == key.token_hash);
        let KeptChat { chat, responder_id, .. } = chat.ok_or_else(|| Status::not_found("no such chat"))?;
        Ok(Response::new(GetChatResponse { chat: Some(chat), responder_id, ..GetChatResponse::default() }))
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<GetPolicyResponse>, Status> {
        let (desk, policies) = {
            let mut kept = self.kept.lock().unwrap();
            kept.policies_read += 1;
            (kept.policy_desk, kept.policies.get(&request.into_inner().helpline).cloned())
        };
        match desk {
            PolicyDesk::Answers => {}
            PolicyDesk::Fails => return Err(Status::internal("broken")),
            PolicyDesk::Hangs => pending().await,
        }
        let policies = policies.ok_or_else(|| Status::not_found("no such helpline"))?;
        let toml = policies.last().unwrap().clone();
        Ok(Response::new(GetPolicyResponse { toml, revision: policies.len() as u64 }))
    }

    async fn execute(&self, _: Request<v1::ExecuteRequest>) -> Result<Response<v1::ExecuteResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_place(&self, _: Request<v1::GetPlaceRequest>) -> Result<Response<v1::GetPlaceResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_responder(
        &self,
        _: Request<v1::GetResponderRequest>,
    ) -> Result<Response<v1::GetResponderResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_floor(&self, _: Request<v1::GetFloorRequest>) -> Result<Response<v1::GetFloorResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn put_policy(
        &self,
        _: Request<v1::PutPolicyRequest>,
    ) -> Result<Response<v1::PutPolicyResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn explain_routing(
        &self,
        _: Request<v1::ExplainRoutingRequest>,
    ) -> Result<Response<v1::ExplainRoutingResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_kpis(&self, _: Request<v1::GetKpisRequest>) -> Result<Response<v1::GetKpisResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_blocks(
        &self,
        _: Request<v1::ListBlocksRequest>,
    ) -> Result<Response<v1::ListBlocksResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn read_audit(
        &self,
        _: Request<v1::ReadAuditRequest>,
    ) -> Result<Response<v1::ReadAuditResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
