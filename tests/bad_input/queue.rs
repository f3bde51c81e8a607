//! What a replica, or whoever reached the internal port, sends wrongly: each command over Execute and over Attach.

use crate::row::{Row, Sent, Way, bad, bad_durations, bad_names, bent_papers, bytes_to, duration, tag, to};
use crate::world::{BLOCKED, CLOSED, FULL, Facts, HELPLINE, Hands, SPENT, SURGING};
use holdfast_domain::limits::{
    MAX_ALTERNATIVES, MAX_EXCLUDED, MAX_HANDOFF_BYTES, MAX_STEPS, MAX_TAGS, MAX_TICKET_BYTES,
};
use holdfast_domain::policy::{Severity, lint, lint::MAX_POLICY_BYTES};
use holdfast_proto::v1::{self, attach_request, command::Command as C, supervise_command::Act};
use std::fs;
use std::path::Path;
use tonic::Code;

const ATTACH: &str = "QueueService/Attach";
const EXECUTE: &str = "QueueService/Execute";
const WATCH_EVENTS: &str = "QueueService/WatchEvents";
const GET_CHAT: &str = "QueueService/GetChat";
const GET_PLACE: &str = "QueueService/GetPlace";
const GET_RESPONDER: &str = "QueueService/GetResponder";
const GET_FLOOR: &str = "QueueService/GetFloor";
const GET_POLICY: &str = "QueueService/GetPolicy";
const PUT_POLICY: &str = "QueueService/PutPolicy";
const EXPLAIN: &str = "QueueService/ExplainRouting";
const GET_KPIS: &str = "QueueService/GetKpis";
const LIST_BLOCKS: &str = "QueueService/ListBlocks";
const READ_AUDIT: &str = "QueueService/ReadAudit";

/// A policy with nothing wrong in it, for another helpline.
const NIGHTLINE: &str = include_str!("../../deploy/policies/nightline.toml");

type OfVisitor<'a> = Box<dyn Fn(Option<v1::HashedChatKey>) -> C + 'a>;
type OfOffer = fn(Option<v1::OfferKey>) -> C;
type OfAssignment = fn(Option<v1::AssignmentKey>) -> C;

pub fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = envelopes(facts);
    rows.extend(requests(facts));
    rows.extend(wishes());
    rows.extend(ladders());
    rows.extend(visitors(facts));
    rows.extend(tickets(facts));
    rows.extend(sealed_assignments(facts));
    rows.extend(sign_ins());
    rows.extend(sessions(facts));
    rows.extend(offers(facts));
    rows.extend(assignments(facts));
    rows.extend(cool_downs(facts));
    rows.extend(supervisors(facts));
    rows.extend(acts(facts));
    rows.extend(blocks(facts));
    rows.extend(reroutes());
    rows.extend(policies());
    rows.extend(reads(facts));
    rows.extend(helplines(facts));
    rows
}

/// A command over both RPCs that carry one.
fn both(command: v1::Command) -> Vec<Way> {
    let execute = to(EXECUTE, v1::ExecuteRequest { command: Some(command.clone()) });
    let attached = attached(v1::AttachRequest {
        message: Some(attach_request::Message::Command(command)),
        ..Default::default()
    });
    execute.into_iter().chain(attached).collect()
}

fn attached(request: v1::AttachRequest) -> [Way; 1] {
    [Way { rpc: ATTACH, sent: Sent::Attached(Box::new(request)) }]
}

fn command(command: C) -> Vec<Way> {
    both(v1::Command { helpline: HELPLINE.to_owned(), command: Some(command) })
}

fn envelopes(facts: &Facts) -> Vec<Row> {
    let hello = |role: i32, replica: &str| {
        let hello = attach_request::Message::Hello(v1::Hello { role, replica: replica.to_owned() });
        to(ATTACH, v1::AttachRequest { message: Some(hello), ..Default::default() })
    };
    let beat = C::Beat(v1::BeatCommand { key: Some(facts.waiting.hashed()) });
    let beat = v1::Command { helpline: HELPLINE.to_owned(), command: Some(beat) };
    let beat = v1::AttachRequest { message: Some(attach_request::Message::Command(beat)), ..Default::default() };
    let again = attach_request::Message::Hello(v1::Hello { role: 1, replica: "again".to_owned() });
    let again = v1::AttachRequest { message: Some(again), ..Default::default() };
    let hello_expected =
        |name: &str, ways: [Way; 1]| bad(name, ways).refused(Code::FailedPrecondition, "HELLO_EXPECTED");
    let mut rows = vec![
        hello_expected("a stream that begins with nothing", bytes_to(ATTACH, Vec::new())),
        hello_expected("a stream that begins with a command", to(ATTACH, beat.clone())),
        hello_expected("a second hello", attached(again)),
        bad("a hello without a role", hello(0, "r")).field("hello.role"),
        bad("a hello with an unknown role", hello(3, "r")).field("hello.role"),
        bad("a hello with a negative role", hello(-1, "r")).field("hello.role"),
        bad("an empty message of a replica", attached(v1::AttachRequest::default())).field("message"),
        bad("no command", bytes_to(EXECUTE, Vec::new())).field("command"),
        bad("an empty command", both(v1::Command::default())).field("helpline"),
        bad("a command for nothing", both(v1::Command { helpline: HELPLINE.to_owned(), command: None }))
            .field("command"),
        bad("a command without time", attached(v1::AttachRequest { timeout: duration(0, 0), ..beat.clone() }))
            .refused(Code::DeadlineExceeded, "NOT_BEGUN"),
    ];
    for (why, name) in bad_names(64) {
        rows.push(bad(format!("a hello with a name {why}"), hello(1, &name)).field("hello.replica"));
    }
    for (why, timeout) in bad_durations() {
        let ways = attached(v1::AttachRequest { timeout, ..beat.clone() });
        rows.push(bad(format!("a command with a timeout {why}"), ways).field("timeout"));
    }
    rows
}

fn request(change: impl FnOnce(&mut v1::RequestCommand)) -> Vec<Way> {
    request_at(HELPLINE, change)
}

fn request_at(helpline: &str, change: impl FnOnce(&mut v1::RequestCommand)) -> Vec<Way> {
    let mut request = v1::RequestCommand {
        chat_id: "never-accepted".to_owned(),
        request_key: vec![1; 32],
        body_digest: vec![2; 32],
        token_hash: vec![3; 32],
        presence: v1::VisitorPresence::Attested.into(),
        ..Default::default()
    };
    change(&mut request);
    both(v1::Command { helpline: helpline.to_owned(), command: Some(C::Request(request)) })
}

/// More than the helpline's quota lets in.
pub fn spent_quota() -> Row {
    bad("more than a quota lets in", request_at(SPENT, |_| {})).refused(Code::ResourceExhausted, "QUOTA_EXCEEDED")
}

