//! The line: a command and the time go in, an answer and the events that follow come out.
//!
//! This is the specification. The Redis scripts beside `queue/src/store/redis.rs` do the same, step by step, and a
//! differential test plays random histories on both. Functions here and there bear the same names.
//!
//! Each command is checked whole before it changes anything; then it changes the records; then `matching` brings
//! together who became free and who became matchable. The order of the line and the free responders are kept in
//! indexes that `settle_chat` and `settle_responder` bring up to date, the only two places that do.

mod blocks;
mod index;
mod matching;
mod partners;
mod quotas;
mod recovery;
mod responders;
mod supervision;
mod surge;
mod timers;
mod visitors;
mod waits;

use crate::block::Blocks;
use crate::chat::{Chat, EndedAs, Fence, Standing};
use crate::clock::ServiceClock;
use crate::command::{Applied, Command, Refusal, Reply};
use crate::event::{Event, EventKind, Reason};
use crate::ids::{BlockId, ChatId, DigestHex, HelplineId, ResponderId};
use crate::lifecycle::{ChatState, Happening, next};
use crate::policy::{Numbers, Policy};
use crate::priority::{Urgency, score};
use crate::requirement::{Mask, Requirement};
use crate::responder::{HoldingKind, Idle, Responder, Status};
use std::collections::{BTreeMap, BTreeSet};

pub use index::Index;
pub(crate) use matching::fits;
pub use partners::{Proposal, proposal};
pub use quotas::Buckets;
pub use surge::Surge;
pub use timers::{Timer, Timers};
pub use waits::{SPREAD_UNIT, Spread, Waits};

/// Where every accepted chat is: accepted = waiting + offered + active + ended, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Chats ever accepted.
    pub accepted: u64,
    /// Chats WAITING now.
    pub waiting: u64,
    /// Chats OFFERED now.
    pub offered: u64,
    /// Chats ACTIVE now.
    pub active: u64,
    /// Chats ENDED, by outcome, in the order of [`EndedAs::ALL`].
    pub ended: [u64; 6],
}

impl Ledger {
    /// Accepted chats minus those accounted for. Anything but 0 is a person lost or counted twice.
    #[must_use]
    pub fn difference(&self) -> i128 {
        let ended: u64 = self.ended.iter().sum();
        i128::from(self.accepted) - i128::from(self.waiting + self.offered + self.active + ended)
    }

    fn cell(&mut self, state: ChatState, outcome: Option<EndedAs>) -> Option<&mut u64> {
        match state {
            ChatState::Held => None,
            ChatState::Waiting => Some(&mut self.waiting),
            ChatState::Offered => Some(&mut self.offered),
            ChatState::Active => Some(&mut self.active),
            ChatState::Ended => {
                let outcome = outcome?;
                let at = EndedAs::ALL.iter().position(|o| *o == outcome)?;
                self.ended.get_mut(at)
            }
        }
    }
}

/// How fast the line moves: the time between hand-overs, smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// Hand-overs seen.
    pub hand_overs: u64,
    /// When the last one was, on the service clock.
    pub last_ms: u64,
    /// Milliseconds between two, each new gap counting for an eighth.
    pub gap_ms: u64,
}

impl Pace {
    /// Hand-overs before the pace is worth telling.
    pub const ENOUGH: u64 = 5;

    fn hand_over(&mut self, now_ms: u64) {
        if self.hand_overs > 0 {
            let gap = now_ms - self.last_ms;
            self.gap_ms = if self.hand_overs == 1 { gap } else { (self.gap_ms * 7 + gap) / 8 };
        }
        self.last_ms = now_ms;
        self.hand_overs += 1;
    }

    /// Milliseconds between hand-overs, or 0 while too few were seen.
    #[must_use]
    pub fn known_ms(&self) -> u64 {
        if self.hand_overs >= Self::ENOUGH { self.gap_ms } else { 0 }
    }
}

/// Who minted which epochs: rises whenever the store may have forgotten some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Term {
    /// The term in force.
    pub number: u64,
    /// The node it was begun on: first 32 bits of the replication id.
    pub node: Option<u32>,
}

