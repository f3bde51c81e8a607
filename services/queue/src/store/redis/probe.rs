//! What an acknowledgement is worth: asked of the store at start and every few seconds, never assumed.

use super::{Connection, store_error};
use crate::store::{Persistence, StoreError};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);

pub(super) fn read(stored: &AtomicU8) -> Persistence {
    match stored.load(Ordering::Relaxed) {
        2 => Persistence::Fsynced,
        1 => Persistence::Async,
        _ => Persistence::Ephemeral,
    }
}

fn write(stored: &AtomicU8, persistence: Persistence) {
    let level = match persistence {
        Persistence::Ephemeral => 0,
        Persistence::Async => 1,
        Persistence::Fsynced => 2,
    };
    stored.store(level, Ordering::Relaxed);
}

/// Asks once.
pub(super) async fn once(connection: &mut Connection, stored: &AtomicU8) -> Result<(), StoreError> {
    write(stored, ask(connection).await?);
    Ok(())
}

/// Asks every few seconds; while the store cannot say, nothing more than EPHEMERAL is claimed.
pub(super) async fn keep(mut connection: Connection, stored: std::sync::Arc<AtomicU8>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let before = read(&stored);
        let now = ask(&mut connection).await.unwrap_or(Persistence::Ephemeral);
        if now != before {
            tracing::warn!(?before, ?now, "what acknowledgements are worth has changed");
        }
        write(&stored, now);
    }
}

async fn ask(connection: &mut Connection) -> Result<Persistence, StoreError> {
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("GET").arg("appendonly").arg("appendfsync").arg("save");
    let answer: Result<BTreeMap<String, String>, _> = match connection {
        Connection::Single(c) => cmd.query_async(c).await,
        // Any node will do: a cluster's nodes are configured alike, and a per-node probe comes with its replicas.
        Connection::Cluster(c) => {
            let route = redis::cluster_routing::RoutingInfo::SingleNode(
                redis::cluster_routing::SingleNodeRoutingInfo::RandomPrimary,
            );
            c.route_command(cmd, route).await.and_then(|v| redis::from_redis_value(v).map_err(Into::into))
        }
    };
    let config = match answer {
        Ok(config) => config,
        // Managed stores forbid CONFIG: then nothing is known, and only the least is claimed.
        Err(e) if e.code() == Some("NOPERM") || e.detail().is_some_and(|d| d.contains("unknown command")) => {
            return Ok(Persistence::Async);
        }
        Err(e) => return Err(store_error(e)),
    };
    let is = |name: &str, value: &str| config.get(name).is_some_and(|v| v == value);
    Ok(match (is("appendonly", "yes"), is("appendfsync", "always"), is("save", "")) {
        (true, true, _) => Persistence::Fsynced,
        (true, false, _) | (false, _, false) => Persistence::Async,
        (false, _, true) => Persistence::Ephemeral,
    })
}
