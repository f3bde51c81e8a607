//! Responders: they take offers, talk for a moment, and close. Some decline now and then, and some are told to vanish, to
//! hang, to ignore an offer or to go deaf, always in the middle of something. Later they come back with what they
//! remember, so that what is stale really is tried.

use super::{Outside, PATIENCE, came_of, endpoint, fence, outcome, pause};
use crate::chaos::history::{Came, Fence, Op, Told};
use crate::processes::HELPLINE;
use holdfast_proto::v1::action::Action as Word;
use holdfast_proto::v1::dispatch_service_client::DispatchServiceClient;
use holdfast_proto::v1::session_response::Message;
use holdfast_proto::v1::{
    Accept, Action, ActionResult, Assignment, Close, Decline, DeclineReason, Engaged, Heartbeat, Offer,
    ResponderStatus, SealedAssignment, SessionRequest, SessionResponse, SetStatus, SignIn, Transfer,
    session_request,
};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Streaming};

/// What a responder is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// Works.
    #[default]
    Usual,
    /// Once a chat is theirs: the device dies with it, and comes back when the mood is over.
    Vanishes,
    /// The same, but the device only hangs: the connection stays, nothing is said or heard.
    Hangs,
    /// The next offer is neither taken nor turned down.
    Ignores,
    /// Goes on talking but reads nothing any more.
    GoesDeaf,
}

/// Ends quietly.
pub type Going = watch::Receiver<bool>;

/// Hears what became of something that was said; nothing when nobody can say.
type Reply = oneshot::Sender<Option<ActionResult>>;

/// A chat in hand: what is said goes out over whatever session there is.
struct Ask {
    op: Op,
    word: Word,
    reply: Reply,
}

/// Chats in hand: under which fence, and what proves it.
type Talking = Arc<Mutex<HashMap<String, (Fence, Vec<u8>)>>>;

/// One responder.
struct Responder {
    outside: Outside,
    name: String,
    chance: SmallRng,
    capacity: u32,
    talk_ms: (u64, u64),
    mood: watch::Receiver<Mood>,
    going: Going,
    asks: (mpsc::Sender<Ask>, mpsc::Receiver<Ask>),
    /// Chats that are talked about.
    talking: Talking,
    /// The mood has been acted on and lasts.
    struck: watch::Sender<bool>,
    /// In this mood an offer was ignored already, or nothing is read any more.
    done: bool,
    number: u64,
}

/// A session, and what was said in it that was not answered yet.
struct Session {
    out: mpsc::Sender<SessionRequest>,
    stream: Streaming<SessionResponse>,
    unanswered: HashMap<u64, (Op, Option<Reply>)>,
    door: String,
}

/// How a session goes on.
enum Next {
    Goes,
    /// It is over; sign in again after this.
    Over(Duration),
}

/// A responder's device, and what it is told.
pub struct Device {
    /// Whose it is.
    pub name: String,
    /// Load that they carry.
    pub capacity: u32,
    /// How long they talk, in milliseconds.
    pub talk_ms: (u64, u64),
    /// What they are told to do.
    pub mood: watch::Receiver<Mood>,
    /// Whether they may go.
    pub going: Going,
}

/// Works until told to go.
pub async fn responder(outside: Outside, device: Device) {
    let chance = outside.chance(&device.name);
    let mut responder = Responder {
        outside,
        name: device.name,
        chance,
        capacity: device.capacity,
        talk_ms: device.talk_ms,
        mood: device.mood,
        going: device.going,
        asks: mpsc::channel(64),
        talking: Arc::default(),
        struck: watch::Sender::new(false),
        done: false,
        number: 1,
    };
    while !*responder.going.borrow() {
        let pause = responder.session().await;
        sleep(pause).await;
    }
}

impl Responder {
    fn told(&self, told: Told) {
        self.outside.recorder.told(Told { client: self.name.clone(), ..told });
    }

    fn begins(&self, op: &str) -> Op {
        self.outside.recorder.begins(&self.name, op)
    }

