//! A connection that follows the primary: found, verified by its ROLE, used until it fails or another node is named.
//!
//! The client's own connection manager stays with an address for ever, also when the node there was demoted and refuses
//! every write. Here whoever meets an error says so, and one task looks for the primary again.

use super::dial::Dial;
use super::probe::Level;
use super::sentinel::Sentinels;
use super::store_error;
use crate::store::StoreError;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// While there is no primary, so often one is looked for; and no more often when something is odd.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// While there is one, Sentinels are asked so often whether it still is.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A command waits for a primary no longer than this: whoever asks has other places to turn to.
const PATIENCE: Duration = Duration::from_millis(250);

/// How the primary is found.
pub(super) enum Way {
    /// It is always at the same address.
    Fixed(Dial),
    /// Sentinels say where it is.
    Sentinels(Sentinels),
}

/// The primary as it is now; clones are the same.
#[derive(Clone)]
pub(super) struct Primary {
    shared: Arc<Shared>,
}

struct Shared {
    live: watch::Sender<Option<Live>>,
    doubt: Notify,
    patience: Duration,
}

/// A primary that was found.
#[derive(Clone)]
pub(super) struct Live {
    /// Different for each time that one was found.
    pub(super) number: u64,
    pub(super) dial: Dial,
    pub(super) connection: MultiplexedConnection,
}

impl Primary {
    /// Begins to look for the primary, until stopped; `level` is what each one is worth.
    pub(super) fn follow(way: Way, connect_timeout: Duration, level: Level, stop: CancellationToken) -> Self {
        let patience = PATIENCE.min(connect_timeout);
        let shared = Arc::new(Shared { live: watch::channel(None).0, doubt: Notify::new(), patience });
        let primary = Self { shared };
        tokio::spawn(level.clone().keep_asking(primary.clone(), stop.clone()));
        let keeper = Keeper { primary: primary.clone(), way, level, found: 0, known_to_fail: None };
        tokio::spawn(keeper.keep(stop));
        primary
    }

    /// The primary, waiting a moment where there is none.
    pub(super) async fn live(&self) -> Result<Live, StoreError> {
        self.live_within(self.shared.patience).await
    }

    pub(super) async fn live_within(&self, patience: Duration) -> Result<Live, StoreError> {
        let mut live = self.shared.live.subscribe();
        let found = timeout(patience, live.wait_for(Option::is_some)).await;
        let found = found.ok().and_then(Result::ok).and_then(|live| live.clone());
        found.ok_or_else(|| StoreError::Unreachable("no primary is known".to_owned()))
    }

    /// The primary as it comes and goes.
    pub(super) fn changes(&self) -> watch::Receiver<Option<Live>> {
        self.shared.live.subscribe()
    }

    pub(super) fn is_current(&self, number: u64) -> bool {
        self.shared.live.borrow().as_ref().is_some_and(|live| live.number == number)
    }

    /// What became of a command on that connection: where it shows that the node is gone or the primary no more,
    /// another is looked for.
    pub(super) fn note(&self, number: u64, error: &RedisError) {
        if is_over(error) {
            self.gave_up(number);
        } else if error.code() == Some("NOREPLICAS") {
            self.doubt();
        }
    }

    /// That connection is of no more use.
    pub(super) fn gave_up(&self, number: u64) {
        self.shared.live.send_if_modified(|live| {
            let is_it = live.as_ref().is_some_and(|live| live.number == number);
            if is_it {
                *live = None;
            }
            is_it
        });
        self.doubt();
    }

    /// Something is odd: whether the primary is still the same is asked at once.
    pub(super) fn doubt(&self) {
        self.shared.doubt.notify_one();
    }
}

/// Whether a connection on which this happened is not one to the primary any more.
fn is_over(error: &RedisError) -> bool {
    let lost = error.is_io_error() || error.is_timeout() || error.is_connection_dropped();
    lost || error.is_unrecoverable_error()
        || matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "UNBLOCKED" | "NOAUTH"))
}

impl ConnectionLike for Primary {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let mut live = self.live().await.map_err(no_primary)?;
            let answer = live.connection.req_packed_command(cmd).await.and_then(Value::extract_error);
            answer.inspect_err(|error| self.note(live.number, error))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let mut live = self.live().await.map_err(no_primary)?;
            let answers = live.connection.req_packed_commands(pipeline, offset, count).await;
            answers.inspect_err(|error| self.note(live.number, error))
        })
    }

    fn get_db(&self) -> i64 {
        0
    }
}

fn no_primary(error: StoreError) -> RedisError {
    RedisError::from((ErrorKind::Io, "no primary", error.to_string()))
}

/// Finds the primary, again and again.
struct Keeper {
    primary: Primary,
    way: Way,
    level: Level,
    found: u64,
    known_to_fail: Option<String>,
}

impl Keeper {
    async fn keep(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_AGAIN) => {}
            }
            if self.primary.shared.live.borrow().is_none() {
                continue;
            }
            let pause = match self.way {
                Way::Sentinels(_) => ASK_AGAIN,
                // Nobody but an error could tell anything new.
                Way::Fixed(_) => Duration::MAX,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.primary.shared.doubt.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    async fn look(&mut self) {
        let candidates = match &mut self.way {
            Way::Fixed(dial) => vec![dial.clone()],
            Way::Sentinels(sentinels) => sentinels.candidates().await,
        };
        if candidates.is_empty() {
            self.failed("no Sentinel names a primary");
        }
        for candidate in candidates {
            let address = candidate.address();
            let is_it = |live: &Live| live.dial.address() == address;
            if self.primary.shared.live.borrow().as_ref().is_some_and(is_it) {
                return;
            }
            match candidate.connect_to_primary().await {
                Ok(connection) => return self.publish(candidate, connection).await,
                Err(error) => self.failed(&error.to_string()),
            }
        }
    }

    async fn publish(&mut self, dial: Dial, connection: MultiplexedConnection) {
        self.found += 1;
        self.known_to_fail = None;
        tracing::info!(address = dial.address(), "this is the primary");
        self.level.ask_first(self.found, &dial).await;
        self.primary.shared.live.send_replace(Some(Live { number: self.found, dial, connection }));
    }

    /// Said once, and again when it is something else.
    fn failed(&mut self, why: &str) {
        if self.known_to_fail.as_deref() != Some(why) {
            tracing::warn!(why, "no primary is found; looking again");
            self.known_to_fail = Some(why.to_owned());
        }
    }
}

/// What an error on that connection means, and what it means for the connection.
pub(super) fn failed(primary: &Primary, number: u64, error: RedisError) -> StoreError {
    primary.note(number, &error);
    store_error(error)
}
