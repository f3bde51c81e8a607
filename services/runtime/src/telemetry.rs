//! Logs, traces and metrics of the process. Nothing said by a person and no peer's address is ever in them: what leaves the
//! process goes through the lists of names in `telemetry/allowed.rs`.
//!
//! ```text
//! events ─┬─ lines    the fields that are on the list, of ours alone        ─► standard error
//! spans ──┴─ spans    the attributes that are on the list, of ours alone    ─► collector
//! metrics ── a view   the labels that are on the list                       ─► /metrics, collector
//! ```

use std::{
    error::Error,
    io::{self, IsTerminal},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Meter, MeterProvider},
    trace::TracerProvider,
};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::{Instrument, SdkMeterProvider, Stream},
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use prometheus::Registry;
use tracing::{Subscriber, warn};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, TelemetryConfig};

mod allowed;
mod lines;
mod spans;

use lines::{Fields, Lines};
use spans::OnlyAllowed;

/// Time for each of traces and metrics to be flushed at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// Below these levels libraries of the transport tell of every frame, whatever the configured filter says.
const QUIET: [&str; 6] = ["h2=info", "hyper=info", "hyper_util=info", "tonic=info", "tower=info", "rustls=info"];

/// Why telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log_filter` is not a filter.
    #[error("telemetry.log_filter {filter:?}: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// `telemetry.otlp_endpoint` is not an address.
    #[error("telemetry.otlp_endpoint {endpoint:?}: {source}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        source: ExporterBuildError,
    },
    /// The Prometheus registry refused the exporter.
    #[error("metrics: {0}")]
    Metrics(Box<dyn Error + Send + Sync>),
}

/// The telemetry of this process. Clones are the same.
#[derive(Debug, Clone)]
pub struct Telemetry {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    registry: Registry,
}

/// What `init` made the first time.
static OF_THIS_PROCESS: Mutex<Option<Telemetry>> = Mutex::new(None);

/// Sets up logs on standard error, traces (pushed by OTLP when an endpoint is set), metrics (always in a Prometheus
/// registry, pushed too when an endpoint is set) and `traceparent` propagation.
///
/// There is one telemetry per process: the first call decides, further ones return the same. Must be called inside a
/// multi-threaded Tokio runtime when an endpoint is set. A subscriber that is already there stays.
///
/// # Errors
/// When the filter or the endpoint cannot be understood; the error names the setting.
pub fn init(service_name: &'static str, config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    let mut first = OF_THIS_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(telemetry) = first.as_ref() {
        return Ok(telemetry.clone());
    }
    let filter = filter(&config.log_filter)?;
    let telemetry = build(service_name, config)?;
    install(&telemetry, filter, config.log_format);
    *first = Some(telemetry.clone());
    Ok(telemetry)
}

impl Telemetry {
    /// The meter whose instruments `name` owns; instruments are `name`'s to keep.
    #[must_use]
    pub fn meter(&self, name: &'static str) -> Meter {
        self.metrics.meter(name)
    }

    /// The registry behind `/metrics`.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Flushes traces and metrics, within about six seconds at the worst. Call it last, on a multi-threaded runtime.
    pub async fn shutdown(self) {
        let flushing = tokio::task::spawn_blocking(move || {
            let traces = self.traces.shutdown_with_timeout(FLUSH_WITHIN);
            let metrics = self.metrics.shutdown_with_timeout(FLUSH_WITHIN);
            [traces.err(), metrics.err()]
        });
        let Ok(Ok(failures)) = tokio::time::timeout(FLUSH_WITHIN * 2, flushing).await else {
            warn!("telemetry was not flushed in time");
            return;
        };
        for error in failures.into_iter().flatten() {
            warn!(%error, "telemetry was not flushed");
        }
    }
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let refuse = |source| TelemetryError::Filter { filter: text.to_owned(), source };
    let mut filter = EnvFilter::builder().parse(text).map_err(refuse)?;
    for quiet in QUIET {
        filter = filter.add_directive(quiet.parse().map_err(refuse)?);
    }
    Ok(filter)
}

