//! The first witness: reads a line's events and nothing else, keeps its own account of every chat and every responder,
//! and says where the events contradict what the line promises.
//!
//! It shares no code with the line. What it knows comes from the contract and from the policies: the words of the
//! events, what a chat weighs, that a wrap-up follows a chat. Read a second time, when everybody has said what they
//! needed and what they could do, it also says who should have been asked (`turn`).
//!
//! - `law`: what must hold, and how often it was looked at
//! - `duty`: responders: presence, load, care
//! - `partners`: chats that go to the partner, and those that come from there
//! - `turn`: who should have been asked

mod duty;
mod law;
mod partners;
mod turn;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use holdfast_proto::v1::{ChatOutcome, Event, Urgency};

use duty::{Duty, Holding};
pub(super) use law::{Law, Tally};
pub(super) use turn::{Known, Skills};

use super::rules::{House, Policy, Rules};

/// Complaints that are kept in words; the others are only counted.
const MAX_KEPT: usize = 100;
/// Events of these kinds are kept for the report: what the whole evening will remember.
const MEMORABLE: [&str; 5] = ["surge", "paging", "page_failed", "gate_closed", "gate_opened"];

/// Where a chat stands, by the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// Kept for the partner, and not in this line.
    Held,
    Waiting,
    Offered,
    Active,
    Ended(ChatOutcome),
}

/// A chat in one pair of hands, from one event to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) responder: String,
    pub(super) epoch: u64,
    pub(super) minted_by: u32,
    pub(super) from: u64,
    pub(super) to: Option<u64>,
}

/// A chat's way to a partner, or from there: with whom, and which proposal of the chat it was.
pub(super) type Passage = (String, u64);

/// What the events tell of one chat.
#[derive(Debug, Clone)]
pub(super) struct Story {
    pub(super) stand: Stand,
    pub(super) urgency: Urgency,
    pub(super) away: bool,
    pub(super) open_offers: BTreeMap<u32, String>,
    /// So many were made; their numbers count up from 1.
    pub(super) offers: u32,
    pub(super) tenures: Vec<Tenure>,
    /// Milliseconds of the service clock at which hands took it.
    pub(super) accepted_at_ms: Vec<u64>,
    /// When it came, and how urgent it was then.
    pub(super) came: (u64, Urgency),
    /// When hands took it first, and how urgent it was then.
    pub(super) answered: Option<(u64, Urgency)>,
    /// To how many it may be offered at once.
    fan_out: u32,
    /// It came back from hands.
    returned: bool,
    /// Which step of its ladder is in force.
    step: usize,
    /// Who was asked and did not take it, and when.
    asked: Vec<(String, u64)>,
    proposals: u64,
    proposal: Option<Passage>,
    pub(super) went_to: Option<Passage>,
    pub(super) came_from: Option<Passage>,
}

impl Story {
    fn new(stand: Stand, event: &Event, fan_out: u32) -> Self {
        Self {
            stand,
            urgency: event.urgency(),
            away: false,
            open_offers: BTreeMap::new(),
            offers: 0,
            tenures: Vec::new(),
            accepted_at_ms: Vec::new(),
            came: (event.at_ms, event.urgency()),
            answered: None,
            fan_out,
            returned: false,
            step: 0,
            asked: Vec::new(),
            proposals: 0,
            proposal: None,
            went_to: None,
            came_from: None,
        }
    }

    fn owned(&self) -> bool {
        self.tenures.last().is_some_and(|t| t.to.is_none())
    }

    fn in_line(&self) -> bool {
        matches!(self.stand, Stand::Waiting | Stand::Offered)
    }

    /// Pairs of tenures that overlap.
    fn overlaps(&self) -> usize {
        let mut by_beginning: Vec<&Tenure> = self.tenures.iter().collect();
        by_beginning.sort_by_key(|t| t.from);
        let pairs = by_beginning.iter().zip(by_beginning.iter().skip(1));
        pairs.filter(|(one, next)| one.to.is_none_or(|to| to > next.from)).count()
    }
}

/// Where every chat is, by the events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Account {
    pub(super) accepted: u64,
    pub(super) waiting: u64,
    pub(super) offered: u64,
    pub(super) active: u64,
    /// By number of the outcome.
    pub(super) ended: BTreeMap<i32, u64>,
}

impl Account {
    pub(super) fn all_ended(&self) -> u64 {
        self.ended.values().sum()
    }

    pub(super) fn open(&self) -> u64 {
        self.waiting + self.offered + self.active
    }

    pub(super) fn ended_as(&self, outcome: ChatOutcome) -> u64 {
        self.ended.get(&(outcome as i32)).copied().unwrap_or(0)
    }
}

