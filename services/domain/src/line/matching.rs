//! Who meets whom. Responders who became free look for the best chat that waits for them; then chats that became
//! matchable, most urgent first, look for the best responder who is free. Matching only makes offers, it frees
//! nobody, so one pass over both is enough.

use super::{About, Line, Reroutes, Timer, once_each};
use crate::chat::{Chat, Offer, Step, is_hard};
use crate::event::{EventKind, Reason};
use crate::ids::{ChatId, ResponderId};
use crate::lifecycle::Happening;
use crate::limits::{SEARCH_DEPTH, SWEEP};
use crate::policy::Numbers;
use crate::priority::{Urgency, is_imminent};
use crate::requirement::Mask;
use crate::responder::{Holding, HoldingKind, Responder};

/// Whether a responder may be offered a chat that they once did not take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Not within the back-off.
    Full,
    /// After the shortest back-off, because nobody else is there.
    Short,
}

/// What a look at one pair said.
enum Look {
    Fits,
    NotYet,
    Never,
}

impl Line {
    pub(super) fn finish(&mut self) {
        // What is matched from here on is nobody's wish but the line's.
        self.by = None;
        if self.gate_shut {
            self.hasten_overflow();
        }
        if !self.gate_open() {
            self.freed.clear();
            self.hungry.clear();
            return;
        }
        for responder in once_each(std::mem::take(&mut self.freed)) {
            self.sweep = true;
            self.match_responder(&responder);
        }
        let mut hungry: Vec<(i64, String, ChatId)> = once_each(std::mem::take(&mut self.hungry))
            .into_iter()
            .filter_map(|id| {
                let chat = self.chat(&id)?;
                Some((chat.standing.as_ref()?.score, chat.member(), id))
            })
            .collect();
        hungry.sort();
        for (_, _, chat) in hungry {
            self.match_chat(&chat);
        }
        if self.everyone || (self.sweep && self.numbers().reserve > 0) {
            self.match_held_back();
        }
    }

    /// When something has changed for everybody, or more responders are free than the reserve asks for, those who
    /// stood by may serve after all.
    fn match_held_back(&mut self) {
        if self.state.lanes.is_empty() || (!self.everyone && self.only_imminent()) {
            return;
        }
        let idle: Vec<ResponderId> =
            self.state.classes.all().take(SWEEP).filter_map(|(_, id)| ResponderId::parse(id).ok()).collect();
        for responder in idle {
            self.match_responder(&responder);
        }
    }

    /// The last free responders are kept for IMMINENT chats.
    fn only_imminent(&self) -> bool {
        let reserve = usize::try_from(self.numbers().reserve).unwrap_or(usize::MAX);
        reserve > 0 && self.state.classes.len() <= reserve
    }

    fn match_responder(&mut self, id: &ResponderId) {
        while let Some(chat) = self.best_chat_for(id) {
            self.offer(&chat, id, None, None);
        }
    }

    fn match_chat(&mut self, id: &ChatId) {
        while let Some(responder) = self.best_responder_for(id) {
            self.offer(id, &responder, None, None);
        }
    }

    /// The lowest score among the chats that wait for someone like this responder; `None` too if they are not free.
    fn best_chat_for(&self, id: &ResponderId) -> Option<ChatId> {
        let responder = self.state.responders.get(id)?;
        responder.idle.as_ref()?;
        match self.search_chats(responder, Patience::Full) {
            (Some(found), _) => Some(found),
            (None, false) => None,
            (None, true) => self.search_chats(responder, Patience::Short).0,
        }
    }

    /// The best chat, and whether one was passed over that more patience would have found.
    fn search_chats(&self, responder: &Responder, patience: Patience) -> (Option<ChatId>, bool) {
        let numbers = self.numbers();
        let only_imminent = self.only_imminent();
        let mut best: Option<(i64, ChatId)> = None;
        let mut passed_over = false;
        for (head, lane) in self.state.lanes.heads() {
            if best.as_ref().is_some_and(|(score, _)| head >= *score) || (only_imminent && !is_imminent(head)) {
                break;
            }
            if !fits(lane, responder, &numbers, &self.state.reroutes) {
                continue;
            }
            for (score, member) in self.state.lanes.members(lane).take(SEARCH_DEPTH) {
                if best.as_ref().is_some_and(|(b, _)| score >= *b) || (only_imminent && !is_imminent(score)) {
                    break;
                }
                let Some(chat) = member.split_once(':').and_then(|(_, id)| ChatId::parse(id).ok()) else {
                    continue;
                };
                match self.chat(&chat).map_or(Look::Never, |c| self.look(c, &responder.id, patience, &numbers)) {
                    Look::Fits => {
                        best = Some((score, chat));
                        break;
                    }
                    Look::NotYet => passed_over = true,
                    Look::Never => {}
                }
            }
        }
        (best.map(|(_, chat)| chat), passed_over)
    }

    /// The best of the free responders for this chat: fewest scarce capabilities, longest rested, name.
    fn best_responder_for(&self, id: &ChatId) -> Option<ResponderId> {
        let chat = self.chat(id)?;
        let standing = chat.standing.as_ref()?;
        if self.only_imminent() && !is_imminent(standing.score) {
            return None;
        }
        match self.search_responders(chat, &standing.lane, Patience::Full) {
            (Some(found), _) => Some(found),
            (None, false) => None,
            (None, true) => self.search_responders(chat, &standing.lane, Patience::Short).0,
        }
    }

