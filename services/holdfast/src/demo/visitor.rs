//! A visitor of the evening: asks, waits, gives up or is answered, drops out, comes back, as planned.

use std::{sync::Arc, time::Duration};

use holdfast_proto::v1::{
    Chat, ChatKey, ChatOutcome, ChatState, Durability, LeaveChatRequest, RequestChatRequest, RequestChatResponse,
    ResumeChatRequest, UpdateChatRequest, Urgency, VisitorPresence, WatchChatRequest, durability::Persistence,
    intake_service_client::IntakeServiceClient, watch_chat_response::Message,
};
use holdfast_runtime::client::is_retryable;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Code, Request, Response, Status, transport::Channel};

use super::{
    World,
    evening::HELPLINE,
    journal::Behaviour,
    plan::{Asking, Touch, Visitor},
    until,
};

/// A call takes so long at most.
const CALL: Duration = Duration::from_secs(5);
/// A visitor who is refused or hears nothing asks so often altogether.
const ATTEMPTS: u32 = 40;
/// And waits so long in between.
const PAUSE: Duration = Duration::from_millis(150);
/// An integrator without a stream asks how the chat stands this often.
const POLL: Duration = Duration::from_millis(500);

type Client = IntakeServiceClient<Channel>;

/// Why a visitor stops watching.
enum Stop {
    Ended,
    Dropped,
    /// The evening is over, or the chat cannot be watched any more.
    Over,
}

struct Person {
    world: Arc<World>,
    plan: Visitor,
    client: Client,
    visit: usize,
    key: ChatKey,
    state: ChatState,
    version: u64,
    asked_at: Instant,
    worsens_at: Option<Instant>,
    ends_at: Option<Instant>,
}

/// The visitor's whole evening, from the moment of asking.
pub(super) async fn visit(world: Arc<World>, plan: Visitor, nth: usize) {
    let visit = world.journal.notes().ask(plan.urgency, plan.calibration);
    let client = world.intake(nth);
    let asked_at = Instant::now();
    let mut person = Person {
        client,
        visit,
        key: ChatKey::default(),
        state: ChatState::Unspecified,
        version: 0,
        asked_at,
        worsens_at: plan.worsens.map(|after| asked_at + after),
        ends_at: None,
        world,
        plan,
    };
    if person.ask_as_planned().await {
        person.stay_as_planned().await;
    }
}

fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

/// Calls again as long as that can help; a final refusal is the answer.
async fn persist<T, F>(world: &World, what: &str, mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut last = Status::unavailable("not tried");
    for _ in 0..ATTEMPTS {
        match timeout(CALL, call()).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => last = status,
            Err(_) => last = Status::deadline_exceeded("no answer"),
        }
        let again = is_retryable(&last)
            || matches!(last.code(), Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted);
        if !again {
            return Err(last);
        }
        world.journal.refused(&format!("{what}: {:?}, repeated", last.code()));
        sleep(PAUSE).await;
    }
    Err(last)
}

impl Person {
    fn request(&self) -> RequestChatRequest {
        let presence = match self.plan.touch {
            Touch::Attested => VisitorPresence::Attested,
            Touch::Stays
            | Touch::DropsForGood { .. }
            | Touch::DropsAndReturns { .. }
            | Touch::ReturnsLate { .. } => VisitorPresence::Live,
        };
        RequestChatRequest {
            helpline: HELPLINE.to_owned(),
            request_id: self.plan.request_id.clone(),
            urgency: self.plan.urgency.into(),
            routing_steps: self.plan.routing_steps.clone(),
            presence: presence.into(),
            handoff: super::script(&self.plan),
            ..RequestChatRequest::default()
        }
    }

    fn complain(&self, what: &str) {
        self.world.journal.complain(format!("visitor {}: {what}", self.plan.request_id));
    }

