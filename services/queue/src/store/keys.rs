//! How keys and stored forms of the Redis store are written, in one place. Which there are, and what is in them, says
//! [`schema`](super::schema).

use holdfast_domain::policy::{Admission, Partner, Rate, SurgeStage};
use holdfast_domain::{ChatId, HelplineId, Policy};

/// The helplines that ever had a policy.
pub const HELPLINES: &str = "hf:helplines";

/// A key that is written to see whether writing works, and that is served where it is `wanted`.
#[must_use]
pub fn canary(wanted: impl Fn(&str) -> bool) -> String {
    let named = |n: u32| format!("hf:{{#{n}}}:canary");
    (0..200_000).map(named).find(|key| wanted(key)).unwrap_or_else(|| named(0))
}

/// What every key of a helpline begins with.
#[must_use]
pub fn base(helpline: &HelplineId) -> String {
    format!("hf:{{{helpline}}}:")
}

/// The key that scripts get; they derive the others from it.
#[must_use]
pub fn line(helpline: &HelplineId) -> String {
    format!("{}line", base(helpline))
}

/// Where the audit of a helpline stands.
#[must_use]
pub fn audit_head(helpline: &HelplineId) -> String {
    format!("{}audit:head", base(helpline))
}

/// Its entries.
#[must_use]
pub fn audit_entries(helpline: &HelplineId) -> String {
    format!("{}audit:entries", base(helpline))
}

/// What a chat is called in it.
#[must_use]
pub fn audit_name(helpline: &HelplineId, chat: &ChatId) -> String {
    format!("{}audit:name:{chat}", base(helpline))
}

/// The pattern of all notice channels.
pub const NOTICE_PATTERN: &str = "hf:{*}:notices";

/// The helpline of a notice channel.
#[must_use]
pub fn helpline_of_channel(channel: &str) -> Option<HelplineId> {
    let name = channel.strip_prefix("hf:{")?.strip_suffix("}:notices")?;
    HelplineId::parse(name).ok()
}

/// What scripts need of a policy, as JSON; lua/set_policy.lua packs it once, and every script reads it.
#[must_use]
pub fn decisive(policy: &Policy) -> String {
    let n = &policy.numbers;
    let [low, moderate, high] = n.head_start_ms;
    let names = |partners: &[Partner]| partners.iter().map(|p| p.helpline.clone()).collect::<Vec<_>>();
    let stages: Vec<_> = policy.surge.iter().map(stage).collect();
    let mut decisive = serde_json::json!({
        "head_start": [low, moderate, high, 0],
        "return_head_start": n.return_head_start_ms,
        "weight": n.weight,
        "fan_out": n.fan_out,
        "reserve": n.reserve,
        "max_waiting": n.max_waiting,
        "offer_deadline": n.offer_deadline_ms,
        "back_off": n.back_off_ms,
        "min_back_off": n.min_back_off_ms,
        "presence_lease": n.presence_lease_ms,
        "reconnect_grace": n.reconnect_grace_ms,
        "away_after": n.away_after_ms,
        "abandon_after": n.abandon_after_ms,
        "wrap_up": n.wrap_up_ms,
        "cool_down": n.cool_down_ms,
        "strain": n.strain_percent,
        "retention": n.retention_ms,
        "keep_events": n.keep_events,
        "keep_events_ms": n.keep_events_ms,
        "first_reply": n.first_reply_ms,
        "failing_after": n.failing_after,
        "hard_in_row": n.max_hard_in_row,
        "hard_in_shift": n.max_hard_per_shift,
        "hard_rest": n.hard_rest_ms,
        "shift_gap": n.shift_gap_ms,
        "shift_guard": n.shift_guard_ms,
        "min_on_shift": n.min_on_shift,
        "overflow_after": n.overflow_after_ms,
        "overflow_answer": n.overflow_answer_ms,
        "overflow_retry": n.overflow_retry_ms,
        "partners": names(&policy.partners),
        "takes_from": names(&policy.takes_from),
        "takes_at_most": policy.takes_at_most,
        "recovery_hold": n.recovery_hold_ms,
        "surge": stages,
    });
    if let (Some(Admission { quota, imminent }), Some(decisive)) = (policy.admission, decisive.as_object_mut()) {
        let admission = serde_json::json!({ "quota": rate(quota), "imminent": rate(imminent) });
        decisive.insert("admission".to_owned(), admission);
    }
    decisive.to_string()
}

fn rate(rate: Rate) -> serde_json::Value {
    serde_json::json!({ "every": rate.every_us(), "holds": rate.holds_us() })
}

fn stage(s: &SurgeStage) -> serde_json::Value {
    serde_json::json!({
        "enter": s.enter_percent,
        "leave": s.leave_percent,
        "hold": s.hold_ms,
        "fan_out": s.fan_out,
        "wrap_up": s.wrap_up_percent,
        "resources_first": s.resources_first,
        "challenge": s.challenge_bits,
        "page_until": s.page_until,
        "page_every": s.page_every_ms,
        "page_waves": s.page_waves,
    })
}
