//! What the events tell, one after the other.

use super::{Findings, History, Law};
use crate::chaos::history::{Event, Fence};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The service clock may seem so much faster than ours: events are read a moment after they happen.
const LAG_MS: i64 = 2_000;
/// And it takes a step of at most a second when the store's clock jumps.
const STEP_MS: i64 = 1_000;
/// After a hold is over, whoever was held is offered within this.
const HOLD_LAG_MS: u64 = 2_000;
/// The line looks so deep past those who cannot be asked.
const DEPTH: usize = 16;

/// Where a chat stands, by the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stand {
    InLine,
    Owned {
        responder: String,
        fence: Fence,
    },
    Ended {
        outcome: String,
        reason: String,
    },
    /// The store has lost it; the first word of the next store was read then.
    Lost {
        since_ms: u64,
    },
}

/// What the events tell of a chat.
#[derive(Debug, Clone)]
pub(super) struct Story {
    pub(super) stand: Stand,
    /// Its last event was read then.
    pub(super) last_ms: u64,
    urgency: u8,
    arrival: i64,
    order: u64,
    away: bool,
    returned: bool,
    offers: BTreeMap<u32, String>,
    asked: Vec<(String, u64)>,
    fence: Option<Fence>,
    /// Where it stands in the order of the line.
    rank: Option<Rank>,
    /// It came back after a loss, and is offered to nobody until the hold is over.
    held: bool,
    /// Under which store its last event was, counted from 0.
    pub(super) life: usize,
}

impl Story {
    fn new(event: &Event, life: usize) -> Self {
        Self {
            stand: Stand::InLine,
            last_ms: event.at_ms,
            urgency: event.urgency,
            arrival: i64::try_from(event.clock_ms).unwrap_or(0),
            order: event.sequence,
            away: false,
            returned: false,
            offers: BTreeMap::new(),
            asked: Vec::new(),
            fence: None,
            rank: None,
            held: false,
            life,
        }
    }
}

/// IMMINENT first, then score, then who came first.
type Rank = (bool, i64, u64);

/// All chats, by the events.
pub(super) struct Line {
    pub(super) chats: HashMap<String, Story>,
    in_line: BTreeMap<Rank, String>,
    /// What is in whose hands: offers, chats, wrap-ups.
    hands: HashMap<String, BTreeSet<String>>,
    requested: u64,
    ended: u64,
    /// Counts the stores that were lost.
    pub(super) life: usize,
    /// By the service clock: nobody who came back is offered before.
    held_until: u64,
}

/// Reads all events, and holds them to what can be said of each.
pub(super) fn read(history: &History, findings: &mut Findings) -> Line {
    let mut line = Line {
        chats: HashMap::new(),
        in_line: BTreeMap::new(),
        hands: HashMap::new(),
        requested: 0,
        ended: 0,
        life: 0,
        held_until: 0,
    };
    stream(history, findings);
    clock(history, findings);
    let mut generation = None;
    for event in &history.events {
        let another = generation.replace(&event.generation).is_some_and(|before| *before != event.generation);
        if another && history.wipe_before(event.at_ms).is_some() {
            line.begins_anew(history, event);
        }
        line.take(history, event, findings);
    }
    line.ledger(history, findings);
    line
}

fn stream(history: &History, findings: &mut Findings) {
    let pairs = history.events.iter().zip(history.events.iter().skip(1));
    for (one, next) in pairs {
        let (from, to) = (one.sequence, next.sequence);
        let same = one.generation == next.generation;
        let follows = if same { to == from + 1 } else { to == 1 };
        findings.expect(Law::Stream, follows, || format!("event {to} came after {from}"));
        let wiped = history.wipe_before(next.at_ms).is_some();
        findings.expect(Law::Stream, same || wiped, || format!("the store was another one at event {to}"));
    }
}

fn clock(history: &History, findings: &mut Findings) {
    let off = |event: &Event| i64::try_from(event.clock_ms).unwrap_or(0) - i64::try_from(event.at_ms).unwrap_or(0);
    let jumps = history.faults.iter().filter(|fault| fault.class == "clock_jump").count();
    let allowed = LAG_MS + STEP_MS * 2 * i64::try_from(jumps).unwrap_or(0);
    let Some(usual) = history.events.iter().take(5).map(off).max() else { return };
    let (mut last, mut generation) = (0, "");
    for event in &history.events {
        // What began anew has a clock of its own.
        if event.generation != generation {
            (last, generation) = (0, &event.generation);
        }
        let (at, ahead) = (event.clock_ms, off(event) - usual);
        let sequence = event.sequence;
        findings.expect(Law::Clock, at >= last, || format!("event {sequence}: {} ms back", last - at));
        findings.expect(Law::Clock, ahead <= allowed, || format!("event {sequence}: {ahead} ms ahead of time"));
        last = at.max(last);
    }
}

