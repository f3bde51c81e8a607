//! `[queue]` of a configuration: where the queue is and how long we are patient with it.

use std::path::PathBuf;

use holdfast_runtime::config::within;
use serde::Deserialize;

/// How the queue's replicas are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discovery {
    /// Each address is one replica.
    Static,
    /// Each address is a name that resolves to all replicas, such as a headless Service of Kubernetes.
    Dns,
}

/// `[queue]`: the way to the queue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSettings {
    /// `"static"` or `"dns"`.
    pub discovery: Discovery,
    /// Addresses such as `"https://queue:50052"`, at least one.
    pub addresses: Vec<String>,
    /// The file with the key that the queue knows this service by; empty for none.
    pub key_file: PathBuf,
    /// With `"dns"`: names are looked up this often, and after a failure. 100 ms to 10 min.
    #[serde(deserialize_with = "within::<_, _, 100, 600_000>")]
    pub resolve_every_ms: u64,
    /// A broken stream is dialled again after a random time, at most this in the end. 10 ms to 1 min.
    #[serde(deserialize_with = "within::<_, _, 10, 60_000>")]
    pub reconnect_within_ms: u64,
    /// Commands wait this long for a replica when the last one has just gone. Up to 1 min.
    #[serde(deserialize_with = "within::<_, _, 0, 60_000>")]
    pub attach_patience_ms: u64,
    /// A command or read is given up after this. 10 ms to 1 min.
    #[serde(deserialize_with = "within::<_, _, 10, 60_000>")]
    pub command_timeout_ms: u64,
    /// Commands that may wait while every replica has as many unanswered as it allows. 1 to 1,000,000.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub max_waiting_commands: usize,
}

impl LinkSettings {
    /// Patience for one command or read.
    #[must_use]
    pub fn command_timeout(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.command_timeout_ms)
    }
}

/// What this process is called in the queue's log: the configured name, else the host's, as far as it may hold.
#[must_use]
pub fn replica_name(configured: &str) -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    let name = if configured.is_empty() { host } else { configured.to_owned() };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = name.chars().filter(|c| allowed(*c)).take(64).collect();
    if name.is_empty() { format!("process-{}", std::process::id()) } else { name }
}
