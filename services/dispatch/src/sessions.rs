//! A responder's session: what they do goes to the line, what the line has for them comes back.
//!
//! One task for each session. It knows what its responder was told, so that nothing is told twice; it acts on notices at
//! once; and because notices are only hints, it compares what it told with the state whenever the version of the
//! responder says that something changed, which each heartbeat brings.

mod known;
mod registry;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use holdfast_access::{Access, Caller, Grant, Lease, Refused, lease::GRACE};
use holdfast_link::{Link, LinkError};
use holdfast_proto::v1::{
    AcceptedView, Action, ActionResult, Assignment, AssignmentEnded, ChatOutcome, Drain, Event,
    GetResponderRequest, GetResponderResponse, Outcome, Replaced, Rescinded, ResponderOutcomeView,
    ResponderStatus, SessionRequest, SessionResponse, SignIn, SignInCommand, SignedIn, StatusChanged, action,
    command, outcome, session_request, session_response,
};
use holdfast_runtime::{
    Stop,
    client::{Backoff, continue_from, link_to},
    reader::Reader,
};
use opentelemetry::metrics::Counter;
use rand::random_range;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Code, Status, Streaming};
use tracing::{Instrument, Span, debug, info_span, warn};

use crate::{
    convert::{self, Asked, Who},
    error::{Failure, Invalid},
    policies::{Policies, Presence},
};
use known::{Doubts, Known};
use registry::Seat;
pub use registry::{Nudge, Sessions};

/// A look that failed is repeated within this.
const TRY_AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// When all sessions must look again they do so within this, not all at once.
const SPREAD: Duration = Duration::from_millis(500);

/// In the drain, actions on their way may take this long.
const LAST_ACTIONS: Duration = Duration::from_secs(1);

/// What a sign-in is called among doubts; no chat is.
const SIGNED_OUT: &str = "";

/// A look that was overtaken by news is repeated so often before it waits.
const MAX_REREADS: u8 = 3;

/// What all sessions share.
#[derive(Debug, Clone)]
pub struct Means {
    /// The way to the line.
    pub link: Link,
    /// Reads fresh tokens of those who hold a stream.
    pub access: Access,
    /// All sessions here.
    pub sessions: Arc<Sessions>,
    /// What responders are told about presence.
    pub policies: Arc<Policies>,
    /// Offers that were sent.
    pub offers_sent: Counter<u64>,
    /// The stop signal.
    pub stop: Stop,
    /// Patience with one command or look.
    pub patience: Duration,
    /// The first message must come within this.
    pub sign_in_within: Duration,
    /// Whoever takes nothing of what waits for so long does not read.
    pub reader_patience: Duration,
    /// Actions at once.
    pub max_actions: usize,
    /// The line is told of a broken stream within this.
    pub unlink_within: Duration,
    /// In the drain, clients come back within this.
    pub reconnect_within: Duration,
}

/// Where a session's messages go.
pub type Outgoing = mpsc::Sender<Result<SessionResponse, Status>>;

/// Where a session's actions come from.
#[derive(Debug)]
pub enum Incoming {
    /// The same stream.
    Stream(Box<Streaming<SessionRequest>>),
    /// Elsewhere: actions come as calls, here or to another replica.
    Elsewhere,
    /// Nowhere any more.
    Closed,
}

