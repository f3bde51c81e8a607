//! A responder of the evening: takes chats, declines, misses, accepts and writes nothing, hands on, rests, calls a
//! supervisor, vanishes and comes back elsewhere. A supervisor is one who is offered nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use holdfast_proto::v1::{
    Accept, Action, ActionResult, Assignment, AssignmentEnded, CallSupervisor, ChatOutcome, Close, Decline,
    DeclineReason, Durability, Engaged, ExtendCoolDown, Fence, FinishWrapUp, Heartbeat, Offer, Rescinded,
    ResponderStatus, SessionRequest, SessionResponse, SetStatus, SignIn, SignOut, Transfer, action,
    durability::Persistence, session_request, session_response::Message,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    World,
    journal::{Behaviour, HandEnd},
    plan::{self, Role, between, exponential},
    rules::is_hard,
    until,
};

/// Actions on their way.
const OUTGOING: usize = 64;
/// Signing in takes so long at most.
const SIGN_IN: Duration = Duration::from_secs(5);
/// Who is refused waits so long.
const PAUSE: Duration = Duration::from_millis(200);
/// What was still in hand is told within this after signing in.
const SETTLES: Duration = Duration::from_millis(1000);
/// A stale word is answered within this, or the stream is gone, which is an answer too.
const STALE_ANSWER: Duration = Duration::from_millis(700);

/// Something to do at a moment.
#[derive(Debug, Clone, PartialEq)]
enum Todo {
    Accept(String, u32),
    Decline(String, u32),
    Finish(String),
    HandOn(String),
    FinishWrapUp(String),
    Call(String),
    Ready,
    /// Chats that were in hand and were not told of again are gone.
    Settle,
}

/// An action that waits for its result.
#[derive(Debug, Clone, PartialEq)]
enum Sent {
    Heartbeat,
    Accept(String, u32),
    Decline,
    Engaged,
    Close(usize),
    Transfer(usize),
    FinishWrapUp,
    Call(String),
    Rest,
    Break,
    Ready,
    SignOut,
}

/// A chat in hand.
#[derive(Debug, Clone)]
struct InHand {
    note: usize,
    fence: Fence,
    hard: bool,
    /// Told of in this session.
    confirmed: bool,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The evening is over.
    Over,
    /// The server ended it.
    Cut,
    /// Time to vanish.
    Vanish,
    /// The shift is over, until the next one.
    Gone(Duration),
}

struct Hands {
    world: Arc<World>,
    plan: plan::Responder,
    dice: SmallRng,
    chats: HashMap<String, InHand>,
    todo: Vec<(Instant, Todo)>,
    vanish_at: Option<Instant>,
    /// When they were last gone at a change of shifts, or came.
    gone_at: Instant,
    /// Whether the next vanishing is by silence.
    silent: bool,
}

/// One open stream.
struct Session {
    out: mpsc::Sender<SessionRequest>,
    inbound: Streaming<SessionResponse>,
    heartbeat_every: Duration,
    ready: bool,
    next_number: u64,
    sent: HashMap<u64, (Sent, Instant)>,
}

/// The responder's whole evening.
pub(super) async fn serve(world: Arc<World>, plan: plan::Responder, nth: usize) {
    if let Role::OffShift { wave, after } = plan.role {
        let (mut called, mut over) = (world.called.subscribe(), world.over());
        let is_called = async {
            // Whoever calls up may be gone, which is as good.
            let _ = called.wait_for(|waves| *waves >= wave).await;
        };
        tokio::select! {
            () = is_called => {}
            () = until(&mut over) => return,
        }
        sleep(after).await;
        world.journal.count(Behaviour::CalledUp);
    }
    let mut hands = Hands {
        dice: SmallRng::seed_from_u64(plan.seed),
        plan,
        chats: HashMap::new(),
        todo: Vec::new(),
        vanish_at: None,
        gone_at: Instant::now(),
        silent: false,
        world,
    };
    let mut door = nth;
    let mut old = None;
    while !hands.world.is_over() {
        let Some(mut session) = hands.sign_in(door).await else {
            sleep(PAUSE).await;
            door += 1;
            continue;
        };
        // The old connection, still open, is replaced by the new one.
        drop(old.take());
        let end = hands.work(&mut session).await;
        hands.note_unknown(&session);
        match end {
            End::Over => {
                session.send(Sent::SignOut, action::Action::SignOut(SignOut {})).await;
                sleep(PAUSE).await;
                return;
            }
            End::Gone(away) => hands.go(session, away).await,
            End::Cut => door += 1,
            End::Vanish => {
                old = hands.vanish(session).await;
                door += 1;
            }
        }
    }
}

