//! What is never reached: rules and routes that others take everything from, steps that change nothing.

use super::Found;
use crate::Urgency;
use crate::chat::Step;
use crate::limits::MAX_STEPS;
use crate::policy::condition::{looks_at_answers, never_holds, takes_all_of};
use crate::policy::{Condition, Policy};

pub(super) fn look(policy: &Policy, found: &mut Found) {
    let rules: Vec<(&str, &[Condition])> = policy.triage.iter().map(|r| (r.name.as_str(), &*r.when)).collect();
    let routes: Vec<(&str, &[Condition])> = policy.routes.iter().map(|r| (r.name.as_str(), &*r.when)).collect();
    turns("triage", &rules, found);
    turns("routes", &routes, found);
    low_without_answers(policy, found);
    for (i, route) in policy.routes.iter().enumerate() {
        let Ok(steps) = policy.steps_of(i, route) else { continue };
        ladder(policy, i, steps.get(..route.steps.len()).unwrap_or(&steps), found);
        room_for_wishes(i, steps.len(), found);
    }
}

/// The first one that holds is taken, so each must hold for somebody whom none before it has taken.
fn turns(list: &str, entries: &[(&str, &[Condition])], found: &mut Found) {
    for (i, (_, when)) in entries.iter().enumerate() {
        if never_holds(when) {
            found.error(format!("{list}[{i}].when"), "never holds: two of its conditions exclude each other");
            continue;
        }
        let before = entries.iter().take(i).find(|(_, earlier)| takes_all_of(earlier, when));
        if let Some((earlier, _)) = before {
            let problem = format!("is never reached: '{earlier}' before it holds whenever this one does");
            found.error(format!("{list}[{i}]"), problem);
        }
    }
}

/// Unknown counts as MODERATE, and a language or a place says nothing about a risk.
fn low_without_answers(policy: &Policy, found: &mut Found) {
    for (i, rule) in policy.triage.iter().enumerate() {
        if rule.urgency < Urgency::Moderate && !looks_at_answers(&rule.when) {
            let problem = "looks at no answer, so it would count people of whom nothing is known as low";
            found.error(format!("triage[{i}].urgency"), problem);
        }
    }
}

/// Each step lets in everybody whom the one before did, and somebody more.
fn ladder(policy: &Policy, i: usize, steps: &[Step], found: &mut Found) {
    for (s, pair) in steps.windows(2).enumerate() {
        let [before, step] = pair else { continue };
        let field = format!("routes[{i}].steps[{}]", s + 1);
        if before.requirement.is_anyone() {
            found.error(field, "is never reached: the step before is for anyone");
        } else if before.requirement == step.requirement {
            found.error(field, "changes nothing: the step before asks for the same");
        } else if !policy.lets_in_all_of(&step.requirement, &before.requirement) {
            found.error(field, "tightens: somebody who could come in the step before no longer can");
        }
    }
}

fn room_for_wishes(i: usize, steps: usize, found: &mut Found) {
    if steps >= MAX_STEPS {
        let problem = format!("with {MAX_STEPS} steps there is no room for what a visitor prefers");
        found.warning(format!("routes[{i}].steps"), problem);
    }
}
