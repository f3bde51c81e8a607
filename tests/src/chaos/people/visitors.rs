//! Visitors, who watch their chat, and integrators, who vouch for theirs and look now and then. Both repeat what nobody
//! can say the outcome of, with the same request id or token, until somebody can.

use super::{Outside, PATIENCE, answer, came, channel, outcome, pause, state, within};
use crate::chaos::history::{Came, Op, Told};
use crate::processes::HELPLINE;
use holdfast_proto::v1::intake_service_client::IntakeServiceClient;
use holdfast_proto::v1::watch_chat_response::Message;
use holdfast_proto::v1::{
    Chat, ChatKey, ChatState, LeaveChatRequest, RequestChatRequest, ResumeChatRequest, Urgency, VisitorPresence,
    WatchChatRequest,
};
use rand::Rng;
use rand::rngs::SmallRng;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

/// A chat that takes longer is looked at no more by its visitor; the end of the run looks at all.
const ATTENTION: Duration = Duration::from_secs(300);

/// The reason where there is no such chat.
const UNKNOWN_CHAT: &str = "UNKNOWN_CHAT";

/// One device that asks for one chat after another, for one person each.
struct Device {
    outside: Outside,
    name: String,
    chance: SmallRng,
    doors: Vec<IntakeServiceClient<Channel>>,
    door: usize,
}

/// A person's hold on their chat.
struct Hold {
    key: ChatKey,
    /// The newest ticket that they were given.
    ticket: Vec<u8>,
}

impl Hold {
    fn keep(&mut self, ticket: Vec<u8>) {
        if !ticket.is_empty() {
            self.ticket = ticket;
        }
    }
}

/// How a person behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Watches until the end.
    Stays,
    /// Leaves soon, whatever happens.
    Leaves,
    /// Loses the connection once and comes back.
    Flickers,
    /// Never watches.
    Vanishes,
}

/// Asks for chats until nobody asks any more, with a pause between two.
pub async fn visitor(outside: Outside, number: usize, think_ms: u64) {
    let mut device = Device::new(outside, format!("visitor-{number}"));
    for n in 0.. {
        sleep(pause(&mut device.chance, think_ms / 2, think_ms * 3 / 2)).await;
        if !device.outside.is_asking() {
            return;
        }
        device.live(n).await;
    }
}

/// The same for people whose presence is vouched for.
pub async fn integrator(outside: Outside, number: usize, think_ms: u64) {
    let mut device = Device::new(outside, format!("integrator-{number}"));
    for n in 0.. {
        sleep(pause(&mut device.chance, think_ms / 2, think_ms * 3 / 2)).await;
        if !device.outside.is_asking() {
            return;
        }
        device.vouched(n).await;
    }
}

/// Looks at every chat that was acknowledged, by its token: how does it stand at the very end?
pub async fn look_at_all(outside: &Outside, at_once: usize) {
    let mut keys: Vec<ChatKey> = outside.keys.lock().expect("no panic").values().cloned().collect();
    keys.sort_by(|a, b| a.chat_id.cmp(&b.chat_id));
    let shares = keys.chunks(keys.len().div_ceil(at_once).max(1)).map(<[ChatKey]>::to_vec);
    let looking = shares.enumerate().map(|(n, share)| {
        let mut device = Device::new(outside.clone(), format!("onlooker-{n}"));
        tokio::spawn(async move {
            for key in share {
                device.looks(&key).await;
            }
        })
    });
    for looked in looking.collect::<Vec<_>>() {
        looked.await.expect("no panic");
    }
}

impl Device {
    fn new(outside: Outside, name: String) -> Self {
        let doors: Vec<_> =
            outside.intakes.iter().map(|(_, url)| IntakeServiceClient::new(channel(url))).collect();
        let mut chance = outside.chance(&name);
        let door = chance.random_range(0..doors.len());
        Self { outside, name, chance, doors, door }
    }

    fn begins(&self, op: &str) -> Op {
        self.outside.recorder.begins(&self.name, op)
    }

    fn ends(&self, op: Op) {
        self.outside.recorder.ends(op);
    }

    fn told(&self, what: &str, chat: &str) {
        let door = self.outside.intakes[self.door].0.clone();
        let (client, what, chat) = (self.name.clone(), what.to_owned(), chat.to_owned());
        self.outside.recorder.told(Told { client, what, door, chat, ..Told::default() });
    }

    /// Another door, after a moment.
    async fn goes_on(&mut self) {
        self.door = (self.door + 1) % self.doors.len();
        sleep(pause(&mut self.chance, 20, 300)).await;
    }