/// 2020-01-01 in Unix milliseconds: a term that starts at the seconds since then is above any older one, even when
/// the store has forgotten everything.
pub const TERM_EPOCH_MS: u64 = 1_577_836_800_000;
/// An epoch is term · 2²⁰ + n.
pub const EPOCHS_PER_TERM: u64 = 1 << 20;

/// The replica that ticks, and when it last did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticker {
    /// Which replica.
    pub by: DigestHex,
    /// Its last tick, on the service clock.
    pub at_ms: u64,
}

/// For a time, what one requirement asks for may be served by those who meet another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reroute {
    /// What is enough meanwhile.
    pub to: Requirement,
    /// Until then, on the service clock.
    pub until_ms: u64,
}

/// The reroutes in force, by the signature of the requirement that is asked for.
pub type Reroutes = BTreeMap<String, Reroute>;

/// Everything that a line knows, for comparison and for keeping.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The service clock.
    pub clock: ServiceClock,
    /// The policy in force.
    pub policy: Option<Policy>,
    /// The last policies by revision, the one in force among them.
    pub policies: BTreeMap<u64, Policy>,
    /// The term in force.
    pub term: Term,
    /// What this life of the line is called: another one begins when the store has lost everything. Empty before the
    /// first policy.
    pub generation: String,
    /// When this life began, or a later term of it on another node: for the recovery hold after that, nothing that comes
    /// back is offered.
    pub recovering_since_ms: u64,
    /// Arrivals so far.
    pub arrivals: u64,
    /// Events so far.
    pub events: u64,
    /// Where every chat is.
    pub ledger: Ledger,
    /// How fast the line moves.
    pub pace: Pace,
    /// What was learnt about waits.
    pub waits: Waits,
    /// Responders who are not offline.
    pub on_shift: u64,
    /// The surge that is in force.
    pub surge: Surge,
    /// How many new chats were let in of late.
    pub buckets: Buckets,
    /// The reroutes in force.
    pub reroutes: Reroutes,
    /// Who ticks.
    pub ticker: Option<Ticker>,
    /// Every chat known.
    pub chats: BTreeMap<ChatId, Chat>,
    /// Every responder known.
    pub responders: BTreeMap<ResponderId, Responder>,
    /// Idempotency records: which chat a request made.
    pub requests: BTreeMap<DigestHex, ChatId>,
    /// Everything that waits for a moment.
    pub timers: Timers,
    /// The chats whose delivery fails again and again, by since when.
    pub failing: BTreeSet<(u64, ChatId)>,
    /// Who gets no place for a time.
    pub blocks: Blocks,
    /// The waiting chats, by lane.
    pub lanes: Index,
    /// The free responders, by class.
    pub classes: Index,
}

impl Snapshot {
    /// The policies that are still known, the one in force among them.
    pub fn revisions(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values().chain(self.policy.as_ref())
    }
}

/// A helpline's line.
#[derive(Debug, Clone)]
pub struct Line {
    state: Snapshot,
    node: u32,
    life: String,
    now: u64,
    events: Vec<Event>,
    freed: Vec<ResponderId>,
    hungry: Vec<ChatId>,
    sweep: bool,
    everyone: bool,
    gate_shut: bool,
    by: Option<ResponderId>,
}

/// What a responder brings to a sign-in.
struct Arriving {
    capabilities: Mask,
    scarce: u32,
    opt_out: Mask,
    capacity: u32,
}

/// An event about to happen: what it is about; the line adds when.
#[derive(Default)]
struct About<'a> {
    chat: Option<&'a ChatId>,
    responder: Option<&'a ResponderId>,
    urgency: Option<Urgency>,
    offer: Option<u32>,
    fence: Option<Fence>,
    until_ms: Option<u64>,
    outcome: Option<EndedAs>,
    reason: Option<Reason>,
    status: Option<Status>,
    partner: Option<&'a HelplineId>,
    block: Option<&'a BlockId>,
    number: Option<u64>,
}

impl Line {
    /// An empty line on a node (the first 32 bits of its replication id; anything stable for an embedded line).
    #[must_use]
    pub fn new(node: u32) -> Self {
        Self::named(node, format!("{node:08x}"))
    }

