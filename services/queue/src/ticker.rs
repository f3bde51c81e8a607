//! Moves every line on when time alone does: deadlines, steps, wrap-ups.
//!
//! One task for each helpline sleeps until the next timer is due, at most [`LONGEST_SLEEP`], and wakes when
//! something happened there, for that may have armed an earlier one. The store lets one replica tick a helpline; the
//! others look now and then whether it still does. A helpline that gets its first policy meanwhile is ticked from then
//! on.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use holdfast_domain::{Command, HelplineId, Refusal, Reply, ids::DigestHex};
use holdfast_runtime::client::Backoff;
use tokio::{
    sync::{Notify, Semaphore, broadcast},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::TickerConfig,
    desk::Desk,
    overflow::Errands,
    pager::Calls,
    store::{Notice, StoreError},
};

/// An idle line is looked at this often. Less than a second, because a tick moves the service clock on by at most a
/// second: a longer sleep would make it lag.
const LONGEST_SLEEP: Duration = Duration::from_millis(900);
/// Full batches that follow each other without a pause.
const MOST_AT_ONCE: u32 = 100;
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the tasks of all helplines share.
pub(crate) struct Ticker {
    desk: Arc<Desk>,
    config: TickerConfig,
    /// Who ticks.
    by: DigestHex,
    /// Turns to tick.
    turns: Semaphore,
    /// What wakes the task of each helpline that is ticked.
    wakers: RwLock<Wakers>,
    outside: Outside,
    done: CancellationToken,
}

/// Where a tick leaves what somebody outside of the line must hear. Only the replica whose tick it was does so; what is
/// lost with it, the lines ask for again.
pub(crate) struct Outside {
    /// For partners' lines.
    pub(crate) errands: Errands,
    /// For volunteers.
    pub(crate) calls: Calls,
}

type Wakers = BTreeMap<HelplineId, Arc<Notify>>;

/// What a tick found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A full batch: there is probably more.
    More,
    /// The next look is due after this, or when something happens.
    Next(Duration),
    /// Another replica ticks here.
    NotMine,
}

impl Ticker {
    pub(crate) fn new(
        desk: Arc<Desk>,
        config: TickerConfig,
        by: DigestHex,
        outside: Outside,
        done: CancellationToken,
    ) -> Self {
        let turns = Semaphore::new(config.concurrency);
        Self { desk, config, by, turns, wakers: RwLock::default(), outside, done }
    }

    /// Ticks all helplines until done, those that become known meanwhile too.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut known = self.desk.policies().known();
        known.mark_changed();
        let mut ticking = FuturesUnordered::new();
        let waking = self.wake();
        tokio::pin!(waking);
        loop {
            tokio::select! {
                () = self.done.cancelled() => return,
                () = &mut waking => return,
                Some(()) = ticking.next(), if !ticking.is_empty() => {}
                Ok(()) = known.changed() => {
                    let helplines = known.borrow_and_update().clone();
                    for helpline in helplines {
                        ticking.extend(self.take_up(&helpline).map(|waker| self.keep_ticking(helpline, waker)));
                    }
                }
            }
        }
    }

    /// A waker for a helpline that had none.
    fn take_up(&self, helpline: &HelplineId) -> Option<Arc<Notify>> {
        let mut wakers = self.wakers.write().unwrap_or_else(PoisonError::into_inner);
        if wakers.contains_key(helpline) {
            return None;
        }
        let waker = Arc::<Notify>::default();
        wakers.insert(helpline.clone(), Arc::clone(&waker));
        Some(waker)
    }

    fn wake_one(&self, helpline: &HelplineId) {
        let wakers = self.wakers.read().unwrap_or_else(PoisonError::into_inner);
        wakers.get(helpline).into_iter().for_each(|waker| waker.notify_one());
    }

    fn wake_all(&self) {
        let wakers = self.wakers.read().unwrap_or_else(PoisonError::into_inner);
        wakers.values().for_each(|waker| waker.notify_one());
    }

    /// Something happened at a helpline: its next timer may be an earlier one.
    async fn wake(&self) {
        let mut notices = self.desk.store().notices();
        loop {
            match notices.recv().await {
                Ok(Notice { helpline, events }) if !events.is_empty() => self.wake_one(&helpline),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.wake_all(),
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    }

    async fn keep_ticking(&self, helpline: HelplineId, waker: Arc<Notify>) {
        let interval = Duration::from_millis(self.config.interval_ms);
        let mut backoff = Backoff::new(interval, LONGEST_PAUSE, u32::MAX);
        let mut failing = false;
        loop {
            let began = Instant::now();
            match self.catch_up(&helpline).await {
                Ok(found) => {
                    if std::mem::take(&mut failing) {
                        info!(%helpline, "ticking again");
                    }
                    backoff.reset();
                    rest(found, &waker, began).await;
                    // Never more often than this, however much happens.
                    sleep_until(began + interval).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%helpline, %error, "cannot tick; trying again and again");
                    }
                    // Never without a pause, whatever chance says.
                    sleep(interval + backoff.next_delay().unwrap_or(LONGEST_PAUSE)).await;
                }
            }
        }
    }

    /// Ticks until nothing is due, within a bound.
    async fn catch_up(&self, helpline: &HelplineId) -> Result<Found, StoreError> {
        for _ in 1..MOST_AT_ONCE {
            let found = self.tick(helpline).await?;
            if found != Found::More {
                return Ok(found);
            }
        }
        self.tick(helpline).await
    }

    async fn tick(&self, helpline: &HelplineId) -> Result<Found, StoreError> {
        let _turn = self.turns.acquire().await;
        let command = Command::Tick { by: self.by.clone(), limit: self.config.batch };
        let applied = self.desk.execute(helpline, &command).await?;
        self.outside.errands.leave(helpline, &applied.events);
        self.outside.calls.leave(helpline, &applied.events);
        match applied.reply {
            Ok(Reply::Ticked { handled, not_mine, next_due_ms, now_ms }) => {
                Ok(self.found(handled, not_mine, next_due_ms.map(|due| due.saturating_sub(now_ms))))
            }
            Err(Refusal::NoPolicy) => {
                // The store has lost the line, or the helpline never had a policy.
                if self.desk.policies().reload(helpline).await.is_ok() {
                    Ok(Found::More)
                } else {
                    Ok(Found::Next(LONGEST_SLEEP))
                }
            }
            // Nothing else refuses a tick; were it so, it is no reason to hurry.
            Ok(_) | Err(_) => Ok(Found::Next(LONGEST_SLEEP)),
        }
    }

    fn found(&self, handled: u32, not_mine: bool, due_in_ms: Option<u64>) -> Found {
        if not_mine {
            return Found::NotMine;
        }
        if handled >= self.config.batch {
            return Found::More;
        }
        Found::Next(due_in_ms.map_or(LONGEST_SLEEP, Duration::from_millis).min(LONGEST_SLEEP))
    }
}