/// The account that the events of a helpline keep.
#[derive(Debug)]
pub(super) struct Fold {
    house: House,
    rules: Arc<Rules>,
    capacity: u32,
    known: Option<Known>,
    chats: BTreeMap<String, Story>,
    responders: HashMap<String, Duty>,
    kinds: BTreeMap<String, u64>,
    reasons: BTreeMap<(String, String), u64>,
    /// Offers, by the policy revision under which they were made.
    offers_by_revision: BTreeMap<u64, u64>,
    memorable: Vec<Event>,
    /// Everything that was done because a supervisor asked for it.
    supervised: Vec<Event>,
    revision: u64,
    stage: u64,
    gate_open: bool,
    /// Times that somebody had as many hard chats in a row as is good.
    spared: u64,
    last_sequence: u64,
    last_at_ms: u64,
    last_cursor: String,
    tallies: BTreeMap<Law, Tally>,
    /// Chats beside somebody who could serve them, since when.
    beside: HashMap<String, u64>,
    next_look_ms: u64,
    complaints: Vec<String>,
    complained: u64,
}

impl Fold {
    /// Every responder carries `capacity`.
    pub(super) fn new(house: House, rules: Arc<Rules>, capacity: u32) -> Self {
        let gate_open = rules.of(house).numbers.min_on_shift == 0;
        Self {
            house,
            rules,
            capacity,
            known: None,
            chats: BTreeMap::new(),
            responders: HashMap::new(),
            kinds: BTreeMap::new(),
            reasons: BTreeMap::new(),
            offers_by_revision: BTreeMap::new(),
            memorable: Vec::new(),
            supervised: Vec::new(),
            revision: 0,
            stage: 0,
            gate_open,
            spared: 0,
            last_sequence: 0,
            last_at_ms: 0,
            last_cursor: String::new(),
            tallies: BTreeMap::new(),
            beside: HashMap::new(),
            next_look_ms: 0,
            complaints: Vec::new(),
            complained: 0,
        }
    }

    /// The same, by somebody who knows what everybody needed and could do.
    pub(super) fn knowing(self, known: Known) -> Self {
        Self { known: Some(known), ..self }
    }

    fn policy(&self) -> &Policy {
        self.rules.at(self.house, self.revision)
    }

    /// Takes the next event of the stream.
    pub(super) fn take(&mut self, event: &Event) {
        self.look_around(event.at_ms);
        self.keep_order(event);
        self.remember(event);
        match event.kind.as_str() {
            "requested" => self.requested(event),
            "triaged" => self.triaged(event),
            "relaxed" => self.relaxed(event),
            "away" => self.away(event, true),
            "back" => self.away(event, false),
            "offered" => self.offered(event),
            "declined" | "missed" => self.not_taken(event),
            "rescinded" => self.offer_gone(event),
            "accepted" => self.accepted(event),
            "engaged" | "supervisor_called" => self.by_owner(event),
            "returned" => self.returned(event),
            "ended" => self.ended(event),
            "reopened" => self.reopened(event),
            "forgotten" => self.complain(event, "a chat was forgotten long before its time"),
            "overflowing" => self.overflowing(event),
            "overflow_refused" => self.overflow_refused(event),
            "held" => self.held(event),
            "hold_due" => self.hold_due(event),
            "admitted" => self.admitted(event),
            "released" => self.released(event),
            "signed_in" => self.signed_in(event),
            "status_changed" => self.status_changed(event),
            "unlinked" => self.duty(event).linked = false,
            "signed_out" => self.signed_out(event),
            "wrapped_up" => self.drop_holding(event, Holding::WrapUp),
            "cooling_down" => self.duty(event).cooling = true,
            "cooled_down" => self.duty(event).cooling = false,
            "surge" => self.surge(event),
            "paging" => self.expect(Law::Surge, event, self.stage > 0, "volunteers are called up in no surge"),
            "gate_closed" => self.gate(event, false),
            "gate_opened" => self.gate(event, true),
            // Words that are not known are passed over, as the contract asks.
            _ => {}
        }
    }

    fn keep_order(&mut self, event: &Event) {
        let last = self.last_sequence;
        let next = event.sequence == last + 1;
        self.expect(Law::Stream, event, next, &format!("the event before it is {last}: a gap"));
        let forward = event.at_ms >= self.last_at_ms;
        self.expect(Law::Stream, event, forward, "the service clock went back");
        self.revision += u64::from(event.kind == "policy_set");
        let in_force = event.policy_revision == self.revision;
        let told = event.policy_revision;
        let expected = self.revision;
        self.expect(Law::Revision, event, in_force, &format!("says revision {told}, in force is {expected}"));
        self.last_sequence = event.sequence.max(self.last_sequence);
        self.last_at_ms = event.at_ms.max(self.last_at_ms);
        self.last_cursor.clone_from(&event.cursor);
    }

