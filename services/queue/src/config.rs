//! Settings: `config.toml`, embedded, is both the default and the documentation.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_access::settings::{self as access, IssuerConfig};
use holdfast_runtime::{
    config::{self, ConfigError, ServerConfig, TelemetryConfig, within},
    tls::{self, TlsError},
};
use serde::Deserialize;

use crate::store::Persistence;

/// The documented defaults.
pub const DEFAULTS: &str = include_str!("../config.toml");
/// Environment variables that begin so are settings.
pub const ENV_PREFIX: &str = "HOLDFAST_QUEUE";

/// All settings of the service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens, and the limits of its connections.
    pub server: ServerConfig,
    /// Logs, traces and metrics.
    pub telemetry: TelemetryConfig,
    /// Where the lines are kept.
    pub store: StoreConfig,
    /// Where the helplines' policies are.
    pub policy: PolicyConfig,
    /// Content at rest.
    pub content: ContentConfig,
    /// Streams of attached replicas.
    pub attach: AttachConfig,
    /// Streams of events.
    pub events: EventsConfig,
    /// Timers of the lines.
    pub ticker: TickerConfig,
    /// Tickets that bring chats back.
    pub tickets: TicketsConfig,
    /// The audit of decisions.
    pub audit: AuditConfig,
    /// Calling up volunteers.
    pub paging: PagingConfig,
    /// Measurements of the lines.
    pub gauges: GaugesConfig,
    /// What must be said aloud.
    pub security: SecurityConfig,
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In this process.
    Memory,
    /// In Redis or Valkey.
    Redis,
}

/// How changes are kept, as the operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Declared {
    /// Not at all: then nothing is claimed.
    #[serde(rename = "")]
    Nothing,
    /// In memory only.
    #[serde(rename = "ephemeral")]
    Ephemeral,
    /// Written some time later.
    #[serde(rename = "async")]
    Async,
    /// On disk before the acknowledgement.
    #[serde(rename = "fsynced")]
    Fsynced,
}

impl Declared {
    /// The same as the store sees it.
    #[must_use]
    pub fn persistence(self) -> Option<Persistence> {
        match self {
            Self::Nothing => None,
            Self::Ephemeral => Some(Persistence::Ephemeral),
            Self::Async => Some(Persistence::Async),
            Self::Fsynced => Some(Persistence::Fsynced),
        }
    }
}

/// `[store]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Which store.
    pub kind: StoreKind,
    /// Addresses of Redis.
    pub redis_urls: Vec<String>,
    /// They are nodes of a cluster.
    pub cluster: bool,
    /// A file with the password; empty for none.
    pub redis_password_file: PathBuf,
    /// Addresses of Sentinels; empty for none.
    pub redis_sentinels: Vec<String>,
    /// What they call the primary.
    pub redis_primary_name: String,
    /// A file with the Sentinels' password; empty for none.
    pub redis_sentinel_password_file: PathBuf,
    /// A file with the authorities of Redis, its Sentinels and cluster nodes; empty for those of the system.
    pub redis_tls_ca_file: PathBuf,
    /// A file with the certificate that is shown to them; empty for none.
    pub redis_tls_cert_file: PathBuf,
    /// A file with its key.
    pub redis_tls_key_file: PathBuf,
    /// Replicas that must have a change before somebody is given a word. 0 to 2.
    #[serde(deserialize_with = "within::<_, _, 0, 2>")]
    pub replicas_required: u32,
    /// How long they may take. 10 ms to 10 s.
    #[serde(deserialize_with = "within::<_, _, 10, 10_000>")]
    pub wait_timeout_ms: u64,
    /// New chats are only taken where changes are kept at least so.
    pub floor_persistence: Persistence,
    /// New chats are only taken where so many replicas have a change in time. 0 to 2.
    #[serde(deserialize_with = "within::<_, _, 0, 2>")]
    pub floor_replicas: u32,
    /// How changes are kept, as the operator says, where the store lets nobody look.
    pub declared_persistence: Declared,
    /// Time for an answer. 1 ms to 1 min.
    #[serde(deserialize_with = "within::<_, _, 1, 60_000>")]
    pub response_timeout_ms: u64,
    /// Time for a connection. 1 ms to 1 min.
    #[serde(deserialize_with = "within::<_, _, 1, 60_000>")]
    pub connect_timeout_ms: u64,
}

/// `[tickets]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketsConfig {
    /// A file with the secret that tickets are sealed with; empty to make one up.
    pub key_file: PathBuf,
    /// A file with the secret that was used before; empty for none.
    pub old_key_file: PathBuf,
}

/// What a policy file does to a policy that is in force already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overwrite {
    /// Nothing.
    IfAbsent,
    /// It takes its place.
    Always,
}

/// `[policy]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// A folder with one TOML file for each helpline; empty for the example helpline.
    pub dir: PathBuf,
    /// What a file does to a policy that is in force already.
    pub overwrite: Overwrite,
}

