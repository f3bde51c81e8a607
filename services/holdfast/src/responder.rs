//! A responder at a terminal: signs in, hears of offers, takes chats and ends them.
//!
//! What a good client does is all here: heartbeats at the interval that the server gives; after a broken stream or a
//! drain it signs in again, on any replica, and is told what is in hand; what it remembers is only a copy.

use std::time::{Duration, Instant};

use holdfast_access::Grant;
use holdfast_proto::v1::{
    ActionResult, Assignment, Fence, Offer, ResponderStatus, SessionResponse, SignIn, SignedIn, StatusChanged,
    Tag, dispatch_service_client::DispatchServiceClient, session_response::Message,
};
use holdfast_runtime::{Stop, client::Backoff};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tonic::Status;

use crate::{
    Failure,
    credential::Whom,
    remote::{self, Calling, Door, Remote},
    terminal::{lines, say},
    words,
};

mod command;
mod hand;
mod session;

use command::Command;
use hand::{Hand, Step};
use session::{About, Asked, Session, Trouble};

/// How often the clock is looked at, for reminders and `--auto`.
const LOOK: Duration = Duration::from_millis(100);

/// Heartbeats are never more frequent, whatever the server says.
const MIN_HEARTBEAT: Duration = Duration::from_millis(50);

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// How a responder comes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who: 1 to 64 letters, digits, '-', '_' and '.'.
    name: String,
    /// Where dispatch is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50053")]
    dispatch: String,
    /// Which helpline.
    #[arg(long, default_value = "demo")]
    helpline: String,
    /// What you can do, such as lang:es or 'skill:minors>=3'; again for more.
    #[arg(long, value_name = "TAG", value_parser = words::tag)]
    can: Vec<Tag>,
    /// Load that you can carry, 1 to 20.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    capacity: u32,
    /// Accept every offer, and close each chat after a while.
    #[arg(long)]
    auto: bool,
    /// With --auto: so long lasts a chat.
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = seconds)]
    talk: f64,
    #[command(flatten)]
    calling: Calling,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok();
    seconds.filter(|s| (0.0..=86_400.0).contains(s)).ok_or_else(|| "a number of seconds, at most a day".to_owned())
}

/// Takes chats until `q`, Ctrl-C, the end of standard input (unless `--auto`), or the end of a leave.
///
/// # Errors
/// When dispatch cannot be reached, refuses, or the same responder signs in elsewhere.
pub async fn run(args: Args, stop: &Stop) -> Result<(), Failure> {
    let mut typed = lines();
    let mut desk = Desk::new(args)?;
    loop {
        let ended = match desk.sign_in(stop).await? {
            Some(session) => desk.work(session, &mut typed, stop).await?,
            None => Ended::Stopped,
        };
        let wait = match ended {
            Ended::Done => return Ok(()),
            Ended::Stopped => return desk.say(desk.last_word()),
            Ended::Broken(wait) => wait,
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.draining() => return desk.say("stopped while away; open work goes back to the line"),
        }
    }
}

struct Desk {
    args: Args,
    remote: Remote,
    dispatch: DispatchServiceClient<Door>,
    hand: Hand,
    /// What they last declared.
    declared: ResponderStatus,
    tries: Backoff,
    was_here: bool,
    typed_ended: bool,
}

/// How a session ended.
enum Ended {
    /// As it should.
    Done,
    /// They went.
    Stopped,
    /// Sign in again after this.
    Broken(Duration),
}

impl Desk {
    fn new(args: Args) -> Result<Self, Failure> {
        let whom = Whom::new(&args.name, Grant::Responder);
        let remote = args.calling.to("dispatch", &args.dispatch, whom);
        Ok(Self {
            dispatch: DispatchServiceClient::new(remote.channel()?),
            remote,
            args,
            hand: Hand::default(),
            declared: ResponderStatus::Ready,
            tries: remote::first_tries(),
            was_here: false,
            typed_ended: false,
        })
    }

