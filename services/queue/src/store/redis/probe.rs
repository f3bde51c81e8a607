//! What an acknowledgement is worth, and whether new chats may be taken: asked of each primary when it is found and every
//! two seconds, by its settings, its own words and a write of ours that is waited for; never assumed.

use super::dial::Dial;
use super::primary::{Live, Primary};
use crate::store::{Below, Persistence, Standing, StoreError};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(2);
/// A node that has not said everything by then cannot be relied on.
const WITHIN: Duration = Duration::from_secs(2);
/// What was true longer ago than this is claimed no more.
const VALID_FOR: Duration = Duration::from_secs(5);

/// What is expected of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// New chats are only taken when acknowledgements are worth at least this.
    pub(super) floor: crate::store::Durability,
    /// What the operator says where the store lets nobody look.
    pub(super) declared: Option<Persistence>,
    /// Replicas that must have a write before a word is given.
    pub(super) replicas_required: u32,
    /// How long they may take.
    pub(super) wait_timeout: Duration,
}

/// What one primary said last; clones are the same.
#[derive(Clone)]
pub(super) struct Level {
    known: Arc<Mutex<Option<Known>>>,
    canary: Arc<Mutex<String>>,
    expected: Expected,
    changed: Arc<Notify>,
}

/// What was found out, at the latest when it was asked.
#[derive(Debug, Clone)]
struct Known {
    number: u64,
    asked: Instant,
    report: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    persistence: Persistence,
    is_declared: bool,
    replicas: u32,
    trouble: Option<Below>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Level {
    /// `changed` is told of everything new.
    pub(super) fn new(expected: Expected, canary: String, changed: Arc<Notify>) -> Self {
        Self { known: Arc::default(), canary: Arc::new(Mutex::new(canary)), expected, changed }
    }

    /// The key that is written to see whether writing works; another one when slots have moved.
    pub(super) fn move_canary(&self, is_served: impl Fn(&str) -> bool) {
        let mut canary = lock(&self.canary);
        if !is_served(&canary) {
            *canary = crate::store::keys::canary(is_served);
        }
    }

    /// What may be claimed of a command on that connection.
    pub(super) fn claim(&self, number: u64) -> Persistence {
        let known = lock(&self.known);
        let fresh = known.as_ref().filter(|known| known.number == number && known.asked.elapsed() <= VALID_FOR);
        fresh.map_or(Persistence::Ephemeral, |known| known.report.persistence)
    }

    pub(super) fn standing(&self) -> Standing {
        let known = lock(&self.known);
        let Some(known) = known.as_ref().filter(|known| known.asked.elapsed() <= VALID_FOR) else {
            return Standing::default();
        };
        let Report { persistence, is_declared, replicas, trouble } = known.report;
        let floor = self.expected.floor;
        let too_low = (persistence < floor.persistence).then_some(Below::Persistence);
        let too_few = (replicas < floor.replicas_acked).then_some(Below::Replicas);
        Standing { persistence, is_declared, replicas, below: trouble.or(too_low).or(too_few) }
    }

    /// Asks a primary that was just found, before it is used.
    pub(super) async fn ask_first(&self, number: u64, dial: &Dial) {
        let mut asking = Asking { advised: true, ..self.asking(dial) };
        self.ask(number, &mut asking).await;
    }

    /// Asks the primary, whichever it is, again and again.
    pub(super) async fn keep_asking(self, primary: Primary, stop: CancellationToken) {
        let mut live = primary.changes();
        loop {
            let Some(now) = live.borrow_and_update().clone() else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = live.changed() => if changed.is_err() { return },
                }
                continue;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = live.changed() => if changed.is_err() { return },
                () = self.keep_asking_one(&primary, &now) => {}
            }
        }
    }

    async fn keep_asking_one(&self, primary: &Primary, live: &Live) {
        let mut asking = self.asking(&live.dial);
        loop {
            sleep(EVERY).await;
            if let Some(error) = self.ask(live.number, &mut asking).await {
                primary.note(live.number, &error);
            }
        }
    }

    fn asking(&self, dial: &Dial) -> Asking {
        let dial = dial.with_response_timeout(WITHIN + self.expected.wait_timeout);
        Asking { dial, connection: None, expected: self.expected, advised: false }
    }

    /// Asks once; the error that shows whether the node is still the primary.
    async fn ask(&self, number: u64, asking: &mut Asking) -> Option<RedisError> {
        let (asked, canary) = (Instant::now(), lock(&self.canary).clone());
        let answer = timeout(WITHIN + self.expected.wait_timeout, asking.ask(&canary)).await;
        let (report, error) = match answer {
            Ok(Ok(report)) => (report, None),
            Ok(Err(error)) => (Report::nothing(trouble_of(&error)), Some(error)),
            Err(_) => (Report::nothing(Below::Unknown), None),
        };
        if error.is_some() || report.trouble == Some(Below::Unknown) {
            asking.connection = None;
        }
        *lock(&self.known) = Some(Known { number, asked, report });
        self.changed.notify_one();
        error
    }
}