fn requests(facts: &Facts) -> Vec<Row> {
    let mut rows = vec![
        bad("an empty request", command(C::Request(v1::RequestCommand::default()))).field("request.chat_id"),
        bad("the name of a chat that there is", request(|r| r.chat_id.clone_from(&facts.waiting.chat_id)))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT"),
        bad("an urgency above the highest", request(|r| r.urgency = 5)).field("request.urgency"),
        bad("a negative urgency", request(|r| r.urgency = -1)).field("request.urgency"),
        bad("an unknown presence", request(|r| r.presence = 3)).field("request.presence"),
        bad("a negative presence", request(|r| r.presence = -3)).field("request.presence"),
        bad("a handoff of one byte too many", request(|r| r.handoff = vec![0; MAX_HANDOFF_BYTES + 1]))
            .field("request.handoff"),
        bad("a request by the rules of a policy to come", request(|r| r.policy_revision = 2))
            .refused(Code::Aborted, "POLICY_CHANGED"),
        bad("a request by the rules of no policy", request(|r| r.policy_revision = (1 << 53) - 1))
            .refused(Code::Aborted, "POLICY_CHANGED"),
        bad("a subject that is no digest", request(|r| r.subject_digest = vec![1; 15]))
            .field("request.subject_digest"),
        bad("a token that is no digest", request(|r| r.came_by_token_hash = vec![1; 16]))
            .field("request.came_by_token_hash"),
        bad("a subject of a byte too many", request(|r| r.subject_digest = vec![1; 17]))
            .field("request.subject_digest"),
        bad(
            "an IMMINENT request of somebody who is blocked",
            request_at(FULL, |r| {
                r.subject_digest = BLOCKED.to_vec();
                r.urgency = v1::Urgency::Imminent.into();
            }),
        )
        .refused(Code::FailedPrecondition, "BLOCKED"),
        bad("a request at a closed helpline", request_at(CLOSED, |_| {}))
            .refused(Code::FailedPrecondition, "CLOSED"),
        bad("a LOW request in a surge", request_at(SURGING, |r| r.urgency = v1::Urgency::Low.into()))
            .refused(Code::ResourceExhausted, "RESOURCES_FIRST"),
        bad("no work in a surge", request_at(SURGING, |_| {})).refused(Code::FailedPrecondition, "CHALLENGE"),
        bad("too little work in a surge", request_at(SURGING, |r| r.solved_bits = 23))
            .refused(Code::FailedPrecondition, "CHALLENGE"),
    ];
    for bits in [25, u32::MAX] {
        let ways = request(|r| r.solved_bits = bits);
        rows.push(bad(format!("work of {bits} bits"), ways).field("request.solved_bits"));
    }
    for revision in [1 << 53, u64::MAX] {
        let ways = request(|r| r.policy_revision = revision);
        rows.push(bad(format!("a request under revision {revision}"), ways).field("request.policy_revision"));
    }
    for (why, name) in bad_names(40) {
        rows.push(bad(format!("a chat's name {why}"), request(|r| r.chat_id = name)).field("request.chat_id"));
    }
    for length in [0, 31, 33, 64, 5000] {
        let digest = || vec![7; length];
        rows.extend([
            bad(format!("a request key of {length} bytes"), request(|r| r.request_key = digest()))
                .field("request.request_key"),
            bad(format!("a body digest of {length} bytes"), request(|r| r.body_digest = digest()))
                .field("request.body_digest"),
            bad(format!("a token hash of {length} bytes"), request(|r| r.token_hash = digest()))
                .field("request.token_hash"),
        ]);
    }
    rows
}

/// Topics, preferences, and whom to meet or not.
fn wishes() -> Vec<Row> {
    let mut rows = Vec::new();
    type Set = fn(&mut v1::RequestCommand, Vec<v1::Tag>);
    let lists: [(&str, Set); 2] =
        [("request.topics", |r, tags| r.topics = tags), ("request.preferences", |r, tags| r.preferences = tags)];
    for (field, set) in lists {
        let of = |tags: Vec<v1::Tag>| request(|r| set(r, tags));
        rows.extend([
            bad(format!("{field}: too many"), of(vec![tag("lang:en", 1); MAX_TAGS + 1])).field(field),
            bad(format!("{field}: one without a name"), of(vec![tag("lang:en", 1), tag("", 1)]))
                .field(format!("{field}[1].name")),
            bad(format!("{field}: one with a long name"), of(vec![tag(&"x".repeat(41), 1)]))
                .field(format!("{field}[0].name")),
            bad(format!("{field}: a level above all"), of(vec![tag("skill:minors", 6)]))
                .field(format!("{field}[0].level")),
            bad(format!("{field}: the largest level"), of(vec![tag("lang:en", u32::MAX)]))
                .field(format!("{field}[0].level")),
        ]);
    }
    let topic = |name: &str, level| request(|r| r.topics = vec![tag("topic:grief", 1), tag(name, level)]);
    let excluded = |ids: Vec<String>| request(|r| r.excluded_responder_ids = ids);
    rows.extend([
        bad("an unknown topic", topic("topic:xx", 1)).field("request.topics[1].name"),
        bad("a topic above its level", topic("lang:en", 2)).field("request.topics[1].level"),
        bad("too many never to meet", excluded(vec!["ana".to_owned(); MAX_EXCLUDED + 1]))
            .field("request.excluded_responder_ids"),
    ]);
    for (why, name) in bad_names(64) {
        let ways = excluded(vec!["ana".to_owned(), name.clone()]);
        rows.push(bad(format!("somebody never to meet {why}"), ways).field("request.excluded_responder_ids[1]"));
        // Nobody is named by an empty name.
        if !name.is_empty() {
            let ways = request(|r| r.preferred_responder_id = name);
            rows.push(bad(format!("somebody to meet again {why}"), ways).field("request.preferred_responder_id"));
        }
    }
    rows
}

fn step(after: Option<prost_types::Duration>, tags: Vec<v1::Tag>) -> v1::RoutingStep {
    v1::RoutingStep { after, any_of: vec![v1::Alternative { all_of: tags }] }
}

fn ladders() -> Vec<Row> {
    let en = || vec![tag("lang:en", 1)];
    let ladder = |steps: Vec<v1::RoutingStep>| request(|r| r.routing_steps = steps);
    let rising = |steps: usize| -> Vec<v1::RoutingStep> {
        (0_i64..).take(steps).map(|seconds| step(duration(seconds, 0), en())).collect()
    };
    let of_tags = |tags| ladder(vec![step(None, tags)]);
    let alternatives = vec![v1::Alternative { all_of: en() }; MAX_ALTERNATIVES + 1];
    let of_alternatives = ladder(vec![v1::RoutingStep { after: None, any_of: alternatives }]);
    let all_of = "request.routing_steps[0].any_of[0].all_of";
    let mut rows = vec![
        bad("too many steps", ladder(rising(MAX_STEPS + 1))).field("request.routing_steps"),
        bad("no room for the step for anyone", ladder(rising(MAX_STEPS))).field("request.routing_steps"),
        bad("a first step after 0", ladder(vec![step(duration(1, 0), en())]))
            .field("request.routing_steps[0].after"),
        bad("equal steps", ladder(vec![step(None, en()), step(None, en())]))
            .field("request.routing_steps[1].after"),
        bad(
            "falling steps",
            ladder(vec![step(None, en()), step(duration(9, 0), en()), step(duration(8, 0), en())]),
        )
        .field("request.routing_steps[2].after"),
        bad("too many alternatives", of_alternatives).field("request.routing_steps[0].any_of"),
        bad("too many tags", of_tags(vec![tag("lang:en", 1); MAX_TAGS + 1])).field(all_of),
        bad("an unknown tag", of_tags(vec![tag("lang:xx", 1)])).field(format!("{all_of}[0].name")),
        bad("a tag without a name", of_tags(vec![tag("", 1)])).field(format!("{all_of}[0].name")),
        bad("a tag with a long name", of_tags(vec![tag(&"x".repeat(41), 1)])).field(format!("{all_of}[0].name")),
        bad("a level above the tag's", of_tags(vec![tag("lang:en", 2)])).field(format!("{all_of}[0].level")),
        bad("the largest level", of_tags(vec![tag("lang:en", u32::MAX)])).field(format!("{all_of}[0].level")),
    ];
    for (why, after) in bad_durations() {
        let ways = ladder(vec![step(None, en()), step(after, en())]);
        rows.push(bad(format!("a step after a duration {why}"), ways).field("request.routing_steps[1].after"));
    }
    rows
}

