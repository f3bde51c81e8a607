//! Checks a running deployment from outside, one line each.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use holdfast_access::Grant;
use holdfast_proto::v1::{
    GetFloorRequest, GetLimitsRequest, intake_service_client::IntakeServiceClient,
    queue_service_client::QueueServiceClient,
};
use tokio::time::timeout;
use tonic::Status;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    Failure,
    credential::Whom,
    remote::{ACCEPTING, Calling, Door, Remote, SEALING},
    terminal::say,
    words,
};

mod weak;

/// No check may take longer.
const CHECK: Duration = Duration::from_secs(5);

/// More than this and leases, deadlines and steps run visibly late.
const MAX_CLOCK_LAG: Duration = Duration::from_secs(5);

/// What is checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where intake is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50051")]
    intake: String,
    /// Where queue is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50052")]
    queue: String,
    /// Where dispatch is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50053")]
    dispatch: String,
    /// The helpline whose floor is looked at.
    #[arg(long, default_value = "demo")]
    helpline: String,
    /// A folder with the services' settings in queue.toml, intake.toml and dispatch.toml, any of them: what is weak in them is
    /// named too.
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    #[command(flatten)]
    calling: Calling,
}

/// What a check found: a sentence either way.
type Finding = Result<String, String>;

/// Runs every check and prints one line each, and one for whatever is weak, which is no failure.
///
/// # Errors
/// When a check failed, or the settings cannot be read.
pub async fn run(args: Args) -> Result<(), Failure> {
    // Only the queue is asked for what is not open to everybody.
    let intake = args.calling.as_nobody("intake", &args.intake);
    let queue = args.calling.to("queue", &args.queue, Whom::new("doctor", Grant::Auditor));
    let dispatch = args.calling.as_nobody("dispatch", &args.dispatch);
    let findings = [
        ("intake", check(&intake, serving(&intake, "")).await),
        ("queue", check(&queue, serving(&queue, "")).await),
        ("dispatch", check(&dispatch, serving(&dispatch, "")).await),
        ("accepting", check(&intake, serving(&intake, ACCEPTING)).await),
        ("store", check(&queue, store(&queue, &args.helpline)).await),
        ("content", check(&queue, sealing(&queue)).await),
        ("limits", check(&intake, limits(&intake)).await),
        ("ledger", check(&queue, ledger(&queue, &args.helpline)).await),
        ("clock", check(&queue, clock(&queue, &args.helpline)).await),
    ];
    for (name, finding) in &findings {
        let (verdict, said) = match finding {
            Ok(said) => ("ok  ", said),
            Err(said) => ("FAIL", said),
        };
        say(&format!("{verdict}  {name:<10} {said}"))?;
    }
    for (service, said) in weak(&args, [&intake, &queue, &dispatch]).await? {
        say(&format!("weak  {service:<10} {said}"))?;
    }
    let failed = findings.iter().filter(|(_, finding)| finding.is_err()).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Unwell { failed, all: findings.len() })
}

async fn weak(args: &Args, services: [&Remote; 3]) -> Result<Vec<(&'static str, String)>, Failure> {
    let [intake, queue, dispatch] = services;
    let mut found = Vec::new();
    for remote in [intake, queue, dispatch] {
        let said = weak::from_outside(remote, &args.calling.trust).await;
        found.extend(said.into_iter().map(|said| (remote.service, said)));
    }
    let open = weak::of_the_queue(queue, &args.calling.trust).await;
    found.extend(open.into_iter().map(|said| (queue.service, said)));
    if let Some(folder) = &args.config_dir {
        found.extend(weak::in_settings(folder)?);
    }
    Ok(found)
}

async fn check(remote: &Remote, checking: impl Future<Output = Result<Finding, Problem>>) -> Finding {
    match timeout(CHECK, checking).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(Problem::Status(status))) => Err(remote.failure(&status).to_string()),
        Ok(Err(Problem::Failure(failure))) => Err(failure.to_string()),
        Err(_late) => Err(format!("no answer from {} within {}", remote.address, words::span(CHECK))),
    }
}

enum Problem {
    Status(Box<Status>),
    Failure(Failure),
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

async fn serving(remote: &Remote, name: &str) -> Result<Finding, Problem> {
    let began = Instant::now();
    let request = HealthCheckRequest { service: name.to_owned() };
    let answer = HealthClient::new(remote.channel()?).check(request).await?;
    let status = answer.into_inner().status();
    let said = format!("{} in {}", status.as_str_name(), words::span(began.elapsed()));
    Ok(if status == ServingStatus::Serving { Ok(said) } else { Err(said) })
}

async fn sealing(remote: &Remote) -> Result<Finding, Problem> {
    let request = HealthCheckRequest { service: SEALING.to_owned() };
    let answer = HealthClient::new(remote.channel()?).check(request).await?;
    if answer.into_inner().status() == ServingStatus::Serving {
        return Ok(Ok("sealed before it reaches the store".to_owned()));
    }
    let said = "kept as it comes, for whoever reads the store (set content.key_dir), or the queue is stopping";
    Ok(Err(said.to_owned()))
}

async fn limits(remote: &Remote) -> Result<Finding, Problem> {
    let answer = IntakeServiceClient::new(remote.channel()?).get_limits(GetLimitsRequest {}).await?;
    let limits = answer.into_inner();
    let said = format!(
        "a handoff has at most {} bytes, a responder at most {} load, a ladder at most {} steps",
        limits.max_handoff_bytes, limits.max_capacity, limits.max_routing_steps
    );
    Ok(if limits.max_handoff_bytes > 0 { Ok(said) } else { Err(said) })
}

async fn floor(remote: &Remote, helpline: &str) -> Result<holdfast_proto::v1::GetFloorResponse, Problem> {
    let request = GetFloorRequest { helpline: helpline.to_owned(), limit: 1 };
    let mut queue: QueueServiceClient<Door> = QueueServiceClient::new(remote.channel()?);
    Ok(queue.get_floor(request).await?.into_inner())
}

async fn ledger(remote: &Remote, helpline: &str) -> Result<Finding, Problem> {
    let Some(ledger) = floor(remote, helpline).await?.ledger else {
        return Ok(Err("the floor has no ledger".to_owned()));
    };
    let said = format!(
        "{helpline}: {} accepted, {} waiting, {} offered, {} active, difference {}",
        ledger.accepted, ledger.waiting, ledger.offered, ledger.active, ledger.difference
    );
    Ok(if ledger.difference == 0 { Ok(said) } else { Err(said) })
}

async fn store(remote: &Remote, helpline: &str) -> Result<Finding, Problem> {
    let Some(store) = floor(remote, helpline).await?.store else {
        return Ok(Err("the queue does not say how its store stands".to_owned()));
    };
    let kept = words::durability(store.durability.as_ref());
    let known = if store.declared { "; declared, not verified" } else { "" };
    if store.accepting {
        return Ok(Ok(format!("{kept}{known}")));
    }
    Ok(Err(format!("no new chats are taken ({}); {kept}{known}", store.reason)))
}

async fn clock(remote: &Remote, helpline: &str) -> Result<Finding, Problem> {
    let lag = words::duration(floor(remote, helpline).await?.clock_lag.as_ref());
    let said = format!("{helpline}: the service clock is {} behind the wall", words::span(lag));
    Ok(if lag <= MAX_CLOCK_LAG { Ok(said) } else { Err(said) })
}
