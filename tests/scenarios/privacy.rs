//! Nothing that a visitor says, and nothing about who they are, is logged, measured, traced, told to others or kept beside
//! what the line needs.
//!
//! Addresses, agents, names and phrases are planted (`privacy/canaries.rs`) in every field of text or bytes of every RPC that
//! somebody outside can call, which the descriptors of the contract name (`privacy/contract.rs`), in calls that are carried
//! out and in calls that are refused (`privacy/crowd.rs`), and in headers, paths and connections. Then everything that is
//! left of them is looked at (`privacy/places.rs`): both stores, the files of one, logs at their loudest, spans, metrics,
//! events, audit and answers.

mod canaries;
mod contract;
mod crowd;
mod places;

use crowd::{Crowd, Doors};
use holdfast_access::{Grant, api_keys::NewKey};
use holdfast_domain::{HelplineId, Policy};
use holdfast_queue::store::{Store, memory::MemoryStore};
use holdfast_tests::collector::Collector;
use holdfast_tests::in_process::Services;
use holdfast_tests::processes::{Deployment, HELPLINE, Setup};
use places::Place;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use tempfile::NamedTempFile;

/// Fields that take one canary or another as it comes, and what becomes of it. Everything else is refused.
const TAKEN: [(&str, &str); 30] = [
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo: host", "not looked at"),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo: list_services", "not looked at"),
    (
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo: all_extension_numbers_of_type",
        "an answer without numbers: there are no extensions",
    ),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo: host", "not looked at"),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo: list_services", "not looked at"),
    (
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo: all_extension_numbers_of_type",
        "an answer without numbers: there are no extensions",
    ),
    ("holdfast.v1.DispatchService/Act: action.accept.reply_handoff", "kept sealed, for the visitor alone"),
    (
        "holdfast.v1.DispatchService/Session: action.refresh.token",
        "not looked at where nobody proves who they are, as here",
    ),
    (
        "holdfast.v1.DispatchService/Session: sign_in.sealed_assignments.chat_id",
        "asked for only when the line has lost a chat of the session",
    ),
    (
        "holdfast.v1.DispatchService/Session: sign_in.sealed_assignments.sealed",
        "opened only when the line has lost a chat of the session",
    ),
    (
        "holdfast.v1.DispatchService/Watch: sign_in.sealed_assignments.chat_id",
        "asked for only when the line has lost a chat of the session",
    ),
    (
        "holdfast.v1.DispatchService/Watch: sign_in.sealed_assignments.sealed",
        "opened only when the line has lost a chat of the session",
    ),
    ("holdfast.v1.IntakeService/GetFallback: locale", "chooses among the resources, and is gone"),
    ("holdfast.v1.IntakeService/GetFallback: region", "chooses among the resources, and is gone"),
    (
        "holdfast.v1.IntakeService/RequestChat: challenge_solution.token",
        "no work was asked for; one that solves nothing is none",
    ),
    ("holdfast.v1.IntakeService/RequestChat: handoff", "kept sealed, for the responder alone"),
    ("holdfast.v1.IntakeService/RequestChat: language", "chooses among the policy's routes, and is gone"),
    ("holdfast.v1.IntakeService/RequestChat: locale", "chooses among the resources, and is gone"),
    ("holdfast.v1.IntakeService/RequestChat: preferences.name", "a tag that the policy does not have is left out"),
    ("holdfast.v1.IntakeService/RequestChat: region", "chooses among routes and resources, and is gone"),
    ("holdfast.v1.IntakeService/RequestChat: request_id", "kept as a digest"),
    (OF_INTEGRATORS, "kept as a digest under a key of intake's"),
    ("holdfast.v1.IntakeService/ResumeChat: locale", "chooses among the resources, and is gone"),
    ("holdfast.v1.IntakeService/ResumeChat: ticket", "opened only when the line has lost the chat"),
    ("holdfast.v1.IntakeService/UpdateChat: ticket", "opened only when the line has lost the chat"),
    ("holdfast.v1.IntakeService/WatchChat: locale", "chooses among the resources, and goes with the stream"),
    ("holdfast.v1.IntakeService/WatchChat: ticket", "opened only when the line has lost the chat"),
    ("holdfast.v1.QueueService/ListBlocks: after_block_id", "where a page begins; the block need not be there"),
    (
        "holdfast.v1.SupervisionService/ListBlocks: after_block_id",
        "where a page begins; the block need not be there",
    ),
    ("holdfast.v1.SupervisionService/TakeOver: reply_handoff", "kept sealed, for the visitor alone"),
];

