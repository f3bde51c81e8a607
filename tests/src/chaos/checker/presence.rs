//! Responders who are there: they are not taken for lost, and they hear of what is offered to them.

use super::{Findings, History, Law};
use crate::chaos::history::{Came, Event, Fault};
use std::collections::HashMap;

/// An event is read within this, on a busy machine.
const LAG_MS: u64 = 1_500;
/// A lost notice is made good by the next heartbeat, which comes after three seconds, and the look that follows.
const TOLD_WITHIN_MS: u64 = 6_000;

/// Judges every responder.
pub(super) fn judge(history: &History, findings: &mut Findings) {
    signed_out(history, findings);
    told_of_offers(history, findings);
}

/// Whoever had a sign of life acknowledged a moment ago is not lost.
fn signed_out(history: &History, findings: &mut Findings) {
    let mut beats: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
    let mut sign_ins: HashMap<&str, Vec<u64>> = HashMap::new();
    for op in history.ops.iter().filter(|op| op.result == Came::Ok) {
        match op.op.as_str() {
            "heartbeat" => beats.entry(&op.client).or_default().push((op.invoked_ms, op.returned_ms)),
            "sign_in" => sign_ins.entry(&op.client).or_default().push(op.invoked_ms),
            _ => {}
        }
    }
    let lost = |event: &&Event| event.kind == "signed_out" && event.reason == "responder_lost";
    for event in history.events.iter().filter(lost) {
        let responder = event.responder.as_str();
        // Lost means silent for the whole grace at least, and the line heard the last word after it was sent.
        let silence = history.world.grace_ms.min(history.world.lease_ms).saturating_sub(500);
        let since = event.at_ms.saturating_sub(silence);
        let came_again = sign_ins.get(responder).is_some_and(|at| at.iter().any(|at| *at >= since));
        let is_there = |(sent, heard): &(u64, u64)| *sent > since && heard + LAG_MS < event.at_ms;
        let alive = !came_again && beats.get(responder).is_some_and(|beats| beats.iter().any(is_there));
        findings.expect(Law::Presence, !alive, || {
            format!("event {}: {responder} was taken for lost and had just been heard", event.sequence)
        });
    }
}

/// Whoever is offered a chat hears of it in time, while nothing is broken.
fn told_of_offers(history: &History, findings: &mut Findings) {
    let mut told: HashMap<(&str, &str, u32), u64> = HashMap::new();
    let mut breaks: HashMap<&str, Vec<(u64, &str)>> = HashMap::new();
    for word in &history.told {
        match word.what.as_str() {
            "offer" => drop(told.entry((&word.client, &word.chat, word.offer)).or_insert(word.at_ms)),
            "stream_end" | "vanished" | "hung" | "deaf" | "back" | "replaced" | "drain" | "signed_in" => {
                breaks.entry(&word.client).or_default().push((word.at_ms, &word.what));
            }
            _ => {}
        }
    }
    let mut gone: HashMap<(&str, u32), u64> = HashMap::new();
    let mut over: HashMap<&str, Vec<u64>> = HashMap::new();
    for event in &history.events {
        match event.kind.as_str() {
            "declined" | "missed" | "rescinded" | "accepted" => {
                gone.entry((&event.chat, event.offer)).or_insert(event.at_ms);
            }
            "ended" => over.entry(&event.chat).or_default().push(event.at_ms),
            _ => {}
        }
    }
    for event in history.events.iter().filter(|event| event.kind == "offered") {
        let (from, until) = (event.at_ms.saturating_sub(LAG_MS), event.at_ms + TOLD_WITHIN_MS);
        let withdrawn = gone.get(&(event.chat.as_str(), event.offer)).is_some_and(|at| *at <= until)
            || over.get(event.chat.as_str()).is_some_and(|all| all.iter().any(|at| (from..=until).contains(at)));
        let broke = breaks.get(event.responder.as_str()).map_or(&[][..], Vec::as_slice);
        let before = broke.iter().rfind(|(at, _)| *at < from).is_some_and(|(_, what)| *what == "signed_in");
        let connected = before && !broke.iter().any(|(at, _)| (from..=until).contains(at));
        let last = history.events.last().map_or(0, |last| last.at_ms);
        let machine = |fault: &Fault| !super::liveness::is_of_people(&fault.class);
        let quiet = !history.broken_within(from.saturating_sub(10_000), until, machine);
        let judged = !withdrawn && connected && quiet && last > until && history.stalled(from, until) == 0;
        if judged {
            let at = told.get(&(event.responder.as_str(), event.chat.as_str(), event.offer)).copied();
            findings.expect(Law::Notices, at.is_some_and(|at| at <= until), || {
                format!("event {}: {} did not hear of it ({at:?})", event.sequence, event.responder)
            });
        } else if told.contains_key(&(event.responder.as_str(), event.chat.as_str(), event.offer)) {
            findings.expect(Law::Notices, true, String::new);
        }
    }
}
