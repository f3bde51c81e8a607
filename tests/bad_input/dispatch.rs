//! What responders' clients send wrongly: each action over Session and Act, each sign-in over Session and Watch.

use crate::row::{Row, Sent, Way, bad, bad_durations, bad_names, bytes_to, duration, tag, to};
use crate::world::{ANA, BEN, Facts, HELPLINE, Hands, sign_in};
use holdfast_domain::limits::{MAX_CAPACITY, MAX_HANDOFF_BYTES, MAX_TAGS, MAX_TICKET_BYTES};
use holdfast_proto::v1::{self, action::Action as A, session_request};
use tonic::Code;

const SESSION: &str = "DispatchService/Session";
const WATCH: &str = "DispatchService/Watch";
const ACT: &str = "DispatchService/Act";

/// An action about what is in somebody's hands.
type ByHands<'a> = Box<dyn Fn(&Hands) -> A + 'a>;
/// To an offer: the chat, and which of its offers.
type Answer = fn(&str, u32) -> A;
/// On an assignment: the chat, and the fence.
type Effect = fn(String, Option<v1::Fence>) -> A;

pub fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = sign_ins();
    rows.extend(sealed_assignments(facts));
    rows.extend(first_messages(facts));
    rows.extend(holds(facts));
    rows.extend(statuses(facts));
    rows.extend(offers(facts));
    rows.extend(assignments(facts));
    rows.extend(wrap_ups(facts));
    rows.extend(cool_downs(facts));
    rows
}

fn sign_ins() -> Vec<Row> {
    let other = |change: &dyn Fn(&mut v1::SignIn)| {
        let mut sign_in = sign_in("newcomer", "lang:en");
        change(&mut sign_in);
        over_both(sign_in)
    };
    let tags = |tags: Vec<v1::Tag>| other(&move |s| s.capabilities.clone_from(&tags));
    let opt_out =
        |topics: &[&str]| other(&|s| s.opt_out_topics = topics.iter().map(|topic| (*topic).to_owned()).collect());
    let shift = |remaining| other(&move |s| s.shift_remaining = remaining);
    let first_tag = "sign_in.capabilities[0]";
    let topics = "sign_in.opt_out_topics";
    let mut rows = vec![
        bad("an empty sign-in", over_both(v1::SignIn::default())).field("sign_in.helpline"),
        bad("a sign-in at an unknown helpline", other(&|s| s.helpline = "nobody".to_owned()))
            .refused(Code::NotFound, "UNKNOWN_HELPLINE"),
        bad("a capacity of 21", other(&|s| s.capacity = 21)).field("sign_in.capacity"),
        bad("the largest capacity", other(&|s| s.capacity = u32::MAX)).field("sign_in.capacity"),
        bad("too many capabilities", tags(vec![tag("lang:en", 1); MAX_TAGS + 1])).field("sign_in.capabilities"),
        bad("an unknown capability", tags(vec![tag("lang:xx", 1)])).field(format!("{first_tag}.name")),
        bad("a capability without a name", tags(vec![tag("", 1)])).field(format!("{first_tag}.name")),
        bad("a capability with a long name", tags(vec![tag(&"x".repeat(41), 1)]))
            .field(format!("{first_tag}.name")),
        bad("a capability above its level", tags(vec![tag("skill:minors", 4)]))
            .field(format!("{first_tag}.level")),
        bad("a capability above all levels", tags(vec![tag("lang:en", 6)])).field(format!("{first_tag}.level")),
        bad("the largest level of a capability", tags(vec![tag("lang:en", u32::MAX)]))
            .field(format!("{first_tag}.level")),
        bad("too many topics", opt_out(&["topic:grief"; MAX_TAGS + 1])).field(topics),
        bad("an unknown topic", opt_out(&["topic:grief", "topic:xx"])).field(format!("{topics}[1]")),
        bad("a topic without a name", opt_out(&[""])).field(format!("{topics}[0]")),
        bad("a topic with a long name", opt_out(&["topic:grief", &"x".repeat(41)])).field(format!("{topics}[1]")),
        bad("a shift longer than a day", shift(duration(24 * 3600 + 1, 0))).field("sign_in.shift_remaining"),
    ];
    for (why, remaining) in bad_durations() {
        rows.push(bad(format!("a shift {why}"), shift(remaining)).field("sign_in.shift_remaining"));
    }
    for (why, name) in bad_names(40) {
        let ways = other(&|s| s.helpline.clone_from(&name));
        rows.push(bad(format!("a sign-in at a helpline's name {why}"), ways).field("sign_in.helpline"));
    }
    for (why, name) in bad_names(64) {
        let ways = other(&|s| s.responder_id.clone_from(&name));
        rows.push(bad(format!("a sign-in with a responder's name {why}"), ways).field("sign_in.responder_id"));
    }
    rows
}

