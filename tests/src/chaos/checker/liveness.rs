//! How long things took, beside how long they may take. A time counts only while nothing else was broken that is not
//! part of it; time in which the machine stood still is taken off.

use super::{Findings, History, Law};
use crate::chaos::history::{Came, Event, Fault, Op, Told};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// After something was mended the world is given so long before new times count.
const SETTLE_MS: u64 = 1_500;

/// Times of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// As in the table of bounds, L1 to L16.
    pub id: String,
    /// What is measured.
    pub what: String,
    /// No time may be longer.
    pub bound_ms: u64,
    /// So many were measured.
    pub count: u64,
    /// The longest.
    pub worst_ms: u64,
}

struct Row<'a> {
    history: &'a History,
    measured: Measured,
    breaks: Vec<String>,
}

/// Faults of people's own devices break nobody else.
pub(super) fn is_of_people(class: &str) -> bool {
    ["vanish", "hang", "ignore", "deaf"].contains(&class)
}

impl<'a> Row<'a> {
    fn new(history: &'a History, id: &str, what: &str, bound_ms: u64) -> Self {
        let (id, what) = (id.to_owned(), what.to_owned());
        Self { history, measured: Measured { id, what, bound_ms, ..Measured::default() }, breaks: Vec::new() }
    }

    /// A time from one moment to another; `None` for one that never came.
    fn take(&mut self, from_ms: u64, to_ms: Option<u64>, about: &str) {
        let bound = self.measured.bound_ms;
        let stalled = self.history.stalled(from_ms, to_ms.unwrap_or(from_ms + bound));
        let took = to_ms.map(|to| to.saturating_sub(from_ms).saturating_sub(stalled));
        self.measured.count += 1;
        self.measured.worst_ms = self.measured.worst_ms.max(took.unwrap_or(u64::MAX));
        if took.is_none_or(|took| took > bound) {
            self.breaks
                .push(format!("{} {about}: {took:?} ms from {from_ms} ms, at most {bound}", self.measured.id));
        }
    }

    fn done(self, findings: &mut Findings) {
        for _ in self.breaks.len() as u64..self.measured.count {
            findings.expect(Law::Liveness, true, String::new);
        }
        for broken in self.breaks {
            findings.expect(Law::Liveness, false, || broken);
        }
        findings.measured.push(self.measured);
    }
}

/// Measures everything.
pub(super) fn judge(history: &History, findings: &mut Findings) {
    let seen = Seen::of(history);
    seen.chats_of_the_lost(findings);
    seen.offers_that_nobody_answers(findings);
    seen.sessions(findings);
    seen.requests(findings);
    seen.resumes(findings);
    seen.losses(findings);
    seen.slow_readers(findings);
    seen.rolls(findings);
    findings.availability = seen.availability();
}

struct Seen<'a> {
    history: &'a History,
    by_chat: HashMap<&'a str, Vec<&'a Event>>,
    /// Acknowledged requests, by when they were sent first.
    requests: Vec<(u64, u64)>,
}

impl<'a> Seen<'a> {
    fn of(history: &'a History) -> Self {
        let mut by_chat: HashMap<&str, Vec<&Event>> = HashMap::new();
        for event in &history.events {
            by_chat.entry(&event.chat).or_default().push(event);
        }
        let mut first: HashMap<&str, u64> = HashMap::new();
        let mut acknowledged: HashMap<&str, u64> = HashMap::new();
        for op in history.ops.iter().filter(|op| op.op == "request") {
            first.entry(&op.request).or_insert(op.invoked_ms);
            if op.result == Came::Ok {
                acknowledged.entry(&op.request).or_insert(op.returned_ms);
            }
        }
        let mut requests: Vec<(u64, u64)> =
            acknowledged.iter().map(|(request, at)| (first[request], *at)).collect();
        requests.sort_unstable();
        Self { history, by_chat, requests }
    }

