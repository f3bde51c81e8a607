//! Serving gRPC and gRPC-Web on one port, with a limit on everything, and letting go of it in order.
//!
//! ```text
//! accept ── gRPC-Web ── calls::observed ── calls::bounded ── the services
//!  connections, TLS      trace, metric,     room, deadline,
//!  and their age         status             panics
//! ```
//!
//! The drain: health says NOT_SERVING and readiness is off while calls are still served (`drain_wait_ms`, so that
//! everyone who routes to us notices); then the socket closes and peers are told to reconnect elsewhere; what is
//! still open after `drain_deadline_ms` is cut. Stream handlers watch [`Stop::draining`] and say goodbye themselves.

use std::{collections::BTreeSet, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::middleware::from_fn_with_state;
use http::{Request, Response, header::CONTENT_TYPE};
use hyper::body::Incoming;
use tokio::{net::TcpListener, sync::Mutex, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt};
use tracing::{info, warn};

use crate::{
    accept::{Limits, accept},
    admin::Readiness,
    config::ServerConfig,
    net::Listen,
    shutdown::Stop,
    tls::{ServerTls, TlsError},
};

mod calls;
mod methods;
mod status;

use methods::Methods;

/// Why a service cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address} ({what}): {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Who wanted it.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The socket broke.
    #[error("the listening socket is unusable: {0}")]
    Socket(#[from] io::Error),
    /// The port cannot speak TLS as its settings say.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A descriptor set is not one.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Opens the socket for `what`, such as `"intake"`. Port 0 takes a free one; ask the listener which.
///
/// # Errors
/// One line such as `cannot listen on 127.0.0.1:50051 (intake): address already in use`.
pub async fn bind(address: SocketAddr, what: &str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen {
        address,
        what: what.to_owned(),
        reason: reason(&error),
    })
}

fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        return "address already in use".to_owned();
    }
    error.to_string()
}

/// What `grpc.health.v1` says about each service. Clones are the same.
///
/// `""` is the process; it begins as SERVING, every other name as soon as it is set.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    state: Arc<Mutex<HealthState>>,
    /// What calls may be called in traces and metrics.
    methods: Methods,
}

#[derive(Debug)]
struct HealthState {
    names: BTreeSet<String>,
    draining: bool,
}

impl Health {
    fn new(reporter: HealthReporter, methods: Methods) -> Self {
        let state = HealthState { names: BTreeSet::from([String::new()]), draining: false };
        Self { reporter, state: Arc::new(Mutex::new(state)), methods }
    }

    /// Says whether `name` serves. Once the drain has begun nothing serves, whatever is set.
    pub async fn set(&self, name: &str, serving: bool) {
        let mut state = self.state.lock().await;
        state.names.insert(name.to_owned());
        let status = if serving && !state.draining { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(name, status).await;
    }

    /// Says that the service behind a generated server, such as `HealthServer<()>`, serves.
    pub async fn serving<S: NamedService>(&self) {
        self.set(S::NAME, true).await;
    }

    async fn drain(&self) {
        let mut state = self.state.lock().await;
        state.draining = true;
        for name in &state.names {
            self.reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
    }

    /// Ends every Watch stream, which would else stay open for ever.
    async fn close(&self) {
        let state = self.state.lock().await;
        let mut reporter = self.reporter.clone();
        for name in &state.names {
            reporter.clear_service_status(name).await;
        }
    }
}

/// Adds what every service has beside its own: health and, when configured, reflection (v1 and v1alpha) over
/// `descriptors` (encoded file descriptor sets), health and the google.rpc error details.
///
/// # Errors
/// When a descriptor set cannot be decoded.
pub fn standard_services(
    routes: &mut RoutesBuilder,
    config: &ServerConfig,
    descriptors: &[&'static [u8]],
) -> Result<Health, ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    routes.add_service(health);
    if config.reflection {
        routes.add_service(reflection(descriptors).build_v1()?);
        routes.add_service(reflection(descriptors).build_v1alpha()?);
    }
    Ok(Health::new(reporter, Methods::of(descriptors)?))
}

fn reflection<'a>(descriptors: &[&'a [u8]]) -> tonic_reflection::server::Builder<'a> {
    let common = [tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_types::pb::FILE_DESCRIPTOR_SET];
    let all = descriptors.iter().copied().chain(common);
    all.fold(tonic_reflection::server::Builder::configure(), |builder, set| {
        builder.register_encoded_file_descriptor_set(set)
    })
}

/// Serves `routes` on `listener` until `stop` and through the drain, as described at the head of this module.
///
/// A call may take `request_timeout_ms`, or less if its caller says so, to its response headers; then it is answered
/// DEADLINE_EXCEEDED. A request that cannot be decoded is INVALID_ARGUMENT. Every call has a span `rpc.server` and
/// a place in the histogram `rpc.server.call.duration`.
///
/// Returns `Ok` when everything has ended or was cut. When the future is dropped, all connections are cut.
///
/// # Errors
/// When the socket or a file of `[server.tls]` is unusable.
pub async fn serve(
    listener: impl Listen,
    routes: Routes,
    config: &ServerConfig,
    stop: Stop,
    health: Health,
    readiness: Readiness,
) -> Result<(), ServeError> {
    let tls = ServerTls::load(&config.tls)?;
    info!(address = %listener.local_addr()?, tls = tls.is_some(), "serving");
    let closing = CancellationToken::new();
    let serving = accept(listener, tls, door(routes, config, &health), Limits::from(config), &closing);
    let ended = tokio::select! {
        () = serving => true,
        () = drain(config, &stop, &health, &readiness, &closing) => false,
    };
    if ended {
        info!("drained");
    } else {
        warn!("the drain deadline passed: open connections are cut");
    }
    Ok(())
}

/// Ends when what is still open must be cut.
async fn drain(
    config: &ServerConfig,
    stop: &Stop,
    health: &Health,
    readiness: &Readiness,
    closing: &CancellationToken,
) {
    stop.draining().await;
    readiness.drain();
    health.drain().await;
    wait(config.drain_wait_ms, stop).await;
    health.close().await;
    closing.cancel();
    wait(config.drain_deadline_ms, stop).await;
}

async fn wait(ms: u64, stop: &Stop) {
    tokio::select! {
        () = sleep(Duration::from_millis(ms)) => {}
        () = stop.stopping() => {}
    }
}

/// Every request passes here: gRPC-Web is translated, everything else goes straight on.
fn door(
    routes: Routes,
    config: &ServerConfig,
    health: &Health,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
> + Clone
+ Send
+ 'static {
    let calls = Arc::new(calls::Calls::new(config, health.methods.clone()));
    let router = routes
        .into_axum_router()
        .layer(from_fn_with_state(Arc::clone(&calls), calls::bounded))
        .layer(from_fn_with_state(calls, calls::observed));
    let routes = Routes::from(router).prepare();
    let web = GrpcWebLayer::new().layer(routes.clone());
    tower::service_fn(move |request: Request<Incoming>| {
        let (routes, web) = (routes.clone(), web.clone());
        async move { if is_grpc_web(&request) { web.oneshot(request).await } else { routes.oneshot(request).await } }
    })
}

fn is_grpc_web<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc-web"))
}
