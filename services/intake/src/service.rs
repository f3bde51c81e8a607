//! The visitors' calls.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::Stream;
use holdfast_access::Caller;
use holdfast_domain::{
    ChatId, HelplineId, Policy, ResponderId, Urgency, limits::MAX_CHALLENGE_BITS, policy::Asking,
};
use holdfast_link::{Link, LinkError};
use holdfast_proto::v1::{
    ChatOutcomeView, Command, Durability, EraseChatRequest, EraseChatResponse, EraseCommand, GetFallbackRequest,
    GetFallbackResponse, GetLimitsRequest, GetLimitsResponse, HashedChatKey, LeaveChatRequest, LeaveChatResponse,
    LeaveCommand, RequestChatRequest, RequestChatResponse, RequestCommand, Resource, ResumeChatRequest,
    ResumeChatResponse, ResumeCommand, TriageCommand, UpdateChatRequest, UpdateChatResponse, VisitorPresence,
    WatchChatRequest, WatchChatResponse, command, intake_service_server::IntakeService, outcome,
};
use holdfast_runtime::{clock::wall_ms, source::Source};
use opentelemetry::{KeyValue, metrics::Counter};
use tokio::sync::watch::Sender;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use uuid::Uuid;

use crate::{
    challenge::ChallengeKey,
    classifier::{Case, Classifier},
    convert::{self, Hold, Wanted},
    error::Failure,
    fallback::Policies,
    floods::Floods,
    returning::{ReturnKey, Wishes},
    token::{self, TokenKey},
    triage::{self, Decision, Unfit, Verdict},
    watch::{self, Means, Watches},
};

/// What a refusal may take to find out where else to turn.
const FALLBACK_WITHIN: Duration = Duration::from_millis(500);

/// A request is made anew when the policy changes under it; the last time without what a policy could refuse.
const ATTEMPTS: usize = 3;

/// A revision that no policy has, below 2^53: by it nothing is accepted, but what was accepted before is answered.
const NO_REVISION: u64 = (1 << 53) - 1;

/// The line's reason when a request names another revision than the one in force.
const POLICY_CHANGED: &str = "POLICY_CHANGED";

/// The line's reason when whoever asks has to prove work first.
const CHALLENGE: &str = "CHALLENGE";
/// The line's reason when a visitor gets no place for a time.
const BLOCKED: &str = "BLOCKED";

/// What is kept of a caller's time for the way back.
const WAY_BACK: Duration = Duration::from_millis(150);

/// The service.
#[derive(Debug, Clone)]
pub struct Intake {
    /// The way to the line.
    pub link: Link,
    /// Makes visitors' tokens.
    pub key: TokenKey,
    /// Opens return tokens.
    pub returning: ReturnKey,
    /// The policies at hand.
    pub policies: Arc<Policies>,
    /// Makes challenges and knows their solutions.
    pub challenges: ChallengeKey,
    /// How often one source may ask.
    pub floods: Arc<Floods>,
    /// A second opinion, where there is one.
    pub classifier: Option<Arc<Classifier>>,
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

/// A request that is ready to be made.
struct Ready {
    wanted: Wanted,
    wishes: Wishes,
    chat: ChatId,
    token_hash: Vec<u8>,
    source: Option<Source>,
    /// Why it is refused unless it is IMMINENT: so many came from the same source.
    too_many: Option<Failure>,
    /// How much work stands behind it.
    solved_bits: u32,
    /// Whether it may be IMMINENT, once that was asked: however often it is decided, it is one request.
    may_be_imminent: OnceLock<bool>,
}

impl Ready {
    /// The request as the line is asked, by what was decided.
    fn command(&self, decision: &Decision) -> command::Command {
        let Self { wanted, wishes, chat, token_hash, .. } = self;
        let id = |responder: &ResponderId| responder.as_str().to_owned();
        command::Command::Request(RequestCommand {
            chat_id: chat.as_str().to_owned(),
            request_key: wanted.request_key.to_vec(),
            body_digest: wanted.body_digest.to_vec(),
            token_hash: token_hash.clone(),
            urgency: convert::told(decision.verdict.urgency).into(),
            routing_steps: decision.steps.clone(),
            presence: wanted.presence.into(),
            handoff: wanted.handoff.clone(),
            topics: decision.topics.clone(),
            preferences: wanted.preferences.clone(),
            preferred_responder_id: wishes.preferred.as_ref().map(id).unwrap_or_default(),
            excluded_responder_ids: wishes.excluded.iter().map(id).collect(),
            resources_seen: wanted.resources_seen,
            policy_revision: decision.revision,
            solved_bits: self.solved_bits,
            subject_digest: wanted.subject.clone(),
            came_by_token_hash: wishes.came_by.map(|hash| hash.to_vec()).unwrap_or_default(),
        })
    }

