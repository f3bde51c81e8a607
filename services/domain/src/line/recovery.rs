//! What happens when the store has lost the line, or the end of it.
//!
//! Visitors hold sealed tickets of their chats, responders sealed assignments. A line that was lost begins another life
//! under the last policy that a replica saw; those who present what they hold find themselves where they were.
//!
//! What may come back, and how:
//! 1. A record that is there always wins, a tombstone too: tickets only fill gaps. A ticket expires before the record of
//!    a chat that ended would be forgotten, so a gap is a loss.
//! 2. Within one life of the line a gap is believed only on another node, or in a term newer than the ticket's: only
//!    there the end of the line can be missing.
//! 3. A ticket is as old as the visitor's last update, and an accept may be newer. So **every** chat that comes back may
//!    be in somebody's hands: it takes its place, and is offered to nobody, proposed to no partner and given to no
//!    supervisor until the recovery hold is over. A request that is new would be served at once; while a whole store is
//!    being brought back, the queue takes none.
//! 4. An assignment counts if it is newer than what the ticket knows: of a chat that was ACTIVE the same one, of a chat
//!    that waited only a later one. Whoever accepts the chat first after it came back ends all older claims.
//! 5. Epochs go on rising: whatever comes back lifts the line's term above its own.
//! 6. A copy that is older than the line was, a restored backup, is a heap of old tickets: nobody is on shift, nothing is
//!    in anybody's hands, and every chat in it waits to be claimed. Its visitor may have left, or have been helped, since:
//!    a chat is not offered before its visitor is heard.

use super::{About, Line, RECOVERING, Timer};
use crate::chat::{Chat, Owner};
use crate::command::{Reassert, Refusal, Reply, Restore, Sealed};
use crate::event::{EventKind, Reason};
use crate::ids::{ChatId, ResponderId};
use crate::lifecycle::{ChatState, Happening};
use crate::limits::{RECOVER_BATCH, RESTORED_GAP};
use crate::line::EPOCHS_PER_TERM;
use crate::policy::Policy;
use crate::responder::{Holding, HoldingKind, Status};

impl Line {
    pub(super) fn revive(&mut self, policy: &Policy, clock_ms: u64) -> Result<Reply, Refusal> {
        if let Some(policy) = &self.state.policy {
            return Err(Refusal::PolicyChanged { revision: policy.revision });
        }
        // Nothing is measured on this clock yet. Tickets are, on the old one: it goes on from where it stood, a moment
        // later than anybody arrived.
        if clock_ms > 0 {
            self.now = clock_ms + 1;
            self.state.clock.now_ms = self.now;
        }
        self.put_in_force(policy, policy.revision.max(1));
        self.tell(EventKind::Revived, About::default());
        Ok(Reply::Policy { revision: policy.revision.max(1) })
    }

    pub(super) fn renew(
        &mut self,
        life_was: &str,
        life: &str,
        clock_ms: u64,
        term: u64,
    ) -> Result<Reply, Refusal> {
        let revision = self.state.policy.as_ref().ok_or(Refusal::NoPolicy)?.revision;
        if self.state.generation != life_was {
            return Err(Refusal::PolicyChanged { revision });
        }
        self.now = self.now.max(clock_ms);
        self.state.clock.now_ms = self.now;
        life.clone_into(&mut self.state.generation);
        self.state.recovering_since_ms = self.now;
        self.begin_term(term);
        self.tell(EventKind::Revived, About::default());
        self.lose_sight_of_everybody();
        let in_line = |c: &&Chat| matches!(c.state, ChatState::Waiting | ChatState::Offered | ChatState::Active);
        let mut found: Vec<(String, ChatId)> =
            self.state.chats.values().filter(in_line).map(|c| (c.member(), c.id.clone())).collect();
        found.sort();
        found.iter().for_each(|(_, id)| self.come_back_from_copy(id));
        if !found.is_empty() {
            self.state.timers.set(&Timer::Recover, self.recovers_at());
        }
        self.finish();
        Ok(Reply::Policy { revision })
    }

