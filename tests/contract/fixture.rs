//! A store with a policy, a clock that the test moves, and short words for the usual commands.

use holdfast_domain::histories;
use holdfast_domain::ids::DigestHex;
use holdfast_domain::{
    Applied, Chat, ChatId, Command, EventKind, Fence, HelplineId, Mask, OfferId, Policy, Refusal, Reply, Request,
    ResponderId, Snapshot, Step, TokenHash, Urgency,
};
use holdfast_queue::store::Store;
use holdfast_queue::store::memory::MemoryStore;
use holdfast_queue::store::redis::{RedisSettings, RedisStore};
use holdfast_tests::redis_server::as_operator;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const START_MS: u64 = 1_800_000_000_000;

/// What commands are played on.
pub struct Fixture {
    pub store: Arc<dyn Store>,
    pub helpline: HelplineId,
    pub policy: Policy,
    wall_ms: Arc<AtomicU64>,
    given: Option<Arc<RedisStore>>,
    urls: Vec<String>,
    memory: Option<Arc<MemoryStore>>,
    /// A cluster has no one place to look for keys, so only single stores are looked at whole.
    is_whole: bool,
}

/// How to reach a test's Redis.
pub fn settings(urls: Vec<String>, cluster: bool) -> RedisSettings {
    RedisSettings {
        cluster,
        response_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..RedisSettings::at(urls)
    }
}

impl Fixture {
    pub async fn on_memory() -> Self {
        let wall_ms = Arc::new(AtomicU64::new(START_MS));
        let clock = Arc::clone(&wall_ms);
        let store = MemoryStore::new(Box::new(move || clock.load(Ordering::Relaxed)), 7, "first".to_owned());
        let store = Arc::new(store);
        Self { memory: Some(store.clone()), ..Self::with(store, wall_ms, None) }
    }

    pub async fn on_redis(urls: Vec<String>, cluster: bool) -> Self {
        let settings = settings(urls.clone(), cluster);
        let store = RedisStore::connect_with_given_time(&settings).await.expect("a store");
        store.set_life("first");
        let store = Arc::new(store);
        let is_whole = !cluster;
        Self { urls, is_whole, ..Self::with(store.clone(), Arc::new(AtomicU64::new(START_MS)), Some(store)) }
    }

    fn with(store: Arc<dyn Store>, wall_ms: Arc<AtomicU64>, given: Option<Arc<RedisStore>>) -> Self {
        let helpline = HelplineId::parse("test").expect("a name");
        let mut policy = histories::policy(0);
        policy.numbers.first_reply_ms = 0;
        Self { store, helpline, policy, wall_ms, given, urls: Vec::new(), memory: None, is_whole: true }
    }

    /// The same on another helpline.
    pub fn at_helpline(mut self, name: &str) -> Self {
        self.helpline = HelplineId::parse(name).expect("a name");
        self
    }

    /// With its policy in force.
    pub async fn ready(self) -> Self {
        let policy = Box::new(self.policy.clone());
        self.ok(&Command::SetPolicy { policy, expected: 0, by: None }).await;
        self
    }

