//! A visitor of the evening: asks, waits, gives up or is answered, drops out, comes back, goes on at the partner, comes
//! again, as planned.

use std::{sync::Arc, time::Duration};

use holdfast_proto::v1::{
    Chat, ChatKey, ChatOutcome, ChatState, ChatUpdate, Durability, LeaveChatRequest, RequestChatRequest,
    RequestChatResponse, ResumeChatRequest, UpdateChatRequest, Urgency, VisitorPresence, WatchChatRequest,
    durability::Persistence, intake_service_client::IntakeServiceClient, watch_chat_response::Message,
};
use holdfast_runtime::client::is_retryable;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

use super::{
    World,
    journal::Behaviour,
    needs::Needs,
    plan::{Asking, Touch, Visitor, answer},
    rules::{House, rank},
    until,
};
use crate::{
    challenge,
    remote::{self, Door},
};

/// A call takes so long at most.
const CALL: Duration = Duration::from_secs(5);
/// A visitor who is refused or hears nothing asks so often altogether.
const ATTEMPTS: u32 = 40;
/// And waits so long in between.
const PAUSE: Duration = Duration::from_millis(150);
/// An integrator without a stream asks how the chat stands this often.
const POLL: Duration = Duration::from_millis(500);
/// A partner who holds a chat asks every two seconds what became of it, so it has let it in within this.
const PASSAGE: Duration = Duration::from_secs(8);
/// What a LOW visitor is refused with in a flood.
const RESOURCES_FIRST: &str = "RESOURCES_FIRST";
/// Why a request has its urgency when the policy could not be read.
const POLICY_UNAVAILABLE: &str = "policy_unavailable";

type Client = IntakeServiceClient<Door>;

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
    house: House,
    visit: usize,
    key: ChatKey,
    state: ChatState,
    outcome: ChatOutcome,
    /// Who has the chat now, when this helpline has not any more.
    continued_at: Option<String>,
    /// When they went on at the partner, until the chat was seen there.
    passing_since: Option<Instant>,
    version: u64,
    /// The responder who came, and the sealed word that leads back to them.
    met: Option<(String, Vec<u8>)>,
    asked_at: Instant,
    worsens_at: Option<Instant>,
    ends_at: Option<Instant>,
}

/// The visitor's whole evening, from the moment of asking; and the second visit of whoever comes again.
pub(super) async fn visit(world: Arc<World>, plan: Visitor, nth: usize) {
    let second = first_visit(&world, plan, nth).await;
    if let Some((after, again)) = second.filter(|_| !world.is_over()) {
        sleep(after).await;
        world.journal.count(Behaviour::CameAgain);
        if !again.met.never.is_empty() {
            world.journal.count(Behaviour::NeverAgain);
        }
        first_visit(&world, again, nth).await;
    }
}

/// One visit; returns the plan of a second one, if there is to be one.
async fn first_visit(world: &Arc<World>, plan: Visitor, nth: usize) -> Option<(Duration, Visitor)> {
    let request = request(&plan);
    let needs = Arc::new(Needs::of(&request, &plan.met, world.rules.of(plan.house)));
    let visit = world.journal.notes().ask(plan.house, needs, plan.calibration);
    let asked_at = Instant::now();
    let mut person = Person {
        client: world.intake(nth),
        house: plan.house,
        visit,
        key: ChatKey::default(),
        state: ChatState::Unspecified,
        outcome: ChatOutcome::Unspecified,
        continued_at: None,
        passing_since: None,
        version: 0,
        met: None,
        asked_at,
        worsens_at: plan.worsens.map(|after| asked_at + after),
        ends_at: None,
        world: Arc::clone(world),
        plan,
    };
    if !person.ask_as_planned().await {
        return None;
    }
    person.stay_as_planned().await;
    let (responder, token) = person.met.filter(|_| person.outcome == ChatOutcome::Completed)?;
    // The word is for the helpline where it was given.
    let (after, again) = person.plan.second_visit(&responder, &token)?;
    (person.house == person.plan.house).then_some((after, again))
}

