//! Everything that the Redis store keeps, key by key and field by field: what it says, of whom, and until when. The
//! contract tests compare this with what histories leave in a real Redis, in both directions, and SECURITY.md shows it
//! as the table of what can be handed over.
//!
//! `{…}` is the hash tag: all keys of a helpline live in one Cluster slot, and scripts derive every key from
//! [`line()`](super::keys::line).

use std::fmt::Write as _;

mod rows;

pub use rows::KEYS;

/// A kind of key.
#[derive(Debug)]
pub struct Key {
    /// The key, with words in capitals for what differs from one to the next.
    pub pattern: &'static str,
    /// What Redis calls its type.
    pub of_type: &'static str,
    /// What is in it. Between them they name every field once.
    pub parts: &'static [Part],
}

/// Fields of a key that are alike in what they say and how long they live.
#[derive(Debug)]
pub struct Part {
    /// Fields of a hash, words of an event, or what members and values are called where they have no names.
    pub fields: &'static [&'static str],
    /// What they say.
    pub says: &'static str,
    /// Of whom.
    pub of: Of,
    /// Until when they are there.
    pub until: Until,
}

/// Of whom something says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A visitor, under the chat's random id: whoever knows which chat was whose learns this.
    Visitor,
    /// A visitor and a responder.
    Both,
    /// A responder or supervisor, under the id that their organisation gave them.
    Staff,
    /// The helpline as a whole.
    Helpline,
    /// Nobody.
    Nobody,
}

impl Of {
    /// As the table says it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Visitor => "**visitor**",
            Self::Both => "**visitor**, staff",
            Self::Staff => "staff",
            Self::Helpline => "helpline",
            Self::Nobody => "nobody",
        }
    }
}

/// Until when something is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The record of the chat is removed: `retention_ms` of the policy after the chat has ended.
    ChatForgotten,
    /// The same, or sooner: `EraseChat` empties it.
    Erased,
    /// The chat ends, or is erased; an abandoned one keeps its handoff until it is forgotten.
    ChatEnded,
    /// The chat is not in anybody's hands any more.
    HandedOn,
    /// The chat leaves the order of the line.
    OutOfLine,
    /// The responder has been gone for `retention_ms`.
    ResponderForgotten,
    /// The responder is not free any more.
    NotFree,
    /// The responder goes.
    Gone,
    /// The moment comes, or does not matter any more.
    Due,
    /// Nobody confirmed it for a day, its time (at most 30 days) is over, or a supervisor lifts it.
    BlockOver,
    /// They are older than the policy keeps, or so many have followed as it keeps.
    EventsTrimmed,
    /// As old as the audit keeps, or more entries have followed than it keeps.
    AuditTrimmed,
    /// Twenty more policies were put in force.
    PoliciesTrimmed,
    /// The operator removes the helpline's keys.
    Removed,
    /// A minute has passed.
    Minute,
}

impl Until {
    /// As the table says it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::ChatForgotten => "`retention_ms` after the end",
            Self::Erased => "`retention_ms` after the end, or `EraseChat`",
            Self::ChatEnded => "the end of the chat or `EraseChat`; of an abandoned one, `retention_ms` later",
            Self::HandedOn => "it is in nobody's hands any more",
            Self::OutOfLine => "the chat leaves the line",
            Self::ResponderForgotten => "`retention_ms` after they left",
            Self::NotFree => "they are not free any more",
            Self::Gone => "they leave",
            Self::Due => "the moment comes, or does not matter any more",
            Self::BlockOver => "a day without a second supervisor, its end (at most 30 days), or it is lifted",
            Self::EventsTrimmed => "`keep_events_ms` later, or once `keep_events` more have happened",
            Self::AuditTrimmed => "`keep_days` of the audit, or `max_entries` more",
            Self::PoliciesTrimmed => "20 more policies were put in force",
            Self::Removed => "the operator removes the helpline's keys",
            Self::Minute => "a minute later",
        }
    }
}

/// Which kind of key this is, if it is one of ours.
#[must_use]
pub fn kind_of(key: &str) -> Option<&'static Key> {
    KEYS.iter().find(|kind| fits(kind.pattern, key))
}

/// Words in capitals stand for anything but nothing; the last one for all the rest.
fn fits(pattern: &str, key: &str) -> bool {
    let Some(at) = pattern.find(|c: char| c.is_ascii_uppercase()) else {
        return pattern == key;
    };
    let (before, rest) = pattern.split_at(at);
    let after = rest.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let Some(named) = key.strip_prefix(before).filter(|named| !named.is_empty()) else {
        return false;
    };
    if after.is_empty() {
        return true;
    }
    named.match_indices(&after[..1]).any(|(end, _)| end > 0 && fits(after, &named[end..]))
}

/// The table of what can be handed over, in Markdown: what says something of visitors first.
#[must_use]
pub fn table() -> String {
    let mut table =
        "| key | fields | what they say | of whom | until |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for key in KEYS {
        for part in key.parts {
            let (pattern, of, until) = (key.pattern, part.of.words(), part.until.words());
            let fields: Vec<String> = part.fields.iter().map(|field| format!("`{field}`")).collect();
            let _ = writeln!(table, "| `{pattern}` | {} | {} | {of} | {until} |", fields.join(" "), part.says);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_key_is_of_one_kind_and_others_are_of_none() {
        let line = super::super::keys::line(&"demo".parse().unwrap());
        assert_eq!(kind_of(&line).map(|kind| kind.pattern), Some("hf:{HELPLINE}:line"));
        let canary = super::super::keys::canary(|_| true);
        assert_eq!(kind_of(&canary).map(|kind| kind.pattern), Some("hf:{#N}:canary"));
        let chat = kind_of("hf:{demo}:chat:01a2-3").unwrap();
        assert_eq!(chat.pattern, "hf:{HELPLINE}:chat:ID");
        for stranger in ["hf:{demo}:chat:", "hf:{demo}:visitor:1", "hf:{}:line", "hf:{demo}:lines", "other"] {
            assert!(kind_of(stranger).is_none(), "{stranger}");
        }
    }

    #[test]
    fn no_field_stands_in_the_schema_twice() {
        let mut seen = BTreeSet::new();
        for (key, field) in
            KEYS.iter().flat_map(|k| k.parts.iter().flat_map(move |p| p.fields.iter().map(move |f| (k, f))))
        {
            assert!(seen.insert((key.pattern, field)), "{} {field}", key.pattern);
        }
    }

    #[test]
    fn security_md_shows_what_the_store_keeps() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../SECURITY.md");
        let text = std::fs::read_to_string(&file).unwrap();
        let (begin, end) = ("<!-- made from services/queue/src/store/schema -->\n", "<!-- /made -->");
        let (before, rest) = text.split_once(begin).expect("the place where the table begins");
        let (shown, after) = rest.split_once(end).expect("the place where it ends");
        if std::env::var_os("HOLDFAST_RENEW").is_some() {
            std::fs::write(&file, format!("{before}{begin}{}{end}{after}", table())).unwrap();
            return;
        }
        assert!(shown == table(), "SECURITY.md is behind: HOLDFAST_RENEW=1 cargo test -p holdfast-queue schema");
    }
}