impl Line {
    fn take(&mut self, history: &History, event: &Event, findings: &mut Findings) {
        self.ends_hold(history, event);
        match event.kind.as_str() {
            "requested" => self.requested(event, findings),
            "signed_out" => {
                // What they were writing notes about is nobody's any more; the rest is told of.
                let of_theirs = |chat: &String| {
                    self.chats.get(chat).is_some_and(|story| !matches!(story.stand, Stand::Ended { .. }))
                };
                if let Some(held) = self.hands.get_mut(&event.responder) {
                    held.retain(of_theirs);
                }
            }
            "wrapped_up" => self.drop_holding(&event.responder, &event.chat),
            "offered" => {
                self.in_turn(history, event, findings);
                self.offered(history, event, findings);
            }
            "declined" | "missed" | "rescinded" => self.offer_gone(event, findings),
            "accepted" => self.accepted(event, findings),
            "engaged" => self.by_owner(event, findings),
            "restored" => self.restored(event, findings),
            "reclaimed" => self.reclaimed(history, event, findings),
            "returned" => self.returned(event, findings),
            "ended" => self.ended(event, findings),
            "away" | "back" | "triaged" | "reopened" => self.changed(event, findings),
            _ => {}
        }
        self.stand_in_line(history, &event.chat);
    }

    fn story(&mut self, event: &Event, findings: &mut Findings) -> Option<&mut Story> {
        let known = self.chats.contains_key(&event.chat);
        let about = about(event);
        findings.expect(Law::Loss, known, || format!("{about}: of a chat that nobody asked for"));
        let story = self.chats.get_mut(&event.chat)?;
        (story.last_ms, story.life) = (event.at_ms, self.life);
        Some(story)
    }

    fn requested(&mut self, event: &Event, findings: &mut Findings) {
        self.requested += 1;
        let fresh = self.chats.insert(event.chat.clone(), Story::new(event, self.life)).is_none();
        findings.expect(Law::Idempotency, fresh, || format!("{}: it was asked for before", about(event)));
    }

    /// The store has lost everything: who was in the line or in somebody's hands must come back.
    fn begins_anew(&mut self, history: &History, first: &Event) {
        self.life += 1;
        self.held_until = first.clock_ms + history.world.recovery_hold_ms;
        (self.requested, self.ended) = (0, 0);
        self.hands.clear();
        self.in_line.clear();
        for story in self.chats.values_mut() {
            (story.rank, story.away) = (None, false);
            story.offers.clear();
            story.asked.clear();
            if matches!(story.stand, Stand::InLine | Stand::Owned { .. }) {
                story.stand = Stand::Lost { since_ms: first.at_ms };
            }
        }
    }

    fn restored(&mut self, event: &Event, findings: &mut Findings) {
        self.requested += 1;
        let life = self.life;
        // Its first words may have been lost before anybody read them; then nobody can say where it stands.
        let story = self.chats.entry(event.chat.clone()).or_insert_with(|| Story::new(event, life));
        let new = story.last_ms == event.at_ms && story.order == event.sequence;
        let was_lost = new || matches!(story.stand, Stand::Lost { .. });
        let stand = std::mem::replace(&mut story.stand, Stand::InLine);
        (story.last_ms, story.life, story.urgency, story.held) = (event.at_ms, life, event.urgency, true);
        findings.expect(Law::Loss, was_lost, || format!("{}: it was not lost, but {stand:?}", about(event)));
    }

    fn reclaimed(&mut self, history: &History, event: &Event, findings: &mut Findings) {
        let Some(story) = self.story(event, findings) else { return };
        let in_line = story.stand == Stand::InLine;
        let (before, fence) = (story.fence, event.fence);
        let theirs = fence >= before;
        (story.held, story.fence) = (false, fence.max(before));
        story.offers.clear();
        let fence = fence.unwrap_or(Fence { epoch: 0, minted_by: 0 });
        let responder = event.responder.clone();
        story.stand = Stand::Owned { responder: responder.clone(), fence };
        findings.expect(Law::Owners, in_line, || format!("{}: it had not come back", about(event)));
        findings.expect(Law::Fences, theirs, || format!("{}: {fence:?} is older than {before:?}", about(event)));
        let held = self.hands.entry(responder.clone()).or_default();
        held.insert(event.chat.clone());
        let of_theirs = |chat: &&String| {
            let stand = self.chats.get(*chat).map(|story| &story.stand);
            matches!(stand, Some(Stand::Owned { responder: owner, .. }) if *owner == responder)
        };
        let (load, capacity) = (held.iter().filter(of_theirs).count(), history.world.capacity as usize);
        findings.expect(Law::Capacity, load <= capacity, || {
            format!("{}: {responder} talks with {load}, for {capacity} at most", about(event))
        });
    }

