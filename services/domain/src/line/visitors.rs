//! What visitors ask: to be let in, to be seen as there, to leave, to come back, to be forgotten.

use super::{About, Line, Timer};
use crate::block::Whom;
use crate::chat::{Chat, EndedAs, TokenHash};
use crate::command::{Refusal, Reply, Request};
use crate::event::{EventKind, Reason};
use crate::ids::ChatId;
use crate::lifecycle::{ChatState, Happening};
use crate::priority::Urgency;
use crate::requirement::{Mask, Requirement};
use crate::responder::{Responder, Status};

impl Line {
    pub(super) fn request(&mut self, request: &Request) -> Result<Reply, Refusal> {
        let policy = self.state.policy.as_ref().ok_or(Refusal::NoPolicy)?;
        if let Some(made) = self.state.requests.get(&request.request_key).cloned() {
            return self.replay(&made, request);
        }
        if policy.revision != request.revision {
            return Err(Refusal::PolicyChanged { revision: policy.revision });
        }
        if self.state.chats.contains_key(&request.chat) {
            return Err(Refusal::RequestConflict);
        }
        let subject = request.subject.map(Whom::Subject);
        let came_by = request.came_by.map(Whom::Token);
        if subject.into_iter().chain(came_by).any(|whom| self.is_blocked(&whom)) {
            return Err(Refusal::Blocked);
        }
        let urgency = self.within_headroom(request.urgency);
        if self.state.ledger.waiting >= policy.numbers.max_waiting && urgency != Urgency::Imminent {
            return Err(Refusal::LineFull);
        }
        let resources_first = self.surge_stage().is_some_and(|s| s.resources_first);
        if resources_first && urgency == Urgency::Low && !request.resources_seen {
            return Err(Refusal::ResourcesFirst);
        }
        let buckets = self.within_quota(urgency)?;
        // Last of all: nobody works for a place that there is not.
        let bits = self.surge_stage().map_or(0, |s| s.challenge_bits);
        if request.solved_bits < bits && urgency != Urgency::Imminent {
            return Err(Refusal::Challenge { bits });
        }
        self.state.buckets = buckets;
        self.admit(&Request { urgency, ..request.clone() });
        self.view(&request.chat, false)
    }

    /// The same request again. Counting it is a write, so that a store which waits for its replicas waits for it.
    fn replay(&mut self, made: &ChatId, request: &Request) -> Result<Reply, Refusal> {
        if self.chat(made).is_some_and(|c| c.body != request.body) {
            return Err(Refusal::RequestConflict);
        }
        self.with_chat(made, |c| c.replays += 1);
        self.view(made, true)
    }

    fn admit(&mut self, request: &Request) {
        let id = &request.chat;
        self.state.ledger.accepted += 1;
        self.state.ledger.waiting += 1;
        self.insert_chat(request, ChatState::Waiting, self.now, self.state.arrivals + 1);
        self.tell(
            EventKind::Requested,
            About { chat: Some(id), urgency: Some(request.urgency), ..About::default() },
        );
        self.join_line(id);
        self.arm_overflow(id, request.overflow_now);
        self.finish();
        self.show_wait(id);
    }

    /// A chat takes its place in the line.
    pub(super) fn join_line(&mut self, id: &ChatId) {
        let away_at = self.now + self.numbers().away_after_ms;
        if self.chat(id).is_some_and(|c| !c.attested) {
            self.state.timers.set(&Timer::Away(id.clone()), away_at);
        }
        if self.asks_for_somebody_absent(id) {
            self.relax(id);
        } else {
            self.take_place(id);
        }
    }

    pub(super) fn take_place(&mut self, id: &ChatId) {
        self.arm_next_step(id);
        self.settle_chat(id);
        self.hungry.push(id.clone());
    }

