//! What responders ask: to be seen as there, to take or turn down what is offered, to finish what they took.

use super::{About, Arriving, EPOCHS_PER_TERM, Line, TERM_EPOCH_MS, Timer};
use crate::chat::{EndedAs, Fence, OfferId, Owner};
use crate::command::{Refusal, Reply};
use crate::event::{EventKind, Reason};
use crate::ids::{ChatId, ResponderId};
use crate::lifecycle::{ChatState, Happening};
use crate::priority::Urgency;
use crate::responder::{HoldingKind, Responder, Status};

impl Line {
    pub(super) fn sign_in(
        &mut self,
        id: &ResponderId,
        arriving: &Arriving,
        shift_ms: u64,
        ready: bool,
        revision: u64,
    ) -> Result<Reply, Refusal> {
        let policy = self.state.policy.as_ref().ok_or(Refusal::NoPolicy)?;
        if policy.revision != revision {
            return Err(Refusal::PolicyChanged { revision: policy.revision });
        }
        let lease = self.now + policy.numbers.presence_lease_ms;
        let shift_gap = policy.numbers.shift_gap_ms;
        let now = self.now;
        let &Arriving { capabilities, scarce, opt_out, capacity } = arriving;
        let status = if ready { Status::Ready } else { Status::OnBreak };
        self.unlist_responder(id);
        let as_before = self
            .state
            .responders
            .get(id)
            .is_some_and(|r| r.capabilities == capabilities && r.capacity == capacity && r.opt_out == opt_out);
        let comes = self.state.responders.get(id).is_none_or(|r| r.status == Status::Offline);
        let responder = self.state.responders.entry(id.clone()).or_insert_with(|| Responder {
            id: id.clone(),
            session: 0,
            linked: false,
            status: Status::Offline,
            cooling_until_ms: 0,
            capabilities,
            scarce,
            opt_out,
            capacity,
            hard_in_row: 0,
            hard_in_shift: 0,
            shift_ending: false,
            break_since_ms: 0,
            left_ms: 0,
            holdings: Vec::new(),
            rested_ms: now,
            version: 0,
            idle: None,
        });
        // Above every earlier session, even one of a record that was forgotten.
        responder.session = (responder.session + 1).max(now);
        responder.linked = true;
        responder.status = status;
        responder.capabilities = capabilities;
        responder.scarce = scarce;
        responder.opt_out = opt_out;
        responder.capacity = capacity;
        responder.break_since_ms = if ready { 0 } else { now };
        if comes && responder.left_ms > 0 && now - responder.left_ms >= shift_gap {
            responder.hard_in_row = 0;
            responder.hard_in_shift = 0;
        }
        responder.version += 1;
        self.guard_shift(id, shift_ms);
        self.state.timers.cancel(&Timer::Gone(id.clone()));
        self.state.timers.set(&Timer::Presence(id.clone()), lease);
        self.settle_responder(id);
        self.tell(EventKind::SignedIn, About { responder: Some(id), status: Some(status), ..About::default() });
        if comes {
            self.state.on_shift += 1;
            self.gate_may_open();
        }
        // What was offered to the old device stays offered only to somebody who can still take it.
        if !(ready && as_before) {
            self.give_back_offers(id, Reason::Asked);
        }
        self.freed.push(id.clone());
        self.finish();
        self.responder_view(id)
    }

    /// The line notices when somebody is the one who was missing.
    fn gate_may_open(&mut self) {
        if self.numbers().min_on_shift > 0 && self.state.on_shift == self.numbers().min_on_shift {
            self.tell(EventKind::GateOpened, About::default());
            self.everyone = true;
        }
    }

    /// Hard chats end some time before a shift does.
    fn guard_shift(&mut self, id: &ResponderId, shift_ms: u64) {
        let guard = self.numbers().shift_guard_ms;
        let guarded = shift_ms > 0 && guard > 0;
        let ending = guarded && shift_ms <= guard;
        if guarded && !ending {
            self.state.timers.set(&Timer::Shift(id.clone()), self.now + shift_ms - guard);
        } else {
            self.state.timers.cancel(&Timer::Shift(id.clone()));
        }
        self.with_responder(id, |r| r.shift_ending = ending);
    }

