//! The rows: what says most of visitors first.

use super::{Key, Of, Part, Until};

const fn part(fields: &'static [&'static str], says: &'static str, of: Of, until: Until) -> Part {
    Part { fields, says, of, until }
}

/// Every kind of key.
pub const KEYS: &[Key] = &[
    Key { pattern: "hf:{HELPLINE}:chat:ID", of_type: "hash", parts: CHAT },
    Key {
        pattern: "hf:{HELPLINE}:request:DIGEST",
        of_type: "string",
        parts: &[part(
            &["value"],
            "which chat a request made; DIGEST is SHA-256 over helpline and request id",
            Of::Visitor,
            Until::ChatForgotten,
        )],
    },
    Key {
        pattern: "hf:{HELPLINE}:waiting",
        of_type: "zset",
        parts: &[part(&["member"], "the chats in line, by score", Of::Visitor, Until::OutOfLine)],
    },
    Key {
        pattern: "hf:{HELPLINE}:lane:LANE",
        of_type: "zset",
        parts: &[part(
            &["member"],
            "the chats in line that share LANE: weight, topics, and what they ask of a responder",
            Of::Both,
            Until::OutOfLine,
        )],
    },
    Key {
        pattern: "hf:{HELPLINE}:lanes",
        of_type: "zset",
        parts: &[part(
            &["member"],
            "lanes that are not empty, by the score of the first",
            Of::Both,
            Until::OutOfLine,
        )],
    },
    Key {
        pattern: "hf:{HELPLINE}:failing",
        of_type: "zset",
        parts: &[part(
            &["member"],
            "chats whose delivery fails again and again, by since when",
            Of::Visitor,
            Until::ChatEnded,
        )],
    },
    Key {
        pattern: "hf:{HELPLINE}:timers",
        of_type: "zset",
        parts: &[part(
            &["member"],
            "what waits for a moment: chats and responders by id, and what is due",
            Of::Both,
            Until::Due,
        )],
    },
    Key { pattern: "hf:{HELPLINE}:block:ID", of_type: "hash", parts: BLOCK },
    Key {
        pattern: "hf:{HELPLINE}:blocked",
        of_type: "hash",
        parts: &[part(
            &["WHOM"],
            "whose block is which: a keyed digest of what the integrator calls the visitor, or SHA-256 of a token",
            Of::Visitor,
            Until::BlockOver,
        )],
    },
    Key {
        pattern: "hf:{HELPLINE}:blocks",
        of_type: "zset",
        parts: &[part(&["member"], "the blocks and proposals of blocks, by name", Of::Visitor, Until::BlockOver)],
    },
    Key {
        pattern: "hf:{HELPLINE}:proposed",
        of_type: "zset",
        parts: &[part(&["member"], "those that nobody has confirmed", Of::Visitor, Until::BlockOver)],
    },
    Key { pattern: "hf:{HELPLINE}:events", of_type: "stream", parts: EVENTS },
    Key {
        pattern: "hf:{HELPLINE}:audit:name:ID",
        of_type: "string",
        parts: &[part(&["value"], "what the chat is called in the audit", Of::Visitor, Until::Erased)],
    },
    Key {
        pattern: "hf:{HELPLINE}:audit:entries",
        of_type: "stream",
        parts: &[
            part(
                &["e"],
                "who decided what, when and why, with the event's number; of a chat under the name that was drawn for it",
                Of::Both,
                Until::AuditTrimmed,
            ),
            part(&["s"], "a seal", Of::Nobody, Until::AuditTrimmed),
        ],
    },
    Key { pattern: "hf:{HELPLINE}:responder:ID", of_type: "hash", parts: RESPONDER },
    Key {
        pattern: "hf:{HELPLINE}:here",
        of_type: "set",
        parts: &[part(&["member"], "responders who are not offline", Of::Staff, Until::Gone)],
    },
    Key {
        pattern: "hf:{HELPLINE}:idle",
        of_type: "zset",
        parts: &[part(&["member"], "free responders, by how long they are rested", Of::Staff, Until::NotFree)],
    },
    Key {
        pattern: "hf:{HELPLINE}:class:CLASS",
        of_type: "zset",
        parts: &[part(
            &["member"],
            "free responders who are alike in CLASS: what they can, prefer not to, and have room for",
            Of::Staff,
            Until::NotFree,
        )],
    },
    Key {
        pattern: "hf:{HELPLINE}:classes",
        of_type: "zset",
        parts: &[part(&["member"], "classes that are not empty, by the first", Of::Staff, Until::NotFree)],
    },
    Key { pattern: "hf:{HELPLINE}:line", of_type: "hash", parts: LINE },
    Key {
        pattern: "hf:{HELPLINE}:policy",
        of_type: "string",
        parts: &[part(&["value"], "the policy in force, as TOML", Of::Helpline, Until::Removed)],
    },
    Key {
        pattern: "hf:{HELPLINE}:policies",
        of_type: "hash",
        parts: &[part(&["REVISION"], "the last policies, as TOML", Of::Helpline, Until::PoliciesTrimmed)],
    },
    Key {
        pattern: "hf:{HELPLINE}:audit:head",
        of_type: "hash",
        parts: &[part(
            &["number", "hash", "cursor", "first"],
            "where the audit stands: its last entry, the first that is kept, the last event that was read",
            Of::Nobody,
            Until::Removed,
        )],
    },
    Key {
        pattern: "hf:helplines",
        of_type: "set",
        parts: &[part(&["member"], "the helplines that ever had a policy", Of::Helpline, Until::Removed)],
    },
    Key {
        pattern: "hf:{#N}:canary",
        of_type: "string",
        parts: &[part(&["value"], "written to see whether writing works", Of::Nobody, Until::Minute)],
    },
];