    /// The line knows nobody who was on shift, as after a loss: whoever is here signs in again, and what they held is in the
    /// hands of nobody until they say so.
    fn lose_sight_of_everybody(&mut self) {
        let on_shift: Vec<ResponderId> =
            self.state.responders.values().filter(|r| r.status != Status::Offline).map(|r| r.id.clone()).collect();
        for id in on_shift {
            self.unlist_responder(&id);
            let Some(responder) = self.state.responders.remove(&id) else { continue };
            for holding in responder.holdings.into_iter().filter(|h| h.kind == HoldingKind::WrapUp) {
                self.state.timers.cancel(&Timer::WrapUp(id.clone(), holding.chat));
            }
            for timer in [Timer::Shift, Timer::Presence, Timer::CoolDown] {
                self.state.timers.cancel(&timer(id.clone()));
            }
        }
        self.state.on_shift = 0;
    }

    fn come_back_from_copy(&mut self, id: &ChatId) {
        let until = self.recovers_at();
        let (now, abandoned) = (self.now, self.now + self.numbers().abandon_after_ms);
        let Some(chat) = self.chat(id) else { return };
        let (state, urgency, attested) = (chat.state, chat.urgency, chat.attested);
        for number in chat.offers.iter().map(|o| o.number).collect::<Vec<_>>() {
            self.state.timers.cancel(&Timer::Offer(id.clone(), number));
        }
        match state {
            ChatState::Offered => self.happen(id, Happening::LastOfferGone),
            ChatState::Active => self.happen(id, Happening::Return),
            ChatState::Held | ChatState::Waiting | ChatState::Ended => {}
        }
        self.state.timers.cancel(&Timer::Reply(id.clone()));
        self.state.timers.cancel(&Timer::Away(id.clone()));
        self.stop_overflow(id);
        let (active, fan_out) = (state == ChatState::Active, self.fan_out_for(urgency));
        self.with_chat(id, |c| {
            c.offers.clear();
            c.owner = None;
            c.reply_handoff.clear();
            c.returned |= active;
            c.fan_out = fan_out;
            c.away = !attested;
            c.version += u64::from(RESTORED_GAP);
            c.offers_made = c.offers_made.saturating_add(RESTORED_GAP);
            if c.reclaim_from == 0 {
                c.reclaim_from = c.assignments_made + u32::from(!active);
            }
            c.recovering = now < until;
        });
        if !attested {
            self.state.timers.set(&Timer::Abandon(id.clone()), abandoned);
        }
        self.tell(EventKind::Restored, About { chat: Some(id), urgency: Some(urgency), ..About::default() });
        self.take_place(id);
        self.arm_overflow(id, false);
    }

    /// Until then nothing that comes back is offered.
    pub(super) fn recovers_at(&self) -> u64 {
        self.state.recovering_since_ms + self.numbers().recovery_hold_ms
    }

    pub(super) fn restore(&mut self, restore: &Restore) -> Result<Reply, Refusal> {
        let revision = self.state.policy.as_ref().ok_or(Refusal::NoPolicy)?.revision;
        let Restore { request, sealed } = restore;
        if let Some(chat) = self.chat(&request.chat) {
            if chat.token != request.token || chat.state == ChatState::Held {
                return Err(Refusal::UnknownChat);
            }
            self.touch(&request.chat);
            self.finish();
            return self.view(&request.chat, false);
        }
        if revision != request.revision {
            return Err(Refusal::PolicyChanged { revision });
        }
        if self.state.requests.contains_key(&request.request_key) {
            return Err(Refusal::RequestConflict);
        }
        if !self.may_have_lost(sealed) {
            return Err(Refusal::UnknownChat);
        }
        self.readmit(restore, sealed.term);
        self.finish();
        self.view(&request.chat, false)
    }

    /// Whether a chat that is not here can have been lost. One that has ended is still known when its ticket expires.
    fn may_have_lost(&self, sealed: &Sealed) -> bool {
        let other_life = sealed.generation != self.state.generation;
        let older_term = self.has_moved() || sealed.term < self.state.term.number;
        self.now < sealed.expires_ms && (other_life || older_term)
    }

