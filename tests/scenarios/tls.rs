//! Everything encrypted and everybody known: TLS at the doors, between the services with certificates on both sides, and to
//! Redis.

use holdfast_proto::v1::Urgency;
use holdfast_tests::pki::{Authority, house};
use holdfast_tests::processes::{Deployment, Line, Process, Setup};
use holdfast_tests::redis_server;

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
async fn whoever_was_vouched_for_by_somebody_else_is_refused() {
    let house = Deployment::start(encrypted(Line::Embedded)).await;
    let elsewhere = tempfile::TempDir::new().expect("a folder");
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
        house().authority.vouch(deployment.dir(), service);
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