/// What a newcomer claims to hold. One that does not open is no bad input: it is not theirs, and they are signed in.
fn sealed_assignments(facts: &Facts) -> Vec<Row> {
    let of = |held: Vec<(&str, Vec<u8>)>| {
        let held = held.into_iter();
        let sealed_assignments =
            held.map(|(chat, sealed)| v1::SealedAssignment { chat_id: chat.to_owned(), sealed }).collect();
        over_both(v1::SignIn { sealed_assignments, ..sign_in("newcomer", "lang:en") })
    };
    let (chat, sealed) = (facts.ana.active.as_str(), || facts.ana.sealed.clone());
    let field = "sign_in.sealed_assignments";
    let names: Vec<String> = (0..=MAX_CAPACITY).map(|n| format!("chat-{n}")).collect();
    let many = |names: &[String]| of(names.iter().map(|name| (name.as_str(), vec![1])).collect());
    let repeated: Vec<String> = (0..1_000).map(|_| chat.to_owned()).collect();
    let mut rows = vec![
        bad("one sealed assignment too many", many(&names)).field(field),
        bad("a thousand sealed assignments", many(&repeated)).field(field),
        bad("a sealed assignment twice", of(vec![(chat, sealed()), ("other", sealed()), (chat, sealed())]))
            .field(format!("{field}[2].chat_id")),
        bad("an empty sealed assignment", of(vec![(chat, Vec::new())])).field(format!("{field}[0].sealed")),
        bad("an empty one behind a good one", of(vec![(chat, sealed()), ("other", Vec::new())]))
            .field(format!("{field}[1].sealed")),
        bad("a sealed assignment of one byte too many", of(vec![(chat, vec![1; MAX_TICKET_BYTES + 1])]))
            .field(format!("{field}[0].sealed")),
        bad("a sealed assignment of a million bytes", of(vec![(chat, vec![1; 1_000_000])]))
            .field(format!("{field}[0].sealed")),
    ];
    rows.extend(bad_names(40).into_iter().map(|(why, name)| {
        let ways = of(vec![(chat, sealed()), (&name, sealed())]);
        bad(format!("a sealed assignment of a chat's name {why}"), ways).field(format!("{field}[1].chat_id"))
    }));
    rows
}

fn over_both(sign_in: v1::SignIn) -> Vec<Way> {
    let first = session_request::Message::SignIn(sign_in.clone());
    let first = v1::SessionRequest { request_number: 1, message: Some(first) };
    let watch = v1::WatchRequest { sign_in: Some(sign_in) };
    to(SESSION, first).into_iter().chain(to(WATCH, watch)).collect()
}

fn first_messages(facts: &Facts) -> Vec<Row> {
    let beat = v1::Action { action: Some(A::Heartbeat(v1::Heartbeat {})) };
    let beat = v1::SessionRequest { request_number: 1, message: Some(session_request::Message::Action(beat)) };
    let again = session_request::Message::SignIn(sign_in(facts.ana.responder, "lang:en"));
    vec![
        bad("a session that begins with an action", to(SESSION, beat))
            .refused(Code::FailedPrecondition, "SIGN_IN_EXPECTED"),
        bad("a session that begins with nothing", bytes_to(SESSION, Vec::new()))
            .refused(Code::FailedPrecondition, "SIGN_IN_EXPECTED"),
        bad("a second sign-in in a session", in_session(Some(again)))
            .refused(Code::FailedPrecondition, "SIGNED_IN_ALREADY"),
        bad("an empty message in a session", in_session(None)).field("message"),
        bad("a watch without a sign-in", bytes_to(WATCH, Vec::new())).field("sign_in"),
    ]
}

