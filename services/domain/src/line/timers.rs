//! Everything that waits has a deadline here; a tick handles what is due, in order, a bounded batch at a time.

use super::{About, Line, Ticker};
use crate::chat::EndedAs;
use crate::command::{Refusal, Reply};
use crate::event::{EventKind, Reason};
use crate::ids::{BlockId, ChatId, DigestHex, ResponderId};
use crate::lifecycle::ChatState;
use crate::limits::MAX_TICK;
use crate::responder::{HoldingKind, Status};
use std::collections::{BTreeMap, BTreeSet};

/// Another replica may tick when the last tick is this old, on the service clock.
pub(super) const TICKER_LEASE_MS: u64 = 1000;

/// Something that waits for a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timer {
    /// The deadline of an offer.
    Offer(ChatId, u32),
    /// The end of a responder's presence lease.
    Presence(ResponderId),
    /// The next routing step of a chat.
    Step(ChatId),
    /// The end of a wrap-up.
    WrapUp(ResponderId, ChatId),
    /// The end of a cool-down.
    CoolDown(ResponderId),
    /// The visitor was not heard from.
    Away(ChatId),
    /// The visitor was away for too long.
    Abandon(ChatId),
    /// Those who were backed off may be asked again.
    Retry(ChatId),
    /// The retention of an ended chat is over.
    Forget(ChatId),
    /// The retention of a responder who is offline is over.
    Gone(ResponderId),
    /// The responder who accepted has not written yet.
    Reply(ChatId),
    /// The chat is proposed to the next partner.
    Overflow(ChatId),
    /// The partner has not answered.
    Proposal(ChatId),
    /// The partner is asked what became of a chat that is kept for them.
    Hold(ChatId),
    /// A responder's shift ends soon.
    Shift(ResponderId),
    /// The next wave of off-shift volunteers.
    Page,
    /// The first of the reroutes is over.
    Reroutes,
    /// A block is over, or was not confirmed in time.
    Block(BlockId),
    /// The recovery hold is over.
    Recover,
}

impl Timer {
    /// Its name in the store. No id holds a colon.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Offer(chat, number) => format!("offer:{chat}:{number}"),
            Self::Presence(responder) => format!("presence:{responder}"),
            Self::Step(chat) => format!("step:{chat}"),
            Self::WrapUp(responder, chat) => format!("wrap:{responder}:{chat}"),
            Self::CoolDown(responder) => format!("cool:{responder}"),
            Self::Away(chat) => format!("away:{chat}"),
            Self::Abandon(chat) => format!("abandon:{chat}"),
            Self::Retry(chat) => format!("retry:{chat}"),
            Self::Forget(chat) => format!("forget:{chat}"),
            Self::Gone(responder) => format!("gone:{responder}"),
            Self::Reply(chat) => format!("reply:{chat}"),
            Self::Overflow(chat) => format!("overflow:{chat}"),
            Self::Proposal(chat) => format!("proposal:{chat}"),
            Self::Hold(chat) => format!("hold:{chat}"),
            Self::Shift(responder) => format!("shift:{responder}"),
            Self::Page => "page:line".to_owned(),
            Self::Reroutes => "reroutes:line".to_owned(),
            Self::Block(block) => format!("block:{block}"),
            Self::Recover => "recover:line".to_owned(),
        }
    }

    /// Reads [`Self::name`] back.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut parts = name.split(':');
        let (kind, id, more) = (parts.next()?, parts.next()?, parts.next());
        let chat = || ChatId::parse(id).ok();
        let responder = || ResponderId::parse(id).ok();
        match kind {
            "offer" => Some(Self::Offer(chat()?, more?.parse().ok()?)),
            "presence" => Some(Self::Presence(responder()?)),
            "step" => Some(Self::Step(chat()?)),
            "wrap" => Some(Self::WrapUp(responder()?, ChatId::parse(more?).ok()?)),
            "cool" => Some(Self::CoolDown(responder()?)),
            "away" => Some(Self::Away(chat()?)),
            "abandon" => Some(Self::Abandon(chat()?)),
            "retry" => Some(Self::Retry(chat()?)),
            "forget" => Some(Self::Forget(chat()?)),
            "gone" => Some(Self::Gone(responder()?)),
            "reply" => Some(Self::Reply(chat()?)),
            "overflow" => Some(Self::Overflow(chat()?)),
            "proposal" => Some(Self::Proposal(chat()?)),
            "hold" => Some(Self::Hold(chat()?)),
            "shift" => Some(Self::Shift(responder()?)),
            "page" => Some(Self::Page),
            "reroutes" => Some(Self::Reroutes),
            "block" => Some(Self::Block(BlockId::parse(id).ok()?)),
            "recover" => Some(Self::Recover),
            _ => None,
        }
    }
}

