//! The plain HTTP port for whoever runs the process: `/livez`, `/readyz`, `/metrics`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    accept::{Limits, accept},
    shutdown::Stop,
};

/// How long an answer in flight may take once the process stops.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// Whether the process should get traffic: when every component that ever reported is ready and no drain has begun.
/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Reports>>);

#[derive(Debug, Default)]
struct Reports {
    components: BTreeMap<String, bool>,
    draining: bool,
}

impl Readiness {
    /// Ready, until a component says that it is not.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether `component` is ready. Say `false` before the work that makes it ready begins.
    pub fn set(&self, component: &str, ready: bool) {
        self.state().components.insert(component.to_owned(), ready);
    }

    /// Not ready any more, for good.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// Whether the process should get traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// Why not: `draining`, and the components that are not ready.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let state = self.state();
        let draining = state.draining.then(|| "draining".to_owned());
        let unready = state.components.iter().filter(|(_, ready)| !**ready);
        draining.into_iter().chain(unready.map(|(name, _)| format!("{name}: not ready"))).collect()
    }

    fn state(&self) -> MutexGuard<'_, Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The HTTP server of the admin port.
#[derive(Debug, Clone)]
pub struct AdminServer {
    readiness: Readiness,
    registry: Registry,
}

impl AdminServer {
    /// Reports `readiness`, and the metrics of `registry`.
    #[must_use]
    pub fn new(readiness: Readiness, registry: Registry) -> Self {
        Self { readiness, registry }
    }

    /// Serves until [`Stop::stopping`]: whoever asks during the drain is told about it.
    pub async fn serve(self, listener: TcpListener, stop: Stop) {
        let limits = Limits {
            connections: 64,
            per_source: None,
            streams: 16,
            idle: None,
            unread: Duration::from_secs(20),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            age: None,
            age_grace: Duration::ZERO,
        };
        let router = self.router();
        let service = tower::service_fn(move |request| router.clone().oneshot(request));
        let closing = CancellationToken::new();
        let stopped = async {
            stop.stopping().await;
            closing.cancel();
            tokio::time::sleep(LAST_ANSWER).await;
        };
        tokio::select! {
            () = accept(listener, None, service, limits, &closing) => {}
            () = stopped => {}
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn readyz(State(admin): State<AdminServer>) -> Response {
    let reasons = admin.readiness.reasons();
    if reasons.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
}

async fn metrics(State(admin): State<AdminServer>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&admin.registry.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
