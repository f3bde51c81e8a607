//! Some helplines that help each other out, a clock that the test moves, and couriers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use holdfast_domain::{
    Applied, Chat, ChatId, ChatState, Command, EndedAs, EventKind, Fence, HelplineId, OfferId, Policy, Reply,
    Request, ResponderId, Snapshot, Step, SubjectDigest, TokenHash, Urgency, ids::DigestHex, invariants::broken,
};
use holdfast_queue::{
    overflow::{Courier, Ended, Errand},
    store::{Store, memory::MemoryStore},
};

const START_MS: u64 = 1_800_000_000_000;
/// How far time moves at once.
const STEP_MS: u64 = 100;

/// A store of lines whose time is given.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    set_time: Box<dyn Fn(u64) + Send + Sync>,
    wall_ms: AtomicU64,
    places: AtomicUsize,
}

impl World {
    /// On a store that reads the time which `set_time` sets.
    pub(crate) fn new(store: Arc<dyn Store>, set_time: Box<dyn Fn(u64) + Send + Sync>) -> Self {
        set_time(START_MS);
        Self { store, set_time, wall_ms: AtomicU64::new(START_MS), places: AtomicUsize::new(0) }
    }

    pub(crate) fn on_memory() -> Self {
        let wall_ms = Arc::new(AtomicU64::new(START_MS));
        let clock = Arc::clone(&wall_ms);
        let store = MemoryStore::new(Box::new(move || clock.load(Ordering::Relaxed)), 7, "first".to_owned());
        Self::new(Arc::new(store), Box::new(move |ms| wall_ms.store(ms, Ordering::Relaxed)))
    }

    fn pass(&self) {
        let now = self.wall_ms.fetch_add(STEP_MS, Ordering::Relaxed) + STEP_MS;
        (self.set_time)(now);
    }

    /// A north that overflows to a south and then to a west, which nobody in the store has been before.
    pub(crate) async fn place(&self) -> Place<'_> {
        self.place_with(|_| {}, |_| {}, |_| {}).await
    }

    pub(crate) async fn place_with(
        &self,
        north: impl FnOnce(&mut Policy),
        south: impl FnOnce(&mut Policy),
        west: impl FnOnce(&mut Policy),
    ) -> Place<'_> {
        let n = self.places.fetch_add(1, Ordering::Relaxed);
        let [at_north, at_south, at_west] =
            ["north", "south", "west"].map(|name| helpline(&format!("{name}-{n}")));
        let place = Place { world: self, north: at_north, south: at_south, west: at_west };
        let mut policies =
            [NORTH, SOUTH, WEST].map(|text| Policy::from_toml(&text.replace('#', &n.to_string())).unwrap());
        let [a, b, c] = &mut policies;
        north(a);
        south(b);
        west(c);
        for policy in policies {
            let at = helpline(&policy.helpline);
            place.ok(&at, &Command::SetPolicy { policy: Box::new(policy), expected: 0, by: None }).await;
        }
        place
    }
}

const NORTH: &str = r#"
helpline = "north-#"
name = "North"
partners = [{ helpline = "south-#" }, { helpline = "west-#" }]
tags = [{ name = "lang:en" }, { name = "lang:es" }, { name = "skill:minors", levels = 3 }, { name = "centre:north" },
    { name = "topic:loss" }, { name = "topic:work" }]
[numbers]
overflow_after_ms = [1000, 1000, 1000, 1000]
overflow_answer_ms = 3000
overflow_retry_ms = 5000
retention_ms = 60000
"#;

/// Other tags, in another order.
const SOUTH: &str = r#"
helpline = "south-#"
name = "South"
takes_from = [{ helpline = "north-#" }]
tags = [{ name = "topic:loss", levels = 2 }, { name = "skill:minors", levels = 2 }, { name = "lang:es" }]
"#;

const WEST: &str = r#"
helpline = "west-#"
name = "West"
takes_from = [{ helpline = "north-#" }]
"#;

