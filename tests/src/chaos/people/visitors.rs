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
use tonic::transport::Channel;

/// A chat that takes longer is looked at no more by its visitor; the end of the run looks at all.
const ATTENTION: Duration = Duration::from_secs(300);

/// One device that asks for one chat after another, for one person each.
struct Device {
    outside: Outside,
    name: String,
    chance: SmallRng,
    doors: Vec<IntakeServiceClient<Channel>>,
    door: usize,
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
        let Some(key) = self.asks(n, VisitorPresence::Live).await else { return };
        match manner {
            Manner::Stays => self.watches(&key, ATTENTION).await,
            Manner::Vanishes => {}
            Manner::Leaves => {
                let moment = pause(&mut self.chance, 0, 250);
                self.watches(&key, moment).await;
                self.leaves(&key).await;
                self.watches(&key, ATTENTION).await;
            }
            Manner::Flickers => {
                let moment = pause(&mut self.chance, 0, 100);
                self.watches(&key, moment).await;
                sleep(pause(&mut self.chance, 50, 2_000)).await;
                self.watches(&key, ATTENTION).await;
            }
        }
    }

    async fn vouched(&mut self, n: u64) {
        let Some(key) = self.asks(n, VisitorPresence::Attested).await else { return };
        let until = Instant::now() + ATTENTION;
        let leaves = self.chance.random_bool(0.05);
        while Instant::now() < until {
            sleep(pause(&mut self.chance, 200, 800)).await;
            if leaves {
                self.leaves(&key).await;
            }
            if self.resumes(&key).await.is_some_and(|chat| chat.state() == ChatState::Ended) {
                return;
            }
        }
    }

    /// Asks until there is a chat, or until nobody asks any more and it is known that there is none.
    async fn asks(&mut self, n: u64, presence: VisitorPresence) -> Option<ChatKey> {
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
            let (result, key) = self.asks_once(&request).await;
            unknown |= result == Came::Unknown;
            if key.is_some() {
                if again {
                    self.goes_on().await;
                    self.asks_once(&request).await;
                }
                return key;
            }
            if !unknown && !self.outside.is_asking() {
                return None;
            }
            self.goes_on().await;
        }
    }

    async fn asks_once(&mut self, request: &RequestChatRequest) -> (Came, Option<ChatKey>) {
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
                (Came::Ok, Some(key))
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

    async fn resumes(&mut self, key: &ChatKey) -> Option<Chat> {
        let op = Op { chat: key.chat_id.clone(), ..self.begins("look") };
        let request = ResumeChatRequest { key: Some(key.clone()), ..ResumeChatRequest::default() };
        match answer(self.doors[self.door].resume_chat(within(request))).await {
            Ok(resumed) => {
                let chat = resumed.chat.unwrap_or_default();
                self.ends(shown(op, Came::Ok, &chat));
                Some(chat)
            }
            Err(status) => {
                let (result, reason) = came(&status);
                self.ends(Op { result, reason, ..op });
                self.goes_on().await;
                None
            }
        }
    }

    /// Watches until the chat has ended, again over another stream when one breaks, or until a moment is over.
    async fn watches(&mut self, key: &ChatKey, lasting: Duration) {
        let until = Instant::now() + lasting;
        while Instant::now() < until {
            if self.watches_once(key, until).await {
                return;
            }
            self.goes_on().await;
        }
    }

    /// Whether the chat has ended.
    async fn watches_once(&mut self, key: &ChatKey, until: Instant) -> bool {
        let message = WatchChatRequest { key: Some(key.clone()), ..WatchChatRequest::default() };
        // No deadline for the server: a stream lasts as long as the chat.
        let opened = timeout(PATIENCE, self.doors[self.door].watch_chat(message)).await;
        let Ok(Ok(opened)) = opened else { return false };
        let mut stream = opened.into_inner();
        self.told("stream_open", &key.chat_id);
        loop {
            let message = tokio::time::timeout_at(until, stream.message()).await;
            let Ok(Ok(Some(message))) = message else {
                self.told("stream_end", &key.chat_id);
                return false;
            };
            match message.message {
                Some(Message::Update(update)) => {
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
            self.ends(Op { result, reason, ..op });
            self.goes_on().await;
        }
    }
}

fn shown(op: Op, result: Came, chat: &Chat) -> Op {
    let (state, outcome) = (state(chat.state()), outcome(chat.outcome()));
    Op { result, chat: chat.chat_id.clone(), state, outcome, ..op }
}
