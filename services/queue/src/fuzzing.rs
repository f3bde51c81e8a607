//! Every decoder of this service at a door of its own, for the fuzz tests: whatever the bytes are, nothing panics, and
//! what is understood reads back. Each tells whether the bytes meant anything.

use std::collections::BTreeMap;

use holdfast_domain::Policy;
use holdfast_proto::v1;
use prost::Message;

use crate::{
    convert::{self, Door},
    events,
};

/// A moment in 2027.
const WALL_MS: u64 = 1_800_000_000_000;

/// A command as intake and dispatch send it, made whole by a policy.
#[must_use]
pub fn command(bytes: &[u8], policy: &Policy) -> bool {
    let Ok(wire) = v1::Command::decode(bytes) else {
        return false;
    };
    let Ok(asked) = convert::asked(Some(wire), "") else {
        return false;
    };
    let _door = asked.door(policy, WALL_MS);
    asked.command(policy, Door::Open).is_ok()
}

/// A policy as it is sent to be put in force.
#[must_use]
pub fn put_policy(bytes: &[u8]) -> bool {
    v1::PutPolicyRequest::decode(bytes).is_ok_and(|request| convert::put_policy(&request).is_ok())
}

/// A cursor of an event stream; `None` when it is none, else what it is written as.
#[must_use]
pub fn cursor(text: &str) -> Option<String> {
    events::cursor("cursor", text).ok().map(|cursor| events::cursor_text(&cursor))
}

/// A traceparent header: what is kept of it.
#[must_use]
pub fn traceparent(text: &str) -> &str {
    convert::traceparent(text)
}

/// A stored record by its kind: `chat`, `responder` or `line`.
#[must_use]
pub fn record(kind: &str, fields: BTreeMap<String, Vec<u8>>) -> bool {
    crate::store::redis::reads_record(kind, fields)
}

/// What a node publishes.
#[must_use]
pub fn notice(payload: &str) -> bool {
    crate::store::redis::reads_notice(payload)
}