impl Incoming {
    async fn next(&mut self) -> Result<Option<SessionRequest>, Status> {
        match self {
            Self::Stream(stream) => stream.message().await,
            Self::Elsewhere | Self::Closed => std::future::pending().await,
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

/// A session over one stream, from its first message to its end.
///
/// # Errors
/// What the stream ends with.
pub async fn over_stream(
    means: Means,
    caller: Caller,
    mut requests: Streaming<SessionRequest>,
    out: Outgoing,
) -> Result<(), Failure> {
    let first = timeout(means.sign_in_within, requests.message()).await;
    let first = first.map_err(|_| Failure::SignInExpected)?;
    let Ok(Some(SessionRequest { message: Some(session_request::Message::SignIn(sign_in)), .. })) = first else {
        return Err(Failure::SignInExpected);
    };
    watched(means, caller, sign_in, Incoming::Stream(Box::new(requests)), out).await
}

/// A session whose sign-in is known, from the sign-in to its end.
///
/// # Errors
/// What the stream ends with.
pub async fn watched(
    means: Means,
    caller: Caller,
    sign_in: SignIn,
    incoming: Incoming,
    out: Outgoing,
) -> Result<(), Failure> {
    let session = Session::begin(means.clone(), caller, sign_in, &incoming, out).await?;
    let (who, number) = (session.who.clone(), session.number);
    let end = session.run(incoming).await;
    debug!(helpline = %who.helpline, responder = %who.responder, session = number, ?end, "a session ended");
    match end {
        End::Over => Ok(()),
        End::Lost => {
            unlink(&means, &who, number).await;
            Ok(())
        }
        End::Slow => {
            unlink(&means, &who, number).await;
            Err(Failure::SlowReader)
        }
        End::Expired => {
            unlink(&means, &who, number).await;
            Err(Refused::TokenExpired.into())
        }
        End::SignedOut(reason) => Err(Failure::SignedOut { reason }),
    }
}

/// Tells the line that the connection of a session broke, so that open offers go on to others at once. When that cannot
/// be told, the presence lease ends by itself.
async fn unlink(means: &Means, who: &Who, session: u64) {
    let until = Instant::now() + means.unlink_within;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2), u32::MAX);
    while Instant::now() < until && !means.stop.is_stopping() {
        match means.link.execute(who.unlink(session), means.patience).await.map_err(Failure::from) {
            Ok(_) => return,
            Err(failure) if !failure.may_pass() => return, // a newer session, or gone already
            Err(_) => sleep(backoff.next_delay().unwrap_or(TRY_AGAIN_WITHIN)).await,
        }
    }
    warn!(helpline = %who.helpline, responder = %who.responder, "the line was not told that a stream broke");
}

/// Carries out an action. An accept links this trace to the one that the chat was requested in, and ends that one.
///
/// # Errors
/// As the line refused.
pub async fn perform(link: &Link, asked: &Asked, patience: Duration) -> Result<Outcome, Failure> {
    let outcome = link.execute(asked.command.clone(), patience).await?;
    if let Some(outcome::Outcome::Accepted(view)) = &outcome.outcome
        && !view.traceparent.is_empty()
    {
        link_to(&view.traceparent);
        in_the_trace_of_the_request(view);
    }
    Ok(outcome)
}

/// The last span of the visitor's own trace: one trace leads from the request through intake, queue and store to the
/// responder.
fn in_the_trace_of_the_request(view: &AcceptedView) {
    let span = info_span!(parent: None, "hand over", chat = %view.chat_id);
    continue_from(&view.traceparent, &span);
    span.in_scope(|| debug!("the chat is in a responder's hands"));
}

/// What became of an action that was carried out.
#[must_use]
pub fn result(request_number: u64, asked: &Asked, outcome: &Outcome) -> ActionResult {
    let offer_number = asked.accepts.as_ref().map_or(0, |(_, number)| *number);
    let assignment = match &outcome.outcome {
        Some(outcome::Outcome::Accepted(view)) => Some(convert::assigned(view.clone(), offer_number)),
        Some(outcome::Outcome::Chat(_) | outcome::Outcome::Responder(_) | outcome::Outcome::Done(_)) | None => {
            None
        }
    };
    ActionResult { request_number, durability: outcome.durability, assignment, ..ActionResult::default() }
}

/// When a credential is good no longer; never where none is needed.
pub(crate) fn over(lease: Option<&Lease>, grace: Duration) -> BoxFuture<'static, ()> {
    match lease {
        Some(lease) => lease.over(grace).boxed(),
        None => std::future::pending().boxed(),
    }
}

/// How a session ends.
#[derive(Debug)]
enum End {
    /// As it should: signed out, replaced, gone, or sent to another replica. The line knows what it needs to know.
    Over,
    /// The stream broke.
    Lost,
    /// Nobody reads.
    Slow,
    /// The token is good no longer, and there is no fresh one.
    Expired,
    /// A supervisor has signed them out, for this reason.
    SignedOut(String),
}

/// Work of a session that is under way.
enum Done {
    /// An action of the responder.
    Acted { number: u64, asked: Box<Asked>, outcome: Result<Outcome, Failure> },
    /// A fresh token was shown.
    Refreshed { number: u64, outcome: Result<(), Refused> },
    /// A look at the state, and the count of news when it began.
    Read { news: u64, seen: Result<GetResponderResponse, LinkError> },
    /// The hand-off of a chat that is theirs.
    Fetched { chat_id: String, offer_number: u32, outcome: Result<Outcome, Failure> },
    /// The line was asked for a chat back.
    Claimed { chat_id: String, outcome: Result<Outcome, Failure> },
    /// They were signed in again, because the line had lost the session.
    SignedIn { outcome: Result<Outcome, Failure> },
}

