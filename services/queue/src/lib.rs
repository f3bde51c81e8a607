//! The keeper of the line: the only service that touches its store.
//!
//! ```text
//! service ─┬─ attach ── outbox     one stream for each replica that speaks for visitors or responders
//!          ├─ turns                who waits, and who is refused, when too many ask for new chats
//!          ├─ events               what happened, for whoever comes back with a cursor
//!          ├─ kpis                 how a line has served, from what happened
//!          └─ desk ── policies     commands to the store, under the helpline's policy
//! doors                         what each caller may ask of the line
//! desk ────── tickets              what brings chats back when the store has lost them
//! ticker ──── desk                 what time alone does
//!   ├─ overflow                    chats on their way to a partner's line
//!   └─ pager                       calls to volunteers who are off shift
//! audit                            who decided what, behind the line
//! content                          what is sealed for one reader, and the helplines' keys
//! metrics                          what operators see
//! convert, error                   between the contract and the rules
//! store                            where lines are kept
//! ```

use std::{path::Path, sync::Arc, time::Duration};

use holdfast_access::{Access, AccessError};
use holdfast_domain::{Command, HelplineId, IdError, ResponderId, ids::DigestHex};
use holdfast_proto::v1::{FILE_DESCRIPTOR_SET, queue_service_server::QueueServiceServer};
use holdfast_runtime::{
    AdminServer, Context, Stop, TaskSet, clock,
    config::{ConfigError, read_secret},
    net::Listen,
    server::{self, ServeError},
    shutdown::TaskError,
    tls::{self, TlsError},
};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::info;
use uuid::Uuid;

mod attach;
pub mod audit;
pub mod config;
mod content;
mod convert;
mod desk;
mod doors;
mod error;
mod events;
#[cfg(feature = "test-util")]
pub mod fuzzing;
mod kpis;
mod metrics;
mod outbox;
pub mod overflow;
mod pager;
mod policies;
mod service;
pub mod store;
mod ticker;
mod tickets;
mod turns;

pub use config::{Config, StoreConfig, StoreKind};
pub use content::ContentError;
pub use error::Reason;
pub use pager::PagerError;
pub use policies::{DEMO, PolicyFault};
pub use tickets::TicketKeyError;

use audit::{AuditKeyError, Seals, clerk::Clerk};
use content::Content;
use desk::Desk;
use metrics::Metrics;
use overflow::Courier;
use pager::Pager;
use service::Service;
use store::census::{Census, Unowned};
use store::redis::{self, RedisSettings, RedisStore};
use store::{Persistence, Store, StoreError, memory::MemoryStore};
use ticker::{Outside, Ticker};
use tickets::Tickets;

/// The health name that says whether the store sees nothing of what content says.
pub const SEALING: &str = "holdfast.queue.sealing";

/// How long background tasks may take to end once nothing is served any more.
const LAST_TASKS: Duration = Duration::from_secs(2);

