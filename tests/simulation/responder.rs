//! Responders who come, take what is offered, mostly finish it, and sometimes vanish in the middle of it.

use crate::chance::Dice;
use crate::doors::{DISPATCH_PORT, DISPATCHES, HELPLINE};
use crate::network::{PATIENCE, channel};
use crate::records::{Records, Told, Word};
use holdfast_proto::v1::action::Action as Does;
use holdfast_proto::v1::dispatch_service_client::DispatchServiceClient;
use holdfast_proto::v1::session_response::Message;
use holdfast_proto::v1::{
    Accept, Action, ActionResult, Assignment, Close, Decline, Engaged, Fence, Heartbeat, Offer, ResponderStatus,
    SessionRequest, SessionResponse, SetStatus, SignIn, Transfer, session_request,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// What a word that was sent was about.
#[derive(Clone)]
enum Sent {
    Accept(String),
    End(Word, String, Fence),
    Other,
}

/// What they are about to do.
enum Plan {
    Accept(Offer),
    Decline(Offer),
    End(Word, String, Fence),
    Late(String, Fence),
    Ready,
    Beat,
}

pub(crate) struct Responder {
    id: String,
    dice: Dice,
    records: Records,
    /// The last chat that went out of their hands, for words that come too late.
    before: Option<(String, Fence)>,
}

/// One connection.
struct Session {
    out: mpsc::Sender<SessionRequest>,
    sent: BTreeMap<u64, Sent>,
    plans: BTreeMap<(Instant, u64), Plan>,
    planned: u64,
    number: u64,
    mine: BTreeMap<String, Fence>,
}

impl Session {
    fn plan(&mut self, after: Duration, plan: Plan) {
        self.planned += 1;
        self.plans.insert((Instant::now() + after, self.planned), plan);
    }

    fn say(&mut self, does: Does, sent: Sent) {
        self.number += 1;
        let message = session_request::Message::Action(Action { action: Some(does) });
        let request = SessionRequest { request_number: self.number, message: Some(message) };
        if self.out.try_send(request).is_ok() {
            self.sent.insert(self.number, sent);
        }
    }
}

impl Responder {
    pub(crate) fn new(seed: u64, number: u64, records: Records) -> Self {
        Self { id: format!("responder-{number}"), dice: Dice::new(seed, 2_000 + number), records, before: None }
    }

    pub(crate) async fn live(mut self) {
        loop {
            // However a session ends, there is another one soon.
            let _ended = self.session().await;
            sleep(self.dice.millis(50, 900)).await;
        }
    }

    fn absurd(&self, what: impl Into<String>) {
        self.records.tell(Told::Absurd(format!("{}: {}", self.id, what.into())));
    }

    async fn open(&mut self) -> Result<(Session, Streaming<SessionResponse>), Status> {
        let host = if self.dice.percent(50) { DISPATCHES[0] } else { DISPATCHES[1] };
        let mut door = DispatchServiceClient::new(channel(host, DISPATCH_PORT));
        let (out, requests) = mpsc::channel(64);
        let sign_in = SignIn {
            helpline: HELPLINE.to_owned(),
            responder_id: self.id.clone(),
            capacity: 1 + u32::from(self.id.ends_with('1')),
            ready: true,
            ..SignIn::default()
        };
        let first = session_request::Message::SignIn(sign_in);
        let _room = out.try_send(SessionRequest { request_number: 0, message: Some(first) });
        let opening = timeout(PATIENCE, door.session(ReceiverStream::new(requests))).await;
        let stream = opening.map_err(|_| Status::unavailable("no answer"))??.into_inner();
        let (sent, plans, mine) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok((Session { out, sent, plans, planned: 0, number: 0, mine }, stream))
    }

    async fn session(&mut self) -> Result<(), Status> {
        let (mut session, mut stream) = self.open().await?;
        let leave_at = Instant::now() + self.dice.millis(2_000, 25_000);
        session.plan(Duration::from_millis(500), Plan::Beat);
        loop {
            let next = session.plans.first_key_value().map_or(leave_at, |((at, _), _)| *at);
            tokio::select! {
                biased;
                message = stream.message() => match message? {
                    Some(SessionResponse { message: Some(message) }) => self.hear(message, &mut session),
                    Some(_) => {}
                    None => return Ok(()),
                },
                () = sleep_until(leave_at) => return Ok(()),
                () = sleep_until(next) => {
                    if let Some((_, plan)) = session.plans.pop_first() {
                        self.act(plan, &mut session);
                    }
                }
            }
        }
    }

    fn hear(&mut self, message: Message, session: &mut Session) {
        match message {
            Message::Offer(offer) => {
                let after = self.dice.millis(10, 700);
                match self.dice.below(10) {
                    0 => session.plan(after, Plan::Decline(offer)),
                    1 => {} // it is missed
                    _ => session.plan(after, Plan::Accept(offer)),
                }
            }
            Message::Assignment(assignment) => self.take(assignment, session),
            Message::AssignmentEnded(ended) => self.put_down(&ended.chat_id, session),
            Message::Result(result) => self.answered(result, session),
            Message::StatusChanged(changed) if changed.status() == ResponderStatus::NotResponding => {
                session.plan(self.dice.millis(50, 500), Plan::Ready);
            }
            Message::SignedIn(_)
            | Message::Rescinded(_)
            | Message::StatusChanged(_)
            | Message::Replaced(_)
            | Message::Drain(_) => {}
        }
    }

    fn take(&mut self, assignment: Assignment, session: &mut Session) {
        let (chat, Some(fence)) = (assignment.chat_id, assignment.fence) else {
            return self.absurd("an assignment without a fence");
        };
        if session.mine.insert(chat.clone(), fence) == Some(fence) {
            return;
        }
        self.records.tell(Told::Assigned { responder: self.id.clone(), chat: chat.clone(), fence });
        let engaged = Engaged { chat_id: chat.clone(), fence: Some(fence) };
        session.say(Does::Engaged(engaged), Sent::Other);
        let word = if self.dice.percent(15) { Word::Transfer } else { Word::Close };
        session.plan(self.dice.millis(200, 2_000), Plan::End(word, chat, fence));
    }

    fn put_down(&mut self, chat: &str, session: &mut Session) {
        if let Some(fence) = session.mine.remove(chat) {
            self.before = Some((chat.to_owned(), fence));
            if self.dice.percent(40) {
                session.plan(self.dice.millis(0, 3_000), Plan::Late(chat.to_owned(), fence));
            }
        }
    }

    fn act(&mut self, plan: Plan, session: &mut Session) {
        match plan {
            Plan::Accept(offer) => {
                let (chat_id, offer_number) = (offer.chat_id.clone(), offer.offer_number);
                let accept = Accept { chat_id, offer_number, reply_handoff: Vec::new() };
                session.say(Does::Accept(accept), Sent::Accept(offer.chat_id));
            }
            Plan::Decline(offer) => {
                let (chat_id, offer_number) = (offer.chat_id, offer.offer_number);
                session.say(Does::Decline(Decline { chat_id, offer_number, reason: 0 }), Sent::Other);
            }
            Plan::End(word, chat, fence) => {
                let sent = Sent::End(word, chat.clone(), fence);
                session.say(end(word, &chat, fence), sent);
                if session.mine.contains_key(&chat) {
                    // Unless the answer says that it is done, it is said again.
                    session.plan(Duration::from_millis(2_500), Plan::End(word, chat, fence));
                }
            }
            Plan::Late(chat, fence) => session.say(end(Word::Transfer, &chat, fence), Sent::Other),
            Plan::Ready => {
                let ready = SetStatus { status: ResponderStatus::Ready.into() };
                session.say(Does::SetStatus(ready), Sent::Other);
            }
            Plan::Beat => {
                session.say(Does::Heartbeat(Heartbeat {}), Sent::Other);
                session.plan(Duration::from_millis(700), Plan::Beat);
                if let Some((chat, fence)) = self.before.take_if(|_| self.dice.percent(5)) {
                    session.plan(Duration::ZERO, Plan::Late(chat, fence));
                }
            }
        }
    }

    fn answered(&mut self, result: ActionResult, session: &mut Session) {
        let Some(sent) = session.sent.remove(&result.request_number) else {
            return;
        };
        match Code::from(result.code) {
            Code::Ok => self.done(sent, result.assignment, session),
            Code::FailedPrecondition | Code::NotFound => {
                self.records.tell(Told::Refused);
                if let Sent::End(_, chat, _) = sent {
                    self.put_down(&chat, session);
                }
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => {}
            code => self.absurd(format!("{code:?}: {} {} {}", result.message, result.reason, result.field)),
        }
    }

    fn done(&mut self, sent: Sent, assignment: Option<Assignment>, session: &mut Session) {
        match (sent, assignment) {
            (Sent::Accept(chat), Some(assignment)) if assignment.chat_id == chat => self.take(assignment, session),
            (Sent::Accept(chat), _) => self.absurd(format!("{chat} was accepted, and nothing is assigned")),
            (Sent::End(what, chat, fence), _) => {
                let responder = self.id.clone();
                self.records.tell(Told::Done { responder, chat: chat.clone(), fence, what });
                self.put_down(&chat, session);
            }
            (Sent::Other, _) => {}
        }
    }
}

fn end(word: Word, chat: &str, fence: Fence) -> Does {
    let (chat_id, fence) = (chat.to_owned(), Some(fence));
    match word {
        Word::Close => Does::Close(Close { chat_id, fence }),
        Word::Transfer => Does::Transfer(Transfer { chat_id, fence }),
    }
}

/// All of them live on one host, whose links may break, too.
pub(crate) async fn shift(seed: u64, numbers: std::ops::Range<u64>, records: Records) {
    for number in numbers {
        tokio::spawn(Responder::new(seed, number, records.clone()).live());
    }
    loop {
        sleep(Duration::from_secs(60)).await;
    }
}
