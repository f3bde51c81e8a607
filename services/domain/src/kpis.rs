//! How a line has served, from its events alone, in the names of the NSPL catalogue of crisis centre metrics.
//!
//! A [`Fold`] takes the events of a helpline in order and keeps what a report needs, no more: a record for each thing
//! that came to an end (an arrival, a wait, a conversation, a wrap-up), the time responders spent on shift and with
//! chats, and who is in between. What is not over yet is followed by chat; what is over bears a number only.
//!
//! Everything counts at its end and under the urgency that the chat had then. A chat that came from a partner waits
//! from its admission on: how long it waited elsewhere, no event says.

use crate::chat::EndedAs;
use crate::event::{Event, EventKind};
use crate::ids::{ChatId, ResponderId};
use crate::policy::{Numbers, Policy};
use crate::priority::Urgency;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The longest time that a report can cover, in milliseconds: 48 hours.
pub const MAX_WINDOW_MS: u64 = 48 * 3600 * 1000;
/// Cells of fewer visitors are not told.
pub const FEWEST_VISITORS: usize = 5;
/// Records that are kept, and as many spans; the oldest go first, and the covered time with them.
const MAX_RECORDS: usize = 200_000;
/// Chats that are followed at once. One more is as unknown as one that came before the first event.
const MAX_FOLLOWED: usize = 200_000;
/// Responders who are followed at once.
const MAX_ON_SHIFT: usize = 100_000;
/// Wrap-ups of one responder that are followed at once.
const MAX_WRAPPING: usize = 64;

/// What only those can do who are on shift.
const DONE_HERE: [EventKind; 10] = [
    EventKind::Offered,
    EventKind::Declined,
    EventKind::Accepted,
    EventKind::Reclaimed,
    EventKind::Engaged,
    EventKind::SupervisorCalled,
    EventKind::StatusChanged,
    EventKind::Unlinked,
    EventKind::Ended,
    EventKind::WrappedUp,
];

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct Kpis {
    /// The time that is covered, in milliseconds: shorter than asked for when fewer events are known.
    pub window_ms: u64,
    /// All urgencies together; none when there were too few visitors to tell.
    pub all: Option<Figures>,
    /// By urgency, in the order of [`Urgency::ALL`]; none where too few visitors could be told apart.
    pub by_urgency: [Option<Figures>; 4],
    /// The share of responders' time on shift spent with chats or wrap-ups (EM-4); 0 while nobody was on shift.
    pub occupancy: f64,
}

/// The figures of one urgency, or of all. Shares are from 0 to 1, and 0 where there is nothing to share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// Chats that came, those that a partner sent among them.
    pub requested: u64,
    /// Chats that a responder took for the first time.
    pub answered: u64,
    /// Of the first waits that ended, the share that a responder ended. Waits that a partner ended are left out.
    pub answer_rate: f64,
    /// Of the same, the share that left or was given up (SM-4).
    pub abandonment_rate: f64,
    /// The share of answered chats that waited no longer than the policy's promise (SM-5).
    pub service_level: f64,
    /// Average wait of the answered, in milliseconds (SM-6); none while there are none.
    pub average_speed_to_answer_ms: Option<u64>,
    /// Waits of the answered.
    pub wait: Option<Percentiles>,
    /// The longest wait, those who still wait included, in milliseconds (SM-7); none while there are none.
    pub longest_delay_ms: Option<u64>,
    /// From accept to the end, or to the return to the line (EM-1).
    pub handling_time: Option<Percentiles>,
    /// From the end of a chat to the end of its wrap-up (EM-2).
    pub wrap_up: Option<Percentiles>,
    /// Chats that went to a partner.
    pub overflowed: u64,
    /// Chats whose visitor took the resources.
    pub fallback: u64,
    /// Chats that a partner sent.
    pub taken_in: u64,
}

/// How durations are spread, by nearest rank, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentiles {
    /// Half are no longer.
    pub p50_ms: u64,
    /// 95 of 100 are no longer.
    pub p95_ms: u64,
    /// 99 of 100 are no longer.
    pub p99_ms: u64,
}