    /// The hold is over: whoever came back and was not claimed stands in line like everybody else.
    fn ends_hold(&mut self, history: &History, event: &Event) {
        if self.held_until == 0 || event.clock_ms < self.held_until + HOLD_LAG_MS {
            return;
        }
        self.held_until = 0;
        let held: Vec<String> =
            self.chats.iter().filter(|(_, story)| story.held).map(|(chat, _)| chat.clone()).collect();
        for chat in held {
            if let Some(story) = self.chats.get_mut(&chat) {
                story.held = false;
            }
            self.stand_in_line(history, &chat);
        }
    }

    fn changed(&mut self, event: &Event, findings: &mut Findings) {
        let Some(story) = self.story(event, findings) else { return };
        match event.kind.as_str() {
            "away" => story.away = true,
            "back" => story.away = false,
            "triaged" => story.urgency = event.urgency,
            _ => {
                (story.stand, story.away) = (Stand::InLine, false);
                self.ended -= 1;
            }
        }
    }

    fn offered(&mut self, history: &History, event: &Event, findings: &mut Findings) {
        let Some(story) = self.story(event, findings) else { return };
        let in_line = story.stand == Stand::InLine;
        story.offers.insert(event.offer, event.responder.clone());
        findings.expect(Law::Owners, in_line, || format!("{}: it is not in the line", about(event)));
        let held = self.hands.entry(event.responder.clone()).or_default();
        held.insert(event.chat.clone());
        let (load, capacity) = (held.len(), history.world.capacity as usize);
        findings.expect(Law::Capacity, load <= capacity, || {
            format!("{}: {} carries {load} of {capacity}", about(event), event.responder)
        });
    }

    fn offer_gone(&mut self, event: &Event, findings: &mut Findings) {
        let Some(story) = self.story(event, findings) else { return };
        let open = story.offers.remove(&event.offer);
        if event.kind != "rescinded" {
            story.asked.push((event.responder.clone(), event.clock_ms));
        }
        let theirs = open.as_deref() == Some(event.responder.as_str());
        findings.expect(Law::Owners, theirs, || format!("{}: that offer was not open to them", about(event)));
        self.drop_holding(&event.responder, &event.chat);
    }

    fn accepted(&mut self, event: &Event, findings: &mut Findings) {
        let Some(story) = self.story(event, findings) else { return };
        let owner = match &story.stand {
            Stand::Owned { responder, .. } => Some(responder.clone()),
            Stand::InLine | Stand::Ended { .. } | Stand::Lost { .. } => None,
        };
        let (before, fence) = (story.fence, event.fence);
        let rises = fence.is_some_and(|fence| before.is_none_or(|before| fence.epoch > before.epoch));
        let was_ended = matches!(story.stand, Stand::Ended { .. });
        let others = story.offers.iter().filter(|(number, _)| **number != event.offer).count();
        story.offers.clear();
        story.fence = fence.max(before);
        let fence = fence.unwrap_or(Fence { epoch: 0, minted_by: 0 });
        story.stand = Stand::Owned { responder: event.responder.clone(), fence };
        findings.expect(Law::Owners, owner.is_none(), || {
            format!("{}: it was in the hands of {owner:?}", about(event))
        });
        findings.expect(Law::Owners, others == 0, || format!("{}: {others} other offers are open", about(event)));
        findings.expect(Law::Owners, !was_ended, || format!("{}: it had ended", about(event)));
        findings.expect(Law::Fences, rises, || {
            format!("{}: the fence {fence:?} does not rise above {before:?}", about(event))
        });
    }

    fn by_owner(&mut self, event: &Event, findings: &mut Findings) {
        let Some(story) = self.story(event, findings) else { return };
        let theirs = matches!(&story.stand, Stand::Owned { responder, fence }
            if *responder == event.responder && Some(*fence) == event.fence);
        findings.expect(Law::Owners, theirs, || format!("{}: it is not theirs", about(event)));
    }

    fn returned(&mut self, event: &Event, findings: &mut Findings) {
        self.by_owner(event, findings);
        let Some(story) = self.chats.get_mut(&event.chat) else { return };
        (story.stand, story.returned) = (Stand::InLine, true);
        // Who hands a chat on, or lets it wait, is not asked for it again at once. Whoever was lost may be.
        if event.reason != "responder_lost" {
            story.asked.push((event.responder.clone(), event.clock_ms));
        }
        self.drop_holding(&event.responder, &event.chat);
    }