    async fn live(&mut self, n: u64) {
        let manner = match self.chance.random_range(0..100) {
            0..86 => Manner::Stays,
            86..91 => Manner::Leaves,
            91..99 => Manner::Flickers,
            _ => Manner::Vanishes,
        };
        if self.chance.random_bool(0.01) {
            self.poisons(n).await;
        }
        let Some(mut hold) = self.asks(n, VisitorPresence::Live).await else { return };
        match manner {
            Manner::Stays => self.watches(&mut hold, ATTENTION).await,
            Manner::Vanishes => {}
            Manner::Leaves => {
                let moment = pause(&mut self.chance, 0, 250);
                self.watches(&mut hold, moment).await;
                self.leaves(&hold.key).await;
                self.watches(&mut hold, ATTENTION).await;
            }
            Manner::Flickers => {
                let moment = pause(&mut self.chance, 0, 100);
                self.watches(&mut hold, moment).await;
                sleep(pause(&mut self.chance, 50, 2_000)).await;
                self.watches(&mut hold, ATTENTION).await;
            }
        }
    }

    async fn vouched(&mut self, n: u64) {
        let Some(mut hold) = self.asks(n, VisitorPresence::Attested).await else { return };
        let until = Instant::now() + ATTENTION;
        let leaves = self.chance.random_bool(0.05);
        while Instant::now() < until {
            sleep(pause(&mut self.chance, 200, 800)).await;
            if leaves {
                self.leaves(&hold.key).await;
            }
            if self.resumes(&mut hold).await {
                return;
            }
        }
    }

    /// Asks until there is a chat, or until nobody asks any more and it is known that there is none.
    async fn asks(&mut self, n: u64, presence: VisitorPresence) -> Option<Hold> {
        let urgency = match self.chance.random_range(0..100) {
            0..25 => Urgency::Low,
            25..75 => Urgency::Moderate,
            75..95 => Urgency::High,
            _ => Urgency::Imminent,
        };
        let request = RequestChatRequest {
            helpline: HELPLINE.to_owned(),
            request_id: format!("{}-{}-{n}", self.outside.seed, self.name),
            urgency: urgency.into(),
            presence: presence.into(),
            handoff: b"room".to_vec(),
            resources_seen: true,
            ..RequestChatRequest::default()
        };
        let again = self.chance.random_bool(0.05);
        let mut unknown = false;
        loop {
            let (result, hold) = self.asks_once(&request).await;
            unknown |= result == Came::Unknown;
            if hold.is_some() {
                if again {
                    self.goes_on().await;
                    // The newest answer counts: what it says may not be what was said before a loss.
                    return self.asks_once(&request).await.1.or(hold);
                }
                return hold;
            }
            if !unknown && !self.outside.is_asking() {
                return None;
            }
            self.goes_on().await;
        }
    }

    async fn asks_once(&mut self, request: &RequestChatRequest) -> (Came, Option<Hold>) {
        let op = Op { request: request.request_id.clone(), ..self.begins("request") };
        let call = answer(self.doors[self.door].request_chat(within(request.clone()))).await;
        match call {
            Ok(asked) => {
                let chat = asked.chat.unwrap_or_default();
                let key = ChatKey {
                    helpline: HELPLINE.to_owned(),
                    chat_id: chat.chat_id.clone(),
                    visitor_token: asked.visitor_token,
                };
                self.outside.keys.lock().expect("no panic").insert(key.chat_id.clone(), key.clone());
                self.ends(Op { replayed: asked.replayed, ..shown(op, Came::Ok, &chat) });
                (Came::Ok, Some(Hold { key, ticket: asked.ticket }))
            }
            Err(status) => {
                let (result, reason) = came(&status);
                self.ends(Op { result, reason, ..op });
                (result, None)
            }
        }
    }

    /// A request that no chat can be made of: its field is named, and nothing else happens.
    async fn poisons(&mut self, n: u64) {
        let request = RequestChatRequest {
            helpline: HELPLINE.to_owned(),
            request_id: format!("poison-{}-{n}", self.name),
            handoff: vec![0; 9 * 1024],
            ..RequestChatRequest::default()
        };
        let op = Op { request: request.request_id.clone(), ..self.begins("poison") };
        let (result, reason) = match answer(self.doors[self.door].request_chat(within(request))).await {
            Ok(_) => (Came::Ok, String::new()),
            Err(status) => came(&status),
        };
        self.ends(Op { result, reason, ..op });
    }

    async fn leaves(&mut self, key: &ChatKey) {
        for _ in 0..20 {
            let op = Op { chat: key.chat_id.clone(), ..self.begins("leave") };
            let request = LeaveChatRequest { key: Some(key.clone()), fallback_accepted: false };
            match answer(self.doors[self.door].leave_chat(within(request))).await {
                Ok(left) => return self.ends(shown(op, Came::Ok, &left.chat.unwrap_or_default())),
                Err(status) => {
                    let (result, reason) = came(&status);
                    self.ends(Op { result, reason, ..op });
                }
            }
            self.goes_on().await;
        }
    }