    /// The same, with a name for its life: no two lives of a helpline's line may have the same one.
    #[must_use]
    pub fn named(node: u32, life: String) -> Self {
        Self {
            state: Snapshot::default(),
            node,
            life,
            now: 0,
            events: Vec::new(),
            freed: Vec::new(),
            hungry: Vec::new(),
            sweep: false,
            everyone: false,
            gate_shut: false,
            by: None,
        }
    }

    /// Everything that the line knows.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.state
    }

    /// The line goes on on another node, as after a failover: the next event begins a new term.
    pub fn move_to_node(&mut self, node: u32) {
        self.node = node;
    }

    /// Carries out a command at the store's time `wall_ms` (milliseconds since 1970).
    pub fn apply(&mut self, wall_ms: u64, command: &Command) -> Applied {
        self.now = self.state.clock.advance(wall_ms);
        self.events.clear();
        self.freed.clear();
        self.hungry.clear();
        self.sweep = false;
        self.everyone = false;
        self.gate_shut = false;
        self.by = None;
        let reply = self.dispatch(command);
        Applied { reply, events: std::mem::take(&mut self.events) }
    }

    fn dispatch(&mut self, command: &Command) -> Result<Reply, Refusal> {
        match command {
            Command::Request(request) => self.request(request),
            Command::Triage { chat, token, urgency, reason } => self.triage(chat, *token, *urgency, *reason),
            Command::Beat { chat, token } => self.beat(chat, *token),
            Command::Leave { chat, token, fallback } => self.leave(chat, *token, *fallback),
            Command::Resume { chat, token } => self.resume(chat, *token),
            Command::Erase { chat, token } => self.erase(chat, *token),
            Command::Restore(restore) => self.restore(restore),
            Command::Reassert(reassert) => self.reassert(reassert),
            Command::SignIn { responder, capabilities, scarce, opt_out, shift_ms, capacity, ready, revision } => {
                let arriving = Arriving {
                    capabilities: *capabilities,
                    scarce: *scarce,
                    opt_out: *opt_out,
                    capacity: *capacity,
                };
                self.sign_in(responder, &arriving, *shift_ms, *ready, *revision)
            }
            Command::Heartbeat { responder, session } => self.heartbeat(responder, *session),
            Command::SetStatus { responder, session, status } => self.set_status(responder, *session, *status),
            Command::Unlink { responder, session } => self.unlink(responder, *session),
            Command::SignOut { responder, session } => self.sign_out(responder, *session),
            Command::Accept { responder, session, offer, reply_handoff } => {
                self.accept(responder, *session, offer, reply_handoff)
            }
            Command::Decline { responder, session, offer, reason } => {
                self.decline(responder, *session, offer, *reason)
            }
            Command::Engage { responder, session, chat, fence } => self.engage(responder, *session, chat, *fence),
            Command::CallSupervisor { responder, session, chat, fence } => {
                self.call_supervisor(responder, *session, chat, *fence)
            }
            Command::Close { responder, session, chat, fence } => self.close(responder, *session, chat, *fence),
            Command::Transfer { responder, session, chat, fence } => {
                self.transfer(responder, *session, chat, *fence)
            }
            Command::FinishWrapUp { responder, session, chat } => self.finish_wrap_up(responder, *session, chat),
            Command::ExtendCoolDown { responder, session, for_ms } => {
                self.ask_cool_down(responder, *session, *for_ms)
            }
            Command::Supervise { by, reason, act } => self.supervise(by, *reason, act),
            Command::Hold(hold) => self.hold(hold),
            Command::Admit { chat, from, number } => self.admit_held(chat, from, *number),
            Command::Release { chat, from, number } => self.release(chat, from, *number),
            Command::SettleProposal { chat, to, number, taken } => self.settle_proposal(chat, to, *number, *taken),
            Command::ReportPage { wave, delivered } => self.report_page(*wave, *delivered),
            Command::Tick { by, limit } => self.tick(by, *limit),
            Command::SetPolicy { policy, expected, by } => self.set_policy(policy, *expected, by.as_ref()),
            Command::Revive { policy, clock_ms } => self.revive(policy, *clock_ms),
            Command::Renew { life_was, life, clock_ms, term } => self.renew(life_was, life, *clock_ms, *term),
        }
    }

    fn set_policy(&mut self, policy: &Policy, expected: u64, by: Option<&ResponderId>) -> Result<Reply, Refusal> {
        let revision = self.state.policy.as_ref().map_or(0, |p| p.revision);
        if revision != expected {
            return Err(Refusal::PolicyChanged { revision });
        }
        let revision = revision + 1;
        self.put_in_force(policy, revision);
        self.settle_buckets();
        self.by = by.cloned();
        self.tell(EventKind::PolicySet, About::default());
        self.settle_everybody();
        self.everyone = true;
        self.finish();
        Ok(Reply::Policy { revision })
    }

    /// The first policy begins a life of the line.
    fn put_in_force(&mut self, policy: &Policy, revision: u64) {
        let policy = Policy { revision, ..policy.clone() };
        self.state.policies.insert(revision, policy.clone());
        while self.state.policies.len() > crate::limits::MAX_POLICIES {
            self.state.policies.pop_first();
        }
        self.state.policy = Some(policy);
        if self.state.generation.is_empty() {
            self.state.generation = self.life.clone();
            self.state.recovering_since_ms = self.now;
        }
    }

    /// What the new numbers say about order and care holds for everybody in line and on shift from this moment on.
    fn settle_everybody(&mut self) {
        let waiting: Vec<ChatId> =
            self.state.chats.values().filter(|c| c.standing.is_some()).map(|c| c.id.clone()).collect();
        waiting.iter().for_each(|id| self.settle_chat(id));
        let free: Vec<ResponderId> =
            self.state.responders.values().filter(|r| r.idle.is_some()).map(|r| r.id.clone()).collect();
        free.iter().for_each(|id| self.settle_responder(id));
    }

    /// The numbers in force; the defaults before there is a policy, when nothing depends on them.
    fn numbers(&self) -> Numbers {
        self.state.policy.as_ref().map(|p| p.numbers.clone()).unwrap_or_default()
    }

    /// What is told is numbered by term and sequence. On another node the end of the line may be missing, and with it the
    /// last numbers: what is told there is never taken for what was told before, since it begins a term.
    fn tell(&mut self, kind: EventKind, about: About<'_>) {
        if self.events.is_empty() && self.state.term.node.is_some() {
            self.begin_term_if_moved();
        }
        self.state.events += 1;
        self.events.push(Event {
            sequence: self.state.events,
            term: self.state.term.number,
            at_ms: self.now,
            kind,
            chat: about.chat.cloned(),
            responder: about.responder.cloned(),
            urgency: about.urgency,
            offer: about.offer,
            fence: about.fence,
            until_ms: about.until_ms,
            outcome: about.outcome,
            reason: about.reason,
            status: about.status,
            revision: self.state.policy.as_ref().map_or(0, |p| p.revision),
            by: self.by.clone(),
            partner: about.partner.cloned(),
            block: about.block.cloned(),
            number: about.number,
        });
    }

    fn chat(&self, id: &ChatId) -> Option<&Chat> {
        self.state.chats.get(id)
    }

    fn with_chat<T>(&mut self, id: &ChatId, change: impl FnOnce(&mut Chat) -> T) -> Option<T> {
        self.state.chats.get_mut(id).map(change)
    }

    fn with_responder<T>(&mut self, id: &ResponderId, change: impl FnOnce(&mut Responder) -> T) -> Option<T> {
        self.state.responders.get_mut(id).map(change)
    }

    /// Moves a chat along the table of [`next`] and the ledger with it. A move that the table does not know is not
    /// made: callers have checked, and a test of the whole table proves it.
    fn happen(&mut self, id: &ChatId, happening: Happening) {
        let Some(chat) = self.state.chats.get_mut(id) else {
            return;
        };
        let Some(to) = next(chat.state, happening) else {
            return;
        };
        let from = (chat.state, chat.ended.map(|e| e.0));
        chat.state = to;
        chat.ended = match happening {
            Happening::End(outcome) => Some((outcome, self.now)),
            Happening::Admit
            | Happening::Offer
            | Happening::LastOfferGone
            | Happening::Accept
            | Happening::Reclaim
            | Happening::Return
            | Happening::Reopen => None,
        };
        let to = (to, chat.ended.map(|e| e.0));
        if let Some(cell) = self.state.ledger.cell(from.0, from.1) {
            *cell -= 1;
        }
        if let Some(cell) = self.state.ledger.cell(to.0, to.1) {
            *cell += 1;
        }
    }

    /// Puts a chat where it belongs in the order of the line, or takes it out.
    fn settle_chat(&mut self, id: &ChatId) {
        let numbers = self.numbers();
        let Some(chat) = self.state.chats.get_mut(id) else {
            return;
        };
        let standing = standing(chat, &numbers);
        if standing == chat.standing {
            return;
        }
        let member = chat.member();
        if let Some(old) = chat.standing.take() {
            self.state.lanes.remove(&old.lane, old.score, &member);
        }
        if let Some(new) = &standing {
            self.state.lanes.insert(&new.lane, new.score, &member);
        }
        chat.standing = standing;
    }

    /// Puts a responder where they belong among those who are free, or takes them out.
    fn settle_responder(&mut self, id: &ResponderId) {
        let numbers = self.numbers();
        let Some(responder) = self.state.responders.get_mut(id) else {
            return;
        };
        let idle = (responder.available() && responder.free() > 0)
            .then(|| Idle { class: responder.class(&numbers), rested_ms: responder.rested_ms });
        if idle == responder.idle {
            return;
        }
        if let Some(old) = responder.idle.take() {
            self.state.classes.remove(&old.class, idle_score(responder.scarce, old.rested_ms), id.as_str());
        }
        if let Some(new) = &idle {
            self.state.classes.insert(&new.class, idle_score(responder.scarce, new.rested_ms), id.as_str());
        }
        responder.idle = idle;
    }

    /// Takes an open offer back: the chat is no longer offered to that responder, the load is free again.
    fn withdraw(&mut self, chat: &ChatId, number: u32) -> Option<ResponderId> {
        let (responder, last) = self.with_chat(chat, |c| {
            let at = c.offers.iter().position(|o| o.number == number)?;
            Some((c.offers.remove(at).responder, c.offers.is_empty()))
        })??;
        self.state.timers.cancel(&Timer::Offer(chat.clone(), number));
        if last {
            self.happen(chat, Happening::LastOfferGone);
        }
        self.settle_chat(chat);
        self.drop_holding(&responder, chat);
        Some(responder)
    }

    /// Withdraws every open offer of a chat, telling each responder why.
    fn rescind_all(&mut self, id: &ChatId, reason: Reason) {
        let open = self.chat(id).map(|c| c.offers.clone()).unwrap_or_default();
        for offer in open {
            self.withdraw(id, offer.number);
            self.tell(
                EventKind::Rescinded,
                About {
                    chat: Some(id),
                    responder: Some(&offer.responder),
                    offer: Some(offer.number),
                    reason: Some(reason),
                    ..About::default()
                },
            );
        }
    }

    /// Frees what a responder holds of a chat. One who is leaving goes when the last thing is out of their hands.
    fn drop_holding(&mut self, responder: &ResponderId, chat: &ChatId) {
        let leaves = self.with_responder(responder, |r| {
            r.holdings.retain(|h| h.chat != *chat);
            r.version += 1;
            r.status == Status::Leaving && r.holdings.is_empty()
        });
        self.settle_responder(responder);
        if leaves == Some(true) {
            self.go_offline(responder, Reason::Asked);
        } else {
            self.freed.push(responder.clone());
        }
    }

    /// Ends a chat: its offers are withdrawn, its owner wraps up, and it is remembered until its retention is over.
    fn end_chat(&mut self, id: &ChatId, outcome: EndedAs, reason: Reason) {
        let numbers = self.numbers();
        self.rescind_all(id, Reason::ChatEnded);
        let was_active = self.chat(id).is_some_and(|c| c.state == ChatState::Active);
        self.happen(id, Happening::End(outcome));
        self.state.timers.cancel(&Timer::Away(id.clone()));
        self.state.timers.cancel(&Timer::Abandon(id.clone()));
        self.state.timers.cancel(&Timer::Step(id.clone()));
        self.state.timers.cancel(&Timer::Retry(id.clone()));
        self.state.timers.cancel(&Timer::Reply(id.clone()));
        self.stop_overflow(id);
        self.delivery_done(id);
        self.state.timers.set(&Timer::Forget(id.clone()), self.now + numbers.retention_ms);
        let ended = self.with_chat(id, |c| {
            c.version += 1;
            c.away = false;
            c.recovering = false;
            c.reclaim_from = 0;
            c.shown = None;
            if outcome != EndedAs::Abandoned {
                c.handoff.clear();
            }
            c.reply_handoff.clear();
            (c.owner.clone(), c.urgency)
        });
        self.settle_chat(id);
        let Some((owner, urgency)) = ended else {
            return;
        };
        self.tell(
            EventKind::Ended,
            About {
                chat: Some(id),
                responder: owner.as_ref().map(|o| &o.responder),
                urgency: Some(urgency),
                fence: owner.as_ref().map(|o| o.fence),
                outcome: Some(outcome),
                reason: Some(reason),
                ..About::default()
            },
        );
        if let (true, Some(owner)) = (was_active, owner) {
            self.wind_down(&owner.responder, id, urgency, self.now - owner.since_ms);
        }
    }

    /// After a chat its responder writes notes, and after a hard one has a pause that nobody can shorten.
    fn wind_down(&mut self, responder: &ResponderId, chat: &ChatId, urgency: Urgency, lasted_ms: u64) {
        let numbers = self.numbers();
        let now = self.now;
        let wrap_up_ms = self.wrap_up_for(&numbers, urgency);
        let cool_down_ms = Numbers::by(&numbers.cool_down_ms, urgency);
        let strain = u64::from(Numbers::by(&numbers.strain_percent, urgency));
        let cooling = self.with_responder(responder, |r| {
            r.rested_ms = r.rested_ms.max(now) + lasted_ms * strain / 100;
            if r.holding(chat).is_some_and(|h| !h.hard) {
                r.hard_in_row = 0;
            }
            if wrap_up_ms > 0 {
                r.holdings.iter_mut().filter(|h| h.chat == *chat).for_each(|h| {
                    h.kind = HoldingKind::WrapUp;
                    h.called_ms = 0;
                });
                r.version += 1;
            }
            let until = now + cool_down_ms;
            let cools = cool_down_ms > 0 && until > r.cooling_until_ms;
            if cools {
                r.cooling_until_ms = until;
            }
            cools.then_some(until)
        });
        if wrap_up_ms > 0 {
            self.state.timers.set(&Timer::WrapUp(responder.clone(), chat.clone()), now + wrap_up_ms);
        }
        if let Some(Some(until)) = cooling {
            self.state.timers.set(&Timer::CoolDown(responder.clone()), until);
            self.tell(
                EventKind::CoolingDown,
                About { responder: Some(responder), until_ms: Some(until), ..About::default() },
            );
        }
        self.settle_responder(responder);
        if wrap_up_ms == 0 {
            self.drop_holding(responder, chat);
        } else {
            // An easier chat ends a row of hard ones, and whoever has room beside the notes may be asked for one again.
            self.freed.push(responder.clone());
        }
    }

    /// Remembers that a responder was asked and did not take the chat, and looks again after the shortest back-off.
    fn remember_asked(&mut self, chat: &ChatId, responder: &ResponderId) {
        let now = self.now;
        let retry = now + self.numbers().min_back_off_ms;
        self.with_chat(chat, |c| {
            c.asked.retain(|a| a.responder != *responder);
            c.asked.push(crate::chat::Asked { responder: responder.clone(), at_ms: now });
            if c.asked.len() > crate::limits::MAX_ASKED {
                c.asked.remove(0);
            }
        });
        self.state.timers.set(&Timer::Retry(chat.clone()), retry);
    }

    /// A chat did not reach whoever it was given to. Once that was so often as the policy says, supervisors see it. It
    /// keeps its place and is offered on: nobody is parked for what went wrong on the other side.
    fn delivery_failed(&mut self, id: &ChatId) {
        let (now, after) = (self.now, self.numbers().failing_after);
        let failing = self.with_chat(id, |c| {
            c.failed = c.failed.saturating_add(1);
            let begins = c.failing_since_ms == 0 && c.failed >= after;
            if begins {
                c.failing_since_ms = now;
            }
            begins.then_some((c.urgency, c.failed))
        });
        if let Some(Some((urgency, failed))) = failing {
            self.state.failing.insert((now, id.clone()));
            self.tell(
                EventKind::DeliveryFailing,
                About { chat: Some(id), urgency: Some(urgency), number: Some(failed.into()), ..About::default() },
            );
        }
    }

    /// A conversation has begun, or the chat is over: what failed before does not count any more.
    fn delivery_done(&mut self, id: &ChatId) {
        let since = self.with_chat(id, |c| {
            c.failed = 0;
            std::mem::take(&mut c.failing_since_ms)
        });
        if let Some(since) = since {
            self.state.failing.remove(&(since, id.clone()));
        }
    }

    /// The answer to a visitor.
    fn view(&self, id: &ChatId, replay: bool) -> Result<Reply, Refusal> {
        let chat = self.chat(id).ok_or(Refusal::UnknownChat)?;
        Ok(Reply::Chat {
            chat: id.clone(),
            state: chat.state,
            urgency: chat.urgency,
            version: chat.version,
            place: self.place(chat),
            away: chat.away,
            arrival_ms: chat.arrival_ms,
            outcome: chat.ended.map(|e| e.0),
            replay,
            now_ms: self.now,
            pace_ms: self.state.pace.known_ms(),
            spread: self.state.waits.of(chat.urgency),
            partner: chat.partner.clone().filter(|_| chat.state == ChatState::Ended),
            sequence: chat.sequence,
            generation: self.state.generation.clone(),
            term: self.state.term.number,
        })
    }

    /// The answer to a responder.
    fn responder_view(&self, id: &ResponderId) -> Result<Reply, Refusal> {
        let responder = self.state.responders.get(id).ok_or(Refusal::NotSignedIn)?;
        Ok(Reply::Responder {
            responder: id.clone(),
            session: responder.session,
            status: responder.status,
            cooling_until_ms: responder.cooling_until_ms,
            version: responder.version,
            now_ms: self.now,
        })
    }
}

