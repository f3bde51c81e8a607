//! A visitor at a terminal: asks for a chat, waits, and is told how it stands.
//!
//! What a good client does is all here: one request id for every attempt, so that asking twice creates nothing
//! twice; an open stream as proof of presence; after a break it comes back by its token, with jitter; it ignores what
//! is older than what it has seen; and it says goodbye.

use std::time::{Duration, Instant};

use holdfast_access::Grant;
use holdfast_proto::v1::{
    Alternative, Chat, ChatKey, ChatOutcome, ChatState, ChatUpdate, LeaveChatRequest, RequestChatRequest,
    RequestChatResponse, Resource, ResumeChatRequest, RoutingStep, Tag, Urgency, VisitorPresence, WaitRange,
    WatchChatRequest, intake_service_client::IntakeServiceClient, watch_chat_response::Message,
};
use holdfast_runtime::{Stop, client::Backoff};
use tokio::time::sleep;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    Failure, challenge,
    credential::Whom,
    remote::{self, Calling, Door, Remote},
    terminal::say,
    words::{self, UrgencyWord},
};

/// Challenges that are solved for one request: more come only where they are forgotten or the work takes too long.
const MAX_CHALLENGES: u32 = 3;

/// A chat that the line has forgotten is asked for anew so many times.
const MAX_ASKED_ANEW: u32 = 3;

/// How a visitor comes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where intake is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50051")]
    intake: String,
    /// Which helpline.
    #[arg(long, default_value = "demo")]
    helpline: String,
    /// How urgent it is.
    #[arg(long, value_enum, default_value = "moderate")]
    urgency: UrgencyWord,
    /// What the responder must have, such as lang:es or 'skill:minors>=3'; again for more. Relaxes with time.
    #[arg(long, value_name = "TAG", value_parser = words::tag)]
    need: Vec<Tag>,
    /// Somebody vouches for the visitor, as for SMS: without a connection they keep their turn.
    #[arg(long)]
    attested: bool,
    /// Language of the resources that are shown.
    #[arg(long, default_value = "en")]
    locale: String,
    /// End, without leaving, when somebody has come.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    calling: Calling,
}

/// Asks for a chat and stays until it ends, somebody has come (`--once`), or Ctrl-C, which leaves it.
///
/// # Errors
/// When intake cannot be reached or refuses.
pub async fn run(args: Args, stop: &Stop) -> Result<(), Failure> {
    let mut visitor = Visitor::new(args)?;
    visitor.ask(stop).await?;
    loop {
        match visitor.watch(stop).await? {
            Watched::Done => return Ok(()),
            Watched::Stopped => return visitor.leave(stop).await,
            Watched::Forgotten => visitor.ask_anew(stop).await?,
            Watched::Broken(wait) => {
                visitor.was_away = true;
                tokio::select! {
                    () = sleep(wait) => {}
                    () = stop.draining() => return visitor.leave(stop).await,
                }
            }
        }
    }
}

struct Visitor {
    args: Args,
    remote: Remote,
    intake: IntakeServiceClient<Door>,
    request: RequestChatRequest,
    began: Instant,
    key: ChatKey,
    /// The newest ticket of the chat, for the case that the store loses it.
    ticket: Vec<u8>,
    version: u64,
    shown: Option<Shown>,
    /// The next update is the first after a break.
    was_away: bool,
    asked_anew: u32,
    tries: Backoff,
}

/// What was shown last.
#[derive(PartialEq)]
struct Shown {
    state: ChatState,
    place: u64,
    away: bool,
    wait: Option<WaitRange>,
}

impl Shown {
    fn of(chat: &Chat, wait: Option<&WaitRange>) -> Self {
        Self { state: chat.state(), place: chat.place, away: chat.away, wait: wait.copied() }
    }
}

/// How a watch ended.
enum Watched {
    /// There is nothing to wait for any more.
    Done,
    /// Ctrl-C.
    Stopped,
    /// Come back after this.
    Broken(Duration),
    /// The line does not know the chat.
    Forgotten,
}

impl Visitor {
    fn new(args: Args) -> Result<Self, Failure> {
        let whom = Whom::new("terminal", Grant::RequestChats);
        let remote = args.calling.to("intake", &args.intake, whom);
        Ok(Self {
            intake: IntakeServiceClient::new(remote.channel()?),
            request: request(&args),
            remote,
            args,
            began: Instant::now(),
            key: ChatKey::default(),
            ticket: Vec::new(),
            version: 0,
            shown: None,
            was_away: false,
            asked_anew: 0,
            tries: remote::later_tries(),
        })
    }