    /// One session, from the sign-in to its end, whatever that is.
    async fn session(&mut self) -> Duration {
        let retry = pause(&mut self.chance, 50, 1_500);
        let op = self.begins("sign_in");
        let Some(mut session) = self.signs_in().await else {
            self.outside.recorder.ends(op);
            return retry;
        };
        let mut signing_in = Some(op);
        let mut beats = interval(Duration::from_secs(3));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let patience = Instant::now() + PATIENCE;
        let mut struck = self.struck.subscribe();
        loop {
            let is_in = signing_in.is_none();
            let deaf = is_in && *self.mood.borrow() == Mood::GoesDeaf;
            if deaf && !std::mem::replace(&mut self.done, true) {
                let (what, door) = ("deaf".to_owned(), session.door.clone());
                self.told(Told { what, door, ..Told::default() });
            }
            let next = tokio::select! {
                message = session.stream.message(), if !deaf => match message {
                    Ok(Some(SessionResponse { message: Some(message) })) => {
                        if let (Message::SignedIn(_), Some(op)) = (&message, signing_in.take()) {
                            self.outside.recorder.ends(Op { result: Came::Ok, ..op });
                            let (what, door) = ("signed_in".to_owned(), session.door.clone());
                            self.told(Told { what, door, ..Told::default() });
                        }
                        self.hears(&mut session, message)
                    }
                    Ok(Some(SessionResponse { message: None })) => Next::Goes,
                    Ok(None) | Err(_) => Next::Over(retry),
                },
                _ = beats.tick(), if is_in => {
                    let op = self.begins("heartbeat");
                    self.says(&mut session, op, Word::Heartbeat(Heartbeat {}), None)
                }
                Some(ask) = self.asks.1.recv(), if is_in => self.says(&mut session, ask.op, ask.word, Some(ask.reply)),
                () = tokio::time::sleep_until(patience), if !is_in => Next::Over(retry),
                _ = struck.changed(), if is_in => Next::Goes,
                _ = self.going.changed() => Next::Over(Duration::ZERO),
                Ok(()) = self.mood.changed() => {
                    self.done = false;
                    Next::Goes
                }
                () = chatter(), if deaf => {
                    // Words whose answers fill everything on the way back.
                    let op = self.begins("chatter");
                    self.says(&mut session, op, Word::Heartbeat(Heartbeat {}), None)
                }
                () = session.out.closed() => Next::Over(retry),
            };
            let over = match next {
                Next::Over(pause) => Some(pause),
                Next::Goes => None,
            };
            if over.is_some() || *self.struck.borrow() {
                let (what, door) = ("stream_end".to_owned(), session.door.clone());
                if over.is_some() {
                    self.told(Told { what, door, ..Told::default() });
                }
                if let Some(op) = signing_in.take() {
                    self.outside.recorder.ends(op);
                }
                self.is_struck(session).await;
                return over.unwrap_or_default();
            }
        }
    }

    /// The device is dead or hangs for as long as the mood lasts; then what is left of the session is gone, and so is
    /// every answer.
    async fn is_struck(&mut self, session: Session) {
        let mood = *self.mood.borrow();
        let Session { out, stream, unanswered, .. } = session;
        let kept = (mood == Mood::Hangs && *self.struck.borrow()).then_some((out, stream));
        for (_, (op, reply)) in unanswered {
            self.outside.recorder.ends(op);
            if let Some(reply) = reply {
                let _ = reply.send(None);
            }
        }
        if *self.struck.borrow() {
            while *self.mood.borrow() == mood && !*self.going.borrow() {
                tokio::select! {
                    changed = self.mood.changed() => if changed.is_err() { break },
                    _ = self.going.changed() => {}
                }
            }
            self.told(Told { what: "back".to_owned(), ..Told::default() });
            self.struck.send_replace(false);
        }
        drop(kept);
    }

    async fn signs_in(&mut self) -> Option<Session> {
        let at = self.chance.random_range(0..self.outside.dispatches.len());
        let (door, url) = self.outside.dispatches[at].clone();
        let (out, requests) = mpsc::channel(256);
        let sign_in = SignIn {
            helpline: HELPLINE.to_owned(),
            responder_id: self.name.clone(),
            capacity: self.capacity,
            ready: true,
            sealed_assignments: self.proofs(),
            ..SignIn::default()
        };
        let first = session_request::Message::SignIn(sign_in);
        out.try_send(SessionRequest { request_number: 0, message: Some(first) }).expect("room");
        let mut client = DispatchServiceClient::new(device(&url).connect_lazy());
        let opened = timeout(PATIENCE, client.session(ReceiverStream::new(requests))).await;
        let stream = opened.ok()?.ok()?.into_inner();
        Some(Session { out, stream, unanswered: HashMap::new(), door })
    }

    /// What proves the chats in hand, should the store have lost them.
    fn proofs(&self) -> Vec<SealedAssignment> {
        let talking = self.talking.lock().expect("no panic");
        let proof = |(chat, (_, sealed)): (&String, &(Fence, Vec<u8>))| SealedAssignment {
            chat_id: chat.clone(),
            sealed: sealed.clone(),
        };
        talking.iter().filter(|(_, (_, sealed))| !sealed.is_empty()).map(proof).collect()
    }