/// The sockets, opened by whoever runs the service.
#[derive(Debug)]
pub struct Bound<L = TcpListener> {
    /// For gRPC.
    pub grpc: L,
    /// For `/livez`, `/readyz` and `/metrics`; none where somebody else serves them.
    pub admin: Option<TcpListener>,
}

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// TLS cannot be had as the settings say, or is missing.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// How callers prove who they are is not said, or makes no sense.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] ConfigError),
    /// Nobody said that losing everything at a restart is meant.
    #[error(
        "store.kind is \"memory\", and a restart would lose everybody in the line: set store.floor_persistence to \
         \"ephemeral\" where that is meant, or keep the line in Redis"
    )]
    Ephemeral,
    /// There is nothing to look at.
    #[error("store.kind is \"memory\": nothing is kept outside of the service's process")]
    NothingKept,
    /// Content cannot be sealed with these settings.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The store cannot be opened.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// A policy cannot be read or put in force.
    #[error(transparent)]
    Policy(#[from] PolicyFault),
    /// Tickets cannot be sealed with these settings.
    #[error(transparent)]
    Tickets(#[from] TicketKeyError),
    /// The audit cannot be sealed with these settings.
    #[error(transparent)]
    Audit(#[from] AuditKeyError),
    /// Nobody can be called up with these settings.
    #[error(transparent)]
    Paging(#[from] PagerError),
    /// It cannot serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A background task is gone.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// This replica cannot be named.
    #[error("telemetry.service_instance: {0}")]
    Name(#[from] IdError),
}

/// Checks what can be checked without opening anything: the settings together, and the policies that they name.
///
/// # Errors
/// One line for what would keep the service from starting.
pub fn check(config: &Config) -> Result<(), RunError> {
    Access::check(&config.security.access())?;
    check_tls(config)?;
    check_floor(&config.store)?;
    content::check(config)?;
    tickets::check(config)?;
    audit::seal::check(config)?;
    policies::read(&config.policy, &config.store)?;
    Tickets::of(&config.tickets)?;
    Seals::of(&config.audit)?;
    Ok(())
}

/// Runs the service with the store that its settings name, until the context says stop.
///
/// # Errors
/// One line for what cannot be opened, read or put in force.
pub async fn run<L: Listen>(config: Config, bound: Bound<L>, context: &Context) -> Result<(), RunError> {
    Access::check(&config.security.access())?;
    check_tls(&config)?;
    content::check(&config)?;
    tickets::check(&config)?;
    audit::seal::check(&config)?;
    let store = open_store(&config.store).await?;
    run_with_store(config, store, bound, context).await
}

/// Opens the store that the settings name.
///
/// # Errors
/// When it cannot be reached or does not keep what a line needs.
pub async fn open_store(config: &StoreConfig) -> Result<Arc<dyn Store>, RunError> {
    match config.kind {
        StoreKind::Memory => {
            check_floor(config)?;
            let run = Uuid::new_v4();
            let (node, ..) = run.as_fields();
            Ok(Arc::new(MemoryStore::new(Box::new(clock::wall_ms), node, run.simple().to_string())))
        }
        StoreKind::Redis => Ok(Arc::new(RedisStore::connect(&redis_settings(config)?).await?)),
    }
}

fn redis_settings(config: &StoreConfig) -> Result<RedisSettings, RunError> {
    let password = password_in(&config.redis_password_file)?;
    let files = config.redis_tls()?;
    Ok(RedisSettings {
        tls: Some(files).filter(|files| !files.is_empty()).map(redis::follow_certificates).transpose()?,
        urls: config.redis_urls.clone(),
        cluster: config.cluster,
        password,
        sentinels: config.redis_sentinels.clone(),
        primary_name: config.redis_primary_name.clone(),
        sentinel_password: password_in(&config.redis_sentinel_password_file)?,
        response_timeout: Duration::from_millis(config.response_timeout_ms),
        connect_timeout: Duration::from_millis(config.connect_timeout_ms),
        replicas_required: config.replicas_required,
        wait_timeout: Duration::from_millis(config.wait_timeout_ms),
        floor_persistence: config.floor_persistence,
        floor_replicas: config.floor_replicas,
        declared_persistence: config.declared_persistence.persistence(),
    })
}

/// What the store holds that the settings name, and what in it has neither an expiry nor an owner.
///
/// # Errors
/// When it is no Redis, cannot be reached, or does not let this user look.
pub async fn census(config: &Config) -> Result<(Census, Vec<Unowned>), RunError> {
    Ok(redis::census::take(&kept_in(config)?).await?)
}

/// The Redis of the settings, for what only makes sense where something is kept.
fn kept_in(config: &Config) -> Result<RedisSettings, RunError> {
    check_tls(config)?;
    if config.store.kind == StoreKind::Memory {
        return Err(RunError::NothingKept);
    }
    redis_settings(&config.store)
}

/// Says that the store was restored from a backup: every line in it begins another life, in which whoever the copy
/// believes to be waiting is not offered before they are heard (`domain/src/line/recovery.rs`). Answers with the helplines.
/// For the case that no queue replica lives that could notice by itself; a second time is the same again, and costs
/// everybody another [`recovery_hold_ms`](holdfast_domain::policy::Numbers).
///
/// # Errors
/// When it is no Redis, cannot be reached, or a line cannot be changed.
pub async fn restored(config: &Config) -> Result<Vec<HelplineId>, RunError> {
    let store = RedisStore::connect(&kept_in(config)?).await?;
    let mut begun = Vec::new();
    for helpline in store.helplines().await? {
        let command = Command::Renew {
            life_was: store.floor(&helpline, 0).await?.generation,
            life: Uuid::new_v4().simple().to_string(),
            clock_ms: clock::wall_ms(),
            term: 0,
        };
        if store.execute(&helpline, &command).await?.reply.is_ok() {
            begun.push(helpline);
        }
    }
    Ok(begun)
}

/// What a file holds; nothing where none is named.
fn password_in(file: &Path) -> Result<Option<String>, RunError> {
    if file.as_os_str().is_empty() { Ok(None) } else { Ok(Some(read_secret(file)?.expose().to_owned())) }
}

/// Runs the service on a store that is open already, until the context says stop.
///
/// # Errors
/// One line for what cannot be read, put in force or served.
pub async fn run_with_store<L: Listen>(
    config: Config,
    store: Arc<dyn Store>,
    bound: Bound<L>,
    context: &Context,
) -> Result<(), RunError> {
    let access = Access::of(&config.security.access(), &context.telemetry.meter("holdfast-queue")).await?;
    check_tls(&config)?;
    context.readiness.set("queue", false);
    let wanted = policies::read(&config.policy, &config.store)?;
    let metrics = Metrics::new(&context.telemetry.meter("holdfast-queue"));
    let (content, keys) = Content::of(&config, metrics.content())?;
    for (helpline, policy) in &wanted {
        policies::install(&*store, helpline, policy, config.policy.overwrite).await?;
    }
    let desk = Arc::new(Desk::new(store, content, metrics, Tickets::of(&config.tickets)?));
    for (helpline, policy) in &wanted {
        desk.policies().learn(helpline, policy);
    }
    let replica = Replica::new(&config.telemetry.service_instance)?;
    let tasks = TaskSet::new(context.stop.clone());
    let done = CancellationToken::new();
    let clerk = Clerk::new(Arc::clone(&desk), config.audit.clone(), Arc::new(Seals::of(&config.audit)?));
    spawn_background(&tasks, &config, &desk, replica.digest, &done)?;
    tasks.spawn("audit", clerk.run(done.clone()));
    if let Some(keys) = keys {
        let every = Duration::from_millis(config.content.reload_ms);
        tasks.spawn("content keys", content::follow(keys, desk.metrics().content(), every, done.clone()));
    }
    // Told when nothing is served any more.
    let admin_stop = context.stop.child();
    access.keep_fresh(&admin_stop, &tasks);
    if let Some(listener) = bound.admin {
        let admin = AdminServer::new(context.readiness.clone(), context.telemetry.registry());
        tasks.spawn("admin", admin.serve(listener, admin_stop.clone()));
    }
    info!(replica = replica.name, helplines = wanted.len(), "the line is open");
    context.readiness.set("queue", true);
    let served = serve(&config, desk, replica.name, &access, bound.grpc, context).await;
    end(&tasks, &context.stop, &admin_stop, &done).await?;
    served
}

/// Nothing goes in or out in plaintext unless that was asked for; Redis may be a neighbour on this machine.
fn check_tls(config: &Config) -> Result<(), TlsError> {
    let asked_for = config.security.insecure_no_tls;
    config.server.tls.check_internal(asked_for)?;
    let store = &config.store;
    if store.kind == StoreKind::Memory {
        return Ok(());
    }
    redis::check_tls("store.redis_urls", &store.redis_urls, asked_for)?;
    redis::check_tls("store.redis_sentinels", &store.redis_sentinels, asked_for)?;
    tls::check(&store.redis_tls()?, redis::certificates).map(drop)
}

/// A line in memory is worth what was asked for only where nothing was asked for.
fn check_floor(config: &StoreConfig) -> Result<(), RunError> {
    let is_met = config.kind == StoreKind::Redis || config.floor_persistence == Persistence::Ephemeral;
    if is_met { Ok(()) } else { Err(RunError::Ephemeral) }
}

/// What works beside the calls. It goes on through the drain: chats in the line do not wait for a restart.
fn spawn_background(
    tasks: &TaskSet,
    config: &Config,
    desk: &Arc<Desk>,
    by: DigestHex,
    done: &CancellationToken,
) -> Result<(), PagerError> {
    let pager = Pager::new(Arc::clone(desk), &config.paging)?;
    let ((errands, to_partners), (calls, to_volunteers)) = (overflow::errands(), pager::calls());
    let outside = Outside { errands, calls };
    let ticker = Ticker::new(Arc::clone(desk), config.ticker.clone(), by, outside, done.clone());
    tasks.spawn("ticker", Arc::new(ticker).run());
    tasks.spawn("overflow", Courier::new(Arc::clone(desk)).run(to_partners, done.clone()));
    tasks.spawn("pager", pager.run(to_volunteers, done.clone()));
    tasks.spawn("policies", policies::follow(Arc::clone(desk), done.clone()));
    let every = Duration::from_millis(config.gauges.interval_ms);
    tasks.spawn("gauges", metrics::measure(Arc::clone(desk), every, done.clone()));
    Ok(())
}

async fn serve(
    config: &Config,
    desk: Arc<Desk>,
    replica: String,
    access: &Access,
    listener: impl Listen,
    context: &Context,
) -> Result<(), RunError> {
    let is_sealed = desk.content().is_sealed();
    let service = Service::new(desk, config.attach.clone(), config.events.clone(), context.stop.clone(), replica);
    let service = QueueServiceServer::new(service)
        .max_decoding_message_size(config.server.max_decoding_bytes)
        .max_encoding_message_size(config.server.max_encoding_bytes);
    let mut routes = Routes::builder();
    let health = server::standard_services(&mut routes, &config.server, &[FILE_DESCRIPTOR_SET])?;
    routes.add_service(service);
    health.serving::<QueueServiceServer<Service>>().await;
    health.set(SEALING, is_sealed).await;
    let (stop, readiness) = (context.stop.clone(), context.readiness.clone());
    Ok(server::serve(listener, access.protect(routes.routes()), &config.server, stop, health, readiness).await?)
}

async fn end(tasks: &TaskSet, stop: &Stop, admin: &Stop, done: &CancellationToken) -> Result<(), TaskError> {
    // A service that cannot serve has ended, whoever asked for it.
    stop.trigger();
    done.cancel();
    admin.stop_now();
    tasks.join(LAST_TASKS).await
}

/// This replica, as others see it.
struct Replica {
    name: String,
    /// Unique to this run, so that two replicas of one name do not both tick.
    digest: DigestHex,
}

impl Replica {
    fn new(instance: &str) -> Result<Self, IdError> {
        let run = Uuid::new_v4().simple().to_string();
        let host = std::env::var("HOSTNAME").unwrap_or_default();
        let named = if instance.is_empty() { host } else { instance.to_owned() };
        // A name that others could not write down is replaced.
        let name = ResponderId::parse(&named).map_or_else(|_| run.clone(), |name| name.to_string());
        let digest = Sha256::digest(format!("{name}/{run}"));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { name, digest: DigestHex::parse(&hex)? })
    }
}
