//! Connections: how many, how old, and what is spoken on them.

use holdfast_runtime::server;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tonic::service::{Routes, RoutesBuilder};

use crate::bench::{Bench, Waiting, check_on_the_web, config, request};

#[tokio::test]
async fn a_port_that_is_taken_is_a_clear_error() {
    let first = server::bind("127.0.0.1:0".parse().unwrap(), "intake").await.unwrap();
    let address = first.local_addr().unwrap();

    let error = server::bind(address, "intake").await.unwrap_err().to_string();

    assert_eq!(error, format!("cannot listen on {address} (intake): address already in use"));
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_live() {
    let mut config = config();
    config.max_connections = 1;
    let bench = Bench::standard(config).await;
    let mut client = bench.client();
    client.check(request("")).await.unwrap();

    let mut second = TcpStream::connect(bench.address).await.unwrap();

    assert!(matches!(second.read(&mut [0]).await, Ok(0) | Err(_)));
    assert!(client.check(request("")).await.is_ok());
}

#[tokio::test]
async fn an_old_connection_is_cut_and_the_client_comes_back() {
    let service = Waiting::new();
    service.go.add_permits(1);
    let mut config = config();
    (config.max_connection_age_ms, config.max_connection_age_grace_ms) = (500, 500);
    let bench = Bench::with(config, &service).await;
    let mut client = bench.client();
    let mut stream = client.watch(request("")).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());

    assert!(stream.message().await.is_err());

    service.go.add_permits(1);
    assert!(client.check(request("")).await.is_ok());
}

#[tokio::test]
async fn grpc_web_and_plain_http_share_the_port() {
    let mut routes = RoutesBuilder::default();
    let health = server::standard_services(&mut routes, &config(), &[]).unwrap();
    let pages = axum::Router::new().route("/page", axum::routing::get(|| async { "a page" }));
    let routes = Routes::from(routes.routes().into_axum_router().merge(pages));
    let bench = Bench::start(config(), routes, health).await;

    let page = bench.say("GET /page HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let call = bench.say(&check_on_the_web("")).await;

    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("a page"), "{page}");
    assert!(call.starts_with("HTTP/1.1 200") && call.contains("grpc-status:0"), "{call}");
}
