//! The first witness: reads the line's events and nothing else, keeps its own account of every chat and every
//! responder, and says where the events contradict what the line promises.
//!
//! It shares no code with the line. What it knows comes from the contract: the words of the events, what a chat
//! weighs, and that a wrap-up follows a chat.

use std::collections::{BTreeMap, HashMap};

use holdfast_proto::v1::{ChatOutcome, Event, ResponderStatus, Urgency};

use super::evening::Numbers;

/// Complaints that are kept in words; the others are only counted.
const MAX_KEPT: usize = 100;

/// Where a chat stands, by the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
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
}

impl Story {
    fn owned(&self) -> bool {
        self.tenures.last().is_some_and(|t| t.to.is_none())
    }

    /// Pairs of tenures that overlap.
    fn overlaps(&self) -> usize {
        let mut by_beginning: Vec<&Tenure> = self.tenures.iter().collect();
        by_beginning.sort_by_key(|t| t.from);
        let pairs = by_beginning.iter().zip(by_beginning.iter().skip(1));
        pairs.filter(|(one, next)| one.to.is_none_or(|to| to > next.from)).count()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    Offer,
    Active,
    WrapUp,
}

#[derive(Debug, Default)]
struct Duty {
    linked: bool,
    ready: bool,
    cooling: bool,
    holdings: HashMap<String, (Holding, u32)>,
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
}

/// The account that the events keep.
#[derive(Debug)]
pub(super) struct Fold {
    numbers: Numbers,
    capacity: u32,
    chats: BTreeMap<String, Story>,
    responders: HashMap<String, Duty>,
    kinds: BTreeMap<String, u64>,
    reasons: BTreeMap<(String, String), u64>,
    last_sequence: u64,
    last_at_ms: u64,
    last_cursor: String,
    complaints: Vec<String>,
    complained: u64,
}

impl Fold {
    /// Every responder carries `capacity`.
    pub(super) fn new(numbers: Numbers, capacity: u32) -> Self {
        Self {
            numbers,
            capacity,
            chats: BTreeMap::new(),
            responders: HashMap::new(),
            kinds: BTreeMap::new(),
            reasons: BTreeMap::new(),
            last_sequence: 0,
            last_at_ms: 0,
            last_cursor: String::new(),
            complaints: Vec::new(),
            complained: 0,
        }
    }

    /// Takes the next event of the stream.
    pub(super) fn take(&mut self, event: &Event) {
        self.keep_order(event);
        *self.kinds.entry(event.kind.clone()).or_default() += 1;
        let with_reason = (event.kind.clone(), event.reason.clone());
        *self.reasons.entry(with_reason).or_default() += 1;
        match event.kind.as_str() {
            "requested" => self.requested(event),
            "triaged" => self.with_story(event, |s| s.urgency = event.urgency()),
            "away" => self.away(event, true),
            "back" => self.away(event, false),
            "offered" => self.offered(event),
            "declined" | "missed" | "rescinded" => self.offer_gone(event),
            "accepted" => self.accepted(event),
            "engaged" | "supervisor_called" => self.by_owner(event),
            "returned" => self.returned(event),
            "ended" => self.ended(event),
            "reopened" => self.reopened(event),
            "forgotten" => self.complain(event, "a chat was forgotten long before its time"),
            "signed_in" => {
                let ready = event.status() == ResponderStatus::Ready;
                let duty = self.duty(event);
                (duty.linked, duty.ready) = (true, ready);
            }
            "status_changed" => {
                self.duty(event).ready = event.status() == ResponderStatus::Ready;
            }
            "unlinked" => self.duty(event).linked = false,
            "signed_out" => self.signed_out(event),
            "wrapped_up" => self.wrapped_up(event),
            "cooling_down" => self.duty(event).cooling = true,
            "cooled_down" => self.duty(event).cooling = false,
            // Words that are not known are passed over, as the contract asks.
            _ => {}
        }
    }

    fn keep_order(&mut self, event: &Event) {
        if event.sequence != self.last_sequence + 1 {
            let last = self.last_sequence;
            self.complain(event, &format!("the event before it is {last}: a gap"));
        }
        if event.at_ms < self.last_at_ms {
            self.complain(event, "the service clock went back");
        }
        self.last_sequence = event.sequence.max(self.last_sequence);
        self.last_at_ms = event.at_ms.max(self.last_at_ms);
        self.last_cursor.clone_from(&event.cursor);
    }

    fn complain(&mut self, event: &Event, what: &str) {
        self.complained += 1;
        if self.complaints.len() < MAX_KEPT {
            let mut about = event.kind.clone();
            for name in [&event.chat_id, &event.responder_id] {
                if !name.is_empty() {
                    about = format!("{about} {name}");
                }
            }
            let line = format!("event {} ({about}): {what}", event.sequence);
            self.complaints.push(line);
        }
    }

    fn duty(&mut self, event: &Event) -> &mut Duty {
        self.responders.entry(event.responder_id.clone()).or_default()
    }

