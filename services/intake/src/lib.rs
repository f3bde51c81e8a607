//! The visitors' door: opens chats, keeps visitors informed, and always knows where else they can turn.
//!
//! Stateless: a visitor whose replica dies reconnects to another and misses nothing that matters.
//!
//! - `config`: settings
//! - `service`: the calls
//! - `watch`: a visitor's stream
//! - `triage`: how urgent a request is and who is asked to come, by the policy
//! - `classifier`: a second opinion on urgency, from outside
//! - `fallback`: policies at hand: the rules, and where to turn when nobody can come
//! - `floods`: how often one source may ask
//! - `challenge`: work that a helpline asks for while it surges
//! - `token`: a visitor's right to a chat
//! - `returning`: a visitor's way back to the same responder, or never again to them
//! - `convert`, `error`: what comes in, and what goes out when it cannot be done

pub mod challenge;
pub mod classifier;
pub mod config;
pub mod convert;
pub mod error;
pub mod fallback;
pub mod floods;
pub mod returning;
pub mod service;
pub mod token;
pub mod triage;
pub mod watch;

use std::{future::pending, sync::Arc, time::Duration};

use challenge::ChallengeKey;
use classifier::{Classifier, ClassifierError};
pub use config::Config;
use fallback::{Policies, PolicyFilesError};
use floods::{Floods, NoHeader};
use holdfast_access::{Access, AccessError};
use holdfast_link::{Link, Role, SettingsError};
use holdfast_proto::v1::{FILE_DESCRIPTOR_SET, intake_service_server::IntakeServiceServer};
use holdfast_runtime::{
    AdminServer, Context, TaskSet,
    net::Listen,
    server::{Health, ServeError, serve, standard_services},
    shutdown::TaskError,
    tls::{self, TlsError},
};
use opentelemetry::metrics::Gauge;
use returning::ReturnKey;
use service::Intake;
use token::{KeyError, TokenKey};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch as channel},
    time::{Instant, sleep_until},
};
use tonic::service::RoutesBuilder;
use watch::{Means, Watches};

/// The health name that says whether new chats are accepted now.
pub const ACCEPTING: &str = "holdfast.intake.accepting";

/// After trouble with the store the next visitor is let through to try after this.
const TROUBLE_LASTS: Duration = Duration::from_secs(5);

/// How long the classifier's last opinions may take once nothing is served any more.
const LAST_OPINIONS: Duration = Duration::from_millis(500);

/// How long tasks may take to end once nothing is served any more.
const LAST_TASKS: Duration = Duration::from_secs(2);

