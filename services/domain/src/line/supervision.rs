//! What supervisors do. Each act is checked like everybody else's, and every event that follows at once names who
//! asked for it and why.

use super::blocks::Proposed;
use super::{About, Line, Reroute, Timer, fits};
use crate::chat::{EndedAs, OfferId};
use crate::command::{Act, Refusal, Reply};
use crate::event::{EventKind, Reason};
use crate::ids::{ChatId, ResponderId};
use crate::lifecycle::ChatState;
use crate::limits::{MAX_FAN_OUT, MAX_REROUTES};
use crate::priority::Urgency;
use crate::requirement::Requirement;
use crate::responder::Status;

impl Line {
    pub(super) fn supervise(&mut self, by: &ResponderId, reason: Reason, act: &Act) -> Result<Reply, Refusal> {
        if self.state.policy.is_none() {
            return Err(Refusal::NoPolicy);
        }
        self.by = Some(by.clone());
        match act {
            Act::SetUrgency { chat, urgency } => self.set_urgency(chat, *urgency, reason)?,
            Act::Assign { chat, responder, break_glass } => {
                self.assign_chat(chat, responder, *break_glass, reason)?;
            }
            Act::Pull { chat } => self.pull(chat, reason)?,
            Act::TakeOver { chat, session, reply_handoff } => {
                return self.take_over(chat, by, *session, reply_handoff, reason);
            }
            Act::End { chat, outcome } => self.end_by_supervisor(chat, *outcome, reason)?,
            Act::EndBreak { responder } => self.end_break(responder, reason)?,
            Act::Rest { responder, for_ms } => {
                self.online(responder)?;
                self.extend_cool_down(responder, *for_ms, reason);
            }
            Act::ForceOffline { responder } => {
                self.online(responder)?;
                self.go_offline(responder, reason);
            }
            Act::Reroute { from, to, for_ms, revision } => {
                self.reroute(from, to, *for_ms, *revision, reason)?;
            }
            Act::ProposeBlock { block, chat, for_ms, open_ms } => {
                let proposed = Proposed { id: block, chat, for_ms: *for_ms, open_ms: *open_ms };
                self.propose_block(&proposed, by, reason)?;
            }
            Act::ConfirmBlock { block } => self.confirm_block(block, by, reason)?,
            Act::LiftBlock { block } => self.lift_block(block, reason)?,
        }
        self.finish();
        Ok(Reply::Done { now_ms: self.now })
    }

    fn in_line(&self, id: &ChatId) -> Result<ChatState, Refusal> {
        let chat = self.chat(id).filter(|c| c.state != ChatState::Held).ok_or(Refusal::UnknownChat)?;
        if let Some((outcome, _)) = chat.ended {
            return Err(Refusal::ChatEnded { outcome });
        }
        Ok(chat.state)
    }

    fn online(&self, id: &ResponderId) -> Result<&crate::responder::Responder, Refusal> {
        self.state.responders.get(id).filter(|r| r.status != Status::Offline).ok_or(Refusal::NotSignedIn)
    }

    fn set_urgency(&mut self, id: &ChatId, urgency: Urgency, reason: Reason) -> Result<(), Refusal> {
        self.in_line(id)?;
        if self.chat(id).is_some_and(|c| c.urgency != urgency) {
            self.change_urgency(id, urgency, reason);
        }
        Ok(())
    }

    fn assign_chat(
        &mut self,
        id: &ChatId,
        responder: &ResponderId,
        break_glass: bool,
        reason: Reason,
    ) -> Result<(), Refusal> {
        let state = self.in_line(id)?;
        let chat = self.chat(id).ok_or(Refusal::UnknownChat)?;
        let full = chat.offers.len() >= MAX_FAN_OUT;
        let held_back = chat.away || chat.recovering;
        if state == ChatState::Active || held_back || full || chat.offer_to(responder).is_some() {
            return Err(Refusal::WrongState);
        }
        let held = self.online(responder)?;
        if !held.linked || held.holding(id).is_some() || chat.excluded.contains(responder) {
            return Err(Refusal::NotAvailable);
        }
        let numbers = self.numbers();
        let lane = super::lane_of(chat, &numbers).ok_or(Refusal::WrongState)?;
        let may = held.available() && fits(&lane, held, &numbers, &self.state.reroutes);
        if !may && !break_glass {
            return Err(Refusal::NotAvailable);
        }
        self.offer(id, responder, Some(reason), (!may).then_some(1));
        Ok(())
    }