fn in_session(message: Option<session_request::Message>) -> [Way; 1] {
    let request = v1::SessionRequest { request_number: 0, message };
    [Way { rpc: SESSION, sent: Sent::InSession(request) }]
}

/// An action over Act, as `hands` unless changed.
fn act(hands: &Hands, action: Option<v1::Action>, change: impl FnOnce(&mut v1::ActRequest)) -> [Way; 1] {
    let mut act = v1::ActRequest {
        helpline: HELPLINE.to_owned(),
        responder_id: hands.responder.to_owned(),
        session: hands.session,
        action,
    };
    change(&mut act);
    to(ACT, act)
}

/// The same action in Ana's open session, and over Act in Ben's.
fn both(facts: &Facts, action: impl Fn(&Hands) -> A) -> Vec<Way> {
    let of = |hands: &Hands| v1::Action { action: Some(action(hands)) };
    let session = in_session(Some(session_request::Message::Action(of(&facts.ana))));
    let call = act(&facts.ben, Some(of(&facts.ben)), |_| {});
    session.into_iter().chain(call).collect()
}

/// Who acts, and under which sign-in: only Act says so.
fn holds(facts: &Facts) -> Vec<Row> {
    let beat = || Some(v1::Action { action: Some(A::Heartbeat(v1::Heartbeat {})) });
    let other = |change: &dyn Fn(&mut v1::ActRequest)| act(&facts.ben, beat(), change);
    let nothing = v1::Action { action: None };
    let mut rows = vec![
        bad("an empty act", bytes_to(ACT, Vec::new())).field("helpline"),
        bad("an act without an action", act(&facts.ben, None, |_| {})).field("action"),
        bad("an act with an empty action", act(&facts.ben, Some(nothing.clone()), |_| {})).field("action"),
        bad("an empty action in a session", in_session(Some(session_request::Message::Action(nothing))))
            .field("action"),
        bad("an act at an unknown helpline", other(&|a| a.helpline = "nobody".to_owned()))
            .refused(Code::NotFound, "UNKNOWN_HELPLINE"),
        bad("an act of an unknown responder", other(&|a| a.responder_id = "nobody".to_owned()))
            .refused(Code::FailedPrecondition, "NOT_SIGNED_IN"),
        bad("an act of an older session", other(&|a| a.session = a.session.wrapping_sub(1)))
            .refused(Code::FailedPrecondition, "STALE_SESSION"),
        bad("an act of a session to come", other(&|a| a.session = a.session.wrapping_add(1)))
            .refused(Code::FailedPrecondition, "STALE_SESSION"),
        bad("an act in a session of another time", other(&|a| a.session ^= 1 << 45))
            .refused(Code::FailedPrecondition, "STALE_SESSION"),
        bad("an act of session 0", other(&|a| a.session = 0)).field("session"),
        bad("an act of a session beyond 2^53", other(&|a| a.session = 1 << 53)).field("session"),
        bad("an act of the largest session", other(&|a| a.session = u64::MAX)).field("session"),
    ];
    for (why, name) in bad_names(40) {
        let ways = other(&|a| a.helpline.clone_from(&name));
        rows.push(bad(format!("an act at a helpline's name {why}"), ways).field("helpline"));
    }
    for (why, name) in bad_names(64) {
        let ways = other(&|a| a.responder_id.clone_from(&name));
        rows.push(bad(format!("an act of a responder's name {why}"), ways).field("responder_id"));
    }
    rows
}

