//! The visitors' calls.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use holdfast_domain::{ChatId, HelplineId};
use holdfast_link::{Link, LinkError};
use holdfast_proto::v1::{
    ChatOutcomeView, Command, Durability, EraseChatRequest, EraseChatResponse, EraseCommand, GetFallbackRequest,
    GetFallbackResponse, GetLimitsRequest, GetLimitsResponse, LeaveChatRequest, LeaveChatResponse, LeaveCommand,
    RequestChatRequest, RequestChatResponse, RequestCommand, Resource, ResumeChatRequest, ResumeChatResponse,
    ResumeCommand, TriageCommand, UpdateChatRequest, UpdateChatResponse, WatchChatRequest, WatchChatResponse,
    command, intake_service_server::IntakeService, outcome,
};
use opentelemetry::{KeyValue, metrics::Counter};
use tokio::sync::watch::Sender;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use uuid::Uuid;

use crate::{
    convert::{self, Hold},
    error::Failure,
    fallback::Policies,
    token::{self, TokenKey},
    watch::{self, Means, Watches},
};

/// What a refusal may take to find out where else to turn.
const FALLBACK_WITHIN: Duration = Duration::from_millis(500);

/// What is kept of a caller's time for the way back.
const WAY_BACK: Duration = Duration::from_millis(150);

/// The service.
#[derive(Debug, Clone)]
pub struct Intake {
    /// The way to the line.
    pub link: Link,
    /// Makes visitors' tokens.
    pub key: TokenKey,
    /// The policies at hand.
    pub policies: Arc<Policies>,
    /// Streams by what wakes them.
    pub watches: Arc<Watches>,
    /// What streams need.
    pub means: Means,
    /// When the store last refused or could not be reached, until it takes a chat again.
    pub store_trouble: Sender<Option<Instant>>,
    /// Requests for a chat, by what became of them.
    pub requests: Counter<u64>,
    /// Largest message accepted.
    pub max_message_bytes: usize,
}

/// A way to stream.
pub type Updates = Pin<Box<dyn Stream<Item = Result<WatchChatResponse, Status>> + Send>>;

impl Intake {
    /// Asks for a chat and tells the visitor everything at once.
    async fn accept(
        &self,
        request: RequestChatRequest,
        patience: Duration,
    ) -> Result<RequestChatResponse, Failure> {
        let locale = request.locale.clone();
        let wanted = convert::wanted(request)?;
        let helpline = wanted.helpline;
        let chat = new_chat_id()?;
        let token = self.key.token(&helpline, &chat);
        let command = RequestCommand {
            chat_id: chat.as_str().to_owned(),
            request_key: wanted.request_key.to_vec(),
            body_digest: wanted.body_digest.to_vec(),
            token_hash: token::hash_of(&token).unwrap_or_default().to_vec(),
            urgency: wanted.urgency.into(),
            routing_steps: wanted.routing_steps,
            presence: wanted.presence.into(),
            handoff: wanted.handoff,
        };
        let accepting = self.command(&helpline, command::Command::Request(command), patience);
        let (accepted, resources) = tokio::join!(accepting, self.resources(&helpline, &locale));
        let (view, durability) = accepted?;
        // A repeat is answered with the chat that was made first, and its token.
        let first = view.chat.as_ref().map(|c| ChatId::parse(&c.chat_id)).and_then(Result::ok).unwrap_or(chat);
        Ok(RequestChatResponse {
            visitor_token: self.key.token(&helpline, &first),
            chat: view.chat,
            ticket: Vec::new(),
            wait: view.wait,
            resources,
            durability,
            replayed: view.replayed,
        })
    }

    async fn command(
        &self,
        helpline: &HelplineId,
        command: command::Command,
        patience: Duration,
    ) -> Result<(ChatOutcomeView, Option<Durability>), Failure> {
        let command = Command { helpline: helpline.as_str().to_owned(), command: Some(command) };
        let done = self.link.execute(command, patience).await?;
        match done.outcome {
            Some(outcome::Outcome::Chat(view)) => Ok((view, done.durability)),
            Some(outcome::Outcome::Responder(_) | outcome::Outcome::Accepted(_)) | None => {
                Err(LinkError::new(Code::Internal, "INTERNAL", "the line answered something else").into())
            }
        }
    }

    /// Where else to turn; none when that is not known here in time.
    async fn resources(&self, helpline: &HelplineId, locale: &str) -> Vec<Resource> {
        let policy = timeout(FALLBACK_WITHIN, self.policies.get(helpline)).await;
        policy.ok().and_then(Result::ok).map(|p| convert::resources(&p, locale).resources).unwrap_or_default()
    }

    fn count(&self, answer: &Result<RequestChatResponse, Failure>) {
        let outcome = match answer {
            Ok(response) if response.replayed => "replayed".to_owned(),
            Ok(_) => "accepted".to_owned(),
            Err(failure) => failure.reason().to_ascii_lowercase(),
        };
        self.requests.add(1, &[KeyValue::new("outcome", outcome)]);
        match answer {
            Ok(_) => {
                self.store_trouble.send_if_modified(|trouble| trouble.take().is_some());
            }
            Err(failure) if failure.reason().starts_with("STORE_") => {
                self.store_trouble.send_replace(Some(Instant::now()));
            }
            Err(_) => {}
        }
    }

    /// Our own patience, or a little less than the caller's.
    fn patience(&self, metadata: &MetadataMap) -> Duration {
        let asked = metadata.get("grpc-timeout").and_then(|t| t.to_str().ok()).and_then(grpc_timeout);
        asked.map_or(self.means.patience, |asked| self.means.patience.min(asked - WAY_BACK.min(asked / 4)))
    }
}