impl Session {
    /// Sends an action; false when the stream is gone.
    async fn send(&mut self, sent: Sent, action: action::Action) -> bool {
        self.next_number += 1;
        let request_number = self.next_number;
        self.sent.insert(request_number, (sent, Instant::now()));
        let message = session_request::Message::Action(Action { action: Some(action) });
        let request = SessionRequest { request_number, message: Some(message) };
        self.out.send(request).await.is_ok()
    }
}

impl Hands {
    async fn sign_in(&mut self, door: usize) -> Option<Session> {
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let sign_in = SignIn {
            helpline: self.plan.house.name().to_owned(),
            responder_id: self.plan.id.clone(),
            capabilities: self.plan.capabilities.clone(),
            capacity: self.plan.slots,
            ready: self.is_offered(),
            opt_out_topics: self.plan.opt_out.clone(),
            ..SignIn::default()
        };
        let first = SessionRequest { request_number: 1, message: Some(session_request::Message::SignIn(sign_in)) };
        out.send(first).await.ok()?;
        let mut client = self.world.dispatch(door, &self.plan.id);
        let opening = async {
            let mut inbound = client.session(ReceiverStream::new(outgoing)).await?.into_inner();
            let first = inbound.message().await?;
            Ok::<_, tonic::Status>((inbound, first.and_then(|r| r.message)))
        };
        let (inbound, signed_in) = match timeout(SIGN_IN, opening).await {
            Ok(Ok((inbound, Some(Message::SignedIn(signed_in))))) => (inbound, signed_in),
            Ok(Ok((_, other))) => {
                self.complain(&format!("signed in and was answered {other:?}"));
                return None;
            }
            Ok(Err(status)) => {
                self.world.journal.refused(&format!("sign in: {:?}, repeated", status.code()));
                return None;
            }
            Err(_) => {
                self.world.journal.refused("sign in: no answer, repeated");
                return None;
            }
        };
        for chat in self.chats.values_mut() {
            chat.confirmed = false;
        }
        self.todo.retain(|(_, todo)| matches!(todo, Todo::Finish(_) | Todo::HandOn(_) | Todo::FinishWrapUp(_)));
        self.todo.push((Instant::now() + SETTLES, Todo::Settle));
        if !self.is_offered() {
            self.world.supervisor.send_replace(signed_in.session);
        }
        let every = signed_in.heartbeat_every.and_then(|every| Duration::try_from(every).ok());
        Some(Session {
            out,
            inbound,
            heartbeat_every: every.unwrap_or(Duration::from_millis(400)),
            ready: self.is_offered(),
            next_number: 1,
            sent: HashMap::new(),
        })
    }

    fn complain(&self, what: &str) {
        self.world.journal.complain(format!("responder {}: {what}", self.plan.id));
    }

    /// Whether they are offered chats.
    fn is_offered(&self) -> bool {
        self.plan.role != Role::Supervisor
    }

    /// When the shift ends for a while, and for how long.
    fn shift_change(&self) -> Option<(Instant, Duration)> {
        let Role::Volunteer { gone: Some((after, away)) } = self.plan.role else {
            return None;
        };
        let at = *self.world.began.get()? + after;
        (at > self.gone_at).then_some((at, away))
    }

    fn next_due(&self) -> Option<Instant> {
        self.todo.iter().map(|(at, _)| *at).min()
    }