/// What only an integrator who is known may say.
const OF_INTEGRATORS: &str = "holdfast.v1.IntakeService/RequestChat: subject";

/// Fields whose words are kept and told, where the table in SECURITY.md says so, and why that is as it should be: they are
/// about staff, or published by them.
pub const KEPT: [(&str, &str, &str); 3] = [
    (
        "responder_id",
        "hf:{HELPLINE}:responder:ID",
        "who a responder is, in the line and to supervisors, never to visitors",
    ),
    ("supervisor_id", "hf:{HELPLINE}:audit:entries", "who decided something, in events and in the audit"),
    ("toml", "hf:{HELPLINE}:policy", "a policy is what a helpline publishes"),
];

/// Nothing happens by itself while everything is planted.
const POLICY: &str = r#"
helpline = "river"
name = "The river line"
tags = [{ name = "lang:en" }, { name = "lang:es" }, { name = "skill:minors", levels = 3 }, { name = "topic:grief" }]
resources = [{ title = "Another helpline", contact = "https://example.org" }]
[[survey]]
id = "plan"
kind = "flag"
[[survey]]
id = "topic"
kind = "choice"
options = ["grief", "other"]
[promise]
reach_within_ms = [7200000, 7200000, 7200000, 7200000]
[numbers]
offer_deadline_ms = 3600000
first_reply_ms = 3600000
prefer_for_ms = 3600000
heartbeat_ms = 600000
presence_lease_ms = 3600000
reconnect_grace_ms = 3600000
away_after_ms = 3600000
abandon_after_ms = 3600000
anyone_after_ms = 3600000
wrap_up_ms = [3600000, 3600000, 3600000, 3600000]
cool_down_ms = [0, 0, 0, 0]
"#;

fn rules(policy: &mut Policy) {
    *policy = Policy::from_toml(POLICY).expect("a policy");
}

/// Everything is planted, and it is known that it was.
async fn planted(doors: Doors) -> Crowd {
    let mut crowd = Crowd::come(doors, Arc::default()).await;
    crowd.plant_everywhere().await;
    crowd.have_everything_carried_out().await;
    crowd.knock().await;
    let fields: BTreeSet<String> = contract::fields().iter().map(contract::Field::name).collect();
    assert_eq!(crowd.planted, fields);
    let with_fields: BTreeSet<String> = contract::fields().into_iter().map(|field| field.rpc).collect();
    assert_eq!(crowd.refused, with_fields, "an RPC that takes whatever comes");
    let rpcs: BTreeSet<String> = contract::rpcs().into_iter().collect();
    assert_eq!(crowd.carried_out, rpcs, "what was not carried out was not looked at");
    crowd
}

/// What was taken as it came is what is listed, all else was refused, and nothing of either was found.
fn nothing_was_found(crowd: &Crowd) {
    crowd.canaries.were_nowhere();
    let mut listed: BTreeSet<String> = TAKEN.iter().map(|(field, _)| (*field).to_owned()).collect();
    if crowd.is_anonymous() {
        listed.remove(OF_INTEGRATORS);
    }
    assert_eq!(crowd.taken, listed);
}

#[test]
fn what_is_kept_of_staff_is_in_the_table_of_what_can_be_handed_over() {
    let table = include_str!("../../SECURITY.md");
    for (field, key, _) in KEPT {
        let mut rows = table.lines().filter(|row| row.starts_with(&format!("| `{key}` |")));
        let of_them = |row: &str| [" staff |", " helpline |"].iter().any(|whom| row.contains(whom));
        assert!(rows.any(of_them), "{field}: {key} is of staff in no row");
    }
}

