//! The proof that nothing is kept for ever: what a store holds, by kind and age, and whatever has neither an expiry nor
//! an owner. An owner is a record or an index that is there itself and will remove it: the line for whoever waits, a
//! responder's presence for what is in their hands, a timer for all that has ended.
//!
//! Here are the rules, over what was read; `redis/census.rs` reads it, and not at one moment. So whoever finds something
//! looks again: what is in order the second time was on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A timer that is so late is never handled: somebody ticks every line about once a second.
const LATE_MS: u64 = 60_000;
/// Policies that are kept.
const POLICIES: u64 = 20;

/// A chat, as far as its life goes.
#[derive(Debug, Default, Clone)]
pub(super) struct ChatFacts {
    pub(super) state: String,
    pub(super) outcome: String,
    pub(super) arrival_ms: u64,
    pub(super) ended_ms: u64,
    pub(super) request: String,
    pub(super) lane: String,
    /// Numbers of its open offers.
    pub(super) offers: Vec<String>,
    pub(super) owner: String,
    pub(super) is_attested: bool,
    pub(super) is_erased: bool,
    pub(super) is_failing: bool,
    pub(super) has_handoff: bool,
    pub(super) has_reply: bool,
}

/// A responder, as far as theirs goes.
#[derive(Debug, Default, Clone)]
pub(super) struct ResponderFacts {
    pub(super) status: String,
    pub(super) left_ms: u64,
    /// Kind and chat.
    pub(super) holdings: Vec<(String, String)>,
    pub(super) class: String,
}

/// A block, as far as its life goes.
#[derive(Debug, Default, Clone)]
pub(super) struct BlockFacts {
    /// It is the block of whoever it says.
    pub(super) is_theirs: bool,
    pub(super) chat: String,
    pub(super) is_confirmed: bool,
}

/// What is kept of one helpline.
#[derive(Debug, Default, Clone)]
pub struct Kept {
    pub(super) now_ms: u64,
    pub(super) chats: BTreeMap<String, ChatFacts>,
    pub(super) responders: BTreeMap<String, ResponderFacts>,
    /// Digest to chat.
    pub(super) requests: BTreeMap<String, String>,
    pub(super) timers: BTreeMap<String, u64>,
    pub(super) here: BTreeSet<String>,
    pub(super) waiting: BTreeSet<String>,
    pub(super) idle: BTreeSet<String>,
    pub(super) lanes: BTreeMap<String, BTreeSet<String>>,
    pub(super) classes: BTreeMap<String, BTreeSet<String>>,
    pub(super) lane_heads: BTreeSet<String>,
    pub(super) class_heads: BTreeSet<String>,
    pub(super) failing: BTreeSet<String>,
    /// Blocks, by name.
    pub(super) block_facts: BTreeMap<String, BlockFacts>,
    pub(super) blocks: BTreeSet<String>,
    pub(super) proposed: BTreeSet<String>,
    /// How many are said to have a block.
    pub(super) blocked: u64,
    pub(super) policies: u64,
    pub(super) events: u64,
    /// When the oldest was told.
    pub(super) oldest_event_ms: u64,
    /// How long the policy in force keeps them.
    pub(super) keep_events_ms: u64,
}

/// Something that nothing will remove.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unowned {
    /// The key, or what is in it.
    pub what: String,
    /// What is missing.
    pub why: &'static str,
}

/// What a store holds.
#[derive(Debug, Default, Clone)]
pub struct Census {
    pub(super) helplines: BTreeMap<String, Kept>,
    /// Keys, by kind.
    pub(super) keys: BTreeMap<&'static str, u64>,
    /// What was seen while it was read: keys that are of no kind.
    pub(super) strange: BTreeSet<Unowned>,
}

impl Census {
    /// How many keys were looked at.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys.values().sum()
    }

    /// How many chats there are a record of.
    #[must_use]
    pub fn chats(&self) -> usize {
        self.helplines.values().map(|kept| kept.chats.len()).sum()
    }

    /// How many responders there are a record of.
    #[must_use]
    pub fn responders(&self) -> usize {
        self.helplines.values().map(|kept| kept.responders.len()).sum()
    }

    /// What has neither an expiry nor an owner.
    #[must_use]
    pub fn unowned(&self) -> BTreeSet<Unowned> {
        let mut found = self.strange.clone();
        for (helpline, kept) in &self.helplines {
            found.extend(
                kept.unowned().into_iter().map(|(what, why)| Unowned { what: format!("{helpline} {what}"), why }),
            );
        }
        found
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>9}  keys", self.keys())?;
        for (kind, count) in &self.keys {
            writeln!(f, "{count:>9}    {kind}")?;
        }
        for (helpline, kept) in &self.helplines {
            writeln!(f, "{helpline}:")?;
            for (what, count, oldest_ms) in kept.ages() {
                let oldest = oldest_ms.map_or_else(String::new, |ms| format!(", the oldest for {}", span(ms)));
                writeln!(f, "{count:>9}    {what}{oldest}")?;
            }
        }
        Ok(())
    }
}