    /// Whoever would like to meet somebody again does not wait for one who is not on shift.
    fn asks_for_somebody_absent(&self, id: &ChatId) -> bool {
        let step = self.chat(id).and_then(|c| c.steps.get(c.step));
        let only = step.and_then(|s| s.only.as_ref());
        let is_absent = |r: &Responder| r.status == Status::Offline;
        only.is_some_and(|only| self.state.responders.get(only).is_none_or(is_absent))
    }

    pub(super) fn insert_chat(&mut self, request: &Request, state: ChatState, arrival_ms: u64, sequence: u64) {
        let id = &request.chat;
        let fan_out = self.fan_out_for(request.urgency);
        self.state.arrivals = self.state.arrivals.max(sequence);
        self.state.requests.insert(request.request_key.clone(), id.clone());
        self.state.chats.insert(
            id.clone(),
            Chat {
                id: id.clone(),
                state,
                urgency: request.urgency,
                arrival_ms,
                sequence,
                version: 1,
                token: request.token,
                request_key: request.request_key.clone(),
                body: request.body.clone(),
                replays: 0,
                attested: request.attested,
                away: false,
                steps: request.steps.clone(),
                step: 0,
                topics: request.topics,
                excluded: request.excluded.clone(),
                fan_out,
                shown: None,
                proposals: 0,
                partner: None,
                came_from: None,
                returned: false,
                asked: Vec::new(),
                offers: Vec::new(),
                offers_made: 0,
                assignments_made: 0,
                owner: None,
                erased: false,
                ended: None,
                handoff: request.handoff.clone(),
                reply_handoff: Vec::new(),
                trace: request.trace.clone(),
                recovering: false,
                reclaim_from: 0,
                failed: 0,
                failing_since_ms: 0,
                subject: request.subject,
                standing: None,
            },
        );
    }

    pub(super) fn arm_next_step(&mut self, id: &ChatId) {
        let next = self.chat(id).and_then(|c| c.steps.get(c.step + 1).map(|s| c.arrival_ms + s.after_ms));
        if let Some(at) = next {
            self.state.timers.set(&Timer::Step(id.clone()), at);
        }
    }

    /// The visitor's own chat. A wrong token and an unknown chat are one refusal.
    fn own(&self, id: &ChatId, token: TokenHash) -> Result<&Chat, Refusal> {
        let own = |c: &&Chat| c.token == token && c.state != ChatState::Held;
        self.chat(id).filter(own).ok_or(Refusal::UnknownChat)
    }

    pub(super) fn triage(
        &mut self,
        id: &ChatId,
        token: TokenHash,
        urgency: Urgency,
        reason: Reason,
    ) -> Result<Reply, Refusal> {
        let chat = self.own(id, token)?;
        if let Some((outcome, _)) = chat.ended {
            return Err(Refusal::ChatEnded { outcome });
        }
        if urgency > chat.urgency {
            self.change_urgency(id, urgency, reason);
            self.finish();
        }
        self.view(id, false)
    }

    /// Another urgency: another place, and for hard chats another toll on whoever has it in hand.
    pub(super) fn change_urgency(&mut self, id: &ChatId, urgency: Urgency, reason: Reason) {
        let fan_out = self.fan_out_for(urgency);
        self.with_chat(id, |c| {
            c.urgency = urgency;
            c.fan_out = fan_out;
            c.version += 1;
        });
        self.settle_chat(id);
        let about = About { chat: Some(id), urgency: Some(urgency), reason: Some(reason), ..About::default() };
        self.tell(EventKind::Triaged, about);
        if crate::chat::is_hard(urgency) {
            self.grow_hard(id);
        }
        if self.chat(id).is_some_and(|c| matches!(c.state, ChatState::Waiting | ChatState::Offered)) {
            self.arm_overflow(id, false);
            self.hungry.push(id.clone());
        }
    }

    pub(super) fn beat(&mut self, id: &ChatId, token: TokenHash) -> Result<Reply, Refusal> {
        self.own(id, token)?;
        self.touch(id);
        self.finish();
        self.view(id, false)
    }

