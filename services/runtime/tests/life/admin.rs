//! The admin port as a probe and a scraper see it.

use std::net::SocketAddr;

use holdfast_runtime::{
    AdminServer, Readiness, Stop,
    config::{LogFormat, TelemetryConfig},
    telemetry,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::bench::{Bench, config, request};

async fn start(readiness: &Readiness, registry: prometheus::Registry, stop: &Stop) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(AdminServer::new(readiness.clone(), registry).serve(listener, stop.clone()));
    address
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let words = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(words.as_bytes()).await.unwrap();
    let mut heard = String::new();
    socket.read_to_string(&mut heard).await.unwrap();
    heard
}

#[tokio::test]
async fn readiness_names_its_reasons_and_liveness_does_not_care() {
    let (readiness, stop) = (Readiness::new(), Stop::new());
    let address = start(&readiness, prometheus::Registry::new(), &stop).await;

    readiness.set("store", false);
    readiness.set("policy", true);
    let unready = get(address, "/readyz").await;
    readiness.set("store", true);
    let ready = get(address, "/readyz").await;
    stop.trigger();
    readiness.drain();
    let draining = get(address, "/readyz").await;

    assert!(unready.starts_with("HTTP/1.1 503") && unready.ends_with("\r\n\r\nstore: not ready\n"), "{unready}");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(draining.starts_with("HTTP/1.1 503") && draining.ends_with("draining\n"), "{draining}");
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn every_call_is_in_the_metrics_by_method_and_status() {
    let telemetry = telemetry::init("test", &quiet()).unwrap();
    let bench = Bench::standard(config()).await;
    let stop = Stop::new();
    let address = start(&bench.readiness, telemetry.registry(), &stop).await;

    bench.client().check(request("")).await.unwrap();
    bench.stop.trigger();
    bench.ended().await;
    let text = get(address, "/metrics").await;

    let counted = |line: &str| {
        line.starts_with("rpc_server_call_duration_seconds_count")
            && line.contains(r#"rpc_method="grpc.health.v1.Health/Check""#)
            && line.contains(r#"rpc_response_status_code="OK""#)
    };
    assert!(text.lines().any(counted), "{text}");
}

fn quiet() -> TelemetryConfig {
    TelemetryConfig {
        log_format: LogFormat::Text,
        log_filter: "off".to_owned(),
        otlp_endpoint: None,
        trace_sample_ratio: 0.0,
        service_instance: "one".to_owned(),
    }
}
