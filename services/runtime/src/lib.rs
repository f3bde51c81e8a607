//! The life of a process: configuration, telemetry, serving, draining. Knows nothing of crisis lines.
//!
//! - [`config`]: settings in layers, unknown keys refused, secrets from files
//! - [`telemetry`]: logs, traces and metrics of the process
//! - [`shutdown`]: the stop signal, and background tasks that cannot die unseen
//! - [`server`]: gRPC and gRPC-Web with a limit on everything, and the drain
//! - [`admin`]: `/livez`, `/readyz`, `/metrics`
//! - [`client`]: channels, deadlines, retries and trace context towards other services
//! - [`tls`]: certificates from files, and the two ends of TLS
//! - [`http`]: asking somebody else's HTTP server one thing
//! - [`clock`]: wall time
//! - [`net`]: the network, or a simulated one
//! - [`source`]: where calls come from, without saying who
//! - [`reader`]: who does not read what is streamed to them
//!
//! A `main.rs` loads its configuration and calls [`run`], which owns everything from the first thread to the exit
//! code.

use std::{error::Error, future::Future, io, process::ExitCode, time::Duration};

use tracing::{error, info};

mod accept;
pub mod admin;
pub mod client;
pub mod clock;
pub mod config;
mod deadline;
pub mod http;
pub mod net;
pub mod reader;
pub mod server;
pub mod shutdown;
pub mod source;
pub mod telemetry;
pub mod tls;
mod trace;

pub use admin::{AdminServer, Readiness};
pub use shutdown::{Stop, TaskSet};
pub use telemetry::Telemetry;

/// The name under which this crate's own instruments are reported.
const METER: &str = "holdfast-runtime";

/// How long blocking work may go on after everything else has ended.
const LAST_THREADS: Duration = Duration::from_secs(2);

/// How long a service may go on after it was told to stop at once.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// An error of any kind, for the one line it becomes.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a process gives to the service it runs.
#[derive(Debug, Clone)]
pub struct Context {
    /// Meters and the metrics registry.
    pub telemetry: Telemetry,
    /// The stop signal; SIGTERM and SIGINT give it.
    pub stop: Stop,
    /// Whether the process should get traffic.
    pub readiness: Readiness,
}

/// Runs `service` as the process `name`: crypto provider, runtime with `workers` threads (0: one per core),
/// telemetry, signals, the service itself, the flush.
///
/// A service that goes on for five seconds after [`Stop::stopping`] is abandoned.
///
/// Returns success when `service` does; else prints one line to standard error, `name: what: because`, and returns
/// exit code 1.
pub fn run<F, Fut, E>(
    name: &'static str,
    telemetry: config::TelemetryConfig,
    workers: usize,
    service: F,
) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<BoxError>,
{
    // Fails only when one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match runtime(workers) {
        Ok(runtime) => runtime,
        Err(error) => return fail(name, &error),
    };
    let ended = runtime.block_on(live(name, &telemetry, service));
    runtime.shutdown_timeout(LAST_THREADS);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(name, error.as_ref()),
    }
}

fn runtime(workers: usize) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build()
}

async fn live<F, Fut, E>(name: &'static str, config: &config::TelemetryConfig, service: F) -> Result<(), BoxError>
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<BoxError>,
{
    let telemetry = telemetry::init(name, config)?;
    log_panics_without_their_words();
    let stop = Stop::new();
    stop.on_signals()?;
    let context = Context { telemetry: telemetry.clone(), stop: stop.clone(), readiness: Readiness::new() };
    info!(service = name, "starting");
    let ended = tokio::select! {
        ended = service(context) => ended.map_err(Into::into),
        () = overstayed(&stop) => Err("did not stop in time".into()),
    };
    stop.stop_now();
    info!(service = name, ok = ended.is_ok(), "ended");
    telemetry.shutdown().await;
    ended
}

async fn overstayed(stop: &Stop) {
    stop.stopping().await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// A panic's message may quote what somebody said; its place in the code is enough to find it.
fn log_panics_without_their_words() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(place, "panic");
    }));
}

/// Prints `name: error: its cause: …` as one line to standard error and returns exit code 1; for a `main.rs` whose
/// configuration is refused.
pub fn fail(name: &str, error: &(dyn Error + 'static)) -> ExitCode {
    eprintln!("{}", one_line(name, error));
    ExitCode::FAILURE
}

/// Causes that their effect already quotes are not said twice.
fn one_line(name: &str, error: &(dyn Error + 'static)) -> String {
    let mut line = format!("{name}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', ", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read /x: {0}")]
    struct Inner(#[source] io::Error);

    #[test]
    fn an_error_is_one_line_with_each_cause_once() {
        let error = Outer(Inner(io::Error::other("no\npaper")));
        assert_eq!(one_line("queue", &error), "queue: cannot open the store: cannot read /x: no, paper");
    }
}
