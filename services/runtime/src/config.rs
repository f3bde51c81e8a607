//! Configuration in layers: the embedded, documented defaults; a file; the environment; command-line flags.
//!
//! Later layers win. A key nobody knows is refused, in one line that names the key and where it was set, because a
//! misspelt setting that is silently ignored is a lie. Values are never rewritten on the way (`00123` stays `00123`);
//! secrets are not values at all but files, named by a setting that ends in `_file`.

use std::{
    ffi::OsString,
    fmt, fs, io,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};

use crate::{
    net::Dial,
    tls::{ClientTlsConfig, ServerTlsConfig},
};

mod layer;
use layer::Layer;

/// The largest secret file that is read.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Why a configuration or a secret was refused. Each is one line for the person who starts the process.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A layer is not TOML, a name is not Unicode, and the like: nothing of the layer can be used.
    #[error("{origin}: {message}")]
    Malformed {
        /// The layer, as a person would name it.
        origin: String,
        /// What is wrong with it.
        message: String,
    },
    /// A key is unknown, missing, of another type or out of its range.
    #[error("{origin}: {key}: {message}")]
    Setting {
        /// The file, the environment variable or the command line.
        origin: String,
        /// The dotted key, as far as it is known.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// A secret file is empty, too large or not UTF-8.
    #[error("secret file {}: {message}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never what is in it.
        message: &'static str,
    },
}

/// Reads the configuration `T` from its layers, the later ones winning:
///
/// 1. `defaults`: the embedded TOML, the same documented file that people copy;
/// 2. `file`, when one is given: it must exist and be TOML;
/// 3. the environment: `HOLDFAST_QUEUE__SERVER__LISTEN` sets `server.listen` when `env_prefix` is `HOLDFAST_QUEUE`;
/// 4. `overrides`: dotted key and value, from command-line flags.
///
/// # Errors
/// One line naming the key and the layer that set it, when a key is unknown (`T` and its sections derive
/// `deny_unknown_fields`), a value has another type or is out of range, or a layer cannot be read.
pub fn load<T: DeserializeOwned>(
    defaults: &str,
    file: Option<&Path>,
    env_prefix: &str,
    overrides: &[(&str, String)],
) -> Result<T, ConfigError> {
    load_with(defaults, file, env_prefix, std::env::vars_os(), overrides)
}

fn load_with<T: DeserializeOwned>(
    defaults: &str,
    file: Option<&Path>,
    env_prefix: &str,
    environment: impl Iterator<Item = (OsString, OsString)>,
    overrides: &[(&str, String)],
) -> Result<T, ConfigError> {
    let mut layers = vec![Layer::toml("built-in defaults", defaults)?];
    if let Some(path) = file {
        let text = fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
        layers.push(Layer::toml(&path.display().to_string(), &text)?);
    }
    layers.push(Layer::environment(env_prefix, environment)?);
    layers.push(Layer::flags(overrides));
    layer::resolve(&layers)
}

fn unreadable(path: &Path, source: io::Error) -> ConfigError {
    ConfigError::Unreadable { path: path.to_owned(), source }
}

/// A secret. It is wiped from memory when dropped and prints as `[REDACTED]`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret itself, for the one line that needs it. Never put it in an error, a log or a metric.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([REDACTED])")
    }
}

