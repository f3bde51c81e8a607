//! Who should have been asked: reckoned anew for every offer, from what everybody needed, could do and wished.
//!
//! Where the events do not tell enough for a judgement, nobody is blamed: who was asked once and did not take a chat may
//! be passed over for it, and so may a chat of the partner's whose age is known only nearly.

use std::collections::{BTreeMap, HashMap};

use holdfast_proto::v1::{Event, Urgency};

use super::{Fold, Law, Story, duty::Duty};
use crate::demo::{
    needs::{Needs, Rung},
    rules::is_hard,
};

/// A waiting chat and somebody free for it meet within this.
const MEETS_WITHIN_MS: u64 = 2_000;
/// Who waits beside whom is looked at this often.
const LOOK_EVERY_MS: u64 = 250;
/// The age of a partner's chat is known this well: two lines have two clocks.
const NEARLY_MS: i64 = 500;

/// What a responder can do and would rather not.
#[derive(Debug, Clone, Default)]
pub(in crate::demo) struct Skills {
    pub(in crate::demo) tags: BTreeMap<String, u32>,
    pub(in crate::demo) opt_out: Vec<String>,
}

/// What everybody needed and could do.
#[derive(Debug, Clone, Default)]
pub(in crate::demo) struct Known {
    pub(in crate::demo) chats: HashMap<String, Needs>,
    pub(in crate::demo) responders: HashMap<String, Skills>,
    /// When a partner's chat had arrived there.
    pub(in crate::demo) arrivals: HashMap<String, u64>,
}

/// A pair of a chat and a responder that may meet.
struct Pair<'a> {
    story: &'a Story,
    needs: &'a Needs,
    responder: &'a str,
    skills: &'a Skills,
    duty: &'a Duty,
}

impl Pair<'_> {
    fn rung(&self) -> Option<&Rung> {
        self.needs.ladder.get(self.story.step)
    }

    fn qualified(&self) -> bool {
        self.rung().is_some_and(|rung| {
            rung.only.as_deref().is_none_or(|only| only == self.responder) && rung.any_of.met_by(&self.skills.tags)
        })
    }

    fn opted_out(&self) -> bool {
        self.needs.topics.iter().any(|topic| self.skills.opt_out.contains(topic))
    }

    fn excluded(&self) -> bool {
        self.needs.excluded.iter().any(|id| id == self.responder)
    }

    fn asked(&self) -> bool {
        self.story.asked.iter().any(|(who, _)| who == self.responder)
            || self.story.open_offers.values().any(|who| who == self.responder)
    }
}

impl Fold {
    fn pair<'a>(&'a self, chat: &str, responder: &'a str) -> Option<Pair<'a>> {
        let known = self.known.as_ref()?;
        Some(Pair {
            story: self.chats.get(chat)?,
            needs: known.chats.get(chat)?,
            responder,
            skills: known.responders.get(responder)?,
            duty: self.responders.get(responder)?,
        })
    }

    /// Whether the line could offer this chat to this responder now.
    fn may_meet(&self, chat: &str, responder: &str) -> bool {
        let Some(pair) = self.pair(chat, responder) else {
            return false;
        };
        let (policy, story) = (self.policy(), pair.story);
        let numbers = &policy.numbers;
        let room = pair.duty.free(self.capacity) >= policy.room(story.urgency).min(self.capacity);
        let spared =
            is_hard(story.urgency) && pair.duty.spared(numbers.max_hard_in_row, numbers.max_hard_per_shift);
        room && !spared
            && pair.duty.idle(self.capacity)
            && pair.qualified()
            && !(pair.opted_out() || pair.excluded() || pair.asked())
    }

    /// Waits for one more to be asked.
    fn stands_in_line(story: &Story) -> bool {
        story.in_line() && !story.away && story.open_offers.len() < usize::try_from(story.fan_out).unwrap_or(1)
    }

    /// The place of a chat in the order, and how well it is known.
    fn score(&self, chat: &str, story: &Story) -> (i64, i64) {
        let arrivals = self.known.as_ref().map(|known| &known.arrivals);
        let arrived = arrivals.and_then(|arrivals| arrivals.get(chat)).copied().unwrap_or(story.came.0);
        let nearly = if story.came_from.is_some() { NEARLY_MS } else { 0 };
        (self.policy().score(story.urgency, arrived, story.returned), nearly)
    }

    /// Looks at an offer that is about to be made.
    pub(super) fn check_turn(&mut self, event: &Event) {
        self.check_care(event);
        self.check_back_off(event);
        self.check_wishes(event);
        self.check_order(event);
    }

    fn check_care(&mut self, event: &Event) {
        let numbers = &self.policy().numbers;
        let (least, reserve) = (numbers.min_on_shift, numbers.reserve);
        let (in_row, per_shift) = (numbers.max_hard_in_row, numbers.max_hard_per_shift);
        let (here, idle) = (self.on_shift(), self.idle());
        self.expect(Law::Gate, event, here >= least, &format!("only {here} are on shift"));
        if is_hard(event.urgency()) {
            let spared = self.duty(event).spared(in_row, per_shift);
            self.expect(Law::HardInRow, event, !spared, "one hard chat more than is good");
        }
        if event.urgency() != Urgency::Imminent {
            let otherwise = format!("only {idle} are free, and {reserve} are kept for IMMINENT chats");
            self.expect(Law::Reserve, event, idle > reserve, &otherwise);
        }
    }