/// The armed timers. Of each there is at most one; equal moments go by name, as in the store's sorted set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Timers {
    due: BTreeSet<(u64, String)>,
    by_name: BTreeMap<String, u64>,
}

impl Timers {
    /// Arms a timer, or moves it.
    pub fn set(&mut self, timer: &Timer, at_ms: u64) {
        self.cancel(timer);
        self.due.insert((at_ms, timer.name()));
        self.by_name.insert(timer.name(), at_ms);
    }

    /// Disarms a timer, if it is armed.
    pub fn cancel(&mut self, timer: &Timer) {
        let name = timer.name();
        if let Some(at_ms) = self.by_name.remove(&name) {
            self.due.remove(&(at_ms, name));
        }
    }

    /// When a timer is due, if it is armed.
    #[must_use]
    pub fn at(&self, timer: &Timer) -> Option<u64> {
        self.by_name.get(&timer.name()).copied()
    }

    /// All armed timers, by moment and name.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.due.iter().map(|(at, name)| (*at, name.as_str()))
    }

    /// When the next one is due.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }
}

impl Line {
    pub(super) fn tick(&mut self, by: &DigestHex, limit: u32) -> Result<Reply, Refusal> {
        // Whoever ticks is the first to hear that the store has lost the line.
        if self.state.policy.is_none() {
            return Err(Refusal::NoPolicy);
        }
        let theirs = self
            .state
            .ticker
            .as_ref()
            .is_some_and(|t| t.by != *by && self.now.saturating_sub(t.at_ms) < TICKER_LEASE_MS);
        let mut handled = 0;
        if !theirs {
            self.state.ticker = Some(Ticker { by: by.clone(), at_ms: self.now });
            handled = self.handle_due(limit.min(MAX_TICK));
        }
        let next_due_ms = self.state.timers.next_due();
        Ok(Reply::Ticked { handled, not_mine: theirs, next_due_ms, now_ms: self.now })
    }

    fn handle_due(&mut self, limit: u32) -> u32 {
        let take = usize::try_from(limit).unwrap_or(0);
        let due: Vec<String> = self
            .state
            .timers
            .iter()
            .take_while(|(at, _)| *at <= self.now)
            .take(take)
            .map(|(_, name)| name.to_owned())
            .collect();
        let mut handled = 0;
        for name in due {
            let Some(timer) = Timer::from_name(&name) else {
                continue;
            };
            // An earlier one of this batch may have disarmed or moved it.
            if self.state.timers.at(&timer).is_some_and(|at| at <= self.now) {
                self.state.timers.cancel(&timer);
                self.fire(&timer);
                handled += 1;
            }
        }
        self.weigh_load();
        self.finish();
        handled
    }

    fn fire(&mut self, timer: &Timer) {
        match timer {
            Timer::Offer(chat, number) => self.miss(chat, *number),
            Timer::Presence(responder) => self.go_offline(responder, Reason::ResponderLost),
            Timer::Step(chat) => self.relax(chat),
            Timer::WrapUp(responder, chat) => self.end_wrap_up(responder, chat),
            Timer::CoolDown(responder) => self.cooled_down(responder),
            Timer::Away(chat) => self.visitor_away(chat),
            Timer::Abandon(chat) => self.end_chat(chat, EndedAs::Abandoned, Reason::Deadline),
            Timer::Retry(chat) => self.hungry.push(chat.clone()),
            Timer::Forget(chat) => self.forget(chat),
            Timer::Gone(responder) => self.forget_responder(responder),
            Timer::Reply(chat) => self.no_reply(chat),
            Timer::Overflow(chat) => self.propose(chat),
            Timer::Proposal(chat) => self.proposal_refused(chat, Reason::Deadline),
            Timer::Hold(chat) => self.hold_due(chat),
            Timer::Shift(responder) => self.shift_ends_soon(responder),
            Timer::Page => self.page(),
            Timer::Reroutes => self.end_reroutes(),
            Timer::Block(block) => self.end_block(block),
            Timer::Recover => self.end_recovery(),
        }
    }

