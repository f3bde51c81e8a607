//! Overflow to a partner helpline. Two lines take part and either may fail at any step, so a chat is proposed here,
//! held there, let go here, and only then admitted there: at no moment in neither line, at none in both.
//!
//! The line that proposes decides. Its decision can be read from the chat's record as long as that is kept; whoever
//! holds asks for it, and never lets go by time alone.

use super::{About, Line, Timer};
use crate::chat::{Chat, EndedAs};
use crate::command::{Hold, Refusal, Reply};
use crate::event::{EventKind, Reason};
use crate::ids::{ChatId, HelplineId};
use crate::lifecycle::{ChatState, Happening};
use crate::limits::{ASK_AGAIN_MS, SWEEP};
use crate::policy::Numbers;

/// What became of a proposal, as the line that made it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposal {
    /// It is open: nobody has answered it yet.
    Open,
    /// The partner has the chat.
    Taken,
    /// This line kept the chat.
    Withdrawn,
}

/// What became of a proposal. A chat that is not known here any more was forgotten by a store that lost it: then
/// whoever holds it is the only one who does.
#[must_use]
pub fn proposal(chat: Option<&Chat>, to: &HelplineId, number: u32) -> Proposal {
    let Some(chat) = chat else {
        return Proposal::Taken;
    };
    if chat.partner.as_ref() != Some(to) || chat.proposals != number {
        return Proposal::Withdrawn;
    }
    match chat.state {
        ChatState::Waiting | ChatState::Offered => Proposal::Open,
        ChatState::Ended if chat.ended.is_some_and(|(outcome, _)| outcome == EndedAs::Overflowed) => {
            Proposal::Taken
        }
        ChatState::Held | ChatState::Active | ChatState::Ended => Proposal::Withdrawn,
    }
}

impl Line {
    fn partners(&self) -> Vec<HelplineId> {
        let partners = self.state.policy.as_ref().map(|p| p.partners.as_slice()).unwrap_or_default();
        partners.iter().filter_map(|p| HelplineId::parse(&p.helpline).ok()).collect()
    }

    /// Enough responders are on shift for anything to be offered.
    pub(super) fn gate_open(&self) -> bool {
        self.state.on_shift >= self.numbers().min_on_shift
    }

    /// Says when a chat is due to overflow, if it may: by its urgency, or at once.
    pub(super) fn arm_overflow(&mut self, id: &ChatId, at_once: bool) {
        if self.partners().is_empty() {
            return;
        }
        let numbers = self.numbers();
        let at_once = at_once || !self.gate_open();
        let may = |c: &&Chat| c.came_from.is_none() && c.partner.is_none() && !c.recovering;
        let Some(chat) = self.chat(id).filter(may) else {
            return;
        };
        let after = Numbers::by(&numbers.overflow_after_ms, chat.urgency);
        let due = if at_once { self.now } else { chat.arrival_ms + after };
        if at_once || after > 0 {
            let timer = Timer::Overflow(id.clone());
            let at = self.state.timers.at(&timer).map_or(due, |armed| armed.min(due));
            self.state.timers.set(&timer, at);
        }
    }

    /// Too few are on shift from now on: the first in line are proposed to partners at once.
    pub(super) fn hasten_overflow(&mut self) {
        let first: Vec<ChatId> = self
            .state
            .lanes
            .all()
            .take(SWEEP)
            .filter_map(|(_, member)| ChatId::parse(member.split_once(':')?.1).ok())
            .collect();
        for chat in first {
            self.arm_overflow(&chat, true);
        }
    }

    /// Stops proposing a chat: it is in good hands, or it has ended.
    pub(super) fn stop_overflow(&mut self, id: &ChatId) {
        self.state.timers.cancel(&Timer::Overflow(id.clone()));
        self.state.timers.cancel(&Timer::Proposal(id.clone()));
        self.with_chat(id, |c| c.partner = None);
    }

    /// A chat is due to overflow: the next partner is asked.
    pub(super) fn propose(&mut self, id: &ChatId) {
        let partners = self.partners();
        let numbers = self.numbers();
        let Some(chat) = self.chat(id) else {
            return;
        };
        let turn = usize::try_from(chat.proposals).unwrap_or(0).checked_rem(partners.len()).unwrap_or(0);
        let Some(partner) = partners.get(turn).cloned() else {
            return;
        };
        if chat.away {
            self.state.timers.set(&Timer::Overflow(id.clone()), self.now + numbers.overflow_retry_ms);
            return;
        }
        let until = self.now + numbers.overflow_answer_ms;
        let proposed = self.with_chat(id, |c| {
            c.proposals += 1;
            c.partner = Some(partner.clone());
            (c.proposals, c.urgency)
        });
        let Some((number, urgency)) = proposed else {
            return;
        };
        self.state.timers.set(&Timer::Proposal(id.clone()), until);
        self.tell(
            EventKind::Overflowing,
            About {
                chat: Some(id),
                urgency: Some(urgency),
                partner: Some(&partner),
                number: Some(u64::from(number)),
                until_ms: Some(until),
                ..About::default()
            },
        );
    }

