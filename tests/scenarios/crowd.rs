//! A crowd in the line when the store is restarted.

use futures::{StreamExt, stream};
use holdfast_domain::ids::DigestHex;
use holdfast_domain::policy::Numbers;
use holdfast_domain::{ChatId, Command, HelplineId, Mask, Request, Requirement, Step, TokenHash, Urgency};
use holdfast_queue::store::Store;
use holdfast_queue::store::redis::{RedisSettings, RedisStore};
use holdfast_tests::processes::{Deployment, HELPLINE, Setup, numbers};
use holdfast_tests::redis_server::RedisServer;
use std::time::Duration;
use tokio::time::Instant;

use crate::failure::asks_until_heard;

/// A request is acknowledged again within this, from the moment at which Redis is started.
const BOUND: Duration = Duration::from_secs(10);
/// Scripts take no longer than this, but for one in a hundred.
const SCRIPT: Duration = Duration::from_millis(5);
/// For the list of all scripts.
const LONG_ANSWER: Duration = Duration::from_secs(20);
/// Requests on their way at once while the line fills.
const AT_ONCE: usize = 256;

/// How many wait. Fewer: HOLDFAST_WAITING=1000.
fn crowd() -> u64 {
    std::env::var("HOLDFAST_WAITING").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

/// A chat of somebody for whom an integrator vouches, with half a kilobyte for whoever comes.
fn request(n: u64) -> Command {
    let digest = |n: u64| DigestHex::parse(&format!("{n:016x}")).expect("a digest");
    let urgencies = [Urgency::Moderate, Urgency::Low, Urgency::High, Urgency::Moderate];
    Command::Request(Box::new(Request {
        chat: ChatId::parse(&format!("crowd-{n}")).expect("a name"),
        request_key: digest(n),
        body: digest(n),
        token: TokenHash([7; 32]),
        urgency: urgencies[usize::try_from(n).expect("a small number") % urgencies.len()],
        steps: vec![Step::new(0, Requirement::anyone())],
        topics: Mask::default(),
        excluded: Vec::new(),
        revision: 1,
        attested: true,
        resources_seen: true,
        solved_bits: 0,
        overflow_now: false,
        handoff: vec![7; 500],
        trace: String::new(),
        subject: None,
        came_by: None,
    }))
}

/// Through the scripts, as fast as they go: each waits for the disk no longer than the last one does.
async fn fills(redis: &RedisServer, waiting: u64) {
    set(redis, "appendfsync", "everysec").await;
    let store = RedisStore::connect(&RedisSettings::at(vec![redis.url().to_owned()])).await.expect("a store");
    let helpline = HelplineId::parse(HELPLINE).expect("a name");
    let (store, helpline) = (&store, &helpline);
    let asked = stream::iter(0..waiting).map(|n| async move { store.execute(helpline, &request(n)).await });
    let mut asked = asked.buffer_unordered(AT_ONCE);
    while let Some(answer) = asked.next().await {
        answer.expect("an answer").reply.expect("a chat");
    }
    set(redis, "appendfsync", "always").await;
}

async fn set(redis: &RedisServer, name: &str, value: &str) {
    let mut connection = redis.connection().await;
    let set = redis::cmd("CONFIG").arg(&["SET", name, value]).to_owned();
    let () = set.query_async(&mut connection).await.expect("OK");
}

/// How long each of the last scripts took, the longest first.
async fn scripts(redis: &RedisServer) -> Vec<Duration> {
    let mut connection = redis.connection().await;
    connection.set_response_timeout(LONG_ANSWER);
    let get = redis::cmd("SLOWLOG").arg(&["GET", "-1"]).to_owned();
    type Entry = (u64, u64, u64, Vec<Vec<u8>>, Vec<u8>, Vec<u8>);
    let entries: Vec<Entry> = get.query_async(&mut connection).await.expect("a log");
    let scripts = entries.into_iter().filter(|entry| entry.3.first().is_some_and(|name| name == b"EVALSHA"));
    let mut took: Vec<Duration> = scripts.map(|entry| Duration::from_micros(entry.2)).collect();
    took.sort_by(|a, b| b.cmp(a));
    took
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: 100,000 chats in line"]
async fn a_store_with_a_hundred_thousand_in_line_is_back_within_ten_seconds_of_its_start() {
    let waiting = crowd();
    let numbers = Numbers { max_waiting: 200_000, ..numbers() };
    let mut house =
        Deployment::start(Setup { numbers, log_filter: "warn,holdfast_queue=info", ..Setup::default() }).await;
    let began = Instant::now();
    fills(house.redis(), waiting).await;
    println!("{waiting} chats were in line after {:?}", began.elapsed());

    house.redis().kill();
    let started = Instant::now();
    house.redis().start_again();
    let loaded = started.elapsed();
    let mut visitor = house.visitor().await;
    asks_until_heard(&mut visitor).await;
    let heard = started.elapsed();

    println!(
        "with {waiting} in line Redis was ready {loaded:?} after its start, and a request acknowledged {heard:?} after it"
    );
    assert!(heard < BOUND, "{heard:?}");
    let ledger = house.floor().await.ledger.expect("a ledger");
    assert_eq!((ledger.accepted, ledger.waiting, ledger.difference), (waiting + 1, waiting + 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: 100,000 chats in line"]
async fn no_script_takes_longer_because_a_hundred_thousand_are_in_line() {
    let waiting = crowd();
    let numbers = Numbers { max_waiting: 200_000, ..numbers() };
    let mut house =
        Deployment::start(Setup { numbers, log_filter: "warn,holdfast_queue=info", ..Setup::default() }).await;
    fills(house.redis(), waiting).await;
    // It was kept less safely meanwhile, so no new chat is taken until that is seen to be over.
    asks_until_heard(&mut house.visitor().await).await;
    set(house.redis(), "slowlog-max-len", "100000").await;
    set(house.redis(), "slowlog-log-slower-than", "0").await;

    let mut ana = house.responder("ana").await;
    for _ in 0..200 {
        let mut visitor = house.visitor().await;
        visitor.try_ask().await.expect("a chat");
        let chat = ana.takes().await;
        ana.closes(&chat).await;
    }

    let took = scripts(house.redis()).await;
    let (longest, hundredth, middle) = (took[0], took[took.len() / 100], took[took.len() / 2]);
    println!(
        "{} scripts with {waiting} in line: the longest {longest:?}, one in a hundred {hundredth:?}, half of them {middle:?}",
        took.len()
    );
    assert!(hundredth <= SCRIPT, "{hundredth:?}");
}