    /// A chat comes back to its place. Those who came before the loss go before those who come after it, in their old
    /// order, whatever the clocks say.
    fn readmit(&mut self, restore: &Restore, least_term: u64) {
        let Restore { request, sealed } = restore;
        let id = &request.chat;
        self.rise_above(sealed, least_term);
        let arrival_ms = sealed.arrival_ms.min(self.state.recovering_since_ms.saturating_sub(1));
        let (now, until) = (self.now, self.recovers_at());
        self.state.ledger.accepted += 1;
        self.state.ledger.waiting += 1;
        self.insert_chat(request, ChatState::Waiting, arrival_ms, sealed.sequence);
        self.with_chat(id, |c| {
            c.version = sealed.version + u64::from(RESTORED_GAP);
            c.step = sealed.step.min(c.steps.len().saturating_sub(1));
            c.returned = sealed.returned;
            c.offers_made = sealed.offers_made.saturating_add(RESTORED_GAP);
            c.assignments_made = sealed.assignments_made;
            c.proposals = sealed.proposals;
            c.came_from.clone_from(&sealed.came_from);
            c.reclaim_from = sealed.assignments_made + u32::from(!sealed.active);
            c.recovering = now < until;
        });
        let about = About { chat: Some(id), urgency: Some(request.urgency), ..About::default() };
        self.tell(EventKind::Restored, about);
        if now < until {
            self.state.timers.set(&Timer::Recover, until);
        }
        if !request.attested {
            self.state.timers.set(&Timer::Away(id.clone()), now + self.numbers().away_after_ms);
        }
        // Nobody is absent for good who has not had the time to come back.
        self.take_place(id);
        self.arm_overflow(id, false);
    }

    /// Epochs go on above those of this term. On another node the end of the line may be missing, so the hold begins;
    /// in a new life it has begun already.
    fn rise_above(&mut self, sealed: &Sealed, term: u64) {
        let first_of_this_life = self.state.term.node.is_none() && sealed.generation != self.state.generation;
        if self.has_moved() && !first_of_this_life {
            self.state.recovering_since_ms = self.now;
        }
        if self.has_moved() || self.state.term.number <= term {
            self.begin_term(term);
        }
    }

    pub(super) fn reassert(&mut self, reassert: &Reassert) -> Result<Reply, Refusal> {
        let Reassert { responder, session, fence, restore, .. } = reassert;
        self.check_session(responder, *session)?;
        let revision = self.state.policy.as_ref().ok_or(Refusal::NoPolicy)?.revision;
        let id = &restore.request.chat;
        let term = restore.sealed.term.max(fence.epoch / EPOCHS_PER_TERM);
        if let Some(chat) = self.chat(id) {
            if let Some((outcome, _)) = chat.ended {
                return Err(Refusal::ChatEnded { outcome });
            }
            if chat.owner.as_ref().is_some_and(|o| o.responder == *responder && o.fence == *fence) {
                self.with_chat(id, |c| c.replays += 1);
                return self.accepted(id);
            }
            if !reclaims(chat, reassert) {
                return Err(Refusal::StaleFence);
            }
            self.rise_above(&restore.sealed, term);
        } else {
            if revision != restore.request.revision {
                return Err(Refusal::PolicyChanged { revision });
            }
            let known = self.state.requests.contains_key(&restore.request.request_key);
            if known || !self.may_have_lost(&restore.sealed) {
                return Err(Refusal::StaleFence);
            }
            self.readmit(restore, term);
        }
        self.reclaim(reassert);
        self.finish();
        self.accepted(id)
    }

    /// The chat is in its responder's hands again, under its old fence. Offers of it end: whoever was in the conversation
    /// goes on with it.
    fn reclaim(&mut self, reassert: &Reassert) {
        let Reassert { responder, offer, fence, restore, reply_handoff, .. } = reassert;
        let id = &restore.request.chat;
        let offers = self.chat(id).map(|c| c.offers.clone()).unwrap_or_default();
        for open in offers {
            if open.responder == *responder {
                self.state.timers.cancel(&Timer::Offer(id.clone(), open.number));
            } else {
                self.lose_to(id, open.number);
            }
        }
        for timer in [Timer::Away, Timer::Abandon, Timer::Retry, Timer::Step] {
            self.state.timers.cancel(&timer(id.clone()));
        }
        self.stop_overflow(id);
        self.delivery_done(id);
        self.happen(id, Happening::Reclaim);
        let (now, since) = (self.now, self.state.recovering_since_ms);
        let urgency = self.with_chat(id, |c| {
            c.offers.clear();
            c.away = false;
            c.recovering = false;
            c.reclaim_from = 0;
            c.shown = None;
            c.version += 1;
            c.assignments_made = assignment_of(reassert);
            c.reply_handoff.clone_from(reply_handoff);
            // What was said before is not known: whoever says that it is theirs has written.
            let (since_ms, engaged_ms) = (restore.sealed.issued_ms.min(since), Some(now));
            let (responder, offer, fence) = (responder.clone(), *offer, *fence);
            c.owner = Some(Owner { responder, offer, fence, since_ms, engaged_ms });
            c.urgency
        });
        let Some(urgency) = urgency else {
            return;
        };
        self.take_in_hand(responder, id, urgency);
        // It may weigh less in hand than it did on offer.
        self.freed.push(responder.clone());
        self.settle_chat(id);
        self.make_room(responder);
        self.tell(
            EventKind::Reclaimed,
            About {
                chat: Some(id),
                responder: Some(responder),
                urgency: Some(urgency),
                offer: Some(*offer),
                fence: Some(*fence),
                ..About::default()
            },
        );
    }