impl Percentiles {
    /// Of these durations; none of none.
    #[must_use]
    pub fn of(mut durations: Vec<u64>) -> Option<Self> {
        durations.sort_unstable();
        let rank = |percent: usize| (durations.len() * percent).div_ceil(100).checked_sub(1);
        let at = |percent| rank(percent).and_then(|at| durations.get(at)).copied();
        Some(Self { p50_ms: at(50)?, p95_ms: at(95)?, p99_ms: at(99)? })
    }
}

/// A chat that is not over.
#[derive(Debug, Clone)]
struct Followed {
    /// Tells chats apart in the records, which name none.
    number: u64,
    urgency: Urgency,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// In the line, for the first time or again.
    Waiting { since_ms: u64, first: bool },
    /// In the hands of whoever is on this shift.
    InHand { since_ms: u64, shift: u64 },
    /// Given up as abandoned, which is not over while its visitor may re-open it.
    GivenUp { since_ms: u64, first: bool, at_ms: u64 },
}

/// A responder who is here.
#[derive(Debug, Clone)]
struct OnShift {
    /// Tells shifts apart in the spans, which name nobody.
    number: u64,
    since_ms: u64,
    wrapping: BTreeMap<ChatId, WrapUp>,
}

#[derive(Debug, Clone, Copy)]
struct WrapUp {
    chat: u64,
    urgency: Urgency,
    since_ms: u64,
}

/// Something that came to an end.
#[derive(Debug, Clone, Copy)]
struct Record {
    at_ms: u64,
    chat: u64,
    urgency: Urgency,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Came { taken_in: bool },
    Waited { ms: u64, first: bool, end: EndOfWait },
    Handled { ms: u64 },
    WrappedUp { ms: u64 },
}

#[derive(Debug, Clone, Copy)]
enum EndOfWait {
    Accepted,
    Ended(EndedAs),
}

/// Time that somebody spent. Ordered by its end.
#[derive(Debug, Clone, Copy)]
struct Span {
    shift: u64,
    from_ms: u64,
    to_ms: u64,
    on: On,
}

#[derive(Debug, Clone, Copy)]
enum On {
    Shift,
    Chat,
    /// A wrap-up whose end no event told: it lasted as long as the policy lets it, at the most.
    WrapUp(Urgency),
}

/// Takes the events of a helpline in order and reports on any time up to 48 hours.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    began_ms: Option<u64>,
    covered_since_ms: u64,
    last_ms: u64,
    chats_seen: u64,
    shifts_seen: u64,
    chats: BTreeMap<ChatId, Followed>,
    here: BTreeMap<ResponderId, OnShift>,
    records: VecDeque<Record>,
    spans: VecDeque<Span>,
}

impl Fold {
    /// A fold that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next event.
    pub fn take(&mut self, event: &Event) {
        if self.began_ms.is_none() {
            self.began_ms = Some(event.at_ms);
            self.covered_since_ms = event.at_ms;
        }
        self.last_ms = self.last_ms.max(event.at_ms);
        if let Some(responder) = &event.responder {
            self.follow_responder(responder, event);
        }
        if let Some(chat) = &event.chat {
            self.follow_chat(chat, event);
        }
        self.trim();
    }

    fn follow_responder(&mut self, id: &ResponderId, event: &Event) {
        if event.kind == EventKind::SignedOut {
            self.goes(id, event.at_ms);
        } else if event.kind == EventKind::SignedIn {
            self.comes(id, event.at_ms);
        } else if DONE_HERE.contains(&event.kind) {
            // Whoever did not come meanwhile was here from the beginning.
            self.comes(id, self.began_ms.unwrap_or(event.at_ms));
        }
    }

