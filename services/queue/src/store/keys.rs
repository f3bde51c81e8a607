//! Every key and stored form of the Redis store, in one place. `{…}` is the hash tag: all keys of a helpline live in
//! one Cluster slot, and scripts derive every key from [`line()`].
//!
//! | key | type | what |
//! | --- | --- | --- |
//! | `hf:{h}:line` | hash | clock, term, ledger, pace, counters, the policy's numbers |
//! | `hf:{h}:policy` | string | the policy as TOML |
//! | `hf:{h}:chat:ID` | hash | a chat |
//! | `hf:{h}:responder:ID` | hash | a responder |
//! | `hf:{h}:request:DIGEST` | string | idempotency record: the chat that a request made |
//! | `hf:{h}:here` | set | responders who are not offline |
//! | `hf:{h}:lane:LANE` | sorted set | chats that share weight and requirement, by score |
//! | `hf:{h}:lanes` | sorted set | lanes that are not empty, by the score of their head |
//! | `hf:{h}:waiting` | sorted set | all chats in lanes, by score |
//! | `hf:{h}:class:CLASS` | sorted set | free responders who are alike, by how long they are rested |
//! | `hf:{h}:classes` | sorted set | classes that are not empty, by their head |
//! | `hf:{h}:idle` | sorted set | all free responders |
//! | `hf:{h}:timers` | sorted set | everything that waits for a moment |
//! | `hf:{h}:events` | stream | the events; ids are term-sequence |
//! | `hf:{h}:notices` | channel | events as they happen |

use holdfast_domain::{HelplineId, Numbers};

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

/// The pattern of all notice channels.
pub const NOTICE_PATTERN: &str = "hf:{*}:notices";

/// The helpline of a notice channel.
#[must_use]
pub fn helpline_of_channel(channel: &str) -> Option<HelplineId> {
    let name = channel.strip_prefix("hf:{")?.strip_suffix("}:notices")?;
    HelplineId::parse(name).ok()
}

/// The numbers of a policy as scripts read them, in the order in which lua/set_policy.lua names them.
#[must_use]
pub fn numbers(n: &Numbers) -> String {
    let mut all: Vec<u64> = Vec::with_capacity(32);
    all.extend(n.head_start_ms);
    all.push(n.return_head_start_ms);
    all.extend(n.weight.map(u64::from));
    all.extend([u64::from(n.fan_out), u64::from(n.reserve), n.max_waiting, n.offer_deadline_ms]);
    all.extend([n.back_off_ms, n.min_back_off_ms, n.presence_lease_ms, n.reconnect_grace_ms]);
    all.extend([n.away_after_ms, n.abandon_after_ms]);
    all.extend(n.wrap_up_ms);
    all.extend(n.cool_down_ms);
    all.extend(n.strain_percent.map(u64::from));
    all.extend([n.retention_ms, n.keep_events]);
    let words: Vec<String> = all.iter().map(u64::to_string).collect();
    words.join(" ")
}