    /// The same request, until there is an answer.
    async fn ask(&mut self, stop: &Stop) -> Result<(), Failure> {
        let (mut tries, mut told, mut challenges) = (remote::first_tries(), false, 0);
        loop {
            let asked = tokio::select! {
                asked = self.intake.request_chat(self.request.clone()) => asked,
                () = stop.draining() => return Err(Failure::Stopped("intake")),
            };
            let refused = match asked {
                Ok(answer) => return self.accepted(answer.into_inner()),
                Err(status) => status,
            };
            if !told {
                self.show_resources(&remote::resources(&refused))?;
            }
            if let Some(challenge) = challenge::of(&refused).filter(|_| challenges < MAX_CHALLENGES) {
                (challenges, told) = (challenges + 1, true);
                self.tell("challenge", &format!("many ask at once: working on {} bits", challenge.bits))?;
                let solved = tokio::select! {
                    solved = challenge::solve(challenge, &self.request.request_id) => solved,
                    () = stop.draining() => return Err(Failure::Stopped("intake")),
                };
                if solved.is_some() {
                    self.request.challenge_solution = solved;
                    continue;
                }
            }
            let Some(wait) = remote::wait_after(&refused, &mut tries) else {
                return Err(self.remote.failure(&refused));
            };
            if !told {
                told = true;
                let failure = self.remote.failure(&refused);
                self.tell("no answer", &format!("{failure}; asking again"))?;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.draining() => return Err(Failure::Stopped("intake")),
            }
        }
    }

    async fn ask_anew(&mut self, stop: &Stop) -> Result<(), Failure> {
        self.asked_anew += 1;
        if self.asked_anew > MAX_ASKED_ANEW {
            return Err(self.remote.failure(&Status::not_found("the line forgets this chat each time")));
        }
        self.tell("forgotten", "the line does not know this chat any more: asking again")?;
        self.ask(stop).await
    }

    fn accepted(&mut self, answer: RequestChatResponse) -> Result<(), Failure> {
        let Some(chat) = answer.chat else {
            return Err(self.remote.incomplete("a chat"));
        };
        self.ticket = answer.ticket;
        self.key = ChatKey {
            helpline: self.args.helpline.clone(),
            chat_id: chat.chat_id.clone(),
            visitor_token: answer.visitor_token,
        };
        (self.version, self.shown) = (0, None);
        let again = if answer.replayed { ", as asked before" } else { "" };
        self.tell("requested", &format!("chat {}, {}{again}", chat.chat_id, words::urgency(chat.urgency)))?;
        self.tell("stored", &words::durability(answer.durability.as_ref()))?;
        self.show(&chat, &ChatUpdate { wait: answer.wait, ..ChatUpdate::default() })?;
        self.show_resources(&answer.resources)
    }

    /// One stream, as long as it lasts.
    async fn watch(&mut self, stop: &Stop) -> Result<Watched, Failure> {
        let (key, locale) = (Some(self.key.clone()), self.args.locale.clone());
        let request = WatchChatRequest { key, locale, ticket: self.ticket.clone() };
        let opened = tokio::select! {
            opened = self.intake.watch_chat(request) => opened,
            () = stop.draining() => return Ok(Watched::Stopped),
        };
        let mut updates = match opened {
            Ok(stream) => stream.into_inner(),
            Err(status) => return self.broken(&status),
        };
        loop {
            let message = tokio::select! {
                message = updates.message() => message,
                () = stop.draining() => return Ok(Watched::Stopped),
            };
            match message {
                Ok(Some(said)) => match said.message {
                    Some(Message::Update(update)) => {
                        self.tries.reset();
                        if let Some(ended) = self.updated(update).await? {
                            return Ok(ended);
                        }
                    }
                    Some(Message::Drain(drain)) => {
                        self.tell("moving", "the server is going: coming back to another")?;
                        return Ok(Watched::Broken(words::duration(drain.reconnect_after.as_ref())));
                    }
                    None => {}
                },
                Ok(None) => return self.broken(&Status::unavailable("the stream ended")),
                Err(status) => return self.broken(&status),
            }
        }
    }

    fn broken(&mut self, status: &Status) -> Result<Watched, Failure> {
        if status.code() == Code::NotFound {
            return Ok(Watched::Forgotten);
        }
        let failure = self.remote.failure(status);
        match remote::wait_after(status, &mut self.tries) {
            Some(wait) => {
                if !self.was_away {
                    self.tell("broken", &format!("{failure}; coming back"))?;
                }
                Ok(Watched::Broken(wait))
            }
            None => Err(failure),
        }
    }

    async fn updated(&mut self, mut update: ChatUpdate) -> Result<Option<Watched>, Failure> {
        if !update.ticket.is_empty() {
            self.ticket = std::mem::take(&mut update.ticket);
        }
        let Some(chat) = update.chat.take() else {
            return Ok(None);
        };
        if !self.is_news(&chat, update.wait.as_ref()) {
            return Ok(None);
        }
        self.show(&chat, &update)?;
        match chat.state() {
            ChatState::Ended if chat.outcome() == ChatOutcome::Abandoned => self.come_back().await.map(Some),
            ChatState::Ended => Ok(Some(Watched::Done)),
            ChatState::Active if self.args.once => Ok(Some(Watched::Done)),
            ChatState::Active | ChatState::Waiting | ChatState::Offered | ChatState::Unspecified => Ok(None),
        }
    }