    fn comes(&mut self, id: &ResponderId, since_ms: u64) {
        if self.here.contains_key(id) || self.here.len() >= MAX_ON_SHIFT {
            return;
        }
        self.shifts_seen += 1;
        let shift = OnShift { number: self.shifts_seen, since_ms, wrapping: BTreeMap::new() };
        self.here.insert(id.clone(), shift);
    }

    /// What is still in their hands is returned by events of its own, right after this one.
    fn goes(&mut self, id: &ResponderId, at_ms: u64) {
        self.comes(id, self.began_ms.unwrap_or(at_ms));
        let Some(shift) = self.here.remove(id) else {
            return;
        };
        let mut spend =
            |from_ms, on| self.spans.push_back(Span { shift: shift.number, from_ms, to_ms: at_ms, on });
        spend(shift.since_ms, On::Shift);
        shift.wrapping.values().for_each(|w| spend(w.since_ms, On::WrapUp(w.urgency)));
    }

    fn follow_chat(&mut self, id: &ChatId, event: &Event) {
        if let (Some(urgency), Some(chat)) = (event.urgency, self.chats.get_mut(id)) {
            chat.urgency = urgency;
        }
        match event.kind {
            EventKind::Requested => self.came(id, event, false),
            EventKind::Admitted => self.came(id, event, true),
            EventKind::Restored => self.restored(id, event),
            EventKind::Reclaimed => self.reclaimed(id, event),
            EventKind::Accepted => self.accepted(id, event),
            EventKind::Returned => self.returned(id, event),
            EventKind::Ended => self.ended(id, event),
            EventKind::Reopened => self.reopened(id),
            EventKind::Forgotten => {
                self.chats.remove(id);
            }
            EventKind::WrappedUp => self.wrapped_up(id, event),
            EventKind::Triaged
            | EventKind::Relaxed
            | EventKind::Offered
            | EventKind::Declined
            | EventKind::Missed
            | EventKind::Rescinded
            | EventKind::Engaged
            | EventKind::DeliveryFailing
            | EventKind::SupervisorCalled
            | EventKind::Away
            | EventKind::Back
            | EventKind::Erased
            | EventKind::SignedIn
            | EventKind::StatusChanged
            | EventKind::Unlinked
            | EventKind::SignedOut
            | EventKind::CoolingDown
            | EventKind::CooledDown
            | EventKind::ShiftEnding
            | EventKind::Overflowing
            | EventKind::OverflowRefused
            | EventKind::Held
            | EventKind::HoldDue
            | EventKind::Released
            | EventKind::Surge
            | EventKind::Paging
            | EventKind::Paged
            | EventKind::PageFailed
            | EventKind::GateClosed
            | EventKind::GateOpened
            | EventKind::Rerouted
            | EventKind::RerouteEnded
            | EventKind::BlockProposed
            | EventKind::BlockConfirmed
            | EventKind::BlockLifted
            | EventKind::BlockLapsed
            | EventKind::BlockExpired
            | EventKind::PolicySet
            | EventKind::Revived => {}
        }
    }

    fn came(&mut self, id: &ChatId, event: &Event, taken_in: bool) {
        let chat = self.number();
        let phase = Phase::Waiting { since_ms: event.at_ms, first: true };
        self.follow(id, Followed { number: chat, urgency: event.urgency.unwrap_or_default(), phase }, event.at_ms);
        self.record(event.at_ms, chat, event.urgency, What::Came { taken_in });
    }

    /// The store had lost it. How long it waited before that was told before the first event.
    fn restored(&mut self, id: &ChatId, event: &Event) {
        if !self.chats.contains_key(id) {
            self.came(id, event, false);
        }
    }

    /// It is in the hands again that it was in: nobody has waited for that.
    fn reclaimed(&mut self, id: &ChatId, event: &Event) {
        let shift = event.responder.as_ref().and_then(|r| self.here.get(r)).map_or(0, |s| s.number);
        let number = self.chats.get(id).map(|c| c.number);
        let number = number.unwrap_or_else(|| self.number());
        let phase = Phase::InHand { since_ms: event.at_ms, shift };
        self.follow(id, Followed { number, urgency: event.urgency.unwrap_or_default(), phase }, event.at_ms);
    }