    /// Whether what was decided was refused, not what was asked for.
    fn refused_decision(&self, failure: &Failure) -> bool {
        let Failure::Link(error) = failure else {
            return false;
        };
        let of_route = error.field.starts_with("request.topics")
            || error.field.starts_with("request.routing_steps") && self.wanted.routing_steps.is_empty();
        error.reason == POLICY_CHANGED || of_route
    }
}

/// The revision that is in force, as a refusal says.
fn in_force(failure: &Failure) -> Option<u64> {
    let Failure::Link(error) = failure else {
        return None;
    };
    error.metadata.get("revision").and_then(|revision| revision.parse().ok())
}

/// What did not fit the survey is refused for that, unless there is another reason.
fn refused(failure: Failure, unfit: Option<Unfit>) -> Failure {
    match unfit {
        Some(unfit) if failure.reason() == POLICY_CHANGED => unfit.into(),
        Some(_) | None => failure,
    }
}

/// What the line answered, and what had been decided.
struct Accepted {
    view: ChatOutcomeView,
    durability: Option<Durability>,
    decision: Decision,
}

impl Intake {
    /// Asks for a chat and tells the visitor everything at once.
    async fn accept(
        &self,
        caller: &Caller,
        source: Option<Source>,
        request: RequestChatRequest,
        until: Instant,
    ) -> Result<RequestChatResponse, Failure> {
        let too_many = self.floods.request(source).err();
        let (locale, region) = (request.locale.clone(), request.region.clone());
        let wanted = convert::wanted_by(caller.subject().map(|name| (name, &self.key)), request)?;
        caller.at(wanted.helpline.as_str())?;
        let ready = self.ready(wanted, caller, source, too_many)?;
        let helpline = &ready.wanted.helpline;
        let accepting = self.lined_up(&ready, until);
        let (accepted, resources) = tokio::join!(accepting, self.resources(helpline, &locale, &region));
        let Accepted { view, durability, decision } = accepted.map_err(|why| self.challenged(helpline, why))?;
        // A repeat is answered with the chat that was made first, and its token.
        let first = view.chat.as_ref().and_then(|c| ChatId::parse(&c.chat_id).ok());
        let visitor_token = self.key.token(helpline, first.as_ref().unwrap_or(&ready.chat));
        let decision = so_far(&view, decision);
        Ok(RequestChatResponse {
            visitor_token,
            chat: view.chat,
            ticket: view.ticket,
            wait: view.wait,
            resources,
            durability,
            replayed: view.replayed,
            triaged: Some(convert::triaged(decision.verdict)),
            route: decision.route,
        })
    }

    fn ready(
        &self,
        wanted: Wanted,
        caller: &Caller,
        source: Option<Source>,
        too_many: Option<Failure>,
    ) -> Result<Ready, Failure> {
        let (again, never) = (&wanted.return_token, &wanted.not_again_tokens);
        let wishes = self.returning.wishes(&wanted.helpline, again, never, wall_ms())?;
        let chat = new_chat_id()?;
        let token = self.key.token(&wanted.helpline, &chat);
        let token_hash = token::hash_of(&token).unwrap_or_default().to_vec();
        let solved_bits = self.solved_bits(&wanted, caller);
        let may_be_imminent = OnceLock::new();
        Ok(Ready { wanted, wishes, chat, token_hash, source, too_many, solved_bits, may_be_imminent })
    }