#[tokio::test]
async fn nothing_of_a_visitor_is_in_the_store_logs_traces_metrics_events_or_answers_whatever_they_send() {
    let collector = Collector::start().await;
    let integrator = NewKey::generate().expect("a key");
    let mut keys = NamedTempFile::new().expect("a file");
    let entry = integrator.entry("website", &[Grant::RequestChats], &[HELPLINE.to_owned()]);
    keys.write_all(entry.as_bytes()).expect("a file of keys");
    let mut house = Deployment::start(Setup {
        collector: Some(collector.url().to_owned()),
        log_filter: "trace",
        dispatches: 1,
        rules,
        intake_settings: vec![
            ("SECURITY__INSECURE_NO_AUTHENTICATION", "false".to_owned()),
            ("SECURITY__API_KEYS_FILE", keys.path().display().to_string()),
            ("FLOODS__SOURCE_HEADER", "x-forwarded-for".to_owned()),
            ("FLOODS__REQUESTS_AT_ONCE", "100000".to_owned()),
            ("FLOODS__REQUESTS_PER_HOUR", "100000".to_owned()),
        ],
        ..Setup::default()
    })
    .await;
    let listener = places::Listener::to(house.redis()).await;
    let local = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let doors = Doors {
        intake: local(house.intakes[0].port()),
        queue: local(house.queues[0].port()),
        dispatch: local(house.dispatches[0].port()),
        integrator: Some(integrator.key.clone()),
        admin: house.processes().map(|process| local(process.admin_port())).collect(),
    };

    let crowd = planted(doors).await;
    let mut last = house.stranger("staffmark-last").await;
    last.sign_in().await;

    let (canaries, secrets) = (&crowd.canaries, &crowd.secrets);
    for place in places::told_by(&house.queues[0].url(), "staffmark-last").await {
        place.is_clean(canaries, secrets, crowd::ANA);
    }
    listener.notes(house.redis()).await.is_clean(canaries, secrets, crowd::ANA);
    for place in places::of_redis(house.redis()).await {
        place.is_clean(canaries, secrets, crowd::ANA);
    }
    Place::new("an answer", crowd.heard()).is_clean(canaries, &[], crowd::ANA);
    for process in house.queues.iter_mut().chain(&mut house.intakes).chain(&mut house.dispatches) {
        let metrics = Place::new(format!("the metrics of {}", process.name), process.get("/metrics").await.body);
        process.signal("TERM"); // what is left of traces and metrics is sent now
        process.ended(std::time::Duration::from_secs(8)).await;
        metrics.is_clean(canaries, secrets, "# HELP");
        metrics.names_nobody();
        Place::new(format!("the log of {}", process.name), process.log()).is_clean(canaries, secrets, "attached");
    }
    let sent = Place::new("what was collected", collector.everything());
    sent.is_clean(canaries, secrets, "holdfast.v1.IntakeService/RequestChat");
    let counted = Place::new("the metrics that were collected", collector.metrics());
    counted.is_clean(canaries, secrets, "holdfast.requests");
    counted.names_nobody();
    assert!(collector.spans().iter().any(|span| span.trace_id() == crowd::TRACE), "callers' traces go on");
    assert!(!collector.everything().contains("telemetry.dropped"), "something was not on the list");
    nothing_was_found(&crowd);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_visitor_is_in_a_store_in_memory() {
    let store = Arc::new(MemoryStore::new(Box::new(holdfast_runtime::clock::wall_ms), 7, "life".to_owned()));
    let services = Services::start_on(Arc::clone(&store) as Arc<dyn Store>, &[POLICY]).await;
    let (intake, queue, dispatch) = (services.intake, services.queue, services.dispatch);

    let crowd = planted(Doors { intake, queue, dispatch, integrator: None, admin: Vec::new() }).await;

    let mut kept = String::new();
    for helpline in store.helplines().await.expect("helplines") {
        let events = store.events(&helpline, &Default::default(), usize::MAX).await.expect("events");
        let snapshot = store.snapshot(&helpline).await.expect("a snapshot");
        kept += &format!("{helpline} {snapshot:?} {events:?}");
    }
    assert!(store.snapshot(&HelplineId::parse(HELPLINE).expect("a name")).await.is_ok());
    Place::new("the store in memory", kept).is_clean(&crowd.canaries, &crowd.secrets, crowd::ANA);
    Place::new("an answer", crowd.heard()).is_clean(&crowd.canaries, &[], crowd::ANA);
    services.stop().await;
    nothing_was_found(&crowd);
}
