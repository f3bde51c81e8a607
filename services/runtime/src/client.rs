//! Calling another service: one lazy channel per address, deadlines, what may be retried and when.

use std::{error::Error, time::Duration};

use hyper_util::rt::TokioIo;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::config::ClientConfig;
pub use crate::{
    deadline::with_deadline,
    trace::{TraceContext, continue_from, current_traceparent, link_to},
};

/// Why a channel cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address like `http://queue:50052`.
    #[error("{uri:?} is not a service address such as http://queue:50052")]
    Address {
        /// What was given.
        uri: String,
    },
}

/// A channel to one address, such as `http://queue:50052`. Nothing is dialled before the first call, and a broken
/// connection is dialled again by the next one; while the other side is down each call fails at once, so retry with
/// a [`Backoff`].
///
/// One channel is one connection: make one for every address and leave choosing to the caller. Must be called inside
/// a Tokio runtime.
///
/// # Errors
/// When `uri` is not an absolute `http://` or `https://` address.
pub fn channel(uri: &str, config: &ClientConfig) -> Result<Channel, ClientError> {
    let endpoint = endpoint(uri, config)?;
    let Some(connect) = config.dial.connect() else {
        return Ok(endpoint.connect_lazy());
    };
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |to| {
        let connecting = connect(to);
        async move { connecting.await.map(TokioIo::new) }
    })))
}

fn endpoint(uri: &str, config: &ClientConfig) -> Result<Endpoint, ClientError> {
    let refuse = || ClientError::Address { uri: uri.to_owned() };
    let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(|_| refuse())?;
    let scheme = endpoint.uri().scheme_str();
    if !matches!(scheme, Some("http" | "https")) || endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(refuse());
    }
    Ok(endpoint
        .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
        .timeout(Duration::from_millis(config.request_timeout_ms))
        .http2_keep_alive_interval(Duration::from_millis(config.keepalive_interval_ms))
        .keep_alive_timeout(Duration::from_millis(config.keepalive_timeout_ms))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

/// Whether the same call, with the same request id, may be sent again: the other side, or the way to it, is going or
/// gone. The outcome of the first attempt stays unknown.
///
/// True for `UNAVAILABLE`; `CANCELLED` that is not ours (a server that closes says so; when we give up there is no
/// status to ask about); `UNKNOWN` and `INTERNAL` from a broken connection (a peer that says GOAWAY in the middle of a
/// call is `INTERNAL`). A deadline that passed is not retried.
#[must_use]
pub fn is_retryable(status: &Status) -> bool {
    if status.code() == Code::Unavailable {
        return true;
    }
    if status.code() == Code::Cancelled {
        return status.message() != crate::deadline::TONIC_TIMEOUT;
    }
    matches!(status.code(), Code::Unknown | Code::Internal) && is_broken_connection(status)
}

fn is_broken_connection(status: &Status) -> bool {
    let message = status.message();
    let said = ["h2 protocol error", "transport error", "error reading a body from connection"];
    said.iter().any(|s| message.starts_with(s)) || has_transport_cause(status)
}

fn has_transport_cause(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::transport::Error>() || error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Waits between attempts: exponential with full jitter, so that those who failed together do not return together.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
    taken: u32,
}

impl Backoff {
    /// At most `attempts` waits; the n-th (from 0) is random between zero and the smaller of `base`·2ⁿ and `cap`.
    #[must_use]
    pub fn new(base: Duration, cap: Duration, attempts: u32) -> Self {
        Self { base, cap, attempts, taken: 0 }
    }

    /// How long to wait before the next attempt; `None` when it is time to give up.
    pub fn next_delay(&mut self) -> Option<Duration> {
        if self.taken >= self.attempts {
            return None;
        }
        let factor = 1_u32.checked_shl(self.taken).unwrap_or(u32::MAX);
        self.taken += 1;
        let ceiling = self.base.saturating_mul(factor).min(self.cap);
        Some(ceiling.mul_f64(rand::random_range(0.0..=1.0)))
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Dial;

    const CONFIG: ClientConfig = ClientConfig {
        connect_timeout_ms: 1000,
        request_timeout_ms: 1000,
        keepalive_interval_ms: 20_000,
        keepalive_timeout_ms: 10_000,
        dial: Dial::SYSTEM,
    };

    #[tokio::test]
    async fn an_address_without_scheme_or_host_is_refused() {
        for uri in ["", "queue:50052", "/path", "ftp://queue", "127.0.0.1:1", "http://"] {
            assert!(channel(uri, &CONFIG).is_err(), "{uri}");
        }
        assert!(channel("http://queue:50052", &CONFIG).is_ok());
    }

    #[test]
    fn only_a_side_that_is_going_or_gone_is_retried() {
        let yes = [
            Status::unavailable("x"),
            Status::cancelled("operation was canceled"),
            Status::unknown("h2 protocol error: http2 error"),
            Status::unknown("transport error"),
            Status::internal("h2 protocol error: http2 error"),
        ];
        let no = [
            Status::cancelled(crate::deadline::TONIC_TIMEOUT),
            Status::unknown("a bug"),
            Status::internal("x"),
            Status::deadline_exceeded("x"),
            Status::invalid_argument("x"),
        ];
        assert!(yes.iter().all(is_retryable));
        assert!(!no.iter().any(is_retryable));
    }

    #[test]
    fn a_backoff_grows_to_its_cap_and_ends() {
        let ceiling_ms = [100, 200, 400, 500, 500];
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500), 5);
        for ms in ceiling_ms {
            assert!(backoff.next_delay().unwrap() <= Duration::from_millis(ms));
        }
        assert_eq!(backoff.next_delay(), None);
        backoff.reset();
        assert!(backoff.next_delay().is_some());
    }

    #[test]
    fn a_long_backoff_does_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(2), 100);
        let longest = std::iter::from_fn(|| backoff.next_delay()).max().unwrap();
        assert!(longest <= Duration::from_secs(2));
    }
}
