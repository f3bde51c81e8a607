//! The way to the store: one primary that is followed, or a cluster.

use super::cluster::{Cluster, Node, slot_of};
use super::commit::{Call, Lanes, Wanted};
use super::dial::Dial;
use super::primary::{self, Live, Primary, Way};
use super::probe::{self, Expected, Level};
use super::sentinel::Sentinels;
use super::subscription::Source;
use super::{Answer, CallError, RedisSettings, store_error};
use crate::store::{Durability, Persistence, Standing, StoreError, keys};
use holdfast_runtime::tls::Current;
use redis::aio::ConnectionLike;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{Cmd, ConnectionInfo, Pipeline, RedisFuture, TlsCertificates, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often a command is sent on to another node of a cluster.
const MAX_MOVES: usize = 3;

/// A cluster that lets nobody in with new certificates is asked again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// Where commands and reads go; clones are the same.
#[derive(Clone)]
pub(super) enum Connection {
    /// One primary, and whatever stands behind it.
    Single { primary: Primary, lanes: Arc<Lanes>, level: Level },
    /// A cluster: reads go by the client's routing, commands by ours.
    Cluster { reads: Reads, cluster: Cluster },
}

impl Connection {
    /// Begins to follow the store, waits for the first primary, and makes sure that it is fit for a line.
    pub(super) async fn open(
        settings: &RedisSettings,
        changed: Arc<Notify>,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        let dials = dials(&settings.urls, settings.password.as_deref(), settings)?;
        let (expected, wanted) = (expected(settings), wanted(settings));
        let opened = if settings.cluster {
            let reads = Reads::open(&dials, settings, stop.clone()).await?;
            let patience = settings.connect_timeout;
            let cluster = Cluster::follow(dials, expected, wanted, patience, changed, stop.clone());
            Self::Cluster { reads, cluster }
        } else {
            let first = dials.into_iter().next().ok_or_else(no_address)?;
            let level = Level::new(expected, keys::canary(|_| true), changed);
            let way = way(settings, first)?;
            let primary = Primary::follow(way, settings.connect_timeout, level.clone(), stop.clone());
            let lanes = Arc::new(Lanes::open(&primary, wanted));
            Self::Single { primary, lanes, level }
        };
        opened.prove(settings).await?;
        Ok(opened)
    }

    /// Scripts must be able to read what fences are made of.
    async fn prove(&self, settings: &RedisSettings) -> Result<(), StoreError> {
        let key = keys::canary(|_| true);
        let patience = settings.connect_timeout * 2;
        let mut live = match self {
            Self::Single { primary, .. } => primary.live_within(patience).await?,
            Self::Cluster { cluster, .. } => {
                let node = cluster.node_within(slot_of(&key), patience).await?;
                node.primary.live_within(patience).await?
            }
        };
        probe::scripts_can_read_the_replication_id(&mut live.connection, &key).await
    }

    /// Where notices are heard.
    pub(super) fn source(&self, settings: &RedisSettings) -> Result<Source, StoreError> {
        match self {
            Self::Single { primary, .. } => Ok(Source::Primary(primary.clone())),
            Self::Cluster { .. } => {
                Ok(Source::AnyOf(dials(&settings.urls, settings.password.as_deref(), settings)?))
            }
        }
    }

    /// Runs a script at the node that serves the key; where replicas are waited for, by a durable connection.
    pub(super) async fn call(
        &self,
        key: &str,
        call: Call,
        waits: bool,
    ) -> Result<(Answer, Persistence), StoreError> {
        match self {
            Self::Single { primary, lanes, level } => {
                let answer = call_at(primary, lanes, call, waits).await.map_err(StoreError::from)?;
                let worth = level.claim(answer.number);
                Ok((answer, worth))
            }
            Self::Cluster { cluster, .. } => call_in(cluster, slot_of(key), call, waits).await,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self {
            Self::Single { level, .. } => level.standing(),
            Self::Cluster { cluster, .. } => cluster.standing(),
        }
    }
}

async fn call_at(primary: &Primary, lanes: &Lanes, call: Call, waits: bool) -> Result<Answer, CallError> {
    if waits {
        return lanes.commit(call).await;
    }
    let live = primary.live().await?;
    shared(primary, live, call).await
}

/// By the connection that all share, where nothing may block.
async fn shared(primary: &Primary, mut live: Live, call: Call) -> Result<Answer, CallError> {
    let number = live.number;
    let mut answer = live.connection.send_packed_command(&call.cmd).await.and_then(Value::extract_error);
    if let (Err(error), Some(script)) = (&answer, &call.script)
        && error.code() == Some("NOSCRIPT")
    {
        let mut again = redis::pipe();
        again.cmd("SCRIPT").arg("LOAD").arg(script.code());
        again.add_command(call.cmd.clone());
        let answers = live.connection.send_packed_commands(&again, 1, 1).await;
        answer = answers.and_then(|answers| answers.into_iter().next_back().unwrap_or_default().extract_error());
    }
    let failed = |error| CallError::of(error, |error| primary::failed(primary, number, error));
    Ok(Answer { value: answer.map_err(failed)?, replicas: 0, number })
}

async fn call_in(
    cluster: &Cluster,
    slot: u16,
    call: Call,
    waits: bool,
) -> Result<(Answer, Persistence), StoreError> {
    for _ in 0..MAX_MOVES {
        let node = cluster.node(slot).await?;
        let Node { primary, lanes, level, .. } = &*node;
        match call_at(primary, lanes, call.clone(), waits).await {
            Ok(answer) => {
                let worth = level.claim(answer.number);
                return Ok((answer, worth));
            }
            Err(CallError::Moved) => cluster.learnt().await,
            Err(CallError::Store(error)) => {
                cluster.doubt();
                return Err(error);
            }
        }
    }
    Err(StoreError::Refusing("the slot is being moved".to_owned()))
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single { primary, .. } => primary.req_packed_command(cmd),
            Self::Cluster { reads, .. } => {
                let mut reads = reads.now();
                Box::pin(async move { reads.req_packed_command(cmd).await })
            }
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single { primary, .. } => primary.req_packed_commands(pipeline, offset, count),
            Self::Cluster { reads, .. } => {
                let mut reads = reads.now();
                Box::pin(async move { reads.req_packed_commands(pipeline, offset, count).await })
            }
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

fn no_address() -> StoreError {
    StoreError::Unreachable("no address".to_owned())
}

pub(super) fn dials(
    urls: &[String],
    password: Option<&str>,
    settings: &RedisSettings,
) -> Result<Vec<Dial>, StoreError> {
    urls.iter().map(|url| Dial::new(url, password, settings)).collect()
}

/// Sentinels, where there are any, say where the primary is; the first address then only says how it is spoken to.
pub(super) fn way(settings: &RedisSettings, first: Dial) -> Result<Way, StoreError> {
    if settings.sentinels.is_empty() {
        return Ok(Way::Fixed(first));
    }
    let members = dials(&settings.sentinels, settings.sentinel_password.as_deref(), settings)?;
    Ok(Way::Sentinels(Sentinels::new(members, settings.primary_name.clone(), first)))
}

fn expected(settings: &RedisSettings) -> Expected {
    let floor = Durability { persistence: settings.floor_persistence, replicas_acked: settings.floor_replicas };
    Expected {
        floor,
        declared: settings.declared_persistence,
        replicas_required: settings.replicas_required,
        wait_timeout: settings.wait_timeout,
    }
}

fn wanted(settings: &RedisSettings) -> Wanted {
    Wanted {
        replicas: settings.replicas_required,
        within: settings.wait_timeout,
        response_timeout: settings.response_timeout,
    }
}

/// The client that serves a cluster's reads. It keeps the certificates that it was made with, so it is made anew when they
/// change; what is being read then is read to its end. Clones are the same.
#[derive(Clone)]
pub(super) struct Reads(watch::Receiver<ClusterConnection>);

impl Reads {
    async fn open(dials: &[Dial], settings: &RedisSettings, stop: CancellationToken) -> Result<Self, StoreError> {
        let infos: Vec<_> = dials.iter().map(|dial| dial.info().clone()).collect();
        let (current, reads) = watch::channel(connect_reads(infos.clone(), settings).await?);
        if let Some(tls) = settings.tls.clone() {
            let settings = settings.clone();
            let renewing = async move { renew(&current, tls, infos, &settings).await };
            tokio::spawn(async move { stop.run_until_cancelled(renewing).await });
        }
        Ok(Self(reads))
    }

    fn now(&self) -> ClusterConnection {
        self.0.borrow().clone()
    }
}

async fn renew(
    current: &watch::Sender<ClusterConnection>,
    mut tls: Current<TlsCertificates>,
    infos: Vec<ConnectionInfo>,
    settings: &RedisSettings,
) {
    loop {
        tls.changed().await;
        let renewed = loop {
            match connect_reads(infos.clone(), settings).await {
                Ok(renewed) => break renewed,
                Err(error) => tracing::warn!(%error, "no reads yet with the new certificates; trying again"),
            }
            sleep(RENEW_AGAIN).await;
        };
        current.send_replace(renewed);
    }
}

async fn connect_reads(
    infos: Vec<ConnectionInfo>,
    settings: &RedisSettings,
) -> Result<ClusterConnection, StoreError> {
    let mut builder = redis::cluster::ClusterClientBuilder::new(infos)
        .connection_timeout(settings.connect_timeout)
        .response_timeout(settings.response_timeout)
        .tcp_settings(TcpSettings::default().set_nodelay(true))
        // Reads may be repeated: nothing else goes this way.
        .retries(2);
    if let Some(tls) = &settings.tls {
        builder = builder.certs(tls.now().as_ref().clone());
    }
    let client = builder.build().map_err(store_error)?;
    client.get_async_connection().await.map_err(store_error)
}
