//! A server on a free port, with a service whose answers wait for a word from the test.
//!
//! The service borrows the health contract: `Check` is its unary call, `Watch` its stream.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use holdfast_runtime::{
    Readiness, Stop, client,
    config::{ClientConfig, ServerConfig},
    net::{Dial, Listen},
    server::{self, Health, ServeError},
    tls::{ClientTlsConfig, ServerTlsConfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status,
    service::{Routes, RoutesBuilder},
    transport::Channel,
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_client::HealthClient, health_server,
    health_server::HealthServer,
};

/// Nothing here takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config() -> ServerConfig {
    ServerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        max_connections: 100,
        max_connections_per_source: 0,
        max_concurrent_streams: 100,
        max_decoding_bytes: 1024,
        max_encoding_bytes: 1024,
        request_timeout_ms: 60_000,
        keepalive_interval_ms: 20_000,
        keepalive_timeout_ms: 10_000,
        max_connection_idle_ms: 0,
        unread_timeout_ms: 60_000,
        max_connection_age_ms: 0,
        max_connection_age_grace_ms: 0,
        drain_wait_ms: 0,
        drain_deadline_ms: 60_000,
        reflection: true,
        tls: ServerTlsConfig::default(),
    }
}

pub(crate) fn client_config() -> ClientConfig {
    ClientConfig {
        connect_timeout_ms: 5_000,
        request_timeout_ms: 60_000,
        keepalive_interval_ms: 20_000,
        keepalive_timeout_ms: 10_000,
        tls: ClientTlsConfig::default(),
        dial: Dial::SYSTEM,
    }
}

pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) health: Health,
    pub(crate) readiness: Readiness,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Bench {
    /// Serves the standard services only.
    pub(crate) async fn standard(config: ServerConfig) -> Self {
        let mut routes = RoutesBuilder::default();
        let health = server::standard_services(&mut routes, &config, &[]).unwrap();
        Self::start(config, routes.routes(), health).await
    }

    /// Serves `service` in the place of health.
    pub(crate) async fn with(config: ServerConfig, service: &Waiting) -> Self {
        let health = server::standard_services(&mut RoutesBuilder::default(), &config, &[]).unwrap();
        let limited = HealthServer::new(service.clone()).max_decoding_message_size(config.max_decoding_bytes);
        Self::start(config, Routes::new(limited), health).await
    }

    pub(crate) async fn start(config: ServerConfig, routes: Routes, health: Health) -> Self {
        let listener = TcpListener::bind(config.listen).await.unwrap();
        Self::serve(listener, config, routes, health)
    }

    /// Serves on a socket of the test's own.
    pub(crate) fn serve(listener: impl Listen, config: ServerConfig, routes: Routes, health: Health) -> Self {
        let address = listener.local_addr().unwrap();
        let (stop, readiness) = (Stop::new(), Readiness::new());
        let (s, h, r) = (stop.clone(), health.clone(), readiness.clone());
        let serving = tokio::spawn(async move { server::serve(listener, routes, &config, s, h, r).await });
        Self { address, stop, health, readiness, serving }
    }

    pub(crate) fn channel(&self) -> Channel {
        client::channel(&format!("http://{}", self.address), &client_config()).unwrap()
    }

    pub(crate) fn client(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel())
    }

    /// Says `words` on a connection of its own and returns all that is answered.
    pub(crate) async fn say(&self, words: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(words.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        socket.read_to_end(&mut heard).await.unwrap();
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// The end of `serve`.
    pub(crate) async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.serving).await.expect("serve ends").unwrap().unwrap();
    }
}

/// `Check("")` by gRPC-Web over HTTP/1.1, with more `headers`, each ended by CR LF.
pub(crate) fn check_on_the_web(headers: &str) -> String {
    format!(
        "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n{headers}\r\n\0\0\0\0\0"
    )
}

pub(crate) fn request(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// A call that goes on.
struct Going(Arc<AtomicUsize>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `Check` is answered, and `Watch` says one more thing, for every permit that the test gives. Both tell when they
/// have begun. `Check("panic")` panics, and `Check("at once")` does not wait.
#[derive(Clone)]
pub(crate) struct Waiting {
    pub(crate) begun: Arc<Semaphore>,
    pub(crate) go: Arc<Semaphore>,
    going: Arc<AtomicUsize>,
}

impl Waiting {
    pub(crate) fn new() -> Self {
        Self { begun: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)), going: Arc::default() }
    }

    /// Calls that go on.
    pub(crate) fn going(&self) -> usize {
        self.going.load(Ordering::Relaxed)
    }

    fn begin(&self) -> Going {
        self.going.fetch_add(1, Ordering::Relaxed);
        self.begun.add_permits(1);
        Going(Arc::clone(&self.going))
    }

    /// Waits until one more call has begun.
    pub(crate) async fn has_begun(&self) {
        self.begun.acquire().await.unwrap().forget();
    }

    async fn answer(self) -> HealthCheckResponse {
        self.go.acquire().await.unwrap().forget();
        HealthCheckResponse { status: 1 }
    }
}

#[tonic::async_trait]
impl health_server::Health for Waiting {
    async fn check(&self, asked: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        assert_ne!(asked.get_ref().service, "panic", "on purpose");
        if asked.get_ref().service == "at once" {
            return Ok(Response::new(HealthCheckResponse { status: 1 }));
        }
        let _going = self.begin();
        Ok(Response::new(self.clone().answer().await))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let going = self.begin();
        let answers = stream::repeat(self.clone()).then(Self::answer).map(move |answer| {
            let _goes_on = &going;
            Ok(answer)
        });
        Ok(Response::new(answers.boxed()))
    }
}
