//! What goes out.

use std::time::Duration;

use holdfast_domain::{
    Block, Chat, ChatState, EndedAs, Event, Fence, HelplineId, Holding, HoldingKind, Ledger, Policy, Reason,
    Reply, Responder, Status, Urgency, Whom,
    explain::{Explanation, Standing},
    fairness,
    kpis::{Figures, Kpis, Percentiles},
    line::{Spread, Waits},
};
use holdfast_proto::v1;

use crate::{
    content::Opened,
    error::Failure,
    events::cursor_text,
    store::{self, Below, BlocksPage, Cursor, Durability, Floor, Persistence, ResponderView},
};

/// Candidates that an explanation names at most.
pub(crate) const MAX_CANDIDATES: usize = 500;

fn millis(ms: u64) -> Option<prost_types::Duration> {
    Duration::from_millis(ms).try_into().ok()
}

fn since(now_ms: u64, then_ms: u64) -> Option<prost_types::Duration> {
    millis(now_ms.saturating_sub(then_ms))
}

fn urgency(urgency: Urgency) -> i32 {
    let shown = match urgency {
        Urgency::Low => v1::Urgency::Low,
        Urgency::Moderate => v1::Urgency::Moderate,
        Urgency::High => v1::Urgency::High,
        Urgency::Imminent => v1::Urgency::Imminent,
    };
    shown.into()
}

fn state(state: ChatState) -> i32 {
    let shown = match state {
        // Nobody is shown a chat that is still a partner's.
        ChatState::Held => v1::ChatState::Unspecified,
        ChatState::Waiting => v1::ChatState::Waiting,
        ChatState::Offered => v1::ChatState::Offered,
        ChatState::Active => v1::ChatState::Active,
        ChatState::Ended => v1::ChatState::Ended,
    };
    shown.into()
}

fn ended_as(outcome: EndedAs) -> v1::ChatOutcome {
    match outcome {
        EndedAs::Completed => v1::ChatOutcome::Completed,
        EndedAs::Left => v1::ChatOutcome::Left,
        EndedAs::Abandoned => v1::ChatOutcome::Abandoned,
        EndedAs::Overflowed => v1::ChatOutcome::Overflowed,
        EndedAs::Fallback => v1::ChatOutcome::Fallback,
        EndedAs::Blocked => v1::ChatOutcome::Blocked,
    }
}

fn ended(outcome: Option<EndedAs>) -> i32 {
    outcome.map_or(v1::ChatOutcome::Unspecified, ended_as).into()
}

fn declared(status: Status) -> v1::ResponderStatus {
    match status {
        Status::Offline => v1::ResponderStatus::Offline,
        Status::Ready => v1::ResponderStatus::Ready,
        Status::OnBreak => v1::ResponderStatus::OnBreak,
        Status::NotResponding => v1::ResponderStatus::NotResponding,
        Status::Leaving => v1::ResponderStatus::Leaving,
    }
}

/// Cooling down is READY with a moment before which nothing is offered; people see it as a status.
fn standing(status: Status, cooling_until_ms: u64, now_ms: u64) -> i32 {
    let cools = status == Status::Ready && cooling_until_ms > now_ms;
    let shown = if cools { v1::ResponderStatus::CoolingDown } else { declared(status) };
    shown.into()
}

fn cooling_down_for(cooling_until_ms: u64, now_ms: u64) -> Option<prost_types::Duration> {
    (cooling_until_ms > now_ms).then(|| since(cooling_until_ms, now_ms)).flatten()
}

fn fence(fence: Fence) -> v1::Fence {
    v1::Fence { epoch: fence.epoch, minted_by: fence.minted_by }
}

fn wait(spread: Spread, place: u64, pace_ms: u64) -> Option<v1::WaitRange> {
    let (least, most) = spread.range(place, pace_ms)?;
    Some(v1::WaitRange { at_least: millis(least), at_most: millis(most) })
}

/// The helpline that has a chat now, once it has overflowed.
fn continued_at(outcome: Option<EndedAs>, partner: Option<&HelplineId>) -> String {
    let gone = outcome == Some(EndedAs::Overflowed);
    partner.filter(|_| gone).map(ToString::to_string).unwrap_or_default()
}

