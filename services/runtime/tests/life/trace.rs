//! One trace through a client, a server, and a store.

use holdfast_runtime::client::{TraceContext, continue_from, current_traceparent, link_to};
use opentelemetry::{
    Context, global,
    trace::{SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, service::Interceptor};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tracing::{Instrument, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

use crate::bench::{Bench, config, request};

/// Records the spans of this thread until dropped.
struct Recorder {
    spans: InMemorySpanExporter,
    _provider: SdkTracerProvider,
    _default: tracing::subscriber::DefaultGuard,
}

impl Recorder {
    fn start() -> Self {
        global::set_text_map_propagator(TraceContextPropagator::new());
        let spans = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        Self { spans, _provider: provider, _default: tracing::subscriber::set_default(subscriber) }
    }

    fn span(&self, name: &str) -> SpanData {
        let spans = self.spans.get_finished_spans().unwrap();
        spans.into_iter().find(|span| span.name == name).unwrap()
    }
}

fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|a| a.key.as_str() == key);
    found.map(|a| a.value.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn the_server_continues_the_trace_of_its_client() {
    let recorder = Recorder::start();
    let bench = Bench::standard(config()).await;
    let mut client = HealthClient::with_interceptor(bench.channel(), TraceContext);

    let caller = info_span!("caller");
    client.check(request("")).instrument(caller).await.unwrap();
    bench.stop.trigger();
    bench.ended().await;

    let (caller, served) = (recorder.span("caller"), recorder.span("grpc.health.v1.Health/Check"));
    assert_eq!(served.span_context.trace_id(), caller.span_context.trace_id());
    assert_eq!(served.parent_span_id, caller.span_context.span_id());
    assert_eq!(attribute(&served, "rpc.system.name"), "grpc");
    assert_eq!(attribute(&served, "rpc.method"), "grpc.health.v1.Health/Check");
    assert_eq!(attribute(&served, "rpc.response.status_code"), "OK");
    assert!(!format!("{served:?}").contains("127.0.0.1"), "no peer addresses");
}

/// What a caller sends along for traces, and what else it could tell.
fn telling<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let headers = request.metadata_mut();
    headers.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
    headers.insert("tracestate", "vendor=planted".parse().unwrap());
    headers.insert("baggage", "who=planted".parse().unwrap());
    request
}

#[tokio::test]
async fn of_a_callers_trace_nothing_goes_on_but_its_numbers() {
    let recorder = Recorder::start();
    let bench = Bench::standard(config()).await;

    bench.client().check(telling(request(""))).await.unwrap();
    bench.stop.trigger();
    bench.ended().await;

    let served = recorder.span("grpc.health.v1.Health/Check");
    assert_eq!(served.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(!format!("{served:?}").contains("planted"), "{served:?}");
}

#[tokio::test]
async fn what_we_call_gets_the_numbers_of_our_trace_and_nothing_else() {
    let _recorder = Recorder::start();
    let state = TraceState::from_key_value([("vendor", "planted")]).unwrap();
    let (trace, span) = (TraceId::from(7), SpanId::from(7));
    let theirs = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, state);
    let ours = info_span!("ours");
    ours.set_parent(Context::new().with_remote_span_context(theirs)).unwrap();

    let sent = ours.in_scope(|| TraceContext.call(tonic::Request::new(()))).unwrap();

    let names: Vec<_> = sent.metadata().keys().map(|key| format!("{key:?}")).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(sent.metadata().get("traceparent").unwrap().to_str().unwrap().contains(&trace.to_string()));
}

#[tokio::test]
async fn a_path_that_is_no_method_is_in_no_span() {
    let recorder = Recorder::start();
    let bench = Bench::standard(config()).await;

    let mut client = Grpc::new(bench.channel());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/planted");
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    client.unary(tonic::Request::new(request("")), path, codec).await.unwrap_err();
    bench.stop.trigger();
    bench.ended().await;

    let served = recorder.span("_OTHER");
    assert_eq!(attribute(&served, "rpc.response.status_code"), "UNIMPLEMENTED");
    assert!(!format!("{served:?}").contains("planted"), "{served:?}");
}

#[tokio::test]
async fn a_mistake_of_the_caller_is_not_an_error_of_ours() {
    let recorder = Recorder::start();
    let bench = Bench::standard(config()).await;

    let unknown = bench.client().check(request("nobody")).await;
    bench.stop.trigger();
    bench.ended().await;

    assert!(unknown.is_err());
    let served = recorder.span("grpc.health.v1.Health/Check");
    assert_eq!(served.parent_span_id, SpanId::INVALID);
    assert_eq!(attribute(&served, "rpc.response.status_code"), "NOT_FOUND");
    assert_eq!(served.status, Status::Unset);
}

#[tokio::test]
async fn stored_work_carries_its_trace() {
    let recorder = Recorder::start();

    let stored = info_span!("request").in_scope(|| current_traceparent().unwrap());
    let continued = info_span!("continued");
    continue_from(&stored, &continued);
    drop(continued);
    info_span!("linked").in_scope(|| link_to(&stored));
    info_span!("astray").in_scope(|| link_to("not a traceparent"));

    let (request, continued, linked) =
        (recorder.span("request"), recorder.span("continued"), recorder.span("linked"));
    assert_eq!(continued.parent_span_id, request.span_context.span_id());
    assert_ne!(linked.span_context.trace_id(), request.span_context.trace_id());
    assert_eq!(linked.links.first().unwrap().span_context.span_id(), request.span_context.span_id());
    assert!(recorder.span("astray").links.is_empty());
}
