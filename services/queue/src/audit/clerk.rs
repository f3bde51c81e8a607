//! Keeps the audits: reads each line's events from where its audit stands, and appends an entry for each decision.
//!
//! Any replica may do it, at any moment, for nothing is appended unless the audit stands where it was read: each decision
//! is in it once, whoever is faster and whatever dies on the way. It remembers the last entry that it knew to be kept, so
//! an audit that goes back, or was changed there, is told by the next entry.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use holdfast_domain::{HelplineId, audit::decided_by};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Hash, Seals, write::Writer};
use crate::{
    config::AuditConfig,
    desk::Desk,
    store::{
        Placed, StoreError,
        audit::{Head, Piece},
    },
};

/// Events that are read at a time. An entry for each, and a few of the audit's own, are appended at once.
const PAGE: usize = 256;
/// Pages that are read at one look. What is left is read at the next.
const MOST_PAGES: usize = 100;
/// Helplines that are looked at at once.
const AT_ONCE: usize = 8;
/// A helpline that nothing was heard of is looked at all the same, for a notice may be lost.
const LOOK_ANYWAY: Duration = Duration::from_secs(15);
/// One look at one helpline takes no longer.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// How often old entries are looked for, and how many go at once.
const TRIM_EVERY: Duration = Duration::from_secs(600);
const TRIM_AT_ONCE: usize = 2000;

/// What is remembered of a helpline's audit.
#[derive(Debug)]
struct Known {
    /// The last entry that is known to be kept.
    last: Option<(u64, Hash)>,
    /// Since when there is something that is not in it.
    behind: Option<Instant>,
    trimmed: Instant,
    failing: bool,
}

impl Default for Known {
    fn default() -> Self {
        // Old entries are looked for at the first look.
        let long_ago = Instant::now().checked_sub(TRIM_EVERY).unwrap_or_else(Instant::now);
        Self { last: None, behind: None, trimmed: long_ago, failing: false }
    }
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be more.
    More,
    /// All is in it.
    Done,
}

/// The keeper of the audits.
pub(crate) struct Clerk {
    desk: Arc<Desk>,
    config: AuditConfig,
    seals: Arc<Seals>,
    known: BTreeMap<HelplineId, Known>,
}

impl Clerk {
    pub(crate) fn new(desk: Arc<Desk>, config: AuditConfig, seals: Arc<Seals>) -> Self {
        info!(key = %seals.key(), "the audit is sealed; this is the public half of its key");
        Self { desk, config, seals, known: BTreeMap::new() }
    }