/// `[content]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentConfig {
    /// A folder with the keys that content is sealed with; empty for none.
    pub key_dir: PathBuf,
    /// The folder is read again this often. 100 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 100, 600_000>")]
    pub reload_ms: u64,
}

/// `[attach]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachConfig {
    /// Commands of one stream that may be unanswered at once. 1 to 65,536.
    #[serde(deserialize_with = "within::<_, _, 1, 65_536>")]
    pub window: u32,
    /// Commands that are carried out at once, of all streams, requests for new chats aside. 1 to 65,536.
    #[serde(deserialize_with = "within::<_, _, 1, 65_536>")]
    pub turns: usize,
    /// Requests for new chats that are carried out at once, of all streams, and as many IMMINENT ones beside them. 1 to 65,536.
    #[serde(deserialize_with = "within::<_, _, 1, 65_536>")]
    pub request_turns: usize,
    /// Requests that may wait for that; LOW ones only while half of the places are free. 0 to 65,536.
    #[serde(deserialize_with = "within::<_, _, 0, 65_536>")]
    pub max_waiting_requests: usize,
    /// Streams at once. 1 to 10,000.
    #[serde(deserialize_with = "within::<_, _, 1, 10_000>")]
    pub max_streams: usize,
    /// Notices that wait for one slow reader. 1 to 1,000,000.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub notice_buffer: usize,
    /// A reader that takes nothing for so long is let go. 10 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 10, 600_000>")]
    pub reader_patience_ms: u64,
    /// The hello must come within this time. 1 ms to 1 min.
    #[serde(deserialize_with = "within::<_, _, 1, 60_000>")]
    pub hello_timeout_ms: u64,
    /// Deadline of a command that states none. 1 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 1, 600_000>")]
    pub command_timeout_ms: u64,
    /// The longest deadline that a command may state. 1 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 1, 600_000>")]
    pub max_command_timeout_ms: u64,
    /// While stopping, commands on their way are served for so long. Up to 1 min.
    #[serde(deserialize_with = "within::<_, _, 0, 60_000>")]
    pub drain_linger_ms: u64,
    /// While stopping, replicas are asked to reconnect within so long. Up to 10 min.
    #[serde(deserialize_with = "within::<_, _, 0, 600_000>")]
    pub reconnect_within_ms: u64,
}

/// `[events]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsConfig {
    /// Streams at once. 1 to 10,000.
    #[serde(deserialize_with = "within::<_, _, 1, 10_000>")]
    pub max_streams: usize,
    /// Events that are read at a time. 1 to 10,000.
    #[serde(deserialize_with = "within::<_, _, 1, 10_000>")]
    pub page: usize,
}

/// `[ticker]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TickerConfig {
    /// Helplines with an armed timer are looked at this often. 10 ms to 900 ms: a slower clock would lag.
    #[serde(deserialize_with = "within::<_, _, 10, 900>")]
    pub interval_ms: u64,
    /// Timers that one look handles. 1 to 100.
    #[serde(deserialize_with = "within::<_, _, 1, 100>")]
    pub batch: u32,
    /// Helplines that are looked at at once. 1 to 1,000.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000>")]
    pub concurrency: usize,
}

/// `[audit]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// A file with the secret that the audit is sealed with; empty to make one up.
    pub key_file: PathBuf,
    /// Events are read for it this often. 100 ms to 10 s.
    #[serde(deserialize_with = "within::<_, _, 100, 10_000>")]
    pub interval_ms: u64,
    /// Entries are kept so long. 1 to 3,660 days.
    #[serde(deserialize_with = "within::<_, _, 1, 3_660>")]
    pub keep_days: u64,
    /// So many entries of a helpline are kept at most. 1,000 to 10,000,000.
    #[serde(deserialize_with = "within::<_, _, 1_000, 10_000_000>")]
    pub max_entries: u64,
}

/// `[paging]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagingConfig {
    /// A file with the secret that webhooks are signed with; empty for none, and then nobody is called up.
    pub secret_file: PathBuf,
    /// A file with certificates to believe; empty for those of the system.
    pub ca_file: PathBuf,
}

/// `[gauges]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaugesConfig {
    /// How often the lines are measured. 100 ms to 5 min.
    #[serde(deserialize_with = "within::<_, _, 100, 300_000>")]
    pub interval_ms: u64,
}

