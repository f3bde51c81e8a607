//! The embedded store: a [`Line`] for each helpline, in memory. It answers exactly as the line does, and a restart
//! loses it, which every acknowledgement says.

mod audit;

use super::audit::Audits;
use super::{
    BlocksPage, Cursor, Durability, Floor, NOTICE_BUFFER, Notice, Persistence, Placed, ResponderView, Store,
    StoreError,
};
use futures::future::{BoxFuture, ready};
use holdfast_domain::line::Timer;
use holdfast_domain::{
    Applied, BlockId, Chat, ChatId, Command, Event, HelplineId, HoldingKind, Line, Policy, Responder, ResponderId,
    Snapshot, Status,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Reads the time: milliseconds since 1970.
pub type WallClock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Lines in memory.
pub struct MemoryStore {
    // A plain mutex: nothing awaits while holding it, and a command takes microseconds.
    lines: Mutex<BTreeMap<HelplineId, Kept>>,
    wall_ms: WallClock,
    node: u32,
    generation: String,
    lives: std::sync::atomic::AtomicU64,
    notices: broadcast::Sender<Notice>,
    audits: Mutex<BTreeMap<HelplineId, audit::Kept>>,
}

struct Kept {
    line: Line,
    events: VecDeque<Placed>,
}

impl Kept {
    /// Whether the events after a cursor are all here: it is of this store, not older than what is kept, and not
    /// ahead of what has happened.
    fn holds(&self, generation: &str, after: &Cursor) -> bool {
        let (_, first) = self.first();
        let reached = self.line.snapshot().events;
        after.generation == generation && after.sequence <= reached && after.sequence.saturating_add(1) >= first
    }

    /// The term and sequence of the oldest event that is kept; of the next one, where none is.
    fn first(&self) -> (u64, u64) {
        let line = self.line.snapshot();
        self.events.front().map_or((line.term.number, line.events + 1), |p| (p.event.term, p.event.sequence))
    }

    /// None is kept longer than the policy says; lua/tick.lua does the same.
    fn forget_events(&mut self) {
        let line = self.line.snapshot();
        let Some(policy) = &line.policy else {
            return;
        };
        let till = line.clock.now_ms.saturating_sub(policy.numbers.keep_events_ms);
        while self.events.front().is_some_and(|p| p.event.at_ms <= till) {
            self.events.pop_front();
        }
    }

    /// The cursor before the oldest event that is kept.
    fn first_cursor(&self, generation: &str) -> Cursor {
        let (term, sequence) = self.first();
        Cursor { generation: generation.to_owned(), term, sequence: sequence.saturating_sub(1) }
    }
}

impl MemoryStore {
    /// An empty store. The generation names this run; the node stands in epochs.
    #[must_use]
    pub fn new(wall_ms: WallClock, node: u32, generation: String) -> Self {
        Self {
            lines: Mutex::new(BTreeMap::new()),
            wall_ms,
            node,
            generation,
            lives: 0.into(),
            notices: broadcast::channel(NOTICE_BUFFER).0,
            audits: Mutex::default(),
        }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<HelplineId, Kept>> {
        // A line is only changed by commands that cannot panic half way; a poisoned lock holds a whole one.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, helpline: &HelplineId, command: &Command) -> Applied {
        let mut lines = self.lines();
        let kept = lines
            .entry(helpline.clone())
            .or_insert_with(|| Kept { line: Line::named(self.node, self.life()), events: VecDeque::new() });
        let applied = kept.line.apply((self.wall_ms)(), command);
        if matches!(command, Command::Tick { .. }) {
            kept.forget_events();
        }
        if !applied.events.is_empty() {
            let generation = kept.line.snapshot().generation.clone();
            let placed: Vec<Placed> = applied.events.iter().map(|e| place_event(&generation, e)).collect();
            kept.events.extend(placed.iter().cloned());
            let keep = kept.line.snapshot().policy.as_ref().map_or(u64::MAX, |p| p.numbers.keep_events);
            while kept.events.len() > usize::try_from(keep).unwrap_or(usize::MAX) {
                kept.events.pop_front();
            }
            // Sent under the lock, so that notices keep the order of the commands. Nobody listening is no error.
            let _ = self.notices.send(Notice { helpline: helpline.clone(), events: Arc::new(placed) });
        }
        applied
    }

    /// Loses everything, as a Redis that was wiped: for tests.
    #[doc(hidden)]
    pub fn lose_everything(&self) {
        let mut lines = self.lines();
        self.lives.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        lines.clear();
        self.audits.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What a line's life is called: the store's run, and how often it was lost.
    fn life(&self) -> String {
        match self.lives.load(std::sync::atomic::Ordering::Relaxed) {
            0 => self.generation.clone(),
            lost => format!("{}-{lost}", self.generation),
        }
    }

    fn read<T>(&self, helpline: &HelplineId, read: impl FnOnce(&Snapshot) -> T) -> Option<T> {
        self.lines().get(helpline).map(|kept| read(kept.line.snapshot()))
    }

    fn events_after(
        &self,
        helpline: &HelplineId,
        after: &Cursor,
        limit: usize,
    ) -> Result<Vec<Placed>, StoreError> {
        let lines = self.lines();
        let Some(kept) = lines.get(helpline) else {
            return Ok(Vec::new());
        };
        let before = |p: &Placed| (p.cursor.term, p.cursor.sequence);
        let whole = *after == Cursor::default();
        let generation = &kept.line.snapshot().generation;
        if !whole && !kept.holds(generation, after) {
            return Err(StoreError::CursorTooOld { first: kept.first_cursor(generation) });
        }
        let from = (after.term, after.sequence);
        Ok(kept.events.iter().filter(|p| before(p) > from).take(limit).cloned().collect())
    }
}

impl Store for MemoryStore {
    fn execute<'a>(
        &'a self,
        helpline: &'a HelplineId,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(ready(Ok(self.apply(helpline, command))))
    }

    fn chat<'a>(
        &'a self,
        helpline: &'a HelplineId,
        chat: &'a ChatId,
    ) -> BoxFuture<'a, Result<Option<Chat>, StoreError>> {
        Box::pin(ready(Ok(self.read(helpline, |line| line.chats.get(chat).cloned()).flatten())))
    }

    fn place<'a>(&'a self, helpline: &'a HelplineId, chat: &'a ChatId) -> BoxFuture<'a, Result<u64, StoreError>> {
        let place = self.read(helpline, |line| {
            let chat = line.chats.get(chat)?;
            Some(line.lanes.place(chat.standing.as_ref()?.score, &chat.member()))
        });
        Box::pin(ready(Ok(place.flatten().unwrap_or(0))))
    }

    fn responder<'a>(
        &'a self,
        helpline: &'a HelplineId,
        responder: &'a ResponderId,
    ) -> BoxFuture<'a, Result<Option<ResponderView>, StoreError>> {
        let view = self.read(helpline, |line| {
            let responder = line.responders.get(responder)?.clone();
            let held = responder.holdings.iter().filter_map(|h| {
                let chat = line.chats.get(&h.chat)?.clone();
                let due = due_timer(&chat, h.kind, &responder).and_then(|t| line.timers.at(&t));
                Some((chat, due))
            });
            Some(ResponderView { held: held.collect(), now_ms: line.clock.now_ms, responder: responder.clone() })
        });
        Box::pin(ready(Ok(view.flatten())))
    }

    fn floor<'a>(&'a self, helpline: &'a HelplineId, limit: usize) -> BoxFuture<'a, Result<Floor, StoreError>> {
        Box::pin(ready(Ok(self.read(helpline, |line| floor_of(line, limit)).unwrap_or_default())))
    }

    fn blocks<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: Option<&'a BlockId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<BlocksPage, StoreError>> {
        let page = self.read(helpline, |line| BlocksPage {
            blocks: line.blocks.after(after).take(limit).cloned().collect(),
            proposed: line.blocks.count_proposed(),
            in_force: line.blocks.count_confirmed(),
            now_ms: line.clock.now_ms,
        });
        Box::pin(ready(Ok(page.unwrap_or_default())))
    }

    fn policy<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        Box::pin(ready(Ok(self.read(helpline, |line| line.policy.clone()).flatten())))
    }

    fn helplines(&self) -> BoxFuture<'_, Result<Vec<HelplineId>, StoreError>> {
        Box::pin(ready(Ok(self.lines().keys().cloned().collect())))
    }

    fn earlier_policy<'a>(
        &'a self,
        helpline: &'a HelplineId,
        revision: u64,
    ) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        Box::pin(ready(Ok(self.read(helpline, |line| line.policies.get(&revision).cloned()).flatten())))
    }

    fn events<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: &'a Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Placed>, StoreError>> {
        Box::pin(ready(self.events_after(helpline, after, limit)))
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn durability(&self) -> Durability {
        Durability { persistence: Persistence::Ephemeral, replicas_acked: 0 }
    }

    fn audits(&self) -> &dyn Audits {
        self
    }

    fn snapshot<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        Box::pin(ready(Ok(self.read(helpline, Snapshot::clone).unwrap_or_default())))
    }
}