/// One session.
struct Session {
    means: Means,
    caller: Caller,
    /// The token has expired, and they were not told yet.
    expiring: BoxFuture<'static, ()>,
    who: Who,
    seat: Seat,
    out: Reader<Result<SessionResponse, Status>>,
    number: u64,
    /// How they came, to come again if the line loses the session.
    sign_in: SignInCommand,
    came_at: Instant,
    /// What proves the chats that are theirs, should the line lose them.
    sealed: HashMap<String, Vec<u8>>,
    claiming: HashSet<String>,
    signing_in: bool,
    /// The line said that another sign-in counts.
    is_stale: bool,
    poll_every: Duration,
    presence: Presence,
    known: Known,
    /// Counts what changed what we know: a look that began before may be older than what we know.
    news: u64,
    /// Version of the responder at the last look.
    version: u64,
    /// Something was said since the last look; the next heartbeat looks again.
    unsure: bool,
    /// What was seen to be gone and not told yet.
    doubts: Doubts,
    /// They were signed out, until a look shows otherwise.
    heard_out: bool,
    /// Why a supervisor did that.
    signed_out: Option<String>,
    reading: bool,
    read_again: bool,
    rereads: u8,
    read_at: Instant,
    actions: usize,
    accepting: HashSet<String>,
    fetching: HashSet<String>,
    work: FuturesUnordered<BoxFuture<'static, (u64, Done)>>,
    /// The sign-in under which the work began that is looked at.
    worked_as: u64,
}

impl Session {
    async fn begin(
        means: Means,
        caller: Caller,
        sign_in: SignIn,
        incoming: &Incoming,
        out: Outgoing,
    ) -> Result<Self, Failure> {
        let sealed = convert::sealed(&sign_in)?;
        let within = convert::check_capabilities(&sign_in, &caller);
        let (who, command) = convert::sign_in(sign_in)?;
        who.is_callers_own("sign_in.", &caller)?;
        within?;
        if means.stop.is_draining() {
            return Err(Failure::Draining);
        }
        let seat = means.sessions.register(&who)?; // before the state is looked at, so that no notice is missed
        let Some(command::Command::SignIn(sign_in)) = command.command.clone() else {
            return Err(something_else());
        };
        let outcome = means.link.execute(command, means.patience).await?;
        let view = responder_view(outcome)?;
        let presence = means.policies.presence(&who.helpline).await;
        let poll_every = match incoming {
            Incoming::Elsewhere => presence.heartbeat_every, // heartbeats may go to other replicas
            Incoming::Stream(_) | Incoming::Closed => presence.lease,
        };
        let out = Reader::new(out, means.reader_patience);
        let mut session = Self {
            seat,
            out,
            number: view.session,
            sign_in,
            came_at: Instant::now(),
            sealed,
            claiming: HashSet::new(),
            signing_in: false,
            is_stale: false,
            poll_every,
            presence,
            known: Known::default(),
            news: 0,
            version: 0,
            unsure: true,
            doubts: Doubts::default(),
            heard_out: false,
            signed_out: None,
            reading: false,
            read_again: false,
            rereads: 0,
            read_at: Instant::now(),
            actions: 0,
            accepting: HashSet::new(),
            fetching: HashSet::new(),
            work: FuturesUnordered::new(),
            worked_as: view.session,
            means,
            expiring: over(caller.lease(), Duration::ZERO),
            caller,
            who,
        };
        session.known.status(&view);
        // Nothing was sent before, so there is room; one who has gone is noticed next.
        let _ = session.tell(session_response::Message::SignedIn(signed_in(&view, presence)));
        Ok(session)
    }

    async fn run(mut self, mut incoming: Incoming) -> End {
        let mut draining = Box::pin(self.means.stop.draining());
        let mut expired = over(self.caller.lease(), GRACE);
        let mut leave_at: Option<Instant> = None;
        self.read();
        loop {
            let takes_actions = leave_at.is_none() && self.actions < self.means.max_actions;
            if self.out.is_stalled() && leave_at.is_none() {
                return End::Slow;
            }
            let step = tokio::select! {
                request = incoming.next(), if takes_actions => self.take(request, &mut incoming),
                Some((session, done)) = self.work.next() => {
                    self.worked_as = session;
                    self.done(done)
                }
                Some(nudge) = self.seat.nudges.recv() => self.nudged(nudge),
                () = self.seat.missed.notified() => {
                    self.read_at = self.read_at.min(Instant::now() + random_part(SPREAD));
                    Ok(())
                }
                () = sleep_until(self.read_at), if !self.reading => {
                    self.read();
                    Ok(())
                }
                () = &mut draining, if leave_at.is_none() => {
                    leave_at = Some(Instant::now() + LAST_ACTIONS);
                    self.tell_drain()
                }
                () = sleep_until(leave_at.unwrap_or(self.read_at)), if leave_at.is_some() => Err(End::Over),
                () = self.out.look() => Ok(()),
                () = self.out.gone() => Err(End::Lost),
                () = &mut self.expiring => {
                    self.expiring = std::future::pending().boxed();
                    self.tell_drain()
                }
                () = &mut expired => Err(End::Expired),
            };
            match step {
                Ok(()) => {}
                // Whoever was asked to go elsewhere must find there what they had here.
                Err(_) if leave_at.is_some() => return End::Over,
                Err(end) => return end,
            }
            if self.actions == 0 && leave_at.is_some() {
                return End::Over;
            }
            if self.actions == 0 && incoming.is_closed() {
                return End::Lost;
            }
        }
    }