    fn accepted(&mut self, id: &ChatId, event: &Event) {
        let shift = event.responder.as_ref().and_then(|r| self.here.get(r)).map_or(0, |s| s.number);
        let number = match self.chats.get(id).map(|c| (c.number, c.phase)) {
            Some((chat, Phase::Waiting { since_ms, first })) => {
                let ms = event.at_ms.saturating_sub(since_ms);
                self.record(
                    event.at_ms,
                    chat,
                    event.urgency,
                    What::Waited { ms, first, end: EndOfWait::Accepted },
                );
                chat
            }
            Some((chat, Phase::InHand { .. } | Phase::GivenUp { .. })) => chat,
            // Whether it was taken before, and how long it waited, was told before the first event.
            None => self.number(),
        };
        let phase = Phase::InHand { since_ms: event.at_ms, shift };
        self.follow(id, Followed { number, urgency: event.urgency.unwrap_or_default(), phase }, event.at_ms);
    }

    fn returned(&mut self, id: &ChatId, event: &Event) {
        let (number, urgency) = self.out_of_hand(id, event);
        let phase = Phase::Waiting { since_ms: event.at_ms, first: false };
        self.follow(id, Followed { number, urgency, phase }, event.at_ms);
    }

    fn ended(&mut self, id: &ChatId, event: &Event) {
        let Some(outcome) = event.outcome else {
            return;
        };
        match self.chats.get(id).map(|c| (c.number, c.urgency, c.phase)) {
            Some((number, urgency, Phase::Waiting { since_ms, first })) => {
                let ms = event.at_ms.saturating_sub(since_ms);
                let what = What::Waited { ms, first, end: EndOfWait::Ended(outcome) };
                self.record(event.at_ms, number, Some(urgency), what);
                self.chats.remove(id);
                if outcome == EndedAs::Abandoned {
                    let phase = Phase::GivenUp { since_ms, first, at_ms: event.at_ms };
                    self.follow(id, Followed { number, urgency, phase }, event.at_ms);
                }
            }
            Some((_, _, Phase::InHand { .. })) => self.begin_wrap_up(id, event),
            // In hand since before the first event.
            None if event.responder.is_some() => self.begin_wrap_up(id, event),
            Some((_, _, Phase::GivenUp { .. })) | None => {}
        }
    }