    /// Given up while out of touch: the token re-opens it at its old place.
    async fn come_back(&mut self) -> Result<Watched, Failure> {
        let (key, locale) = (Some(self.key.clone()), self.args.locale.clone());
        let request = ResumeChatRequest { key, locale, ticket: self.ticket.clone() };
        match self.intake.resume_chat(request).await {
            Ok(answer) => {
                let chat = answer.into_inner().chat.unwrap_or_default();
                if chat.state() == ChatState::Ended {
                    return Ok(Watched::Done);
                }
                self.tell("back", "the chat is open again, at its old place")?;
                Ok(Watched::Broken(Duration::ZERO))
            }
            Err(status) => self.broken(&status),
        }
    }

    async fn leave(&mut self, stop: &Stop) -> Result<(), Failure> {
        let mut tries = remote::first_tries();
        loop {
            let request = LeaveChatRequest { key: Some(self.key.clone()), fallback_accepted: false };
            let left = tokio::select! {
                left = self.intake.leave_chat(request) => left,
                () = stop.stopping() => return Err(Failure::Stopped("intake")),
            };
            let status = match left {
                Ok(answer) => {
                    let chat = answer.into_inner().chat.unwrap_or_default();
                    return self.tell("left", &format!("the chat has ended as {}", words::outcome(chat.outcome)));
                }
                Err(status) => status,
            };
            if status.code() == Code::NotFound {
                return self.tell("left", "the line does not know this chat any more");
            }
            let Some(wait) = remote::wait_after(&status, &mut tries) else {
                return Err(self.remote.failure(&status));
            };
            sleep(wait).await;
        }
    }

    /// Whether it is not older than what was shown, and not the same. The place may change without the chat.
    fn is_news(&self, chat: &Chat, wait: Option<&WaitRange>) -> bool {
        let now = Some(Shown::of(chat, wait));
        self.was_away || (chat.version >= self.version && now != self.shown)
    }

    fn show(&mut self, chat: &Chat, update: &ChatUpdate) -> Result<(), Failure> {
        let (wait, reply_handoff) = (update.wait.as_ref(), &update.reply_handoff);
        self.shown = Some(Shown::of(chat, wait));
        self.version = chat.version;
        self.was_away = false;
        let what = match chat.state() {
            ChatState::Waiting if chat.away => "out of touch, the place is kept".to_owned(),
            ChatState::Waiting => format!("place {}; {}", chat.place, words::wait(wait)),
            ChatState::Offered => "somebody is being asked".to_owned(),
            ChatState::Active if update.reply_handoff_lost => {
                "somebody is there; what they left for you cannot be opened".to_owned()
            }
            ChatState::Active if reply_handoff.is_empty() => "somebody is there".to_owned(),
            ChatState::Active => {
                format!("somebody is there, with {} bytes", reply_handoff.len())
            }
            ChatState::Ended => words::outcome(chat.outcome).to_owned(),
            ChatState::Unspecified => String::new(),
        };
        self.tell(words::state(chat.state), &what)
    }

    fn show_resources(&self, resources: &[Resource]) -> Result<(), Failure> {
        for resource in resources {
            self.tell("meanwhile", &words::resource(resource))?;
        }
        Ok(())
    }

    fn tell(&self, word: &str, what: &str) -> Result<(), Failure> {
        let since = words::span(self.began.elapsed());
        Ok(say(&format!("{since:>12}  {word:<10} {what}"))?)
    }
}

fn request(args: &Args) -> RequestChatRequest {
    let presence = if args.attested { VisitorPresence::Attested } else { VisitorPresence::Live };
    RequestChatRequest {
        helpline: args.helpline.clone(),
        request_id: Uuid::new_v4().to_string(),
        urgency: Urgency::from(args.urgency).into(),
        routing_steps: steps(&args.need),
        presence: presence.into(),
        locale: args.locale.clone(),
        ..RequestChatRequest::default()
    }
}

/// One step with all that is needed; the policy adds the one for anyone.
fn steps(need: &[Tag]) -> Vec<RoutingStep> {
    if need.is_empty() {
        return Vec::new();
    }
    let all_of = Alternative { all_of: need.to_vec() };
    vec![RoutingStep { after: None, any_of: vec![all_of] }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_become_one_step_that_has_them_all() {
        let need = [words::tag("lang:es"), words::tag("skill:minors>=3")].map(Result::unwrap);
        let steps = steps(&need);
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].any_of[0].all_of, need);
    }

    #[test]
    fn without_needs_anyone_may_serve() {
        assert!(steps(&[]).is_empty());
    }
}
