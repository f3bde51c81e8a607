//! One chat through the real services, from request to goodbye, to show that the line works.

use std::{
    fmt::Write,
    sync::OnceLock,
    time::{Duration, Instant},
};

use holdfast_proto::v1::{
    Accept, Action, ActionResult, Assignment, ChatKey, ChatState, Close, Decline, DeclineReason, Durability,
    Engaged, FinishWrapUp, FloorResponder, GetFloorRequest, LeaveChatRequest, Offer, RequestChatRequest,
    ResponderStatus, SessionRequest, SessionResponse, SignIn, SignOut, WatchChatRequest, action::Action as Does,
    dispatch_service_client::DispatchServiceClient, intake_service_client::IntakeServiceClient,
    queue_service_client::QueueServiceClient, session_request, session_response::Message, watch_chat_response,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use uuid::Uuid;

use crate::{
    Failure,
    remote::{self, Door, Remote},
    words,
};

/// The built-in responder.
pub(super) const RESPONDER: &str = "first-responder";

/// The whole journey takes milliseconds; longer than this is a failure.
const WITHIN: Duration = Duration::from_secs(12);

/// The three services, as they are called.
pub(super) struct Services {
    pub(super) intake: Remote,
    pub(super) queue: Remote,
    pub(super) dispatch: Remote,
}

/// What became of the first chat.
pub(super) enum FirstChat {
    /// It went all the way.
    Routed(Journey),
    /// Others are in the line, and nobody may get in their way.
    LineInUse(String),
}

/// When each thing was seen from outside, since the request.
pub(super) struct Journey {
    chat_id: String,
    durability: Option<Durability>,
    epoch: u64,
    requested: Duration,
    offered: Duration,
    accepted: Duration,
    engaged: Duration,
    seen_active: Duration,
    completed: Duration,
}

/// Routes a chat of `helpline`, unless somebody else is in its line.
pub(super) async fn route(services: &Services, helpline: &str) -> Result<FirstChat, Failure> {
    if let Some(others) = others(&services.queue, helpline).await? {
        return Ok(FirstChat::LineInUse(others));
    }
    let key = OnceLock::new();
    let failure = match timeout(WITHIN, journey(services, helpline, &key)).await {
        Ok(Ok(journey)) => return Ok(FirstChat::Routed(journey)),
        Ok(Err(failure)) => failure,
        Err(_late) => Failure::NoFirstChat(words::span(WITHIN)),
    };
    if let Some(key) = key.into_inner() {
        leave(&services.intake, key).await;
    }
    // Somebody who came in the meantime may have taken it, and that is no failure.
    match others(&services.queue, helpline).await {
        Ok(Some(others)) => Ok(FirstChat::LineInUse(others)),
        Ok(None) | Err(_) => Err(failure),
    }
}

/// Nobody shall wait for a visitor who never was. What goes wrong here comes after a failure, which is told.
async fn leave(intake: &Remote, key: ChatKey) {
    let Ok(channel) = intake.channel() else {
        return;
    };
    let request = LeaveChatRequest { key: Some(key), fallback_accepted: false };
    let _ = IntakeServiceClient::new(channel).leave_chat(request).await;
}

/// Who is in the line already, as a phrase.
async fn others(queue: &Remote, helpline: &str) -> Result<Option<String>, Failure> {
    let mut client = QueueServiceClient::new(queue.channel()?);
    let mut tries = remote::first_tries();
    let floor = loop {
        let request = GetFloorRequest { helpline: helpline.to_owned(), limit: 0 };
        let status = match client.get_floor(request).await {
            Ok(floor) => break floor.into_inner(),
            Err(status) => status,
        };
        let wait = remote::wait_after(&status, &mut tries);
        sleep(wait.ok_or_else(|| queue.failure(&status))?).await;
    };
    let ledger = floor.ledger.unwrap_or_default();
    let open = ledger.waiting + ledger.offered + ledger.active;
    let somebody = |r: &&FloorResponder| r.status() != ResponderStatus::Offline && r.responder_id != RESPONDER;
    let here = floor.responders.iter().filter(somebody).count();
    let alone = open == 0 && here == 0;
    Ok((!alone).then(|| format!("open chats: {open}, responders here: {here}")))
}

async fn journey(services: &Services, helpline: &str, key: &OnceLock<ChatKey>) -> Result<Journey, Failure> {
    let mut desk = Desk::sign_in(&services.dispatch, helpline).await?;
    let (say_which, which) = oneshot::channel();
    let (say_active, active) = oneshot::channel();
    let began = Instant::now();
    let (visit, work) = tokio::try_join!(
        visit(&services.intake, helpline, began, key, say_which, say_active),
        desk.work(began, which, active),
    )?;
    desk.sign_out(&visit.chat_id).await;
    Ok(Journey {
        chat_id: visit.chat_id,
        durability: visit.durability,
        epoch: work.epoch,
        requested: visit.requested,
        offered: work.offered,
        accepted: work.accepted,
        engaged: work.engaged,
        seen_active: visit.seen_active,
        completed: visit.completed,
    })
}

struct Visit {
    chat_id: String,
    durability: Option<Durability>,
    requested: Duration,
    seen_active: Duration,
    completed: Duration,
}

async fn visit(
    intake: &Remote,
    helpline: &str,
    began: Instant,
    hold: &OnceLock<ChatKey>,
    say_which: oneshot::Sender<String>,
    say_active: oneshot::Sender<()>,
) -> Result<Visit, Failure> {
    let mut client = IntakeServiceClient::new(intake.channel()?);
    let request = RequestChatRequest {
        helpline: helpline.to_owned(),
        request_id: Uuid::new_v4().to_string(),
        ..RequestChatRequest::default()
    };
    let mut tries = remote::first_tries();
    let answer = loop {
        let status = match client.request_chat(request.clone()).await {
            Ok(answer) => break answer.into_inner(),
            Err(status) => status,
        };
        let wait = remote::wait_after(&status, &mut tries);
        sleep(wait.ok_or_else(|| intake.failure(&status))?).await;
    };
    let requested = began.elapsed();
    let chat_id = answer.chat.ok_or_else(|| intake.incomplete("a chat"))?.chat_id;
    let key =
        ChatKey { helpline: helpline.to_owned(), chat_id: chat_id.clone(), visitor_token: answer.visitor_token };
    let key = hold.get_or_init(|| key).clone();
    // The other side only goes away with a failure of its own, which is the one to report.
    let _ = say_which.send(chat_id.clone());
    let (seen_active, completed) = watch(intake, &mut client, key, began, say_active).await?;
    Ok(Visit { chat_id, durability: answer.durability, requested, seen_active, completed })
}

/// When the visitor saw the chat become active, and when they saw it end.
async fn watch(
    intake: &Remote,
    client: &mut IntakeServiceClient<Door>,
    key: ChatKey,
    began: Instant,
    say_active: oneshot::Sender<()>,
) -> Result<(Duration, Duration), Failure> {
    let request = WatchChatRequest { key: Some(key), locale: String::new(), ticket: Vec::new() };
    let opened = client.watch_chat(request).await;
    let mut updates = opened.map_err(|s| intake.failure(&s))?.into_inner();
    let mut say_active = Some(say_active);
    let mut seen_active = Duration::ZERO;
    while let Some(said) = updates.message().await.map_err(|s| intake.failure(&s))? {
        let Some(watch_chat_response::Message::Update(update)) = said.message else {
            continue;
        };
        let state = update.chat.unwrap_or_default().state();
        if state == ChatState::Active
            && let Some(say) = say_active.take()
        {
            seen_active = began.elapsed();
            let _ = say.send(());
        }
        if state == ChatState::Ended {
            return Ok((seen_active, began.elapsed()));
        }
    }
    Err(intake.incomplete("the end of the first chat"))
}

struct Work {
    epoch: u64,
    offered: Duration,
    accepted: Duration,
    engaged: Duration,
}

/// The built-in responder at work.
struct Desk<'a> {
    dispatch: &'a Remote,
    words: mpsc::Sender<SessionRequest>,
    answers: Streaming<SessionResponse>,
    last_number: u64,
}