fn build(service_name: &'static str, config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    let registry = Registry::new();
    let scraped = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
    let scraped = scraped.map_err(|error| TelemetryError::Metrics(error.into()))?;
    let resource = resource(service_name, &config.service_instance);
    let ratio = Sampler::TraceIdRatioBased(config.trace_sample_ratio);
    let mut traces = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(ratio)))
        .with_resource(resource.clone());
    let mut metrics =
        SdkMeterProvider::builder().with_reader(scraped).with_view(only_allowed_labels).with_resource(resource);
    if let Some(endpoint) = &config.otlp_endpoint {
        let refuse = |source| TelemetryError::Endpoint { endpoint: endpoint.clone(), source };
        let spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let points = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build();
        traces = traces.with_batch_exporter(OnlyAllowed(spans.map_err(refuse)?));
        metrics = metrics.with_periodic_exporter(points.map_err(refuse)?);
    }
    Ok(Telemetry { traces: traces.build(), metrics: metrics.build(), registry })
}

/// Each instrument as it is, without labels that are not on the list.
fn only_allowed_labels(_every: &Instrument) -> Option<Stream> {
    // Cannot fail: nothing is set that could be out of bounds.
    Stream::builder().with_allowed_attribute_keys(allowed::labels()).build().ok()
}

fn resource(service_name: &'static str, instance: &str) -> Resource {
    let instance = if instance.is_empty() { host_name() } else { instance.to_owned() };
    Resource::builder_empty()
        .with_attribute(KeyValue::new("service.name", service_name))
        .with_attribute(KeyValue::new("service.instance.id", instance))
        .build()
}

fn host_name() -> String {
    let of_container = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    of_container.unwrap_or_else(|| format!("process-{}", std::process::id()))
}

fn install(telemetry: &Telemetry, filter: EnvFilter, format: LogFormat) {
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(telemetry.traces.clone());
    global::set_meter_provider(telemetry.metrics.clone());
    let spans = tracing_opentelemetry::layer().with_tracer(telemetry.traces.tracer("holdfast"));
    let subscriber =
        tracing_subscriber::registry().with(spans.with_filter(traced())).with(lines(format).with_filter(filter));
    // Refused only when an embedding program has its own subscriber, which then has the say.
    let _ = subscriber.try_init();
}

/// Traces do not depend on what is logged. Only what we make is in them; exporting a span would else make more of them.
fn traced() -> Targets {
    Targets::new().with_default(LevelFilter::OFF).with_target("holdfast", LevelFilter::INFO)
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(format == LogFormat::Text && io::stderr().is_terminal());
    layer.fmt_fields(Fields).event_format(Lines(format)).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(log_filter: &str) -> TelemetryConfig {
        TelemetryConfig {
            log_format: LogFormat::Json,
            log_filter: log_filter.to_owned(),
            otlp_endpoint: None,
            trace_sample_ratio: 1.0,
            service_instance: "one".to_owned(),
        }
    }

    #[tokio::test]
    async fn the_second_call_returns_the_telemetry_of_the_first() {
        let first = init("first", &config("info")).unwrap();
        let second = init("second", &config("info")).unwrap();

        first.meter("test").u64_counter("holdfast.test.seen").build().add(3, &[]);

        let names: Vec<_> = second.registry().gather().iter().map(|f| f.name().to_owned()).collect();
        assert!(names.contains(&"holdfast_test_seen_total".to_owned()), "{names:?}");
    }

    #[test]
    fn a_label_that_is_not_on_the_list_is_counted_by_nobody() {
        let telemetry = build("alone", &config("info")).unwrap();
        let labels = [KeyValue::new("outcome", "ok"), KeyValue::new("user_agent", "planted-agent")];
        let meter = telemetry.meter("test");
        meter.u64_counter("holdfast.test.labels").build().add(1, &labels);
        meter.f64_histogram("holdfast.test.bounds").with_boundaries(vec![0.5, 7.0]).build().record(1.0, &labels);

        let measured = format!("{:?}", telemetry.registry().gather());

        assert!(measured.contains("\"outcome\"") && !measured.contains("agent"), "{measured}");
        assert!(measured.contains("7.0"), "a histogram keeps its bounds: {measured}");
    }

    #[test]
    fn a_filter_that_is_none_is_named() {
        let error = filter("queue=louder").unwrap_err().to_string();
        assert!(error.starts_with("telemetry.log_filter \"queue=louder\": "), "{error}");
    }

    #[test]
    fn the_resource_names_the_service_and_the_replica_only() {
        let resource = resource("queue", "queue-0");
        let keys: Vec<_> = resource.iter().map(|(key, _)| key.to_string()).collect();
        assert_eq!(keys.len(), 2, "{keys:?}");
    }

    #[tokio::test]
    async fn a_shutdown_without_a_collector_is_quick() {
        build("alone", &config("info")).unwrap().shutdown().await;
    }
}
