//! Everything encrypted and everybody known: TLS at the doors, between the services with certificates on both sides, and to
//! Redis.

use holdfast_proto::v1::{ChatState, Urgency};
use holdfast_tests::people::{close, engage};
use holdfast_tests::pki::{self, Authority, Files};
use holdfast_tests::processes::{Deployment, Line, PATIENCE, Process, Setup, free_port};
use holdfast_tests::redis_server::{self, RedisServer};
use std::path::Path;
use tempfile::TempDir;

use crate::failure::{asks_until_heard, until_done};

fn encrypted(line: Line) -> Setup {
    Setup { tls: true, line, queues: if line == Line::Redis { 2 } else { 1 }, ..Setup::default() }
}

/// Redis with TLS where the server has it; a server without is told, and the line is then in memory.
fn store() -> Line {
    if redis_server::has_tls() {
        return Line::Redis;
    }
    eprintln!("this Redis server is built without TLS: the line is in memory");
    Line::Embedded
}

#[tokio::test]
async fn a_chat_goes_all_its_way_where_everything_is_encrypted() {
    let house = Deployment::start(encrypted(store())).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await.urgent(Urgency::High);

    visitor.asks().await;
    let chat = ana.takes().await;
    ana.closes(&chat).await;

    house.nobody_is_lost(1).await;
    for process in house.processes() {
        let metrics = process.get("/metrics").await.body;
        assert!(metrics.contains("holdfast_tls_certificate_not_after_seconds{"), "{}: {metrics}", process.name);
        assert!(!process.log().contains("PRIVATE KEY"), "{}", process.name);
    }
}

#[tokio::test]
async fn new_certificates_on_the_way_to_redis_disturb_nobody() {
    if store() == Line::Embedded {
        return;
    }
    // The way to Redis has files of its own, so that nothing else changes.
    let folder = TempDir::new().expect("a folder");
    let vouches = pki::house(); // there is another one when nobody has it any more
    let queues = vouches.authority.vouch(folder.path(), "queue");
    let file = |path: &Path| path.display().to_string();
    let queue_settings = vec![
        ("STORE__REDIS_TLS_CA_FILE", file(&queues.ca)),
        ("STORE__REDIS_TLS_CERT_FILE", file(&queues.cert)),
        ("STORE__REDIS_TLS_KEY_FILE", file(&queues.key)),
    ];
    let mut house = Deployment::start(Setup { queue_settings, ..encrypted(Line::Redis) }).await;
    let mut ana = house.responder("ana").await;
    let (mut talking, mut next) = (house.visitor().await, house.visitor().await);
    talking.asks().await;
    let chat = ana.takes().await;

    // From now on Redis and whoever speaks to it believe another authority alone.
    let (authority, theirs) = (Authority::new(), TempDir::new().expect("a folder"));
    authority.vouch(folder.path(), "queue");
    for queue in &house.queues {
        queue.logged("certificates have changed").await;
    }
    let mut operator = house.redis().connection_with(&vouches.onlooker).await;
    let files = authority.vouch(theirs.path(), "redis");
    let mut renew = redis::cmd("CONFIG");
    renew.arg("SET").arg("tls-ca-cert-file").arg(file(&files.ca));
    renew.arg("tls-cert-file").arg(file(&files.cert)).arg("tls-key-file").arg(file(&files.key));
    let () = renew.query_async(&mut operator).await.expect("OK");
    assert_eq!(until_done(&mut ana, || engage(&chat)).await.code, 0, "open connections go on");
    for kind in ["normal", "pubsub"] {
        let mut cut = redis::cmd("CLIENT");
        cut.arg("KILL").arg("TYPE").arg(kind).arg("SKIPME").arg("yes");
        let _: usize = cut.query_async(&mut operator).await.expect("how many were cut");
    }

    asks_until_heard(&mut next).await;
    assert_eq!(until_done(&mut ana, || close(&chat)).await.code, 0);
    talking.until(ChatState::Ended).await;
    assert_eq!(ana.takes().await.chat_id, next.chat_id());
    house.nobody_is_lost(2).await;
    let stranger = house.redis().try_connection_with(&vouches.onlooker).await;
    assert!(stranger.is_err(), "whoever has not changed is refused, so the queues have");
}