impl<'a> Desk<'a> {
    async fn sign_in(dispatch: &'a Remote, helpline: &str) -> Result<Self, Failure> {
        let mut tries = remote::first_tries();
        loop {
            let status = match Self::open(dispatch, helpline).await {
                Ok(desk) => return Ok(desk),
                Err(Problem::Failure(failure)) => return Err(failure),
                Err(Problem::Status(status)) => status,
            };
            let wait = remote::wait_after(&status, &mut tries);
            sleep(wait.ok_or_else(|| dispatch.failure(&status))?).await;
        }
    }

    async fn open(dispatch: &'a Remote, helpline: &str) -> Result<Self, Problem> {
        let (words, receiver) = mpsc::channel(16);
        let sign_in = SignIn {
            helpline: helpline.to_owned(),
            responder_id: RESPONDER.to_owned(),
            capabilities: Vec::new(),
            capacity: 1,
            ready: true,
            ..SignIn::default()
        };
        let first = SessionRequest { request_number: 1, message: Some(session_request::Message::SignIn(sign_in)) };
        words.send(first).await.map_err(|_| gone())?;
        let mut client = DispatchServiceClient::new(dispatch.channel()?);
        let mut answers = client.session(ReceiverStream::new(receiver)).await?.into_inner();
        while let Some(said) = answers.message().await? {
            if matches!(said.message, Some(Message::SignedIn(_))) {
                return Ok(Self { dispatch, words, answers, last_number: 1 });
            }
        }
        Err(gone().into())
    }