/// What an acknowledgement is worth.
/// How the store stands.
pub(crate) fn store_standing(standing: &store::Standing) -> v1::StoreStanding {
    let worth = Durability { persistence: standing.persistence, replicas_acked: standing.replicas };
    v1::StoreStanding {
        accepting: standing.below.is_none(),
        reason: standing.below.map_or("", Below::word).to_owned(),
        durability: Some(durability(worth)),
        declared: standing.is_declared,
    }
}

fn durability(durability: Durability) -> v1::Durability {
    let persistence = match durability.persistence {
        Persistence::Ephemeral => v1::durability::Persistence::Ephemeral,
        Persistence::Async => v1::durability::Persistence::Async,
        Persistence::Fsynced => v1::durability::Persistence::Fsynced,
    };
    v1::Durability { persistence: persistence.into(), replicas_acked: durability.replicas_acked }
}

/// The answer to a command. The handoff of an assignment was opened for whoever gets it.
pub(crate) fn outcome(reply: Reply, handoff: Opened, worth: Durability) -> Result<v1::Outcome, Failure> {
    let outcome = match reply {
        Reply::Chat { .. } => chat_outcome(reply),
        Reply::Responder { .. } => responder_outcome(reply),
        Reply::Accepted { .. } => accepted(reply, handoff),
        Reply::Done { .. } => Some(v1::outcome::Outcome::Done(v1::DoneView {})),
        Reply::Ticked { .. } | Reply::Policy { .. } => None,
    };
    let outcome = Some(outcome.ok_or(Failure::Mismatched)?);
    Ok(v1::Outcome { outcome, durability: Some(durability(worth)) })
}

/// Adds what the caller keeps of a chat or an assignment.
pub(crate) fn add_paper(outcome: &mut v1::Outcome, paper: Vec<u8>) {
    match &mut outcome.outcome {
        Some(v1::outcome::Outcome::Chat(view)) => view.ticket = paper,
        Some(v1::outcome::Outcome::Accepted(view)) => view.sealed = paper,
        Some(v1::outcome::Outcome::Responder(_) | v1::outcome::Outcome::Done(_)) | None => {}
    }
}

fn chat_outcome(reply: Reply) -> Option<v1::outcome::Outcome> {
    let Reply::Chat {
        chat,
        state: at,
        urgency: how,
        version,
        place,
        away,
        arrival_ms,
        outcome,
        replay,
        now_ms,
        pace_ms,
        spread,
        partner,
        ..
    } = reply
    else {
        return None;
    };
    let chat = v1::Chat {
        chat_id: chat.to_string(),
        state: state(at),
        urgency: urgency(how),
        place,
        away,
        waited: since(now_ms, arrival_ms),
        outcome: ended(outcome),
        continued_at: continued_at(outcome, partner.as_ref()),
        version,
    };
    let wait = wait(spread, place, pace_ms);
    let view = v1::ChatOutcomeView { chat: Some(chat), wait, replayed: replay, ticket: Vec::new() };
    Some(v1::outcome::Outcome::Chat(view))
}

fn responder_outcome(reply: Reply) -> Option<v1::outcome::Outcome> {
    let Reply::Responder { responder, session, status, cooling_until_ms, version, now_ms } = reply else {
        return None;
    };
    Some(v1::outcome::Outcome::Responder(v1::ResponderOutcomeView {
        responder_id: responder.to_string(),
        session,
        status: standing(status, cooling_until_ms, now_ms),
        cooling_down_for: cooling_down_for(cooling_until_ms, now_ms),
        version,
    }))
}

fn accepted(reply: Reply, handoff: Opened) -> Option<v1::outcome::Outcome> {
    let Reply::Accepted { chat, fence: mark, urgency: how, version, trace, offer, .. } = reply else {
        return None;
    };
    Some(v1::outcome::Outcome::Accepted(v1::AcceptedView {
        chat_id: chat.to_string(),
        fence: Some(fence(mark)),
        urgency: urgency(how),
        handoff: handoff.bytes,
        version,
        traceparent: trace,
        handoff_lost: handoff.lost,
        sealed: Vec::new(),
        offer_number: offer,
    }))
}