    fn says(&mut self, session: &mut Session, op: Op, word: Word, reply: Option<Reply>) -> Next {
        let number = self.number;
        self.number += 1;
        let message = Some(session_request::Message::Action(Action { action: Some(word) }));
        let sent = session.out.try_send(SessionRequest { request_number: number, message });
        session.unanswered.insert(number, (op, reply));
        match sent {
            Err(mpsc::error::TrySendError::Closed(_)) => Next::Over(pause(&mut self.chance, 50, 500)),
            // Nobody takes what is said; the answer will not come, and whoever waits for it gives up.
            Err(mpsc::error::TrySendError::Full(_)) | Ok(()) => Next::Goes,
        }
    }

    fn hears(&mut self, session: &mut Session, message: Message) -> Next {
        match message {
            Message::SignedIn(_) => {}
            Message::Result(result) => return self.result(session, result),
            Message::Offer(offer) => self.offered(&offer),
            Message::Rescinded(gone) => self.told(Told {
                what: "rescinded".to_owned(),
                chat: gone.chat_id,
                offer: gone.offer_number,
                reason: gone.reason,
                ..Told::default()
            }),
            Message::Assignment(assignment) => {
                self.told(Told {
                    what: "assignment".to_owned(),
                    chat: assignment.chat_id.clone(),
                    fence: fence(assignment.fence.as_ref()),
                    ..Told::default()
                });
                self.assigned(&assignment);
            }
            Message::AssignmentEnded(ended) => self.told(Told {
                what: "assignment_ended".to_owned(),
                outcome: outcome(ended.outcome()),
                chat: ended.chat_id,
                reason: ended.reason,
                ..Told::default()
            }),
            Message::StatusChanged(changed) => self.stands(changed.status()),
            Message::Replaced(_) => {
                self.told(Told { what: "replaced".to_owned(), ..Told::default() });
                return Next::Over(pause(&mut self.chance, 50, 500));
            }
            Message::Drain(drain) => {
                self.told(Told { what: "drain".to_owned(), door: session.door.clone(), ..Told::default() });
                let after = drain.reconnect_after.and_then(|d| d.try_into().ok());
                return Next::Over(after.unwrap_or_default());
            }
        }
        Next::Goes
    }

    fn result(&mut self, session: &mut Session, result: ActionResult) -> Next {
        let Some((op, reply)) = session.unanswered.remove(&result.request_number) else { return Next::Goes };
        let came = came_of(Code::from_i32(result.code));
        let got = result.assignment.as_ref().and_then(|a| fence(a.fence.as_ref()));
        let reason = result.reason.clone();
        if op.op != "chatter" {
            self.outside.recorder.ends(Op { result: came, fence: got.or(op.fence), reason, ..op });
        }
        if let Some(assignment) = &result.assignment {
            self.assigned(assignment);
        }
        let is_out = ["NOT_SIGNED_IN", "STALE_SESSION"].contains(&result.reason.as_str());
        if let Some(reply) = reply {
            let _ = reply.send(Some(result));
        }
        if is_out { Next::Over(pause(&mut self.chance, 10, 300)) } else { Next::Goes }
    }

    /// Missed an offer: ready again, after a moment.
    fn stands(&mut self, status: ResponderStatus) {
        if status != ResponderStatus::NotResponding {
            return;
        }
        let status = ResponderStatus::Ready.into();
        let (op, asks) = (self.begins("ready"), self.asks.0.clone());
        let after = pause(&mut self.chance, 50, 500);
        tokio::spawn(async move {
            sleep(after).await;
            let _ = ask(&asks, op, Word::SetStatus(SetStatus { status })).await;
        });
    }

    fn offered(&mut self, offer: &Offer) {
        let (chat, number) = (offer.chat_id.clone(), offer.offer_number);
        let told = Told { chat: chat.clone(), offer: number, ..Told::default() };
        self.told(Told { what: "offer".to_owned(), ..told.clone() });
        if *self.mood.borrow() == Mood::Ignores && !std::mem::replace(&mut self.done, true) {
            return self.told(Told { what: "ignored".to_owned(), ..told });
        }
        let declines = self.chance.random_bool(0.05);
        let after = pause(&mut self.chance, 1, 25);
        let op =
            Op { chat: chat.clone(), offer: number, ..self.begins(if declines { "decline" } else { "accept" }) };
        let word = match declines {
            true => {
                let reason = DeclineReason::Busy.into();
                Word::Decline(Decline { chat_id: chat, offer_number: number, reason })
            }
            false => Word::Accept(Accept { chat_id: chat, offer_number: number, reply_handoff: b"room".to_vec() }),
        };
        let (asks, recorder) = (self.asks.0.clone(), Arc::clone(&self.outside.recorder));
        tokio::spawn(async move {
            sleep(after).await;
            let op = Op { invoked_ms: recorder.now(), ..op };
            until_known(&asks, &op, &word, &recorder, 5).await;
        });
    }

