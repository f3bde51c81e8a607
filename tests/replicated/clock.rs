//! Leases while clocks leap and the store stands still. A naive lease, a deadline by the store's own time, goes through
//! the same beside ours, to show that the test can fail.

use crate::line::{digest, heartbeat, policy, sign_in};
use futures::future::join_all;
use holdfast_domain::{Command, EventKind, HelplineId, Reply};
use holdfast_queue::store::Store;
use holdfast_queue::store::redis::{RedisSettings, RedisStore};
use holdfast_tests::redis_server::RedisServer;
use redis::aio::MultiplexedConnection;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// People who are there.
const LIVE: usize = 50;
const HOUR_MS: u64 = 3_600_000;

/// The lease, and how long the store stands still: longer than the lease.
fn lease_and_pause() -> (u64, Duration) {
    if std::env::var_os("HOLDFAST_LONG").is_some() {
        (8_000, Duration::from_secs(15))
    } else {
        (4_000, Duration::from_secs(5))
    }
}

/// People with leases of both kinds.
struct Leases {
    store: RedisStore,
    helpline: HelplineId,
    naive: MultiplexedConnection,
    sessions: Vec<(String, u64)>,
    lease_ms: u64,
}

impl Leases {
    async fn of(store: RedisStore, server: &RedisServer, lease_ms: u64) -> Self {
        let helpline = HelplineId::parse("river").expect("a name");
        let mut policy = policy("river");
        policy.numbers.presence_lease_ms = lease_ms;
        policy.numbers.reconnect_grace_ms = lease_ms;
        policy.numbers.heartbeat_ms = 300;
        let set = Command::SetPolicy { policy: Box::new(policy), expected: 0, by: None };
        store.execute(&helpline, &set).await.expect("a store").reply.expect("a policy");
        let naive = server.connection().await;
        let mut leases = Self { store, helpline, naive, sessions: Vec::new(), lease_ms };
        for n in 0..LIVE {
            let name = format!("volunteer-{n}");
            let reply = leases.apply(&sign_in(&name, 1)).await;
            let Ok(Reply::Responder { session, .. }) = reply.reply else { panic!("no session: {reply:?}") };
            leases.sessions.push((name, session));
        }
        leases
    }

    async fn apply(&self, command: &Command) -> holdfast_domain::Applied {
        self.store.execute(&self.helpline, command).await.expect("a store")
    }

    /// All of them give a sign of life, in both ways.
    async fn beat(&mut self, naive_now_ms: u64) {
        let commands: Vec<_> = self.sessions.iter().map(|(name, session)| heartbeat(name, *session)).collect();
        join_all(commands.iter().map(|command| self.apply(command))).await;
        let mut lease = redis::cmd("ZADD");
        lease.arg("naive");
        for (name, _) in &self.sessions {
            lease.arg(naive_now_ms + self.lease_ms).arg(name);
        }
        let () = lease.query_async(&mut self.naive).await.expect("naive leases");
    }

    /// How many are taken for gone, in our way and in the naive one.
    async fn expired(&mut self, naive_now_ms: u64) -> (usize, usize) {
        let tick = Command::Tick { by: digest("aa"), limit: 100 };
        let events = self.apply(&tick).await.events;
        let ours = events.iter().filter(|event| event.kind == EventKind::SignedOut).count();
        let mut count = redis::cmd("ZCOUNT");
        let naive: usize =
            count.arg("naive").arg("-inf").arg(naive_now_ms).query_async(&mut self.naive).await.expect("a count");
        (ours, naive)
    }

    async fn store_time(&mut self) -> u64 {
        let (seconds, micros): (u64, u64) =
            redis::cmd("TIME").query_async(&mut self.naive).await.expect("the store's time");
        seconds * 1_000 + micros / 1_000
    }