/// What is asked.
fn request(plan: &Visitor) -> RequestChatRequest {
    let presence = match plan.touch {
        Touch::Attested => VisitorPresence::Attested,
        Touch::Stays | Touch::DropsForGood { .. } | Touch::DropsAndReturns { .. } | Touch::ReturnsLate { .. } => {
            VisitorPresence::Live
        }
    };
    RequestChatRequest {
        helpline: plan.house.name().to_owned(),
        request_id: plan.request_id.clone(),
        urgency: plan.stated.into(),
        routing_steps: plan.routing_steps.clone(),
        presence: presence.into(),
        handoff: super::script(plan),
        answers: plan.answers.clone(),
        language: plan.language.clone(),
        preferences: plan.preferences.clone(),
        return_token: plan.return_token.clone(),
        not_again_tokens: plan.not_again.clone(),
        resources_seen: plan.resources_seen,
        ..RequestChatRequest::default()
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
        if !again || shows_resources_first(&last) {
            return Err(last);
        }
        world.journal.refused(&format!("{what}: {:?}, repeated", last.code()));
        sleep(PAUSE).await;
    }
    Err(last)
}

fn shows_resources_first(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.reason == RESOURCES_FIRST)
}

impl Person {
    fn complain(&self, what: &str) {
        self.world.journal.complain(format!("visitor {}: {what}", self.plan.request_id));
    }

    async fn ask(&self) -> Result<RequestChatResponse, Status> {
        match self.ask_with(request(&self.plan)).await {
            Err(status) if shows_resources_first(&status) => self.look_first(status).await,
            answer => answer,
        }
    }

    /// Asks, and does the work that is asked for in a flood.
    async fn ask_with(&self, mut request: RequestChatRequest) -> Result<RequestChatResponse, Status> {
        loop {
            let answer = persist(&self.world, "request", || {
                let (mut client, request) = (self.client.clone(), request.clone());
                async move { client.request_chat(with_deadline(request)).await }
            })
            .await;
            let worked = request.challenge_solution.is_some();
            match answer.as_ref().err().and_then(challenge::of) {
                Some(challenge) if !worked => match challenge::solve(challenge, &request.request_id).await {
                    None => return answer,
                    solved => request.challenge_solution = solved,
                },
                Some(_) => return answer,
                None => {
                    if worked && answer.is_ok() {
                        self.world.journal.count(Behaviour::Worked);
                    }
                    return answer;
                }
            }
        }
    }

