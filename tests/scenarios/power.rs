//! The power is cut under the store while visitors ask, and volunteers take chats and end them: what its kernel had and
//! its disk had not is gone. Whoever was given a word must find it kept in what is left, before any client comes back who
//! could help with a ticket.

use futures::{StreamExt, TryStreamExt, stream};
use holdfast_domain::invariants::broken;
use holdfast_domain::policy::Numbers;
use holdfast_domain::{Chat, ChatId, ChatState, Fence, HelplineId};
use holdfast_proto::v1::durability::Persistence;
use holdfast_proto::v1::{
    ActionResult, Assignment, Durability, Offer, RequestChatResponse, SessionResponse, session_response,
};
use holdfast_queue::store::Store;
use holdfast_queue::store::redis::{RedisSettings, RedisStore};
use holdfast_tests::chaos::seed;
use holdfast_tests::chaos::shim::Shim;
use holdfast_tests::people::{Responder, Visitor, close};
use holdfast_tests::processes::{Deployment, HELPLINE, PATIENCE, Setup, free_port, numbers};
use holdfast_tests::redis_server::{RedisServer, as_reader};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::failure::unknown;

/// All that was ever said is read again after each cut; with so many cuts behind it a store is replaced.
const CUTS_AN_EVENING: u32 = 20;
const CUTS_IN_SHORT: u32 = 5;
const CUTS_IN_LONG: u32 = 200;

const VISITORS: usize = 8;
const VOLUNTEERS: usize = 8;

/// Before somebody tries again.
const A_MOMENT: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_given_a_word_finds_it_kept_after_a_power_cut() {
    power_is_cut(CUTS_IN_SHORT).await;
}

/// The whole programme. A part of it: HOLDFAST_CUTS=40.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: 200 power cuts"]
async fn two_hundred_power_cuts_take_nothing_that_was_acknowledged() {
    let cuts = std::env::var("HOLDFAST_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(CUTS_IN_LONG);
    power_is_cut(cuts).await;
}

/// The same people and the same cut, so it could have been noticed above; and nobody was told that it was on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_words_where_the_log_is_on_the_disk_only_every_second_and_none_of_them_claimed_more() {
    let Some(mut evening) = Evening::begin("everysec", "async").await else { return };
    // Most of a second before the next fsync.
    let cut = Cut { after: Duration::ZERO, disk_slow: Duration::ZERO, rewrites: false, keeps_some: false };

    let left = evening.cut(cut, &mut SmallRng::seed_from_u64(1)).await;

    let told = lock(&evening.told);
    println!("every second: {} of {} chats lost, {} bytes", left.missing.len(), told.chats.len(), left.bytes_gone);
    assert!(left.bytes_gone > 0 && !left.missing.is_empty(), "nothing was lost of {} chats", told.chats.len());
    assert!(!told.claims.contains(&Persistence::Fsynced), "a word claimed what was not true");
}

async fn power_is_cut(cuts: u32) {
    let seed = seed();
    println!("HOLDFAST_SEED={seed} draws the same cuts again");
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut all = Sum::default();
    while all.cuts < cuts {
        let Some(mut evening) = Evening::begin("always", "fsynced").await else { return };
        for _ in 0..CUTS_AN_EVENING.min(cuts - all.cuts) {
            let left = evening.cut(Cut::drawn(all.cuts + 1, &mut chance), &mut chance).await;
            all.cuts += 1;
            all.torn += u32::from(left.bytes_gone > 0);
            assert!(left.missing.is_empty(), "HOLDFAST_SEED={seed}, cut {}: {:?}", all.cuts, left.missing);
        }
        evening.ends_well().await;
        all.add(&lock(&evening.told));
        println!("{all:?}");
    }
    assert!(all.taken > 0 && all.torn > 0, "nothing was at stake: {all:?}");
}

/// What was at stake.
#[derive(Debug, Default)]
struct Sum {
    cuts: u32,
    /// Cuts that took bytes from the log.
    torn: u32,
    chats: usize,
    taken: usize,
    ended: usize,
}

impl Sum {
    fn add(&mut self, told: &Told) {
        self.chats += told.chats.len();
        self.taken += told.taken.len();
        self.ended += told.taken.values().filter(|taken| taken.end == End::Told).count();
    }
}