    /// With nobody giving a sign of life any more, how long until all are found to be gone.
    async fn found_gone(&mut self) -> Duration {
        let (began, mut gone) = (Instant::now(), 0);
        while gone < LIVE {
            assert!(began.elapsed() < Duration::from_secs(60), "{gone} of {LIVE} were found to be gone");
            gone += self.expired(0).await.0;
            sleep(Duration::from_millis(100)).await; // as the ticker does
        }
        began.elapsed()
    }
}

fn durable() -> RedisServer {
    RedisServer::start_on_port(&["--appendonly", "yes", "--appendfsync", "always"])
}

fn settings(server: &RedisServer) -> RedisSettings {
    RedisSettings::at(vec![server.service_url()])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_by_an_hour_takes_nobody_for_gone_and_finds_who_is() {
    let _turn = crate::turn().await;
    let server = durable();
    let store = RedisStore::connect_with_given_time(&settings(&server)).await.expect("a store");
    let mut now = 1_800_000_000_000;
    store.set_time(now);
    let mut leases = Leases::of(store, &server, 8_000).await;
    leases.beat(now).await;

    now += HOUR_MS;
    leases.store.set_time(now);
    let forth = leases.expired(now).await;
    leases.beat(now).await;
    now -= HOUR_MS;
    leases.store.set_time(now);
    let back = leases.expired(now).await;
    let (mut ours, mut naive) = (0, 0);
    for _ in 0..90 {
        now += 100;
        leases.store.set_time(now);
        let found = leases.expired(now).await;
        (ours, naive) = (ours + found.0, naive.max(found.1));
    }

    println!(
        "of {LIVE} live leases wrongly expired: +1 h ours {}, naive {}; -1 h ours {}",
        forth.0, forth.1, back.0
    );
    println!("of {LIVE} dead ones found within 9 s after -1 h: ours {ours}, naive {naive}");
    assert_eq!((forth, back.0), ((0, LIVE), 0), "(ours, naive)");
    assert_eq!((ours, naive), (LIVE, 0), "who is gone is found, by ours and not by the naive one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_freezes_for_longer_than_a_lease_takes_nobody_for_gone() {
    let _turn = crate::turn().await;
    let (lease_ms, pause) = lease_and_pause();
    let mut server = durable();
    let store = RedisStore::connect(&settings(&server)).await.expect("a store");
    let mut leases = Leases::of(store, &server, lease_ms).await;
    let now = leases.store_time().await;
    leases.beat(now).await;

    server.stop();
    sleep(pause).await; // the freeze itself
    server.go_on();
    looks_after(&mut leases, pause).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_for_longer_than_a_lease_takes_nobody_for_gone() {
    let _turn = crate::turn().await;
    let (lease_ms, pause) = lease_and_pause();
    let mut server = durable();
    let store = RedisStore::connect(&settings(&server)).await.expect("a store");
    let mut leases = Leases::of(store, &server, lease_ms).await;
    let now = leases.store_time().await;
    leases.beat(now).await;

    server.kill();
    sleep(pause).await; // the outage itself
    server.start_again();
    leases.naive = server.connection().await;
    looks_after(&mut leases, pause).await;
}

/// What a ticker finds once the store is back, and that those who then stay silent are found within a lease.
async fn looks_after(leases: &mut Leases, pause: Duration) {
    let until = Instant::now() + Duration::from_secs(20);
    while leases.store.place(&leases.helpline, &crate::line::chat(1)).await.is_err() {
        assert!(Instant::now() < until, "the store is not back");
        sleep(Duration::from_millis(20)).await;
    }
    let now = leases.store_time().await;
    let (ours, naive) = leases.expired(now).await;
    println!("of {LIVE} live leases wrongly expired after {pause:?}: ours {ours}, naive {naive}");
    assert_eq!((ours, naive), (0, LIVE));
    let took = leases.found_gone().await;
    assert!(took < Duration::from_millis(leases.lease_ms * 2 + 10_000), "found after {took:?}");
}
