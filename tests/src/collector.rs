//! A collector of traces and metrics that keeps what it is sent.

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// A collector on a free port.
#[derive(Clone, Default)]
pub struct Collector {
    url: String,
    received: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    traces: Vec<ExportTraceServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
}

/// A span, and the service that made it.
#[derive(Debug, Clone)]
pub struct Traced {
    /// The name of the service.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl Traced {
    /// Its trace, as `traceparent` writes it.
    pub fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// The traces that it is linked to.
    pub fn linked_traces(&self) -> Vec<String> {
        self.span.links.iter().map(|link| hex(&link.trace_id)).collect()
    }
}

impl Collector {
    /// Starts one; it lives as long as the test's runtime.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let collector = Self { url, ..Self::default() };
        let server = Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        collector
    }

    /// Where to send.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Traced> {
        let received = self.received.lock().expect("no test panicked here");
        let resources = received.traces.iter().flat_map(|request| &request.resource_spans);
        let mut spans = Vec::new();
        for of_resource in resources {
            let attributes = of_resource.resource.iter().flat_map(|resource| &resource.attributes);
            let service = attributes.filter(|a| a.key == "service.name").find_map(|a| {
                match a.value.as_ref().and_then(|value| value.value.as_ref()) {
                    Some(Value::StringValue(name)) => Some(name.clone()),
                    _ => None,
                }
            });
            for span in of_resource.scope_spans.iter().flat_map(|of_scope| &of_scope.spans) {
                spans.push(Traced { service: service.clone().unwrap_or_default(), span: span.clone() });
            }
        }
        spans
    }

    /// Everything as text, for looking for what must not be there.
    pub fn everything(&self) -> String {
        let received = self.received.lock().expect("no test panicked here");
        format!("{:?} {:?}", received.traces, received.metrics)
    }

    /// All metrics as text, for the same.
    pub fn metrics(&self) -> String {
        format!("{:?}", self.received.lock().expect("no test panicked here").metrics)
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.received.lock().expect("no test panicked here").traces.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.received.lock().expect("no test panicked here").metrics.push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