/// `[security]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// Whoever reaches the port may do everything, and the operator knows.
    pub insecure_no_authentication: bool,
    /// The file with the keys of services and operators' tools; empty for none.
    pub api_keys_file: PathBuf,
    /// Seal content with a key that is made up and forgotten.
    pub insecure_random_content_key: bool,
    /// Keep content in the store as it comes.
    pub insecure_unsealed_content: bool,
    /// Seal tickets with a key that is made up and forgotten.
    pub insecure_random_ticket_key: bool,
    /// Seal the audit with a key that is made up and forgotten.
    pub insecure_random_audit_key: bool,
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
        let config: Self = config::load(DEFAULTS, file, ENV_PREFIX, overrides)?;
        config.check()?;
        Ok(config)
    }

    /// What no single setting can tell.
    fn check(&self) -> Result<(), ConfigError> {
        let store = &self.store;
        if store.kind == StoreKind::Redis && store.redis_urls.iter().all(String::is_empty) {
            return Err(wrong("store.redis_urls", "needs an address when store.kind is \"redis\""));
        }
        if store.kind == StoreKind::Redis && self.policy.dir.as_os_str().is_empty() {
            let message = "needs a folder when store.kind is \"redis\": the example is not for a lasting store";
            return Err(wrong("policy.dir", message));
        }
        if store.kind == StoreKind::Redis {
            store.check_replicas()?;
        }
        if self.attach.command_timeout_ms > self.attach.max_command_timeout_ms {
            return Err(wrong("attach.command_timeout_ms", "is longer than attach.max_command_timeout_ms"));
        }
        Ok(())
    }
}

fn wrong(key: &str, message: &str) -> ConfigError {
    ConfigError::Setting {
        origin: "settings together".to_owned(),
        key: key.to_owned(),
        message: message.to_owned(),
    }
}

impl StoreConfig {
    /// The files for `rediss://`, each with its setting: certificate and key, then the authorities.
    pub(crate) fn redis_tls(&self) -> Result<Vec<tls::File>, TlsError> {
        let (cert, key) = ("store.redis_tls_cert_file", "store.redis_tls_key_file");
        let mut files = tls::pair(cert, &self.redis_tls_cert_file, key, &self.redis_tls_key_file)?;
        if !self.redis_tls_ca_file.as_os_str().is_empty() {
            files.push(tls::File::new("store.redis_tls_ca_file", &self.redis_tls_ca_file));
        }
        Ok(files)
    }

    fn check_replicas(&self) -> Result<(), ConfigError> {
        if !self.redis_sentinels.is_empty() && self.cluster {
            return Err(wrong("store.redis_sentinels", "are for one primary; a cluster finds its own"));
        }
        if !self.redis_sentinels.is_empty() && self.redis_primary_name.is_empty() {
            return Err(wrong("store.redis_primary_name", "must say what the Sentinels call the primary"));
        }
        if self.floor_replicas > self.replicas_required {
            let message = "is more than store.replicas_required: no acknowledgement would wait for so many";
            return Err(wrong("store.floor_replicas", message));
        }
        Ok(())
    }
}

impl AttachConfig {
    /// The deadline for a command that states `asked`, from now.
    #[must_use]
    pub fn command_timeout(&self, asked: Option<Duration>) -> Duration {
        let longest = Duration::from_millis(self.max_command_timeout_ms);
        asked.map_or(Duration::from_millis(self.command_timeout_ms), |asked| asked.min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(key: &str, value: &str) -> String {
        Config::load(None, &[(key, value.to_owned())]).unwrap_err().to_string()
    }

    #[test]
    fn the_documented_defaults_are_a_whole_configuration() {
        let config = Config::load(None, &[]).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:50052");
        assert_eq!(config.server.admin_listen.to_string(), "127.0.0.1:9052");
        assert_eq!(config.store.kind, StoreKind::Memory);
        assert!(!config.security.insecure_no_authentication);
    }

    #[test]
    fn a_setting_out_of_its_range_is_named() {
        for (key, value) in [
            ("store.response_timeout_ms", "0"),
            ("attach.window", "0"),
            ("attach.max_streams", "10001"),
            ("attach.notice_buffer", "0"),
            ("ticker.interval_ms", "901"),
            ("ticker.batch", "101"),
            ("store.replicas_required", "3"),
            ("store.wait_timeout_ms", "9"),
            ("store.floor_persistence", "sometimes"),
            ("store.declared_persistence", "hopefully"),
            ("attach.command_timeout_ms", "60001"),
            ("store.kind", "sqlite"),
            ("policy.overwrite", "sometimes"),
            ("content.reload_ms", "99"),
            ("store.redis_url", "redis://x"),
        ] {
            assert!(refused(key, value).contains(key), "{}", refused(key, value));
        }
    }

    #[test]
    fn what_is_expected_of_replicas_must_make_sense() {
        let redis = [("store.kind", "redis"), ("policy.dir", "/etc")];
        for (key, more) in [
            ("store.floor_replicas", &[("store.floor_replicas", "1")][..]),
            (
                "store.redis_primary_name",
                &[("store.redis_sentinels", "redis://a:26379"), ("store.redis_primary_name", "")],
            ),
            ("store.redis_sentinels", &[("store.redis_sentinels", "redis://a:26379"), ("store.cluster", "true")]),
        ] {
            let all: Vec<_> = redis.iter().chain(more).map(|(key, value)| (*key, (*value).to_owned())).collect();
            let error = Config::load(None, &all).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn redis_needs_a_folder_of_policies() {
        assert!(refused("store.kind", "redis").contains("policy.dir"));
    }
}
