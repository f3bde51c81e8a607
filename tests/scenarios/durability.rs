//! The store is made worse while people use it. Each time intake says within ten seconds that it takes no new chats and
//! where else to turn, what was begun goes on, and nobody is promised more than was true five seconds before.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::action::Action as Word;
use holdfast_proto::v1::durability::Persistence;
use holdfast_proto::v1::{Assignment, ChatState, Offer, SessionResponse, SignOut, session_response};
use holdfast_tests::people::{Responder, accept, close, decline, engage};
use holdfast_tests::processes::{Deployment, PATIENCE, Setup, numbers};
use holdfast_tests::redis_sentinel::{PRIMARY_NAME, RedisSentinel, replication};
use holdfast_tests::redis_server::RedisServer;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt;

use crate::failure::{accepting, asks_until_heard, resources, until_done};

/// A sabotage must be noticed within this.
pub(crate) const NOTICED_WITHIN: Duration = Duration::from_secs(10);
/// What was true so long ago may still be claimed; a little for the way.
const CLAIMED_FOR: Duration = Duration::from_millis(5_500);

/// One way to make a store worse, and how it is mended.
struct Sabotage {
    name: &'static str,
    spoil: fn(&mut RedisServer, &mut RedisServer) -> Vec<Vec<String>>,
    mend: fn(&mut RedisServer, &mut RedisServer) -> Vec<Vec<String>>,
    /// What becomes of what was begun.
    begun: Begun,
}

/// What becomes of what was begun, below the floor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// It goes on: somebody may still accept, decline and close.
    GoesOn,
    /// Nobody is given a word, for none can be kept, and the same words count afterwards.
    Waits,
}

fn set(name: &str, value: &str) -> Vec<Vec<String>> {
    vec![["CONFIG", "SET", name, value].map(str::to_owned).to_vec()]
}

fn replica_of(host: &str, port: &str) -> Vec<Vec<String>> {
    vec![["REPLICAOF", host, port].map(str::to_owned).to_vec()]
}

/// From then on a file that the process writes may be no longer than this: its disk is full, or is not any more.
fn limit_files(server: &RedisServer, limit: &str) {
    let pid = server.pid().to_string();
    let limited =
        std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}")]).status();
    assert!(limited.is_ok_and(|status| status.success()), "the process cannot be limited");
}

