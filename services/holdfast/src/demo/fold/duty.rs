//! Responders, by the events: who is here, what is in their hands, how many hard chats they had.

use std::collections::HashMap;

use holdfast_proto::v1::{Event, ResponderStatus, Urgency};

use super::{Fold, Law};
use crate::demo::rules::{is_hard, rank};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    Offer,
    Active,
    WrapUp,
}

/// A chat in somebody's hands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    kind: Holding,
    weight: u32,
    /// It was HIGH or IMMINENT when it came, or has become so.
    hard: bool,
    /// A supervisor put it there past the capacity.
    beyond: bool,
}

#[derive(Debug, Default)]
pub(super) struct Duty {
    pub(super) linked: bool,
    pub(super) cooling: bool,
    pub(super) on_shift: bool,
    ready: bool,
    holdings: HashMap<String, Held>,
    hard_in_row: u32,
    hard_in_shift: u32,
    break_since_ms: Option<u64>,
    left_ms: Option<u64>,
    /// What chats took out of them, as the policy reckons, in milliseconds.
    strain_ms: u64,
}

impl Duty {
    /// May be offered a chat, as far as status and connection go.
    fn present(&self) -> bool {
        self.linked && self.ready && !self.cooling
    }

    fn load(&self) -> u32 {
        self.holdings.values().map(|held| held.weight).sum()
    }

    pub(super) fn free(&self, capacity: u32) -> u32 {
        capacity.saturating_sub(self.load())
    }

    pub(super) fn idle(&self, capacity: u32) -> bool {
        self.present() && self.free(capacity) > 0
    }

    fn hard_offers(&self) -> u32 {
        let hard = self.holdings.values().filter(|held| held.hard && held.kind == Holding::Offer);
        u32::try_from(hard.count()).unwrap_or(u32::MAX)
    }

    /// Has had as many hard chats as is good, in a row or in the shift.
    pub(super) fn spared(&self, max_in_row: u32, max_per_shift: u32) -> bool {
        let full = |most: u32, had: u32| most > 0 && had + self.hard_offers() >= most;
        full(max_in_row, self.hard_in_row) || full(max_per_shift, self.hard_in_shift)
    }
}

impl Fold {
    pub(super) fn duty(&mut self, event: &Event) -> &mut Duty {
        self.responders.entry(event.responder_id.clone()).or_default()
    }

    pub(super) fn on_shift(&self) -> usize {
        self.responders.values().filter(|duty| duty.on_shift).count()
    }

    pub(super) fn idle(&self) -> usize {
        self.responders.values().filter(|duty| duty.idle(self.capacity)).count()
    }

    pub(super) fn signed_in(&mut self, event: &Event) {
        let ready = event.status() == ResponderStatus::Ready;
        let (at_ms, gap) = (event.at_ms, self.policy().numbers.shift_gap_ms);
        let duty = self.duty(event);
        if !duty.on_shift && duty.left_ms.is_some_and(|left| at_ms - left >= gap) {
            (duty.hard_in_row, duty.hard_in_shift) = (0, 0);
        }
        (duty.linked, duty.on_shift, duty.ready) = (true, true, ready);
        duty.break_since_ms = (!ready).then_some(at_ms);
    }

    pub(super) fn status_changed(&mut self, event: &Event) {
        let (status, at_ms, rest) = (event.status(), event.at_ms, self.policy().numbers.hard_rest_ms);
        let duty = self.duty(event);
        duty.ready = status == ResponderStatus::Ready;
        match status {
            ResponderStatus::OnBreak => duty.break_since_ms = Some(at_ms),
            ResponderStatus::Ready => {
                if duty.break_since_ms.take().is_some_and(|since| at_ms - since >= rest) {
                    duty.hard_in_row = 0;
                }
            }
            ResponderStatus::Leaving => duty.break_since_ms = None,
            ResponderStatus::Unspecified
            | ResponderStatus::Offline
            | ResponderStatus::NotResponding
            | ResponderStatus::CoolingDown => {}
        }
    }

    /// Whoever goes has no notes to finish; their offers and chats are told by events of their own.
    pub(super) fn signed_out(&mut self, event: &Event) {
        let at_ms = event.at_ms;
        let duty = self.duty(event);
        (duty.linked, duty.ready, duty.on_shift) = (false, false, false);
        (duty.left_ms, duty.break_since_ms) = (Some(at_ms), None);
        duty.holdings.retain(|_, held| held.kind != Holding::WrapUp);
    }