    /// The partner said no, or nothing: the next one is asked, or the first again after a while.
    pub(super) fn proposal_refused(&mut self, id: &ChatId, reason: Reason) {
        let partners = self.partners().len().max(1);
        let retry = self.numbers().overflow_retry_ms;
        self.state.timers.cancel(&Timer::Proposal(id.clone()));
        let refused = self.with_chat(id, |c| (c.partner.take(), c.proposals));
        let Some((partner, number)) = refused else {
            return;
        };
        let all_asked = usize::try_from(number).unwrap_or(0).is_multiple_of(partners);
        let again = if all_asked { self.now + retry } else { self.now };
        self.state.timers.set(&Timer::Overflow(id.clone()), again);
        self.tell(
            EventKind::OverflowRefused,
            About {
                chat: Some(id),
                partner: partner.as_ref(),
                number: Some(u64::from(number)),
                reason: Some(reason),
                ..About::default()
            },
        );
    }

    pub(super) fn settle_proposal(
        &mut self,
        id: &ChatId,
        to: &HelplineId,
        number: u32,
        taken: bool,
    ) -> Result<Reply, Refusal> {
        let chat = self.chat(id).ok_or(Refusal::ProposalGone)?;
        match (proposal(Some(chat), to, number), taken) {
            (Proposal::Open, true) => {
                self.end_chat(id, EndedAs::Overflowed, Reason::Partner);
                self.with_chat(id, |c| c.partner = Some(to.clone()));
                self.finish();
            }
            (Proposal::Open, false) => {
                self.proposal_refused(id, Reason::Partner);
                self.finish();
            }
            (Proposal::Taken, true) => {}
            (Proposal::Taken, false) | (Proposal::Withdrawn, _) => return Err(Refusal::ProposalGone),
        }
        Ok(Reply::Done { now_ms: self.now })
    }

    pub(super) fn hold(&mut self, hold: &Hold) -> Result<Reply, Refusal> {
        let policy = self.state.policy.as_ref().ok_or(Refusal::NoPolicy)?;
        let request = &hold.request;
        if let Some(chat) = self.chat(&request.chat) {
            let same = chat.came_from.as_ref().is_some_and(|(from, n)| *from == hold.from && *n == hold.number);
            return if same { Ok(Reply::Done { now_ms: self.now }) } else { Err(Refusal::NotTaken) };
        }
        if policy.revision != request.revision {
            return Err(Refusal::PolicyChanged { revision: policy.revision });
        }
        let known = policy.takes_from.iter().any(|p| p.helpline == hold.from.as_str());
        let waiting = self.state.ledger.waiting + self.state.ledger.offered;
        let room = waiting < policy.takes_at_most && self.state.surge.stage == 0;
        let free = !self.state.requests.contains_key(&request.request_key);
        if !known || !room || !free || !self.gate_open() {
            return Err(Refusal::NotTaken);
        }
        let id = &request.chat;
        let sequence = self.state.arrivals + 1;
        self.insert_chat(request, ChatState::Held, self.now.saturating_sub(hold.age_ms), sequence);
        self.with_chat(id, |c| c.came_from = Some((hold.from.clone(), hold.number)));
        self.state.timers.set(&Timer::Hold(id.clone()), self.now + ASK_AGAIN_MS);
        self.tell_held(EventKind::Held, id);
        Ok(Reply::Done { now_ms: self.now })
    }

    fn tell_held(&mut self, kind: EventKind, id: &ChatId) {
        let Some((from, number, urgency)) =
            self.chat(id).and_then(|c| c.came_from.clone().map(|(from, number)| (from, number, c.urgency)))
        else {
            return;
        };
        self.tell(
            kind,
            About {
                chat: Some(id),
                urgency: Some(urgency),
                partner: Some(&from),
                number: Some(u64::from(number)),
                ..About::default()
            },
        );
    }

    /// Nobody has said yet what became of a chat that is kept here: it is asked again and again.
    pub(super) fn hold_due(&mut self, id: &ChatId) {
        self.state.timers.set(&Timer::Hold(id.clone()), self.now + ASK_AGAIN_MS);
        self.tell_held(EventKind::HoldDue, id);
    }

    fn came(&self, id: &ChatId, from: &HelplineId, number: u32) -> Option<ChatState> {
        let chat = self.chat(id)?;
        let same = chat.came_from.as_ref().is_some_and(|(f, n)| f == from && *n == number);
        same.then_some(chat.state)
    }

    pub(super) fn admit_held(&mut self, id: &ChatId, from: &HelplineId, number: u32) -> Result<Reply, Refusal> {
        if self.came(id, from, number).ok_or(Refusal::ProposalGone)? == ChatState::Held {
            self.state.timers.cancel(&Timer::Hold(id.clone()));
            self.state.ledger.accepted += 1;
            self.happen(id, Happening::Admit);
            self.tell_held(EventKind::Admitted, id);
            self.join_line(id);
            self.finish();
            self.show_wait(id);
        }
        Ok(Reply::Done { now_ms: self.now })
    }

    pub(super) fn release(&mut self, id: &ChatId, from: &HelplineId, number: u32) -> Result<Reply, Refusal> {
        match self.came(id, from, number) {
            None => {}
            Some(ChatState::Held) => {
                self.tell_held(EventKind::Released, id);
                self.state.timers.cancel(&Timer::Hold(id.clone()));
                if let Some(chat) = self.state.chats.remove(id) {
                    self.state.requests.remove(&chat.request_key);
                }
            }
            Some(_) => return Err(Refusal::ProposalGone),
        }
        Ok(Reply::Done { now_ms: self.now })
    }
}
