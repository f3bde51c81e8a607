//! The services as simulated hosts: each is the real one, from its settings to its drain.

use crate::network::{Socket, dial};
use crate::store::Shaky;
use holdfast_domain::policy::Numbers;
use holdfast_domain::{HelplineId, Policy};
use holdfast_runtime::config::ClientConfig;
use holdfast_runtime::{Context, Readiness, Stop, Telemetry, telemetry};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

pub(crate) const HELPLINE: &str = "simulated";
pub(crate) const QUEUES: [&str; 2] = ["queue-a", "queue-b"];
pub(crate) const INTAKES: [&str; 2] = ["intake-a", "intake-b"];
pub(crate) const DISPATCHES: [&str; 2] = ["dispatch-a", "dispatch-b"];
pub(crate) const QUEUE_PORT: u16 = 50_052;
pub(crate) const INTAKE_PORT: u16 = 50_051;
pub(crate) const DISPATCH_PORT: u16 = 50_053;

/// As an orchestrator does.
const RESTART_AFTER: Duration = Duration::from_millis(300);

pub(crate) fn helpline() -> HelplineId {
    HELPLINE.parse().expect("a helpline's name")
}

/// Durations that fit many lives of a chat into half a minute.
fn policy() -> Policy {
    let numbers = Numbers {
        fan_out: 2,
        offer_deadline_ms: 2_000,
        back_off_ms: 2_000,
        min_back_off_ms: 500,
        heartbeat_ms: 700,
        presence_lease_ms: 3_500,
        reconnect_grace_ms: 2_000,
        away_after_ms: 4_000,
        abandon_after_ms: 6_000,
        wrap_up_ms: [100, 200, 300, 400],
        cool_down_ms: [0, 0, 200, 400],
        anyone_after_ms: 3_000,
        first_reply_ms: 4_000,
        ..Numbers::default()
    };
    Policy { helpline: HELPLINE.to_owned(), name: "Simulated".to_owned(), numbers, ..Policy::default() }
}

/// What the hosts find on their disks.
pub(crate) fn furnish(folder: &Path) {
    let policies = folder.join("policies");
    std::fs::create_dir_all(&policies).expect("a folder");
    let policy = policy().to_toml().expect("a policy as a file");
    std::fs::write(policies.join("simulated.toml"), policy).expect("a policy file");
    std::fs::write(folder.join("key"), "simulated-key-of-more-than-32-bytes").expect("a key file");
}

/// The telemetry of this process; made before anything is simulated.
pub(crate) fn telemetry() -> Telemetry {
    let config = holdfast_queue::Config::load(None, &[("telemetry.log_filter", "off".to_owned())]);
    telemetry::init("holdfast-tests", &config.expect("settings").telemetry).expect("telemetry")
}

fn context(telemetry: &Telemetry) -> Context {
    Context { telemetry: telemetry.clone(), stop: Stop::new(), readiness: Readiness::new() }
}

type Settings = Vec<(&'static str, String)>;

fn common(name: &str) -> Settings {
    vec![
        ("security.insecure_no_authentication", "true".to_owned()),
        ("security.insecure_no_tls", "true".to_owned()),
        ("telemetry.service_instance", name.to_owned()),
        ("server.keepalive_interval_ms", "1000".to_owned()),
        ("server.keepalive_timeout_ms", "1000".to_owned()),
    ]
}

fn towards_the_queue(name: &str) -> Settings {
    let queues: Vec<String> = QUEUES.iter().map(|queue| format!("http://{queue}:{QUEUE_PORT}")).collect();
    let mut settings = common(name);
    settings.extend([("queue.addresses", queues.join(",")), ("queue.command_timeout_ms", "2000".to_owned())]);
    settings
}

fn quickly(client: &mut ClientConfig) {
    client.connect_timeout_ms = 1_000;
    client.keepalive_interval_ms = 1_000;
    client.keepalive_timeout_ms = 1_000;
    client.dial = dial();
}

/// Runs a replica of the queue until its host crashes. It ends when it cannot reach its store at the start; whoever
/// runs it starts it again.
pub(crate) async fn queue(
    name: &'static str,
    folder: &Path,
    store: Arc<Shaky>,
    telemetry: &Telemetry,
) -> turmoil::Result {
    loop {
        match serve_queue(name, folder, Arc::clone(&store), telemetry).await {
            Err(error) if error.to_string().ends_with(crate::store::SIMULATED) => sleep(RESTART_AFTER).await,
            ended => return ended,
        }
    }
}

async fn serve_queue(
    name: &'static str,
    folder: &Path,
    store: Arc<Shaky>,
    telemetry: &Telemetry,
) -> turmoil::Result {
    let mut settings = common(name);
    settings.push(("policy.dir", folder.join("policies").display().to_string()));
    let config = holdfast_queue::Config::load(None, &settings)?;
    let bound = holdfast_queue::Bound { grpc: Socket::bind(QUEUE_PORT).await?, admin: None };
    Ok(holdfast_queue::run_with_store(config, store, bound, &context(telemetry)).await?)
}

/// Runs a replica of intake until its host crashes.
pub(crate) async fn intake(name: &'static str, folder: &Path, telemetry: &Telemetry) -> turmoil::Result {
    let mut settings = towards_the_queue(name);
    settings.push(("security.visitor_token_key_file", folder.join("key").display().to_string()));
    let mut config = holdfast_intake::Config::load(None, &settings)?;
    quickly(&mut config.client);
    let bound = holdfast_intake::Bound { grpc: Socket::bind(INTAKE_PORT).await?, admin: None };
    Ok(holdfast_intake::run(config, bound, &context(telemetry)).await?)
}

/// Runs a replica of dispatch until its host crashes.
pub(crate) async fn dispatch(name: &'static str, telemetry: &Telemetry) -> turmoil::Result {
    let mut config = holdfast_dispatch::Config::load(None, &towards_the_queue(name))?;
    quickly(&mut config.client);
    let bound = holdfast_dispatch::Bound { grpc: Socket::bind(DISPATCH_PORT).await?, admin: None };
    Ok(holdfast_dispatch::run(config, bound, &context(telemetry)).await?)
}
