//! Which replicas there are, and a task for each.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use holdfast_runtime::{BoxError, client, config::ClientConfig};
use tokio::{
    net::lookup_host,
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Uri;
use tracing::{info, warn};

use crate::{Discovery, LinkSettings, Role, SettingsError, credential::Credential, hub::Hub, peer::Peer};

/// After a failure names are looked up again, but not sooner than this.
const NOT_SOONER_THAN: Duration = Duration::from_millis(500);

/// Keeps the replicas that there are attached.
pub(crate) struct Supervisor {
    addresses: Vec<String>,
    names: Vec<Name>,
    resolve_every: Duration,
    reconnect_within: Duration,
    client: ClientConfig,
    credential: Credential,
    role: Role,
    replica: String,
    hub: Arc<Hub>,
    closed: CancellationToken,
    lost: Arc<Notify>,
}

/// What is looked up.
struct Name {
    scheme: String,
    host: String,
    port: u16,
}

/// Addresses of replicas, and with `https://` for which name their certificates must be, where that is not the address.
type Found = BTreeMap<String, Option<String>>;

/// A replica's task, and the token that ends it.
type Kept = BTreeMap<String, (Arc<Peer>, CancellationToken)>;

impl Supervisor {
    pub(crate) fn new(
        settings: &LinkSettings,
        client: &ClientConfig,
        role: Role,
        replica: &str,
        hub: Arc<Hub>,
        closed: CancellationToken,
    ) -> Result<Self, SettingsError> {
        if settings.addresses.is_empty() {
            return Err(SettingsError::NoAddress);
        }
        for address in &settings.addresses {
            client::channel(address, client)?;
        }
        let names = match settings.discovery {
            Discovery::Static => Vec::new(),
            Discovery::Dns => settings.addresses.iter().map(|a| name(a)).collect::<Result<_, _>>()?,
        };
        Ok(Self {
            addresses: settings.addresses.clone(),
            names,
            resolve_every: Duration::from_millis(settings.resolve_every_ms),
            reconnect_within: Duration::from_millis(settings.reconnect_within_ms),
            client: client.clone(),
            credential: Credential::open(&settings.key_file)?,
            role,
            replica: replica.to_owned(),
            hub,
            closed,
            lost: Arc::new(Notify::new()),
        })
    }

    pub(crate) async fn run(self) -> Result<(), BoxError> {
        let mut tasks = JoinSet::new();
        let mut kept = Kept::new();
        if self.names.is_empty() {
            let all = self.addresses.iter().map(|address| (address.clone(), None)).collect();
            self.keep(&all, &mut kept, &mut tasks)?;
        }
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                () = self.closed.cancelled() => return Ok(()),
                () = sleep_until(look_at), if !self.names.is_empty() => {
                    if let Some(found) = self.look_up().await {
                        self.keep(&found, &mut kept, &mut tasks)?;
                    }
                    look_at = Instant::now() + self.resolve_every;
                }
                () = self.lost.notified(), if !self.names.is_empty() => {
                    look_at = look_at.min(Instant::now() + NOT_SOONER_THAN);
                }
                Some(ended) = tasks.join_next() => ended?,
            }
        }
    }

    /// What the names stand for now; `None` when that cannot be told, and then everything stays as it is.
    async fn look_up(&self) -> Option<Found> {
        let mut found = Found::new();
        for Name { scheme, host, port } in &self.names {
            let named = |address| (format!("{scheme}://{address}"), Some(host.clone()));
            match lookup_host((host.as_str(), *port)).await {
                Ok(addresses) => found.extend(addresses.map(named)),
                Err(error) => warn!(%host, %error, "a name of the queue cannot be looked up"),
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Begins with those that are new. One that is no longer listed keeps its stream: it says itself when it goes.
    fn keep(&self, found: &Found, kept: &mut Kept, tasks: &mut JoinSet<()>) -> Result<(), BoxError> {
        kept.retain(|address, (peer, end)| {
            let stays = found.contains_key(address) || peer.is_usable();
            if !stays {
                info!(%address, "a queue replica is gone");
                end.cancel();
                self.hub.remove(address);
            }
            stays
        });
        for (address, name) in found {
            if !kept.contains_key(address) {
                let channel = || client::channel_to(address, name.as_deref(), &self.client);
                let peer = Arc::new(Peer::new(address.clone(), channel()?, channel()?, self.credential.clone()));
                let end = self.closed.child_token();
                self.hub.add(Arc::clone(&peer));
                tasks.spawn(self.stay_attached(Arc::clone(&peer), end.clone()));
                kept.insert(address.clone(), (peer, end));
            }
        }
        Ok(())
    }

    fn stay_attached(&self, peer: Arc<Peer>, end: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let (role, replica, within) = (self.role, self.replica.clone(), self.reconnect_within);
        let (hub, lost) = (Arc::clone(&self.hub), Arc::clone(&self.lost));
        async move {
            let lost = || lost.notify_one();
            end.run_until_cancelled(peer.stay_attached(role, &replica, within, &hub, &lost)).await;
        }
    }
}

fn name(address: &str) -> Result<Name, SettingsError> {
    let refuse = || SettingsError::NotAName(address.to_owned());
    let uri: Uri = address.parse().map_err(|_| refuse())?;
    let scheme =
        uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or_else(refuse)?.to_owned();
    let host = uri.host().ok_or_else(refuse)?.to_owned();
    Ok(Name { scheme, host, port: uri.port_u16().ok_or_else(refuse)? })
}