    async fn ask(&self) -> Result<RequestChatResponse, Status> {
        let request = self.request();
        persist(&self.world, "request", || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.request_chat(with_deadline(request)).await }
        })
        .await
    }

    /// Asks; false when no chat came of it.
    async fn ask_as_planned(&mut self) -> bool {
        let answer = match self.plan.asking {
            Asking::Once | Asking::Lies => self.ask().await,
            Asking::LosesAnswer { after } => {
                // The first answer, if it came at all, is thrown away.
                let _ = timeout(after, self.ask()).await;
                let again = self.ask().await;
                if again.is_ok() {
                    self.world.journal.count(Behaviour::AnswerLost);
                }
                again
            }
            Asking::TwiceAtOnce => self.ask_twice().await,
        };
        match answer {
            Ok(response) => self.enter(&response),
            Err(status) => {
                self.complain(&format!("never let in: {status}"));
                return false;
            }
        }
        if self.plan.asking == Asking::Lies {
            self.lie().await;
        }
        true
    }

    /// Two calls at the same moment are one chat, and exactly one of them made it.
    async fn ask_twice(&self) -> Result<RequestChatResponse, Status> {
        let (one, two) = tokio::join!(self.ask(), self.ask());
        let (one, two) = (one?, two?);
        let ids = [&one, &two].map(|r| r.chat.as_ref().map(|c| c.chat_id.clone()));
        let [first, second] = ids;
        if first != second {
            self.complain("asked twice at once and got two chats");
        }
        // A call that was repeated on the way may be a replay of itself.
        if !one.replayed && !two.replayed {
            self.complain("asked twice at once and both calls made a chat");
        }
        self.world.journal.count(Behaviour::AskedTwice);
        Ok(if one.replayed { one } else { two })
    }

    async fn lie(&self) {
        let mut request = self.request();
        request.handoff = b"something else".to_vec();
        let refused = persist(&self.world, "lie", || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.request_chat(with_deadline(request)).await }
        })
        .await;
        match refused {
            Err(status) if status.code() == Code::AlreadyExists => {
                self.world.journal.count(Behaviour::LieRefused);
            }
            Err(status) => self.complain(&format!("a changed body was answered with {status}")),
            Ok(_) => self.complain("a changed body was accepted under the same request_id"),
        }
    }

    fn enter(&mut self, response: &RequestChatResponse) {
        let chat = response.chat.clone().unwrap_or_default();
        self.key = ChatKey {
            helpline: HELPLINE.to_owned(),
            chat_id: chat.chat_id.clone(),
            visitor_token: response.visitor_token.clone(),
        };
        self.weigh(response.durability.as_ref());
        self.world.journal.notes().acknowledged(self.visit, &chat, &self.key);
        self.see(&chat);
        if self.plan.touch == Touch::Attested {
            self.world.journal.count(Behaviour::Attested);
        }
    }

    fn weigh(&self, durability: Option<&Durability>) {
        let synced = durability.is_some_and(|d| d.persistence() == Persistence::Fsynced);
        if !synced {
            self.world.journal.notes().not_synced += 1;
        }
    }

    /// An update that is not newer than the last one is old.
    fn see(&mut self, chat: &Chat) {
        if chat.chat_id != self.key.chat_id {
            self.complain("was told of another chat");
            return;
        }
        if chat.version < self.version {
            return;
        }
        self.version = chat.version;
        self.state = chat.state();
        self.world.journal.notes().told(self.visit, chat);
        if self.state == ChatState::Active && self.plan.ends_it {
            let after = self.plan.talk.mul_f64(0.7);
            self.ends_at.get_or_insert_with(|| Instant::now() + after);
        }
    }

    async fn stay_as_planned(&mut self) {
        match self.plan.touch {
            Touch::Stays => {
                self.stay(None).await;
            }
            Touch::Attested => self.poll().await,
            Touch::DropsForGood { after } => {
                self.drop_out(after).await;
            }
            Touch::DropsAndReturns { after, away } => {
                if self.drop_out(after).await {
                    sleep(away).await;
                    self.return_in_time().await;
                }
            }
            Touch::ReturnsLate { after, away } => {
                if self.drop_out(after).await {
                    sleep(away).await;
                    self.return_late().await;
                }
            }
        }
    }

    /// True when the visitor dropped out of a chat that had not ended.
    async fn drop_out(&mut self, after: Duration) -> bool {
        let dropped = matches!(self.stay(Some(after)).await, Stop::Dropped);
        if dropped {
            self.world.journal.count(Behaviour::Dropped);
        }
        dropped
    }

    async fn return_in_time(&mut self) {
        let before = self.state;
        if matches!(self.stay(None).await, Stop::Ended) && before != ChatState::Ended {
            self.world.journal.count(Behaviour::CameBackInTime);
        }
    }

    async fn return_late(&mut self) {
        let request = ResumeChatRequest { key: Some(self.key.clone()), locale: String::new() };
        let answer = persist(&self.world, "resume", || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.resume_chat(with_deadline(request)).await }
        })
        .await;
        match answer {
            Ok(response) => {
                let chat = response.chat.unwrap_or_default();
                self.weigh(response.durability.as_ref());
                self.see(&chat);
                if chat.state() != ChatState::Ended {
                    self.world.journal.count(Behaviour::CameBackLate);
                    self.stay(None).await;
                }
            }
            Err(status) => self.complain(&format!("came back and was refused: {status}")),
        }
    }

    fn in_line(&self) -> bool {
        matches!(self.state, ChatState::Waiting | ChatState::Offered)
    }

    /// Watches until the chat has ended, or for so long.
    async fn stay(&mut self, no_longer_than: Option<Duration>) -> Stop {
        let drop_at = no_longer_than.map(|after| Instant::now() + after);
        for _ in 0..ATTEMPTS {
            if self.state == ChatState::Ended {
                return Stop::Ended;
            }
            if self.world.is_over() {
                return Stop::Over;
            }
            if let Some(stop) = self.watch(drop_at).await {
                return stop;
            }
            sleep(PAUSE).await;
        }
        self.complain("gave up watching");
        Stop::Over
    }

    /// One stream; `None` when it ended before the chat did.
    async fn watch(&mut self, drop_at: Option<Instant>) -> Option<Stop> {
        let request = WatchChatRequest { key: Some(self.key.clone()), locale: String::new() };
        let opened = timeout(CALL, self.client.watch_chat(request)).await;
        let mut stream = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) if status.code() == Code::NotFound => {
                self.complain("the chat is not known any more: LOST");
                return Some(Stop::Over);
            }
            Ok(Err(status)) => {
                let what = format!("watch: {:?}, repeated", status.code());
                self.world.journal.refused(&what);
                return None;
            }
            Err(_) => return None,
        };
        let gives_up_at = self.asked_at + self.plan.patience;
        let mut over = self.world.over();
        loop {
            let active = self.state == ChatState::Active;
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(message)) => {
                        if let Some(Message::Update(update)) = message.message {
                            self.see(&update.chat.unwrap_or_default());
                        }
                        if self.state == ChatState::Ended {
                            return Some(Stop::Ended);
                        }
                    }
                    Ok(None) | Err(_) => return None,
                },
                () = at(drop_at) => return Some(Stop::Dropped),
                () = at(self.worsens_at), if self.in_line() => self.worsen().await,
                () = sleep_until(gives_up_at), if self.in_line() => {
                    self.leave(self.plan.takes_resources).await;
                    return Some(Stop::Ended);
                }
                () = at(self.ends_at), if active => {
                    self.leave(false).await;
                    return Some(Stop::Ended);
                }
                () = until(&mut over) => return Some(Stop::Over),
            }
        }
    }

    async fn worsen(&mut self) {
        self.worsens_at = None;
        let urgency = match self.plan.urgency {
            Urgency::Low => Urgency::Moderate,
            Urgency::Unspecified | Urgency::Moderate => Urgency::High,
            Urgency::High | Urgency::Imminent => Urgency::Imminent,
        };
        let request = UpdateChatRequest {
            key: Some(self.key.clone()),
            urgency: urgency.into(),
            ..UpdateChatRequest::default()
        };
        let answer = persist(&self.world, "update", || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.update_chat(with_deadline(request)).await }
        })
        .await;
        match answer {
            Ok(response) => {
                self.weigh(response.durability.as_ref());
                self.see(&response.chat.unwrap_or_default());
                self.world.journal.count(Behaviour::Worsened);
            }
            // It may have ended this very moment.
            Err(status) if status.code() == Code::FailedPrecondition => {
                self.world.journal.refused("update: the chat had ended");
            }
            Err(status) => self.complain(&format!("an update was refused: {status}")),
        }
    }

    async fn leave(&mut self, fallback_accepted: bool) {
        let request = LeaveChatRequest { key: Some(self.key.clone()), fallback_accepted };
        let answer = persist(&self.world, "leave", || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.leave_chat(with_deadline(request)).await }
        })
        .await;
        match answer {
            Ok(response) => {
                self.weigh(response.durability.as_ref());
                let chat = response.chat.unwrap_or_default();
                if chat.state() != ChatState::Ended {
                    self.complain("left, and the chat goes on");
                }
                self.see(&chat);
                // What it was says the line: somebody may have come this very moment.
                let left = match chat.outcome() {
                    ChatOutcome::Completed => Some(Behaviour::EndedItself),
                    ChatOutcome::Fallback => Some(Behaviour::TookResources),
                    ChatOutcome::Left => Some(Behaviour::Left),
                    ChatOutcome::Unspecified
                    | ChatOutcome::Abandoned
                    | ChatOutcome::Overflowed
                    | ChatOutcome::Blocked => None,
                };
                if let Some(left) = left {
                    self.world.journal.count(left);
                }
            }
            Err(status) => self.complain(&format!("leaving was refused: {status}")),
        }
    }

    /// Without a stream: asks now and then, and leaves when the person's patience is over.
    async fn poll(&mut self) {
        let gives_up_at = self.asked_at + self.plan.patience;
        while self.state != ChatState::Ended && !self.world.is_over() {
            sleep(POLL).await;
            if self.in_line() && Instant::now() > gives_up_at {
                self.leave(self.plan.takes_resources).await;
                return;
            }
            let request = ResumeChatRequest { key: Some(self.key.clone()), locale: String::new() };
            match timeout(CALL, self.client.resume_chat(with_deadline(request))).await {
                Ok(Ok(response)) => self.see(&response.into_inner().chat.unwrap_or_default()),
                Ok(Err(status)) if status.code() == Code::NotFound => {
                    self.complain("the chat is not known any more: LOST");
                    return;
                }
                Ok(Err(_)) | Err(_) => {}
            }
            if self.ends_at.is_some_and(|at| at <= Instant::now()) && !self.in_line() {
                self.leave(false).await;
                return;
            }
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// After the evening every visitor looks once more how the chat stands: an acknowledged chat is never unknown.
pub(super) async fn look_again(world: &World, nth: usize, visit: usize, key: ChatKey) {
    let mut client = world.intake(nth);
    for _ in 0..ATTEMPTS {
        let request = WatchChatRequest { key: Some(key.clone()), locale: String::new() };
        let first = timeout(CALL, async { client.watch_chat(request).await?.into_inner().message().await });
        match first.await {
            Ok(Ok(Some(message))) => {
                if let Some(Message::Update(update)) = message.message {
                    let chat = update.chat.unwrap_or_default();
                    world.journal.notes().told(visit, &chat);
                    return;
                }
            }
            Ok(Err(status)) if status.code() == Code::NotFound => {
                let what = format!("chat {} was acknowledged and is unknown: LOST", key.chat_id);
                world.journal.complain(what);
                return;
            }
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
        sleep(PAUSE).await;
    }
    let what = format!("chat {} could not be looked at", key.chat_id);
    world.journal.complain(what);
}
