//! Why a chat is where it is: how each responder stands to it, and what keeps it from being offered.
//!
//! It reads what the line reads and decides nothing. Private wishes never show: a responder's topics and a visitor's
//! wish whom to meet or not to meet all read [`Standing::NotSuitable`], and only after every reason that anybody on the
//! floor can see for themselves.

use crate::chat::{Chat, Step, is_hard};
use crate::fairness::recent_load_ms;
use crate::ids::{ChatId, ResponderId};
use crate::lifecycle::ChatState;
use crate::line::{Reroutes, fits, idle_score, lane_of};
use crate::policy::{Need, Numbers, Policy};
use crate::priority::Urgency;
use crate::requirement::{Mask, Requirement};
use crate::responder::{Responder, Status};
use std::collections::BTreeMap;

/// What a chat is explained against.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The policy in force.
    pub policy: &'a Policy,
    /// The reroutes in force.
    pub reroutes: &'a Reroutes,
    /// Those who are not offline.
    pub responders: &'a [Responder],
    /// How many that are in all.
    pub on_shift: u64,
    /// How many of them could be offered a chat now.
    pub free: usize,
    /// The service clock.
    pub now_ms: u64,
}

/// How one responder stands to a chat. In this order they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is theirs.
    Owner,
    /// It is offered to them.
    Offered,
    /// They could be asked now: nobody comes before them.
    Free,
    /// They could be asked, but others come first.
    Later,
    /// They were asked and did not take it.
    AskedBefore,
    /// Their hands are full.
    Full,
    /// They had as many hard chats as is good, or their shift ends soon.
    Spared,
    /// Cooling down.
    CoolingDown,
    /// On a break, not responding, leaving or disconnected.
    NotReady,
    /// For a reason that is nobody else's business.
    NotSuitable,
    /// They do not have what the step in force asks for.
    Requirement,
}

/// What keeps the whole chat from being offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBack {
    /// The visitor is out of touch.
    Away,
    /// It came back after the store had lost it, and may be in somebody's hands: they have a moment to say so.
    Recovering,
    /// Too few responders are on shift.
    GateClosed,
    /// The last free responders are kept for IMMINENT chats.
    Reserve,
    /// It is offered to as many as it should be.
    EnoughOffers,
    /// It is in somebody's hands, or has ended.
    NotInLine,
}

impl HeldBack {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Recovering => "recovering",
            Self::GateClosed => "gate_closed",
            Self::Reserve => "reserve",
            Self::EnoughOffers => "enough_offers",
            Self::NotInLine => "not_in_line",
        }
    }
}

/// A rung of the ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedStep {
    /// Milliseconds since the chat's arrival.
    pub after_ms: u64,
    /// What a responder must have, in the policy's words.
    pub requirement: String,
    /// It is the one in force.
    pub in_force: bool,
    /// Responders on shift who meet it, whether free or not.
    pub qualified: u32,
}

/// A responder, and how they stand to the chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub responder: ResponderId,
    /// How they stand to it.
    pub standing: Standing,
    /// Milliseconds until they are rested.
    pub recent_load_ms: u64,
    /// How many scarce capabilities they have.
    pub scarce: u32,
}

/// Why a chat is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Which chat.
    pub chat: ChatId,
    /// Where it stands in its life.
    pub state: ChatState,
    /// How urgent it is.
    pub urgency: Urgency,
    /// 1 for the next in line; 0 when not in the line now.
    pub place: u64,
    /// How long ago it arrived, in milliseconds.
    pub waited_ms: u64,
    /// The policy revision in force.
    pub revision: u64,
    /// The ladder.
    pub steps: Vec<ExplainedStep>,
    /// Everybody on shift, best first; nobody once it has ended.
    pub candidates: Vec<Candidate>,
    /// What keeps it from being offered.
    pub held_back_by: Vec<HeldBack>,
    /// How often it did not reach whoever it was given to, since anybody was last in conversation with it.
    pub failed: u32,
    /// That was so often that supervisors see it.
    pub failing: bool,
    /// One sentence for people.
    pub summary: String,
}

/// Explains a chat that stands at `place`.
#[must_use]
pub fn explain(chat: &Chat, place: u64, around: &Around<'_>) -> Explanation {
    let look = Look { chat, around, lane: lane_of(chat, &around.policy.numbers) };
    let candidates = look.candidates();
    let held_back_by = look.held_back();
    Explanation {
        chat: chat.id.clone(),
        state: chat.state,
        urgency: chat.urgency,
        place,
        waited_ms: around.now_ms.saturating_sub(chat.arrival_ms),
        revision: around.policy.revision,
        steps: look.steps(),
        summary: look.summary(&candidates, &held_back_by),
        candidates,
        held_back_by,
        failed: chat.failed,
        failing: chat.failing_since_ms > 0,
    }
}