    fn later(&mut self, after: Duration, todo: Todo) {
        self.todo.push((Instant::now() + after, todo));
    }

    async fn work(&mut self, session: &mut Session) -> End {
        let mut heartbeat = tokio::time::interval(session.heartbeat_every);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut over = self.world.over();
        let mut evening = self.world.evening_begins();
        loop {
            let due = self.next_due();
            let (vanish_at, shift_change) = (self.vanish_at, self.shift_change());
            let began = *evening.borrow();
            tokio::select! {
                message = session.inbound.message() => match message {
                    Ok(Some(response)) => {
                        if let Some(end) = self.hear(session, response).await {
                            return end;
                        }
                    }
                    Ok(None) | Err(_) => return End::Cut,
                },
                _ = heartbeat.tick() => {
                    if !session.send(Sent::Heartbeat, action::Action::Heartbeat(Heartbeat {})).await {
                        return End::Cut;
                    }
                }
                () = at(due) => {
                    if !self.do_what_is_due(session).await {
                        return End::Cut;
                    }
                }
                () = at(vanish_at) => return End::Vanish,
                () = at(shift_change.map(|(at, _)| at)) => {
                    return End::Gone(shift_change.map_or(PAUSE, |(_, away)| away));
                }
                () = until(&mut evening), if !began => self.plan_to_vanish(),
                () = until(&mut over) => return End::Over,
            }
            if began && self.vanish_at.is_none() {
                self.plan_to_vanish();
            }
        }
    }

    fn plan_to_vanish(&mut self) {
        if !self.is_offered() {
            self.vanish_at = Some(Instant::now() + Duration::from_secs(3600));
            return;
        }
        let vanishing = &self.world.evening.vanishing;
        let after = exponential(&mut self.dice, vanishing.mean_ms);
        self.silent = self.dice.random_bool(vanishing.silent);
        self.vanish_at = Some(Instant::now() + after);
    }

    /// Signs out, with whatever is in hand, and is away until the next shift.
    async fn go(&mut self, mut session: Session, away: Duration) {
        self.gone_at = Instant::now();
        session.send(Sent::SignOut, action::Action::SignOut(SignOut {})).await;
        // What the line says to it comes within a moment, or the stream ends.
        let told = async { while let Ok(Some(_)) = session.inbound.message().await {} };
        let _ = timeout(SETTLES, told).await;
        for (_, chat) in self.chats.drain() {
            self.world.journal.notes().out_of_hand(chat.note, HandEnd::Lost);
        }
        self.todo.clear();
        self.note_unknown(&session);
        drop(session);
        sleep((self.gone_at + away).saturating_duration_since(Instant::now())).await;
    }

    /// Gone without goodbye; returns the stream that is still open, if it is.
    async fn vanish(&mut self, mut session: Session) -> Option<Session> {
        self.vanish_at = None;
        let away = between(&mut self.dice, self.world.evening.vanishing.back_after_ms);
        if !self.silent {
            self.world.journal.count(Behaviour::DroppedConnection);
            drop(session);
            sleep(away).await;
            return None;
        }
        self.world.journal.count(Behaviour::FellSilent);
        sleep(away).await;
        self.speak_stale(&mut session, away).await;
        Some(session)
    }

    /// Accepts whose answer will not be heard.
    fn note_unknown(&self, session: &Session) {
        let unknown = session.sent.values().filter_map(|(sent, _)| match sent {
            Sent::Accept(chat, _) => Some((chat.clone(), self.plan.id.clone())),
            Sent::Heartbeat
            | Sent::Decline
            | Sent::Engaged
            | Sent::Close(_)
            | Sent::Transfer(_)
            | Sent::FinishWrapUp
            | Sent::Call(_)
            | Sent::Rest
            | Sent::Break
            | Sent::Ready
            | Sent::SignOut => None,
        });
        self.world.journal.notes().unknown_accepts.extend(unknown);
    }