fn place_event(generation: &str, event: &Event) -> Placed {
    let cursor = Cursor { generation: generation.to_owned(), term: event.term, sequence: event.sequence };
    Placed { cursor, event: event.clone() }
}

/// The timer that ends a holding, if one does.
pub(super) fn due_timer(chat: &Chat, kind: HoldingKind, responder: &Responder) -> Option<Timer> {
    match kind {
        HoldingKind::Offer => chat.offer_to(&responder.id).map(|o| Timer::Offer(chat.id.clone(), o.number)),
        HoldingKind::WrapUp => Some(Timer::WrapUp(responder.id.clone(), chat.id.clone())),
        HoldingKind::Active => None,
    }
}

fn floor_of(line: &Snapshot, limit: usize) -> Floor {
    let chat_of = |(_, member): (i64, &str)| {
        let id = ChatId::parse(member.split_once(':')?.1).ok()?;
        line.chats.get(&id).cloned()
    };
    Floor {
        ledger: line.ledger,
        in_line: u64::try_from(line.lanes.len()).unwrap_or(u64::MAX),
        waiting: line.lanes.all().take(limit).filter_map(chat_of).collect(),
        responders: line
            .responders
            .values()
            .filter(|r| r.status != Status::Offline)
            .take(limit)
            .cloned()
            .collect(),
        failing: line.failing.iter().take(limit).filter_map(|(_, id)| line.chats.get(id).cloned()).collect(),
        failing_in_all: u64::try_from(line.failing.len()).unwrap_or(u64::MAX),
        clock: line.clock,
        pace_ms: line.pace.known_ms(),
        waits: line.waits,
        on_shift: line.on_shift,
        surge: line.surge,
        reroutes: line.reroutes.clone(),
        policy_revision: line.policy.as_ref().map_or(0, |p| p.revision),
        generation: line.generation.clone(),
        term: line.term.number,
    }
}