    /// The visitor is there.
    pub(super) fn touch(&mut self, id: &ChatId) {
        let Some(chat) = self.chat(id) else { return };
        let in_line = matches!(chat.state, ChatState::Waiting | ChatState::Offered);
        if chat.attested || !in_line {
            return;
        }
        let was_away = chat.away;
        let recovered = chat.recovering && self.now >= self.recovers_at();
        let away_at = self.now + self.numbers().away_after_ms;
        self.state.timers.set(&Timer::Away(id.clone()), away_at);
        if was_away {
            self.state.timers.cancel(&Timer::Abandon(id.clone()));
            self.with_chat(id, |c| {
                c.away = false;
                c.recovering &= !recovered;
                c.version += 1;
            });
            self.settle_chat(id);
            if recovered {
                self.arm_overflow(id, false);
            } else if self.chat(id).is_some_and(|c| c.recovering) {
                // The hold may have begun again, and its end have passed by, while they were away.
                self.state.timers.set(&Timer::Recover, self.recovers_at());
            }
            self.tell(EventKind::Back, About { chat: Some(id), ..About::default() });
            self.hungry.push(id.clone());
        }
    }

    pub(super) fn leave(&mut self, id: &ChatId, token: TokenHash, fallback: bool) -> Result<Reply, Refusal> {
        let chat = self.own(id, token)?;
        let outcome = match chat.state {
            ChatState::Ended => return self.view(id, false),
            ChatState::Active => EndedAs::Completed,
            ChatState::Waiting | ChatState::Offered if fallback => EndedAs::Fallback,
            ChatState::Held | ChatState::Waiting | ChatState::Offered => EndedAs::Left,
        };
        self.end_chat(id, outcome, Reason::Visitor);
        self.finish();
        self.view(id, false)
    }

    pub(super) fn resume(&mut self, id: &ChatId, token: TokenHash) -> Result<Reply, Refusal> {
        let chat = self.own(id, token)?;
        let abandoned = chat.ended.is_some_and(|(outcome, _)| outcome == EndedAs::Abandoned) && !chat.erased;
        if abandoned && self.is_blocked(&chat.whom()) {
            return Err(Refusal::Blocked);
        }
        if abandoned {
            self.happen(id, Happening::Reopen);
            self.state.timers.cancel(&Timer::Forget(id.clone()));
            self.with_chat(id, |c| c.version += 1);
            self.arm_next_step(id);
            self.arm_overflow(id, false);
            self.settle_chat(id);
            self.tell(EventKind::Reopened, About { chat: Some(id), ..About::default() });
            self.hungry.push(id.clone());
        }
        self.touch(id);
        self.finish();
        self.view(id, false)
    }

    pub(super) fn erase(&mut self, id: &ChatId, token: TokenHash) -> Result<Reply, Refusal> {
        let chat = self.own(id, token)?;
        let erased = chat.erased;
        match chat.state {
            ChatState::Ended => {}
            ChatState::Active => self.end_chat(id, EndedAs::Completed, Reason::Visitor),
            ChatState::Held | ChatState::Waiting | ChatState::Offered => {
                self.end_chat(id, EndedAs::Left, Reason::Visitor)
            }
        }
        if !erased {
            if let Some(chat) = self.chat(id).cloned() {
                self.unlink_block(&chat);
            }
            self.with_chat(id, |c| {
                c.subject = None;
                c.erased = true;
                c.version += 1;
                c.handoff.clear();
                c.reply_handoff.clear();
                c.trace.clear();
                c.asked.clear();
                c.excluded.clear();
                c.topics = Mask::default();
                c.step = 0;
                c.steps = vec![crate::Step::new(0, Requirement::anyone())];
            });
            self.tell(EventKind::Erased, About { chat: Some(id), ..About::default() });
        }
        self.finish();
        self.view(id, false)
    }
}