    fn remember(&mut self, event: &Event) {
        *self.kinds.entry(event.kind.clone()).or_default() += 1;
        let with_reason = (event.kind.clone(), event.reason.clone());
        *self.reasons.entry(with_reason).or_default() += 1;
        if event.kind == "offered" {
            *self.offers_by_revision.entry(event.policy_revision).or_default() += 1;
        }
        if MEMORABLE.contains(&event.kind.as_str()) {
            self.memorable.push(event.clone());
        }
        if !event.supervisor_id.is_empty() {
            self.supervised.push(event.clone());
        }
    }

    fn complain(&mut self, event: &Event, what: &str) {
        let mut about = event.kind.clone();
        for name in [&event.chat_id, &event.responder_id] {
            if !name.is_empty() {
                about = format!("{about} {name}");
            }
        }
        let line = format!("{} {} ({about}): {what}", self.house.name(), event.sequence);
        self.complain_of(line);
    }

    fn complain_of(&mut self, line: String) {
        self.complained += 1;
        if self.complaints.len() < MAX_KEPT {
            self.complaints.push(line);
        }
    }

    /// Changes what is known of the event's chat; an unknown chat is a complaint.
    fn with_story<T: Default>(&mut self, event: &Event, change: impl FnOnce(&mut Story) -> T) -> T {
        let Some(story) = self.chats.get_mut(&event.chat_id) else {
            self.complain(event, "of a chat that nobody asked for");
            return T::default();
        };
        change(story)
    }

    /// Holds an event to a law.
    fn expect(&mut self, law: Law, event: &Event, holds: bool, otherwise: &str) {
        let tally = self.tallies.entry(law).or_default();
        tally.looked += 1;
        if !holds {
            tally.broken += 1;
            self.complain(event, otherwise);
        }
    }

    fn fan_out(&self, urgency: Urgency) -> u32 {
        if urgency != Urgency::Imminent {
            return 1;
        }
        let policy = self.policy();
        let stage = usize::try_from(self.stage).unwrap_or(0).checked_sub(1).and_then(|at| policy.surge.get(at));
        stage.map(|stage| stage.fan_out).filter(|fan_out| *fan_out > 0).unwrap_or(policy.numbers.fan_out)
    }

    fn requested(&mut self, event: &Event) {
        let story = Story::new(Stand::Waiting, event, self.fan_out(event.urgency()));
        let twice = self.chats.insert(event.chat_id.clone(), story).is_some();
        self.expect(Law::OneEnd, event, !twice, "the chat was asked for before");
    }

    fn triaged(&mut self, event: &Event) {
        let (urgency, fan_out) = (event.urgency(), self.fan_out(event.urgency()));
        let hands = self.with_story(event, |story| {
            (story.urgency, story.fan_out) = (urgency, fan_out);
            let owner = story.tenures.last().filter(|t| t.to.is_none()).map(|t| t.responder.clone());
            story.open_offers.values().cloned().chain(owner).collect::<Vec<String>>()
        });
        self.grow_hard(event, &hands);
    }

    /// The ladder lets go of a wish, never before its time.
    fn relaxed(&mut self, event: &Event) {
        let in_turn = self.with_story(event, |story| {
            story.step += 1;
            u64::try_from(story.step) == Ok(event.number)
        });
        self.expect(Law::Ladder, event, in_turn, "the step is not the next one");
        self.check_step_is_due(event);
    }

    fn away(&mut self, event: &Event, away: bool) {
        let in_line = self.with_story(event, |story| {
            story.away = away;
            story.in_line()
        });
        self.expect(Law::Away, event, in_line, "of a chat that is not in the line");
    }

    fn offered(&mut self, event: &Event) {
        let by_supervisor = !event.supervisor_id.is_empty();
        if !by_supervisor {
            self.check_turn(event);
        }
        let number = event.offer_number;
        let responder = event.responder_id.clone();
        let (in_line, here, fresh) = self.with_story(event, |story| {
            let in_line = story.in_line();
            story.offers += 1;
            let fresh = number == story.offers;
            story.open_offers.insert(number, responder);
            if in_line {
                story.stand = Stand::Offered;
            }
            (in_line, !story.away, fresh)
        });
        self.expect(Law::OneEnd, event, in_line, "a chat was offered that is not in the line");
        self.expect(Law::Away, event, here, "a chat was offered whose visitor is away");
        self.expect(Law::OneEnd, event, fresh, "the offer's number is not the next one");
        self.hold_offer(event, by_supervisor);
    }

