//! The trace of a call across processes: W3C `traceparent`, in metadata and in what is stored. It is two numbers and a flag;
//! what else callers send along for traces, `tracestate` and `baggage`, can hold anything and goes no further.

use std::collections::HashMap;

use opentelemetry::{Context, global, propagation::Extractor, propagation::Injector, trace::TraceContextExt};
use tonic::{
    Request, Status,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    service::Interceptor,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::deadline;

const TRACEPARENT: &str = "traceparent";

/// Client interceptor: sends the current span's `traceparent` and, inside
/// [`with_deadline`](crate::client::with_deadline), the time that is left as `grpc-timeout`.
///
/// `XClient::with_interceptor(channel, TraceContext)`
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceContext;

impl Interceptor for TraceContext {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let context = Span::current().context();
        let mut carrier = MetadataInjector(request.metadata_mut());
        global::get_text_map_propagator(|p| p.inject_context(&context, &mut carrier));
        if let Some(left) = deadline::time_left() {
            request.set_timeout(left);
        }
        Ok(request)
    }
}

/// The current span as a `traceparent`, to be stored with work that another process will do.
///
/// `None` outside a span or when telemetry is off.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    let context = Span::current().context();
    global::get_text_map_propagator(|p| p.inject_context(&context, &mut carrier));
    carrier.remove(TRACEPARENT)
}

/// Makes `span` a child of the span behind `traceparent`. Call it before the span is entered.
///
/// A malformed `traceparent` is ignored: the span then begins a trace of its own.
pub fn continue_from(traceparent: &str, span: &Span) {
    adopt(span, parse(traceparent));
}

/// Links the current span to the span behind `traceparent`: the two belong together, in traces of their own.
///
/// A malformed `traceparent` is ignored.
pub fn link_to(traceparent: &str) {
    let context = parse(traceparent);
    Span::current().add_link(context.span().span_context().clone());
}

/// Makes `span` a child of the caller's span, when the request names one.
pub(crate) fn continue_from_headers(headers: &http::HeaderMap, span: &Span) {
    adopt(span, extract(&HeaderExtractor(headers)));
}

/// The id of the trace that `span` belongs to, for log lines.
pub(crate) fn trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let of_span = context.span().span_context().clone();
    of_span.is_valid().then(|| of_span.trace_id().to_string())
}

fn adopt(span: &Span, context: Context) {
    if context.span().span_context().is_valid() {
        // Fails only where no trace layer listens, and then there is nothing to continue.
        let _ = span.set_parent(context);
    }
}

fn parse(traceparent: &str) -> Context {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    extract(&carrier)
}

/// Begins from nothing: where the carrier names no span, the span that happens to be current must not stand in.
fn extract(carrier: &dyn Extractor) -> Context {
    global::get_text_map_propagator(|p| p.extract_with_context(&Context::new(), carrier))
}

struct MetadataInjector<'a>(&'a mut MetadataMap);

impl Injector for MetadataInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if key != TRACEPARENT {
            return;
        }
        if let Ok(value) = MetadataValue::try_from(value) {
            self.0.insert(MetadataKey::from_static(TRACEPARENT), value);
        }
    }
}

struct HeaderExtractor<'a>(&'a http::HeaderMap);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).filter(|_| key == TRACEPARENT)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}
