//! Traces reach a collector, without what is not on the list, and the flush at the end waits for them, but not for ever.

use holdfast_runtime::{
    config::{LogFormat, TelemetryConfig},
    telemetry,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use tracing::info_span;

/// A collector that hands over what it is sent.
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_reaches_the_collector_before_the_process_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut received) = mpsc::unbounded_channel();
    let server = Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let telemetry = telemetry::init("queue", &config(endpoint)).unwrap();
    drop(info_span!(target: "holdfast_queue", "work", peer = "203.0.113.9"));
    drop(info_span!("a library's"));
    telemetry.shutdown().await;

    let sent = format!("{:?}", received.try_recv().unwrap());
    assert!(sent.contains("\"work\"") && sent.contains("\"queue\""), "{sent}");
    assert!(!sent.contains("203.0.113.9") && !sent.contains("a library's"), "{sent}");
}

/// Logs are off: traces do not depend on them.
fn config(endpoint: String) -> TelemetryConfig {
    TelemetryConfig {
        log_format: LogFormat::Text,
        log_filter: "off".to_owned(),
        otlp_endpoint: Some(endpoint),
        trace_sample_ratio: 1.0,
        service_instance: "queue-0".to_owned(),
    }
}