    /// Takes a responder out of the free ones before what they can do changes: the entry is found by the old values.
    pub(super) fn unlist_responder(&mut self, id: &ResponderId) {
        self.with_responder(id, |r| r.linked = false);
        self.settle_responder(id);
    }

    pub(super) fn check_session(&self, id: &ResponderId, session: u64) -> Result<&Responder, Refusal> {
        let responder = self.state.responders.get(id).ok_or(Refusal::NotSignedIn)?;
        if responder.status == Status::Offline {
            return Err(Refusal::NotSignedIn);
        }
        if responder.session != session || !responder.linked {
            return Err(Refusal::StaleSession);
        }
        Ok(responder)
    }

    pub(super) fn tell_status(&mut self, id: &ResponderId, status: Status, reason: Reason) {
        self.tell(
            EventKind::StatusChanged,
            About { responder: Some(id), status: Some(status), reason: Some(reason), ..About::default() },
        );
    }

    pub(super) fn heartbeat(&mut self, id: &ResponderId, session: u64) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        let lease = self.now + self.numbers().presence_lease_ms;
        self.state.timers.set(&Timer::Presence(id.clone()), lease);
        self.responder_view(id)
    }

    pub(super) fn set_status(&mut self, id: &ResponderId, session: u64, status: Status) -> Result<Reply, Refusal> {
        let responder = self.check_session(id, session)?;
        if matches!(status, Status::Offline | Status::NotResponding) {
            return Err(Refusal::StatusNotAllowed);
        }
        if responder.status == status {
            return self.responder_view(id);
        }
        let idle_handed = responder.holdings.is_empty();
        if status == Status::Ready {
            self.become_ready(id, Reason::Asked);
        } else {
            let break_since_ms = if status == Status::OnBreak { self.now } else { 0 };
            self.with_responder(id, |r| {
                r.status = status;
                r.break_since_ms = break_since_ms;
                r.version += 1;
            });
            self.settle_responder(id);
            self.tell_status(id, status, Reason::Asked);
            self.give_back_offers(id, Reason::Asked);
        }
        if status == Status::Leaving && idle_handed {
            self.go_offline(id, Reason::Asked);
        }
        self.finish();
        self.responder_view(id)
    }

    /// Ready again: after a long enough break, hard chats count anew.
    pub(super) fn become_ready(&mut self, id: &ResponderId, reason: Reason) {
        let (now, rest) = (self.now, self.numbers().hard_rest_ms);
        self.with_responder(id, |r| {
            if r.break_since_ms > 0 && now - r.break_since_ms >= rest {
                r.hard_in_row = 0;
            }
            r.break_since_ms = 0;
            r.status = Status::Ready;
            r.version += 1;
        });
        self.settle_responder(id);
        self.tell_status(id, Status::Ready, reason);
        self.freed.push(id.clone());
    }

    pub(super) fn ask_cool_down(&mut self, id: &ResponderId, session: u64, for_ms: u64) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        self.extend_cool_down(id, for_ms, Reason::Asked);
        self.finish();
        self.responder_view(id)
    }

    /// A cool-down can be made longer, never shorter. What is offered meanwhile goes on to others.
    pub(super) fn extend_cool_down(&mut self, id: &ResponderId, for_ms: u64, reason: Reason) {
        let until = self.now + for_ms;
        let longer = self.with_responder(id, |r| {
            let longer = for_ms > 0 && until > r.cooling_until_ms;
            if longer {
                r.cooling_until_ms = until;
                r.version += 1;
            }
            longer
        });
        if longer != Some(true) {
            return;
        }
        self.state.timers.set(&Timer::CoolDown(id.clone()), until);
        self.settle_responder(id);
        self.tell(
            EventKind::CoolingDown,
            About { responder: Some(id), until_ms: Some(until), reason: Some(reason), ..About::default() },
        );
        self.give_back_offers(id, Reason::Asked);
    }

    pub(super) fn unlink(&mut self, id: &ResponderId, session: u64) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        let grace = self.now + self.numbers().reconnect_grace_ms;
        let presence = Timer::Presence(id.clone());
        let lease = self.state.timers.at(&presence).map_or(grace, |at| at.min(grace));
        self.state.timers.set(&presence, lease);
        self.with_responder(id, |r| {
            r.linked = false;
            r.version += 1;
        });
        self.settle_responder(id);
        self.tell(EventKind::Unlinked, About { responder: Some(id), until_ms: Some(lease), ..About::default() });
        self.give_back_offers(id, Reason::ResponderLost);
        self.finish();
        self.responder_view(id)
    }

    pub(super) fn sign_out(&mut self, id: &ResponderId, session: u64) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        self.go_offline(id, Reason::Asked);
        self.finish();
        self.responder_view(id)
    }

    /// Open offers go on to others at once; it is not a miss.
    fn give_back_offers(&mut self, id: &ResponderId, reason: Reason) {
        let offered: Vec<ChatId> = self
            .state
            .responders
            .get(id)
            .map(|r| r.holdings.iter().filter(|h| h.kind == HoldingKind::Offer).map(|h| h.chat.clone()).collect())
            .unwrap_or_default();
        for chat in offered {
            let Some(number) = self.chat(&chat).and_then(|c| c.offer_to(id)).map(|o| o.number) else {
                continue;
            };
            self.withdraw(&chat, number);
            self.tell(
                EventKind::Rescinded,
                About {
                    chat: Some(&chat),
                    responder: Some(id),
                    offer: Some(number),
                    reason: Some(reason),
                    ..About::default()
                },
            );
            if reason == Reason::ResponderLost {
                self.delivery_failed(&chat);
            }
            self.hungry.push(chat);
        }
    }

    /// A responder is gone: everything in their hands goes back.
    pub(super) fn go_offline(&mut self, id: &ResponderId, reason: Reason) {
        let was_online = self.with_responder(id, |r| {
            let was_online = r.status != Status::Offline;
            r.status = Status::Offline;
            r.linked = false;
            r.version += 1;
            was_online
        });
        if was_online != Some(true) {
            return;
        }
        let now = self.now;
        self.with_responder(id, |r| {
            r.left_ms = now;
            r.break_since_ms = 0;
            r.shift_ending = false;
        });
        self.state.timers.cancel(&Timer::Shift(id.clone()));
        let gone = self.now + self.numbers().retention_ms;
        self.state.timers.cancel(&Timer::Presence(id.clone()));
        self.state.timers.set(&Timer::Gone(id.clone()), gone);
        self.settle_responder(id);
        self.tell(EventKind::SignedOut, About { responder: Some(id), reason: Some(reason), ..About::default() });
        self.gate_may_close();
        self.give_back_offers(id, reason);
        let held = self.state.responders.get(id).map(|r| r.holdings.clone()).unwrap_or_default();
        for holding in held {
            match holding.kind {
                HoldingKind::Offer => {}
                HoldingKind::Active => self.return_chat(&holding.chat, id, reason),
                HoldingKind::WrapUp => {
                    self.state.timers.cancel(&Timer::WrapUp(id.clone(), holding.chat.clone()));
                    self.drop_holding(id, &holding.chat);
                }
            }
        }
    }

    fn gate_may_close(&mut self) {
        let least = self.numbers().min_on_shift;
        self.state.on_shift -= 1;
        if least > 0 && self.state.on_shift + 1 == least {
            self.tell(EventKind::GateClosed, About::default());
            self.gate_shut = true;
        }
    }

    /// The chat in these hands has become a hard one.
    pub(super) fn grow_hard(&mut self, id: &ChatId) {
        let Some(chat) = self.chat(id) else { return };
        let mut hands: Vec<ResponderId> = chat.offers.iter().map(|o| o.responder.clone()).collect();
        if chat.state == ChatState::Active {
            hands.extend(chat.owner.iter().map(|o| o.responder.clone()));
        }
        for responder in hands {
            self.with_responder(&responder, |r| {
                let grown = r.holdings.iter_mut().find(|h| h.chat == *id && !h.hard);
                let active = grown.map(|h| {
                    h.hard = true;
                    h.kind == HoldingKind::Active
                });
                if active == Some(true) {
                    r.hard_in_row += 1;
                    r.hard_in_shift += 1;
                }
            });
            self.settle_responder(&responder);
        }
    }

    /// A chat comes back from its owner to the line: at its old place, with a head start, and looked at at once.
    pub(super) fn return_chat(&mut self, id: &ChatId, responder: &ResponderId, reason: Reason) {
        let away_at = self.now + self.numbers().away_after_ms;
        self.happen(id, Happening::Return);
        self.state.timers.cancel(&Timer::Reply(id.clone()));
        let urgency = self.chat(id).map_or_else(Urgency::default, |c| c.urgency);
        let fan_out = self.fan_out_for(urgency);
        let returned = self.with_chat(id, |c| {
            c.returned = true;
            c.fan_out = fan_out;
            c.version += 1;
            c.reply_handoff.clear();
            let silent = c.owner.as_ref().is_some_and(|o| o.engaged_ms.is_none());
            (c.owner.take().map(|o| o.fence), c.attested, silent)
        });
        let Some((fence, attested, silent)) = returned else {
            return;
        };
        if !attested {
            self.state.timers.set(&Timer::Away(id.clone()), away_at);
        }
        self.arm_next_step(id);
        self.arm_overflow(id, false);
        self.settle_chat(id);
        self.tell(
            EventKind::Returned,
            About { chat: Some(id), responder: Some(responder), fence, reason: Some(reason), ..About::default() },
        );
        if silent && matches!(reason, Reason::ResponderLost | Reason::NoReply) {
            self.delivery_failed(id);
        }
        self.drop_holding(responder, id);
        self.hungry.push(id.clone());
    }

    pub(super) fn accept(
        &mut self,
        id: &ResponderId,
        session: u64,
        offer: &OfferId,
        reply_handoff: &[u8],
    ) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        let chat = self.chat(&offer.chat).ok_or(Refusal::OfferGone)?;
        let theirs = chat.state == ChatState::Active
            && chat.owner.as_ref().is_some_and(|o| o.responder == *id && o.offer == offer.number);
        if theirs {
            self.with_chat(&offer.chat, |c| c.replays += 1);
            return self.accepted(&offer.chat);
        }
        if chat.offer_to(id).is_none_or(|o| o.number != offer.number) {
            return Err(Refusal::OfferGone);
        }
        self.assign(id, offer, reply_handoff);
        self.finish();
        self.accepted(&offer.chat)
    }

    pub(super) fn assign(&mut self, id: &ResponderId, offer: &OfferId, reply_handoff: &[u8]) {
        let now = self.now;
        let chat = &offer.chat;
        self.begin_term_if_moved();
        let first_epoch = self.state.term.number * EPOCHS_PER_TERM;
        let minted_by = self.node;
        let others: Vec<u32> = self
            .chat(chat)
            .map(|c| c.offers.iter().map(|o| o.number).filter(|n| *n != offer.number).collect())
            .unwrap_or_default();
        for number in others {
            self.lose_to(chat, number);
        }
        self.state.timers.cancel(&Timer::Offer(chat.clone(), offer.number));
        self.state.timers.cancel(&Timer::Away(chat.clone()));
        self.state.timers.cancel(&Timer::Retry(chat.clone()));
        self.state.timers.cancel(&Timer::Step(chat.clone()));
        self.stop_overflow(chat);
        let first_reply_ms = self.numbers().first_reply_ms;
        if first_reply_ms > 0 {
            self.state.timers.set(&Timer::Reply(chat.clone()), now + first_reply_ms);
        }
        self.learn_wait(chat);
        self.happen(chat, Happening::Accept);
        let assigned = self.with_chat(chat, |c| {
            c.offers.clear();
            c.version += 1;
            c.assignments_made += 1;
            c.reply_handoff = reply_handoff.to_vec();
            c.reclaim_from = 0;
            let fence = Fence { epoch: first_epoch + u64::from(c.assignments_made), minted_by };
            let responder = id.clone();
            c.owner = Some(Owner { responder, offer: offer.number, fence, since_ms: now, engaged_ms: None });
            (fence, c.urgency)
        });
        let Some((fence, urgency)) = assigned else {
            return;
        };
        self.with_responder(id, |r| {
            if let Some(held) = r.holdings.iter_mut().find(|h| h.chat == *chat) {
                held.kind = HoldingKind::Active;
                r.hard_in_row += u32::from(held.hard);
                r.hard_in_shift += u32::from(held.hard);
            }
            r.version += 1;
        });
        self.settle_responder(id);
        self.state.pace.hand_over(now);
        self.settle_chat(chat);
        self.tell(
            EventKind::Accepted,
            About {
                chat: Some(chat),
                responder: Some(id),
                urgency: Some(urgency),
                offer: Some(offer.number),
                fence: Some(fence),
                ..About::default()
            },
        );
    }

    /// Somebody else was faster.
    pub(super) fn lose_to(&mut self, chat: &ChatId, number: u32) {
        let Some(loser) = self.withdraw(chat, number) else {
            return;
        };
        self.tell(
            EventKind::Rescinded,
            About {
                chat: Some(chat),
                responder: Some(&loser),
                offer: Some(number),
                reason: Some(Reason::Taken),
                ..About::default()
            },
        );
    }

    /// A line that finds itself on another node may have forgotten epochs that were minted and events that were told: it
    /// begins a new term, above every older one.
    pub(super) fn begin_term_if_moved(&mut self) {
        if self.has_moved() {
            // The very first term may be what was lost; in a new life the hold has begun already.
            if self.state.term.node.is_some() || self.now >= self.recovers_at() {
                self.state.recovering_since_ms = self.now;
            }
            self.begin_term(0);
        }
    }

    /// The line finds itself on another node than the one that minted last.
    pub(super) fn has_moved(&self) -> bool {
        self.state.term.node != Some(self.node)
    }

    /// A new term, above every older one and above `least`.
    pub(super) fn begin_term(&mut self, least: u64) {
        let since_2020 = self.state.clock.last_wall_ms.saturating_sub(TERM_EPOCH_MS) / 1000;
        self.state.term.number = self.state.term.number.max(least).max(since_2020) + 1;
        self.state.term.node = Some(self.node);
    }

    pub(super) fn accepted(&self, id: &ChatId) -> Result<Reply, Refusal> {
        let chat = self.chat(id).ok_or(Refusal::OfferGone)?;
        let owner = chat.owner.as_ref().ok_or(Refusal::OfferGone)?;
        Ok(Reply::Accepted {
            chat: id.clone(),
            fence: owner.fence,
            urgency: chat.urgency,
            version: self.state.responders.get(&owner.responder).map_or(0, |r| r.version),
            handoff: chat.handoff.clone(),
            trace: chat.trace.clone(),
            offer: owner.offer,
            generation: self.state.generation.clone(),
            now_ms: self.now,
        })
    }

    pub(super) fn decline(
        &mut self,
        id: &ResponderId,
        session: u64,
        offer: &OfferId,
        reason: Reason,
    ) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        let open = self.chat(&offer.chat).and_then(|c| c.offer_to(id)).is_some_and(|o| o.number == offer.number);
        if !open {
            return Err(Refusal::OfferGone);
        }
        self.withdraw(&offer.chat, offer.number);
        self.remember_asked(&offer.chat, id);
        self.tell(
            EventKind::Declined,
            About {
                chat: Some(&offer.chat),
                responder: Some(id),
                offer: Some(offer.number),
                reason: Some(reason),
                ..About::default()
            },
        );
        self.hungry.push(offer.chat.clone());
        self.finish();
        self.responder_view(id)
    }

    /// Whether the assignment is this responder's, by its newest fence.
    fn check_fence(&self, id: &ResponderId, chat: &ChatId, fence: Fence) -> Result<ChatState, Refusal> {
        let chat = self.chat(chat).ok_or(Refusal::StaleFence)?;
        let theirs = chat.owner.as_ref().is_some_and(|o| o.responder == *id && o.fence == fence);
        if theirs { Ok(chat.state) } else { Err(Refusal::StaleFence) }
    }

    pub(super) fn engage(
        &mut self,
        id: &ResponderId,
        session: u64,
        chat: &ChatId,
        fence: Fence,
    ) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        if self.check_fence(id, chat, fence)? != ChatState::Active {
            return Err(Refusal::StaleFence);
        }
        let now = self.now;
        let first = self.with_chat(chat, |c| {
            let owner = c.owner.as_mut()?;
            let first = owner.engaged_ms.is_none();
            if first {
                owner.engaged_ms = Some(now);
                c.version += 1;
            }
            Some(first)
        });
        self.state.timers.cancel(&Timer::Reply(chat.clone()));
        if first == Some(Some(true)) {
            self.delivery_done(chat);
            self.tell(
                EventKind::Engaged,
                About { chat: Some(chat), responder: Some(id), fence: Some(fence), ..About::default() },
            );
        }
        self.responder_view(id)
    }

    pub(super) fn call_supervisor(
        &mut self,
        id: &ResponderId,
        session: u64,
        chat: &ChatId,
        fence: Fence,
    ) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        if self.check_fence(id, chat, fence)? != ChatState::Active {
            return Err(Refusal::StaleFence);
        }
        let (urgency, now) = (self.chat(chat).map(|c| c.urgency), self.now);
        self.with_responder(id, |r| {
            // Whoever calls again has been calling since the first time.
            r.holdings.iter_mut().filter(|h| h.chat == *chat && h.called_ms == 0).for_each(|h| h.called_ms = now);
            r.version += 1;
        });
        self.tell(
            EventKind::SupervisorCalled,
            About { chat: Some(chat), responder: Some(id), urgency, fence: Some(fence), ..About::default() },
        );
        self.responder_view(id)
    }

    pub(super) fn close(
        &mut self,
        id: &ResponderId,
        session: u64,
        chat: &ChatId,
        fence: Fence,
    ) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        if self.check_fence(id, chat, fence)? == ChatState::Active {
            self.end_chat(chat, EndedAs::Completed, Reason::Asked);
            self.finish();
        }
        self.responder_view(id)
    }

    pub(super) fn transfer(
        &mut self,
        id: &ResponderId,
        session: u64,
        chat: &ChatId,
        fence: Fence,
    ) -> Result<Reply, Refusal> {
        self.check_session(id, session)?;
        if self.check_fence(id, chat, fence)? != ChatState::Active {
            return Err(Refusal::StaleFence);
        }
        self.remember_asked(chat, id);
        self.return_chat(chat, id, Reason::Transfer);
        self.finish();
        self.responder_view(id)
    }

    pub(super) fn finish_wrap_up(
        &mut self,
        id: &ResponderId,
        session: u64,
        chat: &ChatId,
    ) -> Result<Reply, Refusal> {
        let responder = self.check_session(id, session)?;
        if responder.holding(chat).is_none_or(|h| h.kind != HoldingKind::WrapUp) {
            return Err(Refusal::NotWrappingUp);
        }
        self.state.timers.cancel(&Timer::WrapUp(id.clone(), chat.clone()));
        self.end_wrap_up(id, chat);
        self.finish();
        self.responder_view(id)
    }
}