    /// A responder let an offer pass: they must say ready before the next one.
    fn miss(&mut self, chat: &ChatId, number: u32) {
        let Some(responder) = self.withdraw(chat, number) else {
            return;
        };
        self.remember_asked(chat, &responder);
        self.tell(
            EventKind::Missed,
            About { chat: Some(chat), responder: Some(&responder), offer: Some(number), ..About::default() },
        );
        self.delivery_failed(chat);
        self.not_responding(&responder, Reason::Deadline);
        self.hungry.push(chat.clone());
    }

    fn not_responding(&mut self, responder: &ResponderId, reason: Reason) {
        let was_ready = self.with_responder(responder, |r| {
            let was_ready = r.status == Status::Ready;
            if was_ready {
                r.status = Status::NotResponding;
                r.version += 1;
            }
            was_ready
        });
        if was_ready == Some(true) {
            self.settle_responder(responder);
            self.tell_status(responder, Status::NotResponding, reason);
        }
    }

    /// Whoever accepted is silent, and a silent accept must not hide a person: the chat goes back.
    fn no_reply(&mut self, chat: &ChatId) {
        let owner = self.chat(chat).and_then(|c| c.owner.as_ref()).map(|o| o.responder.clone());
        if let Some(owner) = owner {
            self.not_responding(&owner, Reason::NoReply);
            self.remember_asked(chat, &owner);
            self.return_chat(chat, &owner, Reason::NoReply);
        }
    }

    fn shift_ends_soon(&mut self, responder: &ResponderId) {
        self.with_responder(responder, |r| {
            r.shift_ending = true;
            r.version += 1;
        });
        self.settle_responder(responder);
        self.tell(EventKind::ShiftEnding, About { responder: Some(responder), ..About::default() });
    }

    pub(super) fn relax(&mut self, id: &ChatId) {
        let step = self.with_chat(id, |c| {
            c.step += 1;
            c.version += 1;
            c.step as u64
        });
        self.arm_next_step(id);
        self.settle_chat(id);
        self.tell(EventKind::Relaxed, About { chat: Some(id), number: step, ..About::default() });
        self.hungry.push(id.clone());
    }

    pub(super) fn end_wrap_up(&mut self, responder: &ResponderId, chat: &ChatId) {
        let wrapping = self
            .state
            .responders
            .get(responder)
            .and_then(|r| r.holding(chat))
            .is_some_and(|h| h.kind == HoldingKind::WrapUp);
        if wrapping {
            self.tell(
                EventKind::WrappedUp,
                About { chat: Some(chat), responder: Some(responder), ..About::default() },
            );
            self.drop_holding(responder, chat);
        }
    }

    fn cooled_down(&mut self, responder: &ResponderId) {
        self.with_responder(responder, |r| {
            r.cooling_until_ms = 0;
            r.version += 1;
        });
        self.settle_responder(responder);
        self.tell(EventKind::CooledDown, About { responder: Some(responder), ..About::default() });
        self.freed.push(responder.clone());
    }

    fn visitor_away(&mut self, id: &ChatId) {
        let abandon = self.now + self.numbers().abandon_after_ms;
        self.with_chat(id, |c| {
            c.away = true;
            c.version += 1;
        });
        self.tell(EventKind::Away, About { chat: Some(id), ..About::default() });
        self.rescind_all(id, Reason::VisitorAway);
        self.settle_chat(id);
        self.state.timers.set(&Timer::Abandon(id.clone()), abandon);
    }

    fn forget_responder(&mut self, id: &ResponderId) {
        self.state.timers.cancel(&Timer::CoolDown(id.clone()));
        self.state.responders.remove(id);
    }

    fn forget(&mut self, id: &ChatId) {
        if self.chat(id).is_none_or(|c| c.state != ChatState::Ended) {
            return;
        }
        if let Some(chat) = self.state.chats.remove(id) {
            self.state.requests.remove(&chat.request_key);
            self.unlink_block(&chat);
            self.tell(EventKind::Forgotten, About { chat: Some(id), ..About::default() });
        }
    }
}
