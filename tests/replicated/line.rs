//! A helpline in a store with replicas, and short words for what people do there.

use holdfast_domain::ids::DigestHex;
use holdfast_domain::policy::Numbers;
use holdfast_domain::{
    ChatId, Command, Fence, HelplineId, Mask, OfferId, Policy, Reply, Request, Requirement, ResponderId, Step,
    TokenHash, Urgency,
};
use holdfast_queue::store::redis::{RedisSettings, RedisStore};
use holdfast_queue::store::{Acknowledged, Persistence, Store, StoreError};
use holdfast_tests::redis_sentinel::{PRIMARY_NAME, RedisSentinel};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longer than anything takes that works, on a slow machine too.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Somebody who may or may not know that the primary has changed.
pub struct Line {
    pub store: RedisStore,
    pub helpline: HelplineId,
}

/// A store that follows the group's primary, and gives no word that one replica has not heard.
pub fn following(group: &RedisSentinel) -> RedisSettings {
    RedisSettings {
        sentinels: group.sentinel_urls(),
        primary_name: PRIMARY_NAME.to_owned(),
        ..careful(vec![group.nodes[0].service_url()])
    }
}

/// A store at these addresses that gives no word that one replica has not heard.
pub fn careful(urls: Vec<String>) -> RedisSettings {
    RedisSettings {
        response_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(1),
        replicas_required: 1,
        floor_persistence: Persistence::Fsynced,
        floor_replicas: 1,
        ..RedisSettings::at(urls)
    }
}

impl Line {
    /// A helpline with its policy in force.
    pub async fn open(settings: &RedisSettings, helpline: &str) -> Self {
        let line = Self::at(settings, helpline).await;
        let policy = policy(helpline);
        let set = Command::SetPolicy { policy: Box::new(policy), expected: 0, by: None };
        line.at_last(&set).await;
        line
    }

    /// The same helpline by a store of its own.
    pub async fn at(settings: &RedisSettings, helpline: &str) -> Self {
        let store = RedisStore::connect(settings).await.expect("a store");
        Self { store, helpline: HelplineId::parse(helpline).expect("a name") }
    }

    pub async fn ask(&self, command: &Command) -> Result<Acknowledged, StoreError> {
        self.store.acknowledge(&self.helpline, command).await
    }

    /// Asks, again with the same key while nobody can say what became of it.
    pub async fn at_last(&self, command: &Command) -> Acknowledged {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.ask(command).await {
                Ok(acknowledged) => return acknowledged,
                Err(error) => assert!(Instant::now() < until, "{command:?}: {error}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Signs somebody in for so many chats; their session.
    pub async fn sign_in(&self, name: &str, capacity: u32) -> u64 {
        match self.at_last(&sign_in(name, capacity)).await.applied.reply.expect("a session") {
            Reply::Responder { session, .. } => session,
            other => panic!("not a session: {other:?}"),
        }
    }

    pub async fn request(&self, n: u32) -> Acknowledged {
        self.at_last(&request(n)).await
    }
}

/// Nothing ends by itself while a test looks the other way.
pub fn policy(helpline: &str) -> Policy {
    let numbers = Numbers {
        max_waiting: 100_000,
        offer_deadline_ms: 120_000,
        presence_lease_ms: 120_000,
        wrap_up_ms: [0; 4],
        cool_down_ms: [0; 4],
        weight: [1; 4],
        first_reply_ms: 0,
        ..Numbers::default()
    };
    Policy { helpline: helpline.to_owned(), name: helpline.to_owned(), numbers, ..Policy::default() }
}

/// A chat for anyone.
pub fn request(n: u32) -> Command {
    Command::Request(Box::new(Request {
        chat: chat(n),
        request_key: digest(&format!("a{n:04x}")),
        body: digest("b0"),
        token: TokenHash([7; 32]),
        urgency: Urgency::Moderate,
        steps: vec![Step::new(0, Requirement::anyone())],
        topics: Mask::default(),
        excluded: Vec::new(),
        revision: 1,
        attested: true,
        resources_seen: false,
        solved_bits: 0,
        overflow_now: false,
        handoff: vec![1, 0, 255],
        trace: String::new(),
        subject: None,
        came_by: None,
    }))
}

pub fn sign_in(name: &str, capacity: u32) -> Command {
    Command::SignIn {
        responder: responder(name),
        capabilities: Mask::default(),
        scarce: 0,
        opt_out: Mask::default(),
        shift_ms: 0,
        capacity,
        ready: true,
        revision: 1,
    }
}

pub fn heartbeat(name: &str, session: u64) -> Command {
    Command::Heartbeat { responder: responder(name), session }
}

pub fn accept(name: &str, session: u64, n: u32) -> Command {
    let offer = OfferId { chat: chat(n), number: 1 };
    Command::Accept { responder: responder(name), session, offer, reply_handoff: Vec::new() }
}

/// The fence of an assignment that was given.
pub fn fence(acknowledged: &Acknowledged) -> Option<Fence> {
    match &acknowledged.applied.reply {
        Ok(Reply::Accepted { fence, .. }) => Some(*fence),
        _ => None,
    }
}

pub fn chat(n: u32) -> ChatId {
    ChatId::parse(&format!("chat-{n}")).expect("a name")
}

pub fn responder(name: &str) -> ResponderId {
    ResponderId::parse(name).expect("a name")
}

pub fn digest(hex: &str) -> DigestHex {
    DigestHex::parse(hex).expect("a digest")
}

/// What people may say twice about a chat that `name` has, in an order in which each takes effect once.
pub async fn all_that_can_be_repeated(
    name: &str,
    session: u64,
    store: &RedisStore,
    helpline: &HelplineId,
) -> Vec<Command> {
    let _ = store.execute(helpline, &request(1)).await.expect("an answer");
    let applied = store.execute(helpline, &accept(name, session, 1)).await.expect("an answer");
    let Ok(Reply::Accepted { fence, .. }) = applied.reply else {
        panic!("not an assignment: {applied:?}");
    };
    let (responder, chat, token) = (responder(name), chat(1), TokenHash([7; 32]));
    vec![
        Command::Engage { responder: responder.clone(), session, chat: chat.clone(), fence },
        Command::ExtendCoolDown { responder: responder.clone(), session, for_ms: 1_000 },
        Command::Beat { chat: chat.clone(), token },
        Command::Transfer { responder: responder.clone(), session, chat: chat.clone(), fence },
        Command::Close { responder: responder.clone(), session, chat: chat.clone(), fence },
        Command::Leave { chat: chat.clone(), token, fallback: false },
        Command::Resume { chat: chat.clone(), token },
        Command::Erase { chat, token },
        Command::SetStatus { responder: responder.clone(), session, status: holdfast_domain::Status::OnBreak },
        Command::SignOut { responder, session },
        Command::Tick { by: digest("aa"), limit: 10 },
    ]
}
