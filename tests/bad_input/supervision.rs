//! What supervisors' consoles, or those who pose as them, send wrongly.

use crate::row::{Row, Way, bad, bad_durations, bad_names, bytes_to, duration, tag, to};
use crate::world::{FULL, Facts, HELPLINE, Hands, supervisor};
use holdfast_domain::limits::{MAX_ALTERNATIVES, MAX_HANDOFF_BYTES, MAX_TAGS};
use holdfast_proto::v1;
use tonic::Code;

const WATCH_FLOOR: &str = "SupervisionService/WatchFloor";
const ASSIGN: &str = "SupervisionService/AssignChat";
const PULL: &str = "SupervisionService/PullChat";
const TAKE_OVER: &str = "SupervisionService/TakeOver";
const SET_URGENCY: &str = "SupervisionService/SetUrgency";
const END: &str = "SupervisionService/EndChat";
const END_BREAK: &str = "SupervisionService/EndBreak";
const REST: &str = "SupervisionService/ExtendRest";
const FORCE_OFFLINE: &str = "SupervisionService/ForceOffline";
const REROUTE: &str = "SupervisionService/Reroute";
const PROPOSE_BLOCK: &str = "SupervisionService/ProposeBlock";
const CONFIRM_BLOCK: &str = "SupervisionService/ConfirmBlock";
const LIFT_BLOCK: &str = "SupervisionService/LiftBlock";
const LIST_BLOCKS: &str = "SupervisionService/ListBlocks";
const EXPLAIN: &str = "SupervisionService/ExplainRouting";
const KPIS: &str = "SupervisionService/GetKpis";

/// Sets what a reroute leads from, or to.
type Side = fn(&mut v1::RerouteRequest, Vec<v1::Alternative>);

pub fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = supervisors(facts);
    rows.extend(chats(facts));
    rows.extend(responders(facts));
    rows.extend(assigning(facts));
    rows.extend(taking_over(facts));
    rows.extend(values(facts));
    rows.extend(rests(facts));
    rows.extend(reroutes());
    rows.extend(blocks(facts));
    rows.extend(reads(facts));
    rows
}

/// Acts about a chat, each of which would take effect in some state of it.
fn about_chat(by: Option<v1::Supervisor>, chat_id: &str, ana: &Hands) -> Vec<Way> {
    let chat_id = || chat_id.to_owned();
    let responder_id = ana.responder.to_owned();
    let assign =
        v1::AssignChatRequest { supervisor: by.clone(), chat_id: chat_id(), responder_id, break_glass: true };
    let urgency = v1::Urgency::High.into();
    let set_urgency = v1::SetUrgencyRequest { supervisor: by.clone(), chat_id: chat_id(), urgency };
    let outcome = v1::ChatOutcome::Blocked.into();
    let ways = [
        to(ASSIGN, assign),
        to(PULL, v1::PullChatRequest { supervisor: by.clone(), chat_id: chat_id() }),
        to(SET_URGENCY, set_urgency),
        to(END, v1::EndChatRequest { supervisor: by, chat_id: chat_id(), outcome }),
    ];
    ways.into_iter().flatten().collect()
}

/// A chat that is taken over in the session of the supervisor.
fn take_over(by: Option<v1::Supervisor>, chat_id: &str, session: u64) -> [Way; 1] {
    take_over_saying(by, chat_id, session, Vec::new())
}

/// The same, with something for the visitor.
fn take_over_saying(by: Option<v1::Supervisor>, chat_id: &str, session: u64, reply_handoff: Vec<u8>) -> [Way; 1] {
    let chat_id = chat_id.to_owned();
    to(TAKE_OVER, v1::TakeOverRequest { supervisor: by, chat_id, session, reply_handoff })
}