/// Three helplines of their own.
pub(crate) struct Place<'a> {
    pub(crate) world: &'a World,
    pub(crate) north: HelplineId,
    pub(crate) south: HelplineId,
    pub(crate) west: HelplineId,
}

impl Place<'_> {
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.world.store
    }

    pub(crate) fn all(&self) -> [&HelplineId; 3] {
        [&self.north, &self.south, &self.west]
    }

    pub(crate) fn courier(&self) -> Courier {
        Courier::between(Arc::clone(self.store()))
    }

    pub(crate) async fn apply(&self, at: &HelplineId, command: &Command) -> Applied {
        self.store().execute(at, command).await.unwrap()
    }

    pub(crate) async fn ok(&self, at: &HelplineId, command: &Command) -> Reply {
        self.apply(at, command).await.reply.unwrap_or_else(|r| panic!("{command:?} was refused: {r:?}"))
    }

    pub(crate) async fn chat(&self, at: &HelplineId, id: &ChatId) -> Option<Chat> {
        self.store().chat(at, id).await.unwrap()
    }

    pub(crate) async fn state(&self, at: &HelplineId, id: &ChatId) -> Option<ChatState> {
        self.chat(at, id).await.map(|chat| chat.state)
    }

    pub(crate) async fn outcome(&self, at: &HelplineId, id: &ChatId) -> Option<EndedAs> {
        self.chat(at, id).await.and_then(|chat| chat.ended).map(|(outcome, _)| outcome)
    }

    pub(crate) async fn snapshot(&self, at: &HelplineId) -> Snapshot {
        self.store().snapshot(at).await.unwrap()
    }

    /// Somebody comes to the north.
    pub(crate) async fn request(&self, id: &str) -> ChatId {
        let request = request(id);
        self.ok(&self.north, &Command::Request(Box::new(request.clone()))).await;
        request.chat
    }

    /// Signs somebody in, ready for five chats.
    pub(crate) async fn sign_in(&self, at: &HelplineId, name: &str) -> u64 {
        let responder = responder(name);
        let policy = self.store().policy(at).await.unwrap().unwrap();
        let every: Vec<(&str, u32)> = policy.tags.iter().map(|t| (t.name.as_str(), u32::from(t.levels))).collect();
        let (capabilities, scarce) = policy.capabilities("can", &every).unwrap();
        let command = Command::SignIn {
            responder,
            capabilities,
            scarce,
            opt_out: Default::default(),
            shift_ms: 0,
            capacity: 5,
            ready: true,
            revision: policy.revision,
        };
        match self.ok(at, &command).await {
            Reply::Responder { session, .. } => session,
            other => panic!("not a session: {other:?}"),
        }
    }

    /// Accepts the chat that is offered to somebody.
    pub(crate) async fn accept(&self, at: &HelplineId, name: &str, session: u64, id: &ChatId) -> Option<Fence> {
        let responder = responder(name);
        let number = self.chat(at, id).await?.offer_to(&responder)?.number;
        let offer = OfferId { chat: id.clone(), number };
        let command = Command::Accept { responder, session, offer, reply_handoff: Vec::new() };
        match self.ok(at, &command).await {
            Reply::Accepted { fence, .. } => Some(fence),
            other => panic!("not an assignment: {other:?}"),
        }
    }

    pub(crate) async fn leave(&self, at: &HelplineId, id: &ChatId) {
        self.ok(at, &Command::Leave { chat: id.clone(), token: TokenHash([9; 32]), fallback: false }).await;
    }

    /// Lets a moment pass everywhere, and returns the errands that the lines ask for.
    pub(crate) async fn moment(&self) -> Vec<Errand> {
        self.world.pass();
        let mut errands = Vec::new();
        for at in self.all() {
            let applied = self.apply(at, &Command::Tick { by: digest("aa"), limit: 100 }).await;
            errands.extend(applied.events.iter().filter_map(|event| Errand::of(at, event)));
        }
        errands
    }

    /// Lets time pass until a line asks for an errand.
    pub(crate) async fn next_errand(&self) -> Errand {
        for _ in 0..1000 {
            if let Some(errand) = self.moment().await.into_iter().next() {
                return errand;
            }
        }
        panic!("no errand for a long time")
    }

    /// Lets time pass with a courier who lives.
    pub(crate) async fn live_for(&self, ms: u64) -> Vec<Ended> {
        let courier = self.courier();
        let mut ended = Vec::new();
        for _ in 0..ms / STEP_MS {
            for errand in self.moment().await {
                ended.push(courier.go(&errand).await.unwrap());
            }
        }
        ended
    }

    /// In how many lines the chat stands or is talked about, and whether somebody holds it.
    pub(crate) async fn whereabouts(&self, id: &ChatId) -> (usize, bool) {
        let (mut lines, mut held) = (0, false);
        for at in self.all() {
            match self.state(at, id).await {
                Some(ChatState::Waiting | ChatState::Offered | ChatState::Active) => lines += 1,
                Some(ChatState::Held) => held = true,
                Some(ChatState::Ended) | None => {}
            }
        }
        (lines, held)
    }

    /// Nobody stands in two lines, and nobody who has not gone in none.
    pub(crate) async fn is_somewhere_once(&self, id: &ChatId) {
        let (lines, held) = self.whereabouts(id).await;
        assert!(lines <= 1, "{id} is in {lines} lines");
        assert!(lines == 1 || held, "{id} is lost");
    }

    /// What must hold once everybody has heard of everything.
    pub(crate) async fn is_settled(&self) {
        for at in self.all() {
            let line = self.snapshot(at).await;
            assert_eq!(broken(&line), Vec::<String>::new(), "at {at}");
            let held: Vec<_> = line.chats.values().filter(|c| c.state == ChatState::Held).map(|c| &c.id).collect();
            assert!(held.is_empty(), "{held:?} are held for ever at {at}");
            let waits_for_holding = line.timers.iter().any(|(_, name)| name.starts_with("hold:"));
            assert!(!waits_for_holding, "a hold is asked about at {at}");
        }
    }

    /// The kinds of the last events there.
    pub(crate) async fn kinds(&self, at: &HelplineId) -> Vec<EventKind> {
        let events = self.store().events(at, &Default::default(), 1000).await.unwrap();
        events.into_iter().map(|placed| placed.event.kind).collect()
    }
}