fn statuses(facts: &Facts) -> Vec<Row> {
    let declare = |status: i32| both(facts, move |_| A::SetStatus(v1::SetStatus { status }));
    let field = "action.set_status.status";
    let refused = [
        v1::ResponderStatus::Unspecified,
        v1::ResponderStatus::Offline,
        v1::ResponderStatus::NotResponding,
        v1::ResponderStatus::CoolingDown,
    ];
    let mut rows = vec![
        bad("an unknown status", declare(7)).field(field),
        bad("a negative status", declare(-1)).field(field),
    ];
    rows.extend(refused.into_iter().map(|status| {
        let name = format!("the status {status:?}");
        bad(name, declare(status.into())).refused_at(Code::InvalidArgument, "STATUS_NOT_ALLOWED", field)
    }));
    rows
}

fn accept(chat: &str, offer_number: u32, reply_handoff: Vec<u8>) -> A {
    A::Accept(v1::Accept { chat_id: chat.to_owned(), offer_number, reply_handoff })
}

fn decline(chat: &str, offer_number: u32, reason: i32) -> A {
    A::Decline(v1::Decline { chat_id: chat.to_owned(), offer_number, reason })
}

fn offers(facts: &Facts) -> Vec<Row> {
    let mut rows = vec![
        bad(
            "a reply of one byte too many",
            both(facts, |h| accept(&h.offered, h.offer_number, vec![0; MAX_HANDOFF_BYTES + 1])),
        )
        .field("action.accept.reply_handoff"),
        bad("an unknown reason to decline", both(facts, |h| decline(&h.offered, h.offer_number, 4)))
            .field("action.decline.reason"),
        bad("a negative reason to decline", both(facts, |h| decline(&h.offered, h.offer_number, -1)))
            .field("action.decline.reason"),
    ];
    let answers: [(&str, Answer); 2] =
        [("accept", |chat, n| accept(chat, n, Vec::new())), ("decline", |chat, n| decline(chat, n, 1))];
    for (word, answer) in answers {
        let gone: Vec<(&str, ByHands<'_>)> = vec![
            ("an offer to come", Box::new(move |h| answer(&h.offered, h.offer_number + 1))),
            ("the largest offer", Box::new(move |h| answer(&h.offered, u32::MAX))),
            ("an unknown chat", Box::new(move |_| answer("unknown", 1))),
            ("a chat that is in the line", Box::new(move |_| answer(&facts.waiting.chat_id, 1))),
            ("a chat whose visitor left", Box::new(move |h| answer(&h.gone, h.gone_number))),
            ("a chat that is closed", Box::new(move |h| answer(&h.closed, 1))),
            ("another offer of a chat in hand", Box::new(move |h| answer(&h.active, 9))),
            (
                "an offer to somebody else",
                Box::new(move |h| {
                    let other = if h.responder == ANA { &facts.ben } else { &facts.ana };
                    answer(&other.offered, other.offer_number)
                }),
            ),
        ];
        for (what, action) in gone {
            rows.push(
                bad(format!("{word}: {what}"), both(facts, action))
                    .refused(Code::FailedPrecondition, "OFFER_GONE"),
            );
        }
        let zero = both(facts, |h| answer(&h.offered, 0));
        rows.push(bad(format!("{word}: offer 0"), zero).field(format!("action.{word}.offer_number")));
        for (why, name) in bad_names(40) {
            let ways = both(facts, |_| answer(&name, 1));
            rows.push(bad(format!("{word}: a chat's name {why}"), ways).field(format!("action.{word}.chat_id")));
        }
    }
    rows
}