    async fn work(
        &mut self,
        began: Instant,
        which: oneshot::Receiver<String>,
        active: oneshot::Receiver<()>,
    ) -> Result<Work, Failure> {
        let (offer, offered) = self.offer(began, which).await?;
        let accept =
            Accept { chat_id: offer.chat_id.clone(), offer_number: offer.offer_number, reply_handoff: Vec::new() };
        let result = self.act(Does::Accept(accept)).await?;
        let Assignment { chat_id, fence, .. } =
            result.assignment.ok_or_else(|| self.dispatch.incomplete("an assignment"))?;
        let accepted = began.elapsed();
        self.act(Does::Engaged(Engaged { chat_id: chat_id.clone(), fence })).await?;
        let engaged = began.elapsed();
        // The visitor's side only goes away with a failure of its own, which ends this side too.
        let _ = active.await;
        self.act(Does::Close(Close { chat_id, fence })).await?;
        Ok(Work { epoch: fence.unwrap_or_default().epoch, offered, accepted, engaged })
    }

    /// The offer of the first chat; any other is left to others.
    async fn offer(
        &mut self,
        began: Instant,
        which: oneshot::Receiver<String>,
    ) -> Result<(Offer, Duration), Failure> {
        let mut offer = self.next_offer().await?;
        let mut offered = began.elapsed();
        let which = which.await.unwrap_or_default();
        while offer.chat_id != which {
            let decline = Decline {
                chat_id: offer.chat_id,
                offer_number: offer.offer_number,
                reason: DeclineReason::NotSuited.into(),
            };
            self.act(Does::Decline(decline)).await?;
            offer = self.next_offer().await?;
            offered = began.elapsed();
        }
        Ok((offer, offered))
    }

    async fn next_offer(&mut self) -> Result<Offer, Failure> {
        loop {
            if let Message::Offer(offer) = self.hear().await? {
                return Ok(offer);
            }
        }
    }

    /// Acts, and waits for the result.
    async fn act(&mut self, does: Does) -> Result<ActionResult, Failure> {
        self.last_number += 1;
        let number = self.last_number;
        let request = SessionRequest {
            request_number: number,
            message: Some(session_request::Message::Action(Action { action: Some(does) })),
        };
        let sent = self.words.send(request).await;
        sent.map_err(|_| self.dispatch.failure(&gone()))?;
        loop {
            let Message::Result(result) = self.hear().await? else {
                continue;
            };
            if result.request_number != number {
                continue;
            }
            if result.code == 0 {
                return Ok(result);
            }
            let reason = format!("{} [{}]", result.message, result.reason);
            return Err(Failure::Refused { service: self.dispatch.service, reason });
        }
    }

    async fn hear(&mut self) -> Result<Message, Failure> {
        loop {
            let said = self.answers.message().await;
            let said = said.map_err(|s| self.dispatch.failure(&s))?;
            let said = said.ok_or_else(|| self.dispatch.failure(&gone()))?;
            if let Some(message) = said.message {
                return Ok(message);
            }
        }
    }

    /// The chat is over, so whatever goes wrong here is nobody's loss.
    async fn sign_out(&mut self, chat_id: &str) {
        let chat_id = chat_id.to_owned();
        let _ = self.act(Does::FinishWrapUp(FinishWrapUp { chat_id })).await;
        let _ = self.act(Does::SignOut(SignOut {})).await;
    }
}

enum Problem {
    Status(Box<tonic::Status>),
    Failure(Failure),
}

impl From<tonic::Status> for Problem {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn gone() -> tonic::Status {
    tonic::Status::unavailable("the stream ended")
}

impl Journey {
    /// As a table, the times since the request.
    pub(super) fn table(&self) -> String {
        let stored = format!("acknowledged; {}", words::durability(self.durability.as_ref()));
        let epoch = format!("epoch {}", self.epoch);
        let rows = [
            ("requested", self.requested, stored.as_str()),
            ("offered", self.offered, "to the built-in responder"),
            ("accepted", self.accepted, &epoch),
            ("engaged", self.engaged, "the responder wrote"),
            ("visitor saw ACTIVE", self.seen_active, ""),
            ("completed", self.completed, "the visitor saw the end"),
        ];
        let mut text =
            format!("A first chat, {}, through intake, queue and dispatch. Time since the request:", self.chat_id);
        for (what, at, more) in rows {
            let line = format!("  {what:<20}{:>9}   {more}", words::span(at));
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{}", line.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_every_stage() {
        let ms = Duration::from_millis;
        let journey = Journey {
            chat_id: "c1".to_owned(),
            durability: None,
            epoch: 7,
            requested: ms(1),
            offered: ms(2),
            accepted: ms(3),
            engaged: ms(4),
            seen_active: ms(5),
            completed: ms(6),
        };
        let table = journey.table();
        assert_eq!(table.lines().count(), 7);
        assert!(table.contains("accepted               3.0 ms   epoch 7"), "{table}");
    }
}