/// Milliseconds in the unit that people would use.
fn span(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

impl Kept {
    /// What there is, how many, and for how long the oldest has been so.
    fn ages(&self) -> Vec<(&'static str, usize, Option<u64>)> {
        let age = |since: u64| self.now_ms.saturating_sub(since);
        let chats = |what, fits: &dyn Fn(&ChatFacts) -> bool, since: &dyn Fn(&ChatFacts) -> u64| {
            let ages: Vec<u64> = self.chats.values().filter(|c| fits(c)).map(|c| age(since(c))).collect();
            (what, ages.len(), ages.into_iter().max())
        };
        let left: Vec<u64> =
            self.responders.values().filter(|r| r.status == "offline").map(|r| age(r.left_ms)).collect();
        let content = self.chats.values().filter(|c| c.has_handoff || c.has_reply).map(|c| age(c.arrival_ms));
        vec![
            chats("chats in line", &|c| c.state == "waiting" || c.state == "offered", &|c| c.arrival_ms),
            chats("chats in somebody's hands", &|c| c.state == "active", &|c| c.arrival_ms),
            chats("chats kept for a partner", &|c| c.state == "held", &|c| c.arrival_ms),
            chats("chats that have ended", &|c| c.state == "ended", &|c| c.ended_ms),
            ("chats with sealed content", content.clone().count(), content.max()),
            ("responders on shift", self.responders.len() - left.len(), None),
            ("responders who left", left.len(), left.iter().copied().max()),
            ("blocks", self.block_facts.len(), None),
            ("timers", self.timers.len(), None),
            (
                "events",
                usize::try_from(self.events).unwrap_or(usize::MAX),
                (self.events > 0).then(|| age(self.oldest_event_ms)),
            ),
        ]
    }

    fn unowned(&self) -> Vec<(String, &'static str)> {
        let mut found = Vec::new();
        for (id, chat) in &self.chats {
            found.extend(self.chat(id, chat).map(|why| (format!("chat:{id}"), why)));
        }
        for (id, responder) in &self.responders {
            found.extend(self.responder(id, responder).map(|why| (format!("responder:{id}"), why)));
        }
        for (id, block) in &self.block_facts {
            found.extend(self.block(id, block).map(|why| (format!("block:{id}"), why)));
        }
        found.extend(self.blocks_told().map(|why| ("blocked".to_owned(), why)));
        for (digest, chat) in &self.requests {
            let is_its = self.chats.get(chat).is_some_and(|c| c.request == *digest);
            found.extend((!is_its).then(|| (format!("request:{digest}"), "the chat that it made is gone")));
        }
        for (name, at) in &self.timers {
            found.extend(self.timer(name, *at).map(|why| (format!("timer {name}"), why)));
        }
        found.extend(self.indexes());
        if self.policies > POLICIES {
            found.push(("policies".to_owned(), "more than are kept"));
        }
        let told_ms = self.now_ms.saturating_sub(self.oldest_event_ms);
        if self.events > 0 && told_ms > self.keep_events_ms + LATE_MS {
            found.push(("events".to_owned(), "the oldest is older than the policy keeps"));
        }
        found
    }

    fn is_set(&self, timer: &str) -> bool {
        self.timers.contains_key(timer)
    }

    fn chat(&self, id: &str, chat: &ChatFacts) -> Option<&'static str> {
        let set = |kind: &str| self.is_set(&format!("{kind}:{id}"));
        if self.requests.get(&chat.request).is_none_or(|made| made != id) {
            return Some("its request is gone, and would make another one");
        }
        if chat.is_erased && (chat.has_handoff || chat.has_reply) {
            return Some("was erased, and has content");
        }
        match chat.state.as_str() {
            "waiting" | "offered" => {
                if !chat.is_attested && !set("away") && !set("abandon") {
                    return Some("waits, and nobody would notice that its visitor is gone");
                }
                let offered = chat.offers.iter().any(|number| self.is_set(&format!("offer:{id}:{number}")));
                (chat.lane.is_empty() && !offered && !set("abandon"))
                    .then_some("waits, and stands nowhere in line")
            }
            "active" => {
                let owner = self.responders.get(&chat.owner);
                let holds = owner.is_some_and(|r| r.holdings.contains(&("active".to_owned(), id.to_owned())));
                (!holds).then_some("is in the hands of somebody who does not have it")
            }
            "held" => (!set("hold")).then_some("is kept for a partner whom nobody will ask"),
            "ended" if !set("forget") => Some("has ended, and nothing will forget it"),
            "ended" if chat.has_reply || chat.has_handoff && chat.outcome != "abandoned" => {
                Some("has ended, and has content")
            }
            "ended" => None,
            _ => Some("is in no state of ours"),
        }
    }

    fn responder(&self, id: &str, responder: &ResponderFacts) -> Option<&'static str> {
        let set = |kind: &str| self.is_set(&format!("{kind}:{id}"));
        if responder.status == "offline" {
            return (!set("gone")).then_some("left, and nothing will forget them");
        }
        if !set("presence") {
            return Some("is on shift, and nobody would notice that they are gone");
        }
        let stale = responder.holdings.iter().any(|(kind, chat)| match kind.as_str() {
            "wrap" => !self.is_set(&format!("wrap:{id}:{chat}")),
            _ => !self.chats.contains_key(chat),
        });
        stale.then_some("holds what nothing will take from them")
    }

    fn block(&self, id: &str, block: &BlockFacts) -> Option<&'static str> {
        if !self.is_set(&format!("block:{id}")) {
            return Some("nothing will end it");
        }
        if !block.chat.is_empty() && self.chats.get(&block.chat).is_none_or(|chat| chat.is_erased) {
            return Some("leads to a chat that is gone");
        }
        let listed = self.blocks.contains(id) && self.proposed.contains(id) != block.is_confirmed;
        (!listed || !block.is_theirs).then_some("is not listed as what it is")
    }

    fn blocks_told(&self) -> Option<&'static str> {
        let known = self.block_facts.len();
        let all = self.blocks.len() == known && usize::try_from(self.blocked) == Ok(known);
        let proposed = self.proposed.iter().all(|id| self.block_facts.contains_key(id));
        (!all || !proposed).then_some("names a block that is gone")
    }

    fn timer(&self, name: &str, at: u64) -> Option<&'static str> {
        let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
        let id = rest.split(':').next().unwrap_or_default();
        let is_there = match kind {
            "presence" | "wrap" | "cool" | "gone" | "shift" => self.responders.contains_key(id),
            "page" | "reroutes" | "recover" => id == "line",
            "block" => self.block_facts.contains_key(id),
            _ => self.chats.contains_key(id),
        };
        if !is_there {
            return Some("whom it is for is gone");
        }
        (at + LATE_MS < self.now_ms).then_some("is long due, and nobody handles it")
    }

    /// What indexes name must be there, and say the same.
    fn indexes(&self) -> Vec<(String, &'static str)> {
        let mut found = Vec::new();
        let of_member = |member: &String| member.split_once(':').map_or("", |(_, id)| id).to_owned();
        let lane_of = |member: &String| self.chats.get(&of_member(member)).map(|c| c.lane.as_str());
        for (lane, members) in &self.lanes {
            let strays = members.iter().filter(|member| lane_of(member) != Some(lane));
            found.extend(strays.map(|member| (format!("lane:{lane} {member}"), "no chat there says so")));
            if !self.lane_heads.contains(lane) {
                found.push((format!("lane:{lane}"), "is not among the lanes"));
            }
        }
        let strays = self.waiting.iter().filter(|member| lane_of(member).is_none_or(str::is_empty));
        found.extend(strays.map(|member| (format!("waiting {member}"), "no chat there says so")));
        let strays = self.lane_heads.iter().filter(|lane| !self.lanes.contains_key(*lane));
        found.extend(strays.map(|lane| (format!("lanes {lane}"), "is empty")));
        let class_of = |id: &String| self.responders.get(id).map(|r| r.class.as_str());
        for (class, members) in &self.classes {
            let strays = members.iter().filter(|id| class_of(id) != Some(class));
            found.extend(strays.map(|id| (format!("class:{class} {id}"), "no responder there says so")));
            if !self.class_heads.contains(class) {
                found.push((format!("class:{class}"), "is not among the classes"));
            }
        }
        let strays = self.idle.iter().filter(|id| class_of(id).is_none_or(str::is_empty));
        found.extend(strays.map(|id| (format!("idle {id}"), "no responder there says so")));
        let strays = self.class_heads.iter().filter(|class| !self.classes.contains_key(*class));
        found.extend(strays.map(|class| (format!("classes {class}"), "is empty")));
        let is_here = |id: &String| self.responders.get(id).is_some_and(|r| r.status != "offline");
        found.extend(self.here.iter().filter(|id| !is_here(id)).map(|id| (format!("here {id}"), "they are not")));
        let is_failing = |id: &String| self.chats.get(id).is_some_and(|c| c.is_failing);
        let strays = self.failing.iter().filter(|id| !is_failing(id));
        found.extend(strays.map(|id| (format!("failing {id}"), "no chat there says so")));
        found
    }
}