    fn ended(&mut self, event: &Event, findings: &mut Findings) {
        self.ended += 1;
        let Some(story) = self.story(event, findings) else { return };
        let again = matches!(story.stand, Stand::Ended { .. });
        let active = matches!(story.stand, Stand::Owned { .. });
        let offers: Vec<String> = std::mem::take(&mut story.offers).into_values().collect();
        story.stand = Stand::Ended { outcome: event.outcome.clone(), reason: event.reason.clone() };
        findings.expect(Law::Loss, !again, || format!("{}: it had ended before", about(event)));
        let rescinded = offers.is_empty();
        findings.expect(Law::Owners, rescinded, || format!("{}: {offers:?} still have offers", about(event)));
        let completed = event.outcome == "completed" || event.outcome == "blocked";
        findings.expect(Law::Loss, active == completed || event.outcome == "blocked", || {
            format!("{}: as {}, though {}", about(event), event.outcome, if active { "active" } else { "in line" })
        });
    }

    fn drop_holding(&mut self, responder: &str, chat: &str) {
        if let Some(held) = self.hands.get_mut(responder) {
            held.remove(chat);
        }
    }

    /// Nobody who stands before this chat could have been offered to the same responder.
    fn in_turn(&mut self, history: &History, event: &Event, findings: &mut Findings) {
        let Some(rank) = self.chats.get(&event.chat).and_then(|story| story.rank) else { return };
        let before = |other: &Rank| (other.0, other.1) < (rank.0, rank.1);
        let mut passed_over = None;
        let mut backed_off = 0;
        for (_, chat) in self.in_line.range(..rank).filter(|(other, _)| before(other)) {
            let Some(story) = self.chats.get(chat) else { continue };
            if story.offers.values().any(|responder| *responder == event.responder) {
                continue;
            }
            let asked = |(responder, at): &(String, u64)| {
                *responder == event.responder && event.clock_ms < at + history.world.back_off_ms
            };
            if story.asked.iter().any(asked) {
                backed_off += 1;
                continue;
            }
            passed_over = passed_over.or_else(|| Some(chat.clone()));
        }
        // The line does not look past so many who cannot be asked.
        let holds = passed_over.is_none() || backed_off >= DEPTH;
        findings.expect(Law::Order, holds, || {
            format!("{}: {} stands before it", about(event), passed_over.unwrap_or_default())
        });
    }

    /// Keeps the order of the line as the contract says it is.
    fn stand_in_line(&mut self, history: &History, chat: &str) {
        let Some(story) = self.chats.get_mut(chat) else { return };
        if let Some(rank) = story.rank.take() {
            self.in_line.remove(&rank);
        }
        let world = &history.world;
        let room = story.offers.len() < if story.urgency == 3 { world.fan_out } else { 1 };
        if story.stand != Stand::InLine || story.away || story.held || !room {
            return;
        }
        let head_start = world.head_start_ms.get(usize::from(story.urgency)).copied().unwrap_or(0);
        let again = if story.returned { world.return_head_start_ms } else { 0 };
        let taken_off = if story.urgency == 3 { 0 } else { i64::try_from(head_start + again).unwrap_or(0) };
        let rank = (story.urgency != 3, story.arrival - taken_off, story.order);
        story.rank = Some(rank);
        self.in_line.insert(rank, chat.to_owned());
    }

    fn ledger(&self, history: &History, findings: &mut Findings) {
        for floor in &history.floors {
            let (at, difference) = (floor.at_ms, floor.difference);
            let open = floor.waiting + floor.offered + floor.active;
            let balanced = difference == 0 && floor.accepted == open + floor.ended;
            findings.expect(Law::Ledger, balanced, || format!("at {at} ms: {floor:?}"));
        }
        let Some(last) = history.floors.iter().rfind(|floor| floor.last) else {
            return findings.expect(Law::Ledger, false, || "nobody counted at the end".to_owned());
        };
        let told = (self.requested, self.ended);
        let counted = (last.accepted, last.ended);
        findings.expect(Law::Ledger, told == counted, || {
            format!("the events tell of {told:?} accepted and ended, the line counts {counted:?}")
        });
    }
}

fn about(event: &Event) -> String {
    let responder = if event.responder.is_empty() { String::new() } else { format!(" {}", event.responder) };
    format!("event {} ({} {}{responder})", event.sequence, event.kind, event.chat)
}