fn new_chat_id() -> Result<ChatId, Failure> {
    let id = ChatId::parse(&Uuid::now_v7().to_string());
    id.map_err(|_| LinkError::new(Code::Internal, "INTERNAL", "a chat could not be named").into())
}

/// The time a caller gives; none when it is malformed.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let n: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

fn key_of(hold: &Hold) -> Option<holdfast_proto::v1::HashedChatKey> {
    Some(hold.key.clone())
}

/// What a call made of it, as gRPC says it.
fn answered<T>(answer: Result<T, Failure>) -> Result<Response<T>, Status> {
    answer.map(Response::new).map_err(|failure| failure.status())
}

impl Intake {
    async fn watch(&self, request: WatchChatRequest) -> Result<Updates, Failure> {
        let hold = convert::hold(request.key)?;
        convert::check_locale("locale", &request.locale)?;
        if self.means.stop.is_draining() {
            return Err(Failure::Draining);
        }
        let seat = self.watches.register(&hold)?;
        Ok(Box::pin(watch::open(self.means.clone(), seat, hold, request.locale).await?))
    }

    async fn update(&self, request: UpdateChatRequest, patience: Duration) -> Result<UpdateChatResponse, Failure> {
        let hold = convert::hold(request.key)?;
        let urgency = convert::urgency("urgency", request.urgency)?;
        let triage = TriageCommand { key: key_of(&hold), urgency: urgency.into() };
        let (view, durability) = self.command(&hold.helpline, command::Command::Triage(triage), patience).await?;
        Ok(UpdateChatResponse { chat: view.chat, durability })
    }

    async fn leave(&self, request: LeaveChatRequest, patience: Duration) -> Result<LeaveChatResponse, Failure> {
        let hold = convert::hold(request.key)?;
        let leave = LeaveCommand { key: key_of(&hold), fallback_accepted: request.fallback_accepted };
        let (view, durability) = self.command(&hold.helpline, command::Command::Leave(leave), patience).await?;
        Ok(LeaveChatResponse { chat: view.chat, durability })
    }

    async fn resume(&self, request: ResumeChatRequest, patience: Duration) -> Result<ResumeChatResponse, Failure> {
        let hold = convert::hold(request.key)?;
        convert::check_locale("locale", &request.locale)?;
        let resume = command::Command::Resume(ResumeCommand { key: key_of(&hold) });
        let resuming = self.command(&hold.helpline, resume, patience);
        let (resumed, resources) = tokio::join!(resuming, self.resources(&hold.helpline, &request.locale));
        let (view, durability) = resumed?;
        Ok(ResumeChatResponse { chat: view.chat, wait: view.wait, resources, durability })
    }

    async fn erase(&self, request: EraseChatRequest, patience: Duration) -> Result<EraseChatResponse, Failure> {
        let hold = convert::hold(request.key)?;
        let erase = command::Command::Erase(EraseCommand { key: key_of(&hold) });
        let (view, durability) = self.command(&hold.helpline, erase, patience).await?;
        Ok(EraseChatResponse { chat: view.chat, durability })
    }

    async fn fallback(&self, request: GetFallbackRequest) -> Result<GetFallbackResponse, Failure> {
        let helpline = convert::helpline("helpline", &request.helpline)?;
        convert::check_locale("locale", &request.locale)?;
        Ok(convert::resources(&*self.policies.get(&helpline).await?, &request.locale))
    }
}

#[tonic::async_trait]
impl IntakeService for Intake {
    type WatchChatStream = Updates;

    async fn request_chat(
        &self,
        request: Request<RequestChatRequest>,
    ) -> Result<Response<RequestChatResponse>, Status> {
        let patience = self.patience(request.metadata());
        let request = request.into_inner();
        let (helpline, locale) = (HelplineId::parse(&request.helpline), request.locale.clone());
        let answer = self.accept(request, patience).await;
        self.count(&answer);
        match (answer, helpline) {
            (Ok(response), _) => Ok(Response::new(response)),
            (Err(failure), Ok(helpline)) => {
                let resources = self.resources(&helpline, &locale).await;
                Err(failure.status_with(&GetFallbackResponse { resources }))
            }
            (Err(failure), Err(_)) => Err(failure.status()),
        }
    }

    async fn watch_chat(&self, request: Request<WatchChatRequest>) -> Result<Response<Updates>, Status> {
        answered(self.watch(request.into_inner()).await)
    }

    async fn update_chat(
        &self,
        request: Request<UpdateChatRequest>,
    ) -> Result<Response<UpdateChatResponse>, Status> {
        let patience = self.patience(request.metadata());
        answered(self.update(request.into_inner(), patience).await)
    }

    async fn leave_chat(&self, request: Request<LeaveChatRequest>) -> Result<Response<LeaveChatResponse>, Status> {
        let patience = self.patience(request.metadata());
        answered(self.leave(request.into_inner(), patience).await)
    }

    async fn resume_chat(
        &self,
        request: Request<ResumeChatRequest>,
    ) -> Result<Response<ResumeChatResponse>, Status> {
        let patience = self.patience(request.metadata());
        answered(self.resume(request.into_inner(), patience).await)
    }

    async fn erase_chat(&self, request: Request<EraseChatRequest>) -> Result<Response<EraseChatResponse>, Status> {
        let patience = self.patience(request.metadata());
        answered(self.erase(request.into_inner(), patience).await)
    }

    async fn get_fallback(
        &self,
        request: Request<GetFallbackRequest>,
    ) -> Result<Response<GetFallbackResponse>, Status> {
        answered(self.fallback(request.into_inner()).await)
    }

    async fn get_limits(
        &self,
        _request: Request<GetLimitsRequest>,
    ) -> Result<Response<GetLimitsResponse>, Status> {
        Ok(Response::new(convert::limits(self.max_message_bytes)))
    }
}