    fn pull(&mut self, id: &ChatId, reason: Reason) -> Result<(), Refusal> {
        self.in_line(id)?;
        let owner = self.chat(id).and_then(|c| c.owner.as_ref()).map(|o| o.responder.clone());
        let owner = owner.ok_or(Refusal::WrongState)?;
        self.remember_asked(id, &owner);
        self.return_chat(id, &owner, reason);
        Ok(())
    }

    /// The supervisor's own hands are the safest place: what others hold of the chat ends in the same step.
    fn take_over(
        &mut self,
        id: &ChatId,
        by: &ResponderId,
        session: u64,
        reply_handoff: &[u8],
        reason: Reason,
    ) -> Result<Reply, Refusal> {
        self.check_session(by, session)?;
        self.in_line(id)?;
        let chat = self.chat(id).ok_or(Refusal::UnknownChat)?;
        let owner = chat.owner.as_ref().map(|o| o.responder.clone());
        let held = self.state.responders.get(by).is_some_and(|r| r.holding(id).is_some());
        if chat.away || chat.recovering || chat.excluded.contains(by) || held {
            return Err(Refusal::WrongState);
        }
        if let Some(owner) = owner {
            self.return_chat(id, &owner, reason);
        }
        self.offer(id, by, Some(reason), None);
        let number = self.chat(id).map_or(0, |c| c.offers_made);
        self.assign(by, &OfferId { chat: id.clone(), number }, reply_handoff);
        self.finish();
        self.accepted(id)
    }

    fn end_by_supervisor(&mut self, id: &ChatId, outcome: EndedAs, reason: Reason) -> Result<(), Refusal> {
        let active = self.in_line(id)? == ChatState::Active;
        let fits = match outcome {
            EndedAs::Blocked => true,
            EndedAs::Completed => active,
            EndedAs::Fallback => !active,
            EndedAs::Left | EndedAs::Abandoned | EndedAs::Overflowed => false,
        };
        if !fits {
            return Err(Refusal::WrongState);
        }
        self.end_chat(id, outcome, reason);
        Ok(())
    }

    fn end_break(&mut self, id: &ResponderId, reason: Reason) -> Result<(), Refusal> {
        let responder = self.online(id)?;
        if !responder.linked || !matches!(responder.status, Status::OnBreak | Status::NotResponding) {
            return Err(Refusal::WrongState);
        }
        self.become_ready(id, reason);
        Ok(())
    }

    fn reroute(
        &mut self,
        from: &Requirement,
        to: &Requirement,
        for_ms: u64,
        revision: u64,
        reason: Reason,
    ) -> Result<(), Refusal> {
        let in_force = self.state.policy.as_ref().map_or(0, |p| p.revision);
        if revision != in_force {
            return Err(Refusal::PolicyChanged { revision: in_force });
        }
        let signature = from.signature();
        if for_ms == 0 {
            self.state.reroutes.remove(&signature).ok_or(Refusal::WrongState)?;
            self.tell(EventKind::RerouteEnded, About { reason: Some(reason), ..About::default() });
        } else {
            let known = self.state.reroutes.contains_key(&signature);
            if !known && self.state.reroutes.len() >= MAX_REROUTES {
                return Err(Refusal::TooManyReroutes);
            }
            let until_ms = self.now + for_ms;
            self.state.reroutes.insert(signature, Reroute { to: to.clone(), until_ms });
            let about = About { until_ms: Some(until_ms), reason: Some(reason), ..About::default() };
            self.tell(EventKind::Rerouted, about);
        }
        self.arm_reroutes();
        self.everyone = true;
        Ok(())
    }

    fn arm_reroutes(&mut self) {
        match self.state.reroutes.values().map(|r| r.until_ms).min() {
            Some(at) => self.state.timers.set(&Timer::Reroutes, at),
            None => self.state.timers.cancel(&Timer::Reroutes),
        }
    }

    /// Reroutes whose time is over end by themselves.
    pub(super) fn end_reroutes(&mut self) {
        let now = self.now;
        let before = self.state.reroutes.len();
        self.state.reroutes.retain(|_, r| r.until_ms > now);
        for _ in self.state.reroutes.len()..before {
            self.tell(EventKind::RerouteEnded, About { reason: Some(Reason::Deadline), ..About::default() });
        }
        self.arm_reroutes();
        self.everyone = true;
    }
}