    /// Declined or missed: the same responder is not asked again for a while.
    fn not_taken(&mut self, event: &Event) {
        self.offer_gone(event);
        self.with_story(event, |story| story.asked.push((event.responder_id.clone(), event.at_ms)));
    }

    fn offer_gone(&mut self, event: &Event) {
        let known = self.with_story(event, |story| {
            let to = story.open_offers.remove(&event.offer_number);
            if story.open_offers.is_empty() && story.stand == Stand::Offered {
                story.stand = Stand::Waiting;
            }
            to.as_deref() == Some(event.responder_id.as_str())
        });
        self.expect(Law::OneEnd, event, known, "an offer is gone that was not open to that responder");
        self.drop_holding(event, Holding::Offer);
    }

    fn accepted(&mut self, event: &Event) {
        let fence = event.fence.unwrap_or_default();
        let (offered, others, free, rises) = self.with_story(event, |story| {
            let to = story.open_offers.remove(&event.offer_number);
            let offered = to.as_deref() == Some(event.responder_id.as_str());
            let others = story.open_offers.len();
            let free = !story.owned();
            let rises = story.tenures.iter().all(|t| t.epoch < fence.epoch);
            story.stand = Stand::Active;
            story.proposal = None;
            story.accepted_at_ms.push(event.at_ms);
            story.answered.get_or_insert((event.at_ms, event.urgency()));
            story.tenures.push(Tenure {
                responder: event.responder_id.clone(),
                epoch: fence.epoch,
                minted_by: fence.minted_by,
                from: event.sequence,
                to: None,
            });
            (offered, others, free, rises)
        });
        self.expect(Law::OneOwner, event, offered, "accepted without an open offer to that responder");
        self.expect(Law::OneOwner, event, others == 0, "other offers stay open beside the owner");
        self.expect(Law::OneOwner, event, free, "DOUBLE OWNER: the chat is in other hands");
        let otherwise = format!("epoch {} is not above those before", fence.epoch);
        self.expect(Law::OneOwner, event, rises, &otherwise);
        self.take_in_hand(event);
    }

    fn is_owner(story: &Story, event: &Event) -> bool {
        let epoch = event.fence.map(|f| f.epoch);
        story
            .tenures
            .last()
            .is_some_and(|t| t.to.is_none() && t.responder == event.responder_id && Some(t.epoch) == epoch)
    }

    fn by_owner(&mut self, event: &Event) {
        let owner = self.with_story(event, |story| Self::is_owner(story, event));
        self.expect(Law::OneOwner, event, owner, "by somebody who is not the owner");
    }

    fn close_tenure(story: &mut Story, sequence: u64) {
        if let Some(tenure) = story.tenures.last_mut() {
            tenure.to = Some(sequence);
        }
    }

    fn returned(&mut self, event: &Event) {
        let fan_out = self.chats.get(&event.chat_id).map_or(1, |story| self.fan_out(story.urgency));
        let gone = matches!(event.reason.as_str(), "responder_lost" | "asked");
        let owner = self.with_story(event, |story| {
            let owner = Self::is_owner(story, event);
            Self::close_tenure(story, event.sequence);
            (story.stand, story.returned, story.fan_out) = (Stand::Waiting, true, fan_out);
            if !gone {
                story.asked.push((event.responder_id.clone(), event.at_ms));
            }
            owner
        });
        self.expect(Law::OneOwner, event, owner, "it comes back from hands that did not own it");
        self.drop_holding(event, Holding::Active);
    }

    fn ended(&mut self, event: &Event) {
        let outcome = event.outcome();
        let (once, right_hands, no_offers, was_owned) = self.with_story(event, |story| {
            let once = !matches!(story.stand, Stand::Ended(_) | Stand::Held);
            let was_owned = story.owned();
            let right_hands = if was_owned { Self::is_owner(story, event) } else { event.responder_id.is_empty() };
            if was_owned {
                Self::close_tenure(story, event.sequence);
            }
            story.stand = Stand::Ended(outcome);
            story.away = false;
            (once, right_hands, story.open_offers.is_empty(), was_owned)
        });
        let fits = match outcome {
            ChatOutcome::Unspecified => false,
            ChatOutcome::Completed => was_owned,
            ChatOutcome::Blocked => true,
            ChatOutcome::Left | ChatOutcome::Abandoned | ChatOutcome::Overflowed | ChatOutcome::Fallback => {
                !was_owned
            }
        };
        self.expect(Law::OneEnd, event, once, "the chat had ended before");
        self.expect(Law::OneEnd, event, right_hands, "it ended in hands that are not the owner's");
        self.expect(Law::OneEnd, event, no_offers, "it ended and is still offered");
        self.expect(Law::OneEnd, event, fits, "the outcome does not fit");
        self.let_go(event);
        if was_owned {
            self.wind_down(event);
        }
    }