    /// Changes what is known of the event's chat; an unknown chat is a complaint.
    fn with_story<T: Default>(&mut self, event: &Event, change: impl FnOnce(&mut Story) -> T) -> T {
        let Some(story) = self.chats.get_mut(&event.chat_id) else {
            self.complain(event, "of a chat that nobody asked for");
            return T::default();
        };
        change(story)
    }

    fn expect(&mut self, event: &Event, holds: bool, otherwise: &str) {
        if !holds {
            self.complain(event, otherwise);
        }
    }

    fn weight(&self, urgency: Urgency) -> u32 {
        let at = match urgency {
            Urgency::Low => 0,
            Urgency::Unspecified | Urgency::Moderate => 1,
            Urgency::High => 2,
            Urgency::Imminent => 3,
        };
        let weight = self.numbers.weight.get(at).copied().unwrap_or(1);
        weight.min(self.capacity)
    }

    fn requested(&mut self, event: &Event) {
        let story = Story {
            stand: Stand::Waiting,
            urgency: event.urgency(),
            away: false,
            open_offers: BTreeMap::new(),
            offers: 0,
            tenures: Vec::new(),
            accepted_at_ms: Vec::new(),
        };
        let twice = self.chats.insert(event.chat_id.clone(), story).is_some();
        self.expect(event, !twice, "the chat was asked for before");
    }

    fn away(&mut self, event: &Event, away: bool) {
        let in_line = self.with_story(event, |story| {
            story.away = away;
            matches!(story.stand, Stand::Waiting | Stand::Offered)
        });
        self.expect(event, in_line, "of a chat that is not in the line");
    }

    fn offered(&mut self, event: &Event) {
        let number = event.offer_number;
        let responder = event.responder_id.clone();
        let (in_line, here, fresh) = self.with_story(event, |story| {
            let in_line = matches!(story.stand, Stand::Waiting | Stand::Offered);
            story.offers += 1;
            let fresh = number == story.offers;
            story.open_offers.insert(number, responder);
            if in_line {
                story.stand = Stand::Offered;
            }
            (in_line, !story.away, fresh)
        });
        self.expect(event, in_line, "a chat was offered that is not in the line");
        self.expect(event, here, "a chat was offered whose visitor is away");
        self.expect(event, fresh, "the offer's number is not the next one");
        let duty = self.duty(event);
        let present = duty.linked && duty.ready && !duty.cooling;
        self.expect(event, present, "offered to somebody who is not free for it");
        let weight = self.weight(event.urgency());
        self.hold(event, Holding::Offer, weight);
        self.check_load(event);
    }

    fn hold(&mut self, event: &Event, holding: Holding, weight: u32) {
        let chat = event.chat_id.clone();
        self.duty(event).holdings.insert(chat, (holding, weight));
    }

    fn check_load(&mut self, event: &Event) {
        let load: u32 = self.duty(event).holdings.values().map(|(_, w)| *w).sum();
        let capacity = self.capacity;
        let within = load <= capacity;
        self.expect(event, within, &format!("the responder carries {load} of {capacity}"));
    }

    fn drop_holding(&mut self, event: &Event, expected: Holding) {
        let dropped = self.duty(event).holdings.remove(&event.chat_id);
        let right = dropped.is_some_and(|(holding, _)| holding == expected);
        self.expect(event, right, "the responder did not hold the chat so");
    }

    fn offer_gone(&mut self, event: &Event) {
        let known = self.with_story(event, |story| {
            let to = story.open_offers.remove(&event.offer_number);
            if story.open_offers.is_empty() && story.stand == Stand::Offered {
                story.stand = Stand::Waiting;
            }
            to.as_deref() == Some(event.responder_id.as_str())
        });
        self.expect(event, known, "an offer is gone that was not open to that responder");
        self.drop_holding(event, Holding::Offer);
    }

    fn accepted(&mut self, event: &Event) {
        let fence = event.fence.unwrap_or_default();
        let (offered, alone, free, rises) = self.with_story(event, |story| {
            let to = story.open_offers.remove(&event.offer_number);
            let offered = to.as_deref() == Some(event.responder_id.as_str());
            let alone = story.open_offers.is_empty();
            let free = !story.owned();
            let rises = story.tenures.iter().all(|t| t.epoch < fence.epoch);
            story.stand = Stand::Active;
            story.accepted_at_ms.push(event.at_ms);
            story.tenures.push(Tenure {
                responder: event.responder_id.clone(),
                epoch: fence.epoch,
                minted_by: fence.minted_by,
                from: event.sequence,
                to: None,
            });
            (offered, alone, free, rises)
        });
        self.expect(event, offered, "accepted without an open offer to that responder");
        self.expect(event, alone, "other offers stay open beside the owner");
        self.expect(event, free, "DOUBLE OWNER: the chat is in other hands");
        self.expect(event, rises, &format!("epoch {} is not above those before", fence.epoch));
        let weight = self.weight_in_hand(event);
        self.hold(event, Holding::Active, weight);
        self.check_load(event);
    }

    /// A chat weighs what it weighed when it was offered, whatever its urgency became since.
    fn weight_in_hand(&mut self, event: &Event) -> u32 {
        let held = self.duty(event).holdings.get(&event.chat_id).copied();
        held.map_or_else(|| self.weight(event.urgency()), |(_, weight)| weight)
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
        self.expect(event, owner, "by somebody who is not the owner");
    }

