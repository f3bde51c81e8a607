//! Fences, as responders got and used them.

use super::{Findings, History, Law};
use crate::chaos::history::{Came, Fence, Op};
use std::collections::HashMap;

/// Events are read within this.
const UNREAD_MS: u64 = 1_500;

/// A chat came into somebody's hands.
struct Tenure<'a> {
    fence: Fence,
    responder: &'a str,
    /// It was theirs at the latest when the first answer came.
    known_ms: u64,
    invoked_ms: u64,
}

/// Judges each chat by itself.
pub(super) fn judge(history: &History, findings: &mut Findings) {
    let mut by_chat: HashMap<&str, Vec<&Op>> = HashMap::new();
    for op in history.ops.iter().filter(|op| op.fence.is_some()) {
        by_chat.entry(&op.chat).or_default().push(op);
    }
    for (chat, ops) in by_chat {
        let tenures = tenures(&ops);
        rising(chat, &tenures, findings);
        effects(chat, &ops, &tenures, findings);
    }
    as_told(history, findings);
}

/// Accepts that succeeded, each fence once.
fn tenures<'a>(ops: &[&'a Op]) -> Vec<Tenure<'a>> {
    let mut tenures: Vec<Tenure> = Vec::new();
    for op in ops.iter().filter(|op| op.op == "accept" && op.result == Came::Ok) {
        let Some(fence) = op.fence else { continue };
        match tenures.iter_mut().find(|t| t.fence == fence && t.responder == op.client) {
            Some(known) => {
                known.known_ms = known.known_ms.min(op.returned_ms);
                known.invoked_ms = known.invoked_ms.min(op.invoked_ms);
            }
            None => tenures.push(Tenure {
                fence,
                responder: &op.client,
                known_ms: op.returned_ms,
                invoked_ms: op.invoked_ms,
            }),
        }
    }
    tenures
}

/// No two hands have the same fence, and who took the chat later has the higher one.
fn rising(chat: &str, tenures: &[Tenure], findings: &mut Findings) {
    for (at, one) in tenures.iter().enumerate() {
        for other in &tenures[at + 1..] {
            let differs = one.fence.epoch != other.fence.epoch;
            findings.expect(Law::Fences, differs, || {
                format!("{chat}: {} and {} have the same fence {:?}", one.responder, other.responder, one.fence)
            });
            let (first, later) = if one.known_ms < other.invoked_ms { (one, other) } else { (other, one) };
            let in_order = first.known_ms >= later.invoked_ms || first.fence < later.fence;
            findings.expect(Law::Fences, in_order, || {
                format!("{chat}: {:?} was given after {:?}", later.fence, first.fence)
            });
        }
    }
}

/// Nothing is done under a fence once a higher one is known to somebody, and a chat is closed once.
fn effects(chat: &str, ops: &[&Op], tenures: &[Tenure], findings: &mut Findings) {
    let effects = ops.iter().filter(|op| ["engage", "close", "transfer"].contains(&op.op.as_str()));
    let mut closed_under: Vec<Fence> = Vec::new();
    for op in effects {
        let Some(fence) = op.fence else { continue };
        let newer = tenures.iter().filter(|t| t.fence > fence).map(|t| t.known_ms).min();
        let stale = newer.is_some_and(|known| op.invoked_ms > known);
        if stale && op.result == Came::Fail {
            findings.stale_refused += 1;
        }
        findings.expect(Law::Fences, !(stale && op.result == Came::Ok), || {
            format!("{chat}: {} did {} under {fence:?} after a newer fence was given", op.client, op.op)
        });
        let given = tenures.iter().find(|t| t.fence == fence);
        let theirs = given.is_none_or(|tenure| tenure.responder == op.client);
        findings.expect(Law::Fences, theirs, || format!("{chat}: {} used a fence of others", op.client));
        if op.op == "close" && op.result == Came::Ok && !closed_under.contains(&fence) {
            closed_under.push(fence);
        }
    }
    let once = closed_under.len() <= 1;
    findings.expect(Law::Owners, once, || format!("{chat}: it was closed under {closed_under:?}"));
}

/// What responders got is what the line told of.
fn as_told(history: &History, findings: &mut Findings) {
    let mut told: HashMap<(&str, Fence), &str> = HashMap::new();
    let into_hands =
        |event: &&crate::chaos::history::Event| ["accepted", "reclaimed"].contains(&event.kind.as_str());
    for event in history.events.iter().filter(into_hands) {
        if let Some(fence) = event.fence {
            told.insert((&event.chat, fence), &event.responder);
        }
    }
    for op in history.ops.iter().filter(|op| op.op == "accept" && op.result == Came::Ok) {
        let Some(fence) = op.fence else { continue };
        let owner = told.get(&(op.chat.as_str(), fence)).copied();
        // What the store lost at once, nobody has read of.
        if owner.is_none() && history.wiped_within(op.invoked_ms, op.returned_ms + UNREAD_MS) {
            continue;
        }
        findings.expect(Law::Owners, owner == Some(op.client.as_str()), || {
            format!("{}: {} got {fence:?}, the events say it went to {owner:?}", op.chat, op.client)
        });
    }
}
