//! Requests: the same one is the same chat, poison is refused, and nothing is broken inside.

use super::{Findings, History, Law};
use crate::chaos::history::Came;
use std::collections::HashMap;

/// Judges all requests.
pub(super) fn judge(history: &History, findings: &mut Findings) {
    let mut chats: HashMap<&str, (&str, u64)> = HashMap::new();
    let mut requests: HashMap<&str, &str> = HashMap::new();
    for op in history.ops.iter().filter(|op| op.op == "request" && op.result == Came::Ok) {
        let (chat, at_ms) = *chats.entry(&op.request).or_insert((&op.chat, op.returned_ms));
        // A store that was lost knows of no request.
        let forgotten = history.wiped_within(at_ms, op.returned_ms);
        findings.expect(Law::Idempotency, chat == op.chat || forgotten, || {
            format!("{} was answered with {chat} and with {}", op.request, op.chat)
        });
        let request = *requests.entry(&op.chat).or_insert(&op.request);
        findings.expect(Law::Idempotency, request == op.request, || {
            format!("{} is the chat of {request} and of {}", op.chat, op.request)
        });
    }
    for op in &history.ops {
        findings.expect(Law::Refusals, op.reason != "INTERNAL", || {
            format!("{} of {} at {} ms: something is broken inside", op.op, op.client, op.invoked_ms)
        });
        if op.op == "poison" {
            let refused = op.result == Came::Unknown || op.reason == "INVALID_FIELD";
            let good = op.result != Came::Ok && refused;
            findings.expect(Law::Refusals, good, || {
                format!("{} was answered {:?} {}", op.request, op.result, op.reason)
            });
        }
    }
}