/// Reads the secret that a `<name>_file` setting points to, without one trailing newline.
///
/// # Errors
/// When the file cannot be read, is empty, is larger than 64 KiB, or is not UTF-8.
pub fn read_secret(path: &Path) -> Result<Secret, ConfigError> {
    let refuse = |message| ConfigError::Secret { path: path.to_owned(), message };
    let file = fs::File::open(path).map_err(|source| unreadable(path, source))?;
    let mut bytes = Vec::new();
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(|source| unreadable(path, source))?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(refuse("larger than 64 KiB"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| refuse("not UTF-8"))?;
    let kept = without_newline(&text).len();
    text.truncate(kept);
    if text.is_empty() {
        return Err(refuse("empty"));
    }
    Ok(text.into())
}

fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// `[server]`: where a service listens and every limit of its connections.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of the gRPC and gRPC-Web port; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Address of the plain HTTP port with `/livez`, `/readyz` and `/metrics`; keep it off the public network.
    pub admin_listen: SocketAddr,
    /// Connections at once; one more is closed as soon as it is accepted. As many calls at once may be waiting for
    /// their first answer. 1 to 1,000,000.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub max_connections: usize,
    /// Connections at once from one [source](crate::source); one more is closed as soon as it is accepted. Peers on this
    /// machine are not counted. 0 is no limit, as it must be behind a proxy, where all peers are that one. Up to 1,000,000.
    #[serde(deserialize_with = "within::<_, _, 0, 1_000_000>")]
    pub max_connections_per_source: usize,
    /// Calls and streams at once on one HTTP/2 connection. 1 to 100,000.
    #[serde(deserialize_with = "within::<_, _, 1, 100_000>")]
    pub max_concurrent_streams: u32,
    /// Largest message accepted, in bytes; each service sets it on its generated server. 1 KiB to 64 MiB.
    #[serde(deserialize_with = "within::<_, _, 1024, 67_108_864>")]
    pub max_decoding_bytes: usize,
    /// Largest message sent, in bytes; each service sets it on its generated server. 1 KiB to 64 MiB.
    #[serde(deserialize_with = "within::<_, _, 1024, 67_108_864>")]
    pub max_encoding_bytes: usize,
    /// Time a call may take to its response headers; a stream may then go on for ever. 1 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 1, 600_000>")]
    pub request_timeout_ms: u64,
    /// A silent connection is pinged this often. 100 ms to 1 h.
    #[serde(deserialize_with = "within::<_, _, 100, 3_600_000>")]
    pub keepalive_interval_ms: u64,
    /// A ping unanswered for this long ends the connection. 100 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 100, 600_000>")]
    pub keepalive_timeout_ms: u64,
    /// A connection on which no call goes on is asked to reconnect after this time, or up to twice as much; 0 is never. One
    /// without a first call is cut much sooner. Up to 1 day.
    #[serde(deserialize_with = "within::<_, _, 0, 86_400_000>")]
    pub max_connection_idle_ms: u64,
    /// A peer that takes nothing for this long of what is sent to it is cut: the call whose window it does not open, or
    /// the connection that it does not read. 100 ms to 1 h.
    #[serde(deserialize_with = "within::<_, _, 100, 3_600_000>")]
    pub unread_timeout_ms: u64,
    /// A connection is asked to reconnect after this time, give or take a tenth; 0 is never. Up to 7 days.
    #[serde(deserialize_with = "within::<_, _, 0, 604_800_000>")]
    pub max_connection_age_ms: u64,
    /// How long streams may go on after that, before the connection is cut. Up to 1 day.
    #[serde(deserialize_with = "within::<_, _, 0, 86_400_000>")]
    pub max_connection_age_grace_ms: u64,
    /// After the stop signal: time to go on serving, while health already says NOT_SERVING. Up to 10 min.
    #[serde(deserialize_with = "within::<_, _, 0, 600_000>")]
    pub drain_wait_ms: u64,
    /// After that: time for open calls and streams to end, before they are cut. Up to 1 h.
    #[serde(deserialize_with = "within::<_, _, 0, 3_600_000>")]
    pub drain_deadline_ms: u64,
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// What the gRPC port shows of itself, and what it asks of peers.
    pub tls: ServerTlsConfig,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For people.
    Text,
}

/// `[telemetry]`: logs, traces and metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// `"json"` or `"text"`, on standard error.
    pub log_format: LogFormat,
    /// What is logged, such as `"info"` or `"warn,holdfast_queue=debug"`.
    pub log_filter: String,
    /// OTLP/gRPC collector that traces and metrics are pushed to, such as `"http://collector:4317"`; `""` is none.
    #[serde(default, deserialize_with = "none_if_empty")]
    pub otlp_endpoint: Option<String>,
    /// Share of traces begun here that is recorded, 0.0 to 1.0; the caller's decision wins over it.
    #[serde(deserialize_with = "ratio")]
    pub trace_sample_ratio: f64,
    /// Name of this replica in traces and metrics; `""` takes the host name.
    pub service_instance: String,
}

/// `[client]`: how one service calls another.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Time to establish a connection. 1 ms to 1 min.
    #[serde(deserialize_with = "within::<_, _, 1, 60_000>")]
    pub connect_timeout_ms: u64,
    /// Time a call may take to its response headers. 1 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 1, 600_000>")]
    pub request_timeout_ms: u64,
    /// A connection is pinged this often, also while idle. 100 ms to 1 h.
    #[serde(deserialize_with = "within::<_, _, 100, 3_600_000>")]
    pub keepalive_interval_ms: u64,
    /// A ping unanswered for this long ends the connection. 100 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 100, 600_000>")]
    pub keepalive_timeout_ms: u64,
    /// Whom `https://` addresses are believed, and what is shown to them.
    pub tls: ClientTlsConfig,
    /// Over which network; not a setting.
    #[serde(skip)]
    pub dial: Dial,
}

impl ClientConfig {
    /// The time a call may take, for [`with_deadline`](crate::client::with_deadline).
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}

/// Deserializes a whole number of `MIN..=MAX`; for `#[serde(deserialize_with = "within::<_, _, 1, 100>")]`.
///
/// # Errors
/// When the value is not a whole number or outside the range; the message names both ends.
pub fn within<'de, D, T, const MIN: u64, const MAX: u64>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let value = i128::from(i64::deserialize(from)?);
    let inside = u64::try_from(value).ok().filter(|n| (MIN..=MAX).contains(n));
    inside
        .and_then(|n| T::try_from(n).ok())
        .ok_or_else(|| D::Error::custom(format!("{value} is not within {MIN} to {MAX}")))
}

fn ratio<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(from)?;
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(D::Error::custom(format!("{value} is not within 0.0 to 1.0")))
}

fn none_if_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.filter(|t| !t.is_empty()))
}

#[cfg(test)]
mod tests;