fn assignments(facts: &Facts) -> Vec<Row> {
    let effects: [(&str, Effect); 4] = [
        ("engaged", |chat_id, fence| A::Engaged(v1::Engaged { chat_id, fence })),
        ("close", |chat_id, fence| A::Close(v1::Close { chat_id, fence })),
        ("transfer", |chat_id, fence| A::Transfer(v1::Transfer { chat_id, fence })),
        ("call_supervisor", |chat_id, fence| A::CallSupervisor(v1::CallSupervisor { chat_id, fence })),
    ];
    let epoch = |fence: v1::Fence, by: i64| v1::Fence { epoch: fence.epoch.wrapping_add_signed(by), ..fence };
    let mut rows = Vec::new();
    for (word, effect) in effects {
        let stale: Vec<(&str, ByHands<'_>)> = vec![
            ("an older fence", Box::new(move |h| effect(h.active.clone(), Some(epoch(h.fence, -1))))),
            ("a fence to come", Box::new(move |h| effect(h.active.clone(), Some(epoch(h.fence, 1))))),
            (
                "a fence of another node",
                Box::new(move |h| {
                    effect(h.active.clone(), Some(v1::Fence { minted_by: !h.fence.minted_by, ..h.fence }))
                }),
            ),
            ("a chat that is only offered", Box::new(move |h| effect(h.offered.clone(), Some(h.fence)))),
            ("an unknown chat", Box::new(move |h| effect("unknown".to_owned(), Some(h.fence)))),
            (
                "the chat of another",
                Box::new(move |h| {
                    let other = if h.responder == BEN { &facts.ana } else { &facts.ben };
                    effect(other.active.clone(), Some(other.fence))
                }),
            ),
        ];
        for (what, action) in stale {
            rows.push(
                bad(format!("{word}: {what}"), both(facts, action))
                    .refused(Code::FailedPrecondition, "STALE_FENCE"),
            );
        }
        if word != "close" {
            // Repeating a close is answered the same.
            let closed = both(facts, |h| effect(h.closed.clone(), Some(h.closed_fence)));
            rows.push(
                bad(format!("{word}: a closed chat"), closed).refused(Code::FailedPrecondition, "STALE_FENCE"),
            );
        }
        let without = both(facts, |h| effect(h.active.clone(), None));
        rows.push(bad(format!("{word}: no fence"), without).field(format!("action.{word}.fence")));
        for number in [0, 1 << 53, u64::MAX] {
            let ways = both(facts, |h| effect(h.active.clone(), Some(v1::Fence { epoch: number, ..h.fence })));
            rows.push(bad(format!("{word}: fence {number}"), ways).field(format!("action.{word}.fence.epoch")));
        }
        for (why, name) in bad_names(40) {
            let ways = both(facts, |h| effect(name.clone(), Some(h.fence)));
            rows.push(bad(format!("{word}: a chat's name {why}"), ways).field(format!("action.{word}.chat_id")));
        }
    }
    rows
}

fn wrap_ups(facts: &Facts) -> Vec<Row> {
    let finish = |chat_id: &str| A::FinishWrapUp(v1::FinishWrapUp { chat_id: chat_id.to_owned() });
    let not_wrapping_up =
        |name: &str, ways: Vec<Way>| bad(name, ways).refused(Code::FailedPrecondition, "NOT_WRAPPING_UP");
    let mut rows = vec![
        not_wrapping_up("the notes of a chat in hand", both(facts, |h| finish(&h.active))),
        not_wrapping_up("the notes of a chat that is offered", both(facts, |h| finish(&h.offered))),
        not_wrapping_up("the notes of an unknown chat", both(facts, |_| finish("unknown"))),
        not_wrapping_up("the notes of a chat in the line", both(facts, |_| finish(&facts.waiting.chat_id))),
    ];
    for (why, name) in bad_names(40) {
        let ways = both(facts, |_| finish(&name));
        rows.push(bad(format!("the notes of a chat's name {why}"), ways).field("action.finish_wrap_up.chat_id"));
    }
    rows
}

fn cool_downs(facts: &Facts) -> Vec<Row> {
    let extend = |r#for| both(facts, move |_| A::ExtendCoolDown(v1::ExtendCoolDown { r#for }));
    let field = "action.extend_cool_down.for";
    let mut rows = vec![
        bad("a cool-down without an end", extend(None)).field(field),
        bad("a cool-down of no time", extend(duration(0, 0))).field(field),
        bad("a cool-down of less than a millisecond", extend(duration(0, 999_999))).field(field),
        bad("a cool-down longer than 4 hours", extend(duration(4 * 3600, 1_000_000))).field(field),
    ];
    for (why, r#for) in bad_durations() {
        rows.push(bad(format!("a cool-down {why}"), extend(r#for)).field(field));
    }
    rows
}