    fn reopened(&mut self, event: &Event) {
        let abandoned = self.with_story(event, |story| {
            let abandoned = story.stand == Stand::Ended(ChatOutcome::Abandoned);
            story.stand = Stand::Waiting;
            abandoned
        });
        let otherwise = "re-opened although it was not given up as abandoned";
        self.expect(Law::OneEnd, event, abandoned, otherwise);
    }

    fn surge(&mut self, event: &Event) {
        let stages = self.policy().surge.len() as u64;
        let other = event.number != self.stage && event.number <= stages;
        self.stage = event.number;
        self.expect(Law::Surge, event, other, "not another stage of the policy");
    }

    pub(super) fn house(&self) -> House {
        self.house
    }

    pub(super) fn chats(&self) -> &BTreeMap<String, Story> {
        &self.chats
    }

    /// How many events of a kind there were.
    pub(super) fn count(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }

    /// How many of them for one reason.
    pub(super) fn count_because(&self, kind: &str, reason: &str) -> u64 {
        let key = (kind.to_owned(), reason.to_owned());
        self.reasons.get(&key).copied().unwrap_or(0)
    }

    /// Times that somebody had as many hard chats in a row as is good, and was spared more.
    pub(super) fn spared(&self) -> u64 {
        self.spared
    }

    pub(super) fn offers_by_revision(&self) -> &BTreeMap<u64, u64> {
        &self.offers_by_revision
    }

    /// What the whole evening will remember.
    pub(super) fn memorable(&self) -> &[Event] {
        &self.memorable
    }

    /// What was done because a supervisor asked for it.
    pub(super) fn supervised(&self) -> &[Event] {
        &self.supervised
    }

    pub(super) fn events(&self) -> u64 {
        self.last_sequence
    }

    /// Where to go on reading.
    pub(super) fn cursor(&self) -> &str {
        &self.last_cursor
    }

    /// How often each law was looked at, and broken.
    pub(super) fn tallies(&self) -> &BTreeMap<Law, Tally> {
        &self.tallies
    }

    /// Moments at which a chat was in two pairs of hands.
    pub(super) fn double_owners(&self) -> usize {
        self.chats.values().map(Story::overlaps).sum()
    }

    /// What contradicts the promises, and how much more there is.
    pub(super) fn complaints(&self) -> (&[String], u64) {
        let more = self.complained - self.complaints.len() as u64;
        (&self.complaints, more)
    }

    /// A chat that is kept for the partner is in the partner's account.
    pub(super) fn account(&self) -> Account {
        let mut account = Account::default();
        for story in self.chats.values().filter(|story| story.stand != Stand::Held) {
            account.accepted += 1;
            match story.stand {
                Stand::Held => {}
                Stand::Waiting => account.waiting += 1,
                Stand::Offered => account.offered += 1,
                Stand::Active => account.active += 1,
                Stand::Ended(outcome) => *account.ended.entry(outcome as i32).or_default() += 1,
            }
        }
        account
    }
}

#[cfg(test)]
pub(super) mod tests {
    use holdfast_proto::v1::{Fence, ResponderStatus};

    use super::*;
    use crate::demo::{
        needs::{Met, Needs},
        rules::tests::small_rules,
    };

    /// An event of a kind; what it is about is set by the test.
    pub(crate) fn event(kind: &str, chat: &str, responder: &str) -> Event {
        Event {
            kind: kind.to_owned(),
            chat_id: chat.to_owned(),
            responder_id: responder.to_owned(),
            urgency: Urgency::Moderate.into(),
            status: ResponderStatus::Ready.into(),
            policy_revision: 1,
            ..Event::default()
        }
    }

    pub(crate) fn offered(chat: &str, responder: &str, offer_number: u32) -> Event {
        Event { offer_number, ..event("offered", chat, responder) }
    }

    pub(crate) fn accepted(chat: &str, responder: &str, offer_number: u32, epoch: u64) -> Event {
        Event { offer_number, fence: Some(Fence { epoch, minted_by: 1 }), ..event("accepted", chat, responder) }
    }

    pub(crate) fn returned(chat: &str, responder: &str, epoch: u64) -> Event {
        Event { kind: "returned".to_owned(), ..accepted(chat, responder, 0, epoch) }
    }

    pub(crate) fn completed(chat: &str, responder: &str, epoch: u64) -> Event {
        Event {
            kind: "ended".to_owned(),
            outcome: ChatOutcome::Completed.into(),
            ..accepted(chat, responder, 0, epoch)
        }
    }

    /// Folds events that are numbered here, in their order; the first one is the policy's.
    pub(crate) fn fold(events: Vec<Event>) -> Fold {
        folded(House::Evening, Known::default(), events)
    }

