//! Judges a run by its history alone: what clients saw, what an onlooker read of the line's events, what the line counted.
//! It shares no code with the services, and knows of the line only what the contract says.
//!
//! - `line`: what the events tell, held to one owner, capacity, order, an unbroken stream and a clock that never leaps
//! - `owners`: fences, as responders got and used them
//! - `loss`: every chat that was acknowledged has one end, and a reason for it
//! - `requests`: the same request is the same chat; poison is refused; nothing is broken inside
//! - `presence`: nobody who is there is taken for lost; whoever is offered a chat hears of it
//! - `liveness`: how long things took, beside how long they may take
//! - `classes`: what each class of faults did to people

mod classes;
mod line;
mod liveness;
mod loss;
mod owners;
mod presence;
mod requests;
#[cfg(test)]
mod stories;

pub use classes::Class;
pub use liveness::Measured;

use super::history::{Event, Fault, Floor, Op, Record, Stall, Told, World};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Breaks that are kept in words, of each law.
const KEPT: usize = 20;

/// A history, sorted by kind.
#[derive(Debug, Default)]
pub struct History {
    /// What the world is like.
    pub world: World,
    /// What was asked.
    pub ops: Vec<Op>,
    /// What was told.
    pub told: Vec<Told>,
    /// What the line did.
    pub events: Vec<Event>,
    /// What was broken.
    pub faults: Vec<Fault>,
    /// What the line counted.
    pub floors: Vec<Floor>,
    /// When the machine stood still.
    pub stalls: Vec<Stall>,
    /// Events that were told and that the loss of a primary took back.
    pub taken_back: u64,
}

impl From<Vec<Record>> for History {
    fn from(records: Vec<Record>) -> Self {
        let mut history = Self::default();
        for record in records {
            match record {
                Record::World(world) => history.world = world,
                Record::Op(op) => history.ops.push(op),
                Record::Told(told) => history.told.push(told),
                Record::Event(event) => history.events.push(event),
                Record::Fault(fault) => history.faults.push(fault),
                Record::Floor(floor) => history.floors.push(floor),
                Record::Stall(stall) => history.stalls.push(stall),
            }
        }
        history.ops.sort_by_key(|op| op.invoked_ms);
        history.told.sort_by_key(|told| told.at_ms);
        history.faults.sort_by_key(|fault| fault.began_ms);
        history.take_back();
        history
    }
}

impl History {
    /// A replica that takes the place of a lost primary may not have its last changes. Nobody was given a word that
    /// relied on them, but an onlooker may have read of them: the stream goes on behind what the replica has, and whoever
    /// was ahead of it reads everything again. Every law is judged by what stands in the end, and by when it was read
    /// first.
    fn take_back(&mut self) {
        let lossy = ["kill_primary", "freeze_primary", "lonely_primary", "isolate_primary"];
        let lost_at =
            self.faults.iter().filter(|fault| lossy.contains(&fault.class.as_str())).map(|f| f.began_ms).min();
        let mut kept: Vec<Event> = Vec::with_capacity(self.events.len());
        for event in std::mem::take(&mut self.events) {
            if lost_at.is_some_and(|at| at <= event.at_ms) {
                let follows = |told: &Event| told.generation != event.generation || told.sequence < event.sequence;
                let before = kept.iter().rposition(follows).map_or(0, |at| at + 1);
                let again =
                    kept.get(before).is_some_and(|told| Event { at_ms: event.at_ms, ..told.clone() } == event);
                if again {
                    continue;
                }
                self.taken_back += (kept.len() - before) as u64;
                kept.truncate(before);
            }
            kept.push(event);
        }
        self.events = kept;
    }

    /// The last loss of the whole store that began before a moment.
    fn wipe_before(&self, at_ms: u64) -> Option<&Fault> {
        let mut wipes = self.faults.iter().filter(|fault| fault.class == "wipe" && fault.fired);
        wipes.rfind(|wipe| wipe.began_ms <= at_ms)
    }

    /// Whether the store was lost around a time: what was said there may be known to nobody.
    fn wiped_within(&self, from_ms: u64, to_ms: u64) -> bool {
        self.wipe_before(to_ms).is_some_and(|wipe| wipe.began_ms >= from_ms)
    }

    /// How long the machine stood still within a time.
    fn stalled(&self, from_ms: u64, to_ms: u64) -> u64 {
        let within = |stall: &Stall| stall.to_ms.min(to_ms).saturating_sub(stall.from_ms.max(from_ms));
        self.stalls.iter().map(within).sum()
    }

    /// Whether anything was broken within a time that `counts`.
    fn broken_within(&self, from_ms: u64, to_ms: u64, counts: impl Fn(&Fault) -> bool) -> bool {
        let overlaps = |fault: &&Fault| fault.began_ms <= to_ms && fault.healed_ms >= from_ms;
        self.faults.iter().filter(overlaps).any(counts)
    }
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Law {
    /// Every acknowledged chat has exactly one end, by a reason, and its visitor can read it.
    Loss,
    /// A chat is never in two pairs of hands.
    Owners,
    /// Fences of a chat rise, and a stale one changes nothing.
    Fences,
    /// Nobody carries more than they can.
    Capacity,
    /// The most urgent goes first, then who came first.
    Order,
    /// Accepted is waiting, offered, active and ended, and what the line counts is what its events tell.
    Ledger,
    /// The same request is the same chat.
    Idempotency,
    /// The stream of events has no gaps.
    Stream,
    /// The service clock never goes back and never leaps.
    Clock,
    /// Whoever is there is not taken for lost.
    Presence,
    /// Whoever is offered a chat hears of it.
    Notices,
    /// What no chat can be made of is refused by its field; nothing is broken inside.
    Refusals,
    /// Things take no longer than they may.
    Liveness,
    /// Every class of faults that was meant to be has really fired.
    Fired,
}

impl Law {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Loss,
        Self::Owners,
        Self::Fences,
        Self::Capacity,
        Self::Order,
        Self::Ledger,
        Self::Idempotency,
        Self::Stream,
        Self::Clock,
        Self::Presence,
        Self::Notices,
        Self::Refusals,
        Self::Liveness,
        Self::Fired,
    ];

