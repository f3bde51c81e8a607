//! Spans on their way out: what is not on the list is left here.

use std::{borrow::Cow, time::Duration};

use opentelemetry::{
    Array, KeyValue, Value,
    trace::{SpanContext, Status, TraceState},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

use super::allowed::{Allowed, cut, dropped};

/// Sends on to `E` what is allowed of each span.
#[derive(Debug)]
pub(super) struct OnlyAllowed<E>(pub(super) E);

impl<E: SpanExporter> SpanExporter for OnlyAllowed<E> {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        self.0.export(batch.into_iter().map(reduced).collect())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// A span with nothing but what is on the list.
fn reduced(mut span: SpanData) -> SpanData {
    span.name = within(span.name);
    span.span_context = without_state(&span.span_context);
    span.attributes = only_allowed(span.attributes);
    for event in &mut span.events.events {
        event.name = within(std::mem::take(&mut event.name));
        event.attributes = only_allowed(std::mem::take(&mut event.attributes));
    }
    for link in &mut span.links.links {
        link.span_context = without_state(&link.span_context);
        link.attributes = only_allowed(std::mem::take(&mut link.attributes));
    }
    if let Status::Error { description } = &mut span.status {
        *description = Cow::Borrowed(""); // the event that made it one has its fields
    }
    span
}

fn only_allowed(attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    let allowed = |mut attribute: KeyValue| {
        if Allowed::field(attribute.key.as_str()).is_none() {
            dropped("attribute");
            return None;
        }
        attribute.value = bounded(attribute.value);
        Some(attribute)
    };
    attributes.into_iter().filter_map(allowed).collect()
}

fn bounded(value: Value) -> Value {
    if let Value::String(text) = value {
        return Value::String(cut(text.into()).into());
    }
    if let Value::Array(Array::String(texts)) = value {
        return Value::Array(Array::String(texts.into_iter().map(|text| cut(text.into()).into()).collect()));
    }
    value
}

fn within(name: Cow<'static, str>) -> Cow<'static, str> {
    match name {
        Cow::Borrowed(ours) => Cow::Borrowed(ours),
        Cow::Owned(made) => Cow::Owned(cut(made)),
    }
}

/// A caller's `tracestate` is not for us to keep.
fn without_state(context: &SpanContext) -> SpanContext {
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
    SpanContext::new(trace, span, flags, context.is_remote(), TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{TraceContextExt, TracerProvider};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
    use tracing::{error, info_span};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn what_is_not_on_the_list_leaves_with_no_span_event_or_link() {
        let sent = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(OnlyAllowed(sent.clone())).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let _recording = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let told: TraceState = "vendor=planted-state".parse().unwrap();

        let span = info_span!("work", helpline = "river", peer = "planted-peer", late = tracing::field::Empty);
        span.record("late", "planted-late");
        span.in_scope(|| error!(error = "planted-but-allowed", agent = "planted-agent", "broken"));
        let of = span.context().span().span_context().clone();
        let other = SpanContext::new(of.trace_id(), of.span_id(), of.trace_flags(), true, told);
        span.add_link_with_attributes(other, vec![KeyValue::new("ip", "planted-link")]);
        span.set_status(Status::error("planted-status"));
        drop(span);

        let text = format!("{:?}", sent.get_finished_spans().unwrap());
        assert!(
            text.contains("river") && text.contains("broken") && text.contains("planted-but-allowed"),
            "{text}"
        );
        for planted in ["peer", "late", "agent", "state", "link", "status"] {
            assert!(!text.contains(&format!("planted-{planted}")), "{planted}: {text}");
        }
    }
}