    pub(crate) fn folded(house: House, known: Known, events: Vec<Event>) -> Fold {
        let mut fold = Fold::new(house, Arc::new(small_rules()), 2).knowing(known);
        for (sequence, event) in (1..).zip([vec![event("policy_set", "", "")], events].concat()) {
            fold.take(&Event { sequence, at_ms: if event.at_ms > 0 { event.at_ms } else { sequence }, ..event });
        }
        fold
    }

    fn arrival() -> Vec<Event> {
        vec![event("signed_in", "", "ana"), event("signed_in", "", "ben"), event("requested", "c1", "")]
    }

    fn later(event: Event, at_ms: u64) -> Event {
        Event { at_ms, ..event }
    }

    fn from_partner(event: Event, number: u64) -> Event {
        Event { partner: "evening".to_owned(), number, ..event }
    }

    fn to_partner(event: Event, number: u64) -> Event {
        Event { partner: "partner".to_owned(), number, ..event }
    }

    fn by_supervisor(event: Event) -> Event {
        Event { supervisor_id: "sue".to_owned(), ..event }
    }

    fn urgent(event: Event, urgency: Urgency) -> Event {
        Event { urgency: urgency.into(), ..event }
    }

    pub(crate) fn whole_life() -> Vec<Event> {
        let mut events = arrival();
        events.extend([
            offered("c1", "ana", 1),
            accepted("c1", "ana", 1, 101),
            returned("c1", "ana", 101),
            offered("c1", "ben", 2),
            accepted("c1", "ben", 2, 102),
            completed("c1", "ben", 102),
            event("wrapped_up", "c1", "ben"),
        ]);
        events
    }

    fn first_complaint(events: Vec<Event>) -> String {
        fold(events).complaints().0.first().cloned().unwrap()
    }

    #[test]
    fn a_whole_life_has_nothing_to_complain_about() {
        let fold = fold(whole_life());
        assert_eq!(fold.complaints(), (&[][..], 0));
        assert_eq!(fold.double_owners(), 0);
        assert_eq!(fold.chats()["c1"].tenures.len(), 2);
        let account = fold.account();
        assert_eq!((account.accepted, account.all_ended()), (1, 1));
    }

    #[test]
    fn a_chat_accepted_twice_without_return_is_a_double_owner() {
        let mut events = arrival();
        events.extend([
            offered("c1", "ana", 1),
            offered("c1", "ben", 2),
            accepted("c1", "ana", 1, 101),
            accepted("c1", "ben", 2, 102),
        ]);
        let fold = fold(events);
        assert_eq!(fold.double_owners(), 1);
        let (complaints, _) = fold.complaints();
        assert!(complaints.iter().any(|c| c.contains("DOUBLE OWNER")));
    }

    #[test]
    fn an_epoch_that_falls_is_told() {
        let mut events = whole_life();
        events[7] = accepted("c1", "ben", 2, 100);
        events[8] = completed("c1", "ben", 100);
        assert!(first_complaint(events).contains("epoch 100 is not above"));
    }

    #[test]
    fn a_lost_chat_stays_open_in_the_account() {
        let mut events = whole_life();
        events.truncate(6);
        let account = fold(events).account();
        assert_eq!((account.accepted, account.open()), (1, 1));
    }

    #[test]
    fn a_gap_in_the_sequence_is_told() {
        let mut fold = fold(arrival());
        fold.take(&Event { sequence: 6, at_ms: 9, ..event("signed_in", "", "eve") });
        assert!(fold.complaints().0[0].contains("a gap"));
    }

    #[test]
    fn a_clock_that_goes_back_is_told() {
        let mut fold = fold(arrival());
        fold.take(&Event { sequence: 5, at_ms: 1, ..event("signed_in", "", "eve") });
        assert!(fold.complaints().0[0].contains("clock"));
    }

    #[test]
    fn a_breach_of_capacity_is_told() {
        let mut events = arrival();
        events.push(event("requested", "c2", ""));
        let imminent = |mut event: Event| {
            event.urgency = Urgency::Imminent.into();
            event
        };
        events.push(event("requested", "c3", ""));
        events.push(offered("c1", "ana", 1));
        events.push(imminent(offered("c2", "ana", 1)));
        events.push(imminent(offered("c3", "ana", 1)));
        assert!(first_complaint(events).contains("carries 4 of 2"));
    }

    #[test]
    fn notes_in_writing_count_as_load() {
        let mut events = whole_life();
        events.truncate(9);
        for chat in ["c2", "c3"] {
            events.push(event("requested", chat, ""));
            events.push(offered(chat, "ben", 1));
        }
        assert!(first_complaint(events).contains("carries 3 of 2"));
    }