/// A chat for its visitor, with the reply handoff that was opened for them, and the ticket that they keep.
pub(crate) fn chat_view(
    chat: Chat,
    reply: Opened,
    place: u64,
    floor: &Floor,
    ticket: Vec<u8>,
) -> v1::GetChatResponse {
    let outcome = chat.ended.map(|(outcome, _)| outcome);
    let owner = chat.owner.filter(|_| matches!(chat.state, ChatState::Active | ChatState::Ended));
    v1::GetChatResponse {
        ticket,
        wait: wait(floor.waits.of(chat.urgency), place, floor.pace_ms),
        responder_id: owner.map(|owner| owner.responder.to_string()).unwrap_or_default(),
        reply_handoff: reply.bytes,
        reply_handoff_lost: reply.lost,
        chat: Some(v1::Chat {
            chat_id: chat.id.to_string(),
            state: state(chat.state),
            urgency: urgency(chat.urgency),
            place,
            away: chat.away,
            waited: since(floor.clock.now_ms, chat.arrival_ms),
            outcome: ended(outcome),
            continued_at: continued_at(outcome, chat.partner.as_ref()),
            version: chat.version,
        }),
    }
}

/// A chat's place.
pub(crate) fn place_view(chat: &Chat, place: u64, floor: &Floor) -> v1::GetPlaceResponse {
    v1::GetPlaceResponse { place, wait: wait(floor.waits.of(chat.urgency), place, floor.pace_ms) }
}

/// A responder, and what is in their hands.
pub(crate) fn responder_view(view: &ResponderView) -> v1::GetResponderResponse {
    let (responder, now_ms) = (&view.responder, view.now_ms);
    let mut shown = v1::GetResponderResponse {
        responder: Some(v1::ResponderOutcomeView {
            responder_id: responder.id.to_string(),
            session: responder.session,
            status: standing(responder.status, responder.cooling_until_ms, now_ms),
            cooling_down_for: cooling_down_for(responder.cooling_until_ms, now_ms),
            version: responder.version,
        }),
        capacity: responder.capacity,
        load: responder.load(),
        offers: Vec::new(),
        assignments: Vec::new(),
        wrap_ups: Vec::new(),
    };
    for (chat, due_ms) in &view.held {
        show_held(&mut shown, responder, chat, *due_ms, now_ms);
    }
    shown
}

fn show_held(
    shown: &mut v1::GetResponderResponse,
    responder: &Responder,
    chat: &Chat,
    due: Option<u64>,
    now_ms: u64,
) {
    let remaining = due.map_or(millis(0), |due| since(due, now_ms));
    let chat_id = chat.id.to_string();
    match responder.holding(&chat.id).map(|h| h.kind) {
        Some(HoldingKind::Offer) => shown.offers.extend(chat.offer_to(&responder.id).map(|offer| v1::HeldOffer {
            chat_id,
            offer_number: offer.number,
            urgency: urgency(chat.urgency),
            remaining,
            waited: since(now_ms, chat.arrival_ms),
        })),
        Some(HoldingKind::Active) => {
            shown.assignments.extend(chat.owner.as_ref().map(|owner| v1::HeldAssignment {
                chat_id,
                fence: Some(fence(owner.fence)),
                urgency: urgency(chat.urgency),
                offer_number: owner.offer,
                lasting: since(now_ms, owner.since_ms),
            }))
        }
        Some(HoldingKind::WrapUp) => shown.wrap_ups.push(v1::HeldWrapUp { chat_id, remaining }),
        None => {}
    }
}

/// Chats to which a responder asks a supervisor to come, the longest first.
fn calls(responder: &Responder, now_ms: u64) -> Vec<v1::SupervisorCall> {
    let mut called: Vec<_> = responder.holdings.iter().filter(|held| held.called_ms > 0).collect();
    called.sort_by_key(|held| held.called_ms);
    let call = |held: &Holding| v1::SupervisorCall {
        chat_id: held.chat.to_string(),
        waited: since(now_ms, held.called_ms),
    };
    called.into_iter().map(call).collect()
}