    fn take_in_hand(&mut self, responder: &ResponderId, id: &ChatId, urgency: crate::Urgency) {
        let numbers = self.numbers();
        self.with_responder(responder, |r| {
            r.holdings.retain(|h| h.chat != *id);
            let weight = super::matching::weight_in(r, urgency, &numbers);
            let hard = crate::chat::is_hard(urgency);
            let kind = HoldingKind::Active;
            r.holdings.push(Holding { chat: id.clone(), kind, weight, hard, beyond: false, called_ms: 0 });
            r.hard_in_row += u32::from(hard);
            r.hard_in_shift += u32::from(hard);
            r.version += 1;
        });
        self.settle_responder(responder);
    }

    /// What was offered while the line did not know of a chat in these hands goes on to others, the newest first, until
    /// the load fits. It is not a miss.
    fn make_room(&mut self, responder: &ResponderId) {
        while let Some(chat) = self.offer_too_many(responder) {
            let Some(number) = self.chat(&chat).and_then(|c| c.offer_to(responder)).map(|o| o.number) else {
                return;
            };
            self.withdraw(&chat, number);
            self.tell(
                EventKind::Rescinded,
                About {
                    chat: Some(&chat),
                    responder: Some(responder),
                    offer: Some(number),
                    reason: Some(Reason::Busy),
                    ..About::default()
                },
            );
            self.hungry.push(chat);
        }
    }

    fn offer_too_many(&self, responder: &ResponderId) -> Option<ChatId> {
        let responder = self.state.responders.get(responder)?;
        let load: u32 = responder.holdings.iter().filter(|h| !h.beyond).map(|h| h.weight).sum();
        let offer = responder.holdings.iter().rfind(|h| h.kind == HoldingKind::Offer && !h.beyond)?;
        (load > responder.capacity).then(|| offer.chat.clone())
    }

    /// The hold is over: whoever nobody has claimed is offered like everybody else, first in line first.
    pub(super) fn end_recovery(&mut self) {
        let until = self.recovers_at();
        if self.now < until {
            self.state.timers.set(&Timer::Recover, until);
            return;
        }
        let first: Vec<ChatId> = self
            .state
            .lanes
            .members(RECOVERING)
            .take(RECOVER_BATCH)
            .filter_map(|(_, member)| ChatId::parse(member.split_once(':')?.1).ok())
            .collect();
        for id in &first {
            self.with_chat(id, |c| c.recovering = false);
            self.settle_chat(id);
            self.arm_overflow(id, false);
            self.hungry.push(id.clone());
        }
        if self.state.lanes.members(RECOVERING).next().is_some() {
            self.state.timers.set(&Timer::Recover, self.now);
        }
    }
}

/// Which assignment of its chat it is: the fence says so.
fn assignment_of(reassert: &Reassert) -> u32 {
    u32::try_from(reassert.fence.epoch % EPOCHS_PER_TERM).unwrap_or(u32::MAX)
}

/// Whether an assignment is newer than what brought the chat back; of a chat that never was away, whether it is newer than
/// what the line knows: then the accept was lost with the end of the line.
fn reclaims(chat: &Chat, reassert: &Reassert) -> bool {
    let in_line = matches!(chat.state, ChatState::Waiting | ChatState::Offered);
    let first = if chat.reclaim_from > 0 { chat.reclaim_from } else { chat.assignments_made + 1 };
    in_line && assignment_of(reassert) >= first
}
