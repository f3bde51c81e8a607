//! Who is in these worlds, and the policy that they live under.

use holdfast_domain::command::{Command, Request};
use holdfast_domain::ids::DigestHex;
use holdfast_domain::policy::{Numbers, Policy};
use holdfast_domain::{ChatId, Line, ResponderId, Step, TokenHash, Urgency};

/// A moment in 2027: later than the beginning of terms.
pub(crate) const BEGIN_MS: u64 = 1_800_000_000_000;

/// The node on which a line begins, and the one to which it fails over.
pub(crate) const NODES: [u32; 2] = [0xa, 0xb];

/// Somebody is in danger, so one of the two chats is offered to both responders at once.
pub(crate) const URGENCIES: [Urgency; 2] = [Urgency::Imminent, Urgency::Moderate];

pub(crate) fn named<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().expect("a well formed name")
}

pub(crate) fn chat(which: usize) -> ChatId {
    named(["first", "second"][which])
}

pub(crate) fn which_chat(id: &ChatId) -> usize {
    usize::from(*id != chat(0))
}

pub(crate) fn responder(which: usize) -> ResponderId {
    named(["ana", "ben"][which])
}

pub(crate) fn which_responder(id: &ResponderId) -> usize {
    usize::from(*id != responder(0))
}

pub(crate) fn token(which: usize) -> TokenHash {
    TokenHash([u8::try_from(which).unwrap_or(u8::MAX); 32])
}

/// Durations of one and two seconds: a second is the step in which time passes here, so that what is due first and
/// what is due together both happen.
fn policy() -> Policy {
    Policy {
        helpline: "small".to_owned(),
        name: "Small".to_owned(),
        numbers: Numbers {
            weight: [1; 4],
            fan_out: 2,
            offer_deadline_ms: 1_000,
            back_off_ms: 2_000,
            min_back_off_ms: 1_000,
            presence_lease_ms: 2_000,
            reconnect_grace_ms: 1_000,
            wrap_up_ms: [0; 4],
            cool_down_ms: [0; 4],
            strain_percent: [0; 4],
            first_reply_ms: 0,
            ..Numbers::default()
        },
        ..Policy::default()
    }
}

/// A line with its policy, and nobody in it.
pub(crate) fn empty_line() -> Line {
    let mut line = Line::new(NODES[0]);
    let set = Command::SetPolicy { policy: Box::new(policy()), expected: 0, by: None };
    line.apply(BEGIN_MS, &set).reply.expect("a policy in force");
    line
}

pub(crate) fn request(which: usize) -> Command {
    let name = format!("{which}{which}");
    Command::Request(Box::new(Request {
        chat: chat(which),
        request_key: named(&name),
        body: named::<DigestHex>(&name),
        token: token(which),
        urgency: URGENCIES[which],
        steps: vec![Step::new(0, holdfast_domain::Requirement::anyone())],
        topics: Default::default(),
        excluded: Vec::new(),
        revision: 1,
        attested: true,
        resources_seen: false,
        solved_bits: 0,
        overflow_now: false,
        handoff: Vec::new(),
        trace: String::new(),
        subject: None,
        came_by: None,
    }))
}

pub(crate) fn sign_in(which: usize) -> Command {
    Command::SignIn {
        responder: responder(which),
        capabilities: Default::default(),
        scarce: 0,
        opt_out: Default::default(),
        shift_ms: 0,
        capacity: 1,
        ready: true,
        revision: 1,
    }
}