impl Report {
    fn nothing(trouble: Below) -> Self {
        Self { persistence: Persistence::Ephemeral, is_declared: false, replicas: 0, trouble: Some(trouble) }
    }
}

fn trouble_of(error: &RedisError) -> Below {
    match error.code() {
        Some("OOM" | "MISCONF" | "READONLY" | "NOREPLICAS" | "NOPERM") => Below::Refusing,
        _ => Below::Unknown,
    }
}

/// A connection of its own: the canary's WAIT blocks whatever follows it.
struct Asking {
    dial: Dial,
    connection: Option<MultiplexedConnection>,
    expected: Expected,
    /// What could be better was said.
    advised: bool,
}

impl Asking {
    /// Replicas are waited for, and a primary that has lost them takes writes all the same: those are lost with it.
    fn advise(&mut self, config: &BTreeMap<String, String>) {
        let takes_all = config.get("min-replicas-to-write").is_some_and(|least| least == "0");
        if takes_all && self.expected.replicas_required > 0 && !self.advised {
            self.advised = true;
            tracing::warn!(
                address = self.dial.address(),
                "min-replicas-to-write is 0 on the primary: set it to 1"
            );
        }
    }

    async fn ask(&mut self, canary: &str) -> Result<Report, RedisError> {
        if self.connection.is_none() {
            let connected = self.dial.connect_to_primary().await;
            let lost =
                |error: StoreError| RedisError::from((redis::ErrorKind::Io, "no connection", error.to_string()));
            self.connection = Some(connected.map_err(lost)?);
        }
        let expected = self.expected;
        let Some(connection) = self.connection.as_mut() else {
            return Ok(Report::nothing(Below::Unknown));
        };
        let info: String = redis::cmd("INFO").arg("persistence").arg("memory").query_async(connection).await?;
        let info = Info::new(&info);
        if info.is("loading", "1") {
            return Ok(Report::nothing(Below::Unknown));
        }
        let config = config(connection).await?;
        let replicas = sing(connection, canary, expected).await?;
        let measured = config.as_ref().map(persistence);
        if let Some(config) = &config {
            self.advise(config);
        }
        let trouble = if !info.is("maxmemory_policy", "noeviction") {
            Some(Below::Eviction)
        } else if info.is("aof_enabled", "1") && !info.is("aof_last_write_status", "ok") {
            Some(Below::Refusing)
        } else {
            None
        };
        let declared = expected.declared.unwrap_or(Persistence::Ephemeral);
        Ok(Report {
            persistence: measured.unwrap_or(declared),
            is_declared: measured.is_none(),
            replicas,
            trouble,
        })
    }
}

/// The lines of INFO.
struct Info<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    fn new(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once(':')).collect())
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_some_and(|found| found.trim_end() == value)
    }
}