fn failing(chat: &Chat, now_ms: u64) -> v1::FailingChat {
    v1::FailingChat {
        chat_id: chat.id.to_string(),
        urgency: urgency(chat.urgency),
        state: state(chat.state),
        failing_for: since(now_ms, chat.failing_since_ms),
        failed_deliveries: chat.failed,
        waited: since(now_ms, chat.arrival_ms),
    }
}

/// The floor, under the policy in force, at a moment of the wall clock. The waiting chats are the first in line, in
/// order.
pub(crate) fn floor(
    floor: &Floor,
    policy: &Policy,
    wall_ms: u64,
    stands: &store::Standing,
) -> v1::GetFloorResponse {
    let now_ms = floor.clock.now_ms;
    let waiting = floor.waiting.iter().zip(1..).map(|(chat, place)| v1::WaitingChat {
        chat_id: chat.id.to_string(),
        urgency: urgency(chat.urgency),
        state: state(chat.state),
        waited: since(now_ms, chat.arrival_ms),
        place,
    });
    let responders = floor.responders.iter().map(|responder| v1::FloorResponder {
        responder_id: responder.id.to_string(),
        status: standing(responder.status, responder.cooling_until_ms, now_ms),
        load: responder.load(),
        capacity: responder.capacity,
        active: count(responder, HoldingKind::Active),
        cooling_down_for: cooling_down_for(responder.cooling_until_ms, now_ms),
        recent_load: since(responder.rested_ms, now_ms),
        calls: calls(responder, now_ms),
    });
    let oldest = floor.waiting.iter().map(|chat| chat.arrival_ms).min();
    v1::GetFloorResponse {
        ledger: Some(ledger(&floor.ledger)),
        store: Some(store_standing(stands)),
        waiting: waiting.collect(),
        responders: responders.collect(),
        failing: floor.failing.iter().map(|chat| failing(chat, now_ms)).collect(),
        failing_in_all: floor.failing_in_all,
        in_line: floor.in_line,
        oldest_wait: oldest.and_then(|arrival_ms| since(now_ms, arrival_ms)),
        clock_lag: millis(floor.clock.lag_ms()),
        policy_revision: floor.policy_revision,
        on_shift: floor.on_shift,
        min_on_shift: policy.numbers.min_on_shift,
        surge_stage: stage_name(policy, floor.surge.stage),
        surge_stage_number: floor.surge.stage,
        load_percent: load_percent(floor),
        load_fairness: fairness::of_recent_load(&floor.responders, now_ms),
        wait_coverage: coverage(&floor.waits),
        waits_shown: floor.waits.shown,
        open: policy.opening(wall_ms).open,
        reroutes: u32::try_from(floor.reroutes.len()).unwrap_or(u32::MAX),
    }
}

fn stage_name(policy: &Policy, stage: u64) -> String {
    let at = usize::try_from(stage).ok().and_then(|stage| stage.checked_sub(1));
    at.and_then(|at| policy.surge.get(at)).map(|stage| stage.name.clone()).unwrap_or_default()
}

/// As the line weighs it when it decides on a surge.
fn load_percent(floor: &Floor) -> u64 {
    (floor.ledger.waiting + floor.ledger.offered) * 100 / floor.on_shift.max(1)
}

/// Share of the shown waits that held; 0 while none has ended.
#[expect(clippy::cast_precision_loss, reason = "a share that people read, of numbers far below 2^53")]
pub(crate) fn coverage(waits: &Waits) -> f64 {
    if waits.shown == 0 { 0.0 } else { waits.inside as f64 / waits.shown as f64 }
}