    fn check_back_off(&mut self, event: &Event) {
        let least = self.policy().numbers.min_back_off_ms;
        let story = self.chats.get(&event.chat_id);
        let asked = story.and_then(|s| s.asked.iter().rev().find(|(who, _)| *who == event.responder_id));
        let Some((_, asked_ms)) = asked else {
            return;
        };
        let since = event.at_ms.saturating_sub(*asked_ms);
        self.expect(Law::BackOff, event, since >= least, &format!("asked again after {since} ms"));
    }

    fn check_wishes(&mut self, event: &Event) {
        let Some(pair) = self.pair(&event.chat_id, &event.responder_id) else {
            return;
        };
        let (qualified, opted_out, excluded) = (pair.qualified(), pair.opted_out(), pair.excluded());
        let (about_topics, has_met) = (!pair.needs.topics.is_empty(), !pair.needs.excluded.is_empty());
        let otherwise = format!("the responder does not have what its step asks for: {:?}", pair.rung());
        self.expect(Law::Qualified, event, qualified, &otherwise);
        if about_topics {
            self.expect(Law::OptedOut, event, !opted_out, "the responder opted out of its topic");
        }
        if has_met {
            self.expect(Law::Excluded, event, !excluded, "the visitor never wants to meet this responder again");
        }
    }

    fn check_order(&mut self, event: &Event) {
        let Some(offered) = self.chats.get(&event.chat_id).filter(|_| self.known.is_some()) else {
            return;
        };
        let (score, nearly) = self.score(&event.chat_id, offered);
        let first = self.chats.iter().find(|(chat, story)| {
            let (theirs, their_nearly) = self.score(chat, story);
            Self::stands_in_line(story)
                && theirs + nearly.max(their_nearly) < score
                && self.may_meet(chat, &event.responder_id)
        });
        let otherwise = first.map(|(chat, story)| {
            let (theirs, _) = self.score(chat, story);
            format!("{chat} stands {} ms before it and could be served", score - theirs)
        });
        self.expect(Law::Order, event, otherwise.is_none(), otherwise.as_deref().unwrap_or_default());
    }

    /// A step takes the place of the one before at its time, not before.
    pub(super) fn check_step_is_due(&mut self, event: &Event) {
        let known = self.known.as_ref();
        let (Some(needs), Some(story)) =
            (known.and_then(|known| known.chats.get(&event.chat_id)), self.chats.get(&event.chat_id))
        else {
            return;
        };
        let arrived = known.and_then(|known| known.arrivals.get(&event.chat_id)).copied().unwrap_or(story.came.0);
        let nearly = if story.came_from.is_some() { NEARLY_MS.unsigned_abs() } else { 0 };
        let due = needs.ladder.get(story.step).map(|rung| arrived + rung.after_ms);
        // Nobody waits for one who is not on shift when the chat comes into the line.
        let wished = story.step.checked_sub(1).and_then(|before| needs.ladder.get(before)?.only.as_ref());
        let absent = wished.is_some_and(|only| self.responders.get(only).is_none_or(|duty| !duty.on_shift));
        let in_time = due.is_some_and(|due| absent || event.at_ms + nearly >= due);
        self.expect(Law::Ladder, event, in_time, "the step is not due, or not of its ladder");
    }

    /// Nobody waits for long beside somebody who is free for them.
    pub(super) fn look_around(&mut self, now_ms: u64) {
        if self.known.is_none() || now_ms < self.next_look_ms {
            return;
        }
        self.next_look_ms = now_ms + LOOK_EVERY_MS;
        let waiting = self.chats.values().filter(|story| Self::stands_in_line(story)).count();
        self.tallies.entry(Law::Meets).or_default().looked += waiting as u64;
        let beside = self.beside_somebody_free();
        for chat in &beside {
            let since = *self.beside.entry(chat.clone()).or_insert(now_ms);
            let waits = now_ms - since;
            if waits > MEETS_WITHIN_MS {
                self.tallies.entry(Law::Meets).or_default().broken += 1;
                let house = self.house.name();
                self.complain_of(format!("{house}: {chat} waits for {waits} ms beside somebody free for it"));
                self.beside.insert(chat.clone(), now_ms);
            }
        }
        self.beside.retain(|chat, _| beside.contains(chat));
    }

    /// Chats in line whom somebody could serve who is free now.
    fn beside_somebody_free(&self) -> Vec<String> {
        let numbers = &self.policy().numbers;
        if self.on_shift() < numbers.min_on_shift {
            return Vec::new();
        }
        let idle = self.responders.iter().filter(|(_, duty)| duty.idle(self.capacity));
        let free: Vec<&String> = idle.map(|(id, _)| id).collect();
        let kept = free.len() <= numbers.reserve;
        let waiting = self.chats.iter().filter(|(_, story)| Self::stands_in_line(story));
        waiting
            .filter(|(_, story)| !kept || story.urgency == Urgency::Imminent)
            .filter(|(chat, _)| free.iter().any(|responder| self.may_meet(chat, responder)))
            .map(|(chat, _)| chat.clone())
            .collect()
    }
}
