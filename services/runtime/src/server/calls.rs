//! What happens around every call: a span, a measurement, a bounded time, and a readable status.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use futures::FutureExt;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use opentelemetry::{KeyValue, StringValue, global, metrics::Histogram};
use tokio::{sync::Semaphore, time};
use tonic::{Code, Status};
use tracing::{Instrument, Span, error, field::Empty, info_span};

use super::{
    methods::{Methods, OTHER},
    status,
};
use crate::{config::ServerConfig, deadline, trace};

/// Bucket bounds in seconds, as the semantic conventions for RPC advise.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Marks an answer given before it was known whether the method exists.
#[derive(Clone)]
struct NotRouted;

/// What all calls of one server share.
pub(super) struct Calls {
    duration: Histogram<f64>,
    timeout: Duration,
    room: Semaphore,
    methods: Methods,
}

impl Calls {
    pub(super) fn new(config: &ServerConfig, methods: Methods) -> Self {
        let duration = global::meter(crate::METER)
            .f64_histogram("rpc.server.call.duration")
            .with_unit("s")
            .with_description("Time from the request to the end of the response")
            .with_boundaries(SECONDS.to_vec())
            .build();
        Self {
            duration,
            timeout: Duration::from_millis(config.request_timeout_ms),
            room: Semaphore::new(config.max_connections),
            methods,
        }
    }
}

/// Puts a gRPC call into a span that continues the caller's trace, and measures it to its end.
pub(super) async fn observed(State(calls): State<Arc<Calls>>, request: Request, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        return next.run(request).await;
    }
    let call = Call::begin(&request, &calls);
    let span = call.span.clone();
    let response = next.run(request).instrument(span).await;
    call.watch(response)
}

/// Answers in time or says why not; a panic in a handler ends that call only.
pub(super) async fn bounded(State(calls): State<Arc<Calls>>, request: Request, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    let Ok(_place) = calls.room.try_acquire() else {
        let mut response = refuse(grpc, Status::unavailable("server: too many calls at once"));
        response.extensions_mut().insert(NotRouted);
        return response;
    };
    let given = deadline::asked(request.headers()).unwrap_or(calls.timeout);
    let until = time::Instant::now() + given.min(calls.timeout);
    let answer = AssertUnwindSafe(deadline::serving(until, next.run(request))).catch_unwind();
    match time::timeout_at(until, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => {
            error!("a handler panicked");
            refuse(grpc, status::internal())
        }
        Err(_elapsed) => refuse(grpc, deadline::exceeded()),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The same refusal for a gRPC caller and for a plain HTTP one.
fn refuse(grpc: bool, status: Status) -> Response {
    if grpc {
        return status.into_http();
    }
    let mut response = Response::new(Body::from(status.message().to_owned()));
    *response.status_mut() = http_status(status.code());
    response
}

fn http_status(code: Code) -> StatusCode {
    if code == Code::DeadlineExceeded {
        StatusCode::GATEWAY_TIMEOUT
    } else if code == Code::Unavailable {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

/// One call from its request to its end, whichever way it ends: the measurement is taken on drop.
struct Call {
    span: Span,
    method: Arc<str>,
    began: Instant,
    code: Option<Code>,
    duration: Histogram<f64>,
}

impl Call {
    /// What the caller asks for stands in the span only if there is such a method: else it is the caller's words.
    fn begin(request: &Request, calls: &Calls) -> Self {
        let method = calls.methods.name(request.uri().path());
        let span = info_span!(
            parent: None,
            "rpc.server",
            otel.name = %method,
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system.name = "grpc",
            rpc.method = %method,
            rpc.response.status_code = Empty,
            trace_id = Empty,
        );
        trace::continue_from_headers(request.headers(), &span);
        if let Some(id) = trace::trace_id(&span) {
            span.record("trace_id", id);
        }
        Self { span, method, began: Instant::now(), code: None, duration: calls.duration.clone() }
    }

    fn watch(mut self, mut response: Response) -> Response {
        if response.extensions().get::<NotRouted>().is_some() || !is_grpc(response.headers()) {
            self.method = Arc::from(OTHER);
        }
        status::correct(response.headers_mut());
        self.code = status::code(response.headers());
        if self.code.is_some() {
            return response;
        }
        response.map(|body| Body::new(Watched { body, call: self }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled); // nobody waited for the end
        let name = status::name(code);
        self.span.record("rpc.response.status_code", name);
        if status::is_our_fault(code) {
            self.span.record("otel.status_code", "ERROR");
        }
        let known = code != Code::Unimplemented;
        let method = if known { Arc::clone(&self.method) } else { Arc::from(OTHER) };
        let attributes = [
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", StringValue::from(method)),
            KeyValue::new("rpc.response.status_code", name),
        ];
        self.duration.record(self.began.elapsed().as_secs_f64(), &attributes);
    }
}

/// A response body that is read inside the span of its call and whose trailers hold the status.
struct Watched {
    body: Body,
    call: Call,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let _inside = this.call.span.enter();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        polled.map_ok(|frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                status::correct(&mut trailers);
                this.call.code = status::code(&trailers);
                Frame::trailers(trailers)
            }
            Err(data) => data,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