async fn rest(found: Found, waker: &Notify, since: Instant) {
    match found {
        Found::More => {}
        Found::NotMine => sleep_until(since + LONGEST_SLEEP).await,
        Found::Next(after) => tokio::select! {
            () = sleep_until(since + after) => {}
            () = waker.notified() => {}
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Overwrite,
        content::Content,
        metrics::Metrics,
        overflow, pager,
        policies::{self, DEMO},
        store::{Store, memory::MemoryStore},
        tickets::Tickets,
    };
    use holdfast_domain::{Mask, Policy, ResponderId};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A store whose time is Tokio's, and which counts the commands that it carries out.
    fn counting(commands: &Arc<AtomicU64>) -> Arc<dyn Store> {
        let (commands, began) = (Arc::clone(commands), Instant::now());
        let wall_ms = move || {
            commands.fetch_add(1, Ordering::Relaxed);
            1_800_000_000_000 + u64::try_from(began.elapsed().as_millis()).unwrap()
        };
        Arc::new(MemoryStore::new(Box::new(wall_ms), 1, "g".to_owned()))
    }

    /// The ticks of ten seconds, of so many replicas, after the helpline was prepared.
    async fn ticks_in_ten_seconds(replicas: u8, armed: bool) -> u64 {
        let commands = Arc::new(AtomicU64::new(0));
        let store = counting(&commands);
        let helpline = HelplineId::parse("demo").unwrap();
        let policy = Policy::from_toml(DEMO).unwrap();
        policies::install(&*store, &helpline, &policy, Overwrite::Always).await.unwrap();
        if armed {
            // The presence lease is a timer fifteen seconds ahead.
            store.execute(&helpline, &sign_in()).await.unwrap().reply.unwrap();
        }
        commands.store(0, Ordering::Relaxed);
        let done = CancellationToken::new();
        let running: Vec<_> =
            (0..replicas).map(|n| tokio::spawn(ticker(n, &store, &helpline, &done).run())).collect();
        sleep(Duration::from_secs(10)).await;
        done.cancel();
        futures::future::join_all(running).await;
        commands.load(Ordering::Relaxed)
    }

    fn ticker(n: u8, store: &Arc<dyn Store>, helpline: &HelplineId, done: &CancellationToken) -> Arc<Ticker> {
        let metrics = Metrics::new(&opentelemetry::global::meter("test"));
        let desk = Arc::new(Desk::new(Arc::clone(store), Content::as_it_came(), metrics, Tickets::made_up()));
        let config = TickerConfig { interval_ms: 250, batch: 100, concurrency: 1 };
        let by = DigestHex::parse(&format!("{n:02x}")).unwrap();
        desk.policies().learn(helpline, &Policy::from_toml(DEMO).unwrap());
        let outside = Outside { errands: overflow::errands().0, calls: pager::calls().0 };
        Arc::new(Ticker::new(desk, config, by, outside, done.clone()))
    }

    fn sign_in() -> Command {
        Command::SignIn {
            responder: ResponderId::parse("ana").unwrap(),
            capabilities: Mask::default(),
            scarce: 0,
            opt_out: Mask::default(),
            shift_ms: 0,
            capacity: 1,
            ready: true,
            revision: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_line_is_looked_at_about_once_a_second_and_so_is_one_whose_timer_is_far() {
        for armed in [false, true] {
            let ticks = ticks_in_ten_seconds(1, armed).await;
            assert!((10..=13).contains(&ticks), "{ticks}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_replica_only_looks_whether_the_first_still_ticks() {
        let ticks = ticks_in_ten_seconds(2, false).await;
        assert!((20..=26).contains(&ticks), "{ticks}");
    }
}