/// What a look at one responder says before they are compared with the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alone {
    /// Could be asked.
    May,
    /// Was asked lately, and may be asked again if nobody else is there.
    IfNobodyElse,
    /// Cannot be asked.
    No(Standing),
}

struct Look<'a> {
    chat: &'a Chat,
    around: &'a Around<'a>,
    lane: Option<String>,
}

impl Look<'_> {
    fn numbers(&self) -> &Numbers {
        &self.around.policy.numbers
    }

    fn in_line(&self) -> bool {
        matches!(self.chat.state, ChatState::Waiting | ChatState::Offered)
    }

    /// What a step asks for now: a reroute may put something else in its place.
    fn rerouted(&self, step: &Step) -> Option<&Requirement> {
        self.around.reroutes.get(&step.signature()).map(|reroute| &reroute.to)
    }

    fn asks_for<'s>(&'s self, step: &'s Step) -> &'s Requirement {
        self.rerouted(step).unwrap_or(&step.requirement)
    }

    fn alone(&self, responder: &Responder) -> Alone {
        let chat = self.chat;
        let numbers = self.numbers();
        let owns = chat.state == ChatState::Active
            && chat.owner.as_ref().is_some_and(|owner| owner.responder == responder.id);
        if owns {
            return Alone::No(Standing::Owner);
        }
        if chat.offer_to(&responder.id).is_some() {
            return Alone::No(Standing::Offered);
        }
        let step = chat.steps.get(chat.step);
        if !step.is_some_and(|step| self.asks_for(step).met_by(&responder.capabilities)) {
            return Alone::No(Standing::Requirement);
        }
        if responder.status != Status::Ready || !responder.linked {
            return Alone::No(Standing::NotReady);
        }
        if !responder.available() {
            return Alone::No(Standing::CoolingDown);
        }
        let weight = match chat.urgency {
            // One free slot is enough, see `lane_of`.
            Urgency::Imminent => 1,
            Urgency::Low | Urgency::Moderate | Urgency::High => Numbers::by(&numbers.weight, chat.urgency),
        };
        let weight = weight.min(responder.capacity);
        if responder.free() == 0 || responder.free() < weight {
            return Alone::No(Standing::Full);
        }
        if is_hard(chat.urgency) && responder.spared(numbers) {
            return Alone::No(Standing::Spared);
        }
        // The line has the last word; what it knows beyond the above is private.
        let fit = self.lane.as_ref().is_some_and(|lane| fits(lane, responder, numbers, self.around.reroutes));
        if !fit || chat.excluded.contains(&responder.id) {
            return Alone::No(Standing::NotSuitable);
        }
        self.asked_before(responder)
    }

    fn asked_before(&self, responder: &Responder) -> Alone {
        let (now, numbers) = (self.around.now_ms, self.numbers());
        match self.chat.asked.iter().find(|asked| asked.responder == responder.id) {
            None => Alone::May,
            Some(asked) if now >= asked.at_ms + numbers.back_off_ms => Alone::May,
            Some(asked) if now >= asked.at_ms + numbers.min_back_off_ms => Alone::IfNobodyElse,
            Some(_) => Alone::No(Standing::AskedBefore),
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        if self.chat.state == ChatState::Ended {
            return Vec::new();
        }
        let mut looked: Vec<(&Responder, Alone)> =
            self.in_order().into_iter().map(|r| (r, self.alone(r))).collect();
        // Stable: among equals the order stays the one in which they are asked.
        looked.sort_by_key(|(_, alone)| *alone == Alone::IfNobodyElse);
        let somebody_may = looked.iter().any(|(_, alone)| *alone == Alone::May);
        let mut slots = self.slots();
        let mut candidates: Vec<Candidate> = looked
            .into_iter()
            .map(|(responder, alone)| {
                let standing = match alone {
                    Alone::No(standing) => standing,
                    Alone::May | Alone::IfNobodyElse if slots > 0 => {
                        slots -= 1;
                        Standing::Free
                    }
                    Alone::IfNobodyElse if somebody_may => Standing::AskedBefore,
                    Alone::May | Alone::IfNobodyElse => Standing::Later,
                };
                Candidate {
                    responder: responder.id.clone(),
                    standing,
                    recent_load_ms: recent_load_ms(responder, self.around.now_ms),
                    scarce: responder.scarce,
                }
            })
            .collect();
        candidates.sort_by_key(|candidate| candidate.standing);
        candidates
    }

    /// How many would be asked next: as many as the chat still wants, at least the one who is next.
    fn slots(&self) -> u32 {
        let open = u32::try_from(self.chat.offers.len()).unwrap_or(u32::MAX);
        if self.in_line() { self.chat.fan_out.saturating_sub(open).max(1) } else { 0 }
    }

    /// Everybody, in the order in which the line asks: fewest scarce capabilities, longest rested; where two are
    /// alike, the one whose class comes first.
    fn in_order(&self) -> Vec<&Responder> {
        let score = |r: &Responder| idle_score(r.scarce, r.idle.as_ref().map_or(r.rested_ms, |i| i.rested_ms));
        let class = |r: &Responder| r.idle.as_ref().map(|i| i.class.clone()).unwrap_or_default();
        let mut heads: BTreeMap<String, i64> = BTreeMap::new();
        for responder in self.around.responders {
            let head = heads.entry(class(responder)).or_insert(i64::MAX);
            *head = (*head).min(score(responder));
        }
        let mut all: Vec<&Responder> = self.around.responders.iter().collect();
        all.sort_by_cached_key(|r| (score(r), heads.get(&class(r)).copied(), class(r), r.id.clone()));
        all
    }

    fn held_back(&self) -> Vec<HeldBack> {
        if !self.in_line() {
            return vec![HeldBack::NotInLine];
        }
        let numbers = self.numbers();
        let reserve = usize::try_from(numbers.reserve).unwrap_or(usize::MAX);
        let reserved = reserve > 0 && self.around.free <= reserve && self.chat.urgency != Urgency::Imminent;
        let open = u32::try_from(self.chat.offers.len()).unwrap_or(u32::MAX);
        let reasons = [
            (HeldBack::Away, self.chat.away),
            (HeldBack::Recovering, self.chat.recovering),
            (HeldBack::GateClosed, self.around.on_shift < numbers.min_on_shift),
            (HeldBack::EnoughOffers, open >= self.chat.fan_out),
            (HeldBack::Reserve, reserved),
        ];
        reasons.into_iter().filter(|(_, holds)| *holds).map(|(reason, _)| reason).collect()
    }

    /// The ladder. Rungs that ask for the same show as one: where they differ, it is in whom the visitor wishes to meet.
    fn steps(&self) -> Vec<ExplainedStep> {
        let mut shown: Vec<ExplainedStep> = Vec::with_capacity(self.chat.steps.len());
        for (i, step) in self.chat.steps.iter().enumerate() {
            let in_force = i == self.chat.step;
            let requirement = self.text(step);
            match shown.last_mut().filter(|last| last.requirement == requirement) {
                Some(last) => last.in_force |= in_force,
                None => shown.push(ExplainedStep {
                    after_ms: step.after_ms,
                    requirement,
                    in_force,
                    qualified: self.qualified(step),
                }),
            }
        }
        shown
    }

    fn qualified(&self, step: &Step) -> u32 {
        let asks_for = self.asks_for(step);
        let qualified = self.around.responders.iter().filter(|r| asks_for.met_by(&r.capabilities)).count();
        u32::try_from(qualified).unwrap_or(u32::MAX)
    }

    fn text(&self, step: &Step) -> String {
        let usual = in_words(self.around.policy, &step.requirement);
        match self.rerouted(step) {
            Some(to) => format!("{usual}; for now {}", in_words(self.around.policy, to)),
            None => usual,
        }
    }

    fn summary(&self, candidates: &[Candidate], held_back_by: &[HeldBack]) -> String {
        let summary = self.where_it_is(candidates, held_back_by);
        match self.chat.failing_since_ms {
            0 => summary,
            _ => format!("{summary} It failed to reach somebody {} times: look after it.", self.chat.failed),
        }
    }

    fn where_it_is(&self, candidates: &[Candidate], held_back_by: &[HeldBack]) -> String {
        let with = |standing| names(candidates, standing);
        match self.chat.state {
            ChatState::Held => return "It is kept for a partner, and not in this line yet.".to_owned(),
            ChatState::Active => return format!("It is in the hands of {}.", with(Standing::Owner)),
            ChatState::Ended => {
                let outcome = self.chat.ended.map_or("", |(outcome, _)| outcome.word());
                return format!("It has ended: {outcome}.");
            }
            ChatState::Waiting | ChatState::Offered => {}
        }
        if held_back_by.contains(&HeldBack::Away) {
            "Its visitor is out of touch: it is not offered, and keeps its place.".to_owned()
        } else if held_back_by.contains(&HeldBack::GateClosed) {
            let (there, least) = (self.around.on_shift, self.numbers().min_on_shift);
            format!("Nothing is offered: {there} on shift, and the helpline wants at least {least}.")
        } else if self.chat.state == ChatState::Offered {
            format!("It is offered to {}.", with(Standing::Offered))
        } else if held_back_by.contains(&HeldBack::Reserve) {
            "Those who are free are kept for IMMINENT chats.".to_owned()
        } else {
            self.waiting_for(candidates)
        }
    }

    fn waiting_for(&self, candidates: &[Candidate]) -> String {
        let asked_for = self.chat.steps.get(self.chat.step).map(|step| self.text(step)).unwrap_or_default();
        let next = self.next_step(&asked_for);
        if candidates.iter().any(|c| c.standing == Standing::Free) {
            return format!("It is offered next to {}.", names(candidates, Standing::Free));
        }
        if candidates.iter().all(|c| c.standing == Standing::Requirement) {
            return format!("Nobody on shift has what it asks for ({asked_for}){next}.");
        }
        let reasons: Vec<String> = REASONS
            .iter()
            .map(|(standing, words)| (candidates.iter().filter(|c| c.standing == *standing).count(), words))
            .filter(|(count, _)| *count > 0)
            .map(|(count, words)| format!("{count} {words}"))
            .collect();
        format!("Nobody who has what it asks for ({asked_for}) can be asked now: {}{next}.", reasons.join(", "))
    }

    fn next_step(&self, asked_for: &str) -> String {
        let mut later = self.chat.steps.iter().skip(self.chat.step + 1);
        let Some(step) = later.find(|step| self.text(step) != asked_for) else {
            return String::new();
        };
        let due_ms = (self.chat.arrival_ms + step.after_ms).saturating_sub(self.around.now_ms);
        format!("; in {} s it asks for {}", due_ms.div_ceil(1000), self.text(step))
    }
}

