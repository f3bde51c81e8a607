//! Calling another service: one lazy channel per address, deadlines, what may be retried and when.

use std::{error::Error, io, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use crate::{
    config::ClientConfig,
    net::{Dial, Stream},
    tls::{Caller, TlsError, without_brackets},
};
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
    /// TLS cannot be had as the settings say.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A channel to one address, such as `http://queue:50052`. Nothing is dialled before the first call, and a broken
/// connection is dialled again by the next one; while the other side is down each call fails at once, so retry with
/// a [`Backoff`].
///
/// One channel is one connection: make one for every address and leave choosing to the caller. To an `https://` address,
/// each dial uses the certificates that are in force then. Must be called inside a Tokio runtime.
///
/// # Errors
/// When `uri` is not an absolute `http://` or `https://` address, or a file of `[client.tls]` cannot be used.
pub fn channel(uri: &str, config: &ClientConfig) -> Result<Channel, ClientError> {
    channel_to(uri, None, config)
}

/// The same, where the server's certificate must be for `name` and not for the host in the address.
///
/// # Errors
/// As [`channel`], and when `name` is not one.
pub fn channel_to(uri: &str, name: Option<&str>, config: &ClientConfig) -> Result<Channel, ClientError> {
    let refuse = || ClientError::Address { uri: uri.to_owned() };
    let to = address(uri).ok_or_else(refuse)?;
    let is_secure = to.scheme_str() == Some("https");
    let dial = config.dial.clone();
    if !is_secure && dial.is_system() {
        return Ok(endpoint(to, config).connect_lazy());
    }
    if !is_secure {
        return Ok(endpoint(to, config).connect_with_connector_lazy(service_fn(move |to: Uri| {
            let dial = dial.clone();
            async move { reach(&dial, to).await.map(TokioIo::new) }
        })));
    }
    let name = name.or(to.host()).ok_or_else(refuse)?;
    let caller = Caller::new(config.tls.current()?, name).ok_or_else(refuse)?;
    // The library leaves https to a TLS of its own, that knows one configuration for ever. So it is told that this is
    // http, and what the requests say of it is put right.
    let plain = address(&uri.replacen("https", "http", 1)).ok_or_else(refuse)?;
    let endpoint = endpoint(plain, config).origin(to.clone());
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_plain| {
        let (dial, caller, to) = (dial.clone(), caller.clone(), to.clone());
        async move { caller.handshake(reach(&dial, to).await?).await.map(TokioIo::new) }
    })))
}

async fn reach(dial: &Dial, to: Uri) -> io::Result<Box<dyn Stream>> {
    if let Some(connect) = dial.connect() {
        return connect(to).await;
    }
    let host = without_brackets(to.host().unwrap_or_default());
    let socket = TcpStream::connect((host, to.port_u16().unwrap_or(443))).await?;
    socket.set_nodelay(true)?;
    Ok(Box::new(socket))
}

fn address(uri: &str) -> Option<Uri> {
    let uri: Uri = uri.parse().ok()?;
    let is_whole = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|h| !h.is_empty());
    is_whole.then_some(uri)
}

fn endpoint(to: Uri, config: &ClientConfig) -> Endpoint {
    Endpoint::from(to)
        .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
        .timeout(Duration::from_millis(config.request_timeout_ms))
        .http2_keep_alive_interval(Duration::from_millis(config.keepalive_interval_ms))
        .keep_alive_timeout(Duration::from_millis(config.keepalive_timeout_ms))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
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
    use crate::tls::ClientTlsConfig;

    fn config() -> ClientConfig {
        ClientConfig {
            connect_timeout_ms: 1000,
            request_timeout_ms: 1000,
            keepalive_interval_ms: 20_000,
            keepalive_timeout_ms: 10_000,
            tls: ClientTlsConfig::default(),
            dial: Dial::SYSTEM,
        }
    }

    #[tokio::test]
    async fn an_address_without_scheme_or_host_is_refused() {
        for uri in ["", "queue:50052", "/path", "ftp://queue", "127.0.0.1:1", "http://"] {
            assert!(channel(uri, &config()).is_err(), "{uri}");
        }
        assert!(channel("http://queue:50052", &config()).is_ok());
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