/// Why a chat is where it is, and how long it may take.
pub(crate) fn explanation(explained: Explanation, floor: &Floor) -> v1::RoutingExplanation {
    let spread = floor.waits.of(explained.urgency);
    let steps = explained.steps.into_iter().map(|step| v1::ExplainedStep {
        after: millis(step.after_ms),
        requirement: step.requirement,
        in_force: step.in_force,
        qualified: step.qualified,
    });
    let candidates = explained.candidates.into_iter().take(MAX_CANDIDATES).map(|candidate| v1::Candidate {
        responder_id: candidate.responder.to_string(),
        standing: candidate_standing(candidate.standing).into(),
        recent_load: millis(candidate.recent_load_ms),
        scarce: candidate.scarce,
    });
    v1::RoutingExplanation {
        chat_id: explained.chat.to_string(),
        state: state(explained.state),
        urgency: urgency(explained.urgency),
        place: explained.place,
        waited: millis(explained.waited_ms),
        policy_revision: explained.revision,
        steps: steps.collect(),
        candidates: candidates.collect(),
        held_back_by: explained.held_back_by.into_iter().map(|reason| reason.word().to_owned()).collect(),
        wait: wait(spread, explained.place, floor.pace_ms),
        summary: explained.summary,
        failed_deliveries: explained.failed,
        delivery_failing: explained.failing,
    }
}

fn candidate_standing(standing: Standing) -> v1::CandidateStanding {
    match standing {
        Standing::Owner => v1::CandidateStanding::Owner,
        Standing::Offered => v1::CandidateStanding::Offered,
        Standing::Free => v1::CandidateStanding::Free,
        Standing::Later => v1::CandidateStanding::Later,
        Standing::AskedBefore => v1::CandidateStanding::AskedBefore,
        Standing::Full => v1::CandidateStanding::Full,
        Standing::Spared => v1::CandidateStanding::Spared,
        Standing::CoolingDown => v1::CandidateStanding::CoolingDown,
        Standing::NotReady => v1::CandidateStanding::NotReady,
        Standing::NotSuitable => v1::CandidateStanding::NotSuitable,
        Standing::Requirement => v1::CandidateStanding::Requirement,
    }
}

/// How a line has served.
pub(crate) fn kpis(kpis: Kpis, floor: &Floor) -> v1::Kpis {
    let cells = Urgency::ALL.into_iter().zip(kpis.by_urgency);
    v1::Kpis {
        window: millis(kpis.window_ms),
        all: Some(figures(v1::Urgency::Unspecified.into(), kpis.all)),
        by_urgency: cells.map(|(of, cell)| figures(urgency(of), cell)).collect(),
        occupancy: kpis.occupancy,
        wait_coverage: coverage(&floor.waits),
        load_fairness: fairness::of_recent_load(&floor.responders, floor.clock.now_ms),
    }
}

fn figures(urgency: i32, figures: Option<Figures>) -> v1::UrgencyKpis {
    let Some(figures) = figures else {
        return v1::UrgencyKpis { urgency, suppressed: true, ..v1::UrgencyKpis::default() };
    };
    v1::UrgencyKpis {
        urgency,
        suppressed: false,
        requested: figures.requested,
        answered: figures.answered,
        answer_rate: figures.answer_rate,
        abandonment_rate: figures.abandonment_rate,
        service_level: figures.service_level,
        average_speed_to_answer: figures.average_speed_to_answer_ms.and_then(millis),
        wait: figures.wait.map(percentiles),
        longest_delay: figures.longest_delay_ms.and_then(millis),
        handling_time: figures.handling_time.map(percentiles),
        wrap_up: figures.wrap_up.map(percentiles),
        overflowed: figures.overflowed,
        fallback: figures.fallback,
        taken_in: figures.taken_in,
    }
}

fn percentiles(of: Percentiles) -> v1::Percentiles {
    v1::Percentiles { p50: millis(of.p50_ms), p95: millis(of.p95_ms), p99: millis(of.p99_ms) }
}

fn count(responder: &Responder, kind: HoldingKind) -> u32 {
    let of_kind = responder.holdings.iter().filter(|h| h.kind == kind).count();
    u32::try_from(of_kind).unwrap_or(u32::MAX)
}

fn ledger(ledger: &Ledger) -> v1::Ledger {
    let ended = EndedAs::ALL
        .into_iter()
        .zip(ledger.ended)
        .map(|(outcome, count)| v1::EndedCount { outcome: ended_as(outcome).into(), count });
    let difference = ledger.difference();
    v1::Ledger {
        accepted: ledger.accepted,
        waiting: ledger.waiting,
        offered: ledger.offered,
        active: ledger.active,
        ended: ended.collect(),
        difference: i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX }),
    }
}