    /// A conversation is over. Whoever had it may write notes about it now.
    fn begin_wrap_up(&mut self, id: &ChatId, event: &Event) {
        let (chat, urgency) = self.out_of_hand(id, event);
        self.chats.remove(id);
        let Some(shift) = event.responder.as_ref().and_then(|r| self.here.get_mut(r)) else {
            return;
        };
        shift.wrapping.insert(id.clone(), WrapUp { chat, urgency, since_ms: event.at_ms });
        if shift.wrapping.len() > MAX_WRAPPING {
            let oldest = shift.wrapping.iter().min_by_key(|(_, w)| w.since_ms).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| shift.wrapping.remove(&oldest));
        }
    }

    /// The time in hand of a chat, which ends now.
    fn out_of_hand(&mut self, id: &ChatId, event: &Event) -> (u64, Urgency) {
        let at_ms = event.at_ms;
        let known = self.chats.get(id).map(|c| (c.number, c.urgency, c.phase));
        let (number, urgency, span) = match known {
            Some((number, urgency, Phase::InHand { since_ms, shift })) => {
                let ms = at_ms.saturating_sub(since_ms);
                self.record(at_ms, number, Some(urgency), What::Handled { ms });
                (number, urgency, Some((shift, since_ms)))
            }
            Some((number, urgency, Phase::Waiting { .. } | Phase::GivenUp { .. })) => (number, urgency, None),
            None => {
                let shift = event.responder.as_ref().and_then(|r| self.here.get(r)).map(|s| s.number);
                (self.number(), event.urgency.unwrap_or_default(), shift.zip(self.began_ms))
            }
        };
        if let Some((shift, from_ms)) = span {
            self.spans.push_back(Span { shift, from_ms, to_ms: at_ms, on: On::Chat });
        }
        (number, urgency)
    }

    fn reopened(&mut self, id: &ChatId) {
        let Some(Followed { number, phase, .. }) = self.chats.get_mut(id) else {
            return;
        };
        let Phase::GivenUp { since_ms, first, at_ms } = *phase else {
            return;
        };
        *phase = Phase::Waiting { since_ms, first };
        // It was not the end of the wait after all.
        let number = *number;
        let from = self.records.partition_point(|r| r.at_ms < at_ms);
        let of_it = |r: &Record| r.chat == number && matches!(r.what, What::Waited { .. });
        let found = self.records.iter().skip(from).position(of_it);
        if let Some(found) = found {
            self.records.remove(from + found);
        }
    }

    fn wrapped_up(&mut self, id: &ChatId, event: &Event) {
        let Some(shift) = event.responder.as_ref().and_then(|r| self.here.get_mut(r)) else {
            return;
        };
        let number = shift.number;
        if let Some(WrapUp { chat, urgency, since_ms }) = shift.wrapping.remove(id) {
            let ms = event.at_ms.saturating_sub(since_ms);
            self.record(event.at_ms, chat, Some(urgency), What::WrappedUp { ms });
            self.spans.push_back(Span { shift: number, from_ms: since_ms, to_ms: event.at_ms, on: On::Chat });
        }
    }

    fn number(&mut self) -> u64 {
        self.chats_seen += 1;
        self.chats_seen
    }

    fn follow(&mut self, id: &ChatId, chat: Followed, at_ms: u64) {
        if self.chats.len() >= MAX_FOLLOWED && !self.chats.contains_key(id) {
            // From here on the report would leave somebody out: it covers only what comes later.
            self.covered_since_ms = at_ms;
            return;
        }
        self.chats.insert(id.clone(), chat);
    }

    fn record(&mut self, at_ms: u64, chat: u64, urgency: Option<Urgency>, what: What) {
        self.records.push_back(Record { at_ms, chat, urgency: urgency.unwrap_or_default(), what });
    }

    fn trim(&mut self) {
        let oldest = self.last_ms.saturating_sub(MAX_WINDOW_MS);
        while self.records.front().is_some_and(|r| r.at_ms < oldest) {
            self.records.pop_front();
        }
        while self.spans.front().is_some_and(|s| s.to_ms < oldest) {
            self.spans.pop_front();
        }
        while self.records.len() > MAX_RECORDS {
            let dropped = self.records.pop_front().map_or(0, |r| r.at_ms + 1);
            self.covered_since_ms = self.covered_since_ms.max(dropped);
        }
        while self.spans.len() > MAX_RECORDS {
            let dropped = self.spans.pop_front().map_or(0, |s| s.to_ms + 1);
            self.covered_since_ms = self.covered_since_ms.max(dropped);
        }
    }

    /// Reports on the time up to `now_ms`, at the most 48 hours, under a policy's promise.
    #[must_use]
    pub fn report(&self, window_ms: u64, now_ms: u64, policy: &Policy) -> Kpis {
        let now = now_ms.max(self.last_ms);
        let known = if self.began_ms.is_some() { self.covered_since_ms } else { now };
        let start = now.saturating_sub(window_ms.min(MAX_WINDOW_MS)).max(known).min(now);
        let mut all = Cell::default();
        let mut cells = <[Cell; 4]>::default();
        let from = self.records.partition_point(|r| r.at_ms < start);
        for record in self.records.iter().skip(from) {
            let promise_ms = Numbers::by(&policy.promise.reach_within_ms, record.urgency);
            all.add(record, promise_ms);
            if let Some(cell) = cells.get_mut(record.urgency.rank()) {
                cell.add(record, promise_ms);
            }
        }
        for chat in self.chats.values() {
            if let Phase::Waiting { since_ms, .. } = chat.phase {
                let ms = now.saturating_sub(since_ms);
                all.waits(chat.number, ms);
                if let Some(cell) = cells.get_mut(chat.urgency.rank()) {
                    cell.waits(chat.number, ms);
                }
            }
        }
        let told = told(cells.each_ref().map(|cell| cell.visitors.len()));
        let enough = all.visitors.len() >= FEWEST_VISITORS;
        let mut told = told.into_iter().map(|told| told && enough);
        Kpis {
            window_ms: now - start,
            by_urgency: cells.map(|cell| told.next().unwrap_or(false).then(|| cell.figures())),
            all: enough.then(|| all.figures()),
            occupancy: self.occupancy(start, now, policy),
        }
    }

    fn occupancy(&self, start: u64, now: u64, policy: &Policy) -> f64 {
        let past = self.spans.iter().skip(self.spans.partition_point(|s| s.to_ms <= start)).copied();
        let mut on_shift = 0;
        let mut busy: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for Span { shift, from_ms, to_ms, on } in past.chain(self.present(now)) {
            let to_ms = match on {
                On::Shift | On::Chat => to_ms,
                On::WrapUp(urgency) => to_ms.min(from_ms + Numbers::by(&policy.numbers.wrap_up_ms, urgency)),
            };
            let from_ms = from_ms.max(start);
            match on {
                On::Shift => on_shift += to_ms.saturating_sub(from_ms),
                On::Chat | On::WrapUp(_) => busy.entry(shift).or_default().push((from_ms, to_ms)),
            }
        }
        share(busy.into_values().map(covered).sum(), on_shift)
    }

    /// What is going on now, as if it ended now.
    fn present(&self, now: u64) -> impl Iterator<Item = Span> {
        let shifts = self.here.values().flat_map(move |shift| {
            let span = move |from_ms, on| Span { shift: shift.number, from_ms, to_ms: now, on };
            let wrapping = shift.wrapping.values().map(move |w| span(w.since_ms, On::WrapUp(w.urgency)));
            std::iter::once(span(shift.since_ms, On::Shift)).chain(wrapping)
        });
        let chats = self.chats.values().filter_map(move |chat| match chat.phase {
            Phase::InHand { since_ms, shift } => Some(Span { shift, from_ms: since_ms, to_ms: now, on: On::Chat }),
            Phase::Waiting { .. } | Phase::GivenUp { .. } => None,
        });
        shifts.chain(chats)
    }
}