    /// Keeps the audits of all helplines until done.
    pub(crate) async fn run(mut self, done: CancellationToken) {
        let mut notices = self.desk.store().notices();
        let mut moments = interval(Duration::from_millis(self.config.interval_ms));
        moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut due, mut all, mut is_open) = (BTreeSet::new(), Instant::now(), true);
        loop {
            tokio::select! {
                () = done.cancelled() => return,
                heard = notices.recv(), if is_open => {
                    is_open = !matches!(heard, Err(RecvError::Closed));
                    match heard {
                        Ok(notice) if !notice.events.is_empty() => drop(due.insert(notice.helpline)),
                        // Some were missed.
                        _ => all = Instant::now(),
                    }
                    continue;
                }
                _ = moments.tick() => {}
            }
            if all <= Instant::now() {
                due.extend(self.desk.policies().known().borrow().iter().cloned());
                all = Instant::now() + LOOK_ANYWAY;
            }
            let looked = std::mem::take(&mut due);
            tokio::select! {
                () = done.cancelled() => return,
                unfinished = self.look_at(looked) => due.extend(unfinished),
            }
        }
    }

    /// Looks at these; those where something is left come back.
    pub(super) async fn look_at(&mut self, helplines: BTreeSet<HelplineId>) -> Vec<HelplineId> {
        let taken: Vec<_> =
            helplines.into_iter().map(|h| (self.known.remove(&h).unwrap_or_default(), h)).collect();
        let looks = taken.into_iter().map(|(mut known, helpline)| {
            let this = &*self;
            async move {
                let looked = timeout(LONGEST_LOOK, this.catch_up(&helpline, &mut known)).await;
                let looked =
                    looked.unwrap_or_else(|_| Err(StoreError::Unreachable("no answer in time".to_owned())));
                (this.judge(&helpline, &mut known, looked), known, helpline)
            }
        });
        let looked: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        let mut unfinished = Vec::new();
        for (is_done, known, helpline) in looked {
            self.known.insert(helpline.clone(), known);
            if !is_done {
                unfinished.push(helpline);
            }
        }
        unfinished
    }

    /// Notes how far behind it is. Whether it is not.
    fn judge(&self, helpline: &HelplineId, known: &mut Known, looked: Result<(Step, u64), StoreError>) -> bool {
        let left = match looked {
            Ok((step, left)) => {
                if std::mem::take(&mut known.failing) {
                    info!(%helpline, "the audit goes on");
                }
                self.desk.metrics().audit_left(helpline, left);
                step == Step::More
            }
            Err(error) => {
                if !std::mem::replace(&mut known.failing, true) {
                    warn!(%helpline, %error, "the audit does not go on; trying again and again");
                }
                true
            }
        };
        known.behind = left.then(|| known.behind.unwrap_or_else(Instant::now));
        self.desk.metrics().audit_behind(helpline, known.behind.map_or(Duration::ZERO, |since| since.elapsed()));
        !left
    }

    async fn catch_up(&self, helpline: &HelplineId, known: &mut Known) -> Result<(Step, u64), StoreError> {
        for _ in 0..MOST_PAGES {
            if let (Step::Done, left) = self.step(helpline, known).await? {
                return Ok((Step::Done, left));
            }
            // An embedded store answers at once, and others want their turn.
            tokio::task::yield_now().await;
        }
        let head = self.desk.store().audits().head(helpline).await?;
        Ok((Step::More, head.reached.saturating_sub(head.cursor.sequence)))
    }

    /// One page of events, and what it comes to.
    async fn step(&self, helpline: &HelplineId, known: &mut Known) -> Result<(Step, u64), StoreError> {
        let audits = self.desk.store().audits();
        let head = audits.head(helpline).await?;
        if head.generation.is_empty() {
            return Ok((Step::Done, 0)); // there is no line
        }
        let events = self.events(helpline, &head).await?;
        if events.is_empty() && head.number == 0 {
            return Ok((Step::Done, 0)); // it begins with the first event
        }
        let rewound = self.rewound(helpline, &head, known).await?;
        let first = self.first_kept(helpline, &head, known).await?;
        if events.is_empty() && rewound.is_none() && first <= head.first {
            known.last = Some((head.number, head.hash));
            return Ok((Step::Done, 0));
        }
        let piece = self.write(helpline, &head, &events, rewound, first).await?;
        if audits.append(helpline, &head, &piece).await? {
            known.last = Some((head.number + piece.entries.len() as u64, piece.hash));
            self.count(helpline, &piece, rewound);
        }
        Ok((Step::More, 0))
    }

    /// The events after the head, or, where those are gone, the first that are kept.
    async fn events(&self, helpline: &HelplineId, head: &Head) -> Result<Vec<Placed>, StoreError> {
        match self.desk.store().events(helpline, &head.cursor, PAGE).await {
            Err(StoreError::CursorTooOld { first }) => self.desk.store().events(helpline, &first, PAGE).await,
            read => read,
        }
    }

    /// The entry that was known to be kept and is not there any more, or not as it was.
    async fn rewound(
        &self,
        helpline: &HelplineId,
        head: &Head,
        known: &Known,
    ) -> Result<Option<(u64, Hash)>, StoreError> {
        let Some((number, hash)) = known.last.filter(|last| *last != (head.number, head.hash)) else {
            return Ok(None);
        };
        if number < head.first {
            return Ok(None); // it is too old by now
        }
        let there = self.desk.store().audits().entries(helpline, number - 1, 1).await?;
        let same = there.first().is_some_and(|entry| entry.number() == Some(number) && entry.hash() == hash);
        Ok((!same || head.number < number).then_some((number, hash)))
    }

    /// The first entry that is still young enough, within a bound.
    async fn first_kept(&self, helpline: &HelplineId, head: &Head, known: &mut Known) -> Result<u64, StoreError> {
        if head.number == 0 {
            return Ok(1);
        }
        let kept = head.number.saturating_sub(head.first) + 1;
        // Some at a time, so that it is not told with each entry.
        let most = self.config.max_entries;
        let over = if kept > most + most / 100 { head.first + (kept - most) } else { head.first };
        if known.trimmed.elapsed() < TRIM_EVERY && over <= head.first {
            return Ok(head.first);
        }
        known.trimmed = Instant::now();
        let oldest = head.now_ms.saturating_sub(self.config.keep_days * 24 * 3_600_000);
        let entries = self.desk.store().audits().entries(helpline, head.first - 1, TRIM_AT_ONCE).await?;
        let at = |text: &str| text.parse::<u64>().unwrap_or(0);
        let old = entries.iter().take_while(|entry| entry.get("at_ms").is_some_and(|text| at(text) < oldest));
        let young = head.first + old.count() as u64;
        // The last one stays, so that the chain goes on.
        Ok(young.max(over.min(head.first + TRIM_AT_ONCE as u64)).min(head.number))
    }

    async fn write(
        &self,
        helpline: &HelplineId,
        head: &Head,
        events: &[Placed],
        rewound: Option<(u64, Hash)>,
        first: u64,
    ) -> Result<Piece, StoreError> {
        let mut chats: Vec<_> = events
            .iter()
            .filter(|placed| decided_by(&placed.event).is_some())
            .filter_map(|placed| placed.event.chat.clone())
            .collect();
        chats.sort_unstable();
        chats.dedup();
        let names = self.desk.store().audits().names(helpline, &chats).await?;
        let named = chats.into_iter().zip(names).filter_map(|(chat, name)| Some((chat, name?)));
        let mut writer = Writer::new(helpline, head, named.collect());
        writer.begin(events.first(), head.now_ms);
        if let Some(seen) = rewound {
            writer.rewound(seen, head.now_ms);
        }
        if first > head.first && head.number > 0 {
            writer.trimmed(first, head.now_ms);
        }
        for placed in events {
            writer.event(placed).map_err(|error| StoreError::Refusing(error.to_string()))?;
        }
        Ok(writer.done(first, &self.seals))
    }

    fn count(&self, helpline: &HelplineId, piece: &Piece, rewound: Option<(u64, Hash)>) {
        if let Some((number, _)) = rewound {
            error!(%helpline, number, "the audit was kept up to here, and is not any more, or was changed");
        }
        for entry in &piece.entries {
            let act = entry.get("act").unwrap_or_default();
            if act == "gap" {
                error!(%helpline, "events were gone before they were in the audit");
            }
            self.desk.metrics().audited(act);
        }
    }
}