/// Acts about a responder, each of which would take effect in some state of theirs.
fn about_responder(by: Option<v1::Supervisor>, responder_id: &str) -> Vec<Way> {
    let responder_id = || responder_id.to_owned();
    let an_hour = duration(3600, 0);
    let rest = v1::ExtendRestRequest { supervisor: by.clone(), responder_id: responder_id(), r#for: an_hour };
    let ways = [
        to(END_BREAK, v1::EndBreakRequest { supervisor: by.clone(), responder_id: responder_id() }),
        to(REST, rest),
        to(FORCE_OFFLINE, v1::ForceOfflineRequest { supervisor: by, responder_id: responder_id() }),
    ];
    ways.into_iter().flatten().collect()
}

fn reroute(change: impl FnOnce(&mut v1::RerouteRequest)) -> Vec<Way> {
    let any_of = |name: &str| vec![v1::Alternative { all_of: vec![tag(name, 1)] }];
    let mut reroute = v1::RerouteRequest {
        supervisor: Some(supervisor()),
        from_any_of: any_of("lang:es"),
        to_any_of: any_of("lang:en"),
        r#for: duration(3600, 0),
    };
    change(&mut reroute);
    to(REROUTE, reroute).into()
}

fn propose(by: Option<v1::Supervisor>, chat: &str, r#for: Option<prost_types::Duration>) -> [Way; 1] {
    to(PROPOSE_BLOCK, v1::ProposeBlockRequest { supervisor: by, chat_id: chat.to_owned(), r#for })
}

/// Acts about a block, each of which would take effect in some state of it.
fn about_block(by: Option<v1::Supervisor>, block: &str) -> Vec<Way> {
    let block_id = || block.to_owned();
    let ways = [
        to(CONFIRM_BLOCK, v1::ConfirmBlockRequest { supervisor: by.clone(), block_id: block_id() }),
        to(LIFT_BLOCK, v1::LiftBlockRequest { supervisor: by, block_id: block_id() }),
    ];
    ways.into_iter().flatten().collect()
}

/// All acts.
fn acts(by: Option<v1::Supervisor>, facts: &Facts) -> Vec<Way> {
    let mut ways = about_chat(by.clone(), &facts.waiting.chat_id, &facts.ana);
    ways.extend(take_over(by.clone(), &facts.waiting.chat_id, facts.ana.session));
    ways.extend(about_responder(by.clone(), facts.ana.responder));
    ways.extend(propose(by.clone(), &facts.ana.active, duration(3600, 0)));
    ways.extend(about_block(by.clone(), &facts.proposed));
    ways.extend(reroute(|r| r.supervisor = by));
    ways
}

/// Everybody who acts says who they are, where, and why.
fn supervisors(facts: &Facts) -> Vec<Row> {
    let of = |change: &dyn Fn(&mut v1::Supervisor)| {
        let mut by = supervisor();
        change(&mut by);
        acts(Some(by), facts)
    };
    let of_chats = [ASSIGN, PULL, TAKE_OVER, SET_URGENCY, END, PROPOSE_BLOCK, CONFIRM_BLOCK, LIFT_BLOCK];
    let all = of_chats.iter().chain(&[END_BREAK, REST, FORCE_OFFLINE, REROUTE]);
    let empty: Vec<Way> = all.flat_map(|rpc| bytes_to(rpc, Vec::new())).collect();
    let mut rows = vec![
        bad("an act of nobody", acts(None, facts)).field("supervisor"),
        bad("an empty act", empty).field("supervisor"),
        bad("an act of an empty supervisor", acts(Some(v1::Supervisor::default()), facts))
            .field("supervisor.helpline"),
        bad("an act at an unknown helpline", of(&|s| s.helpline = "nobody".to_owned()))
            .refused(Code::NotFound, "UNKNOWN_HELPLINE"),
    ];
    for reason in [0, 7, -1, i32::MAX] {
        let ways = of(&|s| s.reason = reason);
        rows.push(bad(format!("an act for the reason {reason}"), ways).field("supervisor.reason"));
    }
    for (why, name) in bad_names(40) {
        let ways = of(&|s| s.helpline.clone_from(&name));
        rows.push(bad(format!("an act at a helpline's name {why}"), ways).field("supervisor.helpline"));
    }
    for (why, name) in bad_names(64) {
        let ways = of(&|s| s.supervisor_id.clone_from(&name));
        rows.push(bad(format!("an act of a supervisor's name {why}"), ways).field("supervisor.supervisor_id"));
    }
    rows
}

/// A chat to all acts that are about one.
fn of_chat(by: &v1::Supervisor, chat_id: &str, ana: &Hands) -> Vec<Way> {
    let by_ana = v1::Supervisor { supervisor_id: ana.responder.to_owned(), ..by.clone() };
    let mut ways = about_chat(Some(by.clone()), chat_id, ana);
    ways.extend(take_over(Some(by_ana), chat_id, ana.session));
    ways
}

fn chats(facts: &Facts) -> Vec<Row> {
    let of = |chat_id: &str| of_chat(&supervisor(), chat_id, &facts.ana);
    let elsewhere = v1::Supervisor { helpline: FULL.to_owned(), ..supervisor() };
    let elsewhere = about_chat(Some(elsewhere), &facts.waiting.chat_id, &facts.ana);
    let mut rows = vec![
        bad("an act about an unknown chat", of("unknown")).refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("an act about a chat of another helpline", elsewhere).refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("an act about a chat that was left", of(&facts.left.chat_id))
            .refused(Code::FailedPrecondition, "CHAT_ENDED"),
        bad("an act about a chat that was erased", of(&facts.erased.chat_id))
            .refused(Code::FailedPrecondition, "CHAT_ENDED"),
        bad("an act about a chat that is closed", of(&facts.ana.closed))
            .refused(Code::FailedPrecondition, "CHAT_ENDED"),
    ];
    for (why, name) in bad_names(40) {
        rows.push(bad(format!("an act about a chat's name {why}"), of(&name)).field("chat_id"));
    }
    rows
}

fn responders(facts: &Facts) -> Vec<Row> {
    let assign = |responder_id: &str| {
        let (chat_id, responder_id) = (facts.waiting.chat_id.clone(), responder_id.to_owned());
        to(
            ASSIGN,
            v1::AssignChatRequest { supervisor: Some(supervisor()), chat_id, responder_id, break_glass: true },
        )
    };
    let of =
        |name: &str| about_responder(Some(supervisor()), name).into_iter().chain(assign(name)).collect::<Vec<_>>();
    let elsewhere = v1::Supervisor { helpline: FULL.to_owned(), ..supervisor() };
    let elsewhere = about_responder(Some(elsewhere), facts.ana.responder);
    let mut rows = vec![
        bad("an act about somebody who is not here", of("nobody"))
            .refused(Code::FailedPrecondition, "NOT_SIGNED_IN"),
        bad("an act about somebody of another helpline", elsewhere)
            .refused(Code::FailedPrecondition, "NOT_SIGNED_IN"),
        bad(
            "the end of the break of somebody who is ready",
            to(
                END_BREAK,
                v1::EndBreakRequest {
                    supervisor: Some(supervisor()),
                    responder_id: facts.ana.responder.to_owned(),
                },
            ),
        )
        .refused(Code::FailedPrecondition, "WRONG_STATE"),
    ];
    for (why, name) in bad_names(64) {
        rows.push(bad(format!("an act about a responder's name {why}"), of(&name)).field("responder_id"));
    }
    rows
}

fn assigning(facts: &Facts) -> Vec<Row> {
    let assign = |chat: &str, responder: &str, break_glass| {
        let (chat_id, responder_id) = (chat.to_owned(), responder.to_owned());
        to(ASSIGN, v1::AssignChatRequest { supervisor: Some(supervisor()), chat_id, responder_id, break_glass })
    };
    let (ana, ben) = (&facts.ana, &facts.ben);
    let wrong_state = |name: &str, way: [Way; 1]| bad(name, way).refused(Code::FailedPrecondition, "WRONG_STATE");
    vec![
        wrong_state("a chat in hand for somebody", assign(&ana.active, ben.responder, true)),
        wrong_state("a chat for whom it is offered to", assign(&ana.offered, ana.responder, true)),
        bad("a chat for somebody who cannot serve it", assign(&facts.waiting.chat_id, ana.responder, false))
            .refused(Code::FailedPrecondition, "NOT_AVAILABLE"),
    ]
}

fn taking_over(facts: &Facts) -> Vec<Row> {
    let ana = &facts.ana;
    let by = |name: &str| Some(v1::Supervisor { supervisor_id: name.to_owned(), ..supervisor() });
    let of_ana = |session| take_over(by(ana.responder), &facts.ben.active, session);
    let long = vec![0; MAX_HANDOFF_BYTES + 1];
    let long = take_over_saying(by(ana.responder), &facts.ben.active, ana.session, long);
    vec![
        bad("a chat taken over with a reply of one byte too many", long).field("reply_handoff"),
        bad("a chat taken over in no session", of_ana(0)).field("session"),
        bad("a chat taken over in a session beyond 2^53", of_ana(1 << 53)).field("session"),
        bad("a chat taken over in the largest session", of_ana(u64::MAX)).field("session"),
        bad("a chat taken over in an older session", of_ana(ana.session.wrapping_sub(1)))
            .refused(Code::FailedPrecondition, "STALE_SESSION"),
        bad("a chat taken over in the session of another", of_ana(facts.ben.session.wrapping_add(1 << 40)))
            .refused(Code::FailedPrecondition, "STALE_SESSION"),
        bad("a chat taken over by nobody who is here", take_over(by("sue"), &facts.ben.active, ana.session))
            .refused(Code::FailedPrecondition, "NOT_SIGNED_IN"),
        bad("a chat taken over by whose it is", take_over(by(ana.responder), &ana.active, ana.session))
            .refused(Code::FailedPrecondition, "WRONG_STATE"),
        bad("a chat pulled from nobody", {
            to(PULL, v1::PullChatRequest { supervisor: by("sue"), chat_id: facts.waiting.chat_id.clone() })
        })
        .refused(Code::FailedPrecondition, "WRONG_STATE"),
    ]
}

/// Urgencies and outcomes.
fn values(facts: &Facts) -> Vec<Row> {
    let by = || Some(supervisor());
    let urgency = |urgency| {
        let chat_id = facts.waiting.chat_id.clone();
        to(SET_URGENCY, v1::SetUrgencyRequest { supervisor: by(), chat_id, urgency })
    };
    let end = |chat: &str, outcome: i32| {
        to(END, v1::EndChatRequest { supervisor: by(), chat_id: chat.to_owned(), outcome })
    };
    let mut rows = Vec::new();
    for number in [0, 5, -1, i32::MIN] {
        rows.push(bad(format!("the urgency {number}"), urgency(number)).field("urgency"));
    }
    for number in [0, 2, 3, 4, 7, -1] {
        let way = end(&facts.waiting.chat_id, number);
        rows.push(bad(format!("an end with the outcome {number}"), way).field("outcome"));
    }
    let completed = end(&facts.waiting.chat_id, v1::ChatOutcome::Completed.into());
    let fallback = end(&facts.ana.active, v1::ChatOutcome::Fallback.into());
    rows.extend([
        bad("a chat in the line that is completed", completed).refused(Code::FailedPrecondition, "WRONG_STATE"),
        bad("a chat in hand that takes the resources", fallback).refused(Code::FailedPrecondition, "WRONG_STATE"),
    ]);
    rows
}

fn rests(facts: &Facts) -> Vec<Row> {
    let rest = |r#for| {
        let responder_id = facts.ana.responder.to_owned();
        to(REST, v1::ExtendRestRequest { supervisor: Some(supervisor()), responder_id, r#for })
    };
    let mut rows = vec![
        bad("a rest without an end", rest(None)).field("for"),
        bad("a rest of no time", rest(duration(0, 0))).field("for"),
        bad("a rest of less than a millisecond", rest(duration(0, 999_999))).field("for"),
        bad("a rest longer than 4 hours", rest(duration(4 * 3600, 1_000_000))).field("for"),
    ];
    rows.extend(
        bad_durations().into_iter().map(|(why, r#for)| bad(format!("a rest {why}"), rest(r#for)).field("for")),
    );
    rows
}

fn reroutes() -> Vec<Row> {
    let any_of = |tags: Vec<v1::Tag>| vec![v1::Alternative { all_of: tags }];
    let sides: [(&str, Side); 2] =
        [("from_any_of", |r, any_of| r.from_any_of = any_of), ("to_any_of", |r, any_of| r.to_any_of = any_of)];
    let one_too_many = reroute(|r| {
        r.supervisor = Some(v1::Supervisor { helpline: FULL.to_owned(), ..supervisor() });
        r.from_any_of = any_of(vec![tag("t8", 1)]);
        r.to_any_of.clear();
    });
    let from_anyone = vec![v1::Alternative::default()];
    let mut rows = vec![
        bad("a reroute from nothing", reroute(|r| r.from_any_of.clear())).field("from_any_of"),
        bad("a reroute from anyone", reroute(|r| r.from_any_of = from_anyone)).field("from_any_of"),
        bad("a reroute longer than a day", reroute(|r| r.r#for = duration(24 * 3600, 1_000_000))).field("for"),
        bad("the end of a reroute that there is not", reroute(|r| r.r#for = None))
            .refused(Code::FailedPrecondition, "WRONG_STATE"),
        bad("one reroute too many", one_too_many).refused(Code::ResourceExhausted, "TOO_MANY_REROUTES"),
    ];
    for (side, set) in sides {
        let of = |any_of: Vec<v1::Alternative>| reroute(|r| set(r, any_of));
        let of_tags = |tags: Vec<v1::Tag>| of(any_of(tags));
        let all_of = format!("{side}[0].all_of");
        let many = vec![v1::Alternative { all_of: vec![tag("lang:en", 1)] }; MAX_ALTERNATIVES + 1];
        rows.extend([
            bad(format!("{side}: too many alternatives"), of(many)).field(side),
            bad(format!("{side}: too many tags"), of_tags(vec![tag("lang:en", 1); MAX_TAGS + 1])).field(&all_of),
            bad(format!("{side}: an unknown tag"), of_tags(vec![tag("lang:xx", 1)]))
                .field(format!("{all_of}[0].name")),
            bad(format!("{side}: a tag without a name"), of_tags(vec![tag("", 1)]))
                .field(format!("{all_of}[0].name")),
            bad(format!("{side}: a level above the tag's"), of_tags(vec![tag("lang:en", 2)]))
                .field(format!("{all_of}[0].level")),
            bad(format!("{side}: the largest level"), of_tags(vec![tag("lang:en", u32::MAX)]))
                .field(format!("{all_of}[0].level")),
        ]);
    }
    for (why, r#for) in bad_durations() {
        rows.push(bad(format!("a reroute {why}"), reroute(|r| r.r#for = r#for)).field("for"));
    }
    rows
}

fn blocks(facts: &Facts) -> Vec<Row> {
    let sue = || Some(supervisor());
    let an_hour = || duration(3600, 0);
    let of = |chat: &str| propose(sue(), chat, an_hour());
    let lasting = |r#for| propose(sue(), &facts.ana.active, r#for);
    let listed = |after: &str, limit| {
        let (helpline, after_block_id) = (HELPLINE.to_owned(), after.to_owned());
        to(LIST_BLOCKS, v1::SupervisionServiceListBlocksRequest { helpline, after_block_id, limit })
    };
    let by_sue =
        to(CONFIRM_BLOCK, v1::ConfirmBlockRequest { supervisor: sue(), block_id: facts.proposed.clone() });
    let elsewhere = v1::Supervisor { helpline: FULL.to_owned(), ..supervisor() };
    let mut rows = vec![
        bad("a block over an unknown chat", of("unknown")).refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("a block over a chat that was erased", of(&facts.erased.chat_id))
            .refused(Code::FailedPrecondition, "WRONG_STATE"),
        bad("another block of the same visitor", of(&facts.waiting.chat_id))
            .refused(Code::AlreadyExists, "ALREADY_BLOCKED"),
        bad("a block that one person confirms", by_sue).refused(Code::FailedPrecondition, "SAME_PERSON"),
        bad("an unknown block", about_block(sue(), "unknown")).refused(Code::NotFound, "UNKNOWN_BLOCK"),
        bad("a block of another helpline", about_block(Some(elsewhere), &facts.proposed))
            .refused(Code::NotFound, "UNKNOWN_BLOCK"),
        bad("a block without an end", lasting(None)).field("for"),
        bad("a block of no time", lasting(duration(0, 0))).field("for"),
        bad("a block of less than a millisecond", lasting(duration(0, 999_999))).field("for"),
        bad("a block a little longer than 30 days", lasting(duration(30 * 24 * 3600, 1_000_000))).field("for"),
        bad("a page of too many blocks", listed("", 501)).field("limit"),
        bad("a page of the largest number", listed("", u32::MAX)).field("limit"),
    ];
    for (why, r#for) in bad_durations() {
        rows.push(bad(format!("a block of a time {why}"), lasting(r#for)).field("for"));
    }
    for (why, name) in bad_names(40) {
        rows.push(bad(format!("a block over a chat's name {why}"), of(&name)).field("chat_id"));
        rows.push(bad(format!("a block's name {why}"), about_block(sue(), &name)).field("block_id"));
        if !name.is_empty() {
            rows.push(bad(format!("blocks after a name {why}"), listed(&name, 0)).field("after_block_id"));
        }
    }
    rows
}

fn reads(facts: &Facts) -> Vec<Row> {
    let board =
        |helpline: &str, limit| to(WATCH_FLOOR, v1::WatchFloorRequest { helpline: helpline.to_owned(), limit });
    let explain = |helpline: &str, chat_id: &str| {
        let (helpline, chat_id) = (helpline.to_owned(), chat_id.to_owned());
        to(EXPLAIN, v1::SupervisionServiceExplainRoutingRequest { helpline, chat_id })
    };
    let kpis = |helpline: &str, window| {
        to(KPIS, v1::SupervisionServiceGetKpisRequest { helpline: helpline.to_owned(), window })
    };
    let at = |helpline: &str| -> Vec<Way> {
        let blocks =
            v1::SupervisionServiceListBlocksRequest { helpline: helpline.to_owned(), ..Default::default() };
        let blocks = to(LIST_BLOCKS, blocks);
        let ways = [board(helpline, 0), explain(helpline, &facts.waiting.chat_id), kpis(helpline, None), blocks];
        ways.into_iter().flatten().collect()
    };
    let mut rows = vec![
        bad("a look at an unknown helpline", at("nobody")).refused(Code::NotFound, "UNKNOWN_HELPLINE"),
        bad("a board of too many", board(HELPLINE, 501)).field("limit"),
        bad("a board of the largest number", board(HELPLINE, u32::MAX)).field("limit"),
        bad("an explanation of an unknown chat", explain(HELPLINE, "unknown"))
            .refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("an explanation of a chat of another helpline", explain(FULL, &facts.waiting.chat_id))
            .refused(Code::NotFound, "UNKNOWN_CHAT"),
        bad("figures of no time", kpis(HELPLINE, duration(0, 0))).field("window"),
        bad("figures of less than a millisecond", kpis(HELPLINE, duration(0, 999_999))).field("window"),
        bad("figures of more than 48 hours", kpis(HELPLINE, duration(48 * 3600, 1_000_000))).field("window"),
    ];
    for (why, window) in bad_durations() {
        rows.push(bad(format!("figures of a time {why}"), kpis(HELPLINE, window)).field("window"));
    }
    for (why, name) in bad_names(40) {
        rows.push(bad(format!("a look at a helpline's name {why}"), at(&name)).field("helpline"));
        rows.push(
            bad(format!("an explanation of a chat's name {why}"), explain(HELPLINE, &name)).field("chat_id"),
        );
    }
    rows
}