/// How the power is cut.
struct Cut {
    /// So long after an fsync and some words more, while people go on.
    after: Duration,
    /// So much longer the disk takes for each fsync; then the cut waits until one goes on.
    disk_slow: Duration,
    /// The log is being rewritten.
    rewrites: bool,
    /// The kernel had brought some of what was not synchronized to the disk by itself.
    keeps_some: bool,
}

impl Cut {
    /// The `n`-th.
    fn drawn(n: u32, chance: &mut SmallRng) -> Self {
        let slow = [0, 10, 30][n as usize % 3];
        Self {
            after: Duration::from_millis(chance.random_range(0..600)),
            disk_slow: Duration::from_millis(slow),
            rewrites: chance.random_bool(0.3),
            keeps_some: chance.random_bool(0.5),
        }
    }
}

/// What a cut has left.
struct Left {
    bytes_gone: u64,
    /// What people were told and is not so.
    missing: Vec<String>,
}

/// A deployment whose store may lose its power, and the people at it.
struct Evening {
    _house: Deployment,
    redis: RedisServer,
    shim: Shim,
    devices: Vec<Device>,
    volunteers: Vec<Volunteer>,
    told: Arc<Mutex<Told>>,
    _dir: TempDir,
}

impl Evening {
    /// `None` where no library can be put in front of the system's.
    async fn begin(appendfsync: &str, floor: &str) -> Option<Self> {
        let dir = TempDir::new().expect("a temporary directory");
        let Some(shim) = Shim::build(dir.path()) else {
            println!("power cannot be cut here: this needs Linux and a C compiler");
            return None;
        };
        let settings = ["--appendonly", "yes", "--appendfsync", appendfsync, "--maxmemory-policy", "noeviction"];
        let redis = RedisServer::start_at_with(free_port(), &settings, &shim.environment());
        let queue_settings =
            vec![("STORE__REDIS_URLS", redis.service_url()), ("STORE__FLOOR_PERSISTENCE", floor.to_owned())];
        let house = Deployment::start(Setup { queue_settings, numbers: calm(), ..Setup::default() }).await;
        let (mut devices, mut volunteers) = (Vec::new(), Vec::new());
        for _ in 0..VISITORS {
            devices.push(Device::of(house.visitor().await));
        }
        for n in 0..VOLUNTEERS {
            volunteers.push(Volunteer::at(&house, n).await);
        }
        Some(Self { _house: house, redis, shim, devices, volunteers, told: Arc::default(), _dir: dir })
    }

    /// People ask, take and end chats, and in the middle of it the power is cut. Then it is looked what is left, before
    /// anybody else can; then everything goes on.
    async fn cut(&mut self, cut: Cut, chance: &mut SmallRng) -> Left {
        self.shim.set_disk_slow(cut.disk_slow);
        let paused = Arc::new(AtomicBool::new(false));
        let (mut asking, mut working) = (JoinSet::new(), JoinSet::new());
        for device in self.devices.drain(..) {
            asking.spawn(device.asks_until(paused.clone(), self.told.clone()));
        }
        for volunteer in self.volunteers.drain(..) {
            working.spawn(volunteer.works_until(paused.clone(), self.told.clone()));
        }
        self.next_fsync().await;
        self.words_are_given().await;
        if cut.rewrites {
            sleep(cut.after / 2).await;
            self.begins_to_rewrite().await;
            sleep(cut.after / 2).await;
        } else {
            sleep(cut.after).await;
        }
        if !cut.disk_slow.is_zero() {
            self.something_is_on_its_way().await;
        }

        self.redis.kill();
        let kept = |bytes: u64| if cut.keeps_some { chance.random_range(0..=bytes) } else { 0 };
        let bytes_gone = self.shim.cut_power(self.redis.dir(), kept);

        paused.store(true, Ordering::Relaxed);
        self.devices = asking.join_all().await;
        self.volunteers = working.join_all().await;
        self.shim.set_disk_slow(Duration::ZERO);
        let missing = self.missing().await;
        self.redis.start_again();
        Left { bytes_gone, missing }
    }

    /// Waits until more have heard than may have been on their way.
    async fn words_are_given(&self) {
        let given = || lock(&self.told).chats.len();
        let (enough, until) = (given() + 2 * VISITORS, Instant::now() + PATIENCE);
        while given() < enough {
            assert!(Instant::now() < until, "nobody is given a word");
            sleep(LOOK_EVERY).await;
        }
    }

