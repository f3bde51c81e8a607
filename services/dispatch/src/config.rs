//! Settings: `config.toml`, embedded, is both the default and the documentation.

use std::path::Path;

use holdfast_access::settings::{self as access, IssuerConfig};
use holdfast_link::LinkSettings;
use holdfast_runtime::config::{self, ClientConfig, ConfigError, ServerConfig, TelemetryConfig, within};
use serde::Deserialize;

/// The documented defaults.
pub const DEFAULTS: &str = include_str!("../config.toml");
/// Environment variables that begin so are settings.
pub const ENV_PREFIX: &str = "HOLDFAST_DISPATCH";

/// All settings of the service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens, and the limits of its connections.
    pub server: ServerConfig,
    /// Logs, traces and metrics.
    pub telemetry: TelemetryConfig,
    /// Connections to the queue.
    pub client: ClientConfig,
    /// Where the queue is.
    pub queue: LinkSettings,
    /// How sessions are kept.
    pub sessions: SessionsConfig,
    /// What supervisors get.
    pub supervision: SupervisionConfig,
    /// How much at once.
    pub limits: LimitsConfig,
    /// What must be said aloud.
    pub security: SecurityConfig,
}

/// `[sessions]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionsConfig {
    /// The first message must come within this. 10 ms to 1 min.
    #[serde(deserialize_with = "within::<_, _, 10, 60_000>")]
    pub sign_in_within_ms: u64,
    /// Messages that wait for a slow reader. 2 to 10,000.
    #[serde(deserialize_with = "within::<_, _, 2, 10_000>")]
    pub outgoing: usize,
    /// Whoever takes nothing of what waits for so long is let go. 100 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 100, 600_000>")]
    pub reader_patience_ms: u64,
    /// Actions of one session at once. 1 to 1,000.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000>")]
    pub max_actions: usize,
    /// The line is told of a broken stream within this. 10 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 10, 600_000>")]
    pub unlink_within_ms: u64,
    /// In the drain, streams reconnect within so long. Up to 1 min.
    #[serde(deserialize_with = "within::<_, _, 0, 60_000>")]
    pub reconnect_within_ms: u64,
    /// A policy's numbers are asked for again after this. 100 ms to 1 h.
    #[serde(deserialize_with = "within::<_, _, 100, 3_600_000>")]
    pub policy_every_ms: u64,
}

/// `[supervision]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupervisionConfig {
    /// Boards that are watched at once. 1 to 100,000.
    #[serde(deserialize_with = "within::<_, _, 1, 100_000>")]
    pub max_streams: usize,
    /// A floor that is watched is read this often at least. 500 ms to 5 s.
    #[serde(deserialize_with = "within::<_, _, 500, 5_000>")]
    pub look_every_ms: u64,
    /// Whoever takes nothing for so long is let go. 100 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 100, 600_000>")]
    pub reader_patience_ms: u64,
}

/// `[limits]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Sessions at once. 1 to 1,000,000.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub max_sessions: usize,
}

/// `[security]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// Whoever reaches the port may sign in as anybody and act as any supervisor, and the operator knows.
    pub insecure_no_authentication: bool,
    /// Plaintext is spoken where no certificate or no `https://` is set, and the operator knows.
    pub insecure_no_tls: bool,
    /// Whose tokens are believed.
    pub issuer: IssuerConfig,
}

impl SecurityConfig {
    /// How callers prove who they are.
    #[must_use]
    pub fn access(&self) -> access::Means<'_> {
        access::Means {
            insecure_no_authentication: self.insecure_no_authentication,
            issuer: &self.issuer,
            api_keys_file: None,
        }
    }
}

impl Config {
    /// The defaults, then `file`, then the environment, then `overrides` (dotted key and value).
    ///
    /// # Errors
    /// One line that names the key and where it was set.
    pub fn load(file: Option<&Path>, overrides: &[(&str, String)]) -> Result<Self, ConfigError> {
        config::load(DEFAULTS, file, ENV_PREFIX, overrides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_a_whole_configuration() {
        let config = Config::load(None, &[]).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:50053");
        assert_eq!(config.server.admin_listen.to_string(), "127.0.0.1:9053");
        assert!(!config.security.insecure_no_authentication);
    }

    #[test]
    fn a_setting_out_of_its_range_is_named() {
        for (key, value) in [
            ("queue.discovery", "guess"),
            ("sessions.outgoing", "1"),
            ("sessions.reader_patience_ms", "99"),
            ("supervision.look_every_ms", "499"),
            ("supervision.max_streams", "0"),
            ("limits.max_sessions", "0"),
            ("limits.max_wishes", "1"),
        ] {
            let error = Config::load(None, &[(key, value.to_owned())]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
