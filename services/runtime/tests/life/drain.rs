//! The drain: who is told what, who may finish, and what is cut.

use tokio::net::TcpStream;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::bench::{Bench, Waiting, config, request};

#[tokio::test]
async fn an_open_stream_is_cut_at_the_drain_deadline() {
    let service = Waiting::new();
    let mut config = config();
    config.drain_deadline_ms = 50;
    let bench = Bench::with(config, &service).await;
    let mut stream = bench.client().watch(request("")).await.unwrap().into_inner();

    bench.stop.trigger();
    bench.ended().await;

    assert!(stream.message().await.is_err());
}

#[tokio::test]
async fn a_call_in_flight_finishes_after_the_socket_is_closed() {
    let service = Waiting::new();
    let bench = Bench::with(config(), &service).await;
    let mut client = bench.client();
    let call = tokio::spawn(async move { client.check(request("")).await });
    service.has_begun().await;

    bench.stop.trigger();
    while TcpStream::connect(bench.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    service.go.add_permits(1);

    assert!(call.await.unwrap().is_ok());
    bench.ended().await;
}

#[tokio::test]
async fn health_says_not_serving_at_once_while_calls_are_still_served() {
    let mut config = config();
    config.drain_wait_ms = 600_000;
    let bench = Bench::standard(config).await;
    bench.health.set("door", true).await;
    let mut client = bench.client();
    let mut watch = client.watch(request("door")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    bench.stop.trigger();

    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    bench.health.set("door", true).await;
    for name in ["", "door"] {
        let answer = client.check(request(name)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing, "{name:?}");
    }
    assert_eq!(bench.readiness.reasons(), ["draining"]);
    bench.stop.stop_now();
    bench.ended().await;
}

#[tokio::test]
async fn a_health_watch_does_not_hold_up_the_drain() {
    let bench = Bench::standard(config()).await;
    let mut watch = bench.client().watch(request("")).await.unwrap().into_inner();

    bench.stop.trigger();
    bench.ended().await;

    while let Ok(Some(_said)) = watch.message().await {}
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_drain() {
    let bench = Bench::standard(config()).await;
    let mut client = bench.client();
    client.check(request("")).await.unwrap();
    let silent = TcpStream::connect(bench.address).await.unwrap();

    bench.stop.trigger();
    bench.ended().await;
    drop(silent);
}