const SABOTAGES: [Sabotage; 8] = [
    Sabotage {
        name: "the log is turned off",
        spoil: |_, _| set("appendonly", "no"),
        mend: |_, _| set("appendonly", "yes"),
        begun: Begun::GoesOn,
    },
    Sabotage {
        name: "the log is written only every second",
        spoil: |_, _| set("appendfsync", "everysec"),
        mend: |_, _| set("appendfsync", "always"),
        begun: Begun::GoesOn,
    },
    Sabotage {
        name: "keys may be evicted",
        spoil: |_, _| set("maxmemory-policy", "allkeys-lru"),
        mend: |_, _| set("maxmemory-policy", "noeviction"),
        begun: Begun::GoesOn,
    },
    Sabotage {
        name: "the memory is full",
        spoil: |_, _| set("maxmemory", "1"),
        mend: |_, _| set("maxmemory", "0"),
        begun: Begun::GoesOn,
    },
    Sabotage {
        name: "the replica hears nothing",
        spoil: |_, replica| {
            replica.stop();
            Vec::new()
        },
        mend: |_, replica| {
            replica.go_on();
            Vec::new()
        },
        begun: Begun::Waits,
    },
    Sabotage {
        name: "the primary is demoted",
        spoil: |_, replica| replica_of("127.0.0.1", &replica.port().to_string()),
        mend: |_, _| replica_of("NO", "ONE"),
        begun: Begun::Waits,
    },
    Sabotage {
        name: "the store is frozen",
        spoil: |primary, _| {
            primary.stop();
            Vec::new()
        },
        mend: |primary, _| {
            primary.go_on();
            Vec::new()
        },
        begun: Begun::Waits,
    },
    Sabotage {
        name: "the disk is full",
        spoil: |primary, _| {
            limit_files(primary, "1");
            Vec::new()
        },
        mend: |primary, _| {
            if primary.is_running() {
                primary.kill();
            }
            primary.start_again();
            Vec::new()
        },
        begun: Begun::Waits,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_make_the_store_worse_is_noticed_and_recovered_from() {
    let (mut house, mut replica) = replicated().await;
    let mut ana = house.responder("ana").await;
    let mut talking = house.visitor().await;
    asks_until_heard(&mut talking).await;
    talking.watch().await;
    let chat = ana.takes().await;

    for sabotage in SABOTAGES {
        let mut ben = Volunteer::with_full_hands(&house, sabotage.name).await;
        let spoilt = Instant::now();
        let words = (sabotage.spoil)(house.redis(), &mut replica);
        tell(house.redis(), &words).await;
        let tried = (sabotage.begun == Begun::Waits).then(|| ben.tries());
        let claims = until_not_accepting(&house, spoilt).await;
        let noticed = spoilt.elapsed();
        refuses_with_resources(&house, sabotage.name).await;
        if let Some(tried) = tried {
            ben.is_given_no_word(tried).await;
        } else {
            goes_on(&mut ana, &chat, sabotage.name).await;
            ben.empties_hands(Begun::GoesOn).await;
        }
        let words = (sabotage.mend)(house.redis(), &mut replica);
        tell(house.redis(), &words).await;
        let mended = Instant::now();
        if sabotage.begun == Begun::Waits {
            ben.empties_hands(Begun::Waits).await;
        }
        ben.goes_home().await;
        until_accepting(&house, sabotage.name).await;
        println!(
            "{:<40} noticed {noticed:?}, {claims} words meanwhile, over {:?}",
            sabotage.name,
            mended.elapsed()
        );
        assert!(noticed < NOTICED_WITHIN, "{}: noticed after {noticed:?}", sabotage.name);
    }

    assert_eq!(until_done(&mut ana, || close(&chat)).await.code, 0);
    talking.until(ChatState::Ended).await;
    let ledger = house.floor().await.ledger.expect("a ledger");
    assert_eq!(ledger.difference, 0, "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_answered_is_answered_again_below_the_floor_and_chats_go_on() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    let first = visitor.try_ask().await.expect("a chat");
    let offer = ana.offer().await;

    tell(house.redis(), &set("appendfsync", "everysec")).await;
    until_not_accepting(&house, Instant::now()).await;
    let again = visitor.try_ask().await.expect("the same chat");
    let accepted = ana.try_accept(&offer, "").await;

    assert_eq!(again.chat.map(|chat| chat.chat_id), first.chat.map(|chat| chat.chat_id));
    let claimed = again.durability.expect("a durability").persistence();
    assert_ne!(claimed, Persistence::Fsynced, "it claims what is not true any more");
    assert_eq!(accepted.durability.expect("a durability").persistence(), Persistence::Async);
    ana.closes(&accepted.assignment.expect("an assignment")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_primary_dies_people_wait_some_seconds_and_what_they_were_told_holds() {
    let mut group = RedisSentinel::start().await;
    let settings = vec![
        ("STORE__REDIS_URLS", group.nodes[0].service_url()),
        ("STORE__REDIS_SENTINELS", group.sentinel_urls().join(",")),
        ("STORE__REDIS_PRIMARY_NAME", PRIMARY_NAME.to_owned()),
        ("STORE__REPLICAS_REQUIRED", "1".to_owned()),
        ("STORE__FLOOR_REPLICAS", "1".to_owned()),
    ];
    let house = Deployment::start(Setup { queue_settings: settings, ..Setup::default() }).await;
    until_accepting(&house, "the beginning").await;
    let mut ana = house.responder("ana").await;
    let (mut talking, mut next) = (house.visitor().await, house.visitor().await);
    asks_until_heard(&mut talking).await;
    talking.watch().await;
    let chat = ana.takes().await;

    group.nodes[0].kill();
    let killed = Instant::now();
    asks_until_heard(&mut next).await;
    println!("a visitor was heard again {:?} after the primary died", killed.elapsed());
    let closed = until_done(&mut ana, || close(&chat)).await;

    assert_eq!(closed.code, 0, "the fence that the dead primary minted still opens the chat: {closed:?}");
    talking.until(ChatState::Ended).await;
    assert_eq!(ana.takes().await.chat_id, next.chat_id());
    house.nobody_is_lost(2).await;
}

/// A volunteer who has something to accept, something to decline and something to close.
struct Volunteer {
    ben: Responder,
    offers: [Offer; 2],
    chat: Assignment,
    /// While this is so.
    during: &'static str,
}

impl Volunteer {
    async fn with_full_hands(house: &Deployment, during: &'static str) -> Self {
        let mut ben = house.stranger("ben").await;
        ben.sign_in.capacity = 3;
        ben.sign_in().await;
        for _ in 0..3 {
            asks_until_heard(&mut house.visitor().await).await;
        }
        let chat = ben.takes().await;
        let offers = [ben.offer().await, ben.offer().await];
        Self { ben, offers, chat, during }
    }

    fn words(&self) -> [Word; 3] {
        [accept(&self.offers[0], ""), decline(&self.offers[1]), close(&self.chat)]
    }

    /// Says all three words, without waiting for what becomes of them; their numbers.
    fn tries(&mut self) -> [u64; 3] {
        self.words().map(|word| self.ben.begin(word))
    }

    /// What becomes of each word that was said is unknown, and nothing is handed over.
    async fn is_given_no_word(&mut self, tried: [u64; 3]) {
        for number in tried {
            let result = self.ben.result(number).await;
            let code = Code::from_i32(result.code);
            assert!([Code::Unavailable, Code::DeadlineExceeded].contains(&code), "{}: {result:?}", self.during);
            assert_eq!(result.assignment, None, "{}", self.during);
        }
        let chat = &self.offers[0].chat_id;
        let handed_over = |response: &SessionResponse| match &response.message {
            Some(session_response::Message::Assignment(given)) if given.chat_id == *chat => Some(()),
            _ => None,
        };
        assert_eq!(self.ben.inbox().comes_within(Duration::ZERO, handed_over).await, None, "{}", self.during);
    }

    /// Says all three words, and each counts: now, or since it was tried.
    async fn empties_hands(&mut self, begun: Begun) {
        for word in self.words() {
            let result = until_done(&mut self.ben, || word.clone()).await;
            // Unlike the other two, turning down again what is turned down is not answered the same.
            let is_gone = matches!(word, Word::Decline(_)) && result.reason == "OFFER_GONE";
            let has_counted = begun == Begun::Waits && is_gone;
            assert!(result.code == 0 || has_counted, "{}: {word:?}: {result:?}", self.during);
            if let Some(accepted) = result.assignment {
                assert_eq!(accepted.chat_id, self.offers[0].chat_id);
                self.chat = accepted;
            }
        }
        let has_accepted = self.chat.chat_id == self.offers[0].chat_id;
        assert!(has_accepted, "{}: nothing was handed over", self.during);
    }

    /// Ends what was accepted, and goes.
    async fn goes_home(mut self) {
        assert_eq!(until_done(&mut self.ben, || close(&self.chat)).await.code, 0, "after {}", self.during);
        // The stream may end before the result of that has come.
        self.ben.begin(Word::SignOut(SignOut {}));
        assert!(self.ben.inbox().end().await.is_ok());
    }
}

/// A store with a replica, and queues that give no word that the replica has not heard.
async fn replicated() -> (Deployment, RedisServer) {
    // Nothing that was begun ends by itself while the store is spoilt.
    let numbers = Numbers { offer_deadline_ms: 120_000, away_after_ms: 120_000, ..numbers() };
    let mut house = Deployment::with(numbers).await;
    let port = house.redis().port().to_string();
    let replica = RedisServer::start_on_port(&["--replicaof", "127.0.0.1", &port]);
    let until = Instant::now() + PATIENCE;
    loop {
        let told = replication(house.redis()).await.unwrap_or_default();
        if told.values().any(|value| value.contains("state=online")) {
            break;
        }
        assert!(Instant::now() < until, "the replica is not in step");
        sleep(Duration::from_millis(50)).await;
    }
    for queue in &mut house.queues {
        queue.kill().await;
        queue.set("STORE__REPLICAS_REQUIRED", "1");
        queue.set("STORE__FLOOR_REPLICAS", "1");
        queue.start_again().await;
    }
    house.intakes[0].ready().await;
    until_accepting(&house, "the beginning").await;
    (house, replica)
}

async fn tell(server: &RedisServer, words: &[Vec<String>]) {
    for words in words {
        let mut command = redis::cmd(&words[0]);
        command.arg(&words[1..]);
        let () = command.query_async(&mut server.connection().await).await.expect("OK");
    }
}

/// Asks for chats until intake takes no more. How many were taken; none was promised what had been untrue for long.
async fn until_not_accepting(house: &Deployment, spoilt: Instant) -> usize {
    let mut taken = 0;
    for n in 0.. {
        if accepting(house).await == ServingStatus::NotServing {
            break;
        }
        assert!(spoilt.elapsed() < NOTICED_WITHIN * 2, "nobody notices");
        let mut visitor = house.visitor().await;
        visitor.ask.request_id = format!("{}-{n}", visitor.ask.request_id);
        let asked = Instant::now();
        if let Ok(answer) = visitor.try_ask().await {
            taken += 1;
            let claimed = answer.durability.expect("a durability");
            let is_full = claimed.persistence() == Persistence::Fsynced;
            assert!(!is_full || asked - spoilt < CLAIMED_FOR, "still promised {:?} later", asked - spoilt);
        }
        sleep(Duration::from_millis(100)).await; // between two visitors
    }
    taken
}

async fn until_accepting(house: &Deployment, after: &str) {
    let until = Instant::now() + PATIENCE;
    while accepting(house).await != ServingStatus::Serving {
        assert!(Instant::now() < until, "{after}: no new chats are taken again");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn refuses_with_resources(house: &Deployment, why: &str) {
    let mut visitor = house.visitor().await;
    visitor.ask.request_id = format!("{}-refused", visitor.ask.request_id);
    let refused = visitor.try_ask().await.expect_err("no chat");
    assert!([Code::Unavailable, Code::DeadlineExceeded].contains(&refused.code()), "{why}: {refused:?}");
    assert!(resources(&refused).contains(&"Anyone".to_owned()), "{why}: {refused:?}");
    let reason = refused.get_details_error_info().expect("a reason").reason;
    assert!(reason.starts_with("STORE_") || reason == "OUTCOME_UNKNOWN", "{why}: {reason}");
    assert_eq!(house.intakes[0].get("/readyz").await.status, 200, "{why}: it still has something to say");
}

/// A chat that is in hand goes on: the fence that was given still opens it.
async fn goes_on(ana: &mut Responder, chat: &Assignment, why: &str) {
    let engaged = until_done(ana, || engage(chat)).await;
    assert_eq!(engaged.code, 0, "{why}: {engaged:?}");
}