#[tokio::test]
async fn a_redis_that_cannot_show_whose_it_is_is_not_spoken_to() {
    if store() == Line::Embedded {
        return;
    }
    let house = Deployment::start(encrypted(Line::Redis)).await;
    let folder = TempDir::new().expect("a folder");
    let believed = &pki::house().authority;
    let of_others = Authority::new().vouch(folder.path(), "others");
    let elsewhere = believed.vouch_for(folder.path(), "elsewhere", &["elsewhere.test"]);

    let of_redis = believed.vouch(folder.path(), "redis");

    let refused = "invalid peer certificate";
    for (shown, why) in [(of_redis, None), (of_others, Some(refused)), (elsewhere, Some("not valid for name"))] {
        // It lets our queues in: it is they who must not believe it.
        let files = Files { ca: pki::house().onlooker.ca.clone(), ..shown };
        let other = RedisServer::start_with_tls(free_port(), &[], &files);
        let mut queue = Process::new("queue", "newcomer", house.dir());
        queue.set("STORE__REDIS_URLS", &other.service_url());
        queue.spawn();

        let Some(why) = why else {
            queue.ready().await;
            continue;
        };
        assert_ne!(queue.ended(PATIENCE).await.code(), Some(0), "{why}");
        assert!(queue.log().contains(why), "{why}: {}", queue.log());
    }
    house.nobody_is_lost(0).await;
}

#[tokio::test]
async fn whoever_was_vouched_for_by_somebody_else_is_refused() {
    let house = Deployment::start(encrypted(Line::Embedded)).await;
    let elsewhere = TempDir::new().expect("a folder");
    let theirs = Authority::new().vouch(elsewhere.path(), "dispatch");
    let mut stranger = Process::new("dispatch", "stranger", house.dir());
    stranger.set("QUEUE__ADDRESSES", &house.queues[0].url());
    stranger.set("CLIENT__TLS__CERT_FILE", &theirs.cert.display().to_string());
    stranger.set("CLIENT__TLS__KEY_FILE", &theirs.key.display().to_string());
    stranger.spawn();

    stranger.logged("no stream to a queue replica").await;
    house.queues[0]
        .measures("a refusal", |metrics| {
            metrics
                .lines()
                .any(|line| line.starts_with("rpc_server_handshakes_failed_total{") && line.contains("refused"))
        })
        .await;

    assert!(!house.queues[0].log().contains("stranger"), "it never came so far as to say its name");
    house.nobody_is_lost(0).await;
}

#[tokio::test]
async fn new_certificates_disturb_nobody_and_are_what_newcomers_meet() {
    let deployment = Deployment::start(encrypted(Line::Embedded)).await;
    let mut ana = deployment.responder("ana").await;
    let others = Authority::new();

    // Every service gets new ones, of the same authority; then the doors are told of another authority.
    for service in ["queue", "intake", "dispatch"] {
        pki::house().authority.vouch(deployment.dir(), service);
    }
    for process in deployment.processes() {
        process.logged("certificates have changed").await;
    }
    let mut visitor = deployment.visitor().await;
    visitor.asks().await;
    let chat = ana.takes().await;
    ana.closes(&chat).await;

    others.vouch(deployment.dir(), "queue");
    deployment.queues[0].logged_times("certificates have changed", 2).await;
    assert!(deployment.try_floor().await.is_none(), "whoever comes with an old certificate is refused");
    visitor = deployment.visitor().await;
    visitor.asks().await;
    let chat = ana.takes().await;
    ana.closes(&chat).await;
}