/// The settings, or none where nobody may look at them, as in managed stores.
async fn config(connection: &mut MultiplexedConnection) -> Result<Option<BTreeMap<String, String>>, RedisError> {
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg("appendonly").arg("appendfsync").arg("no-appendfsync-on-rewrite").arg("save");
    ask.arg("min-replicas-to-write");
    match ask.query_async(connection).await {
        Ok(config) => Ok(Some(config)),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_forbidden(error: &RedisError) -> bool {
    error.code() == Some("NOPERM") || error.to_string().contains("unknown command")
}

fn persistence(config: &BTreeMap<String, String>) -> Persistence {
    let is = |name: &str, value: &str| config.get(name).is_some_and(|v| v == value);
    let (logs, saves) = (is("appendonly", "yes"), !is("save", ""));
    // Skipping the fsync while the log is rewritten is skipping it.
    if logs && is("appendfsync", "always") && is("no-appendfsync-on-rewrite", "no") {
        Persistence::Fsynced
    } else if logs || saves {
        Persistence::Async
    } else {
        Persistence::Ephemeral
    }
}

/// Writes, and waits until replicas have it; how many do.
async fn sing(
    connection: &mut MultiplexedConnection,
    canary: &str,
    expected: Expected,
) -> Result<u32, RedisError> {
    let wanted = expected.replicas_required.max(expected.floor.replicas_acked);
    let mut song = redis::pipe();
    song.cmd("SET").arg(canary).arg(1).arg("PX").arg(60_000).ignore();
    if wanted > 0 {
        let patience = u64::try_from(expected.wait_timeout.as_millis()).unwrap_or(u64::MAX);
        song.cmd("WAIT").arg(wanted).arg(patience);
    }
    let heard: Vec<u32> = song.query_async(connection).await.map_err(first_error)?;
    Ok(heard.into_iter().next().unwrap_or(0))
}

/// Of a pipeline the first error is the one that tells what is wrong.
fn first_error(error: RedisError) -> RedisError {
    let first = error.clone().into_server_errors().and_then(|errors| errors.first().cloned());
    first.map_or(error, |(_, first)| first.into())
}

/// How the store stands as a whole: as its weakest part does.
pub(super) fn weakest(parts: impl Iterator<Item = Standing>) -> Standing {
    parts
        .reduce(|a, b| Standing {
            persistence: a.persistence.min(b.persistence),
            is_declared: a.is_declared || b.is_declared,
            replicas: a.replicas.min(b.replicas),
            below: a.below.or(b.below),
        })
        .unwrap_or_default()
}

/// Makes sure that a script can read the node's replication id: without it a promoted node could mint fences that
/// another has minted.
pub(super) async fn scripts_can_read_the_replication_id(
    connection: &mut MultiplexedConnection,
    key: &str,
) -> Result<(), StoreError> {
    const SCRIPT: &str = "#!lua flags=no-writes\n\
        return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''";
    let mut ask = redis::cmd("EVAL");
    let found: Result<Value, RedisError> = ask.arg(SCRIPT).arg(1).arg(key).query_async(connection).await;
    let refused = |why: String| StoreError::Refusing(format!("scripts cannot read master_replid: {why}"));
    match found.map(redis::from_redis_value::<String>) {
        Ok(Ok(id)) if id.len() >= 8 => Ok(()),
        Ok(_) => Err(refused("it is not told".to_owned())),
        Err(error) if error.code() == Some("NOPERM") => Err(refused("NOPERM".to_owned())),
        Err(error) => {
            let error = super::store_error(error);
            Err(if let StoreError::Garbled(why) = error { refused(why) } else { error })
        }
    }
}

/// Tells what changes in how the store stands, until stopped.
pub(super) async fn keep_telling(
    standing: watch::Sender<Standing>,
    look: impl Fn() -> Standing,
    changed: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        let now = look();
        standing.send_if_modified(|before| {
            if *before == now {
                return false;
            }
            tell(before, &now);
            *before = now.clone();
            true
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {}
            // What is not heard again in time is not true any more.
            () = sleep(Duration::from_millis(500)) => {}
        }
    }
}

fn tell(before: &Standing, now: &Standing) {
    let level = now.persistence;
    if now.is_declared && !before.is_declared {
        tracing::warn!(
            ?level,
            "the store lets nobody look at its settings: what is claimed is declared, not verified"
        );
    }
    match now.below {
        Some(why) => tracing::warn!(why = why.word(), ?level, replicas = now.replicas, "no new chats are taken"),
        None => tracing::info!(?level, replicas = now.replicas, "what acknowledgements are worth"),
    }
}
