//! Accepting connections and letting them go: HTTP/1.1 and HTTP/2, bounded in number, silence and age.
//!
//! This is not tonic's own loop because that one leaves its connections in detached tasks: they can be neither
//! counted nor cut, and one past its age is cut without the word to go elsewhere (GOAWAY) that a client needs to
//! reconnect in time. The address of a peer is dropped where it is first seen: what
//! remains of it is a [`Source`].

use std::{
    convert::Infallible,
    error::Error,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use opentelemetry::{KeyValue, global, metrics::Counter};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use crate::{
    config::ServerConfig,
    net::Listen,
    source::{Source, Sources},
    tls::{PeerNames, ServerTls, Unshaken},
};

/// Headers of one request: more is refused.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// A connection that has not made its first request by then is closed.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// Pause after the system refuses to accept, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of all connections of one listener.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) streams: u32,
    pub(crate) keepalive_interval: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) age: Option<Duration>,
    pub(crate) age_grace: Duration,
}

impl From<&ServerConfig> for Limits {
    fn from(config: &ServerConfig) -> Self {
        let age = Duration::from_millis(config.max_connection_age_ms);
        Self {
            connections: config.max_connections,
            streams: config.max_concurrent_streams,
            keepalive_interval: Duration::from_millis(config.keepalive_interval_ms),
            keepalive_timeout: Duration::from_millis(config.keepalive_timeout_ms),
            age: Some(age).filter(|age| !age.is_zero()),
            age_grace: Duration::from_millis(config.max_connection_age_grace_ms),
        }
    }
}

/// Serves `service` on every connection until `closing`; then the socket is closed, peers are told, and it returns
/// when the last connection has ended. When dropped, it cuts what is left. With `tls`, a connection begins with a
/// handshake, and every request on it says in its extensions who the peer is ([`PeerNames`]). Every request says as well
/// where it comes from ([`Source`]), unless that is this machine.
pub(crate) async fn accept<L, S, B>(
    listener: L,
    tls: Option<ServerTls>,
    service: S,
    limits: Limits,
    closing: &CancellationToken,
) where
    L: Listen,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (http, refused, unshaken) = (http_builder(&limits), refused_counter(), unshaken_counter());
    let sources = Sources::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= limits.connections => refused.add(1, &[]),
                Ok((socket, peer)) => {
                    let source: Option<Source> = peer.and_then(|peer| sources.of_peer(peer));
                    let service = service.clone().map_request(told(source));
                    let (http, limits, closing) = (http.clone(), limits.clone(), closing.clone());
                    match tls.clone() {
                        None => connections.spawn(connection(socket, service, http, limits, closing)),
                        Some(tls) => {
                            let unshaken = unshaken.clone();
                            connections.spawn(async move {
                                if let Some((socket, names)) = shake(&tls, socket, &unshaken, &closing).await {
                                    let service = service.map_request(told(names));
                                    connection(socket, service, http, limits, closing).await;
                                }
                            })
                        }
                    };
                }
                Err(error) => pause_after(&error).await,
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn http_builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_REQUEST_WITHIN)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    http
}

fn refused_counter() -> Counter<u64> {
    global::meter(crate::METER)
        .u64_counter("rpc.server.connections.refused")
        .with_description("Connections closed at once because there were too many")
        .build()
}

fn unshaken_counter() -> Counter<u64> {
    global::meter(crate::METER)
        .u64_counter("rpc.server.handshakes.failed")
        .with_description("Connections whose TLS handshake failed, by whether it was refused or late")
        .build()
}

/// `None` when the handshake came to nothing, or the service is going.
async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &ServerTls,
    socket: S,
    unshaken: &Counter<u64>,
    closing: &CancellationToken,
) -> Option<(TlsStream<S>, Option<PeerNames>)> {
    let count = |why: Unshaken| unshaken.add(1, &[KeyValue::new("reason", why.reason())]);
    closing.run_until_cancelled(tls.handshake(socket)).await?.map_err(count).ok()
}

/// Tells each request of a connection something of its other end, where that is known.
fn told<T: Clone + Send + Sync + 'static, B>(known: Option<T>) -> impl Fn(Request<B>) -> Request<B> + Clone {
    move |mut request| {
        if let Some(known) = &known {
            request.extensions_mut().insert(known.clone());
        }
        request
    }
}

async fn pause_after(error: &io::Error) {
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return; // the peer was faster
    }
    warn!(%error, "cannot accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

async fn connection<S, B>(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    service: S,
    http: Builder<TokioExecutor>,
    limits: Limits,
    closing: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let spoke = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&spoke);
    let service = service.map_request(move |request| {
        noted.store(true, Ordering::Relaxed);
        request
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service)));
    let old = tokio::select! {
        _ended = connection.as_mut() => return,
        () = closing.cancelled() => false,
        () = silent(&spoke) => true,
        () = grown_old(limits.age) => true,
    };
    connection.as_mut().graceful_shutdown();
    if old {
        let ended = timeout(limits.age_grace, connection).await;
        debug!(cut = ended.is_err(), "a connection was retired");
    } else {
        let _ended = connection.await; // however it ends, it is over
    }
}

async fn silent(spoke: &AtomicBool) {
    sleep(FIRST_REQUEST_WITHIN).await;
    if spoke.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// Give or take a tenth, so that clients that came together do not leave together.
async fn grown_old(age: Option<Duration>) {
    match age {
        Some(age) => sleep(age.mul_f64(rand::random_range(0.9..=1.1))).await,
        None => std::future::pending().await,
    }
}