/// A page of blocks; of whom they are is told to nobody.
pub(crate) fn blocks(page: &BlocksPage) -> v1::ListBlocksResponse {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    v1::ListBlocksResponse {
        blocks: page.blocks.iter().map(|b| block(b, page.now_ms)).collect(),
        in_force: count(page.in_force),
        proposed: count(page.proposed),
    }
}

fn block(block: &Block, now_ms: u64) -> v1::Block {
    v1::Block {
        block_id: block.id.to_string(),
        chat_id: block.chat.as_ref().map(ToString::to_string).unwrap_or_default(),
        of_subject: matches!(block.whom, Whom::Subject(_)),
        proposed_by: block.by.to_string(),
        reason: supervision_reason(block.reason).into(),
        confirmed_by: block.confirmed.as_ref().map(|c| c.by.to_string()).unwrap_or_default(),
        remaining: since(block.ends_ms(), now_ms),
        r#for: millis(block.for_ms),
    }
}

/// Only supervisors' own reasons are a block's.
fn supervision_reason(reason: Reason) -> v1::SupervisionReason {
    let name = format!("SUPERVISION_REASON_{}", reason.word().to_ascii_uppercase());
    v1::SupervisionReason::from_str_name(&name).unwrap_or_default()
}

/// An event, where it stands in the stream.
pub(crate) fn event(cursor: &Cursor, event: &Event) -> v1::Event {
    v1::Event {
        cursor: cursor_text(cursor),
        sequence: event.sequence,
        at_ms: event.at_ms,
        kind: event.kind.word().to_owned(),
        chat_id: event.chat.as_ref().map(ToString::to_string).unwrap_or_default(),
        responder_id: event.responder.as_ref().map(ToString::to_string).unwrap_or_default(),
        urgency: event.urgency.map_or(v1::Urgency::Unspecified.into(), urgency),
        offer_number: event.offer.unwrap_or_default(),
        fence: event.fence.map(fence),
        until_ms: event.until_ms.unwrap_or_default(),
        outcome: ended(event.outcome),
        reason: event.reason.map(|r| r.word().to_owned()).unwrap_or_default(),
        status: event.status.map_or(v1::ResponderStatus::Unspecified, declared).into(),
        policy_revision: event.revision,
        supervisor_id: event.by.as_ref().map(ToString::to_string).unwrap_or_default(),
        partner: event.partner.as_ref().map(ToString::to_string).unwrap_or_default(),
        number: event.number.unwrap_or_default(),
        block_id: event.block.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_between_the_factors_that_were_learnt() {
        let learnt = Spread { low: 8_000, high: 30_000 };
        let range = wait(learnt, 4, 60_000).unwrap();
        assert_eq!((range.at_least.unwrap().seconds, range.at_most.unwrap().seconds), (192, 720));
        assert_eq!((wait(learnt, 0, 60_000), wait(learnt, 4, 0)), (None, None));
        assert!(wait(Spread::default(), u64::MAX, u64::MAX).is_some());
    }

    #[test]
    fn a_chat_goes_on_elsewhere_only_once_it_has_overflowed() {
        let partner = HelplineId::parse("north").unwrap();
        assert_eq!(continued_at(Some(EndedAs::Overflowed), Some(&partner)), "north");
        assert_eq!(continued_at(Some(EndedAs::Completed), Some(&partner)), "");
        assert_eq!(continued_at(None, Some(&partner)), "");
    }

    #[test]
    fn only_who_is_ready_cools_down() {
        let shown = |status, until| v1::ResponderStatus::try_from(standing(status, until, 10)).unwrap();
        assert_eq!(shown(Status::Ready, 11), v1::ResponderStatus::CoolingDown);
        assert_eq!(shown(Status::Ready, 10), v1::ResponderStatus::Ready);
        assert_eq!(shown(Status::OnBreak, 11), v1::ResponderStatus::OnBreak);
    }
}
