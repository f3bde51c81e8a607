//! Higher urgencies come first in everything: numbers that say otherwise are mistakes, or deserve a second look.

use super::Found;
use crate::Urgency;
use crate::limits::MAX_CHALLENGE_BITS;
use crate::policy::{Policy, SurgeStage};

/// A challenge of more bits takes a slow phone longer than somebody in distress waits for it.
const PATIENT_BITS: u32 = 20;
/// Hashes that a slow phone makes in a second.
const SLOW_PHONE_HASHES: u64 = 100_000;

pub(super) fn look(policy: &Policy, found: &mut Found) {
    promise(policy, found);
    overflow(policy, found);
    burdens(policy, found);
    limits(policy, found);
    surge(policy, found);
    admission(policy, found);
}

fn promise(policy: &Policy, found: &mut Found) {
    if !policy.promise.reach_within_ms.is_sorted_by(|lower, higher| lower >= higher) {
        found.error("promise.reach_within_ms", "a higher urgency must not be promised later than a lower one");
    }
}

/// 0 means never, which is later than everything.
fn overflow(policy: &Policy, found: &mut Found) {
    let after = policy.numbers.overflow_after_ms.map(|ms| if ms == 0 { u64::MAX } else { ms });
    if !after.is_sorted_by(|lower, higher| lower >= higher) {
        let problem =
            "a higher urgency must not overflow later than a lower one, nor never when the lower one does";
        found.error("numbers.overflow_after_ms", problem);
    }
}

fn burdens(policy: &Policy, found: &mut Found) {
    let numbers = &policy.numbers;
    let lists = [
        ("weight", numbers.weight.map(u64::from)),
        ("wrap_up_ms", numbers.wrap_up_ms),
        ("cool_down_ms", numbers.cool_down_ms),
        ("strain_percent", numbers.strain_percent.map(u64::from)),
    ];
    for (name, values) in lists {
        if !values.is_sorted() {
            found.warning(format!("numbers.{name}"), "falls with urgency: is a harder chat meant to count less?");
        }
    }
}

fn limits(policy: &Policy, found: &mut Found) {
    let numbers = &policy.numbers;
    let (row, shift) = (numbers.max_hard_in_row, numbers.max_hard_per_shift);
    if shift > 0 && row > shift {
        found.warning("numbers.max_hard_in_row", "never counts: a shift has fewer hard chats than that");
    }
    if policy.classifier.enabled && policy.classifier.may_raise_to == Urgency::Low {
        found.warning("classifier.may_raise_to", "nothing can be raised to low: the classifier is asked in vain");
    }
}

/// People come in clusters, and a quota is only felt where it is narrower than what else limits the line.
fn admission(policy: &Policy, found: &mut Found) {
    let Some(admission) = &policy.admission else { return };
    for (name, rate) in [("quota", admission.quota), ("imminent", admission.imminent)] {
        if rate.burst == 1 {
            let problem = "of two who come at the same moment one is refused: let more in at once";
            found.warning(format!("admission.{name}.burst"), problem);
        }
    }
    if admission.quota.burst > policy.numbers.max_waiting {
        let problem = "never counts: the line is full (numbers.max_waiting) before so many came at once";
        found.warning("admission.quota.burst", problem);
    }
}

/// Each stage stands on the one before.
fn surge(policy: &Policy, found: &mut Found) {
    let mut before: Option<&SurgeStage> = None;
    for (i, stage) in policy.surge.iter().enumerate() {
        if before.is_some_and(|before| stage.leave_percent < before.leave_percent) {
            found.warning(format!("surge[{i}].leave_percent"), "ends after the stage that it stands on");
        }
        if stage.fan_out > 0 && stage.fan_out < policy.numbers.fan_out {
            found.warning(
                format!("surge[{i}].fan_out"),
                "is lower than usual: fewer are asked when more are needed",
            );
        }
        if before.is_some_and(|before| stage.challenge_bits < before.challenge_bits) {
            let problem = "is less than in the stage that it stands on: more come, and each pays less";
            found.warning(format!("surge[{i}].challenge_bits"), problem);
        }
        if stage.challenge_bits > PATIENT_BITS && stage.challenge_bits <= MAX_CHALLENGE_BITS {
            let seconds = (1_u64 << stage.challenge_bits) / SLOW_PHONE_HASHES;
            let problem = format!("is about {seconds} s of work on a slow phone: people in distress give up");
            found.warning(format!("surge[{i}].challenge_bits"), problem);
        }
        before = Some(stage);
    }
}