    #[test]
    fn a_second_ending_is_told() {
        let mut events = whole_life();
        events.push(Event { outcome: ChatOutcome::Left.into(), ..event("ended", "c1", "") });
        assert!(first_complaint(events).contains("ended before"));
    }

    #[test]
    fn an_offer_to_somebody_who_is_gone_is_told() {
        let mut events = arrival();
        events.push(event("unlinked", "", "ana"));
        events.push(offered("c1", "ana", 1));
        assert!(first_complaint(events).contains("not free"));
    }

    #[test]
    fn an_offer_of_a_chat_whose_visitor_is_away_is_told() {
        let mut events = arrival();
        events.push(event("away", "c1", ""));
        events.push(offered("c1", "ana", 1));
        assert!(first_complaint(events).contains("visitor is away"));
    }

    #[test]
    fn an_event_of_an_unknown_chat_is_told() {
        let complaint = first_complaint(vec![completed("c9", "ana", 1)]);
        assert!(complaint.contains("nobody asked for"));
    }

    #[test]
    fn whoever_signs_out_has_no_notes_to_finish() {
        let mut events = whole_life();
        events.truncate(9);
        events.push(event("signed_out", "", "ben"));
        events.push(event("signed_in", "", "ben"));
        for chat in ["c2", "c3"] {
            events.push(event("requested", chat, ""));
            events.push(offered(chat, "ben", 1));
        }
        assert_eq!(fold(events).complaints().0, &[] as &[String]);
    }

    #[test]
    fn an_event_of_another_revision_than_the_one_in_force_is_told() {
        let mut events = arrival();
        events.push(Event { policy_revision: 2, ..event("away", "c1", "") });
        assert!(first_complaint(events).contains("says revision 2, in force is 1"));
    }

    #[test]
    fn a_supervisor_may_put_more_into_hands_than_they_can_carry() {
        let mut events = arrival();
        events.push(event("requested", "c2", ""));
        events.push(urgent(offered("c1", "ana", 1), Urgency::Imminent));
        events.push(by_supervisor(offered("c2", "ana", 1)));
        assert_eq!(fold(events.clone()).complaints().0, &[] as &[String]);
        events[5].supervisor_id.clear();
        assert!(first_complaint(events).contains("carries 3 of 2"));
    }

    #[test]
    fn a_fourth_hard_chat_in_a_row_is_told() {
        let mut events = arrival();
        for (n, chat) in (1..=4).zip(["h1", "h2", "h3", "h4"]) {
            let fence = 100 + n;
            events.extend([
                urgent(event("requested", chat, ""), Urgency::High),
                urgent(offered(chat, "ana", 1), Urgency::High),
            ]);
            if n < 4 {
                events.extend([
                    urgent(accepted(chat, "ana", 1, fence), Urgency::High),
                    urgent(completed(chat, "ana", fence), Urgency::High),
                    event("wrapped_up", chat, "ana"),
                ]);
            }
        }
        assert!(first_complaint(events.clone()).contains("one hard chat more"));
        // An easier one in between ends the row.
        let easy = [
            offered("c1", "ana", 1),
            accepted("c1", "ana", 1, 200),
            completed("c1", "ana", 200),
            event("wrapped_up", "c1", "ana"),
        ];
        let at = events.len() - 2;
        events.splice(at..at, easy);
        assert_eq!(fold(events).complaints().0, &[] as &[String]);
    }

    #[test]
    fn an_overflow_in_good_order_has_nothing_to_complain_about() {
        let overflowed = Event { outcome: ChatOutcome::Overflowed.into(), ..event("ended", "c1", "") };
        let mut here = arrival();
        here.extend([
            to_partner(event("overflowing", "c1", ""), 1),
            to_partner(event("overflow_refused", "c1", ""), 1),
            to_partner(event("overflowing", "c1", ""), 2),
            overflowed.clone(),
        ]);
        let here = fold(here);
        assert_eq!(here.complaints().0, &[] as &[String]);
        assert_eq!(here.chats()["c1"].went_to, Some(("partner".to_owned(), 2)));
        let there = folded(
            House::Partner,
            Known::default(),
            vec![from_partner(event("held", "c1", ""), 2), from_partner(event("admitted", "c1", ""), 2)],
        );
        assert_eq!(there.complaints().0, &[] as &[String]);
        assert_eq!(there.account().waiting, 1);
        let to_nobody = first_complaint([arrival(), vec![overflowed]].concat());
        assert!(to_nobody.contains("overflowed to nobody"));
    }

