//! Accepting connections and letting them go: HTTP/1.1 and HTTP/2, bounded in number, silence and age.
//!
//! This is not tonic's own loop because that one leaves its connections in detached tasks: they can be neither
//! counted nor cut, and one past its age is cut without the word to go elsewhere (GOAWAY) that a client needs to
//! reconnect in time. The address of a peer is dropped where it is first seen: what
//! remains of it is a [`Source`](crate::source::Source).
//!
//! What a hostile peer may cost is bounded here, by [`ServerConfig`] and the constants below; `tests/life/hostile.rs` is
//! that peer.

use std::{convert::Infallible, error::Error, io, pin::pin, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use opentelemetry::{KeyValue, global, metrics::Counter};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use crate::{
    config::ServerConfig,
    net::Listen,
    source::Sources,
    tls::{PeerNames, ServerTls, Unshaken},
};

mod crowd;
mod open;
mod unread;

use crowd::Crowd;
use open::{Answer, Forsaken, Open};
use unread::{Streams, Written};

/// Headers of one request, unpacked: more is refused, and four times as much ends the connection. So do more than five
/// frames of them (CONTINUATION) without an end.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Largest frame; a larger one ends the connection. The smallest limit that HTTP/2 knows.
const MAX_FRAME_BYTES: u32 = 16 * 1024;

/// What all calls of a connection together may send that nobody has read yet; more ends it.
const MAX_UNREAD_BYTES: u32 = 256 * 1024;

/// Streams that the peer resets before they were looked at ("rapid reset"); one more at once ends the connection.
const MAX_EARLY_RESETS: usize = 20;

/// Streams in the life of a connection that are reset here for a mistake of the peer ("made you reset"); one more ends
/// it. Honest peers make few: what they had on the way when a call was refused at the door comes for a stream that is over.
/// Ten thousand refused at once, five hundred to a connection, made more than a hundred.
const MAX_MISTAKES: usize = 1024;

/// Over HTTP/1.1 the next request must be there by then, with all of its headers.
const NEXT_HEADERS_WITHIN: Duration = Duration::from_secs(30);

/// A connection that is asked to go, and on which no call goes on, may take so long to do so.
const FAREWELL: Duration = Duration::from_secs(5);

/// Pause after the system refuses to accept, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of all connections of one listener.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) per_source: Option<usize>,
    pub(crate) streams: u32,
    pub(crate) idle: Option<Duration>,
    pub(crate) unread: Duration,
    pub(crate) keepalive_interval: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) age: Option<Duration>,
    pub(crate) age_grace: Duration,
}

impl From<&ServerConfig> for Limits {
    fn from(config: &ServerConfig) -> Self {
        let positive = |ms| Some(Duration::from_millis(ms)).filter(|time| !time.is_zero());
        Self {
            connections: config.max_connections,
            per_source: Some(config.max_connections_per_source).filter(|&most| most > 0),
            streams: config.max_concurrent_streams,
            idle: positive(config.max_connection_idle_ms),
            unread: Duration::from_millis(config.unread_timeout_ms),
            keepalive_interval: Duration::from_millis(config.keepalive_interval_ms),
            keepalive_timeout: Duration::from_millis(config.keepalive_timeout_ms),
            age: positive(config.max_connection_age_ms),
            age_grace: Duration::from_millis(config.max_connection_age_grace_ms),
        }
    }
}

