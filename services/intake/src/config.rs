//! Settings: `config.toml`, embedded, is both the default and the documentation.

use std::path::{Path, PathBuf};

use holdfast_access::settings::{self as access, IssuerConfig};
use holdfast_link::LinkSettings;
use holdfast_runtime::config::{self, ClientConfig, ConfigError, ServerConfig, TelemetryConfig, within};
use serde::Deserialize;

/// The documented defaults.
pub const DEFAULTS: &str = include_str!("../config.toml");
/// Environment variables that begin so are settings.
pub const ENV_PREFIX: &str = "HOLDFAST_INTAKE";

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
    /// Policies at hand.
    pub policy: PolicyConfig,
    /// What visitors are told, and when.
    pub visitors: VisitorsConfig,
    /// A second opinion on urgency.
    pub classifier: ClassifierConfig,
    /// How much at once.
    pub limits: LimitsConfig,
    /// How often one source may ask.
    pub floods: FloodsConfig,
    /// What must be said aloud, and the key.
    pub security: SecurityConfig,
}

/// `[policy]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// A folder with one TOML file for each helpline; empty for none.
    pub dir: PathBuf,
    /// Policies are asked for again this often. 100 ms to 1 h.
    #[serde(deserialize_with = "within::<_, _, 100, 3_600_000>")]
    pub refresh_every_ms: u64,
}

/// `[visitors]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisitorsConfig {
    /// Pause between two signs of presence; 0 follows the policy. Up to 10 min.
    #[serde(deserialize_with = "within::<_, _, 0, 600_000>")]
    pub beat_every_ms: u64,
    /// Pause between two looks at the place. 10 ms to 2 s: a new place is known within two seconds.
    #[serde(deserialize_with = "within::<_, _, 10, 2_000>")]
    pub place_every_ms: u64,
    /// Whoever takes nothing of what waits for so long is let go. 100 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 100, 600_000>")]
    pub reader_patience_ms: u64,
    /// In the drain, streams reconnect within so long. Up to 1 min.
    #[serde(deserialize_with = "within::<_, _, 0, 60_000>")]
    pub reconnect_within_ms: u64,
    /// Return tokens lead back to the same responder for so long; 0 gives none. Up to 366.
    #[serde(deserialize_with = "within::<_, _, 0, 366>")]
    pub return_token_days: u64,
}

/// `[classifier]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Its address; empty for none.
    pub url: String,
    /// It has so long to answer. 1 to 200 ms, as the contract says.
    #[serde(deserialize_with = "within::<_, _, 1, 200>")]
    pub timeout_ms: u64,
    /// Questions to it at once. 1 to 1024.
    #[serde(deserialize_with = "within::<_, _, 1, 1024>")]
    pub max_concurrent: usize,
    /// After so many failures in a row it is left alone. 1 to 1000.
    #[serde(deserialize_with = "within::<_, _, 1, 1000>")]
    pub breaker_failures: u32,
    /// For so long, then one question is tried. 10 ms to 1 h.
    #[serde(deserialize_with = "within::<_, _, 10, 3_600_000>")]
    pub breaker_open_ms: u64,
}

/// `[limits]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// `WatchChat` streams at once. 1 to 1,000,000.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub max_watches: usize,
    /// Reads of chats at once. 1 to 100,000.
    #[serde(deserialize_with = "within::<_, _, 1, 100_000>")]
    pub max_reads: usize,
}

/// `[floods]`. A limit that is 0 is none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloodsConfig {
    /// Requests of one source, again after a pause. Up to 100,000.
    #[serde(deserialize_with = "within::<_, _, 0, 100_000>")]
    pub requests_at_once: u32,
    /// And in the mean, in an hour. Up to 1,000,000.
    #[serde(deserialize_with = "within::<_, _, 0, 1_000_000>")]
    pub requests_per_hour: u32,
    /// Of these, IMMINENT ones. Up to 100,000.
    #[serde(deserialize_with = "within::<_, _, 0, 100_000>")]
    pub imminent_at_once: u32,
    /// And in the mean, in an hour. Up to 1,000,000.
    #[serde(deserialize_with = "within::<_, _, 0, 1_000_000>")]
    pub imminent_per_hour: u32,
    /// A header in which whoever is before this service says where a call comes from; empty for none.
    pub source_header: String,
}

/// `[security]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// Whoever reaches the port may use it, and the operator knows.
    pub insecure_no_authentication: bool,
    /// The file with integrators' keys; empty for none.
    pub api_keys_file: PathBuf,
    /// The file with the key that visitors' tokens are made with; empty for none.
    pub visitor_token_key_file: PathBuf,
    /// Make a key up and forget it.
    pub insecure_random_token_key: bool,
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
            api_keys_file: Some(&self.api_keys_file),
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
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:50051");
        assert_eq!(config.server.admin_listen.to_string(), "127.0.0.1:9051");
        assert!(config.classifier.url.is_empty());
        assert!(!config.security.insecure_no_authentication && !config.security.insecure_random_token_key);
    }

    #[test]
    fn a_setting_out_of_its_range_is_named() {
        for (key, value) in [
            ("queue.discovery", "guess"),
            ("visitors.place_every_ms", "2001"),
            ("visitors.reader_patience_ms", "99"),
            ("limits.max_watches", "0"),
            ("limits.max_wishes", "1"),
            ("visitors.return_token_days", "367"),
            ("classifier.timeout_ms", "201"),
            ("classifier.max_concurrent", "0"),
            ("classifier.breaker_failures", "0"),
        ] {
            let error = Config::load(None, &[(key, value.to_owned())]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