    /// An offer takes up load at once, and is made only to somebody who is free for it.
    pub(super) fn hold_offer(&mut self, event: &Event, by_supervisor: bool) {
        let (capacity, urgency) = (self.capacity, event.urgency());
        let mut weight = self.policy().weight(urgency).min(capacity);
        let duty = self.duty(event);
        let present = duty.present();
        // Whoever is in danger takes what is free, up to the weight.
        let free = duty.free(capacity);
        if urgency == Urgency::Imminent && free > 0 {
            weight = weight.min(free);
        }
        let beyond = by_supervisor && weight > duty.free(capacity);
        let held = Held { kind: Holding::Offer, weight, hard: is_hard(urgency), beyond };
        duty.holdings.insert(event.chat_id.clone(), held);
        if !by_supervisor {
            self.expect(Law::Present, event, present, "offered to somebody who is not free for it");
        }
        self.check_load(event);
    }

    fn check_load(&mut self, event: &Event) {
        let within = self.duty(event).holdings.values().filter(|held| !held.beyond);
        let load: u32 = within.map(|held| held.weight).sum();
        let capacity = self.capacity;
        self.expect(Law::Load, event, load <= capacity, &format!("the responder carries {load} of {capacity}"));
    }

    /// What was offered is theirs now. It weighs what it weighed then, whatever its urgency became since.
    pub(super) fn take_in_hand(&mut self, event: &Event) {
        let held = self.duty(event).holdings.get_mut(&event.chat_id).map(|held| {
            held.kind = Holding::Active;
            *held
        });
        self.expect(Law::OneOwner, event, held.is_some(), "the responder did not hold the offer");
        if held.is_some_and(|held| held.hard) {
            self.count_hard(&event.responder_id);
        }
        self.check_load(event);
    }

    /// A chat has become a hard one in these hands.
    pub(super) fn grow_hard(&mut self, event: &Event, hands: &[String]) {
        if !is_hard(event.urgency()) {
            return;
        }
        for responder in hands {
            let Some(duty) = self.responders.get_mut(responder) else {
                continue;
            };
            let Some(held) = duty.holdings.get_mut(&event.chat_id).filter(|held| !held.hard) else {
                continue;
            };
            held.hard = true;
            if held.kind == Holding::Active {
                self.count_hard(responder);
            }
        }
    }

    /// One more hard chat is in these hands.
    fn count_hard(&mut self, responder: &str) {
        let most = self.policy().numbers.max_hard_in_row;
        let duty = self.responders.entry(responder.to_owned()).or_default();
        duty.hard_in_row += 1;
        duty.hard_in_shift += 1;
        self.spared += u64::from(most > 0 && duty.hard_in_row == most);
    }

    pub(super) fn drop_holding(&mut self, event: &Event, expected: Holding) {
        let dropped = self.duty(event).holdings.remove(&event.chat_id);
        let right = dropped.is_some_and(|held| held.kind == expected);
        self.expect(Law::Load, event, right, "the responder did not hold the chat so");
    }

    /// After a chat come the notes. An easier one ends the row of hard ones.
    pub(super) fn wind_down(&mut self, event: &Event) {
        let notes = self.wraps_up(event.urgency());
        let strain_ms = self.strain_ms(event);
        let duty = self.duty(event);
        duty.strain_ms += strain_ms;
        let held = duty.holdings.get(&event.chat_id).copied();
        if held.is_some_and(|held| !held.hard) {
            duty.hard_in_row = 0;
        }
        self.drop_holding(event, Holding::Active);
        if let Some(held) = held.filter(|_| notes) {
            let held = Held { kind: Holding::WrapUp, ..held };
            self.duty(event).holdings.insert(event.chat_id.clone(), held);
        }
    }

    /// What a chat that ends now has taken out of its responder.
    fn strain_ms(&self, event: &Event) -> u64 {
        let story = self.chats.get(&event.chat_id);
        let since = story.and_then(|story| story.accepted_at_ms.last()).copied().unwrap_or(event.at_ms);
        let percent = self.policy().numbers.strain_percent.get(rank(event.urgency())).copied().unwrap_or(0);
        (event.at_ms - since) * percent / 100
    }

    /// What the evening took out of each who was there, by name.
    pub(in crate::demo) fn strains_ms(&self) -> impl Iterator<Item = (&str, u64)> {
        self.responders.iter().map(|(responder, duty)| (responder.as_str(), duty.strain_ms))
    }

    fn wraps_up(&self, urgency: Urgency) -> bool {
        self.policy().numbers.wrap_up_ms.get(rank(urgency)).is_some_and(|wrap_up| *wrap_up > 0)
    }

    /// The gate is open exactly while enough are on shift.
    pub(super) fn gate(&mut self, event: &Event, open: bool) {
        let enough = self.on_shift() >= self.policy().numbers.min_on_shift;
        let turned = self.gate_open != open;
        self.gate_open = open;
        let otherwise =
            format!("{} are on shift, and it was {}", self.on_shift(), if turned { "not" } else { "so" });
        self.expect(Law::Gate, event, enough == open && turned, &otherwise);
    }
}