    /// The resources come first: some are content with them, the others ask again and must be let in.
    async fn look_first(&self, shown: Status) -> Result<RequestChatResponse, Status> {
        self.world.journal.count(Behaviour::ShownFirst);
        if remote::resources(&shown).is_empty() {
            self.complain("was shown the resources first, and there were none");
        }
        if self.plan.urgency != Urgency::Low || self.plan.resources_seen {
            self.complain("was shown the resources first without being LOW, or again");
        }
        if self.plan.content {
            self.world.journal.count(Behaviour::Content);
            self.world.journal.notes().content(self.visit);
            return Err(shown);
        }
        sleep(self.plan.asks_again_after).await;
        let answer = self.ask_with(RequestChatRequest { resources_seen: true, ..request(&self.plan) }).await;
        if answer.is_ok() {
            self.world.journal.count(Behaviour::AskedAgain);
        }
        answer
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
            Err(status) if shows_resources_first(&status) && self.plan.content => return false,
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
        let mut request = request(&self.plan);
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
            helpline: self.house.name().to_owned(),
            chat_id: chat.chat_id.clone(),
            visitor_token: response.visitor_token.clone(),
        };
        self.weigh(response.durability.as_ref());
        {
            let mut notes = self.world.journal.notes();
            notes.acknowledged(self.visit, &chat, &self.key);
            notes.shown(self.visit, response.wait.as_ref());
        }
        self.check_triage(response);
        self.see(&chat);
        for (is_so, behaviour) in [
            (self.plan.touch == Touch::Attested, Behaviour::Attested),
            (!self.plan.answers.is_empty(), Behaviour::Surveyed),
            (!self.plan.preferences.is_empty(), Behaviour::Wished),
        ] {
            if is_so {
                self.world.journal.count(behaviour);
            }
        }
    }

    /// The helpline's rules make of the answers what the policy says. A repeat is told the chat as it stands.
    fn check_triage(&self, response: &RequestChatResponse) {
        let triaged = response.triaged.clone().unwrap_or_default();
        if triaged.reasons.iter().any(|reason| reason == POLICY_UNAVAILABLE) {
            self.world.journal.refused("request: let in without a policy");
            return;
        }
        let wanted = self.world.journal.notes().visits.get(self.visit).map(|visit| Arc::clone(&visit.needs));
        let Some(wanted) = wanted.filter(|_| !response.replayed) else {
            return;
        };
        let urgency = triaged.urgency();
        if urgency != wanted.urgency || response.route != wanted.route {
            let told = format!("{urgency:?} by route '{}'", response.route);
            self.complain(&format!("was let in as {told}, not {:?} by '{}'", wanted.urgency, wanted.route));
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
        self.outcome = chat.outcome();
        if let Some(since) = self.passing_since.take() {
            let mut notes = self.world.journal.notes();
            notes.longest_passage = notes.longest_passage.max(since.elapsed());
        }
        self.world.journal.notes().told(self.visit, chat);
        if self.outcome == ChatOutcome::Overflowed {
            self.continued_at = Some(chat.continued_at.clone());
        }
        if self.state == ChatState::Active && self.plan.ends_it {
            let after = self.plan.talk.mul_f64(0.7);
            self.ends_at.get_or_insert_with(|| Instant::now() + after);
        }
    }

    /// An update tells more than the chat: who has come, and the way back to them.
    fn hear(&mut self, update: ChatUpdate) {
        if !update.reply_handoff.is_empty() && !update.return_token.is_empty() {
            let responder = String::from_utf8_lossy(&update.reply_handoff).into_owned();
            let again = self.plan.met.again.as_ref() == Some(&responder);
            if again && self.met.is_none() {
                self.world.journal.count(Behaviour::MetAgain);
            }
            self.met = Some((responder, update.return_token));
        }
        self.see(&update.chat.unwrap_or_default());
    }

    /// Goes on where the chat is now, with the same key; false when it is nowhere else.
    fn go_on(&mut self) -> bool {
        let Some(name) = self.continued_at.take() else {
            return false;
        };
        let Some(house) = House::named(&name).filter(|house| *house != self.house) else {
            self.complain(&format!("was sent on to '{name}'"));
            return false;
        };
        let Some((visit, key)) = self.world.goes_on(self.visit, house) else {
            return false;
        };
        self.world.journal.count(Behaviour::WentOn);
        (self.visit, self.key, self.house) = (visit, key, house);
        (self.state, self.outcome, self.version) = (ChatState::Unspecified, ChatOutcome::Unspecified, 0);
        self.passing_since = Some(Instant::now());
        true
    }

    /// For a moment a chat is in neither line, and held for the partner's.
    fn is_passing(&self) -> bool {
        self.passing_since.is_some_and(|since| since.elapsed() < PASSAGE)
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
        let request = ResumeChatRequest { key: Some(self.key.clone()), locale: String::new(), ticket: Vec::new() };
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
                if chat.state() != ChatState::Ended || self.go_on() {
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
        for _ in 0..ATTEMPTS * 2 {
            if self.state == ChatState::Ended && !self.go_on() {
                return Stop::Ended;
            }
            if self.world.is_over() {
                return Stop::Over;
            }
            match self.watch(drop_at).await {
                Some(Stop::Ended) => continue,
                Some(stop) => return stop,
                None => sleep(PAUSE).await,
            }
        }
        self.complain("gave up watching");
        Stop::Over
    }

    /// One stream; `None` when it ended before the chat did.
    async fn watch(&mut self, drop_at: Option<Instant>) -> Option<Stop> {
        let request = WatchChatRequest { key: Some(self.key.clone()), locale: String::new(), ticket: Vec::new() };
        let opened = timeout(CALL, self.client.watch_chat(request)).await;
        let mut stream = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) if status.code() == Code::NotFound && !self.is_passing() => {
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
                            self.hear(update);
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
        // Whoever answered the survey answers it anew, where an answer can say it.
        let answers = match urgency {
            Urgency::High => vec![answer("distress", "9")],
            Urgency::Imminent => vec![answer("danger", "yes")],
            Urgency::Unspecified | Urgency::Low | Urgency::Moderate => Vec::new(),
        };
        let by_answers = !self.plan.answers.is_empty() && self.house == House::Evening && !answers.is_empty();
        let key = Some(self.key.clone());
        let request = if by_answers {
            UpdateChatRequest { key, answers, ..UpdateChatRequest::default() }
        } else {
            UpdateChatRequest { key, urgency: urgency.into(), ..UpdateChatRequest::default() }
        };
        let answer = persist(&self.world, "update", || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.update_chat(with_deadline(request)).await }
        })
        .await;
        match answer {
            Ok(response) => {
                self.weigh(response.durability.as_ref());
                let chat = response.chat.unwrap_or_default();
                if rank(chat.urgency()) < rank(urgency) {
                    self.complain(&format!("it got worse, and is {:?}", chat.urgency()));
                }
                self.see(&chat);
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
        while (self.state != ChatState::Ended || self.go_on()) && !self.world.is_over() {
            sleep(POLL).await;
            if self.in_line() && Instant::now() > gives_up_at {
                self.leave(self.plan.takes_resources).await;
                continue;
            }
            let request =
                ResumeChatRequest { key: Some(self.key.clone()), locale: String::new(), ticket: Vec::new() };
            match timeout(CALL, self.client.resume_chat(with_deadline(request))).await {
                Ok(Ok(response)) => self.see(&response.into_inner().chat.unwrap_or_default()),
                Ok(Err(status)) if status.code() == Code::NotFound && !self.is_passing() => {
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

/// After the evening every visitor looks once more how the chat stands: an acknowledged chat is never unknown. Who was
/// away when it went on to the partner learns of it now, and looks there too.
pub(super) async fn look_again(world: &World, nth: usize, visit: usize, key: ChatKey) {
    let Some(chat) = look(world, nth, &key).await else {
        return;
    };
    let first_heard = {
        let mut notes = world.journal.notes();
        notes.told(visit, &chat);
        let unheard = notes.visits.get(visit).is_some_and(|visit| visit.went_on.is_none());
        unheard && chat.outcome() == ChatOutcome::Overflowed
    };
    let house = House::named(&chat.continued_at).filter(|_| first_heard);
    if let Some((there, key)) = house.and_then(|house| world.goes_on(visit, house))
        && let Some(chat) = look(world, nth, &key).await
    {
        world.journal.notes().told(there, &chat);
    }
}

async fn look(world: &World, nth: usize, key: &ChatKey) -> Option<Chat> {
    let mut client = world.intake(nth);
    for _ in 0..ATTEMPTS {
        let request = WatchChatRequest { key: Some(key.clone()), locale: String::new(), ticket: Vec::new() };
        let first = timeout(CALL, async { client.watch_chat(request).await?.into_inner().message().await });
        match first.await {
            Ok(Ok(Some(message))) => {
                if let Some(Message::Update(update)) = message.message {
                    return Some(update.chat.unwrap_or_default());
                }
            }
            Ok(Err(status)) if status.code() == Code::NotFound => {
                let (chat, house) = (&key.chat_id, &key.helpline);
                world.journal.complain(format!("chat {chat} was acknowledged and is unknown at {house}: LOST"));
                return None;
            }
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
        sleep(PAUSE).await;
    }
    world.journal.complain(format!("chat {} could not be looked at", key.chat_id));
    None
}