    /// Whether the chat has ended, or nobody knows of it.
    async fn resumes(&mut self, hold: &mut Hold) -> bool {
        let op = Op { chat: hold.key.chat_id.clone(), ..self.begins("look") };
        let (key, ticket) = (Some(hold.key.clone()), hold.ticket.clone());
        let request = ResumeChatRequest { key, ticket, ..ResumeChatRequest::default() };
        match answer(self.doors[self.door].resume_chat(within(request))).await {
            Ok(resumed) => {
                hold.keep(resumed.ticket);
                let chat = resumed.chat.unwrap_or_default();
                self.ends(shown(op, Came::Ok, &chat));
                chat.state() == ChatState::Ended
            }
            Err(status) => {
                let (result, reason) = came(&status);
                let unknown = reason == UNKNOWN_CHAT;
                self.ends(Op { result, reason, ..op });
                self.goes_on().await;
                unknown
            }
        }
    }

    /// Watches until the chat has ended, again over another stream when one breaks, or until a moment is over.
    async fn watches(&mut self, hold: &mut Hold, lasting: Duration) {
        let until = Instant::now() + lasting;
        while Instant::now() < until {
            if self.watches_once(hold, until).await {
                return;
            }
            self.goes_on().await;
        }
    }

    /// Whether the chat has ended, or nobody knows of it.
    async fn watches_once(&mut self, hold: &mut Hold, until: Instant) -> bool {
        let (key, ticket) = (hold.key.clone(), hold.ticket.clone());
        let message = WatchChatRequest { key: Some(key.clone()), ticket, ..WatchChatRequest::default() };
        // No deadline for the server: a stream lasts as long as the chat.
        let opened = timeout(PATIENCE, self.doors[self.door].watch_chat(message)).await;
        let mut stream = match opened {
            Ok(Ok(opened)) => opened.into_inner(),
            Ok(Err(status)) => return self.is_unknown(&status, &key),
            Err(_) => return false,
        };
        self.told("stream_open", &key.chat_id);
        loop {
            let message = match tokio::time::timeout_at(until, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Err(status)) => {
                    self.told("stream_end", &key.chat_id);
                    return self.is_unknown(&status, &key);
                }
                Ok(Ok(None)) | Err(_) => {
                    self.told("stream_end", &key.chat_id);
                    return false;
                }
            };
            match message.message {
                Some(Message::Update(update)) => {
                    hold.keep(update.ticket);
                    let chat = update.chat.unwrap_or_default();
                    if chat.state() == ChatState::Ended {
                        let (state, outcome) = (state(chat.state()), outcome(chat.outcome()));
                        let (client, what, chat) = (self.name.clone(), "update".to_owned(), key.chat_id.clone());
                        let told = Told { client, what, chat, state, outcome, ..Told::default() };
                        self.outside.recorder.told(told);
                        return true;
                    }
                }
                Some(Message::Drain(drain)) => {
                    let after = drain.reconnect_after.and_then(|d| d.try_into().ok());
                    self.told("stream_end", &key.chat_id);
                    sleep(after.unwrap_or_default()).await;
                    return false;
                }
                None => {}
            }
        }
    }

    /// The answer to somebody who watches: there is no such chat, and the ticket brings none back.
    fn is_unknown(&self, status: &Status, key: &ChatKey) -> bool {
        let unknown = came(status).1 == UNKNOWN_CHAT;
        if unknown {
            self.told("unknown", &key.chat_id);
        }
        unknown
    }

    /// How a chat stands, by its token, without changing anything.
    async fn looks(&mut self, key: &ChatKey) {
        for _ in 0..20 {
            let op = Op { chat: key.chat_id.clone(), ..self.begins("last_look") };
            let message = WatchChatRequest { key: Some(key.clone()), ..WatchChatRequest::default() };
            let opened = timeout(PATIENCE, self.doors[self.door].watch_chat(message)).await;
            let status = match opened {
                Ok(Ok(opened)) => match timeout(PATIENCE, opened.into_inner().message()).await {
                    Ok(Ok(Some(message))) => {
                        if let Some(Message::Update(update)) = message.message {
                            return self.ends(shown(op, Came::Ok, &update.chat.unwrap_or_default()));
                        }
                        continue;
                    }
                    Ok(Err(status)) => Some(status),
                    Ok(Ok(None)) | Err(_) => None,
                },
                Ok(Err(status)) => Some(status),
                Err(_) => None,
            };
            let (result, reason) = status.map_or((Came::Unknown, "no answer".to_owned()), |s| came(&s));
            let unknown = reason == UNKNOWN_CHAT;
            self.ends(Op { result, reason, ..op });
            if unknown {
                return;
            }
            self.goes_on().await;
        }
    }
}

fn shown(op: Op, result: Came, chat: &Chat) -> Op {
    let (state, outcome) = (state(chat.state()), outcome(chat.outcome()));
    Op { result, chat: chat.chat_id.clone(), state, outcome, ..op }
}