    fn take(
        &mut self,
        request: Result<Option<SessionRequest>, Status>,
        incoming: &mut Incoming,
    ) -> Result<(), End> {
        let Ok(Some(request)) = request else {
            *incoming = Incoming::Closed;
            return if request.is_ok() { Ok(()) } else { Err(End::Lost) };
        };
        let number = request.request_number;
        match request.message {
            Some(session_request::Message::Action(action)) => self.act(number, action),
            Some(session_request::Message::SignIn(_)) => self.tell_result(Failure::SignedInAlready.result(number)),
            None => {
                let failure = Failure::from(Invalid::new("message", "is missing or unknown"));
                self.tell_result(failure.result(number))
            }
        }
    }

    fn act(&mut self, number: u64, action: Action) -> Result<(), End> {
        if let Some(action::Action::Refresh(refresh)) = action.action {
            return self.refresh(number, refresh.token);
        }
        let asked = match convert::action(&self.who, self.number, Some(action)) {
            Ok(asked) => Box::new(asked),
            Err(failure) => return self.tell_result(failure.result(number)),
        };
        self.actions += 1;
        if let Some((chat_id, _)) = &asked.accepts {
            self.accepting.insert(chat_id.clone());
        }
        let (link, patience) = (self.means.link.clone(), self.means.patience);
        // A trace of its own: the session's would never end. Heartbeats would make too many.
        let span = match asked.beats {
            true => Span::none(),
            false => info_span!(parent: None, "action", otel.name = asked.word, helpline = %self.who.helpline),
        };
        let acting = async move {
            let outcome = perform(&link, &asked, patience).await;
            Done::Acted { number, asked, outcome }
        };
        self.begin_work(acting.instrument(span).boxed());
        Ok(())
    }

    /// Whoever shows a fresh token in time may stay.
    fn refresh(&mut self, number: u64, token: String) -> Result<(), End> {
        self.actions += 1;
        let (access, caller, helpline) =
            (self.means.access.clone(), self.caller.clone(), self.who.helpline.clone());
        let work = async move {
            let outcome = access.renew(&caller, &token, helpline.as_str(), Grant::Responder).await;
            Done::Refreshed { number, outcome }
        };
        self.begin_work(work.boxed());
        Ok(())
    }

    fn refreshed(&mut self, number: u64, outcome: Result<(), Refused>) -> Result<(), End> {
        let result = match outcome {
            Ok(()) => {
                self.expiring = over(self.caller.lease(), Duration::ZERO);
                ActionResult { request_number: number, ..ActionResult::default() }
            }
            Err(Refused::NotAllowed { problem, .. }) => {
                Failure::from(Refused::not_allowed("action.refresh.token", problem)).result(number)
            }
            Err(refused) => Failure::from(refused).result(number),
        };
        self.tell_result(result)
    }

    fn begin_work(&mut self, work: BoxFuture<'static, Done>) {
        let session = self.number;
        self.work.push(work.map(move |done| (session, done)).boxed());
    }