    /// How much work stands behind a request. For whom an integrator vouches by its credential none is asked: somebody
    /// whose device is a telephone can do none, and it is known who floods.
    fn solved_bits(&self, wanted: &Wanted, caller: &Caller) -> u32 {
        if wanted.presence == VisitorPresence::Attested && caller.subject().is_some() {
            return MAX_CHALLENGE_BITS;
        }
        let Wanted { helpline, request_id, solution, .. } = wanted;
        solution.as_ref().map_or(0, |work| self.challenges.solved(helpline, request_id, work, wall_ms()))
    }

    /// Where the line asks for work, the caller gets a challenge to do it on.
    fn challenged(&self, helpline: &HelplineId, why: Failure) -> Failure {
        if let Failure::Link(error) = &why
            && error.reason == CHALLENGE
            && let Some(bits) = error.metadata.get("bits").and_then(|bits| bits.parse().ok())
        {
            return Failure::Challenge(self.challenges.issue(helpline, bits, wall_ms()));
        }
        why
    }

    /// Decides by the policy and asks the line; again while the policy changes under it.
    async fn lined_up(&self, ready: &Ready, until: Instant) -> Result<Accepted, Failure> {
        let wanted = &ready.wanted;
        let mut decided = self.decide(ready, until).await;
        for _ in 1..ATTEMPTS {
            let failure = match self.attempt(ready, &decided, until).await {
                Ok(accepted) => return Ok(accepted),
                Err(failure) => failure,
            };
            let in_force = in_force(&failure);
            let is_outdated = match &decided {
                Ok(_) => true,
                Err(unfit) => in_force.is_some_and(|revision| revision != unfit.revision),
            };
            if !ready.refused_decision(&failure) || !is_outdated {
                return Err(refused(failure, decided.err()));
            }
            self.policies.replaced(&wanted.helpline, triage::patience(until)).await;
            decided = match (self.decide(ready, until).await, decided) {
                // What fitted a moment ago is good enough.
                (Err(_), Ok(before)) => Ok(before.whatever_is_in_force(wanted)),
                (newer, _) => newer,
            };
        }
        let last = decided.map(|decision| decision.whatever_is_in_force(wanted));
        self.attempt(ready, &last, until).await.map_err(|failure| refused(failure, last.err()))
    }

    async fn decide(&self, ready: &Ready, until: Instant) -> Result<Decision, Unfit> {
        let wanted = &ready.wanted;
        let decided =
            triage::judged(&self.policies, &wanted.helpline, until, |policy| Decision::of(policy, wanted));
        let decision = decided.await?.unwrap_or_else(|| Decision::without_policy(wanted));
        let may_be_imminent = || *ready.may_be_imminent.get_or_init(|| self.floods.may_be_imminent(ready.source));
        Ok(if decision.verdict.urgency == Urgency::Imminent && !may_be_imminent() {
            decision.capped(triage::SOURCE_LIMIT)
        } else {
            decision
        })
    }

    /// Asks the line once. What does not fit the survey is asked as well, in a way that creates nothing: the survey may
    /// be another one by now, and a repeat of what was accepted before is answered with its chat.
    async fn attempt(
        &self,
        ready: &Ready,
        decided: &Result<Decision, Unfit>,
        until: Instant,
    ) -> Result<Accepted, Failure> {
        let decision = match decided {
            Ok(decision) => decision.clone(),
            Err(_) => Decision { revision: NO_REVISION, ..Decision::unexplained(&ready.wanted) },
        };
        if let Some(too_many) = &ready.too_many
            && decision.verdict.urgency != Urgency::Imminent
        {
            return Err(too_many.clone());
        }
        let asking = self.command(&ready.wanted.helpline, ready.command(&decision), left(until));
        let (view, durability) = asking.await?;
        self.consider(ready, &view, &decision);
        Ok(Accepted { view, durability, decision })
    }

