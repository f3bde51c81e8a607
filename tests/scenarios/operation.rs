//! What operators see: ports, logs, and one clear line when a service cannot start.

use holdfast_tests::processes::{Deployment, HELPLINE, Line, Process, Setup, program};
use serde_json::Value;
use std::net::TcpListener;
use std::process::{Command, Output};

const SERVICES: [&str; 3] = ["queue", "intake", "dispatch"];

#[tokio::test]
async fn every_service_is_alive_and_ready_and_tells_its_numbers() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let chat = ana.takes().await;
    ana.closes(&chat).await;

    for process in house.processes() {
        for path in ["/livez", "/readyz"] {
            assert_eq!(process.get(path).await.status, 200, "{} {path}", process.name);
        }
        let metrics = process.get("/metrics").await;
        assert_eq!(metrics.status, 200);
        assert!(metrics.body.contains("target_info{"), "{}: {}", process.name, metrics.body);
        assert_eq!(process.get("/elsewhere").await.status, 404);
    }
}

#[tokio::test]
async fn the_ledger_is_measured_and_its_difference_is_nothing() {
    let house = Deployment::usual().await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;

    for queue in &house.queues {
        let in_line = |body: &str| body.lines().any(|l| l.starts_with("holdfast_in_line{") && l.ends_with(" 1"));
        let measured = queue.measures("the visitor in the line", in_line).await;
        let difference = measured.lines().find(|line| line.starts_with("holdfast_ledger_difference{"));
        assert!(difference.is_some_and(|line| line.ends_with(" 0")), "{difference:?}");
    }
}

#[tokio::test]
async fn the_census_names_what_is_kept_and_what_nothing_would_remove() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let chat = ana.takes().await;
    ana.closes(&chat).await;
    let mut waits = house.visitor().await;
    waits.asks().await;
    house.queues[0].kill().await;
    house.queues[0].start_again().await;
    house.queues[0].ready().await;

    let (code, said) = census(&mut house);
    assert_eq!(code, Some(0), "{said}");
    let counted: Vec<&str> = said.lines().filter(|line| line.contains("chats ")).map(str::trim).collect();
    assert!(counted.iter().any(|line| line.starts_with("1    chats that have ended, the oldest for")), "{said}");

    let stray = format!("hf:{{{HELPLINE}}}:chat:stray");
    let mut connection = house.redis().connection().await;
    let mut store = redis::cmd("HSET");
    let () =
        store.arg(stray).arg("state").arg("ended").query_async(&mut connection).await.expect("a stray record");
    let (code, said) = census(&mut house);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("NOTHING REMOVES {HELPLINE} chat:stray: ")), "{said}");
}

/// How the census ended, and what it said.
fn census(house: &mut Deployment) -> (Option<i32>, String) {
    let url = house.redis().url().to_owned();
    let mut command = Command::new(program("queue"));
    command.arg("--config").arg(house.dir().join("queue.toml")).arg("--census");
    let output = command.env("HOLDFAST_QUEUE__STORE__REDIS_URLS", url).output().expect("a census");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

#[tokio::test]
async fn every_line_of_a_log_is_json_with_a_level_and_a_message() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    ana.offer().await;
    house.redis().kill();
    visitor.try_leave().await.expect_err("nobody hears");
    house.redis().start_again();
    for process in house.queues.iter_mut().chain(&mut house.intakes).chain(&mut house.dispatches) {
        process.signal("TERM");
    }
    for process in house.queues.iter_mut().chain(&mut house.intakes).chain(&mut house.dispatches) {
        assert!(process.ended(std::time::Duration::from_secs(8)).await.success(), "{}", process.name);
        for line in process.log().lines() {
            let entry: Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", process.name));
            assert!(entry["level"].is_string() && entry["fields"]["message"].is_string(), "{line}");
        }
    }
}

/// Starts a service that should refuse to, with these environment variables.
fn refused(service: &str, settings: &[(&str, &str)]) -> (Output, String) {
    let mut command = Command::new(program(service));
    command.env("HOLDFAST_INTAKE__SECURITY__INSECURE_RANDOM_TOKEN_KEY", "true");
    for (variable, value) in settings {
        command.env(format!("HOLDFAST_{}__{variable}", service.to_uppercase()), value);
    }
    let output = command.output().expect("a program that ends by itself");
    let errors = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    let said = format!("{service}: ");
    let lines: Vec<&str> =
        errors.lines().filter(|line| line.trim_start_matches("holdfast-").starts_with(&said)).collect();
    assert_eq!(lines.len(), 1, "one clear line: {errors}");
    assert!(!output.status.success(), "{service}");
    let line = lines[0].to_owned();
    (output, line)
}