    /// After the silence one word with the old fence, on the old stream: after the lease it must change nothing.
    async fn speak_stale(&mut self, session: &mut Session, away: Duration) {
        let numbers = &self.world.rules.of(self.plan.house).numbers;
        let lease = Duration::from_millis(numbers.presence_lease_ms);
        let Some((chat_id, in_hand)) = self.chats.iter().next() else {
            return;
        };
        // Nearly lapsed is neither here nor there.
        if away < lease + PAUSE {
            return;
        }
        let (note, close) = (in_hand.note, Close { chat_id: chat_id.clone(), fence: Some(in_hand.fence) });
        let chat_id = chat_id.clone();
        if !session.send(Sent::Close(note), action::Action::Close(close)).await {
            self.world.journal.count(Behaviour::StaleRefused);
            return;
        }
        let number = session.next_number;
        let answered = timeout(STALE_ANSWER, stale_answer(session, number)).await;
        match answered {
            Ok(Some(result)) if result.code == 0 => {
                // The visitor may have ended it before the lease did; the events will tell.
                self.chats.remove(&chat_id);
                self.world.journal.notes().out_of_hand(note, HandEnd::Closed);
            }
            Ok(Some(result)) => {
                let what = format!("stale close: {}", result.reason);
                self.world.journal.refused(&what);
                self.world.journal.count(Behaviour::StaleRefused);
            }
            // The stream is gone: as good as a refusal.
            Ok(None) => self.world.journal.count(Behaviour::StaleRefused),
            Err(_) => self.world.journal.refused("stale close: no answer"),
        }
    }

    async fn hear(&mut self, session: &mut Session, response: SessionResponse) -> Option<End> {
        match response.message? {
            Message::Offer(offer) => self.decide(&offer),
            Message::Result(result) => self.learn(session, result).await,
            Message::Assignment(assignment) => {
                self.take(session, &assignment).await;
            }
            Message::AssignmentEnded(ended) => self.lose(&ended),
            Message::Rescinded(rescinded) => self.forget(&rescinded),
            Message::StatusChanged(changed) => self.stand(session, changed.status()),
            Message::SignedIn(_) => self.complain("was signed in twice by one sign-in"),
            Message::Replaced(_) => {
                self.complain("was replaced by nobody");
                return Some(End::Cut);
            }
            Message::Drain(_) => return Some(End::Cut),
        }
        None
    }

    fn lose(&mut self, ended: &AssignmentEnded) {
        if ended.reason == "no_reply" {
            self.world.journal.count(Behaviour::Mute);
        }
        if let Some(in_hand) = self.chats.remove(&ended.chat_id) {
            let end = HandEnd::Told(ended.outcome());
            self.world.journal.notes().out_of_hand(in_hand.note, end);
        }
    }

    fn forget(&mut self, rescinded: &Rescinded) {
        if rescinded.reason == "deadline" {
            self.world.journal.count(Behaviour::Missed);
        }
        self.todo.retain(|(_, todo)| {
            !matches!(todo, Todo::Accept(chat, n) | Todo::Decline(chat, n)
                if *chat == rescinded.chat_id && *n == rescinded.offer_number)
        });
    }

    fn stand(&mut self, session: &mut Session, status: ResponderStatus) {
        if status == ResponderStatus::NotResponding && session.ready {
            session.ready = false;
            let again = self.world.evening.responders.attentive_again_ms;
            let after = between(&mut self.dice, again);
            self.later(after, Todo::Ready);
        }
    }

    /// An offer comes: accept, decline, or do not see it.
    fn decide(&mut self, offer: &Offer) {
        self.world.journal.notes().offered(&offer.chat_id);
        let figures = &self.world.evening.responders;
        let chance: f64 = self.dice.random();
        let after = between(&mut self.dice, figures.answer_ms);
        let (chat, number) = (offer.chat_id.clone(), offer.offer_number);
        if chance < figures.declines {
            self.later(after, Todo::Decline(chat, number));
        } else if chance >= figures.declines + figures.misses {
            self.later(after, Todo::Accept(chat, number));
        }
    }