/// Why those who have what is asked for cannot be asked, in words for a summary.
const REASONS: [(Standing, &str); 6] = [
    (Standing::Full, "with their hands full"),
    (Standing::NotReady, "not ready"),
    (Standing::CoolingDown, "cooling down"),
    (Standing::AskedBefore, "asked before"),
    (Standing::Spared, "spared hard chats"),
    (Standing::NotSuitable, "not suitable"),
];

fn names(candidates: &[Candidate], standing: Standing) -> String {
    let those = candidates.iter().filter(|c| c.standing == standing);
    those.map(|c| c.responder.to_string()).collect::<Vec<_>>().join(" and ")
}

/// A requirement in the policy's words.
fn in_words(policy: &Policy, requirement: &Requirement) -> String {
    if requirement.is_anyone() {
        return "anyone".to_owned();
    }
    let all_of = |mask: &Mask| {
        let needs = policy.tags_of(mask).into_iter().map(|(tag, level)| Need { tag, level }.to_string());
        needs.collect::<Vec<_>>().join(" and ")
    };
    let signature = requirement.signature();
    let alternatives = signature.split(',').filter_map(Mask::from_text);
    alternatives.map(|mask| all_of(&mask)).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Asked, Fence, Offer, Owner};
    use crate::command::{Command, Request};
    use crate::ids::DigestHex;
    use crate::line::{Line, Reroute, Snapshot};
    use crate::policy::{Tag, TagLevel};
    use crate::responder::{Holding, HoldingKind};
    use crate::{EndedAs, TokenHash};

    const NOW: u64 = 1_800_000_000_000;

    fn policy(change: impl FnOnce(&mut Policy)) -> Policy {
        let tag = |name: &str, levels| Tag { name: name.to_owned(), levels, scarce: false };
        let tags = vec![tag("lang:es", 1), tag("skill:minors", 3), tag("topic:loss", 1)];
        let mut policy = Policy { helpline: "test".to_owned(), revision: 1, tags, ..Policy::default() };
        change(&mut policy);
        policy
    }

    fn id(name: &str) -> ResponderId {
        ResponderId::parse(name).unwrap()
    }

    /// A line with a chat that asks for Spanish at first, from whose visitor nothing is heard, and with these people,
    /// who came after that.
    fn line(policy: &Policy, urgency: Urgency, people: &[&str]) -> Snapshot {
        let mut line = Line::new(1);
        let mut apply = |command: &Command| line.apply(NOW, command).reply.unwrap();
        apply(&Command::SetPolicy { policy: Box::new(policy.clone()), expected: 0, by: None });
        let es = policy.requirement("", &[vec![("lang:es", 1)]]).unwrap();
        let steps = policy.ladder("", vec![Step::new(0, es), Step::new(60_000, Requirement::anyone())]).unwrap();
        apply(&Command::Request(Box::new(request(urgency, steps))));
        for person in people {
            apply(&sign_in(policy, person, &[("lang:es", 1)]));
        }
        line.snapshot().clone()
    }

    fn request(urgency: Urgency, steps: Vec<Step>) -> Request {
        let digest = || DigestHex::parse("aa").unwrap();
        Request {
            chat: ChatId::parse("c1").unwrap(),
            request_key: digest(),
            body: digest(),
            token: TokenHash([7; 32]),
            urgency,
            steps,
            topics: Mask::default(),
            excluded: Vec::new(),
            revision: 1,
            attested: true,
            resources_seen: false,
            solved_bits: 0,
            overflow_now: false,
            handoff: Vec::new(),
            trace: String::new(),
            subject: None,
            came_by: None,
        }
    }

    fn sign_in(policy: &Policy, person: &str, tags: &[TagLevel<'_>]) -> Command {
        let (capabilities, scarce) = policy.capabilities("", tags).unwrap();
        Command::SignIn {
            responder: id(person),
            capabilities,
            scarce,
            opt_out: Mask::default(),
            shift_ms: 0,
            capacity: 2,
            ready: true,
            revision: 1,
        }
    }

    /// What is explained of a line, after this was changed about its chat and about ana.
    fn explained(
        policy: &Policy,
        mut line: Snapshot,
        change: impl FnOnce(&mut Chat, &mut Responder),
    ) -> Explanation {
        let mut chat = line.chats.remove(&ChatId::parse("c1").unwrap()).unwrap();
        // Nothing is offered yet, whoever was matched on the way here.
        chat.offers.clear();
        chat.state = ChatState::Waiting;
        let free = line.classes.len();
        let mut responders: Vec<Responder> = line.responders.into_values().collect();
        responders.iter_mut().for_each(|r| r.holdings.clear());
        change(&mut chat, responders.first_mut().unwrap());
        let (reroutes, on_shift) = (&line.reroutes, line.on_shift);
        let around = Around { policy, reroutes, responders: &responders, on_shift, free, now_ms: NOW };
        explain(&chat, 1, &around)
    }

    /// How ana stands to a chat of this urgency, after this was changed about the two.
    fn standing(urgency: Urgency, change: impl FnOnce(&mut Chat, &mut Responder)) -> Standing {
        let policy = policy(|p| p.numbers.max_hard_in_row = 2);
        let explanation = explained(&policy, line(&policy, urgency, &["ana"]), change);
        explanation.candidates[0].standing
    }

    fn moderate(change: impl FnOnce(&mut Chat, &mut Responder)) -> Standing {
        standing(Urgency::Moderate, change)
    }

    fn holding(kind: HoldingKind, weight: u32) -> Holding {
        Holding { chat: ChatId::parse("c9").unwrap(), kind, weight, hard: true, beyond: false, called_ms: 0 }
    }

    #[test]
    fn who_has_it_and_who_is_offered_it_stand_first() {
        let owner = |chat: &mut Chat, _: &mut Responder| {
            let fence = Fence { epoch: 1, minted_by: 1 };
            chat.state = ChatState::Active;
            chat.owner = Some(Owner { responder: id("ana"), offer: 1, fence, since_ms: NOW, engaged_ms: None });
        };
        assert_eq!(moderate(owner), Standing::Owner);
        let offered = |chat: &mut Chat, _: &mut Responder| {
            chat.state = ChatState::Offered;
            chat.offers.push(Offer { number: 1, responder: id("ana") });
        };
        assert_eq!(moderate(offered), Standing::Offered);
    }

    #[test]
    fn a_chat_that_reaches_nobody_says_so_beside_whatever_else_there_is_to_say() {
        let policy = policy(|_| {});
        let fails = |chat: &mut Chat, _: &mut Responder| (chat.failed, chat.failing_since_ms) = (5, NOW);
        let explanation = explained(&policy, line(&policy, Urgency::Low, &["ana"]), fails);
        assert_eq!((explanation.failed, explanation.failing), (5, true));
        let told = "ana. It failed to reach somebody 5 times: look after it.";
        assert!(explanation.summary.ends_with(told), "{}", explanation.summary);
        let explanation = explained(&policy, line(&policy, Urgency::Low, &["ana"]), |chat, _| chat.failed = 4);
        assert_eq!((explanation.failed, explanation.failing), (4, false));
        assert!(!explanation.summary.contains("failed"), "{}", explanation.summary);
    }

    #[test]
    fn who_is_free_first_could_be_asked_and_the_others_come_later() {
        let policy = policy(|_| {});
        let explanation = explained(&policy, line(&policy, Urgency::Low, &["ana", "ben"]), |_, ana| {
            ana.rested_ms += 60_000;
            ana.idle.as_mut().unwrap().rested_ms += 60_000;
        });
        let told: Vec<(&str, Standing, u64)> =
            explanation.candidates.iter().map(|c| (c.responder.as_str(), c.standing, c.recent_load_ms)).collect();
        assert_eq!(told, [("ben", Standing::Free, 0), ("ana", Standing::Later, 60_000)]);
    }

    #[test]
    fn what_is_asked_for_goes_before_every_other_reason() {
        let without = |_: &mut Chat, ana: &mut Responder| {
            ana.capabilities = Mask::default();
            ana.status = Status::OnBreak;
        };
        assert_eq!(moderate(without), Standing::Requirement);
    }

    #[test]
    fn whoever_is_on_a_break_or_disconnected_is_not_ready() {
        assert_eq!(moderate(|_, ana| ana.status = Status::OnBreak), Standing::NotReady);
        assert_eq!(moderate(|_, ana| ana.linked = false), Standing::NotReady);
    }

    #[test]
    fn whoever_cools_down_is_told_so() {
        assert_eq!(moderate(|_, ana| ana.cooling_until_ms = NOW + 1), Standing::CoolingDown);
    }

    #[test]
    fn full_hands_are_those_without_room_for_this_chat() {
        assert_eq!(moderate(|_, ana| ana.holdings.push(holding(HoldingKind::WrapUp, 2))), Standing::Full);
        assert_eq!(moderate(|_, ana| ana.holdings.push(holding(HoldingKind::WrapUp, 1))), Standing::Free);
        let half = |_: &mut Chat, ana: &mut Responder| ana.holdings.push(holding(HoldingKind::WrapUp, 1));
        assert_eq!(standing(Urgency::Imminent, half), Standing::Free, "it weighs two, and does not wait for both");
    }

    #[test]
    fn whoever_had_enough_hard_chats_or_whose_shift_ends_is_spared_hard_ones_only() {
        assert_eq!(standing(Urgency::High, |_, ana| ana.hard_in_row = 2), Standing::Spared);
        assert_eq!(standing(Urgency::High, |_, ana| ana.shift_ending = true), Standing::Spared);
        assert_eq!(moderate(|_, ana| ana.hard_in_row = 2), Standing::Free);
    }

    #[test]
    fn whoever_was_asked_is_asked_again_only_after_a_while() {
        let asked = |ago: u64| {
            move |chat: &mut Chat, _: &mut Responder| {
                chat.asked.push(Asked { responder: id("ana"), at_ms: NOW - ago });
            }
        };
        assert_eq!(moderate(asked(4_999)), Standing::AskedBefore);
        assert_eq!(moderate(asked(5_000)), Standing::Free, "nobody else is there");
        assert_eq!(moderate(asked(60_000)), Standing::Free);
    }

    #[test]
    fn whoever_was_asked_waits_for_the_whole_back_off_while_others_are_there() {
        let policy = policy(|_| {});
        let explanation = explained(&policy, line(&policy, Urgency::Low, &["ana", "ben"]), |chat, _| {
            chat.asked.push(Asked { responder: id("ana"), at_ms: NOW - 5_000 });
        });
        let told: Vec<Standing> = explanation.candidates.iter().map(|c| c.standing).collect();
        assert_eq!(told, [Standing::Free, Standing::AskedBefore]);
    }

    #[test]
    fn private_wishes_of_either_side_read_alike() {
        let loss = policy(|_| {}).capabilities("", &[("topic:loss", 1)]).unwrap().0;
        let opted_out = |chat: &mut Chat, ana: &mut Responder| {
            chat.topics = loss;
            ana.opt_out = loss;
        };
        let excluded = |chat: &mut Chat, _: &mut Responder| chat.excluded.push(id("ana"));
        let somebody_else = |chat: &mut Chat, _: &mut Responder| {
            chat.steps.iter_mut().for_each(|step| step.only = Some(id("ben")));
        };
        assert_eq!(moderate(opted_out), Standing::NotSuitable);
        assert_eq!(moderate(excluded), Standing::NotSuitable);
        assert_eq!(moderate(somebody_else), Standing::NotSuitable);
        let on_a_break = |chat: &mut Chat, ana: &mut Responder| {
            chat.excluded.push(id("ana"));
            ana.status = Status::OnBreak;
        };
        assert_eq!(moderate(on_a_break), Standing::NotReady, "what anybody can see says enough");
    }

    #[test]
    fn a_wish_for_one_responder_does_not_show_in_the_ladder_or_the_summary() {
        let policy = policy(|_| {});
        let explanation = explained(&policy, line(&policy, Urgency::Low, &["ana"]), |chat, ana| {
            let first = chat.steps[0].clone();
            chat.steps.insert(0, Step { only: Some(id("ben")), ..first });
            chat.steps[1].after_ms = 30_000;
            ana.capacity = 1;
        });
        let rungs: Vec<(u64, &str, bool, u32)> = explanation
            .steps
            .iter()
            .map(|s| (s.after_ms, s.requirement.as_str(), s.in_force, s.qualified))
            .collect();
        assert_eq!(rungs, [(0, "lang:es", true, 1), (60_000, "anyone", false, 1)]);
        assert_eq!(
            explanation.summary,
            "Nobody who has what it asks for (lang:es) can be asked now: 1 not suitable; in 60 s it asks for anyone."
        );
    }

    #[test]
    fn a_requirement_is_told_in_the_words_of_the_policy() {
        let policy = policy(|_| {});
        let any_of = [vec![("lang:es", 1), ("skill:minors", 2)], vec![("skill:minors", 3)]];
        let requirement = policy.requirement("", &any_of).unwrap();
        let told = in_words(&policy, &requirement);
        assert!(
            ["lang:es and skill:minors>=2 or skill:minors>=3", "skill:minors>=3 or lang:es and skill:minors>=2"]
                .contains(&told.as_str()),
            "{told}"
        );
        assert_eq!(in_words(&policy, &Requirement::anyone()), "anyone");
    }

    #[test]
    fn a_reroute_is_told_and_counts() {
        let policy = policy(|_| {});
        let mut line = line(&policy, Urgency::Low, &["ana"]);
        let from = policy.requirement("", &[vec![("lang:es", 1)]]).unwrap().signature();
        line.reroutes.insert(from, Reroute { to: Requirement::anyone(), until_ms: NOW + 1 });
        let explanation = explained(&policy, line, |_, ana| ana.capabilities = Mask::default());
        assert_eq!(explanation.steps[0].requirement, "lang:es; for now anyone");
        assert_eq!((explanation.steps[0].qualified, explanation.candidates[0].standing), (1, Standing::Free));
    }

    #[test]
    fn what_keeps_the_whole_chat_back_is_named() {
        let held = |policy: &Policy, urgency, change: fn(&mut Chat, &mut Responder)| {
            explained(policy, line(policy, urgency, &["ana"]), change).held_back_by
        };
        let (plain, kept) = (policy(|_| {}), policy(|p| p.numbers.reserve = 1));
        let gated = policy(|p| p.numbers.min_on_shift = 2);
        assert_eq!(held(&plain, Urgency::Low, |_, _| {}), []);
        assert_eq!(held(&plain, Urgency::Low, |chat, _| chat.away = true), [HeldBack::Away]);
        assert_eq!(held(&gated, Urgency::Low, |_, _| {}), [HeldBack::GateClosed]);
        assert_eq!(held(&kept, Urgency::Low, |_, _| {}), [HeldBack::Reserve]);
        assert_eq!(held(&kept, Urgency::Imminent, |_, _| {}), []);
        let offered = |chat: &mut Chat, _: &mut Responder| {
            chat.offers.push(Offer { number: 1, responder: id("ben") });
        };
        assert_eq!(held(&plain, Urgency::Low, offered), [HeldBack::EnoughOffers]);
        assert_eq!(held(&plain, Urgency::Low, |chat, _| chat.state = ChatState::Active), [HeldBack::NotInLine]);
    }

    #[test]
    fn an_ended_chat_has_no_candidates() {
        let policy = policy(|_| {});
        let explanation = explained(&policy, line(&policy, Urgency::Low, &["ana"]), |chat, _| {
            chat.state = ChatState::Ended;
            chat.ended = Some((EndedAs::Left, NOW));
        });
        assert_eq!((explanation.candidates, explanation.summary), (Vec::new(), "It has ended: left.".to_owned()));
    }

    #[test]
    fn nobody_with_what_it_takes_is_said_as_such() {
        let policy = policy(|_| {});
        let explanation = explained(&policy, line(&policy, Urgency::Low, &["ana"]), |_, ana| {
            ana.capabilities = Mask::default();
        });
        let said = "Nobody on shift has what it asks for (lang:es); in 60 s it asks for anyone.";
        assert_eq!(explanation.summary, said);
    }
}