const OPEN_TO_ALL: (&str, &str) = ("SECURITY__INSECURE_NO_AUTHENTICATION", "true");
const PLAINTEXT: (&str, &str) = ("SECURITY__INSECURE_NO_TLS", "true");

#[test]
fn a_setting_that_nobody_knows_is_named() {
    for service in SERVICES {
        let (_, line) = refused(service, &[OPEN_TO_ALL, ("SERVER__LISTENS", "127.0.0.1:1")]);
        assert!(line.to_lowercase().contains("server__listens"), "{line}");
    }
}

#[test]
fn a_service_without_authentication_does_not_start_unless_that_is_said_to_be_meant() {
    for service in SERVICES {
        let free = [("SERVER__LISTEN", "127.0.0.1:0"), ("SERVER__ADMIN_LISTEN", "127.0.0.1:0")];
        let (_, line) = refused(service, &free);
        assert!(line.contains("insecure_no_authentication"), "{line}");
    }
}

#[test]
fn a_service_without_tls_does_not_start_unless_that_is_said_to_be_meant() {
    for service in SERVICES {
        let free = [("SERVER__LISTEN", "127.0.0.1:0"), ("SERVER__ADMIN_LISTEN", "127.0.0.1:0"), OPEN_TO_ALL];
        let (_, line) = refused(service, &free);
        assert!(line.contains("server.tls.cert_file") && line.contains("insecure_no_tls"), "{line}");
    }
}

#[test]
fn an_intake_without_a_key_for_tokens_does_not_start_unless_that_is_said_to_be_meant() {
    let free =
        [("SERVER__LISTEN", "127.0.0.1:0"), ("SERVER__ADMIN_LISTEN", "127.0.0.1:0"), OPEN_TO_ALL, PLAINTEXT];
    let settings: Vec<_> = free.into_iter().chain([("SECURITY__INSECURE_RANDOM_TOKEN_KEY", "false")]).collect();
    let (_, line) = refused("intake", &settings);
    assert!(line.contains("visitor_token_key_file"), "{line}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for service in SERVICES {
        for variable in ["SERVER__LISTEN", "SERVER__ADMIN_LISTEN"] {
            let other = if variable == "SERVER__LISTEN" { "SERVER__ADMIN_LISTEN" } else { "SERVER__LISTEN" };
            let (_, line) = refused(service, &[OPEN_TO_ALL, (variable, &address), (other, "127.0.0.1:0")]);
            assert!(line.contains("address already in use") && line.contains(&address), "{line}");
        }
    }
}

#[tokio::test]
async fn a_queue_whose_redis_cannot_be_reached_at_the_start_says_so_and_ends() {
    let house = Deployment::start(Setup { line: Line::Embedded, queues: 1, ..Setup::default() }).await;
    let policies = house.policies();
    let settings = [
        OPEN_TO_ALL,
        PLAINTEXT,
        ("SERVER__LISTEN", "127.0.0.1:0"),
        ("SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
        ("STORE__KIND", "redis"),
        ("STORE__REDIS_URLS", "redis://127.0.0.1:1"),
        ("POLICY__DIR", policies.to_str().expect("UTF-8")),
        ("SECURITY__INSECURE_RANDOM_CONTENT_KEY", "true"),
    ];
    let (_, line) = refused("queue", &settings);
    assert!(line.contains("store"), "{line}");
}

#[tokio::test]
async fn settings_can_be_checked_without_starting() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    for service in SERVICES {
        let process = Process::new(service, service, dir.path());
        let mut command = Command::new(program(service));
        command.arg("--check-config").env("HOLDFAST_INTAKE__SECURITY__INSECURE_RANDOM_TOKEN_KEY", "true");
        command.env("HOLDFAST_QUEUE__STORE__FLOOR_PERSISTENCE", "ephemeral");
        for (variable, value) in [OPEN_TO_ALL, PLAINTEXT] {
            command.env(format!("HOLDFAST_{}__{variable}", service.to_uppercase()), value);
        }
        let output = command.output().expect("an answer");
        assert!(output.status.success(), "{}: {output:?}", process.name);
    }
}