    /// Asks for a second opinion on a new chat, where the policy wants one.
    fn consider(&self, ready: &Ready, view: &ChatOutcomeView, decision: &Decision) {
        let (Some(classifier), Some(may_raise_to)) = (&self.classifier, decision.may_raise_to) else {
            return;
        };
        if view.replayed {
            return;
        }
        classifier.consider(Case {
            helpline: ready.wanted.helpline.clone(),
            key: HashedChatKey { chat_id: ready.chat.as_str().to_owned(), token_hash: ready.token_hash.clone() },
            asking: ready.wanted.asking.clone(),
            urgency: decision.verdict.urgency,
            may_raise_to,
        });
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
            Some(outcome::Outcome::Responder(_) | outcome::Outcome::Accepted(_) | outcome::Outcome::Done(_))
            | None => Err(LinkError::new(Code::Internal, "INTERNAL", "the line answered something else").into()),
        }
    }

    /// Asks the line about a chat. If the store has lost it, the ticket brings it back first.
    async fn about(
        &self,
        hold: &Hold,
        ticket: &[u8],
        command: command::Command,
        until: Instant,
    ) -> Result<(ChatOutcomeView, Option<Durability>), Failure> {
        let asked = self.command(&hold.helpline, command.clone(), left(until)).await;
        if ticket.is_empty() || !matches!(asked, Err(Failure::UnknownChat)) {
            return asked;
        }
        // Somebody else may have brought it back meanwhile, and even ended it: the record decides.
        let restored = self.link.execute(convert::restore(hold, ticket), left(until)).await;
        match (self.command(&hold.helpline, command, left(until)).await, restored) {
            (Err(Failure::UnknownChat), Err(failure)) => Err(failure.into()),
            (again, _) => again,
        }
    }