    fn close_tenure(story: &mut Story, sequence: u64) {
        if let Some(tenure) = story.tenures.last_mut() {
            tenure.to = Some(sequence);
        }
    }

    fn returned(&mut self, event: &Event) {
        let owner = self.with_story(event, |story| {
            let owner = Self::is_owner(story, event);
            Self::close_tenure(story, event.sequence);
            story.stand = Stand::Waiting;
            owner
        });
        self.expect(event, owner, "it comes back from hands that did not own it");
        self.drop_holding(event, Holding::Active);
    }

    fn ended(&mut self, event: &Event) {
        let (once, right_hands, no_offers, was_owned) = self.with_story(event, |story| {
            let once = !matches!(story.stand, Stand::Ended(_));
            let was_owned = story.owned();
            let right_hands = if was_owned { Self::is_owner(story, event) } else { event.responder_id.is_empty() };
            if was_owned {
                Self::close_tenure(story, event.sequence);
            }
            story.stand = Stand::Ended(event.outcome());
            story.away = false;
            (once, right_hands, story.open_offers.is_empty(), was_owned)
        });
        let outcome = event.outcome();
        let fits = was_owned == (outcome == ChatOutcome::Completed);
        self.expect(event, once, "the chat had ended before");
        self.expect(event, right_hands, "it ended in hands that are not the owner's");
        self.expect(event, no_offers, "it ended and is still offered");
        self.expect(event, fits && outcome != ChatOutcome::Unspecified, "the outcome does not fit");
        if was_owned {
            self.wind_down(event);
        }
    }

    fn wind_down(&mut self, event: &Event) {
        let weight = self.weight_in_hand(event);
        self.drop_holding(event, Holding::Active);
        let at = match event.urgency() {
            Urgency::Low => 0,
            Urgency::Unspecified | Urgency::Moderate => 1,
            Urgency::High => 2,
            Urgency::Imminent => 3,
        };
        let wraps_up = self.numbers.wrap_up_ms.get(at).is_some_and(|wrap_up| *wrap_up > 0);
        if wraps_up {
            self.hold(event, Holding::WrapUp, weight);
        }
    }

    fn reopened(&mut self, event: &Event) {
        let abandoned = self.with_story(event, |story| {
            let abandoned = story.stand == Stand::Ended(ChatOutcome::Abandoned);
            story.stand = Stand::Waiting;
            abandoned
        });
        self.expect(event, abandoned, "re-opened although it was not given up as abandoned");
    }

    /// Whoever goes has no notes to finish; their offers and chats are told by events of their own.
    fn signed_out(&mut self, event: &Event) {
        let duty = self.duty(event);
        (duty.linked, duty.ready) = (false, false);
        duty.holdings.retain(|_, (holding, _)| *holding != Holding::WrapUp);
    }

    fn wrapped_up(&mut self, event: &Event) {
        self.drop_holding(event, Holding::WrapUp);
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

    pub(super) fn events(&self) -> u64 {
        self.last_sequence
    }

    /// Where to go on reading.
    pub(super) fn cursor(&self) -> &str {
        &self.last_cursor
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

    pub(super) fn account(&self) -> Account {
        let mut account = Account { accepted: self.chats.len() as u64, ..Account::default() };
        for story in self.chats.values() {
            match story.stand {
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
    use holdfast_proto::v1::Fence;

    use super::*;

    pub(crate) const NUMBERS: Numbers =
        Numbers { weight: [1, 1, 1, 2], wrap_up_ms: [300; 4], presence_lease_ms: 1_500 };

    /// An event of a kind; what it is about is set by the test.
    pub(crate) fn event(kind: &str, chat: &str, responder: &str) -> Event {
        Event {
            kind: kind.to_owned(),
            chat_id: chat.to_owned(),
            responder_id: responder.to_owned(),
            urgency: Urgency::Moderate.into(),
            status: ResponderStatus::Ready.into(),
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

    /// Folds events that are numbered here, in their order.
    pub(crate) fn fold(events: Vec<Event>) -> Fold {
        let mut fold = Fold::new(NUMBERS, 2);
        for (sequence, event) in (1..).zip(events) {
            fold.take(&Event { sequence, at_ms: sequence, ..event });
        }
        fold
    }

    fn arrival() -> Vec<Event> {
        vec![event("signed_in", "", "ana"), event("signed_in", "", "ben"), event("requested", "c1", "")]
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
        fold.take(&Event { sequence: 5, at_ms: 9, ..event("signed_in", "", "eve") });
        assert!(fold.complaints().0[0].contains("a gap"));
    }

    #[test]
    fn a_clock_that_goes_back_is_told() {
        let mut fold = fold(arrival());
        fold.take(&Event { sequence: 4, at_ms: 1, ..event("signed_in", "", "eve") });
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
        events.push(offered("c1", "ana", 1));
        events.push(imminent(offered("c2", "ana", 1)));
        assert!(first_complaint(events).contains("carries 3 of 2"));
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
}
