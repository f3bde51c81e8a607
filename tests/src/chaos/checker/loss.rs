//! Every chat that was acknowledged has exactly one end, somebody or a rule gave it, and its visitor can read it.

use super::line::{Line, Stand};
use super::{Findings, History, Law};
use crate::chaos::history::{Came, Op};
use std::collections::{BTreeMap, HashMap};

/// A visitor may have been out of touch a little shorter than the line believes: the last sign of theirs may have been
/// lost on its way.
const SLACK_MS: u64 = 5_500;

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
    for (chat, _) in acknowledged {
        let words = words.get(chat).map_or(&[][..], Vec::as_slice);
        let Some(story) = line.chats.get(chat) else {
            findings.expect(Law::Loss, false, || format!("{chat}: acknowledged, and no event tells of it"));
            continue;
        };
        let seen = last.get(chat);
        let told = match &story.stand {
            Stand::Ended { outcome, reason } => Some((outcome.as_str(), reason.as_str())),
            Stand::InLine | Stand::Owned { .. } => None,
        };
        findings.expect(Law::Loss, told.is_some(), || {
            format!("{chat}: it has no end; by the events it is {:?} since {} ms", story.stand, story.last_ms)
        });
        let Some(seen) = seen else {
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
