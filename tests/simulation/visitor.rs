//! Visitors as persistent as people in distress with a patient device: they ask until they are heard, watch, and come
//! back through the other door when one is closed.

use crate::chance::Dice;
use crate::doors::{HELPLINE, INTAKE_PORT, INTAKES};
use crate::network::{PATIENCE, channel};
use crate::records::{Records, Told};
use holdfast_proto::v1::intake_service_client::IntakeServiceClient;
use holdfast_proto::v1::watch_chat_response::Message;
use holdfast_proto::v1::{
    Chat, ChatKey, ChatOutcome, ChatState, LeaveChatRequest, RequestChatRequest, ResumeChatRequest, Urgency,
    WatchChatRequest,
};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Visitors come within so many milliseconds.
const COME_WITHIN_MS: u64 = 12_000;

pub(crate) struct Visitor {
    number: u64,
    dice: Dice,
    records: Records,
    door: IntakeServiceClient<Channel>,
}

/// What a status may say to somebody who did nothing wrong: that it did not work now.
fn is_trouble(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled | Code::Aborted
    ) || holdfast_runtime::client::is_retryable(status)
}

fn door(dice: &mut Dice) -> IntakeServiceClient<Channel> {
    let host = if dice.percent(50) { INTAKES[0] } else { INTAKES[1] };
    IntakeServiceClient::new(channel(host, INTAKE_PORT))
}

fn patiently<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

impl Visitor {
    pub(crate) fn new(seed: u64, number: u64, records: Records) -> Self {
        let mut dice = Dice::new(seed, 1_000 + number);
        let door = door(&mut dice);
        Self { number, dice, records, door }
    }

    /// From the first request to the end of the chat.
    pub(crate) async fn live(mut self) {
        sleep(self.dice.millis(0, COME_WITHIN_MS)).await;
        let key = self.ask().await;
        if self.dice.percent(20) {
            // A second click: the same request again.
            let again = self.ask().await;
            if again != key {
                self.absurd("the same request was given another chat or token");
            }
        }
        loop {
            let chat = self.watch_to_the_end(&key).await;
            if chat.outcome() == ChatOutcome::Abandoned && self.dice.percent(70) {
                self.resume(&key).await;
                continue;
            }
            let (visitor, outcome) = (self.number, chat.outcome());
            self.records.tell(Told::Ended { visitor, chat: key.chat_id, outcome });
            return self.records.rest();
        }
    }

    fn absurd(&self, what: impl Into<String>) {
        self.records.tell(Told::Absurd(format!("visitor {}: {}", self.number, what.into())));
    }

    /// Notes a status that nobody should get, and goes to either door after a pause.
    async fn try_again(&mut self, what: &str, status: &Status) {
        if !is_trouble(status) {
            self.absurd(format!("{what}: {status:?}"));
        }
        sleep(self.dice.millis(50, 600)).await;
        self.door = door(&mut self.dice);
    }

    async fn ask(&mut self) -> ChatKey {
        let urgency = [Urgency::Low, Urgency::Moderate, Urgency::High, Urgency::Imminent];
        let message = RequestChatRequest {
            helpline: HELPLINE.to_owned(),
            request_id: format!("visitor-{}", self.number),
            urgency: urgency[usize::try_from(self.number % 4).unwrap_or(0)].into(),
            ..RequestChatRequest::default()
        };
        loop {
            match self.door.request_chat(patiently(message.clone())).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let chat = answer.chat.unwrap_or_default().chat_id;
                    self.records.tell(Told::Accepted { visitor: self.number, chat: chat.clone() });
                    let (helpline, visitor_token) = (HELPLINE.to_owned(), answer.visitor_token);
                    return ChatKey { helpline, chat_id: chat, visitor_token };
                }
                Err(status) => self.try_again("request", &status).await,
            }
        }
    }

    async fn watch_to_the_end(&mut self, key: &ChatKey) -> Chat {
        let leaves_after = self.dice.percent(10).then(|| self.dice.millis(200, 4_000));
        loop {
            let watching = self.watch(key);
            let watched = match leaves_after {
                Some(after) => timeout(after, watching).await,
                None => Ok(watching.await),
            };
            match watched {
                Ok(Ok(Some(chat))) => return chat,
                Ok(Ok(None)) => sleep(self.dice.millis(10, 300)).await,
                Ok(Err(status)) => self.try_again("watch", &status).await,
                Err(_elapsed) => return self.leave(key).await,
            }
        }
    }

    /// The chat at its end, or nothing when the stream ended first.
    async fn watch(&mut self, key: &ChatKey) -> Result<Option<Chat>, Status> {
        let request = WatchChatRequest { key: Some(key.clone()), ..WatchChatRequest::default() };
        let opening = self.door.watch_chat(Request::new(request));
        let opened = timeout(PATIENCE, opening).await.map_err(|_| Status::unavailable("no answer"))?;
        let mut stream = opened?.into_inner();
        while let Some(response) = stream.message().await? {
            if let Some(Message::Update(update)) = response.message
                && let Some(chat) = update.chat
                && chat.state() == ChatState::Ended
            {
                return Ok(Some(chat));
            }
        }
        Ok(None)
    }

    async fn leave(&mut self, key: &ChatKey) -> Chat {
        loop {
            let request = LeaveChatRequest { key: Some(key.clone()), fallback_accepted: false };
            match self.door.leave_chat(patiently(request)).await {
                Ok(answer) => {
                    let chat = answer.into_inner().chat.unwrap_or_default();
                    if chat.state() != ChatState::Ended {
                        self.absurd("left, and the chat goes on");
                    }
                    return chat;
                }
                Err(status) => self.try_again("leave", &status).await,
            }
        }
    }

    async fn resume(&mut self, key: &ChatKey) {
        loop {
            let request = ResumeChatRequest { key: Some(key.clone()), ..ResumeChatRequest::default() };
            match self.door.resume_chat(patiently(request)).await {
                Ok(_) => return,
                Err(status) => self.try_again("resume", &status).await,
            }
        }
    }
}

/// Lives one after the other begin at the same moment, and end as they end.
pub(crate) async fn crowd(seed: u64, numbers: std::ops::Range<u64>, records: Records) {
    for number in numbers {
        tokio::spawn(Visitor::new(seed, number, records.clone()).live());
    }
    // The host stays up until the simulation is over.
    loop {
        sleep(Duration::from_secs(60)).await;
    }
}
