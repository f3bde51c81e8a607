//! One call: its deadline, its status, its limits.

use holdfast_runtime::client::with_deadline;
use std::time::Duration;
use tonic::{Code, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_health::pb::HealthCheckResponse;
use tonic_prost::ProstCodec;

use crate::bench::{Bench, Waiting, check_on_the_web, config, request};

#[tokio::test]
async fn a_slow_call_is_deadline_exceeded_and_a_stream_is_not_cut() {
    let service = Waiting::new();
    let mut config = config();
    config.request_timeout_ms = 50;
    let bench = Bench::with(config, &service).await;
    let mut client = bench.client();
    let mut stream = client.watch(request("")).await.unwrap().into_inner();

    let status = client.check(request("")).await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    service.go.add_permits(1);
    assert!(stream.message().await.unwrap().is_some());
}

#[tokio::test]
async fn a_caller_may_give_less_time() {
    let service = Waiting::new();
    let bench = Bench::with(config(), &service).await;

    let answer = bench.say(&check_on_the_web("grpc-timeout: 30m\r\n")).await;

    assert!(answer.contains("grpc-status: 4\r\n"), "{answer}");
}

#[tokio::test]
async fn a_request_that_cannot_be_decoded_is_invalid_argument() {
    let bench = Bench::standard(config()).await;
    for method in ["Check", "Watch"] {
        let status = check_raw(&bench, method, vec![0xff, 0xfe]).await;
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "request: not a valid message"));
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_names_the_limit() {
    let bench = Bench::with(config(), &Waiting::new()).await;
    let status = check_raw(&bench, "Check", vec![b'x'; 2000]).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    let said = "request: message too large: found 2003 bytes, the limit is: 1024 bytes";
    assert_eq!(status.message(), said);
}

#[tokio::test]
async fn one_call_too_many_is_refused_at_once_and_worth_a_retry() {
    let service = Waiting::new();
    let mut config = config();
    config.max_connections = 1;
    let bench = Bench::with(config, &service).await;
    let mut client = bench.client();
    let mut first = client.clone();
    let first = tokio::spawn(async move { first.check(request("")).await });
    service.has_begun().await;

    let second = client.check(request("")).await.unwrap_err();

    assert_eq!(second.code(), Code::Unavailable);
    service.go.add_permits(1);
    assert!(first.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_panic_ends_one_call_and_not_the_server() {
    let service = Waiting::new();
    service.go.add_permits(1);
    let bench = Bench::with(config(), &service).await;
    let mut client = bench.client();

    let status = client.check(request("panic")).await.unwrap_err();

    assert_eq!((status.code(), status.message()), (Code::Internal, "server: internal error"));
    assert!(client.check(request("")).await.is_ok());
}

#[tokio::test]
async fn a_server_that_is_gone_is_worth_a_retry() {
    let bench = Bench::standard(config()).await;
    let mut client = bench.client();
    client.check(request("")).await.unwrap();
    bench.stop.trigger();
    bench.ended().await;

    let status = with_deadline(Duration::from_secs(5), client.check(request(""))).await.unwrap_err();

    assert!(holdfast_runtime::client::is_retryable(&status), "{status:?}");
}

/// Sends `bytes` where the contract has a string.
async fn check_raw(bench: &Bench, method: &str, bytes: Vec<u8>) -> Status {
    let mut grpc = Grpc::new(bench.channel());
    grpc.ready().await.unwrap();
    let path: PathAndQuery = format!("/grpc.health.v1.Health/{method}").parse().unwrap();
    let codec = ProstCodec::<Vec<u8>, HealthCheckResponse>::default();
    grpc.unary(tonic::Request::new(bytes), path, codec).await.unwrap_err()
}