    /// `None` when stopped.
    async fn sign_in(&mut self, stop: &Stop) -> Result<Option<Session>, Failure> {
        let mut told = false;
        loop {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = stop.draining() => return Ok(None),
            };
            let status = match opened {
                Ok(session) => return Ok(Some(session)),
                Err(status) => status,
            };
            let failure = self.remote.failure(&status);
            let Some(wait) = remote::wait_after(&status, &mut self.tries) else {
                return Err(failure);
            };
            if !told {
                told = true;
                self.say(&format!("{failure}; trying again"))?;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.draining() => return Ok(None),
            }
        }
    }

    async fn open(&mut self) -> Result<Session, Status> {
        let sign_in = SignIn {
            helpline: self.args.helpline.clone(),
            responder_id: self.args.name.clone(),
            capabilities: self.args.can.clone(),
            capacity: self.args.capacity,
            ready: self.declared == ResponderStatus::Ready,
            sealed_assignments: self.hand.sealed(),
            ..SignIn::default()
        };
        Session::open(&mut self.dispatch, sign_in).await
    }

    async fn work(
        &mut self,
        mut session: Session,
        typed: &mut mpsc::Receiver<String>,
        stop: &Stop,
    ) -> Result<Ended, Failure> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_beat = Instant::now();
        loop {
            let worked = tokio::select! {
                heard = session.answers.message() => match heard {
                    Ok(Some(said)) => self.hear(&mut session, said),
                    Ok(None) => Err(Status::unavailable("the stream ended").into()),
                    Err(status) => Err(status.into()),
                },
                line = typed.recv(), if !self.typed_ended => match line {
                    Some(line) => self.typed(&mut session, &line),
                    None => { self.typed_ended = true; Ok(self.without_hands()) }
                },
                _ = look.tick() => self.tick(&mut session, &mut last_beat),
                () = stop.draining() => Ok(Some(Ended::Stopped)),
            };
            match worked {
                Ok(None) => {}
                Ok(Some(Ended::Stopped)) => return self.goodbye(session).await,
                Ok(Some(ended)) => return Ok(ended),
                Err(Trouble::Broken(status)) => return self.broken(&status),
                Err(Trouble::Slip(problem)) => self.say(&problem)?,
                Err(Trouble::Failed(failure)) => return Err(failure),
            }
        }
    }

    fn last_word(&self) -> &'static str {
        if self.hand.chats.is_empty() {
            return "signed out";
        }
        "signed out; what was in hand is back in the line"
    }

    /// Nobody can type any more: only `--auto` goes on.
    fn without_hands(&self) -> Option<Ended> {
        (!self.args.auto).then_some(Ended::Stopped)
    }

    fn broken(&mut self, status: &Status) -> Result<Ended, Failure> {
        let failure = self.remote.failure(status);
        let Some(wait) = remote::wait_after(status, &mut self.tries) else {
            return Err(failure);
        };
        self.say(&format!("{failure}; signing in again"))?;
        Ok(Ended::Broken(wait))
    }

    async fn goodbye(&mut self, mut session: Session) -> Result<Ended, Failure> {
        let Ok(number) = session.sign_out() else {
            return Ok(Ended::Stopped);
        };
        let answered = async {
            while let Ok(Some(said)) = session.answers.message().await {
                if matches!(said.message, Some(Message::Result(result)) if result.request_number == number) {
                    return;
                }
            }
        };
        // Whoever goes without a word is missed after the reconnect grace.
        let _late = timeout(GOODBYE, answered).await;
        Ok(Ended::Stopped)
    }

    fn tick(&mut self, session: &mut Session, last_beat: &mut Instant) -> Result<Option<Ended>, Trouble> {
        let now = Instant::now();
        if now.duration_since(*last_beat) >= session.heartbeat {
            *last_beat = now;
            session.beat()?;
        }
        for (chat_id, left) in self.hand.reminders(now) {
            self.say(&format!("offer {}: {left} s left (a to accept, d to decline)", words::short(&chat_id)))?;
        }
        for (held, step) in self.hand.steps(now) {
            self.auto(session, &held.chat_id, held.fence, step)?;
        }
        Ok(None)
    }

    fn auto(
        &mut self,
        session: &mut Session,
        chat_id: &str,
        fence: Option<Fence>,
        step: Step,
    ) -> Result<(), Trouble> {
        match step {
            Step::Engage => {
                let rest = Duration::from_secs_f64(self.args.talk * 0.75);
                if let Some(held) = self.hand.held(chat_id) {
                    held.next = Some((Instant::now() + rest, Step::Close));
                }
                session.engage(chat_id.to_owned(), fence)
            }
            Step::Close => session.close(chat_id.to_owned(), fence),
        }
    }

    fn hear(&mut self, session: &mut Session, said: SessionResponse) -> Result<Option<Ended>, Trouble> {
        let Some(message) = said.message else {
            return Ok(None);
        };
        match message {
            Message::SignedIn(signed_in) => self.signed_in(session, &signed_in)?,
            Message::Result(result) => return self.result(session, result),
            Message::Offer(offer) => return self.offered(session, &offer),
            Message::Rescinded(gone) => {
                self.hand.rescinded(&gone.chat_id);
                self.say(&format!("offer {} is gone: {}", words::short(&gone.chat_id), gone.reason))?;
            }
            Message::Assignment(assignment) => self.assigned(&assignment)?,
            Message::AssignmentEnded(ended) => {
                if self.hand.gone(&ended.chat_id) {
                    self.say(&format!(
                        "chat {} is no longer yours: {} {}",
                        words::short(&ended.chat_id),
                        ended.reason,
                        words::outcome(ended.outcome)
                    ))?;
                }
            }
            Message::StatusChanged(changed) => return self.status_changed(session, &changed),
            Message::Replaced(_) => return Err(Failure::Replaced(self.args.name.clone()).into()),
            Message::Drain(drain) => {
                self.say("the server is going: signing in again elsewhere")?;
                let wait = words::duration(drain.reconnect_after.as_ref());
                return Ok(Some(Ended::Broken(wait)));
            }
        }
        Ok(None)
    }

    /// All that is in hand follows, so what was remembered is forgotten.
    fn signed_in(&mut self, session: &mut Session, signed_in: &SignedIn) -> Result<(), Failure> {
        self.hand = Hand::default();
        self.tries = remote::later_tries();
        session.heartbeat = words::duration(signed_in.heartbeat_every.as_ref()).max(MIN_HEARTBEAT);
        if self.declared == ResponderStatus::Leaving {
            // A failure shows when the stream is next used.
            let _stuck = session.set_status(ResponderStatus::Leaving);
        }
        self.say(&format!(
            "signed in to {} as {}, {}; heartbeat every {}",
            self.args.helpline,
            self.args.name,
            words::status(signed_in.status),
            words::span(session.heartbeat)
        ))?;
        if !self.was_here {
            self.was_here = true;
            self.say(if self.args.auto { "taking every offer; Ctrl-C ends" } else { command::HELP })?;
        }
        Ok(())
    }

    fn offered(&mut self, session: &mut Session, offer: &Offer) -> Result<Option<Ended>, Trouble> {
        self.hand.offered(offer, Instant::now());
        self.say(&format!(
            "OFFER {}: {}, waited {}; {} to answer",
            words::short(&offer.chat_id),
            words::urgency(offer.urgency),
            words::span(words::duration(offer.waited.as_ref())),
            words::span(words::duration(offer.remaining.as_ref()))
        ))?;
        if self.args.auto {
            session.accept(offer.chat_id.clone(), offer.offer_number)?;
        }
        Ok(None)
    }

    fn assigned(&mut self, assignment: &Assignment) -> Result<(), Failure> {
        if !self.hand.assigned(assignment) {
            return Ok(());
        }
        if self.args.auto
            && let Some(held) = self.hand.held(&assignment.chat_id)
        {
            let first = Duration::from_secs_f64(self.args.talk * 0.25);
            held.next = Some((Instant::now() + first, Step::Engage));
        }
        let epoch = assignment.fence.unwrap_or_default().epoch;
        self.say(&format!(
            "chat {} is yours: {}, epoch {epoch}{}",
            words::short(&assignment.chat_id),
            words::urgency(assignment.urgency),
            if assignment.handoff_lost { "; what was sealed for you cannot be opened" } else { "" }
        ))
    }

    fn status_changed(
        &mut self,
        session: &mut Session,
        changed: &StatusChanged,
    ) -> Result<Option<Ended>, Trouble> {
        let cooling = words::duration(changed.cooling_down_for.as_ref());
        let rest =
            if cooling.is_zero() { String::new() } else { format!(", cooling down for {}", words::span(cooling)) };
        self.say(&format!("you are {}{rest}", words::status(changed.status)))?;
        let status = changed.status();
        if status == ResponderStatus::Offline && self.declared == ResponderStatus::Leaving {
            return Ok(Some(Ended::Done));
        }
        if status == ResponderStatus::NotResponding && self.args.auto {
            session.set_status(ResponderStatus::Ready)?;
        }
        Ok(None)
    }

    fn result(&mut self, session: &mut Session, result: ActionResult) -> Result<Option<Ended>, Trouble> {
        let Some(asked) = session.asked.remove(&result.request_number) else {
            return Ok(None);
        };
        if result.code != 0 {
            return self.refused(&asked, &result);
        }
        match asked.about {
            About::Heartbeat => return Ok(None),
            About::Accept => {
                if let Some(assignment) = &result.assignment {
                    self.assigned(assignment)?;
                }
                return Ok(None);
            }
            About::Decline => self.hand.rescinded(&asked.chat_id),
            About::Transfer => {
                self.hand.gone(&asked.chat_id);
            }
            About::Close => {
                self.hand.gone(&asked.chat_id);
                self.hand.notes.push(asked.chat_id);
            }
            About::Other => {}
        }
        self.say(&format!("done: {}", asked.what))?;
        if self.args.auto
            && let Ok(chat_id) = self.hand.noted(None)
        {
            session.finish(chat_id)?;
        }
        Ok(None)
    }

    fn refused(&mut self, asked: &Asked, result: &ActionResult) -> Result<Option<Ended>, Trouble> {
        if matches!(asked.about, About::Accept) {
            self.hand.rescinded(&asked.chat_id);
        }
        let outcome = words::outcome(result.outcome);
        self.say(&format!("refused: {}: {} [{}] {outcome}", asked.what, result.message, result.reason))?;
        if matches!(asked.about, About::Heartbeat) {
            // The presence is gone: only a new sign-in brings it back.
            return Err(Status::unavailable("the session is over").into());
        }
        Ok(None)
    }

    fn typed(&mut self, session: &mut Session, line: &str) -> Result<Option<Ended>, Trouble> {
        let Some(command) = command::parse(line)? else {
            return Ok(None);
        };
        if command == Command::Quit {
            return Ok(Some(Ended::Stopped));
        }
        self.act(session, command)?;
        Ok(None)
    }

    fn act(&mut self, session: &mut Session, command: Command) -> Result<(), Trouble> {
        match command {
            Command::Accept(named) => {
                let open = self.hand.offer(named.as_deref())?;
                session.accept(open.chat_id, open.number)
            }
            Command::Decline(reason) => {
                let open = self.hand.offer(None)?;
                session.decline(open.chat_id, open.number, reason)
            }
            Command::Engaged(named) => {
                let held = self.hand.chat(named.as_deref())?;
                session.engage(held.chat_id, held.fence)
            }
            Command::Close(named) => {
                let held = self.hand.chat(named.as_deref())?;
                session.close(held.chat_id, held.fence)
            }
            Command::Transfer(named) => {
                let held = self.hand.chat(named.as_deref())?;
                session.transfer(held.chat_id, held.fence)
            }
            Command::Supervisor(named) => {
                let held = self.hand.chat(named.as_deref())?;
                session.call_supervisor(held.chat_id, held.fence)
            }
            Command::Notes(named) => session.finish(self.hand.noted(named.as_deref())?),
            Command::Break => self.declare(session, ResponderStatus::OnBreak),
            Command::Ready => self.declare(session, ResponderStatus::Ready),
            Command::Leave => self.declare(session, ResponderStatus::Leaving),
            Command::Help => Ok(self.say(command::HELP)?),
            Command::Quit => Ok(()),
        }
    }

    fn declare(&mut self, session: &mut Session, status: ResponderStatus) -> Result<(), Trouble> {
        self.declared = status;
        session.set_status(status)
    }

    fn say(&self, line: &str) -> Result<(), Failure> {
        Ok(say(line)?)
    }
}
