//! Where each path ends, and when: at a human, a partner or the resources, within what was promised.

use super::Found;
use crate::Urgency;
use crate::policy::{Closed, Numbers, Policy, Route};

pub(super) fn look(policy: &Policy, found: &mut Found) {
    resources(policy, found);
    partners(policy, found);
    overflow_in_time(policy, found);
    answered_in_time(policy, found);
    for (i, route) in policy.routes.iter().enumerate() {
        ladder_in_time(policy, i, route, found);
    }
    hours(policy, found);
    paging(policy, found);
}

fn promised(policy: &Policy, urgency: Urgency) -> u64 {
    Numbers::by(&policy.promise.reach_within_ms, urgency)
}

/// The highest urgency whose promise such a wait breaks, with what was promised.
fn broken(policy: &Policy, wait_ms: u64) -> Option<(Urgency, u64)> {
    let kept = |(_, promised): &(Urgency, u64)| wait_ms > *promised;
    Urgency::ALL.into_iter().rev().map(|urgency| (urgency, promised(policy, urgency))).find(kept)
}

/// The resources are the end of every path on which nobody comes.
fn resources(policy: &Policy, found: &mut Found) {
    if policy.resources.is_empty() {
        let problem = "there are none: when nobody can come, a visitor is told of nowhere else to turn";
        found.error("resources", problem);
        return;
    }
    for (i, resource) in policy.resources.iter().enumerate() {
        for (key, text) in [("title", &resource.title), ("contact", &resource.contact)] {
            if text.trim().is_empty() {
                found.error(format!("resources[{i}].{key}"), "is empty: nobody can turn there");
            }
        }
    }
    if !fits_everybody(policy) {
        let problem =
            "none is for everybody (no locale, no region): whose language is not listed sees a foreign one";
        found.warning("resources", problem);
    }
}

fn fits_everybody(policy: &Policy) -> bool {
    policy.resources.iter().any(|r| r.locale.is_empty() && r.region.is_empty())
}

/// Whether chats overflow without waiting for anybody here.
fn overflows_at_once(policy: &Policy) -> Option<&'static str> {
    let closed = policy.hours.as_ref().is_some_and(|hours| hours.closed == Closed::Overflow);
    match (closed, policy.numbers.min_on_shift > 0) {
        (true, _) => Some("hours.closed"),
        (false, true) => Some("numbers.min_on_shift"),
        (false, false) => None,
    }
}

fn partners(policy: &Policy, found: &mut Found) {
    let numbers = &policy.numbers;
    let overflows = numbers.overflow_after_ms.iter().any(|ms| *ms > 0);
    if !policy.partners.is_empty() {
        if !overflows && overflows_at_once(policy).is_none() {
            found.warning("partners", "no chat ever goes to them: nothing here says when one overflows");
        }
    } else {
        if overflows {
            found.error("numbers.overflow_after_ms", "there are no partners to overflow to");
        }
        if policy.hours.as_ref().is_some_and(|hours| hours.closed == Closed::Overflow) {
            found.error("hours.closed", "there are no partners to overflow to");
        }
        if numbers.min_on_shift > 0 {
            let problem = "there are no partners: with fewer on shift, only the resources remain";
            found.warning("numbers.min_on_shift", problem);
        }
        let hard = [("in_row", numbers.max_hard_in_row), ("per_shift", numbers.max_hard_per_shift)];
        for (name, _) in hard.iter().filter(|(_, most)| *most > 0 && !fits_everybody(policy)) {
            let problem = "when everybody has had so many, there is no partner and no resource for everybody";
            found.warning(format!("numbers.max_hard_{name}"), problem);
        }
    }
    if !policy.takes_from.is_empty() && policy.takes_at_most == 0 {
        found.warning("takes_at_most", "with 0, overflow is refused even when nobody waits here");
    }
}

/// Partners are asked one after the other; the last one must have answered in time.
fn overflow_in_time(policy: &Policy, found: &mut Found) {
    let count = u64::try_from(policy.partners.len()).unwrap_or(u64::MAX);
    let asking = policy.numbers.overflow_answer_ms.saturating_mul(count);
    for urgency in Urgency::ALL {
        let after = Numbers::by(&policy.numbers.overflow_after_ms, urgency);
        let by = after.saturating_add(asking);
        let promised = promised(policy, urgency);
        if after > 0 && by > promised {
            let field = format!("numbers.overflow_after_ms[{}]", urgency.rank());
            let problem = format!(
                "a {} chat may have asked the last partner only after {by} ms; promised are {promised}",
                urgency.word()
            );
            found.error(field, problem);
        }
    }
    if let (Some(_), Some((urgency, promised))) = (overflows_at_once(policy), broken(policy, asking)) {
        let word = urgency.word();
        let problem = format!("asking all partners takes {asking} ms; promised for {word} are {promised}");
        found.error("numbers.overflow_answer_ms", problem);
    }
}

/// Waits that any chat can meet, whatever its route.
fn answered_in_time(policy: &Policy, found: &mut Found) {
    let numbers = &policy.numbers;
    let imminent = promised(policy, Urgency::Imminent);
    let waits = [("anyone_after_ms", numbers.anyone_after_ms), ("prefer_for_ms", numbers.prefer_for_ms)];
    for (name, wait) in waits {
        if let Some((urgency, promised)) = broken(policy, wait) {
            let problem = format!("{wait} ms are longer than the {promised} promised for {}", urgency.word());
            found.error(format!("numbers.{name}"), problem);
        }
    }
    if numbers.offer_deadline_ms >= imminent {
        let problem = format!("one offer that nobody answers uses up the {imminent} ms promised for imminent");
        found.error("numbers.offer_deadline_ms", problem);
    }
    if numbers.first_reply_ms >= imminent {
        let problem =
            format!("a responder may stay silent for longer than the {imminent} ms promised for imminent");
        found.warning("numbers.first_reply_ms", problem);
    }
}

/// The last step of a ladder. A wish on top of it delays it to `prefer_for_ms` at most, which is looked at above.
fn ladder_in_time(policy: &Policy, i: usize, route: &Route, found: &mut Found) {
    let Ok(steps) = policy.steps_of(i, route) else { return };
    let last = steps.last().map_or(0, |step| step.after_ms);
    let Some((urgency, promised)) = broken(policy, last) else { return };
    let (field, what) = if steps.len() > route.steps.len() {
        (format!("routes[{i}].steps"), "and anyone_after_ms let anyone come only")
    } else {
        (format!("routes[{i}].steps[{}]", steps.len().saturating_sub(1)), "lets anyone come only")
    };
    found.error(field, format!("{what} after {last} ms; promised for {} are {promised}", urgency.word()));
}

fn hours(policy: &Policy, found: &mut Found) {
    let Some(hours) = &policy.hours else { return };
    let week = hours.week();
    if week.iter().all(|(_, ranges)| ranges.is_empty()) {
        found.error("hours", "the line never opens: no weekday has hours");
        return;
    }
    if hours.closed == Closed::Queue {
        for (day, _) in week.iter().filter(|(_, ranges)| ranges.is_empty()) {
            let problem = "no hours on this day, and closed = \"queue\": people wait through all of it";
            found.warning(format!("hours.{day}"), problem);
        }
    }
}

fn paging(policy: &Policy, found: &mut Found) {
    for (i, _) in policy.surge.iter().enumerate().filter(|(_, stage)| stage.page_until > 0) {
        if policy.paging.is_none() {
            found.error(format!("surge[{i}].page_until"), "there is no [paging]: nobody can be called up");
        }
    }
}