    /// Where else to turn; none when that is not known here in time.
    async fn resources(&self, helpline: &HelplineId, locale: &str, region: &str) -> Vec<Resource> {
        let policy = timeout(FALLBACK_WITHIN, self.policies.get(helpline)).await;
        let policy = policy.ok().and_then(Result::ok);
        policy.map(|p| convert::resources(&p, locale, region).resources).unwrap_or_default()
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

/// The time that is left.
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// What was decided, as far as it holds for the chat as it stands. Of a repeated request it holds if the policy would
/// decide the same today; otherwise only the urgency can be told, for why it was so is not kept. A new chat has another
/// urgency only where the line has no more room for IMMINENT ones.
fn so_far(view: &ChatOutcomeView, decision: Decision) -> Decision {
    let urgency = view.chat.as_ref().and_then(|chat| convert::heard(chat.urgency()));
    match urgency {
        Some(urgency) if view.replayed && urgency != decision.verdict.urgency => {
            Decision { verdict: Verdict { urgency, reasons: Vec::new() }, route: String::new(), ..decision }
        }
        Some(Urgency::High) if decision.verdict.urgency == Urgency::Imminent => {
            decision.capped(triage::HELPLINE_LIMIT)
        }
        _ => decision,
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
        convert::check_ticket(&request.ticket)?;
        if self.means.stop.is_draining() {
            return Err(Failure::Draining);
        }
        let seat = self.watches.register(&hold)?;
        Ok(Box::pin(watch::open(self.means.clone(), seat, hold, request.locale, request.ticket).await?))
    }

    async fn update(
        &self,
        source: Option<Source>,
        request: UpdateChatRequest,
        until: Instant,
    ) -> Result<UpdateChatResponse, Failure> {
        let hold = convert::hold(request.key)?;
        convert::check_ticket(&request.ticket)?;
        let stated = convert::urgency("urgency", request.urgency)?;
        let answers = convert::answers("answers", request.answers)?;
        let urgency = match answers.is_empty() {
            true => stated.unwrap_or_default(),
            false => {
                self.signalled(&hold.helpline, Asking { answers, ..Asking::default() }, stated, until).await?
            }
        };
        let is_capped = urgency == Urgency::Imminent && !self.floods.may_be_imminent(source);
        let urgency = if is_capped { Urgency::High } else { urgency };
        let triage =
            TriageCommand { key: key_of(&hold), urgency: convert::told(urgency).into(), classifier: false };
        let command = command::Command::Triage(triage);
        let (view, durability) = self.about(&hold, &request.ticket, command, until).await?;
        Ok(UpdateChatResponse { chat: view.chat, durability, ticket: view.ticket })
    }

    /// How urgent new answers make a chat. Those that no rule speaks of are no signal: LOW changes nothing.
    async fn signalled(
        &self,
        helpline: &HelplineId,
        asking: Asking,
        stated: Option<Urgency>,
        until: Instant,
    ) -> Result<Urgency, Failure> {
        let judge = |policy: &Policy| Verdict::of(policy, &asking, stated);
        Ok(match triage::judged(&self.policies, helpline, until, judge).await? {
            Some(verdict) if verdict.is_unknown() => Urgency::Low,
            Some(verdict) => verdict.urgency,
            None => Verdict::without_policy(stated).urgency,
        })
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
        convert::check_ticket(&request.ticket)?;
        let resume = command::Command::Resume(ResumeCommand { key: key_of(&hold) });
        let resuming = self.about(&hold, &request.ticket, resume, Instant::now() + patience);
        let (resumed, resources) = tokio::join!(resuming, self.resources(&hold.helpline, &request.locale, ""));
        let (view, durability) = resumed?;
        let ticket = view.ticket;
        Ok(ResumeChatResponse { chat: view.chat, wait: view.wait, resources, durability, ticket })
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
        convert::check_region("region", &request.region)?;
        Ok(convert::resources(&*self.policies.get(&helpline).await?, &request.locale, &request.region))
    }
}

#[tonic::async_trait]
impl IntakeService for Intake {
    type WatchChatStream = Updates;

    async fn request_chat(
        &self,
        request: Request<RequestChatRequest>,
    ) -> Result<Response<RequestChatResponse>, Status> {
        let until = Instant::now() + self.patience(request.metadata());
        let caller = Caller::of(request.extensions()).map_err(|refused| refused.status())?;
        let source = self.floods.source(request.metadata(), request.extensions());
        let request = request.into_inner();
        let (helpline, locale) = (HelplineId::parse(&request.helpline), request.locale.clone());
        let region = request.region.clone();
        let answer = self.accept(&caller, source, request, until).await;
        self.count(&answer);
        match (answer, helpline) {
            (Ok(response), _) => Ok(Response::new(response)),
            // Another's helpline must look like none, which has nothing to show.
            (Err(failure @ Failure::Access(_)), _) => Err(failure.status()),
            (Err(failure), Ok(helpline)) => {
                let resources = self.resources(&helpline, &locale, &region).await;
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
        let until = Instant::now() + self.patience(request.metadata());
        let source = self.floods.source(request.metadata(), request.extensions());
        answered(self.update(source, request.into_inner(), until).await)
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
        let request = request.into_inner();
        let helpline = request.key.as_ref().and_then(|key| HelplineId::parse(&key.helpline).ok());
        let locale = request.locale.clone();
        match (self.resume(request, patience).await, helpline) {
            (Err(failure), Some(helpline)) if failure.reason() == BLOCKED => {
                let resources = self.resources(&helpline, &locale, "").await;
                Err(failure.status_with(&GetFallbackResponse { resources }))
            }
            (answer, _) => answered(answer),
        }
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