    fn done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Acted { number, asked, outcome } => {
                self.actions -= 1;
                if let Some((chat_id, _)) = &asked.accepts {
                    self.accepting.remove(chat_id);
                }
                self.acted(number, &asked, outcome)
            }
            Done::Refreshed { number, outcome } => {
                self.actions -= 1;
                self.refreshed(number, outcome)
            }
            Done::Read { news, seen } => self.seen(news, seen),
            Done::Fetched { chat_id, offer_number, outcome } => {
                self.fetching.remove(&chat_id);
                self.fetched(offer_number, outcome)
            }
            Done::Claimed { chat_id, outcome } => {
                self.claiming.remove(&chat_id);
                self.claimed(&chat_id, outcome)
            }
            Done::SignedIn { outcome } => {
                self.signing_in = false;
                self.signed_in_again(outcome)
            }
        }
    }

    fn acted(&mut self, number: u64, asked: &Asked, outcome: Result<Outcome, Failure>) -> Result<(), End> {
        self.unsure |= !asked.beats;
        match outcome {
            Ok(outcome) => {
                self.tell_result(result(number, asked, &outcome))?;
                if asked.signs_out {
                    return Err(End::Over);
                }
                let offer_number = asked.accepts.as_ref().map_or(0, |(_, number)| *number);
                self.learn(outcome, offer_number, asked.beats)
            }
            Err(failure) => {
                self.tell_result(failure.result(number))?;
                self.check_still_ours(&failure)
            }
        }
    }

    /// What an answer of the line tells beside what was asked.
    fn learn(&mut self, outcome: Outcome, offer_number: u32, compare: bool) -> Result<(), End> {
        match outcome.outcome {
            Some(outcome::Outcome::Accepted(view)) => self.assign(view, offer_number),
            Some(outcome::Outcome::Responder(view)) => {
                if compare && (self.unsure || view.version != self.version) {
                    self.read();
                }
                self.tell_status(&view)
            }
            Some(outcome::Outcome::Chat(_) | outcome::Outcome::Done(_)) | None => Ok(()),
        }
    }

    fn check_still_ours(&mut self, failure: &Failure) -> Result<(), End> {
        // Another sign-in counts, or the line has lost this one: a look says which.
        // What was said under a sign-in that the line has lost says nothing about the one after it.
        self.is_stale |= failure.is_stale_session() && self.worked_as == self.number;
        if failure.is_stale_session() || failure.is_not_signed_in() {
            self.read();
        }
        Ok(())
    }

    fn replaced(&mut self) -> Result<(), End> {
        self.tell(session_response::Message::Replaced(Replaced {}))?;
        Err(End::Over)
    }

    /// The line no longer counts them as here: they sign in again if they are.
    fn gone(&mut self) -> Result<(), End> {
        let status = ResponderStatus::Offline.into();
        self.tell(session_response::Message::StatusChanged(StatusChanged { status, cooling_down_for: None }))?;
        Err(self.signed_out.take().map_or(End::Over, End::SignedOut))
    }

    fn nudged(&mut self, nudge: Nudge) -> Result<(), End> {
        match nudge {
            Nudge::Event(event) => self.hear(&event),
            Nudge::Acted { session, asked, outcome } if session == self.number => {
                self.unsure |= !asked.beats;
                let offer_number = asked.accepts.as_ref().map_or(0, |(_, number)| *number);
                self.learn(Outcome::clone(&outcome), offer_number, true)
            }
            Nudge::Acted { .. } => Ok(()),
        }
    }

    /// A hint from the line about this responder.
    fn hear(&mut self, event: &Event) -> Result<(), End> {
        self.unsure = true;
        match event.kind.as_str() {
            // A supervisor who took the chat over has it already; one who offered it to themselves has not.
            "offered" if event.supervisor_id == self.who.responder.as_str() => {
                self.read();
                Ok(())
            }
            "offered" => self.offer(convert::offered(event)),
            "rescinded" => self.rescind(&event.chat_id, event.offer_number, &event.reason),
            "missed" => self.rescind(&event.chat_id, event.offer_number, "deadline"),
            "declined" => {
                self.news += 1;
                self.known.forget_offer(&event.chat_id, event.offer_number);
                Ok(())
            }
            "accepted" | "reclaimed" => {
                self.news += 1;
                self.known.forget_offer(&event.chat_id, event.offer_number);
                if !self.known.is_assigned(&event.chat_id, event.fence.as_ref()) {
                    self.fetch(&event.chat_id, event.offer_number);
                }
                Ok(())
            }
            "returned" | "ended" => {
                let fits = self.known.is_assigned(&event.chat_id, event.fence.as_ref());
                if fits { self.unassign(&event.chat_id, event.outcome(), &event.reason) } else { Ok(()) }
            }
            "signed_out" => {
                self.heard_out = true;
                self.signed_out = convert::acts::is_reason(&event.reason).then(|| event.reason.clone());
                self.news += 1;
                self.read();
                Ok(())
            }
            "signed_in" | "status_changed" | "cooling_down" | "cooled_down" => {
                self.read();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Looks at the state, soon or after the look that is under way.
    fn read(&mut self) {
        if self.reading {
            self.read_again = true;
            return;
        }
        self.reading = true;
        let (link, patience, news) = (self.means.link.clone(), self.means.patience, self.news);
        let request = GetResponderRequest {
            helpline: self.who.helpline.as_str().to_owned(),
            responder_id: self.who.responder.as_str().to_owned(),
        };
        self.begin_work(async move { Done::Read { news, seen: link.responder(request, patience).await } }.boxed());
    }

    fn seen(&mut self, news: u64, seen: Result<GetResponderResponse, LinkError>) -> Result<(), End> {
        self.reading = false;
        let again = std::mem::take(&mut self.read_again);
        if self.signing_in {
            // What was seen may be our own new sign-in, whose number is on its way: whoever is back looks again.
            return Ok(());
        }
        match seen {
            // The line does not know them: it has lost them, or a supervisor's word was the last that it knew.
            Err(error) if error.code == Code::NotFound && self.heard_out => return self.gone(),
            Err(error) if error.code == Code::NotFound => self.sign_in_again(),
            Err(_) => self.read_at = Instant::now() + random_part(TRY_AGAIN_WITHIN),
            Ok(_) if news != self.news => {
                // What we heard meanwhile may be newer than what was seen.
                self.rereads += 1;
                if self.rereads <= MAX_REREADS {
                    self.read();
                } else {
                    self.rereads = 0;
                    self.read_at = Instant::now() + random_part(SPREAD);
                }
            }
            Ok(seen) => {
                self.rereads = 0;
                self.read_at = Instant::now() + self.poll_every;
                self.unsure = false;
                self.reconcile(seen)?;
                if again {
                    self.read();
                }
            }
        }
        Ok(())
    }

    /// Tells what was not told, and takes back what is no longer so.
    fn reconcile(&mut self, seen: GetResponderResponse) -> Result<(), End> {
        let view = seen.responder.clone().unwrap_or_default();
        if view.session < self.number {
            self.sign_in_again();
            return Ok(());
        }
        if view.session > self.number || self.is_stale {
            return self.replaced();
        }
        self.version = view.version;
        let offline = view.status() == ResponderStatus::Offline;
        let gone = offline && (self.heard_out || self.is_believed(SIGNED_OUT));
        if !offline {
            self.claim_what_is_lost(&seen);
        }
        self.take_back(&seen, gone)?;
        for offer in seen.offers {
            self.known.reopen(&offer.chat_id, offer.offer_number);
            self.offer(convert::held(offer))?;
        }
        for held in &seen.assignments {
            if !self.known.is_assigned(&held.chat_id, held.fence.as_ref()) {
                self.fetch(&held.chat_id, held.offer_number);
            }
        }
        if gone {
            return self.gone();
        }
        if offline {
            return Ok(());
        }
        self.doubts.dispel(SIGNED_OUT);
        (self.heard_out, self.signed_out) = (false, None); // it was an earlier session
        self.tell_status(&view)
    }

    /// Takes back what is no longer theirs, each once its notice has had its time; at the end all of it.
    fn take_back(&mut self, seen: &GetResponderResponse, at_the_end: bool) -> Result<(), End> {
        let ended = self.known.no_longer_assigned(&seen.assignments);
        let mut rescinded = self.known.no_longer_offered(&seen.offers);
        rescinded.retain(|(chat, number)| {
            let answered = self.accepting.contains(chat) || seen.assignments.iter().any(|a| a.chat_id == *chat);
            if answered {
                self.known.forget_offer(chat, *number);
            }
            !answered
        });
        let lost =
            |what: &str| ended.iter().chain(rescinded.iter().map(|(chat, _)| chat)).any(|chat| chat == what);
        self.doubts.keep(|what| what == SIGNED_OUT || lost(what));
        for chat in &ended {
            // Whether it is lost or over, the line says.
            if !at_the_end && self.claiming.contains(chat) {
                continue;
            }
            if at_the_end || self.is_believed(chat) {
                let wraps_up = seen.wrap_ups.iter().any(|w| w.chat_id == *chat);
                let outcome = if wraps_up { ChatOutcome::Completed } else { ChatOutcome::Unspecified };
                self.unassign(chat, outcome, "missed_notice")?;
            }
        }
        for (chat, number) in &rescinded {
            if at_the_end || self.is_believed(chat) {
                self.rescind(chat, *number, "taken")?;
            }
        }
        Ok(())
    }

    /// Whether something that was seen to be gone is told without its notice, which would say why; else there is a look
    /// once the notice is overdue.
    fn is_believed(&mut self, what: &str) -> bool {
        let at = self.doubts.believed_at(what);
        let is_due = at <= Instant::now();
        if is_due {
            self.doubts.dispel(what);
        } else {
            self.read_at = self.read_at.min(at);
        }
        is_due
    }

    fn offer(&mut self, offer: holdfast_proto::v1::Offer) -> Result<(), End> {
        // The line has lost that they accepted it, and is about to be told.
        if self.sealed.contains_key(&offer.chat_id) {
            return Ok(());
        }
        if !self.known.offer(&offer.chat_id, offer.offer_number) {
            return Ok(());
        }
        self.news += 1;
        self.means.offers_sent.add(1, &[]);
        self.tell(session_response::Message::Offer(offer))
    }

    fn rescind(&mut self, chat_id: &str, offer_number: u32, reason: &str) -> Result<(), End> {
        self.news += 1;
        if !self.known.forget_offer(chat_id, offer_number) {
            return Ok(());
        }
        let (chat_id, reason) = (chat_id.to_owned(), reason.to_owned());
        self.tell(session_response::Message::Rescinded(Rescinded { chat_id, offer_number, reason }))
    }

    /// Asks for what came with a chat that is theirs: accepting an offer again answers the same.
    fn fetch(&mut self, chat_id: &str, offer_number: u32) {
        if self.accepting.contains(chat_id) || !self.fetching.insert(chat_id.to_owned()) {
            return;
        }
        let (link, patience, chat_id) = (self.means.link.clone(), self.means.patience, chat_id.to_owned());
        let command = self.who.accept(self.number, &chat_id, offer_number);
        let fetching = async move {
            let outcome = link.execute(command, patience).await.map_err(Failure::from);
            Done::Fetched { chat_id, offer_number, outcome }
        };
        self.begin_work(fetching.boxed());
    }

    fn fetched(&mut self, offer_number: u32, outcome: Result<Outcome, Failure>) -> Result<(), End> {
        match outcome {
            Ok(outcome) => self.learn(outcome, offer_number, false),
            Err(failure) => {
                self.unsure = true;
                self.read_at = self.read_at.min(Instant::now() + random_part(TRY_AGAIN_WITHIN));
                self.check_still_ours(&failure)
            }
        }
    }

    /// Asks for the chats back that are theirs as far as is known here, and not as far as the line knows. Of one that is
    /// over the line says so; then its notice was lost.
    fn claim_what_is_lost(&mut self, seen: &GetResponderResponse) {
        let is_held = |chat: &str| seen.assignments.iter().any(|held| held.chat_id == chat);
        let lost: Vec<_> = self.sealed.iter().filter(|(chat, _)| !is_held(chat)).collect();
        let lost: Vec<_> = lost.into_iter().map(|(chat, sealed)| (chat.clone(), sealed.clone())).collect();
        for (chat_id, sealed) in lost {
            if !self.claiming.insert(chat_id.clone()) {
                continue;
            }
            let (link, patience) = (self.means.link.clone(), self.means.patience);
            let command = self.who.reassert(self.number, &chat_id, &sealed);
            let claiming = async move {
                let outcome = link.execute(command, patience).await.map_err(Failure::from);
                Done::Claimed { chat_id, outcome }
            };
            self.begin_work(claiming.boxed());
        }
    }

    fn claimed(&mut self, chat_id: &str, outcome: Result<Outcome, Failure>) -> Result<(), End> {
        match outcome {
            Ok(Outcome { outcome: Some(outcome::Outcome::Accepted(view)), .. }) => {
                let number = view.offer_number;
                self.assign(view, number)
            }
            Ok(_) => Ok(()),
            Err(failure) if failure.may_pass() || failure.is_stale_session() || failure.is_not_signed_in() => {
                self.unsure = true;
                self.read_at = self.read_at.min(Instant::now() + random_part(TRY_AGAIN_WITHIN));
                self.check_still_ours(&failure)
            }
            // It is not theirs any more: a look takes it back, if they were told that it is.
            Err(_) => {
                self.sealed.remove(chat_id);
                self.read();
                Ok(())
            }
        }
    }

    /// The line has lost the session, and the responder is still here: they need not do anything.
    fn sign_in_again(&mut self) {
        if std::mem::replace(&mut self.signing_in, true) {
            return;
        }
        let mut sign_in = self.sign_in.clone();
        sign_in.ready = self.known.is_ready();
        sign_in.shift_remaining = sign_in.shift_remaining.and_then(|shift| {
            let left = Duration::try_from(shift).unwrap_or_default().saturating_sub(self.came_at.elapsed());
            left.max(Duration::from_millis(1)).try_into().ok()
        });
        let (link, patience) = (self.means.link.clone(), self.means.patience);
        let (who, rest) = (self.who.clone(), self.known.cooling_for());
        let command = who.command(command::Command::SignIn(sign_in));
        let signing_in = async move {
            let outcome = link.execute(command, patience).await.map_err(Failure::from);
            // A pause goes on as it was.
            if let (Some(rest), Ok(Outcome { outcome: Some(outcome::Outcome::Responder(view)), .. })) =
                (rest, &outcome)
            {
                let resting = link.execute(who.cool_down(view.session, rest), patience).await;
                return Done::SignedIn { outcome: resting.map_err(Failure::from).or(outcome) };
            }
            Done::SignedIn { outcome }
        };
        self.begin_work(signing_in.boxed());
    }

    fn signed_in_again(&mut self, outcome: Result<Outcome, Failure>) -> Result<(), End> {
        let view = match outcome.and_then(responder_view) {
            Ok(view) => view,
            Err(failure) if failure.may_pass() => {
                self.read_at = self.read_at.min(Instant::now() + random_part(TRY_AGAIN_WITHIN));
                return Ok(());
            }
            Err(_) => return self.gone(),
        };
        debug!(helpline = %self.who.helpline, responder = %self.who.responder, "signed in again: the line was lost");
        self.number = view.session;
        self.is_stale = false;
        self.news += 1;
        // Whoever is signed in is told everything that is in hand.
        self.known = Known::default();
        self.known.status(&view);
        self.tell(session_response::Message::SignedIn(signed_in(&view, self.presence)))?;
        self.read();
        Ok(())
    }

    fn assign(&mut self, view: AcceptedView, offer_number: u32) -> Result<(), End> {
        self.news += 1;
        if !view.sealed.is_empty() {
            self.sealed.insert(view.chat_id.clone(), view.sealed.clone());
        }
        self.known.forget_offer(&view.chat_id, offer_number);
        if !self.known.assign(&view.chat_id, view.fence.as_ref()) {
            return Ok(());
        }
        let assignment: Assignment = convert::assigned(view, offer_number);
        self.tell(session_response::Message::Assignment(assignment))
    }

    fn unassign(&mut self, chat_id: &str, outcome: ChatOutcome, reason: &str) -> Result<(), End> {
        self.news += 1;
        self.sealed.remove(chat_id);
        if !self.known.unassign(chat_id) {
            return Ok(());
        }
        self.tell(session_response::Message::AssignmentEnded(AssignmentEnded {
            chat_id: chat_id.to_owned(),
            outcome: outcome.into(),
            reason: reason.to_owned(),
        }))
    }

    fn tell_status(&mut self, view: &ResponderOutcomeView) -> Result<(), End> {
        if !self.known.status(view) {
            return Ok(());
        }
        let (status, cooling_down_for) = (view.status, view.cooling_down_for);
        self.tell(session_response::Message::StatusChanged(StatusChanged { status, cooling_down_for }))
    }

    fn tell_drain(&self) -> Result<(), End> {
        let reconnect_after = random_part(self.means.reconnect_within).try_into().ok();
        self.tell(session_response::Message::Drain(Drain { reconnect_after }))
    }

    fn tell_result(&self, result: ActionResult) -> Result<(), End> {
        self.tell(session_response::Message::Result(result))
    }

    fn tell(&self, message: session_response::Message) -> Result<(), End> {
        match self.out.try_send(Ok(SessionResponse { message: Some(message) })) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(End::Slow),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(End::Lost),
        }
    }
}

fn responder_view(outcome: Outcome) -> Result<ResponderOutcomeView, Failure> {
    match outcome.outcome {
        Some(outcome::Outcome::Responder(view)) => Ok(view),
        Some(outcome::Outcome::Chat(_) | outcome::Outcome::Accepted(_) | outcome::Outcome::Done(_)) | None => {
            Err(something_else())
        }
    }
}

/// The line answered, but not to what was asked.
#[must_use]
pub fn something_else() -> Failure {
    LinkError::new(Code::Internal, "INTERNAL", "the line answered something else").into()
}

fn signed_in(view: &ResponderOutcomeView, presence: Presence) -> SignedIn {
    SignedIn {
        session: view.session,
        heartbeat_every: presence.heartbeat_every.try_into().ok(),
        presence_lease: presence.lease.try_into().ok(),
        status: view.status,
    }
}

/// A random part of a time, so that those who act together now do not act together again.
pub(crate) fn random_part(of: Duration) -> Duration {
    of.mul_f64(random_range(0.1..=1.0))
}