    fn search_responders(&self, chat: &Chat, lane: &str, patience: Patience) -> (Option<ResponderId>, bool) {
        let numbers = self.numbers();
        if let Some(only) = chat.steps.get(chat.step).and_then(|s| s.only.as_ref()) {
            return self.ask_only(chat, lane, only, patience);
        }
        let mut best: Option<(i64, ResponderId)> = None;
        let mut passed_over = false;
        for (head, class) in self.state.classes.heads() {
            if best.as_ref().is_some_and(|(score, _)| head >= *score) {
                break;
            }
            // All members of a class are alike, so its first one speaks for them.
            let first = self.state.classes.members(class).next().and_then(|(_, id)| ResponderId::parse(id).ok());
            let Some(first) = first.and_then(|id| self.state.responders.get(&id)) else {
                continue;
            };
            if !fits(lane, first, &numbers, &self.state.reroutes) {
                continue;
            }
            for (score, member) in self.state.classes.members(class).take(SEARCH_DEPTH) {
                if best.as_ref().is_some_and(|(b, _)| score >= *b) {
                    break;
                }
                let Ok(responder) = ResponderId::parse(member) else {
                    continue;
                };
                match self.look(chat, &responder, patience, &numbers) {
                    Look::Fits => {
                        best = Some((score, responder));
                        break;
                    }
                    Look::NotYet => passed_over = true,
                    Look::Never => {}
                }
            }
        }
        (best.map(|(_, responder)| responder), passed_over)
    }

    /// The one whom the visitor would like to meet again, if they are free.
    fn ask_only(
        &self,
        chat: &Chat,
        lane: &str,
        only: &ResponderId,
        patience: Patience,
    ) -> (Option<ResponderId>, bool) {
        let numbers = self.numbers();
        let free = self.state.responders.get(only).filter(|r| r.idle.is_some());
        if !free.is_some_and(|r| fits(lane, r, &numbers, &self.state.reroutes)) {
            return (None, false);
        }
        match self.look(chat, only, patience, &numbers) {
            Look::Fits => (Some(only.clone()), false),
            Look::NotYet => (None, true),
            Look::Never => (None, false),
        }
    }

    fn look(&self, chat: &Chat, responder: &ResponderId, patience: Patience, numbers: &Numbers) -> Look {
        if chat.offer_to(responder).is_some() || chat.excluded.contains(responder) {
            return Look::Never;
        }
        let Some(asked) = chat.asked.iter().find(|a| a.responder == *responder) else {
            return Look::Fits;
        };
        if self.now >= asked.at_ms + numbers.back_off_ms {
            Look::Fits
        } else if self.now < asked.at_ms + numbers.min_back_off_ms {
            Look::Never
        } else if patience == Patience::Short {
            Look::Fits
        } else {
            Look::NotYet
        }
    }

    /// `glass` is 1 where a supervisor broke the glass for it.
    pub(super) fn offer(
        &mut self,
        id: &ChatId,
        responder: &ResponderId,
        reason: Option<Reason>,
        glass: Option<u64>,
    ) {
        let numbers = self.numbers();
        let deadline = self.now + numbers.offer_deadline_ms;
        let offered = self.with_chat(id, |c| {
            c.offers_made += 1;
            c.version += 1;
            c.offers.push(Offer { number: c.offers_made, responder: responder.clone() });
            (c.offers_made, c.urgency)
        });
        let Some((number, urgency)) = offered else {
            return;
        };
        self.with_responder(responder, |r| {
            let weight = weight_in(r, urgency, &numbers);
            let (hard, beyond) = (is_hard(urgency), weight > r.free());
            let (chat, kind) = (id.clone(), HoldingKind::Offer);
            r.holdings.push(Holding { chat, kind, weight, hard, beyond, called_ms: 0 });
            r.version += 1;
        });
        self.happen(id, Happening::Offer);
        self.state.timers.set(&Timer::Offer(id.clone(), number), deadline);
        self.settle_chat(id);
        self.settle_responder(responder);
        self.tell(
            EventKind::Offered,
            About {
                chat: Some(id),
                responder: Some(responder),
                urgency: Some(urgency),
                offer: Some(number),
                until_ms: Some(deadline),
                reason,
                number: glass,
                ..About::default()
            },
        );
    }
}

/// What a chat takes of a responder: whoever is in danger takes what is free.
pub(super) fn weight_in(responder: &Responder, urgency: Urgency, numbers: &Numbers) -> u32 {
    let weight = Numbers::by(&numbers.weight, urgency).min(responder.capacity);
    let free = responder.free();
    if urgency == Urgency::Imminent && free > 0 { weight.min(free) } else { weight }
}

/// Whether a responder has what a lane asks for, or what it is rerouted to, and the load free; and is neither spared
/// hard chats nor its topics. A chat that weighs more than somebody can carry at all takes their whole capacity.
pub(crate) fn fits(lane: &str, responder: &Responder, numbers: &Numbers, reroutes: &Reroutes) -> bool {
    read_lane(lane, reroutes).is_some_and(|(weight, hard, topics, step)| {
        responder.free() >= weight.min(responder.capacity)
            && !(hard && responder.spared(numbers))
            && responder.opt_out.shared(&topics) == 0
            && step.only.as_ref().is_none_or(|only| *only == responder.id)
            && step.requirement.met_by(&responder.capabilities)
    })
}

fn read_lane(lane: &str, reroutes: &Reroutes) -> Option<(u32, bool, Mask, Step)> {
    let mut parts = lane.splitn(4, ':');
    let weight = parts.next()?.parse().ok()?;
    let hard = parts.next()? == "1";
    let topics = Mask::from_text(parts.next()?)?;
    let signature = parts.next()?;
    let step = match reroutes.get(signature) {
        Some(reroute) => Step::new(0, reroute.to.clone()),
        None => Step::from_signature(0, signature)?,
    };
    Some((weight, hard, topics, step))
}