/// What is explained is what the line does: whoever is named as the next is who is asked next.
#[cfg(all(test, feature = "test-util"))]
#[expect(clippy::unwrap_used, reason = "a test may fail so")]
mod properties {
    use super::*;
    use crate::command::{Applied, Command};
    use crate::event::EventKind;
    use crate::histories::{Player, TimedOp, history, seed};
    use crate::line::{Line, Snapshot};
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use std::cell::Cell;

    fn explained(chat: &Chat, line: &Snapshot, now_ms: u64) -> Option<Explanation> {
        let here = |r: &&Responder| r.status != Status::Offline;
        let responders: Vec<Responder> = line.responders.values().filter(here).cloned().collect();
        let around = Around {
            policy: line.policy.as_ref()?,
            reroutes: &line.reroutes,
            responders: &responders,
            on_shift: line.on_shift,
            free: line.classes.len(),
            now_ms,
        };
        Some(explain(chat, 0, &around))
    }

    /// Those who would be asked next, in order; nobody when the chat is held back.
    fn next(explanation: &Explanation) -> Vec<ResponderId> {
        let held_back = !explanation.held_back_by.is_empty();
        let free = explanation.candidates.iter().filter(|c| c.standing == Standing::Free && !held_back);
        free.map(|c| c.responder.clone()).collect()
    }