/// Where a chat belongs in the order of the line: nowhere while nobody more is to be asked.
pub(crate) fn standing(chat: &Chat, numbers: &Numbers) -> Option<Standing> {
    let open = u32::try_from(chat.offers.len()).unwrap_or(u32::MAX);
    let matchable = match chat.state {
        ChatState::Waiting | ChatState::Offered => !chat.away && open < chat.fan_out,
        ChatState::Held | ChatState::Active | ChatState::Ended => false,
    };
    if !matchable {
        return None;
    }
    let head_start = Numbers::by(&numbers.head_start_ms, chat.urgency)
        + if chat.returned { numbers.return_head_start_ms } else { 0 };
    let lane = if chat.recovering { RECOVERING.to_owned() } else { lane_of(chat, numbers)? };
    Some(Standing { lane, score: score(chat.urgency, chat.arrival_ms, head_start) })
}

/// The lane of those who came back from a ticket and are not offered yet: nobody fits it.
pub(crate) const RECOVERING: &str = "recovering";

/// Chats that ask for the same share a lane: `weight:hard:topics:requirement`.
#[must_use]
pub(crate) fn lane_of(chat: &Chat, numbers: &Numbers) -> Option<String> {
    // Whoever is in danger does not wait for empty hands: freed slots would go to lighter chats one by one, and hands
    // would never be empty. One free slot is enough; the chat then takes all that is free, up to its weight.
    let weight = match chat.urgency {
        Urgency::Imminent => 1,
        Urgency::Low | Urgency::Moderate | Urgency::High => Numbers::by(&numbers.weight, chat.urgency),
    };
    let hard = u8::from(crate::chat::is_hard(chat.urgency));
    Some(format!("{weight}:{hard}:{}:{}", chat.topics.to_text(), chat.steps.get(chat.step)?.signature()))
}

/// The place of a free responder among the others: fewest scarce capabilities first, then longest rested.
pub(crate) fn idle_score(scarce: u32, rested_ms: u64) -> i64 {
    (i64::from(scarce) << 42) + i64::try_from(rested_ms).unwrap_or(i64::MAX >> 2)
}

/// Names once each, in the order of their first mention.
fn once_each<T: Ord + Clone>(names: Vec<T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    names.into_iter().filter(|n| seen.insert(n.clone())).collect()
}