/// A request at the north, for somebody of its centre who speaks Spanish, then for anyone who does.
pub(crate) fn request(id: &str) -> Request {
    let north = Policy::from_toml(NORTH.replace('#', "0").as_str()).unwrap();
    let need = |any_of: &[&[(&str, u32)]]| {
        let any_of: Vec<Vec<(&str, u32)>> = any_of.iter().map(|all_of| all_of.to_vec()).collect();
        north.requirement("need", &any_of).unwrap()
    };
    let steps = vec![
        Step::new(0, need(&[&[("lang:es", 1), ("centre:north", 1)]])),
        Step::new(30_000, need(&[&[("lang:es", 1), ("skill:minors", 3)]])),
    ];
    let topics = north.capabilities("topics", &[("topic:loss", 1), ("topic:work", 1)]).unwrap().0;
    let hex: String = id.bytes().map(|byte| format!("{byte:02x}")).collect();
    Request {
        chat: ChatId::parse(id).unwrap(),
        request_key: digest(&hex),
        body: digest("b0"),
        token: TokenHash([9; 32]),
        urgency: Urgency::High,
        steps: north.ladder("steps", steps).unwrap(),
        topics,
        excluded: vec![responder("mallory")],
        revision: 1,
        attested: true,
        resources_seen: false,
        solved_bits: 0,
        overflow_now: false,
        handoff: b"sealed".to_vec(),
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        subject: Some(SubjectDigest([5; 16])),
        came_by: None,
    }
}

pub(crate) fn helpline(name: &str) -> HelplineId {
    HelplineId::parse(name).unwrap()
}

pub(crate) fn responder(name: &str) -> ResponderId {
    ResponderId::parse(name).unwrap()
}

pub(crate) fn digest(hex: &str) -> DigestHex {
    DigestHex::parse(hex).unwrap()
}