    fn asked(chat: &ChatId, applied: &Applied) -> Vec<ResponderId> {
        let offers =
            applied.events.iter().filter(|e| e.kind == EventKind::Offered && e.chat.as_ref() == Some(chat));
        offers.filter_map(|e| e.responder.clone()).collect()
    }

    /// A request that was let in, as it was before anybody was asked, explained by what the line was before it.
    fn check_request(before: &Snapshot, line: &Line, applied: &Applied) -> Result<u64, TestCaseError> {
        let new = applied.events.iter().find(|e| e.kind == EventKind::Requested).and_then(|e| e.chat.clone());
        let Some(chat) = new.and_then(|id| line.snapshot().chats.get(&id)) else {
            return Ok(0);
        };
        let arriving = Chat { state: ChatState::Waiting, offers: Vec::new(), ..chat.clone() };
        let explanation = explained(&arriving, before, line.snapshot().clock.now_ms).unwrap();
        prop_assert_eq!(next(&explanation), asked(&chat.id, applied), "{:?}", explanation);
        Ok(u64::from(!asked(&chat.id, applied).is_empty()))
    }

    /// A visitor who is away comes back: whoever is named while they are away is asked then.
    fn check_away(line: &Line, wall_ms: u64) -> Result<u64, TestCaseError> {
        let mut found = 0;
        for chat in
            line.snapshot().chats.values().filter(|c| c.away && c.state == ChatState::Waiting && c.ended.is_none())
        {
            let mut then = line.clone();
            let back = then.apply(wall_ms, &Command::Beat { chat: chat.id.clone(), token: chat.token });
            let explanation = explained(chat, line.snapshot(), then.snapshot().clock.now_ms).unwrap();
            prop_assert!(explanation.held_back_by.contains(&HeldBack::Away));
            let but_for_that = Chat { away: false, ..chat.clone() };
            let explanation = explained(&but_for_that, line.snapshot(), then.snapshot().clock.now_ms).unwrap();
            prop_assert_eq!(next(&explanation), asked(&chat.id, &back), "{:?}", explanation);
            found += u64::from(!asked(&chat.id, &back).is_empty());
        }
        Ok(found)
    }