    async fn next_fsync(&self) {
        let before = self.shim.fsyncs();
        while self.shim.fsyncs() == before {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until something is written and not on the disk.
    async fn something_is_on_its_way(&self) {
        let until = Instant::now() + PATIENCE;
        while self.shim.not_on_disk(self.redis.dir()).is_empty() {
            assert!(Instant::now() < until, "nothing is written");
            sleep(LOOK_EVERY).await;
        }
    }

    async fn begins_to_rewrite(&self) {
        let said: String =
            redis::cmd("BGREWRITEAOF").query_async(&mut self.redis.connection().await).await.expect("a rewrite");
        assert!(said.contains("started"), "{said}");
    }

    /// Looks where nobody who holds a ticket finds the store.
    async fn missing(&mut self) -> Vec<String> {
        let store = self.starts_aside().await;
        let (store, chats) = (&store, lock(&self.told).chats.clone());
        let looked = stream::iter(chats).map(|id| async move { store.chat(&helpline(), &id).await }).buffered(64);
        let left: Vec<Option<Chat>> = looked.try_collect().await.expect("a store that can be read");
        self.redis.kill();
        lock(&self.told).missing_in(&left.into_iter().flatten().map(|chat| (chat.id.clone(), chat)).collect())
    }

    async fn starts_aside(&mut self) -> RedisStore {
        let settings = RedisSettings::at(vec![as_reader(&self.redis.start_again_aside())]);
        RedisStore::connect(&settings).await.expect("a store")
    }

    /// The whole line is as it must be, and the words were worth what they are said to be.
    async fn ends_well(&mut self) {
        self.redis.kill();
        let line = self.starts_aside().await.snapshot(&helpline()).await.expect("a line that can be read");
        assert_eq!(broken(&line), Vec::<String>::new());
        let told = lock(&self.told);
        assert!(told.claims.contains(&Persistence::Fsynced), "{:?}", told.claims);
        assert!(!told.claims.contains(&Persistence::Async), "{:?}", told.claims);
    }
}

fn helpline() -> HelplineId {
    HelplineId::parse(HELPLINE).expect("a name")
}

/// Nobody goes away by themselves, and nothing of a chat that has ended is cleared away.
fn calm() -> Numbers {
    Numbers {
        max_waiting: 100_000,
        offer_deadline_ms: 120_000,
        presence_lease_ms: 120_000,
        reconnect_grace_ms: 60_000,
        away_after_ms: 1_800_000,
        abandon_after_ms: 3_600_000,
        first_reply_ms: 0,
        wrap_up_ms: [0; 4],
        ..numbers()
    }
}

/// What people were told.
#[derive(Default)]
struct Told {
    /// Chats of which somebody was told: the visitor, or the volunteer who took it before the visitor heard.
    chats: BTreeSet<ChatId>,
    taken: BTreeMap<ChatId, Taken>,
    /// What the words were worth. Until the store was looked at they claim nothing.
    claims: BTreeSet<Persistence>,
}

/// An assignment that was acknowledged.
struct Taken {
    by: String,
    fence: Fence,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    No,
    /// It may have ended.
    Asked,
    Told,
}

impl Told {
    fn worth(&mut self, durability: Option<Durability>) {
        self.claims.insert(durability.expect("a durability").persistence());
    }

    fn is_asked(&mut self, answer: &RequestChatResponse) {
        self.chats.insert(name(&answer.chat.as_ref().expect("a chat").chat_id));
        self.worth(answer.durability);
    }

    fn is_taken(&mut self, by: &str, result: &ActionResult, chat: &Assignment) {
        let fence = chat.fence.expect("a fence");
        let fence = Fence { epoch: fence.epoch, minted_by: fence.minted_by };
        self.chats.insert(name(&chat.chat_id));
        self.taken.insert(name(&chat.chat_id), Taken { by: by.to_owned(), fence, end: End::No });
        self.worth(result.durability);
    }

    fn ends(&mut self, chat: &Assignment, end: End) {
        self.taken.get_mut(&name(&chat.chat_id)).expect("a chat in hand").end = end;
    }

    fn missing_in(&self, left: &BTreeMap<ChatId, Chat>) -> Vec<String> {
        let lost = self.chats.iter().filter(|id| !left.contains_key(id)).map(|id| format!("{id} is not there"));
        let differs =
            |(id, taken): (&ChatId, &Taken)| Some(format!("{id}: {}", taken.differs_from(left.get(id)?)?));
        lost.chain(self.taken.iter().filter_map(differs)).collect()
    }
}

fn name(id: &str) -> ChatId {
    ChatId::parse(id).expect("a name")
}

impl Taken {
    fn differs_from(&self, chat: &Chat) -> Option<String> {
        let Some(owner) = &chat.owner else { return Some(format!("{} had it, nobody has", self.by)) };
        if (owner.responder.as_str(), owner.fence) != (&self.by, self.fence) {
            return Some(format!("{} had it under {:?}, now it is {owner:?}", self.by, self.fence));
        }
        let as_told = match self.end {
            End::No => chat.state == ChatState::Active,
            End::Asked => matches!(chat.state, ChatState::Active | ChatState::Ended),
            End::Told => chat.state == ChatState::Ended,
        };
        (!as_told).then(|| format!("{:?}, and {:?} was told", chat.state, self.end))
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where one visitor after another asks.
struct Device {
    visitor: Visitor,
    name: String,
    asked: u32,
}

impl Device {
    fn of(visitor: Visitor) -> Self {
        Self { name: visitor.ask.request_id.clone(), visitor, asked: 0 }
    }

    /// Asks again with the same name where no word was given.
    async fn asks_until(mut self, paused: Arc<AtomicBool>, told: Arc<Mutex<Told>>) -> Self {
        while !paused.load(Ordering::Relaxed) {
            self.visitor.ask.request_id = format!("{}-{}", self.name, self.asked);
            match self.visitor.try_ask().await {
                Ok(answer) => {
                    lock(&told).is_asked(&answer);
                    self.asked += 1;
                }
                Err(_) => sleep(A_MOMENT).await,
            }
        }
        self
    }
}

/// Somebody who takes one chat after another, and ends each when the next one begins.
struct Volunteer {
    hands: Responder,
    offer: Option<Offer>,
    has: Option<Assignment>,
    ends: Option<Assignment>,
}

impl Volunteer {
    async fn at(house: &Deployment, n: usize) -> Self {
        let mut hands = house.stranger(&format!("volunteer-{n}")).await;
        hands.goes_to(&house.dispatches[n % 2].url());
        hands.sign_in.capacity = 4;
        hands.sign_in().await;
        Self { hands, offer: None, has: None, ends: None }
    }

    async fn works_until(mut self, paused: Arc<AtomicBool>, told: Arc<Mutex<Told>>) -> Self {
        while !paused.load(Ordering::Relaxed) {
            if let Some(chat) = self.ends.take() {
                self.ends_one(chat, &told).await;
            } else if let Some(offer) = self.offer.take() {
                self.takes_one(offer, &told).await;
            } else {
                self.offer = self.hands.inbox().take_within(A_MOMENT, an_offer).await;
            }
        }
        self
    }

    async fn takes_one(&mut self, offer: Offer, told: &Mutex<Told>) {
        let said = self.hands.try_accept(&offer, "").await;
        if unknown(Code::from_i32(said.code)) {
            self.offer = Some(offer);
            sleep(A_MOMENT).await;
        } else if let Some(chat) = &said.assignment {
            lock(told).is_taken(&self.hands.sign_in.responder_id, &said, chat);
            self.ends = self.has.replace(chat.clone());
        }
    }

    async fn ends_one(&mut self, chat: Assignment, told: &Mutex<Told>) {
        lock(told).ends(&chat, End::Asked);
        let said = self.hands.does(close(&chat)).await;
        if unknown(Code::from_i32(said.code)) {
            self.ends = Some(chat);
            sleep(A_MOMENT).await;
        } else {
            assert_eq!(said.code, 0, "{said:?}");
            lock(told).ends(&chat, End::Told);
        }
    }
}

fn an_offer(response: &SessionResponse) -> Option<Offer> {
    match &response.message {
        Some(session_response::Message::Offer(offer)) => Some(offer.clone()),
        _ => None,
    }
}