/// Sockets that the caller opened.
#[derive(Debug)]
pub struct Bound<L = TcpListener> {
    /// For visitors.
    pub grpc: L,
    /// For operators; `None` where somebody else serves them.
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
    /// There is no key for visitors' tokens.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The way to the queue is not one.
    #[error(transparent)]
    Link(#[from] SettingsError),
    /// The folder of policies cannot be used.
    #[error(transparent)]
    Policies(#[from] PolicyFilesError),
    /// The header of sources is not one.
    #[error(transparent)]
    Floods(#[from] NoHeader),
    /// The classifier's address is not one.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// It cannot serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A part of it died.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// Serves until `context.stop`, and through the drain.
///
/// # Errors
/// When a setting makes no sense, the socket breaks, or a background task dies.
pub async fn run<L: Listen>(config: Config, bound: Bound<L>, context: &Context) -> Result<(), RunError> {
    let meter = context.telemetry.meter("holdfast-intake");
    let access = Access::of(&config.security.access(), &meter).await?;
    check_tls(&config)?;
    let key = TokenKey::of(&config.security)?;
    let stop = context.stop.child();
    let tasks = TaskSet::new(stop.clone());
    let replica = holdfast_link::settings::replica_name(&config.telemetry.service_instance);
    let link = Link::connect(&config.queue, &config.client, Role::Intake, &replica, &stop, &tasks)?;
    access.keep_fresh(&stop, &tasks);

    let policies = Arc::new(Policies::new(&config.policy, link.clone(), config.queue.command_timeout())?);
    let open = meter.i64_up_down_counter("holdfast.watches").with_description("Open WatchChat streams").build();
    let watches = Arc::new(Watches::new(config.limits.max_watches, open));
    let returning = ReturnKey::new(&key, config.visitors.return_token_days);
    let challenges = ChallengeKey::new(&key).ok_or(KeyError::Short)?;
    let classifier = Classifier::of(
        &config.classifier,
        &config.client,
        link.clone(),
        config.queue.command_timeout(),
        stop.clone(),
        meter
            .u64_counter("holdfast.opinions")
            .with_description("Questions to the classifier, by what became of them")
            .build(),
    )?;
    let store_trouble = channel::Sender::new(None);
    let intake = Intake {
        link: link.clone(),
        key,
        returning: returning.clone(),
        policies: Arc::clone(&policies),
        challenges,
        floods: Arc::new(Floods::of(&config.floods)?),
        classifier: classifier.clone(),
        watches: Arc::clone(&watches),
        means: Means {
            link: link.clone(),
            policies: Arc::clone(&policies),
            returning,
            reads: Arc::new(Semaphore::new(config.limits.max_reads)),
            patience: config.queue.command_timeout(),
            beat_every: Duration::from_millis(config.visitors.beat_every_ms),
            place_every: Duration::from_millis(config.visitors.place_every_ms),
            reader_patience: Duration::from_millis(config.visitors.reader_patience_ms),
            reconnect_within: Duration::from_millis(config.visitors.reconnect_within_ms),
            stop: stop.clone(),
        },
        store_trouble: store_trouble.clone(),
        requests: meter
            .u64_counter("holdfast.requests")
            .with_description("Requests for a chat, by what became of them")
            .build(),
        max_message_bytes: config.server.max_decoding_bytes,
    };

    let mut routes = RoutesBuilder::default();
    let health = standard_services(&mut routes, &config.server, &[FILE_DESCRIPTOR_SET])?;
    health.serving::<IntakeServiceServer<Intake>>().await;
    health.set(ACCEPTING, false).await;
    let server = IntakeServiceServer::new(intake)
        .max_decoding_message_size(config.server.max_decoding_bytes)
        .max_encoding_message_size(config.server.max_encoding_bytes);
    routes.add_service(server);

    let until = stop.clone();
    let refresh_every = Duration::from_millis(config.policy.refresh_every_ms);
    let accepting =
        meter.u64_gauge("holdfast.intake.accepting").with_description("1 while new chats are accepted").build();
    let (fresh, routed) = (policies.keep_fresh(link.notices(), refresh_every), watches.route(link.notices()));
    let told = tell_accepting(link.accepting(), store_trouble.subscribe(), health.clone(), accepting);
    tasks.spawn("wakers", async move {
        tokio::select! {
            () = fresh => {}
            () = routed => {}
            () = told => {}
            () = until.stopping() => {}
        }
    });

    let admin = AdminServer::new(context.readiness.clone(), context.telemetry.registry());
    let admin_stop = stop.clone();
    let admin = async move {
        match bound.admin {
            Some(listener) => admin.serve(listener, admin_stop).await,
            None => pending().await,
        }
    };
    let serving = serve(
        bound.grpc,
        access.protect(routes.routes()),
        &config.server,
        stop.clone(),
        health,
        context.readiness.clone(),
    );
    let served = tokio::select! {
        served = serving => served,
        () = admin => Ok(()),
    };
    if let Some(classifier) = classifier {
        classifier.finish(LAST_OPINIONS).await;
    }
    stop.stop_now();
    link.close();
    let ended = tasks.join(LAST_TASKS).await;
    served?;
    Ok(ended?)
}

/// Nothing goes in or out in plaintext unless that was asked for; the classifier may be a neighbour on this machine.
fn check_tls(config: &Config) -> Result<(), TlsError> {
    let asked_for = config.security.insecure_no_tls;
    config.server.tls.check(asked_for)?;
    let queues = config.queue.addresses.iter().map(String::as_str);
    config.client.tls.check("queue.addresses", queues, asked_for)?;
    let classifier = Some(config.classifier.url.as_str()).filter(|url| !url.is_empty() && !tls::is_here(url));
    config.client.tls.check("classifier.url", classifier, asked_for)
}

/// New chats are accepted while a queue is attached whose store may take them, and it does not refuse.
async fn tell_accepting(
    mut may: channel::Receiver<bool>,
    mut trouble: channel::Receiver<Option<Instant>>,
    health: Health,
    gauge: Gauge<u64>,
) {
    loop {
        let over = trouble.borrow_and_update().map(|since| since + TROUBLE_LASTS);
        let in_trouble = over.is_some_and(|over| over > Instant::now());
        let accepting = *may.borrow_and_update() && !in_trouble;
        health.set(ACCEPTING, accepting).await;
        gauge.record(u64::from(accepting), &[]);
        let changed = async {
            // Both senders live as long as the service.
            tokio::select! {
                Ok(()) = may.changed() => {}
                Ok(()) = trouble.changed() => {}
                else => pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = sleep_until(over.unwrap_or_else(Instant::now)), if in_trouble => {}
        }
    }
}