    fn faults(&self, classes: &'a [&str]) -> impl Iterator<Item = &'a Fault> {
        self.history.faults.iter().filter(move |fault| fault.fired && classes.contains(&fault.class.as_str()))
    }

    fn told(&self, what: &'a str) -> impl Iterator<Item = &'a Told> {
        self.history.told.iter().filter(move |told| told.what == what)
    }

    /// Nothing but people's devices was broken around a time.
    fn quiet(&self, from_ms: u64, to_ms: u64) -> bool {
        self.quiet_but(from_ms, to_ms, &[])
    }

    fn quiet_but(&self, from_ms: u64, to_ms: u64, but: &[&str]) -> bool {
        let counts = |fault: &Fault| !is_of_people(&fault.class) && !but.contains(&fault.class.as_str());
        !self.history.broken_within(from_ms.saturating_sub(SETTLE_MS), to_ms, counts)
    }

    /// The visitor of a chat went away before it was, or should have been, offered next: nobody is offered it until they are
    /// back.
    fn is_kept_back(&self, chat: &str, after_ms: u64, bound_ms: u64, offered_ms: Option<u64>) -> bool {
        let until_ms = offered_ms.map_or(after_ms + bound_ms, |at| at.min(after_ms + bound_ms));
        let mut events = self.by_chat.get(chat).into_iter().flatten();
        events.any(|event| event.kind == "away" && (after_ms..until_ms).contains(&event.at_ms))
    }

    /// When a chat was offered next, or needed no offer any more.
    fn next_offer(&self, chat: &str, after_ms: u64, offer: u32) -> Option<u64> {
        let events = self.by_chat.get(chat)?;
        let is_next = |event: &&&Event| {
            event.at_ms >= after_ms && (event.kind == "offered" && event.offer > offer || event.kind == "ended")
        };
        events.iter().find(is_next).map(|event| event.at_ms)
    }

    /// L1, L2: the chat of a responder who is lost is offered again. L10: also while the clock jumps.
    fn chats_of_the_lost(&self, findings: &mut Findings) {
        let mut died = Row::new(self.history, "L1", "a responder dies: their chat is offered again", 11_000);
        let mut hung = Row::new(self.history, "L2", "a responder hangs: their chat is offered again", 16_000);
        let mut jumped = Row::new(self.history, "L10", "the same while the store's clock jumps an hour", 17_000);
        for (what, bound) in [("vanished", 11_000), ("hung", 16_000)] {
            for told in self.told(what) {
                let offered = self.next_offer(&told.chat, told.at_ms, 0);
                let quiet = self.quiet(told.at_ms, told.at_ms + bound);
                let only_jumps = self.quiet_but(told.at_ms, told.at_ms + bound, &["clock_jump"]);
                let row = match (quiet, only_jumps, what) {
                    (true, _, "vanished") => &mut died,
                    (true, _, _) => &mut hung,
                    (false, true, _) => &mut jumped,
                    (false, false, _) => continue,
                };
                if !self.is_kept_back(&told.chat, told.at_ms, row.measured.bound_ms, offered) {
                    row.take(told.at_ms, offered, &format!("{} {}", told.client, told.chat));
                }
            }
        }
        for row in [died, hung, jumped] {
            row.done(findings);
        }
    }

    /// L3: an offer that is ignored ends, and one that is declined goes on at once.
    fn offers_that_nobody_answers(&self, findings: &mut Findings) {
        let mut ignored =
            Row::new(self.history, "L3", "an offer is ignored: the chat is offered to another", 21_000);
        for told in self.told("ignored") {
            if self.quiet(told.at_ms, told.at_ms + 21_000) {
                let next = self.next_offer(&told.chat, told.at_ms, told.offer);
                if !self.is_kept_back(&told.chat, told.at_ms, ignored.measured.bound_ms, next) {
                    ignored.take(told.at_ms, next, &format!("{} {}", told.client, told.chat));
                }
            }
        }
        ignored.done(findings);
        let mut declined =
            Row::new(self.history, "L3", "an offer is declined: the chat is offered to another", 1_000);
        for event in self.history.events.iter().filter(|event| event.kind == "declined") {
            if self.quiet(event.at_ms, event.at_ms + 1_000) {
                declined.take(event.at_ms, self.next_offer(&event.chat, event.at_ms, event.offer), &event.chat);
            }
        }
        declined.done(findings);
    }

    /// L4, L15: responders are signed in elsewhere, and keep what they have.
    fn sessions(&self, findings: &mut Findings) {
        let mut killed = Row::new(self.history, "L4", "a dispatch is killed: its responders are signed in", 5_000);
        let mut herd = Row::new(self.history, "L15", "everybody reconnects at once: all are signed in", 15_000);
        for fault in self.faults(&["kill_dispatch", "herd"]) {
            let is_herd = fault.class == "herd";
            let ends = self.told("stream_end").filter(|told| {
                (fault.began_ms..fault.began_ms + 2_000).contains(&told.at_ms)
                    && told.client.starts_with("responder")
                    && (is_herd || told.door == fault.target)
            });
            for end in ends {
                let again =
                    self.told("signed_in").find(|told| told.client == end.client && told.at_ms >= end.at_ms);
                let row = if is_herd { &mut herd } else { &mut killed };
                if self.disturbed(fault, fault.began_ms, again.map(|told| told.at_ms), row.measured.bound_ms) {
                    continue;
                }
                row.take(fault.began_ms, again.map(|told| told.at_ms), &end.client);
                if let Some(again) =
                    again.filter(|again| again.at_ms < fault.began_ms + self.history.world.grace_ms)
                {
                    let taken = self.history.events.iter().any(|event| {
                        event.kind == "returned"
                            && event.responder == end.client
                            && event.reason == "responder_lost"
                            && (fault.began_ms..again.at_ms).contains(&event.at_ms)
                    });
                    findings.expect(Law::Liveness, !taken, || {
                        format!("L4 {}: a chat was taken from them though they came back in time", end.client)
                    });
                }
            }
        }
        killed.done(findings);
        herd.done(findings);
    }

    /// Whether something else was broken from shortly before a fault until what is waited for came, or should have.
    fn disturbed(&self, fault: &Fault, from_ms: u64, to_ms: Option<u64>, bound_ms: u64) -> bool {
        let until = to_ms.map_or(from_ms + bound_ms, |to| to.min(from_ms + bound_ms));
        let other =
            |f: &Fault| !is_of_people(&f.class) && (&f.class, f.began_ms) != (&fault.class, fault.began_ms);
        self.history.broken_within(fault.began_ms.saturating_sub(SETTLE_MS), until, other)
    }

    /// L5: a queue replica is killed under requests.
    fn requests(&self, findings: &mut Findings) {
        let mut killed = Row::new(self.history, "L5", "a queue is killed: a request is acknowledged", 1_000);
        for fault in self.faults(&["kill_queue"]) {
            let first = self.first_request(fault.began_ms);
            if !self.disturbed(fault, fault.began_ms, first, 1_000) {
                killed.take(fault.began_ms, first, &fault.target);
            }
        }
        killed.done(findings);
    }

    /// L7, L9, L11, L12: once it is mended, a chat that is asked for afterwards is acknowledged, or goes all its way.
    fn resumes(&self, findings: &mut Findings) {
        let rows: [(&'static str, &'static str, &'static [&str], u64, bool); 7] = [
            ("L7", "the store is killed and started: a request is acknowledged", &["kill_redis"], 10_000, false),
            (
                "L9",
                "a link is mended: a new chat goes all its way",
                &["cut", "one_way", "delay", "reset", "packets_dropped", "packets_lost"],
                10_000,
                true,
            ),
            (
                "L9",
                "a process goes on: a new chat goes all its way",
                &["stop_queue", "stop_intake", "stop_dispatch", "stop_redis"],
                10_000,
                true,
            ),
            ("L11", "the disk has room again: a request is acknowledged", &["disk_full"], 10_000, false),
            ("L12", "memory has room again: a request is acknowledged", &["memory_full"], 10_000, false),
            ("L6", "the primary is killed: a request is acknowledged", &["kill_primary"], 6_000, false),
            // Nobody is told that it is gone: whoever has asked it waits until their patience ends.
            (
                "L9",
                "the primary is frozen or cut off: a request is acknowledged",
                &["freeze_primary", "isolate_primary"],
                10_000,
                false,
            ),
        ];
        for (id, what, classes, bound, whole) in rows {
            let mut row = Row::new(self.history, id, what, bound);
            for fault in self.faults(classes) {
                // A new primary is there without anybody mending the old one.
                let from = if fault.class.ends_with("_primary") { fault.began_ms } else { fault.healed_ms };
                let to = if whole { first_whole_chat(self.history, from) } else { self.first_request(from) };
                if !self.disturbed(fault, from, to, bound) {
                    row.take(from, to, &format!("{} {}", fault.class, fault.target));
                }
            }
            row.done(findings);
        }
    }

    fn first_request(&self, from_ms: u64) -> Option<u64> {
        self.requests.iter().filter(|(sent, _)| *sent >= from_ms).map(|(_, at)| *at).min()
    }

    /// L8: whoever is in touch when the store loses everything is back at their place, or in the hands they were in.
    fn losses(&self, findings: &mut Findings) {
        let mut lost = Row::new(self.history, "L8", "the store loses everything: a chat is back", 15_000);
        for fault in self.faults(&["wipe"]) {
            for (chat, events) in &self.by_chat {
                let before = events.iter().rfind(|event| event.at_ms < fault.began_ms);
                let was_open = before.is_some_and(|event| !["ended", "wrapped_up"].contains(&event.kind.as_str()));
                let back = events.iter().find(|event| {
                    event.at_ms >= fault.began_ms && ["restored", "reclaimed"].contains(&event.kind.as_str())
                });
                if let Some(back) = back.filter(|_| was_open) {
                    lost.take(fault.began_ms, Some(back.at_ms), chat);
                }
            }
        }
        lost.done(findings);
    }

    /// L13: whoever reads nothing loses the session, and what was offered goes on.
    fn slow_readers(&self, findings: &mut Findings) {
        let mut deaf = Row::new(self.history, "L13", "a responder reads nothing: the session ends", 20_000);
        for told in self.told("deaf").filter(|told| self.quiet(told.at_ms, told.at_ms + 20_000)) {
            let unlinked = self.history.events.iter().find(|event| {
                event.at_ms >= told.at_ms
                    && event.responder == told.client
                    && ["unlinked", "signed_out"].contains(&event.kind.as_str())
            });
            deaf.take(told.at_ms, unlinked.map(|event| event.at_ms), &told.client);
        }
        deaf.done(findings);
    }

    /// L14: while replicas are replaced in order, one repeat is enough for everybody.
    fn rolls(&self, findings: &mut Findings) {
        let mut row =
            Row::new(self.history, "L14", "replicas are replaced in order: repeats that a request needs", 1);
        for fault in self.faults(&["roll_queue", "roll_intake", "roll_dispatch", "roll_back"]) {
            if self.disturbed(fault, fault.healed_ms, None, 0) {
                continue;
            }
            let mut tries: HashMap<&str, u64> = HashMap::new();
            let within =
                |op: &&Op| op.op == "request" && (fault.began_ms..fault.healed_ms).contains(&op.invoked_ms);
            for op in self.history.ops.iter().filter(within).filter(|op| op.result != Came::Ok) {
                *tries.entry(&op.request).or_default() += 1;
            }
            let most = tries.values().copied().max().unwrap_or(0);
            row.take(0, Some(most), &fault.target);
        }
        row.done(findings);
    }

    /// Of the requests sent while nothing was broken, the share that needed one repeat at most.
    fn availability(&self) -> f64 {
        let mut tries: HashMap<&str, (u64, u64)> = HashMap::new();
        for op in self.history.ops.iter().filter(|op| op.op == "request") {
            let (first, failed) = tries.entry(&op.request).or_insert((op.invoked_ms, 0));
            *first = op.invoked_ms.min(*first);
            *failed += u64::from(op.result != Came::Ok);
        }
        let calm =
            |first: u64| !self.history.broken_within(first.saturating_sub(SETTLE_MS), first + 5_000, |_| true);
        let judged: Vec<u64> =
            tries.values().filter(|(first, _)| calm(*first)).map(|(_, failed)| *failed).collect();
        if judged.is_empty() {
            return 1.0;
        }
        judged.iter().filter(|failed| **failed <= 1).count() as f64 / judged.len() as f64
    }
}

/// When the first chat that was asked for after a moment was closed by its responder.
pub(super) fn first_whole_chat(history: &History, from_ms: u64) -> Option<u64> {
    let asked = |op: &&Op| op.op == "request" && op.result == Came::Ok && op.invoked_ms >= from_ms && !op.replayed;
    let asked: std::collections::HashSet<&str> =
        history.ops.iter().filter(asked).map(|op| op.chat.as_str()).collect();
    let closed = |op: &&Op| op.op == "close" && op.result == Came::Ok && op.invoked_ms >= from_ms;
    let closed = history.ops.iter().filter(closed).filter(|op| asked.contains(op.chat.as_str()));
    closed.map(|op| op.returned_ms).min()
}