    #[test]
    fn a_chat_that_is_let_in_without_being_kept_is_told() {
        let admitted = vec![from_partner(event("admitted", "c1", ""), 1)];
        let told = folded(House::Partner, Known::default(), admitted);
        assert!(told.complaints().0[0].contains("was not kept"));
        let other = vec![from_partner(event("held", "c1", ""), 1), from_partner(event("admitted", "c1", ""), 2)];
        let told = folded(House::Partner, Known::default(), other);
        assert!(told.complaints().0[0].contains("was not kept"));
        let kept = folded(House::Partner, Known::default(), vec![from_partner(event("held", "c1", ""), 1)]);
        assert_eq!(kept.account(), Account::default(), "it is in the partner's account");
    }

    #[test]
    fn a_gate_that_does_not_close_is_told() {
        let mut events = arrival();
        events.push(event("gate_closed", "", ""));
        assert!(first_complaint(events).contains("are on shift"));
    }

    fn known() -> Known {
        let policy = small_rules();
        let asks = |language: &str, met: &Met| {
            let request = holdfast_proto::v1::RequestChatRequest {
                language: language.to_owned(),
                ..holdfast_proto::v1::RequestChatRequest::default()
            };
            Needs::of(&request, met, policy.of(House::Evening))
        };
        let never = Met { again: None, never: vec!["ana".to_owned()] };
        let about = Needs { topics: vec!["topic:suicide".to_owned()], ..asks("", &Met::default()) };
        let speaks = |tags: &[&str]| Skills {
            tags: tags.iter().map(|tag| ((*tag).to_owned(), 1)).collect(),
            opt_out: vec!["topic:suicide".to_owned()],
        };
        Known {
            chats: HashMap::from([
                ("c1".to_owned(), asks("", &Met::default())),
                ("c2".to_owned(), asks("", &Met::default())),
                ("es".to_owned(), asks("es", &Met::default())),
                ("never".to_owned(), asks("", &never)),
                ("topic".to_owned(), about),
            ]),
            responders: HashMap::from([
                ("ana".to_owned(), speaks(&["lang:en"])),
                ("ben".to_owned(), Skills::default()),
            ]),
            arrivals: HashMap::new(),
        }
    }

    fn first_of(events: Vec<Event>) -> String {
        folded(House::Evening, known(), events).complaints().0.first().cloned().unwrap_or_default()
    }

    #[test]
    fn whoever_is_passed_over_is_told() {
        let two = vec![event("requested", "c1", ""), event("requested", "c2", ""), event("signed_in", "", "ana")];
        let in_turn = [two.clone(), vec![offered("c1", "ana", 1)]].concat();
        assert_eq!(first_of(in_turn), "");
        let out_of_turn = [two, vec![offered("c2", "ana", 1)]].concat();
        assert!(first_of(out_of_turn).contains("c1 stands 1 ms before it"));
        // Who cannot be served is passed over.
        let other = vec![
            event("requested", "es", ""),
            event("requested", "c2", ""),
            event("signed_in", "", "ana"),
            offered("c2", "ana", 1),
        ];
        assert_eq!(first_of(other), "");
    }

    #[test]
    fn wishes_that_are_not_kept_are_told() {
        for (chat, complaint) in
            [("es", "what its step asks for"), ("never", "never wants to meet"), ("topic", "opted out")]
        {
            let events =
                vec![event("signed_in", "", "ana"), event("requested", chat, ""), offered(chat, "ana", 1)];
            assert!(first_of(events).contains(complaint), "{chat}");
        }
    }

    #[test]
    fn a_step_before_its_time_is_told() {
        let relaxed = |at_ms| Event { number: 1, ..later(event("relaxed", "es", ""), at_ms) };
        let asked = later(event("requested", "es", ""), 1_000);
        assert_eq!(first_of(vec![asked.clone(), relaxed(6_000)]), "");
        assert!(first_of(vec![asked, relaxed(5_900)]).contains("not due"));
    }

    #[test]
    fn whoever_waits_beside_somebody_free_is_told_after_two_seconds() {
        let beside = |until| {
            let mut events = vec![event("signed_in", "", "ana"), event("requested", "c1", "")];
            events.extend(
                (1..).map(|n| n * 300).take_while(|at| *at < until).map(|at| later(event("unknown", "", ""), at)),
            );
            first_of(events)
        };
        assert_eq!(beside(2_200), "");
        assert!(beside(3_000).contains("beside somebody free"));
    }

    #[test]
    fn who_did_not_take_a_chat_is_not_asked_again_at_once() {
        let again = |at| {
            first_of(vec![
                event("signed_in", "", "ana"),
                event("requested", "c1", ""),
                offered("c1", "ana", 1),
                later(Event { offer_number: 1, ..event("declined", "c1", "ana") }, 100),
                later(offered("c1", "ana", 2), at),
            ])
        };
        assert_eq!(again(400), "");
        assert!(again(399).contains("asked again after 299 ms"));
    }
}
