//! The responders' door: holds their sessions, turns their words into commands and the line's notices into messages. It
//! is the supervisors' door too.
//!
//! Stateless: a responder whose replica dies signs in on another and finds offers and chats as they were.
//!
//! - `config`: settings
//! - `service`: the responders' calls
//! - `sessions`: one responder's session
//! - `supervision`: the supervisors' calls
//! - `floor`: what they watch, read once for all of them
//! - `policies`: the numbers that responders are told
//! - `convert`, `error`: what comes in, and what goes out when it cannot be done

pub mod config;
pub mod convert;
pub mod error;
pub mod floor;
pub mod policies;
pub mod service;
pub mod sessions;
pub mod supervision;

use std::{future::pending, sync::Arc, time::Duration};

pub use config::Config;
use floor::Floors;
use holdfast_access::{Access, AccessError};
use holdfast_link::{Link, Role, SettingsError};
use holdfast_proto::v1::{
    FILE_DESCRIPTOR_SET, dispatch_service_server::DispatchServiceServer,
    supervision_service_server::SupervisionServiceServer,
};
use holdfast_runtime::{
    AdminServer, Context, Readiness, TaskSet,
    net::Listen,
    server::{ServeError, serve, standard_services},
    shutdown::TaskError,
    tls::TlsError,
};
use policies::Policies;
use service::Dispatch;
use sessions::{Means, Sessions};
use supervision::Supervision;
use tokio::{net::TcpListener, sync::watch};
use tonic::service::RoutesBuilder;

/// How long tasks may take to end once nothing is served any more.
const LAST_TASKS: Duration = Duration::from_secs(2);

/// Sockets that the caller opened.
#[derive(Debug)]
pub struct Bound<L = TcpListener> {
    /// For responders.
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
    /// The way to the queue is not one.
    #[error(transparent)]
    Link(#[from] SettingsError),
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
    let meter = context.telemetry.meter("holdfast-dispatch");
    let access = Access::of(&config.security.access(), &meter).await?;
    check_tls(&config)?;
    let stop = context.stop.child();
    let tasks = TaskSet::new(stop.clone());
    let replica = holdfast_link::settings::replica_name(&config.telemetry.service_instance);
    let link = Link::connect(&config.queue, &config.client, Role::Dispatch, &replica, &stop, &tasks)?;
    access.keep_fresh(&stop, &tasks);

    let patience = config.queue.command_timeout();
    let policy_every = Duration::from_millis(config.sessions.policy_every_ms);
    let policies = Arc::new(Policies::new(link.clone(), patience, policy_every));
    let open = meter.i64_up_down_counter("holdfast.sessions").with_description("Open sessions").build();
    let sessions = Arc::new(Sessions::new(config.limits.max_sessions, open));
    let means = Means {
        link: link.clone(),
        access: access.clone(),
        sessions: Arc::clone(&sessions),
        policies: Arc::clone(&policies),
        offers_sent: meter
            .u64_counter("holdfast.offers_sent")
            .with_description("Offers that were sent to responders")
            .build(),
        stop: stop.clone(),
        patience,
        sign_in_within: Duration::from_millis(config.sessions.sign_in_within_ms),
        reader_patience: Duration::from_millis(config.sessions.reader_patience_ms),
        max_actions: config.sessions.max_actions,
        unlink_within: Duration::from_millis(config.sessions.unlink_within_ms),
        reconnect_within: Duration::from_millis(config.sessions.reconnect_within_ms),
    };
    let look_every = Duration::from_millis(config.supervision.look_every_ms);
    let floors = Arc::new(Floors::new(link.clone(), patience, look_every));
    let supervision = Supervision::new(&config.supervision, means.clone(), Arc::clone(&floors), &meter);
    let dispatch = Dispatch { means, outgoing: config.sessions.outgoing };

    let mut routes = RoutesBuilder::default();
    let health = standard_services(&mut routes, &config.server, &[FILE_DESCRIPTOR_SET])?;
    health.serving::<DispatchServiceServer<Dispatch>>().await;
    health.serving::<SupervisionServiceServer<Supervision>>().await;
    let (most_in, most_out) = (config.server.max_decoding_bytes, config.server.max_encoding_bytes);
    let responders = DispatchServiceServer::new(dispatch);
    routes.add_service(responders.max_decoding_message_size(most_in).max_encoding_message_size(most_out));
    let supervisors = SupervisionServiceServer::new(supervision);
    routes.add_service(supervisors.max_decoding_message_size(most_in).max_encoding_message_size(most_out));

    let until = stop.clone();
    let routed = sessions.route(link.notices(), policies);
    let watched = floors.route(link.notices());
    let told = tell_readiness(link.attached(), context.readiness.clone());
    let keys_told = tell_keys(access.has_keys(), context.readiness.clone());
    tasks.spawn("wakers", async move {
        tokio::select! {
            () = routed => {}
            () = watched => {}
            () = told => {}
            () = keys_told => {}
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
    stop.stop_now();
    link.close();
    let ended = tasks.join(LAST_TASKS).await;
    served?;
    Ok(ended?)
}

/// Nothing goes in or out in plaintext unless that was asked for.
fn check_tls(config: &Config) -> Result<(), TlsError> {
    let asked_for = config.security.insecure_no_tls;
    config.server.tls.check(asked_for)?;
    let queues = config.queue.addresses.iter().map(String::as_str);
    config.client.tls.check("queue.addresses", queues, asked_for)
}

/// Without the issuer's keys nobody can come in here; another replica may have them.
async fn tell_keys(keys: Option<watch::Receiver<bool>>, readiness: Readiness) {
    if let Some(mut keys) = keys {
        loop {
            readiness.set("issuer_keys", *keys.borrow_and_update());
            if keys.changed().await.is_err() {
                break;
            }
        }
    }
    pending().await
}

/// Without the queue nobody can sign in here; another replica may have it.
async fn tell_readiness(mut attached: watch::Receiver<usize>, readiness: Readiness) {
    loop {
        readiness.set("link", *attached.borrow_and_update() > 0);
        // The sender lives as long as the service.
        if attached.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}