const CHAT: &[Part] = &[
    part(&["handoff"], "what the integrator handed over for the responder, sealed", Of::Visitor, Until::ChatEnded),
    part(&["reply"], "what the responder answered for the visitor, sealed", Of::Both, Until::HandedOn),
    part(&["urgency"], "how urgent it was", Of::Visitor, Until::ChatForgotten),
    part(&["topics", "steps", "step"], "topics, and what was asked of a responder", Of::Visitor, Until::Erased),
    part(&["excluded"], "whom the visitor would not meet", Of::Both, Until::Erased),
    part(&["asked"], "to whom it was offered in vain, and when: the last 8", Of::Both, Until::Erased),
    part(&["offers"], "to whom it is offered", Of::Both, Until::Due),
    part(
        &["owner", "owner_offer", "epoch", "minted", "since", "engaged"],
        "who took it, under which fence, when, and when they first wrote",
        Of::Both,
        Until::ChatForgotten,
    ),
    part(
        &["state", "arrival", "seq", "returned", "away", "erased", "outcome", "ended_at"],
        "that somebody was there, when they came and went, and how it ended",
        Of::Visitor,
        Until::ChatForgotten,
    ),
    part(
        &["token", "key", "body"],
        "SHA-256 of the visitor's token, of helpline and request id, of the whole request",
        Of::Visitor,
        Until::ChatForgotten,
    ),
    part(
        &["subject"],
        "what the integrator calls the visitor, if it says so: 128 bits of an HMAC whose key is intake's",
        Of::Visitor,
        Until::Erased,
    ),
    part(
        &["trace"],
        "the integrator's `traceparent`, if it sent one: an integrator that keeps traces knows its visitor by it",
        Of::Visitor,
        Until::Erased,
    ),
    part(
        &["attested", "replays", "version", "offers_made", "assigned", "fan_out", "failed", "failing"],
        "how often it was asked for, offered, handed over; whether the integrator vouches that they are there",
        Of::Visitor,
        Until::ChatForgotten,
    ),
    part(
        &["lane", "score", "shown"],
        "its place in line, and the wait that was shown",
        Of::Visitor,
        Until::OutOfLine,
    ),
    part(
        &["partner", "proposals", "came_from"],
        "to which helplines it was proposed, and from which it came",
        Of::Visitor,
        Until::ChatForgotten,
    ),
    part(&["recovering", "reclaim"], "that it came back after a loss", Of::Visitor, Until::Due),
];

