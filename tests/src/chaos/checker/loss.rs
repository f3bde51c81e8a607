//! Every chat that was acknowledged has exactly one end, somebody or a rule gave it, and its visitor can read it.

use super::line::{Line, Stand};
use super::{Findings, History, Law};
use crate::chaos::history::{Came, Op};
use std::collections::{BTreeMap, HashMap};

/// A visitor may have been out of touch a little shorter than the line believes: the last sign of theirs may have been
/// lost on its way.
const SLACK_MS: u64 = 5_500;
/// Whoever is in touch after a loss of the whole store is back within this.
const BACK_WITHIN_MS: u64 = 15_000;
/// Events are read within this.
const UNREAD_MS: u64 = 1_500;

/// Judges each acknowledged chat.
pub(super) fn judge(history: &History, line: &Line, findings: &mut Findings) {
    let mut acknowledged: BTreeMap<&str, u64> = BTreeMap::new();
    let mut words: HashMap<&str, Vec<&Op>> = HashMap::new();
    let mut last: HashMap<&str, &Op> = HashMap::new();
    for op in &history.ops {
        match op.op.as_str() {
            "request" if op.result == Came::Ok => {
                acknowledged.entry(&op.chat).or_insert(op.returned_ms);
            }
            "last_look" if op.result == Came::Ok => {
                last.insert(&op.chat, op);
            }
            "leave" | "close" => words.entry(&op.chat).or_default().push(op),
            _ => {}
        }
    }
    findings.acknowledged = acknowledged.len() as u64;
    for (chat, at_ms) in acknowledged {
        let words = words.get(chat).map_or(&[][..], Vec::as_slice);
        let Some(story) = line.chats.get(chat) else {
            // Lost before anybody read of it, and nobody came back for it.
            let wiped = history.wiped_within(at_ms.saturating_sub(UNREAD_MS), at_ms + UNREAD_MS);
            let forgotten = wiped && given_up(history, chat, words, at_ms + UNREAD_MS);
            findings.expect(Law::Loss, forgotten, || format!("{chat}: acknowledged, and no event tells of it"));
            continue;
        };
        if let Stand::Lost { since_ms } = story.stand {
            let given_up = given_up(history, chat, words, since_ms);
            findings.expect(Law::Loss, given_up, || {
                format!("{chat}: it did not come back after the loss that was seen at {since_ms} ms")
            });
            continue;
        }
        let seen = last.get(chat);
        let told = match &story.stand {
            Stand::Ended { outcome, reason } => Some((outcome.as_str(), reason.as_str())),
            Stand::InLine | Stand::Owned { .. } | Stand::Lost { .. } => None,
        };
        findings.expect(Law::Loss, told.is_some(), || {
            format!("{chat}: it has no end; by the events it is {:?} since {} ms", story.stand, story.last_ms)
        });
        let Some(seen) = seen else {
            // What ended before the store was lost is known to nobody any more.
            if told.is_some() && story.life < line.life {
                continue;
            }
            findings.expect(Law::Loss, false, || format!("{chat}: its visitor cannot read how it stands"));
            continue;
        };
        let same =
            told.is_none_or(|(outcome, _)| (seen.state.as_str(), seen.outcome.as_str()) == ("ended", outcome));
        findings.expect(Law::Loss, same, || {
            format!("{chat}: its visitor reads {} {}, the events say {told:?}", seen.state, seen.outcome)
        });
        if let Some((outcome, reason)) = told {
            let because = reason_is_good(history, chat, words, outcome, reason, story.last_ms);
            findings
                .expect(Law::Loss, because, || format!("{chat}: nobody asked for its end as {outcome}, {reason}"));
        }
    }
}

/// Whether nobody wanted a chat back that the store has lost: its visitor was out of touch, or it had been closed or left
/// in words that nobody read of any more.
fn given_up(history: &History, chat: &str, words: &[&Op], since_ms: u64) -> bool {
    let Some(wipe) = history.wipe_before(since_ms) else { return false };
    if words.iter().any(|op| op.result != Came::Fail && op.invoked_ms <= wipe.began_ms) {
        return true;
    }
    !in_touch(history, chat, wipe.began_ms)
}

/// Whether the visitor of a chat was in touch after a moment, soon or ever: with a stream that was open, or with a look.
fn in_touch(history: &History, chat: &str, since_ms: u64) -> bool {
    let looked = history.ops.iter().any(|op| op.chat == chat && op.op == "look" && op.invoked_ms >= since_ms);
    let mut open = false;
    for told in history.told.iter().filter(|told| told.chat == chat) {
        if open && told.at_ms >= since_ms + BACK_WITHIN_MS {
            return true;
        }
        match told.what.as_str() {
            "stream_open" if told.at_ms >= since_ms => return true,
            "stream_open" => open = true,
            "unknown" if told.at_ms >= since_ms => return true,
            "stream_end" => open = false,
            _ => {}
        }
    }
    looked || open
}

fn reason_is_good(history: &History, chat: &str, words: &[&Op], outcome: &str, reason: &str, at_ms: u64) -> bool {
    let asked =
        |what: &str| words.iter().any(|op| op.op == what && op.result != Came::Fail && op.invoked_ms <= at_ms);
    match (outcome, reason) {
        ("completed", "asked") => asked("close"),
        ("completed" | "left", "visitor") => asked("leave"),
        ("abandoned", "deadline") => out_of_touch(history, chat, at_ms),
        _ => false,
    }
}

/// Whether the visitor had no stream for as long as the line must wait before it gives a chat up.
fn out_of_touch(history: &History, chat: &str, at_ms: u64) -> bool {
    let silence = history.world.away_after_ms + history.world.abandon_after_ms;
    let from = at_ms.saturating_sub(silence.saturating_sub(SLACK_MS));
    let mut open = false;
    for told in history.told.iter().filter(|told| told.chat == chat && told.at_ms <= at_ms) {
        match told.what.as_str() {
            "stream_open" => open = true,
            "stream_end" => open = false,
            _ => continue,
        }
        if open && told.at_ms >= from {
            return false;
        }
    }
    !open
}