    /// A chat is theirs: it is talked about, unless it is already.
    fn assigned(&mut self, assignment: &Assignment) {
        let Some(fence) = fence(assignment.fence.as_ref()) else { return };
        let chat = assignment.chat_id.clone();
        let held = (fence, assignment.sealed.clone());
        let known = self.talking.lock().expect("no panic").insert(chat.clone(), held);
        if known.is_some_and(|(known, _)| known == fence) {
            return;
        }
        let mood = *self.mood.borrow();
        let holds_on = matches!(mood, Mood::Vanishes | Mood::Hangs) && !*self.struck.borrow();
        if holds_on {
            let what = if mood == Mood::Hangs { "hung" } else { "vanished" }.to_owned();
            self.told(Told { what, chat: chat.clone(), fence: Some(fence), ..Told::default() });
            self.struck.send_replace(true);
        }
        let transfers = !holds_on && self.chance.random_bool(0.03);
        let conversation = Conversation {
            outside: self.outside.clone(),
            name: self.name.clone(),
            asks: self.asks.0.clone(),
            talking: Arc::clone(&self.talking),
            struck: self.struck.subscribe(),
            fence,
            wire: assignment.fence,
            chat,
            transfers,
            lasts: (pause(&mut self.chance, 1, 20), pause(&mut self.chance, self.talk_ms.0, self.talk_ms.1)),
        };
        tokio::spawn(conversation.goes_on());
    }
}

/// A chat in hand, until it is closed or handed on.
struct Conversation {
    outside: Outside,
    name: String,
    asks: mpsc::Sender<Ask>,
    talking: Talking,
    struck: watch::Receiver<bool>,
    fence: Fence,
    wire: Option<holdfast_proto::v1::Fence>,
    chat: String,
    transfers: bool,
    lasts: (Duration, Duration),
}

impl Conversation {
    async fn goes_on(mut self) {
        // Somebody whose device is dead or hangs does nothing, and later does what they were about to do.
        let _ = self.struck.wait_for(|struck| !struck).await;
        sleep(self.lasts.0).await;
        self.says("engage").await;
        sleep(self.lasts.1).await;
        let _ = self.struck.wait_for(|struck| !struck).await;
        self.says(if self.transfers { "transfer" } else { "close" }).await;
        let mut talking = self.talking.lock().expect("no panic");
        if talking.get(&self.chat).is_some_and(|(fence, _)| *fence == self.fence) {
            talking.remove(&self.chat);
        }
    }

    async fn says(&self, what: &str) {
        let (chat_id, fence) = (self.chat.clone(), self.wire);
        let word = match what {
            "engage" => Word::Engaged(Engaged { chat_id, fence }),
            "transfer" => Word::Transfer(Transfer { chat_id, fence }),
            _ => Word::Close(Close { chat_id, fence }),
        };
        let op = Op {
            chat: self.chat.clone(),
            fence: Some(self.fence),
            ..self.outside.recorder.begins(&self.name, what)
        };
        until_known(&self.asks, &op, &word, &self.outside.recorder, 40).await;
    }
}

/// Says something, again while nobody can say what became of it.
async fn until_known(
    asks: &mpsc::Sender<Ask>,
    op: &Op,
    word: &Word,
    recorder: &crate::chaos::history::Recorder,
    times: usize,
) {
    for n in 0..times {
        let op = if n == 0 { op.clone() } else { Op { invoked_ms: recorder.now(), ..op.clone() } };
        match ask(asks, op, word.clone()).await {
            Some(result) if came_of(Code::from_i32(result.code)) == Came::Unknown => {}
            // A newer session says it again.
            Some(result) if result.reason == "STALE_SESSION" || result.reason == "NOT_SIGNED_IN" => {}
            Some(_) => return,
            None => {}
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn ask(asks: &mpsc::Sender<Ask>, op: Op, word: Word) -> Option<ActionResult> {
    let (reply, answer) = oneshot::channel();
    asks.send(Ask { op, word, reply }).await.ok()?;
    // The session answers or breaks; if it hangs, keepalive breaks it.
    timeout(Duration::from_secs(60), answer).await.ok()?.ok()?
}

async fn chatter() {
    sleep(Duration::from_millis(2)).await;
}

/// A device with little room for what it has not read.
fn device(url: &str) -> Endpoint {
    endpoint(url).initial_stream_window_size(1 << 16).initial_connection_window_size(1 << 16)
}