    /// In a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Loss => "every acknowledged chat has one end, by a reason, and its visitor can read it",
            Self::Owners => "a chat is never in two pairs of hands",
            Self::Fences => "fences of a chat rise, and a stale one changes nothing",
            Self::Capacity => "nobody carries more than they can",
            Self::Order => "the most urgent goes first, then who came first",
            Self::Ledger => "accepted = waiting + offered + active + ended, as the events tell",
            Self::Idempotency => "the same request is the same chat",
            Self::Stream => "the stream of events has no gaps",
            Self::Clock => "the service clock never goes back and never leaps",
            Self::Presence => "whoever is there is not taken for lost",
            Self::Notices => "whoever is offered a chat hears of it",
            Self::Refusals => "poison is refused by its field, and nothing is broken inside",
            Self::Liveness => "things take no longer than they may",
            Self::Fired => "every class of faults that was meant to be has fired",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Findings {
    /// How often each law was looked at, and what broke it.
    pub laws: BTreeMap<Law, (u64, Vec<String>, u64)>,
    /// Times beside their bounds.
    pub measured: Vec<Measured>,
    /// What each class of faults did.
    pub classes: Vec<Class>,
    /// Chats that were acknowledged.
    pub acknowledged: u64,
    /// Stale words that were tried, and refused as they must be.
    pub stale_refused: u64,
    /// Events that were told and that the loss of a primary took back.
    pub taken_back: u64,
    /// Of the requests made while nothing was broken, the share that was acknowledged after one repeat at most.
    pub availability: f64,
}

impl Findings {
    /// Looks at a law once.
    fn expect(&mut self, law: Law, holds: bool, otherwise: impl FnOnce() -> String) {
        let (looked, kept, broken) = self.laws.entry(law).or_default();
        *looked += 1;
        if !holds {
            *broken += 1;
            if kept.len() < KEPT {
                kept.push(otherwise());
            }
        }
    }

    /// What several runs found together.
    pub fn and(mut self, other: Self) -> Self {
        for (law, (looked, kept, broken)) in other.laws {
            let own = self.laws.entry(law).or_default();
            *own = (own.0 + looked, [std::mem::take(&mut own.1), kept].concat(), own.2 + broken);
        }
        for row in other.measured {
            match self.measured.iter_mut().find(|own| (&own.id, &own.what) == (&row.id, &row.what)) {
                Some(own) => {
                    own.count += row.count;
                    own.worst_ms = own.worst_ms.max(row.worst_ms);
                }
                None => self.measured.push(row),
            }
        }
        for class in other.classes {
            match self.classes.iter_mut().find(|own| own.name == class.name) {
                Some(own) => {
                    own.fired += class.fired;
                    own.missed.extend(class.missed);
                    own.acknowledged += class.acknowledged;
                    own.recovered_ms = own.recovered_ms.max(class.recovered_ms);
                }
                None => self.classes.push(class),
            }
        }
        self.acknowledged += other.acknowledged;
        self.stale_refused += other.stale_refused;
        self.taken_back += other.taken_back;
        self.availability = self.availability.min(other.availability);
        self
    }

    /// Faults that happened.
    pub fn fired(&self) -> u64 {
        self.classes.iter().map(|class| class.fired).sum()
    }

    /// So often was a law broken.
    pub fn broken(&self, law: Law) -> u64 {
        self.laws.get(&law).map_or(0, |(_, _, broken)| *broken)
    }

    /// The laws that were broken.
    pub fn broken_laws(&self) -> Vec<Law> {
        Law::ALL.into_iter().filter(|law| self.broken(*law) > 0).collect()
    }
}

/// Judges a history.
pub fn judge(history: &History) -> Findings {
    let mut findings = Findings { taken_back: history.taken_back, ..Findings::default() };
    let line = line::read(history, &mut findings);
    owners::judge(history, &mut findings);
    loss::judge(history, &line, &mut findings);
    requests::judge(history, &mut findings);
    presence::judge(history, &mut findings);
    liveness::judge(history, &mut findings);
    classes::judge(history, &mut findings);
    findings
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checker_knows_nothing_of_the_services() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/chaos");
        let own = std::fs::read_dir(here.join("checker")).unwrap().map(|entry| entry.unwrap().path());
        for file in own.chain([here.join("history.rs"), here.join("checker.rs")]) {
            let text = std::fs::read_to_string(&file).unwrap();
            let crate_names = ["domain", "queue", "intake", "dispatch", "proto", "runtime", "link"];
            for name in crate_names {
                let used = format!("holdfast{}{name}", '_');
                assert!(!text.contains(&used), "{} uses {used}", file.display());
            }
        }
    }
}