/// How much time is in at least one of these.
fn covered(mut spans: Vec<(u64, u64)>) -> u64 {
    spans.sort_unstable();
    let mut reached = 0;
    let mut sum = 0;
    for (from, to) in spans {
        sum += to.saturating_sub(from.max(reached));
        reached = reached.max(to);
    }
    sum
}

/// What is known of one urgency, or of all.
#[derive(Debug, Default)]
struct Cell {
    visitors: BTreeSet<u64>,
    requested: u64,
    taken_in: u64,
    waits: Vec<u64>,
    in_time: u64,
    /// First waits that nobody here or elsewhere ended, by outcome: left or given up, and the others.
    gone: u64,
    turned_away: u64,
    longest_ms: Option<u64>,
    handling: Vec<u64>,
    wrap_up: Vec<u64>,
    overflowed: u64,
    fallback: u64,
}

impl Cell {
    fn add(&mut self, record: &Record, promise_ms: u64) {
        self.visitors.insert(record.chat);
        match record.what {
            What::Came { taken_in } => {
                self.requested += 1;
                self.taken_in += u64::from(taken_in);
            }
            What::Waited { ms, first, end } => {
                self.longest_ms = self.longest_ms.max(Some(ms));
                self.add_end_of_wait(ms, first, end, promise_ms);
            }
            What::Handled { ms } => self.handling.push(ms),
            What::WrappedUp { ms } => self.wrap_up.push(ms),
        }
    }