    /// All that the store has of the line, where it can be looked at whole.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        if !self.is_whole {
            return None;
        }
        Some(self.store.snapshot(&self.helpline).await.expect("a line that can be read whole"))
    }

    /// The store loses this helpline's line.
    pub async fn wipe(&self) {
        if let Some(memory) = &self.memory {
            memory.lose_everything();
        }
        if let Some(given) = &self.given {
            given.set_life("second");
        }
        for url in &self.urls {
            let client = redis::Client::open(as_operator(url)).expect("an address");
            let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
            let pattern = format!("hf:\\{{{}\\}}:*", self.helpline);
            let keys: Vec<String> =
                redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await.expect("keys");
            if !keys.is_empty() {
                // A replica answers that it only reads; its primary is asked too.
                let _: Result<u64, _> = redis::cmd("DEL").arg(&keys).query_async(&mut connection).await;
            }
        }
    }

    /// Counts so many blocks in force that are not there otherwise, in a real store; to ask for each would take long.
    /// Whether there is one.
    pub async fn count_as_blocks(&self, blocks: usize) -> bool {
        let key = format!("hf:{{{}}}:blocks", self.helpline);
        let members: Vec<(u8, String)> = (0..blocks).map(|n| (0, format!("full-{n}"))).collect();
        for url in &self.urls {
            let client = redis::Client::open(as_operator(url)).expect("an address");
            let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
            // Of a cluster, one node has the key.
            let _: Result<u64, _> = redis::cmd("ZADD").arg(&key).arg(&members).query_async(&mut connection).await;
        }
        !self.urls.is_empty()
    }

    /// Lets time pass, a second at most, as the service clock would.
    pub fn pass(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub async fn apply(&self, command: &Command) -> Applied {
        if let Some(store) = &self.given {
            store.set_time(self.wall_ms.load(Ordering::Relaxed));
        }
        self.store.execute(&self.helpline, command).await.expect("a store that answers")
    }

    pub async fn ok(&self, command: &Command) -> Reply {
        self.apply(command).await.reply.unwrap_or_else(|r| panic!("{command:?} was refused: {r:?}"))
    }

    pub async fn refused(&self, command: &Command) -> Refusal {
        self.apply(command).await.reply.expect_err("a refusal")
    }

    /// Lets time pass in small steps and ticks, until `ms` have passed.
    pub async fn tick_for(&self, ms: u64) -> Vec<EventKind> {
        let mut kinds = Vec::new();
        for _ in 0..ms.div_ceil(100) {
            self.pass(100);
            let applied = self.apply(&Command::Tick { by: digest("aa"), limit: 100 }).await;
            kinds.extend(applied.events.iter().map(|e| e.kind));
        }
        kinds
    }

    pub fn request(&self, n: u8, urgency: Urgency, need: &[(&str, u32)]) -> Request {
        let requirement = self.policy.requirement("need", &[need.to_vec()]).expect("known tags");
        Request {
            chat: chat(n),
            request_key: digest(&format!("a{n:02x}")),
            body: digest("b0"),
            token: token(n),
            urgency,
            steps: vec![Step::new(0, requirement)],
            topics: Mask::default(),
            excluded: Vec::new(),
            revision: 1,
            attested: true,
            resources_seen: false,
            solved_bits: 0,
            overflow_now: false,
            handoff: vec![n, 0, 255],
            trace: String::new(),
            subject: None,
            came_by: None,
        }
    }

    /// A chat for anyone.
    pub async fn ask(&self, n: u8, urgency: Urgency) -> Applied {
        self.apply(&Command::Request(Box::new(self.request(n, urgency, &[])))).await
    }

    pub fn sign_in_command(&self, name: &str, can: &[(&str, u32)], capacity: u32, revision: u64) -> Command {
        let (capabilities, scarce) = self.policy.capabilities("can", can).expect("known tags");
        Command::SignIn {
            responder: responder(name),
            capabilities,
            scarce,
            opt_out: Mask::default(),
            shift_ms: 0,
            capacity,
            ready: true,
            revision,
        }
    }

    /// Signs somebody in, ready, and returns the session.
    pub async fn sign_in(&self, name: &str, can: &[(&str, u32)], capacity: u32) -> u64 {
        match self.ok(&self.sign_in_command(name, can, capacity, 1)).await {
            Reply::Responder { session, .. } => session,
            other => panic!("not a session: {other:?}"),
        }
    }

    /// Signs somebody in with something of their own.
    pub async fn sign_in_as(&self, name: &str, capacity: u32, change: impl FnOnce(&mut Command)) {
        let mut command = self.sign_in_command(name, &[], capacity, 1);
        change(&mut command);
        self.ok(&command).await;
    }

    pub async fn chat(&self, n: u8) -> Chat {
        self.store.chat(&self.helpline, &chat(n)).await.expect("a store").expect("a chat")
    }

    /// To whom a chat is offered, in order of the offers.
    pub async fn offered_to(&self, n: u8) -> Vec<String> {
        self.chat(n).await.offers.iter().map(|o| o.responder.to_string()).collect()
    }

    /// Since when somebody calls a supervisor, one moment for each chat that they call to.
    pub async fn called_by(&self, name: &str) -> Vec<u64> {
        let view = self.store.responder(&self.helpline, &responder(name)).await.expect("a store");
        let holdings = view.expect("a responder").responder.holdings;
        holdings.iter().map(|held| held.called_ms).filter(|at| *at > 0).collect()
    }

    pub fn accept(&self, name: &str, session: u64, n: u8, number: u32) -> Command {
        let offer = OfferId { chat: chat(n), number };
        Command::Accept { responder: responder(name), session, offer, reply_handoff: vec![9] }
    }

    pub async fn accepted(&self, name: &str, session: u64, n: u8, number: u32) -> Fence {
        match self.ok(&self.accept(name, session, n, number)).await {
            Reply::Accepted { fence, .. } => fence,
            other => panic!("not an assignment: {other:?}"),
        }
    }

    pub fn close(&self, name: &str, session: u64, n: u8, fence: Fence) -> Command {
        Command::Close { responder: responder(name), session, chat: chat(n), fence }
    }
}

pub fn chat(n: u8) -> ChatId {
    ChatId::parse(&format!("chat-{n}")).expect("a name")
}

pub fn responder(name: &str) -> ResponderId {
    ResponderId::parse(name).expect("a name")
}

pub fn digest(hex: &str) -> DigestHex {
    DigestHex::parse(hex).expect("a digest")
}

pub fn token(n: u8) -> TokenHash {
    TokenHash([n; 32])
}