fn visitors(facts: &Facts) -> Vec<Row> {
    let ticket = &facts.waiting.ticket;
    let commands: [(&str, OfVisitor<'_>); 6] = [
        ("triage", Box::new(|key| C::Triage(v1::TriageCommand { key, urgency: 4, classifier: true }))),
        ("beat", Box::new(|key| C::Beat(v1::BeatCommand { key }))),
        ("leave", Box::new(|key| C::Leave(v1::LeaveCommand { key, fallback_accepted: true }))),
        ("resume", Box::new(|key| C::Resume(v1::ResumeCommand { key }))),
        ("erase", Box::new(|key| C::Erase(v1::EraseCommand { key }))),
        ("restore", Box::new(|key| C::Restore(v1::RestoreCommand { key, ticket: ticket.clone() }))),
    ];
    let good = facts.waiting.hashed();
    let triage =
        |urgency| command(C::Triage(v1::TriageCommand { key: Some(good.clone()), urgency, classifier: false }));
    let ended =
        command(C::Triage(v1::TriageCommand { key: Some(facts.left.hashed()), urgency: 4, classifier: true }));
    let mut rows = vec![
        bad("triage to an unknown urgency", triage(5)).field("triage.urgency"),
        bad("triage to a negative urgency", triage(-1)).field("triage.urgency"),
        bad("triage of a chat that ended", ended).refused(Code::FailedPrecondition, "CHAT_ENDED"),
    ];
    for (word, make) in commands {
        let of = |key: v1::HashedChatKey| command(make(Some(key)));
        let chat = |chat_id: &str| of(v1::HashedChatKey { chat_id: chat_id.to_owned(), ..good.clone() });
        let token = |token_hash: Vec<u8>| of(v1::HashedChatKey { token_hash, ..good.clone() });
        rows.extend([
            bad(format!("{word}: no key"), command(make(None))).field(format!("{word}.key")),
            bad(format!("{word}: an empty key"), of(v1::HashedChatKey::default()))
                .field(format!("{word}.key.chat_id")),
            bad(format!("{word}: an unknown chat"), chat("unknown")).refused(Code::NotFound, "UNKNOWN_CHAT"),
            bad(format!("{word}: a wrong token"), token(vec![0; 32])).refused(Code::NotFound, "UNKNOWN_CHAT"),
            bad(format!("{word}: the token of another chat"), token(facts.left.hashed().token_hash))
                .refused(Code::NotFound, "UNKNOWN_CHAT"),
        ]);
        for length in [0, 31, 33] {
            let name = format!("{word}: a token hash of {length} bytes");
            rows.push(bad(name, token(vec![0; length])).field(format!("{word}.key.token_hash")));
        }
        for (why, name) in bad_names(40) {
            rows.push(
                bad(format!("{word}: a chat's name {why}"), chat(&name)).field(format!("{word}.key.chat_id")),
            );
        }
    }
    rows
}

/// Whatever is wrong with a ticket, its chat is not known.
fn tickets(facts: &Facts) -> Vec<Row> {
    let (good, ticket) = (facts.waiting.hashed(), &facts.waiting.ticket);
    let at = |helpline: &str, key: v1::HashedChatKey, ticket: &[u8]| {
        let restore = C::Restore(v1::RestoreCommand { key: Some(key), ticket: ticket.to_vec() });
        both(v1::Command { helpline: helpline.to_owned(), command: Some(restore) })
    };
    let of = |ticket: &[u8]| at(HELPLINE, good.clone(), ticket);
    let unknown_chat = |name: String, ways: Vec<Way>| bad(name, ways).refused(Code::NotFound, "UNKNOWN_CHAT");
    let mut rows = vec![
        bad("no ticket", of(&[])).field("restore.ticket"),
        bad("a ticket of one byte too many", of(&vec![1; MAX_TICKET_BYTES + 1])).field("restore.ticket"),
        unknown_chat("the ticket of a chat that was left".to_owned(), of(&facts.left.ticket)),
        unknown_chat(
            "a ticket of a chat that was left".to_owned(),
            at(HELPLINE, facts.left.hashed(), &facts.left.ticket),
        ),
        unknown_chat("a ticket at another helpline".to_owned(), at(FULL, good.clone(), ticket)),
        unknown_chat("a sealed assignment as a ticket".to_owned(), of(&facts.ana.sealed)),
    ];
    rows.extend(
        bent_papers(ticket).into_iter().map(|(what, bent)| unknown_chat(format!("{what} as a ticket"), of(&bent))),
    );
    rows
}

/// Whatever is wrong with a sealed assignment, it counts no longer.
fn sealed_assignments(facts: &Facts) -> Vec<Row> {
    let (hands, others) = (&facts.ana, &facts.ben);
    let at = |helpline: &str, change: &dyn Fn(&mut v1::ReassertCommand)| {
        let mut reassert = v1::ReassertCommand {
            session: Some(key(hands)),
            chat_id: hands.active.clone(),
            sealed: hands.sealed.clone(),
        };
        change(&mut reassert);
        both(v1::Command { helpline: helpline.to_owned(), command: Some(C::Reassert(reassert)) })
    };
    let of = |change: &dyn Fn(&mut v1::ReassertCommand)| at(HELPLINE, change);
    let sealed = |sealed: &[u8]| of(&|r| r.sealed = sealed.to_vec());
    let session = |session: v1::SessionKey| of(&move |r| r.session = Some(session.clone()));
    let refused = |name: String, ways: Vec<Way>, why| bad(name, ways).refused(Code::FailedPrecondition, why);
    let stale = |name: &str, ways: Vec<Way>| refused(name.to_owned(), ways, "STALE_FENCE");
    let mut rows = vec![
        bad("no sealed assignment", sealed(&[])).field("reassert.sealed"),
        bad("a sealed assignment of one byte too many", sealed(&vec![1; MAX_TICKET_BYTES + 1]))
            .field("reassert.sealed"),
        bad("a sealed assignment of nobody", of(&|r| r.session = None)).field("reassert.session"),
        stale("the assignment of another", sealed(&others.sealed)),
        stale("the chat of another", {
            of(&|r| (r.chat_id, r.sealed) = (others.active.clone(), others.sealed.clone()))
        }),
        stale("an assignment by another", session(key(others))),
        stale("an assignment of another chat", of(&|r| r.chat_id.clone_from(&hands.offered))),
        stale("an assignment of an unknown chat", of(&|r| r.chat_id = "unknown".to_owned())),
        stale("an assignment of a chat in the line", of(&|r| r.chat_id.clone_from(&facts.waiting.chat_id))),
        stale("an assignment that is over", {
            of(&|r| (r.chat_id, r.sealed) = (hands.closed.clone(), hands.closed_sealed.clone()))
        }),
        stale("an assignment at another helpline", at(FULL, &|_| {})),
        stale("a ticket as an assignment", sealed(&facts.waiting.ticket)),
    ];
    for (why, by) in [("an older session", -1), ("a session to come", 1)] {
        let ways = session(v1::SessionKey { session: hands.session.wrapping_add_signed(by), ..key(hands) });
        rows.push(refused(format!("an assignment in {why}"), ways, "STALE_SESSION"));
    }
    for number in [0, 1 << 53, u64::MAX] {
        let ways = session(v1::SessionKey { session: number, ..key(hands) });
        rows.push(bad(format!("an assignment in session {number}"), ways).field("reassert.session.session"));
    }
    for (why, responder_id) in bad_names(64) {
        let ways = session(v1::SessionKey { responder_id, ..key(hands) });
        rows.push(bad(format!("an assignment of a name {why}"), ways).field("reassert.session.responder_id"));
    }
    for (why, name) in bad_names(40) {
        let ways = of(&|r| r.chat_id.clone_from(&name));
        rows.push(bad(format!("an assignment of a chat's name {why}"), ways).field("reassert.chat_id"));
    }
    for (what, bent) in bent_papers(&hands.sealed) {
        rows.push(stale(&format!("{what} as an assignment"), sealed(&bent)));
    }
    rows
}

fn sign_ins() -> Vec<Row> {
    let other = |change: &dyn Fn(&mut v1::SignInCommand)| {
        let mut sign_in = v1::SignInCommand {
            responder_id: "newcomer".to_owned(),
            capacity: 1,
            ready: true,
            ..Default::default()
        };
        change(&mut sign_in);
        command(C::SignIn(sign_in))
    };
    let tags = |tags: Vec<v1::Tag>| other(&move |s| s.capabilities.clone_from(&tags));
    let opt_out =
        |topics: &[&str]| other(&|s| s.opt_out_topics = topics.iter().map(|topic| (*topic).to_owned()).collect());
    let shift = |remaining| other(&move |s| s.shift_remaining = remaining);
    let first_tag = "sign_in.capabilities[0]";
    let topics = "sign_in.opt_out_topics";
    let mut rows = vec![
        bad("too many capabilities", tags(vec![tag("lang:en", 1); MAX_TAGS + 1])).field("sign_in.capabilities"),
        bad("an unknown capability", tags(vec![tag("lang:xx", 1)])).field(format!("{first_tag}.name")),
        bad("a capability without a name", tags(vec![tag("", 1)])).field(format!("{first_tag}.name")),
        bad("a capability above its level", tags(vec![tag("skill:minors", 4)]))
            .field(format!("{first_tag}.level")),
        bad("the largest level of a capability", tags(vec![tag("lang:en", u32::MAX)]))
            .field(format!("{first_tag}.level")),
        bad("too many topics", opt_out(&["topic:grief"; MAX_TAGS + 1])).field(topics),
        bad("an unknown topic to opt out of", opt_out(&["topic:grief", "topic:xx"])).field(format!("{topics}[1]")),
        bad("a topic without a name", opt_out(&[""])).field(format!("{topics}[0]")),
        bad("a shift longer than a day", shift(duration(24 * 3600 + 1, 0))).field("sign_in.shift_remaining"),
    ];
    for (why, remaining) in bad_durations() {
        rows.push(bad(format!("a shift {why}"), shift(remaining)).field("sign_in.shift_remaining"));
    }
    for capacity in [0, 21, u32::MAX] {
        let ways = other(&|s| s.capacity = capacity);
        rows.push(bad(format!("a capacity of {capacity}"), ways).field("sign_in.capacity"));
    }
    for (why, name) in bad_names(64) {
        let ways = other(&|s| s.responder_id.clone_from(&name));
        rows.push(bad(format!("a sign-in with a name {why}"), ways).field("sign_in.responder_id"));
    }
    rows
}

fn key(hands: &Hands) -> v1::SessionKey {
    v1::SessionKey { responder_id: hands.responder.to_owned(), session: hands.session }
}

/// All commands of a responder with the path of their session, each about what is in Ana's hands.
fn of_responder(hands: &Hands, session: Option<v1::SessionKey>) -> Vec<(&'static str, C)> {
    let chat_id = || hands.active.clone();
    let offer = || {
        let (chat_id, offer_number) = (hands.offered.clone(), hands.offer_number);
        Some(v1::OfferKey { session: session.clone(), chat_id, offer_number })
    };
    let assignment =
        || Some(v1::AssignmentKey { session: session.clone(), chat_id: chat_id(), fence: Some(hands.fence) });
    let session = || session.clone();
    let wrap_up = v1::FinishWrapUpCommand { session: session(), chat_id: hands.closed.clone() };
    vec![
        ("heartbeat.session", C::Heartbeat(v1::HeartbeatCommand { session: session() })),
        ("set_status.session", C::SetStatus(v1::SetStatusCommand { session: session(), status: 3 })),
        ("unlink.session", C::Unlink(v1::UnlinkCommand { session: session() })),
        ("sign_out.session", C::SignOut(v1::SignOutCommand { session: session() })),
        ("accept.offer.session", C::Accept(v1::AcceptCommand { offer: offer(), reply_handoff: Vec::new() })),
        ("decline.offer.session", C::Decline(v1::DeclineCommand { offer: offer(), reason: 0 })),
        ("engage.assignment.session", C::Engage(v1::EngageCommand { assignment: assignment() })),
        ("close.assignment.session", C::Close(v1::CloseCommand { assignment: assignment() })),
        ("transfer.assignment.session", C::Transfer(v1::TransferCommand { assignment: assignment() })),
        (
            "call_supervisor.assignment.session",
            C::CallSupervisor(v1::CallSupervisorCommand { assignment: assignment() }),
        ),
        ("finish_wrap_up.session", C::FinishWrapUp(wrap_up)),
        (
            "extend_cool_down.session",
            C::ExtendCoolDown(v1::ExtendCoolDownCommand { session: session(), r#for: duration(60, 0) }),
        ),
    ]
}

fn sessions(facts: &Facts) -> Vec<Row> {
    let hands = &facts.ana;
    let precondition =
        |name: String, ways: Vec<Way>, reason: &str| bad(name, ways).refused(Code::FailedPrecondition, reason);
    let mut rows = Vec::new();
    for (path, bare) in of_responder(hands, None) {
        rows.push(bad(format!("{path}: none"), command(bare)).field(path));
    }
    let mut with = |why: String, session: v1::SessionKey, row: &dyn Fn(String, Vec<Way>, &str) -> Row| {
        for (path, of_them) in of_responder(hands, Some(session.clone())) {
            rows.push(row(format!("{path}: {why}"), command(of_them), path));
        }
    };
    for number in [0, 1 << 53, u64::MAX] {
        let session = v1::SessionKey { session: number, ..key(hands) };
        with(format!("number {number}"), session, &|name, ways, path| {
            bad(name, ways).field(format!("{path}.session"))
        });
    }
    for (why, responder_id) in bad_names(64) {
        let session = v1::SessionKey { responder_id, ..key(hands) };
        let why = format!("a responder's name {why}");
        with(why, session, &|name, ways, path| bad(name, ways).field(format!("{path}.responder_id")));
    }
    for (why, by) in [("an older one", -1), ("one to come", 1)] {
        let session = v1::SessionKey { session: hands.session.wrapping_add_signed(by), ..key(hands) };
        with(why.to_owned(), session, &|name, ways, _| precondition(name, ways, "STALE_SESSION"));
    }
    let nobody = v1::SessionKey { responder_id: "nobody".to_owned(), ..key(hands) };
    with("of nobody".to_owned(), nobody, &|name, ways, _| precondition(name, ways, "NOT_SIGNED_IN"));

    let declare = |status| command(C::SetStatus(v1::SetStatusCommand { session: Some(key(hands)), status }));
    let field = "set_status.status";
    rows.extend([
        bad("no status", declare(0)).field(field),
        bad("an unknown status", declare(7)).field(field),
        bad("a negative status", declare(-2)).field(field),
    ]);
    for status in [1, 4, 5] {
        let row = bad(format!("the status {status}"), declare(status));
        rows.push(row.refused_at(Code::InvalidArgument, "STATUS_NOT_ALLOWED", field));
    }
    rows
}

fn offers(facts: &Facts) -> Vec<Row> {
    let hands = &facts.ana;
    let key = |chat: &str, offer_number| {
        Some(v1::OfferKey { session: Some(key(hands)), chat_id: chat.to_owned(), offer_number })
    };
    let long = vec![0; MAX_HANDOFF_BYTES + 1];
    let long =
        C::Accept(v1::AcceptCommand { offer: key(&hands.offered, hands.offer_number), reply_handoff: long });
    let reason = |reason| {
        command(C::Decline(v1::DeclineCommand { offer: key(&hands.offered, hands.offer_number), reason }))
    };
    let mut rows = vec![
        bad("a reply of one byte too many", command(long)).field("accept.reply_handoff"),
        bad("an unknown reason to decline", reason(4)).field("decline.reason"),
        bad("a negative reason to decline", reason(i32::MIN)).field("decline.reason"),
    ];
    let answers: [(&str, OfOffer); 2] = [
        ("accept", |offer| C::Accept(v1::AcceptCommand { offer, reply_handoff: Vec::new() })),
        ("decline", |offer| C::Decline(v1::DeclineCommand { offer, reason: 1 })),
    ];
    for (word, answer) in answers {
        let gone = [
            ("an offer to come", key(&hands.offered, hands.offer_number + 1)),
            ("the largest offer", key(&hands.offered, u32::MAX)),
            ("an unknown chat", key("unknown", 1)),
            ("a chat in the line", key(&facts.waiting.chat_id, 1)),
            ("a chat whose visitor left", key(&hands.gone, hands.gone_number)),
            ("an offer to somebody else", key(&facts.ben.offered, facts.ben.offer_number)),
        ];
        for (what, offer) in gone {
            let row = bad(format!("{word}: {what}"), command(answer(offer)));
            rows.push(row.refused(Code::FailedPrecondition, "OFFER_GONE"));
        }
        rows.extend([
            bad(format!("{word}: nothing"), command(answer(None))).field(format!("{word}.offer")),
            bad(format!("{word}: offer 0"), command(answer(key(&hands.offered, 0))))
                .field(format!("{word}.offer.offer_number")),
        ]);
        for (why, name) in bad_names(40) {
            let row = bad(format!("{word}: a chat's name {why}"), command(answer(key(&name, 1))));
            rows.push(row.field(format!("{word}.offer.chat_id")));
        }
    }
    rows
}

fn assignments(facts: &Facts) -> Vec<Row> {
    let hands = &facts.ana;
    let key_of =
        |chat: &str, fence| Some(v1::AssignmentKey { session: Some(key(hands)), chat_id: chat.to_owned(), fence });
    let epoch = |epoch| Some(v1::Fence { epoch, ..hands.fence });
    let effects: [(&str, OfAssignment); 4] = [
        ("engage", |assignment| C::Engage(v1::EngageCommand { assignment })),
        ("close", |assignment| C::Close(v1::CloseCommand { assignment })),
        ("transfer", |assignment| C::Transfer(v1::TransferCommand { assignment })),
        ("call_supervisor", |assignment| C::CallSupervisor(v1::CallSupervisorCommand { assignment })),
    ];
    let mut rows = Vec::new();
    for (word, effect) in effects {
        let other_node = Some(v1::Fence { minted_by: !hands.fence.minted_by, ..hands.fence });
        let stale = [
            ("an older fence", key_of(&hands.active, epoch(hands.fence.epoch.wrapping_sub(1)))),
            ("a fence to come", key_of(&hands.active, epoch(hands.fence.epoch + 1))),
            ("a fence of another node", key_of(&hands.active, other_node)),
            ("a chat that is only offered", key_of(&hands.offered, Some(hands.fence))),
            ("a chat in the line", key_of(&facts.waiting.chat_id, Some(hands.fence))),
            ("an unknown chat", key_of("unknown", Some(hands.fence))),
            ("the chat of another", key_of(&facts.ben.active, Some(facts.ben.fence))),
        ];
        for (what, assignment) in stale {
            let row = bad(format!("{word}: {what}"), command(effect(assignment)));
            rows.push(row.refused(Code::FailedPrecondition, "STALE_FENCE"));
        }
        rows.extend([
            bad(format!("{word}: nothing"), command(effect(None))).field(format!("{word}.assignment")),
            bad(format!("{word}: no fence"), command(effect(key_of(&hands.active, None))))
                .field(format!("{word}.assignment.fence")),
        ]);
        for number in [0, 1 << 53, u64::MAX] {
            let ways = command(effect(key_of(&hands.active, epoch(number))));
            rows.push(
                bad(format!("{word}: fence {number}"), ways).field(format!("{word}.assignment.fence.epoch")),
            );
        }
        for (why, name) in bad_names(40) {
            let row =
                bad(format!("{word}: a chat's name {why}"), command(effect(key_of(&name, Some(hands.fence)))));
            rows.push(row.field(format!("{word}.assignment.chat_id")));
        }
    }
    let finish = |chat: &str| {
        command(C::FinishWrapUp(v1::FinishWrapUpCommand { session: Some(key(hands)), chat_id: chat.to_owned() }))
    };
    for (what, chat) in [("a chat in hand", hands.active.as_str()), ("an unknown chat", "unknown")] {
        let row = bad(format!("the notes of {what}"), finish(chat));
        rows.push(row.refused(Code::FailedPrecondition, "NOT_WRAPPING_UP"));
    }
    for (why, name) in bad_names(40) {
        rows.push(bad(format!("the notes of a chat's name {why}"), finish(&name)).field("finish_wrap_up.chat_id"));
    }
    rows
}

fn cool_downs(facts: &Facts) -> Vec<Row> {
    let extend =
        |r#for| command(C::ExtendCoolDown(v1::ExtendCoolDownCommand { session: Some(key(&facts.ana)), r#for }));
    rest_rows("a cool-down", "extend_cool_down.for", extend)
}

/// Rests that nobody takes or is given.
fn rest_rows(what: &str, field: &str, ways: impl Fn(Option<prost_types::Duration>) -> Vec<Way>) -> Vec<Row> {
    let mut rests = vec![
        ("without an end", None),
        ("of no time", duration(0, 0)),
        ("of less than a millisecond", duration(0, 999_999)),
        ("longer than 4 hours", duration(4 * 3600, 1_000_000)),
    ];
    rests.extend(bad_durations());
    rests.into_iter().map(|(why, r#for)| bad(format!("{what} {why}"), ways(r#for)).field(field)).collect()
}

fn supervise(supervisor_id: &str, reason: i32, act: Option<Act>) -> Vec<Way> {
    command(C::Supervise(v1::SuperviseCommand { supervisor_id: supervisor_id.to_owned(), reason, act }))
}

/// An act of Sue, for a good reason.
fn act(act: Act) -> Vec<Way> {
    supervise("sue", v1::SupervisionReason::Quality.into(), Some(act))
}

fn supervisors(facts: &Facts) -> Vec<Row> {
    let pull = || Some(Act::Pull(v1::PullAct { chat_id: facts.ana.active.clone() }));
    let mut rows = vec![
        bad("an empty act", command(C::Supervise(v1::SuperviseCommand::default())))
            .field("supervise.supervisor_id"),
        bad("an act of nothing", supervise("sue", 1, None)).field("supervise.act"),
    ];
    for reason in [0, 7, -1, i32::MIN] {
        let ways = supervise("sue", reason, pull());
        rows.push(bad(format!("an act for the reason {reason}"), ways).field("supervise.reason"));
    }
    for (why, name) in bad_names(64) {
        let ways = supervise(&name, 1, pull());
        rows.push(bad(format!("an act of a supervisor's name {why}"), ways).field("supervise.supervisor_id"));
    }
    rows
}

/// Acts with the path of the chat or of the responder whom they are about.
type OfName<'a> = Vec<(&'static str, Box<dyn Fn(String) -> Act + 'a>)>;

fn of_chats<'a>(facts: &'a Facts) -> OfName<'a> {
    let ana = || facts.ana.responder.to_owned();
    vec![
        ("set_urgency", Box::new(|chat_id| Act::SetUrgency(v1::SetUrgencyAct { chat_id, urgency: 3 }))),
        (
            "assign",
            Box::new(move |chat_id| {
                Act::Assign(v1::AssignAct { chat_id, responder_id: ana(), break_glass: true })
            }),
        ),
        ("pull", Box::new(|chat_id| Act::Pull(v1::PullAct { chat_id }))),
        ("end", Box::new(|chat_id| Act::End(v1::EndAct { chat_id, outcome: 6 }))),
    ]
}

fn of_responders<'a>(facts: &'a Facts) -> OfName<'a> {
    let waiting = || facts.waiting.chat_id.clone();
    vec![
        (
            "assign",
            Box::new(move |responder_id| {
                Act::Assign(v1::AssignAct { chat_id: waiting(), responder_id, break_glass: true })
            }),
        ),
        ("end_break", Box::new(|responder_id| Act::EndBreak(v1::EndBreakAct { responder_id }))),
        ("rest", Box::new(|responder_id| Act::Rest(v1::RestAct { responder_id, r#for: duration(60, 0) }))),
        ("force_offline", Box::new(|responder_id| Act::ForceOffline(v1::ForceOfflineAct { responder_id }))),
    ]
}

fn acts(facts: &Facts) -> Vec<Row> {
    let ana = &facts.ana;
    let mut rows = Vec::new();
    for (word, of) in of_chats(facts) {
        let with = |chat: &str| act(of(chat.to_owned()));
        let ended = [("left", &facts.left.chat_id), ("erased", &facts.erased.chat_id), ("closed", &ana.closed)];
        for (what, chat) in ended {
            let row = bad(format!("{word}: a chat that was {what}"), with(chat));
            rows.push(row.refused(Code::FailedPrecondition, "CHAT_ENDED"));
        }
        rows.push(
            bad(format!("{word}: an unknown chat"), with("unknown")).refused(Code::NotFound, "UNKNOWN_CHAT"),
        );
        for (why, name) in bad_names(40) {
            let row = bad(format!("{word}: a chat's name {why}"), with(&name));
            rows.push(row.field(format!("supervise.{word}.chat_id")));
        }
    }
    for (word, of) in of_responders(facts) {
        let with = |responder: &str| act(of(responder.to_owned()));
        let row = bad(format!("{word}: somebody who is not here"), with("nobody"));
        rows.push(row.refused(Code::FailedPrecondition, "NOT_SIGNED_IN"));
        for (why, name) in bad_names(64) {
            let row = bad(format!("{word}: a responder's name {why}"), with(&name));
            rows.push(row.field(format!("supervise.{word}.responder_id")));
        }
    }
    let takes = |by: &str, chat: &str, session, reply_handoff| {
        let chat_id = chat.to_owned();
        supervise(by, 1, Some(Act::TakeOver(v1::TakeOverAct { chat_id, session, reply_handoff })))
    };
    let take = |by: &str, chat: &str, session| takes(by, chat, session, Vec::new());
    let long = takes(ana.responder, &facts.ben.active, ana.session, vec![0; MAX_HANDOFF_BYTES + 1]);
    let row = bad("take_over: a reply of one byte too many", long);
    rows.push(row.field("supervise.take_over.reply_handoff"));
    for session in [0, 1 << 53, u64::MAX] {
        let ways = take(ana.responder, &facts.ben.active, session);
        rows.push(bad(format!("take_over: session {session}"), ways).field("supervise.take_over.session"));
    }
    for (why, name) in bad_names(40) {
        let row = bad(format!("take_over: a chat's name {why}"), take(ana.responder, &name, ana.session));
        rows.push(row.field("supervise.take_over.chat_id"));
    }
    let wrong_state =
        |name: &str, ways: Vec<Way>| bad(name, ways).refused(Code::FailedPrecondition, "WRONG_STATE");
    let assign = |chat: &str, responder: &str, break_glass| {
        let (chat_id, responder_id) = (chat.to_owned(), responder.to_owned());
        act(Act::Assign(v1::AssignAct { chat_id, responder_id, break_glass }))
    };
    let end = |chat: &str, outcome| act(Act::End(v1::EndAct { chat_id: chat.to_owned(), outcome }));
    let urgency =
        |urgency| act(Act::SetUrgency(v1::SetUrgencyAct { chat_id: facts.waiting.chat_id.clone(), urgency }));
    rows.extend([
        bad("take_over: nobody who is here", take("sue", &facts.ben.active, ana.session))
            .refused(Code::FailedPrecondition, "NOT_SIGNED_IN"),
        bad("take_over: an older session", take(ana.responder, &facts.ben.active, ana.session.wrapping_sub(1)))
            .refused(Code::FailedPrecondition, "STALE_SESSION"),
        bad("take_over: an unknown chat", take(ana.responder, "unknown", ana.session))
            .refused(Code::NotFound, "UNKNOWN_CHAT"),
        wrong_state("take_over: a chat that is theirs", take(ana.responder, &ana.active, ana.session)),
        wrong_state("pull: from nobody", act(Act::Pull(v1::PullAct { chat_id: facts.waiting.chat_id.clone() }))),
        wrong_state("assign: a chat in hand", assign(&ana.active, facts.ben.responder, true)),
        wrong_state("assign: to whom it is offered", assign(&ana.offered, ana.responder, true)),
        bad("assign: to whom it does not fit", assign(&facts.waiting.chat_id, ana.responder, false))
            .refused(Code::FailedPrecondition, "NOT_AVAILABLE"),
        wrong_state("end: a chat in the line, completed", end(&facts.waiting.chat_id, 1)),
        wrong_state("end: a chat in hand, by the resources", end(&ana.active, 5)),
        wrong_state("end_break: of somebody who is ready", {
            act(Act::EndBreak(v1::EndBreakAct { responder_id: ana.responder.to_owned() }))
        }),
    ]);
    for number in [0, 5, -1] {
        rows.push(bad(format!("set_urgency: {number}"), urgency(number)).field("supervise.set_urgency.urgency"));
    }
    for number in [0, 2, 3, 4, 7, -1] {
        let ways = end(&facts.waiting.chat_id, number);
        rows.push(bad(format!("end: the outcome {number}"), ways).field("supervise.end.outcome"));
    }
    let rest = |r#for| act(Act::Rest(v1::RestAct { responder_id: ana.responder.to_owned(), r#for }));
    rows.extend(rest_rows("a rest", "supervise.rest.for", rest));
    rows
}

fn blocks(facts: &Facts) -> Vec<Row> {
    let proposes = |block: &str, chat: &str, r#for| {
        let (block_id, chat_id) = (block.to_owned(), chat.to_owned());
        act(Act::ProposeBlock(v1::ProposeBlockAct { block_id, chat_id, r#for }))
    };
    let of = |chat: &str| proposes("new", chat, duration(3600, 0));
    let lasting = |r#for| proposes("new", &facts.ana.active, r#for);
    let confirms = |by: &str, block: &str| {
        let act = Act::ConfirmBlock(v1::ConfirmBlockAct { block_id: block.to_owned() });
        supervise(by, v1::SupervisionReason::Misuse.into(), Some(act))
    };
    let lifts = |block: &str| act(Act::LiftBlock(v1::LiftBlockAct { block_id: block.to_owned() }));
    let listed = |after: &str, limit| {
        let (helpline, after_block_id) = (HELPLINE.to_owned(), after.to_owned());
        to(LIST_BLOCKS, v1::ListBlocksRequest { helpline, after_block_id, limit })
    };
    let field = |act: &str, rest: &str| format!("supervise.{act}.{rest}");
    let mut rows = vec![
        bad("propose_block: an unknown chat", of("unknown")).refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("propose_block: a chat that was erased", of(&facts.erased.chat_id))
            .refused(Code::FailedPrecondition, "WRONG_STATE"),
        bad("propose_block: the same visitor", of(&facts.waiting.chat_id))
            .refused(Code::AlreadyExists, "ALREADY_BLOCKED"),
        bad("propose_block: a name that there is", proposes(&facts.proposed, &facts.ana.active, duration(1, 0)))
            .refused(Code::AlreadyExists, "ALREADY_BLOCKED"),
        bad("confirm_block: the same person", confirms("sue", &facts.proposed))
            .refused(Code::FailedPrecondition, "SAME_PERSON"),
        bad("confirm_block: unknown", confirms("lea", "unknown")).refused(Code::NotFound, "UNKNOWN_BLOCK"),
        bad("lift_block: unknown", lifts("unknown")).refused(Code::NotFound, "UNKNOWN_BLOCK"),
        bad("a page of too many blocks", listed("", 501)).field("limit"),
    ];
    let too_long = ("longer than 30 days by a second", duration(30 * 24 * 3600 + 1, 0));
    let times = [("without an end", None), ("of no time", duration(0, 0)), too_long];
    for (why, r#for) in times.into_iter().chain(bad_durations()) {
        let row = bad(format!("propose_block: one {why}"), lasting(r#for));
        rows.push(row.field(field("propose_block", "for")));
    }
    for (why, name) in bad_names(40) {
        let an_hour = duration(3600, 0);
        rows.extend([
            bad(format!("propose_block: a chat's name {why}"), of(&name)).field(field("propose_block", "chat_id")),
            bad(format!("propose_block: a name {why}"), proposes(&name, &facts.ana.active, an_hour))
                .field(field("propose_block", "block_id")),
            bad(format!("confirm_block: a name {why}"), confirms("lea", &name))
                .field(field("confirm_block", "block_id")),
            bad(format!("lift_block: a name {why}"), lifts(&name)).field(field("lift_block", "block_id")),
        ]);
        if !name.is_empty() {
            rows.push(bad(format!("blocks after a name {why}"), listed(&name, 0)).field("after_block_id"));
        }
    }
    rows
}

fn reroutes() -> Vec<Row> {
    let any_of = |tags: Vec<v1::Tag>| vec![v1::Alternative { all_of: tags }];
    let es = || any_of(vec![tag("lang:es", 1)]);
    let reroute =
        |from_any_of, to_any_of, r#for| act(Act::Reroute(v1::RerouteAct { from_any_of, to_any_of, r#for }));
    let an_hour = || duration(3600, 0);
    let of_both = |any_of: Vec<v1::Alternative>| {
        [
            ("from_any_of", reroute(any_of.clone(), es(), an_hour())),
            ("to_any_of", reroute(es(), any_of, an_hour())),
        ]
    };
    let field = |rest: &str| format!("supervise.reroute.{rest}");
    let full = v1::RerouteAct { from_any_of: any_of(vec![tag("t8", 1)]), to_any_of: Vec::new(), r#for: an_hour() };
    let full = v1::SuperviseCommand { supervisor_id: "sue".to_owned(), reason: 1, act: Some(Act::Reroute(full)) };
    let full = both(v1::Command { helpline: FULL.to_owned(), command: Some(C::Supervise(full)) });
    let mut rows = vec![
        bad("a reroute from nothing", reroute(Vec::new(), es(), an_hour())).field(field("from_any_of")),
        bad("a reroute from anyone", reroute(any_of(Vec::new()), es(), an_hour())).field(field("from_any_of")),
        bad("a reroute longer than a day", reroute(es(), Vec::new(), duration(24 * 3600, 1_000_000)))
            .field(field("for")),
        bad("the end of a reroute that there is not", reroute(es(), Vec::new(), None))
            .refused(Code::FailedPrecondition, "WRONG_STATE"),
        bad("one reroute too many", full).refused(Code::ResourceExhausted, "TOO_MANY_REROUTES"),
    ];
    let wrong_tags = [
        ("an unknown tag", tag("lang:xx", 1), "name"),
        ("a tag without a name", tag("", 1), "name"),
        ("a tag with a long name", tag(&"x".repeat(41), 1), "name"),
        ("a level above the tag's", tag("lang:en", 2), "level"),
        ("the largest level", tag("lang:en", u32::MAX), "level"),
    ];
    for (what, wrong, part) in wrong_tags {
        for (side, ways) in of_both(any_of(vec![tag("lang:en", 1), wrong])) {
            rows.push(bad(format!("{side}: {what}"), ways).field(field(&format!("{side}[0].all_of[1].{part}"))));
        }
    }
    for (side, ways) in of_both(vec![v1::Alternative { all_of: vec![tag("lang:en", 1)] }; MAX_ALTERNATIVES + 1]) {
        rows.push(bad(format!("{side}: too many alternatives"), ways).field(field(side)));
    }
    for (side, ways) in of_both(any_of(vec![tag("lang:en", 1); MAX_TAGS + 1])) {
        rows.push(bad(format!("{side}: too many tags"), ways).field(field(&format!("{side}[0].all_of"))));
    }
    for (why, r#for) in bad_durations() {
        rows.push(bad(format!("a reroute {why}"), reroute(es(), Vec::new(), r#for)).field(field("for")));
    }
    rows
}

/// A policy that is put, and the same only tried.
fn put(change: impl Fn(&mut v1::PutPolicyRequest)) -> Vec<Way> {
    let mut put = v1::PutPolicyRequest {
        helpline: HELPLINE.to_owned(),
        toml: NIGHTLINE.replacen("helpline = \"nightline\"", &format!("helpline = \"{HELPLINE}\""), 1),
        expected_revision: 1,
        supervisor_id: "sue".to_owned(),
        dry_run: false,
    };
    change(&mut put);
    let trial = v1::PutPolicyRequest { dry_run: true, ..put.clone() };
    to(PUT_POLICY, put).into_iter().chain(to(PUT_POLICY, trial)).collect()
}

fn policies() -> Vec<Row> {
    let get = |revision| {
        to(GET_POLICY, v1::GetPolicyRequest { helpline: HELPLINE.to_owned(), revision }).map(|way| (revision, way))
    };
    let mut rows = vec![
        bad("a policy that would move tags in use", put(|_| {})).refused(Code::FailedPrecondition, "TAGS_MOVED"),
        bad("a policy of another helpline", put(|p| p.toml = NIGHTLINE.to_owned())).field("toml"),
        bad("a policy for an unknown helpline", put(|p| p.helpline = "nobody".to_owned())).field("toml"),
        bad("a policy of nobody", {
            let toml = NIGHTLINE.to_owned();
            let put = v1::PutPolicyRequest { helpline: HELPLINE.to_owned(), toml, ..Default::default() };
            to(PUT_POLICY, put)
        })
        .field("supervisor_id"),
    ];
    for (revision, way) in [2, 1 << 53, u64::MAX].into_iter().flat_map(get) {
        let row = bad(format!("revision {revision} of a policy"), [way]);
        rows.push(row.refused(Code::NotFound, "UNKNOWN_REVISION"));
    }
    for revision in [0, 2, (1 << 53) - 1] {
        let row =
            bad(format!("a policy in place of revision {revision}"), put(|p| p.expected_revision = revision));
        rows.push(row.refused(Code::Aborted, "POLICY_CHANGED"));
    }
    for revision in [1 << 53, u64::MAX] {
        let row =
            bad(format!("a policy in place of revision {revision}"), put(|p| p.expected_revision = revision));
        rows.push(row.field("expected_revision"));
    }
    for (why, name) in bad_names(40) {
        let row = bad(format!("a policy for a helpline's name {why}"), put(|p| p.helpline.clone_from(&name)));
        rows.push(row.field("helpline"));
    }
    // A trial needs no name.
    for (why, name) in bad_names(64).into_iter().filter(|(_, name)| !name.is_empty()) {
        let row =
            bad(format!("a policy of a supervisor's name {why}"), put(|p| p.supervisor_id.clone_from(&name)));
        rows.push(row.field("supervisor_id"));
    }
    for (what, text) in refused_policies() {
        let row = bad(format!("the policy {what}"), put(|p| p.toml.clone_from(&text)));
        rows.push(row.refused_at(Code::InvalidArgument, "POLICY_REFUSED", "toml"));
    }
    rows
}

/// Texts that no helpline can work by, and why.
fn refused_policies() -> Vec<(String, String)> {
    let mut texts = vec![
        ("of no text".to_owned(), String::new()),
        ("that is too long".to_owned(), "#".repeat(MAX_POLICY_BYTES + 1)),
        ("of zero bytes".to_owned(), "\0".repeat(100)),
        ("of brackets".to_owned(), "[".repeat(MAX_POLICY_BYTES)),
        ("of nested lists".to_owned(), format!("tags = {}", "[".repeat(100_000))),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bad_input/policies");
    for entry in fs::read_dir(folder).expect("a folder of policies with a mistake each") {
        let path = entry.expect("a file").path();
        let text = fs::read_to_string(&path).expect("a policy file");
        if lint(&text).iter().any(|finding| finding.severity == Severity::Error) {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            texts.push((name.to_owned(), text));
        }
    }
    texts
}

fn reads(facts: &Facts) -> Vec<Row> {
    let helpline = || HELPLINE.to_owned();
    let chat = |key| to(GET_CHAT, v1::GetChatRequest { helpline: helpline(), key, ticket_version: 0 });
    let with = |change: &dyn Fn(&mut v1::HashedChatKey)| {
        let mut key = facts.waiting.hashed();
        change(&mut key);
        chat(Some(key))
    };
    let place =
        |chat_id: &str| to(GET_PLACE, v1::GetPlaceRequest { helpline: helpline(), chat_id: chat_id.to_owned() });
    let responder = |responder_id: &str| {
        to(GET_RESPONDER, v1::GetResponderRequest { helpline: helpline(), responder_id: responder_id.to_owned() })
    };
    let floor = |limit| to(GET_FLOOR, v1::GetFloorRequest { helpline: helpline(), limit });
    let events = |from_cursor: &str| {
        to(WATCH_EVENTS, v1::WatchEventsRequest { helpline: helpline(), from_cursor: from_cursor.to_owned() })
    };
    let mut rows = vec![
        bad("a look at a chat without a key", chat(None)).field("key"),
        bad("a look at an unknown chat", with(&|k| k.chat_id = "unknown".to_owned()))
            .refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("a look at a chat with a wrong token", with(&|k| k.token_hash = vec![0; 32]))
            .refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("a look at a chat with a short token", with(&|k| k.token_hash.truncate(31))).field("key.token_hash"),
        bad("a look at a chat with a long token", with(&|k| k.token_hash.push(0))).field("key.token_hash"),
        bad("the place of an unknown chat", place("unknown")).refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("a look at an unknown responder", responder("nobody")).refused(Code::NotFound, "UNKNOWN_RESPONDER"),
        bad("a floor of too many", floor(1001)).field("limit"),
        bad("a floor of the largest number", floor(u32::MAX)).field("limit"),
        bad("events after those of another store", events(&facts.foreign_cursor))
            .refused(Code::OutOfRange, "CURSOR_TOO_OLD"),
    ];
    let explain = |chat_id: &str| {
        to(EXPLAIN, v1::ExplainRoutingRequest { helpline: helpline(), chat_id: chat_id.to_owned() })
    };
    let audit = |after, limit| to(READ_AUDIT, v1::ReadAuditRequest { helpline: helpline(), after, limit });
    let kpis = |window| to(GET_KPIS, v1::GetKpisRequest { helpline: helpline(), window });
    let elsewhere =
        v1::ExplainRoutingRequest { helpline: FULL.to_owned(), chat_id: facts.waiting.chat_id.clone() };
    rows.extend([
        bad("an explanation of an unknown chat", explain("unknown")).refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("an explanation of a chat of another helpline", to(EXPLAIN, elsewhere))
            .refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("an audit's page of too many", audit(0, 1001)).field("limit"),
        bad("an audit's page after no number", audit(1 << 53, 0)).field("after"),
        bad("figures of no time", kpis(duration(0, 0))).field("window"),
        bad("figures of less than a millisecond", kpis(duration(0, 999_999))).field("window"),
        bad("figures of more than 48 hours", kpis(duration(48 * 3600, 1_000_000))).field("window"),
    ]);
    for (why, window) in bad_durations() {
        rows.push(bad(format!("figures of a time {why}"), kpis(window)).field("window"));
    }
    let long = format!("{}.1.1", "g".repeat(130));
    let no_cursors = [
        "x",
        "1.1",
        "g.1",
        "g.1.",
        "g.1.-1",
        "g.1.+1",
        "g.1.1e3",
        "g.NaN.1",
        "g g.1.1",
        "g.1.18446744073709551616",
        &long,
    ];
    rows.extend(no_cursors.map(|text| bad(format!("the cursor {text}"), events(text)).field("from_cursor")));
    for (why, name) in bad_names(40) {
        let ways = with(&|k| k.chat_id.clone_from(&name));
        rows.push(bad(format!("a look at a chat's name {why}"), ways).field("key.chat_id"));
        rows.push(bad(format!("the place of a chat's name {why}"), place(&name)).field("chat_id"));
        rows.push(bad(format!("an explanation of a chat's name {why}"), explain(&name)).field("chat_id"));
    }
    for (why, name) in bad_names(64) {
        rows.push(bad(format!("a look at a responder's name {why}"), responder(&name)).field("responder_id"));
    }
    rows
}

/// Every call with the name of a helpline that is none.
fn helplines(facts: &Facts) -> Vec<Row> {
    let at = |helpline: &str| {
        let helpline = || helpline.to_owned();
        let beat = C::Beat(v1::BeatCommand { key: Some(facts.waiting.hashed()) });
        let command = both(v1::Command { helpline: helpline(), command: Some(beat) });
        let reads = [
            to(WATCH_EVENTS, v1::WatchEventsRequest { helpline: helpline(), ..Default::default() }),
            to(
                GET_CHAT,
                v1::GetChatRequest { helpline: helpline(), key: Some(facts.waiting.hashed()), ticket_version: 0 },
            ),
            to(GET_PLACE, v1::GetPlaceRequest { helpline: helpline(), chat_id: facts.waiting.chat_id.clone() }),
            to(GET_RESPONDER, v1::GetResponderRequest { helpline: helpline(), responder_id: "ana".to_owned() }),
            to(GET_FLOOR, v1::GetFloorRequest { helpline: helpline(), limit: 0 }),
            to(GET_POLICY, v1::GetPolicyRequest { helpline: helpline(), revision: 0 }),
            to(
                EXPLAIN,
                v1::ExplainRoutingRequest { helpline: helpline(), chat_id: facts.waiting.chat_id.clone() },
            ),
            to(GET_KPIS, v1::GetKpisRequest { helpline: helpline(), window: None }),
            to(READ_AUDIT, v1::ReadAuditRequest { helpline: helpline(), after: 0, limit: 0 }),
            to(LIST_BLOCKS, v1::ListBlocksRequest { helpline: helpline(), ..Default::default() }),
        ];
        command.into_iter().chain(reads.into_iter().flatten()).collect::<Vec<Way>>()
    };
    let sign_in = v1::SignInCommand { responder_id: "newcomer".to_owned(), capacity: 1, ..Default::default() };
    let sign_in = v1::Command { helpline: "nobody".to_owned(), command: Some(C::SignIn(sign_in)) };
    let beat = C::Beat(v1::BeatCommand { key: Some(facts.waiting.hashed()) });
    let elsewhere = both(v1::Command { helpline: FULL.to_owned(), command: Some(beat) });
    let mut rows = vec![
        bad("an unknown helpline", at("nobody")).refused(Code::NotFound, "UNKNOWN_HELPLINE"),
        bad("a sign-in at an unknown helpline", both(sign_in)).refused(Code::NotFound, "UNKNOWN_HELPLINE"),
        bad("a chat of another helpline", elsewhere).refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("a helpline in capitals", at("Steady")).field("helpline"),
    ];
    rows.extend(
        bad_names(40)
            .into_iter()
            .map(|(why, name)| bad(format!("a helpline's name {why}"), at(&name)).field("helpline")),
    );
    rows
}