    fn add_end_of_wait(&mut self, ms: u64, first: bool, end: EndOfWait, promise_ms: u64) {
        match end {
            EndOfWait::Accepted if first => {
                self.waits.push(ms);
                self.in_time += u64::from(ms <= promise_ms);
            }
            EndOfWait::Accepted => {}
            EndOfWait::Ended(EndedAs::Left | EndedAs::Abandoned) => self.gone += u64::from(first),
            EndOfWait::Ended(EndedAs::Blocked | EndedAs::Completed) => self.turned_away += u64::from(first),
            EndOfWait::Ended(EndedAs::Fallback) => {
                self.turned_away += u64::from(first);
                self.fallback += 1;
            }
            EndOfWait::Ended(EndedAs::Overflowed) => self.overflowed += 1,
        }
    }

    /// Somebody waits now, and has for so long.
    fn waits(&mut self, chat: u64, ms: u64) {
        self.visitors.insert(chat);
        self.longest_ms = self.longest_ms.max(Some(ms));
    }

    fn figures(self) -> Figures {
        let answered = self.waits.len() as u64;
        let over = answered + self.gone + self.turned_away;
        Figures {
            requested: self.requested,
            answered,
            answer_rate: share(answered, over),
            abandonment_rate: share(self.gone, over),
            service_level: share(self.in_time, answered),
            average_speed_to_answer_ms: self.waits.iter().sum::<u64>().checked_div(answered),
            wait: Percentiles::of(self.waits),
            longest_delay_ms: self.longest_ms,
            handling_time: Percentiles::of(self.handling),
            wrap_up: Percentiles::of(self.wrap_up),
            overflowed: self.overflowed,
            fallback: self.fallback,
            taken_in: self.taken_in,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of 2^53 is a share")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Which urgencies can be told of, by their visitors. Small cells cannot; and since all together minus those that are
/// told are those that are not, as many more of the smallest are left out as it takes until the untold together are
/// no small cell either.
fn told(visitors: [usize; 4]) -> [bool; 4] {
    let mut told = visitors.map(|n| n >= FEWEST_VISITORS);
    let untold: usize = visitors.iter().filter(|n| **n < FEWEST_VISITORS).sum();
    if (1..FEWEST_VISITORS).contains(&untold) {
        // The next smallest has enough of its own.
        let next = visitors.iter().zip(&mut told).filter(|(_, told)| **told).min_by_key(|(n, _)| **n);
        next.into_iter().for_each(|(_, told)| *told = false);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_that_so_many_do_not_exceed() {
        let of = |durations: &[u64]| Percentiles::of(durations.to_vec()).map(|p| (p.p50_ms, p.p95_ms, p.p99_ms));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some((7, 7, 7)));
        assert_eq!(of(&[4, 1, 3, 2]), Some((2, 4, 4)));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(of(&hundred), Some((50, 95, 99)));
        let hundred_and_one: Vec<u64> = (1..=101).collect();
        assert_eq!(of(&hundred_and_one), Some((51, 96, 100)));
    }

    #[test]
    fn what_is_left_out_cannot_be_found_by_subtraction() {
        assert_eq!(told([9, 9, 9, 9]), [true, true, true, true]);
        assert_eq!(told([9, 9, 9, 0]), [true, true, true, false], "nobody is found where nobody was");
        assert_eq!(told([9, 8, 7, 4]), [true, true, false, false], "one alone takes the next smallest along");
        assert_eq!(told([9, 8, 3, 1]), [true, false, false, false], "and so do some who are few together");
        assert_eq!(told([9, 8, 3, 2]), [true, true, false, false], "five together are enough");
        assert_eq!(told([9, 0, 1, 0]), [false, false, false, false]);
        assert_eq!(told([1, 1, 1, 1]), [false, false, false, false]);
    }

    #[test]
    fn time_that_is_spent_twice_counts_once() {
        assert_eq!(covered(vec![(5, 9), (0, 3), (2, 6), (20, 30), (22, 25)]), 19);
        assert_eq!(covered(vec![(5, 3)]), 0);
    }
}