const BLOCK: &[Part] = &[
    part(
        &["whom"],
        "whom it is of: a keyed digest of what the integrator calls the visitor, or SHA-256 of a token",
        Of::Visitor,
        Until::BlockOver,
    ),
    part(&["chat"], "over which chat it was proposed", Of::Visitor, Until::Erased),
    part(
        &["by", "reason", "confirmed_by"],
        "which supervisor proposed it and why, and who confirmed it",
        Of::Both,
        Until::BlockOver,
    ),
    part(
        &["lasts", "open_till", "till"],
        "how long it is in force, until when it may be confirmed, and when it ends",
        Of::Visitor,
        Until::BlockOver,
    ),
];

const EVENTS: &[Part] = &[
    part(
        &["k", "c", "u", "x", "w", "o", "n"],
        "what happened, to which chat: requested, offered, accepted, ended; how urgent, which outcome, why",
        Of::Visitor,
        Until::EventsTrimmed,
    ),
    part(&["l"], "which block, and never of whom", Of::Visitor, Until::EventsTrimmed),
    part(&["r", "e", "m", "d"], "which responder, under which fence, until when", Of::Both, Until::EventsTrimmed),
    part(&["z", "b"], "their status; which supervisor it was", Of::Staff, Until::EventsTrimmed),
    part(&["h"], "which partner", Of::Helpline, Until::EventsTrimmed),
    part(&["s", "t", "a", "p"], "its number, the moment, the policy in force", Of::Helpline, Until::EventsTrimmed),
];

const RESPONDER: &[Part] = &[
    part(
        &["holdings"],
        "which chats are in their hands, how heavy, whether they call a supervisor",
        Of::Both,
        Until::HandedOn,
    ),
    part(
        &["caps", "scarce", "capacity", "opt_out", "class"],
        "what they can, how much, and which topics they prefer not to be asked for",
        Of::Staff,
        Until::ResponderForgotten,
    ),
    part(
        &["status", "session", "linked", "version", "left", "break_since", "shift_ending"],
        "whether they are there, and since when not",
        Of::Staff,
        Until::ResponderForgotten,
    ),
    part(
        &["cooling", "rested", "idle_rested", "hard_row", "hard_shift"],
        "how rested they are: the last chat's end, a toll for hard ones, how many of those",
        Of::Staff,
        Until::ResponderForgotten,
    ),
];

const LINE: &[Part] = &[
    part(
        &["accepted", "waiting", "offered", "active"],
        "how many chats were accepted since the line began, and where they are",
        Of::Helpline,
        Until::Removed,
    ),
    part(
        &["completed", "left", "abandoned", "overflowed", "fallback", "blocked"],
        "how many ended, by outcome",
        Of::Helpline,
        Until::Removed,
    ),
    part(
        &["hand_overs", "last_hand_over", "gap", "waits_shown", "waits_inside"],
        "how fast the line moves, and how often the waits that were shown held",
        Of::Helpline,
        Until::Removed,
    ),
    part(
        &["low0", "low1", "low2", "low3", "high0", "high1", "high2", "high3"],
        "how waits differ from what is expected, by urgency",
        Of::Helpline,
        Until::Removed,
    ),
    part(
        &["quota", "imminent"],
        "when as many new chats may come at once again as the policy lets in",
        Of::Helpline,
        Until::Removed,
    ),
    part(
        &["stage", "calm", "waves", "reroutes"],
        "surge, volunteers called up, reroutes in force",
        Of::Helpline,
        Until::Removed,
    ),
    part(
        &["now", "last", "term", "node", "generation", "recovering", "events", "arrivals", "ticker", "ticked"],
        "clock, term, counters, which replica ticks",
        Of::Nobody,
        Until::Removed,
    ),
    part(&["revision", "policy"], "the numbers of the policy in force", Of::Helpline, Until::Removed),
];