    async fn do_what_is_due(&mut self, session: &mut Session) -> bool {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.todo).into_iter().partition(|(at, _)| *at <= now);
        self.todo = later;
        let due: Vec<(Instant, Todo)> = due;
        for (_, todo) in due {
            if !self.do_it(session, todo).await {
                return false;
            }
        }
        true
    }

    async fn do_it(&mut self, session: &mut Session, todo: Todo) -> bool {
        match todo {
            Todo::Accept(chat_id, offer_number) => {
                let accept = Accept {
                    chat_id: chat_id.clone(),
                    offer_number,
                    reply_handoff: self.plan.id.clone().into_bytes(),
                };
                let sent = Sent::Accept(chat_id, offer_number);
                session.send(sent, action::Action::Accept(accept)).await
            }
            Todo::Decline(chat_id, offer_number) => {
                let decline = Decline { chat_id, offer_number, reason: DeclineReason::NotSuited.into() };
                session.send(Sent::Decline, action::Action::Decline(decline)).await
            }
            Todo::Finish(chat_id) => self.finish(session, chat_id, false).await,
            Todo::HandOn(chat_id) => self.finish(session, chat_id, true).await,
            Todo::FinishWrapUp(chat_id) => {
                let finish = FinishWrapUp { chat_id };
                let action = action::Action::FinishWrapUp(finish);
                session.send(Sent::FinishWrapUp, action).await
            }
            Todo::Call(chat_id) => self.call(session, chat_id).await,
            Todo::Ready => {
                session.ready = true;
                let status = ResponderStatus::Ready.into();
                let action = action::Action::SetStatus(SetStatus { status });
                session.send(Sent::Ready, action).await
            }
            Todo::Settle => {
                self.settle();
                true
            }
        }
    }

    /// Whatever was in hand before and was not told of again has gone back, or has ended.
    fn settle(&mut self) {
        let (still, gone) = std::mem::take(&mut self.chats).into_iter().partition(|(_, chat)| chat.confirmed);
        self.chats = still;
        let gone: HashMap<String, InHand> = gone;
        for chat in gone.values() {
            self.world.journal.count(Behaviour::LostChats);
            self.world.journal.notes().out_of_hand(chat.note, HandEnd::Lost);
        }
    }

    /// Closes a chat, or hands it on.
    async fn finish(&mut self, session: &mut Session, chat_id: String, hand_on: bool) -> bool {
        let Some(in_hand) = self.chats.get(&chat_id) else {
            return true;
        };
        let (note, fence) = (in_hand.note, Some(in_hand.fence));
        if hand_on {
            let action = action::Action::Transfer(Transfer { chat_id, fence });
            session.send(Sent::Transfer(note), action).await
        } else {
            let action = action::Action::Close(Close { chat_id, fence });
            session.send(Sent::Close(note), action).await
        }
    }

    /// Asks a supervisor to come.
    async fn call(&mut self, session: &mut Session, chat_id: String) -> bool {
        let Some(in_hand) = self.chats.get(&chat_id) else {
            return true;
        };
        let call = CallSupervisor { chat_id: chat_id.clone(), fence: Some(in_hand.fence) };
        session.send(Sent::Call(chat_id), action::Action::CallSupervisor(call)).await
    }

    /// A chat is ours: talk as long as the visitor's script says.
    async fn take(&mut self, session: &mut Session, assignment: &Assignment) {
        let fence = assignment.fence.unwrap_or_default();
        let note = self.world.journal.notes().in_hand(self.plan.house, assignment, &self.plan.id);
        if let Some(known) = self.chats.get_mut(&assignment.chat_id)
            && known.fence == fence
        {
            if !known.confirmed {
                self.world.journal.count(Behaviour::FoundChats);
            }
            known.confirmed = true;
            return;
        }
        let Some(talk) = super::read_script(&assignment.handoff) else {
            self.complain(&format!("got chat {} without its handoff", assignment.chat_id));
            return;
        };
        let hard = is_hard(assignment.urgency());
        let chat_id = assignment.chat_id.clone();
        self.chats.insert(chat_id.clone(), InHand { note, fence, hard, confirmed: true });
        let figures = &self.world.evening;
        let (hands_on, mute) = (figures.responders.transfers, figures.care.mute);
        let calls = if hard { figures.care.calls_supervisor } else { 0.0 };
        let at_work = self.is_offered() && self.evening_began();
        if at_work && self.dice.random_bool(mute) {
            return; // the first-reply deadline must bring it back
        }
        if at_work && self.dice.random_bool(calls) {
            self.later(talk / 3, Todo::Call(chat_id.clone()));
        }
        if self.is_offered() && self.dice.random_bool(hands_on) {
            self.later(talk / 2, Todo::HandOn(chat_id));
        } else {
            self.later(talk, Todo::Finish(chat_id));
        }
        let engaged = Engaged { chat_id: assignment.chat_id.clone(), fence: Some(fence) };
        // A broken stream is noticed by the next read.
        session.send(Sent::Engaged, action::Action::Engaged(engaged)).await;
    }

    fn evening_began(&self) -> bool {
        self.world.began.get().is_some()
    }

    async fn learn(&mut self, session: &mut Session, result: ActionResult) {
        let Some((sent, at)) = session.sent.remove(&result.request_number) else {
            self.complain("got a result of nothing that was sent");
            return;
        };
        if result.code != 0 {
            self.refused(&sent, &result);
            return;
        }
        match sent {
            Sent::Heartbeat => {
                let mut notes = self.world.journal.notes();
                for chat in self.chats.values().filter(|chat| chat.confirmed) {
                    notes.certain(chat.note, at);
                }
            }
            Sent::Accept(chat, _) => {
                self.weigh(result.durability.as_ref());
                match &result.assignment {
                    Some(assignment) => self.take(session, assignment).await,
                    None => self.complain(&format!("accepted {chat} and got no assignment")),
                }
            }
            Sent::Decline => self.world.journal.count(Behaviour::Declined),
            Sent::Close(note) => {
                self.weigh(result.durability.as_ref());
                let hard = self.chats.values().any(|chat| chat.note == note && chat.hard);
                self.done(note, at, HandEnd::Closed);
                self.rest(session, hard).await;
            }
            Sent::Transfer(note) => {
                self.weigh(result.durability.as_ref());
                self.done(note, at, HandEnd::Transferred);
                self.world.journal.count(Behaviour::Transferred);
            }
            Sent::FinishWrapUp => self.world.journal.count(Behaviour::WrapUpFinished),
            Sent::Break => {
                self.world.journal.count(Behaviour::TookBreak);
                let after = between(&mut self.dice, self.world.evening.responders.break_ms);
                self.later(after, Todo::Ready);
            }
            Sent::Call(chat) => {
                self.world.journal.count(Behaviour::Called);
                // A supervisor who has gone hears no more calls.
                let _ = self.world.calls.send((chat, self.plan.id.clone()));
            }
            Sent::Rest => self.world.journal.count(Behaviour::AskedRest),
            Sent::Engaged | Sent::Ready | Sent::SignOut => {}
        }
    }

    fn weigh(&self, durability: Option<&Durability>) {
        let synced = durability.is_some_and(|d| d.persistence() == Persistence::Fsynced);
        if !synced {
            self.world.journal.notes().not_synced += 1;
        }
    }

    fn done(&mut self, note: usize, at: Instant, end: HandEnd) {
        let chat = self.chats.iter().find(|(_, chat)| chat.note == note);
        let Some(chat_id) = chat.map(|(id, _)| id.clone()) else {
            // Told by a notice that was faster.
            let mut notes = self.world.journal.notes();
            if end == HandEnd::Closed {
                notes.certain(note, at);
            }
            notes.out_of_hand(note, end);
            return;
        };
        self.chats.remove(&chat_id);
        {
            let mut notes = self.world.journal.notes();
            notes.certain(note, at);
            notes.out_of_hand(note, end);
        }
        let early = self.world.evening.responders.early_wrap_up;
        if end == HandEnd::Closed && self.dice.random_bool(early) {
            self.later(Duration::from_millis(100), Todo::FinishWrapUp(chat_id));
        }
    }

    /// After a chat perhaps a break, after a hard one perhaps a longer rest.
    async fn rest(&mut self, session: &mut Session, hard: bool) {
        if !self.evening_began() || !session.ready {
            return;
        }
        let world = Arc::clone(&self.world);
        let (care, figures) = (&world.evening.care, &world.evening.responders);
        if hard && self.dice.random_bool(care.asks_rest) {
            let r#for = between(&mut self.dice, care.rest_ms).try_into().ok();
            let action = action::Action::ExtendCoolDown(ExtendCoolDown { r#for });
            session.send(Sent::Rest, action).await;
        } else if self.dice.random_bool(figures.takes_break) {
            session.ready = false;
            let status = ResponderStatus::OnBreak.into();
            let action = action::Action::SetStatus(SetStatus { status });
            session.send(Sent::Break, action).await;
        }
    }

    /// A refusal is part of the evening; which ones there were is told at the end.
    fn refused(&mut self, sent: &Sent, result: &ActionResult) {
        let what = match sent {
            Sent::Heartbeat => "heartbeat",
            Sent::Accept(..) => "accept",
            Sent::Decline => "decline",
            Sent::Engaged => "engaged",
            Sent::Close(_) => "close",
            Sent::Transfer(_) => "transfer",
            Sent::FinishWrapUp => "finish wrap-up",
            Sent::Call(_) => "call for a supervisor",
            Sent::Rest => "longer rest",
            Sent::Break => "break",
            Sent::Ready => "ready",
            Sent::SignOut => "sign out",
        };
        self.world.journal.refused(&format!("{what}: {}", result.reason));
        match sent {
            // Unknown, not refused: the same words again are answered the same.
            Sent::Accept(chat, number) if is_unknown(result.code) => {
                self.world.journal.notes().unknown_accepts.push((chat.clone(), self.plan.id.clone()));
                self.later(PAUSE, Todo::Accept(chat.clone(), *number));
            }
            Sent::Close(note) | Sent::Transfer(note) if is_unknown(result.code) => {
                let chat = self.chats.iter().find(|(_, chat)| chat.note == *note);
                if let Some(chat_id) = chat.map(|(id, _)| id.clone()) {
                    self.later(PAUSE, Todo::Finish(chat_id));
                }
            }
            Sent::Close(note) | Sent::Transfer(note) => {
                // No longer ours, by the line's word.
                let found_gone = self.chats.values().any(|chat| chat.note == *note && !chat.confirmed);
                if found_gone {
                    self.world.journal.count(Behaviour::LostChats);
                }
                if result.reason.starts_with("STALE_") {
                    self.world.journal.count(Behaviour::StaleRefused);
                }
                self.chats.retain(|_, chat| chat.note != *note);
                self.world.journal.notes().out_of_hand(*note, HandEnd::Told(ChatOutcome::Unspecified));
            }
            Sent::Break | Sent::Ready => self.later(PAUSE, Todo::Ready),
            Sent::Heartbeat
            | Sent::Accept(..)
            | Sent::Decline
            | Sent::Engaged
            | Sent::FinishWrapUp
            | Sent::Call(_)
            | Sent::Rest
            | Sent::SignOut => {}
        }
    }
}

/// The result of an action, past whatever else the old stream still says; `None` when the stream is gone.
async fn stale_answer(session: &mut Session, number: u64) -> Option<ActionResult> {
    loop {
        let message = session.inbound.message().await.ok()??;
        if let Some(Message::Result(result)) = message.message
            && result.request_number == number
        {
            return Some(result);
        }
    }
}

/// Codes after which nobody knows what became of an action.
fn is_unknown(code: i32) -> bool {
    [
        tonic::Code::Unavailable,
        tonic::Code::DeadlineExceeded,
        tonic::Code::Unknown,
        tonic::Code::Internal,
        tonic::Code::Aborted,
    ]
    .iter()
    .any(|unknown| *unknown as i32 == code)
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
