//! A field that is wrong is named by its path.

use holdfast_proto::v1::{self, command::Command as C, supervise_command::Act};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bench::{Bench, chat_request, key, session};

type Case = (C, &'static str);

fn changed(change: impl FnOnce(&mut v1::RequestCommand)) -> C {
    let mut request = chat_request("c1");
    change(&mut request);
    C::Request(request)
}

fn after(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

fn step(after: Option<prost_types::Duration>, tags: &[(&str, u32)]) -> v1::RoutingStep {
    let tag = |(name, level): &(&str, u32)| v1::Tag { name: (*name).to_owned(), level: *level };
    let all_of = tags.iter().map(tag).collect();
    v1::RoutingStep { after, any_of: vec![v1::Alternative { all_of }] }
}

fn steps(steps: Vec<v1::RoutingStep>) -> C {
    changed(|r| r.routing_steps = steps)
}

fn requests() -> Vec<Case> {
    let many = |n| std::iter::repeat_n(("lang:en", 1), n).collect::<Vec<_>>();
    let wide = |n| v1::RoutingStep { after: None, any_of: vec![v1::Alternative::default(); n] };
    vec![
        (changed(|r| r.chat_id.clear()), "request.chat_id"),
        (changed(|r| r.chat_id = "a:b".to_owned()), "request.chat_id"),
        (changed(|r| r.chat_id = "a".repeat(41)), "request.chat_id"),
        (changed(|r| r.request_key = vec![0; 31]), "request.request_key"),
        (changed(|r| r.body_digest = vec![0; 33]), "request.body_digest"),
        (changed(|r| r.token_hash.clear()), "request.token_hash"),
        (changed(|r| r.urgency = 5), "request.urgency"),
        (changed(|r| r.urgency = -1), "request.urgency"),
        (changed(|r| r.presence = 3), "request.presence"),
        (changed(|r| r.handoff = vec![0; 8 * 1024 + 1]), "request.handoff"),
        (changed(|r| r.topics = vec![tag("lang:en", 1); 65]), "request.topics"),
        (changed(|r| r.topics = vec![tag("lang:en", 1), tag("x", 1)]), "request.topics[1].name"),
        (changed(|r| r.topics = vec![tag("lang:en", 2)]), "request.topics[0].level"),
        (changed(|r| r.preferences = vec![tag("", 1)]), "request.preferences[0].name"),
        (changed(|r| r.preferences = vec![tag("lang:en", 6)]), "request.preferences[0].level"),
        (changed(|r| r.preferred_responder_id = "a b".to_owned()), "request.preferred_responder_id"),
        (changed(|r| r.excluded_responder_ids = vec!["a".to_owned(); 5]), "request.excluded_responder_ids"),
        (
            changed(|r| r.excluded_responder_ids = vec!["a".to_owned(), String::new()]),
            "request.excluded_responder_ids[1]",
        ),
        (changed(|r| r.policy_revision = 1 << 53), "request.policy_revision"),
        (steps(vec![step(None, &[]); 9]), "request.routing_steps"),
        (steps(vec![wide(9)]), "request.routing_steps[0].any_of"),
        (steps(vec![step(None, &many(65))]), "request.routing_steps[0].any_of[0].all_of"),
        (steps(vec![step(after(1, 0), &[])]), "request.routing_steps[0].after"),
        (steps(vec![step(None, &[]), step(None, &[])]), "request.routing_steps[1].after"),
        (steps(vec![step(None, &[]), step(after(-1, 0), &[])]), "request.routing_steps[1].after"),
        (steps(vec![step(None, &[]), step(after(1, -1), &[])]), "request.routing_steps[1].after"),
        (steps(vec![step(None, &[]), step(after(1, i32::MAX), &[])]), "request.routing_steps[1].after"),
        (steps(vec![step(None, &[]), step(after(i64::MAX, 0), &[])]), "request.routing_steps[1].after"),
        (
            steps(vec![step(None, &[]), step(after(9, 0), &[("lang:en", 1), ("lang:es", 0), ("x", 1)])]),
            "request.routing_steps[1].any_of[0].all_of[2].name",
        ),
        (steps(vec![step(None, &[("", 1)])]), "request.routing_steps[0].any_of[0].all_of[0].name"),
        (steps(vec![step(None, &[("lang:en", 2)])]), "request.routing_steps[0].any_of[0].all_of[0].level"),
        (steps(vec![step(None, &[("lang:en", u32::MAX)])]), "request.routing_steps[0].any_of[0].all_of[0].level"),
    ]
}

fn bad_key() -> Option<v1::HashedChatKey> {
    Some(v1::HashedChatKey { token_hash: vec![0; 5], ..key("c1").unwrap() })
}

fn visitors() -> Vec<Case> {
    vec![
        (C::Triage(v1::TriageCommand { key: None, urgency: 1, classifier: false }), "triage.key"),
        (C::Triage(v1::TriageCommand { key: key("c1"), urgency: 77, classifier: true }), "triage.urgency"),
        (C::Beat(v1::BeatCommand { key: None }), "beat.key"),
        (C::Beat(v1::BeatCommand { key: key("") }), "beat.key.chat_id"),
        (C::Leave(v1::LeaveCommand { key: bad_key(), fallback_accepted: false }), "leave.key.token_hash"),
        (C::Resume(v1::ResumeCommand { key: key("a b") }), "resume.key.chat_id"),
        (C::Erase(v1::EraseCommand { key: None }), "erase.key"),
    ]
}

fn signing_in(change: impl FnOnce(&mut v1::SignInCommand)) -> C {
    let mut command = v1::SignInCommand {
        responder_id: "ana".to_owned(),
        capacity: 1,
        ready: true,
        ..v1::SignInCommand::default()
    };
    change(&mut command);
    C::SignIn(command)
}

fn extending(time: Option<prost_types::Duration>) -> C {
    C::ExtendCoolDown(v1::ExtendCoolDownCommand { session: session("ana", 1), r#for: time })
}

fn supervised(act: Act) -> C {
    C::Supervise(v1::SuperviseCommand { supervisor_id: "sue".to_owned(), reason: 1, act: Some(act) })
}

fn rerouted(from: Vec<v1::Alternative>, to: Vec<v1::Alternative>, lasts: Option<prost_types::Duration>) -> C {
    supervised(Act::Reroute(v1::RerouteAct { from_any_of: from, to_any_of: to, r#for: lasts }))
}

fn all_of(name: &str) -> v1::Alternative {
    v1::Alternative { all_of: vec![tag(name, 1)] }
}

fn supervisors() -> Vec<Case> {
    let (c, r) = (|| "c1".to_owned(), || "ana".to_owned());
    let pull = || Some(Act::Pull(v1::PullAct { chat_id: "c1".to_owned() }));
    let by = |supervisor: &str, reason, act| {
        C::Supervise(v1::SuperviseCommand { supervisor_id: supervisor.to_owned(), reason, act })
    };
    let urgency = |chat_id, urgency| supervised(Act::SetUrgency(v1::SetUrgencyAct { chat_id, urgency }));
    let assign = |chat_id, responder_id| {
        supervised(Act::Assign(v1::AssignAct { chat_id, responder_id, break_glass: true }))
    };
    let takes = |chat_id, session, reply_handoff| {
        supervised(Act::TakeOver(v1::TakeOverAct { chat_id, session, reply_handoff }))
    };
    let take = |chat_id, session| takes(chat_id, session, Vec::new());
    let end = |chat_id, outcome| supervised(Act::End(v1::EndAct { chat_id, outcome }));
    let rest = |responder_id, lasts| supervised(Act::Rest(v1::RestAct { responder_id, r#for: lasts }));
    let (none, hour) = (String::new, || after(3600, 0));
    vec![
        (by("", 1, pull()), "supervise.supervisor_id"),
        (by("s/", 1, pull()), "supervise.supervisor_id"),
        (by("sue", 0, pull()), "supervise.reason"),
        (by("sue", 7, pull()), "supervise.reason"),
        (by("sue", 1, None), "supervise.act"),
        (urgency(none(), 1), "supervise.set_urgency.chat_id"),
        (urgency(c(), 0), "supervise.set_urgency.urgency"),
        (urgency(c(), 5), "supervise.set_urgency.urgency"),
        (assign(none(), r()), "supervise.assign.chat_id"),
        (assign(c(), none()), "supervise.assign.responder_id"),
        (supervised(Act::Pull(v1::PullAct { chat_id: none() })), "supervise.pull.chat_id"),
        (take(none(), 1), "supervise.take_over.chat_id"),
        (take(c(), 0), "supervise.take_over.session"),
        (takes(c(), 1, vec![1; 8 * 1024 + 1]), "supervise.take_over.reply_handoff"),
        (end(none(), 1), "supervise.end.chat_id"),
        (end(c(), 0), "supervise.end.outcome"),
        (end(c(), 2), "supervise.end.outcome"),
        (end(c(), 4), "supervise.end.outcome"),
        (supervised(Act::EndBreak(v1::EndBreakAct { responder_id: none() })), "supervise.end_break.responder_id"),
        (rest(none(), hour()), "supervise.rest.responder_id"),
        (rest(r(), None), "supervise.rest.for"),
        (rest(r(), after(4 * 3600 + 1, 0)), "supervise.rest.for"),
        (
            supervised(Act::ForceOffline(v1::ForceOfflineAct { responder_id: none() })),
            "supervise.force_offline.responder_id",
        ),
        (rerouted(Vec::new(), vec![all_of("lang:en")], hour()), "supervise.reroute.from_any_of"),
        (rerouted(vec![v1::Alternative::default()], Vec::new(), hour()), "supervise.reroute.from_any_of"),
        (rerouted(vec![all_of("x")], Vec::new(), hour()), "supervise.reroute.from_any_of[0].all_of[0].name"),
        (
            rerouted(vec![all_of("lang:es")], vec![all_of("lang:en"), all_of("x")], hour()),
            "supervise.reroute.to_any_of[1].all_of[0].name",
        ),
        (rerouted(vec![all_of("lang:es")], Vec::new(), after(24 * 3600 + 1, 0)), "supervise.reroute.for"),
    ]
}

fn tag(name: &str, level: u32) -> v1::Tag {
    v1::Tag { name: name.to_owned(), level }
}

fn responders() -> Vec<Case> {
    let s = || session("ana", 1);
    vec![
        (signing_in(|c| c.responder_id = "a/b".to_owned()), "sign_in.responder_id"),
        (signing_in(|c| c.responder_id = "a".repeat(65)), "sign_in.responder_id"),
        (signing_in(|c| c.capacity = 0), "sign_in.capacity"),
        (signing_in(|c| c.capacity = 21), "sign_in.capacity"),
        (signing_in(|c| c.capabilities = vec![tag("lang:en", 1); 65]), "sign_in.capabilities"),
        (signing_in(|c| c.capabilities = vec![tag("x", 1)]), "sign_in.capabilities[0].name"),
        (signing_in(|c| c.capabilities = vec![tag("lang:en", 2)]), "sign_in.capabilities[0].level"),
        (signing_in(|c| c.opt_out_topics = vec!["lang:en".to_owned(); 65]), "sign_in.opt_out_topics"),
        (
            signing_in(|c| c.opt_out_topics = vec!["lang:en".to_owned(), "x".to_owned()]),
            "sign_in.opt_out_topics[1]",
        ),
        (signing_in(|c| c.shift_remaining = after(-1, 0)), "sign_in.shift_remaining"),
        (signing_in(|c| c.shift_remaining = after(24 * 3600, 1_000_000)), "sign_in.shift_remaining"),
        (extending(None), "extend_cool_down.for"),
        (extending(after(0, 0)), "extend_cool_down.for"),
        (extending(after(-1, 0)), "extend_cool_down.for"),
        (extending(after(4 * 3600, 1_000_000)), "extend_cool_down.for"),
        (
            C::ExtendCoolDown(v1::ExtendCoolDownCommand { session: None, r#for: after(1, 0) }),
            "extend_cool_down.session",
        ),
        (C::Heartbeat(v1::HeartbeatCommand { session: None }), "heartbeat.session"),
        (C::Heartbeat(v1::HeartbeatCommand { session: session("", 1) }), "heartbeat.session.responder_id"),
        (C::Heartbeat(v1::HeartbeatCommand { session: session("ana", 0) }), "heartbeat.session.session"),
        (C::Heartbeat(v1::HeartbeatCommand { session: session("ana", 1 << 53) }), "heartbeat.session.session"),
        (C::SetStatus(v1::SetStatusCommand { session: None, status: 2 }), "set_status.session"),
        (C::SetStatus(v1::SetStatusCommand { session: s(), status: 0 }), "set_status.status"),
        (C::SetStatus(v1::SetStatusCommand { session: s(), status: 1 }), "set_status.status"),
        (C::SetStatus(v1::SetStatusCommand { session: s(), status: 5 }), "set_status.status"),
        (C::SetStatus(v1::SetStatusCommand { session: s(), status: 7 }), "set_status.status"),
        (C::Unlink(v1::UnlinkCommand { session: None }), "unlink.session"),
        (C::SignOut(v1::SignOutCommand { session: None }), "sign_out.session"),
        (
            C::FinishWrapUp(v1::FinishWrapUpCommand { session: s(), chat_id: String::new() }),
            "finish_wrap_up.chat_id",
        ),
        (
            C::FinishWrapUp(v1::FinishWrapUpCommand { session: None, chat_id: String::new() }),
            "finish_wrap_up.session",
        ),
    ]
}

fn offers() -> Vec<Case> {
    let offer = |number, chat: &str| {
        Some(v1::OfferKey { session: session("ana", 1), chat_id: chat.to_owned(), offer_number: number })
    };
    let accept = |offer, size| C::Accept(v1::AcceptCommand { offer, reply_handoff: vec![0; size] });
    let decline = |offer, reason| C::Decline(v1::DeclineCommand { offer, reason });
    vec![
        (accept(None, 0), "accept.offer"),
        (accept(offer(0, "c1"), 0), "accept.offer.offer_number"),
        (accept(offer(1, "c1"), 8 * 1024 + 1), "accept.reply_handoff"),
        (decline(None, 0), "decline.offer"),
        (decline(offer(1, ""), 0), "decline.offer.chat_id"),
        (decline(offer(1, "c1"), 4), "decline.reason"),
    ]
}

fn assignments() -> Vec<Case> {
    let hold = |epoch: Option<u64>, chat: &str| {
        let fence = epoch.map(|epoch| v1::Fence { epoch, minted_by: 0 });
        Some(v1::AssignmentKey { session: session("ana", 1), chat_id: chat.to_owned(), fence })
    };
    vec![
        (C::Engage(v1::EngageCommand { assignment: None }), "engage.assignment"),
        (C::Engage(v1::EngageCommand { assignment: hold(None, "c1") }), "engage.assignment.fence"),
        (C::Close(v1::CloseCommand { assignment: hold(Some(0), "c1") }), "close.assignment.fence.epoch"),
        (C::Close(v1::CloseCommand { assignment: hold(Some(u64::MAX), "c1") }), "close.assignment.fence.epoch"),
        (C::Transfer(v1::TransferCommand { assignment: hold(Some(1), "") }), "transfer.assignment.chat_id"),
        (C::CallSupervisor(v1::CallSupervisorCommand { assignment: None }), "call_supervisor.assignment"),
    ]
}

fn field_of(status: &Status) -> String {
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations[0].field.clone()
}

#[tokio::test]
async fn every_field_of_every_command_is_checked_and_named() {
    let bench = Bench::start().await;
    let cases = [requests(), visitors(), responders(), offers(), assignments(), supervisors()];
    for (command, field) in cases.into_iter().flatten() {
        let said = format!("{command:?}");
        let said: String = said.chars().take(200).collect();
        let status = bench.execute(command).await.expect_err(&said);
        assert_eq!((status.code(), field_of(&status).as_str()), (Code::InvalidArgument, field), "{said}");
    }
}

#[tokio::test]
async fn a_command_that_is_missing_or_of_no_helpline_is_named() {
    let bench = Bench::start().await;
    let beat = Some(C::Beat(v1::BeatCommand { key: key("c1") }));
    for (command, field) in [
        (None, "command"),
        (Some(v1::Command { helpline: "demo".to_owned(), command: None }), "command"),
        (Some(v1::Command { helpline: "Demo".to_owned(), command: beat.clone() }), "helpline"),
        (Some(v1::Command { helpline: String::new(), command: beat }), "helpline"),
    ] {
        let status = bench.client().execute(v1::ExecuteRequest { command }).await.unwrap_err();
        assert_eq!(field_of(&status), field);
    }
}

#[tokio::test]
async fn the_fields_of_questions_are_checked_too() {
    let bench = Bench::start().await;
    let mut client = bench.client();
    let demo = || "demo".to_owned();
    let chat =
        client.get_chat(v1::GetChatRequest { helpline: demo(), key: None, ticket_version: 0 }).await.unwrap_err();
    let place = v1::GetPlaceRequest { helpline: demo(), chat_id: "a:b".to_owned() };
    let place = client.get_place(place).await.unwrap_err();
    let floor = client.get_floor(v1::GetFloorRequest { helpline: demo(), limit: 1001 }).await.unwrap_err();
    let responder = v1::GetResponderRequest { helpline: demo(), responder_id: String::new() };
    let responder = client.get_responder(responder).await.unwrap_err();
    let events = v1::WatchEventsRequest { helpline: demo(), from_cursor: "yesterday".to_owned() };
    let events = client.watch_events(events).await.unwrap_err();

    let explain = v1::ExplainRoutingRequest { helpline: demo(), chat_id: "a:b".to_owned() };
    let explain = client.explain_routing(explain).await.unwrap_err();

    let fields = [&chat, &place, &floor, &responder, &events, &explain].map(field_of);
    assert_eq!(fields, ["key", "chat_id", "limit", "responder_id", "from_cursor", "chat_id"]);
}

#[tokio::test]
async fn well_formed_limits_are_accepted() {
    let bench = Bench::start().await;
    let ladder = (0..7).map(|n| step(after(n, 0), &[("skill:minors", 3)])).collect();
    let mut request = chat_request(&"c".repeat(40));
    request.routing_steps = ladder;
    request.handoff = vec![0; 8 * 1024];
    bench.execute(C::Request(request)).await.unwrap();
    bench.execute(signing_in(|c| c.capacity = 20)).await.unwrap();
}