    /// The line asks whoever can be asked at once: no chat that stands there has anybody free.
    fn check_waiting(line: &Line) -> Result<(), TestCaseError> {
        let snapshot = line.snapshot();
        for chat in snapshot.chats.values().filter(|c| c.standing.is_some()) {
            let explanation = explained(chat, snapshot, snapshot.clock.now_ms).unwrap();
            let unasked = next(&explanation).into_iter().find(|id| chat.asked.iter().all(|a| a.responder != *id));
            prop_assert_eq!(unasked, None, "{:?}", explanation);
        }
        Ok(())
    }

    fn check(which: u8, ops: &[TimedOp]) -> Result<(u64, u64), TestCaseError> {
        let mut player = Player::new(0xabcd_ef01);
        player.play(&Player::first_command(which));
        let mut found = (0, 0);
        for op in ops {
            let command = player.command(op);
            let before = player.line.snapshot().clone();
            let applied = player.play(&command);
            found.0 += check_request(&before, &player.line, &applied)?;
            found.1 += check_away(&player.line, player.wall_ms)?;
            check_waiting(&player.line)?;
        }
        Ok(found)
    }

    #[test]
    fn whoever_is_explained_to_be_next_is_asked_next() {
        let cases = std::env::var("HOLDFAST_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
        let config = Config { cases, rng_seed: seed(), failure_persistence: None, ..Config::default() };
        let totals = Cell::new((0u64, 0u64));
        TestRunner::new(config)
            .run(&(any::<u8>(), history(160)), |(which, ops)| {
                let (asked, back) = check(which, &ops)?;
                totals.set((totals.get().0 + asked, totals.get().1 + back));
                Ok(())
            })
            .unwrap();
        let (asked, back) = totals.get();
        assert!(asked > 100 && back > 100, "only {asked} new and {back} returning visitors found somebody");
    }
}
