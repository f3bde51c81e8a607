//! What each class of faults did to people, as a table.

use super::liveness::first_whole_chat;
use super::{Findings, History, Law};
use crate::chaos::history::Came;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A class of faults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// How often it happened.
    pub fired: u64,
    /// How often it could not be made to happen, and why.
    pub missed: Vec<String>,
    /// Chats that were acknowledged while it lasted.
    pub acknowledged: u64,
    /// The longest time from its end until a chat that was asked for afterwards had gone all its way.
    pub recovered_ms: u64,
}

/// Adds the table, and holds the run to its classes.
pub(super) fn judge(history: &History, findings: &mut Findings) {
    let mut classes: BTreeMap<&str, Class> = BTreeMap::new();
    for name in &history.world.classes {
        classes.insert(name, Class { name: name.clone(), ..Class::default() });
    }
    for fault in &history.faults {
        let class =
            classes.entry(&fault.class).or_insert_with(|| Class { name: fault.class.clone(), ..Class::default() });
        if !fault.fired {
            class.missed.push(fault.note.clone());
            continue;
        }
        class.fired += 1;
        let within = fault.began_ms..=fault.healed_ms;
        let acknowledged = history.ops.iter().filter(|op| {
            op.op == "request" && op.result == Came::Ok && !op.replayed && within.contains(&op.returned_ms)
        });
        class.acknowledged += acknowledged.count() as u64;
        if let Some(at) = first_whole_chat(history, fault.healed_ms) {
            let took = at - fault.healed_ms;
            class.recovered_ms = class.recovered_ms.max(took);
        }
    }
    for name in &history.world.classes {
        let fired = classes.get(name.as_str()).is_some_and(|class| class.fired > 0);
        findings.expect(Law::Fired, fired, || format!("{name} has not happened"));
    }
    findings.classes = classes.into_values().collect();
}