/// Serves `service` on every connection until `closing`; then the socket is closed, peers are told, and it returns
/// when the last connection has ended. When dropped, it cuts what is left. With `tls`, a connection begins with a
/// handshake, and every request on it says in its extensions who the peer is ([`PeerNames`]). Every request says as well
/// where it comes from ([`Source`](crate::source::Source)), unless that is this machine.
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
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (http, refused, unshaken, cut) =
        (http_builder(&limits), refused_counter(), unshaken_counter(), cut_counter());
    let (sources, crowd) = (Sources::new(), Crowd::new(limits.per_source));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= limits.connections => refused.add(1, &[reason("all")]),
                Ok((socket, peer)) => {
                    let source = peer.and_then(|peer| sources.of_peer(peer));
                    let Some(place) = crowd.admit(source) else {
                        refused.add(1, &[reason("source")]);
                        continue;
                    };
                    let socket = Written::new(socket, limits.unread, cut.clone());
                    let service = service.clone().map_request(told(source));
                    let (tls, unshaken) = (tls.clone(), unshaken.clone());
                    let life = Life { http: http.clone(), limits: limits.clone(), cut: cut.clone(), closing: closing.clone() };
                    connections.spawn(async move {
                        let _place = place;
                        let Some(tls) = tls else { return life.live(socket, service).await };
                        if let Some((socket, names)) = shake(&tls, socket, &unshaken, &life.closing).await {
                            life.live(socket, service.map_request(told(names))).await;
                        }
                    });
                }
                Err(error) => pause_after(&error).await,
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn http_builder(limits: &Limits) -> Builder<Streams> {
    let mut http = Builder::new(Streams::new(limits.unread, unread_counter()));
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_HEADERS_WITHIN)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .initial_stream_window_size(MAX_UNREAD_BYTES)
        .initial_connection_window_size(MAX_UNREAD_BYTES)
        .max_pending_accept_reset_streams(MAX_EARLY_RESETS)
        .max_local_error_reset_streams(MAX_MISTAKES)
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    http
}

fn reason(why: &'static str) -> KeyValue {
    KeyValue::new("reason", why)
}

fn refused_counter() -> Counter<u64> {
    global::meter(crate::METER)
        .u64_counter("rpc.server.connections.refused")
        .with_description("Connections closed at once because there were too many, in all or from one source")
        .build()
}

fn unshaken_counter() -> Counter<u64> {
    global::meter(crate::METER)
        .u64_counter("rpc.server.handshakes.failed")
        .with_description("Connections whose TLS handshake failed, by whether it was refused or late")
        .build()
}

fn cut_counter() -> Counter<u64> {
    global::meter(crate::METER)
        .u64_counter("rpc.server.connections.cut")
        .with_description("Connections ended because no call was made in time, or nothing that was sent was read")
        .build()
}

fn unread_counter() -> Counter<u64> {
    global::meter(crate::METER)
        .u64_counter("rpc.server.calls.unread")
        .with_description("Calls reset because nothing of their answer was taken for too long")
        .build()
}

/// `None` when the handshake came to nothing, or the service is going.
async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &ServerTls,
    socket: S,
    unshaken: &Counter<u64>,
    closing: &CancellationToken,
) -> Option<(TlsStream<S>, Option<PeerNames>)> {
    let count = |why: Unshaken| unshaken.add(1, &[reason(why.reason())]);
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

/// What one connection needs.
struct Life {
    http: Builder<Streams>,
    limits: Limits,
    cut: Counter<u64>,
    closing: CancellationToken,
}

impl Life {
    async fn live<S, B>(self, socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let open = Open::default();
        let counted = open.clone();
        let service = tower::service_fn(move |request| {
            let (call, answer) = (counted.begin(), service.clone().oneshot(request));
            async move { answer.await.map(|response| response.map(|body| Answer::new(body, call))) }
        });
        let mut connection =
            pin!(self.http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service)));
        let why = tokio::select! {
            _ended = connection.as_mut() => return,
            () = self.closing.cancelled() => Leaving::Drained,
            forsaken = open.forsaken(self.limits.idle) => Leaving::Forsaken(forsaken),
            () = grown_old(self.limits.age) => Leaving::Old,
        };
        connection.as_mut().graceful_shutdown();
        let cut = tokio::select! {
            _ended = connection => false, // however it ends, it is over
            () = self.farewell(why, &open) => true,
        };
        debug!(?why, cut, "a connection was asked to go");
    }

    /// How long a connection may take to go once it was asked to.
    async fn farewell(&self, why: Leaving, open: &Open) {
        if why == Leaving::Drained {
            return std::future::pending().await; // the drain has a deadline of its own
        }
        if why == Leaving::Forsaken(Forsaken::Silent) {
            self.cut.add(1, &[reason("silent")]);
        }
        if why != Leaving::Old {
            sleep(FAREWELL).await;
            if open.is_idle() {
                return;
            }
        }
        sleep(self.limits.age_grace).await; // calls may end, also those that crossed our word
    }
}

/// Why a connection is asked to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Drained,
    Forsaken(Forsaken),
    Old,
}

/// Give or take a tenth, so that clients that came together do not leave together.
async fn grown_old(age: Option<Duration>) {
    match age {
        Some(age) => sleep(age.mul_f64(rand::random_range(0.9..=1.1))).await,
        None => std::future::pending().await,
    }
}
